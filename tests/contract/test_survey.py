"""The host's traits, on trees of files that stand in for hosts of many kinds, and on this very host."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from balloond.diagnosis.traits import Cgroups, Program, Traits
from balloond.host.files import Root
from balloond.host.survey import program_name, survey
from balloond.units import GIB, KIB, MIB
from tests.fixtures.hosts import Files, cgroup_v1, cgroup_v2, kernel, new_ksm, on_v2, plant, process, scope

pytestmark = pytest.mark.contract

INTEL = "processor\t: 0\nmodel name\t: a\nflags\t\t: fpu vme vmx sse\n"
RELEASE = "6.1.0-56-cloud-amd64"
THP = "/sys/kernel/mm/transparent_hugepage"


def traits(tree: Path, *files: Files, pids: dict[str, int] | None = None) -> Traits:
    for some in files:
        plant(tree, some)
    return survey(Root(tree), pids or {})


def command(pid: int, *words: str) -> Files:
    return {f"/proc/{pid}/cmdline": "\0".join(words) + "\0"}


def test_an_empty_tree_is_a_host_of_which_nothing_is_known(tmp_path: Path) -> None:
    assert traits(tmp_path) == Traits()


@pytest.mark.parametrize(("flags", "found"), [("vmx", "vmx"), ("svm npt", "svm"), ("fpu", None), ("", None)])
def test_the_processors_own_virtualization_is_found(tmp_path: Path, flags: str, found: str | None) -> None:
    cpuinfo = {"/proc/cpuinfo": INTEL.replace("vmx", flags)}
    assert traits(tmp_path, cpuinfo).virtualization == found


def test_a_flag_that_merely_begins_so_is_another_one(tmp_path: Path) -> None:
    assert traits(tmp_path, {"/proc/cpuinfo": INTEL.replace("vmx", "vmxoff svm_lock")}).virtualization is None


@pytest.mark.parametrize(
    ("files", "nested"),
    [
        ({}, None),
        ({"/sys/module/kvm_intel/parameters/nested": "Y\n"}, True),
        ({"/sys/module/kvm_intel/parameters/nested": "N\n"}, False),
        ({"/sys/module/kvm_amd/parameters/nested": "1\n"}, True),
    ],
)
def test_whether_guests_may_run_guests_is_read(tmp_path: Path, files: Files, nested: bool | None) -> None:
    assert traits(tmp_path, files).nested is nested


def test_settings_of_memory_are_read_in_bytes(tmp_path: Path) -> None:
    found = traits(
        tmp_path,
        kernel(total=64 * GIB, swap_total=3 * GIB, swap_free=GIB),
        new_ksm(),
        {
            "/dev/kvm": "",
            "/proc/swaps": f"Filename\n/dev/zram0 partition {GIB // KIB} 0 100\n",
            f"{THP}/enabled": "always [madvise] never\n",
            f"{THP}/khugepaged/max_ptes_none": "511\n",
            "/proc/sys/vm/min_free_kbytes": "67584\n",
            "/proc/sys/vm/overcommit_memory": "2\n",
            "/proc/sys/vm/swappiness": "60\n",
        },
    )
    assert found.kvm and found.psi
    assert found.ksm is not None and found.ksm.run == 1
    assert (found.huge_pages, found.max_ptes_none) == ("madvise", 511)
    assert (found.total, found.swap_total, found.zram_total) == (64 * GIB, 3 * GIB, GIB)
    assert (found.min_free, found.overcommit, found.swappiness) == (66 * MIB, 2, 60)


def test_a_kernel_whose_pressure_is_switched_off_has_none(tmp_path: Path) -> None:
    assert not traits(tmp_path, kernel() | {"/proc/pressure/memory": ""}).psi


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (cgroup_v2("/machine.slice"), Cgroups.V2),
        ({"/sys/fs/cgroup/cgroup.controllers": "cpu io pids\n"}, Cgroups.NONE),
        (cgroup_v1("", limit=None), Cgroups.V1),
        (cgroup_v1("") | {"/sys/fs/cgroup/unified/cgroup.controllers": "\n"}, Cgroups.HYBRID),
        ({"/sys/fs/cgroup/unified/cgroup.controllers": "memory io\n"}, Cgroups.V2),
        ({"/sys/fs/cgroup/unified/cgroup.controllers": "io\n"}, Cgroups.NONE),
    ],
)
def test_kinds_of_cgroups_are_told_apart(tmp_path: Path, files: Files, kind: Cgroups) -> None:
    assert traits(tmp_path, files).cgroups is kind


def test_guests_without_a_cgroup_of_their_own_are_named(tmp_path: Path) -> None:
    found = traits(
        tmp_path,
        process(101, on_v2(scope(1, "web"))),
        process(102, on_v2("/system.slice/libvirtd.service")),
        pids={"uuid-a": 101, "uuid-b": 102, "uuid-c": 103},
    )
    assert found.placeless == ("uuid-b", "uuid-c")


# --- whether pages are zeroed ----------------------------------------------------------------------------


BUILT = "# a comment\nCONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n# CONFIG_INIT_ON_FREE_DEFAULT_ON is not set\n"
IS_RELEASE = {"/proc/sys/kernel/osrelease": f"{RELEASE}\n"}


@pytest.mark.parametrize("place", [f"/boot/config-{RELEASE}", f"/lib/modules/{RELEASE}/config"])
def test_what_the_kernel_was_built_with_counts_where_its_command_line_says_nothing(
    tmp_path: Path, place: str
) -> None:
    found = traits(tmp_path, IS_RELEASE, {place: BUILT, "/proc/cmdline": "quiet init_on_allocation=0\n"})
    assert (found.zeroes_on_alloc, found.zeroes_on_free) == (True, False)


def test_the_last_word_on_the_command_line_wins(tmp_path: Path) -> None:
    words = {"/proc/cmdline": "init_on_alloc=1 ro init_on_alloc=0 init_on_free=1\n"}
    found = traits(tmp_path, IS_RELEASE, words, {f"/boot/config-{RELEASE}": BUILT})
    assert (found.zeroes_on_alloc, found.zeroes_on_free) == (False, True)


def test_the_running_kernels_own_configuration_is_unpacked(tmp_path: Path) -> None:
    plant(tmp_path, IS_RELEASE)
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(BUILT.encode()))
    assert traits(tmp_path).zeroes_on_alloc is True


@pytest.mark.parametrize("broken", [b"", b"no gzip at all", gzip.compress(BUILT.encode())[:40]])
def test_a_configuration_that_is_broken_is_none(tmp_path: Path, broken: bytes) -> None:
    plant(tmp_path, IS_RELEASE)
    (tmp_path / "proc/config.gz").write_bytes(broken)
    assert traits(tmp_path).zeroes_on_alloc is None


def test_a_release_that_is_a_path_leads_nowhere(tmp_path: Path) -> None:
    outside = {"/proc/sys/kernel/osrelease": "x/../../boot/config-y\n", "/boot/config-y": BUILT}
    assert traits(tmp_path, outside).zeroes_on_alloc is None


# --- who runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/usr/sbin/ksmtuned"], "ksmtuned"),
        (["/bin/bash", "/usr/sbin/ksmtuned"], "ksmtuned"),
        (["/usr/bin/python3.11", "-P", "/usr/sbin/momd", "-c", "/etc/momd.conf"], "momd"),
        (["python3", "-m", "balloond.daemon", "--debug"], "balloond.daemon"),
        (["python3", "-m"], "python3"),
        (["pvestatd"], "pvestatd"),
        (["sshd: root@pts/0"], "sshd"),
        (["perl", "-w", "", ""], "perl"),
        (["bash", "-c", "ksmtuned"], "bash"),
        ([""], ""),
        (["/"], ""),
    ],
)
def test_a_program_is_known_by_the_name_that_it_was_started_under(words: list[str], name: str) -> None:
    assert program_name(words) == name


def test_running_programs_are_listed_and_kernel_threads_and_files_of_proc_are_not(tmp_path: Path) -> None:
    found = traits(
        tmp_path,
        command(20, "pvestatd"),
        command(7, "/usr/bin/earlyoom", "-r", "60"),
        {"/proc/2/cmdline": "", "/proc/meminfo": "", "/proc/1x/cmdline": "momd\0"},
    )
    assert found.programs == (Program(name="earlyoom", pid=7), Program(name="pvestatd", pid=20))


def test_this_very_host_is_surveyed_without_a_fault() -> None:
    found = survey(Root(), {})
    assert found.release
    assert found.total is not None and found.total > GIB
    assert len(found.programs) > 1
