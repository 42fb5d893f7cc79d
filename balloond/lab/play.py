"""How does a scenario go? Plays it on real guests, looks at it every second, and sums it up.

Every figure comes from the guests, from their cgroup, or from the daemon's own metrics; none is computed from
what was merely intended. A guest that is silent has served nothing meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from balloond.lab.arena import Arena, Lab
from balloond.lab.channel import Report
from balloond.lab.daemon import Daemon
from balloond.lab.faults import LabError
from balloond.lab.guest import Guest
from balloond.lab.scenario import Phase, Scenario
from balloond.units import PAGE

LOOK_S: Final = 1.0
ANSWER_S: Final = 4.0  # a guest that answers later is shown as silent; its work goes on being counted
LAST_ANSWER_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestView:
    """One guest at one instant; `report` is None while it is silent."""

    name: str
    maximum: int
    report: Report | None
    served_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All of it at one instant."""

    elapsed_s: float
    guests: tuple[GuestView, ...]
    pool: int
    used: int
    swapped: int
    targets_set: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What came of it; memory in bytes."""

    scenario: str
    accelerator: str
    lasted_s: float
    guests: int
    pool_bytes: int
    overcommit_ratio: float
    targets_set: int
    moved_bytes: int  # both ways
    guest_swap_out_bytes: int
    guest_swap_in_bytes: int
    host_swap_out_bytes: int  # by the whole host's counter, whoever else runs on it
    host_swap_peak_bytes: int  # of the guests' cgroup alone
    oom_kills_guest: int
    oom_kills_host: int  # guests whose QEMU ended without our doing
    served_share: float
    served_share_worst: float  # the worst guest's
    cpu_wait_share: float  # of the time a guest waited for a processor, on average: work that no memory lost
    slowest_growth_s: float | None  # from order to last page; None: no growth came to its end


class Tally:
    """One guest's work since the scenario began. Silence counts as work not done."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.first = self.last = guest.report()
        self._waited_s = guest.waited_for_cpu_s
        self.slowest_growth_s: float | None = None
        self._heard_s = time.monotonic()

    def look(self, limit_s: float = ANSWER_S) -> Report | None:
        """The guest's report now; None: silent."""
        try:
            report = self.guest.command("report", limit_s)
        except LabError:
            return None
        self.last, self._heard_s = report, time.monotonic()
        if report.growth_took_s:
            self.slowest_growth_s = max(report.growth_took_s, self.slowest_growth_s or 0.0)
        return report

    @property
    def asked(self) -> float:
        """Work that was due, in touches and reads."""
        known = self.last.asked + self.last.reads_asked - self.first.asked - self.first.reads_asked
        heard_for_s = self.last.uptime_s - self.first.uptime_s
        silent_s = max(0.0, time.monotonic() - self._heard_s - ANSWER_S)
        return known + (known / heard_for_s * silent_s if heard_for_s else 0.0)

    @property
    def served(self) -> int:
        first, last = self.first, self.last
        return last.served + last.reads_served - first.served - first.reads_served

    @property
    def waited_for_cpu_s(self) -> float:
        return max(0.0, self.guest.waited_for_cpu_s - self._waited_s)

    @property
    def share(self) -> float:
        return min(1.0, self.served / self.asked) if self.asked else 1.0


def play(
    lab: Lab,
    scenario: Scenario,
    *,
    length_s: float,
    tell: Callable[[str], None],
    show: Callable[[Picture], None],
    log: Path | None = None,
) -> Summary:
    """Plays the scenario in `length_s` seconds, not counting the guests' boot. The daemon's log goes to `log`."""
    with lab.arena(pool=scenario.pool, swap=scenario.swap) as arena:
        tell(f"booting {len(scenario.machines)} guests ({lab.accelerator})")
        guests = arena.boot_all(scenario.machines)
        daemon = None if scenario.daemon is None else arena.daemon(**scenario.daemon)
        tell(f"balloond is ready (process {daemon.pid})" if daemon else "playing without balloond")
        swapped_out = _host_swap_out()
        tallies = [Tally(guest) for guest in guests]
        try:
            pictures = _run(arena, scenario.phases, tallies, daemon, length_s, show)
        finally:
            if daemon and log:
                log.write_text(daemon.log)
        for tally in tallies:
            tally.look(LAST_ANSWER_S)
        return Summary(
            scenario=scenario.title,
            accelerator=lab.accelerator,
            lasted_s=round(pictures[-1].elapsed_s, 1),
            guests=len(guests),
            pool_bytes=scenario.pool,
            overcommit_ratio=round(scenario.overcommit, 3),
            targets_set=_targets_set(daemon),
            moved_bytes=int(daemon.metric("balloond_moved_bytes_total", missing=0.0)) if daemon else 0,
            guest_swap_out_bytes=sum(tally.last.swap_out - tally.first.swap_out for tally in tallies),
            guest_swap_in_bytes=sum(tally.last.swap_in - tally.first.swap_in for tally in tallies),
            host_swap_out_bytes=_host_swap_out() - swapped_out,
            host_swap_peak_bytes=max(picture.swapped for picture in pictures),
            oom_kills_guest=sum(tally.last.oom_kills for tally in tallies),
            oom_kills_host=len(arena.lost()),
            served_share=round(sum(one.served for one in tallies) / sum(one.asked for one in tallies), 4),
            served_share_worst=round(min(tally.share for tally in tallies), 4),
            cpu_wait_share=round(
                sum(one.waited_for_cpu_s for one in tallies) / len(tallies) / pictures[-1].elapsed_s, 4
            ),
            slowest_growth_s=max((one.slowest_growth_s or 0.0 for one in tallies), default=0.0) or None,
        )


def as_json(summary: Summary) -> dict[str, Any]:
    return asdict(summary)


def _run(
    arena: Arena,
    phases: Sequence[Phase],
    tallies: Sequence[Tally],
    daemon: Daemon | None,
    length_s: float,
    show: Callable[[Picture], None],
) -> list[Picture]:
    start = time.monotonic()
    due = sorted(phases, key=lambda phase: phase.at)
    pictures: list[Picture] = []
    with ThreadPoolExecutor(len(tallies)) as threads:  # a silent guest holds up nobody's report but its own
        while not pictures or pictures[-1].elapsed_s < length_s:
            began = time.monotonic()
            while due and due[0].at * length_s <= began - start:
                phase = due.pop(0)
                for number in phase.guests:
                    for order in phase.orders:
                        _give(tallies[number - 1].guest, order)
            reports = list(threads.map(Tally.look, tallies))
            if daemon and not daemon.running:
                raise LabError(f"balloond ended; its log ends: {daemon.log[-2000:]}")
            pictures.append(
                Picture(
                    elapsed_s=time.monotonic() - start,
                    guests=tuple(
                        GuestView(
                            name=tally.guest.name,
                            maximum=tally.guest.machine.memory,
                            report=report,
                            served_share=tally.share,
                        )
                        for tally, report in zip(tallies, reports, strict=True)
                    ),
                    pool=arena.pool.limit,
                    used=arena.pool.usage(),
                    swapped=arena.pool.swapped(),
                    targets_set=_targets_set(daemon),
                )
            )
            show(pictures[-1])
            time.sleep(max(0.0, LOOK_S - (time.monotonic() - began)))
    return pictures


def _give(guest: Guest, order: str) -> None:
    try:
        guest.command(order)
    except LabError as error:
        if guest.running and "refused" in str(error):
            raise
        # Too silent to hear it: it will be counted as not serving.


def _targets_set(daemon: Daemon | None) -> int:
    return int(daemon.metric("balloond_actions_total", missing=0.0, result="done")) if daemon else 0


def _host_swap_out() -> int:
    return int(Path("/proc/vmstat").read_text().partition("pswpout ")[2].split()[0]) * PAGE
