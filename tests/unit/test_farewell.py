"""How guests are left: with what is free, and never with less."""

from __future__ import annotations

from balloond.config.settings import GuestPolicy
from balloond.model import Decision, Demand, Ledger, Obstacle, Reason, Rung, Snapshot, Tick, Trust, Verdict
from balloond.policy.decide import GuestMemory
from balloond.policy.farewell import farewell
from balloond.policy.movement import Movement
from balloond.units import GIB, MIB
from tests.made import Lab, Machine, config


def crowd(pool: float = 0.2) -> Lab:
    lab = Lab([Machine(name=f"g{i}") for i in range(4)], config=config(pool=pool))
    lab.run(100)
    return lab


def test_what_is_free_is_handed_out_and_no_more() -> None:
    lab = crowd()
    assert lab.tick is not None
    ledger = lab.tick.decision.ledger
    assert ledger is not None
    assert ledger.headroom > GIB
    actions = farewell(lab.tick)
    given = sum(action.target - action.actual for action in actions)
    assert 0.9 * ledger.headroom < given <= ledger.headroom
    assert all(action.target > action.actual for action in actions)
    assert {action.reason for action in actions} == {Reason.FAREWELL}
    assert [a.target - a.actual for a in actions] == sorted(
        (a.target - a.actual for a in actions), reverse=True
    )


def test_nobody_is_given_more_than_its_maximum() -> None:
    lab = crowd()
    lab.machines = lab.machines[:2]
    lab.run(1)
    assert lab.tick is not None
    assert all(action.target <= 4 * GIB for action in farewell(lab.tick))


def test_a_guest_on_its_way_down_is_told_to_stay() -> None:
    lab = Lab([Machine(name=f"g{i}", obeys=False) for i in range(4)])
    lab.run(4)
    assert lab.tick is not None
    moving = [v.name for v in lab.tick.decision.verdicts if v.target < 4 * GIB]
    assert moving
    targets = {action.name: action.target for action in farewell(lab.tick)}
    assert targets == dict.fromkeys(moving, 4 * GIB)


def test_where_nothing_is_known_of_the_host_nothing_is_done() -> None:
    lab = crowd()
    lab.host_lost = True
    tick = lab.run(1)
    assert farewell(tick) == ()


NOW = GuestMemory(policy=GuestPolicy(), title="", incarnation=0, movement=Movement())


def seen(
    name: str,
    actual: int,
    *,
    want: int = 0,
    guarantee: int = 0,
    ceiling: int = 4 * GIB,
    target: int | None = None,
) -> Verdict:
    demand = Demand(
        trust=Trust.FRESH,
        working_set=GIB,
        want=want,
        need=0,
        enough=0,
        floor=0,
        guarantee=guarantee,
        ceiling=ceiling,
        margin=0,
        in_distress=False,
        suffers=False,
        squeezed=False,
        overhead=0,
        memory=None,
    )
    return Verdict(
        uuid=f"uuid-{name}",
        name=name,
        actual=actual,
        demand=demand,
        entitlement=actual,
        target=actual if target is None else target,
        reason=Reason.STEADY,
        obstacle=None,
        memory=NOW,
    )


def left(headroom: int, *verdicts: Verdict) -> list[tuple[str, int]]:
    """Names and targets, in their order, where so much may be granted."""
    ledger = Ledger(
        total=64 * GIB,
        available=0,
        own=0,
        reserve=0,
        pool=0,
        committed=0,
        headroom=headroom,
        guaranteed=0,
        covered=True,
    )
    decision = Decision(rung=Rung.GREEN, ledger=ledger, verdicts=verdicts, actions=())
    snapshot = Snapshot(monotonic_s=0.0, wall_s=0.0, host=None, guests=None)
    actions = farewell(Tick(number=1, snapshot=snapshot, decision=decision))
    assert all(action.uuid == f"uuid-{action.name}" for action in actions)
    assert all(
        action.words == f"the daemon stops: left with {action.target // MIB} MiB" for action in actions
    )
    return [(action.name, action.target) for action in actions]


def test_guarantees_come_before_wants_and_wants_before_the_rest() -> None:
    poor, hungry = seen("poor", GIB, guarantee=2 * GIB, want=2 * GIB), seen("hungry", GIB, want=3 * GIB)
    assert left(GIB, hungry, poor) == [("poor", 2 * GIB)]
    assert left(2 * GIB, hungry, poor) == [("hungry", 2 * GIB), ("poor", 2 * GIB)]
    assert left(3 * GIB, hungry, poor) == [("hungry", 3 * GIB), ("poor", 2 * GIB)]
    assert left(4 * GIB, hungry, poor) == [("hungry", int(3.5 * GIB)), ("poor", int(2.5 * GIB))]
    assert left(64 * GIB, hungry, poor) == [("hungry", 4 * GIB), ("poor", 4 * GIB)]


def test_those_that_lack_most_come_first() -> None:
    assert left(64 * GIB, seen("a", 3 * GIB), seen("b", GIB), seen("c", 2 * GIB)) == [
        ("b", 4 * GIB),
        ("c", 4 * GIB),
        ("a", 4 * GIB),
    ]


def test_targets_are_whole_mebibytes_and_less_than_eight_more_is_not_worth_a_word() -> None:
    guest = seen("a", GIB)
    assert left(9 * MIB - 1, guest) == [("a", GIB + 8 * MIB)]
    assert left(8 * MIB, guest) == [("a", GIB + 8 * MIB)]
    assert left(8 * MIB - 1, guest) == []


def test_what_a_guest_was_promised_and_has_not_yet_taken_is_still_its_own() -> None:
    assert left(0, seen("a", GIB, target=2 * GIB)) == [("a", 2 * GIB)]
    assert left(-GIB, seen("a", GIB, target=2 * GIB)) == [("a", 2 * GIB)]
    assert left(-GIB, seen("a", GIB)) == []


def test_a_guest_at_its_ceiling_is_told_to_stay_only_where_it_was_told_to_go() -> None:
    assert left(GIB, seen("a", 4 * GIB)) == []
    assert left(GIB, seen("a", 4 * GIB, target=3 * GIB)) == [("a", 4 * GIB)]


def test_guests_that_are_left_alone_are_left_alone_at_the_end_too() -> None:
    lab = crowd()
    assert lab["g0"].actual < 4 * GIB - 64 * MIB
    lab["g0"].more = {"obstacle": Obstacle.IN_JOB}
    tick = lab.run(1)
    assert "g0" not in {action.name for action in farewell(tick)}
    assert farewell(tick)
