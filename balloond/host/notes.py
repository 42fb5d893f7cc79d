"""How is something kept on disk so that it outlives a crash?

What must be put back is noted before it is changed. A note is a small JSON object in a file of its own,
written whole or not at all, and gone when it is empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def read_notes(path: Path) -> dict[str, object]:
    """What was noted; empty when there is nothing, or nothing that can be understood."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_notes(path: Path, notes: Mapping[str, object]) -> None:
    """Returns when they are on disk. Raises OSError; then what was noted before still stands."""
    if not notes:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w") as file:
        json.dump(notes, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
