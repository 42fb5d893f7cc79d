"""Does `balloonctl simulate` say what it did, and what is wrong with what it was asked?"""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from balloond import cli as balloonctl
from balloond.lab.patience import until
from balloond.sim import bench, processes, scenario, verdict
from balloond.sim.cli import main
from balloond.sim.policies import POLICIES
from balloond.sim.progress import Progress
from balloond.sim.report import Page, check, render, write
from balloond.sim.scenario import read
from balloond.sim.staged import stage_all
from balloond.sim.table import aligned, short

BRIEF = ["--days", "0.01", "--jobs", "1"]

SCENARIO = """\
title: one guest grows
duration: 2min
step: 2s
host:
  memory: 4GiB
  swap: 4GiB
guests:
  - name: idle
    count: 2
    memory: 2GiB
    has: 1GiB
    demand: 300MiB
  - name: web-1
    memory: 2GiB
    has: 1GiB
    swap: 1GiB
    demand: [[0s, 500MiB], [60s, 500MiB], [70s, 1500MiB]]
"""


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert " in 0 s" not in told.err  # refused before any work
    return told.err


def test_without_a_trace_machines_are_made_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BRIEF, "--policy", "balloond,static", "--overcommit", "2", "--ramp", "step"]) == 0
    told = capsys.readouterr()
    assert "synthetic, seed 1: 3 hosts of 20 machines" in told.out
    lines = [line.split() for line in told.out.splitlines()]
    assert [line[0] for line in lines if line and line[0] in POLICIES] == [
        "balloond", "static", "late-oracle", "clairvoyant",
    ]  # fmt: skip
    assert "6 parts in" in told.err


def test_the_same_seed_tells_the_same_to_the_byte(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*BRIEF, "--policy", "balloond,qmemman,mom", "--overcommit", "3", "--ramp", "step"]
    texts = []
    for seed in ("3", "3", "4"):
        assert main([*arguments, "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_a_trace_is_run_by_every_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.npz"
    usage = np.tile(np.array([0.1, 0.5, 0.1, 0.2]), (5, 1))
    np.savez(path, usage_gib=usage, capacity_gib=np.ones(5), step_s=300)
    assert main(["--trace", str(path), "--jobs", "1", "--overcommit", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    assert told["worlds"].startswith("mine.npz: 1 host of 5 machines, 0.0104 days")
    assert [row["policy"] for row in told["rows"]] == [*POLICIES, *POLICIES]
    assert {row["ramp"] for row in told["rows"]} == {"linear", "step"}


def test_the_report_is_one_page_that_needs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.html"
    assert main([*BRIEF, "--policy", "balloond", "--overcommit", "2,3", "--report", str(out)]) == 0
    capsys.readouterr()
    page = out.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=|@import|url\(|fetch\(", page)
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address
    data = json.loads(re.search(r"const DATA = (.*);\n", page)[1])  # type: ignore[index]  # it is there, or fail
    assert [picture["label"].split(",")[0] for picture in data["pictures"]] == [
        "balloond at 2x",
        "balloond at 3x",
    ] * 2
    assert [len(panel["curves"]) for panel in data["panels"]] == [3, 3]


def test_the_figures_are_told_though_the_report_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    assert main([str(path), "--report", "/dev/full"]) == 2
    told = capsys.readouterr()
    assert "mine: one guest grows" in told.out
    assert "/dev/full: No space left on device" in told.err


def test_a_report_takes_the_place_of_a_former_one_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = tmp_path / "real.html", tmp_path / "out.html"
    real.write_text("former", encoding="utf-8")
    real.chmod(0o640)
    out.symlink_to(real)
    check(out)
    assert real.read_text(encoding="utf-8") == "former"

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="broken"):
        patched.setattr(os, "fsync", fails)
        write(out, "half")
    assert real.read_text(encoding="utf-8") == "former"
    write(out, "new")
    assert real.read_text(encoding="utf-8") == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert out.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "real.html"]


def test_no_name_can_end_the_script_of_the_page() -> None:
    page = Page(
        title="</title><b>", subtitle="</script><script>alert(1)</script>", panels=(), pictures=(), demands=(),
        columns=(), rows=(), notes=(),
    )  # fmt: skip
    html = render(page)
    assert html.count("</script>") == 1
    assert "<title>&lt;/title&gt;&lt;b&gt;</title>" in html


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--trace", "/nowhere/july.npz"], "/nowhere/july.npz: No such file"),
        (["--trace", "/dev/zero"], "/dev/zero: no regular file; name an .npz file"),
        (["/dev/zero"], "this is no regular file; name a YAML file"),
        (["a" * 300], "File name too long; name a scenario's file"),
        (["nothing-of-that-name"], "no such file, and no scenario of that name; there are boot-storm"),
        (["--policy", "balloond,best"], "there is no 'best'; there are balloond, static, mom"),
        (["--ramp", "square"], "there is no 'square'; there are linear, step"),
        (["--overcommit", "2,x"], "'x' is no factor from 1 to 100"),
        (["--overcommit", "nan"], "'nan' is no factor"),
        (["--overcommit", "0.5"], "'0.5' is no factor"),
        (["--days", "0"], "'0' is no number of days above 0, up to 366"),
        (["--seed", "9" * 5000], "999…' is no whole number from 0 up, of at most 18 digits"),
        (["--days", "0.0001"], "less than one slot"),
        (["--seed", "-1"], "argument --seed"),
        (["--jobs", "0"], "'0' is no number of processes"),
        (["--report", "/nowhere/at/all/out.html"], "/nowhere/at/all/out.html: No such file or directory"),
        (["--report", "/tmp"], "/tmp: Is a directory"),
        (["--report", "out.html/"], "'out.html/' is no file"),
        (["--report", ""], "'' is no file"),
        (["--report", "/proc/out.html"], "/proc/out.html: No such file"),  # nobody can make a file there
        (["--config", "/nowhere.yaml"], "/nowhere.yaml:1"),
        (["herd", "--trace", "x.npz"], "--trace means nothing to a scenario"),
        (["herd", "--days", "3"], "--days means nothing to a scenario"),
        (["herd", "--seed", "1"], "--seed means nothing to a scenario"),
        (["herd", "--ramp", "step"], "--ramp means nothing to a scenario"),
        (["herd", "--overcommit", "2"], "--overcommit means nothing to a scenario"),
        (["herd", "--policy", "mom", "--config", "x.yaml"], "--policy leaves balloond out"),
        (["a\x1b[31m"], r"a\x1b[31m: no such file"),
        (["herd", "--policy", "late-oracle"], "late-oracle cannot be played"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_a_wrong_option_is_refused_with_what_would_be_right(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(arguments, capsys)


def test_what_is_read_is_never_overwritten_by_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, config, trace = tmp_path / "mine.yaml", tmp_path / "balloond.yaml", tmp_path / "mine.npz"
    mine.write_text(SCENARIO, encoding="utf-8")
    config.write_text("interval: 2s", encoding="utf-8")
    np.savez(trace, usage_gib=np.ones((2, 3)), capacity_gib=np.full(2, 4.0), step_s=300)
    (tmp_path / "link.html").symlink_to(config)
    before = [path.read_bytes() for path in (mine, config, trace)]
    for arguments, out in (
        ([str(mine)], mine),
        (["--trace", str(trace)], trace),
        ([str(mine), "--config", str(config)], tmp_path / "link.html"),
    ):
        assert "is what is read as well" in refused([*arguments, "--report", str(out)], capsys)
    assert [path.read_bytes() for path in (mine, config, trace)] == before


def test_the_page_is_written_though_the_figures_cannot_be_told(tmp_path: Path) -> None:
    script, out = tmp_path / "mine.yaml", tmp_path / "out.html"
    script.write_text(SCENARIO, encoding="utf-8")
    command = [sys.executable, "-m", "balloond.cli", "simulate", str(script), "--report", str(out)]
    with Path("/dev/full").open("w", encoding="ascii") as full:
        for more, status in (
            ({"stdout": full}, 70),
            ({"stderr": full, "stdout": subprocess.DEVNULL}, 0),
            ({"preexec_fn": partial(os.close, 1)}, 70),
            ({"preexec_fn": partial(os.close, 2), "stdout": subprocess.DEVNULL}, 0),
        ):
            out.unlink(missing_ok=True)
            done = subprocess.run(command, check=False, timeout=60, **more)
            assert done.returncode == status
            assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_figures_are_told_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "balloond.cli", "simulate", str(path)],
        capture_output=True, check=False, timeout=60, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0
    assert rb"GiB\xb7s lacked" in done.stdout


def test_a_scenario_that_comes_with_balloond_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "herd.yaml").write_text("what comes with balloond", encoding="utf-8")
    monkeypatch.setattr(scenario, "file_of", lambda name: tmp_path / f"{name}.yaml")
    told = refused(["herd", "--report", str(tmp_path / "herd.yaml")], capsys)
    assert "is what is read as well" in told


def test_whoever_stops_listening_ends_the_work() -> None:
    parts = [np.full(100_000, 60.0 if number else 0.0) for number in range(9)]
    results = processes.each(_sleep, parts, jobs=2)
    assert next(results) == (0, 100_000)
    workers = [child for child in psutil.Process().children() if child.is_running()]
    results.close()
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def _sleep(part: Any) -> int:
    time.sleep(part[0])
    return len(part)


def test_samples_above_what_a_machine_has_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mib.npz"
    np.savez(path, usage_gib=np.full((2, 3), 1024.0), capacity_gib=np.full(2, 4.0), step_s=300)
    assert main(["--trace", str(path), "--policy", "static", "--overcommit", "2", "--jobs", "1"]) == 0
    assert "; 6 samples were more than their machine has, and are cut to that" in capsys.readouterr().out


LONG = ["simulate", "--policy", "balloond", "--overcommit", "2", "--days", "3", "--jobs", "2"]
"""Minutes for a part, and each part is more than a pipe holds."""


@pytest.mark.parametrize(
    ("number", "whom", "status"),
    [
        (signal.SIGTERM, "parent", 143),
        (signal.SIGINT, "parent", 130),
        (signal.SIGKILL, "parent", -9),
        (signal.SIGKILL, "child", 70),
    ],
)
def test_whoever_is_ended_none_of_its_processes_stays(number: signal.Signals, whom: str, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "balloond.cli", *LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        parent = psutil.Process(run.pid)
        until(lambda: len(parent.children()) == 2, "its processes")
        children = parent.children()
        until(lambda: sum(child.cpu_times().user for child in children) > 1.0, "them to work")
        (parent if whom == "parent" else children[0]).send_signal(number)
        told = run.communicate(timeout=20)[1]
    assert run.returncode == status
    assert ("fewer --jobs need less" in told) is (whom == "child")
    assert "Traceback" not in told
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_broken_trace_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 half of it")
    assert "broken.npz" in refused(["--trace", str(path)], capsys)


def test_a_broken_scenario_is_refused_with_every_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(SCENARIO.replace("4GiB", "4").replace("500MiB]", "lots]"), encoding="utf-8")
    told = refused([str(path)], capsys)
    assert told.count("broken.yaml:") >= 3


def test_without_numpy_traces_are_refused_and_scenarios_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "numpy" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert "pip install 'balloond[simulate]'" in refused([], capsys)
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    assert "a peer needs numpy" in refused([str(path), "--policy", "mom"], capsys)
    assert main([str(path)]) == 0


def test_a_scenario_under_balloond_loads_no_numpy(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    script = (
        "import sys; from balloond.sim.cli import main; main(sys.argv[1:]); sys.exit('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "mine: one guest grows" in done.stdout) == (0, True)


def test_a_scenario_is_played_by_balloond_and_by_peers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "mine.yaml", tmp_path / "out.html"
    path.write_text(SCENARIO, encoding="utf-8")
    assert main([str(path), "--policy", "balloond,static,script", "--report", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("mine: one guest grows\n")
    assert [line.split()[0] for line in told.splitlines()[3:]] == ["balloond", "static", "script"]
    assert "web-1" in out.read_text(encoding="utf-8")
    assert main([str(path), "--policy", "balloond,static", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["endings"]
    assert [ending["policy"] for ending in listed] == ["balloond", "static"]
    assert listed[0]["breaches"] == []
    assert listed[1]["breaches"] is None
    assert listed[1]["shortage_gib_s"] > listed[0]["shortage_gib_s"]


def test_ones_own_configuration_can_be_tried_and_what_is_changed_in_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, trace, out = (tmp_path / name for name in ("balloond.yaml", "busy.npz", "out.html"))
    usage = np.repeat(np.random.default_rng(3).random((20, 5)) * 2.2, 2, axis=1)
    np.savez(trace, usage_gib=usage, capacity_gib=np.full(20, 4.0), step_s=300)
    arguments = [
        "--trace",
        str(trace),
        "--policy",
        "balloond",
        "--overcommit",
        "2",
        "--ramp",
        "step",
        "--json",
    ]
    moves = []
    for text in ("", "mode: observe\n"):
        path.write_text(text, encoding="utf-8")
        assert main([*arguments, "--jobs", "1", "--config", str(path), "--report", str(out)]) == 0
        told = capsys.readouterr()
        assert "balloond.yaml: the interval is 2 s: run at 10 s" in told.err
        assert ("balloond.yaml: mode observe moves nobody: run as active" in told.err) is ("observe" in text)
        assert ("mode observe moves nobody" in out.read_text(encoding="utf-8")) is ("observe" in text)
        moves.append(json.loads(told.out)["rows"][0]["moves"])
    assert moves[0] == moves[1] > 0


def test_a_scenario_is_tried_with_ones_own_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = tmp_path / "mine.yaml", tmp_path / "balloond.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    lacked = []
    for text in ("interval: 2s\n", "interval: 40s\n", "{interval: 40s, mode: observe}\n"):
        config.write_text(text, encoding="utf-8")
        arguments = [
            str(path),
            "--policy",
            "balloond,static",
            "--config",
            str(config),
            "--json",
            "--jobs",
            "1",
        ]
        assert main(arguments) == 0
        told = capsys.readouterr()
        assert ("mode observe moves nobody" in told.err) is ("observe" in text)
        lacked.append([ending["shortage_gib_s"] for ending in json.loads(told.out)["endings"]])
    assert lacked[0][0] < lacked[1][0] == lacked[2][0]
    assert lacked[0][1] == lacked[1][1]  # it is balloond's: peers keep the scenario's step


def test_balloonctl_hands_its_arguments_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert balloonctl.main(["simulate", "--trace", "/nowhere.npz"]) == 2
    assert "/nowhere.npz" in capsys.readouterr().err


def test_the_help_names_every_policy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {policy} ", told, re.MULTILINE) for policy in POLICIES)


def test_policies_of_a_scenario_share_the_processors_and_tell_the_same_as_one_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    shared: list[int] = []
    real = processes.each

    def each(*given: Any, jobs: int, **more: Any) -> Any:  # Any: it is handed through
        shared.append(jobs)
        return real(*given, jobs=jobs, **more)

    monkeypatch.setattr(processes, "each", each)
    texts = []
    for jobs in ("1", "2", "9"):
        assert main([str(path), "--policy", "balloond,static,script", "--jobs", jobs]) == 0
        told = capsys.readouterr()
        assert "6 simulated minutes in" in told.err
        texts.append(told.out)
    assert texts[0] == texts[1] == texts[2]
    assert shared == [2, 3]


def test_a_lone_policy_in_a_scenario_tells_each_simulated_minute() -> None:
    seen: list[tuple[int, int]] = []
    longer = SCENARIO.replace("2min", "150s")
    stage_all({"balloond": lambda: read(longer, "x.yaml")}, progress=lambda done, of: seen.append((done, of)))
    assert list(dict.fromkeys(seen)) == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_progress_off_a_terminal_is_a_line_and_no_bar() -> None:
    out = io.StringIO()
    progress = Progress(out)
    for done in range(1, 4):
        progress(done, 3)
    assert out.getvalue() == "3 parts in 0 s\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar() -> None:
    out = Terminal()
    progress = Progress(out, "things")
    for done in (0, 1, 1, 2, 2):
        progress(done, 2)
    assert "[..............................] 0 of 2 things" in out.getvalue()
    assert out.getvalue().count("[###############...............] 1 of 2 things") == 1
    assert out.getvalue().endswith("2 things in 0 s\n")
    assert out.getvalue().count("things in") == 1


def test_tables_stand_in_line_and_figures_are_short() -> None:
    assert aligned(("a", "figure"), [("long", "1"), ("x", "100")]) == [
        "a     figure",
        "long       1",
        "x        100",
    ]
    assert [short(value) for value in (0, 0.0001, 0.1234, 1.234, 12.34, 1234.5)] == [
        "0", "1e-04", "0.123", "1.23", "12.3", "1,234",
    ]  # fmt: skip


def test_the_bench_prints_the_bars_and_the_cost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALLOOND_TRACE", "")
    monkeypatch.setattr(bench, "TRACE", Path("nowhere.npz"))
    monkeypatch.setattr(bench, "COUNTS", (3,))
    monkeypatch.setattr(bench, "DECISIONS", 30)
    monkeypatch.setattr(verdict, "FLIPS_BAR", -1.0)  # missed, and held against no machines that are made up
    assert bench.main(["--days", "0.004", "--jobs", "1"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^linear +2 ", told, re.MULTILINE)
    assert re.search(r"^step +2\.5 ", told, re.MULTILINE)
    assert re.search(r"^linear 2x: flips at most -1 a machine-day +0 +missed$", told, re.MULTILINE)
    assert "Of 16 bars: " in told
    assert "made up" in told
    assert re.search(r"^3 +\d+\.\d\d ms +\d+\.\d us", told, re.MULTILINE)


@pytest.mark.parametrize("limit", [0.0, 1000.0])
def test_the_bench_fails_where_real_machines_miss_a_bar(
    tmp_path: Path, limit: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "busy.npz"
    usage = np.repeat(np.random.default_rng(3).random((20, 4)) * 2.0, 2, axis=1)
    np.savez(path, usage_gib=usage, capacity_gib=np.full(20, 4.0), step_s=300)
    monkeypatch.setenv("BALLOOND_TRACE", str(path))
    monkeypatch.setattr(bench, "COUNTS", ())
    monkeypatch.setattr(verdict, "EXCESS_BARS", {2.0: limit})
    monkeypatch.setattr(bench, "EXCESS_BARS", {2.0: limit})
    monkeypatch.setattr(verdict, "FLIPS_BAR", 1000.0)
    monkeypatch.setattr(verdict, "PEER_AT", ())
    assert bench.main(["--days", "1", "--jobs", "1"]) == (limit == 0)
    told = capsys.readouterr().out
    assert ("missed\n" in told) is (limit == 0)
    assert "guests" in told  # the cost of a decision is told all the same


def test_the_bench_refuses_a_broken_trace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALLOOND_TRACE", "/nowhere.npz")
    assert bench.main(["--days", "0.01"]) == 2
    assert "/nowhere.npz" in capsys.readouterr().err
