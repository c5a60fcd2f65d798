"""What is asked and on which terms: two frozen objects, parsed once from public arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics import timeparse
from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.schedule import week_mask
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    duration,
    instant,
    instants,
    length,
    microseconds,
    require,
)
from cdpanalytics.schema import KEYS, RESULTS

By: TypeAlias = str | Sequence[str]
"""One column or several; ``()`` for one row in all."""
Stretches: TypeAlias = pd.DataFrame | Iterable[tuple[object, object]]
Schedule: TypeAlias = Mapping[str, Sequence[int]] | str | Stretches

PROTECTS: Final = ("Success", "Warning")
"""Verdicts that protect by default; running sessions always do."""

FREQUENCIES: Final = {"h": "hour", "D": "day", "W": "week, from Monday", "MS": "month"}


class Unset(Enum):
    """The default of a term that was not passed, as opposed to passed as None."""

    UNSET = "not passed"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET

Table: TypeAlias = pd.DataFrame | Unset | None
Zone: TypeAlias = str | Unset
Zones: TypeAlias = str | Mapping[str, str] | Unset | None
Exclude: TypeAlias = Stretches | Literal[False] | Unset | None


@dataclass(frozen=True)
class Question:
    """What is asked: of which window, grouped by what, in which periods.

    Parameters
    ----------
    by : tuple of str
        Columns to group by, any columns of the frame; empty for one row in all.
    since, until : pandas.Timestamp, optional
        The window ``[since, until)``, UTC.
    as_of : pandas.Timestamp, optional
        Nothing after it is measured.
    freq : {"h", "D", "W", "MS"}, optional
        Periods to cut the window into.
    tz : str
        Zone of periods, and of times without an offset.
    unset : frozenset of str
        ``{"tz"}`` where `tz` was not passed.
    """

    by: tuple[str, ...] = ("policy", "vm")
    since: pd.Timestamp | None = None
    until: pd.Timestamp | None = None
    as_of: pd.Timestamp | None = None
    freq: str | None = None
    tz: str = "UTC"
    unset: frozenset[str] = frozenset()

    @classmethod
    def parse(
        cls,
        by: By = ("policy", "vm"),
        *,
        since: object = None,
        until: object = None,
        as_of: object = None,
        freq: str | None = None,
        tz: Zone = UNSET,
    ) -> Question:
        """Return the question in typed fields, from what a person writes.

        Raises
        ------
        InputError
            When one of them cannot be read.
        """
        zone = "UTC" if tz is UNSET else timeparse.zone(tz)
        if freq is not None and freq not in FREQUENCIES:
            known = ", ".join(f"{key} ({word})" for key, word in FREQUENCIES.items())
            raise InputError(f"freq={freq!r} is not known; use one of {known}")
        start, stop, now = (
            None if value is None else instant(value, name, zone)
            for name, value in (("since", since), ("until", until), ("as_of", as_of))
        )
        if start is not None and stop is not None and start >= stop:
            raise InputError(
                f"since={since} is not before until={until}; a window is [since, until)"
            )
        unset = frozenset({"tz"} if tz is UNSET else ())
        return cls(columns_of(by), start, stop, now, freq, zone, unset)


@dataclass(frozen=True, eq=False)
class Terms:
    """On which terms: what protects, against which target, and what is left out.

    Parameters
    ----------
    target : pandas.Timedelta, optional
        One RPO for all; None: each policy's own.
    protects : tuple of str
        Verdicts that protect. Running sessions always do.
    week : numpy.ndarray of bool, shape (168,), optional
        Allowed hours of the week; None: each policy's own schedule.
    closures : pandas.DataFrame, optional
        Maintenance windows given as `schedule`: every hour but those is scheduled.
    schedule_tz : str or mapping of str
        Zone in which schedules are written, or one per backup server (UTC for others).
    exclude : pandas.DataFrame, optional
        Maintenance windows, from `_maintenance_windows`.
    retire_after, grace : pandas.Timedelta, optional
        See `rpo_adherence`.
    policies, unobserved : pandas.DataFrame, optional
        Settings of policies, and holes of the archive.
    unset : frozenset of str
        Names of the terms that were not passed.
    """

    target: pd.Timedelta | None = None
    protects: tuple[str, ...] = PROTECTS
    week: NDArray[np.bool_] | None = None
    closures: pd.DataFrame | None = None
    schedule_tz: str | Mapping[str, str] = "UTC"
    exclude: pd.DataFrame | None = None
    retire_after: pd.Timedelta | None = None
    grace: pd.Timedelta | None = None
    policies: pd.DataFrame | None = None
    unobserved: pd.DataFrame | None = None
    unset: frozenset[str] = frozenset()

    @classmethod
    def parse(
        cls,
        target: object = None,
        *,
        protects: Collection[str] = PROTECTS,
        schedule: Schedule | None = None,
        schedule_tz: Zones = UNSET,
        exclude: Exclude = UNSET,
        retire_after: object = UNSET,
        grace: object = UNSET,
        policies: Table = UNSET,
        unobserved: Table = UNSET,
        tz: Zone = UNSET,
    ) -> Terms:
        """Return the terms in typed fields; `False` and None both mean none.

        Raises
        ------
        InputError
            When one of them cannot be read.
        """
        terms: dict[str, Any] = {
            "schedule_tz": schedule_tz, "exclude": exclude, "retire_after": retire_after,
            "grace": grace, "policies": policies, "unobserved": unobserved,
        }  # fmt: skip
        unset = frozenset(name for name, value in terms.items() if value is UNSET)
        given = {
            name: None if value is UNSET or value is False else value
            for name, value in terms.items()
        }
        is_week = isinstance(schedule, str | Mapping)
        zone = "UTC" if tz is UNSET else timeparse.zone(tz)
        return cls(
            target=None if target is None else length(target, "target"),
            protects=_verdicts_of(protects),
            week=week_mask(schedule) if is_week else None,  # type: ignore[arg-type]
            closures=None if schedule is None or is_week
            else _maintenance_windows(schedule, "schedule", zone),  # type: ignore[arg-type]
            schedule_tz=_zones(given["schedule_tz"]),
            exclude=None if given["exclude"] is None
            else _maintenance_windows(given["exclude"], "exclude", zone),
            retire_after=_optional_length(given["retire_after"], "retire_after"),
            grace=_optional_length(given["grace"], "grace"),
            policies=_table(given["policies"], "policies"),
            unobserved=_table(given["unobserved"], "unobserved"),
            unset=unset,
        )  # fmt: skip

    @property
    def target_us(self) -> int | None:
        """The target in microseconds."""
        return None if self.target is None else duration(self.target)

    def zone_of(self, server: str | None) -> str:
        """Return the zone in which the schedules of a backup server are written."""
        if isinstance(self.schedule_tz, str):
            return self.schedule_tz
        return "UTC" if server is None else self.schedule_tz.get(server, "UTC")


def columns_of(by: By) -> tuple[str, ...]:
    """Return `by` as a tuple of column names.

    Raises
    ------
    InputError
        When it names a column twice, or something that is not a name.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"by={names!r} is not a list of column names; use ('policy', 'vm')")
    if len(set(names)) < len(names):
        raise InputError(f"by={list(names)} names a column twice")
    return names


def _verdicts_of(protects: Collection[str]) -> tuple[str, ...]:
    """Return the verdicts that protect.

    Raises
    ------
    InputError
        When `protects` is text, or names something that is not a verdict.
    """
    if isinstance(protects, str) or not set(protects) <= set(RESULTS[1:]):
        raise InputError(
            f"protects={protects!r} names no verdicts; use some of {list(RESULTS[1:])}, as a list"
        )
    return tuple(protects)


def _maintenance_windows(stretches: Stretches, name: str, tz: str = "UTC") -> pd.DataFrame:
    """Read maintenance windows: `start`, `stop` (microseconds) and whom they concern.

    Parameters
    ----------
    stretches : pairs or pandas.DataFrame
        Pairs ``(start, end)``, or a frame with `start` and `end`, and `backup_server`,
        `policy` or `vm` where a window does not concern everyone (missing or empty: everyone).
    name : str
        The argument's name, for messages.
    tz : str
        Zone of times without an offset.

    Raises
    ------
    InputError
        When they are neither, or one does not begin before it ends.
    """
    if isinstance(stretches, pd.DataFrame):
        require(stretches, ("start", "end"), f" in {name}; it needs")
        start, stop = instants(stretches, "start"), instants(stretches, "end")
        frame = stretches.reset_index(drop=True)
    else:
        pairs = _pairs(stretches, name)
        start, stop = (
            np.array([microseconds(pair[end], name, tz) for pair in pairs], dtype=np.int64)
            for end in (0, 1)
        )
        frame = pd.DataFrame(index=pd.RangeIndex(len(pairs)))
    if (start == UNKNOWN).any() or (stop == UNKNOWN).any():
        raise InputError(f"{name} has a row without start or end; drop it, or fill it in")
    if (start >= stop).any():
        row = int(np.flatnonzero(start >= stop)[0])
        raise InputError(
            f"{name}: window {row} does not begin before it ends; a window is [start, end)"
        )
    whom = {
        key: frame[key].astype("str").mask(lambda names: names == "")
        if key in frame
        else pd.Series([None] * len(frame), dtype="str")
        for key in KEYS
    }
    return pd.DataFrame({"start": start, "stop": stop, **whom})


def _pairs(stretches: object, name: str) -> list[tuple[object, object]]:
    try:
        pairs = [tuple(pair) for pair in stretches]  # type: ignore[attr-defined]
    except TypeError:
        pairs = [()]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(
            f"{name}={stretches!r} is not a list of maintenance windows; "
            "write pairs like [('2026-10-03T20:00Z', '2026-10-04T02:00Z')], or a frame with start, end"
        )
    return pairs


def _zones(zones: str | Mapping[str, str] | None) -> str | Mapping[str, str]:
    if zones is None:
        return "UTC"
    if isinstance(zones, Mapping):
        return {server: timeparse.zone(zone) for server, zone in zones.items()}
    return timeparse.zone(zones)


def _optional_length(value: object, name: str) -> pd.Timedelta | None:
    return None if value is None else length(value, name)


def _table(value: object, name: str) -> pd.DataFrame | None:
    if value is not None and not isinstance(value, pd.DataFrame):
        raise InputError(f"{name}={value!r} is not a table; give a DataFrame, as the archive does")
    return value
