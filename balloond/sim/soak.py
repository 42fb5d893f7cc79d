"""Does balloond keep its promises in any world, for a very long time?

    python -m balloond.sim.soak --hours 20000 --jobs 2 [--seed N]

Plays random worlds from a seed on, shows how far it is, and prints every broken promise with the seed of its
world: `--only SEED` plays that world alone and tells all. Exit code 1 where a promise was broken. The same seeds
give the same runs, however many jobs share the work.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from balloond.sim import arguments
from balloond.sim.invariants import Breach
from balloond.sim.play import play
from balloond.sim.processes import EXIT_LOST, WorkerLostError, count, each
from balloond.sim.progress import Progress
from balloond.sim.random_worlds import HOURS, world_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one world."""

    seed: int
    ticks: int
    targets_set: int
    restarts: int
    still: bool
    oom_kills: int
    breaches: tuple[Breach, ...]
    crash: str = ""  # an exception's words: the core must raise nothing


@dataclass(slots=True, kw_only=True)
class Sum:
    """What came of all of them."""

    worlds: int = 0
    ticks: int = 0
    targets_set: int = 0
    restarts: int = 0
    still: int = 0
    oom_kills: int = 0  # in worlds that were not solvent
    failed: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        self.worlds += 1
        self.ticks += finding.ticks
        self.targets_set += finding.targets_set
        self.restarts += finding.restarts
        self.still += finding.still
        self.oom_kills += finding.oom_kills
        if finding.breaches or finding.crash:
            self.failed.append(finding)


def look_at(seed: int) -> Finding:
    """Plays the world of that seed."""
    try:
        story = play(world_of(seed))
    except Exception as error:  # whatever it is, it is to be told with its seed
        words = f"{type(error).__name__}: {error}"
        return Finding(
            seed=seed, ticks=0, targets_set=0, restarts=0, still=False, oom_kills=0, breaches=(), crash=words
        )
    return Finding(
        seed=seed,
        ticks=story.ticks,
        targets_set=story.targets_set,
        restarts=story.restarts,
        still=story.still,
        oom_kills=story.oom_kills,
        breaches=story.breaches,
    )


def main(words: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(words)
    if given.only is not None:
        finding = look_at(given.only)
        _tell(finding, all_of_it=True)
        return bool(finding.breaches or finding.crash)
    worlds = range(given.seed, given.seed + ceil(given.hours / HOURS))
    total, begun_s = Sum(), time.monotonic()
    progress = Progress(sys.stderr, "worlds")
    try:
        for _, finding in each(look_at, worlds, jobs=count(given.jobs, len(worlds))):
            total.add(finding)
            if finding.breaches or finding.crash:
                _tell(finding, all_of_it=False)
            progress(total.worlds, len(worlds))
    except WorkerLostError as error:
        print(f"soak: {error}", file=sys.stderr)
        return EXIT_LOST
    print(
        f"{total.worlds} worlds, {total.worlds * HOURS:.0f} host-hours, {total.ticks} turns, "
        f"{total.targets_set} targets set, {total.restarts} restarts, "
        f"{total.oom_kills} OOM kills where insolvent; "
        f"{total.still} worlds wholly still after ten minutes of steady demand; "
        f"{len(total.failed)} worlds with a broken promise; {time.monotonic() - begun_s:.0f} s"
    )
    return bool(total.failed)


def _tell(finding: Finding, *, all_of_it: bool) -> None:
    if finding.crash:
        print(f"seed {finding.seed}: {finding.crash}")
    shown = finding.breaches if all_of_it else finding.breaches[:3]
    for breach in shown:
        print(f"seed {finding.seed}: {breach}")
    if len(shown) < len(finding.breaches):
        print(f"seed {finding.seed}: and {len(finding.breaches) - len(shown)} more")
    if all_of_it and not finding.breaches and not finding.crash:
        print(
            f"seed {finding.seed}: all promises kept in {finding.ticks} turns, {finding.targets_set} targets set"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m balloond.sim.soak", description="Simulated host-hours with all faults on."
    )
    parser.add_argument(
        "--hours", type=arguments.hours, default=200.0, help="simulated host-hours (default 200)"
    )
    parser.add_argument(
        "--jobs", type=arguments.jobs, default=2, help="processes that share the work (default 2)"
    )
    parser.add_argument("--seed", type=arguments.whole, default=0, help="the first world's seed (default 0)")
    parser.add_argument(
        "--only", type=arguments.whole, metavar="SEED", help="play this one world and tell all"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
