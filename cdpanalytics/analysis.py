"""What is to be said to a question, as tables and sentences; it knows nothing of HTML or widgets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from cdpanalytics import metrics
from cdpanalytics.archive import Archive
from cdpanalytics.metrics.core.spans import known_until, stamp
from cdpanalytics.metrics.ranking import ranked
from cdpanalytics.patterns import Patterns
from cdpanalytics.presentation import formatting
from cdpanalytics.timeparse import Moment

VM = ["backup_server", "policy", "vm"]
"""What tells one VM from another: names repeat on other servers, and VMs move between policies."""

DAYS_SHOWN = 62
"""Above this many days the heat map goes by weeks."""

ROWS_SHOWN = 30
TARGETS = ("15s", "1min", "5min", "15min", "1h", "4h")


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


class Findings:
    """The numbers that answer a question; each table is a metric's own, made when first asked for.

    Parameters
    ----------
    question : Question
    sessions : pandas.DataFrame
        What it is about, with what came before the window and decides how it begins.
    settings, holes : pandas.DataFrame
        As `Archive.policies` and `Archive.holes` give them.
    window : pair of timestamps or None
        Where the question's window begins and ends.
    provenance : dict, optional
        Where the sessions come from.
    intervals : pandas.DataFrame, optional
        The journal, as `Archive.intervals` gives it.
    """

    def __init__(
        self,
        question: Question,
        sessions: pd.DataFrame,
        settings: pd.DataFrame | None,
        holes: pd.DataFrame,
        window: tuple[pd.Timestamp | None, pd.Timestamp | None],
        provenance: dict[str, Any] | None = None,
        intervals: pd.DataFrame | None = None,
    ) -> None:
        self.question, self.sessions, self.holes = question, sessions, holes
        self.intervals = intervals
        self.provenance = provenance or {}
        since, until = window
        as_of = None if sessions.empty else speaks_for(sessions)
        self.start = since if since is not None or sessions.empty else sessions["created"].min()
        self.stop = until if as_of is None else as_of if until is None else min(until, as_of)
        self._window: dict[str, Any] = {"since": since, "until": until, "policies": settings}
        self._timed: dict[str, Any] = {
            **self._window, "target": question.rpo, "tz": question.tz,
            "unobserved": holes if len(holes) else None,
        }  # fmt: skip
        self._sized: dict[str, Any] = {"since": since, "until": until, "tz": question.tz}

    @cached_property
    def freq(self) -> str:
        """Days, or weeks where there would be too many days to draw."""
        if self.start is None or self.stop is None:
            return "D"
        return "D" if self.stop - self.start <= pd.Timedelta(days=DAYS_SHOWN) else "W"

    @cached_property
    def _whole(self) -> pd.DataFrame:
        return metrics.rpo_adherence(self.sessions, by=(), **self._timed)

    @property
    def whole(self) -> pd.Series:
        """Adherence of all together."""
        return self._whole.iloc[0]

    @cached_property
    def promise(self) -> pd.Series:
        """The objective of all together."""
        return metrics.objectives(self._whole, self.question.objective).iloc[0]

    @cached_property
    def vms(self) -> pd.DataFrame:
        """Adherence by VM."""
        return metrics.rpo_adherence(self.sessions, by=VM, **self._timed)

    @cached_property
    def policies(self) -> pd.DataFrame:
        """Adherence by policy."""
        return metrics.rpo_adherence(self.sessions, by="policy", **self._timed)

    @cached_property
    def objectives(self) -> pd.DataFrame:
        """The objective by policy."""
        return metrics.objectives(self.policies, self.question.objective)

    @cached_property
    def periods(self) -> pd.DataFrame:
        """Adherence by VM and period."""
        return metrics.rpo_adherence(self.sessions, by=VM, freq=self.freq, **self._timed)

    @cached_property
    def gaps(self) -> pd.DataFrame:
        """Every gap."""
        return metrics.gaps(self.sessions, **self._timed)

    @cached_property
    def durations(self) -> pd.DataFrame:
        """How long sessions lasted, by policy."""
        return metrics.durations(self.sessions, by="policy", **self._window)

    @cached_property
    def sizes(self) -> pd.DataFrame:
        """Sizes by policy and day."""
        return metrics.sizes(self.sessions, by="policy", **self._sized)

    @cached_property
    def trends(self) -> pd.DataFrame:
        """Where sizes head, by policy."""
        return metrics.size_trend(self.sessions, by="policy", **self._sized)

    @cached_property
    def what_if(self) -> pd.DataFrame:
        """Adherence of all together under other targets."""
        asked = {name: value for name, value in self._timed.items() if name != "target"}
        return metrics.what_if(self.sessions, TARGETS, **asked)

    @cached_property
    def journal(self) -> pd.DataFrame:
        """The RPO really achieved, by VM; needs `intervals`."""
        found: pd.DataFrame = self.intervals  # type: ignore[assignment]
        settings = self._window["policies"]
        return metrics.journal_adherence(found, self.question.rpo, by=VM, policies=settings)

    @cached_property
    def worst(self) -> pd.DataFrame:
        """VMs that missed their target, most breached first, with what each explains."""
        return ranked(self.vms, VM).dropna(subset=["breached"])

    @cached_property
    def causes(self) -> pd.DataFrame:
        """What the gaps in breach are put down to, most breached first."""
        late = self.gaps[self.gaps["breached"] > pd.Timedelta(0)]
        named = late.assign(vm=late["backup_server"].fillna("") + "/" + late["vm"].fillna(""))
        found = named.groupby("cause", sort=True).agg(
            breaches=("cause", "size"), vms=("vm", "nunique"), breached=("breached", "sum"),
            first=("start", "min"), last=("end", "max"),
        ).reset_index()  # fmt: skip
        found.insert(4, "explains", (found["breached"] / found["breached"].sum()).astype(float))
        return found.sort_values("breached", ascending=False, kind="stable", ignore_index=True)

    @cached_property
    def before(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """The period to hold this one against: as long a one just before it, if any is known.

        Where the question has no beginning there is none before: the later half of what is
        known is held against the earlier.
        """
        if self.start is None or self.stop is None or self.start >= self.stop:
            return None
        length = self.stop - self.start
        if self._window["since"] is None:
            return self.start, self.start + length / 2
        return self.start - length, self.start

    def compared(self, by: list[str]) -> pd.DataFrame:
        """Adherence beside that of the period before, largest change first; needs `before`."""
        assert self.before is not None  # noqa: S101 - said above
        asked = {name: value for name, value in self._timed.items() if name != "since"}
        return metrics.compare(self.sessions, self.before[1], before=self.before, by=by, **asked)

    @cached_property
    def quality(self) -> pd.DataFrame:
        """What is odd about the sessions that begin in the window; only what was found."""
        found = metrics.quality(self.sessions, **self._window)
        return found[found["sessions"] > 0].reset_index(drop=True)

    @cached_property
    def unseen(self) -> pd.DataFrame:
        """VMs that a policy names and no session does."""
        seen = set(
            zip(*(self.sessions[key].astype("str") for key in ("backup_server", "vm")), strict=True)
        )
        pairs = zip(self.vms["backup_server"], self.vms["vm"], strict=True)
        return self.vms[[pair not in seen for pair in pairs]]


def speaks_for(sessions: pd.DataFrame) -> pd.Timestamp:
    """Return the instant that sessions speak for, as the metrics take it."""
    return stamp(known_until(sessions))


def before(
    archive: Archive, start: pd.Timestamp, stop: pd.Timestamp | None
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the period to hold ``[start, stop)`` against: as long a one as is known of it, just before."""
    newest = archive.ledger()["as_of"].max()
    end = newest if stop is None else min(stop, newest)
    return start - max(end - start, pd.Timedelta(0)), start


def find(archive: Archive, question: Question) -> Findings:
    """Return what an archive says to a question.

    Raises
    ------
    InputError
        When a selection matches nothing, or a length, zone or objective cannot be read.
    """
    start, stop = archive.window(question.since, question.until)
    chosen: dict[str, Patterns] = {"policy": question.policy, "vm": question.vm}
    # Whence sessions are needed, to hold the window against the one before it.
    first = start if start is None else before(archive, start, stop)[0]
    sessions = archive.sessions(first, question.until, **chosen, history=True)
    named = question.policy is None and question.vm is None
    provenance = archive.provenance(question.since, question.until)
    settings, holes = archive.policies(naming_vms=named), archive.holes()
    journal = archive.intervals(question.since, question.until)
    mine = [journal[key].isin(sessions[key].astype("str")) for key in VM]
    intervals = journal[mine[0] & mine[1] & mine[2]]
    return Findings(question, sessions, settings, holes, (start, stop), provenance, intervals)


def verdict(found: Findings) -> str:
    """Return the answer in a sentence; unknown is never a pass."""
    whole, missed = found.whole, len(found.worst)
    if pd.isna(whole["adherence"]):
        reason = "nothing was observed" if not whole["observed"] else "no target is known"
        return f"Unknown: {reason}, so nobody can say whether the promise was kept."
    kept = formatting.share(whole["adherence"])
    if not missed:
        return f"The promise was kept {kept} of the time by all {len(found.vms):,} VMs."
    longest = found.gaps.nlargest(1, "exposure").iloc[0]
    return (
        f"The promise was kept {kept} of the time; {missed:,} of {len(found.vms):,} VMs broke it. "
        f"The longest gap was {formatting.duration(longest['exposure'])} ({longest['vm']})."
    )


def change(found: Findings) -> str:
    """Return in a sentence how the period compares with the one before it."""
    if found.before is None:
        return "Nothing is known of a period before this one."
    row = found.compared([]).iloc[0]
    first, last = (formatting.instant(edge.tz_convert(found.question.tz)) for edge in found.before)
    halves = found.question.since is None
    which = (
        f"the first half, {first} to {last}" if halves else f"the period before, {first} to {last}"
    )
    if pd.isna(row["change"]):
        return f"Nothing was observed in {which}, so there is nothing to hold this period against."
    now, then = formatting.share(row["adherence"]), formatting.share(row["adherence_before"])
    what = "In the second half the" if halves else "The"
    if row["verdict"] == "same":
        return f"{what} promise was kept {now} of the time, just as in {which}."
    return f"{what} promise was kept {now} of the time, {row['verdict']} than in {which} ({then})."


def spent(promise: pd.Series) -> tuple[str, str]:
    """Return whether an objective was met, and what is spent of its budget of breached time."""
    if pd.isna(promise["passed"]):
        return "unknown", "nothing observed, or no target known"
    used = (
        f"{formatting.duration(promise['spent'])} of {formatting.duration(promise['budget'])} spent"
    )
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
    periods = sorted(found.periods["period"].unique())
    vms = [vm for _, vm in order.iterrows()]
    return periods, list(zip(vms, daily(found, order), strict=True))


def daily(found: Findings, vms: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of `Findings.periods` of each of some VMs, in order of time."""
    placed = vms[VM].assign(place=range(len(vms)))
    mine = found.periods.merge(placed, on=VM).sort_values("period", kind="stable")
    return [rows for _, rows in mine.groupby("place")]
