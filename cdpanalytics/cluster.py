"""The same metrics on Dask: the plan of `Archive.map`, computed by the workers of a cluster.

It cuts nothing and adds nothing up: `Archive.plan` says what there is to do,
`cdpanalytics.parts` what comes of it. Needs the extra ``cluster``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics import parts
from cdpanalytics.archive import Archive
from cdpanalytics.errors import CdpError, ConfigError, InputError
from cdpanalytics.parts import Metric, Plan

if TYPE_CHECKING:
    from distributed import Client

FOR_EACH = 4
"""Ranges for each thread of the cluster: when a worker is lost, that much less is done again."""

SHARE = 0.5
"""Of its limit what a worker is given to do: beyond 60 % Dask begins to move data to disk."""


def map(
    archive: Archive,
    metric: Metric,
    *arguments: object,
    client: Client | str | None = None,
    memory: str | int | None = None,
    progress: bool = True,
    **named: Any,
) -> pd.DataFrame:
    """Return a metric of an archive, computed on a Dask cluster, the same to the digit.

    A worker that is lost changes nothing: its ranges are computed again by others.

    Parameters
    ----------
    archive : Archive
        Its directory must be there under the same path for all workers.
    metric : callable
        One of `cdpanalytics.metrics`.
    *arguments, **named
        The metric's own, and what `Archive.map` takes besides: `since`, `until`, `policy`,
        `vm`, `server`.
    client : distributed.Client or str, optional
        A client, or the address of a scheduler. Default: the client that was made last.
    memory : str or int, optional
        What one range may take, like "1GB". Default: half of what the smallest worker has
        for each of its threads.
    progress : bool
        Whether to show how far it is, on standard error.

    Returns
    -------
    pandas.DataFrame
        As `Archive.map` returns it.

    Raises
    ------
    InputError, ArchiveError
        As `Archive.map`; and when there is no client.
    ConfigError
        When Dask is not installed.
    CdpError
        When several workers were lost over the same range.

    Examples
    --------
    >>> from distributed import Client                       # doctest: +SKIP
    >>> client = Client("tcp://scheduler.tech.local:8786")   # doctest: +SKIP
    >>> map(Archive("data/archive"), rpo_adherence, by="policy")  # doctest: +SKIP
    """
    with _connected(client) as connected:
        workers = connected.scheduler_info(n_workers=-1)["workers"].values()
        plan = archive.plan(metric, *arguments, **named).cut(
            _each(workers) if memory is None else memory,
            least=FOR_EACH * max(1, sum(worker["nthreads"] for worker in workers)),
        )
        return parts.gathered(plan, computed(plan, connected), progress)


def computed(plan: Plan, client: Client) -> Iterator[tuple[int, Any]]:
    """Yield each task's number and part as they come from the workers."""
    from distributed import KilledWorker, as_completed

    # Each run computes anew: the archive may have changed since the last one.
    asked = {
        client.submit(parts.compute, task, pure=False): at for at, task in enumerate(plan.tasks())
    }
    try:
        for future, part in as_completed(list(asked), with_results=True):
            yield asked.pop(future), part
    except KilledWorker:
        raise CdpError(
            "workers were lost over one range again and again, as they are when short of memory; "
            "give a smaller memory="
        ) from None
    finally:
        client.cancel(list(asked))


def _connected(client: Client | str | None) -> Any:
    try:
        import distributed
    except ModuleNotFoundError:
        raise ConfigError(
            "Dask is not installed; install it: pip install 'cdpanalytics[cluster]'"
        ) from None
    if isinstance(client, str):
        return distributed.Client(client)
    if client is not None:
        return nullcontext(client)
    try:
        return nullcontext(distributed.default_client())
    except ValueError:
        raise InputError(
            "no client of a cluster; give client=, like 'tcp://scheduler:8786', or make one: "
            "distributed.Client()"
        ) from None


def _each(workers: Any) -> str | int:
    """Half of what the smallest worker has for each thread, at least enough for a process."""
    limits = [
        worker["memory_limit"] / worker["nthreads"] for worker in workers if worker["memory_limit"]
    ]
    return max(2 * parts.BASE, int(SHARE * min(limits))) if limits else "1GB"
