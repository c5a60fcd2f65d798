"""The registry of metrics: one entry per metric; everything that lists metrics reads it.

`metrics.__all__`, ``df.cdp``, Selection, the command line, the explorer's views and
execution go by these entries; none of them looks at a function's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.question import UNSET, Question, Terms
from cdpanalytics.metrics.core.spec import REQUIRED, MetricSpec
from cdpanalytics.metrics.durations import DURATIONS
from cdpanalytics.metrics.gaps import GAPS
from cdpanalytics.metrics.incidents import INCIDENTS
from cdpanalytics.metrics.journal import JOURNAL_ADHERENCE
from cdpanalytics.metrics.objectives import OBJECTIVES
from cdpanalytics.metrics.offenders import OFFENDERS
from cdpanalytics.metrics.quality import QUALITY
from cdpanalytics.metrics.ranking import COMPARE, WORST
from cdpanalytics.metrics.recovery import RECOVERY_POINTS
from cdpanalytics.metrics.rpo import RPO_ADHERENCE
from cdpanalytics.metrics.sizes import SIZE_ANOMALIES, SIZE_TREND, SIZES
from cdpanalytics.metrics.status import STATUS
from cdpanalytics.metrics.what_if import WHAT_IF

__all__ = [
    "REGISTRY",
    "REQUIRED",
    "UNSET",
    "MetricSpec",
    "Question",
    "Terms",
    "metric_columns",
    "spec_of",
]

REGISTRY: Final[Mapping[str, MetricSpec]] = MappingProxyType({
    spec.name: spec
    for spec in (
        RPO_ADHERENCE, GAPS, INCIDENTS, OFFENDERS, WHAT_IF, OBJECTIVES, WORST, COMPARE, DURATIONS,
        SIZES, SIZE_TREND, SIZE_ANOMALIES, JOURNAL_ADHERENCE, QUALITY, STATUS, RECOVERY_POINTS,
    )
})  # fmt: skip
"""The metrics by the names of their functions, in the order in which they are shown."""


def metric_columns(*names: str) -> tuple[str, ...]:
    """Return the columns of sessions that some metrics look at; without names, all metrics.

    Examples
    --------
    >>> metric_columns("durations")
    ('vm', 'policy', 'backup_server', 'created', 'ended', 'state')
    """
    chosen = [REGISTRY[name] for name in names] or REGISTRY.values()
    columns = [spec.columns for spec in chosen if spec.table == "sessions"]
    return tuple(dict.fromkeys(column for each in columns for column in each))


def spec_of(metric: str | Callable[..., pd.DataFrame] | MetricSpec) -> MetricSpec:
    """Return the entry of a metric, by its name or function.

    Raises
    ------
    InputError
        When it is not registered.

    Examples
    --------
    >>> spec_of("rpo_adherence").command
    'rpo'
    """
    if isinstance(metric, MetricSpec):
        return metric
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))
    spec = REGISTRY.get(name)
    if spec is None or not (isinstance(metric, str) or spec.function is metric):
        raise InputError(
            f"{name} is not registered for out-of-core computation; use one of "
            f"{', '.join(sorted(REGISTRY))}, or call it with the whole frame"
        )
    return spec
