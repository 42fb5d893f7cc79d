"""Whatever libvirt and guests report, it becomes a guest whose sizes are possible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balloond.host.readings import guest_of, row_of

KEYS = ("state.state", "block.count", "block.0.rd.bytes", "balloon.current", "balloon.maximum", "balloon.rss")
MORE_KEYS = (
    "balloon.last-update",
    "balloon.usable",
    "balloon.unused",
    "balloon.major_fault",
    "balloon.swap_in",
)
VALUES = st.integers(-(2**63), 2**64 - 1) | st.text(max_size=3) | st.booleans() | st.none() | st.floats()


@given(st.dictionaries(st.sampled_from(KEYS + MORE_KEYS), VALUES) | st.none(), st.integers(-1, 9))
def test_any_fields_become_a_guest_of_possible_size(fields: dict[str, object] | None, job: int) -> None:
    row = row_of(["u", "n", 1, fields])
    guest = guest_of(row, None, numbers=row.fields or {}, job=job, block_read=row.block_read, incarnation=0)
    assert 0 <= guest.maximum < 2**60
    assert 0 <= guest.actual < 2**60
    assert guest.rss is None or 0 <= guest.rss < 2**60
    assert guest.block_read is None or guest.block_read >= 0
    if guest.statistics is not None:
        assert guest.statistics.untrusted_usable is None or guest.statistics.untrusted_usable >= 0
