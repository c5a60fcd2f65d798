"""Recovery points: what each VM could have been restored to at an instant, from the journal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.groups import rows_by
from cdpanalytics.metrics.core.kernels import Flags, Integers
from cdpanalytics.metrics.core.policies import newest_setting
from cdpanalytics.metrics.core.question import UNSET, Question, Table, Terms, Zone
from cdpanalytics.metrics.core.spec import REQUIRED, MetricSpec, concat
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    duration,
    durations_of,
    instant,
    instants,
    lengths,
    require,
    timestamps,
    us_of,
)
from cdpanalytics.schema import ASKED, VM

_KEYS = [*VM, "policy"]


def recovery_points(
    intervals: pd.DataFrame,
    at: object,
    target: object = None,
    *,
    vms: pd.DataFrame | None = None,
    policies: Table = UNSET,
    tz: Zone = UNSET,
) -> pd.DataFrame:
    """Return the newest instant to which each VM could be restored at `at`.

    In the example, the VM could be restored to any time up to 08:00. At 07:00, the data of 40
    seconds would have been lost, because the RPO was 40 seconds. At 09:30, the data since 08:00
    would have been lost.

    The result comes from restorable intervals, by what was known then. Retention may have
    removed them since. Inside an interval, the recovery point is `at` minus the RPO of the
    interval. Else it is the end of the newest interval before `at`.

    Parameters
    ----------
    intervals : pandas.DataFrame
        ``archive.intervals()``: needs `vm`, `start`, `end`, `rpo`, `kind`; uses
        `backup_server` and `policy`. Rows of kind ``Asked`` are the times about which the
        server was asked. All others are restorable times. Both ends are included.
    at : timestamp-like
        The instant.
    target : timedelta-like, optional
        The RPO. Default: the newest RPO of each policy in `policies`.
    vms : pandas.DataFrame, optional
        More VMs than those of the journal: `backup_server`, `vm`, `policy`.
    policies : pandas.DataFrame, optional
        ``archive.policies()``.
    tz : str
        Zone of an `at` without an offset. Default: UTC.

    Returns
    -------
    pandas.DataFrame
        One row per VM, worst first: VMs with nothing to restore, then the longest `age`, and
        last the VMs about which the server was not asked. The columns are ``backup_server, vm,
        policy``, then

        ``recovery_point`` : the newest instant to which the VM could be restored.
        ``age`` : Timedelta, `at` minus the recovery point: the time whose data would have been
        lost.
        ``achieved`` : Timedelta, the RPO of the interval; the longest, if several contain `at`.
        ``target`` : the RPO.
        ``within`` : whether `age` is at most the target; False if the server was asked and
        nothing could be restored.
        ``at`` : the instant.

        If the server was not asked about `at`, the first three and `within` are NA.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind.

    See Also
    --------
    journal_adherence : the RPO achieved over time.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> intervals = pd.DataFrame({
    ...     "vm": "db-01", "kind": ["Asked", "RestoreAvailable", "RestoreAvailable"],
    ...     "start": day + pd.to_timedelta([0, 0, 6], unit="h"),
    ...     "end": day + pd.to_timedelta([10, 6, 8], unit="h"),
    ...     "rpo": pd.to_timedelta([None, "15s", "40s"]),
    ... })
    >>> row = recovery_points(intervals, "2026-10-01T07:00Z", "15s").iloc[0]
    >>> row["age"], bool(row["within"])
    (Timedelta('0 days 00:00:40'), False)
    >>> recovery_points(intervals, "2026-10-01T09:30Z")["age"].iloc[0]
    Timedelta('0 days 01:30:00')
    """
    terms = Terms.parse(target, policies=policies)
    question = Question.parse((), tz=tz)
    return RECOVERY_POINTS.evaluate(intervals, question, terms, at=at, vms=vms)


def newest_points(intervals: pd.DataFrame | None, vms: pd.DataFrame, at: Integers) -> pd.DataFrame:
    """Return the recovery point of each VM, its age and the RPO achieved, NA where not known.

    Parameters
    ----------
    intervals : pandas.DataFrame, optional
        The journal; without one nothing was asked.
    vms : pandas.DataFrame
        `backup_server` and `vm`, each VM once.
    at : numpy.ndarray
        The instant of each VM.
    """
    point, achieved = np.full(len(vms), UNKNOWN), np.full(len(vms), UNKNOWN)
    asked = np.zeros(len(vms), dtype=bool)
    if intervals is not None and len(intervals) and len(vms):
        require(intervals, ("vm", "start", "end", "rpo", "kind"), "; intervals need")
        place = rows_by(_named(vms, VM), _named(intervals, VM), VM)
        _look_up(intervals, place, at, (point, achieved, asked))
    known = asked & (point != UNKNOWN)
    age = np.where(known, at - np.where(known, point, 0), UNKNOWN)
    return pd.DataFrame({
        "recovery_point": timestamps(np.where(known, point, UNKNOWN)), "age": lengths(age),
        "achieved": lengths(np.where(known, achieved, UNKNOWN)), "asked": asked,
    })  # fmt: skip


def _look_up(
    intervals: pd.DataFrame,
    place: Integers,
    at: Integers,
    found: tuple[Integers, Integers, Flags],
) -> None:
    """Fill in the point, the RPO achieved and whether it was asked, for the VM at each `place`."""
    point, achieved, asked = found
    start, end = (instants(intervals, name) for name in ("start", "end"))
    rpo, when = durations_of(intervals["rpo"]), at[np.maximum(place, 0)]
    is_asked = intervals["kind"].astype("str").eq(ASKED).to_numpy()
    begun = (place >= 0) & (start <= when)
    asked[place[begun & is_asked & (end >= when)]] = True
    inside = begun & ~is_asked & (end >= when) & (rpo != UNKNOWN)
    before = begun & ~is_asked & (end < when)
    # What is written last counts: an interval over the instant rather than one before it.
    for rows, rank, instant_of in ((before, end, end), (inside, rpo, when - rpo)):
        order = np.flatnonzero(rows)
        order = order[np.lexsort((rpo[order], rank[order], place[order]))]
        point[place[order]], achieved[place[order]] = instant_of[order], rpo[order]


def _named(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of names, NA where the table has none of them."""
    return pd.DataFrame({
        name: table[name].astype("str") if name in table
        else pd.Series([None] * len(table), index=table.index, dtype="str")
        for name in columns
    })  # fmt: skip


def _points(
    intervals: pd.DataFrame,
    question: Question,
    terms: Terms,
    at: object,
    vms: pd.DataFrame | None,
) -> pd.DataFrame:
    """One row per VM of the journal: its newest policy, and what it could be restored to."""
    require(intervals, ("vm", "start", "end", "rpo", "kind"), "; intervals need")
    start = instants(intervals, "start")
    named = _named(intervals, _KEYS).reset_index(drop=True).iloc[np.argsort(start, kind="stable")]
    listed = [named] if vms is None else [_named(vms, _KEYS), named]
    every = pd.concat(listed, ignore_index=True).drop_duplicates(VM, keep="last")
    every = every.reset_index(drop=True)
    when = np.full(len(every), us_of(instant(at, "at", question.tz)))
    return every.join(newest_points(intervals, every, when)).assign(at=timestamps(when))


def _finished(
    table: pd.DataFrame,
    question: Question,
    terms: Terms,
    at: object,
    vms: pd.DataFrame | None,
) -> pd.DataFrame:
    table = table.drop_duplicates(VM, keep="last").reset_index(drop=True)
    goal = np.full(len(table), UNKNOWN)
    if terms.target is not None:
        goal = np.full(len(table), duration(terms.target))
    elif len(table):
        with_server = table["backup_server"].notna().any()
        own = table[["backup_server", "policy"] if with_server else ["policy"]]
        goal = durations_of(newest_setting(own, terms.policies, "rpo"))
    asked = table["asked"].to_numpy(dtype=bool)
    age = durations_of(table["age"])
    within = pd.Series(pd.array((age != UNKNOWN) & (age <= goal), dtype="boolean"))
    within[~asked | (goal == UNKNOWN)] = pd.NA
    table = table.assign(target=lengths(goal), within=within)
    columns = [*_KEYS, "recovery_point", "age", "achieved", "target", "within", "at"]
    ranked = table.assign(known=age != UNKNOWN).sort_values(
        ["asked", "known", "age", *VM], ascending=[False, True, False, True, True], kind="stable"
    )
    return ranked[columns].reset_index(drop=True)


RECOVERY_POINTS = MetricSpec(
    name="recovery_points", command="recovery-points",
    summary="what each VM could have been restored to at an instant (after sync --journal)",
    function=recovery_points, partial=_points, combine=concat, finalize=_finished,
    columns=("vm", "policy", "backup_server", "start", "end", "rpo", "kind"),
    table="intervals", neighbours=False, by=None,
    takes=frozenset({"target", "policies", "tz"}), own={"at": REQUIRED, "vms": None}, whose="session",
)  # fmt: skip
