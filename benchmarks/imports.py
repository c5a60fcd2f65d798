"""Time what a start costs: the package, its help, its first metric, beside the libraries that are always needed."""

from __future__ import annotations

import sys
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


def main() -> int:
    """Print one row per start; each in turn, round by round, so that all see the same machine."""
    options = timing.arguments(__doc__, repeat=15).parse_args()
    runs: dict[str, list[timing.Row]] = {name: [] for name in STARTS}
    for number in range(options.repeat + 1):
        for name, command in STARTS.items():
            took = timing.process(command, most=0)
            if number:  # the first round may compile
                runs[name].append(took)
    rows = [timing.machine("pandas", "numpy", "pyarrow")]
    for name, took in runs.items():
        rows.append({"what": "start", "start": name, **timing.least(took)})
    timing.told(rows, shown.imports(rows), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
