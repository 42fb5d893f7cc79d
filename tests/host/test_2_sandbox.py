"""Does the sandbox let the service do its work, and nothing else?

What may be done is tried out by a process in the very same sandbox. What is refused there must work outside of it:
else it was not the sandbox that refused it. What it may do to guests is for test_3_guests, which has some.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.host import sandbox, sandbox_probe, service

EXPOSURE_MOST: Final = 2.0  # of systemd-analyze's 0 to 10
MAY: Final = {
    "write KSM's settings": "ReadWritePaths=-/sys/kernel/mm/ksm, and CAP_DAC_OVERRIDE",
    "unmerge by a process that ends with it": "SystemCallFilter= with all that Python, threads and pipes call",
    "watch the slice's pressure": "ReadWritePaths=-/sys/fs/cgroup/machine.slice, and CAP_SYS_RESOURCE",
    "watch the host's pressure": "ReadWritePaths=-/proc/pressure, and CAP_SYS_RESOURCE",
    "reach libvirt": "AF_UNIX in RestrictAddressFamilies=, and the group libvirt",
    "read a QEMU's status": "neither ProtectProc= nor ProcSubset=",
    "write its runtime directory": "RuntimeDirectory=",
}
"""What it must be able to do, and what in the unit lets it."""
NOT_EVERYWHERE: Final = {"open KVM", "open a disk"}
"""A host may have no /dev/kvm, and other disks than virtio's; the test host has both."""
WRITABLE: Final = {
    "/proc/pressure",  # triggers; without one no write changes anything
    "/sys/kernel/mm/ksm",
    "/sys/fs/cgroup/machine.slice",
    "/run/balloond-probe",  # the runtime directory
    "/tmp",  # its own, by PrivateTmp=, as the next
    "/var/tmp",
    "/dev/pts",  # terminals, and no file
}


@pytest.fixture(scope="module")
def secrets() -> Iterator[None]:
    """Each secret place has something in it: else an empty one, or none, would seem to be hidden."""
    with contextlib.ExitStack() as filled:
        for name in sandbox_probe.HIDDEN.values():
            filled.enter_context(with_something_in_it(Path(name)))
        yield


@contextlib.contextmanager
def with_something_in_it(place: Path) -> Iterator[None]:
    """What this host lacks is gone again afterwards."""
    secret = place if place.name.strip("g-") == "shadow" else place / "stand-in"
    if place.exists() and (place == secret or any(place.iterdir())):
        yield
        return
    missing = [folder for folder in secret.parents if not folder.exists()]
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text("a secret")
    try:
        yield
    finally:
        secret.unlink()
        for folder in missing:
            folder.rmdir()


@pytest.fixture(scope="module")
def tried(secrets: None) -> sandbox.Tried:
    return sandbox.within()


def test_its_exposure_is_two_or_better() -> None:
    said = service.run("systemd-analyze", "security", "--no-pager", service.NAME)
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", said)
    assert found is not None, said
    print(found[0])
    assert float(found[1]) <= EXPOSURE_MOST, said


def test_it_runs_as_a_user_of_its_own() -> None:
    assert service.active(), service.story()
    user = service.run("id", "--user", "balloond").strip()
    lines = Path(f"/proc/{service.main_pid()}/status").read_text().splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("Uid:")] == [[user] * 4]
    assert user != "0"


@pytest.mark.parametrize("what", MAY)
def test_it_may(what: str, tried: sandbox.Tried) -> None:
    tried.may(what, MAY[what])


def test_it_may_do_nothing_else_that_was_tried(tried: sandbox.Tried) -> None:
    open_doors = [what for what, refused in tried.refused.items() if what not in MAY and refused is None]
    assert not open_doors, f"the sandbox lets it {', '.join(open_doors)}"


def test_whatever_the_sandbox_refuses_works_outside_of_it(tried: sandbox.Tried) -> None:
    outside = sandbox.without().refused
    assert outside.keys() == tried.refused.keys()
    vain = {what: why for what, why in outside.items() if why is not None}
    absent = {
        what for what in NOT_EVERYWHERE & vain.keys() if str(vain[what]).startswith("FileNotFoundError")
    }
    for what in sorted(absent):
        print(f"not tried, this host has none: {what}")
    assert not vain.keys() - absent, f"refused without a sandbox as well: {vain}"


def test_of_the_kernel_and_the_file_system_it_can_write_nothing_else(tried: sandbox.Tried) -> None:
    assert tried.writable == WRITABLE, f"open beyond that: {tried.writable - WRITABLE}"
