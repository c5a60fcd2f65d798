"""The journal: asked for since the last visit only, merged and never counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.archive.journal import joined, visited
from cdpanalytics.errors import ServerError
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync
from tests.conftest import UNTIL
from tests.test_synchronize import manager

MIDNIGHT = datetime(2026, 10, 1, tzinfo=UTC)
VM = {"vm": "a", "uid": "u1", "policy": "Gold", "policy_uid": "p1", "backup_server": "b1"}


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def visit(since: float, until: float, *found: tuple[float, float, int]) -> object:
    rows = [{"start": at(a), "end": at(b), "rpo": timedelta(seconds=rpo), "kind": "RestoreAvailable"}
            for a, b, rpo in found]  # fmt: skip
    table = schema.INTERVALS.empty_table() if not rows else _table(rows)
    return visited(VM, pd.Timestamp(at(since)), pd.Timestamp(at(until)), table)


def _table(rows: list[dict[str, object]]) -> object:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=schema.INTERVALS)


def told(table: object) -> list[tuple[float, float, float | None]]:
    rows = sorted(table.to_pylist(), key=lambda row: (row["kind"], row["start"]))  # type: ignore[attr-defined]
    hours = timedelta(hours=1)
    return [
        ((row["start"] - MIDNIGHT) / hours, (row["end"] - MIDNIGHT) / hours,
         row["rpo"] and row["rpo"].total_seconds())
        for row in rows
    ]  # fmt: skip


def test_a_visit_is_cut_at_midnight_and_to_what_was_asked() -> None:
    table = visit(20, 30, (19, 26, 15), (28, 31, 15))
    assert told(table) == [
        (20, 24, None), (24, 30, None),  # asked
        (20, 24, 15), (24, 26, 15), (28, 30, 15),
    ]  # fmt: skip


def test_two_visits_that_touch_are_one_stretch() -> None:
    both = joined(visit(0, 8, (0, 8, 15)), visit(8, 16, (8, 12, 15), (12, 16, 40)))
    assert told(both) == [(0, 16, None), (0, 12, 15), (12, 16, 40)]


def test_the_newer_visit_holds_where_two_overlap() -> None:
    both = joined(visit(0, 8, (0, 8, 15)), visit(6, 12, (6, 9, 60)))
    assert told(both) == [(0, 12, None), (0, 6, 15), (6, 9, 60)]


def test_what_was_restorable_stays_so_where_nobody_asked_again() -> None:
    both = joined(visit(0, 4, (1, 3, 15)), visit(10, 12))
    assert told(both) == [(0, 4, None), (10, 12, None), (1, 3, 15)]


STRETCH = st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda p: (p[0], min(24, sum(p))))


@given(st.lists(st.tuples(STRETCH, st.lists(st.tuples(STRETCH, st.sampled_from([5, 15])), max_size=3)),
                min_size=1, max_size=4))  # fmt: skip
def test_no_stretch_of_a_vm_is_counted_twice_whatever_was_fetched_twice(visits: list) -> None:
    held = schema.JOURNAL.empty_table()
    hours: dict[tuple[bool, int], float | None] = {}
    for (since, until), found in visits:
        apart, reached = [], since
        for (a, b), rpo in sorted(found):
            if max(a, reached) < min(b, until):
                apart.append((max(a, reached), min(b, until), rpo))
                reached = min(b, until)
        held = joined(held, visit(since, until, *apart))
        for hour in range(since, until):
            hours[True, hour] = None
        for a, b, rpo in apart:
            hours.update({(False, hour): float(rpo) for hour in range(int(a), int(b))})
    seen: dict[tuple[bool, int], float | None] = {}
    for start, end, rpo in told(held):
        for hour in range(int(start), int(end)):
            assert (rpo is None, hour) not in seen, "counted twice"
            seen[rpo is None, hour] = rpo
    assert seen == hours
    assert told(joined(held, held)) == told(held)


def journalled(server: Simulator, folder: Path) -> tuple[Archive, int]:
    archive = Archive(folder)
    with manager(server) as em:
        return archive, sync(em, archive, since="6D", journal=True, progress=False).intervals


def restorable(archive: Archive) -> dict[tuple[str, str], list[tuple[pd.Timestamp, pd.Timestamp]]]:
    """What the archive says each VM could be restored to, touching stretches as one."""
    found: dict[tuple[str, str], list[tuple[pd.Timestamp, pd.Timestamp]]] = {}
    frame = archive.intervals().query("kind != 'Asked'").sort_values("start")
    for row in frame.itertuples():
        mine = found.setdefault((row.backup_server, row.vm), [])
        assert not mine or mine[-1][1] <= row.start, "no stretch twice"
        if mine and mine[-1][1] == row.start:
            mine[-1] = (mine[-1][0], row.end)
        else:
            mine.append((row.start, row.end))
    return found


@pytest.mark.parametrize("accept", ["json", "xml"])
def test_visits_add_up_to_one_long_visit(
    fleet: Fleet, folder: Path, tmp_path: Path, accept: str
) -> None:
    begin = UNTIL - timedelta(hours=6)
    with Simulator(fleet, clock=lambda: begin) as server:
        for _ in range(4):
            archive, count = journalled(server, folder)
            assert count > 0
            assert archive.verify().empty
            server.advance(timedelta(hours=2))
        server.advance(-timedelta(hours=2))
        once, _ = journalled(server, tmp_path / "once")
        asked = [query for _, _, query, _ in server.requests if query.get("action") == "intervals"]
        vms = archive.intervals()["vm_uid"].nunique()
        assert len(asked) == 5 * vms, "one request a VM and visit"
    several, whole = restorable(archive), restorable(once)
    first = once.intervals()["start"].min()
    for vm, stretches in whole.items():
        mine = [s for s in several[vm] if s[1] > first]
        for (a, b), (c, d) in zip(mine[1:], stretches[1:], strict=True):
            assert abs(a - c) <= pd.Timedelta("2s")
            assert abs(b - d) <= pd.Timedelta("2s")
    frame = archive.intervals()
    assert list(frame.columns) == schema.JOURNAL.names
    asked_rows = frame.query("kind == 'Asked'")
    each = asked_rows.assign(length=asked_rows["end"] - asked_rows["start"])
    lengths = each.groupby(["backup_server", "vm"], observed=True)["length"].sum()
    assert (lengths >= pd.Timedelta("6h")).all(), "known without a break since the first visit"


def test_what_the_server_has_deleted_between_two_visits_was_not_asked(
    fleet: Fleet, folder: Path
) -> None:
    apart = timedelta(hours=26)
    with Simulator(fleet, clock=lambda: UNTIL - apart) as server:
        journalled(server, folder)
        server.advance(apart)
        archive, _ = journalled(server, folder)
    kept = archive.policies().set_index("policy")["short_term"]
    assert (kept < apart).any()
    frame = archive.intervals().query("kind == 'Asked'")
    asked = (frame["end"] - frame["start"]).groupby(frame["policy"], observed=True).sum()
    vms = frame.groupby("policy", observed=True)["vm_uid"].nunique()
    for policy, length in asked.items():
        assert length / vms[policy] == kept[policy] + min(kept[policy], pd.Timedelta(apart))


@pytest.mark.parametrize("accept", ["json", "xml"])
def test_vapps_are_asked_like_vms(folder: Path, accept: str) -> None:
    plain = {"vms": 9, "days": 4, "seed": 6, "until": UNTIL, "policies": 3}
    fleet = Fleet.generate(**plain, vapp_policies=1)  # type: ignore[arg-type]
    with Simulator(fleet, clock=lambda: UNTIL) as server, manager(server, accept=accept) as em:
        archive = Archive(folder)
        sync(em, archive, since="3D", journal=True, progress=False)
        asked = [path for _, path, query, _ in server.requests if "action" in query]
    policy = fleet.policies[-1]
    assert policy.of_vapps
    assert all("vapp" in name for name in policy.vms if "-" in name)
    of_vapps = [path for path in asked if path.startswith("/api/cdpReplica/vApps/")]
    assert len(of_vapps) == len(policy.vms) > 0
    assert len(asked) == len(fleet.machines.name), "one request an object, however it is replicated"
    journal = archive.intervals(policy=policy.name)
    assert set(journal["vm"]) == set(policy.vms)
    as_vms = Fleet.generate(**plain)  # type: ignore[arg-type]
    with Simulator(as_vms, clock=lambda: UNTIL) as server, manager(server) as em:
        other = Archive(folder / "as VMs")
        sync(em, other, since="3D", journal=True, progress=False)
    columns = ["rpo", "observed", "restorable", "within", "adherence"]
    ours, theirs = (
        a.intervals().cdp.journal_adherence("15s", by="policy") for a in (archive, other)
    )
    pd.testing.assert_frame_equal(ours[columns], theirs[columns])


def test_only_the_time_since_the_last_visit_is_asked_for(
    fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdpanalytics.server.client import EnterpriseManager

    windows = []
    ask = EnterpriseManager.intervals

    def noting(
        self: EnterpriseManager, replica: str, vm: str, start: object, end: object
    ) -> object:
        windows.append((start, end))
        return ask(self, replica, vm, start, end)  # type: ignore[arg-type]

    monkeypatch.setattr(EnterpriseManager, "intervals", noting)
    begin = UNTIL - timedelta(hours=20)
    with Simulator(fleet, clock=lambda: begin) as server:
        journalled(server, folder)
        ends = {end for _, end in windows}
        windows.clear()
        server.advance(timedelta(hours=3))
        archive, _ = journalled(server, folder)
        assert {start for start, _ in windows} == ends
        windows.clear()
        journalled(server, folder)
        assert windows == [], "no VM is queried twice for one instant"
        assert archive.intervals(vm="*")["vm"].nunique() == len(archive.intervals()["vm"].unique())


def test_a_journal_that_fails_says_that_the_sessions_are_kept(
    server: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdpanalytics.server.client import EnterpriseManager

    def refused(*_: object) -> None:
        raise ServerError("HTTP 403: Access denied", status=403)

    monkeypatch.setattr(EnterpriseManager, "intervals", refused)
    with pytest.raises(ServerError, match="denied; the sessions are stored, the journal is not"):
        journalled(server, folder)
    assert len(Archive(folder).sessions()) > 0


def test_without_a_journal_there_are_no_intervals(server: Simulator, folder: Path) -> None:
    archive = Archive(folder)
    with manager(server) as em:
        sync(em, archive, since="2D", progress=False)
    assert archive.intervals().empty
    assert list(archive.intervals().columns) == schema.JOURNAL.names
