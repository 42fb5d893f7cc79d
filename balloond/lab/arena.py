"""Where do guests compete? One run of the lab: a pool of limited memory, its guests, and perhaps a daemon.

Whatever an arena makes bears its run's name and goes away with it: at `close`, or by its reaper when this
process is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Self

from balloond.lab import accelerator, image, leavings
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine, describe
from balloond.lab.faults import LabError
from balloond.lab.guest import Guest
from balloond.lab.libvirtd import Libvirtd
from balloond.lab.pool import Pool
from balloond.units import MIB


class Lab:
    """What all arenas share: the guests' image, libvirt, and how guests are run here."""

    def __init__(self) -> None:
        """Builds, starts and probes what is not there yet, and clears what dead runs left."""
        if os.geteuid() != 0:
            raise LabError("the lab makes cgroups and swap files; run it as root")
        leavings.sweep()
        self.image = image.build()
        self.libvirtd = Libvirtd()
        self.accelerator = accelerator.choose(self.image)
        self._arenas: list[Arena] = []

    def arena(self, *, pool: int, swap: int = 0) -> Arena:
        """A new pool of that many bytes, with as much host swap beside it as is asked for."""
        self._arenas.append(Arena(self, pool=pool, swap=swap))
        return self._arenas[-1]

    def close_arenas(self) -> None:
        while self._arenas:
            self._arenas.pop().close()

    def close(self) -> None:
        self.close_arenas()
        self.libvirtd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Arena:
    """One run: guests that share a pool of memory."""

    def __init__(self, lab: Lab, *, pool: int, swap: int = 0) -> None:
        self.lab = lab
        self.guests: list[Guest] = []
        self.home = leavings.begin()
        self._started = 0
        self._daemons: list[Daemon] = []
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "balloond.lab.reaper", str(self.home)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; the reaper outlives it
        )
        self.pool = Pool(run=self.home.name, limit=pool)
        try:
            self.pool.create()
            if swap:
                self._add_swap(swap)
        except LabError:
            self.close()
            raise

    @property
    def run(self) -> str:
        return self.home.name

    def boot(self, machine: Machine | None = None, **options: Any) -> Guest:
        """One guest, up and answering; `options` are Machine's fields."""
        return self.boot_all([machine or Machine(**options)])[0]

    def boot_all(self, machines: Sequence[Machine]) -> list[Guest]:
        """Several guests, booted side by side; all are up and answering."""
        started = [self.start(machine) for machine in machines]
        for guest in started:
            guest.wait()
        return started

    def start(self, machine: Machine) -> Guest:
        """One guest, started only: it has still to boot."""
        self._started += 1
        name = f"{leavings.guest_prefix(self.run)}{self._started}"
        serial = self.home / f"{name}.console"
        swap = self.home / f"{name}.disk" if machine.swap else None
        if swap:
            with swap.open("wb") as disk:
                disk.truncate(machine.swap)
        xml = describe(
            machine,
            name=name,
            partition=self.pool.partition,
            image=self.lab.image,
            kvm=self.lab.accelerator == accelerator.KVM,
            serial=serial,
            swap=swap,
        )
        guest = Guest(libvirtd=self.lab.libvirtd, machine=machine, name=name, xml=xml, serial=serial)
        self.guests.append(guest)
        return guest

    def daemon(self, *, psi: bool = True, record: bool = False, **options: Any) -> Daemon:
        """The real balloond over this arena's guests, ready; `options` are its configuration's keys.
        `psi` False: it runs as on a kernel that keeps no pressure; `record`: it writes down its ticks."""
        daemon = Daemon(self.home, options, psi=psi, record=record)
        self._daemons.append(daemon)
        return daemon

    def lost(self) -> list[Guest]:
        """Guests that ended without our doing."""
        return [guest for guest in self.guests if guest.lost]

    def close(self) -> None:
        """Ends and removes all that this arena made; doing it again does nothing."""
        try:
            for daemon in self._daemons:
                if daemon.running:
                    daemon.stop()
        finally:
            for guest in self.guests:
                guest.disown()
            leavings.clear(self.home)
            assert self._reaper.stdin is not None  # noqa: S101  (it was made with a pipe)
            self._reaper.stdin.close()
            self._reaper.wait()

    def _add_swap(self, size: int) -> None:
        path = self.home / "host.swap"
        for command in (
            ["fallocate", "-l", str(size), str(path)],
            ["chmod", "600", str(path)],
            ["mkswap", str(path)],
            ["swapon", str(path)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise LabError(
                    f"no host swap of {size // MIB} MiB: {' '.join(command)}: {done.stderr.strip()}"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
