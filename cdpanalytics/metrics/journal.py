"""The journal: the RPO really achieved, in the stretches a VM could be restored to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.arrays import unknown_column
from cdpanalytics.metrics.core.groups import share, table_of
from cdpanalytics.metrics.core.kernels import LARGEST, Integers, expand
from cdpanalytics.metrics.core.policies import newest_setting
from cdpanalytics.metrics.core.question import UNSET, By, Question, Table, Terms
from cdpanalytics.metrics.core.spec import MetricSpec, concat
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    duration,
    durations_of,
    instants,
    lengths,
    require,
)
from cdpanalytics.schema import ASKED, KEYS, VM


def journal_adherence(
    intervals: pd.DataFrame,
    target: object = None,
    by: By = ("policy", "vm"),
    *,
    policies: Table = UNSET,
) -> pd.DataFrame:
    """Return the share of the time to which a VM could be restored within the RPO.

    In the example, the server was asked about 10 hours. For 6 of them the RPO was 15 seconds,
    and for 2 of them 40 seconds. The target is 15 seconds, so adherence is 6/10.

    The figures come from restorable intervals. They have the RPO that was really achieved, and
    are the nearest to the vendor's own SLA. The server keeps them only for the short-term
    retention of the policy. So the figures of a VM begin that long before the server was
    first asked about it.

    Parameters
    ----------
    intervals : pandas.DataFrame
        ``archive.intervals()``: needs `vm`, `start`, `end`, `rpo`, `kind`; uses
        `backup_server` and `policy`. Rows of kind ``Asked`` are the times about which the
        server was asked. All others are restorable times.
    target : timedelta-like, optional
        The RPO. Default: the newest RPO of each policy in `policies`.
    by : str or sequence of str
        `policy`, `vm`, `backup_server`, several of them, or ``()``.
    policies : pandas.DataFrame, optional
        ``archive.policies()``.

    Returns
    -------
    pandas.DataFrame
        One row per group, in order of the keys: the keys, then

        ``rpo`` : the target; NA if the group has several, or if it is not known.
        ``observed`` : Timedelta, the time about which the server was asked.
        ``restorable`` : Timedelta, the part of it to which the VM could be restored.
        ``within`` : Timedelta, the part of that with an RPO up to the target; NA without a
        target.
        ``adherence`` : ``within / observed``; NA if the server was asked about no time.
        ``restorable_share`` : ``restorable / observed``; NA as above.
        ``worst_rpo`` : Timedelta, the longest RPO of the restorable time.
        ``p95_rpo`` : Timedelta, the shortest RPO within which 95 % of the restorable time was.

        Intervals that were fetched twice count once. If two intervals of a VM have different
        RPOs for the same time, the longer RPO counts.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> intervals = pd.DataFrame({
    ...     "vm": "db-01", "kind": ["Asked", "RestoreAvailable", "RestoreAvailable"],
    ...     "start": day + pd.to_timedelta([0, 0, 6], unit="h"),
    ...     "end": day + pd.to_timedelta([10, 6, 8], unit="h"),
    ...     "rpo": pd.to_timedelta([None, "15s", "40s"]),
    ... })
    >>> row = journal_adherence(intervals, "15s", by="vm").iloc[0]
    >>> float(row["adherence"]), float(row["restorable_share"]), row["worst_rpo"]
    (0.6, 0.8, Timedelta('0 days 00:00:40'))
    """
    terms = Terms.parse(target, policies=policies)
    return JOURNAL_ADHERENCE.evaluate(intervals, Question.parse(by), terms)


def _lengths_of(intervals: pd.DataFrame, question: Question, terms: Terms) -> pd.DataFrame:
    """How long each VM was asked about, could be restored to, and to within which RPO."""
    keys = tuple(dict.fromkeys((*KEYS, *question.by)))
    pieces = _pieces(_stretches(intervals, keys), keys)
    alike = [name for name in pieces if name != "length"]
    return pieces.groupby(alike, dropna=False, sort=False, as_index=False)[["length"]].sum()


def _table(pieces: pd.DataFrame, question: Question, terms: Terms) -> pd.DataFrame:
    group = grouping.groups_of_tables([pieces], question.by)
    return _summed(group.keys, group.of, pieces, _targets(pieces, terms))


def _stretches(intervals: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    require(intervals, ("vm", "start", "end", "rpo", "kind"), "; intervals need")
    for name in keys:
        if name not in intervals and name not in KEYS:
            raise unknown_column(name, intervals)
    names = {
        key: (intervals[key].astype("str") if key in KEYS else intervals[key])
        if key in intervals
        else pd.Series([None] * len(intervals), dtype="str", index=intervals.index)
        for key in keys
    }
    rpo = durations_of(intervals["rpo"])
    asked = intervals["kind"].astype("str").eq(ASKED).to_numpy()
    stretches = pd.DataFrame(names).reset_index(drop=True).assign(
        start=instants(intervals, "start"), end=instants(intervals, "end"),
        asked=asked, rpo=np.where(asked, UNKNOWN, rpo),
    )  # fmt: skip
    if ((stretches["start"] == UNKNOWN) | (stretches["end"] == UNKNOWN)).any():
        raise InputError("intervals has a row without start or end; drop it")
    return stretches


def _pieces(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Cut each VM's stretches at all their edges: one row per piece, with the rows that cover it."""
    vm = rows.groupby(VM, dropna=False, observed=True).ngroup().to_numpy()
    count = len(rows)
    who, when = np.concatenate([vm, vm]), np.concatenate([rows["start"], rows["end"]])
    order = np.lexsort((when, who))
    new = np.ones(2 * count, dtype=bool)
    new[1:] = (who[order][1:] != who[order][:-1]) | (when[order][1:] != when[order][:-1])
    place = np.empty(2 * count, dtype=np.int64)
    place[order] = np.cumsum(new) - 1
    edges = when[order][new]
    first, last = place[:count], place[count:]
    row, piece = expand(first, np.maximum(last - first, 0))
    over = rows.iloc[row].reset_index(drop=True).assign(piece=piece)
    over["length"] = edges[piece + 1] - edges[piece] if len(piece) else np.array([], dtype=np.int64)
    # Of the rows over one piece: asked if any asks, restorable if any is, with the longest RPO.
    over["restorable"] = ~over["asked"]
    figures = {"length": "first", "asked": "any", "restorable": "any", "rpo": "max"}
    cut = over.groupby("piece", sort=True).agg(dict.fromkeys(keys, "last") | figures)
    cut = cut.reset_index(drop=True)
    nothing = {"length": 0, "asked": False, "restorable": False, "rpo": UNKNOWN}
    every = rows[list(keys)].drop_duplicates().assign(**nothing)  # so that no VM vanishes
    return pd.concat([cut, every], ignore_index=True)


def _targets(pieces: pd.DataFrame, terms: Terms) -> Integers:
    if terms.target is not None:
        return np.full(len(pieces), duration(terms.target))
    named = pieces["backup_server"].notna().any()
    own = pieces[["backup_server", "policy"] if named else ["policy"]]
    return durations_of(newest_setting(own, terms.policies, "rpo"))


def _summed(
    keys: pd.DataFrame, group: Integers, pieces: pd.DataFrame, goal: Integers
) -> pd.DataFrame:
    size = len(keys)
    length, rpo = (pieces[name].to_numpy(dtype=np.int64) for name in ("length", "rpo"))
    asked = pieces["asked"].to_numpy(dtype=bool)
    held = asked & pieces["restorable"].to_numpy(dtype=bool)
    rated = held & (rpo != UNKNOWN)
    observed = grouping.total(group[asked], length[asked], size)
    restorable = grouping.total(group[held], length[held], size)
    kept = rated & (rpo <= goal)
    within = grouping.total(group[kept], length[kept], size)
    low = grouping.extreme(group, goal, size, np.minimum, LARGEST)
    high = grouping.extreme(group, goal, size, np.maximum, UNKNOWN)
    known = (low != UNKNOWN) & (high != UNKNOWN)
    worst = grouping.extreme(group[rated], rpo[rated], size, np.maximum, UNKNOWN)
    return table_of(keys, {
        "rpo": lengths(np.where(low == high, low, UNKNOWN)),
        "observed": lengths(observed), "restorable": lengths(restorable),
        "within": lengths(np.where(known, within, UNKNOWN)),
        "adherence": share(within, observed, known & (observed > 0)),
        "restorable_share": share(restorable, observed, observed > 0),
        "worst_rpo": lengths(worst),
        "p95_rpo": lengths(_weighted_quantile(group[rated], rpo[rated], length[rated], size, 0.95)),
    })  # fmt: skip


def _weighted_quantile(
    group: Integers, values: Integers, weights: Integers, size: int, level: float
) -> Integers:
    """Return the smallest value of each group up to which `level` of its weight lies."""
    order = np.lexsort((values, group))
    group, values, weights = group[order], values[order], weights[order]
    whole = grouping.total(group, weights, size)
    before = np.concatenate([[0], np.cumsum(whole)[:-1]])
    enough = np.cumsum(weights) - before[group] >= level * whole[group]
    least = grouping.extreme(group[enough], values[enough], size, np.minimum, LARGEST)
    return np.where(least == LARGEST, UNKNOWN, least)


JOURNAL_ADHERENCE = MetricSpec(
    name="journal_adherence", command="journal",
    summary="the RPO really achieved (after sync --journal)",
    function=journal_adherence, partial=_lengths_of, combine=concat, finalize=_table,
    columns=("vm", "policy", "backup_server", "start", "end", "rpo", "kind"),
    table="intervals", neighbours=False, takes=frozenset({"target", "policies"}),
    whose="session",
)  # fmt: skip
