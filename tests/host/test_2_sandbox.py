"""Does the sandbox let the service do its work, and nothing else?

What may be done is tried out by a process in the very same sandbox: the unit's own text, with another program.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from tests.host import sandbox_probe, service
from tests.host.nested import Nested

pytestmark = pytest.mark.usefixtures("configured")

EXPOSURE_MOST: Final = 2.0  # of systemd-analyze's 0 to 10
PROBE: Final = "balloond-probe.service"
UNITS: Final = Path("/run/systemd/system")
OUTPUT: Final = Path("/run/balloond-probe.json")
OTHERWISE: Final = """
[Service]
Type=oneshot
ExecStart=
ExecStart={command}
ExecReload=
Restart=no
WatchdogSec=0
RuntimeDirectory=
RuntimeDirectory=balloond-probe
RuntimeDirectoryPreserve=no
StandardOutput=truncate:{output}
"""
MAY: Final = (
    "write KSM's settings",
    "reclaim from a guest",
    "set a guest's memory.high",
    "watch the slice's pressure",
    "watch the host's pressure",
    "reach libvirt",
    "read a QEMU's status",
    "write its runtime directory",
)


@pytest.fixture(scope="module")
def tried(nested: Nested) -> dict[str, str | None]:
    """What came of each attempt in the sandbox; None: it worked."""
    scope = nested.scope(nested.guests[0])
    command = (
        f"/opt/balloond/bin/python {Path(sandbox_probe.__file__)} {json.dumps(str(scope)).replace('%', '%%')}"
    )
    drop_in = UNITS / f"{PROBE}.d/otherwise.conf"
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    unit = service.systemctl("cat", service.NAME)
    (UNITS / PROBE).write_text(unit)
    drop_in.write_text(OTHERWISE.format(command=command, output=OUTPUT))
    try:
        service.systemctl("daemon-reload")
        service.systemctl("start", PROBE)
        came_of_it: dict[str, str | None] = json.loads(OUTPUT.read_text())
    finally:
        for file in (drop_in, UNITS / PROBE, OUTPUT):
            file.unlink(missing_ok=True)
        drop_in.parent.rmdir()
        service.systemctl("daemon-reload")
    return came_of_it


def test_its_exposure_is_two_or_better() -> None:
    said = service.run("systemd-analyze", "security", "--no-pager", service.NAME)
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", said)
    assert found is not None, said
    print(found[0])
    assert float(found[1]) <= EXPOSURE_MOST, said


def test_it_runs_as_a_user_of_its_own() -> None:
    user = service.run("id", "--user", "balloond").strip()
    lines = Path(f"/proc/{service.main_pid()}/status").read_text().splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("Uid:")] == [[user] * 4]


@pytest.mark.parametrize("what", MAY)
def test_it_may(what: str, tried: dict[str, str | None]) -> None:
    assert tried[what] is None, f"the sandbox is too tight to {what}: {tried[what]}"


def test_it_may_do_nothing_else_that_was_tried(tried: dict[str, str | None]) -> None:
    assert len(tried) > len(MAY)
    open_doors = [what for what, refused in tried.items() if what not in MAY and refused is None]
    assert not open_doors, f"the sandbox lets it {', '.join(open_doors)}"
