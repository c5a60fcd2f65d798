"""The archive: a day is whole or untouched, read back as written, and its files describe themselves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdpanalytics import metrics, schema
from cdpanalytics.archive import Archive
from cdpanalytics.errors import ArchiveError, InputError
from tests.builders import mapped

EM = "https://em.tech.local:9398"
OCT = pd.Timestamp("2026-10-01", tz="UTC")
DAY = pd.Timedelta("1D")


def at(hours: float) -> pd.Timestamp:
    return OCT + pd.Timedelta(hours=hours)


def rows(*sessions: dict[str, object]) -> pa.Table:
    base = {"backup_server": "b1", "policy": "Gold", "state": "Completed", "result": "Success",
            "total_size": 2**34, "as_of": at(100)}  # fmt: skip
    return pa.Table.from_pylist([base | session for session in sessions], schema=schema.SESSIONS)


def session(
    uid: str, vm: str, begin: float, end: float | None, **more: object
) -> dict[str, object]:
    return {
        "uid": uid,
        "vm": vm,
        "created": at(begin),
        "ended": None if end is None else at(end),
        **more,
    }


def put(
    archive: Archive,
    day: pd.Timestamp,
    *sessions: dict[str, object],
    as_of: float = 100,
    source: str = EM,
) -> None:
    archive.put_day("sessions", source, day, rows(*sessions), at(as_of), final=True)


def test_a_day_is_read_back_as_it_was_written(folder: Path) -> None:
    archive = Archive(folder)
    put(
        archive,
        OCT,
        session("u2", "b", 8, 16, reason="slow"),
        session("u1", "a", 0, None, state="InProgress"),
    )
    frame = Archive(folder).sessions()
    assert list(frame.columns) == [*schema.SESSIONS.names, "window", "neighbour", "terms"]
    assert frame["uid"].tolist() == ["u1", "u2"], "ordered by VM"
    assert frame["created"].tolist() == [at(0), at(8)]
    assert frame["ended"].isna().tolist() == [True, False]
    assert frame["total_size"].dtype == "Int64"
    assert list(frame["result"].cat.categories) == list(schema.RESULTS)
    assert frame["result"].cat.ordered
    assert frame["rpo"].dtype == "timedelta64[us]"


def test_pandas_reads_the_sessions_with_no_help_of_ours(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))
    put(archive, OCT + DAY, session("u2", "a", 24, 32))
    plain = pd.read_parquet(folder / "sessions")
    assert plain["uid"].tolist() == ["u1", "u2"]
    assert list(plain.columns) == schema.SESSIONS.names


def test_a_window_is_half_open_and_reads_only_its_days(folder: Path) -> None:
    archive = Archive(folder)
    for number in range(4):
        put(archive, OCT + number * DAY, session(f"u{number}", "a", 24 * number, 24 * number + 8))
    for damaged in (0, 3):
        next(folder.glob(f"sessions/*/{OCT + damaged * DAY:%Y-%m-%d}.parquet")).unlink()
    found = archive.sessions(since=OCT + DAY, until=OCT + 2 * DAY)
    assert found["uid"].tolist() == ["u1"]
    assert archive.sessions(since=OCT + DAY + pd.Timedelta("1us"))["uid"].tolist() == ["u2"]


def test_names_are_found_by_pattern_in_any_case(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "db-01", 0, 8), session("u2", "web[1]", 0, 8, policy="Silver"))
    assert archive.sessions(vm="DB-*")["uid"].tolist() == ["u1"]
    assert archive.sessions(vm="web[1]")["uid"].tolist() == ["u2"], (
        "a name is found though it looks like a pattern"
    )
    assert archive.sessions(policy=["gold", "silver"])["uid"].tolist() == ["u1", "u2"]
    with pytest.raises(InputError, match=r"no policy matches 'Bronze' \(known: Gold, Silver\)"):
        archive.sessions(policy="Bronze")


def test_history_brings_what_decides_how_a_vm_left_the_window(folder: Path) -> None:
    """A gap from 20:00 that goes on until 06:00 is ten hours long, whichever day is asked for."""
    archive = Archive(folder)
    put(archive, OCT, session("1", "a", 0, 20), session("2", "gone", 0, 22), as_of=100)
    put(
        archive,
        OCT + DAY,
        session("3", "a", 25, 26, result="Failed", reason="host"),
        session("4", "a", 27, 28, result="Failed", reason="disk"),
        session("5", "a", 30, 40, result="Warning"),
        session("6", "a", 40, 44),
        session("7", "a", 44, 48),
        session("8", "new", 25, 48),
        as_of=100,
    )
    put(
        archive,
        OCT + 4 * DAY,
        session("9", "new", 96, None, state="InProgress"),
        session("10", "a", 97, 98, result="Failed"),
        as_of=100,
    )
    window = {"since": OCT, "until": OCT + DAY}
    part, whole = archive.sessions(**window, history=True), archive.sessions()
    assert part["uid"].tolist() == ["1", "2", "3", "4", "5", "6"], (
        "of a up to its success, of new none"
    )
    found = part.cdp.gaps("15min").set_index("vm")
    assert found["exposure"].to_dict() == {"a": pd.Timedelta("10h"), "gone": pd.Timedelta("78h")}
    assert found["cause"].to_dict() == {"a": "Failed: disk", "gone": "no session"}
    assert found["open"].to_dict() == {"a": False, "gone": True}
    pd.testing.assert_frame_equal(part.cdp.gaps("15min"), whole.cdp.gaps("15min", **window))
    for asked in ({}, {"retire_after": "1D"}, {"protects": ["Success"]}):
        pd.testing.assert_frame_equal(
            part.cdp.rpo_adherence("15min", by="vm", **asked),
            whole[whole["vm"] != "new"].cdp.rpo_adherence("15min", by="vm", **asked, **window),
        )


def test_without_its_history_a_window_is_judged_no_further_than_it_reaches(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("1", "a", 0, 20), as_of=100)
    put(archive, OCT + DAY, session("2", "a", 30, 48, result="Warning"), as_of=100)
    window = {"since": OCT, "until": OCT + DAY}
    (gap,) = archive.sessions(**window).cdp.gaps("15min").to_dict("records")
    assert (gap["exposure"], gap["open"]) == (pd.Timedelta("4h"), True)
    with_history = archive.sessions(**window, history=True)
    (gap,) = with_history.cdp.gaps("15min").to_dict("records")
    assert (gap["exposure"], gap["open"]) == (pd.Timedelta("10h"), False)
    retired = archive.sessions(**window).cdp.rpo_adherence("15min", by="vm", retire_after="5h")
    assert retired["retired"].tolist() == [pd.Timedelta(0)], "four hours are known, not a hundred"


def test_where_success_does_not_protect_what_followed_is_not_enough(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("1", "a", 0, 20, result="Warning"), as_of=100)
    put(archive, OCT + DAY, session("2", "a", 30, 40), session("3", "a", 41, 48, result="Warning"))
    rows = archive.sessions(OCT, OCT + DAY, history=True)
    (gap,) = rows.cdp.gaps("15min", protects=["Warning"]).to_dict("records")
    assert (gap["exposure"], gap["open"]) == (pd.Timedelta("4h"), True)


def test_an_estate_that_stopped_is_judged_to_what_the_archive_speaks_for(folder: Path) -> None:
    """Nothing new in three days is what a sync found, though no session tells of it."""
    archive = Archive(folder)
    stale = {"as_of": at(24)}
    put(archive, OCT, session("1", "a", 0, 20, **stale), as_of=24)
    for day in (1, 2, 3):
        put(archive, OCT + day * DAY, as_of=24 * day + 20)
    (gap,) = archive.sessions().cdp.gaps("15min").to_dict("records")
    assert (gap["end"], gap["open"]) == (at(92), True)
    found = mapped(archive, metrics.gaps, target="15min", progress=False)
    pd.testing.assert_frame_equal(found, archive.sessions().cdp.gaps("15min"))


def test_history_brings_what_decides_how_a_vm_entered_the_window(folder: Path) -> None:
    archive = Archive(folder)
    put(
        archive, OCT,
        session("old", "a", 0, 1),
        session("long", "a", 2, 20),
        session("newest", "a", 4, 6),
        session("failed", "a", 8, 10, result="Failed"),
        session("gone", "b", 0, 3),
    )  # fmt: skip
    put(archive, OCT + DAY, session("in", "a", 30, 38))
    with_history = archive.sessions(since=OCT + DAY, history=True)
    assert set(with_history["uid"]) == {"long", "newest", "failed", "gone", "in"}
    whole = archive.sessions()
    window = {"since": OCT + DAY, "until": OCT + 2 * DAY, "target": "15min"}
    pd.testing.assert_frame_equal(
        with_history.cdp.rpo_adherence(**window), whole.cdp.rpo_adherence(**window)
    )
    pd.testing.assert_frame_equal(with_history.cdp.gaps(**window), whole.cdp.gaps(**window))


def test_one_session_from_two_addresses_of_a_server_counts_once(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, None, state="InProgress", as_of=at(5)))
    put(archive, OCT, session("u1", "a", 0, 8), source="https://10.0.0.9:9398")
    assert archive.sources() == ["https://10.0.0.9:9398", EM]
    assert archive.sessions()["ended"].tolist() == [at(8)]


def test_policies_are_kept_through_time(folder: Path) -> None:
    archive = Archive(folder)
    gold = {"policy_uid": "p1", "policy": "Gold", "rpo": pd.Timedelta("15min"), "vms": ["a"]}
    for hours, rpo in ((0, "15min"), (5, "15min"), (9, "1min")):
        now = pa.Table.from_pylist([gold | {"rpo": pd.Timedelta(rpo)}], schema=schema.POLICIES)
        archive.put_policies(EM, now, at(hours))
    put(archive, OCT, session("u1", "a", 0, 8))
    kept = archive.policies()
    assert kept["rpo"].tolist() == [pd.Timedelta("15min"), pd.Timedelta("1min")]
    assert kept["seen_from"].tolist() == [at(0), at(9)]
    assert kept["seen_to"].tolist() == [at(5), at(9)]


def test_holes_are_the_stretches_never_fetched(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, as_of=12)
    put(archive, OCT + 3 * DAY, as_of=80)
    holes = archive.holes()
    assert list(holes.columns) == ["source", "backup_server", "start", "end"]
    assert holes["backup_server"].isna().all(), "of all backup servers"
    assert holes.drop(columns="backup_server").to_numpy().tolist() == [[EM, at(12), at(72)]]
    put(archive, OCT, as_of=80)
    for number in (1, 2):
        put(archive, OCT + number * DAY, as_of=80)
    assert archive.holes().empty


def test_a_write_that_fails_leaves_the_day_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cdpanalytics.archive.storage.local.os.fsync", full)
    with pytest.raises(
        ArchiveError, match=r"2026-10-01.parquet cannot be written: No space left on device"
    ):
        put(archive, OCT, session("u2", "a", 0, 8))
    monkeypatch.undo()
    assert archive.sessions()["uid"].tolist() == ["u1"]
    assert not [path for path in folder.rglob("*") if path.suffix == ".tmp"]


def test_a_directory_of_something_else_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("hello")
    with pytest.raises(ArchiveError, match=r"is not an archive: it has no archive.json"):
        Archive(tmp_path)
    with pytest.raises(ArchiveError, match=r"is a file; an archive is a directory"):
        Archive(tmp_path / "letter.txt")
    with pytest.raises(ArchiveError, match=r"no archive at .*nowhere; make one: cdpanalytics sync"):
        Archive(tmp_path / "nowhere").sessions()


def test_a_newer_archive_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "archive.json").write_text('{"version": 99}')
    with pytest.raises(
        ArchiveError, match="has schema version 99, this cdpanalytics reads 1; upgrade"
    ):
        Archive(folder)


def test_since_must_lie_before_until(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT)
    with pytest.raises(InputError, match="since=2026-10-02 is not before until=2026-10-01"):
        archive.sessions(since="2026-10-02", until="2026-10-01")


def test_verify_finds_nothing_in_a_sound_archive(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))
    assert archive.verify().empty


def test_verify_names_each_damage(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))
    put(
        archive,
        OCT + DAY,
        session("u1", "a", 24, 32),
        session("u2", "a", 80, 88),
        session("u3", None, 25, 26),
    )
    put(archive, OCT + 2 * DAY, session("u4", "a", 48, 50))
    put(archive, OCT + 3 * DAY, session("u5", "a", 72, 80))
    home = next(folder.glob("sessions/*"))
    cut = home / "2026-10-03.parquet"
    cut.write_bytes(cut.read_bytes()[:200])
    pq.write_table(pa.table({"x": [1]}), home / "2026-10-04.parquet")
    found = archive.verify()
    by_day = found.groupby(found["path"].str[-18:-8])["finding"].apply(list).to_dict()
    assert by_day["2026-10-02"] == [
        "1 rows were not created on 2026-10-02",
        "1 rows have no vm",
        "1 uids also occur elsewhere, e.g. u1 (in 2026-10-01)",
    ]
    assert "cannot be read" in by_day["2026-10-03"][0]
    assert "cannot be read" in by_day["2026-10-04"][0]
    with pytest.raises(
        ArchiveError, match=r"2026-10-03.parquet cannot be read; see: cdpanalytics verify"
    ):
        archive.sessions()


def test_uids_are_compared_in_parts_that_do_not_stay_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdpanalytics.archive.verify.PART_ROWS", 2)
    monkeypatch.setattr("cdpanalytics.archive.verify.ROWS_IN_MEMORY", 16)
    archive = Archive(folder)
    uids = [["u0", "u1", "u2", "u3"], ["u4", "u1", "u5"], ["u1", "u6", "u3", "u7", "u7"]]
    for day, names in enumerate(uids):
        rows = [session(uid, f"vm-{n}", 24 * day, 24 * day + 1) for n, uid in enumerate(names)]
        put(archive, OCT + day * DAY, *rows)
    found = archive.verify()
    assert found["finding"].tolist() == [
        "1 uids also occur elsewhere, e.g. u1 (in 2026-10-01)",
        "3 uids also occur elsewhere, e.g. u1 (in 2026-10-01)",
    ]
    assert found["kind"].tolist() == ["damage", "damage"]


def test_provenance_tells_the_data_by_its_bytes(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8), as_of=30)
    before = archive.provenance()
    assert (before["sources"], before["rows"], before["files"], before["as_of"]) == (
        [EM],
        1,
        1,
        at(30),
    )
    put(archive, OCT, session("u1", "a", 0, 9), as_of=30)
    assert archive.provenance()["sha256"] != before["sha256"]
