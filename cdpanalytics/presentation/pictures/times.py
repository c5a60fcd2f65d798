"""Pictures on an axis of time: VMs in breach of the whole fleet, and the gaps of the worst VMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cdpanalytics.presentation import formatting, happenings
from cdpanalytics.presentation.analysis import Analysis, names_in, rows_by_vm
from cdpanalytics.presentation.drawing import Drawing, Scale, empty, highest, seconds
from cdpanalytics.presentation.plain import is_missing
from cdpanalytics.schema import KEYS, VM

_NUMBERED = 9
_LEAST_SHARE = 0.01
_ROWS = 15
_ROW = 24
_ALONE_SHOWN = 60
"""Incidents of single VMs that can be asked in the strip; the others are drawn."""
_TOLD = ["incident", "vms", "start", "end", "longest", "cause", "explains"]
_THINNEST = 0.35
"""Pixels below which a gap that is not in breach is left to the table."""


def fleet(analysis: Analysis, width: float = 960) -> Drawing:
    """Draw how many VMs were in breach at each instant, with the incidents numbered."""
    dated = analysis.in_breach[analysis.in_breach["breached_from"].notna()]
    if dated.empty or analysis.start is None or analysis.stop is None:
        return empty("No VM missed its RPO, so there is no incident", width)
    drawing = Drawing(
        width, 168, happenings.finding(analysis.incidents),
        f"VMs in breach over time ({analysis.selection.tz}). Strong: in an incident of several VMs, numbered; "
        "pale: by themselves. Weekends are shaded.",
    )  # fmt: skip
    time = Scale(seconds(analysis.start), seconds(analysis.stop), 44, width - 10)
    shared = analysis.incidents.loc[analysis.incidents["vms"] > 1, "incident"]
    edges, many, every = _counts(dated, dated["incident"].isin(shared), time)
    top, bottom, most = 34, 136, max(int(every.max()), 1)
    drawing.time_axis(time, top - 12, bottom, analysis.selection.tz)
    height = Scale(0, most, bottom, top)
    step = max(-(-most // 3), 1)
    ticks = [(float(height(n)), f"{n:,}") for n in range(0, most + 1, step)]
    drawing.value_axis(ticks, time.left, time.right)
    drawing.text(time.left - 6, 14, "VMs", "end")
    for counts, kind in ((every, "alone"), (many, "many")):
        if counts.any():
            drawing.path(*_area(time(edges), height(counts), bottom), closed=True, kind=kind)
    drawing.brush(time, top - 12, bottom)
    _incidents(drawing, analysis, time, top, bottom)
    return drawing


def _counts(
    breaches: pd.DataFrame, together: pd.Series, time: Scale
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixel columns' edges, and the most VMs in breach in each: of many, and in all.

    Counts change only where a breach begins or ends.
    """
    begun, over = (
        np.clip(seconds(breaches[name]), time.low, time.high)
        for name in ("breached_from", "breached_until")
    )
    edges = np.unique(np.concatenate([[time.low, time.high], begun, over]))
    columns = np.linspace(time.low, time.high, int(time.right - time.left) + 1)
    counts = []
    for rows in (together.to_numpy(dtype=bool), np.ones(len(breaches), dtype=bool)):
        first, last = np.sort(begun[rows]), np.sort(over[rows])
        at = np.searchsorted(first, edges, "right") - np.searchsorted(last, edges, "right")
        counts.append(highest(edges, at, columns))
    return columns, counts[0], counts[1]


def _area(xs: np.ndarray, ys: np.ndarray, bottom: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the outline of a step function down to a line, only at the points where it steps."""
    xs, ys = np.repeat(xs, 2)[1:], np.repeat(ys, 2)[:-1]
    turns = np.ones(len(ys), dtype=bool)
    turns[1:-1] = (ys[1:-1] != ys[:-2]) | (ys[1:-1] != ys[2:])
    xs, ys = xs[turns], ys[turns]
    return np.concatenate([xs[:1], xs, xs[-1:]]), np.concatenate([[bottom], ys, [bottom]])


def _incidents(
    drawing: Drawing, analysis: Analysis, time: Scale, top: float, bottom: float
) -> None:
    """Add what can be asked: each incident says when, what and whose it was; those of many have numbers."""
    table = analysis.incidents[_TOLD]
    together = table["vms"] > 1
    many, alone = table[together], table[~together].head(_ALONE_SHOWN)
    whose = analysis.in_breach.loc[analysis.in_breach["incident"].isin(alone["incident"])]
    names = dict(zip(whose["incident"], whose["vm"].astype("str"), strict=True))
    asked = pd.concat([many, alone]).sort_values("vms")
    edges = time(seconds(asked["start"])).tolist(), time(seconds(asked["end"])).tolist()
    for row, left, right in zip(asked.to_dict("records"), *edges, strict=True):
        drawing.rect(left - 1.5, top - 12, max(right - left, 1) + 3, bottom - top + 12, kind="hit",
                     tip=told(row, names, analysis.selection.tz), data_act={"incident": row["incident"]})  # fmt: skip
    numbered = many[many["explains"] >= _LEAST_SHARE].head(_NUMBERED).sort_values("start")
    last = -np.inf
    for row in numbered.to_dict("records"):
        x = float(time(seconds(row["start"])))
        place = min(max(x, last + 20, time.left + 8), time.right - 8)
        last = place
        drawing.line(x, top - 12, place, top - 15, kind="axis")
        drawing.text(place, top - 18, str(row["incident"]), "middle", kind="strong")


def told(row: Mapping[Any, Any], names: Mapping[Any, str], tz: str) -> str:
    """Return an incident as one line: VM, time, length, cause."""
    who = names.get(row["incident"], "") if row["vms"] == 1 else f"{row['vms']:,} VMs"
    when = formatting.between(row["start"], row["end"], tz)
    return (
        f"Incident {row['incident']} · {who} · {when} · longest {formatting.duration(row['longest'])} · "
        f"{_cause_of(row)}"
    )


def timeline(analysis: Analysis, width: float = 960) -> Drawing:
    """Draw when the VMs with most exposure were not covered; each gap says time, length and cause."""
    start, stop = analysis.start, analysis.stop
    vms = _vms(analysis)
    if vms.empty or start is None or stop is None:
        return empty("No gaps: each VM was covered from its first session on", width)
    room = min(170.0, width / 4)
    drawing = Drawing(
        width, 40 + _ROW * len(vms), _longest(analysis),
        f"VMs {'by incident' if analysis.order == 'incident' else 'in order of the time they were not covered'} "
        f"({analysis.selection.tz}). Pale: covered, strong: in breach, in between: a gap within the RPO, arrow: "
        "still open, blank: not known.",
    )  # fmt: skip
    time = Scale(seconds(start), seconds(stop), room + 8, width - 16)
    bottom = 8 + _ROW * len(vms)
    drawing.time_axis(time, 4, bottom, analysis.selection.tz)
    rows_shown = vms.to_dict("records")
    names = {names_in(row)[1] for row in rows_shown}
    sessions = rows_by_vm(analysis.selection._rows((*VM, "created")), names)
    gaps = rows_by_vm(analysis.gaps, names)
    pieces = [(place, row, gaps.get(names_in(row))) for place, row in enumerate(rows_shown)]
    for place, row, _ in pieces:
        y = 8 + _ROW * place
        own = sessions.get(names_in(row))
        begun = start if own is None else own["created"].min()
        left = float(time(seconds(max(begun, start))))
        drawing.name(room, y + 15, str(row["vm"]), room)
        drawing.rect(left, y + 4, time.right - left, _ROW - 8, kind="covered")
    drawing.brush(time, 4, bottom)
    for place, _, rows in pieces:
        if rows is not None:
            _gaps(drawing, rows, time, 8 + _ROW * place, analysis.selection.tz)
    _holes(drawing, analysis, time, bottom)
    return drawing


def _vms(analysis: Analysis) -> pd.DataFrame:
    """Return the VMs to draw: by incident, or those with most exposure, the one of the longest gap among them."""
    if analysis.order == "incident":
        return happenings.vms_in_order(analysis, _ROWS)[VM]
    return pd.DataFrame(happenings.most_exposed(analysis.gaps, _ROWS), columns=VM)


def _longest(analysis: Analysis) -> str:
    longest = analysis.gaps.nlargest(1, "exposure").iloc[0]
    return (
        f"The longest single gap was {formatting.duration(longest['exposure'])}, of {longest['vm']}"
    )


def _gaps(drawing: Drawing, rows: pd.DataFrame, time: Scale, y: float, tz: str) -> None:
    lefts, rights = time(seconds(rows["start"])), time(seconds(rows["end"]))
    is_late = (rows["breached"] > pd.Timedelta(0)).to_numpy(dtype=bool)
    seen = is_late | (rights - lefts >= _THINNEST)
    drawn = zip(
        lefts[seen], rights[seen], is_late[seen], rows[seen].to_dict("records"), strict=True
    )
    for left, right, late, row in drawn:
        drawing.rect(left, y + 4, max(right - left, 1.6), _ROW - 8, kind="late" if late else "gap",
                     tip=gap_words(row, tz), data_act=pick_vm(row, row["start"], row["end"]))  # fmt: skip
        if row["open"]:
            x = time.right
            drawing.path([x, x + 9, x], [y + 4, y + 12, y + 20], closed=True, kind="late")


def _holes(drawing: Drawing, analysis: Analysis, time: Scale, bottom: float) -> None:
    """Blank what was never fetched of every backup server; holes of one are in the table of data quality."""
    holes = analysis.selection.holes
    if "backup_server" in holes:
        holes = holes[holes["backup_server"].isna()]
    for hole in holes.to_dict("records"):
        left, right = time(seconds(hole["start"])), time(seconds(hole["end"]))
        drawing.rect(
            left, 4, right - left, bottom - 4, kind="hole", tip="Never fetched, so not known"
        )


def gap_words(row: Mapping[Any, Any], tz: str) -> str:
    """Return a gap as one line: VM, time, length, cause."""
    length = formatting.duration(row["exposure"])
    return f"{row['vm']} · {formatting.between(row['start'], row['end'], tz)} · {length} · {_cause_of(row)}"


def _cause_of(row: Mapping[Any, Any]) -> str:
    """Return the first line of a cause."""
    cause = row["cause"]
    return "no cause known" if is_missing(cause) else str(cause).splitlines()[0]


def pick_vm(row: Mapping[Any, Any], since: pd.Timestamp, until: pd.Timestamp) -> dict[str, Any]:
    """Return the message that opens the sessions of a row's VM."""
    edges = [edge.isoformat() for edge in (since, until)]
    return {"show": {"picked": ["vm", *names_in(row, KEYS), *edges]}}
