"""Judge a question as monitoring systems expect it: a plugin's lines, or gauges for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.groups import count, rows_by
from cdpanalytics.metrics.core.states import STATES
from cdpanalytics.presentation import formatting
from cdpanalytics.presentation import verdicts as verdict_rule
from cdpanalytics.schema import KEYS

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

UNKNOWN: Final = verdict_rule.NAMES[verdict_rule.UNKNOWN]
_EXIT_CODES: Final = {name: code for code, name in enumerate(verdict_rule.NAMES)}
"""The return codes of the Monitoring Plugins Development Guidelines."""

MAX_AGE: Final = "26h"
"""A daily sync, and two hours for it to end."""


@dataclass(frozen=True)
class Limits:
    """When a group is critical or a warning, and how old the archive may be.

    Parameters
    ----------
    critical : float, optional
        The share below which adherence is critical. Default: each group's objective.
    warning : float, optional
        The share below which it is a warning. Default: none.
    max_age : pandas.Timedelta
        Age of the oldest source above which nothing is known.
    """

    critical: float | None = None
    warning: float | None = None
    max_age: pd.Timedelta = field(default_factory=lambda: pd.Timedelta(MAX_AGE))

    def __post_init__(self) -> None:
        if None not in (self.critical, self.warning) and self.warning < self.critical:  # type: ignore[operator]
            raise InputError(
                f"--warning {formatting.share(self.warning)} is below --critical "  # type: ignore[arg-type]
                f"{formatting.share(self.critical)}, so it would never be reached; exchange them"  # type: ignore[arg-type]
            )


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The state of each group of a question, worst first.

    Parameters
    ----------
    table : pandas.DataFrame
        The rows of `metrics.objectives` with the columns `state` and one per state of a VM
        (`vms_breached`, `vms_protected`, ...): how many are in it at the end.
    keys : sequence of str
        What makes a group.
    as_of : mapping
        The newest instant of the data of each source.
    now : pandas.Timestamp
        The time by this machine's clock.
    stale : bool
        Whether the oldest source is older than allowed.
    limits : Limits
    tz : str
        Zone of the times in the text.
    """

    table: pd.DataFrame
    keys: Sequence[str]
    as_of: Mapping[str, pd.Timestamp]
    now: pd.Timestamp
    stale: bool
    limits: Limits
    tz: str

    @property
    def state(self) -> str:
        """The worst state of all groups; unknown where there are none."""
        codes = self.table["state"].map(_EXIT_CODES)
        return verdict_rule.NAMES[verdict_rule.worst(codes)]

    @property
    def exit_code(self) -> int:
        """The return code of the worst state."""
        return _EXIT_CODES[self.state]


def judge(selection: Selection, by: Sequence[str], limits: Limits, now: pd.Timestamp) -> Verdicts:
    """Return the state of each group of a question.

    The rule is `verdicts.verdicts`. All are UNKNOWN where the archive is older than
    `Limits.max_age`, unless the period ended before its newest data.

    Parameters
    ----------
    selection : Selection
        The question.
    by : sequence of str
        What makes a group: `backup_server`, `policy`, `vm` and tags.
    limits : Limits
    now : pandas.Timestamp
        The time by this machine's clock.

    Raises
    ------
    InputError
        When groups cannot be made by a column of `by`.
    """
    columns = (*KEYS, *selection.context.names)
    for key in by:
        if key not in columns:
            raise InputError(f"check has no groups by {key!r}; use {', '.join(columns)}")
    table = selection.reading("objectives", "status").objectives(by=by)
    counts = _counts(selection, table, by)
    as_of, end = selection.as_of_by_source(), selection.window[1]
    oldest = min(as_of.values(), default=None)
    stale = oldest is not None and now - oldest > limits.max_age and (end is None or end > oldest)
    numbers = verdict_rule.verdicts(
        table, counts["vms_breached"], critical=limits.critical, warning=limits.warning, stale=stale
    )
    states = [verdict_rule.NAMES[number] for number in numbers]
    table = table.assign(state=pd.Series(states, index=table.index, dtype="str"), **counts)
    rank = table["state"].map(_EXIT_CODES).map(verdict_rule.WORST_FIRST.index)
    order = table.assign(rank=rank).sort_values(["rank", "adherence"], kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    return Verdicts(table, list(by), as_of, now, stale, limits, selection.tz)


def _counts(selection: Selection, table: pd.DataFrame, by: Sequence[str]) -> dict[str, pd.Series]:
    """Return how many VMs of each group are in each state at the end."""
    status = selection.status()
    row = rows_by(table, status, by)
    return {
        _column_of(state): pd.Series(count(row, len(table), status["state"].eq(state).to_numpy()))
        for state in STATES
    }


def _column_of(state: str) -> str:
    return f"vms_{state.replace(' ', '_')}"


# -- the plugin's text ------------------------------------------------------------------------


def plugin_text(verdicts: Verdicts) -> str:
    """Return the lines of a monitoring plugin: the worst first, then one per group.

    The first line has the state, the worst group and the as-of date, and after a ``|`` the
    age of the archive and the number of groups by state. The adherence of each group follows
    as performance data after the last line, as the guidelines place it in a long output.
    """
    table = verdicts.table
    newest = _as_of(verdicts)
    counts = table["state"].value_counts()
    data = [f"'{state}'={int(counts.get(state, 0))}" for state in _EXIT_CODES]
    if newest is not None:
        data.insert(
            0, f"'age'={_age(verdicts):.0f}s;;{verdicts.limits.max_age.total_seconds():.0f}"
        )
    lines = [f"{_first_line(verdicts)} | {' '.join(data)}"]
    lines += [f"{row['state']} {_name(row, verdicts)}: {_text(row)}" for row in _rows(table)]
    performance = [
        _performance(row, verdicts) for row in _rows(table) if pd.notna(row["adherence"])
    ]
    if performance:
        lines[-1] += f" | {performance[0]}"
    return "".join(f"{line}\n" for line in [*lines, *performance[1:]])


def _first_line(verdicts: Verdicts) -> str:
    table, oldest = verdicts.table, _as_of(verdicts)
    if table.empty or oldest is None:
        return f"{UNKNOWN}: no session matches the selection"
    as_of = f"as of {formatting.instant(oldest.tz_convert(verdicts.tz))} {verdicts.tz}"
    if verdicts.stale:
        age = formatting.duration(pd.Timedelta(_age(verdicts), unit="s"))
        allowed = formatting.duration(verdicts.limits.max_age)
        return f"{UNKNOWN}: the newest data is {age} old, more than {allowed}; {as_of}; run cdpanalytics sync"
    worst = _rows(table)[0]
    groups = f"{int((table['state'] == verdicts.state).sum()):,} of {len(table):,} groups {verdicts.state}"
    return f"{verdicts.state}: {_name(worst, verdicts)} {_text(worst)}; {groups}; {as_of}"


def _text(row: Mapping[str, Any]) -> str:
    """Return what was promised to a group, what was kept, and how its VMs are at the end."""
    goal = (
        "objectives of its VMs"
        if pd.isna(row["objective"])
        else f"objective {formatting.share(row['objective'])}"
    )
    if pd.isna(row["adherence"]):
        return f"{formatting.why_unknown(row)}; {goal}"
    parts = [
        f"within RPO {formatting.share(row['adherence'])} of {formatting.duration(row['observed'])}", goal,
        f"used {formatting.duration(row['spent'])} of the allowed {formatting.duration(row['budget'])}",
    ]  # fmt: skip
    ends = {
        "breached": row["vms_breached"],
        "unknown": row["vms_unknown"],
        "never seen": row["vms_never_seen"],
    }
    parts += [
        f"{count:,} of {row['vms']:,} VMs {state} at the end"
        for state, count in ends.items()
        if count
    ]
    return ", ".join(parts)


def _performance(row: Mapping[str, Any], verdicts: Verdicts) -> str:
    """Return a group's adherence as performance data; its ranges alert below a share."""
    limits = verdicts.limits
    critical = row["objective"] if limits.critical is None else limits.critical
    ranges = [
        "" if share is None or pd.isna(share) else f"{_percent(share)}:"
        for share in (limits.warning, critical)
    ]
    label = _name(row, verdicts).replace("'", "''").replace("=", "_")
    return f"'{label}'={_percent(row['adherence'])}%;{ranges[0]};{ranges[1]};0;100"


def _percent(share: float) -> str:
    return f"{100 * share:.6f}".rstrip("0").rstrip(".")


def _name(row: Mapping[str, Any], verdicts: Verdicts) -> str:
    """Return the name of a group; the sign that begins performance data cannot be part of it."""
    name = " / ".join(formatting.word("", row[key]) for key in verdicts.keys) or "all"
    return name.replace("|", "\N{BROKEN BAR}")


def _as_of(verdicts: Verdicts) -> pd.Timestamp | None:
    return min(verdicts.as_of.values(), default=None)


def _age(verdicts: Verdicts) -> float:
    oldest = _as_of(verdicts)
    return 0.0 if oldest is None else max(0.0, (verdicts.now - oldest).total_seconds())


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


# -- the gauges of Prometheus -----------------------------------------------------------------

_GAUGES: Final = (
    ("cdp_adherence_ratio", "Share of the observed time within the RPO.", "adherence"),
    ("cdp_objective_ratio", "Adherence promised.", "objective"),
    ("cdp_observed_seconds", "Observed VM-time in the period.", "observed"),
    ("cdp_breached_seconds", "Breached VM-time in the period.", "breached"),
    ("cdp_budget_seconds", "Breached VM-time that the objective allows in the period.", "budget"),
    ("cdp_vms_undecided", "VMs never seen, or unknown at the end.", "undecided"),
)


def prometheus_text(verdicts: Verdicts) -> str:
    """Return gauges in Prometheus' text format 0.0.4, as a textfile collector reads them.

    What is not known has no line, never a zero. There are no time stamps, which the
    collector refuses: `cdp_as_of_timestamp_seconds` says how new the data of a source is.
    """
    table = verdicts.table.assign(breached=verdicts.table["spent"])
    groups = [{_label_of(key): row[key] for key in verdicts.keys} for row in _rows(table)]
    rows = [(_labels(group), row) for group, row in zip(groups, _rows(table), strict=True)]
    lines: list[str] = []
    for name, description, column in _GAUGES:
        lines += _gauge(name, description, ((label, row[column]) for label, row in rows))
    states = [_column_of(state) for state in STATES]
    lines += _gauge("cdp_vms", "VMs by their state at the end of the period.", (
        (_labels({**group, "state": state.removeprefix("vms_")}), row[state])
        for group, (_, row) in zip(groups, rows, strict=True) for state in states
    ))  # fmt: skip
    lines += _gauge("cdp_check_state", "State of the check: 0 ok, 1 warning, 2 critical, 3 unknown.",
                    ((label, _EXIT_CODES[row["state"]]) for label, row in rows))  # fmt: skip
    sources = [(_labels({"source": name}), as_of) for name, as_of in verdicts.as_of.items()]
    lines += _gauge("cdp_as_of_timestamp_seconds", "The newest instant that a source has data for, Unix time.",
                    ((label, as_of.timestamp()) for label, as_of in sources))  # fmt: skip
    lines += _gauge("cdp_archive_age_seconds", "Age of the oldest source when this was written.",
                    [("", _age(verdicts))] if sources else [])  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def _gauge(name: str, description: str, samples: Any) -> Iterator[str]:
    yield f"# HELP {name} {description}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        if pd.isna(value):
            continue
        number = value.total_seconds() if isinstance(value, pd.Timedelta) else value
        yield f"{name}{labels} {float(number)!r}"


def _labels(labels: Mapping[str, Any]) -> str:
    if not labels:
        return ""
    pairs = (
        f'{name}="{_escaped("" if pd.isna(value) else str(value))}"'
        for name, value in labels.items()
    )
    return "{" + ",".join(pairs) + "}"


def _label_of(key: str) -> str:
    """Return the label of a key: that of a tag begins with tag_, for it could be named "state"."""
    if key in KEYS:
        return key
    return "tag_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in key)


def _escaped(value: str) -> str:
    printable = formatting.printable(value)
    return printable.replace("\\", r"\\").replace('"', r"\"")
