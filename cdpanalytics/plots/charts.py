"""Pictures of groups and of gaps: each takes a metric's table, and states its finding in the title."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from cdpanalytics.plots.axes import (
    DASHES,
    add_legend,
    first_groups,
    format_dates,
    groups_of,
    key_of,
    label,
    new_axes,
    nothing,
    short,
)
from cdpanalytics.plots.figure import COVERED, GAP, INK, styled
from cdpanalytics.presentation.formatting import duration, share, size

_MOST_BARS = 24
_MOST_TARGETS = 12
_TICKS = [1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400]
_TICK_NAMES = ["1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 d", "7 d"]


def adherence(
    table: pd.DataFrame, *, objective: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw adherence by period, one line per group.

    Parameters
    ----------
    table : pandas.DataFrame
        From ``metrics.rpo_adherence(..., freq=...)``, by one key or none. Of many groups the
        eight that fell lowest are drawn.
    objective : float, optional
        A share to draw a line at.
    ax : matplotlib Axes, optional
    """
    with styled():
        ax = ax or new_axes()
        known = table.dropna(subset=["adherence"])
        if known.empty:
            return nothing(ax, "Nothing observed, so no adherence")
        key = key_of(table)
        shown, note = first_groups(known, key, known["adherence"], "worst")
        for (name, rows), dash in zip(groups_of(shown, key), cycle(DASHES), strict=False):
            ax.plot(
                rows["period"],
                rows["adherence"],
                label=short(name),
                linestyle=dash,
                marker="o",
                ms=3,
            )
        if objective is not None:
            ax.axhline(objective, color=INK, lw=1, ls=(0, (2, 2)))
            ax.annotate(f"objective {share(objective)}", (0.01, objective), xycoords=("axes fraction", "data"),
                        va="bottom", fontsize=8)  # fmt: skip
        worst = known.nsmallest(1, "adherence").iloc[0]
        who = f"{short(worst[key])} " if key else ""
        ax.set_title(
            f"Worst: {who}kept its RPO {share(worst['adherence'])} of {worst['period']:%Y-%m-%d}"
        )
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_ylabel("time within RPO (%)")
        ax.set_xlabel(f"period (UTC){note}")
        format_dates(ax)
        if key:
            add_legend(ax)
    return ax


def durations(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the median and 95th percentile of each group's session durations.

    Parameters
    ----------
    table : pandas.DataFrame
        From `metrics.durations`. Of many groups the 24 of the longest median are drawn.
    ax : matplotlib Axes, optional
    """
    with styled():
        finished = table.dropna(subset=["median"])
        known = finished.loc[finished["median"].nlargest(_MOST_BARS).index.sort_values()]
        note = (
            f"; the {len(known)} longest of {len(finished):,}" if len(known) < len(finished) else ""
        )
        ax = ax or new_axes(height=1.1 + 0.3 * max(len(known), 2))
        if known.empty:
            return nothing(ax, "No session has finished: no durations to show")
        hours = known[["median", "p95", "max"]].apply(
            lambda column: column.dt.total_seconds() / 3600
        )
        rows = np.arange(len(known))
        ax.barh(rows, hours["median"], height=0.55, color=COVERED, label="median")
        ax.scatter(hours["p95"], rows, marker="|", s=160, color=INK, label="95th percentile")
        ax.scatter(hours["max"], rows, marker="x", s=26, color=GAP, label="longest")
        ax.set_yticks(rows, [short(label(row)) for _, row in known.iterrows()])
        ax.invert_yaxis()
        longest = known.nlargest(1, "median").iloc[0]
        ax.set_title(
            f"Sessions of {short(label(longest))} last longest: median {duration(longest['median'])}"
        )
        ax.set_xlabel(f"duration of finished sessions (hours){note}")
        ax.legend(loc="lower right", ncols=3)
        ax.grid(axis="y", visible=False)
    return ax


def sizes(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the protected size by period, one line per group, with the rolling mean of their sum.

    Parameters
    ----------
    table : pandas.DataFrame
        From `metrics.sizes`. Of many groups the eight largest are drawn.
    ax : matplotlib Axes, optional
    """
    with styled():
        ax = ax or new_axes()
        known = table.dropna(subset=["size"])
        if known.empty:
            return nothing(ax, "No session with a size has ended")
        known = known.assign(size=known["size"].astype(float))
        key = key_of(table)
        shown, note = first_groups(known, key, -known["size"], "largest")
        for (name, rows), dash in zip(groups_of(shown, key), cycle(DASHES), strict=False):
            ax.plot(
                rows["period"],
                rows["size"],
                label=short(name),
                linestyle=dash,
                drawstyle="steps-post",
            )
        ax.set_title(_growth(known, key))
        ax.set_ylim(bottom=0)
        ax.set_yticks(_binary_ticks(ax.get_ylim()[1]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        ax.set_ylabel("size of the VMs (binary units)")
        ax.set_xlabel(f"period (UTC){note}")
        format_dates(ax)
        if key:
            add_legend(ax)
    return ax


def _growth(known: pd.DataFrame, key: str | None) -> str:
    """What is protected now, and how it changed since all that is protected now had a size."""
    last = known[known["period"] == known["period"].max()]
    now = known if key is None else known[known[key].isin(last[key])]
    total = now.groupby("period")["size"].agg(["sum", "count"])
    whole = total[total["count"] == len(last)]["sum"]
    sentence = f"{size(last['size'].sum())} protected"
    if len(whole) < 2 or not whole.iloc[0]:
        return sentence
    changed = 100 * (whole.iloc[-1] / whole.iloc[0] - 1)
    return f"{sentence}, {changed:+.1f} % since {whole.index[0]:%Y-%m-%d}"


def _binary_ticks(top: float) -> list[float]:
    """Four to six round values of the largest binary unit up to `top`."""
    unit = 1024 ** int(np.log(max(top, 1)) / np.log(1024))
    return [unit * tick for tick in MaxNLocator(5).tick_values(0, top / unit)]


def exposure(gaps: pd.DataFrame, *, target: object = None, ax: Axes | None = None) -> Axes:
    """Draw how many gaps lasted at least how long, both axes logarithmic.

    Parameters
    ----------
    gaps : pandas.DataFrame
        From `metrics.gaps`.
    target : timedelta-like, optional
        An RPO to draw a line at. Default: the targets of the gaps that were breached.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Gaps under a second are counted in the title and left of the picture.
    """
    with styled():
        ax = ax or new_axes()
        if gaps.empty:
            return nothing(ax, "No gaps")
        seconds = np.sort(gaps["exposure"].dt.total_seconds().to_numpy())
        ax.step(seconds, np.arange(len(seconds), 0, -1), where="pre", color="#0072B2")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(_TICKS, _TICK_NAMES)
        ax.minorticks_off()
        left = min(1.0, seconds[-1] / 2)
        ax.set_xlim(left, max(2 * seconds[-1], 2.0))
        ax.set_ylim(0.7, 2 * max((seconds >= left).sum(), 1))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        late = gaps["breached"] > pd.Timedelta(0)
        goals = sorted((gaps["exposure"] - gaps["breached"])[late].unique())
        title = f"{len(seconds):,} gaps, the longest {duration(gaps['exposure'].max())}"
        if target is not None:
            goals = [pd.Timedelta(target)]  # type: ignore[arg-type]
            over = int((gaps["exposure"] > goals[0]).sum())
            title = f"{over:,} of {len(seconds):,} gaps lasted longer than {duration(goals[0])}"
        elif late.any():
            title = f"{int(late.sum()):,} of {len(seconds):,} gaps lasted longer than their RPO"
        for goal in goals[:_MOST_TARGETS]:
            ax.axvline(goal.total_seconds(), color=GAP, lw=1.2, ls="--")
            ax.annotate(duration(goal), (goal.total_seconds(), 1), xycoords=("data", "axes fraction"),
                        xytext=(3, -2), textcoords="offset points", rotation=90, va="top", color=GAP,
                        fontsize=8)  # fmt: skip
        ax.set_title(title)
        ax.set_xlabel("length of the gap (dashed: RPO)" if goals else "length of the gap")
        ax.set_ylabel("gaps at least as long")
    return ax
