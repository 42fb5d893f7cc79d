"""What did the guests of one host have over time? Kept at as many points as can be drawn, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from balloond.sim.trace import STEP_S, Array, Worlds
from balloond.units import MIB

POINTS: Final = 240
"""Points of a drawn history: a screen shows no more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """What the guests of one host had over time, in whole MiB."""

    host: int
    every_s: float
    actual: npt.NDArray[np.int64]  # [point, guest]
    wanted: npt.NDArray[np.int64]


class Draughtsman:
    """Looks at one host of `worlds`, at points in equal distances. `named`: the number that it is told by."""

    def __init__(self, worlds: Worlds, host: int, named: int) -> None:
        self._host, self._named = host, named
        self._every = max(1, worlds.steps // POINTS)
        self._actual: list[Array] = []
        self._wanted: list[Array] = []

    def look(self, step: int, wanted: Array, actual: Array) -> None:
        if step % self._every == 0:
            self._actual.append(actual[self._host])
            self._wanted.append(wanted[self._host])

    def history(self) -> History:
        return History(
            host=self._named,
            every_s=self._every * STEP_S,
            actual=(np.array(self._actual) / MIB).astype(np.int64),
            wanted=(np.array(self._wanted) / MIB).astype(np.int64),
        )
