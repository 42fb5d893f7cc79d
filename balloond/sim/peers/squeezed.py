"""What would XAPI's squeezed do?

It divides what the minima leave in proportion to each guest's range, whatever the guest uses: all guests stand at
the same part gamma of their range. It gives only what is free, and counts on nobody who makes no progress.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balloond.sim.peers.sight import Array, Clock, Sight
from balloond.units import MIB

PERIOD_S: Final = 10.0
KEPT: Final = 72 * MIB  # of the host's memory stay free


class Squeezed:
    """`minimum` is a share of each guest's maximum: squeezed's dynamic range."""

    def __init__(self, minimum: float) -> None:
        self._minimum = minimum
        self._clock = Clock(PERIOD_S)
        self._asked: Array | None = None
        self._before: Array | None = None

    def targets(self, sight: Sight) -> Array:
        if not self._clock.due(sight.now_s):
            return sight.actual
        asked, before = self._asked, self._before
        if asked is None or before is None or asked.shape != sight.actual.shape:
            active = np.ones_like(sight.actual, dtype=bool)
        else:  # its 5 s without progress are over with any period
            active = (sight.actual == asked) | (sight.actual != before)
        target = rule(
            total=sight.total,
            current=sight.actual,
            minimum=np.floor(self._minimum * sight.maximum),
            maximum=sight.maximum,
            active=active,
        )
        self._asked, self._before = target, sight.actual
        return target


def rule(
    *, total: Array, current: Array, minimum: Array, maximum: Array, active: np.typing.NDArray[np.bool_]
) -> Array:
    """The targets. What is free now is all that may be granted now; shrinking makes room for the next turn."""
    lowest = np.where(active, minimum, current)
    highest = np.where(active, maximum, current)
    width = (highest - lowest).sum(axis=-1, keepdims=True)
    surplus = total - KEPT - lowest.sum(axis=-1, keepdims=True)
    gamma = np.clip(surplus / np.maximum(1.0, width), 0.0, 1.0)
    target = np.floor(lowest + gamma * (highest - lowest))
    free = np.maximum(0.0, total - KEPT - current.sum(axis=-1, keepdims=True))
    growth = np.maximum(0.0, target - current)
    granted = np.minimum(1.0, free / np.maximum(1.0, growth.sum(axis=-1, keepdims=True)))
    grown = np.floor(current + granted * growth)
    return np.asarray(np.where(target > current, grown, target), dtype=np.float64)
