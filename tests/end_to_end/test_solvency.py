"""Is it true what the daemon says of solvency? The hosts are filled to see.

What guests really need is measured here without any of the daemon's arithmetic: what the kernel charges to their
cgroup once every guest has touched all its memory. Under TCG QEMU's translated code is a part of that.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from balloond.lab.arena import Arena, Lab
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine
from balloond.lab.faults import LabError
from balloond.lab.guest import Guest
from balloond.lab.patience import until
from balloond.units import GIB, MIB

pytestmark = pytest.mark.end_to_end

GUEST = 512 * MIB
COUNT = 3
NARROW = 900 * MIB
"""Three guests boot in some 550 MiB; with all their memory touched they need twice what there is."""

AMPLE = 2600 * MIB
RESERVE = 16 * MIB
LEFT = 12 * MIB
"""What a guest keeps free of its memory: were all of it filled, its own kernel would kill the workload."""

FILL_S = 120.0


def boot(arena: Arena) -> list[Guest]:
    return arena.boot_all([Machine(memory=GUEST) for _ in range(COUNT)])


def observer(arena: Arena) -> Daemon:
    """The daemon with its hands tied: guests keep all their memory, as they would had they taken it back."""
    daemon = arena.daemon(mode="observe", host={"reserve": f"{RESERVE // MIB}MiB", "pool": "5%"})
    until(lambda: daemon.metric("balloond_ticks_total") >= 4, "a few turns")
    return daemon


def fill(guests: list[Guest]) -> None:
    for guest in guests:
        guest.hold(guest.report().free - LEFT)


def is_full(guest: Guest) -> bool:
    try:
        report = guest.report()
    except LabError:  # it waits for the host's swap, or is gone
        return False
    return report.held == report.wanted


@pytest.fixture(scope="module")
def needed(laboratory: Lab) -> Iterator[int]:
    """What the kernel charges for the filled guests where there is room for all, file pages left out."""
    with laboratory.arena(pool=AMPLE) as arena:
        guests = boot(arena)
        fill(guests)
        until(lambda: all(is_full(guest) for guest in guests), "the guests to be full", FILL_S)
        yield arena.pool.usage() - arena.pool.file_pages()


@pytest.fixture
def arena(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Arena]:
    """A narrow pool with as much swap as the test says, whatever other swap the machine has."""
    swap = getattr(request, "param", 0)
    with lab.arena(pool=NARROW, swap=swap) as arena:
        arena.pool.limit_swap(swap)
        yield arena
