"""Which worlds shall balloond be tried in, that nobody thought of?

A seed gives a world: a host, 3 to 20 guests, what they want and all that goes wrong, the same each time. Chaos
comes first; then all demand becomes steady and all faults end, so that it can be seen whether balloond comes to
rest. Sizes, speeds and faults are drawn so that each fault of `faults.KINDS` and each speed of growth from 0.01 to
2 GiB/s comes often enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from balloond.config.settings import (
    Amount,
    Config,
    GuestPolicy,
    GuestRule,
    HostPolicy,
    KsmMode,
    KsmPolicy,
)
from balloond.sim import faults
from balloond.sim.faults import Lasting
from balloond.sim.guest import Balloon, SimGuest, Voice
from balloond.sim.play import ScenarioWorld
from balloond.sim.workload import Path, ramps, steady
from balloond.sim.world import Merging, SimHost, SimWorld
from balloond.units import GIB, MIB

CHAOS_S: Final = 5400.0
CALM_S: Final = 1800.0
"""A world lives for two hours: so much chaos, then so much calm, of which the last 20 minutes must be still."""

HOURS: Final = (CHAOS_S + CALM_S) / 3600

QUIET: Final = 0.1
"""The share of worlds in which nothing ever changes: they must come to rest within ten minutes."""

STEPS_S: Final = (20.0, 10.0, 10.0, 10.0, 10.0, 10.0, 5.0, 5.0, 5.0, 2.0)
"""The daemon's interval. Long ones are harder for it and quicker to simulate."""

SIZES: Final = (512 * MIB, GIB, GIB, 2 * GIB, 2 * GIB, 4 * GIB, 4 * GIB, 8 * GIB, 16 * GIB)

SLOWEST_GROWTH: Final = 0.01 * GIB
FASTEST_GROWTH: Final = 2.0 * GIB

SMALL_WORLDS: Final = 0.2
SMALL_GUESTS: Final = 0.3
"""The share of worlds, and of their guests, that begin small."""

CROWDED: Final = 0.92
"""Of what the host has for guests: more than that is asked for only where a world is to be short of memory."""


def world_of(seed: int) -> ScenarioWorld:
    """The world of that seed."""
    return _Maker(chance=Random(seed)).make(seed)


@dataclass(slots=True, kw_only=True)
class _Maker:
    chance: Random

    def make(self, seed: int) -> ScenarioWorld:
        chance = self.chance
        quiet = chance.random() < QUIET
        step_s = chance.choice(STEPS_S)
        count = 3 + int(18 * chance.random() ** 3)
        sizes = [chance.choice(SIZES) for _ in range(count)]
        claimed = sum(sizes)
        own = chance.uniform(0.01, 0.06) * claimed
        total = int((claimed + own) / chance.triangular(1.0, 3.0, 1.7) + 512 * MIB)
        config = self._config(total, step_s, count)
        reserve = config.host.reserve.of(total)
        lacking = max(0.0, 1.1 * claimed + 2 * own + reserve - total)
        swap = lacking if chance.random() < 0.6 else chance.random() * lacking
        guests = self._guests(sizes, room=total - 2 * own - reserve, quiet=quiet)
        world = SimWorld(
            host=SimHost(
                total=total,
                own=self._own(own, quiet=quiet).size,
                swap=swap,
                swap_speed=chance.choice((0.1, 0.5, 2.0)) * GIB,
                merging=self._merging(),
                has_psi=chance.random() < 0.9,
            ),
            guests=self._begun(guests, Random(f"begins {seed}")),
            troubles=[] if quiet else sorted(self._troubles(guests), key=lambda fault: fault.from_s),
        )
        return ScenarioWorld(
            name=f"seed-{seed}",
            world=world,
            config=config,
            duration_s=CHAOS_S + CALM_S,
            step_s=step_s,
            steady_from_s=0.0 if quiet else CHAOS_S,
        )

    def _config(self, total: int, step_s: float, count: int) -> Config:
        chance = self.chance
        reserve = Amount(size=min(GIB, total // 16))
        rules = tuple(
            GuestRule(
                name=f"guest-{number}",
                policy=GuestPolicy(
                    manage=chance.random() < 0.7,
                    minimum=Amount(share=chance.choice((0.1, 0.25, 0.5))),
                    maximum=Amount(share=chance.choice((0.6, 0.8, 1.0))),
                    shares=chance.choice((100, 1000, 4000)),
                ),
            )
            for number in range(1, count + 1)
            if chance.random() < 0.1
        )
        return Config(
            interval_s=step_s,
            host=HostPolicy(reserve=reserve, pool=Amount(share=chance.choice((0.03, 0.05, 0.1)))),
            defaults=GuestPolicy(minimum=Amount(share=chance.choice((0.1, 0.25)))),
            guests=rules,
            ksm=KsmPolicy(mode=KsmMode.STEER if count % 2 else KsmMode.LEAVE),
        )

    def _own(self, base: float, *, quiet: bool) -> Path:
        """The host's own use, with a backup job or two."""
        chance = self.chance
        moves = []
        for _ in range(0 if quiet else chance.randint(0, 2)):
            at_s = chance.uniform(600, CHAOS_S - 900)
            moves += [(at_s, base * chance.uniform(1.1, 1.9), 0.05 * GIB), (at_s + 600, base, 0.05 * GIB)]
        return ramps(base, sorted(moves))

    def _merging(self) -> Merging:
        if self.chance.random() < 0.7:
            return Merging()
        return Merging(share=self.chance.uniform(0.05, 0.4), speed=self.chance.uniform(5, 200) * MIB)

    # --- guests ---

    def _guests(self, sizes: list[int], room: float, *, quiet: bool) -> list[SimGuest]:
        """The guests, and what they want at last: together it fits into `room`, but in a world that is short."""
        chance = self.chance
        wishes = [chance.betavariate(1.3, 3.0) * size for size in sizes]
        most = room * chance.uniform(0.5, CROWDED)
        if chance.random() < 0.15:
            most *= 1.4
        # A guest wants its margin too, and its guarantee is its own even where it wants less.
        scale = min(1.0, most / sum(1.15 * wish + 300 * MIB for wish in wishes))
        herd_s = chance.uniform(600, CHAOS_S - 1200) if chance.random() < 0.4 else None
        return [
            self._guest(number, size, wish * scale, herd_s, quiet=quiet)
            for number, (size, wish) in enumerate(zip(sizes, wishes, strict=True), start=1)
        ]

    def _guest(
        self, number: int, size: int, at_last: float, herd_s: float | None, *, quiet: bool
    ) -> SimGuest:
        chance = self.chance
        kernel = min(64.0 * MIB, size / 16)
        return SimGuest(
            uuid=f"00000000-0000-0000-0000-{number:012}",
            name=f"guest-{number}",
            maximum=size,
            actual=float(size),
            workload=steady(at_last) if quiet else self._demand(size, at_last, herd_s),
            kernel=kernel,
            swap=chance.choice((0.0, 0.25, 0.5)) * size,
            qemu=chance.uniform(20, 120) * MIB,
            autodeflate=chance.random() < 0.2,
            reports_free_pages=chance.random() < 0.2,
            balloon=Balloon(speed=chance.choice((0.1, 0.5, 0.9, 2.0)) * GIB),
            voice=Voice(period_s=chance.choice((1.0, 2.0, 5.0))),
        )

    @staticmethod
    def _begun(guests: list[SimGuest], chance: Random) -> list[SimGuest]:
        """Some guests are small when the daemon comes, below what they are promised: another ballooner was at
        work, or less was promised then. It has dice of its own, for the worlds to stay what they were."""
        if chance.random() < SMALL_WORLDS:
            for guest in guests:
                if chance.random() < SMALL_GUESTS:
                    guest.actual = guest.target = max(2 * guest.kernel, 0.1 * guest.maximum)
        return guests

    def _demand(self, size: int, at_last: float, herd_s: float | None) -> Path:
        chance = self.chance
        start = chance.uniform(0.02, 0.3) * size
        moves: list[tuple[float, float, float]] = []
        for _ in range(chance.randint(0, 8)):
            speed = SLOWEST_GROWTH * (FASTEST_GROWTH / SLOWEST_GROWTH) ** chance.random()
            moves.append(
                (chance.uniform(60, CHAOS_S - 600), chance.betavariate(1.2, 2.5) * 0.95 * size, speed)
            )
        if chance.random() < 0.1:  # a leak, for an hour
            moves.append((chance.uniform(60, 1200), 0.95 * size, size / 3600))
        if herd_s is not None:
            moves.append((herd_s + chance.uniform(0, 10), chance.uniform(0.4, 0.9) * size, FASTEST_GROWTH))
        moves.append((CHAOS_S - 500, at_last, 0.1 * GIB))
        cache = chance.uniform(0.05, 0.3) * size if chance.random() < 0.25 else 0.0
        return ramps(start, sorted(moves), cache=cache)

    # --- faults ---

    def _troubles(self, guests: list[SimGuest]) -> list[Lasting]:
        chance = self.chance
        troubles: list[Lasting] = []
        for guest in guests:
            if chance.random() < 0.6:
                troubles += [self._trouble_of(guest.name) for _ in range(chance.randint(1, 3))]
        for _ in range(chance.randint(0, 4)):
            troubles.append(self._trouble_of_all())
        if chance.random() < 0.15:  # a boot storm
            from_s = chance.uniform(0, 0.5 * CHAOS_S)
            until_s = from_s + chance.uniform(0, 120)
            troubles += [
                faults.Off(guest=guest.name, from_s=from_s, until_s=until_s + chance.uniform(0, 20))
                for guest in guests
            ]
        return troubles

    def _span(self) -> tuple[float, float]:
        """From when until when: seconds, minutes or an hour, and over before the calm."""
        from_s = self.chance.uniform(0, CHAOS_S - 600)
        lasts_s = 10 ** self.chance.uniform(1, 3.3)
        return from_s, min(from_s + lasts_s, CHAOS_S - 100)

    def _trouble_of(self, name: str) -> Lasting:
        chance = self.chance
        from_s, until_s = self._span()
        kind = chance.choice([k for k in faults.KINDS.values() if issubclass(k, faults.OfGuest)])
        more: dict[str, Any] = {}  # Any: each kind has its own fields
        if kind is faults.Lie:
            more = {"story": chance.choice(list(faults.LIES))}
        elif kind is faults.SlowBalloon:
            more = {"delay_s": chance.uniform(0, 40), "speed": chance.uniform(1, 100) * MIB}
        elif kind is faults.HalfWay:
            more = {"share": chance.uniform(0.3, 0.95)}
        elif kind is faults.Late:
            more = {"delay_s": chance.uniform(0.5, 4)}
        return kind(guest=name, from_s=from_s, until_s=until_s, **more)

    def _trouble_of_all(self) -> Lasting:
        chance = self.chance
        from_s, until_s = self._span()
        match chance.randrange(5):
            case 0:
                return faults.LibvirtGone(from_s=from_s, until_s=until_s)
            case 1:
                return faults.HostUnreadable(from_s=from_s, until_s=until_s)
            case 2:
                return faults.DaemonKilled(from_s=from_s, after=chance.randrange(4))
            case 3:
                by_s = chance.choice((-86400.0, -60.0, -1.0, 1.0, 60.0, 86400.0))
                return faults.ClockJump(from_s=from_s, by_s=by_s)
            case _:
                return faults.Unmerge(from_s=from_s, share=chance.uniform(0, 0.1))
