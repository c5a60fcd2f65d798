"""Compute a plan here: in this process, or on processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.execution.partition import WORKER_OVERHEAD_BYTES
from cdpanalytics.execution.plan import Plan, Task
from cdpanalytics.parallel import available_cpus

MIN_SESSIONS_FOR_PROCESSES = 2_000_000
"""Below this, one process is faster than several, which must start and read more."""


def run_serial(plan: Plan) -> Iterator[tuple[int, Any]]:
    """Yield each task's number and partial result, computed in this process."""
    return enumerate(task.compute() for task in plan.tasks())


def run_processes(plan: Plan, workers: int) -> Iterator[tuple[int, Any]]:
    """Yield each task's number and partial result as they come from worker processes.

    Raises
    ------
    CdpError
        When a process is killed.
    """
    # Threads of Arrow do not survive a fork.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare_worker) as pool:
        try:
            numbers = {
                pool.submit(Task.compute_single_threaded, task): number
                for number, task in enumerate(plan.tasks())
            }
            for done in as_completed(numbers):
                yield numbers.pop(done), done.result()
        except BrokenProcessPool:
            raise CdpError(
                "a worker process was killed, probably because memory was short; "
                "use a smaller memory= or fewer workers="
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """Keep Arrow to one thread: each worker has one CPU."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def collect(plan: Plan, parts: Iterator[tuple[int, Any]], progress: bool = True) -> pd.DataFrame:
    """Return the metric, from partial results in any order, with a progress bar."""
    from tqdm.auto import tqdm

    results: dict[int, Any] = {}
    total = len(plan.ranges)
    with tqdm(total=total, desc=plan.spec.name, unit="part", disable=not progress) as bar:
        for number, part in parts:
            results[number] = part
            bar.update()
    return plan.result([results[number] for number in range(total)])


def worker_budget(workers: int | None, memory: int) -> tuple[int, int]:
    """Return how many processes to use, and how much memory each may take.

    The default is one per CPU available to this process; fewer where there is not enough
    memory for so many. With several, this process takes memory as well.

    Examples
    --------
    >>> worker_budget(4, 4_250_000_000), worker_budget(1, 1_000_000_000)
    ((4, 1000000000), (1, 1000000000))
    """
    if workers is None:
        workers = available_cpus()
    if isinstance(workers, bool) or not isinstance(workers, int | np.integer) or workers < 1:
        raise InputError(
            f"workers={workers!r} is not a positive whole number; use None for one per CPU"
        )
    count = min(int(workers), (memory - WORKER_OVERHEAD_BYTES) // (2 * WORKER_OVERHEAD_BYTES))
    return (count, (memory - WORKER_OVERHEAD_BYTES) // count) if count > 1 else (1, memory)
