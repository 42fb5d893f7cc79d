"""Does merging free memory, keep to its share, stop when it must, and leave the kernel as it was found?

The kernel's merging is the whole machine's: what was found is put back after each test, however it ends.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from balloond.host.files import Root
from balloond.host.kernel import KSM, read_ksm, read_ksm_settings
from balloond.host.ksm import Merging
from balloond.lab.arena import Arena, Lab
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.memory import beginning, frames
from balloond.lab.patience import until
from balloond.lab.pool import Pool
from balloond.model import Ksm, KsmSettings
from balloond.units import MIB, PAGE

pytestmark = pytest.mark.end_to_end

HELD = 192 * MIB
HELD_ONCE = 288 * MIB
"""What guests have from the host until it is taken from them: with that the host is too full for a storm."""

GUESTS = 4
EQUAL = 0.8  # of what is held `mostly` equal
MERGEABLE = int(EQUAL * HELD * (GUESTS - 1))
"""What could be freed of what is held: of each page that all have, all but one."""

WORD = (1 << 64) - 1
AVERAGED_S = 30.0
LOOK_S = 0.05
STORM_S = 30.0

SHORT = {"reserve": "64MiB", "pool": "45%"}
"""With guests that keep what they have the pool is half full and no more: yellow, for as long as it takes."""

ALL_OF_IT = {"manage": True, "minimum": "100%"}


def ksm() -> Ksm:
    """The kernel's merging now, with ksmd's CPU time."""
    seen = Merging(Root(), Path("/nowhere")).complete(read_ksm(Root()))
    assert seen is not None
    return seen


def cpu_s() -> float:
    seconds = ksm().cpu_s
    assert seconds is not None
    return seconds


def took() -> tuple[float, float]:
    """The monotonic clock, and ksmd's CPU time until then; seconds."""
    return time.monotonic(), cpu_s()


def shares(seen: Sequence[tuple[float, float]]) -> list[float]:
    """ksmd's share of a processor in each stretch of 30 s, by the time that really passed between two looks."""
    stretches = (
        (at_s, before, next((look for look in seen if look[0] - at_s >= AVERAGED_S), None))
        for at_s, before in seen
    )
    return [(end[1] - before) / (end[0] - at_s) for at_s, before, end in stretches if end is not None]


def equal_words() -> frozenset[bytes]:
    """What the pages begin with that all guests hold alike in `mostly`; see `fill` in workload.c."""
    numbers = (number for number in range(HELD // PAGE) if number % 5)
    return frozenset(
        ((_scramble(number) * 6364136223846793005 + 1442695040888963407 | 1) & WORD).to_bytes(8, "little")
        for number in numbers
    )


def _scramble(number: int) -> int:
    x = number + 0x9E3779B97F4A7C15 & WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


class Held:
    """The equal pages that guests hold; not their kernels' nor anybody else's, which are merged too."""

    def __init__(self, guests: Sequence[Guest]) -> None:
        words = equal_words()
        self._pages = {guest: beginning(guest.pid, guest.machine.memory, words) for guest in guests}
        self.size = sum(map(len, self._pages.values())) * PAGE

    def freed(self) -> int:
        """What they take less than their size, since several lie in one frame of the host's; bytes."""
        found = [frames(guest.pid, guest.machine.memory, pages) for guest, pages in self._pages.items()]
        return (sum(map(len, found)) - len(set().union(*found))) * PAGE


@contextmanager
def looked_at(pool: Pool) -> Iterator[list[int]]:
    """What the pool has left, by the kernel's own count and with file pages as free, each 50 ms until the end."""
    left: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            left.append(pool.limit - pool.usage() + pool.file_pages())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield left
    finally:
        ended.set()
        thread.join()


def boot(arena: Arena, count: int = GUESTS, content: str = "mostly", size: int = HELD) -> Sequence[Guest]:
    """Guests that hold pages of that content, all of them there."""
    guests = arena.boot_all([Machine(memory=512 * MIB) for _ in range(count)])
    hold(guests, size, content)
    return guests


def hold(guests: Sequence[Guest], size: int, content: str) -> None:
    for guest in guests:
        guest.hold(size, rate=64 * MIB, content=content)
    for guest in guests:
        until(partial(holds, guest, size), "the pages to be written", limit_s=60)


def holds(guest: Guest, size: int) -> bool:
    return guest.report().held == size


def rules(arena: Arena, **policy: object) -> list[dict[str, object]]:
    return [{"match": {"name": f"balloond-lab-{arena.run}-*"}, **policy}]


def stance(daemon: Daemon, name: str) -> bool:
    return daemon.metric("balloond_host_ksm_stance", stance=name, missing=0.0) == 1


def test_equal_pages_are_merged_within_the_share_and_random_ones_end_it(found: KsmSettings, lab: Lab) -> None:
    with lab.arena(pool=2300 * MIB) as arena:
        guests = boot(arena)
        held = Held(guests)
        assert held.size == pytest.approx(EQUAL * HELD * GUESTS, rel=0.001)
        assert held.freed() == 0
        daemon = arena.daemon(
            host=SHORT, guests=rules(arena, **ALL_OF_IT), ksm={"mode": "steer", "cpu": "70%"}
        )
        until(lambda: stance(daemon, "merging"), "merging to begin")
        began_s, seen, rungs, merged_s = time.monotonic(), [took()], set[float](), None
        while time.monotonic() - began_s < 60 and (merged_s is None or not shares(seen)):
            time.sleep(1)
            seen.append(took())
            rungs.add(daemon.metric("balloond_host_rung"))
            if merged_s is None and held.freed() >= MERGEABLE / 2:
                merged_s = time.monotonic() - began_s
        cap, share = daemon.metric("balloond_host_ksm_cpu_cap_ratio"), max(shares(seen))
        print(
            f"half of {MERGEABLE // MIB} MiB merged after {merged_s} s, {held.freed() // MIB} MiB at the end, of "
            f"{ksm().saved // MIB} in all; ksmd took {share:.1%}, cap {cap:.1%}"
        )
        assert merged_s is not None
        assert rungs == {1}, "it was not yellow all the time"
        assert share <= 1.1 * cap
        assert cap == pytest.approx(0.5)
        assert stance(daemon, "merging")
        turned_s = time.monotonic()
        for guest in guests:
            guest.hold(HELD, content="random")
        until(lambda: stance(daemon, "resting"), "merging to end", limit_s=110)
        print(f"rested {time.monotonic() - turned_s:.0f} s after the content turned random")
        assert ksm().run == 0
        before = ksm()
        time.sleep(3)
        after = ksm()
        assert after.scanned == before.scanned
        assert before.cpu_s is not None and after.cpu_s is not None
        assert after.cpu_s - before.cpu_s < 0.001  # a thread may be woken; a step of its work takes more
        assert "pages net were merged in 3 scans" in daemon.log
        daemon.stop()
        assert read_ksm_settings(Root()) == found


def test_a_share_that_binds_is_kept_to(found: KsmSettings, lab: Lab) -> None:
    with lab.arena(pool=2300 * MIB) as arena:
        boot(arena)
        daemon = arena.daemon(
            host=SHORT, guests=rules(arena, **ALL_OF_IT), ksm={"mode": "steer", "cpu": "6%"}
        )
        until(lambda: stance(daemon, "merging"), "merging to begin")
        seen = [took()]
        while seen[-1][0] - seen[0][0] < 75:
            time.sleep(1)
            seen.append(took())
        cap, taken = daemon.metric("balloond_host_ksm_cpu_cap_ratio"), shares(seen)
        print(f"ksmd took {min(taken):.2%} to {max(taken):.2%} in 30 s, cap {cap:.2%}")
        assert cap < 0.05
        assert (
            0.3 * cap <= max(taken) <= 1.1 * cap
        )  # it is at work; it gives way to whoever wants the processor


def test_when_all_merged_pages_are_rewritten_at_once_nobody_dies_and_the_reserve_holds(
    found: KsmSettings, lab: Lab
) -> None:
    with lab.arena(pool=1900 * MIB) as arena:
        guests = boot(arena, content="anon", size=HELD_ONCE)
        hold(guests, HELD, "equal")
        daemon = arena.daemon(host={"reserve": "64MiB", "pool": "25%"}, ksm={"mode": "steer"})
        until(lambda: ksm().saved >= 0.6 * HELD * (GUESTS - 1), "pages to be merged", limit_s=100)
        until(lambda: daemon.metric("balloond_host_covered") == 1, "the ledger to be covered", limit_s=60)
        saved, pool, kills = ksm().saved, 0.25 * 1900 * MIB, arena.pool.oom_kills()
        with looked_at(arena.pool) as left:
            began_s, back_s = time.monotonic(), None
            for guest in guests:
                guest.command(f"random {HELD // MIB} 0")
            while time.monotonic() - began_s < STORM_S:
                time.sleep(LOOK_S)
                if back_s is None and all(guest.report().growth_took_s is not None for guest in guests):
                    back_s = time.monotonic() - began_s
        least = min(left)
        print(
            f"{saved // MIB} MiB were merged, {ksm().saved // MIB} are still; all written anew after {back_s} s; "
            f"{left[0] // MIB} MiB were left before, {least // MIB} at the worst of {len(left)} looks"
        )
        assert len(left) > STORM_S / LOOK_S / 3, "it was hardly looked at"
        assert back_s is not None
        assert saved - ksm().saved > 2 * 64 * MIB  # a storm indeed; what guests' kernels share stays merged
        assert least >= 64 * MIB + 0.6 * pool  # the pool is refilled below that, and the loan was none of it
        assert arena.pool.oom_kills() == kills
        assert not arena.lost()
        assert [guest.report().oom_kills for guest in guests] == [0] * GUESTS


def test_what_was_found_is_put_back_at_a_stop_also_after_a_kill(found: KsmSettings, lab: Lab) -> None:
    Path(f"{KSM}/sleep_millisecs").write_text("33")
    Path(f"{KSM}/pages_to_scan").write_text("321")
    as_found = read_ksm_settings(Root())
    with lab.arena(pool=900 * MIB) as arena:
        boot(arena, 1)
        daemon = arena.daemon(host=SHORT, guests=rules(arena, **ALL_OF_IT), ksm={"mode": "steer"})
        until(lambda: ksm().run == 1, "merging to begin")
        daemon.kill()
        assert ksm().run == 1
        daemon.start()
        until(lambda: daemon.metric("balloond_ticks_total") >= 3, "a few turns")
        assert not stance(daemon, "yielding")  # it knows its own settings again
        daemon.stop()
        assert read_ksm_settings(Root()) == as_found

        daemon.start()
        until(lambda: ksm().run == 1, "merging to begin")
        Path(f"{KSM}/sleep_millisecs").write_text("50")  # somebody else
        until(lambda: stance(daemon, "yielding"), "the daemon to yield")
        time.sleep(4)
        assert ksm().settings.sleep_ms == 50
        assert "somebody else sets" in daemon.log
        daemon.configure(ksm={"mode": "leave"})
        daemon.reload()
        until(lambda: ksm().run == 0, "all to be put back that is not somebody else's")
        assert ksm().settings.sleep_ms == 50
        daemon.stop()
        assert ksm().settings.sleep_ms == 50


def test_off_merges_nothing_and_takes_apart_what_is_merged(found: KsmSettings, lab: Lab) -> None:
    with lab.arena(pool=2300 * MIB) as arena:
        boot(arena, 2, "equal")
        Path(f"{KSM}/pages_to_scan").write_text("4000")
        Path(f"{KSM}/run").write_text("1")
        until(lambda: ksm().saved > HELD / 2, "somebody's merging", limit_s=60)
        daemon = arena.daemon(ksm={"mode": "off"})
        until(lambda: ksm().saved == 0, "all to be taken apart", limit_s=30)
        until(lambda: stance(daemon, "off"), "the daemon to see it")
        assert daemon.stop() == 0
        assert ksm().run != 1  # who wants none does not want it back


RESTLESS = """
import random, sys
from pathlib import Path
from balloond.host.files import Root
from balloond.host.ksm import Merging
from balloond.model import KsmSettings
merging = Merging(Root(), Path(sys.argv[1]))
print("ready", flush=True)
while True:
    chosen = KsmSettings(sleep_ms=random.randint(1, 99), pages_to_scan=random.randint(1, 9999), run=0,
                         advisor=random.choice(("none", "scan-time")), advisor_target_s=random.randint(1, 999))
    merging.set(chosen)
"""


def test_killed_at_fifty_random_instants_of_writing_nothing_of_ours_is_left(
    found: KsmSettings, tmp_path: Path
) -> None:
    """No guests: it is the kernel's files that are written, in the midst of which the writer dies."""
    chance = random.Random(4)
    for _ in range(50):
        with subprocess.Popen(
            [sys.executable, "-c", RESTLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0, 0.02))
            writer.kill()
        seen = read_ksm(Root())
        assert seen is not None
        if chance.random() < 0.5:  # else the next writer finds the notes of several dead ones
            Merging(Root(), tmp_path).put_back(seen)
            assert read_ksm_settings(Root()) == found
    Merging(Root(), tmp_path).put_back(ksm())
    assert read_ksm_settings(Root()) == found
    assert list(tmp_path.iterdir()) == []
