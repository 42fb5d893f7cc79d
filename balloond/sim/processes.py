"""How is work shared by all processors?

Parts go out, results come back as they are done, each with its part's number. What is computed depends on nothing
but the parts. Processes inherit the parts and are told numbers only: what waits in a pipe for a process that is
gone would keep whoever ends it waiting (CPython's gh-94777; 3.11.2 has it).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import active_children, connection, get_context, parent_process
from typing import Any, Final, TypeVar

P = TypeVar("P")
R = TypeVar("R")

AHEAD: Final = 4
"""Parts for each process that are waiting or worked at: more at once would only take memory."""

ENDING: Final = (signal.SIGINT, signal.SIGTERM)

EXIT_LOST: Final = 70
"""Exit status for WorkerLostError; EX_SOFTWARE of sysexits(3)."""


class WorkerLostError(Exception):
    """A process that shared the work was ended from outside, or could not be had; the text says what may help."""


def count(jobs: int | None, parts: int) -> int:
    """How many processes so many parts are worth; by default, without `jobs`, one a processor."""
    return min(jobs or os.cpu_count() or 1, parts)


def each(
    work: Callable[[P], R], parts: Sequence[P], *, jobs: int, order: Sequence[int] | None = None
) -> Generator[tuple[int, R], None, None]:
    """Carries the parts out, beginning with them in `order`, and gives each result when it is there. One job works
    in this very process. Whoever ends early ends the processes too. Raises WorkerLostError."""
    order = range(len(parts)) if order is None else order
    if jobs == 1:
        yield from ((index, work(parts[index])) for index in order)
        return
    others = active_children()
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("fork"), initializer=_begin, initargs=(work, parts)
    )
    ahead = iter(order)
    waiting: dict[Future[Any], int] = {}  # Any: of what `_carry_out` returns nothing is known here
    try:
        while True:
            for index in islice(ahead, AHEAD * jobs - len(waiting)):
                waiting[_submit(pool, index)] = index
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
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


_inherited: tuple[Callable[[Any], Any], Sequence[Any]]  # Any: work and parts, as `each` was given them


def _begin(work: Callable[[Any], Any], parts: Sequence[Any]) -> None:
    """Ctrl-C reaches all processes of a terminal: this one ends at once and without a word, as it does when its
    parent is gone."""
    global _inherited  # noqa: PLW0603  (what a process is begun with has no other place)
    _inherited = work, parts
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _carry_out(index: int) -> Any:  # Any: see `_inherited`
    work, parts = _inherited
    return work(parts[index])


def _submit(pool: ProcessPoolExecutor, index: int) -> Future[Any]:
    """A signal that falls while a process is forked may be lost, or end that one with many words."""
    with _blocked():
        try:
            return pool.submit(_carry_out, index)
        except OSError as error:
            raise WorkerLostError(f"no process can be started: {error.strerror}; try fewer --jobs") from error


@contextmanager
def _blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
