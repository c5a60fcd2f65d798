"""``df.cdp``: the metrics and plots, bound to anybody's frame; one line a method, no state."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, overload

import pandas as pd

from cdpanalytics import metrics

Function = Callable[..., Any]


class _Bound:
    """A function of a frame as a method: the same name, parameters and docstring."""

    def __init__(self, function: Function) -> None:
        self.function = function

    @overload
    def __get__(self, accessor: None, owner: type) -> Function: ...
    @overload
    def __get__(self, accessor: CdpAccessor, owner: type) -> MethodType: ...
    def __get__(self, accessor: CdpAccessor | None, owner: type) -> Function | MethodType:
        return self.function if accessor is None else MethodType(self.function, accessor.frame)


class CdpAccessor:
    """The functions of `cdpanalytics.metrics` on this frame, and their plots.

    The frame needs `vm`, `created` and `ended`; what else a metric wants it asks
    for by name. The frame is never changed.

    Examples
    --------
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

    rpo_adherence = _Bound(metrics.rpo_adherence)
    gaps = _Bound(metrics.gaps)
    what_if = _Bound(metrics.what_if)
    objectives = _Bound(metrics.objectives)
    worst = _Bound(metrics.worst)
    compare = _Bound(metrics.compare)
    durations = _Bound(metrics.durations)
    sizes = _Bound(metrics.sizes)
    size_trend = _Bound(metrics.size_trend)
    size_anomalies = _Bound(metrics.size_anomalies)
    journal_adherence = _Bound(metrics.journal_adherence)
    quality = _Bound(metrics.quality)

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
        self.frame = frame

    def timeline(self, *, ax: Any = None, **window: Any) -> Any:
        """Draw when each of the worst VMs was covered, and its gaps (parameters of `gaps`)."""
        from cdpanalytics.plots import timeline

        found = metrics.gaps(self.frame, **window)
        shown = {name: window.get(name) for name in ("since", "until", "unobserved")}
        return timeline(self.frame, found, **shown, ax=ax)

    def heat_map(self, target: Any = None, freq: str = "D", *, ax: Any = None, **rest: Any) -> Any:
        """Draw when the worst VMs were in breach (parameters of `rpo_adherence`)."""
        from cdpanalytics.plots import heat_map

        rest = {"by": ("backup_server", "policy", "vm"), **rest}
        return heat_map(metrics.rpo_adherence(self.frame, target, freq=freq, **rest), ax=ax)

    def adherence(self, target: Any = None, freq: str = "D", *, ax: Any = None, **rest: Any) -> Any:
        """Draw adherence by policy and period (parameters of `rpo_adherence`)."""
        from cdpanalytics.plots import adherence

        rest = {"by": "policy", **rest}
        return adherence(metrics.rpo_adherence(self.frame, target, freq=freq, **rest), ax=ax)

    def durations(self, *, ax: Any = None, **rest: Any) -> Any:
        """Draw how long finished sessions lasted (parameters of `durations`)."""
        from cdpanalytics.plots import durations

        return durations(metrics.durations(self.frame, **{"by": "policy", **rest}), ax=ax)

    def sizes(self, *, ax: Any = None, **rest: Any) -> Any:
        """Draw the protected size by period (parameters of `sizes`)."""
        from cdpanalytics.plots import sizes

        return sizes(metrics.sizes(self.frame, **{"by": "policy", **rest}), ax=ax)

    def exposure(self, target: Any = None, *, ax: Any = None, **rest: Any) -> Any:
        """Draw how many gaps lasted how long (parameters of `gaps`)."""
        from cdpanalytics.plots import exposure

        return exposure(metrics.gaps(self.frame, target, **rest), target=target, ax=ax)


def register() -> None:
    """Give every DataFrame its ``.cdp``; a second call changes nothing."""
    if getattr(pd.DataFrame, "cdp", None) is not CdpAccessor:
        pd.api.extensions.register_dataframe_accessor("cdp")(CdpAccessor)
