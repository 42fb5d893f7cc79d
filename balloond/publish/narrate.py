"""What does the log say of a tick?

One line an action with its reason, one warning when a condition begins and one when it ends, and one line a
tick at debug. A condition that lasts is not repeated, and a guest that refuses again and again is told of
once: at 3 a.m. the log is to be read, not searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from balloond.log import Level, Log
from balloond.model import (
    FaultKind,
    LimitSoftly,
    Measured,
    MergingVerdict,
    Outcome,
    Reason,
    Reclaim,
    Result,
    Rung,
    SetMerging,
    SetTarget,
    Stance,
    Tick,
    Trust,
    Verdict,
)
from balloond.units import format_size

OBSERVED_STEP: Final = 0.1
"""In mode observe the same action is decided at each tick; it is told again when its target moved so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that lasts; told of when it begins and when it ends."""

    begins: str
    ends: str
    fields: tuple[tuple[str, str], ...] = ()
    needs_sight: bool = False  # it can't be seen to end while guests or the host's figures are lost


_Key = tuple[str, str]  # which condition, of whom
_MUTE: Final = (Trust.SILENT, Trust.ABSENT, Trust.LYING)


class Narrator:
    """A publisher of ticks into the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._standing: dict[_Key, Condition] = {}
        self._names: dict[str, str] | None = None
        self._told: dict[str, tuple[Result, str, SetTarget]] = {}  # the last outcome told of each guest
        self._relieved: dict[_Key, Condition] = {}  # guests whose memory the kernel was asked to take
        self._merging: tuple[Stance, str] | None = None  # the last stance told, and why

    def publish(self, tick: Tick) -> None:
        self._arrivals(tick)
        for outcome in tick.outcomes:
            self._outcome(outcome)
        if tick.decision.merging is not None:
            self._stance(tick.decision.merging)
        self._conditions(tick)
        self._log.debug(
            "tick",
            number=tick.number,
            rung=tick.decision.rung.name.lower(),
            guests="unknown" if tick.snapshot.guests is None else len(tick.snapshot.guests),
            headroom=tick.decision.ledger and format_size(tick.decision.ledger.headroom),
            actions=len(tick.outcomes),
            faults=len(tick.snapshot.faults),
        )

    def _arrivals(self, tick: Tick) -> None:
        if tick.snapshot.guests is None:
            return
        names = {guest.uuid: guest.name for guest in tick.snapshot.guests}
        if self._names is None:
            self._log.info("guests found", count=len(names))
        else:
            for uuid in names.keys() - self._names.keys():
                self._log.info("guest arrived", guest=names[uuid], uuid=uuid)
            for uuid in self._names.keys() - names.keys():
                self._log.info("guest gone", guest=self._names[uuid], uuid=uuid)
                self._told.pop(uuid, None)
        self._names = names

    def _outcome(self, outcome: Outcome) -> None:
        action = outcome.action
        before = self._told.get(action.uuid)
        self._told[action.uuid] = (outcome.result, outcome.detail, action)
        level = Level.INFO
        match outcome.result:
            case Result.DONE:
                pass
            case Result.OBSERVED:
                if before and not _news(before[2], action):
                    self._told[action.uuid] = before
                    level = Level.DEBUG
            case _:
                repeated = before is not None and before[:2] == (outcome.result, outcome.detail)
                level = Level.DEBUG if repeated else Level.WARNING
        self._log.write(
            level,
            "guest grows" if action.target > action.actual else "guest shrinks",
            guest=action.name,
            uuid=action.uuid,
            actual=format_size(action.actual),
            target=format_size(action.target),
            reason=action.reason.value,
            result=outcome.result.value,
            words=action.words,
            detail=outcome.detail or None,
        )

    def _stance(self, merging: MergingVerdict) -> None:
        """One line when merging begins, stops, or changes its pace with the rung. Being left alone is no news."""
        now = (merging.stance, merging.words if merging.stance is Stance.MERGING else "")
        if self._merging is None and merging.stance is Stance.LEFT:
            self._merging = now
        if now == self._merging:
            return
        self._merging = now
        self._log.info("merging", mode=merging.mode, stance=merging.stance.value, words=merging.words)

    def _conditions(self, tick: Tick) -> None:
        self._relieve(tick)
        now = _conditions_of(tick) | self._relieved
        if tick.snapshot.guests is None or tick.decision.ledger is None:  # what held is taken to hold still
            now |= {key: condition for key, condition in self._standing.items() if condition.needs_sight}
        for key in sorted(now.keys() - self._standing.keys()):
            self._log.warning(now[key].begins, **dict(now[key].fields))
        for key in sorted(self._standing.keys() - now.keys()):
            self._log.warning(self._standing[key].ends, **dict(self._standing[key].fields))
        self._standing = now

    def _relieve(self, tick: Tick) -> None:
        """Reclaiming lasts while the host is orange, though not each turn takes; a limit until it goes."""
        if tick.decision.rung < Rung.ORANGE:
            self._relieved = {key: kept for key, kept in self._relieved.items() if key[0] != "reclaim"}
        for measured in tick.measured:
            match measured.measure:
                case Reclaim(uuid=uuid):
                    self._relieved.setdefault(("reclaim", uuid), _relieved(_RECLAIMED, measured))
                case LimitSoftly(uuid=uuid, limit=int()):
                    self._relieved.setdefault(("limit", uuid), _relieved(_LIMITED, measured))
                case LimitSoftly(uuid=uuid) if measured.result in (Result.DONE, Result.OBSERVED):
                    self._relieved.pop(("limit", uuid), None)
                case _:
                    pass
        if tick.snapshot.guests is not None:
            here = {guest.uuid for guest in tick.snapshot.guests}
            self._relieved = {key: kept for key, kept in self._relieved.items() if key[1] in here}


_RECLAIMED: Final = "the host is short; the kernel is asked to swap out memory of the guest"
_LIMITED: Final = "the host is red; the kernel is asked to hold the guest to a soft limit"


def _relieved(begins: str, measured: Measured) -> Condition:
    measure = measured.measure
    assert isinstance(measure, Reclaim | LimitSoftly)  # noqa: S101  (so the caller matched)
    fields = {
        "guest": measure.name,
        "uuid": measure.uuid,
        "words": measure.words,
        "result": measured.result.value,
    }
    fields |= {"detail": measured.detail} if measured.detail else {}
    return Condition(begins=begins, ends=f"over: {begins}", fields=tuple(fields.items()))


def _conditions_of(tick: Tick) -> dict[_Key, Condition]:
    names = {guest.uuid: guest.name for guest in tick.snapshot.guests or ()}
    found = {
        (fault.kind.value, fault.subject): Condition(
            begins=_FAULTS[fault.kind],
            ends=f"over: {_FAULTS[fault.kind]}",
            fields=(
                *((("guest", names[fault.subject]),) if fault.subject in names else ()),
                ("subject", fault.subject),
                ("detail", fault.detail),
            ),
        )
        for fault in tick.snapshot.faults
    }
    for measured in tick.measured:
        if isinstance(measured.measure, SetMerging) and measured.result is Result.REFUSED:
            begins = "the kernel refuses what merging is to be set to; nothing of it is counted on"
            found[begins, ""] = Condition(
                begins=begins, ends=f"over: {begins}", fields=(("detail", measured.detail),)
            )
    for begins, ends in _conditions_of_host(tick):
        found[begins, ""] = Condition(begins=begins, ends=ends, needs_sight=True)
    for verdict in tick.decision.verdicts:
        for begins, ends in _conditions_of_guest(verdict):
            fields = (("guest", verdict.name), ("uuid", verdict.uuid))
            found[begins, verdict.uuid] = Condition(begins=begins, ends=ends, fields=fields, needs_sight=True)
    return found


_FAULTS: Final = {
    FaultKind.LIBVIRT_DOWN: "libvirt does not answer; targets are frozen and the connection is retried",
    FaultKind.LIBVIRT_SLOW: "a call to libvirt passed its deadline",
    FaultKind.GUEST_UNREADABLE: "a guest can't be read; it is left alone",
    FaultKind.KERNEL_UNREADABLE: "the kernel's figures can't be read",
    FaultKind.POOL_DIVIDED: "managed guests stand under different memory limits; only common ones count",
}


def _conditions_of_host(tick: Tick) -> Iterator[tuple[str, str]]:
    rung, ledger, solvency = tick.decision.rung, tick.decision.ledger, tick.decision.solvency
    if rung > Rung.GREEN:
        colour = rung.name.lower()
        yield f"the host's memory is {colour}", f"over: the host's memory was {colour}"
    if ledger is not None and not ledger.covered:
        yield (
            "more is committed to guests than the host can back",
            "over: what is committed to guests is backed again",
        )
    if ledger is not None and ledger.guaranteed + ledger.own + ledger.reserve > ledger.total:
        yield (
            "the host can't honour all guarantees; lower them or move guests away",
            "over: the host can honour all guarantees again",
        )
    if solvency is not None and solvency.memory_missing:
        yield (
            "what can't be swapped may take more than there is memory; balloonctl status says how much",
            "over: memory is enough for all that can't be swapped",
        )
    if solvency is not None and solvency.swap_missing:
        yield (
            "swap would be missing if all guests took their maximum; balloonctl status says how much",
            "over: memory and swap are enough for all guests' maxima",
        )
    merging = tick.decision.merging
    if merging is not None and merging.stance in (Stance.YIELDING, Stance.OVERRULED):
        yield "somebody else sets merging too; it is left to them", "over: nobody else sets merging any more"
    if merging is not None and merging.stance is Stance.OVERRULED:
        yield (
            "GUESTS' PAGES ARE MERGED by somebody else, though the mode is off; stop ksmtuned, MOM or tuned",
            "over: guests' pages were merged by somebody else, though the mode is off",
        )
    if merging is not None and merging.stance is Stance.KEPT and merging.mode == "off":
        yield (
            "merging is off, and what is merged stays so; balloonctl status says why",
            "over: what stayed merged is taken apart",
        )


def _conditions_of_guest(verdict: Verdict) -> Iterator[tuple[str, str]]:
    if verdict.demand is not None and verdict.obstacle is None:
        trust = verdict.demand.trust
        if trust in _MUTE:
            yield (
                f"the guest's statistics are {trust.value}; it is not shrunk",
                f"over: the guest's statistics are no longer {trust.value}",
            )
        if verdict.demand.in_distress:
            yield "the guest is in distress for memory", "over: the guest is in distress no more"
    if verdict.reason is Reason.STUCK:
        yield "the guest's balloon does not move; it is left alone for now", "over: the guest's balloon moves"


def _news(before: SetTarget, now: SetTarget) -> bool:
    moved = abs(now.target - before.target) > OBSERVED_STEP * max(1, before.target)
    turned = (now.target > now.actual) != (before.target > before.actual)
    return moved or turned or now.reason is not before.reason
