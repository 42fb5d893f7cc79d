"""How guests are left: with what is free, and never with less."""

from __future__ import annotations

from balloond.model import Obstacle, Reason
from balloond.policy.farewell import farewell
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
    actions = farewell(lab.config, lab.tick)
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
    assert all(action.target <= 4 * GIB for action in farewell(lab.config, lab.tick))


def test_a_guest_on_its_way_down_is_told_to_stay() -> None:
    lab = Lab([Machine(name=f"g{i}", obeys=False) for i in range(4)])
    lab.run(4)
    assert lab.tick is not None
    moving = [v.name for v in lab.tick.decision.verdicts if v.target < 4 * GIB]
    assert moving
    targets = {action.name: action.target for action in farewell(lab.config, lab.tick)}
    assert targets == dict.fromkeys(moving, 4 * GIB)


def test_where_nothing_is_known_of_the_host_nothing_is_done() -> None:
    lab = crowd()
    lab.host_lost = True
    tick = lab.run(1)
    assert farewell(lab.config, tick) == ()


def test_guests_that_are_left_alone_are_left_alone_at_the_end_too() -> None:
    lab = crowd()
    assert lab["g0"].actual < 4 * GIB - 64 * MIB
    lab["g0"].more = {"obstacle": Obstacle.IN_JOB}
    tick = lab.run(1)
    assert "g0" not in {action.name for action in farewell(lab.config, tick)}
    assert farewell(lab.config, tick)
