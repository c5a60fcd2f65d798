"""Where a Selection's sessions come from: an archive, or a frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pandas as pd

from cdpanalytics import periods, schema
from cdpanalytics.archive import Archive
from cdpanalytics.archive.tables import rows_by
from cdpanalytics.errors import InputError
from cdpanalytics.estate.context import Context
from cdpanalytics.execution.partition import PARTITION_KEYS
from cdpanalytics.execution.plan import Plan
from cdpanalytics.execution.plan import Source as RangeSource
from cdpanalytics.frames import mark
from cdpanalytics.metrics.core.arrays import Kept, as_of_frame
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.members import Members
from cdpanalytics.metrics.core.values import timestamp
from cdpanalytics.metrics.core.windows import resolve_window
from cdpanalytics.metrics.registry import MetricSpec, Question, Terms, spec_of
from cdpanalytics.narrowing import Names, narrowed
from cdpanalytics.patterns import Patterns
from cdpanalytics.ranges import Range
from cdpanalytics.schema import KEYS
from cdpanalytics.timeparse import Moment, instant

LAG = pd.Timedelta("15min")
"""How long the server's database lags behind: the newest fetch is as_of and this."""

_NEEDED = ("vm", "policy", "backup_server", "created")
"""Columns that are read whatever is asked: who and when."""

_WINDOWS_KEPT = 4
"""Of a frame: the window asked about, the one that incidents are looked for in, and those before."""

Window = tuple[pd.Timestamp | None, pd.Timestamp | None]
"""Start and end of a period; None where it has no bound."""


class Source(Protocol):
    """Where a Selection's sessions come from."""

    @property
    def complete(self) -> bool:
        """Whether its frames have all rows that were read: none can be lost."""

    @property
    def arrays(self) -> Kept | None:
        """Where arrays of its frames are kept; None where somebody could change the frames."""

    @property
    def as_of(self) -> pd.Timestamp | None:
        """The newest instant that the source has data for."""

    def as_of_by_source(self) -> dict[str, pd.Timestamp]:
        """Return the newest instant of the data of each server that was read."""

    def first_days(self) -> Mapping[str, pd.Timestamp]:
        """Return the first day that is or was held of each server, where that is known."""

    @property
    def fetched(self) -> pd.Timestamp:
        """The newest fetch of the oldest server: what "last month" counts from."""

    @property
    def counted_from(self) -> pd.Timestamp:
        """The instant that a length such as "30D" counts back from."""

    @property
    def folder(self) -> Path | str:
        """Where an estate file may lie."""

    def window(
        self, period: str | None, since: Moment | None, until: Moment | None, tz: str
    ) -> Window:
        """Return the instants that a period, or `since` and `until`, mean."""

    def frame(
        self, window: Window, names: Names, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return sessions of the window and their neighbours, marked; at least those named."""

    def plan(self, ask: Ask, window: Window, names: Names) -> Plan:
        """Return a metric to be computed by ranges of VMs."""

    def policies(self, names: Names) -> pd.DataFrame | None:
        """Return the settings of policies."""

    def holes(self) -> pd.DataFrame:
        """Return the stretches that were never fetched."""

    def intervals(self, window: Window) -> pd.DataFrame:
        """Return the restorable intervals of all VMs."""

    def provenance(self, window: Window) -> dict[str, Any]:
        """Return where the sessions come from."""


@dataclass(frozen=True, eq=False)
class Ask:
    """A metric with its question and terms, as `MetricSpec.parse` returns them."""

    spec: MetricSpec
    question: Question
    terms: Terms
    own: Mapping[str, object]

    def of(
        self, rows: pd.DataFrame, members: Members | None, complete: bool = False
    ) -> pd.DataFrame:
        """Return the metric of rows that are held."""
        return self.table(self.partial(rows, members, complete))

    def partial(self, rows: pd.DataFrame, members: Members | None, complete: bool) -> Any:
        """Return the partial result of rows that are held."""
        return self.spec.partial_of(rows, self.question, self.terms, members, complete, **self.own)

    def table(self, part: Any) -> pd.DataFrame:
        """Return the metric of a partial result."""
        return self.spec.finalize(part, self.question, self.terms, **self.own)

    def by(self, *columns: str) -> Ask:
        """Return the same by other columns."""
        return replace(self, question=replace(self.question, by=columns))

    def columns(self) -> tuple[str, ...]:
        """Return the columns that it reads."""
        return tuple(dict.fromkeys([*self.spec.columns, *self.question.by]))


@dataclass(frozen=True, eq=False)
class Tagged:
    """Rows of a range with the names and tags that the customer gives their VMs."""

    rows: RangeSource
    context: Context

    def cut(self, within: Range) -> Tagged:
        """Return the same for a worker that reads this range only."""
        return replace(self, rows=self.rows.cut(within))

    def read(self, within: Range) -> pd.DataFrame:
        """Return the rows of a range."""
        return self.context.apply(self.rows.read(within))


@dataclass(frozen=True)
class ArchiveSource:
    """The sessions of an archive."""

    archive: Archive
    complete: ClassVar[bool] = True
    arrays: ClassVar[Kept | None] = None

    def __repr__(self) -> str:
        return repr(self.archive)

    @property
    def folder(self) -> Path | str:
        """The archive's folder or URL."""
        return self.archive.path

    @cached_property
    def as_of(self) -> pd.Timestamp | None:
        """The newest instant that the archive has data for."""
        return max(self.as_of_by_source().values(), default=None)

    def as_of_by_source(self) -> dict[str, pd.Timestamp]:
        """Return the newest instant of the data of each server."""
        return self.archive.as_of_by_source()

    def first_days(self) -> Mapping[str, pd.Timestamp]:
        """Return the first day of each server that is or was held."""
        days = {name: self.archive.first_day(name) for name in self.as_of_by_source()}
        return {name: day for name, day in days.items() if day is not None}

    @cached_property
    def fetched(self) -> pd.Timestamp:
        """The newest fetch of the oldest server; this machine's clock for an empty archive."""
        oldest = min(self.as_of_by_source().values(), default=None)
        return pd.Timestamp.now("UTC") if oldest is None else oldest + LAG

    @property
    def counted_from(self) -> pd.Timestamp:
        """The newest instant of the data of the oldest server."""
        return self.fetched - LAG

    def window(
        self, period: str | None, since: Moment | None, until: Moment | None, tz: str
    ) -> Window:
        """Return the instants; lengths and "last month" count from the oldest source's newest fetch."""
        return window_of(period, since, until, tz, self.fetched, self.counted_from)

    def frame(
        self, window: Window, names: Names, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Read the columns of the VMs with these names, under all of their policies."""
        wanted = [
            name
            for name in schema.SESSIONS.names
            if columns is None or name in (*columns, *self._needed)
        ]
        rows = self.archive.read(
            *window, columns=wanted, vm=names.vm, server=names.server, neighbours=True
        )
        return mark(rows, *window, self.as_of, (), counted=False)

    def plan(self, ask: Ask, window: Window, names: Names) -> Plan:
        """Return the plan of a metric by ranges of names of the archive."""
        spec, question = ask.spec, ask.question
        table = schema.SESSIONS if spec.table == "sessions" else schema.JOURNAL
        needed = (*ask.columns(), *self._needed)
        if ask.terms.unobserved is not None:
            needed = (*needed, "as_of")
        scan, counts = self.archive.scan(
            *window, columns=[name for name in table.names if name in needed], table=spec.table,
            policy=names.policy, vm=names.vm, server=names.server, neighbours=spec.table == "sessions",
        )  # fmt: skip
        if spec.window and question.as_of is None and len(counts):
            question = replace(question, as_of=scan.as_of)
        if question.freq is not None and question.since is None and len(counts):
            # Each range must be cut into the same periods.
            first = counts["begun"].min()
            question = replace(question, since=min(first, question.as_of or first))
        column = spec.cut_by(question.by, PARTITION_KEYS)
        return Plan(spec, question, ask.terms, ask.own, scan, column, rows_by(counts, column))

    def policies(self, names: Names) -> pd.DataFrame:
        """Return the settings; of VMs that a policy names, only those with these names."""
        return narrowed(self.archive.policies(), names)

    def holes(self) -> pd.DataFrame:
        """Return the archive's holes."""
        return self._holes

    @cached_property
    def _holes(self) -> pd.DataFrame:
        return self.archive.holes()

    @property
    def _needed(self) -> tuple[str, ...]:
        # Where there are holes, a running session is known to run up to its own as_of only.
        return (*_NEEDED, "as_of") if len(self._holes) else _NEEDED

    def intervals(self, window: Window) -> pd.DataFrame:
        """Return the journal."""
        return self.archive.intervals(*window)

    def provenance(self, window: Window) -> dict[str, Any]:
        """Return sources, rows, files and their SHA-256."""
        return self.archive.provenance(*window)


def archive_plan(
    archive: Archive,
    metric: str | Callable[..., pd.DataFrame] | MetricSpec,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    policy: Patterns = None,
    vm: Patterns = None,
    server: Patterns = None,
    **arguments: Any,
) -> Plan:
    """Return the plan of a metric of an archive, with the metric's own arguments.

    Parameters
    ----------
    archive : Archive
    metric : str, callable or MetricSpec
        One that is registered.
    since, until, policy, vm, server
        As in `Archive.sessions`.
    **arguments
        What the metric takes.
    """
    spec = spec_of(metric)
    start, stop = archive.window(since, until)
    if spec.window:
        arguments.update(since=start, until=stop)
    ask = Ask(spec, *spec.parse(**arguments))
    window = (None if spec.looks_back else start, stop)
    return ArchiveSource(archive).plan(ask, window, Names(policy, vm, server))


@dataclass(frozen=True, eq=False)
class FrameSource:
    """The sessions of a DataFrame, with what is known of policies, holes and intervals."""

    sessions: pd.DataFrame
    settings: pd.DataFrame | None = None
    unobserved: pd.DataFrame | None = None
    journal: pd.DataFrame | None = None
    origin: Mapping[str, Any] | None = None
    began: Mapping[str, pd.Timestamp] = field(default_factory=dict)
    complete: bool = False

    def __repr__(self) -> str:
        return f"a DataFrame of {len(self.sessions):,} sessions"

    @property
    def folder(self) -> Path | str:
        """None: a frame reads an estate file only where one is named."""
        return ""

    @cached_property
    def as_of(self) -> pd.Timestamp | None:
        """What the frame says it was read as of, else its newest instant."""
        return (
            timestamp(as_of_frame(self.sessions, facts(self.sessions)))
            if len(self.sessions)
            else None
        )

    def as_of_by_source(self) -> dict[str, pd.Timestamp]:
        """Return the frame's as_of, for a frame does not say which servers it is of."""
        return {} if self.as_of is None else {"a DataFrame": self.as_of}

    def first_days(self) -> Mapping[str, pd.Timestamp]:
        """Return those of the archive that the frame was read from; a frame itself does not say."""
        return self.began

    @property
    def fetched(self) -> pd.Timestamp:
        """The frame's as_of; this machine's clock for a frame without rows."""
        return self.as_of or pd.Timestamp.now("UTC")

    @property
    def counted_from(self) -> pd.Timestamp:
        """The frame's as_of too."""
        return self.fetched

    def window(
        self, period: str | None, since: Moment | None, until: Moment | None, tz: str
    ) -> Window:
        """Return the instants; without any, the window that the frame was read for."""
        now = self.fetched
        if period is None and since is None and until is None:
            held = facts(self.sessions)
            return held.since, held.promised_until or held.until
        return window_of(period, since, until, tz, now, now)

    def frame(
        self, window: Window, names: Names, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return all rows: those outside the window are its neighbours.

        Raises
        ------
        InputError
            When the frame was read for a smaller window.
        """
        held = facts(self.sessions)
        resolve_window(held, Question(since=window[0], until=window[1]))
        if held.with_neighbours and window != (held.since, held.promised_until or held.until):
            return self._marked(window) if self.complete else self._mark(window)
        return self.sessions

    def _mark(self, window: Window) -> pd.DataFrame:
        return mark(self.sessions, *window, self.as_of, (), counted=not self.complete)

    @cached_property
    def _marked(self) -> Callable[[Window], pd.DataFrame]:
        """As `_mark`, of rows that nothing changes: those of the newest windows are kept."""
        return lru_cache(_WINDOWS_KEPT)(self._mark)

    @cached_property
    def arrays(self) -> Kept | None:
        """Kept for rows that were read for one question; a person's own frame may change."""
        return {} if self.complete else None

    def plan(self, ask: Ask, window: Window, names: Names) -> Plan:
        """Refuse: the frame is in memory already."""
        raise InputError("memory=, workers= and a cluster are for archives; this is a DataFrame")

    def policies(self, names: Names) -> pd.DataFrame | None:
        """Return the settings; of VMs that a policy names, only those with these names."""
        return None if self.settings is None else narrowed(self.settings, names)

    def holes(self) -> pd.DataFrame:
        """Return the holes; none unless they were given."""
        none = pd.DataFrame(columns=["start", "end"])
        return none if self.unobserved is None else self.unobserved

    def intervals(self, window: Window) -> pd.DataFrame:
        """Return the intervals that begin in the window; none unless they were given."""
        if self.journal is None:
            return pd.DataFrame(columns=[*KEYS, "start", "end", "rpo", "kind"])
        return self.journal[inside(self.journal["start"], window)]

    def provenance(self, window: Window) -> dict[str, Any]:
        """Return the origin as given, or that it is a frame."""
        rows = int(inside(self.sessions["created"], window).sum())
        return dict(
            self.origin or {"sources": ["a DataFrame"], "rows": rows, "files": 0, "sha256": "–"}
        )


def window_of(
    period: str | None, since: Moment | None, until: Moment | None, tz: str,
    fetched: pd.Timestamp, as_of: pd.Timestamp,
) -> Window:  # fmt: skip
    """Return the instants of a period (counted from `fetched`), or of `since` and `until` (from `as_of`).

    Raises
    ------
    InputError
        When one cannot be read, both are given, or `since` is not before `until`.
    """
    if period is not None:
        if since is not None or until is not None:
            raise InputError(f"period={period!r} goes without since= and until=; leave them out")
        asked = periods.period(period, tz, as_of if periods.is_length(period) else fetched)
        return asked.start, asked.end
    start, stop = (None if edge is None else instant(edge, as_of, tz) for edge in (since, until))
    if start is not None and stop is not None and start >= stop:
        raise InputError(f"since={since} is not before until={until}; a window is [since, until)")
    return start, stop


def inside(instants: pd.Series, window: Window) -> pd.Series:
    """Return which instants lie in a window."""
    since, until = window
    inside = pd.Series(True, index=instants.index)
    if since is not None:
        inside &= instants >= since
    return inside if until is None else inside & (instants < until)
