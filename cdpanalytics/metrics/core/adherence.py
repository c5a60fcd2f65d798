"""The sums that adherence is made of: exposure, verdicts and targets by group and period."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Aggregates, Cells, join
from cdpanalytics.metrics.core.arrays import FAILED, NO_VERDICT, SUCCESS, WARNING, SessionArrays
from cdpanalytics.metrics.core.exposure import Exposure, measure
from cdpanalytics.metrics.core.kernels import LARGEST, Integers
from cdpanalytics.metrics.core.question import Terms
from cdpanalytics.metrics.core.values import UNKNOWN


def sum_exposure(
    arrays: SessionArrays,
    terms: Terms,
    cells: Cells,
    add: Callable[[Exposure, Cells, Aggregates], None],
) -> Aggregates:
    """Return the sums of exposure of all blocks of spans, to each of which `add` adds its own."""

    def part(exposure: Exposure) -> Aggregates:
        own = cells.among(exposure.spans.row)
        sums = _sum_block(exposure, own, terms)
        add(exposure, own, sums)
        return sums

    parts = measure(arrays, terms, cells.window, part)
    return join(cells, parts, [part.groups.index.to_numpy() for part in parts])


def _sum_block(exposure: Exposure, own: Cells, terms: Terms) -> Aggregates:
    """Sums by cell of one block, and the longest gap, UNKNOWN where there is none."""
    cells, size = own.of(exposure.piece_span, exposure.piece_period), own.size
    in_gap = np.flatnonzero(exposure.piece_exposed > 0)
    gap_cells, gap_spans = cells[in_gap], exposure.piece_span[in_gap]
    uncovered = cells[exposure.uncovered]
    whole, goal = exposure.length[gap_spans], exposure.target[exposure.piece_span]
    missed = (whole > goal[in_gap]) & (goal[in_gap] != UNKNOWN)
    without_target = (goal == UNKNOWN) & (exposure.piece_observed > 0)
    sums = {
        "observed": grouping.total(cells, exposure.piece_observed, size),
        "exposed": grouping.total(cells, exposure.piece_exposed, size),
        "breached": grouping.total(uncovered, exposure.breached, size),
        "strict": grouping.total(uncovered, exposure.breached_strict, size),
        "gaps": grouping.count(gap_cells, size),
        "breaches": grouping.count(gap_cells, size, missed),
        "without_target": grouping.count(cells, size, without_target),
    }
    worst = grouping.extreme(gap_cells, whole, size, np.maximum, UNKNOWN)
    return own.aggregates(
        sum=sums | _left_out(exposure, own, cells, terms), max={"worst_gap": worst}, min={}
    )


def _left_out(exposure: Exposure, own: Cells, cells: Integers, terms: Terms) -> dict[str, Integers]:
    """What is left out of observed time, of each kind that was asked for."""
    sums = {}
    if terms.unobserved is not None:
        sums["unobserved"] = grouping.total(cells, exposure.piece_unobserved, own.size)
    if terms.exclude is not None:
        sums["excluded"] = grouping.total(cells, exposure.piece_excluded, own.size)
    if terms.retire_after is not None:
        sums["retired"] = grouping.count(own.of(*exposure.retired_pieces), own.size)
    return sums


def count_verdicts(arrays: SessionArrays, cells: Cells) -> dict[str, Integers]:
    """Return the sessions that begin in each cell, in all and by verdict."""
    period = cells.window.place(arrays.created)
    places = cells.of(np.arange(len(period)), period)
    pairs = np.maximum(places * 4 + arrays.verdict, -1)
    pairs = grouping.count(pairs, cells.size * 4).reshape(cells.size, 4)
    names = {"success": SUCCESS, "warning": WARNING, "failed": FAILED, "unknown": NO_VERDICT}
    return {"sessions": pairs.sum(axis=1), **{name: pairs[:, at] for name, at in names.items()}}


def targets(
    arrays: SessionArrays, sums: Aggregates, cells: Cells, target: int | None
) -> dict[str, tuple[Integers, Integers]]:
    """Return the least and greatest target of each cell's sessions and spans, and of its group's sessions."""
    if target is not None:
        goal = np.full(cells.size, target)
        return {"rpo": (goal, goal), "rpo_ever": (goal, goal)}
    begun = cells.window.place(arrays.created)
    places = cells.of(np.arange(len(begun)), begun)
    low, high = extremes(places[places >= 0], arrays.rpo[places >= 0], cells.size)
    ever = extremes(cells.group.of[: len(arrays.rpo)], arrays.rpo, cells.group.count)
    return {
        "rpo": (np.minimum(low, sums.min["rpo"]), np.maximum(high, sums.max["rpo"])),
        "rpo_ever": (
            np.repeat(ever[0], cells.window.count),
            np.repeat(ever[1], cells.window.count),
        ),
    }


def extremes(places: Integers, values: Integers, size: int) -> tuple[Integers, Integers]:
    """Return the least and the greatest value of each cell."""
    low = grouping.extreme(places, values, size, np.minimum, LARGEST)
    return low, grouping.extreme(places, values, size, np.maximum, UNKNOWN)
