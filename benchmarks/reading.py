"""Time the opening of a month of a year's archive beside pandas and pyarrow reading the same files.

How many bytes each asks of the system is counted as well: what is not read costs nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))

import shown
import timing

import data

SINCE, UNTIL = pd.Timestamp("2025-06-01", tz="UTC"), pd.Timestamp("2025-07-01", tz="UTC")
MONTH = "2025-06-*.parquet"
VMS = ["vm-00017.tech.local", "vm-00042.tech.local"]
POLICY = "policy-07"
Read = Callable[[], pd.DataFrame]


def ours(folder: str, chosen: str) -> Read:
    from cdpanalytics.archive import Archive

    archive = Archive(folder)
    wanted: dict[str, Any] = {
        "month": {},
        "month, 2 VMs": {"vm": VMS},
        "month, 1 policy": {"policy": POLICY},
    }
    if chosen == "year":
        return archive.sessions
    return lambda: archive.sessions(SINCE, UNTIL, **wanted[chosen])


def filters(chosen: str, *, dated: bool = True) -> list[tuple[str, str, Any]]:
    """The choice as pandas and pyarrow take it; `dated` where the files chosen do not tell the month."""
    month: list[tuple[str, str, Any]] = [("created", ">=", SINCE), ("created", "<", UNTIL)]
    named = {"month, 2 VMs": [("vm", "in", VMS)], "month, 1 policy": [("policy", "==", POLICY)]}
    return ([] if chosen == "year" or not dated else month) + named.get(chosen, [])


def with_pandas(folder: str, chosen: str) -> Read:
    """`pandas.read_parquet` of the directory, with filters."""
    return lambda: pd.read_parquet(f"{folder}/sessions", filters=filters(chosen) or None)


def with_pyarrow(folder: str, chosen: str) -> Read:
    """A pyarrow data set of the directory, filtered."""
    told = pq.filters_to_expression(filters(chosen)) if filters(chosen) else None
    return lambda: ds.dataset(f"{folder}/sessions").to_table(filter=told).to_pandas()


def with_names(folder: str, chosen: str) -> Read:
    """pyarrow, told which files have the month: what one writes who knows the layout."""
    pattern = "*.parquet" if chosen == "year" else MONTH

    def read() -> pd.DataFrame:
        files = sorted(map(str, Path(folder).rglob(pattern)))
        return pq.read_table(files, filters=filters(chosen, dated=False) or None).to_pandas()

    return read


WAYS: dict[str, Callable[[str, str], Read]] = {
    "cdpanalytics": ours,
    "pandas.read_parquet": with_pandas,
    "pyarrow.dataset": with_pyarrow,
    "pyarrow, files named": with_names,
}
CHOICES = ("month", "month, 2 VMs", "month, 1 policy", "year")


def bytes_read() -> int:
    """What this process has asked of the system so far; 0 where that is not told."""
    with suppress(OSError):
        return int(Path("/proc/self/io").read_text().split()[1])
    return 0


def figures(frame: pd.DataFrame) -> list[int]:
    """Alike where two frames are: how many rows, and sums over them."""
    size = frame["total_size"].fillna(0).astype("int64").sum()
    names = frame["vm"].astype(str).str[3:8].astype("int64").sum()
    return [len(frame), int(size), int(names), int(frame["created"].astype("int64").sum() % 10**15)]


def one(way: str, chosen: str, folder: str, repeat: int) -> dict[str, Any]:
    read = WAYS[way](folder, chosen)
    before = bytes_read()
    found = figures(read())
    mb = (bytes_read() - before) / 1e6
    return {**timing.measured(read, repeat), "mb_read": mb, "figures": found}


def groups(folder: str) -> tuple[int, int, float]:
    """How many files and row groups there are, and their megabytes."""
    files = sorted(Path(folder).rglob("sessions/*/*.parquet"))
    return (
        len(files),
        sum(pq.ParquetFile(file).num_row_groups for file in files),
        sum(file.stat().st_size for file in files) / 1e6,
    )


def main() -> int:
    """Print one row per choice and way; exit 1 when they differ."""
    parser = timing.arguments(__doc__, repeat=5)
    parser.add_argument("--sizes", default="1000000,10000000", help="sessions, apart by commas")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one, options.repeat)))
        return 0
    rows = [timing.machine("pandas", "pyarrow")]
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            data.write(size, folder)
            files, count, mb = groups(folder)
            for chosen in CHOICES:
                if chosen == "year" and size > 1_000_000:
                    continue  # 10 GB a way
                found = {way: timing.alone(__file__, way, chosen, folder, "--repeat", options.repeat)
                         for way in WAYS}  # fmt: skip
                expected = found["cdpanalytics"]["figures"]
                for way, row in found.items():
                    figures = row.pop("figures")
                    rows.append({
                        "what": "reading", "sessions": size, "files": files, "row_groups": count,
                        "archive_mb": mb, "chosen": chosen, "way": way, "rows": figures[0], **row,
                        "agrees": figures == expected,
                    })  # fmt: skip
    timing.told(rows, shown.reading(rows), options.output)
    return int(any(row.get("agrees") is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
