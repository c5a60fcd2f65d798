"""``df.cdp``: the registered metrics and the plots as methods of any DataFrame."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import pandas as pd

from cdpanalytics.metrics.registry import REGISTRY
from cdpanalytics.patterns import Patterns
from cdpanalytics.questions import explore, select
from cdpanalytics.selection import Selection
from cdpanalytics.sources import FrameSource, Names
from cdpanalytics.timeparse import Moment

Function = Callable[..., Any]


class _Bound:
    """A metric as a method: the same parameters and docstring."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def __get__(self, accessor: CdpAccessor | None, owner: type) -> Function:
        return self.function if accessor is None else MethodType(self.function, accessor.frame)


@pd.api.extensions.register_dataframe_accessor("cdp")
class CdpAccessor:
    """The functions of `cdpanalytics.metrics` on this frame, and their plots.

    The frame needs `vm`, `created` and `ended`; what else a metric wants it asks
    for by name. The frame is never changed.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 9], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 18], unit="h"),
    ... })
    >>> sessions.cdp.gaps("15min")["exposure"].tolist()
    [Timedelta('0 days 01:00:00')]
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def select(
        self,
        period: str | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        policies: pd.DataFrame | None = None,
        holes: pd.DataFrame | None = None,
        intervals: pd.DataFrame | None = None,
        **terms: Any,
    ) -> Selection:
        """Return a question about this frame: its metrics, plots and reports are methods.

        Parameters
        ----------
        period : str, optional
            A calendar period, as `Archive.select` takes it. Default: what the frame was read
            for, else everything up to as_of.
        since, until : timestamp-like, optional
            Instead of a period.
        policy, vm, server : str or sequence of str, optional
            Names or glob patterns, in any case.
        policies, holes, intervals : pandas.DataFrame, optional
            What is known besides, as `Archive` returns it.
        **terms
            `tz`, `target`, `objective`, `exclude`, `retire_after`.

        Returns
        -------
        Selection
        """
        source = FrameSource(self.frame, policies, holes, intervals)
        return select(source, (period, since, until), Names(policy, vm, server), terms)

    def explore(self, **question: Any) -> Any:
        """Explore this frame in a notebook: `Selection.explore`."""
        return explore(self.frame, **question)

    @property
    def plot(self) -> Any:
        """Pictures of the metrics: those of a Selection of the whole frame."""
        return self.select().plot


def _bind_metrics() -> None:
    """Give the accessor one method per registered metric."""
    for name, spec in REGISTRY.items():
        setattr(CdpAccessor, name, _Bound(spec.function))


_bind_metrics()
