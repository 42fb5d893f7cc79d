"""libvirt may go away, fall silent or refuse: the edge says so, goes on, and takes up where it was.

A proxy stands between the edge and the host's own libvirt, which other tests use too: it can be cut, silenced
and started again, as a libvirtd can.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.host.guests import Guests
from balloond.host.link import BACKOFF_S, DownError, HungError, LibvirtError, Link
from balloond.model import FaultKind, Result
from balloond.units import MIB
from tests.contract.tiny_guests import Stable, Watch, setting, virsh, watching

pytestmark = pytest.mark.contract

TEST_GUEST = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # the one that libvirt's test driver always has


class Proxy:
    """Carries bytes between clients and libvirt's socket, until it is silenced or cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.silent = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._ended = threading.Event()
        self._listener: socket.socket | None = None
        self._carrier = threading.Thread(target=self._carry)
        self.listen()
        self._carrier.start()

    def listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        self._listener = listener

    def cut(self) -> None:
        """What a client sees when libvirtd dies."""
        listener, self._listener = self._listener, None
        assert listener is not None
        self.path.unlink()
        listener.close()
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self) -> None:
        self._ended.set()
        self._carrier.join()
        if self._listener is not None:
            self.cut()

    def _carry(self) -> None:
        while not self._ended.is_set():
            time.sleep(0.001)
            if self.silent:
                continue
            with contextlib.suppress(OSError, ValueError):  # cut meanwhile
                self._accept()
                for one, other in list(self._pairs):
                    self._pass_on(one, other)
                    self._pass_on(other, one)

    def _accept(self) -> None:
        if self._listener is not None and select.select([self._listener], [], [], 0)[0]:
            client, _address = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect("/run/libvirt/libvirt-sock")
            self._pairs.append((client, server))

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        if select.select([source], [], [], 0)[0]:
            sink.sendall(source.recv(65536))


@pytest.fixture
def proxy(stable: Stable, tmp_path: Path) -> Iterator[Proxy]:
    if not Path("/run/libvirt/libvirt-sock").exists():
        pytest.skip("libvirt runs, but not as libvirtd")
    proxy = Proxy(tmp_path / "libvirt")
    yield proxy
    proxy.close()


@pytest.fixture
def watch(proxy: Proxy, stable: Stable, tmp_path: Path) -> Iterator[Watch]:
    yield from watching(stable, tmp_path, uri=f"qemu+unix:///system?socket={proxy.path}")


def test_a_lost_libvirt_is_told_once_and_taken_up_again_when_it_is_back(
    watch: Watch, proxy: Proxy, stable: Stable
) -> None:
    tiny = stable.start()
    before = watch.see()[tiny.uuid]
    proxy.cut()
    assert select.select([watch.guests.fileno()], [], [], 5.0)[0], "the loop is woken"
    watch.guests.drain_events()
    for _tick in range(4):
        started = time.monotonic()
        seen, faults = watch.guests.observe(1.0, active=True)
        assert seen is None
        assert [fault.kind for fault in faults] == [FaultKind.LIBVIRT_DOWN]
        assert watch.guests.set_target(setting(tiny, 32 * MIB), 1.0).result is Result.UNREACHABLE
        assert time.monotonic() - started < 0.5
        time.sleep(0.2)
    proxy.listen()
    back = time.monotonic()
    while watch.guests.observe(1.0, active=False)[0] is None:
        assert time.monotonic() - back < BACKOFF_S[1] + 1
        time.sleep(0.1)
    after = watch.see()[tiny.uuid]
    assert after.incarnation == before.incarnation, "it is the same guest, and lived on"
    assert after.obstacle is None
    assert watch.guests.set_target(setting(tiny, 48 * MIB), 1.0).result is Result.DONE


def test_events_come_again_over_a_new_connection(watch: Watch, proxy: Proxy, stable: Stable) -> None:
    tiny = stable.start()
    watch.see()
    proxy.cut()
    with contextlib.suppress(AssertionError):
        watch.see()
    proxy.listen()
    time.sleep(BACKOFF_S[0] + 0.1)
    before = watch.see()[tiny.uuid]
    time.sleep(2.1)
    virsh("reset", tiny.name)
    watch.until(lambda seen: seen[tiny.uuid].incarnation != before.incarnation)


def test_a_silent_libvirt_takes_no_more_time_than_it_is_given(
    watch: Watch, proxy: Proxy, stable: Stable
) -> None:
    tiny = stable.start()
    watch.see()
    proxy.silent = True
    for _tick in range(3):
        started = time.monotonic()
        seen, faults = watch.guests.observe(0.5, active=True)
        assert time.monotonic() - started < 0.8
        assert seen is None
        assert faults
    assert watch.guests.set_target(setting(tiny, 32 * MIB), 0.5).result is Result.UNREACHABLE
    proxy.silent = False
    deadline = time.monotonic() + BACKOFF_S[1] + 10.0
    while watch.guests.observe(1.0, active=False)[0] is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_libvirt_the_fault_says_what_to_do(tmp_path: Path) -> None:
    uri = f"qemu+unix:///system?socket={tmp_path / 'nobody'}"
    guests = Guests(uri=uri, period_s=2, state_directory=tmp_path)
    try:
        seen, (fault,) = guests.observe(2.0, active=True)
    finally:
        guests.close()
    assert seen is None
    assert fault.kind is FaultKind.LIBVIRT_DOWN
    assert fault.detail.startswith(f"cannot connect to {uri}: ")
    assert fault.detail.endswith("is virtqemud or libvirtd running?")


def test_attempts_to_connect_are_made_at_growing_intervals(tmp_path: Path) -> None:
    clock = [0.0]
    link = Link(f"qemu+unix:///system?socket={tmp_path / 'nobody'}", now=lambda: clock[0])
    attempts = []
    while clock[0] < 60.0:
        link.start()
        if link.pid is not None:
            attempts.append(clock[0])
            with pytest.raises(DownError):
                link.connect(clock[0] + 9.0)
        clock[0] += 0.5
    assert attempts == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 30.5, 45.5]


# --- libvirt's own test driver: what errors look like ---


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link("test:///default")
    try:
        link.connect(time.monotonic() + 5.0)
    except DownError as down:
        pytest.skip(f"no test driver of libvirt's here: {down}")
    yield link
    link.close()


def test_errors_come_back_with_their_numbers(link: Link) -> None:
    soon = time.monotonic() + 5.0
    with pytest.raises(LibvirtError) as refused:
        link.call("set", soon, uuid="00000000-0000-0000-0000-000000000000", kib=1024)
    assert refused.value.code == 42
    answer = link.call("set", soon, uuid=TEST_GUEST, kib=2**40)
    assert answer["error"][0] == 8
    assert answer["active"] is True
    assert link.call("set", soon, uuid=TEST_GUEST, kib=1048576) == {}


def test_one_unknown_guest_does_not_keep_others_from_being_looked_at(link: Link) -> None:
    soon = time.monotonic() + 5.0
    unknown = "00000000-0000-0000-0000-000000000000"
    asked = [[unknown, True, True, True], [TEST_GUEST, True, True, True]]
    answers = [part for part in link.parts("look", soon, lambda: soon, guests=asked) if part[0] == "answer"]
    assert answers[0][5][0] == 42
    assert answers[1][1:3] == [TEST_GUEST, 0]
    assert "<memballoon" in answers[1][3]


def test_a_deadline_that_has_passed_ends_the_process_and_starts_another(link: Link) -> None:
    before = link.pid
    with pytest.raises(HungError):
        link.call("read", time.monotonic(), block=False, **{"except": []})
    assert link.kills == 1
    assert link.pid not in (None, before)
    link.connect(time.monotonic() + 5.0)
    assert link.call("read", time.monotonic() + 5.0, block=False, **{"except": []})[0][0] == TEST_GUEST


def test_a_guest_whose_driver_tells_no_statistics_is_unreadable_and_counted_whole(tmp_path: Path) -> None:
    guests = Guests(uri="test:///default", period_s=2, state_directory=tmp_path)
    try:
        seen, faults = guests.observe(5.0, active=True)
    finally:
        guests.close()
    assert seen is not None
    assert [guest.maximum for guest in seen] == [8192 * MIB]
    assert [fault.kind for fault in faults] == [FaultKind.GUEST_UNREADABLE]
