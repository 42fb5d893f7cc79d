"""What would Proxmox VE's auto-ballooning (`pvestatd`) do?

It keeps the host 80 % full: what is missing to that is given to guests under pressure first, what is too much is
taken from comfortable guests first, by shares, 100 MiB a guest a round.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from balloond.sim.peers.sight import Array, Clock, Sight
from balloond.units import MIB

PERIOD_S: Final = 10.0
FULL: Final = 0.80  # of host memory: the goal
IGNORED: Final = 10 * MIB  # so near the goal nothing is done
CHANGE_MOST: Final = 100 * MIB  # a guest a round
COMFORTABLE: Final = 0.25  # of its minimum that a guest has free

Mask = npt.NDArray[np.bool_]


class Proxmox:
    """`minimum` is a share of each guest's maximum: Proxmox leaves guests without a minimum alone."""

    def __init__(self, minimum: float) -> None:
        self._minimum = minimum
        self._clock = Clock(PERIOD_S)

    def targets(self, sight: Sight) -> Array:
        if not self._clock.due(sight.now_s):
            return sight.actual
        return rule(
            goal=np.floor(FULL * sight.total - (sight.total - sight.available)),
            free=sight.unused,
            current=sight.actual,
            minimum=np.floor(self._minimum * sight.maximum),
            maximum=sight.maximum,
        )


def rule(*, goal: Array, free: Array, current: Array, minimum: Array, maximum: Array) -> Array:
    """The targets for a goal [host, 1] in bytes: to be given, or, below 0, to be taken. Shares are equal."""
    comfortable = (free > COMFORTABLE * minimum) & (current >= minimum)
    first = np.where(goal > 0, ~comfortable, comfortable)
    goal = np.where(np.abs(goal) > IGNORED, goal, 0.0)
    target = _spread(goal, first, current, minimum, maximum)
    moved = (target != current).any(axis=-1, keepdims=True)
    everybody = np.ones_like(first)
    return np.where(moved, target, _spread(goal, everybody, current, minimum, maximum))


def _spread(goal: Array, among: Mask, current: Array, minimum: Array, maximum: Array) -> Array:
    """Passes over those not yet at a limit until nothing moves: each gets its minimum and an equal part of all
    that is above the minima with the goal added, within its limits, and never against the goal's direction."""
    low = np.where(goal < 0, np.maximum(minimum, current - CHANGE_MOST), current)
    high = np.where(goal > 0, np.minimum(maximum, current + CHANGE_MOST), current)
    low, high = np.minimum(low, current), np.maximum(high, current)
    target, rest, open_ = current, goal, among & (goal != 0)
    for _ in range(current.shape[-1]):
        count = open_.sum(axis=-1, keepdims=True)
        if not count.any():
            break
        above = np.where(open_, target - minimum, 0.0).sum(axis=-1, keepdims=True) + rest
        desired = minimum + np.floor(above / np.maximum(1, count))
        new = np.where(open_, np.clip(desired, low, high), target)
        rest = rest - (new - target).sum(axis=-1, keepdims=True)
        limited = open_ & (new != desired)
        open_ = open_ & ~limited & limited.any(axis=-1, keepdims=True) & (np.abs(rest) > 0)
        target = new
    return target
