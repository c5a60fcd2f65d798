"""Exclusions: stretches left out on purpose, from tables and calendars, with reason and owner."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.estate import times
from cdpanalytics.estate.calendars import Calendar
from cdpanalytics.estate.tables import (
    Cells,
    Document,
    Finding,
    cells_of_document,
    cells_of_frame,
    folded,
    named_columns,
    place,
    read_document,
    text_of,
)
from cdpanalytics.estate.tags import HEADS
from cdpanalytics.patterns import Names
from cdpanalytics.schema import KEYS
from cdpanalytics.timeparse import zone

Source: TypeAlias = (
    str | os.PathLike[str] | Document | pd.DataFrame | Iterable[tuple[object, object]]
)

COLUMNS: Final = ("start", "end", *KEYS, "reason", "owner", "source", "line")
"""Columns of a table of exclusions, besides tags."""

_HEADS: Final[Mapping[str, tuple[str, ...]]] = {
    "start": ("start", "starttime", "begin", "beginn", "anfang", "from", "von", "startzeit", "since"),
    "end": ("end", "endtime", "ende", "endzeit", "until", "to", "bis", "stop"),
    **HEADS,
    "reason": ("reason", "grund", "anlass", "summary", "description", "beschreibung", "zweck"),
    "owner": ("owner", "verantwortlich", "verantwortlicher", "verantwortliche", "responsible"),
}  # fmt: skip
_REMARKS: Final = frozenset(
    ("id", "number", "nummer", "nr", "ticket", "change", "changenumber", "comment", "comments",
     "kommentar", "note", "notes", "notiz", "bemerkung", "remark", "remarks", "created",
     "source", "line", "duration", "dauer")
)  # fmt: skip
"""Heads of columns that say nothing about whom a window concerns."""

_INSTANT: Final = "datetime64[us, UTC]"


@dataclass(frozen=True)
class _Row:
    """A window of a table: when, whom it concerns (names or patterns by column), and why."""

    line: int
    start: pd.Timestamp
    end: pd.Timestamp
    names: Mapping[str, str]
    reason: str | None
    owner: str | None


@dataclass(frozen=True)
class _Table:
    """A table of windows; `tags` are its columns that may be tags."""

    source: str
    rows: tuple[_Row, ...]
    tags: tuple[str, ...] = ()

    def windows(self, since: pd.Timestamp, until: pd.Timestamp) -> Sequence[_Row]:
        return self.rows


@dataclass(frozen=True)
class _Events:
    """The windows of a calendar."""

    calendar: Calendar
    tags: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return self.calendar.source

    def windows(self, since: pd.Timestamp, until: pd.Timestamp) -> Sequence[_Row]:
        return [
            _Row(event.line, start, end, event.names, event.reason, event.owner)
            for start, end, event in self.calendar.occurrences(since, until)
        ]


@dataclass(frozen=True, eq=False)
class Exclusions:
    """Stretches that are left out on purpose: maintenance, moves, known outages.

    Parameters
    ----------
    source : path, Document, pandas.DataFrame, pairs, or a list of these
        A CSV file, a workbook (its first sheet), a Parquet file or a frame with `start`, `end`
        and optionally `backup_server`, `policy`, `vm` or tags (names or glob patterns; empty:
        everyone's; those of one row must all fit), `reason`, `owner`; heads may be German. Or
        an iCalendar file (``.ics``), whose rules recur in their own zone; an event concerns
        everyone unless lines of its description say ``vm: web-*``, ``policy: Gold`` or
        ``backup_server: vbr01``. Or pairs ``(start, end)``.
    day_first : bool, optional
        Whether ``01.11.2026`` is 1 November. Not needed where a date of the file has a day
        above 12, or is ISO 8601.
    columns : dict of str to str, optional
        The table's own heads: ``{"start": "From when"}``.
    tz : str
        Zone of times without an offset.
    ignore : sequence of str
        Columns that are neither names nor tags. Common ones (ticket, comment) need not be named.

    Raises
    ------
    InputError
        With the line number, if something cannot be read: a row without a start or an end, or
        that does not begin before it ends; a local time that comes twice or never; dates whose
        order is not clear.

    Examples
    --------
    >>> night = pd.DataFrame({"start": ["2026-11-01 22:00"], "end": ["2026-11-02 02:00"], "vm": ["web-*"]})
    >>> exclusions = Exclusions(night, tz="Europe/Berlin")
    >>> exclusions.table()[["start", "vm"]].iloc[0].tolist()
    [Timestamp('2026-11-01 21:00:00+0000', tz='UTC'), 'web-*']
    """

    source: Source | Sequence[Source]
    day_first: bool | None = None
    columns: Mapping[str, str] | None = None
    tz: str = "UTC"
    ignore: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tz", zone(self.tz))
        _ = self._parts  # read at once: what cannot be read is refused where it was named

    @property
    def files(self) -> dict[str, str]:
        """Name and SHA-256 of each file that was read."""
        return {each.name: each.sha256 for each in self._sources if isinstance(each, Document)}

    def table(
        self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return the windows that meet a period, with names as they were written.

        Parameters
        ----------
        since, until : pandas.Timestamp, optional
            Rules of calendars are expanded in it. Rules need both.

        Returns
        -------
        pandas.DataFrame
            ``start``, ``end`` (UTC), ``backup_server``, ``policy``, ``vm`` (patterns, missing
            for everyone), ``reason``, ``owner``, ``source``, ``line``, then the columns that
            may be tags.
        """
        tags = list(dict.fromkeys(tag for part in self._parts for tag in part.tags))
        rows = [
            {
                "start": row.start, "end": row.end, **dict.fromkeys((*KEYS, *tags)), **row.names,
                "reason": row.reason, "owner": row.owner, "source": part.source, "line": row.line,
            }
            for part, row in self._windows(since, until)
            if _meets(row, since, until)
        ]  # fmt: skip
        return _typed(pd.DataFrame(rows, columns=[*COLUMNS, *tags]), tags)

    def resolve(self, vms: pd.DataFrame, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
        """Return the windows of a period with exact names, as `exclude=` of metrics takes them.

        Parameters
        ----------
        vms : pandas.DataFrame
            The known combinations of `backup_server`, `policy` and `vm`, and their tags.
        since, until : pandas.Timestamp
            The period.

        Returns
        -------
        pandas.DataFrame
            ``start``, ``end``, ``backup_server``, ``policy``, ``vm`` (missing: everyone's),
            ``reason``, ``owner``, ``source``, ``line``. One row per window and name; a window
            that names nothing known has none, and `findings` says so.

        Raises
        ------
        InputError
            If a table has a column that is neither a name nor a tag of `vms`: left out in
            silence, its windows would concern everyone.
        """
        self._check_tags(vms)
        rows = [
            (part, row) for part, row in self._windows(since, until) if _meets(row, since, until)
        ]
        known = _Combinations(vms)
        pieces = [known.exact(row.names) for _, row in rows]
        repeats = np.array([len(piece) for piece in pieces], dtype=np.int64)
        facts = pd.DataFrame(
            [
                (row.start, row.end, row.reason, row.owner, part.source, row.line)
                for part, row in rows
            ],
            columns=["start", "end", "reason", "owner", "source", "line"],
        )
        names = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=list(KEYS))
        whole = facts.loc[facts.index.repeat(repeats)].reset_index(drop=True)
        return _typed(pd.concat([whole, names], axis=1)[list(COLUMNS)], [])

    def findings(
        self, vms: pd.DataFrame, since: pd.Timestamp, until: pd.Timestamp
    ) -> list[Finding]:
        """Return which rows name nothing known, and which lie outside the period.

        A table of a year has many rows outside of a month: of these only the first of each
        table is returned, with their number.

        Parameters
        ----------
        vms, since, until
            As in `resolve`.
        """
        self._check_tags(vms)
        known = _Combinations(vms)
        findings: dict[Finding, None] = {}
        outside: list[Finding] = []
        for part, row in self._windows(since, until):
            if not len(known.exact(row.names)):
                message = f"names nothing known: {_whom(row.names)}"
                findings[Finding(part.source, row.line, message)] = None
            elif not _meets(row, since, until):
                start, end = (edge.tz_convert(self.tz) for edge in (row.start, row.end))
                message = f"lies outside the period: {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} {self.tz}"
                outside.append(Finding(part.source, row.line, message))
        outside += self._silent_events(since, until)
        return [*findings, *_first_of_each_table(outside)]

    def _silent_events(self, since: pd.Timestamp, until: pd.Timestamp) -> list[Finding]:
        return [
            Finding(
                part.source, event.line, f"no window in the period: {event.reason or event.uid}"
            )
            for part in self._parts
            if isinstance(part, _Events)
            for event in part.calendar.events
            if event.line not in {row.line for row in part.windows(since, until)}
        ]

    def _windows(
        self, since: pd.Timestamp | None, until: pd.Timestamp | None
    ) -> Iterable[tuple[_Table | _Events, _Row]]:
        for part in self._parts:
            if isinstance(part, _Events) and (since is None or until is None):
                raise InputError(f"{part.source} has rules that recur: its windows need a period")
            start, end = since or pd.Timestamp(0, tz="UTC"), until or pd.Timestamp(0, tz="UTC")
            for row in part.windows(start, end):
                yield part, row

    def _check_tags(self, vms: pd.DataFrame) -> None:
        known = {str(column).casefold() for column in vms.columns}
        for part in self._parts:
            for tag in part.tags:
                if tag.casefold() not in known:
                    raise InputError(
                        f"{part.source}: column {tag!r} is neither a name nor a tag of this selection; "
                        f"pass tags= that has it, name it in columns=, or ignore=[{tag!r}]"
                    )

    @cached_property
    def _sources(self) -> list[Document | pd.DataFrame | list[Any]]:
        return [_opened(each) for each in _listed(self.source)]

    @cached_property
    def _parts(self) -> list[_Table | _Events]:
        return [self._part(each) for each in self._sources]

    def _part(self, source: Document | pd.DataFrame | list[Any]) -> _Table | _Events:
        if isinstance(source, Document):
            if _is_calendar(source):
                return _Events(Calendar.read(source, self.tz))
            return self._table(cells_of_document(source))
        if isinstance(source, pd.DataFrame):
            return self._table(cells_of_frame(source, "exclude"))
        return self._table(
            cells_of_frame(pd.DataFrame(source, columns=["start", "end"]), "exclude")
        )

    def _table(self, cells: Cells) -> _Table:
        named = named_columns(cells, _HEADS, self.columns)
        for column in ("start", "end"):
            if column not in named:
                has = ", ".join(cells.heads)
                raise InputError(
                    f"{cells.source}: no column {column} (has: {has}); name it in columns="
                )
        ignored = {folded(head) for head in self.ignore} | _REMARKS
        rest = [head for head in cells.heads if head not in named.values()]
        tags = tuple(head for head in rest if folded(head) not in ignored)
        return _Table(cells.source, tuple(self._rows(cells, named, tags)), tags)

    def _rows(self, cells: Cells, named: Mapping[str, str], tags: Sequence[str]) -> Iterable[_Row]:
        lines = [line for line, _ in cells.rows]
        edges = {edge: cells.column(named[edge]) for edge in ("start", "end")}
        for edge, column in edges.items():
            for line, cell in zip(lines, column, strict=True):
                if cell is None:
                    raise InputError(
                        f"{place(cells.source, line)}: {edge} is empty; every row needs both"
                    )
        both = [
            (line, cell)
            for line, *pair in zip(lines, *edges.values(), strict=True)
            for cell in pair
        ]
        order = times.day_order(both, cells.source, self.day_first)
        starts, ends = (
            times.instants([*zip(lines, column, strict=True)], cells.source, self.tz, order)
            for column in edges.values()
        )
        columns = {name: cells.column(head) for name, head in named.items()} | {
            tag: cells.column(tag) for tag in tags
        }
        for position, line in enumerate(lines):
            texts = {name: text_of(column[position]) for name, column in columns.items()}
            _check_order(
                cells.source, line, starts[position], ends[position], edges["end"][position]
            )
            names = {key: text for key in (*KEYS, *tags) if (text := texts.get(key)) is not None}
            yield _Row(
                line,
                starts[position],
                ends[position],
                names,
                texts.get("reason"),
                texts.get("owner"),
            )


def _check_order(
    source: str, line: int, start: pd.Timestamp, end: pd.Timestamp, written: object
) -> None:
    if start < end:
        return
    hint = (
        "; a date as end means its midnight, so write the day after"
        if start == end and times.is_date(written)
        else ""
    )
    what = "ends when it begins" if start == end else "ends before it begins"
    raise InputError(f"{place(source, line)}: this row {what}{hint}")


def _listed(source: Source | Sequence[Source]) -> list[Any]:
    """Return one source or several as a list; a list of pairs is one source."""
    if isinstance(source, (str, os.PathLike, Document, pd.DataFrame)):
        return [source]
    try:
        several = list(source)
    except TypeError:
        raise InputError(_not_exclusions(source)) from None
    if all(isinstance(each, (str, os.PathLike, Document, pd.DataFrame)) for each in several):
        return several
    if all(isinstance(each, (tuple, list)) and len(each) == 2 for each in several):
        return [several]
    raise InputError(_not_exclusions(source))


def _not_exclusions(source: object) -> str:
    return (
        f"{source!r} is not a list of exclusions; give a file, a frame with start and end, "
        "or pairs like [('2026-10-03T20:00Z', '2026-10-04T02:00Z')]"
    )


def _opened(source: Any) -> Document | pd.DataFrame | list[Any]:
    return read_document(source) if isinstance(source, (str, os.PathLike)) else source


def _is_calendar(document: Document) -> bool:
    suffix = PurePath(document.name).suffix.lower()
    return suffix in (".ics", ".ical", ".ifb") or document.data[:64].lstrip(
        b"\xef\xbb\xbf \r\n"
    ).upper().startswith(b"BEGIN:VCALENDAR")


def _meets(row: _Row, since: pd.Timestamp | None, until: pd.Timestamp | None) -> bool:
    return (since is None or row.end > since) and (until is None or row.start < until)


def _first_of_each_table(findings: Sequence[Finding]) -> Iterable[Finding]:
    """Yield the first finding of each table, with the number of the others."""
    tables: dict[str, dict[Finding, None]] = {}
    for finding in findings:
        tables.setdefault(finding.source, {})[finding] = None
    for first, *others in tables.values():
        more = f" (and {len(others):,} more outside it)" if others else ""
        yield replace(first, message=first.message + more)


def _whom(names: Mapping[str, str]) -> str:
    called = {"backup_server": "backup server", "vm": "VM"}
    return ", ".join(f"{called.get(key, key)} {text}" for key, text in names.items())


def _typed(table: pd.DataFrame, tags: Sequence[str]) -> pd.DataFrame:
    types: dict[str, str] = {"start": _INSTANT, "end": _INSTANT, "line": "int64"}
    types |= dict.fromkeys((*KEYS, *tags, "reason", "owner", "source"), "str")
    return table.astype(types)


class _Combinations:
    """The known combinations of names and tags, and the exact names that patterns mean."""

    def __init__(self, vms: pd.DataFrame) -> None:
        for key in KEYS:
            if key not in vms:
                has = ", ".join(map(str, vms.columns))
                raise InputError(
                    f"no column {key!r}; exclusions need {', '.join(KEYS)} (has: {has})"
                )
        self._vms = vms.reset_index(drop=True)
        self._columns = {str(column).casefold(): column for column in vms.columns}
        self._names: dict[str, Names] = {}
        self._exact: dict[tuple[tuple[str, str], ...], pd.DataFrame] = {}

    def exact(self, names: Mapping[str, str]) -> pd.DataFrame:
        """Return the distinct exact names that all patterns of a row fit; one empty row: everyone.

        Patterns that fit all known names mean everyone: one window instead of one per VM.
        """
        key = tuple(sorted(names.items()))
        if key not in self._exact:
            self._exact[key] = self._resolved(names)
        return self._exact[key]

    def _resolved(self, names: Mapping[str, str]) -> pd.DataFrame:
        positions = np.arange(len(self._vms))
        for column, pattern in names.items():
            positions = np.intersect1d(positions, self._column(column).positions(pattern))
        if not names or len(positions) == len(self._vms) > 0:
            return pd.DataFrame({key: [None] for key in KEYS}, dtype="object")
        # A tag belongs to a VM under a policy on a server, so all three say whom it means.
        shown = [key for key in KEYS if key in names] if names.keys() <= {*KEYS} else list(KEYS)
        rows = self._vms.loc[positions, shown].drop_duplicates()
        return rows.astype("object").where(rows.notna(), None).reindex(columns=list(KEYS))

    def _column(self, name: str) -> Names:
        if name not in self._names:
            self._names[name] = Names(self._vms[self._columns[name.casefold()]])
        return self._names[name]
