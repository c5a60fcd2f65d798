"""Sync: the archive equals the truth, nothing settled is asked for again, nothing is half-written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.archive.storage.local import LocalStorage
from cdpanalytics.errors import InputError, ServerError
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import SyncResult, plan, sync
from tests.conftest import NIGHTLY, at_night

NOW = pd.Timestamp("2026-10-03 09:00", tz="UTC")
DAY = pd.Timedelta("1D")


def truth(fleet: Fleet, server: Simulator) -> pd.DataFrame:
    """What the server's database holds now, from the simulator's own books."""
    frame = pd.DataFrame(fleet.task_sessions(server.clock(), horizon=server.horizon))
    for column in ("created", "ended"):
        frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
    frame["total_size"] = frame["total_size"].astype("Int64")
    rpo = {policy.uid: pd.Timedelta(policy.rpo) for policy in fleet.policies}
    frame["rpo"] = frame["policy_uid"].map(rpo).astype("timedelta64[us]")
    return frame.sort_values("uid", ignore_index=True)


def held(archive: Archive, columns: list[str]) -> pd.DataFrame:
    return archive.sessions()[columns].sort_values("uid", ignore_index=True)


def assert_equals_truth(archive: Archive, fleet: Fleet, server: Simulator) -> None:
    expected = truth(fleet, server)
    found = held(archive, list(expected.columns))
    # A name is text made by the server's database: version 13 dates it to the microsecond.
    found["policy_session"] = (
        found["policy_session"].astype("str").str.replace(r"\.\d+$", "", regex=True)
    )
    for column in expected.columns:
        left, right = found[column], expected[column]
        same = (left.astype(object) == right.astype(object)) | (left.isna() & right.isna())
        assert len(left) == len(right)
        assert same.all(), (
            f"{column}: {left[~same].head(3).tolist()} for {right[~same].head(3).tolist()}"
        )


def manager(server: Simulator, **options: Any) -> EnterpriseManager:
    return EnterpriseManager(server.url, "demo", "demo", cache=False, **options)


def synced(
    server: Simulator, folder: Path, since: str = "6D", quick: bool = False, **options: Any
) -> tuple[Archive, SyncResult]:
    archive = Archive(folder)
    with manager(server, **options) as em:
        return archive, sync(em, archive, since=since, quick=quick, progress=False)


def assert_not_asked_again(server: Simulator, before: int, days: list[pd.Timestamp]) -> None:
    """No request since the numbered one asked for the sessions of one of these days."""
    asked = [query.get("filter", "") for _, _, query, _ in server.requests[before:]
             if query.get("type") == "CdpReplicaTaskSession"]  # fmt: skip
    assert not [text for text in asked for day in days if f'>="{day:%Y-%m-%d}' in text]


def strays(folder: Path) -> list[Path]:
    """Files that a write left behind."""
    return [path for path in folder.rglob("*") if path.suffix == ".tmp"]


@pytest.fixture(
    params=[(12, "json"), (13, "json"), (12, "xml"), (13, "xml")],
    ids=["v12", "v13", "xml12", "xml13"],
)
def spoken(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[tuple[Simulator, str]]:
    version, accept = request.param
    with Simulator(fleet, version=version) as server:
        yield server, accept


def test_the_archive_equals_the_truth_in_every_spelling(
    spoken: tuple[Simulator, str], fleet: Fleet, folder: Path
) -> None:
    server, accept = spoken
    archive, done = synced(server, folder, since="7D", accept=accept, page_size=40)
    assert_equals_truth(archive, fleet, server)
    assert done.sessions == done.added == len(archive.sessions())
    assert done.changed == 0
    assert archive.verify().empty
    assert archive.holes().empty


def test_an_unchanged_archive_costs_a_handful_of_requests(server: Simulator, folder: Path) -> None:
    _, first = synced(server, folder)
    before = len(server.requests)
    archive, again = synced(server, folder, quick=True)
    assert again.added == 0
    assert again.days < first.days
    # Two of them check that the server sorts: nothing began or ended before what it names first.
    assert len(server.requests) - before <= again.days + 10
    assert archive.ledger()["final"].sum() >= 3


def test_a_sync_reads_no_rows_that_it_has_just_written(
    server: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[tuple[str, str]] = []
    write, read = LocalStorage.write, LocalStorage.read_parquet

    def noted_write(storage: LocalStorage, name: PurePosixPath, body: bytes) -> None:
        happened.append(("write", str(name).replace("_new.", "")))
        write(storage, name, body)

    def noted_read(storage: LocalStorage, name: PurePosixPath, function: Any) -> Any:
        happened.append(("read", str(name).replace("_new.", "")))
        return read(storage, name, function)

    monkeypatch.setattr(LocalStorage, "write", noted_write)
    monkeypatch.setattr(LocalStorage, "read_parquet", noted_read)
    for _ in range(2):
        happened.clear()
        synced(server, folder)
        written = {name: place for place, (kind, name) in enumerate(happened) if kind == "write"}
        again = [
            name
            for place, (kind, name) in enumerate(happened)
            if kind == "read" and written.get(name, place) < place
        ]
        assert len(written) > 2
        assert again == []
        server.advance(timedelta(hours=8))


def test_running_sessions_are_finished_and_late_ones_found(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    archive, _ = synced(server, folder)
    running = archive.sessions().query("state == 'InProgress'")["uid"]
    assert len(running)
    server.advance(timedelta(hours=30))
    archive, done = synced(server, folder)
    assert_equals_truth(archive, fleet, server)
    assert done.changed >= len(running)
    assert done.added > 0


def test_a_policy_verdict_that_comes_later_reaches_days_that_are_final(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    for _ in range(3):
        archive, _ = synced(server, folder)
        server.advance(timedelta(hours=13))
    archive, _ = synced(server, folder)
    assert_equals_truth(archive, fleet, server)


def test_what_the_server_has_forgotten_is_kept(fleet: Fleet, folder: Path) -> None:
    with Simulator(fleet, horizon=timedelta(days=5)) as server:
        synced(server, folder, since="5D")
        server.advance(timedelta(days=2))
        archive, _ = synced(server, folder)
        assert archive.sessions()["created"].min() < pd.Timestamp(server.clock()) - 5 * DAY
        assert len(archive.sessions()) > len(truth(fleet, server))


def test_a_sync_that_fails_goes_on_where_it_stopped(
    server: Simulator, fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, calls = EnterpriseManager.task_sessions, []

    def third_fails(
        self: EnterpriseManager, start: pd.Timestamp, end: pd.Timestamp, **options: Any
    ) -> Any:
        calls.append(start)
        if start >= NOW.normalize() + 14 * DAY and len(calls) < 20:
            raise ServerError("the server went away", retryable=True)
        return fetch(self, start, end, **options)

    monkeypatch.setattr(EnterpriseManager, "task_sessions", third_fails)
    with pytest.raises(ServerError, match="went away"):
        synced(server, folder)
    kept = Archive(folder)
    assert len(kept.sessions()) > 0
    assert kept.verify().empty
    monkeypatch.setattr(EnterpriseManager, "task_sessions", fetch)
    finished = kept.ledger().query("final")["day"].tolist()
    assert finished
    before = len(server.requests)
    archive, _ = synced(server, folder, since="7D", quick=True)
    assert_not_asked_again(server, before, finished)
    assert_equals_truth(archive, fleet, server)


def test_a_session_keeps_the_rpo_that_was_in_force_when_it_began(
    fleet: Fleet, folder: Path
) -> None:
    """A policy's RPO is tightened between two syncs: what began before goes by the old one."""
    begin = fleet.until - timedelta(days=2)
    changed = fleet.policies[0]
    old, new = pd.Timedelta(changed.rpo), pd.Timedelta("7s")
    with Simulator(fleet, clock=lambda: begin) as server:
        archive, first = synced(server, folder)
        tight = dataclasses.replace(changed, rpo=timedelta(seconds=7))
        server.fleet = dataclasses.replace(fleet, policies=(tight, *fleet.policies[1:]))
        for _ in range(3):
            server.advance(timedelta(hours=12))
            archive, last = synced(server, folder)
    settings = archive.policies().query("policy_uid == @changed.uid")
    assert settings["rpo"].tolist() == [old, new]
    assert settings["seen_to"].tolist() == [first.as_of, last.as_of]
    mine = archive.sessions().query("policy_uid == @changed.uid")
    before = mine["created"] < settings["seen_from"].iloc[1]
    assert set(mine.loc[before, "rpo"]) == {old}
    assert set(mine.loc[~before, "rpo"]) == {new}
    assert min(before.sum(), (~before).sum()) > 3


def test_two_servers_in_one_archive(server: Simulator, fleet: Fleet, folder: Path) -> None:
    other = Fleet.generate(vms=3, days=3, seed=9, until=fleet.until)
    synced(server, folder, since="3D")
    with Simulator(other) as second:
        archive, _ = synced(second, folder, since="3D")
    assert len(archive.sources()) == 2
    assert archive.verify().empty


def test_since_in_the_servers_future_writes_nothing(server: Simulator, folder: Path) -> None:
    with pytest.raises(InputError, match="is not before the server's clock"):
        synced(server, folder, since="2031-01-01")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (None, ["2026-10-01", "2026-10-02", "2026-10-03"]),
        ({"day": ["2026-10-01", "2026-10-02"], "final": [True, False]}, ["2026-10-02", "2026-10-03"]),
        ({"day": ["2026-10-02"], "final": [True]}, ["2026-10-01", "2026-10-03"]),
    ],
)  # fmt: skip
def test_the_plan_asks_for_what_is_missing_or_may_change(
    held: dict[str, list[Any]] | None, expected: list[str]
) -> None:
    ledger = None if held is None else pd.DataFrame(held).assign(
        day=lambda frame: pd.to_datetime(frame["day"], utc=True)
    )  # fmt: skip
    wanted = plan(ledger, NOW, since=pd.Timestamp("2026-10-01 15:00", tz="UTC"))
    assert [f"{day.start:%Y-%m-%d}" for day in wanted] == expected
    assert wanted[-1].end == NOW, "today's window ends now, so that a new session shifts no page"
    assert all(day.end == day.start + DAY for day in wanted[:-1])
    full = plan(ledger, NOW, since=NOW - 2 * DAY, full=True)
    assert len(full) == 3


@at_night
@pytest.mark.slow
def test_many_sessions_in_each_spelling_end_as_one_archive(tmp_path: Path) -> None:
    fleet = Fleet.generate(
        vms=950 if NIGHTLY else 95,
        days=32,
        seed=5,
        until=pd.Timestamp("2026-11-20 12:00", tz="UTC"),
    )
    found = []
    for version, accept in ((12, "json"), (13, "json"), (12, "xml")):
        with Simulator(fleet, version=version) as server:
            archive, done = synced(
                server, tmp_path / f"{version}{accept}", since="33D", accept=accept
            )
            assert done.sessions >= (100_000 if NIGHTLY else 10_000)
            assert_equals_truth(archive, fleet, server)
        frame = archive.sessions().drop(columns=["as_of", "policy_session"])
        found.append(frame.sort_values("uid", ignore_index=True))
    pd.testing.assert_frame_equal(found[1], found[0])
    pd.testing.assert_frame_equal(found[2], found[0])
