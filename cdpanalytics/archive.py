"""The archive: plain Parquet that outlives the server's memory; it never talks to one.

::

    DIR/archive.json                               that this is an archive, and its version
    DIR/sessions/SOURCE/2026-10-01.parquet         task sessions created on that day, by VM and time
    DIR/policy_sessions/SOURCE/2026-10-01.parquet  policy sessions created on that day
    DIR/policies/SOURCE.parquet                    settings, each row with when they were seen

SOURCE is the Enterprise Manager they came from. ``pandas.read_parquet(DIR + "/sessions")``
reads the sessions with no help of ours. What was fetched, when, and whether it can
still change is in each file's own metadata, so that no second record can disagree.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from fnmatch import translate
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdpanalytics import schema
from cdpanalytics.config import Moment, instant
from cdpanalytics.errors import ArchiveError, InputError

Patterns = str | Sequence[str] | None

MARKER = "archive.json"
ROW_GROUP = 10_000
"""Rows in a row group: small enough that a few VMs of a day skip most of them."""

_KEY = b"cdpanalytics"
_DAY = pd.Timedelta("1D")
_NEVER = pd.Timestamp("2200-01-01", tz="UTC").as_unit("us")
_TABLES = {"sessions": schema.SESSIONS, "policy_sessions": schema.POLICY_SESSIONS}
_SEEN = schema.POLICIES.append(pa.field("seen_from", schema.INSTANT)).append(
    pa.field("seen_to", schema.INSTANT)
)
_NARROW = ("backup_server", "vm", "created", "ended", "state", "result")


@dataclass(frozen=True)
class Stamp:
    """What a file says of itself.

    `as_of` is the instant its rows speak for; `final` says that none of them can
    change any more. Both are null in tables that have no days.
    """

    table: str
    source: str
    day: str | None
    as_of: str | None
    final: bool
    version: int = schema.VERSION
    creator: str = ""


class Archive:
    """A directory of what was fetched.

    Parameters
    ----------
    path : path-like
        The directory. It is made by the first write; reading one that is not there,
        or not an archive, is an error.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     archive = Archive(folder)
    ...     len(archive.sessions())
    0
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ArchiveError(f"{self.path} is a file; an archive is a directory")
        self._check_marker()

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
            once, as the newest as_of has it.

        Raises
        ------
        InputError
            When `since` is not before `until`, or a pattern matches nothing.
        ArchiveError
            When there is no archive, or a file cannot be read.
        """
        start, stop = self.window(since, until)
        table = self._read("sessions", start, stop)
        if history and start is not None:
            table = pa.concat_tables([self._history(start), table])
        frame = schema.to_frame(table)
        if len(self.sources()) > 1:
            frame = frame.sort_values("as_of", kind="stable").drop_duplicates("uid", keep="last")
            frame = frame.sort_index(ignore_index=True)
        for column, patterns in (("policy", policy), ("vm", vm), ("backup_server", server)):
            frame = _matching(frame, column, patterns)
        for column in frame.columns[frame.dtypes == "category"]:
            if column not in ("result", "policy_result"):
                frame[column] = frame[column].cat.remove_unused_categories()
        return frame.reset_index(drop=True)

    def policy_sessions(
        self, since: Moment | None = None, until: Moment | None = None
    ) -> pd.DataFrame:
        """Return the policy sessions created in ``[since, until)``: `schema.POLICY_SESSIONS`."""
        return schema.to_frame(self._read("policy_sessions", *self.window(since, until)))

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
        if since is None and until is None:
            return None, None
        newest = self.ledger()["as_of"].max()
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
            ``source``, ``day`` (UTC midnight), ``as_of``, ``final``, ``rows``, ``path``.
        """
        self._require()
        rows = [
            {**asdict(stamp), "rows": pq.read_metadata(path).num_rows, "path": str(path)}
            for path, stamp in self._stamps("sessions")
        ]
        columns = ["source", "day", "as_of", "final", "rows", "path"]
        frame = pd.DataFrame(rows, columns=columns)
        for column in ("day", "as_of"):
            frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
        return frame.astype({"final": bool, "rows": "int64", "source": "str", "path": "str"})

    def holes(self) -> pd.DataFrame:
        """Return the stretches never fetched between a source's first day and its newest as_of.

        Returns
        -------
        pandas.DataFrame
            ``source, start, end`` (UTC). Nothing is known of them: they are not
            observed time.
        """
        holes = []
        for source, days in self.ledger().sort_values("day").groupby("source", sort=True):
            reached = days["day"].iloc[0]
            for day, as_of in zip(days["day"], days["as_of"], strict=True):
                if day > reached:
                    holes.append((source, reached, day))
                reached = max(reached, min(day + _DAY, as_of))
        frame = pd.DataFrame(holes, columns=["source", "start", "end"])
        for column in ("start", "end"):
            frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
        return frame.astype({"source": "str"})

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
        stamps = [self._stamp(path) for path in paths]
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.read_bytes())
        as_of = [pd.Timestamp(stamp.as_of) for stamp in stamps if stamp.as_of]
        return {
            "sources": sorted({stamp.source for stamp in stamps}),
            "rows": sum(pq.read_metadata(path).num_rows for path in paths),
            "files": len(paths),
            "as_of": max(as_of, default=None),
            "sha256": digest.hexdigest(),
        }

    def verify(self) -> pd.DataFrame:
        """Return what is wrong with the archive; no row when nothing is.

        Each file must be readable, of this schema and of the day it is named after;
        each session must have a VM and lie in that day, and each uid stand once in a
        source.

        Returns
        -------
        pandas.DataFrame
            ``path`` (inside the archive) and ``finding`` (one line).
        """
        self._require()
        findings: list[tuple[str, str]] = []
        seen: dict[str, dict[str, str]] = {}
        for path in sorted(self.path.glob("*/**/*.parquet")):
            name = str(path.relative_to(self.path))
            try:
                findings += [(name, finding) for finding in self._inspect(path, seen)]
            except ArchiveError as error:
                findings.append((name, str(error)))
        return pd.DataFrame(findings, columns=["path", "finding"]).astype("str")

    # -- one day, one source: what a sync reads and writes ------------------------

    def day(self, table: str, source: str, day: pd.Timestamp) -> pa.Table:
        """Return the rows kept of one day, or none."""
        path = self._day_path(table, source, day)
        return self._load(path, _TABLES[table]) if path.exists() else _TABLES[table].empty_table()

    def put_day(
        self,
        table: str,
        source: str,
        day: pd.Timestamp,
        rows: pa.Table,
        as_of: pd.Timestamp,
        final: bool = False,
    ) -> None:
        """Replace one day: written beside it, then renamed, so that it is whole or untouched."""
        stamp = Stamp(table, source, f"{day:%Y-%m-%d}", as_of.isoformat(), final)
        self._write(self._day_path(table, source, day), _ordered(rows), stamp)

    def known_policies(self, source: str) -> pa.Table:
        """Return one source's settings with `seen_from` and `seen_to`."""
        path = self.path / "policies" / f"{_slug(source)}.parquet"
        return self._load(path, _SEEN) if path.exists() else _SEEN.empty_table()

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
        path = self.path / "policies" / f"{_slug(source)}.parquet"
        self._write(path, pa.Table.from_pylist(known, schema=_SEEN), stamp)

    # -- below ------------------------------------------------------------------

    def _require(self) -> None:
        if not self.path.is_dir():
            raise ArchiveError(
                f"no archive at {self.path}; make one: cdpanalytics sync URL --archive {self.path}"
            )

    def _check_marker(self) -> None:
        marker = self.path / MARKER
        if not marker.exists():
            if any(entry.name != ".gitkeep" for entry in self.path.iterdir()):
                raise ArchiveError(
                    f"{self.path} is not an archive: it has no {MARKER}; name another directory"
                )
            return
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))["version"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ArchiveError(f"{marker} cannot be read; is {self.path} an archive?") from None
        if found != schema.VERSION:
            raise ArchiveError(
                f"{self.path} has schema version {found}, this cdpanalytics reads {schema.VERSION}; "
                "upgrade cdpanalytics"
            )

    def _day_path(self, table: str, source: str, day: pd.Timestamp) -> Path:
        return self.path / table / _slug(source) / f"{day:%Y-%m-%d}.parquet"

    def _paths(
        self, table: str, start: pd.Timestamp | None, stop: pd.Timestamp | None
    ) -> list[Path]:
        """Files of the days that `[start, stop)` touches, by source and day."""
        first = "" if start is None else f"{start:%Y-%m-%d}"
        paths = sorted((self.path / table).glob("*/*.parquet"))
        return [
            path
            for path in paths
            if path.stem >= first and (stop is None or pd.Timestamp(path.stem, tz="UTC") < stop)
        ]

    def _stamps(self, table: str) -> Iterator[tuple[Path, Stamp]]:
        for path in self._paths(table, None, None):
            yield path, self._stamp(path)

    def _stamp(self, path: Path) -> Stamp:
        try:
            said = (pq.read_metadata(path).metadata or {})[_KEY]
            return Stamp(**json.loads(said))
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
            raise _damaged(path) from None

    def _load(
        self, path: Path, expected: pa.Schema, columns: Iterable[str] | None = None
    ) -> pa.Table:
        try:
            table = pq.ParquetFile(path).read(columns=list(columns or expected.names))
            return table.cast(pa.schema([expected.field(name) for name in table.column_names]))
        except (OSError, pa.ArrowException, ValueError, KeyError):
            raise _damaged(path) from None

    def _read(self, table: str, start: pd.Timestamp | None, stop: pd.Timestamp | None) -> pa.Table:
        expected = _TABLES[table]
        parts = []
        for path in self._paths(table, start, stop):
            part = self._load(path, expected)
            for edge, keep in ((start, pc.greater_equal), (stop, pc.less)):
                if edge is not None and path.stem == f"{edge:%Y-%m-%d}":
                    part = part.filter(keep(part["created"], _scalar(edge)))
            parts.append(part)
        return pa.concat_tables(parts) if parts else expected.empty_table()

    def _history(self, start: pd.Timestamp) -> pa.Table:
        """Of each VM and verdict before `start`, the newest begun and the last to end."""
        paths = self._paths("sessions", None, start)
        narrow = [
            self._load(path, schema.SESSIONS, _NARROW)
            .append_column("file", pa.array(np.full(pq.read_metadata(path).num_rows, number)))
            .append_column("row", pa.array(np.arange(pq.read_metadata(path).num_rows)))
            for number, path in enumerate(paths)
        ]
        if not narrow:
            return schema.SESSIONS.empty_table()
        before = schema.to_frame(pa.concat_tables(narrow))
        before = before[before["created"] < start]
        kind = ["backup_server", "vm", "state", "result"]
        before["last"] = before["ended"].fillna(_NEVER)
        chosen = [
            before.sort_values([order, "created"], kind="stable").drop_duplicates(kind, keep="last")
            for order in ("created", "last")
        ]
        rows = pd.concat(chosen)[["file", "row"]].drop_duplicates().sort_values(["file", "row"])
        parts = [
            self._load(paths[number], schema.SESSIONS).take(
                pa.array(rows.loc[rows["file"] == number, "row"].to_numpy())
            )
            for number in rows["file"].unique().tolist()
        ]
        return pa.concat_tables(parts) if parts else schema.SESSIONS.empty_table()

    def _write(self, path: Path, table: pa.Table, stamp: Stamp) -> None:
        said = json.dumps({**asdict(stamp), "creator": f"cdpanalytics {_own_version()}"})
        labelled = table.replace_schema_metadata({_KEY: said.encode()})
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._mark()
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                pq.write_table(
                    labelled, beside, row_group_size=ROW_GROUP, compression="zstd",
                    use_dictionary=[f.name for f in labelled.schema if pa.types.is_dictionary(f.type)],
                )  # fmt: skip
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be written: {error.strerror or error}") from None

    def _mark(self) -> None:
        marker = self.path / MARKER
        if marker.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        beside = marker.with_name(f".{MARKER}.{os.getpid()}.tmp")
        beside.write_text(json.dumps({"format": "cdpanalytics archive", "version": schema.VERSION}))
        os.replace(beside, marker)

    def _inspect(self, path: Path, seen: dict[str, dict[str, str]]) -> Iterator[str]:
        stamp = self._stamp(path)
        expected = _TABLES.get(stamp.table, _SEEN)
        if stamp.version != schema.VERSION:
            yield f"has schema version {stamp.version}, not {schema.VERSION}"
        table = self._load(path, expected)
        if stamp.day is None:
            return
        if stamp.day != path.stem:
            yield f"says it holds {stamp.day}"
        day = pd.Timestamp(stamp.day, tz="UTC")
        created = schema.to_frame(table.select(["created"]))["created"]
        outside = int((~created.between(day, day + _DAY, inclusive="left")).sum())
        if outside:
            yield f"{outside} rows were not created on {stamp.day}"
        if stamp.table == "sessions" and table["vm"].null_count:
            yield f"{table['vm'].null_count} rows have no vm"
        uids = seen.setdefault(f"{stamp.table} {stamp.source}", {})
        twice = [
            uid for uid in table["uid"].to_pylist() if uid in uids or uids.update({uid: path.stem})
        ]
        if twice:
            yield f"{len(twice)} uids stand elsewhere too, e.g. {twice[0]} (in {uids[twice[0]]})"


def days(start: date, stop: date) -> list[pd.Timestamp]:
    """Return each UTC midnight from `start` to `stop`, both included."""
    return [
        pd.Timestamp(start + timedelta(number), tz="UTC")
        for number in range((stop - start).days + 1)
    ]


def _matching(frame: pd.DataFrame, column: str, patterns: Patterns) -> pd.DataFrame:
    """Keep the rows whose name matches a pattern; a pattern that matches nothing is an error."""
    if patterns is None:
        return frame
    names = sorted(set(frame[column].dropna().unique()))
    wanted: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = [name for name in names if re.match(translate(pattern.casefold()), name.casefold())]
        found += [name for name in names if name == pattern and name not in found]
        if not found:
            known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "none"
            raise InputError(f"no session of {column} {pattern!r} here (known: {known})")
        wanted.update(found)
    return frame[frame[column].isin(wanted)]


def _ordered(rows: pa.Table) -> pa.Table:
    """Return rows by VM, time and uid; Arrow sorts text, not labels."""
    names = [name for name in ("vm", "created", "uid") if name in rows.column_names]
    keys = [rows[name] if name == "created" else rows[name].cast(pa.string()) for name in names]
    order = pa.table(keys, names=names)
    return rows.take(pc.sort_indices(order, [(name, "ascending") for name in names]))


def _damaged(path: Path) -> ArchiveError:
    return ArchiveError(f"{path} cannot be read; see: cdpanalytics verify --archive DIR")


def _slug(source: str) -> str:
    """A source's folder: its host and port, with nothing a path could mind."""
    return re.sub(r"[^a-z0-9.-]+", "_", source.lower().split("://")[-1]).strip("._") or "source"


def _scalar(stamp: pd.Timestamp) -> pa.Scalar:
    return pa.scalar(stamp.to_pydatetime(), schema.INSTANT)


def _own_version() -> str:
    try:
        return version("cdpanalytics")
    except PackageNotFoundError:
        return "unknown"
