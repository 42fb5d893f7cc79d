"""Is the lab itself real? Guests that boot, balloons that move, limits that bite, and nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from balloond.host.files import Root
from balloond.host.kernel import read_ksm_settings
from balloond.host.ksm import Merging
from balloond.lab import leavings
from balloond.lab.arena import Arena, Lab
from balloond.lab.domain import Machine
from balloond.lab.patience import until
from balloond.model import KsmSettings
from balloond.units import MIB

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def arena(lab: Lab) -> Iterator[Arena]:
    with lab.arena(pool=900 * MIB) as arena:
        yield arena


def test_a_guest_boots_works_and_reports_what_its_own_kernel_sees(arena: Arena) -> None:
    guest = arena.boot(memory=512 * MIB)
    before = guest.report()
    assert 440 * MIB < before.total < 512 * MIB
    assert before.held == 0
    guest.hold(200 * MIB, rate=100 * MIB)
    until(lambda: guest.report().growth_took_s is not None, "the growth's end")
    after = guest.report()
    assert after.held == after.wanted == 200 * MIB
    assert after.growth_took_s is not None
    assert 1.8 < after.growth_took_s < 10
    assert before.available - after.available == pytest.approx(200 * MIB, abs=16 * MIB)
    assert after.served_share > 0.9
    guest.release()
    until(lambda: guest.report().available > before.available - 8 * MIB, "the memory's return")


def test_shrinking_the_balloon_takes_memory_from_the_guest_and_gives_it_to_the_host(arena: Arena) -> None:
    guest = arena.boot(memory=512 * MIB)
    guest.hold(250 * MIB)
    until(lambda: guest.report().held == 250 * MIB, "the guest to have written its memory")
    guest.release()
    until(lambda: guest.report().available > 400 * MIB, "the guest to have its memory free")
    available, used = guest.report().available, arena.pool.usage()
    guest.set_target(256 * MIB)
    until(lambda: guest.actual == 256 * MIB, "the balloon to shrink the guest")
    after = guest.report()
    assert available - after.available > 200 * MIB
    assert after.inflated - after.deflated == 256 * MIB
    until(lambda: used - arena.pool.usage() > 150 * MIB, "the host to have the memory")


def test_a_guest_without_the_driver_keeps_its_memory_whatever_is_asked(arena: Arena) -> None:
    guest = arena.boot(memory=512 * MIB, driver=False)
    guest.set_target(256 * MIB)
    assert guest.report().total > 440 * MIB
    assert guest.report().inflated == 0


def test_reading_the_disk_fills_the_guests_page_cache(arena: Arena) -> None:
    guest = arena.boot(memory=512 * MIB)
    before = guest.report()
    guest.read_disk(100 * MIB, rate=50 * MIB)
    until(lambda: guest.report().cached - before.cached > 95 * MIB, "the cache to fill")
    assert guest.report().reads_served > 0


def test_a_guest_that_runs_out_of_memory_serves_less_and_still_reports(arena: Arena) -> None:
    guest = arena.boot(memory=512 * MIB)
    guest.hold(600 * MIB)
    until(lambda: guest.report().oom_kills > 0, "the guest's own OOM killer")
    guest.release()
    report = guest.report()
    assert report.served < report.asked
    until(lambda: guest.report().restarts > 0, "the worker's restart")


def test_a_guest_with_a_swap_disk_swaps_instead(arena: Arena) -> None:
    guest = arena.boot(memory=512 * MIB, swap=256 * MIB)
    guest.hold(550 * MIB, rate=100 * MIB)
    until(lambda: guest.report().held == 550 * MIB, "the growth into swap", limit_s=90)
    report = guest.report()
    assert report.swap_out > 50 * MIB
    assert report.oom_kills == 0


def test_the_guests_stand_in_the_labs_own_cgroup_under_its_limit(arena: Arena) -> None:
    guests = arena.boot_all([Machine(memory=512 * MIB), Machine(memory=512 * MIB)])
    for guest in guests:
        assert guest.pid in arena.pool.processes()
        assert f"balloond-lab-{arena.run}" in Path(f"/proc/{guest.pid}/cgroup").read_text()
    assert sum(guest.rss for guest in guests) > 200 * MIB
    assert arena.pool.usage() <= 900 * MIB


def test_guests_that_need_more_than_the_pool_are_held_to_it(lab: Lab) -> None:
    arena = lab.arena(pool=500 * MIB, swap=512 * MIB)
    guests = arena.boot_all([Machine(memory=512 * MIB), Machine(memory=512 * MIB)])
    for guest in guests:
        guest.hold(300 * MIB, rate=50 * MIB)
    until(lambda: arena.pool.swapped() > 100 * MIB, "the host to swap", limit_s=90)
    assert arena.pool.usage() <= 500 * MIB
    assert not arena.lost()


LAB_THAT_HANGS = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a build in the background may have it ignored
from balloond.lab.arena import Lab
lab = Lab()
arena = lab.arena(pool=600 << 20, swap=64 << 20)
guest = arena.start(__import__("balloond.lab.domain", fromlist=["Machine"]).Machine(memory=256 << 20))
print(arena.home, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_behind_when_the_lab_is_ended(laboratory: Lab, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LAB_THAT_HANGS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as lab:
        assert lab.stdout is not None
        home = Path(lab.stdout.readline().strip())
        assert home.is_dir()
        assert str(home) in Path("/proc/swaps").read_text()
        assert _names(laboratory, home.name)
        lab.send_signal(how)
    until(lambda: not home.exists(), "the reaper")
    until(lambda: not _names(laboratory, home.name), "libvirt to notice")
    assert str(home) not in Path("/proc/swaps").read_text()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/*{home.name}*"))
    assert not list(leavings.LIBVIRT_LOGS.glob(f"*{home.name}*"))
    assert not list(leavings.LIBVIRT_DATA.glob(f"**/*{home.name}*"))
    until(lambda: not any(home.name in _text(path) for path in _command_lines()), "the reaper's own end")


def test_what_a_dead_run_left_is_swept_and_a_living_one_is_spared(lab: Lab) -> None:
    living = lab.arena(pool=200 * MIB)
    dead = leavings.begin()
    (dead / "owner").write_text("1 999")
    assert leavings.sweep() == [dead.name]
    assert not dead.exists()
    assert living.home.exists()
    assert living.pool.memory.is_dir()


@pytest.mark.parametrize("restored", [True, False])
def test_the_merging_that_a_dead_run_left_on_is_put_back(found: KsmSettings, restored: bool) -> None:
    dead = leavings.begin()
    (dead / "state").mkdir()
    merging = Merging(Root(), dead / "state")
    merging.wish(restored=restored)
    merging.set(KsmSettings(run=1, pages_to_scan=4000))
    (dead / "owner").write_text("1 999")
    assert read_ksm_settings(Root()) != found
    assert leavings.sweep() == [dead.name]
    assert read_ksm_settings(Root()) == found


def _names(lab: Lab, run: str) -> list[str]:
    try:
        domains = lab.libvirtd.connection.listAllDomains()
        return [name for name in (domain.name() for domain in domains) if run in name]
    except libvirt.libvirtError:
        return []


def _command_lines() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*/cmdline"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
