"""What do a simulated guest's programs want, and when?

A workload is a path through points in time: steps, ramps, leaks and bursts are all paths. It is made before the
run and holds no chance of its own, so a run can be taken again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from balloond.sim.guest import Wish


class Path:
    """A workload that passes through `points`, each (time, memory in bytes), in the order of time: in a straight
    line between two of them, or, with `steps`, at the earlier one's size until the later one. Before the first and
    after the last it rests at their sizes. `cache`: file pages that its programs read all the time."""

    __slots__ = ("_cache", "_sizes", "_steps", "_times")

    def __init__(
        self, points: Sequence[tuple[float, float]], *, cache: float = 0.0, steps: bool = False
    ) -> None:
        if not points or any(later[0] < earlier[0] for earlier, later in pairwise(points)):
            raise ValueError("a path needs points in the order of time")
        self._times = [at_s for at_s, _ in points]
        self._sizes = [size for _, size in points]
        self._cache = cache
        self._steps = steps

    def __call__(self, now_s: float) -> Wish:
        return Wish(self.size(now_s), self._cache)

    def size(self, now_s: float) -> float:
        """The memory wanted at that time, bytes."""
        index = bisect_right(self._times, now_s)
        if index == 0:
            return self._sizes[0]
        if index == len(self._times) or self._steps:
            return self._sizes[index - 1]
        begun_s, ended_s = self._times[index - 1], self._times[index]
        earlier, later = self._sizes[index - 1], self._sizes[index]
        return earlier + (later - earlier) * (now_s - begun_s) / (ended_s - begun_s)


def steady(memory: float, *, cache: float = 0.0) -> Path:
    """Always the same."""
    return Path(((0.0, memory),), cache=cache)


def ramps(start: float, moves: Sequence[tuple[float, float, float]], *, cache: float = 0.0) -> Path:
    """From `start` to each size of `moves`, (time, size, bytes a second), as fast as told; a move that the next
    one overtakes stops where it was. An infinite speed is a step."""
    points = [(0.0, start)]
    for index, (at_s, size, speed) in enumerate(moves):
        size_now = points[-1][1]
        points.append((at_s, size_now))
        reached_s = at_s + abs(size - size_now) / speed
        next_s = moves[index + 1][0] if index + 1 < len(moves) else float("inf")
        if reached_s > next_s:
            share = (next_s - at_s) / (reached_s - at_s)
            reached_s, size = next_s, size_now + (size - size_now) * share  # noqa: PLW2901  (cut short)
        points.append((reached_s, size))
    return Path(points, cache=cache)
