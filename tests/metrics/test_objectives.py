"""Objectives, the worst, two periods compared, and odd sizes, worked out on paper."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import (
    compare,
    objectives,
    rpo_adherence,
    size_anomalies,
    worst,
)
from cdpanalytics.metrics.core.shares import Shares

from .strategies import BY, HOURS, MINUTES, fleets, frame, maintenance, maintenance_frame, windows
from .test_worked_examples import at, hours, only, table


@pytest.fixture
def fleet():
    """Of 24 h each: a misses 3 h (05-09, target 1 h), b 1 h (20-22), c nothing."""
    return table(
        ("a", "00:00", "05:00", "Success"), ("a", "09:00", "24:00", "Success"),
        ("b", "00:00", "20:00", "Success"), ("b", "22:00", "24:00", "Success"),
        ("c", "00:00", "24:00", "Success"),
    )  # fmt: skip


def test_budget_spent_and_left(fleet):
    """95 % of 24 h allows 1 h 12 min: a spent 3 h, b 1 h, c nothing."""
    found = objectives(fleet, 0.95, "1h")
    assert found["budget"].tolist() == [hours(1.2)] * 3
    assert found["spent"].tolist() == [hours(3), hours(1), hours(0)]
    assert found["remaining"].tolist() == [hours(-1.8), hours(0.2), hours(1.2)]
    assert found["passed"].tolist() == [False, True, True]
    assert found["burn_rate"].tolist() == pytest.approx([2.5, 1 / 1.2, 0])
    assert found["elapsed"].tolist() == [1, 1, 1]


def test_an_adherence_table_gives_the_same(fleet):
    table = rpo_adherence(fleet, "1h")
    of_sessions, of_table = objectives(fleet, 0.95, "1h"), objectives(table, 0.95)
    by_vm = ["vms_met", "all_protected", "no_target", "undecided"]
    assert of_table[by_vm].isna().all(axis=None)
    pd.testing.assert_frame_equal(of_table.drop(columns=by_vm), of_sessions.drop(columns=by_vm))
    assert of_table.columns.tolist() == of_sessions.columns.tolist()
    with pytest.raises(InputError, match="takes only objective="):
        objectives(table, 0.95, since="2026-10-01")


def test_an_adherence_table_without_a_target_is_neither_passed_nor_missed(fleet):
    some = fleet.assign(rpo=pd.to_timedelta(["1h", "1h", None, None, "1h"]))
    found = objectives(rpo_adherence(some), 0.95)
    assert found["passed"].tolist() == [False, pd.NA, True]
    assert found["spent"].isna().tolist() == [False, True, False]


def test_a_window_not_over_has_the_budget_of_all_of_it(fleet):
    """One day of four is over: 95 % of 96 h allows 4 h 48 min, burnt at the same rate."""
    found = objectives(fleet, 0.95, "1h", until=at("2026-10-05 00:00"))
    assert found["budget"].tolist() == [hours(4.8)] * 3
    assert found["elapsed"].tolist() == [0.25] * 3
    assert found["remaining"].tolist() == [hours(1.8), hours(3.8), hours(4.8)]
    assert found["passed"].tolist() == [False, True, True]  # so far
    assert found["burn_rate"].tolist() == pytest.approx([2.5, 1 / 1.2, 0])


def test_a_period_not_over_counts_to_its_natural_end(fleet):
    """Thursday 1 October is one of the four days that are left of its week."""
    found = objectives(fleet, 0.95, "1h", by=(), freq="W")
    assert found["elapsed"].tolist() == [0.25]
    assert found["budget"].tolist() == [3 * hours(4.8)]


def test_exactly_the_objective_passes_and_a_microsecond_more_does_not():
    """0.999 of 1000 s: 1 s may be late. In floats 1 - 0.999 is a little more than 0.001."""
    for late, passed in (("1s", True), ("1000001us", False)):
        begin = at("00:00")
        sessions = pd.DataFrame({
            "vm": "db", "created": [begin, begin + pd.Timedelta("500s") + pd.Timedelta(late)],
            "ended": [begin + pd.Timedelta("500s"), begin + pd.Timedelta("1000s")],
        })  # fmt: skip
        row = only(objectives(sessions, 0.999, "0s"))
        assert row["budget"] == pd.Timedelta("1s")
        assert bool(row["passed"]) is passed


def test_a_budget_is_rounded_down_once_for_all_its_shares():
    """70 % of 9 us allow 2.7 us, and 95 % of 10 us half of one: 3.2 us together, of which 3 count."""
    shares = Shares((0.7, 0.95))
    lengths, nothing = np.array([9, 10]), np.zeros(2, dtype=np.int64)
    allowed, exact = shares.allowed(lengths, np.array([0, 1]), nothing, 1)
    assert (allowed.tolist(), exact.tolist()) == ([3], [3.2])
    each, _ = shares.allowed(lengths, np.array([0, 1]), np.arange(2), 2)
    assert each.tolist() == [2, 0]


def test_a_microsecond_is_enough_to_judge():
    begin = at("00:00")
    one = pd.DataFrame({"vm": "db", "created": [begin], "ended": [begin + pd.Timedelta("1us")]})
    row = only(objectives(one, 0.95, "1h"))
    assert (row["passed"], row["all_protected"], row["vms_met"]) == (True, 1.0, 1)
    assert only(rpo_adherence(one, "1h"))["adherence"] == 1.0


def test_nothing_observed_is_neither_passed_nor_missed(fleet):
    found = only(objectives(fleet.iloc[:0], 0.95, "1h", by=()))
    assert found[["passed", "budget", "spent", "remaining", "elapsed", "burn_rate"]].isna().all()
    assert objectives(fleet, 0.95)["passed"].isna().all()  # no target is known


# -- several ways to add up ------------------------------------------------------------


def test_each_vm_for_itself_and_all_at_once(fleet):
    """a is breached 06-09, b 21-22: 1 h 12 min is allowed each, and 4 of 24 h saw one of them."""
    row = only(objectives(fleet, 0.95, "1h", by=()))
    assert (row["vms"], row["vms_met"], row["no_target"], row["undecided"]) == (3, 2, 0, 0)
    assert row["all_protected"] == pytest.approx(1 - 4 / 24, rel=1e-12)
    assert row["adherence"] == pytest.approx(1 - 4 / 72, rel=1e-12)
    assert objectives(fleet, 0.95, "1h")["vms_met"].tolist() == [0, 1, 1]
    halves = objectives(fleet, 0.95, "1h", by=(), since=at("12:00"))
    assert halves["all_protected"].tolist() == pytest.approx([1 - 1 / 12])


def test_breaches_at_the_same_time_count_once_when_all_are_looked_at(fleet):
    """d is breached 07-10 (target 1 h, uncovered from 06): with a, 06-10 is one stretch of 4 h."""
    four = pd.concat([fleet, table(("d", "00:00", "06:00", "Success"),
                                   ("d", "10:00", "24:00", "Success"))])  # fmt: skip
    row = only(objectives(four, 0.95, "1h", by=()))
    assert row["all_protected"] == pytest.approx(1 - 5 / 24, rel=1e-12)
    assert row["spent"] == hours(7)
    twice = pd.concat([four, four.assign(policy="iron", vm=four["vm"] + "2")])
    each = objectives(twice, 0.95, "1h", by="policy")
    assert each["all_protected"].tolist() == pytest.approx([1 - 5 / 24] * 2, rel=1e-12)


def test_a_schedule_counts_for_all_protected():
    """Forbidden 08-16: of 16 h the VM is breached 16:15-16:30 and 20:15-21:00, as metrics.md has it."""
    day = table(
        ("a", "00:00", "08:00", "Success"), ("a", "16:30", "20:00", "Success"),
        ("a", "21:00", "24:00", "Success"),
    )  # fmt: skip
    office = {day: [1] * 8 + [0] * 8 + [1] * 8 for day in (
        "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")}  # fmt: skip
    row = only(objectives(day, 0.9, "15min", by=(), schedule=office))
    assert row["all_protected"] == row["adherence"] == pytest.approx(0.9375, rel=1e-12)
    dark = only(objectives(day, 0.9, "15min", by=(), schedule=office,
                           exclude=[(at("16:20"), at("20:30"))]))  # fmt: skip
    assert dark["observed"] == hours(16) - pd.Timedelta("4h10min")
    assert dark["spent"] == pd.Timedelta("5min") + pd.Timedelta("15min")
    assert dark["all_protected"] == dark["adherence"]


def test_a_vm_without_a_target_is_counted_and_left_out(fleet):
    some = fleet.assign(rpo=pd.to_timedelta(["1h", "1h", None, None, "1h"]))
    row = only(objectives(some, 0.95, by=()))
    assert (row["vms"], row["no_target"], row["vms_met"]) == (3, 1, 1)
    assert (row["observed"], row["spent"]) == (hours(48), hours(3))
    assert row["all_protected"] == pytest.approx(1 - 3 / 24, rel=1e-12)
    assert not row["passed"]
    none = only(objectives(fleet, 0.95, by=()))
    assert (none["no_target"], none["vms_met"]) == (3, 0)
    assert pd.isna(none["all_protected"])


def test_an_objective_is_never_met_while_a_vm_was_never_seen(fleet):
    policies = pd.DataFrame(
        {"policy": ["gold"], "backup_server": ["east"], "vms": [["a", "never"]]}
    )
    low = only(objectives(fleet, 0.5, "1h", by="policy", policies=policies))
    assert pd.isna(low["passed"]), "the rest would pass"
    assert (low["vms"], low["undecided"], low["vms_met"]) == (4, 1, 3)
    high = only(objectives(fleet, 0.99, "1h", by="policy", policies=policies))
    assert high["passed"] == False  # noqa: E712 - missed by what is known
    excluded = pd.DataFrame({"start": [at("23:00")], "end": [at("24:00")], "vm": ["never"]})
    left_out = only(objectives(fleet, 0.5, "1h", by="policy", policies=policies, exclude=excluded))
    assert left_out["passed"]
    earlier = excluded.assign(end=[at("23:30")])
    again = only(objectives(fleet, 0.5, "1h", by="policy", policies=policies, exclude=earlier))
    assert pd.isna(again["passed"])


def test_an_objective_is_never_met_while_a_vm_is_unknown_at_the_end(fleet):
    hole = pd.DataFrame({"start": [at("23:00")], "end": [at("23:30")]})
    ended = fleet.assign(ended=fleet["ended"].mask(fleet["vm"] == "c", at("20:00")))
    asked = {"target": "1h", "by": "vm", "unobserved": hole, "as_of": at("2026-10-02 00:00")}
    found = objectives(ended, 0.5, **asked).set_index("vm")
    assert found["undecided"].to_dict() == {"a": 0, "b": 0, "c": 1}
    assert found["passed"].isna().to_dict() == {"a": False, "b": False, "c": True}
    daily = objectives(ended, 0.5, freq="h", **asked)
    last = daily[daily["period"] == at("22:00")]
    assert last["undecided"].tolist() == [0, 0, 0]


def test_a_group_that_mixes_objectives_has_the_sum_of_the_budgets(fleet):
    """a and c are promised 0.9, b 0.95: 2.4 + 1.2 + 2.4 h are allowed."""
    moved = fleet.assign(policy=["gold", "gold", "iron", "iron", "gold"])
    promises = pd.DataFrame({"policy": ["gold", "iron"], "objective": [0.9, 0.95]})
    row = only(objectives(moved, promises, "1h", by=()))
    assert row["budget"] == hours(6.0)
    assert pd.isna(row["objective"])
    assert (row["passed"], row["vms_met"]) == (True, 2)
    assert row["burn_rate"] == pytest.approx(4 / 6)
    by_policy = objectives(moved, promises, "1h", by="policy")
    assert by_policy["objective"].tolist() == [0.9, 0.95]
    for policy, share in zip(promises["policy"], promises["objective"], strict=True):
        alone = objectives(moved, share, "1h", by="policy")
        mine = alone[alone["policy"] == policy].reset_index(drop=True)
        other = by_policy[by_policy["policy"] == policy].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, other)
    with pytest.raises(InputError, match=r"has no row for \['iron'\]; add one"):
        objectives(moved, promises.iloc[:1], "1h")
    with pytest.raises(InputError, match=r"names \['gold'\] twice"):
        objectives(moved, pd.concat([promises, promises.iloc[:1]]), "1h")
    with pytest.raises(InputError, match="needs the column 'objective' and those that decide it"):
        objectives(moved, promises.drop(columns="objective"), "1h")


def test_an_objective_of_everything_allows_nothing(fleet):
    found = objectives(fleet, 1, "1h")
    assert found["budget"].tolist() == [hours(0)] * 3
    assert found["passed"].tolist() == [False, False, True]
    assert found["burn_rate"].isna().all()


@pytest.mark.parametrize("objective", [99.9, 0, -1, "all", None, np.nan])
def test_an_objective_that_is_no_share_is_refused(fleet, objective):
    with pytest.raises(InputError, match=r"is not a share above 0 and up to 1; write 0\.999 for"):
        objectives(fleet, objective, "1h")


@given(data=st.data())
def test_an_objective_is_passed_where_adherence_reaches_it(data):
    rows = data.draw(fleets())
    asked = {
        "by": data.draw(st.sampled_from(BY)), "target": data.draw(MINUTES),
        "schedule": data.draw(st.one_of(st.none(), HOURS)), **data.draw(windows(rows)),
        "exclude": maintenance_frame(data.draw(maintenance(rows))),
    }  # fmt: skip
    found = objectives(frame(rows), 0.9, **asked)
    told = rpo_adherence(frame(rows), **asked)
    known = told["adherence"].notna()
    assert (found["passed"].notna() == known).all()
    assert (found["passed"][known] == (told["breached"] * 10 <= told["observed"])[known]).all()
    assert (found["spent"][known] == told["breached"][known]).all()
    assert (found["budget"] - found["spent"] == found["remaining"])[known].all()
    assert found["elapsed"][known].between(0, 1).all()


def test_the_worst_and_what_they_explain(fleet):
    found = worst(fleet, target="1h")
    assert found["vm"].tolist() == ["a", "b"]  # c missed nothing
    assert found["explains"].tolist() == [0.75, 0.25]
    assert found["explained"].tolist() == [0.75, 1.0]
    assert worst(fleet, 1, "1h")["vm"].tolist() == ["a"]
    assert worst(fleet, target="9h").empty


def test_the_worst_hide_nobody_without_a_target(fleet):
    some = fleet.assign(rpo=pd.to_timedelta(["1h", "1h", None, None, "1h"]))
    found = worst(some)
    assert found["vm"].tolist() == ["a", "b"]
    assert found["explains"].tolist()[0] == 1.0
    assert pd.isna(found["explains"][1])


@pytest.mark.parametrize("n", [0, -1, 1.5, "ten", True])
def test_the_worst_n_is_a_positive_whole_number(fleet, n):
    with pytest.raises(InputError, match="is not a positive whole number"):
        worst(fleet, n, "1h")


def test_two_halves_of_the_day_compared(fleet):
    """a: 3 h of 12 late, then none; b: none, then 1 of 12; c: none, none."""
    found = compare(fleet, at("12:00"), target="1h")
    assert found["vm"].tolist() == ["a", "b", "c"]
    assert found["verdict"].tolist() == ["better", "worse", "same"]
    assert found["change"].tolist() == pytest.approx([0.25, -1 / 12, 0])
    assert found["breached_before"].tolist() == [hours(3), hours(0), hours(0)]
    assert found["breached"].tolist() == [hours(0), hours(1), hours(0)]
    other = compare(fleet, at("12:00"), before=(at("00:00"), at("06:00")), target="1h")
    assert other["observed_before"].tolist() == [hours(6)] * 3


def test_who_came_and_who_was_never_there(fleet):
    late = pd.concat([fleet, table(("new", "13:00", "24:00", "Success"))], ignore_index=True)
    found = compare(late, at("12:00"), target="1h").set_index("vm")
    assert found.loc["new", "verdict"] == "new"
    assert found.index[-1] == "new"
    policies = pd.DataFrame({"policy": ["gold"], "vms": [["never"]]})
    found = compare(late, at("12:00"), target="1h", policies=policies).set_index("vm")
    assert found.loc["never", "verdict"] == "unknown"
    gone = compare(fleet, at("12:00"), target="1h", exclude=[(at("12:00"), at("24:00"))])
    assert set(gone["verdict"]) == {"gone"}


def test_a_period_to_compare_must_begin_before_as_of(fleet):
    with pytest.raises(InputError, match="is not before as_of"):
        compare(fleet, at("24:00"), target="1h")


def sized(*amounts):
    begun = pd.date_range("2026-10-01", periods=len(amounts), tz="UTC")
    return pd.DataFrame({
        "vm": "db", "created": begun, "ended": begun + pd.Timedelta("23h"),
        "total_size": pd.array(amounts, dtype="Int64"),
    })  # fmt: skip


def test_an_odd_size_is_an_outlier_with_its_score():
    """Running medians 11.5 12 12.5 12 13 13 13 13.5 (the ninth day is not whole): residuals
    -1.5 0 -1.5 1 86 1 -1 -.5; their median is -.25, the deviations from it 1.25 .25 1.25 1.25
    86.25 1.25 .75 .25, and the median of those 1.25."""
    found = size_anomalies(sized(10, 12, 11, 13, 99, 14, 12, 13, 13), by="vm")
    row = only(found)
    assert (row["kind"], row["size"], row["expected"], row["residual"]) == ("outlier", 99, 13, 86)
    assert row["score"] == pytest.approx(0.6745 * 86.25 / 1.25)
    assert size_anomalies(sized(10, 12, 11, 13, 99, 14, 12, 13, 13), by="vm", z=100).empty


def test_a_step_of_a_constant_size_is_a_step():
    found = size_anomalies(sized(16, 16, 16, 16, 20, 20, 20, 20, 20), by="vm")
    row = only(found)
    assert (row["kind"], row["size"], row["expected"], row["residual"]) == ("step", 20, 16, 4)
    assert pd.isna(row["score"])


def test_few_or_equal_sizes_are_no_anomaly():
    assert size_anomalies(sized(1, 9, 1, 9), by="vm").empty
    assert size_anomalies(sized(*[16] * 9), by="vm").empty
    assert size_anomalies(sized().astype({"created": "datetime64[us, UTC]"})).empty
    with pytest.raises(InputError, match="z=0 is not a positive number"):
        size_anomalies(sized(1, 2), z=0)
