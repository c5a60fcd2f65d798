"""Gaps in breach in and around a window: what incidents are found in, by ranges of VMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.causes import causes
from cdpanalytics.metrics.core.exposure import Block, arrays_of, measure
from cdpanalytics.metrics.core.groups import groups_of_tables
from cdpanalytics.metrics.core.kernels import LARGEST, Integers, compact_codes
from cdpanalytics.metrics.core.question import Question, Terms
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    duration,
    instants,
    lengths,
    timestamp,
    timestamps,
    us_of,
)
from cdpanalytics.metrics.core.windows import Window, resolve_window, window
from cdpanalytics.schema import KEYS, VM

Breaches = tuple[pd.DataFrame, pd.DataFrame]
"""Parts of gaps in breach, and from when to when each VM was observed."""

_INSIDE = 1
"""The period that is the window itself, between the stretches before and after it."""

GAP = [*VM, "start"]
"""The columns that name a gap."""


def breaches(
    sessions: pd.DataFrame, question: Question, terms: Terms, margin: pd.Timedelta
) -> Breaches:
    """Return the gaps in breach of a window widened by `margin` on each side, and who was observed.

    A gap before a VM's first protecting session may lie in the time of several policies. So
    a row is the part of a gap in the time of one policy: ``policy`` is that one, ``owner``
    the gap's own. Filters of policies apply to parts, as they do in `rpo_adherence`.

    Parameters
    ----------
    sessions : pandas.DataFrame
    question : Question
        Its columns of `by` are added to the parts.
    terms : Terms
    margin : pandas.Timedelta
        How far before and after the window gaps are looked at.

    Returns
    -------
    tuple of two pandas.DataFrame
        Parts: ``backup_server, policy, vm, owner, start, end, open, exposure, breached,
        cause, breached_until`` of the gap (its end, or retirement); ``breached_from``, from
        when the target was exceeded in this part; and ``inside``, the breached time of the
        part in the window. Observed: ``backup_server, policy, vm, start, end``, and
        ``since, until``, the window.

    Raises
    ------
    InputError
        When the frame lacks the sessions around its window.
    """
    arrays = arrays_of(sessions, question, terms)
    inner = window(arrays, replace(question, freq=None))
    wide = _widened(arrays, question, inner, margin)
    found = measure(arrays, terms, wide, lambda block: (_parts(block), _observed(arrays, block)))
    parts, observed = (
        [np.concatenate(values) for values in zip(*kind, strict=True)]
        for kind in zip(*found, strict=True)
    )
    return _part_table(arrays, question, terms, parts), _observed_table(
        arrays, question, inner, observed
    )


def combine(tables: Sequence[Breaches]) -> Breaches:
    """Return the tables of disjoint VMs as one; incidents are found in the whole."""
    parts, observed = zip(*tables, strict=True)
    return pd.concat(parts, ignore_index=True), pd.concat(observed, ignore_index=True)


def whole_gaps(parts: pd.DataFrame) -> pd.DataFrame:
    """Return one row per gap, in order of start and VM: `inside` is the sum of its parts'."""
    names = ["owner", "end", "open", "exposure", "breached", "cause", "breached_until"]
    vm, start = groups_of_tables([parts], VM).of, instants(parts, "start")
    order = np.lexsort((vm, start))
    table = parts[[*GAP, *names, "breached_from", "inside"]].iloc[order]
    if ((np.diff(vm[order]) == 0) & (np.diff(start[order]) == 0)).any():
        table = table.groupby(GAP, dropna=False, sort=False, observed=True).agg(
            **{name: (name, "first") for name in names},
            breached_from=("breached_from", "min"),
            inside=("inside", "sum"),
        )
        table = table.reset_index()
    return table.rename(columns={"owner": "policy"}).reset_index(drop=True)


def observed_vms(observed: pd.DataFrame) -> pd.DataFrame:
    """Return one row per VM: from when to when it was observed under any policy."""
    if not observed.duplicated(VM).any():
        return observed[[*VM, "start", "end"]]
    groups = observed.groupby(VM, dropna=False, observed=True)
    return groups.agg(start=("start", "min"), end=("end", "max")).reset_index()


def window_of(observed: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the window, from the first VM's beginning where the question has no start."""
    if observed.empty:
        return timestamp(0), timestamp(0)
    return observed["since"].min(), observed["until"].max()


def _widened(
    arrays: SessionArrays, question: Question, inner: Window, margin: pd.Timedelta
) -> Window:
    """The window between two stretches of `margin`; without a start of its own none lies before it.

    Raises where the frame was read for less: what begins together at an edge would be cut.
    """
    start, stop = int(inner.edges[0]), int(inner.edges[-1])
    known, around = arrays.facts, duration(margin)
    since, _ = resolve_window(known, question)
    last = None if known.until == known.as_of and known.as_of is not None else known.until
    first = start if since is None else start - around
    final = min(stop + around, arrays.as_of)
    lacks_first = known.since is not None and since is not None and first < us_of(known.since)
    if lacks_first or (last is not None and final > us_of(last)):
        raise InputError(
            f"incidents are found with the {margin / pd.Timedelta('1min'):g} min before and after the "
            f"window, and the frame was read for {known.since or 'the first'} to "
            f"{known.until or 'the last'} only; ask the Selection itself, or read a longer period and "
            "name since= and until="
        )
    return Window(np.array([first, start, stop, max(final, stop)]), None, None, False)


def _parts(block: Block) -> tuple[Integers, ...]:
    """Parts of gaps in breach: owner, tile's session, VM, gap's edges, lengths, instant of breach."""
    exposure = block.exposure
    tiles, gaps, pieces = exposure.tiles, exposure.gaps, exposure.pieces
    late = (gaps.target != UNKNOWN) & (gaps.length > gaps.target)
    tile = np.unique(pieces.tile[exposure.exposed > 0])
    tile = tile[late[tile]]
    inside = np.zeros(len(tiles.row), dtype=np.int64)
    within = pieces.period[exposure.uncovered] == _INSIDE
    np.add.at(inside, pieces.tile[exposure.uncovered[within]], exposure.breached[within])
    owner = gaps.owner[tile]
    return (
        tiles.row[owner], tiles.row[tile], tiles.vm[tile], gaps.start[tile], gaps.finish[tile],
        gaps.length[tile], gaps.target[tile], inside[tile], _breached_from(block, tile),
        np.minimum(gaps.finish, gaps.retired_from)[tile],
    )  # fmt: skip


def _breached_from(block: Block, tile: Integers) -> Integers:
    """From when each tile's gap is older than its target; LARGEST where it is not in this tile.

    A tile's clock never goes back, so the instant is found by halving the tile's time: the
    clocks of schedules, exclusions and holes have no inverse of their own.
    """
    exposure, clock = block.exposure, block.clock
    tiles, gaps = exposure.tiles.at(tile), exposure.gaps
    begin = np.where(tiles.leading, tiles.begin, tiles.covers())
    low, high = begin, gaps.kept_until[tile]
    last = high
    due = clock.read(begin, tile) + gaps.target[tile] - gaps.before[tile]
    never = clock.read(last, tile) <= due
    while (low < high).any():
        middle = (low + high) // 2
        reached = clock.read(middle, tile) >= due
        low, high = (
            np.where(reached, low, np.minimum(middle + 1, high)),
            np.where(reached, middle, high),
        )
    return np.where(never, LARGEST, clock.next_running(low, tile) if len(tile) else low)


def _observed(arrays: SessionArrays, block: Block) -> tuple[Integers, ...]:
    """From when to when each VM was observed under each policy, and a session of both."""
    tiles, until = block.exposure.tiles, block.exposure.gaps.kept_until
    kept = np.flatnonzero(until > tiles.begin)
    policy = arrays.keys["policy"]
    pair = tiles.vm[kept] * (len(policy.values) + 1) + policy.codes[tiles.row[kept]] + 1
    place, distinct = compact_codes(pair)
    start, stop = np.full(len(distinct), LARGEST), np.full(len(distinct), UNKNOWN)
    np.minimum.at(start, place, tiles.begin[kept])
    np.maximum.at(stop, place, until[kept])
    row = np.zeros(len(distinct), dtype=np.int64)
    row[place] = tiles.row[kept]
    return row, start, stop


def _part_table(
    arrays: SessionArrays, question: Question, terms: Terms, parts: Sequence[Integers]
) -> pd.DataFrame:
    owner, row, vm, start, end, length, target, inside, breached_from, until = parts
    keys = dict.fromkeys([*KEYS, *question.by])
    begun = np.where(breached_from == LARGEST, UNKNOWN, breached_from)
    return pd.DataFrame({
        **{key: arrays.codes(key).at(row) for key in keys},
        "owner": arrays.keys["policy"].at(owner), "start": timestamps(start), "end": timestamps(end),
        "open": end == arrays.as_of, "exposure": lengths(length), "breached": lengths(length - target),
        "breached_from": timestamps(begun), "breached_until": timestamps(until), "inside": lengths(inside),
        "cause": causes(arrays, terms.protects, vm, start, end).at(np.arange(len(row))),
    })  # fmt: skip


def _observed_table(
    arrays: SessionArrays, question: Question, inner: Window, observed: Sequence[Integers]
) -> pd.DataFrame:
    row, start, stop = observed
    since, _ = resolve_window(arrays.facts, question)
    return pd.DataFrame({
        **{key: arrays.keys[key].at(row) for key in KEYS},
        "start": timestamps(start), "end": timestamps(stop),
        # Ranges of VMs have first sessions of their own; a given start is the same for all.
        "since": timestamps(start) if since is None else timestamp(int(inner.edges[0])),
        "until": timestamp(int(inner.edges[-1])),
    })  # fmt: skip
