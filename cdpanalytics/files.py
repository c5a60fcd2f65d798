"""Files that are whole or untouched, whenever the process or the machine stops."""

from __future__ import annotations

import os
from pathlib import Path

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
