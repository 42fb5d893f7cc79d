"""What would VMware ESX do, with shares and an idle tax of 75 %?

Memory is taken from whoever pays least for it: the smallest rho = S / (P (f + k (1 - f))), k = 1 / (1 - tax), with
S shares, P memory and f the active part (Waldspurger, OSDI 2002, 5.2). Taken to its end, that leaves all guests
with the same rho unless a limit holds them, which is what is computed here.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balloond.sim.peers.sight import Array, Sight
from balloond.units import GIB, MIB

IDLE_TAX: Final = 0.75
FREE_BASE: Final = 899 * MIB
FREE_SHARE: Final = 0.01  # of memory above FREE_BASE_UP_TO
FREE_BASE_UP_TO: Final = 28 * GIB
"""ESXi 6's minFree, which is kept free; with less it would balloon, compress, swap and block, in this order."""


class Esx:
    """`minimum` is a share of each guest's maximum. Shares are a guest's size, as ESX gives them by default."""

    def __init__(self, minimum: float) -> None:
        self._minimum = minimum

    def targets(self, sight: Sight) -> Array:
        active = np.clip(1 - sight.usable / np.maximum(1.0, sight.actual), 0.0, 1.0)
        return rule(
            total=sight.total,
            active=active,
            minimum=np.floor(self._minimum * sight.maximum),
            maximum=sight.maximum,
        )


def rule(*, total: Array, active: Array, minimum: Array, maximum: Array) -> Array:
    """The targets where all rho are equal within the guests' limits. `active`: each guest's f, 0 to 1."""
    cost = active + (1 - active) / (1 - IDLE_TAX)
    weight = maximum / cost
    kept = FREE_BASE + FREE_SHARE * np.maximum(0.0, total - FREE_BASE_UP_TO)
    return _level(total - kept, weight, minimum, maximum)


def _level(budget: Array, weight: Array, minimum: Array, maximum: Array) -> Array:
    """weight times one level, within the limits, in sum the budget; the minima where even those are more.

    The sum grows with the level in straight pieces between the levels at which some guest meets a limit."""
    bends = np.concatenate([minimum / weight, maximum / weight], axis=-1)
    turns = np.concatenate([weight, -weight], axis=-1)
    order = np.argsort(bends, axis=-1, kind="stable")
    bends = np.take_along_axis(bends, order, axis=-1)
    slope = np.cumsum(np.take_along_axis(turns, order, axis=-1), axis=-1)
    pieces = slope[..., :-1] * np.diff(bends, axis=-1)
    lowest = minimum.sum(axis=-1, keepdims=True)
    sums = lowest + np.concatenate([np.zeros_like(lowest), np.cumsum(pieces, axis=-1)], axis=-1)
    piece = np.maximum(0, (sums <= budget).sum(axis=-1, keepdims=True) - 1)
    begins, had, steep = (np.take_along_axis(a, piece, axis=-1) for a in (bends, sums, slope))
    level = begins + np.maximum(0.0, budget - had) / np.maximum(1.0, steep)
    return np.asarray(np.floor(np.minimum(np.maximum(level * weight, minimum), maximum)), dtype=np.float64)
