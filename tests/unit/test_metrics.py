"""Does a scrape tell the last tick truly, and survive whatever a guest is called?"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from balloond.config.settings import Listen
from balloond.model import (
    Fault,
    FaultKind,
    GuestCgroup,
    Host,
    Ksm,
    KsmSettings,
    Measured,
    MergingVerdict,
    Obstacle,
    Pressure,
    Result,
    Rung,
    SetMerging,
    Stance,
    Statistics,
)
from balloond.policy.solvency import most
from balloond.publish import scrape
from balloond.publish.metrics import Metrics
from balloond.publish.scrape import MetricsServer
from balloond.units import GIB, MIB
from tests.unit import sealed

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(metrics: Metrics) -> Samples:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


WEB = {"uuid": sealed.UUID, "guest": "web-1"}


def test_a_scrape_shows_the_guest_as_the_last_tick_sealed_it() -> None:
    metrics = Metrics()
    metrics.publish(sealed.tick(sealed.guest(), verdicts=(sealed.verdict(target=GIB),)))
    samples = scraped(metrics)
    assert value(samples, "balloond_guest_actual_bytes", **WEB) == 2 * GIB
    assert value(samples, "balloond_guest_target_bytes", **WEB) == GIB
    assert value(samples, "balloond_guest_working_set_bytes", **WEB) == 1536 * MIB
    assert value(samples, "balloond_guest_usable_bytes", **WEB) == 512 * MIB
    assert value(samples, "balloond_guest_statistics_age_seconds", **WEB) == 3
    assert value(samples, "balloond_guest_state", **WEB, state="running") == 1
    assert value(samples, "balloond_guest_trust", **WEB, trust="fresh") == 1
    assert value(samples, "balloond_guest_reason", **WEB, reason="steady") == 1
    assert value(samples, "balloond_host_reserve_bytes") == GIB
    assert value(samples, "balloond_host_covered") == 1


def test_what_is_unknown_is_absent_and_never_zero() -> None:
    metrics = Metrics()
    dumb = sealed.guest(rss=None, statistics=Statistics(last_update_s=0))
    metrics.publish(sealed.tick(dumb, verdicts=(sealed.verdict(estimate=None),)))
    samples = scraped(metrics)
    for name in ("rss_bytes", "usable_bytes", "working_set_bytes", "statistics_age_seconds", "swapped_bytes"):
        assert f"balloond_guest_{name}" not in names(samples)
    assert "balloond_host_pressure_ratio" not in names(samples)
    assert "balloond_host_ksm_saved_bytes" not in names(samples)


def test_before_the_first_tick_a_scrape_tells_of_the_daemon_alone() -> None:
    samples = scraped(Metrics())
    assert value(samples, "balloond_ticks_total") == 0
    assert value(samples, "balloond_mode", mode="active") == 1
    assert not any(name.startswith(("balloond_guest", "balloond_host")) for name in names(samples))


def test_a_guest_that_has_gone_is_gone_from_the_next_scrape() -> None:
    metrics = Metrics()
    metrics.publish(sealed.tick(sealed.guest(), verdicts=(sealed.verdict(),)))
    assert "balloond_guest_actual_bytes" in names(scraped(metrics))
    metrics.publish(sealed.tick(number=2))
    assert not any(name.startswith("balloond_guest_") for name in names(scraped(metrics)))


def test_verdicts_kept_while_libvirt_is_lost_are_not_shown_as_if_they_were_seen() -> None:
    metrics = Metrics()
    down = Fault(kind=FaultKind.LIBVIRT_DOWN, subject="qemu:///system", detail="refused")
    metrics.publish(sealed.tick(listed=False, verdicts=(sealed.verdict(),), faults=(down,), accounts=None))
    samples = scraped(metrics)
    assert value(samples, "balloond_libvirt_connected") == 0
    assert value(samples, "balloond_faults_standing", kind="libvirt-down") == 1
    assert "balloond_guests" not in names(samples)
    assert "balloond_guest_target_bytes" not in names(samples)


HOSTILE = [
    'a"b',
    "a\nb 1",
    "a\\",
    'x"} 1\nballoond_ticks_total 99',
    "\ud800",
    "żółw\u202e",
    "{}",
    " ",
    "\x00",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_label_value_and_nothing_else(name: str) -> None:
    metrics = Metrics()
    metrics.publish(sealed.tick(sealed.guest(name=name), verdicts=(sealed.verdict(name=name),)))
    samples = scraped(metrics)
    assert value(samples, "balloond_ticks_total") == 1
    shown = {dict(labels)["guest"] for sample, labels in samples if sample == "balloond_guest_actual_bytes"}
    assert shown == {name.encode("utf-8", "backslashreplace").decode()}
    openmetrics: bytes = generate_openmetrics(metrics.registry)  # type: ignore[no-untyped-call]  # theirs
    assert openmetrics.endswith(b"# EOF\n")


def test_two_guests_of_one_name_are_kept_apart() -> None:
    metrics = Metrics()
    metrics.publish(sealed.tick(sealed.guest(), sealed.guest(sealed.UUID_2, actual=3 * GIB)))
    samples = scraped(metrics)
    assert value(samples, "balloond_guest_actual_bytes", **WEB) == 2 * GIB
    assert value(samples, "balloond_guest_actual_bytes", uuid=sealed.UUID_2, guest="web-1") == 3 * GIB


def test_a_number_that_means_missing_is_not_shown_as_a_number() -> None:
    metrics = Metrics()
    for number in (-1, 2**64 - 1):
        statistics = Statistics(last_update_s=1, untrusted_usable=number, untrusted_swap_in=number)
        metrics.publish(sealed.tick(sealed.guest(statistics=statistics)))
        assert "balloond_guest_usable_bytes" not in names(scraped(metrics))
        assert "balloond_guest_swap_in_bytes_total" not in names(scraped(metrics))


def test_of_a_guest_that_is_left_alone_no_estimate_is_shown() -> None:
    metrics = Metrics()
    metrics.publish(sealed.tick(sealed.guest(), verdicts=(sealed.verdict(obstacle=Obstacle.LOCKED),)))
    samples = scraped(metrics)
    assert value(samples, "balloond_guest_obstacle", **WEB, obstacle="locked-memory") == 1
    assert value(samples, "balloond_guest_guarantee_bytes", **WEB) == GIB
    assert value(samples, "balloond_guest_working_set_bytes", **WEB) is None
    assert value(samples, "balloond_guest_trust", **WEB, trust="fresh") is None


def test_the_process_that_holds_libvirts_connection_is_watched_too_while_there_is_one() -> None:
    metrics, pid = Metrics(), [None, os.getpid()]
    metrics.watch_child(lambda: pid[-1])
    assert value(scraped(metrics), "balloond_libvirt_process_resident_memory_bytes")
    pid.pop()
    assert value(scraped(metrics), "balloond_libvirt_process_resident_memory_bytes") is None


def test_actions_are_counted_by_result_reason_and_direction() -> None:
    metrics = Metrics()
    metrics.publish(
        sealed.tick(outcomes=(sealed.outcome(), sealed.outcome(target=3 * GIB, result=Result.BUSY)))
    )
    metrics.publish(sealed.tick(number=2, outcomes=(sealed.outcome(),)))
    samples, name = scraped(metrics), "balloond_actions_total"
    assert value(samples, name, result="done", reason="shrink-for-others", direction="shrink") == 2
    assert value(samples, name, result="busy", reason="shrink-for-others", direction="grow") == 1


def test_what_moved_is_what_the_balloons_did_and_a_reboot_is_no_movement() -> None:
    metrics = Metrics()
    metrics.publish(sealed.tick(sealed.guest(actual=2 * GIB)))
    metrics.publish(sealed.tick(sealed.guest(actual=GIB), number=2))
    metrics.publish(sealed.tick(sealed.guest(actual=3 * GIB), number=3))
    metrics.publish(sealed.tick(sealed.guest(actual=4 * GIB, incarnation=1), number=4))
    samples = scraped(metrics)
    assert value(samples, "balloond_moved_bytes_total", direction="shrink") == GIB
    assert value(samples, "balloond_moved_bytes_total", direction="grow") == 2 * GIB


def test_a_fault_that_lasts_is_counted_once() -> None:
    metrics = Metrics()
    fault = Fault(kind=FaultKind.GUEST_UNREADABLE, subject=sealed.UUID, detail="no answer")
    for number in (1, 2, 3):
        metrics.publish(sealed.tick(number=number, faults=(fault,)))
    assert value(scraped(metrics), "balloond_faults_total", kind="guest-unreadable") == 1


def test_turns_and_reloads_are_counted() -> None:
    metrics = Metrics()
    metrics.turned(took_s=0.02, cpu_s=0.01)
    metrics.turned(took_s=60, cpu_s=0.02)
    metrics.reloaded(ok=True)
    metrics.reloaded(ok=False)
    samples = scraped(metrics)
    assert value(samples, "balloond_tick_seconds_bucket", le="0.025") == 1
    assert value(samples, "balloond_tick_seconds_bucket", le="10.0") == 1
    assert value(samples, "balloond_tick_seconds_bucket", le="+Inf") == 2
    assert value(samples, "balloond_tick_seconds_count") == 2
    assert value(samples, "balloond_tick_cpu_seconds_total") == pytest.approx(0.03)
    assert value(samples, "balloond_config_reloads_total", result="failed") == 1
    assert value(samples, "balloond_config_last_reload_successful") == 0


def test_missing_swap_is_told_in_bytes() -> None:
    metrics = Metrics()
    guests = (sealed.guest(), sealed.guest(sealed.UUID_2))  # 8 GiB of maxima, 6 GiB to share, no swap
    metrics.publish(sealed.tick(*guests))
    samples = scraped(metrics)
    assert value(samples, "balloond_host_claimed_bytes") == 2 * most(4 * GIB, 0)
    assert value(samples, "balloond_host_swap_missing_bytes") == 2 * most(4 * GIB, 0) - 6 * GIB
    assert value(samples, "balloond_host_memory_missing_bytes") == 0
    assert value(samples, "balloond_host_solvent") == 0
    metrics.publish(sealed.tick(*guests[:1], number=2))
    assert value(scraped(metrics), "balloond_host_swap_missing_bytes") == 0
    assert value(scraped(metrics), "balloond_host_solvent") == 1


def test_memory_that_no_swap_can_stand_for_is_told_apart() -> None:
    metrics = Metrics()
    pinned = replace(sealed.guest(), maximum=7 * GIB, obstacle=Obstacle.LOCKED)
    metrics.publish(sealed.tick(pinned, host=replace(sealed.HOST, swap_total=9 * GIB, swap_free=9 * GIB)))
    samples = scraped(metrics)
    assert value(samples, "balloond_host_unswappable_bytes") == most(7 * GIB, 0)
    assert value(samples, "balloond_host_memory_missing_bytes") == most(7 * GIB, 0) - 6 * GIB
    assert value(samples, "balloond_host_swap_missing_bytes") == 0
    assert value(samples, "balloond_host_solvent") == 0


def everything() -> Metrics:
    """Metrics in which no name is missing."""
    metrics = Metrics()
    statistics = Statistics(
        last_update_s=1, untrusted_usable=1, untrusted_swap_in=1, untrusted_major_faults=1
    )
    waits = Pressure(some_avg10=0.1, full_avg10=0.0, some_total_us=1)
    host = Host(
        total=8 * GIB,
        available=5 * GIB,
        pressure=waits,
        ksm=Ksm(
            run=1, saved=GIB, profit=1, full_scans=1, pages_to_scan=100, advisor=None, scanned=1, cpu_s=1.0
        ),
    )
    merging = MergingVerdict(mode="steer", stance=Stance.MERGING, words="", cap=0.5, used=0.4, memory=None)
    pinned = sealed.verdict(sealed.UUID_2, obstacle=Obstacle.LOCKED)
    metrics.publish(
        sealed.tick(
            replace(
                sealed.guest(statistics=statistics),
                swapped=MIB,
                cgroup=GuestCgroup(used=GIB, swapped=MIB, pressure=waits, soft_limit=GIB),
            ),
            sealed.guest(sealed.UUID_2),
            host=host,
            verdicts=(sealed.verdict(), pinned),
            outcomes=(sealed.outcome(),),
            measured=(sealed.reclaimed(),),
            rung=Rung.RED,
            merging=merging,
        )
    )
    return metrics


def test_merging_is_told_with_its_mode_its_stance_its_cost_and_its_bound() -> None:
    text = scraped(everything())
    assert value(text, "balloond_host_ksm_stance", mode="steer", stance="merging") == 1
    assert value(text, "balloond_host_ksm_cpu_cap_ratio") == 0.5
    assert value(text, "balloond_host_ksm_cpu_ratio") == 0.4
    assert value(text, "balloond_host_ksm_cpu_seconds_total") == 1
    assert value(text, "balloond_guest_mergeable", **WEB) == 1


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    documented = set(re.findall(r"^\| `(balloond_\w+)", page, re.MULTILINE))
    exported = {
        re.sub("_(bucket|sum|count)$", "", name)
        for name in names(scraped(everything()))
        if name.startswith("balloond_")
    }
    assert exported == documented


def test_what_is_done_at_the_host_is_counted_and_only_what_was_asked_for_as_asked() -> None:
    metrics = Metrics()
    refused = sealed.reclaimed(result=Result.REFUSED)
    limits = (sealed.limited(limit=GIB), sealed.limited(limit=None))
    merging = Measured(measure=SetMerging(to=KsmSettings(run=1), words=""), result=Result.DONE)
    metrics.publish(sealed.tick(measured=(sealed.reclaimed(size=32 * MIB), refused, *limits, merging)))
    samples = scraped(metrics)
    for kind, result in (("reclaim", "done"), ("reclaim", "refused"), ("limit", "done"), ("lift", "done")):
        assert value(samples, "balloond_measures_total", measure=kind, result=result) == 1
    assert value(samples, "balloond_measures_total", measure="merge", result="done") == 1
    assert value(samples, "balloond_reclaim_asked_bytes_total") == 32 * MIB


def test_names_follow_the_conventions_and_the_units_are_base_units() -> None:
    for family in everything().registry.collect():
        assert re.fullmatch("(balloond|process)_[a-z_0-9]+", family.name)
        assert family.documentation
        assert not re.search("_(kib|mib|kb|ms|us|percent)(_|$)", family.name)


# --- over HTTP -------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer(everything().registry)
    yield server
    server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        return str(reply.read().decode())


def test_it_serves_where_it_is_told_to_and_moves_when_told_again(server: MetricsServer) -> None:
    first, second = free_port(), free_port()
    server.listen(Listen(port=first))
    assert "balloond_ticks_total 1.0" in get(first)
    server.listen(Listen(port=second))
    assert "balloond_ticks_total 1.0" in get(second)
    with pytest.raises(urllib.error.URLError):
        get(first)
    server.listen(None)
    with pytest.raises(urllib.error.URLError):
        get(second)


def test_a_port_in_use_is_an_error_and_leaves_nothing_behind(server: MetricsServer) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            server.listen(Listen(port=other.getsockname()[1]))
    assert server.listens_at is None


def test_clients_that_say_nothing_do_not_keep_others_from_being_served(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "SCRAPE_TIMEOUT_S", 0.3)
    port = free_port()
    server.listen(Listen(port=port))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(scrape.MOST_SCRAPES + 2)]
    try:
        for (
            each
        ) in silent:  # the deadline has the first ones hung up on, and too many are turned away at once
            each.settimeout(5)
            assert each.recv(1) == b""
        assert "balloond_ticks_total" in get(port)
    finally:
        for each in silent:
            each.close()


def test_clients_that_dribble_have_the_same_deadline(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "SCRAPE_TIMEOUT_S", 1.0)
    port = free_port()
    server.listen(Listen(port=port))
    with contextlib.ExitStack() as open_ones:
        slow = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(scrape.MOST_SCRAPES)
        ]
        ends_s = time.monotonic() + 4
        while slow and time.monotonic() < ends_s:
            slow = [each for each in slow if _sent(each)]
            time.sleep(0.2)
        assert not slow
        assert "balloond_ticks_total" in get(port)


def _sent(client: socket.socket) -> bool:
    try:
        return client.send(b"G") == 1
    except OSError:
        return False


def test_nothing_that_is_sent_changes_anything(server: MetricsServer) -> None:
    port = free_port()
    server.listen(Listen(port=port))
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)  # noqa: S310  (our own address)
    refused.value.close()
    assert refused.value.code == 501
