"""Is the log one line an event, each line true, and none of them somebody else's?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from balloond.log import Level, Log, printable, to_standard_error
from balloond.model import (
    Fault,
    FaultKind,
    KsmSettings,
    Measured,
    MergingVerdict,
    Reason,
    Result,
    Rung,
    SetMerging,
    Stance,
    Trust,
)
from balloond.publish import narrate
from balloond.publish.narrate import Narrator
from balloond.units import GIB
from tests.unit import sealed


class Page:
    """A log into a file, and what was written since one last looked."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)

    def log(self, threshold: Level = Level.INFO, *, prefixed: bool = False) -> Log:
        return Log(threshold=threshold, descriptor=self.descriptor, prefixed=prefixed)

    def fresh(self) -> list[str]:
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        lines = os.read(self.descriptor, 1 << 20).decode().splitlines()
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return lines


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(tmp_path / "log")
    yield page
    os.close(page.descriptor)


def test_a_line_has_its_level_its_message_and_its_fields(page: Page) -> None:
    page.log().info("guest grows", guest="web 1", target="2 GiB", took_s=0.123456, nothing=None, empty="")
    assert page.fresh() == ['INFO guest grows guest="web 1" target="2 GiB" took_s=0.123 empty=""']


def test_lines_below_the_threshold_are_left_out(page: Page) -> None:
    log = page.log(Level.WARNING)
    for write in (log.debug, log.info, log.warning, log.error):
        write("x")
    assert page.fresh() == ["WARNING x", "ERROR x"]


def test_the_journal_gets_its_prefixes(page: Page) -> None:
    page.log(prefixed=True).error("x")
    assert page.fresh() == ["<3>ERROR x"]


@pytest.mark.parametrize("name", ["a\nERROR forged", "a\x1b[2J", 'a" target=0', "a\u2028b", "\ud800", "a\\n"])
def test_no_value_can_write_a_line_a_field_or_move_a_cursor(page: Page, name: str) -> None:
    page.log().info("x", guest=name, end=1)
    (line,) = page.fresh()
    assert line.isprintable() and line.endswith(" end=1")
    assert printable(name).isprintable()


def test_different_names_never_look_the_same() -> None:
    names = ["a\nb", "a\\nb", "a\\\nb", "a\\\\nb"]
    assert len({printable(name) for name in names}) == len(names)


def test_a_log_that_can_not_be_written_stops_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    Log(descriptor=write).info("x")
    os.close(write)
    Log(descriptor=write).info("x")


def test_the_journal_is_recognised_by_its_device_and_inode(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = os.fstat(2)
    here = to_standard_error({"JOURNAL_STREAM": f"{stderr.st_dev}:{stderr.st_ino}"})
    elsewhere = to_standard_error({"JOURNAL_STREAM": "1:2"})
    assert (vars(here)["_prefixed"], vars(elsewhere)["_prefixed"]) == (True, False)


# --- what is told of ticks -------------------------------------------------------------------------------


def test_an_action_is_one_line_with_its_reason(page: Page) -> None:
    narrator = Narrator(page.log())
    narrator.publish(sealed.tick(sealed.guest(), outcomes=(sealed.outcome(),)))
    assert page.fresh()[1:] == [
        f'INFO guest shrinks guest=web-1 uuid={sealed.UUID} actual="2 GiB" target="1 GiB" '
        'reason=shrink-for-others result=done words="others need memory now"'
    ]


def test_a_guest_that_refuses_again_and_again_is_told_of_once(page: Page) -> None:
    narrator = Narrator(page.log())
    refused = sealed.outcome(result=Result.REFUSED, detail="no")
    for number in range(1, 4):
        narrator.publish(sealed.tick(sealed.guest(), number=number, outcomes=(refused,)))
    assert len([line for line in page.fresh() if line.startswith("WARNING guest shrinks")]) == 1
    narrator.publish(sealed.tick(sealed.guest(), number=4, outcomes=(sealed.outcome(),)))
    narrator.publish(sealed.tick(sealed.guest(), number=5, outcomes=(refused,)))
    assert [line.split()[0] for line in page.fresh()] == ["INFO", "WARNING"]


def test_in_mode_observe_the_same_wish_is_told_once_until_it_changes(page: Page) -> None:
    narrator = Narrator(page.log())

    def wish(number: int, target: int, reason: Reason = Reason.DONATE) -> list[str]:
        outcome = sealed.outcome(target=target, reason=reason, result=Result.OBSERVED)
        narrator.publish(sealed.tick(sealed.guest(), number=number, outcomes=(outcome,)))
        return [line for line in page.fresh() if "result=observed" in line]

    assert wish(1, GIB)
    assert not wish(2, GIB) and not wish(3, int(1.05 * GIB)) and not wish(4, int(0.95 * GIB))
    assert wish(5, int(1.2 * GIB))
    assert wish(6, int(1.2 * GIB), Reason.REFILL)
    assert wish(7, 3 * GIB, Reason.REFILL)


def fault(detail: str) -> Fault:
    return Fault(kind=FaultKind.LIBVIRT_DOWN, subject="qemu:///system", detail=detail)


def test_a_condition_is_told_when_it_begins_and_when_it_ends_and_not_between(page: Page) -> None:
    narrator = Narrator(page.log())
    narrator.publish(sealed.tick(listed=False, faults=(fault("refused"),)))
    (begun,) = page.fresh()
    assert begun.startswith("WARNING libvirt does not answer") and "refused" in begun
    narrator.publish(sealed.tick(number=2, listed=False, faults=(fault("refused, attempt 2"),)))
    assert page.fresh() == []
    narrator.publish(sealed.tick(number=3))
    assert page.fresh()[-1].startswith("WARNING over: libvirt does not answer")


def test_every_kind_of_fault_has_words() -> None:
    assert set(vars(narrate)["_FAULTS"]) == set(FaultKind)


def test_a_change_of_rung_a_broken_ledger_and_missing_swap_are_told(page: Page) -> None:
    narrator = Narrator(page.log())
    guests = (sealed.guest(), sealed.guest(sealed.UUID_2))
    narrator.publish(
        sealed.tick(*guests, rung=Rung.ORANGE, accounts=sealed.ledger(covered=False, own=7 * GIB))
    )
    told = "\n".join(page.fresh())
    for words in ("is orange", "more is committed", "guarantees", "swap would be missing"):
        assert words in told
    narrator.publish(sealed.tick(sealed.guest(), number=2, rung=Rung.YELLOW))
    told = "\n".join(page.fresh())
    for words in (
        "is yellow",
        "over: the host's memory was orange",
        "backed again",
        "honour all guarantees again",
    ):
        assert words in told


def test_what_held_for_guests_holds_still_while_nobody_can_see_them(page: Page) -> None:
    narrator = Narrator(page.log())
    silent = sealed.verdict(estimate=sealed.demand(trust=Trust.SILENT))
    narrator.publish(sealed.tick(sealed.guest(), verdicts=(silent,)))
    assert "statistics are silent" in page.fresh()[-1]
    narrator.publish(sealed.tick(number=2, listed=False))
    narrator.publish(sealed.tick(sealed.guest(), number=3, verdicts=(silent,)))
    assert page.fresh() == []
    narrator.publish(sealed.tick(sealed.guest(), number=4, verdicts=(sealed.verdict(),)))
    assert "no longer silent" in page.fresh()[-1]


def test_what_was_wrong_with_the_host_is_not_over_while_libvirt_or_its_figures_are_lost(page: Page) -> None:
    narrator = Narrator(page.log())
    guests = (sealed.guest(), sealed.guest(sealed.UUID_2))
    bad = sealed.tick(*guests, accounts=sealed.ledger(covered=False, own=7 * GIB))
    narrator.publish(bad)
    assert "swap would be missing" in "\n".join(page.fresh())
    for number, lost in enumerate((replace(bad.snapshot, guests=None), replace(bad.snapshot, host=None)), 2):
        frozen = replace(bad.decision, ledger=None)
        narrator.publish(replace(bad, number=number, snapshot=lost, decision=frozen))
    assert page.fresh() == []


def test_distress_and_a_stuck_balloon_are_told(page: Page) -> None:
    stuck = sealed.verdict(reason=Reason.STUCK, estimate=sealed.demand(in_distress=True))
    Narrator(page.log()).publish(sealed.tick(sealed.guest(), verdicts=(stuck,)))
    told = "\n".join(page.fresh())
    assert "in distress" in told and "does not move" in told


def test_arrivals_and_departures_are_told_but_not_a_list_that_was_lost(page: Page) -> None:
    narrator = Narrator(page.log())
    narrator.publish(sealed.tick(sealed.guest()))
    assert page.fresh() == ["INFO guests found count=1"]
    narrator.publish(sealed.tick(number=2, listed=False))
    narrator.publish(sealed.tick(sealed.guest(), number=3))
    assert page.fresh() == []
    narrator.publish(sealed.tick(sealed.guest(sealed.UUID_2, "db"), number=4))
    assert [line.split(" uuid")[0] for line in page.fresh()] == [
        "INFO guest arrived guest=db",
        "INFO guest gone guest=web-1",
    ]


def merging(stance: Stance, words: str, mode: str = "steer") -> MergingVerdict:
    return MergingVerdict(mode=mode, stance=stance, words=words, cap=None, used=None, memory=None)


def test_merging_is_told_when_it_starts_changes_its_pace_or_stops_and_not_between(page: Page) -> None:
    narrator = Narrator(page.log())
    stances = [
        (Stance.LEFT, ""), (Stance.MERGING, "yellow"), (Stance.MERGING, "yellow"), (Stance.MERGING, "orange"),
        (Stance.RESTING, "7 pages"), (Stance.RESTING, "7 pages"), (Stance.KEPT, "1"), (Stance.KEPT, "2"),
    ]  # fmt: skip
    for number, (stance, words) in enumerate(stances, 1):
        narrator.publish(sealed.tick(number=number, merging=merging(stance, words)))
    assert [line for line in page.fresh() if line.startswith("INFO merging")] == [
        "INFO merging mode=steer stance=merging words=yellow",
        "INFO merging mode=steer stance=merging words=orange",
        'INFO merging mode=steer stance=resting words="7 pages"',
        "INFO merging mode=steer stance=kept words=1",
    ]


def test_another_tuner_and_pages_that_stay_merged_are_conditions(page: Page) -> None:
    narrator = Narrator(page.log())
    narrator.publish(sealed.tick(merging=merging(Stance.YIELDING, "")))
    assert "WARNING somebody else sets merging too; it is left to them" in page.fresh()
    narrator.publish(sealed.tick(number=2, merging=merging(Stance.KEPT, "", mode="off")))
    told = page.fresh()
    assert "WARNING over: nobody else sets merging any more" in told
    assert "WARNING merging is off, and what is merged stays so; balloonctl status says why" in told


def test_that_somebody_merges_against_the_mode_is_told_when_it_begins_and_when_it_ends(page: Page) -> None:
    narrator = Narrator(page.log())
    narrator.publish(sealed.tick(merging=merging(Stance.YIELDING, "", mode="off")))
    assert not any("GUESTS' PAGES" in line for line in page.fresh())
    for number in range(2, 5):
        narrator.publish(sealed.tick(number=number, merging=merging(Stance.OVERRULED, "", mode="off")))
    told = page.fresh()
    assert len([line for line in told if line.startswith("WARNING GUESTS' PAGES ARE MERGED")]) == 1
    assert not any("over: nobody else sets merging" in line for line in told)
    narrator.publish(sealed.tick(number=5, merging=merging(Stance.KEPT, "", mode="off")))
    assert "WARNING over: guests' pages were merged by somebody else, though the mode is off" in page.fresh()


def test_a_kernel_that_refuses_is_told_of_once(page: Page) -> None:
    narrator = Narrator(page.log())
    refused = Measured(
        measure=SetMerging(to=KsmSettings(run=1), words=""), result=Result.REFUSED, detail="run: read-only"
    )
    for number in range(1, 4):
        narrator.publish(sealed.tick(number=number, measured=(refused,)))
    (line,) = [line for line in page.fresh() if "refuses" in line]
    assert "read-only" in line


def test_at_debug_each_tick_is_one_line(page: Page) -> None:
    Narrator(page.log(Level.DEBUG)).publish(sealed.tick())
    (line,) = [line for line in page.fresh() if line.startswith("DEBUG")]
    assert line == 'DEBUG tick number=1 rung=green guests=0 headroom="4 GiB" actions=0 faults=0'


TAKES = "the kernel is asked to swap out memory"
LIMITS = "the kernel is asked to hold the guest to a soft limit"


def told(page: Page, words: str) -> list[str]:
    return [line for line in page.fresh() if words in line]


def test_reclaiming_is_told_when_it_begins_and_when_the_host_is_better(page: Page) -> None:
    narrator = Narrator(page.log())
    narrator.publish(sealed.tick(sealed.guest(), rung=Rung.ORANGE, measured=(sealed.reclaimed(),)))
    (line,) = told(page, TAKES)
    assert line.startswith("WARNING") and "guest=web-1" in line
    narrator.publish(sealed.tick(sealed.guest(), rung=Rung.ORANGE, measured=(sealed.reclaimed(),)))
    narrator.publish(sealed.tick(sealed.guest(), rung=Rung.ORANGE))  # a turn in which none was due
    assert told(page, TAKES) == []
    narrator.publish(sealed.tick(sealed.guest(), rung=Rung.YELLOW))
    (line,) = told(page, TAKES)
    assert line.startswith("WARNING over:")


def test_a_soft_limit_is_told_until_it_is_really_lifted(page: Page) -> None:
    narrator = Narrator(page.log())
    narrator.publish(sealed.tick(sealed.guest(), rung=Rung.RED, measured=(sealed.limited(limit=GIB),)))
    assert len(told(page, LIMITS)) == 1
    failed = sealed.limited(limit=None, result=Result.REFUSED)
    narrator.publish(sealed.tick(sealed.guest(), measured=(failed,)))
    assert told(page, LIMITS) == []
    narrator.publish(sealed.tick(sealed.guest(), measured=(sealed.limited(limit=None),)))
    assert len(told(page, f"over: the host is red; {LIMITS}")) == 1


def test_a_measure_that_failed_says_so_and_a_guest_that_is_gone_is_forgotten(page: Page) -> None:
    narrator = Narrator(page.log())
    failed = sealed.reclaimed(result=Result.REFUSED, detail="this kernel has no memory.reclaim")
    narrator.publish(sealed.tick(sealed.guest(), rung=Rung.ORANGE, measured=(failed,)))
    (line,) = told(page, TAKES)
    assert 'result=refused detail="this kernel has no memory.reclaim"' in line
    narrator.publish(sealed.tick(rung=Rung.ORANGE))
    assert len(told(page, "over: the host is short")) == 1


def test_merging_is_not_taken_for_a_guests_matter(page: Page) -> None:
    merging = Measured(measure=SetMerging(to=KsmSettings(run=1), words=""), result=Result.DONE)
    Narrator(page.log()).publish(sealed.tick(sealed.guest(), rung=Rung.ORANGE, measured=(merging,)))
    assert told(page, "asked to") == []
