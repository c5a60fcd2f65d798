"""Parts of a page that report and explorer share: cards, heat map, tables, and the macros that write them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cdpanalytics.metrics.sides import FIGURES, Sides
from cdpanalytics.presentation import formatting, happenings
from cdpanalytics.presentation.analysis import (
    ROWS_SHOWN,
    Analysis,
    causes_by_vm,
    heat_map_rows,
    names_in,
    periods_by_vm,
)
from cdpanalytics.presentation.drawing import seconds
from cdpanalytics.presentation.sentences import budget

_HERE = "cdpanalytics.presentation"

_DAY = 86400.0

HEADINGS = {
    "backup_server": "Backup server", "policy": "Policy", "vm": "VM", "rpo": "RPO", "sessions": "Sessions",
    "success": "Success", "warning": "Warning", "failed": "Failed", "unknown": "No verdict",
    "observed": "Observed", "exposed": "Exposed", "breached": "Breached", "gaps": "Gaps",
    "breaches": "Breaches", "worst_gap": "Longest gap", "adherence": "Adherence",
    "adherence_strict": "Strict", "gap_adherence": "Gaps within RPO", "success_rate": "Success rate",
    "start": "Start", "end": "End", "open": "Still open", "exposure": "Length", "cause": "Cause",
    "running": "Running", "mean": "Mean", "median": "Median", "p95": "95th percentile", "max": "Longest",
    "total": "Total", "expected": "Expected", "on_cadence": "On cadence", "periods": "Whole days",
    "size": "Size", "slope": "Slope", "slope_low": "Slope, low", "slope_high": "Slope, high",
    "projected": "Projected", "projected_low": "Projected, low", "projected_high": "Projected, high",
    "growth": "Growth", "source": "Enterprise Manager", "period": "Day", "vms": "VMs", "explains": "Explains",
    "explained": "Up to here", "first": "From", "last": "To", "adherence_before": "Before",
    "change": "Change", "verdict": "Verdict", "finding": "Finding", "share": "Share",
    "consequence": "What becomes of them", "breached_before": "Breached before", "restorable": "Restorable",
    "within": "Within RPO", "restorable_share": "Restorable share", "worst_rpo": "Worst RPO", "p95_rpo": "95 % within",
    "created": "Begun", "ended": "Ended", "state": "State", "result": "Result", "reason": "Reason",
    "since": "Since", "age": "For", "target": "RPO", "last_success": "Last success",
    "last_result": "Last result", "recovery_point": "Could be restored to",
    "recovery_age": "Its age", "adherence_full": "With what is left out",
    "unobserved": "Unknown", "excluded": "Excluded", "retired": "Retired",
    "success_low": "Success rate, low", "success_high": "Success rate, high",
    "incident": "Incident", "incident_share": "Incident's share", "scope": "Scope", "longest": "Longest",
    "recovery": "Median length", "cause_share": "Gaps with that cause", "incidents": "By itself",
    "chance": "Chance", "chronic": "Chronic", "breached_with_others": "Breached with others", "every": "Every",
    "hour": "Hour from", "hour_share": "in that hour", "hour_chance": "by chance", "weekday": "Weekday",
    "weekday_share": "on that day", "weekday_chance": "by chance",
    "policy_result": "Policy's result", "total_size": "Size", "rolling": "7-day mean",
    "unprotected": "Unprotected", "objective": "Objective", "passed": "Objective met", "budget": "Budget",
    "spent": "Spent",
    "remaining": "Remaining", "elapsed": "Elapsed", "burn_rate": "Burn rate", "vms_met": "VMs that met it",
    "all_protected": "All protected", "no_target": "Without RPO", "undecided": "Undecided",
    "within_share": "Within RPO (journal)",
    "owner": "Owner", "file": "File", "line": "Line", "left_out": "Left out", "breached_left_out": "Breached in it",
}  # fmt: skip
GAP = ["start", "end", "exposure", "breached", "cause", "open", "incident"]
"""What a table of gaps says of each, besides whose it is."""

_SEEN_AT_ONCE = 12
_WIDE = 34
"""Characters from which on a text may be broken into lines."""
_OF_SIZES = ("period", "vms", "sessions", "size", "rolling")
"""Columns of `metrics.sizes` besides the keys."""
_TEXTS = {"owner", "file", "backup_server", "policy", "vm", "cause", "source", "start", "end", "open", "period",
          "first", "last", "verdict", "finding", "consequence", "created", "ended", "state", "result", "reason",
          "policy_result", "since", "last_success", "last_result", "recovery_point", "scope", "chronic",
          "hour", "weekday", "left", "right", "better"}  # fmt: skip


@cache
def environment(package: str = _HERE) -> Environment:
    """Return the templates of a package and the shared ones; all text is escaped."""
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in dict.fromkeys((package, _HERE))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    templates.filters["cells"] = _table_cells
    return templates


def _table_cells(row: Sequence[tuple[str, object, str]]) -> Markup:
    """Return the cells of a row, of each its text, what it is sorted by, and its kind.

    A report has some fifty thousand cells; most have nothing to escape, which is quick to see.
    """
    cells = (
        f'<td data-sort="{_escaped(str(sort))}" class="{kind}">{_escaped(text)}</td>'
        for text, sort, kind in row
    )
    return Markup("".join(cells))  # noqa: S704 - texts are escaped, kinds are our own words


def _escaped(text: str) -> str:
    return str(escape(text)) if _TO_ESCAPE(text) else text


_TO_ESCAPE = re.compile("[&<>\"']").search


def source(name: str, package: str = _HERE) -> str:
    """Return one of a package's own files as it is."""
    templates = environment(package)
    return templates.loader.get_source(templates, name)[0]  # type: ignore[union-attr]


def digest(script: str) -> str:
    """Return what a Content-Security-Policy knows a script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def macro(name: str) -> Callable[..., Markup]:
    """Return a macro of `sections.html.j2` as a function."""
    return getattr(environment().get_template("sections.html.j2").module, name)


def summary_cards(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the headline figures: name, value, note, state."""
    whole, missed = analysis.whole, len(analysis.worst)
    finished = int(whole["success"] + whole["warning"] + whole["failed"])
    state, used = budget(analysis.objective)
    answered = not pd.isna(whole["adherence"])
    newest = instant(analysis.stop, analysis.selection.tz)
    low, high = (formatting.share(whole[f"success_{end}"]) for end in ("low", "high"))
    late = analysis.unprotected
    since = "at the end of the period"
    if len(late):
        since = f"longest since {instant(late['since'].iloc[0], analysis.selection.tz)}"
    return [
        {"name": "Adherence", "value": formatting.share(whole["adherence"]),
         "note": _beside(whole), "state": "" if answered else "unknown"},
        {"name": f"Objective {formatting.share(analysis.objective['objective'])}", "value": state.capitalize(),
         "note": used, "state": state},
        {"name": "Unprotected now", "value": f"{len(late):,} of {len(analysis.status):,}",
         "note": since, "state": "missed" if (late["state"] == "breached").any() else ""},
        {"name": "VMs that missed", "value": f"{missed:,} of {len(analysis.vms):,}",
         "note": f"{_count(whole['breaches'])} breaches in {_count(whole['gaps'])} gaps",
         "state": ""},
        {"name": "Longest gap", "value": formatting.duration(whole["worst_gap"]),
         "note": f"{formatting.duration(whole['breached'])} breached in all", "state": ""},
        {"name": "Success rate", "value": formatting.share(whole["success_rate"]),
         "note": f"of {finished:,} sessions; 95 %: {low} to {high}", "state": ""},
        {"name": "As of", "value": newest[:10],
         "note": f"{newest[11:]} {analysis.selection.tz}; nothing later is judged", "state": ""},
    ]  # fmt: skip


def _beside(whole: pd.Series) -> str:
    """What is shown beside adherence: strict, and with what was left out where anything was."""
    strict = f"strict {formatting.share(whole['adherence_strict'])}"
    if not formatting.leaves_out(whole):
        return strict
    return f"{strict}; with what is left out {formatting.share(whole['adherence_full'])}"


def _count(number: int) -> str:
    return formatting.MISSING if pd.isna(number) else f"{number:,}"


def objectives(analysis: Analysis) -> list[dict[str, str]]:
    """Return one row per group: whether its objective was met, and how much of its budget is used."""
    rows = []
    pairs = zip(analysis.groups.iterrows(), analysis.objectives.iterrows(), strict=True)
    for (_, row), (_, objective) in pairs:
        state, used = budget(objective)
        group = formatting.word(analysis.by, row[analysis.by])
        rows.append({"group": group, "rpo": formatting.duration(row["rpo"]), "state": state,
                     "adherence": formatting.share(row["adherence"]),
                     "strict": formatting.share(row["adherence_strict"]), "used": used})  # fmt: skip
    return rows


def heading(by: str) -> dict[str, str]:
    """Return the name of a key as the head of a column, and as it is written in a sentence."""
    return {"head": HEADINGS.get(by, by), "word": by.replace("_", " ") if by in HEADINGS else by}


def heat_map(analysis: Analysis) -> dict[str, Any]:
    """Return the worst VMs by period, each cell with its level, label and title.

    With the order "incident" rows are grouped by the incident that explains most of them.
    """
    by_incident = analysis.order == "incident"
    shown = (
        happenings.vms_in_order(analysis, ROWS_SHOWN) if by_incident else heat_map_rows(analysis)
    )
    table = periods_by_vm(analysis, shown)
    periods = pd.DatetimeIndex(table["period"].unique()).sort_values()
    zoned = list(periods.tz_convert(analysis.selection.tz))
    first = [day.day == 1 for day in zoned]
    length = _DAY if analysis.freq == "D" else 7 * _DAY
    columns = [
        _Column(f"{day:%Y-%m-%d}", period.isoformat(), begins, start, start + length)
        for day, period, begins, start in zip(zoned, periods, first, seconds(periods), strict=True)
    ]
    said = zip(
        table["position"].tolist(), periods.get_indexer(pd.Index(table["period"])).tolist(),
        table["adherence"].tolist(),
        *(formatting.words(name, table[name]) for name in ("breached", "observed")), strict=True,
    )  # fmt: skip
    vms = shown.to_dict("records")
    names = {names_in(vm)[1] for vm in vms}
    gaps = causes_by_vm(analysis.breaches, names)
    rows = [
        {"vm": vm["vm"], "policy": vm["policy"], "server": vm["backup_server"],
         "cells": _cells(vm["vm"], own, gaps.get(names_in(vm), ()), columns),
         "total": formatting.duration(vm["breached"]),
         "group": f"Incident {vm['incident']}" if by_incident else vm["policy"]}
        for vm, (_, own) in zip(vms, groupby(said, itemgetter(0)), strict=True)
    ]  # fmt: skip
    return {"periods": [(f"{day:%d}", f"{day:%Y-%m-%d}") for day in zoned], "freq": analysis.freq,
            "off": [analysis.freq == "D" and day.day_of_week >= 5 for day in zoned],
            "first": first, "months": _months(zoned), "rows": rows}  # fmt: skip


class _Column(NamedTuple):
    """A period of a heat map: its day, its start as text, whether it begins a month, its edges in seconds."""

    label: str
    period: str
    first: bool
    start: float
    stop: float


def _cells(
    vm: object,
    said: Iterable[tuple[int, int, float, str, str]],
    gaps: Sequence[tuple[float, float, str]],
    columns: Sequence[_Column],
) -> Markup:
    """Return a cell per period; one in breach says the cause of the longest gap in it."""
    cells = []
    for _, number, adherence, breached, observed in said:
        day, period, first, start, stop = columns[number]
        level = formatting.severity(adherence)
        text = "not observed" if level is None else f"{breached} of {observed} breached"
        label = "–" if level is None else formatting.percent(adherence) if level else ""
        if level:
            cause = next((why for begun, over, why in gaps if begun < stop and over > start), "")
            text += f" · {cause.splitlines()[0]}" if cause else ""
        kind = ("none" if level is None else f"s{level}") + (" first" if first else "")
        title = _escaped(f"{vm} · {day} · {text}")
        cells.append(
            f'<td class="{kind}" data-start="{period}" title="{title}">{_escaped(label)}</td>'
        )
    return Markup("".join(cells))  # noqa: S704 - texts are escaped


def _months(days: list[pd.Timestamp]) -> list[tuple[str, int]]:
    months: list[tuple[str, int]] = []
    for day in days:
        name = f"{day:%b %Y}"
        if months and months[-1][0] == name:
            months[-1] = (name, months[-1][1] + 1)
        else:
            months.append((name, 1))
    # A name with the year is wider than three days.
    return [(name if count > 3 else name[:3], count) for name, count in months]


class Table:
    """A table to look at in a notebook: words with units, whole texts, no row numbers.

    Sorted by a click on a head, and filtered, where it is exported as ``cdp-html``.

    Parameters
    ----------
    table : pandas.DataFrame
        A metric's, or any other; it keeps its exact values.
    of : str, optional
        As in `formatting.format_table`.
    """

    def __init__(self, table: pd.DataFrame, of: str | None = None) -> None:
        self.table, self.of = table, of

    def __repr__(self) -> str:
        return formatting.text(self.table)

    def _repr_html_(self) -> str:
        text = self.table.to_csv(index=False)
        name = f"table-{zlib.crc32(text.encode()):08x}"  # the same table, the same page
        content = table(
            self.table, name, tools=len(self.table) > _SEEN_AT_ONCE, of=self.of, heads={}
        )
        style = Markup(source("sheet.css"))  # noqa: S704 - our own file
        return Markup("<style>{}</style>{}").format(style, macro("table")(content))


def table(
    table: pd.DataFrame,
    name: str,
    *,
    tools: bool = False,
    of: str | None = None,
    heads: Mapping[str, str] = HEADINGS,
    tz: str = "UTC",
    act: Callable[[dict[Hashable, Any]], object] | None = None,
) -> dict[str, Any]:
    """Return a table with its words, and what to sort them by; heads of times name their zone.

    `of` is as in `formatting.format_table`; `act` returns of a row the message that a click on
    it sends, None where there is none.
    """
    acts = [] if act is None else [act(row) for row in table.to_dict("records")]
    table = formatting.side_by_side(table)
    exact, columns = formatting.records(table), table.columns.tolist()
    kinds = {c: "" if c in _TEXTS or _is_text(table[c]) else "number" for c in columns}
    shown = formatting.format_table(formatting.zoned(table, tz), of)
    named = [
        {"name": formatting.zoned_head(heads.get(c, c), table[c], tz), "number": bool(kinds[c])}
        for c in columns
    ]
    rows = [
        [(text, "" if row[c] is None else row[c], kinds[c] or ("wrap" if len(text) > _WIDE else "text"))
         for c, text in zip(columns, line, strict=True)]
        for row, line in zip(exact, shown.to_numpy().tolist(), strict=True)
    ]  # fmt: skip
    return {"id": name, "heads": named, "rows": rows, "tools": tools, "acts": acts}


def _is_text(column: pd.Series) -> bool:
    """Return whether a column holds text, as tags do: their names are the customer's."""
    return isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column)


def side_table(compared: pd.DataFrame, name: str, sides: Sides) -> dict[str, Any]:
    """Return a table of two sides, whose heads name the side of each figure."""
    heads = {**HEADINGS, "difference": "Difference", "better": "Better"}
    for figure in FIGURES:
        for side, label in (("left", sides.left), ("right", sides.right)):
            heads[f"{figure}_{side}"] = f"{HEADINGS[figure]}, {label}"
    counts = {
        f"vms_{side}": "Int64" for side in ("left", "right")
    }  # missing where a group is on one side
    return table(compared.drop(columns=["left", "right"]).astype(counts), name, heads=heads)


def by_day(sizes: pd.DataFrame, name: str, tz: str = "UTC") -> dict[str, Any]:
    """Return sizes with one row per day and one column per group."""
    key = next(str(name) for name in sizes if name not in _OF_SIZES)
    named = sizes.assign(**{key: sizes[key].astype("str").fillna(formatting.MISSING)})
    wide = named.pivot(index="period", columns=key, values="size").reset_index()
    made = table(wide, name, of="size", tz=tz)
    made["rows"] = [[(day[:10], *rest), *cells] for (day, *rest), *cells in made["rows"]]
    return made


def instant(stamp: pd.Timestamp | None, zone: str) -> str:
    """Return an instant to the minute on the wall of a zone."""
    if stamp is None or pd.isna(stamp):
        return formatting.MISSING
    return formatting.instant(pd.Timestamp(stamp).tz_convert(zone))
