"""What did real machines want, and which of them share a host?

A trace is the memory that machines used, slot by slot. Here it is read, checked, dealt into hosts and drawn out
into steps of the simulation. Nothing is invented: what lies between two samples is drawn in both ways that they
allow (`Ramp`). This module, and those that compute on its arrays, need numpy; nothing else of balloond does.
"""

from __future__ import annotations

import enum
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from balloond.config.problems import escape
from balloond.units import GIB, MIB

Array = npt.NDArray[np.float64]
"""Bytes, or whatever the name says. Whole bytes below 2^53 are exact, so sums are the same in any order."""

STEP_S: Final = 10.0
"""One step of a simulated host: MOM's and Proxmox's period, and statistics are then 10 s old, as the bars say."""

DAY_S: Final = 86_400.0

HOST_SIZE: Final = 20
"""Machines on a host: what the traces' provider and the figures of other papers on overcommitment have."""

BASE_MOST: Final = 256 * MIB
BASE_SHARE: Final = 0.10
"""A guest's resident base, the smaller of the two: recorded use is the hypervisor's *active* memory, 5 to 6 % of
capacity on average, which leaves out the kernel and programs that lie still."""


ARRAYS: Final = ("usage_gib", "capacity_gib", "step_s")

MOST_NUMBERS: Final = 50_000_000
"""In an array; 400 MB as they are computed with. July's 331 machines are 3 million, so this is a year and more."""

LEAST_CAPACITY: Final = MIB
MOST_CAPACITY: Final = 2**48
"""What x86 addresses with four levels of page tables; a host of 20 such machines is still exact in a double."""

MOST_SLOT_S: Final = DAY_S

_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error),  # the archive
    *(RuntimeError, KeyError),  # of zipfile: a password, an unknown method, a member that is none
    *(ValueError, TypeError, IndexError, OverflowError, SyntaxError, tokenize.TokenError),  # an array's head
)
"""All that zipfile and numpy were seen to raise over archives with random bytes in them, and their like."""


class TraceError(Exception):
    """A trace that cannot be used; the text says why and what would be right."""


class Ramp(enum.StrEnum):
    """What happens between two samples, which the trace does not tell."""

    LINEAR = "linear"  # a line from one to the next
    STEP = "step"  # all at once, in the middle of the slot


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """What machines wanted over time, the resident base included and never more than they have."""

    name: str
    capacity: Array  # bytes [machine]
    wanted: Array  # bytes [machine, slot]
    slot_s: float
    cut: npt.NDArray[
        np.bool_
    ]  # [machine, slot]: whether so much was recorded that the machine does not have it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worlds:
    """Hosts with equally many machines each, and what those want. `capacity` and `wanted` as in Trace."""

    machines: npt.NDArray[np.int64]  # the trace's machine numbers [host, guest]
    capacity: Array  # [host, guest]
    wanted: Array  # [host, guest, slot]; the last slot is where the last line leads to
    steps_a_slot: int
    cut: int = 0  # of the samples, how many were more than their machine has

    @property
    def hosts(self) -> int:
        return int(self.machines.shape[0])

    @property
    def steps(self) -> int:
        return (int(self.wanted.shape[2]) - 1) * self.steps_a_slot

    @property
    def machine_days(self) -> float:
        return self.machines.size * self.steps * STEP_S / DAY_S

    def only(self, host: int) -> Worlds:
        """The worlds of one host."""
        one = slice(host, host + 1)
        return replace(
            self, machines=self.machines[one], capacity=self.capacity[one], wanted=self.wanted[one]
        )

    def totals(self, overcommit: float) -> Array:
        """Each host's memory: what its machines claim, divided by the overcommitment."""
        return np.asarray(np.floor(self.capacity.sum(axis=1) / overcommit), dtype=np.float64)

    def blocks(self, ramp: Ramp) -> Iterator[Array]:
        """What is wanted, slot by slot: whole bytes [step, host, guest]."""
        passed = np.arange(self.steps_a_slot)[:, None, None] / self.steps_a_slot
        if ramp is Ramp.STEP:
            passed = np.where(passed < 0.5, 0.0, 1.0)
        for slot in range(self.wanted.shape[2] - 1):
            here, there = self.wanted[:, :, slot], self.wanted[:, :, slot + 1]
            yield np.floor(here * (1 - passed) + there * passed)


def load(path: Path) -> Trace:
    """The trace in an .npz file: `usage_gib` [machine, slot], `capacity_gib` [machine], `step_s`.

    Raises TraceError."""
    told = escape(str(path))
    try:
        if path.exists() and not path.is_file():
            raise TraceError(f"{told}: no regular file; name an .npz file of numpy")
        with zipfile.ZipFile(path) as archive:
            there = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            missing = [name for name in ARRAYS if name not in there]
            if missing:
                has = escape(", ".join(there))
                raise TraceError(f"{told}: has no array {', '.join(missing)}; it has {has or 'none'}")
            return trace_of(path.name, *(_read(archive, name) for name in ARRAYS))
    except OSError as error:
        reason = error.strerror or "it can't be read"
        raise TraceError(f"{told}: {reason}; name an .npz file of numpy that may be read") from error
    except MemoryError as error:
        raise TraceError(f"{told}: does not fit into this machine's memory") from error
    except _BROKEN as error:
        raise TraceError(f"{told}: no .npz file with arrays of numbers: {escape(str(error))}") from error


def _read(archive: zipfile.ZipFile, name: str) -> Array:
    """One array of real numbers. What its head says is looked at before there is memory for it."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.kind not in "iuf":
        raise ValueError(f"{name} holds {dtype}")
    if not 0 <= math.prod(shape) <= MOST_NUMBERS:
        raise ValueError(f"{name} has the shape {shape}; {MOST_NUMBERS:,} numbers are the most")
    with archive.open(f"{name}.npy") as file, np.errstate(over="ignore"):  # `_faults` tells of infinity
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False), dtype=np.float64)


def trace_of(name: str, usage_gib: Array, capacity_gib: Array, slot_s: Array | float) -> Trace:
    """A trace from its arrays, in GiB and seconds, checked, with the resident base. Raises TraceError."""
    name = escape(name)
    duration_s = np.asarray(slot_s, dtype=float)
    faults = [
        *(["capacity_gib must have one number a machine"] if capacity_gib.ndim != 1 else []),
        *(["usage_gib must have one row a machine, one column a slot"] if usage_gib.ndim != 2 else []),
        *([f"step_s must be one number, not {duration_s.size}"] if duration_s.size != 1 else []),
    ]
    if faults:
        raise TraceError(f"{name}: {'; '.join(faults)}")
    seconds = float(duration_s.reshape(()))
    faults = list(_faults(usage_gib, capacity_gib, seconds))
    if faults:
        raise TraceError(f"{name}: {'; '.join(faults)}")
    base_gib = np.minimum(BASE_MOST / GIB, BASE_SHARE * capacity_gib)[:, None]
    wanted_gib = np.minimum(usage_gib + base_gib, capacity_gib[:, None])
    return Trace(
        name=name,
        capacity=np.floor(capacity_gib * GIB),
        wanted=np.floor(wanted_gib * GIB),
        slot_s=seconds,
        cut=usage_gib > capacity_gib[:, None],
    )


def _faults(usage_gib: Array, capacity_gib: Array, slot_s: float) -> Iterator[str]:
    machines, slots = usage_gib.shape
    if machines != capacity_gib.size:
        yield f"usage_gib has {machines} machines, capacity_gib {capacity_gib.size}; they must be the same"
    if machines == 0 or slots < 2:
        yield f"there are {machines} machines and {slots} slots; at least 1 and 2 are needed"
    if not 2 * STEP_S <= slot_s <= MOST_SLOT_S or slot_s % STEP_S:
        yield f"step_s is {slot_s:g}; it must be a multiple of {STEP_S:g}, from {2 * STEP_S:g} to {MOST_SLOT_S:g}"
    if not ((capacity_gib >= LEAST_CAPACITY / GIB) & (capacity_gib <= MOST_CAPACITY / GIB)).all():
        yield "capacity_gib must be from 1 MiB (0.0009765625) to 256 TiB (262144) everywhere"
    if not (np.isfinite(usage_gib) & (usage_gib >= 0)).all():
        yield "usage_gib must be a finite number from 0 up everywhere"


def deal(trace: Trace, *, days: float, seed: int = 1) -> Worlds:
    """The trace's machines on hosts of HOST_SIZE, shuffled by the seed, over its first `days`.

    Machines that do not fill a last host are left out; where there are fewer than that, they share one.
    A trace that is shorter than `days` is used to its end. Raises TraceError where nothing is left."""
    count = len(trace.capacity)
    size = min(HOST_SIZE, count)
    machines = np.random.default_rng(seed).permutation(count)[: count // size * size].reshape(-1, size)
    slots = min(int(days * DAY_S / trace.slot_s), trace.wanted.shape[1] - 1)
    if slots < 1:
        raise TraceError(f"{trace.name}: {days:g} days are less than one slot of {trace.slot_s:g} s")
    return Worlds(
        machines=machines,
        capacity=trace.capacity[machines],
        wanted=trace.wanted[machines, : slots + 1],
        steps_a_slot=int(trace.slot_s / STEP_S),
        cut=int(np.count_nonzero(trace.cut[machines, : slots + 1])),
    )
