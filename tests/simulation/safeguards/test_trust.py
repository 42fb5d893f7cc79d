"""May this guest be believed?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balloond.model import Trust
from balloond.policy import demand, trust
from balloond.sim import faults
from balloond.sim.guest import Voice
from balloond.sim.play import ScenarioWorld, Story, play
from balloond.sim.workload import Path
from balloond.units import GIB, MIB
from tests.simulation.safeguards.made import bump, four, guest, lacked, points, promises, scenario, watched


def test_without_the_check_of_age_silent_guests_are_shrunk_and_suffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        quiet = [guest(f"quiet-{n}", bump(0.5, 2.2, at_s=700.0)) for n in range(2)]
        silence = [faults.Silence(guest=g.name, from_s=650.0) for g in quiet]
        return scenario([guest("busy", bump(0.5, 3.5)), *quiet], *silence, total_gib=9.0)

    whole = play(made())
    monkeypatch.setattr(
        demand, "judge", lambda *_, **__: Trust.FRESH if _[1].samples else trust.judge(*_, **__)
    )
    without = play(made())
    assert promises(whole) == set()
    assert promises(without) == {"no shrink on doubt"}


def test_without_the_gentle_start_booting_guests_are_shrunk_and_suffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        late = guest("late", Path([(600.0, 0.2 * GIB), (627.0, 0.2 * GIB), (628.0, 3.5 * GIB)]), swap=0.0)
        off = faults.Off(guest="late", from_s=0.0, until_s=600.0)
        others = [
            guest("busy", bump(1.2, 3.2, at_s=618.0, within_s=2.0)),
            *(guest(f"g{n}", 1.2) for n in range(2)),
        ]
        return scenario([late, *others], off, total_gib=9.5, duration_s=900.0)

    whole = play(made())
    monkeypatch.setattr(trust, "NEW_S", 0.0)
    monkeypatch.setattr(trust, "NEW_SAMPLES", 0)
    without = play(made())
    assert lacked(whole, "late") == 0
    assert lacked(without, "late") > 0.5


def test_without_the_guests_own_total_one_that_grows_while_it_is_grown_goes_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(rate: int) -> ScenarioWorld:
        """As three guests of the lab: one grows by so many MiB a second, heard each second."""
        small: dict[str, Any] = {"maximum": 768 * MIB, "swap": 0.0, "voice": Voice(period_s=1.0)}
        begin, end = 137 / 1024, 437 / 1024
        grows = points((0.0, begin), (120.0, begin), (120.0 + 300 / rate, end))
        idle = [guest(f"idle-{n}", begin, **small) for n in range(2)]
        return scenario([guest("grows", grows, **small), *idle], total_gib=1.5, duration_s=180.0, step_s=1.0)

    def lacks() -> float:
        return 1024 * sum(lacked(play(made(rate)), "grows") for rate in (24, 40, 56, 64, 72, 80))

    whole = lacks()
    monkeypatch.setattr(trust, "_placed", lambda _total, _statistics, low, high: (low, high))
    assert lacks() > 10 * whole + 50


def test_without_the_check_for_impossible_numbers_a_liar_is_shrunk_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        lie = faults.Lie(guest="idle-0", story="impossible", from_s=300.0)
        return scenario(four(), lie, total_gib=7.0)

    def shrunk(story: Story) -> bool:
        assert story.last is not None
        verdict = next(v for v in story.last.decision.verdicts if v.name == "idle-0")
        return verdict.demand is not None and verdict.demand.trust is Trust.FRESH

    assert not shrunk(play(made()))
    monkeypatch.setattr(trust, "_possible", lambda *_: True)
    assert shrunk(play(made()))


def test_without_the_bound_by_touched_memory_a_liar_takes_what_others_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        others = [guest(f"honest-{n}", bump(0.5, 2.2)) for n in range(3)]
        lie = faults.Lie(guest="greedy", story="hungry", from_s=300.0)
        return scenario([guest("greedy", 0.3), *others], lie, total_gib=9.0)

    whole = play(made())
    real = trust.listen
    monkeypatch.setattr(demand, "listen", lambda g, *a, **k: real(replace(g, rss=g.maximum), *a, **k))
    without = play(made())
    assert lacked(whole) < 20
    assert lacked(without, "honest-0", "honest-1", "honest-2") > 10 * lacked(whole) + 100


def test_without_forgetting_at_a_reset_a_booting_guest_is_shrunk_by_numbers_of_its_life_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        late = guest("late", points((0, 3.3), (600, 3.3), (601, 0.3), (628, 0.3), (629, 3.5)), swap=0.0)
        others = [
            guest("busy", bump(1.2, 3.7, at_s=618.0, within_s=2.0)),
            *(guest(f"g{n}", 1.2) for n in range(2)),
        ]
        reset = faults.Reboot(guest="late", from_s=600.0)
        return scenario([late, *others], reset, total_gib=10.3, duration_s=900.0)

    whole = play(made())
    real = demand.estimate
    monkeypatch.setattr(
        demand,
        "estimate",
        lambda policy, g, before, **k: real(
            policy, replace(g, incarnation=before.incarnation) if before else g, before, **k
        ),
    )
    without = play(made())
    assert lacked(whole, "late") < 5
    assert lacked(without, "late") > 20


def test_without_what_it_has_touched_a_guest_that_fell_silent_never_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        stale = guest("stale", bump(0.5, 3.2), swap=0.0, qemu=100.0 * MIB)
        silence = faults.Silence(guest="stale", from_s=880.0)
        others = [guest(f"g{n}", 1.8) for n in range(3)]
        return scenario([stale, *others], silence, total_gib=9.0, duration_s=1150.0)

    whole = play(made())
    real = demand._conclude
    monkeypatch.setattr(demand, "_conclude", lambda policy, g, *a: real(policy, replace(g, rss=0), *a))
    without = play(made())
    assert lacked(without, "stale") > 2 * lacked(whole, "stale")


def test_without_the_check_for_counters_that_fall_a_guest_whose_numbers_make_no_sense_is_shrunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def taken() -> float:
        """GiB taken from guests while they tell of counters that fall."""
        odd = [guest(f"odd-{n}", 0.5) for n in range(2)]
        lies = [faults.Lie(guest=g.name, story="backwards", from_s=700.0) for g in odd]
        _, ticks = watched(scenario([guest("busy", bump(0.5, 3.5)), *odd], *lies, total_gib=9.5))
        return sum(
            max(0, action.actual - action.target) / GIB
            for tick in ticks
            for action in tick.decision.actions
            if action.name != "busy" and tick.snapshot.monotonic_s > 710
        )

    assert taken() == 0
    real = trust._possible
    monkeypatch.setattr(
        trust,
        "_possible",
        lambda g, said, before, *a: real(g, said, replace(before, swap_in=None, major_faults=None), *a),
    )
    assert taken() > 0.3
