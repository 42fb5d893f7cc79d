"""Would it be noticed if `make test-host` changed the machine that it runs on?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from balloond.lab.patience import until
from tests.image.disk import ALONE
from tests.image.untouched import differences, kinds, look

pytestmark = pytest.mark.contract

MACHINE: Final = {
    "etc/libvirt/qemu/web.xml": "<domain/>",
    "run/libvirt/qemu/web.xml": "<domstatus/>",
    "run/libvirt/qemu/web.pid": "10",
    "etc/libvirt/qemu/networks/default.xml": "<network/>",
    "run/libvirt/network/default.xml": "<networkstatus/>",
    "sys/fs/cgroup/memory/machine/memory.limit_in_bytes": "1073741824",
    "sys/fs/cgroup/memory/machine/qemu-1-web.libvirt-qemu/memory.limit_in_bytes": "536870912",
    "sys/fs/cgroup/memory/user/one/memory.limit_in_bytes": "268435456",
    "sys/kernel/mm/ksm/pages_to_scan": "100",
    "proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 1024 0 -2\n",
    "proc/self/mountinfo": "30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
    "sys/block/loop0/loop/backing_file": "/srv/image",
}
CGROUP: Final = "/sys/fs/cgroup/memory/machine"


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("balloond.lab.leavings.RUNS", tmp_path / "runs")
    plant(tmp_path, MACHINE)
    (tmp_path / "sys/kernel/mm/ksm/pages_shared").write_text("1")
    (tmp_path / "sys/kernel/mm/ksm/pages_shared").chmod(0o444)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("run/libvirt/qemu/web.pid", "11", "running guest web was process 10, is process 11"),
        ("run/libvirt/qemu/new.xml", "", "running guest new is new (there)"),
        ("etc/libvirt/qemu/new.xml", "", "defined guest new is new (there)"),
        ("etc/libvirt/qemu/networks/new.xml", "", "defined network new is new (there)"),
        ("run/libvirt/network/new.xml", "", "running network new is new (there)"),
        (
            f"{CGROUP}/qemu-2-x.libvirt-qemu/tasks",
            "",
            f"cgroup ROOT{CGROUP}/qemu-2-x.libvirt-qemu is new (there)",
        ),
        ("/sys/fs/cgroup/memory/new/tasks", "", "cgroup ROOT/sys/fs/cgroup/memory/new is new (there)"),
        (
            "sys/fs/cgroup/memory/user/one/memory.limit_in_bytes",
            "1",
            "limit ROOT/sys/fs/cgroup/memory/user/one/memory.limit_in_bytes was 268435456, is 1",
        ),
        ("sys/kernel/mm/ksm/pages_to_scan", "64", "KSM setting pages_to_scan was 100, is 64"),
        ("proc/swaps", "Filename\n", "swap /dev/sda2 is gone (was partition)"),
        ("proc/self/mountinfo", "9 1 0:1 / /x rw - tmpfs none rw\n", "mount /x is new (tmpfs none)"),
        ("sys/block/loop0/loop/backing_file", "/other", "loop device loop0 was /srv/image, is /other"),
    ],
)
def test_whatever_was_changed_is_told_by_name(root: Path, file: str, text: str, told: str) -> None:
    before = look(root)
    assert not differences(before, look(root))
    plant(root, {file.removeprefix("/"): text})
    assert told in [line.replace(str(root), "ROOT") for line in differences(before, look(root))]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sys/fs/cgroup/memory/user/two/memory.limit_in_bytes", "1"),  # a session's
        ("sys/fs/cgroup/memory/balloond-lab-5ab2cd.partition/memory.limit_in_bytes", "1"),
        ("run/libvirt/qemu/balloond-lab-5ab2cd-web.xml", ""),
        ("sys/fs/cgroup/unified/machine.slice/machine-qemu\\x2d1\\x2dballoond\\x2dlab\\x2d5.scope/x", ""),
        ("proc/swaps", MACHINE["proc/swaps"] + "/var/lib/balloond-lab/runs/5/1.swap file 1 0 -2\n"),
        ("sys/kernel/mm/ksm/pages_shared", "2"),  # a counter
    ],
)
def test_what_others_do_meanwhile_is_none_of_ours(root: Path, file: str, text: str) -> None:
    (root / "sys/fs/cgroup/unified/machine.slice").mkdir(parents=True)
    before = look(root)
    (root / file).unlink(missing_ok=True)
    plant(root, {file: text})
    assert not differences(before, look(root))


def test_while_a_lab_runs_beside_ksm_s_changes_are_not_held_against_us_nor_called_the_same(
    root: Path,
) -> None:
    before = look(root)
    assert "1 x KSM setting" in kinds(before, before)
    (root / "runs/5ab2cd").mkdir(parents=True)
    plant(root, {"sys/kernel/mm/ksm/pages_to_scan": "64"})
    after = look(root)
    assert not differences(before, after)
    assert "KSM" not in kinds(before, after)
    assert "lab" not in kinds(after, after)


def test_a_process_that_was_left_is_found_even_when_it_has_run_away_or_bears_a_labs_name() -> None:
    program = """
import subprocess, sys
from tests.image import untouched
untouched.keep_orphans()
before = untouched.look()
subprocess.run(["sh", "-c", "env -i setsid tail -f /dev/null balloond-lab >/dev/null 2>&1 &"], check=True)
print(*untouched.differences(before, untouched.look()), sep="\\n")
for kind, name in untouched.look():
    if kind == "process of ours":
        subprocess.run(["kill", name], check=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("process of ours ")
    assert "tail -f /dev/null balloond-lab" in done.stdout


def test_all_that_a_builder_started_ends_with_it() -> None:
    builder = subprocess.Popen([*ALONE, "sh", "-c", "setsid sleep 60 & wait"], stdin=subprocess.DEVNULL)
    try:
        until(lambda: len(psutil.Process(builder.pid).children(recursive=True)) == 2, "the builder's child")
        started = psutil.Process(builder.pid).children(recursive=True)
    finally:
        builder.kill()
        builder.wait()
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_of_this_machine_mounts_and_cgroups_are_seen() -> None:
    seen = look()
    assert ("mount", "/proc") in seen
    assert any(kind == "limit" for kind, _ in seen)
