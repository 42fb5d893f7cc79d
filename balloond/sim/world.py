"""What does the simulated host see, and what happens to it?

Guests' resident memory, merging, swap and the host's own use share one pool of memory. What does not fit goes to
the host's swap at a bounded speed; where that is full, somebody is killed. Stalls show as pressure. The clock is
simulated; the world satisfies `loop.World`, so the real loop and the real core run on it. Faults that are due
strike as time passes, whoever turns the handle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Final, Protocol

from balloond.model import (
    Fault,
    FaultKind,
    Guest,
    Host,
    Ksm,
    KsmSettings,
    Measure,
    Measured,
    Outcome,
    Pressure,
    Result,
    SetMerging,
    SetTarget,
    Snapshot,
)
from balloond.sim.guest import SimGuest
from balloond.units import GIB, PAGE

EPOCH_S: Final = 1_750_000_000.0
"""The wall clock at the simulation's start; any recent second would do."""

PSI_S: Final = 10.0
"""The kernel averages `avg10` over so long."""

SCAN_S: Final = 5e-6
"""What a page costs ksmd: between one that it only looks at and one that it merges."""

OVERRUN: Final = 0.001
"""Of the host's memory: so much beyond it is rounding, not want."""


class DaemonKilledError(Exception):
    """The simulated daemon was killed between two actions. What it had asked for until then was asked for."""


class Trouble(Protocol):
    """A fault with a time: see `sim.faults`."""

    @property
    def from_s(self) -> float: ...

    @property
    def until_s(self) -> float:
        """When it ends; infinity: never."""

    def begin(self, world: SimWorld) -> None: ...

    def end(self, world: SimWorld) -> None: ...


@dataclass(slots=True, kw_only=True)
class Merging:
    """KSM: pages of equal content among the guests, as a share of each guest's resident memory. Where the share
    falls, guests have written to merged pages, and each write takes a page back at once."""

    share: float = 0.0  # of resident memory that has equals elsewhere
    speed: float = 0.0  # bytes that ksmd goes over, and merges, a second
    saved: float = 0.0
    broken: float = 0.0  # bytes that copy-on-write took back so far
    scanned: float = 0.0
    scans: float = 0.0
    put: KsmSettings | None = None  # what it was last set to; None: nobody steers it

    @property
    def settings(self) -> KsmSettings:
        return self.put or KsmSettings(run=1, pages_to_scan=int(self.speed / PAGE), sleep_ms=20)

    @property
    def cpu_s(self) -> float:
        return self.scanned / PAGE * SCAN_S

    def set(self, to: KsmSettings) -> None:
        """As the kernel would, without an advisor."""
        now = self.settings
        run = now.run if to.run is None else to.run
        pages = now.pages_to_scan if to.pages_to_scan is None else to.pages_to_scan
        self.put = KsmSettings(run=run, pages_to_scan=pages, sleep_ms=20)
        self.speed = (pages or 0) * PAGE / (0.020 + (pages or 0) * SCAN_S)
        if run == 2:
            self.broken += self.saved
            self.saved = 0.0

    def live(self, resident: float, elapsed_s: float) -> None:
        """Guests wrote, and ksmd went on, for so long."""
        possible = self.share * resident
        self.broken += max(0.0, self.saved - possible)
        looked = self.speed * elapsed_s if self.settings.run == 1 else 0.0
        self.saved = min(possible, self.saved + looked)
        self.scanned += looked
        self.scans += looked / max(1.0, resident)


@dataclass(slots=True, kw_only=True)
class SimHost:
    """The host's side of the simulated world; all sizes in bytes."""

    total: int
    own: Callable[[float], float] = lambda _: 0.0
    swap: float = 0.0
    swap_speed: float = 0.5 * GIB
    merging: Merging = field(default_factory=Merging)
    has_psi: bool = True
    swapped: float = 0.0
    swap_out: float = 0.0
    swap_in: float = 0.0
    pressure: float = 0.0  # PSI some avg10
    pressure_us: float = 0.0
    oom_kills: int = 0
    killed: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class SimWorld:
    """A host, its guests and their time. Hooks for faults are plain fields, set by `sim.faults`."""

    host: SimHost
    guests: list[SimGuest]
    troubles: list[Trouble] = field(default_factory=list)  # those to come
    now_s: float = 0.0
    wall_shift_s: float = 0.0  # how far the wall clock has jumped
    libvirt_gone: bool = False
    host_unreadable: bool = False
    applies_left: int | None = None  # the daemon is killed after so many more actions
    seen: Snapshot | None = None  # what `observe` last told
    carried_out: list[SetTarget] = field(
        default_factory=list
    )  # what guests were really asked since `observe`
    lasting: list[Trouble] = field(default_factory=list)  # those that began and have not ended, oldest first

    def advance(self, elapsed_s: float) -> None:
        """Everybody lives for so long; then those whose period has passed speak."""
        self.now_s += elapsed_s
        if self.troubles or self.lasting:
            self._let_troubles_strike()
        for guest in self.guests:
            guest.step(self.now_s, elapsed_s)
        self._settle_host(elapsed_s)
        wall_s = self.wall_s
        for guest in self.guests:
            guest.speak(self.now_s, wall_s)

    @property
    def wall_s(self) -> float:
        return EPOCH_S + self.now_s + self.wall_shift_s

    @property
    def running(self) -> list[SimGuest]:
        return [guest for guest in self.guests if guest.running]

    def named(self, name: str) -> SimGuest:
        """The guest of that name. Raises KeyError."""
        for guest in self.guests:
            if guest.name == name:
                return guest
        raise KeyError(name)

    # --- loop.World ---

    def observe(self) -> Snapshot:
        self.carried_out.clear()
        faults: list[Fault] = []
        guests: tuple[Guest, ...] | None = None
        if self.libvirt_gone:
            faults.append(Fault(kind=FaultKind.LIBVIRT_DOWN, subject="sim", detail="gone"))
        else:
            guests = tuple(guest.show() for guest in sorted(self.running, key=lambda guest: guest.uuid))
            faults += (
                Fault(kind=FaultKind.GUEST_UNREADABLE, subject=guest.uuid, detail="hung")
                for guest in self.running if guest.hung
            )  # fmt: skip
        if self.host_unreadable:
            faults.append(Fault(kind=FaultKind.KERNEL_UNREADABLE, subject="sim", detail="gone"))
        self.seen = Snapshot(
            monotonic_s=self.now_s,
            wall_s=self.wall_s,
            host=None if self.host_unreadable else self._show_host(),
            guests=guests,
            faults=tuple(faults),
        )
        return self.seen

    def apply(self, actions: Sequence[SetTarget]) -> tuple[Outcome, ...]:
        """Raises DaemonKilledError in the middle, when that is due."""
        by_uuid = {guest.uuid: guest for guest in self.guests}
        return tuple(self._apply(action, by_uuid.get(action.uuid)) for action in actions)

    def take(self, measures: Sequence[Measure]) -> tuple[Measured, ...]:
        """Merging obeys; a simulated host has no other knobs but its guests' balloons."""
        return tuple(self._take(measure) for measure in measures)

    def _take(self, measure: Measure) -> Measured:
        if not isinstance(measure, SetMerging):
            return Measured(measure=measure, result=Result.REFUSED, detail="simulated")
        self.host.merging.set(measure.to)
        return Measured(measure=measure, result=Result.DONE)

    def begin_anew(self) -> None:
        """Another daemon takes the place of the one that was killed. Of a guest whose monitor does not answer it
        learns the size that libvirt knew, and no sample: it has to count it at its maximum."""
        self.applies_left = None
        for guest in self.guests:
            guest.shown = guest.shown and (guest.shown[0], None)

    def _apply(self, action: SetTarget, guest: SimGuest | None) -> Outcome:
        if self.applies_left is not None:
            if self.applies_left <= 0:
                raise DaemonKilledError
            self.applies_left -= 1
        if self.libvirt_gone:
            return Outcome(action=action, result=Result.UNREACHABLE)
        if guest is None or not guest.running:
            return Outcome(action=action, result=Result.GONE)
        if guest.hung or guest.deaf:
            return Outcome(action=action, result=Result.TIMED_OUT)
        guest.ask(action.target, self.now_s)
        self.carried_out.append(action)
        return Outcome(action=action, result=Result.DONE)

    def _let_troubles_strike(self) -> None:
        now_s = self.now_s
        for trouble in [t for t in self.lasting if t.until_s <= now_s]:
            self.lasting.remove(trouble)
            trouble.end(self)
        for trouble in [t for t in self.troubles if t.from_s <= now_s]:
            self.troubles.remove(trouble)
            trouble.begin(self)
            self.lasting.append(trouble)

    # --- the host's memory ---

    def own(self) -> float:
        """What the host itself uses now."""
        return self.host.own(self.now_s)

    def _settle_host(self, elapsed_s: float) -> None:
        """What does not fit goes out to swap, as fast as it can; beyond that the host's OOM killer acts."""
        host = self.host
        running = self.running
        resident = sum(guest.resident + guest.qemu for guest in running)
        host.merging.live(resident, elapsed_s)
        beyond = resident + self.own() - host.merging.saved - host.total
        at_most = host.swap_speed * elapsed_s
        waits = 0.0
        if beyond > host.swapped:
            out = min(beyond - host.swapped, at_most, host.swap - host.swapped)
            waits = min(1.0, (beyond - host.swapped) / max(1.0, at_most))
            host.swapped += out
            host.swap_out += out
        elif host.swapped > 0:
            back = min(host.swapped - max(0.0, beyond), at_most)
            host.swapped -= back
            host.swap_in += back
        if beyond > host.swapped + OVERRUN * host.total and host.swapped >= host.swap:
            self._kill_somebody(running)
        self._spread_swap(self.running)
        self._settle_pressure(waits, elapsed_s)

    def _spread_swap(self, running: list[SimGuest]) -> None:
        """What is swapped is every guest's in proportion to its resident memory."""
        resident = sum(guest.resident for guest in running)
        share = min(1.0, self.host.swapped / resident) if resident else 0.0
        if share or any(guest.host_swapped for guest in running):
            for guest in running:
                guest.host_swapped = guest.resident * share

    def _kill_somebody(self, running: list[SimGuest]) -> None:
        if not running:
            return
        victim = max(running, key=lambda guest: guest.resident)
        victim.running = False
        self.host.swapped -= victim.host_swapped
        victim.host_swapped = 0.0
        self.host.oom_kills += 1
        self.host.killed.append(victim.name)

    def _settle_pressure(self, waits: float, elapsed_s: float) -> None:
        host = self.host
        keep = exp(-elapsed_s / PSI_S)
        host.pressure = host.pressure * keep + waits * (1 - keep)
        host.pressure_us += waits * elapsed_s * 1e6

    def _show_host(self) -> Host:
        host = self.host
        resident = sum(guest.resident + guest.qemu for guest in self.running)
        used = resident + self.own() - host.merging.saved - host.swapped
        return Host(
            total=host.total,
            available=min(host.total, max(0, int(host.total - used))),
            swap_total=int(host.swap),
            swap_free=int(host.swap - host.swapped),
            swap_out=int(host.swap_out),
            swap_in=int(host.swap_in),
            pressure=Pressure(some_avg10=host.pressure, full_avg10=0.0, some_total_us=int(host.pressure_us))
            if host.has_psi
            else None,
            ksm=_show_ksm(host.merging),
            oom_kills=host.oom_kills,
        )


def _show_ksm(merging: Merging) -> Ksm:
    settings, saved = merging.settings, int(merging.saved)
    return Ksm(
        run=settings.run or 0,
        saved=saved,
        profit=saved,
        full_scans=int(merging.scans),
        pages_to_scan=settings.pages_to_scan or 0,
        advisor=None,
        scanned=int(merging.scanned),
        cpu_s=merging.cpu_s,
        broken=int(merging.broken),
        settings=settings,
        put=merging.put,
    )
