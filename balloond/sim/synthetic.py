"""What would machines want if there is no trace at hand?

Four kinds of machines that overcommitted hosts meet, drawn from a seed: those that follow the day, those that
burst, those that step from one level to another, and those that leak until they are restarted. The shapes are
made up, and sizes and mean use follow what providers publish; judge a policy by real traces where you have them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import numpy as np

from balloond.sim.trace import DAY_S, Array, Trace, trace_of

SLOT_S: Final = 300.0
"""As the Grid Workloads Archive's traces have it."""

CAPACITIES_GIB: Final = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Sizes that are sold, each twice the last; small ones are the most frequent."""

CAPACITY_WEIGHTS: Final = (0.3, 0.3, 0.2, 0.15, 0.05)

MACHINES: Final = 60
"""Three hosts' worth: enough to see worlds differ, and a minute's work."""


class Kind(enum.StrEnum):
    DIURNAL = "diurnal"
    BURSTY = "bursty"
    STEPS = "steps"
    LEAKS = "leaks"


def synthesize(days: float, *, seed: int, machines: int = MACHINES) -> Trace:
    """A trace of `machines`, the four kinds in turn; the same seed gives the same trace."""
    rng = np.random.default_rng(seed)
    slots = max(1, int(days * DAY_S / SLOT_S)) + 1
    capacity_gib = rng.choice(CAPACITIES_GIB, size=machines, p=CAPACITY_WEIGHTS)
    kinds = tuple(Kind)
    share = np.array([_SHAPES[kinds[i % len(kinds)]](rng, slots) for i in range(machines)])
    return trace_of(f"synthetic, seed {seed}", share * capacity_gib[:, None], capacity_gib, SLOT_S)


def _diurnal(rng: np.random.Generator, slots: int) -> Array:
    """A day's wave about a seventh of its memory, each machine with its own hour and a little noise."""
    day = np.arange(slots) * SLOT_S / DAY_S
    wave = rng.uniform(0.08, 0.2) + rng.uniform(0.03, 0.08) * np.sin(2 * np.pi * (day + rng.uniform()))
    return np.asarray(np.clip(wave + rng.normal(0, 0.01, slots), 0, 1), dtype=np.float64)


def _bursty(rng: np.random.Generator, slots: int) -> Array:
    """Little use, and now and then, some six times a day, a job of a few slots that takes half of its memory."""
    share = np.full(slots, rng.uniform(0.03, 0.1))
    for start in np.flatnonzero(rng.random(slots) < 6 * SLOT_S / DAY_S):
        share[start : start + rng.integers(1, 12)] += rng.uniform(0.2, 0.5)
    return np.asarray(np.clip(share, 0, 1), dtype=np.float64)


def _steps(rng: np.random.Generator, slots: int) -> Array:
    """A level that is kept for hours, then another."""
    levels = rng.uniform(0.05, 0.3, slots)
    changes = rng.random(slots) < 4 * SLOT_S / DAY_S
    changes[0] = True
    held = levels[np.maximum.accumulate(np.where(changes, np.arange(slots), 0))]
    return np.asarray(held, dtype=np.float64)


def _leaks(rng: np.random.Generator, slots: int) -> Array:
    """Use that grows without end, to half of its memory within one to four days, then a restart."""
    life = int(rng.uniform(1, 4) * DAY_S / SLOT_S)
    age = (np.arange(slots) + rng.integers(life)) % life
    return np.asarray(0.08 + 0.42 * age / life, dtype=np.float64)


_SHAPES: Final[dict[Kind, Callable[[np.random.Generator, int], Array]]] = {
    Kind.DIURNAL: _diurnal,
    Kind.BURSTY: _bursty,
    Kind.STEPS: _steps,
    Kind.LEAKS: _leaks,
}
