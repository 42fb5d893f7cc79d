"""`python -m tests.image`: build the test host, boot it, and say what its checks found.

With `--self-test` the unit is broken on purpose in the host instead, and must be found out; see self-test.sh.
Exit status: 0 all passed, 1 a check failed or the host never reported. The log of a run stays in build/test-host.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from balloond.lab import accelerator
from balloond.lab import image as guests
from balloond.lab.faults import LabError
from tests.image import disk, machine, untouched

LIMIT_S = {accelerator.KVM: 30 * 60, accelerator.TCG: 60 * 60}
"""For the whole run: the disk's building, both boots, and once more both where the emulated host died. Under TCG,
on two cores that were busy with other work as well, the boots took 11 to 18 minutes and the building five."""

GRACE_S = 60
"""After the limit, for the report on a host that hung; then whatever hangs is ended, wherever that is."""

SKIPPED = re.compile(r"^\S+::.+ SKIPPED\b", re.MULTILINE)  # in pytest's report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.image")
    parser.add_argument(
        "--self-test", action="store_true", help="break the unit on purpose, and see that it is found out"
    )
    self_test: bool = parser.parse_args().self_test
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))  # through every `finally`
    signal.signal(signal.SIGALRM, too_long)
    logs = machine.Logs(home=disk.TREE / "build/test-host")
    shutil.rmtree(logs.home, ignore_errors=True)
    logs.home.mkdir(parents=True)
    untouched.keep_orphans()
    before = untouched.look()
    status = host_test(logs, self_test=self_test)
    return max(status, judge_machine(before, untouched.look(), logs))


def host_test(logs: machine.Logs, *, self_test: bool) -> int:
    """Builds, boots and judges the host in bounded time; returns the exit status."""
    began_s = time.monotonic()
    signal.alarm(max(LIMIT_S.values()) + GRACE_S)
    for left in disk.cache().glob("run.*"):  # by a run that was killed outright
        if time.time() - left.stat().st_mtime > max(LIMIT_S.values()) + GRACE_S:
            shutil.rmtree(left)
    try:
        chosen = accelerator.choose(guests.build())
        print(f"test-host: the host runs under {chosen.upper()}; its log is in {logs.home}", flush=True)
        deadline_s = began_s + LIMIT_S[chosen]
        signal.alarm(max(1, round(deadline_s - time.monotonic())) + GRACE_S)
        built = disk.build(logs.build)
        with tempfile.TemporaryDirectory(prefix="run.", dir=disk.cache()) as home:
            report = boot(built, chosen, Path(home), logs, deadline_s, self_test=self_test)
            if chosen == accelerator.TCG and crashed(report, logs):
                say("THE EMULATED HOST DIED; once more, from its start", logs)
                logs.set_aside()
                report = boot(built, chosen, Path(home), logs, deadline_s, self_test=self_test)
    except (LabError, subprocess.CalledProcessError) as error:
        say(f"FAILED: {error}", logs)
        return 1
    finally:
        signal.alarm(0)
    return judge(report, logs, self_test=self_test)


def too_long(_signal: int, _frame: FrameType | None) -> NoReturn:
    """The one end of whatever hangs: what runs at that moment is ended by this on its way up."""
    raise LabError("the whole run took too long; what it did last is in its logs")


def say(what: str, logs: machine.Logs) -> None:
    """Tells it, and keeps it with the host's own report."""
    print(f"test-host: {what}", flush=True)
    with logs.report.open("a") as report:
        print(f"test-host: {what}", file=report)


def boot(
    built: disk.Disk, chosen: str, home: Path, logs: machine.Logs, deadline_s: float, *, self_test: bool
) -> str:
    """One run of the host, and what it reported."""
    return machine.run(
        built,
        accelerator=chosen,
        home=home,
        logs=logs,
        deadline_s=deadline_s,
        self_test=self_test,
        tell=lambda text: print(text, end="", flush=True),
    )


def crashed(report: str, logs: machine.Logs) -> bool:
    """Whether the host ended by itself before its report did: it panicked, or its processor lost its way and was
    reset. QEMU's emulation of a processor with virtualisation of its own was seen to do either, in two of
    thirteen runs, while a nested guest ran."""
    return machine.verdict(report) is None and machine.DIED in logs.console.read_text(errors="replace")


def judge_machine(before: untouched.Seen, after: untouched.Seen, logs: machine.Logs) -> int:
    """Likewise of the machine that this runs on."""
    changed = untouched.differences(before, after)
    for change in changed:
        say(f"FAILED this machine is as it was: {change}", logs)
    if not changed:
        say(f"PASSED this machine is as it was: {untouched.kinds(before, after)}", logs)
    return 1 if changed else 0


def judge(report: str, logs: machine.Logs, *, self_test: bool = False) -> int:
    """The exit status, and on the way what is wrong, in words."""
    status = machine.verdict(report)
    if status is None:
        end = logs.console.read_text(errors="replace").splitlines()[-30:] if logs.console.exists() else []
        say("\n  ".join(["FAILED: the host never ended its report. Its console ends:", *end]), logs)
        return 1
    failures = [] if self_test else unmet(report, logs)
    for failure in failures:
        say(f"FAILED {failure}", logs)
    if not failures and not self_test:
        say("PASSED metrics of a guest are scraped from outside the host", logs)
    passed = status == 0 and not failures
    say(f"{'all passed' if passed else 'FAILED; see above'}; the log is in {logs.home}", logs)
    return 0 if passed else 1


def unmet(report: str, logs: machine.Logs) -> list[str]:
    """What this very host has no excuse for, though its checks themselves may have passed."""
    missed = [f"{line}: nothing may be skipped here" for line in SKIPPED.findall(report)]
    if not logs.metrics.exists():
        missed.append("metrics of a guest are scraped from outside the host: no scrape ever worked")
    return missed


if __name__ == "__main__":
    sys.exit(main())
