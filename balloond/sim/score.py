"""How well was memory handed out?

Underprovision is memory that a guest's programs want and its balloon does not let them have, summed over time:
GiB·s a machine-day. Part of it nobody could have given, as more was wanted than the host has; the rest is the
excess, which a policy answers for. A Meter looks at every step of every policy in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np

from balloond.sim.trace import DAY_S, STEP_S, Array
from balloond.units import GIB

SETTLING_STEPS: Final = 10
"""Steps that are not scored: all policies begin with equal parts and need a moment to learn anything."""

FIRST_MINUTE_STEPS: Final = int(60 / STEP_S)
"""After these nobody may have handed out more than the host has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted on some hosts; tallies of disjoint hosts add up."""

    machine_days: float = 0.0
    shortage: float = 0.0  # byte-seconds
    flips: int = 0  # a guest that moves against its move before
    moves: int = 0
    moved: float = 0.0  # bytes, both ways
    overdrawn_steps: int = 0  # host-steps in which guests had more than the host has
    most_given: float = 0.0  # the largest share of its memory that a host had handed out
    waits: tuple[tuple[int, int], ...] = ()  # (steps, how many shortages of a guest lasted so long)

    def __add__(self, other: Tally) -> Tally:
        waits = Counter(dict(self.waits))
        waits.update(dict(other.waits))
        return Tally(
            machine_days=self.machine_days + other.machine_days,
            shortage=self.shortage + other.shortage,
            flips=self.flips + other.flips,
            moves=self.moves + other.moves,
            moved=self.moved + other.moved,
            overdrawn_steps=self.overdrawn_steps + other.overdrawn_steps,
            most_given=max(self.most_given, other.most_given),
            waits=tuple(sorted(waits.items())),
        )

    @property
    def shortage_a_day(self) -> float:
        """U: GiB·s a machine-day."""
        return self.shortage / GIB / self.machine_days if self.machine_days else 0.0

    def a_day(self, amount: float) -> float:
        """An amount per machine-day."""
        return amount / self.machine_days if self.machine_days else 0.0

    def wait_s(self, share: float) -> float | None:
        """The time in which so large a share of all shortages was over; None: there was none."""
        left = share * sum(count for _, count in self.waits)
        for steps, count in self.waits:
            left -= count
            if left <= 0:
                return steps * STEP_S
        return None


def add_up(tallies: Iterable[Tally]) -> Tally:
    return reduce(Tally.__add__, tallies, Tally())


class Meter:
    """Looks at hosts step by step. `total` [host] and `start` [host, guest], in bytes."""

    def __init__(self, total: Array, start: Array) -> None:
        self._total = total
        self._actual = start
        self._direction = np.zeros(start.shape, dtype=np.int8)
        self._short_for = np.zeros(start.shape, dtype=np.int64)
        self._waiting = False
        self._steps = 0
        self._shortage = 0.0
        self._flips = self._moves = self._overdrawn = 0
        self._moved = self._most = 0.0
        self._waits: Counter[int] = Counter()

    def step(self, wanted: Array, actual: Array) -> None:
        """Takes note of one step [host, guest] in bytes: what was wanted during it, and what there was."""
        scored = self._steps >= SETTLING_STEPS
        if self._steps >= FIRST_MINUTE_STEPS:
            given = actual.sum(axis=1)
            self._overdrawn += int((given > self._total).sum())
            self._most = max(self._most, float((given / self._total).max()))
        self._note_moves(actual, scored)
        if scored:
            self._note_shortage(wanted - actual)
        self._actual = actual
        self._steps += 1

    def tally(self) -> Tally:
        """The sums so far; shortages that are not over count as long as they have lasted."""
        waits = self._waits + Counter(self._short_for[self._short_for > 0].tolist())
        return Tally(
            machine_days=self._actual.size * self._steps * STEP_S / DAY_S,
            shortage=self._shortage * STEP_S,
            flips=self._flips,
            moves=self._moves,
            moved=self._moved,
            overdrawn_steps=self._overdrawn,
            most_given=self._most,
            waits=tuple(sorted(waits.items())),
        )

    def _note_moves(self, actual: Array, scored: bool) -> None:
        if actual is self._actual:
            return
        change = actual - self._actual
        moving = change != 0
        count = int(np.count_nonzero(moving))
        if not count:
            return
        direction = np.sign(change).astype(np.int8)
        if scored:
            self._moves += count
            self._moved += float(np.abs(change).sum())
            self._flips += int(np.count_nonzero(direction * self._direction < 0))
        self._direction = np.where(moving, direction, self._direction)

    def _note_shortage(self, lacking: Array) -> None:
        short = lacking > 0
        if short.any():
            self._shortage += float(lacking[short].sum())
        elif not self._waiting:
            return
        over = self._short_for[~short & (self._short_for > 0)]
        self._waits.update(over.tolist())
        self._short_for = np.where(short, self._short_for + 1, 0)
        self._waiting = bool(short.any())
