"""What may a process in the service's sandbox do? Run in it, it tries, and prints what came of it as JSON.

Every attempt writes back what was there, or fails before anything changed. Argument: the cgroup of a guest, if
what may be done to that is to be tried as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from balloond.host import ksm

CLONE_NEWUSER = 0x10000000
HIDDEN = {
    "read password hashes": "/etc/shadow",
    "read former password hashes": "/etc/shadow-",
    "read groups' password hashes": "/etc/gshadow",
    "read groups' former password hashes": "/etc/gshadow-",
    "see TLS's private keys": "/etc/ssl/private",
    "see the keys of SSH's server": "/etc/ssh",
    "see libvirt's secrets": "/etc/libvirt/secrets",
    "see libvirt's private keys": "/etc/pki/libvirt/private",
    "see guests' disks": "/var/lib/libvirt",
}
"""Files and directories that are secret. What a sandbox hides is there, but there is nothing in it."""
RECLAIM = b"16M"
TRIGGER = b"some 150000 500000\0"  # a window that is no multiple of 2 s: for CAP_SYS_RESOURCE alone


def write_back(path: str) -> Callable[[], object]:
    """Writes what the file says into it: nothing changes, and whether it may be written is known."""

    def attempt() -> None:
        said = Path(path).read_text()
        chosen = said.partition("[")[2].partition("]")[0] or said  # `[a] b`: a is what was chosen
        Path(path).write_text(chosen)

    return attempt


def see(path: str) -> Callable[[], object]:
    def attempt() -> None:
        secret = Path(path)
        if not (os.listdir(secret) if secret.is_dir() else secret.read_bytes()):  # noqa: PTH208
            raise PermissionError("nothing to be seen")

    return attempt


def create(path: str) -> Callable[[], object]:
    def attempt() -> None:
        Path(path).touch()
        Path(path).unlink()

    return attempt


def reclaim(scope: str) -> None:
    with contextlib.suppress(BlockingIOError):  # it may be asked, and without swap there was less to be had
        Path(scope, "memory.reclaim").write_bytes(RECLAIM)


def pressure(path: str) -> Callable[[], object]:
    def attempt() -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        os.write(descriptor, TRIGGER)
        poll = select.poll()
        poll.register(descriptor, select.POLLPRI)
        assert not [event for _, event in poll.poll(0) if event & select.POLLERR]
        os.close(descriptor)

    return attempt


def unshare() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")


def unmerge() -> None:
    """As the daemon does it, but for where that is written to."""
    with Path(os.devnull).open("wb") as nothing, ksm.unmerger(nothing.fileno()) as writer:
        if writer.wait(10):
            raise PermissionError(f"its status is {writer.returncode}")


def become_root() -> None:
    os.setuid(0)


def be_root() -> None:
    if os.getuid():
        raise PermissionError("it is another user")


def with_a_guest(scope: str) -> dict[str, Callable[[], object]]:
    return {
        "reclaim from a guest": lambda: reclaim(scope),
        "set a guest's memory.high": write_back(f"{scope}/memory.high"),
    }


def attempts() -> dict[str, Callable[[], object]]:
    return {what: see(path) for what, path in HIDDEN.items()} | {
        "write KSM's settings": write_back("/sys/kernel/mm/ksm/pages_to_scan"),
        "unmerge by a process that ends with it": unmerge,
        "watch the slice's pressure": pressure("/sys/fs/cgroup/machine.slice/memory.pressure"),
        "watch the host's pressure": pressure("/proc/pressure/memory"),
        "reach libvirt": lambda: socket.socket(socket.AF_UNIX).connect("/run/libvirt/libvirt-sock"),
        "read a QEMU's status": Path("/proc/1/status").read_text,
        "write its runtime directory": create(f"{os.environ['RUNTIME_DIRECTORY']}/x"),
        "choose the OOM killer's victim": write_back("/proc/1/oom_score_adj"),
        "set sysctls": write_back("/proc/sys/vm/swappiness"),
        "set transparent huge pages": write_back("/sys/kernel/mm/transparent_hugepage/enabled"),
        "limit the system's own slice": write_back("/sys/fs/cgroup/system.slice/memory.high"),
        "write its configuration": create("/etc/balloond/x"),
        "write to /var": create("/var/lib/x"),
        "write to /run": create("/run/x"),
        "write units": create("/run/systemd/system/x"),
        "write others' shared memory": create("/dev/shm/x"),
        "write programs": create("/usr/bin/x"),
        "see home directories": see("/root"),
        "open KVM": lambda: os.open("/dev/kvm", os.O_RDWR),
        "open a disk": lambda: os.open("/dev/vda", os.O_RDONLY),
        "send raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "configure the network": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "become root": become_root,
        "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "raise its priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
        "run code that it wrote": lambda: mmap.mmap(
            -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        ),
        "signal other users' processes": lambda: os.kill(1, 0),
        "be root": be_root,
        "make namespaces": unshare,  # the last: in its own, a process may nothing any more
    }


def outcome(attempt: Callable[[], object]) -> str | None:
    """None: it worked."""
    try:
        attempt()
    except OSError as refused:
        return f"{type(refused).__name__}: {refused}"
    return None


def writable() -> list[str]:
    """Where a file system is mounted that is not read-only; of several at one place the last counts."""
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        _, _, _, _, point, options, *_ = line.split()
        mounts[point] = "rw" in options.split(",")
    return sorted(point for point, may in mounts.items() if may)


def main() -> None:
    tried = attempts() | (with_a_guest(sys.argv[1]) if len(sys.argv) > 1 else {})
    refused = {what: outcome(attempt) for what, attempt in tried.items()}
    print(json.dumps({"refused": refused, "writable": writable()}))


if __name__ == "__main__":
    main()
