"""Did systemd start the unit with the host, and does it start beside any libvirt there is, or none?

The first checks of all: where the service does not run, the first of them says why.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from balloond.lab.patience import until
from tests.host import service

TARGET: Final = "multi-user.target"
BEGAN: Final = "InactiveExitTimestampMonotonic"
READY_S: Final = 10
READY_EMULATED_S: Final = 45
"""Where the processor itself is emulated: there Python alone takes many times longer to load its modules."""
VIRTQEMUD: Final = "virtqemud.service"
STAND_IN: Final = Path("/run/systemd/system") / VIRTQEMUD
SLOW_S: Final = 15  # a daemon that does not wait is ready earlier, in an emulated machine too


def may_take_s() -> int:
    virtual = subprocess.run(
        ["systemd-detect-virt"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return READY_EMULATED_S if virtual == "qemu" else READY_S


def test_it_is_ready_within_ten_seconds_of_its_start_where_the_processor_is_real() -> None:
    assert service.active(), service.story()
    took_s = service.seconds("ActiveEnterTimestampMonotonic") - service.seconds(BEGAN)
    print(f"its start took {took_s:.1f} s of {may_take_s()}")
    assert took_s <= may_take_s(), f"it was ready only {took_s:.1f} s after its start began"


def test_it_started_with_the_host_and_does_not_keep_multi_user_target_waiting() -> None:
    """That target waits for the unit: ten seconds at most, from when all else that it waits for was there."""
    assert service.active(), service.story()
    assert service.show("NRestarts") == "0", service.story()
    reached_s = service.seconds("ActiveEnterTimestampMonotonic", TARGET)
    if service.seconds(BEGAN) > reached_s:
        pytest.skip("it was started anew after this host's boot; reboot it to see the service start with it")
    others = {*service.show("After", TARGET).split()} & {*service.show("Wants", TARGET).split()}
    there_s = max(service.seconds("ActiveEnterTimestampMonotonic", unit) for unit in others - {service.NAME})
    late_s = service.seconds("ActiveEnterTimestampMonotonic") - there_s
    print(f"ready {late_s:+.1f} s after the last of the others that multi-user.target waits for")
    assert late_s < may_take_s()
    assert service.seconds("ActiveEnterTimestampMonotonic") <= reached_s + READY_S


def test_it_is_ordered_after_libvirt_in_either_form_and_needs_none() -> None:
    assert {"libvirtd.service", VIRTQEMUD} <= set(service.show("After").split())
    needed = {
        unit
        for kind in ("Requires", "Requisite", "BindsTo", "PartOf", "Wants")
        for unit in service.show(kind).split()
    }
    assert "machine.slice" in needed, "nothing was read"
    assert not [unit for unit in needed if "virt" in unit]


def test_it_waits_for_a_virtqemud_that_is_being_started() -> None:
    with virtqemud(f"ExecStart=/bin/sleep {SLOW_S}"):
        service.stop()
        service.systemctl("start", "--no-block", VIRTQEMUD)
        until(lambda: service.show("ActiveState", VIRTQEMUD) == "activating", "virtqemud to be on its way")
        service.systemctl("start", service.NAME)
        assert service.show("ActiveState", VIRTQEMUD) == "active"
        up_s = service.seconds("ActiveEnterTimestampMonotonic", VIRTQEMUD)
        assert service.seconds("ExecMainStartTimestampMonotonic") >= up_s


def test_it_starts_beside_a_virtqemud_that_fails() -> None:
    with virtqemud("ExecStart=/bin/false"):
        service.stop()
        service.systemctl("start", "--no-block", VIRTQEMUD)
        service.systemctl("start", service.NAME)
        until(lambda: service.show("ActiveState", VIRTQEMUD) == "failed", "virtqemud to fail")
        service.systemctl("reset-failed", VIRTQEMUD)
        assert service.active(), service.story()


def test_it_starts_where_no_virtqemud_is_installed_and_starts_none() -> None:
    if service.show("LoadState", VIRTQEMUD) != "not-found":
        pytest.skip("this host has virtqemud")
    service.stop()
    service.systemctl("start", service.NAME)
    assert service.active(), service.story()


@contextmanager
def virtqemud(start: str) -> Iterator[None]:
    """A virtqemud.service that only has the name; Debian 12 ships none. Gone again afterwards."""
    if service.show("LoadState", VIRTQEMUD) != "not-found":
        pytest.skip("this host has a virtqemud of its own")
    STAND_IN.write_text(f"[Service]\nType=oneshot\nRemainAfterExit=yes\n{start}\n")
    try:
        service.systemctl("daemon-reload")
        yield
    finally:
        service.systemctl("stop", VIRTQEMUD)
        STAND_IN.unlink()
        service.systemctl("daemon-reload")
        service.systemctl("start", service.NAME)
