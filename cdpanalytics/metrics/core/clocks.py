"""Which clock each tile goes by: its policy's schedule, maintenance windows, grace and blackouts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.coverage import Coverage
from cdpanalytics.metrics.core.kernels import LARGEST, Flags, Integers, expand
from cdpanalytics.metrics.core.question import Terms
from cdpanalytics.metrics.core.schedule import ALWAYS, Clock, clock, week_mask
from cdpanalytics.metrics.core.values import UNKNOWN
from cdpanalytics.schema import KEYS

Stretch = tuple[Integers, Integers]
"""A start and a stop per tile."""


@dataclass(frozen=True)
class Clocks:
    """One clock per tile: `of` is each tile's place in `distinct`; it stands still in `stretches`.

    The stretches of one tile are in order and disjoint; empty ones start where they stop.
    """

    of: Integers
    distinct: tuple[Clock, ...]
    stretches: tuple[Stretch, ...] = ()

    def without_stretches(self) -> Clocks:
        """Return the same clocks, running through the stretches."""
        return replace(self, stretches=())

    def read(self, at: Integers, tile: Integers | None = None) -> Integers:
        """Return what each tile's clock shows at its own instant.

        `tile` says whose clock each instant is read from; without it there is one per tile.
        """
        if len(self.distinct) == 1 and not self.stretches:
            return self.distinct[0].elapsed(at)
        of = self.of if tile is None else self.of[tile]
        readings = self._scheduled(at, of)
        for start, stop in self.stretches:
            if tile is not None:
                start, stop = start[tile], stop[tile]
            lost = self._scheduled(np.clip(at, start, stop), of) - self._scheduled(start, of)
            readings = readings - lost
        return readings

    def next_running(self, at: Integers, tile: Integers) -> Integers:
        """Return the first instants, at `at` or later, from which each tile's clock runs."""
        of = self.of[tile]
        instants = self._runs_from(at, of)
        for start, stop in self.stretches:
            inside = (start[tile] <= instants) & (instants < stop[tile])
            instants = np.where(inside, self._runs_from(stop[tile], of), instants)
        return instants

    def stands_since(self, at: Integers, tile: Integers) -> Integers:
        """Return since when each tile's clock has stood still at `at`; `at` itself where it runs."""
        of = self.of[tile]
        since = self._by_clock("reached", at, of)
        for start, stop in reversed(self.stretches):
            inside = (start[tile] < since) & (since <= stop[tile])
            since = np.where(inside, self._by_clock("reached", start[tile], of), since)
        return since

    def running(
        self, start: Integers, stop: Integers, tile: Integers
    ) -> tuple[Integers, Integers, Integers]:
        """Return the parts of stretches in which their tile's clock runs: stretch, start, stop."""
        item, first, last = self._scheduled_parts(start, stop, self.of[tile])
        for begin, end in self.stretches:
            stands, goes_on = begin[tile[item]], end[tile[item]]
            cut = (stands < goes_on) & (stands < last) & (first < goes_on)
            before = np.where(cut, np.minimum(last, stands), last)
            after = np.where(cut, np.maximum(first, goes_on), last)
            item = np.concatenate([item, item])
            first, last = np.concatenate([first, after]), np.concatenate([before, last])
            some = last > first
            item, first, last = item[some], first[some], last[some]
        return item, first, last

    def _scheduled_parts(
        self, start: Integers, stop: Integers, of: Integers
    ) -> tuple[Integers, Integers, Integers]:
        parts = []
        for kind in np.unique(of):
            mine, clock = np.flatnonzero(of == kind), self.distinct[kind]
            low = np.searchsorted(clock.edges, start[mine], side="right") - 1
            high = np.searchsorted(clock.edges, stop[mine], side="left")
            item, piece = expand(low, np.maximum(high - low, 0))
            item, piece = item[clock.running[piece]], piece[clock.running[piece]]
            edges = np.append(clock.edges, LARGEST)
            parts.append((
                mine[item], np.maximum(start[mine][item], edges[piece]),
                np.minimum(stop[mine][item], edges[piece + 1]),
            ))  # fmt: skip
        if not parts:
            return start, start, stop
        item, first, last = (np.concatenate(values) for values in zip(*parts, strict=True))
        return item, first, last

    def _scheduled(self, at: Integers, of: Integers) -> Integers:
        return self._by_clock("elapsed", at, of)

    def _runs_from(self, at: Integers, of: Integers) -> Integers:
        return self._by_clock("next_running", at, of)

    def _by_clock(self, method: str, at: Integers, of: Integers) -> Integers:
        if len(self.distinct) == 1:
            return np.asarray(getattr(self.distinct[0], method)(at))
        order = np.argsort(of, kind="stable")
        ends = np.searchsorted(of[order], np.arange(len(self.distinct) + 1))
        results = np.empty(len(at), dtype=np.int64)
        for kind, first, last in zip(self.distinct, ends[:-1], ends[1:], strict=True):
            mine = order[first:last]
            if len(mine):
                results[mine] = getattr(kind, method)(at[mine])
        return results


@dataclass(frozen=True, eq=False)
class ClockMaker:
    """Makes the clocks of tiles; a clock that several blocks of VMs share is made once.

    Parameters
    ----------
    arrays : SessionArrays
    terms : Terms
    until : int
        The last instant that a clock is asked about.
    """

    arrays: SessionArrays
    terms: Terms
    until: int
    _made: dict[tuple[int, ...], Clock] = field(default_factory=dict)

    def make(self, tiles: Coverage, exclude: bool = True) -> Clocks:
        """Return the clocks of tiles, without grace and blackouts; `exclude`: with exclusions."""
        closed = self._closures if exclude else self._schedule_closures
        if not len(tiles.row):
            return Clocks(np.array([], dtype=np.int64), (ALWAYS,))
        nothing = np.zeros(len(tiles.row), dtype=np.int64)
        columns = [
            self._week[tiles.row] if len(self._weeks) > 1 else nothing,
            self.arrays.keys["backup_server"].codes[tiles.row] + 1 if len(self._zones) > 1 else nothing,
        ]  # fmt: skip
        for key in KEYS if len(closed.pairs) else ():
            own, named = self.arrays.keys[key].codes[tiles.row], closed.names[key]
            columns.append(np.where(np.isin(own, named), own, -1) if len(named) else nothing - 1)
        kinds, of = _distinct(columns)
        clocks = tuple(self._clock((int(exclude), *map(int, kind)), closed) for kind in kinds)
        return Clocks(of, clocks)

    def _clock(self, kind: tuple[int, ...], closed: _Closures) -> Clock:
        if kind not in self._made:
            _, week, zone, *whom = kind
            start = int(self.arrays.created.min())
            self._made[kind] = clock(
                self._weeks[week], start, max(self.until, start), self._zones[zone], closed.of(whom)
            )
        return self._made[kind]

    def excluded_at(self, positions: Integers, end: Integers) -> Flags:
        """Return which positions (sessions or listed VMs) are excluded just before their `end`."""
        closed = _Closures.read(self.arrays, [self.terms.exclude])
        excluded = np.zeros(len(positions), dtype=bool)
        within = (closed.pairs[:, 0] < end.max(initial=UNKNOWN)) & (
            end.min(initial=LARGEST) <= closed.pairs[:, 1]
        )
        for number in np.flatnonzero(within):
            start, stop = closed.pairs[number]
            mine = (start < end) & (end <= stop)
            for key, codes in closed.whom.items():
                own = self.arrays.keys[key].codes[positions]
                mine &= (codes[number] == -1) | ((own == codes[number]) & (own >= 0))
            excluded |= mine
        return excluded

    @cached_property
    def _own_schedules(self) -> tuple[Integers, pd.Series]:
        """Each session's policy as a number, and the policies' schedules."""
        if self.terms.week is not None or self.terms.closures is not None:
            return np.zeros(len(self.arrays.created), dtype=np.int64), pd.Series([None])
        return self.arrays.setting("schedule")

    @cached_property
    def _distinct_schedules(self) -> tuple[Integers, pd.Index]:
        """Each policy's schedule as a number, -1 without one, and the schedules."""
        number, schedules = pd.factorize(self._own_schedules[1])
        return number.astype(np.int64), pd.Index(schedules)

    @cached_property
    def _weeks(self) -> list[np.ndarray]:
        given = np.ones(168, dtype=bool) if self.terms.week is None else self.terms.week
        return [given, *map(week_mask, self._distinct_schedules[1])]

    @cached_property
    def _week(self) -> Integers:
        return (self._distinct_schedules[0] + 1)[self._own_schedules[0]]

    @cached_property
    def _zones(self) -> list[str]:
        if isinstance(self.terms.schedule_tz, str):
            return [self.terms.schedule_tz]
        servers = self.arrays.keys["backup_server"].values
        return [self.terms.zone_of(None), *(self.terms.zone_of(name) for name in servers)]

    @cached_property
    def _schedule_closures(self) -> _Closures:
        return _Closures.read(self.arrays, [self.terms.closures])

    @cached_property
    def _closures(self) -> _Closures:
        return _Closures.read(self.arrays, [self.terms.closures, self.terms.exclude])


@dataclass(frozen=True, eq=False)
class _Closures:
    """Maintenance windows, with the codes of whom they concern: -1 is everyone, -2 no session's."""

    pairs: Integers
    whom: dict[str, Integers]
    names: dict[str, Integers]

    @classmethod
    def read(cls, arrays: SessionArrays, tables: list[pd.DataFrame | None]) -> _Closures:
        given = [table for table in tables if table is not None]
        if not given:
            nothing = np.array([], dtype=np.int64)
            return cls(nothing.reshape(0, 2), {}, dict.fromkeys(KEYS, nothing))
        closed = pd.concat(given, ignore_index=True)
        whom = {}
        for key in KEYS:
            place = arrays.keys[key].values.get_indexer(pd.Index(closed[key].fillna("")))
            codes = np.where(place < 0, -2, place)
            whom[key] = np.where(closed[key].isna(), -1, codes)
        names = {key: np.unique(codes[codes >= 0]) for key, codes in whom.items()}
        return cls(closed[["start", "stop"]].to_numpy(dtype=np.int64), whom, names)

    def of(self, codes: list[int]) -> Integers:
        """Return the windows that concern a server, policy and VM (-1: none that is named)."""
        concerned = np.ones(len(self.pairs), dtype=bool)
        for key, code in zip(self.whom, codes, strict=False):
            concerned &= (self.whom[key] == -1) | ((self.whom[key] == code) & (code >= 0))
        return self.pairs[concerned]


def _distinct(columns: list[Integers]) -> tuple[Integers, Integers]:
    """The distinct rows of some columns of codes, and which of them each row is."""
    varying = [column for column in columns if column.min() != column.max()]
    if not varying:
        return np.array([[column[0] for column in columns]]), np.zeros(len(columns[0]), np.int64)
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in varying:
        values, rank = np.unique(column, return_inverse=True)
        code = code * len(values) + rank
    _, first, of = np.unique(code, return_index=True, return_inverse=True)
    return np.stack([column[first] for column in columns], axis=1), of.astype(np.int64)
