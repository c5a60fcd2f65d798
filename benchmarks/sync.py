"""Sync beside what one would write by hand: sessions a second and peak memory, each in a process of its own.

    python benchmarks/sync.py [--vms 20000] [--days 30]

The simulated Enterprise Manager runs in a third process and takes its share of the cores, of both alike.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

UNTIL = datetime(2026, 11, 20, 12, tzinfo=UTC)


def serve(vms: int, days: int, ready: Any) -> None:
    from cdpanalytics.simulator import Fleet
    from cdpanalytics.simulator import serve as run

    fleet = Fleet.generate(vms=vms, days=days, seed=1, until=UNTIL, policies=40, servers=6)
    run(fleet, ready=lambda server: ready.put(server.url), clock=lambda: UNTIL)


def with_sync(url: str, days: int, folder: str) -> int:
    from cdpanalytics.archive import Archive
    from cdpanalytics.client import EnterpriseManager
    from cdpanalytics.sync import sync

    with EnterpriseManager(url, "demo", "demo", cache=False) as em:
        return sync(em, Archive(folder), since=f"{days + 1}D", progress=False).sessions


def by_hand(url: str, days: int, folder: str) -> int:
    """Page through each day with requests, a list of dicts, one frame, one Parquet file."""
    import pandas as pd
    import requests

    session = requests.Session()
    answer = session.post(f"{url}/api/sessionMngr/?v=latest", auth=("demo", "demo"))
    session.cookies.clear()
    session.headers.update({"Accept": "application/json",
                            "X-RestSvcSessionId": answer.headers["X-RestSvcSessionId"]})  # fmt: skip
    rows: list[dict[str, Any]] = []
    for number in range(days + 2):
        begin = (UNTIL - timedelta(days=days + 1 - number)).replace(hour=0)
        wanted = {
            "type": "CdpReplicaTaskSession", "format": "Entities", "pageSize": 1000, "page": 1,
            "sortAsc": "CreationTimeUTC",
            "filter": f'CreationTimeUTC>="{begin:%Y-%m-%dT00:00:00Z}";'
                      f'CreationTimeUTC<"{begin + timedelta(days=1):%Y-%m-%dT00:00:00Z}"',
        }  # fmt: skip
        pages = 1
        while int(wanted["page"]) <= pages:
            body = session.get(f"{url}/api/query", params=wanted).json()
            rows += body["Entities"]["CdpReplicaTaskSessions"]["CdpReplicaTaskSessions"]
            pages = body["PagingInfo"]["PagesCount"]
            wanted["page"] = int(wanted["page"]) + 1
    frame = pd.DataFrame(rows).drop(columns="Links").drop_duplicates("UID")
    for column in ("CreationTimeUTC", "EndTimeUTC"):
        frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    Path(folder).mkdir()
    frame.to_parquet(f"{folder}/all.parquet")
    return len(frame)


def measured(
    way: Callable[[str, int, str], int], url: str, days: int, folder: str, said: Any
) -> None:
    begun = time.perf_counter()
    count = way(url, days, folder)
    took = time.perf_counter() - begun
    said.put((count, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--alone", action="store_true", help="leave out what is written by hand")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready, said = context.SimpleQueue(), context.SimpleQueue()
    server = context.Process(target=serve, args=(options.vms, options.days, ready), daemon=True)
    server.start()
    url, home = ready.get(), tempfile.mkdtemp()
    print(f"{os.cpu_count()} cores, {options.vms:,} VMs, {options.days} days")
    print(f"{'':24}{'sessions':>12}{'seconds':>10}{'a second':>10}{'peak MB':>9}{'on disk MB':>12}")
    figures = {}
    for name, way in (("cdpanalytics sync", with_sync), ("requests, json, pandas", by_hand)):
        if way is by_hand and options.alone:
            continue
        folder = f"{home}/{way.__name__}"
        process = context.Process(target=measured, args=(way, url, options.days, folder, said))
        process.start()
        count, took, peak = figures[name] = said.get()
        process.join()
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet")) / 2**20
        print(f"{name:24}{count:12,}{took:10.1f}{count / took:10,.0f}{peak:9,.0f}{disk:12,.0f}")
    if len(figures) == 2:
        (_, ours, small), (_, theirs, large) = figures.values()
        print(f"by hand: {theirs / ours:.1f} times as long, {large / small:.1f} times the memory")
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
