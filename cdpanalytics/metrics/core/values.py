"""Columns and arguments as integers: instants and lengths in microseconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics import timeparse
from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.kernels import Integers

UNKNOWN = np.iinfo(np.int64).min
"""Microseconds of a missing time: NumPy's own NaT."""


def require(frame: pd.DataFrame, columns: Sequence[str], purpose: str) -> None:
    """Refuse a frame that lacks one of `columns`; `purpose` introduces them in the message."""
    for column in columns:
        if column not in frame:
            has = ", ".join(map(str, frame.columns)) or "no columns"
            raise InputError(f"no column {column!r}{purpose} {', '.join(columns)} (has: {has})")


def check_count(value: object, name: str, hint: str = "") -> None:
    """Refuse what is not a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name}={value!r} is not a positive whole number{hint}")


# -- instants --------------------------------------------------------------------------


def instants(frame: pd.DataFrame, column: str) -> Integers:
    """Return a column of times with a zone as microseconds since 1970 UTC, UNKNOWN where missing."""
    values = frame[column]
    if isinstance(values.dtype, pd.ArrowDtype) and getattr(values.dtype.pyarrow_dtype, "tz", None):
        values = values.astype("datetime64[us, UTC]")
    if not isinstance(values.dtype, pd.DatetimeTZDtype):
        if len(values) == 0 or values.isna().all():
            return np.full(len(values), UNKNOWN, dtype=np.int64)
        values = _from_text(values, column)
    if isinstance(values.dtype, pd.DatetimeTZDtype) and values.dtype.unit != "us":
        values = values.dt.as_unit("us")
    return values.to_numpy(dtype="M8[us]").view(np.int64)


def _from_text(values: pd.Series, column: str) -> pd.Series:
    """Parse times that are text with an offset, as a CSV file holds them; refuse all others."""
    if pd.api.types.is_string_dtype(values.dtype) or isinstance(values.dtype, pd.CategoricalDtype):
        text = values.astype("str")
        if text.dropna().str.fullmatch(timeparse.ISO_WITH_OFFSET).all():
            try:
                return pd.to_datetime(text, utc=True, format="ISO8601").dt.as_unit("us")
            except ValueError:
                pass  # a date that does not exist: not a time either
    raise InputError(
        f"column {column!r} holds {values.dtype}, not times with a zone; "
        'say of which zone they are: df.cdp.select(tz="Europe/Berlin")'
    )


def microseconds(value: object, name: str, tz: str = "UTC") -> int:
    """Return one instant as microseconds since 1970 UTC; a time without a zone is of `tz`."""
    return us_of(instant(value, name, tz))


def instant(value: object, name: str, tz: str = "UTC") -> pd.Timestamp:
    """Return one instant in UTC; metrics never read the clock, so none is counted back from now.

    Raises
    ------
    InputError
        When it is not a time.
    """
    return timeparse.instant(value, None, tz, name)


def us_of(stamp: pd.Timestamp) -> int:
    """Return an instant as microseconds since 1970 UTC."""
    return int(stamp.to_datetime64().astype("M8[us]").astype(np.int64))


def timestamp(us: int) -> pd.Timestamp:
    """Return microseconds since 1970 UTC as an instant."""
    return pd.Timestamp(us, unit="us", tz="UTC").as_unit("us")


def timestamps(us: Integers) -> pd.Series:
    """Return microseconds since 1970 UTC as a column of instants."""
    return pd.Series(us, dtype="datetime64[us, UTC]")


# -- lengths ---------------------------------------------------------------------------


def length(value: object, name: str) -> pd.Timedelta:
    """Return one length of time, zero or more.

    Raises
    ------
    InputError
        When it is not a length.
    """
    return timeparse.length(value, name, zero=True)


def duration(value: pd.Timedelta) -> int:
    """Return a length of time in microseconds."""
    return int(value.to_timedelta64().astype("m8[us]").astype(np.int64))


def durations_of(values: pd.Series, name: str = "rpo") -> Integers:
    """Return a column of lengths of time in microseconds, UNKNOWN where missing.

    Raises
    ------
    InputError
        When it holds numbers, instants or words, not lengths of time.
    """
    if values.isna().all():
        return np.full(len(values), UNKNOWN, dtype=np.int64)
    if pd.api.types.is_timedelta64_dtype(values):
        return values.dt.as_unit("us").to_numpy(dtype="m8[us]").view(np.int64)
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        raise InputError(
            f"column {name!r} holds {values.dtype}, not lengths of time; "
            f"convert it: df[{name!r}] = pd.to_timedelta(df[{name!r}], unit='s')"
        )
    try:
        is_text = pd.api.types.is_string_dtype(values.dtype)
        if is_text and pd.to_numeric(values, errors="coerce").notna().any():
            raise ValueError  # "900" has no unit, and would be read as nanoseconds
        parsed = pd.to_timedelta(values)
    except (ValueError, TypeError):
        raise InputError(
            f"column {name!r} holds {values.dtype}, not lengths of time; "
            f"convert it: df[{name!r}] = pd.to_timedelta(df[{name!r}])"
        ) from None
    return parsed.dt.as_unit("us").to_numpy(dtype="m8[us]").view(np.int64)


def lengths(us: Integers) -> NDArray[np.timedelta64]:
    """Return microseconds as lengths of time, missing where they are UNKNOWN."""
    return np.asarray(us, dtype=np.int64).view("m8[us]")


# -- sizes -----------------------------------------------------------------------------


def amounts(frame: pd.DataFrame) -> pd.Series:
    """Return `total_size` as whole bytes, missing where it is.

    Raises
    ------
    InputError
        When it holds text, or parts of a byte.
    """
    column = frame["total_size"]
    if not column.notna().any():
        return pd.Series(pd.NA, index=column.index, dtype="Int64")
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        raise InputError(
            f"column 'total_size' holds {column.dtype}, not bytes; "
            'say what they are: df.cdp.select(units={"total_size": "GB"})'
        )
    try:
        return column.astype("Int64")
    except (TypeError, ValueError, ArithmeticError):
        raise InputError(
            "column 'total_size' holds parts of a byte; "
            'say its unit: df.cdp.select(units={"total_size": "GB"})'
        ) from None
