"""Damage at rest: each is named, set aside, and fetched again where the server still has it."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import ArchiveError
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync
from tests.conftest import NIGHTLY, UNTIL
from tests.test_synchronize import assert_equals_truth, manager, synced

pytestmark = pytest.mark.slow

RELEASES = Path(__file__).parent / "releases"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def one_bit_turned(path: Path) -> None:
    """In the first column's page: the footer still says that all is well."""
    column = pq.read_metadata(path).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    body = bytearray(path.read_bytes())
    body[start + column.total_compressed_size - 1] ^= 1
    path.write_bytes(bytes(body))


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), path)


def restamped(path: Path, **said: object) -> None:
    table = pq.read_table(path)
    stamp = json.loads(table.schema.metadata[b"cdpanalytics"]) | said
    pq.write_table(table.replace_schema_metadata({b"cdpanalytics": json.dumps(stamp)}), path)


def of_an_older_schema(path: Path) -> None:
    table = pq.read_table(path).drop_columns(["backup_server"])
    pq.write_table(table, path)
    restamped(path, version=0)


def of_another_server(path: Path) -> None:
    restamped(path, source="https://elsewhere:9398")


def of_another_day(path: Path) -> None:
    restamped(path, day="2026-01-01")


def with_a_nonsensical_stamp(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"cdpanalytics": b"[1]"}), path)


DAMAGES = [cut_short, emptied, one_bit_turned, foreign, of_an_older_schema, of_another_server,
           of_another_day, with_a_nonsensical_stamp]  # fmt: skip
TOLD = "cannot be read|has schema version 0, not 1|says it "


@pytest.mark.parametrize(
    ("table", "damage"),
    [*(("sessions", damage) for damage in DAMAGES),
     *((table, damage) for table in ("policy_sessions", "policies")
       for damage in (DAMAGES if NIGHTLY else DAMAGES[:1]))],
)  # fmt: skip
def test_each_damage_is_named_set_aside_and_fetched_again(
    damage: object, table: str, server: Simulator, fleet: Fleet, folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    archive, _ = synced(server, folder, since="7D")
    path = sorted((folder / table).rglob("*.parquet"))[-1 if table == "policies" else 2]
    damage(path)  # type: ignore[operator]
    found = Archive(folder).verify()
    assert found["path"].tolist()[:1] == [str(path.relative_to(folder))]
    assert found["finding"].str.contains(TOLD).any()
    with pytest.raises(ArchiveError, match=rf"({TOLD}).*; see: cdpanalytics verify|cannot be read"):
        getattr(Archive(folder), table)()
    assert main(["verify", "--archive", str(folder), "--set-aside"]) == 1
    assert f"{path} was moved to" in capsys.readouterr().out
    (aside,) = (folder / "damaged").rglob("*.parquet")
    assert aside.relative_to(folder / "damaged").parent == path.relative_to(folder).parent
    archive, _ = synced(server, folder, since="7D")
    assert_equals_truth(archive, fleet, server)
    assert archive.verify().empty
    assert archive.holes().empty


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d is not one_bit_turned])
def test_a_sync_sets_aside_what_it_finds_and_says_so(
    damage: object, server: Simulator, fleet: Fleet, folder: Path
) -> None:
    synced(server, folder, since="7D")
    paths = sorted((folder / "sessions").rglob("*.parquet"))
    for path in (paths[2], paths[-1]):
        damage(path)  # type: ignore[operator]
    archive, done = synced(server, folder, since="7D")
    assert list(done.set_aside) == [str(path.relative_to(folder)) for path in (paths[2], paths[-1])]
    assert f"damaged and set aside: sessions/{paths[2].parent.name}" in str(done)
    assert_equals_truth(archive, fleet, server)


def test_a_damaged_first_day_is_fetched_again_though_no_day_was_named(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    archive, _ = synced(server, folder, since="7D")
    cut_short(sorted((folder / "sessions").rglob("*.parquet"))[0])
    with manager(server) as em:
        sync(em, archive, progress=False)
    assert_equals_truth(archive, fleet, server)


def test_a_turned_bit_is_found_by_its_pages_checksum(server: Simulator, folder: Path) -> None:
    archive, _ = synced(server, folder, since="7D")
    path = sorted((folder / "sessions").rglob("*.parquet"))[2]
    one_bit_turned(path)
    assert pq.read_schema(path).names == schema.SESSIONS.names, "the footer is sound"
    with pytest.raises(ArchiveError, match="cannot be read; see: cdpanalytics verify"):
        archive.sessions()


def test_a_damaged_day_the_server_has_forgotten_is_a_hole(folder: Path) -> None:
    """The first day, so that no day before it shows that there was one."""
    fleet = Fleet.generate(vms=6, days=20, seed=7, until=UNTIL)
    begin = UNTIL - timedelta(days=12)
    with Simulator(fleet, clock=lambda: begin, horizon=timedelta(days=7)) as server:
        archive, _ = synced(server, folder, since="5D")
        server.advance(timedelta(days=6))
        synced(server, folder, since="20D")
        paths = sorted((folder / "sessions").rglob("*.parquet"))
        days = [pd.Timestamp(path.stem, tz="UTC") for path in paths]
        for path in (paths[0], paths[2]):
            cut_short(path)
        archive, done = synced(server, folder, since="20D")
    assert len(done.set_aside) == 2
    holes = archive.holes()
    assert holes["start"].tolist() == [days[0], days[2]]
    assert holes["end"].tolist() == [days[1], days[3]]
    assert archive.verify().empty, "what is left is sound"


def test_each_file_says_what_it_is(server: Simulator, folder: Path) -> None:
    _, done = synced(server, folder, since="3D")
    for path in folder.rglob("*.parquet"):
        stamp = json.loads(pq.read_metadata(path).metadata[b"cdpanalytics"])
        assert stamp["version"] == schema.VERSION
        assert stamp["source"] == server.url
        assert stamp["table"] == path.relative_to(folder).parts[0]
        assert pd.Timestamp(stamp["as_of"]) == done.as_of
        assert stamp["creator"].startswith("cdpanalytics ")


@pytest.mark.parametrize("release", sorted(path.name for path in RELEASES.iterdir()))
def test_archives_of_every_release_are_read(release: str, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(RELEASES / release, folder)
    archive = Archive(folder)
    expected = json.loads((RELEASES / release / "expected.json").read_text())
    (folder / "expected.json").unlink()
    assert archive.verify().empty
    sessions = archive.sessions()
    assert list(sessions.columns)[: len(schema.SESSIONS)] == schema.SESSIONS.names
    assert len(sessions) == expected["sessions"]
    assert int(sessions["total_size"].sum()) == expected["total_size"]
    assert sessions["policy_result"].astype("str").value_counts().to_dict() == expected["verdicts"]
    assert len(archive.policies()) == expected["policies"]
    assert len(archive.intervals()) == expected["intervals"]
    row = sessions.cdp.rpo_adherence(by=(), unobserved=archive.holes()).iloc[0]
    assert row["breached"].total_seconds() == expected["breached"]
