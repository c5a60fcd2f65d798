"""Files that are whole or untouched, whenever the process or the machine stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pyarrow.parquet as pq
from filelock import FileLock

from cdpanalytics.errors import ArchiveError

A = TypeVar("A")
T = TypeVar("T")

_BESIDE = "tmp"


def write(path: Path, body: bytes) -> None:
    """Replace a file: written beside it, brought to the disk, then renamed.

    Parameters
    ----------
    path : pathlib.Path
        Its folder must be there.
    body : bytes

    Raises
    ------
    OSError
        When that cannot be done; the file is then as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.{_BESIDE}")
    try:
        with beside.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left half-written anywhere below a folder."""
    for stray in folder.rglob(f".*.{_BESIDE}"):
        stray.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Folder:
    """A folder of this machine as the place of an archive: `store.Store` on a disk.

    Parameters
    ----------
    home : pathlib.Path
        It need not be there.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def __reduce__(self) -> tuple[type[Folder], tuple[Path]]:
        """Tell another process, which may stand elsewhere, the whole path."""
        return Folder, (self.home.absolute(),)

    def at(self, name: PurePosixPath) -> str:
        """Return where a name lies, for a person."""
        return str(self.home / name)

    def found(self) -> bool:
        """Return whether the folder is there."""
        if not self.home.exists():
            return False
        if not self.home.is_dir():
            raise ArchiveError(f"{self.home} is a file; an archive is a directory")
        return True

    def entries(self) -> list[str]:
        """Return what lies directly in it, less what a write has not finished."""
        return [
            entry.name for entry in self.home.iterdir() if not entry.name.endswith(f".{_BESIDE}")
        ]

    def exists(self, name: PurePosixPath) -> bool:
        """Return whether there is a file of this name."""
        return (self.home / name).exists()

    def glob(self, folder: PurePosixPath, pattern: str) -> list[PurePosixPath]:
        """Return the names below a folder that fit a pattern, in order."""
        found = glob(pattern, root_dir=self.home / folder, recursive=True, include_hidden=True)
        return [folder.joinpath(*parts) for parts in sorted(name.split(os.sep) for name in found)]

    def read(self, name: PurePosixPath) -> bytes:
        """Return a file's bytes."""
        return (self.home / name).read_bytes()

    def parsed(self, name: PurePosixPath, function: Callable[[pq.ParquetFile], T]) -> T:
        """Return what a function makes of a Parquet file."""
        return function(pq.ParquetFile(str(self.home / name), page_checksum_verification=True))

    def each(self, function: Callable[[A], T], over: Iterable[A]) -> Iterator[T]:
        """Yield what a function makes of each, in order: a disk is fastest one at a time."""
        return map(function, over)

    def write(self, name: PurePosixPath, body: bytes) -> None:
        """Replace a file: whole, or as it was."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, body)

    def move(self, name: PurePosixPath, to: PurePosixPath) -> None:
        """Give a file another name."""
        path = self.home / to
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.home / name, path)

    def lock(self, name: PurePosixPath) -> FileLock:
        """Return the operating system's lock of this name; the folder is made."""
        self.home.mkdir(parents=True, exist_ok=True)
        return FileLock(self.home / name)

    def sweep(self) -> None:
        """Remove what writes that were killed have left."""
        sweep(self.home)
