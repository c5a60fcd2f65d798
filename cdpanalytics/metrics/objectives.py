"""Objectives: how much breached time a promise allows, how much is spent, and how fast."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.adherence import BlockCells
from cdpanalytics.metrics.core.aggregates import (
    Aggregates,
    Cells,
    cells_for,
    cells_of,
    regroup,
)
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.clocks import ClockMaker
from cdpanalytics.metrics.core.coverage import sweep, vm_blocks
from cdpanalytics.metrics.core.exposure import COLUMNS, Exposure, arrays_of, retirements
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.kernels import Flags, Integers
from cdpanalytics.metrics.core.promises import (
    Promised,
    Stretches,
    combine_promised,
    stretches_of,
    unknown_at_end,
)
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
from cdpanalytics.metrics.core.shares import Objective, Shares
from cdpanalytics.metrics.core.spec import EXPOSURE, MetricSpec
from cdpanalytics.metrics.core.values import UNKNOWN, lengths, microseconds
from cdpanalytics.metrics.core.windows import Window, effective_as_of, window
from cdpanalytics.metrics.rpo import adherence_table, sum_cells
from cdpanalytics.parallel import parallel_map
from cdpanalytics.schema import VM

_FIGURES = frozenset({
    "unprotected", "sessions", "success", "warning", "failed", "unknown", "exposed",
    "breached", "gaps", "breaches", "worst_gap", "adherence_strict", "gap_adherence",
    "success_rate", "success_low", "success_high", "unobserved", "excluded", "retired",
    "adherence_full", "observed", "adherence",
})  # fmt: skip
"""Columns of `rpo_adherence` that are not repeated, or are computed again; all others are kept."""


def objectives(
    sessions: pd.DataFrame,
    objective: Objective = 0.999,
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
) -> pd.DataFrame:
    """Return whether adherence met an objective, and what is left of its budget of breached time.

    In the example, the objective is 95 % of 24 hours. So 72 minutes may be breached, and this
    is the *budget*. 45 minutes were breached, so 27 minutes are left.

    The result has three views of a group, because a sum over 100 VMs hides one bad VM: the
    adherence of all VMs together, the number of VMs that met the objective themselves, and
    the share of the time in which all VMs were within their targets at once.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session. Or a table of `rpo_adherence`; then `objective` is the only
        other argument.
    objective : float or pandas.DataFrame
        The promised adherence, as a share: 0.999 is 99.9 %. Or a table with the column
        `objective` and the columns on which it depends (policy, a tag).
    target, by, since, as_of, freq, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.
    until : timestamp-like, optional
        The end of the window of the objective. If it is later than `as_of`, the budget is
        that of the whole window. The same is true for a period of `freq` that is not over.
        Default: `as_of`.

    Returns
    -------
    pandas.DataFrame
        One row per group (and period): the keys, then

        ``rpo, vms`` : as in `rpo_adherence`.
        ``observed, adherence`` : as in `rpo_adherence`, of the VMs with a known target. A VM
        without one is counted in `no_target` and is in no other figure.
        ``objective`` : the promised share; NA if the group has several.
        ``passed`` : False if the adherence so far is below the objective. Else NA (unknown) if
        a VM of the group was never seen or is unknown at the end (`undecided`), or if nothing
        was observed. Else True.
        ``budget`` : Timedelta, the breached time that is allowed:
        ``(1 - objective) * (observed + ahead)``. `ahead` is the scheduled time from `as_of` to
        the end of the window, without exclusions. Its VMs are those that are in the group
        now, or were in it last, and are not retired. If the group has several objectives, the
        budget is the sum of the budgets of its VMs.
        ``spent`` : Timedelta, the breached time.
        ``remaining`` : ``budget - spent``; below zero if more is spent than allowed.
        ``elapsed`` : ``observed / (observed + ahead)``; 1 if the window is over.
        ``burn_rate`` : the spent share of the budget, divided by `elapsed`. At 1 the budget
        lasts exactly as long as the window, at 2 half as long. NA if the budget is zero.
        ``vms_met`` : the number of VMs that passed themselves.
        ``all_protected`` : the share of the time in which no observed VM of the group was
        breached. The time is clock time in which at least one VM of it was observed.
        ``no_target`` : VMs without a known target.
        ``undecided`` : VMs that a policy names and that never had an attempt (unless they are
        excluded at the end), and VMs that are unknown at the end because of a hole.

        If nothing was observed, or no target is known, `passed` and the columns from `budget` to
        `burn_rate` are NA. If `sessions` is a table of `rpo_adherence`, the last four columns
        are NA, because it does not have them per VM.

    Raises
    ------
    InputError
        If an objective is not between 0 and 1, or a column or an argument is missing or of
        the wrong kind.

    See Also
    --------
    rpo_adherence : the definitions.

    Notes
    -----
    `passed` and `budget` are exact: the objective is read as a decimal number, and times are
    compared in whole microseconds. The budget of a group is the sum of the budgets of its
    VMs, never a mean of ratios.

    References
    ----------
    B. Beyer et al., "The Site Reliability Workbook", ch. 5, "Alerting on SLOs" (2018).

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 9], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 24], unit="h"),
    ... })
    >>> row = objectives(sessions, 0.95, "15min", by="vm").iloc[0]
    >>> bool(row["passed"]), row["budget"], row["remaining"], float(round(row["burn_rate"], 3))
    (True, Timedelta('0 days 01:12:00'), Timedelta('0 days 00:27:00'), 0.625)
    """
    if {"observed", "breached"} <= set(sessions) and "created" not in sessions:
        passed = {
            "target": target, "since": since, "until": until, "as_of": as_of, "freq": freq,
            "schedule": schedule, "policies": policies, "unobserved": unobserved,
            "exclude": exclude, "retire_after": retire_after, "grace": grace,
        }  # fmt: skip
        if any(value is not None and value is not UNSET for value in passed.values()):
            raise InputError(
                "this is a table of adherence: objectives takes only objective= with it; "
                "give the other arguments to rpo_adherence"
            )
        return _of_adherence(sessions, Shares.parse(objective))
    question = Question.parse(by, since=since, until=until, as_of=as_of, freq=freq, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return OBJECTIVES.evaluate(sessions, question, terms, objective=objective)


def _promised(
    sessions: pd.DataFrame, question: Question, terms: Terms, objective: Objective
) -> Promised:
    """Sums by VM, when it was observed and breached, and how much time lies ahead in the window."""
    decisive = Shares.parse(objective).columns
    by = tuple(dict.fromkeys((*question.by, *VM, *decisive)))
    arrays = arrays_of(sessions, question, terms)
    cells = cells_for(arrays, by, window(arrays, question))
    parts: list[tuple[Stretches, Stretches]] = []

    def add(exposure: Exposure, places: BlockCells, sums: Aggregates) -> None:
        parts.append(stretches_of(exposure, cells.group.of[exposure.tiles.row], cells.window.count))
        pieces, unknown = exposure.pieces, unknown_at_end(exposure, cells.window.edges)
        of = places.of_tiles(exposure, pieces.tile, pieces.period)
        sums.sum["undecided"] = grouping.count(of, places.size, unknown)

    sums = sum_cells(arrays, terms, cells, add)
    sums.sum["undecided"] += _never_seen(arrays, terms, cells)
    sums.sum["ahead"] = _time_ahead(sessions, arrays, terms, replace(question, by=by), sums)
    observed, breached = (Stretches.joined([part[kind] for part in parts]) for kind in (0, 1))
    return Promised(sums, observed, breached)


def _never_seen(arrays: SessionArrays, terms: Terms, cells: Cells) -> Integers:
    """How many VMs of each cell a policy names though they have no attempt, and are not excluded."""
    count = len(arrays.created)
    listed = np.arange(count, len(arrays.vm))
    seen = np.unique(arrays.vm[:count][arrays.attempt])
    never = listed[~np.isin(arrays.vm[listed], seen)]
    numbers = np.zeros((cells.group.count, cells.window.count), dtype=np.int64)
    maker = ClockMaker(arrays, terms, arrays.as_of)
    for period, end in enumerate(cells.window.edges[1:]):
        included = never
        if len(never) and terms.exclude is not None:
            included = never[~maker.excluded_at(never, np.full(len(never), end))]
        numbers[:, period] = grouping.count(cells.group.of[included], cells.group.count)
    return numbers.ravel()


def _time_ahead(
    sessions: pd.DataFrame,
    arrays: SessionArrays,
    terms: Terms,
    question: Question,
    sums: Aggregates,
) -> Integers:
    """Scheduled time of each cell between as_of and the end of the window."""
    known = facts(sessions)
    now = effective_as_of(sessions, known, question, terms.protects)
    ahead = np.zeros(sums.shape, dtype=np.int64)
    end = _promised_until(sums.window, question.until or known.promised_until)
    if end is not None and now == sums.window.edges[-1] < end:
        ahead[:, -1] = _ahead(arrays, terms, question, end)
    return ahead.ravel()


def _promised_until(window: Window, until: object) -> int | None:
    """Where the last period of the window ends, though it may lie ahead of as_of."""
    stop = None if until is None else microseconds(until, "until")
    ends = [end for end in (stop, window.following) if end is not None]
    return min(ends, default=None)


def _ahead(arrays: SessionArrays, terms: Terms, question: Question, end: int) -> Integers:
    """Scheduled time between as_of and `end` of the VMs of each group that are not retired."""
    group = grouping.groups(arrays, question.by)
    maker = ClockMaker(arrays, terms, end)
    retired, now = retirements(arrays, terms)[0], arrays.as_of

    def ahead(positions: Integers) -> Integers:
        rows = positions[positions < len(arrays.created)]
        tiles = sweep(arrays, rows, terms.protects, group.of)
        last = tiles.at(np.flatnonzero(tiles.last_of_vm & ~np.isin(tiles.vm, retired)))
        clock = maker.make(last)
        edge = np.ones(len(last.row), dtype=np.int64)
        return grouping.total(
            group.of[last.row], clock.read(edge * end) - clock.read(edge * now), group.count
        )

    return np.sum(parallel_map(ahead, vm_blocks(arrays)), axis=0)


@dataclass(frozen=True)
class _Sums:
    """Sums by cell, of the VMs with a known target, and what their objectives allow: so far, and in all."""

    observed: Integers
    breached: Integers
    undecided: Integers
    ahead: Integers
    allowed: Integers
    budget: Integers
    exact: np.ndarray

    @property
    def missed(self) -> Flags:
        """Where the budget of the time so far is spent."""
        return (self.observed > 0) & (self.breached > self.allowed)

    @property
    def met(self) -> Flags:
        """Where it is not, and each VM is known."""
        return (self.observed > 0) & ~self.missed & (self.undecided == 0)


def _budgets(
    part: Promised, question: Question, terms: Terms, objective: Objective
) -> pd.DataFrame:
    shares, fine = Shares.parse(objective), part.sums
    count = fine.window.count
    per_vm = fine.grouped(list(dict.fromkeys((*question.by, *VM))))
    groups = fine.grouped(question.by)
    vm, group = cells_of(per_vm.of, count), cells_of(groups.of, count)
    without = grouping.total(vm, fine.sum["without_target"], per_vm.count * count) > 0
    share, kept = shares.of(fine.groups), ~without[vm]
    table = adherence_table(regroup(fine, question.by))
    size = len(table)

    home = np.zeros(per_vm.count * count, dtype=np.int64)
    home[vm] = group
    # A VM that two policies of a group name is one VM that was never seen.
    undecided = grouping.total(vm[kept], fine.sum["undecided"][kept], len(home)) > 0

    def summed(cells: Integers, size: int, undecided: Integers) -> _Sums:
        cells, sums = cells[kept], {name: values[kept] for name, values in fine.sum.items()}
        observed, breached, ahead = (
            grouping.total(cells, sums[name], size) for name in ("observed", "breached", "ahead")
        )
        mine = np.repeat(share, count)[kept]
        allowed, _ = shares.allowed(sums["observed"], mine, cells, size)
        promised = sums["observed"] + sums["ahead"]
        budget, exact = shares.allowed(promised, mine, cells, size)
        return _Sums(observed, breached, undecided, ahead, allowed, budget, exact)

    sums = summed(group, size, grouping.count(home, size, undecided))
    together, late = (
        stretches.moved(group, kept).total(size) for stretches in (part.observed, part.breached)
    )
    promised = np.repeat(shares.column(share, groups.of, groups.count), count)
    table = _judged(table, promised, sums)
    each = summed(vm, len(home), undecided.astype(np.int64))
    met = grouping.count(home, size, each.met)
    return grouping.table_of(table, {
        "vms_met": pd.array(met, dtype="Int64"),
        "all_protected": 1 - grouping.share(late, together, together > 0),
        "no_target": pd.array(grouping.count(home, size, without), dtype="Int64"),
        "undecided": pd.array(sums.undecided, dtype="Int64"),
    })  # fmt: skip


def _of_adherence(adherence: pd.DataFrame, shares: Shares) -> pd.DataFrame:
    """The objective of a table of adherence, which does not say what its VMs did each."""
    observed, breached = (_microseconds(adherence[name]) for name in ("observed", "breached"))
    known = breached != UNKNOWN
    observed, breached = np.where(known, observed, 0), np.where(known, breached, 0)
    nothing = np.zeros(len(adherence), dtype=np.int64)
    share, each = shares.of(adherence), np.arange(len(adherence))
    allowed, exact = shares.allowed(observed, share, each, len(adherence))
    sums = _Sums(observed, breached, nothing, nothing, allowed, allowed, exact)
    promised = shares.column(share, each, len(adherence))
    table = _judged(adherence.reset_index(drop=True), promised, sums)
    unknown = pd.array([pd.NA] * len(table), dtype="Int64")
    return table.assign(vms_met=unknown, all_protected=np.nan, no_target=unknown, undecided=unknown)


def _judged(adherence: pd.DataFrame, objective: np.ndarray, sums: _Sums) -> pd.DataFrame:
    judged, spent, promised = sums.observed > 0, sums.breached, sums.observed + sums.ahead
    times = {"budget": sums.budget, "spent": spent, "remaining": sums.budget - spent}
    elapsed = grouping.share(sums.observed, promised, judged)
    used = grouping.share(spent, sums.exact, judged & (sums.exact > 0))
    kept = adherence[[name for name in adherence if name not in _FIGURES]]
    return grouping.table_of(kept, {
        "observed": lengths(sums.observed),
        "adherence": 1 - grouping.share(spent, sums.observed, judged),
        "objective": objective,
        "passed": pd.arrays.BooleanArray(sums.met, ~(sums.met | sums.missed)),
        **{name: lengths(np.where(judged, values, UNKNOWN)) for name, values in times.items()},
        "elapsed": elapsed,
        # The share of the budget that is spent, over the share of the time that is over.
        "burn_rate": used / elapsed,
    })  # fmt: skip


def _microseconds(column: pd.Series) -> Integers:
    return column.astype("timedelta64[us]").to_numpy().view(np.int64)


OBJECTIVES = MetricSpec(
    name="objectives", command="objectives",
    summary="whether the objective was met, and what is left of its budget",
    function=objectives, partial=_promised, combine=combine_promised, finalize=_budgets,
    columns=COLUMNS, takes=EXPOSURE | {"freq"}, own={"objective": 0.999},
    regroup=lambda part, by: part,  # its sums stay by VM, for `_budgets` adds them up
)  # fmt: skip
