"""Many VMs: a sync keeps no more in memory than a few days."""

from __future__ import annotations

import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cdpanalytics.simulator import Fleet, Simulator
from tests import processes
from tests.conftest import at_night

UNTIL = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIMIT = 500


def measured(url: str, folder: Path, said: Any, **options: Any) -> None:
    processes.sync_in_process(url, folder, said, **options)
    told = said.get()
    said.put((told, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


@at_night
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in other units")
def test_twenty_thousand_vms_sync_in_500_mb(folder: Path) -> None:
    """Days are as large as with 30 of them (`benchmarks/sync.py`), and memory holds days."""
    fleet = Fleet.generate(vms=20_000, days=5, seed=1, until=UNTIL, policies=40, servers=6)
    with Simulator(fleet, clock=lambda: UNTIL) as server:
        code, said = processes.run(measured, server.url, folder, after=240, since="6D")
    assert code == 0
    assert said is not None
    told, peak = said
    assert "a second)" in told, "the rate is shown"
    assert int(told.split(" ")[0].replace(",", "")) > 300_000
    assert peak < LIMIT
