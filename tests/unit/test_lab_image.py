"""What the lab's guests boot: which kernel, which modules, and how they are packed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from balloond.lab.faults import LabError
from balloond.lab.image import find_kernel, module_files, pack


def a_machine_with(tmp_path: Path, *versions: str) -> tuple[Path, Path]:
    boot, modules = tmp_path / "boot", tmp_path / "modules"
    boot.mkdir()
    for version in versions:
        (boot / f"vmlinuz-{version}").touch()
        (modules / version).mkdir(parents=True)
    return boot, modules


def test_a_kernel_made_for_guests_is_preferred_and_of_those_the_newest(tmp_path: Path) -> None:
    boot, modules = a_machine_with(tmp_path, "6.9.1-amd64", "6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64")
    assert find_kernel(boot, modules) == (boot / "vmlinuz-6.1.0-56-cloud-amd64", "6.1.0-56-cloud-amd64")


def test_a_kernel_whose_modules_are_not_installed_is_passed_over(tmp_path: Path) -> None:
    boot, modules = a_machine_with(tmp_path, "6.8.0-31-generic")
    (boot / "vmlinuz-6.8.0-40-generic").touch()
    assert find_kernel(boot, modules)[1] == "6.8.0-31-generic"


def test_a_machine_without_a_kernel_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="linux-image-cloud-amd64"):
        find_kernel(*a_machine_with(tmp_path))


def test_modules_come_after_those_that_they_need_and_once_each(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("")
    (tmp_path / "modules.dep").write_text(
        "k/virtio_balloon.ko.xz: k/virtio.ko.xz k/virtio_ring.ko.xz\n"
        "k/virtio_blk.ko.xz: k/virtio.ko.xz k/virtio_ring.ko.xz\n"
        "k/virtio.ko.xz: k/virtio_ring.ko.xz\nk/virtio_ring.ko.xz:\n"
    )
    names = [path.name for path in module_files(tmp_path, ("virtio_blk", "virtio_balloon"))]
    assert names == ["virtio_ring.ko.xz", "virtio.ko.xz", "virtio_blk.ko.xz", "virtio_balloon.ko.xz"]


def test_what_is_built_into_the_kernel_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio-pci.ko\n")
    (tmp_path / "modules.dep").write_text("k/virtio_balloon.ko:\n")
    assert [path.name for path in module_files(tmp_path, ("virtio_pci", "virtio_balloon"))] == [
        "virtio_balloon.ko"
    ]


def test_a_kernel_without_the_balloon_driver_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("")
    (tmp_path / "modules.dep").write_text("")
    with pytest.raises(LabError, match="virtio_balloon"):
        module_files(tmp_path, ("virtio_balloon",))


def test_cpio_itself_can_unpack_the_archive(tmp_path: Path) -> None:
    archive = pack({"init": (0o755, b"#!/bin/sh\n"), "bin/odd": (0o644, b"12345")})
    subprocess.run(
        ["cpio", "-idm", "--quiet", "--no-absolute-filenames", "init", "bin/odd", "bin", "proc"],
        input=archive,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/odd").read_bytes() == b"12345"
