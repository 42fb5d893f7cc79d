"""In whose memory are the merged pages, and which of them still are in anybody's?

The kernel has one sum for all processes, the guests' and everybody else's. It goes on counting a process that has
ended until ksmd comes by, which it never does once it is stopped (mm/ksm.c, __ksm_exit; 166 MiB were seen for
guests long gone, Linux 6.18). This module must never take off the sum what a living process can call back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from balloond.host.files import Root, number_in
from balloond.host.kernel import KSM
from balloond.model import Ksm
from balloond.units import PAGE

EVERYWHERE_S: Final = 60.0
"""How often all processes are asked, 8 us each. While ksmd is stopped nothing is merged, so that an old answer is
too large at most."""


class Merged:
    """Remembers what all processes together have merged while ksmd is stopped."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._everywhere: int | None = None
        self._due_s = float("-inf")

    def told_apart(self, ksm: Ksm | None, pids: Iterable[int], now_s: float) -> Ksm | None:
        """`ksm` with what of it is merged in these processes, all the guests'; with ksmd stopped, also without
        what is in no process any more. A kernel before 5.19 does not tell; then its sum is all there is."""
        if ksm is None or ksm.run != 0:
            self._due_s = float("-inf")
        if ksm is None or not ksm.saved:
            return ksm
        zero = self._root.number(f"{KSM}/ksm_zero_pages") or 0  # these the kernel takes off at once
        guests = [self._root.number(f"/proc/{pid}/ksm_merging_pages") for pid in pids]
        known = [pages for pages in guests if pages is not None]
        if len(known) < len(guests):
            return ksm
        in_guests = (sum(known) + zero) * PAGE
        if ksm.run == 0 and in_guests < ksm.saved:
            if now_s >= self._due_s:
                self._everywhere, self._due_s = _everywhere(self._root), now_s + EVERYWHERE_S
            if self._everywhere is not None:
                ksm = replace(ksm, saved=min(ksm.saved, self._everywhere + zero * PAGE))
        return replace(ksm, in_guests=min(ksm.saved, in_guests))


def _everywhere(root: Root) -> int | None:
    """Merged in all processes, in bytes; None when one that lives does not tell. A kernel's thread has nothing
    to tell, and says so with an empty file."""
    try:
        names = os.listdir(root.real("/proc"))  # noqa: PTH208  (names alone are wanted)
    except OSError:
        return None
    pages = 0
    for pid in filter(str.isdecimal, names):
        text = root.text(f"/proc/{pid}/ksm_merging_pages")
        if text is None and root.has(f"/proc/{pid}"):
            return None
        pages += number_in(text) or 0
    return pages * PAGE
