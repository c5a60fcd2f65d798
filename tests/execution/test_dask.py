"""The metrics on a Dask cluster of processes are those of the whole frame, whatever becomes of its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from cdpanalytics import cluster, metrics
from cdpanalytics.archive import Archive
from cdpanalytics.errors import ArchiveError, CdpError, ConfigError, InputError
from cdpanalytics.execution import dask as dask_runner
from cdpanalytics.frames import unmarked
from cdpanalytics.metrics.core.spec import identity
from cdpanalytics.metrics.registry import REQUIRED, MetricSpec
from cdpanalytics.sources import archive_plan
from tests.archive.test_archive import OCT, put, session
from tests.builders import mapped
from tests.conftest import NIGHTLY, at_night
from tests.execution.test_map import (
    DIES,
    EVERY,
    Metric,
    assert_same,
    holding,
    rows_of,
)
from tests.metrics.asked import needed

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Archive(ROOT / "data/sample")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


def local(workers: int) -> LocalCluster:
    """A scheduler and worker processes on loopback."""
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", memory_limit="2GB",
    )  # fmt: skip


@pytest.fixture(scope="module")
def two_workers() -> Iterator[LocalCluster]:
    with local(2) as made:
        yield made


@pytest.fixture
def client(two_workers: LocalCluster) -> Iterator[Client]:
    with Client(two_workers) as made:
        yield made


def on_cluster(
    metric: Metric, *, client: Any = None, memory: str | int | None = None, **named: Any
) -> pd.DataFrame:
    return dask_runner.run_cluster(archive_plan(SAMPLE, metric, **named), client, memory)


# -- equal to the digit -------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric", EVERY if NIGHTLY else EVERY[::3], ids=lambda metric: metric.__name__
)
def test_every_metric_is_that_of_the_whole_frame(metric: Metric, client: Client) -> None:
    rows = rows_of(SAMPLE, metric)
    asked = needed(metric.__name__, rows)
    found = on_cluster(metric, memory=holding(900), client=client, **asked)
    assert_same(found, metric(rows, **asked))


@pytest.mark.parametrize("by", ["vm", "policy", "backup_server", ()], ids=str)
def test_where_groups_are_policies_sums_are_merged_exactly(by: Any, client: Client) -> None:
    asked: dict[str, Any] = {
        "by": by, "freq": "D", "policies": SAMPLE.policies(), "unobserved": SAMPLE.holes(),
    }  # fmt: skip
    found = on_cluster(metrics.rpo_adherence, memory=holding(900), **asked)
    assert_same(found, metrics.rpo_adherence(SAMPLE.sessions(), **asked))
    assert_same(found, mapped(SAMPLE, metrics.rpo_adherence, workers=1, progress=False, **asked))


def test_a_quantile_has_whole_policies_or_is_refused(client: Client) -> None:
    whole = metrics.durations(SAMPLE.sessions(), by="policy")
    found = on_cluster(metrics.durations, by="policy", memory=holding(1_000))
    assert_same(found, whole)
    with pytest.raises(InputError, match=r"must load .* sessions of policy='.*' at once"):
        on_cluster(metrics.durations, by="policy", memory=holding(200))


def test_a_window_and_a_selection_are_read_as_at_home(client: Client) -> None:
    asked: dict[str, Any] = {"since": "10D", "until": "2D", "policy": "G*", "by": "vm"}
    at_home = mapped(SAMPLE, metrics.rpo_adherence, workers=1, progress=False, **asked)
    assert_same(on_cluster(metrics.rpo_adherence, **asked), at_home)
    assert 0 < len(at_home) < SAMPLE.sessions()["vm"].nunique()


# -- a frame of Dask's ---------------------------------------------------------------------


def test_a_frame_has_all_rows_of_a_vm_in_one_partition(client: Client) -> None:
    frame = cluster.sessions(SAMPLE, memory=holding(400))
    assert frame.npartitions > 3
    partitions = [part.compute() for part in frame.partitions]
    names = [set(part["vm"].astype("str")) for part in partitions]
    assert sum(map(len, names)) == len(set.union(*names)) == SAMPLE.sessions()["vm"].nunique()
    whole = unmarked(SAMPLE.sessions())
    labels = {name: "str" for name in whole if whole[name].dtype == "category"}
    found, told = (
        rows.astype(labels).sort_values("uid", ignore_index=True)
        for rows in (pd.concat(partitions), whole)
    )
    assert_same(found, told)
    assert frame.dtypes["uid"] == whole.dtypes["uid"]


def test_a_metric_is_mapped_over_its_partitions(client: Client) -> None:
    rows = SAMPLE.sessions()
    frame = cluster.sessions(SAMPLE, memory=holding(400))
    found = frame.map_partitions(metrics.rpo_adherence, by="vm", as_of=rows["as_of"].max())
    assert_same(found.compute().reset_index(drop=True), metrics.rpo_adherence(rows, by="vm"))


def test_a_frame_of_a_window_has_its_history(client: Client) -> None:
    since, until = SAMPLE.window("10D", "2D")
    rows = SAMPLE.read(since, until, vm="*", neighbours=True)
    frame = cluster.sessions(SAMPLE, since="10D", until="2D", vm="*", memory=holding(400))
    assert sorted(frame["uid"].compute()) == sorted(rows["uid"])


# -- workers that are lost -----------------------------------------------------------------


def stricken(sessions: pd.DataFrame, *_: object, told: str) -> pd.DataFrame:
    """Count sessions by VM; who comes first writes its process id and stands still for good."""
    try:
        with Path(told).open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return sessions.groupby(sessions["vm"].astype("str")).size().rename("rows").reset_index()
    while True:
        time.sleep(1)


STRICKEN = MetricSpec(
    name="stricken", command="stricken", summary="stands still", function=stricken,
    partial=stricken, combine=pd.concat, finalize=identity, columns=("vm", "backup_server"),
    by=None, takes=frozenset(), own={"told": REQUIRED},
)  # fmt: skip


@at_night
def test_a_worker_that_is_killed_as_it_computes_changes_nothing(tmp_path: Path) -> None:
    told = tmp_path / "told"

    def kill() -> None:
        while not (told.exists() and told.read_text()):
            time.sleep(0.01)
        os.kill(int(told.read_text()), signal.SIGKILL)

    with local(2) as dask, Client(dask) as client:
        workers = client.run(os.getpid).values()
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        found = on_cluster(STRICKEN, told=str(told), memory=holding(300))
        killer.join()
    assert int(told.read_text()) in workers
    counts = SAMPLE.sessions()["vm"].astype("str").value_counts()
    assert found.set_index("vm")["rows"].to_dict() == counts.to_dict()


def test_a_range_that_kills_whoever_takes_it_is_told_in_a_line() -> None:
    with local(1) as dask, Client(dask):
        dask.scheduler.allowed_failures = 0  # by default three, and a worker begun anew for each
        with pytest.raises(CdpError, match=r"workers were lost over one range.*smaller memory="):
            on_cluster(DIES, memory=holding(2_000))


# -- who is asked, and what can go wrong ------------------------------------------------------


@at_night
def test_any_schedulers_address_will_do(two_workers: LocalCluster) -> None:
    """Also of one that was started by hand, as another machine's would be."""
    whole = metrics.gaps(SAMPLE.sessions())
    assert_same(on_cluster(metrics.gaps, client=two_workers.scheduler_address), whole)
    with ByHand() as address:
        assert_same(on_cluster(metrics.gaps, client=address), whole)


class ByHand:
    """A scheduler and a worker as an administrator starts them: dask scheduler, dask worker."""

    def __enter__(self) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.scheduler = subprocess.Popen(
            [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0",
             "--no-dashboard", "--no-show"],
            stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert self.scheduler.stderr is not None
        said = next(line for line in self.scheduler.stderr if "Scheduler at:" in line)
        address = said.split()[-1]
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "dask", "worker", address, "--host", "127.0.0.1",
             "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "2GB"],
            stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        return address

    def __exit__(self, *error: object) -> None:
        for process in (self.worker, self.scheduler):
            process.kill()
            process.wait()
        assert self.scheduler.stderr is not None
        self.scheduler.stderr.close()


def test_what_is_wrong_on_a_worker_is_told_as_at_home(client: Client, folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 0, 8))
    plan = archive_plan(archive, metrics.gaps).cut("1GB")
    next((folder / "sessions").rglob("*.parquet")).write_bytes(b"torn")
    with pytest.raises(ArchiveError, match=r"2026-10-01\.parquet cannot be read; see:"):
        dask_runner.run_cluster(plan, client, memory="1GB")


def test_without_a_client_or_a_scheduler_it_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"no client of a cluster; give client="):
        on_cluster(metrics.gaps)
    patience = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    refused = pytest.raises(CdpError, match=r"no scheduler of Dask answers at tcp://127.0.0.1:9: ")
    with patience, refused:
        on_cluster(metrics.gaps, client="tcp://127.0.0.1:9")


def test_without_dask_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    for ask in (on_cluster, lambda metric: cluster.sessions(SAMPLE)):
        with pytest.raises(ConfigError, match=r'pip install "cdpanalytics\[cluster\]"'):
            ask(metrics.gaps)
