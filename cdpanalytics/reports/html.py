"""Write the answer to a question as one HTML file that opens offline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd
from markupsafe import Markup

from cdpanalytics.metrics.registry import metric_columns
from cdpanalytics.periods import Period
from cdpanalytics.presentation import formatting, happenings, palette, pictures, sentences
from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation import output as destination
from cdpanalytics.presentation.analysis import ROWS_SHOWN, Analysis
from cdpanalytics.reports.command import command
from cdpanalytics.reports.facts import facts
from cdpanalytics.schema import KEYS

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

_GAPS_SHOWN = 15
_INCIDENTS_SHOWN = 30
_BREACHES_SHOWN = 1000
_VMS_SHOWN = 15
_CAUSES_SHOWN = 10
_CHANGES_SHOWN = 10
_ON_ONE_PAGE = {"status": 5, "objectives": 6, "chronic": 2, "worst": 5}
"""Rows of the summary, so that it is one page whatever the size of the estate."""

_WORST_ON_ONE_PAGE = ["vm", "policy", "backup_server", "breached", "explains", "worst_gap",
                      "adherence", "incident"]  # fmt: skip
_PACKAGE = "cdpanalytics.reports"
_ADHERENCE = ["rpo", "observed", "breached", "gaps", "breaches", "worst_gap", "adherence", "adherence_strict",
              "sessions", "failed", "success_rate"]  # fmt: skip
"""The columns that fit on a page; the exact numbers of all columns are in the page as JSON."""
_LEFT_OUT = ["excluded", "retired", "adherence_full"]
"""What is shown beside adherence where anything was left out."""
_STATUS = ["state", "since", "age", "target", "last_success", "last_result", "reason"]
_RESTORE = ["recovery_point", "recovery_age"]
"""What is shown beside the status where the journal has it of one of these VMs."""
_GAP = [*KEYS, *parts.GAP]
_WHAT_IF = ["rpo", "breaches", "breached", "adherence"]
_CHANGE = ["adherence_before", "adherence", "change", "breached_before", "breached", "verdict"]


def report(
    selection: Selection,
    output: str | os.PathLike[str],
    *,
    title: str | None = None,
    generated: pd.Timestamp | None = None,
    summary: bool = False,
    order: str = "breached",
    sides: str | Sequence[str] | None = None,
    by: str = "policy",
    prepared_for: Sequence[str] = (),
    json: str | os.PathLike[str] | None = None,
) -> Path:
    """Write an HTML report of a Selection: one file that requests nothing.

    Parameters
    ----------
    selection : Selection
        The question.
    output : path-like
        The file; its folder must exist. It is written whole or not at all; a symbolic link
        is followed, a pipe or device is written to, and ``-`` is standard output.
    title : str, optional
    generated : timestamp, optional
        The time at which the report says it was made. Default: it says none, so that the
        same data gives the same bytes; it always says as of when the data is.
    summary : bool
        One page without scripts and pictures, fit to be the body of a mail: the answer, the
        headline figures, the objectives, the worst VMs and the provenance.
    order : {"breached", "incident"}
        Order of the VMs in heat map and timeline: most breached time first, or by the
        incident that explains most of it.
    sides : str or triple, optional
        Two groups to put side by side, as `Selection.compare` takes them.
    by : str
        What makes the groups of the sections on objectives, adherence, durations, sizes and
        changes: `policy`, `backup_server` or a tag such as ``"department"``.
    prepared_for : sequence of str
        Names of those who approve it, each with room for date and signature.
    json : path-like, optional
        A file for what the report says as plain values: `facts.facts`, which the page has too.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError, ArchiveError
        When the question cannot be answered, or the file cannot be written.

    See Also
    --------
    cdpanalytics.metrics.rpo_adherence : the definitions of its numbers.
    """
    destination.check(output)
    if json is not None:
        destination.check(json)
    analysis = Analysis(
        selection.pinned(metric_columns(), with_before=True), order, sides=sides, by=by
    )
    said = None if summary and json is None else facts(analysis)
    page = render(
        analysis,
        title or "Were we protected?",
        generated,
        selection.dated_period(),
        None if summary else said,
        prepared_for=prepared_for,
    )
    destination.write_text(output, page)
    if json is not None:
        destination.write_text(
            json, dumps(said, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        )
    return Path(output)


def render(
    analysis: Analysis,
    title: str,
    generated: pd.Timestamp | None,
    dated: Period | None,
    said: dict[str, Any] | None,
    prepared_for: Sequence[str] = (),
) -> str:
    """Return the report as HTML: with what it says as plain values, or as its summary without them."""
    script = "".join(map(parts.source, ("tables.js", "pictures.js"))) + parts.source(
        "report.js", _PACKAGE
    )
    selection, zone = analysis.selection, analysis.selection.tz
    table = partial(parts.table, tz=zone)
    template = parts.environment(_PACKAGE).get_template("report.html.j2")
    rows: dict[str, Any] = {
        "status": _not_protected(analysis).head(_VMS_SHOWN), "objectives": parts.objectives(analysis),
        "chronic": happenings.chronic(analysis), "worst": happenings.by_incident(analysis).head(_VMS_SHOWN),
    }  # fmt: skip
    left = dict.fromkeys(rows, 0)
    compared: dict[str, Any] = {}
    if said is None:
        rows, left = _on_one_page(analysis, rows)
    else:
        compared = {
            key: _changes(analysis, by) for key, by in (("group", [analysis.by]), ("vm", KEYS))
        }
    return template.render(
        title=title,
        summary=said is None,
        left=left,
        style=Markup(_style()),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704 - our own file
        digest=parts.digest(script),
        provenance=selection.provenance(),
        dated=dated,
        verdict=sentences.verdict(analysis),
        now=sentences.now(analysis),
        advice=sentences.advice(analysis),
        notes=sentences.notes(analysis),
        zone=zone,
        start=parts.instant(analysis.start, zone),
        stop=parts.instant(analysis.stop, zone),
        filters=selection.filters(),
        cards=parts.summary_cards(analysis),
        group=parts.heading(analysis.by),
        objectives=rows["objectives"],
        sentences=happenings.sentences(analysis),
        remainder=happenings.remainder(analysis),
        chronic=rows["chronic"],
        change=sentences.change(analysis),
        versions=_versions(),
        terms=sentences.terms(analysis),
        command=command(selection),
        provisional=dated is not None and dated.provisional(selection.as_of),
        changed=any(compared.values()),
        generated=None if generated is None else parts.instant(generated, zone),
        prepared_for=prepared_for,
        paper=Markup(_page_heads(title, analysis)),  # noqa: S704 - escaped for a style sheet
        status=table(rows["status"], "status"),
        incidents=table(analysis.incidents.head(_INCIDENTS_SHOWN), "incidents"),
        worst=table(rows["worst"], "worst"),
        compared=compared,
        **({} if said is None else _details(analysis, said)),
    )


_STATES = ("missed", "unknown", "met")


def _on_one_page(
    analysis: Analysis, whole: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the first rows of each table of the summary, the worst first, and how many are left."""
    adherence = analysis.groups["adherence"].fillna(0).tolist()
    ranked = sorted(
        zip(whole["objectives"], adherence, strict=True),
        key=lambda pair: (_STATES.index(pair[0]["state"]), pair[1]),
    )
    rows: dict[str, Any] = {
        **whole, "status": _not_protected(analysis), "objectives": [row for row, _ in ranked],
        "worst": whole["worst"][_WORST_ON_ONE_PAGE],
    }  # fmt: skip
    left = {name: max(0, len(rows[name]) - most) for name, most in _ON_ONE_PAGE.items()}
    return {name: rows[name][:most] for name, most in _ON_ONE_PAGE.items()}, left


def _page_heads(title: str, analysis: Analysis) -> str:
    """Return what is above each page on paper, with nothing that could end the style sheet."""
    zone = analysis.selection.tz
    period = (
        f"{parts.instant(analysis.start, zone)} to {parts.instant(analysis.stop, zone)} ({zone})"
    )
    words = "".join(
        c if c.isalnum() or c in " .,:;-()?/" else f"\\{ord(c):x} "
        for c in formatting.printable(f"{title} · {period}")
    )
    return f'@page {{ @top-left {{ content: "{words}"; font-size: 9px; color: #57606a; }} }}'


def _style() -> str:
    """Rules of the page: light, dark where the reader's screen is, and light again on paper."""
    light, dark = palette.variables(palette.LIGHT), palette.variables(palette.DARK)
    return "".join((
        f":root {{ {light} }} @media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n",
        parts.source("sections.css"), parts.source("pictures.css"), parts.source("report.css", _PACKAGE),
    ))  # fmt: skip


def _details(analysis: Analysis, said: dict[str, Any]) -> dict[str, Any]:
    """Return what only the whole report shows."""
    selection = analysis.selection
    return {
        "unmatched": selection.findings(),
        "heat_map": parts.heat_map(analysis),
        "order": analysis.order,
        "incident_count": len(analysis.incidents),
        "more": max(0, len(analysis.worst) - ROWS_SHOWN),
        "within": len(analysis.vms) - len(analysis.worst),
        "pictures": _pictures(analysis),
        "sides": _sides(analysis),
        "left_out": sentences.left_out(analysis),
        "breaches_left_out": max(0, len(analysis.breaches) - _BREACHES_SHOWN),
        "breach_count": len(analysis.breaches),
        "never_seen": analysis.never_seen[KEYS].astype("str").to_numpy().tolist(),
        "data": _embedded(said["vms"]),
        "facts": _embedded(said),
        **_tables(analysis),
    }


def _tables(analysis: Analysis) -> dict[str, Any]:
    beside = _LEFT_OUT if formatting.leaves_out(analysis.whole) else []
    vms = analysis.vms[[*KEYS, *_ADHERENCE, *beside]]
    groups = analysis.groups[[analysis.by, "exposed", *_ADHERENCE, *beside]]
    journal = analysis.journal
    table = partial(parts.table, tz=analysis.selection.tz)
    return {
        "gaps": table(analysis.breaches.head(_GAPS_SHOWN)[_GAP], "gaps"),
        "breaches": table(analysis.breaches.head(_BREACHES_SHOWN)[_GAP], "breaches", tools=True),
        "causes": table(analysis.causes.head(_CAUSES_SHOWN), "causes"),
        "offenders": table(analysis.offenders, "offenders"),
        "what_if": table(analysis.what_if[_WHAT_IF], "what-if"),
        "journal": table(journal.head(_VMS_SHOWN), "journal") if len(journal) else None,
        "vms": table(vms, "vms", tools=True),
        "groups": table(groups, "groups"),
        "durations": table(analysis.durations, "durations"),
        "trends": table(analysis.trends, "trends"),
        "sizes": parts.by_day(analysis.sizes, "sizes", tz=analysis.selection.tz),
        "holes": table(analysis.selection.holes.fillna({"backup_server": "all"}), "holes"),
        "quality": table(_without_code(analysis.quality), "quality-found"),
        "exclusions": table(analysis.exclusions, "exclusions"),
    }  # fmt: skip


def _without_code(quality: pd.DataFrame) -> pd.DataFrame:
    """Return the findings without names of columns."""
    return quality.assign(
        **{name: quality[name].str.replace("as_of", "as of") for name in ("finding", "consequence")}
    )


def _not_protected(analysis: Analysis) -> pd.DataFrame:
    table = sentences.not_protected(analysis)
    restore = _RESTORE if table["recovery_point"].notna().any() else []
    return table[[*KEYS, *_STATUS, *restore]]


def _pictures(analysis: Analysis) -> dict[str, Markup]:
    drawn = {
        name: getattr(pictures, name)(analysis)
        for name in ("fleet", "timeline", "exposure", "durations", "sizes")
    }
    return {name: picture.figure() for name, picture in drawn.items()}


def _changes(analysis: Analysis, by: list[str]) -> dict[str, Any] | None:
    """Return the groups that changed since the period before; None where there are none."""
    if not analysis.comparable:
        return None
    compared = analysis.compared(by)
    changed = compared[~compared["verdict"].isin(["same", "unknown"])].head(_CHANGES_SHOWN)
    return parts.table(changed[[*by, *_CHANGE]], f"change-{by[-1]}") if len(changed) else None


def _sides(analysis: Analysis) -> dict[str, Any] | None:
    """Return the two sides as a picture and tables; None where none are asked for."""
    if analysis.sides is None:
        return None
    detail = analysis.side_by_side([analysis.side_key])
    return {
        "left": analysis.sides.left,
        "right": analysis.sides.right,
        "picture": pictures.sides(analysis).figure(),
        "whole": parts.side_table(analysis.side_by_side([]), "sides-whole", analysis.sides),
        "detail": parts.side_table(detail, "sides-detail", analysis.sides),
    }


def _embedded(value: object) -> Markup:
    """Exact numbers as JSON that no name can break out of."""
    text = msgspec.json.encode(value).decode()
    for character, code in (("<", r"\u003c"), (">", r"\u003e"), ("&", r"\u0026")):
        text = text.replace(character, code)
    return Markup(text)  # noqa: S704 - what could end the element is escaped above


def _versions() -> str:
    names = []
    for name in ("cdpanalytics", "pandas", "numpy", "pyarrow", "matplotlib"):
        try:
            names.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            names.append(f"{name} (not installed)")
    return ", ".join(names)
