"""Which samples are believed, what they say of the demand, and how they age."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import Guest, GuestCgroup, Statistics, Trust
from balloond.policy.trust import Hearing, Total, judge, listen, touched
from balloond.units import GIB, MIB

WALL_S = 1_800_000_000.0
BORN = Hearing(born_s=0.0, settled=True)


def guest(stamp_s: float, *, actual: int = 2 * GIB, usable: int | None = GIB, **more: object) -> Guest:
    fields = {"rss": 2 * GIB, "statistics_period_s": 2, **more}
    told = {
        "untrusted_usable": usable,
        **{key: fields.pop(key) for key in list(fields) if key.startswith("untrusted")},
    }
    return Guest(
        uuid="u",
        name="g",
        maximum=4 * GIB,
        actual=actual,
        statistics=Statistics(last_update_s=int(stamp_s), **told),  # type: ignore[arg-type]  # sizes, by name
        **fields,  # type: ignore[arg-type]  # fields of Guest, by name
    )


def hear(before: Hearing, seen: Guest, now_s: float, moving_to: int | None = None) -> Hearing:
    return listen(seen, before, moving_to=moving_to, now_s=now_s, wall_s=WALL_S + now_s)[0]


def test_a_sample_tells_what_is_in_use() -> None:
    hearing, sample = listen(guest(WALL_S + 98), BORN, moving_to=None, now_s=100.0, wall_s=WALL_S + 100)
    assert sample is not None
    assert (sample.low, sample.high, sample.usable, sample.size) == (GIB, GIB, GIB, 2 * GIB)
    assert (sample.touched, sample.elapsed_s) == (touched(guest(WALL_S + 98)), 0.0)
    assert (hearing.sampled_s, hearing.samples, hearing.lying) == (98.0, 1, False)


def test_of_a_moving_balloon_a_sample_tells_the_least_and_the_most_that_the_guest_had() -> None:
    _, sample = listen(guest(WALL_S + 98), BORN, moving_to=GIB, now_s=100.0, wall_s=WALL_S + 100)
    assert sample is not None
    assert (sample.size_least, sample.size) == (GIB, 2 * GIB)


def test_the_same_sample_is_not_heard_twice() -> None:
    seen = guest(WALL_S + 98)
    first = hear(BORN, seen, 100.0)
    again, sample = listen(seen, first, moving_to=None, now_s=102.0, wall_s=WALL_S + 102)
    assert sample is None
    assert again is first


def told_again(
    actual: int, then: int = 2 * GIB, moving_to: int | None = None, usable: int = GIB
) -> tuple[Hearing, bool]:
    """What is made of the numbers of ten seconds ago, newly stamped, by a guest that had `then` at that time; and
    whether they are believed."""
    first = hear(BORN, guest(WALL_S + 90, actual=then, usable=usable), 90.0)
    first = hear(first, guest(WALL_S + 90, actual=actual, usable=usable), 95.0)
    seen = guest(WALL_S + 100, actual=actual, usable=usable)
    hearing, sample = listen(seen, first, moving_to=moving_to, now_s=100.0, wall_s=WALL_S + 100)
    return hearing, sample is not None


def test_numbers_that_a_moved_balloon_did_not_change_are_old_ones() -> None:
    assert told_again(2 * GIB)[1]
    assert told_again(2 * GIB - 8 * MIB)[1]
    assert not told_again(2 * GIB - 8 * MIB - 1)[1]
    assert not told_again(2 * GIB + 8 * MIB + 1)[1]
    assert told_again(GIB, moving_to=2 * GIB)[1], "it may not have moved yet"
    assert told_again(GIB, usable=0)[1], "who has nothing left may say so again"
    assert told_again(GIB)[0].lying


def test_a_balloon_that_somebody_else_moves_is_heard_of_late() -> None:
    first = hear(BORN, guest(WALL_S + 90), 90.5)
    late = hear(first, guest(WALL_S + 90, actual=GIB), 91.5)
    again, sample = listen(
        guest(WALL_S + 92, actual=GIB), late, moving_to=None, now_s=93.5, wall_s=WALL_S + 93.5
    )
    assert sample is not None
    resting = guest(WALL_S + 99, actual=GIB)
    assert listen(resting, again, moving_to=None, now_s=99.0, wall_s=WALL_S + 99)[1] is not None


def test_what_it_touched_is_resident_or_swapped_also_where_only_its_cgroup_knows() -> None:
    def seen(**more: object) -> int:
        return touched(replace(guest(0), **more))  # type: ignore[arg-type]  # fields of Guest, by name

    assert seen() == 2 * GIB
    assert seen(swapped=GIB) == 3 * GIB
    assert seen(swapped=0, cgroup=GuestCgroup(used=GIB, swapped=MIB)) == 2 * GIB + MIB
    assert seen(swapped=GIB, cgroup=GuestCgroup(used=GIB)) == 3 * GIB
    assert seen(rss=None, swapped=GIB) == 4 * GIB


def test_one_that_was_just_born_is_new_however_its_samples_age() -> None:
    spoke = Hearing(born_s=0.0, settled=False, samples=1, sampled_s=1.0)
    assert judge(guest(0), spoke, now_s=29.0, interval_s=2.0) is Trust.NEW
    assert judge(guest(0), spoke, now_s=30.0, interval_s=2.0) is Trust.STALE


def test_numbers_that_were_found_to_be_old_are_believed_again_only_when_they_change() -> None:
    frozen, _ = told_again(GIB)
    back = listen(guest(WALL_S + 110), frozen, moving_to=None, now_s=110.0, wall_s=WALL_S + 110)
    assert back[1] is None
    assert back[0].lying
    changed = guest(WALL_S + 120, usable=GIB + 4096)
    fresh = listen(changed, back[0], moving_to=None, now_s=120.0, wall_s=WALL_S + 120)
    assert fresh[1] is not None
    assert not fresh[0].lying


def test_the_time_between_samples_and_the_growth_of_counters_are_told() -> None:
    first = hear(
        BORN, guest(WALL_S + 98, untrusted_swap_in=100, untrusted_swap_out=9, untrusted_major_faults=7), 98.0
    )
    _, sample = listen(
        guest(
            WALL_S + 103,
            untrusted_swap_in=150,
            untrusted_swap_out=10,
            untrusted_major_faults=7,
            untrusted_unused=MIB,
        ),
        first,
        moving_to=None,
        now_s=103.5,
        wall_s=WALL_S + 103.5,
    )
    assert sample is not None
    assert (sample.elapsed_s, sample.swapped_in, sample.swapped_out, sample.faulted) == (5.0, 50, 1, 0)
    assert sample.unused == MIB


def test_without_usable_half_of_the_caches_counts_as_needed() -> None:
    seen = guest(WALL_S, usable=None, untrusted_unused=512 * MIB, untrusted_caches=256 * MIB)
    _, sample = listen(seen, BORN, moving_to=None, now_s=0.0, wall_s=WALL_S)
    assert sample is not None
    assert sample.low == 2 * GIB - 640 * MIB
    odd = guest(WALL_S, usable=None, untrusted_unused=512 * MIB, untrusted_caches=5)
    _, sample = listen(odd, BORN, moving_to=None, now_s=0.0, wall_s=WALL_S)
    assert sample is not None
    assert (sample.low, sample.usable) == (2 * GIB - 512 * MIB - 2, 512 * MIB + 2)
    bare = guest(WALL_S, usable=None, untrusted_unused=512 * MIB)
    _, sample = listen(bare, BORN, moving_to=None, now_s=0.0, wall_s=WALL_S)
    assert sample is not None
    assert sample.low == 2 * GIB - 512 * MIB


@pytest.mark.parametrize(
    "seen",
    [
        guest(0),
        guest(WALL_S, usable=None),
        guest(WALL_S, usable=None, untrusted_available=GIB, untrusted_caches=MIB),
        replace(guest(WALL_S), statistics=None),
    ],
)
def test_a_driver_that_says_nothing_of_use_gives_no_sample_and_is_no_liar(seen: Guest) -> None:
    hearing, sample = listen(seen, BORN, moving_to=None, now_s=0.0, wall_s=WALL_S)
    assert sample is None
    assert (hearing.samples, hearing.lying) == (0, False)


@pytest.mark.parametrize(
    "lie",
    [
        {"usable": 2 * GIB + 1},
        {"usable": -1},
        {"untrusted_available": 4 * GIB + 1},
        {"untrusted_unused": -4},
        {"untrusted_caches": 2**63},
        {"untrusted_swap_in": 9},
        {"untrusted_major_faults": 19},
    ],
)
def test_impossible_numbers_are_thrown_away_and_remembered_as_a_lie(lie: dict[str, int]) -> None:
    before = replace(BORN, samples=5, sampled_s=90.0, stamp_s=5, swap_in=10, major_faults=20)
    hearing, sample = listen(
        guest(WALL_S + 98, **lie),
        before,
        moving_to=None,
        now_s=100.0,
        wall_s=WALL_S + 100,
    )
    assert sample is None
    assert (hearing.lying, hearing.samples, hearing.sampled_s) == (True, 5, 90.0)
    assert hearing.stamp_s == int(WALL_S + 98)


def test_the_limits_themselves_are_possible() -> None:
    before = replace(BORN, swap_in=10, major_faults=20)
    seen = guest(
        WALL_S,
        usable=2 * GIB,
        untrusted_available=4 * GIB,
        untrusted_unused=0,
        untrusted_swap_in=10,
        untrusted_major_faults=20,
    )
    assert listen(seen, before, moving_to=None, now_s=0.0, wall_s=WALL_S)[1] is not None


def test_counters_that_restart_are_doubted_once_and_followed_from_then_on() -> None:
    first = hear(BORN, guest(WALL_S + 2, untrusted_swap_in=100), 2.0)
    reset = hear(first, guest(WALL_S + 4, untrusted_swap_in=0), 4.0)
    assert reset.lying
    assert not hear(reset, guest(WALL_S + 6, untrusted_swap_in=5), 6.0).lying


def test_nobody_needs_what_it_never_touched() -> None:
    _, sample = listen(guest(WALL_S, usable=0, rss=300 * MIB), BORN, moving_to=None, now_s=0.0, wall_s=WALL_S)
    assert sample is not None
    assert sample.high == 300 * MIB
    swapped = guest(WALL_S, usable=0, rss=300 * MIB, swapped=100 * MIB)
    _, sample = listen(swapped, BORN, moving_to=None, now_s=0.0, wall_s=WALL_S)
    assert sample is not None
    assert sample.high == 400 * MIB
    unknown = guest(WALL_S, usable=0, rss=None)
    _, sample = listen(unknown, BORN, moving_to=None, now_s=0.0, wall_s=WALL_S)
    assert sample is not None
    assert sample.high == 2 * GIB


def test_a_balloon_that_moved_about_the_time_of_the_sample_leaves_a_range() -> None:
    first = hear(BORN, guest(WALL_S + 100, actual=3 * GIB), 100.0)
    _, sample = listen(
        guest(WALL_S + 102, actual=2 * GIB), first, moving_to=None, now_s=102.0, wall_s=WALL_S + 102
    )
    assert sample is not None
    assert (sample.low, sample.high) == (GIB, 2 * GIB)


def test_a_move_more_than_a_second_before_the_sample_is_over() -> None:
    first = hear(BORN, guest(WALL_S + 100, actual=3 * GIB), 100.0)
    moved = hear(first, guest(WALL_S + 100, actual=2 * GIB), 102.0)
    _, sample = listen(
        guest(WALL_S + 104, actual=2 * GIB, usable=GIB - 1), moved,
        moving_to=None, now_s=104.0, wall_s=WALL_S + 104,
    )  # fmt: skip
    assert sample is not None
    assert (sample.low, sample.high) == (GIB + 1, GIB + 1)


def test_all_moves_since_the_sample_count_to_a_second_before_it() -> None:
    hearing = BORN
    for now_s, actual in (
        (99.0, 4 * GIB),
        (101.0, int(3.5 * GIB)),
        (102.0, 3 * GIB),
        (103.0, int(2.5 * GIB)),
    ):
        hearing = hear(hearing, guest(0, actual=actual), now_s)

    def between(stamp_s: float) -> tuple[int, int]:
        seen = guest(WALL_S + stamp_s, actual=2 * GIB, rss=4 * GIB)
        _, sample = listen(seen, hearing, moving_to=None, now_s=104.0, wall_s=WALL_S + 104)
        assert sample is not None
        return sample.low, sample.high

    assert between(102.0) == (GIB, 3 * GIB)
    assert between(103.0) == (GIB, int(2.5 * GIB))
    assert between(104.0) == (GIB, 2 * GIB)


def test_the_target_of_a_moving_balloon_is_within_the_range() -> None:
    seen = guest(WALL_S, rss=4 * GIB)
    _, shrinking = listen(seen, BORN, moving_to=int(1.5 * GIB), now_s=0.0, wall_s=WALL_S)
    _, growing = listen(seen, BORN, moving_to=3 * GIB, now_s=0.0, wall_s=WALL_S)
    assert shrinking is not None
    assert growing is not None
    assert (shrinking.low, shrinking.high) == (GIB // 2, GIB)
    assert (growing.low, growing.high) == (GIB, 2 * GIB)


KEPT = 50 * MIB  # by the guest's kernel, beside its total


def placed(told: int | None, *before: tuple[int, int | None], **more: object) -> tuple[int, int]:
    """Where the balloon is taken to have been at a sample that told this total while it went from 3 to 2 GiB,
    after samples of these sizes and totals, each at rest."""
    hearing, now_s = BORN, 0.0
    for actual, total in before:
        resting = guest(
            WALL_S + now_s, actual=actual, usable=GIB + int(now_s), untrusted_available=total, **more
        )
        hearing = hear(hearing, replace(resting, statistics=None), now_s)
        now_s += 10.0
        assert resting.statistics is not None
        said = replace(resting.statistics, last_update_s=int(WALL_S + now_s))
        hearing = hear(hearing, replace(resting, statistics=said), now_s)
    hearing = hear(hearing, replace(guest(0, actual=3 * GIB), statistics=None), now_s)
    seen = guest(WALL_S + now_s + 10.0, usable=GIB // 2, untrusted_available=told, rss=4 * GIB)
    _, sample = listen(seen, hearing, moving_to=None, now_s=now_s + 10.0, wall_s=WALL_S + now_s + 10.0)
    assert sample is not None
    return sample.low + GIB // 2, sample.high + GIB // 2


FOLLOWED = ((2 * GIB, 2 * GIB - KEPT), (3 * GIB, 3 * GIB - KEPT))
UNKNOWN = (2 * GIB, 3 * GIB)
NONE = Total(told=0, actual=0, maximum=0)


def test_a_total_that_follows_the_balloon_tells_where_it_was_when_the_sample_was_taken() -> None:
    assert placed(3 * GIB - KEPT, *FOLLOWED) == (3 * GIB, 3 * GIB)
    assert placed(2 * GIB - KEPT, *FOLLOWED) == (2 * GIB, 2 * GIB)
    assert placed(2500 * MIB - KEPT, *FOLLOWED) == (2500 * MIB, 2500 * MIB)
    assert placed(3 * GIB - KEPT, *FOLLOWED, FOLLOWED[1]) == (3 * GIB, 3 * GIB), "also when it moved long ago"
    to_a_mib = (2 * GIB, 2 * GIB - KEPT), (3 * GIB, 3 * GIB - KEPT + MIB)
    assert placed(2 * GIB - KEPT, *to_a_mib) == (2 * GIB, 2 * GIB)


def test_a_total_that_no_size_that_the_host_knows_accounts_for_is_not_gone_by() -> None:
    assert placed(3 * GIB - KEPT + MIB, *FOLLOWED) == (3 * GIB, 3 * GIB), "to the mebibyte"
    assert placed(3 * GIB - KEPT + MIB + 1, *FOLLOWED) == UNKNOWN
    assert placed(2 * GIB - KEPT - MIB, *FOLLOWED) == (2 * GIB, 2 * GIB)
    assert placed(2 * GIB - KEPT - MIB - 1, *FOLLOWED) == UNKNOWN


def test_so_much_it_had_at_most_as_far_as_its_total_tells() -> None:
    hearing = BORN
    for now_s, size in ((10.0, 2 * GIB), (20.0, 2 * GIB + 100 * MIB), (30.0, 2 * GIB + 200 * MIB)):
        resting = guest(WALL_S + now_s, actual=size, untrusted_available=size - KEPT)
        hearing = hear(hear(hearing, replace(resting, statistics=None), now_s - 5.0), resting, now_s)
        assert hearing.total == Total(told=size - KEPT, actual=size, maximum=4 * GIB, follows=now_s > 10.0)
    grown = guest(WALL_S + 32.0, actual=3 * GIB, usable=0, untrusted_available=2 * GIB + 200 * MIB - KEPT)
    _, sample = listen(grown, hearing, moving_to=None, now_s=32.0, wall_s=WALL_S + 32.0)
    assert sample is not None
    assert sample.size == 2 * GIB + 200 * MIB


def test_it_is_seen_to_follow_the_balloon_while_that_moves_too() -> None:
    assert placed(2500 * MIB - KEPT, FOLLOWED[1]) == (2500 * MIB, 2500 * MIB)
    assert placed(3 * GIB - KEPT - 8 * MIB, FOLLOWED[1]) == UNKNOWN
    assert placed(3 * GIB - KEPT - 8 * MIB - 1, FOLLOWED[1])[0] == 3 * GIB - 8 * MIB - 1
    assert placed(GIB, FOLLOWED[1]) == UNKNOWN
    assert placed(2500 * MIB) == UNKNOWN, "it was never told at rest"


def test_a_total_is_gone_by_only_once_it_was_seen_to_follow_the_balloon() -> None:
    assert placed(3 * GIB - KEPT) == UNKNOWN
    assert placed(3 * GIB - KEPT, FOLLOWED[1]) == UNKNOWN
    assert placed(3 * GIB, (3 * GIB - 8 * MIB, 3 * GIB - 8 * MIB), (3 * GIB, 3 * GIB)) == UNKNOWN, (
        "a small move"
    )
    assert placed(4 * GIB, (2 * GIB, 4 * GIB), (3 * GIB, 4 * GIB)) == UNKNOWN, (
        "with deflate-on-oom it never does"
    )
    assert placed(None, *FOLLOWED) == UNKNOWN
    assert placed(3 * GIB, *FOLLOWED, (3 * GIB, None)) == UNKNOWN
    assert placed(3 * GIB, *FOLLOWED, (3 * GIB, 3 * GIB)) == UNKNOWN, "it changed beside the balloon"
    just_more = (2 * GIB, 2 * GIB - KEPT), (3 * GIB, 3 * GIB - KEPT + MIB + 1)
    assert placed(3 * GIB - KEPT, *just_more) == UNKNOWN


def test_a_total_that_grew_as_memory_was_plugged_in_is_not_seen_to_follow_the_balloon() -> None:
    plugged = guest(WALL_S + 10.0, untrusted_available=2 * GIB)
    hearing = hear(BORN, plugged, 10.0)
    plugged = guest(WALL_S + 20.0, actual=3 * GIB, usable=2 * GIB, untrusted_available=3 * GIB)
    assert (hear(hear(hearing, replace(plugged, statistics=None), 15.0), plugged, 20.0).total or NONE).follows
    more = replace(plugged, maximum=5 * GIB)
    assert not (hear(hear(hearing, replace(more, statistics=None), 15.0), more, 20.0).total or NONE).follows


def test_with_deflate_on_oom_no_total_is_gone_by() -> None:
    assert placed(3 * GIB - KEPT, *FOLLOWED, deflates_on_oom=True) == UNKNOWN


def test_a_total_in_a_sample_that_is_not_believed_is_not_gone_by() -> None:
    hearing = BORN
    for now_s, actual, usable in ((90.0, 2 * GIB, GIB), (110.0, 3 * GIB, 4 * GIB)):
        seen = guest(WALL_S + now_s, actual=actual, usable=usable, untrusted_available=actual)
        hearing = hear(hearing, replace(seen, statistics=None), now_s - 5)
        hearing = hear(hearing, seen, now_s)
    assert hearing.lying
    assert hearing.total is not None
    assert hearing.total.actual == 2 * GIB


def test_usable_above_actual_is_possible_while_the_balloon_shrinks_the_guest() -> None:
    first = hear(BORN, guest(WALL_S + 100, actual=3 * GIB, usable=GIB), 100.0)
    seen = guest(WALL_S + 102, actual=GIB, usable=2 * GIB)
    assert listen(seen, first, moving_to=None, now_s=102.0, wall_s=WALL_S + 102)[1] is not None


def test_a_clock_that_jumps_makes_no_new_sample_older_than_the_one_before() -> None:
    first = hear(BORN, guest(WALL_S + 100), 100.0)
    later, sample = listen(
        guest(WALL_S + 102), first, moving_to=None, now_s=102.0, wall_s=WALL_S + 102 + 7200
    )
    assert sample is not None
    assert later.sampled_s == 100.0
    ahead, _ = listen(guest(WALL_S + 104), later, moving_to=None, now_s=104.0, wall_s=WALL_S)
    assert ahead.sampled_s == 104.0


def test_a_new_guest_settles_after_half_a_minute_and_three_samples() -> None:
    hearing = Hearing(born_s=0.0, settled=False)
    for now_s in (10.0, 20.0, 29.0):
        hearing = hear(hearing, guest(WALL_S + now_s), now_s)
    assert not hearing.settled
    assert hear(hearing, guest(WALL_S + 30), 30.0).settled
    young = Hearing(born_s=0.0, settled=False)
    for now_s in (100.0, 102.0):
        young = hear(young, guest(WALL_S + now_s), now_s)
    assert not young.settled
    assert hear(young, guest(WALL_S + 104), 104.0).settled


@pytest.mark.parametrize(
    ("age_s", "trust"),
    [
        (0.0, Trust.FRESH),
        (7.0, Trust.FRESH),
        (7.1, Trust.AGING),
        (13.0, Trust.AGING),
        (13.1, Trust.STALE),
        (300.0, Trust.STALE),
        (300.1, Trust.SILENT),
    ],
)
def test_what_is_known_ages_by_the_statistics_period(age_s: float, trust: Trust) -> None:
    hearing = replace(BORN, samples=3, sampled_s=1000.0)
    assert judge(guest(WALL_S), hearing, now_s=1000.0 + age_s, interval_s=1.0) is trust


def test_the_longer_of_period_and_interval_counts() -> None:
    hearing = replace(BORN, samples=3, sampled_s=1000.0)
    assert judge(guest(WALL_S), hearing, now_s=1030.0, interval_s=10.0) is Trust.FRESH
    slow = guest(WALL_S, statistics_period_s=10)
    assert judge(slow, hearing, now_s=1030.0, interval_s=1.0) is Trust.FRESH


def test_a_guest_never_heard_is_new_at_first_then_absent_or_lying() -> None:
    silent = Hearing(born_s=1000.0, settled=False)
    assert judge(guest(WALL_S), silent, now_s=1029.0, interval_s=2.0) is Trust.NEW
    assert judge(guest(WALL_S), silent, now_s=1030.0, interval_s=2.0) is Trust.ABSENT
    liar = replace(silent, lying=True)
    assert judge(guest(WALL_S), liar, now_s=1030.0, interval_s=2.0) is Trust.LYING
    assert judge(guest(WALL_S), liar, now_s=1300.0, interval_s=2.0) is Trust.LYING
    assert judge(guest(WALL_S), liar, now_s=1300.1, interval_s=2.0) is Trust.SILENT


def test_a_liar_is_one_only_while_it_lies_and_an_unsettled_guest_is_new() -> None:
    known = replace(BORN, samples=3, sampled_s=1000.0)
    assert judge(guest(WALL_S), replace(known, lying=True), now_s=1002.0, interval_s=2.0) is Trust.LYING
    assert judge(guest(WALL_S), replace(known, settled=False), now_s=1002.0, interval_s=2.0) is Trust.NEW


def test_numbers_from_before_the_reset_are_not_the_new_ones() -> None:
    reset = Hearing(born_s=100.0, settled=False)
    assert hear(reset, guest(WALL_S + 98), 102.0).samples == 0
    assert hear(reset, guest(WALL_S + 101), 102.0).samples == 0, "its stamp is in whole seconds"
    assert hear(reset, guest(WALL_S + 102), 103.0).samples == 1
    moved = hear(reset, guest(WALL_S + 98), 102.0)  # they are not believed, but where its balloon stood is
    assert moved.track == ((102.0, 2 * GIB),)
    assert hear(moved, guest(WALL_S + 98, actual=GIB), 104.0).track == ((102.0, 2 * GIB), (104.0, GIB))
