"""A question as an object: which sessions, of which period, on which terms; every metric is a method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from cdpanalytics import timeparse
from cdpanalytics.errors import InputError
from cdpanalytics.estate.context import Context
from cdpanalytics.execution.run import run
from cdpanalytics.frames import mark
from cdpanalytics.metrics.core.breaches import Breaches
from cdpanalytics.metrics.core.clusters import LONGEST
from cdpanalytics.metrics.core.frames import words_of
from cdpanalytics.metrics.core.incidents import LEAST, MERGE, WITHIN, Incidents
from cdpanalytics.metrics.core.members import Members
from cdpanalytics.metrics.core.policies import listed_vms
from cdpanalytics.metrics.core.question import columns_of
from cdpanalytics.metrics.incidents import (
    BREACHES,
    found_in,
    gaps_of,
    incident_gaps,
    margin,
    with_incidents,
    with_main_incident,
)
from cdpanalytics.metrics.offenders import offenders_in
from cdpanalytics.metrics.registry import REGISTRY, MetricSpec
from cdpanalytics.patterns import Patterns
from cdpanalytics.sources import (
    ALL_NAMES,
    Ask,
    FrameSource,
    Names,
    Source,
    Tagged,
    Window,
    check_names,
    named,
)
from cdpanalytics.timeparse import Moment, share

if TYPE_CHECKING:
    from cdpanalytics.explorer import Explorer
    from cdpanalytics.plots.bound import Plots

By = str | Sequence[str]
DEFAULT_OBJECTIVE = 0.999
NO_CONTEXT = Context()
"""No estate file, no tags, no exclusions."""

JOURNAL = pd.Timedelta("8D")
"""How far back recovery points are looked for: short-term retention is seven days at most."""

_BY: By = ("policy", "vm")
_VM = ["backup_server", "policy", "vm"]


@dataclass(frozen=True)
class Selection:
    """Sessions of a period and the terms they are judged on: a question that metrics answer.

    It is made by `Archive.select` or ``df.cdp.select``, never changes, and reads nothing
    until a metric is asked. Two questions about the same sessions differ only in what the
    methods take: `by`, `freq`, `target`.
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
    context: Context = NO_CONTEXT
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

    def clip(self, since: pd.Timestamp, until: pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Return the part of a period that lies in this one."""
        first, last = self.window
        return (since if first is None else max(first, since)), (
            until if last is None else min(last, until)
        )

    def filters(self) -> list[str]:
        """Return what narrows the question, one text per filter."""
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
    ) -> Selection:
        """Return the same question for fewer sessions."""
        given = _given(policy=policy, vm=vm, server=server)
        tags = {**dict(self.names.tags), **(tag or {})}
        return replace(self, names=replace(self.names, **given, tags=tuple(tags.items())))

    def during(
        self, period: str | None = None, *, since: Moment | None = None, until: Moment | None = None
    ) -> Selection:
        """Return the same question for another period."""
        return replace(self, since=since, until=until, period=period)

    def using(
        self, client: Any = None, *, memory: str | int | None = None, workers: int | None = None
    ) -> Selection:
        """Return the same question, computed by ranges of VMs: on a Dask client, or on processes.

        Parameters
        ----------
        client : distributed.Client or str, optional
            A Dask client, or the address of its scheduler.
        memory : str or int, optional
            What all processes may use together, like "1GB".
        workers : int, optional
            How many processes; default: one per CPU.
        """
        return replace(self, client=client, memory=memory, workers=workers)

    def with_terms(self, **terms: Any) -> Selection:
        """Return the same question on other terms: `target`, `objective`, `exclude`, `retire_after`."""
        if "exclude" in terms:
            made = Context.of(
                self.context.estate, self.context.tags or False, terms.pop("exclude"), self.tz
            )
            terms["context"] = made
        return replace(self, **terms)

    def before(self) -> Selection | None:
        """Return the same question for the period of equal length before; None without a start."""
        since, stop = self.window[0], self.stop
        if since is None or stop is None or since >= stop:
            return None
        return self.during(since=since - (stop - since), until=since)

    def pinned(self) -> Selection:
        """Return the same question of what it has read: `where` and `during` then read nothing more.

        What it has read reaches as far beyond the window as incidents are looked for.
        """
        held = FrameSource(
            self._widened(margin())._frame,
            self.source.policies(ALL_NAMES),
            self.holes,
            self.intervals,
            self.provenance(),
        )
        since, until = self.window
        return replace(self, source=held, period=None, since=since, until=until)

    # -- the data ----------------------------------------------------------------------

    def _rows(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return these columns of all sessions of the VMs asked about, read at most once."""
        wanted = None if columns is None else frozenset(columns)
        for held, rows in self._read.items():
            if held is None or (wanted is not None and wanted <= held):
                return rows
        rows = self._chosen(columns)
        self._read[wanted] = rows
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
            check_names(rows, self.names)
        vms = _vms(named(rows, self.names))
        return rows[_vms(rows).isin(vms)].reset_index(drop=True)

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
        columns = [name for name in _VM if name in rows]
        return Members(chosen[columns].drop_duplicates().reset_index(drop=True))

    def frame(self) -> pd.DataFrame:
        """Return the sessions of the window and the neighbours that decide its edges.

        The columns `window`, `neighbour` and `terms` say what it was read for, so that
        ``df.cdp`` answers as this Selection does, or refuses.
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
        return self.source.policies(self.names)

    @cached_property
    def holes(self) -> pd.DataFrame:
        """Stretches that were never fetched."""
        return self.source.holes()

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """Restorable intervals of the selected VMs in the window."""
        return self.source.intervals(self.window, self.names).reset_index(drop=True)

    def provenance(self) -> dict[str, Any]:
        """Return where the sessions come from: sources, files, rows, SHA-256."""
        return {**self.source.provenance(self.window), "estate": self.context.files}

    # -- the metrics --------------------------------------------------------------------

    def rpo_adherence(
        self,
        by: By = _BY,
        *,
        target: object = None,
        freq: str | None = None,
        without: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Return how much of the observed time the RPO was met: `metrics.rpo_adherence`.

        `without` are numbers of this Selection's `incidents()`.
        """
        if without is None:
            return self._ask("rpo_adherence", by=by, target=target, freq=freq)
        if target is not None:
            raise InputError(
                "without= names incidents of the Selection's own target; use with_terms(target=...)"
            )
        gaps = gaps_of(self.breaches(), without)
        return self._ask("rpo_adherence", by=by, freq=freq, own={"without": gaps})

    def gaps(self, *, target: object = None, incidents: bool = True) -> pd.DataFrame:
        """Return one row per stretch in which a VM was not replicated: `metrics.gaps`.

        With `incidents`, the column ``incident`` has the number of each gap's incident;
        missing where it is not in breach inside the window. Numbers are of the Selection's
        own target: with another `target` there are none.
        """
        table = self._ask("gaps", target=target)
        if not incidents or target is not None:
            return table
        return with_incidents(table, self.breaches())

    def incidents(
        self, *, within: object = WITHIN, least: int = LEAST, merge: object = MERGE
    ) -> pd.DataFrame:
        """Return what broke protection, of how many VMs at once: `metrics.incidents`."""
        return found_in(self._around(margin(within)), within, least, merge).table

    def offenders(self, *, least: int = 3) -> pd.DataFrame:
        """Return VMs that miss their target again and again by themselves: `metrics.offenders`."""
        return offenders_in(self._around(margin()), self.tz, least)

    def breaches(self) -> pd.DataFrame:
        """Return the gaps in breach inside the window, each with the number of its incident.

        Returns
        -------
        pandas.DataFrame
            As `gaps`, and ``breached_from, breached_until`` (instants between which the VM
            was in breach), ``inside`` (breached time in the window) and ``incident``.
        """
        return self._incidents.gaps.copy()

    @cached_property
    def _incidents(self) -> Incidents:
        return found_in(self._around(margin()))

    def _around(self, margin: pd.Timedelta, by: Sequence[str] = ()) -> Breaches:
        """Return the breaches of the window and `margin` on each side, swept once."""
        key = margin, frozenset(by) - set(_VM)
        if key not in self._swept:
            asked = self._widened(margin)
            since, until = self.window
            own = {"within": margin / LONGEST}
            self._swept[key] = asked._ask(BREACHES, since=since, until=until, by=by, own=own)
        return self._swept[key]

    @cached_property
    def _swept(self) -> dict[Any, Any]:
        return {}

    def _widened(self, margin: pd.Timedelta) -> Selection:
        since, until = self.window
        if since is None and until is None:
            return self
        return self.during(
            since=None if since is None else since - margin,
            until=None if until is None else until + margin,
        )

    def what_if(self, targets: Sequence[object], by: By = ()) -> pd.DataFrame:
        """Return adherence under other targets: `metrics.what_if`."""
        return self._ask("what_if", targets=targets, by=by)

    def objectives(
        self, by: By = _BY, *, objective: float | None = None, freq: str | None = None
    ) -> pd.DataFrame:
        """Return whether the objective was met, and its budget: `metrics.objectives`."""
        goal: Any = self.objective or self.context.estate.objective or DEFAULT_OBJECTIVE
        if objective is not None:
            goal = share(objective, "objective")
        elif self.objective is None and self.context.estate.objectives:
            goal = self._promises(goal)
        return self._ask("objectives", objective=goal, by=by, freq=freq)

    def _promises(self, default: float) -> pd.DataFrame:
        """Return the objectives of the estate file by policy and tags, as a table with exact names."""
        estate = self.context.estate
        rows = self._rows(("policy",))
        columns = [
            name
            for name in dict.fromkeys(["policy", *(rule.column for rule in estate.objectives)])
            if name in rows
        ]
        # A VM that a policy names and no session does has a policy, and no tags.
        named = pd.DataFrame() if self.policies is None else self.policies
        known = [rows[columns].astype("str"), named.reindex(columns=columns).astype("str")]
        table = pd.concat(known, ignore_index=True).drop_duplicates(ignore_index=True)
        return table.assign(objective=estate.objectives_of(table).fillna(default))

    def worst(self, n: int | None = 10, by: By = _BY, *, incidents: bool = True) -> pd.DataFrame:
        """Return the groups with most breached time: `metrics.worst`.

        With `incidents`, ``incident`` is the number of the incident that explains most of the group's breached
        time, and ``incident_share`` how much of it.
        """
        table = self._ask("worst", by=by, own={"n": n})
        if not incidents:
            return table
        names = columns_of(by)
        groups = incident_gaps(self._around(margin(), names), self._incidents, names)
        return with_main_incident(table, groups, names)

    def compare(self, by: By = _BY) -> pd.DataFrame:
        """Return adherence beside that of the period before: `metrics.compare`."""
        earlier = self.before()
        if earlier is None:
            raise InputError(
                "compare requires a period with a start: it compares it with the one before"
            )
        wide = self.during(since=earlier.window[0], until=self.window[1])
        return wide._ask("compare", since=self.window[0], before=earlier.window, by=by)

    def durations(self, by: By = _BY) -> pd.DataFrame:
        """Return how long finished sessions lasted: `metrics.durations`."""
        return self._ask("durations", by=by)

    def sizes(
        self, by: By = _BY, *, freq: str = "D", reading: Literal["size", "volume"] = "size"
    ) -> pd.DataFrame:
        """Return protected sizes by period: `metrics.sizes`."""
        return self._ask("sizes", by=by, freq=freq, reading=reading)

    def size_trend(self, by: By = _BY, *, freq: str = "D", horizon: object = "30D") -> pd.DataFrame:
        """Return slope and projection of sizes: `metrics.size_trend`."""
        return self._ask("size_trend", by=by, freq=freq, horizon=horizon)

    def size_anomalies(self, by: By = _BY, *, freq: str = "D", z: float = 3.5) -> pd.DataFrame:
        """Return periods whose size is far from the running median: `metrics.size_anomalies`."""
        return self._ask("size_anomalies", by=by, freq=freq, z=z)

    def journal_adherence(self, by: By = _BY, *, target: object = None) -> pd.DataFrame:
        """Return the RPO achieved in restorable intervals: `metrics.journal_adherence`."""
        return self._ask("journal_adherence", by=by, target=target)

    def status(self, at: Moment | None = None) -> pd.DataFrame:
        """Return how each VM is at an instant, worst first: `metrics.status`.

        Parameters
        ----------
        at : timestamp-like, optional
            Any instant up to as_of. Default: the end of the window.
        """
        asked, instant = self._at(at)
        own = {"tags": self.context.names, "intervals": asked._journal_before(instant)}
        return asked._ask("status", own=own | {"at": instant})

    def recovery_points(self, at: Moment | None = None) -> pd.DataFrame:
        """Return what each VM could have been restored to: `metrics.recovery_points`.

        The journal of the seven days before the instant is read: no server keeps more.

        Parameters
        ----------
        at : timestamp-like, optional
            Any instant up to as_of. Default: the end of the window.
        """
        asked, instant = self._at(at)
        rows = named(asked._rows(("policy",)), self.names)
        vms = rows.reindex(columns=_VM)[rows["created"] < instant] if instant is not None else rows
        journal = asked._journal_before(instant)
        own = {"at": instant or pd.Timestamp(0, tz="UTC"), "vms": vms.reindex(columns=_VM)}
        return asked._ask("recovery_points", rows=journal, own=own)

    def _at(self, at: Moment | None) -> tuple[Selection, pd.Timestamp | None]:
        """Return the question with a window that reaches the instant, and the instant."""
        stop, as_of = self.stop, self.as_of
        if at is None or as_of is None:
            return self, stop
        instant = timeparse.instant(at, as_of, self.tz)
        since = self.window[0]
        if stop is not None and instant <= stop and (since is None or since < instant):
            return self, instant
        if since is None or stop is None:
            return self.during(until=instant), instant
        # Outside the window other sessions decide: those of an equal length of time before it.
        length = max(stop - since, pd.Timedelta("1us"))
        return self.during(since=instant - length, until=instant), instant

    def _journal_before(self, instant: pd.Timestamp | None) -> pd.DataFrame:
        """Return the restorable intervals that begin in the seven days before an instant."""
        if instant is None:
            return self.intervals.iloc[:0]
        window = (instant - JOURNAL, instant + pd.Timedelta("1us"))
        return self.source.intervals(window, self.names).reset_index(drop=True)

    def quality(self) -> pd.DataFrame:
        """Return findings about the sessions: `metrics.quality`."""
        return self._ask("quality")

    def _ask(
        self,
        metric: str | MetricSpec,
        *,
        own: Mapping[str, object] | None = None,
        rows: pd.DataFrame | None = None,
        **arguments: object,
    ) -> pd.DataFrame:
        """Return a metric of this question; arguments that are None are the question's own."""
        spec = REGISTRY[metric] if isinstance(metric, str) else metric
        given = {key: value for key, value in arguments.items() if value is not None}
        terms = {key: value for key, value in self._terms.items() if key in spec.takes}
        ask = Ask(spec, *spec.parse(**{**terms, **given, **(own or {})}))
        if spec.table == "intervals":
            return ask.of(self.intervals if rows is None else rows, None)
        here = self.client is None and self.memory is None and self.workers is None
        if here or self.context.estate.renames:  # two names of one VM may lie in two ranges
            return ask.of(self._rows(ask.columns()), self._members)
        plan = self.source.plan(ask, self.window, self._vm_names)
        plan = replace(plan, members=self._members, source=Tagged(plan.source, self.context))
        return run(plan, memory=self.memory, workers=self.workers, client=self.client)

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
        known = self._with_listed(rows)
        return self.context.windows(known, first, max(self.as_of, first) + pd.Timedelta("1us"))

    def _with_listed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return rows with the VMs that a policy names and no session does: they can be excluded too."""
        listed = listed_vms(self.policies, with_server="backup_server" in rows)
        columns = [name for name in _VM if name in rows]
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
        """What is left out on purpose: windows with exact names, reason, owner, source and line."""
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
        """Return which rows of tags and exclusions fit nothing, and which VMs have no tag."""
        if self.start is None or self.stop is None:
            return []
        rows = self._with_listed(self._rows(("vm", "policy", "backup_server")))
        return self.context.findings(rows, self.start, max(self.stop, self.start))

    # -- pictures, report, explorer -----------------------------------------------------------------

    @property
    def plot(self) -> Plots:
        """Pictures of the metrics, one method per picture."""
        from cdpanalytics.plots.bound import Plots

        return Plots(self)

    def report(
        self,
        output: str | os.PathLike[str],
        *,
        title: str | None = None,
        generated: pd.Timestamp | None = None,
        order: str = "breached",
    ) -> Path:
        """Write an HTML report: `reports.report`."""
        from cdpanalytics.reports import report

        return report(self, output, title=title, generated=generated, order=order)

    def to_excel(self, output: str | os.PathLike[str]) -> Path:
        """Write an Excel workbook: `reports.to_excel`."""
        from cdpanalytics.reports.workbook import to_excel

        return to_excel(self, output)

    def explore(self, **state: Any) -> Explorer:
        """Explore the question in a notebook: `explorer.Explorer`."""
        from cdpanalytics.explorer import Explorer

        return Explorer(self, **state)


def _vms(rows: pd.DataFrame) -> pd.MultiIndex:
    columns = [
        rows[name].astype("str").fillna("") for name in ("backup_server", "vm") if name in rows
    ]
    return pd.MultiIndex.from_arrays(columns)


def _listed(value: object) -> str:
    return (
        str(value)
        if isinstance(value, str) or not isinstance(value, Sequence)
        else ", ".join(map(str, value))
    )


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
