"""Sentences that the report, the explorer and the workbook share: the answer, and what a reader has to know."""

from __future__ import annotations

import pandas as pd

from cdpanalytics.metrics.core.question import Terms
from cdpanalytics.presentation import formatting
from cdpanalytics.presentation.analysis import Analysis, uncovered
from cdpanalytics.schema import VM

_NAMES_SHOWN = 20
"""VMs that a sentence names."""


def verdict(analysis: Analysis) -> str:
    """Return the answer, and whether the objective was met; unknown is never a pass."""
    whole, missed, total = analysis.whole, len(analysis.worst), len(analysis.vms)
    if pd.isna(whole["adherence"]):
        reason = "nothing was observed" if not whole["observed"] else "no target is known"
        return f"Unknown: {reason}, so it cannot be said whether the RPO was met."
    share, promise = formatting.share(whole["adherence"]), _promise(analysis.objective)
    if not missed:
        seen = total - len(analysis.never_seen)
        which = "" if seen == total else " that were seen"
        if seen == 1:
            return f"The only VM{which.replace('were', 'was')} was within its RPO, {share} of the time{promise}."
        return f"All {seen:,} VMs{which} were within their RPO, {share} of the time{promise}."
    longest = analysis.vms.iloc[analysis.vms["worst_gap"].argmax()]
    return (
        f"VMs were within their RPO {share} of the time{promise}. {missed:,} of {total:,} VMs missed their RPO; "
        f"the longest gap was {formatting.duration(longest['worst_gap'])} ({longest['vm']})."
    )


def _promise(objective: pd.Series) -> str:
    """Return whether the objective was met, as the end of a sentence."""
    several = pd.isna(objective["objective"])
    which = (
        "the objectives"
        if several
        else f"the objective of {formatting.share(objective['objective'])}"
    )
    verb = "were" if several else "was"
    if pd.isna(objective["passed"]):
        return f"; whether {which} {verb} met is not known ({formatting.why_unknown(objective)})"
    return f": {which} {verb} {'met' if objective['passed'] else 'missed'}"


_NO_SESSION = "no session since"

_ADVICE = {
    "failed": "the newest session failed, for the reason that the server gave; the VM is protected again "
    "as soon as a session runs",
    "no session": "the newest session ended and no other began; check on the backup server that the policy "
    "is enabled and names the VM, and that the VM and its CDP proxies are running",
    "never seen": "a policy names the VM, but no session does; check on the backup server whether its first "
    "copy has begun",
    "unknown": "the archive does not hold this time; run cdpanalytics sync",
}


def not_protected(analysis: Analysis) -> pd.DataFrame:
    """Return the VMs that are not plainly protected at the end, worst first."""
    status = analysis.status
    return with_reasons(status[~status["state"].isin(["protected", "off schedule"])])


def with_reasons(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `Selection.status`; one without session since the last has that as its reason."""
    waiting = uncovered(table) & table["last_result"].ne("Failed")
    reason = table["reason"].astype("object")
    return table.assign(reason=reason.mask(waiting & reason.isna(), _NO_SESSION))


def advice(analysis: Analysis) -> list[tuple[str, str]]:
    """Return what to do about the VMs that are not protected: for which, and what."""
    table = not_protected(analysis)
    late = uncovered(table)
    silent = late & table["reason"].eq(_NO_SESSION).fillna(False)
    kinds = {
        "failed": late & ~silent, "no session": silent,
        "never seen": table["state"].eq("never seen"), "unknown": table["state"].eq("unknown"),
    }  # fmt: skip
    return [
        (f"{kind.capitalize()} ({count:,} VM{'s' if count > 1 else ''})", _ADVICE[kind])
        for kind, rows in kinds.items()
        if (count := int(rows.sum()))
    ]


def now(analysis: Analysis) -> str:
    """Return in one sentence which VMs nothing protects at the end, and which are not known."""
    zone, late = analysis.selection.tz, analysis.unprotected
    if analysis.status.empty:
        return "Unprotected now: no VM is known."
    at = formatting.instant(analysis.status["at"].iloc[0].tz_convert(zone))
    total = f"{len(analysis.status):,} VMs" if len(analysis.status) > 1 else "1 VM"
    answer = f"none of {total}"
    if len(late):
        first = late.iloc[0]
        since = formatting.instant(first["since"].tz_convert(zone))
        answer = f"{len(late):,} of {total}, the longest since {since} ({first['vm']})"
    states = analysis.status["state"].value_counts()
    unknown = [f"{states[name]:,} {name}" for name in ("unknown", "never seen") if name in states]
    more = f"; {' and '.join(unknown)}" if unknown else ""
    return f"Unprotected now ({at} {zone}): {answer}{more}."


def notes(analysis: Analysis) -> list[str]:
    """Return what a reader has to know besides: time without sessions, VMs with grace, VMs that came back."""
    return [*early(analysis), *_given_grace(analysis), *_came_back(analysis)]


def early(analysis: Analysis) -> list[str]:
    """Return one sentence for each server whose first session is later than the start of the period."""
    return [f"{line[0].upper()}{line[1:]}." for line in analysis.selection.missing_start()]


def _given_grace(analysis: Analysis) -> list[str]:
    """Name the VMs with grace whose first attempt lies in the first day of the data.

    They may have been protected before it, so that theirs was not a first copy.
    """
    selection = analysis.selection
    rows = selection._rows(("state", "result"))
    if selection.grace is None or rows.empty or not {"state", "result"} <= set(rows):
        return []
    attempts = rows[rows["state"].ne("Pending")].sort_values("created", kind="stable")
    first = attempts.drop_duplicates(VM)
    early = first["created"] < rows["created"].min() + pd.Timedelta("1D")
    failed = first["state"].eq("Completed") & first["result"].eq("Failed")
    return _named(
        "Grace was given though the first attempt lies in the first day of the data, before which "
        "nothing is known:",
        first[early & failed]["vm"],
    )


def _came_back(analysis: Analysis) -> list[str]:
    """Name the VMs whose ended gap was retired in an earlier period: it counts whole now."""
    selection = analysis.selection
    if selection.retire_after is None or analysis.start is None:
        return []
    length = Terms.parse(retire_after=selection.retire_after).retire_after or pd.Timedelta(0)
    gaps = analysis.gaps
    back = gaps[~gaps["open"] & (gaps["start"] + length < analysis.start)]
    return _named(
        "Came back after they were retired, so that their gap counts whole, in earlier periods too:",
        back["vm"],
    )


def _named(said: str, vms: pd.Series) -> list[str]:
    names = sorted(vms.dropna().astype("str").unique())
    if not names:
        return []
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return [f"{said} {', '.join(names[:_NAMES_SHOWN])}{more}."]


def left_out(analysis: Analysis) -> str:
    """Return in a sentence what the figures leave out, by kind; that it is nothing is said, too."""
    whole = analysis.whole
    kinds = {
        "excluded": "excluded or in grace",
        "retired": "retired",
        "unobserved": "never fetched",
    }
    lengths = [
        f"{formatting.duration(whole[kind])} {words}"
        for kind, words in kinds.items()
        if whole[kind]
    ]
    if not lengths:
        return "Nothing was left out: there was no exclusion, no grace, no retired VM and no hole."
    full = formatting.share(whole["adherence_full"])
    return (
        f"Left out of the figures, of all VMs together: {', '.join(lengths)}. Adherence with excluded "
        f"and retired time is {full}."
    )


def terms(analysis: Analysis) -> str:
    """Return in a sentence what the figures are judged on: RPO, objective, verdicts, what is left out."""
    selection, objective = analysis.selection, analysis.objective["objective"]
    rpo = "each policy's own" if selection.target is None else formatting.length(selection.target)
    promised = "each group's own" if pd.isna(objective) else formatting.share(objective)
    words = [
        f"RPO: {rpo}", f"objective: {promised}", "Success, Warning and running sessions protect",
        *(f"{name}: {formatting.length(value)}" for name, value in
          (("grace", selection.grace), ("retired after", selection.retire_after)) if value is not None),
    ]  # fmt: skip
    return formatting.printable("; ".join(words))


def change(analysis: Analysis) -> str:
    """Return in one sentence how the period compares with the one before."""
    if analysis.before is None:
        return "No earlier period to compare with."
    row, zone = analysis.compared([]).iloc[0], analysis.selection.tz
    edges = [edge for edge in analysis.before.window if edge is not None]
    first, last = (formatting.instant(edge.tz_convert(zone)) for edge in edges)
    which = f"the period before, {first} to {last}"
    if pd.isna(row["change"]):
        return f"Nothing was observed in {which}, so there is nothing to compare with."
    if not analysis.comparable:
        length = formatting.duration(edges[1] - edges[0])
        return (
            f"Of {which}, the data holds only {formatting.duration(analysis.before_held)} of {length}, "
            "too little to compare with."
        )
    now, then = formatting.share(row["adherence"]), formatting.share(row["adherence_before"])
    if row["verdict"] == "same":
        return f"VMs were within their RPO {now} of the time, the same as in {which}."
    return (
        f"VMs were within their RPO {now} of the time, {row['verdict']} than in {which} ({then})."
    )


def budget(objective: pd.Series) -> tuple[str, str]:
    """Return whether an objective was met, and how much of its allowed breached time is used."""
    if pd.isna(objective["passed"]):
        return "unknown", formatting.why_unknown(objective)
    used, allowed = (formatting.duration(objective[name]) for name in ("spent", "budget"))
    return ("met" if objective["passed"] else "missed"), f"used {used} of the allowed {allowed}"
