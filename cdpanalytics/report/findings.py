"""What a report says, as tables and sentences; it knows nothing of HTML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cdpanalytics import metrics, tables
from cdpanalytics.archive import Archive, Patterns
from cdpanalytics.config import Moment

VM = ["backup_server", "policy", "vm"]
"""What tells one VM from another: names repeat on other servers, and VMs move between policies."""

DAYS_SHOWN = 62
"""Above this many days the heat map goes by weeks."""

ROWS_SHOWN = 30
LEVELS = (0.01, 0.05, 0.2)
"""Shares of a period in breach at which the heat map grows darker."""


@dataclass(frozen=True)
class Question:
    """What was asked for."""

    since: Moment | None = None
    until: Moment | None = None
    policy: Patterns = None
    vm: Patterns = None
    rpo: object = None
    objective: float = 0.999
    tz: str = "UTC"


@dataclass(frozen=True)
class Findings:
    """The numbers of a report; each table is a metric's own."""

    question: Question
    sessions: pd.DataFrame
    start: pd.Timestamp | None
    stop: pd.Timestamp | None
    whole: pd.Series
    promise: pd.Series
    vms: pd.DataFrame
    policies: pd.DataFrame
    objectives: pd.DataFrame
    periods: pd.DataFrame
    gaps: pd.DataFrame
    durations: pd.DataFrame
    sizes: pd.DataFrame
    trends: pd.DataFrame
    holes: pd.DataFrame
    provenance: dict[str, object]

    @property
    def worst(self) -> pd.DataFrame:
        """VMs that missed their target, most breached first."""
        missed = self.vms[self.vms["breached"] > pd.Timedelta(0)]
        return missed.sort_values(
            ["breached", *VM], ascending=[False, True, True, True], ignore_index=True
        )

    @property
    def unseen(self) -> pd.DataFrame:
        """VMs that a policy names and no session does."""
        seen = set(
            zip(*(self.sessions[key].astype("str") for key in ("backup_server", "vm")), strict=True)
        )
        pairs = zip(self.vms["backup_server"], self.vms["vm"], strict=True)
        return self.vms[[pair not in seen for pair in pairs]]


def find(archive: Archive, question: Question) -> Findings:
    """Compute what a report says.

    Raises
    ------
    InputError
        When a selection matches nothing, a length or zone cannot be read, or the
        objective is not a share.
    """
    start, stop = archive.window(question.since, question.until)
    sessions = archive.sessions(
        question.since, question.until, policy=question.policy, vm=question.vm, history=True
    )
    named = question.policy is None and question.vm is None
    settings = archive.policies(naming_vms=named)
    window: dict[str, Any] = {"since": start, "until": stop, "policies": settings}
    holes = archive.holes()
    timed: dict[str, Any] = {
        **window, "target": question.rpo, "tz": question.tz,
        "unobserved": holes if len(holes) else None,
    }  # fmt: skip
    stop = min(stop, sessions["as_of"].max()) if stop is not None and len(sessions) else stop
    freq = _freq(sessions, start, stop)
    sized: dict[str, Any] = {"since": start, "until": window["until"], "tz": question.tz}
    whole = metrics.rpo_adherence(sessions, by=(), **timed)
    by_policy = metrics.rpo_adherence(sessions, by="policy", **timed)
    return Findings(
        question=question,
        sessions=sessions,
        start=start if start is not None else sessions["created"].min() if len(sessions) else None,
        stop=stop if stop is not None else sessions["as_of"].max() if len(sessions) else None,
        whole=whole.iloc[0],
        promise=metrics.objectives(whole, question.objective).iloc[0],
        vms=metrics.rpo_adherence(sessions, by=VM, **timed),
        policies=by_policy,
        objectives=metrics.objectives(by_policy, question.objective),
        periods=metrics.rpo_adherence(sessions, by=VM, freq=freq, **timed),
        gaps=metrics.gaps(sessions, **timed),
        durations=metrics.durations(sessions, by="policy", **window),
        sizes=metrics.sizes(sessions, by="policy", **sized),
        trends=metrics.size_trend(sessions, by="policy", **sized),
        holes=holes,
        provenance=archive.provenance(question.since, question.until),
    )


def verdict(found: Findings) -> str:
    """Return the answer in a sentence; unknown is never a pass."""
    whole, missed = found.whole, len(found.worst)
    if pd.isna(whole["adherence"]):
        reason = "nothing was observed" if not whole["observed"] else "no target is known"
        return f"Unknown: {reason}, so nobody can say whether the promise was kept."
    kept = tables.share(whole["adherence"])
    if not missed:
        return f"The promise was kept {kept} of the time by all {len(found.vms):,} VMs."
    longest = found.gaps.nlargest(1, "exposure").iloc[0]
    return (
        f"The promise was kept {kept} of the time; {missed:,} of {len(found.vms):,} VMs broke it. "
        f"The longest gap was {tables.duration(longest['exposure'])} ({longest['vm']})."
    )


def spent(promise: pd.Series) -> tuple[str, str]:
    """Return whether an objective was met, and what is spent of its budget of breached time."""
    if pd.isna(promise["passed"]):
        return "unknown", "nothing observed, or no target known"
    used = f"{tables.duration(promise['spent'])} of {tables.duration(promise['budget'])} spent"
    return ("met" if promise["passed"] else "missed"), used


def wilson(success: int, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share; NaN without events."""
    if not count:
        return math.nan, math.nan
    z = 1.959963984540054
    share, scale = success / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def heat(found: Findings) -> tuple[list[pd.Timestamp], list[tuple[pd.Series, pd.DataFrame]]]:
    """Return the periods, and the worst VMs each with its row a period, policies worst first."""
    shown = found.worst.head(ROWS_SHOWN)
    by_policy = shown.groupby("policy")["breached"].transform("sum")
    order = shown.assign(whole=by_policy).sort_values(
        ["whole", "policy", "breached"], ascending=[False, True, False], kind="stable"
    )
    rows = dict(list(found.periods.groupby(VM, dropna=False)))
    periods = sorted(found.periods["period"].unique())
    vms = [(vm, rows[tuple(vm[VM])].sort_values("period")) for _, vm in order.iterrows()]
    return periods, vms


def level(cell: pd.Series) -> int | None:
    """Return how dark a cell is, 0 for no breach; None where nothing is known."""
    if pd.isna(cell["adherence"]):
        return None
    breached = 1 - cell["adherence"]
    return 0 if breached <= 0 else 1 + int(np.searchsorted(LEVELS, breached, side="right"))


def _freq(sessions: pd.DataFrame, start: pd.Timestamp | None, stop: pd.Timestamp | None) -> str:
    if not len(sessions):
        return "D"
    first = start if start is not None else sessions["created"].min()
    last = stop if stop is not None else sessions["as_of"].max()
    return "D" if last - first <= pd.Timedelta(days=DAYS_SHOWN) else "W"
