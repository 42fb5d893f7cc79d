"""Does balloonctl tell a person what they need, and end with the status that a script needs?"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond import cli
from balloond.control import ControlServer
from balloond.publish.status import History, status
from tests.unit import sealed


def reply() -> object:
    history = History()
    tick = sealed.tick(
        sealed.guest(),
        sealed.guest(sealed.UUID_2, "db"),
        verdicts=(sealed.verdict(), sealed.verdict(sealed.UUID_2, "db")),
        outcomes=(sealed.outcome(),),
    )
    history.publish(tick)
    return status(tick, history, mode="active", version="1.2.3")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.sock")


@pytest.fixture
def daemon(path: str) -> Iterator[ControlServer]:
    server = ControlServer(path, {"status": reply})
    yield server
    server.close()


Captured = pytest.CaptureFixture[str]


def test_status_shows_host_and_guests(path: str, daemon: ControlServer, capsys: Captured) -> None:
    assert cli.main(["status", "--socket", path]) == 0
    shown = capsys.readouterr().out
    assert "Host: green" in shown and "\ndb " in shown and "\nweb-1 " in shown


def test_a_terminal_without_unicode_gets_escapes(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history, shown = History(), io.BytesIO()
    history.publish(tick := sealed.tick(sealed.guest(name="bücher")))
    server = ControlServer(path, {"status": lambda: status(tick, history, mode="active", version="1")})
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert cli.main(["status", "--socket", path]) == 0
    sys.stdout.flush()
    server.close()
    assert b"\nb\\xfccher" in shown.getvalue()


def test_status_as_json_is_what_the_daemon_said(path: str, daemon: ControlServer, capsys: Captured) -> None:
    assert cli.main(["status", "--json", "--socket", path]) == 0
    assert json.loads(capsys.readouterr().out) == reply()


def test_the_configuration_may_name_the_socket(
    path: str, tmp_path: Path, daemon: ControlServer, capsys: Captured
) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text(f"control:\n  socket: {path}\n")
    assert cli.main(["status", "--config", str(config)]) == 0
    config.write_text("control:\n  sockets: x\n")
    assert cli.main(["status", "--config", str(config)]) == 2
    assert f"{config}:2" in capsys.readouterr().err


def test_top_shows_it_again_and_again(path: str, daemon: ControlServer, capsys: Captured) -> None:
    assert cli.main(["top", "--count", "3", "--interval", "0.1", "--socket", path]) == 0
    assert capsys.readouterr().out.count("balloond 1.2.3") == 3


@pytest.mark.parametrize("name", ["web-1", sealed.UUID, sealed.UUID[:8]])
def test_explain_tells_of_one_guest(path: str, daemon: ControlServer, capsys: Captured, name: str) -> None:
    assert cli.main(["explain", name, "--socket", path]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("web-1, ") and "You guarantee it 1 GiB" in shown and "was shrunk from" in shown


def test_explaining_nobody_names_those_who_are_there(
    path: str, daemon: ControlServer, capsys: Captured
) -> None:
    assert cli.main(["explain", "web\x1b-2", "--socket", path]) == 1
    told = capsys.readouterr().err
    assert "db, web-1" in told and "\x1b" not in told


@pytest.mark.parametrize("command", [["status"], ["top"], ["explain", "x"]])
def test_without_a_daemon_it_says_what_to_do(path: str, capsys: Captured, command: list[str]) -> None:
    assert cli.main([*command, "--socket", path]) == 1
    assert "systemctl status balloond" in capsys.readouterr().err


def test_a_daemon_of_another_version_is_not_misread(path: str, capsys: Captured) -> None:
    server = ControlServer(path, {"status": lambda: {"schema": 99}})
    try:
        assert cli.main(["status", "--socket", path]) == 1
    finally:
        server.close()
    assert "another version" in capsys.readouterr().err


def test_a_daemon_that_has_just_started_asks_for_patience(path: str, capsys: Captured) -> None:
    server = ControlServer(path, {"status": lambda: {"error": "the daemon has just started"}})
    try:
        assert cli.main(["status", "--socket", path]) == 1
    finally:
        server.close()
    assert "just started" in capsys.readouterr().err


def test_check_tells_what_a_file_means(tmp_path: Path, capsys: Captured) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text("mode: observe\n")
    assert cli.main(["check", str(config)]) == 0
    assert "mode: observe" in capsys.readouterr().out


def test_check_tells_every_fault_with_its_line(tmp_path: Path, capsys: Captured) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text("mode: asleep\nhost:\n  reserve: 12\n")
    assert cli.main(["check", str(config)]) == 2
    told = capsys.readouterr().err
    assert f"{config}:1: mode: " in told and f"{config}:3: host.reserve: " in told and "2 faults" in told
    assert cli.main(["check", str(tmp_path / "missing")]) == 2


@pytest.mark.parametrize("wrong", [[], ["stats"], ["top", "--interval", "soon"], ["status", "--sock", "x"]])
def test_a_wrong_command_line_ends_with_2(wrong: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(wrong)
    assert ended.value.code == 2
    assert "usage: balloonctl" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["examples:", "exit status:", "explain web-1", "/run/balloond/control.sock"]
)
def test_the_help_says_what_one_needs_to_know(words: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    assert words in capsys.readouterr().out
