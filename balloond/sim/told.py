"""How is a comparison over a trace told: as a table, as JSON, as a page?

Every figure comes from `compare.Row`; here it is only put into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Final

from balloond.sim.compare import Case, Result, Row
from balloond.sim.history import History
from balloond.sim.policies import BOUNDS, CLAIRVOYANT
from balloond.sim.report import Curve, Page, Panel, Picture
from balloond.sim.table import aligned, short
from balloond.sim.trace import STEP_S, Trace, Worlds
from balloond.units import MIB

COLUMNS: Final = (
    "policy", "overcommit", "U", "excess", "of late oracle's", "flips", "moves", "GiB moved", "99 % served in",
    "most given", "valid",
)  # fmt: skip

RAMPS: Final = {
    "linear": "a line between samples",
    "step": "a step in the middle of the slot",
}

NOTES: Final = (
    "U: underprovision, GiB·s a machine-day. Excess: U less what nobody could have given, the clairvoyant's U.",
    "Flips, moves and GiB moved: a machine-day. 99 % served in: so long until a guest's shortage was over.",
    "Not valid: handed out more memory than the host has, after the first minute.",
    f"Steps of {STEP_S:g} s, statistics one step old, the first ten steps not scored; balloons follow in a step.",
)


def describe(trace: Trace, worlds: Worlds, seed: int) -> str:
    """What was run, in a line."""
    left_out = len(trace.capacity) - worlds.machines.size
    left = f", {left_out} machines left out" if left_out else ""
    cut = (
        f"; {worlds.cut:,} samples were more than their machine has, and are cut to that"
        if worlds.cut
        else ""
    )
    days = worlds.steps * STEP_S / 86400
    guests = worlds.machines.shape[1]
    return (
        f"{trace.name}: {worlds.hosts} {'host' if worlds.hosts == 1 else 'hosts'} of {guests} machines{left}, "
        f"{days:.3g} days, dealt with seed {seed}{cut}"
    )


def table(rows: Sequence[Row]) -> str:
    """The figures for a terminal, a part for each ramp, a line between overcommitments."""
    parts: list[str] = []
    for ramp, of_ramp in groupby(rows, key=lambda row: row.ramp):
        listed = list(of_ramp)
        lines = aligned(COLUMNS, [cells(row) for row in listed])
        parts += [f"ramp {ramp}: {RAMPS[ramp]}", lines[0]]
        for before, row, line in zip([None, *listed], listed, lines[1:], strict=False):
            if before is not None and before.overcommit != row.overcommit:
                parts.append("")
            parts.append(line)
        parts.append("")
    return "\n".join([*parts, *NOTES])


def cells(row: Row) -> tuple[str, ...]:
    """One row, in the order of COLUMNS."""
    bound = row.policy == CLAIRVOYANT
    return (
        row.policy,
        f"{row.overcommit:g}",
        short(row.shortage),
        short(row.excess),
        "-" if row.multiple is None or row.multiple < 0 else f"{short(row.multiple)}x",
        "-" if bound else short(row.flips),
        "-" if bound else short(row.moves),
        "-" if bound else short(row.moved_gib),
        "-" if row.wait_p99_s is None else f"{row.wait_p99_s:g} s",
        f"{row.most_given:.1%}",
        "yes" if row.valid else "no",
    )


def to_json(described: str, rows: Sequence[Row], *, schema: int) -> dict[str, object]:
    return {"schema": schema, "worlds": described, "rows": [asdict(row) for row in rows]}


def page(described: str, worlds: Worlds, results: Sequence[Result], rows: Sequence[Row]) -> Page:
    """The page: a panel of curves for each ramp, a picture for each case that was drawn."""
    drawn = {result.case.ramp: result.history for result in results if result.history is not None}
    return Page(
        title="balloond and its peers",
        subtitle=f"{described}.",
        panels=tuple(
            Panel(title=f"Ramp {ramp}: {RAMPS[ramp]}", curves=_curves(list(of_ramp)))
            for ramp, of_ramp in groupby(rows, key=lambda row: row.ramp)
        ),
        pictures=tuple(
            _picture(worlds, result.case, result.history, list(drawn).index(result.case.ramp))
            for result in results
            if result.history is not None and result.case.policy not in BOUNDS
        ),
        demands=tuple(history.wanted.tolist() for history in drawn.values()),
        columns=(COLUMNS[0], "ramp", *COLUMNS[1:]),
        rows=tuple((row.policy, row.ramp, *cells(row)[1:]) for row in rows),
        notes=NOTES,
    )


def _curves(rows: Sequence[Row]) -> tuple[Curve, ...]:
    policies = dict.fromkeys(row.policy for row in rows)
    return tuple(
        Curve(
            policy=policy,
            points=tuple((row.overcommit, row.shortage) for row in rows if row.policy == policy),
            valid=all(row.valid for row in rows if row.policy == policy),
        )
        for policy in policies
    )


def _picture(worlds: Worlds, case: Case, history: History, demand: int) -> Picture:
    return Picture(
        label=f"{case.policy} at {case.overcommit:g}x, ramp {case.ramp.value}, host {history.host}",
        names=tuple(f"machine {machine}" for machine in worlds.machines[history.host]),
        every_s=history.every_s,
        total=int(worlds.totals(case.overcommit)[history.host]) // MIB,
        actual=history.actual.tolist(),
        demand=demand,
    )
