"""The rungs: where each begins, how one is left, and what a slope does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import Host, Ksm, Pressure, Rung
from balloond.policy.ladder import Standing, climb
from balloond.units import GIB, MIB

RESERVE, POOL = GIB, 1000 * MIB


def host(free: float, pressure: float | None = None) -> Host:
    """A host on which so much is available beyond the reserve."""
    return Host(
        total=64 * GIB,
        available=RESERVE + int(free),
        pressure=None if pressure is None else Pressure(some_avg10=pressure, full_avg10=0.0, some_total_us=0),
    )


def stand(rung: Rung, free: float, **more: float) -> Standing:
    fields = {"seen_s": 0.0, "slope": 0.0, **more}
    return Standing(rung=rung, available=RESERVE + int(free), **fields)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("free", "rung"),
    [
        (1000 * MIB, Rung.GREEN),
        (1000 * MIB - 1, Rung.YELLOW),
        (500 * MIB, Rung.YELLOW),
        (500 * MIB - 1, Rung.ORANGE),
        (200 * MIB, Rung.ORANGE),
        (200 * MIB - 1, Rung.RED),
        (-GIB, Rung.RED),
    ],
)
def test_each_rung_begins_at_its_share_of_the_pool(free: float, rung: Rung) -> None:
    assert climb(None, host(free), RESERVE, POOL, 0.0).rung is rung


def test_pressure_alone_makes_a_host_orange_and_its_absence_means_nothing() -> None:
    assert climb(None, host(4 * GIB, 0.051), RESERVE, POOL, 0.0).rung is Rung.ORANGE
    assert climb(None, host(4 * GIB, 0.05), RESERVE, POOL, 0.0).rung is Rung.GREEN
    assert climb(None, host(4 * GIB), RESERVE, POOL, 0.0).rung is Rung.GREEN


def test_a_rung_is_climbed_at_once() -> None:
    standing = climb(stand(Rung.GREEN, 4 * GIB), host(100 * MIB), RESERVE, POOL, 1.0)
    assert standing.rung is Rung.RED


def test_a_rung_is_left_when_it_was_cleared_by_a_quarter_for_half_a_minute() -> None:
    standing = stand(Rung.ORANGE, 700 * MIB)
    for now_s in (10.0, 39.0):
        standing = climb(standing, host(700 * MIB), RESERVE, POOL, now_s)
        assert standing.rung is Rung.ORANGE
    standing = climb(standing, host(700 * MIB), RESERVE, POOL, 40.0)
    assert standing.rung is Rung.YELLOW
    assert standing.better_s is None


def test_a_rung_that_is_only_just_cleared_is_not_left() -> None:
    standing = stand(Rung.ORANGE, 600 * MIB)
    for now_s in range(10, 100, 10):
        standing = climb(standing, host(600 * MIB), RESERVE, POOL, float(now_s))
        assert standing.rung is Rung.ORANGE
        assert standing.better_s is None


def test_the_half_minute_begins_anew_after_a_relapse() -> None:
    standing = climb(stand(Rung.ORANGE, 700 * MIB), host(700 * MIB), RESERVE, POOL, 10.0)
    standing = climb(standing, host(600 * MIB), RESERVE, POOL, 30.0)
    standing = climb(standing, host(700 * MIB), RESERVE, POOL, 35.0)
    assert climb(standing, host(700 * MIB), RESERVE, POOL, 50.0).rung is Rung.ORANGE


def test_what_is_left_for_is_the_worst_that_was_seen_while_it_was_cleared() -> None:
    standing = stand(Rung.RED, 400 * MIB)
    for now_s in (10.0, 39.0):
        standing = climb(standing, host(400 * MIB), RESERVE, POOL, now_s)
    standing = climb(standing, host(4 * GIB), RESERVE, POOL, 40.0)
    assert standing.rung is Rung.ORANGE
    for now_s in (41.0, 71.0):
        standing = climb(standing, host(1100 * MIB), RESERVE, POOL, now_s)
    assert standing.rung is Rung.YELLOW, "1.1 times the pool does not clear yellow"


def test_a_steep_slope_towards_red_makes_it_one_rung_worse() -> None:
    falling = stand(Rung.GREEN, 900 * MIB, slope=-15.0 * MIB)  # red in some 45 s
    assert climb(falling, host(900 * MIB), RESERVE, POOL, 0.0).rung is Rung.ORANGE
    steady = stand(Rung.GREEN, 900 * MIB)
    assert climb(steady, host(900 * MIB), RESERVE, POOL, 0.0).rung is Rung.YELLOW


def test_red_that_is_less_than_half_a_minute_away_is_two_rungs_worse_at_most() -> None:
    falling = stand(Rung.GREEN, 400 * MIB, slope=-15.0 * MIB)  # red in some 13 s
    assert climb(falling, host(400 * MIB), RESERVE, POOL, 0.0).rung is Rung.RED
    yellow = stand(Rung.GREEN, 600 * MIB, slope=-15.0 * MIB)  # in some 27 s
    assert climb(yellow, host(600 * MIB), RESERVE, POOL, 0.0).rung is Rung.ORANGE


@pytest.mark.parametrize(
    ("free", "slope", "rung"),
    [
        (900 * MIB, -1.0 * MIB, Rung.YELLOW),  # red in 700 s
        (620 * MIB, -7.0 * MIB, Rung.YELLOW),  # in 60
        (620 * MIB, -7.1 * MIB, Rung.ORANGE),
        (410 * MIB, -4.0 * MIB, Rung.ORANGE),  # in 52: one rung up at most, and never to red
        (410 * MIB, -7.0 * MIB, Rung.ORANGE),  # in 30
        (410 * MIB, -7.1 * MIB, Rung.RED),
        (410 * MIB, 7.1 * MIB, Rung.ORANGE),
    ],
)
def test_what_counts_of_a_slope_is_when_it_gets_to_red(free: float, slope: float, rung: Rung) -> None:
    before = stand(Rung.GREEN, free, slope=slope)
    assert climb(before, host(free), RESERVE, POOL, 0.0).rung is rung


@pytest.mark.parametrize(
    ("rung", "threshold"), [(Rung.YELLOW, 1250 * MIB), (Rung.ORANGE, 625 * MIB), (Rung.RED, 250 * MIB)]
)
def test_every_rung_is_left_from_a_quarter_above_its_threshold_on(rung: Rung, threshold: float) -> None:
    def after_half_a_minute(free: float) -> Rung:
        noticed = climb(stand(rung, free), host(free), RESERVE, POOL, 0.0)
        return climb(noticed, host(free), RESERVE, POOL, 30.0).rung

    assert after_half_a_minute(threshold - 1) is rung
    assert after_half_a_minute(threshold) < rung


def test_a_rung_that_pressure_brought_is_left_when_that_is_a_fifth_below_its_threshold() -> None:
    def after_half_a_minute(pressure: float) -> Rung:
        noticed = climb(stand(Rung.ORANGE, 4 * GIB), host(4 * GIB, pressure), RESERVE, POOL, 0.0)
        return climb(noticed, host(4 * GIB, pressure), RESERVE, POOL, 30.0).rung

    assert after_half_a_minute(0.041) is Rung.ORANGE
    assert after_half_a_minute(0.039) is Rung.GREEN


def test_the_slope_is_remembered_on_the_way_down_too() -> None:
    standing = climb(stand(Rung.ORANGE, 700 * MIB), host(800 * MIB), RESERVE, POOL, 10.0)
    assert standing.rung is Rung.ORANGE
    assert standing.slope == pytest.approx(10 * MIB * (1 - 0.36788), rel=1e-3)
    assert (standing.seen_s, standing.available, standing.better_s) == (10.0, RESERVE + 800 * MIB, 10.0)


def test_a_full_pool_is_green_however_steep_the_slope() -> None:
    falling = stand(Rung.GREEN, 4 * GIB, slope=-1.0 * GIB)
    assert climb(falling, host(4 * GIB), RESERVE, POOL, 0.0).rung is Rung.GREEN


def test_the_slope_is_averaged_over_ten_seconds() -> None:
    standing = climb(stand(Rung.GREEN, 4 * GIB), host(3 * GIB), RESERVE, POOL, 10.0)
    assert standing.slope == pytest.approx(-GIB / 10 * (1 - 0.36788), rel=1e-3)
    assert climb(None, host(3 * GIB), RESERVE, POOL, 10.0).slope == 0.0
    assert climb(standing, host(1 * GIB), RESERVE, POOL, 10.0).slope == standing.slope


def merging(free: float, saved: float) -> Host:
    ksm = Ksm(run=1, saved=int(saved), profit=None, full_scans=1, pages_to_scan=100, advisor=None)
    return replace(host(free), ksm=ksm)


def test_green_asks_for_the_pool_without_what_merging_lends() -> None:
    assert climb(None, merging(3000 * MIB, 2000 * MIB), RESERVE, POOL, 0.0).rung is Rung.GREEN
    assert climb(None, merging(3000 * MIB, 2000 * MIB + 1), RESERVE, POOL, 0.0).rung is Rung.YELLOW


def test_a_loan_that_nobody_calls_back_makes_nothing_worse_than_yellow() -> None:
    assert climb(None, merging(500 * MIB, 64 * GIB), RESERVE, POOL, 0.0).rung is Rung.YELLOW
    assert climb(None, merging(500 * MIB - 1, 64 * GIB), RESERVE, POOL, 0.0).rung is Rung.ORANGE
