"""How do editors and readers see the form?

Made from the table in `form`, and from nothing else: the JSON Schema that an editor checks the file with
(`etc/balloond.schema.json`), and the table of keys in the documentation. Tests prove that what is committed
is what this makes. The schema knows single values alone; what fits together, `balloonctl check` says.

    python -m balloond.config.schema >etc/balloond.schema.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, assert_never

from balloond.config.form import FORM, Key, Listing, Section

DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""The newest that yaml-language-server checks in full."""


def schema() -> dict[str, Any]:
    """The JSON Schema of the configuration."""
    return {"$schema": DIALECT, "title": "balloond", **_section(FORM)}


def text() -> str:
    """The JSON Schema as it is committed."""
    return json.dumps(schema(), indent=2) + "\n"


def table() -> str:
    """The keys as a table in Markdown: path, value, default, words."""
    rows = ["| key | value | default | what it is, why to change it |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{path}` | {value} | {default} | {words} |" for path, value, default, words in _rows(FORM, "")
    ]
    return "\n".join(rows) + "\n"


def _rows(section: Section, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for part in section.parts:
        match part:
            case Key():
                absent = "none" if ".match." in prefix else "from `defaults`"
                default = absent if part.default is None else f"`{part.default}`"
                yield prefix + part.name, part.kind.words, default, part.words
            case Section():
                yield from _rows(part, f"{prefix}{part.name}.")
            case Listing():
                yield f"{prefix}{part.name}[]", "a list of rules", "none", part.words
                yield from _rows(part.of, f"{prefix}{part.name}[].")
            case _:
                assert_never(part)


def _section(section: Section) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": section.words,
        "type": "object" if section.at_least_one else ["object", "null"],
        "additionalProperties": False,
        "properties": {part.name: _part(part) for part in section.parts},
    }
    if section.required:
        made |= {"type": "object", "required": [part.name for part in section.required]}
    if section.at_least_one:
        made["minProperties"] = 1
    return made


def _part(part: Key | Section | Listing) -> dict[str, Any]:
    match part:
        case Key():
            return _key(part)
        case Section():
            return _section(part)
        case Listing():
            items = _section(part.of)
            return {
                "description": part.words,
                "type": ["array", "null"],
                "maxItems": part.most,
                "items": items,
            }
        case _:
            assert_never(part)


def _key(key: Key) -> dict[str, Any]:
    made: dict[str, Any] = {"description": key.words}
    if key.default not in (None, "null"):
        made["default"] = _value(key.default)
    if key.kind.nullable:
        return made | {"anyOf": [dict(key.kind.schema), {"type": "null"}]}
    return made | dict(key.kind.schema)


def _value(written: str | None) -> object:
    """A default as JSON has it. Quotes, true and numbers are the same in both; bare text is YAML's alone."""
    try:
        return json.loads(written or "null")
    except json.JSONDecodeError:
        return written


if __name__ == "__main__":
    print(text(), end="")
