"""What does the script do that is passed around among administrators?

Every 15 s it keeps each guest's usable memory between 25 and 35 % of what it has. It knows of no host and no
floor, so it hands out what is not there.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balloond.sim.peers.sight import Array, Clock, Sight

PERIOD_S: Final = 15.0
LOW: Final = 0.25
HIGH: Final = 0.35
AIM: Final = 0.30
"""The middle, where it puts a guest that left the two."""


class Script:
    def __init__(self) -> None:
        self._clock = Clock(PERIOD_S)

    def targets(self, sight: Sight) -> Array:
        if not self._clock.due(sight.now_s):
            return sight.actual
        return rule(usable=sight.usable, current=sight.actual, maximum=sight.maximum)


def rule(*, usable: Array, current: Array, maximum: Array) -> Array:
    """A guest outside of the band gets what makes its usable memory the middle of it."""
    outside = (usable < LOW * current) | (usable > HIGH * current)
    aimed = np.floor(np.minimum(maximum, (current - usable) / (1 - AIM)))
    return np.where(outside, aimed, current)
