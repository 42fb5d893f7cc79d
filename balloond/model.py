"""What are the nouns?

The values that flow from observing to publishing: Snapshot -> Demand -> Division -> Moves -> Actions -> Outcomes,
sealed into one Tick. Everything here is immutable and knows nothing of clocks, files or libvirt. Memory is bytes,
time is seconds; `monotonic_s` counts from an arbitrary start and never jumps, `wall_s` is the epoch's. Whatever a
guest reported is named `untrusted_…`: in the core only `policy.demand`, and what it joins, may look at it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, assert_never

from balloond.units import format_size
from balloond.value import value

# --- what was seen ---------------------------------------------------------------------------------------


class State(enum.StrEnum):
    """What libvirt says of a guest's life."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_OFF = "shutting-off"
    OFF = "off"
    CRASHED = "crashed"
    SUSPENDED = "suspended"


class Obstacle(enum.StrEnum):
    """Why a guest's balloon must be left alone, whatever its statistics say."""

    UNMANAGED = "unmanaged"  # the operator said `manage: false`
    NOT_RUNNING = "not-running"  # paused, suspended, shutting off, crashed
    NO_BALLOON = "no-balloon"  # no virtio balloon device
    IN_JOB = "in-job"  # migration, save, dump, snapshot
    LOCKED = "locked-memory"  # <locked/>: the guest would lose memory and the host gain none
    HUGEPAGES = "hugepages"  # likewise
    PASSTHROUGH = "passthrough"  # VFIO pins all memory
    CONFIDENTIAL = "confidential"  # <launchSecurity>: SEV, SEV-SNP, TDX
    UNREADABLE = "unreadable"  # its monitor does not answer, or another holds it


class Held(enum.StrEnum):
    """How the host holds a guest's memory, as long as its definition lasts."""

    ORDINARY = "ordinary"  # the kernel may swap it
    LOCKED = "locked"
    HUGEPAGES = "hugepages"
    PASSTHROUGH = "passthrough"
    CONFIDENTIAL = "confidential"
    UNKNOWN = "unknown"  # its definition was not read: to be safe, as one that can't be swapped

    @property
    def swappable(self) -> bool:
        return self is Held.ORDINARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the guest's balloon driver last told QEMU. Nothing here was checked; None: not reported."""

    last_update_s: int  # epoch seconds by the host's clock; 0: the driver never answered
    untrusted_available: int | None = None
    untrusted_unused: int | None = None
    untrusted_usable: int | None = None
    untrusted_caches: int | None = None
    untrusted_swap_in: int | None = None  # bytes since boot
    untrusted_swap_out: int | None = None
    untrusted_major_faults: int | None = None  # a count since boot


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """PSI of memory, from /proc/pressure/memory or a cgroup's memory.pressure; ratios from 0 to 1."""

    some_avg10: float
    full_avg10: float
    some_total_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCgroup:
    """What a guest's own cgroup holds, in bytes: QEMU and its helpers, page cache included."""

    used: int
    swapped: int | None = None  # None: the kernel does not account for swap
    pressure: Pressure | None = None  # None: the kernel keeps none for it
    soft_limit: int | None = None  # memory.high, on v1 memory.soft_limit_in_bytes; None: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One guest in one snapshot."""

    uuid: str
    name: str
    title: str = ""
    state: State = State.RUNNING
    maximum: int  # the most that its balloon can give it
    actual: int  # the balloon's size now, as libvirt knows it
    rss: int | None = None  # resident memory of its QEMU process; None: unknown
    overhead: int = 0  # what QEMU itself needs beside the guest's memory, as far as the edge can tell
    obstacle: Obstacle | None = None
    statistics: Statistics | None = None
    statistics_period_s: int = 0  # 0: the guest is not asked
    incarnation: int = 0  # changes when it boots, resets, resumes or arrives: what was learned is then void
    block_read: int | None = None  # bytes read from its disks since boot
    swapped: int | None = None  # bytes of it in the host's swap
    deflates_on_oom: bool = False
    reports_free_pages: bool = False
    defined: bool = True  # False: its definition could not be read yet, or makes no sense
    mergeable: bool = True  # False: <nosharepages/>, or memory of a kind that KSM never merges
    in_pool: bool = True  # False: its memory is none of the pool's, nor to be counted in it
    virtio_mem: int = 0  # what its virtio-mem devices may have beside `maximum`
    program: int = 0  # of rss: file pages of QEMU's program, which guests share and the kernel can drop
    translations: int = 0  # what QEMU may take for translated code, where it emulates the processor
    cgroup: GuestCgroup | None = None  # as it was some seconds ago; None: it has none of its own
    swap_limit: int | None = None  # the most of it that its cgroups let into swap, if they say so

    @property
    def in_swap(self) -> int:
        """What of it lies in the host's swap, as far as anybody tells. proc(5): the swap of a process leaves out
        shared memory, which its cgroup counts."""
        its_cgroups = (self.cgroup.swapped or 0) if self.cgroup is not None else 0
        return max(self.swapped, its_cgroups) if self.swapped else its_cgroups


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmSettings:
    """How same-page merging is set. None: this kernel has no such setting, or it was not looked at."""

    run: int | None = None  # 0 keeps what is merged, 1 merges, 2 unmerges all
    pages_to_scan: int | None = (
        None  # pages a step of ksmd; the advisor, where one is on, changes it by itself
    )
    sleep_ms: int | None = None  # between two steps
    advisor: str | None = None  # `none` or `scan-time`; before 6.8 there is none
    advisor_target_s: int | None = None
    advisor_max_cpu: int | None = None  # percent of one processor, as the kernel has it
    advisor_min_pages: int | None = None  # with so many pages a step the advisor begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Ksm:
    """The kernel's same-page merging, from /sys/kernel/mm/ksm; memory in bytes, counters since boot."""

    run: int
    saved: int  # everybody's: all of it may be called back
    profit: int | None  # general_profit; None: the kernel does not say (before 6.4)
    full_scans: int
    pages_to_scan: int
    advisor: str | None  # None: no advisor in this kernel (before 6.8)
    candidates: int = 0  # what ksmd keeps account of: merged, looked at in vain, and changing too often
    scanned: int | None = None  # what ksmd looked at; None: the kernel does not say (before 6.6)
    cpu_s: float | None = None  # of ksmd; None: it was not found
    broken: int = 0  # merged pages that were written to, and so were copied again
    settings: KsmSettings = KsmSettings()
    found: KsmSettings | None = None  # as they were before we set anything; None: we set nothing
    put: KsmSettings | None = None  # as we left them
    failed: str = ""  # why our last unmerging ended before its time; empty: it did not
    in_guests: int | None = None  # of `saved`, what stands in resident sizes of guests; None: it may be all

    @property
    def counted_twice(self) -> int:
        """By so much resident sizes of guests are more than the memory that they take."""
        return self.saved if self.in_guests is None else self.in_guests


class PoolSource(enum.StrEnum):
    """Where the pool's size comes from: the smallest of these that applies."""

    HOST = "host"
    CGROUP = "cgroup"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The memory that guests compete for (the pool's, where the guests' cgroup or the operator limits it)."""

    total: int
    available: int  # to be had without swapping
    source: PoolSource = PoolSource.HOST
    outside: int = 0  # memory for guests outside of the pool: the host's besides, less what no guest holds
    swap_total: int = 0
    swap_free: int = 0
    swap_out: int = 0  # bytes since boot
    swap_in: int = 0
    swap_withheld: int | None = (
        None  # free on disk, which guests' cgroups keep from them; None: nothing bounds it
    )
    zram_beyond: int = 0  # what zram may take of a higher bound, before there is more for the disk
    zram_total: int = 0  # of swap_total: on zram, which takes memory for what it holds
    zram_free: int = 0  # of swap_free: likewise
    zswap_growth: int = 0  # memory that zswap's pool may yet take
    huge_free: int = 0  # huge pages of the default size, set aside and neither used nor reserved
    pressure: Pressure | None = None  # None: no PSI in this kernel
    ksm: Ksm | None = None
    oom_kills: int = 0  # since boot


class FaultKind(enum.StrEnum):
    LIBVIRT_DOWN = "libvirt-down"  # no connection; retried with backoff
    LIBVIRT_SLOW = "libvirt-slow"  # a call passed its deadline; its process was ended
    GUEST_UNREADABLE = "guest-unreadable"
    KERNEL_UNREADABLE = "kernel-unreadable"
    POOL_DIVIDED = "pool-divided"  # managed guests stand under different memory limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that could not be read. `subject` is a guest's UUID, a path or a URI."""

    kind: FaultKind
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The world at one instant. `guests` is None when the list itself could not be had: nobody vanished."""

    monotonic_s: float
    wall_s: float
    host: Host | None
    guests: tuple[Guest, ...] | None  # in UUID order
    faults: tuple[Fault, ...] = ()


# --- what was concluded ----------------------------------------------------------------------------------


class Trust(enum.StrEnum):
    """How far a guest's numbers may be relied on."""

    FRESH = "fresh"  # may shrink and grow
    AGING = "aging"  # may grow, may not shrink
    STALE = "stale"  # may grow, up to what it wanted or has touched
    SILENT = "silent"  # held at actual, counted as its maximum
    NEW = "new"  # booted a moment ago; held until it has settled
    ABSENT = "absent"  # its driver never reported usable numbers
    LYING = "lying"  # its last sample was impossible


class Rung(enum.IntEnum):
    """How bad it is on the host; see `policy.ladder`."""

    GREEN = 0
    YELLOW = 1
    ORANGE = 2
    RED = 3


class Stance(enum.StrEnum):
    """What is made of same-page merging; `MergingVerdict.words` says why."""

    LEFT = "left"  # the operator wants it left alone
    MERGING = "merging"
    RESTING = "resting"  # it did not pay: what is merged is kept, and it is tried again later
    YIELDING = "yielding"  # somebody else sets it: not fought
    OVERRULED = "overruled"  # likewise, and they merge though the operator wants none: an alert
    OFF = "off"  # the operator wants none, and nothing is merged
    UNMERGING = "unmerging"
    KEPT = "kept"  # the operator wants none, but what is merged has no room apart


class Reason(enum.StrEnum):
    """Why a guest's target is what it is: the label on metrics; `Verdict.words` puts it in a sentence."""

    FITS = "everything-fits"  # the maxima fit: no balloon at all
    NEED = "growth-for-need"
    DISTRESS = "growth-for-distress"
    SURPLUS = "growth-from-surplus"
    DONATE = "shrink-for-others"
    REFILL = "shrink-for-pool"
    SHORTAGE = "shrink-for-host"
    GUARANTEE = "growth-to-guarantee"
    CEILING = "shrink-to-ceiling"  # above the operator's maximum
    STEADY = "steady"
    NO_ROOM = "growth-waits-for-room"
    UNTRUSTED = "statistics-not-trusted"
    OBSTACLE = "left-alone"
    STUCK = "balloon-stuck"
    FROZEN = "host-unknown"  # host numbers or libvirt lost: nothing moves
    SETTLING = "settling"  # a new guest; all of them for a daemon that has just started
    FAREWELL = "farewell"  # the daemon stops and leaves the guest safe


# --- what was done ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTarget:
    """Ask the guest's balloon for a new size."""

    uuid: str
    name: str
    actual: int  # when it was decided
    target: int
    reason: Reason
    words: str


class Result(enum.StrEnum):
    DONE = "done"  # accepted; whether the balloon moves is seen later
    OBSERVED = "observed"  # mode `observe`: not even asked
    REFUSED = "refused"  # libvirt said no
    BUSY = "busy"  # a job holds the guest
    TIMED_OUT = "timed-out"
    GONE = "gone"  # the guest vanished meanwhile
    UNREACHABLE = "unreachable"  # no connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    action: SetTarget
    result: Result
    detail: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMerging:
    """Steer the kernel's same-page merging. What `to` leaves None stays as it is."""

    to: KsmSettings  # with an advisor on, `pages_to_scan` is where it is to begin
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaim:
    """Ask the kernel to push memory of one guest's cgroup out: caches first, then swap."""

    uuid: str
    name: str
    size: int  # the most that is to go
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSoftly:
    """Let the kernel slow down and reclaim from a guest above `limit`; it is never killed for it."""

    uuid: str
    name: str
    limit: int | None  # None: as it was before
    words: str
    incarnation: int = 0  # of the guest that is meant: its next life may have another cgroup


Measure = SetMerging | Reclaim | LimitSoftly
"""What is done at the host, beside balloons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of a measure."""

    measure: Measure
    result: Result
    detail: str = ""
    took_s: float = 0.0


# --- one turn of the loop, sealed ------------------------------------------------------------------------


@value
class Demand:
    """What one guest needs, and how far that is known; also the estimator's memory for the next tick."""

    trust: Trust
    working_set: int  # E: anonymous memory, kernel and the cache that it was seen to need
    want: int  # E and its margin, at most the ceiling
    need: int  # what it works with at this moment: nobody is shrunk below this
    enough: int  # that and its margin, or its promise; all that it wants while nobody can see what it lacks
    floor: int  # that with some air, which it keeps while the host can afford it
    guarantee: int  # the operator's promise
    ceiling: int  # the most that it may be given: its maximum or the operator's
    margin: int
    in_distress: bool  # it suffers for memory, or did so lately
    suffers: bool  # it did at its newest sample
    squeezed: bool  # next to nothing is usable: what it needs is cut off by what it has
    starves: bool = False  # for a minute on end it suffered or was squeezed, and could have more
    bears_surprise: bool = False  # it can swap, or takes memory back by itself: a jump does not kill it
    races: bool = False  # it grew so fast since its last sample that a margin for quiet times will not do
    overhead: int  # what its QEMU process needs beside the guest's memory
    sampled_s: float | None = (
        None  # when its newest believed sample was taken, monotonic; None: there is none
    )
    memory: Any = field(repr=False)  # policy.demand.Memory: what the estimator carries to the next tick


@value
class Verdict:
    """What was concluded of one guest in one tick, and why."""

    uuid: str
    name: str
    actual: int
    demand: Demand | None  # None: left alone, nothing estimated
    entitlement: int  # what allocation grants
    target: int  # what is asked for now or was before; actual where nothing was ever asked
    reason: Reason
    obstacle: Obstacle | None
    memory: Any = field(repr=False)  # policy.decide.GuestMemory

    @property
    def words(self) -> str:
        """The verdict in a sentence, for people."""
        return _say(self)


def _say(verdict: Verdict) -> str:
    has, target = format_size(verdict.actual), format_size(verdict.target)
    demand = verdict.demand
    want = format_size(demand.want) if demand else "unknown"
    works = f"works with {format_size(demand.working_set)}" if demand else "nothing known of its work"
    match verdict.reason:
        case Reason.FITS:
            return f"all guests fit at their maximum, so it gets {target}"
        case Reason.NEED:
            return f"{works} and wants {want}, has {has}: grown to {target}"
        case Reason.DISTRESS:
            return f"suffers for memory with {has}: grown to {target} at once"
        case Reason.SURPLUS:
            return (
                f"memory is free and its share of it is {format_size(verdict.entitlement)}: grown to {target}"
            )
        case Reason.DONATE:
            return f"{works} of {has}; others need memory now: shrunk to {target}"
        case Reason.REFILL:
            return f"{works} of {has}; the pool for growth is low: shrunk to {target}"
        case Reason.SHORTAGE:
            return f"{works} of {has}; the host is short of memory: shrunk to {target}"
        case Reason.GUARANTEE:
            return f"has {has}, less than it is guaranteed: grown to {target}"
        case Reason.CEILING:
            return f"has {has}, more than the operator allows it: shrunk to {target}"
        case Reason.STEADY:
            return f"{works}, wants {want}, has {has}: nothing to do"
        case Reason.NO_ROOM:
            return f"wants {want}, has {has}: waits until memory is free"
        case Reason.UNTRUSTED:
            trust = demand.trust.value if demand else "absent"
            return f"its statistics are {trust}: held at {has}"
        case Reason.OBSTACLE:
            return f"left alone: {verdict.obstacle.value if verdict.obstacle else 'no statistics'}"
        case Reason.STUCK:
            return f"its balloon did not follow: left alone at {has} for a while"
        case Reason.FROZEN:
            return f"the host or libvirt cannot be read: frozen at {target}"
        case Reason.SETTLING:
            return f"watched since a moment ago: held at {has} until its numbers settle"
        case Reason.FAREWELL:
            return f"the daemon stops: left with {target}"
        case _:
            assert_never(verdict.reason)


@value
class MergingVerdict:
    """What was concluded of same-page merging in one tick, and why."""

    mode: str  # the operator's: leave, steer or off
    stance: Stance
    words: str
    cap: float | None  # what ksmd may use of one processor now; None: nobody bounds it
    used: float | None  # what it uses, averaged over half a minute; None: not known
    memory: Any = field(repr=False)  # policy.merging.Course


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the pool's memory is, in bytes. `headroom` is what may be granted now."""

    total: int
    available: int
    own: int  # used by the host itself: neither available nor any guest's
    reserve: int
    pool: int  # kept free for growth
    committed: int  # sum over guests of max(actual, target) and overhead
    headroom: int
    guaranteed: int  # sum of guarantees
    covered: bool  # own + reserve + committed <= total
    loan: int = 0  # of what is available: saved by merging, and called back by writing


@value
class GuestClaim:
    """What one guest may come to take of the host, however its balloon stands."""

    uuid: str
    held: Held
    size: int
    pinned: int  # of it, what has to stay in memory


@value
class Solvency:
    """Whether all guests could have all that they were ever promised, at once; bytes. See `policy.solvency`."""

    memory: int  # that guests compete for
    swap: int  # on disk: free, or already taken by guests
    own: int  # used by the host itself, and what zswap's pool may yet take
    reserve: int
    claims: tuple[GuestClaim, ...]  # of those in the pool, in UUID order
    claimed: int  # their sum, and what guests outside of the pool may take beyond what there is for them
    unswappable: int  # of it
    swap_withheld: int | None = (
        None  # free on disk beside `swap`, but for a bound on guests; None: there is none
    )
    zram: int = 0  # swap that they may have too, but that keeps in `memory` what it holds
    zram_beyond: int = 0  # what it may take of a higher bound, before there is more swap on disk

    @property
    def kept(self) -> int:
        """What has to stay in memory: what can't be swapped, and of the rest as much as may go to zram."""
        return self.unswappable + min(self.zram, self.claimed - self.unswappable)

    @property
    def memory_missing(self) -> int:
        """By so much what has to stay in memory is more than there is: no swap helps against it."""
        return max(0, min(self.kept, self.kept + self.own + self.reserve - self.memory))

    @property
    def swap_missing(self) -> int:
        """So much more swap on disk would do, once no memory is missing."""
        return max(0, -self.spare - self.memory_missing)

    @property
    def spare(self) -> int:
        """What would be left of memory and swap; negative: missing."""
        return self.memory + self.swap - self.claimed - self.own - self.reserve

    @property
    def solvent(self) -> bool:
        return self.memory_missing == 0 and self.swap_missing == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    rung: Rung
    ledger: Ledger | None  # None: the host could not be read
    verdicts: tuple[Verdict, ...]  # in UUID order
    actions: tuple[SetTarget, ...]  # in the order in which they are to be carried out
    measures: tuple[Measure, ...] = ()  # after them
    solvency: Solvency | None = None  # None: host or guests are unknown
    merging: MergingVerdict | None = None  # None: no merging in this kernel, or the host could not be read
    hurry: bool = False  # look again soon: somebody waits for what others give, races, or was just missed
    memory: Any = field(default=None, repr=False)  # policy.decide.HostMemory: the host's side


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One turn of the loop, sealed: all that `decide` will remember of it."""

    number: int
    snapshot: Snapshot
    decision: Decision
    outcomes: tuple[Outcome, ...] = ()  # of the actions
    measured: tuple[Measured, ...] = ()
