"""What does the guest say? Numbered lines over its virtio-serial port, each answered by one line of JSON.

A late answer to an earlier order carries the earlier number and is thrown away. Nothing here waits longer than
its caller allows.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from balloond.lab.faults import LabError
from balloond.lab.patience import patiently
from balloond.units import KIB, PAGE

REPEAT_S: Final = (
    3.0  # an order is sent again after this: a guest that is reset loses what it had not yet read
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the guest itself says; memory in bytes, counts since its workload began."""

    uptime_s: float
    wanted: int  # anonymous memory that the last order asked for
    held: int  # and what the workload has of it now
    growth_took_s: float | None  # from order to last page; None: still growing
    asked: int  # touches of that memory that were due, but for the last second's
    served: int  # and that were done in time
    reads_asked: int  # 64 KiB reads through the page cache
    reads_served: int
    restarts: int  # times that a worker was killed, by the guest's OOM killer
    total: int
    free: int
    available: int
    cached: int
    swap_total: int
    swap_free: int
    swap_in: int
    swap_out: int
    major_faults: int
    oom_kills: int
    inflated: int  # bytes ever taken by the balloon
    deflated: int

    @property
    def balloon(self) -> int:
        """What the balloon has taken from the guest, by the guest's own count."""
        return self.inflated - self.deflated

    @property
    def served_share(self) -> float:
        """The share of all work due so far that was done in time, from 0 to 1."""
        asked = self.asked + self.reads_asked
        return (self.served + self.reads_served) / asked if asked else 1.0


class Channel:
    """One guest's port, as a socket of QEMU's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._number = 0
        self._rest = b""

    def ask(self, order: str, limit_s: float) -> Report:
        """Sends the order and returns the answer. Raises LabError on refusal or when time runs out."""
        self._number += 1
        limit_s = patiently(limit_s)
        deadline = time.monotonic() + limit_s
        try:
            while time.monotonic() < deadline:
                sending = self._connected()
                sending.sendall(f"{self._number} {order}\n".encode())
                answer = self._answer(min(deadline, time.monotonic() + REPEAT_S))
                if answer is not None:
                    return _report(answer, order)
        except OSError as error:
            self.close()
            raise LabError(f"the guest's port at {self._path} broke: {error}") from error
        raise LabError(f"the guest did not answer {order!r} within {limit_s:.0f} s")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(self._path))
            self._rest = b""
        return self._socket

    def _answer(self, deadline: float) -> dict[str, Any] | None:
        assert self._socket is not None  # noqa: S101  (ask connected it)
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                received = self._socket.recv(65536)
            except TimeoutError:
                return None
            if not received:
                raise ConnectionResetError("QEMU closed it")
            *lines, self._rest = (self._rest + received).split(b"\n")
            for line in lines:
                try:
                    answer: dict[str, Any] = json.loads(line)
                except ValueError:  # the tail of an answer cut off by a reset
                    continue
                if answer.get("n") == self._number:
                    return answer
        return None


def _report(answer: dict[str, Any], order: str) -> Report:
    if "error" in answer:
        raise LabError(f"the guest refused {order!r}: {answer['error']}")
    meminfo = {key: value * KIB for key, value in answer["meminfo"].items()}
    vmstat = answer["vmstat"]
    return Report(
        uptime_s=answer["uptime_s"],
        wanted=answer["wanted"],
        held=answer["held"],
        growth_took_s=answer["growth_s"],
        asked=answer["asked"],
        served=answer["served"],
        reads_asked=answer["reads_asked"],
        reads_served=answer["reads_served"],
        restarts=answer["restarts"],
        total=meminfo["MemTotal"],
        free=meminfo["MemFree"],
        available=meminfo["MemAvailable"],
        cached=meminfo["Cached"] + meminfo["Buffers"],
        swap_total=meminfo["SwapTotal"],
        swap_free=meminfo["SwapFree"],
        swap_in=vmstat["pswpin"] * PAGE,
        swap_out=vmstat["pswpout"] * PAGE,
        major_faults=vmstat["pgmajfault"],
        oom_kills=vmstat["oom_kill"],
        inflated=vmstat["balloon_inflate"] * PAGE,
        deflated=vmstat["balloon_deflate"] * PAGE,
    )
