"""May this sample be believed, and how fresh is what we know?

A guest's statistics are its own word, taken when its driver last answered. Here the word is checked against what
the host knows, and its age is judged. Doubt must never shrink a guest: whatever is not FRESH may not be shrunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from balloond.model import Guest, Statistics, Trust
from balloond.units import MIB
from balloond.value import value

NEW_S: Final = 30.0
"""A booting kernel touches much of its memory within this; its first numbers say little."""

NEW_SAMPLES: Final = 3

LATE_S: Final = 2.0
"""A balloon that somebody else moves may be heard of so much later than what the guest says after it."""

MOVED: Final = 8 * MIB
"""A balloon that moved by more than this changes at least one of the sizes that a guest tells, which count single
pages: who tells the very same ones again, newly stamped, tells old ones. No smaller move is ever asked for."""

FOLLOWS: Final = 1 * MIB
"""A guest's own total that changed as its balloon did, to so much, follows it. Linux without deflate-on-oom counts
each page that the balloon takes out of its total; with it, and Windows, the total stays as it is."""

SILENT_S: Final = 300.0
"""Past this the guest is counted as its maximum: whatever was known of it is worth nothing."""


@value
class Total:
    """What a guest told to be its total memory when its balloon was at rest, as far as libvirt knew."""

    told: int
    actual: int  # then, as the maximum
    maximum: int
    follows: bool = False  # whether it was seen to change as the balloon does

    def place(self, told: int) -> int:
        """Where the balloon is when so much is told, if it follows."""
        return self.actual + told - self.told


@value
class Hearing:
    """What was heard of a guest so far. Times are monotonic seconds."""

    born_s: float
    settled: bool  # past the gentle start that new guests get
    stamp_s: int = 0  # the newest sample's own time stamp, in the host's epoch seconds
    sampled_s: float | None = None  # when the newest believed sample was taken; None: none yet
    samples: int = 0  # believed ones
    lying: bool = False  # the newest sample was impossible
    swap_in: int | None = None  # counters of the newest sample, believed or not
    swap_out: int | None = None
    major_faults: int | None = None
    track: tuple[tuple[float, int], ...] = ()  # (time, actual): the last changes of the balloon, newest last
    sizes: tuple[int | None, ...] = ()  # of the newest sample, believed or not
    sizes_s: float = 0.0  # when they were told first
    sizes_at: tuple[int, int] | None = None  # of `actual` then; None: they were told again of another size
    total: Total | None = None  # None: it tells none


@value
class Sample:
    """A believed sample. The guest's demand when it was taken lay between `low` and `high` bytes: the balloon may
    have been moving."""

    elapsed_s: float  # since the believed one before it was taken; 0 for the first
    size: int  # of the guest then, at most
    size_least: int
    touched: int  # by the guest until now, at most
    usable: int
    unused: int | None  # memory that nobody in the guest has any use for
    low: int
    high: int
    swapped_in: int | None  # bytes since the sample before it; None: unknown
    swapped_out: int | None
    faulted: int | None  # major faults since the sample before it


def listen(
    guest: Guest, before: Hearing, *, moving_to: int | None, now_s: float, wall_s: float
) -> tuple[Hearing, Sample | None]:
    """What is known after this look at the guest, and its new sample, if there is one and it can be true.
    `moving_to`: the target that its balloon was on the way to; None: it was at rest."""
    track = before.track
    if not track or track[-1][1] != guest.actual:
        track = (*track[-5:], (now_s, guest.actual))
    statistics = guest.statistics
    unneeded = _unneeded(statistics) if statistics else None
    if statistics is None or unneeded is None or statistics.last_update_s in (0, before.stamp_s):
        return (before if track is before.track else replace(before, track=track)), None
    age_s = wall_s - statistics.last_update_s
    taken_s = now_s - age_s if age_s > 0 else now_s
    if not before.settled and before.samples == 0 and taken_s <= before.born_s + 1.0:
        # Of its life before: a reset keeps the old numbers, and their stamp is in whole seconds.
        return (before if track is before.track else replace(before, track=track)), None
    if before.sampled_s is not None and taken_s < before.sampled_s:
        taken_s = before.sampled_s  # a clock that jumps must not make a new sample old
    low, high = _actual_around(track, taken_s)
    if moving_to is not None:  # libvirt tells of a moving balloon up to a second late
        low, high = min(low, moving_to), max(high, moving_to)
    sizes = _sizes(statistics)
    again = sizes == before.sizes and unneeded > 0
    sizes_s = before.sizes_s if again else taken_s
    sizes_at = before.sizes_at if again else (low, high)
    if again and sizes_at is not None:
        if taken_s - sizes_s <= LATE_S:
            sizes_at = min(low, sizes_at[0]), max(high, sizes_at[1])
        elif low > sizes_at[1] + MOVED or high < sizes_at[0] - MOVED:
            sizes_at = None
    believed = sizes_at is not None and _possible(guest, statistics, before, sizes, unneeded, high)
    total = before.total
    if believed:
        total = _total(total, guest, statistics.untrusted_available, low, high)
        low, high = _placed(total, statistics.untrusted_available, low, high)
    hearing = Hearing(
        born_s=before.born_s,
        settled=before.settled
        or (now_s - before.born_s >= NEW_S and before.samples + believed >= NEW_SAMPLES),
        stamp_s=statistics.last_update_s,
        sampled_s=taken_s if believed else before.sampled_s,
        samples=before.samples + believed,
        lying=not believed,
        swap_in=statistics.untrusted_swap_in,
        swap_out=statistics.untrusted_swap_out,
        major_faults=statistics.untrusted_major_faults,
        track=track,
        sizes=sizes,
        sizes_s=sizes_s,
        sizes_at=sizes_at,
        total=total,
    )
    if not believed:
        return hearing, None
    most = touched(guest)  # nobody needs what it never touched
    lowest = max(0, min(low - unneeded, most))
    return hearing, Sample(
        elapsed_s=taken_s - before.sampled_s if before.sampled_s is not None else 0.0,
        size=high,
        size_least=low,
        touched=most,
        usable=unneeded,
        unused=statistics.untrusted_unused,
        low=lowest,
        high=lowest if high == low else max(0, min(high - unneeded, most)),
        swapped_in=_since(statistics.untrusted_swap_in, before.swap_in),
        swapped_out=_since(statistics.untrusted_swap_out, before.swap_out),
        faulted=_since(statistics.untrusted_major_faults, before.major_faults),
    )


def touched(guest: Guest) -> int:
    """What the guest has touched at most, by what the host sees it hold: resident or swapped, bytes."""
    return guest.maximum if guest.rss is None else guest.rss + guest.in_swap


def judge(guest: Guest, hearing: Hearing, *, now_s: float, interval_s: float) -> Trust:
    """How far the guest's numbers may be relied on now."""
    if hearing.samples == 0:
        if now_s - hearing.born_s < NEW_S:
            return Trust.NEW
        if not hearing.lying:
            return Trust.ABSENT
        return Trust.LYING if now_s - hearing.born_s <= SILENT_S else Trust.SILENT
    assert hearing.sampled_s is not None  # noqa: S101  (set together with samples)
    if not hearing.settled and now_s - hearing.born_s < NEW_S:
        return Trust.NEW
    age_s = now_s - hearing.sampled_s
    period_s = max(interval_s, guest.statistics_period_s)
    if age_s > SILENT_S:
        return Trust.SILENT
    if age_s > 6 * period_s + 1:
        return Trust.STALE
    if hearing.lying:
        return Trust.LYING
    if age_s > 3 * period_s + 1:  # the stamp is in whole seconds, hence the one on top
        return Trust.AGING
    return Trust.FRESH if hearing.settled else Trust.NEW


def _unneeded(statistics: Statistics) -> int | None:
    """Memory that the guest could do without, by its own word; None: its driver does not say."""
    if statistics.untrusted_usable is not None:
        return statistics.untrusted_usable
    if statistics.untrusted_unused is not None:
        return statistics.untrusted_unused + (statistics.untrusted_caches or 0) // 2
    return None


def _sizes(statistics: Statistics) -> tuple[int | None, ...]:
    return (
        statistics.untrusted_available,
        statistics.untrusted_unused,
        statistics.untrusted_usable,
        statistics.untrusted_caches,
    )


def _actual_around(track: tuple[tuple[float, int], ...], taken_s: float) -> tuple[int, int]:
    """The least and the most that `actual` can have been when the sample was taken: its time stamp is in whole
    seconds, and between two looks the balloon may have moved at any instant."""
    low = high = track[-1][1]
    for index in range(len(track) - 1, 0, -1):
        changed_s = track[index][0]
        if changed_s < taken_s - 1.0:  # seen at its newer size more than a second before the sample
            break
        earlier = track[index - 1][1]
        low, high = min(low, earlier), max(high, earlier)
    return low, high


def _total(before: Total | None, guest: Guest, told: int | None, low: int, high: int) -> Total | None:
    """What is known of its total after one that was told with `actual` in this range. It follows the balloon if it
    changed, and to within the range. Memory that is plugged in changes both as well."""
    if told is None or guest.deflates_on_oom:
        return None
    follows = False
    if before is not None and before.maximum == guest.maximum:
        within = low - FOLLOWS <= before.place(told) <= high + FOLLOWS
        follows = within and (before.follows or abs(told - before.told) > MOVED)
        if low != high or (told, low) == (before.told, before.actual):
            return before if follows is before.follows else replace(before, follows=follows)
    if low != high:
        return None
    return Total(told=told, actual=low, maximum=guest.maximum, follows=follows)


def _placed(total: Total | None, told: int | None, low: int, high: int) -> tuple[int, int]:
    """Where in this range the balloon was when the sample was taken, as far as the guest's own total tells. Of a
    guest that was grown while it grew the range hid all its growth: real ones lost their work to it."""
    if low == high or total is None or not total.follows or told is None:
        return low, high
    size = min(max(low, total.place(told)), high)
    return size, size


def _possible(
    guest: Guest, statistics: Statistics, before: Hearing, sizes: Sequence[int | None], unneeded: int, most: int
) -> bool:  # fmt: skip
    """Whether such numbers can be true at all; `most` is the highest that `actual` can have been."""
    for size in sizes:
        if size is not None and not 0 <= size <= guest.maximum:
            return False
    return (
        unneeded <= most
        and (_since(statistics.untrusted_swap_in, before.swap_in) or 0) >= 0
        and (_since(statistics.untrusted_major_faults, before.major_faults) or 0) >= 0
    )


def _since(count: int | None, before: int | None) -> int | None:
    return None if count is None or before is None else count - before
