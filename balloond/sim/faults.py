"""What can go wrong in the simulated world?

Each fault is a small value with a beginning and an end, to be put into `SimWorld.troubles`. Some concern a guest,
named by `guest`; some everybody. What a fault changes it puts back when it ends, unless it says otherwise.
`KINDS` names them all, for scenario files. Nothing here is random: who wants chance draws the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from balloond.model import Statistics
from balloond.sim.guest import SimGuest
from balloond.sim.world import SimWorld
from balloond.units import GIB, MIB

FOR_EVER: Final = float("inf")


@dataclass(slots=True, kw_only=True)
class Lasting:
    """A fault from one time to another, simulated seconds."""

    from_s: float
    until_s: float = FOR_EVER

    def begin(self, world: SimWorld) -> None:
        """Makes it so."""

    def end(self, world: SimWorld) -> None:
        """Puts back what was."""


@dataclass(slots=True, kw_only=True)
class OfGuest(Lasting):
    """A fault of the guest of that name."""

    guest: str

    def whose(self, world: SimWorld) -> SimGuest:
        return world.named(self.guest)


# --- what guests say -------------------------------------------------------------------------------------


class Silence(OfGuest):
    """Its statistics grow old."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).voice.silent = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).voice.silent = False


class Freeze(OfGuest):
    """The same numbers again and again, newly stamped."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).voice.frozen = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).voice.frozen = False


@dataclass(slots=True, kw_only=True)
class Late(OfGuest):
    """Its numbers arrive `delay_s` after they were taken."""

    delay_s: float = 2.0

    def begin(self, world: SimWorld) -> None:
        self.whose(world).voice.delay_s = self.delay_s

    def end(self, world: SimWorld) -> None:
        self.whose(world).voice.delay_s = 0.0


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
class Lie(OfGuest):
    """It tells a story of `LIES` in place of the truth."""

    story: str

    def begin(self, world: SimWorld) -> None:
        self.whose(world).voice.bias = LIES[self.story]

    def end(self, world: SimWorld) -> None:
        self.whose(world).voice.bias = None


class Fieldless(OfGuest):
    """It has a stamp that never changes and no numbers, as Windows without its service."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).voice.fieldless = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).voice.fieldless = False


class NoUsable(OfGuest):
    """It does not tell what is usable, as old kernels."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).voice.lacks_usable = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).voice.lacks_usable = False


class NoDriver(OfGuest):
    """It has no balloon driver: says nothing and obeys nothing."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).voice.absent = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).voice.absent = False


# --- what guests' balloons do ----------------------------------------------------------------------------


class StuckBalloon(OfGuest):
    """It does not move at all."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).balloon.stuck = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).balloon.stuck = False


@dataclass(slots=True, kw_only=True)
class SlowBalloon(OfGuest):
    """It moves `delay_s` after it was asked, and at `speed` bytes a second."""

    delay_s: float = 0.0
    speed: float = 64.0 * MIB

    def begin(self, world: SimWorld) -> None:
        balloon = self.whose(world).balloon
        balloon.delay_s, balloon.speed = self.delay_s, self.speed

    def end(self, world: SimWorld) -> None:
        balloon = self.whose(world).balloon
        balloon.delay_s, balloon.speed = 0.0, float("inf")


@dataclass(slots=True, kw_only=True)
class HalfWay(OfGuest):
    """It never shrinks below `share` of its maximum."""

    share: float = 0.75

    def begin(self, world: SimWorld) -> None:
        guest = self.whose(world)
        guest.balloon.stops_at = int(self.share * guest.maximum)

    def end(self, world: SimWorld) -> None:
        self.whose(world).balloon.stops_at = None


class BurstBalloon(OfGuest):
    """It takes all its memory back at once, unasked, and stays itself. Nothing puts that back."""

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

    def begin(self, world: SimWorld) -> None:
        self.whose(world).running = False

    def end(self, world: SimWorld) -> None:
        self.whose(world).boot(world.now_s)


class Hang(OfGuest):
    """Its monitor does not answer."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).hung = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).hung = False


class Deaf(OfGuest):
    """It is read as ever, and setting its target times out."""

    def begin(self, world: SimWorld) -> None:
        self.whose(world).deaf = True

    def end(self, world: SimWorld) -> None:
        self.whose(world).deaf = False


# --- what happens to the host and to the daemon ----------------------------------------------------------


class LibvirtGone(Lasting):
    """Nobody can be read or asked."""

    def begin(self, world: SimWorld) -> None:
        world.libvirt_gone = True

    def end(self, world: SimWorld) -> None:
        world.libvirt_gone = False


class HostUnreadable(Lasting):
    """The kernel's figures can't be read."""

    def begin(self, world: SimWorld) -> None:
        world.host_unreadable = True

    def end(self, world: SimWorld) -> None:
        world.host_unreadable = False


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
