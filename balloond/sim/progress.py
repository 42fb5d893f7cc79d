"""How far is it? A bar on a terminal, a line now and then elsewhere; on stderr, so that the result stays clean."""

from __future__ import annotations

import contextlib
import time
from typing import Final, TextIO

WIDTH: Final = 30  # of the bar, in characters
LINES_EVERY_S: Final = 30.0  # in a log nobody wants one a second


class Progress:
    """Call it with the parts done and all parts, as often as you like. `parts`: what is counted."""

    def __init__(self, out: TextIO, parts: str = "parts") -> None:
        self._out = out
        self._parts = parts
        self._done = -1
        self._bar = out.isatty()
        self._began_s = time.monotonic()
        self._told_s = self._began_s

    def __call__(self, done: int, of: int) -> None:
        """Raises nothing: that nobody can be told how far it is does not end the work."""
        if done != self._done:
            with contextlib.suppress(OSError, ValueError):  # a full disk, a closed file
                self._tell(done, of)

    def _tell(self, done: int, of: int) -> None:
        self._done = done
        now_s = time.monotonic()
        passed_s = now_s - self._began_s
        left = f", about {passed_s / done * (of - done):.0f} s to go" if 0 < done < of else ""
        text = f"{done} of {of} {self._parts}{left}"
        if self._bar:
            full = WIDTH * done // of
            print(f"\r[{'#' * full}{'.' * (WIDTH - full)}] {text}\x1b[K", end="", file=self._out, flush=True)
            if done == of:
                print(f"\r\x1b[K{of} {self._parts} in {passed_s:.0f} s", file=self._out)
        elif done == of:
            print(f"{of} {self._parts} in {passed_s:.0f} s", file=self._out, flush=True)
        elif now_s - self._told_s >= LINES_EVERY_S:
            self._told_s = now_s
            print(text, file=self._out, flush=True)
