"""What does systemd want to be told, and where?

The notify protocol of sd_notify(3): datagrams of text to the socket that $NOTIFY_SOCKET names. Without that
variable nothing is sent. Telling must never delay or stop the daemon: the socket does not block, and what
can't be delivered is dropped (a lost WATCHDOG=1 is followed by the next).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Final

_LONGEST_STATUS: Final = 240  # characters; systemctl shows one line, and a datagram is to stay small


class Notifier:
    """Speaks to the service manager, or to nobody."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        """The manager ends us when it hears nothing for so long; None: it does not watch."""
        self._address = address
        self._socket: socket.socket | None = None
        self._last_status = ""
        self._last_status_at_s = float("-inf")
        if address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Notifier:
        """As systemd set us up. A path starting with `@` is an abstract socket; other forms are not ours."""
        name = environment.get("NOTIFY_SOCKET", "")
        address = name if name.startswith("/") else "\0" + name[1:] if name.startswith("@") else None
        return cls(address, _watchdog_s(environment, pid))

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self, monotonic_us: int) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Pets the watchdog, if there is one."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def status(self, text: str, now_s: float, *, at_most_every_s: float = 10.0) -> None:
        """Shows `text` in `systemctl status`: when it has changed, and at most every so many seconds."""
        if text != self._last_status and now_s - self._last_status_at_s >= at_most_every_s:
            self._last_status, self._last_status_at_s = text, now_s
            self._send("STATUS=" + text.replace("\n", " ")[:_LONGEST_STATUS])

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None or self._address is None:
            return
        with contextlib.suppress(OSError):  # nobody listens, or its queue is full: see above
            self._socket.sendto(text.encode(), self._address)


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """$WATCHDOG_USEC, unless $WATCHDOG_PID says that it is meant for another process."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 else None
