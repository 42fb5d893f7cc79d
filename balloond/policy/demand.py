"""What does one guest need?

Joins what was heard (`trust`), what it works with (`working_set`) and what it suffers from (`distress`) into one
`Demand`. These three and this module alone look at what a guest says of itself.

Demand is `actual - usable`, never `available - usable`: with deflate-on-oom Linux leaves the balloon in its
total, and Windows shows the balloon as used. `usable` is the guest kernel's MemAvailable.
"""

from __future__ import annotations

from typing import Final, assert_never

from balloond.config.settings import SMALLEST_GUEST, GuestPolicy
from balloond.model import Demand, Guest, Trust
from balloond.policy.distress import Distress, feel
from balloond.policy.solvency import OVERHEAD_MOST
from balloond.policy.trust import NEW_S, Hearing, judge, listen, touched
from balloond.policy.working_set import WorkingSet, ahead, follow, margin, outgrows_margin, squeezed_want
from balloond.units import MIB
from balloond.value import value

DISTRESS_GROWTH: Final = 1.25
"""What a guest in distress gets at once, of its actual size; but not of what it never touched, since who suffers
for memory has touched all that it has: one that only said so got all its maximum in ten seconds, and kept it."""

SWAPPED_LEAST: Final = 64 * MIB
"""A guest that swapped out so much since its boot has swap worth the name."""

PRESSING: Final = 1.05
PRESSING_MORE: Final = 128 * MIB
"""A floor is so much times what is needed now, and so much more, of a small guest an eighth:
its kernel needs some to work in."""

STARVES_S: Final = 60.0
"""For so long it was squeezed or suffered with each look: then memory does not come by itself."""


@value
class Memory:
    """What the estimator carries to the next tick."""

    incarnation: int
    hearing: Hearing
    known: WorkingSet
    distress: Distress
    lacks_s: float | None = None  # since when it suffers or is squeezed; None: it does neither


def estimate(
    policy: GuestPolicy,
    guest: Guest,
    before: Memory | None,
    *,
    moving_to: int | None,
    now_s: float,
    wall_s: float,
    interval_s: float,
    first_tick: bool,
) -> Demand:
    """The guest's demand now. `moving_to`: what its balloon was asked for and had not reached a tick ago.
    `first_tick`: the daemon has just started, so this is no new guest; it is believed as soon as it speaks."""
    if before is None or before.incarnation != guest.incarnation:
        before = _stranger(guest, now_s - (NEW_S if first_tick else 0.0))
    hearing, sample = listen(guest, before.hearing, moving_to=moving_to, now_s=now_s, wall_s=wall_s)
    known = follow(before.known, sample, guest) if sample else before.known
    distress = feel(
        before.distress, guest, sample,
        moving_to=moving_to, working_set=known.slow, age_s=now_s - hearing.born_s, now_s=now_s,
    )  # fmt: skip
    lacks = known.squeezed > 0 or distress.suffers(now_s)
    since = now_s if before.lacks_s is None else before.lacks_s
    memory = Memory(
        incarnation=guest.incarnation, hearing=hearing, known=known, distress=distress,
        lacks_s=since if lacks else None,
    )  # fmt: skip
    trust = judge(guest, hearing, now_s=now_s, interval_s=interval_s)
    return _conclude(policy, guest, memory, trust, now_s)


def unestimated(policy: GuestPolicy, guest: Guest) -> Demand:
    """The demand of a guest that is left alone: what it has, and nothing known of it."""
    guarantee, ceiling = _bounds(policy, guest)
    return Demand(
        trust=Trust.ABSENT, working_set=guest.actual, want=guest.actual, need=guest.actual, enough=guest.actual,
        floor=guest.actual,
        guarantee=guarantee, ceiling=ceiling, margin=0, in_distress=False,
        suffers=False, squeezed=False,
        overhead=guest.overhead, memory=None,
    )  # fmt: skip


def _stranger(guest: Guest, born_s: float) -> Memory:
    return Memory(
        incarnation=guest.incarnation,
        hearing=Hearing(born_s=born_s, settled=False),
        known=WorkingSet(),
        distress=Distress(),
    )


def _bounds(policy: GuestPolicy, guest: Guest) -> tuple[int, int]:
    """Guarantee and ceiling: the operator's, within what the guest can have and can live with."""
    ceiling = (
        guest.maximum if policy.maximum is None else min(guest.maximum, policy.maximum.of(guest.maximum))
    )
    ceiling = max(ceiling, min(SMALLEST_GUEST, guest.maximum))
    guarantee = max(policy.minimum.of(guest.maximum), SMALLEST_GUEST)
    return min(guarantee, ceiling), ceiling


def _conclude(policy: GuestPolicy, guest: Guest, memory: Memory, trust: Trust, now_s: float) -> Demand:
    guarantee, ceiling = _bounds(policy, guest)
    known, distress = memory.known, memory.distress
    seen = touched(guest)
    working_set = known.slow
    if distress.cache_need:
        working_set = max(known.slow, min(known.slow + distress.cache_need, DISTRESS_GROWTH * seen))
    growth = ahead(known)
    extra = margin(working_set, growth, guest.maximum)
    suffering = not distress.calm(now_s)
    suffers = distress.suffers(now_s)
    # Who can swap, or take memory back by itself, outlives a jump that it has no memory for; two show a ramp.
    bears_surprise = guest.deflates_on_oom or (
        known.swap_left and (memory.hearing.swap_out or 0) >= SWAPPED_LEAST
    )
    want = max(working_set + extra, guarantee)
    if known.squeezed:
        want = max(want, squeezed_want(known, min(guest.actual, seen)))
    need = known.recent
    pressing = PRESSING * need + min(PRESSING_MORE, guest.maximum // 8)
    match trust:
        case Trust.FRESH | Trust.AGING | Trust.LYING:
            if suffers:
                want = max(want, DISTRESS_GROWTH * min(guest.actual, seen))
        case Trust.STALE:  # all that is known is how much it has touched
            working_set = max(working_set, float(min(guest.rss or guest.actual, guest.maximum)))
            want = need = pressing = max(want, working_set)
        case Trust.NEW | Trust.SILENT | Trust.ABSENT:  # held where it is
            want = need = pressing = max(want if trust is not Trust.ABSENT else guarantee, guest.actual)
        case _:
            assert_never(trust)
    want = min(int(want), ceiling)
    lacks = memory.lacks_s is not None
    if lacks and not (known.pent_up and known.swap_left):
        enough = want  # nobody can see how much
    else:
        growth = growth if lacks or not bears_surprise else ahead(known, jumps=False)
        enough = int(need) + margin(need, growth, guest.maximum)
    fresh_and_lower = trust is Trust.FRESH and guest.actual < ceiling
    return Demand(
        trust=trust,
        working_set=int(working_set),
        want=want,
        need=_between(guarantee, int(need), want),
        enough=_between(guarantee, enough, want),
        floor=_between(guarantee, int(pressing), want),
        guarantee=guarantee,
        ceiling=ceiling,
        margin=extra,
        in_distress=suffering,
        suffers=suffers,
        squeezed=known.squeezed > 0 and guest.actual < ceiling,
        starves=fresh_and_lower and memory.lacks_s is not None and now_s - memory.lacks_s >= STARVES_S,
        bears_surprise=bears_surprise,
        races=fresh_and_lower and outgrows_margin(known, guest.maximum),
        overhead=max(guest.overhead, int(min(known.overhead, OVERHEAD_MOST)))
        if known.samples
        else guest.overhead,
        sampled_s=memory.hearing.sampled_s,
        memory=memory,
    )


def _between(least: int, size: int, most: int) -> int:
    """`size` within these bounds, of which the first is the stronger; without the price of min and max."""
    size = min(size, most)
    return size if size > least else least
