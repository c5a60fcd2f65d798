"""The one way to compute a plan: whole or in ranges, here, on processes or on Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cdpanalytics.execution import local
from cdpanalytics.execution.partition import memory_size
from cdpanalytics.execution.plan import Plan

if TYPE_CHECKING:
    from distributed import Client


def run(
    plan: Plan,
    *,
    memory: str | int | None = None,
    workers: int | None = None,
    client: Client | str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Return the metric that a plan describes.

    Parameters
    ----------
    plan : Plan
    memory : str or int, optional
        What all processes may use together, like "1GB"; on Dask, what one range may use
        (default: half of what the smallest worker has per thread). None: everything is
        read at once, in this process.
    workers : int, optional
        Number of processes. Default: one per CPU, or this process alone where starting
        others would take longer. A script that uses several must be guarded by
        ``if __name__ == "__main__":``.
    client : distributed.Client or str, optional
        Compute on this Dask cluster.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    InputError
        When an argument is wrong, or a group of rows does not fit.
    CdpError
        When a worker is killed.
    """
    if client is not None:
        from cdpanalytics.execution import dask

        return dask.run_cluster(plan, client, memory, progress)
    if memory is None and (workers is None or workers == 1):
        return local.collect(plan, local.run_serial(plan), progress)
    total = memory_size("1GB" if memory is None else memory)
    count, each = local.worker_budget(workers, total)
    if workers is None and plan.rows <= local.MIN_SESSIONS_FOR_PROCESSES:
        count, each = 1, total
    plan = plan.cut(each, count)
    count = min(count, len(plan.ranges))
    parts = local.run_serial(plan) if count == 1 else local.run_processes(plan, count)
    return local.collect(plan, parts, progress)
