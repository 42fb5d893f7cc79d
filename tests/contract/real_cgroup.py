"""A limited cgroup on this very host, laid out as libvirt does it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def real_cgroup(limit: int) -> Iterator[tuple[str, int]]:
    """A limited cgroup on this host with a process in a guest's cgroup below it: its path and the pid."""
    v1 = Path("/sys/fs/cgroup/memory")
    base, limit_name = (
        (v1, "memory.limit_in_bytes") if v1.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    )
    top = base / f"balloond-test-{os.getpid()}"
    own = top / "qemu-1-web.libvirt-qemu"
    try:
        own.mkdir(parents=True)
        (top / limit_name).write_text(str(limit))
    except OSError as error:
        for made in (own, top):
            with contextlib.suppress(OSError):
                made.rmdir()
        pytest.skip(f"no cgroup can be made and limited here: {error}")
    try:
        with subprocess.Popen(["sleep", "60"]) as child:
            (own / "cgroup.procs").write_text(str(child.pid))
            yield f"/{top.name}", child.pid
            child.kill()
    finally:
        own.rmdir()
        top.rmdir()
