"""The sessions that a question selects, and the terms they are judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from cdpanalytics import periods
from cdpanalytics.errors import InputError
from cdpanalytics.estate.context import Context
from cdpanalytics.frames import mark, vm_codes
from cdpanalytics.metrics.core.frames import words_of
from cdpanalytics.metrics.core.members import Members
from cdpanalytics.metrics.core.policies import listed_vms
from cdpanalytics.metrics.incidents import margin
from cdpanalytics.metrics.registry import REGISTRY, metric_columns
from cdpanalytics.narrowing import ALL_NAMES, Names, are_named, check_names, named
from cdpanalytics.patterns import Patterns
from cdpanalytics.schema import KEYS
from cdpanalytics.sources import FrameSource, Source, Window
from cdpanalytics.timeparse import Moment

_NO_CONTEXT = Context()
"""No estate file, no tags, no exclusions."""


@dataclass(frozen=True)
class SelectedSessions:
    """A period, names and terms over a source of sessions, which is read at most once.

    Its subclass `Selection` has the metrics. Methods that change the question return a new one.
    """

    source: Source
    since: Moment | None = None
    until: Moment | None = None
    names: Names = ALL_NAMES
    period: str | None = None
    tz: str = "UTC"
    target: object = None
    objective: float | None = None
    retire_after: object = None
    grace: object = None
    context: Context = _NO_CONTEXT
    memory: str | int | None = None
    workers: int | None = None
    client: Any = None

    # -- what is asked ---------------------------------------------------------------

    @cached_property
    def window(self) -> Window:
        """The period asked for, as instants; None where it has no bound."""
        return self.source.window(self.period, self.since, self.until, self.tz)

    @cached_property
    def start(self) -> pd.Timestamp | None:
        """Start of the window; the first session's start where the question has none."""
        since = self.window[0]
        if since is not None:
            return since
        begun = self._rows(("created",))["created"]
        return begun.min() if len(begun) else None

    @cached_property
    def stop(self) -> pd.Timestamp | None:
        """End of the window: the earlier of the period's end and as_of."""
        until, as_of = self.window[1], self.as_of
        return until if as_of is None else as_of if until is None else min(until, as_of)

    @property
    def as_of(self) -> pd.Timestamp | None:
        """The newest instant that the source has data for."""
        return self.source.as_of

    def as_of_by_source(self) -> dict[str, pd.Timestamp]:
        """Return the newest instant of the data of each server that was read."""
        return self.source.as_of_by_source()

    def dated_period(self, clock: pd.Timestamp | None = None) -> periods.Period | None:
        """Return the calendar period asked for with its dates; None where none was named.

        Parameters
        ----------
        clock : pandas.Timestamp, optional
            The time by this machine's clock: `Period.conflict` then says where it gives
            other dates than the newest fetch, from which "last month" counts.
        """
        if self.period is None:
            return None
        source = self.source
        base = source.counted_from if periods.is_length(self.period) else source.fetched
        return periods.period(self.period, self.tz, base, clock)

    def clip(self, since: pd.Timestamp, until: pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Return the part of a period that lies in this one."""
        first, last = self.window
        return (since if first is None else max(first, since)), (
            until if last is None else min(last, until)
        )

    def filters(self) -> list[str]:
        """Return the filters of the question, one text per filter."""
        narrowed = {"policy": self.names.policy, "VM": self.names.vm, "backup server": self.names.server,
                    **dict(self.names.tags), "RPO": self.target}  # fmt: skip
        return [
            f"{name}: {_listed(value)}" for name, value in narrowed.items() if value is not None
        ]

    def __repr__(self) -> str:
        asked = self.period or f"{self.since or 'first'} to {self.until or 'newest'}"
        period = f"{asked} {self.tz}"
        return f"Selection({', '.join([period, *self.filters()])} of {self.source!r})"

    def where(
        self,
        *,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        tag: Mapping[str, Patterns] | None = None,
    ) -> Self:
        """Return the same question for fewer VMs, policies or backup servers."""
        given = _given(policy=policy, vm=vm, server=server)
        tags = {**dict(self.names.tags), **(tag or {})}
        return replace(self, names=replace(self.names, **given, tags=tuple(tags.items())))

    def during(
        self, period: str | None = None, *, since: Moment | None = None, until: Moment | None = None
    ) -> Self:
        """Return the same question for another period."""
        return replace(self, since=since, until=until, period=period)

    def using(
        self, client: Any = None, *, memory: str | int | None = None, workers: int | None = None
    ) -> Self:
        """Return the same question, computed by ranges of VMs: on a Dask client, or on processes.

        Parameters
        ----------
        client : distributed.Client or str, optional
            A Dask client, or the address of its scheduler.
        memory : str or int, optional
            The memory of all processes together, like "1GB".
        workers : int, optional
            The number of processes. Default: one per CPU.
        """
        return replace(self, client=client, memory=memory, workers=workers)

    def with_terms(self, **terms: Any) -> Self:
        """Return the same question on other terms: `target`, `objective`, `exclude`, `retire_after`."""
        if "exclude" in terms:
            context = Context.of(
                self.context.estate, self.context.tags or False, terms.pop("exclude"), self.tz
            )
            terms["context"] = context
        return replace(self, **terms)

    def before(self) -> Self | None:
        """Return the same question for the period of equal length before; None without a start."""
        since, stop = self.window[0], self.stop
        if since is None or stop is None or since >= stop:
            return None
        return self.during(since=since - (stop - since), until=since)

    def pinned(
        self,
        columns: Sequence[str] | None = None,
        *,
        around: pd.Timedelta | None = None,
        with_before: bool = False,
    ) -> Self:
        """Return the same question of what it has read: `where` and `during` then read nothing more.

        It reaches as far beyond the window as `around` says, by default as far as incidents
        are looked for; `with_before` also over the period before. A question that is computed
        by ranges of VMs, or selects nothing, stays as it is.
        """
        if self._by_ranges:
            return self
        rows = self._widened(margin() if around is None else around, with_before)._rows(columns)
        if rows.empty:
            return self
        held = FrameSource(
            rows,
            self.source.policies(ALL_NAMES),
            self.holes,
            self.intervals,
            self.provenance(),
            self.source.first_days(),
            complete=self.source.complete,
        )
        since, until = self.window
        return replace(self, source=held, period=None, since=since, until=until)

    def reading(self, *metrics: str) -> Self:
        """Read at once what these metrics, or all, look at, and return the question itself.

        Without it each metric reads the columns that none before it has read. By ranges of VMs
        nothing is held, so nothing is read.
        """
        if not self._by_ranges:
            self._rows(metric_columns(*metrics))
        return self

    @property
    def _by_ranges(self) -> bool:
        if self.context.estate.renames:  # two names of one VM may lie in two ranges
            return False
        return not (self.client is None and self.memory is None and self.workers is None)

    def _widened(self, margin: pd.Timedelta, with_before: bool = False) -> Self:
        since, until = self.window
        if (since is None and until is None) or not margin:
            return self
        before = self.before() if with_before else None
        if since is not None:
            earliest = since if before is None else before.window[0] or since
            since = min(since - margin, earliest)
        return self.during(since=since, until=None if until is None else until + margin)

    # -- the data ----------------------------------------------------------------------

    def _rows(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return these columns of all sessions of the VMs asked about, read at most once."""
        wanted = None if columns is None else frozenset(columns)
        for held, rows in self._read.items():
            if held is None or (wanted is not None and wanted <= held):
                return rows
        rows = self._chosen(columns)
        self._read[None if wanted is None else wanted.union(rows.columns)] = rows
        return rows

    @cached_property
    def _read(self) -> dict[frozenset[str] | None, pd.DataFrame]:
        return {}

    def _chosen(self, columns: Sequence[str] | None) -> pd.DataFrame:
        """Read the VMs that have a session with the names asked for, under all their policies."""
        if not self.names.columns():
            return self.context.apply(self.source.frame(self.window, ALL_NAMES, columns))
        try:
            # The new name of a VM is known to the estate file only, so all names are read.
            names = ALL_NAMES if self.context.estate.renames else self.names
            rows = self.context.apply(self.source.frame(self.window, names, columns))
            check_names(rows, self.names)
        except InputError:
            # Names that exist but never meet select nothing; one that does not exist is refused.
            rows = self.context.apply(self.source.frame(self.window, ALL_NAMES, columns))
            if rows.empty:  # nothing to choose from: the answer is unknown, whatever is asked for
                return rows
            check_names(rows, self.names)
        chosen = are_named(rows, self.names)
        if self.names.policy is not None or self.names.tags:
            vm = vm_codes(rows)
            chosen = np.isin(vm, vm[chosen])
        return rows[chosen].reset_index(drop=True)

    @property
    def _frame(self) -> pd.DataFrame:
        """All columns."""
        return self._rows()

    @cached_property
    def _members(self) -> Members | None:
        """Whose time is asked about; None where it is that of all rows."""
        if self.names.policy is None and not self.names.tags:
            return None
        rows = self._rows(("policy",))
        if "policy" not in rows:
            return None
        chosen = named(rows, self.names)
        if len(chosen) == len(rows):
            return None
        columns = [name for name in KEYS if name in rows]
        return Members(chosen[columns].drop_duplicates().reset_index(drop=True))

    def frame(self) -> pd.DataFrame:
        """Return the sessions of the window and the neighbours that decide its edges.

        The columns `window`, `neighbour` and `terms` say for which question it was read. So
        ``df.cdp`` gives the same result as the selection, or an error.
        """
        _, terms, _ = REGISTRY["rpo_adherence"].parse(**self._terms)
        words = words_of(terms, self.tz)
        if self._members is not None:
            words.append(f"members={self._members.label()}")
        return mark(self._frame, *self.window, self.as_of, words)

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """The sessions that begin in the window."""
        rows = named(self.frame(), self.names)
        return rows[~rows["neighbour"]].drop(columns="neighbour").reset_index(drop=True)

    @cached_property
    def policies(self) -> pd.DataFrame | None:
        """Settings of the policies, as they were at each sync."""
        policies = self.source.policies(self.names)
        if policies is None or "vms" not in policies:
            return policies
        if not (self.context.names or self.context.estate.renames or self.names.tags):
            return policies
        return policies.assign(**self._listed(policies))

    def _listed(self, policies: pd.DataFrame) -> dict[str, pd.Series]:
        """Return the VMs that each policy names, as `vms` and `tags`.

        They have their new names; where tags are asked for, only those that have them.
        """
        keys = [name for name in ("backup_server", "policy") if name in policies]
        vms = policies[[*keys, "vms"]].explode("vms").rename(columns={"vms": "vm"})
        vms = self.context.apply(vms.dropna(subset=["vm"]).astype("str"))
        if {name for name, _ in self.names.tags} <= set(vms):
            vms = named(vms, Names(tags=self.names.tags))
        else:  # a column of somebody's own frame: no policy says it of a VM
            vms = vms.iloc[:0]
        tags = vms[list(self.context.names)].astype(object).to_dict("records")
        each = {"vms": vms["vm"], "tags": pd.Series(tags, vms.index, dtype=object)}
        lists = {name: of.groupby(level=0).agg(list).to_dict() for name, of in each.items()}
        return {
            name: pd.Series(
                [of.get(row, []) for row in policies.index], policies.index, dtype=object
            )
            for name, of in lists.items()
        }

    @cached_property
    def holes(self) -> pd.DataFrame:
        """Stretches that were never fetched."""
        return self.source.holes()

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """Restorable intervals of the selected VMs in the window."""
        return self._journal(self.window)

    def _journal(self, window: Window) -> pd.DataFrame:
        """Return the restorable intervals of the selected VMs, with their new names and tags."""
        rows = self.context.apply(self.source.intervals(window))
        return named(rows, self.names).reset_index(drop=True)

    def provenance(self) -> dict[str, Any]:
        """Return where the sessions come from: sources, files, rows, SHA-256."""
        return {**self.source.provenance(self.window), "estate": self.context.files}

    # -- the terms ---------------------------------------------------------------------

    @property
    def _vm_names(self) -> Names:
        """The names of VMs to read by ranges: with a filter of policies or tags, those that fit."""
        if self.names.policy is None and not self.names.tags:
            return self.names
        vms = self._rows(("policy",))["vm"].astype("str").unique().tolist()
        return Names(vm=vms, server=self.names.server)

    @cached_property
    def _terms(self) -> dict[str, object]:
        """The question as arguments of a metric."""
        since, until = self.window
        return {
            "since": since, "until": until, "policies": self.policies, "target": self.target, "tz": self.tz,
            "unobserved": self.holes if len(self.holes) else None, "exclude": self._excluded,
            "retire_after": self.retire_after, "grace": self.grace, "schedule_tz": self._schedule_zones,
        }  # fmt: skip

    @cached_property
    def _excluded(self) -> pd.DataFrame | None:
        """Exclusions with exact names, of all the time that can matter."""
        if not self.context.exclusions:
            return None
        rows = self._rows(("vm", "policy", "backup_server", "created"))
        first = rows["created"].min() if len(rows) else self.start
        if first is None or self.as_of is None:
            return None
        known = self._with_listed(rows, self.policies)
        return self.context.windows(known, first, max(self.as_of, first) + pd.Timedelta("1us"))

    def _with_listed(self, rows: pd.DataFrame, policies: pd.DataFrame | None) -> pd.DataFrame:
        """Return rows with the VMs that a policy names and no session does: they can be excluded too."""
        listed = listed_vms(policies, with_server="backup_server" in rows)
        columns = [name for name in KEYS if name in rows]
        if not len(listed) or not set(columns) <= set(listed):
            return rows
        return self.context.apply(
            pd.concat(
                [rows[columns].astype("str"), listed[columns].astype("str")], ignore_index=True
            ).drop_duplicates(ignore_index=True)
        )

    @cached_property
    def _schedule_zones(self) -> dict[str, str] | None:
        """Zones of the backup servers that the estate file knows."""
        if not self.context.estate.zones:
            return None
        servers = self._rows(("backup_server",))["backup_server"].dropna().astype("str").unique()
        return self.context.schedule_zones(sorted(servers)) or None

    @property
    def exclusions(self) -> pd.DataFrame:
        """The exclusions: one row per window and name, with reason, owner, source and line."""
        columns = [
            "start",
            "end",
            "backup_server",
            "policy",
            "vm",
            "reason",
            "owner",
            "source",
            "line",
        ]
        return pd.DataFrame(columns=columns) if self._excluded is None else self._excluded[columns]

    def findings(self) -> list[str]:
        """Return what looks wrong in the estate file and its tables, one line per finding.

        These are: rows of tags, exclusions and the estate file that fit nothing; VMs without a
        tag; and backup servers whose schedules are read as UTC, because the estate file does
        not name their zone. Names are compared with all VMs of the period.
        """
        if self.start is None or self.stop is None:
            return []
        return [*self._fit_nothing(), *self._unknown_renames(), *self._schedules_in_utc()]

    def missing_start(self) -> list[str]:
        """Return one line for each server whose first session is later than the start of the period."""
        start = self.window[0]
        if start is None:
            return []
        # The first day of a length such as 30D is seldom whole: a day less needs no remark.
        return [
            f"the archive has no sessions of {name} before {day:%Y-%m-%d}: the time before is in no figure"
            for name, day in self.source.first_days().items()
            if day - start > pd.Timedelta("1D")
        ]

    def _fit_nothing(self) -> list[str]:
        """Return what the customer names and no VM of the period has; of no words nothing is read."""
        start, stop = self.start, self.stop
        if self.context.names_nothing or start is None or stop is None:
            return []
        columns = ("vm", "policy", "backup_server")
        narrowed = self.names.columns()
        everyone = self.context.apply(self._stored(columns)) if narrowed else self._rows(columns)
        rows = self._with_listed(everyone, self.source.policies(ALL_NAMES))
        return self.context.findings(rows, start, max(stop, start))

    def _stored(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns of all VMs as they are stored, with their old names."""
        return self.source.frame(self.window, ALL_NAMES, columns)

    def _unknown_renames(self) -> list[str]:
        """Return the renames of VMs that never were; only a question about all time can tell."""
        estate = self.context.estate
        if not estate.renames or self.window != (None, None):
            return []
        return list(map(str, estate.unknown_renames(self._stored(("vm",)))))

    def _schedules_in_utc(self) -> list[str]:
        """Return one line where schedules are of backup servers whose zone is not known."""
        policies = self.policies
        if policies is None or not {"schedule", "backup_server"} <= set(policies):
            return []
        servers = policies.loc[policies["schedule"].notna(), "backup_server"].dropna().astype("str")
        selected = set(self._rows(("backup_server",))["backup_server"].dropna().unique())
        unknown = sorted(set(servers) & selected - set(self._schedule_zones or {}))
        if not unknown:
            return []
        return [
            f"schedules of {', '.join(unknown)} are read as UTC; name their zone under [zones] in cdpanalytics.toml"
        ]


def _listed(value: object) -> str:
    return (
        str(value)
        if isinstance(value, str) or not isinstance(value, Sequence)
        else ", ".join(map(str, value))
    )


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
