"""Is text with a unit read exactly, and text without one refused?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balloond.units import (
    GIB,
    KIB,
    MIB,
    TIB,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("1B", 1),
        ("1KiB", KIB),
        ("512MiB", 512 * MIB),
        ("512 MiB", 512 * MIB),
        (" 2GiB ", 2 * GIB),
        ("1.5GiB", 1536 * MIB),
        ("4096TiB", 4096 * TIB),
        ("0.5B", 0),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["2048", "0", "1.5"])
def test_a_size_without_a_unit_is_refused_and_told_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=f"has no unit; write {text}MiB or {text}GiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["2GB", "2G", "2gib", "2kib", "5%", "2s"])
def test_a_size_with_another_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has unit '.*'; write one of B, KiB, MiB, GiB, TiB$"):
        parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "+1GiB", "1e3GiB", ".5GiB", "1.GiB", "nan", "infGiB", "1 2GiB"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size with its unit, such as 2GiB or 512MiB$"):
        parse_size(text)
    with pytest.raises(ValueError, match=r"is not a percentage such as 5%$"):
        parse_share(text)
    with pytest.raises(ValueError, match=r"is not a duration such as 2s, 500ms or 5min$"):
        parse_duration(text)


@pytest.mark.parametrize("parse", [parse_size, parse_share, parse_duration])
def test_a_number_that_no_float_can_hold_is_refused_and_not_repeated_in_full(
    parse: Callable[[str], float],
) -> None:
    with pytest.raises(ValueError, match=r"^'9{20}'… is larger than anything; write a "):
        parse("9" * 400 + "s")


@pytest.mark.parametrize(("text", "share"), [("0%", 0.0), ("5%", 0.05), ("12.5 %", 0.125), ("100%", 1.0)])
def test_a_percentage_is_read_as_a_ratio(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["101%", "100.1%", "5", "0.05", "5GiB"])
def test_what_is_no_percentage_up_to_100_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no percentage from 0% to 100%"):
        parse_share(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("2s", 2.0), ("5 min", 300.0), ("1.5h", 5400.0)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_a_duration_without_a_unit_is_refused_and_told_what_to_write() -> None:
    with pytest.raises(ValueError, match="'2' has no unit; write 2s"):
        parse_duration("2")
    with pytest.raises(ValueError, match=r"'2m' has unit 'm'; write one of ms, s, min, h$"):
        parse_duration("2m")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1 KiB"),
        (1536 * MIB, "1.5 GiB"),
        (-512 * MIB, "-512 MiB"),
        (1000 * MIB, "1000 MiB"),
        (999 * KIB + 511, "999 KiB"),
        (999 * KIB + 512, "1000 KiB"),
        (64 * GIB, "64 GiB"),
        (3 * TIB, "3 TiB"),
    ],
)
def test_a_size_is_shown_with_three_digits_and_a_unit(size: int, text: str) -> None:
    assert format_size(size) == text
