"""Precision and recall of `incidents` on simulated estates whose incidents are known.

Run ``python -m benchmarks.incidents [SEEDS]``; it prints the tables of docs/incidents.md. Every estate
has noise, and near misses: gaps at each midnight, and at full hours by chance.
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pandas as pd

from cdpanalytics.metrics.core.incidents import Incidents, find_incidents
from cdpanalytics.simulator import Fleet

UNTIL = datetime(2026, 11, 1, 7, tzinfo=UTC)
"""Not midnight: the outage that every estate has would always coincide with the near misses."""

DAYS = 30
SIZES = (20, 60, 200, 600, 2000)
LEAST = 3
FOUND, TOGETHER, MERGED = "found", "began together with another", "merged with a later one"
SMALL, SPREAD = "fewer than 3 VMs", "fewer than 3 VMs on each server"
CHANCE, SPLIT = "could be chance", "split"
"""What became of a planted incident."""


class Score(NamedTuple):
    """Incidents of many VMs that were reported, those of them that are right, and what became of the planted."""

    reported: int
    right: int
    fates: Counter[str]

    @property
    def precision(self) -> float:
        """Share of the reported incidents that were planted."""
        return self.right / max(self.reported, 1)

    @property
    def findable(self) -> int:
        """Planted incidents with at least three VMs on one backup server."""
        return self.fates.total() - self.fates[SMALL] - self.fates[SPREAD]

    @property
    def recall(self) -> float:
        """Share of the findable ones that were found, by themselves or together with another."""
        return 1 - (self.fates[CHANCE] + self.fates[SPLIT]) / max(self.findable, 1)

    @property
    def apart(self) -> float:
        """Of those that began more than `within` from all others: the share found by itself."""
        return self.fates[FOUND] / max(self.findable - self.fates[TOGETHER], 1)


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
    """Match incidents: found, or right, where at least half of the gaps agree.

    Of the planted ones that are in one reported incident together, the first is found. The
    others began together with it, within 10 minutes, and are one incident by the definition;
    or they are merged with it though they began later.
    """
    gaps = found.gaps
    many = found.gaps["incident"].isin(found.table.loc[found.table["vms"] >= LEAST, "incident"])
    reported = gaps[many].groupby("incident")["planted"].agg(lambda own: (own >= 0).mean() >= 0.5)
    fates, owners = Counter[str](), dict[int, pd.Timestamp]()
    for _, own in gaps[gaps["planted"] >= 0].groupby("planted"):
        fate, incident = _fate(own, many)
        begun = own["start"].min()
        if fate == FOUND and incident in owners:
            together = abs(begun - owners[incident]) <= pd.Timedelta("10min")
            fate = TOGETHER if together else MERGED
        owners.setdefault(incident, begun)
        fates[fate] += 1
    return Score(len(reported), int(reported.sum()), fates)


def _fate(own: pd.DataFrame, many: pd.Series) -> tuple[str, int]:
    """What became of one planted incident, and the reported one that has most of its gaps."""
    by_server = own.groupby("backup_server")["vm"].nunique()
    if by_server.sum() < LEAST:
        return SMALL, 0
    incidents = own.loc[many[own.index], "incident"].value_counts()
    if len(incidents) and incidents.iloc[0] >= len(own) / 2:
        return FOUND, int(incidents.index[0])
    if by_server.max() < LEAST:
        return SPREAD, 0
    return (SPLIT if incidents.sum() >= len(own) / 2 else CHANCE), 0


def measure(seeds: range, vms: int, within: str = "10min", *, planted: bool = True) -> Score:
    """Return the sums of the scores over some seeds."""
    scores = []
    for seed in seeds:
        fleet = estate(seed, vms)
        scores.append(score(find(fleet, gap_table(fleet, planted=planted), within)))
    reported, right, fates = zip(*scores, strict=True)
    return Score(sum(reported), sum(right), sum(fates, Counter()))


def main(seeds: int = 200) -> None:
    """Print the tables."""
    print("| VMs | planted | findable | reported | precision | recall | of those apart | "
          "began together | merged | could be chance | split | too small | false, none planted |")  # fmt: skip
    print("|--:" * 13 + "|")
    for vms in SIZES:
        row = measure(range(seeds), vms)
        none = measure(range(seeds), vms, planted=False)
        fates = row.fates
        print(f"| {vms:,} | {fates.total()} | {row.findable} | {row.reported} | {row.precision:.3f} | "
              f"{row.recall:.3f} | {row.apart:.3f} | {fates[TOGETHER]} | {fates[MERGED]} | {fates[CHANCE]} | "
              f"{fates[SPLIT]} | {fates[SMALL] + fates[SPREAD]} | {none.reported} |", flush=True)  # fmt: skip
    print("\n| `within` | precision | recall | of those apart | merged |\n|--:|--:|--:|--:|--:|")
    for within in ("2min", "5min", "10min", "20min", "1h", "3h"):
        row = measure(range(seeds // 4), 200, within)
        print(
            f"| {within} | {row.precision:.3f} | {row.recall:.3f} | {row.apart:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
