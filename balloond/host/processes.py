"""What do the guests' QEMU processes occupy, and in which cgroup does each live?

A process is known by an open descriptor of its /proc/PID/status, kept from tick to tick: once the process has
ended, reading it fails, whoever may have been given its number since. That is a surer proof of identity than
a start time, and reading is cheaper than opening. What was learned of a process is forgotten with it. This
module must never report a figure of a process that is not the one that it was told of.

/proc/PID/status is fresher than libvirt's `rss`, and alone names what lies in swap. VmRSS leaves hugetlb
pages out: guests that use them are left alone anyway.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from balloond.host.cgroup import Place, place_in
from balloond.host.files import Root, number_after
from balloond.units import KIB, MIB

PROGRAM_MOST: Final = 64 * MIB
"""File pages beyond this are no program's: memory backed by a file counts among them too. QEMU 7.2 and its
libraries were seen with 25 to 30 MiB resident, nearly all of it shared between guests."""

_STATUS_SIZE: Final = 16 * KIB
"""More than /proc/PID/status ever is: 1.5 KiB, and a few more where it lists thousands of CPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A guest's QEMU process; memory in bytes."""

    rss: int
    swapped: int
    program: int  # of rss: file pages of its program
    place: Place | None  # None: in no cgroup that can be seen from here


@dataclass(slots=True)
class _Known:
    pid: int
    status: int | None  # the open descriptor of /proc/PID/status; None: the process ended
    place: Place | None = None


class Processes:
    """The guests' processes, remembered between ticks."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._known: dict[str, _Known] = {}

    def read(self, pids: Mapping[str, int]) -> dict[str, Process]:
        """Each guest's process by the guest's UUID; those that ended, or can't be read, are left out."""
        for uuid in self._known.keys() - pids.keys():
            self._forget(uuid)
        found = ((uuid, self._read_one(uuid, pid)) for uuid, pid in pids.items())
        return {uuid: process for uuid, process in found if process is not None}

    def close(self) -> None:
        for uuid in tuple(self._known):
            self._forget(uuid)

    def _read_one(self, uuid: str, pid: int) -> Process | None:
        known = self._known.get(uuid)
        if known is None or known.pid != pid:
            self._forget(uuid)
            known = self._known[uuid] = _Known(pid=pid, status=self._open(pid))
        if known.status is None:
            return None  # whoever has the number by now is not the guest
        try:
            text = os.pread(known.status, _STATUS_SIZE, 0).decode(errors="surrogateescape")
        except OSError:  # ESRCH: it ended
            os.close(known.status)
            known.status = None
            return None
        return self._process(known, text)

    def _process(self, known: _Known, status: str) -> Process | None:
        if known.place is None or not known.place.own:  # libvirt may still be on the way to moving it there
            known.place = place_in(self._root.text(f"/proc/{known.pid}/cgroup"))
        rss, swapped = number_after("VmRSS:", status), number_after("VmSwap:", status)
        if rss is None:
            return None  # a zombie has no memory any more
        program = min(rss, number_after("RssFile:", status) or 0) * KIB
        return Process(
            rss=rss * KIB,
            swapped=(swapped or 0) * KIB,
            program=min(program, PROGRAM_MOST),
            place=known.place,
        )

    def _open(self, pid: int) -> int | None:
        try:
            return os.open(self._root.real(f"/proc/{pid}/status"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def _forget(self, uuid: str) -> None:
        known = self._known.pop(uuid, None)
        if known is not None and known.status is not None:
            os.close(known.status)
