"""Take files into an archive: saved pages of the API and exported tables, without access to a server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.archive.joins import enrich
from cdpanalytics.errors import InputError
from cdpanalytics.estate.tables import Document, cells_of_document, read_document
from cdpanalytics.foreign import Translation
from cdpanalytics.server.responses import Page, read_page
from cdpanalytics.synchronize.days import days
from cdpanalytics.synchronize.journal import rows_by_day
from cdpanalytics.synchronize.run import merge

SCHEME: Final = "import://"
"""How the name of an imported source begins, in provenance and in the archive's folders."""

_PAGES: Final = {
    "CdpReplicaTaskSession": "CdpReplicaTaskSessions",
    "CdpReplicaSession": "CdpReplicaSessions",
    "CdpPolicy": "CdpPolicies",
}
"""The pages that can be imported, and the name of their collection in any case."""

_NEEDED: Final = ("vm", "created", "ended")


@dataclass(frozen=True)
class ImportResult:
    """What was taken in: the source's name, how much, and what should be known about it."""

    source: str
    files: int
    sessions: int
    first: pd.Timestamp
    as_of: pd.Timestamp
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.sessions:,} sessions of {self.files:,} files, {self.first:%Y-%m-%d %H:%M} to "
            f"{self.as_of:%Y-%m-%d %H:%M} UTC, as source {self.source}"
        )


@dataclass
class _Tables:
    """What the files hold, by kind."""

    tasks: list[pa.Table] = field(default_factory=list)
    parents: list[pa.Table] = field(default_factory=list)
    policies: list[pa.Table] = field(default_factory=list)
    exports: list[pa.Table] = field(default_factory=list)
    pages: dict[tuple[str, int], set[int]] = field(default_factory=dict)

    def add_page(self, kind: str, page: Page) -> None:
        tables = {"CdpReplicaTaskSession": self.tasks, "CdpReplicaSession": self.parents,
                  "CdpPolicy": self.policies}  # fmt: skip
        tables[kind].append(page.table)
        self.pages.setdefault((kind, page.count), set()).add(page.number)

    def missing_pages(self) -> Iterable[str]:
        for (kind, count), numbers in self.pages.items():
            if len(numbers) < count:
                yield f"{len(numbers):,} of the {count:,} pages of {kind} were given; the rest is not in the archive"


def import_files(
    archive: Archive,
    files: Sequence[str | Path],
    *,
    name: str = "files",
    as_of: pd.Timestamp | None = None,
    translation: Translation | None = None,
) -> ImportResult:
    """Take saved API pages and exported tables of sessions into an archive.

    Parameters
    ----------
    archive : Archive
    files : sequence of path-like
        Pages of ``/api/query?type=...&format=Entities`` of CdpReplicaTaskSession,
        CdpReplicaSession or CdpPolicy, as JSON in any spelling or XML; or tables (CSV, xlsx,
        Parquet) with at least `vm`, `created` and `ended`.
    name : str
        The source's name in the archive: ``import://name``. The same name again adds to it.
    as_of : pandas.Timestamp, optional
        When the files were saved. Default: the newest instant in them.
    translation : Translation, optional
        How tables are to be read.

    Returns
    -------
    ImportResult
        From the first session's day to `as_of` the archive then takes the time as fetched.
        The source's name says that it was imported, and holds a digest of the files.

    Raises
    ------
    InputError, WireError
        When a file cannot be read or is none of these, or there is no session in any.
    """
    tables, digest = _Tables(), hashlib.sha256()
    for path in files:
        document = read_document(path)
        digest.update(document.data)
        _read(document, tables, translation or Translation())
    sessions = _sessions(tables)
    if not len(sessions):
        raise InputError(
            "the files have no CDP task session; save pages of type CdpReplicaTaskSession"
        )
    newest = max(
        pd.Timestamp(pc.max(sessions[column]).as_py())
        for column in ("created", "ended")
        if pc.max(sessions[column]).is_valid
    )
    known = newest if as_of is None else as_of
    if known < newest:
        raise InputError(f"--as-of {known} is before the newest instant in the files, {newest}")
    source = f"{SCHEME}{name}"
    with archive.writing():
        _store(archive, source, sessions, tables, known)
    first = pd.Timestamp(pc.min(sessions["created"]).as_py())
    notes = (f"SHA-256 of the files: {digest.hexdigest()}", *tables.missing_pages())
    return ImportResult(source, len(files), len(sessions), first, known, notes)


def _read(document: Document, tables: _Tables, translation: Translation) -> None:
    body = document.data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if body[:1] not in (b"{", b"<"):
        tables.exports.append(_export(document, translation))
        return
    content_type = "application/json" if body[:1] == b"{" else "application/xml"
    kinds = [kind for kind, collection in _PAGES.items() if _holds(body, collection)]
    if not kinds:
        # An error page says itself what it is.
        read_page(body, content_type, "CdpReplicaTaskSession", origin=document.name)
        raise InputError(
            f"{document.name} has none of {', '.join(_PAGES)}; save a page with format=Entities"
        )
    tables.add_page(kinds[0], read_page(body, content_type, kinds[0], origin=document.name))


def _holds(body: bytes, collection: str) -> bool:
    """Return whether a page has a collection; in JSON all others are there too, as null."""
    pattern = rf'<(?:\w+:)?{collection}\b|"{collection}"\s*:\s*[\[{{]'
    return re.search(pattern.encode(), body, re.IGNORECASE) is not None


def _export(document: Document, translation: Translation) -> pa.Table:
    """Return a table's rows as sessions; one without uid gets one from who and when."""
    cells = cells_of_document(document)
    frame = pd.DataFrame([row for _, row in cells.rows], columns=list(cells.heads)).infer_objects()
    try:
        sessions = translation.sessions(frame)
    except InputError as error:
        raise InputError(f"{document.name}: {error}") from None
    missing = [column for column in _NEEDED if column not in sessions]
    if missing:
        raise InputError(
            f"{document.name} has no column {missing[0]!r} (has: {', '.join(map(str, sessions))}); "
            f"say which it is: --column {missing[0]}=HEAD"
        )
    for column in ("vm", "created"):
        if sessions[column].isna().any():
            row = int(sessions[column].isna().to_numpy().argmax()) + 1
            raise InputError(
                f"{document.name}: row {row} has no {column!r}; remove the row, or fill it in"
            )
    if "uid" not in sessions:
        names = [name for name in ("backup_server", "vm", "created") if name in sessions]
        keys = sessions[names].astype("str").itertuples(index=False, name=None)
        sessions["uid"] = [
            hashlib.sha256("|".join(map(str, key)).encode()).hexdigest()[:32] for key in keys
        ]
    if "state" not in sessions:
        sessions["state"] = sessions["ended"].isna().map({True: "InProgress", False: "Completed"})
    columns = [_column(sessions, wanted) for wanted in schema.SESSIONS]
    return pa.table(columns, schema=schema.SESSIONS)


def _column(sessions: pd.DataFrame, wanted: pa.Field) -> pa.Array:
    if wanted.name not in sessions:
        return pa.nulls(len(sessions), wanted.type)
    values = pa.array(sessions[wanted.name], from_pandas=True)
    if pa.types.is_dictionary(wanted.type):
        return values.cast(pa.string()).dictionary_encode().cast(wanted.type)
    return values.cast(wanted.type)


def _sessions(tables: _Tables) -> pa.Table:
    """Return the sessions of all files, each uid once: the row that knows its end wins."""
    parts = [*tables.exports]
    if tables.tasks:
        tasks = pa.concat_tables(tables.tasks)
        parents = pa.concat_tables([schema.POLICY_SESSIONS.empty_table(), *tables.parents])
        policies = pa.concat_tables([schema.POLICIES.empty_table(), *tables.policies])
        parts.append(enrich(tasks, _unique(parents), policies))
    return _unique(pa.concat_tables([schema.SESSIONS.empty_table(), *parts]))


def _unique(rows: pa.Table) -> pa.Table:
    order: Any = pc.sort_indices(
        rows.append_column("place", pa.array(range(len(rows)))),
        sort_keys=[("ended", "ascending", "at_start"), ("place", "ascending", "at_end")],
    )
    last = dict(zip(rows["uid"].take(order).to_pylist(), order.to_pylist(), strict=True))
    return rows.take(pa.array(sorted(last.values()), pa.int64()))


def _store(
    archive: Archive, source: str, sessions: pa.Table, tables: _Tables, as_of: pd.Timestamp
) -> None:
    for policies in tables.policies:
        archive.put_policies(source, policies, as_of)
    for parents in tables.parents:
        for day, rows in rows_by_day(parents, "created"):
            held = archive.day("policy_sessions", source, day)
            archive.put_day("policy_sessions", source, day, merge(held, rows), as_of)
    dated = sessions.set_column(
        sessions.column_names.index("as_of"), schema.SESSIONS.field("as_of"),
        pa.array([as_of.to_pydatetime()] * len(sessions), schema.INSTANT),
    )  # fmt: skip
    by_day = dict(rows_by_day(dated, "created"))
    for day in days(min(by_day).date(), as_of.date()):
        if day >= as_of and day not in by_day:
            continue
        rows = merge(archive.day("sessions", source, day), by_day.get(day, dated.slice(0, 0)))
        archive.put_day("sessions", source, day, rows, as_of)
