"""How long each VM was exposed, tile by tile and period by period."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.arrays import SessionArrays, as_of_frame, read
from cdpanalytics.metrics.core.blackouts import blackouts
from cdpanalytics.metrics.core.clocks import ClockMaker, Clocks, Stretch
from cdpanalytics.metrics.core.coverage import Coverage, sweep, vm_blocks
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.kernels import LARGEST, Integers, expand
from cdpanalytics.metrics.core.question import Question, Terms
from cdpanalytics.metrics.core.values import UNKNOWN, duration
from cdpanalytics.metrics.core.windows import (
    Window,
    effective_as_of,
    policies_then,
    resolve_window,
)
from cdpanalytics.parallel import parallel_map

COLUMNS = ("vm", "policy", "backup_server", "created", "ended", "state", "result", "rpo")
"""Columns that exposure reads; of a frame from anywhere also `uid` and `as_of`, where it has them."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Gaps:
    """The gap at the end of each tile, by tile; most are empty.

    A gap lies at the end of one tile, up to the next protecting span. Only the leading
    tiles of a VM share one: it belongs to the tile that owns its first observed instant.

    Parameters
    ----------
    owner : numpy.ndarray
        The tile that the gap belongs to.
    start : numpy.ndarray
        Its first observed instant.
    finish : numpy.ndarray
        Where it ends: the next protecting span, or as_of.
    kept_until : numpy.ndarray
        Where observed time ends in the tile: its end, or the instant of retirement.
    length : numpy.ndarray
        Its scheduled length, all tiles together, without what is retired.
    before : numpy.ndarray
        The part of it that lies in earlier tiles.
    target : numpy.ndarray
        The owner's target, UNKNOWN without one.
    retired_from : numpy.ndarray
        The instant of retirement; LARGEST where the VM is not retired.
    """

    owner: Integers
    start: Integers
    finish: Integers
    kept_until: Integers
    length: Integers
    before: Integers
    target: Integers
    retired_from: Integers


@dataclass(frozen=True)
class Pieces:
    """Stretches of tiles, cut at the edges of periods: the tile, the period, start and stop of each."""

    tile: Integers
    period: Integers
    start: Integers
    stop: Integers

    @classmethod
    def cut(cls, begin: Integers, finish: Integers, window: Window) -> Pieces:
        """Cut one stretch per tile at the window's edges; what is empty or outside is dropped."""
        edges = window.edges
        start, stop = np.maximum(begin, edges[0]), np.minimum(finish, edges[-1])
        inside = np.flatnonzero(stop > start)
        first, last = window.period(start[inside]), window.period(stop[inside], "left")
        if (first == last).all():
            return cls(inside, first, start[inside], stop[inside])
        item, period = expand(first, last - first + 1)
        tile = inside[item]
        return cls(
            tile, period, np.maximum(start[tile], edges[period]),
            np.minimum(stop[tile], edges[period + 1]),
        )  # fmt: skip

    def time(self, clocks: Clocks) -> Integers:
        """Return how far each piece's clock runs in it."""
        return clocks.read(self.stop, self.tile) - clocks.read(self.start, self.tile)


@dataclass(frozen=True)
class Exposure:
    """What was observed, exposed and breached in a block of VMs.

    By tile: `tiles`, their own `target` and `gaps`. By piece: its observed and exposed time.
    `uncovered` are the pieces not fully covered when only Success counts; by these: how old
    the gap is where the piece begins and ends (0 while covered), and what of it is
    breached. `clock` is each tile's, and `dark` when its VM was unknown because of a hole.
    """

    rows: Integers
    tiles: Coverage
    target: Integers
    gaps: Gaps
    pieces: Pieces
    observed: Integers
    exposed: Integers
    uncovered: Integers
    age: Integers
    final_age: Integers
    breached: Integers
    breached_strict: Integers
    clock: Clocks
    dark: Sequence[Stretch]

    @cached_property
    def events(self) -> tuple[Integers, Integers]:
        """The owner's tile and the period of each gap with exposed time in a period."""
        piece = np.flatnonzero(self.exposed > 0)
        owner, period = self.gaps.owner[self.pieces.tile[piece]], self.pieces.period[piece]
        # The tiles that share a gap lie side by side, so what is counted twice does as well.
        new = np.ones(len(piece), dtype=bool)
        new[1:] = (owner[1:] != owner[:-1]) | (period[1:] != period[:-1])
        return owner[new], period[new]


@dataclass(frozen=True)
class LeftOut:
    """What was left out of a block's observed time: tile, period and time of each kind."""

    retired: tuple[Pieces, Integers]
    pieces: Pieces
    unobserved: Integers
    excluded: Integers


@dataclass(frozen=True)
class Block:
    """The exposure of a block of VMs, what was left out of it, and what it would be without that.

    `full` is the exposure without exclusions, grace and retirement; None where there are none.
    `clock` is the clock of each tile of `exposure`.
    """

    exposure: Exposure
    left_out: LeftOut
    full: Exposure | None
    clock: Clocks


def arrays_of(sessions: pd.DataFrame, question: Question, terms: Terms) -> SessionArrays:
    """Return sessions as integers, as of the last instant up to which coverage is known."""
    known = facts(sessions)
    now = effective_as_of(sessions, known, question, terms.protects)
    policies = policies_then(sessions, known, question, terms.policies)
    until = as_of_frame(sessions, known, question.as_of)
    _, end = resolve_window(known, question)
    return read(sessions, now, policies, terms.unobserved, question.by, known, until, end)


def measure(
    arrays: SessionArrays,
    terms: Terms,
    window: Window,
    use: Callable[[Block], Result],
    tie: Integers | None = None,
) -> list[Result]:
    """Return what `use` makes of the exposure of each block of VMs, a thread per CPU.

    Every length is a difference of two readings of a tile's clock, so forbidden hours,
    exclusions, grace and blackouts drop out by themselves. A breach begins when the clock
    has run `target` since the gap began; where no target is known, nothing is known to be
    breached. `tie` ranks sessions that are alike in everything else.
    """
    maker = ClockMaker(arrays, terms, arrays.as_of)
    count = len(arrays.created)

    def block(positions: Integers) -> Result:
        rows = positions[positions < count]
        tiles = sweep(arrays, rows, terms.protects, tie)
        return use(_block(arrays, terms, window, positions, rows, tiles, maker))

    return parallel_map(block, vm_blocks(arrays))


def _block(
    arrays: SessionArrays,
    terms: Terms,
    window: Window,
    positions: Integers,
    rows: Integers,
    tiles: Coverage,
    maker: ClockMaker,
) -> Block:
    goal = terms.target_us
    target = arrays.rpo[tiles.row] if goal is None else np.full(len(tiles.row), goal)
    keeper = clocks_of(arrays, terms, rows, tiles, maker)
    scheduled, included, clock, dark = keeper.scheduled, keeper.included, keeper.clock, keeper.dark
    retire = None if terms.retire_after is None else duration(terms.retire_after)
    exposure = _expose(arrays, positions, tiles, target, clock, window, retire)
    exposure = replace(exposure, dark=dark)
    left_out = _left_out(exposure, window, (scheduled, included, clock))
    if included is scheduled and retire is None:
        return Block(exposure, left_out, None, clock)
    plain = replace(scheduled, stretches=tuple(dark))
    full = _expose(arrays, positions, tiles, target, plain, window, None)
    return Block(exposure, left_out, full, clock)


@dataclass(frozen=True)
class TileClocks:
    """The clocks of tiles: of scheduled time, without what is excluded, and without blackouts.

    `grace` is each tile's, and `dark` when its VM was unknown because of a hole.
    """

    scheduled: Clocks
    included: Clocks
    clock: Clocks
    grace: Stretch | None
    dark: Sequence[Stretch]


def clocks_of(
    arrays: SessionArrays, terms: Terms, rows: Integers, tiles: Coverage, maker: ClockMaker
) -> TileClocks:
    """Return the clocks of tiles, of which `rows` are all sessions of their VMs."""
    grace = _grace(tiles, terms)
    dark = blackouts(arrays, rows, tiles)
    scheduled = maker.make(tiles, exclude=False)
    included = scheduled if terms.exclude is None else maker.make(tiles)
    if grace is not None:
        included = replace(included, stretches=(grace,))
    clock = included if not dark else replace(
        included, stretches=(*included.stretches, *_outside(dark, grace))
    )  # fmt: skip
    return TileClocks(scheduled, included, clock, grace, dark)


def _left_out(exposure: Exposure, window: Window, clocks: tuple[Clocks, Clocks, Clocks]) -> LeftOut:
    """What was left out: by clocks of scheduled time, without exclusions, and without blackouts."""
    scheduled, included, clock = clocks
    tiles, gaps = exposure.tiles, exposure.gaps
    nothing = np.array([], dtype=np.int64)
    retired = every = Pieces(nothing, nothing, nothing, nothing)
    if (gaps.retired_from < LARGEST).any():
        retired = Pieces.cut(np.maximum(tiles.begin, gaps.kept_until), tiles.finish, window)
    if clock is not scheduled:
        every = Pieces.cut(tiles.begin, tiles.finish, window)
    included_time = every.time(included)
    return LeftOut(
        (retired, retired.time(clock)), every, included_time - every.time(clock),
        every.time(scheduled) - included_time,
    )  # fmt: skip


def _grace(tiles: Coverage, terms: Terms) -> tuple[Integers, Integers] | None:
    """From each VM's first attempt to its first protecting span, but no longer than the grace."""
    if terms.grace is None or not len(tiles.row):
        return None
    first = tiles.first_of_vm
    machine = np.cumsum(first) - 1
    start = tiles.begin[first]
    protected = np.full(len(start), LARGEST)
    np.minimum.at(protected, machine[~tiles.leading], tiles.begin[~tiles.leading])
    stop = np.minimum(np.minimum(start + duration(terms.grace), protected), tiles.finish.max())
    return start[machine], np.maximum(stop, start)[machine]


def _outside(
    stretches: list[tuple[Integers, Integers]], grace: tuple[Integers, Integers] | None
) -> list[tuple[Integers, Integers]]:
    """The parts of stretches after grace, so that no time is taken off twice."""
    if grace is None:
        return stretches
    return [(np.maximum(start, grace[1]), np.maximum(stop, grace[1])) for start, stop in stretches]


def _expose(
    arrays: SessionArrays,
    positions: Integers,
    tiles: Coverage,
    target: Integers,
    clock: Clocks,
    window: Window,
    retire: int | None,
) -> Exposure:
    gaps = gaps_of(arrays, tiles, target, clock, retire)
    pieces = Pieces.cut(tiles.begin, gaps.kept_until, window)
    tile = pieces.tile
    opened, closed = clock.read(pieces.start, tile), clock.read(pieces.stop, tile)
    covered = np.where(tiles.leading, tiles.begin, tiles.covers())
    exposed = closed - clock.read(np.clip(covered[tile], pieces.start, pieces.stop), tile)
    uncovered = np.flatnonzero(tiles.strict_until[tile] < pieces.stop)
    of = tile[uncovered]
    at, until, goal = opened[uncovered], closed[uncovered], gaps.target[of]
    # A gap begun before the window, or in an earlier tile, still ages from its own beginning.
    since = np.where(tiles.leading, tiles.begin, tiles.covered_until)
    zero = clock.read(since[of], of)
    age = np.maximum(at - zero, 0) + gaps.before[of]
    final_age = np.maximum(until - zero, 0) + gaps.before[of]
    zero = clock.read(np.where(tiles.leading, since, tiles.strict_until)[of], of)
    strict_age = np.maximum(at - zero, 0) + gaps.before[of]
    strict_final_age = np.maximum(until - zero, 0) + gaps.before[of]
    return Exposure(
        positions, tiles, target, gaps, pieces, closed - opened, exposed, uncovered, age, final_age,
        np.where(goal == UNKNOWN, 0, late(age, final_age, goal)),
        np.where(goal == UNKNOWN, 0, late(strict_age, strict_final_age, goal)), clock, (),
    )  # fmt: skip


def gaps_of(
    arrays: SessionArrays, tiles: Coverage, target: Integers, clock: Clocks, retire: int | None
) -> Gaps:
    """Return the gap of each tile; those of a VM's leading tiles are put together as one."""
    number = np.arange(len(tiles.row))
    since = np.where(tiles.leading, tiles.begin, tiles.covers())
    zero = clock.read(since)
    own = clock.read(tiles.finish) - zero
    some = np.flatnonzero(own > 0)
    start = tiles.finish.copy()
    start[some] = clock.next_running(since[some], some)
    leading = _leading(tiles)
    owner, start, finish = _put_together(tiles, own, start, *leading)
    retired_from = np.full(len(number), LARGEST)
    if retire is not None:
        is_open = (finish == arrays.as_of) & (own[owner] > 0)
        retired_from[is_open] = start[is_open] + retire
    kept_until = np.clip(retired_from, tiles.begin, tiles.finish)
    if retire is not None:
        own = np.maximum(clock.read(kept_until) - zero, 0)
    length, before = _shared(own, *leading)
    return Gaps(owner, start, finish, kept_until, length, before, target[owner], retired_from)


def _put_together(
    tiles: Coverage, own: Integers, start: Integers, leading: Integers, vm: Integers
) -> tuple[Integers, Integers, Integers]:
    """Owner, start and finish of the gap of each tile: leading tiles of a VM share one."""
    owner = np.arange(len(own))
    if not len(leading):
        return owner, start, tiles.finish
    start, finish = start.copy(), tiles.finish.copy()
    first = np.full(vm[-1] + 1, LARGEST)
    np.minimum.at(first, vm, np.where(own[leading] > 0, leading, LARGEST))
    last = np.zeros(vm[-1] + 1, dtype=np.int64)
    np.maximum.at(last, vm, tiles.finish[leading])
    # Without any observed time the gap is empty; it stays with each tile itself.
    some = first[vm] < LARGEST
    shared, vm = leading[some], vm[some]
    owner[shared] = first[vm]
    start[shared] = start[first[vm]]
    finish[shared] = last[vm]
    return owner, start, finish


def _shared(own: Integers, leading: Integers, vm: Integers) -> tuple[Integers, Integers]:
    """The length of the whole gap of each tile, and the part of it in earlier tiles."""
    before = np.zeros(len(own), dtype=np.int64)
    if not len(leading):
        return own, before
    lead = own[leading]
    so_far = np.cumsum(lead) - lead
    before[leading] = so_far - so_far[np.searchsorted(vm, vm)]
    length, total = own.copy(), np.zeros(vm[-1] + 1, dtype=np.int64)
    np.add.at(total, vm, lead)
    length[leading] = total[vm]
    return length, before


def _leading(tiles: Coverage) -> tuple[Integers, Integers]:
    """The leading tiles, and the rank of each one's VM among theirs."""
    leading = np.flatnonzero(tiles.leading)
    vm = tiles.vm[leading]
    return leading, np.cumsum(np.append(False, vm[1:] != vm[:-1]))[: len(vm)]


def retirements(arrays: SessionArrays, terms: Terms) -> tuple[Integers, Integers]:
    """Return the VMs that are retired by as_of, in order, and since when each is."""
    nothing = np.array([], dtype=np.int64)
    if terms.retire_after is None:
        return nothing, nothing
    whole = Window(np.array([arrays.as_of, arrays.as_of]), None, None, False)

    def retired(block: Block) -> tuple[Integers, Integers]:
        tiles, since = block.exposure.tiles, block.exposure.gaps.retired_from
        gone = np.flatnonzero(tiles.last_of_vm & (since <= arrays.as_of))
        return tiles.vm[gone], since[gone]

    parts = measure(arrays, terms, whole, retired)
    vm, since = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(vm)
    return vm[order], since[order]


def late(age: Integers, final_age: Integers, goal: Integers | int) -> Integers:
    """Return how long a gap that grows from `age` to `final_age` is older than `goal`."""
    return np.asarray(np.maximum(final_age - np.maximum(age, goal), 0))
