"""Which host, which guests, what do they want and what goes wrong? Read from a YAML file.

`load` gives the world that a file describes, or raises ConfigError with every fault in it, each with its line. The
form is that of the files in `scenarios`, which are its documentation. `config` in it is balloond's own
configuration, read by the very reader that the daemon uses.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from balloond.config.document import WHOLE_FILE, compose, text_of
from balloond.config.problems import ConfigError, Problem, quote
from balloond.config.read import read as read_config
from balloond.config.settings import Config
from balloond.sim.arguments import MOST_DAYS, MOST_DIGITS
from balloond.sim.faults import KINDS, LIES, Lasting, OfGuest
from balloond.sim.guest import Balloon, SimGuest, Voice
from balloond.sim.play import ScenarioWorld
from balloond.sim.workload import Path as Demand
from balloond.sim.workload import steady
from balloond.sim.world import Merging, SimHost, SimWorld
from balloond.units import GIB, MIB, parse_duration, parse_share, parse_size

__all__ = ["ConfigError", "ScenarioWorld", "load", "named", "names", "read"]

T = TypeVar("T")

MOST_GUESTS: Final = 1000
MOST_FAULTS: Final = 10_000
MOST_DURATION_S: Final = MOST_DAYS * 86_400.0
LEAST_STEP_S: Final = 0.1


def load(path: Path, *, config: Config | None = None) -> ScenarioWorld:
    """The world that a file describes, as `read`. Raises ConfigError with every fault in it."""
    return read(text_of(path), str(path), config=config)


def names() -> tuple[str, ...]:
    """The scenarios that come with balloond."""
    folder = resources.files("balloond.sim") / "scenarios"
    return tuple(
        sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    )


def file_of(name: str) -> Path:
    """Where that one of `names` is."""
    return Path(str(resources.files("balloond.sim") / "scenarios" / f"{name}.yaml"))


def named(name: str, *, config: Config | None = None) -> ScenarioWorld:
    """One of `names`, as `read`. Raises FileNotFoundError."""
    return read(file_of(name).read_text(encoding="utf-8"), f"{name}.yaml", config=config)


def read(text: str, file: str, *, config: Config | None = None) -> ScenarioWorld:
    """The world that a text describes. `config` stands in for its own, and that one's interval for its step.
    Raises ConfigError with every fault in it."""
    root, problems = compose(text, file)
    reader = _Reader(file=file, text=text, problems=problems)
    made = _scenario(reader, root, config)
    if reader.problems:
        raise ConfigError(tuple(sorted(reader.problems, key=lambda problem: problem.line)))
    return made


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Turns nodes into values; what can't be turned is a problem, and a default stands in for it."""

    file: str
    text: str
    problems: list[Problem]

    def blame(self, node: Node | None, path: str, words: str) -> None:
        line = node.start_mark.line + 1 if node is not None else 1
        self.problems.append(
            Problem(file=self.file, line=line, path=path.rstrip(".") or WHOLE_FILE, text=words)
        )

    def mapping(self, node: Node | None, path: str, keys: Iterable[str]) -> _Mapping:
        """The entries of a mapping; none where it is none. `keys` are all that it may have."""
        found: dict[str, Node] = {}
        known = tuple(keys)
        if not isinstance(node, MappingNode):
            self.blame(node, path, f"must be a mapping with the keys {', '.join(known)}")
            return _Mapping(reader=self, node=node, path=path, entries=found)
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else "?"
            if name not in known:
                self.blame(key, path, f"has no key {quote(name)}; there are {', '.join(known)}")
            elif name in found:
                self.blame(key, f"{path}{name}", "stands twice; remove one")
            else:
                found[name] = value
        return _Mapping(reader=self, node=node, path=path, entries=found)

    def sequence(self, node: Node | None, path: str) -> list[Node]:
        if isinstance(node, SequenceNode):
            return list(node.value)
        if node is not None:
            self.blame(node, path, "must be a list, each entry beginning with `- `")
        return []

    def most(self, made: Iterable[T], most: int, top: _Mapping, key: str) -> list[T]:
        """No more than `most` of what is made."""
        kept = list(islice(made, most + 1))
        if len(kept) > most:
            self.blame(top.entries.get(key), key, f"are more than {most}, which are the most; write fewer")
        return kept[:most]

    def scalar(self, node: Node, path: str, parse: Callable[[str], T], default: T) -> T:
        if not isinstance(node, ScalarNode):
            self.blame(node, path, "must be a single value")
            return default
        try:
            return parse(node.value)
        except ValueError as error:
            self.blame(node, path, str(error))
            return default


@dataclass(slots=True, kw_only=True)
class _Mapping:
    """A mapping's entries, to be asked for by name."""

    reader: _Reader
    node: Node | None
    path: str
    entries: dict[str, Node]

    def get(self, key: str, parse: Callable[[str], T], default: T) -> T:
        if key not in self.entries:
            return default
        return self.reader.scalar(self.entries[key], f"{self.path}{key}", parse, default)

    def need(self, key: str, parse: Callable[[str], T], stand_in: T, example: str) -> T:
        """Like `get`, of a key that must be there."""
        if key not in self.entries:
            self.reader.blame(self.node, f"{self.path}{key}", f"is missing; write {key}: {example}")
        return self.get(key, parse, stand_in)


def _scenario(reader: _Reader, root: Node | None, tried: Config | None) -> ScenarioWorld:
    top = reader.mapping(
        root, "", ("title", "duration", "step", "steady-from", "host", "guests", "faults", "config")
    )
    config = _config(reader, top.entries.get("config"))
    host = _host(reader, top)
    described = (
        guest
        for index, node in enumerate(reader.sequence(top.entries.get("guests"), "guests"))
        for guest in _guests(reader, node, f"guests[{index}].")
    )
    guests = reader.most(described, MOST_GUESTS, top, "guests")
    if not guests and not reader.problems:
        reader.blame(root, "guests", "is missing; write a list of guests, each with name and memory")
    for guest in sorted(name for name, count in Counter(g.name for g in guests).items() if count > 1):
        reader.blame(top.entries.get("guests"), "guests", f"two guests are named {quote(guest)}")
    for index, guest_ in enumerate(guests):
        guest_.uuid = f"00000000-0000-0000-0000-{index:012}"
    faulted = (
        fault
        for index, node in enumerate(reader.sequence(top.entries.get("faults"), "faults"))
        for fault in _faults(reader, node, f"faults[{index}].", guests)
    )
    troubles = reader.most(faulted, MOST_FAULTS, top, "faults")
    duration_s = top.need("duration", _duration_from(LEAST_STEP_S), 1.0, "30min")
    step_s = top.get("step", _duration_from(LEAST_STEP_S), config.interval_s)
    if tried is not None:
        config, step_s = tried, tried.interval_s
    if duration_s < step_s and not reader.problems:
        reader.blame(
            top.entries["duration"], "duration",
            f"is less than one step of {step_s:g} s; write at least {step_s:g}s, or a smaller step",
        )  # fmt: skip
    return ScenarioWorld(
        name=Path(reader.file).stem,
        title=top.get("title", str, ""),
        world=SimWorld(host=host, guests=guests, troubles=[*troubles]),
        config=config,
        duration_s=duration_s,
        step_s=step_s,
        steady_from_s=top.get("steady-from", _parse_time, float("inf")),
    )


def _config(reader: _Reader, node: Node | None) -> Config:
    """balloond's own configuration: the part of the text that holds it, in its place, so that lines are right."""
    if node is None:
        return Config()
    start, end = node.start_mark, node.end_mark
    part = reader.text[start.index : end.index]
    try:
        return read_config("\n" * start.line + " " * start.column + part, reader.file)
    except ConfigError as error:
        reader.problems.extend(
            Problem(
                file=p.file,
                line=p.line,
                path="config" if p.path == WHOLE_FILE else f"config.{p.path}",
                text=p.text,
            )
            for p in error.problems
        )
        return Config()


def _host(reader: _Reader, top: _Mapping) -> SimHost:
    if "host" not in top.entries:
        reader.blame(top.node, "host", "is missing; write host: {memory: 16GiB}")
        return SimHost(total=GIB)
    host = reader.mapping(
        top.entries["host"], "host.", ("memory", "own", "swap", "swap-speed", "merging", "psi")
    )
    merging = Merging()
    if "merging" in host.entries:
        found = reader.mapping(host.entries["merging"], "host.merging.", ("share", "speed"))
        merging = Merging(
            share=found.need("share", parse_share, 0.0, "20%"), speed=found.get("speed", parse_size, 20 * MIB)
        )
    own = _demand(reader, host, "own", cache=0.0)
    return SimHost(
        total=host.need("memory", _positive_size, GIB, "16GiB"),
        own=own.size,
        swap=host.get("swap", parse_size, 0),
        swap_speed=host.get("swap-speed", parse_size, GIB // 2),
        merging=merging,
        has_psi=host.get("psi", _parse_truth, True),
    )


_GUEST_KEYS: Final = (
    *("name", "count", "memory", "has", "demand", "shape", "cache", "kernel", "swap", "qemu"),
    *("autodeflate", "reports-free-pages", "statistics", "balloon-speed"),
)


def _guests(reader: _Reader, node: Node, path: str) -> Iterator[SimGuest]:
    """The guests of one entry: `count` alike, named with a number after them."""
    entry = reader.mapping(node, path, _GUEST_KEYS)
    name = entry.need("name", _parse_name, "?", "web")
    memory = entry.need("memory", _positive_size, GIB, "4GiB")
    count = entry.get("count", _whole(1, MOST_GUESTS), 0)
    workload = _demand(reader, entry, "demand", cache=float(entry.get("cache", parse_size, 0)))
    has = entry.get("has", _positive_size, memory)
    if has > memory:
        reader.blame(entry.entries["has"], f"{path}has", "is more than the guest's memory")
    for number in range(max(1, count)):
        yield SimGuest(
            uuid="",
            name=f"{name}-{number + 1}" if count else name,
            maximum=memory,
            actual=float(has),
            workload=workload,
            kernel=entry.get("kernel", parse_size, 0),
            swap=entry.get("swap", parse_size, 0),
            qemu=entry.get("qemu", parse_size, 0),
            autodeflate=entry.get("autodeflate", _parse_truth, False),
            reports_free_pages=entry.get("reports-free-pages", _parse_truth, False),
            balloon=Balloon(speed=float(entry.get("balloon-speed", _positive_size, GIB))),
            voice=Voice(period_s=entry.get("statistics", _duration_from(LEAST_STEP_S), 1.0)),
        )


def _demand(reader: _Reader, entry: _Mapping, key: str, *, cache: float) -> Demand:
    """A size, or a list of `[time, size]`, joined by lines or, with `shape: steps`, by steps."""
    node = entry.entries.get(key)
    path = f"{entry.path}{key}"
    steps = entry.get("shape", _parse_shape, False)
    if node is None:
        return steady(0.0, cache=cache)
    if isinstance(node, ScalarNode):
        return steady(float(reader.scalar(node, path, parse_size, 0)), cache=cache)
    points: list[tuple[float, float]] = []
    for index, pair in enumerate(reader.sequence(node, path)):
        here = f"{path}[{index}]"
        if not isinstance(pair, SequenceNode) or len(pair.value) != 2:
            reader.blame(pair, here, "must be a pair such as [5min, 2GiB]")
            continue
        at_s = reader.scalar(pair.value[0], here, _parse_time, 0.0)
        if points and at_s < points[-1][0]:
            reader.blame(pair, here, "is earlier than the point before it")
            continue
        points.append((at_s, float(reader.scalar(pair.value[1], here, parse_size, 0))))
    if not points:
        points.append((0.0, 0.0))
    return Demand(points, cache=cache, steps=steps)


# --- faults ----------------------------------------------------------------------------------------------


def _faults(reader: _Reader, node: Node, path: str, guests: list[SimGuest]) -> Iterator[Lasting]:
    """The faults of one entry: one for each guest that its pattern fits."""
    kind_of = reader.mapping(node, path, ("fault", "guest", "from", "until", *_FIELDS))
    kind = kind_of.need("fault", _parse_kind, None, "silence")
    if kind is None:
        return
    values: dict[str, Any] = {  # Any: each field of a fault has its own type
        "from_s": kind_of.get("from", _parse_time, 0.0),
        "until_s": kind_of.get("until", _parse_time, float("inf")),
    }
    if values["until_s"] <= values["from_s"]:
        reader.blame(kind_of.entries.get("until"), f"{path}until", "must be later than from")
    own = {each.name: each.default is MISSING for each in fields(kind)}
    for key, (name, parse, stand_in, example) in _FIELDS.items():
        if name not in own and key in kind_of.entries:
            reader.blame(kind_of.entries[key], f"{path}{key}", f"means nothing to {quote(_name_of(kind))}")
        elif key in kind_of.entries or own.get(name):
            values[name] = kind_of.need(key, parse, stand_in, example)
    if not issubclass(kind, OfGuest):
        if "guest" in kind_of.entries:
            reader.blame(kind_of.entries["guest"], f"{path}guest", "this fault concerns the host, no guest")
        yield kind(**values)
        return
    pattern = kind_of.need("guest", str, "", '"web-*"')
    fitting = [guest.name for guest in guests if fnmatch.fnmatchcase(guest.name, pattern)]
    if not fitting and pattern:
        reader.blame(kind_of.entries["guest"], f"{path}guest", f"{quote(pattern)} fits no guest")
    for guest in fitting:
        yield kind(guest=guest, **values)


def _name_of(kind: type[Lasting]) -> str:
    return next(name for name, known in KINDS.items() if known is kind)


# --- values ----------------------------------------------------------------------------------------------


def _parse_kind(text: str) -> type[Lasting] | None:
    if text not in KINDS:
        raise ValueError(f"there is no fault {quote(text)}; there are {', '.join(KINDS)}")
    return KINDS[text]


def _parse_story(text: str) -> str:
    if text not in LIES:
        raise ValueError(f"there is no lie {quote(text)}; there are {', '.join(LIES)}")
    return text


def _parse_signed_duration(text: str) -> float:
    return -_parse_time(text[1:]) if text.startswith("-") else _parse_time(text)


def _duration_from(least_s: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not least_s <= seconds <= MOST_DURATION_S:
            raise ValueError(f"{quote(text)} is not between {least_s:g}s and {MOST_DURATION_S / 3600:g}h")
        return seconds

    return parse


_parse_time: Final = _duration_from(0.0)


def _positive_size(text: str) -> int:
    size = parse_size(text)
    if not size:
        raise ValueError(f"{quote(text)} is no memory at all")
    return size


def _parse_name(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"{quote(text)} is no name")
    return text


def _parse_truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{quote(text)} is neither true nor false")
    return text == "true"


def _parse_shape(text: str) -> bool:
    if text not in ("lines", "steps"):
        raise ValueError(f"{quote(text)} is no shape; write lines or steps")
    return text == "steps"


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if (
            not text.isascii()
            or not text.isdigit()
            or len(text) > MOST_DIGITS
            or not least <= int(text) <= most
        ):
            raise ValueError(f"{quote(text)} is no whole number from {least} to {most}")
        return int(text)

    return parse


_FIELDS: Final[dict[str, tuple[str, Callable[[str], Any], Any, str]]] = {  # Any: each field has its own type
    "story": ("story", _parse_story, "hungry", "hungry"),
    "delay": ("delay_s", _parse_time, 0.0, "10s"),
    "speed": ("speed", _positive_size, MIB, "5MiB"),
    "share": ("share", parse_share, 0.0, "50%"),
    "after": ("after", _whole(0, 10_000), 0, "2"),
    "by": ("by_s", _parse_signed_duration, 0.0, "-60s"),
}
"""The keys that some faults have beside time and guest: the field, its parser, a stand-in, an example."""
