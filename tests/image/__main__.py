"""`python -m tests.image`: build the test host, boot it, and say what its checks found.

Exit status: 0 all passed, 1 a check failed or the host never reported. The log of a run stays in build/test-host.
"""

from __future__ import annotations

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
from tests.image import disk, machine

LIMIT_S = {accelerator.KVM: 20 * 60.0, accelerator.TCG: 45 * 60.0}
"""For the whole run. Under TCG, on two cores that were busy with other work as well, it took 11 to 18 minutes."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `finally`
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
            report = machine.run(
                built,
                accelerator=chosen,
                home=Path(home),
                logs=logs,
                limit_s=LIMIT_S[chosen],
                tell=lambda text: print(text, end="", flush=True),
            )
    except (LabError, subprocess.CalledProcessError) as error:
        print(f"test-host: {error}", file=sys.stderr)
        return 1
    return judge(report, logs)


def judge(report: str, logs: machine.Logs) -> int:
    """The exit status, and on the way what is wrong, in words."""
    status = machine.verdict(report)
    if status is None:
        end = logs.console.read_text(errors="replace").splitlines()[-30:] if logs.console.exists() else []
        print("test-host: FAILED: the host never ended its report. Its console ends:", *end, sep="\n  ")
        return 1
    if status == 0 and not logs.metrics.exists():
        print("test-host: FAILED metrics of a guest are scraped from outside the host: no scrape ever worked")
        return 1
    if status == 0:
        print("test-host: PASSED metrics of a guest are scraped from outside the host")
    print(f"test-host: {'all passed' if status == 0 else 'FAILED; see above'}; the log is in {logs.home}")
    return min(status, 1)


if __name__ == "__main__":
    sys.exit(main())
