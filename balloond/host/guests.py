"""What are the guests doing, and how are their balloons moved?

The daemon's side of libvirt. Each tick: one bulk call for all figures, a look at some definitions and jobs;
then each action by itself. Every call has a deadline, and a guest that makes one pass it costs a restart of the
connection's process, not the loop and not the other guests. This module must never import libvirt, never wait
longer than it was told to, and never raise for anything that libvirt, its daemon or a guest does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from balloond.diagnosis.traits import Definition
from balloond.host.definitions import definition_of, kvm_in
from balloond.host.domain_xml import BrokenXmlError, read_facts
from balloond.host.link import DownError, HungError, LibvirtError, Link
from balloond.host.periods import Note, Periods
from balloond.host.qemu_pids import RUN_DIRECTORY, find_pid
from balloond.host.quarantine import Quarantine
from balloond.host.readings import Row, refusal, row_of
from balloond.host.roster import Known, Roster
from balloond.log import Log
from balloond.model import Fault, FaultKind, Guest, Outcome, Result, SetTarget, State
from balloond.units import KIB

BULK_SHARE: Final = 0.6
"""Of the time for observing that the bulk call may take: a restart (0.1 s) and a careful reading still fit."""

CAREFUL_S: Final = 60.0
"""For so long after a bulk call hung guests are read one by one, which shows who hangs and spares the others."""

BLOCK_EVERY_S: Final = 10.0
"""Disk figures cost another monitor command a guest, and missing page cache shows over minutes."""

DEFINITIONS_EVERY_S: Final = (
    60.0  # a definition can change without an event: a libvirt that knows fewer of them
)
DEFINITIONS_A_TICK: Final = 8  # beside those never read; 0.5 ms each
JOBS_A_TICK: Final = 64  # 0.1 ms each; and the action itself looks again

PERIOD_RETRY_S: Final = 60.0  # a guest that refuses its period now may have none to set; ask rarely
RESTORE_S: Final = 1.0  # for one guest, at exit

PATIENCE_S: Final = 0.25
"""A guest that was given less time to answer did not hang: the time was over. A monitor takes 2 ms."""

_WAKING: Final = ("started", "stopped", "paused", "resumed", "reboot", "job-completed", "balloon")

MOVING_S: Final = 10.0
"""So long after a target was set a balloon's size is asked of QEMU itself. libvirt's own figure follows once a
second (BALLOON_CHANGE is rate-limited), which would keep whoever waits for the memory waiting."""


class Guests:
    """The guests of one libvirt connection. Not for use by two threads."""

    def __init__(
        self,
        *,
        uri: str,
        period_s: float,
        state_directory: Path | str,
        now: Callable[[], float] = time.monotonic,
        log: Log | None = None,
        run_directory: Path = RUN_DIRECTORY,
        read_only: bool = False,
    ) -> None:
        """`period_s` is the statistics period for guests that have none, in whole seconds at the least 1.
        `read_only`: over a connection that can change nothing."""
        self._period_s = max(1, round(period_s))
        self._uri = uri
        self._now = now
        self._log = log or Log()
        self._run_directory = run_directory
        self._link = Link(uri, now, read_only=read_only)
        self._roster = Roster()
        self._quarantine = Quarantine()
        self._periods = Periods(Path(state_directory))
        self._careful_until = self._blocks_at = float("-inf")
        self._connections_seen = 0
        self._jobs_from = 0
        self._read_after = ""  # the UUID after which reading one by one goes on
        self._period_notes_fail = False

    # --- observing ---

    def observe(
        self,
        deadline_s: float,
        *,
        active: bool,
        managed: Callable[[str, str, str], bool] = lambda uuid, name, title: True,
    ) -> tuple[tuple[Guest, ...] | None, tuple[Fault, ...]]:
        """The active guests in UUID order, and what could not be read; None: there is no list.

        Returns within `deadline_s` and the 0.1 s that a kill may take. With `active`, guests without
        statistics for which `managed` (of UUID, name, title) holds are given a period.
        """
        until = self._now() + deadline_s
        kills = self._link.kills
        try:
            self._connect(until)
            self._heed_events()
            rows = self._read(until)
        except DownError as down:
            return None, (self._fault(FaultKind.LIBVIRT_DOWN, str(down)),)
        except HungError as hung:
            return None, (self._fault(FaultKind.LIBVIRT_SLOW, str(hung)),)
        left_out = self._quarantine.inside(self._now())
        self._roster.update(rows, left_out, self._now())
        self._find_processes()
        try:
            self._heed_events()  # those that came with the answers, before definitions are read
            self._look(until)
            self._strike_the_unreadable(since=kills)
            if active:
                self._ask_for_statistics(until, managed)
        except (DownError, HungError, LibvirtError) as failed:
            self._log.debug("libvirt was not asked everything", why=str(failed))  # the figures are there
        guests, faults = self._roster.guests()
        if self._link.kills > kills:
            faults = (self._fault(FaultKind.LIBVIRT_SLOW, "a call passed its deadline"), *faults)
        return guests, faults

    @property
    def qemu_pids(self) -> dict[str, int]:
        """The process of each guest that was last observed, by UUID; those that can't be told are left out."""
        return {known.row.uuid: known.pid for known in self._roster if known.pid is not None}

    def hypervisor(self, deadline_s: float) -> tuple[int, int, int] | None:
        """QEMU's version, as libvirt found it; None when it does not say."""
        try:
            version = int(self._link.call("version", self._now() + deadline_s))
        except (DownError, HungError, LibvirtError) as failed:
            self._log.debug("libvirt does not tell the hypervisor's version", why=str(failed))
            return None
        return version // 1_000_000, version // 1_000 % 1_000, version % 1_000

    def kvm_runs(self, deadline_s: float) -> tuple[str, ...]:
        """The architectures of guests that KVM runs on this host, as libvirt names them; none when it does not
        say."""
        try:
            return kvm_in(str(self._link.call("capabilities", self._now() + deadline_s)))
        except (DownError, HungError, LibvirtError) as failed:
            self._log.debug("libvirt does not tell what it can run", why=str(failed))
            return ()

    def definitions(self, deadline_s: float) -> tuple[tuple[Definition, ...], str]:
        """As what every guest, running or not, will be started the next time, and why some are missing; empty:
        none is. For a diagnosis, not for a tick."""
        until = self._now() + deadline_s
        found: list[Definition] = []
        try:
            self._connect(until)
            for part in self._link.parts("definitions", until, lambda: until):
                uuid, name, stored, xml = part
                found.append(definition_of(uuid, name, xml, stored=stored))
        except (DownError, HungError, LibvirtError) as failed:
            return tuple(found), str(failed)
        return tuple(found), ""

    def _read(self, until: float) -> list[Row]:
        """A row for each active guest. Raises DownError or HungError when there is not even a list."""
        now = self._now()
        left_out = self._quarantine.inside(now)
        block = now - self._blocks_at >= BLOCK_EVERY_S
        if block:
            self._blocks_at = now
        if now >= self._careful_until and not self._quarantine.suspects(now):
            try:
                bulk_until = now + BULK_SHARE * (until - now)
                answers = self._link.call("read", bulk_until, block=block, **{"except": sorted(left_out)})
                return [row_of(answer) for answer in answers]
            except HungError:
                self._careful_until = self._now() + CAREFUL_S
                self._log.warning("libvirt's bulk call hung; guests are read one by one", for_s=CAREFUL_S)
                self._connect(until)
            except LibvirtError as refused:  # one guest that stops meanwhile can fail the whole call
                self._log.debug("libvirt refused the bulk call", why=refused.text)
        return self._read_each(until, block, left_out)

    def _read_each(self, until: float, block: bool, left_out: frozenset[str]) -> list[Row]:
        """One by one; a guest that hangs costs itself alone. Who could not be read has a row without fields."""
        listed: dict[str, Row] = {}
        read: dict[str, Row] = {}
        skipped = set(left_out)
        while True:
            asked: str | None = None
            request = {"block": block, "after": self._read_after, "except": sorted(skipped | read.keys())}
            try:
                for part in self._link.parts("read_each", until, self._half_until(until), **request):
                    match part:
                        case ["asking", asked]:
                            pass
                        case ["answer", *answer]:
                            row = row_of(answer)
                            read[row.uuid] = row
                        case ["refused", uuid, _code, _domain, text]:
                            self._log.debug("libvirt refused a guest's figures", uuid=uuid, why=text)
                        case _:
                            listed = {uuid: row_of([uuid, name, number, None]) for uuid, name, number in part}
                self._read_after = ""
                break
            except HungError as hung:
                if not listed:
                    raise
                if asked is not None:
                    skipped.add(asked)
                    self._blame(asked, hung)
                if until - self._now() < PATIENCE_S:
                    self._read_after = asked or ""  # the others come first next time
                    break
                self._connect(until)
            except LibvirtError as refused:  # listing itself failed
                raise DownError(refused.text) from None
            except DownError:
                if not listed:
                    raise
                break
        return [read.get(uuid, row) for uuid, row in listed.items()]

    def _look(self, until: float) -> None:
        """Definitions that are due, and jobs, of as many guests as a tick has time for."""
        request = self._due()
        while request and until - self._now() >= PATIENCE_S:
            asked = ""
            try:
                for part in self._link.parts("look", until, self._half_until(until), guests=request):
                    match part:
                        case ["asking", str(asked)]:
                            pass
                        case ["answer", uuid, job, xml, size, error]:
                            self._take_look(uuid, job, xml, size, error)
                return
            except HungError as hung:
                if not asked:
                    raise
                self._blame(asked, hung)
                self._connect(until)
                request = [item for item in request if item[0] > asked]  # it is in the order of UUIDs

    def _due(self) -> list[tuple[str, bool, bool, bool]]:
        """Whom to look at, whether for the definition, for a job, and for the size of a balloon that moves.

        Definitions never read come first, then the oldest. Jobs are looked at in turn. A guest that was not
        read just now isn't asked for its job: libvirt would wait for its monitor (seen with 9.0), while the
        definition comes at once.
        """
        now = self._now()
        unread = [known for known in self._roster if known.facts is None and not known.broken]
        readable = [known for known in self._roster if known.row.is_full]
        old = [
            known for known in readable if now - known.read_s >= DEFINITIONS_EVERY_S and known not in unread
        ]
        old.sort(key=lambda known: known.read_s)
        definitions = {known.row.uuid for known in unread + old[:DEFINITIONS_A_TICK]}
        count = min(len(readable), JOBS_A_TICK)
        jobs = {known.row.uuid for known in islice(cycle(readable), self._jobs_from, self._jobs_from + count)}
        self._jobs_from = (self._jobs_from + count) % max(len(readable), 1)
        moving = {known.row.uuid for known in readable if now < known.moving_until_s}
        return [
            (uuid, uuid in definitions, uuid in jobs, uuid in moving)
            for uuid in sorted(definitions | jobs | moving)
        ]

    def _take_look(
        self,
        uuid: str,
        job: int | None,
        xml: str | None,
        size_kib: int | None,
        error: Sequence[object] | None,
    ) -> None:
        known = self._roster.get(uuid)
        if known is None:
            return
        if job is not None:
            known.job = job
        if xml is not None:
            self._roster.learn(uuid, xml, self._now())
        if size_kib is not None:
            known.resize(size_kib)
        if error is not None:  # most likely it has just gone; if not, the next look tells
            self._log.debug("libvirt refused a look at a guest", uuid=uuid, why=str(error[-1]))

    def _half_until(self, until: float) -> Callable[[], float]:
        """Half of the time that is left, for whoever is asked next: the others need theirs."""
        return lambda: self._now() + (until - self._now()) / 2

    def _find_processes(self) -> None:
        for known in self._roster:
            if known.pid is None:
                known.pid = find_pid(known.row.uuid, known.row.name, self._run_directory)

    # --- statistics periods ---

    def _ask_for_statistics(self, until: float, managed: Callable[[str, str, str], bool]) -> None:
        """Gives a period to guests that have none; what was there before is on disk first."""
        self._forget_stale_notes()
        silent = [known for known in self._roster if self._needs_period(known, managed)]
        if not silent or not self._note_periods(silent):
            return
        for known in silent:
            uuid, period_s = known.row.uuid, self._period_s
            if until - self._now() < PATIENCE_S:
                return  # the others' turn comes in the next tick
            try:
                self._link.call("period", self._half_until(until)(), uuid=uuid, period_s=period_s)
                self._set_facts_period(known)
            except LibvirtError as refused:
                known.period_retry_s = self._now() + PERIOD_RETRY_S
                self._log.warning(
                    "a guest's statistics can't be turned on", guest=known.row.name, why=refused.text
                )
            except HungError as hung:
                known.period_retry_s = self._now() + PERIOD_RETRY_S
                self._blame(uuid, hung)
                self._connect(until)

    def _needs_period(self, known: Known, managed: Callable[[str, str, str], bool]) -> bool:
        facts, note = known.facts, self._periods.notes.get(known.row.uuid)
        if facts is None or facts.obstacle is not None or not known.row.is_full or known.job:
            return False
        ours = note is not None and facts.statistics_period_s == note.put
        return (
            (facts.statistics_period_s == 0 or (ours and facts.statistics_period_s != self._period_s))
            and known.row.state is State.RUNNING
            and self._now() >= known.period_retry_s
            and managed(known.row.uuid, known.row.name, facts.title)
        )

    def _note_periods(self, silent: Iterable[Known]) -> bool:
        notes = self._periods.notes
        fresh = {
            uuid: Note(was=notes[uuid].was if uuid in notes else 0, put=self._period_s)
            for uuid in (known.row.uuid for known in silent)
        }
        try:
            self._periods.note(fresh)
        except OSError as failed:
            if not self._period_notes_fail:
                self._log.warning("statistics are not turned on: it can't be noted", why=str(failed))
            self._period_notes_fail = True
            return False
        self._period_notes_fail = False
        return True

    def _forget_stale_notes(self) -> None:
        """Of guests that are gone, and of those whose operator has since chosen a period."""
        stale = set()
        for uuid, note in self._periods.notes.items():
            known = self._roster.get(uuid)
            facts = known.facts if known is not None else None
            if known is None or (facts is not None and facts.statistics_period_s not in (0, note.put)):
                stale.add(uuid)
        self._drop_notes(stale)

    def _drop_notes(self, uuids: set[str]) -> None:
        try:
            self._periods.drop(uuids)
        except OSError as failed:  # a note too many is harmless: it is compared with what is there
            self._log.debug("notes of statistics periods can't be written", why=str(failed))

    def _set_facts_period(self, known: Known) -> None:
        if known.facts is not None:
            known.facts = replace(known.facts, statistics_period_s=self._period_s)

    def restore_periods(self, deadline_s: float) -> None:
        """Puts back every period that we, or a daemon before us, set and nobody changed since.

        What can't be put back now stays noted, for the next daemon.
        """
        until = self._now() + deadline_s
        restored = set()
        for uuid, note in tuple(self._periods.notes.items()):
            try:
                self._connect(until)
                self._restore_period(uuid, note, min(until, self._now() + RESTORE_S))
                restored.add(uuid)
            except LibvirtError as refused:  # gone, most likely
                restored.add(uuid)
                self._log.debug("a statistics period was not put back", uuid=uuid, why=refused.text)
            except (HungError, DownError) as failed:
                self._log.warning("a statistics period was not put back", uuid=uuid, why=str(failed))
        self._drop_notes(restored)

    def _restore_period(self, uuid: str, note: Note, until: float) -> None:
        """Raises what a call does."""
        parts = list(self._link.parts("look", until, lambda: until, guests=[[uuid, True, False, False]]))
        match parts[-1]:
            case ["answer", _, _, str(xml), *_] if _period_in(xml) == note.put:
                self._link.call("period", until, uuid=uuid, period_s=note.was)
            case ["answer", *_, [code, domain, text]]:
                raise LibvirtError(code, domain, text)

    # --- acting ---

    def set_target(self, action: SetTarget, deadline_s: float) -> Outcome:
        """Asks one guest's balloon for its target; the outcome says whether libvirt took it, not whether it
        moves."""
        started = self._now()
        result, detail = self._set(action, started + deadline_s)
        return Outcome(action=action, result=result, detail=detail, took_s=self._now() - started)

    def _set(self, action: SetTarget, until: float) -> tuple[Result, str]:
        known = self._roster.get(action.uuid)
        if known is None:
            return Result.GONE, "not among the guests that were last seen"
        if known.trouble:
            return Result.BUSY, known.trouble  # a call would only hang
        try:
            self._connect(until)
            answer = self._link.call("set", until, uuid=action.uuid, kib=action.target // KIB)
        except DownError as down:
            return Result.UNREACHABLE, str(down)
        except HungError as hung:
            self._blame(action.uuid, hung)
            known.trouble = "its monitor did not answer"
            return Result.TIMED_OUT, f"no answer within {hung.waited_s:.1f} s"
        except LibvirtError as refused:
            return refusal(refused, active=True)
        match answer:
            case {"job": job}:
                known.job = job
                return Result.BUSY, "a job holds it (migration, save, dump, snapshot or backup)"
            case {"error": [code, domain, text], "active": running}:
                return refusal(LibvirtError(code, domain, text), active=bool(running))
        known.moving_until_s = self._now() + MOVING_S
        return Result.DONE, ""

    # --- events ---

    def fileno(self) -> int:
        """Readable when `drain_events` has something to do; -1: nothing to wait for. Ask before each wait."""
        return self._link.fileno()

    def drain_events(self) -> bool:
        """Takes in what is waiting; True when the loop should look at once, rather than at its next turn."""
        connected = self._link.connected
        try:
            waking = self._heed_events()
        except DownError:
            return False
        return waking or self._link.connected != connected

    def _heed_events(self) -> bool:
        events = self._link.take_events()
        for event in events:
            self._roster.heed(event, self._now())
        return any(event.kind in _WAKING for event in events)

    # --- the connection ---

    def _connect(self, until: float) -> None:
        self._link.connect(until)
        if self._link.connections > self._connections_seen:
            self._connections_seen = self._link.connections
            self._roster.suspect_everything()

    def _fault(self, kind: FaultKind, detail: str) -> Fault:
        return Fault(kind=kind, subject=self._uri, detail=detail)

    # --- guests that hang ---

    def _strike_the_unreadable(self, since: int) -> None:
        """After a bulk call hung, libvirt skips the guest that it still waits for: that one it was."""
        if self._link.kills == since or self._now() >= self._careful_until:
            return
        suspects = self._quarantine.suspects(self._now())
        for known in self._roster:
            skipped = known.row.fields is not None and not known.row.is_full and not known.job
            if skipped and known.row.state is State.RUNNING and known.row.uuid not in suspects:
                self._strike(known.row.uuid)

    def _blame(self, uuid: str, hung: HungError) -> None:
        if hung.waited_s >= PATIENCE_S:
            self._strike(uuid)

    def _strike(self, uuid: str) -> None:
        known = self._roster.get(uuid)
        pause_s = self._quarantine.strike(uuid, self._now())
        self._log.warning(
            "a guest's monitor did not answer in time",
            guest=known.row.name if known else uuid,
            left_out_for_s=pause_s or None,
        )

    # --- the rest ---

    @property
    def child_pid(self) -> int | None:
        """The process that holds the connection."""
        return self._link.pid

    def close(self) -> None:
        self._link.close()


def _period_in(xml: str) -> int | None:
    try:
        return read_facts(xml).statistics_period_s
    except BrokenXmlError:
        return None
