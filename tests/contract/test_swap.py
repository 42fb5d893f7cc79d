"""Swap of many kinds: what is told from what, on hosts that this one is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from balloond.host.files import Root
from balloond.host.kernel import read_host
from balloond.host.swap import Swap, read_swap
from balloond.units import GIB, KIB, MIB
from tests.fixtures.hosts import Files, kernel, plant

pytestmark = pytest.mark.contract

HEADING = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
MEMINFO = f"MemTotal: {16 * GIB // KIB} kB\nMemAvailable: 1 kB\nZswap:          {GIB // KIB} kB\n"


def area(name: str, kind: str, size: int, used: int = 0) -> str:
    return f"{name:<40}{kind}\t{size // KIB}\t\t{used // KIB}\t\t-2\n"


def swap(tree: Path, *areas: str, **files: str) -> Swap:
    given: Files = {"/proc/swaps": HEADING + "".join(areas)}
    return read_swap(Root(plant(tree, given | files)), MEMINFO)


def zswap(*, enabled: str, percent: str = "20") -> Files:
    there = "/sys/module/zswap/parameters"
    return {f"{there}/enabled": f"{enabled}\n", f"{there}/max_pool_percent": f"{percent}\n"}


def test_zram_is_told_from_disks_and_files(tmp_path: Path) -> None:
    found = swap(
        tmp_path,
        area("/dev/zram0", "partition", 2 * GIB, GIB),
        area("/dev/zram12", "partition", GIB),
        area("/dev/dm-1", "partition", 8 * GIB),
        area("/var/swap.img", "file", 4 * GIB, MIB),
    )
    assert (found.zram_total, found.zram_free) == (3 * GIB, 2 * GIB)


def test_a_file_that_is_merely_called_so_is_a_file(tmp_path: Path) -> None:
    assert swap(tmp_path, area("/srv/zram0", "file", GIB)).zram_total == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADING,
        HEADING + "/dev/zram0\n",
        HEADING + "/dev/zram0 partition much little -2\n",
        HEADING + "/dev/zram0 partition -5 0 -2\n",
        "\x00\xff\n\n\n/dev/zram0 partition",
    ],
)
def test_garbled_lists_of_swap_hold_no_zram(tmp_path: Path, text: str) -> None:
    assert read_swap(Root(plant(tmp_path, {"/proc/swaps": text})), MEMINFO) == Swap()


def test_without_a_list_or_meminfo_nothing_is_known(tmp_path: Path) -> None:
    assert read_swap(Root(tmp_path), None) == Swap()


def test_what_zswap_may_yet_take_is_its_limit_less_its_pool(tmp_path: Path) -> None:
    found = swap(tmp_path, area("/dev/sda2", "partition", GIB), **zswap(enabled="Y"))
    assert found.zswap
    assert found.zswap_growth == int(16 * GIB // KIB * 0.2) * KIB - GIB


def test_zswap_that_is_off_takes_nothing(tmp_path: Path) -> None:
    assert swap(tmp_path, **zswap(enabled="N")) == Swap()


@pytest.mark.parametrize("percent", ["", "many", "-5"])
def test_a_senseless_limit_of_zswap_is_no_more_than_its_pool(tmp_path: Path, percent: str) -> None:
    assert swap(tmp_path, **zswap(enabled="Y", percent=percent)).zswap_growth == 0


def test_huge_pages_that_are_free_and_not_promised_are_counted_in_bytes(tmp_path: Path) -> None:
    meminfo = "MemTotal: 9000000 kB\nMemAvailable: 5 kB\nHugePages_Total: 512\nHugePages_Free: 300\n"
    meminfo += "HugePages_Rsvd: 44\nHugepagesize:    2048 kB\n"
    figures, _ = read_host(Root(plant(tmp_path, kernel() | {"/proc/meminfo": meminfo})))
    assert figures is not None
    assert figures.huge_free == 256 * 2 * MIB


def test_a_host_without_huge_pages_has_none_free(tmp_path: Path) -> None:
    figures, _ = read_host(Root(plant(tmp_path, kernel())))
    assert figures is not None
    assert figures.huge_free == 0
