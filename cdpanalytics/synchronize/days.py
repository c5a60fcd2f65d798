"""Decide which days to fetch, and which stretches of them can no longer be known."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.intervals import subtract

Stretch = tuple[pd.Timestamp, pd.Timestamp]

DAY = pd.Timedelta("1D")
FIRST = "90D"
"""How far back the first sync of an archive reaches by default: the server's 13 weeks."""

_NEVER = pd.Timestamp("2200-01-01", tz="UTC")


@dataclass(frozen=True)
class Retention:
    """How far back a server remembers.

    Parameters
    ----------
    oldest_session : pandas.Timestamp
        Before it there is nothing to fetch.
    complete_since : pandas.Timestamp
        What began since then is all still there.
    overlaps_archive : bool
        The server still has what the archive saw last, so nothing between was forgotten.
    """

    oldest_session: pd.Timestamp
    complete_since: pd.Timestamp
    overlaps_archive: bool = True


_UNLIMITED = Retention(pd.Timestamp(0, tz="UTC"), pd.Timestamp(0, tz="UTC"))
"""The retention of a server that forgets nothing."""


@dataclass(frozen=True)
class Day:
    """A day to fetch: sessions created in ``[start, end)``.

    `missing` are stretches of it that can no longer be known.
    """

    start: pd.Timestamp
    end: pd.Timestamp
    missing: tuple[Stretch, ...] = ()


def plan(
    ledger: pd.DataFrame | None,
    now: pd.Timestamp,
    retention: Retention = _UNLIMITED,
    since: pd.Timestamp | None = None,
    *,
    full: bool = False,
    again: Collection[pd.Timestamp] = (),
) -> list[Day]:
    """Return the days to fetch, oldest first: never fetched, not settled, or to be fetched again.

    Days that end before the server's oldest session are left out: the server has no rows
    of them. Today is always fetched.

    Parameters
    ----------
    ledger : pandas.DataFrame or None
        ``day``, ``final``, ``as_of`` and ``missing`` of what the archive has of this
        source; None for nothing.
    now : pandas.Timestamp
        The server's clock; today's window ends there.
    retention : Retention
        How far back the server remembers. Default: everything.
    since : pandas.Timestamp, optional
        First day to have; days held that are not final are fetched however old.
    full : bool
        Fetch final days too.
    again : collection of pandas.Timestamp
        Days to fetch again although they are final (`reconcile`).

    Returns
    -------
    list of Day
        Each with its stretches that can no longer be known: those that were missing before
        and still are, and what lies between the end of what was known and the instant since
        which the server's memory is complete. Empty where the server's clock is before
        all of them.

    Examples
    --------
    >>> now = pd.Timestamp("2026-10-03 09:00", tz="UTC")
    >>> held = pd.DataFrame({"day": [now.normalize() - pd.Timedelta("1D")], "final": [True]})
    >>> [str(day.start.date()) for day in plan(held, now, since=now - pd.Timedelta("2D"))]
    ['2026-10-01', '2026-10-03']
    """
    held = pd.DataFrame({"day": [], "final": []}) if ledger is None else ledger
    past = [day for day in held["day"] if day < now]  # later days: a clock was ahead once
    first = min(past, default=first_default(now)) if since is None else since
    newest = max(past, default=now)
    rows = {row["day"]: row for row in held.to_dict("records")}
    settled = set() if full else set(held.loc[held["final"].astype(bool), "day"]) - set(again)
    wanted = []
    for day in sorted({*days(first.date(), now.date()), *(rows.keys() - settled)} - settled):
        forgotten = day + DAY <= retention.oldest_session and day != now.normalize()
        if day < now and not forgotten:
            follows = retention.overlaps_archive and (day in rows or day > newest)
            missing = _missing(day, rows.get(day), retention, follows)
            wanted.append(Day(day, min(day + DAY, now), missing))
    return wanted


def first_default(now: pd.Timestamp) -> pd.Timestamp:
    """Return the first day of the first sync, unless it is told another one."""
    return (now - pd.Timedelta(FIRST)).floor("D")


def days(start: date, stop: date) -> list[pd.Timestamp]:
    """Return each UTC midnight from `start` to `stop`, both included."""
    count = (stop - start).days + 1
    return [pd.Timestamp(start + timedelta(number), tz="UTC") for number in range(count)]


def check_since(since: pd.Timestamp, now: pd.Timestamp) -> pd.Timestamp:
    """Return `since`, which must lie before the server's clock."""
    if since >= now:
        raise InputError(
            f"since={since:%Y-%m-%d %H:%M} is not before the server's clock, {now:%Y-%m-%d %H:%M}"
        )
    return since


def _missing(
    day: pd.Timestamp, row: dict[Hashable, Any] | None, retention: Retention, follows: bool
) -> tuple[Stretch, ...]:
    """Return what of a day cannot be known; a hole that the server fills after all is gone."""
    complete = retention.complete_since
    missing = [] if row is None else subtract(row.get("missing", ()), [(complete, _NEVER)])
    known_until = day if row is None else min(row.get("as_of", day + DAY), day + DAY)
    known_again = min(complete, day + DAY)
    if known_until < known_again and not follows:
        missing.append((known_until, known_again))
    return tuple(missing)
