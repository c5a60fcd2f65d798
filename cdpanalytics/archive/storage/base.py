"""Where an archive lies: a folder or an object store, asked alike; what the files say is not its concern."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar
from urllib.request import url2pathname

import pyarrow.parquet as pq

from cdpanalytics.archive.storage.local import Folder
from cdpanalytics.errors import InputError

A = TypeVar("A")
T = TypeVar("T")

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.:-]+)://(?P<rest>.*)", re.S)
_HOLDS_USER = re.compile(r"[^/]*:[^@]*@|[^/@]*@")
_NAMES_CONTAINER = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes whose URLs name a container before the @."""


class Lock(Protocol):
    """Held by one writer at a time."""

    def acquire(self, timeout: float) -> object:
        """Take it within some seconds, or raise TimeoutError."""

    def release(self) -> None:
        """Let go of it."""


class Store(Protocol):
    """The verbs an archive needs of its place; names are relative to `home`.

    Methods raise OSError as files do; where a place does not answer at all, or refuses,
    `errors.StoreError`, because nothing is known then of what lies there.
    """

    @property
    def home(self) -> Path | str:
        """The directory, or the URL."""

    def at(self, name: PurePosixPath) -> str:
        """Return where a name lies, for a person."""

    def found(self) -> bool:
        """Return whether there is anything."""

    def entries(self) -> list[str]:
        """Return the names directly in it."""

    def exists(self, name: PurePosixPath) -> bool:
        """Return whether there is a file of this name."""

    def glob(self, folder: PurePosixPath, pattern: str) -> list[PurePosixPath]:
        """Return the names below a folder that fit a pattern, in order."""

    def read(self, name: PurePosixPath) -> bytes:
        """Return a file's bytes."""

    def parsed(self, name: PurePosixPath, function: Callable[[pq.ParquetFile], T]) -> T:
        """Return what a function makes of a Parquet file, read as far as it asks."""

    def each(self, function: Callable[[A], T], over: Iterable[A]) -> Iterator[T]:
        """Yield what a function makes of each, in order, as many at once as the place likes."""

    def write(self, name: PurePosixPath, body: bytes) -> None:
        """Replace a file: whole, or as it was."""

    def move(self, name: PurePosixPath, to: PurePosixPath) -> None:
        """Give a file another name."""

    def lock(self, name: PurePosixPath) -> Lock:
        """Return the lock of this name, not yet held."""

    def sweep(self) -> None:
        """Remove what writes that were killed have left; for who holds the lock."""


def opened(place: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Store:
    """Return the store at a path or a URL.

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
        from cdpanalytics.archive.storage.object_store import Objects

        _refuse(url["scheme"].lower(), url["rest"])
        return Objects(os.fspath(place), options or {})
    if options:
        raise InputError(
            f"storage_options are for a URL such as s3://bucket/prefix; {place} is none"
        )
    return Folder(Path(place) if url is None else Path(url2pathname(url["rest"])))


def _refuse(scheme: str, rest: str) -> None:
    """Refuse what is no place of an archive; a URL with credentials is not repeated."""
    if scheme not in _NAMES_CONTAINER and _HOLDS_USER.match(rest):
        raise InputError(
            f"a {scheme}:// URL with credentials in it is not taken; give them as storage_options=, "
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
