"""Small worlds in which the loss of one safeguard is seen, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from balloond.config.settings import Amount, Config, GuestPolicy, HostPolicy
from balloond.model import Tick
from balloond.sim.faults import Lasting
from balloond.sim.guest import SimGuest
from balloond.sim.play import ScenarioWorld, Story, play
from balloond.sim.workload import Path, steady
from balloond.sim.world import SimHost, SimWorld
from balloond.units import GIB, MIB

Made = Callable[[], ScenarioWorld]


def guest(name: str, demand_gib: Path | float, **more: Any) -> SimGuest:  # Any: fields of SimGuest
    """A guest of 4 GiB; its demand is a path, or steady at so many GiB."""
    workload = steady(demand_gib * GIB) if isinstance(demand_gib, float) else demand_gib
    values: dict[str, Any] = {"maximum": 4 * GIB, "swap": 1.0 * GIB, "qemu": 64.0 * MIB, **more}
    values.setdefault("actual", float(values["maximum"]))
    kind = values.pop("kind", SimGuest)
    made: SimGuest = kind(uuid=f"uuid-{name}", name=name, workload=workload, **values)
    return made


def scenario(
    guests: list[SimGuest],
    *troubles: Lasting,
    total_gib: float,
    duration_s: float = 1800.0,
    minimum: float = 0.1,
    pool: float = 0.05,
    step_s: float = 2.0,
    **host: Any,  # Any: fields of SimHost
) -> ScenarioWorld:
    values: dict[str, Any] = {"swap": 16.0 * GIB, **host}
    return ScenarioWorld(
        name="made",
        world=SimWorld(
            host=SimHost(total=int(total_gib * GIB), **values), guests=guests, troubles=list(troubles)
        ),
        config=Config(
            interval_s=step_s,
            host=HostPolicy(reserve=Amount(size=512 * MIB), pool=Amount(share=pool)),
            defaults=GuestPolicy(minimum=Amount(share=minimum)),
        ),
        duration_s=duration_s,
        step_s=step_s,
    )


def points(*steps: tuple[float, float], cache: float = 0.0) -> Path:
    """A demand in GiB that passes through these (seconds, GiB)."""
    return Path([(at_s, size * GIB) for at_s, size in steps], cache=cache * GIB)


def bump(before: float, after: float, at_s: float = 900.0, within_s: float = 5.0) -> Path:
    """A demand, in GiB, that changes once."""
    return points((0.0, before), (at_s, before), (at_s + within_s, after))


def bursts(
    low: float, high: float, *, first_s: float, every_s: float, lasts_s: float, until_s: float
) -> Path:
    """A demand, in GiB, that is high for `lasts_s` every `every_s`."""
    made = [(0.0, low)]
    at_s = first_s
    while at_s + lasts_s + 2 < until_s:
        made += [(at_s, low), (at_s + 1, high), (at_s + 1 + lasts_s, high), (at_s + 2 + lasts_s, low)]
        at_s += every_s
    return points(*made)


def promises(story: Story) -> set[str]:
    return {breach.promise for breach in story.breaches}


def lacked(story: Story, *names: str) -> float:
    """GiB seconds that these guests lacked; all of them where none is named."""
    return sum(value for name, value in story.short_gib_s.items() if not names or name in names)


def four(**more: Any) -> list[SimGuest]:  # Any: fields of SimGuest
    """Four idle guests, of which one comes to need much more."""
    return [guest("busy", bump(0.5, 2.5)), *(guest(f"idle-{n}", 0.5, **more) for n in range(3))]


def watched(made: ScenarioWorld) -> tuple[Story, list[Tick]]:
    """What became of it, and each tick of it."""
    ticks: list[Tick] = []
    story = play(made, watcher=lambda _, tick: ticks.append(tick))
    return story, ticks
