"""Which clock each span goes by: its policy's schedule, maintenance windows, and holes of the archive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.schedule import ALWAYS, Clock, clock, mask
from cdpanalytics.metrics.core.spans import (
    KEYS,
    UNKNOWN,
    Integers,
    Records,
    Spans,
    instants,
    microseconds,
    require,
    setting,
    unseen,
)

Stretches = pd.DataFrame | Iterable[tuple[object, object]]
Schedule = Mapping[str, Sequence[int]] | str | Stretches


@dataclass(frozen=True)
class Clocks:
    """A clock a span: `of` is each span's place among `kinds`; `dark` stops them for their VM.

    `dark` holds a start and a stop a span for each hole, in order and apart.
    """

    of: Integers
    kinds: tuple[Clock, ...]
    dark: tuple[tuple[Integers, Integers], ...] = ()

    def at(self, cut: slice) -> Clocks:
        """Return the clocks of a range of the spans."""
        dark = tuple((start[cut], stop[cut]) for start, stop in self.dark)
        return Clocks(self.of[cut], self.kinds, dark)

    def read(self, at: Integers, span: Integers | None = None) -> Integers:
        """Return what each span's clock shows at its own instant.

        `span` says whose clock each instant is read off; without it there is one a span.
        """
        if len(self.kinds) == 1 and not self.dark:
            return self.kinds[0].elapsed(at)
        of = self.of if span is None else self.of[span]
        readings = self._scheduled(at, of)
        for start, stop in self.dark:
            if span is not None:
                start, stop = start[span], stop[span]
            lost = self._scheduled(np.clip(at, start, stop), of) - self._scheduled(start, of)
            readings = readings - lost
        return readings

    def _scheduled(self, at: Integers, of: Integers) -> Integers:
        if len(self.kinds) == 1:
            return self.kinds[0].elapsed(at)
        order = np.argsort(of, kind="stable")
        ends = np.searchsorted(of[order], np.arange(len(self.kinds) + 1))
        readings = np.empty(len(at), dtype=np.int64)
        for kind, first, last in zip(self.kinds, ends[:-1], ends[1:], strict=True):
            mine = order[first:last]
            readings[mine] = kind.elapsed(at[mine])
        return readings


def clocks(
    records: Records,
    spans: Spans,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    policies: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
) -> Clocks:
    """Return the clocks of `spans`: of the given schedule, else of each policy's own.

    Parameters
    ----------
    records, spans
        From `read` and `sweep`.
    schedule : mapping, str or stretches, optional
        Weekday name to 24 zeros and ones, 168 digits, or maintenance windows: then
        every hour but those is scheduled.
    tz : str
        Zone whose wall clock schedules are written in.
    policies : pandas.DataFrame, optional
        Where policies' own schedules stand.
    exclude : stretches, optional
        Maintenance windows: pairs ``(start, end)``, or a frame with `start` and `end`,
        and `backup_server`, `policy` or `vm` where a window is not everyone's.

    Raises
    ------
    InputError
        When one of them cannot be read.
    """
    closed = [windows(exclude, "exclude")] if exclude is not None else []
    whole_week = isinstance(schedule, str | Mapping)
    if schedule is not None and not whole_week:
        closed.append(windows(schedule, "schedule"))  # type: ignore[arg-type]
    week = mask(schedule) if whole_week else None  # type: ignore[arg-type]
    dark = tuple(unseen(records, spans))
    if not len(spans.row):
        return Clocks(np.array([], dtype=np.int64), (ALWAYS,), dark)
    start, stop = int(spans.begin.min()), int(max(records.as_of, spans.reach.max()))
    weeks = [np.ones(168, dtype=bool) if week is None else week]
    of = np.zeros(len(spans.row), dtype=np.int64)
    if schedule is None:
        policy, own = setting(records, policies, "schedule")
        code, digits = pd.factorize(own, use_na_sentinel=True)
        of = (code.astype(np.int64) + 1)[policy[spans.row]]
        weeks += [mask(text) for text in digits]
    if not closed:
        return Clocks(of, tuple(clock(hours, start, stop, tz) for hours in weeks), dark)
    return _with_closures(records, spans, of, weeks, pd.concat(closed), (start, stop, tz), dark)


def _with_closures(
    records: Records,
    spans: Spans,
    of: Integers,
    weeks: list[np.ndarray],
    closed: pd.DataFrame,
    bounds: tuple[int, int, str],
    dark: tuple[tuple[Integers, Integers], ...],
) -> Clocks:
    """A clock for each week and each set of maintenance windows that some spans share."""
    codes = pd.DataFrame({"week": of})
    for key in KEYS:
        labels = records.labels[key]
        named = labels.names.astype("str").get_indexer(pd.Index(closed[key].dropna().unique()))
        own = labels.codes[spans.row]
        codes[key] = np.where(np.isin(own, named[named >= 0]), own, -1)
    kind = np.asarray(codes.groupby(list(codes), sort=False).ngroup(), dtype=np.int64)
    made = []
    for week, *whom in codes.drop_duplicates().itertuples(index=False, name=None):
        mine = np.ones(len(closed), dtype=bool)
        for key, code in zip(KEYS, whom, strict=True):
            name = records.labels[key].names[code] if code >= 0 else None
            mine &= (closed[key].isna() | (closed[key] == name)).to_numpy(dtype=bool)
        made.append(clock(weeks[week], *bounds, closed[["start", "stop"]].to_numpy()[mine]))
    return Clocks(kind, tuple(made), dark)


def windows(stretches: Stretches, name: str) -> pd.DataFrame:
    """Read maintenance windows: `start`, `stop` (microseconds) and whom they concern.

    Raises
    ------
    InputError
        When they are no pairs and no frame with `start` and `end`, or one does not
        begin before it ends.
    """
    if isinstance(stretches, pd.DataFrame):
        require(stretches, ("start", "end"), f" in {name}; it needs")
        start, stop = instants(stretches, "start"), instants(stretches, "end")
        frame = stretches.reset_index(drop=True)
    else:
        pairs = _pairs(stretches, name)
        start, stop = (
            np.array([microseconds(pair[end], name) for pair in pairs], dtype=np.int64)
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
        key: frame[key].astype("str")
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
            f"{name}={stretches!r} is no list of maintenance windows; "
            "write pairs like [('2026-10-03T20:00Z', '2026-10-04T02:00Z')], or a frame with start, end"
        )
    return pairs
