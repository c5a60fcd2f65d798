"""Time each metric beside Polars, DuckDB and plain pandas asked the same question, a process each; do they agree?"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

import peers

import data

ENGINES: dict[str, tuple[Any, Any]] = {
    "cdpanalytics": (data.for_pandas, peers.Ours), "polars": (data.for_polars, peers.InPolars),
    "duckdb": (data.for_duckdb, peers.InDuckDB), "pandas": (data.for_pandas, peers.InPandas),
}  # fmt: skip
QUESTIONS = ("rpo_adherence", "gaps", "what_if", "durations", "sizes", "sizes_by_vm", "size_trend",
             "size_trend_by_vm", "rpo_adherence_daily")  # fmt: skip
TOLERANCE = 1e-9


def figures(answer: Any) -> dict[str, float]:
    """The sum of each column of numbers, lengths in microseconds: alike where two answers are."""
    for name in ("to_pandas", "df"):
        if not isinstance(answer, pd.DataFrame) and hasattr(answer, name):
            answer = getattr(answer, name)()
    found = {"rows": float(len(answer))}
    for name in answer.columns:
        column = answer[name]
        if pd.api.types.is_timedelta64_dtype(column):
            column = column.dt.as_unit("us").astype("int64").where(column.notna())
        elif isinstance(column.dtype, pd.DatetimeTZDtype) or not pd.api.types.is_numeric_dtype(
            column
        ):
            continue
        found[str(name)] = float(np.nansum(column.to_numpy(dtype=float, na_value=np.nan)))
    return found


def one(engine: str, question: str, sessions: int, repeat: int) -> dict[str, Any]:
    """Ask an engine one question several times in this process."""
    made, asked = ENGINES[engine]
    peer = asked(made(data.fleet(sessions)))
    ask = getattr(peer, question)
    answer = ask()
    wall, cpu = [], []
    for _ in range(repeat):
        begun, used = time.perf_counter(), time.process_time()
        ask()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"what": "metric", "metric": question, "sessions": sessions, "engine": engine,
            "seconds_min": min(wall), "seconds_median": statistics.median(wall), "cpu": min(cpu),
            "peak_mb": peak, "figures": figures(answer)}  # fmt: skip


def agree(ours: dict[str, float], theirs: dict[str, float]) -> list[str]:
    """The columns that both have and that differ."""
    both = [name for name in theirs if name in ours]
    return [n for n in both if abs(ours[n] - theirs[n]) > TOLERANCE * max(abs(ours[n]), 1)]


def machine() -> dict[str, Any]:
    """What the figures are of."""
    packages = ("pandas", "numpy", "pyarrow", "polars", "duckdb")
    return {"what": "machine", "cores": os.cpu_count(), "python": platform.python_version(),
            **{name: version(name) for name in packages}}  # fmt: skip


def main() -> int:
    """Print a row a question and size: milliseconds of each engine, and ours to the fastest other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,1000000", help="sessions, apart by commas")
    parser.add_argument("--questions", default=",".join(QUESTIONS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument(
        "--one", nargs=3, metavar=("ENGINE", "QUESTION", "SESSIONS"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.one:
        engine, question, sessions = options.one
        print(json.dumps(one(engine, question, int(sessions), options.repeat)))
        return 0
    rows, odd = [machine()], []
    engines = options.engines.split(",")
    print(
        f"| question | sessions | {' | '.join(f'{name} ms' for name in engines)} | ours / fastest peer |"
    )
    print(f"|---|--:|{'--:|' * (len(engines) + 1)}")
    for sessions in map(int, options.sizes.split(",")):
        for question in options.questions.split(","):
            found = {}
            for engine in engines:
                if not hasattr(ENGINES[engine][1], question):
                    continue
                told = subprocess.run(
                    [sys.executable, __file__, "--one", engine, question, str(sessions),
                     "--repeat", str(options.repeat)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                found[engine] = json.loads(told.stdout)
            for engine, row in found.items():
                differing = agree(found["cdpanalytics"]["figures"], row["figures"])
                row["agrees"] = not differing
                odd += [f"{engine}, {question}, {sessions:,}: {name}" for name in differing]
            rows += found.values()
            shown = [
                f"{1000 * found[e]['seconds_min']:,.0f}" if e in found else "" for e in engines
            ]
            fast = [found[name]["seconds_min"] for name in ("polars", "duckdb") if name in found]
            ratio = f"{found['cdpanalytics']['seconds_min'] / min(fast):.2f}" if fast else ""
            print(f"| {question} | {sessions:,} | {' | '.join(shown)} | {ratio} |", flush=True)
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")
    for told in odd:
        print(f"differs: {told}", file=sys.stderr)
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
