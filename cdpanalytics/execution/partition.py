"""Metrics in parts: what each needs together, how a fleet is cut, who computes; files are not its business.

A metric declares its key, the columns whose rows it needs together, and the three
functions that it is made of: `part` of the rows of some keys, `merge` of parts, and
`finish`. The metric of a whole frame is ``finish(part(frame))``, that of an archive in
ranges ``finish(merge([part(range), ...]))``: there is no second definition. A `Plan` says
what to compute; `here`, `on_processes` and `cdpanalytics.execution.dask` are who computes it.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.ranges import FULL_RANGE, Range

Metric = Callable[..., pd.DataFrame]

BASE = 250_000_000
"""Bytes of a process that has all it needs and computes nothing."""

ROW = 600
"""Bytes at most a session, from its file to its part of a metric (`benchmarks/scale.py`)."""

WORTH = 2_000_000
"""Up to so many sessions one process is done sooner than several, which start and read more."""

FINER = ("vm", "policy", "backup_server")
"""Columns that a fleet can be cut by, the one with most names first."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Recipe:
    """What a metric is made of.

    `key` are the columns whose rows it needs together; None means those of its `by`,
    any one of which will do. `columns` are those of its table that it looks at. Of its
    arguments each function takes those that it names.
    """

    key: tuple[str, ...] | None
    columns: tuple[str, ...]
    part: Callable[..., Any]
    merge: Callable[..., Any]
    finish: Callable[..., pd.DataFrame]
    table: str = "sessions"
    looks_back: bool = False

    def cut_by(self, by: str | Sequence[str] = ()) -> str | None:
        """Return the column to cut by: a range of its names holds whole keys; None: nothing to cut."""
        names = self.key if self.key is not None else ([by] if isinstance(by, str) else by)
        return next((column for column in FINER if column in names), None)


_DECLARED: dict[Metric, Recipe] = {}


def declare(metric: Metric, recipe: Recipe) -> None:
    """Say what a metric is made of; it can then be computed in parts."""
    _DECLARED[metric] = recipe


def as_it_is(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that needs no finishing."""
    return table


def declared(metric: Metric) -> Recipe:
    """Return what a metric is made of.

    Raises
    ------
    InputError
        When it does not say.
    """
    found = _DECLARED.get(metric)
    if found is None:
        name = getattr(metric, "__name__", repr(metric))
        known = ", ".join(sorted(known.__name__ for known in _DECLARED))
        raise InputError(
            f"{name} declares no key, so nobody knows what it needs together; use one of {known}, "
            f"or give it the whole frame: {name}(archive.sessions())"
        )
    return found


def ranges(column: str | None, rows: pd.Series, most: int, least: int = 1) -> list[Range]:
    """Cut the names of a column into ranges of at most `most` rows each.

    Parameters
    ----------
    column : str or None
        None where the rows cannot be cut.
    rows : pandas.Series
        How many rows each name has, in order of the names; one without a name last.
    most : int
        Rows in a range, at most.
    least : int
        There shall be as many ranges, or a multiple, where there are names enough.

    Returns
    -------
    list of Range
        In order; together they hold every name there could be.

    Raises
    ------
    InputError
        When one name alone has more rows than `most`, or the rows cannot be cut.

    Examples
    --------
    >>> ranges("vm", pd.Series({"a": 4, "b": 4, "c": 4, "d": 4}), most=12)
    [Range(column='vm', first=None, stop='c'), Range(column='vm', first='c', stop=None)]
    """
    named = rows[rows.index.notna()]
    if len(named) and len(named) < len(rows):
        # Those without a name go with the last.
        rows = named.add(pd.Series({named.index[-1]: rows.sum() - named.sum()}), fill_value=0)
        rows = rows.astype("int64")
    total, longest = int(rows.sum()), int(rows.max()) if len(rows) else 0
    if longest > most or (column is None and total > most):
        whole = "all" if column is None else f"{column}={rows.idxmax()!r}"
        count = total if column is None else longest
        raise InputError(
            f"{count:,} sessions of {whole} are needed together and memory= holds {most:,}; a worker "
            f"wants {memory_for(count)} for that; give more, or a shorter window, or by= a finer key"
        )
    if column is None or not len(rows):
        return [Range(column)]
    # A name begins before its range is full, so ranges exceed the even share by at most one name.
    share = -(-total // max(1, most - longest))
    share = -(-share // least) * least  # so that as many workers end together
    place = (rows.cumsum() - rows).to_numpy() * share // total
    edges = rows.index[1:][np.diff(place) > 0]
    return [
        Range(column, first, stop)
        for first, stop in zip([None, *edges], [*edges, None], strict=True)
    ]


def size(memory: str | int) -> int:
    """Return an amount of memory in bytes.

    Examples
    --------
    >>> size("1GB"), size("512 MB"), size(10**6)
    (1000000000, 512000000, 1000000)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", str(memory).lower())
    if found is None or isinstance(memory, bool) or not float(found[1]):
        raise InputError(
            f"memory={memory!r} is not an amount of memory; write it like 500MB or 2GB"
        )
    return int(float(found[1]) * _UNITS[found[2]])


def memory_for(rows: int) -> str:
    """Return the memory a worker wants for so many rows, as it is written."""
    return f"{-(-(BASE + rows * ROW) // 10**6)}MB"


def rows_in(memory: int) -> int:
    """Return how many rows a worker of so many bytes can take at a time.

    Raises
    ------
    InputError
        When a process does not fit at all.
    """
    if memory <= BASE:
        raise InputError(
            f"{memory / 10**6:.0f} MB a worker is less than a process takes "
            f"({BASE / 10**6:.0f} MB); give more memory= or fewer workers="
        )
    return (memory - BASE) // ROW


class Source(Protocol):
    """Where the rows come from; it travels to the workers."""

    def cut(self, within: Range) -> Source:
        """Return the same for a worker that reads this range only."""

    def read(self, within: Range) -> pd.DataFrame:
        """Return the rows of a range."""


@dataclass(frozen=True)
class Task:
    """What one worker is told: all it needs, and no more. Done twice, it gives the same."""

    metric: Metric
    arguments: Mapping[str, Any]
    source: Source
    within: Range


@dataclass(frozen=True)
class Plan:
    """A metric of some rows, and the ranges they are cut into: what to compute, whoever does.

    `counts` are how many rows each name of `column` has, in order; see `ranges`.
    """

    metric: Metric
    arguments: Mapping[str, Any]
    source: Source
    column: str | None
    counts: pd.Series
    ranges: tuple[Range, ...] = (FULL_RANGE,)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.counts.sum())

    def cut(self, memory: str | int, least: int = 1) -> Plan:
        """Return the same in ranges that fit in `memory` each, `least` of them or a multiple.

        Raises
        ------
        InputError
            When rows that are needed together do not fit.
        """
        most = rows_in(size(memory))
        return replace(self, ranges=tuple(ranges(self.column, self.counts, most, least)))

    def tasks(self) -> Iterator[Task]:
        """Yield a task a range."""
        for within in self.ranges:
            arguments = dict(self.arguments)
            if arguments.get("policies") is not None:
                arguments["policies"] = listing(arguments["policies"], within)
            yield Task(self.metric, arguments, self.source.cut(within), within)

    def result(self, parts: Sequence[Any]) -> pd.DataFrame:
        """Return the metric, of the parts of all tasks in their order."""
        recipe = declared(self.metric)
        whole = parts[0] if len(parts) == 1 else _call(recipe.merge, parts, self.arguments)
        return _call(recipe.finish, whole, self.arguments)


def compute(task: Task) -> Any:
    """Return the part that a task asks for."""
    rows = task.source.read(task.within)
    found = _call(declared(task.metric).part, rows, task.arguments)
    del rows
    pa.default_memory_pool().release_unused()
    return found


def bound(
    metric: Metric, arguments: Sequence[object], named: Mapping[str, object]
) -> dict[str, Any]:
    """Return a metric's arguments by name, defaults and all, without its frame.

    Raises
    ------
    InputError
        When it does not take them.
    """
    signature = inspect.signature(metric)
    try:
        given = signature.bind(None, *arguments, **named)
    except TypeError as error:
        raise InputError(f"{metric.__name__}: {error}") from None
    given.apply_defaults()
    return dict(list(given.arguments.items())[1:])


def listing(policies: pd.DataFrame, within: Range) -> pd.DataFrame:
    """Return settings that list only the VMs of a range, so that each is listed in one of all.

    Examples
    --------
    >>> settings = pd.DataFrame({"policy": ["Gold"], "vms": [["a", "m", "z"]]})
    >>> listing(settings, Range("vm", "b", None))["vms"].tolist()
    [['m', 'z']]
    """
    if "vms" not in policies or within.whole or within.column is None:
        return policies
    lists = [list(names) if isinstance(names, list | tuple | np.ndarray) else names
             for names in policies["vms"]]  # fmt: skip
    if within.column == "vm":
        kept = [_held(names, within) for names in lists]
    else:
        column = policies.get(within.column, pd.Series([None] * len(policies), dtype="str"))
        kept = [
            names if held else []
            for names, held in zip(lists, within.contains(column), strict=True)
        ]
    return policies.assign(vms=pd.Series(kept, index=policies.index, dtype=object))


def _held(names: object, within: Range) -> object:
    if isinstance(names, list):
        return [name for name in names if not pd.isna(name) and within.overlaps(name, name)]
    return names if isinstance(names, str) and within.overlaps(names, names) else []


def _call(function: Callable[..., Any], first: object, arguments: Mapping[str, Any]) -> Any:
    """Call a function with the arguments that it names."""
    names = list(inspect.signature(function).parameters)[1:]
    return function(first, **{name: arguments[name] for name in names if name in arguments})


# -- who computes -----------------------------------------------------------------


def here(plan: Plan) -> Iterator[tuple[int, Any]]:
    """Yield each task's number and part, computed in this process."""
    return enumerate(map(compute, plan.tasks()))


def on_processes(plan: Plan, workers: int) -> Iterator[tuple[int, Any]]:
    """Yield each task's number and part as they come, computed on processes of their own.

    Raises
    ------
    CdpError
        When a process is killed.
    """
    # Threads of Arrow do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            asked = {pool.submit(compute, task): at for at, task in enumerate(plan.tasks())}
            for done in as_completed(asked):
                yield asked.pop(done), done.result()
        except BrokenProcessPool:
            raise CdpError(
                "a worker process was killed, as a system short of memory does; "
                "give a smaller memory= or fewer workers="
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def gathered(plan: Plan, parts: Iterator[tuple[int, Any]], progress: bool = True) -> pd.DataFrame:
    """Return the metric of parts that come in any order, with a bar of how far it is."""
    from tqdm.auto import tqdm

    found: dict[int, Any] = {}
    with tqdm(
        total=len(plan.ranges), desc=plan.metric.__name__, unit="part", disable=not progress
    ) as bar:
        for number, part in parts:
            found[number] = part
            bar.update()
    return plan.result([found[number] for number in range(len(plan.ranges))])


def crew(workers: int | None, memory: int) -> tuple[int, int]:
    """Return how many processes to use, and how much memory each may take.

    By default as many as there are CPUs for this process; fewer, which take longer, where
    there is not memory for so many. With several this process is one more.

    Examples
    --------
    >>> crew(4, size("4.25GB")), crew(4, size("1.25GB")), crew(1, size("1GB"))
    ((4, 1000000000), (2, 500000000), (1, 1000000000))
    """
    if workers is None:
        fit = hasattr(os, "sched_getaffinity")
        workers = len(os.sched_getaffinity(0)) if fit else os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int | np.integer) or workers < 1:
        raise InputError(f"workers={workers!r} is no positive whole number; None for one a CPU")
    count = min(int(workers), (memory - BASE) // (2 * BASE))
    return (count, (memory - BASE) // count) if count > 1 else (1, memory)
