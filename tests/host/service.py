"""What do systemd, the journal and the daemon itself say of the service?"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from balloond import control
from balloond.config.settings import Config
from balloond.lab.patience import until

NAME: Final = "balloond.service"
CONFIGURATION: Final = Path("/etc/balloond/balloond.yaml")
METRICS_PORT: Final = 9710
COMMAND_S: Final = 120.0  # systemctl waits for the service: its own limits are far below
STORY_LINES: Final = 20  # of the journal: two or three turns of a loop of restarts


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
    """Its standard output. Raises CommandFailed, for a unit of ours with the unit's story."""
    try:
        return run("systemctl", "--no-pager", *words)
    except CommandFailed as failed:
        unit = words[-1]
        raise CommandFailed(f"{failed}\n{story(unit)}" if unit.startswith("balloond") else failed) from None


def story(unit: str = NAME) -> str:
    """Why it does not run, for a person: what systemd shows of it, and the journal's last lines about it."""
    shown = subprocess.run(  # its exit status says only what the text says better
        ("systemctl", "status", "--no-pager", "--full", "--lines=0", unit),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    told = run("journalctl", "--boot", "--output", "cat", "--lines", str(STORY_LINES), "--unit", unit)
    return f"{shown.stdout}{shown.stderr}its journal ends:\n{told}"


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


@contextlib.contextmanager
def configured(text: str) -> Iterator[None]:
    """The service with that configuration, and with its own again afterwards."""
    before = CONFIGURATION.read_text()
    CONFIGURATION.write_text(text)
    try:
        reloads = metric("balloond_config_reloads_total", result="ok")
        systemctl("reload", NAME)
        until(
            lambda: metric("balloond_config_reloads_total", result="ok") > reloads,
            "the service to read its configuration",
        )
        yield
    finally:
        CONFIGURATION.write_text(before)
        with contextlib.suppress(CommandFailed):  # the checks have said why, if it does not run
            systemctl("reload-or-restart", NAME)


def stop() -> float:
    """Stops the service, and returns how many seconds that took."""
    began_s = time.monotonic()
    systemctl("stop", NAME)
    return time.monotonic() - began_s


def open_files() -> list[str]:
    """What the daemon has open, by path; a path in its own view of the file system."""
    return [str(link.readlink()) for link in Path(f"/proc/{main_pid()}/fd").iterdir()]


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
    except (OSError, http.client.HTTPException):  # an urllib.error.URLError is an OSError
        return 0.0
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
