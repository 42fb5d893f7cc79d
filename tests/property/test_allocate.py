"""The division of memory keeps its promises for every claim that can be made."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from balloond.policy.allocate import Claim, divide
from balloond.units import GIB, MIB

sizes = st.integers(min_value=0, max_value=64 * 1024).map(lambda n: n * MIB)


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    guarantee, need, floor, want, ceiling = sorted(draw(st.lists(sizes, min_size=5, max_size=5)))
    return Claim(
        guarantee=guarantee,
        need=need,
        floor=floor,
        want=want,
        ceiling=ceiling,
        shares=draw(st.integers(min_value=1, max_value=10_000)),
        busy=draw(st.floats(min_value=0, max_value=1)),
    )


many = st.lists(claims(), min_size=1, max_size=12)
budgets = st.integers(min_value=0, max_value=1024).map(lambda n: n * GIB // 4)


@given(many, budgets)
def test_the_sum_is_within_the_budget_unless_guarantees_alone_are_more(
    made: list[Claim], budget: int
) -> None:
    assert sum(divide(budget, made)) <= max(budget, sum(claim.guarantee for claim in made))


@given(many, budgets)
def test_nobody_gets_less_than_its_guarantee_or_more_than_its_ceiling(made: list[Claim], budget: int) -> None:
    for claim, granted in zip(made, divide(budget, made), strict=True):
        assert claim.guarantee <= granted <= claim.ceiling


@given(many, budgets)
def test_nothing_lies_idle_while_somebody_could_take_it(made: list[Claim], budget: int) -> None:
    granted = divide(budget, made)
    if sum(claim.ceiling for claim in made) > budget >= sum(claim.guarantee for claim in made):
        assert budget - sum(granted) <= len(made)  # a byte each is lost to rounding


@given(many, budgets)
def test_needs_come_before_floors_floors_before_wants_and_wants_before_surplus(
    made: list[Claim], budget: int
) -> None:
    granted = divide(budget, made)
    if any(got > claim.need for got, claim in zip(granted, made, strict=True)):
        assert all(got >= claim.need for got, claim in zip(granted, made, strict=True))
    if any(got > claim.want for got, claim in zip(granted, made, strict=True)):
        assert all(got >= claim.want for got, claim in zip(granted, made, strict=True))
    if any(got > claim.floor for got, claim in zip(granted, made, strict=True)):
        assert all(got >= claim.floor for got, claim in zip(granted, made, strict=True))


@given(many, budgets, st.integers(min_value=0, max_value=8 * GIB))
def test_a_larger_budget_takes_from_nobody(made: list[Claim], budget: int, more: int) -> None:
    for before, after in zip(divide(budget, made), divide(budget + more, made), strict=True):
        assert after >= before - 1


@given(many, budgets, st.integers(min_value=1, max_value=10_000))
def test_more_shares_never_yield_less(made: list[Claim], budget: int, more: int) -> None:
    richer = [replace(made[0], shares=made[0].shares + more), *made[1:]]
    assert divide(budget, richer)[0] >= divide(budget, made)[0] - 1


@given(many, budgets, sizes)
def test_a_larger_want_never_yields_less(made: list[Claim], budget: int, more: int) -> None:
    first = made[0]
    hungrier = [replace(first, want=min(first.want + more, first.ceiling)), *made[1:]]
    assert divide(budget, hungrier)[0] >= divide(budget, made)[0] - 1


@given(many, budgets, st.randoms(use_true_random=False))
def test_the_order_of_guests_changes_nothing(made: list[Claim], budget: int, random: object) -> None:
    order = list(range(len(made)))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis types its Random as object
    granted = divide(budget, made)
    shuffled = divide(budget, [made[i] for i in order])
    assert all(abs(shuffled[place] - granted[i]) <= 1 for place, i in enumerate(order))
