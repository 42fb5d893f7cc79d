"""What is the world like now, and what came of what was asked of it?

The two edges of a real host put together: its kernel's files and its guests over libvirt, as one `Snapshot`.
The kernel is read first and, beside it, what each QEMU process occupies: of one instant, so that what is
neither available nor a guest's is truly the host's own. Reading guests takes longer and may have to wait.
This module must never raise for what it finds, nor take longer than its deadlines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, assert_never

from balloond.config.settings import Config, KsmMode, KsmPolicy, Mode
from balloond.host.cgroup import (
    Place,
    Pool,
    SwapLimit,
    find_pool,
    read_guest,
    swap_limit,
    swap_limits,
)
from balloond.host.files import Root
from balloond.host.kernel import HostFigures, read_host, read_ksm
from balloond.host.ksm import NAME as MERGING
from balloond.host.ksm import Merging
from balloond.host.merged import Merged
from balloond.host.notes import kept, tidy
from balloond.host.periods import NAME as PERIODS
from balloond.host.processes import Process, Processes
from balloond.host.relief import NAME as LIMITS
from balloond.host.relief import Relief
from balloond.model import (
    Fault,
    Guest,
    GuestCgroup,
    Host,
    LimitSoftly,
    Measure,
    Measured,
    Obstacle,
    Outcome,
    PoolSource,
    Reclaim,
    Result,
    SetMerging,
    SetTarget,
    Snapshot,
    State,
)
from balloond.policy.solvency import HELD, QEMU_OVERHEAD

OBSERVE_LEAST_S: Final = 3.0
"""However short the interval. On a host whose processors are overloaded (load 12 on two) monitors were seen to
take more than half a second, and that is when guests' numbers are needed most; a guest that really hangs
costs so much once."""

OBSERVE_MOST_S: Final = 5.0
"""However long the interval: a host in distress can't wait for a hung monitor."""

APPLY_MOST_S: Final = 5.0
"""For all actions of one turn. What is left then is asked for again in the next turn, on newer numbers."""

TAKE_MOST_S: Final = 1.0
"""For all measures of one turn: the next guest in distress waits behind them. What is left is decided again."""

CGROUPS_EACH_S: Final = 10.0
"""How often guests' own cgroups are read: 0.1 ms a guest, while all is well for the eyes of people alone. While
memory is reclaimed they are read in each turn, since that stops where a guest suffers for it."""

SET_MOST_S: Final = 2.0
"""For one action. It takes milliseconds; a guest that needs seconds hangs, and others wait behind it."""


class Guests(Protocol):
    """The guests of a host, as `host.guests` reaches them."""

    @property
    def qemu_pids(self) -> Mapping[str, int]:
        """The process of each guest for which it was found, by the guest's UUID."""

    def observe(
        self, deadline_s: float, *, active: bool, managed: Callable[[str, str, str], bool]
    ) -> tuple[tuple[Guest, ...] | None, tuple[Fault, ...]]:
        """All guests in UUID order; None when the list could not be had.

        `active`: those for which `managed` (of UUID, name, title) holds may be asked for statistics.
        """

    def set_target(self, action: SetTarget, deadline_s: float) -> Outcome:
        """Asks one guest's balloon for its new size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The kernel's side of one instant."""

    pids: Mapping[str, int]
    managed: frozenset[str]  # UUIDs
    figures: HostFigures | None
    processes: Mapping[str, Process]
    pool: Pool | None  # None: no limited cgroup
    swap: SwapLimit | None  # None: all guests together may have all the host's
    faults: tuple[Fault, ...]


class RealWorld:
    """`loop.World` on a real host. `config` gives the configuration in force; the clocks are time's; in `state`
    stands what is to be put back."""

    def __init__(
        self,
        guests: Guests,
        *,
        config: Callable[[], Config],
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        state: Path,
        root: Path = Path("/"),
    ) -> None:
        self._guests = guests
        self._config = config
        self._monotonic = monotonic
        self._wall = wall
        self._state = state
        self._root = Root(root)
        self._processes = Processes(self._root)
        self._merging = Merging(self._root, state)
        self._merged = Merged(self._root)
        self._seen: tuple[Guest, ...] = ()  # the last list that could be had
        self._pids: dict[str, int] = {}  # and the processes of those
        self._places: dict[str, Place] = {}
        self._cgroups: dict[str, GuestCgroup] = {}
        self._swap_limits: dict[str, int] = {}
        self._cgroups_due_s = self._owed_due_s = float("-inf")
        self._relief = Relief(self._root, state)
        self._acting = threading.Lock()  # on what is put back; a hurried stop does that from a second thread
        self.pressure_file: str | None = None  # the pool's own, where a trigger may be set; None: the host's

    def observe(self) -> Snapshot:
        """The world now. Its time is that of the end: no sample in it is from the future."""
        config = self._config()
        look = self._look(config)
        deadline_s = min(max(config.interval_s, OBSERVE_LEAST_S), OBSERVE_MOST_S)
        guests, faults = self._guests.observe(
            deadline_s,
            active=config.mode is Mode.ACTIVE,
            managed=lambda uuid, name, title: config.policy_for(uuid, name, title).manage,
        )
        if guests is not None:
            self._seen, self._pids = guests, dict(self._guests.qemu_pids)
            if (look.pids, look.managed) != (self._pids, _managed(config, guests)):
                look = self._look(config)  # who shares the pool was not known before
        source = pool_source(look.figures, look.pool, config.host.memory)
        self._read_cgroups(look)
        self.pressure_file = look.pool.pressure_file if look.pool is not None else None
        placed = tuple(
            _placed(guest, look, source, self._cgroups.get(guest.uuid), self._swap_limits.get(guest.uuid))
            for guest in self._seen
        )
        return Snapshot(
            monotonic_s=self._monotonic(),
            wall_s=self._wall(),
            host=_host(look, source, config.host.memory, placed),
            guests=placed if guests is not None else None,
            faults=look.faults + faults,
        )

    def apply(self, actions: Sequence[SetTarget]) -> tuple[Outcome, ...]:
        """Each action's outcome. One at a time and in the order given, which has shrinking first."""
        ends_s = self._monotonic() + APPLY_MOST_S
        return tuple(self._set(action, ends_s) for action in actions)

    def take(self, measures: Sequence[Measure]) -> tuple[Measured, ...]:
        """What came of each: one at a time, and all in bounded time."""
        ends_s = self._monotonic() + TAKE_MOST_S
        return tuple(self._take(measure, ends_s) for measure in measures)

    def take_up(self) -> tuple[str, ...]:
        """Undoes what a daemon that was killed has left, as far as nobody will look after it: soft limits, and in
        mode observe how merging was set, which is steered on otherwise. Says what could not be undone."""
        _tidy(self._state)
        if self._config().mode is Mode.OBSERVE:
            return self.put_back()
        with self._acting:
            return self._relief.put_back()

    def put_back(self) -> tuple[str, ...]:
        """Leaves the host's own settings as they were found; says what could not be."""
        if not self._acting.acquire(blocking=False):  # who has it may be stopped in the midst for good
            return ("a measure is under way; the next daemon puts back what is noted",)
        try:
            return (*self._relief.put_back(), *filter(None, (self._put_merging_back(),)))
        finally:
            self._acting.release()

    def close(self) -> None:
        self._processes.close()

    def _set(self, action: SetTarget, ends_s: float) -> Outcome:
        left_s = ends_s - self._monotonic()
        if left_s <= 0:
            return Outcome(action=action, result=Result.BUSY, detail="no time was left for it in this turn")
        return self._guests.set_target(action, min(left_s, SET_MOST_S))

    def _take(self, measure: Measure, ends_s: float) -> Measured:
        began_s = self._monotonic()
        if began_s >= ends_s:
            return Measured(
                measure=measure, result=Result.BUSY, detail="no time was left for it in this turn"
            )
        with self._acting:
            result, detail = self._do(measure)
        return Measured(measure=measure, result=result, detail=detail, took_s=self._monotonic() - began_s)

    def _do(self, measure: Measure) -> tuple[Result, str]:
        match measure:
            case SetMerging():
                return self._merging.set(measure.to)
            case Reclaim():
                self._cgroups_due_s = float("-inf")
                return self._relief.reclaim(measure, self._places.get(measure.uuid))
            case LimitSoftly():
                return self._relief.limit(measure, self._places.get(measure.uuid))
            case _:
                assert_never(measure)

    def _read_cgroups(self, look: _Look) -> None:
        now_s = self._monotonic()
        self._places = {uuid: one.place for uuid, one in look.processes.items() if one.place is not None}
        if now_s >= self._cgroups_due_s or self._cgroups.keys() - self._places.keys():
            found = ((uuid, read_guest(self._root, place)) for uuid, place in self._places.items())
            self._cgroups = {uuid: cgroup for uuid, cgroup in found if cgroup is not None}
            managed = [place for uuid, place in self._places.items() if uuid in look.managed]
            self._swap_limits = swap_limits(self._root, self._places, managed)
            self._cgroups_due_s = now_s + CGROUPS_EACH_S
        if now_s >= self._owed_due_s:
            self._owed_due_s = now_s + CGROUPS_EACH_S
            with self._acting:
                self._relief.put_back_owed()

    def _put_merging_back(self) -> str:
        policy, ksm = self._config().ksm, read_ksm(self._root)
        if not self._merging.noted or ksm is None:
            return ""
        if not _restores(policy):
            self._merging.abort()  # nobody would watch any more whether there is room
            self._merging.forget()
            return ""
        return self._merging.put_back(ksm)[1]

    def _look(self, config: Config) -> _Look:
        if config.mode is Mode.ACTIVE:  # else nothing is to be put back, and who looks may be no daemon
            with self._acting:
                self._merging.wish(restored=_restores(config.ksm))
        steers = config.ksm.mode is not KsmMode.LEAVE or self._merging.noted
        figures, faults = read_host(self._root, ksm_closely=steers)
        if figures is not None:
            figures = replace(figures, ksm=self._merging.complete(figures.ksm))
        processes = self._processes.read(self._pids)
        if figures is not None and len(self._pids) == len(self._seen):
            ksm = self._merged.told_apart(figures.ksm, self._pids.values(), self._monotonic())
            figures = replace(figures, ksm=ksm)
        managed = _managed(config, self._seen)
        pool = swap = None
        if figures is not None:
            found = (processes[uuid].place for uuid in managed & processes.keys())
            places = [place for place in found if place is not None]
            pool, pool_faults = find_pool(self._root, places, figures.total)
            swap = swap_limit(self._root, places)
            faults += pool_faults
        return _Look(
            pids=self._pids,
            managed=managed,
            figures=figures,
            processes=processes,
            pool=pool,
            swap=swap,
            faults=faults,
        )


def is_noted(state: Path) -> bool:
    """Whether a daemon, running or dead, has set something at the host that is to be put back."""
    return any(kept(state / name) is not None for name in (LIMITS, MERGING))


def put_back_noted(state: Path, root: Path = Path("/")) -> tuple[str, ...]:
    """Puts back what a daemon that is dead has left at the host, where none can follow it; says what could not be.
    Merging is left as it stands where the operator wanted that, as far as it was noted."""
    _tidy(state)
    tree = Root(root)
    left = Relief(tree, state).put_back()
    merging, now = Merging(tree, state), read_ksm(tree)
    if not merging.noted or now is None:
        return left
    if not merging.restored:
        merging.forget()
        return left
    result, detail = merging.put_back(now)
    return left if result is Result.DONE else (*left, detail)


def _restores(policy: KsmPolicy) -> bool:
    """Whether merging is put back as it was found; who wants none does not want it back."""
    return policy.restore and policy.mode is not KsmMode.OFF


def _tidy(state: Path) -> None:
    for name in (LIMITS, MERGING, PERIODS):
        tidy(state / name)


def pool_source(figures: HostFigures | None, pool: Pool | None, operators: int | None) -> PoolSource:
    """What bounds the pool: the smallest of the host, the limited cgroup and the operator's own figure."""
    bounds = [(figures.total, PoolSource.HOST)] if figures is not None else []
    bounds += [(pool.total, PoolSource.CGROUP)] if pool is not None else []
    bounds += [(operators, PoolSource.OPERATOR)] if operators is not None else []
    return min(bounds, key=lambda bound: bound[0])[1] if bounds else PoolSource.HOST


def _managed(config: Config, guests: Sequence[Guest]) -> frozenset[str]:
    return frozenset(
        guest.uuid for guest in guests if config.policy_for(guest.uuid, guest.name, guest.title).manage
    )


def _placed(
    guest: Guest, look: _Look, source: PoolSource, cgroup: GuestCgroup | None, most_swap: int | None
) -> Guest:
    """The guest with what its process and cgroup occupy; without, where that is none of the pool's."""
    process = look.processes.get(guest.uuid)
    guest = replace(guest, overhead=QEMU_OVERHEAD, swap_limit=most_swap)
    if guest.uuid not in look.managed and not _shares(process, look.pool, source):
        why = guest.obstacle if guest.obstacle in HELD else Obstacle.UNMANAGED
        return replace(guest, in_pool=False, obstacle=why, rss=None, swapped=None)
    guest = replace(guest, cgroup=cgroup)
    if process is None:
        return guest
    return replace(guest, rss=process.rss, swapped=process.swapped, program=process.program)


def _shares(process: Process | None, pool: Pool | None, source: PoolSource) -> bool:
    """Whether a guest that is not managed uses the pool's memory all the same.

    On the whole host everybody does. What the operator sets aside is for the managed guests. A limited
    cgroup's is for who lives in it; a guest whose place is not known counts as one of them, to be safe.
    """
    if source is PoolSource.OPERATOR:
        return False
    if pool is None or process is None or process.place is None:
        return True
    return pool.holds(process.place)


def _host(look: _Look, source: PoolSource, operators: int | None, guests: Sequence[Guest]) -> Host | None:
    """The pool as the memory that there is: never more than host, cgroup or operator allow for."""
    figures, pool = look.figures, look.pool
    if figures is None:
        return None
    total, available = figures.total, figures.available
    swap_total, swap_free = figures.swap_total, figures.swap_free
    disk_total, disk_free = swap_total - figures.swap.zram_total, swap_free - figures.swap.zram_free
    pressure, oom_kills = figures.pressure, figures.oom_kills
    if pool is not None:
        total, available = min(total, pool.total), min(available, pool.available)
        pressure = pool.pressure or pressure
        oom_kills = pool.oom_kills if pool.oom_kills is not None else oom_kills
    withheld, beyond = None, 0
    if look.swap is not None:
        zram = figures.swap  # may use a bound up first, so that only what is left of it is surely on disk
        had = disk_free
        disk_total = min(disk_total, max(0, look.swap.total - zram.zram_total))
        disk_free = min(disk_free, disk_total, max(0, look.swap.free - zram.zram_free))
        beyond = max(0, zram.zram_total - look.swap.total, zram.zram_free - look.swap.free)
        swap_total, swap_free = min(swap_total, look.swap.total), min(swap_free, look.swap.free)
        withheld = had - disk_free
    if source is PoolSource.OPERATOR and operators is not None:
        total = operators
        available = min(available, max(0, operators - _occupied(guests, figures)))
    return Host(
        total=total,
        available=available,
        source=source,
        outside=_outside(look, figures, total),
        swap_total=swap_total,
        swap_free=swap_free,
        swap_withheld=withheld,
        swap_in=figures.swap_in,
        swap_out=figures.swap_out,
        zram_beyond=beyond,
        zram_total=swap_total - disk_total,
        zram_free=swap_free - disk_free,
        zswap_growth=figures.swap.zswap_growth,
        huge_free=figures.huge_free,
        pressure=pressure,
        ksm=figures.ksm,
        oom_kills=oom_kills,
    )


def _outside(look: _Look, figures: HostFigures, pool: int) -> int:
    """The host's memory beside the pool, less what it uses for itself: neither available nor any guest's. There
    QEMU's program is a part of, which each guest's resident size has in it."""
    resident = sum(process.rss - process.program for process in look.processes.values())
    merged = figures.ksm.counted_twice if figures.ksm is not None else 0
    own = max(0, figures.total - figures.available - resident + merged)
    return max(0, figures.total - pool - own)


def _occupied(guests: Sequence[Guest], figures: HostFigures) -> int:
    """What the pool's guests hold of the operator's figure. A guest whose process can't be read counts whole.

    Merged pages stand in the resident size of every guest that shares them, but take memory only once. Where
    other guests may share too, how much of that is the pool's is not known, and it counts as nothing. QEMU's
    program stands in the resident size of each, and is in memory once.
    """
    inside = [guest for guest in guests if guest.in_pool and guest.state is not State.OFF]
    resident = sum(guest.rss - guest.program if guest.rss is not None else guest.actual for guest in inside)
    program = max((guest.program for guest in inside), default=0)
    alone = figures.ksm is not None and all(guest.in_pool for guest in guests)
    merged = figures.ksm.counted_twice if figures.ksm is not None and alone else 0
    return max(0, resident + program - merged)
