"""RPO adherence: the share of observed time in which each VM kept its recovery point objective."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import adherence as sums_of
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.adherence import BlockCells
from cdpanalytics.metrics.core.aggregates import Aggregates, Cells, cells_for, combine, regroup
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.exposure import COLUMNS, Exposure, arrays_of
from cdpanalytics.metrics.core.groups import share, table_of
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
    """Return how much of the observed time was within the recovery point objective.

    In the example, no session covers the hour from 08:00 to 09:00. The first 15 minutes of
    this gap are within the target, the other 45 are breached: ``1 - 0.75/18`` is 0.9583.

    - A VM is *observed* from its first attempt to `as_of`, in scheduled time, without the
      time that is left out. An attempt is a session of any state but Pending.
    - A VM is *covered* while one of its protecting sessions runs. A session protects while
      it is running, and if it ended with a verdict of `protects`.
    - A *gap* is observed time that is not covered, from where coverage ends to where it
      begins again.
    - The *exposure* of a gap is its observed time so far. From the instant at which the
      exposure exceeds the target, the gap is breached. So the breached part is at its end.

    As formulas::

        breached(gap) = max(0, exposure - target)
        adherence     = 1 - breached / observed

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`. With a window, the frame
        must also contain the sessions outside it that decide whether a VM is covered at its
        edges. `Selection.frame` and ``archive.sessions(since=..., until=..., history=True)``
        return them.
    target : timedelta-like, optional
        The RPO. Default: each policy's own, from the sessions' `rpo`, else from
        `policies`.
    by : str or sequence of str
        Columns to group by: any columns of the frame. ``()`` returns one row for all. Each
        instant of a VM belongs to the group of the newest protecting session that began at or
        before it. Before the first protecting session, it belongs to the group of the newest
        attempt. Rows without a value form one group, which comes last.
    since, until : timestamp-like, optional
        The window ``[since, until)``. Default: the window that the frame was read for,
        else everything up to `as_of`. A text without an offset is a time of `tz`.
    as_of : timestamp-like, optional
        Nothing after this time is measured. Default: the `as_of` of the frame's source, else
        the newest `as_of` in the frame, else its latest `created` or `ended`; never the
        clock. With a time in the past, the result is what was known then: a session that
        ended later is running, and a session that began then or later is not there.
    freq : {"h", "D", "W", "MS"}, optional
        Divide the window into hours, days, weeks or months of the wall clock in `tz`. Each
        period is a window of its own.
    schedule : mapping, str or stretches, optional
        The hours in which time counts: the name of each weekday, with 24 zeros and ones
        (1: the hour counts). Or windows as in `exclude`: all time but these counts. Default:
        the schedule of each policy in `policies`, else all hours.
    tz : str
        Zone of `freq`, and of times without an offset. Default: UTC.
    schedule_tz : str or mapping of str, optional
        Zone of the hours of a schedule, or one zone per backup server. Default: UTC.
    protects : collection of str
        Verdicts that protect. Running sessions always do.
    policies : pandas.DataFrame, optional
        Settings (``archive.policies()``): the RPO, the schedule and the long-term step of
        each policy, and the VMs that it names. Some of these VMs may have no session. If there
        are several rows of a policy, the newest row counts, by `seen_from`. The VMs are those
        of the newest row that was seen before the end of the window.
    unobserved : pandas.DataFrame, optional
        Holes: times that were never fetched (``archive.holes()``). Columns `start`, `end`
        and `backup_server` (missing: the hole is for all servers). Sessions that began in a
        hole are not known. So a VM is unknown from the start of the hole to its end, if a
        known protecting session covers the VM at that end. Else the VM is unknown until the
        first of these: (1) its next session begins; (2) 1.1 times its cadence has passed
        since the end of the hole. The cadence is the long-term step of its policy, else its
        longest finished session, else 24 h. If a session was running at its own `as_of`, and
        a hole begins later, the session protects only up to the start of this hole.
    exclude : stretches, optional
        Maintenance windows, which are left out of observed time: pairs ``(start, end)``, or
        a frame with `start` and `end`. The frame can also have the columns `backup_server`,
        `policy` and `vm`: the window is then only for these. If a column is missing or a cell
        is empty, the window is for all. The clock of a gap stops in a window and continues after
        it.
    retire_after : timedelta-like, optional
        A VM whose gap is still open at `as_of` is retired from the start of the gap plus
        this length of elapsed time. The time after that is left out. The time before stays
        breached.
    grace : timedelta-like, optional
        Leave out the time from each VM's first attempt to its first protecting session, but
        at most this length. Use it because a first copy can take a day.
    without : sequence of int or pandas.DataFrame, optional
        Also return the adherence without the breached time of these incidents. Give their
        numbers from `incidents` (of the same frame, window and terms), or a table of gaps
        (``backup_server, vm, start``).

    Returns
    -------
    pandas.DataFrame
        One row per group (and period), in order of the keys: the keys of `by`, `period`
        (with `freq`, the start of the period, UTC), then

        ``rpo`` : Timedelta, the target; NA where a group mixes targets or none is known.
        ``vms`` : VMs with observed time or an attempt in the window, or named by a policy.
        ``unprotected`` : the VMs of `vms` that no session, of any policy, covered at any
        instant of the window.
        ``sessions`` : sessions that begin in the window.
        ``success, warning, failed`` : the number of `sessions` with this verdict. The verdict
        is the Result of a Completed session that has an end.
        ``unknown`` : the number of `sessions` without a verdict: they run, are pending, or
        have no usable state, end or result (see `quality`).
        ``observed`` : Timedelta, observed time.
        ``exposed`` : Timedelta, the observed time that is not covered.
        ``breached`` : Timedelta, the exposed time in which the exposure exceeded the target.
        ``gaps`` : gaps with some time in the window. A gap belongs to the group of its first
        instant.
        ``breaches`` : the number of `gaps` whose whole length exceeds the target.
        ``worst_gap`` : the whole length of the longest gap; NaT without gaps.
        ``adherence`` : ``1 - breached / observed``; NA when nothing was observed or no
        target is known.
        ``adherence_strict`` : as `adherence`, with the same observed time, but of the finished
        sessions only those with Success protect. NA without a `result` column. A Warning
        means that a restore point was later than the policy's warning threshold. So this is a
        lower bound, if three conditions are true: the target is at or above this threshold,
        the first copy was complete before the window, and no session still runs. Two things
        are in neither figure: the time until the first copy inside a VM's first session is
        complete, and a delay below the warning threshold.
        ``gap_adherence`` : ``1 - breaches / gaps``; NA without gaps.
        ``success_rate`` : ``success / (success + warning + failed)``: the server's own
        verdict, not the vendor's SLA; NA without finished sessions.
        ``success_low, success_high`` : its 95 % interval. It takes into account that
        sessions of one time slot can fail together (docs/uncertainty.md).
        ``unobserved, excluded, retired`` : Timedelta, scheduled time since each VM's first
        attempt that was left out: because of holes; because of exclusions and grace; because
        of retirement. If several would leave out the same time, it counts once: as excluded,
        else as unobserved. The three and `observed` add up to all scheduled time since the
        first attempt.
        ``adherence_full`` : adherence without exclusions, grace and retirement. Time that is
        unknown because of holes is still left out.
        ``breached_without`` : only with `without`: Timedelta, `breached` minus the breached
        time of those incidents. Summed over all groups, the difference is the breached time
        that the incidents explain.
        ``adherence_without`` : only with `without`: ``1 - breached_without / observed``.
        Nothing else changes: the gaps of the incidents stay exposed and are counted.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind, or if the frame has lost
        sessions, neighbours or terms that it was read with.

    Notes
    -----
    The figures come from task sessions: from `created` to `ended`, a VM was being
    replicated. They do not show how far replication was behind inside a session (see
    `journal_adherence`). The times of a group are the sums of its VMs; ratios are never
    averaged. The times of periods add up to those of the window: if a gap crosses midnight,
    its breached time belongs to the days in which it lies.

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
    figures = {
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
        figures["breached_without"] = lengths(np.where(known, left, UNKNOWN))
        figures["adherence_without"] = 1 - share(left, observed, judged)
    return table_of(keys, figures)


_COUNTS = ("vms", "unprotected", "sessions", "success", "warning", "failed", "unknown")


def left_out_of(sums: Aggregates) -> dict[str, NDArray[np.timedelta64]]:
    """Return the columns of what was left out of observed time."""
    return {name: lengths(sums.sum[name]) for name in LEFT_OUT}


RPO_ADHERENCE = MetricSpec(
    name="rpo_adherence", command="rpo", summary="how much of the observed time was within the RPO",
    function=rpo_adherence, partial=exposure_aggregates, combine=combine, finalize=adherence_table,
    columns=COLUMNS, takes=EXPOSURE | {"freq"}, own={"without": None}, regroup=regroup,
    part_of=("objectives", attrgetter("sums")),
)  # fmt: skip
