"""What is made of what was heard of one guest: its want, need and floor, by how far it may be trusted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balloond.config.settings import SMALLEST_GUEST, Amount, GuestPolicy
from balloond.model import Demand, Guest, Statistics, Trust
from balloond.policy.demand import Memory, estimate, unestimated
from balloond.policy.distress import Distress
from balloond.policy.solvency import OVERHEAD_MOST
from balloond.policy.trust import Hearing
from balloond.policy.working_set import WorkingSet
from balloond.units import GIB, MIB

NOW_S, WALL_S = 1000.0, 1_800_000_000.0
POLICY = GuestPolicy(minimum=Amount(size=256 * MIB))
GUEST = Guest(uuid="u", name="g", maximum=8 * GIB, actual=4 * GIB, rss=3 * GIB, statistics_period_s=2)


def knowing(
    *, trust: Trust = Trust.FRESH, slow: int = GIB, distress: Distress | None = None, **more: object
) -> Memory:
    """A memory of a guest that works with so much, whose numbers are so old that they deserve this trust."""
    age_s = {Trust.AGING: 10.0, Trust.STALE: 100.0, Trust.SILENT: 400.0}.get(trust, 1.0)
    heard = Hearing(
        born_s=NOW_S - 10.0 if trust is Trust.NEW else 0.0,
        settled=trust is not Trust.NEW,
        samples=0 if trust is Trust.ABSENT else 9,
        sampled_s=None if trust is Trust.ABSENT else NOW_S - age_s,
        lying=trust is Trust.LYING,
    )
    known = {"last": slow, "recent": float(slow), "slow": float(slow), "samples": 9, "overhead": 0.0, **more}
    return Memory(
        incarnation=0,
        hearing=heard,
        known=WorkingSet(**known),  # type: ignore[arg-type]  # its fields, by name
        distress=distress or Distress(actual=4 * GIB, learned_s=NOW_S),
    )


def demand(
    before: Memory | None, guest: Guest = GUEST, policy: GuestPolicy = POLICY, *, first_tick: bool = False
) -> Demand:
    return estimate(
        policy, guest, before,
        moving_to=None, now_s=NOW_S, wall_s=WALL_S, interval_s=2.0, first_tick=first_tick,
    )  # fmt: skip


def test_a_fresh_guest_wants_its_working_set_and_a_margin_and_keeps_a_twentieth_more() -> None:
    made = demand(knowing())
    assert made.trust is Trust.FRESH
    assert (made.working_set, made.margin) == (GIB, 256 * MIB)
    assert (made.want, made.need) == (GIB + 256 * MIB, GIB)
    assert made.floor == int(1.05 * GIB) + 128 * MIB
    assert (made.guarantee, made.ceiling) == (256 * MIB, 8 * GIB)
    assert (made.in_distress, made.squeezed, made.overhead, made.sampled_s) == (False, False, 0, NOW_S - 1)


def test_a_working_set_that_is_remembered_is_wanted_and_the_recent_one_is_needed() -> None:
    made = demand(knowing(slow=2 * GIB, recent=float(GIB)))
    assert (made.working_set, made.need) == (2 * GIB, GIB)
    assert made.want == 2 * GIB + 256 * MIB
    assert made.floor == int(1.05 * GIB) + 128 * MIB


def test_a_small_guest_has_less_air_in_its_floor() -> None:
    small = replace(GUEST, maximum=512 * MIB, actual=512 * MIB)
    made = demand(knowing(slow=300 * MIB), small)
    assert made.margin == 128 * MIB
    assert made.floor == int(1.05 * 300 * MIB + 64 * MIB)


def test_need_and_floor_are_at_least_the_guarantee_and_at_most_the_want() -> None:
    idle = demand(knowing(slow=10 * MIB))
    assert (idle.need, idle.floor, idle.want) == (256 * MIB, 256 * MIB, 10 * MIB + 256 * MIB)
    promised = demand(knowing(slow=10 * MIB), policy=replace(POLICY, minimum=Amount(size=GIB)))
    assert (promised.need, promised.floor, promised.want) == (GIB, GIB, GIB)
    full = demand(knowing(slow=8 * GIB))
    assert (full.need, full.floor, full.want) == (8 * GIB, 8 * GIB, 8 * GIB)


def test_the_operators_bounds_are_kept_within_what_the_guest_can_have_and_live_with() -> None:
    def bounds(minimum: Amount, maximum: Amount | None, size: int = 8 * GIB) -> tuple[int, int]:
        made = unestimated(GuestPolicy(minimum=minimum, maximum=maximum), replace(GUEST, maximum=size))
        return made.guarantee, made.ceiling

    assert bounds(Amount(share=0.25), None) == (2 * GIB, 8 * GIB)
    assert bounds(Amount(share=0.25), Amount(share=0.5)) == (2 * GIB, 4 * GIB)
    assert bounds(Amount(size=GIB), Amount(size=64 * GIB)) == (GIB, 8 * GIB)
    assert bounds(Amount(size=6 * GIB), Amount(size=4 * GIB)) == (4 * GIB, 4 * GIB)
    assert bounds(Amount(size=1), None) == (SMALLEST_GUEST, 8 * GIB)
    assert bounds(Amount(size=1), Amount(size=1)) == (SMALLEST_GUEST, SMALLEST_GUEST)
    assert bounds(Amount(share=0.25), Amount(share=0.5), 64 * MIB) == (64 * MIB, 64 * MIB)


def test_of_a_guest_that_is_left_alone_nothing_is_known_but_what_it_has() -> None:
    made = unestimated(POLICY, replace(GUEST, overhead=7))
    assert made == Demand(
        trust=Trust.ABSENT,
        working_set=4 * GIB,
        want=4 * GIB,
        need=4 * GIB,
        enough=4 * GIB,
        floor=4 * GIB,
        guarantee=256 * MIB,
        ceiling=8 * GIB,
        margin=0,
        in_distress=False,
        suffers=False,
        squeezed=False,
        overhead=7,
        sampled_s=None,
        memory=None,
    )


@pytest.mark.parametrize("trust", [Trust.FRESH, Trust.AGING, Trust.LYING])
def test_while_something_is_known_it_is_gone_by(trust: Trust) -> None:
    made = demand(knowing(trust=trust))
    assert (made.trust, made.want, made.need) == (trust, GIB + 256 * MIB, GIB)


def test_of_a_stale_guest_all_that_is_known_is_what_it_touched() -> None:
    made = demand(knowing(trust=Trust.STALE))
    assert made.trust is Trust.STALE
    assert (made.working_set, made.want, made.need, made.floor) == (3 * GIB,) * 4
    swollen = demand(knowing(trust=Trust.STALE), replace(GUEST, rss=9 * GIB))
    assert (swollen.working_set, swollen.want) == (8 * GIB, 8 * GIB)
    unknown = demand(knowing(trust=Trust.STALE), replace(GUEST, rss=None))
    assert (unknown.working_set, unknown.want) == (4 * GIB, 4 * GIB)
    more = demand(knowing(trust=Trust.STALE, slow=5 * GIB))
    assert (more.working_set, more.want, more.need) == (5 * GIB, int(5.5 * GIB), int(5.5 * GIB))


@pytest.mark.parametrize("trust", [Trust.NEW, Trust.SILENT, Trust.ABSENT])
def test_a_guest_that_can_not_be_judged_is_held_where_it_is(trust: Trust) -> None:
    made = demand(knowing(trust=trust))
    assert made.trust is trust
    assert (made.want, made.need, made.floor) == (4 * GIB,) * 3


def test_what_was_known_of_it_before_still_counts_but_for_one_that_never_spoke() -> None:
    wanted = 6 * GIB + int(0.6 * GIB)
    assert demand(knowing(trust=Trust.SILENT, slow=6 * GIB)).want == wanted
    assert demand(knowing(trust=Trust.NEW, slow=6 * GIB)).want == wanted
    assert demand(knowing(trust=Trust.ABSENT, slow=6 * GIB)).want == 4 * GIB


SUFFERING = Distress(actual=4 * GIB, learned_s=NOW_S, calm_until_s=NOW_S + 1, cache_need=float(GIB))


def test_cache_that_it_misses_is_part_of_its_working_set() -> None:
    made = demand(knowing(distress=SUFFERING))
    assert made.in_distress
    assert (made.working_set, made.want, made.need) == (2 * GIB, 2 * GIB + 256 * MIB, GIB)
    calm = demand(knowing(distress=replace(SUFFERING, calm_until_s=NOW_S)))
    assert not calm.in_distress
    assert calm.working_set == 2 * GIB


def helping_itself(trust: Trust = Trust.FRESH, rss: int | None = 4 * GIB) -> Demand:
    """The demand of a guest that has just taken memory from its balloon, as its last resort."""
    before = knowing(trust=trust, distress=Distress(actual=3 * GIB, learned_s=NOW_S))
    return demand(before, replace(GUEST, deflates_on_oom=True, rss=rss))


def test_acute_distress_is_worth_a_quarter_more_than_it_has() -> None:
    assert (helping_itself().in_distress, helping_itself().want) == (True, 5 * GIB)
    assert helping_itself(Trust.AGING).want == 5 * GIB
    assert helping_itself(Trust.STALE, 3 * GIB).want < 5 * GIB


def test_who_lacks_at_every_look_for_a_minute_starves() -> None:
    squeezed = knowing(squeezed=1)
    begun = demand(squeezed)
    assert (begun.starves, begun.memory.lacks_s) == (False, NOW_S)
    assert demand(replace(squeezed, lacks_s=NOW_S - 59.9)).starves is False
    still = demand(replace(squeezed, lacks_s=NOW_S - 60))
    assert (still.starves, still.memory.lacks_s) == (True, NOW_S - 60)
    assert demand(knowing(distress=SUFFERING)).memory.lacks_s is None, "it suffers no more"
    assert demand(replace(squeezed, lacks_s=0.0), replace(GUEST, actual=8 * GIB)).starves is False
    unheard = replace(knowing(trust=Trust.AGING, squeezed=1), lacks_s=0.0)
    assert demand(unheard).starves is False, "what it lacks now nobody knows"
    assert helping_itself().memory.lacks_s == NOW_S
    eased = demand(replace(knowing(), lacks_s=NOW_S - 60))
    assert (eased.starves, eased.memory.lacks_s) == (False, None)


def test_distress_and_missed_cache_are_believed_no_further_than_a_quarter_beyond_what_was_touched() -> None:
    assert helping_itself(rss=2 * GIB).want == int(2.5 * GIB)
    assert helping_itself(rss=None).want == 5 * GIB
    missing = knowing(distress=SUFFERING)
    assert demand(missing, replace(GUEST, rss=1228 * MIB)).working_set == 1535 * MIB
    assert demand(missing, replace(GUEST, rss=700 * MIB, swapped=528 * MIB)).working_set == 1535 * MIB
    assert demand(missing, replace(GUEST, rss=100 * MIB)).working_set == GIB, "what it works with stands"


def test_a_squeezed_guest_wants_what_nobody_can_see_unless_it_has_all_it_may_have() -> None:
    made = demand(knowing(squeezed=1, slow=4 * GIB), replace(GUEST, rss=4 * GIB))
    assert (made.squeezed, made.want) == (True, 5 * GIB)
    assert demand(knowing(squeezed=1, slow=GIB), replace(GUEST, rss=3 * GIB)).want == int(3.75 * GIB)
    full = replace(GUEST, actual=8 * GIB)
    assert demand(knowing(squeezed=1), full).squeezed is False
    assert demand(knowing(squeezed=0)).squeezed is False


def test_with_its_need_and_a_margin_it_has_enough_and_no_margin_comes_on_top_of_a_promise() -> None:
    remembering = knowing(slow=4 * GIB, recent=float(GIB))
    assert demand(remembering).enough == GIB + 256 * MIB
    promised = replace(POLICY, minimum=Amount(size=3 * GIB))
    assert demand(remembering, policy=promised).enough == 3 * GIB


def test_all_that_it_wants_is_enough_where_nobody_can_see_what_it_lacks_unless_its_own_swap_tells() -> None:
    roomy = replace(GUEST, rss=4 * GIB)
    squeezed: dict[str, Any] = {"squeezed": 1, "slow": 2 * GIB, "recent": float(GIB)}
    for half in ({"pent_up": MIB}, {"swap_left": True}, {}):
        made = demand(knowing(**squeezed, **half), roomy)
        assert made.enough == made.want > 2 * GIB
    assert demand(knowing(**squeezed, pent_up=MIB, swap_left=True), roomy).enough == GIB + 256 * MIB
    assert helping_itself().enough == helping_itself().want == 5 * GIB
    told = knowing(pent_up=MIB, swap_left=True, distress=Distress(actual=3 * GIB, learned_s=NOW_S))
    assert demand(told, replace(roomy, deflates_on_oom=True)).enough == GIB + 256 * MIB
    assert demand(knowing(distress=SUFFERING)).enough == GIB + 256 * MIB, "it suffers no more"


def test_a_jump_is_no_reason_to_grow_for_who_can_swap_or_help_itself_but_a_ramp_is() -> None:
    jumped = knowing(growth=300.0 * MIB, over_s=2.0)
    assert demand(jumped).enough == GIB + 600 * MIB
    assert demand(knowing(growth=300.0 * MIB, over_s=10.0)).enough == GIB + 360 * MIB
    swaps = replace(jumped.known, swap_left=True)
    swapped = replace(jumped, hearing=replace(jumped.hearing, swap_out=64 * MIB), known=swaps)
    assert demand(replace(swapped, hearing=replace(jumped.hearing, swap_out=64 * MIB - 1))).enough == (
        GIB + 600 * MIB
    )
    assert demand(replace(swapped, known=jumped.known)).enough == GIB + 600 * MIB, "none may be left"
    assert (demand(swapped).enough, demand(swapped).want) == (GIB + 256 * MIB, GIB + 600 * MIB)
    assert demand(jumped, replace(GUEST, deflates_on_oom=True)).enough == GIB + 256 * MIB
    ramp = knowing(growth=300.0 * MIB, lasting=300.0 * MIB, over_s=2.0)
    assert demand(ramp, replace(GUEST, deflates_on_oom=True)).enough == GIB + 900 * MIB


def test_who_can_swap_or_help_itself_bears_surprises() -> None:
    swaps = knowing(swap_left=True)
    swapped = replace(swaps, hearing=replace(swaps.hearing, swap_out=64 * MIB))
    assert demand(swapped).bears_surprise is True
    assert demand(swaps).bears_surprise is False
    assert demand(knowing(), replace(GUEST, deflates_on_oom=True)).bears_surprise is True


def test_a_guest_races_that_would_outgrow_a_margin_for_quiet_times_in_three_samples() -> None:
    racing = knowing(grew=86.0 * MIB)
    assert demand(racing).races is True
    assert demand(knowing(grew=85.0 * MIB)).races is False
    assert demand(racing, replace(GUEST, actual=8 * GIB)).races is False
    assert demand(knowing(grew=86.0 * MIB, trust=Trust.AGING)).races is False


def test_what_qemu_needs_is_what_was_seen_of_it_within_reason_and_at_least_what_the_host_knows() -> None:
    assert demand(knowing(overhead=50.0 * MIB)).overhead == 50 * MIB
    assert demand(knowing(overhead=900.0 * MIB)).overhead == OVERHEAD_MOST
    assert demand(knowing(overhead=50.0 * MIB), replace(GUEST, overhead=60 * MIB)).overhead == 60 * MIB
    assert demand(knowing(samples=0), replace(GUEST, overhead=60 * MIB)).overhead == 60 * MIB


def speaking(usable: int, stamp_s: float = WALL_S) -> Guest:
    return replace(GUEST, statistics=Statistics(last_update_s=int(stamp_s), untrusted_usable=usable))


def test_a_new_sample_is_heard_followed_and_felt() -> None:
    made = demand(knowing(), speaking(2 * GIB))
    assert made.working_set == 2 * GIB
    assert made.sampled_s == NOW_S
    memory = made.memory
    assert (memory.incarnation, memory.known.last, memory.known.samples) == (0, 2 * GIB, 10)
    assert (memory.hearing.samples, memory.distress.learned_s) == (10, NOW_S)
    assert demand(knowing()).memory.known == knowing().known


def test_another_life_of_a_guest_is_another_guest() -> None:
    reborn = replace(speaking(3 * GIB), incarnation=1)
    made = demand(knowing(slow=3 * GIB), reborn)
    assert made.trust is Trust.NEW
    assert (made.memory.incarnation, made.memory.known.samples) == (1, 0)
    assert made.memory.hearing.born_s == NOW_S
    assert (made.want, made.need) == (4 * GIB, 4 * GIB)


def test_guests_that_the_daemon_finds_when_it_starts_are_not_new() -> None:
    assert demand(None).trust is Trust.NEW
    found = demand(None, first_tick=True)
    assert (found.trust, found.memory.hearing.born_s) == (Trust.ABSENT, NOW_S - 30.0)
    assert demand(None).memory.hearing.settled is False


def test_what_its_balloon_is_on_the_way_to_is_taken_into_account() -> None:
    def moving(to: int | None, guest: Guest, before: Memory) -> Demand:
        return estimate(
            POLICY, guest, before,
            moving_to=to, now_s=NOW_S, wall_s=WALL_S, interval_s=2.0, first_tick=False,
        )  # fmt: skip

    heard = speaking(2 * GIB)
    assert moving(None, heard, knowing()).working_set == 2 * GIB
    assert moving(3 * GIB, heard, knowing()).working_set == GIB  # it may use no more than that
    before = knowing(distress=Distress(actual=3 * GIB, learned_s=NOW_S))
    took = replace(GUEST, deflates_on_oom=True)
    assert moving(None, took, before).in_distress
    assert not moving(4 * GIB, took, before).in_distress  # it was given it


def test_a_guest_that_has_just_booted_is_in_no_distress_for_what_it_faults() -> None:
    def faulting(born_s: float) -> Demand:
        before = knowing()
        heard = replace(before.hearing, born_s=born_s, swap_in=0)
        told = Statistics(
            last_update_s=int(WALL_S), untrusted_usable=0, untrusted_unused=0, untrusted_swap_in=GIB
        )
        return demand(replace(before, hearing=heard), replace(GUEST, rss=4 * GIB, statistics=told))

    assert faulting(born_s=NOW_S - 301).in_distress
    assert not faulting(born_s=NOW_S - 300).in_distress
