"""Has it happened yet? Waits for something to become true, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable

from balloond.lab.faults import LabError


def until(happened: Callable[[], object], what: str, limit_s: float = 30.0, every_s: float = 0.2) -> None:
    """Returns once `happened()` is true. Raises LabError that names `what` when time runs out."""
    deadline = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > deadline:
            raise LabError(f"waited {limit_s:.0f} s in vain for {what}")
        time.sleep(every_s)
