"""Killed at any instant under load, does it take up or put back all that it changed: limits, merging, balloons?"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from balloond.host.files import Root
from balloond.host.kernel import read_ksm_settings
from balloond.host.notes import kept
from balloond.lab.arena import Lab
from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.patience import until
from balloond.model import KsmSettings
from balloond.units import MIB

pytestmark = pytest.mark.end_to_end

GUEST = 768 * MIB
POOL = 1400 * MIB
WORK = 200 * MIB
HOGGED = 620 * MIB  # all that the kernel of such a guest leaves to its work
KILLS = 50
AWAITED, EARLY, MOVED = 0, 2, 4
"""Of every five kills one comes right after a limit was set, which is rare: it goes where memory is free again.
One comes at any instant since the process began: while Python starts, while what was left is taken up, or later.
One comes right after a balloon was moved, which somebody else had let out."""
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
        daemon.kill()
        dice = random.Random(SEED)
        left, did = Counter[str](), Counter[str]()
        for kill in range(KILLS):
            kind = kill % 5
            if kind == MOVED:
                others[0].set_target(GUEST)
                until(lambda: others[0].actual == GUEST, "somebody else to give it all")
            limits, merging, balloons = arena.pool.limits(), read_ksm_settings(Root()), _balloons(others)
            left.update(limit=limits != before, merging=merging != found)
            daemon.launch()
            if kind != EARLY:
                until(lambda: arena.pool.limits() == before, "limits to be put back", every_s=0.01)
                limits = before
                until(lambda: daemon.metric("balloond_ticks_total", missing=0.0) >= 1, "its first turn")
                yields = daemon.metric("balloond_host_ksm_stance", stance="yielding", missing=0.0)
                assert not yields, "what the one before set is somebody else's to it"
            hog.hold(HOGGED if kill % 2 == 0 else WORK, rate=400 * MIB, content="mostly")
            if kind == AWAITED:
                hog.hold(HOGGED, rate=400 * MIB)
                _wait(lambda: arena.pool.limits() != before, 10.0)
            if kind == MOVED:
                _wait(partial(_have_moved, others, balloons), 5.0)
            time.sleep(dice.uniform(0.0, 1.2))
            daemon.kill()
            now, steered = arena.pool.limits(), read_ksm_settings(Root())
            changed = {path for path, text in now.items() if text != before.get(path)}
            noted = {note["file"] for note in _notes(daemon.state / "limits.json").values()}
            assert changed <= noted, "set, and not noted"
            assert steered == found or _notes(daemon.state / "merging.json"), "set, and not noted"
            did.update(
                limit=any(now[path] != limits.get(path) for path in changed),
                merging=steered not in (found, merging),
                balloon=_have_moved(others, balloons),
            )
        daemon.start()
        until(lambda: daemon.metric("balloond_ticks_total") >= 3, "a few turns")
        assert all(guest.actual < GUEST for guest in others), "balloons are where they were"
        assert daemon.stop() == 0
        print(f"to {KILLS} daemons were left {dict(left)}; what they did themselves: {dict(did)}")
        assert arena.pool.limits() == before
        assert read_ksm_settings(Root()) == found
        assert list(daemon.state.iterdir()) == []
        assert not any("<stats" in guest.domain.XMLDesc() for guest in others)
        assert not arena.lost()
        assert [guest.report().oom_kills for guest in others] == [0, 0]
        assert min(did[what] for what in ("limit", "merging", "balloon")) >= KILLS / 10, "they rarely did any"


def _balloons(guests: Sequence[Guest]) -> list[int]:
    return [guest.actual for guest in guests]


def _have_moved(guests: Sequence[Guest], before: list[int]) -> bool:
    return _balloons(guests) != before


def _wait(condition: Callable[[], bool], at_most_s: float) -> None:
    ends_s = time.monotonic() + at_most_s
    while not condition() and time.monotonic() < ends_s:
        time.sleep(0.02)


def _notes(path: Path) -> dict[str, Any]:
    return kept(path) or {}
