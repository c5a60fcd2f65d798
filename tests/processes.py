"""Syncs in processes of their own, so that they can be killed; started from one that has all imported."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["cdpanalytics.synchronize", "cdpanalytics.server.client", "tests.processes"]
)
KILLED = -signal.SIGKILL


def sync_in_process(url: str, folder: Path, said: Any, **options: Any) -> None:
    """Sync as the command line does; leaves in `said` what came of it.

    `impatient`: retries do not wait, and an answer that trickles is given up after a second;
    `reconcile`: compare with what the server remembers.
    """
    from cdpanalytics.archive import Archive
    from cdpanalytics.errors import CdpError
    from cdpanalytics.server.client import EnterpriseManager
    from cdpanalytics.server.retry import RetryPolicy
    from cdpanalytics.synchronize import sync

    since, reconcile = options.pop("since", "7D"), options.pop("reconcile", True)
    if options.pop("impatient", False):
        options |= {"retry": RetryPolicy(backoff=0), "answer_timeout": 1}
    try:
        with EnterpriseManager(url, "demo", "demo", cache=False, **options) as em:
            done = sync(em, Archive(folder), since=since, quick=not reconcile, progress=False)
            said.put(str(done))
    except CdpError as error:
        said.put(f"error: {error}")


def killed_at(number: int, url: str, folder: Path, said: Any, **options: Any) -> None:
    """Sync, but be killed at the numbered call that changes the disk."""
    on_each_write(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    sync_in_process(url, folder, said, **options)


def failing_at(number: int, url: str, folder: Path, said: Any, **options: Any) -> None:
    """Sync on a disk that is full at the numbered call that changes it."""

    def full() -> None:
        raise OSError(28, "No space left on device")

    on_each_write(number, full)
    sync_in_process(url, folder, said, **options)


def on_each_write(number: int, act: Callable[[], None]) -> None:
    """Act at the numbered opening, bringing to the disk or renaming of a file."""
    from cdpanalytics.archive.storage import local

    calls = 0

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                act()
            return original(*arguments, **options)

        return counted

    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        fsync = staticmethod(counting(os.fsync))
        replace = staticmethod(counting(os.replace))
        open = staticmethod(counting(os.open))

    local.os = Os()  # type: ignore[attr-defined,assignment]


def limited(size: int, url: str, folder: Path, said: Any, **options: Any) -> None:
    """Sync where no file may grow beyond a size: the kernel refuses the rest.

    A warning is written nowhere: what pytest captures is a file, too.
    """
    import resource

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    sync_in_process(url, folder, said, **options)


def as_nobody(url: str, folder: Path, said: Any, **options: Any) -> None:
    """Sync as a user who may not write."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    sync_in_process(url, folder, said, **options)


def holding(folder: Path, taken: Any, let_go: Any) -> None:
    """Hold an archive for writing until told to let go."""
    from cdpanalytics.archive import Archive

    with Archive(folder).writing():
        taken.set()
        let_go.wait(30)


def run(target: Callable[..., None], *arguments: Any, after: float | None = None,
        **options: Any) -> tuple[int | None, str | None]:  # fmt: skip
    """Run a target to its end, or kill it after some seconds; its exit code and what it said."""
    said = CONTEXT.SimpleQueue()
    process = CONTEXT.Process(target=target, args=(*arguments, said), kwargs=options)
    process.start()
    process.join(after if after is not None else 60)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode, None if said.empty() else said.get()
