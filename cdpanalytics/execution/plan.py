"""A plan: which metric, of which rows, in which ranges; `local` and `dask` compute it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa

from cdpanalytics.execution.partition import listing, memory_size, ranges, rows_in
from cdpanalytics.metrics.core.members import Members
from cdpanalytics.metrics.registry import MetricSpec, Question, Terms
from cdpanalytics.parallel import threads
from cdpanalytics.ranges import FULL_RANGE, Range


class Source(Protocol):
    """Where the rows come from; it is sent to the workers."""

    def cut(self, within: Range) -> Source:
        """Return the same source for a worker that reads this range only."""

    def read(self, within: Range) -> pd.DataFrame:
        """Return the rows of a range."""


@dataclass(frozen=True, eq=False)
class Task:
    """What one worker computes: all it needs, and no more. Done twice, it gives the same."""

    spec: MetricSpec
    question: Question
    terms: Terms
    own: Mapping[str, Any]
    source: Source
    within: Range
    members: Members | None = None

    def compute(self) -> Any:
        """Return the partial result of the range."""
        rows = self.source.read(self.within)
        part = self.spec.partial_of(
            rows, self.question, self.terms, self.members, complete=True, **self.own
        )
        del rows
        pa.default_memory_pool().release_unused()
        return part

    def compute_single_threaded(self) -> Any:
        """Return the same, without threads of its own: its siblings use the other CPUs."""
        with threads(1):
            return self.compute()


@dataclass(frozen=True, eq=False)
class Plan:
    """A metric of some rows, and the ranges they are cut into.

    Parameters
    ----------
    spec, question, terms, own
        What to compute; `own` are the metric's own arguments.
    source : Source
        Where the rows come from.
    column : str or None
        The column that the rows can be cut by (`MetricSpec.cut_by`).
    counts : pandas.Series
        How many rows each name of `column` has, in order; see `ranges`.
    ranges : tuple of Range
        What each worker reads; everything unless `cut`.
    members : Members, optional
        Whose time is asked about, where that is not everything that is read.
    """

    spec: MetricSpec
    question: Question
    terms: Terms
    own: Mapping[str, Any]
    source: Source
    column: str | None
    counts: pd.Series
    ranges: tuple[Range, ...] = field(default=(FULL_RANGE,))
    members: Members | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.counts.sum())

    def cut(self, memory: str | int, least: int = 1) -> Plan:
        """Return the same plan in ranges that fit in `memory` each, `least` of them or a multiple.

        Raises
        ------
        InputError
            When a group of rows does not fit.
        """
        most = rows_in(memory_size(memory))
        what = (
            self.spec.name if self.spec.by is None else f"{self.spec.name}(by={self.question.by})"
        )
        cuts = ranges(self.column, self.counts, most, least, what)
        return replace(self, ranges=tuple(cuts))

    def tasks(self) -> Iterator[Task]:
        """Yield one task per range."""
        for within in self.ranges:
            terms = replace(self.terms, policies=listing(self.terms.policies, within))
            source = self.source.cut(within)
            yield Task(self.spec, self.question, terms, self.own, source, within, self.members)

    def result(self, parts: Sequence[Any]) -> pd.DataFrame:
        """Return the metric, from the partial results of all tasks in their order."""
        whole = parts[0] if len(parts) == 1 else self.spec.combine(parts)
        return self.spec.finalize(whole, self.question, self.terms, **self.own)
