"""The tables: their columns, types and units, each written down once.

Everything that crosses a module border as Arrow or as a frame has one of these
shapes. Identifiers are bare lower-case GUIDs, times are UTC to the microsecond,
sizes are bytes, spans of time are Timedelta.
"""

from __future__ import annotations

from typing import Final

import pandas as pd
import pyarrow as pa

VERSION: Final = 1
"""Version of the tables below, written into each Parquet file."""

STATES: Final = ("InProgress", "Pending", "Completed")
"""States of a task session, in the vendor's order."""

RESULTS: Final = ("None", "Success", "Warning", "Failed")
"""Verdicts, from none to worst; the categories of `result` and `policy_result`."""

SUCCEEDED: Final = {"state": ("Completed",), "result": ("Success",)}
"""Values of a session that protected its VM, whatever else may protect; it must also have an end."""

NOT_ATTEMPTED: Final = {"state": ("Pending",)}
"""Values of a session that has not begun to work: no attempt yet."""

VM: Final = ["backup_server", "vm"]
"""The columns that identify a VM."""

KEYS: Final = ["backup_server", "policy", "vm"]
"""The columns that name whose a session is."""

INSTANT: Final = pa.timestamp("us", tz="UTC")
SPAN: Final = pa.duration("us")
LABEL: Final = pa.dictionary(pa.int32(), pa.string())

TASK_SESSIONS: Final = pa.schema(
    {
        "uid": pa.string(),
        "vm": LABEL,
        "policy_session": LABEL,
        "policy_session_uid": LABEL,
        "backup_server": LABEL,
        "backup_server_uid": LABEL,
        "created": INSTANT,
        "ended": INSTANT,
        "state": LABEL,
        "result": LABEL,
        "reason": pa.string(),
        "total_size": pa.int64(),
    }
)
"""A page of task sessions, as `server.responses` reads it: what the server says and nothing more."""

SESSIONS: Final = pa.schema(
    {
        "uid": pa.string(),
        "vm": LABEL,
        "policy": LABEL,
        "policy_uid": LABEL,
        "policy_session": LABEL,
        "policy_session_uid": LABEL,
        "backup_server": LABEL,
        "backup_server_uid": LABEL,
        "created": INSTANT,
        "ended": INSTANT,
        "state": LABEL,
        "result": LABEL,
        "policy_result": LABEL,
        "reason": pa.string(),
        "total_size": pa.int64(),
        "rpo": SPAN,
        "as_of": INSTANT,
    }
)
"""A session as the archive keeps it and an analyst sees it: one row per task session."""

POLICY_SESSIONS: Final = pa.schema(
    {
        "uid": pa.string(),
        "policy_session": pa.string(),
        "policy": pa.string(),
        "policy_uid": pa.string(),
        "backup_server": pa.string(),
        "backup_server_uid": pa.string(),
        "created": INSTANT,
        "ended": INSTANT,
        "state": pa.string(),
        "result": pa.string(),
        "reason": pa.string(),
    }
)
"""A policy's 24 hours: where a task session's policy and the policy's own verdict come from."""

POLICIES: Final = pa.schema(
    {
        "policy_uid": pa.string(),
        "policy": pa.string(),
        "backup_server": pa.string(),
        "backup_server_uid": pa.string(),
        "enabled": pa.bool_(),
        "rpo": SPAN,
        "schedule": pa.string(),
        "warn_after": SPAN,
        "fail_after": SPAN,
        "short_term": SPAN,
        "long_term": SPAN,
        "keep": SPAN,
        "vms": pa.list_(pa.string()),
    }
)
"""A policy's settings. `schedule`: 168 digits, Monday 00 h first, as the server gives them;
null when every hour is allowed. `warn_after`, `fail_after`: excess over the RPO; null when off.
`long_term`: between two long-term restore points. `vms`: the VMs it names one by one."""

REPLICAS: Final = pa.schema(
    {
        "uid": pa.string(),
        "name": pa.string(),
        "policy": pa.string(),
        "policy_uid": pa.string(),
        "backup_server": pa.string(),
    }
)
"""A policy's replica set; its VMs are asked for by its uid."""

REPLICA_VMS: Final = pa.schema(
    {
        "uid": pa.string(),
        "vm": pa.string(),
        "replica_uid": pa.string(),
        "policy": pa.string(),
        "policy_uid": pa.string(),
        "backup_server": pa.string(),
    }
)
"""What restorable intervals are asked of: a VM inside a replica set, or a vApp of Cloud Director.

A vApp is one replica: `replica_uid` is its own uid, and `vm` its name."""

INTERVALS: Final = pa.schema(
    {
        "start": INSTANT,
        "end": INSTANT,
        "rpo": SPAN,
        "kind": pa.string(),
    }
)
"""A stretch in which a VM can be restored to, and the RPO really achieved in it."""

JOURNAL: Final = pa.schema(
    {
        "vm": LABEL,
        "vm_uid": pa.string(),
        "policy": LABEL,
        "policy_uid": LABEL,
        "backup_server": LABEL,
        "start": INSTANT,
        "end": INSTANT,
        "rpo": SPAN,
        "kind": LABEL,
        "as_of": INSTANT,
    }
)
"""The journal as the archive keeps it. `kind` is the server's word for a restorable interval,
or `ASKED`: the stretch in which intervals were asked for, `rpo` null. Both are cut at UTC midnight."""

ASKED: Final = "Asked"
"""`kind` of a stretch in which a VM's intervals are known; what lies outside was never asked."""

REFERENCES: Final = pa.schema(
    {
        "uid": pa.string(),
        "name": pa.string(),
        "policy_session": pa.string(),
        "policy_session_uid": pa.string(),
        "backup_server": pa.string(),
        "backup_server_uid": pa.string(),
    }
)
"""What a query answers without `format=Entities`: names and identifiers."""

_FIXED: Final = {
    "result": pd.CategoricalDtype(list(RESULTS), ordered=True),
    "policy_result": pd.CategoricalDtype(list(RESULTS), ordered=True),
}


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table of one of these shapes as the frame an analyst sees.

    Parameters
    ----------
    table : pyarrow.Table
        Any table with columns of this module.

    Returns
    -------
    pandas.DataFrame
        Same columns and order: instants ``datetime64[us, UTC]``, spans
        ``timedelta64[us]``, `total_size` ``Int64``, labels categorical (verdicts
        ordered None < Success < Warning < Failed; another word reads as missing),
        the rest ``str``.

    Examples
    --------
    >>> to_frame(SESSIONS.empty_table()).dtypes["created"]
    datetime64[us, UTC]
    """
    frame = table.unify_dictionaries().to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    for column, dtype in _FIXED.items():
        if column in frame and isinstance(frame[column].dtype, pd.CategoricalDtype):
            frame[column] = frame[column].cat.set_categories(dtype.categories, ordered=True)
    return frame
