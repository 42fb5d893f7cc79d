"""What may be given on the simulator's command lines?

Each parser raises argparse's error, which says what would be right.
"""

from __future__ import annotations

import argparse
import math
from typing import Final

from balloond.config.problems import quote

MOST_DAYS: Final = 366.0
MOST_HOURS: Final = 1e6
MOST_JOBS: Final = 1024
MOST_DIGITS: Final = 18


def days(text: str) -> float:
    """Simulated days."""
    return _above_0(text, MOST_DAYS, "days")


def hours(text: str) -> float:
    """Simulated host-hours."""
    return _above_0(text, MOST_HOURS, "hours")


def whole(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(
            f"{quote(text)} is no whole number from 0 up, of at most {MOST_DIGITS} digits"
        )
    return int(text)


def jobs(text: str) -> int:
    """Processes that share the work."""
    count = whole(text)
    if not 1 <= count <= MOST_JOBS:
        raise argparse.ArgumentTypeError(f"{quote(text)} is no number of processes from 1 to {MOST_JOBS}")
    return count


def number(text: str) -> float:
    """Any number; what is none is NaN, which is within no bounds."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _above_0(text: str, most: float, what: str) -> float:
    value = number(text)
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{quote(text)} is no number of {what} above 0, up to {most:.0f}")
    return value
