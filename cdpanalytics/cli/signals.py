"""Turn the signals that end a process into an exception, so that a command logs off and releases its lock."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_NAMES: Final = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """The process was told to end by a signal; raised wherever the main thread is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Terminated` in this block on SIGTERM and SIGHUP.

    Context managers then do what they do on Ctrl+C: the logon session is deleted on the
    server, the archive's lock is released, unfinished files are removed. A signal that the
    parent process ignores stays ignored (nohup). A second SIGTERM or SIGHUP changes nothing
    while the first is acted on; Ctrl+C still interrupts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it receives signals
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] is signal.SIG_DFL]

    def end(number: int, _: Any) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    try:
        for number in handled:
            signal.signal(number, end)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def reason(interrupt: KeyboardInterrupt) -> str:
    """Return what ended the command, for a person."""
    if isinstance(interrupt, Terminated):
        return f"ended by {signal.Signals(interrupt.number).name}"
    return "interrupted"


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 plus the number of the signal, as shells report it."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)
