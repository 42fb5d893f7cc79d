"""Both edges put together, with a tree of files for the kernel and a small fake for the guests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from balloond.config.settings import (
    Config,
    GuestPolicy,
    GuestRule,
    HostPolicy,
    KsmMode,
    KsmPolicy,
    Mode,
)
from balloond.host import ksm as ksm_edge
from balloond.host import relief as relief_edge
from balloond.host.cgroup import Place
from balloond.host.files import Root
from balloond.host.kernel import read_ksm_settings
from balloond.host.ksm import Merging
from balloond.host.merged import EVERYWHERE_S
from balloond.host.periods import Periods
from balloond.host.processes import PROGRAM_MOST
from balloond.host.relief import Relief
from balloond.host.world import (
    APPLY_MOST_S,
    CGROUPS_EACH_S,
    OBSERVE_LEAST_S,
    OBSERVE_MOST_S,
    SET_MOST_S,
    TAKE_MOST_S,
    RealWorld,
    is_noted,
    put_back_noted,
)
from balloond.model import (
    Fault,
    FaultKind,
    Guest,
    GuestCgroup,
    Host,
    KsmSettings,
    LimitSoftly,
    Obstacle,
    Outcome,
    PoolSource,
    Reason,
    Reclaim,
    Result,
    SetMerging,
    SetTarget,
    Snapshot,
)
from balloond.policy.solvency import QEMU_OVERHEAD, judge
from balloond.units import GIB, KIB, MIB, PAGE
from tests.fixtures.hosts import (
    BATCH,
    DB,
    V2,
    WEB,
    Files,
    cgroup_v2,
    kernel,
    new_ksm,
    old_ksm,
    on_v2,
    plant,
    process,
    scope,
)

if TYPE_CHECKING:
    from balloond import loop

SLICE = "/machine.slice"


def guest(uuid: str, name: str, *, rss: int | None = 64 * MIB) -> Guest:
    return Guest(uuid=uuid, name=name, maximum=2 * GIB, actual=2 * GIB, rss=rss)


def set_target(name: str) -> SetTarget:
    return SetTarget(uuid=name, name=name, actual=2 * GIB, target=1 * GIB, reason=Reason.DONATE, words="")


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeGuests:
    """Guests as they are put here; each call takes `takes_s` on the clock."""

    clock: Clock
    guests: tuple[Guest, ...] | None = ()
    faults: tuple[Fault, ...] = ()
    appearing: dict[str, int] = field(default_factory=dict)  # processes that are found while observing
    takes_s: float = 0.0
    deadlines_s: list[float] = field(default_factory=list)
    was_active: bool | None = None
    could_be_touched: list[str] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def qemu_pids(self) -> Mapping[str, int]:
        return self.pids

    def observe(
        self, deadline_s: float, *, active: bool, managed: Callable[[str, str, str], bool]
    ) -> tuple[tuple[Guest, ...] | None, tuple[Fault, ...]]:
        self.clock.now_s += self.takes_s
        self.deadlines_s.append(deadline_s)
        self.was_active = active
        self.could_be_touched = [one.name for one in self.guests or () if managed(one.uuid, one.name, "")]
        self.pids |= self.appearing
        return self.guests, self.faults

    def set_target(self, action: SetTarget, deadline_s: float) -> Outcome:
        self.deadlines_s.append(deadline_s)
        self.clock.now_s += self.takes_s
        return Outcome(action=action, result=Result.DONE)


@dataclass
class Scene:
    root: Path
    clock: Clock
    guests: FakeGuests
    world: RealWorld
    config: Config

    def plant(self, *files: Files) -> None:
        for some in files:
            plant(self.root, some)

    def run_guests(self, **rss: int) -> None:
        """Guests of these names below machine.slice, with this much resident."""
        uuids = {"web": WEB, "db": DB, "batch": BATCH}
        for number, (name, resident) in enumerate(rss.items(), start=101):
            self.plant(process(number, on_v2(scope(number, name) + "/libvirt"), rss=resident))
            self.guests.appearing[uuids[name]] = number
        self.guests.guests = tuple(guest(uuids[name], name) for name in rss)

    def host(self) -> Host:
        host = self.world.observe().host
        assert host is not None
        return host


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    clock = Clock()
    guests = FakeGuests(clock)
    holder: list[Scene] = []
    world = RealWorld(
        guests,
        config=lambda: holder[0].config,
        monotonic=clock,
        wall=lambda: clock.now_s + 1e9,
        state=tmp_path / "state",
        root=tmp_path,
    )
    scene = Scene(root=tmp_path, clock=clock, guests=guests, world=world, config=Config())
    holder.append(scene)
    scene.plant(kernel(total=24 * GIB, available=20 * GIB, swap_total=4 * GIB, swap_free=4 * GIB))
    yield scene
    world.close()


def by_name(snapshot: Snapshot) -> dict[str, Guest]:
    assert snapshot.guests is not None
    return {one.name: one for one in snapshot.guests}


def unmanaged(*names: str) -> tuple[GuestRule, ...]:
    return tuple(GuestRule(policy=GuestPolicy(manage=False), name=name) for name in names)


def test_it_is_a_world_of_the_loops(scene: Scene) -> None:
    world: loop.World = scene.world
    assert world.observe().guests == ()


# --- what is observed ------------------------------------------------------------------------------------


def test_residents_are_the_kernels_figures_not_libvirts(scene: Scene) -> None:
    scene.run_guests(web=700 * MIB)
    assert by_name(scene.world.observe())["web"].rss == 700 * MIB


def test_a_guest_whose_process_cannot_be_read_keeps_libvirts_figure(scene: Scene) -> None:
    scene.guests.guests = (guest(WEB, "web", rss=64 * MIB),)
    assert by_name(scene.world.observe())["web"].rss == 64 * MIB


def test_the_whole_host_is_the_pool_where_nothing_limits_it(scene: Scene) -> None:
    scene.run_guests(web=1 * GIB)
    host = scene.host()
    assert (host.source, host.total, host.available) == (PoolSource.HOST, 24 * GIB, 20 * GIB)


def test_a_limited_cgroup_is_the_pool_in_the_very_first_snapshot(scene: Scene) -> None:
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    limits = {"limit": 8 * GIB, "usage": 3 * GIB, "swap_limit": 1 * GIB, "swapped": 256 * MIB}
    scene.plant(cgroup_v2(SLICE, **limits))
    host = scene.host()
    assert (host.source, host.total, host.available) == (PoolSource.CGROUP, 8 * GIB, 5 * GIB)
    assert (host.swap_total, host.swap_free) == (1 * GIB, 768 * MIB)
    assert host.pressure is not None
    assert host.pressure.some_avg10 == pytest.approx(0.075)
    assert host.oom_kills == 4


def test_a_pool_has_no_more_available_than_its_host(scene: Scene) -> None:
    scene.run_guests(web=1 * GIB)
    scene.plant(kernel(total=24 * GIB, available=1 * GIB), cgroup_v2(SLICE, limit=8 * GIB, usage=3 * GIB))
    assert scene.host().available == 1 * GIB


def test_the_operators_figure_is_the_pool_where_it_is_the_smallest(scene: Scene) -> None:
    scene.config = Config(host=HostPolicy(memory=4 * GIB))
    scene.run_guests(web=1 * GIB, db=2 * GIB)
    scene.plant(cgroup_v2(SLICE, limit=8 * GIB, usage=3 * GIB))
    host = scene.host()
    assert (host.source, host.total, host.available) == (PoolSource.OPERATOR, 4 * GIB, 1 * GIB)


def test_an_operators_figure_beyond_the_host_changes_nothing(scene: Scene) -> None:
    scene.config = Config(host=HostPolicy(memory=64 * GIB))
    scene.run_guests(web=1 * GIB)
    host = scene.host()
    assert (host.source, host.total, host.available) == (PoolSource.HOST, 24 * GIB, 20 * GIB)


def test_merged_pages_are_counted_once_in_the_operators_pool(scene: Scene) -> None:
    scene.config = Config(host=HostPolicy(memory=4 * GIB))
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    scene.plant(new_ksm())
    assert scene.host().available == 2 * GIB + 1024 * PAGE


def test_guests_that_hold_more_than_the_operators_figure_leave_nothing(scene: Scene) -> None:
    scene.config = Config(host=HostPolicy(memory=1 * GIB))
    scene.run_guests(web=1 * GIB, db=2 * GIB)
    assert scene.host().available == 0


# --- guests that are not managed -------------------------------------------------------------------------


def test_an_unmanaged_guest_elsewhere_neither_makes_the_pool_nor_lies_in_it(scene: Scene) -> None:
    scene.config = Config(guests=unmanaged("db"))
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    scene.plant(process(102, on_v2("/other.slice/machine-qemu\\x2d2\\x2ddb.scope")))
    scene.plant(cgroup_v2(SLICE, limit=8 * GIB, usage=3 * GIB), cgroup_v2("/other.slice", limit=1 * GIB))
    snapshot = scene.world.observe()
    assert snapshot.faults == ()
    assert snapshot.host is not None
    assert snapshot.host.total == 8 * GIB
    seen = by_name(snapshot)
    assert seen["web"].in_pool
    assert not seen["db"].in_pool
    assert (seen["db"].obstacle, seen["db"].rss) == (Obstacle.UNMANAGED, None)


def test_an_unmanaged_guest_in_the_same_cgroup_uses_the_pool(scene: Scene) -> None:
    scene.config = Config(guests=unmanaged("db"))
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    scene.plant(cgroup_v2(SLICE, limit=8 * GIB, usage=3 * GIB))
    assert by_name(scene.world.observe())["db"].in_pool


def test_on_the_whole_host_unmanaged_guests_use_the_pool(scene: Scene) -> None:
    scene.config = Config(guests=unmanaged("db"))
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    assert by_name(scene.world.observe())["db"].in_pool


def test_what_the_operator_sets_aside_is_for_managed_guests(scene: Scene) -> None:
    scene.config = Config(guests=unmanaged("db"), host=HostPolicy(memory=4 * GIB))
    scene.run_guests(web=1 * GIB, db=3 * GIB)
    snapshot = scene.world.observe()
    assert snapshot.host is not None
    assert snapshot.host.available == 3 * GIB
    assert not by_name(snapshot)["db"].in_pool


def test_what_lies_outside_of_the_pool_is_what_the_host_has_besides_less_what_no_guest_holds(
    scene: Scene,
) -> None:
    scene.config = Config(guests=unmanaged("db"), host=HostPolicy(memory=4 * GIB))
    scene.run_guests(web=1 * GIB, db=2 * GIB)
    used = 24 * GIB - 20 * GIB
    assert scene.host().outside == 24 * GIB - 4 * GIB - (used - 3 * GIB)
    scene.config = Config()
    assert scene.host().outside == 0


def test_qemus_program_is_in_memory_once_however_many_guests_share_it(scene: Scene) -> None:
    scene.config = Config(guests=unmanaged("db"), host=HostPolicy(memory=4 * GIB))
    scene.run_guests(web=1 * GIB, db=2 * GIB, batch=1 * GIB)
    for number, name, rss in ((101, "web", 1), (102, "db", 2), (103, "batch", 1)):
        scene.plant(process(number, on_v2(scope(number, name)), rss=rss * GIB, file=24 * MIB))
    host = scene.host()
    used = 24 * GIB - 20 * GIB  # with the program once: it is the host's own
    assert host.outside == 24 * GIB - 4 * GIB - (used - 4 * GIB + 3 * 24 * MIB)
    assert host.available == 4 * GIB - (2 * GIB - 24 * MIB)


def test_a_pinned_guest_outside_of_the_pool_is_known_for_one(scene: Scene) -> None:
    scene.config = Config(guests=unmanaged("*"), host=HostPolicy(memory=4 * GIB))
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    web, db = scene.guests.guests or ()
    scene.guests.guests = (
        replace(web, obstacle=Obstacle.LOCKED),
        replace(db, obstacle=Obstacle.IN_JOB),
    )
    seen = by_name(scene.world.observe())
    assert [seen[name].obstacle for name in ("web", "db")] == [Obstacle.LOCKED, Obstacle.UNMANAGED]
    assert not seen["web"].in_pool
    assert seen["web"].overhead == QEMU_OVERHEAD


def test_a_reload_that_manages_other_guests_changes_the_pool_at_once(scene: Scene) -> None:
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    scene.plant(process(102, on_v2("/other.slice/machine-qemu\\x2d2\\x2ddb.scope")))
    scene.plant(cgroup_v2(SLICE, limit=8 * GIB), cgroup_v2("/other.slice"))
    assert scene.host().source is PoolSource.HOST
    scene.config = Config(guests=unmanaged("db"))
    assert scene.host().source is PoolSource.CGROUP


# --- when something fails --------------------------------------------------------------------------------


def test_an_unreadable_kernel_leaves_the_guests_in_the_snapshot(scene: Scene) -> None:
    scene.run_guests(web=1 * GIB)
    scene.plant({"/proc/meminfo": "garbage\n"})
    snapshot = scene.world.observe()
    assert snapshot.host is None
    assert by_name(snapshot).keys() == {"web"}
    assert [fault.kind for fault in snapshot.faults] == [FaultKind.KERNEL_UNREADABLE]


def test_without_libvirt_the_pool_is_still_that_of_the_guests_last_seen(scene: Scene) -> None:
    scene.run_guests(web=1 * GIB)
    scene.plant(cgroup_v2(SLICE, limit=8 * GIB, usage=3 * GIB))
    scene.world.observe()
    scene.guests.guests = None
    scene.guests.pids.clear()
    scene.guests.appearing.clear()
    scene.guests.faults = (Fault(kind=FaultKind.LIBVIRT_DOWN, subject="qemu:///system", detail="refused"),)
    for _ in range(2):
        snapshot = scene.world.observe()
    assert snapshot.guests is None
    assert snapshot.host is not None
    assert snapshot.host.total == 8 * GIB
    assert snapshot.faults == scene.guests.faults


# --- merging ---------------------------------------------------------------------------------------------

MERGE = SetMerging(to=KsmSettings(run=1, sleep_ms=40), words="")


def idle_ksm() -> Files:
    return old_ksm() | {"/sys/kernel/mm/ksm/run": "0\n"}


def settings_of(scene: Scene) -> tuple[int, int]:
    settings = read_ksm_settings(Root(scene.root))
    assert settings.run is not None and settings.sleep_ms is not None
    return settings.run, settings.sleep_ms


def test_merging_is_set_known_for_ours_and_put_back(scene: Scene) -> None:
    scene.plant(idle_ksm())
    (measured,) = scene.world.take((MERGE,))
    assert measured.result is Result.DONE
    assert settings_of(scene) == (1, 40)
    host = scene.world.observe().host
    assert host is not None and host.ksm is not None and host.ksm.put is not None
    assert host.ksm.put.sleep_ms == 40
    assert scene.world.put_back() == ()
    assert settings_of(scene) == (0, 20)


def test_what_a_killed_daemon_left_of_merging_is_steered_on_or_put_back_where_one_only_observes(
    scene: Scene,
) -> None:
    scene.plant(idle_ksm())
    scene.world.take((MERGE,))
    assert scene.world.take_up() == ()
    assert settings_of(scene) == (1, 40)
    scene.config = replace(scene.config, mode=Mode.OBSERVE)
    assert scene.world.take_up() == ()
    assert settings_of(scene) == (0, 20)


def test_after_a_daemon_that_was_killed_all_is_put_back_also_where_none_can_follow(scene: Scene) -> None:
    scene.plant(idle_ksm())
    own = on_orange(scene)
    assert not is_noted(scene.root / "state")
    scene.world.take([LIMIT, MERGE])
    assert settings_of(scene) == (1, 40)
    assert is_noted(scene.root / "state")
    assert put_back_noted(scene.root / "state", scene.root) == ()
    assert settings_of(scene) == (0, 20)
    assert text(scene, f"{own}/memory.high") == "max"
    assert not is_noted(scene.root / "state")
    assert put_back_noted(scene.root / "state", scene.root) == ()


def test_who_only_looks_touches_no_note_and_who_acts_removes_what_a_killed_one_left(scene: Scene) -> None:
    left = {f"/state/.{name}.json.new": "{" for name in ("limits", "merging", "periods")}
    for removes in (scene.world.take_up, lambda: put_back_noted(scene.root / "state", scene.root)):
        scene.plant(left)
        for looks in (Merging, Relief):
            looks(Root(scene.root), scene.root / "state")
        Periods(scene.root / "state")
        scene.world.observe()
        assert len(list((scene.root / "state").iterdir())) == len(left)
        assert removes() == ()
        assert list((scene.root / "state").iterdir()) == []


@pytest.mark.parametrize("policy", [KsmPolicy(restore=False), KsmPolicy(mode=KsmMode.OFF)])
def test_merging_stays_as_it_is_where_the_operator_wants_nothing_put_back(
    scene: Scene, policy: KsmPolicy
) -> None:
    scene.plant(idle_ksm())
    scene.world.take((MERGE,))
    scene.config = replace(scene.config, ksm=policy)
    assert scene.world.put_back() == ()
    assert settings_of(scene) == (1, 40)
    assert list((scene.root / "state").iterdir()) == []


@pytest.mark.parametrize("policy", [KsmPolicy(restore=False), KsmPolicy(mode=KsmMode.OFF)])
@pytest.mark.parametrize("since", ["begin", "reload"])
def test_after_a_kill_and_with_a_broken_file_merging_stays_where_the_operator_wanted_it_so(
    scene: Scene, policy: KsmPolicy, since: str
) -> None:
    scene.plant(idle_ksm(), {"/sys/kernel/mm/ksm/run": "1\n"})
    wanted = replace(scene.config, ksm=policy)
    scene.config = wanted if since == "begin" else scene.config
    scene.world.observe()
    scene.world.take((SetMerging(to=KsmSettings(run=0, sleep_ms=40), words=""),))
    scene.config = wanted
    scene.world.observe()
    assert put_back_noted(scene.root / "state", scene.root) == ()
    assert settings_of(scene) == (0, 40)
    assert list((scene.root / "state").iterdir()) == []


def test_nobody_goes_on_unmerging_once_its_room_is_no_longer_watched(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ksm_edge, "UNMERGE", "import time; time.sleep(60)")
    scene.plant(idle_ksm())
    scene.config = replace(scene.config, ksm=KsmPolicy(mode=KsmMode.OFF))
    scene.world.take((SetMerging(to=KsmSettings(run=2), words=""),))
    unmerger = vars(vars(scene.world)["_merging"])["_writer"]
    assert unmerger.poll() is None
    scene.plant({"/sys/kernel/mm/ksm/run": "2\n"})
    assert scene.world.put_back() == ()
    assert unmerger.poll() is not None
    assert not (scene.root / "state/merging.json").exists()


def test_what_can_not_be_put_back_is_said(scene: Scene) -> None:
    scene.plant(idle_ksm())
    scene.world.take((MERGE,))

    scene.plant({"/state/.merging.json.new/x": ""})  # a directory where the note would be written
    (said,) = scene.world.put_back()
    assert "merging.json" in said


def test_where_nothing_was_set_nothing_is_put_back(scene: Scene) -> None:
    scene.plant(idle_ksm())
    assert scene.world.put_back() == ()
    assert not (scene.root / "state").exists()


# --- all of it -------------------------------------------------------------------------------------------


def test_all_faults_are_told_together(scene: Scene) -> None:
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    scene.plant(process(102, on_v2("/other.slice/machine-qemu\\x2d2\\x2ddb.scope")))
    scene.plant(cgroup_v2(SLICE, limit=8 * GIB), cgroup_v2("/other.slice", limit=1 * GIB))
    scene.guests.faults = (Fault(kind=FaultKind.GUEST_UNREADABLE, subject=WEB, detail="its monitor hangs"),)
    kinds = [fault.kind for fault in scene.world.observe().faults]
    assert kinds == [FaultKind.POOL_DIVIDED, FaultKind.GUEST_UNREADABLE]


# --- time ------------------------------------------------------------------------------------------------


def test_a_snapshots_time_is_that_of_its_end(scene: Scene) -> None:
    scene.guests.takes_s = 1.5
    snapshot = scene.world.observe()
    assert (snapshot.monotonic_s, snapshot.wall_s) == (101.5, 101.5 + 1e9)


@pytest.mark.parametrize(
    ("interval_s", "deadline_s"), [(0.1, OBSERVE_LEAST_S), (4.0, 4.0), (60.0, OBSERVE_MOST_S)]
)
def test_guests_have_an_interval_to_answer_within_bounds(
    scene: Scene, interval_s: float, deadline_s: float
) -> None:
    scene.config = Config(interval_s=interval_s)
    scene.world.observe()
    assert scene.guests.deadlines_s == [deadline_s]


@pytest.mark.parametrize(("mode", "active"), [(Mode.ACTIVE, True), (Mode.OBSERVE, False)])
def test_only_an_active_daemon_lets_guests_be_touched(scene: Scene, mode: Mode, active: bool) -> None:
    scene.config = replace(scene.config, mode=mode)
    scene.world.observe()
    assert scene.guests.was_active is active


def test_guests_that_are_not_managed_are_not_touched(scene: Scene) -> None:
    scene.config = Config(guests=unmanaged("db"))
    scene.run_guests(web=1 * GIB, db=1 * GIB)
    scene.world.observe()
    assert scene.guests.could_be_touched == ["web"]


# --- what is applied -------------------------------------------------------------------------------------


def names_of(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.action.name for outcome in outcomes]


def test_actions_are_carried_out_in_the_order_given(scene: Scene) -> None:
    outcomes = scene.world.apply([set_target("web"), set_target("db")])
    assert names_of(outcomes) == ["web", "db"]
    assert scene.guests.deadlines_s == [SET_MOST_S, SET_MOST_S]


def test_hung_guests_delay_the_others_by_a_bounded_time(scene: Scene) -> None:
    scene.guests.takes_s = SET_MOST_S
    outcomes = scene.world.apply([set_target(str(number)) for number in range(10)])
    assert names_of(outcomes) == [str(number) for number in range(10)]
    assert [one.result for one in outcomes] == [Result.DONE] * 3 + [Result.BUSY] * 7
    assert sum(scene.guests.deadlines_s) == APPLY_MOST_S
    assert all(one.detail for one in outcomes if one.result is Result.BUSY)


# --- what solvency is told of ----------------------------------------------------------------------------


ZRAM = (
    "Filename\tType\tSize\tUsed\tPriority\n"
    f"/dev/zram0 partition {GIB // KIB} {GIB // 4 // KIB} 100\n"
    f"/swap.img file {4 * GIB // KIB} 0 -2\n"
)


def test_zram_is_told_from_the_swap_that_counts(scene: Scene) -> None:
    scene.plant(kernel(swap_total=5 * GIB, swap_free=5 * GIB - GIB // 4), {"/proc/swaps": ZRAM})
    host = scene.host()
    assert (host.swap_total, host.swap_free) == (5 * GIB, 5 * GIB - GIB // 4)
    assert (host.zram_total, host.zram_free) == (GIB, GIB - GIB // 4)


def test_swap_on_disk_is_no_more_than_the_guests_cgroup_may_have(scene: Scene) -> None:
    scene.plant(
        kernel(swap_total=5 * GIB, swap_free=5 * GIB - GIB // 4),
        {"/proc/swaps": ZRAM},
        cgroup_v2(SLICE, limit=4 * GIB, swap_limit=3 * GIB, swapped=GIB),
    )
    scene.run_guests(web=512 * MIB)
    host = scene.host()
    assert (host.swap_total, host.swap_free) == (3 * GIB, 2 * GIB)
    assert (host.zram_total, host.zram_free) == (GIB, GIB - GIB // 4)  # it may use the bound up first
    assert host.swap_withheld == 4 * GIB - (GIB + GIB // 4)


def test_swap_that_zram_can_use_up_alone_is_none_on_disk(scene: Scene) -> None:
    scene.plant(
        kernel(swap_total=5 * GIB, swap_free=5 * GIB - GIB // 4),
        {"/proc/swaps": ZRAM},
        cgroup_v2(SLICE, swap_limit=GIB // 2, swapped=GIB // 4),
    )
    scene.run_guests(web=512 * MIB)
    host = scene.host()
    assert (host.swap_total, host.zram_total) == (GIB // 2, GIB // 2)
    assert (host.swap_free, host.zram_free) == (GIB // 4, GIB // 4)


@pytest.mark.parametrize("swapped", [0, GIB])
def test_a_bound_on_swap_raised_by_what_the_remedy_says_mends_it_though_zram_takes_of_it_first(
    scene: Scene, swapped: int
) -> None:
    zram, disk = f"/dev/zram0 partition {4 * GIB // KIB} 0 100\n", f"/swap.img file {10 * GIB // KIB}"
    own = [replace(guest(WEB, "web"), maximum=10 * GIB, swapped=swapped)]
    raised = 0
    for remedies in range(2):
        scene.plant(
            kernel(total=8 * GIB, available=8 * GIB, swap_total=14 * GIB, swap_free=14 * GIB - swapped),
            {"/proc/swaps": f"Filename\tType\tSize\tUsed\tPriority\n{zram}{disk} {swapped // KIB} -2\n"},
            cgroup_v2(SLICE, swap_limit=GIB + raised, swapped=swapped),
        )
        scene.run_guests(web=512 * MIB)
        found = judge(scene.host(), own, own=GIB, reserve=GIB)
        assert found.solvent is bool(remedies)
        raised = found.swap_missing + found.zram_beyond


def test_what_lies_on_disk_already_is_not_counted_beyond_what_zram_leaves_of_a_bound(scene: Scene) -> None:
    scene.plant(
        kernel(swap_total=5 * GIB, swap_free=3 * GIB),
        {"/proc/swaps": ZRAM.replace(f" {GIB // 4 // KIB} 100", " 0 100")},
        cgroup_v2(SLICE, swap_limit=3 * GIB, swapped=2 * GIB),
    )
    scene.run_guests(web=512 * MIB)
    host = scene.host()
    own = [replace(guest(WEB, "web"), swapped=2 * GIB)]
    assert judge(host, own, own=0, reserve=0).swap == 2 * GIB


def test_swap_that_the_guests_cgroups_may_not_have_does_not_count(scene: Scene) -> None:
    scene.plant(
        kernel(swap_total=4 * GIB, swap_free=4 * GIB),
        cgroup_v2(SLICE, swap_limit=3 * GIB, swapped=GIB),
        cgroup_v2(scope(101, "web"), swap_limit=256 * MIB),
        cgroup_v2(scope(102, "db")),
    )
    scene.run_guests(web=512 * MIB, db=512 * MIB)
    snapshot = scene.world.observe()
    assert snapshot.host is not None
    assert (snapshot.host.total, snapshot.host.swap_total, snapshot.host.swap_free) == (
        24 * GIB,
        3 * GIB,
        2 * GIB,
    )
    assert snapshot.host.swap_withheld == 2 * GIB
    seen = by_name(snapshot)
    assert (seen["web"].swap_limit, seen["db"].swap_limit) == (256 * MIB, None)


def test_swap_that_nothing_bounds_is_not_withheld(scene: Scene) -> None:
    assert scene.host().swap_withheld is None


def test_a_guest_knows_what_of_it_is_only_qemus_program(scene: Scene) -> None:
    scene.plant(process(101, on_v2(scope(101, "web")), rss=600 * MIB, file=25 * MIB))
    scene.guests.appearing[WEB] = 101
    scene.guests.guests = (guest(WEB, "web"),)
    (seen,) = scene.world.observe().guests or ()
    assert (seen.rss, seen.program) == (600 * MIB, 25 * MIB)


def test_memory_that_is_backed_by_a_file_is_not_taken_for_a_program(scene: Scene) -> None:
    scene.plant(process(101, on_v2(scope(101, "web")), rss=2 * GIB, file=2 * GIB))
    scene.guests.appearing[WEB] = 101
    scene.guests.guests = (guest(WEB, "web"),)
    (seen,) = scene.world.observe().guests or ()
    assert seen.program == PROGRAM_MOST


# --- what is done at the host ----------------------------------------------------------------------------


def on_orange(scene: Scene) -> str:
    """A guest whose cgroup can be acted upon; where that is in the tree."""
    own = f"{V2}{scope(101, 'web')}"
    scene.run_guests(web=300 * MIB)
    scene.plant(cgroup_v2(scope(101, "web"), usage=GIB), {f"{own}/memory.reclaim": ""})
    scene.world.observe()
    return own


def text(scene: Scene, path: str) -> str:
    return (scene.root / path.lstrip("/")).read_text().strip()


LIMIT = LimitSoftly(uuid=WEB, name="web", limit=GIB, words="")


def test_a_soft_limit_is_set_and_put_back(scene: Scene) -> None:
    own = on_orange(scene)
    (measured,) = scene.world.take([LIMIT])
    assert (measured.measure, measured.result) == (LIMIT, Result.DONE)
    assert text(scene, f"{own}/memory.high") == str(GIB)
    assert (scene.root / "state/limits.json").exists()
    scene.world.put_back()
    assert text(scene, f"{own}/memory.high") == "max"


@pytest.mark.parametrize("mode", [Mode.ACTIVE, Mode.OBSERVE])
def test_a_limit_that_could_not_be_put_back_at_the_start_goes_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    own = on_orange(scene)
    scene.world.take([LIMIT])
    scene.config = Config(mode=mode)
    monkeypatch.setattr(relief_edge, "PUT_BACK_MOST_S", 0.0)
    assert scene.world.take_up() == (f"{own}/memory.high: no time was left",)
    scene.world.observe()
    assert text(scene, f"{own}/memory.high") == str(GIB)  # not each turn
    scene.clock.now_s += CGROUPS_EACH_S
    scene.world.observe()
    assert text(scene, f"{own}/memory.high") == "max"
    assert not (scene.root / "state/limits.json").exists()


def test_memory_is_reclaimed_from_a_guests_own_cgroup(scene: Scene) -> None:
    own = on_orange(scene)
    (measured,) = scene.world.take([Reclaim(uuid=WEB, name="web", size=32 * MIB, words="")])
    assert measured.result is Result.DONE
    until = time.monotonic() + 10
    while text(scene, f"{own}/memory.reclaim") != str(32 * MIB):
        assert time.monotonic() < until
        time.sleep(0.01)
    scene.world.put_back()


def test_nothing_is_done_to_a_guest_that_is_gone(scene: Scene) -> None:
    gone = scene.world.take([LIMIT, Reclaim(uuid=WEB, name="web", size=32 * MIB, words="")])
    assert [one.result for one in gone] == [Result.REFUSED, Result.REFUSED]


def test_what_there_is_no_time_for_is_left_to_the_next_turn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_orange(scene)

    def slow(*_: object) -> tuple[Result, str]:
        scene.clock.now_s += TAKE_MOST_S / 2
        return Result.DONE, ""

    monkeypatch.setattr(Relief, "limit", slow)
    results = [one.result for one in scene.world.take([LIMIT] * 4)]
    assert results == [Result.DONE, Result.DONE, Result.BUSY, Result.BUSY]


def test_a_stop_in_the_midst_of_a_measure_leaves_the_notes_to_the_next_daemon(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = on_orange(scene)
    said: list[str] = []
    scene.world.take([LIMIT])
    limit = Relief.limit

    def stopped(self: Relief, measure: LimitSoftly, place: Place | None) -> tuple[Result, str]:
        other = threading.Thread(target=lambda: said.extend(scene.world.put_back()))
        other.start()  # as on a second signal: this very turn is never gone on with
        other.join(5)
        return limit(self, measure, place)

    monkeypatch.setattr(Relief, "limit", stopped)
    scene.world.take([LIMIT])
    assert said == ["a measure is under way; the next daemon puts back what is noted"]
    assert text(scene, f"{own}/memory.high") == str(GIB)
    assert (scene.root / "state/limits.json").exists()
    assert scene.world.put_back() == ()
    assert text(scene, f"{own}/memory.high") == "max"


def cgroup_of(snapshot: Snapshot) -> GuestCgroup | None:
    return by_name(snapshot)["web"].cgroup


def test_guests_cgroups_are_read_now_and_then_and_each_turn_while_memory_is_reclaimed(scene: Scene) -> None:
    on_orange(scene)

    def used_after(elapsed_s: float, usage: int) -> int:
        scene.plant(cgroup_v2(scope(101, "web"), usage=usage))
        scene.clock.now_s += elapsed_s
        cgroup = cgroup_of(scene.world.observe())
        assert cgroup is not None
        return cgroup.used

    assert used_after(CGROUPS_EACH_S / 2, 2 * GIB) == GIB
    assert used_after(CGROUPS_EACH_S / 2, 2 * GIB) == 2 * GIB
    scene.world.take([Reclaim(uuid=WEB, name="web", size=32 * MIB, words="")])
    assert used_after(0.1, GIB) == GIB
    scene.world.put_back()


def test_a_guest_that_went_takes_what_was_known_of_its_cgroup_along(scene: Scene) -> None:
    on_orange(scene)
    assert cgroup_of(scene.world.observe()) is not None
    scene.guests.guests, scene.guests.pids, scene.guests.appearing = (), {}, {}
    scene.world.observe()
    scene.guests.guests = (guest(WEB, "web"),)
    assert cgroup_of(scene.world.observe()) is None


def test_the_file_of_the_pools_own_pressure_is_known(scene: Scene) -> None:
    scene.run_guests(web=300 * MIB)
    scene.plant(cgroup_v2("/"))
    scene.world.observe()
    assert scene.world.pressure_file is None
    scene.plant(cgroup_v2(SLICE, limit=8 * GIB))
    scene.world.observe()
    assert scene.world.pressure_file == f"{V2}{SLICE}/memory.pressure"


# --- what merging saves ----------------------------------------------------------------------------------


def saved(scene: Scene) -> tuple[int, int]:
    """In pages: what may be called back, and what of it stands in guests' resident sizes."""
    host = scene.host()
    assert host.ksm is not None
    return host.ksm.saved // PAGE, host.ksm.counted_twice // PAGE


def merging(pid: int, pages: int) -> Files:
    return {f"/proc/{pid}/ksm_merging_pages": f"{pages}\n"}


def stopped() -> Files:
    return {"/sys/kernel/mm/ksm/run": "0\n"}


def test_what_others_than_guests_have_merged_may_be_called_back_too(scene: Scene) -> None:
    scene.plant(kernel(), old_ksm(), merging(7, 700))  # 1000 pages, says the kernel
    scene.run_guests(web=GIB)
    scene.plant(merging(101, 300))
    assert saved(scene) == (1000, 300)
    scene.plant(stopped())
    assert saved(scene) == (1000, 300)


def test_pages_that_were_merged_in_processes_long_gone_are_not_counted_as_saved(scene: Scene) -> None:
    scene.plant(kernel(), old_ksm())
    assert saved(scene) == (1000, 0)  # ksmd will come by
    scene.plant(stopped())
    assert saved(scene) == (0, 0)  # there is nobody at all
    scene.run_guests(web=GIB, db=GIB)
    scene.plant(merging(101, 300), merging(102, 500), old_ksm())
    assert saved(scene) == (1000, 800)
    scene.plant(stopped(), {"/proc/2/ksm_merging_pages": ""})  # a thread of the kernel's
    assert saved(scene) == (800, 800)
    scene.plant(merging(102, 900))
    assert saved(scene) == (1000, 1000)


def test_all_processes_are_asked_now_and_then_and_anew_after_ksmd_ran(scene: Scene) -> None:
    scene.plant(kernel(), old_ksm(), stopped(), merging(7, 200))
    assert saved(scene) == (200, 0)
    scene.plant(merging(7, 100))
    scene.clock.now_s += EVERYWHERE_S - 1
    assert saved(scene) == (200, 0)
    scene.clock.now_s += 1
    assert saved(scene) == (100, 0)
    scene.plant(merging(7, 600), old_ksm())
    assert saved(scene) == (1000, 0)
    scene.plant(stopped())
    assert saved(scene) == (600, 0)


def test_where_a_living_process_does_not_tell_the_kernels_sum_is_what_may_be_called_back(
    scene: Scene,
) -> None:
    scene.plant(kernel(), old_ksm(), stopped(), {"/proc/7/status": "Name:\tsecret\n"})
    assert saved(scene) == (1000, 0)


def test_zero_pages_are_saved_beside_what_the_guests_have_merged(scene: Scene) -> None:
    scene.plant(kernel(), new_ksm(), stopped())  # 1000 pages and 24 of zeros
    scene.run_guests(web=GIB)
    scene.plant(merging(101, 300))
    assert saved(scene) == (324, 324)


def test_where_a_process_does_not_tell_what_is_merged_in_it_the_kernels_sum_counts(scene: Scene) -> None:
    scene.plant(kernel(), old_ksm())
    scene.run_guests(web=GIB, db=GIB)
    scene.plant(merging(101, 300))
    assert saved(scene) == (1000, 1000)


def test_where_a_guests_process_is_not_known_the_kernels_sum_counts(scene: Scene) -> None:
    scene.plant(kernel(), old_ksm())
    scene.run_guests(web=GIB)
    scene.plant(merging(101, 300))
    scene.guests.guests = (*(scene.guests.guests or ()), guest(DB, "db"))
    assert saved(scene) == (1000, 1000)
