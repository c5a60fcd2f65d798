"""Findings as one HTML file that asks nothing of anybody; computes no number."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from cdpanalytics import findings, plots, tables
from cdpanalytics.archive import Archive, Patterns
from cdpanalytics.config import Moment
from cdpanalytics.findings import Findings, Question
from cdpanalytics.report import parts

GAPS_SHOWN = 50
VMS_SHOWN = 15


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
        The file; its folder must be there. It is written whole or not at all.
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
    question = Question(since, until, policy, vm, rpo, objective, tz)
    found = findings.find(archive, question)
    page = render(found, title or "Were we protected?", generated)
    path = Path(output)
    tables.write(path, page.encode())
    return path


def render(found: Findings, title: str, generated: pd.Timestamp | None) -> str:
    """Return findings as HTML."""
    script = parts.source("report.js")
    style = parts.source("parts.css") + parts.source("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return parts.environment().get_template("report.html.j2").render(
        title=title,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        digest=digest,
        found=found,
        verdict=findings.verdict(found),
        zone=found.question.tz,
        start=parts.instant(found.start, found.question.tz),
        stop=parts.instant(found.stop, found.question.tz),
        filters=_filters(found.question),
        tiles_shown=parts.tiles(found),
        objectives=parts.objectives(found),
        heat_shown=parts.heat(found),
        more=max(0, len(found.worst) - findings.ROWS_SHOWN),
        fine=len(found.vms) - len(found.worst),
        pictures=_pictures(found),
        gaps=parts.table(found.gaps.nlargest(GAPS_SHOWN, "exposure"), "gaps"),
        left_out=max(0, len(found.gaps) - GAPS_SHOWN),
        worst=parts.table(found.worst.head(VMS_SHOWN), "worst"),
        vms=parts.table(found.vms, "vms", tools=True),
        policies=parts.table(found.policies, "policies"),
        durations=parts.table(found.durations, "durations"),
        trends=parts.table(found.trends, "trends"),
        sizes=parts.table(found.sizes, "sizes"),
        holes=parts.table(found.holes.fillna({"backup_server": "all"}), "holes"),
        unseen=found.unseen[findings.VM].astype("str").to_numpy().tolist(),
        quality=_quality(found),
        versions=_versions(),
        generated=parts.instant(generated if generated is not None else found.stop, "UTC"),
        data=_embedded(found.vms),
    )  # fmt: skip


def _pictures(found: Findings) -> dict[str, Markup]:
    gaps, window = found.gaps, {"since": found.start, "until": found.stop}
    drawn = {
        "timeline": plots.timeline(found.sessions, gaps, unobserved=found.holes, **window),  # type: ignore[arg-type]
        "exposure": plots.exposure(gaps, target=found.question.rpo),
        "sizes": plots.sizes(found.sizes),
    }
    made = {}
    for name, ax in drawn.items():
        figure = ax.figure
        assert isinstance(figure, Figure)  # noqa: S101 - each plot made its own
        alt = f"{ax.get_title(loc='left') or ax.get_title()}. The numbers are in the tables below."
        svg = plots.Chart(figure, alt.replace("\\$", "$")).svg(f"{name}-")
        made[name] = Markup(svg)  # noqa: S704 - matplotlib escapes its text
    return made


def _quality(found: Findings) -> list[str]:
    sessions = found.sessions
    pending = int((sessions["state"] == "Pending").sum())
    endless = int(((sessions["state"] == "Completed") & sessions["ended"].isna()).sum())
    backwards = int((sessions["ended"] < sessions["created"]).sum())
    running = int((sessions["state"] == "InProgress").sum())
    targetless = int(found.vms["rpo"].isna().sum())
    said = [
        (running, "sessions were still running; they protect, and have no verdict yet"),
        (pending, "sessions were pending; they protect nobody"),
        (endless, "sessions are Completed without an end; they are counted, and protect nobody"),
        (backwards, "sessions end before they begin; they are counted, and protect nobody"),
        (targetless, "VMs have no known target, or more than one"),
    ]
    return [f"{count:,} {words}." for count, words in said if count]


def _filters(question: Question) -> list[str]:
    asked = {"policy": question.policy, "VM": question.vm, "RPO": question.rpo}
    return [f"{name}: {value}" for name, value in asked.items() if value is not None]


def _embedded(table: pd.DataFrame) -> Markup:
    """Exact numbers as JSON that no name can break out of."""
    text = json.dumps(tables.records(table), ensure_ascii=False, allow_nan=False)
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
