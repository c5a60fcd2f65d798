"""Read what a period needs, once, and keep the answers that were computed."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.explorer.state import ALL, NAMES, State
from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.timeparse import length_text

if TYPE_CHECKING:
    from cdpanalytics.archive import Archive
    from cdpanalytics.periods import Period
    from cdpanalytics.selection import Selection

_KEPT = 24
"""Analyses that are kept, so that a view is there at once when it is asked for again."""

_HELD = 3
"""Periods whose sessions are kept."""


class Reader:
    """The sessions of a Selection, by period: an archive is read only where it is looked at.

    Parameters
    ----------
    selection : Selection
        Its period and names are where the explorer begins; its terms are kept.
    """

    def __init__(self, selection: Selection) -> None:
        if selection.as_of is None:
            raise InputError("there are no sessions to explore; sync first, or select others")
        self.start = _first_state(selection)
        self.base = replace(
            selection, names=type(selection.names)(), period=None, since=None, until=None,
            client=None, memory=None, workers=None,
        )  # fmt: skip
        self._held: OrderedDict[tuple[object, object], Selection] = OrderedDict()
        self._kept: OrderedDict[str, Analysis] = OrderedDict()
        self._oldest: pd.Timestamp | None = None
        self._names: dict[int, dict[str, list[str]]] = {}

    @property
    def as_of(self) -> pd.Timestamp:
        """The newest instant there is data for."""
        assert self.base.as_of is not None  # noqa: S101 - there are sessions
        return self.base.as_of

    def oldest(self) -> pd.Timestamp:
        """Return the first day that can be asked for."""
        if self._oldest is None:
            if self.archive is None:
                self._oldest = self.base.start or self.as_of
            else:
                days = self.archive.ledger()
                self._oldest = self.as_of if days.empty else days["day"].min()
        return self._oldest

    @property
    def archive(self) -> Archive | None:
        """The archive that is read; None where the sessions are of a frame."""
        return getattr(self.base.source, "archive", None)

    @property
    def path(self) -> str:
        """Where the archive lies, so that another notebook in another folder finds it."""
        folder = self.base.source.folder
        return str(folder.resolve() if isinstance(folder, Path) else folder)

    @property
    def terms(self) -> dict[str, Any]:
        """The terms of the Selection that its estate file does not say, as arguments of `Archive.select`."""
        base, estate = self.base, self.base.context.estate
        given: dict[str, Any] = {
            name: value
            for name in ("target", "objective", "retire_after", "grace")
            if (value := getattr(base, name)) is not None and value != getattr(estate, name, None)
        }
        if base.tz != (estate.zone or "UTC"):
            given["tz"] = base.tz
        return base.context.arguments | {
            name: length_text(value) if isinstance(value, pd.Timedelta) else value
            for name, value in given.items()
        }

    def selection(self, state: State) -> Selection:
        """Return what a state asks, of its source: for other cells."""
        return state.of(self.base)

    def window(self, state: State) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """Return the instants of a state's period, inside what the source was read for."""
        since, until = self.selection(state.but(policy=(), vm=(), server=(), tag=())).window
        if self.archive is not None:
            return since, until
        first, last = self.base.window
        since = first if since is None or (first is not None and since < first) else since
        until = last if until is None or (last is not None and until > last) else until
        return since, until

    def held(self, state: State) -> Selection:
        """Return the sessions of a period, of all names: read now, unless they are held."""
        window = self.window(state)
        for key, selection in self._held.items():
            if _contains(key, window):
                self._held.move_to_end(key)
                return selection
        since, until = window
        if since is not None and until is not None and since >= until:
            raise InputError(
                f"the period {state.period!r} ends before it begins, or before the first session"
            )
        self._held[window] = self.base.during(since=since, until=until).pinned()
        while len(self._held) > _HELD:
            _, gone = self._held.popitem(last=False)
            self._names.pop(id(gone), None)
        return self._held[window]

    def analysis(self, state: State) -> Analysis:
        """Return the tables of a state's question; each is computed when it is first used."""
        key = state.but(view="Heat map", picked=(), beside="", by="policy", order="breached").text()
        if key not in self._kept:
            since, until = self.window(state)
            held = self.held(state)
            asked = state.but(period=ALL).of(held).during(since=since, until=until)
            self._kept[key] = Analysis(asked, sides=state.sides or None)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        self._kept[key].order = state.order
        return self._kept[key]

    def names(self, state: State) -> dict[str, list[str]]:
        """Return the names that can be chosen in a period, by what they are names of."""
        held = self.held(state)
        if id(held) not in self._names:
            rows = held._frame
            columns = {"policy": "policy", "vm": "vm", "server": "backup_server"}
            tags = {f"tag.{name}": name for name in self.base.context.names}
            self._names[id(held)] = {
                name: sorted(str(value) for value in rows[column].dropna().unique())
                for name, column in {**columns, **tags}.items()
                if column in rows
            }
        return self._names[id(held)]


def _contains(held: tuple[object, object], asked: tuple[object, object]) -> bool:
    since, until = held
    first, last = asked
    return (since is None or (first is not None and since <= first)) and (  # type: ignore[operator]
        until is None or (last is not None and until >= last)  # type: ignore[operator]
    )


def _first_state(selection: Selection) -> State:
    """Return the state that a Selection's own period and names are."""
    names = selection.names
    changes = {name: given for name in NAMES if (given := getattr(names, name, None)) is not None}
    state = State().but(tag=dict(names.tags), **changes)
    if selection.period is not None:
        return state.but(period=selection.period)
    if selection.since is None and selection.until is None:
        return state
    return state.but(period=_interval(selection.start, selection.stop, selection.tz))


def _interval(start: pd.Timestamp | None, stop: pd.Timestamp | None, tz: str) -> str:
    if start is None or stop is None or start >= stop:
        return ALL
    return interval(start, stop, tz)


def neighbour(period: Period | None, steps: int) -> str | None:
    """Return the month, quarter or year some steps after a calendar one; None of other periods.

    Their lengths differ: the month before October has 30 days.

    Examples
    --------
    >>> from cdpanalytics.periods import period
    >>> now = pd.Timestamp("2026-11-02", tz="UTC")
    >>> [neighbour(period(text, "UTC", now), -1) for text in ("last month", "2026-Q1", "2026-W41")]
    ['2026-09', '2025-Q4', None]
    """
    if period is None:
        return None
    for pattern, freq in ((r"\d{4}-\d{2}", "M"), (r"\d{4}-Q\d", "Q"), (r"\d{4}", "Y")):
        if re.fullmatch(pattern, period.explicit):
            other = pd.Period(period.explicit, freq) + steps
            return f"{other.year}-Q{other.quarter}" if freq == "Q" else str(other)
    return None


def interval(start: pd.Timestamp, stop: pd.Timestamp, tz: str) -> str:
    """Return a period of two instants as text: days where both are midnights of the zone.

    Examples
    --------
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> interval(day, day + pd.Timedelta("2D"), "UTC"), interval(day, day + pd.Timedelta("90min"), "UTC")
    ('2026-10-01/2026-10-03', '2026-10-01T00:00:00+00:00/2026-10-01T01:30:00+00:00')
    """
    edges = [edge.tz_convert(tz) for edge in (start, stop)]
    if all(edge == edge.normalize() for edge in edges):
        return "/".join(f"{edge:%Y-%m-%d}" for edge in edges)
    return "/".join(edge.isoformat(timespec="seconds") for edge in edges)
