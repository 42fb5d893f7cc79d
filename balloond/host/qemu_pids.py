"""Which process is the guest's QEMU?

libvirt notes it in a file named after the guest, with XML's entities for the characters that XML minds (its
virPidFileBuildPath): the file of `a'b` is `a&apos;b.pid`. The file may be old and its number another process's by
now, so it is only believed when that process was started for the guest's UUID.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

RUN_DIRECTORY: Final = Path("/run/libvirt/qemu")
PROC: Final = Path("/proc")
QUOTES: Final = {"'": "&apos;", '"': "&quot;"}  # beside &, < and >


def find_pid(uuid: str, name: str, run: Path = RUN_DIRECTORY, proc: Path = PROC) -> int | None:
    """The process, or None when it can't be told, as with a connection to another host or another user's."""
    if "/" in name or "\0" in name:
        return None  # libvirt allows no such name
    try:
        pid = int((run / f"{escape(name, QUOTES)}.pid").read_text())
        started_as = (proc / str(pid) / "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if uuid.encode() in started_as.split(b"\0") else None
