"""Each view as HTML, made from an Analysis."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from cdpanalytics import plots
from cdpanalytics.presentation import analysis as sentences
from cdpanalytics.presentation import formatting, happenings
from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation.analysis import Analysis, periods_by_vm

GAPS_SHOWN = 25
CAUSES_SHOWN = 10
_SESSIONS_SHOWN = 200
_WORST_SHOWN = 25
_STATUS_SHOWN = 200
_HEIGHTS = (4, 8, 13, 18)
_INKS = {
    "#24292f": "var(--ink)", "#000000": "var(--ink)", "#57606a": "var(--soft)",
    "#8c959f": "var(--soft)", "#eaeef2": "var(--line)", "#ffffff": "var(--paper)",
}  # fmt: skip
"""The colours of the packaged style that follow the theme."""


_WITH_STRIP = ("Heat map", "Timeline")
"""Views below the strip over the fleet."""


def with_incidents(view: str, analysis: Analysis, *, narrowed: bool = False) -> Markup:
    """A view; heat map and timeline below the strip over the fleet and its incidents."""
    back = _BACK if narrowed else Markup("")
    if view not in _WITH_STRIP or analysis.incidents.empty:
        return back + VIEWS[view](analysis)
    strip = plots.fleet(
        analysis.in_breach,
        analysis.incidents,
        since=analysis.start,
        until=analysis.stop,
        tz=analysis.selection.tz,
    )
    listed = parts.macro("happened")(
        happenings.sentences(analysis), happenings.remainder(analysis), pick=True
    )
    return back + picture(strip, "fleet-") + listed + VIEWS[view](analysis)


_BACK = Markup(
    '<p><button type="button" class="back" data-incident="0">'
    "Show what was shown before this incident</button></p>"
)


def heat_map(analysis: Analysis) -> Markup:
    """VM by day, grouped by policy, worst first; each cell can be picked."""
    shown = parts.heat_map(analysis)
    if not shown["rows"]:
        return _paragraphs("No VM missed its target in this selection.")
    more = len(analysis.worst) - len(shown["rows"])
    text = f"Share of each {'day' if analysis.freq == 'D' else 'week'}'s observed time in breach, in percent."
    if more > 0:
        text += f" {more:,} more VMs missed their target; see Worst VMs."
    return _paragraphs(text) + parts.macro("heat")(shown, pick=True)


def timeline(analysis: Analysis) -> Markup:
    """When the worst VMs were covered, the causes of breaches, and the longest gaps."""
    ax = plots.timeline(
        analysis.selection.sessions,
        analysis.gaps,
        unobserved=analysis.selection.holes,
        since=analysis.start,
        until=analysis.stop,
        tz=analysis.selection.tz,
        vms=happenings.timeline_vms(analysis),
    )
    longest = analysis.gaps.nlargest(GAPS_SHOWN, "exposure")
    causes = analysis.causes.head(CAUSES_SHOWN)
    why = _heading("Causes of breaches") + _table(causes, "causes", analysis.selection.tz)
    gaps = _heading("Longest gaps") + _table(longest, "gaps", analysis.selection.tz)
    return picture(ax) + (why if len(causes) else Markup("")) + gaps


def exposure(analysis: Analysis) -> Markup:
    """How many gaps lasted at least how long, and what other targets would mean."""
    ax = plots.exposure(analysis.gaps, target=analysis.selection.target)
    return (
        picture(ax)
        + _heading("What if the target were another")
        + _table(analysis.what_if, "what-if")
    )


def durations(analysis: Analysis) -> Markup:
    """How long finished sessions lasted."""
    return picture(plots.durations(analysis.durations)) + _table(analysis.durations, "durations")


def sizes(analysis: Analysis) -> Markup:
    """Sizes by policy, and where they head."""
    trend = _heading("Trend: Theil-Sen slope with its 95 % interval")
    return (
        picture(plots.sizes(analysis.sizes, tz=analysis.selection.tz))
        + trend
        + _table(analysis.trends, "trends", analysis.selection.tz)
    )


def worst(analysis: Analysis) -> Markup:
    """The VMs with most breached time, each with its days as a line of bars."""
    shown = happenings.by_incident(analysis).head(_WORST_SHOWN)
    if shown.empty:
        return _paragraphs("No VM missed its target in this selection.")
    whole = analysis.worst["breached"].sum()
    rows = []
    for (_, vm), days in zip(shown.iterrows(), periods_by_vm(analysis, shown), strict=True):
        who = {"server": vm["backup_server"], "policy": vm["policy"], "vm": vm["vm"]}
        rows.append(Markup(
            '<tr{}><th scope="row">{}</th><td>{}</td><td class="number">{}</td><td class="number">{}</td>'
            '<td class="number">{}</td><td class="number">{}</td><td class="number">{}</td><td>{}</td></tr>'
        ).format(
            parts.macro("whose")(who), parts.macro("picked")("", vm["vm"]),
            vm["policy"], formatting.duration(vm["breached"]), formatting.share(vm["breached"] / whole),
            formatting.duration(vm["worst_gap"]), formatting.share(vm["adherence"]),
            formatting.word("incident", vm["incident"]), _sparkline(days),
        ))  # fmt: skip
    heads = (
        "VM",
        "Policy",
        "Breached",
        "of all breached",
        "Longest gap",
        "Adherence",
        "Incident",
        "Day by day",
    )
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in heads)
    return Markup(
        '<div class="scroll" tabindex="0" role="group" aria-label="Worst VMs"><table class="picks">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(head, Markup("").join(rows))


def _sparkline(days: pd.DataFrame) -> Markup:
    """A bar a period, of the height of its level in the heat map; a dot where nothing was observed."""
    bars, bar = [], Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>')
    levels = [formatting.severity(adherence) for adherence in days["adherence"]]
    for number, level in enumerate(levels):
        if level is None:
            bars.append(bar.format(4 * number + 1, 17, 1, 1, "none"))
        elif level:
            bars.append(
                bar.format(4 * number, 18 - _HEIGHTS[level - 1], 3, _HEIGHTS[level - 1], "late")
            )
    label = f"{sum(bool(level) for level in levels)} of {len(levels)} periods with a breach"
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" width="{}" height="18"><title>{}</title>{}</svg>'
    ).format(label, 4 * len(levels), label, Markup("").join(bars))


def status(analysis: Analysis) -> Markup:
    """How each VM is at the end of the period, worst first."""
    shown = analysis.status.head(_STATUS_SHOWN).drop(columns="at")
    left = len(analysis.status) - len(shown)
    more = (f"{left:,} more VMs are not shown.",) if left else ()
    return _paragraphs(sentences.now(analysis), *more) + _table(
        shown, "status", analysis.selection.tz
    )


def journal(analysis: Analysis) -> Markup:
    """The RPO really achieved, from restorable intervals."""
    if analysis.journal.empty:
        return _paragraphs(
            "The archive has no restorable intervals; sync with --journal to ask for them."
        )
    drawn = picture(analysis.selection.plot.achieved_rpo())
    return (
        drawn
        + _paragraphs(
            "What each VM could be restored to, and how far apart restore points really were."
        )
        + _table(analysis.journal, "journal")
    )


def sides(analysis: Analysis) -> Markup:
    """Two groups over the period, or all VMs under two targets."""
    if analysis.sides is None:
        return _paragraphs(
            "Write in Sides what to compare: backup_server=vbr01,vbr02 or policy=Gold,Silver, a tag, "
            "or target=15min,1h."
        )
    detail = analysis.side_by_side([analysis.side_key])
    tables = [
        parts.macro("table")(parts.side_table(table, name, analysis.sides))
        for table, name in (
            (analysis.side_by_side([]), "cdp-sides"), (detail, "cdp-sides-detail"),
        )
    ]  # fmt: skip
    return tables[0] + picture(plots.side_by_side(detail)) + tables[1]


VIEWS: dict[str, Callable[[Analysis], Markup]] = {
    "Heat map": heat_map, "Timeline": timeline, "Exposure": exposure, "Worst VMs": worst,
    "Durations": durations, "Sizes": sizes, "Journal": journal, "Status": status,
    "Side by side": sides,
}  # fmt: skip
"""The views by the name that an analyst chooses."""


def cards(analysis: Analysis) -> Markup:
    """The figures that answer first."""
    return parts.macro("tiles")(parts.summary_cards(analysis))


def sessions(rows: pd.DataFrame, who: str, tz: str = "UTC") -> Markup:
    """Sessions as a table, newest first."""
    names = ["created", "ended", "state", "result", "reason", "policy_result", "total_size"]
    shown = rows.sort_values("created", ascending=False).head(_SESSIONS_SHOWN)
    shown = shown[[name for name in names if name in shown]]
    left = len(rows) - len(shown)
    text = f"{len(rows):,} sessions" + (f", the newest {len(shown)} shown" if left else "")
    return _heading(f"{who}: {text}") + _table(shown, "sessions", tz)


def alert(message: str) -> Markup:
    """What is wrong with the question, where the answer would stand."""
    return Markup('<p role="alert" class="alert">{}</p>').format(message)


def picture(ax: Axes, prefix: str = "") -> Markup:
    """A plot as SVG whose colours follow the theme; `prefix` for a second one on the page."""
    svg = plots.Chart.of(ax, "The numbers are in the table below.").svg(f"cdp-{prefix}")
    for colour, ink in _INKS.items():
        svg = re.sub(re.escape(colour), ink, svg, flags=re.I)
    drawn = Markup(svg)  # noqa: S704 - matplotlib escapes its text
    return Markup("<figure>{}</figure>").format(drawn)


def static_html(analysis: Analysis, view: str) -> Markup:
    """The view where no widget runs: plain tables, and pictures as images."""
    drawn = with_incidents(view, analysis)
    for svg in re.findall(r"<figure>(<svg.*?</svg>)\s*</figure>", drawn, re.S):
        alt = html.unescape(re.search(r'aria-label="([^"]*)"', svg)[1])  # type: ignore[index]
        data = base64.b64encode(_light(svg).encode()).decode()
        image = Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(alt, data)
        drawn = drawn.replace(Markup(svg), image)  # noqa: S704 - a part of what was drawn
    plain = re.sub(r"</?button[^>]*>", "", cards(analysis) + drawn)
    return Markup('<style>{}</style><div class="cdp-explorer cdp-static">{}</div>').format(
        Markup(style()),  # noqa: S704 - our own files
        Markup(plain),  # noqa: S704 - what was drawn, without its buttons
    )


def style() -> str:
    """Rules of the parts and of the explorer, all of them below `.cdp-explorer`."""
    own = Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")
    return f".cdp-explorer {{\n{parts.source('sections.css')}\n}}\n{own}"


def _light(svg: str) -> str:
    for colour, ink in _INKS.items():
        svg = svg.replace(ink, colour)
    return (
        svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        if "xmlns=" not in svg
        else svg
    )


def _table(table: pd.DataFrame, name: str, tz: str = "UTC") -> Markup:
    return parts.macro("table")(parts.table(table, f"cdp-{name}", tz=tz))


def _heading(text: str) -> Markup:
    return Markup("<h4>{}</h4>").format(text)


def _paragraphs(*lines: str) -> Markup:
    return Markup("").join(Markup("<p>{}</p>").format(line) for line in lines)
