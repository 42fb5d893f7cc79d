"""What does a comparison look like? One page of HTML that needs no network, no other file and no library.

What is shown is given as a Page; the page's own form stands in `page.html`, which draws with a little JavaScript
what it finds in `DATA`. Nothing here computes a figure.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Final

PLACE: Final = "/*DATA*/null"
"""Where the data goes in the page's form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Memory by guest over time: stacked areas under the host's limit. Sizes in MiB, one row a point."""

    label: str
    names: tuple[str, ...]
    every_s: float
    total: int
    actual: Sequence[Sequence[int]]
    demand: int  # which of the page's demands goes with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One policy's underprovision by overcommitment."""

    policy: str
    points: tuple[tuple[float, float], ...]
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Curves that belong together: those of one ramp."""

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    title: str
    subtitle: str
    panels: tuple[Panel, ...]
    pictures: tuple[Picture, ...]
    demands: tuple[Sequence[Sequence[int]], ...]  # MiB that guests wanted [point][guest]; pictures share them
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def render(page: Page) -> str:
    """The page as HTML."""
    form = (resources.files("balloond.sim") / "page.html").read_text(encoding="utf-8")
    data = json.dumps(asdict(page), separators=(",", ":"), sort_keys=True)
    for mark in "<>&":  # names come from outside: none may end the script that holds them
        data = data.replace(mark, f"\\u{ord(mark):04x}")
    return form.replace("<title></title>", f"<title>{html.escape(page.title)}</title>").replace(PLACE, data)
