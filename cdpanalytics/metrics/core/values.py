"""Columns and arguments as integers: instants and lengths in microseconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.kernels import Integers

_ISO_WITH_OFFSET = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)"

UNKNOWN = np.iinfo(np.int64).min
"""Microseconds of a missing time: NumPy's own NaT."""


def require(frame: pd.DataFrame, columns: Sequence[str], purpose: str) -> None:
    """Refuse a frame that lacks one of `columns`; `purpose` introduces them in the message."""
    for column in columns:
        if column not in frame:
            has = ", ".join(map(str, frame.columns)) or "no columns"
            raise InputError(f"no column {column!r}{purpose} {', '.join(columns)} (has: {has})")


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
        if text.dropna().str.fullmatch(_ISO_WITH_OFFSET).all():
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
    """Return one instant in UTC, to the microsecond; a time without a zone is of `tz`.

    Raises
    ------
    InputError
        When it is not a time.
    """
    try:
        # A bare number would be read as nanoseconds since 1970.
        stamp = pd.Timestamp(None if isinstance(value, Number) else value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise InputError(
            f"{name}={value!r} is not a time; write it like 2026-10-01 or 2026-10-01T08:00Z"
        ) from None
    if pd.isna(stamp):
        seen = f"={value!r} is not a time" if isinstance(value, Number) else " is missing"
        raise InputError(f"{name}{seen}; write it like 2026-10-01 or 2026-10-01T08:00Z")
    if stamp.tzinfo is None:
        stamp = _localized(stamp, name, tz)
    return stamp.tz_convert("UTC").as_unit("us")


def _localized(stamp: pd.Timestamp, name: str, tz: str) -> pd.Timestamp:
    """Give a wall time its zone; a time that the zone skips or has twice is refused."""
    try:
        return stamp.tz_localize(tz)
    except (KeyError, TypeError):
        raise zone_error(tz) from None
    except ValueError as error:
        if stamp == stamp.normalize():  # midnight: the day begins after the skipped hour, or first
            return stamp.tz_localize(tz, nonexistent="shift_forward", ambiguous=True)
        raise InputError(
            f"{name}={stamp} comes twice or never in {tz} ({error}); write it with its offset, "
            f"like {stamp:%Y-%m-%dT%H:%M}+01:00"
        ) from None


def zone_error(tz: object) -> InputError:
    """Return the error for what is not a time zone."""
    return InputError(f"tz={tz!r} is not a time zone; use a name like UTC or Europe/Prague")


def check_zone(tz: object) -> str:
    """Return `tz` where it names a time zone.

    Raises
    ------
    InputError
        When it does not.
    """
    try:
        pd.Timestamp(0, tz="UTC").tz_convert(tz if tz and isinstance(tz, str) else "no zone")
    except (KeyError, ValueError):
        raise zone_error(tz) from None
    return str(tz)


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
    """Return one length of time (Timedelta or text like "15min"), not below zero.

    Raises
    ------
    InputError
        When it is not a length.
    """
    # A number without a unit would be read as nanoseconds, "15" like 15.
    has_no_unit = isinstance(value, Number) or (isinstance(value, str) and _is_number(value))
    try:
        parsed = pd.Timedelta(None if has_no_unit else value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        parsed = pd.NaT  # type: ignore[assignment]
    if pd.isna(parsed) or parsed < pd.Timedelta(0):
        raise InputError(
            f"{name}={value!r} is not a length of time; write it like 30s, 15min or 1h"
        )
    return parsed.as_unit("us")


def duration(value: pd.Timedelta) -> int:
    """Return a length of time in microseconds."""
    return int(value.to_timedelta64().astype("m8[us]").astype(np.int64))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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


def lengths(us: Integers) -> pd.Series:
    """Return microseconds as a column of lengths of time, missing where they are UNKNOWN."""
    return pd.Series(np.asarray(us, dtype=np.int64).view("m8[us]"))


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
