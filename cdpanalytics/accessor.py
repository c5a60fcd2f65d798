"""``df.cdp``: the registered metrics and the plots as methods of any DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import pandas as pd

from cdpanalytics.foreign import Translation
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
        columns: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        day_first: bool | None = None,
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
            Our columns to the frame's: ``{"vm": "Maschine", "created": "Beginn"}``.
        results : mapping, optional
            The frame's results to ours: ``{"Erfolg": "Success", "Fehler": "Failed"}``.
        units : mapping, optional
            Units of sizes: ``{"total_size": "GB"}`` (2**30 bytes). Default: bytes.
        day_first : bool, optional
            Whether 01/11/2026 is 1 November. Default: with dots, 01.11.2026, it is; else a day
            above 12 in the column decides.
        **terms
            `tz` (of periods, of the frame's times without an offset, and of display), `tag`,
            `tags`, `target`, `objective`, `exclude`, `retire_after`, `grace`, `estate`.

        Returns
        -------
        Selection

        Raises
        ------
        InputError
            When a time has no offset and no `tz` is given, comes twice or never, or cannot be
            read; a result is unknown; sizes are not bytes and have no unit.

        Examples
        --------
        >>> import pandas as pd
        >>> export = pd.DataFrame({
        ...     "Maschine": "sql-1", "Beginn": ["01.10.2026 08:00", "01.10.2026 16:30"],
        ...     "Ende": ["01.10.2026 16:00", "02.10.2026 00:00"], "Ergebnis": ["Erfolg", "Warnung"],
        ... })
        >>> export.cdp.select(
        ...     columns={"vm": "Maschine", "created": "Beginn", "ended": "Ende", "result": "Ergebnis"},
        ...     results={"Erfolg": "Success", "Warnung": "Warning"}, tz="Europe/Berlin",
        ... ).gaps()["exposure"].tolist()
        [Timedelta('0 days 00:30:00')]
        """
        translation = Translation(
            columns or {}, terms.get("tz"), results or {}, units or {}, day_first
        )
        sessions = self.frame if "terms" in self.frame else translation.sessions(self.frame)
        source = FrameSource(sessions, policies, holes, intervals)
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
