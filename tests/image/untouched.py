"""Is the machine that the test host ran on as it was? What was there before is compared with what is after.

Only looks. What other tests of this project make beside us bears their names, and is left out; so is what changes
by itself on any machine: the cgroups of services and sessions, and counters.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil

from balloond.lab import leavings

Seen = Mapping[tuple[str, str], str]  # (kind, name) -> how it stands

OTHERS: Final = re.compile(r"balloond(-|\\x2d)?(lab|contract|test)")
"""The lab's guests, cgroups and files, and the contract tests', with systemd's escapes."""
LIMITS: Final = (
    *("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes"),  # v1
    *("memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max"),
)
LIBVIRT: Final = {
    "defined guest": "etc/libvirt/qemu",
    "running guest": "run/libvirt/qemu",
    "defined network": "etc/libvirt/qemu/networks",
    "running network": "run/libvirt/network",
}
"""Where libvirt keeps a file NAME.xml for each. To ask it might start it."""
KSM: Final = "KSM setting"
LAB_BESIDE: Final = ("lab", "beside")
"""Seen while a lab runs, which may steer KSM and puts it back: what differs of it is then not held against us."""
SETTINGS: Final = {"limit", KSM, LAB_BESIDE[0]}
"""These count only where they were seen both times: they are something else's, which may come and go."""
PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)


def keep_orphans() -> None:
    """From now on whatever was started by us, at any remove, stays below us and is seen by `look`."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def look(root: Path = Path("/")) -> Seen:
    """How the machine stands; `root` is another for tests. What vanishes while it is looked at is not there."""
    seen = dict(_libvirt(root)) | dict(_cgroups(root / "sys/fs/cgroup")) | dict(_places(root))
    seen |= dict(_ksm(root / "sys/kernel/mm/ksm"))
    kept = {key: value for key, value in seen.items() if not OTHERS.search(key[1] + value)}
    return kept | _processes() | ({LAB_BESIDE: ""} if any(leavings.RUNS.glob("*")) else {})


def differences(before: Seen, after: Seen) -> list[str]:
    """What is not as it was, in words."""
    compared = {key for key in before.keys() | after.keys() if key[0] not in SETTINGS}
    compared |= before.keys() & after.keys()
    excused = {KSM} if LAB_BESIDE in before or LAB_BESIDE in after else set()
    return [
        f"{' '.join(key)} {_words(before.get(key), after.get(key))}"
        for key in sorted(compared)
        if before.get(key) != after.get(key) and key[0] not in excused
    ]


def kinds(before: Seen, after: Seen) -> str:
    """What was the same both times, and how many of each."""
    counted = Counter(kind for kind, _ in dict(before.items() & after.items()).keys() - {LAB_BESIDE})
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(counted.items()))


def _words(was: str | None, now: str | None) -> str:
    if was is None:
        return f"is new ({now})"
    return f"is gone (was {was})" if now is None else f"was {was}, is {now}"


def _libvirt(root: Path) -> Iterator[tuple[tuple[str, str], str]]:
    for kind, folder in LIBVIRT.items():
        for file in (root / folder).glob("*.xml"):
            pid = _text(file.with_suffix(".pid"))  # of a running guest: another one was started anew
            yield (kind, file.stem), f"process {pid}" if pid else "there"


def _cgroups(top: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """The cgroups at the top and where guests live; the limits on memory of all."""
    unified = (top / "cgroup.controllers").exists()
    for tree in [top] if unified else sorted(path for path in top.glob("*") if not path.is_symlink()):
        for folder, _, files in os.walk(tree):
            names = Path(folder).relative_to(tree).parts
            if names and (len(names) == 1 or names[0].startswith("machine")):
                yield ("cgroup", folder), "there"
            for limit in {*LIMITS} & {*files}:
                value = _text(Path(folder, limit))
                if value is not None:
                    yield ("limit", f"{folder}/{limit}"), value


def _ksm(folder: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """All that can be set. What can't is a counter."""
    for file in folder.glob("*"):
        if file.stat().st_mode & 0o200:
            yield (KSM, file.name), _text(file) or ""


def _places(root: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """Swaps, mounts, loop devices."""
    for line in (_text(root / "proc/swaps") or "").splitlines()[1:]:
        yield ("swap", line.split()[0]), line.split()[1]
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        yield ("mount", line.split()[4]), " ".join(line.partition(" - ")[2].split()[:2])
    for file in root.glob("sys/block/loop*/loop/backing_file"):
        yield ("loop device", file.parts[-3]), _text(file) or "there"


def _processes() -> dict[tuple[str, str], str]:
    """What was started by us and still runs."""
    left = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                left["process of ours", str(process.pid)] = " ".join(process.cmdline()) or process.name()
    return left


def _text(file: Path) -> str | None:
    with contextlib.suppress(OSError):
        return file.read_text().strip()
    return None
