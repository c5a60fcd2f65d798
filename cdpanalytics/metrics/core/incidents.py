"""Incidents of a table of gaps: what happened, to how many VMs, and what it cost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.clusters import Beginnings, clusters
from cdpanalytics.metrics.core.codes import Codes, codes_of
from cdpanalytics.metrics.core.kernels import LARGEST, Integers, group_quantiles
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    duration,
    durations_of,
    instants,
    lengths,
    timestamps,
)
from cdpanalytics.schema import VM

WITHIN, LEAST, MERGE = pd.Timedelta("10min"), 3, pd.Timedelta("1h")
_ZERO = pd.Timedelta(0)


@dataclass(frozen=True)
class Incidents:
    """The incidents of a window, and the gaps that they are made of.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per incident, worst first; see `incidents`.
    gaps : pandas.DataFrame
        The breached gaps of the window, with the column ``incident``.
    """

    table: pd.DataFrame
    gaps: pd.DataFrame


def find_incidents(
    gaps: pd.DataFrame,
    observed: pd.DataFrame,
    window: tuple[pd.Timestamp, pd.Timestamp],
    within: pd.Timedelta = WITHIN,
    least: int = LEAST,
    merge: pd.Timedelta = MERGE,
) -> Incidents:
    """Return the incidents of a table of gaps.

    Parameters
    ----------
    gaps : pandas.DataFrame
        As from `gaps`, of the window widened by three `within` on each side. A column
        ``inside`` (Timedelta) holds the breached time inside the window; default: all of it.
    observed : pandas.DataFrame
        One row per VM: ``backup_server, vm, start, end``, from when to when it was observed.
    window : pair of pandas.Timestamp
        The window without the widening.
    within, least, merge
        As in `incidents`.

    Returns
    -------
    Incidents
        Every gap with breached time inside the window is in exactly one incident.
    """
    if least < 2:
        raise InputError(f"least={least}: an incident of many needs at least 2 VMs")
    late = gaps[gaps["breached"] > _ZERO].reset_index(drop=True)
    if "inside" not in late:
        late = late.assign(inside=late["breached"])
    vms = grouping.groups_of_tables([late, observed], VM)
    vm = vms.of[: len(late)]
    server = grouping.groups_of_tables([vms.keys], ["backup_server"]).of
    episode = _episodes(late, vm, duration(merge))
    label = _labels(late, vm, server, episode, window, duration(within), least)
    late = late.assign(incident=label)
    table, number = _table(late, vm, observed)
    late["incident"] = number[label] if len(late) else number
    return Incidents(table, late[late["inside"] > _ZERO].reset_index(drop=True))


def check_numbers(numbers: Collection[int], incidents: pd.Series) -> None:
    """Refuse numbers that are not those of incidents.

    Raises
    ------
    InputError
        When there is one.
    """
    unknown = sorted(set(numbers) - set(incidents.tolist()))
    if unknown:
        raise InputError(
            f"without={unknown}: no such incident; there are {incidents.nunique()}, "
            "numbered from 1 for this window and these terms"
        )


def _episodes(late: pd.DataFrame, vm: Integers, merge: int) -> Integers:
    """Return the episode of each gap: gaps of one VM with little protection between are one."""
    start, end = instants(late, "start"), instants(late, "end")
    order = np.lexsort((end, start, vm))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(vm[order]) != 0) | (start[order][1:] - end[order][:-1] >= merge)
    episode = np.empty(len(order), dtype=np.int64)
    episode[order] = np.cumsum(fresh) - 1
    return np.asarray(episode)


def _labels(
    late: pd.DataFrame, vm: Integers, server: Integers, episode: Integers,
    window: tuple[pd.Timestamp, pd.Timestamp], within: int, least: int,
) -> Integers:  # fmt: skip
    """Return the incident of each gap, numbered from 0 in no particular order.

    `server` has the backup server of each VM, with gaps or without.
    """
    if not len(late):
        return episode
    start = instants(late, "start")
    order = np.lexsort((start, episode))
    first = order[np.flatnonzero(np.diff(episode[order], prepend=-1))]
    length = max(duration(window[1] - window[0]), 1)
    beginnings = Beginnings(start[first], server[vm[first]], vm[first], length, np.bincount(server))
    cluster = clusters(beginnings, within, least)
    alone = cluster < 0
    cluster[alone] = cluster.max(initial=-1) + 1 + np.arange(alone.sum())
    return np.asarray(cluster[episode])


def _table(
    late: pd.DataFrame, vm: Integers, observed: pd.DataFrame
) -> tuple[pd.DataFrame, Integers]:
    """Return a row per incident, worst first, and the number of each label (0: not in the window)."""
    label = np.asarray(late["incident"], dtype=np.int64)
    size = int(label.max(initial=-1)) + 1
    start = grouping.extreme(label, instants(late, "start"), size, np.minimum, LARGEST)
    end = grouping.extreme(label, instants(late, "end"), size, np.maximum, UNKNOWN)
    length = durations_of(late["exposure"])
    breached = grouping.total(label, durations_of(late["inside"]), size)
    every = breached.sum()
    (median,), *_ = group_quantiles(length, label, size, (0.5,))
    vms, _ = _distinct(Codes(vm, pd.RangeIndex(int(vm.max(initial=-1)) + 1)), label, size)
    servers, server = _distinct(codes_of(late["backup_server"]), label, size)
    policies, policy = _distinct(codes_of(late["policy"]), label, size)
    cause, cause_share = _causes(codes_of(late["cause"]), label, size)
    scope = np.select(
        [vms == 1, servers > 1, policies <= 1], ["VM", "estate", "policy"], "backup server"
    )
    share = vms / np.maximum(_observed_then(start, end, observed), vms)
    longest = grouping.extreme(label, length, size, np.maximum, 0)
    is_open = grouping.count(label, size, np.asarray(late["open"], dtype=bool)) > 0
    explains = grouping.share(breached, every, every > 0)
    # Most breached time first; of equals the one that was found first.
    kept = np.flatnonzero(breached > 0)
    order = kept[np.lexsort((start[kept], -breached[kept]))]
    numbers = np.arange(1, len(order) + 1)
    number = np.zeros(size, dtype=np.int64)
    number[order] = numbers
    table = pd.DataFrame({
        "incident": numbers, "start": timestamps(start[order]), "end": timestamps(end[order]),
        "open": is_open[order], "scope": pd.Series(scope[order], dtype="str"),
        "backup_server": server.at(order), "policy": policy.at(order), "vms": vms[order],
        "share": share[order], "breached": lengths(breached[order]), "explains": explains[order],
        "longest": lengths(longest[order]), "recovery": lengths(median.astype(np.int64)[order]),
        "cause": cause.at(order), "cause_share": cause_share[order],
    })  # fmt: skip
    return table, number


def _pairs(column: Codes, label: Integers) -> tuple[Integers, Integers, Integers]:
    """Return the distinct pairs of a label and a known name, and how often each occurs."""
    known = column.codes >= 0
    width = len(column.values) + 1
    pairs, count = np.unique(label[known] * width + column.codes[known], return_counts=True)
    return *np.divmod(pairs, width), count


def _distinct(column: Codes, label: Integers, size: int) -> tuple[Integers, Codes]:
    """Return how many names there are with each label, and the name where it is the only one."""
    of, code, _ = _pairs(column, label)
    count = grouping.count(of, size)
    only = np.full(size, -1)
    only[of] = code
    only[count > 1] = -1
    return count, Codes(only, column.values)


def _observed_then(start: Integers, end: Integers, observed: pd.DataFrame) -> Integers:
    """Return how many VMs were observed at some time in each incident."""
    begun = np.searchsorted(np.sort(instants(observed, "start")), end, "left")
    over = np.searchsorted(np.sort(instants(observed, "end")), start, "right")
    return np.asarray(begun - over)


def _causes(cause: Codes, label: Integers, size: int) -> tuple[Codes, NDArray[np.float64]]:
    """Return the most frequent cause of each incident and its share of the gaps; first by name of equals."""
    of, code, count = _pairs(cause, label)
    order = np.lexsort((code, -count, of))
    first = order[np.flatnonzero(np.diff(of[order], prepend=-1))]
    most, share = np.full(size, -1), np.zeros(size, dtype=np.int64)
    most[of[first]], share[of[first]] = code[first], count[first]
    gaps = grouping.total(of, count, size)
    return Codes(most, cause.values), grouping.share(share, gaps, gaps > 0)
