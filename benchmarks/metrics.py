"""Time each metric beside what an analyst would write in plain pandas; prints ratios."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from cdpanalytics import metrics


def fleet(sessions: int, vms: int = 500, seed: int = 1) -> pd.DataFrame:
    """Return a random fleet of about `sessions` sessions of 8 h, in order of VM and time."""
    rng = np.random.default_rng(seed)
    each = sessions // vms
    vm = np.repeat(np.arange(vms), each)
    begin = np.tile(np.arange(each) * 8 * 3600, vms) + rng.integers(0, 600, vms * each)
    length = 8 * 3600 - rng.integers(0, 900, vms * each)
    created = pd.to_datetime(begin + 1_700_000_000, unit="s", utc=True)
    return pd.DataFrame(
        {
            "vm": pd.Categorical.from_codes(vm, [f"vm-{n:04}" for n in range(vms)]),
            "policy": pd.Categorical.from_codes(vm % 6, [f"policy-{n}" for n in range(6)]),
            "created": created,
            "ended": created + pd.to_timedelta(length, unit="s"),
            "state": pd.Categorical(["Completed"] * len(vm)),
            "result": pd.Categorical(
                rng.choice(["Success", "Success", "Warning", "Failed"], len(vm))
            ),
            "total_size": pd.array(rng.integers(1, 100, len(vm)) * 2**30, dtype="Int64"),
        }
    )


def plain_gaps(frame: pd.DataFrame) -> pd.Series:
    """Return breached time by VM as an analyst would write it: sort, groupby, cummax, shift."""
    kept = frame[frame["result"] != "Failed"].sort_values(["vm", "created"])
    reach = kept["ended"].astype("int64").groupby(kept["vm"], observed=True).cummax()
    following = kept["created"].astype("int64").groupby(kept["vm"], observed=True).shift(-1)
    breach = (following - reach - 15 * 60 * 1_000_000).clip(lower=0)
    return breach.groupby(kept["vm"], observed=True).sum()


def median_seconds(function: Callable[[], object], runs: int = 5) -> float:
    """Return the median wall time of several runs after one to warm up."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(sessions: int) -> None:
    """Print a row a metric: sessions, seconds, and the ratio to plain pandas."""
    frame = fleet(sessions)
    base = median_seconds(lambda: plain_gaps(frame))
    print(f"{len(frame):,} sessions; plain pandas (breached time by VM): {base:.3f} s")
    calls: dict[str, Callable[[], object]] = {
        "rpo_adherence by vm": lambda: metrics.rpo_adherence(frame, "15min"),
        "rpo_adherence by policy and day": lambda: metrics.rpo_adherence(
            frame, "15min", by="policy", freq="D"
        ),
        "gaps": lambda: metrics.gaps(frame, "15min"),
        "durations by policy": lambda: metrics.durations(frame, by="policy"),
        "sizes by policy and day": lambda: metrics.sizes(frame, by="policy"),
    }
    for name, call in calls.items():
        seconds = median_seconds(call)
        print(f"{name:34} {seconds:8.3f} s  {seconds / base:6.2f} x plain pandas")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
