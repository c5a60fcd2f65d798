"""Time a sync that reconciles a quarter of a large estate, beside the first sync of it.

    python benchmarks/reconciling.py [--vms 20000] [--days 90]

The simulated Enterprise Manager runs in a process of its own and takes its share of the cores,
of all alike; each sync runs in another one. Nothing changes on the server between them, so a
sync that reconciles asks for the count of each settled day and fetches the last week again.
It exits with 1 when that takes more than a tenth of the first sync.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import shown
import timing

UNTIL = datetime(2026, 11, 20, 12, tzinfo=UTC)

WAYS = {"first sync": False, "sync, reconciling": False, "sync --quick": True}
"""In this order, on one archive; whether it is quick."""

SHARE = 0.1
"""What a reconciling sync may take of a first one."""


def serve(vms: int, days: int, ready: Any, count: Any, counted: Any) -> None:
    """Serve an estate; answer each message of a queue with the number of requests so far."""
    from cdpanalytics.simulator import Fleet, Simulator
    from cdpanalytics.simulator import serve as run

    def answer(server: Simulator) -> None:
        while count.get():
            counted.put(len(server.requests))

    def announce(server: Simulator) -> None:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        ready.put(server.url)

    fleet = Fleet.generate(vms=vms, days=days, seed=1, until=UNTIL, policies=40, servers=6)
    run(fleet, ready=announce, clock=lambda: UNTIL)


def one(url: str, days: int, folder: str, quick: bool) -> dict[str, Any]:
    """Sync once in this process; what is imported before is not counted."""
    from cdpanalytics.archive import Archive
    from cdpanalytics.server.client import EnterpriseManager
    from cdpanalytics.synchronize import sync

    begun, used = timing.now()
    with EnterpriseManager(url, "demo", "demo", cache=False) as em:
        result = sync(
            em, Archive(folder), since=f"{days}D", quick=quick, progress=False,
            allow_clock_difference=True,
        )  # fmt: skip
    wall, cpu = timing.now()
    return {
        "sessions": result.sessions, "days": result.days,
        "seconds": wall - begun, "cpu": cpu - used, "peak_mb": timing.peak_mb(),
    }  # fmt: skip


def main() -> int:
    """Print one row per sync."""
    parser = timing.arguments(__doc__, repeat=1)
    parser.add_argument("--vms", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=90)
    options = parser.parse_args()
    if options.one:
        url, days, folder, quick = options.one
        print(json.dumps(one(url, int(days), folder, quick == "True")))
        return 0
    context = multiprocessing.get_context("spawn")
    ready, count, counted = (context.SimpleQueue() for _ in range(3))
    arguments = (options.vms, options.days, ready, count, counted)
    server = context.Process(target=serve, args=arguments, daemon=True)
    server.start()
    url, rows, requests = ready.get(), [], 0
    with tempfile.TemporaryDirectory() as home:
        for way, quick in WAYS.items():
            row = timing.alone(__file__, url, options.days, f"{home}/archive", quick)
            count.put(True)
            total = counted.get()
            rows.append({"what": "reconciling", "way": way, "vms": options.vms,
                         "requests": total - requests, **row})  # fmt: skip
            requests = total
    server.terminate()
    rows = [timing.machine("requests", "msgspec", "pyarrow", "pandas"), *rows]
    timing.told(rows, shown.reconciling(rows), options.output)
    first, again = rows[1], rows[2]
    return int(again["seconds"] > SHARE * first["seconds"])


if __name__ == "__main__":
    sys.exit(main())
