"""Time each metric beside Polars, DuckDB and plain pandas asked the same question; do they agree?

Of a frame in memory, and of an archive whose files each engine reads itself. A process each.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))

import peers
import shown
import timing

import data


def unique(sessions: int) -> pa.Table:
    """A fleet without uids, in which sessions fetched twice cannot be looked for."""
    return data.fleet(sessions).drop_columns("uid")


ENGINES: dict[str, dict[str, Any]] = {
    "frame": {
        "cdpanalytics": lambda sessions: peers.Ours(data.for_pandas(data.fleet(sessions))),
        "polars": lambda sessions: peers.InPolars(data.for_polars(data.fleet(sessions))),
        "duckdb": lambda sessions: peers.InDuckDB(data.for_duckdb(data.fleet(sessions))),
        "pandas": lambda sessions: peers.InPandas(data.for_pandas(data.fleet(sessions))),
    },
    "frame without uids": {
        "cdpanalytics": lambda sessions: peers.Ours(data.for_pandas(unique(sessions))),
        "polars": lambda sessions: peers.InPolars(data.for_polars(unique(sessions))),
        "duckdb": lambda sessions: peers.InDuckDB(data.for_duckdb(unique(sessions))),
        "pandas": lambda sessions: peers.InPandas(data.for_pandas(unique(sessions))),
    },
    "archive": {
        "cdpanalytics": peers.OursRead,
        "cdpanalytics, map": peers.OursMapped,
        "polars": peers.ScannedByPolars,
        "duckdb": peers.ScannedByDuckDB,
        "pandas": peers.ReadByPandas,
    },
}
QUESTIONS = ("rpo_adherence", "gaps", "what_if", "durations", "sizes", "sizes_by_vm", "size_trend",
             "size_trend_by_vm", "rpo_adherence_daily")  # fmt: skip
OF_ARCHIVES = ("rpo_adherence", "gaps", "durations", "sizes")
"""One of each kind is asked of archives: there most of the time is reading."""

MOST = 2
"""So many, where the archive is large."""

LARGE = 5_000_000
TOO_LARGE = ("size_trend_by_vm", "rpo_adherence_daily")
"""Not asked of so many: written by hand they hold every pair of days, or a piece of each session a day."""

TOLERANCE = 1e-9
NOT_HELD = ("slope_low", "slope_high")
"""Not compared: ours holds for sizes that depend on the day before, the peers' is Sen's own."""


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


def one(source: str, engine: str, of: str, questions: list[str], options: Any) -> None:
    """Ask an engine its questions in this process; print the answers' figures and the times."""
    peer = ENGINES[source][engine](of if source == "archive" else int(of))
    told = {}
    for question in questions:
        ask = getattr(peer, question, None)
        if ask is None:
            continue
        last: dict[str, Any] = {}

        def asked(ask: Any = ask, last: dict[str, Any] = last) -> None:
            last.clear()
            last["answer"] = ask()

        row = timing.measured(asked, options.repeat, options.patience)
        told[question] = {**row, "figures": figures(last["answer"])}
    print(json.dumps(told))


def differing(ours: dict[str, float], theirs: dict[str, float]) -> list[str]:
    """The columns that both have and that differ."""
    both = [name for name in theirs if name in ours and name not in NOT_HELD]
    return [n for n in both if abs(ours[n] - theirs[n]) > TOLERANCE * max(abs(ours[n]), 1)]


def compared(source: str, sessions: int, of: str, options: Any) -> list[dict[str, Any]]:
    """Ask every engine, each in its own process; one row per engine and question."""
    questions = [q for q in options.questions.split(",") if source != "archive" or q in OF_ARCHIVES]
    if sessions >= LARGE:
        questions = [question for question in questions if question not in TOO_LARGE]
    if source == "archive" and sessions >= LARGE:
        questions = questions[:: max(1, len(questions) // MOST)][:MOST]
    rows, expected = [], {}
    for engine in ENGINES[source]:
        if engine.partition(",")[0] not in options.engines.split(","):
            continue
        print(f"{source}, {sessions:,} sessions: {engine}", file=sys.stderr, flush=True)
        found = timing.alone(
            __file__, source, engine, of, ",".join(questions),
            "--repeat", options.repeat, "--patience", options.patience,
        )  # fmt: skip
        expected = expected or {q: row["figures"] for q, row in found.items()}
        for question, row in found.items():
            odd = differing(expected[question], row.pop("figures"))
            rows.append({
                "what": "metric", "source": source, "metric": question, "sessions": sessions,
                "engine": engine, **row, "agrees": not odd,
            })  # fmt: skip
            for name in odd:
                print(f"differs: {engine}, {question}, {sessions:,}: {name}", file=sys.stderr)
    return rows


def main() -> int:
    """Print one row per question, source and size; exit 1 when answers differ."""
    parser = timing.arguments(__doc__, repeat=5)
    parser.add_argument("--sizes", default="10000,1000000", help="sessions, apart by commas")
    parser.add_argument(
        "--from", dest="sources", default="frame,frame without uids,archive", help="%(default)s"
    )
    parser.add_argument("--questions", default=",".join(QUESTIONS))
    parser.add_argument("--engines", default=",".join(ENGINES["frame"]))
    parser.add_argument("--patience", type=float, default=2.0, help="seconds for one question")
    options = parser.parse_args()
    if options.one:
        source, engine, of, questions = options.one
        one(source, engine, of, questions.split(","), options)
        return 0
    rows = [timing.machine("pandas", "numpy", "pyarrow", "polars", "duckdb")]
    for sessions in map(int, options.sizes.split(",")):
        for source in options.sources.split(","):
            with tempfile.TemporaryDirectory() as folder:
                if source == "archive":
                    data.write(sessions, folder)
                rows += compared(
                    source, sessions, folder if source == "archive" else str(sessions), options
                )
    timing.told(rows, shown.metrics(rows), options.output)
    return int(any(row.get("agrees") is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
