"""What becomes of a simulated world under balloond?

Turns the handle of the real loop over a simulated world, starts the daemon again when it was killed, keeps
witness of every turn and sums up what guests lacked. Whatever happens in it follows from the world that it is
given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from balloond.config.settings import Config
from balloond.loop import pause_s, turn
from balloond.model import Tick
from balloond.sim.invariants import Breach, Witness
from balloond.sim.world import DaemonKilledError, SimWorld
from balloond.units import GIB

RESTART_S: Final = 10.0


@dataclass(slots=True, kw_only=True)
class ScenarioWorld:
    """A world, how it is to be managed, and for how long."""

    name: str
    world: SimWorld
    config: Config
    duration_s: float
    step_s: float  # simulated seconds between two turns that are in no hurry
    steady_from_s: float = float("inf")  # from when on all demand is steady and no fault is left
    title: str = ""


@dataclass(slots=True, kw_only=True)
class Story:
    """What became of it."""

    breaches: tuple[Breach, ...] = ()
    ticks: int = 0
    restarts: int = 0
    still: bool = True  # whether nothing moved any more, ten minutes after demand became steady
    targets_set: int = 0  # that guests were really asked for
    flips: int = 0  # changes of a guest's direction
    short_gib_s: dict[str, float] = field(default_factory=dict)  # memory lacked, by guest's name
    host_swapped_most: float = 0.0
    oom_kills: int = 0
    digest: str = ""  # of every tick: the same seed gives the same
    last: Tick | None = None


@dataclass(slots=True, kw_only=True)
class Moves:
    """Counts what guests were really asked for: not what was decided only, or failed."""

    targets_set: int = 0
    flips: int = 0
    _grew: dict[str, bool] = field(default_factory=dict)

    def count(self, world: SimWorld) -> None:
        """What was carried out since the world was last looked at."""
        for action in world.carried_out:
            grows = action.target > action.actual
            self.targets_set += 1
            self.flips += self._grew.get(action.uuid, grows) is not grows
            self._grew[action.uuid] = grows


Watcher = Callable[[SimWorld, Tick], None]


def play(scenario: ScenarioWorld, *, digest: bool = False, watcher: Watcher | None = None) -> Story:
    """Plays it to its end. `watcher` is told of each sealed tick; a killed daemon is away for RESTART_S."""
    world, config = scenario.world, scenario.config
    witness = Witness(config=config, world=world, steady_from_s=scenario.steady_from_s)
    story = Story(short_gib_s={guest.name: 0.0 for guest in world.guests})
    hasher = blake2b(digest_size=16)
    moves = Moves()
    tick: Tick | None = None
    away_until_s = 0.0
    while world.now_s + (step_s := _pause_s(scenario, tick)) <= scenario.duration_s:
        world.advance(step_s)
        _sum_up(story, world, step_s)
        witness.before()
        if world.now_s < away_until_s:
            continue
        try:
            tick = turn(config, tick, world)
        except DaemonKilledError:
            moves.count(world)
            witness.after(None)
            world.begin_anew()
            tick, away_until_s = None, world.now_s + RESTART_S
            story.restarts += 1
            continue
        witness.after(tick)
        story.ticks += 1
        moves.count(world)
        if digest:
            hasher.update(repr(tick).encode())
        if watcher is not None:
            watcher(world, tick)
    story.targets_set, story.flips = moves.targets_set, moves.flips
    story.still = witness.still
    story.breaches = tuple(witness.breaches)
    story.oom_kills = world.host.oom_kills
    story.digest = hasher.hexdigest() if digest else ""
    story.last = tick
    return story


def _pause_s(scenario: ScenarioWorld, tick: Tick | None) -> float:
    return pause_s(scenario.step_s, 0.0, hurry=tick is not None and tick.decision.hurry)


def _sum_up(story: Story, world: SimWorld, elapsed_s: float) -> None:
    for guest in world.guests:
        if guest.running and guest.short > 0:
            story.short_gib_s[guest.name] += guest.short / GIB * elapsed_s
    story.host_swapped_most = max(story.host_swapped_most, world.host.swapped)
