"""What is set badly on this host, why does it matter, and what mends it?

The visit: reads the host, and the guests over a read-only connection, and has `diagnosis` judge. It works with or
without a running daemon, and without libvirt, which it then says. It changes nothing, ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from balloond.config.settings import Config, Mode
from balloond.diagnosis.finding import Finding, advice
from balloond.diagnosis.guests import examine_guests
from balloond.diagnosis.host import examine_faults, examine_host
from balloond.diagnosis.traits import Definition
from balloond.host.files import Root
from balloond.host.guests import Guests
from balloond.host.survey import survey
from balloond.host.world import RealWorld
from balloond.model import Snapshot
from balloond.policy.decide import decide

LOOKS: Final = 2
"""A first look may find libvirt just being started by its socket."""

PAUSE_S: Final = 1.0
VERSION_S: Final = 2.0
CAPABILITIES_S: Final = 5.0  # a libvirt that has just been started asks each QEMU first
DEFINITIONS_S: Final = 5.0  # for all of them; each takes libvirt some 1 ms


def visit(config: Config, root: Path = Path("/")) -> tuple[Finding, ...]:
    """All findings, of the host first. `root` holds `proc` and `sys`."""
    quiet = replace(config, mode=Mode.OBSERVE)
    guests = Guests(
        uri=config.libvirt_uri,
        period_s=config.interval_s,
        state_directory=config.state_directory,
        read_only=True,
    )
    world = RealWorld(
        guests,
        config=lambda: quiet,
        monotonic=time.monotonic,
        wall=time.time,
        state=Path(config.state_directory),
        root=root,
    )
    try:
        snapshot = _look(world)
        hypervisor: tuple[int, int, int] | None = None
        kvm_runs: tuple[str, ...] = ()
        definitions: tuple[Definition, ...] = ()
        missing = ""
        if snapshot.guests is not None:
            hypervisor = guests.hypervisor(VERSION_S)
            kvm_runs = guests.kvm_runs(CAPABILITIES_S)
            definitions, missing = guests.definitions(DEFINITIONS_S)
        traits = survey(Root(root), guests.qemu_pids, hypervisor=hypervisor, kvm_runs=kvm_runs)
    finally:
        world.close()
        guests.close()
    decision = decide(quiet, None, snapshot)
    return (
        *_unread(snapshot, missing),
        *examine_host(traits, decision.solvency, config.ksm.mode),
        *examine_guests(
            snapshot.guests or (),
            definitions,
            traits,
            interval_s=config.interval_s,
            active=config.mode is Mode.ACTIVE,
        ),
    )


def _look(world: RealWorld) -> Snapshot:
    snapshot = world.observe()
    for _ in range(LOOKS - 1):
        if snapshot.guests is not None:
            break
        time.sleep(PAUSE_S)
        snapshot = world.observe()
    return snapshot


def _unread(snapshot: Snapshot, missing: str) -> Iterator[Finding]:
    """What could not be looked at, so that nobody takes silence for health. `missing`: why not every definition
    was read; empty: they all were."""
    if snapshot.guests is None:
        why = "; ".join(fault.detail for fault in snapshot.faults) or "no reason was given"
        yield advice(
            "libvirt does not answer, so guests and solvency were not judged",
            why,
            "systemctl start virtqemud || systemctl start libvirtd",
        )
    if missing:
        yield advice(
            "not every guest's stored definition could be read, so those shut off were not all judged",
            missing,
            "virsh -c URI list --all && balloonctl doctor",
        )
    if snapshot.host is None:
        yield advice(
            "the host's memory can't be read, so solvency was not judged",
            "; ".join(fault.detail for fault in snapshot.faults) or "no reason was given",
            "cat /proc/meminfo",
        )
    else:
        yield from examine_faults(snapshot.faults)
