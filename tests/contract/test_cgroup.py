"""Where guests live, and the limits that they share, on hosts of every kind of cgroup."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from balloond.host.cgroup import (
    NO_LIMIT_V1,
    Place,
    Pool,
    SwapLimit,
    find_pool,
    guest_directory,
    place_in,
    read_guest,
    swap_limit,
    swap_limits,
)
from balloond.host.files import Root
from balloond.host.processes import Process, Processes
from balloond.model import Fault, FaultKind, GuestCgroup, Pressure
from balloond.units import GIB, MIB
from tests.contract.real_cgroup import real_cgroup
from tests.fixtures.hosts import (
    BATCH,
    DB,
    HYBRID,
    V2,
    WEB,
    Files,
    cgroup_v1,
    cgroup_v2,
    kernel,
    on_v1,
    on_v2,
    plant,
    pressure,
    process,
    scope,
    swap_v1,
)

pytestmark = pytest.mark.contract

HOST = 24 * GIB
PIDS = {WEB: 101, DB: 102, BATCH: 103}


def read(tree: Path) -> dict[str, Process]:
    processes = Processes(Root(tree))
    try:
        return processes.read(PIDS)
    finally:
        processes.close()


def pool_of(tree: Path) -> tuple[Pool | None, tuple[Fault, ...]]:
    places = [one.place for one in read(tree).values() if one.place is not None]
    return find_pool(Root(tree), places, HOST)


def places_of(tree: Path) -> dict[str, Place]:
    return {uuid: one.place for uuid, one in read(tree).items() if one.place is not None}


def swap_of(tree: Path) -> SwapLimit | None:
    """The limit on swap above web and db."""
    places = places_of(tree)
    return swap_limit(Root(tree), places.values())


def swaps_of(tree: Path, managed: Sequence[str] = (WEB, DB, BATCH)) -> dict[str, int]:
    """Each guest's own limit on swap."""
    places = places_of(tree)
    return swap_limits(Root(tree), places, [place for uuid, place in places.items() if uuid in managed])


def two_guests(first: str, second: str) -> Files:
    return process(101, first) | process(102, second)


def on_systemd_v2() -> Files:
    return kernel() | two_guests(
        on_v2(scope(1, "web\\x2d1") + "/libvirt/emulator"), on_v2(scope(2, "db") + "/libvirt/emulator")
    )


def on_plain_v1() -> Files:
    return kernel() | two_guests(
        on_v1("/machine/qemu-1-web-1.libvirt-qemu"), on_v1("/machine/qemu-2-db.libvirt-qemu")
    )


# --- a guest's place -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "own", "above"),
    [
        (scope(1, "web\\x2d1") + "/libvirt/emulator", scope(1, "web\\x2d1"), "/machine.slice"),
        (scope(1, "web") + "/libvirt", scope(1, "web"), "/machine.slice"),
        (scope(1, "web") + "/emulator", scope(1, "web"), "/machine.slice"),
        (scope(1, "web") + "/vcpu0", scope(1, "web"), "/machine.slice"),
        (scope(1, "web"), scope(1, "web"), "/machine.slice"),
        (
            "/machine/qemu-1-web.libvirt-qemu/emulator",
            "/machine/qemu-1-web.libvirt-qemu",
            "/machine",
        ),
        (
            "/machine/gold.partition/qemu-1-web.libvirt-qemu",
            "/machine/gold.partition/qemu-1-web.libvirt-qemu",
            "/machine/gold.partition",
        ),
        # An accent and a colon, escaped; a name of 64 characters or more, cut.
        (scope(12, "caf\\xc3\\xa9\\x3a"), scope(12, "caf\\xc3\\xa9\\x3a"), "/machine.slice"),
        (scope(3, "a" * 55) + "/libvirt/vcpu1", scope(3, "a" * 55), "/machine.slice"),
        (scope(3, "libvirt") + "/libvirt", scope(3, "libvirt"), "/machine.slice"),
        # A session's guest shares its cgroup with whatever started it.
        (
            "/user.slice/user-1000.slice/session-3.scope",
            None,
            "/user.slice/user-1000.slice/session-3.scope",
        ),
        ("/", None, "/"),
    ],
)
def test_a_guests_own_cgroup_is_told_from_what_is_above_it(path: str, own: str | None, above: str) -> None:
    assert place_in(on_v2(path)) == Place(
        v1=False, own=own, above=above, unified_own=own, unified_above=above
    )


def test_memory_on_v1_comes_before_the_v2_tree_beside_it() -> None:
    membership = "4:memory:/machine/qemu-1-a.libvirt-qemu\n0::/elsewhere/qemu-1-a.libvirt-qemu\n"
    assert place_in(membership) == Place(
        v1=True,
        own="/machine/qemu-1-a.libvirt-qemu",
        above="/machine",
        unified_own="/elsewhere/qemu-1-a.libvirt-qemu",
        unified_above="/elsewhere",
    )


def test_controllers_mounted_together_are_told_apart() -> None:
    place = place_in("5:cpu,cpuacct:/a\n4:hugetlb,memory:/machine/qemu-1-a.libvirt-qemu\n3:memoryless:/b\n")
    assert place == Place(
        v1=True,
        own="/machine/qemu-1-a.libvirt-qemu",
        above="/machine",
        unified_own=None,
        unified_above=None,
    )


@pytest.mark.parametrize(
    "membership", [None, "", "nonsense", "0::/../../machine.slice/x.scope\n", "4:cpu:/\n"]
)
def test_a_place_that_cannot_be_seen_is_none(membership: str | None) -> None:
    assert place_in(membership) is None


# --- the pool --------------------------------------------------------------------------------------------


def test_without_limits_the_whole_host_is_the_guests(tmp_path: Path) -> None:
    plant(tmp_path, on_systemd_v2() | cgroup_v2("/machine.slice", usage=4 * GIB))
    assert pool_of(tmp_path) == (None, ())


def test_a_limit_on_machine_slice_is_the_pool(tmp_path: Path) -> None:
    plant(
        tmp_path,
        on_systemd_v2()
        | cgroup_v2("/machine.slice", limit=8 * GIB, usage=6 * GIB, inactive_file=1 * GIB)
        | cgroup_v2(scope(1, "web\\x2d1"), limit=1 * GIB),  # <memtune>: the guest's own, not the pool's
    )
    pool, faults = pool_of(tmp_path)
    assert faults == ()
    assert pool == Pool(
        path="/machine.slice",
        total=8 * GIB,
        available=3 * GIB,
        pressure=Pressure(some_avg10=0.075, full_avg10=0.0, some_total_us=999),
        oom_kills=4,
        pressure_file="/sys/fs/cgroup/machine.slice/memory.pressure",
    )


def test_the_throttling_limit_counts_where_it_is_smaller(tmp_path: Path) -> None:
    plant(tmp_path, on_systemd_v2() | cgroup_v2("/machine.slice", limit=8 * GIB, high=7 * GIB, usage=GIB))
    pool, _ = pool_of(tmp_path)
    assert pool is not None
    assert (pool.total, pool.available) == (7 * GIB, 6 * GIB)


def test_a_limit_beyond_the_host_is_none(tmp_path: Path) -> None:
    plant(tmp_path, on_systemd_v2() | cgroup_v2("/machine.slice", limit=HOST, usage=GIB))
    assert pool_of(tmp_path) == (None, ())


def test_a_pool_used_beyond_its_limit_has_nothing_available(tmp_path: Path) -> None:
    plant(tmp_path, on_systemd_v2() | cgroup_v2("/machine.slice", high=4 * GIB, usage=5 * GIB))
    pool, _ = pool_of(tmp_path)
    assert pool is not None
    assert pool.available == 0


def test_what_others_use_under_a_wider_limit_is_not_available_either(tmp_path: Path) -> None:
    gold = "/machine.slice/machine-gold.slice"
    plant(
        tmp_path,
        kernel()
        | two_guests(on_v2(f"{gold}/machine-qemu\\x2d1.scope"), on_v2(f"{gold}/machine-qemu\\x2d2.scope"))
        | cgroup_v2("/machine.slice", limit=8 * GIB, usage=7 * GIB)
        | cgroup_v2(gold, limit=6 * GIB, usage=2 * GIB),
    )
    pool, faults = pool_of(tmp_path)
    assert faults == ()
    assert pool is not None
    assert (pool.path, pool.total, pool.available) == (gold, 6 * GIB, 1 * GIB)


@pytest.mark.parametrize("limit", [None, 8 * GIB])
def test_the_swap_of_all_guests_is_bounded_by_the_limit_above_them_whatever_memory_they_may_have(
    tmp_path: Path, limit: int | None
) -> None:
    limits = cgroup_v2("/machine.slice", limit=limit, swap_limit=2 * GIB, swapped=512 * MIB)
    plant(tmp_path, on_systemd_v2() | limits)
    assert swap_of(tmp_path) == SwapLimit(total=2 * GIB, free=1536 * MIB)


def test_the_tightest_limit_on_swap_above_the_guests_counts_and_what_others_use_under_a_wider_one(
    tmp_path: Path,
) -> None:
    gold = "/machine.slice/machine-gold.slice"
    plant(
        tmp_path,
        kernel()
        | two_guests(on_v2(f"{gold}/machine-qemu\\x2d1.scope"), on_v2(f"{gold}/machine-qemu\\x2d2.scope"))
        | cgroup_v2("/machine.slice", swap_limit=3 * GIB, swapped=2560 * MIB)
        | cgroup_v2(gold, swap_limit=2 * GIB, swapped=GIB),
    )
    assert swap_of(tmp_path) == SwapLimit(total=2 * GIB, free=512 * MIB)


def test_without_limits_on_swap_there_is_none(tmp_path: Path) -> None:
    plant(tmp_path, on_systemd_v2() | cgroup_v2("/machine.slice", limit=8 * GIB))
    assert swap_of(tmp_path) is None
    unlimited = swap_v1("/machine", limit=NO_LIMIT_V1, usage=GIB)
    plant(tmp_path / "v1", on_plain_v1() | cgroup_v1("/machine", usage=GIB) | unlimited)
    assert swap_of(tmp_path / "v1") is None


def test_where_a_limit_on_swap_could_not_be_seen_there_is_no_swap(tmp_path: Path) -> None:
    plant(tmp_path, on_systemd_v2() | {f"{V2}/cgroup.controllers": "memory\n"})
    assert swap_of(tmp_path) == SwapLimit(total=0, free=0)


def test_without_guests_the_limit_on_swap_is_that_of_where_libvirt_will_put_them(tmp_path: Path) -> None:
    plant(tmp_path, kernel() | cgroup_v2("/machine.slice", swap_limit=0))
    assert swap_of(tmp_path) == SwapLimit(total=0, free=0)
    assert swap_limit(Root(tmp_path / "none"), ()) is None


def test_a_guests_own_limit_on_swap_is_its_alone(tmp_path: Path) -> None:
    plant(
        tmp_path,
        on_systemd_v2()
        | cgroup_v2("/machine.slice", swap_limit=GIB)
        | cgroup_v2(scope(1, "web\\x2d1"), swap_limit=0)
        | cgroup_v2(scope(2, "db")),
    )
    assert swaps_of(tmp_path) == {WEB: 0}


def test_a_limit_on_swap_above_some_guests_is_divided_among_them(tmp_path: Path) -> None:
    gold = "/machine.slice/machine-gold.slice"
    guests = (on_v2(f"{gold}/machine-qemu\\x2d1.scope"), on_v2(f"{gold}/machine-qemu\\x2d2.scope"))
    files = kernel() | two_guests(*guests) | process(103, on_v2(scope(3, "batch")))
    plant(tmp_path, files | cgroup_v2(gold, swap_limit=GIB))
    assert swaps_of(tmp_path) == {WEB: GIB // 2, DB: GIB // 2}
    assert swap_of(tmp_path) is None
    above_all_that_count = swaps_of(tmp_path, managed=(WEB, DB))
    assert above_all_that_count == {}  # that is for `swap_limit` to tell


def test_on_v1_no_guest_has_a_limit_on_swap_alone(tmp_path: Path) -> None:
    own = "/machine/qemu-1-web-1.libvirt-qemu"
    plant(tmp_path, on_plain_v1() | cgroup_v1(own, limit=GIB) | swap_v1(own, limit=GIB, usage=0))
    assert swaps_of(tmp_path) == {}


def test_a_v1_limit_is_the_pool_and_a_soft_limit_is_none(tmp_path: Path) -> None:
    machine = cgroup_v1("/machine", limit=1536 * MIB, usage=1 * GIB, inactive_file=256 * MIB)
    plant(tmp_path, on_plain_v1() | machine)
    assert pool_of(tmp_path) == (
        Pool(
            path="/machine",
            total=1536 * MIB,
            available=768 * MIB,
            pressure=None,
            oom_kills=None,
        ),
        (),
    )


def test_v1_without_limits_is_the_whole_host(tmp_path: Path) -> None:
    plant(tmp_path, on_plain_v1() | cgroup_v1("/machine", usage=1 * GIB) | cgroup_v1("/"))
    assert pool_of(tmp_path) == (None, ())


def test_a_v1_pools_swap_is_what_both_limits_leave_for_it(tmp_path: Path) -> None:
    machine = cgroup_v1("/machine", limit=2 * GIB, usage=1 * GIB)
    plant(tmp_path, on_plain_v1() | machine | swap_v1("/machine", limit=3 * GIB, usage=1280 * MIB))
    assert swap_of(tmp_path) == SwapLimit(total=1 * GIB, free=768 * MIB)


def test_on_a_hybrid_host_the_pools_pressure_is_in_the_v2_tree(tmp_path: Path) -> None:
    machine = cgroup_v1("/machine", limit=1536 * MIB)
    plant(tmp_path, on_plain_v1() | machine | {f"{HYBRID}/machine/memory.pressure": pressure(some=12.5)})
    pool, _ = pool_of(tmp_path)
    assert pool is not None
    assert pool.pressure == Pressure(some_avg10=0.125, full_avg10=0.0, some_total_us=0)


def test_an_empty_cgroup_of_the_same_name_does_not_feign_calm(tmp_path: Path) -> None:
    plant(
        tmp_path,
        on_plain_v1()
        | two_guests(
            "4:memory:/machine/qemu-1-a.libvirt-qemu\n0::/\n", on_v1("/machine/qemu-2-db.libvirt-qemu")
        )
        | cgroup_v1("/machine", limit=1536 * MIB)
        | {f"{HYBRID}/machine/memory.pressure": pressure(some=0)},
    )
    pool, _ = pool_of(tmp_path)
    assert pool is not None
    assert pool.pressure is None


def test_v2_without_systemd_has_its_pool_in_machine(tmp_path: Path) -> None:
    plant(
        tmp_path,
        kernel()
        | two_guests(
            on_v2("/machine/qemu-1-web.libvirt-qemu/libvirt/emulator"),
            on_v2("/machine/qemu-2-db.libvirt-qemu/libvirt/emulator"),
        )
        | cgroup_v2("/machine", limit=4 * GIB, usage=1 * GIB),
    )
    pool, _ = pool_of(tmp_path)
    assert pool is not None
    assert (pool.path, pool.total, pool.available) == ("/machine", 4 * GIB, 3 * GIB)


def test_guests_under_different_limits_have_no_pool_and_that_is_told(tmp_path: Path) -> None:
    plant(
        tmp_path,
        kernel()
        | two_guests(
            on_v2("/gold.slice/machine-qemu\\x2d1.scope"), on_v2("/tin.slice/machine-qemu\\x2d2.scope")
        )
        | cgroup_v2("/gold.slice", limit=8 * GIB)
        | cgroup_v2("/tin.slice", limit=2 * GIB),
    )
    pool, faults = pool_of(tmp_path)
    assert pool is None
    assert [fault.kind for fault in faults] == [FaultKind.POOL_DIVIDED]
    assert "/gold.slice 8 GiB, /tin.slice 2 GiB" in faults[0].detail


def test_a_limit_on_some_guests_below_the_pool_is_told_too(tmp_path: Path) -> None:
    gold = "/machine.slice/machine-gold.slice"
    plant(
        tmp_path,
        kernel()
        | two_guests(on_v2(f"{gold}/machine-qemu\\x2d1.scope"), on_v2(scope(2, "db")))
        | cgroup_v2("/machine.slice", limit=8 * GIB)
        | cgroup_v2(gold, limit=2 * GIB),
    )
    pool, faults = pool_of(tmp_path)
    assert pool is not None
    assert pool.path == "/machine.slice"
    assert [fault.subject for fault in faults] == [gold]


def test_guests_in_different_places_without_limits_share_the_host(tmp_path: Path) -> None:
    places = two_guests(on_v2("/gold.slice/machine-qemu\\x2d1.scope"), on_v2(scope(2, "db")))
    plant(tmp_path, kernel() | places | cgroup_v2("/gold.slice") | cgroup_v2("/machine.slice"))
    assert pool_of(tmp_path) == (None, ())


def test_a_cgroup_that_cannot_be_seen_from_here_is_told(tmp_path: Path) -> None:
    plant(tmp_path, on_systemd_v2() | {f"{V2}/cgroup.controllers": "memory\n"})
    pool, faults = pool_of(tmp_path)
    assert pool is None
    assert [(fault.kind, fault.subject) for fault in faults] == [
        (FaultKind.KERNEL_UNREADABLE, f"{V2}/machine.slice")
    ]


@pytest.mark.parametrize(
    "files",
    [
        cgroup_v2("/machine.slice", limit=4 * GIB, usage=1 * GIB),
        cgroup_v2("/machine", limit=4 * GIB, usage=1 * GIB),
        cgroup_v1("/", usage=2 * GIB) | cgroup_v1("/machine", limit=4 * GIB, usage=1 * GIB),
        cgroup_v1("/", usage=2 * GIB) | cgroup_v1("/machine.slice", limit=4 * GIB, usage=1 * GIB),
    ],
)
def test_without_guests_the_pool_is_where_libvirt_will_put_them(tmp_path: Path, files: Files) -> None:
    pool, faults = find_pool(Root(plant(tmp_path, kernel() | files)), (), HOST)
    assert faults == ()
    assert pool is not None
    assert (pool.total, pool.available) == (4 * GIB, 3 * GIB)


def test_without_guests_and_cgroups_the_pool_is_the_host(tmp_path: Path) -> None:
    assert find_pool(Root(plant(tmp_path, kernel())), (), HOST) == (None, ())


# --- a guest's own cgroup --------------------------------------------------------------------------------


def test_a_guests_own_cgroup_is_read_on_v2(tmp_path: Path) -> None:
    own = scope(1, "web")
    files = cgroup_v2(own, usage=GIB, swapped=3 * MIB, high=2 * GIB)
    place = place_in(on_v2(own + "/libvirt/emulator"))
    assert place is not None
    assert read_guest(Root(plant(tmp_path, files)), place) == GuestCgroup(
        used=GIB,
        swapped=3 * MIB,
        pressure=Pressure(some_avg10=0.075, full_avg10=0.0, some_total_us=999),
        soft_limit=2 * GIB,
    )


def test_a_guests_own_cgroup_is_read_on_v1_and_its_pressure_beside_it(tmp_path: Path) -> None:
    own = "/machine/qemu-1-web.libvirt-qemu"
    files = cgroup_v1(own, usage=GIB) | swap_v1(own, limit=4 * GIB, usage=GIB + 3 * MIB)
    files |= {f"{HYBRID}{own}/memory.pressure": pressure(some=5), f"{HYBRID}/cgroup.controllers": ""}
    files[f"/sys/fs/cgroup/memory{own}/memory.soft_limit_in_bytes"] = "9223372036854771712\n"
    place = place_in(on_v1(own + "/emulator") + f"0::{own}\n")
    assert place is not None
    root = Root(plant(tmp_path, files))
    waits = Pressure(some_avg10=0.05, full_avg10=0.0, some_total_us=0)
    assert read_guest(root, place) == GuestCgroup(used=GIB, swapped=3 * MIB, pressure=waits)
    plant(tmp_path, {f"/sys/fs/cgroup/memory{own}/memory.soft_limit_in_bytes": f"{GIB}\n"})
    found = read_guest(root, place)
    assert found is not None
    assert found.soft_limit == GIB


def test_without_swap_accounting_and_a_v2_tree_a_guests_cgroup_says_less(tmp_path: Path) -> None:
    own = "/machine/qemu-1-web.libvirt-qemu"
    place = place_in("4:memory:" + own + "\n")
    assert place is not None
    root = Root(plant(tmp_path, cgroup_v1(own, usage=GIB)))
    assert read_guest(root, place) == GuestCgroup(used=GIB, soft_limit=MIB)  # as the fixture has it


def test_a_guest_without_a_cgroup_of_its_own_or_whose_own_is_gone_has_none(tmp_path: Path) -> None:
    for path in ("/user.slice", scope(1, "web")):
        place = place_in(on_v2(path))
        assert place is not None
        assert read_guest(Root(tmp_path), place) is None
        assert guest_directory(Root(tmp_path), place) is None


# --- processes -------------------------------------------------------------------------------------------


def test_what_a_process_occupies_is_resident_and_swapped(tmp_path: Path) -> None:
    plant(tmp_path, process(101, on_v2(scope(1, "web")), rss=700 * MIB, swapped=5 * MIB))
    found = read(tmp_path)
    assert found.keys() == {WEB}
    assert (found[WEB].rss, found[WEB].swapped) == (700 * MIB, 5 * MIB)


def test_a_process_name_cannot_pass_for_a_figure(tmp_path: Path) -> None:
    plant(tmp_path, process(101, on_v2("/"), rss=700 * MIB, name="VmRSS: 1 kB\\nVmRSS:"))
    assert read(tmp_path)[WEB].rss == 700 * MIB


def test_a_zombie_occupies_nothing_that_is_known(tmp_path: Path) -> None:
    plant(tmp_path, {"/proc/101/status": "Name:\tqemu\nState:\tZ (zombie)\n", "/proc/101/cgroup": "0::/\n"})
    assert read(tmp_path) == {}


def test_a_guest_with_a_new_process_is_looked_at_anew(tmp_path: Path) -> None:
    processes = Processes(Root(tmp_path))
    plant(tmp_path, process(101, on_v2(scope(1, "web")), rss=700 * MIB))
    assert processes.read({WEB: 101})[WEB].rss == 700 * MIB
    plant(tmp_path, process(201, on_v2("/new.slice/machine-qemu\\x2d9.scope"), rss=100 * MIB))
    moved = processes.read({WEB: 201})[WEB]
    processes.close()
    assert moved.rss == 100 * MIB
    assert moved.place is not None
    assert moved.place.above == "/new.slice"


def test_a_process_not_yet_in_its_guests_cgroup_is_looked_at_again(tmp_path: Path) -> None:
    processes = Processes(Root(tmp_path))
    plant(tmp_path, process(101, on_v2("/system.slice/libvirtd.service")))
    early = processes.read({WEB: 101})[WEB].place
    plant(tmp_path, {"/proc/101/cgroup": on_v2(scope(1, "web"))})
    late = processes.read({WEB: 101})[WEB].place
    processes.close()
    assert early is not None
    assert early.own is None
    assert late is not None
    assert late.above == "/machine.slice"


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_process_that_ended_is_left_out_and_its_descriptor_closed() -> None:
    before = open_descriptors()
    processes = Processes(Root())
    with subprocess.Popen(["sleep", "60"]) as child:
        pids = {WEB: os.getpid(), BATCH: child.pid}
        assert processes.read(pids).keys() == {WEB, BATCH}
        child.kill()
    assert processes.read(pids).keys() == {WEB}
    assert processes.read({}) == {}
    assert open_descriptors() == before


def test_a_number_used_again_does_not_pass_for_the_guest(tmp_path: Path) -> None:
    processes = Processes(Root(tmp_path))
    status = tmp_path / "proc/101/status"
    status.parent.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as child:
        status.symlink_to(f"/proc/{child.pid}/status")
        assert processes.read({WEB: 101}).keys() == {WEB}
        child.kill()
    assert processes.read({WEB: 101}) == {}
    status.unlink()
    plant(tmp_path, process(101, on_v2("/other"), rss=700 * MIB))
    assert processes.read({WEB: 101}) == {}
    processes.close()


# --- this very host --------------------------------------------------------------------------------------


def test_a_real_limit_above_a_real_process_is_the_pool() -> None:
    with real_cgroup(64 * MIB) as (path, pid):
        processes = Processes(Root())
        found = processes.read({WEB: pid})[WEB]
        processes.close()
        assert found.place is not None
        pool, faults = find_pool(Root(), [found.place], HOST)
    assert faults == ()
    assert pool is not None
    assert (pool.path, pool.total) == (path, 64 * MIB)
    assert 0 < pool.available <= pool.total
    assert 0 < found.rss < 64 * MIB
