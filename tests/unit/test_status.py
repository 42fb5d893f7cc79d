"""Does the status say what the tick says, and can it be read, by a program and by a person?"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from balloond.model import (
    Fault,
    FaultKind,
    GuestCgroup,
    Ksm,
    KsmSettings,
    Measured,
    MergingVerdict,
    Obstacle,
    PoolSource,
    Pressure,
    Reason,
    Result,
    Rung,
    SetMerging,
    Stance,
    State,
    Tick,
    Trust,
)
from balloond.policy.solvency import most
from balloond.publish.journal import Journal, to_json
from balloond.publish.status import GuestStatus, History, Status, status
from balloond.publish.words import ago, describe_status, explain, find, standing
from balloond.units import GIB, MIB, format_size
from tests.unit import sealed


def published(*ticks: Tick) -> Status:
    history = History()
    for tick in ticks:
        history.publish(tick)
    return status(ticks[-1], history, mode="active", version="1.2.3")


def only_guest(answer: Status) -> GuestStatus:
    assert answer["guests"] is not None
    (guest,) = answer["guests"]
    return guest


def test_a_status_survives_json_unchanged() -> None:
    answer = published(
        sealed.tick(sealed.guest(), verdicts=(sealed.verdict(),), outcomes=(sealed.outcome(),))
    )
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer


def test_what_was_last_done_is_remembered_over_quiet_ticks() -> None:
    first = sealed.tick(sealed.guest(), outcomes=(sealed.outcome(),))
    answer = published(first, *(sealed.tick(sealed.guest(), number=number) for number in (2, 3)))
    last = only_guest(answer)["last"]
    assert last is not None
    assert (last["ago_s"], last["from_bytes"], last["to_bytes"]) == (4, 2 * GIB, GIB)
    assert (last["reason"], last["result"]) == ("shrink-for-others", "done")


def test_a_guest_that_has_gone_is_forgotten_and_one_that_can_not_be_seen_is_not() -> None:
    first = sealed.tick(sealed.guest(), outcomes=(sealed.outcome(),))
    lost, gone, back = (
        sealed.tick(listed=False, number=2),
        sealed.tick(number=2),
        sealed.tick(sealed.guest(), number=3),
    )
    assert only_guest(published(first, lost, back))["last"] is not None
    assert only_guest(published(first, gone, back))["last"] is None


def test_an_obstacle_that_the_core_found_is_shown() -> None:
    verdict = sealed.verdict(obstacle=Obstacle.UNMANAGED, reason=Reason.OBSTACLE)
    assert only_guest(published(sealed.tick(sealed.guest(), verdicts=(verdict,))))["obstacle"] == "unmanaged"


def test_what_a_guest_uses_is_unknown_until_it_was_heard() -> None:
    unheard = replace(sealed.demand(trust=Trust.NEW), working_set=0)
    answer = published(sealed.tick(sealed.guest(), verdicts=(sealed.verdict(estimate=unheard),)))
    assert only_guest(answer)["working_set"] is None
    assert "not known yet" in explain(only_guest(answer), answer)
    assert " ?  " in describe_status(answer)


def test_solvency_is_told_with_how_each_guest_counts() -> None:
    locked = replace(sealed.guest(sealed.UUID_2), obstacle=Obstacle.LOCKED)
    answer = published(sealed.tick(sealed.guest(), locked))
    assert answer["solvency"] is not None
    assert not answer["solvency"]["solvent"]
    assert answer["solvency"]["unswappable"] == most(4 * GIB, 0)
    assert answer["solvency"]["swap_missing"] == 2 * most(4 * GIB, 0) - 6 * GIB
    assert answer["guests"] is not None
    assert [each["held"] for each in answer["guests"]] == ["ordinary", "locked"]
    assert [each["claim"] for each in answer["guests"]] == [most(4 * GIB, 0)] * 2
    assert published(sealed.tick(listed=False))["solvency"] is None
    assert published(sealed.tick(accounts=None))["solvency"] is None


def test_a_guest_that_is_none_of_the_pools_and_fits_beside_it_claims_nothing() -> None:
    elsewhere = replace(sealed.guest(sealed.UUID_2), in_pool=False)
    answer = published(sealed.tick(sealed.guest(), elsewhere, host=replace(sealed.HOST, outside=8 * GIB)))
    assert answer["solvency"] is not None and answer["solvency"]["claimed"] == most(4 * GIB, 0)
    assert answer["guests"] is not None and answer["guests"][1]["claim"] is None


def test_the_swap_that_is_missing_comes_with_the_commands_that_add_it() -> None:
    text = describe_status(published(sealed.tick(sealed.guest(), sealed.guest(sealed.UUID_2))))
    missing = (2 * most(4 * GIB, 0) - 6 * GIB) // MIB
    assert (
        f'fallocate -l {missing + 1}MiB "$f" && mkswap "$f" && swapon "$f"' in text
    )  # and mkswap's own page
    assert "memory.swap.max" not in text
    limited = replace(sealed.HOST, source=PoolSource.CGROUP)
    tick = sealed.tick(sealed.guest(), sealed.guest(sealed.UUID_2), host=limited)
    assert "memory.swap.max" in describe_status(published(tick))


def test_where_a_cgroup_bounds_swap_and_the_host_has_enough_no_more_is_asked_for() -> None:
    bounded = replace(sealed.HOST, swap_withheld=64 * GIB)
    text = describe_status(published(sealed.tick(sealed.guest(), sealed.guest(sealed.UUID_2), host=bounded)))
    assert "would be missing" in text and "memory.swap.max" in text
    assert "fallocate" not in text


def test_what_zram_may_take_of_a_bound_is_added_to_what_it_is_raised_by() -> None:
    bounded = replace(sealed.HOST, swap_withheld=64 * GIB)
    for beyond in (0, GIB):
        host = replace(bounded, zram_beyond=beyond)
        shown = published(sealed.tick(sealed.guest(), sealed.guest(sealed.UUID_2), host=host))
        assert shown["solvency"] is not None
        raised = format_size(shown["solvency"]["swap_missing"] + beyond)
        assert f"memory.memsw.limit_in_bytes) by {raised}" in describe_status(shown)


def test_no_swap_is_asked_for_where_none_would_help() -> None:
    pinned = replace(sealed.guest(), maximum=7 * GIB, obstacle=Obstacle.PASSTHROUGH)
    roomy = replace(sealed.HOST, swap_total=9 * GIB, swap_free=9 * GIB)
    text = describe_status(published(sealed.tick(pinned, host=roomy)))
    assert "no swap helps" in text
    assert "fallocate" not in text


def test_zram_is_told_apart_from_swap_that_counts() -> None:
    host = replace(sealed.HOST, swap_total=3 * GIB, swap_free=3 * GIB, zram_total=GIB, zram_free=GIB)
    assert "(1 GiB of it zram, which counts as none)" in describe_status(published(sealed.tick(host=host)))


def test_what_the_kernel_was_asked_to_do_with_a_guest_is_remembered_and_explained() -> None:
    first = sealed.tick(sealed.guest(), rung=Rung.ORANGE, measured=(sealed.reclaimed(detail="x"),))
    answer = published(first, sealed.tick(sealed.guest(), number=2, rung=Rung.ORANGE))
    relief = only_guest(answer)["relief"]
    assert relief == {
        "ago_s": 2.0, "kind": "reclaim", "size": 64 * MIB, "words": "holds too much",
        "result": "done", "detail": "x",
    }  # fmt: skip
    assert "web-1 holds too much: asked to be swapped out: 64 MiB, done 2 s ago." in describe_status(answer)
    explained = explain(only_guest(answer), answer)
    assert "Since it holds too much, the kernel was asked to swap out 64 MiB 2 s ago." in explained


def test_a_limit_and_its_lifting_are_explained() -> None:
    limited = sealed.tick(sealed.guest(), rung=Rung.RED, measured=(sealed.limited(limit=GIB),))
    answer = published(limited)
    assert "Since it holds too much, it was limited softly to 1 GiB 0 s ago." in explain(
        only_guest(answer), answer
    )
    assert "web-1 holds too much: limited softly to 1 GiB, done 0 s ago." in describe_status(answer)
    refused = sealed.limited(limit=None, result=Result.REFUSED)
    answer = published(limited, sealed.tick(sealed.guest(), number=2, measured=(refused,)))
    assert "Its soft limit was lifted 0 s ago: holds too much. It came to this: refused." in explain(
        only_guest(answer), answer
    )
    assert "softly" not in describe_status(answer)


def test_relief_is_forgotten_with_its_guest_and_merging_is_none_of_it() -> None:
    merging = Measured(measure=SetMerging(to=KsmSettings(run=1), words=""), result=Result.DONE)
    history = History()
    history.publish(sealed.tick(sealed.guest(), measured=(sealed.reclaimed(), merging)))
    history.publish(sealed.tick(sealed.guest(sealed.UUID_2), number=2))
    assert history.relief(sealed.UUID) is None


def test_a_guests_own_cgroup_is_shown() -> None:
    cgroup = GuestCgroup(used=GIB, pressure=Pressure(some_avg10=0.1, full_avg10=0.0, some_total_us=1))
    answer = published(sealed.tick(replace(sealed.guest(), cgroup=cgroup)))
    assert only_guest(answer)["cgroup"] == {
        "used": GIB, "swapped": None, "pressure": {"some_avg10": 0.1, "full_avg10": 0.0}, "soft_limit": None,
    }  # fmt: skip


# --- in words --------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_guest_with_columns_under_their_headings() -> None:
    guests = (sealed.guest(), sealed.guest(sealed.UUID_2, "a-much-longer-name"))
    verdicts = (sealed.verdict(target=GIB), sealed.verdict(sealed.UUID_2, "a-much-longer-name"))
    lines = describe_status(published(sealed.tick(*guests, verdicts=verdicts))).splitlines()
    heading, first, second = lines[-3:]
    assert first.startswith("a-much-longer-name") and second.startswith("web-1")
    assert first.index("fresh") == second.index("fresh") == heading.index("STATE")
    assert "1 GiB" in second and "1 GiB" not in first.split("4 GiB", 1)[1].split("1.5 GiB")[0]


def test_the_host_is_told_of_with_what_is_wrong_and_what_to_do() -> None:
    fault = Fault(kind=FaultKind.GUEST_UNREADABLE, subject=sealed.UUID, detail="no answer in 1 s")
    text = describe_status(
        published(
            sealed.tick(
                sealed.guest(),
                sealed.guest(sealed.UUID_2),
                faults=(fault,),
                rung=Rung.ORANGE,
                accounts=sealed.ledger(covered=False, own=8 * GIB),
            )
        )
    )
    for words in (
        "orange",
        "8 GiB",
        "no answer in 1 s",
        "More is committed",
        "Lower them",
        "Swap on disk (not zram) mends it",
    ):
        assert words in text


def merges(mode: str = "steer", stance: Stance = Stance.MERGING, saved: int = GIB) -> str:
    """What is said of a host that merges."""
    ksm = Ksm(run=1, saved=saved, profit=1, full_scans=1, pages_to_scan=100, advisor=None)
    merging = MergingVerdict(mode=mode, stance=stance, words="so it is", cap=0.5, used=0.4, memory=None)
    return describe_status(published(sealed.tick(host=replace(sealed.HOST, ksm=ksm), merging=merging)))


def test_merging_is_told_with_its_loan_its_reason_and_its_cost() -> None:
    said = "merging saves 1 GiB, on loan: guests call it back by writing; merging: so it is; ksmd takes 40%"
    assert said in merges()
    assert "merging saves nothing; resting: so it is" in merges(stance=Stance.RESTING, saved=0)
    assert "so it is" not in merges(mode="leave", stance=Stance.LEFT)
    assert "on loan" in merges(mode="leave", stance=Stance.LEFT)
    assert "merging" not in merges(mode="leave", stance=Stance.LEFT, saved=0)


def test_that_somebody_merges_against_the_mode_stands_out() -> None:
    assert "  !   Somebody else merges equal pages" in merges(mode="off", stance=Stance.OVERRULED)
    assert "  !" not in merges(mode="off", stance=Stance.YIELDING)


def test_a_guest_whose_pages_are_never_merged_is_shown_so() -> None:
    answer = published(sealed.tick(replace(sealed.guest(), mergeable=False)))
    assert only_guest(answer)["mergeable"] is False
    assert "never merged" in explain(only_guest(answer), answer)
    assert "never merged" not in explain(only_guest(published(sealed.tick(sealed.guest()))), answer)


def test_without_libvirt_and_without_a_host_it_says_so() -> None:
    text = describe_status(published(sealed.tick(listed=False, host=None, accounts=None)))
    assert "Host: unknown" in text and "Guests: unknown" in text
    assert "Guests: none." in describe_status(published(sealed.tick()))


def test_names_can_not_move_the_cursor_or_make_lines_of_their_own() -> None:
    name = "evil\x1b[2J\nroot  9 GiB\r\u202egnp"
    tick = sealed.tick(sealed.guest(name=name), verdicts=(sealed.verdict(name=name),))
    for text in (
        describe_status(published(tick)),
        explain(only_guest(published(tick)), published(tick)),
    ):
        assert all(line.isprintable() for line in text.split("\n"))
        assert r"evil\x1b[2J\nroot" in text


def test_wide_characters_and_long_names_keep_the_columns_straight() -> None:
    names = ("日本語", "x" * 80)
    guests = [
        sealed.guest(uuid, name) for uuid, name in zip((sealed.UUID, sealed.UUID_2), names, strict=True)
    ]
    lines = describe_status(published(sealed.tick(*guests))).splitlines()[-2:]
    assert lines[1].startswith("日本語" + " " * (32 - 6) + "  ")
    assert lines[0].startswith("x" * 31 + "…  ")


def test_lines_are_cut_at_the_terminals_width() -> None:
    tick = sealed.tick(sealed.guest(), verdicts=(sealed.verdict(),))
    assert all(len(line) <= 40 for line in describe_status(published(tick), width=40).splitlines())


@pytest.mark.parametrize(
    ("state", "obstacle", "trust", "distress", "shown"),
    [
        (State.PAUSED, Obstacle.NOT_RUNNING, Trust.FRESH, False, "paused"),
        (State.RUNNING, Obstacle.LOCKED, Trust.FRESH, False, "locked-memory"),
        (State.RUNNING, None, Trust.FRESH, True, "distress"),
        (State.RUNNING, None, Trust.SILENT, False, "silent"),
    ],
)
def test_the_one_word_that_matters_most_is_shown(
    state: State, obstacle: Obstacle | None, trust: Trust, distress: bool, shown: str
) -> None:
    verdict = sealed.verdict(obstacle=obstacle, estimate=sealed.demand(trust=trust, in_distress=distress))
    assert (
        standing(only_guest(published(sealed.tick(sealed.guest(state=state), verdicts=(verdict,))))) == shown
    )


def test_one_guest_is_explained_in_sentences() -> None:
    tick = sealed.tick(
        sealed.guest(),
        verdicts=(sealed.verdict(target=GIB, reason=Reason.DONATE),),
        outcomes=(sealed.outcome(result=Result.BUSY, detail="a migration is under way"),),
    )
    text = explain(only_guest(published(tick)), published(tick))
    for words in (
        "It has 2 GiB of at most 4 GiB.",
        "asked for 1 GiB",
        "QEMU occupies 1 GiB",
        "3 s old",
        "You guarantee it 1 GiB",
        "shrink-for-others",
        "busy (a migration is under way)",
    ):
        assert words in text


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("obstacle", [None, *Obstacle])
def test_every_trust_and_obstacle_has_words(trust: Trust, obstacle: Obstacle | None) -> None:
    verdict = sealed.verdict(obstacle=obstacle, estimate=sealed.demand(trust=trust))
    answer = published(sealed.tick(sealed.guest(), verdicts=(verdict,)))
    text = explain(only_guest(answer), answer)
    assert "see docs" not in text
    assert obstacle is None or f"left alone: {obstacle.value}." not in text


def test_a_silent_guest_comes_with_advice() -> None:
    verdict = sealed.verdict(estimate=sealed.demand(trust=Trust.ABSENT))
    answer = published(sealed.tick(sealed.guest(statistics=None), verdicts=(verdict,)))
    assert "virtio_balloon" in explain(only_guest(answer), answer)


def test_guests_are_found_by_name_by_uuid_and_by_how_it_begins() -> None:
    answer = published(sealed.tick(sealed.guest(), sealed.guest(sealed.UUID_2, "db")))
    assert [guest["name"] for guest in find(answer, "db")] == ["db"]
    assert [guest["name"] for guest in find(answer, sealed.UUID)] == ["web-1"]
    assert [guest["name"] for guest in find(answer, "0b0b")] == ["db"]
    assert find(answer, "0b") == [] == find(answer, "nobody")


def test_times_are_told_in_the_unit_that_says_enough() -> None:
    assert [ago(seconds) for seconds in (3, 119, 120, 7199, 7200, 200_000)] == [
        "3 s ago",
        "119 s ago",
        "2 min ago",
        "120 min ago",
        "2 h ago",
        "2 d ago",
    ]


# --- the journal -----------------------------------------------------------------------------------------


def test_the_same_tick_gives_the_same_bytes_and_the_cores_memory_stays_out() -> None:
    def tick() -> Tick:
        return sealed.tick(sealed.guest(), verdicts=(sealed.verdict(),), outcomes=(sealed.outcome(),))

    assert to_json(tick()) == to_json(tick())
    written = json.loads(to_json(tick()))
    assert written["snapshot"]["guests"][0]["statistics"]["untrusted_usable"] == sealed.HEARD.untrusted_usable
    assert written["decision"]["rung"] == "green"
    assert "memory" not in written["decision"]["verdicts"][0]
    assert "\n" not in to_json(tick())


def test_a_journal_that_nobody_reads_does_not_stop_the_daemon(tmp_path: Path) -> None:
    path, complaints = tmp_path / "pipe", list[str]()
    os.mkfifo(path)
    Journal(path, complaints.append).publish(sealed.tick())
    assert len(complaints) == 1


def test_a_full_journal_becomes_the_older_one_and_there_are_two(tmp_path: Path) -> None:
    path, complaints = tmp_path / "journal", list[str]()
    tick = sealed.tick(sealed.guest())
    journal = Journal(path, complaints.append, limit=3 * len(to_json(tick)) + 10)
    for number in range(1, 9):
        journal.publish(replace(tick, number=number))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["journal", "journal.1"]
    kept = [
        json.loads(line)["number"] for name in ("journal.1", "journal") for line in _lines(tmp_path / name)
    ]
    assert kept == [4, 5, 6, 7, 8]
    assert not complaints


def test_a_journal_that_can_not_be_written_complains_once_and_takes_up_again(tmp_path: Path) -> None:
    complaints = list[str]()
    journal = Journal(tmp_path / "missing" / "journal", complaints.append)
    for number in (1, 2):
        journal.publish(sealed.tick(number=number))
    assert len(complaints) == 1 and "not being recorded" in complaints[0]
    (tmp_path / "missing").mkdir()
    journal.publish(sealed.tick(number=3))
    assert len(_lines(tmp_path / "missing" / "journal")) == 1


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
