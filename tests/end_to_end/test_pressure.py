"""Is a burst on the host met at once? Real guests, real swap, and a process of the host's own that takes all."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any, Self

import pytest

from balloond.lab.arena import Arena, Lab
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.patience import until
from balloond.lab.pool import Pool
from balloond.units import MIB
from balloond.wake import PRESSURE_TRIGGERS

pytestmark = pytest.mark.end_to_end

GUEST = 768 * MIB
POOL = 2400 * MIB
BURST = 1600 * MIB
AWAKE_S = 0.25
FIRST_TARGET_S = 1.0
LONG_S = 20.0
INTERVAL_S = 3.0
RESERVE = 64 * MIB
KEPT = 0.05 * POOL  # the lab's daemon is given these two
ORANGE = int(RESERVE + 0.5 * KEPT)
RED = int(RESERVE + 0.2 * KEPT)
"""These rungs begin where less than so much is available."""

ASLEEP = "7"
"""poll(2) on x86-64, with two descriptors or more: only the wait between two turns has so many."""


class Watch:
    """What the kernel shows, looked at every 2 ms: since when the pool is short, when the same trigger as the
    daemon's fired, and when the daemon's main thread awoke from the wait between two turns; monotonic seconds."""

    def __init__(self, arena: Arena, pid: int, pressure: Path | None = None) -> None:
        """`pressure`: the file on which to set the trigger; None: there is none."""
        self.short_s: float | None = None
        self.fired_s: float | None = None
        self._pool = arena.pool
        self._awoke_s: list[float] = []
        self._ended = False
        self._syscall = Path(f"/proc/{pid}/task/{pid}/syscall")
        self._poll = select.poll()
        self._descriptor = None if pressure is None else os.open(pressure, os.O_RDWR | os.O_NONBLOCK)
        if self._descriptor is not None:
            for trigger in PRESSURE_TRIGGERS:
                with contextlib.suppress(OSError):
                    os.write(self._descriptor, trigger)
                    break
            self._poll.register(self._descriptor, select.POLLPRI)
        self._thread = threading.Thread(target=self._watch)

    def awoke_s(self, seen_s: float) -> float:
        """When the daemon awoke for the turn that had seen the world at that time."""
        return max(at_s for at_s in self._awoke_s if at_s <= seen_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _watch(self) -> None:
        slept = self._sleeps()
        while not self._ended:
            if self._poll.poll(2) and self.fired_s is None:  # ms
                self.fired_s = time.monotonic()
            if self.short_s is None and room(self._pool) < ORANGE:
                self.short_s = time.monotonic()
            sleeps = self._sleeps()
            if slept and not sleeps:
                self._awoke_s.append(time.monotonic())
            slept = sleeps

    def _sleeps(self) -> bool:
        call, *given = self._syscall.read_text().split()
        return call == ASLEEP and int(given[1], 16) >= 2


def room(pool: Pool) -> int:
    """What the pool has left, by the kernel's own count and with file pages as free."""
    return pool.limit - pool.usage() + pool.file_pages()


@contextlib.contextmanager
def burst(arena: Arena) -> Iterator[float]:
    """A process of the host's own, in the guests' cgroup, that takes all that it can get and keeps it; since when.
    There is less than it takes: without help the host goes to red and beyond."""
    assert RESERVE + KEPT < room(arena.pool) < BURST + RED
    program = (
        f"import sys; print('ready', flush=True); sys.stdin.readline(); held = bytearray(b'x') * {BURST}; "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as taker:
        assert taker.stdin is not None
        assert taker.stdout is not None
        assert taker.stdout.readline() == b"ready\n"
        arena.pool.admit(taker.pid)
        began_s = time.monotonic()
        taker.stdin.write(b"now\n")
        taker.stdin.flush()
        try:
            yield began_s
        finally:
            taker.kill()


def prepared(arena: Arena, *, psi: bool) -> Daemon:
    """Three guests that hold a good deal more of the host than they work with, and a daemon that looks but once
    in LONG_S: whatever it does sooner it was woken for."""
    guests = arena.boot_all([Machine(memory=GUEST) for _ in range(3)])
    for size in (450 * MIB, 150 * MIB):
        for guest in guests:
            guest.hold(size)
        until(lambda: all(guest.report().held == size for guest in guests), "the work", limit_s=60)  # noqa: B023  (called at once)
    daemon = arena.daemon(psi=psi, record=True, interval="1s")
    until(lambda: daemon.metric("balloond_host_rung") == 0, "the host to be green", limit_s=90)
    daemon.configure(interval=f"{LONG_S:.0f}s")
    daemon.reload()
    until(lambda: "configuration reloaded" in daemon.log, "the longer interval")
    until(lambda: _at_rest(guests), "what it still does in that turn to be done")
    return daemon


def _at_rest(guests: Sequence[Guest]) -> bool:
    before = [guest.actual for guest in guests]
    time.sleep(1.5)
    return before == [guest.actual for guest in guests]


def _at_ease(ticks: list[dict[str, Any]]) -> bool:
    """Whether the last three turns moved nobody and believe everybody: who was just moved is first heard again."""
    believed = all(
        each["demand"]["trust"] == "fresh" for tick in ticks[-3:] for each in tick["decision"]["verdicts"]
    )
    return len(ticks) >= 3 and believed and not acting(ticks[-3:])


def since(daemon: Daemon, when_s: float) -> list[dict[str, Any]]:
    return [tick for tick in daemon.ticks if tick["snapshot"]["monotonic_s"] >= when_s]


def alarmed(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """From the first of them on that saw the host in danger; a host that is at ease has targets set too."""
    return [*dropwhile(lambda tick: tick["decision"]["rung"] not in ("orange", "red"), ticks)]


def acting(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that set a target."""
    return [tick for tick in ticks if any(each["result"] == "done" for each in tick["outcomes"])]


def met(daemon: Daemon, since_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first tick since then that saw the host in danger, and the first from there on that set a target."""
    until(lambda: acting(alarmed(since(daemon, since_s))), "a target to be set", every_s=0.5)
    ticks = alarmed(since(daemon, since_s))
    return ticks[0], acting(ticks)[0]


def seen_s(tick: dict[str, Any]) -> float:
    return float(tick["snapshot"]["monotonic_s"])


def first_target_s(tick: dict[str, Any]) -> float:
    """When the first target of this tick was set; they are set one after the other."""
    first = [each["result"] for each in tick["outcomes"]].index("done")
    return seen_s(tick) + sum(float(each["took_s"]) for each in tick["outcomes"][: first + 1])


def test_a_burst_from_green_to_red_wakes_the_loop_at_once_and_nobody_is_killed(lab: Lab) -> None:
    with lab.arena(pool=POOL, swap=2048 * MIB) as arena:
        file = arena.pool.pressure_file()
        if file is None:
            pytest.skip("this kernel keeps no pressure of the guests' cgroup")
        daemon = prepared(arena, psi=True)
        before = daemon.ticks[-1]
        assert before["decision"]["rung"] == "green"
        kills = arena.pool.oom_kills()
        with Watch(arena, daemon.pid, file) as watch, burst(arena) as began_s:
            until(lambda: watch.fired_s is not None, "the kernel's trigger", every_s=0.01)
            fired_s = watch.fired_s
            assert fired_s is not None
            assert fired_s > began_s
            first, tick = met(daemon, fired_s - AWAKE_S)  # the daemon's own may fire a little before ours
            awoke_s = watch.awoke_s(seen_s(first))
            print(
                f"since the burst's beginning: short after {_after(watch.short_s, began_s)}, the trigger after "
                f"{_after(fired_s, began_s)}, awake after {_after(awoke_s, began_s)}, first target after "
                f"{_after(first_target_s(tick), began_s)}; {first['decision']['rung']}"
            )
            assert awoke_s - fired_s <= AWAKE_S
            assert awoke_s - seen_s(before) < LONG_S - AWAKE_S, "the interval had ended anyway"
            assert first_target_s(tick) - fired_s <= FIRST_TARGET_S
        assert arena.pool.oom_kills() == kills
        assert not arena.lost()


def test_without_psi_a_burst_is_met_within_one_interval(lab: Lab) -> None:
    """The loop is awake within one interval of the shortage, and the first target set within a second of that."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("pressure can't be hidden from the daemon where memory itself is on cgroup v2")
    with lab.arena(pool=POOL, swap=2048 * MIB) as arena:
        daemon = prepared(arena, psi=False)
        daemon.configure(interval=f"{INTERVAL_S:.0f}s")
        daemon.reload()
        before = len(daemon.ticks)
        until(lambda: _at_ease(daemon.ticks[before:]), "a turn that is just over", every_s=0.05)
        assert daemon.ticks[-1]["snapshot"]["host"]["pressure"] is None
        assert daemon.ticks[-1]["decision"]["rung"] == "green"
        kills = arena.pool.oom_kills()
        with Watch(arena, daemon.pid) as watch, burst(arena) as began_s:
            first, tick = met(daemon, began_s)
            awoke_s = watch.awoke_s(seen_s(first))
            print(
                f"since the burst's beginning: short after {_after(watch.short_s, began_s)}, awake after "
                f"{_after(awoke_s, began_s)}, first target after {_after(first_target_s(tick), began_s)}; "
                f"{first['decision']['rung']}"
            )
            assert watch.short_s is not None
            assert (
                awoke_s - watch.short_s <= INTERVAL_S + AWAKE_S
            )  # as long as from the trigger, to get a processor
            assert first_target_s(tick) - awoke_s <= FIRST_TARGET_S
        assert arena.pool.oom_kills() == kills
        assert not arena.lost()


def _after(at_s: float | None, began_s: float) -> str:
    return "never" if at_s is None else f"{at_s - began_s:.3f} s"
