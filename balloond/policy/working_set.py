"""How much memory does the guest work with, apart from what it could do without?

Two memories of its demand, both rising at once: `recent` forgets within seconds and says what must not be taken
away in hard times; `slow` forgets within a quarter of an hour and says what it should have. What is asked for
beyond is a margin, for growth between two looks.
"""

from __future__ import annotations

from math import exp
from typing import Final

from balloond.model import Guest
from balloond.policy.trust import Sample
from balloond.units import GIB, MIB
from balloond.value import value

RECENT_DECAY_S: Final = 15.0
DECAY_S: Final = 900.0
GROWTH_DECAY_S: Final = 60.0
"""What is needed now is forgotten in seconds, since under scarcity somebody waits for it; what is wanted, and how
fast a guest grows, is remembered until its next burst."""

GROWTH_AHEAD: Final = 3.0
"""Samples' worth of lasting growth held ahead: one until it is seen, one until donors gave, one for the balloon to
move. A variance in its place is too slow for a ramp's first minute: a guest that grew by 0.8 GiB a sample (July
trace, 2x) was short of 0.8 GiB before it was grown, and with this of nothing."""

RESPONSE_S: Final = 2.0
"""Of growth that was seen once, what comes until the next sample is held ahead, and for so long after it: until
donors gave and the balloon moved. It may be a ramp's beginning, but mostly it is all that comes, and the next
sample tells. With three samples' worth guests took from each other with each jump what nobody used: on July days
of steps at 3x they turned half as often again. With half of one, of nine ramps of real guests that have no swap
three met their OOM killer; at samples of 2 s this is two of them."""

MARGIN: Final = 0.1
MARGIN_MOST: Final = 0.25
MARGIN_LEAST: Final = 256 * MIB
MARGIN_LEAST_SMALL: Final = 128 * MIB
SMALL: Final = 2 * GIB
"""The margin as a share of the working set, at most as a share of the guest, and at least; of a guest smaller than
the last of these the least is smaller too."""

SQUEEZED_SHARE: Final = 0.02
"""Less than this usable, and the demand that shows is cut off by `actual`: nobody can say how much more it is."""

SQUEEZED_TOUCHED: Final = 0.75
"""Who has touched less of its size than this has memory left, whatever it says."""

SQUEEZED_GROWTH: Final = 0.25
"""What a squeezed guest is given at first, of its actual size; doubled with each sample that finds it squeezed
still, so that a guest that wants eight times its size waits for four samples and not for ten."""

AT_EASE_SHARE: Final = 0.05
AT_EASE_LEAST: Final = 64 * MIB
"""With more than this usable, whatever lies in the guest's swap is not missed."""


@value
class WorkingSet:
    """The estimator's memory, in bytes."""

    last: int = 0  # the demand at the newest sample; of what it may have been, the nearest to the one before
    usable: int = 0
    recent: float = 0.0
    slow: float = 0.0
    grew: float = 0.0  # since the sample before the newest; 0 where that found it squeezed
    over_s: float = 0.0  # how long that took
    growth: float = 0.0  # from one sample to the next: its recent peak
    lasting: float = 0.0  # likewise, at the rate that it kept up through two samples running
    samples: int = 0
    overhead: float = float("inf")  # of the QEMU process: at most so much
    squeezed: int = 0  # samples running that found hardly anything usable
    swap_left: bool = False  # it swapped out, and was not seen to be out of memory without doing so since
    pent_up: int = 0  # what it put into its own swap since it was last at ease


def follow(before: WorkingSet, sample: Sample, guest: Guest) -> WorkingSet:
    """The working set after one more believed sample."""
    runs = before.squeezed + 1 if _squeezed(sample, guest) else 0
    pent_up = _pent_up(before.pent_up, sample, guest)
    low, high = sample.low, sample.high
    if pent_up:
        believed = min(pent_up, _most_believed(min(guest.actual, sample.touched), max(1, runs)))
        low, high = low + believed, high + believed
    last = high if low == high or not before.samples else min(max(before.last, low), high)
    # What a squeezed guest was given would show as its growth, though it needed that before; what it really grew
    # by can't be told from it.
    counts = before.samples > 0 and not before.squeezed and last > before.last
    grew = float(last - before.last) if counts else 0.0
    fade = exp(-sample.elapsed_s / GROWTH_DECAY_S)
    return WorkingSet(
        last=last,
        usable=sample.usable,
        recent=_rise_or_decay(before.recent, low, high, exp(-sample.elapsed_s / RECENT_DECAY_S)),
        slow=_rise_or_decay(before.slow, low, high, exp(-sample.elapsed_s / DECAY_S)),
        grew=grew,
        over_s=sample.elapsed_s,
        growth=max(grew, before.growth * fade),
        lasting=max(_lasting(before, grew, sample.elapsed_s), before.lasting * fade),
        samples=before.samples + 1,
        overhead=min(before.overhead, _overhead(sample, guest)),
        squeezed=runs,
        swap_left=bool(sample.swapped_out) or (before.swap_left and not runs),
        pent_up=pent_up,
    )


def _squeezed(sample: Sample, guest: Guest) -> bool:
    if sample.usable >= SQUEEZED_SHARE * guest.actual:
        return False
    return sample.high >= SQUEEZED_TOUCHED * min(guest.actual, sample.size)  # it may have been grown since


def _pent_up(before: int, sample: Sample, guest: Guest) -> int:
    """What it put into its own swap since it was last at ease."""
    out = (sample.swapped_out or 0) - (sample.swapped_in or 0)
    if (not before and out <= 0) or sample.usable > max(AT_EASE_LEAST, AT_EASE_SHARE * guest.actual):
        return 0
    return max(0, before + out)


def _lasting(before: WorkingSet, grew: float, over_s: float) -> float:
    """What the longer of two samples running takes at the slower one's rate: in a hurried look little grows. A
    clock that was set may leave no time between two samples; then their rate is not known."""
    if over_s <= 0 or before.over_s <= 0:
        return 0.0
    return min(grew / over_s, before.grew / before.over_s) * max(over_s, before.over_s)


def ahead(known: WorkingSet, *, jumps: bool = True) -> float:
    """Bytes held ahead for growth as fast as its recent peak, where it lasts until memory can be there, else
    (`jumps`) until that is known."""
    lasting = GROWTH_AHEAD * known.lasting
    if not jumps or not known.growth:
        return lasting
    return max(known.growth * (1 + RESPONSE_S / max(RESPONSE_S, known.over_s)), lasting)


def margin(working_set: float, growth: float, maximum: int) -> int:
    """What is asked for beyond the working set: 10 %, at least 128 or 256 MiB, and enough for this `growth`; at
    most a quarter of the guest."""
    return int(min(max(MARGIN * working_set, _least_margin(maximum), growth), MARGIN_MOST * maximum))


def outgrows_margin(known: WorkingSet, maximum: int) -> bool:
    """Whether it grew so fast since the sample before that a margin for quiet times is gone before memory can be
    there; unless that growth is little beside all that it has free, as a large guest's is at any time."""
    growth = GROWTH_AHEAD * known.grew
    return growth >= _least_margin(maximum) and known.usable < 2 * growth


def _least_margin(maximum: int) -> int:
    return MARGIN_LEAST_SMALL if maximum < SMALL else MARGIN_LEAST


def squeezed_want(known: WorkingSet, actual: int) -> int:
    """What a guest whose demand is cut off should have; 0 when it isn't, or when its own swap tells how much
    it lacks."""
    if not known.squeezed or known.pent_up:
        return 0
    return actual + _most_believed(actual, known.squeezed)


def _most_believed(actual: int, runs: int) -> int:
    """How much more than it has a guest may be taken to need, after so many samples that found it squeezed."""
    return int(actual * SQUEEZED_GROWTH * 2 ** min(runs - 1, 4))


def _overhead(sample: Sample, guest: Guest) -> float:
    """At most what QEMU needs for itself: its resident memory, less what the guest surely has touched. What the
    guest has free may have been touched before, so it is the least of many looks that tells."""
    if guest.rss is None or sample.unused is None:
        return float("inf")
    had = min(guest.actual, sample.size_least)  # what it was given since it need not have touched
    return max(0.0, float(sample.touched - (had - sample.unused)))


def _rise_or_decay(before: float, low: int, high: int, keep: float) -> float:
    """Up to what the demand surely was at once; down towards what it can at most have been, slowly."""
    if before < low:
        return float(low)
    return high + (before - high) * keep if before > high else before
