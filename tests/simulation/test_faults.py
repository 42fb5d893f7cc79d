"""Does the simulated world behave as the real one was seen to, faults and all?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balloond.loop import turn
from balloond.model import FaultKind, Guest, Obstacle, Result, SetTarget, Statistics
from balloond.model import Reason as Why
from balloond.sim import faults
from balloond.sim.faults import KINDS, LIES, Lasting
from balloond.sim.guest import BOOT_S, SWAP_TOUCH, Balloon, SimGuest, Voice, Wish
from balloond.sim.workload import Path, ramps, steady
from balloond.sim.world import EPOCH_S, DaemonKilledError, Merging, SimHost, SimWorld
from balloond.units import GIB, MIB


def guest(**more: object) -> SimGuest:
    values: dict[str, object] = {
        "maximum": 4 * GIB,
        "actual": 4.0 * GIB,
        "workload": steady(1.0 * GIB),
        **more,
    }
    return SimGuest(uuid="uuid-a", name="a", **values)  # type: ignore[arg-type]  # the test names its fields


def alone(made: SimGuest, *troubles: Lasting, total: int = 16 * GIB) -> SimWorld:
    return SimWorld(host=SimHost(total=total), guests=[made], troubles=list(troubles))


def seen(world: SimWorld) -> Guest:
    guests = world.observe().guests
    assert guests
    return guests[0]


def told(world: SimWorld) -> Statistics:
    statistics = seen(world).statistics
    assert statistics is not None
    return statistics


def ask(world: SimWorld, target: int) -> Result:
    action = SetTarget(uuid="uuid-a", name="a", actual=0, target=target, reason=Why.NEED, words="")
    return world.apply([action])[0].result


def live(world: SimWorld, seconds: float, step_s: float = 1.0) -> None:
    for _ in range(int(seconds / step_s)):
        world.advance(step_s)


# --- guests ----------------------------------------------------------------------------------------------


def test_a_guest_tells_what_it_could_do_without() -> None:
    world = alone(guest(workload=steady(1.0 * GIB, cache=512.0 * MIB)))
    live(world, 2)
    assert told(world).untrusted_unused == 4 * GIB - GIB - 512 * MIB
    assert told(world).untrusted_usable == 4 * GIB - GIB - int(0.2 * 512 * MIB) - 1
    assert told(world).untrusted_available == 4 * GIB


def test_a_balloon_moves_at_its_speed_and_keeps_programs_memory() -> None:
    made = guest()
    made.balloon.speed = 1.0 * GIB
    world = alone(made)
    assert ask(world, GIB // 2) is Result.DONE
    live(world, 2)
    assert made.actual == 2 * GIB
    live(world, 5)
    assert made.actual == GIB  # without swap of its own it can't give more


def test_a_guest_with_swap_gives_programs_memory_and_suffers() -> None:
    made = guest(swap=1.0 * GIB)
    world = alone(made)
    ask(world, GIB // 2)
    live(world, 3)
    assert made.actual == GIB // 2
    assert made.swapped == GIB // 2
    assert made.swap_in == pytest.approx(3 * SWAP_TOUCH * GIB / 2)
    assert made.short == GIB // 2


def test_page_cache_that_is_missed_is_read_from_disk_again() -> None:
    made = guest(workload=steady(1.0 * GIB, cache=1.0 * GIB))
    world = alone(made)
    live(world, 3)
    reads = made.reads
    live(world, 10)
    assert made.reads == reads
    ask(world, GIB + GIB // 2)
    live(world, 10)
    assert made.reads > reads


def test_deflate_on_oom_takes_memory_back_unasked() -> None:
    made = guest(actual=1.0 * GIB, workload=steady(2.0 * GIB), autodeflate=True)
    world = alone(made)
    live(world, 10)
    assert made.actual == made.target == 2 * GIB
    assert told(world).untrusted_available == 4 * GIB  # the balloon is not taken out of it


def test_free_page_reporting_gives_resident_memory_back() -> None:
    made = guest(workload=Path([(0.0, 3.0 * GIB), (10.0, 1.0 * GIB)], steps=True), reports_free_pages=True)
    hoarder = guest(workload=made.workload)
    for each in (made, hoarder):
        live(alone(each), 30)
    assert made.rss < 1.1 * GIB
    assert hoarder.rss == 3 * GIB


def test_a_guest_that_resets_is_told_of_as_it_was_until_its_driver_loads() -> None:
    made = guest(actual=2.0 * GIB)
    world = alone(made, faults.Reboot(guest="a", from_s=10.0))
    live(world, 12)
    assert made.actual == 4 * GIB
    assert seen(world).actual == 2 * GIB
    assert seen(world).incarnation == 1
    stamp = told(world).last_update_s
    live(world, BOOT_S)
    assert made.actual == seen(world).actual == 2 * GIB  # the device's target still stands
    assert told(world).last_update_s > stamp


def test_a_guest_whose_driver_has_not_loaded_since_its_reset_has_no_balloon_to_burst() -> None:
    made = guest(actual=2.0 * GIB)
    world = alone(made, faults.Reboot(guest="a", from_s=10.0), faults.BurstBalloon(guest="a", from_s=12.0))
    live(world, 12)
    assert (made.actual, made.told_target) == (4 * GIB, 2 * GIB)
    live(world, BOOT_S)
    assert made.actual == 2 * GIB


def test_guests_that_were_off_boot_at_their_maximum_and_speak_later() -> None:
    made = guest(actual=2.0 * GIB)
    world = alone(made, faults.Off(guest="a", from_s=0.0, until_s=10.0))
    live(world, 5)
    assert world.observe().guests == ()
    live(world, 6)
    assert seen(world).actual == 4 * GIB
    assert seen(world).statistics is None
    live(world, BOOT_S)
    assert told(world).last_update_s > 0


# --- faults ----------------------------------------------------------------------------------------------


LASTING = [k for k in KINDS.values() if k not in (faults.BurstBalloon, faults.Reboot, faults.Off)]


def test_every_fault_has_a_beginning_and_an_end_that_puts_back_what_was() -> None:
    more = {faults.Lie: {"story": "hungry"}, faults.ClockJump: {"by_s": 60.0}}
    for kind in LASTING:
        made = guest(
            balloon=Balloon(speed=100.0 * MIB, delay_s=1.0, stops_at=GIB),
            voice=Voice(delay_s=0.5, bias=replace),
        )
        before = repr((replace(made.voice), replace(made.balloon), made.hung, made.deaf))
        whose = {"guest": "a"} if issubclass(kind, faults.OfGuest) else {}
        trouble = kind(from_s=5.0, until_s=10.0, **whose, **more.get(kind, {}))  # type: ignore[arg-type]  # by kind
        world = alone(made, trouble)
        live(world, 6)
        if whose:
            assert repr((replace(made.voice), replace(made.balloon), made.hung, made.deaf)) != before, kind
        live(world, 6)
        assert repr((replace(made.voice), replace(made.balloon), made.hung, made.deaf)) == before, kind
        assert not world.libvirt_gone
        assert not world.host_unreadable


@pytest.mark.parametrize("ends_s", [(20.0, 100.0), (100.0, 20.0)])
@pytest.mark.parametrize("kind", [k for k in LASTING if k.fields is not Lasting.fields])
def test_a_fault_lasts_though_another_of_its_kind_ends(
    kind: type[Lasting], ends_s: tuple[float, float]
) -> None:
    made = guest()
    more: dict[str, Any] = (
        {"guest": "a"} if issubclass(kind, faults.OfGuest) else {}
    )  # Any: of each kind its own
    if kind is faults.Lie:
        more["story"] = "hungry"
    first, second = (
        kind(from_s=from_s, until_s=until_s, **more)
        for from_s, until_s in zip((5.0, 10.0), ends_s, strict=True)
    )
    world = alone(made, first, second)
    holder, fields = first.holder(world), first.fields(world)
    before = {name: getattr(holder, name) for name in fields}
    for at_s in range(1, 120):
        world.advance(1.0)
        lasts = 5 <= at_s < 100
        assert {name: getattr(holder, name) for name in fields} == (fields if lasts else before), at_s


def test_the_youngest_of_two_faults_holds_and_the_older_one_stands_again() -> None:
    made = guest(balloon=Balloon(speed=1.0 * GIB))
    world = alone(
        made,
        faults.SlowBalloon(guest="a", from_s=5.0, until_s=30.0, speed=10.0),
        faults.SlowBalloon(guest="a", from_s=10.0, until_s=20.0, speed=5.0),
    )
    speeds = []
    for _ in range(4):
        live(world, 9)
        speeds.append(made.balloon.speed)
    assert speeds == [10, 5, 10, GIB]


def test_a_guest_that_is_switched_off_twice_boots_when_the_second_is_over() -> None:
    made = guest()
    world = alone(
        made,
        faults.Off(guest="a", from_s=5.0, until_s=50.0),
        faults.Off(guest="a", from_s=10.0, until_s=20.0),
    )
    ran = []
    for _ in range(6):
        live(world, 10)
        ran.append(made.running)
    assert ran == [False, False, False, False, True, True]
    assert made.incarnation == 1


def test_silence_ages_the_numbers_and_a_freeze_repeats_them() -> None:
    silent = alone(
        guest(workload=ramps(1.0 * GIB, [(5, 3.0 * GIB, GIB)])), faults.Silence(guest="a", from_s=4.0)
    )
    frozen = alone(
        guest(workload=ramps(1.0 * GIB, [(5, 3.0 * GIB, GIB)])), faults.Freeze(guest="a", from_s=4.0)
    )
    for world in (silent, frozen):
        live(world, 60)
        assert told(world).untrusted_usable == 3 * GIB  # as it was before the growth
    assert told(silent).last_update_s < EPOCH_S + 5
    assert told(frozen).last_update_s == EPOCH_S + 60


def test_late_numbers_are_those_of_an_earlier_time() -> None:
    made = guest(workload=ramps(1.0 * GIB, [(20, 3.0 * GIB, 0.1 * GIB)]))
    world = alone(made, faults.Late(guest="a", from_s=0.0, delay_s=3.0))
    live(world, 32)
    usable = told(world).untrusted_usable
    assert usable is not None
    assert usable > 4 * GIB - made.served


@pytest.mark.parametrize("story", LIES)
def test_every_lie_differs_from_the_truth(story: str) -> None:
    made = guest()
    world = alone(made, faults.Lie(guest="a", from_s=0.0, story=story))
    honest = alone(guest())
    for each in (world, honest):
        live(each, 25)
    assert told(world) != told(honest)


def test_windows_without_its_service_has_a_stamp_and_no_numbers() -> None:
    world = alone(guest(), faults.Fieldless(guest="a", from_s=0.0))
    live(world, 30)
    assert told(world) == Statistics(last_update_s=told(world).last_update_s)
    assert 0 < told(world).last_update_s < EPOCH_S + 5


def test_a_guest_without_driver_says_nothing_and_obeys_nothing() -> None:
    made = guest(voice=Voice(absent=True))
    world = alone(made)
    assert ask(world, 2 * GIB) is Result.DONE  # libvirt takes it all the same
    live(world, 10)
    assert made.actual == 4 * GIB
    assert seen(world).statistics is None


def test_balloons_stick_crawl_and_stop_half_way() -> None:
    ends = {}
    for name, trouble in {
        "stuck": faults.StuckBalloon(guest="a", from_s=0.0),
        "slow": faults.SlowBalloon(guest="a", from_s=0.0, delay_s=5.0, speed=100.0 * MIB),
        "half": faults.HalfWay(guest="a", from_s=0.0, share=0.75),
    }.items():
        world = alone(guest(), trouble)
        live(world, 1)
        ask(world, 2 * GIB)
        live(world, 10)
        ends[name] = seen(world).actual
    assert ends == {"stuck": 4 * GIB, "slow": 4 * GIB - 600 * MIB, "half": 3 * GIB}


def test_a_hung_monitor_is_a_fault_and_its_writes_time_out() -> None:
    world = alone(guest(), faults.Hang(guest="a", from_s=5.0))
    world.guests[0].balloon.speed = 10.0 * MIB
    live(world, 3)
    ask(world, 2 * GIB)
    live(world, 1)
    known = seen(world)
    live(world, 6)
    assert world.guests[0].actual < known.actual - 50 * MIB
    assert (seen(world).actual, seen(world).statistics) == (known.actual, known.statistics)
    world.begin_anew()
    assert (seen(world).actual, seen(world).statistics) == (known.actual, None)
    assert seen(world).obstacle is Obstacle.UNREADABLE
    assert [fault.kind for fault in world.observe().faults] == [FaultKind.GUEST_UNREADABLE]
    assert ask(world, 2 * GIB) is Result.TIMED_OUT
    deaf = alone(guest(), faults.Deaf(guest="a", from_s=0.0))
    live(deaf, 6)
    assert seen(deaf).obstacle is None
    assert ask(deaf, 2 * GIB) is Result.TIMED_OUT


def test_libvirt_and_the_hosts_figures_can_be_lost() -> None:
    world = alone(
        guest(), faults.LibvirtGone(from_s=1.0, until_s=3.0), faults.HostUnreadable(from_s=5.0, until_s=7.0)
    )
    live(world, 2)
    assert world.observe().guests is None
    assert ask(world, GIB) is Result.UNREACHABLE
    live(world, 4)
    assert world.observe().guests is not None
    assert world.observe().host is None
    live(world, 2)
    assert world.observe().host is not None


def test_the_wall_clock_jumps_and_the_monotonic_one_does_not() -> None:
    world = alone(guest(), faults.ClockJump(from_s=5.0, by_s=-3600.0))
    live(world, 6)
    snapshot = world.observe()
    assert snapshot.monotonic_s == 6
    assert snapshot.wall_s == EPOCH_S + 6 - 3600


def test_the_daemon_can_be_killed_between_two_actions() -> None:
    world = alone(guest(), faults.DaemonKilled(from_s=1.0, after=1))
    live(world, 2)
    assert ask(world, 2 * GIB) is Result.DONE
    with pytest.raises(DaemonKilledError):
        ask(world, GIB)
    assert world.guests[0].target == 2 * GIB


# --- the host --------------------------------------------------------------------------------------------


def test_what_does_not_fit_goes_to_swap_at_its_speed_and_shows_as_pressure() -> None:
    made = guest(workload=steady(3.0 * GIB))
    world = SimWorld(host=SimHost(total=2 * GIB, swap=4.0 * GIB, swap_speed=256.0 * MIB), guests=[made])
    live(world, 2)
    assert world.host.swapped == 512 * MIB
    snapshot = world.observe()
    assert snapshot.host is not None
    assert snapshot.host.pressure is not None
    assert snapshot.host.pressure.some_avg10 > 0.1
    live(world, 10)
    assert world.host.swapped == GIB
    assert seen(world).rss == 2 * GIB
    assert seen(world).swapped == GIB
    assert world.host.oom_kills == 0


def test_where_swap_is_full_the_largest_guest_is_killed() -> None:
    small = SimGuest(
        uuid="uuid-b", name="b", maximum=GIB, actual=1.0 * GIB, workload=lambda _: Wish(0.5 * GIB)
    )
    world = SimWorld(
        host=SimHost(total=2 * GIB, swap=0.25 * GIB), guests=[guest(workload=steady(3.0 * GIB)), small]
    )
    live(world, 5)
    assert world.host.killed == ["a"]
    assert [each.name for each in world.running] == ["b"]


def test_merged_pages_come_back_at_once_when_guests_write_to_them() -> None:
    made = guest(workload=steady(3.0 * GIB))
    host = SimHost(total=16 * GIB, merging=Merging(share=0.5, speed=100.0 * MIB))
    world = SimWorld(host=host, guests=[made], troubles=[faults.Unmerge(from_s=60.0)])
    live(world, 10)
    assert host.merging.saved == 1000 * MIB
    live(world, 40)
    assert host.merging.saved == 1.5 * GIB
    snapshot = world.observe()
    assert snapshot.host is not None
    assert snapshot.host.available == 16 * GIB - 3 * GIB + int(1.5 * GIB)
    live(world, 11)
    assert host.merging.saved == 0
    assert host.merging.broken == 1.5 * GIB


def test_a_workloads_ramp_keeps_its_speed_and_is_cut_short_by_the_next() -> None:
    path = ramps(1.0 * GIB, [(10, 3.0 * GIB, 0.5 * GIB), (12, 1.0 * GIB, float("inf"))])
    assert path.size(9.0) == GIB
    assert path.size(11.0) == 1.5 * GIB
    assert path.size(13.0) == GIB
    with pytest.raises(ValueError, match="order of time"):
        Path([(1.0, 1.0), (0.0, 1.0)])


def test_the_real_loop_turns_on_a_simulated_world() -> None:
    world = alone(guest())
    live(world, 2)
    from balloond.config.settings import Config

    tick = turn(Config(), None, world)
    assert tick.number == 1
    assert [verdict.name for verdict in tick.decision.verdicts] == ["a"]
