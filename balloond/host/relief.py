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

import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from balloond.host.cgroup import SOFT_LIMIT_V1, SOFT_LIMIT_V2, TREE, Place, guest_directory
from balloond.host.files import Root
from balloond.host.notes import keep, kept
from balloond.model import LimitSoftly, Reclaim, Result
from balloond.units import PAGE, format_size

NAME: Final = "limits.json"

RECLAIM_MOST_S: Final = 1.0
"""For one reclaim. A turn asks for what a slow disk takes in a second or two; the next turn asks again."""

LIMIT_MOST_S: Final = 0.2
"""For setting a soft limit. v2 sets it at once, and then reclaims down to it in the writer's time: that is cut
off here, the guest itself goes on with it."""

LOOK_S: Final = 0.005
"""Between two looks at how far it got: at 4 GB/s, faster than any swap, 20 MB too much go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A soft limit that was set, as the kernel's file spells it."""

    file: str
    was: str
    put: str


class Relief:
    """The guests' cgroups as something to be acted upon. `state_directory` holds the notes."""

    def __init__(self, root: Root, state_directory: Path) -> None:
        self._root = root
        self._path = state_directory / NAME
        self._notes = _read(self._path)
        self._running: dict[str, _Reclaiming] = {}

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
        file, text, usage = (
            ("memory.force_empty", "0", "memory.usage_in_bytes")
            if place.v1
            else ("memory.reclaim", str(measure.size), "memory.current")
        )
        if not self._root.has(f"{directory}/{file}"):
            return Result.REFUSED, f"this kernel has no {file}"
        try:
            self._running[measure.uuid] = _Reclaiming(
                self._root, f"{directory}/{file}", text, usage=f"{directory}/{usage}", size=measure.size
            )
        except OSError as failed:
            return Result.REFUSED, f"timeout(1) can't be run: {failed.strerror}"
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
        found = self._root.text(file)
        if found is None:
            return Result.REFUSED, f"{file} can't be read"
        known = self._notes.get(measure.uuid)
        was = known.was if known is not None and known.file == file else found.strip()
        note = Note(file=file, was=was, put=str(measure.limit // PAGE * PAGE))
        try:
            self._note({**self._notes, measure.uuid: note})
            return self._set(note)
        except OSError as failed:
            return Result.REFUSED, str(failed)

    def put_back(self) -> tuple[str, ...]:
        """Ends what is under way, and lifts every soft limit that we, or a daemon before us, set. Says what can't
        be put back now; it stays noted, for the next daemon."""
        for reclaiming in self._running.values():
            reclaiming.end()
        self._running.clear()
        came = [self._lift(uuid) for uuid in tuple(self._notes)]
        return tuple(detail for result, detail in came if result is not Result.DONE)

    def _set(self, note: Note) -> tuple[Result, str]:
        """Raises OSError when no process can be started."""
        writing = _write(self._root.real(note.file), note.put, LIMIT_MOST_S)
        writing.wait()
        found = (self._root.text(note.file) or "").strip()
        return (Result.DONE, "") if found == note.put else (Result.REFUSED, f"{note.file} stays at {found}")

    def _lift(self, uuid: str) -> tuple[Result, str]:
        note = self._notes.get(uuid)
        if note is None:
            return Result.DONE, ""
        found = self._root.text(note.file)
        try:
            if found is not None and found.strip() == note.put:  # else somebody else's, or the guest is gone
                Path(self._root.real(note.file)).write_text(note.was)
            self._note({other: kept for other, kept in self._notes.items() if other != uuid})
        except OSError as failed:
            return Result.REFUSED, str(failed)
        return Result.DONE, ""

    def _note(self, notes: dict[str, Note]) -> None:
        if notes:
            keep(self._path, {uuid: asdict(note) for uuid, note in notes.items()})
        else:
            self._path.unlink(missing_ok=True)
        self._notes = notes


class _Reclaiming:
    """One reclaim under way, and the thread that watches it. Raises OSError when no process can be started."""

    def __init__(self, root: Root, file: str, text: str, *, usage: str, size: int) -> None:
        self._root = root
        self._usage = usage
        self._size = size
        self._before = self._used()
        self._process = _write(root.real(file), text, RECLAIM_MOST_S)
        self._thread = threading.Thread(target=self._watch, name="reclaim", daemon=True)
        self.brought = 0
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        self._process.terminate()
        self._thread.join()

    def _watch(self) -> None:
        while self._process.poll() is None and self._before - self._used() < self._size:
            time.sleep(LOOK_S)
        self._process.terminate()
        self._process.wait()
        self.brought = max(0, self._before - self._used())

    def _used(self) -> int:
        return self._root.number(self._usage) or 0


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
            str(uuid): Note(file=str(note["file"]), was=str(note["was"]), put=str(note["put"]))
            for uuid, note in kept(path).items()
        }
    except (AttributeError, TypeError, KeyError):
        return {}  # none, or a broken one: then nothing is known that could be put back
    return notes if all(_is_soft_limit(note.file) for note in notes.values()) else {}


def _is_soft_limit(file: str) -> bool:
    return file.startswith(f"{TREE}/") and file.endswith((f"/{SOFT_LIMIT_V1}", f"/{SOFT_LIMIT_V2}"))
