"""Tables that the report and the explorer share; each number is a metric of a Selection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.ranking import ranked
from cdpanalytics.metrics.registry import metric_columns
from cdpanalytics.metrics.sides import Sides
from cdpanalytics.presentation.drawing import seconds
from cdpanalytics.presentation.plain import is_missing
from cdpanalytics.schema import KEYS, VM

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection


_DAYS_SHOWN = 62
"""A longer period is drawn by weeks instead of days."""

ROWS_SHOWN = 30
"""VMs in the heat map."""

ORDERS = ("breached", "incident")
"""Orders of the VMs in heat map and timeline."""

_FEW = 2
"""Where at most one VM in so many is asked about, periods are computed of these alone."""

_HELD_TO_COMPARE = 0.9

_BREACH = ["backup_server", "vm", "policy", "start", "end", "open", "exposure", "breached", "cause",
           "incident"]  # fmt: skip
"""The columns of `Selection.gaps`."""

TARGETS = ("15s", "1min", "5min", "15min", "1h", "4h")
"""Targets of the what-if table."""


class Analysis:
    """The tables that answer a question; each is computed when it is first used.

    Parameters
    ----------
    selection : Selection
        The question.
    order : {"breached", "incident"}
        Order of the VMs in heat map and timeline: most breached time first, or by the
        incident that explains most of it.
    sides : str or triple, optional
        Two groups that are compared, as `Selection.compare` takes them.
    by : str
        The column whose values are the groups of objectives, adherence, durations, sizes and
        changes: `policy`, `backup_server` or a tag.

    Raises
    ------
    InputError
        When the order is not known, or `by` is not the name of one column.
    """

    def __init__(
        self,
        selection: Selection,
        order: str = "breached",
        *,
        sides: str | Sequence[str] | None = None,
        by: str = "policy",
    ) -> None:
        if not isinstance(by, str) or not by.strip():
            raise InputError(f"by={by!r} is not one column; use policy, backup_server or a tag")
        if order not in ORDERS:
            raise InputError(f"order={order!r} is not known; use {' or '.join(ORDERS)}")
        self.selection = selection
        self.order = order
        self.by = by
        self._sides = sides

    @cached_property
    def sides(self) -> Sides | None:
        """The two groups that are compared; None where none are asked for."""
        return Sides.parse(self._sides) if self._sides else None

    @property
    def start(self) -> pd.Timestamp | None:
        """Start of the window; None for an empty selection without one."""
        return self.selection.start

    @property
    def stop(self) -> pd.Timestamp | None:
        """End of the window: the earlier of the period's end and as_of."""
        return self.selection.stop

    @cached_property
    def freq(self) -> str:
        """Days; weeks where there would be too many days to draw."""
        if self.start is None or self.stop is None:
            return "D"
        return "D" if self.stop - self.start <= pd.Timedelta(days=_DAYS_SHOWN) else "W"

    @cached_property
    def whole(self) -> pd.Series:
        """Adherence of all VMs together."""
        return self.selection.rpo_adherence(by=()).iloc[0]

    @cached_property
    def objective(self) -> pd.Series:
        """The objective of all VMs together."""
        return self.selection.objectives(by=()).iloc[0]

    @cached_property
    def vms(self) -> pd.DataFrame:
        """Adherence by VM."""
        return self.selection.rpo_adherence(by=KEYS)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """Adherence by group."""
        return self.selection.rpo_adherence(by=self.by)

    @cached_property
    def objectives(self) -> pd.DataFrame:
        """The objective by group."""
        return self.selection.objectives(by=self.by)

    @cached_property
    def periods(self) -> pd.DataFrame:
        """Adherence by VM and period."""
        return self.selection.rpo_adherence(by=KEYS, freq=self.freq)

    def periods_of(self, vms: pd.DataFrame) -> pd.DataFrame:
        """Adherence by VM and period of at least these VMs: a map draws few of many."""
        named = vms["vm"].notna().all() and self.start is not None
        if not named or "periods" in self.__dict__ or len(vms) * _FEW > len(self.vms):
            return self.periods
        few = self.selection.where(vm=vms["vm"].astype("str").unique().tolist())
        # Their first session may be later than the first of all.
        few = few.during(since=self.start, until=self.selection.window[1])
        return few.rpo_adherence(by=KEYS, freq=self.freq)

    @cached_property
    def status(self) -> pd.DataFrame:
        """How each VM is at the end of the window, as it was known then, worst first."""
        return self.selection.status()

    @cached_property
    def unprotected(self) -> pd.DataFrame:
        """The VMs that nothing protects at the end, the longest first."""
        late = self.status[uncovered(self.status)]
        return late.sort_values(["since", *KEYS], kind="stable", ignore_index=True)

    @cached_property
    def gaps(self) -> pd.DataFrame:
        """Every gap."""
        return self.selection.gaps()

    @cached_property
    def breaches(self) -> pd.DataFrame:
        """The gaps in breach inside the window, longest first.

        `exposure` is the length of the whole gap; `breached` only what lies inside the window,
        so that its sum is that of adherence.
        """
        inside = self.in_breach.assign(breached=self.in_breach["inside"])[_BREACH]
        return inside.sort_values("exposure", ascending=False, kind="stable", ignore_index=True)

    @cached_property
    def durations(self) -> pd.DataFrame:
        """Durations of finished sessions by group."""
        return self.selection.durations(by=self.by)

    @cached_property
    def _has_sizes(self) -> bool:
        return "total_size" in self.selection.sessions

    @cached_property
    def sizes(self) -> pd.DataFrame:
        """Sizes by group and day; no rows where the sessions have no sizes."""
        if not self._has_sizes:
            return pd.DataFrame(columns=[self.by, "period", "vms", "sessions", "size", "rolling"])
        return self.selection.sizes(by=self.by)

    @cached_property
    def trends(self) -> pd.DataFrame:
        """Size trends by group; no rows where the sessions have no sizes."""
        if not self._has_sizes:
            return pd.DataFrame(columns=[self.by, "periods", "size", "slope", "projected"])
        return self.selection.size_trend(by=self.by)

    @cached_property
    def vm_trends(self) -> pd.DataFrame:
        """Size trends by VM; no rows where the sessions have no sizes."""
        if not self._has_sizes:
            return pd.DataFrame(columns=[*KEYS, "periods", "size", "slope", "projected"])
        return self.selection.size_trend(by=KEYS)

    @cached_property
    def what_if(self) -> pd.DataFrame:
        """Adherence of all VMs together under other targets."""
        return self.selection.what_if(TARGETS)

    @cached_property
    def journal(self) -> pd.DataFrame:
        """The RPO achieved, by KEYS, worst first; no rows without restorable intervals."""
        table = self.selection.journal_adherence(by=KEYS)
        return table.sort_values(["adherence", *KEYS], kind="stable", ignore_index=True)

    @cached_property
    def worst(self) -> pd.DataFrame:
        """VMs that missed their target, most breached time first."""
        table = ranked(self.vms, KEYS)
        return table[table["breached"].notna()]

    @cached_property
    def incidents(self) -> pd.DataFrame:
        """What broke protection, of how many VMs at once, most breached time first."""
        return self.selection.incidents()

    @cached_property
    def in_breach(self) -> pd.DataFrame:
        """The gaps in breach inside the window, each with its incident."""
        return self.selection.breaches()

    @cached_property
    def offenders(self) -> pd.DataFrame:
        """VMs that missed their target again and again by themselves."""
        return self.selection.offenders()

    @cached_property
    def causes(self) -> pd.DataFrame:
        """Causes of breaches, most breached time first."""
        names = self.breaches["backup_server"].fillna("") + "/" + self.breaches["vm"].fillna("")
        table = self.breaches.assign(vm=names).groupby("cause", sort=True).agg(
            breaches=("cause", "size"), vms=("vm", "nunique"), breached=("breached", "sum"),
            first=("start", "min"), last=("end", "max"),
        ).reset_index()  # fmt: skip
        table.insert(4, "explains", (table["breached"] / table["breached"].sum()).astype(float))
        return table.sort_values("breached", ascending=False, kind="stable", ignore_index=True)

    @cached_property
    def before_held(self) -> pd.Timedelta:
        """How much of the period before the data reaches back to."""
        if self.before is None or self.before.window[0] is None or self.start is None:
            return pd.Timedelta(0)
        first = self.before._rows(("created",))["created"].min()
        since = self.before.window[0]
        return max(self.start - (since if pd.isna(first) else max(since, first)), pd.Timedelta(0))

    @property
    def comparable(self) -> bool:
        """Whether the data holds nearly all of the period before: less says nothing fair."""
        if self.before is None or self.before.window[0] is None or self.start is None:
            return False
        return self.before_held >= _HELD_TO_COMPARE * (self.start - self.before.window[0])

    @cached_property
    def before(self) -> Selection | None:
        """The question asked of the period before; None where the selection has no start."""
        return self.selection.before()

    def compared(self, by: list[str]) -> pd.DataFrame:
        """Adherence beside that of the period before, largest change first."""
        return self.selection.compare(by=by)

    @property
    def side_key(self) -> str:
        """The column by which two sides are shown in detail: one in which they do not differ."""
        differs = self.sides is not None and self.sides.column == "policy"
        return "backup_server" if differs else "policy"

    def side_by_side(self, by: list[str]) -> pd.DataFrame:
        """Adherence of the two sides, largest difference first."""
        return self.selection.compare(by=by, sides=self.sides)

    @cached_property
    def quality(self) -> pd.DataFrame:
        """Findings about the sessions of the window, only those with sessions."""
        table = self.selection.quality()
        return table[table["sessions"] > 0].reset_index(drop=True)

    @cached_property
    def never_seen(self) -> pd.DataFrame:
        """VMs that a policy names and no session does."""
        return self.vms[self.vms["observed"].eq(pd.Timedelta(0)) & self.vms["sessions"].eq(0)]

    @cached_property
    def exclusions(self) -> pd.DataFrame:
        """Each exclusion with what it left out; `file` is what `Selection.left_out` calls its source."""
        return self.selection.left_out().rename(columns={"source": "file"})


def uncovered(status: pd.DataFrame) -> pd.Series:
    """Return which rows of `Selection.status` are VMs that nothing protects."""
    return status["state"].isin(["breached", "exposed"])


EXCLUDED = ["start", "end", "reason", "owner", "source", "line"]
"""Columns that make one exclusion."""


def left_out(selection: Selection) -> pd.DataFrame:
    """Return one row per exclusion with the observed time that it left out: `Selection.left_out`."""
    table = selection.exclusions
    start, stop = selection.start, selection.stop
    none = pd.DataFrame(columns=[*EXCLUDED, "vms", "left_out", "breached_left_out"])
    if table.empty or start is None or stop is None or start >= stop:
        return none
    table = table[(table["end"] > start) & (table["start"] < stop)]
    everything = selection.pinned(metric_columns(), around=pd.Timedelta(0)).with_terms(
        exclude=False
    )
    rows = []
    for _, windows in table.groupby(["start", "end"], sort=True):
        since, until = windows["start"].iloc[0], windows["end"].iloc[0]
        inside = everything.during(since=max(since, start), until=min(until, stop))
        observed = inside.rpo_adherence(by=KEYS)
        for names, window in windows.groupby(EXCLUDED, sort=False, dropna=False):
            concerned = observed[_named_by(window, observed)]
            rows.append({
                **dict(zip(EXCLUDED, names, strict=True)),
                "vms": int((concerned["observed"] > pd.Timedelta(0)).sum()),
                "left_out": concerned["observed"].sum(), "breached_left_out": concerned["breached"].sum(),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(none)) if rows else none


def _named_by(window: pd.DataFrame, observed: pd.DataFrame) -> pd.Series:
    """Return which VMs the rows of one exclusion name; an empty name is everyone's."""
    concerned = pd.Series(False, index=observed.index)
    for names in window[KEYS].to_dict("records"):
        fits = pd.Series(True, index=observed.index)
        for column, name in names.items():
            if not pd.isna(name):
                fits &= observed[column].astype("str").eq(str(name)).fillna(False)
        concerned |= fits
    return concerned


def heat_map_rows(analysis: Analysis) -> pd.DataFrame:
    """Return the worst VMs, as rows of `Analysis.worst`: policies with most breached time first."""
    # The order of policies is that of all their VMs, not only of those that there is room for.
    total = analysis.worst.groupby("policy", dropna=False)["breached"].transform("sum")
    shown = analysis.worst.assign(total=total).head(ROWS_SHOWN)
    # Within a policy they stay in the order of their breached time.
    shown = shown.sort_values("policy", kind="stable")
    return shown.sort_values("total", ascending=False, kind="stable")


def periods_by_vm(analysis: Analysis, vms: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `Analysis.periods` of some VMs, in their order and that of time.

    The column `position` is that of the VM in `vms`.
    """
    rows = analysis.periods_of(vms)
    place = {names_in(vm, KEYS): number for number, vm in enumerate(vms.to_dict("records"))}
    rows = rows.assign(position=[place.get(names, -1) for names in _names_of(rows, KEYS)])
    # The periods of a VM are in order.
    placed = rows[rows["position"] >= 0]
    return placed.sort_values("position", kind="stable", ignore_index=True)


def with_vm_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose VMs have their backup server and name as text, empty where unknown."""
    return table.assign(**{n: _text(table[n]) if n in table else "" for n in VM})


def rows_by_vm(table: pd.DataFrame, vms: Collection[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    """Return the rows of the VMs with these names, by backup server and name as text.

    A few VMs are drawn of many: to part the rows of all would take longer than the picture.
    """
    groups = with_vm_names(_of_vms(table, vms)).groupby(VM)
    return {(str(server), str(vm)): rows for (server, vm), rows in groups}


def causes_by_vm(
    gaps: pd.DataFrame, vms: Collection[str]
) -> dict[tuple[str, ...], list[tuple[float, float, str]]]:
    """Return start and end of the gaps of the same VMs, in seconds since 1970, and their causes."""
    rows = _of_vms(gaps, vms)
    told = zip(*(seconds(rows[n]).tolist() for n in ("start", "end")), rows["cause"], strict=True)
    found: dict[tuple[str, ...], list[tuple[float, float, str]]] = {}
    for vm, gap in zip(_names_of(rows, VM), told, strict=True):
        found.setdefault(vm, []).append(gap)
    return found


def _of_vms(table: pd.DataFrame, vms: Collection[str]) -> pd.DataFrame:
    chosen = table["vm"].isin(vms)
    if "" in vms:
        chosen |= table["vm"].isna()
    return table[chosen]


def _text(names: pd.Series) -> pd.Series:
    return names.astype("str").fillna("")


def _names_of(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Return the names in each row, as `names_in` returns those of one."""
    return zip(*(_text(table[name]) for name in columns), strict=True)


def names_in(row: Mapping[Any, Any] | pd.Series, columns: Sequence[str] = VM) -> tuple[str, ...]:
    """Return the names in a row, empty where unknown: its VM, as `with_vm_names` writes it."""
    return tuple("" if is_missing(row[name]) else str(row[name]) for name in columns)
