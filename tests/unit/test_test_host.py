"""Is the test host's disk made anew when it must be, and its report read right?"""

from __future__ import annotations

import os
import signal
import socketserver
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.lab import image
from balloond.lab.faults import LabError
from tests.host import service
from tests.image import __main__ as test_host
from tests.image import disk, machine, untouched
from tests.image.__main__ import crashed, host_test, judge, judge_machine


def test_the_disk_s_key_changes_with_what_it_is_made_of(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("one")
    second.write_text("two")
    before = disk.key((first, second), ["psutil"])
    assert disk.key((first, second), ["psutil"]) == before
    assert disk.key((first, second), ["psutil>=6"]) != before
    second.write_text("other")
    assert disk.key((first, second), ["psutil"]) != before


def test_all_that_the_disk_is_made_of_exists_and_its_builder_is_of_it() -> None:
    assert all(path.is_file() for path in disk.INPUTS)
    assert Path(disk.__file__) in disk.INPUTS


def test_what_a_killed_builder_left_is_removed_and_a_living_one_s_is_spared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in ("host-a", f"host-b.{dead.pid}", f"host-c.{os.getpid()}"):
        (disk.cache() / name).mkdir(parents=True)
    disk.sweep()
    assert sorted(path.name for path in disk.cache().iterdir()) == ["host-a", f"host-c.{os.getpid()}"]


def test_wheels_are_fetched_for_all_that_pip_needs_but_libvirt_s_binding() -> None:
    project = b"""
[build-system]
requires = ["setuptools>=68"]
[project]
dependencies = ["libvirt-python>=9.0", "psutil>=5.9"]
"""
    assert disk.requirements(project) == ["wheel", "setuptools>=68", "psutil>=5.9"]


@pytest.mark.parametrize(
    ("report", "status"),
    [
        ("", None),
        ("== rebooting\n", None),
        ("1 passed\nhost-test: exit 0\n", 0),
        ("1 failed\nhost-test: exit 1\n", 1),
        ("host-test: exit 1\nand then the second boot\nhost-test: exit 0\n", 0),
    ],
)
def test_the_last_word_of_the_report_counts(report: str, status: int | None) -> None:
    assert machine.verdict(report) == status


def test_the_tree_is_packed_with_what_is_not_committed_yet_and_fits_a_disk_s_sectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    for name in ("kept", "gone", "new", "ignored"):
        (tree / name).write_text(name)
    (tree / ".gitignore").write_text("ignored\n")
    subprocess.run(["git", "add", "kept", "gone"], cwd=tree, check=True)
    (tree / "gone").unlink()
    monkeypatch.setattr(machine, "TREE", tree)
    machine.pack_tree(tmp_path / "disk")
    with tarfile.open(tmp_path / "disk") as archive:
        assert sorted(archive.getnames()) == [".gitignore", "kept", "new"]
    assert (tmp_path / "disk").stat().st_size % 512 == 0


@pytest.mark.parametrize(
    ("report", "scraped", "status", "said"),
    [
        ("host-test: exit 0\n", True, 0, "all passed"),
        ("host-test: exit 0\n", False, 1, "no scrape ever worked"),
        ("host-test: exit 1\n", True, 1, "FAILED"),
        (
            "tests/host/test_x.py::test_y[a b] SKIPPED (no disk)\nhost-test: exit 0\n",
            True,
            1,
            "may be skipped",
        ),
        ("one check\n", True, 1, "kernel panic"),
    ],
)
def test_nothing_but_a_whole_good_report_and_a_scrape_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], report: str, scraped: bool, status: int, said: str
) -> None:
    logs = machine.Logs(home=tmp_path)
    logs.console.write_text("kernel panic\n")
    if scraped:
        logs.metrics.touch()
    assert judge(report, logs) == status
    assert said in capsys.readouterr().out
    assert said in logs.report.read_text()


def test_the_self_test_s_host_need_not_be_scraped_but_must_pass(tmp_path: Path) -> None:
    logs = machine.Logs(home=tmp_path)
    assert judge("host-test: exit 0\n", logs, self_test=True) == 0
    assert judge("host-test: exit 1\n", logs, self_test=True) == 1


def test_a_run_that_changed_this_machine_has_failed_and_its_report_says_so(tmp_path: Path) -> None:
    logs = machine.Logs(home=tmp_path)
    before: untouched.Seen = {("swap", "/dev/sda2"): "partition", ("mount", "/"): "ext4"}
    assert judge_machine(before, before, logs) == 0
    assert "PASSED this machine is as it was: 1 x mount, 1 x swap" in logs.report.read_text()
    assert judge_machine(before, {("mount", "/"): "ext4"}, logs) == 1
    assert "FAILED this machine is as it was: swap /dev/sda2 is gone" in logs.report.read_text()


def test_only_a_host_that_died_is_booted_once_more(tmp_path: Path) -> None:
    logs = machine.Logs(home=tmp_path)
    logs.report.write_text("a report")
    logs.console.write_text(
        f"[ 618.7] Kernel panic - not syncing: corrupted stack end detected\n{machine.DIED}\n"
    )
    assert crashed("tests/host/test_3_guests.py::test_one FAILED", logs)
    assert not crashed("host-test: exit 1\n", logs)
    logs.set_aside()
    assert not logs.report.exists()
    assert (tmp_path / "console-first.log").read_text().startswith("[ 618.7]")
    logs.console.write_text("all quiet\n")
    assert not crashed("hung", logs)


@pytest.mark.parametrize(("ends", "died"), [("true", True), ("sleep 60", False)])
def test_a_host_that_ends_by_itself_is_told_from_one_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, died: bool
) -> None:
    monkeypatch.setattr(machine, "_command", lambda *_args, **_options: ["sh", "-c", ends])
    logs = machine.Logs(home=tmp_path)
    logs.console.touch()
    nothing = disk.Disk(root=tmp_path, kernel=tmp_path, initramfs=tmp_path)
    machine.run(
        nothing,
        accelerator="tcg",
        home=tmp_path,
        logs=logs,
        deadline_s=time.monotonic() + 0.2,
        self_test=False,
        tell=lambda _text: None,
    )
    assert (machine.DIED in logs.console.read_text()) is died


def test_a_run_that_hangs_anywhere_is_ended_and_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(test_host, "LIMIT_S", {"tcg": 0})
    monkeypatch.setattr(test_host, "GRACE_S", 1)
    monkeypatch.setattr(image, "build", lambda: subprocess.run(["sleep", "60"], check=True))
    former = signal.signal(signal.SIGALRM, test_host.too_long)
    try:
        assert host_test(machine.Logs(home=tmp_path), self_test=False) == 1
    finally:
        signal.signal(signal.SIGALRM, former)
    assert "FAILED: the whole run took too long" in (tmp_path / "report.log").read_text()


def test_building_is_ended_at_the_same_limit(tmp_path: Path) -> None:
    former = signal.signal(signal.SIGALRM, test_host.too_long)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with (tmp_path / "log").open("w") as output, pytest.raises(LabError, match="took too long"):
            disk._run(["sleep", "60"], output)
    finally:
        signal.signal(signal.SIGALRM, former)


class Nonsense(socketserver.BaseRequestHandler):
    """A server that is not one of the web's."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"nonsense\r\n\r\n")


@pytest.fixture
def nonsense() -> Iterator[int]:
    """The port of a server of nonsense."""
    with socketserver.TCPServer(("127.0.0.1", 0), Nonsense) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_an_answer_that_is_no_web_servers_is_no_scrape_and_no_end(
    nonsense: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine._scrape(nonsense, tmp_path / "metrics")
    assert not (tmp_path / "metrics").exists()
    monkeypatch.setattr(service, "METRICS_PORT", nonsense)
    assert service.metric("balloond_ticks_total") == 0
