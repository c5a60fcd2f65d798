"""Time what a start costs: the package, its help, its first metric, beside the libraries that are always needed."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import shown
import timing

READY = "import cdpanalytics, pandas; pandas.DataFrame.cdp.gaps"
STARTS = {
    "nothing": ("-c", "pass"),
    "import pandas, pyarrow": ("-c", "import pandas, pyarrow"),
    "import cdpanalytics": ("-c", "import cdpanalytics"),
    "import cdpanalytics, and a frame's first metric": ("-c", READY),
    "cdpanalytics --help": ("-m", "cdpanalytics", "--help"),
    "cdpanalytics metrics --help": ("-m", "cdpanalytics", "metrics", "--help"),
}


def start(command: tuple[str, ...]) -> tuple[float, float, float]:
    """Seconds, seconds of a processor, and peak memory of one process."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, _peak(usage)


def _peak(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (1000 if sys.platform != "darwin" else 1_000_000)


def main() -> int:
    """Print one row per start; each in turn, round by round, so that all see the same machine."""
    options = timing.arguments(__doc__, repeat=15).parse_args()
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in STARTS}
    for number in range(options.repeat + 1):
        for name, command in STARTS.items():
            took = start(command)
            if number:  # the first round may compile
                runs[name].append(took)
    rows = [timing.machine("pandas", "numpy", "pyarrow")]
    for name, took in runs.items():
        wall, cpu, peak = zip(*took, strict=True)
        rows.append({
            "what": "start", "start": name, "seconds": statistics.median(wall),
            "cpu": statistics.median(cpu), "peak_mb": max(peak),
        })  # fmt: skip
    timing.told(rows, shown.imports(rows), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
