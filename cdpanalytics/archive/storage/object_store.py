"""An archive on object storage, through fsspec: whole puts, ranged reads, and a lock made of both."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cdpanalytics.archive.storage import Kind
from cdpanalytics.archive.storage.lease import Lease
from cdpanalytics.errors import InputError, StoreError
from cdpanalytics.parallel import parallel_stream

A = TypeVar("A")
T = TypeVar("T")

PARALLEL = 16
"""ObjectStorage asked for at once: a request is mostly waiting."""

END = 16 * 1024
"""Bytes of an object's end that are fetched first: its footer, or all of a small object."""

_TRIES = 3
"""How often an object is read that is replaced while it is read."""

_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "last_modified", "mtime",
             "created")  # fmt: skip
"""Where stores tell one version of an object from another, the surest first."""

_PLAIN = ("endpoint_url", "region_name", "profile", "anon", "project", "account_name")
"""Storage options that an error may repeat."""

_ROOT = PurePosixPath()


@dataclass(frozen=True)
class _Entry:
    """What a store says of an object without reading it."""

    size: int
    version: str


@dataclass(frozen=True)
class _Footer:
    """What is kept of a version of a Parquet object: its metadata, and its bytes if they are few."""

    entry: _Entry
    metadata: pq.FileMetaData
    whole: bytes | None


class ObjectStorage:
    """A prefix of an object store as the place of an archive: `base.Storage` over fsspec.

    Parameters
    ----------
    url : str
        Such as ``s3://bucket/prefix``.
    options : mapping
        What fsspec's file system takes. Never shown, logged or written.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.home = url.rstrip("/")
        self._options = dict(options)
        self._fs, self._root = self._opened()
        self._there = False
        self._entries: dict[PurePosixPath, _Entry] = {}
        self._footers: dict[PurePosixPath, _Footer] = {}
        self._lease: Lease | None = None

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[str, dict[str, Any]]]:
        return ObjectStorage, (self.home, self._options)

    def location(self, name: PurePosixPath) -> str:
        """Return the URL of a name."""
        return f"{self.home}/{name}".removesuffix("/.")

    # -- reading ---------------------------------------------------------------

    def home_exists(self) -> bool:
        """Return whether any object has the prefix."""
        self._there = self._there or bool(self.entries())
        return self._there

    def entries(self) -> list[str]:
        """Return the names directly below the prefix."""
        with self._translate_errors("read"):
            try:
                below = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        return [PurePosixPath(key).name for key in below if key.rstrip("/") != self._root]

    def exists(self, name: PurePosixPath) -> bool:
        """Return whether there is an object of this name."""
        try:
            self._entries[name] = self._look(name)
        except FileNotFoundError:
            return False
        return True

    def version(self, name: PurePosixPath) -> str:
        """Return the size of an object and what the store calls its version."""
        entry = self._entries.get(name) or self._look(name)
        return f"{entry.size} {entry.version}"

    def walk(self, folder: PurePosixPath) -> list[tuple[PurePosixPath, Kind]]:
        """Return the names below a folder, in order: one listing."""
        listed = self._listed(folder)
        for name in [n for n in self._entries if n.is_relative_to(folder) and n not in listed]:
            # What an earlier listing said of an object that is gone must not be used again.
            self._entries.pop(name, None)
        self._entries.update(listed)
        return [(name, "file") for name in sorted(listed)]

    def read(self, name: PurePosixPath) -> bytes:
        """Return an object's bytes."""
        with self._translate_errors("read", name):
            return bytes(self._fs.cat_file(self._key(name)))

    def read_parquet(self, name: PurePosixPath, function: Callable[[pq.ParquetFile], T]) -> T:
        """Return what a function makes of a Parquet object, of which only what it asks for is fetched.

        What takes several requests is done again when another version was put between them.
        """
        for _ in range(_TRIES):
            entry = self._entries.get(name) or self._look(name)
            reader = Ranges(self, name, entry)
            try:
                result = function(self._parquet(name, reader))
            except StoreError:
                raise
            except Exception:
                if self._still(name, entry):
                    raise
            else:
                # A footer comes with one request, which cannot be of two versions.
                if reader.requests == 0 or self._still(name, entry):
                    return result
        raise StoreError(
            f"{self.location(name)} is replaced again and again while it is read; try again"
        )

    def footer(self, name: PurePosixPath) -> pq.FileMetaData:
        """Return a Parquet object's footer."""
        return self.read_parquet(name, lambda file: file.metadata)

    def map(self, function: Callable[[A], T], over: Iterable[A]) -> Iterator[T]:
        """Apply a function to each item, in order, several requests at once."""
        return parallel_stream(function, over, PARALLEL)

    def range(self, name: PurePosixPath, start: int, end: int) -> bytes:
        """Return bytes `[start, end)` of an object."""
        with self._translate_errors("read", name):
            return bytes(self._fs.cat_file(self._key(name), start=start, end=end))

    # -- writing ---------------------------------------------------------------

    def write(self, name: PurePosixPath, body: bytes) -> None:
        """Replace an object: one put, whole or as it was."""
        self._assure_lock()
        with self._translate_errors("written", name, absence_is_error=True):
            self._fs.pipe_file(self._key(name), body)
        self._entries.pop(name, None)

    def move(self, name: PurePosixPath, to: PurePosixPath) -> None:
        """Copy an object, then remove it: a process killed between the two leaves both."""
        self._assure_lock()
        with self._translate_errors("moved", name):
            self._fs.cp_file(self._key(name), self._key(to))
            self._fs.rm_file(self._key(name))
        self._entries.pop(name, None)
        self._entries.pop(to, None)

    def check_replaceable(self, name: PurePosixPath) -> None:
        """Do nothing: there are only objects."""

    def lock(self, name: PurePosixPath) -> Lease:
        """Return the lock of this name, not yet held."""
        self._lease = Lease(self, name)
        return self._lease

    def remove_partial_files(self) -> None:
        """Do nothing: an upload that is broken off leaves no object."""

    def claim(self, name: PurePosixPath, body: bytes) -> bool:
        """Put an object that must not be there; return whether it was not."""
        with self._translate_errors("written", name, absence_is_error=True):
            try:
                self._fs.pipe_file(self._key(name), body, mode="create")
            except FileExistsError:
                return False
            return bytes(self._fs.cat_file(self._key(name))) == body

    def put(self, name: PurePosixPath, body: bytes) -> None:
        """Replace an object, without a check of the lock."""
        with self._translate_errors("written", name, absence_is_error=True):
            self._fs.pipe_file(self._key(name), body)

    def remove(self, name: PurePosixPath) -> None:
        """Remove an object; one that is gone is well."""
        with self._translate_errors("removed", name):
            try:
                self._fs.rm_file(self._key(name))
            except FileNotFoundError:
                return

    def listed(self, folder: PurePosixPath) -> dict[PurePosixPath, _Entry]:
        """Return the objects below a folder as they are now."""
        return self._listed(folder)

    # -- below -----------------------------------------------------------------

    def _assure_lock(self) -> None:
        if self._lease is not None:
            self._lease.assure()

    def _opened(self) -> tuple[Any, str]:
        try:
            import fsspec

            fs, root = fsspec.core.url_to_fs(self.home, use_listings_cache=False, **self._options)
        except ImportError as error:
            raise InputError(
                f"{self.home} needs a package that is missing ({self._redacted(error)}); "
                "for s3:// install cdpanalytics[objects]"
            ) from None
        except Exception as error:
            raise InputError(f"{self.home} cannot be used: {self._redacted(error)}") from None
        return fs, str(root).rstrip("/")

    def _key(self, name: PurePosixPath) -> str:
        return f"{self._root}/{name}".removesuffix("/.")

    def _look(self, name: PurePosixPath) -> _Entry:
        with self._translate_errors("read", name):
            return _entry(self._fs.info(self._key(name)))

    def _parquet(self, name: PurePosixPath, reader: Ranges) -> pq.ParquetFile:
        """Open an object of which the footer is known; what lies together is one request."""
        footer = self._footers.get(name)
        if footer is None or footer.entry != reader.entry:
            footer = self._footers[name] = _footer(Ranges(self, name, reader.entry))
        source = reader if footer.whole is None else io.BytesIO(footer.whole)
        return pq.ParquetFile(
            pa.PythonFile(source, mode="r"), metadata=footer.metadata,
            page_checksum_verification=True, pre_buffer=footer.whole is None,
        )  # fmt: skip

    def _still(self, name: PurePosixPath, entry: _Entry) -> bool:
        """Whether an object is the version that was read; if not, remember which it is."""
        try:
            self._entries[name] = self._look(name)
        except FileNotFoundError:
            return True
        return self._entries[name] == entry

    def _listed(self, folder: PurePosixPath) -> dict[PurePosixPath, _Entry]:
        with self._translate_errors("read", folder):
            try:
                listed = self._fs.find(self._key(folder), detail=True)
            except FileNotFoundError:
                return {}
        start = len(self._root) + 1
        # A folder filled while it is looked at can be told as if it were an object itself.
        return {
            PurePosixPath(key[start:]): _entry(facts)
            for key, facts in listed.items()
            if key != self._key(folder)
        }

    @contextmanager
    def _translate_errors(
        self, done: str, name: PurePosixPath = _ROOT, *, absence_is_error: bool = False
    ) -> Iterator[None]:
        """Tell whatever a store's client raises in one line without secrets; an absence is none."""
        try:
            yield
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not absence_is_error:
                raise
            raise StoreError(
                f"{self.location(name)} cannot be {done}: {self._redacted(error)}"
            ) from None

    def _redacted(self, error: Exception) -> str:
        message = " ".join(
            (getattr(error, "strerror", None) or str(error) or type(error).__name__).split()
        )
        for secret in sorted(_secrets(self._options), key=len, reverse=True):
            message = message.replace(secret, "***")
        return message


class Ranges(io.RawIOBase):
    """An object as a file that is read at random, a request each time; it counts them."""

    def __init__(self, objects: ObjectStorage, name: PurePosixPath, entry: _Entry) -> None:
        super().__init__()
        self.entry, self.requests = entry, 0
        self._objects, self._name, self._at = objects, name, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.entry.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the position on."""
        start, end = self._at, self.entry.size
        self._at = end if size < 0 else min(start + size, end)
        if start == self._at:
            return b""
        self.requests += 1
        return self._objects.range(self._name, start, self._at)


def _footer(reader: Ranges) -> _Footer:
    """Read an object's footer with one request, or two when it is long."""
    size = reader.entry.size
    reader.seek(max(0, size - END))
    end = reader.read()
    needed = int.from_bytes(end[-8:-4], "little") + 8
    if len(end) < needed <= size:
        reader.seek(size - needed)
        end = reader.read()
    metadata = pq.read_metadata(pa.BufferReader(end))
    return _Footer(reader.entry, metadata, end if len(end) == size else None)


def _entry(told: Mapping[str, Any]) -> _Entry:
    version = next((told[word] for word in _VERSIONS if told.get(word) is not None), "")
    return _Entry(int(told["size"] or 0), str(version))


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    """Every text of the options that is not known to be harmless."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) > 3 and name not in _PLAIN:
            yield value
