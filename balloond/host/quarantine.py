"""Which guests hang so often that they are not asked for a while?

A guest whose monitor never answers needs no quarantine: libvirt itself skips it while our first call waits.
One that answers late, time and again, costs the others a restart of the connection each time. It must never be
shut out for one or two slow answers: a guest that the host is swapping out is slow, and needs help most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FREE_STRIKES: Final = 2  # hangs that are forgiven; see above
SHORTEST_S: Final = 10.0  # five ticks at the default interval
LONGEST_S: Final = 600.0  # a guest that recovers is back within what an operator takes to look at it
FORGOTTEN_AFTER_S: Final = 600.0  # without another hang; otherwise a guest would be punished for last month's


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    strikes: int
    last_s: float
    until_s: float


class Quarantine:
    """Times are instants in seconds on one clock of the caller's."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def strike(self, uuid: str, now_s: float) -> float:
        """Counts a hang; returns for how many seconds the guest is to be left out, 0 for not at all."""
        known = self._records.get(uuid)
        strikes = 1 if known is None or now_s > _forgotten_at(known) else known.strikes + 1
        beyond = strikes - FREE_STRIKES
        pause_s = min(SHORTEST_S * 2 ** (beyond - 1), LONGEST_S) if beyond > 0 else 0.0
        self._records[uuid] = _Record(strikes=strikes, last_s=now_s, until_s=now_s + pause_s)
        return pause_s

    def inside(self, now_s: float) -> frozenset[str]:
        """The guests that are not to be asked now."""
        return frozenset(uuid for uuid, record in self._records.items() if now_s < record.until_s)

    def suspects(self, now_s: float) -> frozenset[str]:
        """The guests with any hang that is not forgotten: ask them apart from the others."""
        self._records = {u: record for u, record in self._records.items() if now_s <= _forgotten_at(record)}
        return frozenset(self._records)


def _forgotten_at(record: _Record) -> float:
    return max(record.last_s, record.until_s) + FORGOTTEN_AFTER_S
