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

import pytest

from balloond.lab.arena import Lab


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
