"""What kind of swap does the host have?

Swap counts as a place for guests' memory only where it is none of memory itself. A zram device keeps what is
swapped to it, compressed, in the very memory that is short; pages that don't compress take all of it. It is
told by its name, which the kernel gives and nobody can change. zswap stands before a disk: each page that it
takes has its slot on the disk and goes there in the end, so that swap still counts; but its pool lives in
memory up to a limit, and as far as it may yet grow that memory is nobody else's.

A swap file counts as disk, whatever it lies on: a file on a zram device with a file system is not looked for. This
module must never write, and never count as disk what it can't read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from balloond.host.files import Root, number_after
from balloond.units import KIB

SWAPS: Final = "/proc/swaps"
ZSWAP: Final = "/sys/module/zswap/parameters"

_ZRAM: Final = re.compile(r".*/zram\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Of the host's swap; bytes."""

    zram_total: int = 0
    zram_free: int = 0
    zswap: bool = False  # whether it is on
    zswap_growth: int = 0  # what its pool may yet take of memory


def read_swap(root: Root, meminfo: str | None) -> Swap:
    """The kinds of swap now; `meminfo` is the text of /proc/meminfo."""
    areas = [area for line in (root.text(SWAPS) or "").splitlines()[1:] if (area := _area(line)) is not None]
    zrams = [(size, used) for is_zram, size, used in areas if is_zram]
    zswap = (root.text(f"{ZSWAP}/enabled") or "").strip() in ("Y", "1")
    return Swap(
        zram_total=sum(size for size, _ in zrams) * KIB,
        zram_free=sum(size - used for size, used in zrams) * KIB,
        zswap=zswap,
        zswap_growth=_zswap_growth(root, meminfo) if zswap else 0,
    )


def _area(line: str) -> tuple[bool, int, int] | None:
    """Whether a line of /proc/swaps is of a zram device, its size and use (KiB). Blanks in a name are escaped."""
    match line.split():
        case [name, kind, size, used, _priority] if size.isdecimal() and used.isdecimal():
            is_zram = kind == "partition" and _ZRAM.fullmatch(name) is not None
            return is_zram, int(size), min(int(used), int(size))
        case _:
            return None


def _zswap_growth(root: Root, meminfo: str | None) -> int:
    share = min(root.number(f"{ZSWAP}/max_pool_percent") or 0, 100) / 100
    most = int((number_after("MemTotal:", meminfo) or 0) * share)
    return max(0, most - (number_after("Zswap:", meminfo) or 0)) * KIB  # in meminfo since 5.19
