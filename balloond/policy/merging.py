"""Is merging equal pages worth it, and how fast may it go?

Benefit is what is saved for good; cost is ksmd's CPU time and the pages that writes tear apart again, which count
against the benefit. It goes faster the worse it is on the host, within a share of one processor that is measured:
what a page costs ksmd differs by forty times between one that it skips and one that it merges. What does not pay
rests, and what is merged is kept. Somebody else who sets the same knobs is yielded to, never fought; but who
merges where the operator wants none is told of as long as it lasts. This module must never unmerge without the
room for all that is merged, with the pool to spare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from math import exp
from typing import Final

from balloond.config.settings import KsmMode, KsmPolicy
from balloond.model import (
    Guest,
    Host,
    Ksm,
    KsmSettings,
    MergingVerdict,
    Rung,
    SetMerging,
    Stance,
    State,
)
from balloond.units import PAGE, format_size
from balloond.value import value

PACES: Final = {
    Rung.GREEN: (600, 2 / 7),
    Rung.YELLOW: (25, 5 / 7),
    Rung.ORANGE: (15, 1.0),
    Rung.RED: (15, 1.0),
}
"""In how many seconds all candidates are to be gone over once, and with which part of the operator's share of a
processor: 20, 50 and 70 % by default, the last being the kernel's advisor's own. A page is merged at its second
visit, so that 25 s let a yellow host have most of it within a minute; where that takes more than the share, as on
large hosts, the share wins."""

SLEEP_MS: Final = 20
"""Between two steps of ksmd: the kernel's default. Shorter ones would wake a processor more often."""

LEAST_PAGES: Final = 10
MOST_PAGES: Final = 30_000
"""A step: the kernel's advisor knows no longer one either; at a microsecond a page it takes 30 ms."""

COST_DEAR_S: Final = 14e-6
COST_LEAST_S: Final = 1e-7
COST_MOST_S: Final = 1e-3
"""What a page costs ksmd: 0.4 us (nothing new), 1 (first visit), 7 (in vain) and 14 (merged) were seen on a Xeon
with kernel 6.18. Until it was measured it is taken for dear."""

SURPRISE: Final = 2.5
"""Of its share: what ksmd would take if all pages before it were suddenly dear. Two seconds of that, until it is
seen, are the tenth of WINDOW_S by which the share may be exceeded."""

COST_S: Final = 10.0
COST_RISE: Final = 0.7
"""The measured cost changes with what ksmd has before it. It is believed by so much at once when it rises, so that
the share holds, and averaged over COST_S when it falls."""

SAMPLE_S: Final = 1.0
"""The kernel counts CPU time in hundredths of a second, so shorter spans tell little."""

WINDOW_S: Final = 30.0
REPAID_S: Final = 8.0
"""ksmd's share is to hold over WINDOW_S. What it took too much is taken off its next REPAID_S."""

LOWEST: Final = 0.2
"""Of its share, ksmd keeps so much while it repays: it must be seen to run to be measured."""

BUSIEST: Final = 0.95
"""With more than that ksmd would never sleep."""

SLACK: Final = 1.1
"""Settings that are nearer than this to what they should be are left: each change is a write."""

ADVISOR: Final = "scan-time"
ADVISOR_SLOW: Final = 0.5
"""The kernel's advisor corrects its pace only when a scan ends. Where it is slower than this part of what it ought
to be, as after a rung, it is started anew."""

SCANS: Final = 3
PROFIT_LEAST: Final = 0.005
MERGES_LEAST: Final = 1000
"""Merging is judged over three full scans, as a page needs two. It pays with so many pages net a second of ksmd's
CPU time, which is what was merged less what writes tore apart; on green only while it saves so much of all memory
too. (73,000 a second were seen while there was something to merge.)"""

AGAIN_S: Final = {Rung.GREEN: 1800.0, Rung.YELLOW: 300.0, Rung.ORANGE: 300.0, Rung.RED: 300.0}
"""What did not pay is tried again after that, and at once when the host gets worse."""

RMAP_ITEM: Final = 64
"""Bytes that the kernel keeps for each candidate page (Documentation/admin-guide/mm/ksm.rst)."""

YIELD_S: Final = 1800.0
YIELD_MOST_S: Final = 86400.0
"""Settings of somebody else's are left alone until they stayed so for this long; twice as long each next time."""


@value
class Mark:
    """How things stood at the end of a scan."""

    scans: int
    saved: int
    cpu_s: float


@value
class Gauge:
    """What ksmd was measured to take."""

    at_s: float
    cpu_s: float | None
    scanned: int | None
    cost_s: float = COST_DEAR_S  # CPU a page
    debt_s: float = 0.0  # CPU that it took beyond its share
    used: float | None = None  # of one processor, averaged over WINDOW_S


@value
class Course:
    """What is remembered of merging from tick to tick."""

    stance: Stance
    since_s: float
    why: str
    rung: Rung  # the best one since then: a worse one is a reason to look again
    gauge: Gauge
    marks: tuple[Mark, ...] = ()
    wait_s: float = YIELD_S / 2  # how long somebody else was last yielded to; half the first time
    seen: KsmSettings | None = None  # what somebody else had set


def steer(
    policy: KsmPolicy,
    host: Host,
    guests: Sequence[Guest] | None,
    before: Course | None,
    *,
    rung: Rung,
    spare: int,
    now_s: float,
) -> tuple[MergingVerdict | None, SetMerging | None]:
    """What is made of merging now, and what is to be set. `spare`: bytes available beyond reserve and pool;
    `guests`: None where nobody knows them now, so that ksmd's own account of them must do."""
    ksm = host.ksm
    if ksm is None:
        return None, None
    cap = policy.cpu * PACES[rung][1] if policy.mode is KsmMode.STEER else None
    gauge = measure(before.gauge if before else None, ksm, cap, now_s)
    if before is None:
        before = Course(stance=Stance.LEFT, since_s=now_s, why="", rung=rung, gauge=gauge)
    before = replace(before, gauge=gauge, rung=min(rung, before.rung))
    if policy.mode is KsmMode.LEAVE:
        course, to = _leave(ksm, before, now_s)
    elif (yields := _yield(ksm, before, now_s)) is not None:
        course, to = yields
    elif policy.mode is KsmMode.OFF:
        course, to = _refrain(ksm, before, spare, now_s)
    else:
        assert cap is not None  # noqa: S101  (this is mode steer)
        candidates = mergeable(guests) if guests is not None else max(PAGE, ksm.candidates)
        course, to = _merge(ksm, before, host.total, candidates, rung, cap, now_s)
    if before.stance is Stance.YIELDING is not course.stance:  # from now on they are ours, however they stand
        change: KsmSettings | None = over(replace(ksm.settings, run=1 if ksm.run == 1 else 0), to)
    else:
        change = to and differing(to, ksm.settings)
    stance, why = course.stance, course.why
    if policy.mode is KsmMode.OFF and stance is Stance.YIELDING and ksm.run == 1:
        stance, why = Stance.OVERRULED, f"guests' pages are merged against the mode: {why}"
    elif policy.mode is KsmMode.OFF and stance is before.stance is Stance.KEPT and ksm.run == 1:
        stance, why = Stance.OVERRULED, "guests' pages are merged against the mode: run is still 1"
    verdict = MergingVerdict(
        mode=policy.mode.value, stance=stance, words=why,
        cap=cap if course.stance is Stance.MERGING else None, used=gauge.used, memory=course,
    )  # fmt: skip
    return verdict, SetMerging(to=change, words=course.why) if change else None


def mergeable(guests: Sequence[Guest]) -> int:
    """Bytes that ksmd may look at among guests; those with <nosharepages/> are left out."""
    lives = [guest for guest in guests if guest.mergeable and guest.state is not State.OFF]
    return sum(guest.rss if guest.rss is not None else guest.actual for guest in lives)


def back(ksm: Ksm) -> KsmSettings | None:
    """What of the settings that were found is to be put back: what is still as we left it. Unmerging is not put
    back, as there may be no room for it: what is merged stays so, and nothing more is merged."""
    if ksm.found is None or ksm.put is None:
        return None
    found = replace(ksm.found, run=0) if ksm.found.run == 2 else ksm.found
    if ksm.settings.advisor == found.advisor == ADVISOR:  # it has gone on from there by itself
        found = replace(found, pages_to_scan=None)
    change = differing(replace(found, **dict.fromkeys(strange(ksm.put, ksm.settings))), ksm.settings)
    if change is not None and change.advisor is not None:  # the kernel sets the pages anew with it
        change = replace(change, pages_to_scan=found.pages_to_scan)
    return change


def strange(put: KsmSettings | None, now: KsmSettings) -> tuple[str, ...]:
    """The names of settings that are neither as we left them nor as the kernel changes them by itself."""
    if put is None:
        return ()
    own = {"pages_to_scan"} if now.advisor == ADVISOR else set()
    if put.run == 2 and now.run == 0:
        own.add("run")  # unmerging came to its end, or failed
    names = [each.name for each in fields(KsmSettings) if each.name not in own]
    return tuple(
        name for name in names if getattr(put, name) is not None and getattr(put, name) != getattr(now, name)
    )


def differing(wanted: KsmSettings, now: KsmSettings) -> KsmSettings | None:
    """What of `wanted` is not so already, as far as this kernel has it; None: nothing."""
    names = [each.name for each in fields(KsmSettings)]
    change = {
        name: getattr(wanted, name)
        for name in names
        if getattr(wanted, name) is not None and getattr(now, name) not in (None, getattr(wanted, name))
    }
    return KsmSettings(**change) if change else None


def over(under: KsmSettings, above: KsmSettings | None) -> KsmSettings:
    """`under`, with what `above` names in its place."""
    given = {each.name: getattr(above, each.name, None) for each in fields(KsmSettings)}
    return replace(under, **{name: value for name, value in given.items() if value is not None})


# --- the operator's three modes --------------------------------------------------------------------------

_Next = tuple[Course, KsmSettings | None]


def _go(before: Course, stance: Stance, why: str, now_s: float, rung: Rung | None = None) -> Course:
    """The course with another stance; the same one goes on as it was, unless it is begun anew on a `rung`."""
    if before.stance is stance and rung is None:
        return replace(before, why=why)
    rung = before.rung if rung is None else rung
    return replace(before, stance=stance, since_s=now_s, why=why, rung=rung, marks=())


def _leave(ksm: Ksm, before: Course, now_s: float) -> _Next:
    to = back(ksm)
    return _go(before, Stance.LEFT, "put back as it was found" if to else "left as it is", now_s), to


def _yield(ksm: Ksm, before: Course, now_s: float) -> _Next | None:
    """None: nobody else is at work, or what was set has stayed so for long."""
    if before.stance is Stance.YIELDING:
        since_s = before.since_s if _same(ksm.settings, before.seen) else now_s
        if now_s - since_s >= before.wait_s:
            return None
        return replace(before, since_s=since_s, seen=ksm.settings), None
    if before.stance is Stance.LEFT or not (theirs := strange(ksm.put, ksm.settings)):
        return None
    why = f"somebody else sets {', '.join(theirs)} (ksmtuned, MOM, tuned, a person?): left to them while they do"
    course = _go(before, Stance.YIELDING, why, now_s)
    return replace(course, wait_s=min(2 * before.wait_s, YIELD_MOST_S), seen=ksm.settings), None


def _same(now: KsmSettings, seen: KsmSettings | None) -> bool:
    """Whether two settings are the same but for what an advisor changes by itself."""
    if seen is None or now.advisor != ADVISOR:
        return now == seen
    return replace(now, pages_to_scan=None) == replace(seen, pages_to_scan=None)


def _refrain(ksm: Ksm, before: Course, spare: int, now_s: float) -> _Next:
    """Merges nothing; takes apart what is merged, where there is room for it."""
    saved, room = format_size(ksm.saved), format_size(max(0, spare))
    if ksm.run == 1:
        return _go(before, Stance.KEPT, "nothing more is to be merged", now_s), KsmSettings(run=0)
    if not ksm.saved:
        return _go(before, Stance.OFF, "nothing is merged", now_s), None
    if ksm.run == 2 and ksm.put is not None and ksm.put.run == 2 and ksm.saved > spare:
        why = f"taking apart is broken off: {saved} more are needed, and {room} are to spare"
        return _go(before, Stance.KEPT, why, now_s), KsmSettings(run=0)
    waits = before.stance is not Stance.KEPT or now_s - before.since_s < AGAIN_S[Rung.RED]
    if ksm.run != 2 and ksm.failed and waits:
        again = f"in {AGAIN_S[Rung.RED] / 60:.0f} min it is tried again"
        why = f"what is merged stays so: taking it apart failed ({ksm.failed}), and {again}"
        return _go(before, Stance.KEPT, why, now_s), None
    if ksm.run == 2 or (before.stance is Stance.UNMERGING and now_s - before.since_s < AGAIN_S[Rung.RED]):
        return _go(before, Stance.UNMERGING, "what was merged is taken apart", now_s), None
    if ksm.saved > spare:
        why = f"what is merged stays so: apart it needs {saved} more, and {room} are to spare"
        return _go(before, Stance.KEPT, why, now_s), None
    why = f"{saved} are taken apart, as {room} are to spare"
    return _go(before, Stance.UNMERGING, why, now_s, before.rung), KsmSettings(run=2)


def _merge(
    ksm: Ksm, before: Course, total: int, candidates: int, rung: Rung, cap: float, now_s: float
) -> _Next:
    """Merges while it pays."""
    if not candidates:  # looked at anew with each tick
        why = "no guest's memory may be merged"
        return replace(_go(before, Stance.RESTING, why, now_s, rung), since_s=float("-inf")), _REST
    if before.stance is Stance.RESTING and rung <= before.rung and now_s - before.since_s < AGAIN_S[rung]:
        return before, _REST
    why = f"the host is {rung.name.lower()}: all once in {PACES[rung][0]} s, with {cap:.0%} of a processor at most"
    course = _go(before, Stance.MERGING, why, now_s, None if before.stance is Stance.MERGING else rung)
    course = replace(course, rung=rung, marks=_marked(course.marks, ksm))
    if poor := _poor(ksm, course.marks, total, rung):
        why = f"{poor}; what is merged is kept, and in {AGAIN_S[rung] / 60:.0f} min it is tried again"
        return _go(course, Stance.RESTING, why, now_s), _REST
    return course, _pace(ksm, max(candidates, ksm.candidates), rung, cap, course.gauge)


_REST: Final = KsmSettings(run=0)


# --- does it pay? ----------------------------------------------------------------------------------------


def _marked(marks: tuple[Mark, ...], ksm: Ksm) -> tuple[Mark, ...]:
    """With the end of another scan, and no more of the past than it takes to judge."""
    if not marks or ksm.full_scans != marks[-1].scans:
        marks = (*marks, Mark(scans=ksm.full_scans, saved=ksm.saved, cpu_s=ksm.cpu_s or 0.0))
    while len(marks) > 2 and marks[-1].scans - marks[1].scans >= SCANS:
        marks = marks[1:]
    return marks


def _poor(ksm: Ksm, marks: tuple[Mark, ...], total: int, rung: Rung) -> str:
    """Why it does not pay; empty: it does, or it is too early to say."""
    first, last = marks[0], marks[-1]
    if last.scans - first.scans < SCANS:
        return ""
    merges, cpu_s = (last.saved - first.saved) / PAGE, last.cpu_s - first.cpu_s
    if merges <= MERGES_LEAST * cpu_s:
        return f"{merges:.0f} pages net were merged in {SCANS} scans for {cpu_s:.1f} s of CPU"
    profit = ksm.profit if ksm.profit is not None else ksm.saved - RMAP_ITEM * ksm.candidates // PAGE
    if rung is Rung.GREEN and profit < PROFIT_LEAST * total:
        return f"it saves {format_size(profit)} net, too little on green"
    return ""


# --- how fast? -------------------------------------------------------------------------------------------


def measure(before: Gauge | None, ksm: Ksm, cap: float | None, now_s: float) -> Gauge:
    """What ksmd took since. Without a count of its own (before 6.6) what it scanned follows from how long it
    slept. `cap`: its share of one processor; None: nobody bounds it."""
    if before is None or before.cpu_s is None or ksm.cpu_s is None or ksm.cpu_s < before.cpu_s:
        return Gauge(at_s=now_s, cpu_s=ksm.cpu_s, scanned=ksm.scanned)
    elapsed_s = now_s - before.at_s
    if elapsed_s < SAMPLE_S:
        return before
    took_s = ksm.cpu_s - before.cpu_s
    share = took_s / elapsed_s
    if ksm.scanned is not None and before.scanned is not None:
        pages = (ksm.scanned - before.scanned) / PAGE
    else:
        pages = (
            ksm.pages_to_scan
            * max(0.0, elapsed_s - took_s)
            * 1000
            / max(1, ksm.settings.sleep_ms or SLEEP_MS)
        )
    cost_s = before.cost_s
    if pages > 0 and took_s > 0:
        seen_s = min(max(took_s / pages, COST_LEAST_S), COST_MOST_S)
        cost_s += (seen_s - cost_s) * (COST_RISE if seen_s > cost_s else 1 - exp(-elapsed_s / COST_S))
    debt_s = max(0.0, before.debt_s + took_s - cap * elapsed_s) if cap is not None else 0.0
    keep = exp(-elapsed_s / WINDOW_S)
    used = share if before.used is None else before.used * keep + share * (1 - keep)
    return Gauge(
        at_s=now_s,
        cpu_s=ksm.cpu_s,
        scanned=ksm.scanned,
        cost_s=cost_s,
        debt_s=min(debt_s, WINDOW_S),
        used=used,
    )


def _pace(ksm: Ksm, candidates: int, rung: Rung, cap: float, gauge: Gauge) -> KsmSettings:
    """The settings for that pace. ksmd works for pages * cost and sleeps; its share is the one over the sum."""
    target_s = PACES[rung][0]
    aim = max(LOWEST * cap, cap - gauge.debt_s / REPAID_S)
    most = min(_pages(aim, gauge.cost_s), _pages(SURPRISE * cap, COST_DEAR_S))
    pages = min(most, _pages(candidates / PAGE / target_s * gauge.cost_s, gauge.cost_s))
    has, starts = ksm.pages_to_scan, ksm.run != 1
    to = KsmSettings(run=1, sleep_ms=SLEEP_MS)
    if ksm.advisor is None:
        keeps = not starts and has <= SLACK * pages and pages <= SLACK * has
        return to if keeps else replace(to, pages_to_scan=pages)
    to = replace(to, advisor=ADVISOR, advisor_target_s=target_s, advisor_max_cpu=max(1, round(100 * cap)))
    keeps = not starts and ksm.advisor == ADVISOR and ADVISOR_SLOW * pages <= has <= SLACK * most
    return to if keeps else replace(to, pages_to_scan=pages)


def _pages(share: float, cost_s: float) -> int:
    """Pages a step with which ksmd takes that share of a processor."""
    share = min(share, BUSIEST)
    return min(max(int(SLEEP_MS / 1000 * share / (1 - share) / cost_s), LEAST_PAGES), MOST_PAGES)
