"""Is what lies in a process's memory found page by page, and is nothing brought into being by looking?"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.lab.faults import LabError
from balloond.lab.memory import holding
from balloond.units import MIB, PAGE

pytestmark = pytest.mark.contract

SIZE = 37 * MIB + 5 * PAGE  # no other mapping of this process is just as large


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        yield memory


def present() -> int:
    return holding(os.getpid(), SIZE, b"").pages


def test_every_page_with_the_marker_is_found_wherever_in_it_that_stands(memory: mmap.mmap) -> None:
    marker = secrets.token_bytes(16)
    for page, offset in ((0, 0), (1, 4080), (1024, 7), (1025, 7), (9476, 4080)):  # the last one is the last
        memory[page * PAGE + offset : page * PAGE + offset + 16] = marker
    memory[2000 * PAGE] = 1  # there, and empty of it
    found = holding(os.getpid(), SIZE, marker)
    assert found.pages == 5
    assert present() == 6


def test_looking_brings_no_page_into_being(memory: mmap.mmap) -> None:
    memory[0] = 1
    assert present() == 1
    assert present() == 1


def test_what_was_released_is_gone(memory: mmap.mmap) -> None:
    memory[: 100 * PAGE] = b"x" * 100 * PAGE
    assert holding(os.getpid(), SIZE, b"xxx").pages == 100
    memory.madvise(mmap.MADV_DONTNEED, 10 * PAGE, 90 * PAGE)
    assert holding(os.getpid(), SIZE, b"xxx").pages == 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is told of page frames")
def test_frames_are_the_hosts_own_one_a_page(memory: mmap.mmap) -> None:
    memory[: 8 * PAGE] = b"y" * 8 * PAGE
    assert len(holding(os.getpid(), SIZE, b"y").frames - {0}) == 8


def test_a_process_without_such_a_mapping_is_an_error_in_words() -> None:
    assert Path("/proc/self/maps").exists()
    with pytest.raises(LabError, match="no mapping of 12345"):
        holding(os.getpid(), 12345, b"")
