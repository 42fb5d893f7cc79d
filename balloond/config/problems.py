"""What is wrong with the configuration, and where?

One Problem is one line that a person can act on. A ConfigError carries all of them at once: nobody should
have to start the daemon six times to find six mistakes. Nothing here decides what is wrong; `read` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LONGEST_QUOTE: Final = (
    60  # characters of the operator's own text in a message: enough to find it in the file
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault. `text` reads 'what is wrong; what would be right'."""

    file: str
    line: int  # from 1; 1 too where the fault is the file itself
    path: str  # such as `guests[0].minimum`; `(file)` where the fault is the file itself
    text: str

    def __str__(self) -> str:
        return f"{escape(self.file)}:{self.line}: {escape(self.path)}: {self.text}"


class ConfigError(Exception):
    """The configuration can't be used. `problems` is never empty, and in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def quote(text: str) -> str:
    """Somebody else's text in quotes, shortened, on one line and without anything that moves a cursor."""
    return repr(text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…")


def escape(text: str) -> str:
    """Somebody else's text without quotes, whole, on one line and without anything that moves a cursor."""
    return text if text.isprintable() else repr(text)[1:-1]
