"""Real guests for tests: `lab.arena(...)` gives a pool of memory, `arena.boot(...)` a guest in it.

    def test_something(lab: Lab) -> None:
        arena = lab.arena(pool=900 * MIB)
        guest = arena.boot(memory=512 * MIB)
        daemon = arena.daemon(mode="active")
        guest.hold(300 * MIB, rate=50 * MIB)
        until(lambda: guest.report().held == 300 * MIB, "the guest to grow")
        assert daemon.metric("balloond_guest_actual_bytes", guest=guest.name) > 400 * MIB

Whatever a test made is ended when it ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from balloond.host.files import Root
from balloond.host.kernel import KSM, read_ksm_settings
from balloond.host.ksm import Merging
from balloond.lab.arena import Lab
from balloond.model import KsmSettings


@pytest.fixture(scope="session")
def laboratory() -> Iterator[Lab]:
    """Image, libvirt and accelerator: what all tests share."""
    if os.geteuid() != 0:
        pytest.skip("real guests need root")
    with Lab() as lab:
        yield lab


@pytest.fixture
def lab(laboratory: Lab) -> Iterator[Lab]:
    """The lab, its arenas closed after each test."""
    yield laboratory
    laboratory.close_arenas()


@pytest.fixture
def found(tmp_path: Path) -> Iterator[KsmSettings]:
    """How the kernel's merging, which is the whole machine's, is set now, and again when the test has ended."""
    if not os.access(f"{KSM}/run", os.W_OK):
        pytest.skip("this kernel has no same-page merging")
    settings = read_ksm_settings(Root())
    if settings.run:
        pytest.skip("somebody merges pages on this machine")
    yield settings
    changed = {name: value for name, value in asdict(settings).items() if value is not None}
    if read_ksm_settings(Root()) != settings:
        Merging(Root(), tmp_path).set(KsmSettings(**changed))
    assert read_ksm_settings(Root()) == settings
