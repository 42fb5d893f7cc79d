"""How does a simulated guest behave?

Memory that its programs want comes from a workload; what the balloon leaves decides what they get. What does not
fit goes to the guest's own swap, if it has one, else its programs wait. The balloon takes free memory first,
then page cache, then, with swap, programs' memory. Everything is bytes and seconds; nothing here is random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from balloond.model import Guest, State, Statistics

Workload = Callable[[float], "Wish"]

SWAP_TOUCH: Final = 0.02
"""The share of swapped-out memory that its programs miss each second: a bit less than a working set's reuse."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the guest's programs want at one instant."""

    memory: float  # anonymous and kernel memory, bytes
    cache: float = 0.0  # file pages that they read again and again


@dataclass(slots=True, kw_only=True)
class Balloon:
    """How the guest's balloon behaves."""

    speed: float = float("inf")  # bytes a second, both ways
    stuck: bool = False
    stops_at: int | None = None  # never shrinks the guest below this
    delay_s: float = 0.0  # before it begins to follow a new target


@dataclass(slots=True, kw_only=True)
class Voice:
    """How the guest's driver speaks of its memory."""

    period_s: float = 1.0
    silent: bool = False  # says nothing new
    bias: Callable[[Statistics], Statistics] | None = None  # a liar's version
    lacks_usable: bool = False  # as Windows without its service, or old Linux kernels
    absent: bool = False  # no driver at all


@dataclass(slots=True, kw_only=True)
class SimGuest:
    """One guest and what became of it."""

    uuid: str
    name: str
    maximum: int
    actual: float
    workload: Workload
    kernel: float = 0.0  # what it needs for itself, beside the workload
    swap: float = 0.0  # its own swap's size
    autodeflate: bool = False
    balloon: Balloon = field(default_factory=Balloon)
    voice: Voice = field(default_factory=Voice)
    target: float = 0.0
    asked_s: float = 0.0
    resident: float = 0.0
    wanted: float = 0.0  # memory that its programs want now
    served: float = 0.0  # of that, what is in its memory
    swapped: float = 0.0  # of that, what is in its own swap
    cache: float = 0.0
    swap_in: float = 0.0
    swap_out: float = 0.0
    faults: float = 0.0
    reads: float = 0.0
    hung: bool = False  # its monitor does not answer
    running: bool = True
    incarnation: int = 0
    host_swapped: float = 0.0
    heard: Statistics | None = None  # the sample that the host has got
    sampled_s: float = float("-inf")

    def __post_init__(self) -> None:
        self.target = self.target or self.actual

    @property
    def short(self) -> float:
        """Memory that its programs want and its balloon does not let them have."""
        return max(0.0, self.wanted - self.actual)

    def step(self, now_s: float, elapsed_s: float) -> None:
        """Lives for `elapsed_s` up to `now_s`."""
        if not self.running:
            return
        wish = self.workload(now_s)
        self.wanted = min(wish.memory + self.kernel, float(self.maximum))
        self._move_balloon(now_s, elapsed_s)
        self.served = min(self.wanted, self.actual)
        beyond = self.wanted - self.served
        swapped = min(beyond, self.swap)
        if swapped > self.swapped:
            self.swap_out += swapped - self.swapped
        back = max(0.0, self.swapped - swapped) + swapped * min(1.0, SWAP_TOUCH * elapsed_s)
        self.swap_in += back
        self.faults += back / 4096
        self.swapped = swapped
        cache = min(wish.cache, self.actual - self.served)
        if wish.cache:
            missing = wish.cache - cache
            self.reads += max(0.0, cache - self.cache) + missing * min(1.0, SWAP_TOUCH * elapsed_s)
        self.cache = cache
        self.resident = min(self.actual, max(self.resident, self.served + self.cache))

    def speak(self, now_s: float, wall_s: float) -> None:
        """Tells the host of its memory, if its period has passed."""
        voice = self.voice
        if voice.silent or voice.absent or not self.running or now_s - self.sampled_s < voice.period_s:
            return
        self.sampled_s = now_s
        usable = int(max(0.0, self.actual - self.served - 0.2 * self.cache))
        unused = int(max(0.0, self.actual - self.served - self.cache))
        sample = Statistics(
            last_update_s=int(wall_s),
            untrusted_available=self.maximum,
            untrusted_unused=unused,
            untrusted_usable=None if self.voice.lacks_usable else usable,
            untrusted_caches=int(self.cache),
            untrusted_swap_in=int(self.swap_in),
            untrusted_swap_out=int(self.swap_out),
            untrusted_major_faults=int(self.faults),
        )
        self.heard = self.voice.bias(sample) if self.voice.bias else sample

    def show(self) -> Guest:
        """The guest as the host sees it."""
        return Guest(
            uuid=self.uuid,
            name=self.name,
            state=State.RUNNING,
            maximum=self.maximum,
            actual=int(self.actual),
            rss=int(self.resident),
            statistics=self.heard,
            statistics_period_s=int(self.voice.period_s),
            incarnation=self.incarnation,
            block_read=int(self.reads),
            swapped=int(self.host_swapped),
            deflates_on_oom=self.autodeflate,
        )

    def ask(self, target: int, now_s: float) -> None:
        self.target = float(target)
        self.asked_s = now_s

    def reboot(self) -> None:
        """Resets: the balloon is gone, all memory is the guest's again."""
        self.actual = self.target = float(self.maximum)
        self.swapped = self.cache = self.resident = self.swap_in = self.swap_out = self.faults = 0.0
        self.heard = None
        self.incarnation += 1

    def _move_balloon(self, now_s: float, elapsed_s: float) -> None:
        if self.actual == self.target or self.balloon.stuck or now_s - self.asked_s < self.balloon.delay_s:
            return
        most = self.balloon.speed * elapsed_s
        if self.target > self.actual:
            self.actual = min(self.target, self.actual + most)
            return
        least = max(self.target, float(self.balloon.stops_at or 0))
        if not self.swap:  # it takes what is free and cached; programs' memory stays
            least = max(least, min(self.actual, self.wanted))
        self.actual = min(self.actual, max(least, self.actual - most))
        self.resident = min(self.resident, self.actual)
