"""Ticks for tests of what is published: small, literal, and with every name settable."""

from __future__ import annotations

from balloond.model import (
    Decision,
    Demand,
    Fault,
    Guest,
    Host,
    Ledger,
    LimitSoftly,
    Measured,
    MergingVerdict,
    Obstacle,
    Outcome,
    Reason,
    Reclaim,
    Result,
    Rung,
    SetTarget,
    Snapshot,
    State,
    Statistics,
    Tick,
    Trust,
    Verdict,
)
from balloond.policy.solvency import judge
from balloond.units import GIB, MIB

UUID = "0a0a0a0a-0000-4000-8000-000000000001"
UUID_2 = "0b0b0b0b-0000-4000-8000-000000000002"
WALL_S = 1_760_000_000.0

HEARD = Statistics(last_update_s=int(WALL_S) - 3, untrusted_usable=512 * MIB)
HOST = Host(total=8 * GIB, available=5 * GIB)


def guest(
    uuid: str = UUID,
    name: str = "web-1",
    *,
    actual: int = 2 * GIB,
    state: State = State.RUNNING,
    rss: int | None = GIB,
    statistics: Statistics | None = HEARD,
    incarnation: int = 0,
) -> Guest:
    return Guest(
        uuid=uuid,
        name=name,
        maximum=4 * GIB,
        actual=actual,
        state=state,
        rss=rss,
        statistics=statistics,
        statistics_period_s=2,
        incarnation=incarnation,
    )


def demand(*, trust: Trust = Trust.FRESH, in_distress: bool = False) -> Demand:
    return Demand(
        overhead=0,
        squeezed=False,
        need=1536 * MIB,
        enough=1536 * MIB,
        trust=trust,
        working_set=1536 * MIB,
        want=1700 * MIB,
        floor=1600 * MIB,
        guarantee=GIB,
        ceiling=4 * GIB,
        margin=164 * MIB,
        in_distress=in_distress,
        suffers=in_distress,
        memory=None,
    )


def verdict(
    uuid: str = UUID,
    name: str = "web-1",
    *,
    actual: int = 2 * GIB,
    target: int = 2 * GIB,
    reason: Reason = Reason.STEADY,
    obstacle: Obstacle | None = None,
    estimate: Demand | None = demand(),  # noqa: B008  (frozen)
) -> Verdict:
    return Verdict(
        uuid=uuid,
        name=name,
        actual=actual,
        demand=estimate,
        entitlement=2 * GIB,
        target=target,
        reason=reason,
        obstacle=obstacle,
        memory=None,
    )


def outcome(
    uuid: str = UUID,
    name: str = "web-1",
    *,
    actual: int = 2 * GIB,
    target: int = GIB,
    reason: Reason = Reason.DONATE,
    result: Result = Result.DONE,
    detail: str = "",
) -> Outcome:
    action = SetTarget(
        uuid=uuid, name=name, actual=actual, target=target, reason=reason, words="others need memory now"
    )
    return Outcome(action=action, result=result, detail=detail)


def reclaimed(
    uuid: str = UUID, *, size: int = 64 * MIB, result: Result = Result.DONE, detail: str = ""
) -> Measured:
    measure = Reclaim(uuid=uuid, name="web-1", size=size, words="holds too much")
    return Measured(measure=measure, result=result, detail=detail)


def limited(uuid: str = UUID, *, limit: int | None, result: Result = Result.DONE) -> Measured:
    measure = LimitSoftly(uuid=uuid, name="web-1", limit=limit, words="holds too much")
    return Measured(measure=measure, result=result)


def ledger(*, covered: bool = True, own: int = GIB) -> Ledger:
    return Ledger(
        total=8 * GIB,
        available=5 * GIB,
        own=own,
        reserve=GIB,
        pool=400 * MIB,
        committed=2 * GIB,
        headroom=4 * GIB,
        guaranteed=GIB,
        covered=covered,
    )


def tick(
    *guests: Guest,
    number: int = 1,
    verdicts: tuple[Verdict, ...] = (),
    outcomes: tuple[Outcome, ...] = (),
    measured: tuple[Measured, ...] = (),
    faults: tuple[Fault, ...] = (),
    rung: Rung = Rung.GREEN,
    host: Host | None = HOST,
    accounts: Ledger | None = ledger(),  # noqa: B008  (frozen)
    listed: bool = True,
    merging: MergingVerdict | None = None,
) -> Tick:
    """A sealed tick, two seconds after the one before; `listed` False: libvirt gave no list of guests."""
    return Tick(
        number=number,
        snapshot=Snapshot(
            monotonic_s=1000.0 + 2 * number,
            wall_s=WALL_S + 2 * (number - 1),
            host=host,
            guests=guests if listed else None,
            faults=faults,
        ),
        decision=Decision(
            rung=rung,
            ledger=accounts,
            verdicts=verdicts,
            actions=tuple(each.action for each in outcomes),
            solvency=judge(
                host,
                guests,
                own=accounts.own,
                reserve=accounts.reserve,
            )
            if host and accounts and listed
            else None,
            merging=merging,
            measures=tuple(each.measure for each in measured),
        ),
        outcomes=outcomes,
        measured=measured,
    )
