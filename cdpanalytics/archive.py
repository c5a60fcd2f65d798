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
import inspect
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, timedelta
from fnmatch import translate
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdpanalytics import parts, schema, store
from cdpanalytics.config import Moment, counts_back, instant
from cdpanalytics.errors import ArchiveError, InputError, StoreError
from cdpanalytics.parts import EVERYTHING, Metric, Plan, Range

T = TypeVar("T", pa.Table, pd.DataFrame)
Patterns = str | Sequence[str] | None
Stretch = tuple[pd.Timestamp, pd.Timestamp]
Name = PurePosixPath
"""A file's name inside the archive."""

MARKER = "archive.json"
LOCK = "archive.lock"
DAMAGED = "damaged"
PATIENCE = 600.0
"""Seconds that a sync waits for another one on the same archive."""

ROW_GROUP = 10_000
"""Rows in a row group: small enough that a few VMs of a day skip most of them."""

_KEY = b"cdpanalytics"
_DAY = pd.Timedelta("1D")
_NEVER = pd.Timestamp("2200-01-01", tz="UTC").as_unit("us")
_TABLES = {
    "sessions": schema.SESSIONS,
    "policy_sessions": schema.POLICY_SESSIONS,
    "intervals": schema.JOURNAL,
}
_WHEN = {"sessions": "created", "policy_sessions": "created", "intervals": "start"}
_UNREADABLE = (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError)
_FORGET = 300_000
_log = logging.getLogger(__name__)
_SEEN = schema.POLICIES.append(pa.field("seen_from", schema.INSTANT)).append(
    pa.field("seen_to", schema.INSTANT)
)
_NARROW = ("backup_server", "vm", "created", "ended", "state", "result")
_WHO = ["backup_server", "policy", "vm"]


@dataclass(frozen=True)
class Stamp:
    """What a file says of itself.

    `as_of` is the instant its rows speak for; `final` says that none of them can
    change any more. `missing` are stretches of the day that the server had forgotten
    when they were asked for. All three are empty in tables that have no days.
    """

    table: str
    source: str
    day: str | None
    as_of: str | None
    final: bool
    version: int = schema.VERSION
    creator: str = ""
    missing: tuple[tuple[str, str], ...] = ()

    def lost(self) -> tuple[Stretch, ...]:
        """Return what is missing, as instants."""
        return tuple((pd.Timestamp(start), pd.Timestamp(end)) for start, end in self.missing)

    def known(self) -> list[Stretch]:
        """Return the stretches of the day that it speaks for."""
        day, as_of = pd.Timestamp(str(self.day), tz="UTC"), pd.Timestamp(str(self.as_of))
        return _without([(day, min(day + _DAY, as_of))], self.lost())


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
        self._store: store.Store = store.opened(path, storage_options)
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
            Also the sessions before `since` that decide how each VM entered the
            window: of each verdict the newest begun and the last to end.

        Returns
        -------
        pandas.DataFrame
            `schema.SESSIONS` columns, ordered by source, day, VM and time; each uid
            once, as the newest as_of has it. The frame knows its window (`attrs`): metrics
            keep to it where they are given none, and refuse one that is larger.

        Raises
        ------
        InputError
            When `since` is not before `until`, or a pattern matches nothing.
        ArchiveError
            When there is no archive, or a file cannot be read.
        """
        start, stop = self.window(since, until)
        before = start if history else None
        wanted = {"policy": policy, "vm": vm, "backup_server": server}
        named = {column: given for column, given in wanted.items() if given is not None}
        several = self._several()
        try:
            # The newest of a session's rows may have another name: with several sources all are read.
            frame = self._sessions(start, stop, before, several, {} if several else named)
            frame = _matching(frame, **wanted)
        except InputError:
            frame = _matching(self._sessions(start, stop, before, several, {}), **wanted)
        for column in frame.columns[frame.dtypes == "category"]:
            if column not in ("result", "policy_result"):
                frame[column] = _used(frame[column])
        return schema.read_for(frame.reset_index(drop=True), start, stop)

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
        metric: Metric,
        *arguments: object,
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
        *arguments, **named
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
        total = parts.size(memory)
        crew, each = parts.crew(workers, total)
        plan = self.plan(
            metric,
            *arguments,
            since=since,
            until=until,
            policy=policy,
            vm=vm,
            server=server,
            **named,
        )
        if workers is None and plan.rows <= parts.WORTH:
            crew, each = 1, total
        plan = plan.cut(each, crew)
        crew = min(crew, len(plan.ranges))
        computed = parts.here(plan) if crew == 1 else parts.on_processes(plan, crew)
        return parts.gathered(plan, computed, progress)

    def plan(
        self,
        metric: Metric,
        *arguments: object,
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
        metric, *arguments, since, until, policy, vm, server, **named
            As in `map`.
        """
        recipe = parts.declared(metric)
        takes = inspect.signature(metric).parameters
        start, stop = self.window(since, until)
        window = {
            name: value for name, value in (("since", start), ("until", stop)) if name in takes
        }
        asked = parts.bound(metric, arguments, {**named, **window})
        chosen, rows_of = self._choose(
            recipe, start, stop, "since" in takes, policy=policy, vm=vm, backup_server=server
        )
        if asked.get("as_of", ...) is None and len(rows_of):
            asked["as_of"] = _speaks_for(rows_of)
        if asked.get("freq") is not None and asked.get("since", ...) is None and len(rows_of):
            # Each range must be cut into the same periods.
            first = rows_of["begun"].min()
            asked["since"] = min(first, instant(asked["as_of"], first))
        column = recipe.cut_by(asked.get("by", ()))
        return Plan(metric, asked, chosen, column, _rows_by(rows_of, column))

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
        frame = schema.to_frame(pa.concat_tables([_SEEN.empty_table(), *tables]))
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
        return sorted({stamp.source for _, stamp in self._stamps("sessions")})

    def ledger(self) -> pd.DataFrame:
        """Return what was fetched: a row a source and day.

        Returns
        -------
        pandas.DataFrame
            ``source``, ``day`` (UTC midnight), ``as_of``, ``final``, ``missing`` (of the
            day, pairs of instants that the server had forgotten), ``rows``, ``path``.
        """
        self._require()
        rows = [
            {
                **asdict(stamp),
                "missing": stamp.lost(),
                "rows": rows,
                "path": self._store.at(path),
            }
            for path, stamp, rows in self._stamped(self._paths("sessions", None, None))
        ]
        columns = ["source", "day", "as_of", "final", "missing", "rows", "path"]
        frame = pd.DataFrame(rows, columns=columns)
        for column in ("day", "as_of"):
            frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
        return frame.astype({"final": bool, "rows": "int64", "source": "str", "path": "str"})

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
            holes += [(source, None, *hole) for hole in _without([(first, newest)], stretches)]
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
        paths = self._paths("sessions", *self.window(since, until))
        stamped = list(self._stamped(paths))
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
        for path in self._files():
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
        path = self._day_path(table, source, day)
        if not self._store.exists(path):
            return _TABLES[table].empty_table()
        return self._load(path, _TABLES[table])

    def put_day(
        self,
        table: str,
        source: str,
        day: pd.Timestamp,
        rows: pa.Table,
        as_of: pd.Timestamp,
        final: bool = False,
        missing: Iterable[Stretch] = (),
    ) -> None:
        """Replace one day: written beside it, then renamed, so that it is whole or untouched."""
        lost = tuple((start.isoformat(), end.isoformat()) for start, end in missing)
        stamp = Stamp(table, source, f"{day:%Y-%m-%d}", as_of.isoformat(), final, missing=lost)
        self._write(self._day_path(table, source, day), _ordered(rows), stamp)

    def known_policies(self, source: str) -> pa.Table:
        """Return one source's settings with `seen_from` and `seen_to`."""
        path = Name("policies") / f"{_slug(source)}.parquet"
        return self._load(path, _SEEN) if self._store.exists(path) else _SEEN.empty_table()

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
        path = Name("policies") / f"{_slug(source)}.parquet"
        self._write(path, pa.Table.from_pylist(known, schema=_SEEN), stamp)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the archive for writing, once another process that does has finished.

        What a process that was killed left half-written is removed first.

        Raises
        ------
        ArchiveError
            When another process holds it for ten minutes, or it cannot be written.
        """
        with self._writable(Name()):
            lock = self._store.lock(Name(LOCK))
            try:
                lock.acquire(timeout=0)
            except TimeoutError:
                _log.warning("%s: another sync is writing it; waiting for it to end", self.path)
                self._wait(lock)
        try:
            # Only who holds the lock may sweep, and only what was begun under the lock is swept.
            with self._writable(Name()):
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
        paths = self._files()
        sound = self._store.each(lambda path: self._sound(path, thorough), paths)
        found = [path for path, well in zip(paths, sound, strict=True) if not well]
        for path in found:
            with self._writable(path):
                aside = DAMAGED / path
                before = self._store.glob(aside.parent, "*")
                number = sum(1 for other in before if other.name.startswith(aside.stem))
                self._store.move(path, aside.with_stem(f"{aside.stem}.{number}"))
        return [str(path) for path in found]

    def damaged_days(self, source: str) -> list[pd.Timestamp]:
        """Return the days of a source of which a file was ever set aside."""
        paths = self._store.glob(Name(DAMAGED, "sessions", _slug(source)), "*.parquet")
        return [pd.Timestamp(path.name[:10], tz="UTC") for path in paths]

    # -- below ------------------------------------------------------------------

    def _files(self) -> list[Name]:
        every = self._store.glob(Name(), "*/**/*.parquet")
        return [path for path in every if path.parts[0] != DAMAGED]

    def _sound(self, path: Name, thorough: bool) -> bool:
        try:
            metadata = self._store.parsed(path, _metadata)
            stamp = _read_stamp(metadata)
            expected = _TABLES.get(stamp.table, _SEEN)
            if stamp.final and not thorough:
                shape = metadata.schema.to_arrow_schema().names == expected.names
                return shape and self._odd(path, stamp) is None
            self._load(path, expected)
            return True
        except StoreError:
            raise
        except (ArchiveError, *_UNREADABLE):
            return False

    def _odd(self, path: Name, stamp: Stamp) -> str | None:
        """Say what a file claims to be, where that is not what its place says or we can read."""
        if stamp.version != schema.VERSION:
            return f"has schema version {stamp.version}, not {schema.VERSION}"
        place = path.parts
        if place[0] != stamp.table or stamp.table not in (*_TABLES, "policies"):
            return f"says it is of table {stamp.table!r}"
        slug = _slug(stamp.source)
        by_day = stamp.table != "policies"
        if place[1:] != ((slug, path.name) if by_day else (f"{slug}.parquet",)):
            return f"says it is of {stamp.source}"
        day = path.stem if by_day else None
        return None if stamp.day == day else f"says it holds {stamp.day}"

    def _wait(self, lock: store.Lock) -> None:
        try:
            lock.acquire(timeout=PATIENCE)
        except TimeoutError:
            raise ArchiveError(
                f"{self.path}: another sync has been writing it for {PATIENCE / 60:.0f} minutes; "
                "try again when it has ended"
            ) from None

    @contextmanager
    def _writable(self, path: Name) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = self._store.at(path)
            raise ArchiveError(f"{place} cannot be written: {error.strerror or error}") from None

    def _known(self) -> dict[str, list[Stretch]]:
        """Of each source the stretches its sessions are known of, in order."""
        self._require()
        known: dict[str, list[Stretch]] = {}
        for _, stamp in self._stamps("sessions"):
            known.setdefault(stamp.source, []).extend(stamp.known())
        return {source: sorted(stretches) for source, stretches in known.items() if stretches}

    def _backup_servers(self, source: str) -> set[str]:
        paths = self._store.glob(Name("sessions", _slug(source)), "*.parquet")
        columns = self._store.each(
            lambda path: self._load(path, schema.SESSIONS, ["backup_server"]), paths
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

    def _day_path(self, table: str, source: str, day: pd.Timestamp) -> Name:
        return Name(table, _slug(source), f"{day:%Y-%m-%d}.parquet")

    def _paths(
        self, table: str, start: pd.Timestamp | None, stop: pd.Timestamp | None
    ) -> list[Name]:
        """Files of the days that `[start, stop)` touches, by source and day."""
        first = "" if start is None else f"{start:%Y-%m-%d}"
        paths = self._store.glob(Name(table), "*/*.parquet")
        return [
            path
            for path in paths
            if path.stem >= first and (stop is None or pd.Timestamp(path.stem, tz="UTC") < stop)
        ]

    def _several(self) -> bool:
        """Whether the archive has several sources, as the names of its folders tell."""
        return len({path.parent for path in self._paths("sessions", None, None)}) > 1

    def _stamps(self, table: str) -> Iterator[tuple[Name, Stamp]]:
        for path, stamp, _ in self._stamped(self._paths(table, None, None)):
            yield path, stamp

    def _stamped(self, paths: Sequence[Name]) -> Iterator[tuple[Name, Stamp, int]]:
        """Yield files with what they say of themselves, and how many rows they have."""
        for path, (stamp, rows) in zip(paths, self._store.each(self._footer, paths), strict=True):
            yield path, stamp, rows

    def _stamp(self, path: Name) -> Stamp:
        return self._footer(path)[0]

    def _footer(self, path: Name) -> tuple[Stamp, int]:
        try:
            metadata = self._store.parsed(path, _metadata)
            return _read_stamp(metadata), metadata.num_rows
        except _UNREADABLE:
            raise self._damaged(path) from None

    def _damaged(self, path: Name) -> ArchiveError:
        return ArchiveError(
            f"{self._store.at(path)} cannot be read; see: cdpanalytics verify --archive DIR"
        )

    def _load(
        self,
        path: Name,
        expected: pa.Schema,
        columns: Iterable[str] | None = None,
        named: Mapping[str, str | Sequence[str]] | None = None,
        within: Range = EVERYTHING,
    ) -> pa.Table:
        """Return the rows of a file: some columns, of these names or a range; read no more than that takes."""
        names = list(columns or expected.names)

        def rows(file: pq.ParquetFile) -> pa.Table | str:
            odd = self._odd(path, _read_stamp(file.metadata))
            if odd is not None:
                return odd
            table = (
                _named_rows(file, expected, names, named)
                if named
                else _inside(
                    file.read_row_groups(_groups_of(file.metadata, within), columns=names), within
                )
            )
            return table.select(names).cast(pa.schema([expected.field(name) for name in names]))

        try:
            found = self._store.parsed(path, rows)
        except _UNREADABLE:
            raise self._damaged(path) from None
        if isinstance(found, str):
            place = self._store.at(path)
            raise ArchiveError(f"{place} {found}; see: cdpanalytics verify --archive DIR")
        return found

    def _sessions(
        self,
        start: pd.Timestamp | None,
        stop: pd.Timestamp | None,
        before: pd.Timestamp | None,
        several: bool,
        named: Mapping[str, str | Sequence[str]],
    ) -> pd.DataFrame:
        """Sessions of a window, and those before it that matter; each uid once."""
        table = self._read("sessions", start, stop, named)
        if before is not None:
            table = pa.concat_tables([self._history(before, named), table])
        return schema.to_frame(_newest(table) if several else table)

    def _read(
        self,
        table: str,
        start: pd.Timestamp | None,
        stop: pd.Timestamp | None,
        named: Mapping[str, str | Sequence[str]] | None = None,
    ) -> pa.Table:
        expected = _TABLES[table]
        paths = self._paths(table, start, stop)
        loaded = self._store.each(lambda path: self._load(path, expected, named=named), paths)
        found = [
            _between(part, path, _WHEN[table], start, stop)
            for path, part in zip(paths, loaded, strict=True)
        ]
        return pa.concat_tables([expected.empty_table(), *found])

    def _choose(
        self, recipe: parts.Recipe, start: pd.Timestamp | None, stop: pd.Timestamp | None,
        history: bool, **patterns: Patterns,
    ) -> tuple[Chosen, pd.DataFrame]:  # fmt: skip
        """Return what rows of a table are asked for, and how many there are of whom, since when."""
        if recipe.looks_back:
            start = None
        when, several = _WHEN[recipe.table], self._several()
        before = None
        if history and start is not None and recipe.table == "sessions":
            before = self._history(start, {})
            before = _newest(before) if several else before
        narrow = [*(["uid"] if several else []), *_WHO, when, "ended", "as_of"]
        narrow = [name for name in narrow if name in _TABLES[recipe.table].names]
        reader = Chosen(self, recipe.table, start, stop, tuple(narrow), several, None, {}, ())
        read = chain(reader.days(EVERYTHING), [] if before is None else [before.select(narrow)])
        nothing = pa.schema([_TABLES[recipe.table].field(name) for name in narrow]).empty_table()
        kept = [_counted(nothing, when)]
        for table in read:
            _keep(kept, _counted(table, when), _added_up)
        rows = _matching(_added_up(kept).to_pandas(), **patterns)
        names = {
            name: frozenset(rows[name].dropna())
            for name, given in patterns.items()
            if given is not None
        }
        servers = tuple(sorted(rows["backup_server"].dropna().unique()))
        chosen = replace(
            reader, columns=recipe.columns, history=before, names=names, servers=servers
        )
        return chosen, rows

    def _history(self, start: pd.Timestamp, named: Mapping[str, str | Sequence[str]]) -> pa.Table:
        """Of each VM and verdict before `start`, the newest begun and the last to end."""
        paths = self._paths("sessions", None, start)
        # What is chosen of a VM does not depend on other VMs, but does on its other policies.
        named = {column: given for column, given in named.items() if column in _NARROW}
        loaded = self._store.each(
            lambda path: self._load(path, schema.SESSIONS, _NARROW, named), paths
        )
        best: dict[str, list[pd.DataFrame]] = {"created": [], "last": []}
        for number, table in enumerate(loaded):
            day = schema.to_frame(table)
            day = day.assign(file=np.full(len(day), number), row=np.arange(len(day)))
            day = day[day["created"] < start]
            day = day.assign(last=day["ended"].fillna(_NEVER))
            for order, kept in best.items():
                _keep(kept, _last_of_kind([day], order), partial(_last_of_kind, order=order))
        if not paths:
            return schema.SESSIONS.empty_table()
        chosen = [_last_of_kind(kept, order) for order, kept in best.items()]
        rows = pd.concat(chosen)[["file", "row"]].drop_duplicates().sort_values(["file", "row"])

        def chosen_of(number: int) -> pa.Table:
            taken = pa.array(rows.loc[rows["file"] == number, "row"].to_numpy())
            return self._load(paths[number], schema.SESSIONS, named=named).take(taken)

        found = self._store.each(chosen_of, rows["file"].unique().tolist())
        return pa.concat_tables([schema.SESSIONS.empty_table(), *found])

    def _write(self, path: Name, table: pa.Table, stamp: Stamp) -> None:
        said = json.dumps({**asdict(stamp), "creator": f"cdpanalytics {_own_version()}"})
        labelled = table.replace_schema_metadata({_KEY: said.encode()})
        body = io.BytesIO()
        labels = [f.name for f in labelled.schema if pa.types.is_dictionary(f.type)]
        with pq.ParquetWriter(
            body,
            labelled.schema,
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=labels,
        ) as writer:
            for start in range(0, max(1, len(labelled)), ROW_GROUP):
                # Of its own labels only: who reads a few VMs should not read the names of all.
                writer.write_table(_relabelled(labelled.slice(start, ROW_GROUP), labels))
        with self._writable(path):
            self._mark()
            self._store.write(path, body.getvalue())

    def _mark(self) -> None:
        if not self._store.exists(Name(MARKER)):
            said = json.dumps({"format": "cdpanalytics archive", "version": schema.VERSION})
            self._store.write(Name(MARKER), said.encode())

    def _inspect(self, path: Name, seen: dict[str, dict[str, str]]) -> Iterator[str]:
        stamp = self._stamp(path)
        table = self._load(path, _TABLES.get(stamp.table, _SEEN))
        if stamp.day is None:
            return
        day = pd.Timestamp(stamp.day, tz="UTC")
        when = _WHEN.get(stamp.table, "created")
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


@dataclass(frozen=True)
class Chosen:
    """Rows of a table that were asked for, read a range at a time by whoever computes.

    `names` are those that patterns matched in the whole; `history` are rows from before
    the window; `servers` are all backup servers there are, so that each range knows of
    them. With `several` sources, days that more than one of them has are read whole: only
    there can one uid stand twice.
    """

    archive: Archive
    table: str
    start: pd.Timestamp | None
    stop: pd.Timestamp | None
    columns: tuple[str, ...]
    several: bool
    history: pa.Table | None
    names: dict[str, frozenset[str]]
    servers: tuple[str, ...]

    def cut(self, within: Range) -> Chosen:
        """Return the same for a worker that reads this range only."""
        if self.history is None:
            return self
        return replace(self, history=_inside(self.history.select(self.columns), within))

    def read(self, within: Range) -> pd.DataFrame:
        """Return the rows of a range, in the order of `Archive.sessions`."""
        tables = list(self.days(within))
        if self.history is not None:
            tables.insert(0, _inside(self.history.select(self.columns), within))
        expected = pa.schema([_TABLES[self.table].field(name) for name in self.columns])
        frame = schema.to_frame(pa.concat_tables([expected.empty_table(), *tables]))
        del tables
        for column, names in self.names.items():
            frame = frame[frame[column].isin(names)]
        labels = frame["backup_server"].astype(pd.CategoricalDtype(list(self.servers)))
        frame = frame.assign(backup_server=labels).reset_index(drop=True)
        return schema.read_for(frame, self.start, self.stop)

    def days(self, within: Range) -> Iterator[pa.Table]:
        """Yield the rows of a range from each file, by source and day."""
        paths = self.archive._paths(self.table, self.start, self.stop)
        alike: dict[str, list[Name]] = {}
        for path in paths:
            alike.setdefault(path.stem, []).append(path)
        told_twice = self.several and "uid" in self.columns

        def rows(path: Name) -> pa.Table:
            others = alike[path.stem]
            if told_twice and len(others) > 1:
                return self._cut(_inside(self._current(path, others), within), path)
            return self._cut(self._load(path, within), path)

        return self.archive._store.each(rows, paths)

    def _load(self, path: Name, within: Range = EVERYTHING) -> pa.Table:
        return self.archive._load(path, _TABLES[self.table], self.columns, within=within)

    def _current(self, path: Name, others: list[Name]) -> pa.Table:
        """Rows of one file of a day, without those that another source has a newer word on."""
        loaded = [self._load(other) for other in others]
        kept = _newest(
            pa.concat_tables(
                rows.append_column("file", pa.array(np.full(len(rows), number)))
                for number, rows in enumerate(loaded)
            )
        )
        return kept.filter(pc.equal(kept["file"], others.index(path))).drop_columns("file")

    def _cut(self, rows: pa.Table, path: Name) -> pa.Table:
        return _between(rows, path, _WHEN[self.table], self.start, self.stop)


def _between(
    rows: pa.Table, path: Name, when: str, start: pd.Timestamp | None, stop: pd.Timestamp | None
) -> pa.Table:
    """Rows of a day's file that lie in ``[start, stop)``."""
    for edge, keep in ((start, pc.greater_equal), (stop, pc.less)):
        if edge is not None and path.stem == f"{edge:%Y-%m-%d}":
            rows = rows.filter(keep(rows[when], _scalar(edge)))
    return rows


def _inside(rows: pa.Table, within: Range) -> pa.Table:
    """Rows of a range."""
    if within.whole or within.column is None:
        return rows
    names = rows[within.column].cast(pa.string())
    edges = ((within.first, pc.greater_equal), (within.stop, pc.less))
    for edge, keep in edges:
        if edge is not None:
            # One without a name is in the last range.
            held = pc.fill_null(keep(names, edge), within.stop is None)
            rows, names = rows.filter(held), names.filter(held)
    return rows


def _groups_of(metadata: pq.FileMetaData, within: Range) -> list[int]:
    """Row groups of a file that may hold rows of a range, by their own statistics."""
    numbers = range(metadata.num_row_groups)
    if within.whole or within.column is None:
        return list(numbers)
    place = metadata.schema.names.index(within.column)
    told = [metadata.row_group(number).column(place).statistics for number in numbers]
    return [
        number
        for number, said in zip(numbers, told, strict=True)
        if said is None
        or not said.has_min_max
        or within.meets(said.min, said.max)
        or (within.stop is None and said.null_count)
    ]


def _counted(table: pa.Table, when: str) -> pa.Table:
    """How many rows there are of whom, when the first began, and the newest instants."""
    names = [name for name in (when, "ended", "as_of") if name in table.column_names]
    who = [table[name].unify_dictionaries().combine_chunks() for name in _WHO]
    codes = [labels.indices for labels in who]  # numbers are grouped several times faster than text
    plain = pa.table([*codes, *(table[name] for name in names)], names=[*_WHO, *names])
    newest = [(name, "max") for name in names]
    found = plain.group_by(_WHO).aggregate([([], "count_all"), (when, "min"), *newest])
    for place, (name, labels) in enumerate(zip(_WHO, who, strict=True)):
        texts = labels.dictionary.cast(pa.string()).take(found[name].combine_chunks())
        found = found.set_column(place, name, texts)
    renamed = {"count_all": "rows", f"{when}_min": "begun"}
    return found.rename_columns([renamed.get(name, name) for name in found.column_names])


def _added_up(counted: Sequence[pa.Table]) -> pa.Table:
    """Add up counts of files."""
    every = pa.concat_tables(counted)
    how = {name: {"rows": "sum", "begun": "min"}.get(name, "max") for name in every.column_names}
    found = every.group_by(_WHO).aggregate([(n, how[n]) for n in how if n not in _WHO])
    return found.rename_columns([*_WHO, *(name for name in how if name not in _WHO)])


def _keep(kept: list[T], more: T, together: Callable[[list[T]], T]) -> None:
    """Add to what is kept, and put it together every so often, so that it takes bounded memory."""
    kept.append(more)
    if sum(map(len, kept)) > _FORGET + 2 * len(kept[0]):
        kept[:] = [together(kept)]


def _speaks_for(rows: pd.DataFrame) -> pd.Timestamp:
    """What a metric would take for `as_of` of these rows."""
    newest = rows["as_of_max"].max()
    return newest if not pd.isna(newest) else rows[["created_max", "ended_max"]].max().max()


def _rows_by(rows: pd.DataFrame, column: str | None) -> pd.Series:
    """How many rows each name has, in order; one without a name last."""
    if column is None:
        return pd.Series([rows["rows"].sum()], index=pd.Index([""]), dtype="int64")
    return rows.groupby(column, dropna=False)["rows"].sum().astype("int64")


def _last_of_kind(tables: Sequence[pd.DataFrame], order: str) -> pd.DataFrame:
    kind = ["backup_server", "vm", "state", "result"]
    rows = pd.concat(tables, ignore_index=True)
    return rows.sort_values([order, "created"], kind="stable").drop_duplicates(kind, keep="last")


def days(start: date, stop: date) -> list[pd.Timestamp]:
    """Return each UTC midnight from `start` to `stop`, both included."""
    return [
        pd.Timestamp(start + timedelta(number), tz="UTC")
        for number in range((stop - start).days + 1)
    ]


def _without(stretches: Iterable[Stretch], taken: Iterable[Stretch]) -> list[Stretch]:
    """Return what is left of stretches when others are taken out of them."""
    left = list(stretches)
    for start, end in sorted(taken):
        left = [
            piece
            for first, last in left
            for piece in ((first, min(last, start)), (max(first, end), last))
            if piece[0] < piece[1]
        ]
    return left


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
        for left in _without(
            [(start, end)],
            [stretch for other in known if other != source and server in servers[other]
             for stretch in known[other]],
        )
    ]  # fmt: skip


def _newest(table: pa.Table) -> pa.Table:
    """Of rows with one uid keep the newest `as_of`, or the last where that is the same."""
    told = schema.to_frame(table.select(["uid", "as_of"])).sort_values("as_of", kind="stable")
    return table.take(pa.array(np.sort(told.drop_duplicates("uid", keep="last").index)))


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
        found = _alike(names, pattern)
        if not found:
            known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "none"
            raise InputError(f"no session of {column.name} {pattern!r} here (known: {known})")
        wanted.update(found)
    return wanted


def _alike(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that fit a pattern, in any case, or are it to the letter."""
    fits = re.compile(translate(pattern.casefold()))
    return [name for name in names if fits.match(name.casefold()) or name == pattern]


def _named_rows(
    file: pq.ParquetFile,
    expected: pa.Schema,
    columns: Sequence[str],
    named: Mapping[str, str | Sequence[str]],
) -> pa.Table:
    """Read the rows whose names fit: labels of all rows first, the rest of row groups that have one.

    The labels of all rows, so that the order of a label's values is that of the whole file.
    """
    labels = [f.name for f in expected if pa.types.is_dictionary(f.type)]
    labels = [name for name in labels if name in columns or name in named]
    if file.num_row_groups <= 1:
        whole = file.read(columns=list(dict.fromkeys([*columns, *named])))
        return whole.filter(pa.array(_fitting(whole, named)))
    known = file.read(columns=labels)
    keep = _fitting(known, named)
    begin = np.cumsum(
        [0] + [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    )
    groups = [n for n in range(file.num_row_groups) if keep[begin[n] : begin[n + 1]].any()]
    among = np.concatenate([keep[:0], *(keep[begin[n] : begin[n + 1]] for n in groups)])
    others = [name for name in columns if name not in labels]
    rest = file.read_row_groups(groups, columns=others).filter(pa.array(among))
    known = known.filter(pa.array(keep))
    return pa.table({n: (known if n in labels else rest)[n] for n in columns})


def _fitting(labels: pa.Table, named: Mapping[str, str | Sequence[str]]) -> np.ndarray:
    """Which rows have, in each column that is named, a name that fits one of its patterns."""
    keep = np.ones(len(labels), dtype=bool)
    for column, given in named.items():
        codes = labels[column].unify_dictionaries().combine_chunks()
        names = codes.dictionary.to_pylist()
        patterns = [given] if isinstance(given, str) else given
        fit = {name for pattern in patterns for name in _alike(names, pattern)}
        fits = np.array([*(name in fit for name in names), False])
        keep &= fits[pc.fill_null(codes.indices, -1).to_numpy()]
    return keep


def _metadata(file: pq.ParquetFile) -> pq.FileMetaData:
    return file.metadata


def _ordered(rows: pa.Table) -> pa.Table:
    """Return rows by VM, time and uid; Arrow sorts text, not labels."""
    wanted = ("vm", "created", "start", "uid")
    names = [name for name in wanted if name in rows.column_names]
    keys = [rows[n].cast(pa.string()) if n in ("vm", "uid") else rows[n] for n in names]
    order = pa.table(keys, names=names)
    return rows.take(pc.sort_indices(order, [(name, "ascending") for name in names]))


def _relabelled(rows: pa.Table, labels: Iterable[str]) -> pa.Table:
    """Return rows with no labels but those they use."""
    for name in labels:
        kind = rows.schema.field(name)
        used = rows[name].cast(pa.string()).dictionary_encode().cast(kind.type)
        rows = rows.set_column(rows.schema.get_field_index(name), kind, used)
    return rows


def _read_stamp(metadata: pq.FileMetaData) -> Stamp:
    """Read what a file says of itself; words that a later version adds are passed over."""
    said = json.loads((metadata.metadata or {})[_KEY])
    known = {field.name for field in fields(Stamp)}
    return Stamp(**{name: value for name, value in said.items() if name in known})


def _slug(source: str) -> str:
    """A source's folder, another one for each: host and port, with nothing a path could mind."""
    scheme, _, place = source.lower().rpartition("://")
    plain = re.sub(r"[^a-z0-9.:\[\]-]", lambda odd: f"%{ord(odd[0]):x}", place).replace(":", "_")
    return (f"{scheme}_" if scheme == "http" else "") + plain


def _scalar(stamp: pd.Timestamp) -> pa.Scalar:
    return pa.scalar(stamp.to_pydatetime(), schema.INSTANT)


def _own_version() -> str:
    try:
        return version("cdpanalytics")
    except PackageNotFoundError:
        return "unknown"
