"""What each kind of value takes, what it makes of it, and what it tells editors and people."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from balloond.config import kinds
from balloond.config.kinds import Kind
from balloond.config.problems import escape, quote
from balloond.config.settings import Amount
from balloond.units import GIB, MIB, TIB


def complaint(kind: Kind, text: str) -> str:
    with pytest.raises(ValueError) as caught:
        kind.parse(text)
    return str(caught.value)


def pleases_an_editor(kind: Kind, value: Any) -> bool:
    return bool(jsonschema.Draft7Validator(dict(kind.schema)).is_valid(value))


def test_a_size_is_taken_from_its_least_to_the_largest_that_a_processor_can_address() -> None:
    kind = kinds.size(least=GIB)
    assert kind.parse("1GiB") == GIB
    assert kind.parse("4096TiB") == 4096 * TIB
    assert complaint(kind, "1023MiB") == "1023 MiB is less than 1 GiB, the least for any guest"
    assert complaint(kind, "4097TiB") == "'4097TiB' is more than any machine has; 4096TiB are the most"
    assert complaint(kind, "0B") == "a size of 0 is nothing"
    assert complaint(kind, "1" * 41) == f"'{'1' * 41}' is no number that anybody would write"
    assert complaint(kind, "1" * 40).startswith(f"'{'1' * 40}' has no unit; ")


def test_an_amount_is_a_size_or_more_than_nothing_of_something() -> None:
    kind = kinds.amount(least=GIB, example="2GiB or 5%")
    assert kind.parse("1GiB") == Amount(size=GIB)
    assert kind.parse("100%") == Amount(share=1.0)
    assert kind.parse(" 12.5 % ") == Amount(share=0.125)
    assert complaint(kind, "0%") == "'0%' is nothing"
    assert complaint(kind, "512MiB") == "512 MiB is less than 1 GiB, the least for any guest"
    assert complaint(kind, "1" * 40 + "%") == f"'{'1' * 40}%' is no number that anybody would write"


def test_a_duration_is_taken_with_its_bounds() -> None:
    kind = kinds.duration(least_s=0.5, most_s=60.0)
    assert kind.parse("500ms") == 0.5
    assert kind.parse("1min") == 60.0
    assert complaint(kind, "499ms") == "'499ms' is not between 0.5s and 60s"
    assert complaint(kind, "61s") == "'61s' is not between 0.5s and 60s"
    assert complaint(kind, "1" * 41) == f"'{'1' * 41}' is no number that anybody would write"


def test_a_count_is_taken_with_its_bounds_and_in_plain_decimal_alone() -> None:
    kind = kinds.count(least=2, most=50)
    assert [kind.parse(text) for text in ("2", "+7", "50")] == [2, 7, 50]
    assert complaint(kind, "1") == "'1' is not between 2 and 50"
    assert complaint(kind, "51") == "'51' is not between 2 and 50"
    assert complaint(kind, "-3") == "'-3' is not between 2 and 50"
    for text in ("07", "0x7", "7.0", "7 ", "", "seven"):
        assert complaint(kind, text) == f"'{text}' is no whole number in decimal"
    assert kinds.count(least=0, most=0).parse("0") == 0
    assert complaint(kind, "1" * 41) == f"'{'1' * 41}' is no number that anybody would write"


def test_a_bare_number_reaches_the_kinds_that_can_tell_what_it_lacks() -> None:
    number, text = frozenset({"int", "float"}), frozenset({"str"})
    assert kinds.size(least=1).takes == number | text
    assert kinds.amount(least=1, example="").takes == number | text
    assert kinds.duration(least_s=1, most_s=2).takes == number | text
    assert kinds.count(least=1, most=2).takes == number


def test_only_what_is_said_to_be_may_be_null() -> None:
    assert kinds.size(least=1).nullable is False
    assert kinds.size(least=1, nullable=True).nullable is True
    assert kinds.amount(least=1, example="").nullable is False
    assert kinds.amount(least=1, example="", nullable=True).nullable is True
    assert kinds.duration(least_s=1, most_s=2).nullable is False
    assert kinds.count(least=1, most=2).nullable is False


def test_each_kind_says_what_it_is_and_what_would_be_right() -> None:
    told = [
        (kind.words, kind.right)
        for kind in (
            kinds.size(least=1),
            kinds.amount(least=1, example="2GiB or 5%"),
            kinds.duration(least_s=0.5, most_s=60.0),
            kinds.count(least=2, most=50),
        )
    ]
    assert told == [
        ("a size", "write a size with its unit, such as 64GiB"),
        ("a size or a percentage", "write a size or a percentage, such as 2GiB or 5%"),
        ("a duration", "write a duration from 0.5s to 60s, such as 2s"),
        ("a whole number", "write a whole number from 2 to 50, such as 1000"),
    ]


def test_an_editor_is_told_the_form_of_each_kind() -> None:
    size = kinds.size(least=1)
    assert [pleases_an_editor(size, value) for value in ("1.5 GiB", "5%", "5", 5)] == [
        True,
        False,
        False,
        False,
    ]
    amount = kinds.amount(least=1, example="")
    assert [pleases_an_editor(amount, value) for value in ("1GiB", "5.5 %", "5s", 5)] == [
        True,
        True,
        False,
        False,
    ]
    duration = kinds.duration(least_s=1, most_s=2)
    assert [pleases_an_editor(duration, value) for value in ("2min", "2m", "5%", 5)] == [
        True,
        False,
        False,
        False,
    ]
    count = kinds.count(least=2, most=50)
    assert [pleases_an_editor(count, value) for value in (2, 50, 1, 51, "2")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_share_of_a_processor_is_one_percent_at_least() -> None:
    assert kinds.CPU.parse("1%") == 0.01
    assert kinds.CPU.parse("100%") == 1.0
    assert complaint(kinds.CPU, "0.9%") == "'0.9%' is less than 1%"
    assert complaint(kinds.CPU, "1" * 40 + "%") == f"'{'1' * 40}%' is no number that anybody would write"


def test_patterns_and_paths_may_be_as_long_as_names_and_paths_can_be() -> None:
    assert kinds.PATTERN.parse("x" * 256) == "x" * 256
    assert "too long" in complaint(kinds.PATTERN, "x" * 257)
    assert kinds.SOCKET.parse("/" + "x" * 106) == "/" + "x" * 106
    assert "longer than a socket's path" in complaint(kinds.SOCKET, "/" + "x" * 107)
    assert kinds.DIRECTORY.parse("/" + "x" * 4094) == "/" + "x" * 4094
    assert "too long" in complaint(kinds.DIRECTORY, "/" + "x" * 4095)
    assert "too long" in complaint(kinds.DIRECTORY, "/" + "é" * 2048)  # bytes are what counts


def test_a_quote_is_whole_up_to_sixty_characters_and_ends_in_dots_beyond() -> None:
    assert quote("x" * 60) == repr("x" * 60)
    assert quote("x" * 61) == repr("x" * 59 + "…")
    assert quote("a\nb") == r"'a\nb'"


def test_what_can_be_printed_is_left_as_it_is_and_the_rest_escaped() -> None:
    assert escape("it's \\ é") == "it's \\ é"
    assert escape("a\nb\x1b") == r"a\nb\x1b"
    assert kinds.MINIMUM.parse("96MiB") == Amount(size=96 * MIB)
