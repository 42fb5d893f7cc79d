"""What was promised to be put back, on disk before it is changed.

A note is whole or not there, whenever the daemon is killed; it is JSON, and goes with a reboot (state.directory).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def keep(path: Path, note: object) -> None:
    """Replaces the note; returns when it is on disk. Raises OSError when it can't be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh(path)
    with fresh.open("w") as file:
        json.dump(note, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def kept(path: Path) -> Any:  # Any: the caller checks what it finds there
    """The note; None where there is none, or a broken one."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def drop(path: Path) -> None:
    """Removes the note, and what a killed writer left of one. Raises OSError when it can't."""
    path.unlink(missing_ok=True)
    _fresh(path).unlink(missing_ok=True)


def _fresh(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
