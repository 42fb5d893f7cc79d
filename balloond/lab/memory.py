"""What lies in a process's memory, a guest's QEMU above all? Its pages are read, none is brought into being.

Reading a page through /proc/PID/mem would bring it into being, or back from swap; so /proc/PID/pagemap is asked
first (kernel: Documentation/admin-guide/mm/pagemap.rst), and only present pages are looked into.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from balloond.lab.faults import LabError
from balloond.units import MIB, PAGE

_ENTRY: Final = 8  # bytes a page in pagemap
_PRESENT: Final = 1 << 63
_FRAME: Final = (1 << 55) - 1
_CHUNK: Final = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """The pages that hold something."""

    pages: int
    frames: frozenset[int]  # the host's own page frames that they lie in; equal pages may share one


def holding(pid: int, size: int, marker: bytes) -> Holding:
    """The present pages of a process's one mapping of `size` bytes that hold `marker`; all, where it is empty.

    QEMU's mapping of a guest's memory is as large as the guest. Frames are 0 unless root asks.
    """
    pages, frames = 0, set()
    start = _mapping(pid, size)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for run_start, run_frames in _present(pid, start, size):
            memory.seek(run_start)
            content = memory.read(len(run_frames) * PAGE)
            for number, frame in enumerate(run_frames):
                if marker in content[number * PAGE : (number + 1) * PAGE]:
                    pages += 1
                    frames.add(frame)
    return Holding(pages=pages, frames=frozenset(frames))


def beginning(pid: int, size: int, words: Container[bytes]) -> tuple[int, ...]:
    """Which present pages of such a mapping begin with one of these words of 8 bytes; counted from its start."""
    found: list[int] = []
    start = _mapping(pid, size)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for run_start, run_frames in _present(pid, start, size):
            memory.seek(run_start)
            content = memory.read(len(run_frames) * PAGE)
            first = (run_start - start) // PAGE
            found += (
                first + number
                for number in range(len(run_frames))
                if content[number * PAGE : number * PAGE + 8] in words
            )
    return tuple(found)


def frames(pid: int, size: int, pages: Iterable[int]) -> tuple[int, ...]:
    """The host's frames that those of such a mapping's pages lie in; the present ones alone."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(_mapping(pid, size) // PAGE * _ENTRY)
        entries = array("Q", pagemap.read(size // PAGE * _ENTRY))
    return tuple(entries[page] & _FRAME for page in pages if entries[page] & _PRESENT)


def _mapping(pid: int, size: int) -> int:
    """Where the mapping of exactly that size begins."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if last - first == size:
            return first
    raise LabError(f"process {pid} has no mapping of {size} bytes")


def _present(pid: int, start: int, size: int) -> Iterator[tuple[int, list[int]]]:
    """Runs of present pages: where each begins, and the frames of its pages."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        for base in range(start, start + size, _CHUNK):
            pagemap.seek(base // PAGE * _ENTRY)
            entries = array("Q", pagemap.read(min(_CHUNK, start + size - base) // PAGE * _ENTRY))
            run: list[int] = []
            for number, entry in enumerate(entries):
                if entry & _PRESENT:
                    run.append(entry & _FRAME)
                elif run:
                    yield base + (number - len(run)) * PAGE, run
                    run = []
            if run:
                yield base + (len(entries) - len(run)) * PAGE, run
