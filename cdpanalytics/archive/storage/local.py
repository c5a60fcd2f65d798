"""Files on a disk, replaced atomically even when the process or the machine stops."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pyarrow.parquet as pq
from filelock import FileLock

from cdpanalytics.archive.storage import Kind
from cdpanalytics.errors import ArchiveError
from cdpanalytics.parallel import parallel_stream, thread_count

A = TypeVar("A")
T = TypeVar("T")

_BESIDE = "tmp"
_TRIES = 100 if os.name == "nt" else 1
_PAUSE = 0.05
"""Seconds between two tries."""

_Version = tuple[int, int, int]
"""Inode, time and size of a file: others where it was replaced."""

_PARTIAL = re.compile(rf"\..+\.\d+\.{_BESIDE}")


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
        when_free(lambda: os.replace(beside, path))
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def when_free(action: Callable[[], T], tries: int = _TRIES) -> T:
    """Return what an action on a file returns; on Windows, wait until no one else has it open.

    There, a file is not replaced while someone reads it, nor opened while it is replaced.
    """
    for _ in range(tries - 1):
        with suppress(PermissionError):
            return action()
        time.sleep(_PAUSE)
    return action()


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LocalStorage:
    """A directory of this machine as the place of an archive: `base.Storage` on a disk.

    Parameters
    ----------
    home : pathlib.Path
        It need not exist. It may be a symbolic link; links inside it are not followed.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._footers: dict[PurePosixPath, tuple[_Version, pq.FileMetaData]] = {}

    def __reduce__(self) -> tuple[type[LocalStorage], tuple[Path]]:
        """Pass another process, which may have another working directory, the whole path."""
        return LocalStorage, (self.home.absolute(),)

    def location(self, name: PurePosixPath) -> str:
        """Return the full path of a name."""
        return str(self.home / name)

    def home_exists(self) -> bool:
        """Return whether the directory exists."""
        if not self.home.exists():
            return False
        if not self.home.is_dir():
            raise ArchiveError(f"{self.home} is a file; an archive is a directory")
        return True

    def entries(self) -> list[str]:
        """Return the names directly in it, without those of unfinished writes."""
        return [
            entry.name for entry in self.home.iterdir() if not entry.name.endswith(f".{_BESIDE}")
        ]

    def exists(self, name: PurePosixPath) -> bool:
        """Return whether there is a regular file of this name."""
        return self._link_above(name) is None and _stat_kind(self.home / name) == "file"

    def version(self, name: PurePosixPath) -> str:
        """Return the size and time of a file, which a copy that keeps times has too."""
        status = (self.home / name).stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def walk(self, folder: PurePosixPath) -> list[tuple[PurePosixPath, Kind]]:
        """Return each name below a folder and what it is, in order; links are not followed."""
        if self._link_above(folder) is not None:
            return []
        return sorted(self._walk(folder), key=_parts)

    def read(self, name: PurePosixPath) -> bytes:
        """Return a file's bytes."""
        return when_free((self.home / name).read_bytes)

    def read_parquet(self, name: PurePosixPath, function: Callable[[pq.ParquetFile], T]) -> T:
        """Apply a function to a Parquet file."""
        path = str(self.home / name)
        footer = self.footer(name)
        with pq.ParquetFile(path, metadata=footer, page_checksum_verification=True) as file:
            return function(file)

    def footer(self, name: PurePosixPath) -> pq.FileMetaData:
        """Return a Parquet file's footer; that of a version is read once."""
        path = self.home / name
        status = path.stat()
        version = status.st_ino, status.st_mtime_ns, status.st_size
        held = self._footers.get(name)
        if held is None or held[0] != version:
            held = self._footers[name] = version, pq.read_metadata(str(path))
        return held[1]

    def map(self, function: Callable[[A], T], over: Iterable[A]) -> Iterator[T]:
        """Apply a function to each item, in order, one per CPU at a time."""
        return parallel_stream(function, over, thread_count())

    def write(self, name: PurePosixPath, body: bytes) -> None:
        """Replace a file atomically."""
        self.check_replaceable(name)
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, body)

    def move(self, name: PurePosixPath, to: PurePosixPath) -> None:
        """Rename a file, replacing the file of the new name."""
        self.check_replaceable(to)
        path = self.home / to
        path.parent.mkdir(parents=True, exist_ok=True)
        when_free(lambda: os.replace(self.home / name, path))
        sync_folder(path.parent)

    def check_replaceable(self, name: PurePosixPath) -> None:
        """Raise OSError where something else than a regular file has this name: it is the user's."""
        link = self._link_above(name)
        if link is not None:
            raise OSError(
                errno.EPERM,
                f"{link} is a symbolic link, and an archive follows none; remove the link",
            )
        if _stat_kind(self.home / name) not in ("file", None):
            raise OSError(
                errno.EPERM, "this name is in use by something that is not a file; remove it"
            )

    def lock(self, name: PurePosixPath) -> FileLock:
        """Return the operating system's lock of this name; the directory is made."""
        self.home.mkdir(parents=True, exist_ok=True)
        return FileLock(self.home / name)

    def remove_partial_files(self) -> None:
        """Remove what writes that were killed have left."""
        for name, kind in self.walk(PurePosixPath()):
            if kind == "file" and _PARTIAL.fullmatch(name.name):
                (self.home / name).unlink(missing_ok=True)

    def _walk(self, folder: PurePosixPath) -> Iterator[tuple[PurePosixPath, Kind]]:
        try:
            with os.scandir(self.home / folder) as entries:
                listed = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in listed:
            name = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(name)
            elif entry.is_symlink():
                yield name, "link"
            else:
                yield name, "file" if entry.is_file(follow_symlinks=False) else "special"

    def _link_above(self, name: PurePosixPath) -> PurePosixPath | None:
        """Return the first symbolic link on the way to a name, itself included."""
        above = [name, *name.parents][:-1] if name.parts else []
        return next((n for n in reversed(above) if (self.home / n).is_symlink()), None)


def _parts(entry: tuple[PurePosixPath, Kind]) -> tuple[str, ...]:
    return entry[0].parts


def _stat_kind(path: Path) -> Kind | None:
    """Return what a path is, without following it; None where there is nothing."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "special"
