"""Whatever a guest says of itself, it gains little by it: what it wants is bounded by what it has touched."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from balloond.config.settings import Amount, GuestPolicy
from balloond.model import Demand, Guest, Statistics, Trust
from balloond.policy.demand import Memory, estimate
from balloond.units import GIB, MIB

WALL_S = 1_800_000_000.0

GROWTH = 5.0
MARGIN = 0.25
"""A guest may want its guarantee, or so many times what it has touched, and a margin: at most a quarter of its
maximum. A quarter more for its distress; but where it was found with nothing usable of all that it had touched,
five times running, four times as much again: one that wants eight times its size must not wait for ten samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is seen of the guest at one look. Shares are of its maximum, or of what it has."""

    after_s: float
    has: float
    touched: float
    swapped: float
    says: Statistics


def said(maximum: int) -> st.SearchStrategy[Statistics]:
    sizes = st.one_of(st.none(), st.sampled_from((0, 1)), st.integers(min_value=0, max_value=maximum))
    counters = st.one_of(
        st.none(), st.integers(min_value=0, max_value=64 * GIB), st.integers(min_value=0, max_value=2**64)
    )
    return st.builds(
        Statistics,
        last_update_s=st.just(0),
        untrusted_available=sizes,
        untrusted_unused=sizes,
        untrusted_usable=sizes,
        untrusted_caches=sizes,
        untrusted_swap_in=counters,
        untrusted_swap_out=counters,
        untrusted_major_faults=counters,
    )


MAXIMUM = 4 * GIB
ratios = st.floats(min_value=0, max_value=1)
looks = st.builds(
    Look,
    after_s=st.sampled_from((2.0, 2.0, 10.0, 60.0, 400.0)),
    has=st.floats(min_value=0.05, max_value=1),
    touched=st.floats(min_value=0.01, max_value=1),  # a QEMU process is never without any
    swapped=st.one_of(st.just(0.0), ratios),
    says=said(MAXIMUM),
)


@given(st.lists(looks, min_size=1, max_size=12), st.sampled_from((0.0, 0.1, 0.5)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_guest_wants_no_more_than_it_has_touched_or_was_promised_with_a_margin(
    told: list[Look], minimum: float, deflates_on_oom: bool
) -> None:
    policy = GuestPolicy(minimum=Amount(share=minimum))
    memory: Memory | None = None
    most = 0
    now_s = 1000.0
    for look in told:
        now_s += look.after_s
        actual = int(look.has * MAXIMUM)
        guest = _guest(look, actual, now_s, deflates_on_oom)
        most = max(most, (guest.rss or 0) + (guest.swapped or 0))
        demand = _estimate(policy, guest, memory, now_s)
        memory = demand.memory
        if demand.trust in (Trust.NEW, Trust.SILENT, Trust.ABSENT):
            continue  # nothing is believed of it: it is held at what it has
        assert demand.margin <= MARGIN * MAXIMUM
        assert demand.want <= max(demand.guarantee, GROWTH * most + demand.margin) + MIB


def _guest(look: Look, actual: int, now_s: float, deflates_on_oom: bool) -> Guest:
    said = look.says
    return Guest(
        uuid="uuid",
        name="liar",
        maximum=MAXIMUM,
        actual=actual,
        rss=int(look.touched * actual),
        swapped=int(look.swapped * (1 - look.touched) * actual),
        deflates_on_oom=deflates_on_oom,
        statistics=Statistics(
            last_update_s=int(WALL_S + now_s),
            untrusted_available=said.untrusted_available,
            untrusted_unused=said.untrusted_unused,
            untrusted_usable=said.untrusted_usable,
            untrusted_caches=said.untrusted_caches,
            untrusted_swap_in=said.untrusted_swap_in,
            untrusted_swap_out=said.untrusted_swap_out,
            untrusted_major_faults=said.untrusted_major_faults,
        ),
        statistics_period_s=2,
    )


def _estimate(policy: GuestPolicy, guest: Guest, memory: Memory | None, now_s: float) -> Demand:
    return estimate(
        policy, guest, memory, moving_to=None, now_s=now_s, wall_s=WALL_S + now_s, interval_s=2.0,
        first_tick=False,
    )  # fmt: skip
