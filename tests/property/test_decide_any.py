"""The core keeps its promises for every snapshot that an edge, or a hostile guest, can make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balloond.config.settings import SMALLEST_GUEST, Amount, Config, GuestPolicy, GuestRule, HostPolicy
from balloond.model import (
    Decision,
    Guest,
    Host,
    Ksm,
    Obstacle,
    Outcome,
    Pressure,
    Result,
    Snapshot,
    State,
    Statistics,
    Tick,
    Trust,
)
from balloond.policy.decide import decide
from balloond.policy.pace import BAND_LEAST
from balloond.units import GIB, MIB, TIB
from tests.made import Lab, Machine
from tests.made import config as made_config

WALL_S = 1_800_000_000.0

sizes = st.one_of(
    st.integers(min_value=0, max_value=64 * GIB),
    st.integers(min_value=0, max_value=65_536).map(lambda n: n * MIB),
)
claims = st.one_of(st.none(), sizes, st.sampled_from((-1, 0, 1, 2**63, 2**64 - 1, -(2**63))))
counters = st.one_of(st.none(), st.integers(min_value=-1, max_value=2**64))
ratios = st.floats(min_value=0, max_value=1)

statistics = st.builds(
    Statistics,
    last_update_s=st.one_of(
        st.just(0),
        st.integers(min_value=int(WALL_S) - 400, max_value=int(WALL_S) + 60),
        st.integers(min_value=-(2**40), max_value=2**63),
    ),
    untrusted_available=claims,
    untrusted_unused=claims,
    untrusted_usable=claims,
    untrusted_caches=claims,
    untrusted_swap_in=counters,
    untrusted_swap_out=counters,
    untrusted_major_faults=counters,
)


@st.composite
def guests(draw: st.DrawFn, number: int) -> Guest:
    maximum = draw(st.integers(min_value=1, max_value=64 * GIB))
    return Guest(
        uuid=f"uuid-{number:03}",
        name=f"guest-{number}",
        state=draw(st.sampled_from((State.RUNNING, State.RUNNING, State.RUNNING, *State))),
        maximum=maximum,
        actual=draw(st.one_of(st.just(maximum), st.integers(min_value=0, max_value=maximum), sizes)),
        rss=draw(st.one_of(st.none(), sizes)),
        overhead=draw(st.one_of(st.just(0), st.integers(min_value=0, max_value=GIB))),
        obstacle=draw(st.one_of(st.none(), st.none(), st.none(), st.sampled_from(Obstacle))),
        statistics=draw(st.one_of(st.none(), statistics)),
        statistics_period_s=draw(st.integers(min_value=0, max_value=60)),
        incarnation=draw(st.integers(min_value=0, max_value=2)),
        block_read=draw(st.one_of(st.none(), st.integers(min_value=0, max_value=TIB))),
        swapped=draw(st.one_of(st.none(), sizes)),
        deflates_on_oom=draw(st.booleans()),
        in_pool=draw(st.booleans()),
    )


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    total = draw(st.integers(min_value=1, max_value=512 * GIB))
    ksm = Ksm(run=1, saved=draw(sizes), profit=None, full_scans=0, pages_to_scan=100, advisor=None)
    return Host(
        total=total,
        available=draw(st.one_of(st.integers(min_value=0, max_value=total), sizes)),
        swap_total=draw(sizes),
        swap_free=draw(sizes),
        pressure=draw(
            st.one_of(
                st.none(), st.builds(Pressure, some_avg10=ratios, full_avg10=ratios, some_total_us=sizes)
            )
        ),
        ksm=draw(st.one_of(st.none(), st.just(ksm))),
    )


@st.composite
def snapshots(draw: st.DrawFn, now_s: float) -> Snapshot:
    count = draw(st.integers(min_value=0, max_value=6))
    return Snapshot(
        monotonic_s=now_s,
        wall_s=WALL_S + now_s + draw(st.sampled_from((0.0, 0.0, 0.0, -86_400.0, 86_400.0))),
        host=draw(st.one_of(hosts(), hosts(), hosts(), st.none())),
        guests=draw(st.one_of(st.tuples(*(guests(n) for n in range(count))), st.none()))
        if draw(st.integers(min_value=0, max_value=9)) == 0
        else draw(st.tuples(*(guests(n) for n in range(count)))),
    )


amounts = st.one_of(
    st.builds(Amount, share=ratios), st.builds(Amount, size=st.integers(min_value=1, max_value=8 * GIB))
)
policies = st.builds(
    GuestPolicy,
    manage=st.booleans(),
    minimum=amounts,
    maximum=st.one_of(st.none(), amounts),
    shares=st.integers(min_value=1, max_value=100_000),
)
configs = st.builds(
    Config,
    interval_s=st.sampled_from((0.5, 2.0, 10.0, 60.0)),
    host=st.builds(HostPolicy, reserve=amounts, pool=amounts),
    defaults=policies.map(lambda policy: replace(policy, manage=True)),
    guests=st.lists(st.builds(GuestRule, policy=policies, name=st.just("guest-1")), max_size=1).map(tuple),
)
histories = st.lists(st.sampled_from((0.0, 0.5, 2.0, 10.0, 400.0)), min_size=1, max_size=5).flatmap(
    lambda steps: st.tuples(*(snapshots(100.0 + sum(steps[: index + 1])) for index in range(len(steps))))
)
results = st.lists(st.sampled_from(Result), min_size=1, max_size=8)

slowly = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def live(config: Config, history: Sequence[Snapshot], outcomes: Sequence[Result]) -> list[Tick]:
    """The ticks that such a history makes; what became of each action goes by `outcomes`, in turns."""
    ticks: list[Tick] = []
    for snapshot in history:
        decision = decide(config, ticks[-1] if ticks else None, snapshot)
        ticks.append(
            Tick(
                number=len(ticks) + 1,
                snapshot=snapshot,
                decision=decision,
                outcomes=tuple(
                    Outcome(action=action, result=outcomes[index % len(outcomes)])
                    for index, action in enumerate(decision.actions)
                ),
            )
        )
    return ticks


def growth(decision: Decision, before: Decision | None) -> int:
    """What a decision grants beyond what guests have, or were asked to take before."""
    asked = {verdict.uuid: verdict.target for verdict in before.verdicts} if before else {}
    return sum(
        max(0, action.target - max(action.actual, asked.get(action.uuid, 0))) for action in decision.actions
    )


@given(configs, histories, results)
@slowly
def test_nothing_that_can_be_seen_makes_the_core_raise_or_differ_when_asked_again(
    config: Config, history: tuple[Snapshot, ...], outcomes: list[Result]
) -> None:
    assert repr(live(config, history, outcomes)) == repr(live(config, history, outcomes))


@given(configs, histories, results)
@slowly
def test_no_decision_breaks_a_promise(
    config: Config, history: tuple[Snapshot, ...], outcomes: list[Result]
) -> None:
    before: Decision | None = None
    for tick in live(config, history, outcomes):
        decision, snapshot = tick.decision, tick.snapshot
        if snapshot.host is None or snapshot.guests is None:
            assert decision.actions == ()
        elif decision.ledger is not None:
            assert growth(decision, before) <= max(0, decision.ledger.headroom) + MIB * len(decision.actions)
        verdicts = {verdict.uuid: verdict for verdict in decision.verdicts}
        for action in decision.actions:
            verdict = verdicts[action.uuid]
            demand = verdict.demand
            assert demand is not None
            assert verdict.obstacle is None
            assert action.target <= max(demand.ceiling, action.actual) + MIB
            asked = (
                next((v.target for v in before.verdicts if v.uuid == action.uuid), None) if before else None
            )
            if action.target < min(action.actual, asked if asked is not None else action.actual):
                assert demand.trust is Trust.FRESH
            if action.target < action.actual:
                assert action.target >= demand.guarantee
        before = decision


@given(configs, histories, results)
@slowly
def test_every_guest_has_a_verdict_with_sane_sizes_and_a_sentence(
    config: Config, history: tuple[Snapshot, ...], outcomes: list[Result]
) -> None:
    for tick in live(config, history, outcomes):
        seen, made = tick.snapshot.guests, tick.decision.verdicts
        if seen is not None and tick.snapshot.host is not None:
            assert [guest.uuid for guest in seen] == [verdict.uuid for verdict in made]
        for verdict in made:
            assert verdict.words
            demand = verdict.demand
            if demand is not None and verdict.obstacle is None:
                assert 0 <= demand.guarantee <= demand.ceiling
                assert demand.floor <= max(demand.want, demand.guarantee)
                assert demand.want <= demand.ceiling


@given(configs, hosts(), st.lists(sizes, min_size=1, max_size=6))
@slowly
def test_an_obedient_guest_below_its_guarantee_gets_it_in_one_step_where_there_is_room(
    config: Config, host: Host, uses: list[int]
) -> None:
    config = replace(config, guests=())
    poor = tuple(
        Guest(
            uuid=f"uuid-{n:03}", name=f"guest-{n}", maximum=4 * GIB, actual=SMALLEST_GUEST, rss=0,
            statistics=Statistics(
                last_update_s=int(WALL_S), untrusted_usable=max(0, SMALLEST_GUEST - use % SMALLEST_GUEST)
            ),
        )
        for n, use in enumerate(uses)
    )  # fmt: skip
    seen = Snapshot(monotonic_s=100.0, wall_s=WALL_S, host=host, guests=poor)
    first = Tick(
        number=1, snapshot=seen, decision=decide(config, None, seen)
    )  # a daemon's first, which only looks
    decision = decide(config, first, replace(seen, monotonic_s=102.0, wall_s=WALL_S + 2))
    ledger = decision.ledger
    assert ledger is not None
    if ledger.headroom < 4 * GIB * len(poor):
        return
    targets = {action.uuid: action.target for action in decision.actions}
    for verdict in decision.verdicts:
        assert verdict.demand is not None
        reached = targets.get(verdict.uuid, verdict.actual)
        assert reached >= verdict.demand.guarantee - BAND_LEAST


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_guests_changes_nothing(seed: int) -> None:
    """Sizes are drawn so finely that no two guests are alike: between equals somebody must come first."""
    chance = Random(seed)
    count = chance.randint(2, 8)
    machines = [
        Machine(
            name=f"g{n}",
            maximum=4 * GIB - n,
            actual=4 * GIB - n,
            uses=chance.randrange(100 * MIB, 3 * GIB),
        )
        for n in range(count)
    ]
    shuffled = [replace(machine) for machine in machines]
    chance.shuffle(shuffled)
    total = int(count * 4 * GIB / chance.uniform(1.2, 2.5))
    labs = [Lab(machines, total=total), Lab(shuffled, total=total)]
    names = {machine.name: f"{index:03}" for index, machine in enumerate(shuffled)}
    ticks = [labs[0].run(40), _renamed(labs[1], names).run(40)]
    by_name = [{m.name: m.actual for m in lab.machines} for lab in labs]
    assert by_name[0] == {old: by_name[1][new] for old, new in names.items()}
    assert ticks[0].decision.rung is ticks[1].decision.rung


def _renamed(lab: Lab, names: dict[str, str]) -> Lab:
    """The same machines under other names and UUIDs, so that they come in another order."""
    for machine in lab.machines:
        machine.name = names[machine.name]
    return lab


@given(
    st.lists(st.integers(min_value=1, max_value=4000), min_size=2, max_size=6),
    st.floats(min_value=1.1, max_value=3.0),
)
@settings(max_examples=25, deadline=None)
def test_steady_input_comes_to_rest_within_ten_minutes(uses_mib: list[int], overcommit: float) -> None:
    machines = [Machine(name=f"g{n}", uses=uses * MIB) for n, uses in enumerate(uses_mib)]
    lab = Lab(machines, total=int(len(machines) * 4 * GIB / overcommit), config=made_config())
    lab.run(60, every_s=10.0)
    settled = len(lab.done)
    lab.run(60, every_s=10.0)
    assert lab.done[settled:] == []
