"""How does it look to a person? Bars that are drawn again each second on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
from typing import Final, TextIO

from balloond.lab.play import GuestView, Picture, Summary
from balloond.units import MIB, format_size

WIDTH: Final = 48  # with names and figures a line stays within 110 columns
USED, GIVEN, TAKEN, SWAPPED = "█", "▒", "·", "▓"


class Screen:
    """Draws pictures on a stream."""

    def __init__(self, out: TextIO, overcommit: float) -> None:
        self._out = out
        self._overcommit = overcommit
        self._drawn = 0  # lines to go up before drawing again

    def tell(self, words: str) -> None:
        print(f"lab: {words}", file=self._out, flush=True)
        self._drawn = 0

    def show(self, picture: Picture) -> None:
        if not self._out.isatty():
            print(_line(picture), file=self._out, flush=True)
            return
        lines = [*self._host(picture), *map(_guest, picture.guests)]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        columns = shutil.get_terminal_size().columns - 1  # a line that wraps could not be drawn over
        self._out.write(up + "".join(f"\x1b[K{line[:columns]}\n" for line in lines))
        self._out.flush()
        self._drawn = len(lines)

    def _host(self, picture: Picture) -> list[str]:
        promised = sum(guest.maximum for guest in picture.guests)
        return [
            f"{picture.elapsed_s:4.0f} s   {len(picture.guests)} guests were promised {format_size(promised)} "
            f"of a pool of {format_size(picture.pool)}: {self._overcommit:.2f} times what there is",
            f"         {USED} in use   {GIVEN} given, not in use   {TAKEN} taken by the balloon",
            f"pool     {_bar([(USED, picture.used), (SWAPPED, picture.swapped)], picture.pool)} "
            f"{picture.used // MIB:5} MiB, {picture.swapped // MIB} MiB swapped, "
            f"{picture.targets_set} targets set",
        ]


def closing(summary: Summary) -> str:
    """The summary in words."""
    worst = f"worst guest {summary.served_share_worst:.1%}"
    return "\n".join(
        (
            "",
            f"{summary.guests} guests shared {format_size(summary.pool_bytes)}, promised "
            f"{summary.overcommit_ratio:.2f} times as much, for {summary.lasted_s:.0f} s "
            f"({summary.accelerator}).",
            f"They did {summary.served_share:.1%} of the work that was asked for ({worst}); a guest waited for "
            f"a processor {summary.cpu_wait_share:.0%} of the time.",
            f"balloond set {summary.targets_set} targets and moved {format_size(summary.moved_bytes)}.",
            f"Guests swapped out {format_size(summary.guest_swap_out_bytes)}; the host swapped out "
            f"{format_size(summary.host_swap_out_bytes)}.",
            f"OOM kills: {summary.oom_kills_guest} in guests, {summary.oom_kills_host} on the host.",
        )
    )


def _guest(guest: GuestView) -> str:
    number = guest.name.rpartition("-")[2]
    report = guest.report
    if report is None:
        return f"guest {number:2} {'?' * WIDTH} does not answer"
    given = guest.maximum - report.balloon
    used = max(0, given - report.available)
    bar = _bar([(USED, used), (GIVEN, given - used), (TAKEN, guest.maximum - given)], guest.maximum)
    swapped = report.swap_total - report.swap_free
    return (
        f"guest {number:2} {bar} {given // MIB:5} MiB, works with {report.held // MIB:4} of "
        f"{report.wanted // MIB:4}, served {guest.served_share:.1%}"
        + (f", {swapped // MIB} MiB in its swap" if swapped >= MIB else "")
    )


def _line(picture: Picture) -> str:
    guests = " ".join(
        f"{(guest.maximum - guest.report.balloon) // MIB}/{guest.report.held // MIB}"
        if guest.report
        else "?/?"
        for guest in picture.guests
    )
    served = min(guest.served_share for guest in picture.guests)
    return (
        f"{picture.elapsed_s:4.0f} s  pool {picture.used // MIB}/{picture.pool // MIB} MiB, "
        f"swapped {picture.swapped // MIB}; guests' balloon/work {guests}; "
        f"worst served {served:.1%}; {picture.targets_set} targets"
    )


def _bar(parts: list[tuple[str, int]], whole: int) -> str:
    """A bar of WIDTH columns; parts are rounded at their ends, so that the total is right."""
    drawn, reached = "", 0
    for mark, size in parts:
        reached += size
        drawn += mark * (round(min(reached, whole) / whole * WIDTH) - len(drawn))
    return drawn.ljust(WIDTH)
