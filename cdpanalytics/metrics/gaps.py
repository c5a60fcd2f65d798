"""Gaps: each stretch in which a VM was not replicated, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.arrays import NO_VERDICT, SessionArrays
from cdpanalytics.metrics.core.codes import Codes, codes_of
from cdpanalytics.metrics.core.exposure import Exposure, arrays_of, measure
from cdpanalytics.metrics.core.kernels import (
    Flags,
    Integers,
    last_before,
    running_maximum,
    sort_by_vm_and_time,
)
from cdpanalytics.metrics.core.question import (
    PROTECTS,
    UNSET,
    Question,
    Schedule,
    Stretches,
    Terms,
    Unset,
    Zone,
)
from cdpanalytics.metrics.core.spec import MetricSpec, identity
from cdpanalytics.metrics.core.values import UNKNOWN, lengths, timestamps
from cdpanalytics.metrics.core.windows import window
from cdpanalytics.metrics.rpo import COLUMNS
from cdpanalytics.schema import RESULTS


def gaps(
    sessions: pd.DataFrame,
    target: object = None,
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: Zone = UNSET,
    schedule_tz: str | Mapping[str, str] | Unset | None = UNSET,
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | Unset | None = UNSET,
    unobserved: pd.DataFrame | Unset | None = UNSET,
    exclude: Stretches | Literal[False] | Unset | None = UNSET,
    retire_after: object = UNSET,
    grace: object = UNSET,
) -> pd.DataFrame:
    """Return a row for each stretch in which a VM was not replicated.

    A gap is a maximal stretch that no protecting span covers, after the VM's first
    such span, with some scheduled time in it. It belongs to the policy that
    protected last.

    Parameters
    ----------
    sessions, target, since, until, as_of, schedule, tz, protects, policies
        As in `rpo_adherence`.
    unobserved, exclude, retire_after
        As in `rpo_adherence`. Gaps with some scheduled time in the window are
        returned, whole.

    Returns
    -------
    pandas.DataFrame
        Ordered by start, then VM: ``backup_server, vm, policy``, ``start, end``
        (instants, UTC), ``open`` (still going at as_of, which is then its end),
        ``exposure`` (Timedelta, its scheduled length), ``breached``
        (``max(0, exposure - target)``, NaT where no target is known) and ``cause``:
        the newest verdict and reason among the sessions that did not protect in it,
        or "no session". With `retire_after` also ``retired``: the gap of a VM taken for no
        longer protected, which `rpo_adherence` leaves out of its sums.

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, or an argument is.

    See Also
    --------
    rpo_adherence : the same gaps, added up.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 9], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 18], unit="h"),
    ... })
    >>> gaps(sessions, "15min")[["exposure", "breached", "cause"]]
             exposure        breached       cause
    0 0 days 01:00:00 0 days 00:45:00  no session
    """
    question = Question.parse((), since=since, until=until, as_of=as_of, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return GAPS.evaluate(sessions, question, terms)


def _gap_rows(sessions: pd.DataFrame, question: Question, terms: Terms) -> pd.DataFrame:
    arrays = arrays_of(sessions, question, terms)
    parts = measure(arrays, terms, window(arrays, question), _gaps)
    columns = [np.concatenate(values) for values in zip(*parts, strict=True)]
    cause = _causes(arrays, terms.protects, *columns[1:4])
    order = _by_start(arrays, columns[0], columns[2])
    row, _, start, end, length, goal, retired = (values[order] for values in columns)
    table = pd.DataFrame(
        {key: arrays.keys[key].at(row) for key in ("backup_server", "vm", "policy")}
    )
    table["start"], table["end"] = timestamps(start), timestamps(end)
    table["open"] = end == arrays.as_of
    table["exposure"] = lengths(length)
    table["breached"] = lengths(np.where(goal == UNKNOWN, UNKNOWN, np.maximum(length - goal, 0)))
    table["cause"] = cause.at(order)
    if terms.retire_after is not None:
        table["retired"] = retired
    return table


def _gaps(exposure: Exposure) -> tuple[Integers | Flags, ...]:
    """Gaps with some time in the window: session, VM, start, end, length, target, retired."""
    inside = np.zeros(len(exposure.length), dtype=bool)
    inside[exposure.piece_span[exposure.piece_exposed > 0]] = True
    inside[exposure.retired_pieces[0]] = True
    gap = np.flatnonzero(inside)
    spans = exposure.spans.at(gap)
    own = (exposure.length[gap], exposure.target[gap], exposure.retired[gap])
    return spans.row, spans.vm, spans.covered_until, spans.finish, *own


def _by_start(arrays: SessionArrays, row: Integers, start: Integers) -> Integers:
    """Order of gaps by start, then backup server, then VM; no name comes last."""
    codes = (arrays.keys[key] for key in ("backup_server", "vm"))
    names = [own.rank()[row] for own in codes]
    return sort_by_vm_and_time(
        np.zeros_like(start), start, lambda tied: [name[tied] for name in names]
    )


def _combine(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    every = pd.concat(tables, ignore_index=True)
    return every.sort_values(["start", "backup_server", "vm"], kind="stable", ignore_index=True)


def _causes(
    arrays: SessionArrays, protects: Collection[str], vm: Integers, start: Integers, end: Integers
) -> Codes:
    """Newest verdict and reason among the sessions that did not protect in each gap."""
    none = pd.Series(["no session"], dtype="str")
    lost = np.flatnonzero((arrays.verdict != NO_VERDICT) & ~arrays.protecting(protects))
    if not len(lost) or not len(vm):
        return Codes(np.zeros(len(vm), dtype=np.int64), pd.Index(none))
    reasons = _reasons(arrays, lost)  # so that the order of rows never decides
    stop, verdicts = arrays.stop[lost], arrays.verdict[lost]
    ties = (stop, verdicts, reasons)
    lost = lost[sort_by_vm_and_time(arrays.vm[lost], arrays.created[lost],
                         lambda tied: [tie[tied] for tie in ties])]  # fmt: skip
    owner, created, stop = arrays.vm[lost], arrays.created[lost], arrays.stop[lost]
    latest = running_maximum(stop, owner)
    newest = np.maximum.accumulate(np.where(stop == latest, np.arange(len(lost)), 0))
    at = last_before(owner, created, vm, end)
    safe = np.maximum(at, 0)
    falls_in = (latest[safe] > start) | (created[safe] >= start)
    hit = (at >= 0) & (owner[safe] == vm) & falls_in
    words = codes_of(pd.concat([none, _words(arrays, lost)]))
    return Codes(words.codes[np.where(hit, newest[safe] + 1, 0)], words.values)


def _words(arrays: SessionArrays, rows: Integers) -> pd.Series:
    verdict = pd.Series(np.array(RESULTS, dtype=object)[arrays.verdict[rows]]).astype("str")
    if "reason" not in arrays.frame:
        return verdict
    reason = arrays.frame["reason"].iloc[rows].astype("str").reset_index(drop=True)
    return (verdict + ": " + reason).where(reason.notna() & (reason != ""), verdict)


def _reasons(arrays: SessionArrays, rows: Integers) -> Integers:
    if "reason" not in arrays.frame:
        return np.zeros(len(rows), dtype=np.int64)
    return pd.Categorical(arrays.frame["reason"].iloc[rows].astype("str")).codes.astype(np.int64)


GAPS = MetricSpec(
    name="gaps", command="gaps",
    summary="each stretch in which a VM was not replicated, and why",
    function=gaps, partial=_gap_rows, combine=_combine, finalize=identity,
    columns=(*COLUMNS, "reason"), by=None,
)  # fmt: skip
