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
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO, cast

from balloond import __version__
from balloond.config.describe import describe
from balloond.config.read import ConfigError, load, load_usual
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
  0    done; of admit: the guest may start; of doctor: all is as it should be
  1    no daemon answers, or there is no such guest; of admit: the guest may not
       start; of doctor: some things could be better
  2    the configuration or the command line is wrong; of doctor also: something
       is unsafe
  70   balloonctl failed: a bug, with its trace, or its output could not be written
  130  it was interrupted, which of top is the usual end, and 0

files:
  {DEFAULT_CONFIG}
                 names the control socket, unless --socket or --config is given
  /run/balloond/control.sock
                 the control socket where nothing else is configured

see also:
  balloond --help, docs/operating.md
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
        return _carry_out(options)
    except NoAnswer as error:
        return _fail(str(error))
    except ConfigError as error:
        return _faults(error)
    except _UnwrittenError as error:
        _complain(f"balloonctl: the output could not be written: {error}")
        return EXIT_BUG
    except KeyboardInterrupt:  # no answer, least of all a yes: `balloonctl admit 8GiB && virsh start web-2`
        return EXIT_OK if options.command == "top" else EXIT_INTERRUPTED
    except Exception:  # whatever it is, it is our own bug; Python would end with 1, which may be a judgement
        _complain(traceback.format_exc().rstrip())
        return EXIT_BUG


def _carry_out(options: argparse.Namespace) -> int:
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


def _check(file: Path) -> int:
    _say(describe(load(file)) + "\n")
    return EXIT_OK


def _status(options: argparse.Namespace) -> int:
    status = _ask(options)
    _say(json.dumps(status, indent=2) + "\n" if options.json else describe_status(status, width=_width()))
    return EXIT_OK


def _admit(options: argparse.Namespace) -> int:
    """Its exit status is the answer: scripts start a guest only after a 0."""
    reply = ask(_socket(options), "admit", size=options.size, held=options.held, name=options.name)
    if not isinstance(reply, dict) or reply.get("schema") != ADMISSION_SCHEMA:
        raise NoAnswer(_OTHER_VERSION)
    answer = cast(AdmissionStatus, reply)
    _say((json.dumps(answer, indent=2) if options.json else describe_admission(answer)) + "\n")
    return EXIT_OK if answer["admitted"] else EXIT_FAILED


def _doctor(options: argparse.Namespace) -> int:
    """Looks for itself, without any daemon. Its exit status is the worst finding's severity."""
    config = _config(options)
    from balloond.doctor import visit  # no other command needs libvirt

    findings = visit(config)
    if options.json:
        _say(json.dumps(report(findings, config.libvirt_uri), indent=2) + "\n")
    else:
        _say(describe_findings(findings, config.libvirt_uri))
    return int(worst(findings))


def _top(options: argparse.Namespace) -> int:
    """Shows the status each interval until it is interrupted, or nobody reads it any more. A daemon that is being
    restarted is waited for."""
    shown = 0
    while True:
        try:
            text = describe_status(_ask(options), width=_width())
        except NoAnswer as error:
            if shown == 0:
                raise
            text = f"{error}\n"
        is_read = _say(CLEAR_SCREEN + text if sys.stdout.isatty() else text)
        shown += 1
        if shown == options.count or not is_read:
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
    _say("\n".join(explain(guest, status) for guest in found))
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
    """--socket, else what --config says, else what the usual file says, else the default. A usual file that was
    broken since does not keep anybody from asking: the daemon runs on with what it said before."""
    if options.socket is not None:
        return str(options.socket)
    try:
        return _config(options).control_socket
    except ConfigError:
        if options.config is not None:
            raise
        return Config().control_socket


def _config(options: argparse.Namespace) -> Config:
    """What --config says, else what the usual file says, else the defaults."""
    return load_usual(Path(DEFAULT_CONFIG)) if options.config is None else load(options.config)


# --- telling ---------------------------------------------------------------------------------------------


class _UnwrittenError(Exception):
    """Why standard output takes nothing, though somebody may want it."""


def _say(text: str) -> bool:
    """Prints at once; returns whether anybody reads. That somebody has seen enough (`balloonctl status | head`)
    changes no answer, and so no exit status."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        _give_up(sys.stdout)
        return False
    except OSError as error:
        _give_up(sys.stdout)
        raise _UnwrittenError(error.strerror or str(error)) from error
    return True


def _complain(text: str) -> None:
    """Says what is wrong, where anybody can hear it; the exit status says so too."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    """What is left in its buffer goes nowhere: Python would try it again at the end, and make the status 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _width() -> int | None:
    """Lines are cut on a terminal alone; what goes into a file or a pipe is whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fail(why: str) -> int:
    _complain(f"balloonctl: {why}")
    return EXIT_FAILED


def _faults(error: ConfigError) -> int:
    for problem in error.problems:
        _complain(str(problem))
    count = len(error.problems)
    _complain(f"balloonctl: {count} {'fault' if count == 1 else 'faults'}")
    return EXIT_CONFIGURATION


# --- the command line ------------------------------------------------------------------------------------


_WRONG: Final = "2    the configuration or the command line is wrong"
_FAILED: Final = "70   it failed: a bug, with its trace, or its output could not be written"
_INTERRUPTED: Final = "130  it was interrupted"

_CHECK: Final = """\
Reads a configuration as the daemon would, and tells in a few lines what it
means. Or it tells, on standard error, every fault with its line and what would
be right. It needs no daemon, and starts none."""
_CHECK_EPILOG: Final = f"""\
exit status:
  0    the file is sound
  2    it has faults, or can't be read; or the command line is wrong
  {_FAILED}
  {_INTERRUPTED}

example:
  balloonctl check /etc/balloond/balloond.yaml && systemctl reload balloond
"""

_STATUS: Final = """\
Tells how the running daemon saw the host and every guest at its last look: how
short memory is (the rung), what is given and what is left, whether all guests
could have all their memory at once, and a line for each guest. Lines with ! say
what is wrong, and what to do about it."""
_STATUS_EPILOG: Final = f"""\
exit status:
  0    it was told, however things stand
  1    no daemon answers
  {_WRONG}
  {_FAILED}
  {_INTERRUPTED}

example:
  balloonctl status --json | jq -r .rung
"""

_TOP: Final = """\
Shows what balloonctl status does, again and again. A daemon that is restarted
meanwhile is waited for."""
_TOP_EPILOG: Final = f"""\
exit status:
  0    it was ended by Ctrl-C, by --count, or as nobody read it any more
  1    no daemon answered the first time
  {_WRONG}
  {_FAILED}

example:
  balloonctl top --interval 10 --count 6
"""

_EXPLAIN: Final = """\
Tells in sentences all that the daemon knows of one guest: what it has, uses and
wants, what it is promised, how far its statistics are relied on, and what was
last done to it and why. Where several are meant, each is told of."""
_EXPLAIN_EPILOG: Final = f"""\
exit status:
  0    it was told
  1    no daemon answers, there is no such guest, or libvirt does not answer the
       daemon
  {_WRONG}
  {_FAILED}
  {_INTERRUPTED}

examples:
  balloonctl explain web-1
  balloonctl explain 4dea22b3
"""

_ADMIT: Final = """\
Asks the daemon whether one more guest of that size may start: whether with it
all guests could still have all their memory at once, and the host is not short
now. Prints yes or no, why, and what is missing. Nothing is reserved: two that
ask at the same time may both be told yes."""
_ADMIT_EPILOG: Final = f"""\
exit status:
  0    yes: it may start. Nothing else ends with 0
  1    no; or no daemon answers
  {_WRONG}
  {_FAILED}
  {_INTERRUPTED}

examples:
  balloonctl admit 8GiB && virsh start web-2
  balloonctl admit 16GiB --name db-3 --passthrough --json
"""

_DOCTOR: Final = """\
Looks at this host and at the definition of every guest, over a read-only
connection, with or without a daemon. For each finding it tells what is set, why
it matters, and the command that mends it, for root's shell. The worst comes
first."""
_DOCTORS_EPILOG: Final = f"""\
exit status:
  0    all is as it should be
  1    some things could be better
  2    something is unsafe; or the configuration or the command line is wrong:
       then nothing is on standard output
  {_FAILED}
  {_INTERRUPTED}

example:
  balloonctl doctor --json | jq -r '.findings[] | select(.severity == "unsafe") | .command'
"""


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
    check = _command(commands, "check", "check a configuration: tell every fault, or what it means")
    check.add_argument("file", metavar="FILE", type=Path, help="the configuration; nothing is started")
    status = _command(commands, "status", "how the host and every guest stand")
    status.add_argument("--json", action="store_true", help="as JSON; docs/operating.md has the fields")
    top = _command(commands, "top", "the status, again and again, until Ctrl-C")
    top.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=2.0, help="between two looks (default: 2)"
    )
    top.add_argument("--count", metavar="N", type=int, help="end after N looks")
    explains = _command(commands, "explain", "all that is known of one guest")
    explains.add_argument("guest", metavar="GUEST", help="its name, its UUID, or how its UUID begins")
    admits = _command(commands, "admit", "may a guest of that size start?")
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
    doctor = _command(commands, "doctor", "what is set badly on this host, why it matters, what mends it")
    doctor.add_argument("--json", action="store_true", help="as JSON; docs/operating.md has the fields")
    doctor.add_argument("--config", metavar="FILE", type=Path, help="the daemon's configuration")
    commands.add_parser("simulate", help="run the policy over simulated or recorded hosts", add_help=False)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    description, epilog = _PAGES[name]
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


_PAGES: Final = {
    "check": (_CHECK, _CHECK_EPILOG),
    "status": (_STATUS, _STATUS_EPILOG),
    "top": (_TOP, _TOP_EPILOG),
    "explain": (_EXPLAIN, _EXPLAIN_EPILOG),
    "admit": (_ADMIT, _ADMIT_EPILOG),
    "doctor": (_DOCTOR, _DOCTORS_EPILOG),
}

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
