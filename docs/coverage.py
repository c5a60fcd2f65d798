"""Tables and figure of uncertainty.md: how often simulated intervals hold the truth."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.metrics import simulated

SLOTS, RATES, VMS, DAYS = (30, 90, 360), (0.005, 0.02), (20, 200), (30, 90)


def success_table() -> str:
    """Coverage of the success rate: the least over VMs, slots and rates."""
    lines = ["| failures | by time slots | pooled sessions |", "|---|--:|--:|"]
    for setting in simulated.SETTINGS:
        cells = [
            simulated.success_coverage(setting, vms, slots, rate)
            for vms in VMS for slots in SLOTS for rate in RATES
        ]  # fmt: skip
        ours, pooled = (min(column) for column in zip(*cells, strict=True))
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
    """Draw the coverage of the slope's interval beside that of Theil-Sen's own."""
    figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    for offset, name in ((0.2, "slope"), (-0.2, "slope, Theil-Sen's own")):
        shares = [simulated.trend_coverage(kind, 30)[name] for kind in simulated.KINDS]
        bars = ax.barh([n + offset for n in range(len(shares))], shares, 0.38, label=name)
        ax.bar_label(bars, [f"{share:.0%}" for share in shares], padding=3)
    ax.axvline(0.95, color="black", linestyle="--", linewidth=1)
    ax.set(yticks=range(len(simulated.KINDS)), yticklabels=simulated.KINDS, xlim=(0, 1.15))
    ax.set_xlabel("share of 95 % intervals that hold the true slope (30 days)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2, frameon=False)
    return figure
