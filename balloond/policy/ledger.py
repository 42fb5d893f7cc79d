"""Where is the pool's memory, and how much of it may still be promised?

    committed + own + reserve <= total        the ledger, with committed = sum over guests of what each may touch

A guest may touch the larger of what it has and what it was asked to take; a target below `actual` frees nothing
until `actual` has fallen. Growth is paid from `headroom`, which is no more than the ledger's room and no more
than what is available on the host at this instant. Built from what is seen, never from what was remembered.

What merging saves is a loan: any guest's write calls it back. So all of it is held back: guests are committed as
if nothing were merged, and of what is available so much is none of the headroom.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Final

from balloond.model import Guest, Host, Ledger, Obstacle
from balloond.value import value

SET_ASIDE: Final = frozenset({Obstacle.HUGEPAGES})
"""Such a guest's memory counts as the host's own already."""

PINNED: Final = frozenset({Obstacle.LOCKED, Obstacle.PASSTHROUGH, Obstacle.CONFIDENTIAL})

OWN_DECAY_S: Final = 1800.0
"""The host's own use counts at its recent peak, forgotten over half an hour: a backup job comes again."""


@value
class Stake:
    """What one guest may touch of the pool, in bytes."""

    guest: Guest
    target: int | None  # the most that its device was told and has not reached; None or 0: nothing
    overhead: int  # of its QEMU process
    heard: bool  # False: its balloon may be used, but nothing was heard of it for long

    @property
    def committed(self) -> int:
        guest = self.guest
        if not guest.in_pool:
            return 0
        if guest.obstacle in SET_ASIDE:
            return guest.rss or 0
        memory = guest.actual
        if self.target is not None and self.target > memory:
            memory = self.target
        if self._may_return() and guest.maximum > memory:
            memory = guest.maximum
        return max(memory + self.overhead, guest.rss or 0)

    def _may_return(self) -> bool:
        """Whether nobody can say that it keeps to its balloon: pinned, or not heard of for long."""
        return not self.heard or self.guest.obstacle in PINNED


@value
class Own:
    """The memory of the host's own use."""

    peak: float
    seen_s: float
    total: int  # of the pool that this is said of


def own_use(before: Own | None, host: Host, guests: Sequence[Guest], now_s: float) -> Own:
    """What the host itself uses: neither available nor resident in a guest. A merged page stands in the resident
    size of every guest that shares it, and takes memory only once; so do the pages of QEMU's program."""
    resident = sum(g.rss - g.program if g.rss is not None else g.actual for g in guests if g.in_pool)
    merged = host.ksm.counted_twice if host.ksm else 0
    now = max(0.0, float(host.total - host.available - resident + merged))
    if before is None or before.total != host.total:  # another pool: what was known is of no use
        return Own(peak=now, seen_s=now_s, total=host.total)
    keep = exp(-max(0.0, now_s - before.seen_s) / OWN_DECAY_S)
    return Own(peak=max(now, now + (before.peak - now) * keep), seen_s=now_s, total=host.total)


def account(
    host: Host, stakes: Sequence[Stake], own: Own, *, reserve: int, pool: int, guaranteed: int
) -> Ledger:
    """The ledger now; all in bytes."""
    committed = sum(stake.committed for stake in stakes)
    room = host.total - int(own.peak) - reserve - committed
    loan = host.ksm.saved if host.ksm else 0
    return Ledger(
        total=host.total,
        available=host.available,
        own=int(own.peak),
        reserve=reserve,
        pool=pool,
        committed=committed,
        headroom=min(room, host.available - reserve - loan),
        guaranteed=guaranteed,
        covered=room >= 0,
        loan=loan,
    )
