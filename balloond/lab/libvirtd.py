"""Does libvirt answer? If not, it is started, and stopped again when the last lab that uses it ends.

A libvirtd that was running before is only ever used. One that the lab started can also be killed and started
again, for tests of what happens then. Users are counted by shared locks on a file, which the kernel takes back
from whoever dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final, TextIO

import libvirt

from balloond.lab.faults import LabError
from balloond.lab.leavings import ROOT, identity, lives

URI: Final = "qemu:///system"
PROGRAMS: Final = ("virtlogd", "libvirtd")  # in this order: libvirtd needs the other for guests' consoles
NOTE: Final = ROOT / "libvirtd"  # the processes that the lab started
USERS: Final = ROOT / "libvirtd.users"  # locked, shared, by every lab that uses libvirt
TURN: Final = ROOT / "libvirtd.turn"  # locked by whoever starts or stops it
START_S: Final = 30.0


class Libvirtd:
    """The connection to libvirt, opened again where it broke, and libvirtd's life where that is the lab's."""

    def __init__(self) -> None:
        libvirt.registerErrorHandler(
            lambda _context, _error: None, None
        )  # errors are raised, not printed too
        ROOT.mkdir(parents=True, exist_ok=True)
        self._connection: Any = None
        self._use: TextIO = USERS.open("w")
        with TURN.open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(self._use, fcntl.LOCK_SH)
            if not _answers():
                self.start()

    @property
    def connection(self) -> Any:
        """An open libvirt connection (libvirt-python has no types)."""
        if self._connection is None or not _alive(self._connection):
            self._connection = libvirt.open(URI)
        return self._connection

    @property
    def is_ours(self) -> bool:
        """Whether the libvirtd that runs was started by a lab."""
        return any(lives(process) for process in _noted())

    def start(self) -> None:
        """Starts libvirt and waits until it answers. Raises LabError if it never does."""
        if Path("/run/systemd/system").is_dir():
            subprocess.run(["systemctl", "start", "libvirtd"], capture_output=True, check=False)
        else:
            Path("/run/libvirt").mkdir(exist_ok=True)
            for program in PROGRAMS:
                subprocess.run([program, "--daemon"], capture_output=True, check=False)
            pids = [Path(f"/run/{program}.pid") for program in PROGRAMS]
            NOTE.write_text("".join(f"{identity(int(pid.read_text()))}\n" for pid in pids if pid.exists()))
        deadline = time.monotonic() + START_S
        while not _answers():
            if time.monotonic() > deadline:
                raise LabError(
                    "libvirtd does not answer on qemu:///system; is libvirt-daemon-system installed?"
                )
            time.sleep(0.2)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends the lab's own libvirtd; its guests live on. Raises LabError if it is not the lab's."""
        if not self.is_ours:
            raise LabError("this libvirtd was not started by the lab, so it is left alone")
        process = _noted()[PROGRAMS.index("libvirtd")]
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.split()[0]), how)
        while lives(process):
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the use; the last user stops what the labs started."""
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
        self._use.close()
        stop_unused()


def stop_unused() -> None:
    """Stops the libvirtd that a lab started, unless a lab or a guest still uses it."""
    if not any(map(lives, _noted())):
        return
    with TURN.open("w") as turn, USERS.open("w") as users:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if _answers() and _guests():
            return
        for process in reversed(_noted()):
            if lives(process):
                os.kill(int(process.split()[0]), signal.SIGTERM)
        NOTE.unlink()


def _noted() -> list[str]:
    return NOTE.read_text().splitlines() if NOTE.exists() else []


def _answers() -> bool:
    try:
        libvirt.open(URI).close()
    except libvirt.libvirtError:
        return False
    return True


def _guests() -> int:
    connection = libvirt.open(URI)
    try:
        return int(connection.numOfDomains())
    finally:
        connection.close()


def _alive(connection: Any) -> bool:
    """Asked by a round trip: isAlive() goes on saying yes until somebody has read from the socket."""
    try:
        connection.getLibVersion()
    except libvirt.libvirtError:
        return False
    return True
