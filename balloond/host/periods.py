"""Which guests' statistics periods did we set, and what were they before?

A period must be put back even if the daemon was killed, so what it was is on disk before libvirt is told of
another. An operator's own period is never noted here, and never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from balloond.host import notes as on_disk

NAME: Final = "periods.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Seconds; 0 is off."""

    was: int
    put: int


class Periods:
    """The notes, as they are on disk. Raises OSError when they can't be written; a broken file counts as empty."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._notes = _read(self._path)

    @property
    def notes(self) -> Mapping[str, Note]:
        """By UUID."""
        return self._notes

    def note(self, notes: Mapping[str, Note]) -> None:
        """Adds or replaces notes by UUID; returns when they are on disk."""
        self._write({**self._notes, **notes})

    def drop(self, uuids: set[str]) -> None:
        if uuids & self._notes.keys():
            self._write({uuid: note for uuid, note in self._notes.items() if uuid not in uuids})

    def _write(self, notes: dict[str, Note]) -> None:
        if notes == self._notes:
            return
        if notes:
            on_disk.keep(
                self._path, {uuid: {"was": note.was, "put": note.put} for uuid, note in notes.items()}
            )
        else:
            on_disk.drop(self._path)
        self._notes = notes


def _read(path: Path) -> dict[str, Note]:
    try:
        found = on_disk.kept(path)
        return {str(uuid): Note(was=int(note["was"]), put=int(note["put"])) for uuid, note in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}  # without notes nothing is put back, which harms nobody: statistics are merely kept on
