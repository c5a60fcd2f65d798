"""A metric of an archive in parts is the metric of the whole, to the digit, in the memory it was given."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cdpanalytics import metrics, schema
from cdpanalytics.archive import Archive, files, tables
from cdpanalytics.errors import ArchiveError, CdpError, InputError
from cdpanalytics.execution import local, partition
from cdpanalytics.execution.plan import Plan
from cdpanalytics.metrics.core.spec import identity
from cdpanalytics.metrics.registry import REGISTRY, REQUIRED, MetricSpec, spec_of
from cdpanalytics.sources import archive_plan
from tests.archive.test_archive import EM, OCT, at, put, session
from tests.builders import mapped
from tests.conftest import NIGHTLY, at_night
from tests.metrics import strategies as some
from tests.metrics.asked import OF_SESSIONS, needed, taken

pytestmark = pytest.mark.slow

Metric = Callable[..., pd.DataFrame]
ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Archive(ROOT / "data/sample")
EVERY = [getattr(metrics, name) for name in metrics.__all__]
OF_WHOLE_GROUPS = {"durations"}
BY = [("policy", "vm"), "policy", *(["vm", "backup_server", ()] if NIGHTLY else [])]


def holding(rows: int) -> int:
    """Memory in which a worker holds so many sessions at a time."""
    return partition.WORKER_OVERHEAD_BYTES + rows * partition.BYTES_PER_SESSION


def rows_of(archive: Archive, metric: Metric) -> pd.DataFrame:
    return archive.intervals() if spec_of(metric).table == "intervals" else archive.sessions()


def assert_same(found: pd.DataFrame, whole: pd.DataFrame) -> None:
    assert_frame_equal(found, whole, check_exact=True)


# -- what each metric declares ---------------------------------------------------------


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)
def test_each_metric_declares_what_it_needs_together(metric: Metric) -> None:
    spec = spec_of(metric)
    table = {"sessions": schema.SESSIONS, "intervals": schema.JOURNAL}[spec.table]
    assert set(spec.columns) <= set(table.names)
    if spec.key is None:  # a quantile needs all rows of its group, whatever the group
        assert spec.name in OF_WHOLE_GROUPS, (
            f"{spec.name}: a key of None keeps all rows of a group in memory; if it cannot be a sum, "
            "add it to OF_WHOLE_GROUPS in tests/execution/test_map.py"
        )
    else:
        assert spec.key == ("backup_server", "vm")


@pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.name)
def test_the_registry_says_what_each_function_takes(spec: MetricSpec) -> None:
    takes = inspect.signature(spec.function).parameters
    names = list(takes)[1:]
    by = set() if spec.by is None else {"by"}
    assert set(names) == spec.takes | set(spec.own) | by
    for name, default in spec.own.items():
        assert takes[name].default == (inspect.Parameter.empty if default is REQUIRED else default)
    if spec.by is not None:
        assert takes["by"].default == spec.by
    if "freq" in spec.takes:
        assert takes["freq"].default == spec.freq
    positional = {"targets", "since", "until", "before", "n", "objective", "target", "by", "freq", "at",
                  "reading", "horizon", "z"}  # fmt: skip
    assert {n for n in names if takes[n].kind is not inspect.Parameter.KEYWORD_ONLY} <= positional


def test_a_metric_that_is_not_registered_is_refused_with_what_to_do() -> None:
    def mine(sessions: pd.DataFrame) -> pd.DataFrame:
        return sessions

    with pytest.raises(InputError, match=r"mine is not registered.*call it with the whole frame"):
        mapped(SAMPLE, mine)


# -- equal to the digit -----------------------------------------------------------------


@pytest.mark.parametrize("by", BY, ids=str)
@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)
def test_every_metric_of_the_sample_by_every_key(metric: Metric, by: Any) -> None:
    takes = inspect.signature(metric).parameters
    if "by" not in takes and by:
        pytest.skip("has no groups")
    rows = rows_of(SAMPLE, metric)
    asked = {name: value for name, value in {
        "by": by, "policies": SAMPLE.policies(), "unobserved": SAMPLE.holes(), "retire_after": "2D",
    }.items() if name in takes} | needed(metric.__name__, rows)  # fmt: skip
    whole = metric(rows, **asked)
    keys = (by,) if isinstance(by, str) else by
    column = spec_of(metric).cut_by(keys, partition.PARTITION_KEYS)
    most = 1_500 if column == "vm" else 10_000
    plan = archive_plan(SAMPLE, metric, **asked).cut(holding(most), least=3)
    if column == "vm":
        assert len(plan.ranges) > 2, "it is cut"
    assert_same(local.collect(plan, local.run_serial(plan), progress=False), whole)


@pytest.mark.parametrize("freq", ["h", "D", "W", "MS"])
def test_periods_are_the_same_in_every_range(freq: str) -> None:
    for by in ("policy", ()):
        asked: dict[str, Any] = {"by": by, "freq": freq, "tz": "Europe/Prague"}
        whole = metrics.rpo_adherence(SAMPLE.sessions(), **asked)
        assert_same(mapped(SAMPLE, metrics.rpo_adherence, memory=holding(900), **asked), whole)


@pytest.mark.parametrize("metric", [metrics.rpo_adherence, metrics.gaps, metrics.sizes])
def test_a_window_is_read_with_its_history(metric: Metric) -> None:
    since, until = SAMPLE.window("20D", "10D")
    rows = SAMPLE.sessions(since, until, history=True)
    whole = metric(rows, since=since, until=until)
    assert_same(mapped(SAMPLE, metric, since="20D", until="10D", memory=holding(300)), whole)


def test_a_comparison_reads_what_came_before() -> None:
    since, until = SAMPLE.window("10D", "2D")
    whole = metrics.compare(SAMPLE.sessions(until=until), since=since, until=until)
    found = mapped(SAMPLE, metrics.compare, since="10D", until="2D", memory=holding(400))
    assert_same(found, whole)
    assert whole["adherence_before"].notna().any()


def test_a_selection_is_matched_in_the_whole() -> None:
    """A pattern that matches nothing in one range may match in another; in none it is an error."""
    name = str(SAMPLE.sessions()["vm"].astype("str").max())
    whole = metrics.gaps(SAMPLE.sessions(vm=name, policy="*"))
    assert_same(mapped(SAMPLE, metrics.gaps, vm=name, policy="*", memory=holding(300)), whole)
    with pytest.raises(InputError, match="no VM matches 'unknown'"):
        mapped(SAMPLE, metrics.gaps, vm="unknown")


def test_each_vm_that_only_a_policy_names_is_listed_once(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, *(session(f"u{n}", vm, 0, 8) for n, vm in enumerate("bdf")))
    settings = pd.DataFrame({"policy": ["Gold"], "backup_server": ["b1"], "vms": [list("abcdefg")]})
    for by in ("vm", "policy", ()):
        asked: dict[str, Any] = {"target": "1h", "by": by, "policies": settings}
        whole = metrics.rpo_adherence(archive.sessions(), **asked)
        assert_same(mapped(archive, metrics.rpo_adherence, memory=holding(1), **asked), whole)
    assert len(mapped(archive, metrics.rpo_adherence, by="vm", policies=settings)) == 7


def test_as_of_is_that_of_all_vms(folder: Path) -> None:
    """A VM whose own sessions were read long ago is exposed up to the instant all others are."""
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8, as_of=at(9)), session("u2", "z", 0, 90))
    found = mapped(archive, metrics.rpo_adherence, target="1h", by="vm", memory=holding(1))
    assert found["observed"].tolist() == [pd.Timedelta("100h")] * 2


def test_one_name_on_two_servers_and_none_at_all_are_kept_apart(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT,
        session("u1", "a", 0, 8), session("u2", "a", 1, 3, backup_server="b2"),
        session("u3", "z", 0, 8, policy=None), session("u4", None, 2, 9), session("u5", "a", 9, 12),
        session("u6", None, 12, 13, backup_server=None), session("u7", "m", 9, 12, policy="Iron"),
        session("u8", "m", 0, 8),
    )  # fmt: skip
    sessions = archive.sessions()
    for name in OF_SESSIONS:
        metric = getattr(metrics, name)
        by = [{"by": by} for by in BY] if "by" in inspect.signature(metric).parameters else [{}]
        for asked in by:
            given = needed(name, sessions) | asked
            plan = archive_plan(archive, metric, **given).cut(holding(8), least=8)
            whole = metric(sessions, **given)
            assert_same(local.collect(plan, local.run_serial(plan), progress=False), whole)


def test_what_two_sources_say_of_one_session_is_said_once(folder: Path) -> None:
    """Also where they disagree whose it is: one of them is newer."""
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8, as_of=at(50)), session("u2", "b", 1, 5))
    put(archive, OCT, session("u1", "renamed", 0, 8, policy="Iron"), session("u3", "c", 2, 5),
        source="https://em2:9398")  # fmt: skip
    for by in ("policy", "vm"):
        for metric in (metrics.rpo_adherence, metrics.durations):
            plan = archive_plan(archive, metric, by=by).cut(holding(4), least=4)
            found = local.collect(plan, local.run_serial(plan), progress=False)
            assert_same(found, metric(archive.sessions(), by=by))
    assert "a" not in mapped(archive, metrics.gaps, memory=holding(4))["vm"].tolist()


def test_an_empty_archive_has_the_tables_of_an_empty_frame(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT)
    sessions = archive.sessions()
    before = (OCT - pd.Timedelta("1D"), OCT)
    for name in OF_SESSIONS:
        metric = getattr(metrics, name)
        asked = needed(name, sessions) | taken(name, before=before)
        assert_same(mapped(archive, metric, **asked), metric(sessions, **asked))


@st.composite
def questions(
    draw: st.DrawFn,
) -> tuple[list[dict[str, Any]], Metric, dict[str, Any], int]:
    """Sessions, a metric, its arguments, and how many ranges to cut."""
    rows = draw(some.fleets())
    name = draw(st.sampled_from(OF_SESSIONS))
    spec = REGISTRY[name]
    asked: dict[str, Any] = {
        "by": draw(st.sampled_from(some.BY)),
        "freq": draw(st.sampled_from(some.FREQUENCIES)),
        "tz": draw(st.sampled_from(some.ZONES)),
        "policies": draw(st.one_of(st.none(), some.settings_of_policies().map(some.policy_frame))),
        "unobserved": draw(st.one_of(st.none(), some.holes(rows).map(some.hole_frame))),
        "exclude": draw(st.one_of(st.none(), some.maintenance(rows).map(some.maintenance_frame))),
        "retire_after": draw(st.sampled_from([None, "1h", "1D"])),
        "target": draw(st.sampled_from([None, "30min"])),
        **draw(some.windows(rows)),
    }
    asked["freq"] = asked["freq"] or spec.freq
    if spec.looks_back:
        asked["since"] = max(row["created"] for row in rows)
        asked["until"] = None
        asked["before"] = (rows[0]["created"] - some.STEP, rows[0]["created"] + 9 * some.STEP)
    named = needed(name, some.frame(rows)) | taken(name, **asked)
    return rows, spec.function, named, draw(st.integers(1, 4))


@given(questions())
def test_any_fleet_in_any_number_of_ranges(asked: tuple[Any, ...]) -> None:
    rows, metric, named, cuts = asked
    with tempfile.TemporaryDirectory() as folder:
        archive = written(Path(folder) / "archive", rows)
        window = {name: named.get(name) for name in ("since", "until")}
        back = {"since": None} if spec_of(metric).looks_back else {}
        history = "since" in inspect.signature(metric).parameters
        sessions = archive.sessions(**(window | back), history=history)
        try:
            whole, refused = metric(sessions, **named), None
        except InputError as error:
            whole, refused = None, str(error)
        plan = archive_plan(archive, metric, **named).cut(holding(len(rows)), least=cuts)
        if refused is not None:
            with pytest.raises(InputError):
                local.collect(plan, local.run_serial(plan), progress=False)
        else:
            assert_same(local.collect(plan, local.run_serial(plan), progress=False), whole)


def written(folder: Path, rows: list[dict[str, Any]]) -> Archive:
    """Write sessions as a sync does, which leaves each uid once."""
    archive = Archive(folder)
    rows = list({row["uid"] or number: row for number, row in enumerate(rows)}.values())
    table = pd.DataFrame(rows)
    for day, of_day in table.groupby(table["created"].dt.floor("D")).groups.items():
        scan = [rows[number] for number in of_day]
        archive.put_day("sessions", EM, pd.Timestamp(day), pa.Table.from_pylist(
            scan, schema=schema.SESSIONS), at(10_000), final=True)  # fmt: skip
    return archive


# -- what is read, and in how much memory -------------------------------------------------


def test_a_range_touches_only_its_row_groups(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of other VMs may be damaged: their pages are never looked at."""
    monkeypatch.setattr(files, "ROW_GROUP", 10)
    archive = Archive(folder)
    vms = [f"vm-{number:02}" for number in range(30)]
    put(archive, OCT, *(session(f"u{vm}", vm, 0, 8) for vm in vms))
    path = next((folder / "sessions").rglob("*.parquet"))
    whole = metrics.rpo_adherence(archive.sessions(), "1h", "vm")
    plan = archive_plan(archive, metrics.rpo_adherence, target="1h", by="vm").cut("1GB", least=3)
    last = pq.ParquetFile(path).metadata.row_group(2)
    damaged = bytearray(path.read_bytes())
    for column in range(last.num_columns):
        place = last.column(column)
        begin = place.dictionary_page_offset or place.data_page_offset
        damaged[begin : begin + place.total_compressed_size] = bytes(place.total_compressed_size)
    path.write_bytes(damaged)
    tasks = list(plan.tasks())
    first = [task.compute() for task in tasks[:2]]
    assert_same(plan.result(first), whole.iloc[:20])
    with pytest.raises(ArchiveError, match="cannot be read"):
        tasks[2].compute()


def test_a_row_group_holds_the_names_of_its_own_vms(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a range of VMs could not be read without the names of all."""
    monkeypatch.setattr(files, "ROW_GROUP", 2)
    put(Archive(folder), OCT, *(session(f"u{vm}", vm, 0, 8) for vm in "abcde"))
    file = pq.ParquetFile(next((folder / "sessions").rglob("*.parquet")))
    names = [file.read_row_group(number)["vm"].chunk(0).dictionary for number in range(3)]
    assert [each.to_pylist() for each in names] == [["a", "b"], ["c", "d"], ["e"]]


def test_what_is_put_together_as_files_come_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"by": "policy", "since": "20D", "until": "2D", "memory": holding(300)}
    at_once = mapped(SAMPLE, metrics.rpo_adherence, **asked)
    monkeypatch.setattr(tables, "COMPACT_AFTER_ROWS", 0)
    assert_same(mapped(SAMPLE, metrics.rpo_adherence, **asked), at_once)


def test_few_sessions_are_measured_here_and_many_by_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    real = local.run_processes

    def with_processes(plan: Plan, workers: int) -> Iterator[tuple[int, Any]]:
        asked.append(workers)
        return real(plan, workers)

    monkeypatch.setattr(local, "run_processes", with_processes)
    monkeypatch.setattr(local, "available_cpus", lambda: 2)
    found = [mapped(SAMPLE, metrics.gaps, memory="3GB", progress=False)]
    assert asked == []
    monkeypatch.setattr(local, "MIN_SESSIONS_FOR_PROCESSES", 1_000)
    found.append(mapped(SAMPLE, metrics.gaps, memory="3GB", progress=False))
    assert asked == [2]
    assert_same(*found)


def test_processes_give_what_this_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    whole = metrics.rpo_adherence(SAMPLE.sessions(), by="policy", freq="D")
    found = mapped(
        SAMPLE,
        metrics.rpo_adherence,
        by="policy",
        freq="D",
        workers=2,
        memory="1.2GB",
        progress=True,
    )
    assert_same(found, whole)
    assert "rpo_adherence: 100%" in capsys.readouterr().err


def dies(sessions: pd.DataFrame, *_: object) -> pd.DataFrame:
    os.kill(os.getpid(), signal.SIGKILL)
    return sessions


DIES = MetricSpec(
    name="dies", command="dies", summary="kills its process", function=dies, partial=dies,
    combine=pd.concat, finalize=identity, columns=("vm", "backup_server"), by=None,
    takes=frozenset(),
)  # fmt: skip


def test_a_worker_that_is_killed_is_told_in_a_line() -> None:
    with pytest.raises(CdpError, match=r"a worker process was killed.*use a smaller memory="):
        mapped(SAMPLE, DIES, workers=2, memory="2GB", progress=False)


def test_rows_needed_together_that_do_not_fit_are_refused_never_approximated() -> None:
    with pytest.raises(InputError, match=r"must load 1,960 sessions at once.*a finer by="):
        mapped(SAMPLE, metrics.durations, by=(), memory=holding(500))
    with pytest.raises(InputError, match=r"must load .* sessions of policy='.*' at once"):
        mapped(SAMPLE, metrics.durations, by="policy", memory=holding(200))
    with pytest.raises(InputError) as refused:
        mapped(SAMPLE, metrics.gaps, memory=holding(20))
    advised = str(refused.value).split("memory='")[1].split("'")[0]
    assert len(mapped(SAMPLE, metrics.gaps, memory=advised)), "what is advised is enough"


def test_the_page_on_large_archives_shows_what_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testfile(str(ROOT / "docs/large.md"), module_relative=False)
    assert found.attempted == 4
    assert found.failed == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"memory": "much"}, "memory='much' is not an amount of memory"),
        ({"memory": "100MB"}, "less than a process takes"),
        ({"workers": 0}, "workers=0 is not a positive whole number"),
        ({"colour": "red"}, "rpo_adherence takes no colour="),
        ({"by": "host"}, "by='host' is not a column"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        mapped(SAMPLE, metrics.rpo_adherence, progress=False, **asked)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(0, 40), st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_ranges_hold_every_row_once_and_never_too_many(
    counts: list[int], more: int, least: int, nameless: bool
) -> None:
    most = max(counts) + more + nameless * counts[-1]  # which go with the last
    labels: list[Any] = [f"{number:02}" for number in range(len(counts))]
    labels = [*labels[:-1], None] if nameless else labels
    rows = pd.Series(counts, index=pd.Index(labels, dtype="str"))
    found = partition.ranges("vm", rows, most, least)
    held = np.array([within.contains(pd.Series(rows.index)) for within in found])
    assert (held.sum(axis=0) == 1).all()
    assert max(rows.to_numpy() @ held.T) <= most
    assert found[0].first is None
    assert found[-1].stop is None


@at_night
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_million_sessions_stay_in_the_memory_they_were_given(tmp_path: Path) -> None:
    told = tmp_path / "scale.json"
    subprocess.run(
        [sys.executable, "benchmarks/scale.py", "1_000_000", "--memory", "1GB", "--workers", "2",
         "--by", "", "--directory", str(tmp_path), "--output", str(told)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    row = json.loads(told.read_text())[-1]
    assert row["sessions"] > 990_000
    assert row["rows"] == 1
    assert row["peak_mb"] < 1000
