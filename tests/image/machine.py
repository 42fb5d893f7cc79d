"""How is the test host run? As one QEMU process, in bounded time, and gone when this process is.

It boots the disk, and boots it again when it asks for that. What it says comes as two files: the serial console,
and the report of the checks. It has no network but one port of this machine that leads to its metrics.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from balloond.lab.accelerator import KVM
from balloond.lab.faults import LabError
from balloond.units import GIB, MIB
from tests.image.disk import TREE, Disk

MEMORY: Final = 3 * GIB  # two guests, and a reserve
PROCESSORS: Final = 2
SPARE_DISK: Final = 512 * MIB  # becomes a partition of swap
METRICS_PORT: Final = 9710
KERNEL_OPTIONS: Final = (
    "root=LABEL=root rw console=ttyS0 panic=-1 mitigations=off"
    " no_timer_check"  # on busy emulated processors that check fails, and the kernel panics
)
SELF_TEST: Final = (
    " balloond.self_test"  # for inside.sh; the kernel takes it for an unloaded module's, and ignores it
)
MOST_BOOTS: Final = 2  # one to install, one to check
DIED: Final = "test-host: the host died at this point, or asked for one more boot than it may have"
LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What stays of a run, for people."""

    home: Path

    @property
    def report(self) -> Path:
        return self.home / "report.log"

    @property
    def console(self) -> Path:
        return self.home / "console.log"

    @property
    def build(self) -> Path:
        return self.home / "build.log"

    @property
    def metrics(self) -> Path:
        """What was scraped from outside, the last time that it worked."""
        return self.home / "metrics.txt"

    def set_aside(self) -> None:
        """Keeps what a first boot left under other names, so that another can be made."""
        for file in (self.report, self.console, self.metrics):
            if file.exists():
                file.rename(file.with_stem(f"{file.stem}-first"))


def pack_tree(target: Path) -> None:
    """This tree as git sees it, changes that are not committed included, as a disk that holds a tar archive."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        raise LabError(f"this tree is no checkout: {listed.stderr.strip()}")
    with tarfile.open(target, "w") as archive:  # padded to 10 KiB, as a disk must be to its sectors
        for name in filter(None, listed.stdout.split("\0")):
            if (TREE / name).is_file():  # listed, but perhaps removed and not yet committed
                archive.add(TREE / name, name)


def run(
    disk: Disk,
    *,
    accelerator: str,
    home: Path,
    logs: Logs,
    deadline_s: float,
    self_test: bool,
    tell: Callable[[str], None],
) -> str:
    """Boots the host until it has reported or the deadline (of time.monotonic) is over, and returns the report.

    `home` takes the run's own files. `self_test`: the unit is broken on purpose, see self-test.sh.
    `tell` gets the report's new text as it comes.
    """
    port = _free_port()
    options = KERNEL_OPTIONS + (SELF_TEST if self_test else "")
    command = _command(disk, options, accelerator=accelerator, home=home, logs=logs, port=port)
    logs.report.touch()
    with logs.report.open(errors="replace") as report:
        for _ in range(MOST_BOOTS):
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                while process.poll() is None and time.monotonic() < deadline_s:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(LOOK_S)
                    tell(report.read())
                    _scrape(port, logs.metrics)
                    if _ended(logs):  # nothing in the host is worth an orderly end
                        return logs.report.read_text(errors="replace")
            finally:
                process.kill()
                process.wait()
                tell(report.read())
        if process.returncode == 0:  # it was not for us to end it
            with logs.console.open("a") as console:
                print(f"\n{DIED}", file=console)
    return logs.report.read_text(errors="replace")


def verdict(report: str) -> int | None:
    """The exit status that the report ends with; None: it does not, so the host hung or died."""
    word = "host-test: exit "
    last = next((line for line in reversed(report.splitlines()) if line.startswith(word)), None)
    return int(last.removeprefix(word)) if last is not None else None


def _ended(logs: Logs) -> bool:
    return verdict(logs.report.read_text(errors="replace")) is not None


def _command(disk: Disk, options: str, *, accelerator: str, home: Path, logs: Logs, port: int) -> list[str]:
    overlay, tree, spare = home / "root.qcow2", home / "tree.tar", home / "spare"
    pack_tree(tree)
    with spare.open("wb") as file:
        file.truncate(SPARE_DISK)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(disk.root), str(overlay)],
        check=True,
    )
    kvm = accelerator == KVM
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),  # it ends with us, however we end
        *("-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "max"),
        *("-machine", "pc,mem-merge=off"),  # this machine's KSM is none of ours
        *("-smp", str(PROCESSORS), "-m", f"{MEMORY // MIB}M"),
        *("-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", str(disk.kernel), "-initrd", str(disk.initramfs), "-append", options),
        *_disk("balloond-root", f"file={overlay},format=qcow2,cache=unsafe"),
        *_disk("balloond-tree", f"file={tree},format=raw,readonly=on"),
        *_disk("balloond-swap", f"file={spare},format=raw,cache=unsafe"),
        *("-chardev", f"file,id=console,path={logs.console},append=on", "-serial", "chardev:console"),
        *("-chardev", f"file,id=report,path={logs.report},append=on", "-device", "virtio-serial-pci"),
        *("-device", "virtserialport,chardev=report,name=org.balloond.report", "-device", "virtio-rng-pci"),
        *("-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{METRICS_PORT}"),
    ]


def _disk(serial: str, drive: str) -> list[str]:
    """A disk that is known by its serial number inside: their order there is not ours to say."""
    return [
        "-drive",
        f"if=none,id={serial},{drive}",
        "-device",
        f"virtio-blk-pci,drive={serial},serial={serial}",
    ]


def _scrape(port: int, target: Path) -> None:
    """Keeps what Prometheus would read from outside the host; most of the time nothing answers yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LOOK_S) as answer:
            text = answer.read().decode()
    except (OSError, http.client.HTTPException):  # an urllib.error.URLError is an OSError
        return
    if "balloond_guest_actual_bytes{" in text:
        target.write_text(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
