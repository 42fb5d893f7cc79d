"""Is each guest set up so that its memory can be managed well?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from balloond.diagnosis.finding import Finding, advice, told
from balloond.diagnosis.traits import Traits
from balloond.model import Guest, Obstacle

REPORTING_SINCE: Final = (5, 1, 0)
"""QEMU's version that learned free page reporting."""

PERIOD_MOST: Final = 3
"""In intervals. Statistics that are older are not trusted for shrinking."""

_FIXED: Final = {
    Obstacle.LOCKED: ("its memory is locked", "<locked/>"),
    Obstacle.HUGEPAGES: ("it lives in huge pages", "<hugepages/>"),
    Obstacle.PASSTHROUGH: ("a passed-through device pins its memory", "VFIO"),
    Obstacle.CONFIDENTIAL: ("its memory is encrypted", "<launchSecurity>"),
}


def examine_guests(
    guests: Sequence[Guest], traits: Traits, *, interval_s: float, active: bool
) -> Iterator[Finding]:
    """Every finding about the guests. `active`: the daemon gives periods to those that have none."""
    for guest in guests:
        yield from _examine(guest, traits, interval_s=interval_s, active=active)
        if guest.uuid in traits.placeless:
            yield advice(
                "it has no cgroup of its own",
                "its memory can be neither told from the host's nor reclaimed by itself",
                "let libvirt use cgroups: cgroup_controllers in /etc/libvirt/qemu.conf",
                of=guest.name,
            )


def _examine(guest: Guest, traits: Traits, *, interval_s: float, active: bool) -> Iterator[Finding]:
    if guest.obstacle is Obstacle.UNREADABLE:
        yield advice(
            "it could not be read",
            "its monitor does not answer, or its definition makes no sense; its balloon is left alone",
            "virsh dommemstat GUEST",
            of=guest.name,
        )
        return
    yield from _memory(guest)
    if guest.translations:
        yield advice(
            "its processor is emulated (TCG)",
            "it is slow, and QEMU takes memory for translated code",
            _edited("s|<domain type='qemu'|<domain type='kvm'|"),
            of=guest.name,
        )
    if guest.obstacle in _FIXED:
        return
    if guest.obstacle is Obstacle.NO_BALLOON:
        yield advice(
            "it has no virtio balloon",
            "its memory can't be managed, and counts whole for good",
            _edited(
                "s|<memballoon model='[^']*'|<memballoon model='virtio' autodeflate='on' freePageReporting='on'|"
            ),
            of=guest.name,
        )
        return
    yield from _balloon(guest, traits)
    yield from _statistics(guest, interval_s=interval_s, active=active)


def _memory(guest: Guest) -> Iterator[Finding]:
    if guest.obstacle in _FIXED:
        what, cause = _FIXED[guest.obstacle]
        yield told(
            f"{what} ({cause})",
            "its balloon is left alone, since the host would gain nothing; it counts whole and can't be swapped",
            of=guest.name,
        )
    if not guest.mergeable:
        yield told(
            "its pages are not merged (<nosharepages/>, or memory behind a file or memfd)",
            "KSM leaves it out: safe between tenants, and it saves nothing",
            of=guest.name,
        )


def _balloon(guest: Guest, traits: Traits) -> Iterator[Finding]:
    if not guest.reports_free_pages:
        if traits.hypervisor is None or traits.hypervisor >= REPORTING_SINCE:
            yield advice(
                "free page reporting is off",
                "what the guest frees stays with it on the host, which then swaps pages that nobody uses",
                _with_balloon_option("freePageReporting"),
                of=guest.name,
            )
        else:
            yield told("no free page reporting", "QEMU has it since 5.1", of=guest.name)
    if not guest.deflates_on_oom:
        yield advice(
            "deflate-on-oom is off",
            "a guest that grows faster than balloond can follow meets its own OOM killer with a full balloon",
            _with_balloon_option("autodeflate"),
            of=guest.name,
        )


def _with_balloon_option(name: str) -> str:
    """Whether it stands there as off or not at all."""
    return _edited(f"s| {name}='off'||; s|<memballoon |&{name}='on' |")


def _edited(script: str) -> str:
    """A command that changes a guest's stored definition."""
    return f'EDITOR="sed -i \\"{script}\\"" virsh edit GUEST  # counts from its next start'


def _statistics(guest: Guest, *, interval_s: float, active: bool) -> Iterator[Finding]:
    period = f"virsh dommemstat GUEST --period {max(1, round(interval_s))} --live --config"
    if guest.statistics_period_s == 0:
        if not active:
            yield advice(
                "it tells no statistics: no period is set",
                "in mode observe balloond does not set one, and knows nothing of what the guest needs",
                period,
                of=guest.name,
            )
        return
    if guest.statistics_period_s > PERIOD_MOST * interval_s:
        yield advice(
            f"it tells its statistics each {guest.statistics_period_s} s only",
            "they are too old to be trusted most of the time, so that it is not shrunk",
            period,
            of=guest.name,
        )
    if guest.statistics is not None and guest.statistics.last_update_s == 0:
        yield advice(
            "its balloon driver has never answered",
            "it is held at the size that it has, and counts whole",
            "in the guest: modprobe virtio_balloon (Linux), or start the service BLNSVR (Windows)",
            of=guest.name,
        )
