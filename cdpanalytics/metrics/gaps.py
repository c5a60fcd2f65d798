"""Gaps: each stretch in which a VM was not replicated, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.causes import causes
from cdpanalytics.metrics.core.exposure import COLUMNS, Block, arrays_of, measure
from cdpanalytics.metrics.core.kernels import Integers, sort_by_vm_and_time
from cdpanalytics.metrics.core.question import (
    PROTECTS,
    UNSET,
    Exclude,
    Question,
    Schedule,
    Table,
    Terms,
    Zone,
    Zones,
)
from cdpanalytics.metrics.core.spec import MetricSpec, identity
from cdpanalytics.metrics.core.values import UNKNOWN, lengths, timestamps
from cdpanalytics.metrics.core.windows import window


def gaps(
    sessions: pd.DataFrame,
    target: object = None,
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: Zone = UNSET,
    schedule_tz: Zones = UNSET,
    protects: Collection[str] = PROTECTS,
    policies: Table = UNSET,
    unobserved: Table = UNSET,
    exclude: Exclude = UNSET,
    retire_after: object = UNSET,
    grace: object = UNSET,
) -> pd.DataFrame:
    """Return one row per gap: a stretch in which a VM was not replicated, and why.

    A gap is the time from where coverage ends, or from the VM's first attempt, to where
    coverage begins again, with some observed time in it. Time that is left out (forbidden
    hours, exclusions, grace, unknown because of a hole) does not end a gap: the clock of the
    gap stops, and continues afterwards. A gap belongs to the policy of the newest protecting
    session before it. Before the first one, it belongs to the policy of the newest attempt
    at the start of the gap.

    Parameters
    ----------
    sessions, target, since, until, as_of, schedule, tz, schedule_tz, protects, policies
        As in `rpo_adherence`.
    unobserved, exclude, retire_after, grace
        As in `rpo_adherence`. A gap with some observed time in the window is returned with
        its whole length.

    Returns
    -------
    pandas.DataFrame
        One row per gap, ordered by start, then VM:

        ``backup_server, vm, policy`` : the VM, and the policy of the gap.
        ``start, end`` : instants, UTC: the first observed instant without coverage, and the
        start of the next protecting session.
        ``open`` : whether the gap still lasts at `as_of`. Its end is then `as_of`.
        ``exposure`` : Timedelta, the observed length of the gap.
        ``breached`` : ``max(0, exposure - target)``; NaT without a known target.
        ``cause`` : verdict and reason of a session that did not protect and ended in the
        gap: the last one with a reason, else the last one; "no session" if there is none.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind.

    See Also
    --------
    rpo_adherence : the sums of the same gaps.

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
    cause = causes(arrays, terms.protects, *columns[1:4])
    order = _by_start(arrays, columns[0], columns[2])
    row, _, start, end, length, goal = (values[order] for values in columns)
    breached = np.where(goal == UNKNOWN, UNKNOWN, np.maximum(length - goal, 0))
    return pd.DataFrame({
        **{key: arrays.keys[key].at(row) for key in ("backup_server", "vm", "policy")},
        "start": timestamps(start), "end": timestamps(end), "open": end == arrays.as_of,
        "exposure": lengths(length), "breached": lengths(breached), "cause": cause.at(order),
    })  # fmt: skip


def _gaps(block: Block) -> tuple[Integers, ...]:
    """Gaps with some time in the window: session, VM, start, end, length, target."""
    tiles, gaps = block.exposure.tiles, block.exposure.gaps
    owner = np.unique(block.exposure.events[0])
    return (
        tiles.row[owner], tiles.vm[owner], gaps.start[owner], gaps.finish[owner],
        gaps.length[owner], gaps.target[owner],
    )  # fmt: skip


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


GAPS = MetricSpec(
    name="gaps", command="gaps",
    summary="each stretch in which a VM was not replicated, and why",
    function=gaps, partial=_gap_rows, combine=_combine, finalize=identity,
    columns=(*COLUMNS, "reason"), by=None,
)  # fmt: skip
