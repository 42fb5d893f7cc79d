"""How do policies fare on the very same worlds?

Deals out the work, one policy, overcommitment and ramp at a time, to all processors, and adds up what comes back.
balloond runs as it is, through `loop.turn`, on a simulated world a host; the others as arithmetic over all hosts.
What is computed depends on nothing but the worlds: not on the number of processors, nor on who is done first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from balloond.config.settings import Amount, Config, GuestPolicy, HostPolicy
from balloond.sim import fleet, oracle, processes, traced
from balloond.sim.history import Draughtsman, History
from balloond.sim.peers import MAKERS
from balloond.sim.policies import BALLOOND, BOUNDS, CLAIRVOYANT, LATE
from balloond.sim.score import Meter, Tally, add_up
from balloond.sim.trace import STEP_S, Array, Ramp, Worlds
from balloond.units import MIB

CONFIG: Final = Config(
    interval_s=STEP_S,
    host=HostPolicy(reserve=Amount(size=0), pool=Amount(share=0.05)),
    defaults=GuestPolicy(minimum=Amount(size=0)),
)
"""balloond as it is compared. A simulated host needs nothing for itself, so it has no reserve. Guests are promised
the least that there is, by MOM nothing: what is promised to an idle guest is out of reach for one in need, and the
oracles promise nothing either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One policy under one overcommitment and ramp."""

    policy: str
    overcommit: float
    ramp: Ramp


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    case: Case
    tally: Tally
    history: History | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A result as it is told, set against the two bounds. U and what derives from it: GiB·s a machine-day."""

    policy: str
    overcommit: float
    ramp: str
    shortage: float  # U
    infeasible: float  # of it, what nobody could have given
    excess: float
    late_excess: float  # the late oracle's
    multiple: float | None  # of the late oracle's excess; None: that is nothing
    flips: float  # a machine-day
    moves: float  # a machine-day
    moved_gib: float  # a machine-day
    wait_p99_s: float | None  # in which 99 % of shortages were over; None: there was none
    most_given: float  # the largest share of its memory that a host had handed out
    valid: bool  # never handed out more than the host has


Progress = Callable[[int, int], None]
"""Is told how many parts of how many are done."""


def compare(
    worlds: Worlds, cases: Sequence[Case], *, config: Config = CONFIG, jobs: int | None = None,
    drawn: int | None = None, progress: Progress = lambda done, of: None,
) -> tuple[Result, ...]:  # fmt: skip
    """One result for each case, in their order. `jobs`: processes, by default one a processor. `drawn`: the host
    whose history is wanted."""
    parts = [part for case in cases for part in _parts(case, worlds, config, drawn)]
    order = sorted(range(len(parts)), key=lambda i: -parts[i].cost)  # long ones first, so that none is last
    done: dict[int, Result] = {}
    jobs = processes.count(jobs, len(parts))
    for index, result in processes.each(_carry_out, parts, jobs=jobs, order=order):
        done[index] = result
        progress(len(done), len(parts))
    results = [done[i] for i in range(len(parts))]
    return tuple(_join([r for r in results if r.case == case]) for case in cases)


def with_bounds(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases, and for each overcommitment and ramp the bounds that they are set against."""
    wanted = dict.fromkeys(cases)
    bounds = (replace(case, policy=policy) for case in cases for policy in BOUNDS)
    return tuple(dict.fromkeys((*wanted, *bounds)))


def rows(results: Sequence[Result]) -> tuple[Row, ...]:
    """Each result as it is told, bounds among them."""
    by_case = {result.case: result.tally for result in results}
    return tuple(
        _row(
            result,
            by_case[replace(result.case, policy=CLAIRVOYANT)].shortage_a_day,
            by_case[replace(result.case, policy=LATE)].shortage_a_day,
        )
        for result in results
    )


def tightest(worlds: Worlds) -> int:
    """The host on which most of what is claimed was wanted at once: the one to look at."""
    share = worlds.wanted.sum(axis=1) / worlds.capacity.sum(axis=1, keepdims=True)
    return int(share.max(axis=1).argmax())


def _row(result: Result, infeasible: float, late: float) -> Row:
    tally = result.tally
    excess, late_excess = tally.shortage_a_day - infeasible, late - infeasible
    return Row(
        policy=result.case.policy,
        overcommit=result.case.overcommit,
        ramp=result.case.ramp.value,
        shortage=tally.shortage_a_day,
        infeasible=infeasible,
        excess=excess,
        late_excess=late_excess,
        multiple=excess / late_excess if late_excess > 0 else None,
        flips=tally.a_day(tally.flips),
        moves=tally.a_day(tally.moves),
        moved_gib=tally.a_day(tally.moved) / (1024 * MIB),
        wait_p99_s=tally.wait_s(0.99),
        most_given=tally.most_given,
        valid=tally.overdrawn_steps == 0,
    )


# --- the work --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """What one process does at a time: a case on some hosts."""

    case: Case
    worlds: Worlds
    config: Config
    drawn: int | None  # the host among `worlds` to be drawn
    named: int  # that host's number among all
    cost: float  # of its running, in no unit


def _parts(case: Case, worlds: Worlds, config: Config, drawn: int | None) -> Iterator[_Part]:
    """balloond is worth a part a host; arithmetic does all hosts at once."""
    if case.policy != BALLOOND:
        yield _Part(case=case, worlds=worlds, config=config, drawn=drawn, named=drawn or 0, cost=1.0)
        return
    for host in range(worlds.hosts):
        mine = 0 if host == drawn else None
        yield _Part(case=case, worlds=worlds.only(host), config=config, drawn=mine, named=host, cost=4.0)


def _carry_out(part: _Part) -> Result:
    case, worlds = part.case, part.worlds
    meter = Meter(worlds.totals(case.overcommit), fleet.start(worlds, case.overcommit))
    draughtsman = None if part.drawn is None else Draughtsman(worlds, part.drawn, part.named)
    measure = fleet.measure(meter)

    def look(step: int, wanted: Array, actual: Array) -> None:
        measure(step, wanted, actual)
        if draughtsman is not None:
            draughtsman.look(step, wanted, actual)

    if case.policy == BALLOOND:
        traced.run(part.config, worlds, case.overcommit, case.ramp, look)
    elif case.policy == LATE:
        oracle.run_late(worlds, case.overcommit, case.ramp, look)
    elif case.policy == CLAIRVOYANT:
        oracle.run_clairvoyant(worlds, case.overcommit, case.ramp, look)
    else:
        fleet.run(MAKERS[case.policy](), worlds, case.overcommit, case.ramp, look)
    history = draughtsman.history() if draughtsman is not None else None
    return Result(case=case, tally=meter.tally(), history=history)


def _join(results: Sequence[Result]) -> Result:
    """The results of one case's parts as one."""
    return Result(
        case=results[0].case,
        tally=add_up(result.tally for result in results),
        history=next((result.history for result in results if result.history is not None), None),
    )
