"""Whose memory the kernel is asked to take, how much of it, and when that ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import (
    Demand,
    Guest,
    GuestCgroup,
    Host,
    Ledger,
    LimitSoftly,
    Measure,
    Measured,
    Obstacle,
    Pressure,
    Reclaim,
    Result,
    Rung,
    Trust,
)
from balloond.policy.relief import (
    COLD_LEAST,
    ELAPSED_MOST_S,
    LEAST,
    RATE_GUEST,
    RATE_TOTAL,
    Holder,
    Relief,
    relieve,
    settle,
)
from balloond.units import GIB, MIB

HOST = Host(total=8 * GIB, available=200 * MIB, swap_total=8 * GIB, swap_free=8 * GIB)
LEDGER = Ledger(
    total=8 * GIB, available=200 * MIB, own=5 * GIB, reserve=200 * MIB, pool=800 * MIB, committed=8 * GIB,
    headroom=0, guaranteed=2 * GIB, covered=True,
)  # fmt: skip
"""The pool lacks all its 800 MiB; 2.8 GiB are for guests."""

BUDGET = LEDGER.total - LEDGER.own - LEDGER.reserve

NEED = Demand(
    trust=Trust.FRESH, working_set=GIB, want=GIB, need=GIB, enough=GIB, floor=GIB, guarantee=512 * MIB,
    ceiling=4 * GIB, margin=0, in_distress=False, suffers=False, squeezed=False, overhead=100 * MIB, memory=None,
)  # fmt: skip


def guest(name: str, resident: int) -> Guest:
    return Guest(
        uuid=f"uuid-{name}", name=name, maximum=4 * GIB, actual=4 * GIB, rss=resident + NEED.overhead
    )


def holder(name: str, resident: int = 4 * GIB, **more: object) -> Holder:
    made = Holder(
        guest=guest(name, resident), demand=NEED, shares=1000, target=4 * GIB, follows=True, obstacle=None
    )
    return replace(made, **more)  # type: ignore[arg-type]  # the test names fields of Holder


def wild(name: str, resident: int = 4 * GIB, **more: object) -> Holder:
    """One whose balloon does not follow."""
    return holder(name, resident, follows=False, **more)


def wanting(want: int, **more: object) -> Demand:
    return replace(NEED, want=want, **more)  # type: ignore[arg-type]  # the test names fields of Demand


def done(
    *holders: Holder,
    rung: Rung = Rung.ORANGE,
    elapsed_s: float = 1.0,
    host: Host = HOST,
    ledger: Ledger = LEDGER,
) -> tuple[Measure, ...]:
    return relieve(Relief(), (), holders, host, ledger, rung, elapsed_s=elapsed_s)[1]


def taken(*holders: Holder, **more: object) -> dict[str, int]:
    measures = done(*holders, **more)  # type: ignore[arg-type]  # the test names arguments of `done`
    return {each.name: each.size for each in measures if isinstance(each, Reclaim)}


@pytest.mark.parametrize("rung", [Rung.GREEN, Rung.YELLOW])
def test_nothing_is_taken_while_the_host_is_better_than_orange(rung: Rung) -> None:
    assert done(wild("hog"), holder("idle"), rung=rung) == ()


def test_on_orange_a_guest_over_its_claim_gives_before_the_coldest_one() -> None:
    assert list(taken(holder("idle"), wild("hog"))) == ["hog", "idle"]


def test_the_coldest_gives_first() -> None:
    cold, colder = holder("cold", 2 * GIB), holder("colder", 3 * GIB)
    assert list(taken(cold, colder)) == ["colder", "cold"]


def test_who_is_furthest_over_its_claim_gives_first() -> None:
    assert list(taken(wild("a", 3 * GIB), wild("b"))) == ["b", "a"]


def test_what_is_not_worth_a_process_is_let_be() -> None:
    nearly = replace(LEDGER, available=LEDGER.reserve + LEDGER.pool - LEAST)
    assert taken(wild("hog"), ledger=nearly) == {"hog": LEAST}
    assert taken(wild("hog"), ledger=replace(nearly, available=nearly.available + 1)) == {}


def test_the_rates_bound_what_is_taken_from_one_and_from_all() -> None:
    hogs = [wild(name) for name in "abcd"]
    first = taken(*hogs, elapsed_s=1.0)
    assert first == {"a": RATE_GUEST, "b": RATE_GUEST}
    assert sum(taken(*hogs, elapsed_s=1.0).values()) == RATE_TOTAL
    assert taken(*hogs, elapsed_s=0.5) == {"a": RATE_GUEST // 2, "b": RATE_GUEST // 2}


def test_a_long_pause_is_not_made_up_for_in_one_burst() -> None:
    big = replace(LEDGER, pool=8 * GIB)
    assert taken(wild("hog"), elapsed_s=3600, ledger=big)["hog"] == RATE_GUEST * ELAPSED_MOST_S


def test_no_more_is_taken_than_the_pool_lacks() -> None:
    lacking = replace(LEDGER, available=LEDGER.reserve + LEDGER.pool - 20 * MIB)
    assert taken(wild("hog"), ledger=lacking) == {"hog": 20 * MIB}
    full = replace(LEDGER, available=LEDGER.reserve + LEDGER.pool)
    assert taken(wild("hog"), ledger=full) == {}


def test_what_balloons_are_about_to_bring_is_not_taken_a_second_time() -> None:
    shrinking = holder("obedient", target=4 * GIB - 790 * MIB)
    assert taken(shrinking, wild("hog")) == {"hog": 10 * MIB}
    assert taken(shrinking) == {}
    assert taken(wild("hog", target=GIB)) == {"hog": RATE_GUEST}  # who does not follow brings nothing


def test_without_swap_nothing_is_taken_and_never_more_than_is_free_of_it() -> None:
    assert taken(wild("hog"), host=replace(HOST, swap_free=0)) == {}
    assert taken(wild("hog"), host=replace(HOST, swap_free=30 * MIB)) == {"hog": 30 * MIB}


def test_a_cold_guest_keeps_all_that_it_wants() -> None:
    just = GIB + COLD_LEAST
    assert taken(holder("idle", just - 1)) == {}
    assert taken(holder("idle", just)) == {"idle": COLD_LEAST}


def test_over_claiming_guests_keep_their_guarantee() -> None:
    promised = wild("hog", demand=replace(NEED, guarantee=4 * GIB - 9 * MIB))
    assert taken(promised) == {"hog": 9 * MIB}


def test_over_claiming_guests_keep_their_share_of_the_pool() -> None:
    fair = (BUDGET - 2 * NEED.overhead) // 2
    others = holder("other", GIB, demand=wanting(4 * GIB))
    assert taken(wild("hog", fair + 9 * MIB), others) == {"hog": 9 * MIB}
    assert taken(wild("hog", fair), others) == {}


@pytest.mark.parametrize("rss", [GIB, None])
def test_what_is_held_by_guests_that_are_not_to_be_touched_is_nobodys_to_claim(rss: int | None) -> None:
    held = holder(
        "pinned", obstacle=Obstacle.LOCKED, guest=replace(guest("pinned", 0), actual=924 * MIB, rss=rss)
    )
    left = BUDGET - NEED.overhead - GIB  # what is not known counts whole, with QEMU's need
    assert taken(wild("hog", left + 9 * MIB), held) == {"hog": 9 * MIB}
    assert taken(wild("hog", left), held) == {}
    elsewhere = replace(held, guest=replace(held.guest, in_pool=False))
    assert taken(wild("hog", left + 9 * MIB), elsewhere) == {}


def test_what_the_others_do_not_want_an_over_claiming_guest_may_keep() -> None:
    left = BUDGET - 2 * NEED.overhead - GIB
    assert taken(wild("hog", left + 9 * MIB), holder("other", GIB)) == {"hog": 9 * MIB}
    assert taken(wild("hog", left), holder("other", GIB)) == {}


@pytest.mark.parametrize("obstacle", [each for each in Obstacle if each is not Obstacle.NO_BALLOON])
def test_guests_that_are_to_be_left_alone_are_left_alone(obstacle: Obstacle) -> None:
    assert done(wild("hog", obstacle=obstacle), rung=Rung.RED) == ()


def test_a_guest_without_a_balloon_device_is_held_to_its_claim() -> None:
    assert taken(wild("hog", obstacle=Obstacle.NO_BALLOON), holder("other", GIB)) == {"hog": RATE_GUEST}


def test_guests_outside_of_the_pool_or_of_unknown_size_give_nothing() -> None:
    outside = replace(guest("hog", 4 * GIB), in_pool=False)
    unknown = replace(guest("hog", 4 * GIB), rss=None)
    assert taken(wild("hog", guest=outside)) == {}
    assert taken(wild("hog", guest=unknown)) == {}


@pytest.mark.parametrize(
    "more",
    [{"in_distress": True}, {"squeezed": True}, {"trust": Trust.AGING}, {"trust": Trust.NEW}],
)
def test_a_guest_that_suffers_or_is_not_known_is_never_called_cold(more: dict[str, object]) -> None:
    assert taken(holder("idle", demand=wanting(GIB, **more))) == {}


def test_a_cold_guest_that_waits_for_its_memory_is_let_be() -> None:
    def idle(some: float) -> Holder:
        waits = GuestCgroup(used=GIB, pressure=Pressure(some_avg10=some, full_avg10=0.0, some_total_us=0))
        return holder("idle", guest=replace(guest("idle", 4 * GIB), cgroup=waits))

    assert taken(idle(0.06)) == {}
    assert taken(idle(0.01)) == {"idle": RATE_GUEST}


def test_on_red_alone_over_claiming_guests_are_limited_and_only_once() -> None:
    other = holder("other", GIB)
    assert not any(isinstance(each, LimitSoftly) for each in done(wild("hog"), other))
    relief, measures = relieve(
        Relief(), (), [wild("hog", 8 * GIB), other], HOST, LEDGER, Rung.RED, elapsed_s=1
    )
    limits = [each for each in measures if isinstance(each, LimitSoftly)]
    left = BUDGET - 2 * NEED.overhead - GIB
    assert [(each.name, each.limit) for each in limits] == [("hog", left + NEED.overhead)]
    assert relief.limits == tuple(limits)
    came = tuple(Measured(measure=each, result=Result.DONE) for each in measures)
    again, more = relieve(relief, came, [wild("hog", 8 * GIB), other], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert again == relief
    assert not any(isinstance(each, LimitSoftly) for each in more)


def test_cold_guests_are_never_limited() -> None:
    assert not any(isinstance(each, LimitSoftly) for each in done(holder("idle"), rung=Rung.RED))


LIMIT = LimitSoftly(uuid="uuid-hog", name="hog", limit=GIB, words="")
LIMITED = Relief(limits=(LIMIT,))


def lifts(measures: tuple[Measure, ...]) -> list[str]:
    return [each.name for each in measures if isinstance(each, LimitSoftly) and each.limit is None]


@pytest.mark.parametrize(("rung", "lifted"), [(Rung.YELLOW, ["hog"]), (Rung.ORANGE, []), (Rung.RED, [])])
def test_a_limit_stays_until_the_host_is_yellow(rung: Rung, lifted: list[str]) -> None:
    relief, measures = relieve(LIMITED, (), [wild("hog", GIB)], HOST, LEDGER, rung, elapsed_s=1)
    assert lifts(measures) == lifted
    assert relief == (Relief(limits=(measures[0],)) if lifted else LIMITED)  # type: ignore[arg-type]  # a lift


def test_a_limit_goes_when_the_balloon_follows_again() -> None:
    _, measures = relieve(LIMITED, (), [holder("hog", GIB)], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert lifts(measures) == ["hog"]


def test_a_limit_goes_and_none_is_set_where_memory_is_free_again_whatever_the_pressure() -> None:
    enough = LEDGER.reserve + int(1.25 * LEDGER.pool)
    roomy = replace(LEDGER, available=enough)
    _, measures = relieve(LIMITED, (), [wild("hog")], HOST, roomy, Rung.RED, elapsed_s=1)
    assert lifts(measures) == ["hog"]
    assert done(wild("hog"), rung=Rung.RED, ledger=roomy) == ()
    nearly = replace(LEDGER, available=enough - 1)
    assert lifts(relieve(LIMITED, (), [wild("hog")], HOST, nearly, Rung.RED, elapsed_s=1)[1]) == []


def test_without_swap_nobody_is_limited_and_a_limit_goes() -> None:
    bare = replace(HOST, swap_free=LEAST - 1)
    assert done(wild("hog"), rung=Rung.RED, host=bare) == ()
    assert lifts(relieve(LIMITED, (), [wild("hog")], bare, LEDGER, Rung.RED, elapsed_s=1)[1]) == ["hog"]
    some = replace(HOST, swap_free=LEAST)
    assert any(isinstance(each, LimitSoftly) for each in done(wild("hog"), rung=Rung.RED, host=some))


def limits(measures: tuple[Measure, ...]) -> dict[str, int]:
    return {each.name: each.limit for each in measures if isinstance(each, LimitSoftly) and each.limit}


def bounded(limit: int, **more: object) -> Holder:
    """An over-claiming guest that its cgroups let no more than that into swap."""
    return wild("hog", guest=replace(guest("hog", 4 * GIB), swap_limit=limit, **more))  # type: ignore[arg-type]  # fields of Guest


def test_a_guest_whose_cgroup_lets_nothing_into_swap_is_left_alone_and_its_limit_goes() -> None:
    swapped = GuestCgroup(used=4 * GIB, swapped=GIB)
    for full in (bounded(LEAST - 1), bounded(GIB, swapped=GIB), bounded(GIB, cgroup=swapped)):
        assert done(full, rung=Rung.RED) == ()
        assert lifts(relieve(LIMITED, (), [full], HOST, LEDGER, Rung.RED, elapsed_s=1)[1]) == ["hog"]
    assert list(limits(done(bounded(LEAST), rung=Rung.RED))) == ["hog"]


def test_a_cold_guest_whose_cgroup_lets_nothing_into_swap_is_left_alone() -> None:
    idle = holder("idle", guest=replace(guest("idle", 4 * GIB), swap_limit=0))
    assert taken(idle, holder("other")) == {"other": RATE_GUEST}


def test_what_is_reclaimed_fits_into_what_the_guests_cgroup_leaves_of_swap() -> None:
    assert taken(bounded(GIB, swapped=GIB - 9 * MIB)) == {"hog": 9 * MIB}


def test_no_limit_is_further_below_what_a_guest_holds_than_swap_has_room_for() -> None:
    holds = 4 * GIB + NEED.overhead
    assert limits(done(bounded(GIB, swapped=GIB - 9 * MIB), rung=Rung.RED)) == {"hog": holds - 9 * MIB}
    nearly_full = replace(HOST, swap_free=9 * MIB)
    assert limits(done(wild("hog"), rung=Rung.RED, host=nearly_full)) == {"hog": holds - 9 * MIB}


def test_two_that_are_limited_at_once_do_not_count_on_the_same_swap() -> None:
    little = replace(HOST, swap_free=20 * MIB)
    found = limits(done(wild("a"), bounded(9 * MIB), rung=Rung.RED, host=little))
    holds = 4 * GIB + NEED.overhead
    assert found == {"a": holds - 20 * MIB}
    both = limits(done(bounded(9 * MIB), wild("z"), rung=Rung.RED, host=little))
    assert both == {"hog": holds - 9 * MIB, "z": holds - 11 * MIB}


def test_a_limit_goes_with_the_right_to_touch_the_guest() -> None:
    left_alone = wild("hog", obstacle=Obstacle.UNMANAGED)
    assert lifts(relieve(LIMITED, (), [left_alone], HOST, LEDGER, Rung.RED, elapsed_s=1)[1]) == ["hog"]


def test_a_limit_stays_while_the_monitor_is_late_and_goes_while_the_guest_is_in_a_job() -> None:
    late, moved = wild("hog", obstacle=Obstacle.UNREADABLE), wild("hog", obstacle=Obstacle.IN_JOB)
    assert relieve(LIMITED, (), [late], HOST, LEDGER, Rung.RED, elapsed_s=1) == (LIMITED, ())
    assert lifts(relieve(LIMITED, (), [moved], HOST, LEDGER, Rung.RED, elapsed_s=1)[1]) == ["hog"]
    assert lifts(relieve(LIMITED, (), [late], HOST, LEDGER, Rung.YELLOW, elapsed_s=1)[1]) == ["hog"]


def test_a_guest_that_was_started_anew_has_no_limit_yet() -> None:
    anew = wild("hog", guest=replace(guest("hog", 8 * GIB), incarnation=1))
    relief, measures = relieve(LIMITED, (), [anew], HOST, LEDGER, Rung.RED, elapsed_s=1)
    limits = [each for each in measures if isinstance(each, LimitSoftly)]
    assert [(each.limit is None, each.incarnation) for each in limits] == [(True, 0), (False, 1)]
    assert relief.limits == (limits[1],)
    came = tuple(Measured(measure=each, result=Result.DONE) for each in measures)
    assert relieve(relief, came, [anew], HOST, LEDGER, Rung.RED, elapsed_s=1)[0] == relief


def test_a_limit_that_may_yet_be_set_is_in_force() -> None:
    came = (Measured(measure=LIMIT, result=Result.TIMED_OUT),)
    hog = wild("hog", 8 * GIB)
    assert relieve(LIMITED, came, [hog], HOST, LEDGER, Rung.RED, elapsed_s=1)[0] == LIMITED
    assert lifts(relieve(LIMITED, came, [hog], HOST, LEDGER, Rung.GREEN, elapsed_s=1)[1]) == ["hog"]


@pytest.mark.parametrize(
    ("result", "over"), [(Result.DONE, True), (Result.GONE, True), (Result.REFUSED, False)]
)
def test_the_limit_of_a_guest_that_is_not_on_the_list_is_lifted_as_it_may_live_on(
    result: Result, over: bool
) -> None:
    relief, measures = relieve(LIMITED, (), [], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert lifts(measures) == ["hog"]
    came = (Measured(measure=measures[0], result=result),)
    relief, measures = relieve(relief, came, [], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert (relief == Relief()) is over
    assert lifts(measures) == ([] if over else ["hog"])


def test_a_guest_that_one_list_lacked_is_limited_anew_where_it_still_holds_too_much() -> None:
    relief, _ = relieve(LIMITED, (), [], HOST, LEDGER, Rung.RED, elapsed_s=1)
    relief, measures = relieve(relief, (), [wild("hog", 8 * GIB)], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert [each.limit is None for each in measures if isinstance(each, LimitSoftly)] == [True, False]
    assert [each.limit is None for each in relief.limits] == [False]


@pytest.mark.parametrize("result", [Result.REFUSED, Result.GONE])
def test_a_limit_that_could_not_be_set_is_tried_again(result: Result) -> None:
    failed = (Measured(measure=LIMIT, result=result),)
    _, measures = relieve(LIMITED, failed, [wild("hog", 8 * GIB)], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert any(isinstance(each, LimitSoftly) and each.limit for each in measures)


@pytest.mark.parametrize(
    ("result", "again"),
    [
        (Result.REFUSED, ["hog"]),
        (Result.BUSY, ["hog"]),
        (Result.TIMED_OUT, ["hog"]),
        (Result.DONE, []),
        (Result.OBSERVED, []),
        (Result.GONE, []),
    ],
)
def test_a_limit_that_could_not_be_lifted_is_lifted_again(result: Result, again: list[str]) -> None:
    came = (Measured(measure=replace(LIMIT, limit=None), result=result),)
    _, measures = relieve(Relief(), came, [wild("hog", GIB)], HOST, LEDGER, Rung.GREEN, elapsed_s=1)
    assert lifts(measures) == again


def test_a_lift_is_tried_until_it_is_told_to_be_done_even_if_a_tick_is_lost() -> None:
    hog = wild("hog", 8 * GIB)
    relief, first = relieve(LIMITED, (), [hog], HOST, LEDGER, Rung.YELLOW, elapsed_s=1)
    relief, again = relieve(relief, (), [hog], HOST, LEDGER, Rung.ORANGE, elapsed_s=1)
    assert (lifts(first), lifts(again)) == (["hog"], ["hog"])
    came = tuple(Measured(measure=each, result=Result.DONE) for each in again)
    relief, last = relieve(relief, came, [hog], HOST, LEDGER, Rung.ORANGE, elapsed_s=1)
    assert (relief, lifts(last)) == (Relief(), [])


def test_a_guest_that_is_limited_anew_before_the_lift_was_told_of_stays_limited() -> None:
    hog = wild("hog", 8 * GIB)
    lifting = Relief(limits=(replace(LIMIT, limit=None),))
    relief, measures = relieve(lifting, (), [hog], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert (lifts(measures), list(limits(measures))) == (["hog"], ["hog"])
    for result in (Result.DONE, Result.TIMED_OUT):
        came = tuple(Measured(measure=each, result=result) for each in measures)
        assert settle(relief, came) == relief


def placed(name: str, resident: int = 4 * GIB) -> Holder:
    """An over-claiming guest with a cgroup of its own."""
    return wild(name, guest=replace(guest(name, resident), cgroup=GuestCgroup(used=resident)))


SHORT = replace(LEDGER, available=LEDGER.reserve + LEDGER.pool - 60 * MIB)


def test_what_can_not_be_taken_from_a_guest_without_a_cgroup_is_taken_from_another() -> None:
    assert taken(placed("a"), placed("b"), ledger=SHORT) == {"a": 60 * MIB}
    assert taken(wild("a"), placed("b"), ledger=SHORT) == {"b": 60 * MIB}
    assert taken(wild("a"), ledger=SHORT) == {"a": 60 * MIB}  # it may have one by now


def test_who_refused_is_asked_last_until_a_reclaim_is_done() -> None:
    def turn(before: Relief, result: Result, name: str, ledger: Ledger = SHORT) -> tuple[Relief, list[str]]:
        came = (Measured(measure=Reclaim(uuid=f"uuid-{name}", name=name, size=1, words=""), result=result),)
        relief, measures = relieve(
            before, came, [placed("a"), placed("b")], HOST, ledger, Rung.ORANGE, elapsed_s=1
        )
        return relief, [each.name for each in measures if isinstance(each, Reclaim)]

    relief, asked = turn(Relief(), Result.REFUSED, "a")
    assert asked == ["b"]
    relief, asked = turn(relief, Result.DONE, "b")
    assert asked == ["b"]
    relief, asked = turn(relief, Result.BUSY, "a", LEDGER)
    assert asked == ["b", "a"]
    relief, asked = turn(relief, Result.DONE, "a")
    assert (relief, asked) == (Relief(), ["a"])


def test_what_came_of_a_reclaim_is_no_matter_of_limits() -> None:
    came = (Measured(measure=Reclaim(uuid="uuid-hog", name="hog", size=1, words=""), result=Result.REFUSED),)
    relief, _ = relieve(LIMITED, came, [wild("hog", GIB)], HOST, LEDGER, Rung.RED, elapsed_s=1)
    assert relief.limits == LIMITED.limits
