"""What a metric is made of: one entry of the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import frames
from cdpanalytics.metrics.core.members import Members
from cdpanalytics.metrics.core.question import UNSET, Question, Terms
from cdpanalytics.schema import VM

WINDOW = frozenset({"since", "until", "as_of"})
LEFT_OUT = frozenset({"unobserved", "exclude", "retire_after", "grace"})
_SCHEDULES = frozenset({"schedule", "schedule_tz"})
EXPOSURE = WINDOW | LEFT_OUT | _SCHEDULES | {"target", "tz", "protects", "policies"}
"""Arguments of every metric of exposure."""

_QUESTION = frozenset({"since", "until", "as_of", "freq", "tz"})
_TERMS = frozenset({
    "target", "protects", "schedule", "schedule_tz", "exclude", "retire_after", "grace",
    "policies", "unobserved",
})  # fmt: skip


@dataclass(frozen=True)
class MetricSpec:
    """One metric: its names, what it takes and reads, and the three functions it is made of.

    The metric of a whole frame is ``finalize(partial(frame))``; that of a fleet in ranges
    of VMs is ``finalize(combine([partial(range), ...]))``. Both run the same three functions.

    Parameters
    ----------
    name : str
        The function's name.
    command : str
        The name on the command line.
    summary : str
        What it says, in a line.
    function : callable
        The public function.
    partial : callable
        ``partial(rows, question, terms, **own)``: an intermediate result of some rows.
    combine : callable
        ``combine(parts)``: one intermediate result of several, of disjoint keys.
    finalize : callable
        ``finalize(whole, question, terms, **own)``: the table.
    columns : tuple of str
        Columns of `table` that it reads, besides those of `by`.
    table : {"sessions", "intervals"}
        The table it is asked of.
    key : tuple of str, optional
        Columns: all rows with equal values in them must be in one range. None: any one column of `by`.
    by : tuple of str, optional
        Default grouping; None: it takes no `by`.
    freq : str, optional
        Default of `freq` where it takes one.
    takes : frozenset of str
        Shared arguments that it takes besides `by`, of those of `Question` and `Terms`.
    own : mapping
        Its own arguments, by name, with their defaults (`REQUIRED`: none).
    looks_back : bool
        It asks about a period before the window as well.
    neighbours : bool
        It depends on sessions outside the window, which decide its edges.
    regroup : callable, optional
        ``regroup(part, by)``: the partial result by fewer columns, of one by VM and policy.
    part_of : pair, optional
        Another metric with the same shared arguments, and what takes this one's partial result
        out of its own: where both are asked for, one sweep serves them.
    whose : {"time", "session"}
        What a filter of policies applies to: the time that a policy's sessions protected, or
        the sessions of the policy themselves.
    """

    name: str
    command: str
    summary: str
    function: Callable[..., pd.DataFrame]
    partial: Callable[..., Any]
    combine: Callable[[Sequence[Any]], Any]
    finalize: Callable[..., pd.DataFrame]
    columns: tuple[str, ...]
    table: Literal["sessions", "intervals"] = "sessions"
    key: tuple[str, ...] | None = tuple(VM)
    by: tuple[str, ...] | None = ("policy", "vm")
    freq: str | None = None
    takes: frozenset[str] = EXPOSURE
    own: Mapping[str, object] = field(default_factory=dict)
    looks_back: bool = False
    neighbours: bool = True
    regroup: Callable[[Any, Sequence[str]], Any] | None = None
    part_of: tuple[str, Callable[[Any], Any]] | None = None
    whose: Literal["time", "session"] = "time"

    @property
    def window(self) -> bool:
        """Whether it takes a window."""
        return self.takes >= {"since", "until"}

    @property
    def arguments(self) -> frozenset[str]:
        """All arguments after the table, by name."""
        by = frozenset() if self.by is None else frozenset({"by"})
        return self.takes | self.own.keys() | by

    def evaluate(
        self, rows: pd.DataFrame, question: Question, terms: Terms, **own: object
    ) -> pd.DataFrame:
        """Return the metric of a whole frame."""
        whole = self.partial_of(rows, question, terms, None, False, **own)
        return self.finalize(whole, question, terms, **own)

    def partial_of(
        self,
        rows: pd.DataFrame,
        question: Question,
        terms: Terms,
        members: Members | None = None,
        complete: bool = False,
        **own: object,
    ) -> Any:
        """Return the partial result of some rows, restricted to the members asked about.

        `complete` rows come from an archive just now, so nothing of them can be lost.

        Raises
        ------
        InputError
            When the rows have lost part of what they were read with (`frames.check`).
        """
        if not complete:
            frames.check(rows, question, terms, self.takes, self.neighbours)
        if members is None:
            label = frames.facts(rows).members
            members = None if label is None else Members.of_label(label, rows)
        if members is None:
            return self.partial(rows, question, terms, **own)
        if self.whose == "session":
            return self.partial(rows[members.contains(rows)], question, terms, **own)
        by = question.by if self.by is None else members.widen(question.by)
        part = self.partial(rows, replace(question, by=by), terms, **own)
        return members.restrict(part, question.by)

    def parse(self, **arguments: Any) -> tuple[Question, Terms, dict[str, object]]:
        """Return the question, the terms and its own arguments, from the public function's.

        Raises
        ------
        InputError
            When it does not take one of them, lacks one, or one cannot be read.
        """
        for name in arguments.keys() - self.arguments:
            known = ", ".join(sorted(self.arguments))
            raise InputError(f"{self.name} takes no {name}=; it takes {known}")
        own = {name: arguments.get(name, default) for name, default in self.own.items()}
        for name, value in own.items():
            if value is REQUIRED:
                raise InputError(f"{self.name} needs {name}=")
        of_question = {n: v for n, v in arguments.items() if n in _QUESTION}
        if "freq" in self.takes:
            of_question.setdefault("freq", self.freq)
        by = arguments.get("by", self.by)
        question = Question.parse(() if by is None else by, **of_question)
        of_terms = {n: v for n, v in arguments.items() if n in _TERMS}
        return question, Terms.parse(**of_terms, tz=arguments.get("tz", UNSET)), own

    def cut_by(self, by: Sequence[str], columns: Sequence[str]) -> str | None:
        """Return which of `columns` rows can be cut by: a range of its values holds whole keys.

        None where all rows must be in one range.
        """
        needed = self.key if self.key is not None else by
        return next((column for column in columns if column in needed), None)


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()
"""Stands for the default of an argument that has none."""


def concat(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables that have no row in common as one, one below the other."""
    return pd.concat(tables, ignore_index=True)


def identity(table: pd.DataFrame, question: Question, terms: Terms, **own: object) -> pd.DataFrame:
    """Return a table that needs no finishing."""
    return table
