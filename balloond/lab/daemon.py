"""How is the real daemon run over an arena's guests? As a process of its own, by its command line alone.

It manages the run's guests and nothing else: every other guest of the machine is `manage: false`. All that is
known here of its configuration's form stands in `configuration`; what it does is read from its own metrics.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from balloond.lab import leavings
from balloond.lab.faults import LabError

READY_S: Final = 30.0  # one interval, and Python's start on two busy cores
STOP_S: Final = 30.0


def configuration(home: Path, port: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The daemon's configuration: the run's guests alone. `options` are top-level keys that replace ours."""
    return {
        "mode": "active",
        "interval": "1s",  # a lab's bursts last seconds, not minutes
        "host": {"reserve": "64MiB", "pool": "5%"},  # the pool holds nothing but guests
        "defaults": {"manage": False},
        "guests": [{"match": {"name": f"{leavings.guest_prefix(home.name)}*"}, "manage": True}],
        "metrics": {"listen": f"127.0.0.1:{port}"},
        "control": {"socket": str(home / "control.sock")},
        "state": {"directory": str(home / "state")},
        **options,
    }


WITHOUT_PSI: Final = (
    "mount -t tmpfs none /proc/pressure; "
    "test ! -d /sys/fs/cgroup/unified || mount -t tmpfs none /sys/fs/cgroup/unified; "
    'exec "$@"'
)
"""A view of this machine in which its kernel keeps no pressure; only where memory is on cgroup v1."""


class Daemon:
    """One running balloond."""

    def __init__(
        self, home: Path, options: Mapping[str, Any], *, psi: bool = True, record: bool = False
    ) -> None:
        """Starts it and waits until it has made its first turn. Raises LabError with the end of its log.
        `psi` False: it sees no pressure; `record`: it writes down its ticks."""
        self.control_socket = home / "control.sock"
        self.state = home / "state"
        self._journal = home / "ticks.jsonl"
        self._more = ("--journal", str(self._journal)) if record else ()
        self._before = () if psi else ("unshare", "--mount", "sh", "-c", WITHOUT_PSI, "sh")
        self.config = home / "balloond.yaml"
        self._home = home
        self._log = home / "balloond.log"
        self._port = _free_port()
        self._options = dict(options)
        self.configure()
        self.start()

    @property
    def log(self) -> str:
        """All that it wrote so far, over restarts too."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def configure(self, **options: Any) -> None:
        """Writes its file, with these top-level keys changed; `reload` or a restart puts it in force."""
        self._options |= options
        (self._home / "state").mkdir(exist_ok=True)
        # JSON is YAML too, and quotes everything.
        self.config.write_text(json.dumps(configuration(self._home, self._port, self._options), indent=2))

    @property
    def ticks(self) -> list[dict[str, Any]]:
        """Every tick that it wrote down so far, over restarts too; for one that records."""
        return [json.loads(line) for line in _whole_lines(self._journal.read_text())]

    def start(self) -> None:
        """Starts it, for the first time or again, and waits until it has made its first turn."""
        self.launch()
        deadline = time.monotonic() + READY_S
        while self.metric("balloond_ticks_total", missing=0.0) < 1:
            if not self.running or time.monotonic() > deadline:
                state = "is not ready" if self.running else f"ended with {self._process.returncode}"
                raise LabError(f"balloond {state}; its log ends: {self.log[-2000:]}")
            time.sleep(0.1)

    def launch(self) -> None:
        """Starts it, and waits for nothing."""
        command = [sys.executable, "-m", "balloond.daemon", "--config", str(self.config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._before, *command, *self._more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the lab, which then stops the daemon in good order
            )
        leavings.note_process(self._home, self._process.pid)

    def reload(self) -> None:
        os.kill(self._process.pid, signal.SIGHUP)

    def stop(self) -> int:
        """Tells it to stop and returns its exit status. Raises LabError if it does not."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise LabError(
                f"balloond did not stop within {STOP_S:.0f} s; its log: {self.log[-2000:]}"
            ) from error

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def metric(self, name: str, *, missing: float | None = None, **labels: str) -> float:
        """The sum of the samples of that name that bear these labels, as scraped now.

        Raises LabError where there is none, unless `missing` says what that means.
        """
        found = [value for own, value in self.samples(name) if labels.items() <= own.items()]
        if found:
            return sum(found)
        if missing is None:
            raise LabError(f"balloond has no metric {name} {labels or ''}")
        return missing

    def samples(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """All samples of that name with their labels; none where the daemon does not answer."""
        for family in text_string_to_metric_families(self.scrape()):
            for sample in family.samples:
                if sample.name == name:
                    yield sample.labels, sample.value

    def scrape(self) -> str:
        """What Prometheus would read now; empty where the daemon does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return ""


def _whole_lines(text: str) -> list[str]:
    """Without what is just being written."""
    return text.rpartition("\n")[0].splitlines()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
