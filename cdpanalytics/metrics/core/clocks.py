"""Which clock each span goes by: its policy's schedule, maintenance windows, and holes of the archive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.arrays import SessionArrays, setting
from cdpanalytics.metrics.core.codes import KEYS
from cdpanalytics.metrics.core.coverage import Coverage, blackouts
from cdpanalytics.metrics.core.kernels import Integers
from cdpanalytics.metrics.core.question import Terms
from cdpanalytics.metrics.core.schedule import ALWAYS, Clock, clock, week_mask


@dataclass(frozen=True)
class Clocks:
    """One clock per span: `of` is each span's place in `distinct`; `blackouts` stop it for its VM.

    `blackouts` hold a start and a stop per span for each hole, in order and disjoint.
    """

    of: Integers
    distinct: tuple[Clock, ...]
    blackouts: tuple[tuple[Integers, Integers], ...] = ()

    def at(self, cut: slice) -> Clocks:
        """Return the clocks of a range of the spans."""
        stretches = tuple((start[cut], stop[cut]) for start, stop in self.blackouts)
        return Clocks(self.of[cut], self.distinct, stretches)

    def read(self, at: Integers, span: Integers | None = None) -> Integers:
        """Return what each span's clock shows at its own instant.

        `span` says whose clock each instant is read from; without it there is one per span.
        """
        if len(self.distinct) == 1 and not self.blackouts:
            return self.distinct[0].elapsed(at)
        of = self.of if span is None else self.of[span]
        readings = self._scheduled(at, of)
        for start, stop in self.blackouts:
            if span is not None:
                start, stop = start[span], stop[span]
            lost = self._scheduled(np.clip(at, start, stop), of) - self._scheduled(start, of)
            readings = readings - lost
        return readings

    def _scheduled(self, at: Integers, of: Integers) -> Integers:
        if len(self.distinct) == 1:
            return self.distinct[0].elapsed(at)
        order = np.argsort(of, kind="stable")
        ends = np.searchsorted(of[order], np.arange(len(self.distinct) + 1))
        readings = np.empty(len(at), dtype=np.int64)
        for kind, first, last in zip(self.distinct, ends[:-1], ends[1:], strict=True):
            mine = order[first:last]
            readings[mine] = kind.elapsed(at[mine])
        return readings


def clocks(arrays: SessionArrays, spans: Coverage, terms: Terms, exclude: bool = True) -> Clocks:
    """Return the clocks of `spans`: of the given schedule, else of each policy's own.

    Without `exclude` the exclusions of `terms` are disregarded.

    Raises
    ------
    InputError
        When a policy's schedule cannot be read.
    """
    closed = [terms.exclude if exclude else None, terms.closures]
    closed = [table for table in closed if table is not None]
    stretches = tuple(blackouts(arrays, spans))
    if not len(spans.row):
        return Clocks(np.array([], dtype=np.int64), (ALWAYS,), stretches)
    start, stop = int(spans.begin.min()), int(max(arrays.as_of, spans.covered_until.max()))
    weeks = [np.ones(168, dtype=bool) if terms.week is None else terms.week]
    of = np.zeros(len(spans.row), dtype=np.int64)
    if terms.week is None and terms.closures is None:
        policy, schedules = setting(arrays, terms.policies, "schedule")
        code, digits = pd.factorize(schedules, use_na_sentinel=True)
        of = (code.astype(np.int64) + 1)[policy[spans.row]]
        weeks += [week_mask(text) for text in digits]
    kinds = {"week": of, "zone": np.zeros(len(of), dtype=np.int64)}
    zones = [terms.zone_of(None)]
    if not isinstance(terms.schedule_tz, str):
        servers = arrays.keys["backup_server"]
        zones += [terms.zone_of(name) for name in servers.values]
        kinds["zone"] = servers.codes[spans.row] + 1
    if not closed:
        return _distinct(kinds, weeks, zones, (start, stop), stretches)
    return _with_closures(
        arrays, spans, kinds, (weeks, zones), pd.concat(closed), (start, stop), stretches
    )


def _distinct(
    kinds: dict[str, Integers],
    weeks: list[np.ndarray],
    zones: list[str],
    bounds: tuple[int, int],
    stretches: tuple[tuple[Integers, Integers], ...],
) -> Clocks:
    """One clock per week and zone that some spans share."""
    pair = kinds["week"] * len(zones) + kinds["zone"]
    values, of = np.unique(pair, return_inverse=True)
    made = tuple(
        clock(weeks[value // len(zones)], *bounds, zones[value % len(zones)]) for value in values
    )
    return Clocks(of.astype(np.int64), made, stretches)


def _with_closures(
    arrays: SessionArrays,
    spans: Coverage,
    kinds: dict[str, Integers],
    weeks_and_zones: tuple[list[np.ndarray], list[str]],
    closed: pd.DataFrame,
    bounds: tuple[int, int],
    stretches: tuple[tuple[Integers, Integers], ...],
) -> Clocks:
    """One clock per week, zone and set of maintenance windows that some spans share."""
    weeks, zones = weeks_and_zones
    codes = pd.DataFrame(kinds)
    for key in KEYS:
        names = arrays.keys[key]
        named = names.values.get_indexer(pd.Index(closed[key].dropna().unique()))
        own = names.codes[spans.row]
        codes[key] = np.where(np.isin(own, named[named >= 0]), own, -1)
    kind = np.asarray(codes.groupby(list(codes), sort=False).ngroup(), dtype=np.int64)
    made = []
    for week, zone, *whom in codes.drop_duplicates().itertuples(index=False, name=None):
        mine = np.ones(len(closed), dtype=bool)
        for key, code in zip(KEYS, whom, strict=True):
            name = arrays.keys[key].values[code] if code >= 0 else None
            mine &= (closed[key].isna() | (closed[key] == name)).to_numpy(dtype=bool)
        pairs = closed[["start", "stop"]].to_numpy()[mine]
        made.append(clock(weeks[week], *bounds, zones[zone], pairs))
    return Clocks(kind, tuple(made), stretches)
