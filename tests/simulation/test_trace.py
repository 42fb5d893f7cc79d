"""Are traces read, refused, dealt and drawn out as their page says?"""

from __future__ import annotations

import contextlib
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balloond.sim.synthetic import synthesize
from balloond.sim.trace import Ramp, TraceError, deal, load, trace_of
from balloond.units import GIB, MIB


def save(path: Path, **changes: Any) -> Path:  # Any: arrays of any type and shape, broken ones above all
    arrays = {
        "usage_gib": np.full((3, 4), 0.5, dtype=np.float16),
        "capacity_gib": np.array([1, 2, 8], dtype=np.float32),
        "step_s": np.int32(300),
        **changes,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_a_trace_has_its_resident_base_added_and_is_clipped_at_capacity(tmp_path: Path) -> None:
    usage = np.array([[0.95, 0.5], [0.5, 0.5], [0.5, 0]])
    trace = load(save(tmp_path / "t.npz", usage_gib=usage))
    assert trace.wanted[0].tolist() == [1.0 * GIB, np.floor(0.6 * GIB)]  # 10 % of 1 GiB, up to the capacity
    assert trace.wanted[1].tolist() == [np.floor((0.5 + 0.2) * GIB)] * 2
    assert trace.wanted[2].tolist() == [0.5 * GIB + 256 * MIB, 256.0 * MIB]  # 256 MiB at most
    assert trace.slot_s == 300


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"usage_gib": None}, "has no array usage_gib; it has capacity_gib, step_s"),
        ({"usage_gib": np.zeros((2, 4))}, "usage_gib has 2 machines, capacity_gib 3"),
        ({"usage_gib": np.zeros(3)}, "one row a machine"),
        ({"usage_gib": np.zeros((3, 1))}, "3 machines and 1 slots"),
        ({"usage_gib": np.full((3, 4), np.nan)}, "usage_gib must be a finite number from 0 up everywhere"),
        ({"usage_gib": np.full((3, 4), -1.0)}, "usage_gib must be a finite number from 0 up everywhere"),
        ({"usage_gib": np.full((3, 4), "much")}, "no .npz file with arrays of numbers"),
        ({"usage_gib": np.full((3, 4), 1j)}, "usage_gib holds complex128"),
        ({"usage_gib": np.full((3, 4), np.datetime64(1, "s"))}, "usage_gib holds datetime64[s]"),
        ({"step_s": np.timedelta64(300, "s")}, "step_s holds timedelta64[s]"),
        ({"capacity_gib": np.ones(3, dtype=bool)}, "capacity_gib holds bool"),
        ({"capacity_gib": np.zeros(3)}, "capacity_gib must be from 1 MiB"),
        ({"capacity_gib": np.array([1, 2, np.inf])}, "capacity_gib must be from 1 MiB"),
        ({"capacity_gib": np.array([1, 2, np.nan])}, "capacity_gib must be from 1 MiB"),
        ({"capacity_gib": np.array([1, 2, 1e-9])}, "capacity_gib must be from 1 MiB"),  # less than a byte
        ({"capacity_gib": np.array([1, 2, 1e300])}, "capacity_gib must be from 1 MiB"),
        ({"capacity_gib": np.array([1, 2, np.longdouble("1e4000")])}, "capacity_gib must be from 1 MiB"),
        ({"capacity_gib": np.ones((3, 3))}, "capacity_gib must have one number a machine"),
        ({"step_s": np.array([1, 2])}, "step_s must be one number, not 2"),
        ({"step_s": 7}, "step_s is 7; it must be a multiple of 10"),
        ({"step_s": np.nan}, "step_s is nan"),
        ({"step_s": 1e300}, "step_s is 1e+300"),
        ({"step_s": np.array({"a": 1}, dtype=object)}, "no .npz file with arrays of numbers"),
    ],
)
def test_a_broken_trace_is_refused_with_what_is_wrong(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(TraceError) as refused:
        load(save(tmp_path / "t.npz", **changes))
    assert told in str(refused.value)
    assert "t.npz" in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04 half an archive", b"\x93NUMPY\x01\x00"]
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"t\.npz"):
        load(path)


def head(shape: str) -> bytes:
    """An array's file of which nothing but the head is there."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            head("(1000000000, 100000000)"),
            "usage_gib has the shape (1000000000, 100000000); 50,000,000 numbers",
        ),
        (head("(100000000000000000000, 10)"), "50,000,000 numbers are the most"),
        (head("(-1, 10)"), "50,000,000 numbers are the most"),
        (head("(3, 4)"), "no .npz file with arrays of numbers"),  # and not a number follows
        (head("(3, '"), "no .npz file with arrays of numbers"),  # the string has no end
        (b"\x93NUMPY\x03\x00", "no .npz file with arrays of numbers"),
        (b"1,2,3", "no .npz file with arrays of numbers"),
    ],
)
def test_an_array_that_is_no_such_thing_is_refused_before_memory_is_taken_for_it(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = save(tmp_path / "t.npz", usage_gib=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("usage_gib.npy", content)
    with pytest.raises(TraceError, match=re.escape(told)):
        load(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_whatever_byte_of_a_trace_is_broken_it_is_read_or_refused(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "t.npz"
    arrays = {"usage_gib": np.full((3, 4), 0.5), "capacity_gib": np.ones(3), "step_s": np.int32(300)}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)  # type: ignore[arg-type]  # it takes any name
    whole = path.read_bytes()
    chance = random.Random(1)
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] = chance.randrange(256)
        path.write_bytes(broken)
        with contextlib.suppress(TraceError):
            load(path)


def test_a_traces_name_moves_no_cursor(tmp_path: Path) -> None:
    good = load(save(tmp_path / "a\x1b[31m\nb.npz"))
    assert good.name == r"a\x1b[31m\nb.npz"
    with pytest.raises(TraceError) as refused:
        load(save(tmp_path / "a\x1b[31m\nb.npz", step_s=7))
    assert str(refused.value).isprintable()


def test_a_lone_array_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(TraceError, match=r"t\.npy"):
        load(path)


def test_a_missing_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        load(tmp_path / "none.npz")


def test_the_same_seed_deals_the_same_hosts_and_another_seed_others() -> None:
    trace = synthesize(0.1, seed=1)
    dealt = deal(trace, days=0.1, seed=5)
    assert dealt.machines.tolist() == deal(trace, days=0.1, seed=5).machines.tolist()
    assert dealt.machines.tolist() != deal(trace, days=0.1, seed=6).machines.tolist()


def test_machines_that_fill_no_host_are_left_out_and_nobody_is_dealt_twice() -> None:
    worlds = deal(synthesize(0.1, seed=1, machines=47), days=0.1)
    assert worlds.machines.shape == (2, 20)
    assert len(set(worlds.machines.ravel().tolist())) == 40


def test_too_few_machines_share_one_smaller_host() -> None:
    assert deal(synthesize(0.1, seed=1, machines=7), days=0.1).machines.shape == (1, 7)


def test_a_host_has_what_its_machines_claim_divided_by_the_overcommitment() -> None:
    worlds = deal(synthesize(0.1, seed=1, machines=20), days=0.1)
    assert worlds.totals(2.0).tolist() == [float(worlds.capacity.sum() // 2)]


def test_a_trace_shorter_than_asked_for_is_used_to_its_end() -> None:
    worlds = deal(synthesize(0.5, seed=1), days=9)
    assert worlds.steps == 0.5 * 8640
    assert worlds.machine_days == pytest.approx(60 * 0.5)


def test_less_than_a_slot_is_no_time_to_simulate() -> None:
    with pytest.raises(TraceError, match="less than one slot"):
        deal(synthesize(0.5, seed=1), days=0.001)


def ramp(which: Ramp) -> list[float]:
    usage = np.array([[0.0, 6.0, 3.0]])
    trace = trace_of("t", usage, np.array([100.0]), 60.0)
    worlds = deal(trace, days=1)
    base = 256 * MIB
    return [(wanted - base) / GIB for block in worlds.blocks(which) for wanted in block[:, 0, 0].tolist()]


def test_a_linear_ramp_is_a_line_from_sample_to_sample() -> None:
    assert ramp(Ramp.LINEAR) == pytest.approx([0, 1, 2, 3, 4, 5, 6, 5.5, 5, 4.5, 4, 3.5])


def test_a_step_is_all_at_once_in_the_middle_of_the_slot() -> None:
    assert ramp(Ramp.STEP) == [0, 0, 0, 6, 6, 6, 6, 6, 6, 3, 3, 3]


def test_made_up_machines_are_the_same_for_the_same_seed_and_within_their_capacity() -> None:
    one, same, other = synthesize(1, seed=4), synthesize(1, seed=4), synthesize(1, seed=5)
    assert one.wanted.tolist() == same.wanted.tolist()
    assert one.wanted.tolist() != other.wanted.tolist()
    assert (one.wanted <= one.capacity[:, None]).all()
    assert (one.wanted > 0).all()
