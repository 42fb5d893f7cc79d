"""What do libvirt's raw answers mean?

Pure functions from what the connection's process returned to the model's nouns. Here, and nowhere else, KiB
become bytes, libvirt's numbers for states and errors become names, and its ways of saying 'unknown' become
None. Nothing here judges whether a guest's figures are plausible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from balloond.host.domain_xml import Facts
from balloond.host.link import LibvirtError
from balloond.model import Guest, Obstacle, Result, State, Statistics
from balloond.units import KIB

_STATES: Final = {  # virDomainState
    0: State.RUNNING,  # no state: QEMU's driver never says so
    1: State.RUNNING,
    2: State.RUNNING,  # blocked: Xen's word for idle
    3: State.PAUSED,
    4: State.SHUTTING_OFF,
    5: State.OFF,
    6: State.CRASHED,
    7: State.SUSPENDED,
}

_MISSING_KIB: Final = 2**50
"""No guest has an exbibyte: QEMU's 'not reported' is 2^64-1 bytes, which libvirt divides by 1024."""

_MISSING_COUNT: Final = 2**64 - 1

# virErrorNumber
_OPERATION_FAILED: Final = 9
_READ_ONLY: Final = 29
_NO_DOMAIN: Final = 42
_OPERATION_INVALID: Final = 55
_JOB_TIMEOUT: Final = 68


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One guest in libvirt's answer. `fields` is None when the guest was not asked."""

    uuid: str
    name: str
    domain_id: int  # another one each time that the guest is started
    fields: Mapping[str, int] | None

    @property
    def state(self) -> State:
        number = (self.fields or {}).get("state.state", 1)
        return _STATES.get(number, State.PAUSED)  # whatever it is, such a guest is to be left alone

    @property
    def is_full(self) -> bool:
        """Whether its monitor was asked: with its job held by another, only four fields come back."""
        return self.fields is not None and "balloon.rss" in self.fields

    @property
    def block_read(self) -> int | None:
        """Bytes read from all its disks; None: the block group was not asked for."""
        if self.fields is None or "block.count" not in self.fields:
            return None
        numbers = range(min(self.fields["block.count"], 4096))
        return sum(max(self.fields.get(f"block.{number}.rd.bytes", 0), 0) for number in numbers)


def row_of(answer: Any) -> Row:
    """A row as it came over the link: [UUID, name, ID, fields or None]. Only numbers are kept."""
    uuid, name, domain_id, fields = answer
    numbers = None if fields is None else {k: v for k, v in fields.items() if type(v) is int}
    return Row(uuid=uuid, name=name, domain_id=domain_id, fields=numbers)


def guest_of(
    row: Row,
    facts: Facts | None,
    *,
    numbers: Mapping[str, int],
    job: int,
    block_read: int | None,
    incarnation: int,
) -> Guest:
    """The guest as the model has it.

    `row` is this tick's answer; `numbers` are the last full one's fields under this tick's, so that a guest
    that could not be asked keeps what was known of it: the statistics' own date tells their age. Without
    `facts` its limits are libvirt's plain ones and it is UNREADABLE.
    """
    size = facts.virtio_mem_size if facts else 0
    current = facts.virtio_mem_current if facts else 0
    maximum = _kib(numbers, "balloon.maximum") or (facts.maximum if facts else 0)
    actual = _kib(numbers, "balloon.current") or (facts.current if facts else maximum)
    return Guest(
        uuid=row.uuid,
        name=row.name,
        title=facts.title if facts else "",
        state=row.state,
        maximum=max(maximum - size, 0),  # setMemory reaches all but virtio-mem
        actual=max(actual - current, 0),  # while `current` counts it in
        rss=_kib(numbers, "balloon.rss"),
        obstacle=_obstacle(row, facts, job),
        statistics=statistics_of(numbers),
        statistics_period_s=facts.statistics_period_s if facts else 0,
        incarnation=incarnation,
        block_read=block_read,
        virtio_mem=size,
        translations=facts.translations if facts else 0,
        deflates_on_oom=facts.deflates_on_oom if facts else False,
        reports_free_pages=facts.reports_free_pages if facts else False,
        defined=facts is not None,
        mergeable=facts.mergeable if facts else True,
    )


def statistics_of(numbers: Mapping[str, int]) -> Statistics | None:
    """What the guest's driver last said; None when nobody asked it, or there is no balloon to ask."""
    last_update_s = numbers.get("balloon.last-update")
    if last_update_s is None:
        return None
    return Statistics(
        last_update_s=last_update_s,
        untrusted_available=_kib(numbers, "balloon.available"),
        untrusted_unused=_kib(numbers, "balloon.unused"),
        untrusted_usable=_kib(numbers, "balloon.usable"),
        untrusted_caches=_kib(numbers, "balloon.disk_caches"),
        untrusted_swap_in=_kib(numbers, "balloon.swap_in"),
        untrusted_swap_out=_kib(numbers, "balloon.swap_out"),
        untrusted_major_faults=_count(numbers, "balloon.major_fault"),
    )


def refusal(error: LibvirtError, *, active: bool) -> tuple[Result, str]:
    """What an error of setMemory means for the action; `active`: libvirt still has the guest running."""
    if error.code == _NO_DOMAIN:
        return Result.GONE, error.text
    if error.code == _OPERATION_INVALID:
        return (Result.REFUSED if active else Result.GONE), error.text
    if error.code in (_OPERATION_FAILED, _JOB_TIMEOUT):
        return Result.BUSY, error.text
    if error.code == _READ_ONLY:
        return Result.REFUSED, f"{error.text}: the connection may only read; balloond needs a full one"
    return Result.REFUSED, error.text


def _obstacle(row: Row, facts: Facts | None, job: int) -> Obstacle | None:
    """What lasts is told before what passes."""
    if facts is not None and facts.obstacle is not None:
        return facts.obstacle
    if row.fields is not None and row.state is not State.RUNNING:
        return Obstacle.NOT_RUNNING
    if job:
        return Obstacle.IN_JOB
    return Obstacle.UNREADABLE if facts is None or not row.is_full else None


def _kib(numbers: Mapping[str, int], key: str) -> int | None:
    value = numbers.get(key, -1)
    return value * KIB if 0 <= value < _MISSING_KIB else None


def _count(numbers: Mapping[str, int], key: str) -> int | None:
    value = numbers.get(key, -1)
    return value if 0 <= value < _MISSING_COUNT else None
