"""When is merged, how fast, when no more, and who is yielded to?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balloond.config.settings import KsmMode, KsmPolicy
from balloond.model import Host, Ksm, KsmSettings, Rung, Stance
from balloond.policy.merging import AGAIN_S, PACES, YIELD_S, Gauge, back, measure, mergeable, steer
from balloond.units import GIB, MIB, PAGE
from tests.made import Machine
from tests.unit.ksmd import ADVISED, FOUND, SMALL, Ksmd

STEER = KsmPolicy(mode=KsmMode.STEER)
OFF = KsmPolicy(mode=KsmMode.OFF)
LEAVE = KsmPolicy()


def stance(ksmd: Ksmd) -> Stance:
    return ksmd.told[-1].stance


def run(ksmd: Ksmd, policy: KsmPolicy, rung: Rung, seconds: float, spare: int = 8 * GIB) -> None:
    for _ in range(round(seconds / 2)):
        ksmd.tick(policy, rung, spare=spare)


# --- left alone ------------------------------------------------------------------------------------------


def test_a_kernel_without_merging_is_asked_nothing() -> None:
    host = Host(total=GIB, available=GIB)
    assert steer(STEER, host, (), None, rung=Rung.RED, spare=0, now_s=0.0) == (None, None)


@pytest.mark.parametrize("merges", [0, 1, 2])
def test_by_default_nothing_is_touched_however_bad_it_is(merges: int) -> None:
    ksmd = Ksmd(settings=replace(FOUND, run=merges))
    assert ksmd.tick(LEAVE, Rung.RED) is None
    assert stance(ksmd) is Stance.LEFT
    assert ksmd.told[-1].cap is None


# --- pace ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [FOUND, ADVISED], ids=["without an advisor", "with one"])
def test_on_yellow_half_of_what_can_be_merged_is_merged_within_a_minute(found: KsmSettings) -> None:
    ksmd = Ksmd(candidates=SMALL, equal=0.8, settings=found)
    run(ksmd, STEER, Rung.YELLOW, 60)
    assert ksmd.saved >= 0.5 * 0.8 * SMALL
    assert ksmd.advised is (found.advisor is not None)


def test_green_merges_slowly_and_worse_rungs_faster() -> None:
    shares = []
    for rung in (Rung.GREEN, Rung.YELLOW, Rung.RED):
        ksmd = Ksmd(candidates=64 * GIB)
        run(ksmd, STEER, rung, 120)
        shares.append(ksmd.share())
        assert ksmd.told[-1].cap == pytest.approx(0.7 * PACES[rung][1])
    assert shares[0] < shares[1] < shares[2]


def test_the_kernels_advisor_is_told_its_target_and_its_share() -> None:
    ksmd = Ksmd(candidates=64 * GIB, settings=ADVISED)
    made = ksmd.tick(STEER, Rung.GREEN)
    assert made is not None
    to = made.to
    assert (to.run, to.advisor, to.advisor_target_s, to.advisor_max_cpu) == (1, "scan-time", 600, 20)
    made = ksmd.tick(STEER, Rung.YELLOW)
    assert made is not None
    assert (made.to.advisor_target_s, made.to.advisor_max_cpu) == (25, 50)
    assert made.to.pages_to_scan is not None  # it starts anew there, rather than at the end of its slow scan


def test_an_advisor_that_changes_its_pace_within_the_share_is_let_be() -> None:
    ksmd = Ksmd(candidates=SMALL, equal=0.0, settings=ADVISED)
    run(ksmd, STEER, Rung.YELLOW, 20)
    assert ksmd.settings.pages_to_scan is not None
    ksmd.meddle(pages_to_scan=int(1.5 * ksmd.settings.pages_to_scan))
    assert ksmd.tick(STEER, Rung.YELLOW) is None
    assert stance(ksmd) is Stance.MERGING


def test_the_operators_share_is_the_most_even_at_red() -> None:
    ksmd = Ksmd(candidates=256 * GIB, costs_s=(8e-6, 8e-6))
    run(ksmd, replace(STEER, cpu=0.1), Rung.RED, 180)
    assert 0.06 < ksmd.share() < 0.11


def test_a_step_of_ksmd_sleeps_as_long_as_the_kernels_default() -> None:
    ksmd = Ksmd(settings=replace(FOUND, sleep_ms=0))
    run(ksmd, STEER, Rung.YELLOW, 4)
    assert ksmd.settings.sleep_ms == 20


def test_pages_that_are_suddenly_dear_take_ksmd_a_tenth_beyond_its_share_at_most() -> None:
    """On a large host it has all it may have of cheap pages; then it meets some that can be merged."""
    ksmd = Ksmd(candidates=512 * GIB, costs_s=(0.4e-6, 0.4e-6))
    run(ksmd, replace(STEER, cpu=0.1), Rung.RED, 120)
    ksmd.costs_s = (14e-6, 14e-6)
    run(ksmd, replace(STEER, cpu=0.1), Rung.RED, 120)
    assert ksmd.share() <= 0.11


def test_what_was_taken_too_much_is_made_good_within_the_half_minute() -> None:
    """Somebody's work holds ksmd up, and then no more; or the kernel lets it run on for once."""
    ksmd = Ksmd(candidates=512 * GIB, costs_s=(14e-6, 14e-6))
    run(ksmd, STEER, Rung.YELLOW, 60)
    ksmd.used.clear()
    ksmd.cpu_s += 1.0
    run(ksmd, STEER, Rung.YELLOW, 30)
    assert ksmd.share() <= 0.5 - 1.0 / 30 + 0.005


def gauge(**more: float | int | None) -> Gauge:
    values: dict[str, Any] = {"at_s": 0.0, "cpu_s": 10.0, "scanned": 0, **more}  # Any: fields of Gauge
    return Gauge(**values)


def seen(cpu_s: float, scanned_pages: int | None) -> Ksm:
    ksm = replace(Ksmd(settings=replace(FOUND, run=1, pages_to_scan=1000)).ksm, cpu_s=cpu_s)
    return replace(ksm, scanned=None if scanned_pages is None else scanned_pages * PAGE)


def test_what_a_page_costs_is_believed_soon_when_it_rises_and_late_when_it_falls() -> None:
    assert measure(gauge(), seen(10.2, 10_000), 0.5, 2.0).cost_s == pytest.approx(0.3 * 14e-6 + 0.7 * 20e-6)
    cheap = measure(gauge(), seen(10.2, 100_000), 0.5, 2.0).cost_s
    assert 11e-6 < cheap < 14e-6


def test_a_kernel_that_does_not_count_pages_is_known_by_how_long_ksmd_slept() -> None:
    """0.2 s of work in 2 leave 90 sleeps of 20 ms, 1000 pages after each: 2.2 us a page."""
    told, reckoned = (
        measure(gauge(cost_s=1e-6), seen(10.2, pages), 0.5, 2.0).cost_s for pages in (90_000, None)
    )
    assert reckoned == pytest.approx(told)


def test_what_ksmd_took_beyond_its_share_is_owed_and_repaid() -> None:
    owing = measure(gauge(), seen(11.8, 100_000), 0.5, 2.0)
    assert owing.debt_s == pytest.approx(0.8)
    assert measure(owing, seen(12.2, 120_000), 0.5, 4.0).debt_s == pytest.approx(0.2)


def test_spans_too_short_to_tell_are_put_together() -> None:
    before = gauge()
    assert measure(before, seen(10.2, 10_000), 0.5, 0.9) is before


def test_a_kernel_that_counts_from_anew_is_measured_from_anew() -> None:
    assert measure(gauge(), seen(1.0, 1), 0.5, 2.0) == gauge(at_s=2.0, cpu_s=1.0, scanned=PAGE)


def test_without_ksmds_cpu_time_pages_are_taken_for_dear() -> None:
    ksmd = Ksmd(candidates=64 * GIB)
    ksm = replace(ksmd.ksm, cpu_s=None)
    guests = (Machine("g", maximum=64 * GIB, actual=64 * GIB, uses=64 * GIB).guest(0.0),)
    host = Host(total=64 * GIB, available=GIB, ksm=ksm)
    _, made = steer(STEER, host, guests, None, rung=Rung.YELLOW, spare=0, now_s=0.0)
    assert made is not None
    assert made.to.pages_to_scan == pytest.approx(1428, abs=1)  # 20 ms of work in 40, at 14 us


def test_nothing_is_set_again_while_it_is_near_enough() -> None:
    ksmd = Ksmd(candidates=SMALL, equal=0.0, costs_s=(2e-6, 2e-6))
    run(ksmd, STEER, Rung.YELLOW, 20)
    measures = [ksmd.tick(STEER, Rung.YELLOW) for _ in range(5)]
    assert measures == [None] * 5


# --- does it pay? ----------------------------------------------------------------------------------------


def test_it_rests_when_nothing_is_left_to_merge_and_keeps_what_is_merged() -> None:
    ksmd = Ksmd(candidates=SMALL, equal=0.8)
    run(ksmd, STEER, Rung.YELLOW, 60)
    assert stance(ksmd) is Stance.MERGING
    run(ksmd, STEER, Rung.YELLOW, 120)
    assert stance(ksmd) is Stance.RESTING
    assert ksmd.settings.run == 0
    assert ksmd.saved > 0
    assert "0 pages net were merged in 3 scans" in ksmd.told[-1].words


def test_it_rests_soon_after_content_turned_random() -> None:
    ksmd = Ksmd(candidates=SMALL, equal=0.8)
    run(ksmd, STEER, Rung.YELLOW, 50)
    assert stance(ksmd) is Stance.MERGING
    ksmd.equal = ksmd.saved = 0.0
    run(ksmd, STEER, Rung.YELLOW, 3 * 25 + 10)
    assert stance(ksmd) is Stance.RESTING
    cpu_s = ksmd.cpu_s
    run(ksmd, STEER, Rung.YELLOW, 60)
    assert ksmd.cpu_s == cpu_s


@pytest.mark.parametrize("rung", [Rung.GREEN, Rung.YELLOW])
def test_it_is_tried_again_after_a_while(rung: Rung) -> None:
    ksmd = Ksmd(candidates=SMALL, equal=0.0)
    for _ in range(10_000):
        ksmd.tick(STEER, rung)
        if stance(ksmd) is Stance.RESTING:
            break
    began_s = ksmd.now_s
    for _ in range(10_000):
        if stance(ksmd) is not Stance.RESTING:
            break
        ksmd.tick(STEER, rung)
    assert ksmd.now_s - began_s == pytest.approx(AGAIN_S[rung], abs=4)


def test_a_host_that_gets_worse_starts_it_at_once() -> None:
    ksmd = Ksmd(candidates=SMALL, equal=0.0)
    run(ksmd, STEER, Rung.YELLOW, 120)
    assert stance(ksmd) is Stance.RESTING
    ksmd.tick(STEER, Rung.ORANGE)
    assert stance(ksmd) is Stance.MERGING
    run(ksmd, STEER, Rung.ORANGE, 120)
    assert stance(ksmd) is Stance.RESTING
    ksmd.tick(STEER, Rung.GREEN)
    assert stance(ksmd) is Stance.RESTING
    ksmd.tick(STEER, Rung.YELLOW)
    assert stance(ksmd) is Stance.MERGING


def test_on_green_it_rests_where_it_saves_next_to_nothing_though_it_merges() -> None:
    """Some pages are merged at each scan and torn apart at each scan: 0.1 % of memory are saved."""
    ksmd = Ksmd(total=64 * GIB, candidates=SMALL, equal=0.16, costs_s=(1e-7, 1e-7))
    for _ in range(2000):
        ksmd.saved = min(ksmd.saved, 64 * MIB * ksmd.scans / 12)  # ever a little more
        ksmd.tick(STEER, Rung.GREEN)
    assert stance(ksmd) is Stance.RESTING
    assert "too little on green" in next(told.words for told in ksmd.told if told.stance is Stance.RESTING)


def test_an_old_kernels_profit_is_reckoned() -> None:
    """Before 6.4 it is not told: 64 bytes for each page that ksmd keeps account of are the cost."""
    ksmd = Ksmd(candidates=SMALL, equal=0.0, settings=replace(FOUND, run=1))
    run(ksmd, STEER, Rung.GREEN, 4)
    ksmd.scans += 2
    run(ksmd, STEER, Rung.GREEN, 2)
    ksmd.saved = 200 * MIB
    ksmd.scans += 1
    host = Host(total=64 * GIB, available=GIB, ksm=replace(ksmd.ksm, profit=None))
    guests = (Machine("g", uses=GIB).guest(0.0),)
    verdict, _ = steer(STEER, host, guests, ksmd.course, rung=Rung.GREEN, spare=0, now_s=ksmd.now_s + 2)  # type: ignore[arg-type]  # its own memory
    assert verdict is not None
    assert verdict.stance is Stance.RESTING
    assert "it saves 194 MiB net" in verdict.words


# --- who may be merged -----------------------------------------------------------------------------------


def test_guests_with_nosharepages_are_left_out_of_what_is_expected() -> None:
    one, other = Machine("a", uses=GIB), Machine("b", uses=2 * GIB, more={"mergeable": False})
    assert mergeable((one.guest(0.0), other.guest(0.0))) == GIB


def test_of_a_guest_whose_size_is_not_known_all_may_be_merged() -> None:
    guest = replace(Machine("a", actual=3 * GIB).guest(0.0), rss=None)
    assert mergeable((guest,)) == 3 * GIB


def test_without_a_guest_to_merge_it_rests_and_starts_with_the_first_one() -> None:
    ksmd = Ksmd(candidates=0)
    run(ksmd, STEER, Rung.YELLOW, 10)
    assert stance(ksmd) is Stance.RESTING
    assert ksmd.settings.run == 0
    ksmd.candidates = GIB
    run(ksmd, STEER, Rung.YELLOW, 2)
    assert stance(ksmd) is Stance.MERGING


# --- nothing is to be merged -----------------------------------------------------------------------------


def test_off_stops_at_once_and_unmerges_where_there_is_room() -> None:
    ksmd = Ksmd(settings=replace(FOUND, run=1), saved=GIB)
    assert ksmd.tick(OFF, Rung.GREEN, spare=2 * GIB) is not None
    assert ksmd.settings.run == 0
    ksmd.tick(OFF, Rung.GREEN, spare=2 * GIB)
    assert (stance(ksmd), ksmd.settings.run) == (Stance.UNMERGING, 2)
    assert ksmd.tick(OFF, Rung.GREEN, spare=2 * GIB) is None
    assert (stance(ksmd), ksmd.saved) == (Stance.OFF, 0)


def test_off_keeps_what_is_merged_while_there_is_no_room_and_says_so() -> None:
    ksmd = Ksmd(saved=GIB)
    run(ksmd, OFF, Rung.GREEN, 20, spare=GIB - PAGE)
    assert (stance(ksmd), ksmd.settings.run) == (Stance.KEPT, 0)
    assert "needs 1 GiB more, and 1024 MiB are to spare" in ksmd.told[-1].words
    ksmd.tick(OFF, Rung.GREEN, spare=GIB)
    assert ksmd.settings.run == 2


def test_unmerging_that_failed_is_not_tried_at_each_tick() -> None:
    ksmd = Ksmd(saved=GIB, obeys=False)
    measures = [ksmd.tick(OFF, Rung.GREEN) for _ in range(160)]
    assert [number for number, measure in enumerate(measures) if measure] == [0, 150]


def test_the_end_of_unmerging_is_nobodys_doing() -> None:
    ksmd = Ksmd(saved=GIB)
    ksmd.tick(OFF, Rung.GREEN)
    assert ksmd.settings.run == 2
    ksmd.meddle(run=0)  # as the kernel does when it fails
    ksmd.tick(OFF, Rung.GREEN)
    assert stance(ksmd) is not Stance.YIELDING


def test_unmerging_is_broken_off_when_the_room_for_the_rest_runs_out() -> None:
    ksmd = Ksmd(saved=GIB)
    ksmd.tick(OFF, Rung.GREEN, spare=GIB)
    assert (stance(ksmd), ksmd.settings.run) == (Stance.UNMERGING, 2)
    ksmd.saved = 512.0 * MIB  # half of it is apart
    assert ksmd.tick(OFF, Rung.GREEN, spare=512 * MIB) is None
    assert stance(ksmd) is Stance.UNMERGING
    ksmd.tick(OFF, Rung.GREEN, spare=512 * MIB - PAGE)
    assert (stance(ksmd), ksmd.settings.run) == (Stance.KEPT, 0)
    assert words(ksmd)[1] == "taking apart is broken off: 512 MiB more are needed, and 512 MiB are to spare"
    ksmd.tick(OFF, Rung.GREEN, spare=GIB)
    assert ksmd.settings.run == 2


def test_what_is_being_taken_apart_is_waited_for() -> None:
    ksmd = Ksmd(settings=replace(FOUND, run=2), saved=GIB)
    assert ksmd.tick(OFF, Rung.GREEN, spare=0) is None
    assert stance(ksmd) is Stance.UNMERGING


def test_what_can_not_be_taken_apart_is_told_as_kept_and_tried_again_later() -> None:
    ksmd = Ksmd(candidates=GIB, settings=replace(FOUND, run=0), saved=GIB)
    measure = ksmd.tick(OFF, Rung.GREEN)
    assert measure is not None and measure.to.run == 2
    ksmd.settings, ksmd.saved, ksmd.failed = replace(ksmd.settings, run=0), GIB, "the kernel refused"
    for _ in range(2):
        assert ksmd.tick(OFF, Rung.GREEN) is None
        assert stance(ksmd) is Stance.KEPT
        assert "the kernel refused" in ksmd.told[-1].words
    run(ksmd, OFF, Rung.GREEN, 290)
    assert stance(ksmd) is Stance.KEPT
    run(ksmd, OFF, Rung.GREEN, 20)
    assert stance(ksmd) in (Stance.UNMERGING, Stance.OFF)
    assert ksmd.settings.run == 2


# --- somebody else's settings ----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [STEER, OFF])
def test_another_tuner_is_noticed_and_left_to_it(policy: KsmPolicy) -> None:
    ksmd = Ksmd(candidates=GIB, settings=replace(FOUND, run=1))
    run(ksmd, policy, Rung.YELLOW, 20)
    ksmd.meddle(run=1, pages_to_scan=1250)
    assert [ksmd.tick(policy, Rung.YELLOW) for _ in range(60)] == [None] * 60
    assert stance(ksmd) in (Stance.YIELDING, Stance.OVERRULED)
    assert "somebody else sets" in ksmd.told[-1].words
    assert ksmd.told[-1].cap is None


def test_who_merges_where_the_operator_wants_none_is_not_fought_but_told_of_as_long_as_it_lasts() -> None:
    ksmd = Ksmd(candidates=GIB, settings=replace(FOUND, run=1))
    run(ksmd, OFF, Rung.GREEN, 20)
    ksmd.meddle(pages_to_scan=7)
    ksmd.tick(OFF, Rung.GREEN)
    assert stance(ksmd) is Stance.YIELDING  # nothing is merged by that
    ksmd.meddle(run=1)
    for _ in range(20):
        run(ksmd, OFF, Rung.GREEN, 60)
        assert stance(ksmd) is Stance.OVERRULED
    ksmd.meddle(run=0)
    ksmd.tick(OFF, Rung.GREEN)
    assert stance(ksmd) is Stance.YIELDING
    run(ksmd, OFF, Rung.GREEN, YIELD_S + 20)
    assert stance(ksmd) is not Stance.YIELDING
    assert Stance.OVERRULED not in [told.stance for told in ksmd.told[-2:]]


def test_merging_that_does_not_stop_where_the_operator_wants_none_is_told_of_as_long_as_it_lasts() -> None:
    ksmd = Ksmd(candidates=GIB, settings=replace(FOUND, run=1), obeys=False)  # refused, or mode observe
    ksmd.tick(OFF, Rung.GREEN)
    assert stance(ksmd) is Stance.KEPT  # it is being stopped
    for _ in range(20):
        measure = ksmd.tick(OFF, Rung.GREEN)
        assert measure is not None and measure.to.run == 0
        assert stance(ksmd) is Stance.OVERRULED
        assert "run is still 1" in ksmd.told[-1].words
    ksmd.meddle(run=0)
    ksmd.tick(OFF, Rung.GREEN)
    assert stance(ksmd) is not Stance.OVERRULED


def test_who_merges_where_the_operator_lets_merging_be_steered_is_only_yielded_to() -> None:
    ksmd = Ksmd(candidates=GIB)
    run(ksmd, STEER, Rung.YELLOW, 20)
    ksmd.meddle(pages_to_scan=7, run=1)
    ksmd.tick(STEER, Rung.YELLOW)
    assert stance(ksmd) is Stance.YIELDING


def test_a_tuner_that_goes_on_is_never_fought() -> None:
    ksmd = Ksmd(candidates=GIB)
    run(ksmd, STEER, Rung.YELLOW, 20)
    for number in range(100):
        ksmd.meddle(pages_to_scan=300 + number)
        run(ksmd, STEER, Rung.YELLOW, 60)
        assert stance(ksmd) is Stance.YIELDING


def test_settings_that_stay_as_somebody_left_them_are_taken_over_later() -> None:
    ksmd = Ksmd(candidates=GIB, equal=0.0)
    run(ksmd, STEER, Rung.YELLOW, 20)
    ksmd.meddle(pages_to_scan=1)
    run(ksmd, STEER, Rung.YELLOW, YIELD_S - 4)
    assert stance(ksmd) is Stance.YIELDING
    run(ksmd, STEER, Rung.YELLOW, 10)
    assert stance(ksmd) is Stance.MERGING
    ksmd.meddle(pages_to_scan=1)  # and then twice as long
    run(ksmd, STEER, Rung.YELLOW, 2 * YIELD_S - 10)
    assert stance(ksmd) is Stance.YIELDING
    run(ksmd, STEER, Rung.YELLOW, 20)
    assert stance(ksmd) is Stance.MERGING


def test_an_advisor_under_somebody_else_is_no_change_of_theirs() -> None:
    ksmd = Ksmd(candidates=GIB, settings=ADVISED)
    run(ksmd, STEER, Rung.YELLOW, 10)
    ksmd.meddle(advisor_target_s=400)
    run(ksmd, STEER, Rung.YELLOW, 10)
    for number in range(round(YIELD_S / 20)):
        ksmd.meddle(pages_to_scan=500 + number)
        run(ksmd, STEER, Rung.YELLOW, 20)
    assert stance(ksmd) is Stance.MERGING


def test_with_mode_off_settings_that_need_no_change_are_taken_over_too() -> None:
    ksmd = Ksmd(settings=replace(FOUND, run=1))
    run(ksmd, OFF, Rung.GREEN, 4)
    ksmd.meddle(pages_to_scan=7)
    run(ksmd, OFF, Rung.GREEN, YIELD_S + 20)
    assert stance(ksmd) is Stance.OFF
    run(ksmd, OFF, Rung.GREEN, 20)
    assert stance(ksmd) is Stance.OFF


# --- back as it was --------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [FOUND, ADVISED, replace(ADVISED, advisor="scan-time", run=1)])
def test_left_alone_again_it_is_put_back_as_it_was_found(found: KsmSettings) -> None:
    ksmd = Ksmd(candidates=GIB, settings=found)
    run(ksmd, STEER, Rung.YELLOW, 20)
    assert ksmd.settings != found
    run(ksmd, LEAVE, Rung.YELLOW, 4)
    pages = None if found.advisor == "scan-time" else found.pages_to_scan
    assert replace(ksmd.settings, pages_to_scan=pages) == replace(found, pages_to_scan=pages)
    if found.advisor == "scan-time":
        ksmd.meddle(pages_to_scan=777)  # it goes on from there by itself
    assert ksmd.tick(LEAVE, Rung.YELLOW) is None


def test_an_advisor_is_put_back_with_the_pages_that_the_kernel_would_set_anew() -> None:
    ksmd = Ksmd(candidates=GIB, settings=ADVISED)
    run(ksmd, STEER, Rung.YELLOW, 20)
    ksmd.meddle(pages_to_scan=ADVISED.pages_to_scan or 0)  # where the advisor has come to
    to = back(ksmd.ksm)
    assert to is not None
    assert (to.advisor, to.pages_to_scan) == ("none", ADVISED.pages_to_scan)


def test_what_somebody_else_has_set_since_is_not_put_back() -> None:
    ksmd = Ksmd(candidates=GIB)
    run(ksmd, STEER, Rung.YELLOW, 20)
    ksmd.meddle(pages_to_scan=1250)
    assert back(ksmd.ksm) == KsmSettings(run=0)


def test_unmerging_is_never_put_back() -> None:
    ksmd = Ksmd(candidates=GIB, settings=replace(FOUND, run=2))
    run(ksmd, STEER, Rung.YELLOW, 20)
    to = back(ksmd.ksm)
    assert to is not None
    assert to.run == 0


def test_where_nothing_was_set_nothing_is_put_back() -> None:
    assert back(Ksmd().ksm) is None


# --- in words --------------------------------------------------------------------------------------------


def words(ksmd: Ksmd) -> tuple[Stance, str]:
    return ksmd.told[-1].stance, ksmd.told[-1].words


def test_what_is_done_while_merging_is_said_and_why_it_rests() -> None:
    ksmd = Ksmd(candidates=0)
    ksmd.tick(STEER, Rung.YELLOW)
    assert words(ksmd) == (Stance.RESTING, "no guest's memory may be merged")
    ksmd.candidates = SMALL
    ksmd.tick(STEER, Rung.YELLOW)
    assert words(ksmd) == (
        Stance.MERGING,
        "the host is yellow: all once in 25 s, with 50% of a processor at most",
    )
    ksmd.tick(STEER, Rung.GREEN)
    assert words(ksmd)[1] == "the host is green: all once in 600 s, with 20% of a processor at most"
    ksmd.equal = 0.0
    run(ksmd, STEER, Rung.ORANGE, 120)
    assert words(ksmd)[0] is Stance.RESTING
    assert words(ksmd)[1].startswith("0 pages net were merged in 3 scans for ")
    assert words(ksmd)[1].endswith(" s of CPU; what is merged is kept, and in 5 min it is tried again")


def test_what_is_done_to_stop_merging_is_said() -> None:
    ksmd = Ksmd(settings=replace(FOUND, run=1), saved=GIB)
    said = []
    for spare in (0, 0, 2 * GIB, 2 * GIB):
        ksmd.tick(OFF, Rung.GREEN, spare=spare)
        said.append(words(ksmd))
    ksmd.saved = 1.0 * GIB  # it was not taken apart yet
    ksmd.tick(OFF, Rung.GREEN, spare=2 * GIB)
    assert [*said, words(ksmd)] == [
        (Stance.KEPT, "nothing more is to be merged"),
        (Stance.KEPT, "what is merged stays so: apart it needs 1 GiB more, and 0 B are to spare"),
        (Stance.UNMERGING, "1 GiB are taken apart, as 2 GiB are to spare"),
        (Stance.OFF, "nothing is merged"),
        (Stance.UNMERGING, "what was merged is taken apart"),
    ]


def test_who_else_is_at_work_and_what_is_left_alone_is_said() -> None:
    ksmd = Ksmd(candidates=GIB)
    ksmd.tick(LEAVE, Rung.GREEN)
    assert words(ksmd) == (Stance.LEFT, "left as it is")
    run(ksmd, STEER, Rung.YELLOW, 20)
    ksmd.tick(LEAVE, Rung.GREEN)
    assert words(ksmd) == (Stance.LEFT, "put back as it was found")
    run(ksmd, STEER, Rung.YELLOW, 20)
    ksmd.meddle(pages_to_scan=1, sleep_ms=7)
    ksmd.tick(STEER, Rung.YELLOW)
    assert words(ksmd) == (
        Stance.YIELDING,
        "somebody else sets pages_to_scan, sleep_ms (ksmtuned, MOM, tuned, a person?): "
        "left to them while they do",
    )


def test_who_merges_against_the_operators_word_is_said() -> None:
    ksmd = Ksmd(settings=replace(FOUND, run=1))
    run(ksmd, OFF, Rung.GREEN, 4)
    ksmd.meddle(run=1)
    ksmd.tick(OFF, Rung.GREEN)
    assert words(ksmd) == (
        Stance.OVERRULED,
        "guests' pages are merged against the mode: somebody else sets run "
        "(ksmtuned, MOM, tuned, a person?): left to them while they do",
    )


def test_where_nothing_is_to_spare_nothing_is_said_to_be() -> None:
    ksmd = Ksmd(saved=GIB)
    ksmd.tick(OFF, Rung.GREEN, spare=-GIB)
    assert words(ksmd)[1].endswith("and 0 B are to spare")
