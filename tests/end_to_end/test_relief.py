"""Does a guest that ignores its balloon harm only itself, and is all put back? Real guests, real swap."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.control import ask
from balloond.lab.arena import Arena, Lab
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.patience import until
from balloond.units import MIB

pytestmark = pytest.mark.end_to_end

GUEST = 768 * MIB
POOL = 1400 * MIB
WORK = 200 * MIB
HOGGED = 620 * MIB  # all that the kernel of such a guest leaves to its work
SERVED = 0.95
KILLS = 50
SEED = 4


@pytest.fixture
def arena(lab: Lab) -> Iterator[Arena]:
    with lab.arena(pool=POOL, swap=2048 * MIB) as arena:
        yield arena


def at_work(arena: Arena) -> tuple[Guest, list[Guest]]:
    """A guest that has never heard of its balloon, and two that work. All three at their maximum are 500 MiB more
    than the pool."""
    hog = arena.start(Machine(memory=GUEST, driver=False))
    others = arena.boot_all([Machine(memory=GUEST) for _ in range(2)])
    hog.wait()
    for guest in others:
        guest.hold(WORK)
    return hog, others


def soft_limits(arena: Arena) -> dict[str, str]:
    """The soft limit of every cgroup of the guests, and the limits at which the kernel kills."""
    names = ("memory.high", "memory.soft_limit_in_bytes", "memory.max", "memory.limit_in_bytes")
    found = [path for name in names for path in arena.pool.memory.rglob(name)]
    return {str(path): path.read_text() for path in sorted(found)}


def test_a_guest_that_ignores_its_balloon_harms_only_itself(arena: Arena) -> None:
    hog, others = at_work(arena)
    before = soft_limits(arena)
    daemon = arena.daemon()
    until(lambda: all(guest.actual < 500 * MIB for guest in others), "the others to be shrunk", limit_s=60)
    kills = arena.pool.oom_kills()
    reports = [guest.report() for guest in others]
    hog.hold(HOGGED, rate=100 * MIB)
    until(
        lambda: daemon.metric("balloond_measures_total", measure="reclaim", result="done", missing=0.0) > 4,
        "memory of the hog to be reclaimed",
    )
    time.sleep(20)
    for guest, report in zip(others, reports, strict=True):
        now = guest.report()
        served = (now.served - report.served) / (now.asked - report.asked)
        assert served >= SERVED
        assert now.oom_kills == 0
        assert daemon.metric("balloond_guest_swapped_bytes", guest=guest.name) < 16 * MIB
    assert daemon.metric("balloond_guest_swapped_bytes", guest=hog.name) > 128 * MIB
    assert arena.pool.oom_kills() == kills
    assert not arena.lost()
    relief = status_of(daemon, hog)["relief"]
    assert relief is not None and "more than its claim" in relief["words"]
    assert "Traceback" not in daemon.log
    assert daemon.stop() == 0
    assert soft_limits(arena) == before
    assert list(daemon.state.iterdir()) == []


def status_of(daemon: Daemon, guest: Guest) -> dict[str, dict[str, str] | None]:
    answer = ask(str(daemon.control_socket), "status")
    assert isinstance(answer, dict)
    return next(each for each in answer["guests"] if each["uuid"] == guest.uuid)


def test_killed_at_any_instant_it_takes_up_or_puts_back_and_leaves_nothing_behind(arena: Arena) -> None:
    hog, others = at_work(arena)
    before = soft_limits(arena)
    daemon = arena.daemon()
    hog.hold(HOGGED, rate=100 * MIB)
    until(lambda: soft_limits(arena) != before, "a soft limit")
    dice = random.Random(SEED)
    noted = 0
    for _ in range(KILLS):
        daemon.kill()
        changed = {path for path, text in soft_limits(arena).items() if text != before.get(path)}
        notes = daemon.state / "limits.json"
        told = notes.read_text() if notes.exists() else ""
        assert all(Path(path).parent.name in told for path in changed), "set, and not noted"
        noted += bool(changed)
        daemon.launch()
        time.sleep(dice.uniform(0.05, 5.0))  # a limit is set some 3 s after a start
    daemon.kill()
    daemon.start()
    until(lambda: daemon.metric("balloond_ticks_total") >= 3, "a few turns")
    assert all(guest.actual < GUEST for guest in others), "balloons are where they were"
    assert daemon.stop() == 0
    assert soft_limits(arena) == before
    assert list(daemon.state.iterdir()) == []
    assert not any("<stats" in guest.domain.XMLDesc() for guest in others)
    assert not arena.lost()
    assert noted >= KILLS / 10, "it was rarely killed while a limit was set"
