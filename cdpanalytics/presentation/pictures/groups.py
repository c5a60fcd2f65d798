"""Pictures of groups: lengths of gaps, durations, sizes, and two sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cdpanalytics.presentation import formatting
from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.presentation.drawing import Drawing, Scale, empty, fitted, seconds
from cdpanalytics.presentation.pictures.times import gap_words, pick_vm

_LENGTHS = ((1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (21600, "6 h"),
            (86400, "1 d"), (604800, "7 d"), (2592000, "30 d"))  # fmt: skip
_ASKABLE = 25
_TARGETS = 8
_PANELS = 12
_BINS = 48
_HIT = 3
"""Pixels of a size's curve that can be asked by one mark: of a year there are more days than pixels."""

_GROUPS = 14


def exposure(analysis: Analysis, width: float = 960) -> Drawing:
    """Draw how many gaps lasted at least how long; labels of the RPOs lie above the curve."""
    gaps = analysis.gaps
    lengths = np.sort(gaps["exposure"].dt.total_seconds().to_numpy())
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return empty("No gaps: each VM was covered from its first session on", width)
    goals = _goals(analysis)
    drawing = Drawing(
        width, 320, _late(analysis),
        "How many gaps lasted at least as long as the length below; both axes are logarithmic. Dashed: RPOs. "
        "Points: the longest gaps.",
    )  # fmt: skip
    low, high = min(1.0, lengths[0]), max(lengths[-1] * 1.3, 60.0, *(2 * g for g in goals))
    across = Scale(max(low, 0.1), high, 56, width - 16, log=True)
    up = Scale(1, max(len(lengths), 10), 276, 62, log=True)
    for at, label in _LENGTHS:
        if across.low <= at <= across.high:
            x = float(across(at))
            drawing.line(x, 56, x, 276, kind="grid")
            drawing.text(x, 294, label, "middle")
    drawing.text((across.left + across.right) / 2, 314, "length of the gap", "middle")
    decades = [10**n for n in range(7) if 10**n <= up.high]
    drawing.value_axis([(float(up(n)), f"{n:,}") for n in decades], across.left, across.right)
    drawing.text(across.left - 6, 48, "gaps", "end")
    left = np.arange(len(lengths), 0, -1)
    xs, ys = _thinned(across(lengths), up(left))
    drawing.path([across.left, *xs], [up(len(lengths)), *ys], kind="curve")
    _draw_goals(drawing, goals, across)
    for rank, row in enumerate(gaps.nlargest(_ASKABLE, "exposure").to_dict("records"), 1):
        x, y = across(row["exposure"].total_seconds()), up(rank)
        drawing.add("circle", cx=x, cy=y, r=4, kind="late" if row["breached"] > pd.Timedelta(0) else "gap",
                    tip=gap_words(row, analysis.selection.tz),
                    data_act=pick_vm(row, row["start"], row["end"]))  # fmt: skip
    return drawing


def _thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep one point per half a pixel across; a curve that only falls loses nothing that can be seen."""
    kept = np.unique(np.searchsorted(np.round(xs * 2), np.unique(np.round(xs * 2)), "right") - 1)
    return xs[kept], ys[kept]


def _goals(analysis: Analysis) -> list[float]:
    """Return the RPOs that matter, in seconds."""
    goals = analysis.groups["rpo"].dropna().dt.total_seconds().unique()
    return sorted(float(goal) for goal in goals if goal > 0)[:_TARGETS]


def _draw_goals(drawing: Drawing, goals: Sequence[float], across: Scale) -> None:
    """Add dashed lines, and their labels in two rows above so that none covers another."""
    ends = [-np.inf, -np.inf]
    for goal in goals:
        x = float(across(goal))
        drawing.line(x, 40, x, 276, kind="goal")
        label = formatting.duration(pd.Timedelta(goal, "s"))
        row = 0 if ends[0] < x - 26 else 1
        ends[row] = x + 26
        drawing.text(x, 34 - 16 * row, label, "middle", kind="missed")


def _late(analysis: Analysis) -> str:
    gaps, late = analysis.gaps, len(analysis.breaches)
    if not late:
        return f"None of {len(gaps):,} gaps lasted longer than its RPO"
    return f"{late:,} of {len(gaps):,} gaps lasted longer than their RPO"


def durations(analysis: Analysis, width: float = 960) -> Drawing:
    """Draw how finished sessions' durations are distributed, beside the cadence that is expected."""
    table = _by_group(analysis.durations, analysis).dropna(subset=["median"])
    if table.empty:
        return empty("No session has finished: no durations to show", width)
    table = table.nlargest(_GROUPS, "sessions").sort_index()
    hours = _finished(analysis)
    room = min(150.0, width / 4)
    longest = max(
        float(table["p95"].dt.total_seconds().max()),
        float(table["expected"].dt.total_seconds().max()),
    )
    limit = 1.25 * longest / 3600
    across = Scale(0, limit, room + 12, width - 20)
    drawing = Drawing(
        width, 44 + 58 * len(table), _cadence(table),
        "Finished sessions by duration. Dashed: the cadence expected; a bar left of it is of sessions that ended "
        "early. Duration is not replication lag.",
    )  # fmt: skip
    bottom = 8 + 58 * len(table)
    step = next((s for s in (1, 2, 4, 6, 12, 24, 48, 168) if limit / s <= 12), 336)
    for hour in range(0, int(limit) + 1, step):
        x = float(across(hour))
        drawing.line(x, 8, x, bottom + 4, kind="grid")
        drawing.text(x, bottom + 18, f"{hour} h", "middle")
    bins = np.linspace(0, limit, _BINS + 1)
    for place, row in enumerate(table.to_dict("records")):
        base = 8 + 58 * (place + 1) - 8
        values = hours.get(str(row["group"]), np.zeros(0))
        counts, _ = np.histogram(np.minimum(values, limit), bins)
        _bars(
            drawing, counts, bins, across, base, str(row["group"]), _narrow(analysis, row["group"])
        )
        drawing.line(across.left, base, across.right, base, kind="axis")
        drawing.name(room, base - 14, str(row["group"]), room)
        drawing.text(room, base + 1, f"{row['sessions']:,} sessions", "end")
        if not pd.isna(row["expected"]):
            x = float(across(row["expected"].total_seconds() / 3600))
            drawing.line(x, base - 44, x, base, kind="goal")
    return drawing


def _narrow(analysis: Analysis, name: Any) -> dict[str, Any] | None:
    """Return the message that narrows the question to a group; None where groups are not policies."""
    return {"toggle": ["policy", str(name), True]} if analysis.by == "policy" else None


def _by_group(table: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """Return a table whose column of groups, a policy or a tag, is named `group`."""
    return table.rename(columns={analysis.by: "group"})


def _finished(analysis: Analysis) -> dict[str, np.ndarray]:
    """Return the hours that each group's finished sessions lasted."""
    sessions = analysis.selection.sessions
    done = sessions[sessions["ended"].notna()]
    if "state" in done:
        done = done[done["state"].eq("Completed")]
    done = done.assign(**{name: None for name in [analysis.by] if name not in done})
    hours = (done["ended"] - done["created"]).dt.total_seconds() / 3600
    return {
        str(name): rows.to_numpy() for name, rows in hours.groupby(done[analysis.by].astype("str"))
    }


def _bars(
    drawing: Drawing, counts: np.ndarray, bins: np.ndarray, across: Scale, base: float, name: str,
    act: dict[str, Any] | None,
) -> None:  # fmt: skip
    most = max(int(counts.max()), 1)
    for count, low, high in zip(counts, bins[:-1], bins[1:], strict=True):
        if count:
            height = 40 * float(np.sqrt(count / most))  # so that the few that end early are seen
            first, last = (
                formatting.duration(pd.Timedelta(round(h * 60), "min")) for h in (low, high)
            )
            drawing.rect(float(across(low)) + 0.5, base - height, float(across(high) - across(low)) - 1, height,
                         kind="bar", tip=f"{name} · {count:,} sessions of {first} to {last}", data_act=act)  # fmt: skip


def _cadence(table: pd.DataFrame) -> str:
    compared = table.dropna(subset=["on_cadence"])
    if compared.empty:
        longest = table.nlargest(1, "median").iloc[0]
        return f"Sessions of {longest['group']} last longest: median {formatting.duration(longest['median'])}"
    worst = compared.nsmallest(1, "on_cadence").iloc[0]
    kept = formatting.share(worst["on_cadence"])
    return f"{worst['group']} is furthest from its cadence: {kept} of sessions keep it"


def sizes(analysis: Analysis, width: float = 960) -> Drawing:
    """Draw each group's size on axes of its own, with the projection and its band."""
    table = _by_group(analysis.sizes, analysis).dropna(subset=["size"])
    trends = _by_group(analysis.trends, analysis)
    if table.empty:
        return empty("No session with a size has ended", width)
    order = (
        table.groupby("group", observed=True)["size"].last().astype(float).nlargest(_PANELS).index
    )
    columns = max(1, min(int(width // 280), len(order)))
    wide = width / columns
    ahead = trends.set_index("group")
    drawing = Drawing(
        width, 172 * -(-len(order) // columns), _growth(trends),
        "Sizes of the VMs protected, one picture per group, each on its own axis. Dashed: the trend 30 days ahead, "
        "with the band of its 95 % interval.",
    )  # fmt: skip
    for place, name in enumerate(order):
        x, y = wide * (place % columns), 172 * (place // columns)
        rows = table[table["group"] == name]
        trend = ahead.loc[name] if name in ahead.index else None
        _panel(drawing, (x, y, wide), rows, trend, analysis.selection.tz, _narrow(analysis, name))
    return drawing


def _panel(
    drawing: Drawing,
    box: tuple[float, float, float],
    rows: pd.DataFrame,
    trend: pd.Series | None,
    tz: str,
    act: dict[str, Any] | None,
) -> None:
    x, y, wide = box
    when, size = seconds(rows["period"]), rows["size"].astype(float).to_numpy()
    ahead = when[-1] + 30 * 86400
    ends: list[float] = []
    if trend is not None and not pd.isna(trend["projected"]):
        ends = [float(trend[n]) for n in ("projected", "projected_low", "projected_high")]
        ends = [ends[0] if pd.isna(end) else end for end in ends]
    projected = bool(ends)
    low, high = min([*size, *ends]), max([*size, *ends])
    pad = max((high - low) * 0.15, high * 0.01, 1.0)
    time = Scale(
        when[0], ahead if projected else max(when[-1], when[0] + 86400), x + 14, x + wide - 22
    )
    up = Scale(low - pad, high + pad, y + 132, y + 46)
    drawing.text(x + 14, y + 18, fitted(str(rows["group"].iloc[0]), wide / 2), kind="strong")
    now = formatting.size(float(size[-1]))
    drawing.text(
        x + 14, y + 35, f"{now}, in 30 days {formatting.size(ends[0])}" if projected else now
    )
    drawing.line(time.left, y + 132, time.right, y + 132, kind="axis")
    if projected:
        xs = [time(when[-1]), time(ahead), time(ahead)]
        drawing.path(xs, up([size[-1], ends[1], ends[2]]), closed=True, kind="band")
        drawing.path(xs[:2], up([size[-1], ends[0]]), kind="ahead")
    drawing.path(time(when), up(size), kind="curve")
    first, last = (pd.Timestamp(s, unit="s", tz="UTC").tz_convert(tz) for s in (when[0], when[-1]))
    drawing.text(time.left, y + 150, f"{first.day} {first:%b}")
    drawing.text(
        float(time(when[-1])), y + 150, f"{last.day} {last:%b}", "middle" if projected else "end"
    )
    places, stamps = time(when), rows["period"].dt.tz_convert(tz)
    apart = np.flatnonzero(np.diff(places // _HIT, append=-1))
    for left, value, stamp in zip(places[apart], size[apart], stamps.iloc[apart], strict=True):
        drawing.rect(left - 3, y + 44, 6, 88, kind="hit",
                     tip=f"{rows['group'].iloc[0]} · {stamp:%Y-%m-%d} · {formatting.size(float(value))}",
                     data_act=act)  # fmt: skip


def _growth(trends: pd.DataFrame) -> str:
    fitted = trends.dropna(subset=["slope"])
    if fitted.empty:
        return "Too few days for a trend"
    fastest = fitted.iloc[int(fitted["slope"].astype(float).argmax())]
    sure = float(fastest["slope_low"]) > 0 if not pd.isna(fastest["slope_low"]) else False
    if not sure:
        return "No policy's growth is certain: each interval of a trend includes zero"
    return f"{fastest['group']} grows fastest: {formatting.size(fastest['slope'])} per day"


def sides(analysis: Analysis, width: float = 960) -> Drawing:
    """Draw adherence of two sides by group, largest difference first."""
    table = analysis.side_by_side([analysis.side_key]).dropna(
        subset=["adherence_left", "adherence_right"]
    )
    both = analysis.sides
    if table.empty or both is None:
        return empty("No group was observed on both sides", width)
    table = table.head(_GROUPS)
    room = min(170.0, width / 4)
    low = min(float(table[f"adherence_{side}"].min()) for side in ("left", "right"))
    low = max(0.0, 1 - (1 - low) * 1.15 - 1e-4)
    across = Scale(low, 1, room + 14, width - 24)
    bottom = 34 + 26 * len(table)
    worst = table.iloc[0]
    drawing = Drawing(
        width, bottom + 30,
        f"{worst[analysis.side_key]} differs most: {formatting.share(worst['adherence_left'])} and "
        f"{formatting.share(worst['adherence_right'])}",
        f"Adherence by {analysis.side_key}. Filled: {both.left}, ring: {both.right}.",
    )  # fmt: skip
    for part in np.linspace(low, 1, 5):
        x = float(across(part))
        drawing.line(x, 24, x, bottom, kind="grid")
        drawing.text(x, bottom + 18, formatting.share(part), "end" if part == 1 else "middle")
    for place, row in enumerate(table.to_dict("records")):
        y = 36 + 26 * place
        left, right = (float(across(row[f"adherence_{side}"])) for side in ("left", "right"))
        drawing.name(room, y + 4, str(row[analysis.side_key]), room)
        drawing.line(left, y, right, y, kind="axis")
        for x, side, name, kind in (
            (left, "left", both.left, "dot"), (right, "right", both.right, "ring"),
        ):  # fmt: skip
            kept = formatting.share(row[f"adherence_{side}"])
            drawing.add(
                "circle",
                cx=x,
                cy=y,
                r=6,
                kind=kind,
                tip=f"{row[analysis.side_key]} · {name} · {kept}",
            )
    return drawing
