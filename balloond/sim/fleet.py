"""How do all hosts of a trace go on at once, under rules that are arithmetic on arrays?

What `sim.guest` and `sim.world` do, for the plain guests of a trace, in closed form: an honest driver that speaks
every step, own swap, a balloon that follows within a step. What a guest gets it touches, as its kernel fills
memory with page cache; so all that was handed out is gone from the host's available memory. A test holds the two
against each other, byte for byte. Policies with more than arithmetic, balloond first, run on `sim.world` itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from balloond.sim.peers.sight import Peer, Sight
from balloond.sim.score import Meter
from balloond.sim.trace import STEP_S, Array, Ramp, Worlds

Look = Callable[[int, Array, Array], None]
"""Is shown each step's number, and what was wanted and had [host, guest]."""


def start(worlds: Worlds, overcommit: float) -> Array:
    """Everybody's equal part of the host, by its capacity: whole bytes [host, guest]."""
    return np.floor(worlds.capacity / overcommit)


def run(peer: Peer, worlds: Worlds, overcommit: float, ramp: Ramp, look: Look) -> None:
    """The peer on all worlds. It decides at the end of each step, on that step's statistics; the next step
    has what it decided."""
    total = worlds.totals(overcommit)
    actual = asked = start(worlds, overcommit)
    step = 0
    for block in worlds.blocks(ramp):
        for wanted in block:
            if asked is not actual:
                actual = np.clip(asked, 0.0, worlds.capacity)
            served = np.minimum(wanted, actual)
            look(step, wanted, actual)
            step += 1
            free = actual - served
            asked = peer.targets(
                Sight(
                    now_s=step * STEP_S,
                    total=total[:, None],
                    available=np.maximum(0.0, total[:, None] - actual.sum(axis=1, keepdims=True)),
                    maximum=worlds.capacity,
                    actual=actual,
                    unused=free,
                    usable=free,
                    caches=np.zeros_like(free),
                )
            )


def measure(meter: Meter) -> Look:
    """A look that feeds the meter."""
    return lambda _, wanted, actual: meter.step(wanted, actual)
