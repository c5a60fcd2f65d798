"""How each VM is at one instant: protected, uncovered for how long, or why it is not judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.clocks import ClockMaker, Clocks, Stretch
from cdpanalytics.metrics.core.coverage import Coverage, sweep, vm_blocks
from cdpanalytics.metrics.core.exposure import Gaps, TileClocks, clocks_of, gaps_of
from cdpanalytics.metrics.core.kernels import (
    Flags,
    Integers,
    running_maximum,
)
from cdpanalytics.metrics.core.question import Terms
from cdpanalytics.metrics.core.values import UNKNOWN, duration
from cdpanalytics.parallel import parallel_map

STATES = (
    "breached", "exposed", "unknown", "never seen", "retired", "excluded", "off schedule", "protected",
)  # fmt: skip
"""Worst first."""

(BREACHED, EXPOSED, UNKNOWN_STATE, NEVER_SEEN, RETIRED, EXCLUDED, OFF_SCHEDULE, PROTECTED) = range(
    8
)


@dataclass(frozen=True)
class States:
    """The state of each VM: its number, the session (or listed VM) whose time it is, and the rest.

    `since` and `age` are UNKNOWN where they say nothing.
    """

    vm: Integers
    row: Integers
    state: Integers
    since: Integers
    age: Integers
    target: Integers

    @classmethod
    def joined(cls, parts: list[States]) -> States:
        """Return several as one."""
        names = [column.name for column in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def states_at(arrays: SessionArrays, terms: Terms, start: int) -> States:
    """Return the state of each VM at the last microsecond before the arrays' as_of.

    Coverage reaches up to the end of a span, that instant included: what began then is
    not known yet. Everything else is half-open.

    Parameters
    ----------
    arrays : SessionArrays
        Read as of the instant asked about and one microsecond more, so that the stretches
        which hold the instant can be told from those that end at it.
    terms : Terms
    start : int
        Where the window starts: `since` of a protected VM is not before it.
    """
    maker = ClockMaker(arrays, terms, arrays.as_of)
    count = len(arrays.created)

    def block(positions: Integers) -> States:
        rows = positions[positions < count]
        tiles = sweep(arrays, rows, terms.protects)
        known = _Block(arrays, terms, maker, rows, tiles).states(start)
        return States.joined([known, _never_seen(arrays, maker, positions, known.vm)])

    return States.joined(parallel_map(block, vm_blocks(arrays)))


def _never_seen(
    arrays: SessionArrays, maker: ClockMaker, positions: Integers, seen: Integers
) -> States:
    """VMs without an attempt: a policy names them, or a session is pending."""
    rest = positions[~np.isin(arrays.vm[positions], seen)]
    _, first = np.unique(arrays.vm[rest], return_index=True)
    row = rest[first]
    excluded = maker.excluded_at(row, np.full(len(row), arrays.as_of))
    nothing = np.full(len(row), UNKNOWN)
    state = np.where(excluded, EXCLUDED, NEVER_SEEN)
    return States(arrays.vm[row], row, state, nothing, nothing, nothing)


class _Block:
    """The tiles of some VMs, their clocks and gaps, to be asked about an instant of each VM.

    An instant is the microsecond that begins with it, so the newest one is as_of less one.
    """

    def __init__(
        self,
        arrays: SessionArrays,
        terms: Terms,
        maker: ClockMaker,
        rows: Integers,
        tiles: Coverage,
    ) -> None:
        goal = terms.target_us
        self.now, self.maker, self.tiles = arrays.as_of - 1, maker, tiles
        self.target = arrays.rpo[tiles.row] if goal is None else np.full(len(tiles.row), goal)
        self.clocks: TileClocks = clocks_of(arrays, terms, rows, tiles, maker)
        clock = self.clocks.clock
        self.gaps: Gaps = gaps_of(arrays, tiles, self.target, clock, None)
        self.retired_from = self.gaps.retired_from
        if terms.retire_after is not None:
            retire = duration(terms.retire_after)
            self.retired_from = gaps_of(arrays, tiles, self.target, clock, retire).retired_from

    def states(self, start: int) -> States:
        """Return the state of each VM with an attempt."""
        tiles = self.tiles
        last = np.flatnonzero(tiles.last_of_vm)
        now = np.full(len(last), self.now)
        covered, state = self._covered(last, now), self._judge(last, now)
        # In a forbidden hour the last scheduled instant decides, unless a span covers it since.
        before, then, some = self._last_scheduled()
        earlier = np.where(some, self._judge(before, then), PROTECTED)
        forbidden = ~self._runs(self.clocks.scheduled, last, now)
        forbidden &= (state != UNKNOWN_STATE) & (state != EXCLUDED)
        state = np.where(forbidden & (earlier == PROTECTED), OFF_SCHEDULE, state)
        keeps = forbidden & (earlier != PROTECTED) & ~covered
        state, tile = np.where(keeps, earlier, state), np.where(keeps, before, last)
        at = np.where(keeps, then, now)
        state = np.where(~covered & (self.retired_from[last] <= now), RETIRED, state)
        age = np.where(covered, 0, self._age(tile, at + keeps))
        age = np.where(state == UNKNOWN_STATE, UNKNOWN, age)
        target = np.where(covered, self.target[last], self.gaps.target[tile])
        since = self._since(state, tile, at, start)
        since = np.where(state == RETIRED, self.retired_from[last], since)
        return States(tiles.vm[last], tiles.row[last], state, since, age, target)

    def _judge(self, tile: Integers, at: Integers) -> Integers:
        """The state at instants of these tiles, as if they were scheduled."""
        covered = self._covered(tile, at)
        goal = self.gaps.target[tile]
        late = (goal != UNKNOWN) & (self._age(tile, at) >= goal)
        state = np.where(covered, PROTECTED, np.where(late, BREACHED, EXPOSED))
        excluded = self.maker.excluded_at(self.tiles.row[tile], at + 1)
        if self.clocks.grace is not None:
            excluded |= _inside([self.clocks.grace], tile, at)
        state = np.where(excluded, EXCLUDED, state)
        # A session that began before a hole, and is known to end after the instant, protects.
        known = covered & (self.tiles.covered_until[tile] > at)
        return np.where(_inside(self.clocks.dark, tile, at) & ~known, UNKNOWN_STATE, state)

    def _covered(self, tile: Integers, at: Integers) -> Flags:
        """Whether a span holds the instant; what begins at the newest one is not known, so its end does."""
        reach = self.tiles.covered_until[tile] + (at == self.now)
        return np.asarray(~self.tiles.leading[tile] & (reach > at))

    def _age(self, tile: Integers, at: Integers) -> Integers:
        """How long the gap of each tile has lasted, in observed time; 0 before it begins."""
        tiles, clock = self.tiles, self.clocks.clock
        zero = np.where(tiles.leading, tiles.begin, tiles.covers())[tile]
        return np.maximum(clock.read(at, tile) - clock.read(zero, tile), 0) + self.gaps.before[tile]

    def _runs(self, clock: Clocks, tile: Integers, at: Integers) -> Flags:
        return np.asarray(clock.read(at + 1, tile) > clock.read(at, tile))

    def _last_scheduled(self) -> tuple[Integers, Integers, Flags]:
        """The last scheduled instant of each VM up to now: its tile, itself, and whether there is one."""
        tiles, clock = self.tiles, self.clocks.scheduled
        end = np.minimum(tiles.finish, self.now)
        number = np.arange(len(tiles.row))
        some = (end > tiles.begin) & (clock.read(end) > clock.read(tiles.begin))
        latest = running_maximum(np.where(some, number + 1, 0), np.cumsum(tiles.first_of_vm) - 1)
        count = latest[tiles.last_of_vm]
        tile = np.maximum(count - 1, 0)
        return tile, clock.stands_since(end[tile], tile) - 1, count > 0

    def _since(self, state: Integers, tile: Integers, at: Integers, start: int) -> Integers:
        """Since when each state has lasted."""
        tiles, gaps = self.tiles, self.gaps
        number = np.arange(len(tiles.row))
        machine = np.cumsum(tiles.first_of_vm) - 1
        # A cover begins with a VM's first span, and after each gap.
        new = ~tiles.leading
        new[1:] &= (
            tiles.first_of_vm[1:]
            | tiles.leading[:-1]
            | (tiles.begin[1:] > tiles.covered_until[:-1])
        )
        cover = np.maximum(running_maximum(np.where(new, number + 1, 0), machine) - 1, 0)
        since = np.where(
            state == PROTECTED, np.maximum(tiles.begin[cover[tile]], start), gaps.start[tile]
        )
        dark = at.copy()
        for begin, end in reversed(self.clocks.dark):
            dark = np.where((begin[tile] <= dark) & (dark <= end[tile]) & (begin[tile] < end[tile]),
                            begin[tile], dark)  # fmt: skip
        since = np.where(state == UNKNOWN_STATE, dark, since)
        stood = self.clocks.included.stands_since(at, tile)
        first = tiles.begin[tiles.first_of_vm][machine[tile]]
        still = (state == EXCLUDED) | (state == OFF_SCHEDULE)
        return np.where(still, np.maximum(stood, first), since)


def _inside(stretches: Sequence[Stretch], tile: Integers, at: Integers) -> Flags:
    inside = np.zeros(len(tile), dtype=bool)
    for start, stop in stretches:
        inside |= (start[tile] <= at) & (at < stop[tile])
    return inside
