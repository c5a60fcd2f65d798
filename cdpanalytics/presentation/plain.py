"""Columns of tables as plain Python values, as JSON and CSV take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def values_of(column: pd.Series, tz: str) -> list[Any]:
    """Return a column as plain values: by column, for a report has hundreds of thousands of them."""
    if pd.api.types.is_timedelta64_dtype(column):
        micro = column.dt.as_unit("us").to_numpy(dtype="m8[us]").view(np.int64)
        return _with_none(micro / 1e6, column)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _iso(column) if tz == "UTC" else _iso_local(column.dt.tz_convert(tz))
    if isinstance(column.dtype, pd.CategoricalDtype):
        words = [*values_of(column.cat.categories.to_series(), tz), None]
        return [words[code] for code in column.cat.codes.tolist()]  # -1, missing, is the last
    if column.dtype != object:
        return _with_none(column.to_numpy(dtype=object), column)
    return [None if is_missing(value) else _plain(value) for value in column]


def _with_none(values: np.ndarray, column: pd.Series) -> list[Any]:
    """Return values as a list, None where the column has none."""
    missing = column.isna().to_numpy()
    if missing.any():
        values = values.astype(object)
        values[missing] = None
    return values.tolist()


def _iso(column: pd.Series) -> list[str | None]:
    """Return instants as ISO 8601 text in UTC, with a fraction where they have one."""
    if column.dt.unit == "ns":
        return [None if t is None else t.replace("+00:00", "Z") for t in _iso_local(column)]
    utc = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="M8[us]")
    seconds = utc.astype("M8[s]")
    texts = np.datetime_as_string(seconds).astype(object)
    fraction = seconds != utc  # a missing instant is unlike itself
    texts[fraction] = np.datetime_as_string(utc[fraction]).astype(object)
    return _with_none(texts + "Z", column)


def _iso_local(column: pd.Series) -> list[str | None]:
    return [None if pd.isna(stamp) else stamp.isoformat() for stamp in column]


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NA, NaT or NaN."""
    return value is None or value is pd.NA or value is pd.NaT or value != value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, np.ndarray) else value
