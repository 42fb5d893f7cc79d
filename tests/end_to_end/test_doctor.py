"""Do the doctor's commands mend what they say? Run on definitions that a real libvirt keeps."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from balloond.diagnosis.finding import Finding
from balloond.diagnosis.guests import examine_guests
from balloond.diagnosis.traits import Traits
from balloond.host.domain_xml import read_facts
from balloond.lab import leavings
from balloond.lab.arena import Lab
from balloond.lab.libvirtd import URI
from balloond.model import Guest
from balloond.publish.findings import report

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def defined(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A stored definition whose balloon reads as given; it is never started."""
    name = f'{leavings.guest_prefix(secrets.token_hex(3))}it\'s "quoted"'
    domain = lab.libvirtd.connection.defineXML(
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>"
        f"<devices>{request.param}</devices></domain>"
    )
    yield domain
    domain.undefine()


def findings(domain: Any) -> Iterable[Finding]:
    facts = read_facts(domain.XMLDesc())
    guest = Guest(
        uuid=domain.UUIDString(), name=domain.name(), maximum=facts.maximum, actual=facts.current,
        obstacle=facts.obstacle, deflates_on_oom=facts.deflates_on_oom,
        reports_free_pages=facts.reports_free_pages,
    )  # fmt: skip
    return examine_guests([guest], Traits(), interval_s=2.0, active=True)


@pytest.mark.parametrize(
    "defined",
    [
        "<memballoon model='none'/>",
        "<memballoon model='virtio'/>",
        "<memballoon model='virtio' autodeflate='off' freePageReporting='off'><stats period='5'/></memballoon>",
    ],
    indirect=True,
)
def test_what_it_says_of_a_balloon_is_mended_by_the_commands_that_it_names(defined: Any) -> None:
    told = report(list(findings(defined)))["findings"]
    assert told
    for finding in told:
        subprocess.run(
            ["sh", "-c", finding["command"]],  # as an operator pastes it
            check=True,
            env={**os.environ, "LIBVIRT_DEFAULT_URI": URI},
            stdin=subprocess.DEVNULL,
            timeout=30,
        )
    assert report(list(findings(defined)))["findings"] == []
    facts = read_facts(defined.XMLDesc())
    assert (facts.obstacle, facts.deflates_on_oom, facts.reports_free_pages) == (None, True, True)
