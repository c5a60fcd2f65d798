"""Instants as whole milliseconds since 1970 (UTC), and the texts the server writes for them."""

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DIGIT = np.array([0, 0, 0, 3, 3, 3, 3, 7, 7, 7], dtype=np.int64)


def from_datetime(instant: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime, rounded down."""
    if instant.tzinfo is None:
        raise ValueError(
            f"a time without a zone: {instant.isoformat()}; give an aware datetime, e.g. tzinfo=UTC"
        )
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def to_datetime(instant: int) -> datetime:
    """The aware datetime (UTC) of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=instant)


def from_timedelta(duration: timedelta) -> int:
    """Whole milliseconds of a duration, rounded down."""
    return duration // timedelta(milliseconds=1)


def snap(instants: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round down to a last digit of 0, 3 or 7: what SQL Server's ``datetime`` can hold, and PostgreSQL as well."""
    last = instants % 10
    return instants - last + _LAST_DIGIT[last]


def texts(instants: NDArray[np.int64]) -> list[str]:
    """``2026-06-15T07:00:06.78`` for each instant: trailing zeros of the fraction trimmed, no zone."""
    stamps = np.datetime_as_string(instants.astype("datetime64[ms]"))
    return [stamp.rstrip("0").rstrip(".") for stamp in stamps.tolist()]


def label(text: str, *, fraction: bool) -> str:
    """The text after the @ of a session's name: with its fraction from PostgreSQL, in whole seconds from SQL Server."""
    return text.replace("T", " ") if fraction else text[:19].replace("T", " ")


def whole_seconds(instant: int) -> str:
    """``2026-06-15T07:00:06``: how interval and restore point dates are written (rounded down, no zone)."""
    return to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%S")
