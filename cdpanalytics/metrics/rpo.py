"""RPO adherence: the share of observed time in which each VM kept its recovery point objective."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core import adherence as sums_of
from cdpanalytics.metrics.core.adherence import BlockCells
from cdpanalytics.metrics.core.aggregates import Aggregates, cells_for, combine
from cdpanalytics.metrics.core.exposure import Exposure, arrays_of
from cdpanalytics.metrics.core.groups import share
from cdpanalytics.metrics.core.kernels import LARGEST
from cdpanalytics.metrics.core.question import (
    PROTECTS,
    UNSET,
    By,
    Question,
    Schedule,
    Stretches,
    Terms,
    Unset,
    Zone,
)
from cdpanalytics.metrics.core.spec import EXPOSURE, MetricSpec
from cdpanalytics.metrics.core.values import UNKNOWN, lengths
from cdpanalytics.metrics.core.windows import window

LEFT_OUT = ("unobserved", "excluded", "retired")
"""Times left out of observed time, each a column."""

COLUMNS = (
    "uid", "vm", "policy", "backup_server", "created", "ended", "state", "result", "rpo", "as_of",
)  # fmt: skip
"""Columns that exposure reads."""


def rpo_adherence(
    sessions: pd.DataFrame,
    target: object = None,
    by: By = ("policy", "vm"),
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    freq: str | None = None,
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
    """Return how much of the observed time kept its recovery point objective.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row a task session; needs `vm`, `created`, `ended`. A window needs its
        history: each VM's newest protecting session before it, and what followed, up to
        its next success (``archive.sessions(since=..., until=..., history=True)``).
    target : timedelta-like, optional
        The RPO. Default: each policy's own, from the sessions' `rpo`, else from
        `policies`.
    by : str or sequence of str
        `policy`, `vm`, `backup_server`, several of them, or ``()`` for one row in all.
    since, until : timestamp-like, optional
        The window ``[since, until)``, UTC. Default: what the
        frame was read for, else everything up to `as_of`.
    as_of : timestamp-like, optional
        Nothing after it is measured. Default: what the frame was read as of
        (``archive.sessions()``), else the newest `as_of` in it, else its latest `created`
        or `ended`. A frame read up to some instant, without what followed
        (``history=True``), is never judged beyond that. The clock is never read.
    freq : {"h", "D", "W", "MS"}, optional
        Cut the window into periods of the wall clock in `tz`; each is its own window.
    schedule : mapping, str or stretches, optional
        Weekday name to 24 zeros and ones, in the wall time of `tz`: clocks run in
        allowed hours only. Or a list of maintenance windows (see `exclude`): every hour
        but those. Default: each policy's own where `policies` says one, else all hours.
    tz : str
        Zone of `freq` and of schedules.
    protects : collection of str
        Verdicts that protect. Running sessions always do.
    policies : pandas.DataFrame, optional
        Settings (``archive.policies()``): RPO and schedule of policies, and VMs they
        name though no session does, which are then listed with NA.
    unobserved : pandas.DataFrame, optional
        Stretches never fetched (``archive.holes()``): `start`, `end`, and
        `backup_server`, missing where one concerns all of them. They are not observed
        time: clocks stand still in them, and go on at the end of the hole where a known
        protecting span reaches beyond it, else when the VM's next session of any verdict
        begins, for what began inside is not known. A running session is known to run
        only up to a hole that begins where its own `as_of` ends.
    exclude : stretches, optional
        Maintenance windows, left out of scheduled time whatever the schedule: pairs
        ``(start, end)``, or a frame with `start` and `end`, and `backup_server`,
        `policy` or `vm` where a window is not everyone's (missing: everyone's). What
        only partly lies in one loses just the overlap. So a VM known to have been
        powered off is left out too.
    retire_after : timedelta-like, optional
        A VM whose gap is still open at `as_of` and at least this long is taken for no
        longer protected: that gap is left out, and the VM counted in `retired`.
        Default: an open gap counts however long it is.

    Returns
    -------
    pandas.DataFrame
        A row a group (and period), in order of the keys: the keys of `by`, `period`
        (with `freq`, the start of the period, UTC), then

        ``rpo`` : Timedelta, the target; NA where a group mixes targets or none is known.
        ``sessions`` : sessions that begin in the window.
        ``success, warning, failed`` : those of them with that verdict. A verdict is
        the Result of a Completed session that has an end.
        ``unknown`` : those without: running, pending, finished without an end.
        ``observed`` : Timedelta, scheduled time from each VM's first protecting span.
        ``exposed`` : the part of it that no protecting span covers.
        ``breached`` : the part of that in which exposure exceeded the target.
        ``gaps`` : stretches exposed that have some time in the window.
        ``breaches`` : those of them whose whole length exceeds the target.
        ``worst_gap`` : the longest, whole; NaT without gaps.
        ``adherence`` : ``1 - breached / observed``; NA when nothing was observed or no
        target is known.
        ``adherence_strict`` : the same with only Success and running sessions
        protecting, over the same observed time; NA without a `result` column. The
        truth about replication lies between the two.
        ``gap_adherence`` : ``1 - breaches / gaps``; NA without gaps.
        ``success_rate`` : ``success / (success + warning + failed)``, the server's own
        verdict, not the vendor's SLA; NA without finished sessions.

        Then, each only where it was asked for: ``unobserved`` and ``excluded``
        (Timedelta, scheduled time since each VM's first protecting span that was left
        out for `unobserved`, and for `exclude`) and ``retired`` (VMs whose last gap in
        the period was left out). With them ``observed`` makes up all scheduled time.

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, or an argument is.

    Notes
    -----
    Rests on task sessions: from `created` to `ended` a VM was being replicated. How
    far behind replication ran inside a session is not in them (see
    `journal_adherence`). Sums of VMs make groups, never means of ratios. Periods add
    up: a gap that crosses midnight is breached in the day where its breach lies.

    See Also
    --------
    gaps : the stretches themselves.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 9], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 18], unit="h"),
    ... })
    >>> row = rpo_adherence(sessions, "15min", by="vm").iloc[0]
    >>> row["observed"], row["breached"], round(row["adherence"], 4)
    (Timedelta('0 days 18:00:00'), Timedelta('0 days 00:45:00'), np.float64(0.9583))
    """
    question = Question.parse(by, since=since, until=until, as_of=as_of, freq=freq, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return RPO_ADHERENCE.evaluate(sessions, question, terms)


def exposure_aggregates(sessions: pd.DataFrame, question: Question, terms: Terms) -> Aggregates:
    """Return the sums that `rpo_adherence` is made of."""
    arrays = arrays_of(sessions, question, terms)
    cells = cells_for(arrays, question.by, window(arrays, question))

    def add_targets(exposure: Exposure, places: BlockCells, sums: Aggregates) -> None:
        if terms.target is None:
            pieces = exposure.pieces
            of = places.of_tiles(exposure, pieces.tile, pieces.period)
            goals = sums_of.extremes(of, exposure.target[pieces.tile], places.size)
            sums.min["rpo"], sums.max["rpo"] = goals

    sums = sums_of.sum_exposure(arrays, terms, cells, add_targets)
    if not arrays.has_verdicts:
        del sums.sum["strict"]
    goals = sums_of.targets(arrays, sums, cells, terms.target_us)
    return cells.aggregates(
        sum=sums_of.count_verdicts(arrays, cells) | sums.sum,
        max=sums.max | {name: high for name, (_, high) in goals.items()},
        min={name: low for name, (low, _) in goals.items()},
    )


def adherence_table(
    sums: Aggregates, question: Question | None = None, terms: Terms | None = None
) -> pd.DataFrame:
    """Return the table of `rpo_adherence`: sums as they are, and ratios of sums."""
    added, observed = sums.sum, sums.sum["observed"]
    known = added["without_target"] == 0
    judged = (observed > 0) & known
    finished = added["success"] + added["warning"] + added["failed"]
    table = sums.keys()
    # A cell in which nothing happens has the target of its group.
    idle = sums.min["rpo"] == LARGEST
    goal = np.where(idle, sums.unique_value("rpo_ever"), sums.unique_value("rpo"))
    table["rpo"] = lengths(goal)
    for name in ("vms", "unprotected", "sessions", "success", "warning", "failed", "unknown"):
        table[name] = added[name]
    table["observed"], table["exposed"] = lengths(observed), lengths(added["exposed"])
    table["breached"] = lengths(np.where(known, added["breached"], UNKNOWN))
    table["gaps"] = added["gaps"]
    table["breaches"] = pd.array(np.where(known, added["breaches"], 0), dtype="Int64")
    table.loc[~known, "breaches"] = pd.NA
    table["worst_gap"] = lengths(sums.max["worst_gap"])
    table["adherence"] = 1 - share(added["breached"], observed, judged)
    never = np.zeros(sums.size, dtype=bool)
    strict = added.get("strict", observed)
    table["adherence_strict"] = 1 - share(strict, observed, judged if "strict" in added else never)
    some = known & (added["gaps"] > 0)
    table["gap_adherence"] = 1 - share(added["breaches"], added["gaps"], some)
    table["success_rate"] = share(added["success"], finished, finished > 0)
    full = added["observed_full"]
    judged = (full > 0) & (added["without_target_full"] == 0)
    return table.assign(
        **left_out_of(sums), adherence_full=1 - share(added["breached_full"], full, judged)
    )


def left_out_of(sums: Aggregates) -> dict[str, pd.Series]:
    """Return the columns of what was left out of observed time."""
    return {name: lengths(sums.sum[name]) for name in LEFT_OUT}


RPO_ADHERENCE = MetricSpec(
    name="rpo_adherence", command="rpo", summary="how much of the observed time kept its RPO",
    function=rpo_adherence, partial=exposure_aggregates, combine=combine, finalize=adherence_table,
    columns=COLUMNS, takes=EXPOSURE | {"freq"},
)  # fmt: skip
