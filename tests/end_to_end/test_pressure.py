"""Is a burst on the host met at once? Real guests, real swap, and a process of the host's own that takes all."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balloond.lab.arena import Arena, Lab
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine
from balloond.lab.patience import until
from balloond.units import MIB
from balloond.wake import PRESSURE_TRIGGERS

pytestmark = pytest.mark.end_to_end

GUEST = 768 * MIB
POOL = 2400 * MIB
BURST = 1600 * MIB
AWAKE_S = 0.25
FIRST_TARGET_S = 1.0


class Watch:
    """The same trigger as the daemon's, and when the daemon's main thread was given a processor, as the kernel
    counts it (proc(5), schedstat); the monotonic clock's seconds."""

    def __init__(self, path: Path, pid: int) -> None:
        self.fired_s: float | None = None
        self._ran_s: list[float] = []
        self._ended = False
        self._schedstat = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        for trigger in PRESSURE_TRIGGERS:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, trigger)
                break
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def awake_s(self) -> float:
        """How long after the trigger the daemon first ran. Its own may fire a little before ours."""
        assert self.fired_s is not None
        return max(0.0, min(ran_s for ran_s in self._ran_s if ran_s > self.fired_s - AWAKE_S) - self.fired_s)

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        os.close(self._descriptor)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLPRI)
        before = self._runs()
        while not self._ended:
            if poll.poll(2) and self.fired_s is None:  # ms
                self.fired_s = time.monotonic()
            now = self._runs()
            if now != before:
                self._ran_s.append(time.monotonic())
            before = now

    def _runs(self) -> str:
        return self._schedstat.read_text().split()[2]


@contextlib.contextmanager
def burst(arena: Arena, size: int) -> Iterator[None]:
    """A process of the host's own, in the guests' cgroup, that takes so much as fast as it can and keeps it."""
    program = f"import sys; sys.stdin.readline(); held = bytearray(b'x') * {size}; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as taker:
        assert taker.stdin is not None
        arena.pool.admit(taker.pid)
        taker.stdin.write(b"now\n")
        taker.stdin.flush()
        try:
            yield
        finally:
            taker.kill()


def prepared(arena: Arena, *, psi: bool) -> Daemon:
    """Three guests that hold a good deal more of the host than they work with, and a daemon that looks but once
    in ten seconds: whatever it does sooner it was woken for."""
    guests = arena.boot_all([Machine(memory=GUEST) for _ in range(3)])
    for size in (450 * MIB, 150 * MIB):
        for guest in guests:
            guest.hold(size)
        until(lambda: all(guest.report().held == size for guest in guests), "the work", limit_s=60)  # noqa: B023  (called at once)
    daemon = arena.daemon(psi=psi, record=True, interval="1s")
    until(lambda: daemon.metric("balloond_host_rung") == 0, "the host to be green", limit_s=90)
    daemon.configure(interval="10s")
    daemon.reload()
    until(lambda: "configuration reloaded" in daemon.log, "the longer interval")
    time.sleep(1.5)  # what it still does in that turn is done
    return daemon


def since(daemon: Daemon, when_s: float) -> list[dict[str, Any]]:
    return [tick for tick in daemon.ticks if tick["snapshot"]["monotonic_s"] >= when_s]


def first_target_s(ticks: list[dict[str, Any]]) -> float:
    """When the first target of these ticks was set."""
    tick = next(tick for tick in ticks if any(each["result"] == "done" for each in tick["outcomes"]))
    done = next(each for each in tick["outcomes"] if each["result"] == "done")
    return float(tick["snapshot"]["monotonic_s"]) + float(done["took_s"])


def test_a_burst_from_green_to_red_wakes_the_loop_at_once_and_nobody_is_killed(lab: Lab) -> None:
    with lab.arena(pool=POOL, swap=2048 * MIB) as arena:
        file = arena.pool.pressure_file()
        if file is None:
            pytest.skip("this kernel keeps no pressure of the guests' cgroup")
        daemon = prepared(arena, psi=True)
        watch = Watch(file, daemon.pid)
        kills = arena.pool.oom_kills()
        try:
            with burst(arena, BURST):
                until(lambda: watch.fired_s is not None, "the kernel's trigger", every_s=0.01)
                fired_s = watch.fired_s
                assert fired_s is not None
                until(lambda: any(t["outcomes"] for t in since(daemon, fired_s)), "a target", every_s=0.5)
                target_s = first_target_s(since(daemon, fired_s)) - fired_s
                print(f"awake after {watch.awake_s():.3f} s, first target after {target_s:.3f} s")
                assert watch.awake_s() <= AWAKE_S
                assert target_s <= FIRST_TARGET_S
                assert since(daemon, fired_s)[0]["decision"]["rung"] in ("orange", "red")
        finally:
            watch.close()
        assert arena.pool.oom_kills() == kills
        assert not arena.lost()


def test_without_psi_a_burst_is_met_within_one_interval(lab: Lab) -> None:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("pressure can't be hidden from the daemon where memory itself is on cgroup v2")
    with lab.arena(pool=POOL, swap=2048 * MIB) as arena:
        daemon = prepared(arena, psi=False)
        daemon.configure(interval="3s")
        daemon.reload()
        time.sleep(10)
        assert daemon.ticks[-1]["snapshot"]["host"]["pressure"] is None
        kills = arena.pool.oom_kills()
        began_s = time.monotonic()
        with burst(arena, BURST):
            until(
                lambda: any(tick["outcomes"] for tick in since(daemon, began_s)),
                "a target to be set",
                limit_s=30,
            )
            target_s = first_target_s(since(daemon, began_s)) - began_s
            print(f"first target after {target_s:.3f} s")
            assert target_s <= 3 + FIRST_TARGET_S
        assert arena.pool.oom_kills() == kills
        assert not arena.lost()
