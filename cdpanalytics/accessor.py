"""``df.cdp``: the registered metrics and the plots as methods of any DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import pandas as pd

from cdpanalytics.estate.context import read_estate
from cdpanalytics.estate.sessions import Reading, read_sessions
from cdpanalytics.metrics.registry import REGISTRY
from cdpanalytics.patterns import Patterns
from cdpanalytics.questions import explore, select
from cdpanalytics.selection import Selection
from cdpanalytics.sources import FrameSource, Names
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
        columns: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        day_first: bool | None = None,
        decimal: str | None = None,
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
        columns : mapping, optional
            The frame's own heads: ``{"vm": "Maschine", "created": "Beginn"}``.
        results : mapping, optional
            What its words for results mean: ``{"Fehler": "Failed"}``. A word that is not known
            is refused.
        units : mapping, optional
            ``{"total_size": "GB"}`` (2**30 bytes); without it sizes are bytes.
        day_first : bool, optional
            Whether 01/11/2026 is 1 November; needed only where no date has a day above 12.
            Dates with dots have the day first.
        decimal : str, optional
            The decimal sign of sizes that are text; needed only where none shows it.
        **terms
            What `Archive.select` takes besides: `tz`, which is also the zone of times without
            an offset, `target`, `objective`, `tags`, `exclude`, `retire_after`, `grace`.

        Returns
        -------
        Selection

        Raises
        ------
        InputError
            When the frame cannot be read so; see `estate.sessions.read_sessions`.

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
        """Pictures of the metrics: those of a Selection of the whole frame."""
        return self.select().plot


def _bind_metrics() -> None:
    """Give the accessor one method per registered metric."""
    for name, spec in REGISTRY.items():
        setattr(CdpAccessor, name, _Bound(spec.function))


_bind_metrics()
