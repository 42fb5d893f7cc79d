"""What do systemd, the journal and the daemon itself say of the service?"""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from balloond import control
from balloond.config.settings import Config

NAME: Final = "balloond.service"
CONFIGURATION: Final = Path("/etc/balloond/balloond.yaml")
METRICS_PORT: Final = 9710
COMMAND_S: Final = 120.0  # systemctl waits for the service: its own limits are far below


class CommandFailed(Exception):  # noqa: N818  (that is what it did)
    """A command that had to work; the text holds what it said."""


def run(*command: str) -> str:
    """The command's standard output. Raises CommandFailed with all that it said."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout


def systemctl(*words: str) -> str:
    return run("systemctl", "--no-pager", *words)


def show(prop: str, unit: str = NAME) -> str:
    """One property of a unit, as `systemctl show` prints it."""
    return systemctl("show", "--value", "--property", prop, unit).strip()


def seconds(prop: str, unit: str = NAME) -> float:
    """One of the unit's monotonic time stamps, in seconds since boot."""
    return int(show(prop, unit)) / 1e6


def main_pid() -> int:
    return int(show("MainPID"))


def active() -> bool:
    return show("ActiveState") == "active"


def journal(*options: str) -> list[dict[str, Any]]:
    """The service's own entries of this boot, oldest first; systemd's about it are left out."""
    own = run("journalctl", "--boot", "--output", "json", f"_SYSTEMD_UNIT={NAME}", *options)
    return [json.loads(line) for line in own.splitlines()]


def messages() -> list[str]:
    return [str(entry["MESSAGE"]) for entry in journal()]


def status() -> Any:
    """What balloonctl would be told; None: the daemon does not answer."""
    try:
        return control.ask(Config().control_socket, "status")
    except control.NoAnswer:
        return None


def metric(name: str, **labels: str) -> float:
    """The sum of the samples of that name with these labels; 0 where there is none, or nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except (OSError, urllib.error.URLError):
        return 0.0
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
