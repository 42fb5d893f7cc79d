"""What would Qubes' qmemman do?

Each guest prefers 1.3 times what it uses. While all preferences fit, everything is divided in proportion to them;
otherwise those above theirs give and those below get. Memory is handed out to the last 50 MiB.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balloond.sim.peers.sight import Array, Sight
from balloond.units import MIB

PREFERRED: Final = 1.3  # of used memory
PREFERRED_LEAST: Final = 200 * MIB
KEPT: Final = 50 * MIB  # of the host's memory stay free
TRANSFER_LEAST: Final = 150 * MIB  # in sum; less is not worth a turn
RELIEF_LEAST: Final = 15 * MIB  # unless a guest below its preference gains so much
DONATION_LEAST: Final = 10 * MIB  # less is not asked of a donor while memory is low
ROUNDING: Final = 0.999  # of each part is handed out, against errors of rounding


class Qmemman:
    """Acts at each step: its guests report by themselves. Its 'used' is what is neither unused nor cache."""

    def __init__(self) -> None:
        self._asked: Array | None = None
        self._before: Array | None = None

    def targets(self, sight: Sight) -> Array:
        used = np.maximum(0.0, sight.actual - np.maximum(sight.usable, sight.unused + sight.caches))
        moving = self._moving(sight.actual)
        target = rule(
            total=sight.total, used=used, current=sight.actual, maximum=sight.maximum, counted=moving
        )
        self._asked, self._before = target, sight.actual
        return target

    def _moving(self, actual: Array) -> np.typing.NDArray[np.bool_]:
        """Who follows what it was asked; a guest without progress is left out."""
        if self._asked is None or self._before is None or self._asked.shape != actual.shape:
            return np.ones_like(actual, dtype=bool)
        return np.asarray((actual == self._asked) | (actual != self._before), dtype=bool)


def rule(
    *, total: Array, used: Array, current: Array, maximum: Array, counted: np.typing.NDArray[np.bool_]
) -> Array:
    """The targets of one turn; growth beyond what is free waits for the donors."""
    preferred = np.maximum(np.minimum(PREFERRED * used, maximum), PREFERRED_LEAST)
    preferred = np.where(counted, np.minimum(preferred, maximum), 0.0)
    free = total - KEPT - current.sum(axis=-1, keepdims=True)
    missing = np.where(counted, preferred - current, 0.0)
    left = free - missing.sum(axis=-1, keepdims=True)
    target = np.where(left > 0, _enough(left, preferred, maximum), _low(free, missing, preferred, current))
    target = np.where(counted, np.floor(target), current)
    return np.where(_worth(target, current, preferred), _donors_first(target, current, free), current)


def _enough(left: Array, preferred: Array, maximum: Array) -> Array:
    """Preferences, and what is left in proportion to them; what one can't take goes in equal parts to the rest."""
    whole = np.maximum(1.0, preferred.sum(axis=-1, keepdims=True))
    target = np.floor(ROUNDING * (preferred + left * preferred / whole))
    beyond = np.maximum(0.0, target - maximum).sum(axis=-1, keepdims=True)
    target = np.minimum(target, maximum)
    for _ in range(preferred.shape[-1]):
        takes = (target < maximum) & (preferred > 0)
        part = np.floor(ROUNDING * beyond / np.maximum(1, takes.sum(axis=-1, keepdims=True)))
        if not (part * takes).any():
            break
        target = np.where(takes, target + part, target)
        beyond = np.where(takes, np.maximum(0.0, target - maximum), 0.0).sum(axis=-1, keepdims=True)
        target = np.minimum(target, maximum)
    return np.asarray(target, dtype=np.float64)


def _low(free: Array, missing: Array, preferred: Array, current: Array) -> Array:
    """Donors go to their preference; what that yields is divided among the others in proportion to theirs."""
    gives = missing <= -DONATION_LEAST
    squeezed = free + np.where(gives, -missing, 0.0).sum(axis=-1, keepdims=True)
    gets = missing > 0
    whole = np.where(gets, preferred, 0.0).sum(axis=-1, keepdims=True)
    part = np.maximum(0.0, squeezed) * preferred / np.maximum(1.0, whole)
    grown = np.floor(ROUNDING * (current + part))
    return np.where(gives, preferred, np.where(gets & (squeezed >= 0), np.maximum(grown, current), current))


def _worth(target: Array, current: Array, preferred: Array) -> np.typing.NDArray[np.bool_]:
    """Whether a host's turn is worth its trouble [host, 1]."""
    moved = np.abs(target - current).sum(axis=-1, keepdims=True) > TRANSFER_LEAST
    relief = ((current < preferred) & (target - current > RELIEF_LEAST)).any(axis=-1, keepdims=True)
    return np.asarray(moved | relief, dtype=bool)


def _donors_first(target: Array, current: Array, free: Array) -> Array:
    """It waits for its donors within a turn, for seconds; so growth may use what they give in the same step."""
    given = np.maximum(0.0, current - target).sum(axis=-1, keepdims=True)
    growth = np.maximum(0.0, target - current)
    room = np.maximum(0.0, free + given) / np.maximum(1.0, growth.sum(axis=-1, keepdims=True))
    return np.where(target > current, np.floor(current + np.minimum(1.0, room) * growth), target)
