"""Crashes: whatever instant a sync dies at, the next one ends as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from cdpanalytics.archive import Archive, writing
from cdpanalytics.archive.marker import LOCK
from cdpanalytics.errors import ArchiveError
from cdpanalytics.simulator import Fleet, Simulator
from tests import processes
from tests.conftest import NIGHTLY, at_night
from tests.processes import KILLED
from tests.test_synchronize import assert_equals_truth, assert_not_asked_again, strays, synced

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")


@pytest.fixture
def still(fleet: Fleet) -> Simulator:
    """A server whose clock stands still, so that two syncs are the same to the byte."""
    return Simulator(fleet, clock=lambda: fleet.until)


def contents(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table of an archive by its path, rows in their order."""
    return {
        str(path.relative_to(folder)): pd.read_parquet(path)
        for path in sorted(folder.rglob("*.parquet"))
    }


def assert_same_archive(left: Path, right: Path) -> None:
    one, other = contents(left), contents(right)
    assert list(one) == list(other)
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_categorical=False, obj=name)
    assert not strays(right)


@pytest.mark.slow
def test_a_sync_killed_at_any_write_is_finished_by_the_next(
    still: Simulator, fleet: Fleet, tmp_path: Path
) -> None:
    with still as server:
        undisturbed, _ = synced(server, tmp_path / "whole", since="2D")
        number, kills = 0, 0
        while True:
            number += 1 if NIGHTLY else 5
            folder = tmp_path / f"killed-{number}"
            code, _ = processes.run(processes.killed_at, number, server.url, folder, since="2D")
            if code != KILLED:
                break
            kills += 1
            survivor = Archive(folder)
            final = survivor.ledger().query("final")["day"].tolist() if folder.exists() else []
            before = len(server.requests)
            code, said = processes.run(
                processes.sync_in_process, server.url, folder, since="2D", reconcile=False
            )
            assert code == 0
            assert said is not None
            assert not said.startswith("error"), said
            assert_not_asked_again(server, before, final)
            assert_same_archive(undisturbed.path, folder)
        assert kills >= (30 if NIGHTLY else 6), "each file is written, renamed and settled"


@at_night
@pytest.mark.slow
def test_a_write_that_fails_leaves_the_archive_sound(
    still: Simulator, fleet: Fleet, tmp_path: Path
) -> None:
    with still as server:
        base, _ = synced(server, tmp_path / "base", since="3D")
        server.advance(timedelta(hours=9))
        number, failures = 0, 0
        while True:
            number += 1 if NIGHTLY else 3
            folder = tmp_path / f"failed-{number}"
            shutil.copytree(base.path, folder)
            code, said = processes.run(processes.failing_at, number, server.url, folder)
            assert code == 0
            assert said is not None
            archive = Archive(folder)
            assert archive.verify().empty
            assert set(base.sessions()["uid"]) <= set(archive.sessions()["uid"])
            assert not strays(folder)
            if not said.startswith("error: "):
                break
            failures += 1
            assert "cannot be written: No space left on device" in said
            assert "\n" not in said
        assert failures >= (15 if NIGHTLY else 5), "each opening, writing and renaming of each file"
        synced(server, tmp_path / "failed-3", since="7D")
        assert_equals_truth(Archive(tmp_path / "failed-3"), fleet, server)


def test_a_disk_that_is_full_is_one_clear_line(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    for size in (0, 10, 4096):
        code, said = processes.run(processes.limited, size, server.url, folder)
        assert (code, said and said[:7]) == (0, "error: "), said
        assert said is not None
        assert "cannot be written: File too large" in said
        assert not strays(folder)
    synced(server, folder, since="7D")
    assert_equals_truth(Archive(folder), fleet, server)


def test_a_read_only_archive_is_one_clear_line(
    still: Simulator, fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    with still as server:
        synced(server, folder, since="7D")
        before = contents(folder)
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        for parent in (tmp_path, *tmp_path.parents):  # so that an unprivileged user can get there
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        server.advance(timedelta(hours=9))
        code, said = processes.run(processes.as_nobody, server.url, folder)
        fresh = tmp_path / "none" / "archive"
        (tmp_path / "none").mkdir(mode=0o555)
        _, new = processes.run(processes.as_nobody, server.url, fresh)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert code == 0
    for told in (said, new):
        assert told is not None
        assert told.startswith("error: ")
        assert "cannot be written: Permission denied" in told
    assert {k: len(v) for k, v in contents(folder).items()} == {
        k: len(v) for k, v in before.items()
    }


def test_two_syncs_at_once_take_turns(
    server: Simulator, fleet: Fleet, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synced(server, folder, since="2D")
    taken, let_go = processes.CONTEXT.Event(), processes.CONTEXT.Event()
    holder = processes.CONTEXT.Process(target=processes.holding, args=(folder, taken, let_go))
    holder.start()
    assert taken.wait(30)
    threading.Timer(0.5, let_go.set).start()
    begun = time.monotonic()
    synced(server, folder, since="7D")
    assert time.monotonic() - begun >= 0.4
    holder.join()
    assert "another sync is writing it; waiting for it to end" in caplog.text
    assert_equals_truth(Archive(folder), fleet, server)


def test_a_sync_that_does_not_end_is_not_waited_for_for_ever(
    server: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE", 0.2)
    synced(server, folder, since="2D")
    taken, let_go = processes.CONTEXT.Event(), processes.CONTEXT.Event()
    holder = processes.CONTEXT.Process(target=processes.holding, args=(folder, taken, let_go))
    holder.start()
    assert taken.wait(30)
    with pytest.raises(ArchiveError, match="another sync has been writing it for"):
        synced(server, folder)
    holder.kill()
    holder.join()
    synced(server, folder)  # the lock went with the process that held it


def test_who_waits_for_a_new_archive_has_written_nothing_into_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE", 0.1)
    folder.mkdir(parents=True)
    with (
        FileLock(folder / str(LOCK)),
        pytest.raises(ArchiveError, match="another sync has been writing it"),
        Archive(folder).writing(),
    ):
        pass
    assert [path.name for path in folder.iterdir()] == [str(LOCK)]


def test_two_syncs_started_together_both_end_right(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    ended: list[tuple[int | None, str | None]] = []
    pair = [
        threading.Thread(
            target=lambda: ended.append(
                processes.run(processes.sync_in_process, server.url, folder)
            )
        )
        for _ in range(2)
    ]
    for one in pair:
        one.start()
    for one in pair:
        one.join()
    assert all(code == 0 and said and "error" not in said for code, said in ended), ended
    assert_equals_truth(Archive(folder), fleet, server)
