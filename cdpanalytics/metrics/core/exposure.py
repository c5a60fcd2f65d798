"""How long each VM was exposed, span by span and period by period."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core import kernels
from cdpanalytics.metrics.core.arrays import SessionArrays, read
from cdpanalytics.metrics.core.clocks import Clocks, clocks
from cdpanalytics.metrics.core.coverage import Coverage, coverage
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.kernels import Flags, Integers, expand, parallel_map
from cdpanalytics.metrics.core.question import Question, Terms
from cdpanalytics.metrics.core.values import UNKNOWN, duration
from cdpanalytics.metrics.core.windows import Window, effective_as_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class Exposure:
    """Coverage with the scheduled lengths of their gaps, and their pieces by period.

    By span: `length` of the whole gap, `target`, and whether its VM is `retired` in it:
    then its pieces do not reach into the gap. By piece: the span it comes from, its
    period, its scheduled parts, and what was left out of it as never fetched or excluded.
    `uncovered` are the pieces to whose end cover, strictly taken, does not reach. By uncovered
    piece: how old the gap is where the piece begins and ends (0 while covered), and what
    of it is breached. `retired_pieces` are the spans and periods of retired gaps.
    """

    spans: Coverage
    length: Integers
    target: Integers
    retired: Flags
    piece_span: Integers
    piece_period: Integers
    piece_observed: Integers
    piece_exposed: Integers
    piece_unobserved: Integers
    piece_excluded: Integers
    uncovered: Integers
    age: Integers
    final_age: Integers
    breached: Integers
    breached_strict: Integers
    retired_pieces: tuple[Integers, Integers]


def arrays_of(sessions: pd.DataFrame, question: Question, terms: Terms) -> SessionArrays:
    """Return sessions as integers, as of the last instant up to which coverage is known."""
    known = facts(sessions)
    now = effective_as_of(sessions, known, question, terms.protects)
    return read(sessions, now, terms.policies, terms.unobserved, question.by, known)


def measure(
    arrays: SessionArrays, terms: Terms, window: Window, use: Callable[[Exposure], Result]
) -> list[Result]:
    """Return what `use` makes of the exposure of each range of spans, a core a range.

    Every length is a difference of two readings of the span's clock, so forbidden
    hours, maintenance and holes drop out by themselves. A breach begins when the clock
    has run `target` since cover ended; where no target is known, nothing is known to
    be breached. Coverage are cut at the window's edges.
    """
    spans = coverage(arrays, terms.protects)
    goal = terms.target_us
    clock = clocks(arrays, spans, terms)
    unmaintained = clock if terms.exclude is None else clocks(arrays, spans, terms, exclude=False)

    def part(first: int) -> Result:
        cut = slice(first, first + kernels.BLOCK)
        mine = spans.at(cut)
        target = arrays.rpo[mine.row] if goal is None else np.full(len(mine.row), goal)
        held = clock.at(cut)
        free = held if unmaintained is clock else unmaintained.at(cut)
        return use(_measure(arrays, terms, window, mine, target, held, free))

    return parallel_map(part, range(0, max(len(spans.row), 1), kernels.BLOCK))


def _measure(
    arrays: SessionArrays,
    terms: Terms,
    window: Window,
    spans: Coverage,
    goal: Integers,
    clock: Clocks,
    unmaintained: Clocks,
) -> Exposure:
    covered_until = np.minimum(spans.covered_until, spans.finish)
    length = clock.read(spans.finish) - clock.read(covered_until)
    retired = _is_retired(arrays, spans, length, terms.retire_after)
    retired_pieces = _cut(covered_until[retired], spans.finish[retired], window)
    held = replace(spans, finish=np.where(retired, covered_until, spans.finish))
    piece, period, start, stop = _cut(held.begin, held.finish, window)
    opened, closed = clock.read(start, piece), clock.read(stop, piece)
    exposed = closed - clock.read(np.clip(covered_until[piece], start, stop), piece)
    left_out = _left_out(clock, unmaintained, (piece, start, stop))
    uncovered = np.flatnonzero(spans.strict_until[piece] < stop)
    of = piece[uncovered]
    seen, known = (opened[uncovered], closed[uncovered]), goal[of] != UNKNOWN
    # A gap begun before the window still ages from its own beginning.
    ages = _ages(clock.read(spans.covered_until[of], of), *seen)
    strict_ages = _ages(clock.read(spans.strict_until[of], of), *seen)
    return Exposure(
        spans, length, goal, retired, piece, period, closed - opened, exposed, *left_out,
        uncovered, *ages, np.where(known, late(*ages, goal[of]), 0),
        np.where(known, late(*strict_ages, goal[of]), 0),
        (np.flatnonzero(retired)[retired_pieces[0]], retired_pieces[1]),
    )  # fmt: skip


def retirements(arrays: SessionArrays, terms: Terms) -> tuple[Integers, Integers]:
    """Return the VMs taken for no longer protected, in order, and since when each is."""
    if terms.retire_after is None:
        return np.array([], dtype=np.int64), np.array([], dtype=np.int64)
    spans = coverage(arrays, terms.protects)
    clock = clocks(arrays, spans, terms)
    length = clock.read(spans.finish) - clock.read(np.minimum(spans.covered_until, spans.finish))
    retired_pieces = _is_retired(arrays, spans, length, terms.retire_after)
    return spans.vm[retired_pieces], spans.covered_until[retired_pieces]


def _is_retired(
    arrays: SessionArrays, spans: Coverage, length: Integers, after: pd.Timedelta | None
) -> Flags:
    """Return which spans end in an open gap so long that the VM is taken for no longer protected."""
    if after is None:
        return np.zeros(len(length), dtype=bool)
    is_open = (spans.finish == arrays.as_of) & (spans.covered_until < arrays.as_of)
    return np.asarray(is_open & (length > 0) & (length >= duration(after)))


def late(age: Integers, final_age: Integers, goal: Integers | int) -> Integers:
    """Return how long a gap that grows from `age` to `final_age` is older than `goal`."""
    return np.asarray(np.maximum(final_age - np.maximum(age, goal), 0))


def _ages(uncovered: Integers, opened: Integers, closed: Integers) -> tuple[Integers, Integers]:
    return np.maximum(opened - uncovered, 0), np.maximum(closed - uncovered, 0)


def _left_out(
    clock: Clocks, unmaintained: Clocks, pieces: tuple[Integers, Integers, Integers]
) -> tuple[Integers, Integers]:
    """Return of each piece the scheduled time that was never fetched, and that was excluded."""
    piece, start, stop = pieces

    def run(by: Clocks) -> Integers:
        return by.read(stop, piece) - by.read(start, piece)

    fetched = replace(clock, blackouts=())
    nothing = np.zeros(len(piece), dtype=np.int64)
    unobserved = run(fetched) - run(clock) if clock.blackouts else nothing
    if unmaintained is clock:
        return unobserved, nothing
    return unobserved, run(replace(unmaintained, blackouts=())) - run(fetched)


def _cut(
    begin: Integers, finish: Integers, window: Window
) -> tuple[Integers, Integers, Integers, Integers]:
    """Cut stretches at the window's edges: position, period, start and stop of each piece."""
    edges = window.edges
    start, stop = np.maximum(begin, edges[0]), np.minimum(finish, edges[-1])
    inside = np.flatnonzero(stop > start)
    first, last = window.period(start[inside]), window.period(stop[inside], "left")
    if (first == last).all():
        return inside, first, start[inside], stop[inside]
    item, period = expand(first, last - first + 1)
    piece = inside[item]
    return (
        piece,
        period,
        np.maximum(start[piece], edges[period]),
        np.minimum(stop[piece], edges[period + 1]),
    )
