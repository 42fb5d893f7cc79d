"""What was found, in words for a person, or as values for a program?

Guests' names are escaped, so that none can pretend to be another line; the same finding in several guests is told
once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, TypedDict

from balloond.diagnosis.finding import Finding, Severity, worst
from balloond.log import printable

SCHEMA: Final = 1
NAMES_MOST: Final = 6  # of guests with the same finding; the rest are counted

_HEADINGS: Final = {Severity.UNSAFE: "UNSAFE", Severity.ADVICE: "advice", Severity.TOLD: "note"}
_CONCLUSIONS: Final = {
    Severity.UNSAFE: "unsafe: see above what has to be mended",
    Severity.ADVICE: "safe; some things could be better",
    Severity.TOLD: "all is as it should be",
}


class FindingStatus(TypedDict):
    severity: str
    subject: str
    what: str
    why: str
    command: str


class Report(TypedDict):
    schema: int
    worst: str
    findings: list[FindingStatus]


def report(findings: Sequence[Finding]) -> Report:
    """The findings as values that JSON can carry."""
    return Report(
        schema=SCHEMA,
        worst=worst(findings).name.lower(),
        findings=[
            FindingStatus(
                severity=finding.severity.name.lower(),
                subject=finding.subject,
                what=finding.what,
                why=finding.why,
                command=_command(finding.command, [finding.subject]),
            )
            for finding in findings
        ],
    )


def describe_findings(findings: Sequence[Finding]) -> str:
    """The worst first, each with why it matters and what mends it."""
    ordered = sorted(_gathered(findings), key=lambda gathered: -gathered[0].severity)
    lines = [line for finding, names in ordered for line in _lines(finding, names)]
    return "\n".join([*lines, _CONCLUSIONS[worst(findings)]]) + "\n"


def _gathered(findings: Sequence[Finding]) -> Iterator[tuple[Finding, list[str]]]:
    subjects: dict[Finding, list[str]] = {}
    for finding in findings:
        subjects.setdefault(replace(finding, subject=""), []).append(finding.subject)
    yield from subjects.items()


def _lines(finding: Finding, names: list[str]) -> Iterator[str]:
    shown = ", ".join(printable(name) for name in names[:NAMES_MOST])
    more = f" and {len(names) - NAMES_MOST} more" if len(names) > NAMES_MOST else ""
    yield f"{_HEADINGS[finding.severity]:<7} {shown}{more}: {finding.what}"
    yield f"        why: {finding.why}"
    if finding.command:
        yield f"        do:  {printable(_command(finding.command, names))}"


def _command(command: str, names: list[str]) -> str:
    """The command for one guest; for several `GUEST` stands for each of them."""
    return command.replace("GUEST", shlex.quote(names[0])) if len(names) == 1 else command
