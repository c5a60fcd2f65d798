"""The archive: plain Parquet that outlives the server's memory; it never talks to one.

::

    DIR/archive.json                               that this is an archive, and its version
    DIR/sessions/SOURCE/2026-10-01.parquet         task sessions created on that day, by VM and time
    DIR/policy_sessions/SOURCE/2026-10-01.parquet  policy sessions created on that day
    DIR/intervals/SOURCE/2026-10-01.parquet        restorable intervals of that day, when asked for
    DIR/policies/SOURCE.parquet                    settings, each row with when they were seen
    DIR/damaged/...                                files that could not be read, set aside under their names
    DIR/archive.lock                               held by the sync that writes

DIR is a directory or a prefix of an object store (`store`). SOURCE is the Enterprise
Manager they came from: its host and port. ``pandas.read_parquet(DIR + "/sessions")``
reads the sessions with no help of ours. What was fetched, when, and whether it can
still change is in each file's own metadata, so that no second record can disagree.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.archive.files import (
    DAMAGED,
    POLICIES,
    TABLES,
    WHEN,
    Name,
    Named,
    ParquetFiles,
    Stamp,
    Stretch,
    ordered,
    slug,
)
from cdpanalytics.archive.scan import (
    WHO,
    Chosen,
    added_up,
    between,
    counted,
    keep,
    newest,
    rows_by,
    scalar,
)
from cdpanalytics.archive.storage import base
from cdpanalytics.errors import ArchiveError, InputError, StoreError
from cdpanalytics.execution.partition import PARTITION_KEYS
from cdpanalytics.execution.plan import Plan
from cdpanalytics.execution.run import run
from cdpanalytics.frames import mark
from cdpanalytics.intervals import subtract
from cdpanalytics.metrics.registry import MetricSpec, spec_of
from cdpanalytics.patterns import Patterns, fitting
from cdpanalytics.ranges import FULL_RANGE
from cdpanalytics.timeparse import Moment, counts_back, instant

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

MARKER = "archive.json"
LOCK = "archive.lock"
PATIENCE = 600.0
"""Seconds that a sync waits for another one on the same archive."""

_DAY = pd.Timedelta("1D")
_NEVER = pd.Timestamp("2200-01-01", tz="UTC").as_unit("us")
_MACHINE = ["backup_server", "vm"]
_NARROW = ("backup_server", "vm", "created", "ended", "state", "result")
_log = logging.getLogger(__name__)


class Archive:
    """A directory of what was fetched, or a prefix of an object store.

    Parameters
    ----------
    path : path-like or str
        The directory, or a URL that fsspec knows: ``s3://bucket/prefix``. It is made by
        the first write; reading one that is not there, or not an archive, is an error.
    storage_options : mapping, optional
        For a URL, as in pandas: what fsspec's file system takes (``endpoint_url``,
        ``key``, ``secret``). They are kept in memory only, and shown nowhere.

    Attributes
    ----------
    path : pathlib.Path or str
        The directory, or the URL.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     archive = Archive(folder)
    ...     len(archive.sessions())
    0
    """

    def __init__(
        self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self._store: base.Store = base.opened(path, storage_options)
        self._files = ParquetFiles(self._store)
        if self._store.found():
            self._check_marker()

    @property
    def path(self) -> Path | str:
        """Where the archive lies: the directory, or the URL."""
        return self._store.home

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    # -- reading ---------------------------------------------------------------

    def sessions(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        history: bool = False,
    ) -> pd.DataFrame:
        """Return the task sessions created in ``[since, until)``.

        Parameters
        ----------
        since, until : timestamp-like or text like "30D", optional
            Text without a zone is UTC; a length counts back from the newest as_of.
        policy, vm, server : str or sequence of str, optional
            Names or glob patterns, in any case; a row matches one of them.
        history : bool
            Also the sessions that decide how each VM entered the window, and how it left it:
            of those begun before `since` all that end later, and of each verdict the newest
            begun and the last to end, by then and at all; from `until` on all up to the VM's
            first success.

        Returns
        -------
        pandas.DataFrame
            `schema.SESSIONS` columns, ordered by source, day, VM and time; each uid
            once, as the newest as_of has it. Then `window`, what was read; with `history`, or
            without a window, also `neighbour` and `terms` (`frames.mark`): metrics keep to
            the window, refuse a larger one, and judge a gap that goes on beyond it only with
            its `history`.

        Raises
        ------
        InputError
            When `since` is not before `until`, or a pattern matches nothing.
        ArchiveError
            When there is no archive, or a file cannot be read.
        """
        start, stop = self.window(since, until)
        wanted = {"policy": policy, "vm": vm, "backup_server": server}
        named = {column: given for column, given in wanted.items() if given is not None}
        last_days = self._files.last_days()
        several = len(last_days) > 1
        try:
            # The newest of a session's rows may have another name: with several sources all are read.
            frame = self._sessions(start, stop, history, several, {} if several else named)
            frame = _matching(frame, **wanted)
        except InputError:
            frame = _matching(self._sessions(start, stop, history, several, {}), **wanted)
        for column in frame.columns[frame.dtypes == "category"]:
            if column not in ("result", "policy_result"):
                frame[column] = _used(frame[column])
        frame = frame.reset_index(drop=True)
        whole = history or (start is None and stop is None)
        return mark(
            frame, start, stop, self._spoken_for(last_days), () if whole else None, unique=True
        )

    def select(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        **terms: Any,
    ) -> Selection:
        """Return a question about this archive: its metrics, plots and reports are methods.

        Parameters
        ----------
        since, until, policy, vm, server
            As in `sessions`.
        **terms
            `tz`, `target`, `objective`, `exclude`, `retire_after`.

        Returns
        -------
        Selection
        """
        from cdpanalytics.selection import Selection
        from cdpanalytics.sources import ArchiveSource, Names

        return Selection(ArchiveSource(self), since, until, Names(policy, vm, server), **terms)

    def policy_sessions(
        self, since: Moment | None = None, until: Moment | None = None
    ) -> pd.DataFrame:
        """Return the policy sessions created in ``[since, until)``: `schema.POLICY_SESSIONS`."""
        return schema.to_frame(self._read("policy_sessions", *self.window(since, until)))

    def intervals(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
    ) -> pd.DataFrame:
        """Return the journal: restorable intervals that begin in ``[since, until)``.

        Parameters
        ----------
        since, until, policy, vm, server
            As in `sessions`.

        Returns
        -------
        pandas.DataFrame
            `schema.JOURNAL` columns: rows of the server's own `kind` are stretches a VM
            could be restored to, with the RPO achieved in them; rows of kind ``Asked`` are
            the stretches that were asked about, without which nothing is known. Both are
            cut at UTC midnight; none overlaps another of its VM and kind. Empty unless
            ``sync(..., journal=True)`` was run.
        """
        frame = schema.to_frame(self._read("intervals", *self.window(since, until)))
        frame = _matching(frame, policy=policy, vm=vm, backup_server=server)
        return frame.reset_index(drop=True)

    def map(
        self,
        metric: Callable[..., pd.DataFrame] | MetricSpec,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        memory: str | int = "1GB",
        workers: int | None = None,
        progress: bool = True,
        **named: object,
    ) -> pd.DataFrame:
        """Return a metric of more sessions than fit in memory, the same to the digit.

        The archive is cut into ranges of VMs (of policies, where a metric needs all rows of
        a policy together); each is read and measured by itself, and the exact sums are added
        up. A metric that cannot be cut so finely is refused, never approximated.

        Parameters
        ----------
        metric : callable
            One of `cdpanalytics.metrics`.
        **named
            The metric's own. `as_of` defaults to the newest of all sessions chosen.
        since, until : timestamp-like or text like "30D", optional
            The window that is read, with its history, and that the metric is asked of.
        policy, vm, server : str or sequence of str, optional
            As in `sessions`.
        memory : str or int
            What all processes may take together, like "1GB". The table that is returned
            comes on top.
        workers : int, optional
            How many processes. Default: one a CPU, or only this one where starting them
            would take longer. With 1, this one. A script that uses several must be guarded
            by ``if __name__ == "__main__":``.
        progress : bool
            Whether to show how far it is, on standard error.

        Returns
        -------
        pandas.DataFrame
            As ``metric(archive.sessions(since, until, history=True), since=since, ...)``.

        Raises
        ------
        InputError
            When an argument is wrong, or rows that are needed together do not fit.
        ArchiveError
            When there is no archive, or a file cannot be read.
        CdpError
            When a worker process is killed.

        Examples
        --------
        >>> from cdpanalytics.metrics import rpo_adherence
        >>> archive = Archive("data/sample")
        >>> found = archive.map(rpo_adherence, by="policy", workers=1, progress=False)
        >>> found.equals(rpo_adherence(archive.sessions(), by="policy"))
        True
        """
        plan = self.plan(
            metric, since=since, until=until, policy=policy, vm=vm, server=server, **named
        )
        return run(plan, memory=memory, workers=workers, progress=progress)

    def plan(
        self,
        metric: Callable[..., pd.DataFrame] | MetricSpec,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        **named: object,
    ) -> Plan:
        """Return what `map` would compute, not yet cut, for whoever computes it.

        Parameters
        ----------
        metric, since, until, policy, vm, server, **named
            As in `map`.
        """
        spec = spec_of(metric)
        start, stop = self.window(since, until)
        window = {"since": start, "until": stop} if spec.window else {}
        question, terms, own = spec.parse(**{**named, **window})
        chosen, rows_of = self._choose(
            spec, start, stop, spec.window, policy=policy, vm=vm, backup_server=server
        )
        if spec.window and question.as_of is None and len(rows_of):
            question = replace(question, as_of=chosen.as_of)
        if question.freq is not None and question.since is None and len(rows_of):
            # Each range must be cut into the same periods.
            first = rows_of["begun"].min()
            question = replace(question, since=min(first, question.as_of or first))
        column = spec.cut_by(question.by, PARTITION_KEYS)
        return Plan(spec, question, terms, own, chosen, column, rows_by(rows_of, column))

    def policies(self, *, naming_vms: bool = True) -> pd.DataFrame:
        """Return the settings of policies as they were at each sync.

        Parameters
        ----------
        naming_vms : bool
            False leaves out `vms`: what a selection of sessions wants, which should
            not list the VMs that it leaves out.

        Returns
        -------
        pandas.DataFrame
            `schema.POLICIES` columns, `seen_from` and `seen_to`: the first and last
            instant at which these settings were seen. Settings that changed have a
            row each.
        """
        self._require()
        tables = [self.known_policies(source) for source in self.sources()]
        frame = schema.to_frame(pa.concat_tables([POLICIES.empty_table(), *tables]))
        return frame if naming_vms else frame.drop(columns="vms")

    def window(
        self, since: Moment | None = None, until: Moment | None = None
    ) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """Return `since` and `until` as instants, None where there is none.

        Raises
        ------
        InputError
            When one cannot be read, or `since` is not before `until`.
        """
        self._require()
        newest = self.ledger()["as_of"].max() if any(map(counts_back, (since, until))) else pd.NaT
        now = pd.Timestamp.now("UTC") if pd.isna(newest) else newest
        start = None if since is None else instant(since, now)
        stop = None if until is None else instant(until, now)
        if start is not None and stop is not None and start >= stop:
            raise InputError(
                f"since={since} is not before until={until}; a window is [since, until)"
            )
        return start, stop

    def sources(self) -> list[str]:
        """Return the Enterprise Managers that this archive holds something of."""
        return sorted({stamp.source for _, stamp, _ in self._stamped_days()})

    def ledger(self) -> pd.DataFrame:
        """Return what was fetched: a row a source and day.

        Returns
        -------
        pandas.DataFrame
            ``source``, ``day`` (UTC midnight), ``as_of``, ``final``, ``missing`` (of the
            day, pairs of instants that the server had forgotten), ``counted`` (sessions that the
            server had of the whole day at the last look), ``rows``, ``path``.
        """
        self._require()
        rows = [
            {
                **asdict(stamp),
                "missing": stamp.lost(),
                "rows": rows,
                "path": self._store.at(path),
            }
            for path, stamp, rows in self._stamped_days()
        ]
        columns = ["source", "day", "as_of", "final", "missing", "counted", "rows", "path"]
        frame = pd.DataFrame(rows, columns=columns)
        for column in ("day", "as_of"):
            frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
        return frame.astype(
            {"final": bool, "counted": "Int64", "rows": "int64", "source": "str", "path": "str"}
        )

    def holes(self) -> pd.DataFrame:
        """Return the stretches that nothing is known of.

        A hole lies between the first instant known of a source (or the first day that
        was found damaged) and the archive's newest as_of: a day never fetched, or one that
        the server had forgotten when it was asked for. Pass it to the metrics as
        ``unobserved=``: a hole is not observed time.

        Returns
        -------
        pandas.DataFrame
            ``source, backup_server, start, end`` (UTC), in this order. `backup_server` is
            missing, which means all of them, unless the archive has several sources; then
            a hole is one only where no other source knows that backup server.
        """
        known = self._known()
        newest = max((end for stretches in known.values() for _, end in stretches), default=_NEVER)
        holes: list[tuple[str, str | None, pd.Timestamp, pd.Timestamp]] = []
        for source, stretches in known.items():
            first = min([stretches[0][0], *self.damaged_days(source)])
            holes += [(source, None, *hole) for hole in subtract([(first, newest)], stretches)]
        if holes and len(known) > 1:
            holes = _apart(holes, known, {source: self._backup_servers(source) for source in known})
        frame = pd.DataFrame(holes, columns=["source", "backup_server", "start", "end"])
        for column in ("start", "end"):
            frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
        return frame.astype({"source": "str", "backup_server": "str"})

    def provenance(
        self, since: Moment | None = None, until: Moment | None = None
    ) -> dict[str, object]:
        """Return where the sessions of a window come from.

        Returns
        -------
        dict
            ``sources``, ``rows``, ``files``, ``as_of`` (newest, Timestamp or None) and
            ``sha256``: of the files' bytes, in order of their names.
        """
        paths = self._files.days("sessions", *self.window(since, until))
        stamped = list(self._files.stamped(paths))
        stamps = [stamp for _, stamp, _ in stamped]
        digest = hashlib.sha256()
        for body in self._store.each(self._store.read, paths):
            digest.update(body)
        as_of = [pd.Timestamp(stamp.as_of) for stamp in stamps if stamp.as_of]
        return {
            "sources": sorted({stamp.source for stamp in stamps}),
            "rows": sum(rows for _, _, rows in stamped),
            "files": len(paths),
            "as_of": max(as_of, default=None),
            "sha256": digest.hexdigest(),
        }

    def verify(self) -> pd.DataFrame:
        """Return what is wrong with the archive; no row when nothing is.

        Each file must be readable to its last page, of this schema, and of the table,
        source and day it lies under; each session must have a VM and lie in that day,
        and each uid stand once in a source. See `set_aside` for what to do.

        Returns
        -------
        pandas.DataFrame
            ``path`` (inside the archive) and ``finding`` (one line).
        """
        self._require()
        findings: list[tuple[str, str]] = []
        seen: dict[str, dict[str, str]] = {}
        for path in self._files.every():
            name = str(path)
            try:
                findings += [(name, finding) for finding in self._inspect(path, seen)]
            except StoreError:
                raise
            except ArchiveError as error:
                said = str(error).removeprefix(f"{self._store.at(path)} ")
                findings.append((name, said.partition("; see:")[0]))
        return pd.DataFrame(findings, columns=["path", "finding"]).astype("str")

    # -- one day, one source: what a sync reads and writes ------------------------

    def day(self, table: str, source: str, day: pd.Timestamp) -> pa.Table:
        """Return the rows kept of one day, or none."""
        path = self._files.day(table, source, day)
        if not self._store.exists(path):
            return TABLES[table].empty_table()
        return self._files.load(path, TABLES[table])

    def put_day(
        self,
        table: str,
        source: str,
        day: pd.Timestamp,
        rows: pa.Table,
        as_of: pd.Timestamp,
        final: bool = False,
        missing: Iterable[Stretch] = (),
        counted: int | None = None,
    ) -> None:
        """Replace one day: written beside it, then renamed, so that it is whole or untouched."""
        lost = tuple((start.isoformat(), end.isoformat()) for start, end in missing)
        stamp = Stamp(
            table,
            source,
            f"{day:%Y-%m-%d}",
            as_of.isoformat(),
            final,
            missing=lost,
            counted=counted,
        )
        self._write(self._files.day(table, source, day), ordered(rows), stamp)

    def known_policies(self, source: str) -> pa.Table:
        """Return one source's settings with `seen_from` and `seen_to`."""
        path = self._files.policies(source)
        return (
            self._files.load(path, POLICIES) if self._store.exists(path) else POLICIES.empty_table()
        )

    def put_policies(self, source: str, policies: pa.Table, seen: pd.Timestamp) -> None:
        """Keep settings as seen at one instant: extend what is unchanged, add what is new."""
        known = self.known_policies(source).to_pylist()
        newest = {row["policy_uid"]: row for row in known}
        for row in policies.select(schema.POLICIES.names).to_pylist():
            last = newest.get(row["policy_uid"])
            if last is not None and all(last[name] == row[name] for name in schema.POLICIES.names):
                last["seen_to"] = max(last["seen_to"], seen.to_pydatetime())
            else:
                known.append({**row, "seen_from": seen, "seen_to": seen})
        stamp = Stamp("policies", source, None, seen.isoformat(), False)
        path = self._files.policies(source)
        self._write(path, pa.Table.from_pylist(known, schema=POLICIES), stamp)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the archive for writing, once another process that does has finished.

        What a process that was killed left half-written is removed first.

        Raises
        ------
        ArchiveError
            When another process holds it for ten minutes, or it cannot be written.
        """
        with self._files.writable(Name()):
            lock = self._store.lock(Name(LOCK))
            try:
                lock.acquire(timeout=0)
            except TimeoutError:
                _log.warning("%s: another sync is writing it; waiting for it to end", self.path)
                self._wait(lock)
        try:
            # Only who holds the lock may sweep, and only what was begun under the lock is swept.
            with self._files.writable(Name()):
                self._store.sweep()
                self._mark()
            yield
        finally:
            lock.release()

    def set_aside(self, *, thorough: bool = False) -> list[str]:
        """Move files that cannot be read or are not what their place says to ``damaged/``.

        The next sync fetches their days again where the server still has them; what it has
        not is a hole.

        Parameters
        ----------
        thorough : bool
            Read every page of every file. Otherwise of days that are final only the
            footer, with what the file says of itself.

        Returns
        -------
        list of str
            Where they were, inside the archive.
        """
        self._require()
        paths = self._files.every()
        sound = self._store.each(lambda path: self._files.sound(path, thorough), paths)
        found = [path for path, well in zip(paths, sound, strict=True) if not well]
        for path in found:
            with self._files.writable(path):
                aside = DAMAGED / path
                before = self._store.glob(aside.parent, "*")
                number = sum(1 for other in before if other.name.startswith(aside.stem))
                self._store.move(path, aside.with_stem(f"{aside.stem}.{number}"))
        return [str(path) for path in found]

    def damaged_days(self, source: str) -> list[pd.Timestamp]:
        """Return the days of a source of which a file was ever set aside."""
        paths = self._store.glob(Name(DAMAGED, "sessions", slug(source)), "*.parquet")
        return [pd.Timestamp(path.name[:10], tz="UTC") for path in paths]

    # -- below ------------------------------------------------------------------

    def _wait(self, lock: base.Lock) -> None:
        try:
            lock.acquire(timeout=PATIENCE)
        except TimeoutError:
            raise ArchiveError(
                f"{self.path}: another sync has been writing it for {PATIENCE / 60:.0f} minutes; "
                "try again when it has ended"
            ) from None

    def _stamped_days(self) -> Iterator[tuple[Name, Stamp, int]]:
        return self._files.stamped(self._files.days("sessions"))

    def _known(self) -> dict[str, list[Stretch]]:
        """Of each source the stretches its sessions are known of, in order."""
        self._require()
        known: dict[str, list[Stretch]] = {}
        for _, stamp, _ in self._stamped_days():
            known.setdefault(stamp.source, []).extend(stamp.known())
        return {source: sorted(stretches) for source, stretches in known.items() if stretches}

    def _backup_servers(self, source: str) -> set[str]:
        paths = self._store.glob(Name("sessions", slug(source)), "*.parquet")
        columns = self._store.each(
            lambda path: self._files.load(path, schema.SESSIONS, ["backup_server"]), paths
        )
        names = (pc.unique(table["backup_server"].cast(pa.string())) for table in columns)
        return {name for column in names for name in column.to_pylist() if name is not None}

    def _require(self) -> None:
        if not self._store.found():
            raise ArchiveError(
                f"no archive at {self.path}; make one: cdpanalytics sync URL --archive {self.path}"
            )

    def _check_marker(self) -> None:
        if not self._store.exists(Name(MARKER)):
            if any(entry not in (".gitkeep", LOCK) for entry in self._store.entries()):
                raise ArchiveError(
                    f"{self.path} is not an archive: it has no {MARKER}; name another directory"
                )
            return
        try:
            found = json.loads(self._store.read(Name(MARKER)))["version"]
        except (OSError, ValueError, KeyError, TypeError):
            marker = self._store.at(Name(MARKER))
            raise ArchiveError(f"{marker} cannot be read; is {self.path} an archive?") from None
        if found != schema.VERSION:
            raise ArchiveError(
                f"{self.path} has schema version {found}, this cdpanalytics reads {schema.VERSION}; "
                "upgrade cdpanalytics"
            )

    def _sessions(
        self,
        start: pd.Timestamp | None,
        stop: pd.Timestamp | None,
        history: bool,
        several: bool,
        named: Named,
    ) -> pd.DataFrame:
        """Sessions of a window, and those before and after it that matter; each uid once."""
        table = self._read("sessions", start, stop, named)
        if history and start is not None:
            table = pa.concat_tables([self._history(start, named), table])
        if history and stop is not None:
            whom = schema.to_frame(table.select(_MACHINE))
            table = pa.concat_tables([table, self._following(stop, named, whom)])
        return schema.to_frame(newest(table) if several else table)

    def _read(
        self,
        table: str,
        start: pd.Timestamp | None,
        stop: pd.Timestamp | None,
        named: Named | None = None,
    ) -> pa.Table:
        expected = TABLES[table]
        paths = self._files.days(table, start, stop)
        loaded = self._store.each(lambda path: self._files.load(path, expected, named=named), paths)
        found = [
            between(part, path, WHEN[table], start, stop)
            for path, part in zip(paths, loaded, strict=True)
        ]
        return pa.concat_tables([expected.empty_table(), *found])

    def _choose(
        self, spec: MetricSpec, start: pd.Timestamp | None, stop: pd.Timestamp | None,
        history: bool, **patterns: Patterns,
    ) -> tuple[Chosen, pd.DataFrame]:  # fmt: skip
        """Return what rows of a table are asked for, and how many there are of whom, since when."""
        if spec.looks_back:
            start = None
        when, last_days = WHEN[spec.table], self._files.last_days()
        several = len(last_days) > 1
        history &= spec.table == "sessions"
        before = None
        if history and start is not None:
            before = self._history(start, {})
            before = newest(before) if several else before
        narrow = [*(["uid", "as_of"] if several else []), *WHO, when]
        narrow = [name for name in narrow if name in TABLES[spec.table].names]
        reader = Chosen(
            self._files, spec.table, start, stop, self._spoken_for(last_days), history,
            tuple(narrow), several, None, {}, (),
        )  # fmt: skip
        read = chain(reader.days(FULL_RANGE), [] if before is None else [before.select(narrow)])
        nothing = pa.schema([TABLES[spec.table].field(name) for name in narrow]).empty_table()
        kept = [counted(nothing, when)]
        for table in read:
            keep(kept, counted(table, when), added_up)
        rows = _matching(added_up(kept).to_pandas(), **patterns)
        names = {
            name: frozenset(rows[name].dropna())
            for name, given in patterns.items()
            if given is not None
        }
        servers = tuple(sorted(rows["backup_server"].dropna().unique()))
        if history and stop is not None:
            after = self._following(stop, {}, rows[_MACHINE])
            after = newest(after) if several else after
            before = after if before is None else pa.concat_tables([before, after])
        chosen = replace(reader, columns=spec.columns, history=before, names=names, servers=servers)
        return chosen, rows

    def _history(self, start: pd.Timestamp, named: Named) -> pa.Table:
        """What reaches beyond `start`; of each VM and verdict the newest begun, the last to end, and that by then."""
        paths = self._files.days("sessions", None, start)
        named = _of_machines(named)
        begun, last, by_then = list[pa.Table](), list[pa.Table](), list[pa.Table]()
        beyond = [_placed(schema.SESSIONS.empty_table().select(_NARROW), 0)]
        for table in self._narrow(paths, named):
            day = table.filter(pc.less(table["created"], scalar(start)))
            beyond.append(day.filter(pc.greater(day["ended"], scalar(start))))
            keep(begun, day, partial(_last_of_kind, column="created"))
            keep(last, day, partial(_last_of_kind, column="ended"))
            over = day.filter(pc.less_equal(day["ended"], scalar(start)))
            keep(by_then, over, partial(_last_of_kind, column="ended"))
        if not paths:
            return schema.SESSIONS.empty_table()
        chosen = [_last_of_kind(begun, "created")]
        chosen += [_last_of_kind(kept, "ended") for kept in (last, by_then)]
        rows = pa.concat_tables([part.select(["file", "row"]) for part in (*beyond, *chosen)])
        return self._taken(paths, rows.to_pandas().drop_duplicates(), named)

    def _following(self, stop: pd.Timestamp, named: Named, whom: pd.DataFrame) -> pa.Table:
        """Of each of these VMs what began at `stop` or later, up to its first success."""
        paths = self._files.days("sessions", stop)
        named = _of_machines(named)
        machines = _machines(whom.drop_duplicates()).unique()
        waiting, chosen = np.ones(len(machines), dtype=bool), list[pd.DataFrame]()
        for table in self._narrow(paths, named):
            if not waiting.any():
                break
            day = schema.to_frame(table)
            names = machines[waiting].get_level_values("vm")
            day = day[(day["created"] >= stop) & day["vm"].astype("str").fillna("").isin(names)]
            place = machines.get_indexer(_machines(day))
            mine = (place >= 0) & waiting[place]
            day = day[mine].assign(place=place[mine]).sort_values("created", kind="stable")
            over = day["state"].eq("Completed") & (day["ended"] >= day["created"])
            success = (over & day["result"].eq("Success")).astype("int64")
            already = success.groupby(day["place"]).cumsum() - success
            chosen.append(day.loc[already == 0, ["file", "row"]])
            waiting[day.loc[success == 1, "place"]] = False
        nothing = pd.DataFrame({"file": [], "row": []}, dtype="int64")
        return self._taken(paths, pd.concat([nothing, *chosen]), named)

    def _narrow(self, paths: Sequence[Name], named: Named) -> Iterator[pa.Table]:
        """What decides which sessions matter to a window, of each file, with where it stands."""
        loaded = self._store.each(
            lambda path: self._files.load(path, schema.SESSIONS, _NARROW, named), paths
        )
        return (_placed(table, number) for number, table in enumerate(loaded))

    def _spoken_for(self, last_days: Sequence[Name]) -> pd.Timestamp | None:
        """The newest instant that the archive speaks for, as the newest day of each source says."""
        stamped = self._files.stamped(last_days)
        told = [pd.Timestamp(stamp.as_of) for _, stamp, _ in stamped if stamp.as_of is not None]
        return max(told, default=None)

    def _taken(self, paths: Sequence[Name], rows: pd.DataFrame, named: Named) -> pa.Table:
        """Rows of files, by their place among `paths` and in what is read of these names."""
        rows = rows.sort_values(["file", "row"])

        def chosen_of(number: int) -> pa.Table:
            taken = pa.array(rows.loc[rows["file"] == number, "row"].to_numpy())
            return self._files.load(paths[number], schema.SESSIONS, named=named).take(taken)

        found = self._store.each(chosen_of, rows["file"].unique().tolist())
        return pa.concat_tables([schema.SESSIONS.empty_table(), *found])

    def _write(self, path: Name, rows: pa.Table, stamp: Stamp) -> None:
        with self._files.writable(path):
            self._mark()
        self._files.write(path, rows, stamp)

    def _mark(self) -> None:
        if not self._store.exists(Name(MARKER)):
            said = json.dumps({"format": "cdpanalytics archive", "version": schema.VERSION})
            self._store.write(Name(MARKER), said.encode())

    def _inspect(self, path: Name, seen: dict[str, dict[str, str]]) -> Iterator[str]:
        stamp = self._files.stamp(path)
        table = self._files.load(path, TABLES.get(stamp.table, POLICIES))
        if stamp.day is None:
            return
        day = pd.Timestamp(stamp.day, tz="UTC")
        when = WHEN.get(stamp.table, "created")
        begun = schema.to_frame(table.select([when]))[when]
        outside = int((~begun.between(day, day + _DAY, inclusive="left")).sum())
        if outside:
            yield f"{outside} rows were not created on {stamp.day}"
        if "uid" not in table.column_names:
            return
        if stamp.table == "sessions" and table["vm"].null_count:
            yield f"{table['vm'].null_count} rows have no vm"
        uids = seen.setdefault(f"{stamp.table} {stamp.source}", {})
        twice = [
            uid for uid in table["uid"].to_pylist() if uid in uids or uids.update({uid: path.stem})
        ]
        if twice:
            yield f"{len(twice)} uids stand elsewhere too, e.g. {twice[0]} (in {uids[twice[0]]})"


def _machines(rows: pd.DataFrame) -> pd.MultiIndex:
    names = [rows[name].astype("str").fillna("") for name in _MACHINE]
    return pd.MultiIndex.from_arrays(names, names=_MACHINE)


def _of_machines(named: Named) -> Named:
    """What is asked of names, but for policies: a VM's other policies decide, too, what is chosen of it."""
    return {column: given for column, given in named.items() if column in _NARROW}


def _placed(table: pa.Table, number: int) -> pa.Table:
    """Rows with the file they are in, by number, and their place there."""
    places = pa.array(np.full(len(table), number)), pa.array(np.arange(len(table)))
    return table.append_column("file", places[0]).append_column("row", places[1])


def _last_of_kind(tables: Sequence[pa.Table], column: str) -> pa.Table:
    """Of each VM, state and result the row with the latest `column`; no time at all is later."""
    rows = pa.concat_tables(tables).unify_dictionaries()
    kind = np.zeros(len(rows), dtype=np.int64)
    for name in (*_MACHINE, "state", "result"):
        labels = rows[name].combine_chunks()
        kind = kind * (len(labels.dictionary) + 1) + pc.fill_null(labels.indices, -1).to_numpy() + 1
    when = pc.fill_null(rows[column].cast(pa.int64()), np.iinfo(np.int64).max).to_numpy()
    order = np.lexsort((rows["created"].cast(pa.int64()).to_numpy(), when, kind))
    newest_of = np.append(kind[order][1:] != kind[order][:-1], len(order) > 0)
    return rows.take(pa.array(np.sort(order[newest_of[: len(order)]])))


def days(start: date, stop: date) -> list[pd.Timestamp]:
    """Return each UTC midnight from `start` to `stop`, both included."""
    return [
        pd.Timestamp(start + timedelta(number), tz="UTC")
        for number in range((stop - start).days + 1)
    ]


def _apart(
    holes: Iterable[tuple[str, str | None, pd.Timestamp, pd.Timestamp]],
    known: dict[str, list[Stretch]],
    servers: dict[str, set[str]],
) -> list[tuple[str, str | None, pd.Timestamp, pd.Timestamp]]:
    """Return holes for each backup server of their source, less what other sources know of it."""
    return [
        (source, server, *left)
        for source, _, start, end in holes
        for server in sorted(servers[source])
        for left in subtract(
            [(start, end)],
            [stretch for other in known if other != source and server in servers[other]
             for stretch in known[other]],
        )
    ]  # fmt: skip


def _matching(frame: pd.DataFrame, **patterns: Patterns) -> pd.DataFrame:
    """Keep the rows whose names match; a pattern that matches nothing is an error."""
    for column, given in patterns.items():
        if given is not None:
            frame = frame[frame[column].isin(_named(frame[column], given))]
    return frame


def _used(column: pd.Series) -> pd.Series:
    """The same labels without those of no row; to find them pandas would sort all rows."""
    codes = column.cat.codes.to_numpy().astype(np.intp)
    rows = np.bincount(codes + 1, minlength=len(column.cat.categories) + 1)
    return column if rows[1:].all() else column.cat.remove_unused_categories()


def _named(column: pd.Series, patterns: str | Sequence[str]) -> set[str]:
    names = sorted(set(column.dropna().unique()))
    wanted: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = fitting(names, pattern)
        if not found:
            known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "none"
            raise InputError(f"no session of {column.name} {pattern!r} here (known: {known})")
        wanted.update(found)
    return wanted
