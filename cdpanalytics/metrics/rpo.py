"""RPO adherence: the share of observed time in which each VM kept its recovery point objective."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import adherence as sums_of
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.adherence import BlockCells
from cdpanalytics.metrics.core.aggregates import Aggregates, Cells, cells_for, combine, regroup
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.exposure import COLUMNS, Exposure, arrays_of
from cdpanalytics.metrics.core.groups import share
from cdpanalytics.metrics.core.kernels import LARGEST, Integers
from cdpanalytics.metrics.core.question import (
    PROTECTS,
    UNSET,
    By,
    Exclude,
    Question,
    Schedule,
    Table,
    Terms,
    Zone,
    Zones,
)
from cdpanalytics.metrics.core.spec import EXPOSURE, MetricSpec
from cdpanalytics.metrics.core.uncertainty import count_slots, success_interval
from cdpanalytics.metrics.core.values import UNKNOWN, lengths, timestamps
from cdpanalytics.metrics.core.windows import window
from cdpanalytics.metrics.incidents import INCIDENT_GAPS, gaps_of

Without = Sequence[int] | pd.DataFrame | None
"""Numbers of incidents, or a table of gaps."""

LEFT_OUT = ("unobserved", "excluded", "retired")
"""Times left out of observed time, each a column."""


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
    schedule_tz: Zones = UNSET,
    protects: Collection[str] = PROTECTS,
    policies: Table = UNSET,
    unobserved: Table = UNSET,
    exclude: Exclude = UNSET,
    retire_after: object = UNSET,
    grace: object = UNSET,
    without: Without = None,
) -> pd.DataFrame:
    """Return how much of the observed time kept its recovery point objective.

    A VM is *observed* from its first attempt (a session of any state but Pending) to
    `as_of`, in scheduled time. It is *covered* by its protecting sessions: those that run,
    and those that ended with a verdict of `protects`. A maximal uncovered stretch of
    observed time is a *gap*; its exposure is the scheduled time since it began. The RPO is
    missed from the instant at which exposure exceeds it, so a gap's breach lies at its end::

        breached(gap) = max(0, exposure - target)
        adherence     = 1 - breached / observed

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`. A window also needs the
        sessions outside it that decide its edges: `Selection.frame` and
        ``archive.sessions(since=..., until=..., history=True)`` bring them.
    target : timedelta-like, optional
        The RPO. Default: each policy's own, from the sessions' `rpo`, else from
        `policies`.
    by : str or sequence of str
        Columns to group by, any columns of the frame; ``()`` for one row in all. An instant
        belongs to the value of the newest protecting session begun at or before it; before
        the first of them, of the newest attempt. A missing value is a group of its own, the
        last.
    since, until : timestamp-like, optional
        The window ``[since, until)``. Default: the window that the frame was read for,
        else everything up to `as_of`. Text without an offset is of `tz`.
    as_of : timestamp-like, optional
        Nothing after it is measured. Default: the `as_of` of the frame's source, else the
        newest `as_of` in the frame, else its latest `created` or `ended`. With an `as_of`
        in the past the answer is as it was known then: a session that ended later is
        running, one that began then or later is not there. The clock is never read.
    freq : {"h", "D", "W", "MS"}, optional
        Cut the window into periods of the wall clock in `tz`; each is its own window.
    schedule : mapping, str or stretches, optional
        Weekday name to 24 zeros and ones: clocks run in allowed hours only. Or maintenance
        windows (see `exclude`): every hour but those. Default: each policy's own, where
        `policies` has one, else all hours.
    tz : str
        Zone of `freq`, and of times without an offset. Default: UTC.
    schedule_tz : str or mapping of str, optional
        Zone in whose wall time schedules are written, or one per backup server. Default: UTC.
    protects : collection of str
        Verdicts that protect. Running sessions always do.
    policies : pandas.DataFrame, optional
        Settings (``archive.policies()``): RPO and schedule of policies, their step between
        long-term restore points, and the VMs they name though no session does.
    unobserved : pandas.DataFrame, optional
        Holes, stretches that were never fetched (``archive.holes()``): `start`, `end`, and
        `backup_server`, missing where a hole concerns all of them. What began inside a hole
        is not known, so a VM is unknown from the hole's start until a known protecting
        session reaches beyond it, or its next session begins; but no longer than 1.1 times
        its cadence after the hole's end. Its cadence is its policy's step between long-term
        restore points, else its longest finished session, else 24 h. A running session is
        known to run only up to a hole that begins after its own `as_of`.
    exclude : stretches, optional
        Maintenance windows, left out of observed time: pairs ``(start, end)``, or a frame
        with `start` and `end`, and `backup_server`, `policy` or `vm` where a window does not
        concern everyone (missing: everyone). Clocks stand still in them and go on after.
    retire_after : timedelta-like, optional
        A gap that is still open at `as_of` is left out from its beginning plus this length
        on, as elapsed time: the VM is no longer protected. The time before stays breached.
    grace : timedelta-like, optional
        Leave out the time from each VM's first attempt to its first protecting session, up
        to this length: a first copy may take a day.
    without : sequence of int or pandas.DataFrame, optional
        Numbers of incidents, as `incidents` gives them for the same frame, window and terms,
        or a table of gaps (``backup_server, vm, start``): also say what adherence would be
        without their breached time.

    Returns
    -------
    pandas.DataFrame
        One row per group (and period), in order of the keys: the keys of `by`, `period`
        (with `freq`, the start of the period, UTC), then

        ``rpo`` : Timedelta, the target; NA where a group mixes targets or none is known.
        ``vms`` : VMs with observed time or an attempt in the window, or named by a policy.
        ``unprotected`` : those of them that no protecting session of any policy covered at
        any instant of the window.
        ``sessions`` : sessions that begin in the window.
        ``success, warning, failed`` : those of them with that verdict. A verdict is
        the Result of a Completed session that has an end.
        ``unknown`` : those without: running, pending, finished without an end.
        ``observed`` : Timedelta, as above.
        ``exposed`` : the part of it that no protecting session covers.
        ``breached`` : the part of that in which exposure exceeded the target.
        ``gaps`` : gaps that have some time in the window. A gap belongs to the group that
        owns its first instant.
        ``breaches`` : those of them whose whole length exceeds the target.
        ``worst_gap`` : the longest, whole; NaT without gaps.
        ``adherence`` : ``1 - breached / observed``; NA when nothing was observed or no
        target is known.
        ``adherence_strict`` : the same with only Success and running sessions protecting,
        over the same observed time; NA without a `result` column. A Warning says that the
        RPO was exceeded somewhere inside, so for targets at or above the policy's warning
        threshold this is a lower bound, as far as sessions can tell. Neither figure bounds
        the first copy inside a VM's first session, or a delay below that threshold.
        ``gap_adherence`` : ``1 - breaches / gaps``; NA without gaps.
        ``success_rate`` : ``success / (success + warning + failed)``, the server's own
        verdict, not the vendor's SLA; NA without finished sessions.
        ``success_low, success_high`` : its 95 % interval, in which sessions of one time slot
        may fail together (docs/uncertainty.md).
        ``unobserved, excluded, retired`` : Timedelta, scheduled time since each VM's first
        attempt that was left out for holes, for exclusions and grace, and for retirement.
        What several would leave out counts once, as excluded, else as unobserved. With them
        ``observed`` makes up all scheduled time since the first attempt.
        ``adherence_full`` : adherence without exclusions, grace and retirement; time
        unknown because of holes stays out.
        ``breached_without`` : only with `without`: Timedelta, `breached` less the breached
        time of those incidents. Over all groups the difference is what they explain.
        ``adherence_without`` : only with `without`: ``1 - breached_without / observed``.
        Nothing else changes: their gaps stay exposed and are counted.

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, an argument is, or the frame has lost
        sessions, neighbours or terms that it was read with.

    Notes
    -----
    Rests on task sessions: from `created` to `ended` a VM was being replicated. How
    far behind replication ran inside a session is not in them (see
    `journal_adherence`). Sums of VMs make groups, never means of ratios. Periods add
    up: a gap that crosses midnight is breached in the day where its breach lies.

    See Also
    --------
    gaps : the gaps themselves.

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
    if without is not None and not isinstance(without, pd.DataFrame):
        whole = replace(question, by=(), freq=None)
        every = INCIDENT_GAPS.evaluate(sessions, whole, terms, **INCIDENT_GAPS.own)
        without = gaps_of(every, without)
    return RPO_ADHERENCE.evaluate(sessions, question, terms, without=without)


def exposure_aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, without: Without = None
) -> Aggregates:
    """Return the sums that `rpo_adherence` is made of."""
    if without is not None and not isinstance(without, pd.DataFrame):
        raise InputError(
            f"without={without!r}: incidents are found in all VMs together; ask a Selection, or give "
            "a table of gaps with backup_server, vm and start"
        )
    arrays = arrays_of(sessions, question, terms)
    cells = cells_for(arrays, question.by, window(arrays, question))
    if without is None:
        return sum_cells(arrays, terms, cells)

    def add_saved(exposure: Exposure, places: BlockCells, sums: Aggregates) -> None:
        sums.sum["saved"] = _saved(arrays, exposure, places, without)

    return sum_cells(arrays, terms, cells, add_saved)


def sum_cells(
    arrays: SessionArrays,
    terms: Terms,
    cells: Cells,
    add: Callable[[Exposure, BlockCells, Aggregates], None] = lambda *_: None,
) -> Aggregates:
    """Return the sums of all cells; `add` adds its own to those of each block of VMs."""

    def add_targets(exposure: Exposure, places: BlockCells, sums: Aggregates) -> None:
        if terms.target is None:
            pieces = exposure.pieces
            of = places.of_tiles(exposure, pieces.tile, pieces.period)
            goals = sums_of.extremes(of, exposure.target[pieces.tile], places.size)
            sums.min["rpo"], sums.max["rpo"] = goals
        add(exposure, places, sums)

    sums = sums_of.sum_exposure(arrays, terms, cells, add_targets)
    if not arrays.has_verdicts:
        del sums.sum["strict"]
    goals = sums_of.targets(arrays, sums, cells, terms.target_us)
    return cells.aggregates(
        sum=sums_of.count_verdicts(arrays, cells) | sums.sum,
        max=sums.max | {name: high for name, (_, high) in goals.items()},
        min={name: low for name, (low, _) in goals.items()},
    )


def _saved(
    arrays: SessionArrays, exposure: Exposure, places: BlockCells, gaps: pd.DataFrame
) -> Integers:
    """The breached time of some gaps in each cell."""
    tile = exposure.pieces.tile[exposure.uncovered]
    late = np.flatnonzero(exposure.breached > 0)
    tile = tile[late]
    server, vm = (arrays.keys[key].at(exposure.tiles.row[tile]) for key in ("backup_server", "vm"))
    saved = _gap_index(server, vm, timestamps(exposure.gaps.start[tile])).isin(
        _gap_index(gaps["backup_server"], gaps["vm"], gaps["start"])
    )
    piece = exposure.uncovered[late[saved]]
    cells = places.of_tiles(exposure, tile[saved], exposure.pieces.period[piece])
    return grouping.total(cells, exposure.breached[late[saved]], places.size)


def _gap_index(server: pd.Series, vm: pd.Series, start: pd.Series) -> pd.MultiIndex:
    names = [column.astype("str").fillna("") for column in (server, vm)]
    return pd.MultiIndex.from_arrays([*names, start.dt.as_unit("us")])


def adherence_table(
    sums: Aggregates,
    question: Question | None = None,
    terms: Terms | None = None,
    without: Without = None,
) -> pd.DataFrame:
    """Return the table of `rpo_adherence`: sums as they are, and ratios of sums."""
    added, observed = sums.sum, sums.sum["observed"]
    known = added["without_target"] == 0
    judged = (observed > 0) & known
    finished = added["success"] + added["warning"] + added["failed"]
    # A cell in which nothing happens has the target of its group.
    idle = sums.min["rpo"] == LARGEST
    goal = np.where(idle, sums.unique_value("rpo_ever"), sums.unique_value("rpo"))
    never = np.zeros(sums.size, dtype=bool)
    strict = added.get("strict", observed)
    some = known & (added["gaps"] > 0)
    slots = count_slots(sums.max["slot_total"], sums.max["slot_mean"])
    low, high = success_interval(added["success"], finished, slots)
    full = added["observed_full"]
    judged_full = (full > 0) & (added["without_target_full"] == 0)
    keys = sums.keys()
    columns = {
        **{str(name): keys[name] for name in keys},
        "rpo": lengths(goal),
        **{name: added[name] for name in _COUNTS},
        "observed": lengths(observed),
        "exposed": lengths(added["exposed"]),
        "breached": lengths(np.where(known, added["breached"], UNKNOWN)),
        "gaps": added["gaps"],
        "breaches": pd.arrays.IntegerArray(np.where(known, added["breaches"], 0), ~known),
        "worst_gap": lengths(sums.max["worst_gap"]),
        "adherence": 1 - share(added["breached"], observed, judged),
        "adherence_strict": 1 - share(strict, observed, judged if "strict" in added else never),
        "gap_adherence": 1 - share(added["breaches"], added["gaps"], some),
        "success_rate": share(added["success"], finished, finished > 0),
        "success_low": low,
        "success_high": high,
        **left_out_of(sums),
        "adherence_full": 1 - share(added["breached_full"], full, judged_full),
    }
    if "saved" in added:
        left = added["breached"] - added["saved"]
        columns["breached_without"] = lengths(np.where(known, left, UNKNOWN))
        columns["adherence_without"] = 1 - share(left, observed, judged)
    return pd.DataFrame(columns, index=keys.index)


_COUNTS = ("vms", "unprotected", "sessions", "success", "warning", "failed", "unknown")


def left_out_of(sums: Aggregates) -> dict[str, pd.Series]:
    """Return the columns of what was left out of observed time."""
    return {name: lengths(sums.sum[name]) for name in LEFT_OUT}


RPO_ADHERENCE = MetricSpec(
    name="rpo_adherence", command="rpo", summary="how much of the observed time kept its RPO",
    function=rpo_adherence, partial=exposure_aggregates, combine=combine, finalize=adherence_table,
    columns=COLUMNS, takes=EXPOSURE | {"freq"}, own={"without": None}, regroup=regroup,
)  # fmt: skip
