"""Time a whole sync beside the same pages downloaded and thrown away, and beside what one writes by hand.

    python benchmarks/sync.py [--vms 20000] [--days 3]

Each runs in a process of its own. The simulated Enterprise Manager runs in another one and
takes its share of the cores, of all alike; downloading alone is therefore the limit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import shown
import timing

UNTIL = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARALLEL = 4
"""Requests in flight, as the client has them."""

PAGE = 1000


def serve(vms: int, days: int, ready: Any) -> None:
    from cdpanalytics.simulator import Fleet
    from cdpanalytics.simulator import serve as run

    fleet = Fleet.generate(vms=vms, days=days, seed=1, until=UNTIL, policies=40, servers=6)
    run(fleet, ready=lambda server: ready.put(server.url), clock=lambda: UNTIL)


# -- the ways: each takes the server, the days, an empty folder; returns sessions and bytes ------


def with_sync(url: str, days: int, folder: str) -> dict[str, int]:
    from cdpanalytics.archive import Archive
    from cdpanalytics.server.client import EnterpriseManager
    from cdpanalytics.synchronize import sync

    with EnterpriseManager(url, "demo", "demo", cache=False) as em:
        result = sync(
            em, Archive(folder), since=f"{days}D", progress=False, allow_clock_difference=True
        )
        return {"sessions": result.sessions}


def sync_again(url: str, days: int, folder: str) -> dict[str, int]:
    """The sync an hour later: the archive is there, only what may have changed is asked for."""
    return with_sync(url, days, f"{folder}/../with_sync")


def sessions(url: str, days: int, folder: str, *, cache: bool = False) -> dict[str, int]:
    """The same as one frame, in a notebook."""
    from cdpanalytics.server.client import EnterpriseManager

    os.environ["XDG_CACHE_HOME"] = f"{folder}/../cache"
    with EnterpriseManager(url, "demo", "demo", cache=cache) as em:
        return {"sessions": len(em.sessions(since=f"{days}D"))}


def sessions_cached(url: str, days: int, folder: str) -> dict[str, int]:
    return sessions(url, days, folder, cache=True)


def windows(days: int) -> list[tuple[datetime, datetime]]:
    midnight = UNTIL.replace(hour=0)
    starts = [midnight - timedelta(days=number) for number in range(days, -1, -1)]
    return [(start, min(start + timedelta(days=1), UNTIL)) for start in starts]


def asked(
    begin: datetime, end: datetime, page: int, kind: str = "CdpReplicaTaskSession"
) -> dict[str, Any]:
    return {
        "type": kind, "format": "Entities", "pageSize": PAGE, "page": page,
        "sortAsc": "CreationTimeUTC",
        "filter": f'CreationTimeUTC>="{begin:%Y-%m-%dT%H:%M:%SZ}";CreationTimeUTC<"{end:%Y-%m-%dT%H:%M:%SZ}"',
    }  # fmt: skip


def session(url: str, token: str | None = None) -> Any:
    import requests

    made = requests.Session()
    if token is None:
        answer = made.post(f"{url}/api/sessionMngr/?v=latest", auth=("demo", "demo"))
        token = answer.headers["X-RestSvcSessionId"]
        made.cookies.clear()
    made.headers.update({"Accept": "application/json", "X-RestSvcSessionId": str(token)})
    return made


def download(url: str, days: int, folder: str) -> dict[str, int]:
    """The pages, as many at once as the client asks for, and nothing done with them."""
    token = session(url).headers["X-RestSvcSessionId"]
    mine = threading.local()

    def fetch(wanted: dict[str, Any]) -> bytes:
        if not hasattr(mine, "session"):
            mine.session = session(url, token)
        return bytes(mine.session.get(f"{url}/api/query", params=wanted).content)

    # What a sync needs besides: the policies, and the policy sessions that the days belong to.
    policies = fetch({"type": "CdpPolicy", "format": "Entities", "pageSize": PAGE, "page": 1})
    begin = windows(days)[0][0] - timedelta(days=2)
    total = len(policies) + len(fetch(asked(begin, UNTIL, 1, "CdpReplicaSession")))
    count = 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        firsts = pool.map(lambda window: fetch(asked(*window, 1)), windows(days))
        for window, first in zip(windows(days), firsts, strict=True):
            pages = int(re.search(rb'"PagesCount":(\d+)', first)[1])  # type: ignore[index]
            rest = pool.map(fetch, [asked(*window, page) for page in range(2, pages + 1)])
            for body in (first, *rest):
                total += len(body)
                count += body.count(b'"Type":"CdpReplicaTaskSession"}')
    return {"sessions": count, "bytes": total}


def by_hand(url: str, days: int, folder: str) -> dict[str, int]:
    """Page through each day with requests, a list of dicts, one frame, one Parquet file."""
    import pandas as pd

    asking = session(url)
    rows: list[dict[str, Any]] = []
    for window in windows(days):
        page = pages = 1
        while page <= pages:
            body = asking.get(f"{url}/api/query", params=asked(*window, page)).json()
            rows += body["Entities"]["CdpReplicaTaskSessions"]["CdpReplicaTaskSessions"]
            pages, page = body["PagingInfo"]["PagesCount"], page + 1
    frame = pd.DataFrame(rows).drop(columns="Links").drop_duplicates("UID")
    for column in ("CreationTimeUTC", "EndTimeUTC"):
        frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    Path(folder).mkdir()
    frame.to_parquet(f"{folder}/all.parquet")
    return {"sessions": len(frame)}


WAYS: dict[str, Callable[[str, int, str], dict[str, int]]] = {
    "downloaded and thrown away": download,
    "cdpanalytics sync": with_sync,
    "cdpanalytics sync, again": sync_again,
    "by hand: requests, json, pandas": by_hand,
    "em.sessions()": sessions,
    "em.sessions(), filling the page cache": sessions_cached,
    "em.sessions(), from the page cache": sessions_cached,
}


COMPARED = ("downloaded and thrown away", "cdpanalytics sync", "by hand: requests, json, pandas")
"""These several times, the others once."""


def one(way: str, url: str, days: int, home: str) -> dict[str, Any]:
    """Do it once in this process; what is imported before is not counted."""
    for name in ("requests", "pandas", "cdpanalytics.synchronize"):
        __import__(name)
    begun, used = timing.now()
    found = WAYS[way](url, days, f"{home}/{WAYS[way].__name__}")
    wall, cpu = timing.now()
    return {**found, "seconds": wall - begun, "cpu": cpu - used, "peak_mb": timing.peak_mb()}


def main() -> int:
    """Print one row per way: the least of some runs, in turn; exit 1 when sessions differ."""
    parser = timing.arguments(__doc__, repeat=3)
    parser.add_argument("--vms", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=3)
    options = parser.parse_args()
    if options.one:
        way, url, days, home = options.one
        print(json.dumps(one(way, url, int(days), home)))
        return 0
    context = multiprocessing.get_context("spawn")
    ready = context.SimpleQueue()
    server = context.Process(target=serve, args=(options.vms, options.days, ready), daemon=True)
    server.start()
    url = ready.get()
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(options.repeat):
        with tempfile.TemporaryDirectory() as home:
            for way in COMPARED if number else runs:
                runs[way].append(timing.alone(__file__, way, url, options.days, home))
    server.terminate()
    rows = [timing.machine("requests", "requests-cache", "msgspec", "pyarrow", "pandas")]
    rows += [
        {"what": "sync", "way": way, "vms": options.vms, "days": options.days, **timing.least(found)}
        for way, found in runs.items()
    ]  # fmt: skip
    timing.told(rows, shown.sync(rows), options.output)
    whole = {row["sessions"] for row in rows[1:] if not row["way"].endswith("again")}
    return int(len(whole) > 1)


if __name__ == "__main__":
    sys.exit(main())
