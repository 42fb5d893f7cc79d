"""What does Prometheus see?

A scrape renders the last sealed tick, so nothing is computed that nobody reads, and a guest that has gone is
gone from the next scrape. Only what must be counted between scrapes is counted in `publish`. An unknown value
is absent, never 0. Guests' names are hostile text: they are label values, which the library escapes.

docs/metrics.md explains every name; a test compares the two.
"""

from __future__ import annotations

import platform
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from balloond import __version__
from balloond.config.settings import Mode
from balloond.model import (
    Demand,
    FaultKind,
    Guest,
    GuestCgroup,
    Host,
    Ksm,
    Ledger,
    LimitSoftly,
    MergingVerdict,
    Reclaim,
    Result,
    SetMerging,
    Solvency,
    Statistics,
    Tick,
    Verdict,
)
from balloond.publish.status import libvirt_answers

TICK_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From an idle host (milliseconds) to a tick in which every deadline passes (some seconds)."""

_Labels = tuple[str, ...]
_Samples = Iterable[tuple[_Labels, float | None]]


class Metrics(Collector):
    """A publisher of ticks and a collector of metrics; scrapes come from other threads."""

    def __init__(self, mode: Mode = Mode.ACTIVE) -> None:
        self.mode = mode
        self._tick: Tick | None = None
        self._lock = threading.Lock()  # over the counts: a scrape is to see all of a tick or nothing of it
        self._ticks = 0
        self._actions: Counter[_Labels] = Counter()
        self._measures: Counter[_Labels] = Counter()
        self._reclaim_asked = 0
        self._moved: Counter[str] = Counter(grow=0, shrink=0)
        self._faults: Counter[str] = Counter({kind.value: 0 for kind in FaultKind})
        self._reloads: Counter[str] = Counter(ok=0, failed=0)
        self._last_reload_ok = True
        self._durations = [0] * (len(TICK_BUCKETS_S) + 1)
        self._duration_s = 0.0
        self._cpu_s = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    @property
    def registry(self) -> CollectorRegistry:
        """These metrics and the daemon's own process_*: nothing that other code may have registered."""
        return self._registry

    def publish(self, tick: Tick) -> None:
        """Counts what happened in `tick`, and keeps it for the next scrape."""
        with self._lock:
            before, self._tick = self._tick, tick
            self._ticks += 1
            for outcome in tick.outcomes:
                action = outcome.action
                way = "grow" if action.target > action.actual else "shrink"
                self._actions[outcome.result.value, action.reason.value, way] += 1
            for measured in tick.measured:
                match measured.measure:
                    case SetMerging():
                        kind = "merge"
                    case Reclaim(size=size):
                        kind = "reclaim"
                        self._reclaim_asked += size if measured.result is Result.DONE else 0
                    case LimitSoftly(limit=limit):
                        kind = "lift" if limit is None else "limit"
                self._measures[kind, measured.result.value] += 1
            known = {(fault.kind, fault.subject) for fault in before.snapshot.faults} if before else set()
            for fault in tick.snapshot.faults:
                self._faults[fault.kind.value] += (fault.kind, fault.subject) not in known
            if before is not None:
                self._count_moves(before, tick)

    def watch_child(self, pid: Callable[[], int | None]) -> None:
        """Also exports what the process that holds libvirt's connection costs, under a prefix of its own."""
        ProcessCollector(namespace="balloond_libvirt", pid=lambda: pid() or "none", registry=self._registry)

    def turned(self, *, took_s: float, cpu_s: float) -> None:
        """One whole turn of the loop took so long, and cost the main thread so much."""
        with self._lock:
            self._durations[bisect_left(TICK_BUCKETS_S, took_s)] += 1
            self._duration_s += took_s
            self._cpu_s += cpu_s

    def reloaded(self, *, ok: bool) -> None:
        """The configuration was read again; `ok` says whether it is in force now."""
        with self._lock:
            self._reloads["ok" if ok else "failed"] += 1
            self._last_reload_ok = ok

    def collect(self) -> Iterator[Metric]:
        """Every family, from the last sealed tick and the counts."""
        yield InfoMetricFamily(
            "balloond_build",
            "The daemon's version and its Python's.",
            {"version": __version__, "python": platform.python_version()},
        )
        yield _gauge("balloond_mode", "1 for the mode in force.", ("mode",), [((self.mode.value,), 1)])
        with self._lock:
            tick = self._tick
            yield from self._counted()
        if tick is not None:
            yield from _of_tick(tick)

    def _count_moves(self, before: Tick, tick: Tick) -> None:
        was = {guest.uuid: guest for guest in before.snapshot.guests or ()}
        for guest in tick.snapshot.guests or ():
            old = was.get(guest.uuid)
            if old is not None and old.incarnation == guest.incarnation:
                self._moved["grow"] += max(0, guest.actual - old.actual)
                self._moved["shrink"] += max(0, old.actual - guest.actual)

    def _counted(self) -> list[Metric]:
        sums, running = [], 0
        for bound, count in zip((*map(str, TICK_BUCKETS_S), "+Inf"), self._durations, strict=True):
            running += count
            sums.append((bound, float(running)))
        return [
            _counter("balloond_ticks", "Turns of the loop.", (), [((), self._ticks)]),
            HistogramMetricFamily(
                "balloond_tick_seconds", "How long a turn took.", buckets=sums, sum_value=self._duration_s
            ),
            _counter(
                "balloond_tick_cpu_seconds", "Main thread's CPU time in turns.", (), [((), self._cpu_s)]
            ),
            _counter(
                "balloond_actions",
                "Targets that were set, or tried, or in mode observe only decided.",
                ("result", "reason", "direction"),
                self._actions.items(),
            ),
            _counter(
                "balloond_measures",
                "What was done at the host beside balloons, or tried, or in mode observe only decided.",
                ("measure", "result"),
                self._measures.items(),
            ),
            _counter(
                "balloond_reclaim_asked_bytes",
                "Of guests' memory that the kernel was asked to push out.",
                (),
                [((), self._reclaim_asked)],
            ),
            _counter(
                "balloond_moved_bytes",
                "How far guests' balloons really moved.",
                ("direction",),
                (((way,), moved) for way, moved in self._moved.items()),
            ),
            _counter(
                "balloond_faults",
                "Times that something began to be unreadable.",
                ("kind",),
                (((kind,), count) for kind, count in self._faults.items()),
            ),
            _counter(
                "balloond_config_reloads",
                "Reloads of the configuration; a failed one changes nothing.",
                ("result",),
                (((result,), count) for result, count in self._reloads.items()),
            ),
            _gauge(
                "balloond_config_last_reload_successful",
                "0 when the file on disk is broken and an older one is in force.",
                (),
                [((), self._last_reload_ok)],
            ),
        ]


def _of_tick(tick: Tick) -> Iterator[Metric]:
    snapshot, decision = tick.snapshot, tick.decision
    yield _gauge(
        "balloond_last_tick_timestamp_seconds", "When the last tick was.", (), [((), snapshot.wall_s)]
    )
    yield _gauge(
        "balloond_libvirt_connected",
        "1 when libvirt gave the list of guests.",
        (),
        [((), libvirt_answers(tick))],
    )
    yield _gauge(
        "balloond_faults_standing",
        "Things that can't be read now.",
        ("kind",),
        (((kind.value,), sum(fault.kind is kind for fault in snapshot.faults)) for kind in FaultKind),
    )
    yield _gauge("balloond_host_rung", "0 green, 1 yellow, 2 orange, 3 red.", (), [((), decision.rung.value)])
    if decision.ledger is not None:
        yield from _of_ledger(decision.ledger)
    if snapshot.host is not None:
        yield from _of_host(snapshot.host)
        if snapshot.host.ksm is not None:
            yield from _of_ksm(snapshot.host.ksm)
    if decision.solvency is not None:
        yield from _of_solvency(decision.solvency)
    if decision.merging is not None:
        yield from _of_merging(decision.merging)
    if snapshot.guests is not None:
        who = {guest.uuid: (guest.uuid, label(guest.name)) for guest in snapshot.guests}
        yield from _of_guests(snapshot.guests, who)
        yield from _of_statistics(snapshot.guests, who, snapshot.wall_s)
        yield from _of_verdicts([each for each in decision.verdicts if each.uuid in who], who)


_LEDGER: Final[tuple[tuple[str, str, Callable[[Ledger], float]], ...]] = (
    ("total_bytes", "Memory that guests compete for.", lambda ledger: ledger.total),
    ("available_bytes", "To be had now without swapping.", lambda ledger: ledger.available),
    ("own_bytes", "Used by the host itself.", lambda ledger: ledger.own),
    ("reserve_bytes", "Never given away.", lambda ledger: ledger.reserve),
    ("pool_bytes", "Kept free for growth.", lambda ledger: ledger.pool),
    ("headroom_bytes", "May be granted to guests now.", lambda ledger: ledger.headroom),
    (
        "committed_bytes",
        "Sum over guests of max(actual, target) and overhead.",
        lambda ledger: ledger.committed,
    ),
    ("guaranteed_bytes", "Sum of guests' guarantees.", lambda ledger: ledger.guaranteed),
    ("covered", "1 while own, reserve and committed fit into the total.", lambda ledger: ledger.covered),
    (
        "loan_bytes",
        "Of what is available: saved by merging, called back by writing.",
        lambda ledger: ledger.loan,
    ),
)


def _of_ledger(ledger: Ledger) -> Iterator[Metric]:
    for name, documentation, read in _LEDGER:
        yield _gauge(f"balloond_host_{name}", documentation, (), [((), read(ledger))])


_SOLVENCY: Final[tuple[tuple[str, str, Callable[[Solvency], float]], ...]] = (
    ("solvent", "1 while all guests could have all their memory at once.", lambda solvency: solvency.solvent),
    (
        "claimed_bytes",
        "What guests would take if they took all, with QEMU's own.",
        lambda solvency: solvency.claimed,
    ),
    ("unswappable_bytes", "Of it what can't be swapped.", lambda solvency: solvency.unswappable),
    ("swap_usable_bytes", "Swap on disk that guests may have.", lambda solvency: solvency.swap),
    ("swap_missing_bytes", "Swap on disk that would be missing.", lambda solvency: solvency.swap_missing),
    (
        "memory_missing_bytes",
        "Memory missing for what can't be swapped, or to zram only.",
        lambda solvency: solvency.memory_missing,
    ),
)


def _of_solvency(solvency: Solvency) -> Iterator[Metric]:
    for name, documentation, read in _SOLVENCY:
        yield _gauge(f"balloond_host_{name}", documentation, (), [((), read(solvency))])


def _of_host(host: Host) -> Iterator[Metric]:
    yield _gauge(
        "balloond_host_pool_source",
        "1 for what the memory to share is limited by: host, cgroup or operator.",
        ("source",),
        [((host.source.value,), 1)],
    )
    yield _gauge("balloond_host_swap_total_bytes", "The host's swap.", (), [((), host.swap_total)])
    yield _gauge("balloond_host_swap_free_bytes", "The host's free swap.", (), [((), host.swap_free)])
    yield _counter("balloond_host_swap_in_bytes", "Swapped in since boot.", (), [((), host.swap_in)])
    yield _counter("balloond_host_swap_out_bytes", "Swapped out since boot.", (), [((), host.swap_out)])
    yield _counter("balloond_host_oom_kills", "Kills by the kernel since boot.", (), [((), host.oom_kills)])
    if host.pressure is not None:
        pressure = host.pressure
        yield _gauge(
            "balloond_host_pressure_ratio",
            "PSI of memory over 10 s: the share of time that some, or all, tasks stood still.",
            ("kind",),
            [(("some",), pressure.some_avg10), (("full",), pressure.full_avg10)],
        )


_KSM: Final[tuple[tuple[str, str, Callable[[Ksm], float | None]], ...]] = (
    ("run", "/sys/kernel/mm/ksm/run.", lambda ksm: ksm.run),
    ("saved_bytes", "Saved by merging: a loan.", lambda ksm: ksm.saved),
    ("profit_bytes", "Saved, less the cost.", lambda ksm: ksm.profit),
    ("candidates_bytes", "What ksmd keeps account of.", lambda ksm: ksm.candidates),
    ("pages_to_scan", "Pages a step of ksmd.", lambda ksm: ksm.pages_to_scan),
)
_KSM_COUNTS: Final[tuple[tuple[str, str, Callable[[Ksm], float | None]], ...]] = (
    ("full_scans", "Scans of all memory.", lambda ksm: ksm.full_scans),
    ("scanned_bytes", "What ksmd looked at since boot.", lambda ksm: ksm.scanned),
    ("broken_bytes", "Merged pages that were copied again, since boot.", lambda ksm: ksm.broken),
    ("cpu_seconds", "ksmd's CPU time since boot.", lambda ksm: ksm.cpu_s),
)


def _of_ksm(ksm: Ksm) -> Iterator[Metric]:
    for family, table in ((_gauge, _KSM), (_counter, _KSM_COUNTS)):
        for name, documentation, read in table:
            yield family(f"balloond_host_ksm_{name}", documentation, (), [((), read(ksm))])


def _of_merging(merging: MergingVerdict) -> Iterator[Metric]:
    yield _gauge(
        "balloond_host_ksm_stance",
        "1 for what is made of merging, under the operator's mode.",
        ("mode", "stance"),
        [((merging.mode, merging.stance.value), 1)],
    )
    yield _gauge(
        "balloond_host_ksm_cpu_cap_ratio",
        "What ksmd may take of one processor now; absent while it is not steered.",
        (),
        [((), merging.cap)],
    )
    yield _gauge(
        "balloond_host_ksm_cpu_ratio",
        "What ksmd takes of one processor, averaged over half a minute.",
        (),
        [((), merging.used)],
    )


_GUEST: Final[tuple[tuple[str, str, Callable[[Guest], float | None]], ...]] = (
    ("actual_bytes", "The balloon's size now: what the guest has.", lambda guest: guest.actual),
    ("maximum_bytes", "The most that its balloon can give it.", lambda guest: guest.maximum),
    ("rss_bytes", "Resident memory of its QEMU process.", lambda guest: guest.rss),
    ("overhead_bytes", "What QEMU needs beside the guest's memory.", lambda guest: guest.overhead),
    ("swapped_bytes", "Of it in the host's swap.", lambda guest: guest.swapped),
    ("mergeable", "0: its pages are never merged with others'.", lambda guest: guest.mergeable),
)
_CGROUP: Final[tuple[tuple[str, str, Callable[[GuestCgroup], int | None]], ...]] = (
    ("used_bytes", "What its cgroup holds, page cache included.", lambda cgroup: cgroup.used),
    ("swapped_bytes", "Of its cgroup in the host's swap.", lambda cgroup: cgroup.swapped),
    (
        "soft_limit_bytes",
        "Above it the kernel slows it down; absent: none.",
        lambda cgroup: cgroup.soft_limit,
    ),
)
_REPORTED: Final[tuple[tuple[str, str, Callable[[Statistics], int | None]], ...]] = (
    (
        "usable_bytes",
        "What the guest says it could still use; unchecked.",
        lambda statistics: statistics.untrusted_usable,
    ),
    (
        "swap_in_bytes",
        "What the guest says it swapped in since boot; unchecked.",
        lambda statistics: statistics.untrusted_swap_in,
    ),
    (
        "major_faults",
        "Major faults that the guest says it had since boot; unchecked.",
        lambda statistics: statistics.untrusted_major_faults,
    ),
)
_VERDICT: Final[tuple[tuple[str, str, Callable[[Verdict], int]], ...]] = (
    ("target_bytes", "The size that its balloon was last asked for.", lambda verdict: verdict.target),
    ("entitlement_bytes", "What division of the host grants it.", lambda verdict: verdict.entitlement),
)
_DEMAND: Final[tuple[tuple[str, str, Callable[[Demand], int | None]], ...]] = (
    ("working_set_bytes", "Estimate of what it uses.", lambda demand: demand.working_set or None),
    ("want_bytes", "Its working set and a margin.", lambda demand: demand.want),
    ("floor_bytes", "It is not shrunk below this while the host can help it.", lambda demand: demand.floor),
    ("in_distress", "1 while it suffers for memory.", lambda demand: demand.in_distress),
)
_BOUNDS: Final[tuple[tuple[str, str, Callable[[Demand], int | None]], ...]] = (
    ("guarantee_bytes", "The operator's promise.", lambda demand: demand.guarantee),
    ("ceiling_bytes", "The most that it may be given.", lambda demand: demand.ceiling),
)
_WHO: Final = ("uuid", "guest")
_LARGEST_REPORTED: Final = 1 << 60  # beyond it stand -1 and 2^64 - 1, which drivers send for `missing`
_Who = dict[str, tuple[str, str]]


def _of_guests(guests: tuple[Guest, ...], who: _Who) -> Iterator[Metric]:
    yield _gauge("balloond_guests", "Guests that libvirt lists.", (), [((), len(guests))])
    for name, documentation, read in _GUEST:
        values = [(who[guest.uuid], read(guest)) for guest in guests]
        yield _gauge(f"balloond_guest_{name}", documentation, _WHO, values)
    cgroups = [(who[guest.uuid], guest.cgroup) for guest in guests if guest.cgroup is not None]
    for name, documentation, of in _CGROUP:
        values = [(whom, of(cgroup)) for whom, cgroup in cgroups]
        yield _gauge(f"balloond_guest_cgroup_{name}", documentation, _WHO, values)
    waits = [(whom, cgroup.pressure) for whom, cgroup in cgroups if cgroup.pressure is not None]
    yield _gauge(
        "balloond_guest_pressure_ratio",
        "PSI of memory over 10 s, of the guest's cgroup.",
        (*_WHO, "kind"),
        [((*whom, "some"), pressure.some_avg10) for whom, pressure in waits]
        + [((*whom, "full"), pressure.full_avg10) for whom, pressure in waits],
    )
    states = [((*who[guest.uuid], guest.state.value), 1) for guest in guests]
    yield _gauge("balloond_guest_state", "1 for what libvirt says of its life.", (*_WHO, "state"), states)


def _of_statistics(guests: tuple[Guest, ...], who: _Who, wall_s: float) -> Iterator[Metric]:
    reporting = [(who[guest.uuid], guest.statistics) for guest in guests if guest.statistics]
    yield _gauge(
        "balloond_guest_statistics_age_seconds",
        "Since the guest's driver last answered; absent if it never did.",
        _WHO,
        [(whom, max(0.0, wall_s - its.last_update_s)) for whom, its in reporting if its.last_update_s],
    )
    for name, documentation, read in _REPORTED:
        told = [(whom, read(its)) for whom, its in reporting]
        sane = [(whom, value) for whom, value in told if value is not None and 0 <= value < _LARGEST_REPORTED]
        family = _gauge if name == "usable_bytes" else _counter
        yield family(f"balloond_guest_{name}", documentation, _WHO, sane)


def _of_verdicts(verdicts: list[Verdict], who: _Who) -> Iterator[Metric]:
    for name, documentation, read in _VERDICT:
        values = [(who[verdict.uuid], read(verdict)) for verdict in verdicts]
        yield _gauge(f"balloond_guest_{name}", documentation, _WHO, values)
    bounded = [(who[verdict.uuid], verdict.demand) for verdict in verdicts if verdict.demand]
    estimated = [(who[each.uuid], each.demand) for each in verdicts if each.demand and not each.obstacle]
    for table, demands in ((_BOUNDS, bounded), (_DEMAND, estimated)):  # one left alone is not estimated
        for name, documentation, tell in table:
            told = [(whom, tell(demand)) for whom, demand in demands]
            yield _gauge(f"balloond_guest_{name}", documentation, _WHO, told)
    trusts = [((*whom, demand.trust.value), 1) for whom, demand in estimated]
    reasons = [((*who[verdict.uuid], verdict.reason.value), 1) for verdict in verdicts]
    obstacles = [((*who[each.uuid], each.obstacle.value), 1) for each in verdicts if each.obstacle]
    yield _gauge("balloond_guest_trust", "1: how far it is believed.", (*_WHO, "trust"), trusts)
    yield _gauge("balloond_guest_reason", "1: why its target is so.", (*_WHO, "reason"), reasons)
    yield _gauge("balloond_guest_obstacle", "1: why it is left alone.", (*_WHO, "obstacle"), obstacles)


def _gauge(name: str, documentation: str, labels: _Labels, samples: _Samples) -> Metric:
    return _filled(GaugeMetricFamily(name, documentation, labels=labels), samples)


def _counter(name: str, documentation: str, labels: _Labels, samples: _Samples) -> Metric:
    """`name` is without the `_total` that the library adds."""
    return _filled(CounterMetricFamily(name, documentation, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: _Samples) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, float(value))
    return family


def label(name: str) -> str:
    """`name` as a label's value. Lone surrogates can't be sent as UTF-8, and one must not cost the scrape."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
