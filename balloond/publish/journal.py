"""How is a tick written down, so that it can be read, compared and replayed?

One line of JSON a tick, made from the tick alone: the same tick gives the same bytes, which is how the
simulator shows that the same seed gives the same run. What the core carries for itself from tick to tick
(`memory`) is left out: it follows from the snapshots, in order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from balloond.model import Snapshot, Tick
from balloond.units import MIB

LIMIT: Final = 64 * MIB
"""Bytes in one file; there are two, so some hours of twenty guests at a tick each 2 s."""


def to_json(sealed: Tick | Snapshot) -> str:
    """One line without its end. Sizes in bytes; the fields are the model's, in its order."""
    return json.dumps(_plain(sealed), separators=(",", ":"), allow_nan=False)


class Journal:
    """A publisher that appends each tick to a file; a full one becomes `NAME.1`, replacing the one before.

    A file that can't be written must not stop the daemon: `complain` is told once, and the journal tries
    again at each tick.
    """

    def __init__(self, path: Path, complain: Callable[[str], None], *, limit: int = LIMIT) -> None:
        self._path = path
        self._complain = complain
        self._limit = limit
        self._complained = False

    def publish(self, tick: Tick) -> None:
        line = to_json(tick).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            if not self._complained:
                self._complain(f"{self._path}: {error.strerror}; ticks are not being recorded")
            self._complained = True
        else:
            self._complained = False

    def _append(self, line: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size + len(line) > self._limit:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        flags |= os.O_NONBLOCK  # a pipe that nobody reads is an error, not a wait
        descriptor = os.open(self._path, flags, 0o640)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _plain(value: Any) -> Any:  # Any: a walk over whatever the model's dataclasses hold
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        shown = (field.name for field in dataclasses.fields(value) if field.repr)  # `memory` is not
        return {name: _plain(getattr(value, name)) for name in shown}
    return value
