"""Does every size, ratio and duration survive being written and read, and everything else be refused politely?"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balloond.units import (
    GIB,
    KIB,
    LARGEST_MEMORY,
    MIB,
    TIB,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)

FACTORS = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}
_digits = st.text("0123456789", min_size=1, max_size=40)


@given(number=st.integers(0, 2**40), unit=st.sampled_from(sorted(FACTORS)))
def test_a_whole_size_is_read_exactly_as_far_as_there_can_be_so_much(number: int, unit: str) -> None:
    if number * FACTORS[unit] > LARGEST_MEMORY:
        with pytest.raises(ValueError, match=r"is more than any machine has; 4096TiB are the most$"):
            parse_size(f"{number}{unit}")
        return
    assert parse_size(f"{number}{unit}") == parse_size(f"{number} {unit}") == number * FACTORS[unit]


@given(st.integers(-LARGEST_MEMORY, LARGEST_MEMORY))
def test_a_shown_size_is_within_half_a_percent_of_the_size(size: int) -> None:
    shown = format_size(size)
    assert shown.startswith("-") == (size < 0)
    assert parse_size(shown.lstrip("-")) == pytest.approx(abs(size), rel=0.005)  # 4096 TiB is shown whole


@given(st.floats(0, 100))
def test_every_percentage_is_a_ratio(percent: float) -> None:
    assert parse_share(f"{percent:.6f}%") == pytest.approx(percent / 100, abs=1e-8)


@given(
    st.one_of(st.text(), st.builds("".join, st.lists(st.sampled_from(["1", ".", "GiB", "%", "s", " ", "-"]))))
)
def test_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    for parse in (parse_size, parse_share, parse_duration):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


@given(_digits)
def test_a_bare_number_is_never_a_size_a_ratio_or_a_duration(digits: str) -> None:
    for parse in (parse_size, parse_share, parse_duration):
        with pytest.raises(ValueError, match=r"no unit|no percentage"):
            parse(digits)
