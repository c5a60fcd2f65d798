"""Findings as one HTML file that asks nothing of anybody; computes no number."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from cdpanalytics import analysis, plots
from cdpanalytics.analysis import Findings, Question
from cdpanalytics.archive import Archive
from cdpanalytics.patterns import Patterns
from cdpanalytics.presentation import formatting
from cdpanalytics.presentation import output as destination
from cdpanalytics.reports import sections
from cdpanalytics.timeparse import Moment

GAPS_SHOWN = 15
BREACHES_SHOWN = 1000
VMS_SHOWN = 15
CAUSES_SHOWN = 10
CHANGES_SHOWN = 10
_ADHERENCE = ["rpo", "observed", "breached", "gaps", "breaches", "worst_gap", "adherence", "adherence_strict",
              "sessions", "failed", "success_rate"]  # fmt: skip
"""What there is room for; the exact numbers of all columns are in the page as JSON."""
_WHAT_IF = ["rpo", "breaches", "breached", "adherence"]
_CHANGE = ["adherence_before", "adherence", "change", "breached_before", "breached", "verdict"]


def report(
    archive: Archive,
    output: str | os.PathLike[str],
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    policy: Patterns = None,
    vm: Patterns = None,
    rpo: object = None,
    objective: float = 0.999,
    tz: str = "UTC",
    title: str | None = None,
    generated: pd.Timestamp | None = None,
) -> Path:
    """Write an HTML report of an archive: one file, no request to anywhere.

    Parameters
    ----------
    archive : Archive
    output : path-like
        The file; its directory must exist. It is written whole or not at all; a symbolic
        link is followed, a pipe or device is written to, and ``-`` is standard output.
    since, until : timestamp-like or text like "30D", optional
        The window ``[since, until)``, UTC. Default: all the archive has.
    policy, vm : str or sequence of str, optional
        Names or glob patterns.
    rpo : timedelta-like, optional
        The target. Default: each policy's own.
    objective : float
        The share of observed time in which the target should hold.
    tz : str
        Zone of days and schedules.
    title : str, optional
    generated : timestamp, optional
        What the report says it was made at. Default: the data's as_of, so that the
        same data gives the same bytes.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    InputError, ArchiveError
        When the question cannot be answered, or the file not be written.

    See Also
    --------
    cdpanalytics.metrics.rpo_adherence : what its numbers mean.
    """
    destination.check(output)
    question = Question(since, until, policy, vm, rpo, objective, tz)
    found = analysis.find(archive, question)
    page = render(found, title or "Were we protected?", generated)
    destination.write_text(output, page)
    return Path(output)


def render(found: Findings, title: str, generated: pd.Timestamp | None) -> str:
    """Return findings as HTML."""
    script = sections.source("tables.js") + sections.source("report.js")
    style = sections.source("sections.css") + sections.source("report.css")
    longest = found.gaps.sort_values("exposure", ascending=False, kind="stable")
    late = longest[longest["breached"] > pd.Timedelta(0)]
    return sections.environment().get_template("report.html.j2").render(
        title=title,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        digest=sections.digest(script),
        found=found,
        verdict=analysis.verdict(found),
        zone=found.question.tz,
        start=sections.instant(found.start, found.question.tz),
        stop=sections.instant(found.stop, found.question.tz),
        filters=_filters(found.question),
        tiles_shown=sections.tiles(found),
        objectives=sections.objectives(found),
        heat_shown=sections.heat(found),
        more=max(0, len(found.worst) - analysis.ROWS_SHOWN),
        fine=len(found.vms) - len(found.worst),
        pictures=_pictures(found),
        gaps=sections.table(longest.head(GAPS_SHOWN), "gaps"),
        breaches=sections.table(late.head(BREACHES_SHOWN), "breaches", tools=True),
        late=len(late), breaches_left_out=max(0, len(late) - BREACHES_SHOWN),
        causes=sections.table(found.causes.head(CAUSES_SHOWN), "causes"),
        worst=sections.table(found.worst.head(VMS_SHOWN), "worst"),
        what_if=sections.table(found.what_if[_WHAT_IF], "what-if"),
        change=analysis.change(found),
        compared={key: _changes(found, by) for key, by in (("policy", ["policy"]), ("vm", analysis.VM))},
        journal=_journal(found),
        vms=sections.table(found.vms[[*analysis.VM, *_ADHERENCE]], "vms", tools=True),
        policies=sections.table(found.policies[["policy", "exposed", *_ADHERENCE]], "policies"),
        durations=sections.table(found.durations, "durations"),
        trends=sections.table(found.trends, "trends"),
        sizes=sections.by_day(found.sizes, "sizes"),
        holes=sections.table(found.holes.fillna({"backup_server": "all"}), "holes"),
        unseen=found.unseen[analysis.VM].astype("str").to_numpy().tolist(),
        quality=sections.table(found.quality, "quality-found"),
        versions=_versions(),
        generated=sections.instant(generated if generated is not None else found.stop, "UTC"),
        data=_embedded(found.vms),
    )  # fmt: skip


def _pictures(found: Findings) -> dict[str, Markup]:
    gaps, window = found.gaps, {"since": found.start, "until": found.stop}
    drawn = {
        "timeline": plots.timeline(found.sessions, gaps, unobserved=found.holes, **window),  # type: ignore[arg-type]
        "exposure": plots.exposure(gaps, target=found.question.rpo),
        "sizes": plots.sizes(found.sizes),
    }
    made = {name: plots.Chart.of(ax, "The numbers are in the tables below.").svg(f"{name}-")
            for name, ax in drawn.items()}  # fmt: skip
    return {name: Markup(svg) for name, svg in made.items()}  # noqa: S704 - matplotlib escapes its text


def _changes(found: Findings, by: list[str]) -> dict[str, Any] | None:
    """What changed since the period before, largest change first; what stayed is left out."""
    if found.before is None:
        return None
    compared = found.compared(by)
    changed = compared[~compared["verdict"].isin(["same", "unknown"])].head(CHANGES_SHOWN)
    return sections.table(changed[[*by, *_CHANGE]], f"change-{by[-1]}") if len(changed) else None


def _journal(found: Findings) -> dict[str, Any] | None:
    """What VMs could be restored to, the worst first, where anybody asked."""
    if found.intervals is None or found.intervals.empty:
        return None
    worst = found.journal.sort_values(["adherence", *analysis.VM], kind="stable")
    return sections.table(worst.head(VMS_SHOWN), "journal")


def _filters(question: Question) -> list[str]:
    asked = {"policy": question.policy, "VM": question.vm, "RPO": question.rpo}
    return [f"{name}: {value}" for name, value in asked.items() if value is not None]


def _embedded(table: pd.DataFrame) -> Markup:
    """Exact numbers as JSON that no name can break out of."""
    text = json.dumps(formatting.records(table), ensure_ascii=False, allow_nan=False)
    for character, code in (("<", r"\u003c"), (">", r"\u003e"), ("&", r"\u0026")):
        text = text.replace(character, code)
    return Markup(text)  # noqa: S704 - what could end the element is escaped above


def _versions() -> str:
    found = []
    for name in ("cdpanalytics", "pandas", "numpy", "pyarrow", "matplotlib"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} (not installed)")
    return ", ".join(found)
