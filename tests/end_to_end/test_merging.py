"""Does merging free memory, keep to its share, stop when it must, and leave the kernel as it was found?

The kernel's merging is the whole machine's: what was found is put back after each test, however it ends.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from balloond.host.files import Root
from balloond.host.kernel import KSM, read_ksm, read_ksm_settings
from balloond.host.ksm import Merging
from balloond.lab.arena import Arena, Lab
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.patience import until
from balloond.model import Ksm, KsmSettings
from balloond.units import MIB

pytestmark = pytest.mark.end_to_end

HELD = 192 * MIB
GUESTS = 4
EQUAL = 0.8  # of what is held `mostly` equal
MERGEABLE = int(EQUAL * HELD * (GUESTS - 1))
"""What could be freed: of each page that all have, all but one. Guests' kernels are alike too, on top of it."""

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


def boot(arena: Arena, count: int = GUESTS, content: str = "mostly") -> Sequence[Guest]:
    """Guests that hold pages of that content, all of them there."""
    guests = arena.boot_all([Machine(memory=512 * MIB) for _ in range(count)])
    for guest in guests:
        guest.hold(HELD, rate=64 * MIB, content=content)
    for guest in guests:
        until(lambda guest=guest: guest.report().held == HELD, "the pages to be written", limit_s=60)  # type: ignore[misc]  # bound at once
    return guests


def rules(arena: Arena, **policy: object) -> list[dict[str, object]]:
    return [{"match": {"name": f"balloond-lab-{arena.run}-*"}, **policy}]


def stance(daemon: Daemon, name: str) -> bool:
    return daemon.metric("balloond_host_ksm_stance", stance=name, missing=0.0) == 1


def test_equal_pages_are_merged_within_the_share_and_random_ones_end_it(found: KsmSettings, lab: Lab) -> None:
    with lab.arena(pool=2300 * MIB) as arena:
        guests = boot(arena)
        daemon = arena.daemon(
            host=SHORT, guests=rules(arena, **ALL_OF_IT), ksm={"mode": "steer", "cpu": "70%"}
        )
        until(lambda: stance(daemon, "merging"), "merging to begin")
        began_s, took_s, merged_s = time.monotonic(), [cpu_s()], None
        while time.monotonic() - began_s < 60:
            time.sleep(1)
            took_s.append(cpu_s())
            if merged_s is None and ksm().saved >= MERGEABLE / 2:
                merged_s = time.monotonic() - began_s
            if merged_s is not None and len(took_s) > 31:
                break
        assert daemon.metric("balloond_host_rung") == 1
        cap = daemon.metric("balloond_host_ksm_cpu_cap_ratio")
        share = max(after - before for before, after in zip(took_s, took_s[30:], strict=False)) / 30
        print(
            f"half of {MERGEABLE // MIB} MiB merged after {merged_s} s; ksmd took {share:.1%}, cap {cap:.1%}"
        )
        assert merged_s is not None
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
        took_s = [cpu_s()]
        for _ in range(75):
            time.sleep(1)
            took_s.append(cpu_s())
        cap = daemon.metric("balloond_host_ksm_cpu_cap_ratio")
        shares = [(after - before) / 30 for before, after in zip(took_s, took_s[30:], strict=False)]
        print(f"ksmd took {min(shares):.2%} to {max(shares):.2%} in 30 s, cap {cap:.2%}")
        assert cap < 0.05
        assert 0.5 * cap <= max(shares) <= 1.1 * cap


def test_when_all_merged_pages_are_rewritten_at_once_nobody_dies_and_the_reserve_holds(
    found: KsmSettings, lab: Lab
) -> None:
    with lab.arena(pool=1900 * MIB) as arena:
        guests = boot(arena, content="equal")
        daemon = arena.daemon(host={"reserve": "64MiB", "pool": "25%"}, ksm={"mode": "steer"})
        until(lambda: ksm().saved >= 0.6 * HELD * (GUESTS - 1), "pages to be merged", limit_s=100)
        until(lambda: daemon.metric("balloond_host_covered") == 1, "the ledger to be covered", limit_s=60)
        saved, pool, kills = ksm().saved, 0.25 * 1900 * MIB, arena.pool.oom_kills()
        least = daemon.metric("balloond_host_available_bytes")
        began_s, back_s = time.monotonic(), None
        for guest in guests:
            guest.command(f"random {HELD // MIB} 0")
        while time.monotonic() - began_s < 30:
            least = min(least, daemon.metric("balloond_host_available_bytes", missing=least))
            if back_s is None and all(guest.report().held == HELD for guest in guests):
                back_s = time.monotonic() - began_s
        print(
            f"{saved // MIB} MiB were merged, {ksm().saved // MIB} are still; all written anew after {back_s} s; "
            f"{least / MIB:.0f} MiB were available at the worst"
        )
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
