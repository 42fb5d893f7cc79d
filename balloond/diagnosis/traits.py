"""What is there to know of a host, beyond what each tick reads? The values; `host.survey` fills them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from balloond.model import Guest, Ksm


class Cgroups(enum.StrEnum):
    """Which kind of cgroups the host accounts memory in."""

    V2 = "v2"
    V1 = "v1"
    HYBRID = "hybrid"  # memory on v1, a v2 tree beside it
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A running program that matters here, by the name that it was started under."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A guest, running or not, as libvirt will start it the next time."""

    guest: Guest  # UNREADABLE where the definition makes no sense
    stored: bool  # False: it is gone with the guest (transient), and is the one that it runs with
    architecture: str = ""  # of its processor, as libvirt names it; empty: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """A host at one instant. None: not known, or the kernel has no such thing; memory in bytes."""

    release: str = ""  # the kernel's
    virtualization: str | None = None  # the processor's flag: `vmx` (Intel's VT-x) or `svm` (AMD-V)
    kvm: bool = False  # whether there is /dev/kvm
    kvm_runs: tuple[str, ...] = ()  # architectures of guests that libvirt says KVM runs here
    nested: bool | None = None  # whether guests may run guests of their own
    psi: bool = False
    ksm: Ksm | None = None
    huge_pages: str | None = None  # transparent ones: `always`, `madvise` or `never`
    max_ptes_none: int | None = None  # of 512 pages: so many may be missing where khugepaged fills up
    cgroups: Cgroups = Cgroups.NONE
    placeless: tuple[str, ...] = ()  # UUIDs of guests that have no cgroup of their own
    programs: tuple[Program, ...] = ()
    zeroes_on_alloc: bool | None = None
    zeroes_on_free: bool | None = None
    total: int | None = None
    swap_total: int = 0
    zram_total: int = 0  # of it
    zswap: bool = False
    min_free: int | None = None  # vm.min_free_kbytes
    overcommit: int | None = None  # vm.overcommit_memory
    swappiness: int | None = None  # vm.swappiness
    hypervisor: tuple[int, int, int] | None = None  # QEMU's version, as libvirt found it
