"""Nobody stays below what it was promised while the host can pay: small worlds in which nothing goes wrong."""

from __future__ import annotations

from random import Random

import pytest

from balloond.config.settings import SMALLEST_GUEST, Amount, Config, GuestPolicy, GuestRule, HostPolicy
from balloond.model import Tick
from balloond.policy.pace import BAND_LEAST
from balloond.sim.guest import Balloon, SimGuest, Voice
from balloond.sim.play import ScenarioWorld, play
from balloond.sim.workload import Path, ramps, steady
from balloond.sim.world import SimHost, SimWorld
from balloond.units import GIB, MIB

RESERVE = 512 * MIB
QEMU = 64 * MIB

LASTS_S = 900.0
MOST_S = 120.0
"""Nobody is below its guarantee for longer."""


@pytest.mark.parametrize("seed", range(40))
def test_nobody_stays_below_its_guarantee_while_all_guarantees_fit(seed: int) -> None:
    made = world(Random(seed))
    below: dict[str, float] = {}
    worst: dict[str, float] = {}

    def watch(world: SimWorld, _: Tick) -> None:
        for guest in world.guests:
            is_below = guest.actual < guarantee(made.config, guest) - BAND_LEAST
            below[guest.name] = below.get(guest.name, 0.0) + made.step_s if is_below else 0.0
            worst[guest.name] = max(worst.get(guest.name, 0.0), below[guest.name])

    story = play(made, watcher=watch)
    assert story.breaches == ()
    assert {name: lasted_s for name, lasted_s in worst.items() if lasted_s > MOST_S} == {}


def guarantee(config: Config, guest: SimGuest) -> int:
    return max(SMALLEST_GUEST, config.policy_for(guest.uuid, guest.name, "").minimum.of(guest.maximum))


def world(chance: Random) -> ScenarioWorld:
    """Some guests, each with a size to begin with, a guarantee and a demand that have nothing to do with each
    other. The guarantees fit into the host, and all that guests may ever take fits into it and its swap. Each
    guest has so much swap of its own that its balloon can always follow."""
    count = chance.randint(2, 6)
    step_s = chance.choice((2.0, 2.0, 5.0, 10.0))
    maxima = [chance.choice((1, 2, 4, 8)) * GIB for _ in range(count)]
    promised = [chance.choice((0.1, 0.25, 0.5, 0.7)) for _ in range(count)]
    guarantees = sum(int(share * size) + QEMU for share, size in zip(promised, maxima, strict=True))
    total = RESERVE + int(guarantees * chance.uniform(1.05, 1.6)) + 256 * MIB
    free = total - RESERVE - 256 * MIB - count * QEMU
    weights = [chance.uniform(0.1, 1.0) * size for size in maxima]
    guests = [
        SimGuest(
            uuid=f"uuid-{number}",
            name=f"g{number}",
            maximum=maximum,
            actual=float(max(SMALLEST_GUEST, min(maximum, int(free * weight / sum(weights))))),
            workload=_demand(chance, maximum),
            swap=float(maximum),
            qemu=float(QEMU),
            balloon=Balloon(speed=chance.choice((0.2, 0.9, 2.0)) * GIB),
            voice=Voice(period_s=chance.choice((1.0, 2.0, 5.0))),
        )
        for number, (maximum, weight) in enumerate(zip(maxima, weights, strict=True))
    ]
    rules = tuple(
        GuestRule(
            name=f"g{number}",
            policy=GuestPolicy(minimum=Amount(share=share), shares=chance.choice((100, 1000, 4000))),
        )
        for number, share in enumerate(promised)
    )
    return ScenarioWorld(
        name="guarantees",
        world=SimWorld(
            host=SimHost(total=total, own=lambda _: 128.0 * MIB, swap=float(sum(maxima) + 2 * GIB)),
            guests=guests,
        ),
        config=Config(
            interval_s=step_s,
            host=HostPolicy(reserve=Amount(size=RESERVE), pool=Amount(share=0.05)),
            guests=rules,
        ),
        duration_s=LASTS_S,
        step_s=step_s,
    )


def _demand(chance: Random, maximum: int) -> Path:
    if chance.random() < 0.6:
        return steady(chance.uniform(0.05, 1.0) * maximum)
    moves = sorted(
        (chance.uniform(60, LASTS_S - 300), chance.uniform(0.05, 1.0) * maximum, 0.2 * GIB) for _ in range(3)
    )
    return ramps(chance.uniform(0.05, 0.5) * maximum, moves)
