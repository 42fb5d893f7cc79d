"""What would oVirt's MOM do, with its default `balloon.rules`?

One threshold of free host memory decides for all guests: below it all shrink, above it all grow, by 5 % at most.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from balloond.sim.peers.sight import Array, Clock, Sight

PERIOD_S: Final = 10.0
SAMPLES: Final = 5
"""MOM collects every 5 s and averages ten samples, which cover 50 s: five of the simulated steps of 10 s. Ten of
them would let it act on older news than it does, and hand out up to 4 % more than the host has."""

PRESSURE: Final = 0.20  # of host memory free: below, guests shrink
CHANGE_MOST: Final = 0.05  # of a guest's size, in one turn
CHANGE_LEAST: Final = 0.0025  # of a guest's size: less is not worth a call
CRITICAL: Final = 0.05  # of host memory free: below, guests are left with nothing unused
GUEST_FREE: Final = 0.20  # of a guest's size that is to stay unused


class Mom:
    """`minimum` is 0: on plain libvirt MOM knows of no guaranteed memory."""

    def __init__(self) -> None:
        self._clock = Clock(PERIOD_S)
        self._free: deque[Array] = deque(maxlen=SAMPLES)
        self._used: deque[Array] = deque(maxlen=SAMPLES)

    def targets(self, sight: Sight) -> Array:
        """Takes a sample, and acts on the averages when its period is over."""
        if self._used and self._used[0].shape != sight.actual.shape:  # guests came or went: begin anew
            self._used.clear()
        self._free.append(sight.available / sight.total)
        self._used.append(sight.actual - sight.unused)
        if not self._clock.due(sight.now_s):
            return sight.actual
        return rule(
            free=sum(self._free, np.zeros(1)) / len(self._free),
            used=sum(self._used, np.zeros(1)) / len(self._used),
            current=sight.actual,
            maximum=sight.maximum,
        )


def rule(*, free: Array, used: Array, current: Array, maximum: Array) -> Array:
    """The targets by `balloon.rules`. `free`: the host's, as a share."""
    guest_free = np.where(free <= CRITICAL, np.maximum(0.0, free - CRITICAL), GUEST_FREE * free / PRESSURE)
    shrunk = np.maximum((1 - CHANGE_MOST) * current, used + guest_free * current)
    shrunk = np.where(shrunk <= current, shrunk, current)
    grown = np.minimum(maximum, np.maximum((1 + CHANGE_MOST) * current, used + GUEST_FREE * current))
    target = np.floor(np.where(free < PRESSURE, shrunk, grown))
    return np.where(np.abs(target - current) > CHANGE_LEAST * current, target, current)
