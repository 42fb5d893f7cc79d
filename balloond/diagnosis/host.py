"""Is the host set up as it should be?

One small judgement for each thing that matters to overcommitted memory. What is fine is told where somebody who
asks would want to know it, and passed over otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, assert_never

from balloond.config.settings import KsmMode
from balloond.diagnosis.finding import Finding, advice, told, unsafe
from balloond.diagnosis.traits import Cgroups, Traits
from balloond.model import Fault, FaultKind, Ksm, Solvency
from balloond.policy.solvency import swap_remedy
from balloond.units import format_size

STOP_KSM: Final = "echo 0 > /sys/kernel/mm/ksm/run"
"""Keeps what is merged, for which there may be no room apart."""

MIN_FREE_MOST: Final = 0.05
"""Of all memory. The kernel's own choice is below 1 % from 4 GiB on; what is kept here no guest can ever have."""


def examine_host(traits: Traits, solvency: Solvency | None, ksm_mode: KsmMode) -> Iterator[Finding]:
    """Every finding about the host itself. Without guests, or without its figures, solvency is not known.
    `ksm_mode`: what the configuration wants of merging."""
    if solvency is not None:
        yield from _solvency(solvency)
    for judge in _JUDGES:
        yield from judge(traits)
    yield from _merging(traits.ksm, ksm_mode)


def examine_faults(faults: Iterable[Fault]) -> Iterator[Finding]:
    """What keeps the figures of a host, which can be read, from being the whole truth about its guests."""
    for fault in faults:
        if fault.kind is FaultKind.POOL_DIVIDED:
            yield unsafe(
                "guests stand under different memory limits, and solvency is judged as if only common ones held",
                fault.detail,
                "# put the guests in one place, or say manage: false of those apart",
            )
        elif fault.kind is FaultKind.KERNEL_UNREADABLE:
            yield advice(
                f"{fault.subject} can't be read, and solvency is judged without it",
                fault.detail,
                "# run balloond and its doctor where it can be seen, not in a container",
            )


def _solvency(solvency: Solvency) -> Iterator[Finding]:
    if solvency.memory_missing:
        yield unsafe(
            f"what can't be swapped may take {format_size(solvency.memory_missing)} more than there is",
            "locked, passed-through and confidential memory, what a cgroup keeps out of swap, and what goes to "
            "zram, has to fit into the host; no swap stands in for it",
            "# move a guest to another host, make it or zram smaller, or let it have swap (memory.swap.max)",
        )
    if solvency.swap_missing:
        yield unsafe(
            f"{format_size(solvency.swap_missing)} of swap on disk are missing should all guests take all",
            "a reboot takes a guest's memory back without asking; without swap the kernel then has to kill one",
            "\n".join(swap_remedy(solvency.swap_missing, solvency.swap_withheld, solvency.zram_beyond)),
        )
    if solvency.solvent:
        yield told(
            f"solvent: {format_size(solvency.spare)} would be left if all guests took all their memory",
            "guests alone can't bring the host to kill one of them",
        )


def _processor(traits: Traits) -> Iterator[Finding]:
    if traits.virtualization is None:
        yield advice(
            "the processor offers neither VT-x nor AMD-V here",
            "guests are emulated: slow, and QEMU needs more memory for each",
            "# turn virtualization on in the firmware, or nesting on in the host above this one",
        )
    elif not traits.kvm:
        module = "kvm_intel" if traits.virtualization == "vmx" else "kvm_amd"
        yield advice(
            "there is no /dev/kvm", "guests are emulated, though they need not be", f"modprobe {module}"
        )
    else:
        name = "VT-x" if traits.virtualization == "vmx" else "AMD-V"
        yield told(f"KVM with {name}", "guests run on the processor itself")
    if traits.nested:
        yield told(
            "guests may run guests of their own (nested)",
            "what an inner guest uses is opaque: its host reports it as used, and merging does not reach into it",
        )
    elif traits.nested is not None:
        yield told("guests may not run guests of their own (nesting is off)", "balloond needs no nesting")


def _pressure(traits: Traits) -> Iterator[Finding]:
    if not traits.psi:
        yield advice(
            "the kernel keeps no pressure figures (PSI)",
            "a burst is seen at the next interval only, not at the instant when somebody waits for memory",
            "# add psi=1 to the kernel's command line and reboot",
        )
    else:
        yield told(
            "the kernel keeps pressure figures (PSI)",
            "a burst is seen when somebody waits for memory, at once",
        )


def _merging(ksm: Ksm | None, mode: KsmMode) -> Iterator[Finding]:
    """`run` stays at 2 after all was unmerged, by balloond or by somebody else: that is another way to be off."""
    if ksm is None:
        yield told(
            "the kernel has no same-page merging (KSM)", "equal pages of guests are kept several times"
        )
        return
    saves = f", which saves {format_size(ksm.saved)}" if ksm.saved else ""
    if ksm.run == 1 and mode is KsmMode.OFF:
        yield (unsafe if ksm.saved else advice)(
            f"KSM is on{saves}, though the configuration says ksm.mode: off",
            "between guests of different owners merging opens side channels; somebody else turned it on, or no "
            "balloond in mode active runs: one that does takes apart what is merged, once there is room and "
            "nobody else sets it any more",
            STOP_KSM,
        )
    elif ksm.run == 2 and ksm.saved and mode is not KsmMode.OFF:
        yield advice(
            f"KSM was told to unmerge everything: {format_size(ksm.saved)} are still merged",
            "this takes memory, and merging stays off afterwards; where that is not wanted it can be broken off",
            STOP_KSM,
        )
    else:
        yield told(
            f"KSM is {'on' if ksm.run == 1 else 'off'}{saves}",
            "between guests of different owners merging opens side channels; it is the operator's choice",
        )


def _swap(traits: Traits) -> Iterator[Finding]:
    if not traits.swap_total:
        yield told("no swap", "then solvency rests on memory alone")
    if traits.zram_total:
        yield told(
            f"{format_size(traits.zram_total)} of swap are on zram",
            "zram keeps in memory what is swapped to it, so it counts as none",
        )
    if traits.zswap:
        yield told(
            "zswap is on",
            "swap behind it counts as disk; the memory that its pool may take is counted as the host's own",
        )
    if traits.swap_total and traits.swappiness == 0:
        yield advice(
            "vm.swappiness is 0",
            "the kernel then swaps as its last resort, and in a limited cgroup never: it kills with swap to spare",
            "sysctl -w vm.swappiness=60",
        )


def _huge_pages(traits: Traits) -> Iterator[Finding]:
    if traits.huge_pages == "never":
        yield advice(
            "transparent huge pages are off",
            "guests run slower: each miss of the processor's address cache walks two page tables",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    elif traits.huge_pages is not None and (traits.max_ptes_none or 0) > 0:
        yield advice(
            f"khugepaged may fill {traits.max_ptes_none} missing pages to make a huge one",
            "memory that a balloon has released comes back a huge page at a time, where one page of it is in use",
            "echo 0 > /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none",
        )


def _cgroups(traits: Traits) -> Iterator[Finding]:
    match traits.cgroups:
        case Cgroups.NONE:
            yield advice(
                "memory is not accounted in cgroups",
                "neither a limit on all guests nor reclaim from one of them is possible",
                "# remove cgroup_disable=memory from the kernel's command line and reboot",
            )
        case Cgroups.V1 | Cgroups.HYBRID:
            yield advice(
                f"memory is accounted in cgroups of version 1 ({traits.cgroups})",
                "they have no memory.reclaim, no memory.high, and no pressure of a single guest's memory",
                "# add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot",
            )
        case Cgroups.V2:
            yield told("memory is accounted in cgroups of version 2", "nothing to mend")
        case _:
            assert_never(traits.cgroups)


def _rivals(traits: Traits) -> Iterator[Finding]:
    for program in traits.programs:
        if program.name in _RIVALS:
            yield _RIVALS[program.name](program.name, program.pid)
    ours = [program.pid for program in traits.programs if program.name in _OURS]
    if len(ours) > 1:
        yield unsafe(
            f"{len(ours)} balloonds run (processes {', '.join(map(str, ours))})",
            "unless each has guests of its own, they fight over every balloon",
            "# stop all but one",
        )
    elif not ours:
        yield told("no balloond runs", "balloons stay as they are")


_OURS: Final = ("balloond", "balloond.daemon")  # as a program, and as `python -m`


def _ballooner(name: str, pid: int) -> Finding:
    return unsafe(
        f"{name} runs (process {pid}) and may set balloons too",
        "two that set the same balloons undo each other's work, and guests are shrunk for nobody",
        _STOPS.get(name, f"systemctl disable --now {name}"),
    )


def _tuner(name: str, pid: int) -> Finding:
    return advice(
        f"{name} runs (process {pid}) and steers KSM too",
        "two that steer KSM undo each other's settings",
        _STOPS.get(name, f"systemctl disable --now {name}"),
    )


def _killer(name: str, pid: int) -> Finding:
    return unsafe(
        f"{name} runs (process {pid})",
        "it kills the largest process when memory is short, long before balloond is done: that is a guest",
        f"systemctl disable --now {name}",
    )


def _cgroup_killer(name: str, pid: int) -> Finding:
    return told(
        f"{name} runs (process {pid})",
        "it kills whole cgroups under pressure, where ManagedOOM…= allows it; leave machine.slice out of that",
    )


_RIVALS: Final[dict[str, Callable[[str, int], Finding]]] = {
    "momd": _ballooner,
    "pvestatd": _ballooner,
    "squeezed": _ballooner,
    "ksmtuned": _tuner,
    "virt-handler": _tuner,
    "earlyoom": _killer,
    "nohang": _killer,
    "systemd-oomd": _cgroup_killer,
}
_STOPS: Final = {
    "momd": "systemctl disable --now momd mom-vdsm",
    "pvestatd": 'for vmid in $(qm list | sed 1d | cut -c1-10); do qm set "$vmid" --balloon 0; done',
    "ksmtuned": "systemctl disable --now ksmtuned ksm",
    "virt-handler": "# take ksmConfiguration out of the KubeVirt object",
}


def _kernel_settings(traits: Traits) -> Iterator[Finding]:
    if traits.min_free is not None and traits.total and traits.min_free > MIN_FREE_MOST * traits.total:
        yield advice(
            f"vm.min_free_kbytes keeps {format_size(traits.min_free)} free",
            "that is more than a twentieth of the host, and no guest can ever have it",
            f"sysctl -w vm.min_free_kbytes={int(0.01 * traits.total) // 1024}",
        )
    if traits.overcommit == 2:
        yield advice(
            "vm.overcommit_memory is 2: nothing may be promised that is not there",
            "guests that would fit with balloons are refused their start",
            "sysctl -w vm.overcommit_memory=0",
        )


def _zeroing(traits: Traits) -> Iterator[Finding]:
    words = {True: "on", False: "off", None: "unknown"}
    yield told(
        f"pages are zeroed on allocation: {words[traits.zeroes_on_alloc]}, "
        f"on release: {words[traits.zeroes_on_free]} (init_on_alloc, init_on_free)",
        "no guest sees another's memory either way: a page that a process faults in is always zero-filled; "
        "with zeroing on release what a guest let go of also leaves the host's memory at once",
    )


_JUDGES: Final[tuple[Callable[[Traits], Iterator[Finding]], ...]] = (
    _processor,
    _pressure,
    _swap,
    _huge_pages,
    _cgroups,
    _rivals,
    _kernel_settings,
    _zeroing,
)
