"""What adherence would have been under other targets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import adherence as sums_of
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.adherence import BlockCells
from cdpanalytics.metrics.core.aggregates import Aggregates, cells_for, combine
from cdpanalytics.metrics.core.exposure import COLUMNS, Exposure, arrays_of, late
from cdpanalytics.metrics.core.groups import share, table_of
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
from cdpanalytics.metrics.core.spec import EXPOSURE, REQUIRED, MetricSpec
from cdpanalytics.metrics.core.values import duration, length, lengths
from cdpanalytics.metrics.core.windows import window
from cdpanalytics.metrics.rpo import LEFT_OUT


def what_if(
    sessions: pd.DataFrame,
    targets: Sequence[object],
    by: By = (),
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
    """Return the adherence that other targets would have given, from one pass over the gaps.

    In the example, the gap of one hour is a breach with a target of 15 minutes, and within a
    target of one hour.

    Parameters
    ----------
    sessions, by, since, until, as_of, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.
    targets : sequence of timedelta-like
        The RPOs to try. A single one can be given without a list.

    Returns
    -------
    pandas.DataFrame
        One row per group and target; the targets are in the order given. The columns are the
        keys, ``rpo`` (the target), and as in `rpo_adherence` with this target: ``observed,
        exposed, breached, gaps, breaches, adherence, gap_adherence, unobserved, excluded,
        retired, adherence_full``. Adherence never falls when the target grows.

    Raises
    ------
    InputError
        If no target is given, or a column or an argument is missing or wrong.

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
    question = Question.parse(by, since=since, until=until, as_of=as_of, tz=tz)
    terms = Terms.parse(
        protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return WHAT_IF.evaluate(sessions, question, terms, targets=targets)


def _aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, targets: Sequence[object]
) -> Aggregates:
    goals = _goals(targets)
    arrays = arrays_of(sessions, question, terms)
    cells = cells_for(arrays, question.by, window(arrays, question))
    terms = replace(terms, target=pd.Timedelta(0))

    def try_targets(exposure: Exposure, places: BlockCells, sums: Aggregates) -> None:
        owner, period = exposure.events
        events, whole = places.of_tiles(exposure, owner, period), exposure.gaps.length[owner]
        pieces, piece = exposure.pieces, exposure.uncovered
        uncovered = places.of_tiles(exposure, pieces.tile[piece], pieces.period[piece])
        for goal in goals:
            late_by = late(exposure.age, exposure.final_age, goal)
            sums.sum[f"breached {goal}"] = grouping.total(uncovered, late_by, places.size)
            sums.sum[f"breaches {goal}"] = grouping.count(events, places.size, whole > goal)

    return sums_of.sum_exposure(arrays, terms, cells, try_targets, count_vms=False)


def _table(
    sums: Aggregates, question: Question, terms: Terms, targets: Sequence[object]
) -> pd.DataFrame:
    added, goals = sums.sum, _goals(targets)
    cell = np.repeat(np.arange(sums.size), len(goals))
    breached, breaches = (
        np.stack([added[f"{name} {goal}"] for goal in goals], axis=1).ravel()
        for name in ("breached", "breaches")
    )
    observed, gaps = added["observed"][cell], added["gaps"][cell]
    keys = sums.keys().iloc[cell].reset_index(drop=True)
    figures = {
        "rpo": lengths(np.tile(goals, sums.size)), "observed": lengths(observed),
        "exposed": lengths(added["exposed"][cell]), "breached": lengths(breached),
        "gaps": gaps, "breaches": breaches,
        "adherence": 1 - share(breached, observed, observed > 0),
        "gap_adherence": 1 - share(breaches, gaps, gaps > 0),
        **{name: lengths(added[name][cell]) for name in LEFT_OUT},
    }  # fmt: skip
    return table_of(keys, figures)


def _goals(targets: Sequence[object]) -> list[int]:
    single = isinstance(targets, str) or not isinstance(targets, Collection)
    goals = [duration(length(target, "targets")) for target in ([targets] if single else targets)]
    if not goals:
        raise InputError("targets is empty; name at least one, e.g. what_if(sessions, ['15min'])")
    return goals


WHAT_IF = MetricSpec(
    name="what_if", command="what-if", summary="adherence under other targets (--rpo 1min,1h)",
    function=what_if, partial=_aggregates, combine=combine, finalize=_table, columns=COLUMNS,
    by=(), takes=EXPOSURE - {"target"}, own={"targets": REQUIRED},
)  # fmt: skip
