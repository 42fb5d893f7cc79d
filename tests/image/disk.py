"""What does the test host boot? A Debian with systemd, libvirt, QEMU and all that it will install, on one disk.

Built with debootstrap and kept under a hash of everything that went in: a second run takes it from there. The
building happens in a chroot and in namespaces of its own; no service of the image is ever started on this machine,
and nothing of this machine is changed but the cache. How long it may take is for the caller to bound.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from balloond.lab.faults import LabError
from balloond.units import GIB

TREE: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
SUITE: Final = "bookworm"
PYTHON: Final = "3.11"  # that suite's; the wheels are fetched for it
DISK_SIZE: Final = 8 * GIB  # sparse; 1.5 GiB are used, guests' disks and swap are within the rest
INPUTS: Final = (
    Path(__file__),
    HERE / "build-root.sh",
    HERE / "host-test.service",
    TREE / "vagrant/provision/1-packages.sh",
)
"""What the disk is made of, beside the wheels: any change in one of these makes a new disk."""
ALONE: Final = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--mount-proc", "--fork", "--kill-child"),
)
"""Runs a command with mounts and processes of its own: all of them end with it, and it ends with us, however we
end. The processes need a namespace for that: without, only the command itself would be killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Files that are only ever read."""

    kernel: Path
    initramfs: Path
    root: Path  # a raw ext4 file system


def cache() -> Path:
    """Where disks are kept; any of it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "balloond"


def build(log: Path) -> Disk:
    """The disk, built now unless it stands already. Raises LabError with the end of the builder's output."""
    for program, package in (
        ("debootstrap", "debootstrap"),
        ("mke2fs", "e2fsprogs"),
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
    ):
        if shutil.which(program) is None:
            raise LabError(f"no {program}; install {package}")
    wheels = requirements((TREE / "pyproject.toml").read_bytes())
    home = cache() / f"host-{key(INPUTS, wheels)}"
    sweep()
    if not home.is_dir():
        building = home.with_name(f"{home.name}.{os.getpid()}")
        try:
            _build_in(building, wheels, log)
            building.rename(home)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        for older in home.parent.glob("host-*"):
            if older != home and "." not in older.name:  # with a dot: somebody builds it now
                shutil.rmtree(older)
    return Disk(kernel=home / "vmlinuz", initramfs=home / "initrd.img", root=home / "disk")


def sweep() -> None:
    """Removes what builders that were killed outright had begun."""
    for begun in cache().glob("host-*.*"):
        if not Path("/proc", begun.name.partition(".")[2]).exists():
            shutil.rmtree(begun)


def key(inputs: tuple[Path, ...], wheels: list[str]) -> str:
    """A name that changes when the content of any of these files does, or what pip is to fetch."""
    digest = hashlib.sha256(" ".join((SUITE, *wheels)).encode())
    for path in inputs:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def requirements(project: bytes) -> list[str]:
    """What pip needs to install the project without a network; libvirt's binding is the distribution's."""
    described = tomllib.loads(project.decode())
    wanted = ["wheel", *described["build-system"]["requires"], *described["project"]["dependencies"]]
    return [one for one in wanted if not one.startswith("libvirt-python")]


def sources() -> list[str]:
    """Where this machine's apt gets the suite and its updates from, as lines of sources.list, the suite itself
    first. None on a machine of another distribution: debootstrap then has a mirror of its own."""
    listed = subprocess.run(
        [
            *("apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"),
            *("Identifier: Packages", "Origin: Debian"),
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    lines = [line for line in listed.splitlines() if line.split()[2].split("-")[0] == SUITE]
    return sorted(lines, key=lambda line: line.split()[2] != SUITE)


def _build_in(building: Path, wanted: list[str], log: Path) -> None:
    root = building / "root"
    root.mkdir(parents=True)
    wheels, lists = building / "wheels", building / "sources.list"
    lists.write_text("".join(f"{line}\n" for line in sources()))
    with log.open("w") as output:
        _run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)),
                *("--only-binary", ":all:", "--python-version", PYTHON, "--platform", "manylinux2014_x86_64"),
                *wanted,
            ],
            output,
        )
        _run(
            [
                *ALONE,
                *(str(HERE / "build-root.sh"), SUITE, str(root), str(TREE), str(wheels), str(lists)),
            ],
            output,
        )
        for name, pattern in (("vmlinuz", "boot/vmlinuz-*"), ("initrd.img", "boot/initrd.img-*")):
            shutil.copyfile(next(root.glob(pattern)), building / name)
        disk = building / "disk"
        _run(
            ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(disk), str(DISK_SIZE // 1024)],
            output,
        )
    shutil.rmtree(root)


def _run(command: list[str], output: IO[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        end = Path(output.name).read_text(errors="replace")[-1500:]
        raise LabError(
            f"the test host's disk can't be built: {command[0]} ended with {done.returncode}; it said\n{end}"
        )
