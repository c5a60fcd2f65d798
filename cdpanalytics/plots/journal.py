"""The RPO really achieved over time, from the journal."""

from __future__ import annotations

from itertools import cycle

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cdpanalytics.plots.axes import (
    DASHES,
    add_legend,
    first_groups,
    format_dates,
    groups_of,
    new_axes,
    nothing,
    short,
)
from cdpanalytics.plots.figure import GAP, INK, styled
from cdpanalytics.presentation.formatting import duration
from cdpanalytics.schema import ASKED

_BINS = 400
_SECONDS = [1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86400, 7 * 86400]


def achieved_rpo(
    intervals: pd.DataFrame, *, target: object = None, by: str = "policy", ax: Axes | None = None
) -> Axes:
    """Draw the longest RPO that each group's VMs achieved, over time, as the server was asked.

    Where a line breaks, no VM of the group could be restored, or the server was not asked.

    Parameters
    ----------
    intervals : pandas.DataFrame
        ``archive.intervals()``.
    target : timedelta-like, optional
        Draw this RPO as a line.
    by : str
        `policy`, `vm` or `backup_server`. Of many groups the eight with the longest RPO are
        drawn.
    ax : matplotlib Axes, optional
    """
    with styled():
        ax = ax or new_axes()
        rated = intervals[intervals["kind"].astype("str").ne(ASKED) & intervals["rpo"].notna()]
        rated = rated[rated["end"] > rated["start"]]
        if rated.empty:
            return nothing(ax, "No restorable intervals: sync with --journal to ask for them")
        edges = pd.date_range(rated["start"].min(), rated["end"].max(), periods=_BINS + 1)
        shown, note = first_groups(rated, by, -rated["rpo"], "with the longest RPO")
        for (name, rows), dash in zip(groups_of(shown, by), cycle(DASHES), strict=False):
            ax.step(edges, _longest(rows, edges), where="post", label=short(name), linestyle=dash)
        if target is not None:
            goal = pd.Timedelta(str(target)).total_seconds()
            ax.axhline(goal, color=GAP, linewidth=1, linestyle=(0, (1, 1)))
            ax.text(
                float(mdates.date2num(edges[0])),
                goal,
                " target",
                color=INK,
                va="bottom",
                fontsize=8,
            )
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(FixedLocator(_SECONDS))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda s, _: duration(pd.Timedelta(s, "s"))))
        worst = rated.iloc[int(rated["rpo"].argmax())]
        ax.set_title(
            f"Longest RPO achieved: {duration(worst['rpo'])}, by {short(worst['vm'])} "
            f"on {worst['start']:%d %b}"
        )
        ax.set_ylabel("RPO achieved (log)")
        ax.set_xlabel(f"UTC, as the server was asked then{note}")
        if shown[by].nunique() > 1:
            add_legend(ax)
        format_dates(ax)
    return ax


def _longest(rows: pd.DataFrame, edges: pd.DatetimeIndex) -> np.ndarray:
    """The longest RPO of intervals over each bin, in seconds; NaN where there is none."""
    seconds = rows["rpo"].dt.total_seconds().to_numpy()
    first = np.clip(edges.searchsorted(rows["start"], side="right") - 1, 0, _BINS)
    last = np.clip(edges.searchsorted(rows["end"], side="left"), 0, _BINS)
    longest = np.full(len(edges), -np.inf)
    # In order of the RPO, so that what is written last is the longest.
    for at in np.argsort(seconds, kind="stable"):
        longest[first[at] : last[at]] = max(seconds[at], 1.0)
    longest[-1] = longest[-2]
    return np.where(np.isfinite(longest), longest, np.nan)
