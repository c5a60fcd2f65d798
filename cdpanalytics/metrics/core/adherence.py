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
    count_vms: bool = True,
) -> Aggregates:
    """Return the sums of exposure of all blocks of VMs, to each of which `add` adds its own."""

    def part(block: Block) -> Aggregates:
        places = BlockCells(cells, block.exposure)
        counts, slots = _count_vms(arrays, block.exposure, places, cells) if count_vms else ({}, {})
        sums = places.own.aggregates(
            sum=_sums(block, places) | counts,
            max={"worst_gap": _worst_gap(block.exposure, places)} | slots, min={},
        )  # fmt: skip
        add(block.exposure, places, sums)
        return sums

    parts = measure(arrays, terms, cells.window, part, cells.group.of)
    return join(cells, parts, [part.groups.index.to_numpy() for part in parts])


def _sums(block: Block, places: BlockCells) -> dict[str, Integers]:
    """Time and gaps by cell, and what was left out."""
    exposure, left_out, size = block.exposure, block.left_out, places.size
    owner, period = exposure.events
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
    owner, period = exposure.events
    events = places.of_tiles(exposure, owner, period)
    length = exposure.gaps.length[owner]
    return grouping.extreme(events, length, places.size, np.maximum, UNKNOWN)


def _count_vms(
    arrays: SessionArrays, exposure: Exposure, places: BlockCells, cells: Cells
) -> tuple[dict[str, Integers], dict[str, Integers]]:
    """Sums and maxima of VMs of each cell.

    VMs with observed time, an attempt, or a place in a policy's list; those of them that
    were unprotected; and the greatest total and mean session length of a VM.
    """
    count, positions = len(arrays.created), exposure.rows
    begun = cells.window.place(arrays.created[positions[positions < count]])
    attempt = np.flatnonzero(arrays.attempt[positions[: len(begun)]] & (begun >= 0))
    rows, listed = positions[attempt], np.arange(len(begun), len(positions))
    # The sessions of a VM lie side by side, and so do its tiles: most repetitions do as well.
    attempts, of = _runs(places.of_places(attempt, begun[attempt]), arrays.vm[rows])
    seen = np.flatnonzero(exposure.observed > 0)
    tile = exposure.pieces.tile[seen]
    observed, _ = _runs(
        places.of_tiles(exposure, tile, exposure.pieces.period[seen]), exposure.tiles.vm[tile]
    )
    named = (
        places.of_places(np.repeat(listed, places.count), np.tile(np.arange(places.count), len(listed))),
        np.repeat(arrays.vm[positions[listed]], places.count),
    )  # fmt: skip
    cell, vm = (np.concatenate(each) for each in zip(attempts, observed, named, strict=True))
    machine, distinct = compact_codes(vm)
    many = max(len(distinct), 1)
    rank, pairs = compact_codes(cell * many + machine)
    cell, vm = pairs // many, distinct[pairs % many]
    unprotected = ~_protected(exposure, vm, cell % places.count, cells)
    sums = {
        "vms": grouping.count(cell, places.size),
        "unprotected": grouping.count(cell, places.size, unprotected),
    }
    judged = arrays.verdict[rows] != NO_VERDICT
    lasted = rows[judged]
    length = arrays.ended[lasted] - arrays.created[lasted]
    return sums, _slots(rank[of[judged]], length, cell, places.size)


def _runs(cell: Integers, vm: Integers) -> tuple[tuple[Integers, Integers], Integers]:
    """The cell and the VM of each run of pairs that are alike, and the run of each pair."""
    new = np.ones(len(cell), dtype=bool)
    new[1:] = (cell[1:] != cell[:-1]) | (vm[1:] != vm[:-1])
    return (cell[new], vm[new]), np.cumsum(new) - 1


def _slots(pair: Integers, length: Integers, cell: Integers, size: int) -> dict[str, Integers]:
    """The greatest total and mean session length of a VM in each cell (`uncertainty.count_slots`)."""
    total = grouping.total(pair, length, max(len(cell), 1))[: len(cell)]
    mean = total // np.maximum(grouping.count(pair, len(cell)), 1)
    return {
        "slot_total": grouping.extreme(cell, total, size, np.maximum, 0),
        "slot_mean": grouping.extreme(cell, mean, size, np.maximum, 0),
    }


def _protected(exposure: Exposure, vm: Integers, period: Integers, cells: Cells) -> Flags:
    """Which VMs were protected at some instant of a period, by a span of any policy."""
    tiles, edges = exposure.tiles, cells.window.edges
    if not len(tiles.vm):
        return np.zeros(len(vm), dtype=bool)
    # A leading tile lies before all protecting spans of its VM, and covers nothing.
    at = last_before(tiles.vm, tiles.begin, vm, edges[period + 1])
    safe = np.maximum(at, 0)
    mine = (at >= 0) & (tiles.vm[safe] == vm) & ~tiles.leading[safe]
    return np.asarray(mine & (tiles.covered_until[safe] > edges[period]))


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
