"""The pictures: each takes a metric's table and an Axes, and says its finding in the title."""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import matplotlib.dates as mdates
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from cdpanalytics.presentation.formatting import duration, percent, severity, share, size

STYLE = Path(__file__).with_name("light.mplstyle")

COVERED, GAP, INK = "#C6DBEF", "#B35806", "#24292F"
SEVERITY = ("#EAF1F7", "#F5C98B", "#E08214", "#B35806", "#5E2A04")
"""From no breach to much: lightness falls in even steps, so it reads without colour and on paper."""

_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MOST = 12
_LINES = 8
_MANY = {"policy": "policies", "vm": "VMs", "backup_server": "backup servers"}
_ROWS = 30
_VM = ["backup_server", "vm"]
_FINEST = 5000
_TICKS = [1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400]
_TICK_NAMES = ["1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 d", "7 d"]


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in the packaged style; matplotlib's own settings stay as they were.

    matplotlib's warning about characters that the style's font lacks is switched off: in
    SVG the reader's own fonts draw them.
    """
    with warnings.catch_warnings(), matplotlib.style.context(STYLE):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


class Chart:
    """A figure with the words that stand for it where it cannot be seen.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What the picture shows, in a sentence.
    """

    def __init__(self, figure: Figure, alt: str) -> None:
        self.figure = figure
        self.alt = alt

    @classmethod
    def of(cls, ax: Axes, more: str) -> Chart:
        """Return the figure that one of our plots made, told by its title and more words."""
        figure = ax.figure
        assert isinstance(figure, Figure)  # noqa: S101 - each plot made its own
        title = ax.get_title(loc="left") or ax.get_title()
        return cls(figure, f"{title}. {more}".replace("\\$", "$"))

    def png(self) -> bytes:
        """Return the picture as PNG."""
        buffer = io.BytesIO()
        with styled():
            self.figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    def svg(self, prefix: str = "") -> str:
        """Return the picture as an SVG element, the same bytes for the same figure.

        Identifiers get `prefix`, so that one page can hold several pictures.
        """
        buffer = io.StringIO()
        with styled():
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        drawn = buffer.getvalue()
        drawn = drawn[drawn.index("<svg") :]
        drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
        drawn = re.sub(r'\bid="', f'id="{prefix}', drawn)
        drawn = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", drawn)
        label = f'<svg role="img" aria-label="{html.escape(self.alt)}"'
        return drawn.replace("<svg", label, 1)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        data = base64.b64encode(self.png()).decode()
        picture = f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{data}">'
        return {"text/html": f"<figure>{picture}</figure>", "text/plain": self.alt}


def timeline(
    sessions: pd.DataFrame,
    gaps: pd.DataFrame,
    *,
    vms: Sequence[str] | None = None,
    since: pd.Timestamp | str | None = None,
    until: pd.Timestamp | str | None = None,
    unobserved: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw when VMs were covered, and their gaps.

    Parameters
    ----------
    sessions : pandas.DataFrame
        Says which VMs there are and the time they span.
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
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        One row per VM: pale where it was covered, dark and hatched where not, blank in a
        hole; a gap that is still open ends in an arrow head. Gaps below a five-thousandth of the time shown,
        thinner than a line, are left to the table.
    """
    sessions, gaps = _with_server(sessions), _with_server(gaps)
    start = None if since is None else pd.to_datetime(since, utc=True)
    stop = None if until is None else pd.to_datetime(until, utc=True)
    first = sessions.groupby(_VM, observed=True, dropna=False)["created"].min()
    longest = gaps.groupby(_VM, observed=True, dropna=False)["exposure"].sum()
    ranked = list(longest.sort_values(ascending=False, kind="stable").index)
    of_longest = list(gaps.nlargest(1, "exposure")[_VM].itertuples(index=False, name=None))
    shown = (
        list(dict.fromkeys([*ranked[: _MOST - 1], *of_longest, *ranked[_MOST - 1 :]]))[:_MOST]
        if vms is None
        else [vm for name in vms for vm in dict.fromkeys([*ranked, *first.index]) if vm[1] == name]
    )
    with styled():
        ax = ax or _axes(height=1.1 + 0.26 * max(len(shown), 2))
        if not shown:
            return _nothing(ax, "No gaps: each VM was covered from its first session on")
        stop = max(sessions["created"].max(), gaps["end"].max()) if stop is None else stop
        earliest = min(first.min(), gaps["start"].min()) if start is None else start
        thinnest = _bar(earliest, stop)[1] / _FINEST
        drawn = []
        for row, vm in enumerate(shown):
            begin = max(first.get(vm, stop), earliest)
            ax.broken_barh([_bar(begin, stop)], (row - 0.35, 0.7), facecolors=COVERED)
            mine = gaps[(gaps["backup_server"] == vm[0]) & (gaps["vm"] == vm[1])]
            drawn.append(mine)
            edges = zip(mine["start"], mine["end"], strict=True)
            bars = [_bar(max(s, begin), min(e, stop)) for s, e in edges]
            bars = [bar for bar in bars if bar[1] > thinnest]
            ax.broken_barh(
                bars, (row - 0.35, 0.7), facecolors=GAP, hatch="////", edgecolor="white", lw=0
            )
            blank = [_bar(max(s, begin), min(e, stop)) for s, e in _holes(unobserved, mine)]
            if blank := [bar for bar in blank if bar[1] > 0]:
                ax.broken_barh(blank, (row - 0.4, 0.8), facecolors="white", lw=0)
            if mine["open"].any():
                ax.plot([mdates.date2num(stop)], [row], marker=">", color=GAP, ms=7, clip_on=False)
        ax.set_yticks(range(len(shown)), _told_apart(shown))
        ax.set_ylim(len(shown) - 0.4, -0.6)
        _dates(ax)
        longest_gap = pd.concat(drawn).sort_index(kind="stable").nlargest(1, "exposure")
        ax.set_title(
            "No gaps: each was covered from its first session on"
            if longest_gap.empty
            else f"{_short(longest_gap['vm'].iloc[0])} was unprotected longest: "
            f"{duration(longest_gap['exposure'].iloc[0])}"
        )
        known = "" if unobserved is None or unobserved.empty else ", blank: not known"
        ax.set_xlabel(f"time (UTC); dark: not replicated, arrow: still open{known}")
        ax.grid(axis="y", visible=False)
    return ax


def _told_apart(vms: Sequence[tuple[object, ...]]) -> list[str]:
    """The names of VMs, the last of their keys; with the other keys where a name is not enough."""
    names = [_short(vm[-1]) for vm in vms]
    return [
        f"{name} ({', '.join(_short(key) for key in vm[:-1])})" if names.count(name) > 1 else name
        for name, vm in zip(names, vms, strict=True)
    ]


def _with_server(table: pd.DataFrame) -> pd.DataFrame:
    """A table's VMs with their backup server, as text, empty where none is known."""
    own = table["backup_server"].astype("str").fillna("") if "backup_server" in table else ""
    return table.assign(backup_server=own)


def _holes(
    unobserved: pd.DataFrame | None, gaps: pd.DataFrame
) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return the holes that concern the backup servers of some gaps."""
    if unobserved is None or unobserved.empty:
        return []
    mine = np.ones(len(unobserved), dtype=bool)
    if "backup_server" in unobserved:
        server = unobserved["backup_server"]
        mine = (server.isna() | server.isin(set(gaps["backup_server"]))).to_numpy()
    return list(unobserved.loc[mine, ["start", "end"]].itertuples(index=False, name=None))


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
        ax = ax or _axes()
        known = table.dropna(subset=["adherence"])
        if known.empty:
            return _nothing(ax, "Nothing observed, so no adherence")
        key = _key(table)
        shown, told = _some(known, key, known["adherence"], "worst")
        for (name, rows), dash in zip(_groups(shown, key), cycle(_DASHES), strict=False):
            ax.plot(
                rows["period"],
                rows["adherence"],
                label=_short(name),
                linestyle=dash,
                marker="o",
                ms=3,
            )
        if objective is not None:
            ax.axhline(objective, color=INK, lw=1, ls=(0, (2, 2)))
            ax.annotate(f"objective {share(objective)}", (0.01, objective), xycoords=("axes fraction", "data"),
                        va="bottom", fontsize=8)  # fmt: skip
        worst = known.nsmallest(1, "adherence").iloc[0]
        who = f"{_short(worst[key])} " if key else ""
        ax.set_title(
            f"Worst: {who}kept its RPO {share(worst['adherence'])} of {worst['period']:%Y-%m-%d}"
        )
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_ylabel("time within RPO (%)")
        ax.set_xlabel(f"period (UTC){told}")
        _dates(ax)
        if key:
            _legend(ax)
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
        known = finished.loc[finished["median"].nlargest(2 * _MOST).index.sort_values()]
        told = (
            f"; the {len(known)} longest of {len(finished):,}" if len(known) < len(finished) else ""
        )
        ax = ax or _axes(height=1.1 + 0.3 * max(len(known), 2))
        if known.empty:
            return _nothing(ax, "No session has finished: no durations to show")
        hours = known[["median", "p95", "max"]].apply(
            lambda column: column.dt.total_seconds() / 3600
        )
        rows = np.arange(len(known))
        ax.barh(rows, hours["median"], height=0.55, color=COVERED, label="median")
        ax.scatter(hours["p95"], rows, marker="|", s=160, color=INK, label="95th percentile")
        ax.scatter(hours["max"], rows, marker="x", s=26, color=GAP, label="longest")
        ax.set_yticks(rows, [_short(_label(row)) for _, row in known.iterrows()])
        ax.invert_yaxis()
        longest = known.nlargest(1, "median").iloc[0]
        ax.set_title(
            f"Sessions of {_short(_label(longest))} last longest: median {duration(longest['median'])}"
        )
        ax.set_xlabel(f"duration of finished sessions (hours){told}")
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
        ax = ax or _axes()
        known = table.dropna(subset=["size"])
        if known.empty:
            return _nothing(ax, "No session with a size has ended")
        known = known.assign(size=known["size"].astype(float))
        key = _key(table)
        shown, told = _some(known, key, -known["size"], "largest")
        for (name, rows), dash in zip(_groups(shown, key), cycle(_DASHES), strict=False):
            ax.plot(
                rows["period"],
                rows["size"],
                label=_short(name),
                linestyle=dash,
                drawstyle="steps-post",
            )
        ax.set_title(_growth(known, key))
        ax.set_ylim(bottom=0)
        ax.set_yticks(_binary_ticks(ax.get_ylim()[1]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        ax.set_ylabel("size of the VMs (binary units)")
        ax.set_xlabel(f"period (UTC){told}")
        _dates(ax)
        if key:
            _legend(ax)
    return ax


def _growth(known: pd.DataFrame, key: str | None) -> str:
    """What is protected now, and how it changed since all that is protected now had a size."""
    last = known[known["period"] == known["period"].max()]
    now = known if key is None else known[known[key].isin(last[key])]
    total = now.groupby("period")["size"].agg(["sum", "count"])
    whole = total[total["count"] == len(last)]["sum"]
    said = f"{size(last['size'].sum())} protected"
    if len(whole) < 2 or not whole.iloc[0]:
        return said
    changed = 100 * (whole.iloc[-1] / whole.iloc[0] - 1)
    return f"{said}, {changed:+.1f} % since {whole.index[0]:%Y-%m-%d}"


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
        ax = ax or _axes()
        if gaps.empty:
            return _nothing(ax, "No gaps")
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
        for goal in goals[:_MOST]:
            ax.axvline(goal.total_seconds(), color=GAP, lw=1.2, ls="--")
            ax.annotate(duration(goal), (goal.total_seconds(), 1), xycoords=("data", "axes fraction"),
                        xytext=(3, -2), textcoords="offset points", rotation=90, va="top", color=GAP,
                        fontsize=8)  # fmt: skip
        ax.set_title(title)
        ax.set_xlabel("length of the gap (dashed: RPO)" if goals else "length of the gap")
        ax.set_ylabel("gaps at least as long")
    return ax


def heat_map(
    table: pd.DataFrame, *, vms: pd.DataFrame | None = None, ax: Axes | None = None
) -> Axes:
    """Draw when VMs were in breach, one row per VM, those with most breached time on top.

    Parameters
    ----------
    table : pandas.DataFrame
        From ``metrics.rpo_adherence(..., freq=...)``, by `vm` at least.
    vms : pandas.DataFrame, optional
        VMs to draw in this order, by the same keys as `table`.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        At most thirty VMs; darker is worse, in the steps of `tables.LEVELS`, and white is not
        observed. Each cell in breach has its share of the period in percent.
    """
    with styled():
        keys = [key for key in ("backup_server", "policy", "vm") if key in table]
        late = table.groupby(keys, observed=True, dropna=False)["breached"].sum()
        late = late[late > pd.Timedelta(0)].sort_values(ascending=False, kind="stable")
        shown = late.index[:_ROWS]
        if vms is not None:
            chosen = (
                pd.MultiIndex.from_frame(vms[keys]) if len(keys) > 1 else pd.Index(vms[keys[0]])
            )
            shown = chosen[chosen.isin(late.index)]
        if shown.empty:
            return _nothing(ax or _axes(), "No VM missed its RPO")
        ax = ax or _axes(height=1.2 + 0.22 * len(shown))
        cells = table.set_index(keys)
        periods = sorted(table["period"].unique())
        levels = np.full((len(shown), len(periods)), np.nan)
        for row, vm in enumerate(shown):
            mine = cells.loc[[vm]]
            for period, kept in zip(mine["period"], mine["adherence"], strict=True):
                column, level = periods.index(period), severity(kept)
                levels[row, column] = np.nan if level is None else level
                if level:
                    ax.text(column, row, percent(kept), ha="center", va="center", fontsize=7,
                            color="white" if level > 2 else INK)  # fmt: skip
        ax.imshow(
            levels, cmap=ListedColormap(SEVERITY), vmin=0, vmax=len(SEVERITY) - 1, aspect="auto"
        )
        names = _told_apart([vm if isinstance(vm, tuple) else (vm,) for vm in shown])
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
        worst = _short(late.index[0][-1] if isinstance(late.index[0], tuple) else late.index[0])
        ax.set_title(f"{worst} missed its RPO longest: {duration(late.iloc[0])}{more}")
        ax.set_xlabel("period (UTC); number: % of it in breach, white: not observed")
    return ax


def _legend(ax: Axes) -> None:
    """Name the lines beside the picture, in the order in which they end."""
    handles, names = ax.get_legend_handles_labels()
    ends = [-float(np.asarray(line.get_ydata())[-1]) for line in handles]  # type: ignore[attr-defined]
    order = np.argsort(ends, kind="stable")
    ax.legend([handles[at] for at in order], [names[at] for at in order], loc="upper left",
              bbox_to_anchor=(1.0, 1.0))  # fmt: skip


def _axes(height: float = 3.4) -> Axes:
    return Figure(figsize=(9, height)).add_subplot()


def _nothing(ax: Axes, said: str) -> Axes:
    ax.set_title(said)
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def _dates(ax: Axes) -> None:
    left, right = ax.get_xlim()
    if right - left < 1:  # days: one period alone has no width
        ax.set_xlim(left - 0.5, right + 0.5)
    locator = mdates.AutoDateLocator(minticks=3, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))


def _bar(start: pd.Timestamp, stop: pd.Timestamp) -> tuple[float, float]:
    left, right = mdates.date2num(start), mdates.date2num(stop)
    return left, max(right - left, 0.0)


def _key(table: pd.DataFrame) -> str | None:
    return next((name for name in _MANY if name in table), None)


def _some(
    table: pd.DataFrame, key: str | None, rank: pd.Series, which: str
) -> tuple[pd.DataFrame, str]:
    """Return the rows of the first groups by rank, as many as colours can show, and a note on it."""
    if key is None or table[key].nunique() <= _LINES:
        return table, ""
    least = rank.groupby(table[key], observed=True).min()
    names = least.nsmallest(_LINES).index
    told = f"; the {_LINES} {which} of {len(least):,} {_MANY[key]}"
    return table[table[key].isin(names)], told


def _groups(table: pd.DataFrame, key: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    if key is None:
        yield "all", table
        return
    for name, rows in table.groupby(key, sort=True, observed=True):
        yield str(name), rows


def _label(row: pd.Series) -> str:
    return " · ".join(
        str(row[key]) for key in ("backup_server", "policy", "vm") if key in row.index
    )


def _short(name: object) -> str:
    """A name as a label: no control characters, no mathematics, not too long."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in str(name)).replace("$", r"\$")
    return text if len(text) <= 32 else text[:31] + "…"
