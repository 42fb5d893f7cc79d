"""How is work shared by all processors?

Parts go out, results come back as they are done, each with its part's number. What is computed depends on nothing
but the parts.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, parent_process
from multiprocessing.connection import wait
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


class WorkerLostError(Exception):
    """A process that shared the work was ended from outside."""


def count(jobs: int | None, parts: int) -> int:
    """How many processes so many parts are worth; by default, without `jobs`, one a processor."""
    return min(jobs or os.cpu_count() or 1, parts)


def each(
    work: Callable[[P], R], parts: Sequence[P], *, jobs: int, order: Sequence[int] | None = None
) -> Iterator[tuple[int, R]]:
    """Carries the parts out, beginning with them in `order`, and gives each result when it is there. One job works
    in this very process. Whoever ends early ends the processes too. Raises WorkerLostError."""
    order = range(len(parts)) if order is None else order
    if jobs == 1:
        yield from ((index, work(parts[index])) for index in order)
        return
    others = active_children()
    pool = ProcessPoolExecutor(jobs, initializer=_end_with_its_parent)
    try:
        waiting = _submit(pool, work, parts, order)
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool as error:
        raise WorkerLostError(
            "a process that shared the work was killed; where memory ran out, fewer --jobs need less"
        ) from error
    except BaseException:
        for process in active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_its_parent() -> None:
    """Ctrl-C reaches all processes of a terminal: this one ends at once and without a word, as it does when its
    parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _submit(
    pool: Executor, work: Callable[[P], R], parts: Sequence[P], order: Sequence[int]
) -> dict[Future[R], int]:
    return {pool.submit(work, parts[index]): index for index in order}
