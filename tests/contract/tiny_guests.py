"""Real domains for contract tests: QEMU under TCG without anything to boot, so they are there at once.

Such a guest has a balloon device without a driver, a monitor and a process: all that libvirt knows of a guest.
Whatever was made is destroyed, and whatever was stopped goes on, when the test ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from balloond.host.guests import Guests
from balloond.lab.faults import LabError
from balloond.lab.libvirtd import Libvirtd
from balloond.log import Level, Log
from balloond.model import Guest, Reason, SetTarget
from balloond.units import MIB

URI = "qemu:///system"
PREFIX = f"balloond-contract-{os.getpid()}-"
MEMORY = 64 * MIB


def virsh(*words: str) -> str:
    done = subprocess.run(["virsh", "-q", "-c", URI, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def need_libvirt() -> None:
    """Skips where no libvirt can be had; starts it where none answers, for as long as the tests run."""
    if os.geteuid() != 0:
        pytest.skip("a real libvirt needs root")
    try:
        _libvirtd()
    except (LabError, FileNotFoundError) as error:
        pytest.skip(f"no libvirt: {error}")


@functools.cache
def _libvirtd() -> Libvirtd:
    """The lab's, so that the end-to-end tests know whether it is the machine's own or ours."""
    libvirtd = Libvirtd()
    atexit.register(libvirtd.close)
    return libvirtd


@dataclass(frozen=True, slots=True)
class Tiny:
    """One domain."""

    name: str
    uuid: str

    @property
    def pid(self) -> int:
        return int(Path(f"/run/libvirt/qemu/{self.name}.pid").read_text())

    def freeze(self) -> None:
        """Stops its QEMU process: the monitor does not answer any more."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@dataclass
class Stable:
    """The domains of one test."""

    made: list[Tiny] = field(default_factory=list)

    def start(
        self,
        balloon: str = "<memballoon model='virtio'/>",
        *,
        devices: str = "",
        head: str = "",
        known: Tiny | None = None,
        memory: int = MEMORY,
        name: str = "",
        order: str = "create",
    ) -> Tiny:
        """`order`: virsh's; `define` stores the domain, and it is not started."""
        tiny = known or Tiny(name=f"{PREFIX}{len(self.made)}{name}", uuid=str(uuid.uuid4()))
        if known is None:
            self.made.append(tiny)
        xml = f"""
          <domain type='qemu'><name>{tiny.name}</name><uuid>{tiny.uuid}</uuid>{head}
            <memory unit='b'>{memory}</memory><vcpu>1</vcpu>
            <os><type arch='x86_64' machine='pc'>hvm</type></os>
            <features><acpi/><tcg><tb-cache unit='MiB'>8</tb-cache></tcg></features>
            <devices><controller type='usb' model='none'/>{devices}{balloon}</devices></domain>"""
        subprocess.run(
            ["virsh", "-q", "-c", URI, order, "/dev/stdin"],
            input=xml,
            text=True,
            check=True,
            capture_output=True,
        )
        return tiny

    def clear(self) -> None:
        """All at once: libvirt takes more than a second for each."""
        ending = []
        for tiny in self.made:
            with contextlib.suppress(OSError, ValueError):
                tiny.thaw()
            order = f"virsh -c {URI} destroy {tiny.uuid}; virsh -c {URI} undefine {tiny.uuid}"
            ending.append(
                subprocess.Popen(["sh", "-c", order], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        for destroy in ending:
            destroy.wait()


@dataclass
class Watch:
    """The edge under test, its log, and only the guests that the test made: others may live on this host."""

    guests: Guests
    stable: Stable
    log: Path

    def see(self, deadline_s: float = 2.0, *, active: bool = False) -> dict[str, Guest]:
        seen, faults = self.guests.observe(deadline_s, active=active, managed=self._is_ours)
        assert seen is not None, faults
        assert list(seen) == sorted(seen, key=lambda guest: guest.uuid)
        return {guest.uuid: guest for guest in seen if self._is_ours(guest.uuid)}

    def until(self, seen: Callable[[dict[str, Guest]], bool], limit_s: float = 15.0) -> dict[str, Guest]:
        """Looks until it is so, and fails when it never is."""
        deadline = time.monotonic() + limit_s
        while not seen(guests := self.see()):
            assert time.monotonic() < deadline, guests
            time.sleep(0.1)
        return guests

    @property
    def told(self) -> str:
        return self.log.read_text()

    def _is_ours(self, uuid: str, _name: str = "", _title: str = "") -> bool:
        return any(tiny.uuid == uuid for tiny in self.stable.made)


def watching(stable: Stable, state: Path, uri: str = URI) -> Iterator[Watch]:
    """An edge that logs to a file, closed afterwards."""
    log = state / "log"
    with io.FileIO(log, "a") as file:
        guests = Guests(
            uri=uri,
            period_s=2.0,
            state_directory=state,
            log=Log(threshold=Level.DEBUG, descriptor=file.fileno()),
        )
        try:
            yield Watch(guests=guests, stable=stable, log=log)
        finally:
            guests.close()


def setting(tiny: Tiny, target: int) -> SetTarget:
    return SetTarget(
        uuid=tiny.uuid,
        name=tiny.name,
        actual=MEMORY,
        target=target,
        reason=Reason.DONATE,
        words="for the test",
    )
