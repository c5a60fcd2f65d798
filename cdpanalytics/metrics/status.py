"""Status: how each VM is at one instant, as the data knew it then."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.arrays import NO_VERDICT, SUCCESS, SessionArrays, read
from cdpanalytics.metrics.core.exposure import COLUMNS
from cdpanalytics.metrics.core.frames import Facts, facts
from cdpanalytics.metrics.core.groups import groups_of_tables, table_of
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
    columns_of,
)
from cdpanalytics.metrics.core.spec import EXPOSURE, MetricSpec, concat
from cdpanalytics.metrics.core.states import STATES, States, states_at
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    durations_of,
    instant,
    instants,
    lengths,
    timestamp,
    timestamps,
    us_of,
)
from cdpanalytics.metrics.core.windows import effective_as_of, policies_then, resolve_window
from cdpanalytics.metrics.recovery import newest_points
from cdpanalytics.schema import RESULTS, VM


def status(
    sessions: pd.DataFrame,
    target: object = None,
    *,
    at: object = None,
    tags: Sequence[str] = (),
    intervals: pd.DataFrame | None = None,
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
    """Return the state of each VM at one instant, worst first, as the data knew it then.

    In the example, the day is over. One VM has been without coverage since 08:00, which is
    longer than its target. The other one is covered.

    The result is what was known at the instant: a session that ended later was still running,
    and a session that began at the instant or later was not there. What is known today is in
    `gaps`.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session, as `rpo_adherence` takes them.
    at : timestamp-like, optional
        The instant. Default: the end of the window, or `as_of` if it is earlier.
    tags : sequence of str
        Columns of the sessions that the result also has.
    intervals : pandas.DataFrame, optional
        The journal (``archive.intervals()``): the times to which a VM could be restored.
    target, since, until, as_of, schedule, tz, schedule_tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.

    Returns
    -------
    pandas.DataFrame
        One row per VM that has a session before the instant, or that a policy names, ordered
        by state, then the longest `age` first. The columns are ``backup_server, vm, policy``
        (the policy of the instant), the tags, then

        ``state`` : the first of these that fits:

        - *never seen*: a policy names the VM, and it never had an attempt;
        - *retired*: its open gap has lasted longer than `retire_after`;
        - *unknown*: because of a hole, unless a session that began before the hole is known
          to end after the instant;
        - *excluded*: by an exclusion, or by grace;
        - *off schedule*: the hour is not scheduled, and the VM was covered at the last
          scheduled instant. If the VM was not covered at that instant, its state is the state
          at that instant, or *protected* if a session covers the VM now;
        - *breached*: not covered for its target or longer;
        - *exposed*: not covered for a shorter time, or without a known target;
        - *protected*: covered. At the end of a session a VM is still covered, because
          sessions that begin at this instant are not known.

        ``since`` : the start of the state:

        - breached and exposed: the start of the gap;
        - protected: the start of coverage, or of the window if it is later;
        - unknown: the start of the unknown time;
        - retired: the instant of retirement;
        - excluded and off schedule: the instant at which the clock of the VM stopped;
        - never seen, or excluded without any attempt: NA.

        ``age`` : Timedelta, observed time since coverage ended; 0 while covered; NA for
        unknown and never seen.
        ``target`` : the RPO of the VM.
        ``last_success`` : the end of the last session that ended with Success.
        ``last_result, reason`` : of the finished session that ended last.
        ``recovery_point, recovery_age`` : the newest instant to which the VM could be restored,
        and its age, by what was known then (see `recovery_points`); NA without a journal.
        ``at`` : the instant.

    Raises
    ------
    InputError
        If `at` is later than `as_of`, or a column or an argument is wrong.

    See Also
    --------
    gaps : the gaps, by what is known today.
    recovery_points : the times to which each VM could be restored.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": ["db-01", "db-02"], "created": day,
    ...     "ended": day + pd.to_timedelta([8, 24], unit="h"), "result": "Success",
    ... })
    >>> status(sessions, "15min")[["vm", "state", "since", "age"]]
          vm      state                     since             age
    0  db-01   breached 2026-10-01 08:00:00+00:00 0 days 16:00:00
    1  db-02  protected 2026-10-01 00:00:00+00:00 0 days 00:00:00
    """
    question = Question.parse((), since=since, until=until, as_of=as_of, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return STATUS.evaluate(sessions, question, terms, at=at, tags=tags, intervals=intervals)


def _rows(
    sessions: pd.DataFrame,
    question: Question,
    terms: Terms,
    at: object,
    tags: Sequence[str],
    intervals: pd.DataFrame | None,
) -> pd.DataFrame:
    known, shown = facts(sessions), columns_of(tags)
    now = _instant(sessions, known, question, terms, at)
    then = replace(question, as_of=timestamp(now))
    begun = instants(sessions, "created") if "created" in sessions else np.array([])
    late = begun >= now
    past = sessions[~late] if late.any() else sessions
    settings = policies_then(sessions, known, then, terms.policies)
    arrays = read(past, now + 1, settings, terms.unobserved, shown, known, now)
    start, _ = resolve_window(known, question)
    states = states_at(arrays, terms, UNKNOWN if start is None else us_of(start))
    return _table(arrays, states, shown, now)


def _instant(
    sessions: pd.DataFrame, known: Facts, question: Question, terms: Terms, at: object
) -> int:
    now = effective_as_of(sessions, known, question, terms.protects)
    if at is None:
        _, until = resolve_window(known, question)
        return now if until is None else min(now, us_of(until))
    asked = us_of(instant(at, "at", question.tz))
    if asked > now and len(sessions):
        raise InputError(
            f"at={at} is after {timestamp(now)}, the last instant that is known; use an earlier one"
        )
    return asked


def _table(arrays: SessionArrays, states: States, tags: Sequence[str], now: int) -> pd.DataFrame:
    succeeded = np.flatnonzero(arrays.verdict == SUCCESS)
    last = _newest(arrays, np.flatnonzero(arrays.verdict != NO_VERDICT), states.vm)
    verdict = np.where(last < 0, NO_VERDICT, _at(arrays.verdict.astype(np.int64), last))
    words = np.array([None, *RESULTS[1:]], dtype=object)
    reason = pd.Series([None] * len(last), dtype="str")
    if "reason" in arrays.frame:
        text = arrays.frame["reason"].astype("str").array
        reason = pd.Series(text.take(last, allow_fill=True), dtype="str")
    keys = ("backup_server", "vm", "policy", *tags)
    named = pd.DataFrame({name: arrays.codes(name).at(states.row) for name in keys})
    return table_of(named, {
        "state": pd.Series(np.array(STATES, dtype=object)[states.state], dtype="str"),
        "since": timestamps(states.since), "age": lengths(states.age),
        "target": lengths(states.target),
        "last_success": timestamps(_at(arrays.ended, _newest(arrays, succeeded, states.vm))),
        "last_result": pd.Series(words[verdict], dtype="str"),
        "reason": reason.where(reason != ""), "at": timestamps(np.full(len(last), now)),
    })  # fmt: skip


def _newest(arrays: SessionArrays, rows: Integers, vm: Integers) -> Integers:
    """The session of each VM that ended last among `rows`; -1 without one."""

    def ties(tied: Integers) -> tuple[NDArray[Any], ...]:
        return arrays.created[rows[tied]], arrays.verdict[rows[tied]]

    order = rows[sort_by_vm_and_time(arrays.vm[rows], arrays.ended[rows], ties)]
    newest = np.full(int(max(arrays.vm.max(initial=-1), vm.max(initial=-1))) + 1, -1)
    newest[arrays.vm[order]] = order
    return newest[vm]


def _at(values: Integers, rows: Integers) -> Integers:
    if not len(values):
        return np.full(len(rows), UNKNOWN)
    return np.where(rows < 0, UNKNOWN, values[np.maximum(rows, 0)])


def _finished(
    table: pd.DataFrame,
    question: Question,
    terms: Terms,
    at: object,
    tags: Sequence[str],
    intervals: pd.DataFrame | None,
) -> pd.DataFrame:
    rank = pd.Index(STATES).get_indexer(pd.Index(table["state"]))
    # A missing age is the shortest.
    age = np.maximum(durations_of(table["age"]), -1)
    order = np.lexsort((groups_of_tables([table], VM).of, -age, rank))
    table = table.iloc[order].reset_index(drop=True)
    points = newest_points(intervals, table, instants(table, "at"))
    newest = {"recovery_point": points["recovery_point"], "recovery_age": points["age"]}
    return table_of(table.drop(columns="at"), newest | {"at": table["at"]})


STATUS = MetricSpec(
    name="status", command="status", summary="the state of each VM now, or at an instant (--at)",
    function=status, partial=_rows, combine=concat, finalize=_finished,
    columns=(*COLUMNS, "reason"), by=None, takes=EXPOSURE,
    own={"at": None, "tags": (), "intervals": None},
)  # fmt: skip
