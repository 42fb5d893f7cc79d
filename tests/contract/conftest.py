"""The domains of a contract test, ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.tiny_guests import Stable, need_libvirt


@pytest.fixture
def stable() -> Iterator[Stable]:
    need_libvirt()
    stable = Stable()
    try:
        yield stable
    finally:
        stable.clear()
