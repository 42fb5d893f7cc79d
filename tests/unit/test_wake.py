"""Does the wait end when it should: not late, not for nothing, and never in a spin?"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.wake import LEAST_GAP_S, Pressure, Signals, Waker


class Bell:
    """Events that a test rings; it rings on until it is drained."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK)
        self.drained = 0
        self.broken = False

    def fileno(self) -> int:
        return self.read

    def ring(self) -> None:
        os.write(self.write, b"!")

    def drain_events(self) -> None:
        self.drained += 1
        if not self.broken:
            try:
                os.read(self.read, 100)
            except BlockingIOError:
                return

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


class Siren(Pressure):
    """Pressure that a test tells of, as the kernel does: by POLLPRI. Once told, it goes on until it is heard."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        listening = socket.create_server(("127.0.0.1", 0))
        self.told = socket.create_connection(listening.getsockname())
        self.ear, _ = listening.accept()
        self.lost = False
        self._descriptor = os.dup(self.ear.fileno())
        listening.close()

    def wail(self) -> None:
        self.told.send(b"!", socket.MSG_OOB)

    def lose(self) -> None:
        self.lost = True
        super().lose()

    def close(self) -> None:
        super().close()
        self.told.close()
        self.ear.close()


@pytest.fixture
def siren() -> Iterator[Siren]:
    siren = Siren()
    yield siren
    siren.close()


@pytest.fixture
def heard() -> list[int]:
    return []


@pytest.fixture
def signals(heard: list[int]) -> Iterator[Signals]:
    signals = Signals((signal.SIGUSR1,), heard.append)
    yield signals
    signals.close()


@pytest.fixture
def bell() -> Iterator[Bell]:
    bell = Bell()
    yield bell
    bell.close()


@pytest.fixture
def waker(signals: Signals, bell: Bell) -> Waker:
    return Waker(signals, bell, Pressure("/nowhere"), time.monotonic)


def waited(waker: Waker, interval_s: float, *, took_s: float = 0.0, pets: list[float] | None = None) -> float:
    """Seconds that a wait took after a turn that had taken `took_s`."""
    now_s = time.monotonic()

    def pet() -> None:
        if pets is not None:
            pets.append(time.monotonic())

    waker.wait(
        began_s=now_s - took_s, interval_s=interval_s, pet=pet, pet_s=0.1 if pets is not None else None
    )
    return time.monotonic() - now_s


def test_it_waits_from_the_beginning_of_a_turn_to_the_next(waker: Waker) -> None:
    assert waited(waker, 0.5, took_s=0.2) == pytest.approx(0.3, abs=0.1)


def test_even_after_a_turn_that_took_too_long_it_breathes(waker: Waker) -> None:
    assert waited(waker, 0.5, took_s=5) == pytest.approx(LEAST_GAP_S, abs=0.1)


def test_an_event_ends_the_wait(waker: Waker, bell: Bell) -> None:
    threading.Timer(0.3, bell.ring).start()
    assert waited(waker, 10) == pytest.approx(0.3, abs=0.15)


def test_a_storm_of_events_does_not_make_it_spin(waker: Waker, bell: Bell) -> None:
    bell.broken = True  # as a connection that was lost: readable for ever
    bell.ring()
    assert LEAST_GAP_S - 0.05 < waited(waker, 10) < 5  # a loaded machine may wake late
    assert waited(waker, 10, took_s=0.0) >= LEAST_GAP_S * 0.9
    assert bell.drained == 2


def test_the_costlier_a_turn_the_longer_an_event_waits(waker: Waker, bell: Bell) -> None:
    bell.ring()
    now_s = time.monotonic()
    waker.wait(began_s=now_s - 0.15, interval_s=10, pet=lambda: None, pet_s=None)
    assert time.monotonic() - now_s == pytest.approx(0.6, abs=0.15)


def test_a_signal_ends_the_wait_at_once(waker: Waker, heard: list[int]) -> None:
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
    assert waited(waker, 10) < 0.2
    assert heard == [signal.SIGUSR1]


def test_a_signal_that_came_during_the_turn_is_not_waited_out(waker: Waker, heard: list[int]) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    assert waited(waker, 10) < 0.1
    assert heard == [signal.SIGUSR1]
    assert waited(waker, 0.3) == pytest.approx(0.3, abs=0.1)  # and it is not seen twice


def test_the_watchdog_is_petted_during_a_long_wait(waker: Waker) -> None:
    pets: list[float] = []
    waited(waker, 1.0, pets=pets)
    assert len(pets) >= 8


def test_pressure_ends_the_wait_at_once_however_dear_the_last_turn_was(
    signals: Signals, bell: Bell, siren: Siren
) -> None:
    waker = Waker(signals, bell, siren, time.monotonic)
    siren.wail()
    assert waited(waker, 10, took_s=1.0) < 0.1
    assert bell.drained == 1


def test_pressure_is_heeded_while_an_event_still_waits_its_turn(
    signals: Signals, bell: Bell, siren: Siren
) -> None:
    waker = Waker(signals, bell, siren, time.monotonic)
    bell.ring()
    threading.Timer(0.2, siren.wail).start()
    assert waited(waker, 10, took_s=1.0) == pytest.approx(0.2, abs=0.1)  # the event alone: 4 s


def test_a_trigger_whose_cgroup_is_gone_does_not_make_it_spin(
    signals: Signals, bell: Bell, siren: Siren
) -> None:
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, siren.fileno())  # an error for ever, as of a removed cgroup
    os.close(write)
    assert waited(Waker(signals, bell, siren, time.monotonic), 0.4) == pytest.approx(0.4, abs=0.1)
    assert siren.lost
    assert siren.fileno() == -1


def test_another_files_pressure_is_watched_where_it_can_be_and_else_the_former() -> None:
    if not os.access("/proc/pressure/memory", os.W_OK):
        pytest.skip("no PSI here")
    pressure = Pressure()
    first = pressure.fileno()
    pressure.watch("/nowhere")
    assert pressure.fileno() == first
    pressure.watch("/proc/pressure/memory")
    assert pressure.fileno() >= 0
    again = pressure.fileno()
    pressure.watch("/proc/pressure/memory")
    assert pressure.fileno() == again
    pressure.lose()
    assert pressure.fileno() == -1
    pressure.watch("/proc/pressure/memory")
    assert pressure.fileno() >= 0
    pressure.close()


def test_a_trigger_that_could_not_be_set_is_tried_again(tmp_path: Path) -> None:
    host, pool = tmp_path / "host", tmp_path / "pool"
    host.write_text("")  # a plain file takes what is written to it
    pressure = Pressure(str(host))
    pressure.watch(str(pool))
    assert watched(pressure) == host
    pool.write_text("")
    pressure.watch(str(pool))
    assert watched(pressure) == pool
    pressure.close()


def test_after_a_cgroup_is_lost_the_hosts_pressure_must_do_until_it_is_there_again(tmp_path: Path) -> None:
    host, pool = tmp_path / "host", tmp_path / "pool"
    host.write_text("")
    pool.write_text("")
    pressure = Pressure(str(host))
    pressure.watch(str(pool))
    pool.unlink()
    pressure.lose()
    pressure.watch(str(pool))
    assert watched(pressure) == host
    pool.write_text("")
    pressure.watch(str(pool))
    assert watched(pressure) == pool
    pressure.close()


def watched(pressure: Pressure) -> Path:
    """The file that its trigger is set on."""
    return Path(f"/proc/self/fd/{pressure.fileno()}").readlink()


def test_the_kernels_pressure_trigger_is_accepted_where_there_is_one(tmp_path: Path) -> None:
    pressure = Pressure()
    try:
        assert (pressure.fileno() >= 0) == os.access("/proc/pressure/memory", os.W_OK)
    finally:
        pressure.close()
    assert Pressure(str(tmp_path / "none")).fileno() == -1


def test_a_file_that_takes_no_trigger_is_done_without() -> None:
    pressure = Pressure("/dev/full")
    assert pressure.fileno() == -1
