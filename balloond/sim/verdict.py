"""Are the bars met?

Sets balloond's figures against the late oracle's and the best valid peer's on the very same worlds. U and what
derives from it are GiB·s a machine-day, as in `compare.Row`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from balloond.sim.policies import BALLOOND, PEERS
from balloond.sim.table import aligned, short

if TYPE_CHECKING:  # it needs numpy
    from balloond.sim.compare import Row

EXCESS_BARS: Final = {2.0: 3.0, 2.5: 5.0, 3.0: 5.0}
"""The most that balloond's excess may be, in multiples of the late oracle's, by overcommitment."""

FLIPS_BAR: Final = 2.0  # a machine-day, at most
PEER_BAR: Final = 100.0  # times lower than the best valid peer's U, at least
PEER_AT: Final = (2.0, 2.5)  # the overcommitments of that bar


class Answer(enum.StrEnum):
    MET = "met"
    MISSED = "missed"
    OUT_OF_REACH = "out of reach"  # not even who knows everything meets it on these worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    bar: str  # what it is about, and what is asked for
    figure: str
    answer: Answer


def best_peer(beside: Sequence[Row]) -> Row | None:
    """The valid peer whose U is least; None where no peer is valid."""
    peers = [row for row in beside if row.policy in PEERS and row.valid]
    return min(peers, key=lambda row: row.shortage, default=None)


def beside(row: Row, told: Sequence[Row]) -> list[Row]:
    """Those of the same worlds."""
    return [other for other in told if (other.ramp, other.overcommit) == (row.ramp, row.overcommit)]


def verdicts(told: Sequence[Row]) -> tuple[Verdict, ...]:
    """On each bar that is set for balloond's rows, in their order."""
    return tuple(
        verdict
        for row in told
        if row.policy == BALLOOND
        for verdict in _of(row, best_peer(beside(row, told)))
    )


def _of(row: Row, peer: Row | None) -> Iterator[Verdict]:
    worlds = f"{row.ramp} {row.overcommit:g}x"
    if row.overcommit in EXCESS_BARS:
        bar = EXCESS_BARS[row.overcommit]
        yield Verdict(
            bar=f"{worlds}: excess at most {bar:g} times the late oracle's",
            figure=f"{short(row.excess)}; the oracle's {short(row.late_excess)}",
            answer=_answer(row.excess <= bar * row.late_excess),
        )
        yield Verdict(
            bar=f"{worlds}: flips at most {FLIPS_BAR:g} a machine-day",
            figure=short(row.flips),
            answer=_answer(row.flips <= FLIPS_BAR),
        )
    if row.overcommit in PEER_AT and peer is not None:
        figure, answer = _against(row, peer)
        yield Verdict(
            bar=f"{worlds}: U at least {PEER_BAR:g} times below the best valid peer's",
            figure=figure,
            answer=answer,
        )


def _against(row: Row, peer: Row) -> tuple[str, Answer]:
    if row.shortage == 0:
        return "nothing lacks", Answer.MET
    figure = f"{short(row.shortage)}; {peer.policy}'s {short(peer.shortage)}"
    if PEER_BAR * row.shortage <= peer.shortage:
        return figure, Answer.MET
    if PEER_BAR * row.infeasible > peer.shortage:
        return f"{figure}; the clairvoyant itself has {short(row.infeasible)}", Answer.OUT_OF_REACH
    return figure, Answer.MISSED


def _answer(met: bool) -> Answer:
    return Answer.MET if met else Answer.MISSED


def lines(given: Sequence[Verdict]) -> list[str]:
    """The verdicts for a terminal, and their sum."""
    counts = [(sum(v.answer is answer for v in given), answer) for answer in Answer]
    return [
        *aligned(("bar", "figure", "verdict"), [(v.bar, v.figure, v.answer.value) for v in given]),
        "",
        f"Of {len(given)} bars: " + ", ".join(f"{count} {answer.value}" for count, answer in counts) + ".",
    ]
