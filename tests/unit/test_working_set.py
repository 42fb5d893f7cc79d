"""How the working set follows demand, and what is asked for beyond it."""

from __future__ import annotations

from math import exp

import pytest

from balloond.model import Guest
from balloond.policy.trust import Sample
from balloond.policy.working_set import WorkingSet, ahead, follow, margin, outgrows_margin, squeezed_want
from balloond.units import GIB, MIB


def sample(low: int, high: int | None = None, elapsed_s: float = 2.0, **more: int | None) -> Sample:
    fields: dict[str, int | None] = {
        "usable": GIB,
        "unused": None,
        "swapped_in": 0,
        "swapped_out": 0,
        "faulted": 0,
        "size": 8 * GIB,
        "size_least": 8 * GIB,
        "touched": 8 * GIB,
        **more,
    }
    return Sample(
        elapsed_s=elapsed_s,
        low=low,
        high=low if high is None else high,
        **fields,  # type: ignore[arg-type]  # fields of Sample, by name
    )


def guest(actual: int = 4 * GIB, rss: int | None = None, swapped: int | None = None) -> Guest:
    return Guest(uuid="u", name="g", maximum=8 * GIB, actual=actual, rss=rss, swapped=swapped)


KNOWN = WorkingSet(last=GIB, usable=GIB, recent=float(GIB), slow=float(GIB), samples=9)


def test_it_rises_at_once_to_what_the_demand_surely_was() -> None:
    known = follow(KNOWN, sample(2 * GIB, 3 * GIB), guest())
    assert (known.recent, known.slow) == (2.0 * GIB, 2.0 * GIB)
    assert (known.last, known.usable, known.samples) == (2 * GIB, GIB, 10)


def test_it_decays_towards_what_the_demand_can_at_most_have_been() -> None:
    known = follow(KNOWN, sample(0, GIB // 2, elapsed_s=15.0), guest())
    assert known.recent == pytest.approx(GIB / 2 * (1 + 0.367879), rel=1e-5)
    assert known.slow == pytest.approx(GIB / 2 * (1 + 0.983471), rel=1e-5)


def test_within_the_range_it_stays() -> None:
    known = follow(KNOWN, sample(GIB // 2, 2 * GIB), guest())
    assert (known.recent, known.slow) == (KNOWN.recent, KNOWN.slow)


def test_growth_is_remembered_at_its_peak_for_a_minute_or_so() -> None:
    known = follow(KNOWN, sample(GIB + 300 * MIB), guest())
    assert known.growth == 300 * MIB
    later = follow(known, sample(GIB + 310 * MIB, elapsed_s=60.0), guest())
    assert later.growth == pytest.approx(300 * MIB * 0.367879, rel=1e-5)
    assert (known.grew, later.grew) == (300 * MIB, 10 * MIB)
    assert follow(WorkingSet(), sample(GIB), guest()).growth == 0


def test_growth_lasts_as_far_as_two_samples_running_saw_it() -> None:
    jumped = follow(KNOWN, sample(GIB + 300 * MIB), guest())
    assert jumped.lasting == 0
    ramp = follow(jumped, sample(GIB + 500 * MIB), guest())
    assert ramp.lasting == 200 * MIB
    assert ramp.growth == pytest.approx(300 * MIB * exp(-2 / 60))
    still = follow(jumped, sample(GIB + 300 * MIB), guest())
    assert still.lasting == 0
    after = follow(follow(ramp, sample(GIB), guest()), sample(GIB, elapsed_s=58.0), guest())
    assert after.lasting == pytest.approx(200 * MIB * exp(-1))


def test_a_hurried_look_that_sees_little_growth_does_not_hide_that_it_lasts() -> None:
    ramp = follow(KNOWN, sample(GIB + 160 * MIB), guest())
    hurried = follow(ramp, sample(GIB + 200 * MIB, elapsed_s=0.5), guest())
    assert hurried.lasting == 160 * MIB
    slower = follow(ramp, sample(GIB + 180 * MIB, elapsed_s=0.5), guest())
    assert slower.lasting == 80 * MIB


def test_samples_with_no_time_between_them_tell_no_rate() -> None:
    """The wall clock was set: the next sample bears the same moment as the one before."""
    ramp = follow(KNOWN, sample(GIB + 160 * MIB), guest())
    at_once = follow(ramp, sample(GIB + 320 * MIB, elapsed_s=0.0), guest())
    assert (at_once.grew, at_once.lasting) == (160 * MIB, 0)
    after = follow(at_once, sample(GIB + 480 * MIB), guest())
    assert (after.grew, after.lasting) == (160 * MIB, 0)
    assert follow(after, sample(GIB + 640 * MIB), guest()).lasting == 160 * MIB


def test_the_margin_is_a_tenth_the_least_or_enough_for_growth_and_a_quarter_at_most() -> None:
    quiet = WorkingSet()
    assert margin(8.0 * GIB, ahead(quiet), 16 * GIB) == int(0.8 * GIB)
    assert margin(0.0, ahead(quiet), 2 * GIB) == 256 * MIB
    assert margin(0.0, ahead(quiet), 2 * GIB - 1) == 128 * MIB
    assert margin(0.0, ahead(WorkingSet(growth=200.0 * MIB)), 16 * GIB) == 400 * MIB
    assert margin(0.0, ahead(WorkingSet(growth=200.0 * MIB, lasting=200.0 * MIB)), 16 * GIB) == 600 * MIB
    assert margin(8.0 * GIB, ahead(WorkingSet(growth=9.0 * GIB)), 4 * GIB) == GIB


def test_what_it_is_given_is_not_taken_for_its_growth() -> None:
    """While a balloon moves nobody knows how much of that a sample saw: demand lies between two figures."""
    given = follow(KNOWN, sample(GIB // 2, GIB + GIB // 2), guest())
    assert (given.grew, given.last) == (0, GIB)
    still = follow(given, sample(GIB), guest())
    assert (still.grew, still.last) == (0, GIB)
    assert follow(given, sample(GIB + 300 * MIB), guest()).grew == 300 * MIB
    surely = follow(KNOWN, sample(GIB + 200 * MIB, 2 * GIB), guest())
    assert (surely.grew, surely.last) == (200 * MIB, GIB + 200 * MIB)
    fell = follow(KNOWN, sample(GIB // 4, GIB // 2), guest())
    assert (fell.grew, fell.last) == (0, GIB // 2)
    assert follow(WorkingSet(), sample(GIB, 2 * GIB), guest()).last == 2 * GIB


def test_it_outgrows_a_margin_for_quiet_times_with_a_third_of_that_from_one_sample_to_the_next() -> None:
    def outgrows(grew: float, maximum: int) -> bool:
        return outgrows_margin(WorkingSet(grew=grew * MIB, usable=200 * MIB), maximum)

    assert outgrows(256 / 3, 2 * GIB) and not outgrows(85.3, 2 * GIB)
    assert outgrows(43, 2 * GIB - 1) and not outgrows(42, 2 * GIB - 1)
    for usable, races in ((600 * MIB - 1, True), (600 * MIB, False)):
        assert outgrows_margin(WorkingSet(grew=100.0 * MIB, usable=usable), 2 * GIB) is races


def test_a_guest_with_hardly_anything_usable_is_squeezed_and_gets_ever_more() -> None:
    known = follow(KNOWN, sample(4 * GIB, usable=80 * MIB), guest())
    assert known.squeezed == 1
    assert squeezed_want(known, 4 * GIB) == 5 * GIB
    again = follow(known, sample(4 * GIB, usable=0), guest())
    assert squeezed_want(again, 4 * GIB) == 6 * GIB
    for _ in range(9):
        again = follow(again, sample(4 * GIB, usable=0), guest())
    assert squeezed_want(again, 4 * GIB) == 20 * GIB
    relieved = follow(again, sample(4 * GIB, usable=82 * MIB), guest())
    assert (relieved.squeezed, squeezed_want(relieved, 4 * GIB)) == (0, 0)


def test_swap_is_left_where_it_swapped_out_until_it_is_squeezed_and_does_so_no_more() -> None:
    out = follow(KNOWN, sample(3 * GIB, usable=0, swapped_out=4096), guest())
    assert (KNOWN.swap_left, out.swap_left) == (False, True)
    assert follow(out, sample(GIB), guest()).swap_left
    assert not follow(out, sample(4 * GIB, usable=0, swapped_out=0), guest()).swap_left


def test_a_guest_that_has_not_touched_its_memory_is_not_squeezed_whatever_it_says() -> None:
    assert follow(KNOWN, sample(3 * GIB - 1, usable=0), guest()).squeezed == 0
    assert follow(KNOWN, sample(3 * GIB, usable=0), guest()).squeezed == 1


def test_a_guest_that_was_grown_since_is_squeezed_by_what_it_had_then() -> None:
    assert follow(KNOWN, sample(GIB, usable=0, size=GIB), guest(2 * GIB)).squeezed == 1
    assert follow(KNOWN, sample(GIB, usable=0, size=int(1.4 * GIB)), guest(2 * GIB)).squeezed == 0
    assert follow(KNOWN, sample(GIB, usable=0, size=2 * GIB), guest(GIB)).squeezed == 1


def test_what_a_squeezed_guest_was_given_is_not_seen_as_its_growth() -> None:
    squeezed = follow(KNOWN, sample(4 * GIB, usable=0), guest())
    assert squeezed.grew == 3 * GIB
    still = follow(squeezed, sample(int(4.5 * GIB), usable=0), guest(int(4.5 * GIB)))
    assert (still.squeezed, still.grew) == (2, 0)
    given = follow(squeezed, sample(5 * GIB, usable=GIB), guest(6 * GIB))
    assert (given.last, given.grew, given.lasting) == (5 * GIB, 0, 0)
    assert given.growth < squeezed.growth
    assert follow(given, sample(int(5.5 * GIB), usable=GIB), guest(6 * GIB)).grew == GIB // 2


def test_what_qemu_needs_for_itself_is_the_least_that_was_ever_seen_of_it() -> None:
    seen = guest(rss=GIB)
    first = follow(KNOWN, sample(GIB, unused=3 * GIB, touched=GIB + 200 * MIB), seen)
    assert first.overhead == 200 * MIB
    wider = follow(first, sample(GIB, unused=3 * GIB, touched=GIB + 900 * MIB), seen)
    assert wider.overhead == 200 * MIB
    tight = follow(wider, sample(GIB, unused=3 * GIB, touched=GIB + 50 * MIB), seen)
    assert tight.overhead == 50 * MIB
    assert follow(KNOWN, sample(GIB, unused=0, touched=GIB), seen).overhead == 0
    grown = sample(GIB, unused=GIB, touched=GIB + 200 * MIB, size_least=2 * GIB)  # to the 4 that it has now
    assert follow(KNOWN, grown, seen).overhead == 200 * MIB
    assert follow(KNOWN, sample(GIB, unused=GIB), guest()).overhead == float("inf")
    assert follow(KNOWN, sample(GIB), guest(rss=GIB)).overhead == float("inf")


def test_what_a_squeezed_guest_puts_into_its_swap_is_what_it_lacks() -> None:
    known = follow(KNOWN, sample(4 * GIB, usable=0, swapped_out=900 * MIB, swapped_in=200 * MIB), guest())
    assert known.pent_up == 700 * MIB
    assert known.recent == 4 * GIB + 700 * MIB
    assert squeezed_want(known, 4 * GIB) == 0
    longer = follow(known, sample(4 * GIB, usable=0, swapped_out=300 * MIB, swapped_in=0), guest())
    assert longer.pent_up == 1000 * MIB
    calmer = follow(longer, sample(3 * GIB, usable=GIB), guest())
    assert calmer.pent_up == 0


def test_what_it_lacks_belongs_to_the_most_that_the_demand_can_have_been_too() -> None:
    grown = WorkingSet(last=GIB, recent=8.0 * GIB, slow=8.0 * GIB, samples=9)
    known = follow(grown, sample(2 * GIB, 4 * GIB, elapsed_s=1e9, usable=0, swapped_out=900 * MIB), guest())
    assert known.slow == 4 * GIB + 900 * MIB


def test_what_it_claims_to_lack_is_believed_only_bit_by_bit() -> None:
    known = follow(KNOWN, sample(4 * GIB, usable=0, swapped_out=64 * GIB), guest())
    assert known.recent == 5 * GIB
    again = follow(known, sample(4 * GIB, usable=0), guest())
    assert again.recent == 6 * GIB


def test_swap_that_comes_back_is_lacked_no_more() -> None:
    known = follow(KNOWN, sample(4 * GIB, usable=0, swapped_out=100 * MIB), guest())
    back = follow(known, sample(4 * GIB, usable=0, swapped_out=0, swapped_in=300 * MIB), guest())
    assert back.pent_up == 0


def test_at_ease_begins_at_a_twentieth_of_the_guest_or_64_mebibytes() -> None:
    lacking = follow(KNOWN, sample(4 * GIB, usable=0, swapped_out=100 * MIB), guest())
    still = follow(lacking, sample(4 * GIB, usable=4 * GIB // 20), guest())
    assert still.pent_up == 100 * MIB
    assert follow(lacking, sample(4 * GIB, usable=4 * GIB // 20 + 1), guest()).pent_up == 0
    small = follow(lacking, sample(GIB, usable=64 * MIB), guest(actual=GIB))
    assert small.pent_up == 100 * MIB
