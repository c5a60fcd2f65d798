"""Compute a plan on a Dask cluster. Needs the extra ``cluster``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics.errors import CdpError, ConfigError, InputError
from cdpanalytics.execution.local import collect
from cdpanalytics.execution.partition import WORKER_OVERHEAD_BYTES
from cdpanalytics.execution.plan import Plan, Task

if TYPE_CHECKING:
    from distributed import Client

_RANGES_PER_THREAD = 4
"""When a worker is lost, the ranges it was computing are computed again: so they are small."""

_MEMORY_SHARE = 0.5
"""Share of a worker's limit that its ranges may use: beyond 60 % Dask begins to spill to disk."""


def run_cluster(
    plan: Plan,
    client: Client | str | None = None,
    memory: str | int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Return the metric of a plan, computed on a Dask cluster, the same to the digit.

    A worker that is lost changes nothing: its ranges are computed again by others.

    Parameters
    ----------
    plan : Plan
        All workers must reach its source: a directory under the same path, or an object
        store. Its storage options travel to them.
    client : distributed.Client or str, optional
        A client, or the address of a scheduler. Default: the client that was made last.
    memory : str or int, optional
        What one range may use, like "1GB". Default: half of what the smallest worker has
        per thread.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    InputError
        When no client is given, or a group of rows does not fit in memory.
    ConfigError
        When Dask is not installed.
    CdpError
        When no scheduler answers, or several workers were lost over the same range.
    """
    with connected(client) as connection:
        workers = connection.scheduler_info(n_workers=-1)["workers"].values()
        cut = plan.cut(
            _memory_per_range(workers) if memory is None else memory,
            least=_RANGES_PER_THREAD * max(1, sum(worker["nthreads"] for worker in workers)),
        )
        return collect(cut, _results(cut, connection), progress)


def _results(plan: Plan, client: Client) -> Iterator[tuple[int, Any]]:
    """Yield each task's number and partial result as they come from the workers."""
    from distributed import KilledWorker, as_completed

    # Each run computes anew: the archive may have changed since the last one.
    numbers = {
        client.submit(Task.compute_single_threaded, task, pure=False): number
        for number, task in enumerate(plan.tasks())
    }
    try:
        for future, part in as_completed(list(numbers), loop=client.loop, with_results=True):
            yield numbers.pop(future), part
    except KilledWorker:
        raise CdpError(
            "workers were lost over one range again and again, probably because memory was short; "
            "use a smaller memory="
        ) from None
    finally:
        client.cancel(list(numbers))


def connected(client: Client | str | None) -> Any:
    """Return a context that gives the client: the given one, one for an address, or Dask's default."""
    distributed = installed("distributed")
    if client is not None and not isinstance(client, str):
        return nullcontext(client)
    if client is None:
        try:
            return nullcontext(distributed.default_client())
        except ValueError:
            raise InputError(
                "no client of a cluster; give client=, like 'tcp://scheduler:8786', or make one: "
                "distributed.Client()"
            ) from None
    try:
        return distributed.Client(client, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CdpError(f"no scheduler of Dask answers at {client}: {reason}") from None


def installed(module: str) -> Any:
    """Import a module of Dask.

    Raises
    ------
    ConfigError
        When Dask is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise ConfigError(
            'Dask is not installed; install it: pip install "cdpanalytics[cluster]"'
        ) from None


def _memory_per_range(workers: Iterable[Mapping[str, Any]]) -> str | int:
    """Half of what the smallest worker has for each thread, at least enough for a process."""
    limits = [
        worker["memory_limit"] / worker["nthreads"] for worker in workers if worker["memory_limit"]
    ]
    return max(2 * WORKER_OVERHEAD_BYTES, int(_MEMORY_SHARE * min(limits))) if limits else "1GB"
