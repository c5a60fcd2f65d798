"""Threads: how many this process may use, and functions applied to many items by them.

NumPy and Arrow release the interpreter lock while they work on a file or a block of rows,
so threads share memory without copying it, which processes could not.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4
"""Results per thread that may wait until they are used."""

_THREADS: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use at most `count` threads inside this context.

    A worker process or a thread of a Dask worker uses one: its siblings have the other CPUs.
    """
    token = _THREADS.set(count)
    try:
        yield
    finally:
        _THREADS.reset(token)


def available_cpus() -> int:
    """Return how many CPUs this process may use (its affinity, where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Return how many threads may compute here: one per available CPU, or what `threads` says."""
    return _THREADS.get() or available_cpus()


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return ``[function(item) for item in items]``, computed by a thread per available CPU.

    One item, or one CPU, is computed in the calling thread: starting a pool would cost more.
    """
    count = min(thread_count(), len(items))
    if count <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, items))


def parallel_stream(
    function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[Result]:
    """Yield ``function(item)`` of each item, in order, by `count` threads.

    They are at most a few results ahead, so that memory is bounded.
    """
    if count <= 1:
        yield from map(function, items)
        return
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > 3 * count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
