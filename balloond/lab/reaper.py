"""Who cleans up when the lab is killed? A small process that waits for its pipe to close, then clears the run.

Started by the arena as `python -m balloond.lab.reaper DIRECTORY` with a pipe as its standard input. It does
nothing but read from it until the end: the kernel closes the other side however the lab dies.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from balloond.lab import leavings


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    home = Path(sys.argv[1])
    sys.stdin.buffer.read()
    leavings.clear(home)
    if not any(leavings.RUNS.glob("*")):
        from balloond.lab.libvirtd import stop_unused  # only now: libvirt is not needed to clear a run

        stop_unused()


if __name__ == "__main__":
    main()
