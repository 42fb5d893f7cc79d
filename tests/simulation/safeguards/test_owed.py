"""Does everybody get what it was promised, and who suffered its peace?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import Reason, Tick
from balloond.policy import decide as core
from balloond.policy import demand, pace
from balloond.sim.guest import Balloon, Voice
from balloond.sim.play import ScenarioWorld, play
from balloond.sim.random_worlds import world_of
from balloond.sim.workload import ramps
from balloond.units import GIB
from tests.simulation.safeguards.made import bump, four, guest, lacked, points, promises, scenario


def test_without_the_floor_by_guarantee_guests_are_shrunk_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> ScenarioWorld:
        return scenario(four(), total_gib=7.5, minimum=0.35)

    assert promises(play(made())) == set()
    real = demand._bounds
    monkeypatch.setattr(demand, "_bounds", lambda policy, g: (0, real(policy, g)[1]))
    assert "the guarantee is kept" in promises(play(made()))


def test_without_the_pool_growth_waits_for_donors() -> None:
    def made(pool: float) -> ScenarioWorld:
        slow = {"balloon": Balloon(speed=0.05 * GIB)}
        idle = [guest(f"idle-{n}", 0.5, **slow) for n in range(11)]
        return scenario([guest("busy", bump(0.5, 2.5)), *idle], total_gib=13.0, pool=pool)

    assert lacked(play(made(0.0001))) > 1.5 * lacked(play(made(0.10)))


def test_without_calm_guests_that_suffered_are_shrunk_to_refill_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def robbed() -> int:
        """How often a guest that had suffered minutes before gave to the pool; one misses its cache here."""
        ticks: list[Tick] = []
        play(world_of(38), watcher=lambda _, tick: ticks.append(tick))
        return sum(
            action.reason is Reason.REFILL and suffered[action.uuid]
            for tick in ticks
            for suffered in [
                {v.uuid: v.demand is not None and v.demand.in_distress for v in tick.decision.verdicts}
            ]
            for action in tick.decision.actions
        )

    assert robbed() == 0
    real = pace._may_shrink
    monkeypatch.setattr(
        pace,
        "_may_shrink",
        lambda p, *a, **k: real(replace(p, demand=replace(p.demand, in_distress=False)), *a, **k),
    )
    assert robbed() > 0


def test_without_the_last_part_of_the_pool_a_guest_in_need_waits_for_donors_on_a_crowded_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neighbours' wants are remembered from a peak and are more than there is, while all their needs fit."""

    def made() -> ScenarioWorld:
        ramp = guest(
            "ramp", ramps(0.5 * GIB, [(800.0, 3.0 * GIB, 0.07 * GIB)]), swap=0.0, voice=Voice(period_s=5.0)
        )
        peak = points((0, 1.5), (200, 1.5), (300, 2.4), (700, 2.4), (710, 1.6))
        others = [guest(f"g{n}", peak, balloon=Balloon(speed=0.03 * GIB)) for n in range(4)]
        return scenario([ramp, *others], total_gib=11.6, pool=0.2, step_s=5.0, duration_s=1200.0)

    whole = play(made())
    monkeypatch.setattr(core, "POOL_KEPT", 0.0)
    without = play(made())
    assert lacked(without, "ramp") > 2 * lacked(whole, "ramp") + 2
