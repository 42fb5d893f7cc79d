"""What did the operator ask for, or everything that is wrong with it?

`load` gives the Config that a file means, or raises ConfigError with all faults at once, each with its line.
It reads by the table in `form`, and never guesses: what is not understood is a fault, not a default. No text,
however hostile, raises anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, assert_never

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from balloond.config.contradictions import Written, contradictions
from balloond.config.document import REFUSED, compose, is_absent, text_of
from balloond.config.form import FORM, MATCH, POLICY_NAMES, Key, Listing, Section
from balloond.config.problems import ConfigError, Problem, escape, quote
from balloond.config.settings import Config, GuestPolicy, GuestRule, HostPolicy, KsmPolicy

__all__ = ["Config", "ConfigError", "Problem", "load", "load_usual", "read"]

_TAG: Final = "tag:yaml.org,2002:"
_TYPES: Final = {
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "null": "empty",
    "map": "a mapping",
    "seq": "a list",
    "timestamp": "a date",
    "merge": "a merge key",
    "value": "a lone =",
}
_FIELDS: Final = {
    "mode": "mode",
    "interval": "interval_s",
    "libvirt.uri": "libvirt_uri",
    "metrics.listen": "metrics",
    "control.socket": "control_socket",
    "state.directory": "state_directory",
}
"""Keys outside `host`, `ksm`, `defaults` and `guests`, and the fields of Config that they set."""

_HOST_NAMES: Final = ("memory", "reserve", "pool")
_KSM_NAMES: Final = ("mode", "cpu", "restore")
_MATCH_NAMES: Final = tuple(part.name for part in MATCH.parts)


def load(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError with every fault in it."""
    return read(text_of(path), str(path))


def load_usual(path: Path) -> Config:
    """The configuration in the usual file, or the defaults where there surely is none. Raises ConfigError."""
    return Config() if is_absent(path) else load(path)


def read(text: str, file: str) -> Config:
    """The configuration in a text that came from `file`. Raises ConfigError with every fault in it."""
    root, problems = compose(text, file)
    found = _Found(file=file, problems=problems)
    if root is not None:
        found.section(root, FORM, "")
    config = _config(found)
    for path, words in contradictions(config, Written(present=found.values.keys(), broken=found.broken)):
        found.fault(found.lines[path], path, words)
    if found.problems:
        raise ConfigError(tuple(sorted(found.problems, key=lambda problem: problem.line)))
    return config


@dataclass(slots=True, kw_only=True)
class _Found:
    """What was found on the way through the file. Paths are whole: `guests[0].match.name`."""

    file: str
    problems: list[Problem]
    values: dict[str, Any] = field(
        default_factory=dict
    )  # of sound keys; Any: each Kind gives its field's type
    lines: dict[str, int] = field(default_factory=dict)  # of all that the file has
    broken: set[str] = field(default_factory=set)
    lengths: dict[str, int] = field(default_factory=dict)  # of lists

    def fault(self, line: int, path: str, text: str) -> None:
        self.broken.add(path)
        self.problems.append(Problem(file=self.file, line=line, path=path or "(file)", text=text))

    def section(self, node: Node, form: Section, path: str) -> None:
        """Reads a mapping. An empty one is as good as none, as when all its keys are commented out."""
        line = self.lines.setdefault(path, _line(node))
        if node.tag == REFUSED:
            self.broken.add(path)
        elif isinstance(node, MappingNode) and node.tag == _TAG + "map":
            parts = {part.name: part for part in form.parts}
            given = self._given(node, parts, path)
            for name, value in given.items():
                self._part(value, parts[name], _join(path, name))
            for part in form.required:
                if part.name not in given:
                    self.fault(line, _join(path, part.name), f"is missing; {_wanted(part)}")
            if form.at_least_one and not node.value:
                self.fault(line, path, f"is empty; {_wanted(form)}")
        elif _type(node) != "null" or form.at_least_one or form.required:
            self.fault(line, path, f"is {_name_of_type(node)}; {_wanted(form)}")

    def _given(self, node: MappingNode, parts: Iterable[str], path: str) -> dict[str, Node]:
        """The known keys of a mapping with their values; the first of each that stands twice."""
        given: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else ""
            if key.tag == REFUSED:
                continue
            if name not in parts or key.tag != _TAG + "str":
                self.fault(_line(key), path, _unknown(key, parts))
            elif name in given:
                first = self.lines[_join(path, name)]
                self.fault(_line(key), _join(path, name), f"stands twice, first in line {first}; remove one")
            else:
                given[name] = value
                self.lines[_join(path, name)] = _line(key)
        return given

    def _part(self, node: Node, part: Key | Section | Listing, path: str) -> None:
        match part:
            case Key():
                self._key(node, part, path)
            case Section():
                self.section(node, part, path)
            case Listing():
                self._listing(node, part, path)
            case _:
                assert_never(part)

    def _listing(self, node: Node, form: Listing, path: str) -> None:
        if node.tag == REFUSED or _type(node) == "null":
            return
        if not isinstance(node, SequenceNode) or node.tag != _TAG + "seq":
            wanted = "write a list, each entry beginning with `- match:`"
            self.fault(self.lines[path], path, f"is {_name_of_type(node)}; {wanted}")
        elif len(node.value) > form.most:
            wanted = f"write at most {form.most}, with patterns that fit many guests"
            self.fault(self.lines[path], path, f"has {len(node.value)} entries; {wanted}")
        else:
            self.lengths[path] = len(node.value)
            for index, entry in enumerate(node.value):
                self.section(entry, form.of, f"{path}[{index}]")

    def _key(self, node: Node, key: Key, path: str) -> None:
        self.lines[path] = _line(node)
        kind = key.kind
        if node.tag == REFUSED:
            self.broken.add(path)
        elif _type(node) == "null" and kind.nullable:
            self.values[path] = None
        elif not isinstance(node, ScalarNode) or _type(node) not in kind.takes:
            shown = f" ({quote(node.value)})" if isinstance(node, ScalarNode) and node.value else ""
            self.fault(_line(node), path, f"is {_name_of_type(node)}{shown}; {kind.right}")
        else:
            try:
                self.values[path] = kind.parse(node.value)
            except ValueError as error:
                self.fault(_line(node), path, _with_remedy(str(error), kind.right))


def _config(found: _Found) -> Config:
    """The Config of the keys that are sound; the others keep their defaults."""
    values = found.values
    defaults = replace(GuestPolicy(), **_under(values, "defaults", POLICY_NAMES))
    return replace(
        Config(),
        **{name: values[path] for path, name in _FIELDS.items() if path in values},
        host=replace(HostPolicy(), **_under(values, "host", _HOST_NAMES)),
        ksm=replace(KsmPolicy(), **_under(values, "ksm", _KSM_NAMES)),
        defaults=defaults,
        guests=tuple(
            GuestRule(
                policy=replace(defaults, **_under(values, f"guests[{index}]", POLICY_NAMES)),
                **_under(values, f"guests[{index}].match", _MATCH_NAMES),
            )
            for index in range(found.lengths.get("guests", 0))
        ),
    )


def _under(values: dict[str, Any], path: str, names: Iterable[str]) -> dict[str, Any]:
    return {name: values[f"{path}.{name}"] for name in names if f"{path}.{name}" in values}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _type(node: Node) -> str:
    return str(node.tag).removeprefix(_TAG)


def _name_of_type(node: Node) -> str:
    if node.tag.startswith(_TAG) and _type(node) in _TYPES:
        return _TYPES[_type(node)]
    return f"tagged {quote(node.tag)}"


def _with_remedy(error: str, right: str) -> str:
    """`units` often knows the remedy itself, and better: 2048 wants to be 2048MiB."""
    return error if "; write " in error else f"{error}; {right}"


def _wanted(form: Section) -> str:
    if form is MATCH:
        return 'write at least one of name, uuid and title, such as match: {name: "db-*"}'
    return f"write keys and values: {', '.join(part.name for part in form.parts)}"


def _unknown(key: Node, known: Iterable[str]) -> str:
    if not isinstance(key, ScalarNode):
        return f"has {_name_of_type(key)} for a key; write one of {', '.join(known)}"
    if _type(key) == "merge":
        return "merges another mapping with <<; write its keys out, or put them into `defaults`"
    # Imported here since a good configuration has no use for it.
    import difflib

    near = difflib.get_close_matches(key.value[:40].lower(), list(known), n=1, cutoff=0.6)
    wanted = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"has no key {quote(escape(key.value))}; {wanted}"
