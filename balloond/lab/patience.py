"""Has it happened yet? Waits for something to become true, in bounded time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from balloond.lab.faults import LabError

FACTOR: Final = "BALLOOND_LAB_PATIENCE"
"""The variable that says how many times as long everything is waited for: 1, but more where guests are emulated
inside an emulated host."""


def patiently(limit_s: float) -> float:
    """How long that is on this machine."""
    return limit_s * float(os.environ.get(FACTOR) or 1)


def until(happened: Callable[[], object], what: str, limit_s: float = 30.0, every_s: float = 0.2) -> None:
    """Returns once `happened()` is true. Raises LabError that names `what` when time runs out."""
    limit_s = patiently(limit_s)
    deadline = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > deadline:
            raise LabError(f"waited {limit_s:.0f} s in vain for {what}")
        time.sleep(every_s)
