"""Each view as HTML, made from findings; computes no number."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from cdpanalytics import analysis, plots
from cdpanalytics.analysis import Findings
from cdpanalytics.presentation import formatting
from cdpanalytics.reports import sections

GAPS_SHOWN = 25
CAUSES_SHOWN = 10
SESSIONS_SHOWN = 200
WORST_SHOWN = 25
HEIGHTS = (4, 8, 13, 18)
_INKS = {
    "#24292f": "var(--ink)", "#000000": "var(--ink)", "#57606a": "var(--soft)",
    "#8c959f": "var(--soft)", "#eaeef2": "var(--line)", "#ffffff": "var(--paper)",
}  # fmt: skip
"""The colours of the packaged style that follow the theme."""


def heat_map(found: Findings) -> Markup:
    """VM by day, grouped by policy, worst first; each cell can be picked."""
    shown = sections.heat(found)
    if not shown["rows"]:
        return _said("No VM missed its target in this selection.")
    more = len(found.worst) - len(shown["rows"])
    told = f"Share of each {'day' if found.freq == 'D' else 'week'}'s observed time in breach, in percent."
    if more > 0:
        told += f" {more:,} more VMs missed their target; see Worst VMs."
    return _said(told) + sections.macro("heat")(shown, pick=True)


def timeline(found: Findings) -> Markup:
    """When the worst VMs were covered, what breaches are put down to, and the longest gaps."""
    ax = plots.timeline(
        found.sessions, found.gaps, unobserved=found.holes, since=found.start, until=found.stop
    )
    longest = found.gaps.nlargest(GAPS_SHOWN, "exposure")
    causes = found.causes.head(CAUSES_SHOWN)
    why = _heading("What breaches are put down to") + _table(causes, "causes")
    gaps = _heading("Longest gaps") + _table(longest, "gaps")
    return picture(ax) + (why if len(causes) else Markup("")) + gaps


def exposure(found: Findings) -> Markup:
    """How many gaps lasted at least how long, and what other targets would mean."""
    ax = plots.exposure(found.gaps, target=found.question.rpo)
    return (
        picture(ax) + _heading("What if the target were another") + _table(found.what_if, "what-if")
    )


def durations(found: Findings) -> Markup:
    """How long finished sessions lasted."""
    return picture(plots.durations(found.durations)) + _table(found.durations, "durations")


def sizes(found: Findings) -> Markup:
    """Sizes by policy, and where they head."""
    trend = _heading("Trend: Theil-Sen slope with its 95 % interval")
    return picture(plots.sizes(found.sizes)) + trend + _table(found.trends, "trends")


def worst(found: Findings) -> Markup:
    """The VMs with most breached time, each with its days as a line of bars."""
    shown = found.worst.head(WORST_SHOWN)
    if shown.empty:
        return _said("No VM missed its target in this selection.")
    whole = found.worst["breached"].sum()
    rows = []
    for (_, vm), days in zip(shown.iterrows(), analysis.daily(found, shown), strict=True):
        who = {"server": vm["backup_server"], "policy": vm["policy"], "vm": vm["vm"]}
        rows.append(Markup(
            '<tr{}><th scope="row">{}</th><td>{}</td><td class="number">{}</td><td class="number">{}</td>'
            '<td class="number">{}</td><td class="number">{}</td><td>{}</td></tr>'
        ).format(
            sections.macro("whose")(who), sections.macro("picked")("", vm["vm"]),
            vm["policy"], formatting.duration(vm["breached"]), formatting.share(vm["breached"] / whole),
            formatting.duration(vm["worst_gap"]), formatting.share(vm["adherence"]), sparkline(days),
        ))  # fmt: skip
    heads = (
        "VM",
        "Policy",
        "Breached",
        "of all breached",
        "Longest gap",
        "Adherence",
        "Day by day",
    )
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in heads)
    return Markup(
        '<div class="scroll" tabindex="0" role="group" aria-label="Worst VMs"><table class="picks">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(head, Markup("").join(rows))


def sparkline(days: pd.DataFrame) -> Markup:
    """A bar a period, of the height of its level in the heat map; a dot where nothing was observed."""
    bars, bar = [], Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>')
    levels = [formatting.severity(adherence) for adherence in days["adherence"]]
    for number, level in enumerate(levels):
        if level is None:
            bars.append(bar.format(4 * number + 1, 17, 1, 1, "none"))
        elif level:
            bars.append(
                bar.format(4 * number, 18 - HEIGHTS[level - 1], 3, HEIGHTS[level - 1], "late")
            )
    label = f"{sum(bool(level) for level in levels)} of {len(levels)} periods with a breach"
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" width="{}" height="18"><title>{}</title>{}</svg>'
    ).format(label, 4 * len(levels), label, Markup("").join(bars))


def journal(found: Findings) -> Markup:
    """The RPO really achieved, from restorable intervals."""
    if found.intervals is None or found.intervals.empty:
        return _said(
            "The archive has no restorable intervals; sync with --journal to ask for them."
        )
    return _said(
        "What each VM could be restored to, and how far apart restore points really were."
    ) + _table(found.journal, "journal")


VIEWS: dict[str, Callable[[Findings], Markup]] = {
    "Heat map": heat_map, "Timeline": timeline, "Exposure": exposure, "Worst VMs": worst,
    "Durations": durations, "Sizes": sizes, "Journal": journal,
}  # fmt: skip
"""What there is to see, by the name a person chooses."""


def tiles(found: Findings) -> Markup:
    """The figures that answer first."""
    return sections.macro("tiles")(sections.tiles(found))


def sessions(rows: pd.DataFrame, who: str) -> Markup:
    """Sessions as a table, newest first."""
    names = ["created", "ended", "state", "result", "reason", "policy_result", "total_size"]
    shown = rows.sort_values("created", ascending=False).head(SESSIONS_SHOWN)
    shown = shown[[name for name in names if name in shown]]
    left = len(rows) - len(shown)
    told = f"{len(rows):,} sessions" + (f", the newest {len(shown)} shown" if left else "")
    return _heading(f"{who}: {told}") + _table(shown, "sessions")


def alert(message: str) -> Markup:
    """What is wrong with the question, where the answer would stand."""
    return Markup('<p role="alert" class="alert">{}</p>').format(message)


def picture(ax: Axes) -> Markup:
    """A plot as SVG whose colours follow the theme."""
    svg = plots.Chart.of(ax, "The numbers are in the table below.").svg("cdp-")
    for colour, ink in _INKS.items():
        svg = re.sub(re.escape(colour), ink, svg, flags=re.I)
    drawn = Markup(svg)  # noqa: S704 - matplotlib escapes its text
    return Markup("<figure>{}</figure>").format(drawn)


def still(found: Findings, view: str) -> Markup:
    """The view where no widget runs: plain tables, and pictures as images."""
    drawn = VIEWS[view](found)
    for svg in re.findall(r"<figure>(<svg.*?</svg>)\s*</figure>", drawn, re.S):
        alt = html.unescape(re.search(r'aria-label="([^"]*)"', svg)[1])  # type: ignore[index]
        data = base64.b64encode(_light(svg).encode()).decode()
        image = Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(alt, data)
        drawn = drawn.replace(Markup(svg), image)  # noqa: S704 - a part of what was drawn
    plain = re.sub(r"</?button[^>]*>", "", tiles(found) + drawn)
    return Markup('<style>{}</style><div class="cdp-explorer cdp-still">{}</div>').format(
        Markup(style()),  # noqa: S704 - our own files
        Markup(plain),  # noqa: S704 - what was drawn, without its buttons
    )


def style() -> str:
    """Rules of the parts and of the explorer, all of them below `.cdp-explorer`."""
    own = Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")
    return f".cdp-explorer {{\n{sections.source('sections.css')}\n}}\n{own}"


def _light(svg: str) -> str:
    for colour, ink in _INKS.items():
        svg = svg.replace(ink, colour)
    return (
        svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        if "xmlns=" not in svg
        else svg
    )


def _table(table: pd.DataFrame, name: str) -> Markup:
    return sections.macro("table")(sections.table(table, f"cdp-{name}"))


def _heading(text: str) -> Markup:
    return Markup("<h4>{}</h4>").format(text)


def _said(*lines: str) -> Markup:
    return Markup("").join(Markup("<p>{}</p>").format(line) for line in lines)
