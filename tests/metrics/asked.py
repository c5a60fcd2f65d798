"""What each metric is asked with in tests; all lists of metrics in tests come from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from cdpanalytics import metrics
from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.registry import REGISTRY, REQUIRED

OF_SESSIONS = tuple(name for name, spec in REGISTRY.items() if spec.table == "sessions")
TARGET = "30min"


def middle(rows: pd.DataFrame) -> pd.Timestamp:
    """The instant half-way through a table or its window, always before its end."""
    known = facts(rows)
    times = {
        name: pd.to_datetime(rows[name], utc=True)
        for name in ("created", "ended", "start", "end", "as_of") if name in rows
    }  # fmt: skip
    stamp = times.pop("as_of", pd.Series(dtype="datetime64[us, UTC]")).max()
    every = pd.concat(times.values())
    first = known.since or every.min()
    last = known.until or (every.max() if pd.isna(stamp) else stamp)
    if pd.isna(first):
        return pd.Timestamp("2026-10-01", tz="UTC")
    return first + (last - first) / 2 if first < last else last - pd.Timedelta("1h")


NEEDED: dict[str, dict[str, Any]] = {
    "what_if": {"targets": ["15min", "2h"]},
    "compare": {"since": middle},
    "recovery_points": {"at": middle},
}
"""Arguments without which a metric refuses; a function is called with the table."""

TELLING: dict[str, dict[str, Any]] = {
    "rpo_adherence": {"freq": "D"},
    "objectives": {"objective": 0.95},
    "worst": {"target": TARGET},
    "compare": {"target": TARGET},
    "incidents": {"target": TARGET, "within": "2h", "least": 2},
    "offenders": {"target": TARGET, "least": 1},
    "size_anomalies": {"z": 0.5},
    "status": {"target": TARGET},
}
"""Arguments with which a metric says more about a few sessions."""


def needed(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The arguments without which a metric refuses."""
    given = NEEDED.get(name, {})
    missing = [n for n, v in REGISTRY[name].own.items() if v is REQUIRED and n not in given]
    assert not missing, f"{name} needs {missing}: add values to NEEDED in tests/metrics/asked.py"
    return {n: value(rows) if callable(value) else value for n, value in given.items()}


def arguments(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The arguments with which a metric says something about a few sessions."""
    return needed(name, rows) | TELLING.get(name, {})


def ask(name: str, rows: pd.DataFrame, **asked: Any) -> pd.DataFrame:
    """A metric, with its usual arguments where no others are given."""
    table: pd.DataFrame = getattr(metrics, name)(rows, **(arguments(name, rows) | asked))
    return table


def taken(name: str, **asked: Any) -> dict[str, Any]:
    """Those of some arguments that a metric takes."""
    known = REGISTRY[name].arguments
    return {argument: value for argument, value in asked.items() if argument in known}


def all_but(reasons: Mapping[str, str]) -> list[str]:
    """The metrics of sessions but some, each of which has a reason."""
    unknown = reasons.keys() - set(OF_SESSIONS)
    assert not unknown, f"{unknown} are not metrics of sessions: remove them from the list"
    return [name for name in OF_SESSIONS if name not in reasons]


@contextmanager
def advice(text: str) -> Iterator[None]:
    """Add to a failure what to do about it."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{text}\n{error}") from error
    except InputError as error:
        error.add_note(text)
        raise
