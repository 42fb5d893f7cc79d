"""What was found, in words for a person, or as values for a program?

The same finding in several guests is told once. What may come from outside is escaped, so that it can't pretend
to be another line; a command alone is printed as it is, since it is there to be pasted: it holds nothing from
outside but UUIDs and libvirt's URI, quoted for the shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Final, TypedDict

from balloond.diagnosis.finding import Finding, Severity, worst
from balloond.log import printable

SCHEMA: Final = 1
NAMES_MOST: Final = 6  # of guests with the same finding; the rest are counted

_PLACEHOLDERS: Final = re.compile(r"\b(GUEST|URI)\b")

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


def report(findings: Sequence[Finding], uri: str) -> Report:
    """The findings as values that JSON can carry. `uri`: libvirt's, for the commands."""
    return Report(
        schema=SCHEMA,
        worst=worst(findings).name.lower(),
        findings=[
            FindingStatus(
                severity=finding.severity.name.lower(),
                subject=finding.subject,
                what=finding.what,
                why=finding.why,
                command=_command(finding.command, [finding.uuid], uri),
            )
            for finding in findings
        ],
    )


def describe_findings(findings: Sequence[Finding], uri: str) -> str:
    """The worst first, each with why it matters and what mends it."""
    ordered = sorted(_gathered(findings), key=lambda gathered: -gathered[0].severity)
    lines = [line for finding, same in ordered for line in _lines(finding, same, uri)]
    return "\n".join([*lines, _CONCLUSIONS[worst(findings)]]) + "\n"


def _gathered(findings: Sequence[Finding]) -> Iterator[tuple[Finding, list[Finding]]]:
    """One of each kind, with all that are the same but for the guest."""
    same: dict[Finding, list[Finding]] = {}
    for finding in findings:
        same.setdefault(replace(finding, subject="", uuid=""), []).append(finding)
    yield from same.items()


def _lines(finding: Finding, same: list[Finding], uri: str) -> Iterator[str]:
    shown = ", ".join(printable(each.subject) for each in same[:NAMES_MOST])
    more = f" and {len(same) - NAMES_MOST} more" if len(same) > NAMES_MOST else ""
    yield f"{_HEADINGS[finding.severity]:<7} {shown}{more}: {printable(finding.what)}"
    yield f"        why: {printable(finding.why)}"
    command = _command(finding.command, [each.uuid for each in same], uri)
    for head, line in zip(chain(["do:"], repeat("")), command.splitlines(), strict=False):
        yield f"        {head:<4} {line}"


def _command(command: str, uuids: list[str], uri: str) -> str:
    """The command for these guests, one after the other where there are several."""
    each = "GUEST" in command and len(uuids) > 1
    words = {"URI": _quoted(uri), "GUEST": '"$guest"' if each else _quoted(uuids[0])}
    said = _PLACEHOLDERS.sub(lambda found: words[found[0]], command)
    return f"for guest in {' '.join(map(_quoted, uuids))}; do {said}; done" if each else said


def _quoted(word: str) -> str:
    """As a shell takes it for one word, without anything that a terminal would obey."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + printable(word).replace("'", "\\'") + "'"
