"""Windows and periods: half-open stretches of time, cut in any zone, as edges in microseconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.arrays import SessionArrays, as_of_frame
from cdpanalytics.metrics.core.frames import Facts
from cdpanalytics.metrics.core.kernels import Flags, Integers
from cdpanalytics.metrics.core.policies import known_at
from cdpanalytics.metrics.core.question import Question
from cdpanalytics.metrics.core.values import us_of

_QUARTER = 15 * 60 * 1_000_000
_LAST_YEAR = 9999
_UNDATED = pd.DatetimeIndex([pd.NaT], tz="UTC").as_unit("us")
"""The one period of a window that nothing gives a beginning."""


@dataclass(frozen=True)
class Window:
    """``[edges[0], edges[-1])``, cut at the edges between, each piece a period.

    `periods` holds the natural start of each piece.
    `following` is the natural start of the period after the last.
    `closed` is set where no end at or before as_of was asked for: a session that
    ends at the last edge, as_of, has ended in the window. (One that begins there is not known.)
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
        """Return the period of each instant; side "left" gives an edge to the period that ends there."""
        if self.count == 1:
            return np.zeros(len(instants), dtype=np.int64)
        return np.searchsorted(self.edges[1:-1], instants, side=side)

    def place(self, begun: Integers) -> Integers:
        """Return the period each session begins in, -1 where it begins in none."""
        return self._place(begun, self.edges[-1])

    def place_ends(self, ended: Integers) -> Integers:
        """Return the period each session ends in, -1 where it ends in none."""
        return self._place(ended, self.edges[-1] + self.closed)

    def _place(self, instants: Integers, stop: int) -> Integers:
        period = self.period(instants)
        period[(instants < self.edges[0]) | (instants >= stop)] = -1
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


def window(arrays: SessionArrays, question: Question) -> Window:
    """Return the window of a question, never beyond as_of, cut into its periods.

    Its default is the window that the frame was read for, else from the frame's first
    session to as_of.

    Raises
    ------
    InputError
        When the window is empty by its bounds, or larger than the one the frame was read for.
    """
    as_of = arrays.as_of
    since, until = resolve_window(arrays.facts, question)
    first = min(int(arrays.created.min()), as_of) if len(arrays.created) else as_of
    start = first if since is None else us_of(since)
    stop = as_of if until is None else us_of(until)
    if since is not None and until is not None and start >= stop:
        raise InputError(f"since={since} is not before until={until}; a window is [since, until)")
    stop = max(start, min(stop, as_of))
    # What begins at as_of itself is in a window that does not end there.
    closed = start <= as_of and (until is None or us_of(until) > as_of)
    if question.freq is None:
        return Window(np.array([start, stop]), None, None, closed)
    if since is None and not len(arrays.created):
        return Window(np.array([start, stop]), _UNDATED, None, closed)
    starts = _period_starts(start, stop, question.freq, question.tz)
    inner = starts.as_unit("us").to_numpy(dtype="M8[us]").view(np.int64)
    edges = np.concatenate([[start], inner[(inner > start) & (inner < stop)], [stop]])
    return Window(
        edges.astype(np.int64), starts[: len(edges) - 1], int(inner[len(edges) - 1]), closed
    )


def resolve_window(
    known: Facts, question: Question
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Return a window's bounds, those that a frame was read for where none is given.

    Raises
    ------
    InputError
        When one lies outside of those: sessions there are missing, and would be gaps.
    """
    # Nothing is known after as_of, so a window that ends there may be asked to end later.
    last = None if known.until == known.as_of and known.as_of is not None else known.until
    for name, given, bound, sign in (
        ("since", question.since, known.since, 1), ("until", question.until, last, -1),
    ):  # fmt: skip
        if given is not None and bound is not None and sign * (bound - given) > pd.Timedelta(0):
            raise InputError(
                f"{name}={given} is outside of the window whose sessions were read "
                f"({known.since or 'the first'} to {known.until or 'the last'}); read more of them"
            )
    return (
        known.since if question.since is None else question.since,
        known.until if question.until is None else question.until,
    )


def effective_as_of(
    frame: pd.DataFrame, known: Facts, question: Question, protects: Collection[str]
) -> int:
    """Return the last instant up to which the coverage of every VM is known.

    That is `as_of`, but no later than the end of the window that the frame was read for,
    unless its neighbours were read too. Those reach up to each VM's next Success after the
    window: where that does not protect, coverage is known up to the window's end only.
    """
    now = as_of_frame(frame, known, question.as_of)
    if known.until is not None and not (known.with_neighbours and "Success" in protects):
        now = min(now, us_of(known.until))
    return now


def policies_then(
    frame: pd.DataFrame, known: Facts, question: Question, policies: pd.DataFrame | None
) -> pd.DataFrame | None:
    """Return the settings as they were known at an `as_of` in the past; else all of them."""
    if question.as_of is None or us_of(question.as_of) >= as_of_frame(frame, known):
        return policies
    return known_at(policies, question.as_of)


def _full_hours(start: int, stop: int, tz: str) -> pd.DatetimeIndex:
    """The instants at which the wall clock reads a full hour, from the last one by `start` on.

    Offsets and their changes are multiples of a quarter of an hour, so it is enough to look
    at each quarter. A clock that is set back by half an hour reads 02:00 late: that hour
    has 1.5 h.
    """
    first, last = start // _QUARTER, stop // _QUARTER
    grid = np.arange(first - 8, last + 10, dtype=np.int64) * _QUARTER
    wall = pd.DatetimeIndex(grid.view("M8[us]"), tz="UTC").tz_convert(tz)
    full = grid[(wall.minute == 0) & (wall.second == 0)]
    begun = full[np.searchsorted(full, start, side="right") - 1 :]
    kept = begun[: np.searchsorted(begun, stop, side="right") + 1]
    return pd.DatetimeIndex(kept.view("M8[us]"), tz="UTC").as_unit("us")


def _period_starts(start: int, stop: int, freq: str, tz: str) -> pd.DatetimeIndex:
    """Natural starts of the periods from the one that holds `start`, with the one after, in UTC."""
    first, last = (pd.Timestamp(edge, unit="us", tz="UTC").tz_convert(tz) for edge in (start, stop))
    if freq == "h":
        return _full_hours(start, max(start, stop), tz)
    floor, ceiling = (edge.tz_localize(None).normalize() for edge in (first, max(first, last)))
    if freq == "W":
        floor -= pd.Timedelta(days=floor.day_of_week)
    if freq == "MS":
        floor = floor.replace(day=1)
    step = {"W": "W-MON"}.get(freq, freq)
    begun = pd.date_range(floor, ceiling, freq=step)
    naive = pd.DatetimeIndex(begun.append(pd.date_range(begun[-1], periods=2, freq=step)[1:]))
    if naive[-1].year > _LAST_YEAR:
        raise InputError(
            f"the last period of freq={freq!r} from {floor:%Y-%m-%d} does not end in the years 1 to "
            f"{_LAST_YEAR}; use an earlier window"
        )
    # Where midnight is skipped the day begins after it; where it comes twice, at the first.
    starts = naive.tz_localize(
        tz, nonexistent="shift_forward", ambiguous=np.ones(len(naive), dtype=bool)
    )
    return starts.tz_convert("UTC").as_unit("us")
