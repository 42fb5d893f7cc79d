"""Observe, decide, apply, publish, wait: who turns the handle?

The protocols that the edges satisfy stand here, beside their consumer. The daemon and the simulator run the
very same `turn`. Nothing here reads a clock, a file or libvirt: the edges do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from balloond.config.settings import Config, Mode
from balloond.model import Measure, Measured, Outcome, Result, SetTarget, Snapshot, Tick
from balloond.policy.decide import decide

HURRY: Final = 0.25
"""Of an interval: the wait while somebody waits for memory that others are about to give. Balloons move in
fractions of a second, and their sizes are read afresh."""


def pause_s(interval_s: float, took_s: float, *, hurry: bool) -> float:
    """From one turn's begin to the next one's. In a hurry turns take half of the time at most."""
    return min(interval_s, max(HURRY * interval_s, 2 * took_s)) if hurry else interval_s


class World(Protocol):
    """The hosts and guests that are looked after: the real ones, or simulated ones."""

    def observe(self) -> Snapshot:
        """The world now, in bounded time. What can't be read is a fault in the snapshot, never an exception."""

    def apply(self, actions: Sequence[SetTarget]) -> tuple[Outcome, ...]:
        """Carries out each action by itself and in bounded time; one outcome each, in the same order."""

    def take(self, measures: Sequence[Measure]) -> tuple[Measured, ...]:
        """Carries out what is to be done at the host, likewise."""


class Publisher(Protocol):
    """Somebody who is told of each sealed tick."""

    def publish(self, tick: Tick) -> None: ...


def turn(config: Config, previous: Tick | None, world: World) -> Tick:
    """One turn of the loop, sealed."""
    snapshot = world.observe()
    decision = decide(config, previous, snapshot)
    acts = config.mode is not Mode.OBSERVE
    return Tick(
        number=previous.number + 1 if previous else 1,
        snapshot=snapshot,
        decision=decision,
        outcomes=_apply(decision.actions, world, acts=acts),
        measured=_take(decision.measures, world, acts=acts),
    )


def run(
    config: Callable[[], Config],
    world: World,
    publishers: Sequence[Publisher],
    wait: Callable[[Config], bool],
    previous: Tick | None = None,
) -> Tick | None:
    """Turns until `wait` says False; returns the last tick. `wait` sleeps an interval or less and pets the
    watchdog; `config` gives the configuration now in force."""
    while True:
        in_force = config()
        previous = turn(in_force, previous, world)
        for publisher in publishers:
            publisher.publish(previous)
        if not wait(in_force):
            return previous


def _apply(actions: Sequence[SetTarget], world: World, *, acts: bool) -> tuple[Outcome, ...]:
    if not acts:
        return tuple(Outcome(action=action, result=Result.OBSERVED) for action in actions)
    return world.apply(actions) if actions else ()


def _take(measures: Sequence[Measure], world: World, *, acts: bool) -> tuple[Measured, ...]:
    if not acts:
        return tuple(Measured(measure=measure, result=Result.OBSERVED) for measure in measures)
    return world.take(measures) if measures else ()
