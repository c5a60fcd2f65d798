"""The archive on object storage: the same truth, whole or untouched, and no more read than asked for."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import pickle
import random
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdpanalytics import schema
from cdpanalytics.archive import Archive, writing
from cdpanalytics.archive.storage import lease, object_store
from cdpanalytics.cli import main
from cdpanalytics.errors import ArchiveError, InputError, StoreError
from cdpanalytics.metrics import rpo_adherence
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.sources import archive_plan
from cdpanalytics.synchronize import SyncResult, sync
from tests.archive.objectstore import BUCKET, KEY, SECRET, Relay, client, serving
from tests.archive.test_archive import EM, OCT, at, put, session
from tests.builders import mapped
from tests.conftest import NIGHTLY, at_night
from tests.test_synchronize import assert_equals_truth, assert_not_asked_again, manager

pytestmark = pytest.mark.slow

DAY = pd.Timedelta("1D")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's client asks once more, not five times."""
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)


IMPATIENT = {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 5}}


@dataclass
class Place:
    """An empty prefix of a bucket, and what one needs to look at it from aside."""

    url: str
    options: dict[str, Any]
    relay: Relay
    s3: Any

    def archive(self) -> Archive:
        return Archive(self.url, storage_options=self.options)

    def names(self) -> list[str]:
        prefix = self.url.removeprefix(f"s3://{BUCKET}/")
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(each["Key"].removeprefix(f"{prefix}/") for each in found)

    def key(self, name: str) -> str:
        return f"{self.url.removeprefix(f's3://{BUCKET}/')}/{name}"

    def body(self, name: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=self.key(name))["Body"].read())

    def write(self, name: str, body: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=self.key(name), Body=body)

    def sessions(self) -> list[str]:
        return [name for name in self.names() if name.startswith("sessions/")]


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    with serving() as server:
        port = server.get_host_and_port()[1]
        client(port).create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]
        yield port


@pytest.fixture
def place(moto: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place of its own for each test; no setting of this machine is seen."""
    for name in ("PROFILE", "SESSION_TOKEN", "ENDPOINT_URL", "CA_BUNDLE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    settings = {"EC2_METADATA_DISABLED": "true", "DEFAULT_REGION": "us-east-1",
                "CONFIG_FILE": "/nowhere", "SHARED_CREDENTIALS_FILE": "/nowhere"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    relay = Relay(moto)
    options = {"endpoint_url": f"http://127.0.0.1:{relay.port}", "key": KEY, "secret": SECRET}
    yield Place(f"s3://{BUCKET}/{uuid.uuid4().hex}/archive", options, relay, client(moto))
    relay.close()


def brought(
    server: Simulator, archive: Archive, since: str | None = "6D", **options: Any
) -> SyncResult:
    with manager(server) as em:
        return sync(em, archive, since=since, progress=False, **options)


# -- the same truth -----------------------------------------------------------------------


def test_the_archive_on_s3_equals_the_truth_and_the_one_on_a_disk(
    place: Place, server: Simulator, fleet: Fleet, folder: Path
) -> None:
    archive = place.archive()
    done = brought(server, archive)
    assert_equals_truth(archive, fleet, server)
    assert done.sessions == done.added == len(archive.sessions())
    assert archive.verify().empty
    assert archive.holes().empty
    names = [name for name in place.names() if not name.startswith("archive.lock")]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(place.body(name))
    same = Archive(folder)
    window = {"since": "3D", "history": True}
    for asked in ({}, {"vm": "*1"}, {"policy": "Gold*"}, {"vm": ["*2", "*3"], "server": "*"}):
        pd.testing.assert_frame_equal(
            archive.sessions(**window, **asked), same.sessions(**window, **asked)
        )
    pd.testing.assert_frame_equal(archive.policies(), same.policies())
    pd.testing.assert_frame_equal(archive.policy_sessions("2D"), same.policy_sessions("2D"))
    assert archive.provenance("4D") == same.provenance("4D"), "the same bytes, the same sum"


def test_a_second_sync_is_incremental(place: Place, server: Simulator, fleet: Fleet) -> None:
    first = brought(server, place.archive())
    final = place.archive().ledger().query("final")["day"].tolist()
    assert final
    before = len(server.requests)
    again = brought(server, place.archive(), since=None, quick=True)
    assert again.added == 0
    assert again.days < first.days
    assert_not_asked_again(server, before, final)
    server.advance(timedelta(hours=30))
    assert brought(server, place.archive(), since=None).added > 0
    assert_equals_truth(place.archive(), fleet, server)


def test_the_journal_is_kept_on_s3(place: Place, server: Simulator) -> None:
    done = brought(server, place.archive(), since="2D", journal=True)
    kept = place.archive().intervals()
    assert len(kept) >= done.intervals > 0


def test_another_kind_of_store_does_the_same(server: Simulator, fleet: Fleet) -> None:
    archive = Archive(f"memory://{uuid.uuid4().hex}/archive")
    brought(server, archive)
    server.advance(timedelta(hours=9))
    brought(server, archive, since=None)
    assert_equals_truth(archive, fleet, server)
    assert archive.verify().empty


def test_a_settled_month_is_read_from_one_object(place: Place) -> None:
    november = OCT + 31 * DAY
    put(place.archive(), OCT, session("u1", "a", 0, 8))
    put(place.archive(), OCT + DAY, session("u2", "a", 24, 32))
    put(place.archive(), november, session("u3", "a", 745, 746))
    archive = place.archive()
    days = archive.sessions(since=november, history=True)
    with archive.writing():
        pass
    archive = place.archive()
    place.relay.lines.clear()
    assert archive.sessions(since=november, history=True)["uid"].tolist() == days["uid"].tolist()
    read = {line.rpartition("/")[2] for line in place.relay.lines if ".parquet" in line}
    assert read == {"2026-10.parquet", f"{november:%Y-%m-%d}.parquet"}


def test_pandas_reads_the_sessions_with_no_help_of_ours(place: Place) -> None:
    put(place.archive(), OCT, session("u1", "a", 0, 8))
    plain = pd.read_parquet(f"{place.url}/sessions", storage_options=place.options)
    assert plain["uid"].tolist() == ["u1"]
    assert list(plain.columns) == schema.SESSIONS.names


def test_a_file_url_is_the_directory(folder: Path) -> None:
    put(Archive(folder.as_uri()), OCT, session("u1", "a", 0, 8))
    assert Archive(folder).sessions()["uid"].tolist() == ["u1"]
    assert Archive(folder.as_uri()).path == folder


@at_night
def test_each_command_takes_a_url(
    place: Place, server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Endpoint and credentials from the environment, as the store's own tools take them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", place.options["endpoint_url"])
    monkeypatch.setenv("CDPANALYTICS_PASSWORD", "demo")
    there, page = ["--archive", place.url], tmp_path / "report.html"
    table = tmp_path / "rpo.json"
    assert main(["sync", server.url, *there, "--user", "demo", "--since", "4D"]) == 0
    assert f"{place.url}: " in capsys.readouterr().err
    assert main(["metrics", "rpo", *there, "--format", "json", "--output", str(table)]) == 0
    assert main(["report", *there, "--output", str(page)]) == 0
    assert main(["check", *there, "--objective", "90%"]) == 3  # the simulated server's clock is old
    assert capsys.readouterr().out.count("within RPO") == 4
    assert main(["verify", *there]) == 0
    assert "ok: " in capsys.readouterr().out
    expected = place.archive().sessions().cdp.rpo_adherence(policies=place.archive().policies())
    rows = {row["vm"]: row["adherence"] for row in json.loads(table.read_text())}
    known = expected.dropna(subset="adherence")
    assert rows.keys() == set(expected["vm"])
    assert {vm: rows[vm] for vm in known["vm"]} == pytest.approx(
        dict(zip(known["vm"], known["adherence"], strict=True))
    )
    assert str(place.archive().provenance()["sha256"])[:12] in page.read_text(encoding="utf-8")
    damaged = place.sessions()[0]
    place.write(damaged, b"")
    assert main(["verify", *there, "--set-aside"]) == 1
    assert f"{place.url}/{damaged} was moved to {place.url}/damaged" in capsys.readouterr().out


# -- what goes wrong ------------------------------------------------------------------------


def cut_short(body: bytes) -> bytes:
    return body[: len(body) // 2]


def emptied(body: bytes) -> bytes:
    return b""


def foreign(body: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("damage", [cut_short, emptied, foreign] if NIGHTLY else [cut_short])
def test_damage_is_named_set_aside_and_fetched_again(
    damage: Any, place: Place, server: Simulator, fleet: Fleet
) -> None:
    brought(server, place.archive())
    name = place.sessions()[2]
    place.write(name, damage(place.body(name)))
    assert place.archive().verify()["path"].tolist() == [name]
    with pytest.raises(
        ArchiveError, match=f"^{place.url}/{name} cannot be read; see: cdpanalytics"
    ):
        place.archive().sessions()
    done = brought(server, place.archive())
    assert done.set_aside == (name,)
    assert [key for key in place.names() if key.startswith("damaged/")] == [
        f"damaged/{name.removesuffix('.parquet')}.0.parquet"
    ]
    assert_equals_truth(place.archive(), fleet, server)
    assert place.archive().verify().empty


@pytest.mark.usefixtures("impatient")
def test_a_put_that_breaks_off_leaves_the_day_as_it_was(place: Place) -> None:
    place.options |= IMPATIENT
    archive = place.archive()
    put(archive, OCT, session("u1", "a", 0, 8))
    name = place.sessions()[0]
    before = place.body(name)
    place.relay.cut = r"^PUT .*\.parquet"
    with pytest.raises(ArchiveError, match=f"{name} cannot be written: "):
        put(archive, OCT, session("u2", "a", 0, 8))
    place.relay.cut = None
    assert place.body(name) == before
    assert place.archive().sessions()["uid"].tolist() == ["u1"]


@pytest.mark.usefixtures("impatient")
def test_a_sync_that_breaks_off_goes_on_where_it_stopped(
    place: Place, server: Simulator, fleet: Fleet
) -> None:
    place.options |= IMPATIENT
    archive = place.archive()
    fourth = f"{server.clock() - timedelta(days=2):%Y-%m-%d}"
    place.relay.cut = rf"^PUT .*/sessions/.*{fourth}"
    with pytest.raises(ArchiveError, match=r"cannot be written: .*; 4 of 7 days are stored"):
        brought(server, archive)
    place.relay.cut = None
    final = place.archive().ledger().query("final")["day"].tolist()
    assert final
    before = len(server.requests)
    brought(server, place.archive(), quick=True)
    assert_not_asked_again(server, before, final)
    assert_equals_truth(place.archive(), fleet, server)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("asked", ["sessions", "verify", "set_aside", "holes", "provenance"])
def test_a_store_that_does_not_answer_is_not_taken_for_damage(place: Place, asked: str) -> None:
    place.options |= IMPATIENT
    put(place.archive(), OCT, session("u1", "a", 0, 8))
    archive, before = place.archive(), place.names()
    place.relay.cut = r"^GET .*\.parquet"
    with pytest.raises(StoreError, match="cannot be read: ") as told:
        getattr(archive, asked)()
    assert "\n" not in str(told.value)
    place.relay.cut = None
    assert place.names() == before
    assert place.archive().verify().empty


def test_a_bucket_that_is_not_there_is_one_clear_line(place: Place, server: Simulator) -> None:
    nowhere = Archive("s3://no-such-bucket/archive", storage_options=place.options)
    with pytest.raises(
        ArchiveError, match=r"^no archive at s3://no-such-bucket/archive; make one:"
    ):
        nowhere.sessions()
    with pytest.raises(ArchiveError, match="The specified bucket does not exist"):
        brought(server, nowhere)


def test_a_prefix_of_something_else_is_not_an_archive(place: Place) -> None:
    place.write("letter.txt", b"hello")
    with pytest.raises(ArchiveError, match=r"is not an archive: it has no archive.json"):
        place.archive()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"^s3://b/p needs .*install cdpanalytics\[objects\]$"):
        Archive("s3://b/p")


def test_what_is_no_place_of_an_archive_is_refused(folder: Path) -> None:
    for url, said in (
        ("zz://b/p", "cannot be used: Protocol not known: zz"),
        ("https://em:9398/x", "an archive cannot be written to https://em:9398/x; name a dir"),
        ("simplecache::s3://b/p", "is a chain of stores; name the last one alone"),
    ):
        with pytest.raises(InputError, match=said):
            Archive(url)
    with pytest.raises(InputError, match=r"storage_options are for a URL such as s3://"):
        Archive(folder, storage_options={"key": KEY})


# -- no more is read than asked for -----------------------------------------------------------


@pytest.fixture
def wide(place: Place) -> Place:
    """Three days of 40,000 sessions of 400 VMs: four row groups a day."""
    archive, chance = place.archive(), random.Random(1)
    for number in range(3):
        begin = [OCT + number * DAY + pd.Timedelta(minutes=14 * n) for n in range(100)]
        vms = [f"vm-{n:03d}" for n in range(400) for _ in begin]
        created = [instant for _ in range(400) for instant in begin]
        total = len(vms)
        rows = pa.table(
            {
                "uid": [str(uuid.UUID(int=chance.getrandbits(128))) for _ in vms],
                "vm": vms, "policy": ["Gold"] * total, "backup_server": ["b1"] * total,
                "created": created, "ended": [each + pd.Timedelta("13min") for each in created],
                "state": ["Completed"] * total, "result": ["Success"] * total,
                "total_size": list(range(total)), "as_of": [at(100)] * total,
            }
        )  # fmt: skip
        for field in schema.SESSIONS:
            if field.name not in rows.column_names:
                rows = rows.append_column(field, pa.nulls(total, field.type))
        rows = rows.select(schema.SESSIONS.names).cast(schema.SESSIONS)
        archive.put_day("sessions", EM, OCT + number * DAY, rows, at(100), final=True)
    return place


def test_one_vm_of_one_day_costs_a_fraction_of_the_objects(wide: Place) -> None:
    size = sum(len(wide.body(name)) for name in wide.sessions())
    assert pq.read_metadata(io.BytesIO(wide.body(wide.sessions()[0]))).num_row_groups == 4
    whole = wide.archive()
    wide.relay.forget()
    assert len(whole.sessions()) == 120_000
    everything = wide.relay.received
    archive = wide.archive()
    wide.relay.forget()
    found = archive.sessions(since=OCT + DAY, until=OCT + 2 * DAY, vm="vm-007")
    assert found["created"].tolist() == [
        OCT + DAY + pd.Timedelta(minutes=14 * number) for number in range(100)
    ]
    assert everything > size
    assert wide.relay.received < size / 3 / 2, "less than half of the day's own object"
    asked = {line.split("/")[-1] for line in wide.relay.lines if ".parquet" in line}
    days = (OCT + DAY, OCT + 2 * DAY)
    assert asked == {f"{day:%Y-%m-%d}.parquet" for day in days}, "and the newest day's, for as_of"
    assert len(archive.holes()) == 0
    wide.relay.forget()
    assert len(archive.ledger()) == 3
    assert not [line for line in wide.relay.lines if ".parquet" in line], "footers are known"


def test_a_selection_is_what_is_left_of_everything(wide: Place, folder: Path) -> None:
    """Row groups that are passed over change neither rows, nor order, nor categories."""
    for archive in (wide.archive(), several_policies(Archive(folder))):
        everything = archive.sessions()[schema.SESSIONS.names]
        for named in ({"vm": "VM-0[0-3]?"}, {"policy": "s*", "vm": ["vm-007", "vm-39*"]}):
            keep = pd.Series(True, everything.index)
            for column, pattern in named.items():
                patterns = [pattern] if isinstance(pattern, str) else pattern
                names = everything[column].astype("str").str.lower()
                keep &= names.map(lambda name: any(fnmatchcase(name, p.lower()) for p in patterns))  # noqa: B023
            if not keep.any():
                with pytest.raises(InputError, match=r"no policy matches 's\*' \(known: Gold"):
                    archive.sessions(**named)
                continue
            expected = everything[keep].reset_index(drop=True)
            for column in expected.columns[expected.dtypes == "category"]:
                if column not in ("result", "policy_result"):
                    expected[column] = expected[column].cat.remove_unused_categories()
            found = archive.sessions(**named)[schema.SESSIONS.names]
            pd.testing.assert_frame_equal(found, expected)


def several_policies(archive: Archive) -> Archive:
    """Two days, each VM under one policy or another, in another order each day."""
    for number, policies in enumerate((["Silver", "Gold", "Slate"], ["Slate", "Silver", "Gold"])):
        put(
            archive, OCT + number * DAY,
            *[session(f"{number}-{n}", f"vm-{n:03d}", 24 * number, 24 * number + 8,
                      policy=policies[n % 3], state="InProgress" if n % 7 else "Completed")
              for n in range(400)],
        )  # fmt: skip
    return archive


def test_a_day_replaced_by_another_sync_is_seen(place: Place) -> None:
    archive = place.archive()
    put(archive, OCT, session("u1", "a", 0, 8))
    assert archive.sessions()["uid"].tolist() == ["u1"]
    put(place.archive(), OCT, session("u2", "a", 0, 8))
    assert archive.sessions()["uid"].tolist() == ["u2"]


def test_a_day_replaced_while_it_is_read_is_read_again(
    wide: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the footer and the first row group another version is put."""
    archive, ranged, replaced = wide.archive(), object_store.ObjectStorage.range, []

    def replacing(self: object_store.ObjectStorage, name: Any, start: int, end: int) -> bytes:
        if start == 4 and not replaced:
            replaced.append(name)
            put(wide.archive(), OCT + DAY, session("new", "vm-007", 25, 26))
        return ranged(self, name, start, end)

    monkeypatch.setattr(object_store.ObjectStorage, "range", replacing)
    found = archive.sessions(since=OCT + DAY, until=OCT + 2 * DAY)
    assert replaced
    assert found["uid"].tolist() == ["new"]


# -- one writer at a time -----------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead writer is given up after seconds, which a live one is not silent for, however busy."""
    for name, seconds in (("BEAT", 0.2), ("EXPIRY", 5.0), ("POLL", 0.05)):
        monkeypatch.setattr(lease, name, seconds)


def holding(url: str, options: dict[str, Any], taken: Any) -> None:
    """Hold an archive for writing until killed."""
    with Archive(url, storage_options=options).writing():
        taken.set()
        time.sleep(60)


@pytest.mark.usefixtures("hasty")
def test_a_lock_outlives_its_expiry_while_its_holder_lives(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE", 7.0)
    with place.archive().writing():
        began = time.monotonic()
        with (
            pytest.raises(ArchiveError, match="another sync has been writing it for"),
            place.archive().writing(),
        ):
            pass
        assert time.monotonic() - began >= 7.0
    with place.archive().writing():
        pass
    assert len([key for key in place.names() if key.startswith("archive.lock/")]) == 1


@at_night
@pytest.mark.usefixtures("hasty")
def test_who_waits_goes_on_as_soon_as_the_other_has_ended(
    place: Place, server: Simulator, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[SyncResult | Exception] = []

    def run() -> None:
        try:
            ended.append(brought(server, place.archive()))
        except Exception as error:
            ended.append(error)

    pair = [threading.Thread(target=run) for _ in range(2)]
    for one in pair:
        one.start()
    for one in pair:
        one.join()
    assert all(isinstance(each, SyncResult) for each in ended), ended
    assert sum(each.added for each in ended) == max(each.added for each in ended)  # type: ignore[union-attr]
    assert "another sync is writing it; waiting for it to end" in caplog.text
    assert_equals_truth(place.archive(), fleet, server)


def test_a_lock_that_another_makes_while_it_is_looked_for_is_waited_for(place: Place) -> None:
    def come_first(line: str) -> None:
        # The store's client has seen an empty folder, and asks whether it is an object.
        if line.startswith("HEAD") and line.endswith("/archive.lock") and "made" not in asked:
            asked.append("made")
            place.write("archive.lock/00000001", b"")

    asked: list[str] = []
    place.relay.before = come_first
    with place.archive().writing():
        assert asked == ["made"]
    assert "archive.lock/00000002" in place.names()


@at_night
@pytest.mark.usefixtures("hasty")
def test_the_lock_of_a_writer_that_was_killed_is_taken_over(
    place: Place, server: Simulator, fleet: Fleet
) -> None:
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    holder = context.Process(target=holding, args=(place.url, place.options, taken))
    holder.start()
    assert taken.wait(60)
    holder.kill()
    holder.join()
    brought(server, place.archive())
    assert_equals_truth(place.archive(), fleet, server)


@pytest.mark.usefixtures("hasty")
def test_who_stood_still_too_long_writes_no_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a laptop that was closed in the middle of a sync."""
    slept = place.archive()
    with monkeypatch.context() as still:
        still.setattr(lease, "BEAT", 3600)
        writing = slept.writing()
        writing.__enter__()
    time.sleep(0.3)
    with place.archive().writing():
        put(place.archive(), OCT, session("u2", "a", 0, 8))
        with pytest.raises(StoreError, match="another sync has taken the archive over"):
            put(slept, OCT, session("u1", "a", 0, 8))
        writing.__exit__(None, None, None)
        assert [key for key in place.names() if key.startswith("archive.lock/")] == [
            "archive.lock/00000002"
        ]
    assert place.archive().sessions()["uid"].tolist() == ["u2"]


@at_night
@pytest.mark.usefixtures("hasty")
def test_of_many_who_wait_for_a_dead_writer_one_goes_on(place: Place) -> None:
    place.write("archive.json", b'{"version": 1}')
    place.write("archive.lock/00000007", b"dead")
    inside, most, gate = 0, 0, threading.Lock()

    def run() -> None:
        nonlocal inside, most
        with place.archive().writing():
            with gate:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with gate:
                inside -= 1

    pool = [threading.Thread(target=run) for _ in range(5)]
    for one in pool:
        one.start()
    for one in pool:
        one.join()
    assert most == 1
    assert [key for key in place.names() if "lock" in key] == ["archive.lock/00000012"]


# -- secrets ------------------------------------------------------------------------------------


def test_no_secret_is_left_in_any_object_repr_error_or_log(
    place: Place, server: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    archive = place.archive()
    brought(server, archive, since="2D")
    cdp_report = pytest.importorskip("cdpanalytics").report
    page = cdp_report(archive, tmp_path / "report.html")
    wrong = {**place.options, **IMPATIENT, "endpoint_url": "http://127.0.0.1:9"}
    left = [place.body(name) for name in place.names()]
    told = [repr(archive), str(archive.path), str(vars(archive)), str(archive.provenance()),
            repr(archive._storage), archive.ledger().to_csv(), page.read_text("utf-8")]  # fmt: skip
    repeated = {**place.options, "client_kwargs": {"region_name": SECRET}}
    for options in (wrong, repeated):
        with pytest.raises(StoreError, match="cannot be read: ") as error:
            Archive(place.url, storage_options=options).sessions()
        told.append("".join(traceback.format_exception(error.value)))
    assert "'***'" in told[-1], "the client's own error repeats what it was given"
    for secret in (SECRET, KEY):
        assert not [body for body in left if secret.encode() in body]
        assert not [text for text in told if secret in text]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [f"s3://{KEY}:{SECRET}@bucket/p", f"s3://{KEY}:nosl4sh@bucket/p", f"s3://{KEY}@bucket/p"],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        InputError, match="a s3:// URL with credentials in it is not accepted"
    ) as told:
        Archive(url)
    assert KEY not in str(told.value)
    assert main(["verify", "--archive", url]) == 1
    said = capsys.readouterr().err
    assert KEY not in said
    assert said.count("\n") == 1


def test_an_archive_goes_to_another_process_and_is_read_there(place: Place) -> None:
    put(place.archive(), OCT, session("u1", "a", 0, 8))
    there = pickle.loads(pickle.dumps(place.archive()))
    assert there.sessions()["uid"].tolist() == ["u1"]


def test_the_store_is_not_loaded_for_a_directory() -> None:
    import subprocess

    code = ("import sys; from cdpanalytics.archive import Archive; Archive('x');"
            "print([m for m in ('fsspec', 's3fs', 'cdpanalytics.archive.storage.object_store')"
            " if m in sys.modules])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@at_night
def test_an_archive_is_mapped_by_processes_that_read_the_store_themselves(
    place: Place, server: Simulator
) -> None:
    brought(server, place.archive())
    archive = place.archive()
    whole = rpo_adherence(archive.sessions(), by="policy")
    found = mapped(archive, rpo_adherence, by="policy", workers=2, memory="2GB", progress=False)
    pd.testing.assert_frame_equal(found, whole, check_exact=True)
    assert SECRET not in repr(archive_plan(archive, rpo_adherence, by="policy"))
