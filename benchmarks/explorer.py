"""Time the explorer: from a change of a control to its tiles, and to everything drawn, in the kernel."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import shown
import timing

from cdpanalytics.explorer import Explorer, explore
from data import fleet, for_pandas

VMS = 1000

CHANGES: dict[str, list[dict[str, Any]]] = {
    "RPO": [{"rpo": "1h"}, {"rpo": "5min"}],
    "period": [{"period": "last 7 days"}, {"period": "last 30 days"}],
    "policy": [{"policies": ("policy-01",)}, {"policies": ()}],
    "VMs": [{"vms": ("vm-00001.tech.local", "vm-00002.tech.local")}, {"vms": ()}],
    "view: Timeline": [{"view": "Timeline"}, {"view": "Heat map"}],
    "view: Exposure": [{"view": "Exposure"}, {"view": "Heat map"}],
    "view: Worst VMs": [{"view": "Worst VMs"}, {"view": "Heat map"}],
    "view: Durations": [{"view": "Durations"}, {"view": "Heat map"}],
    "view: Sizes": [{"view": "Sizes"}, {"view": "Heat map"}],
}
"""What is changed, there and back."""


def timed(explorer: Explorer, change: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds until the tiles were sent, and until the change was drawn."""
    begun = time.perf_counter()
    tiles: list[float] = []
    seen: Callable[[Any], None] = lambda _: tiles.append(time.perf_counter())  # noqa: E731
    explorer.page.observe(seen, "tiles")
    for name, value in change.items():
        setattr(explorer, name, value)
    ended = time.perf_counter()
    explorer.page.unobserve(seen, "tiles")
    first = tiles[0] if tiles else begun
    return 1000 * (first - begun), 1000 * (ended - begun)


def main() -> int:
    """Print one row per change: medians of the runs, and the longest, in milliseconds."""
    parser = timing.arguments(__doc__, repeat=7)
    parser.add_argument("--sessions", type=int, default=150_000)
    options = parser.parse_args()
    sessions = for_pandas(fleet(options.sessions, vms=VMS))
    explorer = explore(sessions, rpo="5min", period="last 30 days")
    rows = [timing.machine("pandas", "matplotlib", "ipywidgets")]
    for name, (there, back) in CHANGES.items():
        runs = []
        for _ in range(options.repeat):
            runs.append(timed(explorer, there))
            timed(explorer, back)
        first, drawn = (statistics.median(run[at] for run in runs) for at in (0, 1))
        most = max(run[1] for run in runs)
        rows.append({"what": "explorer", "change": name, "sessions": len(sessions), "vms": VMS,
                     "tiles_ms": first, "drawn_ms": drawn, "most_ms": most,
                     "peak_mb": timing.peak_mb()})  # fmt: skip
    timing.told(rows, shown.explorer(rows), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
