"""How the lab tells its own living processes from dead ones and from strangers with the same number."""

from __future__ import annotations

import os
import subprocess

from balloond.lab.leavings import identity, lives
from balloond.lab.patience import until


def test_a_process_is_known_by_number_and_start() -> None:
    assert lives(identity(os.getpid()))
    assert not lives(f"{os.getpid()} 1")


def test_a_process_that_ended_does_not_live_even_before_it_was_waited_for() -> None:
    with subprocess.Popen(["true"]) as ended:
        noted = identity(ended.pid)
        until(lambda: not lives(noted), "the process to end")
        assert ended.returncode is None


def test_what_is_no_note_does_not_live() -> None:
    assert not lives("")
    assert not lives("999999999 5")
