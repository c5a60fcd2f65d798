"""The worked examples of `metrics.md`, and tables of a few rows computed by hand."""

import pandas as pd
import pytest

from cdpanalytics.metrics import durations, gaps, rpo_adherence, size_trend, sizes

DAY = "2026-10-01"
NA = None


def at(text, day=DAY):
    """An instant: '08:00' on the day, or a whole timestamp."""
    if text is None:
        return pd.NaT
    if text == "24:00":
        return pd.Timestamp(day, tz="UTC") + pd.Timedelta("1D")
    return pd.Timestamp(text if "-" in text else f"{day} {text}", tz="UTC")


def table(*rows, **columns):
    """Rows of (vm, created, ended, result), with '-running' as the result of one that runs."""
    vms, created, ended, results = zip(*rows, strict=True)
    running = [word == "running" for word in results]
    return pd.DataFrame({
        "vm": vms, "policy": "gold", "backup_server": "east",
        "created": [at(text) for text in created],
        "ended": pd.Series([at(text) for text in ended], dtype="datetime64[us, UTC]"),
        "state": ["InProgress" if run else "Completed" for run in running],
        "result": ["Success" if run else word for run, word in zip(running, results, strict=True)],
        **columns,
    })  # fmt: skip


def hours(value):
    return pd.Timedelta(hours=value)


def minutes(value):
    return pd.Timedelta(minutes=value)


@pytest.fixture
def worked():
    """Four sessions of one VM, as metrics.md tells them."""
    return table(
        ("db", "00:00", "08:00", "Success"),
        ("db", "08:00:05", "16:00", "Failed"),
        ("db", "16:30", "20:00", "Warning"),
        ("db", "21:00", None, "running"),
    )


OFFICE = dict.fromkeys(
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    [1] * 8 + [0] * 8 + [1] * 8,
)


def only(frame):
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_worked_example(worked):
    row = only(rpo_adherence(worked, "15min", as_of=at("24:00")))
    assert row["observed"] == hours(24)
    assert row["exposed"] == hours(9.5)
    assert row["breached"] == hours(9)
    assert row["adherence"] == 0.625
    assert (row["gaps"], row["breaches"], row["gap_adherence"]) == (2, 2, 0.0)
    assert row["success_rate"] == 1 / 3
    assert row["worst_gap"] == hours(8.5)
    counts = ["sessions", "success", "warning", "failed", "unknown"]
    assert row[counts].tolist() == [4, 1, 1, 1, 1]
    assert row["rpo"] == minutes(15)


def test_the_worked_example_read_strictly(worked):
    """Without the Warning: 08:00 to 21:00 uncovered, breached from 08:15, 12 h 45 min of 24 h."""
    row = only(rpo_adherence(worked, "15min", as_of=at("24:00")))
    assert row["adherence_strict"] == 1 - 12.75 / 24


def test_the_worked_example_cut_at_noon(worked):
    first = only(rpo_adherence(worked, "15min", until=at("12:00"), as_of=at("24:00")))
    second = only(rpo_adherence(worked, "15min", since=at("12:00"), as_of=at("24:00")))
    assert (first["observed"], first["breached"]) == (hours(12), hours(3.75))
    assert (second["observed"], second["breached"]) == (hours(12), hours(5.25))
    assert (first["exposed"], second["exposed"]) == (hours(4), hours(5.5))
    assert (first["gaps"], second["gaps"]) == (1, 2)
    assert (first["worst_gap"], second["worst_gap"]) == (hours(8.5), hours(8.5))
    assert (first["sessions"], second["sessions"]) == (2, 2)
    assert first["adherence"] == 1 - 3.75 / 12
    assert second["adherence"] == 1 - 5.25 / 12


def test_the_worked_example_by_day_of_a_zone_whose_midnight_is_noon(worked):
    """In Auckland (+12 in September) midnight is 12:00 UTC: the cut of the example, by freq."""
    september = worked.assign(
        created=worked["created"] - pd.Timedelta("21D"),
        ended=worked["ended"] - pd.Timedelta("21D"),
    )
    days = rpo_adherence(
        september, "15min", freq="D", tz="Pacific/Auckland", as_of=at("2026-09-11 00:00")
    )
    assert days["breached"].tolist() == [hours(3.75), hours(5.25)]
    assert days["observed"].tolist() == [hours(12), hours(12)]
    assert days["period"].tolist() == [at("2026-09-09 12:00"), at("2026-09-10 12:00")]


def test_the_worked_example_with_a_schedule(worked):
    row = only(rpo_adherence(worked, "15min", schedule=OFFICE, as_of=at("24:00")))
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(16), hours(1.5), hours(1))
    assert row["adherence"] == 0.9375
    assert (row["gaps"], row["worst_gap"]) == (2, hours(1))
    found = gaps(worked, "15min", schedule=OFFICE, as_of=at("24:00"))
    assert found["exposure"].tolist() == [minutes(30), hours(1)]
    assert found["breached"].tolist() == [minutes(15), minutes(45)]


def test_the_worked_gaps_and_their_causes(worked):
    worked["reason"] = [None, "Host is off", None, None]
    found = gaps(worked, "15min", as_of=at("24:00"))
    assert found.columns.tolist() == [
        "backup_server", "vm", "policy", "start", "end", "open", "exposure", "breached", "cause",
    ]  # fmt: skip
    assert found["start"].tolist() == [at("08:00"), at("20:00")]
    assert found["end"].tolist() == [at("16:30"), at("21:00")]
    assert found["open"].tolist() == [False, False]
    assert found["exposure"].tolist() == [hours(8.5), hours(1)]
    assert found["breached"].tolist() == [hours(8.25), minutes(45)]
    assert found["cause"].tolist() == ["Failed: Host is off", "no session"]


def test_columns_are_those_of_the_definitions(worked):
    assert rpo_adherence(worked, "15min").columns.tolist() == [
        "policy", "vm", "rpo", "vms", "unprotected", "sessions", "success", "warning", "failed",
        "unknown", "observed", "exposed", "breached", "gaps", "breaches", "worst_gap", "adherence",
        "adherence_strict", "gap_adherence", "success_rate", "success_low", "success_high",
        "unobserved", "excluded", "retired",
        "adherence_full",
    ]  # fmt: skip


def test_nested_touching_and_overlapping_sessions_are_covered_once():
    """00-06 holds 01-02; 06-08 touches it, 07-09 overlaps; 09-10 is bare; 10-12 covers."""
    sessions = table(
        ("db", "00:00", "06:00", "Success"),
        ("db", "01:00", "02:00", "Success"),
        ("db", "06:00", "08:00", "Success"),
        ("db", "07:00", "09:00", "Success"),
        ("db", "10:00", "12:00", "Success"),
    )
    row = only(rpo_adherence(sessions, "15min"))
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(12), hours(1), minutes(45))
    assert (row["gaps"], row["adherence"]) == (1, 1 - 0.75 / 12)


def test_a_gap_as_long_as_the_target_is_no_breach_and_one_microsecond_more_is():
    just = table(("db", "00:00", "01:00", "Success"), ("db", "01:15", "02:00", "Success"))
    row = only(rpo_adherence(just, "15min"))
    assert (row["gaps"], row["breaches"], row["adherence"], row["gap_adherence"]) == (1, 0, 1, 1)
    more = table(("db", "00:00", "01:00", "Success"), ("db", "01:15:00.000001", "02:00", "Success"))
    row = only(rpo_adherence(more, "15min"))
    assert (row["breaches"], row["breached"]) == (1, pd.Timedelta("1us"))
    assert row["adherence"] == 1 - 1 / 7_200_000_000


def test_a_vm_that_moves_leaves_its_gap_with_the_policy_that_protected_last():
    """gold 00-04, bare 04-06, iron 06-12: the two bare hours are gold's."""
    sessions = table(
        ("db", "00:00", "04:00", "Success"), ("db", "06:00", "12:00", "Success"),
        policy=["gold", "iron"], rpo=pd.to_timedelta(["1h", "2h"]),
    )  # fmt: skip
    gold, iron = (row for _, row in rpo_adherence(sessions).iterrows())
    assert (gold["policy"], gold["observed"], gold["breached"]) == ("gold", hours(6), hours(1))
    assert (iron["policy"], iron["observed"], iron["breached"]) == ("iron", hours(6), hours(0))
    assert (gold["adherence"], iron["adherence"]) == (1 - 1 / 6, 1.0)
    assert gaps(sessions)["policy"].tolist() == ["gold"]
    vm = only(rpo_adherence(sessions, by="vm"))
    assert (vm["observed"], vm["breached"]) == (hours(12), hours(1))
    assert vm["rpo"] is pd.NaT  # the row mixes targets


def test_a_failed_session_of_another_policy_counts_there_and_owns_no_time():
    sessions = table(
        ("db", "00:00", "04:00", "Success"), ("db", "04:00", "06:00", "Failed"),
        policy=["gold", "iron"],
    )  # fmt: skip
    gold, iron = (row for _, row in rpo_adherence(sessions, "1h").iterrows())
    assert (gold["failed"], gold["observed"], gold["breached"]) == (0, hours(6), hours(1))
    assert (iron["failed"], iron["observed"]) == (1, hours(0))
    assert pd.isna(iron["adherence"])
    assert iron["success_rate"] == 0.0


def test_pending_and_endless_completed_sessions_protect_nothing():
    """Only the first of four protects: 2 h of 8; two bare before 02:00+1h."""
    sessions = table(
        ("db", "00:00", "02:00", "Success"),
        ("db", "02:00", "04:00", "Success"),
        ("db", "04:00", None, "Success"),
        ("db", "06:00", None, "None"),
    ).assign(state=["Completed", "Pending", "Completed", "Pending"])
    row = only(rpo_adherence(sessions, "1h", as_of=at("08:00")))
    assert (row["sessions"], row["success"], row["unknown"]) == (4, 1, 3)
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(8), hours(6), hours(5))
    lasted = only(durations(sessions, as_of=at("08:00")))
    assert lasted[["sessions", "running", "unknown"]].tolist() == [1, 0, 3]
    assert lasted["total"] == hours(2)


def test_an_end_before_its_beginning_is_no_span_and_no_verdict():
    sessions = table(("db", "00:00", "02:00", "Success"), ("db", "04:00", "03:00", "Success"))
    row = only(rpo_adherence(sessions, "1h", as_of=at("06:00")))
    assert (row["success"], row["unknown"], row["observed"], row["breached"]) == (
        1, 1, hours(6), hours(3),
    )  # fmt: skip
    assert only(durations(sessions, as_of=at("06:00")))["unknown"] == 1


def test_a_running_session_protects_to_as_of_and_its_result_says_nothing():
    sessions = table(("db", "00:00", None, "running")).assign(result="Failed")
    row = only(rpo_adherence(sessions, "15min", as_of=at("10:00")))
    assert (row["observed"], row["exposed"], row["failed"], row["unknown"]) == (
        hours(10), hours(0), 0, 1,
    )  # fmt: skip
    assert (row["adherence"], row["adherence_strict"]) == (1.0, 1.0)
    assert pd.isna(row["success_rate"])
    assert pd.isna(row["gap_adherence"])
    assert row["worst_gap"] is pd.NaT


def test_an_open_gap_ends_at_as_of_and_says_so():
    sessions = table(("db", "00:00", "04:00", "Success"), ("db", "04:00", "04:30", "Failed"))
    found = only(gaps(sessions, "1h", as_of=at("10:00")))
    assert (found["start"], found["end"], found["open"]) == (at("04:00"), at("10:00"), True)
    assert (found["exposure"], found["breached"]) == (hours(6), hours(5))
    assert found["cause"] == "Failed"


def test_the_newest_failure_is_the_cause_and_one_that_failed_at_once_is_one():
    sessions = table(
        ("db", "00:00", "04:00", "Success"),
        ("db", "05:00", "06:00", "Failed"),
        ("db", "07:00", "07:00", "Failed"),
        ("db", "08:00", "09:00", "Success"),
        ("db", "09:00", "09:00", "Failed"),
        ("db", "10:00", "11:00", "Success"),
        reason=["", "first", "second", "", "at the very end of cover", ""],
    )
    causes = gaps(sessions)["cause"].tolist()
    assert causes == ["Failed: second", "Failed: at the very end of cover"]


def test_a_vm_that_a_policy_lists_and_no_session_names_is_there_with_na():
    sessions = table(("db", "00:00", "04:00", "Success"))
    policies = pd.DataFrame({
        "policy": ["gold"], "backup_server": ["east"],
        "rpo": pd.to_timedelta(["15min"]), "vms": [["db", "forgotten"]],
    })  # fmt: skip
    known, forgotten = (row for _, row in rpo_adherence(sessions, policies=policies).iterrows())
    assert (known["vm"], known["adherence"], known["rpo"]) == ("db", 1.0, minutes(15))
    assert (forgotten["vm"], forgotten["sessions"]) == ("forgotten", 0)
    assert forgotten["observed"] == hours(0)
    assert (
        forgotten[["adherence", "adherence_strict", "gap_adherence", "success_rate"]].isna().all()
    )


def test_an_unknown_target_leaves_the_row_and_claims_nothing():
    sessions = table(("db", "00:00", "04:00", "Success"), ("db", "05:00", "06:00", "Success"))
    row = only(rpo_adherence(sessions))
    assert (row["observed"], row["exposed"], row["gaps"]) == (hours(6), hours(1), 1)
    assert row["worst_gap"] == hours(1)
    unknown = ["rpo", "breached", "breaches", "adherence", "adherence_strict", "gap_adherence"]
    assert row[unknown].isna().all()
    assert row["success_rate"] == 1.0
    assert only(gaps(sessions))["breached"] is pd.NaT


def test_a_group_with_one_unknown_target_claims_nothing_for_all():
    sessions = table(
        ("db", "00:00", "04:00", "Success"), ("web", "00:00", "04:00", "Success"),
        rpo=pd.to_timedelta(["15min", None]),
    )  # fmt: skip
    assert pd.isna(only(rpo_adherence(sessions, by="policy"))["adherence"])
    assert rpo_adherence(sessions, by="vm")["adherence"].tolist()[0] == 1.0


def test_one_name_on_two_backup_servers_is_two_vms():
    """Each server's db is bare where the other's is covered; neither covers for the other."""
    sessions = table(
        ("db", "00:00", "04:00", "Success"), ("db", "04:00", "08:00", "Success"),
        backup_server=["east", "west"],
    )  # fmt: skip
    east, west = (
        row for _, row in rpo_adherence(sessions, "1h", by=("backup_server", "vm")).iterrows()
    )
    assert (east["observed"], east["breached"]) == (hours(8), hours(3))
    assert (west["observed"], west["breached"]) == (hours(4), hours(0))
    both = only(rpo_adherence(sessions, "1h", by="vm"))
    assert (both["observed"], both["breached"], both["adherence"]) == (hours(12), hours(3), 0.75)


def test_groups_weigh_time_and_are_never_means_of_ratios():
    sessions = table(
        ("db", "00:00", "02:00", "Success"), ("db", "06:00", "08:00", "Success"),
        ("web", "07:00", "08:00", "Success"),
    )  # fmt: skip
    each = rpo_adherence(sessions, "0s", by="vm")["adherence"].tolist()
    assert each == [0.5, 1.0]
    assert only(rpo_adherence(sessions, "0s", by=()))["adherence"] == 1 - 4 / 9


def test_nothing_after_as_of_is_measured():
    """As of 06:00: the second session has not ended, the third has not begun."""
    sessions = table(
        ("db", "00:00", "04:00", "Success"),
        ("db", "05:00", "09:00", "Success"),
        ("db", "10:00", "12:00", "Failed"),
    )
    row = only(rpo_adherence(sessions, "15min", as_of=at("06:00")))
    assert (row["observed"], row["exposed"], row["sessions"]) == (hours(6), hours(1), 2)
    assert row["failed"] == 0
    lasted = only(durations(sessions, as_of=at("06:00")))
    assert lasted[["sessions", "running", "unknown"]].tolist() == [1, 1, 0]
    assert lasted["max"] == hours(4)


def test_the_newest_as_of_of_the_frame_is_the_default():
    sessions = table(("db", "00:00", "04:00", "Success")).assign(as_of=at("06:00"))
    row = only(rpo_adherence(sessions, "1h"))
    assert (row["observed"], row["breached"]) == (hours(6), hours(1))


@pytest.mark.parametrize(
    ("since", "until"), [("2026-09-01", "2026-09-02"), ("2026-11-01", "2026-11-02")]
)
def test_a_window_outside_the_data_knows_nothing(worked, since, until):
    row = only(rpo_adherence(worked, "15min", since=since, until=until))
    assert (row["sessions"], row["observed"], row["gaps"]) == (0, hours(0), 0)
    ratios = ["adherence", "adherence_strict", "gap_adherence", "success_rate"]
    assert row[ratios].isna().all()


def test_of_a_repeated_session_the_newest_state_of_it_counts():
    sessions = table(
        ("db", "00:00", "04:00", "Success"), ("db", "00:00", None, "running"), uid=["a", "a"],
    ).assign(as_of=[at("06:00"), at("03:00")])  # fmt: skip
    row = only(rpo_adherence(sessions, "1h"))
    assert (row["sessions"], row["success"], row["breached"]) == (1, 1, hours(1))


def test_a_breach_lies_in_the_day_where_its_time_lies():
    """Bare from 23:50 to 00:20, target 15 min: breached from 00:05, all of it tomorrow's."""
    sessions = table(
        ("db", "00:00", "23:50", "Success"),
        ("db", "2026-10-02 00:20", "2026-10-03 00:00", "Success"),
    )
    days = rpo_adherence(sessions, "15min", freq="D")
    assert days["exposed"].tolist() == [minutes(10), minutes(20)]
    assert days["breached"].tolist() == [minutes(0), minutes(15)]
    assert days["breaches"].tolist() == [1, 1]
    assert days["worst_gap"].tolist() == [minutes(30), minutes(30)]


def always(created, ended):
    return table(("db", created, ended, "Success"))


@pytest.mark.parametrize(
    ("created", "ended", "first", "lengths"),
    [
        ("2026-03-27 23:00", "2026-03-30 22:00", "2026-03-27 23:00", [24, 23, 24]),
        ("2026-10-23 22:00", "2026-10-26 23:00", "2026-10-23 22:00", [24, 25, 24]),
    ],
)
def test_days_in_prague_have_23_or_25_hours_when_the_clock_changes(created, ended, first, lengths):
    days = rpo_adherence(always(created, ended), "15min", freq="D", tz="Europe/Prague")
    assert days["observed"].tolist() == [hours(n) for n in lengths]
    assert days["period"].iloc[0] == at(first)


def test_weeks_months_and_hours_in_prague():
    sessions = always("2026-10-24 22:00", "2026-11-02 23:00")
    weeks = rpo_adherence(sessions, "15min", freq="W", tz="Europe/Prague")
    # Sunday the 25th has 25 hours and ends a week begun on Monday the 19th at 22:00 UTC.
    assert weeks["observed"].tolist() == [hours(25), hours(168), hours(24)]
    assert weeks["period"].tolist() == [
        at("2026-10-18 22:00"), at("2026-10-25 23:00"), at("2026-11-01 23:00"),
    ]  # fmt: skip
    months = rpo_adherence(sessions, "15min", freq="MS", tz="Europe/Prague")
    assert months["observed"].tolist() == [hours(25 + 6 * 24), hours(48)]
    assert months["period"].tolist() == [at("2026-09-30 22:00"), at("2026-10-31 23:00")]
    sunday = rpo_adherence(
        sessions, "15min", freq="h", tz="Europe/Prague", until="2026-10-25 23:00Z"
    )
    assert len(sunday) == 25
    assert (sunday["observed"] == hours(1)).all()


def test_days_and_hours_in_kolkata_begin_at_half_past_in_utc():
    sessions = always("2026-10-01 18:00", "2026-10-03 20:00")
    days = rpo_adherence(sessions, "15min", freq="D", tz="Asia/Kolkata")
    assert days["observed"].tolist() == [hours(0.5), hours(24), hours(24), hours(1.5)]
    assert days["period"].tolist()[1] == at("2026-10-01 18:30")
    by_hour = rpo_adherence(
        sessions, "15min", freq="h", tz="Asia/Kolkata", until="2026-10-01 20:00Z"
    )
    assert by_hour["observed"].tolist() == [hours(0.5), hours(1), hours(0.5)]


def test_a_schedule_in_prague_runs_by_the_wall_clock_there():
    """02 to 03 h is allowed alone: it is skipped on 29 March and comes twice on 25 October."""
    night = dict.fromkeys(OFFICE, [0, 0, 1] + [0] * 21)
    spring = always("2026-03-27 23:00", "2026-03-30 22:00")
    autumn = always("2026-10-23 22:00", "2026-10-26 23:00")
    asked = {"schedule": night, "tz": "Europe/Prague", "schedule_tz": "Europe/Prague", "freq": "D"}
    assert rpo_adherence(spring, "1h", **asked)["observed"].tolist() == [
        hours(n) for n in (1, 0, 1)
    ]
    assert rpo_adherence(autumn, "1h", **asked)["observed"].tolist() == [
        hours(n) for n in (1, 2, 1)
    ]


@pytest.mark.parametrize(
    ("tz", "day", "lengths"),
    [
        # Of a year past: rules of a year to come are changed (Cuba's were, in 2026).
        ("America/Santiago", "2025-09-06 04:00", [24, 23, 24]),  # 7 September begins at 01:00
        ("America/Havana", "2025-11-01 04:00", [24, 25, 24]),  # 2 November has two 00:00
        ("Africa/Cairo", "2025-04-23 22:00", [24, 23, 24]),  # 25 April begins at 01:00
    ],
)
def test_days_whose_midnight_is_skipped_or_comes_twice(tz, day, lengths):
    start = at(day)
    sessions = always(day, str((start + hours(sum(lengths))).tz_localize(None)))
    days = rpo_adherence(sessions, "15min", freq="D", tz=tz)
    assert days["observed"].tolist() == [hours(n) for n in lengths]


def test_durations_of_finished_sessions():
    """8, 6, 8 and 2 h: mean 6, median 7, p95 (type 7) 8; the running one enters nothing."""
    sessions = table(
        ("db", "00:00", "08:00", "Success"), ("db", "08:00", "14:00", "Failed"),
        ("db", "14:00", "22:00", "Warning"), ("db", "22:00", "24:00", "Success"),
        ("db", "2026-10-02 00:00", None, "running"),
    )  # fmt: skip
    policies = pd.DataFrame({"policy": ["gold"], "long_term": pd.to_timedelta(["8h"])})
    row = only(durations(sessions, policies=policies, as_of=at("2026-10-02 01:00")))
    assert row[["sessions", "running", "unknown"]].tolist() == [4, 1, 0]
    assert (row["mean"], row["median"], row["p95"]) == (hours(6), hours(7), hours(8))
    assert (row["max"], row["total"]) == (hours(8), hours(24))
    assert (row["expected"], row["on_cadence"]) == (hours(8), 0.5)


def test_quantiles_are_linear():
    """1, 2, 3, 4 h: p95 lies at place 2.85, so 3 h 51 min."""
    sessions = table(*(("db", "00:00", f"0{n}:00", "Success") for n in (1, 2, 3, 4)))
    row = only(durations(sessions))
    assert (row["median"], row["p95"]) == (hours(2.5), pd.Timedelta("3h51min"))


@pytest.mark.parametrize(("length", "share"), [("07:12", 1.0), ("07:11:59", 0.0), ("08:48", 1.0)])
def test_on_cadence_is_within_ten_percent(length, share):
    policies = pd.DataFrame({"policy": ["gold"], "long_term": pd.to_timedelta(["8h"])})
    row = only(durations(table(("db", "00:00", length, "Success")), policies=policies))
    assert row["on_cadence"] == share


def test_a_vm_of_16_gib_in_three_sessions_a_day_has_16_gib():
    sixteen = 17179869184
    sessions = table(
        ("db", "00:00", "08:00", "Success"), ("db", "08:00", "16:00", "Success"),
        ("db", "16:00", "23:00", "Success"), ("db", "23:00", None, "running"),
        total_size=pd.array([sixteen] * 4, dtype="Int64"),
    )  # fmt: skip
    row = only(sizes(sessions, as_of=at("23:30")))
    assert (row["vms"], row["sessions"], row["size"], row["running"]) == (1, 3, sixteen, 1)
    volume = only(sizes(sessions, reading="volume"))
    assert volume["size"] == 3 * sixteen
    assert sizes(sessions).columns.tolist() == [
        "policy", "vm", "period", "vms", "sessions", "size", "rolling", "running", "retired",
    ]  # fmt: skip


def test_a_size_is_carried_forward_and_a_group_is_the_sum_of_its_vms():
    sessions = table(
        ("db", "00:00", "08:00", "Success"), ("web", "00:00", "12:00", "Success"),
        ("db", "2026-10-02 08:00", "2026-10-02 16:00", "Success"), total_size=[10, 100, 12],
    )  # fmt: skip
    days = sizes(sessions, by="policy", as_of="2026-10-04")
    assert days["size"].tolist() == [110, 112, 112]
    assert days["vms"].tolist() == [2, 2, 2]
    assert days["sessions"].tolist() == [2, 1, 0]


def test_a_session_ended_at_midnight_is_of_the_next_day_unless_the_data_end_there():
    sessions = table(
        ("db", "00:00", "08:00", "Success"), ("db", "08:00", "24:00", "Success"),
        total_size=[10, 12],
    )  # fmt: skip
    assert sizes(sessions, as_of="2026-10-02 06:00")["size"].tolist() == [10, 12]
    assert sizes(sessions)["size"].tolist() == [12]  # as_of is midnight itself
    assert sizes(sessions, until="2026-10-02")["size"].tolist() == [10]
    assert sizes(sessions, until="2026-10-03")["size"].tolist() == [12]


def test_a_vm_that_moves_takes_its_size_along():
    sessions = table(
        ("db", "00:00", "08:00", "Success"), ("db", "08:00", "16:00", "Success"),
        policy=["gold", "iron"], total_size=[10, 12],
    )  # fmt: skip
    gold, iron = (row for _, row in sizes(sessions, by="policy").iterrows())
    assert (gold["vms"], gold["size"] is pd.NA) == (0, True)
    assert (iron["vms"], iron["size"]) == (1, 12)
    assert sizes(sessions, by="policy", reading="volume")["size"].tolist() == [10, 12]


def test_the_rolling_mean_needs_seven_periods():
    days = pd.date_range("2026-10-01", periods=8, tz="UTC")
    sessions = pd.DataFrame({
        "vm": "db", "created": days, "ended": days + hours(20), "total_size": range(10, 90, 10),
    })  # fmt: skip
    rolling = sizes(sessions, by="vm")["rolling"]
    assert rolling.isna().tolist() == [True] * 6 + [False] * 2
    assert rolling.tolist()[6:] == [40.0, 50.0]


def growing(count, step=10, **columns):
    days = pd.date_range("2026-10-01", periods=count, tz="UTC")
    size = [100 + step * n for n in range(count)]
    return pd.DataFrame(
        {"vm": "db", "created": days, "ended": days + hours(20), "total_size": size, **columns}
    )


def test_a_trend_is_the_slope_of_whole_days_and_its_projection():
    """Ten bytes a day for nine days, the last unfinished: 170 on the eighth, 270 ten days on."""
    row = only(size_trend(growing(9), by="vm", horizon="10D"))
    assert (row["periods"], row["size"], row["slope"]) == (8, 170, 10.0)
    assert (row["slope_low"], row["slope_high"]) == (10.0, 10.0)
    assert row["projected"] == 270.0
    assert row["growth"] == pytest.approx(100 / 170, rel=1e-15)


def test_one_odd_day_does_not_move_the_slope():
    sessions = growing(11)
    sessions.loc[4, "total_size"] = 100_000
    row = only(size_trend(sessions, by="vm"))
    assert row["slope"] == pytest.approx(10)


def test_a_trend_says_nothing_under_five_whole_days():
    row = only(size_trend(growing(5), by="vm"))
    assert row["periods"] == 4
    assert row[["slope", "slope_low", "slope_high", "projected", "growth"]].isna().all()
    assert only(size_trend(growing(6), by="vm"))["slope"] == 10.0


def test_a_trend_of_sessions_without_a_policy_is_not_lost():
    sessions = growing(9, policy=pd.Series([None] * 9, dtype="str"))
    assert only(size_trend(sessions))["slope"] == 10.0
    assert only(size_trend(sessions, by="policy"))["slope"] == 10.0


def test_a_size_of_nothing_and_a_size_that_stays():
    row = only(size_trend(growing(9, step=0).assign(total_size=0), by="vm"))
    assert (row["slope"], row["projected"]) == (0.0, 0.0)
    assert pd.isna(row["growth"])


def test_a_schedule_counts_to_the_second_inside_its_hours():
    """Hours from 08 are forbidden: bare 07:50:07 to 08:20 has 9 min 53 s, 4 min 53 s too late."""
    sessions = table(
        ("db", "07:00", "07:50:07", "Success"), ("db", "08:20", "16:00:11", "Success"),
        ("db", "16:07:01", "17:00", "Success"),
    )  # fmt: skip
    found = gaps(sessions, "5min", schedule=OFFICE)
    assert found["exposure"].tolist() == [pd.Timedelta("9min53s"), pd.Timedelta("6min50s")]
    assert found["breached"].tolist() == [pd.Timedelta("4min53s"), pd.Timedelta("1min50s")]
    assert only(rpo_adherence(sessions, "5min", schedule=OFFICE))["observed"] == hours(2)


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [2, 1, 0], [2, 0, 1]])
def test_sessions_alike_but_for_one_thing_say_the_same_in_any_order(order):
    """Two begin and end together with two targets, the smaller owns; two fail together."""
    sessions = table(
        ("db", "00:00", "01:00", "Success"), ("db", "00:00", "01:00", "Success"),
        ("db", "03:00", "04:00", "Success"), rpo=pd.to_timedelta(["30min", "1h", "1h"]),
    )  # fmt: skip
    assert only(gaps(sessions.iloc[order]))["breached"] == hours(1.5)
    failed = table(
        ("db", "00:00", "01:00", "Success"), ("db", "01:00", "02:00", "Failed"),
        ("db", "01:00", "02:00", "Failed"), reason=["", "first", "second"],
    )  # fmt: skip
    assert only(gaps(failed.iloc[order], "1h"))["cause"] == "Failed: second"
    moved = table(
        ("db", "00:00", "01:00", "Success"), ("db", "00:00", "01:00", "Success"),
        ("web", "00:00", "01:00", "Success"), policy=["gold", "iron", "iron"], total_size=1,
    )  # fmt: skip
    assert sizes(moved.iloc[order], by="policy")["vms"].tolist() == [0, 2]
