"""Does the witness notice every broken promise? Each is broken here on purpose, on the smallest world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from balloond.config.settings import Amount, Config, GuestPolicy, HostPolicy
from balloond.model import Reason, SetTarget
from balloond.policy import pace
from balloond.sim.guest import SimGuest
from balloond.sim.invariants import REST_S, TURNS_MOST, Witness
from balloond.sim.play import ScenarioWorld, Story, play
from balloond.sim.workload import steady
from balloond.sim.world import DaemonKilledError, SimHost, SimWorld
from balloond.units import GIB, MIB

CONFIG = Config(interval_s=2.0, host=HostPolicy(reserve=Amount(size=GIB)))


def world(*, total: int = 10 * GIB, has: int = 2 * GIB, uses: int = GIB, swap: int = 0) -> SimWorld:
    guests = [
        SimGuest(
            uuid=f"uuid-{n}", name=f"g{n}", maximum=4 * GIB, actual=float(has), workload=steady(float(uses))
        )
        for n in range(4)
    ]
    made = SimWorld(host=SimHost(total=total, swap=float(swap)), guests=guests)
    made.advance(2.0)
    return made


def order(made: SimWorld, name: str, target: int) -> SetTarget:
    guest = made.named(name)
    return SetTarget(
        uuid=guest.uuid,
        name=name,
        actual=guest.told_actual,
        target=target,
        reason=Reason.NEED,
        words="",
    )


def blamed(made: SimWorld, *orders: tuple[str, int], witness: Witness | None = None) -> list[str]:
    """What the witness says of a turn in which these targets are set."""
    witness = witness or Witness(config=CONFIG, world=made)
    witness.before()
    made.observe()
    made.apply([order(made, name, target) for name, target in orders])
    witness.after(None)
    return [breach.promise for breach in witness.breaches]


def test_a_turn_that_keeps_all_promises_is_not_blamed() -> None:
    assert blamed(world(), ("g0", GIB), ("g1", 3 * GIB)) == []


def test_a_grant_beyond_what_is_free_is_noticed() -> None:
    assert blamed(world(), ("g0", 3 * GIB), ("g1", 2 * GIB + 100 * MIB)) == ["grants are covered"]


@pytest.mark.parametrize("hangs", [False, True])
def test_a_grant_that_was_made_before_and_not_yet_taken_counts(hangs: bool) -> None:
    made = world(total=11 * GIB)
    made.named("g0").balloon.stuck = True
    assert blamed(made, ("g0", 4 * GIB)) == []
    made.named("g0").hung = hangs  # what it was asked for just before is known all the same
    made.advance(2.0)
    assert blamed(made, ("g1", 2 * GIB + 100 * MIB)) == ["grants are covered"]


def test_what_nobody_can_know_of_a_guest_whose_monitor_hangs_is_not_held_against_a_grant() -> None:
    made = world(total=11 * GIB)
    made.observe()
    made.named("g0").hung = True
    made.named("g0").burst_balloon()
    made.advance(2.0)
    assert blamed(made, ("g1", 4 * GIB)) == []


def test_a_new_daemon_is_held_to_what_a_guest_whose_monitor_hangs_was_asked_for() -> None:
    made = world(total=11 * GIB)
    made.named("g0").balloon.stuck = True
    assert blamed(made, ("g0", 4 * GIB)) == []
    made.named("g0").hung = True
    made.begin_anew()  # it can't know; it has to count the guest at its maximum
    made.advance(2.0)
    assert blamed(made, ("g1", 2 * GIB + 100 * MIB)) == ["grants are covered"]


def test_a_grant_beyond_what_is_available_is_noticed_even_where_the_ledger_has_room() -> None:
    made = world(total=20 * GIB, uses=2 * GIB)
    made.host.merging.saved = -10.0 * GIB  # as if the host had lost memory to nobody
    assert blamed(made, ("g0", 4 * GIB)) == ["grants are covered"]


def test_what_merging_saves_is_no_room_for_grants() -> None:
    made = world()
    made.host.merging.saved = 3.0 * GIB
    assert blamed(made, ("g0", 3 * GIB), ("g1", 3 * GIB)) == ["grants are covered"]


def test_a_silent_guests_guarantee_takes_no_room_but_must_be_available() -> None:
    def promised(target: int, *, silent: bool = True) -> list[str]:
        made = world(total=6 * GIB, has=GIB // 2, uses=MIB)
        witness = Witness(config=CONFIG, world=made, silent={"uuid-0"} if silent else set())
        made.named("g1").target = 4.0 * GIB  # no room is left
        return blamed(made, ("g0", target), witness=witness)

    assert promised(GIB) == []
    assert promised(GIB, silent=False) == ["grants are covered"]
    assert promised(GIB + 2 * MIB) == ["grants are covered"], (
        "beyond the guarantee it is a grant as any other"
    )


def test_a_target_below_the_guarantee_is_noticed() -> None:
    assert blamed(world(), ("g0", GIB - MIB)) == ["the guarantee is kept"]


def test_shrinking_a_guest_that_is_below_its_guarantee_is_noticed() -> None:
    assert "the guarantee is kept" in blamed(world(has=GIB // 2, uses=MIB), ("g0", GIB // 4))


def test_raising_a_guest_towards_its_guarantee_is_fine() -> None:
    assert blamed(world(has=GIB // 2, uses=MIB), ("g0", GIB * 3 // 4)) == []


def test_a_target_above_the_maximum_is_noticed() -> None:
    assert "no target above the maximum" in blamed(world(total=64 * GIB), ("g0", 5 * GIB))


def test_a_shrink_on_old_numbers_is_noticed() -> None:
    made = world()
    made.named("g0").voice.silent = True
    made.advance(6.0)
    assert blamed(made, ("g0", GIB)) == []
    made.advance(2.0)
    assert blamed(made, ("g0", GIB - MIB + MIB)) == []  # the same as before is no shrink
    made.named("g0").actual = made.named("g0").target = 2.0 * GIB
    assert blamed(made, ("g0", GIB)) == ["no shrink on doubt"]


def test_moving_in_the_dark_is_noticed() -> None:
    made = world()
    made.host_unreadable = True
    assert blamed(made, ("g0", GIB)) == ["nothing moves in the dark"]


def test_what_a_killed_daemon_had_done_before_its_end_counts() -> None:
    made = world()
    made.applies_left = 1
    witness = Witness(config=CONFIG, world=made)
    witness.before()
    made.observe()
    with pytest.raises(DaemonKilledError):
        made.apply([order(made, "g0", 4 * GIB), order(made, "g1", 4 * GIB)])
    witness.after(None)
    assert [breach.promise for breach in witness.breaches] == ["grants are covered"]
    assert made.named("g0").target == 4 * GIB
    assert made.named("g1").target == 2 * GIB


def test_an_oom_kill_is_a_breach_only_while_the_host_is_solvent() -> None:
    def kills(swap: int) -> list[str]:
        made = world(swap=swap)
        made.host.oom_kills += 1
        made.host.killed.append("g0")
        return blamed(made)

    assert kills(swap=8 * GIB) == ["no host OOM while solvent"]
    assert kills(swap=6 * GIB) == []


def turns(count: int, witness: Witness, made: SimWorld, *, every_s: float = 2.0) -> list[str]:
    for number in range(count):
        made.advance(every_s)
        blamed(made, ("g0", (3 if number % 2 else 2) * GIB + 100 * MIB), witness=witness)
    return sorted({breach.promise for breach in witness.breaches})


def test_a_guest_that_turns_with_every_tick_is_noticed() -> None:
    made = world(total=32 * GIB)
    assert turns(TURNS_MOST + 3, Witness(config=CONFIG, world=made), made) == ["no flip-flop"]


def test_a_guest_that_turns_now_and_then_is_fine() -> None:
    made = world(total=32 * GIB)
    assert turns(TURNS_MOST + 3, Witness(config=CONFIG, world=made), made, every_s=60.0) == []


def test_slow_turning_is_noticed_too_once_all_was_well_for_long() -> None:
    made = world(total=32 * GIB)
    made.advance(REST_S + 10.0)
    witness = Witness(config=CONFIG, world=made, steady_from_s=1.0)
    assert turns(3, witness, made, every_s=60.0) == ["steady demand comes to rest"]


def test_on_a_host_that_is_short_slow_turning_is_noticed_when_there_is_much_of_it() -> None:
    made = world(total=4 * GIB, swap=64 * GIB)
    for guest in made.guests:
        guest.workload = steady(3.0 * GIB)
    made.advance(REST_S + 10.0)
    witness = Witness(config=CONFIG, world=made, steady_from_s=1.0)
    assert "no flip-flop" not in turns(TURNS_MOST, witness, made, every_s=60.0)
    assert "no flip-flop" in turns(4, witness, made, every_s=60.0)


def test_a_turn_between_the_hard_times_and_the_rest_after_them_is_none() -> None:
    made = world(total=32 * GIB)
    witness = Witness(config=CONFIG, world=made, steady_from_s=1.0)
    assert turns(1, witness, made) == []
    made.advance(REST_S + 10.0)
    blamed(made, ("g0", 3 * GIB + 100 * MIB), witness=witness)
    assert witness.breaches == []


@pytest.mark.parametrize(
    ("steady_from_s", "total", "stuck", "promises", "still"),
    [
        (0.0, 32 * GIB, False, ["steady demand comes to rest"], False),
        (5.0, 32 * GIB, False, [], False),  # it was not steady from the beginning: told, not blamed
        (0.0, 6 * GIB, False, [], True),  # there is no room for all
        (0.0, 32 * GIB, True, [], True),  # its balloon does not obey
    ],
)
def test_moving_after_ten_minutes_of_steady_demand_is_noticed(
    steady_from_s: float, total: int, stuck: bool, promises: list[str], still: bool
) -> None:
    made = world(total=total)
    witness = Witness(config=CONFIG, world=made, steady_from_s=steady_from_s)
    made.advance(REST_S + 10.0)
    made.named("g0").balloon.stuck = stuck
    assert blamed(made, ("g0", GIB), witness=witness) == promises
    assert witness.still is still


@pytest.mark.parametrize(
    "befalls",
    [
        lambda made: made.named("g0").reboot(made.now_s),
        lambda made: made.named("g0").burst_balloon(),
        lambda made: setattr(made.host, "own", lambda _: 4.0 * GIB),
    ],
)
def test_what_befalls_the_host_is_not_blamed_on_balloond(befalls: Callable[[SimWorld], None]) -> None:
    made = world()
    befalls(made)
    made.advance(2.0)
    assert blamed(made) == []


def overdue(monkeypatch: pytest.MonkeyPatch, name: str, instead: object) -> set[str]:
    """The promises that are broken within a quarter of an hour where that part of the pace is another. Three
    guests have all that they may have, the fourth much less than it is promised."""

    def story() -> Story:
        made = world(total=13 * GIB, has=4 * GIB, uses=2 * GIB, swap=64 * GIB)
        made.named("g0").actual = made.named("g0").target = 0.5 * GIB
        config = replace(CONFIG, defaults=GuestPolicy(minimum=Amount(share=0.4)))
        return play(ScenarioWorld(name="made", world=made, config=config, duration_s=900.0, step_s=2.0))

    assert story().breaches == ()
    monkeypatch.setattr(pace, name, instead)
    return {breach.promise for breach in story().breaches}


def test_a_guest_that_stays_below_its_guarantee_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert overdue(monkeypatch, "_grant", lambda *_: None) == {"the guarantee is kept"}


def test_a_ledger_that_stays_uncovered_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the ledger is covered" in overdue(monkeypatch, "_shrink", lambda *_, **__: None)
