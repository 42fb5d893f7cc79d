"""Is the guest suffering for memory that it was not given?

It swaps in, it faults its programs in again, or it reads again from disk what its page cache had held (a read is
no major fault, so only the block statistics show it). What is learned here is a need for memory that no counter
of the balloon shows: `cache_need`. A guest in distress is not shrunk for a while, longer each time.
"""

from __future__ import annotations

from math import exp
from typing import Final

from balloond.model import Guest
from balloond.policy.trust import Sample
from balloond.units import MIB, PAGE
from balloond.value import value

FAULT_SHARE: Final = 0.002
"""Pages faulted in a minute, as a share of the working set, that mean distress when seen twice running: of the
size of TMO's pressure targets, 0.1 to 0.3 % (Weiner et al., ASPLOS 2022)."""

SWAP_IN_RATE: Final = 1 * MIB
"""Bytes a second; one such sample is enough: nobody swaps in that much by the way."""

PLENTY: Final = 0.05
PLENTY_LEAST: Final = 64 * MIB
"""A guest with more free than this share of its memory faults and swaps in for no want of any."""

SETTLED_S: Final = 300.0
"""A guest faults its programs in while it starts; only after this do faults mean distress."""

CALM_S: Final = 300.0
CALM_MOST_S: Final = 3600.0
"""No shrinking for so long after distress, doubling while it comes again."""

HELPED_ITSELF: Final = 8 * MIB
"""A guest with deflate-on-oom that has so much more than it was given took it from the balloon, as its last
resort. Without, somebody else has set its balloon: that is no distress."""

CACHE_STEP: Final = 0.05
CACHE_STEP_MILD: Final = 0.02
CACHE_MOST: Final = 0.5
CACHE_DECAY_S: Final = 34_000.0
"""What cache need is learned a step and at most, of the guest's maximum; it is forgotten by 10 % an hour."""

READS_RISE: Final = 2.0
READS_LEAST: Final = 1 * MIB
READS_AVERAGE_S: Final = 30.0
READS_WATCH_S: Final = 300.0
"""Block reads that double within this after a shrink, above a MiB a second, are page cache that it misses."""


@value
class Distress:
    """What was seen of a guest's suffering. Times are monotonic seconds, rates bytes a second."""

    faulting: int = 0  # samples running above FAULT_SHARE
    rushing: bool = False  # swap came in at a rush with its newest sample
    acute: bool = False  # it suffers, by its newest sample
    calm_until_s: float | None = None  # no shrinking before this; None: never in distress
    calm_s: float = CALM_S
    cache_need: float = 0.0
    learned_s: float = 0.0
    reads: int | None = None  # bytes read so far
    reads_s: float = 0.0
    read_rate: float = 0.0
    rate_before: float = 0.0  # the rate when it was last shrunk
    shrunk_s: float | None = None
    actual: int = 0

    def calm(self, now_s: float) -> bool:
        """Whether the guest may be shrunk, as far as its suffering is concerned."""
        return self.calm_until_s is None or now_s >= self.calm_until_s

    def suffers(self, now_s: float) -> bool:
        """Whether it suffered at its newest sample, and is not calm."""
        return self.acute and not self.calm(now_s)


def feel(
    before: Distress,
    guest: Guest,
    sample: Sample | None,
    *,
    moving_to: int | None,
    working_set: float,
    age_s: float,
    now_s: float,
) -> Distress:
    """The distress after this look. `sample` is the guest's new one, if any; `age_s` is its time since boot;
    `moving_to` what its balloon was asked for and had not reached."""
    rate = _read_rate(before, guest, now_s)
    shrunk = guest.actual < before.actual - guest.maximum // 100
    watched = before.shrunk_s is not None and now_s - before.shrunk_s <= READS_WATCH_S
    misses = watched and rate > max(READS_LEAST, READS_RISE * before.rate_before)
    faulting, rushing = (
        _faults(before, sample, guest.actual, working_set) if sample else (before.faulting, before.rushing)
    )
    suffers = age_s > SETTLED_S and (faulting >= 2 or rushing)
    if guest.deflates_on_oom and before.actual > 0:
        suffers = suffers or guest.actual > max(before.actual, moving_to or 0) + HELPED_ITSELF
    need = before.cache_need * exp(-(now_s - before.learned_s) / CACHE_DECAY_S) if before.cache_need else 0.0
    calm_until_s, calm_s = before.calm_until_s, before.calm_s
    if guest.actual < guest.maximum and (suffers or misses):
        if before.calm(now_s):
            need += guest.maximum * (CACHE_STEP if suffers else CACHE_STEP_MILD)
            again = calm_until_s is not None and now_s - calm_until_s < calm_s
            calm_s = min(CALM_MOST_S, 2 * calm_s) if again else CALM_S
            calm_until_s = now_s + calm_s
        elif suffers:
            calm_until_s = max(calm_until_s or 0.0, now_s + CALM_S)
    return Distress(
        faulting=faulting,
        rushing=rushing,
        acute=suffers,
        calm_until_s=calm_until_s,
        calm_s=calm_s,
        cache_need=min(need, CACHE_MOST * guest.maximum) if need else 0.0,
        learned_s=now_s,
        reads=guest.block_read if guest.block_read is not None else before.reads,
        reads_s=now_s if guest.block_read != before.reads else before.reads_s,
        read_rate=rate,
        rate_before=(min(before.read_rate, before.rate_before) if watched else before.read_rate)
        if shrunk
        else before.rate_before,
        shrunk_s=now_s if shrunk else before.shrunk_s,
        actual=guest.actual,
    )


def _faults(before: Distress, sample: Sample, actual: int, working_set: float) -> tuple[int, bool]:
    """Samples running with too many faults, and whether swap comes in at a rush. Neither means anything while
    memory is free: what was swapped out in a hard hour comes back in an easy one."""
    if sample.elapsed_s <= 0:
        return before.faulting, before.rushing
    free = sample.usable if sample.unused is None else sample.unused
    if free > max(PLENTY_LEAST, PLENTY * actual):
        return 0, False
    swapped = sample.swapped_in or 0
    pages = swapped / PAGE + (sample.faulted or 0)
    a_minute = pages * 60 / sample.elapsed_s
    too_many = a_minute > FAULT_SHARE * max(working_set, 64 * MIB) / PAGE
    return (before.faulting + 1 if too_many else 0), swapped / sample.elapsed_s > SWAP_IN_RATE


def _read_rate(before: Distress, guest: Guest, now_s: float) -> float:
    """Bytes a second read from disk, averaged over half a minute. The counter may be refreshed seldom."""
    if guest.block_read is None or before.reads is None or guest.block_read == before.reads:
        quiet_s = now_s - before.reads_s
        return (
            before.read_rate * exp(-quiet_s / READS_AVERAGE_S)
            if quiet_s > READS_AVERAGE_S
            else before.read_rate
        )
    elapsed_s = max(0.001, now_s - before.reads_s)
    rate = max(0, guest.block_read - before.reads) / elapsed_s
    keep = exp(-elapsed_s / READS_AVERAGE_S)
    return before.read_rate * keep + rate * (1 - keep)
