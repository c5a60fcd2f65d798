"""``df.cdp``: the registered metrics and the plots as methods of any DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import pandas as pd

from cdpanalytics.estate.context import read_estate
from cdpanalytics.estate.sessions import Reading, read_sessions
from cdpanalytics.metrics.registry import REGISTRY
from cdpanalytics.narrowing import Names
from cdpanalytics.patterns import Patterns
from cdpanalytics.questions import explore, select
from cdpanalytics.selection import Selection
from cdpanalytics.sources import FrameSource
from cdpanalytics.timeparse import Moment

_Function = Callable[..., Any]


class _Bound:
    """A metric as a method: the same parameters and docstring."""

    def __init__(self, function: _Function) -> None:
        self.function = function

    def __get__(self, accessor: CdpAccessor | None, owner: type) -> _Function:
        return self.function if accessor is None else MethodType(self.function, accessor.frame)


@pd.api.extensions.register_dataframe_accessor("cdp")
class CdpAccessor:
    """The functions of `cdpanalytics.metrics` as methods of this frame, and their plots.

    The frame needs `vm`, `created` and `ended`. If a metric needs another column, its error
    names it. The frame is never changed.

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
        columns: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        day_first: bool | None = None,
        decimal: str | None = None,
        **terms: Any,
    ) -> Selection:
        """Return a selection of this frame: its metrics, plots and reports are methods.

        The page "Shared parameters" of the reference explains the arguments that are not
        explained here.

        Parameters
        ----------
        period : str, optional
            A calendar period, as in `Archive.select`. Default: the window that the frame was
            read for, else everything up to `as_of`.
        since, until : timestamp-like, optional
            Instead of a period.
        policy, vm, server : str or sequence of str, optional
            Names or patterns such as ``"Gold*"``; upper and lower case are the same.
        policies, holes, intervals : pandas.DataFrame, optional
            The tables that the methods of `Archive` with these names return.
        columns : mapping, optional
            The names of the columns in this frame: ``{"vm": "Maschine", "created": "Beginn"}``.
        results : mapping, optional
            The meaning of its results: ``{"Fehler": "Failed"}``. A result that is not known is
            an error.
        units : mapping, optional
            The unit of sizes: ``{"total_size": "GB"}`` (2**30 bytes). Default: bytes.
        day_first : bool, optional
            Whether 01/11/2026 is 1 November. Needed only if no date has a day above 12. With
            dots, the day is always first.
        decimal : str, optional
            The decimal sign of sizes that are text. Needed only if no size shows it.
        **terms
            The other arguments of `Archive.select`, such as `tz`, which is also the zone of
            times without an offset, and `target`.

        Returns
        -------
        Selection

        Raises
        ------
        InputError
            If a column, a time, a result or a size cannot be read.

        Examples
        --------
        >>> export = pd.DataFrame({
        ...     "Maschine": "sql-1",
        ...     "created": ["13.10.2026 08:00", "13.10.2026 16:30"],
        ...     "ended": ["13.10.2026 16:00", "14.10.2026 00:00"],
        ... })
        >>> day = export.cdp.select(columns={"vm": "Maschine"}, tz="Europe/Berlin", target="15min")
        >>> day.gaps()["exposure"].tolist()
        [Timedelta('0 days 00:30:00')]
        """
        estate = read_estate(terms.get("estate"), "", terms.get("tz"))
        reading = Reading(
            columns or {}, results or {}, units or {}, day_first, decimal,
            terms.get("tz") or estate.zone,
        )  # fmt: skip
        source = FrameSource(read_sessions(self.frame, reading), policies, holes, intervals)
        return select(
            source, (period, since, until), Names(policy, vm, server), {**terms, "estate": estate}
        )

    def explore(self, **question: Any) -> Any:
        """Explore this frame in a notebook: `Selection.explore`."""
        return explore(self.frame, **question)

    @property
    def plot(self) -> Any:
        """Pictures of the metrics, for the whole frame: see `Selection.plot`."""
        return self.select().plot


def _bind_metrics() -> None:
    """Give the accessor one method per registered metric."""
    for name, spec in REGISTRY.items():
        setattr(CdpAccessor, name, _Bound(spec.function))


_bind_metrics()
