"""Each argument of each metric matters: with it the answer is another, by a table in which it must be."""

from __future__ import annotations

import inspect

import pandas as pd
import pytest

from cdpanalytics import metrics

DAY = pd.Timestamp("2026-10-01", tz="UTC")


def at(hours: float) -> pd.Timestamp:
    return DAY + pd.Timedelta(hours=hours)


def sessions() -> pd.DataFrame:
    """Eight days of two VMs: a gap each night, one Warning and one Failure; the second VM stops."""
    rows = []
    for day in range(8):
        start = 24 * day
        for vm, stops in (("a", 99), ("b", 6)):
            if day >= stops:
                continue
            size = {"a": 100 + 10 * day + (55 if day == 3 else 0), "b": 50}[vm]
            rows += [
                (vm, start, start + 9, "Success" if day % 3 else "Warning", size),
                (vm, start + 9, start + 10, "Failed", size),
                (vm, start + 12, start + 20 + day / 10, "Success", size),
            ]
    frame = pd.DataFrame(rows, columns=["vm", "begin", "end", "result", "total_size"])
    return pd.DataFrame({
        "vm": frame["vm"], "policy": "Gold", "backup_server": "b1", "result": frame["result"],
        "state": "Completed", "created": frame["begin"].map(at), "ended": frame["end"].map(at),
        "total_size": frame["total_size"].astype("Int64"),
    })  # fmt: skip


NIGHT = "".join("0" if hour >= 18 else "1" for _ in range(7) for hour in range(24))
NOON = [(at(24 * day + 11), at(24 * day + 13)) for day in range(8)]
HOLE = pd.DataFrame({"start": [at(60), at(170)], "end": [at(66), at(182)], "backup_server": None})
EVENING = pd.DataFrame({"start": [at(139)], "end": [at(142)], "backup_server": None})
SETTINGS = pd.DataFrame({
    "policy": ["Gold"], "backup_server": ["b1"], "rpo": [pd.Timedelta("3h")], "schedule": [NIGHT],
    "long_term": [pd.Timedelta("9h")], "vms": [["a", "b", "never-seen"]],
})  # fmt: skip

VALUES: dict[str, object] = {
    "target": "3h", "by": ("policy",), "since": at(30), "until": at(100), "as_of": at(150), "freq": "W",
    "schedule": NOON, "tz": "Asia/Kolkata",
    "schedule_tz": "Asia/Kolkata", "protects": ["Success"], "policies": SETTINGS,
    "unobserved": HOLE, "exclude": NOON, "retire_after": "5h", "reading": "volume", "horizon": "90D",
    "z": 9.0, "n": 1, "without": [1], "objective": 0.5, "before": (at(0), at(20)),
}  # fmt: skip
USUAL: dict[str, dict[str, object]] = {
    "rpo_adherence": {"target": "1h", "freq": "D"}, "gaps": {"target": "1h"},
    "what_if": {"targets": ["1h", "2h"]}, "objectives": {"objective": 0.9, "target": "1h"},
    "worst": {"target": "1h"}, "compare": {"since": at(96), "target": "1h"}, "durations": {},
    "sizes": {"by": "vm"}, "size_trend": {"by": "vm"}, "size_anomalies": {"by": (), "z": 1.0},
    "quality": {}, "incidents": {"target": "1h"}, "offenders": {"target": "1h", "least": 1},
}  # fmt: skip
SILENT = {("sizes", "unobserved"), ("size_trend", "unobserved"), ("size_anomalies", "unobserved"),
          ("size_anomalies", "policies"), ("sizes", "exclude"), ("size_trend", "exclude"),
          ("size_anomalies", "exclude"), ("sizes", "schedule_tz"), ("size_trend", "schedule_tz"),
          ("size_anomalies", "schedule_tz"), ("quality", "tz")}  # fmt: skip
"""What says only who is retired, and is asked about below with `retire_after`."""

ASKED = [
    (name, argument)
    for name in USUAL
    for argument in list(inspect.signature(getattr(metrics, name)).parameters)[1:]
    if argument in VALUES and (name, argument) not in SILENT
]


def answer(name: str, **asked: object) -> str:
    """What a metric says, without the columns that are there just because they were asked for."""
    table = getattr(metrics, name)(sessions(), **asked)
    counts = ["unobserved", "excluded", *(["retired"] if name != "gaps" else [])]
    return table.drop(columns=counts, errors="ignore").to_csv(index=False)


@pytest.mark.parametrize(("name", "argument"), ASKED)
def test_each_argument_reaches_the_metric(name: str, argument: str) -> None:
    takes = inspect.signature(getattr(metrics, name)).parameters
    usual = dict(USUAL[name])
    if argument == "schedule_tz":
        usual |= {"schedule": NIGHT}  # a zone matters where something is written in its wall time
    if argument == "tz":
        usual |= {"since": "2026-10-02T14:00"}
    assert argument in takes
    assert answer(name, **usual) != answer(name, **(usual | {argument: VALUES[argument]}))


@pytest.mark.parametrize("name", ["sizes", "size_trend", "size_anomalies"])
@pytest.mark.parametrize(("argument", "value"), [("policies", SETTINGS), ("unobserved", EVENING)])
def test_who_is_retired_depends_on_when_time_counts(
    name: str, argument: str, value: object
) -> None:
    # b's last gap is open from day 5 20:30 on; by Gold's own schedule from midnight.
    usual = {**USUAL[name], "retire_after": "3h"}
    assert answer(name, **usual) != answer(name, **(usual | {argument: value}))


@pytest.mark.parametrize(
    "name", ["rpo_adherence", "gaps", "what_if", "worst", "objectives", "compare"]
)
@pytest.mark.parametrize(
    ("argument", "value"), [("schedule", NIGHT), ("exclude", NOON), ("policies", SETTINGS)]
)
def test_who_is_retired_depends_on_the_clock_that_the_metric_goes_by(
    name: str, argument: str, value: object
) -> None:
    usual = {**USUAL[name], "retire_after": "47h", "freq": None}
    takes = inspect.signature(getattr(metrics, name)).parameters
    usual = {key: said for key, said in usual.items() if key in takes}
    assert answer(name, **usual) != answer(name, **(usual | {argument: value}))
