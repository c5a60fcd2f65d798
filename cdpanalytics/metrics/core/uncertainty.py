"""The interval of a success rate whose sessions fail together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_NORMAL = 1.959963984540054


def success_interval(
    success: Integers, finished: Integers, slots: Integers
) -> tuple[Floats, Floats]:
    """Return the 95 % interval of each success rate.

    It is Wilson's interval with continuity correction, with the number of time slots for the number of trials (and
    never more than the finished sessions). One outage fails the sessions of many VMs at
    once: 200 VMs that fail together carry the information of one. That they fail
    together cannot be estimated from a month with few failures, so it is assumed. Without
    the correction one outage in 30 slots would exclude a true rate of 99.5 %.

    Parameters
    ----------
    success, finished, slots : numpy.ndarray
        Sessions that succeeded, sessions with a verdict, and time slots, of each group.

    Returns
    -------
    tuple of numpy.ndarray
        The lower and the upper limits; NaN where no session has finished.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", J. Am. Stat. Assoc. 22 (1927). R. G. Newcombe, "Two-sided confidence
    intervals for the single proportion", Stat. Med. 17 (1998).

    Examples
    --------
    >>> low, high = success_interval(np.array([1790]), np.array([1800]), np.array([90]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.94], [1.0])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = success / finished
        trials = np.minimum(slots, finished)
        below = _NORMAL * np.sqrt(_spread(rate, trials) + (4 * rate - 2)) + 1
        above = _NORMAL * np.sqrt(_spread(rate, trials) - (4 * rate - 2)) + 1
        middle, scale = 2 * trials * rate + _NORMAL**2, 2 * (trials + _NORMAL**2)
        low, high = (middle - below) / scale, (middle + above) / scale
    low, high = np.where(rate == 0, 0.0, low), np.where(rate == 1, 1.0, high)
    return np.minimum(low, rate).clip(0, 1), np.maximum(high, rate).clip(0, 1)


def _spread(rate: Floats, trials: Integers) -> Floats:
    return np.asarray(_NORMAL**2 - 1 / trials + 4 * trials * rate * (1 - rate))


def slot_maxima(
    cell: Integers, vm: Integers, length: Integers, cells: int
) -> tuple[Integers, Integers]:
    """Return, of each cell, the greatest total and the greatest mean session length of a VM.

    `count_slots` makes the slots of them. Both are maxima over VMs, so cells of disjoint
    VMs combine by their maximum. A median over all sessions of a group, or a union of
    slots, would need all of the group's sessions in one place.

    Parameters
    ----------
    cell, vm, length : numpy.ndarray
        Group and period, VM, and length (microseconds) of each finished session; those
        with a negative cell are in no period and are left out.
    cells : int
        Number of cells.

    Examples
    --------
    >>> slot_maxima(np.zeros(3, int), np.array([0, 0, 1]), np.array([8, 10, 4]), 1)
    (array([18]), array([9]))
    """
    inside = cell >= 0
    cell, vm, length = cell[inside], vm[inside], length[inside]
    vms = int(vm.max()) + 1 if len(vm) else 1
    pairs, place = np.unique(cell * vms + vm, return_inverse=True)
    total = np.zeros(len(pairs), dtype=np.int64)
    np.add.at(total, place, length)
    mean = total // np.maximum(np.bincount(place, minlength=len(pairs)), 1)
    greatest, longest = np.zeros(cells, dtype=np.int64), np.zeros(cells, dtype=np.int64)
    np.maximum.at(greatest, pairs // vms, total)
    np.maximum.at(longest, pairs // vms, mean)
    return greatest, longest


def count_slots(greatest_total: Integers, longest_mean: Integers) -> Integers:
    """Return the number of time slots of each cell: how often its sessions follow one another.

    It is the greatest total session length of a VM, over the greatest mean session
    length of a VM; at least 1. Where all VMs run sessions of 8 h for 30 days it is 90.
    A VM that fails and retries every minute adds no slots to its group, and VMs of
    different cadence count by the slowest: the interval is then too wide, never too narrow.

    Examples
    --------
    >>> hour = 3_600_000_000
    >>> count_slots(np.array([720 * hour]), np.array([8 * hour]))
    array([90])
    """
    slots = (greatest_total + longest_mean // 2) // np.maximum(longest_mean, 1)
    return np.asarray(np.maximum(slots, 1), dtype=np.int64)
