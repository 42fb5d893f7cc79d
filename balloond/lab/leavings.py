"""What did a run make, and how does it all go away again?

Every run has a directory, which says who owns it, and a name, which all of its guests, cgroups and files bear.
`clear` needs nothing but that name, so a run can be cleared by its owner, by its reaper after the owner was
killed, or by the next run's `sweep`. It never goes by anything else: what bears no run's name is not ours.
This module needs neither libvirt nor a configuration file, so that it works when all else is broken.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from balloond.host.files import Root
from balloond.host.kernel import read_ksm
from balloond.host.ksm import Merging
from balloond.lab import pool
from balloond.model import Result

ROOT: Final = Path("/var/lib/balloond-lab")
"""Everything that the lab keeps. Under /var/lib, where only root can have put it and QEMU's user may pass."""
RUNS: Final = ROOT / "runs"
LIBVIRT_LOGS: Final = Path("/var/log/libvirt/qemu")
LIBVIRT_STATE: Final = Path("/run/libvirt/qemu")
LIBVIRT_DATA: Final = Path("/var/lib/libvirt/qemu")
PATIENCE_S: Final = 10.0  # a daemon told to stop first leaves its guests safe; then it is ended


def begin() -> Path:
    """A new run's directory, with this process noted as its owner. Its last component is the run's name."""
    home = RUNS / secrets.token_hex(3)
    home.mkdir(parents=True)
    (home / "owner").write_text(identity(os.getpid()))
    return home


def guest_prefix(run: str) -> str:
    """What the names of the run's guests begin with."""
    return f"balloond-lab-{run}-"


def note_process(home: Path, pid: int) -> None:
    """Has the process ended when the run is cleared."""
    with (home / "processes").open("a") as file:
        file.write(f"{identity(pid)}\n")


def identity(pid: int) -> str:
    """The process id and its start time, in ticks since boot: together they are never given twice."""
    return f"{pid} {_stat(pid)[19]}"


def lives(noted: str) -> bool:
    """Whether the very process that was noted still runs. A zombie does not: it has given up all it had."""
    try:
        pid = int(noted.split(maxsplit=1)[0])
        return identity(pid) == noted.strip() and _stat(pid)[0] != "Z"
    except (OSError, IndexError):
        return False


def clear(home: Path) -> None:
    """Removes everything that the run made; safe to call again, and when only half of it was ever made."""
    if (home / "processes").exists():
        _end((home / "processes").read_text().splitlines())
    as_found = _put_merging_back(home / "state")
    pool.remove(home.name)
    for swap in home.glob("*.swap"):
        subprocess.run(["swapoff", str(swap)], capture_output=True, check=False)
    _clear_after_libvirt(guest_prefix(home.name))
    if as_found:  # else the note of it stays, for the next sweep
        shutil.rmtree(home, ignore_errors=True)


def sweep() -> list[str]:
    """Clears what dead runs left behind; returns their names."""
    dead = [home for home in sorted(RUNS.glob("*")) if not _owned(home)]
    for home in dead:
        clear(home)
    return [home.name for home in dead]


def forget() -> None:
    """Removes also what is kept for the next time: images, and what was found out about the machine."""
    if not any(RUNS.glob("*")):
        shutil.rmtree(ROOT, ignore_errors=True)


def _put_merging_back(state: Path) -> bool:
    """Whether merging, which is the whole machine's, is as the run's daemon found it; whatever that one wanted."""

    def put_back() -> bool:
        merging, now = Merging(Root(), state), read_ksm(Root())
        return now is None or not merging.noted or merging.put_back(now)[0] is Result.DONE

    return _wait(put_back)


def _clear_after_libvirt(prefix: str) -> None:
    """libvirt notices each guest's end, logs it and cleans up. Its logs stay, and all if it is not running."""
    own = f"**/domain-*-{prefix}*"  # sockets and secrets of each guest
    _wait(lambda: not any(LIBVIRT_STATE.glob(f"{prefix}*")) and not any(LIBVIRT_DATA.glob(own)))
    for folder in [*LIBVIRT_DATA.glob(own)]:
        shutil.rmtree(folder, ignore_errors=True)
    for log in LIBVIRT_LOGS.glob(f"{prefix}*.log*"):
        log.unlink(missing_ok=True)


def _stat(pid: int) -> list[str]:
    """What proc(5) lists from the state on: the name before it may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _owned(home: Path) -> bool:
    try:
        return lives((home / "owner").read_text())
    except FileNotFoundError:  # made this instant, or half removed
        with contextlib.suppress(FileNotFoundError):
            return time.time() - home.stat().st_mtime < PATIENCE_S
        return False


def _end(noted: list[str]) -> None:
    for process in filter(lives, noted):
        os.kill(int(process.split()[0]), signal.SIGTERM)
    _wait(lambda: not any(map(lives, noted)))
    for process in filter(lives, noted):
        os.kill(int(process.split()[0]), signal.SIGKILL)


def _wait(happened: Callable[[], bool]) -> bool:
    """Until it happened or patience ends; whether it happened."""
    deadline = time.monotonic() + PATIENCE_S
    while not (done := happened()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return done
