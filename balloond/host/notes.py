"""What was promised to be put back, on disk before it is changed.

A note is whole or not there, whenever the daemon is killed; it is JSON, and names the boot that it is of. What was
set in another one went with its kernel and its guests, so a note of another boot is none.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def keep(path: Path, note: object) -> None:
    """Replaces the note; returns when it is on disk. Raises OSError when it can't be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh(path)
    with fresh.open("w") as file:
        json.dump({"boot": _boot(), "note": note}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def kept(path: Path) -> Any:  # Any: the caller checks what it finds there
    """The note; None where there is none, a broken one, or one of another boot."""
    whole = _whole(path)
    return whole.get("note") if whole is not None and not _of_another_boot(whole) else None


def tidy(path: Path) -> None:
    """Removes what a killed writer left of a note, and a note of another boot. For the only one who writes it from
    now on: it may be that one's, and under way."""
    with contextlib.suppress(OSError):  # then they stay, and are no notes
        _fresh(path).unlink(missing_ok=True)
        whole = _whole(path)
        if whole is not None and _of_another_boot(whole):
            path.unlink()


def drop(path: Path) -> None:
    """Removes the note, and what a killed writer left of one. Raises OSError when it can't."""
    path.unlink(missing_ok=True)
    _fresh(path).unlink(missing_ok=True)


def _whole(path: Path) -> dict[str, Any] | None:
    try:
        whole = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return whole if isinstance(whole, dict) else None


def _of_another_boot(whole: dict[str, Any]) -> bool:
    """Surely: where either boot is not known the note is followed, to be safe."""
    of, now = whole.get("boot"), _boot()
    return bool(of) and bool(now) and of != now


def _boot() -> str:
    """Empty where it can't be told."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _fresh(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
