"""Can a client learn what it asks, can none do harm, and can two daemons never serve one path?"""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond import control
from balloond.control import ControlServer, NoAnswer, SocketRefused, ask

ANSWERS = {"status": lambda _: {"fine": True}, "echo": lambda request: request}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "control.sock")


@pytest.fixture
def server(path: str) -> Iterator[ControlServer]:
    server = ControlServer(path, ANSWERS, deadline_s=0.5)
    yield server
    server.close()


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect(path)
    return client


def send(path: str, request: bytes) -> bytes:
    with connect(path) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(65536):
            received += data
        return received


def test_a_question_is_answered(path: str, server: ControlServer) -> None:
    assert ask(path, "status") == {"fine": True}


def test_what_comes_with_a_question_reaches_who_answers_it(path: str, server: ControlServer) -> None:
    assert ask(path, "echo", size=7, name="é") == {"ask": "echo", "size": 7, "name": "é"}


def test_only_owner_and_group_may_ask(path: str, server: ControlServer) -> None:
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) & 0o022 == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"\n",
        b"status\n",
        b"{}\n",
        b"[]\n",
        b"7\n",
        b'{"ask": "reboot"}\n',
        b'{"ask": ["status"]}\n',
        b'{"ask": {"status": 1}}\n',
        b"[" * 4000 + b"\n",
        b"\xff\xfe\n",
        b'{"ask": "status"',
        b'{"ask": "' + b"x" * 100_000,
    ],
)
def test_rubbish_gets_an_error_and_the_next_client_is_served(
    path: str, server: ControlServer, request_: bytes
) -> None:
    try:
        reply = send(path, request_)
    except OSError:
        reply = b""  # hung up on while it was still sending: fair enough for 100,000 bytes
    if reply:
        assert "error" in json.loads(reply)
    assert ask(path, "status") == {"fine": True}


def test_an_error_of_the_daemon_is_told_in_words(path: str, server: ControlServer) -> None:
    with pytest.raises(NoAnswer, match="not understood"):
        ask(path, "reboot")


def test_clients_that_say_nothing_delay_nobody_and_are_dropped(path: str, server: ControlServer) -> None:
    silent = [connect(path) for _ in range(3 * control.MOST_CLIENTS)]
    began_s = time.monotonic()
    assert ask(path, "status") == {"fine": True}
    assert time.monotonic() - began_s < 0.4
    for each in silent:
        assert each.recv(1) == b""  # dropped, not left waiting
        each.close()


def test_a_client_that_does_not_read_delays_nobody_and_is_dropped(path: str) -> None:
    server = ControlServer(path, {"status": lambda _: "x" * 10_000_000}, deadline_s=2.0)
    try:
        greedy = connect(path)
        greedy.sendall(b'{"ask": "status"}\n')
        assert len(ask(path, "status")) == 10_000_000
        time.sleep(2.1)
        received = 0
        while data := greedy.recv(1_000_000):
            received += len(data)
        assert received < 10_000_000
        greedy.close()
    finally:
        server.close()


def test_a_request_may_come_in_pieces(path: str, server: ControlServer) -> None:
    with connect(path) as client:
        for byte in b'{"ask": "status"}\n':
            client.sendall(bytes([byte]))
        assert json.loads(client.recv(4096)) == {"fine": True}


def test_a_second_daemon_is_refused_and_the_first_stays_undisturbed(path: str, server: ControlServer) -> None:
    with pytest.raises(SocketRefused, match="another balloond"):
        ControlServer(path, ANSWERS)
    assert ask(path, "status") == {"fine": True}


def test_a_daemon_without_a_lock_that_answers_is_another_daemon_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(SocketRefused, match="another balloond"):
            ControlServer(str(path), ANSWERS)
    assert path.exists()


def test_what_a_dead_daemon_left_is_taken_over(path: str) -> None:
    Path(path).parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    server = ControlServer(path, ANSWERS)
    assert ask(path, "status") == {"fine": True}
    server.close()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(SocketRefused, match="no socket"):
        ControlServer(str(precious), ANSWERS)
    assert precious.read_text() == "data"
    precious.unlink()
    ControlServer(str(precious), ANSWERS).close()  # the lock was not kept by the failure


def test_a_place_that_can_not_be_used_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "control.sock", tmp_path / ("x" * 120)):
        with pytest.raises(SocketRefused, match=r"set `control\.socket`"):
            ControlServer(str(place), ANSWERS)


def test_closing_removes_the_socket_ends_the_thread_and_leaves_no_descriptor(path: str) -> None:
    Path(path).parent.mkdir()
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  (numbers, not paths)
    server = ControlServer(path, ANSWERS)
    client = connect(path)
    server.close()
    client.close()
    assert not Path(path).exists()
    assert not any(thread.name == "control" for thread in threading.enumerate())
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    with pytest.raises(NoAnswer, match="Is it running"):
        ask(path, "status")


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(NoAnswer, match="in time"):
            ask(str(path), "status", timeout_s=0.1)
