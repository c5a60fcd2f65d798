"""Make data/sample: an archive synced from a small simulated estate, the same each time: ``make sample``."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from cdpanalytics.archive import Archive
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync

SAMPLE = Path(__file__).with_name("sample")


def main() -> None:
    """Write the archive anew."""
    fleet = Fleet.generate(
        vms=16, days=45, seed=7, until=datetime(2026, 11, 2, 6, tzinfo=UTC), servers=2, policies=4
    )
    shutil.rmtree(SAMPLE, ignore_errors=True)
    with (
        Simulator(fleet, port=9398) as server,
        EnterpriseManager(server.url, "demo", "demo", cache=False) as em,
    ):
        sync(em, Archive(SAMPLE), since="46D", journal=True, allow_clock_difference=True)


if __name__ == "__main__":
    main()
