"""What is a finding, and how bad is the worst of them?"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """The worst one's value is the exit status of `balloonctl doctor`."""

    TOLD = 0  # worth knowing, nothing to mend
    ADVICE = 1
    UNSAFE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found."""

    severity: Severity
    subject: str  # a guest's name, or `host`
    uuid: str = ""  # the guest's
    what: str
    why: str  # it matters
    command: str = ""  # lines for a shell that mend it; empty: nothing to do
    """Whatever no command can mend is a comment. GUEST stands for the guest's UUID, since a name may be another
    one's number, and URI for libvirt's; nothing in it comes from outside."""


HOST = "host"


def worst(findings: Iterable[Finding]) -> Severity:
    return max((finding.severity for finding in findings), default=Severity.TOLD)


def told(what: str, why: str, *, of: str = HOST) -> Finding:
    return Finding(severity=Severity.TOLD, subject=of, what=what, why=why)


def advice(what: str, why: str, command: str, *, of: str = HOST) -> Finding:
    return Finding(severity=Severity.ADVICE, subject=of, what=what, why=why, command=command)


def unsafe(what: str, why: str, command: str, *, of: str = HOST) -> Finding:
    return Finding(severity=Severity.UNSAFE, subject=of, what=what, why=why, command=command)
