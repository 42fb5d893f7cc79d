"""What does the daemon cost on six real guests? CPU a tick and proportional set size, daemon and child together.

Figures come from /proc and /metrics while the daemon has something to do: guests grow and shrink in turn.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import psutil

from balloond.lab.arena import Lab
from balloond.lab.domain import Machine
from balloond.units import MIB

GUESTS: Final = 6
TICK_SECONDS: Final = 0.020
RESIDENT: Final = 60 * MIB
"""The marks: a tick's CPU with six guests, and the memory that MOM takes half as much again of."""


def bench(seconds: float = 40.0) -> int:
    """Prints the figures and how they stand against the marks; 0 when both are met."""
    with Lab() as lab, lab.arena(pool=2200 * MIB) as arena:
        guests = arena.boot_all([Machine(memory=768 * MIB, autodeflate=True) for _ in range(GUESTS)])
        daemon = arena.daemon()
        time.sleep(5)
        ticks, cpu = daemon.metric("balloond_ticks_total"), _cpu_s(_family(daemon.pid))
        sizes: list[int] = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            guest = guests[len(sizes) % GUESTS]
            guest.hold((64 + 64 * (len(sizes) % 3)) * MIB, rate=64 * MIB)
            time.sleep(2)
            sizes.append(sum(map(_pss, _family(daemon.pid))))
        ticks, cpu = daemon.metric("balloond_ticks_total") - ticks, _cpu_s(_family(daemon.pid)) - cpu
        moved = daemon.metric("balloond_actions_total", result="done", missing=0.0)
    a_tick, resident = cpu / max(1, ticks), statistics.median(sizes)
    print(f"six guests under {lab.accelerator}, {ticks:.0f} ticks, {moved:.0f} targets set")
    print(f"CPU a tick, daemon and child   {a_tick * 1000:6.1f} ms   mark {TICK_SECONDS * 1000:.0f} ms")
    print(f"PSS, daemon and child          {resident / MIB:6.1f} MiB  mark {RESIDENT / MIB:.0f} MiB")
    return 0 if a_tick < TICK_SECONDS and resident < RESIDENT else 1


def _family(pid: int) -> list[psutil.Process]:
    """The process and its children."""
    parent = psutil.Process(pid)
    return [parent, *parent.children()]


def _pss(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)


def _cpu_s(processes: list[psutil.Process]) -> float:
    """User and system time so far, of a set of processes that lives on."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)
