"""Each argument of each metric matters: with it the answer is another, by a table in which it must be."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.registry import REGISTRY

from .asked import OF_SESSIONS, arguments, ask, taken

DAY = pd.Timestamp("2026-10-01", tz="UTC")


def at(hours: float) -> pd.Timestamp:
    return DAY + pd.Timedelta(hours=hours)


@cache
def sessions() -> pd.DataFrame:
    """Eight days of VMs with a gap each night, Warnings and Failures; one stops, one begins late."""
    rows = [("c", 152, 153, "Failed", 70), ("c", 157, 188.7, "Warning", 70)]
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
JOURNAL = pd.DataFrame({
    "backup_server": "b1", "vm": "a", "policy": "Gold", "kind": ["Asked", "RestoreAvailable"],
    "start": at(0), "end": at(189), "rpo": [pd.NaT, pd.Timedelta("15s")],
})  # fmt: skip

VALUES: dict[str, object] = {
    "target": "3h", "by": ("policy",), "since": at(160), "until": at(100), "as_of": at(150), "freq": "W",
    "schedule": NOON, "tz": "Asia/Kolkata",
    "schedule_tz": "Asia/Kolkata", "protects": ["Success"], "policies": SETTINGS,
    "unobserved": HOLE, "exclude": NOON, "retire_after": "5h", "reading": "volume", "horizon": "90D",
    "z": 9.0, "n": 1, "without": [1], "objective": 0.5, "before": (at(0), at(20)), "grace": "60h",
    "targets": ["3h"], "within": "5min", "least": 3, "merge": "9h", "at": at(100), "tags": ["result"],
    "intervals": JOURNAL,
}  # fmt: skip
USUAL: dict[str, dict[str, object]] = {
    "compare": {"since": at(96)}, "sizes": {"by": "vm"}, "size_trend": {"by": "vm"},
    "size_anomalies": {"by": (), "z": 1.0},
}  # fmt: skip
"""What a metric is asked with here besides its usual arguments and a target of an hour."""
SILENT = {("sizes", "unobserved"), ("size_trend", "unobserved"), ("size_anomalies", "unobserved"),
          ("size_anomalies", "policies"), ("sizes", "exclude"), ("size_trend", "exclude"),
          ("size_anomalies", "exclude"), ("sizes", "schedule_tz"), ("size_trend", "schedule_tz"),
          ("size_anomalies", "schedule_tz"), ("sizes", "grace"), ("size_trend", "grace"),
          ("size_anomalies", "grace")}  # fmt: skip
"""What says only who is retired, and is asked about below with `retire_after`."""
ELSEWHERE = {("incidents", "within"), ("incidents", "least")}
"""What needs several VMs at once: tests/metrics/test_incident_metrics.py."""


ASKED = [
    (name, argument)
    for name in OF_SESSIONS
    for argument in sorted(REGISTRY[name].arguments)
    if (name, argument) not in SILENT | ELSEWHERE
]


def usual_of(name: str) -> dict[str, object]:
    return arguments(name, sessions()) | taken(name, target="1h") | USUAL.get(name, {})


def answer(name: str, **asked: object) -> str:
    """What a metric says, without the columns that are there just because they were asked for."""
    table = ask(name, sessions(), **asked)
    counts = ["unobserved", "excluded", *(["retired"] if name != "gaps" else [])]
    return table.drop(columns=counts, errors="ignore").to_csv(index=False)


@pytest.mark.parametrize(("name", "argument"), ASKED)
def test_each_argument_reaches_the_metric(name: str, argument: str) -> None:
    if argument not in VALUES:
        pytest.fail(f"add a value of {argument!r} to VALUES in tests/metrics/test_arguments.py")
    besides: list[dict[str, object]] = [{}]
    if argument == "schedule_tz":  # a zone matters where something is written in its wall time
        besides = [{"schedule": NIGHT}]
    if argument == "tz":
        besides = [{"since": f"2026-10-0{day}T14:00", "at": "2026-10-04T14:00"} for day in (2, 6)]
    if argument == "grace":  # c has begun then, and is not protected yet
        besides = [{}, {"at": at(156)}]
    usual = usual_of(name)
    heard = [
        answer(name, **asked) != answer(name, **(asked | {argument: VALUES[argument]}))
        for asked in (usual | taken(name, **more) for more in besides)
    ]
    assert any(heard), (
        f"{name} says the same with another {argument}: it does not reach the metric, or sessions() and VALUES "
        f"in tests/metrics/test_arguments.py do not show it; add ({name!r}, {argument!r}) to SILENT there "
        "if it says only who is retired"
    )


def test_no_pair_is_left_out_that_the_metric_does_not_take() -> None:
    gone = {(name, of) for name, of in SILENT | ELSEWHERE if of not in REGISTRY[name].arguments}
    assert gone == set(), "remove them from SILENT or ELSEWHERE"


@pytest.mark.parametrize("name", sorted({name for name, _ in SILENT}))
@pytest.mark.parametrize(("argument", "value"), [("policies", SETTINGS), ("unobserved", EVENING)])
def test_who_is_retired_depends_on_when_time_counts(
    name: str, argument: str, value: object
) -> None:
    # b's last gap is open from day 5 20:30 on; by Gold's own schedule from midnight.
    usual = usual_of(name) | {"retire_after": "3h"}
    assert answer(name, **usual) != answer(name, **(usual | {argument: value}))


@pytest.mark.parametrize(
    "name",
    [name for name in OF_SESSIONS if REGISTRY[name].arguments >= {"schedule", "retire_after"}],
)
@pytest.mark.parametrize(
    ("argument", "value"), [("schedule", NIGHT), ("exclude", NOON), ("policies", SETTINGS)]
)
def test_who_is_retired_depends_on_the_clock_that_the_metric_goes_by(
    name: str, argument: str, value: object
) -> None:
    usual = usual_of(name) | taken(name, retire_after="47h", freq=None)
    assert answer(name, **usual) != answer(name, **(usual | {argument: value}))


@pytest.mark.parametrize("name", [name for name in OF_SESSIONS if REGISTRY[name].by is not None])
def test_groups_cannot_have_the_name_of_a_figure(name: str) -> None:
    """It would take the place of the groups' names, and the table would look right."""
    rows = sessions()
    figures = set(ask(name, rows, by="policy")) - {"policy", "period"}
    assert figures
    for figure in figures:
        value = pd.Timedelta("1h") if figure == "rpo" else "x"
        with pytest.raises(InputError, match=f"'{figure}' is a column of the result itself"):
            ask(name, rows.assign(**{figure: value}), by=["policy", figure])


def test_a_tag_cannot_have_the_name_of_a_column_of_status() -> None:
    rows = sessions()
    for name in set(ask("status", rows)) - {"backup_server", "vm", "policy", "state", "reason"}:
        with pytest.raises(InputError, match=f"'{name}' is a column of the result itself"):
            ask("status", rows.assign(**{name: "x"}), tags=[name])


def test_groups_may_be_called_group() -> None:
    """A name that the computation itself once used."""
    rows = pd.concat([sessions().assign(group=name, vm=name) for name in ("x", "y")])
    table = ask("size_anomalies", rows.drop(columns="uid", errors="ignore"), by="group", z=0.01)
    assert "group" in table
