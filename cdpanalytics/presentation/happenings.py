"""Incidents and repeated offenders in sentences, for report and explorer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from textwrap import shorten
from typing import Any

import pandas as pd

from cdpanalytics.metrics.incidents import with_main_incident
from cdpanalytics.presentation import formatting
from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.schema import KEYS, VM

SHOWN = 5
"""Incidents that get a sentence."""

_TIMELINE_ROWS = 12
_LEAST_SHARE = 0.01
_NAMED = 3
_LONGEST_CAUSE = 110
_NO_SESSION = "no session"


def _explaining(analysis: Analysis) -> pd.DataFrame:
    """Return the incidents that explain most: at most five, of many VMs or at least 1 %."""
    table = analysis.incidents
    return table[(table["explains"] >= _LEAST_SHARE) | (table["vms"] > 1)].head(SHOWN)


def sentences(analysis: Analysis) -> list[tuple[int, str]]:
    """Return number and sentence of the incidents that explain most."""
    result = []
    for row in _explaining(analysis).to_dict("records"):
        gaps = vms_of(analysis, row["incident"])
        if row["vms"] == 1:
            row["vm"] = gaps["vm"].iloc[0]
        policies = [str(name) for name in gaps["policy"].value_counts().index]
        text = sentence(row, policies, analysis.selection.tz)
        result.append((int(row["incident"]), text))
    return result


def sentence(incident: Mapping[Hashable, Any], policies: Sequence[str], zone: str) -> str:
    """Return one incident in a sentence: when, what, whose, how many VMs, and what it explains.

    Examples
    --------
    >>> day = pd.Timestamp("2026-11-04", tz="UTC")
    >>> sentence({
    ...     "start": day + pd.Timedelta("3h12min"), "end": day + pd.Timedelta("4h56min"), "open": False,
    ...     "cause": "Failed: Storage is unavailable", "cause_share": 1.0, "backup_server": "vbr01",
    ...     "vms": 241, "explains": 0.394, "longest": pd.Timedelta("1h44min"),
    ... }, ["Gold", "Silver"], "UTC")
    '4 Nov 03:12 to 04:56: Storage is unavailable; 241 VMs of Gold and Silver on vbr01, 39 % of the time missed; \
longest 1 h 44 min'
    """
    row = pd.Series(incident)
    where = _listed(policies, "policies")
    server = (
        " on several backup servers"
        if pd.isna(row["backup_server"])
        else f" on {row['backup_server']}"
    )
    vms = f"{row['vms']:,} VM{'s' if row['vms'] > 1 else ''}" if "vm" not in row else str(row["vm"])
    return formatting.printable(
        f"{_when(row, zone)}: {_cause(row)}; {vms} of {where}{server}, "
        f"{formatting.whole_percent(row['explains'])} of the time missed; "
        f"longest {formatting.duration(row['longest'])}"
    )


def finding(incidents: pd.DataFrame) -> str:
    """Return in a sentence what a strip over the fleet shows."""
    many = incidents[incidents["vms"] > 1]
    if many.empty:
        return "No incident of several VMs: those that missed their RPO did so by themselves"
    worst, explained = many.iloc[0], formatting.whole_percent(many["explains"].sum())
    if len(many) == 1:
        return f"One incident, of {worst['vms']:,} VMs, explains {explained} of the time missed"
    return (
        f"{len(many):,} incidents of several VMs explain {explained} of the time missed; "
        f"incident {worst['incident']} hit {worst['vms']:,} VMs"
    )


def by_exposure(gaps: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return server and name of the VMs that have gaps, most exposure first."""
    exposure = gaps.groupby(VM, observed=True, dropna=False)["exposure"].sum()
    return list(exposure.sort_values(ascending=False, kind="stable").index)


def most_exposed(gaps: pd.DataFrame, count: int) -> list[tuple[Any, ...]]:
    """Return server and name of the VMs with most exposure, the one of the longest gap among them."""
    ranked = by_exposure(gaps)
    of_longest = list(gaps.nlargest(1, "exposure")[VM].itertuples(index=False, name=None))
    return list(dict.fromkeys([*ranked[: count - 1], *of_longest, *ranked[count - 1 :]]))[:count]


def remainder(analysis: Analysis) -> str:
    """Return in a sentence how much the incidents of many explain, and what is left."""
    table = analysis.incidents
    if table.empty:
        return "No VM missed its RPO."
    many = table[table["vms"] > 1]
    explained = formatting.whole_percent(many["explains"].sum())
    alone = table[table["vms"] == 1]
    if many.empty:
        return f"No incident hit several VMs at once; {_alone(len(alone))}."
    return (
        f"{len(many):,} incident{'s' if len(many) > 1 else ''} of several VMs "
        f"explain{'' if len(many) > 1 else 's'} {explained} of the time missed; "
        f"{_alone(len(alone))}."
    )


def chronic(analysis: Analysis) -> list[str]:
    """Return a sentence for each VM that fails by itself more often than chance explains."""
    table = analysis.offenders
    return [
        formatting.printable(_rhythm(row, analysis.selection.tz))
        for row in table[table["chronic"]].to_dict("records")
    ]


def _rhythm(row: Mapping[Hashable, Any], zone: str) -> str:
    text = (
        f"{row['vm']} on {row['backup_server']}: {row['incidents']} times by itself, "
        f"about every {formatting.duration(row['every'])}"
    )
    told = [
        f"{formatting.whole_percent(row[f'{name}_share'])} {word}"
        f" (chance {formatting.chance(row[f'{name}_chance'])})"
        for name, word in (
            ("hour", f"within an hour from {row['hour']} {zone} on"), ("weekday", f"on a {row['weekday']}"),
        )
        if row[f"{name}_chance"] < 0.01
    ]  # fmt: skip
    return text + "".join(f"; {part}" for part in told)


def by_incident(analysis: Analysis) -> pd.DataFrame:
    """Return `Analysis.worst` with the incident that explains most of each VM's breached time."""
    return with_main_incident(analysis.worst, analysis.in_breach, KEYS)


def vms_in_order(analysis: Analysis, rows: int) -> pd.DataFrame:
    """Return VMs by the incident that explains most of them: of each of the first ones the worst.

    So that one incident of many VMs does not take all rows, no incident gets more than
    a share of them while others have VMs as well.
    """
    table = by_incident(analysis).sort_values(
        ["incident", "breached"], ascending=[True, False], kind="stable"
    )
    place = table.groupby("incident").cumcount()
    kept = table[place < max(rows // SHOWN, 1)].head(rows)
    rest = table.drop(kept.index).head(rows - len(kept))
    return pd.concat([kept, rest]).sort_values(
        ["incident", "breached"], ascending=[True, False], kind="stable", ignore_index=True
    )


def timeline_vms(analysis: Analysis) -> list[str] | None:
    """Return the names of the VMs for a timeline by incident; None where that is not the order."""
    if analysis.order != "incident":
        return None
    names = vms_in_order(analysis, _TIMELINE_ROWS)["vm"].astype("str")
    return list(dict.fromkeys(names))[:_TIMELINE_ROWS]


def vms_of(analysis: Analysis, number: int) -> pd.DataFrame:
    """Return the gaps of an incident."""
    return analysis.in_breach[analysis.in_breach["incident"] == number]


def _when(row: pd.Series, zone: str) -> str:
    if row["open"]:
        start = row["start"].tz_convert(zone)
        return f"{start.day} {start:%b %H:%M} on, still open"
    return formatting.between(row["start"], row["end"], zone)


def _cause(row: pd.Series) -> str:
    cause = str(row["cause"])
    if cause == _NO_SESSION:
        return "no session ran"
    verdict, _, reason = cause.partition(": ")
    text = (reason or verdict).splitlines()[0]
    text = shorten(text, _LONGEST_CAUSE, placeholder="…")
    mostly = "mostly " if row["cause_share"] < 1 else ""
    return mostly + text


def _listed(names: Sequence[str], plural: str) -> str:
    if len(names) > _NAMED:
        return f"{len(names)} {plural}"
    if not names:
        return f"unknown {plural}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _alone(count: int) -> str:
    if not count:
        return "no VM missed its RPO by itself"
    return f"{'once' if count == 1 else f'{count:,} times'} a VM missed its RPO by itself"
