"""What does the simulated host see, and what happens to it?

Guests' resident memory, merging, swap and the host's own use share one pool of memory. What does not fit goes to
the host's swap at a bounded speed; where that is full or too slow for long, somebody is killed. Stalls show as
pressure. The clock is simulated; the world satisfies `loop.World`, so the real loop and the real core run on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from balloond.model import (
    Fault,
    FaultKind,
    Guest,
    Host,
    Ksm,
    Outcome,
    Pressure,
    Result,
    SetTarget,
    Snapshot,
)
from balloond.sim.guest import SimGuest
from balloond.units import GIB

EPOCH_S: Final = 1_750_000_000.0
"""The wall clock at the simulation's start; any recent second would do."""


@dataclass(slots=True, kw_only=True)
class Merging:
    """KSM: pages of equal content among the guests, as a share of each guest's resident memory."""

    share: float = 0.0  # of resident memory that has equals elsewhere
    speed: float = 0.0  # bytes merged a second
    saved: float = 0.0


@dataclass(slots=True, kw_only=True)
class SimHost:
    """The host's side of the simulated world; all sizes in bytes."""

    total: int
    own: Callable[[float], float] = lambda _: 0.0
    swap: float = 0.0
    swap_speed: float = 0.5 * GIB
    merging: Merging = field(default_factory=Merging)
    swapped: float = 0.0
    swap_out: float = 0.0
    stalled: float = 0.0  # share of the last step in which somebody waited for memory
    pressure: float = 0.0  # PSI some avg10
    pressure_us: float = 0.0
    oom_kills: int = 0
    killed: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class SimWorld:
    """A host, its guests and their time. Hooks for faults are plain fields, set by `sim.faults`."""

    host: SimHost
    guests: list[SimGuest]
    now_s: float = 0.0
    wall_shift_s: float = 0.0  # how far the wall clock has jumped
    libvirt_gone: bool = False
    host_unreadable: bool = False
    applies_left: int | None = None  # the daemon is killed after so many more actions

    def advance(self, elapsed_s: float) -> None:
        """Everybody lives for so long; then those whose period has passed speak."""
        self.now_s += elapsed_s
        for guest in self.guests:
            guest.step(self.now_s, elapsed_s)
        self._settle_host(elapsed_s)
        wall_s = self.wall_s
        for guest in self.guests:
            guest.speak(self.now_s, wall_s)

    @property
    def wall_s(self) -> float:
        return EPOCH_S + self.now_s + self.wall_shift_s

    # --- loop.World ---

    def observe(self) -> Snapshot:
        faults: list[Fault] = []
        guests: tuple[Guest, ...] | None = None
        if self.libvirt_gone:
            faults.append(Fault(kind=FaultKind.LIBVIRT_DOWN, subject="sim", detail="gone"))
        else:
            guests = tuple(guest.show() for guest in self.guests if guest.running)
        if self.host_unreadable:
            faults.append(Fault(kind=FaultKind.KERNEL_UNREADABLE, subject="sim", detail="gone"))
        return Snapshot(
            monotonic_s=self.now_s,
            wall_s=self.wall_s,
            host=None if self.host_unreadable else self._show_host(),
            guests=guests,
            faults=tuple(faults),
        )

    def apply(self, actions: Sequence[SetTarget]) -> tuple[Outcome, ...]:
        by_uuid = {guest.uuid: guest for guest in self.guests}
        return tuple(self._apply(action, by_uuid.get(action.uuid)) for action in actions)

    def _apply(self, action: SetTarget, guest: SimGuest | None) -> Outcome:
        if self.libvirt_gone:
            return Outcome(action=action, result=Result.UNREACHABLE)
        if guest is None or not guest.running:
            return Outcome(action=action, result=Result.GONE)
        if guest.hung:
            return Outcome(action=action, result=Result.TIMED_OUT)
        if self.applies_left is not None:
            if self.applies_left <= 0:
                raise DaemonKilledError
            self.applies_left -= 1
        guest.ask(action.target, self.now_s)
        return Outcome(action=action, result=Result.DONE)

    # --- the host's memory ---

    def _settle_host(self, elapsed_s: float) -> None:
        """What does not fit goes out to swap, as fast as it can; beyond that the host's OOM killer acts."""
        host = self.host
        merging = host.merging
        running = [guest for guest in self.guests if guest.running]
        resident = sum(guest.resident for guest in running)
        if merging.speed or merging.saved:
            possible = merging.share * resident
            merging.saved = min(possible, merging.saved + merging.speed * elapsed_s)
        used = resident + host.own(self.now_s) - merging.saved
        beyond = used - host.total
        waits = 0.0
        if beyond > host.swapped and host.swap:
            out = min(beyond - host.swapped, host.swap_speed * elapsed_s, host.swap - host.swapped)
            waits = min(1.0, (beyond - host.swapped) / max(1.0, host.swap_speed * elapsed_s))
            host.swapped += out
            host.swap_out += out
        elif host.swapped > 0:
            host.swapped = max(0.0, beyond, host.swapped - host.swap_speed * elapsed_s)
        if beyond > host.swapped + 0.001 * host.total and host.swapped >= host.swap:
            self._kill_somebody(running)
        self._settle_pressure(waits, elapsed_s)

    def _kill_somebody(self, running: list[SimGuest]) -> None:
        victim = max(running, key=lambda guest: guest.resident)
        victim.running = False
        self.host.oom_kills += 1
        self.host.killed.append(victim.name)

    def _settle_pressure(self, waits: float, elapsed_s: float) -> None:
        host = self.host
        keep = 2.718281828 ** (-elapsed_s / 10)
        host.stalled = waits
        host.pressure = host.pressure * keep + waits * (1 - keep)
        host.pressure_us += waits * elapsed_s * 1e6

    def _show_host(self) -> Host:
        host = self.host
        resident = sum(guest.resident for guest in self.guests if guest.running)
        used = resident + host.own(self.now_s) - host.merging.saved - host.swapped
        saved = int(host.merging.saved)
        return Host(
            total=host.total,
            available=max(0, int(host.total - used)),
            swap_total=int(host.swap),
            swap_free=int(host.swap - host.swapped),
            swap_out=int(host.swap_out),
            pressure=Pressure(some_avg10=host.pressure, full_avg10=0.0, some_total_us=int(host.pressure_us)),
            ksm=Ksm(run=1, saved=saved, profit=saved, full_scans=0, pages_to_scan=0, advisor=None),
            oom_kills=host.oom_kills,
        )


class DaemonKilledError(Exception):
    """The simulated daemon was killed between two actions."""
