"""Two other ways to find incidents, by the same measure: change points, and a scan statistic.

Run ``python -m benchmarks.incidents_tried [SEEDS]``. The change points need ruptures
(``pip install ruptures``), which the package itself does not need.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
import ruptures

from benchmarks.incidents import DAYS, LEAST, UNTIL, Score, estate, find, gap_table, score
from cdpanalytics.metrics.core.clusters import CHANCE, log_binomial_tail
from cdpanalytics.metrics.core.incidents import Incidents
from cdpanalytics.simulator import Fleet

STEP = pd.Timedelta("10min")
START = pd.Timestamp(UNTIL) - pd.Timedelta(days=DAYS)
COUNT = int(pd.Timedelta(days=DAYS) / STEP)
Finder = Callable[[Fleet, pd.DataFrame], Incidents]


def change_points(fleet: Fleet, gaps: pd.DataFrame) -> Incidents:
    """Steps up of the number of VMs in breach, per backup server: PELT, least squares, BIC penalty.

    The gaps that begin in the ten minutes around a step of at least three VMs are an incident.
    """
    late = gaps[gaps["breached"] > pd.Timedelta(0)].reset_index(drop=True)
    label = np.full(len(late), -1)
    for _, own in late.groupby("backup_server"):
        begun = ((own["start"] - START) // STEP).to_numpy()
        over = ((own["end"] - START) // STEP).to_numpy()
        change = np.bincount(np.clip(begun, 0, COUNT), minlength=COUNT + 1) - np.bincount(
            np.clip(over, 0, COUNT), minlength=COUNT + 1
        )
        signal = np.cumsum(change)[:COUNT].astype(float)
        noise = np.median(np.abs(np.diff(signal))) / 0.6745 or 1.0
        penalty = 3 * np.log(COUNT) * noise**2
        model = ruptures.KernelCPD(kernel="linear", min_size=1)
        edges = model.fit_predict(signal.reshape(-1, 1), pen=penalty)
        steps = [edge for edge in edges[:-1] if signal[edge] - signal[edge - 1] >= LEAST]
        for step in steps:
            near = own.index[np.abs(begun - step) <= 1]
            near = near[label[near] < 0]
            if len(near) >= LEAST:
                label[near] = label.max() + 1
    return _incidents(late, label)


def scan_statistic(fleet: Fleet, gaps: pd.DataFrame) -> Incidents:
    """Ten minutes slid over all beginnings of a backup server; the least probable is taken first.

    The rate is the mean of the server; Bonferroni as in `incidents`. What begins in a window
    that is taken is left out, until no window is improbable.
    """
    late = gaps[gaps["breached"] > pd.Timedelta(0)].reset_index(drop=True)
    label = np.full(len(late), -1)
    limit = np.log(CHANCE / COUNT)
    machines = Counter(policy.backup_server for policy in fleet.policies for _ in policy.vms)
    for server, own in late.groupby("backup_server"):
        own = own.sort_values("start")
        while len(own) >= LEAST:
            at = own["start"].to_numpy(dtype="M8[us]").view(np.int64)
            width = int(STEP / pd.Timedelta("1us"))
            last = np.searchsorted(at, at + width, "right")
            count = last - np.arange(len(at))
            best = int(count.argmax())
            vms = own.iloc[best : last[best]]["vm"].nunique()
            expected = (len(own) - count[best] + 1) / COUNT
            chance = log_binomial_tail(
                np.array([vms]), np.array([expected]), np.array([machines[server]])
            )
            if vms < LEAST or chance[0] >= limit:
                break
            label[own.index[best : last[best]]] = label.max() + 1
            own = own.drop(own.index[best : last[best]])
    return _incidents(late, label)


def _incidents(late: pd.DataFrame, label: np.ndarray) -> Incidents:
    alone = label < 0
    label[alone] = label.max(initial=-1) + 1 + np.arange(alone.sum())
    gaps = late.assign(incident=label + 1, inside=late["breached"])
    table = gaps.groupby("incident")["vm"].nunique().rename("vms").reset_index()
    return Incidents(table, gaps)


def measure(finder: Finder, seeds: range, vms: int, *, planted: bool = True) -> Score:
    """Return the sums of the scores over some seeds."""
    scores = []
    for seed in seeds:
        fleet = estate(seed, vms)
        scores.append(score(finder(fleet, gap_table(fleet, planted=planted))))
    reported, right, fates = zip(*scores, strict=True)
    return Score(sum(reported), sum(right), sum(fates, Counter()))


def main(seeds: int = 40) -> None:
    """Print the table."""
    print("| method | VMs | precision | recall | of those apart | split | false, none planted |")
    print("|--|--:|--:|--:|--:|--:|--:|")
    for name, finder in (
        ("clusters of beginnings (`incidents`)", find), ("scan statistic", scan_statistic),
        ("change points", change_points),
    ):  # fmt: skip
        for vms in (20, 200, 2000):
            row = measure(finder, range(seeds), vms)
            none = measure(finder, range(seeds), vms, planted=False)
            print(f"| {name} | {vms:,} | {row.precision:.3f} | {row.recall:.3f} | {row.apart:.3f} | "
                  f"{row.fates['split']} | {none.reported} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
