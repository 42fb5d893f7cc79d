"""How is the kernel's same-page merging set, and how is it set back?

What was found is on disk before the first write, so that it can be put back by whoever runs after a kill. What was
set is read back: what the kernel made of it is what counts as ours, and anything else is somebody else's doing.
Nothing is decided here. `run` alone is written by a process of its own: the kernel keeps its writer waiting while
ksmd is in the midst of a step, or while somebody unmerges, which lasts as long as it lasts; and its OOM killer
takes whoever unmerges first. It stops unmerging when its writer is ended, which it is if the daemon is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

from balloond.host import notes
from balloond.host.files import Root
from balloond.host.kernel import KSM, read_ksm_settings
from balloond.model import Ksm, KsmSettings, Result
from balloond.policy.merging import ADVISOR, back, strange

NAME: Final = "merging.json"
NO_ADVISOR: Final = "none"

RUN: Final = ("/bin/echo",)
RUN_MOST_S: Final = 0.5
"""For a write to `run`, and for the end of the one before. The longest step of ksmd takes 0.4 s: 30,000 pages,
each merged in 14 us."""

LEASH: Final = """
import _thread, os
def end():
    os.read(0, 1)
    os._exit(1)
_thread.start_new_thread(end, ())
"""
"""What a program of Python's begins with that ends with the daemon, however that ends: its standard input is a
pipe from there, and a thread waits for that to close. It calls nothing that the service's sandbox refuses, unlike
setpriv(1), which calls capset(2) whatever it is asked for."""

UNMERGE: Final = r"os.write(1, b'2\n')"
"""On the leash: soon there may be no room for what is still merged, and no other daemon could stop it, as the
kernel lets nobody else write meanwhile."""

FILES: Final = {
    "run": "run",
    "pages_to_scan": "pages_to_scan",
    "sleep_ms": "sleep_millisecs",
    "advisor": "advisor_mode",
    "advisor_target_s": "advisor_target_scan_time",
    "advisor_max_cpu": "advisor_max_cpu",
    "advisor_min_pages": "advisor_min_pages_to_scan",
}


class Merging:
    """Same-page merging of one host, and the note of what was found."""

    def __init__(self, root: Root, directory: Path) -> None:
        self._root = root
        self._path = directory / NAME
        self._found, self._put, self.restored = _noted_at(self._path)
        if self._found is not None and self._put is None:  # killed in the midst: however it stands, it was us
            self._put = read_ksm_settings(root)
        self._writer: subprocess.Popen[bytes] | None = None  # of `run`, while it may yet be at it
        self._writing = 0  # what it writes
        self._failed = ""  # why the last unmerging ended before its time
        self._ksmd = _ksmd(root)

    @property
    def noted(self) -> bool:
        """Whether something was set that is to be put back."""
        return self._found is not None

    def wish(self, *, restored: bool) -> None:
        """Whether what was found is wanted back is noted with it, for who can't read the configuration."""
        if restored != self.restored:
            self.restored = restored
            if self._found is not None:
                with contextlib.suppress(OSError):  # then the next note says it
                    self._note(self._found, self._put)

    def complete(self, ksm: Ksm | None) -> Ksm | None:
        """What was read, with ksmd's CPU time, and with what is known of how its settings came to be so."""
        put = self._put
        if self._writer is not None and (status := self._writer.poll()) is not None:
            self._failed = _failure(status) if self._writing == 2 else ""
            self._let_go(self._writer)
        if self._writer is not None and put is not None and ksm is not None and put.run != 2:
            put = replace(put, run=ksm.settings.run)  # it may be so already, or not yet
        return ksm and replace(ksm, cpu_s=self._cpu_s(), found=self._found, put=put, failed=self._failed)

    def set(self, to: KsmSettings) -> tuple[Result, str]:
        """Sets what `to` names, in the order that the kernel takes; says what came of it."""
        before = read_ksm_settings(self._root)
        theirs = strange(self._put, before)
        taken = {name: getattr(before, name) for name in theirs if getattr(to, name) is not None}
        left = {name: getattr(self._put, name) for name in theirs if name not in taken}
        found = replace(self._found or before, **taken)  # what others set since is what was found
        refusal = ""
        try:
            self._note(found, None)
            for name, value in _steps(to, before):
                self._write(name, value)
        except OSError as error:
            refusal = f"{error.filename}: {error.strerror}"
        put = read_ksm_settings(self._root)
        put = replace(put, **left)  # and what is left to them is still not ours
        if to.run is not None and self._writer is not None:  # it does that about now
            put = replace(put, run=self._writing)
        try:
            if put == found:
                self.forget()
            else:
                self._note(found, put)
        except OSError as error:
            refusal = refusal or f"{error.filename}: {error.strerror}"
        return (Result.REFUSED, refusal) if refusal else (Result.DONE, "")

    def put_back(self, ksm: Ksm) -> tuple[Result, str]:
        """Sets back what is still as it was left here, and forgets it."""
        if self._put is None:  # that could not be noted: however it stands, it was us
            self._put = read_ksm_settings(self._root)
        to = back(replace(ksm, found=self._found, put=self._put))
        result = self.set(to) if to else (Result.DONE, "")
        if result[0] is Result.DONE:
            self.forget()
        return result

    def forget(self) -> None:
        """From now on things count as they are."""
        with contextlib.suppress(OSError):  # a note too many is put back once more
            notes.drop(self._path)
        self._found = self._put = None

    def abort(self) -> None:
        """Ends unmerging, or another write that still waits, unless the kernel does not let go of it in time."""
        if self._writer is None:
            return
        self._writer.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._writer.wait(RUN_MOST_S)
            self._let_go(self._writer)

    def _note(self, found: KsmSettings, put: KsmSettings | None) -> None:
        note = {"found": asdict(found), "put": put and asdict(put), "restored": self.restored}
        notes.keep(self._path, note)
        self._found, self._put = found, put

    def _write(self, name: str, value: int | str) -> None:
        path = self._root.real(f"{KSM}/{FILES[name]}")
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            if name == "run":
                self._write_run(descriptor, int(value), path)
            else:
                os.write(descriptor, f"{value}\n".encode())
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}, for {value}", path) from None
        finally:
            os.close(descriptor)

    def _write_run(self, descriptor: int, value: int, path: str) -> None:
        """Begins to unmerge, or has written `value` within bounded time. Raises OSError otherwise."""
        self.abort()
        if self._writer is not None:
            raise OSError(errno.EBUSY, "the write before it is still waited for", path)
        self._failed = ""
        try:
            writer = unmerger(descriptor) if value == 2 else _writer(descriptor, value)
        except OSError as failed:
            why = f"its writer can't be run: {failed.strerror}"
            self._failed = why if value == 2 else ""
            raise OSError(failed.errno, why, path) from None
        self._writer, self._writing = writer, value
        if value == 2:
            return
        try:
            status = writer.wait(RUN_MOST_S)
        except subprocess.TimeoutExpired:
            raise OSError(errno.EBUSY, "it is still waited for", path) from None
        self._let_go(writer)
        if status != 0:
            raise OSError(errno.EIO, "the kernel refused", path)

    def _let_go(self, ended: subprocess.Popen[bytes]) -> None:
        if ended.stdin is not None:
            ended.stdin.close()
        self._writer = None

    def _cpu_s(self) -> float | None:
        """ksmd's, since boot: in nanoseconds where the kernel counts so (Documentation/scheduler/sched-stats.rst).
        Else in hundredths of a second, its stat's 14th and 15th field, proc(5): a small share can't be measured
        with that, and ksmd then goes slower than it might."""
        exact = self._ksmd and self._root.text(f"{self._ksmd}/schedstat")
        if exact:
            return int(exact.split()[0]) / 1e9
        text = self._ksmd and self._root.text(f"{self._ksmd}/stat")
        times = text.rpartition(")")[2].split()[11:13] if text else []
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK") if len(times) == 2 else None


def unmerger(run: int) -> subprocess.Popen[bytes]:
    """A process that writes 2 into the open file `run`, and ends with this one. Raises OSError when there can't
    be any."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LEASH + UNMERGE],
        stdin=subprocess.PIPE, stdout=run, stderr=subprocess.DEVNULL, bufsize=0,
    )  # fmt: skip


def _writer(run: int, value: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*RUN, str(value)], stdin=subprocess.DEVNULL, stdout=run, stderr=subprocess.DEVNULL
    )


def _failure(status: int) -> str:
    """Why unmerging ended with `status`, unless it was done, or was ended here."""
    if status == -signal.SIGKILL:
        return "its writer was killed, as the kernel does where memory runs out"
    return "the kernel refused" if status > 0 else ""


def _ksmd(root: Root) -> str | None:
    """The directory of the kernel's thread, which lives as long as the kernel; None: not to be seen from here."""
    processes = Path(root.real("/proc")).glob("[0-9]*")
    pids = sorted(int(path.name) for path in processes if path.name.isdecimal())  # it is among the first
    return next((f"/proc/{pid}" for pid in pids if root.text(f"/proc/{pid}/comm") == "ksmd\n"), None)


def _steps(to: KsmSettings, now: KsmSettings) -> Iterator[tuple[str, int | str]]:
    """Each write in its order. Stopping comes first and starting last. While an advisor is on, `pages_to_scan`
    can't be written (EINVAL); it begins with its least, and only when it is turned on."""
    if to.run is not None and to.run != 1:
        yield "run", to.run
    for name in ("sleep_ms", "advisor_target_s", "advisor_max_cpu", "advisor_min_pages"):
        if getattr(to, name) is not None and getattr(now, name) is not None:
            yield name, getattr(to, name)
    advisor = to.advisor or now.advisor
    begins = to.pages_to_scan
    if advisor == ADVISOR and (begins is not None or to.advisor is not None):
        yield "advisor", NO_ADVISOR
        least = to.advisor_min_pages or now.advisor_min_pages
        if begins is not None and least is not None:
            yield "advisor_min_pages", begins
            yield "advisor", ADVISOR
            yield "advisor_min_pages", least
        else:
            yield "advisor", ADVISOR
    else:
        if to.advisor is not None and now.advisor is not None:
            yield "advisor", to.advisor
        if begins is not None:
            yield "pages_to_scan", begins
    if to.run == 1:
        yield "run", 1


def _noted_at(path: Path) -> tuple[KsmSettings | None, KsmSettings | None, bool]:
    """What was found, how it was left, and whether it is to be put back, as noted; a broken note is none, and
    nothing is put back. What it was left at is None while it is being changed."""
    noted = notes.kept(path)
    if not isinstance(noted, dict):
        return None, None, True
    found, put = _settings_in(noted.get("found")), _settings_in(noted.get("put"))
    return (found, put, noted.get("restored") is not False) if found else (None, None, True)


def _settings_in(noted: Any) -> KsmSettings | None:  # Any: as it was on disk
    kinds = {each.name: str if each.name == "advisor" else int for each in fields(KsmSettings)}
    if not isinstance(noted, dict) or noted.keys() - kinds.keys():
        return None
    sound = all(value is None or type(value) is kinds[name] for name, value in noted.items())
    return KsmSettings(**noted) if sound else None
