"""What can the kernel do with one guest's memory, without its help and without killing it?

Two things, both through the files of the guest's own cgroup. *Reclaim*: the kernel pushes out what was used
least lately, to swap. *Limit softly*: above a size the kernel slows the guest down and takes from it first.

Each write that makes the kernel work is done by a process of its own under timeout(1), which ends it even if
nobody is left to do so: the kernel stops reclaiming when its caller is killed. So no turn of the loop waits for
it, and it is bounded in time; in size too, since a watcher ends it when enough has gone. v2 has memory.reclaim
(5.19). v1 has nothing of the kind; memory.force_empty works 32 pages at a time until it is interrupted or
nothing is left, so interrupting it makes a bounded reclaim of it. It sets no limit at any instant. (MADV_PAGEOUT
by process_madvise(2) was tried: it takes hot pages as well as cold ones, and leaves them charged to the cgroup.)

A soft limit that was there is on disk before another is set, and is put back. This module must never write
memory.max, memory.limit_in_bytes, or any other limit at which the kernel kills.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from balloond.host import notes as on_disk
from balloond.host.cgroup import SOFT_LIMIT_V1, SOFT_LIMIT_V2, TREE, Place, guest_directory
from balloond.host.files import Root, number_after, number_in
from balloond.model import LimitSoftly, Reclaim, Result
from balloond.units import format_size

NAME: Final = "limits.json"

WRITE_MOST_S: Final = 0.5
"""For waiting until a limit is set or put back, the start of a process on a busy host included."""

PUT_BACK_MOST_S: Final = 2.0
"""For putting back all limits. It takes microseconds each, but where the kernel has to reclaim down to one."""

END_MOST_S: Final = 0.2
"""For the end of reclaims: the kernel looks for signals all the time."""

RECLAIM_MOST_S: Final = 1.0
"""For one reclaim. A turn asks for what a slow disk takes in a second or two; the next turn asks again."""

LIMIT_MOST_S: Final = 0.2
"""For setting a soft limit. v2 sets it at once, and then reclaims down to it in the writer's time: that is cut
off here, the guest itself goes on with it."""

KERNEL_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
"""Limits are whole ones of these: what is not the kernel rounds, and it would be taken for somebody else's."""

LOOK_S: Final = 0.005
"""Between two looks at how far it got: at 4 GB/s, faster than any swap, 20 MB too much go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A soft limit that was set, as the kernel's file spells it."""

    file: str
    was: str
    puts: tuple[
        str, ...
    ]  # any of these may stand there: also what is being replaced, until the new one is seen


class Relief:
    """The guests' cgroups as something to be acted upon. `state_directory` holds the notes."""

    def __init__(self, root: Root, state_directory: Path) -> None:
        self._root = root
        self._path = state_directory / NAME
        self._notes = _read(self._path)
        self._owed: list[str] = []  # that could not be put back, and that nobody decides upon any more
        self._running: dict[str, _Reclaiming] = {}
        self._writing: dict[str, subprocess.Popen[bytes]] = {}  # limits that were waited for too long

    @property
    def notes(self) -> Mapping[str, Note]:
        """The soft limits in force, by the guest's UUID."""
        return self._notes

    def reclaim(self, measure: Reclaim, place: Place | None) -> tuple[Result, str]:
        """Begins; what it brought is told by the next one."""
        before = self._running.get(measure.uuid)
        if before is not None and before.is_alive():
            return Result.BUSY, "the last reclaim is still under way"
        if place is None or place.own is None:
            return Result.REFUSED, "it has no cgroup of its own"
        directory = guest_directory(self._root, place)
        if directory is None:
            return Result.GONE, "its cgroup is gone"
        file, text = ("memory.force_empty", "0") if place.v1 else ("memory.reclaim", str(measure.size))
        if not self._root.has(f"{directory}/{file}"):
            return Result.REFUSED, f"this kernel has no {file}"
        self._running = {
            uuid: one
            for uuid, one in self._running.items()
            if one.is_alive() or self._root.has(one.directory)
        }
        try:
            self._running[measure.uuid] = _Reclaiming(
                self._root, directory, file, text, size=measure.size, v1=place.v1
            )
        except OSError as failed:
            return Result.REFUSED, f"timeout(1) can't be run: {failed.strerror}"
        except RuntimeError as failed:
            return Result.REFUSED, f"it can't be watched: {failed}"
        return Result.DONE, f"the one before brought {format_size(before.brought)}" if before else ""

    def limit(self, measure: LimitSoftly, place: Place | None) -> tuple[Result, str]:
        """Sets a soft limit, or puts back the one that was there."""
        if measure.limit is None:
            return self._lift(measure.uuid)
        if place is None or place.own is None:
            return Result.REFUSED, "it has no cgroup of its own"
        directory = guest_directory(self._root, place)
        if directory is None:
            return Result.GONE, "its cgroup is gone"
        file = f"{directory}/{SOFT_LIMIT_V1 if place.v1 else SOFT_LIMIT_V2}"
        if not self._ended(measure.uuid):
            return Result.TIMED_OUT, f"{file}: the kernel still works on what was written before"
        found = self._root.text(file)
        if found is None:
            return Result.REFUSED, f"{file} can't be read"
        known = self._notes.get(measure.uuid)
        stands = found.strip()
        ours = known is not None and known.file == file and stands in known.puts
        was = known.was if known is not None and ours else stands
        if (tighter := number_in(was)) is not None and tighter <= measure.limit:
            result, detail = self._lift(measure.uuid)  # nothing, but where ours became the wider one
            return result, detail or f"a tighter one stands: {format_size(tighter)}"
        put = str(measure.limit // KERNEL_PAGE * KERNEL_PAGE)
        note = Note(file=file, was=was, puts=(stands, put) if ours and stands != put else (put,))
        try:
            self._note({**self._notes, measure.uuid: note})
            self._owed = [uuid for uuid in self._owed if uuid != measure.uuid]
            result, detail = self._set(measure.uuid, file, put)
        except OSError as failed:
            return Result.REFUSED, str(failed)
        if result is Result.DONE and note.puts != (put,):
            with contextlib.suppress(OSError):  # the other one merely stays noted
                self._note({**self._notes, measure.uuid: replace(note, puts=(put,))})
        return result, detail

    def put_back(self) -> tuple[str, ...]:
        """Ends what is under way, and lifts every soft limit that we, or a daemon before us, set. Says what can't
        be put back now; it stays noted, for `put_back_owed` and for the next daemon."""
        for reclaiming in self._running.values():
            reclaiming.end()
        ends_s = time.monotonic() + PUT_BACK_MOST_S
        came = [
            self._lift(uuid) if time.monotonic() < ends_s else (Result.BUSY, f"{note.file}: no time was left")
            for uuid, note in tuple(self._notes.items())
        ]
        ends_s = time.monotonic() + END_MOST_S
        for reclaiming in self._running.values():
            reclaiming.join(max(0.0, ends_s - time.monotonic()))
        self._running.clear()
        self._owed = list(self._notes)
        return tuple(detail for result, detail in came if result is not Result.DONE)

    def put_back_owed(self) -> None:
        """Tries once more for one of those that could not be put back, each in its turn: one may hang again."""
        self._owed = [uuid for uuid in self._owed if uuid in self._notes]
        if self._owed:
            self._owed.append(self._owed.pop(0))
            self._lift(self._owed[-1])

    def _set(self, uuid: str, file: str, text: str) -> tuple[Result, str]:
        """Raises OSError when no process can be started."""
        self._writing[uuid] = _write(self._root.real(file), text, LIMIT_MOST_S)
        if not self._written(uuid):
            return Result.TIMED_OUT, f"{file}: the kernel still works on it"
        found = (self._root.text(file) or "").strip()
        return (Result.DONE, "") if found == text else (Result.REFUSED, f"{file} stays at {found}")

    def _written(self, uuid: str) -> bool:
        """Whether nothing is being written for that guest any more, after a moment."""
        writing = self._writing.get(uuid)
        try:
            if writing is not None:
                writing.wait(WRITE_MOST_S)
        except subprocess.TimeoutExpired:
            return False
        self._writing.pop(uuid, None)
        return True

    def _lift(self, uuid: str) -> tuple[Result, str]:
        note = self._notes.get(uuid)
        if note is None:
            return Result.DONE, ""
        if not self._ended(uuid):
            return Result.TIMED_OUT, f"{note.file}: the kernel still works on what was written before"
        found = self._root.text(note.file)
        try:
            if found is not None and found.strip() in note.puts:  # else somebody else's, or the guest is gone
                if note.was.isdecimal() and note.file.endswith(SOFT_LIMIT_V2):
                    # The kernel reclaims down to it.
                    result, detail = self._set(uuid, note.file, note.was)
                    if result is not Result.DONE:
                        return result, detail
                else:
                    Path(self._root.real(note.file)).write_text(note.was)
            self._note({other: kept for other, kept in self._notes.items() if other != uuid})
        except OSError as failed:
            return Result.REFUSED, str(failed)
        return Result.DONE, ""

    def _ended(self, uuid: str) -> bool:
        """Whether no write from before is under way for that guest; one that is, is ended."""
        if uuid in self._writing:
            self._writing[uuid].terminate()
        return self._written(uuid)

    def _note(self, notes: dict[str, Note]) -> None:
        if notes:
            on_disk.keep(self._path, {uuid: asdict(note) for uuid, note in notes.items()})
        else:
            on_disk.drop(self._path)
        self._notes = notes


class _Reclaiming:
    """One reclaim under way, and the thread that watches it. Raises OSError when no process can be started, and
    RuntimeError when no thread can."""

    def __init__(self, root: Root, directory: str, file: str, text: str, *, size: int, v1: bool) -> None:
        self.directory = directory
        self.brought = 0
        self._root = root
        self._v1 = v1
        self._size = size
        self._before = self._figures()
        self._process = _write(root.real(f"{directory}/{file}"), text, RECLAIM_MOST_S)
        self._thread = threading.Thread(target=self._watch, name="reclaim", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._process.terminate()
            raise

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        self._process.terminate()

    def join(self, most_s: float) -> None:
        self._thread.join(most_s)

    def _watch(self) -> None:
        while self._process.poll() is None and self._went() < self._size:
            time.sleep(LOOK_S)
        self._process.terminate()
        self._process.wait()
        self.brought = max(0, self._went())

    def _went(self) -> int:
        """What went since. What it uses falls by less where the guest takes memory meanwhile. v2 bounds what goes
        by itself; v1 does not, so there the pages that were let go of count too, whoever did that: too little is
        made up for by the next turn. A huge page counts as one."""
        used, gone = self._figures()
        return max(self._before[0] - used, gone - self._before[1])

    def _figures(self) -> tuple[int, int]:
        """What it uses, and what it ever let go of where that is to be counted; bytes."""
        usage = "memory.usage_in_bytes" if self._v1 else "memory.current"
        stat = self._root.text(f"{self.directory}/memory.stat") if self._v1 else None
        pages = number_after("total_pgpgout ", stat) or 0
        return self._root.number(f"{self.directory}/{usage}") or 0, pages * KERNEL_PAGE


def _write(path: str, text: str, most_s: float) -> subprocess.Popen[bytes]:
    """A process that writes `text` into a file of the kernel's, and is killed after `most_s`."""
    return subprocess.Popen(
        ["timeout", "--signal=KILL", f"{most_s}", "sh", "-c", 'printf %s "$1" >"$0"', path, text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _read(path: Path) -> dict[str, Note]:
    try:
        notes = {
            str(uuid): Note(
                file=str(note["file"]), was=str(note["was"]), puts=tuple(str(put) for put in note["puts"])
            )
            for uuid, note in on_disk.kept(path).items()
        }
    except (AttributeError, TypeError, KeyError):
        return {}  # none, or a broken one: then nothing is known that could be put back
    return notes if all(_is_soft_limit(note.file) for note in notes.values()) else {}


def _is_soft_limit(file: str) -> bool:
    return file.startswith(f"{TREE}/") and file.endswith((f"/{SOFT_LIMIT_V1}", f"/{SOFT_LIMIT_V2}"))
