"""Would anybody notice if a safeguard were gone? Each is taken away in turn, and some world must then go wrong.

`whole` is what that world comes to with all safeguards in place; `without` what it comes to with one removed. The
worlds are small and steady enough that the difference is the safeguard's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from balloond.config.settings import Amount, Config, GuestPolicy, HostPolicy, KsmMode, KsmPolicy
from balloond.model import Decision, Host, Ledger, Reason, Result, Rung, Tick, Trust
from balloond.policy import decide as core
from balloond.policy import demand, movement, pace, trust
from balloond.policy.ladder import climb
from balloond.policy.ledger import account, own_use
from balloond.sim import faults
from balloond.sim.faults import Lasting
from balloond.sim.guest import Balloon, SimGuest, Voice
from balloond.sim.play import ScenarioWorld, Story, play
from balloond.sim.random_worlds import world_of
from balloond.sim.scenario import named
from balloond.sim.workload import Path, steady
from balloond.sim.world import Merging, SimHost, SimWorld
from balloond.units import GIB, MIB

Made = Callable[[], ScenarioWorld]


def guest(name: str, demand_gib: Path | float, **more: Any) -> SimGuest:  # Any: fields of SimGuest
    """A guest of 4 GiB; its demand is a path, or steady at so many GiB."""
    workload = steady(demand_gib * GIB) if isinstance(demand_gib, float) else demand_gib
    values: dict[str, Any] = {"maximum": 4 * GIB, "swap": 1.0 * GIB, "qemu": 64.0 * MIB, **more}
    values.setdefault("actual", float(values["maximum"]))
    return SimGuest(uuid=f"uuid-{name}", name=name, workload=workload, **values)


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


def bump(before: float, after: float, at_s: float = 900.0, within_s: float = 5.0) -> Path:
    """A demand, in GiB, that changes once."""
    return Path([(0.0, before * GIB), (at_s, before * GIB), (at_s + within_s, after * GIB)])


def promises(story: Story) -> set[str]:
    return {breach.promise for breach in story.breaches}


def lacked(story: Story, *names: str) -> float:
    """GiB seconds that these guests lacked; all of them where none is named."""
    return sum(value for name, value in story.short_gib_s.items() if not names or name in names)


def four(**more: Any) -> list[SimGuest]:  # Any: fields of SimGuest
    """Four idle guests, of which one comes to need much more."""
    return [guest("busy", bump(0.5, 2.5)), *(guest(f"idle-{n}", 0.5, **more) for n in range(3))]


# --- trust -----------------------------------------------------------------------------------------------


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


# --- the ledger ------------------------------------------------------------------------------------------


def _generous(ledger: Ledger) -> Ledger:
    return replace(ledger, headroom=ledger.headroom + GIB)


def test_without_the_bound_by_headroom_more_is_granted_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> ScenarioWorld:
        return scenario([*four(balloon=Balloon(speed=0.05 * GIB))], total_gib=8.0)

    assert promises(play(made())) == set()
    monkeypatch.setattr(core, "account", lambda *a, **k: _generous(account(*a, **k)))
    assert "grants are covered" in promises(play(made()))


def test_without_the_count_of_what_devices_were_told_a_late_balloon_breaks_the_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        late = guest("late", bump(0.5, 2.5, at_s=600.0))
        stuck = faults.StuckBalloon(guest="late", from_s=590.0, until_s=1200.0)
        others = [guest(f"g{n}", bump(0.5, 1.9, at_s=650.0, within_s=60.0)) for n in range(3)]
        return scenario([late, *others], stuck, total_gib=9.0)

    assert promises(play(made())) == set()
    monkeypatch.setattr(movement, "_told", lambda before, *_: before)
    assert "grants are covered" in promises(play(made()))


def test_without_the_reserve_against_merging_the_host_swaps_when_guests_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        guests = [guest(f"g{n}", bump(1.6, 2.6, at_s=700.0, within_s=300.0)) for n in range(4)]
        return scenario(
            guests,
            faults.Unmerge(from_s=1400.0),
            total_gib=9.0,
            merging=Merging(share=0.4, speed=50.0 * MIB),
        )

    whole = play(made())
    monkeypatch.setattr(core, "own_use", _blind)
    monkeypatch.setattr(core, "account", _lent_on)
    without = play(made())
    assert without.host_swapped_most > whole.host_swapped_most + GIB


def test_without_the_reserve_against_merging_guests_die_of_a_storm_of_writes_on_a_host_without_swap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """balloond itself steers the merging here, and every merged page is written to at once."""

    def made() -> ScenarioWorld:
        guests = [guest(f"g{n}", bump(1.6, 2.6, at_s=700.0, within_s=300.0)) for n in range(4)]
        made = scenario(
            guests, faults.Unmerge(from_s=1400.0), total_gib=9.0, swap=0.0, merging=Merging(share=0.4)
        )
        return replace(made, config=replace(made.config, ksm=KsmPolicy(mode=KsmMode.STEER)))

    merged: list[float] = []
    whole = play(made(), watcher=lambda world, _: merged.append(world.host.merging.saved))
    assert max(merged) > 2 * GIB
    assert (whole.oom_kills, promises(whole)) == (0, set())
    monkeypatch.setattr(core, "own_use", _blind)
    monkeypatch.setattr(core, "account", _lent_on)
    without = play(made())
    assert without.oom_kills > 0
    assert "grants are covered" in promises(without)


def _lent_on(host: Host, *args: Any, **more: Any) -> Ledger:  # Any: as `account` takes them
    """The ledger as if what merging saved could be granted."""
    return account(replace(host, ksm=None), *args, **more)


def _blind(before: Any, host: Host, guests: Any, now_s: float) -> Any:
    """Own use as if what merging saved were memory that the host has more."""
    saved = host.ksm.saved if host.ksm else 0
    return replace(own_use(before, replace(host, ksm=None), guests, now_s), peak=-float(saved))


# --- what guests are owed --------------------------------------------------------------------------------


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


# --- balloons --------------------------------------------------------------------------------------------


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


# --- the host --------------------------------------------------------------------------------------------


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
