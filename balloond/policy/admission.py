"""May a guest of that size start?

Yes, where the host stays solvent with it, its guarantee can be honoured beside the others', and the host is not
short of memory right now. It must never say yes for want of knowledge.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from balloond.model import Decision, FaultKind, GuestClaim, Held, Host, Rung, Snapshot, Solvency
from balloond.policy.solvency import most
from balloond.value import value


class Objection(enum.StrEnum):
    """Why not."""

    UNKNOWN = "unknown"  # the host's figures or the guests are lost, or not all limits on them are known
    SHORT = "host-short"  # the rung is orange or worse
    MEMORY = "memory-missing"  # what can't be swapped would not fit into memory
    SWAP = "swap-missing"  # the host would not be solvent
    GUARANTEE = "guarantee"  # not all guarantees would fit into memory
    HUGE_PAGES = "hugepages-missing"  # too few are set aside and free


@value
class Asked:
    """A guest that does not exist yet; bytes."""

    size: int
    held: Held
    guarantee: int
    overhead: int  # of its QEMU process


@value
class Refusal:
    objection: Objection
    missing: int | None  # bytes; None: that is no matter of so many bytes


@value
class Admission:
    """The answer. `spare`: memory and swap that would be left; negative: missing; None: not known."""

    refusals: tuple[Refusal, ...]
    spare: int | None

    @property
    def admitted(self) -> bool:
        return not self.refusals


_IN_DOUBT: Final = (FaultKind.POOL_DIVIDED, FaultKind.KERNEL_UNREADABLE)
"""Faults with which there may be limits that the sum over all guests says nothing of."""


def admit(decision: Decision, snapshot: Snapshot, asked: Asked) -> Admission:
    """Whether the guest may start now, beside those that are there, each taken for the most that it may take."""
    before, host = decision.solvency, snapshot.host
    if before is None or host is None or any(fault.kind in _IN_DOUBT for fault in snapshot.faults):
        return Admission(refusals=(Refusal(objection=Objection.UNKNOWN, missing=None),), spare=None)
    after = _with(before, asked)
    refusals = tuple(_refusals(decision, before, after, host, asked))
    return Admission(refusals=refusals, spare=after.spare)


def _refusals(
    decision: Decision, before: Solvency, after: Solvency, host: Host, asked: Asked
) -> Iterator[Refusal]:
    if decision.rung >= Rung.ORANGE:
        yield Refusal(objection=Objection.SHORT, missing=None)
    if asked.held is Held.HUGEPAGES and host.huge_free < asked.size:
        yield Refusal(objection=Objection.HUGE_PAGES, missing=asked.size - host.huge_free)
    if after.memory_missing:
        yield Refusal(objection=Objection.MEMORY, missing=after.memory_missing)
    if after.swap_missing:
        yield Refusal(objection=Objection.SWAP, missing=after.swap_missing)
    promised = sum(_promised(decision, before)) + _firm(asked) + after.own + after.reserve
    if promised > after.memory and not after.memory_missing:
        yield Refusal(objection=Objection.GUARANTEE, missing=promised - after.memory)


def _with(before: Solvency, asked: Asked) -> Solvency:
    memory = 0 if asked.held is Held.HUGEPAGES else asked.size
    size = most(memory, asked.overhead)
    claim = GuestClaim(uuid="", held=asked.held, size=size, pinned=0 if asked.held.swappable else size)
    return Solvency(
        memory=before.memory,
        swap=before.swap,
        own=before.own,
        reserve=before.reserve,
        claims=(*before.claims, claim),
        claimed=before.claimed + claim.size,
        unswappable=before.unswappable + claim.pinned,
        swap_withheld=before.swap_withheld,
        zram=before.zram,
        zram_beyond=before.zram_beyond,
    )


def _promised(decision: Decision, before: Solvency) -> Iterator[int]:
    """What each guest keeps in memory for certain: all that can't be swapped, else its guarantee."""
    guarantees = {v.uuid: v.demand.guarantee for v in decision.verdicts if v.demand is not None}
    for claim in before.claims:
        yield max(guarantees.get(claim.uuid, 0), claim.pinned) if claim.held.swappable else claim.size


def _firm(asked: Asked) -> int:
    if asked.held.swappable:
        return min(asked.guarantee, asked.size) + asked.overhead
    return asked.overhead if asked.held is Held.HUGEPAGES else most(asked.size, asked.overhead)
