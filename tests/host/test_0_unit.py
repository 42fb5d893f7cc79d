"""Did systemd start the unit with the host, and does it start beside any libvirt there is, or none?

The first checks of all: where the service does not run, the first of them says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from balloond.lab.patience import until
from tests.host import service

INSTALLED: Final = Path("/opt/balloond/installed")
VIRTQEMUD: Final = "virtqemud.service"
STAND_IN: Final = Path("/run/systemd/system") / VIRTQEMUD
SLOW_S: Final = 15  # a daemon that does not wait is ready earlier, in an emulated machine too


def test_the_unit_is_active_within_ten_seconds_of_multi_user_target() -> None:
    assert service.active(), service.story()
    booted_s = float(Path("/proc/stat").read_text().partition("btime ")[2].split()[0])
    if INSTALLED.stat().st_mtime > booted_s:
        pytest.skip(
            "balloond was installed after this host's boot; reboot it to see the service start with it"
        )
    reached_s = service.seconds("ActiveEnterTimestampMonotonic", "multi-user.target")
    ready_s = service.seconds("ActiveEnterTimestampMonotonic")
    took_s = ready_s - service.seconds("InactiveExitTimestampMonotonic")
    print(f"ready {ready_s - reached_s:+.1f} s after multi-user.target; its start took {took_s:.1f} s")
    assert ready_s <= reached_s + 10
    assert service.show("NRestarts") == "0", service.story()


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
