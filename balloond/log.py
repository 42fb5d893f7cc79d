"""How does a line reach the journal?

One event is one line: `LEVEL message key=value …` on standard error, with the `<N>` prefixes of sd-daemon(3)
when standard error is the journal. Names come from outside and may hold anything: every value is escaped, so
that nobody can write a second line or move a terminal's cursor. A log that can't be written must never stop
the daemon, so errors of writing are swallowed here.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
from collections.abc import Mapping
from typing import Final

STANDARD_ERROR: Final = 2
_PLAIN: Final = re.compile(r'[^\s"=]+')


class Level(enum.IntEnum):
    """The severities of syslog(3) that are used here; a smaller number is worse."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


class Log:
    """Writes lines of `threshold` and worse to a file descriptor, each in one write so that none is torn."""

    def __init__(
        self, *, threshold: Level = Level.INFO, descriptor: int = STANDARD_ERROR, prefixed: bool = False
    ) -> None:
        self._threshold = threshold
        self._descriptor = descriptor
        self._prefixed = prefixed

    def error(self, message: str, **fields: object) -> None:
        self.write(Level.ERROR, message, **fields)

    def warning(self, message: str, **fields: object) -> None:
        self.write(Level.WARNING, message, **fields)

    def info(self, message: str, **fields: object) -> None:
        self.write(Level.INFO, message, **fields)

    def debug(self, message: str, **fields: object) -> None:
        self.write(Level.DEBUG, message, **fields)

    def write(self, level: Level, message: str, **fields: object) -> None:
        if level > self._threshold:
            return
        prefix = f"<{level.value}>" if self._prefixed else ""
        pairs = "".join(f" {key}={_value(value)}" for key, value in fields.items() if value is not None)
        line = f"{prefix}{level.name} {printable(message)}{pairs}\n"
        with contextlib.suppress(OSError):  # a full disk or a closed pipe: guests still need their memory
            os.write(self._descriptor, line.encode())


def to_standard_error(environment: Mapping[str, str], *, threshold: Level = Level.INFO) -> Log:
    """The daemon's log. Prefixes are for the journal alone: $JOURNAL_STREAM names its device and inode, and
    is inherited by processes whose standard error has long been something else (systemd.exec(5))."""
    try:
        stderr = os.fstat(STANDARD_ERROR)
        to_journal = environment.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"
    except OSError:
        to_journal = False
    return Log(threshold=threshold, prefixed=to_journal)


def printable(text: str) -> str:
    """`text` with everything that is not printable, and the backslash, written as an escape: control
    characters, line ends, lone surrogates, and the marks that turn the direction of writing."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        character
        if character.isprintable() and character != "\\"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def _value(value: object) -> str:
    text = printable(f"{value:.3f}" if isinstance(value, float) else str(value))
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', '\\"') + '"'
