"""Does a guest that ignores its balloon harm only itself? Real guests, real swap."""

from __future__ import annotations

import time
from collections.abc import Iterator

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


@pytest.fixture
def arena(lab: Lab) -> Iterator[Arena]:
    with lab.arena(pool=POOL, swap=2048 * MIB) as arena:
        yield arena


def at_work(arena: Arena) -> tuple[Guest, list[Guest]]:
    """A guest that has never heard of its balloon, and two that work. All three at their maximum are 500 MiB more
    than the pool."""
    hog = arena.start(Machine(memory=GUEST, driver=False, mergeable=False))
    others = arena.boot_all([Machine(memory=GUEST, mergeable=False) for _ in range(2)])
    hog.wait()
    for guest in others:
        guest.hold(WORK)
    return hog, others


def test_a_guest_that_ignores_its_balloon_harms_only_itself(arena: Arena) -> None:
    hog, others = at_work(arena)
    before = arena.pool.limits()
    daemon = arena.daemon()
    until(lambda: all(guest.actual < 500 * MIB for guest in others), "the others to be shrunk", limit_s=60)
    kills = arena.pool.oom_kills()
    reports = [guest.report() for guest in others]
    hog.hold(HOGGED, rate=100 * MIB)
    until(
        lambda: daemon.metric("balloond_measures_total", measure="reclaim", result="done", missing=0.0) > 4,
        "memory of the hog to be reclaimed",
    )
    until(lambda: "more than its claim" in last_words(daemon, hog), "status to say why", every_s=0.1)
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
    assert "Traceback" not in daemon.log
    assert daemon.stop() == 0
    assert arena.pool.limits() == before
    assert list(daemon.state.iterdir()) == []


def last_words(daemon: Daemon, guest: Guest) -> str:
    """Why something was last taken from the guest, or given back, as status tells it."""
    answer = ask(str(daemon.control_socket), "status")
    assert isinstance(answer, dict)
    relief = next(each["relief"] for each in answer["guests"] if each["uuid"] == guest.uuid)
    return str(relief["words"]) if relief else ""
