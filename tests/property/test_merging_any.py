"""Whatever pages cost, and whatever the host: ksmd keeps to its share of a processor."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from balloond.config.settings import KsmMode, KsmPolicy
from balloond.model import Rung
from balloond.policy.merging import PACES
from balloond.units import GIB, MIB
from tests.unit.ksmd import ADVISED, FOUND, Ksmd

costs = st.floats(min_value=0.3e-6, max_value=20e-6)


@given(
    candidates=st.integers(min_value=100 * MIB, max_value=512 * GIB),
    equal=st.floats(min_value=0, max_value=1),
    costs_s=st.tuples(costs, costs),
    counts=st.booleans(),
    advisor=st.booleans(),
    starved=st.floats(min_value=0, max_value=0.6),
    rung=st.sampled_from(Rung),
    cpu=st.floats(min_value=0.1, max_value=1.0),
    every_s=st.sampled_from((0.5, 1.0, 2.0)),
)
def test_over_half_a_minute_ksmd_takes_a_tenth_more_than_its_share_at_most(
    candidates: int,
    equal: float,
    costs_s: tuple[float, float],
    counts: bool,
    advisor: bool,
    starved: float,
    rung: Rung,
    cpu: float,
    every_s: float,
) -> None:
    settings = ADVISED if advisor else FOUND
    ksmd = Ksmd(
        candidates=candidates, equal=equal, costs_s=costs_s, starved=starved,
        settings=replace(settings, pages_to_scan=20_000), counts=counts or advisor,
    )  # fmt: skip
    policy = KsmPolicy(mode=KsmMode.STEER, cpu=cpu)
    for _ in range(round(120 / every_s)):
        ksmd.tick(policy, rung, every_s=every_s)
    assert ksmd.share() <= 1.1 * cpu * PACES[rung][1] + 0.005
