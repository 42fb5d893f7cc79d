"""Who gets what, when there is only so much?

Want first, then water-filling. While the wants fit, everybody has its want and the rest is divided by shares,
with an idle tax on that surplus alone (an idle tax as the main divider does harm: see docs/benchmark.md). Where
they don't, everybody has its floor and the rest goes by shares up to the wants; where floors don't fit, needs and
guarantees take their place in the same way. So the division is feasible, work-conserving, monotone in want, shares
and budget, and blind to order.

Water-filling is max-min fairness with weights (Bertsekas and Gallager, Data Networks, 6.5.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from balloond.value import value

BUSY_WEIGHT: Final = 0.75
"""An idle page is taxed by 75 % (Waldspurger, OSDI 2002, 5.2): a wholly idle guest's shares count a quarter."""


@value
class Claim:
    """What one guest brings to the division; bytes, with guarantee <= need <= floor <= want <= ceiling."""

    guarantee: int
    need: int
    floor: int
    want: int
    ceiling: int
    shares: int
    busy: float  # its working set as a share of its memory, 0 to 1


def divide(budget: int, claims: Sequence[Claim]) -> tuple[int, ...]:
    """Each claim's entitlement in bytes, in the same order. Their sum is at most `budget` unless the guarantees
    alone are more, which are then granted all the same: whoever promised them is told elsewhere."""
    levels = (
        [c.guarantee for c in claims],
        [c.need for c in claims],
        [c.floor for c in claims],
        [c.want for c in claims],
        [c.ceiling for c in claims],
    )
    for lower, upper in pairwise(levels):
        room = budget - sum(lower)
        if room <= 0:
            return tuple(lower)
        if sum(upper) <= budget:
            continue
        surplus = upper is levels[-1]
        weights = [c.shares * (1 - BUSY_WEIGHT + BUSY_WEIGHT * c.busy if surplus else 1.0) for c in claims]
        return _fill(room, lower, upper, weights)
    return tuple(levels[-1])


def _fill(room: int, lower: Sequence[int], upper: Sequence[int], weights: Sequence[float]) -> tuple[int, ...]:
    """`lower` and a part of `room` each, by weight, nobody above `upper`. The parts are weight times one level,
    found by passing the claims in the order in which they are full."""
    order = sorted(range(len(lower)), key=lambda i: (upper[i] - lower[i]) / weights[i])
    left, weight = float(room), float(sum(weights))
    level = 0.0
    for i in order:
        full = (upper[i] - lower[i]) / weights[i]
        if full * weight >= left:
            level = left / weight
            break
        left -= upper[i] - lower[i]
        weight -= weights[i]
        level = full
    return tuple(
        low + min(high - low, int(level * share))
        for low, high, share in zip(lower, upper, weights, strict=True)
    )
