"""Who is moved in one tick, by how much, and why; each on the fewest guests that show it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balloond.model import Demand, Guest, Ledger, Reason, Rung, Trust
from balloond.policy.movement import Movement
from balloond.policy.pace import Move, Position, moves
from balloond.units import GIB, MIB

NOW_S = 1000.0
POOL = GIB
PLENTY = 100 * GIB  # of headroom

DEMAND = Demand(
    trust=Trust.FRESH,
    working_set=GIB,
    want=2 * GIB,
    need=GIB,
    enough=GIB + 256 * MIB,
    floor=GIB,
    guarantee=512 * MIB,
    ceiling=4 * GIB,
    margin=256 * MIB,
    in_distress=False,
    suffers=False,
    squeezed=False,
    overhead=0,
    sampled_s=NOW_S,
    memory=None,
)


def at(
    actual: int = 2 * GIB,
    *,
    entitlement: int | None = None,
    movement: Movement | None = None,
    movable: bool = True,
    reachable: bool = True,
    **more: object,
) -> Position:
    """A guest with all that it wants and is entitled to, but for what is said; `more` are fields of its Demand."""
    demand = replace(DEMAND, **{"want": actual, "need": actual, **more})  # type: ignore[arg-type]  # by name
    enough = demand.want if demand.suffers or demand.squeezed else demand.need + demand.margin
    demand = replace(demand, enough=max(demand.guarantee, enough))
    return Position(
        guest=Guest(uuid="u", name="g", maximum=4 * GIB, actual=actual),
        demand=demand,
        entitlement=demand.want if entitlement is None else entitlement,
        movement=movement or Movement(),
        movable=movable,
        reachable=reachable,
    )


def ledger(headroom: int) -> Ledger:
    return Ledger(
        total=64 * GIB,
        available=64 * GIB,
        own=0,
        reserve=GIB,
        pool=POOL,
        committed=0,
        headroom=headroom,
        guaranteed=0,
        covered=True,
    )


def tick(
    *positions: Position, headroom: int = POOL, rung: Rung = Rung.GREEN, pool: int = POOL, fits: bool = False
) -> tuple[list[tuple[int | None, Reason]], bool]:
    made, awaited = moves(positions, ledger(headroom), rung, pool=pool, fits=fits, now_s=NOW_S)
    return [(move.target, move.reason) for move in made], awaited


def moved(position: Position, **more: object) -> tuple[int | None, Reason]:
    """What becomes of one guest alone."""
    (move,), _ = tick(position, **more)  # type: ignore[arg-type]  # as in tick
    return move


def on_its_way(
    actual: int, target: int, *, reason: Reason = Reason.REFILL, progressed_s: float = NOW_S
) -> Position:
    movement = Movement(target=target, reason=reason, progressed_s=progressed_s)
    return at(actual, want=target, need=target, movement=movement)


STILL = (None, Reason.STEADY)


# --- at rest ---------------------------------------------------------------------------------------------


def test_with_the_pool_full_and_every_want_met_all_is_still() -> None:
    assert tick(at(), at(GIB)) == ([STILL, STILL], False)


@pytest.mark.parametrize(
    ("trust", "reason"),
    [
        (Trust.FRESH, Reason.STEADY),
        (Trust.NEW, Reason.SETTLING),
        (Trust.AGING, Reason.UNTRUSTED),
        (Trust.STALE, Reason.UNTRUSTED),
        (Trust.LYING, Reason.UNTRUSTED),
        (Trust.ABSENT, Reason.UNTRUSTED),
    ],
)
def test_a_guest_that_is_left_where_it_is_is_so_for_the_state_of_its_numbers(
    trust: Trust, reason: Reason
) -> None:
    assert moved(at(trust=trust)) == (None, reason)


def test_a_balloon_under_way_keeps_its_reason_and_a_stalled_one_is_stuck() -> None:
    assert moved(on_its_way(2 * GIB, 2 * GIB - 64 * MIB)) == (None, Reason.REFILL)
    assert moved(on_its_way(2 * GIB, GIB, progressed_s=NOW_S - 6), headroom=0) == (None, Reason.STUCK)
    aside = Movement(aside_until_s=NOW_S + 1)
    assert moved(at(GIB, want=3 * GIB, movement=aside)) == (None, Reason.STUCK)


# --- what was promised -----------------------------------------------------------------------------------


def poor() -> Position:
    return at(512 * MIB, guarantee=GIB, want=GIB, need=GIB)


def test_what_others_were_promised_and_lack_is_taken_even_of_what_a_guest_works_with() -> None:
    rich = at(3 * GIB, entitlement=2 * GIB)
    assert tick(at(GIB, want=2 * GIB), rich, headroom=0) == ([(None, Reason.NO_ROOM), STILL], False)
    assert tick(poor(), rich, headroom=0) == (
        [(None, Reason.NO_ROOM), (3 * GIB - 512 * MIB, Reason.DONATE)],
        True,
    )


def test_what_is_on_its_way_already_is_not_taken_again_for_a_promise() -> None:
    rich = at(3 * GIB, entitlement=2 * GIB)
    giving = on_its_way(2 * GIB, 2 * GIB - 512 * MIB, reason=Reason.DONATE)
    assert tick(poor(), rich, giving, headroom=0)[0][1] == STILL


def test_nobody_gives_what_it_was_promised_itself_nor_what_it_is_entitled_to() -> None:
    promised = at(2 * GIB, guarantee=2 * GIB - 100 * MIB, entitlement=GIB)
    assert tick(poor(), promised, headroom=0)[0][1] == (2 * GIB - 100 * MIB, Reason.DONATE)
    entitled = at(2 * GIB, entitlement=2 * GIB)
    assert tick(poor(), entitled, headroom=0)[0][1] == STILL


def test_who_waits_for_more_than_it_is_due_gives_to_who_was_promised_what_it_has() -> None:
    waiting = at(3 * GIB, want=4 * GIB, entitlement=2 * GIB, suffers=True, in_distress=True)
    assert tick(poor(), waiting, headroom=0)[0][1] == (3 * GIB - 512 * MIB, Reason.DONATE)
    assert tick(poor(), waiting, headroom=512 * MIB)[0] == [
        (GIB, Reason.GUARANTEE),
        (None, Reason.NO_ROOM),
    ], "what is promised comes before what distress asks for beyond its due"


def test_one_of_which_nothing_is_heard_is_grown_to_what_it_was_promised_and_no_further() -> None:
    silent = at(512 * MIB, want=3 * GIB, guarantee=GIB, trust=Trust.SILENT, movable=False)
    assert moved(silent, headroom=PLENTY) == (GIB, Reason.GUARANTEE)
    assert moved(at(GIB, want=3 * GIB, guarantee=GIB, trust=Trust.SILENT, movable=False)) == (
        None,
        Reason.UNTRUSTED,
    )
    assert moved(silent, headroom=0) == (GIB, Reason.GUARANTEE), "the ledger has it as its maximum already"
    full = replace(ledger(0), available=GIB + 512 * MIB - 1)
    (move,), _ = moves([silent], full, Rung.GREEN, pool=0, fits=False, now_s=NOW_S)
    assert move == Move(target=None, reason=Reason.NO_ROOM)
    obstructed = at(512 * MIB, guarantee=GIB, movable=False, reachable=False)
    assert moved(obstructed, headroom=PLENTY)[0] is None


ON_TRIAL = Movement(aside_s=240.0)


def test_one_on_trial_is_asked_for_no_more_than_a_trial_and_for_that_much_at_least_eight_mebibytes() -> None:
    sick = at(want=3 * GIB, movement=ON_TRIAL, suffers=True, in_distress=True)
    assert moved(sick, headroom=PLENTY) == (2 * GIB + 64 * MIB, Reason.DISTRESS)
    wide = at(want=4 * GIB, margin=1 * GIB, entitlement=2 * GIB + 8 * MIB, movement=ON_TRIAL)
    assert moved(wide, headroom=PLENTY) == (2 * GIB + 8 * MIB, Reason.NEED)
    rich = at(2 * GIB, need=GIB, want=2 * GIB, entitlement=2 * GIB - 9 * MIB, movement=ON_TRIAL)
    assert moved(rich, headroom=0) == (2 * GIB - 9 * MIB, Reason.REFILL)
    rich = at(2 * GIB, need=GIB, want=2 * GIB, entitlement=2 * GIB - 8 * MIB, movement=ON_TRIAL)
    assert moved(rich, headroom=0) == STILL


def test_what_one_is_tried_with_stands_while_it_helps_itself() -> None:
    trial = replace(ON_TRIAL, target=2 * GIB - 60 * MIB, progressed_s=NOW_S, reason=Reason.SHORTAGE)
    more: dict[str, Any] = {"want": 3 * GIB, "suffers": True, "entitlement": 2 * GIB - 20 * MIB}
    assert moved(at(movement=trial, **more), headroom=0, rung=Rung.RED) == (None, Reason.SHORTAGE)
    assert moved(at(movement=replace(trial, aside_s=60.0), **more), headroom=0, rung=Rung.RED) == (
        2 * GIB - 20 * MIB,
        Reason.DISTRESS,
    )


def test_no_second_trial_begins_before_the_first_has_ended() -> None:
    grows = replace(ON_TRIAL, target=2 * GIB + 20 * MIB, progressed_s=NOW_S, reason=Reason.DISTRESS)
    sick = at(want=3 * GIB, movement=grows, suffers=True, in_distress=True)
    assert moved(sick) == (None, Reason.DISTRESS)
    gives = replace(ON_TRIAL, target=2 * GIB - 20 * MIB, progressed_s=NOW_S, reason=Reason.REFILL)
    rich = at(2 * GIB, need=GIB, want=2 * GIB, entitlement=2 * GIB - 64 * MIB, movement=gives)
    assert moved(rich, headroom=0) == (None, Reason.REFILL)


def test_for_one_on_trial_others_give_the_smallest_move_and_no_more() -> None:
    donor = at(3 * GIB, need=GIB, want=GIB, entitlement=GIB)
    for movement, headroom, given in (
        (Movement(), 8 * MIB, 1016 * MIB),
        (ON_TRIAL, 8 * MIB, 0),
        (ON_TRIAL, 0, donor.band),
    ):
        sick = at(want=3 * GIB, movement=movement, suffers=True, in_distress=True)
        made, _ = moves([sick, donor], ledger(headroom), Rung.GREEN, pool=0, fits=False, now_s=NOW_S)
        assert 3 * GIB - (made[1].target or 3 * GIB) == given


# --- growth for need -------------------------------------------------------------------------------------


def test_a_guest_grows_to_what_it_wants_when_a_quarter_of_its_margin_is_used() -> None:
    assert moved(at(want=2 * GIB + 64 * MIB)) == (2 * GIB + 64 * MIB, Reason.NEED)
    assert moved(at(want=2 * GIB + 64 * MIB - 1)) == STILL
    wide = 2 * GIB + int(0.01 * 4 * GIB)  # with a small margin a hundredth of the guest is the least
    assert moved(at(want=wide, margin=8 * MIB)) == (wide, Reason.NEED)
    assert moved(at(want=wide - 1, margin=8 * MIB)) == STILL


def test_what_a_guest_wants_from_an_old_peak_alone_is_for_the_surplus() -> None:
    assert moved(at(want=3 * GIB, need=2 * GIB - 256 * MIB)) == STILL
    assert moved(at(want=3 * GIB, need=2 * GIB - 256 * MIB + 1), headroom=PLENTY) == (3 * GIB, Reason.NEED)


def test_nobody_grows_above_its_entitlement_guarantee_or_ceiling() -> None:
    greedy = at(want=4 * GIB, need=4 * GIB, entitlement=3 * GIB)
    assert moved(greedy, headroom=PLENTY) == (3 * GIB, Reason.NEED)
    promised = at(want=4 * GIB, need=4 * GIB, entitlement=0, guarantee=int(2.5 * GIB))
    assert moved(promised, headroom=PLENTY) == (int(2.5 * GIB), Reason.GUARANTEE)
    low = at(want=4 * GIB, need=4 * GIB, entitlement=4 * GIB, ceiling=3 * GIB)
    assert moved(low, headroom=PLENTY) == (3 * GIB, Reason.NEED)


def test_a_broken_guarantee_is_mended_from_eight_mebibytes_on() -> None:
    def short_of(lack: int) -> Position:
        return at(2 * GIB, guarantee=2 * GIB + lack, want=2 * GIB + lack, need=GIB)

    assert moved(short_of(8 * MIB)) == (2 * GIB + 8 * MIB, Reason.GUARANTEE)
    assert moved(short_of(8 * MIB - 1)) == STILL


def test_distress_is_met_beyond_the_entitlement_but_not_at_red() -> None:
    sick = at(want=int(2.5 * GIB), entitlement=2 * GIB + 100 * MIB, in_distress=True, suffers=True)
    assert moved(sick, headroom=PLENTY) == (int(2.5 * GIB), Reason.DISTRESS)
    assert moved(sick, headroom=PLENTY, rung=Rung.ORANGE) == (int(2.5 * GIB), Reason.DISTRESS)
    assert moved(sick, headroom=PLENTY, rung=Rung.RED) == (2 * GIB + 100 * MIB, Reason.DISTRESS)


def test_who_suffered_lately_and_suffers_no_more_has_no_claim_above_its_entitlement() -> None:
    convalescent = at(want=3 * GIB, entitlement=2 * GIB + 100 * MIB, in_distress=True)
    assert moved(convalescent, headroom=PLENTY)[0] == 2 * GIB + 100 * MIB


GAVE = Movement(shrunk_s=NOW_S - 119.9)


def test_who_gave_lately_gets_nothing_for_its_margin_while_it_works_with_no_more_than_then() -> None:
    band = int(0.01 * 4 * GIB)
    gave = replace(GAVE, worked_with=GIB)
    assert moved(at(want=3 * GIB, need=GIB + band, movement=gave, margin=2 * GIB)) == STILL
    more = at(want=3 * GIB, need=GIB + band + 1, movement=gave, margin=2 * GIB)
    assert moved(more) == (3 * GIB, Reason.NEED)
    wanting = at(want=3 * GIB, need=GIB, movement=gave, margin=2 * GIB)
    races = replace(wanting.demand, races=True)
    assert moved(replace(wanting, demand=races)) == (3 * GIB, Reason.NEED)
    long_ago = replace(wanting, movement=replace(gave, shrunk_s=NOW_S - 120))
    assert moved(long_ago) == (3 * GIB, Reason.NEED)
    assert moved(replace(long_ago, demand=replace(races, bears_surprise=True))) == STILL
    grown_since = replace(wanting, movement=replace(gave, grown_s=NOW_S - 2))
    assert moved(grown_since) == (3 * GIB, Reason.NEED)
    for urgent in (
        replace(wanting.demand, suffers=True),
        replace(wanting.demand, squeezed=True),
        replace(wanting.demand, guarantee=3 * GIB),
    ):
        assert moved(replace(wanting, demand=urgent), headroom=PLENTY)[0] == 3 * GIB


def test_who_gave_gets_nothing_from_the_surplus_for_two_minutes_even_where_everything_fits() -> None:
    entitled = at(2 * GIB, want=GIB, entitlement=4 * GIB, movement=GAVE)
    assert moved(entitled, headroom=2 * POOL) == STILL
    assert moved(entitled, headroom=2 * POOL, fits=True) == STILL
    long_ago = replace(entitled, movement=Movement(shrunk_s=NOW_S - 120))
    assert moved(long_ago, headroom=2 * POOL, fits=True) == (4 * GIB, Reason.FITS)


def test_who_gave_is_grown_again_by_two_bands_at_least_unless_it_suffers() -> None:
    def lacking(lack: int, *, squeezed: bool = False, suffers: bool = False) -> tuple[int | None, Reason]:
        position = at(want=2 * GIB + lack, need=GIB, movement=GAVE, squeezed=squeezed, suffers=suffers)
        return moved(position, headroom=PLENTY)

    turn = 2 * int(0.01 * 4 * GIB)
    assert lacking(turn, squeezed=True) == (2 * GIB + turn, Reason.NEED)
    assert lacking(turn - 1, squeezed=True) == STILL
    assert lacking(8 * MIB, suffers=True) == (2 * GIB + 8 * MIB, Reason.DISTRESS)
    grown_since = Movement(shrunk_s=NOW_S - 59, grown_s=NOW_S - 58)
    squeezed = at(want=2 * GIB + 8 * MIB, need=GIB, squeezed=True, movement=grown_since)
    assert moved(squeezed) == (2 * GIB + 8 * MIB, Reason.NEED)


def test_a_large_guest_that_is_small_and_squeezed_is_grown_again_by_a_part_of_what_it_has() -> None:
    small = {"actual": 512 * MIB, "need": 512 * MIB, "guarantee": 256 * MIB, "squeezed": True}
    turn = int(0.05 * 512 * MIB)
    lacking: dict[str, Any] = {**small, "movement": GAVE}
    assert moved(at(want=512 * MIB + turn, **lacking), headroom=PLENTY) == (512 * MIB + turn, Reason.NEED)
    assert moved(at(want=512 * MIB + turn - 1, **lacking), headroom=PLENTY) == STILL


def test_who_lacks_but_the_last_of_its_ceiling_does_not_wait_for_ever() -> None:
    almost = at(4 * GIB - 9 * MIB, want=4 * GIB, need=4 * GIB - 9 * MIB, movement=GAVE, squeezed=True)
    assert moved(almost, headroom=PLENTY) == (4 * GIB, Reason.NEED)


def test_who_starves_beside_memory_that_the_pool_can_spare_waits_for_no_band() -> None:
    lacking: dict[str, Any] = {"want": 2 * GIB + 9 * MIB, "need": GIB, "movement": GAVE, "squeezed": True}
    low = int(0.6 * POOL) + 1
    assert moved(at(**lacking), headroom=PLENTY) == STILL
    assert moved(at(starves=True, **lacking), headroom=low + 9 * MIB) == (2 * GIB + 9 * MIB, Reason.NEED)
    assert moved(at(starves=True, **lacking), headroom=low + 9 * MIB - 1) == STILL
    assert moved(at(starves=True, **{**lacking, "want": 2 * GIB + 7 * MIB}), headroom=PLENTY) == STILL


def test_where_everything_fits_all_that_is_free_is_to_spare() -> None:
    lacking = at(want=4 * GIB, need=2 * GIB + 64 * MIB)
    assert moved(lacking, headroom=PLENTY, pool=0, fits=True) == (4 * GIB, Reason.NEED)


def test_one_below_its_guarantee_waits_for_no_band() -> None:
    more: dict[str, Any] = {"want": 2 * GIB, "need": GIB, "guarantee": 2 * GIB, "movement": GAVE}
    assert moved(at(2 * GIB - 8 * MIB, **more), headroom=PLENTY) == (2 * GIB, Reason.GUARANTEE)


def test_what_one_silent_guest_is_given_is_not_there_for_another() -> None:
    silent = at(GIB, want=2 * GIB, guarantee=2 * GIB, trust=Trust.SILENT, movable=False)
    there = replace(ledger(GIB), available=2 * GIB)
    lacking = at(GIB, want=3 * GIB, need=2 * GIB, entitlement=2 * GIB)
    sick = replace(lacking, demand=replace(lacking.demand, suffers=True, in_distress=True))
    for one, other in ((silent, silent), (silent, lacking), (sick, silent)):
        made, _ = moves((one, other), there, Rung.GREEN, pool=POOL, fits=False, now_s=NOW_S)
        assert [move.target for move in made] == [2 * GIB, None]


def test_one_that_is_silent_is_grown_for_its_guarantee_whatever_it_suffered() -> None:
    silent = at(GIB, want=2 * GIB, guarantee=2 * GIB, trust=Trust.SILENT, movable=False, suffers=True)
    assert moved(silent) == (2 * GIB, Reason.GUARANTEE)


def test_beyond_what_is_enough_one_is_grown_only_by_what_the_pool_has_to_spare() -> None:
    lacking = at(want=4 * GIB, need=2 * GIB + 64 * MIB)
    low = int(0.6 * POOL) + 1
    assert moved(lacking, headroom=PLENTY) == (4 * GIB, Reason.NEED)
    assert moved(lacking, headroom=low + GIB) == (3 * GIB, Reason.NEED)
    assert moved(lacking, headroom=low + 64 * MIB) == (lacking.demand.enough, Reason.NEED)


def test_who_bears_surprises_is_grown_to_what_is_enough_and_beyond_only_where_everything_fits() -> None:
    lacking = at(want=4 * GIB, need=2 * GIB + 64 * MIB, bears_surprise=True)
    assert moved(lacking, headroom=PLENTY) == (lacking.demand.enough, Reason.NEED)
    assert moved(lacking, headroom=PLENTY, pool=0, fits=True) == (4 * GIB, Reason.NEED)


def test_who_gave_and_is_in_no_hurry_waits_until_it_lacks_two_bands_whatever_its_margin() -> None:
    turn = 2 * int(0.01 * 4 * GIB)
    gave = at(want=2 * GIB + turn, need=2 * GIB, margin=turn, movement=GAVE)
    assert moved(gave, headroom=PLENTY) == (2 * GIB + turn, Reason.NEED)
    less = at(want=2 * GIB + turn - 1, need=2 * GIB, margin=turn, movement=GAVE)
    assert moved(less, headroom=PLENTY) == STILL
    assert moved(replace(less, demand=replace(less.demand, races=True)))[1] is Reason.NEED
    unheard = replace(less, demand=replace(less.demand, trust=Trust.STALE))
    assert moved(unheard)[1] is Reason.NEED, "it can't say that it suffers"


def test_one_that_races_grows_by_each_band_and_not_only_by_quarters_of_its_margin() -> None:
    band = int(0.01 * 4 * GIB)
    lacking = at(want=2 * GIB + band, need=2 * GIB, races=True)
    assert moved(lacking) == (2 * GIB + band, Reason.NEED)
    assert moved(replace(lacking, demand=replace(lacking.demand, races=False))) == STILL
    assert moved(at(want=2 * GIB + band - 1, need=2 * GIB, races=True)) == STILL


def test_the_loop_is_to_look_again_soon_while_somebody_races_whose_balloon_may_be_used() -> None:
    def hurry(*positions: Position) -> bool:
        return moves(positions, ledger(PLENTY), Rung.GREEN, pool=POOL, fits=False, now_s=NOW_S)[1]

    assert hurry(at(), at(races=True)) is True
    assert hurry(at(), at()) is False
    assert hurry(at(races=True, movable=False)) is False


def test_a_squeezed_guest_is_urgent_too() -> None:
    squeezed = at(want=2 * GIB + 8 * MIB, need=GIB, squeezed=True)
    assert moved(squeezed) == (2 * GIB + 8 * MIB, Reason.NEED)
    assert moved(at(want=2 * GIB + 8 * MIB, need=GIB)) == STILL


def test_the_last_quarter_of_the_pool_is_only_for_what_guests_are_entitled_to() -> None:
    sick = at(want=3 * GIB, entitlement=2 * GIB, suffers=True)
    assert moved(sick, headroom=300 * MIB) == (2 * GIB + 44 * MIB, Reason.DISTRESS)
    entitled = replace(sick, entitlement=2 * GIB + 100 * MIB)
    assert moved(entitled, headroom=300 * MIB) == (2 * GIB + 100 * MIB, Reason.DISTRESS)
    owed = at(want=3 * GIB, need=3 * GIB)
    assert moved(owed, headroom=300 * MIB) == (2 * GIB + 300 * MIB, Reason.NEED)
    promised = at(want=3 * GIB, entitlement=0, guarantee=2 * GIB + 200 * MIB, suffers=True)
    assert moved(promised, headroom=300 * MIB) == (2 * GIB + 200 * MIB, Reason.DISTRESS)


def test_growth_is_never_more_than_the_headroom_and_without_any_it_waits() -> None:
    hungry = at(want=3 * GIB, need=3 * GIB)
    assert moved(hungry, headroom=8 * MIB) == (2 * GIB + 8 * MIB, Reason.NEED)
    assert moved(hungry, headroom=8 * MIB - 1) == (None, Reason.NO_ROOM)
    assert moved(hungry, headroom=-GIB) == (None, Reason.NO_ROOM)


def test_distress_comes_first_then_broken_guarantees_then_whoever_lacks_most_of_its_size() -> None:
    sick = at(want=2 * GIB + 200 * MIB, in_distress=True, suffers=True)
    squeezed = at(want=2 * GIB + 200 * MIB, squeezed=True)
    poor = at(GIB, want=GIB + 200 * MIB, guarantee=GIB + 200 * MIB, need=GIB)
    most, least = at(want=2 * GIB + 300 * MIB, margin=300 * MIB), at(want=2 * GIB + 200 * MIB)
    everybody = (least, most, poor, squeezed, sick)
    room = 200 * MIB
    need, waits = Reason.NEED, (None, Reason.NO_ROOM)
    full = 2 * GIB + 200 * MIB
    assert tick(*everybody, headroom=room)[0] == [waits, waits, waits, (full, need), waits]
    assert tick(*everybody, headroom=2 * room)[0][2:] == [waits, (full, need), (full, Reason.DISTRESS)]
    assert tick(*everybody, headroom=3 * room)[0][1:3] == [waits, (GIB + 200 * MIB, Reason.GUARANTEE)]
    assert tick(*everybody, headroom=3 * room + 300 * MIB)[0][:2] == [waits, (2 * GIB + 300 * MIB, need)]


def test_who_lacks_most_is_told_by_its_own_size() -> None:
    large = at(want=2 * GIB + 300 * MIB, ceiling=4 * GIB)
    small = at(GIB, want=GIB + 200 * MIB, ceiling=2 * GIB)
    assert tick(large, small, headroom=200 * MIB)[0] == [
        (None, Reason.NO_ROOM),
        (GIB + 200 * MIB, Reason.NEED),
    ]


def test_what_a_guest_has_not_yet_given_it_may_keep_without_a_grant() -> None:
    giving = Movement(target=GIB, progressed_s=NOW_S)
    turned = at(2 * GIB, want=2 * GIB, movement=giving)
    assert moved(turned, headroom=0) == (2 * GIB, Reason.NEED)
    more = at(2 * GIB, want=3 * GIB, need=3 * GIB, movement=giving)
    assert moved(more, headroom=GIB // 2) == (int(2.5 * GIB), Reason.NEED)
    assert moved(more, headroom=0) == (2 * GIB, Reason.NEED)


def test_what_a_guest_is_about_to_take_already_is_not_granted_twice() -> None:
    taking = Movement(target=3 * GIB, reason=Reason.NEED, progressed_s=NOW_S)
    assert moved(at(2 * GIB, want=3 * GIB, need=3 * GIB, movement=taking)) == (None, Reason.NEED)
    more = at(2 * GIB, want=int(3.5 * GIB), need=int(3.5 * GIB), movement=taking)
    assert moved(more, headroom=GIB) == (int(3.5 * GIB), Reason.NEED)
    assert moved(more, headroom=GIB // 4) == (int(3.25 * GIB), Reason.NEED)


# --- shrinking -------------------------------------------------------------------------------------------


def rich(surplus: int, actual: int = 2 * GIB, **more: object) -> Position:
    """A guest with so much more than it is entitled to, and needs."""
    return at(actual, want=actual - surplus, need=actual - surplus, **more)  # type: ignore[arg-type]  # as in at


def test_the_pool_is_refilled_when_less_than_three_fifths_of_it_are_left() -> None:
    assert tick(rich(GIB), headroom=int(0.6 * POOL) + 1) == ([STILL], False)
    low = int(0.6 * POOL) - 1
    step = int(0.1 * 2 * GIB)
    assert tick(rich(GIB), headroom=low) == ([(2 * GIB - step, Reason.REFILL)], False)


def test_the_pool_is_refilled_to_its_size_by_those_with_most_to_spare() -> None:
    low = POOL // 2
    donors = (rich(200 * MIB, 3 * GIB), rich(GIB, 3 * GIB), rich(600 * MIB, 3 * GIB))
    step = int(0.1 * 3 * GIB)
    assert tick(*donors, headroom=low)[0] == [
        STILL,
        (3 * GIB - step, Reason.REFILL),
        (3 * GIB - (POOL - low - step), Reason.REFILL),
    ]
    assert tick(donors[0], headroom=low)[0] == [(3 * GIB - 200 * MIB, Reason.REFILL)]


def test_nobody_is_shrunk_below_its_entitlement_or_its_need() -> None:
    assert moved(rich(100 * MIB), headroom=0) == (2 * GIB - 100 * MIB, Reason.REFILL)
    needy = at(want=GIB, need=2 * GIB - 65 * MIB)
    assert moved(needy, headroom=0) == (2 * GIB - 65 * MIB, Reason.REFILL)
    assert moved(at(want=GIB, need=2 * GIB), headroom=0) == STILL


def test_a_surplus_within_the_band_is_left_alone() -> None:
    quarter = 64 * MIB  # of its margin, which for the pool alone must be more than it needs
    assert moved(rich(quarter), headroom=0) == STILL
    assert moved(rich(quarter + 1), headroom=0) == (2 * GIB - quarter - 1, Reason.REFILL)
    band = int(0.01 * 4 * GIB)
    assert moved(rich(band), headroom=0, rung=Rung.ORANGE) == STILL
    assert moved(rich(band + 1), headroom=0, rung=Rung.ORANGE) == (2 * GIB - band - 1, Reason.SHORTAGE)
    small = rich(8 * MIB, GIB // 2, ceiling=GIB // 2)
    assert moved(small, headroom=0) == STILL


def test_a_small_want_of_the_pool_still_takes_a_whole_band() -> None:
    band = int(0.01 * 4 * GIB)
    pool = 20 * MIB
    assert moved(rich(GIB), headroom=10 * MIB, pool=pool) == (2 * GIB - band, Reason.REFILL)


def test_a_step_is_a_tenth_at_first_and_a_quarter_or_a_gibibyte_in_a_hurry() -> None:
    donor = rich(3 * GIB, 4 * GIB)
    assert moved(donor, headroom=0, rung=Rung.GREEN) == (4 * GIB - int(0.4 * GIB), Reason.REFILL)
    large = rich(6 * GIB, 8 * GIB, ceiling=8 * GIB)
    pool = 16 * GIB
    assert moved(large, headroom=0, rung=Rung.ORANGE, pool=pool) == (6 * GIB, Reason.SHORTAGE)
    assert moved(rich(2 * GIB, 3 * GIB), headroom=0, rung=Rung.ORANGE, pool=pool) == (
        2 * GIB,
        Reason.SHORTAGE,
    )
    tiny = rich(300 * MIB, 500 * MIB)
    assert moved(tiny, headroom=0) == (500 * MIB - 64 * MIB, Reason.REFILL)


def test_a_yellow_host_with_hardly_any_headroom_is_in_a_hurry_too() -> None:
    donor, low = rich(GIB), int(0.3 * POOL)
    gentle, fast = (2 * GIB - int(0.2 * GIB), Reason.REFILL), (GIB + low - 1, Reason.REFILL)
    assert moved(donor, headroom=low - 1, rung=Rung.YELLOW) == fast
    assert moved(donor, headroom=low + 1, rung=Rung.YELLOW) == gentle
    assert moved(donor, headroom=low - 1, rung=Rung.GREEN) == gentle


def test_others_give_to_whoever_waits_and_the_loop_is_told_to_look_again_soon() -> None:
    hungry = at(GIB, want=2 * GIB, need=2 * GIB)
    donor = rich(2 * GIB, 3 * GIB)
    assert tick(hungry, donor, headroom=0, pool=0) == (
        [(None, Reason.NO_ROOM), (2 * GIB, Reason.DONATE)],
        True,
    )
    assert tick(hungry, headroom=0, pool=0) == ([(None, Reason.NO_ROOM)], False)
    coming = replace(on_its_way(3 * GIB, 2 * GIB), movable=False)
    assert tick(hungry, coming, headroom=0, pool=0)[1] is True
    assert tick(donor, headroom=0)[1] is False


def test_eight_mebibytes_are_enough_to_give_when_somebody_waits() -> None:
    hungry = at(GIB, want=2 * GIB, need=2 * GIB)
    assert tick(hungry, rich(8 * MIB + 1), headroom=0)[0][1] == (2 * GIB - 8 * MIB - 1, Reason.DONATE)
    assert tick(hungry, rich(8 * MIB), headroom=0)[0][1] == STILL


def test_what_is_on_its_way_back_is_not_asked_for_again() -> None:
    coming = on_its_way(3 * GIB, 2 * GIB)
    assert tick(coming, rich(GIB), headroom=0)[0] == [(None, Reason.REFILL), STILL]
    stalled = on_its_way(3 * GIB, 2 * GIB, progressed_s=NOW_S - 6)
    assert tick(stalled, rich(GIB), headroom=0)[0][1] == (2 * GIB - int(0.2 * GIB), Reason.REFILL)


def test_a_balloon_under_way_is_taken_further_by_what_is_left_of_one_step() -> None:
    giving = Movement(target=2 * GIB - 100 * MIB, progressed_s=NOW_S, changed_s=0.0)
    step = int(0.1 * 2 * GIB)
    assert moved(rich(GIB, movement=giving), headroom=0) == (2 * GIB - step, Reason.REFILL)
    there = Movement(target=2 * GIB - step, progressed_s=NOW_S, reason=Reason.REFILL, changed_s=0.0)
    assert moved(rich(GIB, movement=there), headroom=0) == (None, Reason.REFILL)


@pytest.mark.parametrize("trust", [trust for trust in Trust if trust is not Trust.FRESH])
def test_nobody_untrusted_shrinks_however_short_the_host_is(trust: Trust) -> None:
    assert moved(rich(GIB, trust=trust), headroom=-GIB, rung=Rung.RED)[0] is None


def test_nobody_shrinks_who_has_not_spoken_since_it_was_last_moved() -> None:
    asked = Movement(changed_s=NOW_S)
    assert moved(rich(GIB, movement=asked), headroom=0)[0] is None
    assert moved(rich(GIB, movement=asked, sampled_s=NOW_S + 1), headroom=0)[0] is not None
    assert moved(rich(GIB, sampled_s=None), headroom=0)[0] is None


def test_who_suffered_lately_gives_to_the_host_in_need_and_not_for_the_pool_alone() -> None:
    convalescent = rich(GIB, in_distress=True)
    assert moved(convalescent, headroom=0)[0] is None
    assert moved(convalescent, headroom=0, rung=Rung.ORANGE)[1] is Reason.SHORTAGE
    hungry = at(GIB, want=2 * GIB, need=2 * GIB)
    assert tick(hungry, convalescent, headroom=0)[0][1][1] is Reason.DONATE


def test_who_has_just_been_grown_gives_nothing_for_the_pool_for_a_minute() -> None:
    grown, long_ago = Movement(grown_s=NOW_S - 59), Movement(grown_s=NOW_S - 60)
    assert moved(rich(GIB, movement=grown), headroom=0)[0] is None
    assert moved(rich(GIB, movement=long_ago), headroom=0)[0] is not None
    assert moved(rich(GIB, movement=grown), headroom=0, rung=Rung.ORANGE)[0] is not None
    sick = rich(GIB, movement=grown, in_distress=True)
    assert moved(sick, headroom=0, rung=Rung.ORANGE)[0] is None
    assert moved(sick, headroom=0, rung=Rung.RED)[0] is not None


def test_who_was_grown_when_it_was_last_moved_gives_to_others_no_page_that_its_margin_lost_since() -> None:
    quarter, waiting = 192 * MIB, at(want=3 * GIB, need=3 * GIB)

    def given(surplus: int, *, margin: int = 4 * quarter, rung: Rung = Rung.GREEN, **moved: float) -> bool:
        donor = rich(surplus, movement=Movement(**moved), margin=margin)  # type: ignore[arg-type]  # times, by name
        return tick(waiting, donor, headroom=0, rung=rung)[0][1][0] is not None

    assert not given(quarter, grown_s=NOW_S - 900)
    assert given(quarter + 1, grown_s=NOW_S - 900)
    assert not given(4 * int(0.01 * 4 * GIB), grown_s=NOW_S - 900, margin=0), "four bands at least"
    assert given(4 * int(0.01 * 4 * GIB) + 1, grown_s=NOW_S - 900, margin=0)
    for urgent in ("suffers", "squeezed", "races"):
        waiting = at(want=3 * GIB, need=3 * GIB, **{urgent: True})  # type: ignore[arg-type]  # by name
        assert not given(2 * int(0.01 * 4 * GIB), grown_s=NOW_S - 900, margin=0), "two bands at least"
        assert given(2 * int(0.01 * 4 * GIB) + 1, grown_s=NOW_S - 900, margin=0)
    waiting = at(want=3 * GIB, need=3 * GIB)
    assert given(quarter, grown_s=NOW_S - 900, shrunk_s=NOW_S - 800)
    assert given(quarter, grown_s=NOW_S - 59, rung=Rung.RED)


def test_to_who_starves_neighbours_give_what_their_dead_bands_would_keep_together() -> None:
    within = 60 * MIB  # two bands are 82
    donors = [rich(within, movement=Movement(grown_s=NOW_S - 900), margin=0) for _ in range(3)]

    def given(**waiting: Any) -> list[bool]:
        lacking = at(**{"want": 3 * GIB, "need": 3 * GIB, "squeezed": True, **waiting})
        return [target is not None for target, _ in tick(lacking, *donors, headroom=0)[0][1:]]

    assert given() == [False, False, False]
    assert given(starves=True) == [True, True, True]
    assert given(starves=True, want=2 * GIB + 2 * within) == [True, True, False], "as many as are needed"
    assert given(starves=True, entitlement=2 * GIB + within) == [True, False, False], "for what it is due"
    assert given(starves=True, entitlement=2 * GIB, suffers=True) == [False, False, False]
    assert given(starves=True, movement=ON_TRIAL) == [False, False, False], "nor for more than a trial"


def test_what_comes_already_to_who_starves_is_not_taken_again() -> None:
    lacking = at(want=2 * GIB + 300 * MIB, need=3 * GIB, squeezed=True, starves=True)
    coming = on_its_way(3 * GIB, 3 * GIB - 300 * MIB)
    donor = rich(60 * MIB, movement=Movement(grown_s=NOW_S - 900), margin=0)
    assert tick(lacking, coming, donor, headroom=0, pool=0)[0][2] == STILL


def test_who_was_grown_when_it_was_last_moved_gives_to_the_pool_only_what_it_has_beyond_a_whole_margin() -> (
    None
):
    grown = Movement(grown_s=NOW_S - 900)
    assert moved(rich(GIB, margin=GIB, movement=grown), headroom=0) == STILL
    assert moved(rich(GIB + 1, margin=GIB, movement=grown), headroom=0)[1] is Reason.REFILL


def test_no_dead_band_keeps_from_an_uncovered_ledger_what_a_guest_has_too_much() -> None:
    fat = rich(50 * MIB, movement=Movement(grown_s=NOW_S - 900), margin=GIB)
    assert moved(fat, headroom=0) == STILL
    assert moved(fat, headroom=-64 * MIB)[1] is Reason.REFILL
    assert moved(rich(9 * MIB, margin=GIB), headroom=-64 * MIB)[1] is Reason.REFILL
    assert moved(rich(8 * MIB, margin=GIB), headroom=-64 * MIB) == STILL, "but for the smallest"


def test_a_guest_that_gives_nothing_now_leaves_the_others_to_give() -> None:
    grown = rich(GIB, movement=Movement(grown_s=NOW_S))
    silent = rich(GIB, trust=Trust.AGING)
    level = rich(0)
    assert [move[1] for move in tick(grown, silent, level, rich(GIB), headroom=0)[0]] == [
        Reason.STEADY,
        Reason.UNTRUSTED,
        Reason.STEADY,
        Reason.REFILL,
    ]


def test_who_may_not_be_moved_is_not_and_gives_nothing() -> None:
    assert moved(rich(GIB, movable=False), headroom=0) == STILL
    assert moved(at(want=3 * GIB, need=3 * GIB, movable=False)) == STILL


# --- ceilings and surplus --------------------------------------------------------------------------------


def test_a_guest_above_its_ceiling_is_brought_down_step_by_step() -> None:
    above = at(3 * GIB, ceiling=2 * GIB, want=2 * GIB, need=GIB)
    assert moved(above) == (3 * GIB - int(0.1 * 3 * GIB), Reason.CEILING)
    near = at(2 * GIB + 100 * MIB, ceiling=2 * GIB, want=2 * GIB, need=GIB)
    assert moved(near) == (2 * GIB, Reason.CEILING)
    band = int(0.01 * 2 * GIB)
    assert moved(at(2 * GIB + band, ceiling=2 * GIB, want=2 * GIB, need=GIB)) == STILL
    assert moved(at(2 * GIB + band + 1, ceiling=2 * GIB, want=2 * GIB, need=GIB)) == (2 * GIB, Reason.CEILING)
    assert moved(replace(above, demand=replace(above.demand, trust=Trust.AGING))) == (None, Reason.UNTRUSTED)
    sick = replace(above, demand=replace(above.demand, in_distress=True))
    assert moved(sick)[1] is Reason.CEILING


def test_while_all_maxima_fit_everybody_gets_its_own() -> None:
    low, high = at(GIB, entitlement=4 * GIB), at(3 * GIB, entitlement=4 * GIB)
    assert tick(low, high, headroom=PLENTY, fits=True)[0] == [(4 * GIB, Reason.FITS), (4 * GIB, Reason.FITS)]
    assert tick(low, high, headroom=3 * GIB + 500 * MIB, fits=True)[0] == [
        (4 * GIB, Reason.FITS),
        (3 * GIB + 500 * MIB, Reason.FITS),
    ]
    assert tick(low, high, headroom=2 * GIB, fits=True)[0] == [(3 * GIB, Reason.FITS), STILL]


def test_what_is_beyond_one_and_a_half_pools_is_given_away_by_entitlement() -> None:
    entitled = at(2 * GIB, entitlement=4 * GIB)
    assert moved(entitled, headroom=int(1.5 * POOL)) == STILL
    assert moved(entitled, headroom=int(1.5 * POOL) + 1) == (2 * GIB + POOL // 2 + 1, Reason.SURPLUS)
    assert moved(entitled, headroom=2 * POOL, rung=Rung.YELLOW) == (2 * GIB + POOL, Reason.SURPLUS)
    assert moved(entitled, headroom=2 * POOL, rung=Rung.ORANGE) == STILL


def test_a_surplus_smaller_than_the_band_is_not_handed_out_unless_it_is_all_that_lacks() -> None:
    band = int(0.01 * 4 * GIB)
    far = at(2 * GIB, entitlement=4 * GIB)
    assert tick(far, headroom=band - 1, fits=True)[0] == [STILL]
    assert tick(far, headroom=band, fits=True)[0] == [(2 * GIB + band, Reason.FITS)]
    near = at(2 * GIB, entitlement=2 * GIB + MIB)
    assert tick(near, headroom=PLENTY, fits=True)[0] == [(2 * GIB + MIB, Reason.FITS)]
    assert tick(far, near, headroom=band - 1, fits=True)[0] == [STILL, (2 * GIB + MIB, Reason.FITS)]


@pytest.mark.parametrize("trust", Trust)
def test_surplus_is_for_all_but_those_of_whom_nothing_is_heard(trust: Trust) -> None:
    given = moved(at(2 * GIB, entitlement=4 * GIB, trust=trust), headroom=PLENTY, fits=True)
    assert (given[1] is Reason.FITS) == (trust not in (Trust.SILENT, Trust.ABSENT))


def test_what_was_granted_for_need_is_not_handed_out_again() -> None:
    hungry = at(GIB, want=2 * GIB, need=2 * GIB, entitlement=4 * GIB)
    other = at(2 * GIB, entitlement=4 * GIB)
    assert tick(hungry, other, headroom=2 * GIB, fits=True)[0] == [
        (2 * GIB, Reason.NEED),
        (3 * GIB, Reason.FITS),
    ]


def test_a_move_is_said_as_a_target_and_a_reason() -> None:
    made, _ = moves((at(),), ledger(POOL), Rung.GREEN, pool=POOL, fits=False, now_s=NOW_S)
    assert made == (Move(target=None, reason=Reason.STEADY),)
