"""Findings as one HTML file that asks nothing of anybody; computes no number."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from cdpanalytics import findings, plots, tables
from cdpanalytics.archive import Archive, Patterns
from cdpanalytics.config import Moment
from cdpanalytics.findings import Findings, Question

GAPS_SHOWN = 50
VMS_SHOWN = 15
_HEADINGS = {
    "backup_server": "Backup server", "policy": "Policy", "vm": "VM", "rpo": "RPO", "sessions": "Sessions",
    "success": "Success", "warning": "Warning", "failed": "Failed", "unknown": "No verdict",
    "observed": "Observed", "exposed": "Exposed", "breached": "Breached", "gaps": "Gaps",
    "breaches": "Breaches", "worst_gap": "Longest gap", "adherence": "Adherence",
    "adherence_strict": "Strict", "gap_adherence": "Gaps within RPO", "success_rate": "Success rate",
    "start": "Start (UTC)", "end": "End (UTC)", "open": "Still open", "exposure": "Length", "cause": "Cause",
    "running": "Running", "mean": "Mean", "median": "Median", "p95": "95th percentile", "max": "Longest",
    "total": "Total", "expected": "Expected", "on_cadence": "On cadence", "periods": "Whole days",
    "size": "Size", "slope": "Slope", "slope_low": "from", "slope_high": "to", "projected": "In 30 days",
    "growth": "Growth", "source": "Enterprise Manager", "period": "Day (UTC)", "vms": "VMs",
}  # fmt: skip
_NUMBERS = {"backup_server", "policy", "vm", "cause", "source", "start", "end", "open", "period"}


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
    environment = Environment(
        loader=PackageLoader("cdpanalytics.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    read = environment.loader.get_source  # type: ignore[union-attr]
    script, style = (read(environment, name)[0] for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        title=title,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        digest=digest,
        found=found,
        verdict=findings.verdict(found),
        zone=found.question.tz,
        start=_instant(found.start, found.question.tz),
        stop=_instant(found.stop, found.question.tz),
        filters=_filters(found.question),
        tiles=_tiles(found),
        objectives=_objectives(found),
        heat=_heat(found),
        more=max(0, len(found.worst) - findings.ROWS_SHOWN),
        fine=len(found.vms) - len(found.worst),
        pictures=_pictures(found),
        gaps=_table(found.gaps.nlargest(GAPS_SHOWN, "exposure"), "gaps"),
        left_out=max(0, len(found.gaps) - GAPS_SHOWN),
        worst=_table(found.worst.head(VMS_SHOWN), "worst"),
        vms=_table(found.vms, "vms", tools=True),
        policies=_table(found.policies, "policies"),
        durations=_table(found.durations, "durations"),
        trends=_table(found.trends, "trends"),
        sizes=_table(found.sizes, "sizes"),
        holes=_table(found.holes.fillna({"backup_server": "all"}), "holes"),
        unseen=found.unseen[findings.VM].astype("str").to_numpy().tolist(),
        quality=_quality(found),
        versions=_versions(),
        generated=_instant(generated if generated is not None else found.stop, "UTC"),
        data=_embedded(found.vms),
    )  # fmt: skip


def _tiles(found: Findings) -> list[dict[str, str]]:
    whole, missed = found.whole, len(found.worst)
    finished = int(whole["success"] + whole["warning"] + whole["failed"])
    low, high = findings.wilson(int(whole["success"]), finished)
    state, used = findings.spent(found.promise)
    known = not pd.isna(whole["adherence"])
    return [
        {"name": "Adherence", "value": tables.share(whole["adherence"]),
         "note": f"strict {tables.share(whole['adherence_strict'])}", "state": "" if known else "unknown"},
        {"name": f"Objective {tables.share(found.question.objective)}", "value": state.capitalize(),
         "note": used, "state": state},
        {"name": "VMs that missed", "value": f"{missed:,} of {len(found.vms):,}",
         "note": f"{int((found.gaps['breached'] > pd.Timedelta(0)).sum()):,} breaches in "
                 f"{len(found.gaps):,} gaps", "state": ""},
        {"name": "Longest gap", "value": tables.duration(whole["worst_gap"]),
         "note": f"{tables.duration(whole['breached'])} breached in all", "state": ""},
        {"name": "Success rate", "value": tables.share(whole["success_rate"]),
         "note": f"of {finished:,} sessions; 95 %: {tables.share(low)} to {tables.share(high)}", "state": ""},
        {"name": "As of", "value": _instant(found.stop, "UTC")[:10],
         "note": f"{_instant(found.stop, 'UTC')[11:]} UTC; nothing later is judged", "state": ""},
    ]  # fmt: skip


def _objectives(found: Findings) -> list[dict[str, str]]:
    rows = []
    for (_, row), (_, promise) in zip(
        found.policies.iterrows(), found.objectives.iterrows(), strict=True
    ):
        state, used = findings.spent(promise)
        rows.append({"policy": str(row["policy"]), "rpo": tables.duration(row["rpo"]), "state": state,
                     "adherence": tables.share(row["adherence"]),
                     "strict": tables.share(row["adherence_strict"]), "used": used})  # fmt: skip
    return rows


def _heat(found: Findings) -> dict[str, Any]:
    periods, vms = findings.heat(found)
    rows = []
    for vm, cells in vms:
        drawn = []
        for _, cell in cells.iterrows():
            level = findings.level(cell)
            breached = tables.duration(cell["breached"])
            said = (
                "not observed"
                if level is None
                else f"{breached} of {tables.duration(cell['observed'])} breached"
            )
            label = "–" if level is None else "" if level == 0 else _percent(cell["adherence"])
            drawn.append({"level": level, "text": label,
                          "title": f"{vm['vm']}, {cell['period']:%Y-%m-%d}: {said}"})  # fmt: skip
        rows.append({"vm": vm["vm"], "policy": vm["policy"], "server": vm["backup_server"], "cells": drawn,
                     "total": tables.duration(vm["breached"])})  # fmt: skip
    zoned = [period.tz_convert(found.question.tz) for period in periods]
    return {"periods": [(f"{day:%d}", f"{day:%Y-%m-%d}") for day in zoned],
            "months": _months(zoned), "rows": rows}  # fmt: skip


def _percent(adherence: float) -> str:
    """What was breached, in whole percents as a cell has room for."""
    breached = 100 * (1 - adherence)
    return "<1" if breached < 1 else f"{math.floor(breached + 1e-9)}"


def _months(days: list[pd.Timestamp]) -> list[tuple[str, int]]:
    months: list[tuple[str, int]] = []
    for day in days:
        name = f"{day:%b %Y}"
        if months and months[-1][0] == name:
            months[-1] = (name, months[-1][1] + 1)
        else:
            months.append((name, 1))
    return months


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


def _table(table: pd.DataFrame, name: str, *, tools: bool = False) -> dict[str, Any]:
    exact = tables.records(table)
    shown = tables.words(table)
    heads = [{"name": _HEADINGS.get(c, c), "number": c not in _NUMBERS} for c in table.columns]
    rows = [
        [{"text": text, "sort": "" if row[c] is None else row[c], "number": c not in _NUMBERS}
         for c, text in zip(table.columns, line, strict=True)]
        for row, line in zip(exact, shown.to_numpy().tolist(), strict=True)
    ]  # fmt: skip
    return {"id": name, "heads": heads, "rows": rows, "tools": tools}


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


def _instant(stamp: pd.Timestamp | None, zone: str) -> str:
    if stamp is None or pd.isna(stamp):
        return tables.NOTHING
    return tables.instant(pd.Timestamp(stamp).tz_convert(zone))
