"""What an archive covers: the days it holds, the holes between them, and where its rows come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.archive import names
from cdpanalytics.archive.files import Interval, ParquetFiles
from cdpanalytics.intervals import subtract

_NEVER = pd.Timestamp("2200-01-01", tz="UTC").as_unit("us")
_DAY = pd.Timedelta("1D")
_Hole = tuple[str, str | None, pd.Timestamp, pd.Timestamp]


def ledger(files: ParquetFiles) -> pd.DataFrame:
    """Return one row per source and day held; see `Archive.ledger`."""
    rows = [
        {
            **vars(metadata),
            "missing": metadata.holes(),
            "rows": count,
            "path": files.storage.location(path),
        }
        for path, metadata, count in files.metadata_of(files.days("sessions"))
    ]
    columns = ["source", "day", "as_of", "final", "missing", "counted", "imported", "rows", "path"]
    frame = pd.DataFrame(rows, columns=columns)
    for column in ("day", "as_of"):
        frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
    frame = frame.astype({"final": bool, "counted": "Int64", "rows": "int64"})
    return frame.astype({"source": "str", "path": "str"})


def sources(files: ParquetFiles) -> list[str]:
    """Return the Enterprise Managers that files of sessions come from."""
    return sorted({metadata.source for _, metadata, _ in files.metadata_of(files.last_days())})


def as_of_by_source(files: ParquetFiles) -> dict[str, pd.Timestamp]:
    """Return up to when each source was fetched, as its newest day says."""
    newest = files.metadata_of(files.last_days())
    return {
        metadata.source: pd.Timestamp(metadata.as_of)
        for _, metadata, _ in newest
        if metadata.as_of is not None
    }


def as_of(files: ParquetFiles) -> pd.Timestamp | None:
    """Return the newest `as_of` of all sources; None where nothing is held."""
    return max(as_of_by_source(files).values(), default=None)


def holes(files: ParquetFiles) -> pd.DataFrame:
    """Return the intervals of which nothing is known; see `Archive.holes`."""
    known, first_held = _known(files)
    newest = max((end for intervals in known.values() for _, end in intervals), default=_NEVER)
    holes: list[_Hole] = []
    for source, intervals in known.items():
        # A day that was held once counts where it is missing now; of a day that is held only
        # what is known of it, because before its first session nothing need have existed.
        gone = [day for day in _first_days(files, source) if day < first_held[source]]
        gone += damaged_days(files, source)
        first = min([intervals[0][0], *gone])
        holes += [(source, None, *hole) for hole in subtract([(first, newest)], intervals)]
    if holes and len(known) > 1:
        servers = {source: _backup_servers(files, source) for source in known}
        holes = _by_server(holes, known, servers)
    frame = pd.DataFrame(holes, columns=["source", "backup_server", "start", "end"])
    for column in ("start", "end"):
        frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
    return frame.astype({"source": "str", "backup_server": "str"})


def _first_days(files: ParquetFiles, source: str) -> list[pd.Timestamp]:
    """Return days of a source that were held once: the first, and those set aside."""
    first = files.marker.sources.get(source)
    recorded = [] if first is None else [pd.Timestamp(first, tz="UTC")]
    return [*recorded, *damaged_days(files, source)]


def first_day(files: ParquetFiles, source: str) -> pd.Timestamp | None:
    """Return the first day of a source that is or was held."""
    folder = names.slug(source)
    held = [pd.Timestamp(name.stem, tz="UTC") for name in files.days("sessions")
            if names.folder_of(name) == folder]  # fmt: skip
    return min([*held, *_first_days(files, source)], default=None)


def damaged_days(files: ParquetFiles, source: str) -> list[pd.Timestamp]:
    """Return the days of a source of which a file was ever set aside."""
    folder = names.Name(names.DAMAGED, "sessions", names.slug(source))
    originals = map(names.original_of, names.regular(files.storage.walk(folder)))
    return [pd.Timestamp(name.stem, tz="UTC") for name in originals if name is not None]


def provenance(
    files: ParquetFiles, start: pd.Timestamp | None, stop: pd.Timestamp | None
) -> dict[str, object]:
    """Return where the sessions of a window come from; see `Archive.provenance`."""
    paths = files.days("sessions", start, stop)
    described = list(files.metadata_of(paths))
    digest = hashlib.sha256()
    for body in files.storage.map(files.body, paths):
        digest.update(body)
    times = [pd.Timestamp(m.as_of) for _, m, _ in described if m.as_of]
    return {
        "sources": sorted({metadata.source for _, metadata, _ in described}),
        "rows": sum(rows for _, _, rows in described),
        "files": len(paths),
        "as_of": max(times, default=None),
        "sha256": digest.hexdigest(),
        "imported": {name: sha for _, m, _ in described for name, sha in m.imported},
    }


def _known(
    files: ParquetFiles,
) -> tuple[dict[str, list[Interval]], dict[str, pd.Timestamp]]:
    """Return for each source the intervals of which its sessions are known, and its first day held."""
    known: dict[str, list[Interval]] = {}
    first: dict[str, pd.Timestamp] = {}
    for _, metadata, _ in files.metadata_of(files.days("sessions")):
        known.setdefault(metadata.source, []).extend(metadata.known)
        first.setdefault(metadata.source, pd.Timestamp(str(metadata.day), tz="UTC"))
    return {source: sorted(intervals) for source, intervals in known.items() if intervals}, first


def _backup_servers(files: ParquetFiles, source: str) -> set[str]:
    folder = names.slug(source)
    paths = [path for path in files.days("sessions") if path.parts[1] == folder]
    columns = files.storage.map(
        lambda path: files.load(path, schema.SESSIONS, ["backup_server"]), paths
    )
    labels = (pc.unique(table["backup_server"].cast(pa.string())) for table in columns)
    return {name for column in labels for name in column.to_pylist() if name is not None}


def _by_server(
    found: Iterable[_Hole], known: dict[str, list[Interval]], servers: dict[str, set[str]]
) -> list[_Hole]:
    """Return holes per backup server of their source, less what other sources know of that server."""
    return [
        (source, server, *left)
        for source, _, start, end in found
        for server in sorted(servers[source])
        for left in subtract(
            [(start, end)],
            [interval for other in known if other != source and server in servers[other]
             for interval in known[other]],
        )
    ]  # fmt: skip
