"""What is odd about the sessions themselves: counted and shown, never guessed at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.arrays import NO_VERDICT, SessionArrays, as_of_frame, read
from cdpanalytics.metrics.core.exposure import COLUMNS
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.kernels import (
    LARGEST,
    Flags,
    Integers,
    running_maximum,
    sort_by_vm_and_time,
)
from cdpanalytics.metrics.core.question import UNSET, Question, Table, Terms, Zone
from cdpanalytics.metrics.core.spec import WINDOW, MetricSpec
from cdpanalytics.metrics.core.values import UNKNOWN, amounts, instants, microseconds
from cdpanalytics.metrics.core.windows import policies_then, resolve_window, window
from cdpanalytics.schema import RESULTS, STATES


def quality(
    sessions: pd.DataFrame,
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: Zone = UNSET,
    policies: Table = UNSET,
) -> pd.DataFrame:
    """Count unusual sessions, with what each means for the metrics.

    In the example, the second session ends before it begins.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`. The other columns of a frame
        of sessions are used if they are there.
    as_of, policies, since, until
        As in `rpo_adherence`. Sessions that begin in the window are counted. Each is compared
        with all sessions of the frame, so the first session of a VM need not be the first
        one of the window. Sessions without a beginning are counted only without a window.

    Returns
    -------
    pandas.DataFrame
        One row per finding, also if no session has it. A finding about a column that the
        frame does not have has no row. The columns are ``finding``, ``sessions`` (the number
        of rows with it), ``share`` (of all counted rows; NA without rows), ``vms`` (VMs with
        such rows) and ``consequence`` (what it means for the metrics). A session can have
        several findings. In the order of the rows:

        ``no beginning`` : `created` is missing. The metrics refuse such rows: drop them.
        ``fetched twice`` : there is a row of the same `uid` with a newer `as_of` (or a later
        row). Such rows are left out of all findings below.
        ``no vm`` : `vm` is missing. All such sessions count as one VM without a name.
        ``begins after as_of`` : it begins at `as_of` or later. It does not cover yet.
        ``ends after as_of`` : it covers up to `as_of`.
        ``ends before it begins`` : it has no span and no verdict.
        ``completed without an end`` : it has no span and no verdict.
        ``running, pending`` : two findings. There is no verdict yet. A running session
        covers, a pending one does not.
        ``unknown state`` : the state is missing or not known. It has no span and no verdict.
        ``no known result`` : it is finished, and its result is None or not known. It covers,
        but not for `adherence_strict`, and counts as unknown.
        ``overlaps an earlier one`` : it begins before another session of its VM has ended.
        The union of both is covered.
        ``first of its VM`` : the first copy may be in it. Before the end of that copy there
        is nothing to restore, but the records do not show when it ended.
        ``policy failed`` : it ended with Success or Warning, but its policy session Failed.
        ``no policy`` : it has no policy. Its group has no name.
        ``no target`` : neither the session nor `policies` has an RPO. Adherence is NA.
        ``no size, negative size`` : two findings. It is finished without `total_size`, or
        with one below 0. The first is left out of sizes, the second is used as it is.

    Raises
    ------
    InputError
        If a column is missing or of the wrong kind.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 9], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 7], unit="h"),
    ... })
    >>> found = quality(sessions, as_of=day + pd.Timedelta("1D")).set_index("finding")["sessions"]
    >>> found[found > 0].to_dict()
    {'ends before it begins': 1, 'first of its VM': 1}
    """
    question = Question.parse((), since=since, until=until, as_of=as_of, tz=tz)
    return QUALITY.evaluate(sessions, question, Terms.parse(policies=policies))


def _counts(sessions: pd.DataFrame, question: Question, terms: Terms) -> pd.DataFrame:
    """One row per finding, and a last one of all sessions, which is not a finding."""
    known = facts(sessions)
    since, until = resolve_window(known, question)
    begun = (
        instants(sessions, "created") != UNKNOWN
        if "created" in sessions
        else np.ones(len(sessions), dtype=bool)
    )
    dated = sessions[begun]
    now = as_of_frame(dated, known, question.as_of)
    policies = policies_then(dated, known, question, terms.policies)
    arrays = read(dated, now, policies, facts=known, named_until=until)
    inside = _begun(arrays.created, since, until)
    if not (since is None and until is None):
        window(arrays, question)  # refuses a window that is empty or too large
        dated = dated[_begun(instants(dated, "created"), since, until)]
        sessions, begun = dated, np.ones(len(dated), dtype=bool)
    rows = [
        ("no beginning", int((~begun).sum()), _vms(sessions[~begun]), "refused: drop them"),
        ("fetched twice", len(dated) - int(inside.sum()), _vms(_repeated(dated)),
         "the newest row counts"),
    ]  # fmt: skip
    for finding, (odd, consequence) in _findings(arrays).items():
        where = odd & inside
        machines = len(np.unique(arrays.vm[: len(where)][where]))
        rows.append((finding, int(where.sum()), machines, consequence))
    rows.append(("", len(sessions), 0, ""))
    return pd.DataFrame(rows, columns=["finding", "sessions", "vms", "consequence"])


def _combine(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Add up counts of disjoint VMs."""
    every = pd.concat(parts, ignore_index=True)
    return every.groupby(["finding", "consequence"], sort=False, as_index=False).sum()


def _shares(counts: pd.DataFrame, question: Question, terms: Terms) -> pd.DataFrame:
    every = counts.loc[counts["finding"] == "", "sessions"].sum()
    table = counts[counts["finding"] != ""][["finding", "sessions", "vms", "consequence"]]
    table = table.reset_index(drop=True)
    table.insert(2, "share", table["sessions"] / every if every else np.nan)
    return table.astype({"finding": "str", "share": float, "consequence": "str"})


def _begun(created: Integers, since: pd.Timestamp | None, until: pd.Timestamp | None) -> Flags:
    """Which sessions begin in the window, also after as_of."""
    start = UNKNOWN if since is None else microseconds(since, "since")
    stop = LARGEST if until is None else microseconds(until, "until")
    return (created >= start) & (created < stop)


def _vms(sessions: pd.DataFrame) -> int:
    keys = [key for key in ("backup_server", "vm") if key in sessions]
    return len(sessions[keys].drop_duplicates())


def _repeated(sessions: pd.DataFrame) -> pd.DataFrame:
    if "uid" not in sessions:
        return sessions.iloc[:0]
    return sessions[sessions["uid"].duplicated() & sessions["uid"].notna()]


def _findings(arrays: SessionArrays) -> dict[str, tuple[Flags, str]]:
    frame = arrays.frame
    ended = instants(frame, "ended")
    over = arrays.completed & (arrays.ended != UNKNOWN)
    backwards = over & (arrays.ended < arrays.created)
    findings = {
        "no vm": (frame["vm"].isna().to_numpy(), "one VM without a name"),
        "begins after as_of": (arrays.created >= arrays.as_of, "covers nothing yet"),
        "ends after as_of": (
            (ended != UNKNOWN) & (ended > arrays.as_of),
            "covers up to as_of",
        ),
        "ends before it begins": (backwards, "no span, no verdict"),
        "completed without an end": (
            arrays.completed & (arrays.ended == UNKNOWN),
            "no span, no verdict",
        ),
        "running": (arrays.running, "covers, no verdict yet"),
    }
    if "state" in frame:
        findings["pending"] = (_is(frame["state"], ["Pending"]), "does not cover, no verdict yet")
        findings["unknown state"] = (~_is(frame["state"], STATES), "no span, no verdict")
    if "result" in frame:
        known = arrays.verdict != NO_VERDICT
        findings["no known result"] = (
            over & ~backwards & ~known,
            "covers, but not for adherence_strict",
        )
    overlaps, first = _in_their_vm(arrays)
    findings["overlaps an earlier one"] = (overlaps, "both together are covered")
    findings["first of its VM"] = (first, "may contain the first copy")
    if "policy_result" in frame:
        fine = arrays.protecting(RESULTS[1:3]) & (arrays.verdict != NO_VERDICT)
        findings["policy failed"] = (
            fine & _is(frame["policy_result"], ["Failed"]),
            "covers; both results are kept",
        )
    if "policy" in frame:
        findings["no policy"] = (frame["policy"].isna().to_numpy(), "its group has no name")
    if "rpo" in frame or (arrays.rpo != UNKNOWN).any():
        findings["no target"] = (arrays.rpo == UNKNOWN, "adherence is NA")
    if "total_size" in frame:
        size = amounts(frame)
        findings["no size"] = (arrays.finished & size.isna().to_numpy(), "left out of sizes")
        findings["negative size"] = (
            (size < 0).fillna(False).to_numpy(dtype=bool),
            "used as it is",
        )
    return findings


def _is(column: pd.Series, words: object) -> Flags:
    return column.astype("object").isin(list(words)).to_numpy(dtype=bool)  # type: ignore[call-overload]


def _in_their_vm(arrays: SessionArrays) -> tuple[Flags, Flags]:
    """Return which sessions begin while another of their VM has not ended, and which are first."""
    count = len(arrays.created)
    order = sort_by_vm_and_time(
        arrays.vm[:count], arrays.created, lambda tied: (arrays.stop[tied],)
    )
    first = np.ones(count, dtype=bool)
    first[1:] = arrays.vm[order][1:] != arrays.vm[order][:-1]
    stop, created = arrays.stop[order], arrays.created[order]
    reach = running_maximum(np.where(stop == UNKNOWN, created, stop), np.cumsum(first) - 1)
    inside = np.zeros(count, dtype=bool)
    inside[1:] = (created[1:] < reach[:-1]) & ~first[1:]
    back = np.argsort(order)
    return inside[back], first[back]


QUALITY = MetricSpec(
    name="quality", command="quality", summary="what is odd about the sessions themselves",
    function=quality, partial=_counts, combine=_combine, finalize=_shares,
    columns=(*COLUMNS, "policy_result", "total_size"), by=None, takes=WINDOW | {"tz", "policies"},
    whose="session",
)  # fmt: skip
