"""`python -m balloond.lab`: demo, bench, run SCENARIO, image, probe, sweep.

The demonstration's last line is JSON, for scripts; all before it is for people.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from balloond.lab import accelerator, image, leavings
from balloond.lab.arena import Lab
from balloond.lab.bench import bench
from balloond.lab.faults import LabError
from balloond.lab.play import as_json, play
from balloond.lab.scenario import named
from balloond.lab.show import Screen, closing


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 the lab could not do it, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m balloond.lab", description="Real guests in a small pool."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "demo", help="six guests, twice the pool, bursts from one to the next; DEMO_SECONDS=90"
    )
    commands.add_parser("bench", help="what a tick and the daemon cost with six guests")
    run = commands.add_parser("run", help="play a scenario")
    run.add_argument("scenario", help="a name from balloond/lab/scenarios, or a file")
    run.add_argument("--seconds", type=float, help="its length; otherwise as the file says")
    run.add_argument("--log", type=Path, help="keep the daemon's log in this file")
    run.add_argument(
        "--without-daemon", action="store_true", help="what happens if nobody manages the guests"
    )
    commands.add_parser("image", help="build the guests' image")
    commands.add_parser("probe", help="say which accelerator really runs a guest here")
    sweep = commands.add_parser("sweep", help="clear what dead runs left behind")
    sweep.add_argument("--all", action="store_true", help="and the image that is kept for the next time")
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        match given.command:
            case "demo":
                _play("demo", float(os.environ.get("DEMO_SECONDS", "90")))
            case "bench":
                return bench()
            case "run":
                _play(given.scenario, given.seconds, without_daemon=given.without_daemon, log=given.log)
            case "image":
                print(image.build().initramfs.parent)
            case "probe":
                print(accelerator.choose(image.build()))
            case "sweep":
                print(f"cleared {len(leavings.sweep())} dead runs")
                if given.all:
                    leavings.forget()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; everything that it made is gone again", file=sys.stderr)
        return 130
    return 0


def _play(name: str, seconds: float | None, *, without_daemon: bool = False, log: Path | None = None) -> None:
    scenario = named(name, without_daemon=without_daemon)
    screen = Screen(sys.stdout, scenario.overcommit)
    screen.tell(scenario.title)
    with Lab() as lab:
        summary = play(
            lab,
            scenario,
            length_s=seconds or scenario.length_s,
            tell=screen.tell,
            show=screen.show,
            log=log,
        )
    print(closing(summary))
    print(json.dumps(as_json(summary)), flush=True)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
