"""How does the daemon live: how does it start, wait, reload and stop?

Everything is put together here, and the loop is run on the main thread; two more threads answer scrapes and
questions. Nothing is decided here. Whatever happens, this module must never leave guests in a half-done state
of its own: targets are set one at a time, and every one of them is safe to be the last.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from balloond import __version__, loop
from balloond.config.read import ConfigError, load, load_usual
from balloond.config.settings import Config, Mode
from balloond.control import ControlServer, SocketRefused
from balloond.log import STANDARD_ERROR, Level, Log, to_standard_error
from balloond.model import Measure, Measured, Outcome, SetTarget, Snapshot, Tick
from balloond.notify import Notifier
from balloond.policy.farewell import farewell
from balloond.publish.admission import admission, asked_of
from balloond.publish.journal import Journal, to_json
from balloond.publish.metrics import Metrics
from balloond.publish.narrate import Narrator
from balloond.publish.scrape import MetricsServer
from balloond.publish.status import History, libvirt_answers, status
from balloond.units import KIB, format_size
from balloond.wake import HOST_PRESSURE, Pressure, Signals, Waker

EXIT_OK: Final = 0
EXIT_RUNTIME: Final = 1
EXIT_CONFIGURATION: Final = 2
EXIT_BUG: Final = 70  # EX_SOFTWARE of sysexits(3)

FAREWELL_S: Final = 4.0
"""For leaving the guests with what is free. A target takes milliseconds to set; a hung guest must not make the
service manager lose patience."""

RESTORE_S: Final = 2.0
"""For putting statistics periods back."""

STOP_S: Final = 9.0
"""From the first signal to the end, come what may: the turn under way included. Ten seconds were promised."""

HURRIED_S: Final = 0.8
"""For putting the host's settings back where that time has run out: a few writes, within the ten seconds."""

METRICS_RETRY_S: Final = 60.0
STACK: Final = 256 * KIB  # for each thread; the deepest call, a scrape, needs less than a tenth of it


class Guests(Protocol):
    """What the daemon itself needs of the guests' edge: that it wakes us, and that it is left tidy."""

    def fileno(self) -> int: ...

    def drain_events(self) -> object: ...

    def restore_periods(self, deadline_s: float) -> None:
        """Puts back the statistics periods that were found, as far as the time suffices."""

    def close(self) -> None: ...


class World(loop.World, Protocol):
    """What the daemon needs of the host besides: that it wakes us, and that it is left as it was found."""

    @property
    def pressure_file(self) -> str | None:
        """Where the pool's pressure is told of; None: the whole host's must do."""

    def take_up(self) -> tuple[str, ...]:
        """Undoes what a daemon that was killed has left and nobody would look after; says what could not be."""

    def put_back(self) -> tuple[str, ...]:
        """Says what could not be put back."""


class Settings:
    """The configuration in force. `current` is the same object until a reload succeeds."""

    PINNED: Final = {
        "libvirt_uri": "libvirt.uri",
        "control_socket": "control.socket",
        "state_directory": "state.directory",
    }
    """What is kept until a restart, and how the file calls it: others already rely on it."""

    def __init__(self, path: Path, config: Config, log: Log) -> None:
        self._path = path
        self._log = log
        self.current = config

    def reload(self) -> bool:
        """Reads the file again; a broken one changes nothing. True: what it says is now in force."""
        try:
            read = load(self._path)
        except ConfigError as error:
            self._log.error(
                "the configuration is broken; the old one stays in force", faults=len(error.problems)
            )
            for problem in error.problems:
                self._log.error(str(problem))
            return False
        pinned = {field: getattr(self.current, field) for field in self.PINNED}
        for field, key in self.PINNED.items():
            if getattr(read, field) != pinned[field]:
                self._log.warning("a change needs a restart", key=key, kept=pinned[field])
        if read.interval_s != self.current.interval_s:
            self._log.warning("guests go on telling their statistics as often as before until a restart")
        self.current = replace(read, **pinned)
        self._log.info("configuration reloaded", file=self._path, mode=self.current.mode.value)
        return True


class Witness:
    """A world that remembers what was last seen of it, for the case that deciding on it fails."""

    def __init__(self, world: loop.World) -> None:
        self._world = world
        self.seen: Snapshot | None = None

    def observe(self) -> Snapshot:
        self.seen = self._world.observe()
        return self.seen

    def apply(self, actions: Sequence[SetTarget]) -> tuple[Outcome, ...]:
        return self._world.apply(actions)

    def take(self, measures: Sequence[Measure]) -> tuple[Measured, ...]:
        return self._world.take(measures)


class Daemon:
    """One run, from the first turn to the last. Signals only set flags and wake the wait."""

    def __init__(
        self,
        *,
        settings: Settings,
        world: World,
        guests: Guests,
        metrics: Metrics,
        history: History,
        notifier: Notifier,
        log: Log,
        journal: Journal | None = None,
    ) -> None:
        self._settings = settings
        self._host, self._world = world, Witness(world)
        self._guests = guests
        self._metrics = metrics
        self._history = history
        self._notifier = notifier
        self._log = log
        self._publishers: list[loop.Publisher] = [metrics, history, Narrator(log)]
        if journal is not None:
            self._publishers.append(journal)
        self._server = MetricsServer(metrics.registry)
        self._server_due_s = float("-inf")
        self._stopping = self._hurried = False
        self._reloading = False
        self._signals = Signals(
            (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM), self._on_signal
        )
        self._pressure = Pressure()
        self._waker = Waker(self._signals, guests, self._pressure, time.monotonic)
        self._ready = False
        self._began_s = self._began_cpu_s = 0.0

    def run(self) -> int:
        """Turns until a signal ends it. Returns the exit status."""
        self._began()
        try:
            self._tell_left(self._host.take_up())
            last = loop.run(lambda: self._settings.current, self._world, self._publishers, self._wait)
            self._notifier.stopping()
            self._leave(last)
        except Exception:  # whatever it is, it is our own bug: what the world can do comes back as data
            self._end_for_bug()
            return EXIT_BUG
        return EXIT_OK

    def close(self) -> None:
        self._server.close()
        self._guests.close()
        self._pressure.close()
        self._signals.close()
        self._notifier.close()

    # --- between two turns ---

    def _began(self) -> None:
        self._began_s, self._began_cpu_s = time.monotonic(), time.thread_time()

    def _wait(self, config: Config) -> bool:
        """Ends a turn and waits for the next; False: there is to be none."""
        now_s = time.monotonic()
        took_s = now_s - self._began_s
        self._metrics.turned(took_s=took_s, cpu_s=time.thread_time() - self._began_cpu_s)
        self._serve_metrics(config, now_s)
        if not self._ready:
            self._ready = True
            self._notifier.ready()
        self._notifier.alive()
        if self._history.tick is not None:
            self._notifier.status(in_short(self._history.tick), now_s)
        self._pressure.watch(self._host.pressure_file or HOST_PRESSURE)
        self._waker.wait(
            began_s=self._began_s,
            interval_s=loop.pause_s(config.interval_s, took_s, hurry=self._hurries()),
            pet=self._notifier.alive,
            pet_s=self._notifier.watchdog_s and self._notifier.watchdog_s / 3,
        )
        if self._reloading and not self._stopping:
            self._reload()
        self._began()
        return not self._stopping

    def _hurries(self) -> bool:
        return self._history.tick is not None and self._history.tick.decision.hurry

    def _serve_metrics(self, config: Config, now_s: float) -> None:
        """Guests are protected with or without metrics, so a port in use is told of and tried again."""
        if config.metrics == self._server.listens_at or now_s < self._server_due_s:
            return
        try:
            self._server.listen(config.metrics)
        except OSError as error:
            self._server_due_s = now_s + METRICS_RETRY_S
            where = f"{config.metrics.host}:{config.metrics.port}" if config.metrics else ""
            self._log.error(
                "METRICS ARE NOT SERVED; the daemon goes on without them and tries again",
                listen=where,
                because=error.strerror or error,
                again_in_s=METRICS_RETRY_S,
            )
        else:
            if config.metrics is not None:
                self._log.info("metrics are served", host=config.metrics.host, port=self._server.port)

    def _reload(self) -> None:
        self._reloading = False
        self._notifier.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        self._metrics.reloaded(ok=self._settings.reload())
        self._metrics.mode = self._settings.current.mode
        if self._settings.current.mode is Mode.OBSERVE:
            self._put_back()
        self._server_due_s = float("-inf")
        self._notifier.ready()

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reloading = True
        elif number == signal.SIGALRM or self._stopping:  # out of time or patience: any instant is safe
            self._end_at_once()
        else:
            self._stopping = True
            self._log.info("stopping", signal=signal.Signals(number).name)
            signal.setitimer(signal.ITIMER_REAL, STOP_S)

    # --- the end ---

    def _end_at_once(self) -> None:
        """Ends the process from within a turn that may never end, with what was set at the host put back first.

        A thread does that, so that it can be given up. It may need what the main thread holds, which waits here:
        then what was set stays noted, for the next daemon."""
        if not self._hurried:
            self._hurried = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._log.warning("stopping at once, without a farewell to the remaining guests")
            thread = threading.Thread(target=self._put_back, name="put-back", daemon=True)
            with contextlib.suppress(RuntimeError):  # no further thread can be had
                thread.start()
                thread.join(HURRIED_S)
        os._exit(EXIT_RUNTIME)

    def _leave(self, last: Tick | None) -> None:
        """Leaves the guests with what is free, since nobody will give it to them later."""
        config = self._settings.current
        self._put_back()
        ends_s = time.monotonic() + FAREWELL_S
        actions = farewell(last) if last is not None and config.mode is Mode.ACTIVE else ()
        for done, action in enumerate(actions):
            if time.monotonic() >= ends_s:
                self._log.warning("no time was left for a farewell to all", guests=len(actions) - done)
                break
            for outcome in self._world.apply((action,)):
                self._log.info(
                    "farewell",
                    guest=action.name,
                    uuid=action.uuid,
                    actual=format_size(action.actual),
                    target=format_size(action.target),
                    result=outcome.result.value,
                    detail=outcome.detail or None,
                )
        self._guests.restore_periods(RESTORE_S)

    def _put_back(self) -> None:
        self._tell_left(self._host.put_back())

    def _tell_left(self, left: Sequence[str]) -> None:
        for detail in left:
            self._log.warning("not put back", what=detail)

    def _end_for_bug(self) -> None:
        """Reports it, and leaves the host's settings as they were found, which takes nothing of the core."""
        for step in (self._report_bug, self._put_back):
            try:
                step()
            except Exception as error:  # another bug, or the same one again; the first was told
                self._log.error("and that failed too", step=step.__name__.strip("_"), because=repr(error))

    def _report_bug(self) -> None:
        """Everything that is needed to find out: what was raised, the last tick, and what was seen after it."""
        self._log.error(
            "a bug of balloond; nothing is done any more, and the daemon ends to be started again"
        )
        for line in traceback.format_exc().splitlines():
            self._log.error(line)
        path = Path(self._settings.current.state_directory) / "broken-tick.jsonl"
        sealed = [to_json(each) for each in (self._history.tick, self._world.seen) if each is not None]
        try:
            path.write_text("\n".join((*sealed, "")))
            path.chmod(0o640)
        except OSError as error:
            self._log.error("the last tick can't be kept", file=path, because=error.strerror or error)
        else:
            self._log.error("the last tick, and what was seen after it, are kept for the report", file=path)


def in_short(tick: Tick) -> str:
    """The line that `systemctl status` shows."""
    guests, ledger = tick.snapshot.guests, tick.decision.ledger
    if guests is None or not libvirt_answers(tick):
        return "libvirt does not answer; retrying. Guests keep the memory that they have"
    if ledger is None:
        return "the host's figures can't be read; guests keep the memory that they have"
    rung, headroom = tick.decision.rung.name.lower(), format_size(max(0, ledger.headroom))
    return f"{len(guests)} guests; the host is {rung}, {headroom} can be granted"


# --- from the command line -------------------------------------------------------------------------------

DEFAULT_CONFIG: Final = "/etc/balloond/balloond.yaml"
_DESCRIPTION: Final = """\
balloond lets a KVM host run guests that together claim more memory than the
host has, and keeps each of them, and the host, out of trouble. It reads guests'
memory statistics over libvirt and the host's memory and pressure from the
kernel, sets each guest's balloon, explains what it does, and exports metrics.

It runs in the foreground and logs to standard error; systemd does the rest."""
_EPILOG: Final = f"""\
signals:
  SIGHUP            read the configuration again. A broken file changes nothing;
                    its faults are logged. The keys libvirt.uri, control.socket
                    and state.directory need a restart.
  SIGTERM, SIGINT   stop: hand out to the guests what is free, put statistics
                    periods and merging back, and end within 10 seconds. A
                    second one ends within a second: soft limits and merging
                    are put back, and nothing else.

exit status:
  0   stopped by a signal
  1   could not run: another balloond runs, or a directory can't be made
  2   the configuration or the command line is wrong; every fault is told
  70  a bug: the log says what, and state.directory has broken-tick.jsonl;
      soft limits and merging are put back, balloons stay as they are

files:
  {DEFAULT_CONFIG}
                    the configuration; without that file, defaults that are safe
                    on any host. `balloonctl check FILE` checks one.
  /run/balloond/control.sock
                    where balloonctl asks
  http://127.0.0.1:9710/metrics
                    for Prometheus

environment:
  NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, JOURNAL_STREAM
                    as systemd sets them: sd_notify(3), systemd.exec(5)

see also:
  balloonctl --help, docs/operating.md, docs/metrics.md
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the daemon; returns its exit status."""
    given = _parser().parse_args(arguments)
    _open_standard_descriptors()
    log = to_standard_error(os.environ, threshold=Level.DEBUG if given.debug else Level.INFO)
    path = Path(given.config or DEFAULT_CONFIG)
    try:
        config = load_usual(path) if given.config is None else load(path)
    except ConfigError as error:
        for problem in error.problems:
            log.error(str(problem))
        _put_back_after_the_dead(Config(), log)
        return EXIT_CONFIGURATION
    threading.stack_size(STACK)
    threading.excepthook = _thread_reporter(log)
    try:
        Path(config.state_directory).mkdir(mode=0o755, parents=True, exist_ok=True)
        return _run(path, config, log, given.journal)
    except SocketRefused as error:
        log.error(str(error))
    except OSError as error:
        log.error("can't start", file=error.filename, because=error.strerror or error)
    return EXIT_RUNTIME


def _put_back_after_the_dead(usual: Config, log: Log) -> None:
    """Puts back what a daemon that was killed has set at the host: with a broken file no other will come to do so.
    In the usual directory, as nobody can say which one was meant; and not under the hands of one that lives."""
    from balloond.host.world import is_noted, put_back_noted

    state = Path(usual.state_directory)
    if not is_noted(state):
        return
    try:
        claim = ControlServer(usual.control_socket, {})
    except SocketRefused as refused:
        log.warning("what a daemon has set at the host is left", because=refused)
        return
    try:
        left = put_back_noted(state)
    finally:
        claim.close()
    log.warning("what a daemon before had set at the host is put back", but_for="; ".join(left) or None)


def _open_standard_descriptors() -> None:
    """Where standard error was closed its number would go to the next file, and the log into that."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _run(path: Path, config: Config, log: Log, journal: Path | None) -> int:
    """Puts everything together, runs it, and takes it apart."""
    from balloond.host.guests import Guests as LibvirtGuests
    from balloond.host.world import RealWorld

    settings, metrics, history = Settings(path, config, log), Metrics(config.mode), History()
    control = ControlServer(
        config.control_socket,
        {
            "status": lambda _: answer(settings, history),
            "admit": lambda request: answer_admission(settings, history, request),
        },
    )
    try:
        log.info("balloond starts", version=__version__, mode=config.mode.value, uri=config.libvirt_uri)
        guests = LibvirtGuests(
            uri=config.libvirt_uri,
            period_s=config.interval_s,
            state_directory=config.state_directory,
            log=log,
        )
        metrics.watch_child(lambda: guests.child_pid)
        daemon = Daemon(
            settings=settings,
            world=RealWorld(
                guests,
                config=lambda: settings.current,
                monotonic=time.monotonic,
                wall=time.time,
                state=Path(config.state_directory),
            ),
            guests=guests,
            metrics=metrics,
            history=history,
            notifier=Notifier.from_environment(os.environ, os.getpid()),
            log=log,
            journal=Journal(journal, log.error) if journal else None,
        )
        try:
            return daemon.run()
        finally:
            daemon.close()
    finally:
        control.close()
        log.info("balloond ends")


TURN_MOST_S: Final = 20.0
"""Every deadline of a turn fits into it. On a tick that is older than this and an interval nobody is told yes."""

JUST_STARTED: Final = {"error": "the daemon has just started; ask again in a few seconds"}


def answer(settings: Settings, history: History) -> object:
    """The reply to `{"ask": "status"}`."""
    if history.tick is None:
        return JUST_STARTED
    return status(history.tick, history, mode=settings.current.mode.value, version=__version__)


def answer_admission(settings: Settings, history: History, request: Mapping[str, Any]) -> object:
    """The reply to `{"ask": "admit", "size": BYTES}`."""
    asked, tick = asked_of(request, settings.current), history.tick
    if isinstance(asked, str):
        return {"error": asked}
    if tick is None:
        return JUST_STARTED
    age_s = time.monotonic() - tick.snapshot.monotonic_s
    if age_s > settings.current.interval_s + TURN_MOST_S:
        return {"error": f"the host was last looked at {age_s:.0f} s ago; ask again later"}
    return admission(tick, asked)


def _thread_reporter(log: Log) -> Callable[[threading.ExceptHookArgs], None]:
    def report(bug: threading.ExceptHookArgs) -> None:
        name = bug.thread.name if bug.thread else "?"
        log.error("a bug of balloond; a thread that only answers has ended", thread=name)
        trace: TracebackType | None = bug.exc_traceback
        for line in "".join(traceback.format_exception(bug.exc_type, bug.exc_value, trace)).splitlines():
            log.error(line)

    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="balloond",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"the configuration; it must exist (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument("--debug", action="store_true", help="log a line for each tick as well")
    parser.add_argument(
        "--journal",
        metavar="FILE",
        type=Path,
        help="record every tick in FILE, one line of JSON each; at 64 MiB it becomes FILE.1",
    )
    parser.add_argument("--version", action="version", version=f"balloond {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
