"""Which part of the host may the guests have?

libvirt puts every guest in a cgroup of its own. A limit on a cgroup *above* those, say MemoryMax= of
machine.slice, makes them share less than the host: the pool. This module finds each guest's place, the limits
that all of them stand under, and what the pool uses, in cgroup v1, v2 and in both at once (hybrid). It must
never take a guest's own limit, which is <memtune>'s matter, for the pool's, and it never writes.

Where memory is on v1, pressure still comes from the v2 tree if the guests are there too. OOM kills don't come
from v1: it counts them in the victim's own cgroup alone, and that one goes with the guest (seen on 6.18).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from balloond.host.files import Root, number_after
from balloond.host.kernel import read_pressure
from balloond.model import Fault, FaultKind, GuestCgroup, Pressure
from balloond.units import format_size

TREE: Final = "/sys/fs/cgroup"

GUESTS_OWN: Final = re.compile(r"machine-qemu.*\.scope|qemu-.*\.libvirt-qemu", re.DOTALL)
"""A guest's own cgroup, as libvirt names it: with systemd a scope, its name escaped (`\\x2d` is a dash)
and cut; without, the machine's name. Below it QEMU sits in `libvirt/emulator`, `emulator` or the like."""

SOFT_LIMIT_V1: Final = "memory.soft_limit_in_bytes"
SOFT_LIMIT_V2: Final = "memory.high"

NO_LIMIT_V1: Final = 1 << 62
"""v1 writes `none` as the largest number of whole pages below 2^63; no host has half of that."""

IDLE: Final = ("/machine.slice", "/machine")
"""Where libvirt will put guests when there is none yet: with systemd, and without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the cgroups a guest lives. Paths are the hierarchy's own; `/` is its root."""

    v1: bool  # the hierarchy that memory is accounted in
    own: str | None  # the guest's own cgroup; None: it shares one
    above: str  # the closest cgroup that others may share
    unified_above: str | None  # likewise in the v2 tree; None: the kernel has none
    unified_own: str | None  # the guest's own in the v2 tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A limited cgroup that guests share, in bytes."""

    path: str
    total: int
    available: int  # until the limit, with unused file pages counted as free
    pressure: Pressure | None  # None: not kept for this cgroup; the host's then stands for it
    oom_kills: int | None  # None: not counted here
    pressure_file: str | None = None  # where that pressure is read, and a trigger may be set

    def holds(self, place: Place) -> bool:
        return self.path in _chain(place.above)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapLimit:
    """What of the host's swap all guests may have together, in bytes."""

    total: int
    free: int


def place_in(membership: str | None) -> Place | None:
    """Where the process with this /proc/PID/cgroup lives; None when none of it can be seen from here."""
    paths: dict[str, str] = {}  # by controller; the v2 tree's is ""
    for line in (membership or "").splitlines():
        match line.split(":", 2):
            case [_, controllers, path] if path.startswith("/") and ".." not in path.split("/"):
                paths.update((controller, path) for controller in controllers.split(","))
            case _:
                pass  # nonsense, or outside of our own cgroup namespace
    home = paths.get("memory", paths.get(""))
    if home is None:
        return None
    own, above = _own_and_above(home)
    unified_own, unified_above = _own_and_above(paths[""]) if "" in paths else (None, None)
    return Place(
        v1="memory" in paths,
        own=own,
        above=above,
        unified_above=unified_above,
        unified_own=unified_own,
    )


def guest_directory(root: Root, place: Place) -> str | None:
    """The directory whose files speak of the guest's memory alone; None when it has none, or it is gone."""
    if place.own is None:
        return None
    directory = _tree(root, v1=place.v1).base + place.own
    return directory if root.has(directory) else None


def read_guest(root: Root, place: Place) -> GuestCgroup | None:
    """What a guest's own cgroup holds now. memory.stat is left alone: the kernel sums it up over all CPUs."""
    tree = _tree(root, v1=place.v1)
    used = tree.usage(place.own) if place.own is not None else None
    if place.own is None or used is None:
        return None
    pressure = f"{unified_tree(root)}{place.unified_own}/memory.pressure"
    return GuestCgroup(
        used=used,
        swapped=tree.swapped(place.own),
        pressure=read_pressure(root, pressure) if place.unified_own is not None else None,
        soft_limit=tree.soft_limit(place.own),
    )


def find_pool(root: Root, places: Iterable[Place], host_total: int) -> tuple[Pool | None, tuple[Fault, ...]]:
    """The tightest limit that all the guests stand under; None when the whole host is theirs.

    `places` are the managed guests'. Without any, the place where libvirt will put them is looked at. Guests
    under different limits have no pool in common: that comes back as a fault, and only the limits that hold
    for all are kept to. A limit that is no less than the host is none.
    """
    distinct = _distinct(places)
    if not distinct:
        return _idle_pool(root, host_total), ()
    tree = _tree(root, v1=distinct[0].v1)
    chains = [_chain(place.above) for place in distinct]
    common = _common_start(chains)
    limits = _limits(tree, common, host_total)
    apart = _limits(tree, sorted({path for chain in chains for path in chain[len(common) :]}), host_total)
    pool = _pool(tree, limits, distinct) if limits else None
    if apart:
        return pool, (_divided(apart),)
    if not limits and not root.has(tree.base + common[-1]):
        return pool, (_unseen(tree.base + common[-1]),)
    return pool, ()


def swap_limit(root: Root, places: Iterable[Place]) -> SwapLimit | None:
    """The tightest limit on swap that all the guests stand under, whether or not their memory has one; None:
    there is none. `places`: as for `find_pool`. Where it could not be seen they have no swap at all."""
    distinct = _distinct(places)
    if distinct:
        tree = _tree(root, v1=distinct[0].v1)
        common = _common_start([_chain(place.above) for place in distinct])
        if not root.has(tree.base + common[-1]):
            return SwapLimit(total=0, free=0)
    else:
        tree, common = _idle(root)
    found = [swap for path in common if (swap := tree.swap(path)) is not None]
    if not found:
        return None
    return SwapLimit(
        total=min(most for most, _ in found), free=min(max(0, most - used) for most, used in found)
    )


def swap_limits(root: Root, places: Mapping[str, Place], managed: Iterable[Place]) -> dict[str, int]:
    """How much swap each guest may have by itself, by UUID, for those that are limited: its own cgroup's limit,
    and its part of those above it that not all `managed` guests stand under. v1 knows none on swap alone."""
    above = [_chain(place.above) for place in _distinct(managed)]
    common = _common_start(above) if above else ()
    chains = {uuid: _chain(place.own or place.above) for uuid, place in places.items() if not place.v1}
    below = Counter(path for chain in chains.values() for path in chain if path not in common)
    tree = _tree(root, v1=False)
    most = {path: limit[0] // count for path, count in below.items() if (limit := tree.swap(path))}
    limits = {uuid: [most[path] for path in chain if path in most] for uuid, chain in chains.items()}
    return {uuid: min(its) for uuid, its in limits.items() if its}


@dataclass(frozen=True, slots=True)
class _V1:
    """The memory controller's own hierarchy. No memory.high, no pressure, no count of kills worth having."""

    root: Root
    base: str

    def limit(self, path: str) -> int | None:
        """The hard limit; where there is none, nearly 2^63. The soft one is only a hint for reclaim."""
        return self.root.number(f"{self.base}{path}/memory.limit_in_bytes")

    def used(self, path: str) -> int | None:
        return _used(self.root, f"{self.base}{path}", "memory.usage_in_bytes", "total_inactive_file ")

    def swap(self, path: str) -> tuple[int, int] | None:
        """The swap that may be had, and what of it is used; None when there is no limit. v1 limits and counts
        memory and swap together."""
        names = ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes")
        uses = ("memory.memsw.usage_in_bytes", "memory.usage_in_bytes")
        both, memory = (self.root.number(f"{self.base}{path}/{name}") for name in names)
        both_used, memory_used = (self.root.number(f"{self.base}{path}/{name}") for name in uses)
        if both is None or memory is None or both_used is None or memory_used is None:
            return None
        if both >= NO_LIMIT_V1:
            return None
        return both - memory, max(0, both_used - memory_used)

    def oom_kills(self, path: str) -> int | None:
        return None

    def usage(self, path: str) -> int | None:
        return self.root.number(f"{self.base}{path}/memory.usage_in_bytes")

    def swapped(self, path: str) -> int | None:
        both, memory = self.root.number(f"{self.base}{path}/memory.memsw.usage_in_bytes"), self.usage(path)
        return max(0, both - memory) if both is not None and memory is not None else None

    def soft_limit(self, path: str) -> int | None:
        limit = self.root.number(f"{self.base}{path}/{SOFT_LIMIT_V1}")
        return limit if limit is not None and limit < NO_LIMIT_V1 else None


@dataclass(frozen=True, slots=True)
class _V2:
    """The unified hierarchy."""

    root: Root
    base: str

    def limit(self, path: str) -> int | None:
        """The smaller of memory.max, where the kernel starts to kill, and memory.high, where it throttles."""
        names = ("memory.max", "memory.high")
        limits = (self.root.number(f"{self.base}{path}/{name}") for name in names)
        return min((limit for limit in limits if limit is not None), default=None)

    def used(self, path: str) -> int | None:
        return _used(self.root, f"{self.base}{path}", "memory.current", "inactive_file ")

    def swap(self, path: str) -> tuple[int, int] | None:
        """The swap that may be had, and what of it is used; None when there is no limit."""
        most = self.root.number(f"{self.base}{path}/memory.swap.max")
        used = self.root.number(f"{self.base}{path}/memory.swap.current")
        return (most, used) if most is not None and used is not None else None

    def oom_kills(self, path: str) -> int | None:
        return number_after("oom_kill ", self.root.text(f"{self.base}{path}/memory.events"))

    def usage(self, path: str) -> int | None:
        return self.root.number(f"{self.base}{path}/memory.current")

    def swapped(self, path: str) -> int | None:
        return self.root.number(f"{self.base}{path}/memory.swap.current")

    def soft_limit(self, path: str) -> int | None:
        return self.root.number(f"{self.base}{path}/{SOFT_LIMIT_V2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    path: str
    size: int
    available: int


def _limits(tree: _V1 | _V2, paths: Sequence[str], host_total: int) -> list[_Limit]:
    """The limits among `paths` that are less than the host, with what is left below each."""
    limits = []
    for path in paths:
        size = tree.limit(path)
        if size is None or not 0 < size < host_total:
            continue
        used = tree.used(path)
        if used is not None:
            limits.append(_Limit(path=path, size=size, available=max(0, size - used)))
    return limits


def _pool(tree: _V1 | _V2, limits: Sequence[_Limit], places: Sequence[Place]) -> Pool:
    tightest = min(limits, key=lambda limit: limit.size)
    file = _pressure_file(tree.root, tightest.path, places)
    pressure = read_pressure(tree.root, file) if file is not None else None
    return Pool(
        path=tightest.path,
        total=tightest.size,
        available=min(tightest.size, *(limit.available for limit in limits)),
        pressure=pressure,
        oom_kills=tree.oom_kills(tightest.path),
        pressure_file=file if pressure is not None else None,
    )


def _idle_pool(root: Root, host_total: int) -> Pool | None:
    tree, chain = _idle(root)
    limits = _limits(tree, chain, host_total)
    return _pool(tree, limits, ()) if limits else None


def _idle(root: Root) -> tuple[_V1 | _V2, tuple[str, ...]]:
    """Where the next guest will stand, while there is none."""
    tree = _tree(root, v1=root.has(f"{TREE}/memory/memory.limit_in_bytes"))
    return tree, _chain(next((path for path in IDLE if root.has(tree.base + path)), "/"))


def _pressure_file(root: Root, path: str, places: Sequence[Place]) -> str | None:
    """The pool's own pressure. An empty cgroup of that name in the v2 tree would feign calm."""
    if any(place.unified_above is None or path not in _chain(place.unified_above) for place in places):
        return None
    return f"{unified_tree(root)}{path}/memory.pressure" if places else None


def _tree(root: Root, *, v1: bool) -> _V1 | _V2:
    return _V1(root, f"{TREE}/memory") if v1 else _V2(root, unified_tree(root))


def unified_tree(root: Root) -> str:
    """Where the v2 tree is mounted: alone, or beside v1 (systemd's hybrid)."""
    return TREE if root.has(f"{TREE}/cgroup.controllers") else f"{TREE}/unified"


def _used(root: Root, cgroup: str, usage_name: str, unused_name: str) -> int | None:
    """What a cgroup holds that it can't let go of at once: file pages not used lately are as good as free.

    File pages in use are not, though MemAvailable counts half of them: of QEMU's those are its own program,
    and guests that lost it freeze instead of being killed (seen on a full v1 cgroup without swap).
    """
    usage = root.number(f"{cgroup}/{usage_name}")
    unused = number_after(unused_name, root.text(f"{cgroup}/memory.stat"))
    return max(0, usage - (unused or 0)) if usage is not None else None


def _distinct(places: Iterable[Place]) -> tuple[Place, ...]:
    """One place for all the guests that share what is above their own: hundreds become one or two."""
    return tuple({(place.v1, place.above, place.unified_above): place for place in places}.values())


def _own_and_above(path: str) -> tuple[str | None, str]:
    """The guest's own cgroup and its parent; None and the path itself where the guest has none of its own."""
    names = path.strip("/").split("/")
    for depth, name in enumerate(names):
        if GUESTS_OWN.fullmatch(name):
            return "/" + "/".join(names[: depth + 1]), "/" + "/".join(names[:depth])
    return None, path


def _chain(path: str) -> tuple[str, ...]:
    """The hierarchy's root, every cgroup below it down to `path`, and `path` itself."""
    names = [name for name in path.split("/") if name]
    return tuple("/" + "/".join(names[:depth]) for depth in range(len(names) + 1))


def _common_start(chains: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    first, last = min(chains), max(chains)  # in order, whatever these two share all share
    return tuple(one for one, other in zip(first, last, strict=False) if one == other)


def _divided(apart: Sequence[_Limit]) -> Fault:
    limits = ", ".join(f"{limit.path} {format_size(limit.size)}" for limit in apart)
    return Fault(
        kind=FaultKind.POOL_DIVIDED,
        subject=apart[0].path,
        detail=f"not all managed guests stand under the same memory limits: {limits}; only limits that "
        "hold for all are kept to. Put the guests in one place, or leave some unmanaged",
    )


def _unseen(path: str) -> Fault:
    detail = "guests run in this cgroup, which can't be seen from here: a limit on it would not be known"
    return Fault(kind=FaultKind.KERNEL_UNREADABLE, subject=path, detail=detail)
