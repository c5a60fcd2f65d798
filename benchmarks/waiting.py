"""Time whole commands, from start to end, beside a Polars script that reads a year and prints one metric.

A report is shown as well beside the sum of what no report can do without: its imports, and the
columns of its window read once with pyarrow.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import peers
import shown
import timing

import data

POLARS = "a Polars script: the year's adherence by VM"
PARTS = "imports and reading of a report of 30 days"
WAITED: dict[str, tuple[str, ...]] = {
    "metrics rpo, year": ("metrics", "rpo", "--by", "vm"),
    "metrics rpo, 30 days": ("metrics", "rpo", "--by", "vm", "--since", "30D"),
    "metrics durations, year": ("metrics", "durations", "--by", "policy"),
    "status": ("status",),
    "check, 30 days": ("check", "--since", "30D"),
    "report, 30 days": ("report", "--since", "30D", "--output", "report.html"),
    "report, year": ("report", "--output", "report.html"),
}
GOALS = {"status": 1.0, "check, 30 days": 1.0, "report, 30 days": 3.0, "report, year": 5.0,
         "explore, year": 2.0} | {name: 1.0 for name in WAITED if "metrics" in name}  # fmt: skip
"""How many times as long as the Polars script each may take."""

LARGE = (3_000, 10_000)
"""VMs of the archives that are only opened: the sessions of three years, and of one."""

EXPLORE = "import cdpanalytics as cdp, sys; cdp.explore(cdp.Archive(sys.argv[1]))"
SECTIONS = {
    "reading the archive": ("archive/archive.py", "read"),
    "metrics": ("sources.py", "of"),
    "pictures": ("reports/html.py", "_pictures"),
    "tables of words": ("presentation/html.py", "table"),
    "template": ("jinja2/environment.py", "render"),
}
"""Where the time of a report goes: functions, of which the whole time is counted."""


def by_hand(folder: str) -> None:
    """What a good engineer writes with Polars: read, compute, print."""
    print(peers.ScannedByPolars(folder).rpo_adherence())


def parts(folder: str) -> None:
    """What no report can do without: its imports, and the columns of its window read once."""
    import pyarrow.parquet as pq

    import cdpanalytics.reports.html  # noqa: F401 - the imports are what is timed
    from cdpanalytics.metrics.registry import metric_columns

    files = sorted(Path(folder).rglob("sessions/*/*.parquet"))[-31:]
    pq.read_table(files, columns=list(metric_columns()))


def profile(archive: str, output: Path) -> list[dict[str, Any]]:
    """Where the time of a report of 30 days goes."""
    from cdpanalytics import Archive

    Archive(archive).select(since="30D").report(output)  # the first one imports
    profiler = cProfile.Profile()
    profiler.enable()
    Archive(archive).select(since="30D").report(output)
    profiler.disable()
    stats = pstats.Stats(profiler)
    found: dict[str, float] = {}
    for (file, _, name), (*_, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        for section, (end, function) in SECTIONS.items():
            if file.endswith(end) and name == function:
                found[section] = max(found.get(section, 0), cumulative)
    total = stats.total_tt  # type: ignore[attr-defined]
    return [
        {"what": "section", "section": section, "share": spent / total}
        for section, spent in found.items()
    ]


def main() -> int:
    """Print one row per command; each in turn, round by round, so that all see the same machine."""
    parser = timing.arguments(__doc__, repeat=5)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument(
        "--large", type=int, default=10_000_000, help="sessions of the archive that is only opened"
    )
    options = parser.parse_args()
    if options.one:
        action, folder = options.one
        {"by_hand": by_hand, "parts": parts}[action](folder)
        return 0
    here = str(Path(__file__).resolve())
    with tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder) / "archive")
        data.write(options.sessions, archive)
        waited = {
            POLARS: (here, "--one", "by_hand", archive),
            **{
                name: ("-m", "cdpanalytics", *command, "--archive", archive)
                for name, command in WAITED.items()
            },
            "explore, year": ("-c", EXPLORE, archive),
            PARTS: (here, "--one", "parts", archive),
        }
        runs: dict[str, list[timing.Row]] = {name: [] for name in waited}
        for number in range(options.repeat + 1):
            for name, command in waited.items():
                row = timing.process(command, folder)
                if number:  # the first round may compile
                    runs[name].append(row)
        sections = profile(archive, Path(folder) / "profiled.html")
        opened = {}
        for vms in LARGE:
            large = str(Path(folder) / f"large-{vms}")
            data.write(options.large, large, vms)
            runs_of = [
                timing.process(("-c", EXPLORE, large), folder) for _ in range(options.repeat + 1)
            ]
            opened[vms] = timing.least(runs_of[1:])
    rows = [timing.machine("pandas", "numpy", "pyarrow", "matplotlib", "polars")]
    for name, taken in runs.items():
        rows.append({"what": "waiting", "command": name, "sessions": options.sessions,
                     "goal": GOALS.get(name), **timing.least(taken)})  # fmt: skip
    rows += [
        {"what": "opening", "sessions": options.large, "vms": vms, **row}
        for vms, row in opened.items()
    ]
    rows += sections
    timing.told(rows, shown.waiting(rows), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
