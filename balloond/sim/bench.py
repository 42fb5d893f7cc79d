"""How far is balloond from the bars, and what does a decision cost?

Prints, for real machines' memory at 2, 2.5 and 3 times what there is, balloond's excess over what nobody could
have given against the late oracle's, its flips of direction, and the best valid peer on the very same worlds; a
verdict on each bar; then the time that `decide` takes for 10, 100 and 1,000 guests. docs/benchmark.md says how to
read it.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from balloond.loop import turn
from balloond.model import Tick
from balloond.policy.decide import decide
from balloond.sim import arguments
from balloond.sim.compare import CONFIG, Case, Row, compare, rows, with_bounds
from balloond.sim.guest import SimGuest, Voice, Wish
from balloond.sim.policies import BALLOOND, PEERS
from balloond.sim.processes import EXIT_LOST, WorkerLostError
from balloond.sim.progress import Progress
from balloond.sim.synthetic import synthesize
from balloond.sim.table import aligned, short
from balloond.sim.told import describe
from balloond.sim.trace import STEP_S, Ramp, TraceError, deal, load
from balloond.sim.verdict import EXCESS_BARS, Answer, beside, best_peer, verdicts
from balloond.sim.verdict import lines as verdict_lines
from balloond.sim.world import SimHost, SimWorld
from balloond.units import GIB

SEED: Final = 1

COST_BAR_US: Final = 30.0  # a guest

TRACE: Final = Path("../shared/traces/bitbrains-rnd-2013-07.npz")
"""Where the trace is expected, beside the repository; BALLOOND_TRACE names another."""

COLUMNS: Final = (
    "ramp", "overcommit", "U", "infeasible", "excess", "late oracle's", "multiple", "bar", "flips",
    "best valid peer", "its U", "times ours", "MOM's U", "times ours",
)  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Prints the tables; returns the exit status: 1 where real machines miss a bar, 2 where the trace can't be
    used, 70 where a process that shared the work was lost."""
    options = _parser().parse_args(words)
    file = trace_file()
    try:
        trace = synthesize(options.days, seed=SEED) if file is None else load(file)
        worlds = deal(trace, days=options.days, seed=SEED)
    except TraceError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(describe(trace, worlds, SEED), flush=True)
    cases = [
        Case(policy=policy, overcommit=overcommit, ramp=ramp)
        for ramp in Ramp
        for overcommit in EXCESS_BARS
        for policy in (BALLOOND, *PEERS)
    ]
    try:
        told = rows(compare(worlds, with_bounds(cases), jobs=options.jobs, progress=Progress(sys.stderr)))
    except WorkerLostError as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_LOST
    found = verdicts(told)
    print("\n".join(["", *bars(told), "", *verdict_lines(found)]), flush=True)
    if file is None:
        print(
            "The machines are made up and the bars are set for real ones: nothing is held against this run."
        )
    print("\n".join(["", *costs()]))
    return int(file is not None and any(verdict.answer is Answer.MISSED for verdict in found))


def trace_file() -> Path | None:
    """BALLOOND_TRACE, else the July trace where it is; None: machines are to be made up."""
    named = os.environ.get("BALLOOND_TRACE")
    if named:
        return Path(named)
    july = Path(__file__).resolve().parents[2] / TRACE
    return july if july.exists() else None


def bars(told: Sequence[Row]) -> list[str]:
    """The lines of the figures' table, balloond's rows against the others of their worlds."""
    lines = [_bar_row(row, beside(row, told)) for row in told if row.policy == BALLOOND]
    return [
        *aligned(COLUMNS, lines),
        "",
        "U, infeasible and excess: GiB·s a machine-day. Multiple: of the late oracle's excess; its bar beside it.",
    ]


def _bar_row(row: Row, others: Sequence[Row]) -> tuple[str, ...]:
    best = best_peer(others)
    mom = next((r for r in others if r.policy == "mom"), None)
    return (
        row.ramp,
        f"{row.overcommit:g}",
        short(row.shortage),
        short(row.infeasible),
        short(row.excess),
        short(row.late_excess),
        "-" if row.multiple is None else f"{short(row.multiple)}x",
        f"{EXCESS_BARS[row.overcommit]:g}x",
        short(row.flips),
        best.policy if best else "-",
        short(best.shortage) if best else "-",
        _times(best, row),
        (short(mom.shortage) if mom.valid else "not valid") if mom else "-",
        _times(mom, row),
    )


def _times(peer: Row | None, row: Row) -> str:
    return f"{short(peer.shortage / row.shortage)}x" if peer and row.shortage else "-"


# --- the cost of a decision ------------------------------------------------------------------------------


COUNTS: Final = (10, 100, 1000)
WARM_UP: Final = 30
"""Turns before anything is timed: guests are known by then, and some have moved."""

DECISIONS: Final = 20_000
"""Guests' decisions that are timed for each count, in so many turns as that makes, at least 21."""


def costs() -> list[str]:
    """The lines of the cost table."""
    lines = []
    for count in COUNTS:
        taken_us = sorted(s * 1e6 for s in time_decide(count))
        median = statistics.median(taken_us)
        lines.append(
            (
                f"{count:,}",
                f"{median / 1000:.2f} ms",
                f"{median / count:.1f} us",
                f"{taken_us[0] / count:.1f} us",
                "met" if median <= COST_BAR_US * count else "missed",
            )
        )
    columns = ("guests", "decide", "a guest", "a guest at best", "bar")
    return [
        *aligned(columns, lines),
        "",
        f"Medians of repeated turns; the bar is {COST_BAR_US:g} us a guest.",
    ]


def time_decide(count: int) -> list[float]:
    """Seconds that `decide` took in each of many turns, on a busy host with `count` guests."""
    world = _busy_world(count)
    tick: Tick | None = None
    taken_s: list[float] = []
    for number in range(WARM_UP + max(21, DECISIONS // count)):
        world.advance(STEP_S)
        if number >= WARM_UP:
            snapshot = world.observe()
            begun_s = time.perf_counter()  # not process_time, which costs more than what it is to measure
            decide(CONFIG, tick, snapshot)
            taken_s.append(time.perf_counter() - begun_s)
        tick = turn(CONFIG, tick, world)
    return taken_s


def _busy_world(count: int) -> SimWorld:
    """Guests of 4 GiB on half of what they claim, each drifting about a tenth to a third of its memory."""
    chance = random.Random(SEED)

    def drifting() -> SimGuest:
        middle, swing, phase = chance.uniform(0.1, 0.3), chance.uniform(0, 0.1), chance.uniform(0, 6000)
        number = next(numbers)
        return SimGuest(
            uuid=f"{number:04}", name=f"guest-{number}", maximum=4 * GIB, actual=2.0 * GIB, swap=4.0 * GIB,
            workload=lambda now_s: Wish((middle + swing * abs((now_s + phase) % 6000 / 3000 - 1)) * 4 * GIB),
            voice=Voice(period_s=STEP_S),
        )  # fmt: skip

    numbers = iter(range(count))
    return SimWorld(host=SimHost(total=count * 2 * GIB), guests=[drifting() for _ in range(count)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m balloond.sim.bench", description="The bars' table, and the cost of a decision."
    )
    parser.add_argument(
        "--days", type=arguments.days, default=os.environ.get("BENCH_DAYS", "2"),
        help="of the trace (default: BENCH_DAYS, else 2; the full figure takes 14)",
    )  # fmt: skip
    parser.add_argument("--jobs", type=arguments.jobs, help="processes (default: one a processor)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
