"""What is empty, odd or wrong: the answers and the errors, to the letter."""

import numpy as np
import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import (
    compare,
    durations,
    gaps,
    objectives,
    rpo_adherence,
    size_trend,
    sizes,
    what_if,
    worst,
)
from cdpanalytics.metrics.core.kernels import running_maximum
from cdpanalytics.metrics.registry import REGISTRY

from .asked import OF_SESSIONS, advice, all_but, ask, taken

DAY = pd.Timestamp("2026-10-01", tz="UTC")

ZONE = 'say of which zone they are: df.cdp.select(tz="Europe/Berlin")'


ROWS_OF_SESSIONS = all_but({"quality": "has a row per finding, also without sessions"})
ONE_GROUP = [
    name
    for name in all_but(
        {
            "worst": "lists groups with a breach",
            "size_anomalies": "lists anomalies",
        }
    )
    if REGISTRY[name].by is not None
]
SAID = {"objective", "rpo", "rpo_before", "verdict"}
"""Columns that repeat what was asked, or say that nothing is known."""


def of_groups(name, sessions, by="vm"):
    """A metric by groups, also one that has none by default; an empty table has no period before."""
    grouped = {"by": by} if REGISTRY[name].by == () or by == () else {}
    return ask(
        name, sessions, **grouped,
        **taken(name, targets=["1h"], before=(DAY - pd.Timedelta("1D"), DAY)),
    )  # fmt: skip


@pytest.fixture
def sessions():
    return pd.DataFrame({
        "vm": ["db", "db"], "policy": "gold", "total_size": [10, 12],
        "created": [DAY, DAY + pd.Timedelta("9h")],
        "ended": [DAY + pd.Timedelta("8h"), DAY + pd.Timedelta("16h")],
    })  # fmt: skip


def error(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("name", ROWS_OF_SESSIONS)
def test_an_empty_frame_has_an_empty_answer_with_all_columns(name, sessions):
    empty = of_groups(name, sessions.iloc[:0])
    with advice(
        f"{name}: if it has rows without sessions, add it to ROWS_OF_SESSIONS in tests/metrics/test_edges.py"
    ):
        assert len(empty) == 0
    assert empty.columns.tolist() == of_groups(name, sessions).columns.tolist()


@pytest.mark.parametrize("name", ONE_GROUP)
def test_an_empty_frame_as_one_group_is_one_row_that_claims_nothing(name, sessions):
    table = of_groups(name, sessions.iloc[:0], by=())
    with advice(
        f"{name}: if it lists some groups only, add it to ONE_GROUP in tests/metrics/test_edges.py"
    ):
        assert len(table) == 1
    known = table.iloc[0].dropna()
    claimed = {column for column, value in known.items() if value not in (0, pd.Timedelta(0))}
    assert claimed <= SAID, (
        f"{name}: without sessions only counts and times of 0 are known; if a column repeats what was "
        "asked, add it to SAID in tests/metrics/test_edges.py"
    )


def test_a_missing_column_is_named_beside_those_there_are(sessions):
    renamed = sessions[["vm", "created", "ended"]].rename(
        columns={"created": "start", "ended": "end"}
    )
    assert error(rpo_adherence, renamed.rename(columns={"start": "created"})) == (
        "no column 'ended'; a session frame needs vm, created, ended (has: vm, created, end)"
    )
    assert error(gaps, renamed) == (
        "no column 'created'; a session frame needs vm, created, ended (has: vm, start, end)"
    )
    assert error(durations, pd.DataFrame()) == (
        "no column 'vm'; a session frame needs vm, created, ended (has: no columns)"
    )


def test_sizes_without_sizes(sessions):
    assert error(sizes, sessions.drop(columns="total_size")) == (
        "no column 'total_size' (bytes); sizes need it beside vm, created, ended"
    )


@pytest.mark.parametrize("name", OF_SESSIONS)
@pytest.mark.parametrize("column", ["created", "ended"])
def test_times_as_text_are_taken_with_an_offset_only(name, column, sessions):
    text = sessions.assign(**{column: sessions[column].astype("str")})
    pd.testing.assert_frame_equal(ask(name, text), ask(name, sessions))
    bare = text.assign(**{column: text[column].str.slice(0, 19)})
    assert error(ask, name, bare) == f"column '{column}' holds str, not times with a zone; {ZONE}"


@pytest.mark.parametrize(
    "name", [name for name in OF_SESSIONS if "total_size" in REGISTRY[name].columns]
)
def test_sizes_as_text_are_refused_with_the_line_that_converts_them(name, sessions):
    text = sessions.assign(total_size=["10", "12"])
    assert error(ask, name, text) == (
        "column 'total_size' holds str, not bytes; "
        'say what they are: df.cdp.select(units={"total_size": "GB"})'
    )


def test_sizes_as_numbers_of_any_kind_are_taken_and_parts_of_a_byte_are_not(sessions):
    expected = sizes(sessions)
    for dtype in ("float64", "int32", "uint64", "Float64", "int64[pyarrow]", "double[pyarrow]"):
        other = sessions.assign(total_size=sessions["total_size"].astype(dtype))
        pd.testing.assert_frame_equal(sizes(other), expected)
    nothing = sizes(sessions.assign(total_size=None))
    assert nothing["size"].isna().all()
    assert error(sizes, sessions.assign(total_size=[1.5, 2.0])) == (
        "column 'total_size' holds parts of a byte; "
        'say its unit: df.cdp.select(units={"total_size": "GB"})'
    )
    assert "holds bool, not bytes" in error(sizes, sessions.assign(total_size=True))


@pytest.mark.parametrize("odd", ["2026-10-01", "1.10.2026 08:00", "soon", "2026-13-01T00:00Z", ""])
def test_other_text_is_refused_with_the_line_that_converts_it(sessions, odd):
    text = sessions.assign(created=["2026-10-01T00:00:00Z", odd])
    message = error(rpo_adherence, text)
    assert message == f"column 'created' holds str, not times with a zone; {ZONE}"


@pytest.mark.parametrize("dtype", ["datetime64[us]", "timestamp[us][pyarrow]", "string[pyarrow]"])
def test_times_without_a_zone_are_refused_whatever_holds_them(sessions, dtype):
    naive = sessions["ended"].dt.tz_localize(None)
    message = error(durations, sessions.assign(ended=naive.astype(dtype)))
    assert message.startswith("column 'ended' holds ")
    assert message.endswith(ZONE)


def test_text_in_arrow_is_refused_too(sessions):
    pa = pytest.importorskip("pyarrow")
    text = pd.Series(["2026-10-01T08:00"] * 2, dtype=pd.ArrowDtype(pa.string()))
    assert "not times with a zone" in error(durations, sessions.assign(ended=text))


def test_a_session_without_a_beginning_is_refused(sessions):
    sessions.loc[1, "created"] = pd.NaT
    assert error(rpo_adherence, sessions) == (
        "session 1 has no 'created'; drop such rows (df.dropna(subset=['created']))"
    )


def test_an_unknown_key(sessions):
    assert error(rpo_adherence, sessions, "1h", by="host") == (
        "by='host' is not a column of the sessions; use backup_server, policy, vm, any column of "
        "the frame (has: vm, policy), several of them, or ()"
    )
    assert error(sizes, sessions, by=("vm", "vm")) == "by=['vm', 'vm'] names a column twice"


def test_an_unknown_freq(sessions):
    assert error(rpo_adherence, sessions, "1h", freq="Q") == (
        "freq='Q' is not known; use one of h (hour), D (day), W (week, from Monday), MS (month)"
    )


@pytest.mark.parametrize("tz", ["Mars/Olympus", "", None, "Europe/Nowhere"])
@pytest.mark.parametrize("asked", [{}, {"freq": "D"}, {"schedule": "10" * 84}])
def test_an_unknown_zone_even_where_nothing_is_cut(sessions, tz, asked):
    told = error(rpo_adherence, sessions, "1h", tz=tz, **asked)
    hint = (
        "did you mean Europe/Jersey?"
        if tz == "Europe/Nowhere"
        else "use a name like UTC or Europe/Berlin"
    )
    assert told == f"tz={tz!r} is not a time zone; {hint}"


def test_an_unknown_reading(sessions):
    assert error(sizes, sessions, reading="flow") == (
        "reading='flow' is not known; use size or volume"
    )


@pytest.mark.parametrize("name", [name for name in OF_SESSIONS if REGISTRY[name].window])
def test_since_not_before_until(name, sessions):
    assert error(ask, name, sessions, since="2026-10-02", until="2026-10-02") == (
        "since=2026-10-02 is not before until=2026-10-02; a window is [since, until)"
    )


@pytest.mark.parametrize("target", ["soon", "", pd.NaT])
def test_a_target_that_is_not_a_length_of_time(sessions, target):
    assert error(rpo_adherence, sessions, target) == (
        f"target={target!r} is not a length of time; write it like 30s, 15min, 1h30min or 7D"
    )


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("-5min", "is negative"),
        ("15", "has no unit; write 15min, 15h or 15D"),
        ("15m", "minutes or months"),
        (15, "it has no unit"),
        (15.0, "it has no unit"),
        (np.int64(15), "it has no unit"),
    ],
)
def test_why_a_target_is_not_a_length_of_time(sessions, target, why):
    told = error(rpo_adherence, sessions, target)
    assert told.startswith(f"target={target!r} ")
    assert why in told


@pytest.mark.parametrize("since", ["soon", 20261001, 1.5])
def test_a_since_that_is_not_a_time(sessions, since):
    assert error(rpo_adherence, sessions, "1h", since=since) == (
        f"since={since!r} is not a time; write 2026-10-01 or 2026-10-01T06:00Z"
    )


@pytest.mark.parametrize("since", ["7D", "now"])
def test_a_metric_never_reads_the_clock(sessions, since):
    told = error(rpo_adherence, sessions, "1h", since=since)
    assert told.startswith(f"since={since!r} counts back from now, which is not known here")


def test_a_missing_as_of(sessions):
    assert error(rpo_adherence, sessions, "1h", as_of=pd.NaT) == (
        "as_of is missing; write 2026-10-01 or 2026-10-01T06:00Z"
    )


def test_targets_as_bare_numbers_are_refused(sessions):
    assert error(rpo_adherence, sessions.assign(rpo=900)) == (
        "column 'rpo' holds int64, not lengths of time; "
        "convert it: df['rpo'] = pd.to_timedelta(df['rpo'], unit='s')"
    )


def test_schedules_of_a_wrong_length(sessions):
    week = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    hours = dict.fromkeys(week, [1] * 24)
    assert error(rpo_adherence, sessions, "1h", schedule="1" * 167) == (
        "a schedule needs 7 x 24 hours, got 167"
    )
    slipped = hours | {"Monday": [1] * 25, "Tuesday": [1] * 23}
    assert error(rpo_adherence, sessions, "1h", schedule=slipped) == (
        "the schedule's Monday needs 24 hours, got 25"
    )
    del hours["Sunday"]
    assert error(rpo_adherence, sessions, "1h", schedule=hours) == (
        f"the schedule has no Sunday; it needs all of {week}"
    )


def test_without_states_results_policies_and_servers_there_is_still_an_answer():
    bare = pd.DataFrame({
        "vm": ["db", "db"], "created": [DAY, DAY + pd.Timedelta("9h")],
        "ended": [DAY + pd.Timedelta("8h"), pd.NaT],
    })  # fmt: skip
    row = rpo_adherence(bare, "15min", as_of=DAY + pd.Timedelta("24h")).iloc[0]
    assert pd.isna(row["policy"])
    assert (row["sessions"], row["unknown"]) == (2, 2)
    assert row["breached"] == pd.Timedelta("45min")
    assert pd.isna(row["adherence_strict"])


def test_a_state_never_heard_of_protects_no_vm_and_is_counted(sessions):
    stopped = sessions.assign(state=["Completed", "Stopped"], result=["Success", "Success"])
    row = rpo_adherence(stopped, "1h", as_of=DAY + pd.Timedelta("16h")).iloc[0]
    assert (row["success"], row["unknown"], row["breached"]) == (1, 1, pd.Timedelta("7h"))


def test_a_word_that_is_not_a_result_is_refused(sessions):
    """Taken for no verdict, a failed session would protect in silence."""
    odd = sessions.assign(state="Completed", result=["Success", "Splendid"])
    assert error(rpo_adherence, odd) == (
        "column 'result' holds 'Splendid', not one of None, Success, Warning, Failed; "
        "say what it means: df.cdp.select(results={'Splendid': \"Failed\"})"
    )
    unused = sessions.assign(result=pd.Categorical(["Success"] * 2, ["Success", "Splendid"]))
    assert rpo_adherence(unused, "1h").iloc[0]["success"] == 2


@pytest.mark.parametrize("until", [None, DAY + pd.Timedelta("9h"), DAY + pd.Timedelta("10h")])
def test_a_session_that_begins_at_as_of_is_never_there(sessions, until):
    asked = {"as_of": DAY + pd.Timedelta("9h"), "until": until}
    assert rpo_adherence(sessions, "1h", **asked)["sessions"].tolist() == [1]
    counts = durations(sessions, **asked)[["sessions", "running", "unknown"]]
    assert counts.iloc[0].tolist() == [1, 0, 0]


def test_in_the_past_a_session_was_running_and_protected(sessions):
    """At 12:00 the second session, which Failed at 16:00, was running."""
    failed = sessions.assign(state="Completed", result=["Success", "Failed"])
    row = rpo_adherence(failed, "30min", as_of=DAY + pd.Timedelta("12h")).iloc[0]
    assert (row["failed"], row["unknown"], row["exposed"]) == (0, 1, pd.Timedelta("1h"))
    counts = durations(failed, as_of=DAY + pd.Timedelta("12h"))[["sessions", "running"]]
    assert counts.iloc[0].tolist() == [1, 1]
    assert gaps(failed, "30min", as_of=DAY + pd.Timedelta("12h"))["cause"].tolist() == [
        "no session"
    ]
    assert gaps(failed, "30min")["cause"].tolist() == ["Failed"]


def test_a_session_in_progress_that_has_an_end_ends_there(sessions):
    ending = sessions.assign(state=["Completed", "InProgress"], result="Success")
    row = rpo_adherence(ending, "30min", as_of=DAY + pd.Timedelta("20h")).iloc[0]
    assert (row["success"], row["unknown"], row["exposed"]) == (1, 1, pd.Timedelta("5h"))


def test_a_window_that_begins_after_as_of_holds_nothing(sessions):
    asked = {"as_of": DAY + pd.Timedelta("4h"), "since": DAY + pd.Timedelta("9h")}
    assert rpo_adherence(sessions, "1h", **asked)["sessions"].tolist() == [0]
    assert sizes(sessions, **asked)["vms"].tolist() == [0]


def test_one_policy_name_on_two_servers_keeps_its_own_target(sessions):
    both = sessions.assign(backup_server=["east", "west"])
    policies = pd.DataFrame({
        "policy": "gold", "backup_server": ["east", "west"],
        "rpo": pd.to_timedelta(["15min", "1h"]),
    })  # fmt: skip
    table = rpo_adherence(both, by="backup_server", policies=policies)
    assert table["rpo"].tolist() == [pd.Timedelta("15min"), pd.Timedelta("1h")]


def test_the_newest_setting_of_a_policy_is_its_target(sessions):
    policies = pd.DataFrame({
        "policy": "gold", "rpo": pd.to_timedelta(["1h", "15min"]),
        "seen_from": [DAY, DAY - pd.Timedelta("7D")],
    })  # fmt: skip
    assert rpo_adherence(sessions, policies=policies)["rpo"].tolist() == [pd.Timedelta("1h")]


def test_a_policy_lists_the_vms_of_its_newest_settings_only() -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    sessions = pd.DataFrame(
        {"vm": ["a"], "policy": ["Gold"], "created": [day], "ended": [day + pd.Timedelta("8h")]}
    )
    policies = pd.DataFrame(
        {
            "policy_uid": ["p", "p"],
            "policy": ["Gold", "Gold"],
            "vms": [["a", "taken out"], ["a", "never seen"]],
            "seen_from": [day, day + pd.Timedelta("1D")],
        }
    )
    found = rpo_adherence(sessions, "1h", by="vm", policies=policies)
    assert found["vm"].tolist() == ["a", "never seen"]


def test_vms_named_by_numbers_are_those_that_a_policy_lists_as_text() -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    sessions = pd.DataFrame(
        {"vm": [1, 2], "policy": "Gold", "created": day, "ended": day + pd.Timedelta("8h")}
    )
    policies = pd.DataFrame({"policy": ["Gold"], "vms": [["1", "3"]]})
    found = rpo_adherence(sessions, "1h", by="vm", policies=policies)
    assert found["vm"].tolist() == ["1", "2", "3"]
    assert found["unprotected"].tolist() == [0, 0, 1]


def test_a_changed_rpo_holds_for_the_sessions_that_had_it():
    """15 min until noon, 2 h from noon on; bare 09-10 and 13-14: 45 min late, then none."""
    begun = DAY + pd.to_timedelta([0, 10, 12, 14], unit="h")
    sessions = pd.DataFrame({
        "vm": "db", "policy": "gold", "created": begun,
        "ended": DAY + pd.to_timedelta([9, 12, 13, 24], unit="h"),
        "rpo": pd.to_timedelta(["15min", "15min", "2h", "2h"]),
    })  # fmt: skip
    row = rpo_adherence(sessions).iloc[0]
    assert row["breached"] == pd.Timedelta("45min")
    assert row["exposed"] == pd.Timedelta("2h")
    assert pd.isna(row["rpo"]), "the group mixes targets"
    assert row["adherence"] == 1 - 0.75 / 24
    halves = rpo_adherence(sessions, freq="h").set_index("period")
    assert halves["rpo"].iloc[0] == pd.Timedelta("15min")
    assert halves["rpo"].iloc[-1] == pd.Timedelta("2h")


def test_a_vm_that_moved_leaves_its_gap_to_the_policy_that_protected_last():
    """gold covers 00-08, iron 10-24 with an hour allowed: two hours bare are gold's, one of them late."""
    sessions = pd.DataFrame({
        "vm": "db", "policy": ["gold", "iron"],
        "created": DAY + pd.to_timedelta([0, 10], unit="h"),
        "ended": DAY + pd.to_timedelta([8, 24], unit="h"),
    })  # fmt: skip
    table = rpo_adherence(sessions, "1h").set_index("policy")
    assert table["observed"].tolist() == [pd.Timedelta("10h"), pd.Timedelta("14h")]
    assert table["breached"].tolist() == [pd.Timedelta("1h"), pd.Timedelta(0)]
    assert gaps(sessions, "1h")["policy"].tolist() == ["gold"]
    budgets = objectives(sessions, 0.9, "1h").set_index("policy")
    assert budgets["passed"].tolist() == [True, True]
    assert budgets["budget"].tolist() == [pd.Timedelta("1h"), pd.Timedelta("84min")]


def test_a_vm_whose_sessions_all_fail_is_exposed_from_its_first(sessions):
    never = sessions.assign(state="Completed", result="Failed")
    row = rpo_adherence(never, "1h").iloc[0]
    assert (row["observed"], row["breached"]) == (pd.Timedelta("16h"), pd.Timedelta("15h"))
    assert (row["vms"], row["unprotected"]) == (1, 1)
    assert objectives(never, 0.9, "1h")["passed"].tolist() == [False]
    assert len(worst(never, target="1h")) == 1


def test_of_sessions_that_never_began_nothing_is_claimed(sessions):
    never = sessions.assign(state="Pending", result="None")
    row = rpo_adherence(never, "1h").iloc[0]
    assert (row["sessions"], row["vms"], row["observed"]) == (2, 0, pd.Timedelta(0))
    assert pd.isna(row["adherence"])
    assert gaps(never, "1h").empty
    assert objectives(never, 0.9, "1h")["passed"].isna().all()
    assert worst(never, target="1h").empty


def test_many_rows_in_random_order():
    """The answer is that of the same rows in order, and of every second VM by hand."""
    count, vms = 100_000, 500  # more than one thread's share, so that they are sorted in parallel
    number = np.arange(count)
    vm, turn = number % vms, number // vms
    created = DAY + pd.to_timedelta(turn * 3600, unit="s")
    ordered = pd.DataFrame({
        "vm": pd.Categorical.from_codes(vm, [f"vm-{n:04d}" for n in range(vms)]),
        "created": created, "ended": created + pd.to_timedelta(3600 - 1200 * (vm % 2), unit="s"),
    })  # fmt: skip
    mixed = ordered.iloc[np.random.default_rng(7).permutation(count)]
    table = rpo_adherence(mixed, "15min", by="vm")
    pd.testing.assert_frame_equal(table, rpo_adherence(ordered, "15min", by="vm"))
    hours = count // vms
    assert table["sessions"].eq(hours).all()
    assert table["breached"][0::2].eq(pd.Timedelta(0)).all()
    late = (hours - 1) * pd.Timedelta("5min") + pd.Timedelta("5min")
    assert table["breached"][1::2].eq(late).all(), "as_of is the end of the even ones"


def test_hours_begin_at_the_full_hour_whatever_the_window_begins_with(sessions):
    asked = {"since": "2026-10-01T08:59:59.000007", "until": "2026-10-01T11:00:00", "freq": "h"}
    table = rpo_adherence(sessions, "15min", **asked)
    assert table["period"].dt.strftime("%H:%M:%S.%f").tolist() == [
        "08:00:00.000000", "09:00:00.000000", "10:00:00.000000",
    ]  # fmt: skip
    bare = pd.Timedelta("1s") - pd.Timedelta("7us")
    assert table["exposed"].tolist() == [bare, pd.Timedelta(0), pd.Timedelta(0)]
    assert table["breached"].tolist() == [bare, pd.Timedelta(0), pd.Timedelta(0)]


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda t: rpo_adherence(t, "1h", until="soon"), "until"),
        (lambda t: rpo_adherence(t, "1h", retire_after="soon"), "retire_after"),
        (lambda t: rpo_adherence(t, "1h", schedule=[("soon", "2026-10-01")]), "schedule"),
        (lambda t: rpo_adherence(t, "soon"), "target"),
        (lambda t: objectives(t, 0.9, "1h", until="soon"), "until"),
        (lambda t: compare(t, "soon", target="1h"), "since"),
        (lambda t: compare(t, "2026-10-01", "soon", target="1h"), "until"),
        (lambda t: what_if(t, ["1h", "soon"]), "targets"),
        (lambda t: size_trend(t, horizon="soon"), "horizon"),
    ],
)
def test_an_error_names_the_argument(sessions, ask, name):
    assert error(ask, sessions).startswith(f"{name}='soon' is not a ")


def test_what_holes_lack_is_told(sessions):
    hole = pd.DataFrame({"start": [DAY], "end": [pd.NaT]})
    assert error(rpo_adherence, sessions, "1h", unobserved=hole) == (
        "unobserved has a row without start or end; drop it, or fill it in"
    )
    assert error(what_if, sessions, []) == (
        "targets is empty; name at least one, e.g. what_if(sessions, ['15min'])"
    )
    assert error(rpo_adherence, sessions, "1h", protects=["Fine"]) == (
        "protects=['Fine'] names no verdicts; use some of ['Success', 'Warning', 'Failed'], as a list"
    )


@pytest.mark.parametrize("named", [[], ["policy_uid"], ["backup_server"]])
@pytest.mark.parametrize("server", [[], ["backup_server"]])
def test_vms_that_only_a_policy_names_are_listed_whatever_else_is_known(sessions, named, server):
    """The newer settings name `idle` no more, and `spare` for the first time."""
    policies = pd.DataFrame({
        "policy": "gold", "policy_uid": "p", "backup_server": "east",
        "vms": [["db", "idle"], ["db", "spare", None]], "seen_from": [DAY, DAY + pd.Timedelta("1D")],
    })[["policy", "vms", "seen_from", *named]]  # fmt: skip
    own = sessions.assign(backup_server="east").drop(columns={"backup_server"} - set(server))
    table = rpo_adherence(own, "1h", by=("policy", "vm"), policies=policies)
    assert table["vm"].tolist() == ["db", "spare"]
    assert table["policy"].tolist() == ["gold", "gold"]
    assert table["sessions"].tolist() == [2, 0]
    assert table["adherence"].isna().tolist() == [False, True]


def test_a_state_that_is_missing_is_neither_running_nor_completed(sessions):
    none = sessions.assign(state=pd.Series([None, "Completed"], dtype="category"), result="Success")
    row = rpo_adherence(none, "1h").iloc[0]
    assert (row["unknown"], row["success"], row["observed"]) == (1, 1, pd.Timedelta("16h"))
    assert row["exposed"] == pd.Timedelta("9h"), "an attempt all the same: observed from there"


def test_running_maxima_too_far_apart_for_one_number_are_right_all_the_same():
    low, high = np.iinfo(np.int64).min // 4, np.iinfo(np.int64).max // 4
    values = np.array([low, high, 0, 5, low, 3, high, 1])
    segment = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    expected = [low, high, high, 5, 5, 5, high, high]
    assert running_maximum(values, segment).tolist() == expected
    small = np.array([1, 3, 2, 5, 0, 6, 4, 4])
    assert running_maximum(small, segment).tolist() == [1, 3, 3, 5, 5, 6, 4, 4]
    assert running_maximum(small[:0], segment[:0]).tolist() == []
