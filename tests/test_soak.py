"""Many syncs over many days of a server that fails in every way end with the truth."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.simulator import Fault, Fleet, Simulator
from cdpanalytics.simulator.faults import KINDS
from tests import processes
from tests.conftest import NIGHTLY, UNTIL, at_night
from tests.processes import KILLED
from tests.test_synchronize import assert_equals_truth, strays

SYNCS, DAYS = (100, 40) if NIGHTLY else (24, 10)
PASSING = [kind for kind in KINDS if kind != "silence"]


@at_night
@pytest.mark.slow
def test_many_syncs_with_faults_and_kills_end_as_the_truth(folder: Path) -> None:
    rolls = random.Random(20261120)
    fleet = Fleet.generate(vms=8, days=DAYS + 2, seed=11, until=UNTIL, servers=2, policies=3)
    begin = UNTIL - timedelta(days=DAYS)
    ends = {"killed": 0, "stopped": 0, "ended": 0}
    with Simulator(fleet, clock=lambda: begin) as server:
        for _ in range(SYNCS):
            server.advance(timedelta(days=DAYS) * rolls.uniform(0.5, 1.5) / SYNCS)
            faults = []
            if rolls.random() < 0.6:
                times = None if rolls.random() < 0.2 else rolls.randint(1, 3)
                faults = [Fault(rolls.choice(PASSING), times, rolls.randint(0, 12))]
                if faults[0] == Fault("busy", None, faults[0].after):
                    faults = [Fault("busy", 2)]  # a lasting one waits for seconds
            server.faults.set(*faults)
            _change_the_server(server, fleet, rolls)
            after = rolls.uniform(0.02, 0.5) if rolls.random() < 0.5 else None
            code, said = processes.run(
                processes.sync_in_process, server.url, folder, after=after,
                since="60D", page_size=rolls.choice([3, 10, 1000]), impatient=True,
            )  # fmt: skip
            how = "killed" if code == KILLED else "stopped" if "error" in str(said) else "ended"
            ends[how] += 1
            if folder.exists():
                assert Archive(folder).verify().empty
        server.faults.set()
        server.collect()
        server.hidden, server.date_ahead = set(), timedelta()
        code, said = processes.run(processes.sync_in_process, server.url, folder, since="60D")
        assert code == 0, said
        archive = Archive(folder)
        assert_equals_truth(archive, fleet, server)
    assert archive.verify().empty
    assert archive.holes().empty
    assert archive.sessions()["uid"].is_unique
    assert not strays(folder)
    # How many of the kills come before the end depends on the machine.
    assert min(ends["killed"], ends["ended"]) >= SYNCS // 20, ends


def _change_the_server(server: Simulator, fleet: Fleet, rolls: random.Random) -> None:
    """Let collection stall, the account's scope narrow, the database be restored, or the clock be wrong."""
    names = [backup_server.name for backup_server in fleet.servers]
    roll = rolls.random()
    if roll < 0.05:
        server.stop_collecting(rolls.choice(names))
    elif roll < 0.08:
        server.stop_collecting()
    elif roll < 0.11:
        server.stop_collecting(at=server.clock() - timedelta(days=rolls.uniform(0.2, 3)))
    elif roll < 0.14:
        server.hidden = {rolls.choice(names)}
    elif roll < 0.17:
        server.date_ahead = timedelta(hours=rolls.choice([-30, -2, 2, 50]))
    elif roll < 0.40:  # after a few syncs all is well again
        server.collect()
        server.hidden, server.date_ahead = set(), timedelta()
