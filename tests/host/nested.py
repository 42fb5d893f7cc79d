"""Which guests run on the test host? Two of the lab's small ones, where an operator's would run: in machine.slice.

Their names are odd on purpose. They are started once for all checks, and ended with whatever else they made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import libvirt
import pytest

from balloond.host.cgroup import Place, place_in
from balloond.host.qemu_pids import find_pid
from balloond.lab import image, leavings
from balloond.lab.domain import Machine, describe
from balloond.lab.faults import LabError
from balloond.lab.guest import Guest
from balloond.lab.libvirtd import Libvirtd
from balloond.units import MIB

SIZE: Final = 256 * MIB
KVM_BOOT_S: Final = 300.0  # on an emulated SVM both boot in one to three minutes; on a real one in seconds
TCG_BOOT_S: Final = 500.0  # emulated inside an emulated host, in four minutes
CGROUPS: Final = Path("/sys/fs/cgroup")


def names(run: str) -> tuple[str, str, str]:
    """Odd, but the run's: blanks, quotes, what systemd escapes, beyond ASCII, longer than a scope's name; and one
    for a guest that comes later."""
    prefix = leavings.guest_prefix(run)
    return f"{prefix}db \\x2d 'one'.scope", f"{prefix}{'ä-very.long:name_' * 4}2", f"{prefix}3"


class Nested:
    """The guests, both up and answering."""

    def __init__(self, guests: tuple[Guest, ...], libvirtd: Libvirtd, home: Path, *, kvm: bool) -> None:
        self.guests = guests
        self._libvirtd, self._home, self._kvm = libvirtd, home, kvm

    @contextlib.contextmanager
    def another(self, machine: Machine) -> Iterator[Guest]:
        """One more guest, up and answering, for as long as it is needed."""
        guest = _start(self._libvirtd, self._home, machine, names(self._home.name)[2], kvm=self._kvm)
        try:
            guest.wait(KVM_BOOT_S if self._kvm else TCG_BOOT_S)
            yield guest
        finally:
            guest.disown()
            guest.domain.destroy()

    def place(self, guest: Guest) -> Place:
        """Where it is found as the daemon finds it: libvirt's pid file, then /proc/PID/cgroup."""
        pid = find_pid(guest.uuid, guest.name)
        assert pid == guest.pid, f"libvirt's pid file of {guest.name!r} leads to {pid}, not to {guest.pid}"
        place = place_in(Path(f"/proc/{pid}/cgroup").read_text())
        assert place is not None, f"{guest.name!r} is in no cgroup that can be seen"
        return place

    def scope(self, guest: Guest) -> Path:
        """The directory of its own cgroup."""
        own = self.place(guest).own
        assert own is not None, f"{guest.name!r} shares its cgroup"
        return CGROUPS / own.strip("/")


@pytest.fixture(scope="session")
def nested() -> Iterator[Nested]:
    home = leavings.begin()
    libvirtd = Libvirtd()
    nested = None
    try:
        nested = _running(libvirtd, home)
        yield nested
    finally:
        for guest in nested.guests if nested else ():
            guest.disown()
        _end(libvirtd, home)
        libvirtd.close()
        leavings.clear(home)


def _running(libvirtd: Libvirtd, home: Path) -> Nested:
    """Both guests, under KVM where it boots them, else emulated: an openable /dev/kvm is no proof."""
    if os.access("/dev/kvm", os.W_OK):
        try:
            return _boot(libvirtd, home, kvm=True, limit_s=KVM_BOOT_S)
        except LabError as error:
            print(f"no guests under KVM: {error}")
            _end(libvirtd, home)
    return _boot(libvirtd, home, kvm=False, limit_s=TCG_BOOT_S)


def _boot(libvirtd: Libvirtd, home: Path, *, kvm: bool, limit_s: float) -> Nested:
    print(f"nested guests run under {'KVM' if kvm else 'TCG'}")
    machine = Machine(memory=SIZE)
    guests = tuple(_start(libvirtd, home, machine, name, kvm=kvm) for name in names(home.name)[:2])
    try:
        for guest in guests:
            guest.wait(limit_s)
    except LabError:
        for guest in guests:
            guest.disown()
        raise
    return Nested(guests, libvirtd, home, kvm=kvm)


def _start(libvirtd: Libvirtd, home: Path, machine: Machine, name: str, *, kvm: bool) -> Guest:
    serial = home / f"{names(home.name).index(name)}.console"
    xml = describe(
        machine, name=name, partition="/machine", image=image.build(), kvm=kvm, serial=serial, swap=None
    )
    return Guest(libvirtd=libvirtd, machine=machine, name=name, xml=xml, serial=serial)


def _end(libvirtd: Libvirtd, home: Path) -> None:
    """By name, so that one that was not fully started is ended as well."""
    for name in names(home.name):
        with contextlib.suppress(libvirt.libvirtError):
            libvirtd.connection.lookupByName(name).destroy()
