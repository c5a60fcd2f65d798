"""The place of an archive: a directory or an object store, behind one interface."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar
from urllib.request import url2pathname

import pyarrow.parquet as pq

from cdpanalytics.archive.storage import Kind
from cdpanalytics.archive.storage.local import LocalStorage
from cdpanalytics.errors import InputError

A = TypeVar("A")
T = TypeVar("T")

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.:-]+)://(?P<rest>.*)", re.S)
_HOLDS_USER = re.compile(r"[^/]*:[^@]*@|[^/@]*@")
_NAMES_CONTAINER = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes whose URLs name a container before the @."""


class Lock(Protocol):
    """A lock that one writer holds at a time."""

    def acquire(self, timeout: float) -> object:
        """Acquire it within some seconds, or raise TimeoutError."""

    def release(self) -> None:
        """Release it."""


class Storage(Protocol):
    """What an archive needs of its place; names are relative to `home`.

    Methods raise OSError as files do, and `errors.StoreError` where a store does not answer
    or refuses: then it is unknown what lies there.
    """

    @property
    def home(self) -> Path | str:
        """The directory, or the URL."""

    def location(self, name: PurePosixPath) -> str:
        """Return the full path or URL of a name."""

    def home_exists(self) -> bool:
        """Return whether the directory, or any object of the prefix, exists."""

    def entries(self) -> list[str]:
        """Return the names directly in it."""

    def exists(self, name: PurePosixPath) -> bool:
        """Return whether there is a regular file of this name."""

    def version(self, name: PurePosixPath) -> str:
        """Return what tells a version of a file from others, as of the last look at its folder."""

    def walk(self, folder: PurePosixPath) -> list[tuple[PurePosixPath, Kind]]:
        """Return each name below a folder and what it is, in order; links are not followed."""

    def read(self, name: PurePosixPath) -> bytes:
        """Return a file's bytes."""

    def read_parquet(self, name: PurePosixPath, function: Callable[[pq.ParquetFile], T]) -> T:
        """Apply a function to a Parquet file, which is read as far as the function needs."""

    def footer(self, name: PurePosixPath) -> pq.FileMetaData:
        """Return a Parquet file's footer."""

    def map(self, function: Callable[[A], T], over: Iterable[A]) -> Iterator[T]:
        """Apply a function to each item, in order, several at once where that is faster."""

    def write(self, name: PurePosixPath, body: bytes) -> None:
        """Replace a file atomically."""

    def move(self, name: PurePosixPath, to: PurePosixPath) -> None:
        """Rename a file, replacing the file of the new name."""

    def check_replaceable(self, name: PurePosixPath) -> None:
        """Raise OSError where something else than a regular file has this name."""

    def lock(self, name: PurePosixPath) -> Lock:
        """Return the lock of this name, not yet held."""

    def remove_partial_files(self) -> None:
        """Remove what writes that were killed have left; only the holder of the lock may do so."""


def open_storage(
    place: str | os.PathLike[str], options: Mapping[str, Any] | None = None
) -> Storage:
    """Return the storage at a path or a URL.

    Parameters
    ----------
    place : path-like or str
        A directory, a ``file://`` URL, or an URL that fsspec knows: ``s3://bucket/prefix``.
    options : mapping, optional
        What fsspec's file system takes.

    Raises
    ------
    InputError
        When the URL holds credentials, is none of a store, or a package for it is missing;
        when options are given for a directory.
    """
    url = _URL.fullmatch(os.fspath(place))
    if url is not None and url["scheme"].lower() != "file":
        from cdpanalytics.archive.storage.object_store import ObjectStorage

        _refuse(url["scheme"].lower(), url["rest"])
        return ObjectStorage(os.fspath(place), options or {})
    if options:
        raise InputError(
            f"storage_options are for a URL such as s3://bucket/prefix; {place} is a directory"
        )
    return LocalStorage(Path(place) if url is None else Path(url2pathname(url["rest"])))


def _refuse(scheme: str, rest: str) -> None:
    """Refuse URLs that cannot hold an archive; a URL with credentials is not repeated."""
    if scheme not in _NAMES_CONTAINER and _HOLDS_USER.match(rest):
        raise InputError(
            f"a {scheme}:// URL with credentials in it is not accepted; give them as storage_options=, "
            "or in the environment or the settings file that the store's own tools read"
        )
    if scheme in ("http", "https"):
        raise InputError(
            f"an archive cannot be written to {scheme}://{rest}; name a directory, or s3://bucket/prefix"
        )
    if "::" in scheme:
        raise InputError(
            f"{scheme}://{rest} is a chain of stores; name the last one alone, as s3://bucket/prefix"
        )
