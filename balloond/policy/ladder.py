"""How bad is it on the host?

Four rungs, from the memory that is available, from pressure, and from how fast things get worse. Climbing is
immediate; a rung is left only when its threshold was cleared by a quarter for half a minute, and then for the
worst that was seen in that time by the same measure, so that the host does not flap between two of them.

What merging saves is a loan. Green means that the pool would be there even if all of it were called back at once;
worse rungs ask what is really available, since a loan that nobody calls back hurts nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Final

from balloond.model import Host, Rung

SHARES_AVAILABLE: Final = {Rung.ORANGE: 0.5, Rung.RED: 0.2}
"""Yellow begins below the pool; orange and red below these shares of it (2.5 % and 1 % with a pool of 5 %)."""

PRESSURE_ORANGE: Final = 0.05
"""PSI `some avg10`: one twentieth of the time somebody waited for memory."""

CLEAR: Final = 1.25
CLEAR_HELD_S: Final = 30.0

FORECAST_S: Final = 60.0
"""Yellow becomes orange when red is nearer than this on the present slope, orange red when nearer than half of it.
Yellow never becomes red at one bound: that would take from a guest in distress what its own growth is granted for.
And a pool that is full is green on any slope: each large grant makes one for some seconds."""

SLOPE_S: Final = 10.0
"""The slope is averaged over so long: one guest's burst is no trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The ladder's memory."""

    rung: Rung
    better_s: float | None = None  # since when a lower rung would do; None: it would not
    worst: Rung = Rung.GREEN  # that was called for since then, each threshold taken a quarter higher
    seen_s: float
    available: int
    slope: float = 0.0  # bytes a second; negative: getting worse


def climb(before: Standing | None, host: Host, reserve: int, pool: int, now_s: float) -> Standing:
    """The rung now. `reserve` and `pool` in bytes; what is available beyond the reserve is what counts."""
    free = host.available - reserve
    slope = _slope(before, host.available, now_s)
    rung = _rung(host, free, pool, slope, 1.0)
    if before is None or rung >= before.rung:
        return Standing(rung=rung, seen_s=now_s, available=host.available, slope=slope)
    calls_for = _rung(host, free, pool, slope, CLEAR)
    if calls_for >= before.rung:
        return Standing(rung=before.rung, seen_s=now_s, available=host.available, slope=slope)
    better_s = now_s if before.better_s is None else before.better_s
    worst = calls_for if before.better_s is None else max(before.worst, calls_for)
    stays = now_s - better_s < CLEAR_HELD_S
    return Standing(
        rung=before.rung if stays else worst,
        better_s=better_s if stays else None,
        worst=worst if stays else Rung.GREEN,
        seen_s=now_s,
        available=host.available,
        slope=slope,
    )


def _rung(host: Host, free: int, pool: int, slope: float, by: float) -> Rung:
    """The rung that the figures alone would give, each threshold multiplied by `by`."""
    red = SHARES_AVAILABLE[Rung.RED] * pool * by
    if free < red:
        return Rung.RED
    until_red_s = (free - red) / -slope if slope < 0 else float("inf")
    pressed = host.pressure is not None and host.pressure.some_avg10 * by > PRESSURE_ORANGE
    if free < SHARES_AVAILABLE[Rung.ORANGE] * pool * by or pressed:
        rung = Rung.ORANGE
    elif free - (host.ksm.saved if host.ksm else 0) < pool * by:
        rung = Rung.YELLOW
    else:
        return Rung.GREEN  # a pool that is full outlasts any slope for now; yellow will see it
    if until_red_s < FORECAST_S / 2:
        return Rung.RED if rung is Rung.ORANGE else Rung.ORANGE
    return Rung(min(rung + 1, Rung.ORANGE)) if until_red_s < FORECAST_S else rung


def _slope(before: Standing | None, available: int, now_s: float) -> float:
    if before is None or now_s <= before.seen_s:
        return before.slope if before else 0.0
    elapsed_s = now_s - before.seen_s
    keep = exp(-elapsed_s / SLOPE_S)
    return before.slope * keep + (available - before.available) / elapsed_s * (1 - keep)
