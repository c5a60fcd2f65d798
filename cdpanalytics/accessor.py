"""``df.cdp``: the metrics and plots, bound to anybody's frame; one line a method, no state."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, overload

import pandas as pd

Function = Callable[..., Any]


class _Bound:
    """The metric of this name as a method: the same parameters and docstring."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, accessor: None, owner: type) -> Function: ...
    @overload
    def __get__(self, accessor: CdpAccessor, owner: type) -> MethodType: ...
    def __get__(self, accessor: CdpAccessor | None, owner: type) -> Function | MethodType:
        from cdpanalytics import metrics

        function = getattr(metrics, self.name)
        return function if accessor is None else MethodType(function, accessor.frame)


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

    rpo_adherence = _Bound()
    gaps = _Bound()
    what_if = _Bound()
    objectives = _Bound()
    worst = _Bound()
    compare = _Bound()
    durations = _Bound()
    sizes = _Bound()
    size_trend = _Bound()
    size_anomalies = _Bound()
    journal_adherence = _Bound()
    quality = _Bound()

    def explore(self, **asked: Any) -> Any:
        """Explore this frame in a notebook (parameters of `cdpanalytics.explore`)."""
        from cdpanalytics.explorer import explore

        return explore(self.frame, **asked)

    @property
    def plot(self) -> PlotAccessor:
        """Pictures of the metrics: each method takes its metric's parameters and `ax`."""
        return PlotAccessor(self.frame)


class PlotAccessor:
    """Compute a metric and draw it; returns the Axes."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame, self.metrics = frame, CdpAccessor(frame)

    def timeline(self, *, ax: Any = None, **window: Any) -> Any:
        """Draw when each of the worst VMs was covered, and its gaps (parameters of `gaps`)."""
        from cdpanalytics.plots import timeline

        found = self.metrics.gaps(**window)
        shown = {name: window.get(name) for name in ("since", "until", "unobserved")}
        return timeline(self.frame, found, **shown, ax=ax)

    def heat_map(self, target: Any = None, freq: str = "D", *, ax: Any = None, **rest: Any) -> Any:
        """Draw when the worst VMs were in breach (parameters of `rpo_adherence`)."""
        from cdpanalytics.plots import heat_map

        rest = {"by": ("backup_server", "policy", "vm"), **rest}
        return heat_map(self.metrics.rpo_adherence(target, freq=freq, **rest), ax=ax)

    def adherence(self, target: Any = None, freq: str = "D", *, ax: Any = None, **rest: Any) -> Any:
        """Draw adherence by policy and period (parameters of `rpo_adherence`)."""
        from cdpanalytics.plots import adherence

        rest = {"by": "policy", **rest}
        return adherence(self.metrics.rpo_adherence(target, freq=freq, **rest), ax=ax)

    def durations(self, *, ax: Any = None, **rest: Any) -> Any:
        """Draw how long finished sessions lasted (parameters of `durations`)."""
        from cdpanalytics.plots import durations

        return durations(self.metrics.durations(**{"by": "policy", **rest}), ax=ax)

    def sizes(self, *, ax: Any = None, **rest: Any) -> Any:
        """Draw the protected size by period (parameters of `sizes`)."""
        from cdpanalytics.plots import sizes

        return sizes(self.metrics.sizes(**{"by": "policy", **rest}), ax=ax)

    def exposure(self, target: Any = None, *, ax: Any = None, **rest: Any) -> Any:
        """Draw how many gaps lasted how long (parameters of `gaps`)."""
        from cdpanalytics.plots import exposure

        return exposure(self.metrics.gaps(target, **rest), target=target, ax=ax)
