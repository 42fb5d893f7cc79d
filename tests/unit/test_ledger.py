"""Where the pool's memory is, counted from what is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import Guest, Host, Ksm, Ledger, Obstacle
from balloond.policy.ledger import Own, Stake, account, own_use
from balloond.units import GIB, MIB


def guest(actual: int = 2 * GIB, rss: int | None = GIB, **more: object) -> Guest:
    return Guest(uuid="u", name="g", maximum=4 * GIB, actual=actual, rss=rss, **more)  # type: ignore[arg-type]  # fields of Guest


def stake(seen: Guest, target: int | None = None, *, heard: bool = True) -> Stake:
    return Stake(guest=seen, target=target, overhead=32 * MIB, heard=heard)


def test_a_guest_may_touch_the_larger_of_actual_and_target_and_its_overhead() -> None:
    assert stake(guest()).committed == 2 * GIB + 32 * MIB
    assert stake(guest(), GIB).committed == 2 * GIB + 32 * MIB
    assert stake(guest(), 3 * GIB).committed == 3 * GIB + 32 * MIB


def test_what_a_process_really_occupies_counts_where_it_is_more() -> None:
    assert stake(guest(rss=3 * GIB)).committed == 3 * GIB
    assert stake(guest(rss=None)).committed == 2 * GIB + 32 * MIB


def test_who_was_not_heard_of_for_long_counts_as_its_maximum() -> None:
    assert stake(guest(), heard=False).committed == 4 * GIB + 32 * MIB


@pytest.mark.parametrize("obstacle", [Obstacle.LOCKED, Obstacle.PASSTHROUGH, Obstacle.CONFIDENTIAL])
def test_pinned_guests_count_as_their_maximum(obstacle: Obstacle) -> None:
    assert stake(guest(obstacle=obstacle)).committed == 4 * GIB + 32 * MIB


def test_hugepages_are_set_aside_already_and_guests_elsewhere_cost_the_pool_nothing() -> None:
    assert stake(guest(obstacle=Obstacle.HUGEPAGES, rss=80 * MIB)).committed == 80 * MIB
    assert stake(guest(obstacle=Obstacle.HUGEPAGES, rss=None)).committed == 0
    assert stake(guest(in_pool=False)).committed == 0
    assert stake(guest(obstacle=Obstacle.NOT_RUNNING)).committed == 2 * GIB + 32 * MIB


HOST = Host(total=16 * GIB, available=10 * GIB)


def test_the_hosts_own_use_is_what_is_neither_available_nor_a_guests() -> None:
    own = own_use(None, HOST, [guest(), guest(rss=None)], 0.0)
    assert own.peak == 16 * GIB - 10 * GIB - 3 * GIB
    assert own_use(None, HOST, [guest(rss=9 * GIB)], 0.0).peak == 0
    assert own_use(None, HOST, [guest(rss=9 * GIB, in_pool=False)], 0.0).peak == 6 * GIB


def test_merged_pages_stand_with_every_sharer_and_take_memory_once() -> None:
    ksm = Ksm(run=1, saved=GIB, profit=None, full_scans=1, pages_to_scan=100, advisor=None)
    assert own_use(None, replace(HOST, ksm=ksm), [guest(rss=6 * GIB)], 0.0).peak == GIB
    ours = replace(ksm, in_guests=GIB // 4)  # the rest is merged in the host's own processes
    assert own_use(None, replace(HOST, ksm=ours), [guest(rss=6 * GIB)], 0.0).peak == GIB // 4
    assert ledger(replace(HOST, ksm=ours), stake(guest()))[0] == 8 * GIB


def test_the_hosts_own_use_counts_at_its_peak_and_is_forgotten_slowly() -> None:
    before = Own(peak=6.0 * GIB, seen_s=500.0, total=16 * GIB)
    guests = [guest(rss=4 * GIB)]
    assert own_use(before, HOST, guests, 500.0) == before
    later = own_use(before, HOST, guests, 2300.0)
    assert later.peak == pytest.approx(GIB * (2 + 4 * 0.367879), rel=1e-5)
    assert (later.seen_s, later.total) == (2300.0, 16 * GIB)
    risen = replace(HOST, available=GIB)
    assert own_use(before, risen, guests, 560.0).peak == 11 * GIB


def test_what_was_known_of_another_pool_is_forgotten() -> None:
    before = Own(peak=6.0 * GIB, seen_s=0.0, total=64 * GIB)
    assert own_use(before, HOST, [guest(rss=4 * GIB)], 1.0) == Own(peak=2.0 * GIB, seen_s=1.0, total=16 * GIB)


def ledger(host: Host, *stakes: Stake, own: float = 0.0) -> tuple[int, bool, int]:
    made = account(
        host,
        stakes,
        Own(peak=own, seen_s=0.0, total=host.total),
        reserve=GIB,
        pool=GIB,
        guaranteed=0,
    )
    return made.headroom, made.covered, made.committed


def test_headroom_is_the_ledgers_room_and_no_more_than_what_is_available() -> None:
    committed = 2 * GIB + 32 * MIB
    assert ledger(HOST, stake(guest())) == (9 * GIB, True, committed)
    plenty = replace(HOST, available=15 * GIB)
    assert ledger(plenty, stake(guest())) == (15 * GIB - committed, True, committed)
    assert ledger(plenty, stake(guest()), own=4.0 * GIB) == (11 * GIB - committed, True, committed)


def test_the_ledger_says_what_it_was_made_of() -> None:
    own = Own(peak=3.5, seen_s=0.0, total=HOST.total)
    assert account(HOST, [], own, reserve=GIB, pool=2 * GIB, guaranteed=5) == Ledger(
        total=16 * GIB,
        available=10 * GIB,
        own=3,
        reserve=GIB,
        pool=2 * GIB,
        committed=0,
        headroom=9 * GIB,
        guaranteed=5,
        covered=True,
    )


def test_the_ledger_is_covered_up_to_the_last_byte() -> None:
    host = Host(total=3 * GIB + 32 * MIB, available=3 * GIB)
    assert ledger(host, stake(guest()))[:2] == (0, True)
    assert ledger(replace(host, total=host.total - 1), stake(guest()))[:2] == (-1, False)


def test_what_merging_saves_is_available_and_is_none_of_the_headroom() -> None:
    ksm = Ksm(run=1, saved=6 * GIB, profit=None, full_scans=1, pages_to_scan=100, advisor=None)
    merging = replace(HOST, ksm=ksm)
    assert ledger(merging, stake(guest()))[0] == 3 * GIB
    made = account(merging, (), Own(peak=0.0, seen_s=0.0, total=HOST.total), reserve=0, pool=0, guaranteed=0)
    assert made.loan == 6 * GIB
