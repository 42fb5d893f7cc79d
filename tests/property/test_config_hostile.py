"""Can any text make the reader do something else than give a configuration or say what is wrong?"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from balloond.config.contradictions import describe_amount
from balloond.config.form import keys
from balloond.config.read import ConfigError, load, read
from balloond.config.settings import Amount, Config

SAMPLE = (
    (Path(__file__).parents[2] / "etc/balloond.yaml")
    .read_text()
    .replace(
        "guests: []",
        "guests:\n  - match: {name: 'db-*', uuid: 'c7*'}\n    minimum: 4GiB\n    shares: 4000\n    manage: yes\n",
    )
)

_fragments = st.sampled_from(
    [
        *("mode", "host", "guests", "match", "name", "minimum", "defaults", "metrics", "listen", "manage"),
        *(
            ": ",
            ":",
            "- ",
            "-",
            "? ",
            "\n",
            "\n  ",
            "\n    ",
            "\t",
            " ",
            ",",
            "[",
            "]",
            "{",
            "}",
            "#",
            "'",
            '"',
        ),
        *(
            "&a ",
            "*a",
            "<<: ",
            "!!python/object:os.system ",
            "!t ",
            "!",
            "%YAML 1.1\n",
            "---\n",
            "...\n",
            "|",
            ">",
        ),
        *(
            "1GiB",
            "5%",
            "0x10",
            "1e999",
            ".nan",
            "-.inf",
            "1:59",
            "2001-01-01",
            "~",
            "null",
            "on",
            "=",
            "\\U",
            '"\\x',
        ),
        *("\0", "\ufeff", "\u2028", "\ud800", "é", "9" * 50, "*" * 30, "[!" * 5),
    ]
)


def judge(text: str) -> Config | None:
    """The configuration, or None where the faults were told as they should be."""
    try:
        return read(text, "f")
    except ConfigError as error:
        assert error.problems
        lines = (
            text.count("\n")
            + text.count("\r")
            + text.count("\u2028")
            + text.count("\u2029")
            + text.count("\x85")
        )
        for problem in error.problems:
            assert 1 <= problem.line <= lines + 2
            assert str(problem).startswith(f"f:{problem.line}: {problem.path}: ")
            assert "; " in problem.text
            assert str(problem).isprintable()
        assert list(error.problems) == sorted(error.problems, key=lambda problem: problem.line)
        return None


@given(st.text())
@example("?" * 5000)
@example("- " * 5000)
@example('"\\UFFFFFFFF"')
@example("%YAML " + "9" * 5000 + ".1\n---\n")
def test_any_text_is_read_or_its_faults_are_told(text: str) -> None:
    judge(text)


@settings(max_examples=400)
@given(st.lists(_fragments, max_size=40).map("".join))
def test_any_heap_of_yaml_is_read_or_its_faults_are_told(text: str) -> None:
    judge(text)


@settings(max_examples=200)
@given(st.data())
def test_any_edit_of_a_good_file_is_read_or_its_faults_are_told(data: st.DataObject) -> None:
    text = SAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 30)))
        text = text[:start] + data.draw(st.one_of(_fragments, st.text(max_size=5))) + text[end:]
    judge(text)


_NAMES = sorted({name for path, _ in keys() for name in path.replace("[]", "").split(".")})
_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["1GiB", "5%", "a*", "/x"]),
)
_trees = st.recursive(
    _values,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(_NAMES),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(_trees)
def test_any_tree_of_values_under_the_right_names_is_read_or_its_faults_are_told(tree: object) -> None:
    judge(json.dumps(tree))


@given(content=st.binary(max_size=200))
@example(content="mode: observe".encode("utf-16"))
def test_any_bytes_in_a_file_are_read_or_their_faults_are_told(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "balloond.yaml"
        path.write_bytes(content)
        with contextlib.suppress(ConfigError):
            load(path)


@given(
    low=st.integers(1, 100),
    high=st.integers(1, 100),
    unit=st.sampled_from(["GiB", "%"]),
)
def test_a_minimum_is_refused_exactly_when_it_is_over_its_maximum(low: int, high: int, unit: str) -> None:
    assert (judge(f"defaults: {{minimum: {low}{unit}, maximum: {high}{unit}}}") is None) == (low > high)


@given(
    st.one_of(
        st.integers(1, 100).map(lambda n: Amount(share=n / 100)),
        st.integers(1, 900).map(lambda n: Amount(size=n << 30)),
    )
)
def test_an_amount_that_is_described_reads_back_as_itself(amount: Amount) -> None:
    config = judge(f"defaults: {{maximum: {describe_amount(amount)}, minimum: 96MiB}}")
    assert config is not None
    assert config.defaults.maximum == amount
