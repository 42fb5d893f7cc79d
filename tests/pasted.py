"""Can what the doctor prints be pasted?"""

from __future__ import annotations

import functools
import re
import subprocess
from typing import Final

from balloond.diagnosis.finding import Finding
from balloond.publish.findings import describe_findings, report

URI: Final = "qemu:///system"

COMMANDS: Final = re.compile(
    r"# |(cat|echo|sysctl|systemctl|modprobe|virsh|VISUAL=\"sed|for vmid in|f=\$\(mktemp) ?"
)


def pasteable(findings: list[Finding]) -> list[Finding]:
    """The same, once a shell has taken every command as it is printed. The unit tests of `diagnosis`, which take
    every branch of it, get all theirs through this: so whatever can be advised is looked at."""
    for finding in findings:
        lines = printed(describe_findings([finding], URI))
        assert all(map(COMMANDS.match, lines)), f"neither command nor comment: {lines}"
        assert_shell_takes("\n".join(lines))
        assert report([finding], URI)["findings"][0]["command"].splitlines() == lines
    return findings


def printed(text: str) -> list[str]:
    """The commands that a person is shown."""
    _, _, shown = text.partition("        do:  ")
    return [line.removeprefix(" " * 13) for line in re.split(r"\n(?! {13})", shown)[0].splitlines()]


@functools.cache
def assert_shell_takes(command: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), command
