"""With a driver in the guest: what is asked for happens, and is seen soon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.host.guests import Guests
from balloond.lab.arena import Lab
from balloond.model import Guest, Reason, Result, SetTarget
from balloond.units import MIB

pytestmark = [pytest.mark.contract, pytest.mark.end_to_end]

SETTLED = 2 * MIB  # what a balloon may be off its target


@pytest.fixture
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("real guests need root")
    with Lab() as lab:
        yield lab


def test_actual_follows_the_target_and_statistics_are_fresh(lab: Lab, tmp_path: Path) -> None:
    machine = lab.arena(pool=600 * MIB).boot(memory=256 * MIB)
    guests = Guests(uri="qemu:///system", period_s=1, state_directory=tmp_path)

    def now() -> Guest:
        seen, faults = guests.observe(2.0, active=True, managed=lambda uuid, *_: uuid == machine.uuid)
        assert seen is not None, faults
        return next(guest for guest in seen if guest.uuid == machine.uuid)

    def seconds_to(target: int) -> float:
        before = now()
        action = SetTarget(
            uuid=machine.uuid,
            name=machine.name,
            actual=before.actual,
            target=target,
            reason=Reason.DONATE,
            words="for the test",
        )
        started = time.monotonic()
        assert guests.set_target(action, 2.0).result is Result.DONE
        while abs(now().actual - target) > SETTLED:
            assert time.monotonic() - started < 10.0, now()
            time.sleep(0.05)
        return time.monotonic() - started

    try:
        now()
        time.sleep(3.0)
        statistics = now().statistics
        assert statistics is not None
        assert abs(time.time() - statistics.last_update_s) <= 4, "two periods and a second, and a slow host"
        assert statistics.untrusted_usable is not None
        assert statistics.untrusted_available is not None
        assert 0 < statistics.untrusted_usable <= statistics.untrusted_available <= 256 * MIB
        taken = {target // MIB: round(seconds_to(target), 2) for target in (160 * MIB, 256 * MIB)}
        print(f"seconds until `actual` is at so many MiB: {taken}")
        assert max(taken.values()) < 5.0
    finally:
        guests.restore_periods(2.0)
        guests.close()
