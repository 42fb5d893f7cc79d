"""Observe, decide, apply, publish, wait: who turns the handle?

The protocols that the edges satisfy stand here, beside their consumer. The daemon and the simulator run the
very same `turn`. Nothing here reads a clock, a file or libvirt: the edges do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from balloond.config.settings import Config, Mode
from balloond.model import Decision, Outcome, Result, SetTarget, Snapshot, Tick
from balloond.policy.decide import decide


class World(Protocol):
    """The hosts and guests that are looked after: the real ones, or simulated ones."""

    def observe(self) -> Snapshot:
        """The world now, in bounded time. What can't be read is a fault in the snapshot, never an exception."""

    def apply(self, actions: Sequence[SetTarget]) -> tuple[Outcome, ...]:
        """Carries out each action by itself and in bounded time; one outcome each, in the same order."""


class Publisher(Protocol):
    """Somebody who is told of each sealed tick."""

    def publish(self, tick: Tick) -> None: ...


def turn(config: Config, previous: Tick | None, world: World) -> Tick:
    """One turn of the loop, sealed."""
    snapshot = world.observe()
    decision = decide(config, previous, snapshot)
    return Tick(
        number=previous.number + 1 if previous else 1,
        snapshot=snapshot,
        decision=decision,
        outcomes=_carry_out(config, decision, world),
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


def _carry_out(config: Config, decision: Decision, world: World) -> tuple[Outcome, ...]:
    if config.mode is Mode.OBSERVE:
        return tuple(Outcome(action=action, result=Result.OBSERVED) for action in decision.actions)
    return world.apply(decision.actions) if decision.actions else ()
