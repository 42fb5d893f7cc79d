"""Whose memory may the kernel take when balloons do not bring enough?

On orange what the pool lacks is reclaimed into the host's swap: first from guests that hold more than they may
claim and whose balloon does not bring it back, then from those whose resident memory is far above what they
work with. On red the former are limited softly as well, until the host is yellow or their balloon follows again.
A reclaimed page is not lost, but costs its guest a wait; so it must never be taken at a higher rate than a disk
bears, nor from a guest that suffers already, nor more than there is swap for, on the host and by the guest's own
limit: then only QEMU's own program could go, and guests were seen to freeze.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from balloond.model import (
    Demand,
    Guest,
    Host,
    Ledger,
    LimitSoftly,
    Measured,
    Obstacle,
    Reclaim,
    Result,
    Rung,
    Trust,
)
from balloond.policy.ladder import CLEAR, PRESSURE_ORANGE
from balloond.units import MIB, format_size
from balloond.value import value

RATE_GUEST: Final = 64 * MIB
RATE_TOTAL: Final = 128 * MIB
"""Bytes a second. A SATA disk that guests work on too writes some 400 MB/s; a third of that is 7 GiB a minute."""

ELAPSED_MOST_S: Final = 5.0
"""However long the last turn was ago: more at once would be a burst."""

LEAST: Final = 8 * MIB
"""Less is not worth a process."""

COLD_LEAST: Final = 64 * MIB
"""So much more than it wants must a guest hold to be called cold: what it wants is an estimate."""

_GRANTED: Final = (Result.DONE, Result.OBSERVED, Result.TIMED_OUT)  # it may be set yet
_OVER: Final = (Result.DONE, Result.OBSERVED, Result.GONE)


@value
class Holder:
    """One guest that the pool's memory may be taken back from."""

    guest: Guest
    demand: Demand
    shares: int
    target: int  # what its balloon was asked for; its actual size where nothing was asked
    follows: bool  # its balloon gives what it is asked for
    obstacle: Obstacle | None

    @property
    def resident(self) -> int:
        """What it holds of the host beside what QEMU needs."""
        return max(0, (self.guest.rss or 0) - self.demand.overhead)

    def swap_room(self, free: int) -> int:
        """What of it may yet go to swap with that much of the host's `free`; its cgroups may let it have less."""
        guest = self.guest
        if guest.swap_limit is None:
            return free
        return max(0, min(free, guest.swap_limit - guest.in_swap))


@value
class Relief:
    """What is remembered from tick to tick."""

    limits: tuple[
        LimitSoftly, ...
    ] = ()  # in force, as far as is known; None: to be lifted until told that it is
    deaf: tuple[str, ...] = ()  # UUIDs of guests for which a reclaim was refused last, in order


def relieve(
    before: Relief,
    measured: Sequence[Measured],
    holders: Sequence[Holder],
    host: Host,
    ledger: Ledger,
    rung: Rung,
    *,
    elapsed_s: float,
) -> tuple[Relief, tuple[Reclaim | LimitSoftly, ...]]:
    """What is to be done now. `measured`: what came of the tick before; `elapsed_s`: how long ago that was."""
    here = {holder.guest.uuid for holder in holders}
    settled = settle(before, measured)
    limits = settled.limits
    deaf = tuple(uuid for uuid in settled.deaf if uuid in here)
    if rung < Rung.ORANGE and not limits:
        return Relief(), ()
    touchable = [holder for holder in holders if _may_be_touched(holder, host)]
    over = _over_claims(touchable, ledger, sum(_held(h) for h in holders if not _may_be_touched(h, host)))
    needless = rung < Rung.ORANGE or _is_roomy(ledger.available - ledger.reserve, ledger.pool)
    kept = tuple(limit for limit in limits if not (needless or _is_free(limit, holders, host)))
    lifted = tuple(_lift(limit) for limit in limits if limit not in kept)
    limited = _limits(over, kept, host) if rung >= Rung.RED and not needless else ()
    taken = _reclaims(touchable, over, deaf, host, ledger, rung, min(elapsed_s, ELAPSED_MOST_S))
    anew = {limit.uuid for limit in limited}
    left = tuple(limit for limit in lifted if limit.uuid not in anew)
    return Relief(limits=(*kept, *left, *limited), deaf=deaf), (*lifted, *limited, *taken)


def loosen(
    before: Relief, host: Host, rung: Rung, *, free: int, pool: int
) -> tuple[Relief, tuple[LimitSoftly, ...]]:
    """What is to be done while nobody knows the guests: limits go where the host does not need them any more, and
    none is set. `free`: bytes available beyond the reserve."""
    needless = rung < Rung.ORANGE or _is_roomy(free, pool) or host.swap_free < LEAST
    limits = tuple(_lift(each) if needless or each.limit is None else each for each in before.limits)
    return replace(before, limits=limits), tuple(each for each in limits if each.limit is None)


def settle(before: Relief, measured: Sequence[Measured]) -> Relief:
    """What is remembered, with what came of the tick before. A limit is taken for set unless it was told to have
    failed, and a lift for failed unless it was told to be done: what is told may be lost with a tick."""
    known, deaf = {limit.uuid: limit for limit in before.limits}, set(before.deaf)
    for each in measured:
        match each.measure:
            case LimitSoftly(uuid=uuid, limit=None) as lift if each.result not in _OVER:
                known.setdefault(uuid, lift)
            case LimitSoftly(uuid=uuid, limit=None) if uuid in known and known[uuid].limit is None:
                del known[uuid]
            case LimitSoftly(uuid=uuid, limit=int()) if each.result not in _GRANTED:
                known.pop(uuid, None)
            case Reclaim(uuid=uuid) if each.result is Result.REFUSED:
                deaf.add(uuid)
            case Reclaim(uuid=uuid) if each.result is Result.DONE:
                deaf.discard(uuid)
            case _:
                pass
    return Relief(limits=tuple(known.values()), deaf=tuple(sorted(deaf)))


def _may_be_touched(holder: Holder, host: Host) -> bool:
    """Whether it runs, is ours to manage, and its memory can go to swap: that is of a kind that can, and there
    is room for it."""
    return holder.obstacle is not Obstacle.UNREADABLE and _may_stay_limited(holder, host)


def _may_stay_limited(holder: Holder, host: Host) -> bool:
    """Whether a limit may stand: also where its monitor is late once, as that tells nothing of its memory. But not
    while it is in a job, since a migration that is slowed down may never end."""
    return (
        holder.guest.in_pool
        and holder.guest.rss is not None
        and holder.obstacle in (None, Obstacle.NO_BALLOON, Obstacle.UNREADABLE)
        and holder.swap_room(host.swap_free) >= LEAST
    )


def _held(holder: Holder) -> int:
    """What one that is not to be touched has of the pool; the whole of it where that is not known."""
    guest = holder.guest
    if not guest.in_pool:
        return 0
    return guest.rss if guest.rss is not None else guest.actual + holder.demand.overhead


def _is_roomy(free: int, pool: int) -> bool:
    """Whether the host is out of danger, whatever its pressure says: a guest that is slowed down for being above
    its limit waits for memory, which keeps the pressure up, and the limit would never go."""
    return free >= CLEAR * pool


def _is_free(limit: LimitSoftly, holders: Sequence[Holder], host: Host) -> bool:
    """Whether the limit is being lifted already, or its guest follows the balloon again, is none of ours to limit
    any more, lives anew, or is not here: a list may lack one that lives on, limited for good."""
    if limit.limit is None:
        return True
    its = [holder for holder in holders if holder.guest.uuid == limit.uuid]
    return not its or any(
        holder.follows or not _may_stay_limited(holder, host) or holder.guest.incarnation != limit.incarnation
        for holder in its
    )


def _over_claims(holders: Sequence[Holder], ledger: Ledger, held: int) -> list[tuple[int, int, Holder]]:
    """Who holds how much too much, and its claim; those with most of it first. `held`: by the others.

    A guest whose balloon follows is the balloon's matter. Of the others nobody knows what they need: they may
    claim their guarantee, their share, or what the others leave over.
    """
    overhead = sum(holder.demand.overhead for holder in holders)
    budget = max(0, ledger.total - ledger.own - ledger.reserve - held - overhead)
    all_shares = sum(holder.shares for holder in holders)
    wild = [holder for holder in holders if not holder.follows]
    left_over = max(0, budget - sum(holder.demand.want for holder in holders if holder.follows))
    wild_shares = sum(holder.shares for holder in wild)
    found = []
    for holder in wild:
        claim = max(
            holder.demand.guarantee,
            budget * holder.shares // all_shares,
            left_over * holder.shares // wild_shares,
        )
        if holder.resident - claim >= LEAST:
            found.append((holder.resident - claim, claim, holder))
    return sorted(found, key=lambda each: (-each[0], each[2].guest.uuid))


def _reclaims(
    holders: Sequence[Holder],
    over: Sequence[tuple[int, int, Holder]],
    deaf: Sequence[str],
    host: Host,
    ledger: Ledger,
    rung: Rung,
    elapsed_s: float,
) -> tuple[Reclaim, ...]:
    """What the pool lacks, as far as rates, swap and those who may give allow. From whom nothing can be taken it
    is asked last, lest it be counted on where others could give it."""
    if rung < Rung.ORANGE:
        return ()
    coming = sum(max(0, holder.guest.actual - holder.target) for holder in holders if holder.follows)
    lacking = ledger.pool - (ledger.available - ledger.reserve) - coming
    left = min(lacking, host.swap_free, int(RATE_TOTAL * elapsed_s))
    taken = []
    givers = sorted(
        (*_from_over(over), *_from_cold(holders)),
        key=lambda each: each[1].guest.cgroup is None or each[1].guest.uuid in deaf,
    )
    for most, holder, words in givers:
        size = min(most, left, holder.swap_room(host.swap_free), int(RATE_GUEST * elapsed_s))
        if size >= LEAST:
            left -= size
            taken.append(Reclaim(uuid=holder.guest.uuid, name=holder.guest.name, size=size, words=words))
    return tuple(taken)


def _from_over(over: Sequence[tuple[int, int, Holder]]) -> Iterable[tuple[int, Holder, str]]:
    for size, claim, holder in over:
        yield size, holder, f"holds {format_size(size)} more than its claim of {format_size(claim)}"


def _from_cold(holders: Sequence[Holder]) -> Iterable[tuple[int, Holder, str]]:
    """The coldest first. What a balloon on its way brings is not taken a second time."""
    gaps = [(holder.resident - holder.demand.want, holder) for holder in holders if _is_calm(holder)]
    for gap, holder in sorted(gaps, key=lambda each: (-each[0], each[1].guest.uuid)):
        if gap >= COLD_LEAST:
            wants = format_size(holder.demand.want)
            yield gap, holder, f"wants {wants} and holds {format_size(gap)} more than that"


def _is_calm(holder: Holder) -> bool:
    """Whether what it wants is known, and it waits for nothing."""
    demand, cgroup = holder.demand, holder.guest.cgroup
    waits = (
        cgroup is not None and cgroup.pressure is not None and cgroup.pressure.some_avg10 > PRESSURE_ORANGE
    )
    suffers = demand.in_distress or demand.squeezed or waits
    at_rest = holder.follows and holder.target == holder.guest.actual
    return at_rest and demand.trust is Trust.FRESH and not suffers


def _limits(
    over: Sequence[tuple[int, int, Holder]], limits: Iterable[LimitSoftly], host: Host
) -> tuple[LimitSoftly, ...]:
    """A limit for each that has none, at its claim, but no further below what it holds than swap has room for:
    what can't go there would be QEMU's own program."""
    known = {limit.uuid for limit in limits}
    free, made = host.swap_free, []
    for size, claim, holder in over:
        goes = min(size, holder.swap_room(free))
        if holder.guest.uuid in known or goes < LEAST:
            continue
        free -= goes
        words = f"holds {format_size(size)} more than its claim of {format_size(claim)}, and the host is red"
        limit = LimitSoftly(
            uuid=holder.guest.uuid,
            name=holder.guest.name,
            limit=holder.resident - goes + holder.demand.overhead,
            words=words,
            incarnation=holder.guest.incarnation,
        )
        made.append(limit)
    return tuple(made)


def _lift(limit: LimitSoftly) -> LimitSoftly:
    words = "the host is better, its balloon follows again, or it was started anew or is gone"
    return replace(limit, limit=None, words=words)
