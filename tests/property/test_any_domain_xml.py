"""Whatever a definition holds, reading it ends in facts or in a BrokenXmlError."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balloond.host.domain_xml import BrokenXmlError, Facts, read_facts

TAGS = ("<domain>", "</domain>", "<memory unit='KiB'>", "</memory>", "<devices>", "</devices>", "<title>")
PIECES = ("<memballoon", " model='virtio'", "/>", ">", "<stats period='", "'/>", "<!ENTITY x '", "&x;", "\0")
WORDS = st.sampled_from(TAGS + PIECES)


def answer_of(xml: str) -> Facts | BrokenXmlError:
    try:
        return read_facts(xml)
    except BrokenXmlError as broken:
        return broken


@given(st.text(st.characters(), max_size=400))
def test_any_text_is_facts_or_broken(xml: str) -> None:
    answer_of(xml)


@given(st.lists(WORDS | st.text(st.characters(), max_size=8), max_size=30).map("".join))
def test_any_heap_of_fragments_is_facts_or_broken(xml: str) -> None:
    answer_of(xml)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_any_figures_in_a_proper_definition_are_facts_or_broken(size: str, unit: str, period: str) -> None:
    unquoted = period.replace("'", "")
    answer_of(
        f"<domain><memory unit='{unit}'>{size}</memory>"
        f"<devices><memballoon model='virtio'><stats period='{unquoted}'/></memballoon></devices></domain>"
    )
