"""Could all guests have all their memory at once?

    claims + host's own + reserve <= memory + swap on disk

A balloon is advice: a reboot, deflate-on-oom or malice takes the memory back without asking. While this sum
holds, guests alone cannot bring the host to its OOM killer, whatever their balloons do; otherwise no program
in user space can promise it. So nothing counts here that a guest can undo (balloons, merged pages) or that
lives off the very memory which is short (zram, zswap's pool), and whoever can't be swapped has to fit into
memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from balloond.model import Guest, GuestClaim, Held, Host, Obstacle, Solvency
from balloond.units import MIB, PAGE
from balloond.value import value

PAGE_TABLES: Final = 2 * 8 / PAGE
"""Of a guest's memory: 8 bytes a page in the host's own tables of the QEMU process, and 8 in those that KVM
gives to the processor (Intel SDM volume 3, 29.3.2). Neither counts as resident."""

QEMU_OVERHEAD: Final = 32 * MIB
"""What a QEMU process is taken to need beside its guest's memory, until its resident size shows more.
Measured with a few devices under TCG, translated code apart: 30 MiB (QEMU 7.2)."""

_HELD: Final = {
    Obstacle.LOCKED: Held.LOCKED,
    Obstacle.HUGEPAGES: Held.HUGEPAGES,
    Obstacle.PASSTHROUGH: Held.PASSTHROUGH,
    Obstacle.CONFIDENTIAL: Held.CONFIDENTIAL,
}


@value
class Claimant:
    """A guest, and what its QEMU process was seen to need beside the guest's memory, its program included."""

    guest: Guest
    overhead: int


def judge(host: Host, claimants: Iterable[Claimant], *, own: int, reserve: int) -> Solvency:
    """The sum, and what each guest counts for in it; bytes."""
    inside = [each for each in claimants if each.guest.in_pool]
    claims = tuple(claim(each) for each in inside)
    return Solvency(
        memory=host.total,
        swap=_swap(host, sum(each.guest.swapped or 0 for each in inside)),
        own=own + host.zswap_growth,
        reserve=reserve,
        claims=claims,
        claimed=sum(each.size for each in claims),
        unswappable=sum(each.size for each in claims if not each.held.swappable),
    )


def claim(claimant: Claimant) -> GuestClaim:
    """What one guest may come to take: all its memory, or what it already has where that is more.

    Huge pages were set aside before the guest came and are the host's own use in any ledger, taken or not; of
    a guest in them there is only the QEMU process left to count. QEMU's program is in memory once for all
    guests, and a part of the host's own use too.
    """
    guest = claimant.guest
    held = _HELD.get(guest.obstacle, Held.ORDINARY) if guest.obstacle else Held.ORDINARY
    memory = 0 if held is Held.HUGEPAGES else max(guest.maximum, guest.actual) + guest.virtio_mem
    has = (guest.rss or 0) - guest.program + (guest.swapped or 0)
    overhead = max(guest.overhead + guest.translations, claimant.overhead - guest.program)
    return GuestClaim(uuid=guest.uuid, held=held, size=max(most(memory, overhead), has))


def most(memory: int, overhead: int) -> int:
    """What a guest of that much memory takes on the host once it has touched all of it."""
    return memory + int(memory * PAGE_TABLES) + overhead


def _swap(host: Host, guests_swapped: int) -> int:
    """Swap on disk that the guests may have: what is free, and what they have there already, since that is a part
    of what they claim. Of what lies in swap as much as may be is taken to lie on zram."""
    free = host.swap_free - host.zram_free
    used = host.swap_total - host.zram_total - free
    on_zram = host.zram_total - host.zram_free
    return max(0, free) + max(0, min(used, guests_swapped - on_zram))
