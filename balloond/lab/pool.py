"""How large is the guests' world? A cgroup of the lab's own, with a limit, that libvirt puts the guests into.

The host's own /machine is never touched. On cgroup v1 and v2 without systemd libvirt wants a directory named
`NAME.partition` in every hierarchy that it uses (libvirt: cgroups.html, "Creating custom partitions"); with
systemd a partition is a slice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from balloond.lab.faults import LabError

CGROUPS: Final = Path("/sys/fs/cgroup")
REMOVAL_S: Final = 20.0  # killed QEMU processes give their memory back in well under a second each


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The memory that a run's guests share; all figures in bytes."""

    run: str
    limit: int

    @property
    def partition(self) -> str:
        """What a guest's `<resource><partition>` says."""
        return f"/balloondlab{self.run}" if _by_systemd() else f"/balloond-lab-{self.run}"

    @property
    def memory(self) -> Path:
        """The directory whose files speak of memory."""
        return next(path for path in _directories(self.run) if (path / _limit_file()).exists())

    def create(self) -> None:
        """Makes the cgroup and limits it. Raises LabError where this machine's cgroups do not allow it."""
        try:
            if _by_systemd():
                unit = f"balloondlab{self.run}.slice"
                _systemctl("set-property", "--runtime", unit, f"MemoryMax={self.limit}")
                _systemctl("start", unit)
            else:
                _make_partition(f"balloond-lab-{self.run}.partition")
            (self.memory / _limit_file()).write_text(str(self.limit))
        except (OSError, StopIteration) as error:
            raise LabError(f"no limited cgroup for the guests can be made here: {error!r}") from error

    def usage(self) -> int:
        return int((self.memory / ("memory.current" if _unified() else "memory.usage_in_bytes")).read_text())

    def limit_swap(self, size: int) -> None:
        """Lets the guests have so much of the machine's swap, whoever else has put some there."""
        if _unified():
            (self.memory / "memory.swap.max").write_text(str(size))
        else:  # memory and swap together
            (self.memory / "memory.memsw.limit_in_bytes").write_text(str(self.limit + size))

    def file_pages(self) -> int:
        """Of `usage` what are pages of files: QEMU's program, which is none of any guest's memory."""
        return _fields(self.memory / "memory.stat").get("file" if _unified() else "total_cache", 0)

    def swapped(self) -> int:
        """What the guests have in the host's swap."""
        if _unified():
            return int((self.memory / "memory.swap.current").read_text())
        return _fields(self.memory / "memory.stat").get("total_swap", 0)

    def oom_kills(self) -> int:
        """How many processes of any of the guests the host's OOM killer ended."""
        name = "memory.events" if _unified() else "memory.oom_control"
        return sum(_fields(path).get("oom_kill", 0) for path in {*self.memory.rglob(name)})

    def limits(self) -> dict[str, str]:
        """By path: every soft limit of the guests, and the limits at which the kernel kills, as they read."""
        names = ("memory.high", "memory.soft_limit_in_bytes", "memory.max", "memory.limit_in_bytes")
        found = [path for name in names for path in self.memory.rglob(name)]
        return {str(path): path.read_text() for path in sorted(found)}

    def admit(self, pid: int) -> None:
        """Has a process of the host's own share the pool, as a backup job in machine.slice would."""
        for path in _directories(self.run):
            (path / "cgroup.procs").write_text(str(pid))

    def pressure_file(self) -> Path | None:
        """Where the pool's pressure is told of; None: this kernel keeps none for it."""
        found = (path / "memory.pressure" for path in _directories(self.run))
        return next((path for path in found if path.exists()), None)

    def processes(self) -> tuple[int, ...]:
        """The process ids of all guests."""
        return _processes(self.memory)


def remove(run: str) -> None:
    """Ends every process in the run's cgroup and removes it; nothing to do is fine too.

    A guest that libvirt is just starting can appear late, so this goes on until the directories are gone.
    """
    deadline = time.monotonic() + REMOVAL_S
    while paths := _directories(run):
        for path in paths:
            for pid in _processes(path):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if _by_systemd():
                subprocess.run(["systemctl", "stop", path.name], capture_output=True, check=False)
            for child in sorted({*path.rglob("*/"), path}, reverse=True):
                if child.is_dir():
                    with contextlib.suppress(OSError):  # busy, or libvirt was faster: seen next time round
                        child.rmdir()
        if time.monotonic() > deadline:
            raise LabError(f"the guests' cgroup cannot be removed: {', '.join(map(str, paths))}")
        time.sleep(0.1)
    if _by_systemd():
        subprocess.run(["systemctl", "revert", f"balloondlab{run}.slice"], capture_output=True, check=False)


def _by_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _unified() -> bool:
    return (CGROUPS / "cgroup.controllers").exists()


def _limit_file() -> str:
    return "memory.max" if _unified() else "memory.limit_in_bytes"


def _hierarchies() -> tuple[Path, ...]:
    """Every mounted tree once: /sys/fs/cgroup itself on v2, one for each controller on v1."""
    if _unified():
        return (CGROUPS,)
    return tuple(sorted({path.resolve() for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()}))


def _directories(run: str) -> tuple[Path, ...]:
    names = (f"balloondlab{run}.slice", f"balloond-lab-{run}.partition")
    return tuple(tree / name for tree in _hierarchies() for name in names if (tree / name).is_dir())


def _make_partition(name: str) -> None:
    if _unified():
        _delegate(CGROUPS)
    for tree in _hierarchies():
        path = tree / name
        path.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):  # v1 leaves them empty, and empty lets nobody in
            if not _unified() and (path / file).exists():
                (path / file).write_text((tree / file).read_text())
    if _unified():
        _delegate(CGROUPS / name)


def _delegate(path: Path) -> None:
    controllers = (path / "cgroup.controllers").read_text().split()
    (path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def _processes(path: Path) -> tuple[int, ...]:
    found: list[int] = []
    for file in path.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):  # removed meanwhile
            found += map(int, file.read_text().split())
    return tuple(found)


def _fields(path: Path) -> dict[str, int]:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs}
    except OSError:  # removed meanwhile
        return {}


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}")
