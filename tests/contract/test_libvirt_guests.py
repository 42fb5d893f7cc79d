"""The guests of a real libvirt are seen as they are, and no guest harms another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.host.guests import Guests
from balloond.host.notes import kept
from balloond.model import FaultKind, Obstacle, Result, State
from balloond.units import MIB
from tests.contract.tiny_guests import (
    MEMORY,
    URI,
    Stable,
    Tiny,
    Watch,
    setting,
    virsh,
    watching,
)

pytestmark = pytest.mark.contract


@pytest.fixture
def watch(stable: Stable, tmp_path: Path) -> Iterator[Watch]:
    yield from watching(stable, tmp_path)


def period_of(tiny: Tiny) -> int:
    xml = virsh("dumpxml", tiny.name)
    return int(xml.partition("<stats period='")[2].partition("'")[0] or 0)


# --- what is seen ---


def test_guests_are_seen_with_their_sizes_processes_and_obstacles(stable: Stable, watch: Watch) -> None:
    plain = stable.start("<memballoon model='virtio' autodeflate='on'/>", head="<title>shop front</title>")
    bare = stable.start("<memballoon model='none'/>")
    seen = watch.see()
    assert set(seen) == {plain.uuid, bare.uuid}
    guest = seen[plain.uuid]
    assert (guest.name, guest.title, guest.state) == (plain.name, "shop front", State.RUNNING)
    assert (guest.maximum, guest.actual, guest.obstacle) == (MEMORY, MEMORY, None)
    assert guest.deflates_on_oom and not guest.reports_free_pages
    assert guest.rss is not None and 8 * MIB < guest.rss < 512 * MIB
    assert guest.statistics is not None and guest.statistics.last_update_s == 0, "it has no driver"
    assert guest.block_read == 0
    assert seen[bare.uuid].obstacle is Obstacle.NO_BALLOON
    assert watch.guests.qemu_pids[plain.uuid] == plain.pid


def test_a_guest_that_ended_is_gone_from_the_next_list(stable: Stable, watch: Watch) -> None:
    stays, goes = stable.start(), stable.start()
    assert set(watch.see()) == {stays.uuid, goes.uuid}
    virsh("destroy", goes.name)
    assert set(watch.see()) == {stays.uuid}
    outcome = watch.guests.set_target(setting(goes, 32 * MIB), 2.0)
    assert outcome.result is Result.GONE


def test_a_guest_that_vanishes_between_seeing_and_setting_is_gone(stable: Stable, watch: Watch) -> None:
    goes = stable.start()
    watch.see()
    virsh("destroy", goes.name)
    assert watch.guests.set_target(setting(goes, 32 * MIB), 2.0).result is Result.GONE


def test_a_paused_guest_is_not_running_and_is_new_when_it_resumes(stable: Stable, watch: Watch) -> None:
    tiny = stable.start()
    before = watch.see()[tiny.uuid]
    time.sleep(2.1)  # what happens sooner counts as part of its birth
    virsh("suspend", tiny.name)
    paused = watch.see()[tiny.uuid]
    assert (paused.state, paused.obstacle) == (State.PAUSED, Obstacle.NOT_RUNNING)
    assert paused.incarnation == before.incarnation
    virsh("resume", tiny.name)
    resumed = watch.until(lambda seen: seen[tiny.uuid].incarnation != before.incarnation)[tiny.uuid]
    assert (resumed.state, resumed.obstacle) == (State.RUNNING, None)
    time.sleep(0.5)
    assert watch.see()[tiny.uuid].incarnation == resumed.incarnation, "one resume is one new life"


def test_one_reset_is_one_new_life_however_often_it_is_announced(stable: Stable, watch: Watch) -> None:
    tiny, other = stable.start(), stable.start()
    before = watch.see()
    time.sleep(2.1)
    virsh("reset", tiny.name)
    after = watch.until(lambda seen: seen[tiny.uuid].incarnation != before[tiny.uuid].incarnation)
    time.sleep(1.0)
    later = watch.see()
    assert later[tiny.uuid].incarnation == after[tiny.uuid].incarnation
    assert later[other.uuid].incarnation == before[other.uuid].incarnation


def test_a_guest_started_anew_under_its_old_uuid_has_a_new_life(stable: Stable, watch: Watch) -> None:
    tiny = stable.start()
    before = watch.see()[tiny.uuid]
    virsh("destroy", tiny.name)
    stable.start(known=tiny)
    after = watch.see()[tiny.uuid]
    assert after.incarnation != before.incarnation
    assert watch.guests.qemu_pids[tiny.uuid] == tiny.pid


def test_an_event_makes_the_descriptor_readable_and_asks_for_a_look(stable: Stable, watch: Watch) -> None:
    import select

    tiny = stable.start()
    watch.see()
    time.sleep(0.2)
    watch.guests.drain_events()
    assert not select.select([watch.guests.fileno()], [], [], 0)[0]
    virsh("destroy", tiny.name)
    assert select.select([watch.guests.fileno()], [], [], 5.0)[0]
    assert watch.guests.drain_events()
    time.sleep(0.2)
    watch.guests.drain_events()
    assert not select.select([watch.guests.fileno()], [], [], 0)[0]


# --- acting ---


def test_a_target_is_taken_and_one_above_the_maximum_is_refused(stable: Stable, watch: Watch) -> None:
    tiny = stable.start()
    watch.see()
    assert watch.guests.set_target(setting(tiny, 48 * MIB), 2.0).result is Result.DONE
    refused = watch.guests.set_target(setting(tiny, 65 * MIB), 2.0)
    assert refused.result is Result.REFUSED
    assert "higher than" in refused.detail


def test_a_guest_without_a_balloon_refuses_and_is_not_called_gone(stable: Stable, watch: Watch) -> None:
    bare = stable.start("<memballoon model='none'/>")
    watch.see()
    assert watch.guests.set_target(setting(bare, 32 * MIB), 2.0).result is Result.REFUSED


def test_a_guest_in_a_job_is_left_alone_while_it_lasts(stable: Stable, watch: Watch) -> None:
    big = 1536 * MIB
    tiny = stable.start(memory=big)
    watch.see()
    core = Path(f"/var/tmp/{tiny.name}.core")
    dump = subprocess.Popen(
        ["virsh", "-c", URI, "dump", "--live", "--memory-only", tiny.name, str(core)],
        stdout=subprocess.DEVNULL,
    )
    try:
        busy = False
        while dump.poll() is None and not busy:
            busy = watch.see()[tiny.uuid].obstacle is Obstacle.IN_JOB
        assert busy, "the dump was never seen"
        assert watch.guests.set_target(setting(tiny, big // 2), 2.0).result is Result.BUSY
        dump.wait()
        watch.until(lambda seen: seen[tiny.uuid].obstacle is None)
        assert watch.guests.set_target(setting(tiny, big // 2), 2.0).result is Result.DONE
    finally:
        dump.wait()
        core.unlink(missing_ok=True)


def test_a_backup_is_no_obstacle(stable: Stable, watch: Watch, tmp_path: Path) -> None:
    home = Path(f"/var/tmp/balloond-contract-{os.getpid()}")
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    try:
        disk = home / "disk"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
        tiny = stable.start(
            devices="<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source file='{disk}'/><target dev='vda' bus='virtio'/></disk>"
        )
        order = tmp_path / "backup.xml"
        order.write_text(
            f"<domainbackup mode='pull'><server transport='unix' socket='{home}/nbd'/><disks>"
            f"<disk name='vda' type='file'><scratch file='{home}/scratch'/></disk></disks></domainbackup>"
        )
        virsh("backup-begin", tiny.name, str(order))
        assert "Backup" in virsh("domjobinfo", tiny.name)
        guest = watch.see()[tiny.uuid]
        assert guest.obstacle is None
        assert watch.guests.set_target(setting(tiny, 32 * MIB), 2.0).result is Result.DONE
        virsh("destroy", tiny.name)
    finally:
        for file in home.iterdir():
            file.unlink()
        home.rmdir()


# --- statistics periods ---


def test_a_period_is_noted_set_and_put_back(stable: Stable, watch: Watch, tmp_path: Path) -> None:
    silent = stable.start()
    chosen = stable.start("<memballoon model='virtio'><stats period='7'/></memballoon>")
    watch.see(active=True)
    assert watch.see(active=True)[silent.uuid].statistics_period_s == 2
    assert (period_of(silent), period_of(chosen)) == (2, 7)
    assert kept(tmp_path / "periods.json") == {silent.uuid: {"was": 0, "put": 2}}
    watch.guests.restore_periods(2.0)
    assert (period_of(silent), period_of(chosen)) == (0, 7)
    assert not (tmp_path / "periods.json").exists()


def test_watching_only_leaves_periods_alone(stable: Stable, watch: Watch) -> None:
    tiny = stable.start()
    watch.see(active=False)
    assert period_of(tiny) == 0


def test_the_next_daemon_puts_back_what_a_killed_one_set(stable: Stable, tmp_path: Path) -> None:
    tiny = stable.start()
    for first in watching(stable, tmp_path):
        first.see(active=True)
    assert period_of(tiny) == 2
    for second in watching(stable, tmp_path):
        second.guests.restore_periods(2.0)
    assert period_of(tiny) == 0


def test_a_period_that_the_operator_changed_meanwhile_stays(
    stable: Stable, watch: Watch, tmp_path: Path
) -> None:
    tiny = stable.start()
    watch.see(active=True)
    virsh("dommemstat", tiny.name, "--period", "9", "--live")
    watch.guests.restore_periods(2.0)
    assert period_of(tiny) == 9
    assert not (tmp_path / "periods.json").exists()


def test_without_a_place_for_the_note_no_period_is_set(stable: Stable, tmp_path: Path) -> None:
    tiny = stable.start()
    (tmp_path / "file").write_text("")
    guests = Guests(uri=URI, period_s=2, state_directory=tmp_path / "file" / "below")
    try:
        guests.observe(2.0, active=True, managed=lambda uuid, name, title: uuid == tiny.uuid)
    finally:
        guests.close()
    assert period_of(tiny) == 0


# --- guests that hang ---


def test_a_hung_guest_costs_itself_alone_and_recovers(stable: Stable, watch: Watch) -> None:
    well, hung = stable.start(), stable.start()
    watch.see()
    hung.freeze()
    started = time.monotonic()
    seen, faults = watch.guests.observe(1.5, active=False)
    took_s = time.monotonic() - started
    assert took_s < 2.0
    assert seen is not None, "the rest of the time was enough to read the others"
    assert FaultKind.LIBVIRT_SLOW in {fault.kind for fault in faults}
    for _tick in range(3):
        started = time.monotonic()
        now = watch.see(1.5)
        assert time.monotonic() - started < 0.5, "libvirt skips it from now on"
        assert now[well.uuid].obstacle is None
        assert now[hung.uuid].obstacle is Obstacle.UNREADABLE
        assert now[hung.uuid].maximum == MEMORY
    started = time.monotonic()
    assert watch.guests.set_target(setting(hung, 32 * MIB), 2.0).result is Result.BUSY
    assert time.monotonic() - started < 0.1, "it was not even called"
    hung.thaw()
    watch.until(lambda seen: seen[hung.uuid].obstacle is None)
    assert watch.guests.set_target(setting(hung, 48 * MIB), 2.0).result is Result.DONE


def test_a_guest_that_hangs_while_its_target_is_set_delays_no_other(stable: Stable, watch: Watch) -> None:
    first, hung, last = stable.start(), stable.start(), stable.start()
    watch.see()
    hung.freeze()
    started = time.monotonic()
    outcomes = [watch.guests.set_target(setting(tiny, 48 * MIB), 1.0) for tiny in (first, hung, last)]
    assert time.monotonic() - started < 2.0
    assert [outcome.result for outcome in outcomes] == [Result.DONE, Result.TIMED_OUT, Result.DONE]
    assert watch.see()[last.uuid].obstacle is None


def test_a_guest_that_hangs_time_and_again_is_left_out_for_a_while(stable: Stable, watch: Watch) -> None:
    well, flaky = stable.start(), stable.start()
    watch.see()
    for _hang in range(3):
        flaky.freeze()
        watch.guests.observe(1.0, active=False)
        flaky.thaw()
        time.sleep(0.3)
    now = watch.see()
    assert now[flaky.uuid].obstacle is Obstacle.UNREADABLE
    assert now[flaky.uuid].maximum == MEMORY
    assert now[well.uuid].obstacle is None
    assert "left_out_for_s=10.000" in watch.told


def test_restoring_periods_passes_a_hung_guest_by(stable: Stable, watch: Watch) -> None:
    hung, well = sorted((stable.start(), stable.start()), key=lambda tiny: tiny.uuid)
    watch.see(active=True)
    hung.freeze()
    started = time.monotonic()
    watch.guests.restore_periods(3.0)
    assert time.monotonic() - started < 3.2
    hung.thaw()
    time.sleep(0.2)
    assert period_of(well) == 0


# --- the process that holds the connection ---


def test_the_next_look_after_its_process_was_killed_is_as_good_as_any(stable: Stable, watch: Watch) -> None:
    tiny = stable.start()
    watch.see()
    child = watch.guests.child_pid
    assert child is not None
    os.kill(child, signal.SIGKILL)
    time.sleep(0.2)
    watch.guests.drain_events()  # what the loop does when the descriptor becomes readable
    time.sleep(0.6)  # the first pause between attempts is half a second
    assert watch.see()[tiny.uuid].obstacle is None
    assert watch.guests.child_pid != child


def test_the_process_ends_with_its_parent_even_inside_a_hung_call(stable: Stable, tmp_path: Path) -> None:
    hung = stable.start()
    hung.freeze()
    program = (
        "from balloond.host.guests import Guests\n"
        f"guests = Guests(uri={URI!r}, period_s=2, state_directory={str(tmp_path)!r})\n"
        "guests._connect(guests._now() + 5)\n"
        "print(guests.child_pid, flush=True)\n"
        "guests.observe(1.0, active=False)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.2)  # it is inside the bulk call now
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 6.0
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
