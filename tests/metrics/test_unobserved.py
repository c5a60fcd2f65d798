"""Holes, worked out by hand: what was never fetched is neither observed nor exposed."""

from __future__ import annotations

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import gaps, rpo_adherence

DAY = pd.Timestamp("2026-10-01", tz="UTC")


def at(hours: float) -> pd.Timestamp:
    return DAY + pd.Timedelta(hours=hours)


def hours(value: float) -> pd.Timedelta:
    return pd.Timedelta(hours=value)


def sessions(
    *rows: tuple[float, float | None, str], as_of: float = 24, vm: str = "a"
) -> pd.DataFrame:
    frame = pd.DataFrame(
        [{"vm": vm, "backup_server": "b1", "created": at(begin),
          "ended": pd.NaT if end is None else at(end),
          "state": "InProgress" if end is None else "Completed", "result": result}
         for begin, end, result in rows]
    )  # fmt: skip
    for column in ("created", "ended"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame.assign(as_of=at(as_of))


def holes(*stretches: tuple[float, float], server: str | None = None) -> pd.DataFrame:
    frame = pd.DataFrame([{"start": at(a), "end": at(b)} for a, b in stretches])
    return frame.assign(source="https://em:9398", backup_server=server)


def one(frame: pd.DataFrame, *stretches: tuple[float, float], **asked: object) -> pd.Series:
    table = rpo_adherence(frame, "15min", by=(), unobserved=holes(*stretches), **asked)
    return table.iloc[0]


def test_what_begins_in_a_hole_is_not_known_so_the_next_session_ends_it() -> None:
    """Sessions 0-8 and 16-24, hole 10-14: not observed 10-16; exposed 8-10, breached 8:15-10."""
    frame = sessions((0, 8, "Success"), (16, 24, "Success"))
    row = one(frame, (10, 14))
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(18), hours(2), hours(1.75))
    assert row["adherence"] == 1 - 1.75 / 18
    (gap,) = gaps(frame, "15min", unobserved=holes((10, 14))).to_dict("records")
    assert (gap["start"], gap["end"], gap["open"]) == (at(8), at(16), False)
    assert (gap["exposure"], gap["breached"]) == (hours(2), hours(1.75))


def test_a_known_session_that_reaches_beyond_a_hole_ends_it_there() -> None:
    """Sessions 0-8, 9-15, 16-24, hole 10-14: 9-15 is known, so only 10-14 is not observed."""
    row = one(sessions((0, 8, "Success"), (9, 15, "Success"), (16, 24, "Success")), (10, 14))
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(20), hours(2), hours(1.5))


def test_a_session_that_ends_with_a_hole_says_nothing_of_what_follows() -> None:
    """Sessions 0-14 and 16-24, hole 10-14: what began inside may cover 14-16, so that is out too."""
    row = one(sessions((0, 14, "Success"), (16, 24, "Success")), (10, 14))
    assert (row["observed"], row["exposed"]) == (hours(18), hours(0))


def test_a_vm_with_no_session_after_a_hole_is_unknown_for_its_cadence() -> None:
    """Its sessions last 8 h: observed 0-10, and from 14 + 8.8 h on; exposed 8-10 and 22:48-24."""
    frame = sessions((0, 8, "Success"))
    row = one(frame, (10, 14))
    assert (row["observed"], row["exposed"]) == (hours(11.2), hours(3.2))
    assert row["unobserved"] == hours(12.8)
    (gap,) = gaps(frame, "15min", unobserved=holes((10, 14))).to_dict("records")
    assert (gap["open"], gap["start"], gap["end"]) == (True, at(8), at(24))
    assert gap["exposure"] == hours(3.2), "the clock stands still in what is not known"


@pytest.mark.parametrize(
    ("settings", "observed"),
    [
        ({"long_term": ["4h"]}, 10 + 24 - 14 - 4.4),
        ({"long_term": [None]}, 11.2),
        ({"long_term": ["4h", "2h"], "seen_from": [at(0), at(12)]}, 10 + 24 - 14 - 4.4),
        ({"long_term": ["4h", "2h"], "seen_from": [at(0), at(9)]}, 10 + 24 - 14 - 2.2),
    ],
    ids=["its policy's", "else its longest session", "as known then", "its newest by then"],
)
def test_a_cadence_is_the_policys_as_known_before_the_hole(settings, observed) -> None:
    policies = pd.DataFrame({"policy": "gold", **settings}).astype({"long_term": "timedelta64[us]"})
    frame = sessions((0, 8, "Success")).assign(policy="gold")
    table = rpo_adherence(frame, "15min", unobserved=holes((10, 14)), policies=policies)
    assert table["observed"].tolist() == [hours(observed)]


def test_without_a_finished_session_a_cadence_is_a_day() -> None:
    frame = sessions((0, None, "Success")).assign(as_of=at(10))
    asked = {"unobserved": holes((10, 14)), "as_of": at(60)}
    table = rpo_adherence(frame, "15min", **asked)
    assert table["observed"].tolist() == [hours(10 + 60 - 14 - 26.4)]


def test_a_failed_session_after_a_hole_exposes_again() -> None:
    """Observed 0-10 and from 16 on; exposed 8-10 and 16-24: one gap of 10 hours."""
    row = one(sessions((0, 8, "Success"), (16, 18, "Failed")), (10, 14))
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(18), hours(10), hours(9.75))
    assert (row["gaps"], row["worst_gap"]) == (1, hours(10))


def test_a_running_session_is_known_only_up_to_the_hole_it_was_seen_before() -> None:
    """It ran at 10, when it was last seen; the next is seen at 16. Covered 0-10 and 16-24."""
    frame = sessions((0, None, "Success"), (16, None, "Success"))
    frame.loc[0, "as_of"] = at(10)
    row = one(frame, (10, 14))
    assert (row["observed"], row["exposed"]) == (hours(18), hours(0))
    assert one(frame).loc["observed"] == hours(24)
    seen_later = sessions((0, None, "Success"))
    assert one(seen_later, (10, 14)).loc["observed"] == hours(20), "it still ran after the hole"


@pytest.mark.parametrize("stretch", [(-5, 0), (24, 30), (12, 12), (14, 10)])
def test_a_hole_outside_or_of_no_length_changes_nothing(stretch: tuple[float, float]) -> None:
    frame = sessions((0, 8, "Success"), (16, 24, "Success"))
    pd.testing.assert_series_equal(one(frame, stretch), one(frame))


def test_a_hole_of_another_backup_server_changes_nothing() -> None:
    frame = sessions((0, 8, "Success"), (16, 24, "Success"))
    for server in ("b2", "nowhere"):
        table = rpo_adherence(frame, "15min", by=(), unobserved=holes((10, 14), server=server))
        pd.testing.assert_series_equal(table.iloc[0], one(frame))
    mine = rpo_adherence(frame, "15min", by=(), unobserved=holes((10, 14), server="b1"))
    pd.testing.assert_series_equal(mine.iloc[0], one(frame, (10, 14)))


def test_a_session_seen_inside_a_hole_ran_until_then() -> None:
    """Seen running at 12, inside the hole 10-14: it is known to have run until 12, and not beyond."""
    frame = sessions((0, None, "Success"), (15, 16, "Success"), (20, 24, "Success"))
    frame.loc[0, "as_of"] = at(12)
    row = one(frame, (10, 14))
    assert (row["observed"], row["exposed"]) == (hours(19), hours(4))
    row = one(frame, (10, 11), (13, 14))
    assert (row["observed"], row["exposed"]) == (hours(21), hours(4)), "out: 10-11 and 13-15"


def test_holes_that_overlap_are_one() -> None:
    frame = sessions((0, 8, "Success"), (13, 15, "Success"), (19, 24, "Success"))
    pd.testing.assert_series_equal(one(frame, (10, 18), (12, 14), (15, 16)), one(frame, (10, 18)))
    frame = sessions((0, 8, "Success"), (15, 15.5, "Success"), (17, 24, "Success"))
    pd.testing.assert_series_equal(one(frame, (10, 14), (12, 16)), one(frame, (10, 16)))


def test_a_hole_over_forbidden_hours_takes_only_the_others() -> None:
    """Hours 12-18 forbidden, hole 10-14, next session at 16: of 24 h, 10-12 and 12-18 are out."""
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    week = {day: [int(not 12 <= hour < 18) for hour in range(24)] for day in days}
    frame = sessions((0, 8, "Success"), (16, 24, "Success"))
    row = one(frame, (10, 14), schedule=week)
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(16), hours(2), hours(1.75))


@pytest.mark.parametrize("freq", ["h", "D"])
def test_periods_add_up_around_holes(freq: str) -> None:
    frame = sessions((0, 8, "Success"), (30, 40, "Success"), (47, 60, "Warning"), as_of=72)
    asked = {"by": (), "unobserved": holes((10, 20), (43, 45))}
    whole = rpo_adherence(frame, "15min", **asked).iloc[0]
    parts = rpo_adherence(frame, "15min", freq=freq, **asked)
    for column in ("observed", "exposed", "breached"):
        assert parts[column].sum() == whole[column]


def test_nothing_observed_is_unknown_and_no_pass() -> None:
    row = one(sessions((0, 8, "Success")), (-1, 24))
    assert row["observed"] == hours(0)
    assert pd.isna(row["adherence"])


def test_no_holes_and_no_sessions() -> None:
    frame = sessions((0, 8, "Success"), (16, 24, "Success"))
    none = pd.DataFrame({"start": [], "end": []})
    found = rpo_adherence(frame, "15min", unobserved=none)
    assert found["unobserved"].tolist() == [pd.Timedelta(0)]
    pd.testing.assert_frame_equal(found, rpo_adherence(frame, "15min"))
    assert rpo_adherence(frame.iloc[:0], "15min", unobserved=holes((1, 2))).empty


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pd.DataFrame({"start": [at(1)]}), "no column 'end' in unobserved"),
        (pd.DataFrame({"start": ["monday"], "end": [at(1)]}), "column 'start' holds"),
        (pd.DataFrame({"start": [at(1)], "end": pd.to_datetime([None], utc=True)}), "without start or end"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_of_holes_is_refused(table: pd.DataFrame, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        gaps(sessions((0, 8, "Success")), unobserved=table)
    assert "\n" not in str(error.value)
