"""Precision and recall of `find_incidents` on simulated estates whose incidents are known.

Run ``python -m benchmarks.incidents [SEEDS]``; it prints the tables of docs/incidents.md.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pandas as pd

from cdpanalytics.metrics.core.incidents import Incidents, find_incidents
from cdpanalytics.simulator import Fleet

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 30
SIZES = (20, 60, 200, 600, 2000)
LEAST = 3


class Score(NamedTuple):
    """Incidents of many VMs: planted, found again, reported, and reported rightly."""

    planted: int
    recalled: int
    reported: int
    right: int

    @property
    def recall(self) -> float:
        """Share of the planted incidents that were found."""
        return self.recalled / max(self.planted, 1)

    @property
    def precision(self) -> float:
        """Share of the reported incidents that were planted."""
        return self.right / max(self.reported, 1)


def estate(seed: int, vms: int, *, incidents: int = 4) -> Fleet:
    """Return an estate with noise, near misses and incidents."""
    return Fleet.generate(
        vms=vms, days=DAYS, seed=seed, until=UNTIL, policies=8, incidents=incidents,
        near_misses=True,
    )  # fmt: skip


def gap_table(fleet: Fleet, *, planted: bool = True) -> pd.DataFrame:
    """Return the gaps of an estate against each policy's RPO, with the planted incident (-1: none).

    Schedules are left out: every hour counts.
    """
    rpo = {policy.name: policy.rpo for policy in fleet.policies}
    rows = [
        (gap.backup_server, gap.vm, gap.policy, gap.start, gap.end, gap.open, gap.end - gap.start,
         max(gap.end - gap.start - rpo[gap.policy], timedelta(0)), gap.cause,
         -1 if gap.incident is None else gap.incident)
        for gap in fleet.gaps if planted or gap.incident is None
    ]  # fmt: skip
    columns = ["backup_server", "vm", "policy", "start", "end", "open", "exposure", "breached",
               "cause", "planted"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def find(fleet: Fleet, gaps: pd.DataFrame, within: str = "10min") -> Incidents:
    """Return the incidents of an estate's gaps."""
    window = (pd.Timestamp(UNTIL - timedelta(days=DAYS)), pd.Timestamp(UNTIL))
    vms = [(policy.backup_server, vm) for policy in fleet.policies for vm in policy.vms]
    observed = pd.DataFrame(vms, columns=["backup_server", "vm"])
    observed = observed.assign(start=window[0], end=window[1])
    return find_incidents(gaps, observed, window, pd.Timedelta(within), LEAST)


def score(found: Incidents) -> Score:
    """Match incidents by VMs: found again, or right, where at least half of the gaps agree.

    A planted incident counts from three VMs with a breached gap. Two that were planted at
    the same time may be found as one; that counts as both found.
    """
    gaps = found.gaps
    vms = gaps.groupby("incident")[["backup_server", "vm"]].apply(
        lambda g: len(g.drop_duplicates())
    )
    many = gaps["incident"].isin(vms[vms >= LEAST].index)
    truth = gaps[gaps["planted"] >= 0]
    planted = recalled = 0
    for _, own in truth.groupby("planted"):
        if len(own[["backup_server", "vm"]].drop_duplicates()) < LEAST:
            continue
        planted += 1
        most = own.loc[many[own.index], "incident"].value_counts()
        recalled += bool(len(most)) and bool(most.iloc[0] >= len(own) / 2)
    rightly = (gaps["planted"] >= 0)[many].groupby(gaps.loc[many, "incident"]).mean() >= 0.5
    return Score(planted, recalled, len(rightly), int(rightly.sum()))


def measure(seeds: range, vms: int, within: str = "10min", *, planted: bool = True) -> Score:
    """Return the sums of the scores over some seeds."""
    scores = []
    for seed in seeds:
        fleet = estate(seed, vms)
        scores.append(score(find(fleet, gap_table(fleet, planted=planted), within)))
    return Score(*(sum(column) for column in zip(*scores, strict=True)))


def main(seeds: int = 200) -> None:
    """Print the tables: each seed has an estate of one of the sizes, in turn."""
    each = seeds // len(SIZES)
    print("| VMs | estates | planted | reported | precision | recall | false, none planted |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for number, vms in enumerate(SIZES):
        mine = range(number * each, (number + 1) * each)
        with_incidents, without = measure(mine, vms), measure(mine, vms, planted=False)
        print(f"| {vms:,} | {each} | {with_incidents.planted} | {with_incidents.reported} | "
              f"{with_incidents.precision:.3f} | {with_incidents.recall:.3f} | "
              f"{without.reported} |", flush=True)  # fmt: skip
    print("\n| `within` | precision | recall |\n|--:|--:|--:|")
    for within in ("2min", "5min", "10min", "20min", "60min"):
        row = measure(range(20), 200, within)
        print(f"| {within} | {row.precision:.3f} | {row.recall:.3f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
