"""Scheduled time: a clock that runs only in the hours a policy may run; it knows no sessions."""

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
    """Scheduled microseconds elapsed, as a function of the instant.

    `elapsed` never falls, stands still in forbidden hours, and runs like any
    clock in the others, so a length of scheduled time is a difference of two
    of its readings. Instants are microseconds since 1970 UTC.
    """

    origin: int
    readings: Instants | None = None
    running: NDArray[np.bool_] | None = None

    def elapsed(self, instants: Instants) -> Instants:
        """Return the clock's readings at `instants`, inside the span it was built for."""
        if self.readings is None or self.running is None:
            return instants
        step, rest = np.divmod(instants - self.origin, _STEP)
        return self.readings[step] + np.where(self.running[step], rest, 0)


ALWAYS = Clock(0)
"""The clock of a policy that may run at every hour."""


def mask(schedule: str | Mapping[str, Sequence[int]]) -> NDArray[np.bool_]:
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
    >>> int(mask("1" * 160 + "0" * 8).sum())
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


def clock(allowed: NDArray[np.bool_], start: int, stop: int, tz: str) -> Clock:
    """Return the clock of a weekly mask for instants from `start` to `stop`.

    Parameters
    ----------
    allowed : numpy.ndarray of bool, shape (168,)
        From `mask`, in the wall time of `tz`.
    start, stop : int
        Microseconds since 1970 UTC.
    tz : str
        IANA name of the zone whose wall clock the mask is written in.

    Returns
    -------
    Clock
        Exact through changes of daylight saving time: such a day has 23 or 25 hours.
    """
    if allowed.all():
        return ALWAYS
    first = start // _STEP
    edges = np.arange(first, stop // _STEP + 2, dtype=np.int64) * _STEP
    wall = pd.DatetimeIndex(edges.view("M8[us]"), tz="UTC").tz_convert(tz)
    running = allowed[wall.day_of_week.to_numpy() * 24 + wall.hour.to_numpy()]
    readings = np.concatenate([[0], np.cumsum(running[:-1] * np.int64(_STEP))]).astype(np.int64)
    return Clock(int(first * _STEP), readings, running)
