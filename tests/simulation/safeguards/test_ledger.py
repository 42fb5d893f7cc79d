"""Is there memory for what is granted?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balloond.config.settings import KsmMode, KsmPolicy
from balloond.model import Guest, Host, Ledger, Obstacle
from balloond.policy import decide as core
from balloond.policy import demand, ledger, movement
from balloond.policy.ledger import account, own_use
from balloond.sim import faults
from balloond.sim.guest import Balloon, SimGuest, Voice
from balloond.sim.play import ScenarioWorld, play
from balloond.sim.world import Merging
from balloond.units import GIB, MIB
from tests.simulation.safeguards.made import bump, bursts, four, guest, lacked, points, promises, scenario


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


def test_without_the_bound_by_what_guests_may_touch_untouched_memory_is_granted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ledger's half of the headroom. Much is available, since guests have not touched what they hold."""

    def made() -> ScenarioWorld:
        return scenario(four(actual=1.5 * GIB), total_gib=7.0)

    def by_what_is_available(*args: Any, **more: Any) -> Ledger:  # Any: as `account` takes them
        it = account(*args, **more)
        return replace(it, headroom=it.available - it.reserve - it.loan)

    assert promises(play(made())) == set()
    monkeypatch.setattr(core, "account", by_what_is_available)
    assert "grants are covered" in promises(play(made()))


def test_without_counting_a_guest_unheard_for_long_as_its_maximum_its_return_kills(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        quiet = [
            guest(f"quiet-{n}", bump(0.5, 3.5, at_s=1300.0, within_s=2.0), swap=0.0, actual=1.0 * GIB)
            for n in range(2)
        ]
        others = [guest(f"g{n}", bump(0.5, 2.6), actual=1.0 * GIB) for n in range(3)]
        silence = [faults.Silence(guest=g.name, from_s=100.0) for g in quiet]
        back = [faults.BurstBalloon(guest=g.name, from_s=1300.0) for g in quiet]
        return scenario([*quiet, *others], *silence, *back, total_gib=13.0, swap=0.0)

    assert play(made()).oom_kills == 0
    monkeypatch.setattr(ledger.Stake, "_may_return", lambda stake: stake.guest.obstacle in PINNED)
    assert play(made()).oom_kills > 0


class _PinnedGuest(SimGuest):
    """Its memory is pinned for a device, whatever its balloon says."""

    __slots__ = ()

    def show(self) -> Guest:
        return replace(SimGuest.show(self), obstacle=Obstacle.PASSTHROUGH)


PINNED = (Obstacle.LOCKED, Obstacle.PASSTHROUGH, Obstacle.CONFIDENTIAL)


def test_without_counting_a_pinned_guest_as_its_maximum_its_memory_is_given_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        pinned = guest("pinned", bump(0.5, 3.8, at_s=1200.0), kind=_PinnedGuest, actual=1.0 * GIB)
        others = [guest(f"g{n}", bump(0.5, 2.4)) for n in range(3)]
        back = faults.BurstBalloon(guest="pinned", from_s=1200.0)
        return scenario([pinned, *others], back, total_gib=10.2, swap=0.0)

    assert play(made()).oom_kills == 0
    monkeypatch.setattr(ledger.Stake, "_may_return", lambda stake: not stake.heard)
    assert play(made()).oom_kills > 0


def test_without_a_bound_on_what_qemu_is_believed_to_need_liars_hold_back_memory_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        liars = [guest(f"liar-{n}", 3.5) for n in range(2)]
        others = [guest(f"g{n}", bump(0.5, 2.4)) for n in range(3)]
        lies = [faults.Lie(guest=g.name, story="modest", from_s=0.0) for g in liars]
        return scenario([*liars, *others], *lies, total_gib=12.0, minimum=0.3)

    honest = [f"g{n}" for n in range(3)]
    whole = play(made())
    monkeypatch.setattr(demand, "OVERHEAD_MOST", float("inf"))
    without = play(made())
    assert lacked(whole, *honest) < 20
    assert lacked(without, *honest) > 100


def test_without_remembering_the_hosts_own_peak_memory_goes_to_and_fro_with_each_of_its_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        jobs = bursts(0.3, 2.0, first_s=200.0, every_s=200.0, lasts_s=60.0, until_s=1800.0)
        guests = [
            guest("small", bump(0.3, 1.9, at_s=508.0), maximum=2 * GIB),
            guest("cached", points((0, 2.5), cache=2.5), maximum=8 * GIB, balloon=Balloon(speed=0.2 * GIB)),
            guest(
                "large",
                bump(1.4, 5.2, at_s=710.0),
                maximum=8 * GIB,
                swap=0.0,
                balloon=Balloon(speed=0.2 * GIB),
                voice=Voice(period_s=10.0),
            ),
        ]
        return scenario(guests, total_gib=13.3, step_s=5.0, pool=0.03, own=jobs.size)

    whole = play(made())
    monkeypatch.setattr(ledger, "OWN_DECAY_S", 1e-3)
    without = play(made())
    assert without.flips > 3 * whole.flips + 5
