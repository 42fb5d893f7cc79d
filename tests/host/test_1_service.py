"""Does systemd run the service as its unit promises?"""

from __future__ import annotations

import os
import re
import signal

import pytest

from balloond.lab.patience import until
from tests.host import service

pytestmark = pytest.mark.usefixtures("configured")


def test_status_says_how_things_stand() -> None:
    words = r"\d+ guests; the host is (green|yellow|orange|red), \d[\d.]* ?[KMG]?i?B can be granted"
    until(
        lambda: re.search(f'Status: "{words}"', service.systemctl("status", service.NAME)),
        "a status that says how many guests there are, how the host is, and what can be granted",
    )


def test_it_starts_without_libvirt_says_so_and_finds_it_when_it_comes() -> None:
    units = ["libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service"]
    service.systemctl("stop", *units)
    try:
        service.systemctl("restart", service.NAME)
        assert service.active()
        until(
            lambda: "libvirt does not answer" in service.show("StatusText"),
            "a status that says what is missing",
        )
    finally:
        service.systemctl("start", *units[:3])
    until(
        lambda: "guests; the host is" in service.show("StatusText"), "the daemon to find libvirt", limit_s=60
    )


def test_its_lines_in_the_journal_are_readable_and_bear_their_priority() -> None:
    entries = service.journal()
    assert any("balloond starts" in str(entry["MESSAGE"]) for entry in entries)
    named = {"ERROR": "3", "WARNING": "4", "INFO": "6"}
    for entry in entries:
        line = entry["MESSAGE"]
        assert isinstance(line, str), f"the journal took this line for binary: {line}"
        level, _, rest = line.partition(" ")
        assert entry["PRIORITY"] == named.get(level), line
        assert re.fullmatch(r'[^\n"]+?( [a-z_]+=([^\s"=]+|"([^"\\]|\\.)*"))*', rest), line


def test_a_good_file_is_taken_up_by_a_reload() -> None:
    former = service.CONFIGURATION.read_text()
    service.CONFIGURATION.write_text(
        former.replace('"interval": "1s"', '"mode": "observe", "interval": "1s"')
    )
    try:
        service.systemctl("reload", service.NAME)
        until(lambda: service.metric("balloond_mode", mode="observe") == 1, "mode observe")
    finally:
        service.CONFIGURATION.write_text(former)
        service.systemctl("reload", service.NAME)
    until(lambda: service.metric("balloond_mode", mode="active") == 1, "mode active")


def test_a_broken_file_changes_nothing_and_is_told_with_its_line() -> None:
    former = service.CONFIGURATION.read_text()
    pid = service.main_pid()
    service.CONFIGURATION.write_text(former.replace('"64MiB"', '"64"'))
    try:
        service.systemctl("reload", service.NAME)
        until(
            lambda: any("balloond.yaml:4: host.reserve:" in line for line in service.messages()),
            "the fault's line in the journal",
        )
        assert service.active()
        assert service.main_pid() == pid
        assert service.metric("balloond_config_last_reload_successful") == 0
        assert service.metric("balloond_host_reserve_bytes") == 64 * 1024 * 1024
    finally:
        service.CONFIGURATION.write_text(former)
        service.systemctl("reload", service.NAME)
    until(lambda: service.metric("balloond_config_last_reload_successful") == 1, "the good file again")


def test_it_stops_within_ten_seconds_and_with_status_0() -> None:
    took_s = service.stop()
    try:
        assert service.show("Result") == "success"
        assert service.show("ExecMainStatus") == "0"
        assert took_s < 10
    finally:
        service.systemctl("start", service.NAME)


def test_the_watchdog_restarts_a_daemon_that_was_stopped_by_a_signal() -> None:
    pid, restarts = service.main_pid(), int(service.show("NRestarts"))
    watchdog_s = 60
    os.kill(pid, signal.SIGSTOP)
    until(lambda: int(service.show("NRestarts")) > restarts, "a restart", limit_s=2 * watchdog_s, every_s=1)
    until(service.active, "the new daemon to be ready")
    assert service.main_pid() not in {0, pid}
    said = service.run("journalctl", "--boot", "--output", "cat", f"UNIT={service.NAME}")
    assert "Watchdog timeout" in said
