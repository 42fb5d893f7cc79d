"""What may stand as a value in the configuration, and what does it mean?

Each Kind knows how to read its text, how to say what would have been right, and how an editor can check it
(the JSON Schema). A Kind never looks at another key, at a file or at the machine: whether values fit together
is asked in `contradictions`.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from balloond.config.problems import quote
from balloond.config.settings import SMALLEST_GUEST, Amount, KsmMode, Listen, Mode
from balloond.units import format_size, parse_duration, parse_share, parse_size

SHORTEST_INTERVAL_S: Final = 0.5
"""libvirt announces balloon changes at most once a second, so that looking more often shows nothing new."""

LONGEST_INTERVAL_S: Final = 60.0
"""Statistics 30 s old more than doubled the prototype's underprovision over the Bitbrains trace (0.28 to
0.65 GiB s a machine-day); with more than a minute between looks nothing can be promised."""

MOST_SHARES: Final = 1_000_000
"""A thousand times the default either way says 'all of it' or 'nothing' clearly enough."""

LEAST_CPU: Final = 0.01
"""Of one processor: the kernel's advisor counts in whole percent. Less is `mode: off`."""

LONGEST_SOCKET_PATH: Final = 107
"""Bytes that fit into sun_path with its final zero, unix(7)."""

_LONGEST_NUMBER: Final = 40  # characters; keeps a quantity within a float, so that nothing overflows
_LONGEST_PATTERN: Final = 256  # characters; libvirt's names end as file names, of 255 bytes at most
_LONGEST_PATH: Final = 4095  # bytes: PATH_MAX without its final zero, limits.h

_NUMBER: Final = r"[0-9]+(\.[0-9]+)?\s*"
_SIZE: Final = _NUMBER + "(B|KiB|MiB|GiB|TiB)"
_PERCENTAGE: Final = _NUMBER + "%"
_TRUTH: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of value. `parse` takes the text as written and raises ValueError, saying what is wrong."""

    words: str  # what it is, for the documentation
    right: str  # what would have been right
    parse: Callable[[str], object]
    schema: Schema
    takes: frozenset[str] = frozenset(
        {"str"}
    )  # the YAML types worth parsing; of others the type is the fault
    nullable: bool = False  # null stands for None, a value of its own


def size(*, least: int, nullable: bool = False) -> Kind:
    """Memory in bytes, from `least` up."""

    def parse(text: str) -> int:
        return _bounded_size(parse_size(_number(text)), least)

    return Kind(
        words="a size",
        right="write a size with its unit, such as 64GiB",
        parse=parse,
        schema={"type": "string", "pattern": f"^{_SIZE}$"},
        takes=frozenset({"str", "int", "float"}),  # a bare number gets told that it lacks a unit
        nullable=nullable,
    )


def amount(*, least: int, example: str, nullable: bool = False) -> Kind:
    """A size from `least` up, or a share of something: more than 0 %, at most 100 %."""

    def parse(text: str) -> Amount:
        if not _number(text).rstrip().endswith("%"):
            return Amount(size=_bounded_size(parse_size(text), least))
        share = parse_share(text)
        if share == 0:
            raise ValueError(f"{quote(text)} is nothing")
        return Amount(share=share)

    return Kind(
        words="a size or a percentage",
        right=f"write a size or a percentage, such as {example}",
        parse=parse,
        schema={"type": "string", "pattern": f"^({_SIZE}|{_PERCENTAGE})$"},
        takes=frozenset({"str", "int", "float"}),
        nullable=nullable,
    )


def duration(*, least_s: float, most_s: float) -> Kind:
    """Seconds, from `least_s` to `most_s`."""

    def parse(text: str) -> float:
        seconds = parse_duration(_number(text))
        if not least_s <= seconds <= most_s:
            raise ValueError(f"{quote(text)} is not between {least_s:g}s and {most_s:g}s")
        return seconds

    return Kind(
        words="a duration",
        right=f"write a duration from {least_s:g}s to {most_s:g}s, such as 2s",
        parse=parse,
        schema={"type": "string", "pattern": f"^{_NUMBER}(ms|s|min|h)$"},
        takes=frozenset({"str", "int", "float"}),
    )


def count(*, least: int, most: int) -> Kind:
    """A whole number from `least` to `most`, in decimal: 0100 and 0x64 mean other things elsewhere."""

    def parse(text: str) -> int:
        if re.fullmatch(r"[+-]?(0|[1-9][0-9]*)", _number(text)) is None:
            raise ValueError(f"{quote(text)} is no whole number in decimal")
        if not least <= int(text) <= most:
            raise ValueError(f"{quote(text)} is not between {least} and {most}")
        return int(text)

    return Kind(
        words="a whole number",
        right=f"write a whole number from {least} to {most}, such as 1000",
        parse=parse,
        schema={"type": "integer", "minimum": least, "maximum": most},
        takes=frozenset({"int", "float"}),
    )


def _parse_mode(text: str) -> Mode:
    if text not in {mode.value for mode in Mode}:
        raise ValueError(f"{quote(text)} is no mode")
    return Mode(text)


def _parse_ksm_mode(text: str) -> KsmMode:
    """YAML 1.1 reads a bare `off` as false, and it is meant all the same."""
    if text.lower() in {"off", "no", "false"}:
        return KsmMode.OFF
    if text not in {mode.value for mode in KsmMode}:
        raise ValueError(f"{quote(text)} is no way to treat merging")
    return KsmMode(text)


def _parse_cpu(text: str) -> float:
    share = parse_share(_number(text))
    if share < LEAST_CPU:
        raise ValueError(f"{quote(text)} is less than {LEAST_CPU:.0%}")
    return share


def _parse_truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f"{quote(text)} is neither true nor false")
    return _TRUTH[text.lower()]


def _parse_uri(text: str) -> str:
    """Other hosts are refused: memory is read from this kernel, so the guests must be this kernel's."""
    remote = re.match(r"[a-z+]+://[^/]", text)
    if remote or re.match(r"[a-z]+\+(ssh|tls|tcp|libssh2?|ext)\b", text):
        raise ValueError(f"{quote(text)} leads to another host than the one balloond runs on")
    if not text.isprintable() or re.fullmatch(r"(qemu(\+unix)?|test):///\S+", text) is None:
        raise ValueError(f"{quote(text)} is no libvirt URI of local QEMU guests")
    return text


def _parse_listen(text: str) -> Listen | None:
    if text.lower() in {"off", "no", "false"}:
        return None
    match = re.fullmatch(r"(\[(?P<six>[^\]\s]*)\]|(?P<four>[^:\s]*)):(?P<port>[0-9]{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{quote(text)} is no address and port")
    address = match["four"] if match["six"] is None else match["six"]
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        # A name may resolve to nothing at boot, or to something else tomorrow.
        raise ValueError(f"{quote(address)} is no numeric IP address") from None
    if version != (4 if match["six"] is None else 6):
        raise ValueError(f"{quote(text)} has brackets around an IPv4 address")
    return Listen(host=address, port=int(match["port"]))


def _parse_pattern(text: str) -> str:
    """A shell glob. fnmatch takes a lone [ for itself and an empty range for nothing; nobody means either."""
    if not text:
        raise ValueError("'' fits no guest")
    if len(text) > _LONGEST_PATTERN or not text.isprintable():
        raise ValueError(f"{quote(text)} can't fit any guest: it is too long or holds unprintable characters")
    rest = re.sub(r"\[!?\]?[^\]]*\]", "", text)
    if "[" in rest:
        raise ValueError(f"{quote(text)} has a [ without its ]")
    if "(?!)" in fnmatch.translate(text):
        raise ValueError(f"{quote(text)} has a range that holds nothing")
    return text


def _parse_uuid(text: str) -> str:
    """A UUID or a glob over UUIDs, in small letters, which is how libvirt spells them."""
    pattern = _parse_pattern(text).lower()
    if any(wild in pattern for wild in "*?["):
        if re.fullmatch(r"[0-9a-f*?\[\]!-]+", pattern) is None:
            raise ValueError(f"{quote(text)} holds characters that no UUID has")
    elif _UUID.fullmatch(pattern) is None:
        raise ValueError(f"{quote(text)} is no UUID")
    return pattern


def _parse_path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable() or ".." in text.split("/"):
        raise ValueError(f"{quote(text)} is no absolute path")
    if text.endswith("/") or len(text.encode()) > _LONGEST_PATH:
        raise ValueError(f"{quote(text)} ends in / or is too long")
    return text


def _parse_socket(text: str) -> str:
    if len(_parse_path(text).encode()) > LONGEST_SOCKET_PATH:
        raise ValueError(f"{quote(text)} is longer than a socket's path can be")
    return text


MODE: Final = Kind(
    words="`active` or `observe`",
    right="write active or observe",
    parse=_parse_mode,
    schema={"enum": [mode.value for mode in Mode]},
)
KSM_MODE: Final = Kind(
    words="`leave`, `steer` or `off`",
    right="write leave, steer or off",
    parse=_parse_ksm_mode,
    schema={"enum": [*(mode.value for mode in KsmMode), False]},
    takes=frozenset({"str", "bool"}),
)
CPU: Final = Kind(
    words="a percentage",
    right="write a percentage of one processor from 1% to 100%, such as 70%",
    parse=_parse_cpu,
    schema={"type": "string", "pattern": f"^{_PERCENTAGE}$"},
    takes=frozenset({"str", "int", "float"}),
)
TRUTH: Final = Kind(
    words="`true` or `false`",
    right="write true or false",
    parse=_parse_truth,
    schema={"type": "boolean"},
    takes=frozenset({"bool"}),
)
URI: Final = Kind(
    words="a libvirt URI",
    right='write "qemu:///system"',
    parse=_parse_uri,
    schema={"type": "string", "pattern": r"^(qemu(\+unix)?|test):///\S+$"},
)
LISTEN: Final = Kind(
    words="`address:port`, or `off`",
    right='write an address and a port such as "127.0.0.1:9710" or "[::1]:9710", or off',
    parse=_parse_listen,
    schema={
        "anyOf": [
            {"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.%a-z]+\]|[0-9]+(\.[0-9]+){3}):[0-9]{1,5}$"},
            {"enum": ["off", False]},  # YAML 1.1 reads a bare `off` as false, YAML 1.2 as text
        ]
    },
    takes=frozenset({"str", "bool"}),
    nullable=True,
)
PATTERN: Final = Kind(
    words="a shell glob",
    right='write a shell glob such as "db-*", in quotes',
    parse=_parse_pattern,
    schema={"type": "string", "minLength": 1, "maxLength": _LONGEST_PATTERN},
)
UUID: Final = Kind(
    words="a UUID, or a shell glob",
    right='write a whole UUID, in quotes, or a shell glob such as "c7a5fdbd-*"',
    parse=_parse_uuid,
    schema={"type": "string", "pattern": r"^[0-9A-Fa-f*?\[\]!-]+$"},
)
SOCKET: Final = Kind(
    words="an absolute path",
    right=f"write an absolute path of at most {LONGEST_SOCKET_PATH} bytes, without .., such as /run/a.sock",
    parse=_parse_socket,
    schema={"type": "string", "pattern": "^/.*[^/]$", "maxLength": LONGEST_SOCKET_PATH},
)
DIRECTORY: Final = Kind(
    words="an absolute path",
    right="write an absolute path without .. and without a / at its end, such as /run/balloond",
    parse=_parse_path,
    schema={"type": "string", "pattern": "^/.*[^/]$"},
)
INTERVAL: Final = duration(least_s=SHORTEST_INTERVAL_S, most_s=LONGEST_INTERVAL_S)
SHARES: Final = count(least=1, most=MOST_SHARES)
MEMORY: Final = size(least=SMALLEST_GUEST, nullable=True)
RESERVE: Final = amount(least=1, example="1GiB or 2%")
POOL: Final = amount(least=1, example="5%")
MINIMUM: Final = amount(least=SMALLEST_GUEST, example="4GiB or 25%")
MAXIMUM: Final = amount(least=SMALLEST_GUEST, example="16GiB or 75%", nullable=True)


def _number(text: str) -> str:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"{quote(text)} is no number that anybody would write")
    return text


def _bounded_size(size: int, least: int) -> int:
    if size == 0:
        raise ValueError("a size of 0 is nothing")
    if size < least:
        raise ValueError(f"{format_size(size)} is less than {format_size(least)}, the least for any guest")
    return size
