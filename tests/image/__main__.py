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

from balloond.lab import accelerator
from balloond.lab import image as guests
from balloond.lab.faults import LabError
from tests.image import disk, machine, untouched

LIMIT_S = {accelerator.KVM: 20 * 60.0, accelerator.TCG: 45 * 60.0}
"""For the whole run. Under TCG, on two cores that were busy with other work as well, it took 11 to 18 minutes."""

SKIPPED = re.compile(r"^\S+::.+ SKIPPED\b", re.MULTILINE)  # in pytest's report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.image")
    parser.add_argument(
        "--self-test", action="store_true", help="break the unit on purpose, and see that it is found out"
    )
    self_test: bool = parser.parse_args().self_test
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `finally`
    untouched.keep_orphans()
    before = untouched.look()
    status = host_test(self_test=self_test)
    return max(status, judge_machine(before, untouched.look()))


def host_test(*, self_test: bool) -> int:
    """Builds, boots and judges the host; returns the exit status."""
    for left in disk.cache().glob("run.*"):  # by a run that was killed outright
        if time.time() - left.stat().st_mtime > max(LIMIT_S.values()):
            shutil.rmtree(left)
    logs = machine.Logs(home=disk.TREE / "build/test-host")
    shutil.rmtree(logs.home, ignore_errors=True)
    logs.home.mkdir(parents=True)
    try:
        chosen = accelerator.choose(guests.build())
        print(f"test-host: the host runs under {chosen.upper()}; its log is in {logs.home}", flush=True)
        built = disk.build(logs.build)
        with tempfile.TemporaryDirectory(prefix="run.", dir=disk.cache()) as home:
            report = boot(built, chosen, Path(home), logs, self_test=self_test)
            if chosen == accelerator.TCG and crashed(report, logs):
                print("test-host: THE EMULATED HOST DIED; once more, from its start")
                logs.set_aside()
                report = boot(built, chosen, Path(home), logs, self_test=self_test)
    except (LabError, subprocess.CalledProcessError) as error:
        print(f"test-host: {error}", file=sys.stderr)
        return 1
    return judge(report, logs, self_test=self_test)


def boot(built: disk.Disk, chosen: str, home: Path, logs: machine.Logs, *, self_test: bool) -> str:
    """One run of the host, and what it reported."""
    return machine.run(
        built,
        accelerator=chosen,
        home=home,
        logs=logs,
        limit_s=LIMIT_S[chosen],
        self_test=self_test,
        tell=lambda text: print(text, end="", flush=True),
    )


def crashed(report: str, logs: machine.Logs) -> bool:
    """Whether the host ended by itself before its report did: it panicked, or its processor lost its way and was
    reset. QEMU's emulation of a processor with virtualisation of its own was seen to do either, in two of
    thirteen runs, while a nested guest ran."""
    return machine.verdict(report) is None and machine.DIED in logs.console.read_text(errors="replace")


def judge_machine(before: untouched.Seen, after: untouched.Seen) -> int:
    """Likewise of the machine that this runs on."""
    changed = untouched.differences(before, after)
    for change in changed:
        print(f"test-host: FAILED this machine is as it was: {change}")
    if not changed:
        print(f"test-host: PASSED this machine is as it was: {untouched.kinds(before, after)}")
    return 1 if changed else 0


def judge(report: str, logs: machine.Logs, *, self_test: bool = False) -> int:
    """The exit status, and on the way what is wrong, in words."""
    status = machine.verdict(report)
    if status is None:
        end = logs.console.read_text(errors="replace").splitlines()[-30:] if logs.console.exists() else []
        print("test-host: FAILED: the host never ended its report. Its console ends:", *end, sep="\n  ")
        return 1
    failures = [] if self_test else unmet(report, logs)
    for failure in failures:
        print(f"test-host: FAILED {failure}")
    if not failures and not self_test:
        print("test-host: PASSED metrics of a guest are scraped from outside the host")
    passed = status == 0 and not failures
    print(f"test-host: {'all passed' if passed else 'FAILED; see above'}; the log is in {logs.home}")
    return 0 if passed else 1


def unmet(report: str, logs: machine.Logs) -> list[str]:
    """What this very host has no excuse for, though its checks themselves may have passed."""
    missed = [f"{line}: nothing may be skipped here" for line in SKIPPED.findall(report)]
    if not logs.metrics.exists():
        missed.append("metrics of a guest are scraped from outside the host: no scrape ever worked")
    return missed


if __name__ == "__main__":
    sys.exit(main())
