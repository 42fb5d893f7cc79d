"""What is remembered of each guest from tick to tick?

libvirt's answers come in pieces: figures each tick, definitions now and then, hints of what happened at any
time, and nothing at all of a guest that hangs. The roster holds the last piece of each kind for each active
guest and makes the model's Guests of them. It must never let go of a guest that is still listed, nor keep
what was learned of a guest that has since been started anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from balloond.host.domain_xml import BrokenXmlError, Facts, read_facts
from balloond.host.link import Event
from balloond.host.readings import Row, guest_of
from balloond.model import Fault, FaultKind, Guest, Obstacle, State
from balloond.units import KIB

ONE_EVENT_S: Final = 2.0
"""A guest's reset was announced three times within this (QEMU 7.2, libvirt 9.0): it is one reset."""

_LONG_AGO: Final = float("-inf")


@dataclass(slots=True, kw_only=True)
class Known:
    """One guest; the one record here that changes. Instants are in seconds of the caller's clock."""

    row: Row
    incarnation: int
    renewed_s: float = _LONG_AGO  # when `incarnation` last changed
    numbers: Mapping[str, int] = field(default_factory=dict)  # the last full answer's, under later ones'
    block_read: int | None = None
    facts: Facts | None = None
    broken: str = ""  # why there are no facts
    read_s: float = _LONG_AGO  # when the definition was last read; long ago: it is due
    job: int = 0
    was_paused: bool = False
    pid: int | None = None
    left_out: bool = False  # in quarantine: not asked at all
    trouble: str = ""  # why it is unreadable; empty: it is not
    moving_until_s: float = _LONG_AGO  # so long its balloon's size is asked of QEMU itself
    period_retry_s: float = _LONG_AGO  # not before then is its statistics period set again

    def resize(self, size_kib: int) -> None:
        """Takes in the balloon's size by QEMU's own word, which leaves virtio-mem out; libvirt's has it in."""
        added = self.facts.virtio_mem_current // KIB if self.facts else 0
        self.numbers = {**self.numbers, "balloon.current": size_kib + added}


class Roster:
    """The active guests by UUID."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._incarnations = 0  # one count for all, so that no two lives ever share a number

    def __iter__(self) -> Iterator[Known]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def get(self, uuid: str) -> Known | None:
        return self._known.get(uuid)

    def update(self, rows: Iterable[Row], left_out: frozenset[str], now_s: float) -> None:
        """Takes in this tick's list. Who is not in it is gone; who has a new ID is another guest."""
        known = {row.uuid: self._continued(row, now_s) for row in rows}
        self._known = dict(sorted(known.items()))
        for uuid, guest in self._known.items():
            guest.left_out = uuid in left_out

    def heed(self, event: Event, now_s: float) -> None:
        """What an event says is only a hint to look again, but for the two that no later look would show."""
        guest = self._known.get(event.uuid)
        if guest is None or event.kind == "balloon":  # its size is read with every look
            return
        if event.kind in ("reboot", "resumed", "started"):
            self._renew(guest, now_s)
            guest.was_paused = False
        guest.read_s = _LONG_AGO

    def suspect_everything(self) -> None:
        """Events may have been missed: every definition is due."""
        for guest in self:
            guest.read_s = _LONG_AGO

    def learn(self, uuid: str, xml: str, now_s: float) -> None:
        """Takes in a guest's definition."""
        guest = self._known.get(uuid)
        if guest is None:
            return
        guest.read_s = now_s
        try:
            guest.facts, guest.broken = read_facts(xml), ""
        except BrokenXmlError as broken:
            guest.facts, guest.broken = None, str(broken)

    def guests(self) -> tuple[tuple[Guest, ...], tuple[Fault, ...]]:
        """All guests in UUID order, and a fault for each that can't be read. Sets `trouble`."""
        guests = tuple(_guest(known) for known in self)
        for guest, known in zip(guests, self, strict=True):
            known.trouble = _trouble(known) if guest.obstacle is Obstacle.UNREADABLE else ""
        faults = tuple(
            Fault(kind=FaultKind.GUEST_UNREADABLE, subject=known.row.uuid, detail=known.trouble)
            for known in self
            if known.trouble
        )
        return guests, faults

    def _continued(self, row: Row, now_s: float) -> Known:
        guest = self._known.get(row.uuid)
        if guest is None or guest.row.domain_id != row.domain_id:
            guest = Known(row=row, incarnation=0)
            self._renew(guest, now_s)
        elif (guest.was_paused and row.state is State.RUNNING) or _fell_silent(guest.numbers, row):
            self._renew(guest, now_s)
        guest.row = row
        if row.fields is not None:
            guest.was_paused = row.state is State.PAUSED or row.state is State.SUSPENDED
            guest.numbers = row.fields if row.is_full else {**guest.numbers, **row.fields}
        if row.block_read is not None:
            guest.block_read = row.block_read
        return guest

    def _renew(self, guest: Known, now_s: float) -> None:
        if now_s - guest.renewed_s > ONE_EVENT_S:
            self._incarnations += 1
            guest.incarnation = self._incarnations
            guest.renewed_s = now_s


def _fell_silent(before: Mapping[str, int], row: Row) -> bool:
    """Newer QEMUs forget a guest's statistics when it is reset, so that a missed event shows here."""
    now = (row.fields or {}).get("balloon.last-update")
    return now == 0 and before.get("balloon.last-update", 0) > 0


def _guest(known: Known) -> Guest:
    return guest_of(
        known.row,
        known.facts,
        numbers=known.numbers,
        job=known.job,
        block_read=known.block_read,
        incarnation=known.incarnation,
    )


def _trouble(known: Known) -> str:
    if known.left_out:
        return "its monitor hung several times; it is left out for a while"
    if known.broken:
        return known.broken
    if known.facts is None:
        return "its definition was not read yet"
    return "its monitor does not answer, or another call holds it"
