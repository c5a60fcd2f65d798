"""Joins task sessions with their policy: its name, its verdict, and its RPO at the time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema


def enrich(tasks: pa.Table, policy_sessions: pa.Table, policies: pa.Table) -> pa.Table:
    """Join task sessions with their policy: its name, verdict and RPO at the time.

    Parameters
    ----------
    tasks : pyarrow.Table
        `schema.TASK_SESSIONS` and `as_of` (null when there is none).
    policy_sessions : pyarrow.Table
        `schema.POLICY_SESSIONS`, each uid once; more columns are ignored.
    policies : pyarrow.Table
        `schema.POLICIES`; with a column `seen_from`, several rows a policy.

    Returns
    -------
    pyarrow.Table
        `schema.SESSIONS`, in the order of `tasks`. `policy`, `policy_uid`: of the policy
        session; without one, the text before the last ``@`` of its name, and null.
        `policy_result`: null until the policy session has ended. `rpo`: of the policy's
        newest row with ``seen_from <= created``, else of its oldest.
    """
    parent = _row_of(tasks["policy_session_uid"], policy_sessions["uid"])
    name = _before_at(tasks["policy_session"])
    ended = pc.is_valid(policy_sessions["ended"])
    verdict = pc.if_else(ended, policy_sessions["result"], pa.scalar(None, pa.string()))
    policy_uid = _flat(policy_sessions["policy_uid"]).take(parent)
    enriched = {
        "policy": pc.coalesce(_flat(policy_sessions["policy"]).take(parent), name),
        "policy_uid": policy_uid,
        "policy_result": _flat(verdict).take(parent),
        "rpo": _rpo(policy_uid, tasks["created"], policies),
    }
    if "as_of" not in tasks.column_names:
        enriched["as_of"] = pa.nulls(tasks.num_rows, schema.INSTANT)
    columns = [_cast(enriched.get(f.name), tasks, f) for f in schema.SESSIONS]
    return pa.table(columns, schema=schema.SESSIONS)


def _cast(made: pa.Array | None, tasks: pa.Table, wanted: pa.Field) -> pa.Array | pa.ChunkedArray:
    if made is None:
        return tasks[wanted.name]
    return made.dictionary_encode() if wanted.type == schema.LABEL else made.cast(wanted.type)


def _row_of(labels: pa.ChunkedArray, keys: pa.ChunkedArray) -> pa.Array:
    """Return for each label the row of its key, or null; looked up once a distinct label."""
    codes = _flat(labels)
    rows = pc.index_in(codes.dictionary, value_set=_flat(keys))
    return rows.take(codes.indices)


def _before_at(labels: pa.ChunkedArray) -> pa.Array:
    codes = _flat(labels)
    return pc.replace_substring_regex(codes.dictionary, r"@[^@]*$", "").take(codes.indices)


def _rpo(policy_uid: pa.Array, created: pa.ChunkedArray, policies: pa.Table) -> pa.Array:
    """Look up the settings in force: both sides become one number, policy then time."""
    known = _flat(policies["policy_uid"])
    unique = pc.unique(known)
    of_policy = pc.index_in(known, value_set=unique).to_numpy(zero_copy_only=False)
    of_row = pc.fill_null(pc.index_in(policy_uid, value_set=unique), -1).to_numpy()
    since = _microseconds(policies["seen_from"]) if "seen_from" in policies.column_names else None
    since = np.zeros(len(known), np.int64) if since is None else since
    ladder = np.unique(since)
    step = len(ladder) + 1
    keys = of_policy * step + np.searchsorted(ladder, since, "right")
    order = np.argsort(keys, kind="stable")
    wanted = of_row * step + np.searchsorted(ladder, _microseconds(created), "right")
    place = np.searchsorted(keys[order], wanted, "right") - 1
    place = np.maximum(place, np.searchsorted(of_policy[order], of_row, "left"))
    nowhere = of_row < 0
    rows = pa.array(np.where(nowhere, 0, place), pa.int64(), mask=nowhere)
    return _flat(policies["rpo"]).take(pa.array(order)).take(rows)


def _microseconds(times: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers = pc.fill_null(_flat(times).cast(schema.INSTANT).cast(pa.int64()), np.iinfo("i8").min)
    return np.asarray(numbers.to_numpy(zero_copy_only=False))


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    if column.type == schema.LABEL:
        column = column.unify_dictionaries()
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
