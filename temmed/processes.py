"""Worker processes that leave Ctrl-C to the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import connection
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Fewer items than this are done sooner in one process than other processes start.
_WORTH_PROCESSES = 64
#: More items at a time would let progress stand still.
_LARGEST_CHUNK = 32


def processors() -> int:
    """How many processors this process may use; a queue or a container often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int, chunk: int = 1
) -> Generator[R, None, None]:
    """Apply a function to items in processes of their own.

    Close the iterator (``contextlib.closing``) if it may be left before its end: that drops what has not begun and
    waits for what has, so that nothing is written after.

    Args:
        function: of a module's top level, or a ``functools.partial`` of one.
        items: what to apply it to.
        workers: processes; with one, everything happens in this one.
        chunk: items that a process is handed at a time.

    Yields:
        The results, in the order of the items.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    pool = _pool(workers)
    try:
        with _interrupts_held():
            results = pool.map(function, items, chunksize=chunk)
        yield from results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def work_together(function: Callable[[T], R], items: Sequence[T], workers: int) -> Generator[tuple[int, R], None, None]:
    """Apply a function to items in this process and in others, which take some seconds to start.

    This process begins with the last item, the others with the first. For items of seconds each: this process looks
    after the others only between two items. Close the iterator as that of `map_in_processes`.

    Args:
        function: of a module's top level, or a ``functools.partial`` of one.
        items: what to apply it to.
        workers: processes, with this one.

    Yields:
        The number of an item and its result, as they are done.
    """
    if workers <= 1:
        yield from enumerate(map(function, items))
        return
    pool = _pool(workers - 1)
    try:
        with _interrupts_held():
            waiting = {pool.submit(function, item): number for number, item in enumerate(items)}
        for future, number in reversed(list(waiting.items())):
            if future.cancel():
                del waiting[future]
                yield number, function(items[number])
            for done in [other for other in waiting if other.done()]:
                yield waiting.pop(done), done.result()
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Workers that start afresh: forking a process that may have threads can hang."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def map_many(function: Callable[[T], R], items: Sequence[T], workers: int) -> Generator[R, None, None]:
    """As `map_in_processes`, for items of some milliseconds each: in chunks, and in this process if they are few.

    Args:
        function: of a module's top level, or a ``functools.partial`` of one.
        items: what to apply it to.
        workers: processes, at most.

    Returns:
        An iterator over the results, in the order of the items; close it likewise.
    """
    if len(items) < _WORTH_PROCESSES:
        workers = 1
    return map_in_processes(function, items, workers, max(1, min(_LARGEST_CHUNK, len(items) // (4 * workers))))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started in this block never see Ctrl-C; this one sees it at the end of the block.

    Ctrl-C reaches every process of a terminal, also those that are still importing, when no code of ours could have
    told them to ignore it. A blocked signal stays blocked in a new process from its first instruction on. It is
    blocked in this thread alone, though, so that another thread can still let it in: hence the handler.
    """
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True

    # Only the main thread may set handlers, and only in it is Ctrl-C an exception.
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    if is_main and handler is not None:
        signal.signal(signal.SIGINT, note)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if is_main and handler is not None:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if interrupted:
            signal.raise_signal(signal.SIGINT)
