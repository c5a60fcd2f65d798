"""Metrics that are made of others: each argument reaches them, and what is added is worked out again."""

import datetime as dt
from statistics import median

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import (
    compare,
    objectives,
    rpo_adherence,
    size_anomalies,
    size_trend,
    sizes,
    worst,
)
from cdpanalytics.metrics.registry import REGISTRY

from .asked import OF_SESSIONS, ask, taken
from .strategies import (
    BY,
    HOURS,
    MINUTES,
    ZONES,
    fleets,
    frame,
    hole_frame,
    holes,
    instants,
    maintenance,
    maintenance_frame,
    policy_frame,
    settings_of_policies,
    windows,
)
from .test_worked_examples import at, hours, minutes, only, table

TIME, SPAN, COUNT, SHARE = "datetime64[us, UTC]", "timedelta64[us]", "int64", "float64"
KEYS = {"policy": "str", "vm": "str"}
ADHERENCE = {
    "rpo": SPAN, "vms": COUNT, "unprotected": COUNT,
    "sessions": COUNT, "success": COUNT, "warning": COUNT, "failed": COUNT,
    "unknown": COUNT, "observed": SPAN, "exposed": SPAN, "breached": SPAN, "gaps": COUNT,
    "breaches": "Int64", "worst_gap": SPAN, "adherence": SHARE, "adherence_strict": SHARE,
    "gap_adherence": SHARE, "success_rate": SHARE, "success_low": SHARE, "success_high": SHARE,
    "unobserved": SPAN, "excluded": SPAN, "retired": SPAN, "adherence_full": SHARE,
}  # fmt: skip
LEFT_OUT = "with what is left out"
COLUMNS = {
    "rpo_adherence": KEYS | ADHERENCE,
    LEFT_OUT: KEYS | {"period": TIME} | ADHERENCE,
    "gaps": {"backup_server": "str", "vm": "str", "policy": "str", "start": TIME, "end": TIME,
             "open": "bool", "exposure": SPAN, "breached": SPAN, "cause": "str"},
    "what_if": {"rpo": SPAN, "observed": SPAN, "exposed": SPAN, "breached": SPAN, "gaps": COUNT,
                "breaches": COUNT, "adherence": SHARE, "gap_adherence": SHARE,
                "unobserved": SPAN, "excluded": SPAN, "retired": SPAN},
    "objectives": KEYS | {
        "rpo": SPAN, "vms": COUNT, "observed": SPAN, "adherence": SHARE, "objective": SHARE,
        "passed": "boolean", "budget": SPAN, "spent": SPAN, "remaining": SPAN, "elapsed": SHARE,
        "burn_rate": SHARE, "vms_met": "Int64", "all_protected": SHARE, "no_target": "Int64",
        "undecided": "Int64"},
    "worst": KEYS | {"rpo": SPAN, "observed": SPAN, "breached": SPAN, "gaps": COUNT,
                     "breaches": "Int64", "worst_gap": SPAN, "adherence": SHARE,
                     "explains": SHARE, "explained": SHARE},
    "compare": KEYS | {
        "rpo_before": SPAN, "rpo": SPAN, "observed_before": SPAN, "observed": SPAN,
        "breached_before": SPAN, "breached": SPAN, "adherence_before": SHARE, "adherence": SHARE,
        "change": SHARE, "verdict": "str"},
    "durations": KEYS | {
        "sessions": COUNT, "running": COUNT, "unknown": COUNT, "mean": SPAN, "median": SPAN,
        "p95": SPAN, "max": SPAN, "total": SPAN, "expected": SPAN, "on_cadence": SHARE},
    "sizes": KEYS | {"period": TIME, "vms": COUNT, "sessions": COUNT, "size": "Int64",
                     "rolling": SHARE, "running": COUNT, "retired": COUNT},
    "size_trend": KEYS | dict.fromkeys(
        ["size", "change", "slope", "slope_low", "slope_high", "projected", "projected_low",
         "projected_high", "growth"], SHARE),
    "size_anomalies": KEYS | {"period": TIME, "size": "Int64", "expected": SHARE,
                              "residual": SHARE, "score": SHARE, "kind": "str"},
    "quality": {"finding": "str", "sessions": COUNT, "share": SHARE, "vms": COUNT,
                "consequence": "str"},
    "incidents": {
        "incident": COUNT, "start": TIME, "end": TIME, "open": "bool", "scope": "str",
        "backup_server": "str", "policy": "str", "vms": COUNT, "share": SHARE, "breached": SPAN,
        "explains": SHARE, "longest": SPAN, "recovery": SPAN, "cause": "str", "cause_share": SHARE},
    "offenders": {
        "backup_server": "str", "policy": "str", "vm": "str", "incidents": COUNT, "chance": SHARE,
        "chronic": "bool", "breached": SPAN, "breached_with_others": SPAN, "explains": SHARE,
        "first": TIME, "last": TIME, "every": SPAN, "hour": "str", "hour_share": SHARE,
        "hour_chance": SHARE, "weekday": "str", "weekday_share": SHARE, "weekday_chance": SHARE,
        "cause": "str"},
    "status": {
        "backup_server": "str", "vm": "str", "policy": "str", "state": "str", "since": TIME,
        "age": SPAN, "target": SPAN, "last_success": TIME, "last_result": "str", "reason": "str",
        "recovery_point": TIME, "recovery_age": SPAN, "at": TIME},
}  # fmt: skip
COLUMNS["size_trend"] = KEYS | {"periods": COUNT} | COLUMNS["size_trend"]


@pytest.mark.parametrize("name", [*OF_SESSIONS, LEFT_OUT])
def test_columns_and_their_types_are_the_contract(name):
    sessions = table(
        ("db", "00:00", "08:00", "Success"), ("db", "08:30", "14:00", "Failed"),
        ("web", "08:30", "14:00", "Success"),
    ).assign(total_size=5)  # fmt: skip
    if name == LEFT_OUT:
        asked = {"freq": "D", "unobserved": hole_frame([]), "exclude": [], "retire_after": "9D"}
        found = rpo_adherence(sessions, "15min", **asked)
    else:
        freq = {"freq": REGISTRY[name].freq}
        found = ask(name, sessions, **taken(name, target="15min", **freq))
    columns = {column: str(dtype) for column, dtype in found.dtypes.items()}
    if name not in COLUMNS:
        pytest.fail(
            f"add the columns of {name} to COLUMNS in tests/metrics/test_built_on_others.py; "
            f"they are now {columns}"
        )
    assert columns == COLUMNS[name]
    assert list(found) == list(COLUMNS[name])
    assert found.index.equals(pd.RangeIndex(len(found)))


@st.composite
def questions(draw, rows):
    """Every argument of a measure of adherence, each so that it matters now and then."""
    return {
        "target": draw(st.one_of(st.none(), MINUTES)),
        "schedule": draw(st.one_of(st.none(), HOURS)),
        "tz": draw(st.sampled_from(ZONES)),
        "protects": draw(st.sampled_from([("Success", "Warning"), ("Success",)])),
        "policies": draw(st.one_of(st.none(), settings_of_policies().map(policy_frame))),
        "unobserved": draw(st.one_of(st.none(), holes(rows).map(hole_frame))),
        "exclude": draw(st.one_of(st.none(), maintenance(rows).map(maintenance_frame))),
        "retire_after": draw(st.one_of(st.none(), MINUTES)),
        "grace": draw(st.one_of(st.none(), MINUTES)),
    }


@given(data=st.data())
def test_the_worst_are_rows_of_adherence(data):
    rows = data.draw(fleets())
    asked = data.draw(questions(rows)) | data.draw(windows(rows))
    asked["by"] = data.draw(st.sampled_from(BY))
    found = rpo_adherence(frame(rows), **asked)
    expected = found[found["breached"].isna() | (found["breached"] > pd.Timedelta(0))]
    got = worst(frame(rows), n=None, **asked)
    assert got.index.tolist() == list(range(len(got)))
    kept = got.columns.drop(["explains", "explained"])
    names = list(kept[: len(asked["by"])])
    assert_frame_equal(
        got[kept].sort_values(names, ignore_index=True),
        expected[kept].sort_values(names, ignore_index=True),
    )
    whole = expected["breached"].sum()
    for _, row in got.dropna(subset="breached").iterrows():
        assert row["explains"] == pytest.approx(row["breached"] / whole)


def test_the_worst_of_a_number_that_is_none_is_refused_with_what_to_do():
    expected = r"^n=0 is not a positive whole number; use None for all$"
    with pytest.raises(InputError, match=expected):
        worst(frame([]), n=0)


@given(data=st.data())
def test_two_periods_are_two_rows_of_adherence(data):
    rows = data.draw(fleets())
    moments = st.lists(instants(rows), min_size=4, max_size=4, unique=True)
    first, second, since, until = sorted(data.draw(moments))
    asked = data.draw(questions(rows)) | {"as_of": data.draw(st.one_of(st.none(), instants(rows)))}
    asked["by"] = ("backup_server", "policy", "vm")
    got = compare(frame(rows), since, until, (first, second), **asked)
    keys = list(asked["by"])
    now = rpo_adherence(frame(rows), since=since, until=until, **asked).set_index(keys)
    then = rpo_adherence(frame(rows), since=first, until=second, **asked).set_index(keys)
    in_order = got.set_index(keys).loc[now.index]
    for name in ("rpo", "observed", "breached", "adherence"):
        assert in_order[name].equals(now[name])
        assert in_order[f"{name}_before"].equals(then[name])
    for _, row in got.iterrows():
        before, after = row["adherence_before"], row["adherence"]
        known = (not pd.isna(before), not pd.isna(after))
        verdict = {(False, False): "unknown", (False, True): "new", (True, False): "gone"}.get(
            known, "better" if after > before else "worse" if after < before else "same"
        )
        assert row["verdict"] == verdict
    change = got["change"].abs()
    assert change.dropna().is_monotonic_decreasing
    assert change.isna().is_monotonic_increasing


@given(data=st.data())
def test_objectives_are_of_adherence_with_each_argument(data):
    rows, share = data.draw(fleets()), data.draw(st.sampled_from([0.5, 0.9, 1]))
    asked = data.draw(questions(rows)) | data.draw(windows(rows))
    asked["by"] = data.draw(st.sampled_from(BY))
    assert_objectives_are_of_adherence(rows, share, asked, [])
    asked["freq"] = data.draw(st.sampled_from(["h", "D"]))
    asked["until"] = asked["until"] or rows[0]["created"] + dt.timedelta(days=3)
    if asked["since"] and asked["since"] >= asked["until"]:
        asked["since"] = None
    assert_objectives_are_of_adherence(rows, share, asked, ["period"])


def assert_objectives_are_of_adherence(rows, share, asked, keys):
    """Where each VM has a target; a table of adherence cannot leave out the VMs without one."""
    got = objectives(frame(rows), share, **asked)
    theirs = objectives(rpo_adherence(frame(rows), **asked), share)
    known = got["no_target"] == 0
    got, theirs = got[known], theirs[known]
    same = [*keys, "spent", "burn_rate", "observed", "rpo"]
    if not asked.get("freq"):  # the time ahead is in the budget, and in no table of adherence
        assert (got["budget"].dropna() >= theirs["budget"].dropna()).all()
    assert_frame_equal(got[same], theirs[same])
    # A table of adherence does not say which VMs are undecided.
    decided = got["undecided"] == 0
    assert_frame_equal(got.loc[decided, ["passed"]], theirs.loc[decided, ["passed"]])
    missed = theirs.loc[~decided, "passed"].fillna(True)
    assert_frame_equal(got.loc[~decided, ["passed"]], missed.where(~missed).to_frame())


def ahead(sessions, **asked):
    """The budget, in hours, of a promise of 90 % until the end of the second day."""
    row = only(objectives(sessions, 0.9, "1h", by=(), until="2026-10-03", **asked))
    return row["budget"] / hours(1), row["elapsed"]


def test_the_time_ahead_is_scheduled_as_the_time_seen():
    """24 h seen, 24 h ahead; 16 of each day are allowed, and 4 of the second day excluded."""
    day = table(("db", "00:00", "24:00", "Success"))
    office = ("1" * 8 + "0" * 8 + "1" * 8) * 7
    assert ahead(day) == (pytest.approx(4.8), 0.5)
    assert ahead(day, schedule=office) == (pytest.approx(3.2), 0.5)
    closed = [("2026-10-02 00:00", "2026-10-02 04:00")]
    assert ahead(day, schedule=office, exclude=closed) == (pytest.approx(2.8), 16 / 28)
    own = pd.DataFrame({"policy": ["gold"], "schedule": [office]})
    assert ahead(day, policies=own, exclude=closed) == (pytest.approx(2.8), 16 / 28)
    assert ahead(day, schedule=closed) == (pytest.approx(4.4), 24 / 44)


def test_the_time_ahead_goes_by_the_wall_of_its_zone():
    """Thursday 1 October alone is allowed, in Kolkata: it ends at 18:30 UTC, and is over by then."""
    thursday = "0" * 72 + "1" * 24 + "0" * 72
    seen = table(("db", "00:00", "12:00", "Success"))
    budget, elapsed = ahead(seen, schedule=thursday, schedule_tz="Asia/Kolkata")
    assert (budget, elapsed) == (pytest.approx(1.85), 12 / 18.5)


def test_the_time_ahead_is_of_those_still_there():
    """db is bare for 20 h at the end: with it 24 h more, once retired web's alone."""
    both = table(("db", "00:00", "04:00", "Success"), ("web", "00:00", "24:00", "Success"))
    assert ahead(both)[0] == pytest.approx(9.6)
    assert ahead(both, retire_after="20h")[0] == pytest.approx(7.2)
    assert ahead(both, retire_after="15h")[0] == pytest.approx(6.7)
    assert ahead(both, retire_after="21h")[0] == pytest.approx(9.6)


def test_holes_do_not_lie_ahead():
    day = table(("db", "00:00", "24:00", "Success"))
    dark = pd.DataFrame({"start": [at("06:00")], "end": [at("12:00")]})
    assert ahead(day, unobserved=dark) == (pytest.approx(4.2), 18 / 42)


def test_a_budget_of_as_of_earlier_reaches_further_ahead():
    day = table(("db", "00:00", "24:00", "Success"))
    assert ahead(day, as_of=at("12:00")) == (pytest.approx(4.8), 0.25)


def test_what_is_no_frame_of_adherence_takes_no_other_argument():
    found = rpo_adherence(table(("db", "00:00", "24:00", "Success")), "1h")
    with pytest.raises(
        ValueError,
        match=r"^this is a table of adherence: objectives takes only objective= with it; give",
    ):
        objectives(found, 0.9, "2h")
    without = objectives(found[["observed", "breached", "adherence"]], 0.9)
    assert without["passed"].tolist() == [True]


SLOPES = ["h", "D"]


@st.composite
def sized_fleets(draw):
    """Fleets long enough for a trend, and what is asked of them."""
    rows = [
        row | {"total_size": draw(st.integers(0, 9)), "state": "Completed",
               "ended": row["ended"] or row["created"]}
        for row in draw(fleets(most=9, reach=1000))
    ]  # fmt: skip
    asked = {
        "by": draw(st.sampled_from(BY)), "freq": draw(st.sampled_from(SLOPES)),
        "tz": draw(st.sampled_from(ZONES)), **draw(windows(rows)),
        "policies": draw(st.one_of(st.none(), settings_of_policies().map(policy_frame))),
        "unobserved": draw(st.one_of(st.none(), holes(rows).map(hole_frame))),
        "retire_after": draw(st.one_of(st.none(), st.sampled_from(["6h", "2D"]))),
    }  # fmt: skip
    return frame(rows), asked


def whole_periods(sessions, asked):
    """Sizes of the periods that lie whole between the first instant known and the last, by group."""
    daily = sizes(sessions, **asked)
    as_of = pd.Timestamp(asked["as_of"] or (
        sessions["as_of"].max() if sessions["as_of"].notna().any()
        else max(sessions["created"].max(), sessions["ended"].max())
    ))  # fmt: skip
    since = pd.Timestamp(asked["since"] or sessions["created"].min())
    until = min(as_of, pd.Timestamp(asked["until"] or as_of))
    if asked["freq"] == "h":
        half = pd.Timedelta("30min" if asked["tz"] == "Asia/Kolkata" else "0min")
        begins = (daily["period"] + half).dt.floor("h") - half
        ends = begins + pd.Timedelta("1h")
    else:
        begins = daily["period"].dt.tz_convert(asked["tz"]).dt.normalize()
        ends = begins.map(lambda midnight: midnight + pd.DateOffset(days=1))
    whole = [since <= begin and end <= until for begin, end in zip(begins, ends, strict=True)]
    keys = list(asked["by"])
    found = {}
    for row, kept in zip(daily.to_dict("records"), whole, strict=True):
        series = found.setdefault(tuple(str(row[key]) for key in keys), [])
        if kept and not pd.isna(row["size"]):
            series.append((row["period"], int(row["size"])))
    return found


@given(asked=sized_fleets(), horizon=st.sampled_from(["1D", "30D"]))
def test_a_trend_is_the_median_of_all_slopes(asked, horizon):
    sessions, options = asked
    got = size_trend(sessions, horizon=horizon, **options)
    series = whole_periods(sessions, options)
    assert len(got) == len(series)
    for row in got.to_dict("records"):
        points = series[tuple(str(row[key]) for key in options["by"])]
        assert row["periods"] == len(points)
        if len(points) < 5:
            assert pd.isna(row["slope"])
            assert pd.isna(row["projected"])
            continue
        day = pd.Timedelta("1D")
        slope = median(
            (b - a) / ((later - earlier) / day)
            for number, (earlier, a) in enumerate(points) for later, b in points[number + 1 :]
        )  # fmt: skip
        assert row["slope"] == pytest.approx(slope, abs=1e-9)
        size = points[-1][1]
        assert row["change"] == size - points[0][1]
        few = len({level for _, level in points}) < 5
        for name in ("slope", "projected"):
            assert pd.isna(row[f"{name}_low"]) == few
            assert few or row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["size"] == size
        projected = size + slope * (pd.Timedelta(horizon) / day)
        assert row["projected"] == pytest.approx(projected, abs=1e-9)
        if size:
            assert row["growth"] == pytest.approx(projected / size - 1, abs=1e-9)
        else:
            assert pd.isna(row["growth"])


@given(asked=sized_fleets(), z=st.sampled_from([0.5, 1, 3.5]))
def test_anomalies_are_what_the_definition_finds_one_by_one(asked, z):
    sessions, options = asked
    expected = []
    for name, points in whole_periods(sessions, options).items():
        if len(points) < 5:
            continue
        sized = [size for _, size in points]
        middle = [median(sized[max(0, n - 3) : n + 4]) for n in range(len(sized))]
        residual = [size - around for size, around in zip(sized, middle, strict=True)]
        off = [value - median(residual) for value in residual]
        mad = median(abs(value) for value in off)
        for n, (period, size) in enumerate(points):
            if mad and abs(0.6745 * off[n] / mad) > z:
                score = 0.6745 * off[n] / mad
                expected.append((*name, period, size, middle[n], residual[n], score, "outlier"))
            elif not mad and n and size != sized[n - 1]:
                before = sized[n - 1]
                expected.append((*name, period, size, before, size - before, None, "step"))
    got = [
        (*map(str, row[: len(options["by"])]), *row[len(options["by"]) :])
        for row in size_anomalies(sessions, z=z, **options).itertuples(index=False, name=None)
    ]
    assert [row[:-2] for row in got] == [row[:-2] for row in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert mine[-1] == theirs[-1]
        assert pd.isna(mine[-2]) if theirs[-2] is None else mine[-2] == pytest.approx(theirs[-2])


def test_the_defaults_are_those_written():
    """At 3.5 a score of 3.4 is not an outlier, and ten of eleven offenders are listed."""
    rows = [(f"vm-{n:02d}", "00:00", "08:00", "Success") for n in range(11)]
    late = table(*rows, ("other", "00:00", "24:00", "Success"))
    assert len(worst(late, target="1h")) == 10
    assert len(worst(late, None, "1h")) == 11
    assert worst(late, target="1h")["breached"].eq(minutes(15 * 60)).all()
