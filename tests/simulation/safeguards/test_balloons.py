"""Do balloons follow, and are they left in peace?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from balloond.model import Tick
from balloond.policy import demand, movement, pace
from balloond.sim import faults
from balloond.sim.guest import Balloon, SimGuest, Voice
from balloond.sim.play import ScenarioWorld, play
from balloond.sim.random_worlds import world_of
from balloond.sim.workload import Path
from balloond.sim.world import SimWorld
from balloond.units import GIB
from tests.simulation.safeguards.made import (
    bump,
    bursts,
    four,
    guest,
    lacked,
    points,
    promises,
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
    return scenario(
        [guest("stuck", bump(0.5, 3.5)), *others], stuck, total_gib=6.5, duration_s=3600.0, step_s=5.0
    )


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


def test_without_the_longest_step_a_guest_gives_all_at_once_and_lacks_it_a_moment_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        burst = guest(
            "bursts",
            bursts(1.4, 3.2, first_s=300.0, every_s=150.0, lasts_s=20.0, until_s=1800.0),
            swap=2.0 * GIB,
            balloon=Balloon(speed=0.05 * GIB),
            voice=Voice(period_s=2.0),
        )
        ramp = guest(
            "ramp",
            points((0, 1.0), (460, 1.0), (760, 2.6), (1200, 2.6), (1215, 1.0)),
            swap=0.0,
            balloon=Balloon(speed=0.2 * GIB),
            voice=Voice(period_s=10.0),
        )
        return scenario([burst, ramp], total_gib=6.8, pool=0.03)

    whole = play(made())
    monkeypatch.setattr(pace, "_longest_step", lambda actual, *, fast: 1 << 50)
    without = play(made())
    assert lacked(without) > 3 * lacked(whole) + 3


def test_without_a_wider_band_for_a_turn_guests_give_and_take_with_every_look_on_a_crowded_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        def slow(name: str, demand: Path | float, **more: Any) -> SimGuest:  # Any: fields of SimGuest
            balloon, voice = Balloon(speed=0.05 * GIB), Voice(period_s=5.0)
            return guest(name, demand, swap=0.0, balloon=balloon, voice=voice, **more)

        often = bursts(1.7, 3.2, first_s=300.0, every_s=60.0, lasts_s=50.0, until_s=1800.0)
        return scenario([slow("even", 1.8), slow("bursts", often, maximum=8 * GIB)], total_gib=5.3, pool=0.03)

    whole = play(made())
    monkeypatch.setattr(pace, "TURN_BANDS", 0)
    without = play(made())
    assert without.flips > 3 * whole.flips + 10


def test_grown_to_what_it_remembers_while_memory_is_scarce_a_guest_makes_its_neighbours_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        def in_turn(k: int) -> SimGuest:
            often = bursts(
                0.6, 2.2, first_s=300.0 + 305 * k, every_s=1200.0 + 7 * k, lasts_s=120.0, until_s=7200.0
            )
            balloon, voice = Balloon(speed=0.5 * GIB), Voice(period_s=10.0)
            return guest(f"g{k}", often, maximum=8 * GIB, swap=8.0 * GIB, balloon=balloon, voice=voice)

        guests = [in_turn(k) for k in range(4)]
        return scenario(guests, total_gib=5.2, step_s=10.0, duration_s=7200.0)

    monkeypatch.setattr(pace, "_rests", lambda p, now_s: False)  # in this world it keeps them from it as well
    whole = play(made())
    wishes = pace._wishes

    def boundless(positions: Any, reached: Any, rung: Any, ledger: Any, *, fits: bool, now_s: float) -> Any:
        return wishes(positions, reached, rung, replace(ledger, headroom=99 * GIB), fits=True, now_s=now_s)

    monkeypatch.setattr(pace, "_wishes", boundless)
    without = play(made())
    assert without.flips > 2 * whole.flips


def test_what_neighbours_keep_in_their_dead_bands_starves_a_guest_for_ever_unless_none_counts_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        def neighbour(k: int) -> SimGuest:
            grown = points((0, 0.9), (400 + 20 * k, 0.9), (460 + 20 * k, 4.2))
            return guest(f"g{k}", grown, maximum=16 * GIB, actual=1.6 * GIB, swap=8.0 * GIB)

        busy = guest("busy", points((0, 0.9), (1500, 0.9), (1520, 7)), maximum=16 * GIB, actual=1.6 * GIB)
        return scenario([busy, *map(neighbour, range(15))], total_gib=74.2, pool=0.03, duration_s=2700.0)

    whole = play(made())
    monkeypatch.setattr(demand, "STARVES_S", float("inf"))
    without = play(made())
    assert lacked(without, "busy") > 3 * lacked(whole, "busy")


def test_who_would_bear_a_surprise_and_asks_for_its_margin_back_gives_it_to_each_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        often = bursts(1.0, 4.5, first_s=400.0, every_s=600.0, lasts_s=200.0, until_s=7200.0)
        steady = [guest(f"g{k}", 1.8, autodeflate=True) for k in range(4)]
        busy = guest("bursts", often, maximum=8 * GIB, autodeflate=True)
        return scenario([busy, *steady], total_gib=13.0, step_s=5.0, duration_s=7200.0)

    whole = play(made())
    rests = pace._rests
    monkeypatch.setattr(
        pace, "_rests", lambda p, now_s: now_s - p.movement.shrunk_s < pace.GIVEN_S and rests(p, now_s)
    )
    without = play(made())
    assert without.flips > 3 * whole.flips
    assert lacked(without) > lacked(whole)


def test_without_a_pause_before_it_gets_from_the_surplus_what_a_guest_gave_comes_back_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert promises(play(world_of(1303))) == set()
    monkeypatch.setattr(pace, "GIVEN_S", 0.0)
    assert promises(play(world_of(1303))) == {"no flip-flop"}


def test_without_a_pause_after_it_gave_a_guest_gives_and_takes_with_each_burst_of_a_neighbour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        cached = guest(
            "cached",
            points((0, 0.5), cache=1.2),
            maximum=2 * GIB,
            swap=0.0,
            balloon=Balloon(speed=0.2 * GIB),
            voice=Voice(period_s=10.0),
        )
        often = bursts(1.5, 6.7, first_s=260.0, every_s=30.0, lasts_s=20.0, until_s=1800.0)
        ramp = points((0, 1.5), (600, 1.5), (700, 3.2), (1200, 3.2), (1216, 1.5))
        others = [
            guest("bursts", often, maximum=8 * GIB, swap=0.0),
            guest("ramp", ramp, balloon=Balloon(speed=0.2 * GIB), voice=Voice(period_s=2.0)),
        ]
        return scenario([cached, *others], total_gib=11.2, step_s=5.0, pool=0.1)

    whole = play(made())
    monkeypatch.setattr(pace, "GIVEN_S", 0.0)
    without = play(made())
    assert without.flips > 1.7 * whole.flips


def test_without_a_pause_after_it_was_grown_a_guest_is_taken_back_between_two_bursts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        small = bursts(0.36, 0.97, first_s=153.0, every_s=60.0, lasts_s=18.0, until_s=1800.0)
        large = bursts(0.44, 2.93, first_s=293.0, every_s=60.0, lasts_s=30.0, until_s=1800.0)
        even = guest(
            "even",
            1.03,
            maximum=2 * GIB,
            swap=0.5 * GIB,
            balloon=Balloon(speed=0.05 * GIB),
            voice=Voice(period_s=5.0),
        )
        others = [
            guest("small", small, maximum=2 * GIB, swap=0.0, voice=Voice(period_s=2.0)),
            guest("large", large, balloon=Balloon(speed=0.2 * GIB)),
        ]
        return scenario([even, *others], total_gib=5.8, pool=0.03)

    whole = play(made())
    monkeypatch.setattr(pace, "GROWN_S", 0.0)
    without = play(made())
    assert without.flips > 1.4 * whole.flips
