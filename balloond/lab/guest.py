"""How is one real guest handled? Started, given work, asked, moved and ended, by name.

What a guest reports is what its own kernel sees. This module must never touch a guest that it did not start.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import libvirt

from balloond.host.qemu_pids import find_pid
from balloond.lab import leavings
from balloond.lab.channel import Channel, Report
from balloond.lab.domain import Machine
from balloond.lab.faults import LabError
from balloond.lab.libvirtd import Libvirtd
from balloond.units import KIB, MIB

BOOT_S: Final = 120.0  # one boots in about 5 s under TCG; six at once on two busy cores, in 40
ANSWER_S: Final = 20.0  # a guest whose QEMU waits for the host's swap may be mute for seconds


class Guest:
    """One lab guest."""

    def __init__(self, *, libvirtd: Libvirtd, machine: Machine, name: str, xml: str, serial: Path) -> None:
        """Starts it; `wait` returns when it is up. Raises LabError with libvirt's reason."""
        self.machine = machine
        self.name = name
        self._libvirtd = libvirtd
        self._serial = serial
        self._ended = False
        try:
            domain = libvirtd.connection.createXML(xml)
            self.uuid: str = domain.UUIDString()
            pid = find_pid(self.uuid, name)
            if pid is None:
                raise LabError(f"libvirt started {name}, and its process can't be found")
            self.pid = pid  # QEMU's
            self._process = leavings.identity(pid)
            self._channel = Channel(_channel_path(domain.XMLDesc()))
        except (libvirt.libvirtError, OSError) as error:
            raise LabError(f"libvirt does not start {name}: {error}") from error

    @property
    def domain(self) -> Any:
        """libvirt's handle, good also after a restart of libvirtd."""
        return self._libvirtd.connection.lookupByName(self.name)

    @property
    def running(self) -> bool:
        """Whether its QEMU lives."""
        return leavings.lives(self._process)

    @property
    def lost(self) -> bool:
        """Whether its QEMU ended without our doing: the host's OOM killer's, or crashed."""
        return not self.running and not self._ended

    @property
    def rss(self) -> int:
        """QEMU's resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * KIB

    @property
    def waited_for_cpu_s(self) -> float:
        """How long its QEMU's threads were ready to run and had no processor; see proc(5), schedstat."""
        delays = (path.read_text().split()[1] for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"))
        try:
            return sum(map(int, delays)) / 1e9
        except OSError:  # it has just ended, or this kernel keeps no such statistics
            return 0.0

    @property
    def actual(self) -> int:
        """The balloon's size, as QEMU says."""
        return int(self.domain.memoryStats()["actual"]) * KIB

    @property
    def console(self) -> str:
        """What the guest wrote to its console so far."""
        return self._serial.read_text(errors="replace") if self._serial.exists() else ""

    def wait(self, limit_s: float = BOOT_S) -> Report:
        """Returns when the workload answers. Raises LabError with the console's end when it never does."""
        try:
            return self._channel.ask("report", limit_s)
        except LabError as error:
            raise LabError(f"{self.name}: {error}; its console ends: {self.console[-400:]!r}") from error

    def command(self, order: str, limit_s: float = ANSWER_S) -> Report:
        """Gives the workload an order (see workload.c) and returns what it reports."""
        return self._channel.ask(order, limit_s)

    def report(self) -> Report:
        return self.command("report")

    def hold(self, size: int, rate: int = 0, content: str = "anon") -> Report:
        """Has it grow or shrink to `size` bytes of anonymous memory, by `rate` bytes a second (0: at once)."""
        return self.command(f"{content} {size // MIB} {rate // MIB}")

    def read_disk(self, size: int, rate: int) -> Report:
        """Has it read the first `size` bytes of its disk round and round through its page cache."""
        return self.command(f"cache {size // MIB} {rate // MIB}")

    def release(self) -> Report:
        """Has it give back all anonymous memory and stop reading."""
        return self.command("free")

    def set_target(self, target: int) -> None:
        """Asks the balloon for a size, behind any daemon's back."""
        self.domain.setMemoryFlags(target // KIB, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def disown(self) -> None:
        """Expects its end from now on, whoever brings it about."""
        self._ended = True
        self._channel.close()

    def destroy(self) -> None:
        """Ends it at once; a guest that is gone already is fine."""
        self.disown()
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.destroy()


def _channel_path(xml: str) -> Path:
    source = ElementTree.fromstring(xml).find("./devices/channel/source")  # noqa: S314  (libvirt's own words)
    path = source.get("path") if source is not None else None
    if path is None:
        raise LabError("libvirt gave the guest no channel")
    return Path(path)
