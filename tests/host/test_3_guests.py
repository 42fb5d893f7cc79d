"""Are real guests in real scopes found, bounded, moved and taken up again?"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.patience import until
from balloond.units import MIB
from tests.host import sandbox, service
from tests.host.nested import CGROUPS, SIZE, Nested

pytestmark = pytest.mark.usefixtures("configured")

SLICE: Final = "machine.slice"
NARROW: Final = 480 * MIB  # two guests of 256 MiB, with what QEMU needs, fit only with balloons
SHRUNK: Final = (
    16 * MIB
)  # a guest that lost so much was shrunk: what its kernel needs by itself varies by less
HOGGED: Final = 220 * MIB  # far more than a third of a slice that is full with its guests
LEFT: Final = 16 * MIB  # until the limit: less than the reserve, and the kernel takes nothing by itself yet
SLICE_PATH: Final = CGROUPS / SLICE
LARGER: Final = 384 * MIB
INTERVAL_S: Final = 60  # the longest that may be set
STILL_S: Final = 15.0  # without a turn; pressure brings one about each half second
HOG: Final = "balloond-pressure.service"
SWAP: Final = 256 * MIB
TO_GUESTS: Final = ("reclaim from a guest", "set a guest's memory.high")
SPARE: Final = Path("/dev/disk/by-id/virtio-balloond-swap")
MOVED_S: Final = 240.0
"""For a balloon to be moved: a guest is new for half a minute, and two guests share two emulated processors with
the daemon."""


@contextmanager
def limited(size: int) -> Iterator[None]:
    """The guests' slice with a limit, set as an operator sets it; as it was again afterwards."""
    former = service.show("MemoryMax", SLICE)
    service.systemctl("set-property", "--runtime", SLICE, f"MemoryMax={size}")
    try:
        yield
    finally:
        service.systemctl("set-property", "--runtime", SLICE, f"MemoryMax={former}")


def told_of(guest: Guest) -> Any:
    """What the daemon says of the guest; None: nothing."""
    status = service.status()
    guests = (status and status.get("guests")) or []
    return next((one for one in guests if one["uuid"] == guest.uuid), None)


def test_guests_scopes_are_found_however_odd_their_names(nested: Nested) -> None:
    for guest in nested.guests:
        scope = nested.scope(guest)
        assert scope.parent == CGROUPS / SLICE
        assert scope.name.startswith("machine-qemu")
        assert str(guest.pid) in (scope / "libvirt/cgroup.procs").read_text().split()
        until(partial(told_of, guest), f"the daemon to know {guest.name!r}")
        assert told_of(guest)["name"] == guest.name
        assert told_of(guest)["rss"] > 50 * MIB


def test_the_service_s_sandbox_lets_it_write_to_a_guests_scope(nested: Nested) -> None:
    tried = sandbox.within(nested.scope(nested.guests[0]))
    for what in TO_GUESTS:
        tried.may(what, "ReadWritePaths=-/sys/fs/cgroup/machine.slice, and CAP_DAC_OVERRIDE")


def test_the_pool_is_the_slices_limit_and_its_pressure_is_watched(nested: Nested) -> None:
    assert service.status()["host"]["source"] == "host"
    with limited(1024 * MIB):
        until(
            lambda: service.metric("balloond_host_total_bytes") == 1024 * MIB, "a pool as large as the limit"
        )
        assert service.metric("balloond_host_pool_source", source="cgroup") == 1
        until(watches_the_slice, "the daemon to set its trigger on the slice's pressure")
    until(lambda: service.metric("balloond_host_pool_source", source="host") == 1, "the whole host again")


def test_a_guests_available_memory_falls_under_need_and_rises_again(nested: Nested) -> None:
    before = {guest.uuid: guest.report().available for guest in nested.guests}
    smallest = dict(before)

    def fell() -> bool:
        for guest in nested.guests:
            smallest[guest.uuid] = min(smallest[guest.uuid], guest.report().available)
        return all(smallest[uuid] < before[uuid] - SHRUNK for uuid in before)

    with limited(NARROW):
        until(fell, "both guests to lose memory", limit_s=MOVED_S, every_s=2)
    until(
        lambda: all(guest.report().available > before[guest.uuid] - 4 * MIB for guest in nested.guests),
        "both guests to have their memory again",
        limit_s=MOVED_S,
        every_s=2,
    )
    for guest in nested.guests:
        lost = before[guest.uuid] - smallest[guest.uuid]
        print(
            f"{guest.name}: MemAvailable fell by {lost // MIB} of {before[guest.uuid] // MIB} MiB and rose again"
        )
        assert guest.actual == SIZE
        for did in ("guest shrinks", "guest grows"):
            assert any(did in line and guest.uuid in line for line in service.messages()), f"no line: {did}"


def test_after_kill_9_the_next_daemon_takes_up_the_guests_as_small_as_they_are(nested: Nested) -> None:
    with limited(NARROW):
        until(lambda: shrunk(nested), "both guests to be shrunk", limit_s=MOVED_S, every_s=2)
        pid, restarts = service.main_pid(), int(service.show("NRestarts"))
        os.kill(pid, signal.SIGKILL)
        until(lambda: int(service.show("NRestarts")) > restarts and service.active(), "a restart", limit_s=60)
        assert service.main_pid() not in {0, pid}
        until(
            lambda: all(taken_up(guest) for guest in nested.guests), "the guests to be taken up", limit_s=60
        )
        assert shrunk(nested), "memory that is not there was handed out"
    until(
        lambda: all(guest.actual == SIZE for guest in nested.guests),
        "the new daemon to give back what the former took",
        limit_s=MOVED_S,
        every_s=2,
    )
    assert all(guest.running for guest in nested.guests)


def shrunk(nested: Nested) -> bool:
    return all(guest.actual < SIZE - SHRUNK for guest in nested.guests)


def taken_up(guest: Guest) -> bool:
    """Whether the daemon knows it, at its true size, and has it tell its statistics."""
    told = told_of(guest)
    return bool(told and told["actual"] == guest.actual and told["statistics_period_s"] > 0)


def test_with_guests_as_well_it_stops_within_ten_seconds(nested: Nested) -> None:
    until(lambda: all(taken_up(guest) for guest in nested.guests), "the guests to be taken up", limit_s=60)
    took_s = service.stop()
    try:
        assert service.show("Result") == "success"
        assert took_s < 10
    finally:
        service.systemctl("start", service.NAME)


def test_swap_on_a_partition_and_on_zram_are_told_apart() -> None:
    """What zram swaps out stays in memory: it is no place for guests' memory, and the daemon counts it as none."""
    before = service.metric("balloond_host_swap_usable_bytes")
    with zram():
        until(
            lambda: service.metric("balloond_host_swap_total_bytes") > 0.9 * SWAP, "swap on zram to be seen"
        )
        assert service.status()["host"]["zram_total"] > 0.9 * SWAP
        assert service.metric("balloond_host_swap_usable_bytes") == before
        with partition():
            until(
                lambda: service.metric("balloond_host_swap_usable_bytes") > before + 0.9 * SWAP,
                "swap on a partition to count",
            )
            assert service.status()["host"]["zram_total"] < 1.1 * SWAP


def test_reclaim_from_a_scope_goes_to_swap_on_a_partition_and_the_daemon_sees_it(nested: Nested) -> None:
    guest = nested.guests[0]
    scope = nested.scope(guest)
    with partition():
        before = int((scope / "memory.swap.current").read_text())
        (scope / "memory.reclaim").write_text(str(16 * MIB))
        assert int((scope / "memory.swap.current").read_text()) > before + 8 * MIB
        until(
            lambda: service.metric("balloond_guest_swapped_bytes", uuid=guest.uuid) > 8 * MIB,
            "the daemon to see what of the guest is swapped out",
        )


def test_on_orange_the_daemon_itself_reclaims_from_a_guest_that_keeps_what_it_was_asked_for(
    nested: Nested,
) -> None:
    hog = Machine(memory=LARGER, driver=False)
    with partition(), promised(nested.guests), nested.another(hog) as guest:
        guest.hold(HOGGED)
        until(lambda: guest.report().held == HOGGED, "its memory to be written", limit_s=120)
        scope = nested.scope(guest)
        before = reclaims()
        with limited(in_use(SLICE_PATH) + LEFT):
            until(lambda: reclaims() > before, "the daemon to reclaim", limit_s=120)
            until(lambda: memory(scope, "memory.swap.current") > 16 * MIB, "memory of the hog in swap")
        print(f"{memory(scope, 'memory.swap.current') // MIB} MiB of the hog are in swap")
        assert any(
            "swap out memory of the guest" in line and guest.uuid in line for line in service.messages()
        )
        assert guest.running
        assert guest.report().held == HOGGED


def test_pressure_on_the_slice_wakes_the_daemon_long_before_its_interval(nested: Nested) -> None:
    """The last of all: the daemon takes such pressure for the guests' own, and may act on it."""
    assert all(guest.running for guest in nested.guests)
    own = json.loads(service.CONFIGURATION.read_text())
    with limited(1024 * MIB):
        until(watches_the_slice, "the daemon to set its trigger on the slice's pressure")
        with service.configured(json.dumps(own | {"interval": f"{INTERVAL_S}s"}, indent=2)):
            until(lambda: not turns_in(STILL_S), "the daemon to sleep between its turns", limit_s=120)
            with under_pressure():
                before = turns()
                until(
                    lambda: turns() >= before + 3, "three turns within one interval", limit_s=INTERVAL_S - 5
                )


def turns() -> float:
    return service.metric("balloond_ticks_total")


def turns_in(seconds: float) -> float:
    before = turns()
    time.sleep(seconds)
    return turns() - before


def watches_the_slice() -> bool:
    return any(name.endswith(f"{SLICE}/memory.pressure") for name in service.open_files())


@contextmanager
def under_pressure() -> Iterator[None]:
    """A process in the guests' slice that goes on wanting more memory than its own soft limit lets it have."""
    service.run(
        *("systemd-run", "--quiet", f"--unit={HOG}", f"--slice={SLICE}", "--property=MemoryHigh=16M"),
        *("/usr/bin/python3", "-c", f"while True: bytes(range(256)) * {64 * MIB // 256}"),
    )
    try:
        yield
    finally:
        service.systemctl("stop", HOG)


@contextmanager
def promised(guests: Iterable[Guest]) -> Iterator[None]:
    """The guests with a promise of all their memory, so that no balloon of theirs brings what the pool lacks."""
    rules = [{"match": {"uuid": guest.uuid}, "minimum": "100%"} for guest in guests]
    own = json.loads(service.CONFIGURATION.read_text())
    with service.configured(json.dumps(own | {"guests": rules}, indent=2)):
        yield


def reclaims() -> float:
    return service.metric("balloond_measures_total", measure="reclaim", result="done")


def memory(cgroup: Path, name: str) -> int:
    return int((cgroup / name).read_text())


def in_use(cgroup: Path) -> int:
    """What it holds without file pages that are not in use: they go first when a limit comes."""
    statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    return memory(cgroup, "memory.current") - int(statistics["inactive_file"])


@contextmanager
def zram() -> Iterator[None]:
    """Swap on a compressed piece of memory."""
    service.run("modprobe", "zram")
    device = service.run("zramctl", "--find", "--size", str(SWAP)).strip()
    try:
        service.run("mkswap", device)
        service.run("swapon", device)
        yield
    finally:
        service.run("swapoff", device)
        service.run("zramctl", "--reset", device)


@contextmanager
def partition() -> Iterator[None]:
    """Swap on a partition."""
    with spare_disk() as (disk, own):
        if not own.exists():
            service.run("sh", "-c", f"echo ',{SWAP // MIB}M,S' | sfdisk --quiet --label dos {disk}")
            service.run("udevadm", "settle")
        service.run("mkswap", str(own))
        service.run("swapon", str(own))
        try:
            yield
        finally:
            service.run("swapoff", str(own))


@contextmanager
def spare_disk() -> Iterator[tuple[Path, Path]]:
    """A disk and its first partition: the spare disk, which no host has by chance; where there is none, a file."""
    if SPARE.exists():
        yield SPARE, Path(f"{SPARE}-part1")
        return
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        service.run("fallocate", "--length", str(SWAP + 2 * MIB), file.name)
        device = service.run("losetup", "--find", "--show", "--partscan", file.name).strip()
        try:
            yield Path(device), Path(f"{device}p1")
        finally:
            service.run("losetup", "--detach", device)
