"""What does the file say, as YAML nodes that know their lines?

Values are composed and never constructed: no tag of any file can make an object. Anchors and aliases are
refused, each with its line; depth and size are bounded, so that no file can exhaust memory or the stack. Whatever
the file holds, the only exception is ConfigError.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml
from yaml.composer import Composer, ComposerError
from yaml.error import Mark
from yaml.events import AliasEvent, Event, NodeEvent
from yaml.nodes import Node, ScalarNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from balloond.config.problems import ConfigError, Problem, escape

LARGEST_FILE: Final = 256 * 1024
"""Bytes. A thousand rules with every key set are some 150,000, and take PyYAML seconds to read as it is."""

MOST_NODES: Final = 20_000
"""A thousand rules with every key set are some 17,000."""

DEEPEST: Final = 16
"""The form itself is four levels deep. The composer calls itself once a level."""

REFUSED: Final = "refused"
"""The tag of a node that was an alias: its fault is already told."""

WHOLE_FILE: Final = "(file)"
_LONGEST_COMPLAINT: Final = 200  # characters of the parser's words, which may quote whole tags


def text_of(path: Path) -> str:
    """The file's text. Raises ConfigError where it is missing, unreadable, too long or not UTF-8."""
    try:
        if path.exists() and not path.is_file():
            raise _broken(str(path), 1, "this is no regular file; name a YAML file")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        wanted = "name a file that exists and that balloond's user may read"
        raise _broken(str(path), 1, f"can't be read: {escape(reason)}; {wanted}") from None
    if len(content) > LARGEST_FILE:
        wanted = "use patterns to name many guests in one rule"
        raise _broken(str(path), 1, f"longer than {LARGEST_FILE} bytes; {wanted}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _broken(str(path), line, "not UTF-8; save the file in UTF-8") from None


def is_absent(path: Path) -> bool:
    """Whether there is surely no such file: one that may not be looked at is no reason to take the defaults."""
    try:
        path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def compose(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The root node, None for an empty file, and the faults that leave the rest readable.

    Raises ConfigError where the text is no YAML, or more of it than anybody would write.
    """
    try:
        composer = _Bounded(text, file)
        return composer.get_single_node(), composer.problems
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _broken(file, line, "holds a character that can't stand in YAML; remove it") from None
    except yaml.MarkedYAMLError as error:
        raise _broken(file, _line_of(error), _words_of(error)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The scanner hands impossible numbers in escapes and directives on to chr() and int().
        words = f"not YAML: {_shorten(str(error))}; look for a wrong escape or % directive"
        raise _broken(file, 1, words) from None


class _Bounded(Reader, Scanner, Parser, Composer, Resolver):
    """PyYAML's composer with YAML's usual types, without a constructor, and within bounds."""

    def __init__(self, text: str, file: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        Resolver.__init__(self)
        self.problems: list[Problem] = []
        self._file = file
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave the parser untyped
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise ComposerError(None, None, f"more than {MOST_NODES} values", _mark(event))
        if self._depth == DEEPEST:
            raise ComposerError(None, None, f"nested deeper than {DEEPEST} levels", _mark(event))
        if isinstance(event, AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]  # the stubs leave the parser untyped
            self._refuse(event, f"*{event.anchor} is an alias; write the value out")
            return ScalarNode(REFUSED, "", _mark(event), _mark(event))
        if isinstance(event, NodeEvent) and event.anchor is not None:
            self._refuse(
                event, f"&{event.anchor} is an anchor; remove it, `defaults` is for what rules share"
            )
            event.anchor = None
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def _refuse(self, event: NodeEvent, text: str) -> None:
        line = _mark(event).line + 1
        self.problems.append(Problem(file=self._file, line=line, path=WHOLE_FILE, text=escape(text)))


def _mark(event: Event) -> Mark:
    """Where an event stands. The pure parser gives every event one of these."""
    assert isinstance(event.start_mark, Mark)  # noqa: S101  (the stubs allow None and libyaml's marks too)
    return event.start_mark


def _broken(file: str, line: int, text: str) -> ConfigError:
    return ConfigError((Problem(file=file, line=line, path=WHOLE_FILE, text=text),))


def _line_of(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _words_of(error: yaml.MarkedYAMLError) -> str:
    said = _shorten(" ".join(part for part in (error.context, error.problem) if part))
    return (
        f"not YAML that can be used: {said}; look at the indentation, and quote text that holds : # * & ! %"
    )


def _shorten(text: str) -> str:
    return escape(text if len(text) <= _LONGEST_COMPLAINT else text[: _LONGEST_COMPLAINT - 1] + "…")
