"""Durations of finished sessions: how long each task session ran, and whether on its cadence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.arrays import SessionArrays, as_of_frame, read
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.groups import share, table_of
from cdpanalytics.metrics.core.kernels import LARGEST, Flags, Integers, group_quantiles
from cdpanalytics.metrics.core.question import UNSET, By, Question, Table, Terms, Zone
from cdpanalytics.metrics.core.spec import WINDOW, MetricSpec, concat, identity
from cdpanalytics.metrics.core.values import UNKNOWN, lengths
from cdpanalytics.metrics.core.windows import policies_then, resolve_window, window

TOLERANCE = 0.1
"""Share of the expected duration within which a session is on cadence."""


def durations(
    sessions: pd.DataFrame,
    by: By = ("policy", "vm"),
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: Zone = UNSET,
    policies: Table = UNSET,
) -> pd.DataFrame:
    """Return how long finished sessions lasted.

    In the example, two finished sessions lasted 8 h and 6 h, and one is still running.

    A task session lasts from one long-term restore point to the next. Without problems, its
    duration is the long-term step of the policy; if it was broken off, it is shorter. The
    duration is not replication lag.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`.
    by : str or sequence of str
        `policy`, `vm`, `backup_server`, several of them, or ``()``.
    since, until : timestamp-like, optional
        Sessions that begin in ``[since, until)``. Default: the window that the frame was
        read for, else everything up to `as_of`.
    as_of : timestamp-like, optional
        As in `rpo_adherence`.
    policies : pandas.DataFrame, optional
        Settings; `long_term` is the long-term step, which is the expected duration.

    Returns
    -------
    pandas.DataFrame
        One row per group: the keys, then

        ``sessions`` : the number of finished sessions. The durations are of these.
        ``running`` : sessions that run at `as_of`. They are in no mean and no quantile.
        ``unknown`` : sessions that are pending or in an unknown state, or that finished but
        have no end, or have an end before their beginning.
        ``mean, median, p95, max, total`` : Timedelta; NaT without finished sessions.
        Quantiles are linear (type 7).
        ``expected`` : Timedelta, the long-term step of the policy; NaT if it is unknown, or
        if the group has several.
        ``on_cadence`` : the share of the finished sessions whose duration is within 10 % of
        the step of their own policy; NA if no step is known.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 8, 16], unit="h"),
    ...     "ended": [day + pd.Timedelta("8h"), day + pd.Timedelta("14h"), pd.NaT],
    ... })
    >>> now = day + pd.Timedelta("20h")
    >>> durations(sessions, by="vm", as_of=now)[["vm", "sessions", "running", "mean"]]
          vm  sessions  running            mean
    0  db-01         2        1 0 days 07:00:00
    """
    question = Question.parse(by, since=since, until=until, as_of=as_of, tz=tz)
    return DURATIONS.evaluate(sessions, question, Terms.parse(policies=policies))


def _figures(sessions: pd.DataFrame, question: Question, terms: Terms) -> pd.DataFrame:
    known = facts(sessions)
    now = as_of_frame(sessions, known, question.as_of)
    policies = policies_then(sessions, known, question, terms.policies)
    _, end = resolve_window(known, question)
    arrays = read(sessions, now, policies, by=question.by, facts=known, named_until=end)
    group = grouping.groups(arrays, question.by)
    inside = window(arrays, question).place(arrays.created) >= 0
    of = group.of[: len(inside)]
    finished, running = inside & arrays.finished, inside & arrays.running
    length = arrays.ended[finished] - arrays.created[finished]
    counts = {
        "sessions": grouping.count(of, group.count, finished),
        "running": grouping.count(of, group.count, running),
        "unknown": grouping.count(of, group.count, inside & ~finished & ~running),
    }
    expected = _expected(arrays)
    with_step = inside & (expected > 0)
    every = np.sum(list(counts.values()), axis=0)
    figures = {
        **counts,
        **_describe(of[finished], length, group.count),
        "expected": _common(of[with_step], expected[with_step], every),
        "on_cadence": _on_cadence(arrays, of, expected, with_step & finished, group.count),
    }
    return table_of(group.keys, figures)


def _describe(of: Integers, length: Integers, size: int) -> dict[str, NDArray[Any]]:
    """Figures of the lengths of each group, from one sort."""
    (median, p95), some, ordered = group_quantiles(length, of, size, (0.5, 0.95))
    many = grouping.count(of, size)[some]
    first = np.cumsum(many) - many
    total = np.add.reduceat(ordered, first) if len(some) else ordered
    figures = {"mean": total / many, "median": median, "p95": p95,
               "max": ordered[first + many - 1], "total": total}  # fmt: skip
    described = {}
    for name, values in figures.items():
        whole = np.full(size, UNKNOWN)
        whole[some] = np.round(values)
        described[name] = lengths(whole)
    return described


def _expected(arrays: SessionArrays) -> Integers:
    """Each session's step between long-term restore points in microseconds, 0 where unknown."""
    policy, steps = arrays.setting("long_term")
    steps = pd.to_timedelta(steps).fillna(pd.Timedelta(0)).dt.as_unit("us")
    return steps.to_numpy(dtype="m8[us]").view(np.int64)[policy]


def _common(of: Integers, expected: Integers, every: Integers) -> NDArray[np.timedelta64]:
    """The one step of each group, of which `of` has the sessions where it is known."""
    size = len(every)
    low = grouping.extreme(of, expected, size, np.minimum, LARGEST)
    high = grouping.extreme(of, expected, size, np.maximum, 0)
    return lengths(np.where((low == high) & (grouping.count(of, size) == every), low, UNKNOWN))


def _on_cadence(
    arrays: SessionArrays, of: Integers, expected: Integers, known: Flags, size: int
) -> NDArray[np.float64]:
    row = np.flatnonzero(known)
    length, expected, of = arrays.ended[row] - arrays.created[row], expected[row], of[row]
    near = np.abs(length - expected) * 10 <= expected * round(TOLERANCE * 10)
    judged = grouping.count(of, size)
    return share(grouping.count(of, size, near), judged, judged > 0)


def _combined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of ranges as one, in order of the keys, as that of a whole frame is."""
    table = concat(parts)
    keys = [str(name) for name in table if name not in _FIGURES]
    order = np.argsort(grouping.groups_of_tables([table], keys).of, kind="stable")
    return table.iloc[order].reset_index(drop=True)


_FIGURES = ("sessions", "running", "unknown", "mean", "median", "p95", "max", "total", "expected",
            "on_cadence")  # fmt: skip


DURATIONS = MetricSpec(
    name="durations", command="durations",
    summary="how long sessions lasted, and whether they keep their cadence",
    function=durations, partial=_figures, combine=_combined, finalize=identity,
    columns=("vm", "policy", "backup_server", "created", "ended", "state"),
    key=None,  # quantiles need all rows of a group together, whatever the groups are
    takes=WINDOW | {"tz", "policies"}, neighbours=False,
    whose="session",
)  # fmt: skip
