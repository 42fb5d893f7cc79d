"""What can go wrong in the simulated world?

Each fault is a small value with a beginning and an end, to be put into `SimWorld.troubles`. Some concern a guest,
named by `guest`; some everybody. What a fault changes it puts back when it ends, unless it says otherwise; where
another of its kind still lasts, that one's change stands.
`KINDS` names them all, for scenario files. Nothing here is random: who wants chance draws the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from balloond.model import Statistics
from balloond.sim.guest import SimGuest
from balloond.sim.world import SimWorld
from balloond.units import GIB, MIB

FOR_EVER: Final = float("inf")


@dataclass(slots=True, kw_only=True)
class Lasting:
    """A fault from one time to another, simulated seconds. It sets `fields` of `holder` while it lasts."""

    from_s: float
    until_s: float = FOR_EVER
    was: Mapping[str, object] = field(init=False, repr=False, compare=False, default_factory=dict)
    """The fields as they are without it and without all like it that last."""

    def holder(self, world: SimWorld) -> object:
        """Whose fields it sets."""
        return world

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        """What it sets them to."""
        return {}

    def begin(self, world: SimWorld) -> None:
        """Makes it so."""
        holder, fields, alike = self.holder(world), self.fields(world), self.alike(world)
        self.was = alike[-1].was if alike else {name: getattr(holder, name) for name in fields}
        _set(holder, fields)

    def end(self, world: SimWorld) -> None:
        """Puts back what was, or what the youngest of those like it has made of that."""
        alike = self.alike(world)
        _set(self.holder(world), alike[-1].fields(world) if alike else self.was)

    def alike(self, world: SimWorld) -> list[Lasting]:
        """The others of its kind that last and set the same, oldest first."""
        holder = self.holder(world)
        return [
            other
            for other in world.lasting
            if other is not self and isinstance(other, type(self)) and other.holder(world) is holder
        ]


def _set(holder: object, fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        setattr(holder, name, value)


@dataclass(slots=True, kw_only=True)
class OfGuest(Lasting):
    """A fault of the guest of that name."""

    guest: str

    def whose(self, world: SimWorld) -> SimGuest:
        return world.named(self.guest)

    def holder(self, world: SimWorld) -> object:
        return self.whose(world)


class OfVoice(OfGuest):
    """A fault of how a guest's driver speaks."""

    def holder(self, world: SimWorld) -> object:
        return self.whose(world).voice


class OfBalloon(OfGuest):
    """A fault of how a guest's balloon moves."""

    def holder(self, world: SimWorld) -> object:
        return self.whose(world).balloon


# --- what guests say -------------------------------------------------------------------------------------


class Silence(OfVoice):
    """Its statistics grow old."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"silent": True}


class Freeze(OfVoice):
    """The same numbers again and again, newly stamped."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"frozen": True}


@dataclass(slots=True, kw_only=True)
class Late(OfVoice):
    """Its numbers arrive `delay_s` after they were taken."""

    delay_s: float = 2.0

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"delay_s": self.delay_s}


def _hungry(truth: Statistics) -> Statistics:
    return replace(truth, untrusted_usable=0, untrusted_unused=0, untrusted_caches=0)


def _modest(truth: Statistics) -> Statistics:
    spare = truth.untrusted_available
    return replace(truth, untrusted_usable=spare, untrusted_unused=spare)


def _swaps(truth: Statistics) -> Statistics:
    """It says that it swaps in half a gigabyte with every sample."""
    return replace(truth, untrusted_swap_in=(truth.last_update_s % 10_000_000) * GIB // 2)


def _impossible(truth: Statistics) -> Statistics:
    return replace(truth, untrusted_usable=2**64 - 1)


def _negative(truth: Statistics) -> Statistics:
    return replace(truth, untrusted_usable=-1, untrusted_unused=-1)


def _backwards(truth: Statistics) -> Statistics:
    counter = 10**12 - (truth.last_update_s % 10_000_000) * 1000
    return replace(truth, untrusted_major_faults=counter, untrusted_swap_in=counter)


def _fickle(truth: Statistics) -> Statistics:
    return _hungry(truth) if truth.last_update_s // 20 % 2 else _modest(truth)


LIES: Final[dict[str, Callable[[Statistics], Statistics]]] = {
    "hungry": _hungry,  # nothing of its memory is free
    "modest": _modest,  # all of it is
    "swaps": _swaps,
    "impossible": _impossible,
    "negative": _negative,
    "backwards": _backwards,  # counters that fall
    "fickle": _fickle,  # hungry and modest in turns
}


@dataclass(slots=True, kw_only=True)
class Lie(OfVoice):
    """It tells a story of `LIES` in place of the truth."""

    story: str

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"bias": LIES[self.story]}


class Fieldless(OfVoice):
    """It has a stamp that never changes and no numbers, as Windows without its service."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"fieldless": True}


class NoUsable(OfVoice):
    """It does not tell what is usable, as old kernels."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"lacks_usable": True}


class NoDriver(OfVoice):
    """It has no balloon driver: says nothing and obeys nothing."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"absent": True}


# --- what guests' balloons do ----------------------------------------------------------------------------


class StuckBalloon(OfBalloon):
    """It does not move at all."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"stuck": True}


@dataclass(slots=True, kw_only=True)
class SlowBalloon(OfBalloon):
    """It moves `delay_s` after it was asked, and at `speed` bytes a second."""

    delay_s: float = 0.0
    speed: float = 64.0 * MIB

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"delay_s": self.delay_s, "speed": self.speed}


@dataclass(slots=True, kw_only=True)
class HalfWay(OfBalloon):
    """It never shrinks below `share` of its maximum."""

    share: float = 0.75

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"stops_at": int(self.share * self.whose(world).maximum)}


class BurstBalloon(OfGuest):
    """It takes all its memory back at once, unasked, and stays itself; if it has a balloon since its last reset.
    Nothing puts that back."""

    def begin(self, world: SimWorld) -> None:
        guest = self.whose(world)
        if guest.running:
            guest.burst_balloon()


class Reboot(OfGuest):
    """It resets; its driver is back in a while."""

    def begin(self, world: SimWorld) -> None:
        guest = self.whose(world)
        if guest.running:
            guest.reboot(world.now_s)


class Off(OfGuest):
    """It is off from the beginning to the end, and boots then: many at once are a boot storm."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"running": False}

    def end(self, world: SimWorld) -> None:
        if not self.alike(world):
            self.whose(world).boot(world.now_s)


class Hang(OfGuest):
    """Its monitor does not answer."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"hung": True}


class Deaf(OfGuest):
    """It is read as ever, and setting its target times out."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"deaf": True}


# --- what happens to the host and to the daemon ----------------------------------------------------------


class LibvirtGone(Lasting):
    """Nobody can be read or asked."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"libvirt_gone": True}


class HostUnreadable(Lasting):
    """The kernel's figures can't be read."""

    def fields(self, world: SimWorld) -> Mapping[str, object]:
        return {"host_unreadable": True}


@dataclass(slots=True, kw_only=True)
class DaemonKilled(Lasting):
    """The daemon is killed once it has carried out `after` more actions; whoever runs the loop starts it again."""

    after: int = 0

    def begin(self, world: SimWorld) -> None:
        world.applies_left = self.after


@dataclass(slots=True, kw_only=True)
class ClockJump(Lasting):
    """The wall clock jumps by `by_s`, which may be negative, and stays there."""

    by_s: float

    def begin(self, world: SimWorld) -> None:
        world.wall_shift_s += self.by_s


@dataclass(slots=True, kw_only=True)
class Unmerge(Lasting):
    """Guests write to merged pages until only `share` of their memory has equals; so it stays."""

    share: float = 0.0

    def begin(self, world: SimWorld) -> None:
        world.host.merging.share = self.share


KINDS: Final[dict[str, type[Lasting]]] = {
    "silence": Silence,
    "freeze": Freeze,
    "late": Late,
    "lie": Lie,
    "fieldless": Fieldless,
    "no-usable": NoUsable,
    "no-driver": NoDriver,
    "stuck-balloon": StuckBalloon,
    "slow-balloon": SlowBalloon,
    "half-way": HalfWay,
    "burst-balloon": BurstBalloon,
    "reboot": Reboot,
    "off": Off,
    "hang": Hang,
    "deaf": Deaf,
    "libvirt-gone": LibvirtGone,
    "host-unreadable": HostUnreadable,
    "daemon-killed": DaemonKilled,
    "clock-jump": ClockJump,
    "unmerge": Unmerge,
}
"""Every fault by the name that scenario files use."""
