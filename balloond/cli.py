"""What does balloonctl say to a person?

It asks the running daemon over its control socket and puts the answer into words, or checks a configuration
without any daemon. It changes nothing, ever.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import json
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

from balloond import __version__
from balloond.config.describe import describe
from balloond.config.read import ConfigError, load
from balloond.config.settings import Config
from balloond.control import NoAnswer, ask
from balloond.diagnosis.finding import worst
from balloond.log import printable
from balloond.model import Held
from balloond.publish.admission import SCHEMA as ADMISSION_SCHEMA
from balloond.publish.admission import AdmissionStatus
from balloond.publish.findings import describe_findings, report
from balloond.publish.status import SCHEMA, Status
from balloond.publish.words import describe_admission, describe_status, explain, find
from balloond.units import parse_size

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2
EXIT_BUG: Final = 70  # EX_SOFTWARE of sysexits(3)
EXIT_INTERRUPTED: Final = 130  # as a shell has it for SIGINT
DEFAULT_CONFIG: Final = "/etc/balloond/balloond.yaml"
CLEAR_SCREEN: Final = "\x1b[H\x1b[2J"

_DESCRIPTION: Final = """\
balloonctl tells how the running balloond sees this host and its guests, and
what it did and why. It also checks configurations, and the host itself with or
without a daemon. It changes nothing."""
_EPILOG: Final = f"""\
examples:
  balloonctl status                how the host and every guest stand
  balloonctl explain web-1         all that is known of one guest, in sentences
  balloonctl top                   the status, again and again
  balloonctl status --json | jq '.guests[] | select(.in_distress) | .name'
  balloonctl doctor                what is set badly here, and the command that mends it
  balloonctl admit 8GiB && virsh start web-2
  balloonctl check balloond.yaml   every fault in a file, or what it means

exit status:
  0  done
  1  no daemon answers, no such guest, the guest may not start, or the command failed
  2  the configuration or the command line is wrong
  of doctor: 0 all is well, 1 some advice, 2 something is unsafe (or as above),
  70 it failed: nothing was judged, and the trace is a bug to report, 130 it was interrupted

files:
  {DEFAULT_CONFIG}
                 names the control socket, unless --socket or --config is given
  /run/balloond/control.sock
                 the control socket where nothing else is configured

see also:
  balloond --help, docs/operating.md
"""


_DOCTORS_EPILOG: Final = """\
exit status:
  0    all is as it should be
  1    some things could be better
  2    something is unsafe; or the configuration or the command line is wrong
  70   it failed: nothing was judged, and the trace is a bug to report
  130  it was interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["simulate"]:
        return _simulate(given[1:])
    options = _parser().parse_args(given)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error does: names may hold anything
    try:
        match options.command:
            case "check":
                return _check(options.file)
            case "status":
                return _status(options)
            case "doctor":
                return _doctor(options)
            case "admit":
                return _admit(options)
            case "top":
                return _top(options)
            case _:
                return _explain(options)
    except NoAnswer as error:
        return _fail(str(error))
    except ConfigError as error:
        return _faults(error)
    except BrokenPipeError:  # `balloonctl status | head` has seen enough
        sys.stderr.close()
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_OK


def _check(file: Path) -> int:
    print(describe(load(file)))
    return EXIT_OK


def _status(options: argparse.Namespace) -> int:
    status = _ask(options)
    if options.json:
        print(json.dumps(status, indent=2))
    else:
        print(describe_status(status, width=_width()), end="")
    return EXIT_OK


def _admit(options: argparse.Namespace) -> int:
    """Its exit status is the answer: scripts start a guest only after a 0."""
    reply = ask(_socket(options), "admit", size=options.size, held=options.held, name=options.name)
    if not isinstance(reply, dict) or reply.get("schema") != ADMISSION_SCHEMA:
        raise NoAnswer(_OTHER_VERSION)
    answer = cast(AdmissionStatus, reply)
    print(json.dumps(answer, indent=2) if options.json else describe_admission(answer))
    return EXIT_OK if answer["admitted"] else EXIT_FAILED


def _doctor(options: argparse.Namespace) -> int:
    """Looks for itself, without any daemon. Its exit status is the worst finding's severity, and no other end may
    be taken for one: 0 would say that all is well, and 1, as Python ends on a bug, that there is advice."""
    config = _config(options)
    try:
        from balloond.doctor import visit

        findings = visit(config)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception:  # whatever it is, it is our own bug: what the world can do comes back as findings
        traceback.print_exc()
        return EXIT_BUG
    if options.json:
        text = json.dumps(report(findings, config.libvirt_uri), indent=2) + "\n"
    else:
        text = describe_findings(findings, config.libvirt_uri)
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # `balloonctl doctor | head` has seen enough; the judgement stands
        sys.stderr.close()
    return int(worst(findings))


def _top(options: argparse.Namespace) -> int:
    """Shows the status each interval until it is interrupted. A daemon that is being restarted is waited for."""
    shown = 0
    while True:
        try:
            text = describe_status(_ask(options), width=_width())
        except NoAnswer as error:
            if shown == 0:
                raise
            text = f"{error}\n"
        print(CLEAR_SCREEN + text if sys.stdout.isatty() else text, end="", flush=True)
        shown += 1
        if shown == options.count:
            return EXIT_OK
        time.sleep(options.interval)


def _explain(options: argparse.Namespace) -> int:
    status = _ask(options)
    if status["guests"] is None:
        return _fail(
            "libvirt does not answer the daemon, so nothing is known of any guest; see balloonctl status"
        )
    found = find(status, options.guest)
    if not found:
        known = ", ".join(sorted(printable(guest["name"]) for guest in status["guests"])) or "none"
        return _fail(f"no guest is called {printable(options.guest)}; there are: {known}")
    print("\n".join(explain(guest, status) for guest in found), end="")
    return EXIT_OK


def _simulate(arguments: list[str]) -> int:
    """The simulator is a world of its own, with a command line of its own; it is loaded for this alone."""
    if importlib.util.find_spec("balloond.sim.cli") is None:
        return _fail("the simulator is not installed")
    return int(importlib.import_module("balloond.sim.cli").main(arguments) or EXIT_OK)


# --- asking ----------------------------------------------------------------------------------------------


_OTHER_VERSION: Final = "the daemon is of another version than this balloonctl; restart it after the upgrade"


def _ask(options: argparse.Namespace) -> Status:
    reply = ask(_socket(options), "status")
    if not isinstance(reply, dict) or reply.get("schema") != SCHEMA:
        raise NoAnswer(_OTHER_VERSION)
    return cast(Status, reply)


def _socket(options: argparse.Namespace) -> str:
    """--socket, else what --config says, else what the usual file says, else the default."""
    if options.socket is not None:
        return str(options.socket)
    return _config(options).control_socket


def _config(options: argparse.Namespace) -> Config:
    """What --config says, else what the usual file says, else the defaults."""
    if options.config is not None:
        return load(options.config)
    try:
        return load(Path(DEFAULT_CONFIG))
    except ConfigError:
        return Config()  # no such file, or it is not for us to read


def _width() -> int | None:
    """Lines are cut on a terminal alone; what goes into a file or a pipe is whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fail(why: str) -> int:
    print(f"balloonctl: {why}", file=sys.stderr)
    return EXIT_FAILED


def _faults(error: ConfigError) -> int:
    for problem in error.problems:
        print(problem, file=sys.stderr)
    count = len(error.problems)
    print(f"balloonctl: {count} {'fault' if count == 1 else 'faults'}", file=sys.stderr)
    return EXIT_CONFIGURATION


# --- the command line ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="balloonctl",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"balloonctl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check", help="check a configuration: tell every fault, or what it means", allow_abbrev=False
    )
    check.add_argument("file", metavar="FILE", type=Path, help="the configuration; nothing is started")
    status = commands.add_parser("status", help="how the host and every guest stand", allow_abbrev=False)
    status.add_argument("--json", action="store_true", help="as JSON; docs/operating.md has the fields")
    top = commands.add_parser("top", help="the status, again and again, until Ctrl-C", allow_abbrev=False)
    top.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=2.0, help="between two looks (default: 2)"
    )
    top.add_argument("--count", metavar="N", type=int, help="end after N looks")
    explains = commands.add_parser("explain", help="all that is known of one guest", allow_abbrev=False)
    explains.add_argument("guest", metavar="GUEST", help="its name, its UUID, or how its UUID begins")
    admits = commands.add_parser("admit", help="may a guest of that size start?", allow_abbrev=False)
    admits.add_argument(
        "size", metavar="SIZE", type=_size, help="its maximum memory with a unit, such as 4GiB"
    )
    admits.add_argument("--name", default="", help="what it will be called: rules of the configuration count")
    how = admits.add_mutually_exclusive_group()
    for held in (Held.LOCKED, Held.HUGEPAGES, Held.PASSTHROUGH, Held.CONFIDENTIAL):
        how.add_argument(
            f"--{held}", dest="held", action="store_const", const=held.value, help=_HELD_IN_WORDS[held]
        )
    admits.set_defaults(held=Held.ORDINARY.value)
    admits.add_argument("--json", action="store_true", help="as JSON; docs/operating.md has the fields")
    for command in (status, top, explains, admits):
        where = command.add_mutually_exclusive_group()
        where.add_argument("--socket", metavar="PATH", help="the daemon's control socket")
        where.add_argument(
            "--config", metavar="FILE", type=Path, help="the daemon's configuration, which names it"
        )
    doctor = commands.add_parser(
        "doctor",
        help="what is set badly on this host, why it matters, what mends it",
        epilog=_DOCTORS_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    doctor.add_argument("--json", action="store_true", help="as JSON; docs/operating.md has the fields")
    doctor.add_argument("--config", metavar="FILE", type=Path, help="the daemon's configuration")
    commands.add_parser("simulate", help="run the policy over simulated or recorded hosts", add_help=False)
    return parser


_HELD_IN_WORDS: Final = {
    Held.LOCKED: "its memory will be locked",
    Held.HUGEPAGES: "it will live in huge pages of the default size",
    Held.PASSTHROUGH: "it will have a VFIO device",
    Held.CONFIDENTIAL: "it will have <launchSecurity>",
}


def _size(text: str) -> int:
    """Raises argparse's error, which says what would be right."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    """Raises ValueError, which argparse turns into its message, unless it is a sensible interval."""
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise ValueError
    return seconds


if __name__ == "__main__":
    sys.exit(main())
