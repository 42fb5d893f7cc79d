"""What the whole core makes of the division: the same promises, through estimation, the pool and the pace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from balloond.config.settings import SMALLEST_GUEST, Amount, Config, GuestPolicy, GuestRule, HostPolicy
from balloond.model import Result, Rung, Tick
from balloond.policy.ladder import CLEAR, SHARES_AVAILABLE
from balloond.policy.pace import MARGIN_USED, POOL_HIGH
from balloond.units import GIB, MIB
from tests.made import Lab, Machine

POOL = 512 * MIB
RESERVE = 512 * MIB

ROUNDING = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One guest to be made; bytes."""

    maximum: int
    has: float  # to begin with: of its part, were all that there is divided by size
    used: int  # at first
    uses: int
    shares: int


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    maximum = draw(st.sampled_from((1, 2, 4, 8))) * GIB
    return Kind(
        maximum=maximum,
        has=draw(st.floats(min_value=0.1, max_value=1.0)),
        used=draw(st.integers(min_value=32, max_value=maximum // MIB)) * MIB,
        uses=draw(st.integers(min_value=32, max_value=maximum // MIB)) * MIB,
        shares=draw(st.sampled_from((100, 1000, 4000))),
    )


many = st.lists(kinds(), min_size=2, max_size=6)
crowds = st.floats(min_value=1.0, max_value=3.0)


def lab(made: list[Kind], total: int, **more: Any) -> Lab:  # Any: fields of Lab
    rules = tuple(
        GuestRule(name=f"g{n}", policy=GuestPolicy(minimum=Amount(share=0.1), shares=kind.shares))
        for n, kind in enumerate(made)
    )
    return Lab(
        [
            Machine(name=f"g{n}", maximum=kind.maximum, actual=kind.maximum, uses=kind.uses)
            for n, kind in enumerate(made)
        ],
        total=total,
        config=Config(host=HostPolicy(reserve=Amount(size=RESERVE), pool=Amount(size=POOL)), guests=rules),
        **more,
    )


def total_for(made: list[Kind], crowd: float) -> int:
    return RESERVE + POOL + int(sum(kind.maximum for kind in made) / crowd)


def entitled(made: list[Kind], total: int) -> list[int]:
    """What each is entitled to once all are heard and trusted, while nothing is moved yet."""
    tick = lab(made, total, refuse=Result.OBSERVED).run(20)
    return [verdict.entitlement for verdict in tick.decision.verdicts]


seldom = settings(max_examples=60, deadline=None)


@given(many, crowds)
@seldom
def test_all_but_the_pool_is_somebodys_where_not_all_maxima_fit(made: list[Kind], crowd: float) -> None:
    total = total_for(made, crowd)
    given_out = sum(entitled(made, total))
    if sum(kind.maximum for kind in made) > total - RESERVE:
        assert total - RESERVE - POOL - len(made) <= given_out <= total - RESERVE


@given(many, crowds, st.integers(min_value=0, max_value=8 * GIB))
@seldom
def test_a_larger_host_entitles_nobody_to_less(made: list[Kind], crowd: float, more: int) -> None:
    total = total_for(made, crowd)
    for before, after in zip(entitled(made, total), entitled(made, total + more), strict=True):
        assert after >= before - ROUNDING


@given(many, crowds, st.integers(min_value=1, max_value=10_000))
@seldom
def test_more_shares_entitle_nobody_to_less(made: list[Kind], crowd: float, more: int) -> None:
    total = total_for(made, crowd)
    richer = [replace(made[0], shares=made[0].shares + more), *made[1:]]
    assert entitled(richer, total)[0] >= entitled(made, total)[0] - ROUNDING


@given(many, crowds, st.integers(min_value=0, max_value=8 * GIB))
@seldom
def test_who_uses_more_is_not_entitled_to_less(made: list[Kind], crowd: float, more: int) -> None:
    total = total_for(made, crowd)
    first = made[0]
    hungrier = [replace(first, uses=min(first.maximum, first.uses + more)), *made[1:]]
    assert entitled(hungrier, total)[0] >= entitled(made, total)[0] - ROUNDING


def rested(made: list[Kind], crowd: float) -> tuple[Lab, Tick]:
    """A host at rest after everybody's use has changed."""
    world = lab(made, total_for(made, crowd))
    for machine, kind in zip(world.machines, made, strict=True):
        machine.actual = int(max(SMALLEST_GUEST, kind.has * kind.maximum / crowd))
        machine.uses = kind.used
    world.run(60)
    for machine, kind in zip(world.machines, made, strict=True):
        machine.uses = kind.uses
    return world, world.run(240)


def is_short(world: Lab) -> bool:
    return any(machine.actual < machine.uses - 8 * MIB for machine in world.machines)


@given(many, crowds)
@seldom
def test_nobody_goes_without_what_it_uses_while_memory_lies_free(made: list[Kind], crowd: float) -> None:
    """At rest: what is free then is at most the last part of the pool."""
    world, tick = rested(made, crowd)
    ledger = tick.decision.ledger
    assert ledger is not None
    if is_short(world):
        assert ledger.headroom <= CLEAR * SHARES_AVAILABLE[Rung.RED] * POOL + 8 * MIB * len(made)


@given(many, crowds)
@seldom
def test_nobody_goes_without_what_it_uses_while_another_has_more_than_it_wants(
    made: list[Kind], crowd: float
) -> None:
    world, tick = rested(made, crowd)
    if not is_short(world):
        return
    for verdict in tick.decision.verdicts:
        assert verdict.demand is not None
        most = max(verdict.demand.want, verdict.entitlement) + MARGIN_USED * verdict.demand.margin
        assert verdict.actual <= most + max(8 * MIB, verdict.demand.ceiling // 100)


@given(many, crowds)
@seldom
def test_what_nobody_needs_is_not_kept_from_guests(made: list[Kind], crowd: float) -> None:
    """At rest no more than one and a half pools lie free, unless all have all."""
    world, tick = rested(made, crowd)
    ledger = tick.decision.ledger
    assert ledger is not None
    if any(machine.actual < machine.maximum - 8 * MIB for machine in world.machines):
        bands = sum(max(8 * MIB, machine.maximum // 100) for machine in world.machines)
        assert ledger.headroom <= POOL_HIGH * POOL + bands
