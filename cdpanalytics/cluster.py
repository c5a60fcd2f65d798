"""The sessions of an archive as a Dask frame, for computations of one's own.

A metric is computed on a cluster by its Selection: ``selection.using(client)``. Needs the
extra ``cluster``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics.archive import Archive
from cdpanalytics.execution.dask import installed
from cdpanalytics.execution.plan import Task
from cdpanalytics.frames import unmarked
from cdpanalytics.metrics.core.spec import identity
from cdpanalytics.metrics.registry import MetricSpec, Question, Terms
from cdpanalytics.schema import SESSIONS, to_frame
from cdpanalytics.sources import archive_plan

if TYPE_CHECKING:
    from dask.dataframe import DataFrame


def sessions(archive: Archive, *, memory: str | int = "500MB", **named: Any) -> DataFrame:
    """Return the sessions of an archive as a Dask frame, all rows of a VM in one partition.

    For computations of one's own. A metric that is asked of each partition must be given
    `as_of`, and grouped by VM: a partition has its own VMs only.

    Parameters
    ----------
    archive : Archive
        All workers must reach it.
    memory : str or int
        What a worker may use per partition.
    **named
        The window and names, as in `Archive.sessions`; the window comes with its history.

    Returns
    -------
    dask.dataframe.DataFrame
        Lazy. Partitions are in order of the VMs; divisions are not known, because a VM
        may have no name.

    Raises
    ------
    InputError
        When one VM alone does not fit in `memory`.
    ConfigError
        When Dask is not installed.
    """
    dask, frames = installed("dask"), installed("dask.dataframe")
    tasks = list(archive_plan(archive, ROWS, **named).cut(memory).tasks())
    with dask.config.set({"dataframe.convert-string": False}):  # keep text as it is
        return frames.from_map(
            Task.compute_single_threaded, tasks, meta=_empty_frame(), label="sessions"
        )


def _empty_frame() -> pd.DataFrame:
    """Return a frame of sessions without rows, its categories unknown: each partition has its own."""
    from dask.dataframe.utils import clear_known_categories

    frame = to_frame(SESSIONS.empty_table())
    own = [name for name in frame if name not in ("result", "policy_result")]
    return clear_known_categories(frame, cols=[c for c in own if frame[c].dtype == "category"])


def _as_read(rows: pd.DataFrame, question: Question, terms: Terms) -> pd.DataFrame:
    return unmarked(rows)


ROWS = MetricSpec(
    name="sessions", command="sessions", summary="the sessions themselves",
    function=pd.DataFrame, partial=_as_read, combine=pd.concat, finalize=identity,
    columns=tuple(SESSIONS.names), key=("vm",), by=None, takes=frozenset({"since", "until"}),
)  # fmt: skip
"""The plan of reading alone."""
