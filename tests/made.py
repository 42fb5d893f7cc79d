"""Values for tests of the core: a host, guests and ticks of them, as short as they can be said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from balloond.config.settings import Amount, Config, GuestPolicy, HostPolicy
from balloond.loop import turn
from balloond.model import (
    Guest,
    Host,
    Measure,
    Measured,
    Outcome,
    Result,
    SetTarget,
    Snapshot,
    Statistics,
    Tick,
    Verdict,
)
from balloond.units import GIB, MIB

WALL_S = 1_800_000_000.0


def config(*, reserve: int = 256 * MIB, pool: float = 0.05, minimum: float = 0.1, **more: object) -> Config:
    return replace(
        Config(
            host=HostPolicy(reserve=Amount(size=reserve), pool=Amount(share=pool)),
            defaults=GuestPolicy(minimum=Amount(share=minimum)),
        ),
        **more,  # type: ignore[arg-type]  # the caller names fields of Config
    )


@dataclass
class Machine:
    """A guest whose balloon obeys at once and whose driver is honest; fields may be changed between ticks."""

    name: str
    maximum: int = 4 * GIB
    actual: int = 4 * GIB
    uses: int = 1 * GIB
    resident: int | None = None
    seen: Guest | None = None
    statistics: dict[str, int | None] = field(default_factory=dict)
    quiet: bool = False
    obeys: bool = True
    stamp_s: int = 0
    more: dict[str, object] = field(default_factory=dict)

    def guest(self, wall_s: float) -> Guest:
        if not self.quiet:
            self.stamp_s = int(wall_s)
        self.resident = min(self.actual, max(self.resident or 0, self.uses))
        usable = max(0, self.actual - self.uses)
        told: dict[str, int | None] = {
            "untrusted_usable": usable,
            "untrusted_unused": usable,
            **self.statistics,
        }
        return Guest(
            uuid=f"uuid-{self.name}",
            name=self.name,
            maximum=self.maximum,
            actual=self.actual,
            rss=self.resident,
            statistics=Statistics(last_update_s=self.stamp_s, **told),
            statistics_period_s=2,
            **self.more,  # type: ignore[arg-type]  # the test names fields of Guest
        )


@dataclass
class Lab:
    """A made-up host that satisfies `loop.World`, and the ticks that were taken on it."""

    machines: list[Machine]
    total: int = 8 * GIB
    own: int = 0
    swap: int = 0
    config: Config = field(default_factory=config)
    now_s: float = 1000.0
    tick: Tick | None = None
    done: list[SetTarget] = field(default_factory=list)
    taken: list[Measure] = field(default_factory=list)
    guests_lost: bool = False
    host_lost: bool = False
    refuse: Result | None = None  # what comes of all that is asked for
    refuse_measures: Result | None = None  # of measures alone

    def observe(self) -> Snapshot:
        wall_s = WALL_S + self.now_s
        guests = tuple(sorted((m.guest(wall_s) for m in self.machines), key=lambda guest: guest.uuid))
        used = self.own + sum(guest.rss or 0 for guest in guests)
        available = max(0, self.total - used)
        host = Host(total=self.total, available=available, swap_total=self.swap, swap_free=self.swap)
        return Snapshot(
            monotonic_s=self.now_s,
            wall_s=wall_s,
            host=None if self.host_lost else host,
            guests=None if self.guests_lost else guests,
        )

    def apply(self, actions: tuple[SetTarget, ...]) -> tuple[Outcome, ...]:
        if self.refuse:
            return tuple(Outcome(action=action, result=self.refuse) for action in actions)
        for action in actions:
            machine = self[action.name]
            if machine.obeys:
                machine.actual = action.target
        self.done.extend(actions)
        return tuple(Outcome(action=action, result=Result.DONE) for action in actions)

    def take(self, measures: tuple[Measure, ...]) -> tuple[Measured, ...]:
        self.taken.extend(measures)
        return tuple(
            Measured(measure=measure, result=self.refuse_measures or self.refuse or Result.DONE)
            for measure in measures
        )

    def __getitem__(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    def verdict(self, name: str) -> Verdict:
        assert self.tick is not None
        return next(v for v in self.tick.decision.verdicts if v.name == name)

    def run(self, ticks: int = 1, every_s: float = 2.0) -> Tick:
        """Takes so many ticks; returns the last."""
        for _ in range(ticks):
            self.now_s += every_s
            self.tick = turn(self.config, self.tick, self)  # type: ignore[arg-type]  # a Lab is a World
        assert self.tick is not None
        return self.tick

    def committed(self) -> int:
        return sum(machine.actual for machine in self.machines)
