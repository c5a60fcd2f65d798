"""Holes: what the server forgot before it was asked is known to be unknown, and is not observed time."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics import report
from cdpanalytics.cli import main
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import Retention, plan
from tests.conftest import UNTIL
from tests.test_synchronize import NOW, assert_equals_truth, synced

pytestmark = pytest.mark.slow

DAY = pd.Timedelta("1D")
WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def long_fleet() -> Fleet:
    return Fleet.generate(vms=10, days=40, seed=7, until=UNTIL, servers=2, policies=3)


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def truth_since(fleet: Fleet, server: Simulator) -> datetime:
    """The oldest end of what the server's database still holds."""
    known = fleet.task_sessions(server.clock(), horizon=server.horizon)
    return min(ended for ended in known["ended"] if ended is not None)  # type: ignore[type-var]


# -- the plan, without a server ---------------------------------------------------------


def ledger(*rows: tuple[str, bool, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"day": at(day), "final": final, "as_of": at(as_of), "missing": ()}
         for day, final, as_of in rows]
    )  # fmt: skip


def test_days_before_the_servers_oldest_session_are_left_alone() -> None:
    memory = Retention(at("2026-09-20 13:00"), at("2026-09-20 20:00"))
    wanted = plan(None, NOW, memory, NOW - 90 * DAY)
    assert wanted[0].start == at("2026-09-20")
    assert wanted[0].missing == ((at("2026-09-20"), at("2026-09-20 20:00")),)
    assert all(day.missing == () for day in wanted[1:])


def test_a_server_that_forgot_leaves_the_days_between_missing() -> None:
    held = ledger(("2026-08-01", False, "2026-08-01 12:00"))
    forgot = Retention(at("2026-09-20 13:00"), at("2026-09-20 20:00"), overlaps_archive=False)
    wanted = plan(held, NOW, forgot)
    assert wanted[0].start == at("2026-09-20"), "the days before it are not asked for"
    assert wanted[0].missing == ((at("2026-09-20"), at("2026-09-20 20:00")),)


def test_a_day_known_in_part_is_missing_from_there() -> None:
    held = ledger(("2026-09-20", False, "2026-09-20 09:00"))
    forgot = Retention(at("2026-09-20 13:00"), at("2026-09-20 20:00"), overlaps_archive=False)
    (first, *rest) = plan(held, NOW, forgot)
    assert first.missing == ((at("2026-09-20 09:00"), at("2026-09-20 20:00")),)
    assert not any(day.missing for day in rest)
    again = ledger(("2026-09-20", False, "2026-09-21 09:00"))
    again.at[0, "missing"] = first.missing
    trusted = plan(again, NOW, Retention(forgot.oldest_session, forgot.complete_since), full=True)
    assert trusted[0].missing == first.missing, "what is missing stays missing"


def test_a_server_that_still_has_what_was_seen_last_leaves_nothing_missing() -> None:
    held = ledger(
        ("2026-09-30", True, "2026-10-02 09:00"), ("2026-10-02", False, "2026-10-02 09:00")
    )
    young = Retention(at("2026-09-30 08:00"), at("2026-10-02 16:00"))
    wanted = plan(held, NOW, young)
    assert [f"{day.start:%d}" for day in wanted] == ["01", "02", "03"]
    assert wanted[1].missing == ()


def test_days_with_running_sessions_are_asked_for_however_old() -> None:
    held = ledger(
        ("2026-08-01", False, "2026-10-02 09:00"), ("2026-08-02", True, "2026-10-02 09:00")
    )
    wanted = plan(held, NOW, since=NOW - 2 * DAY)
    assert [f"{day.start:%m-%d}" for day in wanted] == ["08-01", "10-01", "10-02", "10-03"]


def test_a_session_still_running_in_a_forgotten_day_is_not_asked_for_for_ever() -> None:
    held = ledger(
        ("2026-06-01", False, "2026-10-01 09:00"), ("2026-10-02", True, "2026-10-03 01:00")
    )
    wanted = plan(held, NOW, Retention(at("2026-07-04"), at("2026-07-04 08:00")))
    assert at("2026-06-01") not in [day.start for day in wanted]


# -- with a server ------------------------------------------------------------------------


def test_what_the_server_forgot_before_it_was_asked_is_a_hole(
    long_fleet: Fleet, folder: Path
) -> None:
    """Synced once, asleep for 20 days, while the server remembers 7."""
    begin = UNTIL - timedelta(days=30)
    with Simulator(long_fleet, clock=lambda: begin, horizon=WEEK) as server:
        archive, first = synced(server, folder, since="7D")
        assert first.forgotten == ()
        server.advance(timedelta(days=20))
        archive, second = synced(server, folder, since="60D")
        known_again = pd.Timestamp(truth_since(long_fleet, server)).as_unit("us")
        ((start, end),) = second.forgotten
        assert start == first.as_of
        assert end == known_again
        assert f"the server had forgotten {start:%Y-%m-%d %H:%M} to" in str(second)
        holes = archive.holes()
        assert holes[["start", "end"]].to_numpy().tolist() == [[start, end]]
        assert holes["source"].tolist() == [server.url]
        created = archive.sessions()["created"]
        begun = long_fleet.task_sessions(server.clock(), horizon=server.horizon)["created"]
        assert set(created[created >= min(begun)]) == set(pd.to_datetime(begun, utc=True))
        archive, third = synced(server, folder)
        assert third.forgotten == ()
        assert archive.holes().equals(holes), "a hole stays a hole, and is told once"
        assert archive.verify().empty


def test_a_hole_is_not_observed_time(long_fleet: Fleet, folder: Path) -> None:
    begin = UNTIL - timedelta(days=30)
    with Simulator(long_fleet, clock=lambda: begin, horizon=WEEK) as server:
        synced(server, folder, since="7D")
        server.advance(timedelta(days=20))
        archive, _ = synced(server, folder, since="60D")
    sessions, holes = archive.sessions(), archive.holes()
    blind = sessions.cdp.rpo_adherence("1h", by=())
    seeing = sessions.cdp.rpo_adherence("1h", by=(), unobserved=holes)
    length = (holes["end"] - holes["start"]).sum()
    vms = sessions.groupby(["backup_server", "vm"], observed=True).ngroups
    assert (blind["observed"] - seeing["observed"]).iloc[0] > (vms - 3) * length
    assert seeing["adherence"].iloc[0] > 0.9 > blind["adherence"].iloc[0]
    hole = holes.iloc[0]
    gaps = sessions.cdp.gaps("1h", unobserved=holes)
    stopped = gaps[(gaps["start"] < hole["end"]) & (gaps["end"] > hole["start"])]
    assert (stopped["exposure"] < stopped["end"] - stopped["start"]).all()


def test_a_young_estate_has_no_hole(folder: Path) -> None:
    """Synced before its first session has ended: nothing was forgotten, so nothing is missing."""
    fleet = Fleet.generate(vms=4, days=6, seed=2, until=UNTIL)
    begin = UNTIL - timedelta(days=6)
    with Simulator(fleet, clock=lambda: begin) as server:
        for _ in range(12):
            archive, done = synced(server, folder, since="30D")
            assert done.forgotten == ()
            server.advance(timedelta(hours=11))
        archive, _ = synced(server, folder)
        assert archive.holes().empty
        assert_equals_truth(archive, fleet, server)


def test_one_old_session_does_not_hide_a_hole(
    long_fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that hung for months is still there; that says nothing of the others."""
    begin = UNTIL - timedelta(days=30)
    oldest = EnterpriseManager.oldest

    def with_a_hung_one(self: EnterpriseManager) -> tuple[pd.Timestamp, pd.Timestamp | None]:
        return pd.Timestamp(begin) - 30 * DAY, oldest(self)[1]

    with Simulator(long_fleet, clock=lambda: begin, horizon=WEEK) as server:
        _, first = synced(server, folder, since="7D")
        server.advance(timedelta(days=20))
        monkeypatch.setattr(EnterpriseManager, "oldest", with_a_hung_one)
        archive, second = synced(server, folder, since="60D")
        ((start, end),) = second.forgotten
        assert (start, end) == (first.as_of, pd.Timestamp(truth_since(long_fleet, server)))
        assert archive.holes()[["start", "end"]].to_numpy().tolist() == [[start, end]]


def test_a_policy_that_was_deleted_on_the_server_is_no_hole(
    long_fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest sessions held are gone with their policy, while the server remembers far further back."""
    with Simulator(long_fleet) as server:
        synced(server, folder, since="7D")
        monkeypatch.setattr(EnterpriseManager, "remembers", lambda *_: 0)
        server.advance(timedelta(hours=20))
        archive, done = synced(server, folder)
        assert done.forgotten == ()
        assert archive.holes().empty


def test_a_day_skipped_by_a_sync_that_failed_is_a_hole_until_the_next(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    archive, _ = synced(server, folder, since="3D")
    path = archive.ledger()["path"].iloc[1]
    Path(path).unlink()
    (hole,) = archive.holes()[["start", "end"]].to_numpy().tolist()
    assert hole[1] - hole[0] == DAY
    archive, _ = synced(server, folder)
    assert archive.holes().empty


def test_command_line_and_report_leave_holes_out(
    long_fleet: Fleet, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = UNTIL - timedelta(days=30)
    with Simulator(long_fleet, clock=lambda: begin, horizon=WEEK) as server:
        synced(server, folder, since="7D")
        server.advance(timedelta(days=20))
        archive, _ = synced(server, folder, since="60D")
    asked = ["metrics", "rpo", "--archive", str(folder), "--by", "none", "--format", "json"]
    assert main(asked) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    known = {"policies": archive.policies(), "unobserved": archive.holes()}
    right = archive.sessions().cdp.rpo_adherence(by=(), **known).iloc[0]
    assert row["observed"] == right["observed"].total_seconds()
    assert "1 hole of the archive is not observed time" in err
    assert main(["verify", "--archive", str(folder)]) == 0
    assert "hole: http://127.0.0.1" in capsys.readouterr().out
    page = report(archive, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not counted as observed time" in page
    whole = archive.select().rpo_adherence(by=()).iloc[0]
    assert whole["observed"] == right["observed"]
