"""How is the question whether a guest may start read, and how is it answered?

The request comes over the control socket from anybody who may ask: every field of it is checked here, and what
makes no sense is answered with a complaint, never with a yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from balloond.config.settings import SMALLEST_GUEST, Config
from balloond.model import Held, Tick
from balloond.policy.admission import Asked, admit
from balloond.policy.solvency import QEMU_OVERHEAD
from balloond.units import TIB, format_size

LARGEST: Final = 1024 * TIB  # no guest has a pebibyte; such a number is a mistake in the unit
LONGEST_NAME: Final = 256  # characters; libvirt's own names are shorter
_FIELDS: Final = {"ask", "size", "held", "name"}


class RefusalStatus(TypedDict):
    objection: str
    missing: int | None


class AdmissionStatus(TypedDict):
    """Sizes in bytes; `spare` is what would be left of memory and swap with the guest, negative: missing;
    `swap_withheld` what the host has free on disk and a bound keeps from guests, null: there is none; of a higher
    bound zram may take `zram_beyond` first."""

    schema: int
    admitted: bool
    size: int
    held: str
    guarantee: int
    rung: str
    source: str | None
    spare: int | None
    swap_withheld: int | None
    zram_beyond: int
    refusals: list[RefusalStatus]


SCHEMA: Final = 1


def asked_of(request: Mapping[str, Any], config: Config) -> Asked | str:
    """The guest that is asked for, or what is wrong with the question."""
    unknown = sorted(request.keys() - _FIELDS)
    size, held, name = request.get("size"), request.get("held", Held.ORDINARY.value), request.get("name", "")
    if unknown:
        return f"admit knows no {', '.join(unknown)!r:.80}; it takes size, held and name"
    if type(size) is not int or not SMALLEST_GUEST <= size <= LARGEST:
        return f"size is in bytes, from {format_size(SMALLEST_GUEST)} to {format_size(LARGEST)}"
    if type(held) is not str or held not in set(Held):
        return f"held is one of {', '.join(Held)}"
    if type(name) is not str or len(name) > LONGEST_NAME:
        return f"name is text of at most {LONGEST_NAME} characters"
    policy = config.policy_for("", name, "")
    guarantee = max(policy.minimum.of(size), SMALLEST_GUEST) if policy.manage else 0
    return Asked(size=size, held=Held(held), guarantee=guarantee, overhead=QEMU_OVERHEAD)


def admission(tick: Tick, asked: Asked) -> AdmissionStatus:
    """Whether it may start, as things stood when `tick` was sealed."""
    host = tick.snapshot.host
    answer = admit(tick.decision, tick.snapshot, asked)
    return AdmissionStatus(
        schema=SCHEMA,
        admitted=answer.admitted,
        size=asked.size,
        held=asked.held.value,
        guarantee=asked.guarantee,
        rung=tick.decision.rung.name.lower(),
        source=host.source.value if host else None,
        spare=answer.spare,
        swap_withheld=host.swap_withheld if host else None,
        zram_beyond=host.zram_beyond if host else 0,
        refusals=[
            RefusalStatus(objection=each.objection.value, missing=each.missing) for each in answer.refusals
        ],
    )
