"""How long each VM was exposed, span by span and period by period; groups and verdicts are not its business."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.clocks import Clocks, Schedule, Stretches, clocks
from cdpanalytics.metrics.core.cores import RANGE, each
from cdpanalytics.metrics.core.spans import (
    PROTECTS,
    UNKNOWN,
    Flags,
    Integers,
    Records,
    Spans,
    read,
    span,
    spread,
    stamp,
    sweep,
)
from cdpanalytics.metrics.core.windows import Window, judged_until

Found = TypeVar("Found")


@dataclass(frozen=True)
class Terms:
    """What exposure is held against, as `rpo_adherence` is given it."""

    target: object = None
    schedule: Schedule | None = None
    tz: str = "UTC"
    protects: Collection[str] = PROTECTS
    policies: pd.DataFrame | None = None
    exclude: Stretches | None = None
    retire_after: object = None


@dataclass(frozen=True)
class Exposure:
    """Spans with the scheduled lengths of their gaps, and their pieces by period.

    By span: `length` of the whole gap, `target`, and whether its VM is `retired` in it:
    then its pieces do not reach into the gap. By piece: the span it comes from, its
    period, its scheduled parts, and what was left out of it as never fetched or excluded.
    `bare` are the pieces to whose end cover, strictly taken, does not reach. By bare
    piece: how old the gap is where the piece begins and ends (0 while covered), and what
    of it is breached. `gone` are the spans and periods of retired gaps.
    """

    spans: Spans
    length: Integers
    target: Integers
    retired: Flags
    piece_span: Integers
    piece_period: Integers
    piece_observed: Integers
    piece_exposed: Integers
    piece_unobserved: Integers
    piece_excluded: Integers
    bare: Integers
    age: Integers
    final_age: Integers
    breached: Integers
    breached_strict: Integers
    gone: tuple[Integers, Integers]


def records_of(
    sessions: pd.DataFrame,
    as_of: object,
    policies: pd.DataFrame | None,
    unobserved: pd.DataFrame | None,
    protects: Collection[str] = PROTECTS,
) -> Records:
    """Return sessions as integers, as of when it is known of each VM whether it was covered."""
    now = stamp(judged_until(sessions, as_of, protects))
    return read(sessions, now, policies, unobserved)


def measure(
    records: Records, terms: Terms, frame: Window, use: Callable[[Exposure], Found]
) -> list[Found]:
    """Return what `use` makes of the exposure of each range of spans, a core a range.

    Every length is a difference of two readings of the span's clock, so forbidden
    hours, maintenance and holes drop out by themselves. A breach begins when the clock
    has run `target` since cover ended; where no target is known, nothing is known to
    be breached. Spans are cut at the window's edges.
    """
    spans = sweep(records, terms.protects)
    goal = None if terms.target is None else span(terms.target, "target")
    clock = clocks(records, spans, terms.schedule, terms.tz, terms.policies, terms.exclude)
    unmaintained = (
        clock
        if terms.exclude is None
        else clocks(records, spans, terms.schedule, terms.tz, terms.policies)
    )

    def part(first: int) -> Found:
        cut = slice(first, first + RANGE)
        mine = spans.at(cut)
        target = records.rpo[mine.row] if goal is None else np.full(len(mine.row), goal)
        held = clock.at(cut)
        free = held if unmaintained is clock else unmaintained.at(cut)
        return use(_measure(records, terms, frame, mine, target, held, free))

    return each(part, range(0, max(len(spans.row), 1), RANGE))


def _measure(
    records: Records,
    terms: Terms,
    frame: Window,
    spans: Spans,
    goal: Integers,
    clock: Clocks,
    unmaintained: Clocks,
) -> Exposure:
    covered_until = np.minimum(spans.reach, spans.finish)
    length = clock.read(spans.finish) - clock.read(covered_until)
    retired = _is_retired(records, spans, length, terms.retire_after)
    gone = _cut(covered_until[retired], spans.finish[retired], frame)
    held = replace(spans, finish=np.where(retired, covered_until, spans.finish))
    piece, period, start, stop = _cut(held.begin, held.finish, frame)
    opened, closed = clock.read(start, piece), clock.read(stop, piece)
    exposed = closed - clock.read(np.clip(covered_until[piece], start, stop), piece)
    left_out = _left_out(clock, unmaintained, (piece, start, stop))
    bare = np.flatnonzero(spans.reach_strict[piece] < stop)
    of = piece[bare]
    seen, known = (opened[bare], closed[bare]), goal[of] != UNKNOWN
    # A gap begun before the window still ages from its own beginning.
    ages = _ages(clock.read(spans.reach[of], of), *seen)
    strict_ages = _ages(clock.read(spans.reach_strict[of], of), *seen)
    return Exposure(
        spans, length, goal, retired, piece, period, closed - opened, exposed, *left_out,
        bare, *ages, np.where(known, late(*ages, goal[of]), 0),
        np.where(known, late(*strict_ages, goal[of]), 0),
        (np.flatnonzero(retired)[gone[0]], gone[1]),
    )  # fmt: skip


def retirements(records: Records, terms: Terms) -> tuple[Integers, Integers]:
    """Return the VMs taken for no longer protected, in order, and since when each is."""
    if terms.retire_after is None:
        return np.array([], dtype=np.int64), np.array([], dtype=np.int64)
    spans = sweep(records, terms.protects)
    clock = clocks(records, spans, terms.schedule, terms.tz, terms.policies, terms.exclude)
    length = clock.read(spans.finish) - clock.read(np.minimum(spans.reach, spans.finish))
    gone = _is_retired(records, spans, length, terms.retire_after)
    return spans.vm[gone], spans.reach[gone]


def _is_retired(records: Records, spans: Spans, length: Integers, after: object) -> Flags:
    """Return which spans end in an open gap so long that the VM is taken for no longer protected."""
    if after is None:
        return np.zeros(len(length), dtype=bool)
    is_open = (spans.finish == records.as_of) & (spans.reach < records.as_of)
    return np.asarray(is_open & (length > 0) & (length >= span(after, "retire_after")))


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

    fetched = replace(clock, dark=())
    nothing = np.zeros(len(piece), dtype=np.int64)
    unobserved = run(fetched) - run(clock) if clock.dark else nothing
    if unmaintained is clock:
        return unobserved, nothing
    return unobserved, run(replace(unmaintained, dark=())) - run(fetched)


def _cut(
    begin: Integers, finish: Integers, frame: Window
) -> tuple[Integers, Integers, Integers, Integers]:
    """Cut stretches at the window's edges: position, period, start and stop of each piece."""
    edges = frame.edges
    start, stop = np.maximum(begin, edges[0]), np.minimum(finish, edges[-1])
    inside = np.flatnonzero(stop > start)
    first, last = frame.period(start[inside]), frame.period(stop[inside], "left")
    if (first == last).all():
        return inside, first, start[inside], stop[inside]
    item, period = spread(first, last - first + 1)
    piece = inside[item]
    return (
        piece,
        period,
        np.maximum(start[piece], edges[period]),
        np.minimum(stop[piece], edges[period + 1]),
    )
