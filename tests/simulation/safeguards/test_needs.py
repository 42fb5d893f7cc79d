"""Does a guest get what it needs beyond what its numbers say, and is it left in peace once it suffered?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from balloond.model import Statistics, Tick
from balloond.policy import demand, distress
from balloond.sim import faults
from balloond.sim.faults import Lasting
from balloond.sim.guest import Balloon, SimGuest, Voice
from balloond.sim.play import ScenarioWorld, play
from balloond.sim.workload import ramps
from balloond.sim.world import SimWorld
from balloond.units import GIB
from tests.simulation.safeguards.made import bump, guest, lacked, points, scenario


def test_without_the_margin_guests_that_grow_are_always_a_step_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        moves = [(600.0, 2.5), (700.0, 0.5), (1200.0, 2.8), (1300.0, 0.5)]
        ramping = [
            guest(
                f"ramp-{n}",
                ramps(0.5 * GIB, [(at_s + 150 * n, size * GIB, 0.1 * GIB) for at_s, size in moves]),
                swap=0.0,
                voice=Voice(period_s=5.0),
            )
            for n in range(4)
        ]
        return scenario(ramping, total_gib=9.5)

    whole = play(made())
    monkeypatch.setattr(demand, "margin", lambda *_, **__: 0)
    without = play(made())
    assert lacked(without) > 3 * lacked(whole) + 5


@dataclass(slots=True)
class Cached:
    """What became of a guest that lives off its page cache, where a little memory is needed again and again."""

    read: float = 0.0  # GiB, since all had settled
    taken: float = 0.0  # GiB, likewise


def cached() -> Cached:
    """A small guest is started every nine minutes and stopped soon after, and each start empties the pool."""
    visits = [(900.0 + 560.0 * n, 1100.0 + 560.0 * n) for n in range(8)]
    away = zip(
        (0.0, *(end_s for _, end_s in visits)), (*(start_s for start_s, _ in visits), 1e9), strict=True
    )
    made = scenario(
        [
            guest("cached", points((0, 0.5), cache=2.0), swap=0.0),
            guest("visitor", 0.3, maximum=GIB),
            *(guest(f"g{n}", 1.8) for n in range(2)),
        ],
        *(faults.Off(guest="visitor", from_s=from_s, until_s=until_s) for from_s, until_s in away),
        total_gib=9.6, duration_s=5400.0, step_s=5.0, pool=0.08,
    )  # fmt: skip
    seen = Cached()
    begun: list[float] = []

    def watch(world: SimWorld, tick: Tick) -> None:
        if world.now_s < 800:
            return
        read = world.named("cached").reads / GIB
        begun.append(read)
        seen.read = read - begun[0]
        seen.taken += sum(
            max(0, action.actual - action.target) / GIB
            for action in tick.decision.actions
            if action.name == "cached"
        )

    play(made, watcher=watch)
    return seen


def test_without_watching_reads_a_guest_loses_its_page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cached()
    monkeypatch.setattr(distress, "READS_LEAST", float("inf"))
    assert cached().read > 1.4 * whole.read


def test_without_learning_what_cache_it_needs_a_guest_never_gets_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = cached()
    monkeypatch.setattr(distress, "CACHE_STEP", 0.0)
    monkeypatch.setattr(distress, "CACHE_STEP_MILD", 0.0)
    assert cached().read > 1.4 * whole.read


def test_without_calm_a_guest_that_misses_its_cache_is_taken_more_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = cached()
    monkeypatch.setattr(distress, "CALM_S", 0.0)
    monkeypatch.setattr(distress, "CALM_MOST_S", 0.0)
    assert cached().taken > 1.5 * whole.taken


def test_without_doubling_its_calm_a_guest_is_tried_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cached()
    monkeypatch.setattr(distress, "CALM_MOST_S", distress.CALM_S)
    assert cached().taken > 1.5 * whole.taken


def _crowd(guest_in_need: SimGuest, *troubles: Lasting, step_s: float) -> ScenarioWorld:
    """Its neighbours have what they wanted at a peak that is over: they give when asked, and not by themselves."""
    peak = points((0, 2.5), (300, 2.5), (310, 5.0), (850, 5.0), (860, 2.5))
    others = [guest(f"g{n}", peak, maximum=8 * GIB) for n in range(3)]
    return scenario(
        [guest_in_need, *others], *troubles, total_gib=17.5, pool=0.03, duration_s=1200.0, step_s=step_s
    )


def test_without_asking_for_more_than_can_be_seen_a_squeezed_guest_grows_too_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        squeezed = guest(
            "squeezed",
            bump(0.8, 5.5, within_s=20.0),
            maximum=8 * GIB,
            swap=0.0,
            balloon=Balloon(speed=0.2 * GIB),
            voice=Voice(period_s=5.0),
        )
        return _crowd(squeezed, step_s=5.0)

    whole = play(made())
    monkeypatch.setattr(demand, "squeezed_want", lambda *_: 0)
    without = play(made())
    assert lacked(without, "squeezed") > 1.4 * lacked(whole, "squeezed")


def _reticent(truth: Statistics) -> Statistics:
    """A kernel that always keeps 3 % free, and a driver that does not tell of swap: only faults show its need."""
    has = truth.untrusted_available or 0
    return replace(
        truth,
        untrusted_usable=max(truth.untrusted_usable or 0, int(0.03 * has)),
        untrusted_unused=max(truth.untrusted_unused or 0, int(0.03 * has)),
        untrusted_swap_out=None,
    )


def test_without_growth_for_distress_a_guest_that_falls_silent_while_it_suffers_goes_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> ScenarioWorld:
        suffering = guest(
            "suffering",
            bump(0.8, 5.5),
            maximum=8 * GIB,
            swap=8.0 * GIB,
            balloon=Balloon(speed=0.5 * GIB),
            voice=Voice(period_s=5.0, bias=_reticent),
        )
        return _crowd(suffering, faults.Silence(guest="suffering", from_s=907.0), step_s=2.0)

    whole = play(made())
    monkeypatch.setattr(demand, "DISTRESS_GROWTH", 1.0)
    without = play(made())
    assert lacked(without, "suffering") > 1.3 * lacked(whole, "suffering")
