"""Readers see one state of the archive: before a sync or after it, never some days of each."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest

from cdpanalytics.archive import Archive, marker
from cdpanalytics.archive.names import staged
from cdpanalytics.archive.storage.base import Kind, Storage
from cdpanalytics.archive.storage.local import LocalStorage, when_free
from cdpanalytics.errors import ArchiveError
from cdpanalytics.ranges import FULL_RANGE
from cdpanalytics.simulator import Simulator
from cdpanalytics.synchronize import sync
from tests.archive.test_archive import DAY, EM, OCT, put, session
from tests.test_synchronize import manager, synced

DAYS = 20


def write(archive: Archive, version: int, days: int = DAYS) -> None:
    """Replace every day in one commit; each row says which version it is of."""
    with archive.writing():
        for day in range(days):
            put(archive, OCT + day * DAY, session(f"u{day}", "a", 24 * day, 24 * day + 8,
                                                  total_size=version))  # fmt: skip


def versions(frame: pd.DataFrame) -> set[int]:
    return set(frame["total_size"])


def test_a_file_that_someone_has_open_is_waited_for() -> None:
    refusals = [PermissionError(13, "Access denied")] * 2

    def replace() -> str:
        if refusals:
            raise refusals.pop()
        return "replaced"

    assert when_free(replace, tries=3) == "replaced"
    refusals[:] = [PermissionError(13, "Access denied")] * 3
    with pytest.raises(PermissionError):
        when_free(replace, tries=3)
    assert not refusals


def test_each_of_many_reads_while_days_are_replaced_is_of_one_version(folder: Path) -> None:
    write(Archive(folder), 1)
    stop = threading.Event()

    def replacing() -> None:
        version = 1
        while not stop.is_set():
            version += 1
            write(Archive(folder), version)
            stop.wait(0.05)

    writer = threading.Thread(target=replacing)
    writer.start()
    try:
        reader, seen = Archive(folder), list[set[int]]()
        while len(seen) < 30:
            with suppress(ArchiveError):  # a machine so busy that each try meets a commit
                seen.append(versions(reader.sessions()))
    finally:
        stop.set()
        writer.join()
    assert all(len(one) == 1 for one in seen), seen
    assert len(set.union(*seen)) > 1, "it was replaced meanwhile"


def test_reads_during_a_full_sync_see_the_days_before_it_or_after_it(
    server: Simulator, folder: Path
) -> None:
    synced(server, folder, since="7D")
    before = asked_at(folder)
    server.advance(timedelta(minutes=5))

    def full() -> None:
        with manager(server) as em:
            sync(em, Archive(folder), since="7D", full=True, progress=False)

    syncing = threading.Thread(target=full)
    syncing.start()
    seen = list[list[pd.Timestamp]]()
    while syncing.is_alive() or len(seen) < 30:
        seen.append(asked_at(folder))
    syncing.join()
    after = asked_at(folder)
    assert after != before
    assert all(one in (before, after) for one in seen)
    assert seen[-1] == after


def asked_at(folder: Path) -> list[pd.Timestamp]:
    """Return when the server was asked for each day; a day that did not change keeps its instant."""
    return list(Archive(folder).ledger()["as_of"])


def test_a_writer_sees_what_it_has_written_and_others_do_not(folder: Path) -> None:
    archive = Archive(folder)
    write(archive, 1)
    with archive.writing():
        put(archive, OCT, session("u0", "a", 0, 8, total_size=2))
        put(archive, OCT + DAYS * DAY, session("new", "a", 24 * DAYS, 24 * DAYS + 1, total_size=2))
        assert archive.day("sessions", EM, OCT)["total_size"].to_pylist() == [2]
        assert archive.sessions()["uid"].tolist()[-1] == "new"
        assert versions(Archive(folder).sessions()) == {1}
        plain = pd.read_parquet(folder / "sessions")
        assert versions(plain) == {1}
    assert len(Archive(folder).sessions()) == DAYS + 1
    assert len(pd.read_parquet(folder / "sessions")) == DAYS + 1


class Stops(Exception):
    """The process ends here."""


@pytest.mark.parametrize("after", range(6))
def test_a_commit_that_dies_at_any_step_is_one_state_and_is_finished_by_the_next_sync(
    after: int, folder: Path
) -> None:
    """Three days: the marker, three renames, the marker again."""
    write(Archive(folder), 1, days=3)
    steps = 0

    def counting(original: object) -> object:
        def step(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps > after:
                raise Stops
            return original(*arguments)  # type: ignore[operator]

        return step

    def dying() -> None:
        archive = Archive(folder)
        with archive.writing():
            for day in range(3):
                put(archive, OCT + day * DAY, session(f"u{day}", "a", 24 * day, 24 * day + 8,
                                                      total_size=2))  # fmt: skip
            patch.setattr(LocalStorage, "move", counting(LocalStorage.move))
            patch.setattr("cdpanalytics.archive.writing.write_marker",
                          counting(marker.write_marker))  # fmt: skip
        raise Stops

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stops):
        dying()
    committed = after > 0
    assert versions(Archive(folder).sessions()) == {2 if committed else 1}
    with Archive(folder).writing():
        pass
    assert versions(Archive(folder).sessions()) == {2}
    assert versions(pd.read_parquet(folder / "sessions")) == {2}
    assert not list(folder.rglob("_*"))
    assert Archive(folder).verify().empty


def test_a_commit_is_read_also_where_a_staged_file_is_renamed_meanwhile(folder: Path) -> None:
    """The reader has seen which files are staged; before it opens one, it has its own name."""
    archive = Archive(folder)
    write(archive, 1, days=3)
    first = sorted((folder / "sessions").rglob("*.parquet"))[0]
    relative = marker.PurePosixPath(first.relative_to(folder).as_posix())
    storage: Storage = LocalStorage(folder)
    state = marker.read_marker(storage).committed([relative])
    marker.write_marker(storage, state)
    assert not (folder / staged(relative)).exists()
    assert versions(archive.sessions()) == {1}


def test_ranges_of_two_states_are_refused(folder: Path) -> None:
    archive = Archive(folder)
    write(archive, 1)
    scan, counts = archive.scan(columns=["vm", "backup_server", "total_size"])
    assert counts["rows"].sum() == DAYS
    assert versions(scan.read(FULL_RANGE)) == {1}
    write(archive, 2)
    with pytest.raises(
        ArchiveError, match="was changed by a sync while it was read; run this again"
    ):
        scan.read(FULL_RANGE)


def test_a_sync_that_fails_keeps_what_it_has_written(folder: Path) -> None:
    def failing() -> None:
        archive = Archive(folder)
        with archive.writing():
            put(archive, OCT, session("u1", "a", 0, 8))
            raise Stops

    with pytest.raises(Stops):
        failing()
    assert Archive(folder).sessions()["uid"].tolist() == ["u1"]


def test_a_question_lists_the_files_once_until_a_sync_commits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(folder)
    write(archive, 1, days=3)
    walked: list[str] = []
    walk = LocalStorage.walk

    def counted(storage: LocalStorage, name: PurePosixPath) -> list[tuple[PurePosixPath, Kind]]:
        walked.append(str(name))
        return walk(storage, name)

    monkeypatch.setattr(LocalStorage, "walk", counted)
    question = archive.select()
    assert question.durations(by=())["sessions"].tolist() == [3]
    assert question.holes.empty
    assert question.policies is not None
    assert walked.count("sessions") == 1
    write(archive, 2, days=4)
    walked.clear()
    assert versions(question.during("10D").sessions) == {2}
    assert walked.count("sessions") == 1


def test_a_question_reads_on_where_a_day_was_deleted_by_hand(folder: Path) -> None:
    archive = Archive(folder)
    write(archive, 1, days=3)
    question = archive.select()
    assert question.as_of is not None
    day = next(path for path in folder.rglob("*.parquet") if path.stem == "2026-10-02")
    day.unlink()
    assert len(question.sessions) == 2
