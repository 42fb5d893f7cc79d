"""How does a simulated guest behave?

Memory that its programs want comes from a workload; what the balloon leaves decides what they get. What does not
fit goes to the guest's own swap, if it has one, else its programs wait, or the balloon lets go (`autodeflate`).
The balloon takes free memory first, then page cache, then, with swap, programs' memory. Everything is bytes and
seconds; nothing here is random, and nothing knows of balloond.

`actual` is the truth; `told_actual` is what libvirt knows of it, which after a reset is old until the guest's
driver loads again (seen with QEMU 7.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from balloond.model import Guest, Obstacle, State, Statistics
from balloond.units import MIB, PAGE

Workload = Callable[[float], "Wish"]

SWAP_TOUCH: Final = 0.02
"""The share of swapped-out memory that its programs miss each second: a bit less than a working set's reuse."""

BOOT_S: Final = 20.0
"""From a guest's start until its balloon driver speaks; 5 to 20 s were seen, TCG's slowest counted."""

DEFLATE_SPEED: Final = 256 * MIB
"""Bytes a second that deflate-on-oom gives back: 256 pages a notice, as fast as the allocations that fail."""

REPORTING_DECAY_S: Final = 3.0
"""Free page reporting brought a guest from 513 to 208 MB in 6 s: two such times."""


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
    delay_s: float = 0.0  # between taking the numbers and their arrival, which is what the stamp tells
    silent: bool = False  # says nothing new
    frozen: bool = False  # says the same numbers again, newly stamped
    bias: Callable[[Statistics], Statistics] | None = None  # a liar's version
    lacks_usable: bool = False  # as old Linux kernels
    fieldless: bool = False  # as Windows without its service: one stamp for ever, and no field
    absent: bool = False  # no driver at all: its balloon does not move either


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
    qemu: float = 0.0  # what its QEMU process needs beside its memory
    autodeflate: bool = False
    reports_free_pages: bool = False
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
    deaf: bool = False  # its statistics are read, yet setting a target times out
    running: bool = True
    incarnation: int = 0
    loads_s: float = float("-inf")  # when the driver of this incarnation loads
    told: float | None = None  # `actual` as libvirt knows it, where that is old
    host_swapped: float = 0.0
    heard: Statistics | None = None  # the sample that the host has got
    coming: tuple[float, Statistics] | None = None  # a sample on its way, and when it arrives
    shown: tuple[int, Statistics | None] | None = None  # size and sample that the host saw last
    stood: float = 0.0  # its device's target when it was shown, or asked for since
    sampled_s: float = float("-inf")
    numbered_s: float = float("-inf")  # when it last took a sample that holds numbers

    def __post_init__(self) -> None:
        self.target = self.target or self.actual

    @property
    def short(self) -> float:
        """Memory that its programs want and its balloon does not let them have."""
        return max(0.0, self.wanted - self.actual)

    @property
    def told_actual(self) -> int:
        """`actual` as libvirt knows it: of a guest whose monitor does not answer, nothing new."""
        if self.hung and self.shown is not None:
            return self.shown[0]
        return int(self.actual if self.told is None else self.told)

    @property
    def told_target(self) -> float:
        """What its device was asked for, likewise: whatever else moved its balloon meanwhile."""
        return self.stood if self.hung and self.shown is not None else self.target

    @property
    def rss(self) -> int:
        """Resident memory of its QEMU process; what the host swapped out is not resident."""
        return int(max(0.0, self.resident + self.qemu - self.host_swapped))

    def step(self, now_s: float, elapsed_s: float) -> None:
        """Lives for `elapsed_s` up to `now_s`."""
        if not self.running:
            return
        wish = self.workload(now_s)
        self.wanted = min(wish.memory + self.kernel, float(self.maximum))
        if now_s >= self.loads_s:
            self.told = None
            self._move_balloon(now_s, elapsed_s)
        self._help_itself(elapsed_s)
        self.served = min(self.wanted, self.actual)
        self._swap(elapsed_s)
        cache = min(wish.cache, self.actual - self.served)
        if wish.cache:
            missing = wish.cache - cache
            self.reads += max(0.0, cache - self.cache) + missing * min(1.0, SWAP_TOUCH * elapsed_s)
        self.cache = cache
        used = self.served + self.cache
        self.resident = min(self.actual, max(self.resident, used))
        if self.reports_free_pages:
            self.resident -= (self.resident - used) * min(1.0, elapsed_s / REPORTING_DECAY_S)

    def speak(self, now_s: float, wall_s: float) -> None:
        """Tells the host of its memory, if its period has passed; `wall_s` is the host's clock."""
        voice = self.voice
        if self.coming is not None and self.coming[0] <= now_s:
            self.heard, self.coming = self.coming[1], None
        if voice.silent or voice.absent or not self.running or now_s < self.loads_s:
            return
        if now_s - self.sampled_s < voice.period_s or self.coming is not None:
            return
        self.sampled_s = now_s
        if not voice.fieldless:
            self.numbered_s = now_s
        sample = self._sample(int(wall_s + voice.delay_s))
        if voice.delay_s:
            self.coming = (now_s + voice.delay_s, sample)
        else:
            self.heard = sample

    def show(self) -> Guest:
        """The guest as the host sees it."""
        if not self.hung:
            self.shown, self.stood = (self.told_actual, self.heard), self.target
        heard = self.shown[1] if self.shown is not None else None
        return Guest(
            uuid=self.uuid,
            name=self.name,
            state=State.RUNNING,
            maximum=self.maximum,
            actual=self.told_actual,
            rss=self.rss,
            overhead=int(self.qemu),
            obstacle=Obstacle.UNREADABLE if self.hung else None,
            statistics=heard,
            statistics_period_s=int(self.voice.period_s),
            incarnation=self.incarnation,
            block_read=int(self.reads),
            swapped=int(self.host_swapped),
            deflates_on_oom=self.autodeflate,
            reports_free_pages=self.reports_free_pages,
        )

    def ask(self, target: int, now_s: float) -> None:
        self.target = self.stood = float(target)
        self.asked_s = now_s

    def boot(self, now_s: float) -> None:
        """Starts from nothing, as large as it can be; its driver loads in a while."""
        self._forget()
        self.running = True
        self.actual = self.target = float(self.maximum)
        self.told = None
        self.heard = self.shown = None
        self.loads_s = now_s + BOOT_S

    def reboot(self, now_s: float = 0.0) -> None:
        """Resets: the balloon is gone until the driver loads and follows the device's standing target again.
        Until then libvirt tells the old size and the old numbers."""
        self.told = float(self.told_actual)
        self._forget()
        self.actual = float(self.maximum)
        self.loads_s = now_s + BOOT_S

    def burst_balloon(self) -> None:
        """Takes all its memory back, unasked: its driver was unloaded, and follows new targets only. Where it has
        not loaded since a reset there is no balloon to burst."""
        if self.told is None:
            self.actual = self.target = float(self.maximum)

    def _forget(self) -> None:
        self.swapped = self.cache = self.resident = self.swap_in = self.swap_out = self.faults = 0.0
        self.host_swapped = 0.0
        self.coming = None
        self.incarnation += 1

    def _move_balloon(self, now_s: float, elapsed_s: float) -> None:
        balloon = self.balloon
        if self.actual == self.target or balloon.stuck or self.voice.absent:
            return
        if now_s - self.asked_s < balloon.delay_s:
            return
        most = balloon.speed * elapsed_s
        if self.target > self.actual:
            self.actual = min(self.target, self.actual + most)
            return
        least = max(self.target, float(balloon.stops_at or 0))
        if not self.swap:  # it takes what is free and cached; programs' memory stays
            least = max(least, min(self.actual, self.wanted))
        self.actual = min(self.actual, max(least, self.actual - most))
        self.resident = min(self.resident, self.actual)

    def _help_itself(self, elapsed_s: float) -> None:
        """Deflate-on-oom: a last resort, and the balloon follows only new targets after it."""
        lacking = self.wanted - self.actual - self.swap
        if self.autodeflate and lacking > 0:
            self.actual = self.target = min(
                self.maximum, self.actual + min(lacking, DEFLATE_SPEED * elapsed_s)
            )

    def _swap(self, elapsed_s: float) -> None:
        swapped = min(self.wanted - self.served, self.swap)
        churn = swapped * min(1.0, SWAP_TOUCH * elapsed_s)  # what comes in pushes as much out
        self.swap_out += max(0.0, swapped - self.swapped) + churn
        back = max(0.0, self.swapped - swapped) + churn
        self.swap_in += back
        self.faults += back / PAGE
        self.swapped = swapped

    def _sample(self, stamp_s: int) -> Statistics:
        voice = self.voice
        if voice.fieldless:
            return Statistics(last_update_s=self.heard.last_update_s if self.heard else stamp_s)
        if voice.frozen and self.heard is not None:
            return replace(self.heard, last_update_s=stamp_s)
        usable = int(max(0.0, self.actual - self.served - 0.2 * self.cache))
        unused = int(max(0.0, self.actual - self.served - self.cache))
        sample = Statistics(
            last_update_s=stamp_s,
            untrusted_available=self.maximum if self.autodeflate else int(self.actual),
            untrusted_unused=unused,
            untrusted_usable=None if voice.lacks_usable else usable,
            untrusted_caches=int(self.cache),
            untrusted_swap_in=int(self.swap_in),
            untrusted_swap_out=int(self.swap_out),
            untrusted_major_faults=int(self.faults),
        )
        return voice.bias(sample) if voice.bias else sample
