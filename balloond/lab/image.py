"""What do the lab's guests boot? The distribution's own kernel, with busybox and the workload in an initramfs.

Built once and kept under a hash of everything that went in, where QEMU's own user can read it. Must never
change a file of the distribution.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from balloond.lab.faults import LabError
from balloond.lab.leavings import ROOT
from balloond.units import MIB

MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_balloon")
DISK_SIZE: Final = 1024 * MIB  # what a guest's page cache can be filled from; sparse, so it costs nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Files that a guest boots from; all readable by everybody, none ever written to."""

    kernel: Path
    initramfs: Path
    disk: Path
    version: str  # the kernel's


def build() -> Image:
    """The image, built now unless it stands already. Raises LabError that names the missing package."""
    kernel, version = find_kernel(Path("/boot"), Path("/lib/modules"))
    files = dict(_contents(version))
    digest = hashlib.sha256(kernel.read_bytes())
    for name, (mode, data) in files.items():
        digest.update(f"{name} {mode:o} {len(data)}\n".encode() + data)
    home = ROOT / "images" / digest.hexdigest()[:16]
    if not home.is_dir():
        building = home.with_name(f"{home.name}.{os.getpid()}")
        building.mkdir(parents=True)
        shutil.copyfile(kernel, building / "vmlinuz")
        (building / "initramfs").write_bytes(pack(files | {"workload": (0o755, _compile(building))}))
        with (building / "disk").open("wb") as disk:
            disk.truncate(DISK_SIZE)
        for path in building.iterdir():
            path.chmod(0o644)
        try:
            building.rename(home)
        except OSError:  # somebody else was faster
            shutil.rmtree(building)
    return Image(kernel=home / "vmlinuz", initramfs=home / "initramfs", disk=home / "disk", version=version)


def find_kernel(boot: Path, modules: Path) -> tuple[Path, str]:
    """The kernel image and its version: one made for guests if there is one, else the newest."""
    found = [
        (kernel, kernel.name.removeprefix("vmlinuz-"))
        for kernel in boot.glob("vmlinuz-*")
        if (modules / kernel.name.removeprefix("vmlinuz-")).is_dir()
    ]
    if not found:
        raise LabError(
            f"no kernel with modules in {boot}; install linux-image-cloud-amd64 or linux-image-kvm"
        )
    return max(found, key=lambda one: (bool(re.search("cloud|kvm", one[1])), _numbers(one[1])))


def module_files(tree: Path, wanted: tuple[str, ...] = MODULES) -> list[Path]:
    """The module files to load, dependencies first; what is built into the kernel is left out."""
    paths = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        name, _, needs = line.partition(":")
        paths[_module_name(name)] = [name, *needs.split()]
    built_in = {_module_name(line) for line in (tree / "modules.builtin").read_text().splitlines()}
    ordered: list[Path] = []
    for module in wanted:
        if module not in paths and module not in built_in:
            raise LabError(f"the kernel of {tree} has no {module}")
        for name in reversed(paths.get(module, [])):  # modules.dep lists the deepest need last
            if tree / name not in ordered:
                ordered.append(tree / name)
    return ordered


def pack(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A cpio archive in the kernel's `newc` format (Documentation/driver-api/early-userspace/buffer-format)."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    entries = [(folder, 0o40755, 0, b"") for folder in sorted(folders | {"proc", "sys", "dev"})]
    entries.append(
        ("dev/console", 0o20600, (5 << 8) | 1, b"")
    )  # init's standard output; character device 5:1
    entries += [(name, 0o100000 | mode, 0, data) for name, (mode, data) in files.items()]
    archive = bytearray()
    for number, (name, mode, device, data) in enumerate([*entries, ("TRAILER!!!", 0, 0, b"")], start=1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, device >> 8, device & 255, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def _contents(version: str) -> Iterator[tuple[str, tuple[int, bytes]]]:
    ours = resources.files("balloond.lab")
    yield "init", (0o755, (ours / "init").read_bytes())
    yield "workload.c", (0o644, (ours / "workload.c").read_bytes())
    busybox = shutil.which("busybox")
    if busybox is None:
        raise LabError("no busybox; install busybox-static")
    yield "bin/busybox", (0o755, Path(busybox).read_bytes())
    order = []
    for path in module_files(Path("/lib/modules") / version):
        name = f"{_module_name(path.name)}.ko"
        order.append(name)
        yield f"modules/{name}", (0o644, _unpacked(path))
    yield "modules/order", (0o644, "".join(f"{name}\n" for name in order).encode())


def _compile(folder: Path) -> bytes:
    """The workload, linked statically: the guest has no libraries."""
    program = folder / "workload"
    source = (resources.files("balloond.lab") / "workload.c").read_bytes()
    command = ["gcc", "-O2", "-static", "-x", "c", "-o", str(program), "-"]
    try:
        done = subprocess.run(command, input=source, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise LabError("no gcc; install gcc and libc6-dev") from error
    if done.returncode:
        raise LabError(f"the workload does not compile: {done.stderr.decode(errors='replace')}")
    data = program.read_bytes()
    program.unlink()
    return data


def _unpacked(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout
    return path.read_bytes()


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version))
