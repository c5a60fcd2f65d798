"""Quality: a row of each oddity, counted where it is and nowhere else."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import quality, rpo_adherence

from . import oracle
from .strategies import fleets, frame

DAY = pd.Timestamp("2026-10-01", tz="UTC")


def at(hours: float | None) -> pd.Timestamp:
    return pd.NaT if hours is None else DAY + pd.Timedelta(hours=hours)


def row(begin: float | None, end: float | None, **said: object) -> dict[str, object]:
    usual = {"uid": f"{begin}-{end}", "vm": "a", "policy": "Gold", "state": "Completed",
             "result": "Success", "policy_result": "Success", "rpo": pd.Timedelta("15min"),
             "total_size": 5, "as_of": at(100)}  # fmt: skip
    return usual | {"created": at(begin), "ended": at(end)} | said


def table(*rows: dict[str, object]) -> pd.DataFrame:
    made = pd.DataFrame([row(-10, -9), *rows])
    for column in ("created", "ended", "as_of"):
        made[column] = pd.to_datetime(made[column], utc=True)
    return made.astype({"total_size": "Int64"})


def counted(frame: pd.DataFrame) -> dict[str, int]:
    found = quality(frame).set_index("finding")["sessions"]
    return found[found > 0].to_dict()


@pytest.mark.parametrize(
    ("odd", "finding"),
    [
        (row(None, 8), "no beginning"),
        (row(-10, -9, as_of=at(50)), "fetched twice"),
        (row(101, 109), "begins after as_of"),
        (row(99, 101), "ends after as_of"),
        (row(8, 7), "ends before it begins"),
        (row(8, None), "completed without an end"),
        (row(8, None, state="InProgress"), "running"),
        (row(8, None, state="Pending"), "pending"),
        (row(8, 9, state="Paused"), "unknown state"),
        (row(8, 9, state=None), "unknown state"),
        (row(8, 9, result="None"), "no known result"),
        (row(-9.5, 9), "overlaps an earlier one"),
        (row(8, 9, policy_result="Failed"), "policy failed"),
        (row(8, 9, policy=None), "no policy"),
        (row(8, 9, rpo=pd.NaT), "no target"),
        (row(8, 9, total_size=None), "no size"),
        (row(8, 9, total_size=-1), "negative size"),
    ],
    ids=str,
)
def test_each_oddity_is_counted_once(odd: dict[str, object], finding: str) -> None:
    frame = table(odd)
    found = counted(frame)
    also = {"first of its VM": 1}
    if finding == "begins after as_of":
        also["ends after as_of"] = 1
    if finding == "ends after as_of":
        also["running"] = 1  # as known at as_of
    assert found == {finding: 1, **also}
    share = quality(frame).set_index("finding").loc[finding, "share"]
    assert share == 0.5


def test_each_finding_says_how_many_of_whom_and_what_becomes_of_them() -> None:
    """Two servers have an "a"; the first row is fetched twice, and one has no beginning."""
    frame = table(
        row(-10, -9, as_of=at(50)), row(None, 8), row(None, 9, vm="b"),
        row(0, 1, policy_result="Failed", result="Warning"),
        row(2, 3, policy_result="Failed", result="Failed"), row(4, 4, total_size=0),
        row(5, 6, uid=None), row(5, 6, uid=None), row(99, 100), row(99, 99, rpo=pd.NaT, policy=None),
    )  # fmt: skip
    frame["backup_server"] = ["east"] * 8 + ["west"] * 3
    got = [tuple(found) for found in quality(frame).itertuples(index=False)]
    share = 1 / 11
    assert got == [
        ("no beginning", 2, 2 * share, 2, "refused: drop them"),
        ("fetched twice", 1, share, 1, "the newest row counts"),
        ("no vm", 0, 0, 0, "one VM without a name"),
        ("begins after as_of", 0, 0, 0, "covers nothing yet"),
        ("ends after as_of", 0, 0, 0, "covers up to as_of"),
        ("ends before it begins", 0, 0, 0, "no span, no verdict"),
        ("completed without an end", 0, 0, 0, "no span, no verdict"),
        ("running", 0, 0, 0, "covers, no verdict yet"),
        ("pending", 0, 0, 0, "does not cover, no verdict yet"),
        ("unknown state", 0, 0, 0, "no span, no verdict"),
        ("no known result", 0, 0, 0, "covers, but not for adherence_strict"),
        ("overlaps an earlier one", 0, 0, 0, "both together are covered"),
        ("first of its VM", 2, 2 * share, 2, "may contain the first copy"),
        ("policy failed", 1, share, 1, "covers; both results are kept"),
        ("no policy", 1, share, 1, "its group has no name"),
        ("no target", 1, share, 1, "adherence is NA"),
        ("no size", 0, 0, 0, "left out of sizes"),
        ("negative size", 0, 0, 0, "used as it is"),
    ]
    early = quality(frame, as_of=at(3)).set_index("finding")["sessions"]
    assert (early["begins after as_of"], early["ends after as_of"]) == (5, 5)
    assert early["running"] == 0
    policies = pd.DataFrame({"policy": ["Gold"], "rpo": [pd.Timedelta("1min")]})
    without = frame.drop(columns="rpo")
    assert "no target" not in quality(without)["finding"].tolist()
    told = quality(without, policies=policies).set_index("finding")
    assert told.loc["no target", "sessions"] == 1


def test_touching_sessions_do_not_overlap_and_names_may_be_missing() -> None:
    frame = table(row(-9, -8), row(-8, -7, vm=None), row(-7.5, -7, vm="b"))
    assert counted(frame) == {"no vm": 1, "first of its VM": 3}
    assert quality(frame).set_index("finding").loc["first of its VM", "vms"] == 3


def test_a_frame_of_three_columns_has_no_findings_about_others() -> None:
    frame = table(row(8, 9))[["vm", "created", "ended"]]
    found = quality(frame)["finding"].tolist()
    assert not {"pending", "no known result", "policy failed", "no policy", "no size"} & set(found)
    empty = quality(frame.iloc[:0])
    assert empty["sessions"].sum() == 0
    assert empty["share"].isna().all()


def test_a_window_counts_what_begins_in_it_and_judges_by_the_whole_frame() -> None:
    frame = table(
        row(0, 10), row(9, 12), row(12, 20, uid="twice"), row(12, 20, uid="twice"), row(21, 20), row(None, 3),
        row(15, 20, vm="b"),
    )  # fmt: skip
    found = quality(frame, since=at(5), until=at(22)).set_index("finding")
    odd = found[found["sessions"] > 0]
    assert odd["sessions"].to_dict() == {
        "fetched twice": 1, "ends before it begins": 1, "overlaps an earlier one": 1, "first of its VM": 1,
    }  # fmt: skip
    assert found.loc["first of its VM", "share"] == 1 / 5, "of the rows that begin in the window"
    later = quality(frame, since=at(11)).set_index("finding")["sessions"]
    assert later["overlaps an earlier one"] == 0
    assert later["first of its VM"] == 1
    assert quality(frame, since=at(50))["share"].isna().all()
    edges = quality(table(row(5, 6), row(7, 6), row(9, 8)), since=at(7), until=at(9))
    assert edges.set_index("finding")["sessions"]["ends before it begins"] == 1, "[since, until)"
    ahead = quality(frame, since=at(5), as_of=at(14)).set_index("finding")["sessions"]
    assert ahead["begins after as_of"] == 2
    with pytest.raises(InputError, match="is not before until"):
        quality(frame, since=at(5), until=at(5))


def test_the_frame_stays_as_it_was() -> None:
    frame = table(row(8, 7), row(8, None))
    before = frame.copy()
    frame.cdp.quality()
    pd.testing.assert_frame_equal(frame, before)


@given(fleets())
def test_findings_agree_with_what_adherence_counts(rows: list) -> None:
    sessions = frame(rows)
    found = quality(sessions).set_index("finding")["sessions"]
    kept = oracle.unique(rows)
    assert found["fetched twice"] == len(rows) - len(kept)
    known = oracle.known_then(kept, oracle.speaks_for(rows))
    assert found["begins after as_of"] == len(kept) - len(known)
    assert found["running"] == sum(one["state"] == "InProgress" for one in known)
    assert found["ends before it begins"] == sum(
        one["state"] == "Completed" and one["ended"] is not None and one["ended"] < one["created"]
        for one in known
    )
    late = {"as_of": "2027-01-01"}  # so that no session begins after it, where none is counted
    silent = ["ends before it begins", "completed without an end", "running", "pending",
              "no known result"]  # fmt: skip
    counts = quality(sessions, **late).set_index("finding")["sessions"]
    assert rpo_adherence(sessions, by=(), **late)["unknown"].iloc[0] == counts[silent].sum()
