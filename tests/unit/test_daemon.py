"""Does the daemon start, serve, reload and stop as it promises, whatever state the host is in?

Most tests run it as it is run in earnest: a process of its own, with libvirt's test driver or none at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from balloond import daemon as daemons
from balloond import loop
from balloond.config.settings import Config, Mode
from balloond.control import ControlServer, NoAnswer, ask
from balloond.daemon import Daemon, Settings, answer_admission, in_short, main
from balloond.host import notes
from balloond.log import Log
from balloond.model import Guest, Measure, Measured, Outcome, Reason, Result, SetTarget, Snapshot, Statistics
from balloond.notify import Notifier
from balloond.publish.metrics import Metrics
from balloond.publish.status import History
from balloond.units import GIB, KIB, MIB
from tests.unit import sealed

NO_LIBVIRT = "qemu+unix:///system?socket=/nonexistent/balloond-test"
PATIENCE_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A daemon that a test has started, in a directory of its own."""

    def __init__(self, directory: Path, *, uri: str, before: str, port: int) -> None:
        self.directory, self.uri, self.port = directory, uri, port
        self.socket = str(directory / "run" / "control.sock")
        self.config = directory / "balloond.yaml"
        self.configure()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.settimeout(0.2)
        self.told: list[str] = []
        self.log = directory / "log"
        program = f"import sys\n{before}\nfrom balloond.daemon import main\nsys.exit(main(sys.argv[1:]))"
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(directory / "notify"),
            "WATCHDOG_USEC": "3000000",
            "PYTHONUNBUFFERED": "1",
        }
        environment.pop("WATCHDOG_PID", None)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "--config", str(self.config)],
                stderr=log,
                env=environment,
            )

    def configure(self, *more: str) -> None:
        lines = (
            "interval: 500ms",
            f'libvirt: {{uri: "{self.uri}"}}',
            f'metrics: {{listen: "127.0.0.1:{self.port}"}}',
            f"control: {{socket: {self.socket}}}",
            f"state: {{directory: {self.directory / 'state'}}}",
        )
        self.config.write_text("\n".join((*lines, *more, "")))

    def until(self, done: Callable[[], object], what: str) -> None:
        ends_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < ends_s, f"{what} did not happen; the log:\n{self.log.read_text()}"
            time.sleep(0.05)

    def logged(self, words: str) -> None:
        self.until(lambda: words in self.log.read_text(), f"{words!r}")

    def tells(self, message: str) -> None:
        def heard() -> bool:
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self.told.append(self.manager.recv(4096).decode())
            return any(each.startswith(message) for each in self.told)

        self.until(heard, message)

    def scrapes(self, words: str) -> None:
        """Waits until a scrape shows them."""

        def shown() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as reply:
                    return words in reply.read().decode()
            except urllib.error.URLError:
                return False

        self.until(shown, words)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Its exit status, and how long it took to end."""
        began_s = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S), time.monotonic() - began_s

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.manager.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as running:

        def begin(uri: str = "test:///default", *, before: str = "", port: int | None = None) -> Running:
            daemon = Running(tmp_path, uri=uri, before=before, port=free_port() if port is None else port)
            running.callback(daemon.close)
            return daemon

        yield begin


# --- a life ----------------------------------------------------------------------------------------------


def test_it_starts_serves_and_stops_leaving_nothing_behind(start: Start) -> None:
    daemon = start()
    daemon.tells("READY=1")
    daemon.tells("STATUS=1 guests")
    daemon.tells("WATCHDOG=1")
    status = ask(daemon.socket, "status")
    assert (status["libvirt"], [guest["name"] for guest in status["guests"]]) == (True, ["test"])
    daemon.scrapes("balloond_libvirt_connected 1.0")
    daemon.scrapes("balloond_libvirt_process_resident_memory_bytes")
    exit_status, took_s = daemon.stop()
    assert exit_status == 0 and took_s < 5
    daemon.tells("STOPPING=1")
    assert not Path(daemon.socket).exists()
    assert "Traceback" not in daemon.log.read_text()


def test_without_libvirt_it_says_so_once_stays_up_and_serves(start: Start) -> None:
    daemon = start(NO_LIBVIRT)
    daemon.tells("READY=1")
    daemon.tells("STATUS=libvirt does not answer")
    daemon.until(lambda: ask(daemon.socket, "status")["tick"] >= 4, "four ticks")
    assert ask(daemon.socket, "status")["libvirt"] is False
    assert ask(daemon.socket, "status")["host"]["total"] > 0
    text = daemon.log.read_text()
    assert text.count("libvirt does not answer") == 1
    assert "Traceback" not in text
    assert daemon.stop()[0] == 0


def test_it_stays_small(start: Start) -> None:
    daemon = start()
    daemon.scrapes("balloond_ticks_total")
    rollup = Path(f"/proc/{daemon.process.pid}/smaps_rollup").read_text()
    pss = next(int(line.split()[1]) * KIB for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss < 30 * MIB


def test_reload_takes_a_good_file_and_leaves_a_broken_one(start: Start) -> None:
    daemon = start()
    daemon.tells("READY=1")
    daemon.configure("mode: observe")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.tells("RELOADING=1\nMONOTONIC_USEC=")
    daemon.until(lambda: ask(daemon.socket, "status")["mode"] == "observe", "mode observe")
    daemon.configure("mode: asleep", "host: {reserve: 12}")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.logged("the old one stays in force faults=2")
    daemon.scrapes('reloads_total{result="failed"} 1.0')
    daemon.scrapes('reloads_total{result="ok"} 1.0')
    daemon.scrapes("balloond_config_last_reload_successful 0.0")
    text = daemon.log.read_text()
    assert "host.reserve" in text and ":6: mode: " in text
    assert ask(daemon.socket, "status")["mode"] == "observe"
    assert daemon.stop()[0] == 0


def test_a_reload_that_needs_a_restart_says_so_and_keeps_what_was(start: Start) -> None:
    daemon = start()
    daemon.tells("READY=1")
    former, daemon.socket = daemon.socket, str(daemon.directory / "other.sock")
    daemon.configure()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.logged("a change needs a restart key=control.socket")
    assert ask(former, "status")["libvirt"]
    with pytest.raises(NoAnswer):
        ask(daemon.socket, "status")


def test_a_reload_moves_the_metrics_to_another_port(start: Start) -> None:
    daemon = start()
    daemon.scrapes("balloond_ticks_total")
    daemon.port = free_port()
    daemon.configure()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.logged(f"port={daemon.port}")
    daemon.scrapes("balloond_ticks_total")


def test_started_without_standard_error_it_logs_into_no_other_file(tmp_path: Path) -> None:
    config = tmp_path / "balloond.yaml"
    paths = f"control: {{socket: {tmp_path}/sock}}\nstate: {{directory: {tmp_path}/state}}\n"
    config.write_text(f'libvirt: {{uri: "{NO_LIBVIRT}"}}\nmetrics: {{listen: off}}\n{paths}')
    command = f'exec "{sys.executable}" -m balloond.daemon --config "{config}" 2>&-'
    with subprocess.Popen(["bash", "-c", command]) as daemon:
        ends_s = time.monotonic() + PATIENCE_S
        while not (tmp_path / "sock").exists() and time.monotonic() < ends_s:
            time.sleep(0.05)
        time.sleep(1)
        daemon.terminate()
    assert (tmp_path / "sock.lock").read_text() == ""


def test_any_free_port_is_taken_for_port_0_and_told(start: Start) -> None:
    daemon = start(port=0)
    daemon.logged("metrics are served")
    found = re.search(r"metrics are served host=127.0.0.1 port=([1-9][0-9]*)", daemon.log.read_text())
    assert found is not None
    daemon.port = int(found[1])
    daemon.scrapes("balloond_ticks_total")


def test_a_port_in_use_is_told_of_and_tried_again_while_guests_are_looked_after(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        before = "import balloond.daemon\nballoond.daemon.METRICS_RETRY_S = 0.5"
        daemon = start(before=before, port=other.getsockname()[1])
        daemon.tells("READY=1")
        daemon.logged("METRICS ARE NOT SERVED")
        assert ask(daemon.socket, "status")["libvirt"]
    daemon.scrapes("balloond_ticks_total")


def test_a_second_daemon_is_refused_with_words_and_the_first_goes_on(start: Start) -> None:
    daemon = start()
    daemon.tells("READY=1")
    second = subprocess.run(
        [sys.executable, "-m", "balloond.daemon", "--config", str(daemon.config)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert second.returncode == 1
    assert "another balloond" in second.stderr and "Traceback" not in second.stderr
    assert ask(daemon.socket, "status")["libvirt"]


def test_after_a_kill_the_next_daemon_takes_over(start: Start, tmp_path: Path) -> None:
    daemon = start()
    daemon.tells("READY=1")
    daemon.stop(signal.SIGKILL)
    assert Path(daemon.socket).exists()
    daemon.close()
    (tmp_path / "notify").unlink()
    daemon = start()
    daemon.tells("READY=1")
    assert ask(daemon.socket, "status")["libvirt"]


BUG = """
import balloond.loop
sane = balloond.loop.decide
def decide(config, previous, snapshot):
    if previous is not None and previous.number == 2:
        raise ZeroDivisionError("an invariant is broken")
    return sane(config, previous, snapshot)
balloond.loop.decide = decide
"""


def test_a_bug_of_our_own_is_reported_with_the_tick_and_ends_the_daemon(start: Start) -> None:
    daemon = start(before=BUG)
    assert daemon.process.wait(PATIENCE_S) == 70
    text = daemon.log.read_text()
    assert "a bug of balloond" in text and "an invariant is broken" in text
    assert all(line.split()[0] in ("INFO", "WARNING", "ERROR") for line in text.splitlines())
    tick, seen = (daemon.directory / "state/broken-tick.jsonl").read_text().splitlines()
    assert json.loads(tick)["number"] == 2
    assert json.loads(seen)["guests"][0]["name"] == "test"


SLOW_END = """
import time
import balloond.daemon, balloond.host.guests
balloond.daemon.STOP_S = 1.5
balloond.host.guests.Guests.restore_periods = lambda self, deadline_s: time.sleep(60)
"""


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    daemon = start(before=SLOW_END.replace("1.5", "60"))
    daemon.tells("READY=1")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.logged("stopping")
    time.sleep(0.5)
    exit_status, took_s = daemon.stop(signal.SIGINT)
    assert exit_status == 1 and took_s < 1


def test_an_end_that_hangs_is_cut_short(start: Start) -> None:
    daemon = start(before=SLOW_END)
    daemon.tells("READY=1")
    exit_status, took_s = daemon.stop()
    assert exit_status == 1 and took_s < 3


HUNG_TURN = """
import pathlib, time
import balloond.daemon
from balloond.host.world import RealWorld
balloond.daemon.STOP_S = {stop_s}
sane = RealWorld.observe
def observe(self, turns=[]):
    turns.append(self)
    if len(turns) > 2:
        print("it hangs", file=__import__("sys").stderr, flush=True)
        time.sleep(60)
    return sane(self)
RealWorld.observe = observe
def put_back(self):
    with pathlib.Path({marker!r}).open("a") as file:
        file.write("put back\\n")
    time.sleep({takes_s})
    return ("the rest of it",)
RealWorld.put_back = put_back
"""
"""A turn that never ends: the stop has to do without `_leave`."""


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_while_a_turn_hangs_puts_back_what_was_set_at_the_host(
    start: Start, tmp_path: Path, signals: int
) -> None:
    marker = tmp_path / "marker"
    stop_s = 1.0 if signals == 1 else 60.0
    daemon = start(before=HUNG_TURN.format(stop_s=stop_s, marker=str(marker), takes_s=0))
    daemon.logged("it hangs")
    if signals == 2:
        daemon.process.send_signal(signal.SIGTERM)
        daemon.logged("stopping signal")
    exit_status, took_s = daemon.stop()
    assert exit_status == 1 and took_s < 2
    assert marker.read_text() == "put back\n"
    assert 'not put back what="the rest of it"' in daemon.log.read_text()


def test_putting_back_that_hangs_too_is_cut_short_and_by_a_third_signal_at_once(
    start: Start, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    before = HUNG_TURN.format(stop_s=60.0, marker=str(marker), takes_s=60)
    marker.touch()
    for third in (False, True):
        begun = marker.read_text() + "put back\n"
        (tmp_path / "notify").unlink(missing_ok=True)
        daemon = start(before=before + f"balloond.daemon.HURRIED_S = {30 if third else 0.5}\n")
        daemon.logged("it hangs")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.logged("stopping signal")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.logged("stopping at once")
        daemon.until(lambda: marker.read_text() == begun, "it to begin")  # noqa: B023  (called at once)
        exit_status, took_s = daemon.stop() if third else (daemon.process.wait(5), 0.0)
        assert exit_status == 1 and took_s < 1
        daemon.close()
    assert marker.read_text() == "put back\n" * 2


def test_a_broken_configuration_is_told_with_every_fault_and_ends_with_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text("mode: asleep\nhost:\n  reserve: 12\nfoo: 1\n")
    assert main(["--config", str(config)]) == 2
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 3 and all(line.startswith(f"ERROR {config}:") for line in told)
    assert main(["--config", str(tmp_path / "missing.yaml")]) == 2


def test_with_a_broken_configuration_what_a_dead_daemon_left_is_put_back_but_not_what_a_living_one_set(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Config(state_directory=str(tmp_path), control_socket=str(tmp_path / "control.sock"))
    monkeypatch.setattr(daemons, "Config", lambda: usual)
    config, noted = tmp_path / "balloond.yaml", tmp_path / "limits.json"
    config.write_text("mode: asleep\n")
    gone = {"file": "/sys/fs/cgroup/balloond-none/memory.high", "was": "max", "puts": ["4096"]}
    notes.keep(noted, {"uuid-web": gone})
    living = ControlServer(usual.control_socket, {})
    assert main(["--config", str(config)]) == 2
    living.close()
    assert noted.exists() and "is left" in capfd.readouterr().err
    assert main(["--config", str(config)]) == 2
    assert not noted.exists() and "is put back" in capfd.readouterr().err


def test_a_directory_that_can_not_be_made_is_told_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "balloond.yaml"
    (tmp_path / "file").write_text("")
    config.write_text(f"state: {{directory: {tmp_path / 'file' / 'state'}}}\n")
    assert main(["--config", str(config)]) == 1
    assert "can't start" in capfd.readouterr().err


def test_a_usual_file_that_may_not_be_looked_at_is_told_in_words_and_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)  # as for a user who may not enter /etc/balloond
    assert main([]) == 2
    assert "/etc/balloond/balloond.yaml:1: (file): can't be read: Permission denied" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words", ["SIGHUP", "SIGTERM", "exit status", "70", "/etc/balloond/balloond.yaml", "--debug"]
)
def test_the_help_says_what_one_needs_to_know(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert words in capsys.readouterr().out


# --- a farewell, with a world of paper -------------------------------------------------------------------


ROOMY = replace(sealed.HOST, total=64 * GIB, available=50 * GIB)


class Paper:
    """A world, and the guests' edge, that a test can look into."""

    def __init__(self, *guests: Guest, slow_s: float = 0.0) -> None:
        self.guests, self.slow_s = guests, slow_s
        self.done: list[SetTarget] = []
        self.restored = self.closed = self.taken_up = False
        self.put_back_after: list[int] = []  # how many targets had been set each time
        self.pressure_file: str | None = None

    def observe(self) -> Snapshot:
        return Snapshot(monotonic_s=time.monotonic(), wall_s=time.time(), host=ROOMY, guests=self.guests)

    def apply(self, actions: Sequence[SetTarget]) -> tuple[Outcome, ...]:
        time.sleep(self.slow_s)
        self.done.extend(actions)
        return tuple(Outcome(action=action, result=Result.DONE) for action in actions)

    def take(self, measures: Sequence[Measure]) -> tuple[Measured, ...]:
        return ()

    def take_up(self) -> tuple[str, ...]:
        self.taken_up = not self.done
        return ()

    def put_back(self) -> tuple[str, ...]:
        self.put_back_after.append(len(self.done))
        return ("something",)

    def fileno(self) -> int:
        return -1

    def drain_events(self) -> None:
        return

    def restore_periods(self, deadline_s: float) -> None:
        self.restored = True

    def close(self) -> None:
        self.closed = True


def squeezed(number: int) -> Guest:
    """A guest whose balloon has taken half, while the host has room; its statistics are never believed, so that
    nothing is done to it but at the end."""
    statistics = Statistics(last_update_s=0)
    return sealed.guest(
        f"{number:08d}" + sealed.UUID[8:], f"vm-{number}", actual=2 * GIB, statistics=statistics
    )


def live(paper: Paper, config: Config, for_s: float | None = 0.5, reloads: Path | None = None) -> int:
    """One life of a daemon over `paper`, ended by SIGTERM after `for_s`, or by itself. Half way it reloads
    its file, where there is one."""
    metrics = Metrics(config.mode)
    log = Log(descriptor=os.open(os.devnull, os.O_WRONLY))
    daemon = Daemon(
        settings=Settings(reloads or Path("/nowhere"), config, log),
        world=paper,
        guests=paper,
        metrics=metrics,
        history=History(),
        notifier=Notifier(None),
        log=log,
    )
    if for_s is not None:
        threading.Timer(for_s, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    if for_s is not None and reloads is not None:
        threading.Timer(for_s / 2, lambda: os.kill(os.getpid(), signal.SIGHUP)).start()
    try:
        return daemon.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        daemon.close()
        os.close(vars(log)["_descriptor"])


QUIET = Config(metrics=None, interval_s=0.2)


def test_at_the_end_guests_get_what_is_free_and_periods_are_put_back() -> None:
    paper = Paper(squeezed(1))
    assert live(paper, QUIET) == 0
    assert paper.taken_up and paper.restored and paper.closed
    assert paper.put_back_after == [len(paper.done) - 1]  # limits go before anybody grows
    assert [(action.reason, action.target > 2 * GIB) for action in paper.done[-1:]] == [
        (Reason.FAREWELL, True)
    ]


class Broken(Paper):
    """With bugs in what is named."""

    def __init__(self, *where: str) -> None:
        super().__init__()
        self.where = where

    def observe(self) -> Snapshot:
        self.fail("observe")
        return super().observe()

    def take_up(self) -> tuple[str, ...]:
        self.fail("take_up")
        return super().take_up()

    def put_back(self) -> tuple[str, ...]:
        put_back = super().put_back()
        self.fail("put_back")
        return put_back

    def restore_periods(self, deadline_s: float) -> None:
        self.fail("restore_periods")

    def fail(self, where: str) -> None:
        if where in self.where:
            raise ZeroDivisionError(where)


@pytest.mark.parametrize("where", [("observe",), ("take_up",), ("observe", "put_back")])
def test_after_a_bug_the_hosts_settings_are_put_back_and_it_ends_with_70_whatever_else_fails(
    tmp_path: Path, where: tuple[str, ...]
) -> None:
    paper = Broken(*where)
    assert live(paper, replace(QUIET, state_directory=str(tmp_path)), for_s=None) == 70
    assert paper.put_back_after == [0]
    assert paper.done == [] and paper.closed


@pytest.mark.parametrize("where", ["put_back", "restore_periods"])
def test_a_bug_in_the_farewell_ends_with_70_too_and_is_kept_for_the_report(
    tmp_path: Path, where: str
) -> None:
    paper = Broken(where)
    assert live(paper, replace(QUIET, state_directory=str(tmp_path))) == 70
    assert paper.put_back_after == [0, 0] and paper.closed
    assert (tmp_path / "broken-tick.jsonl").exists()


def test_after_a_bug_that_can_not_be_reported_the_hosts_settings_are_put_back_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Daemon, "_report_bug", fail)
    paper = Broken("observe")
    assert live(paper, replace(QUIET, state_directory=str(tmp_path)), for_s=None) == 70
    assert paper.put_back_after == [0]


def test_in_mode_observe_no_guest_is_touched_even_at_the_end() -> None:
    paper = Paper(squeezed(1))
    assert live(paper, Config(metrics=None, interval_s=0.2, mode=Mode.OBSERVE)) == 0
    assert paper.done == []
    assert paper.restored  # an earlier run may have set periods


@pytest.mark.parametrize(("mode", "times"), [("observe", 2), ("active", 1)])
def test_a_reload_to_mode_observe_puts_back_what_was_set_at_the_host(
    tmp_path: Path, mode: str, times: int
) -> None:
    paper, file = Paper(squeezed(1)), tmp_path / "balloond.yaml"
    file.write_text(f'mode: {mode}\ninterval: 500ms\nmetrics: {{listen: "off"}}\n')
    assert live(paper, QUIET, for_s=1.0, reloads=file) == 0
    assert len(paper.put_back_after) == times  # the last is the stop's


def test_a_farewell_to_many_slow_guests_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balloond.daemon.FAREWELL_S", 0.5)
    paper = Paper(*(squeezed(number) for number in range(1, 4)), slow_s=0.3)
    began_s = time.monotonic()
    assert live(paper, QUIET) == 0
    farewells = [action for action in paper.done if action.reason is Reason.FAREWELL]
    assert len(farewells) == 2
    assert time.monotonic() - began_s < 3
    assert paper.restored


def test_the_line_for_systemd_says_how_it_stands() -> None:
    assert in_short(sealed.tick(sealed.guest())) == "1 guests; the host is green, 4 GiB can be granted"
    assert "libvirt does not answer" in in_short(sealed.tick(listed=False))
    assert "can't be read" in in_short(sealed.tick(accounts=None))


# --- may a guest start? ----------------------------------------------------------------------------------


def asked(history: History, **request: object) -> dict[str, object]:
    settings = Settings(Path("/nowhere"), Config(), Log())
    answer = answer_admission(settings, history, {"ask": "admit", **request})
    assert isinstance(answer, dict)
    return answer


def seen(ago_s: float) -> History:
    history, tick = History(), sealed.tick()
    history.publish(replace(tick, snapshot=replace(tick.snapshot, monotonic_s=time.monotonic() - ago_s)))
    return history


def test_admission_is_answered_from_the_last_tick() -> None:
    assert asked(seen(1.0), size=GIB)["admitted"] is True
    assert asked(seen(1.0), size=64 * GIB)["admitted"] is False
    assert "from 96 MiB" in str(asked(seen(1.0), size="1GiB")["error"])


def test_nobody_is_told_yes_before_the_first_tick_or_on_an_old_one() -> None:
    assert "just started" in str(asked(History(), size=GIB)["error"])
    assert "last looked at 60 s ago" in str(asked(seen(60.0), size=GIB)["error"])


def test_in_a_hurry_turns_come_four_times_as_often_but_take_half_of_the_time_at_most() -> None:
    assert loop.pause_s(2.0, 0.1, hurry=False) == 2.0
    assert loop.pause_s(2.0, 0.1, hurry=True) == 0.5
    assert loop.pause_s(2.0, 0.6, hurry=True) == 1.2
    assert loop.pause_s(2.0, 3.0, hurry=True) == 2.0
