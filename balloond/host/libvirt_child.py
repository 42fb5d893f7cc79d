"""What does libvirt say?

A process of its own, the only one that imports libvirt: a call that hangs, or a library that crashes, is then
ended from outside without harm to the daemon. It holds one connection for as long as it lives, carries out one
request at a time, and decides nothing: no retries, no conversions, no judgement. All of that is its parent's.

It speaks lines of JSON over the socket that is its standard input. At first one of
`{"hello": VERSION}` or `{"down": WHY}`; then for each request any number of `{"part": …}` and exactly one
`{"done": …}` or `{"error": [CODE, DOMAIN, TEXT]}`; and at any time `{"event": [KIND, UUID]}`.

Imports stay lean on purpose: this process is charged to the daemon's memory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

SOCKET = 0
READ_ONLY = "read-only"

CONNECT_S = 20.0
"""Seconds until a connection attempt ends this process; the parent gives up earlier, while it lives."""

KEEPALIVE_S, KEEPALIVE_MISSED = 5, 3
"""A daemon that has been silent for 20 s is taken for dead (seen with libvirt 9.0)."""


def main(uri: str, way: str) -> None:
    """Serves until the parent closes its end, the connection is lost, or a call outlives its alarm.

    `way` is READ_ONLY for a connection that can change nothing.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # meant for the parent, which still needs us to tidy up
    signal.setitimer(signal.ITIMER_REAL, CONNECT_S)
    try:
        import libvirt
    except ImportError as missing:
        leave(f"cannot import libvirt's Python binding: {missing}; is libvirt-python installed?")
    libvirt.registerErrorHandler(lambda *_: None, None)  # errors are returned, not printed
    libvirt.virEventRegisterDefaultImpl()  # before opening, or events and keepalive never work
    try:
        servant = Servant(libvirt, (libvirt.openReadOnly if way == READ_ONLY else libvirt.open)(uri))
    except libvirt.libvirtError as refused:
        leave(f"cannot connect to {uri}: {refused}; is virtqemud or libvirtd running?")
    signal.setitimer(signal.ITIMER_REAL, 0)
    say({"hello": servant.connection.getLibVersion()})
    servant.run()


class Servant:
    """One connection and what is asked of it."""

    def __init__(self, libvirt: Any, connection: Any) -> None:
        self.libvirt = libvirt
        self.connection = connection
        self.pending = b""  # the part of a request that has arrived
        self.operations: dict[str, Callable[[Any], Any]] = {
            "read": self.read,
            "read_each": self.read_each,
            "look": self.look,
            "definitions": self.definitions,
            "set": self.set_memory,
            "period": self.set_period,
            "version": self.version,
            "capabilities": self.capabilities,
        }
        self.register_events()
        libvirt.virEventAddHandle(SOCKET, libvirt.VIR_EVENT_HANDLE_READABLE, self.receive, None)

    def run(self) -> None:
        """Requests are served outside of libvirt's callbacks, so that a bug here ends the process."""
        while True:
            self.libvirt.virEventRunDefaultImpl()
            while b"\n" in self.pending:
                line, self.pending = self.pending.split(b"\n", 1)
                self.serve(json.loads(line))

    def receive(self, *_: object) -> None:
        arrived = os.read(SOCKET, 65536)
        if not arrived:
            os._exit(0)  # the parent is gone
        self.pending += arrived

    def serve(self, request: Any) -> None:
        """The alarm ends us should the call hang after the parent, who keeps the real deadline, was killed."""
        signal.setitimer(signal.ITIMER_REAL, request["alarm_s"])
        try:
            answer = {"done": self.operations[request["op"]](request)}
        except self.libvirt.libvirtError as refused:
            answer = {"error": described(refused)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(answer)

    # --- operations ---

    def read(self, request: Any) -> list[Any]:
        """[UUID, name, domain's ID, statistics] of each active guest in one call; None for those excepted."""
        excepted = set(request["except"])
        groups, nowait = self.groups(request), self.libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        if not excepted:
            active = self.libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
            return [row(*pair) for pair in self.connection.getAllDomainStats(groups, active | nowait)]
        domains = self.active()
        asked = [domain for domain in domains if domain.UUIDString() not in excepted]
        answers = self.connection.domainListGetStats(asked, groups, nowait) if asked else []
        left_out = (domain for domain in domains if domain.UUIDString() in excepted)
        return [row(*pair) for pair in answers] + [row(domain, None) for domain in left_out]

    def read_each(self, request: Any) -> None:
        """The same one by one, each in a part, so that the parent sees which guest does not answer.

        The first part lists who is there, as [UUID, name, ID]; guests in `except` are not asked. The order is
        that of UUIDs, from the one that follows `after`.
        """
        excepted = set(request["except"])
        groups, nowait = self.groups(request), self.libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        domains = self.active()
        domains.sort(key=lambda domain: (domain.UUIDString() <= request["after"], domain.UUIDString()))
        say({"part": [row(domain, None)[:3] for domain in domains]})
        for domain in domains:
            if domain.UUIDString() in excepted:
                continue
            say({"part": ["asking", domain.UUIDString()]})
            try:
                answers = self.connection.domainListGetStats([domain], groups, nowait)
            except self.libvirt.libvirtError as refused:
                say({"part": ["refused", domain.UUIDString(), *described(refused)]})
                continue
            for pair in answers:
                say({"part": ["answer", *row(*pair)]})

    def look(self, request: Any) -> None:
        """For each [UUID, whether its XML, its job, its balloon's size are wanted] a part [UUID, job's type, XML,
        KiB, error]. The size is QEMU's own word: the one in the bulk is refreshed once a second."""
        for uuid, wants_xml, wants_job, wants_size in request["guests"]:
            say({"part": ["asking", uuid]})
            xml = error = job = size = None
            try:
                domain = self.connection.lookupByUUIDString(uuid)
                xml = domain.XMLDesc(0) if wants_xml else None
                job = self.job(domain) if wants_job else None
                size = domain.memoryStats().get("actual") if wants_size else None
            except self.libvirt.libvirtError as refused:
                error = described(refused)
            say({"part": ["answer", uuid, job, xml, size, error]})

    def definitions(self, _request: Any) -> None:
        """For each guest, running or not, a part [UUID, name, whether it is stored, XML] with the definition that
        its next start will take, in the order of UUIDs. Who goes meanwhile is left out. No monitor is asked."""
        domains = sorted(self.connection.listAllDomains(), key=lambda domain: domain.UUIDString())
        for domain in domains:
            try:
                xml = domain.XMLDesc(self.libvirt.VIR_DOMAIN_XML_INACTIVE)
                stored = bool(domain.isPersistent())
            except self.libvirt.libvirtError:
                continue
            say({"part": [domain.UUIDString(), domain.name(), stored, xml]})

    def set_memory(self, request: Any) -> dict[str, Any]:
        """`{"job": TYPE}` when a job holds the guest, else the balloon is told; errors come with `active`."""
        domain = self.connection.lookupByUUIDString(request["uuid"])
        job = self.job(domain)
        if job:
            return {"job": job}
        try:
            domain.setMemoryFlags(request["kib"], self.libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except self.libvirt.libvirtError as refused:
            return {"error": described(refused), "active": self.is_active(domain)}
        return {}

    def set_period(self, request: Any) -> None:
        domain = self.connection.lookupByUUIDString(request["uuid"])
        domain.setMemoryStatsPeriod(request["period_s"], self.libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def version(self, _request: Any) -> int:
        """The hypervisor's, as libvirt found it: 1,000,000 major + 1,000 minor + release."""
        found: int = self.connection.getVersion()
        return found

    def capabilities(self, _request: Any) -> str:
        """In XML: what this host and its hypervisor can run."""
        found: str = self.connection.getCapabilities()
        return found

    # --- parts of operations ---

    def groups(self, request: Any) -> int:
        """The block group costs another monitor command a guest, so it is asked for now and then only."""
        groups: int = self.libvirt.VIR_DOMAIN_STATS_STATE | self.libvirt.VIR_DOMAIN_STATS_BALLOON
        return groups | self.libvirt.VIR_DOMAIN_STATS_BLOCK if request["block"] else groups

    def active(self) -> list[Any]:
        domains: list[Any] = self.connection.listAllDomains(self.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return domains

    def job(self, domain: Any) -> int:
        """The type of the guest's job, 0 for none; drivers that know no jobs have none.

        A backup is no obstacle: it may take hours, and meanwhile statistics and balloon work as ever (seen
        with libvirt 9.0 and QEMU 7.2).
        """
        try:
            kind: int = domain.jobInfo()[0]
            if kind and domain.jobStats().get("operation") == self.libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP:
                return 0
        except self.libvirt.libvirtError as refused:
            if refused.get_error_code() != self.libvirt.VIR_ERR_NO_SUPPORT:
                raise
            return 0
        return kind

    def is_active(self, domain: Any) -> bool:
        try:
            return bool(domain.isActive())
        except self.libvirt.libvirtError:
            return False

    # --- events: hints that make the parent look again ---

    def register_events(self) -> None:
        """Whatever this libvirt and driver have. BALLOON_CHANGE comes once a second for a guest that moves: what
        it gave can then be granted, and a guest that helped itself is seen."""
        for kind, name in (
            ("reboot", "REBOOT"),
            ("control-error", "CONTROL_ERROR"),
            ("resumed", "PMWAKEUP"),
            ("paused", "PMSUSPEND"),
            ("changed", "DEVICE_ADDED"),
            ("changed", "DEVICE_REMOVED"),
            ("changed", "METADATA_CHANGE"),
            ("changed", "MEMORY_DEVICE_SIZE_CHANGE"),
            ("job-completed", "JOB_COMPLETED"),
            ("balloon", "BALLOON_CHANGE"),
        ):
            self.register(name, telling(kind))
        self.register("LIFECYCLE", self.tell_life)
        try:
            self.connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_MISSED)
            self.connection.registerCloseCallback(self.tell_end, None)
        except self.libvirt.libvirtError:
            return  # a driver inside this process has no connection that could close

    def register(self, name: str, callback: Callable[..., None]) -> None:
        number = getattr(self.libvirt, f"VIR_DOMAIN_EVENT_ID_{name}", None)
        if number is None:
            return  # an older libvirt
        try:
            self.connection.domainEventRegisterAny(None, number, callback, None)
        except self.libvirt.libvirtError:
            return  # events are hints; a driver without them is read all the same

    def tell_life(self, _connection: object, domain: Any, event: int, _detail: int, _: object) -> None:
        kinds = {
            self.libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
            self.libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "paused",
            self.libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
            self.libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
            self.libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "stopped",
            self.libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "paused",
            self.libvirt.VIR_DOMAIN_EVENT_CRASHED: "stopped",
        }
        if event in kinds:  # being defined or undefined is nothing to an active guest
            say({"event": [kinds[event], domain.UUIDString()]})

    def tell_end(self, _connection: object, reason: int, _: object) -> None:
        leave(f"libvirt's connection closed ({('error', 'end of file', 'keepalive', 'client')[reason % 4]})")


def row(domain: Any, statistics: Any) -> list[Any]:
    return [domain.UUIDString(), domain.name(), domain.ID(), statistics]


def described(error: Any) -> list[Any]:
    return [error.get_error_code(), error.get_error_domain(), str(error)]


def telling(kind: str) -> Callable[..., None]:
    return lambda _connection, domain, *_: say({"event": [kind, domain.UUIDString()]})


def say(message: object) -> None:
    """One line to the parent; without a parent there is nothing left to do."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    try:
        while line:
            line = line[os.write(SOCKET, line) :]
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def leave(why: str) -> Any:
    """Ends at once: closing a broken connection politely may hang."""
    say({"down": why})
    os._exit(1)


def arguments(given: Iterable[str]) -> tuple[str, str]:
    _program, uri, *way = given
    return uri, way[0] if way else ""


if __name__ == "__main__":
    main(*arguments(sys.argv))
