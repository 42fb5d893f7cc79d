"""What does this file of the kernel's say?

Every path of /proc and /sys is read through a `Root`, so that a tree of files can stand in for a whole host.
A file that is absent or refuses is data (None), never an exception. Nothing is written here, ever.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CHUNK: Final = 65536
"""Asked for in one read. The kernel hands out /proc/vmstat a page at a time all the same (seq_file), so
`text` reads on until the end."""

_NUMBER_LENGTH: Final = 32  # room for any 64-bit number and the blanks that pad it


@dataclass(frozen=True, slots=True)
class Root:
    """The directory that holds `proc` and `sys`: `/`, or a tree of files that stands in for a host."""

    path: Path = Path("/")

    def text(self, path: str) -> str | None:
        """The file's text; None when it is absent, its process or cgroup is gone, or the kernel refuses.

        `path` is absolute, as on the real host. Without PSI (`psi=0`) reading pressure gives EOPNOTSUPP, a
        removed cgroup ENODEV, a process that ended ESRCH: all of them mean that there is nothing to be had.
        """
        try:
            descriptor = os.open(self.real(path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return _all_of(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def number(self, path: str) -> int | None:
        """The file's one number; None when there is none, or a word such as `max` in its place."""
        return number_in(self.text(path))

    def has(self, path: str) -> bool:
        return os.path.exists(self.real(path))  # noqa: PTH110  (half the cost of Path.exists, many times a tick)

    def real(self, path: str) -> str:
        """Where `path` of the host is to be found here."""
        return os.path.join(self.path, path.lstrip("/"))  # noqa: PTH118  (likewise)


def number_in(text: str | None) -> int | None:
    """The number that a text consists of, else None."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def number_after(name: str, text: str | None) -> int | None:
    """The number in the line that begins with `name`; None when there is no such line, or no number in it.

    `name` ends as it is printed there, with a colon or a blank. Searching takes a third of the time of
    splitting the text into lines, and a tick does this several hundred times.
    """
    lines = "\n" + (text or "")
    start = lines.find("\n" + name)
    if start < 0:
        return None
    after = start + 1 + len(name)
    words = lines[after : after + _NUMBER_LENGTH].split(None, 1)
    return int(words[0]) if words and words[0].isdecimal() else None


def _all_of(descriptor: int) -> str:
    parts = []
    while part := os.read(descriptor, _CHUNK):
        parts.append(part)
    return b"".join(parts).decode(errors="surrogateescape")
