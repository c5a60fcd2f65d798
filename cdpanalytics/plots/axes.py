"""Parts of an Axes that several pictures share: labels, legend, dates, groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdpanalytics.schema import KEYS

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""Line styles, one after the other, so that lines differ without colour."""

_LINES = 8
_MANY = {"policy": "policies", "vm": "VMs", "backup_server": "backup servers"}


def new_axes(height: float = 3.4) -> Axes:
    """Return the axes of a new figure as wide as a page."""
    return Figure(figsize=(9, height)).add_subplot()


def nothing(ax: Axes, sentence: str) -> Axes:
    """Write a sentence in place of a picture."""
    ax.set_title(sentence)
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def format_dates(ax: Axes, tz: str) -> None:
    """Label the horizontal axis with a few dates of a zone."""
    left, right = ax.get_xlim()
    if right - left < 1:  # days: one period alone has no width
        ax.set_xlim(left - 0.5, right + 0.5)
    locator = mdates.AutoDateLocator(tz=tz, minticks=3, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, tz=tz))


def add_legend(ax: Axes) -> None:
    """Name the lines beside the picture, in the order in which they end."""
    handles, names = ax.get_legend_handles_labels()
    ends = [-float(np.asarray(line.get_ydata())[-1]) for line in handles]  # type: ignore[attr-defined]
    order = np.argsort(ends, kind="stable")
    ax.legend([handles[at] for at in order], [names[at] for at in order], loc="upper left",
              bbox_to_anchor=(1.0, 1.0))  # fmt: skip


def bar(start: pd.Timestamp, stop: pd.Timestamp) -> tuple[float, float]:
    """Return the left edge and the width of a bar of time, in days."""
    left, right = mdates.date2num(start), mdates.date2num(stop)
    return left, max(right - left, 0.0)


def key_of(table: pd.DataFrame) -> str | None:
    """Return the first column that names groups; None where a table has one group."""
    return next((name for name in _MANY if name in table), None)


def first_groups(
    table: pd.DataFrame, key: str | None, rank: pd.Series, which: str
) -> tuple[pd.DataFrame, str]:
    """Return the rows of the first groups by rank, as many as colours can show, and a note on it."""
    if key is None or table[key].nunique() <= _LINES:
        return table, ""
    least = rank.groupby(table[key], observed=True).min()
    names = least.nsmallest(_LINES).index
    note = f"; the {_LINES} {which} of {len(least):,} {_MANY[key]}"
    return table[table[key].isin(names)], note


def groups_of(table: pd.DataFrame, key: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and rows of each group, by name."""
    if key is None:
        yield "all", table
        return
    for name, rows in table.groupby(key, sort=True, observed=True):
        yield str(name), rows


def label(row: pd.Series) -> str:
    """Return all names of a row, joined."""
    return " · ".join(str(row[key]) for key in KEYS if key in row.index)


def short(name: object) -> str:
    """Return a name as a label: no control characters, no mathematics, not too long."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in str(name)).replace("$", r"\$")
    return text if len(text) <= 32 else text[:31] + "…"


def unique_names(vms: Sequence[tuple[object, ...]]) -> list[str]:
    """Return the last key of each VM, with the other keys where two VMs share the last."""
    names = [short(vm[-1]) for vm in vms]
    return [
        f"{name} ({', '.join(short(key) for key in vm[:-1])})" if names.count(name) > 1 else name
        for name, vm in zip(names, vms, strict=True)
    ]
