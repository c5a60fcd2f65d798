"""The archive's folder is the user's, too: what is not ours is left alone, and listed by verify."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.archive.names import staged
from cdpanalytics.errors import ArchiveError
from cdpanalytics.simulator import Fleet, Simulator
from tests.archive.test_archive import DAY, EM, OCT, put, session
from tests.test_synchronize import assert_equals_truth, synced


def foreign(archive: Archive) -> dict[str, str]:
    """What verify says is not of the archive, by path."""
    findings = archive.verify().query("kind == 'foreign'")
    return dict(zip(findings["path"], findings["finding"], strict=True))


def day_files(folder: Path) -> list[Path]:
    return sorted((folder / "sessions").rglob("*.parquet"))


def test_a_copy_of_a_day_is_left_alone_and_listed(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    synced(server, folder, since="7D")
    first = day_files(folder)[0]
    copy = first.with_name(f"Copy of {first.name}")
    notes = first.with_name("notes.parquet")
    shutil.copy(first, copy)
    content = copy.read_bytes()
    notes.write_bytes(b"not Parquet at all")
    archive, done = synced(server, folder, since="7D")
    assert done.set_aside == ()
    assert copy.read_bytes() == content
    assert notes.read_bytes() == b"not Parquet at all"
    assert_equals_truth(archive, fleet, server)
    listed = foreign(archive)
    assert list(listed) == [str(path.relative_to(folder)) for path in (copy, notes)]
    for text in listed.values():
        assert "is not a file of this archive; pandas.read_parquet reads it with sessions/" in text


def test_folders_and_links_of_the_user_are_left_alone_and_listed(
    server: Simulator, fleet: Fleet, folder: Path, tmp_path: Path
) -> None:
    synced(server, folder, since="7D")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "sessions", elsewhere)
    own = folder / "sessions" / "last-year"
    shutil.copytree(next(elsewhere.iterdir()), own)
    (folder / "sessions" / "linked_9398").symlink_to(next(elsewhere.iterdir()))
    before = {path: path.read_bytes() for path in (*elsewhere.rglob("*.parquet"), *own.iterdir())}
    archive, done = synced(server, folder, since="7D")
    with archive.writing():
        archive.set_aside(thorough=True)
    assert done.set_aside == ()
    assert {path: path.read_bytes() for path in before} == before
    assert not (folder / "damaged").exists()
    assert_equals_truth(archive, fleet, server)
    assert list(foreign(archive)) == ["sessions/last-year", "sessions/linked_9398"]


def test_a_day_that_is_a_link_is_refused_in_one_line(
    server: Simulator, folder: Path, tmp_path: Path
) -> None:
    synced(server, folder, since="7D")
    day = day_files(folder)[1]
    moved = tmp_path / "moved.parquet"
    shutil.move(day, moved)
    day.symlink_to(moved)
    content = moved.read_bytes()
    assert foreign(Archive(folder)) == {
        str(day.relative_to(folder)): "is a symbolic link, which the archive does not follow; "
        "pandas.read_parquet reads it with sessions/, the archive does not; it is left alone"
    }
    assert len(Archive(folder).holes()) == 1, "the day is missing"
    with pytest.raises(ArchiveError, match=r"is a symbolic link, and an archive follows none"):
        synced(server, folder, since="7D")
    assert day.is_symlink()
    assert moved.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_does_not_stop_verify(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))
    pipe = day_files(folder)[0].with_name("2026-10-09.parquet")
    os.mkfifo(pipe)
    ended: list[dict[str, str]] = []
    thread = threading.Thread(target=lambda: ended.append(foreign(archive)), daemon=True)
    thread.start()
    thread.join(30)
    assert list(ended[0]) == [str(pipe.relative_to(folder))]
    assert archive.sessions()["uid"].tolist() == ["u1"]


@pytest.mark.parametrize("gone", ["first", "all"])
def test_a_first_day_deleted_by_hand_is_a_hole_and_fetched_again(
    gone: str, server: Simulator, fleet: Fleet, folder: Path
) -> None:
    archive, _ = synced(server, folder, since="7D")
    first = archive.first_day(server.url)
    for path in day_files(folder)[: 1 if gone == "first" else None]:
        path.unlink()
    assert Archive(folder).first_day(server.url) == first
    if gone == "first":
        assert Archive(folder).holes()["start"].tolist() == [first]
    archive, _ = synced(server, folder)
    assert archive.ledger()["day"].min() == first
    assert archive.holes().empty
    assert_equals_truth(archive, fleet, server)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"version": 1, "sources": 7}', "\x00", "[]"])
def test_a_marker_that_cannot_be_read_is_one_line(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "archive.json").write_text(content)
    with pytest.raises(ArchiveError, match=r"archive.json cannot be read; is .* an archive\?$"):
        Archive(folder)


def test_the_estate_file_and_what_it_names_may_be_there_first(folder: Path) -> None:
    folder.mkdir()
    (folder / "cdpanalytics.toml").write_text(
        'tags = "cmdb.csv"\n[exclude]\nfiles = ["down.ics"]\n'
    )
    for name in ("cmdb.csv", "down.ics"):
        (folder / name).write_text("vm,department\n")
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))
    assert archive.verify().empty
    (folder / "other.csv").write_text("")
    assert list(foreign(archive)) == ["other.csv"]
    (folder / "archive.json").unlink()
    with pytest.raises(ArchiveError, match=r"is not an archive: it has no archive.json"):
        Archive(folder)


def test_an_archive_of_0_1_whose_marker_lists_no_source_is_read_and_completed(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    archive, _ = synced(server, folder, since="7D")
    first = archive.first_day(server.url)
    (folder / "archive.json").write_text('{"format": "cdpanalytics archive", "version": 1}')
    shutil.copytree(day_files(folder)[0].parent, folder / "sessions" / "mine")
    assert_equals_truth(Archive(folder), fleet, server)
    with Archive(folder).writing():
        pass
    marker = json.loads((folder / "archive.json").read_text())
    assert marker["sources"] == {server.url: f"{first:%Y-%m-%d}"}


def test_what_a_killed_sync_staged_is_seen_once_the_next_sync_begins(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))
    name = day_files(folder)[0]
    hidden = name.with_name(staged(name).name)  # type: ignore[arg-type]
    pq.write_table(pq.read_table(name).slice(0, 0), hidden)
    broken = name.with_name("_new.2026-10-02.parquet")
    broken.write_bytes(b"half a fi")
    assert archive.sessions()["uid"].tolist() == ["u1"], "not yet committed"
    with archive.writing():
        pass
    assert archive.sessions().empty
    assert not hidden.exists()
    assert not broken.exists(), "what cannot be read is set aside, and never becomes current"
    assert archive.verify().empty
    assert len(pd.read_parquet(folder / "sessions")) == 0
    assert OCT + DAY not in set(archive.ledger()["day"])
    assert archive.sources() == [EM]
