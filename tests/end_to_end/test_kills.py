"""Killed at any instant under load, does it take up or put back all that it changed: limits, merging, balloons?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from balloond.host.files import Root
from balloond.host.kernel import read_ksm_settings
from balloond.lab.arena import Lab
from balloond.lab.domain import Machine
from balloond.lab.patience import until
from balloond.model import KsmSettings
from balloond.units import MIB

pytestmark = pytest.mark.end_to_end

GUEST = 768 * MIB
POOL = 1400 * MIB
WORK = 200 * MIB
HOGGED = 620 * MIB  # all that the kernel of such a guest leaves to its work
KILLS = 50
AWAITED = 5
"""Every so many kills come right after a limit was set, which is rare: it goes where memory is free again."""
SEED = 4


def test_killed_at_any_instant_it_takes_up_or_puts_back_and_leaves_nothing_behind(
    found: KsmSettings, lab: Lab
) -> None:
    with lab.arena(pool=POOL, swap=2048 * MIB) as arena:
        hog = arena.start(Machine(memory=GUEST, driver=False))  # it has never heard of its balloon
        others = arena.boot_all([Machine(memory=GUEST) for _ in range(2)])
        hog.wait()
        for guest in others:
            guest.hold(WORK, content="mostly")
        before = arena.pool.limits()
        daemon = arena.daemon(ksm={"mode": "steer"})
        dice = random.Random(SEED)
        limited = merging = shrunk = 0
        for kill in range(KILLS):
            hog.hold(HOGGED if kill % 2 == 0 else WORK, rate=400 * MIB, content="mostly")
            if kill % AWAITED == 0:
                hog.hold(HOGGED, rate=400 * MIB)
                _wait(lambda: arena.pool.limits() != before, 10.0)
            time.sleep(dice.uniform(0.05, 2.0))
            daemon.kill()
            changed = {path for path, text in arena.pool.limits().items() if text != before.get(path)}
            noted = _read(daemon.state / "limits.json")
            assert all(Path(path).parent.name in noted for path in changed), "set, and not noted"
            steered = read_ksm_settings(Root()) != found
            assert not steered or _read(daemon.state / "merging.json"), "set, and not noted"
            limited += bool(changed)
            merging += steered
            shrunk += any(guest.actual < GUEST for guest in others)
            daemon.launch()
        daemon.kill()
        daemon.start()
        until(lambda: daemon.metric("balloond_ticks_total") >= 3, "a few turns")
        assert all(guest.actual < GUEST for guest in others), "balloons are where they were"
        assert daemon.stop() == 0
        print(f"of {KILLS} kills {limited} met a limit, {merging} merging, {shrunk} a balloon that was out")
        assert arena.pool.limits() == before
        assert read_ksm_settings(Root()) == found
        assert list(daemon.state.iterdir()) == []
        assert not any("<stats" in guest.domain.XMLDesc() for guest in others)
        assert not arena.lost()
        assert [guest.report().oom_kills for guest in others] == [0, 0]
        assert min(limited, merging, shrunk) >= KILLS / 10, "it was rarely killed with anything to take up"


def _wait(condition: Callable[[], bool], at_most_s: float) -> None:
    ends_s = time.monotonic() + at_most_s
    while not condition() and time.monotonic() < ends_s:
        time.sleep(0.02)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
