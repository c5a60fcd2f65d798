"""A question as an object: which sessions, of which period, on which terms; every metric is a method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from cdpanalytics import timeparse
from cdpanalytics.errors import InputError
from cdpanalytics.execution.run import run
from cdpanalytics.metrics.core.arrays import keeping
from cdpanalytics.metrics.core.breaches import Breaches
from cdpanalytics.metrics.core.clusters import LONGEST
from cdpanalytics.metrics.core.incidents import LEAST, MERGE, WITHIN, Incidents
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
from cdpanalytics.metrics.offenders import LEAST as OFFENCES
from cdpanalytics.metrics.offenders import offenders_in
from cdpanalytics.metrics.registry import REGISTRY, MetricSpec
from cdpanalytics.metrics.sides import Sides, side_by_side
from cdpanalytics.narrowing import named
from cdpanalytics.schema import KEYS
from cdpanalytics.selected import SelectedSessions
from cdpanalytics.sources import Ask, Tagged
from cdpanalytics.timeparse import Moment, share

if TYPE_CHECKING:
    from cdpanalytics.explorer import Explorer
    from cdpanalytics.plots.bound import Plots

By = str | Sequence[str]
_DEFAULT_OBJECTIVE = 0.999
_JOURNAL = pd.Timedelta("8D")
"""How far back recovery points are looked for: short-term retention is seven days at most, and intervals are
found by their beginning."""

_BY: By = ("policy", "vm")


class Selection(SelectedSessions):
    """The sessions of a period, and the terms on which they are measured: a question.

    `Archive.select` and ``df.cdp.select`` return one. It never changes, and it reads nothing
    until a method needs sessions. Methods such as `where` and `during` return a new one.
    """

    # -- the metrics --------------------------------------------------------------------

    def rpo_adherence(
        self,
        by: By = _BY,
        *,
        target: object = None,
        freq: str | None = None,
        without: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Return the share of observed time within the RPO: `metrics.rpo_adherence`.

        With `without`, a list of numbers of `incidents`, also return the adherence without the
        breached time of these incidents.
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

        With `incidents`, the column ``incident`` has the number of the incident of each gap;
        missing if the gap is not breached inside the window. With another `target` than the
        selection's own there is no such column.
        """
        table = self._ask("gaps", target=target)
        if not incidents or target is not None:
            return table
        return with_incidents(table, self.breaches())

    def incidents(
        self, *, within: object = WITHIN, least: int = LEAST, merge: object = MERGE
    ) -> pd.DataFrame:
        """Return the incidents, each with its VMs, cause and breached time: `metrics.incidents`."""
        if (within, least, merge) == (WITHIN, LEAST, MERGE):
            return self._incidents.table.copy()
        return found_in(self._around(margin(within)), within, least, merge).table

    def offenders(self, *, least: int = OFFENCES) -> pd.DataFrame:
        """Return the VMs that have incidents of their own again and again: `metrics.offenders`."""
        return offenders_in(self._around(margin()), self.tz, least, self._incidents)

    def breaches(self) -> pd.DataFrame:
        """Return the gaps that are breached inside the window, each with its incident.

        Returns
        -------
        pandas.DataFrame
            As `gaps`, and ``breached_from, breached_until`` (the VM was in breach from the
            first to the second instant), ``inside`` (the breached time in the window) and
            ``incident`` (the number of its incident).
        """
        return self._incidents.gaps.copy()

    @cached_property
    def _incidents(self) -> Incidents:
        return found_in(self._around(margin()))

    def _around(self, margin: pd.Timedelta, by: Sequence[str] = ()) -> Breaches:
        """Return the breaches of the window and `margin` on each side, swept once."""
        key = margin, frozenset(by) - set(KEYS)
        if key not in self._swept:
            asked = self._widened(margin)
            since, until = self.window
            own = {"within": margin / LONGEST}
            self._swept[key] = asked._ask(BREACHES, since=since, until=until, by=by, own=own)
        return self._swept[key]

    @cached_property
    def _swept(self) -> dict[Any, Any]:
        return {}

    def what_if(self, targets: Sequence[object], by: By = ()) -> pd.DataFrame:
        """Return adherence under other targets: `metrics.what_if`."""
        return self._ask("what_if", targets=targets, by=by)

    def objectives(
        self, by: By = _BY, *, objective: float | None = None, freq: str | None = None
    ) -> pd.DataFrame:
        """Return whether the objective was met, and its budget: `metrics.objectives`."""
        goal = self._goal if objective is None else share(objective, "objective")
        return self._ask("objectives", objective=goal, by=by, freq=freq)

    @cached_property
    def _goal(self) -> Any:
        """The Selection's own objective: a share, or a table of those of the estate file."""
        goal = self.objective or self.context.estate.objective or _DEFAULT_OBJECTIVE
        if self.objective is None and self.context.estate.objectives:
            return self._promises(goal)
        return goal

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
        """Return the groups with the most breached time: `metrics.worst`.

        With `incidents`, ``incident`` is the number of the incident with the most breached time
        of the group, and ``incident_share`` its share in the breached time of the group.
        """
        table = self._ask("worst", by=by, own={"n": n})
        if not incidents:
            return table
        names = columns_of(by)
        groups = incident_gaps(self._around(margin(), names), self._incidents, names)
        return with_main_incident(table, groups, names)

    def compare(
        self,
        by: By | None = None,
        *,
        sides: str | Sequence[str] | Sides | None = None,
    ) -> pd.DataFrame:
        """Compare the adherence with that of the period before, or of two groups.

        Parameters
        ----------
        by : str or sequence of str, optional
            Default: policy and VM; with `sides`, one row for all.
        sides : str or triple, optional
            Two groups in this period: ``"backup_server=vbr01*,vbr02*"`` or
            ``("policy", "Gold", "Silver")``, also of a tag or of `vm`. Or all VMs with two
            targets (``"target=15min,1h"``) or in two periods (``"period=2025-10,2026-10"``).

        Returns
        -------
        pandas.DataFrame
            As `metrics.compare`. With `sides`, one row per group, ordered by the size of the
            difference: the keys, ``left`` and ``right`` (the names of the sides), figures of
            `rpo_adherence` for each side (``adherence_left``, ``adherence_right``, ...),
            ``difference`` (right minus left; NA if one of them is NA) and ``better`` (the name
            of the side with the higher adherence, "same" or "unknown").
        """
        if sides is not None:
            return self._side_by_side(() if by is None else by, Sides.parse(sides))
        wide, since = self._with_before, self.window[0]
        before = wide.window[0], since
        return wide._ask("compare", since=since, before=before, by=_BY if by is None else by)

    @cached_property
    def _with_before(self) -> Selection:
        """The same question of its period and the one before."""
        earlier = self.before()
        if earlier is None:
            raise InputError(
                "compare requires a period with a start: it compares it with the one before"
            )
        return self.during(since=earlier.window[0], until=self.window[1])

    def _side_by_side(self, by: By, sides: Sides) -> pd.DataFrame:
        keys = [by] if isinstance(by, str) else list(by)
        if sides.column in keys:
            raise InputError(
                f"by={by!r}: the sides differ in {sides.column!r}, so no group is in both; leave it out"
            )
        left, right = (
            self._side(sides.column, name).rpo_adherence(by=keys)
            for name in (sides.left, sides.right)
        )
        return side_by_side(left, right, keys, sides)

    def _side(self, column: str, name: str) -> Selection:
        match column:
            case "target":
                return self.with_terms(target=name)
            case "period":
                return self.during(name)
            case "policy":
                return self.where(policy=name)
            case "vm":
                return self.where(vm=name)
            case "backup_server":
                return self.where(server=name)
        return self.where(tag={column: name})

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
        """Return the state of each VM at an instant, worst first: `metrics.status`.

        Parameters
        ----------
        at : timestamp-like, optional
            Any instant up to as_of. Default: the end of the window.
        """
        asked, instant = self._at(at)
        own = {"tags": self.context.names, "intervals": asked._journal_before(instant)}
        return asked._ask("status", own=own | {"at": instant})

    def recovery_points(self, at: Moment | None = None) -> pd.DataFrame:
        """Return the newest time to which each VM could be restored: `metrics.recovery_points`.

        The journal of the last days before the instant is read. No server keeps more than seven.

        Parameters
        ----------
        at : timestamp-like, optional
            Any instant up to as_of. Default: the end of the window.
        """
        asked, instant = self._at(at)
        rows = named(asked._rows(("policy",)), self.names)
        begun = rows if instant is None else rows[rows["created"] < instant]
        journal = asked._journal_before(instant)
        own = {"at": instant or pd.Timestamp(0, tz="UTC"), "vms": begun.reindex(columns=KEYS)}
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
        """Return the restorable intervals that begin in the eight days before an instant."""
        if instant is None:
            return self.intervals.iloc[:0]
        window = (instant - _JOURNAL, instant + pd.Timedelta("1us"))
        return self._journal(window)

    def quality(self) -> pd.DataFrame:
        """Return counts of unusual sessions: `metrics.quality`."""
        return self._ask("quality")

    def left_out(self) -> pd.DataFrame:
        """Return one row per exclusion in the window, with the time that it left out.

        Returns
        -------
        pandas.DataFrame
            ``start, end, reason, owner, source, line``; ``vms``, the VMs of the exclusion that
            were observed in it; ``left_out`` (Timedelta), their time that would be observed
            without any exclusion; ``breached_left_out``, the part of it that would be breached.
            If two exclusions overlap, both contain the common time. So the sum of the rows can
            be more than the time that was left out.
        """
        from cdpanalytics.presentation.analysis import left_out

        return left_out(self)

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
        if not self._by_ranges:
            with keeping(self.source.arrays):
                return self._of_rows(ask, given if own is None else None)
        plan = self.source.plan(ask, self.window, self._vm_names)
        plan = replace(plan, members=self._members, source=Tagged(plan.source, self.context))
        return run(plan, memory=self.memory, workers=self.workers, client=self.client)

    def _of_rows(self, ask: Ask, given: Mapping[str, object] | None) -> pd.DataFrame:
        """Return a metric of the rows that are held.

        A report asks for the same sums by VM, by policy and of all. They are summed once, by
        VM, and then added up: exact integers, so nothing depends on it. Those of an objective
        have those of adherence among them. Periods are not kept, for those of a year take more
        memory than the sessions. `given` are the arguments besides the terms, None where the
        sums are of this question only.
        """
        rows, by = self._rows(ask.columns()), ask.question.by
        regroup = None if self.source.arrays is None else ask.spec.regroup
        if regroup is None or given is None or ask.question.freq is not None:
            return ask.of(rows, self._members, self.source.complete)
        whole = ask
        if ask.spec.part_of is not None:
            whole = replace(ask, spec=REGISTRY[ask.spec.part_of[0]], own={"objective": self._goal})
        others = {name: value for name, value in given.items() if name not in ("by", *whole.own)}
        key = whole.spec.name, repr(sorted({**others, **whole.own}.items()))
        held = self._sums.get(key)
        if held is None or not set(by) <= set(held[0]):
            finest = tuple(dict.fromkeys([*by, *KEYS]))
            part = whole.by(*finest).partial(rows, self._members, self.source.complete)
            held = self._sums[key] = finest, part
        part = held[1] if ask.spec.part_of is None else ask.spec.part_of[1](held[1])
        return ask.table(regroup(part, by))

    @cached_property
    def _sums(self) -> dict[tuple[str, str], tuple[tuple[str, ...], Any]]:
        return {}

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
        summary: bool = False,
        order: str = "breached",
        sides: str | Sequence[str] | None = None,
        by: str = "policy",
        prepared_for: Sequence[str] = (),
        json: str | os.PathLike[str] | None = None,
    ) -> Path:
        """Write an HTML report.

        Parameters
        ----------
        output : path-like
            The file; its folder must exist.
        title : str, optional
            The title of the page.
        generated : pandas.Timestamp, optional
            The time of the report, to print. Default: none, so that the same data gives the
            same bytes.
        summary : bool
            Write one page without scripts and pictures, for a mail.
        order : {"breached", "incident"}
            Order of the VMs in heat map and timeline.
        sides : str or triple, optional
            Add a section that compares two groups, as in `compare`.
        by : str
            The groups of the tables: "policy", "backup_server" or a tag.
        prepared_for : sequence of str
            Names for which there is room to sign.
        json : path-like, optional
            Also write the contents of the report as JSON.

        Returns
        -------
        pathlib.Path
            The file.
        """
        from cdpanalytics.reports import report

        return report(
            self,
            output,
            title=title,
            generated=generated,
            order=order,
            sides=sides,
            summary=summary,
            by=by,
            prepared_for=prepared_for,
            json=json,
        )

    def to_excel(self, output: str | os.PathLike[str], *, by: str = "policy") -> Path:
        """Write an Excel workbook with one sheet per table; `by` is as in `report`."""
        from cdpanalytics.reports.workbook import to_excel

        return to_excel(self, output, by=by)

    def explore(self, **state: Any) -> Explorer:
        """Return the explorer, a widget for notebooks; `state` has fields of its `State`."""
        from cdpanalytics.explorer import Explorer

        return Explorer(self, **state)
