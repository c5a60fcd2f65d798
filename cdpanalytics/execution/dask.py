"""The same metrics on Dask: the plan of `Archive.map`, computed by the workers of a cluster.

It cuts nothing and adds nothing up: `Archive.plan` says what there is to do,
`cdpanalytics.execution.partition` what comes of it. Needs the extra ``cluster``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics.archive import Archive
from cdpanalytics.errors import CdpError, ConfigError, InputError
from cdpanalytics.execution import partition
from cdpanalytics.execution.partition import Metric, Plan, Recipe
from cdpanalytics.patterns import Patterns
from cdpanalytics.schema import SESSIONS, to_frame
from cdpanalytics.timeparse import Moment

if TYPE_CHECKING:
    from dask.dataframe import DataFrame
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
        All workers must find it: a directory under the same path, or an object store.
        Its `storage_options` travel to them.
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
        When no scheduler answers, or several workers were lost over the same range.

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
        return partition.gathered(plan, computed(plan, connected), progress)


def computed(plan: Plan, client: Client) -> Iterator[tuple[int, Any]]:
    """Yield each task's number and part as they come from the workers."""
    from distributed import KilledWorker, as_completed

    # Each run computes anew: the archive may have changed since the last one.
    asked = {
        client.submit(partition.compute, task, pure=False): at
        for at, task in enumerate(plan.tasks())
    }
    try:
        for future, part in as_completed(list(asked), loop=client.loop, with_results=True):
            yield asked.pop(future), part
    except KilledWorker:
        raise CdpError(
            "workers were lost over one range again and again, as they are when short of memory; "
            "give a smaller memory="
        ) from None
    finally:
        client.cancel(list(asked))


def sessions(
    archive: Archive,
    since: Moment | None = None,
    until: Moment | None = None,
    *,
    policy: Patterns = None,
    vm: Patterns = None,
    server: Patterns = None,
    memory: str | int = "500MB",
) -> DataFrame:
    """Return the sessions of an archive as a Dask frame, all rows of a VM in one partition.

    For computations of one's own; `map` is the way to the metrics. A metric that is asked
    of each partition must be told `as_of`, which a partition would take for its own newest,
    and grouped by VM: what one partition says of a policy is of its VMs only.

    Parameters
    ----------
    archive : Archive
        As in `map`.
    since, until, policy, vm, server
        As in `Archive.sessions`, with the history of the window.
    memory : str or int
        What a worker may take for a partition.

    Returns
    -------
    dask.dataframe.DataFrame
        Lazy: nothing is read but what tells how many sessions each VM has. Partitions are
        in order of the VMs, their rows as in `Archive.sessions`; divisions are not known,
        for a VM may have no name.

    Raises
    ------
    InputError, ArchiveError
        As `Archive.sessions`; and when one VM alone does not fit in `memory`.
    ConfigError
        When Dask is not installed.

    Examples
    --------
    >>> frame = sessions(Archive("data/sample"), memory="251MB")
    >>> frame.npartitions, len(frame), int(frame["vm"].nunique().compute())
    (2, 1960, 14)
    """
    dask, frames = _installed("dask"), _installed("dask.dataframe")
    plan = archive.plan(_rows, since=since, until=until, policy=policy, vm=vm, server=server)
    tasks = list(plan.cut(memory).tasks())
    with dask.config.set({"dataframe.convert-string": False}):  # text stays as it is everywhere
        return frames.from_map(partition.compute, tasks, meta=_nothing(), label="sessions")


def _rows(sessions: pd.DataFrame, since: object = None, until: object = None) -> pd.DataFrame:
    """Return the rows of a range as they are; that it takes a window makes it read with its history."""
    return sessions


def _nothing() -> pd.DataFrame:
    """Return a frame of sessions without a row, its labels unknown, as each partition has its own."""
    from dask.dataframe.utils import clear_known_categories

    frame = to_frame(SESSIONS.empty_table())
    own = [name for name in frame if name not in ("result", "policy_result")]
    return clear_known_categories(frame, cols=[c for c in own if frame[c].dtype == "category"])


def _connected(client: Client | str | None) -> Any:
    distributed = _installed("distributed")
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
        said = str(error).partition("\n")[0]
        raise CdpError(f"no scheduler of Dask answers at {client}: {said}") from None


def _installed(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise ConfigError(
            "Dask is not installed; install it: pip install 'cdpanalytics[cluster]'"
        ) from None


def _each(workers: Iterable[Mapping[str, Any]]) -> str | int:
    """Half of what the smallest worker has for each thread, at least enough for a process."""
    limits = [
        worker["memory_limit"] / worker["nthreads"] for worker in workers if worker["memory_limit"]
    ]
    return max(2 * partition.BASE, int(SHARE * min(limits))) if limits else "1GB"


partition.declare(
    _rows, Recipe(("vm",), tuple(SESSIONS.names), _rows, pd.concat, partition.as_it_is)
)
