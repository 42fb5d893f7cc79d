"""Whatever the guests and the host are like, relief keeps its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balloond.model import (
    Demand,
    Guest,
    GuestCgroup,
    Host,
    Ledger,
    LimitSoftly,
    Measured,
    Obstacle,
    Pressure,
    Reclaim,
    Result,
    Rung,
    Trust,
)
from balloond.policy.relief import LEAST, RATE_GUEST, RATE_TOTAL, Holder, Relief, relieve
from balloond.units import GIB

SIZES = st.integers(0, 64 * GIB)


@st.composite
def holders(draw: st.DrawFn, number: int) -> Holder:
    maximum = draw(st.integers(1, 64 * GIB))
    actual = draw(st.integers(1, maximum))
    guarantee = draw(st.integers(0, maximum))
    want = draw(st.integers(guarantee, maximum))
    some = draw(st.floats(0, 1))
    cgroup = GuestCgroup(used=0, pressure=Pressure(some_avg10=some, full_avg10=0.0, some_total_us=0))
    return Holder(
        guest=Guest(
            uuid=f"uuid-{number}",
            name=f"g{number}",
            maximum=maximum,
            actual=actual,
            rss=draw(st.none() | SIZES),
            in_pool=draw(st.booleans()),
            cgroup=draw(st.none() | st.just(cgroup)),
        ),
        demand=Demand(
            trust=draw(st.sampled_from(Trust)), working_set=want, want=want, need=guarantee,
            enough=guarantee, floor=guarantee, guarantee=guarantee, ceiling=maximum, margin=0,
            in_distress=draw(st.booleans()), suffers=False, squeezed=draw(st.booleans()),
            overhead=draw(st.integers(0, GIB)), memory=None,
        ),
        shares=draw(st.integers(1, 10_000)),
        target=draw(st.integers(1, maximum)),
        follows=draw(st.booleans()),
        obstacle=draw(st.none() | st.sampled_from(Obstacle)),
    )  # fmt: skip


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    total = draw(st.integers(1, 256 * GIB))
    return Ledger(
        total=total, available=draw(st.integers(0, total)), own=draw(st.integers(0, total)),
        reserve=draw(st.integers(0, total)), pool=draw(st.integers(0, total)), committed=0, headroom=0,
        guaranteed=0, covered=False,
    )  # fmt: skip


CROWDS = st.integers(0, 6).flatmap(lambda count: st.tuples(*(holders(number) for number in range(count))))
SWAP = st.integers(0, 16 * GIB)
ELAPSED_S = st.floats(0, 1e6)


def host(ledger: Ledger, swap: int) -> Host:
    return Host(total=ledger.total, available=ledger.available, swap_total=swap, swap_free=swap)


@given(CROWDS, ledgers(), SWAP, st.sampled_from(Rung), ELAPSED_S)
def test_what_is_taken_is_bounded_by_rates_swap_and_what_the_pool_lacks(
    crowd: tuple[Holder, ...], ledger: Ledger, swap: int, rung: Rung, elapsed_s: float
) -> None:
    _, measures = relieve(Relief(), (), crowd, host(ledger, swap), ledger, rung, elapsed_s=elapsed_s)
    taken = [each for each in measures if isinstance(each, Reclaim)]
    seconds = min(elapsed_s, 5.0)
    total = sum(each.size for each in taken)
    assert total <= min(swap, RATE_TOTAL * seconds, max(0, ledger.pool - ledger.available + ledger.reserve))
    assert all(LEAST <= each.size <= RATE_GUEST * seconds for each in taken)
    assert len({each.uuid for each in taken}) == len(taken)
    assert not taken or rung >= Rung.ORANGE


@given(CROWDS, ledgers(), SWAP, st.sampled_from(Rung), ELAPSED_S)
def test_nobody_is_taken_from_below_its_guarantee_and_nobody_who_is_to_be_left_alone(
    crowd: tuple[Holder, ...], ledger: Ledger, swap: int, rung: Rung, elapsed_s: float
) -> None:
    _, measures = relieve(Relief(), (), crowd, host(ledger, swap), ledger, rung, elapsed_s=elapsed_s)
    by_uuid = {holder.guest.uuid: holder for holder in crowd}
    for measure in measures:
        assert isinstance(measure, Reclaim | LimitSoftly)
        holder = by_uuid[measure.uuid]
        assert holder.guest.in_pool
        assert holder.obstacle in (None, Obstacle.NO_BALLOON)
        kept = holder.resident - measure.size if isinstance(measure, Reclaim) else measure.limit
        assert kept is not None and kept >= holder.demand.guarantee
        if holder.follows:  # what it wants is known then, and kept
            assert isinstance(measure, Reclaim)
            assert kept >= holder.demand.want
            assert not holder.demand.in_distress


@given(CROWDS, ledgers(), SWAP, st.lists(st.sampled_from(Rung), min_size=1, max_size=6), st.data())
def test_a_limit_is_set_once_and_lifted_once_whatever_the_host_does(
    crowd: tuple[Holder, ...], ledger: Ledger, swap: int, rungs: list[Rung], data: st.DataObject
) -> None:
    relief, measured, really = Relief(), tuple[Measured, ...](), set[str]()
    for rung in (*rungs, Rung.GREEN, Rung.GREEN):
        relief, measures = relieve(relief, measured, crowd, host(ledger, swap), ledger, rung, elapsed_s=1.0)
        came = []
        for measure in measures:
            sets = isinstance(measure, LimitSoftly) and measure.limit is not None
            fails = sets and data.draw(st.booleans())
            came.append(Measured(measure=measure, result=Result.REFUSED if fails else Result.DONE))
            if isinstance(measure, LimitSoftly) and not fails:
                assert (measure.uuid in really) is not sets
                really ^= {measure.uuid}
        measured = tuple(came)
    assert really == set()
    assert relief == Relief()
