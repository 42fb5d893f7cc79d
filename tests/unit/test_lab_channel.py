"""How the lab talks with a guest: numbered orders, late answers, resets and silence."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from balloond.lab.channel import Channel
from balloond.lab.faults import LabError
from balloond.units import KIB, MIB, PAGE

ANSWER = {
    "uptime_s": 12.5,
    "wanted": 200 * MIB,
    "held": 100 * MIB,
    "growth_s": None,
    "asked": 1000,
    "served": 900,
    "reads_asked": 0,
    "reads_served": 0,
    "restarts": 0,
    "meminfo": dict.fromkeys(("MemTotal", "MemFree", "MemAvailable", "Cached", "Buffers"), 64)
    | {"SwapTotal": 0, "SwapFree": 0},
    "vmstat": dict.fromkeys(("pswpin", "pswpout", "pgmajfault", "oom_kill"), 0)
    | {"balloon_inflate": 50, "balloon_deflate": 20},
}


def a_guest_that(tmp_path: Path, answers: Callable[[int, str], str]) -> Path:
    """A port whose other side answers each order with some text; it ends with its client."""
    path = tmp_path / "port"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        with server, server.accept()[0] as client, client.makefile("r") as lines:
            for line in lines:
                number, _, order = line.strip().partition(" ")
                client.sendall(answers(int(number), order).encode())

    threading.Thread(target=serve, daemon=True).start()
    return path


def answer(number: int, **changes: object) -> str:
    return json.dumps({"n": number, **ANSWER, **changes}) + "\n"


def test_a_report_is_in_bytes(tmp_path: Path) -> None:
    channel = Channel(a_guest_that(tmp_path, lambda number, _order: answer(number)))
    report = channel.ask("report", 5)
    assert (report.total, report.cached) == (64 * KIB, 128 * KIB)
    assert report.balloon == 30 * PAGE
    assert report.growth_took_s is None
    assert report.served_share == 0.9
    channel.close()


def test_answers_to_earlier_orders_and_torn_lines_are_thrown_away(tmp_path: Path) -> None:
    def late(number: int, _order: str) -> str:
        return '{"n":99,"torn\n' + answer(number - 1, held=1) + answer(number, held=2)

    channel = Channel(a_guest_that(tmp_path, late))
    assert channel.ask("report", 5).held == 2
    channel.close()


def test_a_guest_that_refuses_an_order_is_quoted(tmp_path: Path) -> None:
    channel = Channel(a_guest_that(tmp_path, lambda number, _order: answer(number, error="no such order")))
    with pytest.raises(LabError, match=r"refused 'dance': no such order"):
        channel.ask("dance", 5)
    channel.close()


def test_a_silent_guest_costs_no_more_time_than_was_allowed(tmp_path: Path) -> None:
    channel = Channel(a_guest_that(tmp_path, lambda _number, _order: ""))
    with pytest.raises(LabError, match="did not answer"):
        channel.ask("report", 0.2)
    channel.close()


def test_a_guest_that_is_gone_is_an_error_of_the_lab(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="broke"):
        Channel(tmp_path / "none").ask("report", 1)
