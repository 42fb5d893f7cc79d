"""How does balloond itself go on over a trace?

Through the very loop of the daemon, on a simulated world whose guests want what the trace says. What it knows of
them is what it observes, a step old when it takes effect.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from balloond.config.settings import Config
from balloond.loop import HURRY, turn
from balloond.model import Tick
from balloond.sim import fleet
from balloond.sim.guest import SimGuest, Voice, Wish
from balloond.sim.trace import STEP_S, Ramp, Worlds
from balloond.sim.world import SimHost, SimWorld

HURRIED: Final = 1
"""How many more looks the daemon takes in a step while somebody waits for memory that others are about to give. It
finds the memory there and the statistics as old as before; a peer that waits for its donors does likewise."""


def run(config: Config, worlds: Worlds, overcommit: float, ramp: Ramp, look: fleet.Look) -> None:
    """The loop on a simulated world for the first host of `worlds`."""
    now = [0.0] * worlds.machines.shape[1]
    world = make_world(worlds, overcommit, now)
    tick: Tick | None = None
    step, begins_s = 0, world.now_s
    for block in worlds.blocks(ramp):
        for wanted in block:
            now[:] = wanted[0].tolist()
            live(world, begins_s + STEP_S * (step + 1) - world.now_s)
            look(step, wanted, np.array([[guest.actual for guest in world.guests]]))
            tick = turn(config, tick, world)
            for _ in range(HURRIED if tick.decision.hurry else 0):
                live(world, HURRY * STEP_S)
                tick = turn(config, tick, world)
            step += 1


def make_world(worlds: Worlds, overcommit: float, now: list[float]) -> SimWorld:
    """The first host of `worlds` as a simulated world, whose guests want what stands in `now`."""
    guests = [
        SimGuest(
            uuid=f"{number:04}",
            name=f"machine-{machine}",
            maximum=int(capacity),
            actual=float(begins),
            workload=partial(_wants, now, number),
            swap=float(capacity),
            voice=Voice(period_s=STEP_S),
        )
        for number, (machine, capacity, begins) in enumerate(
            zip(worlds.machines[0], worlds.capacity[0], fleet.start(worlds, overcommit)[0], strict=True)
        )
    ]
    return SimWorld(host=SimHost(total=int(worlds.totals(overcommit)[0])), guests=guests)


def _wants(now: list[float], number: int, now_s: float) -> Wish:
    return Wish(now[number])


def live(world: SimWorld, elapsed_s: float) -> None:
    """Some seconds of traced guests. Each touches all that it gets: its kernel fills it with page cache."""
    for guest in world.guests:
        guest.resident = guest.maximum
    world.advance(elapsed_s)
