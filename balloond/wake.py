"""What ends the wait between two turns of the loop?

The interval's end, an event of libvirt, pressure on the host's memory (a PSI trigger), or a signal. Events only
hint that it is worth looking: a storm of them must not make the daemon spin, so turns that they bring about are
kept apart, and take at most a fifth of the time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, Protocol

LEAST_GAP_S: Final = 0.2
"""Between two turns, whatever happens: a guest in distress can wait so long."""

GAP_PER_TURN: Final = 4.0
"""An event is looked at only after a pause of so many times the last turn's length."""

HOST_PRESSURE: Final = "/proc/pressure/memory"

PRESSURE_TRIGGERS: Final = (b"some 50000 500000\0", b"some 150000 2000000\0")
"""The first that the kernel takes. 50 ms of standing still in half a second, its shortest window, is told within
50 ms; that needs CAP_SYS_RESOURCE. Without, a window must be a multiple of 2 s, and the kernel looks once in
that time: 150 ms in it, 7.5 %. Without the final zero byte the kernel takes the last digit for its end
(Documentation/accounting/psi.rst; kernel/sched/psi.c)."""


class Events(Protocol):
    """Something with events: the guests' edge."""

    def fileno(self) -> int:
        """The descriptor that becomes readable; negative: there is none now."""

    def drain_events(self) -> object: ...


class Signals:
    """Signals turned into bytes in a pipe, so that a wait sees them; nothing is done inside a handler but what
    `on_signal` does. Belongs to the main thread."""

    def __init__(self, numbers: tuple[signal.Signals, ...], on_signal: Callable[[int], None]) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._on_signal = on_signal
        self._former = {number: signal.signal(number, self._handle) for number in numbers}
        self._former_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._read

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def close(self) -> None:
        signal.set_wakeup_fd(self._former_fd)
        for number, former in self._former.items():
            signal.signal(number, former)
        os.close(self._read)
        os.close(self._write)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._on_signal(number)


class Pressure:
    """A trigger on memory pressure, of the whole host or of a cgroup; nothing at all on a kernel without PSI.
    The kernel tells of it at most once in a window."""

    def __init__(self, host: str = HOST_PRESSURE) -> None:
        self._descriptor: int | None = None
        self._path = ""  # what it is set on
        self._host = host
        self.watch(host)

    def watch(self, path: str) -> None:
        """From now on that file's pressure, where a trigger can be set there. Else the one before stays, or the
        host's must do, until the next call: a cgroup may be there again then."""
        if path != self._path and not self._set_on(path) and self._descriptor is None:
            self._set_on(self._host)

    def lose(self) -> None:
        """Its cgroup is gone: such a descriptor would be ready for ever."""
        self.close()
        self._path = ""

    def fileno(self) -> int:
        return -1 if self._descriptor is None else self._descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _set_on(self, path: str) -> bool:
        descriptor = _trigger(path)
        if descriptor is not None:
            self.close()
            self._descriptor, self._path = descriptor, path
        return descriptor is not None


def _trigger(path: str) -> int | None:
    """A descriptor with a trigger set on it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    for trigger in PRESSURE_TRIGGERS:
        with contextlib.suppress(OSError):
            os.write(descriptor, trigger)
            return descriptor
    os.close(descriptor)
    return None


class Waker:
    """Sleeps between turns. `monotonic` is time's clock."""

    def __init__(
        self, signals: Signals, events: Events, pressure: Pressure, monotonic: Callable[[], float]
    ) -> None:
        self._signals = signals
        self._events = events
        self._pressure = pressure
        self._monotonic = monotonic

    def wait(
        self, *, began_s: float, interval_s: float, pet: Callable[[], None], pet_s: float | None
    ) -> None:
        """Returns an interval after the turn that `began_s`, or earlier when something happened, or at once on
        a signal or under pressure. `pet` is called at least each `pet_s`."""
        ended_s = self._monotonic()
        due_s = max(began_s + interval_s, ended_s + LEAST_GAP_S)
        heed_s = min(due_s, ended_s + max(LEAST_GAP_S, GAP_PER_TURN * (ended_s - began_s)))
        woken = False
        while (left_s := (heed_s if woken else due_s) - self._monotonic()) > 0:
            ready = self._poll(left_s if pet_s is None else min(left_s, pet_s), events=not woken)
            if self._signals.fileno() in ready:
                self._signals.drain()
                return
            if self._pressure.fileno() in ready:  # the kernel itself keeps these apart
                break
            woken = woken or bool(ready)
            pet()
        self._events.drain_events()

    def _poll(self, timeout_s: float, *, events: bool) -> set[int]:
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        if events and self._events.fileno() >= 0:
            poll.register(self._events.fileno(), select.POLLIN)
        if self._pressure.fileno() >= 0:
            poll.register(self._pressure.fileno(), select.POLLPRI)
        ready = dict(poll.poll(timeout_s * 1000))
        if ready.get(self._pressure.fileno(), 0) & (select.POLLERR | select.POLLNVAL):
            del ready[self._pressure.fileno()]
            self._pressure.lose()
        return set(ready)
