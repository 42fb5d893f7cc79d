"""Could all guests have all their memory at once, and is nothing counted that isn't there?"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from balloond.model import Guest, Held, Host, Obstacle, Solvency
from balloond.policy.solvency import OVERHEAD_MOST, claim, judge, most, swap_commands, swap_remedy
from balloond.units import GIB, MIB, format_size

HOST = Host(total=16 * GIB, available=12 * GIB)


def guest(name: str = "a", **more: object) -> Guest:
    fields: dict[str, object] = {"uuid": f"uuid-{name}", "name": name, "maximum": 4 * GIB, "actual": GIB}
    return Guest(**(fields | more))  # type: ignore[arg-type]  # the test names fields of Guest


def judged(*guests: Guest, host: Host = HOST, own: int = 0, reserve: int = 0) -> Solvency:
    return judge(host, guests, own=own, reserve=reserve)


def size(claimed: Guest) -> int:
    return claim(claimed).size


def test_every_guest_counts_with_its_maximum_however_small_its_balloon_made_it() -> None:
    full = most(4 * GIB, 0)
    three = judged(guest("a"), guest("b", actual=4 * GIB), guest("c"))
    assert three.claimed == 3 * full
    assert three.spare == 16 * GIB - 3 * full
    assert three.solvent


def test_what_is_missing_is_the_sum_less_memory_and_swap() -> None:
    full = most(4 * GIB, 0)
    short = judged(*(guest(name) for name in "abcd"), own=GIB, reserve=512 * MIB)
    assert short.swap_missing == 4 * full + GIB + 512 * MIB - 16 * GIB
    assert short.memory_missing == 0
    assert not short.solvent


def test_exactly_the_swap_that_was_named_makes_it_solvent_and_a_byte_less_does_not() -> None:
    guests = [guest(name) for name in "abcde"]
    missing = judged(*guests).swap_missing
    assert judged(*guests, host=replace(HOST, swap_total=missing, swap_free=missing)).solvent
    assert not judged(*guests, host=replace(HOST, swap_total=missing, swap_free=missing - 1)).solvent


def test_zram_counts_as_nothing() -> None:
    zram = replace(HOST, swap_total=8 * GIB, swap_free=8 * GIB, zram_total=8 * GIB, zram_free=8 * GIB)
    assert judged(guest(), host=zram).swap == 0
    both = replace(zram, swap_total=10 * GIB, swap_free=10 * GIB)
    assert judged(guest(), host=both).swap == 2 * GIB


def test_what_may_go_to_zram_has_to_fit_into_memory_beside_what_can_not_be_swapped() -> None:
    both = replace(HOST, swap_total=72 * GIB, swap_free=72 * GIB, zram_total=8 * GIB, zram_free=8 * GIB)
    full = most(4 * GIB, 0)
    limited = [
        guest(name, swap_limit=3 * GIB) for name in "abcde"
    ]  # 15 GiB in swap: zram takes 8 of them, once
    assert judged(*limited, host=both).kept == 5 * (full - 3 * GIB) + 8 * GIB
    assert judged(*limited, host=both, own=2 * GIB).solvent
    assert (
        judged(*limited, host=both, own=4 * GIB).memory_missing == 5 * (full - 3 * GIB) + 12 * GIB - 16 * GIB
    )
    pinned = guest("p", maximum=9 * GIB, obstacle=Obstacle.LOCKED)
    assert judged(pinned, guest(), host=both).solvent  # the ordinary one is smaller than zram
    assert judged(pinned, guest(), guest("b"), host=both).memory_missing == most(9 * GIB, 0) - 8 * GIB


def test_what_zram_holds_takes_none_of_a_pools_memory_while_it_fits_beside_it() -> None:
    zram = replace(HOST, swap_total=72 * GIB, swap_free=72 * GIB, zram_total=8 * GIB, zram_free=8 * GIB)
    pool = replace(zram, total=2 * GIB, outside=7 * GIB)
    assert judged(guest(), host=pool).kept == GIB
    another = guest("b", maximum=GIB, in_pool=False)
    assert judged(guest(), another, host=pool).kept == most(GIB, 0) + GIB


def test_what_guests_have_on_disk_already_is_a_part_of_what_they_claim() -> None:
    host = replace(HOST, swap_total=4 * GIB, swap_free=GIB)
    assert judged(guest(swapped=2 * GIB), host=host).swap == 3 * GIB  # the last one is somebody else's
    assert judged(guest(swapped=9 * GIB), host=host).swap == 4 * GIB  # never more than there is


def test_what_may_lie_on_zram_is_not_taken_for_swap_on_disk() -> None:
    host = replace(HOST, swap_total=4 * GIB, swap_free=2 * GIB, zram_total=2 * GIB, zram_free=GIB)
    assert judged(guest(swapped=GIB), host=host).swap == GIB  # what is free on disk
    assert judged(guest(swapped=2 * GIB), host=host).swap == 2 * GIB
    assert judged(guest(swapped=9 * GIB), host=host).swap == 2 * GIB  # never more than the disk has


def test_the_pool_that_zswap_may_yet_fill_is_nobody_elses_memory() -> None:
    zswap = replace(HOST, zswap_growth=3 * GIB, swap_total=8 * GIB, swap_free=8 * GIB)
    assert judged(guest(), host=zswap, own=GIB).own == 4 * GIB
    assert (
        judged(guest(), host=replace(zswap, swap_free=2 * GIB), own=GIB).own == 3 * GIB
    )  # no more fits there


@pytest.mark.parametrize("obstacle", [Obstacle.UNREADABLE, Obstacle.IN_JOB, Obstacle.UNMANAGED])
def test_a_guest_whose_definition_nobody_has_read_counts_as_one_that_can_not_be_swapped(
    obstacle: Obstacle,
) -> None:
    claimed = claim(guest(obstacle=obstacle, defined=False))
    assert (claimed.held, claimed.pinned) == (Held.UNKNOWN, most(4 * GIB, 0))
    swap = replace(HOST, swap_total=64 * GIB, swap_free=64 * GIB)
    guests = [guest(name, defined=False) for name in "abcd"]
    assert judged(*guests, host=swap).memory_missing == 4 * most(4 * GIB, 0) - 16 * GIB


@pytest.mark.parametrize(
    ("obstacle", "held"),
    [
        (Obstacle.LOCKED, Held.LOCKED),
        (Obstacle.PASSTHROUGH, Held.PASSTHROUGH),
        (Obstacle.CONFIDENTIAL, Held.CONFIDENTIAL),
    ],
)
def test_a_pinned_guest_counts_whole_and_as_what_it_is(obstacle: Obstacle, held: Held) -> None:
    pinned = judged(guest(obstacle=obstacle), guest("b"))
    assert pinned.claims[0].held is held
    assert pinned.unswappable == most(4 * GIB, 0)
    assert pinned.claimed == 2 * pinned.unswappable


@pytest.mark.parametrize("obstacle", [None, Obstacle.UNMANAGED, Obstacle.IN_JOB, Obstacle.NO_BALLOON])
def test_who_is_left_alone_for_another_reason_is_ordinary(obstacle: Obstacle | None) -> None:
    assert judged(guest(obstacle=obstacle)).claims[0].held is Held.ORDINARY


def test_what_a_guest_may_not_have_in_swap_has_to_fit_into_memory() -> None:
    swap = replace(HOST, swap_total=64 * GIB, swap_free=64 * GIB)
    full = most(4 * GIB, 0)
    part = judged(guest("a", swap_limit=GIB), guest("b", swap_limit=0), guest("c"), host=swap)
    assert [each.pinned for each in part.claims] == [full - GIB, full, 0]
    assert part.unswappable == 2 * full - GIB
    assert part.solvent
    many = [guest(name, swap_limit=0) for name in "abcd"]
    assert judged(*many, host=swap).memory_missing == 4 * full - 16 * GIB
    assert judged(guest(swap_limit=9 * GIB)).claims[0].pinned == 0
    assert judged(guest(obstacle=Obstacle.LOCKED, swap_limit=9 * GIB)).claims[0].pinned == full


def test_pinned_guests_must_fit_into_memory_whatever_swap_there_is() -> None:
    pinned = [guest(name, obstacle=Obstacle.LOCKED) for name in "abcd"]
    swap = replace(HOST, swap_total=64 * GIB, swap_free=64 * GIB)
    judgement = judged(*pinned, guest("e"), host=swap, own=GIB)
    assert judgement.memory_missing == 4 * most(4 * GIB, 0) + GIB - 16 * GIB
    assert judgement.swap_missing == 0
    assert not judgement.solvent
    without = judged(*pinned, guest("e"), own=GIB)
    assert without.swap_missing == most(4 * GIB, 0)  # the ordinary one would have to live in swap


def test_without_guests_that_are_pinned_it_is_swap_that_is_missing_and_never_memory() -> None:
    tight = judged(guest(), own=12 * GIB, reserve=5 * GIB)
    assert tight.memory_missing == 0
    assert tight.swap_missing == most(4 * GIB, 0) + GIB


def test_a_guest_in_huge_pages_claims_its_process_alone_since_they_were_set_aside_before() -> None:
    huge = judged(guest(obstacle=Obstacle.HUGEPAGES, rss=50 * MIB, overhead=32 * MIB))
    assert huge.claims[0].held is Held.HUGEPAGES
    assert huge.claimed == huge.unswappable == 50 * MIB


def test_memory_of_virtio_mem_devices_is_claimed_too() -> None:
    assert size(guest(virtio_mem=2 * GIB)) == most(6 * GIB, 0)


def test_qemus_own_memory_counts_without_its_program_which_all_guests_share() -> None:
    assert size(guest(overhead=32 * MIB)) == most(4 * GIB, 32 * MIB)
    full = guest(overhead=32 * MIB, program=25 * MIB, rss=GIB + 100 * MIB)  # its balloon leaves it 1 GiB
    assert size(full) == most(4 * GIB, 75 * MIB)
    assert size(replace(full, rss=900 * MIB, swapped=224 * MIB)) == most(4 * GIB, 75 * MIB)
    assert size(replace(full, rss=GIB + 40 * MIB)) == most(4 * GIB, 32 * MIB)


def test_a_guest_that_takes_back_its_memory_is_not_taken_for_a_large_process() -> None:
    assert size(guest(rss=3 * GIB)) == most(4 * GIB, OVERHEAD_MOST)


def test_translated_code_counts_where_qemu_emulates_the_processor() -> None:
    assert size(guest(overhead=32 * MIB, translations=GIB)) == most(4 * GIB, GIB + 32 * MIB)


def test_a_guest_that_holds_more_than_it_ought_to_claims_what_it_holds() -> None:
    assert size(guest(rss=5 * GIB, swapped=2 * GIB, program=MIB)) == 7 * GIB - MIB


def test_a_guest_that_has_more_than_its_maximum_claims_that() -> None:
    assert size(guest(actual=6 * GIB)) == most(6 * GIB, 0)


def test_a_guest_of_another_pool_claims_nothing_while_it_fits_beside_the_pool() -> None:
    beside = replace(HOST, outside=most(4 * GIB, 0))
    assert judged(guest(in_pool=False, swapped=GIB), host=beside).claims == ()
    assert judged(guest(in_pool=False), host=beside).claimed == 0


def test_what_guests_of_another_pool_may_take_beyond_it_is_counted_against_this_one() -> None:
    full, swap = most(4 * GIB, 0), replace(HOST, outside=GIB, swap_total=8 * GIB, swap_free=8 * GIB)
    inside, other = guest("a"), guest("b", in_pool=False)
    both = judged(inside, other, host=swap)
    assert [each.uuid for each in both.claims] == ["uuid-a"]
    assert both.claimed == 2 * full - GIB
    assert both.spare == 24 * GIB - both.claimed
    assert both.unswappable == 0
    locked = judged(inside, replace(other, obstacle=Obstacle.LOCKED), host=swap)
    assert locked.unswappable == full - GIB


@pytest.mark.parametrize(
    ("withheld", "added", "raised"),
    [(None, 4096, 0), (0, 4096, 4096), (GIB, 3072, 4096), (4 * GIB, 0, 4096), (9 * GIB, 0, 4096)],
)
def test_where_a_cgroup_bounds_swap_it_is_raised_and_only_what_the_host_lacks_is_added(
    withheld: int | None, added: int, raised: int
) -> None:
    remedy = "\n".join(swap_remedy(4 * GIB, withheld, 0))
    assert (f"fallocate -l {added + 1}MiB" in remedy) == ("fallocate" in remedy) == bool(added)
    assert (f"by {format_size(raised * MIB)}" in remedy) == ("memory.swap.max" in remedy) == bool(raised)


def test_the_commands_that_add_swap_touch_no_file_that_is_there(tmp_path: Path) -> None:
    commands = swap_commands(3 * MIB).replace("/var/", f"{tmp_path}/")
    harmless = "mkswap() { :; }; swapon() { :; }; "
    for _ in range(2):
        subprocess.run(["sh", "-c", harmless + commands], check=True)
    made = list(tmp_path.iterdir())
    assert [(each.stat().st_size, each.stat().st_mode & 0o777) for each in made] == [(4 * MIB, 0o600)] * 2


def test_page_tables_are_counted_for_the_process_and_for_kvm() -> None:
    assert most(512 * GIB, 0) - 512 * GIB == 2 * GIB
