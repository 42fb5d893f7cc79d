"""How is work shared by all processors?

Parts go out, results come back as they are done, each with its part's number. What is computed depends on nothing
but the parts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


def count(jobs: int | None, parts: int) -> int:
    """How many processes so many parts are worth; by default, without `jobs`, one a processor."""
    return min(jobs or os.cpu_count() or 1, parts)


def each(
    work: Callable[[P], R], parts: Sequence[P], *, jobs: int, order: Sequence[int] | None = None
) -> Iterator[tuple[int, R]]:
    """Carries the parts out, beginning with them in `order`, and gives each result when it is there. One job works
    in this very process."""
    order = range(len(parts)) if order is None else order
    if jobs == 1:
        yield from ((index, work(parts[index])) for index in order)
        return
    with ProcessPoolExecutor(jobs, initializer=_end_when_interrupted) as pool:
        waiting = _submit(pool, work, parts, order)
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_when_interrupted() -> None:
    """Ctrl-C reaches all processes of a terminal: this one ends at once and without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _submit(
    pool: Executor, work: Callable[[P], R], parts: Sequence[P], order: Sequence[int]
) -> dict[Future[R], int]:
    return {pool.submit(work, parts[index]): index for index in order}
