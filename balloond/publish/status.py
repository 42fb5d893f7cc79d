"""How do things stand, for a person or a program that asks?

`status` turns the last sealed tick into values that JSON can carry; nothing is computed until somebody asks.
The one thing that a tick does not hold is what was last done to a guest and when: `History` remembers that,
for the guests that are still there. docs/operating.md explains every field; balloonctl puts them into words.
"""

from __future__ import annotations

from typing import Final, TypedDict

from balloond.model import (
    FaultKind,
    Guest,
    GuestCgroup,
    Host,
    Ksm,
    Ledger,
    LimitSoftly,
    Measured,
    MergingVerdict,
    Outcome,
    Pressure,
    Reclaim,
    Solvency,
    Tick,
    Verdict,
)

SCHEMA: Final = 2
"""Raised when a field changes its meaning or goes; a new field does not raise it."""


class PressureStatus(TypedDict):
    some_avg10: float
    full_avg10: float


class KsmStatus(TypedDict):
    """Same-page merging; `mode` is the operator's, `stance` and `words` what is made of it and why."""

    run: int
    saved: int
    profit: int | None
    mode: str | None
    stance: str | None
    words: str | None
    cpu: float | None
    cpu_cap: float | None


class HostStatus(TypedDict):
    total: int
    available: int
    source: str
    swap_total: int
    swap_free: int
    zram_total: int
    oom_kills: int
    pressure: PressureStatus | None
    ksm: KsmStatus | None


class LedgerStatus(TypedDict):
    own: int
    reserve: int
    pool: int
    committed: int
    headroom: int
    guaranteed: int
    covered: bool
    loan: int


class SolvencyStatus(TypedDict):
    """Whether all guests could have all their memory at once; policy/solvency.py has the sum."""

    solvent: bool
    memory: int
    swap: int
    own: int
    reserve: int
    claimed: int
    unswappable: int
    spare: int
    swap_missing: int
    swap_withheld: int | None
    zram_beyond: int
    memory_missing: int


class FaultStatus(TypedDict):
    kind: str
    subject: str
    detail: str


class LastStatus(TypedDict):
    """What was last done to a guest, or tried."""

    ago_s: float
    from_bytes: int
    to_bytes: int
    reason: str
    words: str
    result: str
    detail: str


class CgroupStatus(TypedDict):
    """The guest's own cgroup, as it was some seconds ago."""

    used: int
    swapped: int | None
    pressure: PressureStatus | None
    soft_limit: int | None


class ReliefStatus(TypedDict):
    """What the kernel was last asked to do with a guest's memory."""

    ago_s: float
    kind: str  # `reclaim`, `limit`, `lift`
    size: int | None  # to be reclaimed, or the limit; None: the limit was lifted
    words: str
    result: str
    detail: str


class GuestStatus(TypedDict):
    """Sizes in bytes; None: not known, or not applicable."""

    uuid: str
    name: str
    title: str
    state: str
    obstacle: str | None
    maximum: int
    actual: int
    held: str | None
    claim: int | None
    rss: int | None
    swapped: int | None
    statistics_age_s: float | None
    statistics_period_s: int
    usable: int | None
    deflates_on_oom: bool
    reports_free_pages: bool
    mergeable: bool
    trust: str | None
    working_set: int | None
    want: int | None
    floor: int | None
    guarantee: int | None
    ceiling: int | None
    in_distress: bool | None
    entitlement: int | None
    target: int | None
    reason: str | None
    words: str | None
    last: LastStatus | None
    cgroup: CgroupStatus | None
    relief: ReliefStatus | None


class Status(TypedDict):
    schema: int
    version: str
    mode: str
    tick: int
    wall_s: float
    libvirt: bool
    rung: str
    host: HostStatus | None
    ledger: LedgerStatus | None
    solvency: SolvencyStatus | None
    faults: list[FaultStatus]
    guests: list[GuestStatus] | None


class History:
    """A publisher that remembers the last thing done to each guest, or tried."""

    def __init__(self) -> None:
        self._tick: Tick | None = None
        self._last: dict[str, tuple[float, Outcome]] = {}
        self._relief: dict[str, tuple[float, Measured]] = {}

    def publish(self, tick: Tick) -> None:
        """Every value is replaced, never changed, so that other threads may read at any time."""
        last = self._last | {
            outcome.action.uuid: (tick.snapshot.monotonic_s, outcome) for outcome in tick.outcomes
        }
        relief = self._relief | {
            each.measure.uuid: (tick.snapshot.monotonic_s, each)
            for each in tick.measured
            if isinstance(each.measure, Reclaim | LimitSoftly)
        }
        if tick.snapshot.guests is not None:
            here = {guest.uuid for guest in tick.snapshot.guests}
            last = {uuid: done for uuid, done in last.items() if uuid in here}
            relief = {uuid: done for uuid, done in relief.items() if uuid in here}
        self._last, self._relief, self._tick = last, relief, tick

    @property
    def tick(self) -> Tick | None:
        """The last sealed tick; None: there was none yet."""
        return self._tick

    def last(self, uuid: str) -> tuple[float, Outcome] | None:
        """When (monotonic seconds) and what was last done to this guest."""
        return self._last.get(uuid)

    def relief(self, uuid: str) -> tuple[float, Measured] | None:
        """When (monotonic seconds) and what the kernel was last asked to do with this guest's memory."""
        return self._relief.get(uuid)


def status(tick: Tick, history: History, *, mode: str, version: str) -> Status:
    """How things stood when `tick` was sealed."""
    snapshot, decision = tick.snapshot, tick.decision
    verdicts = {verdict.uuid: verdict for verdict in decision.verdicts}
    return Status(
        schema=SCHEMA,
        version=version,
        mode=mode,
        tick=tick.number,
        wall_s=snapshot.wall_s,
        libvirt=libvirt_answers(tick),
        rung=decision.rung.name.lower(),
        host=_host(snapshot.host, decision.merging) if snapshot.host else None,
        ledger=_ledger(decision.ledger) if decision.ledger else None,
        solvency=_solvency(decision.solvency) if decision.solvency else None,
        faults=[
            FaultStatus(kind=fault.kind.value, subject=fault.subject, detail=fault.detail)
            for fault in snapshot.faults
        ],
        guests=None
        if snapshot.guests is None
        else [_guest(guest, verdicts.get(guest.uuid), tick, history) for guest in snapshot.guests],
    )


def libvirt_answers(tick: Tick) -> bool:
    """Whether libvirt gave the list of guests, at this tick."""
    down = any(fault.kind is FaultKind.LIBVIRT_DOWN for fault in tick.snapshot.faults)
    return tick.snapshot.guests is not None and not down


def _host(host: Host, merging: MergingVerdict | None) -> HostStatus:
    return HostStatus(
        total=host.total,
        available=host.available,
        source=host.source.value,
        swap_total=host.swap_total,
        swap_free=host.swap_free,
        zram_total=host.zram_total,
        oom_kills=host.oom_kills,
        pressure=_pressure(host.pressure),
        ksm=_ksm(host.ksm, merging) if host.ksm else None,
    )


def _ksm(ksm: Ksm, merging: MergingVerdict | None) -> KsmStatus:
    return KsmStatus(
        run=ksm.run,
        saved=ksm.saved,
        profit=ksm.profit,
        mode=merging.mode if merging else None,
        stance=merging.stance.value if merging else None,
        words=merging.words if merging else None,
        cpu=merging.used if merging else None,
        cpu_cap=merging.cap if merging else None,
    )


def _pressure(pressure: Pressure | None) -> PressureStatus | None:
    if pressure is None:
        return None
    return PressureStatus(some_avg10=pressure.some_avg10, full_avg10=pressure.full_avg10)


def _ledger(ledger: Ledger) -> LedgerStatus:
    return LedgerStatus(
        own=ledger.own,
        reserve=ledger.reserve,
        pool=ledger.pool,
        committed=ledger.committed,
        headroom=ledger.headroom,
        guaranteed=ledger.guaranteed,
        covered=ledger.covered,
        loan=ledger.loan,
    )


def _solvency(solvency: Solvency) -> SolvencyStatus:
    return SolvencyStatus(
        solvent=solvency.solvent,
        memory=solvency.memory,
        swap=solvency.swap,
        own=solvency.own,
        reserve=solvency.reserve,
        claimed=solvency.claimed,
        unswappable=solvency.unswappable,
        spare=solvency.spare,
        swap_missing=solvency.swap_missing,
        swap_withheld=solvency.swap_withheld,
        zram_beyond=solvency.zram_beyond,
        memory_missing=solvency.memory_missing,
    )


def _guest(guest: Guest, verdict: Verdict | None, tick: Tick, history: History) -> GuestStatus:
    statistics, bounds = guest.statistics, verdict.demand if verdict else None
    obstacle = verdict.obstacle if verdict else guest.obstacle
    demand = bounds if obstacle is None else None  # one that is left alone is not estimated
    heard = statistics is not None and statistics.last_update_s > 0
    claims = tick.decision.solvency.claims if tick.decision.solvency else ()
    claim = next((each for each in claims if each.uuid == guest.uuid), None)
    done, relief = history.last(guest.uuid), history.relief(guest.uuid)
    return GuestStatus(
        uuid=guest.uuid,
        name=guest.name,
        title=guest.title,
        state=guest.state.value,
        obstacle=obstacle.value if obstacle else None,
        maximum=guest.maximum,
        actual=guest.actual,
        held=claim.held.value if claim else None,
        claim=claim.size if claim else None,
        rss=guest.rss,
        swapped=guest.swapped,
        statistics_age_s=max(0.0, tick.snapshot.wall_s - statistics.last_update_s)
        if statistics and heard
        else None,
        statistics_period_s=guest.statistics_period_s,
        usable=statistics.untrusted_usable if statistics else None,
        deflates_on_oom=guest.deflates_on_oom,
        reports_free_pages=guest.reports_free_pages,
        mergeable=guest.mergeable,
        trust=demand.trust.value if demand else None,
        working_set=(demand.working_set or None) if demand else None,  # 0: it was never heard
        want=demand.want if demand else None,
        floor=demand.floor if demand else None,
        guarantee=bounds.guarantee if bounds else None,
        ceiling=bounds.ceiling if bounds else None,
        in_distress=demand.in_distress if demand else None,
        entitlement=verdict.entitlement if verdict else None,
        target=verdict.target if verdict else None,
        reason=verdict.reason.value if verdict else None,
        words=verdict.words if verdict else None,
        last=_last(*done, now_s=tick.snapshot.monotonic_s) if done else None,
        cgroup=_cgroup(guest.cgroup) if guest.cgroup else None,
        relief=_relief(*relief, now_s=tick.snapshot.monotonic_s) if relief else None,
    )


def _last(when_s: float, outcome: Outcome, *, now_s: float) -> LastStatus:
    action = outcome.action
    return LastStatus(
        ago_s=max(0.0, now_s - when_s),
        from_bytes=action.actual,
        to_bytes=action.target,
        reason=action.reason.value,
        words=action.words,
        result=outcome.result.value,
        detail=outcome.detail,
    )


def _cgroup(cgroup: GuestCgroup) -> CgroupStatus:
    return CgroupStatus(
        used=cgroup.used,
        swapped=cgroup.swapped,
        pressure=_pressure(cgroup.pressure),
        soft_limit=cgroup.soft_limit,
    )


def _relief(when_s: float, done: Measured, *, now_s: float) -> ReliefStatus | None:
    kind: str
    most: int | None
    match done.measure:
        case Reclaim(size=size, words=words):
            kind, most = "reclaim", size
        case LimitSoftly(limit=limit, words=words):
            kind, most = "lift" if limit is None else "limit", limit
        case _:
            return None
    return ReliefStatus(
        ago_s=max(0.0, now_s - when_s),
        kind=kind,
        size=most,
        words=words,
        result=done.result.value,
        detail=done.detail,
    )
