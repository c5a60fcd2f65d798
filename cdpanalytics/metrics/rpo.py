"""RPO adherence and gaps: how long each VM was not replicated, held against a promise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.execution.partition import Recipe, as_it_is, declare
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Sums, Tally, joined, merge, tally
from cdpanalytics.metrics.core.clocks import Schedule, Stretches
from cdpanalytics.metrics.core.exposure import Exposure, Terms, late, measure, records_of
from cdpanalytics.metrics.core.groups import By, lengths, share
from cdpanalytics.metrics.core.spans import (
    FAILED,
    MOST,
    NO_VERDICT,
    PROTECTS,
    SUCCESS,
    UNKNOWN,
    WARNING,
    Flags,
    Integers,
    Labels,
    Records,
    in_order,
    last_before,
    running_maximum,
    span,
)
from cdpanalytics.metrics.core.windows import window
from cdpanalytics.schema import RESULTS

VM = ("backup_server", "vm")
"""Whose rows exposure needs together."""

LEFT_OUT = ("unobserved", "excluded")
"""Times left out of observed time, each a column where it was asked for."""

COLUMNS = (
    "uid", "vm", "policy", "backup_server", "created", "ended", "state", "result", "rpo", "as_of",
)  # fmt: skip
"""What exposure looks at."""


def rpo_adherence(
    sessions: pd.DataFrame,
    target: object = None,
    by: By = ("policy", "vm"),
    since: object = None,
    until: object = None,
    as_of: object = None,
    freq: str | None = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
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
    return adherence_of(
        exposure_sums(
            sessions, target, by, since, until, as_of, freq, schedule, tz, protects, policies,
            unobserved, exclude, retire_after,
        )
    )  # fmt: skip


def gaps(
    sessions: pd.DataFrame,
    target: object = None,
    since: object = None,
    until: object = None,
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
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
    records = records_of(sessions, as_of, policies, unobserved, protects)
    frame = window(records, since, until, None, tz)
    terms = Terms(target, schedule, tz, protects, policies, exclude, retire_after)
    found = [
        np.concatenate(parts) for parts in zip(*measure(records, terms, frame, _gaps), strict=True)
    ]
    cause = _causes(records, protects, *found[1:4])
    order = _by_start(records, found[0], found[2])
    row, _, start, end, length, goal, retired = (values[order] for values in found)
    table = pd.DataFrame(
        {key: records.labels[key].at(row) for key in ("backup_server", "vm", "policy")}
    )
    table["start"], table["end"] = _times(start), _times(end)
    table["open"] = end == records.as_of
    table["exposure"] = lengths(length)
    table["breached"] = lengths(np.where(goal == UNKNOWN, UNKNOWN, np.maximum(length - goal, 0)))
    table["cause"] = cause.at(order)
    if retire_after is not None:
        table["retired"] = retired
    return table


def what_if(
    sessions: pd.DataFrame,
    targets: Sequence[object],
    by: By = (),
    since: object = None,
    until: object = None,
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> pd.DataFrame:
    """Return what adherence would have been under other targets, from one look at the gaps.

    Parameters
    ----------
    sessions, by, since, until, as_of, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude` and `retire_after`.
    targets : sequence of timedelta-like
        The RPOs to try, any number; one alone may stand bare.

    Returns
    -------
    pandas.DataFrame
        A row a group and target, targets in the order given: the keys, ``rpo`` (the
        target), and of `rpo_adherence` with that target ``observed, exposed, breached,
        gaps, breaches, adherence, gap_adherence``, and what was left out, as there.
        Adherence never falls as the target grows.

    Raises
    ------
    InputError
        When there is no target, or a column or an argument is missing or wrong.

    See Also
    --------
    rpo_adherence : the definitions.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 9], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 18], unit="h"),
    ... })
    >>> what_if(sessions, ["15min", "1h"])[["rpo", "breached", "breaches"]]
                  rpo        breached  breaches
    0 0 days 00:15:00 0 days 00:45:00         1
    1 0 days 01:00:00 0 days 00:00:00         0
    """
    return _tried(
        what_if_sums(
            sessions, targets, by, since, until, as_of, schedule, tz, protects, policies,
            unobserved, exclude, retire_after,
        ),
        targets,
    )  # fmt: skip


def exposure_sums(
    sessions: pd.DataFrame,
    target: object = None,
    by: By = ("policy", "vm"),
    since: object = None,
    until: object = None,
    as_of: object = None,
    freq: str | None = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> Sums:
    """Return what `rpo_adherence` (whose arguments these are) is made of."""
    records = records_of(sessions, as_of, policies, unobserved, protects)
    cells = tally(records, by, window(records, since, until, freq, tz))
    terms = Terms(target, schedule, tz, protects, policies, exclude, retire_after)

    def goals_of(found: Exposure, own: Tally, sums: Sums) -> None:
        if target is None:
            held = own.cells(found.piece_span, found.piece_period)
            goals = _extremes(held, found.target[found.piece_span], own.size)
            sums.least["rpo"], sums.greatest["rpo"] = goals

    sums = _summed(records, terms, cells, unobserved, goals_of)
    if not records.has_verdicts:
        del sums.added["strict"]
    goals = _targets(records, sums, cells, target)
    return cells.sums(
        added=_count_verdicts(records, cells) | sums.added,
        greatest=sums.greatest | {name: high for name, (_, high) in goals.items()},
        least={name: low for name, (low, _) in goals.items()},
    )


def adherence_of(sums: Sums) -> pd.DataFrame:
    """Return the table of `rpo_adherence`: sums as they are, and ratios of sums."""
    added, observed = sums.added, sums.added["observed"]
    known = added["aimless"] == 0
    judged = (observed > 0) & known
    finished = added["success"] + added["warning"] + added["failed"]
    table = sums.keys()
    # A cell in which nothing happens has the target of its group.
    still = sums.least["rpo"] == MOST
    goal = np.where(still, sums.single("rpo_ever"), sums.single("rpo"))
    table["rpo"] = lengths(goal)
    for name in ("sessions", "success", "warning", "failed", "unknown"):
        table[name] = added[name]
    table["observed"], table["exposed"] = lengths(observed), lengths(added["exposed"])
    table["breached"] = lengths(np.where(known, added["breached"], UNKNOWN))
    table["gaps"] = added["gaps"]
    table["breaches"] = pd.array(np.where(known, added["breaches"], 0), dtype="Int64")
    table.loc[~known, "breaches"] = pd.NA
    table["worst_gap"] = lengths(sums.greatest["worst_gap"])
    table["adherence"] = 1 - share(added["breached"], observed, judged)
    nobody = np.zeros(sums.size, dtype=bool)
    strict = added.get("strict", observed)
    table["adherence_strict"] = 1 - share(strict, observed, judged if "strict" in added else nobody)
    some = known & (added["gaps"] > 0)
    table["gap_adherence"] = 1 - share(added["breaches"], added["gaps"], some)
    table["success_rate"] = share(added["success"], finished, finished > 0)
    return table.assign(**left_out_of(sums))


def left_out_of(sums: Sums) -> dict[str, pd.Series | Integers]:
    """Return the columns of what was left out of observed time, as far as it was asked for."""
    times = {name: lengths(sums.added[name]) for name in LEFT_OUT if name in sums.added}
    return times | {name: sums.added[name] for name in ("retired",) if name in sums.added}


def what_if_sums(
    sessions: pd.DataFrame,
    targets: Sequence[object],
    by: By = (),
    since: object = None,
    until: object = None,
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> Sums:
    """Return what `what_if` (whose arguments these are) is made of."""
    goals = _goals(targets)
    records = records_of(sessions, as_of, policies, unobserved, protects)
    cells = tally(records, by, window(records, since, until, None, tz))
    terms = Terms(pd.Timedelta(0), schedule, tz, protects, policies, exclude, retire_after)

    def tried(found: Exposure, own: Tally, sums: Sums) -> None:
        in_gap = found.piece_exposed[found.bare] > 0
        piece, age, final_age = (v[in_gap] for v in (found.bare, found.age, found.final_age))
        length = found.length[found.piece_span[piece]]
        places = own.cells(found.piece_span[piece], found.piece_period[piece])
        for goal in goals:
            late_by = late(age, final_age, goal)
            sums.added[f"breached {goal}"] = grouping.total(places, late_by, own.size)
            sums.added[f"breaches {goal}"] = grouping.count(places, own.size, length > goal)

    return _summed(records, terms, cells, unobserved, tried)


def _summed(
    records: Records, terms: Terms, cells: Tally, unobserved: pd.DataFrame | None,
    add: Callable[[Exposure, Tally, Sums], None],
) -> Sums:  # fmt: skip
    """The sums of exposure of all ranges of spans, to each of which `add` adds its own."""
    asked = {"unobserved": unobserved, "excluded": terms.exclude, "retired": terms.retire_after}

    def part(found: Exposure) -> Sums:
        own = cells.among(found.spans.row)
        sums = _sum_exposure(found, own, asked)
        add(found, own, sums)
        return sums

    parts = measure(records, terms, cells.window, part)
    return joined(cells, parts, [part.groups.index.to_numpy() for part in parts])


def _tried(sums: Sums, targets: Sequence[object]) -> pd.DataFrame:
    """Return the table of `what_if`."""
    added, observed, gaps = sums.added, sums.added["observed"], sums.added["gaps"]
    keys, left_out, tables = sums.keys(), left_out_of(sums), []
    for goal in _goals(targets):
        breached, breaches = added[f"breached {goal}"], added[f"breaches {goal}"]
        table = keys.assign(rpo=lengths(np.full(sums.size, goal)))
        table["observed"], table["exposed"] = lengths(observed), lengths(added["exposed"])
        table["breached"], table["gaps"], table["breaches"] = lengths(breached), gaps, breaches
        table["adherence"] = 1 - share(breached, observed, observed > 0)
        table["gap_adherence"] = 1 - share(breaches, gaps, gaps > 0)
        tables.append(table.assign(**left_out))
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


def _goals(targets: Sequence[object]) -> list[int]:
    bare = isinstance(targets, str) or not isinstance(targets, Collection)
    goals = [span(target, "targets") for target in ([targets] if bare else targets)]
    if not goals:
        raise InputError("targets is empty; name at least one, e.g. what_if(sessions, ['15min'])")
    return goals


def _gaps(found: Exposure) -> tuple[Integers | Flags, ...]:
    """Gaps with some time in the window: session, VM, start, end, length, target, retired."""
    inside = np.zeros(len(found.length), dtype=bool)
    inside[found.piece_span[found.piece_exposed > 0]] = True
    inside[found.gone[0]] = True
    gap = np.flatnonzero(inside)
    spans = found.spans.at(gap)
    own = (found.length[gap], found.target[gap], found.retired[gap])
    return spans.row, spans.vm, spans.reach, spans.finish, *own


def _by_start(records: Records, row: Integers, start: Integers) -> Integers:
    """Order of gaps by start, then backup server, then VM; no name comes last."""
    labels = (records.labels[key] for key in ("backup_server", "vm"))
    names = [np.where(own.codes[row] < 0, len(own.names), own.codes[row]) for own in labels]
    return in_order(np.zeros_like(start), start, lambda tied: [name[tied] for name in names])


def _all_by_start(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    every = pd.concat(tables, ignore_index=True)
    return every.sort_values(["start", "backup_server", "vm"], kind="stable", ignore_index=True)


def _count_verdicts(records: Records, tally: Tally) -> dict[str, Integers]:
    period = tally.window.place(records.created)
    cells = tally.cells(np.arange(len(period)), period)
    pairs = np.maximum(cells * 4 + records.verdict, -1)
    pairs = grouping.count(pairs, tally.size * 4).reshape(tally.size, 4)
    names = {"success": SUCCESS, "warning": WARNING, "failed": FAILED, "unknown": NO_VERDICT}
    return {"sessions": pairs.sum(axis=1), **{name: pairs[:, at] for name, at in names.items()}}


def _sum_exposure(found: Exposure, own: Tally, asked: dict[str, object]) -> Sums:
    """Sums by cell of a range of spans, and the longest gap, UNKNOWN where there is none."""
    cells, size = own.cells(found.piece_span, found.piece_period), own.size
    in_gap = np.flatnonzero(found.piece_exposed > 0)
    gap_cells, gap_spans, bare = cells[in_gap], found.piece_span[in_gap], cells[found.bare]
    whole, goal = found.length[gap_spans], found.target[found.piece_span]
    missed = (whole > goal[in_gap]) & (goal[in_gap] != UNKNOWN)
    aimless = (goal == UNKNOWN) & (found.piece_observed > 0)
    added = {
        "observed": grouping.total(cells, found.piece_observed, size),
        "exposed": grouping.total(cells, found.piece_exposed, size),
        "breached": grouping.total(bare, found.breached, size),
        "strict": grouping.total(bare, found.breached_strict, size),
        "gaps": grouping.count(gap_cells, size),
        "breaches": grouping.count(gap_cells, size, missed),
        "aimless": grouping.count(cells, size, aimless),
    }
    worst = grouping.extreme(gap_cells, whole, size, np.maximum, UNKNOWN)
    return own.sums(
        added=added | _left_out(found, own, cells, asked),
        greatest={"worst_gap": worst},
        least={},
    )


def _left_out(
    found: Exposure, tally: Tally, cells: Integers, asked: dict[str, object]
) -> dict[str, Integers]:
    """What is left out of observed time, of each kind that was asked for."""
    sums = {}
    if asked["unobserved"] is not None:
        sums["unobserved"] = grouping.total(cells, found.piece_unobserved, tally.size)
    if asked["excluded"] is not None:
        sums["excluded"] = grouping.total(cells, found.piece_excluded, tally.size)
    if asked["retired"] is not None:
        sums["retired"] = grouping.count(tally.cells(*found.gone), tally.size)
    return sums


def _targets(
    records: Records, held: Sums, tally: Tally, target: object
) -> dict[str, tuple[Integers, Integers]]:
    """The least and greatest target of each cell's sessions and spans, and of its group's sessions."""
    if target is not None:
        goal = np.full(tally.size, span(target, "target"))
        return {"rpo": (goal, goal), "rpo_ever": (goal, goal)}
    begun = tally.window.place(records.created)
    cells = tally.cells(np.arange(len(begun)), begun)
    low, high = _extremes(cells[cells >= 0], records.rpo[cells >= 0], tally.size)
    ever = _extremes(tally.group.of[: len(records.rpo)], records.rpo, tally.group.count)
    return {
        "rpo": (np.minimum(low, held.least["rpo"]), np.maximum(high, held.greatest["rpo"])),
        "rpo_ever": (
            np.repeat(ever[0], tally.window.count),
            np.repeat(ever[1], tally.window.count),
        ),
    }


def _extremes(cells: Integers, values: Integers, size: int) -> tuple[Integers, Integers]:
    low = grouping.extreme(cells, values, size, np.minimum, MOST)
    return low, grouping.extreme(cells, values, size, np.maximum, UNKNOWN)


def _causes(
    records: Records, protects: Collection[str], vm: Integers, start: Integers, end: Integers
) -> Labels:
    """Newest verdict and reason among the sessions that did not protect in each gap."""
    none = pd.Series(["no session"], dtype="str")
    lost = np.flatnonzero((records.verdict != NO_VERDICT) & ~records.protecting(protects))
    if not len(lost) or not len(vm):
        return Labels(np.zeros(len(vm), dtype=np.int64), pd.Index(none))
    told = _reasons(records, lost)  # so that the order of rows never decides
    stop, verdicts = records.stop[lost], records.verdict[lost]
    ties = (stop, verdicts, told)
    lost = lost[in_order(records.vm[lost], records.created[lost],
                         lambda tied: [tie[tied] for tie in ties])]  # fmt: skip
    owner, created, stop = records.vm[lost], records.created[lost], records.stop[lost]
    latest = running_maximum(stop, owner)
    newest = np.maximum.accumulate(np.where(stop == latest, np.arange(len(lost)), 0))
    at = last_before(owner, created, vm, end)
    safe = np.maximum(at, 0)
    falls_in = (latest[safe] > start) | (created[safe] >= start)
    hit = (at >= 0) & (owner[safe] == vm) & falls_in
    words = grouping.labelled(pd.concat([none, _words(records, lost)]))
    return Labels(words.codes[np.where(hit, newest[safe] + 1, 0)], words.names)


def _words(records: Records, rows: Integers) -> pd.Series:
    verdict = pd.Series(np.array(RESULTS, dtype=object)[records.verdict[rows]]).astype("str")
    if "reason" not in records.frame:
        return verdict
    reason = records.frame["reason"].iloc[rows].astype("str").reset_index(drop=True)
    return (verdict + ": " + reason).where(reason.notna() & (reason != ""), verdict)


def _reasons(records: Records, rows: Integers) -> Integers:
    if "reason" not in records.frame:
        return np.zeros(len(rows), dtype=np.int64)
    return pd.Categorical(records.frame["reason"].iloc[rows].astype("str")).codes.astype(np.int64)


def _times(values: Integers) -> pd.Series:
    return pd.Series(values, dtype="datetime64[us, UTC]")


declare(rpo_adherence, Recipe(VM, COLUMNS, exposure_sums, merge, adherence_of))
declare(what_if, Recipe(VM, COLUMNS, what_if_sums, merge, _tried))
declare(gaps, Recipe(VM, (*COLUMNS, "reason"), gaps, _all_by_start, as_it_is))
