"""What does `balloonctl simulate` say?

It runs policies over a trace of real machines, over machines that it makes up from a seed, or through a scenario;
tells the figures as a table, as JSON, and as a page to look at. It touches no host: neither libvirt nor root is
needed. Traces and peers need numpy, which is asked for only then.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from balloond.config.problems import ConfigError, escape, quote
from balloond.config.read import load as load_config
from balloond.config.settings import Config, Mode
from balloond.sim import arguments, report
from balloond.sim.policies import BALLOOND, BOUNDS, PEERS, POLICIES, WORDS
from balloond.sim.processes import EXIT_LOST, WorkerLostError
from balloond.sim.progress import Progress
from balloond.sim.table import aligned

if TYPE_CHECKING:
    from balloond.sim.play import ScenarioWorld
    from balloond.sim.staged import Ending

EXIT_OK: Final = 0
EXIT_WRONG: Final = 2
EXIT_BUG: Final = 70  # as of the other commands: a bug, or what came out could not be written
EXIT_INTERRUPTED: Final = 130

RAMPS: Final = ("linear", "step")
SCHEMA: Final = 1
"""Of --json; it grows by one when a field changes its meaning or goes."""

OVERCOMMITS: Final = (1.5, 2.0, 3.0)
SEED: Final = 1
DAYS: Final = 1.0

OF_TRACES: Final = ("trace", "days", "overcommit", "ramp", "seed")
"""Options that mean nothing to a scenario."""

_DESCRIPTION: Final = """\
Runs memory policies over recorded, made-up or described hosts, and compares
them. Touches no host: needs neither libvirt nor root."""

_EPILOG: Final = """\
policies:
{policies}

figures:
  U           underprovision: memory that guests wanted and did not get, GiB·s
              a machine-day
  infeasible  the part of U that nobody could have given
  excess      U less the infeasible part; in multiples of the late oracle's
  flips       changes of a guest's direction, a machine-day
  most given  the largest share of its memory that a host handed out; a policy
              that hands out more than there is is not valid

examples:
  balloonctl simulate                          made-up machines, all policies
  balloonctl simulate --trace july.npz --days 3 --overcommit 2 --policy balloond,mom
  balloonctl simulate --report out.html        and look at it
  balloonctl simulate herd                     a scenario that comes with balloond
  balloonctl simulate mine.yaml --policy balloond,script

exit status:
  0    done
  2    an option, a trace or a scenario is wrong, or the report can't be written
  70   a bug, with its trace; a process that shared the work was killed; or the
       figures could not be written
  130  it was interrupted; 143 by SIGTERM

see also:
  docs/benchmark.md""".format(policies="\n".join(f"  {name:<12}{words}" for name, words in WORDS.items()))


class WrongError(Exception):
    """What was asked for can't be done; the text says why and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it: for the terminal, and to look at."""

    text: str
    page: report.Page


def main(given: Sequence[str] | None = None) -> int:
    """Carries out the command; returns the exit status."""
    if sys.stderr is None:  # it was closed; its number must not go to the next file
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  (for as long as the process lives)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error does: names may hold anything
    options = _parser().parse_args(given)
    try:
        _check(options)
        with _terminable():
            told = _scenario(options) if options.scenario is not None else _trace(options)
        printed, written = _print(told.text), _write(options.report, told.page)
        return printed or written
    except ConfigError as error:
        for problem in error.problems:
            _complain(str(problem))
        return EXIT_WRONG
    except WrongError as error:
        _say(str(error))
        return EXIT_WRONG
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except WorkerLostError as error:
        _say(str(error))
        return EXIT_LOST
    except Exception:  # it is our own bug; Python would end with 1, which of other commands is a judgement
        _complain(traceback.format_exc().rstrip())
        return EXIT_BUG


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM then ends the processes that share the work as well."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write(path: Path | None, page: report.Page) -> int:
    """Returns the exit status."""
    if path is None:
        return EXIT_OK
    try:
        report.write(path, report.render(page))
    except OSError as error:
        _say(f"the report can't be written: {escape(str(path))}: {error.strerror}")
        return EXIT_WRONG
    return EXIT_OK


def _print(text: str) -> int:
    """Returns the exit status; the page is written all the same."""
    if sys.stdout is None:
        _say("the figures could not be written: standard output is closed")
        return EXIT_BUG
    try:
        print(text, flush=True)
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (Python flushes stdout once more at exit)
        if isinstance(error, BrokenPipeError):  # `balloonctl simulate | head` has seen enough
            return EXIT_OK
        _say(f"the figures could not be written: {error.strerror}")
        return EXIT_BUG
    return EXIT_OK


def _check(options: argparse.Namespace) -> None:
    """Tells what is wrong with the options before any work is done. Raises WrongError."""
    if options.scenario is not None:
        for name in OF_TRACES:
            if getattr(options, name) is not None:
                raise WrongError(
                    f"--{name} means nothing to a scenario, which tells all itself; leave one out"
                )
    policies = options.policy or (BALLOOND,)
    if options.config is not None and BALLOOND not in policies:
        raise WrongError("--config is balloond's, and --policy leaves balloond out; leave one of them out")
    if options.report is not None:
        told = escape(str(options.report))
        try:
            report.check(options.report)
        except OSError as error:
            raise WrongError(
                f"--report {told}: {error.strerror}; name a file in a folder that may be written"
            ) from error
        for path in _read(options):
            if _is_same(options.report, path):
                raise WrongError(f"--report {told} is what is read as well; name another file")


def _read(options: argparse.Namespace) -> Iterator[Path]:
    """The files that are read, or might be."""
    yield from filter(None, (options.trace, options.config))
    if options.scenario is not None:
        from balloond.sim.scenario import file_of

        yield Path(options.scenario)
        yield file_of(options.scenario)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _tried(path: Path, interval_s: float | None = None) -> tuple[Config, tuple[str, ...]]:
    """balloond's configuration as it can be tried, and what had to be changed in it. `interval_s`: what it has to
    have where that is given."""
    config = load_config(path)
    changes = []
    if config.mode is not Mode.ACTIVE:
        changes.append(f"mode {config.mode.value} moves nobody: run as {Mode.ACTIVE.value}")
    if interval_s is not None and config.interval_s != interval_s:
        changes.append(
            f"the interval is {config.interval_s:g} s: run at {interval_s:g} s, the step of all policies"
        )
    tried = replace(config, mode=Mode.ACTIVE, interval_s=interval_s or config.interval_s)
    notes = tuple(f"{escape(str(path))}: {change}" for change in changes)
    for note in notes:
        _say(note)
    return tried, notes


def _say(text: str) -> None:
    _complain(f"balloonctl simulate: {text}")


def _complain(text: str) -> None:
    with suppress(OSError):  # a full disk, a closed pipe: the exit status says it all the same
        print(text, file=sys.stderr, flush=True)


# --- traces ----------------------------------------------------------------------------------------------


def _trace(options: argparse.Namespace) -> Told:
    """The comparison over a trace."""
    _need_numpy("a trace")
    from balloond.sim.compare import CONFIG, Case, compare, rows, tightest, with_bounds
    from balloond.sim.synthetic import synthesize
    from balloond.sim.told import describe, page, table, to_json
    from balloond.sim.trace import Ramp, TraceError, deal, load

    config = CONFIG
    notes: tuple[str, ...] = ()
    if options.config is not None:
        config, notes = _tried(options.config, CONFIG.interval_s)
    days, seed = options.days or DAYS, SEED if options.seed is None else options.seed
    try:
        trace = load(options.trace) if options.trace else synthesize(days, seed=seed)
        worlds = deal(trace, days=days, seed=seed)
    except TraceError as error:
        raise WrongError(str(error)) from error
    cases = with_bounds(
        [
            Case(policy=policy, overcommit=overcommit, ramp=Ramp(ramp))
            for ramp in options.ramp or RAMPS
            for overcommit in options.overcommit or OVERCOMMITS
            for policy in options.policy or POLICIES
        ]
    )
    cases = tuple(
        sorted(cases, key=lambda c: (c.ramp.value, c.overcommit, POLICIES.index(c.policy)))
    )  # bounds last
    results = compare(
        worlds, cases, config=config, jobs=options.jobs, drawn=tightest(worlds) if options.report else None,
        progress=Progress(sys.stderr),
    )  # fmt: skip
    told = rows(results)
    described = describe(trace, worlds, seed)
    shown = page(described, worlds, results, told)
    return Told(
        text=json.dumps(to_json(described, told, schema=SCHEMA), indent=2, sort_keys=True)
        if options.json
        else f"{described}\n\n{table(told)}",
        page=replace(shown, notes=(*shown.notes, *notes)),
    )


# --- scenarios -------------------------------------------------------------------------------------------


def _scenario(options: argparse.Namespace) -> Told:
    """What becomes of a scenario under each policy."""
    from balloond.sim.staged import stage_all

    policies = options.policy or (BALLOOND,)
    bounds = [policy for policy in policies if policy in BOUNDS]
    if bounds:
        raise WrongError(
            f"{', '.join(bounds)} cannot be played in a scenario: a bound is computed from a trace; leave it out"
        )
    if any(policy in PEERS for policy in policies):
        _need_numpy("a peer")
    make = _maker(options.scenario)
    first = make()  # what is wrong with it is told before any work is done
    makers = dict.fromkeys(policies, make)
    notes: tuple[str, ...] = ()
    if options.config is not None:
        config, notes = _tried(options.config)
        makers[BALLOOND] = partial(make, config=config)
    endings = stage_all(makers, jobs=options.jobs, progress=Progress(sys.stderr, "simulated minutes"))
    name, title = escape(first.name), escape(first.title)
    lines = [f"{name}: {title}", "", *aligned(_ENDING_COLUMNS, [_ending_row(e) for e in endings])]
    for ending in endings:
        lines += [f"{b.at_s:.0f} s: {b.promise}: {b.guest}: {b.detail}" for b in ending.breaches or ()]
    listed = {"schema": SCHEMA, "scenario": first.name, "endings": [_ending_json(e) for e in endings]}
    return Told(
        text=json.dumps(listed, indent=2, sort_keys=True) if options.json else "\n".join(lines),
        page=_scenario_page(title or name, endings, notes),
    )


def _maker(text: str) -> partial[ScenarioWorld]:
    """How to make the scenario of that file, or of that name among those that come with balloond."""
    from balloond.sim import scenario

    known = scenario.names()
    path = Path(text)
    try:
        if text in known and not path.is_file():
            return partial(scenario.named, text)
        there = path.exists()
    except OSError as error:
        raise WrongError(
            f"{escape(text)}: {error.strerror}; name a scenario's file that may be read"
        ) from error
    if not there:
        raise WrongError(
            f"{escape(text)}: no such file, and no scenario of that name; there are {', '.join(known)}"
        )
    return partial(scenario.load, path)


_ENDING_COLUMNS: Final = (
    "policy", "GiB·s lacked", "who lacked most", "flips", "targets set", "OOM kills", "swapped", "breaches"
)  # fmt: skip


def _ending_row(ending: Ending) -> tuple[str, ...]:
    return (
        ending.policy,
        f"{ending.shortage_gib_s:.2f}",
        ending.worst_guest or "-",
        f"{ending.flips}",
        f"{ending.targets_set}",
        f"{ending.oom_kills}",
        f"{ending.host_swapped_most / 2**20:.0f} MiB",
        "-" if ending.breaches is None else f"{len(ending.breaches)}",
    )


def _ending_json(ending: Ending) -> dict[str, object]:
    return {
        "policy": ending.policy,
        "shortage_gib_s": ending.shortage_gib_s,
        "worst_guest": ending.worst_guest or None,
        "flips": ending.flips,
        "targets_set": ending.targets_set,
        "oom_kills": ending.oom_kills,
        "host_swapped_most": ending.host_swapped_most,
        "breaches": None
        if ending.breaches is None
        else [
            {"promise": b.promise, "at_s": b.at_s, "guest": b.guest, "detail": b.detail}
            for b in ending.breaches
        ],
    }


def _scenario_page(title: str, endings: Sequence[Ending], notes: Sequence[str]) -> report.Page:
    return report.Page(
        title=title,
        subtitle="A scenario: the same world and the same faults for every policy.",
        panels=(),
        pictures=tuple(
            report.Picture(
                label=ending.policy, names=ending.scene.names, every_s=ending.scene.every_s,
                total=ending.scene.total, actual=ending.scene.actual, demand=number,
            )
            for number, ending in enumerate(endings)
        ),
        demands=tuple(ending.scene.wanted for ending in endings),
        columns=_ENDING_COLUMNS,
        rows=tuple(_ending_row(ending) for ending in endings),
        notes=("Breaches are of balloond's promises; peers promise nothing.", *notes),
    )  # fmt: skip


# --- the command line ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="balloonctl simulate",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "scenario", metavar="SCENARIO", nargs="?", help="a file, or a name; else a trace is run"
    )
    parser.add_argument("--trace", metavar="FILE", type=Path, help="an .npz file; else machines are made up")
    parser.add_argument(
        "--overcommit", metavar="LIST", type=_overcommits,
        help="what guests claim, in multiples of what the host has (default: 1.5,2,3)",
    )  # fmt: skip
    parser.add_argument(
        "--policy", metavar="LIST", type=_one_of(POLICIES),
        help="default: all over a trace, balloond in a scenario",
    )  # fmt: skip
    parser.add_argument(
        "--ramp", metavar="LIST", type=_one_of(RAMPS),
        help="between two samples: linear, step (default: both)",
    )  # fmt: skip
    parser.add_argument(
        "--days", metavar="N", type=arguments.days, help="of the trace, from its start (default: 1)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=arguments.whole,
        help="shuffles machines among hosts and makes machines up (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", metavar="N", type=arguments.jobs, help="processes (default: one a processor)"
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="balloond's configuration, to be tried")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--report", metavar="OUT.html", type=_file, help="one page with plots, to look at")
    return parser


def _overcommits(text: str) -> tuple[float, ...]:
    found = []
    for part in text.split(","):
        value = arguments.number(part)
        if not 1 <= value <= 100:
            raise argparse.ArgumentTypeError(f"{part!r} is no factor from 1 to 100; write 1.5,2,3")
        found.append(float(f"{value:g}"))  # as it is told
    return tuple(dict.fromkeys(found))


def _one_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(dict.fromkeys(text.split(",")))
        for part in parts:
            if part not in known:
                raise argparse.ArgumentTypeError(f"there is no {part!r}; there are {', '.join(known)}")
        return parts

    return parse


def _file(text: str) -> Path:
    if not text or text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{quote(text)} is no file; write out.html")
    return Path(text)


def _need_numpy(what: str) -> None:
    if importlib.util.find_spec("numpy") is None:
        raise WrongError(f"{what} needs numpy, which is not installed: pip install 'balloond[simulate]'")


if __name__ == "__main__":
    sys.exit(main())
