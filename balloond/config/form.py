"""Which keys does the configuration have?

The one table: `read` reads by it, `schema` makes the JSON Schema and the documentation's table from it, and
tests hold the sample file against it. A new key is a new entry here and a field in `settings`. Nothing here
knows of YAML or of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from balloond.config import kinds
from balloond.config.kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A value with a name."""

    name: str
    kind: Kind
    default: str | None  # as it is written in YAML; None: taken from elsewhere, or absent
    words: str  # what it is, and why to change it


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A mapping with a name."""

    name: str
    parts: tuple[Key | Section | Listing, ...]
    words: str
    at_least_one: bool = False  # an empty one is a fault, and so is leaving it out

    @property
    def required(self) -> tuple[Section, ...]:
        """The parts that can't be left out."""
        return tuple(part for part in self.parts if isinstance(part, Section) and part.at_least_one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list of sections, all alike."""

    name: str
    of: Section
    most: int
    words: str


MOST_RULES: Final = 1000
"""A host has some hundred guests, and a pattern names many at once. It bounds the time that reading takes."""

MATCH: Final = Section(
    name="match",
    words="Which guests the rule is for: every pattern given must fit, in full, capitals and all.",
    at_least_one=True,
    parts=(
        Key(
            name="name", kind=kinds.PATTERN, default=None, words="The guest's name, as `virsh list` shows it."
        ),
        Key(
            name="uuid", kind=kinds.UUID, default=None, words="The guest's UUID, as `virsh domuuid` shows it."
        ),
        Key(name="title", kind=kinds.PATTERN, default=None, words="The `<title>` in the guest's definition."),
    ),
)

_POLICY: Final = (
    Key(
        name="minimum",
        kind=kinds.MINIMUM,
        default="25%",
        words="The guarantee: what a guest keeps, whatever the others want; a percentage is of its own "
        "maximum. Raise it where a slow minute costs more than memory.",
    ),
    Key(
        name="maximum",
        kind=kinds.MAXIMUM,
        default="null",
        words="The most that a guest may have; null is the maximum in its own definition. Lower it to hold "
        "back a guest that takes all it can get.",
    ),
    Key(
        name="shares",
        kind=kinds.SHARES,
        default="1000",
        words="The weight with which what is left is divided, over what all need, or over what all want: "
        "twice the shares, twice as much of it. Raise it for guests that should win when memory is short.",
    ),
    Key(
        name="manage",
        kind=kinds.TRUTH,
        default="true",
        words="With false a guest is watched and counted, and its balloon is never touched: for routers, and "
        "for guests that somebody else balloons.",
    ),
)

POLICY_NAMES: Final = tuple(key.name for key in _POLICY)

RULE: Final = Section(
    name="",
    words="One rule. What it does not set comes from `defaults`.",
    parts=(MATCH, *(Key(name=key.name, kind=key.kind, default=None, words=key.words) for key in _POLICY)),
)

FORM: Final = Section(
    name="",
    words="The configuration of balloond. Every key may be left out; an empty file is a good configuration.",
    parts=(
        Key(
            name="mode",
            kind=kinds.MODE,
            default="active",
            words="With `observe` everything is decided, explained and exported, and no guest is ever touched: "
            "for the first week, or for doubts.",
        ),
        Key(
            name="interval",
            kind=kinds.INTERVAL,
            default="2s",
            words="How often guests and host are looked at, from 0.5s to 60s. Shorter notices sooner, and "
            "costs more; pressure on the host wakes the daemon at once in any case.",
        ),
        Section(
            name="libvirt",
            words="Where the guests are.",
            parts=(
                Key(
                    name="uri",
                    kind=kinds.URI,
                    default='"qemu:///system"',
                    words="The libvirt daemon of this host. Change it for a socket of its own: "
                    '`"qemu+unix:///system?socket=/path"`. Other hosts are refused.',
                ),
            ),
        ),
        Section(
            name="host",
            words="The memory that guests share.",
            parts=(
                Key(
                    name="memory",
                    kind=kinds.MEMORY,
                    default="null",
                    words="How much of the host is for guests; null is all that the host, or the guests' own "
                    "memory cgroup, has. Set it where other programs need the rest.",
                ),
                Key(
                    name="reserve",
                    kind=kinds.RESERVE,
                    default="1GiB",
                    words="Never given away; a percentage is of the memory for guests. Raise it where KSM saves "
                    "much: guests call merged memory back by writing to it.",
                ),
                Key(
                    name="pool",
                    kind=kinds.POOL,
                    default="5%",
                    words="Kept free so that a guest in need is served at once; a percentage is of the memory "
                    "for guests. It matters most of all: raise it where guests grow in bursts.",
                ),
            ),
        ),
        Section(
            name="ksm",
            words="Same-page merging: the kernel keeps pages of equal content once.",
            parts=(
                Key(
                    name="mode",
                    kind=kinds.KSM_MODE,
                    default="leave",
                    words="`leave` touches nothing. `steer` merges as far as it pays, faster when the host is "
                    "short. `off` merges nothing: for hosts whose tenants do not trust each other, since merged "
                    "pages can betray, or be used to change, what others hold.",
                ),
                Key(
                    name="cpu",
                    kind=kinds.CPU,
                    default="70%",
                    words="The most that ksmd may take of one processor, at orange and red; on yellow five "
                    "sevenths of it, on green two. Lower it where processors are short.",
                ),
                Key(
                    name="restore",
                    kind=kinds.TRUTH,
                    default="true",
                    words="With true a stop puts back the settings that were found, but for `mode: off`.",
                ),
            ),
        ),
        Section(name="defaults", words="How guests are treated that no rule is for.", parts=_POLICY),
        Listing(
            name="guests",
            of=RULE,
            most=MOST_RULES,
            words="Rules for some guests; the first that fits is the one that counts.",
        ),
        Section(
            name="metrics",
            words="What Prometheus reads.",
            parts=(
                Key(
                    name="listen",
                    kind=kinds.LISTEN,
                    default='"127.0.0.1:9710"',
                    words="Where metrics are served; off opens no port. It changes nothing, but tells guests' "
                    "names and sizes to all who reach it: beyond loopback, put a firewall before it. Port 0 takes "
                    "any that is free.",
                ),
            ),
        ),
        Section(
            name="control",
            words="What `balloonctl` talks to.",
            parts=(
                Key(
                    name="socket",
                    kind=kinds.SOCKET,
                    default="/run/balloond/control.sock",
                    words="Its path. Change it and state.directory to run a second daemon beside the first.",
                ),
            ),
        ),
        Section(
            name="state",
            words="What must outlive the daemon.",
            parts=(
                Key(
                    name="directory",
                    kind=kinds.DIRECTORY,
                    default="/run/balloond",
                    words="Where the daemon notes what is to be put back when it stops. Notes "
                    "of another boot are not followed.",
                ),
            ),
        ),
    ),
)


def keys(section: Section = FORM, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Every key with its path, in the order of the form: `host.pool`, `guests[].match.name`."""
    for part in section.parts:
        match part:
            case Key():
                yield prefix + part.name, part
            case Section():
                yield from keys(part, f"{prefix}{part.name}.")
            case Listing():
                yield from keys(part.of, f"{prefix}{part.name}[].")
            case _:
                assert_never(part)
