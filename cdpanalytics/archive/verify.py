"""Checks of a whole archive: each file is readable and what its place says, each uid occurs once."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from cdpanalytics import schema
from cdpanalytics.archive import names
from cdpanalytics.archive.files import TABLES, WHEN, ParquetFiles, columns_of
from cdpanalytics.archive.marker import LOCK, MARKER, estate_files
from cdpanalytics.archive.names import Name
from cdpanalytics.errors import ArchiveError, StoreError

_DAY = pd.Timedelta("1D")
PART_ROWS = 1_000_000
"""Uids compared at a time: about 12 MB, whatever the archive's size."""

ROWS_IN_MEMORY = 16_000_000
"""Bytes of all uid digests of a source that stay in memory; more go to temporary files."""

_DIGEST = np.dtype([("digest", np.uint64), ("file", np.uint32)])
_KINDS = {"link": "is a symbolic link, which the archive does not follow",
          "special": "is not a regular file"}  # fmt: skip


def verify(files: ParquetFiles) -> pd.DataFrame:
    """Return what is wrong with an archive, and what in it is not its own; see `Archive.verify`."""
    findings: list[tuple[Name, str, str]] = []
    uids: dict[tuple[str, str], _Digests] = {}
    paths = files.all()
    for path in paths:
        try:
            findings += [(path, finding, "damage") for finding in _inspect(files, path, uids)]
        except StoreError:
            raise
        except ArchiveError as error:
            message = str(error).removeprefix(f"{files.storage.location(path)} ")
            text = message.partition("; see:")[0]
            if path.parts[0] == names.MONTHS:
                text += "; nothing is lost: the next sync writes it again"
            findings.append((path, text, "damage"))
    for digests in uids.values():
        findings += [(path, text, "damage") for path, text in _duplicates(files, digests)]
        digests.close()
    order = {path: number for number, path in enumerate(paths)}
    findings.sort(key=lambda finding: order[finding[0]])
    findings += [(name, text, "foreign") for name, text in _foreign(files, set(paths))]
    rows = [(str(path), text, kind) for path, text, kind in findings]
    return pd.DataFrame(rows, columns=["path", "finding", "kind"]).astype("str")


@dataclass
class _Digests:
    """64-bit digests of the uids of one table and source, in parts that each fit in memory.

    A dictionary of every uid grew with the archive. Equal uids have equal digests and so lie
    in the same part; each part is sorted by itself. Parts beyond a few MB lie in temporary
    files. Two different uids with one digest are possible, so equal digests are candidates
    whose uids are then read again and compared.
    """

    parts: list[IO[bytes]]
    paths: list[Name] = field(default_factory=list)

    @classmethod
    def for_rows(cls, rows: int) -> _Digests:
        """Return empty parts, enough for so many uids."""
        count = 1 + rows // PART_ROWS
        most = ROWS_IN_MEMORY // count
        return cls([tempfile.SpooledTemporaryFile(most) for _ in range(count)])

    def add(self, path: Name, uids: pa.ChunkedArray) -> None:
        """Add the uids of a file."""
        records = np.empty(len(uids), _DIGEST)
        records["digest"] = _digests(uids)
        records["file"] = len(self.paths)
        self.paths.append(path)
        part = records["digest"] % np.uint64(len(self.parts))
        for number, file in enumerate(self.parts):
            file.write(records[part == number].tobytes())

    def candidates(self) -> Iterator[tuple[Name, Name]]:
        """Yield pairs of files that seem to share a uid: the file with its first row, and a later one."""
        for file in self.parts:
            file.seek(0)
            records = np.frombuffer(file.read(), _DIGEST)
            records = records[np.argsort(records["digest"], kind="stable")]
            new = np.append(True, records["digest"][1:] != records["digest"][:-1])[: len(records)]
            first = np.flatnonzero(new)[np.cumsum(new) - 1]
            pairs = np.stack([records["file"][first], records["file"]], axis=1)[~new]
            for first_file, other in np.unique(pairs, axis=0):
                yield self.paths[first_file], self.paths[other]

    def close(self) -> None:
        """Remove the temporary files."""
        with ExitStack() as stack:
            for file in self.parts:
                stack.callback(file.close)


def _digests(uids: pa.ChunkedArray) -> NDArray[np.uint64]:
    texts = uids.fill_null("").to_numpy().astype(object)
    return np.asarray(pd.util.hash_array(texts, categorize=False), np.uint64)


def _inspect(
    files: ParquetFiles, path: Name, uids: dict[tuple[str, str], _Digests]
) -> Iterator[str]:
    metadata = files.metadata(path)
    table = files.load(path, columns_of(path))
    if metadata.table not in TABLES:
        return
    day = pd.Timestamp(str(metadata.day), tz="UTC")
    when = WHEN.get(metadata.table, "created")
    begun = schema.to_frame(table.select([when]))[when]
    outside = int((~begun.between(day, day + _DAY, inclusive="left")).sum())
    if outside:
        yield f"{outside} rows were not created on {metadata.day}"
    if "uid" not in table.column_names:
        return
    if metadata.table == "sessions" and table["vm"].null_count:
        yield f"{table['vm'].null_count} rows have no vm"
    whose = (metadata.table, metadata.source)
    if whose not in uids:
        uids[whose] = _Digests.for_rows(_rows(files, path))
    uids[whose].add(path, table["uid"])


def _rows(files: ParquetFiles, path: Name) -> int:
    """Return how many rows the files of a table and source have, as far as they can be read."""
    total = 0
    for sibling in files.days(path.parts[0]):
        if sibling.parent == path.parent:
            try:
                ((_, _, rows),) = files.metadata_of([sibling])
            except StoreError:
                raise
            except ArchiveError:
                continue
            total += rows
    return total


def _duplicates(files: ParquetFiles, digests: _Digests) -> Iterator[tuple[Name, str]]:
    shared: dict[Name, dict[str, Name]] = {}
    for first, later in digests.candidates():
        for uid in sorted(_shared_uids(files, first, later)):
            shared.setdefault(later, {}).setdefault(uid, first)
    for path, uids in shared.items():
        uid, first = min(uids.items())
        yield path, f"{len(uids)} uids also occur elsewhere, e.g. {uid} (in {first.stem})"


def _shared_uids(files: ParquetFiles, first: Name, later: Name) -> Iterable[str]:
    def uids(path: Name) -> list[str]:
        table: Any = files.load(path, TABLES[path.parts[0]], ["uid"])
        return [uid for uid in table["uid"].to_pylist() if uid is not None]

    if first == later:
        return [uid for uid, count in Counter(uids(first)).items() if count > 1]
    return set(uids(first)) & set(uids(later))


def _foreign(files: ParquetFiles, ours: set[Name]) -> Iterator[tuple[Name, str]]:
    """Yield what is not of the archive; a folder without a file of ours is named once."""
    folders = {parent for path in ours for parent in path.parents}
    root = {str(MARKER), str(LOCK), *estate_files(files.storage)}
    strangers: dict[Name, list[tuple[Name, str]]] = {}
    for name, kind in files.storage.walk(Name()):
        if name.parts[0] in root or name.name.startswith(".") or _is_own(name, kind, ours):
            continue
        above = [parent for parent in reversed(name.parents) if parent not in folders]
        top = next((parent for parent in above if parent.parts), name)
        strangers.setdefault(top, []).append((name, kind))
    for top, entries in strangers.items():
        yield top, _describe(top, entries)


def _is_own(name: Name, kind: str, ours: set[Name]) -> bool:
    if kind != "file":
        return False
    staged = names.current(name)
    if staged is not None and names.is_ours(staged):
        return True
    return name in ours or names.original_of(name) is not None


def _describe(top: Name, entries: Sequence[tuple[Name, str]]) -> str:
    ((name, kind), *others) = entries
    if name != top:
        what = f"is not a folder of this archive ({1 + len(others)} files)"
    else:
        what = _KINDS.get(kind, "is not a file of this archive")
    hidden = any(part.startswith(("_", ".")) for part in top.parts)
    if top.parts[0] in names.DAILY and not hidden:
        what += f"; pandas.read_parquet reads it with {top.parts[0]}/, the archive does not"
    return f"{what}; it is left alone"
