"""Windows and periods: half-open stretches of time, cut in any zone, as edges in microseconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cdpanalytics import schema
from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.spans import Flags, Integers, Records, known_until, microseconds

FREQUENCIES = {"h": "hour", "D": "day", "W": "week, from Monday", "MS": "month"}


@dataclass(frozen=True)
class Window:
    """``[edges[0], edges[-1])``, cut at the edges between, each piece a period.

    `periods` holds the natural start of each piece.
    `following` is the natural start of the period after the last.
    `closed` is set where no end at or before as_of was asked for: a session that
    begins at the last edge, as_of, still counts.
    """

    edges: Integers
    periods: pd.DatetimeIndex | None
    following: int | None
    closed: bool

    @property
    def count(self) -> int:
        """Number of periods; one where the window is not cut."""
        return len(self.edges) - 1

    def period(self, instants: Integers, side: Literal["left", "right"] = "right") -> Integers:
        """Return the period of each instant of the window; side "left" gives an edge to what ends there."""
        if self.count == 1:
            return np.zeros(len(instants), dtype=np.int64)
        return np.searchsorted(self.edges[1:-1], instants, side=side)

    def place(self, instants: Integers) -> Integers:
        """Return the period each instant lies in, -1 where it lies in none."""
        period, last = self.period(instants), self.edges[-1]
        outside = (instants < self.edges[0]) | (instants >= last + self.closed)
        period[outside] = -1
        return period

    @property
    def whole(self) -> Flags:
        """Periods that lie in the window from their natural start to the next one's."""
        if self.periods is None or self.following is None:
            return np.ones(self.count, dtype=bool)
        starts = self.periods.to_numpy(dtype="M8[us]").view(np.int64)
        ends = np.append(self.edges[1:-1], self.following)
        return np.asarray((starts >= self.edges[:-1]) & (ends <= self.edges[1:]))

    def column(self, groups: int) -> pd.Series:
        """Return the periods as a column, once over for each group."""
        periods = pd.DatetimeIndex([], tz="UTC") if self.periods is None else self.periods
        return pd.Series(np.tile(periods.to_numpy(dtype="M8[us]"), groups)).dt.tz_localize("UTC")


def window(
    records: Records, since: object, until: object, freq: str | None = None, tz: str = "UTC"
) -> Window:
    """Return the window from `since` to `until`, never beyond as_of.

    Parameters
    ----------
    records : Records
        Whose first session and `as_of` bound it.
    since, until : timestamp-like, optional
        Text without a zone is UTC. Default: the window that the frame was read for, else
        from its first session to as_of.
    freq : {"h", "D", "W", "MS"}, optional
        Periods to cut into, by the wall clock of `tz`.
    tz : str
        IANA name of a zone.

    Raises
    ------
    InputError
        When `since` is not before `until`, `freq` or `tz` is unknown, or the window is larger
        than the one that the frame was read for.
    """
    as_of = records.as_of
    since, until = within(records.frame, since, until)
    first = min(int(records.created.min()), as_of) if len(records.created) else as_of
    start = first if since is None else microseconds(since, "since")
    stop = as_of if until is None else microseconds(until, "until")
    if since is not None and until is not None and start >= stop:
        raise InputError(f"since={since} is not before until={until}; a window is [since, until)")
    stop = max(start, min(stop, as_of))
    # What begins at as_of itself is in a window that does not end there.
    closed = start <= as_of and (until is None or microseconds(until, "until") > as_of)
    _check_zone(tz)
    if freq is None:
        return Window(np.array([start, stop]), None, None, closed)
    starts = _period_starts(start, stop, freq, tz)
    inner = starts.tz_convert("UTC").as_unit("us").to_numpy(dtype="M8[us]").view(np.int64)
    edges = np.concatenate([[start], inner[(inner > start) & (inner < stop)], [stop]])
    return Window(
        edges.astype(np.int64), starts[: len(edges) - 1], int(inner[len(edges) - 1]), closed
    )


def within(frame: pd.DataFrame, since: object, until: object) -> tuple[object, object]:
    """Return a window's bounds, those that a frame was read for where none is given.

    Raises
    ------
    InputError
        When one lies beyond those: the sessions there are missing, and would be gaps.
    """
    first, last = schema.window_of(frame)
    for name, given, bound, sign in (("since", since, first, 1), ("until", until, last, -1)):
        if given is not None and bound is not None:
            beyond = sign * (microseconds(bound, name) - microseconds(given, name)) > 0
            if beyond:
                raise InputError(
                    f"{name}={given} is outside of the window whose sessions were read "
                    f"({first or 'the first'} to {last or 'the last'}); read more of them"
                )
    return first if since is None else since, last if until is None else until


def judged_until(frame: pd.DataFrame, as_of: object, protects: Collection[str]) -> int:
    """Return until when it is known of each VM whether it was covered.

    That is `as_of`, but no later than the end of the window that the frame was read for,
    unless what followed was read too: up to the first success of each VM.
    """
    now = known_until(frame, as_of)
    _, until = schema.window_of(frame)
    if until is not None and not (schema.is_followed(frame) and "Success" in protects):
        now = min(now, microseconds(until, "until"))
    return now


def _period_starts(start: int, stop: int, freq: str, tz: str) -> pd.DatetimeIndex:
    """Natural starts of the periods from the one that holds `start`, with the one after, in UTC."""
    if freq not in FREQUENCIES:
        known = ", ".join(f"{key} ({word})" for key, word in FREQUENCIES.items())
        raise InputError(f"freq={freq!r} is not known; use one of {known}")
    first, last = (pd.Timestamp(edge, unit="us", tz="UTC").tz_convert(tz) for edge in (start, stop))
    if freq == "h":
        floor = first - pd.Timedelta(
            minutes=first.minute, seconds=first.second, microseconds=first.microsecond
        )
        starts = pd.date_range(floor, max(last, floor) + pd.Timedelta(hours=1), freq="h")
        return starts.tz_convert("UTC").as_unit("us")
    floor, ceiling = (edge.tz_localize(None).normalize() for edge in (first, max(first, last)))
    if freq == "W":
        floor -= pd.Timedelta(days=floor.day_of_week)
    if freq == "MS":
        floor = floor.replace(day=1)
    step = {"W": "W-MON"}.get(freq, freq)
    begun = pd.date_range(floor, ceiling, freq=step)
    naive = pd.DatetimeIndex(begun.append(pd.date_range(begun[-1], periods=2, freq=step)[1:]))
    # Where midnight is skipped the day begins after it; where it comes twice, at the first.
    starts = naive.tz_localize(
        tz, nonexistent="shift_forward", ambiguous=np.ones(len(naive), dtype=bool)
    )
    return starts.tz_convert("UTC").as_unit("us")


def _check_zone(tz: str) -> None:
    try:
        pd.Timestamp(0, tz="UTC").tz_convert(tz if tz and isinstance(tz, str) else "no zone")
    except (KeyError, ValueError):
        raise InputError(
            f"tz={tz!r} is not a time zone; use a name like UTC or Europe/Prague"
        ) from None
