"""Is the host helped in need, and left alone in the dark?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from balloond import loop
from balloond.model import Decision, Ledger, Result, Rung, Tick
from balloond.policy import decide as core
from balloond.policy import ladder, pace
from balloond.policy.ladder import climb
from balloond.policy.ledger import account
from balloond.sim import faults
from balloond.sim.guest import Balloon
from balloond.sim.play import ScenarioWorld, play
from balloond.sim.scenario import named
from balloond.sim.workload import Path
from balloond.units import GIB
from tests.simulation.safeguards.made import (
    bump,
    bursts,
    four,
    guest,
    lacked,
    promises,
    scenario,
    watched,
)


def test_without_the_ladder_a_host_in_need_is_helped_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> ScenarioWorld:
        own = Path([(0.0, 0.5 * GIB), (900.0, 0.5 * GIB), (905.0, 3.5 * GIB)])
        guests = [
            guest(f"g{n}", Path([(0.0, 2.0 * GIB), (300.0, 2.0 * GIB), (301.0, 0.5 * GIB)])) for n in range(4)
        ]
        return scenario(guests, total_gib=11.0, own=own.size, duration_s=1200.0)

    whole = play(made())
    monkeypatch.setattr(core, "climb", lambda *a, **k: replace(climb(*a, **k), rung=Rung.GREEN))
    without = play(made())
    assert without.host_swapped_most > 1.2 * whole.host_swapped_most


def test_without_freezing_in_the_dark_targets_are_set_blindly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert promises(play(named("libvirt-gone"))) == set()

    def again(previous: Tick | None) -> Decision:
        return (
            previous.decision if previous else Decision(rung=Rung.GREEN, ledger=None, verdicts=(), actions=())
        )

    monkeypatch.setattr(core, "_frozen", again)
    made = four()
    dark = faults.HostUnreadable(from_s=20.0, until_s=200.0)
    assert promises(play(scenario(made, dark, total_gib=7.0))) == {"nothing moves in the dark"}


def test_without_leaving_obstacles_alone_a_guest_that_cannot_be_read_is_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tries() -> int:
        """How often the hung guest was asked to move."""
        ticks: list[Tick] = []
        made = scenario(four(), faults.Hang(guest="idle-0", from_s=897.0), total_gib=7.0)
        play(made, watcher=lambda _, tick: ticks.append(tick))
        return sum(outcome.result is Result.TIMED_OUT for tick in ticks for outcome in tick.outcomes)

    assert tries() == 0
    monkeypatch.setattr(core, "_obstacle", lambda *_: None)
    assert tries() > 0


def test_without_freezing_while_libvirt_is_gone_targets_are_set_blindly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        return scenario(four(), faults.LibvirtGone(from_s=20.0, until_s=200.0), total_gib=7.0)

    assert promises(play(made())) == set()
    monkeypatch.setattr(core, "_without_guests", lambda config, previous, *_: previous.decision)
    assert promises(play(made())) == {"nothing moves in the dark"}


def test_without_freezing_while_libvirt_is_gone_all_guests_are_strangers_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if a list that could not be had were an empty one."""

    def made() -> ScenarioWorld:
        return scenario(four(), faults.LibvirtGone(from_s=880.0, until_s=901.0), total_gib=7.0)

    whole = play(made())
    monkeypatch.setattr(
        loop,
        "decide",
        lambda config, previous, seen: core.decide(
            config, previous, replace(seen, guests=()) if seen.guests is None else seen
        ),
    )
    without = play(made())
    assert lacked(without, "busy") > 5 * lacked(whole, "busy") + 10


def test_without_a_first_look_that_only_looks_memory_is_granted_that_another_was_told_to_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon dies while a slow balloon is on its way to a size that only its device knows."""

    def made() -> ScenarioWorld:
        slow = guest(
            "slow",
            bump(0.5, 3.4, at_s=896.0, within_s=2.0),
            balloon=Balloon(speed=0.02 * GIB),
            actual=1.2 * GIB,
        )
        others = [
            guest(f"g{n}", bump(0.6, 2.0, at_s=909.0, within_s=3.0), actual=1.2 * GIB) for n in range(3)
        ]
        killed = faults.DaemonKilled(from_s=908.0)
        return scenario([slow, *others], killed, total_gib=9.0, duration_s=1000.0)

    assert promises(play(made())) == set()
    seen: list[Ledger] = []

    def noted(*args: Any, **more: Any) -> Ledger:  # Any: as `account` takes them
        seen.append(account(*args, **more))
        return seen[-1]

    monkeypatch.setattr(core, "account", noted)
    monkeypatch.setattr(
        core,
        "stay",
        lambda positions: pace.moves(
            positions, seen[-1], Rung.GREEN, pool=seen[-1].pool, fits=False, now_s=0.0
        )[0],
    )
    assert promises(play(made())) == {"grants are covered"}


def test_without_the_ladders_hold_the_host_flaps_between_two_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    def changes() -> int:
        own = bursts(0.3, 0.9, first_s=300.0, every_s=16.0, lasts_s=6.0, until_s=1500.0)
        guests = [guest(f"g{n}", 2.0) for n in range(4)]
        _, ticks = watched(scenario(guests, total_gib=9.9, own=own.size))
        rungs = [tick.decision.rung for tick in ticks]
        return sum(earlier is not later for earlier, later in pairwise(rungs))

    assert changes() <= 4
    monkeypatch.setattr(ladder, "CLEAR_HELD_S", 0.0)
    assert changes() > 40
