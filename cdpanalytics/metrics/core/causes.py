"""Causes of gaps: the session that did not protect and ended last in each."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.arrays import NO_VERDICT, SessionArrays
from cdpanalytics.metrics.core.codes import Codes, codes_of
from cdpanalytics.metrics.core.kernels import (
    Integers,
    last_before,
    running_maximum,
    sort_by_vm_and_time,
)
from cdpanalytics.schema import RESULTS

_NONE = pd.Series(["no session"], dtype="str")


def causes(
    arrays: SessionArrays, protects: Collection[str], vm: Integers, start: Integers, end: Integers
) -> Codes:
    """Return verdict and reason of the session that did not protect and ended last in each gap.

    Of those with a reason, where any has one.
    """
    lost, reasons, values = arrays.once(
        ("lost", frozenset(protects)), lambda: _lost(arrays, protects)
    )
    if not len(lost) or not len(vm):
        return Codes(np.zeros(len(vm), dtype=np.int64), pd.Index(_NONE))
    cause = _last_ended(arrays, lost, reasons, (vm, start, end))
    explained = np.flatnonzero(reasons >= 0)
    if len(explained):
        with_reason = _last_ended(arrays, lost[explained], reasons[explained], (vm, start, end))
        found = with_reason >= 0
        cause[found] = explained[with_reason[found]]
    return Codes(values.codes[cause + 1], values.values)


def _lost(arrays: SessionArrays, protects: Collection[str]) -> tuple[Integers, Integers, Codes]:
    """The sessions that did not protect, the rank of the reason of each, and the causes, none first."""
    lost = np.flatnonzero((arrays.verdict != NO_VERDICT) & ~arrays.protecting(protects))
    return lost, _reasons(arrays, lost), codes_of(pd.concat([_NONE, _words(arrays, lost)]))


def _last_ended(
    arrays: SessionArrays, rows: Integers, rank: Integers, gaps: tuple[Integers, Integers, Integers]
) -> Integers:
    """Which of `rows` lies in each gap and ended last, -1 where none does.

    In order of beginning, the running maximum of the ends says at each session how far the
    sessions up to it reach: the last one begun before the gap's end tells which of all that
    begun before ended last, and whether that was after the gap began.
    """
    vm, start, end = gaps
    verdict, stop = arrays.verdict[rows], arrays.stop[rows]
    order = sort_by_vm_and_time(
        arrays.vm[rows], arrays.created[rows],
        lambda tied: (stop[tied], verdict[tied], rank[tied]),
    )  # fmt: skip
    owner, created, stop = arrays.vm[rows[order]], arrays.created[rows[order]], stop[order]
    latest = running_maximum(stop, owner)
    newest = np.maximum.accumulate(np.where(stop == latest, np.arange(len(order)), 0))
    at = last_before(owner, created, vm, end)
    safe = np.maximum(at, 0)
    inside = (latest[safe] > start) | (created[safe] >= start)
    found = (at >= 0) & (owner[safe] == vm) & inside
    return np.where(found, order[newest[safe]], -1)


def _words(arrays: SessionArrays, rows: Integers) -> pd.Series:
    verdict = pd.Series(np.array(RESULTS, dtype=object)[arrays.verdict[rows]]).astype("str")
    if "reason" not in arrays.frame:
        return verdict
    reason = arrays.frame["reason"].iloc[rows].astype("str").reset_index(drop=True)
    return (verdict + ": " + reason).where(reason.notna() & (reason != ""), verdict)


def _reasons(arrays: SessionArrays, rows: Integers) -> Integers:
    """The rank of each reason as text, -1 for none, so that the order of rows never decides."""
    if "reason" not in arrays.frame:
        return np.full(len(rows), -1)
    reason = arrays.frame["reason"].iloc[rows].astype("str")
    return pd.Categorical(reason.where(reason != "")).codes.astype(np.int64)
