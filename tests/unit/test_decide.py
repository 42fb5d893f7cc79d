"""The core's promises, each on the smallest world that shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from balloond.config.settings import Amount, GuestPolicy, GuestRule, HostPolicy, KsmMode, KsmPolicy, Mode
from balloond.model import (
    Decision,
    Ksm,
    KsmSettings,
    LimitSoftly,
    Obstacle,
    Reason,
    Reclaim,
    Result,
    Rung,
    SetMerging,
    Snapshot,
    Stance,
    State,
    Trust,
)
from balloond.policy.trust import SILENT_S
from balloond.units import GIB, MIB
from tests.made import Lab, Machine, config


def crowd(**more: object) -> Lab:
    """Four guests of 4 GiB on a host of 8 GiB, each using 1 GiB."""
    return Lab([Machine(name=f"g{i}") for i in range(4)], **more)  # type: ignore[arg-type]  # fields of Lab


def test_nothing_moves_while_all_guests_fit_at_their_maximum() -> None:
    lab = Lab([Machine(name="a"), Machine(name="b")], total=10 * GIB)
    lab.run(50)
    assert lab.done == []


def test_idle_guests_are_shrunk_until_the_ledger_holds_and_then_all_is_still() -> None:
    lab = crowd()
    tick = lab.run(60)
    ledger = tick.decision.ledger
    assert ledger is not None
    assert ledger.covered
    assert lab.committed() <= lab.total - ledger.reserve
    settled = len(lab.done)
    lab.run(300)
    assert len(lab.done) == settled


def test_no_guest_is_shrunk_below_what_it_uses_or_its_guarantee() -> None:
    lab = crowd(config=config(minimum=0.4))
    lab.run(100)
    assert all(machine.actual >= max(machine.uses, int(0.4 * machine.maximum)) for machine in lab.machines)


def test_a_growing_guest_is_granted_from_free_memory_in_one_step() -> None:
    lab = crowd()
    lab.run(60)
    guest = lab["g0"]
    before = guest.actual
    guest.uses = before - 32 * MIB
    lab.run(2)
    assert guest.actual > before + 128 * MIB
    assert lab.verdict("g0").reason in (Reason.NEED, Reason.NO_ROOM, Reason.STEADY)


@pytest.mark.parametrize("own", [0, 777])
def test_growth_never_exceeds_what_is_free_at_that_instant(own: int) -> None:
    lab = crowd(own=own)
    lab.run(60)
    for name in ("g0", "g1", "g2", "g3"):
        lab[name].uses = lab[name].actual
    for _ in range(20):
        tick = lab.run()
        ledger = tick.decision.ledger
        assert ledger is not None
        grown = sum(max(0, o.action.target - o.action.actual) for o in tick.outcomes)
        assert grown <= max(0, ledger.headroom)
        assert lab.committed() <= lab.total


@pytest.mark.parametrize("silence_s", [20, 60, 400])
def test_a_guest_whose_statistics_are_old_is_never_shrunk(silence_s: int) -> None:
    lab = crowd()
    lab.run(4)
    lab["g0"].quiet = True
    lab.run(int(silence_s / 2 - 6))
    before = lab["g0"].actual
    lab["g1"].uses = 3 * GIB
    lab.run(8)
    assert lab["g0"].actual >= before
    assert lab.verdict("g0").reason is Reason.UNTRUSTED


@pytest.mark.parametrize(
    "lie", [{"untrusted_usable": 5 * GIB}, {"untrusted_usable": -1}, {"untrusted_available": 2**63}]
)
def test_impossible_statistics_hold_the_guest_and_move_no_other(lie: dict[str, int | None]) -> None:
    honest, lying = crowd(), crowd()
    for lab in (honest, lying):
        lab.run(60)
    lying["g0"].statistics = lie
    before = lying["g0"].actual
    for lab in (honest, lying):
        lab.run(60)
    assert lying["g0"].actual == before
    assert lying.verdict("g0").demand.trust in (Trust.LYING, Trust.STALE)  # type: ignore[union-attr]
    assert [m.actual for m in lying.machines[1:]] == [m.actual for m in honest.machines[1:]]


def test_a_guest_without_a_driver_is_left_alone_and_counted_as_its_maximum() -> None:
    lab = crowd()
    lab["g0"].statistics = {"untrusted_usable": None, "untrusted_unused": None}
    tick = lab.run(60)
    assert lab["g0"].actual == lab["g0"].maximum
    assert lab.verdict("g0").reason is Reason.UNTRUSTED
    assert all(lab[name].actual < 4 * GIB for name in ("g1", "g2", "g3"))
    assert tick.decision.ledger is not None
    assert tick.decision.ledger.committed >= 4 * GIB


@pytest.mark.parametrize("obstacle", [o for o in Obstacle if o is not Obstacle.UNMANAGED])
def test_a_guest_with_an_obstacle_is_left_alone_while_others_are_managed(obstacle: Obstacle) -> None:
    lab = crowd()
    lab["g0"].more = {"obstacle": obstacle}
    lab.run(60)
    assert lab["g0"].actual == lab["g0"].maximum
    assert lab.verdict("g0").obstacle is obstacle
    assert any(lab[name].actual < 4 * GIB for name in ("g1", "g2", "g3"))


def test_a_paused_guest_and_one_that_the_operator_excludes_are_left_alone() -> None:
    lab = crowd(
        config=config(guests=(GuestRule(name="g1", policy=GuestPolicy(manage=False)),)),
    )
    lab["g0"].more = {"state": State.PAUSED}
    lab.run(60)
    assert lab["g0"].actual == lab["g1"].actual == 4 * GIB
    assert lab.verdict("g0").obstacle is Obstacle.NOT_RUNNING
    assert lab.verdict("g1").obstacle is Obstacle.UNMANAGED


def test_targets_are_frozen_while_the_host_or_the_guests_cannot_be_read() -> None:
    lab = crowd()
    lab.run(3)
    for lost in ("host_lost", "guests_lost"):
        setattr(lab, lost, True)
        before = len(lab.done)
        tick = lab.run(10)
        assert len(lab.done) == before
        assert {v.reason for v in tick.decision.verdicts} == {Reason.FROZEN}
        setattr(lab, lost, False)
    lab.run(60)
    assert lab.tick is not None
    assert lab.tick.decision.ledger is not None
    assert lab.tick.decision.ledger.covered


@pytest.mark.parametrize("lost", ["host_lost", "guests_lost"])
def test_where_the_world_can_not_be_read_at_the_first_look_nothing_is_known_and_nothing_done(
    lost: str,
) -> None:
    lab = crowd(**{lost: True})
    for _ in range(2):
        assert lab.run().decision == Decision(rung=Rung.GREEN, ledger=None, verdicts=(), actions=())
    setattr(lab, lost, False)
    lab.run(4)
    assert lab.done  # and then it begins as it would have


def test_a_balloon_that_does_not_move_is_put_aside_and_others_give_instead() -> None:
    lab = crowd()
    lab["g0"].obeys = False
    lab.run(60)
    assert lab.verdict("g0").reason is Reason.STUCK
    assert all(lab[name].actual < 3 * GIB for name in ("g1", "g2", "g3"))
    asked = [action for action in lab.done if action.name == "g0"]
    lab.run(900)
    again = [action for action in lab.done if action.name == "g0"]
    assert len(asked) < len(again) < len(asked) + 40  # tried again, ever more seldom


def test_one_that_gives_slowly_is_counted_at_what_it_will_have_before_long() -> None:
    lab = crowd()
    slow = lab["g0"]
    slow.obeys = False
    lab.run(4)
    assert lab.verdict("g0").entitlement < 3 * GIB
    for _ in range(8):
        slow.actual -= 2 * MIB
        lab.run(2)
    slow.actual -= 2 * MIB
    lab.run(2)
    assert lab.verdict("g0").entitlement >= slow.actual - 180 * MIB
    assert lab.verdict("g0").target < slow.actual - 200 * MIB, "and is asked for as much as before"
    assert sum(lab.verdict(f"g{i}").entitlement for i in range(4)) <= 8 * GIB


def test_for_one_that_never_follows_others_soon_keep_what_they_have() -> None:
    lab = crowd()
    lab.run(200)
    busy = lab["g0"]
    busy.obeys, busy.uses = False, busy.actual
    lab.run(900)
    lab.done.clear()
    lab.run(900)
    assert any(action.name == "g0" for action in lab.done)  # it is tried again
    assert all(abs(action.target - action.actual) <= 64 * MIB for action in lab.done if action.name == "g0")
    assert not [action for action in lab.done if action.name != "g0"]


@pytest.mark.parametrize("result", [Result.REFUSED, Result.TIMED_OUT, Result.UNREACHABLE, Result.BUSY])
def test_a_failed_write_is_tried_again(result: Result) -> None:
    lab = crowd()
    lab.refuse = result
    lab.run(5)
    assert lab.done == []
    lab.refuse = None
    lab.run(60)
    assert lab.done


def test_swapping_guests_get_memory_back_in_one_step_and_are_not_shrunk_for_a_while() -> None:
    lab = crowd()
    lab.run(200)
    guest = lab["g0"]
    hard: dict[str, int | None] = {"untrusted_usable": 48 * MIB, "untrusted_unused": 16 * MIB}
    before, guest.resident = guest.actual, guest.actual
    guest.statistics = {**hard, "untrusted_swap_in": 0}
    lab.run()
    guest.statistics = {**hard, "untrusted_swap_in": 64 * MIB}
    lab.run()
    assert lab.verdict("g0").reason is Reason.DISTRESS
    assert guest.actual >= min(1.2 * before, guest.maximum)
    guest.statistics, given = {"untrusted_swap_in": 64 * MIB}, guest.actual
    lab.own = 256 * MIB  # the pool is to be refilled, by the others
    lab.run(100)
    assert guest.actual >= given


def test_swapping_in_while_memory_is_free_is_no_distress() -> None:
    lab = crowd()
    lab.run(200)
    for swapped in range(1, 20):
        lab["g0"].statistics = {"untrusted_swap_in": swapped * 64 * MIB}
        lab.run()
        assert lab.verdict("g0").reason is not Reason.DISTRESS


def test_faults_just_after_boot_are_no_distress() -> None:
    lab = crowd()
    lab.run(60)
    lab["g0"].more = {"incarnation": 1}
    lab["g0"].statistics = {"untrusted_swap_in": 0}
    lab.run()
    for swapped in range(1, 60):
        lab["g0"].statistics = {"untrusted_swap_in": swapped * 64 * MIB}
        lab.run()
        assert lab.verdict("g0").reason is not Reason.DISTRESS


def test_a_new_guest_is_held_until_its_numbers_settle() -> None:
    lab = crowd()
    lab.run(60)
    lab.machines.append(Machine(name="new"))
    lab.run(10)
    assert lab["new"].actual == 4 * GIB
    assert lab.verdict("new").reason is Reason.SETTLING
    lab.run(100)
    assert lab["new"].actual < 4 * GIB


def test_a_guest_that_resets_its_balloon_by_a_reboot_is_a_stranger_again() -> None:
    lab = crowd()
    lab.run(60)
    guest = lab["g0"]
    guest.actual, guest.more = guest.maximum, {"incarnation": 1}
    lab.run()
    assert lab.verdict("g0").demand.trust is Trust.NEW  # type: ignore[union-attr]
    tick = lab.run(100)
    assert tick.decision.ledger is not None
    assert tick.decision.ledger.covered


def test_a_liar_gains_no_more_than_the_memory_that_it_touches() -> None:
    lab = crowd()
    lab.run(60)
    lab["g0"].resident = 700 * MIB
    lab["g0"].uses = 700 * MIB
    lab["g0"].statistics = {"untrusted_usable": 0}
    lab.run(100)
    verdict = lab.verdict("g0")
    assert verdict.demand is not None
    assert verdict.demand.working_set <= 1 * GIB


def test_when_guests_leave_everybody_gets_its_maximum_back() -> None:
    lab = crowd()
    lab.run(60)
    assert any(machine.actual < 4 * GIB for machine in lab.machines)
    lab.machines = lab.machines[:1]
    lab.run(20)
    assert lab["g0"].actual == 4 * GIB


def test_the_operators_maximum_is_kept_even_when_memory_is_free() -> None:
    lab = Lab(
        [Machine(name="a")],
        config=config(
            guests=(GuestRule(name="a", policy=GuestPolicy(maximum=Amount(size=2 * GIB))),),
        ),
    )
    lab.run(60)
    assert lab["a"].actual == 2 * GIB


def test_observe_mode_decides_the_same_first_step_and_asks_nothing() -> None:
    watching = crowd(config=config(mode=Mode.OBSERVE))
    tick = watching.run(20)
    assert watching.done == []
    assert {outcome.result for outcome in tick.outcomes} == {Result.OBSERVED}


def test_the_hosts_own_use_is_taken_out_before_guests_are_served() -> None:
    lab = crowd(own=2 * GIB)
    lab.run(100)
    assert lab.committed() <= lab.total - 2 * GIB


def test_a_jump_of_the_wall_clock_makes_no_fresh_guest_old() -> None:
    lab = crowd()
    lab.run(10)
    for machine in lab.machines:
        machine.quiet = True
        machine.stamp_s += 100_000
    lab.run()
    assert {v.demand.trust for v in lab.tick.decision.verdicts if v.demand} == {Trust.FRESH}  # type: ignore[union-attr]


def test_a_guest_that_needs_its_memory_after_all_keeps_what_it_has_not_yet_given() -> None:
    lab = crowd()
    lab.run(60)
    giver, taker = lab["g0"], lab["g1"]
    giver.obeys = False  # it is slow: nothing of what it is asked for is there yet
    taker.uses = taker.actual
    lab.run(2)
    asked = lab.verdict("g0").target
    assert asked < giver.actual
    giver.uses = giver.actual - 16 * MIB
    lab.run()
    assert lab.verdict("g0").target >= giver.actual


def test_a_title_that_changes_is_heeded_at_once() -> None:
    rules = (GuestRule(policy=GuestPolicy(manage=False), title="keep*"),)
    lab = crowd(config=config(guests=rules))
    lab.run(3)
    lab["g0"].more["title"] = "keep me"
    lab.run()
    assert lab.verdict("g0").obstacle is Obstacle.UNMANAGED


def test_only_managed_guests_of_the_pool_are_guaranteed_anything() -> None:
    lab = crowd(config=config(guests=(GuestRule(name="g1", policy=GuestPolicy(manage=False)),)))
    lab["g0"].more.update(in_pool=False, obstacle=Obstacle.UNMANAGED)
    ledger = lab.run().decision.ledger
    assert ledger is not None
    assert ledger.guaranteed == 2 * int(0.1 * 4 * GIB)


def test_what_was_asked_of_a_guest_before_its_reboot_is_not_waited_for_after_it() -> None:
    lab = crowd()
    lab["g0"].obeys = False
    lab.run(4)
    assert lab.verdict("g0").target < 4 * GIB
    lab["g0"].more = {"incarnation": 1}
    lab.run()
    assert lab.verdict("g0").target == 4 * GIB


def test_one_sample_is_ground_for_one_step_only() -> None:
    lab = crowd()
    lab.run(3)
    lab["g0"].quiet = True  # its newest sample is of the very second in which it is asked
    lab.run(3, every_s=0.2)
    asked = [action for action in lab.done if action.name == "g0"]
    assert len(asked) <= 1


def test_solvency_is_sealed_into_every_decision_on_a_world_that_is_seen() -> None:
    lab = Lab([Machine("a"), Machine("b", more={"obstacle": Obstacle.LOCKED})], total=8 * GIB)
    decision = lab.run().decision
    assert decision.solvency is not None and decision.ledger is not None
    assert [claim.uuid for claim in decision.solvency.claims] == ["uuid-a", "uuid-b"]
    assert decision.solvency.unswappable == decision.solvency.claims[1].size > 4 * GIB
    assert decision.solvency.own == decision.ledger.own
    assert not decision.solvency.solvent
    lab.guests_lost = True
    assert lab.run().decision.solvency is None


def entitled(lab: Lab) -> list[int]:
    """What each guest is entitled to, in whole MiB."""
    assert lab.tick is not None
    return [round(verdict.entitlement / MIB) for verdict in lab.tick.decision.verdicts]


def test_while_wants_fit_the_whole_pool_is_kept_back_and_the_rest_divided() -> None:
    lab = crowd()
    lab.run(100)
    # 8192 - 256 of reserve - 409.6 of pool = 7526.4; of it 4 wants of 1024 + 256 each, and a quarter of the rest
    assert entitled(lab) == [1882] * 4
    for machine in lab.machines:
        machine.more = {"overhead": 100 * MIB}
    lab.run()
    assert entitled(lab) == [1782] * 4


def test_while_wants_do_not_fit_a_last_part_of_the_pool_is_kept_back() -> None:
    lab = crowd()
    lab.run(100)
    lab["g0"].more, lab["g0"].actual = {"obstacle": Obstacle.IN_JOB}, 4 * GIB
    lab.run()
    # 8192 - 256 of reserve - 4096 of the guest in a job - a fifth of the pool, 81.92, by three
    assert entitled(lab) == [4096, 1253, 1253, 1253]


def test_where_not_even_floors_fit_nothing_is_kept_back() -> None:
    lab = crowd(total=4 * GIB)
    lab.run(100)
    # 4096 - 256 of reserve by four is less than the floor of 1.05 * 1024 + 128, and than the need of 1024
    assert entitled(lab) == [960] * 4


def test_of_the_surplus_idle_memory_earns_a_quarter_of_what_busy_memory_does() -> None:
    lab = Lab([Machine(name="busy", uses=2 * GIB), Machine(name="idle", uses=GIB // 2)], total=5 * GIB)
    lab.run(60)
    earned, due = [], []
    for name in ("busy", "idle"):
        verdict = lab.verdict(name)
        assert verdict.demand is not None
        earned.append(verdict.entitlement - verdict.demand.want)
        due.append(0.25 + 0.75 * verdict.demand.working_set / verdict.actual)
    assert earned[0] / earned[1] == pytest.approx(due[0] / due[1], rel=1e-6)
    assert due[0] / due[1] > 1.3


@pytest.mark.parametrize(("short", "reason"), [(0, Reason.FITS), (1, Reason.SURPLUS)])
def test_all_that_fit_at_their_maximum_to_the_last_byte_get_it_for_that_reason(
    short: int, reason: Reason
) -> None:
    lab = crowd()
    lab.run(100)
    lab.machines = lab.machines[:1]
    lab.machines[0].actual = 2 * GIB
    lab.total = 4 * GIB + 256 * MIB - short  # all that is there, but for the reserve
    lab.run()
    assert lab.verdict("g0").reason is reason
    assert (lab.verdict("g0").entitlement == 4 * GIB) == (short == 0)


def test_what_the_host_itself_used_a_moment_ago_is_still_counted() -> None:
    lab = crowd(own=2 * GIB)
    assert lab.run().decision.ledger.own == 2 * GIB  # type: ignore[union-attr]  # the host is seen
    lab.own = 0
    assert lab.run().decision.ledger.own > 1.99 * GIB  # type: ignore[union-attr]  # likewise


def test_a_rung_is_told_and_held_and_outlives_ticks_that_see_nothing() -> None:
    lab = crowd(total=20 * GIB, own=15 * GIB + 700 * MIB)  # 68 MiB are free beyond the reserve
    assert lab.run().decision.rung is Rung.RED
    lab.own = 0
    assert lab.run().decision.rung is Rung.RED
    lab.host_lost = True
    blind = lab.run().decision
    assert (blind.rung, blind.actions, blind.ledger) == (Rung.RED, (), None)
    lab.host_lost = False
    assert lab.run().decision.rung is Rung.RED
    assert lab.run(20).decision.rung is Rung.GREEN


def test_a_reserve_may_be_a_share_of_what_there_is() -> None:
    host = HostPolicy(reserve=Amount(share=0.25), pool=Amount(size=GIB))
    ledger = crowd(config=config(host=host)).run().decision.ledger
    assert ledger is not None
    assert (ledger.reserve, ledger.pool) == (2 * GIB, GIB)


def test_the_loop_is_told_to_hurry_while_somebody_waits_for_what_others_give() -> None:
    lab = crowd()
    assert lab.run(60).decision.hurry is False
    for name in ("g0", "g1"):
        lab[name].uses = 3 * GIB
    assert lab.run().decision.hurry is True


def test_a_new_configuration_is_heeded_at_once() -> None:
    lab = crowd()
    lab.run(3)
    lab.config = config(minimum=0.5)
    lab.run()
    assert {v.demand.guarantee for v in lab.tick.decision.verdicts if v.demand} == {2 * GIB}  # type: ignore[union-attr]
    lab.run()
    assert {v.demand.guarantee for v in lab.tick.decision.verdicts if v.demand} == {2 * GIB}  # type: ignore[union-attr]


def test_a_rule_may_name_a_guest_by_its_uuid() -> None:
    lab = crowd(config=config(guests=(GuestRule(uuid="uuid-g1", policy=GuestPolicy(manage=False)),)))
    lab.run()
    assert [v.obstacle for v in lab.tick.decision.verdicts] == [None, Obstacle.UNMANAGED, None, None]  # type: ignore[union-attr]


def test_a_guest_whose_balloon_moves_while_nobody_has_told_yet_is_not_taken_to_use_more() -> None:
    lab = crowd()
    lab["g0"].obeys, lab["g0"].resident = False, 4 * GIB  # it touched all of it once
    lab.run(4)
    target = lab.verdict("g0").target
    assert target < 4 * GIB - 100 * MIB
    lab["g0"].statistics = {
        "untrusted_usable": target - GIB
    }  # the guest knows; `actual` is still the old one
    lab.run()
    assert lab.verdict("g0").demand.working_set == GIB  # type: ignore[union-attr]


def test_a_guest_that_could_not_be_read_for_a_moment_is_known_again_when_it_can_be() -> None:
    lab = crowd()
    lab.run(60)
    lab["g0"].more = {"obstacle": Obstacle.UNREADABLE}
    lab["g1"].more = {"obstacle": Obstacle.IN_JOB}
    lab.run(3)
    lab["g0"].more, lab["g1"].more = {}, {}
    lab.run()
    trusts = [lab.verdict(name).demand.trust for name in ("g0", "g1")]  # type: ignore[union-attr]
    assert trusts == [Trust.FRESH, Trust.NEW]


def test_one_that_could_not_be_read_is_looked_at_again_soon_and_once() -> None:
    lab = crowd()
    assert not lab.run(60).decision.hurry
    lab["g0"].more = {"obstacle": Obstacle.UNREADABLE}
    assert lab.run().decision.hurry
    assert not lab.run().decision.hurry, "it hangs"
    lab["g0"].more = {}
    assert not lab.run().decision.hurry
    lab["g0"].more = {"obstacle": Obstacle.IN_JOB}
    assert not lab.run().decision.hurry
    lab["g0"].more = {"obstacle": Obstacle.UNREADABLE}
    assert not lab.run().decision.hurry


def test_what_was_asked_of_a_guest_is_forgotten_when_it_must_be_left_alone() -> None:
    lab = crowd()
    lab["g0"].obeys = False
    lab.run(4)
    assert lab.verdict("g0").target < 4 * GIB
    lab["g0"].more = {"obstacle": Obstacle.IN_JOB}
    lab.run()
    assert lab.verdict("g0").target == 4 * GIB


def test_a_guest_that_falls_silent_is_counted_as_its_maximum() -> None:
    lab = crowd()
    lab.run(60)
    others = sum(lab[name].actual for name in ("g1", "g2", "g3"))
    lab["g0"].quiet = True
    ledger = lab.run(1, every_s=301.0).decision.ledger
    assert ledger is not None
    assert lab.verdict("g0").demand.trust is Trust.SILENT  # type: ignore[union-attr]
    assert ledger.committed == 4 * GIB + others
    assert entitled(lab)[0] == lab["g0"].actual // MIB


@pytest.mark.parametrize("obstacle", [Obstacle.UNREADABLE, Obstacle.IN_JOB])
def test_a_guest_out_of_reach_counts_as_its_maximum_once_nothing_was_heard_of_it_for_minutes(
    obstacle: Obstacle,
) -> None:
    lab = crowd()
    lab.run(60)
    has = lab["g0"].actual
    others = sum(lab[name].actual for name in ("g1", "g2", "g3"))
    lab["g0"].more, lab["g0"].quiet = {"obstacle": obstacle}, True
    heard = lab.run(1, every_s=SILENT_S).decision.ledger
    unheard = lab.run(1, every_s=1.0).decision.ledger
    assert heard is not None
    assert unheard is not None
    assert (heard.committed, unheard.committed) == (has + others, 4 * GIB + others)


def test_guests_that_nobody_asks_for_statistics_are_not_missed() -> None:
    unmanaged = GuestRule(name="g0", policy=GuestPolicy(manage=False))
    lab = crowd(config=config(guests=(unmanaged,)), total=24 * GIB)
    lab["g0"].actual, lab["g0"].quiet = GIB, True
    for obstacle in (Obstacle.IN_JOB, Obstacle.NOT_RUNNING, None):
        lab["g0"].more = {"obstacle": obstacle}
        ledger = lab.run(1, every_s=301.0).decision.ledger
        assert ledger is not None
        assert ledger.committed == GIB + 12 * GIB


def test_targets_are_whole_mebibytes_whatever_a_guest_is_made_of() -> None:
    lab = Lab([Machine(name=f"g{i}", maximum=4 * GIB - 12345, actual=4 * GIB - 12345) for i in range(4)])
    lab.run(60)
    lab["g0"].uses = 2 * GIB
    lab.run(60)
    assert {type(action.target) for action in lab.done} == {int}
    assert {action.target % MIB for action in lab.done} == {0}
    assert any(action.target > action.actual for action in lab.done)


def test_a_balloon_that_never_moved_is_told_to_stay_where_it_is() -> None:
    lab = crowd()
    lab["g0"].obeys, lab["g0"].actual = False, 4 * GIB - 12345
    lab.run(25)
    first, second, *_, last = (action.target for action in lab.done if action.name == "g0")
    assert first == 4 * GIB - 12345
    assert second < 4 * GIB - MIB
    assert last == 4 * GIB - 12345


def test_a_daemon_that_starts_tells_each_balloon_that_is_out_to_stay_and_moves_nobody() -> None:
    lab = crowd(total=12 * GIB)
    lab["g0"].actual, lab["g1"].actual = GIB + 5, 2 * GIB
    lab["g0"].uses = GIB
    tick = lab.run(1)
    assert [(action.name, action.target) for action in lab.done] == [("g0", GIB + 5), ("g1", 2 * GIB)]
    assert {verdict.reason for verdict in tick.decision.verdicts} == {Reason.SETTLING}
    assert tick.decision.hurry  # to look again soon
    lab.run(1)
    assert lab["g0"].actual > GIB + 5


def hogged(**more: object) -> Lab:
    """A guest whose balloon does not move holds half of a host that is short; two others work."""
    hog = Machine(name="hog", resident=4 * GIB, obeys=False)
    others = [Machine(name=name, maximum=2 * GIB, actual=2 * GIB, uses=GIB) for name in ("a", "b")]
    return Lab([hog, *others], own=1900 * MIB, swap=8 * GIB, **more)  # type: ignore[arg-type]  # fields of Lab


def reclaimed(lab: Lab) -> set[str]:
    return {each.name for each in lab.taken if isinstance(each, Reclaim)}


def limited(lab: Lab) -> list[tuple[str, bool]]:
    return [(each.name, each.limit is not None) for each in lab.taken if isinstance(each, LimitSoftly)]


def test_who_holds_the_hosts_memory_against_its_balloon_is_reclaimed_from_and_limited() -> None:
    lab = hogged()
    lab.run(10)
    assert reclaimed(lab) == {"hog"}
    assert limited(lab) == [("hog", True)]


@pytest.mark.parametrize("grows", [True, False])
def test_a_guest_whom_no_order_reached_is_not_taken_for_one_that_does_not_give(grows: bool) -> None:
    lab = Lab([Machine(name="a", uses=3 * GIB), Machine(name="b", uses=2 * GIB)], total=6 * GIB, swap=8 * GIB)
    lab.run(60)
    lab.refuse = Result.TIMED_OUT
    lab["a"].uses = lab["a"].actual - 16 * MIB if grows else GIB
    lab["b"].uses = lab["b"].uses if grows else lab["b"].actual - 16 * MIB
    lab.run(4)
    assert lab.verdict("a").reason is Reason.STUCK
    lab.own = 3 * GIB
    assert lab.run(2).decision.rung is Rung.RED
    assert limited(lab) == []
    assert reclaimed(lab) == set()


def test_when_the_host_is_better_the_limit_goes() -> None:
    lab = hogged()
    lab.run(10)
    lab.own = 0
    lab["hog"].resident = lab["hog"].actual = GIB
    lab.run(60)
    assert limited(lab) == [("hog", True), ("hog", False)]
    taken = len(lab.taken)
    lab.run(30)
    assert len(lab.taken) == taken


def test_without_hosts_figures_nothing_is_taken_and_a_limit_in_force_is_not_forgotten() -> None:
    lab = hogged()
    lab.run(10)
    lab.taken.clear()
    lab.host_lost = True
    lab.run(3)
    assert lab.taken == []
    lab.host_lost, lab.own = False, 0
    lab["hog"].resident = lab["hog"].actual = GIB
    lab.run(60)
    assert limited(lab) == [("hog", False)]


@pytest.mark.parametrize("lost", ["host_lost", "guests_lost"])
def test_what_came_of_a_limit_is_not_forgotten_with_a_tick_that_sees_nothing(lost: str) -> None:
    lab = hogged(refuse_measures=Result.REFUSED)
    lab.run(10)
    assert limited(lab)[-1] == ("hog", True)
    setattr(lab, lost, True)
    lab.refuse_measures = None
    lab.run(3)
    setattr(lab, lost, False)
    lab.taken.clear()
    lab.run(2)
    assert limited(lab) == [("hog", True)]


def test_a_limit_whose_lift_failed_goes_after_a_tick_that_sees_nothing() -> None:
    lab = hogged()
    lab.run(10)
    lab.own, lab.refuse = 0, Result.TIMED_OUT
    lab["hog"].resident = lab["hog"].actual = GIB
    lab.run(30)
    assert limited(lab)[-1] == ("hog", False)
    lab.host_lost = True
    lab.run()
    lab.host_lost, lab.refuse = False, None
    lab.taken.clear()
    lab.run(5)
    assert limited(lab) == [("hog", False)]


def test_without_libvirt_a_limit_goes_when_the_host_is_better_and_none_is_set() -> None:
    lab = hogged()
    lab.run(10)
    lab.taken.clear()
    lab.guests_lost = True
    assert lab.run(10).decision.rung is Rung.RED
    assert lab.taken == []
    lab.own = 0
    lab["hog"].resident = lab["hog"].actual = GIB
    assert lab.run(40).decision.rung is Rung.GREEN
    assert limited(lab) == [("hog", False)]
    lab.own = 8 * GIB
    assert lab.run(10).decision.rung is Rung.RED
    assert limited(lab) == [("hog", False)]


def test_without_libvirt_a_limit_that_swap_has_no_room_for_goes() -> None:
    lab = hogged()
    lab.run(10)
    lab.taken.clear()
    lab.guests_lost, lab.swap = True, 0
    lab.run(3)
    assert limited(lab) == [("hog", False)]


def test_without_libvirt_limits_of_the_mode_before_are_none_any_more() -> None:
    lab = hogged()
    lab.run(10)
    lab.taken.clear()
    lab.guests_lost, lab.config, lab.own = True, replace(lab.config, mode=Mode.OBSERVE), 0
    assert lab.run().measured == ()


@dataclass
class Merging(Lab):
    """A host that merges."""

    ksm: Ksm | None = None

    def observe(self) -> Snapshot:
        seen = super().observe()
        return replace(seen, host=seen.host and replace(seen.host, ksm=self.ksm))


def merging(policy: KsmPolicy, *, run: int, saved: int) -> Merging:
    """A host of 8 GiB with one small guest, steered by us before."""
    settings = KsmSettings(run=run, pages_to_scan=100, sleep_ms=20)
    ksm = Ksm(
        run=run, saved=saved, profit=None, full_scans=0, pages_to_scan=100, advisor=None, settings=settings,
        found=replace(settings, run=0), put=settings, cpu_s=0.0,
    )  # fmt: skip
    return Merging([Machine(name="g", uses=GIB)], config=config(ksm=policy), ksm=ksm)


def set_merging(lab: Lab) -> list[KsmSettings]:
    return [each.to for each in lab.taken if isinstance(each, SetMerging)]


def test_without_libvirt_unmerging_is_broken_off_when_its_room_is_gone() -> None:
    lab = merging(KsmPolicy(mode=KsmMode.OFF), run=2, saved=2 * GIB)
    lab.run(2)
    lab.guests_lost = True
    lab.run(5)
    assert set_merging(lab) == []
    lab.own = 6 * GIB
    lab.run()
    assert set_merging(lab) == [KsmSettings(run=0)]


def test_without_libvirt_merging_keeps_the_pace_of_the_rung() -> None:
    lab = merging(KsmPolicy(mode=KsmMode.STEER), run=1, saved=0)
    lab.own = 6 * GIB + 900 * MIB
    tick = lab.run()
    assert tick.decision.merging is not None
    red = tick.decision.merging.cap
    lab.guests_lost, lab.own = True, 0
    tick = lab.run(40)
    assert (tick.decision.rung, tick.decision.merging and tick.decision.merging.stance) == (
        Rung.GREEN, Stance.MERGING
    )  # fmt: skip
    assert tick.decision.merging is not None
    assert tick.decision.merging.cap is not None
    assert red is not None
    assert tick.decision.merging.cap < red


def test_a_change_of_mode_forgets_limits_since_it_puts_them_back() -> None:
    lab = hogged()
    lab.run(10)
    active = lab.config
    lab.config = replace(active, mode=Mode.OBSERVE)
    lab.run(2)
    lab.config = active
    lab.taken.clear()
    lab.run(2)
    assert limited(lab) == [("hog", True)]


def test_who_is_unmanaged_is_neither_reclaimed_from_nor_counted_on() -> None:
    rule = GuestRule(name="hog", policy=GuestPolicy(manage=False))
    lab = hogged(config=config(guests=(rule,)))
    lab.run(20)
    assert "hog" not in reclaimed(lab)
    assert limited(lab) == []
