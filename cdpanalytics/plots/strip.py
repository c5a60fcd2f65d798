"""The strip over a fleet: how many VMs were in breach at each instant, and in which incident."""

from __future__ import annotations

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cdpanalytics.plots.axes import format_dates, new_axes, nothing
from cdpanalytics.plots.figure import GAP, INK, styled
from cdpanalytics.presentation.drawing import highest
from cdpanalytics.presentation.happenings import finding

ALONE = "#8FA9C4"
"""VMs in breach by themselves: visible, and paler than what hit many."""

_NUMBERED = 9
_FINEST = 2000
_LEAST_SHARE = 0.01
_APART = 0.022
"""Least distance of two numbers on one line, as a share of the width."""


def fleet(
    breaches: pd.DataFrame,
    incidents: pd.DataFrame,
    *,
    since: pd.Timestamp | None = None,
    until: pd.Timestamp | None = None,
    tz: str = "UTC",
    ax: Axes | None = None,
) -> Axes:
    """Draw how many VMs were in breach at each instant, with the incidents numbered.

    Parameters
    ----------
    breaches : pandas.DataFrame
        From `Selection.breaches`.
    incidents : pandas.DataFrame
        From `metrics.incidents`, of the same question.
    since, until : pandas.Timestamp, optional
        What part of time to draw. Default: all the breaches span.
    tz : str
        Zone of the axis, which names it.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Dark: VMs in an incident of many; pale on top of it: VMs by themselves. At most nine
        incidents of many are numbered, those that explain most and at least 1 %.
    """
    with styled():
        ax = ax or new_axes(height=2.1)
        dated = breaches.dropna(subset=["breached_from"])
        if dated.empty:
            return nothing(ax, "No VM missed its RPO, so there is no incident")
        first = dated["breached_from"].min() if since is None else since
        last = dated["breached_until"].max() if until is None else until
        shared = incidents.loc[incidents["vms"] > 1, "incident"]
        together = dated["incident"].isin(shared)
        edges = np.unique(np.concatenate([
            _days(pd.Series([first, last])), *_edges(dated, first, last)
        ]))  # fmt: skip
        many, every = (_count(rows, edges, first, last) for rows in (dated[together], dated))
        edges, many, every = _thinned(edges, many, every)
        # What hit many is drawn last: a spike of an hour is thinner than a line.
        _steps(ax, edges, many, every, ALONE, 0.4)
        _steps(ax, edges, 0 * many, many, GAP, 0.8)
        ax.set_xlim(*_days(pd.Series([first, last])))
        top = max(int(every.max()), 1)
        ax.set_ylim(0, top * 1.3)
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        numbered = incidents[(incidents["vms"] > 1) & (incidents["explains"] >= _LEAST_SHARE)]
        _number(ax, dated, numbered.head(_NUMBERED), top)
        ax.set_title(finding(incidents))
        ax.set_ylabel("VMs in breach")
        ax.set_xlabel(
            f"time ({tz}); dark, numbered: in an incident of many VMs, pale: by themselves"
        )
        format_dates(ax, tz)
    return ax


def _days(instants: pd.Series) -> np.ndarray:
    """Instants in UTC as matplotlib's days."""
    return np.asarray(mdates.date2num(instants.dt.tz_localize(None).to_numpy()))


def _edges(
    breaches: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp
) -> tuple[np.ndarray, np.ndarray]:
    """When breaches begin and end, in days, cut at the edges of the picture."""
    low, high = _days(pd.Series([first, last]))
    begun, over = (_days(breaches[name]) for name in ("breached_from", "breached_until"))
    return np.clip(begun, low, high), np.clip(over, low, high)


def _count(
    breaches: pd.DataFrame, edges: np.ndarray, first: pd.Timestamp, last: pd.Timestamp
) -> np.ndarray:
    """How many VMs are in breach from each edge on; gaps of one VM never overlap."""
    begun, over = (np.sort(values) for values in _edges(breaches, first, last))
    return np.searchsorted(begun, edges, "right") - np.searchsorted(over, edges, "right")


def _steps(
    ax: Axes, edges: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str, width: float
) -> None:
    """Fill between two step functions, with a line around it where there is something to fill."""
    at, below, above = (np.repeat(values, 2) for values in (edges, low, high))
    at, below, above = at[1:], below[:-1], above[:-1]
    ax.fill_between(
        at, below, above, where=above > below, facecolor=colour, edgecolor=colour, lw=width
    )


def _thinned(
    edges: np.ndarray, many: np.ndarray, every: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At most as many steps as a picture has room for, each with the most VMs of its stretch."""
    if len(edges) <= 2 * _FINEST:
        return edges, many, every
    grid = np.linspace(edges[0], edges[-1], _FINEST)
    return grid, highest(edges, many, grid), highest(edges, every, grid)


def _number(ax: Axes, breaches: pd.DataFrame, incidents: pd.DataFrame, top: int) -> None:
    """Write the numbers above the picture, those close together side by side."""
    left, right = ax.get_xlim()
    least = (right - left) * _APART
    placed: list[float] = []
    begun = breaches.groupby("incident")["breached_from"].min()
    for number in incidents.sort_values("start")["incident"]:
        at = float(_days(pd.Series([begun[number]]))[0])
        place = min(max(at, left + least / 2), right - least / 2)
        if placed:
            place = max(place, placed[-1] + least)
        placed.append(place)
        ax.plot([at, place], [top * 1.03, top * 1.12], color=INK, lw=0.6)
        ax.annotate(str(number), (place, top * 1.13), ha="center", va="bottom", fontsize=8,
                    fontweight="bold", color=INK)  # fmt: skip
