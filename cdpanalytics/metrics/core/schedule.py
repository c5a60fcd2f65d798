"""Scheduled time: a clock that runs only in the hours a policy may run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError

Instants = NDArray[np.int64]

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_STEP = 15 * 60 * 1_000_000
"""A quarter of an hour in microseconds: every zone's offset and every DST change is a multiple."""


@dataclass(frozen=True)
class Clock:
    """Scheduled microseconds elapsed, as a piecewise linear function of the instant.

    `elapsed` never falls, stands still in forbidden time, and runs like any clock in
    the rest, so a length of scheduled time is a difference of two of its readings.
    Instants are microseconds since 1970 UTC. `edges` are where it starts or stops, in
    order; `readings` what it shows there, `running` whether it runs after each.
    """

    edges: Instants
    readings: Instants
    running: NDArray[np.bool_]

    def elapsed(self, instants: Instants) -> Instants:
        """Return the clock's readings at `instants`, none of which lies before the first edge."""
        if len(self.edges) == 1:
            return instants - self.edges[0] if self.running[0] else np.zeros_like(instants)
        piece = np.searchsorted(self.edges, instants, side="right") - 1
        ahead = np.where(self.running[piece], instants - self.edges[piece], 0)
        return self.readings[piece] + ahead

    def next_running(self, instants: Instants) -> Instants:
        """Return the first instants, at `instants` or later, from which the clock runs.

        Where it never runs again, the last edge, behind which it stands still.
        """
        if len(self.edges) == 1 and self.running[0]:
            return instants
        return np.maximum(instants, self.instant(self.elapsed(instants)))

    def instant(self, readings: Instants) -> Instants:
        """Return the last instants at which the clock shows no more than `readings`.

        The inverse of `elapsed`: where the clock stands still at a reading, what
        exceeds it begins only when it runs again. A reading that the clock never
        exceeds gives the last edge, behind which it stands.
        """
        piece = np.searchsorted(self.readings, readings, side="right") - 1
        ahead = np.where(self.running[piece], readings - self.readings[piece], 0)
        return self.edges[piece] + ahead

    def reached(self, instants: Instants) -> Instants:
        """Return the first instants at which the clock showed what it shows at `instants`.

        Where it runs, the instants themselves; where it stands still, since when it does.
        """
        readings = self.elapsed(instants)
        piece = np.searchsorted(self.readings, readings, side="left")
        exact = self.readings[np.minimum(piece, len(self.edges) - 1)] == readings
        stood = self.edges[np.minimum(piece, len(self.edges) - 1)]
        ran = (
            self.edges[np.maximum(piece - 1, 0)]
            + readings
            - self.readings[np.maximum(piece - 1, 0)]
        )
        return np.where(exact & (piece < len(self.edges)), stood, ran)


ALWAYS = Clock(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.ones(1, dtype=bool))
"""The clock of a policy that may run at every hour."""


def week_mask(schedule: str | Mapping[str, Sequence[int]]) -> NDArray[np.bool_]:
    """Return the allowed hours of a week, Monday 00 h first.

    Parameters
    ----------
    schedule : str or mapping
        168 digits as `schema.POLICIES` keeps them, or a mapping of each weekday's
        English name to 24 zeros and ones. Zero forbids an hour.

    Returns
    -------
    numpy.ndarray of bool, shape (168,)

    Raises
    ------
    InputError
        When it is neither.

    Examples
    --------
    >>> int(week_mask("1" * 160 + "0" * 8).sum())
    160
    """
    if isinstance(schedule, str):
        digits = [int(digit) for digit in schedule if digit.isdigit()]
    else:
        missing = [day for day in WEEKDAYS if day not in schedule]
        if missing:
            raise InputError(f"the schedule has no {missing[0]}; it needs all of {WEEKDAYS}")
        odd = [day for day in WEEKDAYS if len(schedule[day]) != 24]
        if odd:
            raise InputError(f"the schedule's {odd[0]} needs 24 hours, got {len(schedule[odd[0]])}")
        digits = [int(hour) for day in WEEKDAYS for hour in schedule[day]]
    if len(digits) != 168:
        raise InputError(f"a schedule needs 7 x 24 hours, got {len(digits)}")
    return np.array(digits) != 0


def clock(
    allowed: NDArray[np.bool_], start: int, stop: int, tz: str, closed: Instants | None = None
) -> Clock:
    """Return the clock of a weekly mask, and of stretches closed besides.

    Parameters
    ----------
    allowed : numpy.ndarray of bool, shape (168,)
        From `week_mask`, in the wall time of `tz`.
    start, stop : int
        Microseconds since 1970 UTC: what the clock is asked about lies between.
    tz : str
        IANA name of the zone whose wall clock the mask is written in.
    closed : numpy.ndarray of int64, shape (n, 2), optional
        Stretches in which the clock stands still besides: maintenance windows. They
        may overlap and be in any order.

    Returns
    -------
    Clock
        Exact through changes of daylight saving time: such a day has 23 or 25 hours.
    """
    edges, running = _weekly(allowed, start, stop, tz)
    if closed is not None and len(closed):
        within = np.clip(closed, start, max(start, stop))
        opened, over = np.sort(within[:, 0]), np.sort(within[:, 1])
        finer = np.unique(np.concatenate([edges, within.ravel()]))
        shut = np.searchsorted(opened, finer, "right") > np.searchsorted(over, finer, "right")
        running = running[np.searchsorted(edges, finer, side="right") - 1] & ~shut
        edges = finer
    readings = np.zeros(len(edges), dtype=np.int64)
    np.cumsum(np.where(running[:-1], np.diff(edges), 0), out=readings[1:])
    return Clock(edges, readings, running)


def _weekly(
    allowed: NDArray[np.bool_], start: int, stop: int, tz: str
) -> tuple[Instants, NDArray[np.bool_]]:
    """Edges from `start` on at which the mask lets the clock start or stop, and which it does."""
    if allowed.all():
        return np.array([start], dtype=np.int64), np.ones(1, dtype=bool)
    first = start // _STEP
    grid = np.arange(first, max(stop // _STEP, first) + 2, dtype=np.int64) * _STEP
    wall = pd.DatetimeIndex(grid.view("M8[us]"), tz="UTC").tz_convert(tz)
    running = allowed[wall.day_of_week.to_numpy() * 24 + wall.hour.to_numpy()]
    turns = np.flatnonzero(np.diff(running, prepend=~running[:1]))
    return grid[turns], running[turns]
