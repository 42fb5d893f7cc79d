"""How is the host doing, by its kernel's own account?

Memory and swap (/proc/meminfo), paging and OOM kills since boot (/proc/vmstat), pressure (PSI) and same-page
merging (KSM): the whole host's, whatever part of it the guests may have; `host.cgroup` narrows it down. This
module must never fail on a kernel that lacks something, never write, and never guess a figure.

The files are parsed here rather than by psutil. psutil 7.2 took 1.1 MiB of the daemon's memory and 98 us a
tick for these figures (30 for virtual_memory, 68 for swap_memory), against 43 us here; it has no oom_kill, so
that vmstat would be read twice; its PROCFS_PATH is one for the whole process; and where MemAvailable is absent
it computes an estimate, which nothing here may act upon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from balloond.host.files import Root, number_after
from balloond.host.swap import Swap, read_swap
from balloond.model import Fault, FaultKind, Ksm, KsmSettings, Pressure
from balloond.units import KIB, PAGE

MEMINFO: Final = "/proc/meminfo"
VMSTAT: Final = "/proc/vmstat"
PRESSURE: Final = "/proc/pressure/memory"
KSM: Final = "/sys/kernel/mm/ksm"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFigures:
    """The whole host, in bytes; counters since boot."""

    total: int
    available: int  # MemAvailable: to be had without swapping
    swap_total: int
    swap_free: int
    swap_in: int
    swap_out: int
    swap: Swap  # what kind of swap that is
    huge_free: int  # huge pages of the default size that nobody has or was promised
    oom_kills: int  # of all cgroups, limited ones included
    pressure: Pressure | None  # None: no PSI in this kernel
    ksm: Ksm | None  # None: no KSM in this kernel


def read_host(root: Root, *, ksm_closely: bool = True) -> tuple[HostFigures | None, tuple[Fault, ...]]:
    """The host's figures now; None, with the fault that says why, when its memory can't be had. `ksm_closely`:
    see `read_ksm`."""
    memory = root.text(MEMINFO)
    total, available = number_after("MemTotal:", memory), number_after("MemAvailable:", memory)
    if not total or available is None or available > total:
        detail = f"no sound MemTotal and MemAvailable: {total} and {available} kB"
        return None, (Fault(kind=FaultKind.KERNEL_UNREADABLE, subject=MEMINFO, detail=detail),)
    events = root.text(VMSTAT)
    figures = HostFigures(
        total=total * KIB,
        available=available * KIB,
        swap_total=(number_after("SwapTotal:", memory) or 0)
        * KIB,  # absent, as in vmstat: a kernel built without swap
        swap_free=(number_after("SwapFree:", memory) or 0) * KIB,
        swap_in=(number_after("pswpin ", events) or 0) * PAGE,
        swap_out=(number_after("pswpout ", events) or 0) * PAGE,
        swap=read_swap(root, memory),
        huge_free=_huge_free(memory),
        oom_kills=number_after("oom_kill ", events) or 0,  # since 4.13
        pressure=read_pressure(root, PRESSURE),
        ksm=read_ksm(root, events, closely=ksm_closely),
    )
    return figures, ()


def read_pressure(root: Root, path: str) -> Pressure | None:
    """PSI from /proc/pressure/memory or a cgroup's memory.pressure; None when the kernel keeps none.

    The kernel prints percentages over ten seconds and a total in microseconds (Documentation/accounting/psi).
    """
    lines = {line.partition(" ")[0]: _fields_in(line) for line in (root.text(path) or "").splitlines()}
    try:
        return Pressure(
            some_avg10=float(lines["some"]["avg10"]) / 100,
            full_avg10=float(lines["full"]["avg10"]) / 100,
            some_total_us=int(lines["some"]["total"]),
        )
    except (KeyError, ValueError):
        return None


def read_ksm(root: Root, events: str | None = None, *, closely: bool = True) -> Ksm | None:
    """Same-page merging now; None where the kernel has none. `events`: the text of /proc/vmstat.

    While nothing is merged, and nobody is to steer it, most of it need not be looked at: `closely` False.
    """
    run = root.number(f"{KSM}/run")
    if run is None:
        return None
    sharing = root.number(f"{KSM}/pages_sharing") or 0
    zero = root.number(f"{KSM}/ksm_zero_pages") or 0  # since 6.6; not counted in pages_sharing
    settings, candidates, scanned = KsmSettings(), 0, None
    if closely or run:
        settings = read_ksm_settings(root)
        counts = (root.number(f"{KSM}/pages_{name}") or 0 for name in ("shared", "unshared", "volatile"))
        candidates = (sharing + sum(counts)) * PAGE
        scanned = root.number(f"{KSM}/pages_scanned")
    return Ksm(
        run=run,
        saved=(sharing + zero) * PAGE,
        profit=root.number(f"{KSM}/general_profit"),
        full_scans=root.number(f"{KSM}/full_scans") or 0,
        pages_to_scan=root.number(f"{KSM}/pages_to_scan") or 0,
        advisor=_chosen_in(root.text(f"{KSM}/advisor_mode")),
        candidates=candidates,
        scanned=None if scanned is None else scanned * PAGE,
        broken=((number_after("cow_ksm ", events) or 0) + (number_after("ksm_swpin_copy ", events) or 0))
        * PAGE,
        settings=settings,
    )


def read_ksm_settings(root: Root) -> KsmSettings:
    """How merging is set now."""
    return KsmSettings(
        run=root.number(f"{KSM}/run"),
        pages_to_scan=root.number(f"{KSM}/pages_to_scan"),
        sleep_ms=root.number(f"{KSM}/sleep_millisecs"),
        advisor=_chosen_in(root.text(f"{KSM}/advisor_mode")),
        advisor_target_s=root.number(f"{KSM}/advisor_target_scan_time"),
        advisor_max_cpu=root.number(f"{KSM}/advisor_max_cpu"),
        advisor_min_pages=root.number(f"{KSM}/advisor_min_pages_to_scan"),
    )


def _huge_free(memory: str | None) -> int:
    names = (
        "HugePages_Free:",
        "HugePages_Rsvd:",
        "Hugepagesize:",
    )  # pages, pages, kB; absent without hugetlb
    free, reserved, size = (number_after(name, memory) or 0 for name in names)
    return max(0, free - reserved) * size * KIB


def _fields_in(line: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in line.split()[1:])
    return {name: value for name, _, value in pairs}


def _chosen_in(text: str | None) -> str | None:
    """The word in brackets of `[none] scan-time`."""
    if text is None:
        return None
    return next((word[1:-1] for word in text.split() if word.startswith("[") and word.endswith("]")), None)
