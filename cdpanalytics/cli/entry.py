"""Run one command: from arguments to an exit code, with every failure told in one line."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

from cdpanalytics.cli import signals
from cdpanalytics.cli.parser import UsageError, parser
from cdpanalytics.errors import CdpError
from cdpanalytics.presentation import output

OK, ERROR, USAGE = 0, 1, 2
UNKNOWN: Final = 3
"""What `check` exits with where its question has no answer, as monitoring systems expect it."""

DEBUG: Final = "CDPANALYTICS_DEBUG"
"""The environment variable that adds the traceback to an internal error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name. Default: those of this process.

    Returns
    -------
    int
        0 done, 1 an error, 2 wrong usage. `check`: 0 OK, 1 warning, 2 critical, 3 unknown,
        which includes every error and wrong usage. A command that a signal ended: 128 plus
        the signal's number (130 for Ctrl+C, 143 for SIGTERM, 129 for SIGHUP), as shells
        report it; `check` 3. Each failure is one line on standard error; of `check` it is
        one line on standard output, beginning with UNKNOWN.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_check = next((word for word in words if not word.startswith("-")), None) == "check"
    with _warnings_in_one_line():
        try:
            with signals.raised():
                code = _run(words)
                output.flush()
            return code
        except SystemExit as end:  # --help
            return _flushed(end.code if isinstance(end.code, int) else OK, is_check)
        except UsageError as error:
            return _failed(str(error), USAGE, is_check)
        except CdpError as error:
            return _failed(str(error), ERROR, is_check)
        except KeyboardInterrupt as interrupt:
            return _failed(signals.reason(interrupt), signals.exit_code(interrupt), is_check)
        except Exception as error:
            if os.environ.get(DEBUG):
                traceback.print_exc()
            kind = type(error).__name__
            text = f"internal error ({kind}: {error}); set {DEBUG}=1 to see where, and report it"
            return _failed(text, ERROR, is_check)


def run() -> NoReturn:
    """Run the command line and exit with its code."""
    _open_closed_streams()
    code = main()
    output.drop_unwritten()
    sys.exit(code)


def _run(words: list[str]) -> int:
    root = parser()
    if "_ARGCOMPLETE" in os.environ:  # set by the shell when TAB is pressed
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(root)
    with warnings.catch_warnings(record=True) as caught:
        options: argparse.Namespace = root.parse_args(words)
    for warning in caught:  # shown once the whole line is known to be right
        warnings.warn(warning.message, stacklevel=2)
    if options.run is None:
        root.print_help()
        return OK
    return int(options.run(options))


def _failed(message: str, code: int, is_check: bool) -> int:
    """Tell a failure in one line and return the exit code."""
    line = output.one_line(message)
    if not is_check:
        output.print_error(f"cdpanalytics: {line}")
        return code
    try:
        output.print_table(f"UNKNOWN: {line}\n")
        output.flush()
    except CdpError:
        output.print_error(f"cdpanalytics: {line}")
    return UNKNOWN


def _flushed(code: int, is_check: bool) -> int:
    try:
        output.flush()
    except CdpError as error:
        return _failed(str(error), ERROR, is_check)
    return code


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show a Python warning as one line, without the place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        output.print_error(f"cdpanalytics: warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _open_closed_streams() -> None:
    """Open the null device on each standard stream that is closed.

    Otherwise the next file that is opened (the archive's lock, a socket) gets its number,
    and whatever writes to standard output or error would write into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
