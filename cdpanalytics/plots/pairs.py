"""Two sides in one picture: a line per group between the adherence of one and of the other."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from cdpanalytics.plots.axes import new_axes, nothing, short
from cdpanalytics.plots.figure import COVERED, GAP, INK, styled
from cdpanalytics.presentation.formatting import share, word
from cdpanalytics.presentation.plain import is_missing

_ROWS = 30


def side_by_side(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the adherence of two sides, group by group.

    Parameters
    ----------
    table : pandas.DataFrame
        What `Selection.compare` returns for `sides`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One row per group, at most thirty, largest difference at the top: a circle for the
        left side, a square for the right one, a line between them.
    """
    with styled():
        known = table[table["difference"].notna()]
        if known.empty:
            return nothing(
                ax or new_axes(), "Nothing to compare: adherence is not known of both sides"
            )
        shown = known.head(_ROWS).reset_index(drop=True)
        ax = ax or new_axes(height=1.6 + 0.28 * len(shown))
        places = range(len(shown))
        ax.hlines(
            places, shown["adherence_left"], shown["adherence_right"], color=COVERED, lw=3, zorder=1
        )
        first = shown.iloc[0]
        for side, marker, colour in (("left", "o", INK), ("right", "s", GAP)):
            ax.scatter(shown[f"adherence_{side}"], places, marker=marker, color=colour, zorder=2,
                       label=short(first[side]))  # fmt: skip
        ax.set_yticks(list(places), [_name(row, table) for _, row in shown.iterrows()])
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        more = f"; the {_ROWS} largest of {len(known):,} differences" if len(known) > _ROWS else ""
        ax.set_xlabel(f"adherence{more}")
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        ax.set_title(_finding(first, table))
    return ax


def _keys(table: pd.DataFrame) -> list[str]:
    return list(table.columns[: list(table.columns).index("left")])


def _name(row: pd.Series, table: pd.DataFrame) -> str:
    names = [short(word("", row[key])) for key in _keys(table) if not is_missing(row[key])]
    return " · ".join(names) or ("all" if not _keys(table) else word("", None))


def _finding(row: pd.Series, table: pd.DataFrame) -> str:
    left, right = (
        f"{share(row[f'adherence_{side}'])} ({short(row[side])})" for side in ("left", "right")
    )
    whose = f"{_name(row, table)} differs most: " if len(table) > 1 else ""
    return f"{whose}within the RPO {left} of the time, and {right}"
