"""The kernel's files, of hosts of many kinds and of the host that runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from balloond.host.files import Root
from balloond.host.kernel import HostFigures, read_host, read_ksm, read_pressure
from balloond.model import FaultKind, Ksm, KsmSettings, Pressure
from balloond.units import GIB, PAGE
from tests.fixtures.hosts import kernel, new_ksm, old_ksm, plant

pytestmark = pytest.mark.contract


def figures_of(tree: Path) -> HostFigures:
    figures, faults = read_host(Root(tree))
    assert figures is not None
    assert faults == ()
    return figures


def test_memory_swap_and_counters_are_read_in_bytes(tmp_path: Path) -> None:
    swap = {"swap_total": 4 * GIB, "swap_free": 3 * GIB}
    figures = figures_of(plant(tmp_path, kernel(total=24 * GIB, available=20 * GIB, **swap)))
    assert (figures.total, figures.available) == (24 * GIB, 20 * GIB)
    assert (figures.swap_total, figures.swap_free) == (4 * GIB, 3 * GIB)
    assert (figures.swap_in, figures.swap_out) == (256 * PAGE, 1024 * PAGE)
    assert figures.oom_kills == 3


def test_pressure_comes_as_ratios_not_percentages(tmp_path: Path) -> None:
    expected = Pressure(some_avg10=0.015, full_avg10=0.0025, some_total_us=123456)
    assert figures_of(plant(tmp_path, kernel())).pressure == expected


def test_a_kernel_without_psi_has_no_pressure(tmp_path: Path) -> None:
    files = kernel()
    del files["/proc/pressure/memory"]
    assert figures_of(plant(tmp_path, files)).pressure is None


@pytest.mark.parametrize("text", ["", "some avg10=\n", "some avg10=0.00 total=1\n", "nonsense\n"])
def test_garbled_pressure_is_no_pressure(tmp_path: Path, text: str) -> None:
    plant(tmp_path, kernel() | {"/proc/pressure/memory": text})
    assert read_pressure(Root(tmp_path), "/proc/pressure/memory") is None


def test_a_kernel_without_ksm_has_none(tmp_path: Path) -> None:
    assert figures_of(plant(tmp_path, kernel())).ksm is None


def test_an_old_ksm_has_neither_profit_nor_advisor(tmp_path: Path) -> None:
    expected = Ksm(
        run=1, saved=1000 * PAGE, profit=None, full_scans=7, pages_to_scan=100, advisor=None,
        candidates=1600 * PAGE, settings=KsmSettings(run=1, pages_to_scan=100, sleep_ms=20),
    )  # fmt: skip
    assert read_ksm(Root(plant(tmp_path, old_ksm()))) == expected


def test_a_new_ksm_counts_zero_pages_as_saved_and_may_make_a_loss(tmp_path: Path) -> None:
    ksm = read_ksm(Root(plant(tmp_path, new_ksm())))
    assert ksm is not None
    assert (ksm.saved, ksm.profit, ksm.advisor) == (1024 * PAGE, -64000, "scan-time")
    assert ksm.scanned == 5000 * PAGE
    assert ksm.settings == KsmSettings(
        run=1, pages_to_scan=100, sleep_ms=20, advisor="scan-time", advisor_target_s=200,
        advisor_max_cpu=70, advisor_min_pages=500,
    )  # fmt: skip


def test_copies_of_merged_pages_are_counted_whether_written_to_or_swapped_in(tmp_path: Path) -> None:
    ksm = read_ksm(Root(plant(tmp_path, new_ksm())), "cow_ksm 30\nksm_swpin_copy 12\n")
    assert ksm is not None
    assert ksm.broken == 42 * PAGE


def test_where_nothing_is_merged_nor_to_be_most_files_are_not_read(tmp_path: Path) -> None:
    plant(tmp_path, new_ksm() | {"/sys/kernel/mm/ksm/run": "0\n"})
    ksm = read_ksm(Root(tmp_path), closely=False)
    assert ksm is not None
    assert (ksm.settings, ksm.candidates, ksm.scanned) == (KsmSettings(), 0, None)
    assert ksm.saved == 1024 * PAGE  # what is still merged is a loan all the same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MemTotal:       24684084 kB\n",
        "MemTotal: many kB\nMemAvailable: 1 kB\n",
        "MemTotal:       0 kB\nMemAvailable: 0 kB\n",
        "MemTotal:       1000 kB\nMemAvailable: 1001 kB\n",
        "MemTotal:       -1000 kB\nMemAvailable: 1 kB\n",
    ],
)
def test_senseless_memory_is_a_fault_and_no_figures(tmp_path: Path, text: str) -> None:
    figures, faults = read_host(Root(plant(tmp_path, kernel() | {"/proc/meminfo": text})))
    assert figures is None
    assert [(fault.kind, fault.subject) for fault in faults] == [
        (FaultKind.KERNEL_UNREADABLE, "/proc/meminfo")
    ]


def test_an_empty_tree_is_a_fault_not_an_exception(tmp_path: Path) -> None:
    figures, faults = read_host(Root(tmp_path))
    assert figures is None
    assert len(faults) == 1


def test_a_kernel_built_without_swap_has_none(tmp_path: Path) -> None:
    figures = figures_of(
        plant(tmp_path, {"/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 500 kB\n", "/proc/vmstat": ""})
    )
    assert (figures.swap_total, figures.swap_free, figures.swap_in, figures.swap_out) == (0, 0, 0, 0)


def test_files_longer_than_a_page_are_read_to_their_end() -> None:
    """The kernel hands out lists a page at a time; /proc/vmstat is about that long, smaps always longer."""
    text = Root().text("/proc/self/smaps")
    assert text is not None
    assert "[stack]" in text


def test_this_very_host_is_plausible() -> None:
    figures = figures_of(Path("/"))
    assert 0 < figures.available <= figures.total
    assert 0 <= figures.swap_free <= figures.swap_total
    assert min(figures.swap_in, figures.swap_out, figures.oom_kills) >= 0
    if figures.pressure is not None:
        assert 0 <= figures.pressure.full_avg10 <= 1
        assert 0 <= figures.pressure.some_avg10 <= 1
    if figures.ksm is not None:
        assert figures.ksm.run in (0, 1, 2)
        assert figures.ksm.saved >= 0
