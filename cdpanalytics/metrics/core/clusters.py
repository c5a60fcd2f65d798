"""Clusters of beginnings: which gaps began together, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cdpanalytics.metrics.core.kernels import Flags, Integers

DAY = 86_400_000_000
"""Microseconds of a day."""

CHANCE = 0.001
"""A cluster is an incident where chance makes so many beginnings less often than this."""

LONGEST = 3
"""A chain longer than so many times `within` is cut at its widest step."""

_NEGLIGIBLE = 1e-18
"""A term of a series beside its sum: those after it change nothing that a float holds."""


@dataclass(frozen=True)
class Beginnings:
    """When outages of VMs began, in microseconds; `server` and `vm` are codes.

    `length` is the time in which they could begin, in microseconds. `machines` is the number
    of VMs of each server.
    """

    start: Integers
    server: Integers
    vm: Integers
    length: int
    machines: Integers


def clusters(beginnings: Beginnings, within: int, least: int) -> Integers:
    """Return the cluster of each beginning, -1 where it belongs to none.

    Clusters are single-linkage chains within one backup server that have at least `least`
    VMs and are improbable by chance; those of several backup servers that begin within
    `within` of one another are one.
    """
    order = np.lexsort((beginnings.vm, beginnings.start, beginnings.server))
    start, server, vm = (
        values[order] for values in (beginnings.start, beginnings.server, beginnings.vm)
    )
    result = np.full(len(order), -1, dtype=np.int64)
    if not len(order):
        return result
    chain = _chains(start, server, within)
    first = np.flatnonzero(np.diff(chain, prepend=-1))
    last = np.append(first[1:], len(chain)) - 1
    count = _distinct(chain, vm)
    candidates = np.flatnonzero(count >= least)
    ordered = replace(beginnings, start=start, server=server, vm=vm)
    ends = first[candidates], last[candidates]
    improbable = _improbable(ordered, ends, count[candidates], within)
    kept = candidates[improbable]
    number = np.full(len(first), -1, dtype=np.int64)
    number[kept] = _joined(start[first[kept]], server[first[kept]], within)
    result[order] = number[chain]
    return result


def _chains(start: Integers, server: Integers, within: int) -> Integers:
    """Return the chain of each beginning, of those in order of server and time.

    A chain that is too long is cut at its widest step, and its parts likewise. The stretch
    that a step would be cut from lies between the next wider steps on both sides of it, so
    one pass with a stack finds all cuts; cutting chain by chain would take a pass for each.
    Of equal steps the first is cut first.
    """
    step = np.diff(start)
    apart = (step > within) | (server[1:] != server[:-1])
    width = np.where(apart, np.iinfo(np.int64).max, step)
    left, right = _wider(width)
    cut = apart | (start[right] - start[left] > LONGEST * within)
    return np.concatenate([[0], np.cumsum(cut)]).astype(np.int64)


def _wider(width: Integers) -> tuple[Integers, Integers]:
    """Return the first and the last beginning between the wider steps around each step."""
    count = len(width)
    left, right = np.zeros(count, dtype=np.int64), np.full(count, count, dtype=np.int64)
    stack: list[int] = []
    values = width.tolist()
    for at, value in enumerate(values):
        while stack and values[stack[-1]] < value:
            right[stack.pop()] = at
        left[at] = stack[-1] + 1 if stack else 0
        stack.append(at)
    return left, right


def _distinct(chain: Integers, vm: Integers) -> Integers:
    order = np.lexsort((vm, chain))
    chain, vm = chain[order], vm[order]
    new = np.append(True, (chain[1:] != chain[:-1]) | (vm[1:] != vm[:-1]))
    return np.bincount(chain[new], minlength=chain[-1] + 1)


def _improbable(
    beginnings: Beginnings, ends: tuple[Integers, Integers], count: Integers, within: int
) -> Flags:
    """Return which chains have more VMs than chance explains.

    The rate is that of the beginnings outside of clusters, plus one, so that a quiet server
    has a rate too. A candidate that is not improbable is outside of clusters as well: its
    beginnings raise the rate for the others, until nothing changes. The rate only rises, so
    this ends. Where more begins at this time of day on the other days, that counts.
    """
    start, server, length = beginnings.start, beginnings.server, beginnings.length
    first, last = ends
    stretch = start[last] - start[first] + within
    daily = _at_this_time_of_day(start, server, ends, length, within)
    servers = int(server[-1]) + 1
    total = np.bincount(server, minlength=servers)
    of, members = server[first], last - first + 1
    limit = np.log(CHANCE / max(1.0, length / within))
    improbable = np.ones(len(first), dtype=bool)
    while True:
        inside = np.bincount(of[improbable], members[improbable], minlength=servers)
        rate = (total - inside + 1) / max(length, 1)
        expected = np.maximum(rate[of] * stretch, daily)
        now = improbable & (log_binomial_tail(count, expected, beginnings.machines[of]) < limit)
        if (now == improbable).all():
            return now
        improbable = now


def _at_this_time_of_day(
    start: Integers, server: Integers, ends: tuple[Integers, Integers], length: int, within: int
) -> np.ndarray:
    """Return how many beginnings the other days have, each, in a chain's time of day."""
    first, last = ends
    others = length / DAY - 1
    if others < 1 or not len(first):
        return np.zeros(len(first))
    # Times of day are put on one line per server, three days long so that midnight is inside.
    span = 4 * DAY
    time = start % DAY
    line = np.sort(np.concatenate([server * span + time + shift * DAY for shift in (0, 1, 2)]))
    low = server[first] * span + start[first] % DAY + DAY - within // 2
    high = low + start[last] - start[first] + within
    everywhere = np.searchsorted(line, high, "right") - np.searchsorted(line, low)
    key = server * (1 << 56) + (start - start.min())
    at = server[first] * (1 << 56) - start.min()
    here = np.searchsorted(key, at + start[last] + within // 2, "right") - np.searchsorted(
        key, at + start[first] - within // 2
    )
    return np.asarray((everywhere - here) / others)


def log_tail(count: Integers, expected: np.ndarray) -> np.ndarray:
    """Return the logarithm of the Poisson chance of at least `count`, for expectations below it.

    The tail is its first term times a series of falling ratios. At and above the
    expectation the chance is not small, and 0 (certain) is returned.

    Examples
    --------
    >>> round(float(np.exp(log_tail(np.array([3]), np.array([0.5])))[0]), 6)
    0.014388
    """
    factorials = _log_factorials(count)
    with np.errstate(divide="ignore"):
        leading = count * np.log(expected) - expected - factorials[count]
    tail = leading + _log_series(count, lambda step: expected / (count + step))
    return np.where(expected < count, np.minimum(tail, 0.0), 0.0)


def log_binomial_tail(count: Integers, expected: np.ndarray, machines: Integers) -> np.ndarray:
    """Return the logarithm of the chance that at least `count` of `machines` VMs begin an outage.

    Each VM counts once, so it is the binomial tail with the mean `expected`. Where VMs are
    not alike the true chance is smaller (Hoeffding 1956). Of many VMs it is the Poisson tail;
    of few, such as 13 of 13, it is far smaller, which is what finds outages of small estates.

    Examples
    --------
    >>> round(float(np.exp(log_binomial_tail(np.array([3]), np.array([1.5]), np.array([3])))[0]), 6)
    0.125
    """
    share = np.minimum(expected / machines, 1 - 1e-12)
    factorials = _log_factorials(machines)
    ways = factorials[machines] - factorials[count] - factorials[machines - count]
    with np.errstate(divide="ignore"):
        leading = ways + count * np.log(share) + (machines - count) * np.log1p(-share)

    def ratio(step: int) -> np.ndarray:
        left = np.maximum(machines - count - step + 1, 0)
        return np.asarray(left / (count + step) * share / (1 - share))

    tail = leading + _log_series(count, ratio)
    return np.where(expected < count, np.minimum(tail, 0.0), 0.0)


def _log_factorials(numbers: Integers) -> np.ndarray:
    """Return the logarithms of 0!, 1! and so on, up to the largest of the numbers."""
    return np.append(0.0, np.cumsum(np.log(np.arange(1, max(numbers, default=0) + 1))))


def _log_series(count: Integers, ratio: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return the logarithm of 1 + r1 + r1 r2 + ..., the terms of a tail over its first; ratios fall."""
    term, series = np.ones(len(count)), np.ones(len(count))
    for step in range(1, 200):
        term = term * np.minimum(ratio(step), 1.0)
        series += term
        if (term < _NEGLIGIBLE * series).all():
            break
    return np.log(series)


def _joined(start: Integers, server: Integers, within: int) -> Integers:
    """Return clusters as numbers; those of several servers that begin together have one."""
    order = np.lexsort((server, start))
    apart = np.diff(start[order]) > within
    run = np.concatenate([[0], np.cumsum(apart)]) if len(order) else np.zeros(0, dtype=np.int64)
    # Two clusters of one server in a run are two incidents: a later one opens the next number.
    number = np.empty(len(order), dtype=np.int64)
    current, seen, previous = -1, set[int](), -1
    for at, group in zip(order.tolist(), run.tolist(), strict=True):
        if group != previous or int(server[at]) in seen:
            current, seen = current + 1, set()
        seen.add(int(server[at]))
        number[at], previous = current, group
    return number
