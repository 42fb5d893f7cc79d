"""Do balloons follow, and are they left in peace?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from balloond.model import (
    Tick,
)
from balloond.policy import movement, pace
from balloond.sim import faults
from balloond.sim.guest import Voice
from balloond.sim.play import ScenarioWorld, play
from balloond.sim.workload import Path
from balloond.sim.world import SimWorld
from balloond.units import GIB
from tests.simulation.safeguards.made import (
    bump,
    four,
    guest,
    lacked,
    scenario,
    watched,
)


def test_without_putting_stuck_balloons_aside_nobody_else_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> ScenarioWorld:
        stuck = faults.StuckBalloon(guest="idle-0", from_s=0.0)
        return scenario(four(), stuck, total_gib=9.0)

    whole = play(made())
    monkeypatch.setattr(movement, "STALLED_S", float("inf"))
    monkeypatch.setattr(movement, "STUCK_S", float("inf"))
    without = play(made())
    assert lacked(without, "busy") > lacked(whole, "busy") + 10


def test_without_the_dead_band_a_slow_leak_moves_targets_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        leak = Path([(0.0, 0.5 * GIB), (1800.0, 2.5 * GIB)])
        return scenario([guest("leaky", leak), *(guest(f"g{n}", 0.5) for n in range(3))], total_gib=6.0)

    whole = play(made())
    for name in ("BAND", "BAND_LEAST", "MARGIN_USED"):
        monkeypatch.setattr(pace, name, 0)
    without = play(made())
    assert without.targets_set > 3 * whole.targets_set


def test_without_waiting_for_its_word_after_a_move_a_guest_is_shrunk_again_before_it_spoke(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def most() -> int:
        """The most shrinks of one guest between two of its samples."""
        slow = {"voice": Voice(period_s=20.0)}
        guests = [guest("busy", bump(0.5, 3.5)), *(guest(f"g{n}", 1.0, **slow) for n in range(3))]
        shrunk: Counter[tuple[str, int | None]] = Counter()

        def watch(world: SimWorld, tick: Tick) -> None:
            for action in tick.decision.actions:
                heard = world.named(action.name).heard
                if action.target < action.actual and action.name != "busy":
                    shrunk[action.name, heard.last_update_s if heard else None] += 1

        play(scenario(guests, total_gib=9.0), watcher=watch)
        return max(shrunk.values())

    assert most() <= 2  # the clock of samples is too coarse to tell the first tick from the next
    real = pace._may_shrink
    monkeypatch.setattr(
        pace,
        "_may_shrink",
        lambda p, *a, **k: real(replace(p, movement=replace(p.movement, changed_s=-1e9)), *a, **k),
    )
    assert most() > 2


def test_without_taking_back_a_target_that_nobody_waits_for_its_memory_stays_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        stuck = faults.StuckBalloon(guest="stuck", from_s=890.0)
        others = [guest(f"g{n}", bump(0.5, 2.5, at_s=950.0)) for n in range(3)]
        return scenario([guest("stuck", bump(0.5, 3.5)), *others], stuck, total_gib=9.5)

    others = [f"g{n}" for n in range(3)]
    whole = play(made())
    monkeypatch.setattr(movement.Movement, "forgotten", lambda *_: False)
    without = play(made())
    assert lacked(without, *others) > 1.5 * lacked(whole, *others)


def _crowd_around_a_stuck_one() -> ScenarioWorld:
    stuck = faults.StuckBalloon(guest="stuck", from_s=890.0)
    others = [guest(f"g{n}", 0.8) for n in range(3)]
    return scenario([guest("stuck", bump(0.5, 3.5)), *others], stuck, total_gib=6.5, duration_s=3600.0)


def test_without_the_trial_neighbours_give_for_each_try_of_one_that_never_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = play(_crowd_around_a_stuck_one())
    monkeypatch.setattr(movement.Movement, "on_trial", False)
    without = play(_crowd_around_a_stuck_one())
    assert without.flips > 2 * whole.flips


def test_without_doubling_the_time_aside_one_that_never_follows_is_tried_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tries() -> int:
        """How often it was asked."""
        _, ticks = watched(_crowd_around_a_stuck_one())
        return sum(action.name == "stuck" for tick in ticks for action in tick.decision.actions)

    whole = tries()
    real = movement._put_aside
    monkeypatch.setattr(
        movement, "_put_aside", lambda before, now_s, _, **k: real(before, now_s, movement.ASIDE_S, **k)
    )
    assert tries() > 2 * whole
