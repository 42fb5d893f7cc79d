"""Who may ask the running daemon, and how is it answered?

A stream socket in the file system, mode 0660. One line of JSON is the request (`{"ask": "status"}`), one line
is the reply, then the connection ends. Nothing that is asked changes anything. One thread serves all clients
without blocking: a client that says nothing, reads nothing or sends rubbish is dropped at its deadline and
delays nobody. The socket is also how two daemons learn of each other: the second one must not start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

LONGEST_REQUEST: Final = 4096  # bytes; the longest sensible one has fewer than 100
LONGEST_REPLY: Final = 64 * 1024 * 1024  # bytes a client reads: some 50,000 guests
MOST_CLIENTS: Final = 16  # at once; the oldest is dropped for a seventeenth
BACKLOG: Final = 128  # connections not yet accepted; beyond them the kernel itself turns clients away
DEADLINE_S: Final = 5.0  # for a whole conversation
MODE: Final = 0o660  # owner and group may ask; the operator chooses the group by the directory

Answers = Mapping[str, Callable[[Mapping[str, Any]], object]]
"""What may be asked, and who answers it; the answerer is given the whole request, which may hold anything."""


class SocketRefused(Exception):  # noqa: N818  (it is the socket that is refused)
    """The control socket can't be had; the text says why and what to do."""


class NoAnswer(Exception):  # noqa: N818  (that is what happened)
    """The daemon did not answer; the text says why and what to do."""


class ControlServer:
    """Answers on the socket from the moment it is made until `close`. Raises SocketRefused."""

    def __init__(self, path: str, answers: Answers, *, deadline_s: float = DEADLINE_S) -> None:
        self._path = Path(path)
        self._answers = answers
        self._deadline_s = deadline_s
        self._clients: dict[int, _Client] = {}  # by descriptor, oldest first
        self._claim = _claim(self._path)
        try:
            self._socket = _listen(self._path)
        except SocketRefused:
            os.close(self._claim)
            raise
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends all conversations and removes the socket. The lock's file stays: removing it would let two
        daemons hold locks on two files of one name."""
        self._stop.close()
        self._thread.join(self._deadline_s)
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._socket.close()
        self._stopped.close()
        os.close(self._claim)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while True:
                ready = selector.select(self._until_next_deadline_s())
                for key, _ in ready:
                    if key.fileobj is self._stopped:
                        self._drop(selector, tuple(self._clients.values()))
                        return
                    if key.fileobj is self._socket:
                        self._accept(selector)
                    elif key.fd in self._clients:
                        self._advance(selector, self._clients[key.fd])
                now = time.monotonic()
                self._drop(selector, [each for each in self._clients.values() if each.deadline_s <= now])

    def _until_next_deadline_s(self) -> float | None:
        if not self._clients:
            return None
        return max(0.0, min(each.deadline_s for each in self._clients.values()) - time.monotonic())

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            time.sleep(0.1)  # out of descriptors, or the client has gone: don't spin on it
            return
        if len(self._clients) >= MOST_CLIENTS:
            self._drop(selector, [next(iter(self._clients.values()))])
        connection.setblocking(False)
        self._clients[connection.fileno()] = _Client(connection, time.monotonic() + self._deadline_s)
        selector.register(connection, selectors.EVENT_READ)

    def _advance(self, selector: selectors.BaseSelector, client: _Client) -> None:
        try:
            if not client.reply and client.read():
                client.reply = memoryview(reply_to(bytes(client.request), self._answers))
                selector.modify(client.connection, selectors.EVENT_WRITE)
            elif client.reply:
                client.write()
                if not client.reply:
                    self._drop(selector, [client])
        except BlockingIOError:
            pass  # not ready after all; the selector will say when
        except OSError:
            self._drop(selector, [client])

    def _drop(self, selector: selectors.BaseSelector, clients: list[_Client] | tuple[_Client, ...]) -> None:
        for client in clients:
            del self._clients[client.connection.fileno()]
            selector.unregister(client.connection)
            client.connection.close()


class _Client:
    """One conversation: first reading, then writing."""

    __slots__ = ("connection", "deadline_s", "reply", "request")

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self.connection = connection
        self.deadline_s = deadline_s
        self.request = bytearray()
        self.reply = memoryview(b"")

    def read(self) -> bool:
        """True when the request is all there. Raises OSError when it never will be."""
        data = self.connection.recv(LONGEST_REQUEST)
        self.request += data
        if not data and not self.request:
            raise ConnectionError("closed without asking")
        return not data or b"\n" in data or len(self.request) > LONGEST_REQUEST

    def write(self) -> None:
        self.reply = self.reply[self.connection.send(self.reply) :]


def reply_to(request: bytes, answers: Answers) -> bytes:
    """The reply's line. Whatever the request holds, this returns."""
    try:
        if len(request) > LONGEST_REQUEST:
            raise ValueError("request is too long")
        asked = json.loads(request)
        answer = answers[asked["ask"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        known = ", ".join(f'{{"ask": "{name}"}}' for name in sorted(answers))
        return _line({"error": f"not understood; one line with one of these is: {known}"})
    return _line(answer(asked))


def _line(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _claim(path: Path) -> int:
    """A descriptor whose lock says that this path is ours until we end, however we end."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SocketRefused(f"{lock}: {error.strerror}; set `control.socket` to a writable place") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SocketRefused(_OTHER.format(path=path)) from error
    return descriptor


_OTHER: Final = (
    "another balloond serves {path}; two of them would fight over the guests. Stop the other one first"
)


def _listen(path: Path) -> socket.socket:
    """The socket, bound and listening. What is left of a dead daemon is removed; nothing else ever is."""
    if _answers(path):
        raise SocketRefused(_OTHER.format(path=path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.setblocking(False)
    before = os.umask(0o777 & ~MODE)  # so that there is no instant at which others may connect
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise SocketRefused(f"{path} is there and is no socket; remove it or set `control.socket`")
            path.unlink()
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SocketRefused(
            f"{path}: {error.strerror or error}; set `control.socket` to another place"
        ) from error
    except SocketRefused:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _answers(path: Path) -> bool:
    """Whether somebody listens there. A full queue is somebody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (BlockingIOError, TimeoutError):
            return True
        except OSError:
            return False
    return True


def ask(path: str, question: str, *, timeout_s: float = DEADLINE_S, **details: object) -> Any:
    """The daemon's reply, parsed; the caller checks its shape. `details` go with the question. Raises NoAnswer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            connection.sendall(json.dumps({"ask": question, **details}).encode() + b"\n")
            reply = _read_all(connection)
    except OSError as error:
        raise NoAnswer(_advice(path, error)) from error
    try:
        parsed = json.loads(reply)
    except ValueError as error:
        raise NoAnswer(f"{path}: what came back is not JSON; does balloond listen there?") from error
    if isinstance(parsed, dict) and "error" in parsed:
        raise NoAnswer(f"{path}: the daemon says: {parsed['error']} (is it of another version?)")
    return parsed


def _read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while data := connection.recv(65536):
        received += data
        if len(received) > LONGEST_REPLY:
            raise OSError("the reply has no end")
    return bytes(received)


def _advice(path: str, error: OSError) -> str:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return (
                f"no balloond answers at {path}. Is it running (systemctl status balloond)? "
                "Does its file name another socket (--socket, --config)?"
            )
        case PermissionError():
            return f"{path}: you may not ask; become root or a member of the socket's group"
        case TimeoutError() | BlockingIOError():
            return f"{path}: balloond did not answer in time; look at its log (journalctl -u balloond)"
        case _:
            return f"{path}: {error.strerror or error}"
