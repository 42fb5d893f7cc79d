"""What is this host like, beyond what each tick reads?

Read once, when somebody asks for a diagnosis: the processor, the kernel's configuration and settings, the kind of
cgroups, the programs that run. What can't be read is None, never a guess; nothing is written, and no program is
started.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from balloond.diagnosis.traits import Cgroups, Program, Traits
from balloond.host.cgroup import TREE, place_in, unified_tree
from balloond.host.files import Root, number_after
from balloond.host.kernel import MEMINFO, PRESSURE, read_ksm, read_pressure
from balloond.host.merged import Merged
from balloond.host.swap import read_swap
from balloond.units import KIB

HUGE_PAGES: Final = "/sys/kernel/mm/transparent_hugepage"
LONGEST_CONFIG: Final = 4 * 1024 * KIB  # unpacked; Debian's has 250 KiB

_INTERPRETERS: Final = re.compile(r"(python|perl|bash|dash|sh|ruby)[0-9.]*")
_COMMAND_LENGTH: Final = 4096  # characters of a command line; names stand at its beginning


def survey(
    root: Root,
    pids: Mapping[str, int],
    *,
    hypervisor: tuple[int, int, int] | None = None,
    kvm_runs: tuple[str, ...] = (),
) -> Traits:
    """The host's traits. `pids` are the guests' processes by UUID; `hypervisor` and `kvm_runs` are what libvirt
    says."""
    memory = root.text(MEMINFO)
    swap = read_swap(root, memory)
    release = (root.text("/proc/sys/kernel/osrelease") or "").strip()
    options, config = (root.text("/proc/cmdline") or "").split(), _kernel_config(root, release)
    total, swap_total = number_after("MemTotal:", memory), number_after("SwapTotal:", memory)
    min_free = root.number("/proc/sys/vm/min_free_kbytes")
    return Traits(
        release=release,
        virtualization=_virtualization(root.text("/proc/cpuinfo")),
        kvm=root.has("/dev/kvm"),
        kvm_runs=kvm_runs,
        nested=_nested(root),
        psi=read_pressure(root, PRESSURE) is not None,
        ksm=Merged(root).told_apart(read_ksm(root), pids.values(), 0.0),
        huge_pages=_chosen_in(root.text(f"{HUGE_PAGES}/enabled")),
        max_ptes_none=root.number(f"{HUGE_PAGES}/khugepaged/max_ptes_none"),
        cgroups=_cgroups(root),
        placeless=tuple(sorted(uuid for uuid, pid in pids.items() if not _has_place(root, pid))),
        programs=tuple(_programs(root)),
        zeroes_on_alloc=_zeroes("init_on_alloc", options, config),
        zeroes_on_free=_zeroes("init_on_free", options, config),
        total=total * KIB if total is not None else None,
        swap_total=(swap_total or 0) * KIB,
        zram_total=swap.zram_total,
        zswap=swap.zswap,
        min_free=min_free * KIB if min_free is not None else None,
        overcommit=root.number("/proc/sys/vm/overcommit_memory"),
        swappiness=root.number("/proc/sys/vm/swappiness"),
        hypervisor=hypervisor,
    )


def _virtualization(cpuinfo: str | None) -> str | None:
    flags = next((line for line in (cpuinfo or "").splitlines() if line.startswith("flags")), "").split()
    return next((flag for flag in ("vmx", "svm") if flag in flags), None)


def _nested(root: Root) -> bool | None:
    texts = (root.text(f"/sys/module/{module}/parameters/nested") for module in ("kvm_intel", "kvm_amd"))
    found = [text.strip() in ("Y", "1") for text in texts if text is not None]
    return any(found) if found else None


def _chosen_in(text: str | None) -> str | None:
    """The word in brackets: `always [madvise] never`."""
    chosen = re.search(r"\[(\w+)\]", text or "")
    return chosen[1] if chosen else None


def _cgroups(root: Root) -> Cgroups:
    """Where the memory controller is decides; a v2 tree may stand beside v1 with or without it."""
    unified = root.text(f"{unified_tree(root)}/cgroup.controllers")
    if root.has(f"{TREE}/memory/memory.limit_in_bytes"):
        return Cgroups.V1 if unified is None else Cgroups.HYBRID
    return Cgroups.V2 if "memory" in (unified or "").split() else Cgroups.NONE


def _has_place(root: Root, pid: int) -> bool:
    place = place_in(root.text(f"/proc/{pid}/cgroup"))
    return place is not None and place.own is not None


def _zeroes(option: str, options: list[str], config: Mapping[str, str]) -> bool | None:
    """What the kernel's command line says, the last word of it, else what the kernel was built with."""
    said = [word.partition("=")[2] for word in options if word.startswith(f"{option}=")]
    if said:
        return said[-1] in ("1", "y", "on", "Y")
    built = config.get(f"CONFIG_{option.upper()}_DEFAULT_ON")
    return built == "y" if config else None


def _kernel_config(root: Root, release: str) -> dict[str, str]:
    """The running kernel's configuration; empty when it is nowhere to be had."""
    text = _unpacked(root, "/proc/config.gz")
    if text is None and "/" not in release:
        places = (f"/boot/config-{release}", f"/lib/modules/{release}/config")
        text = next((found for place in places if (found := root.text(place)) is not None), None)
    pairs = (line.partition("=") for line in (text or "").splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in pairs}


def _unpacked(root: Root, path: str) -> str | None:
    try:
        with gzip.open(root.real(path)) as file:
            return file.read(LONGEST_CONFIG).decode(errors="replace")
    except (OSError, EOFError):  # absent, or no gzip file at all
        return None


def _programs(root: Root) -> Iterator[Program]:
    """Every process by the name of its program; those that end meanwhile are left out."""
    try:
        entries = os.listdir(root.real("/proc"))  # noqa: PTH208  (names alone are wanted)
    except OSError:
        return
    for pid in sorted(int(entry) for entry in entries if entry.isascii() and entry.isdecimal()):
        line = root.text(f"/proc/{pid}/cmdline")
        if line:  # a kernel thread has none
            yield Program(name=program_name(line[:_COMMAND_LENGTH].split("\0")), pid=pid)


def program_name(words: list[str]) -> str:
    """The program's name in a command line: a script's where an interpreter runs one, a module's after `-m`.

    Some daemons write their whole title into the first word (`pvestatd`, `sshd: user`).
    """
    first = PurePosixPath(words[0].partition(" ")[0]).name.rstrip(":")
    if not _INTERPRETERS.fullmatch(first):
        return first
    rest = iter(words[1:])
    for word in rest:
        if word == "-m":
            return next(rest, first)
        if word == "-c":  # what follows is a program's text
            return first
        if word and not word.startswith("-"):
            return Path(word).name
    return first
