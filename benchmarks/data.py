"""The fleet that every figure is of: seeded sessions as an archive holds them, and as each engine likes them.

A year of sessions of about eight hours; one in ten begins late, one in five stops some seconds
early, one in fifty fails, one in a hundred overlaps the one before, and each VM's last one runs.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

SOURCE = "https://em.tech.local:9398"
HOUR = 3600 * 1_000_000
MINUTE = 60 * 1_000_000
BEGIN = 1_735_689_600 * 1_000_000  # 2025-01-01
RESULTS = ["None", "Success", "Warning", "Failed"]
STATES = ["InProgress", "Pending", "Completed"]
REASONS = ["", "Host is not available", "Network path was lost", "Datastore is full"]
ARCHIVED = ("uid", "as_of", "rpo")
"""Columns of an archive that an analyst's own frame may well lack."""


def fleet(sessions: int, seed: int = 1, vms: int | None = None) -> pa.Table:
    """Return about `sessions` sessions in an archive's order: by day, then VM, then beginning."""
    rng = np.random.default_rng(seed)
    vms = vms or max(100, sessions // 1000)
    each = sessions // vms
    count = vms * each
    vm = np.repeat(np.arange(vms, dtype=np.int32), each)
    turn = np.tile(np.arange(each), vms)
    late = np.where(rng.random(count) < 0.1, rng.exponential(40 * MINUTE, count), 0)
    early = np.where(rng.random(count) < 0.01, 10 * MINUTE, 0)
    created = BEGIN + turn * 8 * HOUR + np.repeat(rng.integers(0, 8 * HOUR, vms), each)
    created = created + np.minimum(late, 4 * HOUR).astype(np.int64) - early
    ended = BEGIN + (turn + 1) * 8 * HOUR + np.repeat(created[::each] - BEGIN, each)
    ended = ended - np.where(rng.random(count) < 0.2, rng.integers(0, 30_000_000, count), 0)
    last = turn == each - 1
    result = rng.choice(np.array([1, 2, 3], dtype=np.int32), count, p=[0.92, 0.06, 0.02])
    # What failed broke off somewhere on its way.
    ended = np.where(
        result == 3, created + ((ended - created) * rng.random(count)).astype(np.int64), ended
    )
    reason = np.where(result == 3, rng.integers(1, 4, count), 0)
    grown = rng.integers(10, 4000, vms)[vm] * 2**30 + turn * rng.integers(0, 2**28, vms)[vm]
    order = np.lexsort((created, vm, created // (24 * HOUR)))
    as_of = int(max(created.max(), ended[~last].max())) + HOUR
    labels = {
        "vm": (vm, [f"vm-{n:05}.tech.local" for n in range(vms)]),
        "policy": (vm % 40, [f"policy-{n:02}" for n in range(40)]),
        "backup_server": (vm % 6, [f"backup-{n}" for n in range(6)]),
        "state": (np.where(last, 0, 2), STATES),
        "result": (np.where(last, 0, result), RESULTS),
    }
    instant = pa.timestamp("us", tz="UTC")
    columns: dict[str, Any] = {"uid": _guids(rng, count)}
    for name, (codes, names) in labels.items():
        columns[name] = pa.DictionaryArray.from_arrays(
            pa.array(codes[order], pa.int32()), pa.array(names)
        )
    columns["created"] = pa.array(created[order]).cast(instant)
    columns["ended"] = pa.array(ended[order], mask=last[order]).cast(instant)
    columns["reason"] = pa.array(REASONS).take(pa.array(reason[order]))
    columns["total_size"] = pa.array(grown[order], mask=last[order])
    columns["rpo"] = pa.array(np.full(count, 15 * MINUTE)).cast(pa.duration("us"))
    columns["as_of"] = pa.array(np.full(count, as_of)).cast(instant)
    return pa.table(columns)


def archived(table: pa.Table, folder: str | Path) -> Any:
    """Return an archive that holds the fleet, written as a sync writes it: one file per day."""
    from cdpanalytics import schema
    from cdpanalytics.archive import Archive

    archive = Archive(folder)
    nothing = {field.name: pa.nulls(len(table), field.type) for field in schema.SESSIONS}
    held = {name: table[name] for name in table.column_names}
    whole = pa.table({**nothing, **held}).cast(schema.SESSIONS)
    day = table["created"].cast(pa.int64()).to_numpy() // (24 * HOUR)
    edges = np.flatnonzero(np.diff(day, prepend=-1, append=-1))
    as_of = pd.Timestamp(table["as_of"][0].as_py())
    with archive.writing():
        for first, stop in pairwise(edges):
            begun = pd.Timestamp(day[first], unit="D", tz="UTC")
            rows = whole.slice(first, stop - first)
            archive.put_day(
                "sessions", SOURCE, begun, rows, as_of, begun + pd.Timedelta("1D") <= as_of
            )
    with archive.writing():
        pass  # what the next sync does first: it writes the files of settled months
    return archive


def write(sessions: int, folder: str | Path, vms: int | None = None) -> None:
    """Write the archive of a fleet in another process, so that this one stays small."""
    code = f"import sys, data; data.archived(data.fleet(int(sys.argv[1]), vms={vms}), sys.argv[2])"
    command = [sys.executable, "-c", code, str(sessions), str(folder)]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)


def _guids(rng: np.random.Generator, count: int) -> pa.Array:
    """Random GUIDs as text, written into Arrow's own buffers."""
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    text = np.full((count, 36), ord("-"), dtype=np.uint8)
    places = [at for at in range(36) if at not in (8, 13, 18, 23)]
    nibbles = rng.bytes(count * 16)
    halves = np.frombuffer(nibbles, dtype=np.uint8).reshape(count, 16)
    text[:, places[0::2]] = digits[halves >> 4]
    text[:, places[1::2]] = digits[halves & 15]
    offsets = np.arange(0, (count + 1) * 36, 36, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))


def for_pandas(table: pa.Table) -> pd.DataFrame:
    """Return the fleet as `archive.sessions()` gives it."""
    from cdpanalytics.schema import to_frame

    return to_frame(table)


def for_polars(table: pa.Table) -> Any:
    """Return the fleet as a Polars frame with Enum labels."""
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    names = [
        name for name in table.column_names if pa.types.is_dictionary(table.schema.field(name).type)
    ]
    enums = {name: pl.Enum(table[name].combine_chunks().dictionary.to_pylist()) for name in names}
    return frame.cast(enums).rechunk()  # type: ignore[arg-type]


def for_duckdb(table: pa.Table) -> Any:
    """Return a DuckDB connection whose table `sessions` is the fleet, labels as ENUM."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    kept = []
    for field in table.schema:
        if not pa.types.is_dictionary(field.type):
            kept.append(field.name)
            continue
        names = table[field.name].combine_chunks().dictionary.to_pylist()
        words = ", ".join(f"'{name}'" for name in names)
        connection.execute(f"create type {field.name}_t as enum ({words})")
        kept.append(f"{field.name}::{field.name}_t as {field.name}")
    connection.register("fleet", table)
    connection.execute(f"create table sessions as select {', '.join(kept)} from fleet")
    connection.unregister("fleet")
    return connection
