"""The self-contained demonstration: simulated server, sync, metrics, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.schema import KEYS
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import SyncResult, sync

INCIDENTS = 4
"""Incidents of many VMs that are planted besides the storage outage of every simulated estate."""


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration left: the archive, the report, and the three worst VMs."""

    archive: Path
    report: Path
    synced: SyncResult
    worst: pd.DataFrame


def demo(
    directory: str | Path = "demo",
    *,
    vms: int = 60,
    days: int = 30,
    seed: int = 1,
    progress: bool = True,
) -> Demonstration:
    """Sync a simulated Enterprise Manager on loopback and report on it.

    Parameters
    ----------
    directory : path-like
        Where the archive and ``report.html`` go; made if it is not there.
    vms, days, seed : int
        The simulated estate: the same numbers give the same estate.
    progress : bool
        Show bars on stderr.

    Returns
    -------
    Demonstration

    Raises
    ------
    InputError
        When `vms` or `days` is below 1.
    """
    if vms < 1 or days < 1:
        raise InputError(f"vms={vms}, days={days}: a demonstration needs at least one of each")
    home = Path(directory)
    archive = Archive(home / "archive")
    fleet = Fleet.generate(vms=vms, days=days, seed=seed, incidents=INCIDENTS)
    with (
        Simulator(fleet) as server,
        EnterpriseManager(server.url, "demo", "demo", cache=False) as em,
    ):
        synced = sync(em, archive, since=f"{days}D", progress=progress)
    selection = archive.select()
    page = selection.report(home / "report.html", title="Demonstration: a simulated estate")
    adherence = selection.rpo_adherence(by=KEYS)
    worst = adherence.sort_values("breached", ascending=False, kind="stable").head(3)
    return Demonstration(home / "archive", page, synced, worst.reset_index(drop=True))
