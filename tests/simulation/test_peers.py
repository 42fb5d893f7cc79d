"""Are the peers' rules those of their sources? Literal values, worked out by hand from what the sources say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from balloond.model import Guest, Host, Snapshot, Statistics
from balloond.sim.peers import MAKERS, Peer, Sight, esx, mom, proxmox, qmemman, script, see, squeezed
from balloond.sim.peers.sight import Array, Clock
from balloond.sim.policies import PEERS, POLICIES, WORDS
from balloond.units import GIB, MIB

ALL = np.array([[True, True]])


def row(*values: float) -> Array:
    return np.array([values], dtype=np.float64)


def gib(*values: float) -> Array:
    return row(*values) * GIB


def mib(*values: float) -> Array:
    return row(*values) * MIB


def sight(
    *, used: Array, actual: Array, maximum: Array, total: float, available: float | None = None,
    now_s: float = 10.0,
) -> Sight:  # fmt: skip
    free = actual - used
    left = total - float(actual.sum()) if available is None else available
    return Sight(
        now_s=now_s, total=row(total), available=row(left), maximum=maximum, actual=actual,
        unused=free, usable=free, caches=np.zeros_like(free),
    )  # fmt: skip


def test_every_named_peer_can_be_made_and_is_described() -> None:
    assert tuple(MAKERS) == PEERS
    assert set(WORDS) == set(POLICIES)


def test_a_clock_of_15_s_on_steps_of_10_s_takes_turns_of_20_and_10_s() -> None:
    clock = Clock(15.0)
    due = [now_s for now_s in range(10, 101, 10) if clock.due(float(now_s))]
    assert due == [20, 30, 50, 60, 80, 90]


# --- MOM ---


def test_mom_grows_everybody_by_five_percent_above_its_threshold() -> None:
    target = mom.rule(free=row(0.20), used=gib(1), current=gib(2), maximum=gib(8))
    assert target.tolist() == np.floor(gib(2.1)).tolist()


def test_mom_grows_a_guest_at_once_to_a_fifth_unused() -> None:
    target = mom.rule(free=row(0.30), used=gib(1.95), current=gib(2), maximum=gib(8))
    assert target.tolist() == np.floor(gib(1.95 + 0.4)).tolist()


def test_mom_grows_nobody_above_its_maximum() -> None:
    assert mom.rule(free=row(0.5), used=gib(1), current=gib(2), maximum=gib(2.05)).tolist() == [
        [float(int(2.05 * GIB))]
    ]


def test_mom_shrinks_by_five_percent_below_its_threshold() -> None:
    target = mom.rule(free=row(0.19), used=gib(0.5), current=gib(2), maximum=gib(8))
    assert target.tolist() == np.floor(gib(1.9)).tolist()


def test_mom_leaves_a_shrinking_guest_free_memory_in_proportion_to_the_hosts() -> None:
    target = mom.rule(free=row(0.10), used=gib(1.75), current=gib(2), maximum=gib(8))
    assert target.tolist() == np.floor(gib(1.75 + 0.1 * 2)).tolist()


def test_mom_leaves_a_shrinking_guest_nothing_unused_when_the_host_is_down_to_a_twentieth() -> None:
    target = mom.rule(free=row(0.05), used=gib(1.92), current=gib(2), maximum=gib(8))
    assert target.tolist() == np.floor(gib(1.92)).tolist()


def test_mom_does_not_grow_a_starving_guest_on_a_host_that_is_nearly_a_fifth_free() -> None:
    target = mom.rule(free=row(0.19), used=gib(2), current=gib(2), maximum=gib(8))
    assert target.tolist() == gib(2).tolist()


def test_mom_makes_no_change_of_a_quarter_percent_or_less() -> None:
    target = mom.rule(free=row(0.19), used=gib(1.806), current=gib(2), maximum=gib(8))
    assert target.tolist() == gib(2).tolist()


def test_mom_acts_on_the_average_of_its_last_samples() -> None:
    peer = mom.Mom()
    for free, now_s in ((0.5, 10.0), (0.5, 20.0), (0.0, 30.0)):
        at = sight(
            used=gib(0), actual=gib(1, 1), maximum=gib(8, 8), total=8.0 * GIB, available=free * 8 * GIB,
            now_s=now_s,
        )  # fmt: skip
        target = peer.targets(at)
    assert (target > gib(1, 1)).all()  # a third of the host is free on average, and nothing now


# --- Proxmox ---


def test_proxmox_gives_to_the_pressured_first() -> None:
    target = proxmox.rule(
        goal=row(150 * MIB), free=mib(10, 900), current=mib(1000, 1900), minimum=mib(400, 400),
        maximum=mib(4000, 4000),
    )  # fmt: skip
    assert target.tolist() == mib(1100, 1900).tolist()


def test_proxmox_takes_from_the_comfortable_first_and_100_mib_at_most() -> None:
    target = proxmox.rule(
        goal=row(-5000 * MIB), free=mib(10, 900), current=mib(1000, 1900), minimum=mib(400, 400),
        maximum=mib(4000, 4000),
    )  # fmt: skip
    assert target.tolist() == mib(1000, 1800).tolist()


def test_proxmox_takes_from_all_when_nobody_is_comfortable() -> None:
    target = proxmox.rule(
        goal=row(-5000 * MIB), free=mib(10, 20), current=mib(1000, 430), minimum=mib(400, 400),
        maximum=mib(4000, 4000),
    )  # fmt: skip
    assert target.tolist() == mib(900, 400).tolist()


def test_proxmox_does_nothing_within_10_mib_of_its_goal() -> None:
    current = mib(1000, 1900)
    target = proxmox.rule(
        goal=row(-10 * MIB),
        free=mib(10, 900),
        current=current,
        minimum=mib(400, 400),
        maximum=mib(4000, 4000),
    )
    assert target.tolist() == current.tolist()


def test_proxmox_divides_what_is_above_the_minima_in_equal_shares() -> None:
    target = proxmox.rule(
        goal=row(100 * MIB), free=mib(0, 0), current=mib(440, 500), minimum=mib(400, 400),
        maximum=mib(4000, 4000),
    )  # fmt: skip
    assert target.tolist() == mib(520, 520).tolist()


def test_proxmox_aims_at_a_host_that_is_80_percent_full() -> None:
    peer = proxmox.Proxmox(0.1)
    at = sight(
        used=mib(1000, 1000), actual=mib(1000, 1000), maximum=mib(4000, 4000), total=10_000.0 * MIB,
        available=2100.0 * MIB,
    )  # fmt: skip
    assert peer.targets(at).tolist() == mib(1050, 1050).tolist()


# --- the script ---


@pytest.mark.parametrize(
    ("usable", "expected"), [(0.24, 0.76 / 0.7), (0.25, 1), (0.35, 1), (0.36, 0.64 / 0.7)]
)
def test_the_script_puts_a_guest_into_the_middle_of_its_band_when_it_left_it(
    usable: float, expected: float
) -> None:
    target = script.rule(usable=row(usable * 1e9), current=row(1e9), maximum=row(4e9))
    assert target[0, 0] == pytest.approx(expected * 1e9, abs=1)


# --- squeezed ---


def test_squeezed_sets_all_guests_to_the_same_part_of_their_range() -> None:
    target = squeezed.rule(
        total=row(3000 * MIB + squeezed.KEPT), current=mib(400, 400), minimum=mib(400, 400),
        maximum=mib(4000, 1600), active=ALL,
    )  # fmt: skip
    gamma = 2200 / 4800
    assert target.tolist() == np.floor(mib(400 + 3600 * gamma, 400 + 1200 * gamma)).tolist()


def test_squeezed_grants_only_what_is_free_now() -> None:
    target = squeezed.rule(
        total=row(2000 * MIB + squeezed.KEPT), current=mib(1800, 200), minimum=mib(200, 200),
        maximum=mib(2000, 2000), active=ALL,
    )  # fmt: skip
    assert target.tolist() == mib(1000, 200).tolist()


def test_squeezed_counts_on_nobody_without_progress() -> None:
    target = squeezed.rule(
        total=row(2000 * MIB + squeezed.KEPT), current=mib(1500, 200), minimum=mib(200, 200),
        maximum=mib(2000, 2000), active=np.array([[False, True]]),
    )  # fmt: skip
    assert target.tolist() == mib(1500, 500).tolist()


# --- qmemman ---


def test_qmemman_divides_what_is_left_in_proportion_to_preferences() -> None:
    target = qmemman.rule(
        total=row(7800 * MIB + qmemman.KEPT), used=mib(1000, 2000), current=mib(3900, 3900),
        maximum=mib(9000, 9000), counted=ALL,
    )  # fmt: skip
    assert target / MIB == pytest.approx(row(0.999 * 2600, 0.999 * 5200))


def test_qmemman_prefers_200_mib_at_least() -> None:
    target = qmemman.rule(
        total=row(1650 * MIB + qmemman.KEPT), used=mib(10, 1000), current=mib(750, 750),
        maximum=mib(9000, 9000), counted=ALL,
    )  # fmt: skip
    assert target / MIB == pytest.approx(row(0.999 * 220, 0.999 * 1430))


def test_qmemman_takes_donors_to_their_preference_when_memory_is_low() -> None:
    target = qmemman.rule(
        total=row(2000 * MIB + qmemman.KEPT), used=mib(700, 1000), current=mib(1000, 1000),
        maximum=mib(9000, 9000), counted=ALL,
    )  # fmt: skip
    assert target / MIB == pytest.approx(row(910, 0.999 * 1090))


def test_qmemman_does_not_move_less_than_150_mib_without_need() -> None:
    current = mib(2600, 5200)
    target = qmemman.rule(
        total=row(7800 * MIB + qmemman.KEPT), used=mib(1010, 2000), current=current, maximum=mib(9000, 9000),
        counted=ALL,
    )  # fmt: skip
    assert target.tolist() == current.tolist()


# --- ESX ---


def test_esx_takes_an_idle_page_for_four_active_ones() -> None:
    kept = esx.FREE_BASE
    target = esx.rule(
        total=row(5000 * MIB + kept), active=row(1.0, 0.0), minimum=mib(0, 0), maximum=mib(6000, 6000)
    )
    assert target / MIB == pytest.approx(row(4000, 1000), abs=1)


def test_esx_holds_its_limits() -> None:
    kept = esx.FREE_BASE
    target = esx.rule(
        total=row(5000 * MIB + kept), active=row(1.0, 0.0), minimum=mib(400, 1500), maximum=mib(6000, 6000)
    )
    assert target / MIB == pytest.approx(row(3500, 1500), abs=1)


def test_esx_hands_out_everything_where_all_fits() -> None:
    target = esx.rule(
        total=row(50_000 * MIB), active=row(0.5, 0.0), minimum=mib(400, 400), maximum=mib(6000, 6000)
    )
    assert target.tolist() == mib(6000, 6000).tolist()


def test_esx_keeps_a_hundredth_of_memory_above_28_gib_free_too() -> None:
    target = esx.rule(total=gib(128), active=row(1.0, 1.0), minimum=gib(1, 1), maximum=gib(100, 100))
    assert target.sum() == pytest.approx(128 * GIB - 899 * MIB - 1 * GIB, abs=2)


# --- all of them ---


@pytest.mark.parametrize("name", ["static", "squeezed", "qmemman", "esx"])
def test_peers_that_look_at_the_sum_never_hand_out_more_than_there_is(name: str) -> None:
    chance = np.random.default_rng(7)
    peer: Peer = MAKERS[name]()
    maximum = np.floor(chance.uniform(1, 16, (5, 20)) * GIB)
    total = np.floor(maximum.sum(axis=1, keepdims=True) / 2.5)
    actual = np.floor(maximum / 2.5)
    for number in range(1, 60):
        used = np.minimum(actual, np.floor(maximum * chance.uniform(0, 0.8, (5, 20)) * number / 60))
        free = actual - used
        actual = peer.targets(
            Sight(
                now_s=number * 10.0, total=total, available=total - actual.sum(axis=1, keepdims=True),
                maximum=maximum, actual=actual, unused=free, usable=free, caches=np.zeros_like(free),
            )
        )  # fmt: skip
        assert (actual.sum(axis=1, keepdims=True) <= total).all()
        assert (actual <= maximum).all()
        assert (actual >= 0).all()


@pytest.mark.parametrize("name", PEERS)
def test_what_a_peer_does_on_one_host_depends_on_no_other(name: str) -> None:
    chance = np.random.default_rng(3)
    maximum = np.floor(chance.uniform(1, 16, (2, 6)) * GIB)
    wide, narrow = MAKERS[name](), MAKERS[name]()
    actual, alone = np.floor(maximum / 2), np.floor(maximum[:1] / 2)
    for number in range(1, 30):
        wanted = np.floor(maximum * chance.uniform(0, 0.9, (2, 6)))
        targets = wide.targets(_sight_of(actual, wanted, maximum, number))
        alone = narrow.targets(_sight_of(alone, wanted[:1], maximum[:1], number))
        assert targets[:1].tolist() == alone.tolist()
        actual = targets


def _sight_of(actual: Array, wanted: Array, maximum: Array, number: int) -> Sight:
    free = actual - np.minimum(actual, wanted)
    total = np.floor(maximum.sum(axis=1, keepdims=True) / 2)
    return Sight(
        now_s=number * 10.0, total=total,
        available=np.maximum(0.0, total - actual.sum(axis=1, keepdims=True)), maximum=maximum, actual=actual,
        unused=free, usable=free, caches=np.zeros_like(free),
    )  # fmt: skip


def test_peers_see_what_the_snapshot_holds_and_no_more() -> None:
    said = Statistics(
        last_update_s=1, untrusted_unused=1 * MIB, untrusted_usable=3 * MIB, untrusted_caches=2 * MIB
    )
    guests = (
        Guest(uuid="a", name="a", maximum=8 * MIB, actual=6 * MIB, statistics=said),
        Guest(uuid="b", name="b", maximum=9 * MIB, actual=7 * MIB),
    )
    host = Host(total=100 * MIB, available=40 * MIB)
    seen = see(Snapshot(monotonic_s=5.0, wall_s=6.0, host=host, guests=guests))
    assert seen is not None
    assert (seen.total.tolist(), seen.available.tolist()) == (mib(100).tolist(), mib(40).tolist())
    assert seen.maximum.tolist() == mib(8, 9).tolist()
    assert seen.actual.tolist() == mib(6, 7).tolist()
    assert seen.unused.tolist() == mib(1, 0).tolist()
    assert seen.usable.tolist() == mib(3, 0).tolist()
    assert seen.caches.tolist() == mib(2, 0).tolist()


@pytest.mark.parametrize("guests", [None, ()])
def test_peers_see_nothing_where_there_is_nothing_to_be_seen(guests: tuple[Guest, ...] | None) -> None:
    host = Host(total=GIB, available=GIB)
    assert see(Snapshot(monotonic_s=1.0, wall_s=1.0, host=host, guests=guests)) is None
    assert see(Snapshot(monotonic_s=1.0, wall_s=1.0, host=None, guests=())) is None


@pytest.mark.parametrize("name", PEERS)
def test_guests_may_come_and_go_under_a_peer(name: str) -> None:
    peer = MAKERS[name]()
    for (before, after), number in zip(pairwise([3, 5, 2, 4, 4, 3]), range(1, 6), strict=True):
        for count in (before, after):
            maximum = gib(*[4.0] * count)
            actual = gib(*[2.0] * count)
            targets = peer.targets(_sight_of(actual, gib(*[1.0] * count), maximum, number * 6 + count))
            assert targets.shape == (1, count)
