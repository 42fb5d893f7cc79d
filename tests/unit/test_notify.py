"""Does systemd hear what it is meant to hear, and nothing stops the daemon when it does not?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(2)
        yield listener


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(manager.getsockname()), **more}


def test_readiness_reload_and_stopping_are_told(manager: socket.socket) -> None:
    notifier = Notifier.from_environment(environment(manager), 1)
    notifier.ready()
    notifier.reloading(123456)
    notifier.stopping()
    heard = [manager.recv(4096).decode() for _ in range(3)]
    assert heard == ["READY=1", "RELOADING=1\nMONOTONIC_USEC=123456", "STOPPING=1"]
    notifier.close()


def test_the_watchdog_is_petted_when_there_is_one_and_it_is_meant_for_us(manager: socket.socket) -> None:
    notifier = Notifier.from_environment(environment(manager, WATCHDOG_USEC="60000000", WATCHDOG_PID="7"), 7)
    assert notifier.watchdog_s == 60
    notifier.alive()
    assert manager.recv(4096) == b"WATCHDOG=1"
    notifier.close()


@pytest.mark.parametrize(
    "watchdog",
    [
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
def test_a_watchdog_that_is_not_ours_is_left_alone(manager: socket.socket, watchdog: dict[str, str]) -> None:
    notifier = Notifier.from_environment(environment(manager, **watchdog), 7)
    assert notifier.watchdog_s is None
    notifier.alive()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    notifier.close()


def test_status_is_told_when_it_changes_and_not_too_often(manager: socket.socket) -> None:
    notifier = Notifier.from_environment(environment(manager), 1)
    for now_s, text in ((0.0, "a"), (1.0, "b"), (11.0, "c"), (30.0, "c")):
        notifier.status(text, now_s)
    manager.setblocking(False)
    assert [manager.recv(4096), manager.recv(4096)] == [b"STATUS=a", b"STATUS=c"]
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    notifier.close()


def test_a_status_can_not_smuggle_in_another_message(manager: socket.socket) -> None:
    notifier = Notifier.from_environment(environment(manager), 1)
    notifier.status("fine\nSTOPPING=1", 0)
    assert manager.recv(4096) == b"STATUS=fine STOPPING=1"
    notifier.close()


def test_an_abstract_socket_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0balloond-test-notify")
        listener.settimeout(2)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": "@balloond-test-notify"}, 1)
        notifier.ready()
        assert listener.recv(4096) == b"READY=1"
        notifier.close()


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:2:1234", "relative"])
def test_without_anybody_to_tell_nothing_happens(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}, 1)
    notifier.ready()
    notifier.alive()
    notifier.close()


def test_a_manager_that_does_not_listen_does_not_hold_the_daemon_up(manager: socket.socket) -> None:
    notifier = Notifier.from_environment(environment(manager), 1)
    for _ in range(10_000):  # far more than its queue holds
        notifier.ready()
    notifier.close()
