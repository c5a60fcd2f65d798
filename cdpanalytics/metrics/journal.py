"""The journal: the RPO really achieved, in the stretches a VM could be restored to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.execution.partition import Recipe, declare
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.groups import By, keys_of, lengths, share
from cdpanalytics.metrics.core.spans import (
    UNKNOWN,
    Integers,
    instants,
    newest_setting,
    require,
    span,
    spans_of,
    spread,
)
from cdpanalytics.schema import ASKED

_VM = ["backup_server", "policy", "vm"]


def journal_adherence(
    intervals: pd.DataFrame,
    target: object = None,
    by: By = ("policy", "vm"),
    policies: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return how much of the time asked about could be restored to within the RPO.

    Rests on restorable intervals, which come nearest to the vendor's own SLA: the RPO
    in them is the one really achieved. They reach back as far as short-term retention
    did when they were asked for.

    Parameters
    ----------
    intervals : pandas.DataFrame
        ``archive.intervals()``: needs `vm`, `start`, `end`, `rpo`, `kind`; uses
        `backup_server` and `policy`. Rows of kind ``Asked`` are the stretches asked
        about, all others are restorable.
    target : timedelta-like, optional
        The RPO. Default: the newest of each policy in `policies`.
    by : str or sequence of str
        `policy`, `vm`, `backup_server`, several of them, or ``()``.
    policies : pandas.DataFrame, optional
        ``archive.policies()``.

    Returns
    -------
    pandas.DataFrame
        A row a group, in order of the keys: the keys, ``rpo`` (the target; NA where a
        group mixes targets or none is known), ``observed`` (asked about), ``restorable``
        (the part of it that could be restored to), ``within`` (the part of that with
        an RPO up to the target; NA without a target), ``adherence`` (``within /
        observed``), ``restorable_share`` (``restorable / observed``), ``worst_rpo``, and
        ``p95_rpo``: the smallest RPO that 95 % of the restorable time kept. Ratios are NA
        where nothing was asked about. What was fetched twice counts once; where two
        intervals of a VM say different RPOs of one stretch, the longer one counts.

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, or an argument is.

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
    return _restorable(_lengths_of(intervals), target, by, policies)


def _lengths_of(intervals: pd.DataFrame) -> pd.DataFrame:
    """How long each VM was asked about, could be restored to, and to within which RPO."""
    pieces = _pieces(_stretches(intervals))
    alike = [name for name in pieces if name != "length"]
    return pieces.groupby(alike, dropna=False, sort=False, as_index=False)[["length"]].sum()


def _all(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def _restorable(
    pieces: pd.DataFrame, target: object, by: By, policies: pd.DataFrame | None
) -> pd.DataFrame:
    names = keys_of(by)
    goal = _targets(pieces, target, policies)
    if names:
        keyed = pieces.groupby(names, dropna=False, sort=True, observed=True)
        group = np.asarray(keyed.ngroup(), dtype=np.int64)
        keys = pieces[names].assign(group=group).drop_duplicates("group").sort_values("group")
        table = keys[names].reset_index(drop=True)
    else:
        group, table = np.zeros(len(pieces), dtype=np.int64), pd.DataFrame(index=pd.RangeIndex(1))
    return _summed(table, group, pieces, goal)


def _stretches(intervals: pd.DataFrame) -> pd.DataFrame:
    require(intervals, ("vm", "start", "end", "rpo", "kind"), "; intervals need")
    names = {
        key: intervals[key].astype("str")
        if key in intervals
        else pd.Series([None] * len(intervals), dtype="str", index=intervals.index)
        for key in _VM
    }
    rpo = spans_of(intervals["rpo"])
    asked = intervals["kind"].astype("str").eq(ASKED).to_numpy()
    made = pd.DataFrame(names).reset_index(drop=True).assign(
        start=instants(intervals, "start"), end=instants(intervals, "end"),
        asked=asked, rpo=np.where(asked, UNKNOWN, rpo),
    )  # fmt: skip
    if ((made["start"] == UNKNOWN) | (made["end"] == UNKNOWN)).any():
        raise InputError("intervals has a row without start or end; drop it")
    return made


def _pieces(rows: pd.DataFrame) -> pd.DataFrame:
    """Cut each VM's stretches at all their edges: a row a piece, with what lies over it."""
    vm = rows.groupby(["backup_server", "vm"], dropna=False, observed=True).ngroup().to_numpy()
    count = len(rows)
    who, when = np.concatenate([vm, vm]), np.concatenate([rows["start"], rows["end"]])
    order = np.lexsort((when, who))
    new = np.ones(2 * count, dtype=bool)
    new[1:] = (who[order][1:] != who[order][:-1]) | (when[order][1:] != when[order][:-1])
    place = np.empty(2 * count, dtype=np.int64)
    place[order] = np.cumsum(new) - 1
    edges = when[order][new]
    first, last = place[:count], place[count:]
    row, piece = spread(first, np.maximum(last - first, 0))
    over = rows.iloc[row].reset_index(drop=True).assign(piece=piece)
    over["length"] = edges[piece + 1] - edges[piece] if len(piece) else np.array([], dtype=np.int64)
    # Of the rows over one piece: asked if any asks, restorable if any is, with the longest RPO.
    over["restorable"] = ~over["asked"]
    cut = over.groupby("piece", sort=True).agg(
        backup_server=("backup_server", "first"), policy=("policy", "last"), vm=("vm", "first"),
        length=("length", "first"), asked=("asked", "any"), restorable=("restorable", "any"),
        rpo=("rpo", "max"),
    ).reset_index(drop=True)  # fmt: skip
    nothing = {"length": 0, "asked": False, "restorable": False, "rpo": UNKNOWN}
    every = rows[_VM].drop_duplicates().assign(**nothing)  # so that no VM vanishes
    return pd.concat([cut, every], ignore_index=True)


def _targets(pieces: pd.DataFrame, target: object, policies: pd.DataFrame | None) -> Integers:
    if target is not None:
        return np.full(len(pieces), span(target, "target"))
    named = pieces["backup_server"].notna().any()
    own = pieces[["backup_server", "policy"] if named else ["policy"]]
    found = newest_setting(own, policies, "rpo")
    return spans_of(found)


def _summed(
    table: pd.DataFrame, group: Integers, pieces: pd.DataFrame, goal: Integers
) -> pd.DataFrame:
    size = len(table)
    length, rpo = (pieces[name].to_numpy(dtype=np.int64) for name in ("length", "rpo"))
    asked = pieces["asked"].to_numpy(dtype=bool)
    held = asked & pieces["restorable"].to_numpy(dtype=bool)
    told = held & (rpo != UNKNOWN)
    observed = grouping.total(group[asked], length[asked], size)
    restorable = grouping.total(group[held], length[held], size)
    kept = told & (rpo <= goal)
    within = grouping.total(group[kept], length[kept], size)
    low = grouping.extreme(group, goal, size, np.minimum, np.iinfo(np.int64).max)
    high = grouping.extreme(group, goal, size, np.maximum, UNKNOWN)
    known = (low != UNKNOWN) & (high != UNKNOWN)
    table["rpo"] = lengths(np.where(low == high, low, UNKNOWN))
    table["observed"], table["restorable"] = lengths(observed), lengths(restorable)
    table["within"] = lengths(np.where(known, within, UNKNOWN))
    table["adherence"] = share(within, observed, known & (observed > 0))
    table["restorable_share"] = share(restorable, observed, observed > 0)
    worst = grouping.extreme(group[told], rpo[told], size, np.maximum, UNKNOWN)
    table["worst_rpo"] = lengths(worst)
    table["p95_rpo"] = lengths(_weighted_quantile(group[told], rpo[told], length[told], size, 0.95))
    return table


def _weighted_quantile(
    group: Integers, values: Integers, weights: Integers, size: int, level: float
) -> Integers:
    """Return the smallest value of each group up to which `level` of its weight lies."""
    order = np.lexsort((values, group))
    group, values, weights = group[order], values[order], weights[order]
    whole = grouping.total(group, weights, size)
    before = np.concatenate([[0], np.cumsum(whole)[:-1]])
    enough = np.cumsum(weights) - before[group] >= level * whole[group]
    most = np.iinfo(np.int64).max
    least = grouping.extreme(group[enough], values[enough], size, np.minimum, most)
    return np.where(least == most, UNKNOWN, least)


_COLUMNS = ("vm", "policy", "backup_server", "start", "end", "rpo", "kind")

declare(
    journal_adherence,
    Recipe(("backup_server", "vm"), _COLUMNS, _lengths_of, _all, _restorable, table="intervals"),
)
