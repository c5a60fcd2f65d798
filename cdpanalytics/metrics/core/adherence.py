"""The sums that adherence is made of: exposure, verdicts and targets by group and period."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Aggregates, Cells, join
from cdpanalytics.metrics.core.arrays import FAILED, NO_VERDICT, SUCCESS, WARNING, SessionArrays
from cdpanalytics.metrics.core.exposure import Block, Exposure, measure
from cdpanalytics.metrics.core.kernels import (
    LARGEST,
    Flags,
    Integers,
    compact_codes,
    last_before,
)
from cdpanalytics.metrics.core.question import Terms
from cdpanalytics.metrics.core.values import UNKNOWN


class BlockCells:
    """The cells of a block of VMs: its groups alone, known by number, and where its rows fall."""

    def __init__(self, cells: Cells, exposure: Exposure) -> None:
        self.own = cells.among(exposure.rows)
        self.size, self.count = self.own.size, cells.window.count
        self._group = self.own.group.of

    def of_tiles(self, exposure: Exposure, tile: Integers, period: Integers) -> Integers:
        """Return the cells of some tiles and periods."""
        return self._group[exposure.tiles.place[tile]] * self.count + period

    def of_places(self, place: Integers, period: Integers) -> Integers:
        """Return the cells of some positions within the block and periods."""
        return self._group[place] * self.count + period


def sum_exposure(
    arrays: SessionArrays,
    terms: Terms,
    cells: Cells,
    add: Callable[[Exposure, BlockCells, Aggregates], None],
) -> Aggregates:
    """Return the sums of exposure of all blocks of VMs, to each of which `add` adds its own."""

    def part(block: Block) -> Aggregates:
        places = BlockCells(cells, block.exposure)
        sums = places.own.aggregates(
            sum=_sums(block, places) | _count_vms(arrays, block.exposure, places, cells),
            max={"worst_gap": _worst_gap(block.exposure, places)}, min={},
        )  # fmt: skip
        add(block.exposure, places, sums)
        return sums

    parts = measure(arrays, terms, cells.window, part, cells.group.of)
    return join(cells, parts, [part.groups.index.to_numpy() for part in parts])


def _sums(block: Block, places: BlockCells) -> dict[str, Integers]:
    """Time and gaps by cell, and what was left out."""
    exposure, left_out, size = block.exposure, block.left_out, places.size
    owner, period = exposure.events()
    events = places.of_tiles(exposure, owner, period)
    goal = exposure.gaps.target[owner]
    missed = (exposure.gaps.length[owner] > goal) & (goal != UNKNOWN)
    times = _times(exposure, places)
    full = times if block.full is None else _times(block.full, places)
    retired, retired_time = left_out.retired
    every = places.of_tiles(exposure, left_out.pieces.tile, left_out.pieces.period)
    return times | {
        "gaps": grouping.count(events, size),
        "breaches": grouping.count(events, size, missed),
        "unobserved": grouping.total(every, left_out.unobserved, size),
        "excluded": grouping.total(every, left_out.excluded, size),
        "retired": grouping.total(
            places.of_tiles(exposure, retired.tile, retired.period), retired_time, size
        ),
        "observed_full": full["observed"], "breached_full": full["breached"],
        "without_target_full": full["without_target"],
    }  # fmt: skip


def _times(exposure: Exposure, places: BlockCells) -> dict[str, Integers]:
    pieces, size = exposure.pieces, places.size
    cells = places.of_tiles(exposure, pieces.tile, pieces.period)
    uncovered = cells[exposure.uncovered]
    without_target = (exposure.gaps.target[pieces.tile] == UNKNOWN) & (exposure.observed > 0)
    return {
        "observed": grouping.total(cells, exposure.observed, size),
        "exposed": grouping.total(cells, exposure.exposed, size),
        "breached": grouping.total(uncovered, exposure.breached, size),
        "strict": grouping.total(uncovered, exposure.breached_strict, size),
        "without_target": grouping.count(cells, size, without_target),
    }


def _worst_gap(exposure: Exposure, places: BlockCells) -> Integers:
    """The longest gap of each cell, whole; UNKNOWN where there is none."""
    owner, period = exposure.events()
    events = places.of_tiles(exposure, owner, period)
    length = exposure.gaps.length[owner]
    return grouping.extreme(events, length, places.size, np.maximum, UNKNOWN)


def _count_vms(
    arrays: SessionArrays, exposure: Exposure, places: BlockCells, cells: Cells
) -> dict[str, Integers]:
    """VMs of each cell: with observed time, an attempt or in a policy's list; and unprotected ones."""
    count, positions = len(arrays.created), exposure.rows
    vm, distinct = compact_codes(arrays.vm[positions])
    sessions = np.flatnonzero(positions < count)
    rows = positions[sessions]
    begun = cells.window.place(arrays.created[rows])
    attempt = arrays.attempt[rows] & (begun >= 0)
    listed = np.flatnonzero(positions >= count)
    seen = np.flatnonzero(exposure.observed > 0)
    tile, period = exposure.pieces.tile[seen], exposure.pieces.period[seen]
    found = [
        (exposure.tiles.place[tile], period),
        (sessions[attempt], begun[attempt]),
        (np.repeat(listed, places.count), np.tile(np.arange(places.count), len(listed))),
    ]
    place, period = (np.concatenate(values) for values in zip(*found, strict=True))
    code = places.of_places(place, period) * len(distinct) + vm[place]
    pairs = compact_codes(code)[1]
    cell, machine = pairs // max(len(distinct), 1), pairs % max(len(distinct), 1)
    unprotected = ~_protected(exposure, distinct[machine], cell % places.count, cells)
    return {
        "vms": grouping.count(cell, places.size),
        "unprotected": grouping.count(cell, places.size, unprotected),
    }


def _protected(exposure: Exposure, vm: Integers, period: Integers, cells: Cells) -> Flags:
    """Which VMs were protected at some instant of a period, by a span of any policy."""
    spans = exposure.tiles.at(~exposure.tiles.leading)
    if not len(spans.vm):
        return np.zeros(len(vm), dtype=bool)
    edges = cells.window.edges
    at = last_before(spans.vm, spans.begin, vm, edges[period + 1])
    safe = np.maximum(at, 0)
    mine = (at >= 0) & (spans.vm[safe] == vm)
    return np.asarray(mine & (spans.covered_until[safe] > edges[period]))


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
    """Return the least and greatest target of each cell's sessions and tiles, and of its group's sessions."""
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
