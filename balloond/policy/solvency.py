"""Could all guests have all their memory at once?

    claims + host's own + reserve <= memory + swap on disk

A balloon is advice: a reboot, deflate-on-oom or malice takes the memory back without asking. While this sum
holds, guests alone cannot bring the host to its OOM killer, whatever their balloons do; otherwise no program
in user space can promise it. So nothing counts here that a guest can undo (balloons, merged pages) or that
lives off the very memory which is short (zram, zswap's pool), and whoever can't be swapped, or only in part
(its cgroup's limit), has to fit into memory, and so has what may go to zram, since the kernel fills that first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from balloond.model import Guest, GuestClaim, Held, Host, Obstacle, Solvency
from balloond.units import MIB, PAGE, format_size

PAGE_TABLES: Final = 2 * 8 / PAGE
"""Of a guest's memory: 8 bytes a page in the host's own tables of the QEMU process, and 8 in those that KVM
gives to the processor (Intel SDM volume 3, 29.3.2). Neither counts as resident."""

QEMU_OVERHEAD: Final = 32 * MIB
"""What a QEMU process is taken to need beside its guest's memory, until its resident size shows more.
Measured with a few devices under TCG, translated code apart: 30 MiB (QEMU 7.2)."""

OVERHEAD_MOST: Final = 160 * MIB
"""What a process holds beyond its guest's memory is QEMU's need, up to this. Under TCG, with 32 MiB of translated
code, 107 MiB were seen. More can be the guest's own, after a reset: libvirt's figure of the balloon is old then
for some 20 s, while the guest fills what was taken from it before. Nor may a guest that lies of its free memory
make it more."""

HELD: Final = {
    Obstacle.LOCKED: Held.LOCKED,
    Obstacle.HUGEPAGES: Held.HUGEPAGES,
    Obstacle.PASSTHROUGH: Held.PASSTHROUGH,
    Obstacle.CONFIDENTIAL: Held.CONFIDENTIAL,
}
"""What an obstacle says of how the host holds a guest's memory."""


def judge(host: Host, guests: Iterable[Guest], *, own: int, reserve: int) -> Solvency:
    """The sum, and what each guest counts for in it; bytes. Guests outside of the pool share the host's memory and
    swap with it: what there is no memory for outside, they may take from here."""
    guests = tuple(guests)
    inside = [guest for guest in guests if guest.in_pool]
    claims = tuple(claim(guest) for guest in inside)
    others = [claim(guest) for guest in guests if not guest.in_pool]
    outside = host.outside - sum(each.size for each in others)
    beyond = max(0, -outside)
    swap = _swap(host, sum(guest.swapped or 0 for guest in inside))
    return Solvency(
        memory=host.total,
        swap=swap,
        own=own + min(host.zswap_growth, swap),  # whatever is in zswap's pool has a slot on the disk too
        reserve=reserve,
        claims=claims,
        claimed=sum(each.size for each in claims) + beyond,
        unswappable=sum(each.pinned for each in claims) + min(beyond, sum(each.pinned for each in others)),
        swap_withheld=host.swap_withheld,
        zram=max(0, host.zram_total - max(0, outside)),  # no cgroup is charged for what it holds
        zram_beyond=host.zram_beyond,
    )


def claim(guest: Guest) -> GuestClaim:
    """What one guest may come to take: all its memory, or what it already has where that is more.

    Huge pages were set aside before the guest came and are the host's own use in any ledger, taken or not; of a
    guest in them there is only the QEMU process left to count. QEMU's program is in memory once for all guests,
    and a part of the host's own use too.
    """
    held = Held.ORDINARY if guest.obstacle is None else HELD.get(guest.obstacle, Held.ORDINARY)
    held = held if guest.defined else Held.UNKNOWN
    huge = guest.obstacle is not None and held is Held.HUGEPAGES
    memory = 0 if huge else max(guest.maximum, guest.actual) + guest.virtio_mem
    has = (guest.rss or 0) - guest.program + (guest.swapped or 0)
    beyond = min(has - (0 if huge else guest.actual + guest.virtio_mem), OVERHEAD_MOST)
    overhead = max(guest.overhead + guest.translations, beyond)
    size = max(most(memory, overhead), has)
    swappable = size if guest.swap_limit is None else min(size, guest.swap_limit)
    return GuestClaim(
        uuid=guest.uuid, held=held, size=size, pinned=size - swappable if held.swappable else size
    )


def most(memory: int, overhead: int) -> int:
    """What a guest of that much memory takes on the host once it has touched all of it."""
    return memory + int(memory * PAGE_TABLES) + overhead


def swap_remedy(missing: int, withheld: int | None, zram_beyond: int) -> tuple[str, ...]:
    """What gives guests so much more swap on disk, a line for a shell each. `withheld`: what the host has already,
    and a bound on guests' cgroups keeps from them; None: there is no bound. Of a higher bound zram may take
    `zram_beyond` first. Which cgroup has it is not known here."""
    lacking = missing - (withheld or 0)
    add = (swap_commands(lacking),) if lacking > 0 else ()
    if withheld is None:
        return add
    bound = "memory.swap.max of the guests' cgroup (v1: memory.memsw.limit_in_bytes)"
    return (*add, f"# raise {bound} by {format_size(missing + zram_beyond)}")


def swap_commands(size: int) -> str:
    """What adds so much swap on disk: whole MiB, and the page that mkswap keeps for itself. In a new file that
    root alone can read: one that is there may be in use."""
    mebibytes = -(-(size + PAGE) // MIB)
    file = "f=$(mktemp /var/balloond.swap.XXXXXX)"
    return f'{file} && fallocate -l {mebibytes}MiB "$f" && mkswap "$f" && swapon "$f"'


def _swap(host: Host, guests_swapped: int) -> int:
    """Swap on disk that the guests may have: what is free, and what they have there already, since that is a part
    of what they claim. Of what lies in swap as much as may be is taken to lie on zram."""
    free = host.swap_free - host.zram_free
    used = host.swap_total - host.zram_total - free
    on_zram = host.zram_total - host.zram_free
    return max(0, free) + max(0, min(used, guests_swapped - on_zram))
