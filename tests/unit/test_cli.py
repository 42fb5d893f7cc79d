"""Does balloonctl tell a person what they need, and end with the status that a script needs?"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest

from balloond import cli
from balloond.config.settings import Config
from balloond.control import ControlServer
from balloond.diagnosis.finding import Finding, told
from balloond.model import Rung
from balloond.publish.admission import admission, asked_of
from balloond.publish.status import History, status
from balloond.units import MIB
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
    server = ControlServer(path, {"status": lambda _: reply()})
    yield server
    server.close()


Captured = pytest.CaptureFixture[str]


def test_status_shows_host_and_guests(path: str, daemon: ControlServer, capsys: Captured) -> None:
    assert cli.main(["status", "--socket", path]) == 0
    shown = capsys.readouterr().out
    assert "Host: green" in shown and "\ndb " in shown and "\nweb-1 " in shown


@pytest.mark.parametrize(("end", "status"), [(ValueError("a bug"), 70), (KeyboardInterrupt(), 130)])
def test_a_doctor_that_fails_ends_with_no_status_that_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, end: BaseException, status: int
) -> None:
    def visit(_config: Config) -> None:
        raise end

    config = tmp_path / "balloond.yaml"
    config.write_text("mode: observe\n")
    monkeypatch.setattr("balloond.doctor.visit", visit)
    assert cli.main(["doctor", "--config", str(config)]) == status
    assert ("ValueError: a bug" in capsys.readouterr().err) == (status == 70)


def test_a_doctor_without_a_sound_configuration_judges_nothing(tmp_path: Path, capsys: Captured) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text("nonsense: 1\n")
    assert cli.main(["doctor", "--config", str(config)]) == 2
    assert capsys.readouterr().out == ""


def test_a_doctor_takes_the_defaults_only_where_there_is_no_usual_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    visited: list[Config] = []

    def visit(config: Config) -> tuple[Finding, ...]:
        visited.append(config)
        return ()

    usual = tmp_path / "balloond.yaml"
    monkeypatch.setattr("balloond.doctor.visit", visit)
    monkeypatch.setattr(cli, "DEFAULT_CONFIG", str(usual))
    assert cli.main(["doctor"]) == 0
    assert visited == [Config()]
    usual.write_text("mode: asleep\ninterval: 0s\n")
    capsys.readouterr()
    assert cli.main(["doctor"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and f"{usual}:1: mode: " in told.err and f"{usual}:2: interval: " in told.err
    assert visited == [Config()]


def test_a_usual_file_that_was_broken_since_keeps_nobody_from_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    usual = tmp_path / "balloond.yaml"
    usual.write_text("nonsense: 1\n")
    asked: list[str] = []

    def ask(path: str, _question: str) -> object:
        asked.append(path)
        return reply()

    monkeypatch.setattr(cli, "DEFAULT_CONFIG", str(usual))
    monkeypatch.setattr(cli, "ask", ask)
    assert cli.main(["status"]) == 0
    assert asked == [Config().control_socket]


# --- ends that are no answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["admit", "8GiB"], 130),
        (["status"], 130),
        (["explain", "web-1"], 130),
        (["check", "/dev/null"], 130),
        (["top"], 0),
    ],
)
def test_an_interrupt_is_no_answer_and_the_usual_end_of_top_alone(
    monkeypatch: pytest.MonkeyPatch, command: list[str], status: int
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "ask", interrupted)
    monkeypatch.setattr(cli, "load", interrupted)
    where = [] if command[0] == "check" else ["--socket", "/nonexistent"]
    assert cli.main([*command, *where]) == status


@contextmanager
def nobody_reads() -> Iterator[TextIO]:
    """A pipe whose reader is gone."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        yield stream


@pytest.mark.parametrize(("size", "status"), [("4GiB", 0), ("7GiB", 1)])
def test_an_answer_that_nobody_reads_to_its_end_stands(
    path: str, monkeypatch: pytest.MonkeyPatch, size: str, status: int
) -> None:
    server, _ = admitting(path)
    try:
        with nobody_reads() as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert cli.main(["admit", size, "--socket", path]) == status
    finally:
        server.close()


def test_top_ends_when_nobody_reads_it_any_more(
    path: str, daemon: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nobody_reads() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(["top", "--interval", "0.1", "--socket", path]) == 0


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_doctor_whose_findings_cannot_be_written_ends_with_no_status_that_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, as_json: list[str]
) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text("mode: observe\n")
    monkeypatch.setattr("balloond.doctor.visit", lambda _: (told("something", "it matters"),))
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(["doctor", "--config", str(config), *as_json]) == 70
    said = capsys.readouterr().err
    assert said == "balloonctl: the output could not be written: No space left on device\n"


@pytest.mark.parametrize("part", ["report", "describe_findings", "worst", "load"])
def test_a_bug_anywhere_in_the_doctor_is_no_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, part: str
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    config = tmp_path / "balloond.yaml"
    config.write_text("mode: observe\n")
    monkeypatch.setattr("balloond.doctor.visit", lambda _: ())
    monkeypatch.setattr(cli, part, broken)
    as_json = ["--json"] if part == "report" else []
    assert cli.main(["doctor", "--config", str(config), *as_json]) == 70
    assert "ValueError: a bug" in capsys.readouterr().err


def test_python_does_not_end_it_otherwise_for_what_is_left_to_write(tmp_path: Path) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text("mode: observe\n")
    command = [sys.executable, "-m", "balloond.cli", "check"]
    with nobody_reads() as gone, Path("/dev/full").open("w") as full:
        ended = [
            subprocess.run([*command, str(config)], stdout=gone, stderr=subprocess.PIPE, check=False),
            subprocess.run([*command, str(config)], stdout=full, stderr=full, check=False),
            subprocess.run([*command, "/nonexistent"], stdout=full, stderr=gone, check=False),
        ]
    assert [each.returncode for each in ended] == [0, 70, 2]
    assert ended[0].stderr == b""


@pytest.mark.parametrize(
    ("command", "statuses"),
    [
        ("check", [0, 2, 70, 130]),
        ("status", [0, 1, 2, 70, 130]),
        ("top", [0, 1, 2, 70]),
        ("explain", [0, 1, 2, 70, 130]),
        ("admit", [0, 1, 2, 70, 130]),
        ("doctor", [0, 1, 2, 70, 130]),
    ],
)
def test_the_help_of_each_command_says_what_it_does_how_it_ends_and_an_example(
    capsys: Captured, command: str, statuses: list[int]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    usage, description, *_ = (help_ := capsys.readouterr().out).split("\n\n")
    assert usage.startswith(f"usage: balloonctl {command} ")
    assert description.endswith(".")
    said = help_.partition("\nexit status:\n")[2].partition("\n\n")[0]
    assert [int(number) for number in re.findall(r"^  (\d+)  ", said, re.MULTILINE)] == statuses
    assert re.search(rf"\nexamples?:\n  balloonctl {command} ", help_)


def test_a_terminal_without_unicode_gets_escapes(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history, shown = History(), io.BytesIO()
    history.publish(tick := sealed.tick(sealed.guest(name="bücher")))
    server = ControlServer(path, {"status": lambda _: status(tick, history, mode="active", version="1")})
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
    server = ControlServer(path, {"status": lambda _: {"schema": 99}})
    try:
        assert cli.main(["status", "--socket", path]) == 1
    finally:
        server.close()
    assert "another version" in capsys.readouterr().err


def test_a_daemon_that_has_just_started_asks_for_patience(path: str, capsys: Captured) -> None:
    server = ControlServer(path, {"status": lambda _: {"error": "the daemon has just started"}})
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


# --- may a guest start? ----------------------------------------------------------------------------------


def admitting(path: str, rung: Rung = Rung.GREEN) -> tuple[ControlServer, list[Mapping[str, Any]]]:
    """A daemon on a host of 8 GiB with 6 to give, and what it was asked."""
    asked: list[Mapping[str, Any]] = []

    def answer(request: Mapping[str, Any]) -> object:
        asked.append(request)
        found = asked_of(request, Config())
        return {"error": found} if isinstance(found, str) else admission(sealed.tick(rung=rung), found)

    return ControlServer(path, {"admit": answer}), asked


@pytest.mark.parametrize(
    ("size", "rung", "exit_status", "word"),
    [("4GiB", Rung.GREEN, 0, "yes"), ("7GiB", Rung.GREEN, 1, "no"), ("1GiB", Rung.RED, 1, "no")],
)
def test_the_exit_status_says_whether_a_guest_may_start(
    path: str, capsys: Captured, size: str, rung: Rung, exit_status: int, word: str
) -> None:
    server, _ = admitting(path, rung)
    try:
        assert cli.main(["admit", size, "--socket", path]) == exit_status
        assert capsys.readouterr().out.startswith(f"{word}: ")
        assert cli.main(["admit", size, "--json", "--socket", path]) == exit_status
        assert json.loads(capsys.readouterr().out)["admitted"] is (word == "yes")
    finally:
        server.close()


def test_what_is_known_of_the_guest_is_passed_on(path: str, capsys: Captured) -> None:
    server, asked = admitting(path)
    try:
        cli.main(["admit", "512MiB", "--locked", "--name", "db-1", "--socket", path])
    finally:
        server.close()
    assert asked == [{"ask": "admit", "size": 512 * MIB, "held": "locked", "name": "db-1"}]


def test_a_size_without_a_unit_is_refused_before_anybody_is_asked(path: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["admit", "2048", "--socket", path])
    assert ended.value.code == 2
    assert "2048MiB" in capsys.readouterr().err


def test_without_a_daemon_no_guest_may_start(path: str, capsys: Captured) -> None:
    assert cli.main(["admit", "1GiB", "--socket", path]) == 1
    assert "systemctl status balloond" in capsys.readouterr().err


def test_a_size_that_makes_no_sense_is_complained_of(path: str, capsys: Captured) -> None:
    server, _ = admitting(path)
    try:
        assert cli.main(["admit", "1KiB", "--socket", path]) == 1
    finally:
        server.close()
    assert "size is in bytes, from 96 MiB" in capsys.readouterr().err
