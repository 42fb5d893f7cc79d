"""Did balloond keep its promises in this turn?

A Witness stands beside the loop and judges each turn by the world's truth, which the core does not see. It judges
what balloond did, never what befell it: a guest that resets takes memory that nobody gave. The promises:

1. **Grants are covered.** All growth asked for in one turn is at most the room that there is at that instant:
   `total - own - reserve - sum over guests of what each may touch`, and at most what is available beyond the
   reserve. A guest may touch the larger of its size and its device's standing target, with its QEMU's own memory,
   and surely what is resident. So the ledger, once it holds, is broken by no doing of balloond's. What a guest of
   which nothing is heard is given up to its guarantee must only be available: the daemon's ledger has it there
   with its maximum already (seed 110047).
2. **No target is below the guarantee,** nor is a guest below its guarantee made smaller still. Nor does one stay
   below it for `OVERDUE_S` where it could be reached and others have more than theirs.
3. **No guest is shrunk on doubt**: its numbers are fresh, by the verdict and by their true age, and it has no
   obstacle. Taking back a part of what it was asked for before is no shrink.
4. **Nothing moves in the dark**: while the host or the list of guests is unknown.
5. **No host OOM kill while solvent**: while all maxima, the host's own use and the reserve fit memory and swap.
6. **No flip-flop.** No guest that tells the truth is turned, from growing to shrinking or back, more than
   `TURNS_MOST` times within three minutes, whatever happens; nor more often than that in all, once demand has been
   steady and all well for ten minutes.
7. **Steady demand comes to rest.** From ten minutes after all demand became steady, and with room for all, nobody
   is both grown and shrunk. In a world that was steady from its very beginning no target is set at all by then but
   to guests whose balloons do not obey, or whose maximum the operator set below what they work with. After times
   of change the peaks of the past are forgotten over a quarter of an hour and more, so memory may still move, one
   way: `still` tells whether it did.
8. **The ledger is covered** again within `OVERDUE_S`, as long as somebody has more than it needs and is due.

What nobody can know is taken as it was told: the size of a guest that has just reset, which libvirt tells late,
and what a guest takes unasked while its monitor hangs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from balloond.config.settings import SMALLEST_GUEST, Config
from balloond.model import Ledger, Reason, SetTarget, Tick, Trust, Verdict
from balloond.policy.movement import ARRIVED
from balloond.sim.guest import SimGuest
from balloond.sim.world import SimWorld
from balloond.units import MIB, format_size

REST_S: Final = 600.0
"""After so long of steady demand, nothing moves any more."""

TURNS_MOST: Final = 8
TURNS_S: Final = 180.0
"""A guest in a host that is short of memory is probed each time its calm ends, after 5, 10 and 20 minutes: shrunk,
and grown again when it suffers. Bursts and neighbours turn it too: seven turns were seen in three minutes of an
honest struggle for too little. A guest torn between two rules turns with every tick, nine times or more."""

OVERDUE_S: Final = 300.0
"""For so long a guarantee or the ledger may stay broken while others could give: a shrink of 16 GiB takes a slow
balloon three minutes."""

OVERDUE_LEAST: Final = 64 * MIB
"""Less is not looked for: it goes down in bands and rounding."""

SLOW: Final = 64 * MIB
"""A balloon that moves by less in a second, or late, can't be waited for."""

MARGIN: Final = 1.1
MARGIN_LEAST: Final = 256 * MIB
"""What a guest is to have beyond what it uses, so that a world counts as having room for all."""

ROUNDING: Final = MIB
"""Targets are whole MiB, so each action may be off by less than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One broken promise."""

    promise: str
    at_s: float
    guest: str  # its name; empty: it is the host's
    detail: str

    def __str__(self) -> str:
        return f"at {self.at_s:.0f} s: {self.promise}: {self.guest or 'host'}: {self.detail}"


@dataclass(slots=True, kw_only=True)
class Witness:
    """Judges one run. Call `before` when the world has moved on, then take the turn, then call `after`."""

    config: Config
    world: SimWorld
    steady_from_s: float = float("inf")  # when all demand has become steady and all faults are over
    still: bool = True  # whether nothing moved in a roomy world ten minutes after that
    breaches: list[Breach] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)  # of whom nothing is heard, by the last turn's verdicts
    _room: float = 0.0
    _stands: dict[str, float] = field(default_factory=dict)  # what each may have taken before this turn
    _sizes: dict[str, int] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)  # each device's standing target before this turn
    _directions: dict[tuple[str, bool], bool] = field(default_factory=dict)  # at rest, and before
    _turns: dict[str, list[float]] = field(default_factory=dict)  # when each turned, as far as that counts
    _judged_s: float = 0.0  # when it was last looked for what is overdue
    _overdue_since_s: dict[str, float] = field(default_factory=dict)  # of whom, and of the ledger's ('')
    _kills: int = 0
    _roomy: bool | None = None

    def before(self) -> None:
        """Notes how things stand before the turn."""
        world = self.world
        host = world.host
        reserve = self.config.host.reserve.of(host.total)
        running = world.running
        self._stands = {guest.uuid: _reach(guest) for guest in running}
        self._sizes = {guest.uuid: guest.told_actual for guest in running}
        self._asked = {guest.uuid: guest.target for guest in running}
        taken = sum(max(self._stands[g.uuid] + g.qemu, g.rss) for g in running)
        self._room = host.total - world.own() - reserve - taken
        if host.oom_kills > self._kills:
            self._kills = host.oom_kills
            if self.solvent:
                self._blame("no host OOM while solvent", "", f"killed {host.killed[-1]}")

    def after(self, tick: Tick | None) -> None:
        """Judges the turn. `tick` is None where the daemon was killed in it: what it had asked for counts."""
        asked, snapshot = self.world.carried_out, self.world.seen
        if tick is not None:
            self.silent = {
                verdict.uuid
                for verdict in tick.decision.verdicts
                if verdict.demand is not None and verdict.demand.trust in (Trust.SILENT, Trust.ABSENT)
            }
            self._judge_verdicts(tick)
            self._judge_overdue(tick)
        if (self.world.libvirt_gone or self.world.host_unreadable) and (
            asked or (tick and tick.decision.actions)
        ):
            self._blame("nothing moves in the dark", "", f"{len(asked)} targets set")
        if snapshot is not None and snapshot.host is not None:
            self._judge_grants(asked, snapshot.host.available)
        for action in asked:
            self._judge_target(action)
            self._judge_turns(action)
            self._judge_rest(action)

    @property
    def solvent(self) -> bool:
        """Whether all that guests may ever take, with the host's own use and the reserve, fits."""
        world, host = self.world, self.world.host
        most = sum(guest.maximum + guest.qemu for guest in world.guests)
        return most + world.own() + self.config.host.reserve.of(host.total) <= host.total + host.swap

    def _judge_grants(self, asked: list[SetTarget], available: int) -> None:
        granted = promised = 0.0
        for action in asked:
            stands = max(self._stands[action.uuid], action.actual)
            grant = max(0.0, action.target - stands) if action.target > action.actual else 0.0
            granted += grant
            if action.uuid in self.silent:
                guest = self.world.named(action.name)
                promised += min(grant, max(0.0, self._guarantee(guest) - stands))
        there = max(0, available - self.config.host.reserve.of(self.world.host.total))
        slack = ROUNDING * len(asked)
        for taken, room in ((granted - promised, max(0.0, min(self._room, there))), (granted, there)):
            if taken > room + slack:
                detail = f"granted {format_size(taken)} where {format_size(room)} was free"
                self._blame("grants are covered", "", detail)
                return

    def _guarantee(self, guest: SimGuest) -> int:
        policy = self.config.policy_for(guest.uuid, guest.name, "")
        return min(max(policy.minimum.of(guest.maximum), SMALLEST_GUEST), guest.maximum)

    def _judge_target(self, action: SetTarget) -> None:
        guest = self.world.named(action.name)
        guarantee = self._guarantee(guest)
        has = self._sizes[action.uuid]
        if action.target < min(guarantee, has) or (action.target < guarantee and action.target < has):
            detail = f"{format_size(action.target)} of {format_size(guarantee)} guaranteed"
            self._blame("the guarantee is kept", guest.name, detail)
        if action.target > guest.maximum:
            self._blame("no target above the maximum", guest.name, format_size(action.target))
        if action.target < min(has, self._asked[action.uuid]):
            self._judge_age(guest)

    def _judge_age(self, guest: SimGuest) -> None:
        """By the truth: when it last took numbers that it told."""
        period_s = max(self.config.interval_s, int(guest.voice.period_s))
        age_s = self.world.now_s - guest.numbered_s
        if age_s > 3 * period_s + 1 + guest.voice.delay_s:
            self._blame("no shrink on doubt", guest.name, f"its numbers are {age_s:.0f} s old")

    def _judge_verdicts(self, tick: Tick) -> None:
        verdicts = {verdict.uuid: verdict for verdict in tick.decision.verdicts}
        for action in tick.decision.actions:
            verdict = verdicts[action.uuid]
            if verdict.obstacle is not None:
                self._blame("obstacles are left alone", action.name, verdict.obstacle.value)
            if action.target >= min(action.actual, self._asked.get(action.uuid, action.actual)):
                continue
            if verdict.demand is None or verdict.demand.trust is not Trust.FRESH:
                trust = verdict.demand.trust.value if verdict.demand else "unknown"
                self._blame("no shrink on doubt", action.name, f"its numbers are {trust}")

    def _judge_overdue(self, tick: Tick) -> None:
        """Whether what is broken stays so, though those that are known, obey and have enough could mend it."""
        ledger, now_s = tick.decision.ledger, self.world.now_s
        elapsed_s, self._judged_s = now_s - self._judged_s, now_s
        if ledger is None or tick.snapshot.guests is None:
            # In the dark nobody can mend it: that time does not count.
            self._overdue_since_s = {who: s + elapsed_s for who, s in self._overdue_since_s.items()}
            return
        verdicts = [v for v in tick.decision.verdicts if v.demand is not None and v.obstacle is None]
        able = [(v, self.world.named(v.name)) for v in verdicts if v.reason is not Reason.STUCK]
        able = [(v, guest) for v, guest in able if guest.running and _obeys(guest) and _is_quick(guest)]
        broken = self._broken(able, ledger)
        self._overdue_since_s = {who: self._overdue_since_s.get(who, now_s) for who in broken}
        for who, detail in broken.items():
            if now_s - self._overdue_since_s[who] > OVERDUE_S:
                self._overdue_since_s[who] = now_s  # told once in that time
                self._blame("the guarantee is kept" if who else "the ledger is covered", who, detail)

    def _broken(self, able: Sequence[tuple[Verdict, SimGuest]], ledger: Ledger) -> dict[str, str]:
        """What could be mended now: guests by name, and the ledger as ''."""
        broken: dict[str, str] = {}
        above = spare = 0.0
        for verdict, guest in able:
            demand = verdict.demand
            if demand is None or demand.trust is not Trust.FRESH or guest.target < guest.told_actual:
                continue  # it is held on doubt, or on its way
            above += max(0, guest.told_actual - demand.guarantee)
            if not demand.in_distress:
                spare += max(0, guest.told_actual - max(verdict.entitlement, demand.need))
        for verdict, guest in able:
            has = max(guest.told_actual, guest.target)
            lacks = verdict.demand.guarantee - has if verdict.demand else 0.0
            if lacks > OVERDUE_LEAST and ledger.headroom + above > lacks + OVERDUE_LEAST:
                broken[guest.name] = f"lacks {format_size(lacks)} of its guarantee for {OVERDUE_S:.0f} s"
        if self._room < -OVERDUE_LEAST and spare > OVERDUE_LEAST * len(able):
            broken[""] = (
                f"{format_size(-self._room)} too much, while others have {format_size(spare)} to give"
            )
        return broken

    def _judge_turns(self, action: SetTarget) -> None:
        now_s = self.world.now_s
        guest = self.world.named(action.name)
        if abs(action.target - action.actual) < ROUNDING:
            return  # asked again of where it stands, by a daemon that has just started (seed 9585)
        grows = action.target > action.actual
        resting = self._resting()
        turned = self._directions.get((action.uuid, resting), grows) is not grows
        self._directions[action.uuid, resting] = grows
        if not turned or not _obeys(guest) or guest.voice.bias is not None or guest.voice.frozen:
            return
        since_s = self.steady_from_s + REST_S if resting else now_s - TURNS_S
        turns = [at_s for at_s in self._turns.get(action.uuid, ()) if at_s >= since_s] + [now_s]
        self._turns[action.uuid] = turns
        if resting and self._has_room():
            self._blame("steady demand comes to rest", guest.name, "was grown and shrunk")
        elif len(turns) > TURNS_MOST:
            self._blame("no flip-flop", guest.name, f"turned {len(turns)} times since {turns[0]:.0f} s")

    def _judge_rest(self, action: SetTarget) -> None:
        guest = self.world.named(action.name)
        if not self._resting() or not _obeys(guest) or self._is_denied(guest) or not self._has_room():
            return
        self.still = False
        if self.steady_from_s == 0:
            detail = f"{action.reason.value} {format_size(action.actual)} to {format_size(action.target)}"
            self._blame("steady demand comes to rest", guest.name, detail)

    def _is_denied(self, guest: SimGuest) -> bool:
        """Whether the operator's maximum for it is less than it works with: its balloon stops short, and is asked
        again from time to time (seed 2034)."""
        most = self.config.policy_for(guest.uuid, guest.name, "").maximum
        return most is not None and most.of(guest.maximum) < guest.kernel + guest.wanted

    def _resting(self) -> bool:
        """Whether all demand has been steady, and all been well, for so long that nothing should move."""
        return self.world.now_s >= self.steady_from_s + REST_S

    def _has_room(self) -> bool:
        """Whether what all want then fits, with a margin for each and with the pool."""
        if self._roomy is None:
            self._roomy = self._fits()
        return self._roomy

    def _fits(self) -> bool:
        host = self.world.host
        rules = self.config.host
        kept = self.world.own() + rules.reserve.of(host.total) + rules.pool.of(host.total)
        return kept + sum(map(self._wish, self.world.running)) <= host.total

    def _wish(self, guest: SimGuest) -> float:
        policy = self.config.policy_for(guest.uuid, guest.name, "")
        if not policy.manage or not _obeys(guest):
            return guest.maximum + guest.qemu
        needs = MARGIN * (guest.wanted + guest.cache) + MARGIN_LEAST
        return min(guest.maximum, max(policy.minimum.of(guest.maximum), needs)) + guest.qemu

    def _blame(self, promise: str, guest: str, detail: str) -> None:
        self.breaches.append(Breach(promise=promise, at_s=self.world.now_s, guest=guest, detail=detail))


def _reach(guest: SimGuest) -> float:
    """What the guest may have taken once its balloon has followed its device's standing target, as far as it can
    be known: a guest that has reset is taken at its word until its driver is back, one whose monitor hangs at its
    last, and so near, it has arrived."""
    near = abs(guest.told_target - guest.told_actual) <= ARRIVED
    return float(guest.told_actual) if near else max(float(guest.told_actual), guest.told_target)


def _is_quick(guest: SimGuest) -> bool:
    return guest.balloon.delay_s == 0 and guest.balloon.speed > SLOW


def _obeys(guest: SimGuest) -> bool:
    balloon, voice = guest.balloon, guest.voice
    return not (balloon.stuck or balloon.stops_at is not None or voice.absent or guest.hung or guest.deaf)
