"""Does the daemon do its work on real guests? What is asserted is what guests and kernel see."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import libvirt
import pytest

from balloond.lab.arena import Arena, Lab
from balloond.lab.daemon import Daemon
from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.patience import until
from balloond.units import MIB

pytestmark = pytest.mark.end_to_end

GUEST = 768 * MIB
NARROW = 1440 * MIB
"""Three guests of 768 MiB with some 110 MiB each for QEMU itself fit into this only with balloons."""


@pytest.fixture
def arena(lab: Lab) -> Iterator[Arena]:
    with lab.arena(pool=NARROW) as arena:
        yield arena


def boot(arena: Arena, count: int = 3, **options: object) -> list[Guest]:
    return arena.boot_all([Machine(memory=GUEST, **options) for _ in range(count)])  # type: ignore[arg-type]  # fields of Machine


def actual(daemon: Daemon, guest: Guest) -> float:
    return daemon.metric("balloond_guest_actual_bytes", guest=guest.name, missing=0.0)


def covered(daemon: Daemon) -> bool:
    """Whether the daemon says that all it has promised to guests is backed."""
    return daemon.metric("balloond_host_headroom_bytes", missing=-1.0) >= 0


def test_idle_guests_are_shrunk_under_need_and_their_own_kernels_see_it(arena: Arena) -> None:
    guests = boot(arena)
    before = [guest.report().available for guest in guests]
    daemon = arena.daemon()
    until(lambda: covered(daemon), "the ledger to be covered", limit_s=60)
    for guest, had in zip(guests, before, strict=True):
        assert had - guest.report().available > 100 * MIB
        assert guest.actual < GUEST - 100 * MIB
        assert abs(actual(daemon, guest) - guest.actual) < 64 * MIB
    assert sum(guest.actual for guest in guests) < NARROW
    assert daemon.metric("balloond_actions_total", result="done", direction="shrink") >= 3


RATES = (40, 64, 80)
"""Of growth, MiB a second. At 80 what is free, 180 MiB, lasts for 2.2 s; the sample that shows the growth comes
after a second at most, and the look at that sample another second later. One that grows more slowly is grown while
it grows: it must be seen to go on."""


@pytest.mark.parametrize("rate", RATES)
def test_a_growing_guest_gets_its_memory_back_and_its_work_is_served_within_five_seconds(
    arena: Arena, rate: int
) -> None:
    guests = boot(arena)
    daemon = arena.daemon()
    until(lambda: covered(daemon), "the ledger to be covered", limit_s=60)
    grower = guests[0]
    small = grower.actual
    need = small - 40 * MIB  # with the guest kernel's own need, more than it has
    began = time.monotonic()
    grower.hold(need, rate=rate * MIB)
    growing_s = need / (rate * MIB)
    until(lambda: grower.report().held == need, "the workload to have its memory", limit_s=growing_s + 5)
    took_s = time.monotonic() - began
    assert took_s < growing_s + 5
    assert grower.actual > small
    after = grower.report()
    time.sleep(3)
    later = grower.report()
    assert later.oom_kills == 0
    assert later.served - after.served >= 0.9 * (later.asked - after.asked)


def test_nothing_is_done_while_all_maxima_fit(lab: Lab) -> None:
    with lab.arena(pool=2400 * MIB) as arena:
        guests = boot(arena, count=2)
        daemon = arena.daemon()
        guests[0].hold(300 * MIB)
        until(lambda: daemon.metric("balloond_ticks_total") >= 12, "a dozen turns")
        assert [guest.actual for guest in guests] == [GUEST, GUEST]
        assert daemon.metric("balloond_actions_total", missing=0.0) == 0


def test_observe_mode_decides_and_exports_and_never_touches_a_guest(arena: Arena) -> None:
    guests = boot(arena, period_s=1)
    daemon = arena.daemon(mode="observe")
    until(
        lambda: daemon.metric("balloond_actions_total", result="observed", missing=0.0) > 5,
        "decisions that are not carried out",
    )
    assert [guest.actual for guest in guests] == [GUEST] * 3
    assert daemon.metric("balloond_actions_total", result="done", missing=0.0) == 0
    assert [guest.report().inflated for guest in guests] == [0, 0, 0]


def test_observe_mode_leaves_the_statistics_period_of_guests_alone(arena: Arena) -> None:
    guest = boot(arena, count=1)[0]
    daemon = arena.daemon(mode="observe")
    until(lambda: daemon.metric("balloond_ticks_total") >= 4, "a few turns")
    assert "<stats" not in guest.domain.XMLDesc()


def test_a_guest_without_a_driver_is_left_alone_while_the_others_are_managed(arena: Arena) -> None:
    mute = arena.start(Machine(memory=GUEST, driver=False))
    others = boot(arena, count=2)
    mute.wait()
    daemon = arena.daemon()
    until(lambda: all(guest.actual < GUEST - 64 * MIB for guest in others), "the others to be shrunk", 90)
    assert mute.actual == GUEST
    assert daemon.metric("balloond_guest_trust", guest=mute.name, trust="absent", missing=0.0) == 1


def test_guests_that_are_reset_and_destroyed_under_way_trouble_nobody_else(arena: Arena) -> None:
    guests = boot(arena)
    daemon = arena.daemon()
    until(lambda: any(guest.actual < GUEST for guest in guests), "the first step")
    guests[0].domain.reset(0)
    guests[1].disown()
    guests[1].domain.destroy()
    until(
        lambda: daemon.metric("balloond_guest_actual_bytes", guest=guests[1].name, missing=-1.0) == -1,
        "the destroyed guest to vanish from the metrics",
    )
    guests[0].wait()
    until(lambda: covered(daemon), "the ledger to be covered again", limit_s=90)
    assert daemon.running
    assert "Traceback" not in daemon.log
    assert guests[2].report().oom_kills == 0


def test_libvirtd_is_killed_and_started_again_and_the_daemon_goes_on(lab: Lab, arena: Arena) -> None:
    if not lab.libvirtd.is_ours:
        pytest.skip("the machine's own libvirtd is not ours to kill")
    guests = boot(arena)
    daemon = arena.daemon()
    until(lambda: any(actual(daemon, guest) < GUEST for guest in guests), "the first step")
    lab.libvirtd.kill()
    until(lambda: daemon.metric("balloond_libvirt_connected") == 0, "the daemon to notice")
    moved = daemon.metric("balloond_actions_total", result="done")
    time.sleep(3)
    assert daemon.metric("balloond_actions_total", result="done") == moved  # frozen
    lab.libvirtd.start()
    until(lambda: daemon.metric("balloond_libvirt_connected") == 1, "the daemon to be back", limit_s=60)
    until(lambda: covered(daemon), "the ledger to be covered", limit_s=60)
    assert "Traceback" not in daemon.log


def test_a_hung_guest_delays_and_harms_nobody_else(arena: Arena) -> None:
    guests = boot(arena)
    daemon = arena.daemon()
    until(lambda: all(actual(daemon, guest) < GUEST for guest in guests), "a first step of all")
    os.kill(guests[0].pid, signal.SIGSTOP)
    try:
        ticks = daemon.metric("balloond_ticks_total")
        others = [guest.actual for guest in guests[1:]]
        until(lambda: daemon.metric("balloond_ticks_total") >= ticks + 8, "turns to go on", limit_s=25)
        until(
            lambda: daemon.metric("balloond_guest_obstacle", guest=guests[0].name, missing=0.0) == 1,
            "the hung guest to be told of",
        )
        assert all(daemon.metric("balloond_guest_usable_bytes", guest=g.name) > 0 for g in guests[1:])
        assert [g.actual for g in guests[1:]] <= others
    finally:
        os.kill(guests[0].pid, signal.SIGCONT)
    until(
        lambda: daemon.metric("balloond_guest_obstacle", guest=guests[0].name, missing=0.0) == 0,
        "the guest to be managed again",
        limit_s=90,
    )


def test_sigterm_returns_memory_and_restores_statistics_periods(lab: Lab) -> None:
    pool = 1800 * MIB
    with lab.arena(pool=pool) as arena:
        guests = boot(arena)
        daemon = arena.daemon(host={"reserve": "64MiB", "pool": "25%"})
        room = 0.12 * pool
        until(
            lambda: daemon.metric("balloond_host_headroom_bytes", missing=-1.0) > room,
            "the pool to be filled",
            limit_s=60,
        )
        assert all("<stats period='1'/>" in guest.domain.XMLDesc() for guest in guests)
        before = sum(guest.actual for guest in guests)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 10
        until(lambda: sum(guest.actual for guest in guests) > before + room / 2, "memory to come back")
        assert sum(guest.actual for guest in guests) < pool  # and no more than the host can afford
        assert not any("<stats" in guest.domain.XMLDesc() for guest in guests)


def test_a_killed_daemon_leaves_guests_as_they_are_and_takes_up_where_it_was(arena: Arena) -> None:
    guests = boot(arena)
    daemon = arena.daemon()
    until(lambda: covered(daemon), "the ledger to be covered", limit_s=60)
    daemon.kill()
    sizes = [guest.actual for guest in guests]
    time.sleep(2)
    assert [guest.actual for guest in guests] == sizes
    daemon.start()
    until(lambda: daemon.metric("balloond_ticks_total") >= 6, "a few turns")
    for size, guest in zip(sizes, guests, strict=True):
        assert abs(guest.actual - size) < 128 * MIB
    daemon.stop()
    assert not any("<stats" in guest.domain.XMLDesc() for guest in guests)  # the first one's notes were kept


def test_a_broken_file_changes_nothing_at_reload_and_a_good_one_does(arena: Arena) -> None:
    guests = boot(arena)
    daemon = arena.daemon(mode="observe")
    good = daemon.config.read_text()
    daemon.config.write_text('mode: active\ninterval: 7\nnonsense: "yes"\n')
    daemon.reload()
    until(
        lambda: daemon.metric("balloond_config_reloads_total", result="failed", missing=0.0) == 1, "the count"
    )
    assert "balloond.yaml:2: interval:" in daemon.log
    assert "balloond.yaml:3: (file): has no key 'nonsense'" in daemon.log
    assert [guest.actual for guest in guests] == [GUEST] * 3
    daemon.config.write_text(good.replace("observe", "active"))
    daemon.reload()
    until(lambda: any(guest.actual < GUEST for guest in guests), "the daemon to act")


def test_a_paused_guest_is_left_alone_until_it_is_resumed(arena: Arena) -> None:
    guests = boot(arena)
    guests[0].domain.suspend()
    daemon = arena.daemon()
    until(lambda: all(actual(daemon, guest) < GUEST for guest in guests[1:]), "the others' first step")
    assert guests[0].actual == GUEST
    assert daemon.metric("balloond_guest_obstacle", guest=guests[0].name, obstacle="not-running") == 1
    guests[0].domain.resume()
    until(lambda: actual(daemon, guests[0]) < GUEST, "the resumed guest's turn", limit_s=90)


def test_an_excluded_guest_keeps_its_memory(arena: Arena) -> None:
    guests = boot(arena)
    rules = [
        {"match": {"uuid": guests[0].uuid}, "manage": False},
        {"match": {"name": f"balloond-lab-{arena.run}-*"}, "manage": True},
    ]
    daemon = arena.daemon(guests=rules)
    until(lambda: all(actual(daemon, guest) < GUEST for guest in guests[1:]), "the others' first step")
    assert guests[0].actual == GUEST
    assert "<stats" not in guests[0].domain.XMLDesc()


def test_memory_that_is_set_behind_the_daemons_back_is_noticed(arena: Arena) -> None:
    guests = boot(arena)
    daemon = arena.daemon()
    until(lambda: covered(daemon), "the ledger to be covered", limit_s=60)
    guests[0].domain.setMemoryFlags(GUEST // 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    until(lambda: not covered(daemon), "the daemon to see it")
    until(lambda: covered(daemon), "the ledger to be covered again", limit_s=90)
