"""``archive.json``: that a directory is an archive, which sources it has, and its last commit."""

from __future__ import annotations

import json
import tomllib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from cdpanalytics import schema
from cdpanalytics.archive.storage.base import Storage
from cdpanalytics.errors import ArchiveError

MARKER = PurePosixPath("archive.json")
LOCK = PurePosixPath("archive.lock")
ESTATE = PurePosixPath("cdpanalytics.toml")
"""The customer's own file: it may lie in a directory that is not yet an archive."""


@dataclass(frozen=True)
class Marker:
    """What ``archive.json`` says.

    `sources`: each Enterprise Manager and its first day ever held, as ISO date, or None
    where no day was written yet; a first day that was deleted by hand is missed by this.
    `commit`: changes whenever a sync makes its files current, so a reader that sees the
    same commit before and after has read one state. `pending`: files of that commit which
    may still have the name under which they were staged. `since`: the first day that any
    sync of a source was to have. It is earlier than the first day held where the server
    did not have those days then; it may have them later.
    """

    sources: Mapping[str, str | None] = field(default_factory=dict)
    commit: str = ""
    pending: frozenset[PurePosixPath] = frozenset()
    since: Mapping[str, str] = field(default_factory=dict)

    def with_day(self, source: str, day: str | None) -> Marker:
        """Return the marker once a day of a source is held, or the source without a day."""
        first = self.sources.get(source)
        days = [first_day for first_day in (first, day) if first_day is not None]
        if source in self.sources and min(days, default=None) == first:
            return self
        return replace(self, sources={**self.sources, source: min(days, default=None)})

    def with_since(self, source: str, day: str) -> Marker:
        """Return the marker once a sync of a source was to have a day."""
        if self.since.get(source, day) <= day and source in self.since:
            return self
        return replace(self, since={**self.since, source: day})

    def committed(self, pending: Iterable[PurePosixPath] = ()) -> Marker:
        """Return the marker of a new commit."""
        return replace(self, commit=uuid.uuid4().hex, pending=frozenset(pending))


def read_marker(storage: Storage) -> Marker:
    """Return what ``archive.json`` says; an empty marker where it does not exist.

    Raises
    ------
    ArchiveError
        When it cannot be read, or is of a later version.
    """
    try:
        text = storage.read(MARKER)
    except (FileNotFoundError, NotADirectoryError):
        return Marker()
    except OSError:
        raise _unreadable(storage) from None
    try:
        content = json.loads(text)
        version = content["version"]
        marker = Marker(
            {str(name): None if day is None else _day(day)
             for name, day in content.get("sources", {}).items()},
            str(content.get("commit", "")),
            frozenset(PurePosixPath(str(name)) for name in content.get("pending", ())),
            {str(name): _day(day) for name, day in content.get("since", {}).items()},
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _unreadable(storage) from None
    if version != schema.VERSION:
        raise ArchiveError(
            f"{storage.home} has schema version {version!r:.20}, this cdpanalytics reads "
            f"{schema.VERSION}; upgrade cdpanalytics"
        )
    return marker


def write_marker(storage: Storage, marker: Marker) -> None:
    """Replace ``archive.json``."""
    content = {
        "format": "cdpanalytics archive",
        "version": schema.VERSION,
        "sources": dict(sorted(marker.sources.items())),
        "commit": marker.commit,
        "pending": sorted(map(str, marker.pending)),
        "since": dict(sorted(marker.since.items())),
    }
    storage.write(MARKER, json.dumps(content).encode())


def check_archive(storage: Storage) -> None:
    """Raise ArchiveError unless a place is an archive, or may become one.

    Without ``archive.json`` it may hold only a lock, ``cdpanalytics.toml`` and the files
    that this names.
    """
    if storage.exists(MARKER):
        read_marker(storage)
        return
    allowed = {".gitkeep", str(LOCK), *estate_files(storage)}
    if not allowed.issuperset(storage.entries()):
        raise ArchiveError(
            f"{storage.home} is not an archive: it has no {MARKER}; name another directory"
        )


def estate_files(storage: Storage) -> set[str]:
    """Return ``cdpanalytics.toml`` and the names directly in the archive that it mentions."""
    if not storage.exists(ESTATE):
        return set()
    try:
        content = tomllib.loads(storage.read(ESTATE).decode())
    except (OSError, ValueError, RecursionError):
        return {str(ESTATE)}  # errors in it are reported where it is read
    mentioned = {
        PurePosixPath(text).parts[0] for text in _texts(content) if PurePosixPath(text).parts
    }
    return {str(ESTATE), *mentioned}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _day(text: Any) -> str:
    return date.fromisoformat(text).isoformat()


def _unreadable(storage: Storage) -> ArchiveError:
    return ArchiveError(f"{storage.location(MARKER)} cannot be read; is {storage.home} an archive?")
