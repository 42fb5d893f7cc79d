"""What does a comparison look like? One page of HTML that needs no network, no other file and no library.

What is shown is given as a Page; the page's own form stands in `page.html`, which draws with a little JavaScript
what it finds in `DATA`. Nothing here computes a figure. A page takes the place of a former one when it is whole.
"""

from __future__ import annotations

import errno
import html
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
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
    return form.replace(PLACE, data, 1).replace(
        "<title></title>", f"<title>{html.escape(page.title)}</title>", 1
    )


def check(path: Path) -> None:
    """Opens a file as `write` will, and leaves nothing: a run may take an hour, and that its page can't be written
    is to be told before it. Raises OSError."""
    if path.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not os.access(path, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    if _is_kept(path):
        fresh = _fresh(path)
        fresh.open("x").close()
        fresh.unlink()


def write(path: Path, text: str) -> None:
    """Puts the text into that file; the former one stays as it was until the new one is whole. Raises OSError."""
    if not _is_kept(path):
        path.write_text(text, encoding="utf-8")
        return
    fresh = _fresh(path)
    try:
        with fresh.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, fresh)
        fresh.replace(os.path.realpath(path))
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _is_kept(path: Path) -> bool:
    """Whether what is written there is a file, and not for a pipe or a device."""
    return path.is_file() or not path.exists()


def _fresh(path: Path) -> Path:
    """A name that nobody has, in the folder where the file really is."""
    return Path(os.path.realpath(path)).with_name(f".balloond-{secrets.token_hex(4)}.html")
