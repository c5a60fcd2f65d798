"""Import saved pages of the API and tables of sessions into an archive, for those without access to the server."""

from __future__ import annotations

import codecs
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.archive.joins import enrich
from cdpanalytics.errors import InputError
from cdpanalytics.estate.sessions import Reading, read_sessions
from cdpanalytics.estate.tables import Cells, Document, cells_of_document, read_document
from cdpanalytics.server.responses import Page, read_page
from cdpanalytics.server.tables import unique
from cdpanalytics.synchronize.days import DAY
from cdpanalytics.synchronize.journal import rows_by_day
from cdpanalytics.synchronize.run import all_completed, merge
from cdpanalytics.timeparse import length

SOURCE: Final = "import"
"""What an archive calls the source of imported sessions, unless another name is given."""

_KINDS: Final = {
    "cdpreplicatasksessions": "CdpReplicaTaskSession",
    "cdpreplicasessions": "CdpReplicaSession",
    "cdppolicies": "CdpPolicy",
}
_COLLECTION: Final = re.compile(
    rb'(?:<(?:\w+:)?|")(' + "|".join(_KINDS).encode() + rb')(?:[\s/>]|"\s*:\s*[{\[])', re.IGNORECASE
)
"""A collection that is there: JSON names those of other kinds too, as null."""

_DECLARATION: Final = re.compile(r"\A\s*<\?xml[^>]*\?>")
"""The declaration of XML, which names the encoding that the text had."""

_UIDS: Final = uuid.UUID("5f0c7d1e-6a43-4f4e-9d0b-1f1b6f6d7a10")
"""Namespace of the identifiers of sessions that come without one."""

_FORMULA: Final = re.compile(r"'[=+\-@\t\r]")


@dataclass(frozen=True)
class ImportResult:
    """What an import did: sessions in the files, those new to the archive, and their last instant."""

    files: int
    sessions: int
    added: int
    as_of: pd.Timestamp

    def __str__(self) -> str:
        return (
            f"{self.sessions:,} sessions of {self.files:,} files, {self.added:,} new; "
            f"as of {self.as_of:%Y-%m-%d %H:%M} UTC"
        )


@dataclass
class _Read:
    """What the files hold."""

    tasks: list[pa.Table] = field(default_factory=list)
    sessions: list[pa.Table] = field(default_factory=list)
    parents: list[pa.Table] = field(default_factory=list)
    policies: list[pa.Table] = field(default_factory=list)
    pages: dict[tuple[str, int], set[int]] = field(default_factory=dict)

    def times(self) -> list[pd.Timestamp]:
        """The newest instant of each column of times."""
        columns = [
            table[name]
            for table in (*self.tasks, *self.sessions, *self.parents)
            for name in ("created", "ended", "as_of")
            if name in table.column_names
        ]
        newest = (pc.max(column).as_py() for column in columns)
        return [pd.Timestamp(instant) for instant in newest if instant is not None]


def import_files(
    archive: Archive,
    files: Sequence[str | os.PathLike[str]],
    *,
    source: str = SOURCE,
    reading: Reading | None = None,
    as_of: pd.Timestamp | None = None,
) -> ImportResult:
    """Add sessions that were saved as files to an archive.

    Parameters
    ----------
    archive : Archive
        Made if it does not exist.
    files : sequence of path-like
        Pages of ``/api/query?type=...&format=Entities``, as XML or JSON in any spelling, of
        task sessions, policy sessions and policies; all pages of a query. Or tables of
        sessions: CSV, workbook, Parquet.
    source : str
        The archive's name for where they come from. Files of one source may be imported
        again: sessions that the archive has are replaced.
    reading : Reading, optional
        How tables are to be read.
    as_of : pandas.Timestamp, optional
        The instant of which the files are. Default: the newest that they name.

    Returns
    -------
    ImportResult

    Raises
    ------
    InputError
        When a file cannot be read, a page of a query is missing, or there is no session.
    WireError
        When a page is not as the server writes it.

    Notes
    -----
    A day of which the files have no session is a hole: nothing is claimed about it.
    """
    documents = [read_document(path) for path in files]
    read = _Read()
    for document in documents:
        _read_document(document, read, reading or Reading())
    _check_pages(read)
    times = read.times()
    if (not read.tasks and not read.sessions) or not times:
        raise InputError("the files hold no task session; import pages of CdpReplicaTaskSession")
    known = max(times) if as_of is None else as_of
    if known < _newest(read) or known > pd.Timestamp.now("UTC"):
        raise InputError(
            f"as of {known:%Y-%m-%d %H:%M} UTC: not between the newest session, which begins "
            f"{_newest(read):%Y-%m-%d %H:%M}, and now; say when the files were saved: --as-of"
        )
    origin = {document.name: document.sha256 for document in documents}
    with archive.writing():
        known = max([known, *_before(archive, source)])
        return _store(archive, source, read, known, origin)


def _newest(read: _Read) -> pd.Timestamp:
    return max(
        pd.Timestamp(pc.max(table["created"]).as_py())
        for table in (*read.tasks, *read.sessions)
        if len(table)
    )


def _before(archive: Archive, source: str) -> Iterable[pd.Timestamp]:
    as_of = archive.as_of_by_source().get(source)
    return [] if as_of is None else [as_of]


# -- reading -----------------------------------------------------------------------------


def _read_document(document: Document, read: _Read, reading: Reading) -> None:
    data = _as_utf8(document.data)
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start not in (b"<", b"{"):
        read.sessions.append(_sessions_of(cells_of_document(document), reading))
        return
    collection = _COLLECTION.search(data)
    if collection is None:
        raise InputError(
            f"{document.name} is not a page of task sessions, policy sessions or policies; save "
            "answers of /api/query?type=CdpReplicaTaskSession&format=Entities"
        )
    kind = _KINDS[collection[1].decode().lower()]
    format = "application/xml" if start == b"<" else "application/json"
    page = read_page(data, format, kind, origin=document.name)
    _add_page(page, kind, read)


def _as_utf8(data: bytes) -> bytes:
    """Return a page as UTF-8: Windows PowerShell saves what it is sent as UTF-16."""
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data
    text = data.decode("utf-16", errors="replace")
    return _DECLARATION.sub("", text).encode()


def _add_page(page: Page, kind: str, read: _Read) -> None:
    read.pages.setdefault((kind, page.count), set()).add(page.number)
    tables = {
        "CdpReplicaTaskSession": read.tasks,
        "CdpReplicaSession": read.parents,
        "CdpPolicy": read.policies,
    }
    tables[kind].append(page.table)


def _check_pages(read: _Read) -> None:
    """Refuse a query of which a page is missing: its sessions would look as if they had not been."""
    for (kind, count), numbers in read.pages.items():
        missing = sorted(set(range(1, count + 1)) - numbers)
        if missing:
            raise InputError(
                f"page {missing[0]} of {count} of {kind} is missing; import all pages of a query, or "
                "what is on the others would count as not protected"
            )


def _sessions_of(cells: Cells, reading: Reading) -> pa.Table:
    """Return a table of sessions in the archive's shape."""
    frame = pd.DataFrame([row for _, row in cells.rows], columns=list(cells.heads), dtype=object)
    unknown = [name for name in reading.columns if name not in schema.SESSIONS.names]
    if unknown:
        known = ", ".join(schema.SESSIONS.names)
        raise InputError(f"--column {unknown[0]}=...: sessions have no such column (has: {known})")
    read = read_sessions(frame, reading, cells.source, [line for line, _ in cells.rows])
    for name in ("vm", "created"):
        if name not in read or read[name].isna().any():
            has = ", ".join(map(str, frame.columns))
            raise InputError(
                f"{cells.source}: each row needs {name!r} (has: {has}); name the columns: "
                "--column vm=Machine --column created=Begin --column ended=End"
            )
    columns = {
        name: _column(read[name], kind)
        for name, kind in zip(schema.SESSIONS.names, schema.SESSIONS.types, strict=True)
        if name in read
    }
    columns.setdefault("ended", pd.Series(pd.NaT, index=read.index, dtype="datetime64[us, UTC]"))
    columns.setdefault(
        "state", columns["ended"].isna().map({True: "InProgress", False: "Completed"})
    )
    columns.setdefault("uid", _uids(pd.DataFrame(columns)))
    arrays = [
        pa.array(columns[name], from_pandas=True).cast(kind)
        if name in columns else pa.nulls(len(read), kind)
        for name, kind in zip(schema.SESSIONS.names, schema.SESSIONS.types, strict=True)
    ]  # fmt: skip
    return pa.table(arrays, schema=schema.SESSIONS)


def _column(column: pd.Series, kind: pa.DataType) -> pd.Series:
    if kind == schema.INSTANT:
        return pd.to_datetime(column, utc=True, format="ISO8601").dt.as_unit("us")
    if kind == schema.SPAN:
        return pd.to_timedelta(column.map(_length, na_action="ignore")).dt.as_unit("us")
    if pa.types.is_integer(kind):
        return column
    return column.map(_text, na_action="ignore").astype("str")


def _length(cell: object) -> pd.Timedelta:
    """A length as our own CSV has it, in seconds, or as text."""
    try:
        return pd.Timedelta(seconds=float(str(cell)))
    except ValueError:
        return length(str(cell), "rpo")


def _text(cell: object) -> str:
    """A name as it was before a CSV export kept a spreadsheet from taking it for a formula."""
    text = str(cell)
    return text[1:] if _FORMULA.match(text) else text


def _uids(sessions: pd.DataFrame) -> pd.Series:
    """Identifiers that are the same when the same session is imported again."""
    servers = sessions.get("backup_server", pd.Series("", index=sessions.index))
    return pd.Series(
        [
            str(uuid.uuid5(_UIDS, f"{server}\n{vm}\n{created.isoformat()}"))
            for server, vm, created in zip(servers, sessions["vm"], sessions["created"], strict=True)
        ],
        index=sessions.index, dtype="str",
    )  # fmt: skip


# -- writing -----------------------------------------------------------------------------


def _store(
    archive: Archive, source: str, read: _Read, as_of: pd.Timestamp, origin: Mapping[str, str]
) -> ImportResult:
    if read.policies:
        archive.put_policies(source, unique(pa.concat_tables(read.policies), "policy_uid"), as_of)
    parents = unique(pa.concat_tables([schema.POLICY_SESSIONS.empty_table(), *read.parents]))
    tasks = _stamped(_tasks(read), as_of)
    sessions = unique(pa.concat_tables(
        [enrich(tasks, parents, archive.known_policies(source)),
         *(_stamped(table, as_of) for table in read.sessions)]
    ))  # fmt: skip
    for day, rows in rows_by_day(parents, "created"):
        held = archive.day("policy_sessions", source, day)
        archive.put_day("policy_sessions", source, day, merge(held, rows), as_of)
    ledger = archive.ledger().query("source == @source")
    before = dict(zip(ledger["day"], ledger["imported"], strict=True))
    added, last = 0, None
    for last, rows in rows_by_day(sessions, "created"):
        held = archive.day("sessions", source, last)
        merged = merge(held, rows)
        added += len(merged) - len(held)
        final = as_of >= last + DAY and all_completed(merged)
        files = {**dict(before.get(last, ())), **origin}
        archive.put_day("sessions", source, last, merged, as_of, final, imported=files)
    if last is not None and last + DAY < as_of:
        end = as_of.floor("D")
        held = archive.day("sessions", source, end)
        archive.put_day("sessions", source, end, held, as_of, imported=origin)
    return ImportResult(len(origin), len(sessions), added, as_of)


def _tasks(read: _Read) -> pa.Table:
    return pa.concat_tables([schema.TASK_SESSIONS.empty_table(), *read.tasks])


def _stamped(rows: pa.Table, as_of: pd.Timestamp) -> pa.Table:
    """Let each row say as of when it is known."""
    stamp = pa.repeat(pa.scalar(as_of.to_pydatetime(), schema.INSTANT), len(rows))
    if "as_of" in rows.column_names:
        return rows.set_column(rows.column_names.index("as_of"), rows.schema.field("as_of"), stamp)
    return rows.append_column(pa.field("as_of", schema.INSTANT), stamp)
