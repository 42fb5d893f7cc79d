"""The only door into the core.

    decide(config, previous_tick, snapshot) -> decision

Pure and deterministic; the previous tick is its only memory. It must never act on a world that it can't see: with
the host's numbers or the list of guests lost, every target stays where it is. While the host itself can be seen,
what was set there is looked after all the same: merging goes on by the rung, and limits go that it needs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from balloond.config.settings import Config, GuestPolicy, Mode
from balloond.model import (
    Decision,
    Demand,
    Guest,
    Host,
    Ledger,
    Measure,
    Obstacle,
    Outcome,
    Reason,
    Rung,
    SetTarget,
    Snapshot,
    State,
    Tick,
    Trust,
    Verdict,
)
from balloond.policy import demand as demands
from balloond.policy.allocate import Claim, divide
from balloond.policy.ladder import Standing, climb
from balloond.policy.ledger import Own, Stake, account, own_use
from balloond.policy.merging import Course, steer
from balloond.policy.movement import Movement, ask, watch, withdraw, within_trial
from balloond.policy.pace import Move, Position, moves, stay
from balloond.policy.relief import Holder, Relief, loosen, relieve, settle
from balloond.policy.solvency import judge
from balloond.policy.trust import SILENT_S
from balloond.units import MIB
from balloond.value import value

UNHEARD: Final = frozenset({Trust.ABSENT, Trust.SILENT})

POOL_KEPT: Final = 0.2
"""The part of the pool that wants may not eat into: growth starts from it while donors still give."""


@value
class HostMemory:
    """What is remembered of the host from tick to tick."""

    config: Config  # the one in force, to see that it changed
    own: Own
    standing: Standing
    relief: Relief
    merging: Course | None


@value
class GuestMemory:
    """What is remembered of a guest from tick to tick."""

    policy: GuestPolicy
    title: str  # by which, with the name, the policy was found
    incarnation: int
    movement: Movement


def decide(config: Config, previous: Tick | None, snapshot: Snapshot) -> Decision:
    """What is to be done now. Raises nothing for any snapshot that the edges can make."""
    if snapshot.host is None:
        return _frozen(previous)
    if snapshot.guests is None:
        return _without_guests(config, previous, snapshot.host, snapshot.monotonic_s)
    host, now_s = snapshot.host, snapshot.monotonic_s
    known = _Known(config, previous)
    reserve, pool = config.host.reserve.of(host.total), config.host.pool.of(host.total)
    views = [_view(config, guest, known, snapshot) for guest in snapshot.guests]
    own = own_use(known.host.own if known.host else None, host, snapshot.guests, now_s)
    ledger = account(
        host,
        [v.stake for v in views],
        own,
        reserve=reserve,
        pool=pool,
        guaranteed=sum(v.demand.guarantee for v in views if v.guest.in_pool and v.policy.manage),
    )
    standing = climb(known.host.standing if known.host else None, host, reserve, pool, now_s)
    entitlements, kept, fits = _entitle(views, ledger, now_s)
    positions = [
        Position(
            guest=v.guest,
            demand=v.demand,
            entitlement=e,
            movement=v.movement,
            reachable=v.obstacle is None,
            movable=v.movable,
        )
        for v, e in zip(views, entitlements, strict=True)
    ]
    if known.first:
        made, hurry = stay(positions), True
    else:
        made, hurry = moves(positions, ledger, standing.rung, pool=kept, fits=fits, now_s=now_s)
        hurry = hurry or any(v.missed for v in views)
    verdicts, actions = _conclude(views, positions, made, first=known.first, now_s=now_s)
    relief = known.relief(config.mode)
    measures: tuple[Measure, ...] = ()
    if standing.rung >= Rung.ORANGE or relief.limits or known.measured:
        holders = [_holder(v, its, now_s) for v, its in zip(views, verdicts, strict=True)]
        relief, measures = relieve(
            relief, known.measured, holders, host, ledger, standing.rung,
            elapsed_s=now_s - known.host.standing.seen_s if known.host else 0.0,
        )  # fmt: skip
    merging, measure = steer(
        config.ksm, host, snapshot.guests, known.host.merging if known.host else None,
        rung=standing.rung, spare=host.available - reserve - pool, now_s=now_s,
    )  # fmt: skip
    return Decision(
        rung=standing.rung,
        ledger=ledger,
        verdicts=verdicts,
        actions=actions,
        solvency=judge(host, snapshot.guests, own=ledger.own, reserve=reserve),
        measures=(*measures, measure) if measure else measures,
        merging=merging,
        hurry=hurry,
        memory=HostMemory(
            config=config,
            own=own,
            standing=standing,
            relief=relief,
            merging=merging.memory if merging else None,
        ),
    )


@value
class _View:
    """One guest as this tick sees it."""

    guest: Guest
    policy: GuestPolicy
    obstacle: Obstacle | None
    demand: Demand
    movement: Movement
    memory: GuestMemory | None  # of the tick before
    movable: bool  # its balloon may be used at all
    missed: bool  # it could be read a tick ago and can't now: mostly another caller holds it for a moment
    heard: bool  # False: nobody knows what became of it, though it is not to be left alone for good

    @property
    def stake(self) -> Stake:
        return Stake(
            guest=self.guest,
            target=max(self.movement.target or 0, self.movement.told or 0),
            overhead=self.demand.overhead,
            heard=self.heard,
        )


class _Known:
    """What the previous tick tells, made quick to look up."""

    def __init__(self, config: Config, previous: Tick | None) -> None:
        self.first = previous is None or previous.decision.memory is None
        self.host: HostMemory | None = previous.decision.memory if previous else None
        self.same_config = self.host is not None and self.host.config is config
        self.verdicts = {v.uuid: v for v in previous.decision.verdicts} if previous else {}
        self.outcomes: dict[str, Outcome] = {o.action.uuid: o for o in previous.outcomes} if previous else {}
        self.measured = previous.measured if previous else ()

    def relief(self, mode: Mode) -> Relief:
        """What was done at the host; nothing after a change of mode, which puts all back."""
        return self.host.relief if self.host is not None and self.host.config.mode is mode else Relief()


def _view(config: Config, guest: Guest, known: _Known, snapshot: Snapshot) -> _View:
    before = known.verdicts.get(guest.uuid)
    memory: GuestMemory | None = before.memory if before else None
    found = (
        memory is not None and before is not None and (before.name, memory.title) == (guest.name, guest.title)
    )
    if memory is not None and found and known.same_config:
        policy = memory.policy
    else:
        policy = config.policy_for(guest.uuid, guest.name, guest.title)
    obstacle = _obstacle(policy, guest)
    movement = watch(
        memory.movement if memory else Movement(), guest, known.outcomes.get(guest.uuid), snapshot.monotonic_s
    )
    if memory is not None and memory.incarnation != guest.incarnation:
        movement = replace(movement, target=None)  # nobody waits for another life's balloon
    if obstacle is None:
        demand = demands.estimate(
            policy, guest, before.demand.memory if before and before.demand else None,
            moving_to=memory.movement.target if memory else None, now_s=snapshot.monotonic_s,
            wall_s=snapshot.wall_s,
            interval_s=config.interval_s, first_tick=known.first,
        )  # fmt: skip
    else:
        demand = demands.unestimated(policy, guest)
        if obstacle is Obstacle.UNREADABLE and before and before.demand:  # it may be back with the next tick
            demand = replace(demand, memory=before.demand.memory)
        movement = replace(movement, target=None) if movement.target is not None else movement
    movable = obstacle is None and demand.trust not in UNHEARD
    return _View(
        guest=guest,
        policy=policy,
        obstacle=obstacle,
        demand=demand,
        movement=movement,
        memory=memory,
        movable=movable,
        missed=obstacle is Obstacle.UNREADABLE and before is not None and before.obstacle is None,
        heard=movable or (obstacle is not None and not _out_of_hearing(policy, guest, snapshot.wall_s)),
    )


def _out_of_hearing(policy: GuestPolicy, guest: Guest, wall_s: float) -> bool:
    """Whether a guest that can't be reached now was last heard of so long ago that its size is only hearsay too:
    it may have been reset, or its balloon emptied, without anybody's word of it."""
    if not policy.manage or guest.obstacle not in (Obstacle.UNREADABLE, Obstacle.IN_JOB):
        return False
    spoke_s = guest.statistics.last_update_s if guest.statistics else 0
    return wall_s - spoke_s > SILENT_S


def _obstacle(policy: GuestPolicy, guest: Guest) -> Obstacle | None:
    if guest.obstacle is not None:
        return guest.obstacle
    if not policy.manage:
        return Obstacle.UNMANAGED
    return None if guest.state is State.RUNNING else Obstacle.NOT_RUNNING


def _entitle(views: Sequence[_View], ledger: Ledger, now_s: float) -> tuple[tuple[int, ...], int, bool]:
    """Each guest's entitlement, the pool that the division leaves, and whether all maxima fit.

    While everybody has what it wants, the whole pool is kept back; wants eat into it, but for a last part that
    lets the next growth start before a donor has given. A guest whose balloon does not follow keeps what it has:
    were it counted at what it should give, the others would be entitled to memory that never comes."""
    follows = [v.movable and not v.movement.aside(now_s) for v in views]
    free = [v for v, does in zip(views, follows, strict=True) if does]
    budget = ledger.total - ledger.own - ledger.reserve - sum(
        v.demand.overhead if does else v.stake.committed for v, does in zip(views, follows, strict=True)
    )  # fmt: skip
    claims = [_claim(v) for v in free]
    fits = sum(v.demand.ceiling for v in free) <= budget
    kept = (
        0 if fits else _kept(budget, sum(c.want for c in claims), sum(c.floor for c in claims), ledger.pool)
    )
    granted = iter(divide(max(0, budget - kept), claims))
    shares = tuple(next(granted) if does else v.guest.actual for v, does in zip(views, follows, strict=True))
    return shares, kept, fits


def _claim(view: _View) -> Claim:
    """What it claims; one on trial no more and no less than what it has, but for what it is asked for to try; one
    that gives slowly no less than what it will have before long."""
    demand, actual = view.demand, view.guest.actual
    guarantee, need, floor = demand.guarantee, demand.need, demand.floor
    want, ceiling = demand.want, demand.ceiling
    if view.movement.on_trial:
        guarantee, need, floor, want, ceiling = (
            within_trial(level, actual) for level in (guarantee, need, floor, want, ceiling)
        )
    elif least := view.movement.least(actual):
        guarantee, need, floor, want, ceiling = (
            max(level, least) for level in (guarantee, need, floor, want, ceiling)
        )
    return Claim(
        guarantee=guarantee, need=need, floor=floor, want=want, ceiling=ceiling,
        shares=view.policy.shares, busy=min(1.0, demand.working_set / max(1, actual)),
    )  # fmt: skip


def _kept(budget: int, wants: int, floors: int, pool: int) -> int:
    """The pool that is kept back: all of it while wants fit, a last part while floors do, else nothing."""
    least = min(int(POOL_KEPT * pool), max(0, budget - floors))
    return max(least, min(pool, budget - wants))


def _conclude(
    views: Sequence[_View], positions: Sequence[Position], made: Sequence[Move], *, first: bool, now_s: float
) -> tuple[tuple[Verdict, ...], tuple[SetTarget, ...]]:
    """The verdicts, and the actions that follow: shrinks first, so that growth finds the memory free.

    A balloon that may be on its way to a target that nobody waits for is told to stay where it is: at the `first`
    tick each that is out, since a guest still growing for a daemon that died would take what is granted to others
    (simulator, seed 536)."""
    verdicts: list[Verdict] = []
    shrinks: list[SetTarget] = []
    grows: list[SetTarget] = []
    for view, position, move in zip(views, positions, made, strict=True):
        guest, movement = view.guest, view.movement
        target = None if move.target is None else _whole(move.target, guest.actual)
        asks = target is not None and target not in (guest.actual, movement.target)
        if asks and target is not None:
            movement = ask(movement, guest, target, move.reason, now_s, works_with=view.demand.need)
        elif (
            view.movable
            and movement.target is None
            and (movement.forgotten(now_s) or (first and 0 < guest.actual < guest.maximum))
        ):
            movement, target, asks = withdraw(movement, now_s), guest.actual, True
        verdict = Verdict(
            uuid=guest.uuid,
            name=guest.name,
            actual=guest.actual,
            demand=view.demand,
            entitlement=position.entitlement,
            target=target if asks and target is not None else movement.target or guest.actual,
            reason=Reason.OBSTACLE if view.obstacle else move.reason,
            obstacle=view.obstacle,
            memory=_remember(view, movement),
        )
        verdicts.append(verdict)
        if asks:
            action = SetTarget(
                uuid=guest.uuid,
                name=guest.name,
                actual=guest.actual,
                target=verdict.target,
                reason=move.reason,
                words=verdict.words,
            )
            (shrinks if action.target < action.actual else grows).append(action)
    return tuple(verdicts), (*shrinks, *grows)


def _holder(view: _View, verdict: Verdict, now_s: float) -> Holder:
    movement: Movement = verdict.memory.movement
    return Holder(
        guest=view.guest,
        demand=view.demand,
        shares=view.policy.shares,
        target=verdict.target,
        follows=view.movable and not movement.refuses(view.guest.actual, now_s),
        obstacle=view.obstacle,
    )


def _whole(target: int, actual: int) -> int:
    """Whole MiB: neither more than was granted, nor less than may be left."""
    return max(actual, target // MIB * MIB) if target > actual else -(-target // MIB) * MIB


def _remember(view: _View, movement: Movement) -> GuestMemory:
    """What the next tick is to know; the same value as before where nothing changed."""
    before = view.memory
    same = before is not None and before.movement is movement and before.policy is view.policy
    who = (view.guest.title, view.guest.incarnation)
    if before is not None and same and (before.title, before.incarnation) == who:
        return before
    return GuestMemory(
        policy=view.policy, title=view.guest.title, incarnation=view.guest.incarnation, movement=movement
    )


def _frozen(previous: Tick | None) -> Decision:
    """Nothing moves: the host's numbers or the guests' list are lost. What was known is kept."""
    if previous is None:
        return Decision(rung=Rung.GREEN, ledger=None, verdicts=(), actions=())
    before = previous.decision
    memory: HostMemory | None = before.memory
    if memory is not None:
        memory = replace(memory, relief=settle(memory.relief, previous.measured))
    return Decision(
        rung=before.rung,
        ledger=None,
        verdicts=tuple(replace(v, reason=Reason.FROZEN) for v in before.verdicts),
        actions=(),
        memory=memory,
    )


def _without_guests(config: Config, previous: Tick | None, host: Host, now_s: float) -> Decision:
    """The guests' list is lost: nothing of theirs moves, for hours where libvirt hangs so long. What was set at
    the host is looked after. A daemon that never saw the guests set nothing yet."""
    frozen = _frozen(previous)
    memory: HostMemory | None = frozen.memory
    if memory is None:
        return frozen
    reserve, pool = config.host.reserve.of(host.total), config.host.pool.of(host.total)
    free = host.available - reserve
    standing = climb(memory.standing, host, reserve, pool, now_s)
    relief = memory.relief if memory.config.mode is config.mode else Relief()
    relief, lifts = loosen(relief, host, standing.rung, free=free, pool=pool)
    merging, measure = steer(
        config.ksm, host, None, memory.merging, rung=standing.rung, spare=free - pool, now_s=now_s
    )
    course = merging.memory if merging else None
    return replace(
        frozen,
        rung=standing.rung,
        measures=(*lifts, measure) if measure else lifts,
        merging=merging,
        memory=replace(memory, standing=standing, relief=relief, merging=course),
    )
