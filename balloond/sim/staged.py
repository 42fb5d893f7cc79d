"""How do policies fare in a scenario, with all that goes wrong in it?

balloond is played with its witness; peers turn the same world's handle with their own rules. The scenario is made
anew for each, and all processors share them. Peers need numpy, balloond does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from balloond.model import Reason, SetTarget, Snapshot
from balloond.sim import processes
from balloond.sim.invariants import Breach
from balloond.sim.play import Moves, ScenarioWorld, play
from balloond.sim.policies import BALLOOND
from balloond.sim.world import DaemonKilledError, SimWorld
from balloond.units import GIB, MIB

POINTS: Final = 240
"""Points of a drawn history: more than that a screen cannot show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the guests had and wanted over time, in whole MiB, one row a point, guests in the world's order."""

    names: tuple[str, ...]
    every_s: float
    total: int  # the host's memory, MiB
    actual: tuple[tuple[int, ...], ...]
    wanted: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of a scenario under one policy."""

    policy: str
    shortage_gib_s: float  # memory that guests wanted and their balloons did not let them have
    worst_guest: str  # who lacked most; empty: nobody lacked anything
    flips: int  # a guest that is asked to move against its move before
    targets_set: int
    oom_kills: int
    host_swapped_most: int  # bytes
    breaches: tuple[Breach, ...] | None  # of balloond's promises; None: it promised nothing
    scene: Scene


Maker = Callable[[], ScenarioWorld]
"""Makes the scenario, each time anew."""

Progress = Callable[[int, int], None]
"""Is told how many of how many simulated minutes are over."""


def stage_all(
    makers: Mapping[str, Maker], *, jobs: int | None = None, progress: Progress = lambda done, of: None
) -> tuple[Ending, ...]:
    """The ending of each policy in the scenario that its maker makes, in their order. `jobs`: processes, one a
    processor by default; makers are pickled for them."""
    parts = list(makers.items())
    minutes = [ceil(make().duration_s / 60) for _, make in parts]
    jobs, of = processes.count(jobs, len(parts)), sum(minutes)
    progress(0, of)
    if jobs == 1:
        return tuple(_stage_here(parts, minutes, progress))
    endings: dict[int, Ending] = {}
    for number, ending in processes.each(_stage, parts, jobs=jobs):
        endings[number] = ending
        progress(sum(minutes[done] for done in endings), of)
    return tuple(endings[number] for number in range(len(parts)))


def _stage_here(
    parts: Sequence[tuple[str, Maker]], minutes: Sequence[int], progress: Progress
) -> Iterator[Ending]:
    """One after the other in this process, where each simulated minute can be told."""
    before, of = 0, sum(minutes)
    for (policy, make), own in zip(parts, minutes, strict=True):

        def watch(now_s: float, before: int = before) -> None:
            progress(before + int(now_s / 60), of)

        yield stage(make, policy, watch=watch)
        before += own
        progress(before, of)


def _stage(part: tuple[str, Maker]) -> Ending:
    policy, make = part
    return stage(make, policy)


def stage(make: Maker, policy: str, *, watch: Callable[[float], None] = lambda now_s: None) -> Ending:
    """One policy in the scenario that `make` makes, to its end. `watch` is told which simulated second it is."""
    scenario = make()
    painter = _Painter(scenario)

    def look(world: SimWorld) -> None:
        painter.look(world)
        watch(world.now_s)

    if policy == BALLOOND:
        story = play(scenario, watcher=lambda world, _: look(world))
        return _end(policy, painter, story.short_gib_s, story.flips, story.targets_set, story.breaches)
    actor = Actor(policy)
    world, step_s = scenario.world, scenario.step_s
    short = {guest.name: 0.0 for guest in world.guests}
    while world.now_s + step_s <= scenario.duration_s:
        world.advance(step_s)
        for guest in world.guests:
            if guest.running:
                short[guest.name] += guest.short / GIB * step_s
        look(world)
        actor.act(world)
    return _end(policy, painter, short, actor.moves.flips, actor.moves.targets_set, None)


def _end(
    policy: str, painter: _Painter, short: dict[str, float], flips: int, targets_set: int,
    breaches: Sequence[Breach] | None,
) -> Ending:  # fmt: skip
    worst = max(short, key=lambda name: short[name])
    return Ending(
        policy=policy,
        shortage_gib_s=sum(short.values()),
        worst_guest=worst if short[worst] > 0 else "",
        flips=flips,
        targets_set=targets_set,
        oom_kills=painter.world.host.oom_kills,
        host_swapped_most=int(painter.swapped_most),
        breaches=None if breaches is None else tuple(breaches),
        scene=painter.scene(),
    )


class Actor:
    """A peer that sees a world's snapshots and sets its targets."""

    def __init__(self, policy: str) -> None:
        from balloond.sim.peers import MAKERS  # needs numpy

        self._peer = MAKERS[policy]()
        self.moves = Moves()

    def act(self, world: SimWorld) -> None:
        """One turn. A peer whose process is killed between two actions comes back with the next turn."""
        actions = self.decide(world.observe())
        try:
            world.apply(actions)
        except DaemonKilledError:
            world.begin_anew()
        self.moves.count(world)

    def decide(self, snapshot: Snapshot) -> tuple[SetTarget, ...]:
        """What the peer asks for now. No peer asks libvirt for more than the maximum, nor for nothing at all."""
        from balloond.sim.peers import see

        sight = see(snapshot)
        if sight is None or snapshot.guests is None:
            return ()
        targets = self._peer.targets(sight)[0]
        pairs = [
            (guest, max(MIB, min(guest.maximum, int(target))))
            for guest, target in zip(snapshot.guests, targets, strict=True)
        ]
        return tuple(
            SetTarget(
                uuid=guest.uuid,
                name=guest.name,
                actual=guest.actual,
                target=target,
                reason=Reason.NEED if target > guest.actual else Reason.DONATE,
                words="",
            )
            for guest, target in pairs
            if target != guest.actual
        )


class _Painter:
    """Keeps what is to be drawn."""

    def __init__(self, scenario: ScenarioWorld) -> None:
        self.world = scenario.world
        self.swapped_most = 0.0
        self._every_s = max(scenario.step_s, scenario.duration_s / POINTS)
        self._next_s = 0.0
        self._actual: list[tuple[int, ...]] = []
        self._wanted: list[tuple[int, ...]] = []

    def look(self, world: SimWorld) -> None:
        self.swapped_most = max(self.swapped_most, world.host.swapped)
        while world.now_s >= self._next_s:  # a daemon that is away shows nothing: its last look stands
            self._next_s += self._every_s
            self._actual.append(tuple(int(g.actual / MIB) if g.running else 0 for g in world.guests))
            self._wanted.append(tuple(int(g.wanted / MIB) if g.running else 0 for g in world.guests))

    def scene(self) -> Scene:
        return Scene(
            names=tuple(guest.name for guest in self.world.guests),
            every_s=self._every_s,
            total=self.world.host.total // MIB,
            actual=tuple(self._actual),
            wanted=tuple(self._wanted),
        )
