"""Is a note there, whole and of this boot, or is it none?"""

from __future__ import annotations

from pathlib import Path

import pytest

from balloond.host import notes


def test_a_note_is_kept_until_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "state" / "limits.json"
    notes.keep(path, {"a": 1})
    notes.tidy(path)
    assert notes.kept(path) == {"a": 1}
    notes.drop(path)
    assert notes.kept(path) is None
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "7", "[]", "{}", "\x00"])
def test_a_broken_file_is_no_note(tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_text(text)
    notes.tidy(tmp_path / "note")
    assert notes.kept(tmp_path / "note") is None


def test_a_note_of_another_boot_is_none_and_goes_when_its_place_is_tidied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "note"
    notes.keep(path, {"a": 1})
    monkeypatch.setattr(notes, "BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("0e5c4c2c-0000-4000-8000-000000000001\n")
    assert notes.kept(path) is None
    assert path.exists()  # it may be looked at while its writer lives
    notes.tidy(path)
    assert not path.exists()


@pytest.mark.parametrize("known", ["never", "then", "now"])
def test_where_boots_can_not_be_told_apart_a_note_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    (tmp_path / known).write_text("0e5c4c2c-0000-4000-8000-000000000001\n")
    path = tmp_path / "note"
    monkeypatch.setattr(notes, "BOOT_ID", tmp_path / "then")
    notes.keep(path, {"a": 1})
    monkeypatch.setattr(notes, "BOOT_ID", tmp_path / "now")
    notes.tidy(path)
    assert notes.kept(path) == {"a": 1}


def test_what_a_killed_writer_left_goes_when_its_place_is_tidied_and_not_when_it_is_looked_at(
    tmp_path: Path,
) -> None:
    path, left = tmp_path / "note", tmp_path / ".note.new"
    left.write_text("{")
    assert notes.kept(path) is None
    assert left.exists()
    notes.tidy(path)
    assert not left.exists()
