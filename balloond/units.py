"""How much is that in bytes, or in seconds?

Inside balloond memory is `int` bytes and time `float` seconds. Text from people carries a unit; numbers from
libvirt, meminfo and KSM are converted here, once, at the edge that read them. This module must never guess a
unit: `2048` is an error, not bytes.
"""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

LARGEST_MEMORY: Final = 4096 * TIB
"""The most that an x86-64 processor can address: 52 bits (AMD64 manual, volume 2, 5.1)."""

PAGE: Final = 4 * KIB  # x86-64's base page, and the balloon's unit in the virtio specification, 5.5

_SIZES: Final = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}
_TIMES: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z%]*)", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes in a size such as `2GiB` or `512 MiB`.

    Raises ValueError, whose text says what would be right, on a missing or unknown unit, and on more than
    LARGEST_MEMORY.
    """
    number, unit = _split(text, "a size with its unit, such as 2GiB or 512MiB")
    if unit not in _SIZES:
        wanted = f"{text}MiB or {text}GiB" if not unit else "one of B, KiB, MiB, GiB, TiB"
        raise ValueError(f"{text!r} has {f'unit {unit!r}' if unit else 'no unit'}; write {wanted}")
    if number * _SIZES[unit] > LARGEST_MEMORY:
        raise ValueError(
            f"{_brief(text)} is more than any machine has; {LARGEST_MEMORY // TIB}TiB are the most"
        )
    return int(number * _SIZES[unit])


def parse_share(text: str) -> float:
    """The ratio, 0 to 1, in a percentage such as `5%`. Raises ValueError otherwise."""
    number, unit = _split(text, "a percentage such as 5%")
    if unit != "%" or number > 100:
        raise ValueError(f"{text!r} is no percentage from 0% to 100%")
    return number / 100


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `2s`, `500ms` or `5min`. Raises ValueError otherwise."""
    number, unit = _split(text, "a duration such as 2s, 500ms or 5min")
    if unit not in _TIMES:
        wanted = f"{text}s" if not unit else "one of ms, s, min, h"
        raise ValueError(f"{text!r} has {f'unit {unit!r}' if unit else 'no unit'}; write {wanted}")
    return number * _TIMES[unit]


def format_size(size: float) -> str:
    """A size for people: three significant digits and a binary unit; negative sizes keep their sign."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(size) >= factor:
            return (
                f"{size / factor:.3g} {unit}" if abs(size) < 999.5 * factor else f"{size / factor:.0f} {unit}"
            )
    return f"{size:.0f} B"


def _split(text: str, wanted: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not {wanted}")
    number = float(match[1])
    if number == float("inf"):
        raise ValueError(f"{_brief(text)} is larger than anything; write {wanted}")
    return number, match[2]


def _brief(text: str) -> str:
    return repr(text) if len(text) <= 20 else f"{text[:20]!r}…"
