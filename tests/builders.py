"""Archives and sessions that several tests build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.execution.run import run
from cdpanalytics.sources import archive_plan

DAY = pd.Timedelta("1D")
START = pd.Timestamp("2026-10-01", tz="UTC")
SOURCES = ("https://em1.tech.local:9398", "https://em2.tech.local:9398")
POLICIES = {"Gold": "15min", "Silver": "1h", "Office hours": "1h"}
OFFICE = ("0" * 6 + "1" * 14 + "0" * 4) * 5 + "0" * 48
"""Monday to Friday, 6 to 20 o'clock."""


@dataclass(frozen=True)
class RandomArchive:
    """An archive of random sessions, and what a question about it needs besides."""

    archive: Archive
    exclusions: pd.DataFrame
    tags: pd.DataFrame


def random_archive(folder: Path, seed: int, *, days: int = 12, vms: int = 8) -> RandomArchive:
    """Write an archive of two sources with schedules, a hole, failures, moves and a VM that stops.

    Each source has a backup server of its own; VM names repeat on both. Source 1 lacks one
    day. One VM changes its policy, one stops for good, and one never succeeds.
    """
    rng = np.random.default_rng(seed)
    archive = Archive(folder)
    as_of = START + days * DAY
    for number, source in enumerate(SOURCES):
        rows = [row for vm in range(vms // 2) for row in _sessions(rng, number, vm, as_of)]
        by_day = pd.Series(rows).groupby([f"{row['created']:%Y-%m-%d}" for row in rows]).agg(list)
        missing = f"{START + int(rng.integers(3, days - 3)) * DAY:%Y-%m-%d}" if number else None
        for day in (START + offset * DAY for offset in range(days)):
            name = f"{day:%Y-%m-%d}"
            if name != missing:
                put(archive, day, by_day.get(name, []), as_of, source)
        put_policies(archive, source, number, as_of)
    holiday = START + int(rng.integers(1, days - 1)) * DAY
    exclusions = pd.DataFrame({
        "start": [holiday, holiday + DAY / 2], "end": [holiday + DAY / 3, holiday + 3 * DAY / 4],
        "vm": ["vm-1", None], "policy": [None, "Silver"],
    })  # fmt: skip
    tags = pd.DataFrame({"vm": [f"vm-{n}" for n in range(vms // 2)],
                         "department": ["Finance", "Sales"] * (vms // 4)})  # fmt: skip
    return RandomArchive(archive, exclusions, tags)


def put(
    archive: Archive,
    day: pd.Timestamp,
    rows: Sequence[dict[str, Any]],
    as_of: pd.Timestamp,
    source: str = SOURCES[0],
) -> None:
    """Write one day of a source."""
    table = pa.Table.from_pylist(list(rows), schema=schema.SESSIONS)
    archive.put_day("sessions", source, day, table, as_of, final=True)


def put_policies(archive: Archive, source: str, server: int, seen: pd.Timestamp) -> None:
    """Write the settings of the three policies of a source."""
    rows = [
        {"policy_uid": f"{server}-{name}", "policy": name, "backup_server": f"vbr{server}",
         "rpo": pd.Timedelta(rpo), "schedule": OFFICE if name == "Office hours" else None,
         "long_term": pd.Timedelta("8h"), "vms": ["never-seen"] if name == "Gold" else []}
        for name, rpo in POLICIES.items()
    ]  # fmt: skip
    archive.put_policies(source, pa.Table.from_pylist(rows, schema=schema.POLICIES), seen)


def _sessions(
    rng: np.random.Generator, server: int, vm: int, as_of: pd.Timestamp
) -> list[dict[str, Any]]:
    """Return the sessions of one VM: about 8 hours each, some late, some failed."""
    names = list(POLICIES)
    at, rows = START + pd.Timedelta(minutes=int(rng.integers(0, 600))), []
    stops = START + 5 * DAY if vm == 3 else as_of
    while at < stops:
        length = pd.Timedelta(minutes=int(rng.choice([240, 470, 480, 490])))
        running = at + length >= as_of
        failed = (vm == 2 and server == 1) or rng.random() < 0.15
        moved = vm == 1 and at > START + 6 * DAY
        policy = names[(vm + moved) % 3]
        rows.append({
            "uid": f"{server}-{vm}-{len(rows)}", "vm": f"vm-{vm}", "backup_server": f"vbr{server}",
            "policy": policy, "policy_uid": f"{server}-{policy}", "created": at,
            "ended": None if running else at + length,
            "state": "InProgress" if running else "Completed",
            "result": "Failed" if failed else "Warning" if rng.random() < 0.1 else "Success",
            "reason": "Storage is unavailable" if failed else None,
            "total_size": int(rng.integers(1, 64)) << 30, "rpo": pd.Timedelta(POLICIES[policy]), "as_of": as_of,
        })  # fmt: skip
        at += length + pd.Timedelta(minutes=int(rng.choice([0, 0, 1, 40, 300])))
    return rows


def mapped(
    archive: Archive,
    metric: Any,
    *,
    memory: str | int | None = "1GB",
    workers: int | None = None,
    progress: bool = False,
    **named: Any,
) -> pd.DataFrame:
    """Return a metric of an archive by ranges of VMs."""
    plan = archive_plan(archive, metric, **named)
    return run(plan, memory=memory, workers=workers, progress=progress)
