"""What the checks of a real host share: the service, and nested guests. Collected only where asked for."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

import pytest

from tests.host import service
from tests.host.nested import nested

__all__ = ["nested"]  # fixtures are found by name

collect_ignore_glob = [] if os.environ.get("HOST_CHECKS") else ["test_*.py"]

CHECK_S: Final = 900
"""The longest that one check may take with its fixtures: nested guests may be tried under KVM first, and then be
emulated inside an emulated host."""

CONFIGURATION: Final = {
    "interval": "1s",
    "host": {"reserve": "64MiB", "pool": "5%"},  # two small guests in a slice of half a gigabyte
    "metrics": {"listen": f"0.0.0.0:{service.METRICS_PORT}"},  # so that the host's outside can scrape them
}


class Hangs(Exception):  # noqa: N818  (that is what it does)
    """A check that did not come to its end."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Whatever hangs in a check or in its fixtures, the next check has its turn."""

    def too_long(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise Hangs(f"this check took longer than {CHECK_S} s")

    former = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(CHECK_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


@pytest.fixture(scope="session")
def configured() -> Iterator[None]:
    """The service with a configuration for a small host, and its own again at the end."""
    if not service.active():  # told once, with the reason, by the first check of all
        pytest.fail(f"{service.NAME} does not run; test_0_unit says why", pytrace=False)
    with service.configured(json.dumps(CONFIGURATION, indent=2)):  # JSON is YAML too
        yield
