"""Pictures with one row per VM: when it was covered, and when it was in breach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from cdpanalytics.plots.axes import bar, format_dates, new_axes, nothing, short, unique_names
from cdpanalytics.plots.figure import COVERED, GAP, INK, SEVERITY, styled
from cdpanalytics.presentation import happenings
from cdpanalytics.presentation.analysis import with_vm_names
from cdpanalytics.presentation.formatting import duration, percent, severity
from cdpanalytics.schema import KEYS, VM

_MOST = 12
_MOST_IN_BREACH = 30
_FINEST = 5000

_Vm = tuple[object, ...]
"""Backup server and name."""


def timeline(
    sessions: pd.DataFrame,
    gaps: pd.DataFrame,
    *,
    vms: Sequence[str] | None = None,
    since: pd.Timestamp | str | None = None,
    until: pd.Timestamp | str | None = None,
    unobserved: pd.DataFrame | None = None,
    tz: str = "UTC",
    ax: Axes | None = None,
) -> Axes:
    """Draw when VMs were covered, and their gaps.

    Parameters
    ----------
    sessions : pandas.DataFrame
        Names the VMs and the time they span.
    gaps : pandas.DataFrame
        From `metrics.gaps`.
    vms : sequence of str, optional
        Which to draw, by name, first on top. Default: the twelve with most exposure, the one of
        the longest gap among them. One name on two backup servers is two VMs, distinguished by
        their server.
    since, until : timestamp-like, optional
        What part of time to draw; text without a zone is UTC. Default: all the sessions span.
    unobserved : pandas.DataFrame, optional
        Holes of the archive, as the metrics take them.
    tz : str
        Zone of the axis, which names it.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        One row per VM: pale where it was covered, dark and hatched where not, blank in a
        hole; a gap that is still open ends in an arrow head. Gaps below a five-thousandth of the
        time shown, thinner than a line, are left to the table.
    """
    sessions, gaps = with_vm_names(sessions), with_vm_names(gaps)
    first = sessions.groupby(VM, observed=True, dropna=False)["created"].min()
    shown = _vms(gaps, first, vms)
    with styled():
        ax = ax or new_axes(height=1.1 + 0.26 * max(len(shown), 2))
        if not shown:
            return nothing(ax, "No gaps: each VM was covered from its first session on")
        stop = max(sessions["created"].max(), gaps["end"].max()) if until is None else _utc(until)
        start = min(first.min(), gaps["start"].min()) if since is None else _utc(since)
        rows = [_Row(vm, max(first.get(vm, stop), start), stop, _of(gaps, vm)) for vm in shown]
        for place, row in enumerate(rows):
            _draw(ax, place, row, thinnest=bar(start, stop)[1] / _FINEST, unobserved=unobserved)
        ax.set_yticks(range(len(shown)), unique_names(shown))
        ax.set_ylim(len(shown) - 0.4, -0.6)
        format_dates(ax, tz)
        ax.set_title(_title(rows))
        blank = "" if unobserved is None or unobserved.empty else ", blank: not known"
        ax.set_xlabel(f"time ({tz}); dark: not replicated, arrow: still open{blank}")
        ax.grid(axis="y", visible=False)
    return ax


@dataclass(frozen=True)
class _Row:
    """What is drawn of one VM."""

    vm: _Vm
    start: pd.Timestamp
    stop: pd.Timestamp
    gaps: pd.DataFrame

    def bars(self, stretches: pd.DataFrame) -> list[tuple[float, float]]:
        """Return left edges and widths of stretches, cut to the row; a width may be zero."""
        edges = zip(stretches["start"], stretches["end"], strict=True)
        return [bar(max(start, self.start), min(end, self.stop)) for start, end in edges]


def _vms(gaps: pd.DataFrame, first: pd.Series, names: Sequence[str] | None) -> list[_Vm]:
    """Return the VMs to draw: by name, or the twelve with most exposure."""
    if names is None:
        return happenings.most_exposed(gaps, _MOST)
    every = dict.fromkeys([*happenings.by_exposure(gaps), *first.index])
    return [vm for name in names for vm in every if vm[1] == name]


def _draw(
    ax: Axes, place: int, row: _Row, *, thinnest: float, unobserved: pd.DataFrame | None
) -> None:
    ax.broken_barh([bar(row.start, row.stop)], (place - 0.35, 0.7), facecolors=COVERED)
    dark = [piece for piece in row.bars(row.gaps) if piece[1] > thinnest]
    ax.broken_barh(dark, (place - 0.35, 0.7), facecolors=GAP, hatch="////", edgecolor="white", lw=0)
    if unobserved is not None:
        holes = row.bars(_holes(unobserved, row.gaps))
        if blank := [piece for piece in holes if piece[1] > 0]:
            ax.broken_barh(blank, (place - 0.4, 0.8), facecolors="white", lw=0)
    if row.gaps["open"].any():
        ax.plot([mdates.date2num(row.stop)], [place], marker=">", color=GAP, ms=7, clip_on=False)


def _title(rows: Sequence[_Row]) -> str:
    gaps = pd.concat([row.gaps for row in rows]).sort_index(kind="stable")
    if gaps.empty:
        return "No gaps: each was covered from its first session on"
    longest = gaps.nlargest(1, "exposure").iloc[0]
    return f"The longest single gap was {duration(longest['exposure'])}, of {short(longest['vm'])}"


def _utc(moment: pd.Timestamp | str) -> pd.Timestamp:
    return pd.to_datetime(moment, utc=True)


def _of(table: pd.DataFrame, vm: _Vm) -> pd.DataFrame:
    return table[(table["backup_server"] == vm[0]) & (table["vm"] == vm[1])]


def _holes(unobserved: pd.DataFrame, gaps: pd.DataFrame) -> pd.DataFrame:
    """Return the holes that concern the backup servers of some gaps."""
    if "backup_server" not in unobserved:
        return unobserved
    server = unobserved["backup_server"]
    concerned: np.ndarray = (server.isna() | server.isin(set(gaps["backup_server"]))).to_numpy()
    return unobserved[concerned]


def heat_map(
    table: pd.DataFrame, *, vms: pd.DataFrame | None = None, tz: str = "UTC", ax: Axes | None = None
) -> Axes:
    """Draw when VMs were in breach, one row per VM, those with most breached time on top.

    Parameters
    ----------
    table : pandas.DataFrame
        From ``metrics.rpo_adherence(..., freq=...)``, by `vm` at least.
    vms : pandas.DataFrame, optional
        VMs to draw in this order, by the same keys as `table`.
    tz : str
        Zone of the axis, which names it.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        At most thirty VMs; darker is worse, in the steps of `presentation.formatting.LEVELS`,
        and white is not observed. Each cell in breach has its share of the period in percent.
    """
    with styled():
        keys = [key for key in KEYS if key in table]
        late = table.groupby(keys, observed=True, dropna=False)["breached"].sum()
        late = late[late > pd.Timedelta(0)].sort_values(ascending=False, kind="stable")
        shown = late.index[:_MOST_IN_BREACH]
        if vms is not None:
            several = len(keys) > 1
            chosen = pd.MultiIndex.from_frame(vms[keys]) if several else pd.Index(vms[keys[0]])
            shown = chosen[chosen.isin(late.index)]
        if shown.empty:
            return nothing(ax or new_axes(), "No VM missed its RPO")
        ax = ax or new_axes(height=1.2 + 0.22 * len(shown))
        table = table.assign(period=table["period"].dt.tz_convert(tz))
        periods = pd.Index(sorted(table["period"].unique()))
        levels = np.full((len(shown), len(periods)), np.nan)
        cells = table.set_index(keys)
        for row, vm in enumerate(shown):
            mine = cells.loc[[vm]]
            columns = periods.get_indexer(mine["period"])
            for column, kept in zip(columns, mine["adherence"], strict=True):
                level = severity(kept)
                levels[row, column] = np.nan if level is None else level
                if level:
                    ax.text(column, row, percent(kept), ha="center", va="center", fontsize=7,
                            color="white" if level > 2 else INK)  # fmt: skip
        ax.imshow(
            levels, cmap=ListedColormap(SEVERITY), vmin=0, vmax=len(SEVERITY) - 1, aspect="auto"
        )
        names = unique_names([vm if isinstance(vm, tuple) else (vm,) for vm in shown])
        ax.set_yticks(range(len(shown)), names)
        step = -(-len(periods) // 8)
        clock = "" if all(period == period.normalize() for period in periods) else " %H:%M"
        ax.set_xticks(
            range(0, len(periods), step), [p.strftime(f"%d %b{clock}") for p in periods[::step]]
        )
        ax.grid(visible=False)
        more = (
            f"; {len(late) - len(shown):,} more VMs missed theirs" if len(late) > len(shown) else ""
        )
        place = late.index.get_indexer(shown)  # in order of breached time
        worst = int(place.argmin())
        longest = f"{names[worst]} missed its RPO longest: {duration(late.iloc[place[worst]])}"
        ax.set_title(f"{longest}{more}")
        ax.set_xlabel(f"period ({tz}); number: % of it in breach, white: not observed")
    return ax
