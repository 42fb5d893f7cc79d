"""What counts as suffering, how long a guest is spared after it, and what cache need is learned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import Guest
from balloond.policy.distress import CALM_MOST_S, CALM_S, Distress, feel
from balloond.policy.trust import Sample
from balloond.units import GIB, MIB

MAXIMUM = 4 * GIB


def guest(actual: int = 2 * GIB, block_read: int | None = None) -> Guest:
    return Guest(uuid="u", name="g", maximum=MAXIMUM, actual=actual, block_read=block_read)


def sample(
    swapped_in: int | None = 0,
    faulted: int | None = 0,
    elapsed_s: float = 2.0,
    unused: int | None = 0,
    usable: int = GIB,
) -> Sample:
    return Sample(
        elapsed_s=elapsed_s,
        size=2 * GIB,
        size_least=2 * GIB,
        touched=2 * GIB,
        usable=usable,
        unused=unused,
        low=GIB,
        high=GIB,
        swapped_in=swapped_in,
        swapped_out=0,
        faulted=faulted,
    )


def look(
    before: Distress,
    said: Sample | None = None,
    *,
    seen: Guest | None = None,
    age_s: float = 1000.0,
    now_s: float = 2000.0,
    moving_to: int | None = None,
) -> Distress:
    return feel(
        before,
        seen or guest(),
        said,
        moving_to=moving_to,
        working_set=float(GIB),
        age_s=age_s,
        now_s=now_s,
    )


AT_EASE = Distress(actual=2 * GIB, learned_s=1998.0)


def test_swapping_in_more_than_a_mebibyte_a_second_is_distress_at_once() -> None:
    felt = look(AT_EASE, sample(swapped_in=2 * MIB + 1))
    assert felt.acute
    assert felt.calm_until_s == 2000.0 + CALM_S
    assert not felt.calm(2000.0 + CALM_S - 1)
    assert felt.calm(2000.0 + CALM_S)
    assert felt.cache_need == pytest.approx(0.05 * MAXIMUM)
    assert not look(AT_EASE, sample(swapped_in=2 * MIB)).acute


def test_without_a_new_sample_a_rush_goes_on_and_the_next_one_may_end_it() -> None:
    rushing = look(AT_EASE, sample(swapped_in=2 * MIB + 1))
    assert look(rushing, None, now_s=2001.0).acute
    at_once = replace(sample(swapped_in=0), elapsed_s=0.0)
    assert look(rushing, at_once, now_s=2001.0).acute
    assert not look(rushing, sample(swapped_in=0), now_s=2002.0).acute


def test_faults_are_distress_when_seen_twice_running() -> None:
    limit = 0.002 * GIB / 4096 / 30  # pages in two seconds
    once = look(AT_EASE, sample(faulted=int(limit) + 1))
    assert (once.faulting, once.acute) == (1, False)
    assert look(once, sample(faulted=int(limit) + 1)).acute
    assert look(once, sample(faulted=0)).faulting == 0
    assert look(AT_EASE, sample(faulted=int(limit))).faulting == 0


def test_without_a_new_sample_the_count_of_faults_stays() -> None:
    assert look(replace(AT_EASE, faulting=1)).faulting == 1
    assert look(replace(AT_EASE, faulting=1), sample(elapsed_s=0.0, faulted=9999)).faulting == 1


def test_counters_that_are_not_reported_are_no_faults() -> None:
    felt = look(AT_EASE, sample(swapped_in=None, faulted=None))
    assert (felt.faulting, felt.acute) == (0, False)


def test_a_guest_that_has_just_booted_faults_its_programs_in() -> None:
    assert not look(AT_EASE, sample(swapped_in=99 * MIB), age_s=300.0).acute
    assert look(AT_EASE, sample(swapped_in=99 * MIB), age_s=300.1).acute


def test_a_guest_at_its_maximum_is_not_ours_to_help() -> None:
    felt = look(replace(AT_EASE, actual=MAXIMUM), sample(swapped_in=99 * MIB), seen=guest(MAXIMUM))
    assert felt.calm_until_s is None
    assert felt.cache_need == 0


def test_a_guest_that_takes_memory_from_the_balloon_by_itself_suffers() -> None:
    def took(actual: int) -> Guest:
        return replace(guest(actual), deflates_on_oom=True)

    assert look(AT_EASE, seen=took(2 * GIB + 9 * MIB)).acute
    assert not look(AT_EASE, seen=took(2 * GIB + 8 * MIB)).acute
    assert not look(AT_EASE, seen=took(3 * GIB), moving_to=3 * GIB).acute
    assert not look(Distress(), seen=took(3 * GIB)).acute  # the first look at it
    assert not look(AT_EASE, seen=guest(3 * GIB)).acute  # somebody else has set it


def test_distress_that_comes_again_soon_is_spared_twice_as_long_up_to_an_hour() -> None:
    felt = look(AT_EASE, sample(swapped_in=99 * MIB))
    now_s = 2000.0
    for expected in (600.0, 1200.0, 2400.0, 3600.0, 3600.0):
        assert felt.calm_until_s is not None
        now_s = felt.calm_until_s + 10
        felt = look(felt, sample(swapped_in=99 * MIB), now_s=now_s)
        assert felt.calm_s == expected
        assert felt.calm_until_s == now_s + expected
    assert felt.calm_s == CALM_MOST_S
    rested = look(felt, sample(swapped_in=99 * MIB), now_s=now_s + 2 * CALM_MOST_S + 1)
    assert rested.calm_s == CALM_S


def test_distress_within_the_calm_prolongs_it_and_teaches_nothing_more() -> None:
    felt = look(AT_EASE, sample(swapped_in=99 * MIB))
    again = look(felt, sample(swapped_in=99 * MIB), now_s=2200.0)
    assert again.calm_until_s == 2200.0 + CALM_S
    assert again.calm_s == felt.calm_s
    assert again.cache_need < felt.cache_need


def test_what_was_learned_is_forgotten_by_a_tenth_an_hour_and_never_more_than_half_the_guest() -> None:
    knowing = replace(AT_EASE, cache_need=float(GIB), learned_s=2000.0 - 3600.0)
    assert look(knowing).cache_need == pytest.approx(0.9 * GIB, rel=0.001)
    full = replace(AT_EASE, cache_need=0.5 * MAXIMUM)
    assert look(full, sample(swapped_in=99 * MIB)).cache_need == 0.5 * MAXIMUM


def read(before: Distress, total: int, now_s: float, actual: int = 2 * GIB) -> Distress:
    return look(before, seen=guest(actual, block_read=total), now_s=now_s)


def test_reads_that_double_after_a_shrink_are_page_cache_that_it_misses() -> None:
    felt = replace(AT_EASE, reads=0, reads_s=2000.0)
    total = 0
    for second in range(2002, 2100, 2):  # a steady MiB a second before
        total += 2 * MIB
        felt = read(felt, total, float(second))
    assert felt.read_rate == pytest.approx(MIB, rel=0.05)
    felt = read(felt, total, 2100.0, actual=2 * GIB - 100 * MIB)  # shrunk
    assert felt.shrunk_s == 2100.0
    for second in range(2102, 2140, 2):
        total += 8 * MIB
        felt = read(felt, total, float(second), actual=2 * GIB - 100 * MIB)
    assert felt.cache_need == pytest.approx(0.02 * MAXIMUM, rel=0.01)
    assert not felt.calm(2140.0)
    assert not felt.acute  # it is a mild distress


def test_reads_that_rise_without_a_shrink_or_long_after_one_are_the_guests_own_business() -> None:
    total, felt = 0, replace(AT_EASE, reads=0, reads_s=2000.0)
    for second in range(2002, 2100, 2):
        total += 64 * MIB
        felt = read(felt, total, float(second))
    assert felt.cache_need == 0
    late = replace(felt, shrunk_s=1000.0)
    assert read(late, total + 64 * MIB, 2100.0).cache_need == 0


def test_few_reads_are_noise_even_when_there_were_none_before() -> None:
    total, felt = 0, replace(AT_EASE, reads=0, reads_s=2000.0, shrunk_s=2000.0)
    for second in range(2002, 2100, 2):
        total += MIB
        felt = read(felt, total, float(second))
    assert felt.cache_need == 0


def test_reads_that_stop_are_forgotten_and_a_counter_that_restarts_is_no_read() -> None:
    felt = replace(AT_EASE, reads=MIB, reads_s=2000.0, read_rate=float(MIB))
    assert read(felt, MIB, 2020.0).read_rate == MIB
    assert read(felt, MIB, 2060.0).read_rate < 0.2 * MIB
    assert read(felt, 0, 2002.0).read_rate < MIB
    assert look(felt, seen=guest()).reads == MIB


def test_a_second_shrink_within_the_watch_keeps_the_calmer_rate_to_compare_with() -> None:
    felt = replace(AT_EASE, shrunk_s=1990.0, rate_before=1.0 * MIB, read_rate=5.0 * MIB)
    assert look(felt, seen=guest(GIB)).rate_before == MIB
    alone = replace(felt, shrunk_s=None)
    assert look(alone, seen=guest(GIB)).rate_before == 5 * MIB


def test_with_memory_free_neither_faults_nor_swap_mean_anything() -> None:
    plenty = 2 * GIB // 20
    assert not look(AT_EASE, sample(swapped_in=99 * MIB, unused=plenty + 1)).acute
    assert look(AT_EASE, sample(swapped_in=99 * MIB, unused=plenty)).acute
    assert look(replace(AT_EASE, faulting=1), sample(faulted=9999, unused=plenty + 1)).faulting == 0
    assert not look(AT_EASE, sample(swapped_in=99 * MIB, unused=None, usable=plenty + 1)).acute
    assert look(AT_EASE, sample(swapped_in=99 * MIB, unused=None, usable=plenty)).acute
    small = replace(AT_EASE, actual=GIB)
    assert look(small, sample(swapped_in=99 * MIB, unused=64 * MIB), seen=guest(GIB)).acute


def test_pages_that_swap_in_count_as_faults() -> None:
    limit = 0.002 * GIB / 4096 / 30  # pages in two seconds
    assert look(AT_EASE, sample(swapped_in=4096 * (int(limit) + 1))).faulting == 1
    assert look(AT_EASE, sample(swapped_in=4096 * int(limit))).faulting == 0
    assert look(AT_EASE, sample(swapped_in=None, faulted=int(limit))).faulting == 0
    assert look(AT_EASE, sample(swapped_in=4096 * int(limit), faulted=None)).faulting == 0


def test_samples_within_a_second_are_samples_and_a_first_one_is_none() -> None:
    assert look(AT_EASE, sample(swapped_in=2 * MIB, elapsed_s=1.0)).acute
    assert not look(AT_EASE, sample(swapped_in=99 * MIB, elapsed_s=0.0)).acute


def test_the_rate_of_reads_is_averaged_over_half_a_minute() -> None:
    felt = replace(AT_EASE, reads=0, reads_s=2000.0, read_rate=float(MIB))
    assert read(felt, 30 * 4 * MIB, 2030.0).read_rate == pytest.approx(
        MIB * (0.367879 + 4 * 0.632121), rel=1e-5
    )
    assert read(felt, 0, 2030.0).read_rate == MIB
    assert read(felt, 0, 2060.0).read_rate == pytest.approx(MIB * 0.135335, rel=1e-5)
    assert read(felt, 0, 2030.0).rate_before == 0.0


def test_the_watch_after_a_shrink_lasts_five_minutes() -> None:
    felt = replace(AT_EASE, reads=0, reads_s=2000.0, shrunk_s=1800.0)
    assert read(felt, 64 * 100 * MIB, 2100.0).cache_need > 0
    assert read(felt, 64 * 100 * MIB, 2100.1).cache_need == 0
