"""Who gets what, on divisions that can be done by hand."""

from __future__ import annotations

from balloond.policy.allocate import Claim, divide
from balloond.units import GIB


def claim(*levels: int, shares: int = 1, busy: float = 1.0) -> Claim:
    """Guarantee, need, floor, want and ceiling."""
    guarantee, need, floor, want, ceiling = levels
    return Claim(
        guarantee=guarantee,
        need=need,
        floor=floor,
        want=want,
        ceiling=ceiling,
        shares=shares,
        busy=busy,
    )


TWO = (claim(100, 200, 300, 400, 800), claim(100, 200, 300, 600, 800, shares=3))


def test_guarantees_are_granted_whatever_the_budget() -> None:
    assert divide(0, TWO) == divide(199, TWO) == divide(200, TWO) == (100, 100)


def test_between_two_levels_everybody_has_the_lower_and_shares_divide_the_rest() -> None:
    assert divide(240, TWO) == (110, 130)
    assert divide(440, TWO) == (210, 230)
    assert divide(640, TWO) == (310, 330)


def test_a_level_that_fits_is_granted_in_full() -> None:
    assert divide(400, TWO) == (200, 200)
    assert divide(600, TWO) == (300, 300)
    assert divide(1000, TWO) == (400, 600)
    assert divide(1600, TWO) == divide(9999, TWO) == (800, 800)


def test_whoever_is_full_leaves_the_rest_to_the_others() -> None:
    assert divide(340, TWO) == (140, 200)
    assert divide(980, TWO) == (395, 585)
    three = (claim(0, 0, 0, 10, 10), claim(0, 0, 0, 50, 50), claim(0, 0, 0, 100, 100, shares=2))
    assert divide(100, three) == (10, 30, 60)
    assert divide(155, three) == (10, 48, 96)


def test_idle_memory_is_taxed_by_three_quarters_in_the_surplus_and_nowhere_else() -> None:
    idle, busy = claim(0, 100, 100, 200, 900, busy=0.0), claim(0, 100, 100, 200, 900)
    assert divide(100, (idle, busy)) == (50, 50)
    assert divide(300, (idle, busy)) == (150, 150)
    assert divide(900, (idle, busy)) == (300, 600)
    half = claim(0, 100, 100, 200, 900, busy=0.5)
    assert divide(725, (half, busy)) == (325, 400)


def test_where_shares_differ_a_millionfold_rounding_costs_a_few_bytes() -> None:
    """Nobody gets more than its ceiling for it, and targets are whole MiB."""
    rich = (
        claim(0, 0, 0, 0, 22 * GIB, shares=1_000_000, busy=0.01),
        claim(0, 0, 0, 0, 59 * GIB, shares=1_000_000, busy=0.22),
    )
    poor = claim(0, 0, 0, 0, 36 * GIB, busy=0.5)
    assert divide(117 * GIB - 3, (*rich, poor)) == (22 * GIB, 59 * GIB, 36 * GIB)


def test_nobody_at_all_is_granted_nothing() -> None:
    assert divide(0, ()) == divide(100, ()) == ()
