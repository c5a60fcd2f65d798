"""Operations on Arrow tables that reading an archive is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import patterns as patterns_of
from cdpanalytics import schema
from cdpanalytics.archive.names import Name
from cdpanalytics.patterns import Patterns

T = TypeVar("T", pa.Table, pd.DataFrame)

COMPACT_AFTER_ROWS = 100_000


def scalar(instant: pd.Timestamp) -> pa.Scalar:
    """Return an instant as Arrow compares it."""
    return pa.scalar(instant.to_pydatetime(), schema.INSTANT)


def clip_to_window(
    rows: pa.Table, path: Name, when: str, start: pd.Timestamp | None, stop: pd.Timestamp | None
) -> pa.Table:
    """Return the rows of a day's file that lie in ``[start, stop)``."""
    for edge, compare in ((start, pc.greater_equal), (stop, pc.less)):
        if edge is not None and path.stem == f"{edge:%Y-%m-%d}":
            rows = rows.filter(compare(rows[when], scalar(edge)))
    return rows


def newest(table: pa.Table) -> pa.Table:
    """Of rows with one uid keep the newest `as_of`, or the last where that is the same."""
    versions = schema.to_frame(table.select(["uid", "as_of"])).sort_values("as_of", kind="stable")
    return table.take(pa.array(np.sort(versions.drop_duplicates("uid", keep="last").index)))


def count_rows(table: pa.Table, when: str) -> pa.Table:
    """Return how many rows each backup server, policy and VM has, and when the first began."""
    who = [table[name].unify_dictionaries().combine_chunks() for name in schema.KEYS]
    codes = [labels.indices for labels in who]  # numbers are grouped several times faster than text
    plain = pa.table([*codes, table[when]], names=[*schema.KEYS, "begun"])
    counts = plain.group_by(schema.KEYS, use_threads=False).aggregate(
        [([], "count_all"), ("begun", "min")]
    )
    for place, (name, labels) in enumerate(zip(schema.KEYS, who, strict=True)):
        texts = labels.dictionary.cast(pa.string()).take(counts[name].combine_chunks())
        counts = counts.set_column(place, name, texts)
    return counts.rename_columns([*schema.KEYS, "rows", "begun"])


def sum_counts(counts: Sequence[pa.Table]) -> pa.Table:
    """Return the sum of counts of several files."""
    total = (
        pa.concat_tables(counts)
        .group_by(schema.KEYS)
        .aggregate([("rows", "sum"), ("begun", "min")])
    )
    return total.rename_columns([*schema.KEYS, "rows", "begun"])


def in_parts(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield the tables in lists of about 100,000 rows each."""
    part: list[pa.Table] = []
    for table in tables:
        part.append(table)
        if sum(map(len, part)) >= COMPACT_AFTER_ROWS:
            yield part
            part = []
    if part:
        yield part


def append_and_compact(kept: list[T], more: T, combine: Callable[[list[T]], T]) -> None:
    """Append a table, and combine all of them every so often, so that they take bounded memory."""
    kept.append(more)
    if sum(map(len, kept)) > COMPACT_AFTER_ROWS + 2 * len(kept[0]):
        kept[:] = [combine(kept)]


def rows_by(rows: pd.DataFrame, column: str | None) -> pd.Series:
    """Return how many rows each name has, in order; rows without a name last."""
    if column is None:
        return pd.Series([rows["rows"].sum()], index=pd.Index([""]), dtype="int64")
    return rows.groupby(column, dropna=False)["rows"].sum().astype("int64")


def matching(frame: pd.DataFrame, patterns: dict[str, Patterns]) -> pd.DataFrame:
    """Return the rows whose names match; a pattern that matches nothing is an error."""
    for column, given in patterns.items():
        if given is not None:
            names = patterns_of.matching(frame[column].unique(), given, patterns_of.CALLED[column])
            frame = frame[frame[column].isin(names)]
    return frame


def without_unused(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose labels are those of its rows; results keep their fixed order."""
    columns = {
        column: _used(frame[column])
        for column in frame.columns[frame.dtypes == "category"]
        if column not in ("result", "policy_result")
    }
    return frame.assign(**columns)


def _used(column: pd.Series) -> pd.Series:
    # Counting codes is linear; pandas would sort all rows to find the labels in use.
    accessor: Any = column.cat
    codes = accessor.codes.to_numpy().astype(np.intp)
    rows = np.bincount(codes + 1, minlength=len(accessor.categories) + 1)
    return column if rows[1:].all() else accessor.remove_unused_categories()
