"""The seven laws of `metrics.md`, and what follows from them, as properties of random fleets."""

import datetime as dt
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal

from cdpanalytics.metrics import (
    compare,
    durations,
    gaps,
    incidents,
    objectives,
    rpo_adherence,
    sizes,
    worst,
)
from cdpanalytics.metrics.core.states import STATES
from cdpanalytics.metrics.registry import REGISTRY

from .asked import OF_SESSIONS, TARGET, advice, all_but, arguments, ask, taken
from .strategies import (
    BY,
    FREQUENCIES,
    HOURS,
    MINUTES,
    STEP,
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

SUMS = ["observed", "exposed", "breached"]
HALF_A_DAY = pd.Timedelta("12h")
OF_ROWS_KEPT_ONCE = all_but({"quality": "counts rows that were fetched twice"})
PER_VM = all_but(
    {
        "worst": "divides by the breached time of all VMs",
        "incidents": "finds those of several VMs",
        "offenders": "compares each VM with the others",
        "quality": "counts the sessions of all VMs",
    }
)
ORDERS = {
    "gaps": lambda table: table.sort_values(["start", "backup_server", "vm"], ignore_index=True),
    "compare": lambda table: table.sort_values(
        "change", key=abs, ascending=False, kind="stable", ignore_index=True
    ),
    "status": lambda table: (
        table.sort_values("age", ascending=False, kind="stable")
        .sort_values("state", key=lambda of: of.map(STATES.index), kind="stable", ignore_index=True)
    ),
}  # fmt: skip
"""How rows that come by VM are put in the metric's own order."""


def begun(window, rows):
    """A window that has a beginning, and the period before it, as compare needs both."""
    since, until = window["since"] or rows[0]["created"], window["until"]
    until = until if until and until > since else None
    return window | {"since": since, "until": until, "before": (since - HALF_A_DAY, since)}


@given(data=st.data())
def test_1_row_order_pages_and_duplicated_rows_never_change_a_result(data):
    rows, name = data.draw(fleets()), data.draw(st.sampled_from(OF_ROWS_KEPT_ONCE))
    again = data.draw(st.lists(st.sampled_from(rows), max_size=3))
    shuffled = data.draw(st.permutations(again + rows))
    cut = data.draw(st.integers(0, len(shuffled)))
    pages = [frame(part) for part in (shuffled[:cut], shuffled[cut:]) if part]
    with advice(
        f"{name}: if it counts each row, add it to OF_ROWS_KEPT_ONCE in tests/metrics/test_laws.py"
    ):
        assert_frame_equal(ask(name, pd.concat(pages)), ask(name, frame(rows)))


@given(data=st.data())
def test_2_adherence_is_a_share_and_never_falls_when_the_target_grows(data):
    rows = data.draw(fleets())
    fleet = frame(rows)
    small, more = data.draw(MINUTES), data.draw(MINUTES)
    asked = {
        "by": data.draw(st.sampled_from(BY)),
        "schedule": data.draw(st.one_of(st.none(), HOURS)),
        **data.draw(windows(rows)),
    }
    tight = rpo_adherence(fleet, small, **asked)
    loose = rpo_adherence(fleet, small + more, **asked)
    for table in (tight, loose):
        assert (table["breached"] <= table["exposed"]).all()
        assert (table["exposed"] <= table["observed"]).all()
        assert (table["breached"] >= pd.Timedelta(0)).all()
        for column in ("adherence", "adherence_strict", "gap_adherence", "success_rate"):
            assert table[column].dropna().between(0, 1).all()
        judged = table["adherence_strict"].notna()
        assert (table["adherence_strict"] <= table["adherence"])[judged].all()
        assert (table["adherence"].isna() == (table["observed"] == pd.Timedelta(0))).all()
    for column in ("adherence", "adherence_strict", "gap_adherence"):
        known = tight[column].notna()
        assert (tight[column] <= loose[column])[known].all()


@given(data=st.data())
def test_3_adjacent_windows_add_up(data):
    rows = data.draw(fleets())
    fleet = frame(rows)
    moments = st.lists(instants(rows), min_size=3, max_size=3, unique=True)
    since, middle, until = sorted(data.draw(moments))
    asked = {
        "by": data.draw(st.sampled_from(BY)),
        "target": data.draw(MINUTES),
        "schedule": data.draw(st.one_of(st.none(), HOURS)),
        "tz": data.draw(st.sampled_from(ZONES)),
    }
    first = rpo_adherence(fleet, since=since, until=middle, **asked)
    second = rpo_adherence(fleet, since=middle, until=until, **asked)
    whole = rpo_adherence(fleet, since=since, until=until, **asked)
    assert_frame_equal(first[SUMS] + second[SUMS], whole[SUMS])
    assert (first["sessions"] + second["sessions"] == whole["sessions"]).all()


@given(data=st.data())
def test_3_periods_add_up_to_the_whole(data):
    rows = data.draw(fleets(most=6))
    fleet = frame(rows)
    freq, tz = data.draw(st.sampled_from(FREQUENCIES[1:])), data.draw(st.sampled_from(ZONES))
    asked = {"target": data.draw(MINUTES), "tz": tz, **data.draw(windows(rows))}
    parts = rpo_adherence(fleet, freq=freq, **asked)
    whole = rpo_adherence(fleet, **asked)
    keys = ["policy", "vm"]
    counts = [*SUMS, "sessions", "success", "warning", "failed", "unknown"]
    added = parts.groupby(keys, dropna=False)[counts].sum().reset_index()
    assert_frame_equal(added, whole[[*keys, *counts]], check_dtype=False)
    assert parts["period"].is_monotonic_increasing or len(whole) > 1


@given(data=st.data())
def test_4_disjoint_vms_add_up(data):
    rows, name = data.draw(fleets()), data.draw(st.sampled_from(PER_VM))
    asked = begun(data.draw(windows(rows)), rows) | {
        "as_of": data.draw(instants(rows)), "by": ("backup_server", "vm"),
    }  # fmt: skip
    table = frame(rows)
    asked = arguments(name, table) | taken(name, **asked)
    with advice(
        f"{name}: its rows have an order of their own, or are not of one VM each: "
        "add it to ORDERS or PER_VM in tests/metrics/test_laws.py"
    ):
        parts = [ask(name, part, **asked) for _, part in table.groupby(["backup_server", "vm"])]
        whole, added = ask(name, table, **asked), pd.concat(parts, ignore_index=True)
        if name in ORDERS:
            added = ORDERS[name](added)
        assert_frame_equal(added, whole, check_dtype=False)


@given(data=st.data())
def test_5_a_session_split_in_two_touching_ones_changes_nothing_but_counts(data):
    rows = data.draw(fleets(one_policy=True, stamped=False))
    long = [
        row for row in rows
        if row["state"] == "Completed" and row["ended"] and row["ended"] - row["created"] > STEP
    ]  # fmt: skip
    assume(long)
    whole = data.draw(st.sampled_from(long))
    steps = (whole["ended"] - whole["created"]) // STEP
    middle = whole["created"] + data.draw(st.integers(1, steps - 1)) * STEP
    halves = [
        whole | {"uid": "first", "ended": middle},
        whole | {"uid": "second", "created": middle},
    ]
    split = [row for row in rows if row is not whole] + halves
    asked = {"schedule": data.draw(st.one_of(st.none(), HOURS)), **data.draw(windows(rows))}
    asked["as_of"] = (
        None  # what ended after an as_of in the past was running then, its half was not
    )
    kept = ["vm", "rpo", *SUMS, "gaps", "breaches", "worst_gap", "adherence", "adherence_strict"]
    if data.draw(st.booleans()):
        assert_frame_equal(gaps(frame(split), **asked), gaps(frame(rows), **asked))
    else:
        assert_frame_equal(
            rpo_adherence(frame(split), **asked)[kept], rpo_adherence(frame(rows), **asked)[kept]
        )


@given(data=st.data())
def test_6_whole_weeks_shift_the_answer_and_change_nothing_else(data):
    rows = data.draw(fleets())
    shift = dt.timedelta(weeks=data.draw(st.integers(-60, 60)))
    moved = [
        row | {name: row[name] and row[name] + shift for name in ("created", "ended", "as_of")}
        for row in rows
    ]
    window = data.draw(windows(rows))
    shifted = {name: at and at + shift for name, at in window.items()}
    name = data.draw(st.sampled_from(OF_SESSIONS))
    spec = REGISTRY[name]
    if spec.looks_back:
        window, shifted = begun(window, rows), begun(shifted, moved)
    asked = {
        "freq": data.draw(st.sampled_from([*([] if spec.freq else [None]), "h", "D", "W"])),
        "schedule": data.draw(st.one_of(st.none(), HOURS)),
    }
    table = ask(name, frame(rows), **taken(name, **asked, **window))
    for column in table.select_dtypes("datetimetz"):
        table[column] += shift
    assert_frame_equal(ask(name, frame(moved), **taken(name, **asked, **shifted)), table)


@given(data=st.data())
def test_7_nothing_vanishes(data):
    rows, policies = data.draw(fleets()), data.draw(settings_of_policies())
    fleet, window = frame(rows), data.draw(windows(rows))
    table = rpo_adherence(
        fleet, TARGET, by=("backup_server", "policy", "vm"),
        policies=policy_frame(policies), **window,
    )  # fmt: skip
    counted = table[["success", "warning", "failed", "unknown"]].sum(axis=1)
    assert (counted == table["sessions"]).all()
    lasted = durations(fleet, by=(), **window)[["sessions", "running", "unknown"]]
    assert lasted.sum(axis=1).item() == table["sessions"].sum()
    keys = table[["backup_server", "policy", "vm"]].astype(object)
    out = set(keys.where(keys.notna(), None).itertuples(index=False, name=None))
    named = {(p["backup_server"], p["policy"], vm) for p in policies for vm in p["vms"]}
    assert out == named | {(r["backup_server"], r["policy"], r["vm"]) for r in rows}


@given(data=st.data())
def test_older_settings_of_a_policy_change_nothing(data):
    rows, newest, older = (
        data.draw(each) for each in (fleets(), settings_of_policies(), settings_of_policies())
    )
    target = dt.timedelta(minutes=30)  # an unknown one is that of older settings
    first = pd.Timestamp(min(row["created"] for row in rows)) - pd.Timedelta("9D")
    now, before = (
        policy_frame([{**row, "rpo": row["rpo"] or target} for row in each]).assign(seen_from=seen)
        for each, seen in ((newest, first), (older, first - pd.Timedelta("9D")))
    )
    asked, fleet = {"freq": "D", **data.draw(windows(rows))}, frame(rows)
    assert_frame_equal(
        rpo_adherence(fleet, policies=pd.concat([before, now], ignore_index=True), **asked),
        rpo_adherence(fleet, policies=now, **asked),
    )


@given(data=st.data())
def test_7_observed_and_left_out_are_all_scheduled_time_since_the_first_attempt(data):
    """Of the scheduled time since a VM's first attempt, nothing is lost between the four."""
    rows = data.draw(fleets())
    asked = {
        "target": data.draw(MINUTES), "by": data.draw(st.sampled_from(BY)),
        "freq": data.draw(st.sampled_from([None, "D"])), "tz": data.draw(st.sampled_from(ZONES)),
        "schedule": data.draw(st.one_of(st.none(), HOURS)), **data.draw(windows(rows)),
    }  # fmt: skip
    whole = rpo_adherence(frame(rows), **asked)
    parts = rpo_adherence(
        frame(rows), exclude=maintenance_frame(data.draw(maintenance(rows))),
        grace=data.draw(st.one_of(st.none(), MINUTES)),
        retire_after=data.draw(st.one_of(st.none(), MINUTES)), **asked,
    )  # fmt: skip
    left_out = ["unobserved", "excluded", "retired"]
    assert (parts[["observed", *left_out]].sum(axis=1) == whole["observed"]).all()
    assert (parts[left_out] >= pd.Timedelta(0)).all(axis=None)
    assert_series_equal(parts["adherence_full"], whole["adherence"], check_names=False)


@given(data=st.data())
def test_7_holes_only_move_time_from_observed_to_unobserved(data):
    """A hole can also end the cover of a session that ran when it began, so owners are left out."""
    rows = data.draw(fleets())
    asked = {"by": ("backup_server", "vm"), "schedule": data.draw(st.one_of(st.none(), HOURS)),
             **data.draw(windows(rows))}  # fmt: skip
    whole = rpo_adherence(frame(rows), **asked)
    parts = rpo_adherence(frame(rows), unobserved=hole_frame(data.draw(holes(rows))), **asked)
    assert (parts["observed"] + parts["unobserved"] == whole["observed"]).all()


@given(data=st.data())
def test_adherence_never_rises_as_an_open_gap_grows(data):
    rows = [row for row in data.draw(fleets(stamped=False)) if row["state"] != "InProgress"]
    assume(rows)
    last = max(max(row["created"], row["ended"] or row["created"]) for row in rows)
    moments = sorted(
        last + n * STEP for n in data.draw(st.lists(st.integers(1, 200), min_size=2, max_size=4))
    )
    asked = {"target": data.draw(MINUTES), "by": ("backup_server", "vm"),
             "retire_after": data.draw(st.one_of(st.none(), MINUTES))}  # fmt: skip
    read = [rpo_adherence(frame(rows), as_of=at, **asked) for at in moments]
    for before, after in pairwise(read):
        exposed = after["exposed"] > before["exposed"]
        assert (after["breached"] >= before["breached"])[exposed].all()
    past = [rpo_adherence(frame(rows), as_of=at, until=moments[0], **asked) for at in moments]
    for table in past[1:]:
        assert_frame_equal(table[SUMS], past[0][SUMS])


@given(data=st.data())
def test_a_budget_is_of_the_time_observed_and_what_is_left_of_it(data):
    rows, share = data.draw(fleets()), data.draw(st.sampled_from([0.5, 0.9, 0.999, 1]))
    asked = {
        "target": data.draw(MINUTES), "by": data.draw(st.sampled_from(BY)),
        "schedule": data.draw(st.one_of(st.none(), HOURS)),
    }  # fmt: skip
    adherence = rpo_adherence(frame(rows), **asked)
    found = objectives(frame(rows), share, **asked)
    by_vm = ["vms_met", "all_protected", "no_target", "undecided"]
    assert_frame_equal(found.drop(columns=by_vm), objectives(adherence, share).drop(columns=by_vm))
    known = adherence["adherence"].notna()
    assert (found["passed"].isna() == ~known).all()
    assert (found["spent"] == adherence["breached"])[known].all()
    assert (found["remaining"] == found["budget"] - found["spent"])[known].all()
    assert (found["passed"] == (found["remaining"] >= pd.Timedelta(0)))[known].all()
    assert (found["elapsed"] == 1)[known].all()
    loose = objectives(frame(rows), share / 2, **asked)
    assert (loose["passed"] >= found["passed"])[known].all(), "a smaller promise is kept sooner"


@given(data=st.data())
def test_the_worst_explain_no_more_than_all_and_come_in_order(data):
    rows = data.draw(fleets())
    asked = {"target": data.draw(MINUTES), "by": data.draw(st.sampled_from(BY))}
    every = worst(frame(rows), n=None, **asked)
    breached = rpo_adherence(frame(rows), **asked)["breached"]
    assert every["breached"].sum() == breached.sum()
    assert every["breached"].is_monotonic_decreasing
    if len(every):
        assert every["explained"].iloc[-1] == pytest.approx(1)
        assert every["explains"].sum() == pytest.approx(1)
    few = data.draw(st.integers(1, 3))
    assert_frame_equal(worst(frame(rows), n=few, **asked), every.head(few))


@given(data=st.data())
def test_compare_puts_two_answers_side_by_side(data):
    rows = data.draw(fleets())
    moments = st.lists(instants(rows), min_size=3, max_size=3, unique=True)
    before, since, until = sorted(data.draw(moments))
    asked = {"target": data.draw(MINUTES), "by": ("backup_server", "policy", "vm")}
    table = compare(frame(rows), since, until, (before, since), **asked)
    now = rpo_adherence(frame(rows), since=since, until=until, **asked)
    then = rpo_adherence(frame(rows), since=before, until=since, **asked)
    assert table["breached"].sum() == now["breached"].sum()
    assert table["breached_before"].sum() == then["breached"].sum()
    same = compare(frame(rows), since, until, (since, until), **asked)
    assert not same["verdict"].isin(["better", "worse", "new", "gone"]).any()


@given(data=st.data())
def test_groups_are_sums_of_their_vms(data):
    rows = data.draw(fleets())
    fleet = frame(rows)
    asked = {"target": data.draw(MINUTES), **data.draw(windows(rows))}
    each = rpo_adherence(fleet, by=("backup_server", "policy", "vm"), **asked)
    by = data.draw(st.sampled_from(["policy", "vm", "backup_server"]))
    summed = [*SUMS, "sessions", "gaps", "breaches"]
    added = each.groupby(by, dropna=False)[summed].sum().reset_index(drop=True)
    assert_frame_equal(added, rpo_adherence(fleet, by=by, **asked)[summed], check_dtype=False)


@given(data=st.data())
def test_the_rows_of_gaps_add_up_to_what_is_exposed_and_breached(data):
    rows = data.draw(fleets())
    fleet = frame(rows)
    asked = {
        "target": data.draw(MINUTES),
        "schedule": data.draw(st.one_of(st.none(), HOURS)),
        "as_of": data.draw(st.one_of(st.none(), instants(rows))),
    }
    found = gaps(fleet, **asked)
    total = rpo_adherence(fleet, by=(), **asked).iloc[0]
    assert found["exposure"].sum() == total["exposed"]
    assert found["breached"].sum() == total["breached"]
    assert len(found) == total["gaps"]
    assert (found["breached"] > pd.Timedelta(0)).sum() == total["breaches"]


WORDS = ["uid", "vm", "policy", "backup_server", "state", "result", "reason"]
DRESSES = {
    "categorical": lambda t: t.astype(dict.fromkeys(WORDS[1:], "category")),
    "object": lambda t: t.astype(dict.fromkeys(WORDS, object)),
    "arrow": lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
    "arrow dictionary": lambda t: t.astype(dict.fromkeys(WORDS[1:6], "category")).convert_dtypes(
        dtype_backend="pyarrow"
    ),
    "nanoseconds": lambda t: t.astype(
        dict.fromkeys(["created", "ended", "as_of"], "datetime64[ns, UTC]")
    ),
    "another zone": lambda t: t.assign(
        created=t["created"].dt.tz_convert("Asia/Kolkata"),
        ended=t["ended"].dt.tz_convert("America/New_York"),
    ),
    "gaps in the index": lambda t: t.set_axis([3 * n + 5 for n in range(len(t))]),
    "one index for all": lambda t: t.set_axis([0] * len(t)),
    "words for index": lambda t: t.set_axis([f"row {n}" for n in range(len(t))]),
    "columns in another order": lambda t: t[sorted(t.columns)],
    "a column more": lambda t: t.assign(extra=1),
    "filtered out of a larger frame": lambda t: (
        pd.concat([t, t.assign(vm="other", uid="x")])
        .astype(dict.fromkeys(WORDS[1:], "category"))
        .query("vm != 'other'")
    ),
}


@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES.keys())
def test_types_and_indexes_never_change_the_worked_answers(dress):
    begin = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
    rows = [
        {"uid": f"{n}", "vm": "db", "policy": "gold", "backup_server": "east",
         "created": begin + n * 9 * STEP, "ended": None if n == 2 else begin + (n * 9 + 6) * STEP,
         "state": "InProgress" if n == 2 else "Completed", "result": result, "reason": "why",
         "total_size": 16 << 30, "rpo": dt.timedelta(minutes=15), "as_of": None}
        for n, result in enumerate(["Success", "Failed", "Success"])
    ]  # fmt: skip
    plain = frame(rows)
    for metric in (rpo_adherence, gaps, durations, sizes):
        assert_frame_equal(metric(dress(plain)), metric(plain))
    assert gaps(plain)["cause"].tolist() == ["Failed: why"]


@given(rows=fleets(), name=st.sampled_from(OF_SESSIONS), dress=st.sampled_from(list(DRESSES)))
def test_types_and_indexes_never_change_a_result_and_inputs_stay_as_they_are(rows, name, dress):
    plain = frame(rows)
    dressed = DRESSES[dress](plain)
    before = dressed.copy(deep=True)
    assert_frame_equal(ask(name, dressed), ask(name, plain))
    assert_frame_equal(dressed, before)


@given(data=st.data())
def test_incidents_add_up_to_the_breached_time_and_parts_to_the_whole(data):
    rows = data.draw(fleets())
    asked = {
        "target": data.draw(MINUTES), "schedule": data.draw(st.one_of(st.none(), HOURS)),
        "exclude": maintenance_frame(data.draw(maintenance(rows))),
        "retire_after": data.draw(st.one_of(st.none(), MINUTES)), **data.draw(windows(rows)),
    }  # fmt: skip
    fleet = frame(rows)
    table = incidents(fleet, within="1h", least=2, **asked)
    whole = rpo_adherence(fleet, by=(), **asked).iloc[0]
    assert table["breached"].sum() == whole["breached"]
    assert table["breached"].is_monotonic_decreasing
    assert table["explains"].sum() == pytest.approx(float(len(table) > 0))
    spec = REGISTRY["incidents"]
    own = {"within": "1h", "least": 2, "merge": "1h"}
    names = {key: value for key, value in asked.items() if key != "as_of"}
    question, terms, own = spec.parse(**names, as_of=effective(fleet, asked), **own)
    parts = [
        spec.partial_of(vm.reset_index(drop=True), question, terms, **own)
        for _, vm in fleet.groupby(["backup_server", "vm"])
    ]
    joined = spec.finalize(spec.combine(parts), question, terms, **own)
    assert_frame_equal(joined, incidents(fleet, within="1h", least=2, **asked))


def effective(fleet, asked):
    """The as_of that all ranges of an archive share."""
    stamps = [fleet["as_of"].max(), fleet[["created", "ended"]].max(axis=None)]
    return asked["as_of"] or next(stamp for stamp in stamps if not pd.isna(stamp))
