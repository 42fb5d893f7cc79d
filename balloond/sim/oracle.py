"""What is the best that anyone could do?

Two bounds. The clairvoyant knows what is wanted now: only what exceeds the host is missing, the infeasible part.
The late oracle knows what was wanted a step ago, exactly and of everybody, and moves any amount at once: a policy
that learns of the world from statistics one step old can hardly beat it.
"""

from __future__ import annotations

import numpy as np

from balloond.sim.fleet import Look
from balloond.sim.trace import Array, Ramp, Worlds


def run_late(worlds: Worlds, overcommit: float, ramp: Ramp, look: Look) -> None:
    """Each step has what the wants of the step before entitle to, the first step those of its own."""
    total = worlds.totals(overcommit)
    before: Array | None = None
    step = 0
    for block in worlds.blocks(ramp):
        first = block[0] if before is None else before
        known = np.concatenate([first[None], block[:-1]])
        for wanted, actual in zip(block, entitle(total, known, worlds.capacity), strict=True):
            look(step, wanted, actual)
            step += 1
        before = block[-1]


def run_clairvoyant(worlds: Worlds, overcommit: float, ramp: Ramp, look: Look) -> None:
    """Each step has what is wanted in it, and where that is too much, as much of it as there is."""
    total = worlds.totals(overcommit)
    step = 0
    for block in worlds.blocks(ramp):
        for wanted, actual in zip(block, entitle(total, block, worlds.capacity), strict=True):
            look(step, wanted, np.minimum(actual, wanted))
            step += 1


def entitle(total: Array, wanted: Array, capacity: Array) -> Array:
    """Everybody's want and an equal part of the rest, nobody above its capacity; where the wants are more than
    there is, everybody's want up to one level. [step, host, guest] of totals [host]; whole bytes."""
    fits = wanted.sum(axis=-1, keepdims=True) <= total[:, None]
    lower = np.where(fits, wanted, 0.0)
    upper = np.where(fits, np.broadcast_to(capacity, wanted.shape), wanted)
    return np.floor(_fill(total[:, None], lower, upper))


def _fill(budget: Array, lower: Array, upper: Array) -> Array:
    """Water-filling: `lower` and an equal part of what is left of the budget each, nobody above `upper`.

    The level is found by passing the guests in the order in which they are full (Bertsekas and Gallager, Data
    Networks, 6.5.2)."""
    gap = np.sort(upper - lower, axis=-1)
    count = gap.shape[-1]
    room = np.broadcast_to(budget, (*lower.shape[:-1], 1)) - lower.sum(axis=-1, keepdims=True)
    full_before = np.cumsum(gap, axis=-1) - gap
    left = count - np.arange(count)
    filled = (full_before + gap * left < room).sum(
        axis=-1, keepdims=True
    )  # guests that get all they can take
    next_ = np.minimum(filled, count - 1)
    level = (room - np.take_along_axis(full_before, next_, axis=-1)) / (count - next_)
    return np.where(filled == count, upper, np.minimum(upper, lower + np.maximum(0.0, level)))
