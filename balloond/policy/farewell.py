"""How are guests left when the daemon stops?

Nobody will give memory back after that, so what is free now is handed out: first guarantees, then wants, then the
rest by shares. Never more than is free, and never a shrink: the host is left solvent as far as it was.
"""

from __future__ import annotations

from balloond.model import Reason, SetTarget, Tick
from balloond.policy.allocate import Claim, divide
from balloond.policy.pace import BAND_LEAST
from balloond.units import MIB


def farewell(last: Tick) -> tuple[SetTarget, ...]:
    """The targets to set at exit, those that lack most first; empty where nothing is known of the host."""
    ledger = last.decision.ledger
    if ledger is None:
        return ()
    grown = [
        v for v in last.decision.verdicts
        if v.obstacle is None and v.demand is not None and (v.actual < v.demand.ceiling or v.target < v.actual)
    ]  # fmt: skip
    claims = [
        Claim(
            guarantee=v.actual,
            need=max(v.actual, v.demand.guarantee), floor=max(v.actual, v.demand.guarantee),
            want=max(v.actual, v.demand.want),
            ceiling=max(v.actual, v.demand.ceiling), shares=v.memory.policy.shares, busy=1.0,
        )
        for v in grown if v.demand is not None
    ]  # fmt: skip
    pending = sum(max(0, v.target - v.actual) for v in grown)
    room = max(0, ledger.headroom) + pending
    shares = divide(sum(c.guarantee for c in claims) + room, claims)
    pairs = sorted(zip(shares, grown, strict=True), key=lambda pair: pair[1].actual - pair[0])
    return tuple(
        SetTarget(
            uuid=v.uuid, name=v.name, actual=v.actual, target=share // MIB * MIB, reason=Reason.FAREWELL,
            words=f"the daemon stops: left with {share // MIB} MiB",
        )
        for share, v in pairs
        if share - v.actual >= BAND_LEAST or v.target < v.actual
    )  # fmt: skip
