"""libvirt's raw answers become the model's nouns: bytes, names, None for what is unknown."""

from __future__ import annotations

import pytest

from balloond.host.domain_xml import Facts
from balloond.host.link import LibvirtError
from balloond.host.readings import Row, guest_of, refusal, row_of
from balloond.model import Guest, Obstacle, Result, State, Statistics
from balloond.units import GIB, KIB, MIB

FIELDS = {
    "state.state": 1,
    "state.reason": 1,
    "balloon.current": 3 * 1024 * 1024,
    "balloon.maximum": 4 * 1024 * 1024,
    "balloon.swap_in": 8,
    "balloon.swap_out": 16,
    "balloon.major_fault": 77,
    "balloon.minor_fault": 4711,
    "balloon.unused": 1024,
    "balloon.available": 2 * 1024 * 1024,
    "balloon.usable": 2048,
    "balloon.last-update": 1_700_000_000,
    "balloon.disk_caches": 4096,
    "balloon.rss": 1024 * 1024,
}
FACTS = Facts(maximum=4 * GIB, current=3 * GIB, title="shop", statistics_period_s=2)


def guest(fields: dict[str, int] | None, facts: Facts | None = FACTS, *, job: int = 0) -> Guest:
    row = Row(uuid="u", name="n", domain_id=1, fields=fields)
    return guest_of(row, facts, numbers=fields or {}, job=job, block_read=None, incarnation=5)


def test_a_full_answer_becomes_a_guest_in_bytes() -> None:
    assert guest(FIELDS) == Guest(
        uuid="u",
        name="n",
        title="shop",
        state=State.RUNNING,
        maximum=4 * GIB,
        actual=3 * GIB,
        rss=1 * GIB,
        statistics=Statistics(
            last_update_s=1_700_000_000,
            untrusted_available=2 * GIB,
            untrusted_unused=1 * MIB,
            untrusted_usable=2 * MIB,
            untrusted_caches=4 * MIB,
            untrusted_swap_in=8 * KIB,
            untrusted_swap_out=16 * KIB,
            untrusted_major_faults=77,
        ),
        statistics_period_s=2,
        incarnation=5,
    )


@pytest.mark.parametrize("missing", [2**64 - 1, (2**64 - 1) // 1024, -1])
def test_a_figure_that_means_unknown_is_none(missing: int) -> None:
    statistics = guest(FIELDS | {"balloon.usable": missing, "balloon.swap_in": missing}).statistics
    assert statistics is not None
    assert statistics.untrusted_usable is None
    assert statistics.untrusted_swap_in is None


def test_a_count_that_means_unknown_is_none() -> None:
    statistics = guest(FIELDS | {"balloon.major_fault": 2**64 - 1}).statistics
    assert statistics is not None and statistics.untrusted_major_faults is None


def test_four_fields_only_are_an_unreadable_guest() -> None:
    four = {key: FIELDS[key] for key in ("state.state", "state.reason", "balloon.current", "balloon.maximum")}
    seen = guest(four)
    assert (seen.obstacle, seen.statistics, seen.rss) == (Obstacle.UNREADABLE, None, None)
    assert (seen.maximum, seen.actual) == (4 * GIB, 3 * GIB)


def test_a_guest_that_was_not_asked_keeps_its_definition_s_sizes() -> None:
    seen = guest(None)
    assert (seen.obstacle, seen.maximum, seen.actual) == (Obstacle.UNREADABLE, 4 * GIB, 3 * GIB)


def test_a_guest_without_facts_is_unreadable() -> None:
    assert guest(FIELDS, None).obstacle is Obstacle.UNREADABLE


def test_virtio_mem_is_out_of_the_balloon_s_reach_and_taken_out_of_both_figures() -> None:
    facts = Facts(maximum=4 * GIB, current=3 * GIB, virtio_mem_size=2 * GIB, virtio_mem_current=1 * GIB)
    seen = guest(FIELDS, facts)
    assert (seen.maximum, seen.actual) == (2 * GIB, 2 * GIB)


@pytest.mark.parametrize(
    ("number", "state", "obstacle"),
    [
        (0, State.RUNNING, None),
        (1, State.RUNNING, None),
        (2, State.RUNNING, None),
        (3, State.PAUSED, Obstacle.NOT_RUNNING),
        (4, State.SHUTTING_OFF, Obstacle.NOT_RUNNING),
        (5, State.OFF, Obstacle.NOT_RUNNING),
        (6, State.CRASHED, Obstacle.NOT_RUNNING),
        (7, State.SUSPENDED, Obstacle.NOT_RUNNING),
        (99, State.PAUSED, Obstacle.NOT_RUNNING),
    ],
)
def test_states_have_names_and_only_a_running_guest_may_be_touched(
    number: int, state: State, obstacle: Obstacle | None
) -> None:
    seen = guest(FIELDS | {"state.state": number})
    assert (seen.state, seen.obstacle) == (state, obstacle)


def test_a_job_is_an_obstacle_but_what_lasts_is_told_first() -> None:
    assert guest(FIELDS, job=2).obstacle is Obstacle.IN_JOB
    locked = Facts(maximum=4 * GIB, current=4 * GIB, obstacle=Obstacle.LOCKED)
    assert guest(FIELDS, locked, job=2).obstacle is Obstacle.LOCKED


def test_disk_reads_are_summed_over_all_disks() -> None:
    fields = {"block.count": 3, "block.0.rd.bytes": 5, "block.1.rd.bytes": 7, "block.0.wr.bytes": 100}
    assert row_of(["u", "n", 1, fields | {"block.2.name": "vdc"}]).block_read == 12
    assert row_of(["u", "n", 1, {}]).block_read is None


@pytest.mark.parametrize(
    ("code", "active", "result"),
    [
        (8, True, Result.REFUSED),
        (9, True, Result.BUSY),
        (29, True, Result.REFUSED),
        (42, True, Result.GONE),
        (55, True, Result.REFUSED),
        (55, False, Result.GONE),
        (68, True, Result.BUSY),
        (1, True, Result.REFUSED),
    ],
)
def test_each_error_of_setting_has_its_meaning(code: int, active: bool, result: Result) -> None:
    outcome, detail = refusal(LibvirtError(code, 10, "libvirt's words"), active=active)
    assert outcome is result
    assert detail.startswith("libvirt's words")


def test_a_read_only_connection_is_named() -> None:
    assert "may only read" in refusal(LibvirtError(29, 0, "operation forbidden"), active=True)[1]
