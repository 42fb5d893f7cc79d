"""What may a peer see, and what does it answer?

The peers' rules are arithmetic on arrays with one row a host and one column a guest, so that all hosts of a trace
are computed at once; a Snapshot is seen as one row. Nothing is shown that the Snapshot does not hold: a peer must
never know more than balloond does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from balloond.model import Guest, Snapshot

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """Hosts and guests at one instant, in bytes; hosts' columns are [host, 1], guests' [host, guest]."""

    now_s: float
    total: Array  # [host, 1]
    available: Array  # [host, 1], to be had without swapping
    maximum: Array
    actual: Array
    unused: Array  # touched by nobody in the guest
    usable: Array  # to be had in the guest without swapping
    caches: Array


class Peer(Protocol):
    """One peer's rules over some hosts; it may remember what it saw."""

    def targets(self, sight: Sight) -> Array:
        """What each guest is to have, in bytes [host, guest]; where nothing is asked, what it was last told."""


def see(snapshot: Snapshot) -> Sight | None:
    """A snapshot as peers see it; None where host or guests can't be read, and peers do nothing then.

    A guest that reports nothing is seen as using all that it has, which is what the peers' programs do."""
    host, guests = snapshot.host, snapshot.guests
    if host is None or not guests:
        return None
    said = [_said(guest) for guest in guests]
    return Sight(
        now_s=snapshot.monotonic_s,
        total=np.array([[float(host.total)]]),
        available=np.array([[float(host.available)]]),
        maximum=np.array([[float(guest.maximum) for guest in guests]]),
        actual=np.array([[float(guest.actual) for guest in guests]]),
        unused=np.array([[float(unused) for unused, _, _ in said]]),
        usable=np.array([[float(usable) for _, usable, _ in said]]),
        caches=np.array([[float(caches) for _, _, caches in said]]),
    )


def _said(guest: Guest) -> tuple[int, int, int]:
    """Unused, usable and caches. No peer checks what a guest says, so neither is it done here."""
    statistics = guest.statistics
    if statistics is None:
        return 0, 0, 0
    unused = statistics.untrusted_unused or 0
    usable = statistics.untrusted_usable
    return unused, unused if usable is None else usable, statistics.untrusted_caches or 0


class Clock:
    """Says when a peer's own period is over. On steps that its period is no multiple of it acts at the first
    step after each due time: every 15 s on steps of 10 s are turns of 20 s and 10 s."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._turn = 0.0

    def due(self, now_s: float) -> bool:
        turn = now_s // self._period_s
        if turn <= self._turn:
            return False
        self._turn = turn
        return True
