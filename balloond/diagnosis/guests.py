"""Is each guest set up so that its memory can be managed well?

A running guest is judged as it runs, and as its next start will make it: what is mended in its definition already
is told only, and what would come with the next start is told before. One that is shut off is judged by its
definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from balloond.diagnosis.finding import Finding, Severity, advice, told
from balloond.diagnosis.traits import Definition, Traits
from balloond.model import Guest, Obstacle, State

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
_UNASKED: Final = (*_FIXED, Obstacle.NO_BALLOON, Obstacle.UNREADABLE)
"""Those whose statistics say nothing of use, or nothing at all."""

_NEXT: Final = "from its next start: "


def examine_guests(
    guests: Sequence[Guest],
    definitions: Iterable[Definition],
    traits: Traits,
    *,
    interval_s: float,
    active: bool,
) -> Iterator[Finding]:
    """Every finding about the guests. `guests`: those that run; `definitions`: whatever libvirt has, as far as it
    could be read. `active`: the daemon gives periods to those that have none."""
    defined = {definition.guest.uuid: definition for definition in definitions}
    for guest in guests:
        definition = defined.pop(guest.uuid, None)
        findings = (
            *_as_it_runs(guest, definition, traits),
            *_life(guest, definition, traits, interval_s=interval_s, active=active),
        )
        yield from (replace(each, subject=guest.name, uuid=guest.uuid) for each in findings)
    for definition in defined.values():
        guest = definition.guest
        findings = (
            *_definition(guest, definition, traits),
            *_period(guest, "--config", interval_s=interval_s, active=active),
        )
        yield from (replace(each, subject=guest.name, uuid=guest.uuid) for each in findings)


def _as_it_runs(guest: Guest, definition: Definition | None, traits: Traits) -> Iterator[Finding]:
    """What its definition made of it, beside what the next start will."""
    now = tuple(_definition(guest, definition, traits))
    if definition is not None and definition.stored and not definition.guest.defined:
        yield advice(
            "its stored definition could not be read",
            "it makes no sense, so what the next start will bring was not judged",
            "virsh -c URI dumpxml --inactive GUEST",
        )
    stored = _next(guest, definition)
    if stored is None:
        yield from now
        return
    later = tuple(_definition(stored, definition, traits))
    for finding in now:
        if finding.severity is Severity.TOLD or finding.what in {each.what for each in later}:
            yield finding
        else:
            yield told(f"{finding.what}: mended in its definition, counts from its next start", finding.why)
    yield from _to_come(now, later)


def _next(guest: Guest, definition: Definition | None) -> Guest | None:
    """What the next start will make of a guest that runs. None: it is not known, or how it runs is not."""
    if guest.obstacle is Obstacle.UNREADABLE or definition is None or not definition.stored:
        return None
    return definition.guest if definition.guest.defined else None


def _to_come(now: Iterable[Finding], later: Iterable[Finding]) -> Iterator[Finding]:
    known = {finding.what for finding in now}
    return (replace(each, what=_NEXT + each.what) for each in later if each.what not in known)


def _definition(guest: Guest, definition: Definition | None, traits: Traits) -> Iterator[Finding]:
    """What a definition alone decides."""
    if guest.obstacle is Obstacle.UNREADABLE:
        yield advice(
            "it could not be read",
            "its monitor does not answer, or its definition makes no sense; its balloon is left alone",
            f"virsh -c URI {'dumpxml' if guest.state is State.OFF else 'dommemstat'} GUEST",
        )
        return
    yield from _memory(guest)
    yield from _processor(guest, definition, traits)
    if guest.obstacle in _FIXED:
        return
    if guest.obstacle is Obstacle.NO_BALLOON:
        yield advice(
            "it has no virtio balloon",
            "its memory can't be managed, and counts whole for good",
            _edited(
                definition,
                "s|<memballoon model='[^']*'|<memballoon model='virtio' autodeflate='on' freePageReporting='on'|",
                "<memballoon model='virtio' autodeflate='on' freePageReporting='on'/>",
            ),
        )
        return
    yield from _balloon(guest, definition, traits)


def _memory(guest: Guest) -> Iterator[Finding]:
    if guest.obstacle in _FIXED:
        what, cause = _FIXED[guest.obstacle]
        yield told(
            f"{what} ({cause})",
            "its balloon is left alone, since the host would gain nothing; it counts whole and can't be swapped",
        )
    if not guest.mergeable:
        yield told(
            "its pages are not merged (<nosharepages/>, or memory behind a file or memfd)",
            "KSM leaves it out: safe between tenants, and it saves nothing",
        )


def _processor(guest: Guest, definition: Definition | None, traits: Traits) -> Iterator[Finding]:
    if not guest.translations:
        return
    what, why = "its processor is emulated (TCG)", "it is slow, and QEMU takes memory for translated code"
    if definition is not None and traits.kvm and definition.architecture in traits.kvm_runs:
        script = (
            "s|<domain type='qemu'|<domain type='kvm'|; /<tcg>/,/<.tcg>/d"  # libvirt wants it gone with KVM
        )
        yield advice(what, why, _edited(definition, script, "<domain type='kvm'>"))
    else:
        yield told(what, f"{why}; KVM can't run it here, or it is not known whether it can")


def _balloon(guest: Guest, definition: Definition | None, traits: Traits) -> Iterator[Finding]:
    if not guest.reports_free_pages:
        if traits.hypervisor is None or traits.hypervisor >= REPORTING_SINCE:
            yield advice(
                "free page reporting is off",
                "what the guest frees stays with it on the host, which then swaps pages that nobody uses",
                _with_balloon_option(definition, "freePageReporting"),
            )
        else:
            yield told("no free page reporting", "QEMU has it since 5.1")
    if not guest.deflates_on_oom:
        yield advice(
            "deflate-on-oom is off",
            "a guest that grows faster than balloond can follow meets its own OOM killer with a full balloon",
            _with_balloon_option(definition, "autodeflate"),
        )


def _with_balloon_option(definition: Definition | None, name: str) -> str:
    """Whether it stands there as off or not at all."""
    script = f"s| {name}='off'||; s|<memballoon |&{name}='on' |"
    return _edited(definition, script, f"<memballoon model='virtio' {name}='on'/>")


def _edited(definition: Definition | None, script: str, wanted: str) -> str:
    """What changes a guest's stored definition; the guest takes it up with its next start. virsh asks VISUAL for
    its editor before EDITOR."""
    if definition is not None and not definition.stored:
        return f"# no definition of it is stored: start it anew from one with {wanted}"
    return f'VISUAL="sed -i \\"{script}\\"" virsh -c URI edit GUEST'


def _life(
    guest: Guest, definition: Definition | None, traits: Traits, *, interval_s: float, active: bool
) -> Iterator[Finding]:
    """What only a running guest shows, and its period, which can be mended while it runs."""
    where = "--live" if definition is not None and not definition.stored else "--live --config"
    now = tuple(_period(guest, where, interval_s=interval_s, active=active))
    yield from now
    if stored := _next(guest, definition):
        yield from _to_come(now, _period(stored, "--config", interval_s=interval_s, active=active))
    asked = guest.obstacle not in _UNASKED and guest.statistics_period_s
    if asked and guest.statistics is not None and guest.statistics.last_update_s == 0:
        yield advice(
            "its balloon driver has never answered",
            "it is held at the size that it has, and counts whole",
            "# in the guest: modprobe virtio_balloon (Linux), or start the service BLNSVR (Windows)",
        )
    if guest.uuid in traits.placeless:
        yield advice(
            "it has no cgroup of its own",
            "its memory can be neither told from the host's nor reclaimed by itself",
            "# let libvirt use cgroups: cgroup_controllers in /etc/libvirt/qemu.conf",
        )


def _period(guest: Guest, where: str, *, interval_s: float, active: bool) -> Iterator[Finding]:
    """`where`: virsh's options, for what runs and what is stored."""
    command = f"virsh -c URI dommemstat GUEST --period {max(1, round(interval_s))} {where}"
    if guest.obstacle in _UNASKED:
        return
    if guest.statistics_period_s == 0 and not active:
        yield advice(
            "it tells no statistics: no period is set",
            "in mode observe balloond does not set one, and knows nothing of what the guest needs",
            command,
        )
    if guest.statistics_period_s > PERIOD_MOST * interval_s:
        yield advice(
            f"it tells its statistics each {guest.statistics_period_s} s only",
            "they are too old to be trusted most of the time, so that it is not shrunk",
            command,
        )
