"""What must be put back is on disk, whole, and gone when it has been put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from balloond.host import notes
from balloond.host.periods import NAME, Note, Periods

NOTE = Note(was=0, put=2)


def test_notes_outlive_the_daemon(tmp_path: Path) -> None:
    Periods(tmp_path / "state").note({"a": NOTE})
    assert Periods(tmp_path / "state").notes == {"a": NOTE}


def test_the_last_note_dropped_leaves_no_file(tmp_path: Path) -> None:
    periods = Periods(tmp_path)
    periods.note({"a": NOTE, "b": NOTE})
    periods.drop({"a", "unknown"})
    assert Periods(tmp_path).notes == {"b": NOTE}
    periods.drop({"b"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("note", [None, [], 7, {"a": 0}, {"a": {"was": 0}}, {"a": {"was": "x", "put": 1}}])
def test_broken_notes_are_none(tmp_path: Path, note: object) -> None:
    notes.keep(tmp_path / NAME, note)
    assert Periods(tmp_path).notes == {}


def test_a_failed_write_keeps_what_was_there_and_is_told(tmp_path: Path) -> None:
    periods = Periods(tmp_path)
    periods.note({"a": NOTE})
    (tmp_path / f".{NAME}.new").mkdir()  # nobody, root neither, can write a file there
    with pytest.raises(OSError, match="directory"):
        periods.note({"b": NOTE})
    assert periods.notes == Periods(tmp_path).notes == {"a": NOTE}
