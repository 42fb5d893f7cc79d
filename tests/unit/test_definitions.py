"""What will the next start make of a definition, and which guests can KVM run?"""

from __future__ import annotations

import pytest

from balloond.host.definitions import definition_of, kvm_in
from balloond.model import Obstacle
from balloond.units import GIB

CAPABILITIES = """
<capabilities><host><cpu><arch>x86_64</arch></cpu></host>
  <guest><arch name='aarch64'><domain type='qemu'/></arch></guest>
  <guest><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest>
</capabilities>"""


def test_a_definition_is_the_guest_that_the_next_start_makes() -> None:
    xml = """
      <domain type='qemu'><memory unit='GiB'>4</memory><currentMemory unit='GiB'>2</currentMemory>
        <os><type arch='aarch64'>hvm</type></os>
        <devices><memballoon model='virtio' autodeflate='on'><stats period='5'/></memballoon></devices></domain>"""
    made = definition_of("uuid-a", "a", xml, stored=True)
    assert (made.stored, made.architecture) == (True, "aarch64")
    guest = made.guest
    assert (guest.uuid, guest.name, guest.maximum, guest.actual) == ("uuid-a", "a", 4 * GIB, 2 * GIB)
    assert (guest.deflates_on_oom, guest.reports_free_pages, guest.statistics_period_s) == (True, False, 5)
    assert (guest.obstacle, guest.translations) == (None, GIB)


@pytest.mark.parametrize("xml", ["", "<domain/>", "<network/>"])
def test_a_definition_without_sense_is_a_guest_that_can_not_be_read(xml: str) -> None:
    made = definition_of("uuid-a", "a", xml, stored=False)
    assert (made.guest.obstacle, made.guest.defined, made.stored) == (Obstacle.UNREADABLE, False, False)


def test_architectures_that_kvm_runs_are_those_of_which_libvirt_says_so() -> None:
    assert kvm_in(CAPABILITIES) == ("x86_64",)
    assert kvm_in("") == kvm_in("<capabilities/>") == ()
