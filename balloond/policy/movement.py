"""Does the balloon follow what it was asked?

A balloon is advisory: it may be slow, stop half way, or not move at all. Progress is watched here; a guest without
any is first not relied on, then left alone for a while, longer each time. It must never count memory as freed
because it was asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from balloond.model import Guest, Outcome, Reason, Result
from balloond.units import MIB
from balloond.value import value

ARRIVED: Final = 4 * MIB
"""So near, a balloon has arrived: guests round to their own page sizes and zones."""

STALLED_S: Final = 5.0
STUCK_S: Final = 30.0
"""XAPI's squeezed calls a guest inactive after 5 s and uncooperative after 20."""

SLOW_S: Final = 180.0
"""What a balloon gives in so long, at its latest rate, is what is counted on when the host is divided: one was
asked for 4 GiB, gave 5 MiB a second, and others lacked what they were promised for as long (seed 203092)."""

ASIDE_S: Final = 60.0
ASIDE_MOST_S: Final = 3600.0

ON_TRIAL_S: Final = 4 * ASIDE_S
TRIAL: Final = 64 * MIB
"""A guest that would next be put aside for so long, which takes two times running, is asked for no more than this,
and others give for it no more than the smallest move: all its neighbours gave down to what they work with for each
try of one whose driver was gone, and got it back (simulator, seed 1102)."""


@value
class Movement:
    """What was last asked of a guest's balloon, and how far it came. Times are monotonic seconds."""

    target: int | None = None  # asked for and not yet reached
    told: int | None = None  # to its device, and not reached: it may go there yet
    reason: Reason = Reason.STEADY  # why
    nearest: int = 0  # the smallest distance from the target seen so far
    progressed_s: float = 0.0
    aside_until_s: float | None = None  # left alone until then; None: never was
    aside_s: float = ASIDE_S
    withheld: bool = False  # it was put aside for what it did not give
    changed_s: float = float("-inf")  # when its target was last changed
    grown_s: float = float("-inf")  # when it was last asked to grow
    shrunk_s: float = float("-inf")  # when it was last asked to shrink
    worked_with: int = 0  # what the guest worked with then
    rate: float = float("inf")  # bytes a second that it gave when it was last seen to; inf: not known

    def stalled(self, now_s: float) -> bool:
        """Whether it can't be counted on to give what it was asked for."""
        return self.target is not None and now_s - self.progressed_s > STALLED_S

    def aside(self, now_s: float) -> bool:
        return self.aside_until_s is not None and now_s < self.aside_until_s

    @property
    def on_trial(self) -> bool:
        """Whether it has followed nothing that it was asked for in its last tries."""
        return self.aside_s >= ON_TRIAL_S

    def refuses(self, actual: int, now_s: float) -> bool:
        """Whether it was asked to give and does not. Who does not take what it was given holds nothing back, nor
        does one whom the order never reached."""
        if self.aside(now_s):
            return self.withheld
        return self.target is not None and self.target < actual and self.stalled(now_s)

    def forgotten(self, now_s: float) -> bool:
        """Whether nobody waits for its balloon any more, and yet it was told to move: that is to be taken back."""
        return self.told is not None and self.target is None and now_s - self.changed_s > STUCK_S

    def coming(self, actual: int, now_s: float) -> int:
        """Bytes that it is on its way to give, and will have given before it would count as stuck."""
        if self.target is None or self.stalled(now_s):
            return 0
        return max(0, int(min(actual - self.target, self.rate * STUCK_S)))

    def least(self, actual: int) -> int:
        """The smallest size that it will have before long while it gives; 0 where it is not known to be slow."""
        if self.target is None:
            return 0
        return int(actual - min(actual, self.rate * SLOW_S))


def within_trial(level: int, actual: int) -> int:
    """`level`, or as near to it as a guest on trial is asked to go from what it has."""
    return min(max(level, actual - TRIAL), actual + TRIAL)


def watch(before: Movement, guest: Guest, outcome: Outcome | None, now_s: float) -> Movement:
    """The movement after this look. `outcome`: what became of the action of the tick before, if there was one. Who
    took more than it was grown to (deflate-on-oom) has arrived: told of any growth below that, it would give up
    what it took (seed 301694)."""
    before = _told(before, guest, outcome)
    if before.target is None:
        return before
    if outcome is not None and outcome.result is not Result.DONE:  # it was never asked: try again
        if outcome.result in (Result.REFUSED, Result.TIMED_OUT):
            return _put_aside(before, now_s, min(ASIDE_S, before.aside_s / 6), withheld=False)
        return replace(before, target=None)
    distance = abs(guest.actual - before.target)
    helped_itself = before.grown_s > before.shrunk_s and guest.actual > before.target
    if distance <= ARRIVED or helped_itself:
        return replace(before, target=None, aside_s=ASIDE_S, rate=float("inf"))
    if distance < before.nearest - MIB:
        gives = guest.actual > before.target and now_s > before.progressed_s
        rate = (before.nearest - distance) / (now_s - before.progressed_s) if gives else before.rate
        return replace(before, nearest=distance, progressed_s=now_s, rate=rate)
    if now_s - before.progressed_s > STUCK_S:
        return _put_aside(before, now_s, before.aside_s, withheld=before.target < guest.actual)
    return before


def ask(
    before: Movement, guest: Guest, target: int, reason: Reason, now_s: float, *, works_with: int
) -> Movement:
    """The movement once the guest, which works with so much, is asked for `target`."""
    return replace(
        before,
        target=target,
        reason=reason,
        nearest=abs(guest.actual - target),
        progressed_s=now_s,
        changed_s=now_s,
        grown_s=now_s if target > guest.actual else before.grown_s,
        shrunk_s=now_s if target < guest.actual else before.shrunk_s,
        worked_with=works_with if target < guest.actual else before.worked_with,
        rate=before.rate if target < guest.actual else float("inf"),
    )


def withdraw(before: Movement, now_s: float) -> Movement:
    """The movement once the guest was told to stay where it is."""
    return replace(before, changed_s=now_s)


def _told(before: Movement, guest: Guest, outcome: Outcome | None) -> Movement:
    """With what its device stands at, as far as that is known. Where the outcome was never learned, it is taken
    for done; where a write timed out, either size may stand."""
    ordered = outcome.action.target if outcome is not None else before.target
    result = outcome.result if outcome is not None else Result.DONE
    told = before.told
    if ordered is not None and result in (Result.DONE, Result.TIMED_OUT):
        told = ordered if result is Result.DONE else max(told or 0, ordered)
    if told is not None and abs(guest.actual - told) <= ARRIVED:
        told = None
    return before if told == before.told else replace(before, told=told)


def _put_aside(before: Movement, now_s: float, for_s: float, *, withheld: bool) -> Movement:
    return replace(
        before,
        target=None,
        aside_until_s=now_s + for_s,
        aside_s=min(ASIDE_MOST_S, 2 * before.aside_s),
        withheld=withheld,
    )
