"""Reconciling: what reaches the server days late reaches the archive with the next sync."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.archive import Archive
from cdpanalytics.errors import ServerError
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.simulator.estate import RESULTS
from cdpanalytics.synchronize import sync
from cdpanalytics.synchronize.reconciling import Counted, changed_days
from tests.conftest import UNTIL
from tests.test_synchronize import manager

pytestmark = pytest.mark.slow

DAY = pd.Timedelta("1D")
BEGIN = UNTIL - timedelta(days=12)


@pytest.fixture(scope="module")
def estate() -> Fleet:
    return Fleet.generate(vms=8, days=14, seed=4, until=UNTIL, servers=2, policies=4)


@pytest.fixture
def server(estate: Fleet) -> Iterator[Simulator]:
    """A server whose clock begins twelve days before the estate's end."""
    with Simulator(estate, clock=lambda: BEGIN) as running:
        yield running


def run(server: Simulator, folder: Path, days: float = 0, **options: object) -> Archive:
    """Move the clock on and sync."""
    server.advance(timedelta(days=days))
    archive = Archive(folder)
    with manager(server) as em:
        sync(em, archive, since="3D" if not folder.exists() else None, progress=False, **options)
    return archive


def assert_complete(archive: Archive, estate: Fleet, server: Simulator) -> None:
    """Every session since the first sync is there as the server has it; nothing is a hole."""
    first = archive.ledger()["day"].min()
    with manager(server) as em:
        asked = em.task_sessions(first, em.now())
    assert set(archive.sessions()["uid"]) >= set(asked["uid"].to_pylist())
    assert archive.holes().empty
    assert archive.verify().empty


def test_one_of_two_backup_servers_is_not_collected_for_two_days(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    run(server, folder)
    server.stop_collecting(estate.servers[0].name)
    for _ in range(4):
        archive = run(server, folder, 0.5)
    before = len(archive.sessions())
    server.collect()
    archive = run(server, folder, 0.25)
    assert len(archive.sessions()) > before
    assert_complete(archive, estate, server)


def test_collection_stands_still_for_sixty_hours(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    run(server, folder)
    server.stop_collecting()
    for _ in range(5):
        archive = run(server, folder, 0.5)
    empty = archive.ledger().query("rows == 0")
    assert len(empty) >= 1
    assert not empty["final"].any(), "an empty day is never final"
    server.collect()
    assert_complete(run(server, folder, 1), estate, server)


def test_days_long_past_are_fetched_again_when_their_count_changes(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    run(server, folder)
    server.stop_collecting(estate.servers[1].name)
    for _ in range(10):
        archive = run(server, folder, 1)
    old = archive.ledger()["day"].min() + 4 * DAY
    assert archive.ledger().set_index("day")["final"][old]
    server.collect()
    archive = run(server, folder)
    assert archive.ledger().set_index("day")["rows"][old] > 0
    assert_complete(archive, estate, server)


def test_an_account_sees_one_backup_server_less_for_days(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    archive = run(server, folder)
    before = len(archive.sessions())
    server.hidden = {estate.servers[0].name}
    for _ in range(3):
        archive = run(server, folder, 1)
    assert len(archive.sessions()) >= before, "what the server no longer shows is kept"
    server.hidden = set()
    assert_complete(run(server, folder, 0.1), estate, server)


def test_a_server_is_restored_from_a_backup(server: Simulator, estate: Fleet, folder: Path) -> None:
    run(server, folder)
    archive = run(server, folder, 3)
    before = set(archive.sessions()["uid"])
    server.stop_collecting(at=server.clock() - timedelta(days=2))
    archive = run(server, folder, 0.2)
    assert set(archive.sessions()["uid"]) == before
    server.collect()
    assert_complete(run(server, folder, 1), estate, server)


def test_a_first_sync_while_collection_stands_still_is_completed_later(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    """Nothing of the first days is there when the server is first asked, for days on end."""
    server.advance(timedelta(days=2))
    first = pd.Timestamp(server.clock() - timedelta(days=3)).normalize()
    server.stop_collecting(at=server.clock() - timedelta(days=1))
    server.horizon = timedelta(hours=18)  # what was collected before is not there
    archive = run(server, folder)
    assert archive.sessions().empty
    archive = run(server, folder, 1.5)
    assert archive.sessions().empty
    server.collect()
    server.horizon = timedelta(days=90)
    archive = run(server, folder, 1)
    assert archive.ledger()["day"].min() == first
    assert_complete(archive, estate, server)


def test_a_first_sync_of_an_account_that_sees_nothing_is_completed_later(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    server.advance(timedelta(days=2))
    first = pd.Timestamp(server.clock() - timedelta(days=3)).normalize()
    server.hidden = {backup_server.name for backup_server in estate.servers}
    assert run(server, folder).sessions().empty
    assert run(server, folder, 2).sessions().empty
    server.hidden = set()
    archive = run(server, folder, 0.5)
    assert archive.ledger()["day"].min() == first, "the days asked for at first, not one more"
    assert_complete(archive, estate, server)


def test_a_settled_day_that_is_restated_is_read_again_for_a_week(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    """The same number of sessions, but one result is another: the last week is compared whole."""
    archive = run(server, folder)
    archive = run(server, folder, 5)
    settled = archive.ledger().query("final")["day"].max()
    rows = archive.sessions()
    uid = rows["uid"][(rows["created"] >= settled) & (rows["result"] == "Success")].iloc[0]
    server.fleet = with_result(estate, uid, "Failed")
    archive = run(server, folder)
    assert archive.sessions().set_index("uid")["result"][uid] == "Failed"


def with_result(estate: Fleet, uid: str, result: str) -> Fleet:
    """The estate where one session ended otherwise."""
    results = estate.tasks.result.copy()
    results[list(estate.tasks.guid.texts()).index(uid)] = RESULTS.index(result)
    return dataclasses.replace(estate, tasks=dataclasses.replace(estate.tasks, result=results))


def test_a_settled_day_has_fewer_sessions_than_before(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    """The smaller count is recorded, the rows are kept, and the next sync has nothing to do."""
    run(server, folder)
    archive = run(server, folder, 10)
    held = set(archive.sessions()["uid"])
    day = archive.ledger()["day"].min() + DAY
    before = archive.ledger().set_index("day")["counted"][day]
    server.hidden = {estate.servers[0].name}
    archive = run(server, folder)
    assert set(archive.sessions()["uid"]) == held
    assert archive.ledger().set_index("day")["counted"][day] < before
    asked = len(server.requests)
    run(server, folder)
    assert not asked_whole(server, asked, day)
    server.hidden = set()
    assert_complete(run(server, folder), estate, server)


def asked_whole(server: Simulator, since: int, day: pd.Timestamp) -> bool:
    """Return whether a day's sessions were asked for, not only their count."""
    return any(
        query.get("type") == "CdpReplicaTaskSession" and query["pageSize"] != "1"
        and f'>="{day:%Y-%m-%d}' in query.get("filter", "")
        for _, _, query, _ in server.requests[since:]
    )  # fmt: skip


def test_a_quick_sync_does_not_look_at_settled_days(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    run(server, folder)
    server.stop_collecting(estate.servers[1].name)
    run(server, folder, 10)
    server.collect()
    before = len(run(server, folder, quick=True).sessions())
    archive = run(server, folder)
    assert len(archive.sessions()) > before
    assert_complete(archive, estate, server)


def test_a_sync_that_finds_nothing_changed_asks_one_small_question_per_settled_day(
    server: Simulator, folder: Path
) -> None:
    archive = run(server, folder)
    archive = run(server, folder, 10)
    settled = archive.ledger().query("counted.notna()")
    close = settled[settled["day"] >= pd.Timestamp(server.clock()).normalize() - 6 * DAY]
    before = len(server.requests)
    run(server, folder)
    counts = [query for _, _, query, _ in server.requests[before:] if query.get("pageSize") == "1"]
    days = [query for query in counts if "CreationTimeUTC<" in query.get("filter", "")]
    assert len(settled) - len(close) <= len(days) <= len(settled) + 2


def test_a_settled_day_without_a_change_is_not_written_again(
    server: Simulator, folder: Path
) -> None:
    run(server, folder)
    archive = run(server, folder, 4)
    settled = [Path(path) for path in archive.ledger().query("final")["path"]]
    settled = settled[:-2]  # verdicts of policy sessions reach the newest ones
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in settled]
    archive = run(server, folder, 0.1)
    assert len(settled) >= 2
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in settled] == before


def test_an_archive_of_an_older_release_learns_its_counts(
    server: Simulator, estate: Fleet, folder: Path
) -> None:
    archive = run(server, folder)
    run(server, folder, 10)
    source = archive.sources()[0]
    for row in archive.ledger().to_dict("records"):
        rows = archive.day("sessions", source, row["day"])
        archive.put_day("sessions", source, row["day"], rows, row["as_of"], row["final"])
    assert archive.ledger()["counted"].isna().all()
    archive = run(server, folder)
    over = archive.ledger().query("day < day.max()")
    assert over["counted"].notna().all()


# -- the clocks -----------------------------------------------------------------------


def test_a_clock_that_is_two_days_ahead_stops_the_sync(folder: Path) -> None:
    with Simulator(Fleet.generate(vms=4, days=4, seed=1)) as server:
        archive = Archive(folder)
        server.date_ahead = timedelta(hours=50)
        with (
            manager(server) as em,
            pytest.raises(
                ServerError,
                match=r"its clock says .* UTC, this machine's .* UTC; correct one of them, ",
            ) as refused,
        ):
            sync(em, archive, progress=False, allow_clock_difference=False)
        assert "--allow-clock-difference" in str(refused.value)
        assert not folder.exists(), "nothing was written"
        with manager(server) as em:
            sync(em, archive, since="3D", progress=False, allow_clock_difference=True)
        ledger = archive.ledger()
        ahead = ledger[ledger["day"] >= pd.Timestamp.now("UTC").normalize()]
        assert len(ahead) > 1
        assert not ahead["final"].any(), "nothing is final that lies in this machine's future"
        server.date_ahead = timedelta()
        with manager(server) as em:
            sync(em, archive, progress=False, allow_clock_difference=False)
        assert_equals_truth_since(archive, server)


@pytest.mark.parametrize("ahead", [timedelta(days=400), timedelta(days=27_000)])
def test_a_first_sync_by_a_clock_far_ahead_does_not_lock_the_archive(
    folder: Path, ahead: timedelta
) -> None:
    with Simulator(Fleet.generate(vms=3, days=4, seed=1)) as server:
        archive = Archive(folder)
        server.date_ahead = ahead
        with manager(server) as em:
            sync(em, archive, since="3D", progress=False, allow_clock_difference=True)
        server.date_ahead = timedelta()
        with manager(server) as em:
            done = sync(em, archive, progress=False, allow_clock_difference=False)
        assert_equals_truth_since(archive, server)
        assert len(archive.sessions()) > 0
        assert archive.ledger()["as_of"].max() == done.as_of, "days in the future describe no time"
        assert archive.holes().empty
        assert archive.verify().empty


def test_journal_visits_by_a_clock_ahead_are_repeated(folder: Path) -> None:
    with Simulator(Fleet.generate(vms=3, days=4, seed=1)) as server:
        archive = Archive(folder)
        server.date_ahead = timedelta(hours=3)
        with manager(server) as em:
            sync(em, archive, since="3D", journal=True, progress=False, allow_clock_difference=True)
        server.date_ahead = timedelta()
        server.advance(timedelta(hours=2))
        with manager(server) as em:
            sync(em, archive, journal=True, progress=False, allow_clock_difference=True)
            vm = em.replica_vms(em.replicas()["uid"][0].as_py()).to_pylist()[0]
            end = em.now() - em.lag
            asked = em.intervals(vm["replica_uid"], vm["uid"], end - pd.Timedelta("6h"), end)
        held = archive.intervals().query("vm == @vm['vm'] and kind != 'Asked'")
        newest = max(row["end"] for row in asked.to_pylist())
        assert held["end"].max() >= pd.Timestamp(newest) - pd.Timedelta("1min")


def test_a_clock_that_is_minutes_off_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Simulator(Fleet.generate(vms=2, days=2, seed=1)) as server:
        server.date_ahead = timedelta(minutes=10)
        with manager(server) as em:
            sync(em, Archive(folder), progress=False, allow_clock_difference=False)
    assert "its clock says" in caplog.text


def test_a_clock_that_goes_back_is_survived(server: Simulator, estate: Fleet, folder: Path) -> None:
    run(server, folder, 6)
    for days in (-2, -30, 4):
        archive = run(server, folder, days)
        assert archive.verify().empty
    server.advance(timedelta(days=27))
    assert_complete(run(server, folder), estate, server)


def assert_equals_truth_since(archive: Archive, server: Simulator) -> None:
    with manager(server) as em:
        rows = em.task_sessions(archive.ledger()["day"].min(), em.now())
    assert set(archive.sessions()["uid"]) == set(rows["uid"].to_pylist())


# -- counting by halves -------------------------------------------------------------


@given(st.data())
def test_the_days_that_differ_are_found_by_halves(data: st.DataObject) -> None:
    first = pd.Timestamp("2026-01-01", tz="UTC")
    before = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
    more = data.draw(st.lists(st.integers(0, 2), min_size=len(before), max_size=len(before)))
    now = [old + new for old, new in zip(before, more, strict=True)]
    asked = []

    def count(since: pd.Timestamp, until: pd.Timestamp) -> int:
        asked.append((since, until))
        return sum(now[(since - first).days : (until - first).days])

    block = [Counted(first + number * DAY, old) for number, old in enumerate(before)]
    changed = [first + number * DAY for number, new in enumerate(more) if new]
    assert changed_days(block, count) == changed
    assert len(asked) == 1 or changed
    assert len(asked) <= 1 + len(changed) * (len(before).bit_length() + 1)
