"""How does the daemon talk to the process that holds its libvirt connection, and get rid of it in time?

The link starts the process, keeps every deadline, and kills and reaps what passed one. One connection lives in
one process: when either is lost, both are replaced. It must never wait longer than it was told to, whatever
libvirt, its daemon or a guest does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = Path(__file__).with_name("libvirt_child.py")

CONNECT_S: Final = 10.0
"""A connection that isn't up by then is given up. libvirtd answers within 0.1 s; when systemd has to start it,
it first looks at every running guest, a few hundred of which take seconds."""

BACKOFF_S: Final = (0.5, 15.0)
"""The first and the longest pause between attempts; each is twice the one before. 15 s is what an operator who
restarts libvirtd waits without wondering; an attempt costs 50 ms of CPU."""

ALARM_SLACK_S: Final = 2.0
"""How long a call may outlive its deadline when we were killed: then nobody else ends the process."""

ENDING_S: Final = 1.0  # a killed process that isn't gone by then sits in the kernel; it is reaped later


class DownError(Exception):
    """There is no connection; the text says why."""


class HungError(Exception):
    """A call passed its deadline, and its process was ended. What it told before that has been delivered."""

    def __init__(self, text: str, waited_s: float) -> None:
        super().__init__(text)
        self.waited_s = waited_s  # for the part, or the answer, that did not come


class LibvirtError(Exception):
    """libvirt said no."""

    def __init__(self, code: int, domain: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.domain = domain
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A hint that something happened to a guest; see `libvirt_child` for the kinds."""

    kind: str
    uuid: str


class Link:
    """The connection to libvirt, replaced as often as need be. Deadlines are instants of `now`, in seconds."""

    def __init__(
        self, uri: str, now: Callable[[], float] = time.monotonic, *, read_only: bool = False
    ) -> None:
        self._uri = uri
        self._way = ["read-only"] if read_only else []
        self._now = now
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._arrived = b""
        self._events: list[Event] = []
        self._started_at = 0.0
        self._retry_at = 0.0
        self._backoff_s = BACKOFF_S[0]
        self._why_down = "not connected yet"
        self._connected = False
        self.connections = 0  # made so far
        self.kills = 0  # processes that were ended because a call hung

    # --- the connection ---

    def start(self) -> None:
        """Starts the process unless there is one or the last attempt was a moment ago; it connects by itself."""
        if self._process is not None or self._now() < self._retry_at:
            return
        # Without `site` the process is 1 MiB smaller and there 14 ms sooner; the path is handed over as it is.
        path = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        command = [sys.executable, "-S", "-P", str(PROGRAM), self._uri, *self._way]
        try:
            ours, its = socket.socketpair()
            ours.settimeout(ENDING_S)  # for sending; receiving waits in poll
            self._socket, self._arrived, self._started_at = ours, b"", self._now()
            with its:
                self._process = subprocess.Popen(
                    command, stdin=its.fileno(), stdout=subprocess.DEVNULL, env={**os.environ, **path}
                )
        except OSError as refused:  # no memory, no processes left: the host may recover
            self._lose(f"cannot start the process that holds libvirt's connection: {refused.strerror}")

    def connect(self, until: float) -> None:
        """Returns when there is a connection; raises DownError at `until`, or sooner if there can't be any."""
        if self.connected:
            return
        self.start()
        if self._process is None:
            raise DownError(self._why_down)
        for _greeting in self._messages(min(until, self._started_at + CONNECT_S)):
            return  # nothing else comes unasked
        if self._now() < self._started_at + CONNECT_S:  # it may still come up by the next tick
            raise DownError(f"still connecting to {self._uri}")
        self._lose(f"{self._uri} did not answer within {CONNECT_S:.0f} s")
        raise DownError(self._why_down)

    def close(self) -> None:
        """Ends the process at once. The link may be started again."""
        process, self._process = self._process, None
        if self._socket is not None:
            self._socket.close()
        self._socket, self._connected, self._arrived = None, False, b""
        if process is not None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDING_S)

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    # --- calls ---

    def call(self, operation: str, until: float, **request: object) -> Any:
        """What the operation answers, in the end. Raises DownError, HungError or LibvirtError."""
        parts = self.parts(operation, until, lambda: until, **request)
        while True:
            try:
                next(parts)
            except StopIteration as done:
                return done.value

    def parts(
        self, operation: str, until: float, part_until: Callable[[], float], **request: object
    ) -> Generator[Any, None, Any]:
        """The operation's parts as they come; all must be taken, or the next call gets what is left of them.

        `part_until` is asked anew for the latest instant of each. Returns, and raises, as `call` does.
        """
        self._send({"op": operation, "alarm_s": max(until - self._now(), 0) + ALARM_SLACK_S, **request})
        while True:
            since = self._now()
            message = next(self._messages(min(until, part_until())), None)
            if message is None:
                self.kills += 1
                self.close()
                self.start()  # by the time of the next call it has connected
                raise HungError(f"{operation} passed its deadline", self._now() - since)
            if "part" in message:
                yield message["part"]
            elif "error" in message:
                error = LibvirtError(*message["error"])
                if is_lost(error):
                    self._lose(error.text)
                    raise DownError(self._why_down)
                raise error
            else:
                return message["done"]

    # --- events ---

    def fileno(self) -> int:
        """Readable when an event, or the end of the connection, waits to be drained; -1 without a process.

        It changes when the process is replaced: ask again before each wait.
        """
        return self._socket.fileno() if self._socket is not None else -1

    def take_events(self) -> tuple[Event, ...]:
        """Those that came since the last time, without waiting. Raises DownError when the connection ended."""
        for _greeting in self._messages(self._now()):
            pass  # nothing else comes unasked
        events, self._events = tuple(self._events), []
        return events

    # --- lines ---

    def _messages(self, until: float) -> Iterator[Mapping[str, Any]]:
        """Messages that come until then, at least those that are already here; events are put aside."""
        while self._socket is not None:
            line, newline, rest = self._arrived.partition(b"\n")
            if not newline:
                if not self._receive(until):
                    return
                continue
            self._arrived = rest
            message: Mapping[str, Any] = json.loads(line)
            if "event" in message:
                kind, uuid = message["event"]
                self._events.append(Event(kind=kind, uuid=uuid))
            elif "hello" in message:
                self._connected, self.connections, self._backoff_s = True, self.connections + 1, BACKOFF_S[0]
                yield message
            elif "down" in message:
                self._lose(message["down"])
                raise DownError(self._why_down)
            else:
                yield message

    def _receive(self, until: float) -> bool:
        assert self._socket is not None  # noqa: S101  (our one caller has just looked)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(until - self._now(), 0) * 1000):
            return False
        try:
            arrived = self._socket.recv(262144)
        except ConnectionResetError:
            arrived = b""
        if not arrived:
            self._lose("the process that held libvirt's connection ended")
            raise DownError(self._why_down)
        self._arrived += arrived
        return True

    def _send(self, request: Mapping[str, object]) -> None:
        if self._socket is None or not self.connected:
            raise DownError(self._why_down)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as broken:  # requests are short: even one that isn't read at once fits the buffer
            self._lose(f"the process that held libvirt's connection is gone: {broken.strerror}")
            raise DownError(self._why_down) from None

    def _lose(self, why: str) -> None:
        self.close()
        self._why_down = why
        self._retry_at = self._now() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_S[1])


def is_lost(error: LibvirtError) -> bool:
    """Whether the connection itself is gone: code 1 or 38 from libvirt's RPC layer (domain 7), seen with 9.0."""
    return error.domain == 7 and error.code in (1, 38)
