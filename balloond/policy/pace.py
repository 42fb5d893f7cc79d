"""How fast may we move, and whom?

Allocation says what everybody is entitled to; here it is said what is done about it now. Little is moved: nobody
is shrunk unless somebody needs the memory or the pool must be refilled, and growth waits for memory that is free.
Nobody untrusted shrinks, no step is too long, tiny moves are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from balloond.model import Demand, Guest, Ledger, Reason, Rung, Trust
from balloond.policy.ladder import CLEAR, SHARES_AVAILABLE
from balloond.policy.movement import Movement, within_trial
from balloond.units import GIB, MIB
from balloond.value import value

POOL_LOW: Final = 0.6
POOL_HIGH: Final = 1.5
"""The pool is refilled when it falls below the first share of what is to be kept of it now, and given away above
the second of all that it should be: between the two nothing moves, which keeps guests from flipping direction.
Given away above what is kept now, memory came and went as wants were forgotten (simulator, seed 283)."""

BAND: Final = 0.01
BAND_LEAST: Final = 8 * MIB
"""Moves smaller than this share of a guest are dropped."""

TURN_BANDS: Final = 2
TURN_BANDS_AT_EASE: Final = 4
TURN_SHARE: Final = 0.05
"""A guest that gave is grown again by so many bands at least, or by this share of what it has, unless it suffers
or races: on a crowded host guests were seen to give and take a thousandth of their size with every look
(simulator, seeds 1835, 1885), and bands alone let a large guest that was small starve beside free memory (seed
100951). And one that was grown gives by so many bands, but where something is broken; by the second number where
nobody waits for it who suffers, is squeezed or races: a twentieth of all turns on scarce days were for less."""

MARGIN_USED: Final = 0.25
"""A guest grows when so much of its margin is used, and not for each page, unless it races: of two seconds that
its margin lasted a real guest lost one to this, and a process. And it gives to the pool when it has so much more
than it is entitled to, and not for each page that it forgets (simulator, seed 1076); where it was grown, a whole
margin: what it gives to the pool it will want back (a twentieth of all turns on scarce days)."""

GROWN_S: Final = 60.0
"""For so long after it was grown a guest gives nothing merely to refill the pool: its want falls a little between
two samples of a ramp, and it turned with each (simulator, seed 361). One in distress gives nothing at all then,
but at red: it was grown for that very distress (seeds 82, 119). And it gives to others only where it has more than
a quarter of its margin too much: that fades a little with each look at a ramp (seed 6014)."""

GIVEN_S: Final = 120.0
"""For so long after it gave memory a guest gets nothing from the surplus, even where everything fits (what fits
may change with every look at a neighbour: simulator, seed 4877), nor for its margin while it works with no more
than it did then, unless it races: what it gave went to one who lacked it, or whose balloon did not take it, and
would go to and fro with each try (simulator, seeds 292, 583, 1303). Were it so while it works with more, a ramp
would be met too late: a real guest lost its work. One that bears surprises gets along without that margin for
good (July, steps at 3x, the scarcest hosts: 2 % of all turns)."""

STEP_GENTLE: Final = 0.10
STEP_FAST: Final = 0.25
STEP_GENTLE_LEAST: Final = 64 * MIB
STEP_FAST_LEAST: Final = 1 * GIB
"""A shrink's longest step a tick, of the guest's actual size or at least so many bytes. Its next statistics must
be able to speak before the next step: a balloon takes about 0.9 GiB a second from touched memory."""


@value
class Position:
    """Where one guest stands before this tick's moves."""

    guest: Guest
    demand: Demand
    entitlement: int
    movement: Movement
    reachable: bool  # no obstacle: at least what it was promised can be given to it
    movable: bool  # and it was heard of

    @property
    def band(self) -> int:
        return max(BAND_LEAST, int(BAND * self.demand.ceiling))

    @property
    def gave(self) -> bool:
        """Whether it was shrunk when it was last moved."""
        return self.movement.shrunk_s > self.movement.grown_s

    @property
    def grew(self) -> bool:
        """Whether it was grown when it was last moved."""
        return self.movement.grown_s > self.movement.shrunk_s

    @property
    def deprived(self) -> bool:
        """Whether it has less than it was promised, and nothing on its way."""
        return self.high < self.demand.guarantee

    @property
    def high(self) -> int:
        """The most that it may have taken once what it was asked for is reached."""
        actual, target = self.guest.actual, self.movement.target
        return target if target is not None and target > actual else actual

    @property
    def low(self) -> int:
        actual, target = self.guest.actual, self.movement.target
        return target if target and target < actual else actual


@value
class Move:
    """The target of one guest in this tick (None: nothing new is asked) and why."""

    target: int | None
    reason: Reason


_STILL: Final = {reason: Move(target=None, reason=reason) for reason in Reason}


@dataclass(slots=True)
class _Purse:
    """Memory that may still be granted in this tick, and wishes it could not meet."""

    left: int
    there: int  # of the host's memory, whatever the ledger says
    kept: int = 0  # the last of it, only for what guests are entitled to
    unmet: int = 0
    starved: int = 0  # of it, what those that starve lack of what they are due; for it no dead band counts
    owed: int = 0  # of it, what guests lack of their guarantees
    urgent: bool = False  # whether one that waits suffers, is squeezed or races


def moves(
    positions: Sequence[Position], ledger: Ledger, rung: Rung, *, pool: int, fits: bool, now_s: float
) -> tuple[tuple[Move, ...], bool]:
    """One move for each position, in the same order, and whether to look again soon: somebody waits for what
    others give, or races. The grants' sum is at most the headroom. `pool`: bytes that are to be kept free for
    growth now."""
    made: dict[int, Move] = {}
    purse = _Purse(
        left=max(0, ledger.headroom),
        there=ledger.available - ledger.reserve - ledger.loan,
        kept=int(CLEAR * SHARES_AVAILABLE[Rung.RED] * ledger.pool),
    )
    reached = [i for i, p in enumerate(positions) if p.reachable and not p.movement.aside(now_s)]
    free = [i for i in reached if positions[i].movable]
    _bring_below_ceilings(positions, free, made, now_s)
    _grant(positions, _wishes(positions, reached, rung, ledger, fits=fits, now_s=now_s), purse, made)
    short = min(0, ledger.headroom)
    coming = sum(p.movement.coming(p.guest.actual, now_s) for p in positions)
    purse.starved = max(0, purse.starved - coming)
    purse.owed = max(0, purse.owed - coming)
    pool_left = purse.left + short + coming - purse.unmet
    if fits:
        _hand_out(positions, free, purse.left, made, Reason.FITS, now_s)
    elif purse.unmet or pool_left < POOL_LOW * pool:
        _shrink(positions, free, ledger, rung, pool - pool_left, purse, made, now_s)
    elif rung <= Rung.YELLOW and purse.left > POOL_HIGH * ledger.pool:
        _hand_out(positions, free, purse.left - ledger.pool, made, Reason.SURPLUS, now_s)
    given = any(
        move.target is not None and move.target < positions[i].guest.actual for i, move in made.items()
    )
    awaited = purse.unmet > 0 and (coming > 0 or given)
    hurry = awaited or any(positions[i].demand.races for i in free)
    return tuple(made.get(i) or _still(p, now_s) for i, p in enumerate(positions)), hurry


def stay(positions: Sequence[Position]) -> tuple[Move, ...]:
    """Nobody moves: a daemon that has just started does not know what balloons were told before it came."""
    return tuple(_STILL[Reason.SETTLING] for _ in positions)


def _bring_below_ceilings(
    positions: Sequence[Position], free: Sequence[int], made: dict[int, Move], now_s: float
) -> None:
    for i in free:
        p = positions[i]
        if p.low - p.demand.ceiling > p.band and _may_shrink(p, urgent=True, now_s=now_s):
            step = _longest_step(p.guest.actual, fast=False)
            made[i] = Move(target=max(p.demand.ceiling, p.guest.actual - step), reason=Reason.CEILING)


def _wishes(
    positions: Sequence[Position], reached: Sequence[int], rung: Rung, ledger: Ledger, *, fits: bool, now_s: float
) -> list[tuple[int, int, Reason]]:  # fmt: skip
    """Who is to be grown for need, up to what, and why: distress first, then broken guarantees, then whoever lacks
    most of its size. Beyond what is enough for now nobody is grown by more than what the pool can spare, and one
    that bears surprises only where everything fits: the rest would be taken from others to fill it again, who turn
    for what is but remembered (a sixth of all turns on scarce days). What a guest is still on its way to give, it
    may keep without a grant: nobody was promised it before it is there.
    Who suffered lately and suffers no more has no claim above its entitlement: memory that it gave would come
    straight back to it (simulator, seed 295).
    At red, where those in distress are shrunk too, nobody is grown above what it would be shrunk to; nor does
    distress take the host to red. One of which nothing was heard for long gets what it was promised, no more."""
    spare = max(0, ledger.headroom if fits else int(ledger.headroom - POOL_LOW * ledger.pool))
    needy: list[tuple[bool, bool, float, int, int, Reason]] = []
    for i in reached:
        p = positions[i]
        demand = p.demand
        goal = demand.want
        if not demand.suffers or rung >= Rung.RED:
            goal = min(goal, max(p.entitlement, demand.guarantee))
        goal = min(goal, max(demand.enough, p.high + (spare if fits or not demand.bears_surprise else 0)))
        goal = min(goal, demand.ceiling if p.movable else demand.guarantee)
        if p.movement.on_trial:
            goal = within_trial(goal, p.guest.actual)
            if goal < p.guest.actual or p.high > p.guest.actual:
                continue  # what it is tried with stands, though it helps itself meanwhile (seed 271)
        lack = goal - (p.high if p.high > p.guest.actual else p.low)
        urgent = demand.suffers or demand.squeezed or p.deprived
        if not urgent and p.high >= demand.enough:
            continue  # what it wants beyond is remembered from a peak: that is for the surplus
        if not urgent and _rests(p, now_s):
            continue
        if lack < (BAND_LEAST if demand.starves and lack <= spare else _least_growth(p)):
            continue
        reason = Reason.DISTRESS if demand.suffers else Reason.GUARANTEE if p.deprived else Reason.NEED
        order = (not (demand.suffers or demand.squeezed), not p.deprived, -lack / demand.ceiling)
        needy.append((*order, i, goal, reason))
    return [(i, goal, reason) for *_, i, goal, reason in sorted(needy)]


def _rests(p: Position, now_s: float) -> bool:
    """Whether it gave, and gets along with what was left: it works with no more than it did then."""
    lately = now_s - p.movement.shrunk_s < GIVEN_S and not p.demand.races
    gets_along = p.demand.need <= p.movement.worked_with + p.band
    return p.gave and gets_along and (lately or p.demand.bears_surprise)


def _least_growth(p: Position) -> int:
    """So much must a guest lack before it is grown: the more, the less it minds to wait. One that is not heard
    can't say that it does; and who lacks only the last of its ceiling would wait for ever."""
    demand = p.demand
    if p.movement.on_trial or demand.suffers or p.deprived:
        return BAND_LEAST
    turn = 0
    if p.gave and demand.trust is Trust.FRESH:
        turn = min(TURN_BANDS * p.band, int(TURN_SHARE * p.guest.actual), demand.ceiling - p.high)
    if demand.squeezed:
        return max(BAND_LEAST, turn)
    if demand.races:
        return p.band
    return max(p.band, turn, int(MARGIN_USED * demand.margin))


def _grant(
    positions: Sequence[Position], wishes: Sequence[tuple[int, int, Reason]], purse: _Purse, made: dict[int, Move]
) -> None:  # fmt: skip
    """Grows these guests as far as memory is free: first all of them to what they are due, so that nobody's
    distress takes what another was promised, then beyond. One of which nothing is heard stands in the ledger with
    its maximum, so its guarantee costs nothing more; it must only be there."""
    grants: dict[int, int] = {}
    for i, goal, _ in wishes:
        p = positions[i]
        if p.movable:
            due = max(0, min(goal, max(p.entitlement, p.demand.guarantee)) - p.high)
            granted = grants[i] = min(due, purse.left)
            purse.left -= granted
            purse.starved += due - granted if p.demand.starves and not p.movement.on_trial else 0
        else:
            granted = goal - p.high if goal - p.high <= purse.there else 0
            made[i] = Move(target=goal, reason=Reason.GUARANTEE) if granted else _STILL[Reason.NO_ROOM]
        purse.there -= granted
        purse.left = max(0, min(purse.left, purse.there))
    for i, goal, reason in wishes:
        if i not in grants:
            continue
        p = positions[i]
        gap = max(0, goal - p.high)
        more = max(0, min(gap - grants[i], purse.left - purse.kept))
        grant = grants[i] + more
        purse.left -= more
        purse.unmet += max(0, BAND_LEAST - grant) if p.movement.on_trial else gap - grant
        purse.urgent |= gap > grant and (p.demand.suffers or p.demand.squeezed or p.demand.races)
        if not p.movement.on_trial:
            purse.owed += max(0, p.demand.guarantee - p.high - grant)
        if p.high + grant - p.low < BAND_LEAST:
            made[i] = _STILL[Reason.NO_ROOM]
        else:
            made[i] = Move(target=p.high + grant if gap else goal, reason=reason)


def _shrink(
    positions: Sequence[Position], free: Sequence[int], ledger: Ledger, rung: Rung,
    wanted: int, purse: _Purse, made: dict[int, Move], now_s: float,
) -> None:  # fmt: skip
    """Takes `wanted` bytes from those with most above their entitlement, each by one step at most, and from nobody
    what it works with; but what others were promised and lack is taken even of that."""
    fast = (
        purse.unmet > 0
        or rung >= Rung.ORANGE
        or (ledger.headroom < POOL_LOW * ledger.pool / 2 and rung > Rung.GREEN)
    )
    bands = TURN_BANDS if purse.urgent else TURN_BANDS_AT_EASE
    if rung >= Rung.RED or ledger.headroom < 0:
        bands = 0  # none is worth what is broken
    reason = Reason.DONATE if purse.unmet else Reason.SHORTAGE if rung >= Rung.ORANGE else Reason.REFILL
    givers = [i for i in free if i not in made]
    taken = _take(
        positions, givers, wanted, reason, rung, made,
        fast=fast, bands=bands, owed=False, now_s=now_s,
    )  # fmt: skip
    starved = min(wanted, purse.starved) - taken
    if starved > 0:
        givers = [i for i in free if i not in made]
        taken += _take(
            positions, givers, starved, reason, rung, made,
            fast=fast, bands=0, owed=False, now_s=now_s,
        )  # fmt: skip
    owed = min(wanted, purse.owed) - taken
    if owed > 0:
        givers = [i for i in free if made.get(i) in (None, _STILL[Reason.NO_ROOM])]
        _take(
            positions, givers, owed, reason, rung, made,
            fast=fast, bands=0, owed=True, now_s=now_s,
        )  # fmt: skip


def _take(
    positions: Sequence[Position], givers: Sequence[int], wanted: int, reason: Reason, rung: Rung,
    made: dict[int, Move], *, fast: bool, bands: int, owed: bool, now_s: float,
) -> int:  # fmt: skip
    """Shrinks these guests by `wanted` bytes in all, or as far as it goes; returns by how much. Those that need
    not turn for it give first. `bands`: so many dead bands who was grown gives at least; 0: none counts for
    anybody. `owed`: even of what they work with."""
    donors = []
    for i in givers:
        p = positions[i]
        if not _may_shrink(p, urgent=reason is not Reason.REFILL, now_s=now_s):
            continue
        grown = now_s - p.movement.grown_s < GROWN_S and rung < Rung.RED
        if grown and (reason is Reason.REFILL or p.demand.in_distress):
            continue
        surplus = p.low - max(p.entitlement, p.demand.guarantee if owed else p.demand.need)
        least = p.band if bands and reason is not Reason.DONATE else BAND_LEAST
        if p.movement.on_trial:
            if p.low < p.guest.actual:
                continue  # what it is tried with stands
            least = BAND_LEAST
        elif p.grew and bands:
            part = 1.0 if reason is Reason.REFILL else MARGIN_USED
            least = max(bands * p.band, int(part * p.demand.margin))
        elif reason is Reason.REFILL and bands:
            least = max(p.band, int(MARGIN_USED * p.demand.margin))
        if surplus > least:
            donors.append((p.grew, -surplus, i))
    left = wanted
    for _, negative, i in sorted(donors):
        if left <= 0:
            break
        p = positions[i]
        step = max(0, p.low - (p.guest.actual - _longest_step(p.guest.actual, fast=fast)))
        take = min(-negative, step, max(left, p.band))
        if take >= BAND_LEAST:
            left -= take
            made[i] = Move(target=p.low - take, reason=reason)
    return wanted - left


def _may_shrink(p: Position, *, urgent: bool, now_s: float) -> bool:
    """`urgent`: somebody waits for memory, or the host is short; then even those give who suffered lately."""
    if p.demand.trust is not Trust.FRESH or p.movement.stalled(now_s):
        return False
    if p.demand.sampled_s is None or p.demand.sampled_s <= p.movement.changed_s:
        return False  # it has not spoken since it was last moved
    return urgent or not p.demand.in_distress


def _longest_step(actual: int, *, fast: bool) -> int:
    if fast:
        return max(int(STEP_FAST * actual), STEP_FAST_LEAST)
    return max(int(STEP_GENTLE * actual), STEP_GENTLE_LEAST)


def _hand_out(
    positions: Sequence[Position], free: Sequence[int], room: int, made: dict[int, Move], reason: Reason,
    now_s: float,
) -> None:  # fmt: skip
    """Gives `room` bytes to those furthest below their entitlement."""
    gaps = sorted((p.high - p.entitlement, i) for i in free if i not in made for p in (positions[i],))
    for negative, i in gaps:
        p = positions[i]
        grant = min(-negative, room)
        if grant <= 0:
            return
        if grant < min(p.band, -negative) or p.demand.trust in (Trust.SILENT, Trust.ABSENT):
            continue
        if now_s - p.movement.shrunk_s < GIVEN_S:
            continue
        room -= grant
        made[i] = Move(target=p.high + grant, reason=reason)


def _still(p: Position, now_s: float) -> Move:
    """Why nothing new is asked of this guest."""
    if p.movement.aside(now_s) or p.movement.stalled(now_s):
        return _STILL[Reason.STUCK]
    if p.movement.target is not None:
        return _STILL[p.movement.reason]
    match p.demand.trust:
        case Trust.FRESH:
            return _STILL[Reason.STEADY]
        case Trust.NEW:
            return _STILL[Reason.SETTLING]
        case _:
            return _STILL[Reason.UNTRUSTED]
