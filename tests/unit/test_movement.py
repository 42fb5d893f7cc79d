"""Whether a balloon follows: progress, stalls, and what is counted meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import Guest, Outcome, Reason, Result, SetTarget
from balloond.policy.movement import ASIDE_MOST_S, Movement, ask, watch, withdraw, within_trial
from balloond.units import GIB, MIB


def guest(actual: int) -> Guest:
    return Guest(uuid="u", name="g", maximum=4 * GIB, actual=actual)


def outcome(result: Result, target: int = GIB) -> Outcome:
    action = SetTarget(uuid="u", name="g", actual=2 * GIB, target=target, reason=Reason.REFILL, words="")
    return Outcome(action=action, result=result)


ASKED = ask(Movement(), guest(2 * GIB), GIB, Reason.REFILL, 100.0, works_with=GIB // 2)


def test_what_was_asked_is_remembered() -> None:
    before = Movement(told=5, nearest=7, aside_s=120.0, aside_until_s=9.0, grown_s=1.0)
    assert ask(before, guest(2 * GIB), GIB, Reason.REFILL, 100.0, works_with=GIB // 2) == replace(
        before,
        target=GIB,
        reason=Reason.REFILL,
        nearest=GIB,
        progressed_s=100.0,
        changed_s=100.0,
        shrunk_s=100.0,
        worked_with=GIB // 2,
    )


def test_only_a_shrink_is_remembered_as_one() -> None:
    before = Movement(shrunk_s=1.0)
    assert ask(before, guest(GIB), GIB - 1, Reason.REFILL, 100.0, works_with=GIB // 2).shrunk_s == 100.0
    assert ask(before, guest(GIB), GIB, Reason.NEED, 100.0, works_with=GIB // 2).shrunk_s == 1.0
    assert ask(before, guest(GIB), GIB + 1, Reason.NEED, 100.0, works_with=GIB // 2).shrunk_s == 1.0


def test_only_a_growth_is_remembered_as_one() -> None:
    before = Movement(grown_s=1.0)
    assert ask(before, guest(GIB), GIB + 1, Reason.NEED, 100.0, works_with=GIB // 2).grown_s == 100.0
    assert ask(before, guest(GIB), GIB, Reason.NEED, 100.0, works_with=GIB // 2).grown_s == 1.0
    assert ask(before, guest(GIB), GIB - 1, Reason.REFILL, 100.0, works_with=GIB // 2).grown_s == 1.0


def test_what_a_slow_balloon_will_give_is_told_by_its_latest_rate() -> None:
    assert (ASKED.rate, ASKED.least(2 * GIB)) == (float("inf"), 0)
    slow = watch(ASKED, guest(2 * GIB - 8 * MIB), None, 104.0)
    assert slow.rate == 2 * MIB
    assert slow.coming(2 * GIB - 8 * MIB, 104.0) == 30 * 2 * MIB
    assert slow.coming(GIB + 9 * MIB, 104.0) == 9 * MIB
    assert slow.least(2 * GIB) == 2 * GIB - 180 * 2 * MIB
    assert slow.least(100 * MIB) == 0
    quick = watch(slow, guest(2 * GIB - 108 * MIB), None, 105.0)
    assert (quick.rate, quick.least(2 * GIB)) == (100 * MIB, 0)


def test_how_fast_it_gave_counts_while_it_gives_and_no_longer() -> None:
    slow = watch(ASKED, guest(2 * GIB - 8 * MIB), None, 104.0)
    assert watch(slow, guest(2 * GIB - 9 * MIB), None, 105.0).rate == 2 * MIB, "no progress worth the name"
    assert watch(slow, guest(2 * GIB - 16 * MIB), None, 104.0).rate == 2 * MIB, "in no time there is no rate"
    again = ask(slow, guest(2 * GIB - 8 * MIB), GIB - 1, Reason.NEED, 105.0, works_with=GIB)
    assert again.rate == 2 * MIB
    grown = ask(slow, guest(2 * GIB - 8 * MIB), 2 * GIB, Reason.NEED, 105.0, works_with=GIB)
    assert grown.rate == float("inf")
    assert watch(grown, guest(2 * GIB - 5 * MIB), None, 106.0).rate == float("inf"), "it gives nothing"
    assert watch(slow, guest(GIB), None, 105.0).rate == float("inf")
    assert replace(slow, target=None).least(2 * GIB) == 0


def test_a_balloon_at_rest_stays_at_rest() -> None:
    assert watch(Movement(), guest(GIB), None, 100.0) == Movement()


def test_a_balloon_that_has_come_within_four_mebibytes_has_arrived() -> None:
    assert watch(ASKED, guest(GIB + 4 * MIB), None, 102.0).target is None
    assert watch(ASKED, guest(GIB - 4 * MIB), None, 102.0).target is None
    assert watch(ASKED, guest(GIB + 4 * MIB + 1), None, 102.0).target == GIB


def test_progress_is_noted_when_it_is_more_than_a_mebibyte() -> None:
    moved = watch(ASKED, guest(2 * GIB - 2 * MIB), outcome(Result.DONE), 103.0)
    assert (moved.progressed_s, moved.nearest) == (103.0, GIB - 2 * MIB)
    assert watch(ASKED, guest(2 * GIB - MIB), outcome(Result.DONE), 103.0).progressed_s == 100.0


def test_a_balloon_without_progress_for_five_seconds_is_not_counted_on() -> None:
    assert not ASKED.stalled(105.0)
    assert ASKED.stalled(105.1)
    assert not Movement().stalled(1e9)
    assert ASKED.coming(2 * GIB, 105.0) == GIB
    assert ASKED.coming(2 * GIB, 105.1) == 0
    assert ASKED.coming(GIB // 2, 101.0) == 0
    assert Movement().coming(GIB, 101.0) == 0


def test_a_balloon_without_progress_for_half_a_minute_is_left_alone_longer_each_time() -> None:
    at_work = watch(ASKED, guest(2 * GIB), outcome(Result.DONE), 130.0)
    assert at_work.target == GIB
    stuck = watch(at_work, guest(2 * GIB), None, 130.1)
    assert stuck.target is None
    assert stuck.aside(190.0)
    assert not stuck.aside(190.1)
    now_s, movement = 200.0, stuck
    for expected in (120.0, 240.0, 480.0, 960.0, 1920.0, ASIDE_MOST_S, ASIDE_MOST_S):
        movement = ask(movement, guest(2 * GIB), GIB, Reason.REFILL, now_s, works_with=GIB // 2)
        movement = watch(movement, guest(2 * GIB), None, now_s + 31)
        assert movement.aside_until_s == now_s + 31 + expected
        now_s += 31 + expected


def test_only_who_was_asked_to_give_and_did_not_refuses() -> None:
    grows = ask(Movement(), guest(2 * GIB), 3 * GIB, Reason.NEED, 100.0, works_with=GIB)
    assert not ASKED.refuses(2 * GIB, 105.0)
    assert ASKED.refuses(2 * GIB, 105.1)
    assert not grows.refuses(2 * GIB, 105.1)
    assert not watch(grows, guest(2 * GIB), None, 131.0).refuses(2 * GIB, 131.0)
    for result in (Result.TIMED_OUT, Result.REFUSED):  # libvirt, not the guest
        assert not watch(ASKED, guest(2 * GIB), outcome(result), 102.0).refuses(2 * GIB, 102.0)
    stuck = watch(ASKED, guest(2 * GIB), None, 131.0)
    assert stuck.refuses(2 * GIB, 131.0)
    assert not stuck.refuses(2 * GIB, 191.1)


def test_who_took_more_than_it_was_grown_to_has_arrived_and_who_gives_has_not() -> None:
    grown = ask(Movement(), guest(GIB), 2 * GIB, Reason.NEED, 100.0, works_with=GIB)
    assert watch(grown, guest(3 * GIB), None, 102.0).target is None
    assert watch(grown, guest(3 * GIB), None, 102.0).told == 2 * GIB, "its device may go there yet"
    assert watch(grown, guest(2 * GIB - 5 * MIB), None, 102.0).target == 2 * GIB
    gave_then = replace(grown, shrunk_s=grown.grown_s)
    assert watch(gave_then, guest(3 * GIB), None, 102.0).target == 2 * GIB
    assert watch(ASKED, guest(3 * GIB), None, 102.0).target == GIB


def test_a_balloon_that_arrives_has_made_good() -> None:
    grim = replace(ASKED, aside_s=960.0)
    assert grim.on_trial
    redeemed = watch(grim, guest(GIB), None, 110.0)
    assert redeemed.aside_s == 60.0
    assert not redeemed.on_trial


def test_the_second_try_in_vain_puts_a_guest_on_trial() -> None:
    once = watch(ASKED, guest(2 * GIB), outcome(Result.TIMED_OUT), 102.0)
    assert not once.on_trial
    again = ask(once, guest(2 * GIB), GIB, Reason.REFILL, 112.0, works_with=GIB // 2)
    assert watch(again, guest(2 * GIB), outcome(Result.TIMED_OUT), 114.0).on_trial
    assert watch(again, guest(2 * GIB), None, 143.0).on_trial


def test_a_trial_goes_64_mib_either_way() -> None:
    assert within_trial(3 * GIB, GIB) == GIB + 64 * MIB
    assert within_trial(0, GIB) == GIB - 64 * MIB
    assert within_trial(GIB + 64 * MIB - 1, GIB) == GIB + 64 * MIB - 1
    assert within_trial(GIB - 64 * MIB + 1, GIB) == GIB - 64 * MIB + 1


@pytest.mark.parametrize("result", [Result.BUSY, Result.UNREACHABLE, Result.OBSERVED, Result.GONE])
def test_what_was_never_asked_may_be_asked_again_at_once(result: Result) -> None:
    movement = watch(ASKED, guest(2 * GIB), outcome(result), 102.0)
    assert movement.target is None
    assert not movement.aside(102.0)
    assert movement.told is None


@pytest.mark.parametrize("result", [Result.REFUSED, Result.TIMED_OUT])
def test_what_was_refused_or_timed_out_waits_ten_seconds(result: Result) -> None:
    movement = watch(ASKED, guest(2 * GIB), outcome(result), 102.0)
    assert movement.target is None
    assert movement.aside(111.9)
    assert not movement.aside(112.0)


def test_what_a_device_was_told_counts_until_it_is_there() -> None:
    moved = watch(ASKED, guest(int(1.5 * GIB)), outcome(Result.DONE), 102.0)
    assert moved.told == GIB
    assert watch(moved, guest(GIB), None, 104.0).told is None


def test_after_a_timeout_the_larger_of_both_sizes_may_stand() -> None:
    before = replace(ASKED, told=3 * GIB)
    assert watch(before, guest(2 * GIB), outcome(Result.TIMED_OUT), 102.0).told == 3 * GIB
    assert watch(ASKED, guest(2 * GIB), outcome(Result.TIMED_OUT), 102.0).told == GIB
    assert watch(before, guest(2 * GIB), outcome(Result.DONE), 102.0).told == GIB


def test_a_device_has_arrived_within_four_mebibytes_of_what_it_was_told() -> None:
    left = Movement(told=GIB)
    assert watch(left, guest(GIB + 4 * MIB), None, 102.0).told is None
    assert watch(left, guest(GIB - 4 * MIB), None, 102.0).told is None
    assert watch(left, guest(GIB + 4 * MIB + 1), None, 102.0).told == GIB


def test_a_target_that_nobody_waits_for_is_to_be_taken_back_after_a_while() -> None:
    left = watch(watch(ASKED, guest(2 * GIB), outcome(Result.DONE), 130.0), guest(2 * GIB), None, 131.0)
    assert left.told == GIB
    assert left.forgotten(131.0)
    assert not Movement().forgotten(1e9)
    assert not ASKED.forgotten(1e9)
    waiting = Movement(told=GIB, changed_s=1000.0)
    assert not waiting.forgotten(1030.0)
    assert waiting.forgotten(1030.1)
    again = withdraw(waiting, 1030.1)
    assert again == replace(waiting, changed_s=1030.1)
    assert not again.forgotten(1060.0)
