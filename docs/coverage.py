"""Tables and figure of uncertainty.md: how often simulated intervals hold the truth."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.metrics import simulated

SLOTS, RATES, VMS, DAYS = (30, 90, 360), (0.005, 0.02), (20, 200), (30, 90)


def success_table() -> str:
    """Coverage of the success rate: the least over VMs, slots and rates."""
    lines = ["| failures | by time slots | pooled sessions |", "|---|--:|--:|"]
    for setting in simulated.SETTINGS:
        ours, pooled = (min(column) for column in zip(*_success_cells(setting), strict=True))
        lines.append(f"| {setting} | {ours:.1%} | {pooled:.1%} |")
    return "\n".join(lines) + "\n"


def trend_table() -> str:
    """Coverage of slope and projection, by kind and length of the series."""
    rows = [
        (kind, days, simulated.trend_coverage(kind, days))
        for days in DAYS
        for kind in simulated.KINDS
    ]
    names = list(rows[0][2])
    lines = [f"| series | days | {' | '.join(names)} |", f"|---|--:|{'--:|' * len(names)}"]
    for kind, days, coverage in rows:
        cells = " | ".join(f"{coverage[name]:.1%}" for name in names)
        lines.append(f"| {kind} | {days} | {cells} |")
    return "\n".join(lines) + "\n"


def coverage_figure() -> Figure:
    """Draw how often the intervals hold the truth, beside the usual ones: success rate and slope."""
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(8, 5), layout="constrained", height_ratios=[3, 4]
    )
    pairs = [
        [min(column) for column in zip(*_success_cells(setting), strict=True)]
        for setting in simulated.SETTINGS
    ]
    _bars(upper, simulated.SETTINGS, {"by time slots": [ours for ours, _ in pairs],
                                      "pooled sessions": [pooled for _, pooled in pairs]})  # fmt: skip
    upper.set_xlabel(
        "success rate: least share of 95 % intervals that hold it, by how failures come"
    )
    trends = [simulated.trend_coverage(kind, 30) for kind in simulated.KINDS]
    _bars(lower, simulated.KINDS, {
        "resampled increments": [coverage["slope"] for coverage in trends],
        "Theil-Sen's own": [coverage["slope, Theil-Sen's own"] for coverage in trends],
    })  # fmt: skip
    lower.set_xlabel(
        "slope of sizes: share of 95 % intervals that hold it, by kind of series (30 days)"
    )
    return figure


def _bars(ax: Axes, kinds: tuple[str, ...], shares: dict[str, list[float]]) -> None:
    for offset, (name, values) in zip((0.2, -0.2), shares.items(), strict=True):
        bars = ax.barh([n + offset for n in range(len(values))], values, 0.38, label=name)
        ax.bar_label(bars, [f"{share:.0%}" for share in values], padding=3)
    ax.axvline(0.95, color="black", linestyle="--", linewidth=1)
    ax.set(yticks=range(len(kinds)), yticklabels=kinds, xlim=(0, 1.15))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=2, frameon=False)


def _success_cells(setting: str) -> list[tuple[float, float]]:
    return [
        simulated.success_coverage(setting, vms, slots, rate)
        for vms in VMS for slots in SLOTS for rate in RATES
    ]  # fmt: skip
