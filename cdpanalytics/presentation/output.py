"""Write results where the user asked: to a file, a pipe, a device, or standard output."""

from __future__ import annotations

import os
import secrets
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO, cast

from cdpanalytics.archive.storage.local import sync_folder
from cdpanalytics.errors import InputError

STDOUT: Final = "-"
"""The name that stands for standard output, as in most commands."""

_STDOUT_NAMES: Final = (STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_KEPT_CONTROLS: Final = "\n\t"


def is_stdout(name: str | os.PathLike[str]) -> bool:
    """Return whether a name stands for standard output.

    Examples
    --------
    >>> is_stdout("-"), is_stdout("/dev/stdout"), is_stdout("./-")
    (True, True, False)
    """
    return os.fspath(name) in _STDOUT_NAMES


def check(name: str | os.PathLike[str], *, binary: bool = False) -> None:
    """Refuse a name that cannot be written to, before the work of making the contents.

    Raises
    ------
    InputError
        When the name is empty, a directory or a block device, or its directory does not
        exist; with `binary` also when it is a terminal.
    """
    if not is_stdout(name):
        _resolved(name)
    if binary and _is_terminal(name):
        raise InputError("the output is a terminal, the format binary; name a file with --output")


def write(name: str | os.PathLike[str], body: bytes) -> None:
    """Write `body` to the destination that `name` stands for.

    A regular file is replaced whole or not at all: the contents are written beside it and
    renamed, and its mode, owner and group stay. A symbolic link is followed, so the link
    stays a link. Pipes, sockets' files and character devices are written to. ``-`` is
    standard output. Text for a terminal goes through `write_text`.

    Parameters
    ----------
    name : str or path-like
    body : bytes

    Raises
    ------
    InputError
        When the name is empty or a directory, its directory does not exist, or the
        system refuses to write.
    """
    if is_stdout(name):
        _write_stdout(body)
        return
    path, status = _resolved(name)
    try:
        if status is None or stat.S_ISREG(status.st_mode):
            _replace(path, body, status)
        else:
            _write_into(Path(name), body)
    except OSError as error:
        in_use = os.name == "nt" and isinstance(error, PermissionError)
        hint = "; close it if another program has it open" if in_use else ""
        raise InputError(f"cannot write {name}: {error.strerror or error}{hint}") from None


def write_text(name: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8; a terminal gets control characters escaped, all else the text as it is.

    Raises
    ------
    InputError
        As `write`.
    """
    if is_stdout(name):
        print_text(text)
    else:
        write(
            name, (printable(text) if _is_terminal(name) else text).encode("utf-8", "surrogatepass")
        )


def print_text(text: str) -> None:
    r"""Write text to standard output.

    A terminal gets control characters escaped. A character that the encoding of standard
    output lacks is written as ``\uXXXX``, which JSON and Python read.

    Raises
    ------
    InputError
        When standard output is closed.
    """
    stream = _stdout()
    if stream.isatty():
        text = printable(text)
    with _stdout_errors():
        stream.write(encodable(text, stream.encoding))


def flush() -> None:
    """Bring what was written to standard output to its reader.

    Raises
    ------
    InputError
        When it cannot be written: its disk is full, or its reader has ended.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        with _stdout_errors():
            sys.stdout.flush()


def drop_unwritten() -> None:
    """Let what standard output could not take go nowhere, so that Python does not try again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _is_terminal(name: str | os.PathLike[str]) -> bool:
    """Return whether a destination is a terminal."""
    return _stdout().isatty() if is_stdout(name) else _is_a_terminals_file(name)


def stderr_is_terminal() -> bool:
    """Return whether standard error is a terminal, where a progress bar can be drawn."""
    return sys.stderr is not None and sys.stderr.isatty()


def print_table(text: str) -> None:
    """Write text for people to standard output: as `print_text`, with "-" where "–" is not available.

    Raises
    ------
    InputError
        When standard output is closed.
    """
    if encodable("–", _stdout().encoding) != "–":
        text = text.replace("–", "-")
    print_text(text)


def print_error(line: str) -> None:
    """Write one line to standard error; where it is closed or full there is nowhere to say so."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(encodable(one_line(line), sys.stderr.encoding) + "\n")
            sys.stderr.flush()
    except (OSError, ValueError):
        return


def printable(text: str) -> str:
    r"""Return text with its control characters escaped, except line ends and tabs.

    Controls are all characters of Unicode's category "other" (escape sequences, changes of
    direction, lone surrogates) and its line and paragraph separators.

    Examples
    --------
    >>> print(printable("a\x1b[31m b\u202e"))
    a\x1b[31m b\u202e
    """
    if text.isprintable():
        return text
    return "".join(
        _escaped(character) if _is_control(character) else character for character in text
    )


def one_line(text: str) -> str:
    r"""Return text as one line: line ends and other control characters become spaces.

    Examples
    --------
    >>> one_line("a\x1b[31m\nb")
    'a [31m b'
    """
    return "".join(character if character.isprintable() else " " for character in text)


def encodable(text: str, encoding: str | None) -> str:
    r"""Return text with the characters that an encoding lacks written as ``\uXXXX``.

    Characters beyond U+FFFF become two surrogates, as in JSON.

    Examples
    --------
    >>> print(encodable("Café 日", "latin-1"))
    Café \u65e5
    """
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return "".join(_fallback(character, encoding) for character in text)


def _fallback(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
        return character
    except UnicodeEncodeError:
        units = character.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _is_control(character: str) -> bool:
    kind = unicodedata.category(character)
    return character not in _KEPT_CONTROLS and (kind[0] == "C" or kind in ("Zl", "Zp"))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _stdout() -> TextIO:
    if sys.stdout is None or sys.stdout.closed:
        raise InputError("standard output is closed; open it, or write to a file with --output")
    return cast(TextIO, sys.stdout)


def _write_stdout(body: bytes) -> None:
    stream = _stdout()
    if stream.isatty():
        raise InputError("standard output is a terminal, the format binary; name a file")
    with _stdout_errors():
        stream.flush()
        stream.buffer.write(body)
        stream.buffer.flush()


@contextmanager
def _stdout_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise InputError("standard output was closed before everything was written") from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write to standard output: {reason}") from None


def _resolved(name: str | os.PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """Return the path behind all links and its status; None where no file exists yet."""
    if not os.fspath(name).strip():
        raise InputError("the name of the output is empty; name a file, or - for standard output")
    try:
        path = Path(os.path.realpath(name))
        status = _status(Path(name))
        folder_exists = path.parent.is_dir()
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, a loop of links
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot write {name}: {reason}") from None
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a directory; name a file in it")
    if status is not None and stat.S_ISBLK(status.st_mode):
        raise InputError(f"{name} is a block device; name a file, a pipe or - for standard output")
    if not folder_exists:
        raise InputError(f"{path.parent} is not a directory; make it first, or name another file")
    return path, status


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_a_terminals_file(name: str | os.PathLike[str]) -> bool:
    status = _resolved(name)[1]
    if status is None or not stat.S_ISCHR(status.st_mode):
        return False
    handle = _opened(Path(name))
    try:
        return os.isatty(handle)
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    """Open a device or pipe to write; never create or cut it, nor make it our terminal."""
    return os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))


def _write_into(path: Path, body: bytes) -> None:
    with open(_opened(path), "wb") as file:
        file.write(body)


def _replace(path: Path, body: bytes, old: os.stat_result | None) -> None:
    # Readable by its owner alone until it has the mode of the file it replaces, so that the
    # contents of a private file are never readable by others, not even for a moment.
    beside = path.with_name(f".cdpanalytics-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(beside, flags, 0o666 if old is None else 0o600)
    except PermissionError:
        if old is None:
            raise
        _overwrite(path, body)  # we may write the file, but not its directory
        return
    try:
        with open(handle, "wb") as file:
            file.write(body)
            file.flush()
            kept = old is None or _keep_owner_and_mode(file.fileno(), old)
            os.fsync(file.fileno())
        if kept:
            os.replace(beside, path)
            sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)
    if not kept:  # another user's file that we may write: writing into it keeps its owner
        _overwrite(path, body)


def _overwrite(path: Path, body: bytes) -> None:
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _keep_owner_and_mode(handle: int, old: os.stat_result) -> bool:
    """Give a new file the owner and mode of the old one; return whether the system allowed it."""
    if os.name == "nt":  # pragma: no cover - the folder's access list applies to both files
        return True
    new = os.fstat(handle)
    try:
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, stat.S_IMODE(old.st_mode))
    except PermissionError:
        return False
    return True
