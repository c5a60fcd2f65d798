"""The archive: plain Parquet files that outlive the server's memory.

::

    DIR/archive.json                               marks an archive: version, sources, last commit
    DIR/sessions/SOURCE/2026-10-01.parquet         task sessions created on that day, by VM and time
    DIR/policy_sessions/SOURCE/2026-10-01.parquet  policy sessions created on that day
    DIR/intervals/SOURCE/2026-10-01.parquet        restorable intervals of that day, when asked for
    DIR/months/SOURCE/2026-09.parquet              of a settled month what later windows need of it (`months`)
    DIR/policies/SOURCE.parquet                    settings, each row with when they were seen
    DIR/.../_new.NAME                              written by a sync that has not ended (`writing`)
    DIR/damaged/...                                files that could not be read, set aside under their names
    DIR/archive.lock                               held by the sync that writes

DIR is a directory or a prefix of an object store (`storage`). SOURCE is the Enterprise
Manager that the rows come from: its host and port. ``pandas.read_parquet(DIR + "/sessions")``
reads the sessions without this package. What was fetched, when, and whether it can still
change is in each file's own metadata, so that no second record can disagree. Files with
other names, links and other folders are the user's: they are neither read nor changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.archive import coverage
from cdpanalytics.archive import verify as verification
from cdpanalytics.archive.extremes import LATEST, NeighbourRules, default_rules
from cdpanalytics.archive.files import (
    POLICIES,
    TABLES,
    ParquetFiles,
)
from cdpanalytics.archive.scan import Rows, Scan, plan_scan, read_rows
from cdpanalytics.archive.stored import StoredArchive
from cdpanalytics.errors import InputError
from cdpanalytics.frames import mark
from cdpanalytics.patterns import Patterns
from cdpanalytics.ranges import FULL_RANGE, Range
from cdpanalytics.timeparse import Moment, counts_back, instant

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection


class Archive(StoredArchive):
    """The archive: the Parquet files of all sessions that were fetched, in a folder or an object store.

    Parameters
    ----------
    path : path-like or str
        The directory, or a URL that fsspec knows: ``s3://bucket/prefix``. The first sync
        creates it. To read a directory that does not exist, or is not an archive, is an error.
    storage_options : mapping, optional
        For a URL, as in pandas: the options of fsspec's file system (``endpoint_url``,
        ``key``, ``secret``). They are in memory only, and are never shown.

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
            A text without an offset is UTC. A length counts back from the newest `as_of`.
        policy, vm, server : str or sequence of str, optional
            Names or patterns such as ``"Gold*"``; upper and lower case are the same.
        history : bool
            Also return the sessions outside the window that decide whether a VM was covered at
            the start and at the end of the window (its neighbours).

        Returns
        -------
        pandas.DataFrame
            The columns of a session, ordered by source, day, VM and time; each uid once, with
            the newest `as_of`. The column `window` says which window was read; metrics use it,
            and refuse a larger one. With `history`, or without a window, there are also
            `neighbour` (whether the row is outside the window) and `terms`.

        Raises
        ------
        InputError
            If `since` is not before `until`, or a pattern matches nothing.
        ArchiveError
            If the archive does not exist, or a file cannot be read.
        """
        start, stop = self.window(since, until)
        patterns: dict[str, Patterns] = {"policy": policy, "vm": vm, "backup_server": server}
        rules = LATEST if history else None
        wanted = Rows("sessions", tuple(schema.SESSIONS.names), start, stop, patterns, rules)

        def read(files: ParquetFiles) -> pd.DataFrame:
            frame = read_rows(files, wanted)[schema.SESSIONS.names]
            whole = history or (start is None and stop is None)
            terms = () if whole else None
            return mark(frame, start, stop, coverage.as_of(files), terms, unique=True)

        return self._consistent(read)

    def select(
        self,
        period: str | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        **terms: Any,
    ) -> Selection:
        """Return a selection of this archive: its metrics, plots and reports are methods.

        The page "Shared parameters" of the reference explains all arguments.

        Parameters
        ----------
        period : str, optional
            A calendar period in `tz`: "2026-10", "last month", "last 30 days".
        since, until : timestamp-like or text like "30D", optional
            Instead of a period: the window ``[since, until)``.
        policy, vm, server : str or sequence of str, optional
            Names or patterns such as ``"Gold*"``; upper and lower case are the same.
        **terms
            `tag`, `tz`, `tags`, `target`, `objective`, `exclude`, `retire_after`, `grace`,
            `memory`, `workers`, `estate`.

        Returns
        -------
        Selection

        Raises
        ------
        InputError
            If there is no such argument, or a value cannot be read.

        Examples
        --------
        >>> october = Archive("data/sample").select("2026-10", policy="Gold*")
        >>> october.rpo_adherence(by="policy")["policy"].tolist()
        ['Gold']
        """
        from cdpanalytics.questions import select_archive

        return select_archive(self, (period, since, until), (policy, vm, server), terms)

    def read(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        columns: Iterable[str] | None = None,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        neighbours: bool | NeighbourRules = False,
        within: Range = FULL_RANGE,
    ) -> pd.DataFrame:
        """Return some columns of the task sessions created in ``[since, until)``.

        Parameters
        ----------
        since, until, policy, vm, server
            As in `sessions`.
        columns : iterable of str, optional
            Of `schema.SESSIONS`; the others are not read. Default: all.
        neighbours : bool or NeighbourRules
            Also return the sessions outside the window that decide how each VM entered and
            left it: those that end after `since`; of each state and result the latest start,
            the latest end, the latest end by `since` and the first finished one; the first
            attempt; the longest finished session, and the same as of the beginning of each
            hole before `since`; from `until` on all sessions up to the VM's next success.
        within : Range
            Only rows of this range of names.

        Returns
        -------
        pandas.DataFrame
            The columns, in the order given, and with `neighbours` the boolean column
            `neighbour`: whether the row lies outside the window. Each uid once.

        Raises
        ------
        InputError, ArchiveError
            As in `sessions`; also when a column does not exist.

        Examples
        --------
        >>> archive = Archive("data/sample")
        >>> rows = archive.read("2D", columns=["vm", "created"], neighbours=True)
        >>> list(rows.columns)
        ['vm', 'created', 'neighbour']
        """
        start, stop = self.window(since, until)
        wanted = Rows(
            "sessions", _known_columns(columns), start, stop,
            {"policy": policy, "vm": vm, "backup_server": server},
        )  # fmt: skip

        def read(files: ParquetFiles) -> pd.DataFrame:
            rules = _rules(files, neighbours, start)
            return read_rows(files, replace(wanted, rules=rules), within)

        return self._consistent(read)

    def scan(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        table: str = "sessions",
        columns: Iterable[str] | None = None,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
        neighbours: bool | NeighbourRules = False,
    ) -> tuple[Scan, pd.DataFrame]:
        """Return the rows of `read` to be read by ranges, and how many there are.

        Parameters
        ----------
        since, until, columns, policy, vm, server, neighbours
            As in `read`.
        table : {"sessions", "intervals"}

        Returns
        -------
        Scan
            Its `read(within)` returns the rows of a range of names; it can be sent to other
            processes, and `cut(within)` is what one of them needs.
        pandas.DataFrame
            ``backup_server, policy, vm, rows, begun``: rows per name, and when the first
            began.
        """
        start, stop = self.window(since, until)
        wanted = Rows(
            table, _known_columns(columns, table), start, stop,
            {"policy": policy, "vm": vm, "backup_server": server},
        )  # fmt: skip

        def plan(files: ParquetFiles) -> tuple[Scan, pd.DataFrame]:
            rules = _rules(files, neighbours, start)
            return plan_scan(files, replace(wanted, rules=rules), coverage.as_of(files))

        return self._consistent(plan)

    def policy_sessions(
        self, since: Moment | None = None, until: Moment | None = None
    ) -> pd.DataFrame:
        """Return the policy sessions created in ``[since, until)``: `schema.POLICY_SESSIONS`."""
        columns = tuple(schema.POLICY_SESSIONS.names)
        wanted = Rows("policy_sessions", columns, *self.window(since, until))
        return self._consistent(lambda files: read_rows(files, wanted))

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
        patterns: dict[str, Patterns] = {"policy": policy, "vm": vm, "backup_server": server}
        columns = tuple(schema.JOURNAL.names)
        wanted = Rows("intervals", columns, *self.window(since, until), patterns)
        return self._consistent(lambda files: read_rows(files, wanted))

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

        def read(files: ParquetFiles) -> list[pa.Table]:
            return [self._known_policies(files, source) for source in coverage.sources(files)]

        tables = self._consistent(read)
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
        newest = None
        if any(map(counts_back, (since, until))):
            newest = self._consistent(coverage.as_of)
        now = pd.Timestamp.now("UTC") if newest is None else newest
        start = None if since is None else instant(since, now)
        stop = None if until is None else instant(until, now)
        if start is not None and stop is not None and start >= stop:
            raise InputError(
                f"since={since} is not before until={until}; a window is [since, until)"
            )
        return start, stop

    def sources(self) -> list[str]:
        """Return the Enterprise Managers that this archive holds sessions of."""
        return self._consistent(coverage.sources)

    def ledger(self) -> pd.DataFrame:
        """Return what was fetched: one row per source and day.

        Returns
        -------
        pandas.DataFrame
            ``source``, ``day`` (UTC midnight), ``as_of``, ``final``, ``missing`` (of the
            day, pairs of instants that the server had forgotten), ``counted`` (sessions that the
            server had of the whole day at the last look), ``rows``, ``path``.
        """
        return self._consistent(coverage.ledger)

    def holes(self) -> pd.DataFrame:
        """Return the stretches that nothing is known of.

        A hole lies between the first instant known of a source (or the first day that was
        ever held) and the archive's newest as_of: a day never fetched, or one that
        the server had forgotten when it was asked for. Pass it to the metrics as
        ``unobserved=``: a hole is not observed time.

        Returns
        -------
        pandas.DataFrame
            ``source, backup_server, start, end`` (UTC), in this order. `backup_server` is
            missing, which means all of them, unless the archive has several sources; then
            a hole is one only where no other source knows that backup server.
        """
        return self._consistent(coverage.holes)

    def provenance(
        self, since: Moment | None = None, until: Moment | None = None
    ) -> dict[str, object]:
        """Return where the sessions of a window come from.

        Returns
        -------
        dict
            ``sources``, ``rows``, ``files``, ``as_of`` (newest, Timestamp or None),
            ``sha256``: of the files' bytes, in order of their names, and ``imported``: name and
            SHA-256 of the files that sessions were imported from, for which no server was asked.
        """
        start, stop = self.window(since, until)
        return self._consistent(lambda files: coverage.provenance(files, start, stop))

    def verify(self) -> pd.DataFrame:
        """Return what is wrong with the archive; no row when nothing is.

        Each file must be readable to its last page, of this schema, and of the table,
        source and day it lies under; each session must have a VM and lie in that day,
        and each uid occur once in a source. See `set_aside` for what to do. What is not of
        the archive, such as a copy of a day, a link, or a folder of the user's, is listed too.

        Returns
        -------
        pandas.DataFrame
            ``path`` (inside the archive), ``finding`` (one line) and ``kind``: ``damage``,
            or ``foreign`` for what is not of the archive.
        """
        return self._consistent(verification.verify)


def _known_columns(columns: Iterable[str] | None, table: str = "sessions") -> tuple[str, ...]:
    names = TABLES[table].names
    wanted = tuple(names if columns is None else columns)
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise InputError(f"{table} have no column {unknown[0]!r} (has: {', '.join(names)})")
    return wanted


def _rules(
    files: ParquetFiles, neighbours: bool | NeighbourRules, start: pd.Timestamp | None
) -> NeighbourRules | None:
    if not isinstance(neighbours, bool):
        return neighbours
    if not neighbours:
        return None
    if start is None:
        return default_rules()
    begun = coverage.holes(files)["start"]
    return default_rules(sorted(set(begun[begun < start])))


def days(start: date, stop: date) -> list[pd.Timestamp]:
    """Return each UTC midnight from `start` to `stop`, both included."""
    return [
        pd.Timestamp(start + timedelta(number), tz="UTC")
        for number in range((stop - start).days + 1)
    ]
