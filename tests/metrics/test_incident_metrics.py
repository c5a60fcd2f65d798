"""Incidents and repeated offenders of sessions, worked out by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import gaps, incidents, offenders, rpo_adherence
from cdpanalytics.metrics.core.breaches import breaches, window_of
from cdpanalytics.metrics.core.question import Question, Terms
from cdpanalytics.metrics.incidents import with_main_incident

DAY = pd.Timestamp("2026-10-01", tz="UTC")
HOUR = pd.Timedelta("1h")
Gap = tuple[float, float]


def at(hours: float) -> pd.Timestamp:
    return DAY + hours * HOUR


def sessions(
    outages: dict[str, list[Gap]], *, days: int = 30, server: str = "b1", policy: str = "Gold",
    reason: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Sessions that cover each VM for some days but for its outages, in hours from the first."""
    rows = []
    for vm, missed in outages.items():
        edges = [0.0, *(edge for outage in missed for edge in outage), 24.0 * days]
        rows += [(vm, a, b, "Success", None) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        rows += [(vm, a, b, "Failed", reason) for a, b in missed if reason is not None]
    frame = pd.DataFrame(rows, columns=["vm", "created", "ended", "result", "reason"])
    return frame.assign(
        created=frame["created"].map(at), ended=frame["ended"].map(at), state="Completed",
        backup_server=server, policy=policy,
    )  # fmt: skip


STORAGE = sessions({f"vm-{n}": [(100 + n / 30, 102.0)] for n in range(4)}, reason="No storage")
"""Four VMs of Gold whose storage fails at hour 100, one each two minutes, until hour 102."""
ALONE = sessions(
    {"web-187": [(48.0 * n + 3, 48.0 * n + 4) for n in range(1, 8)], "quiet": []}, server="b2"
)
"""A VM that fails for an hour every second day at 03:00, and one that never does."""
ESTATE = pd.concat([STORAGE, ALONE], ignore_index=True)


def test_an_outage_of_storage_is_one_incident_and_a_flaky_vm_is_seven() -> None:
    table = incidents(ESTATE, "15min")
    first = table.iloc[0]
    assert (first["scope"], first["vms"], first["policy"]) == ("policy", 4, "Gold")
    assert (first["start"], first["end"]) == (at(100), at(102))
    # 2 h, 1 h 58, 1 h 56 and 1 h 54 min, each less its target of 15 min.
    assert first["breached"] == pd.Timedelta("6h 48min")
    assert (first["longest"], first["recovery"]) == (2 * HOUR, pd.Timedelta("1h 57min"))
    assert (first["cause"], first["cause_share"]) == ("Failed: No storage", 1.0)
    assert first["share"] == 4 / 6
    assert table["scope"].tolist() == ["policy", *["VM"] * 7]
    assert table["breached"].iloc[1:].eq(pd.Timedelta("45min")).all()
    # 6 h 48 min of 6 h 48 min and 5 h 15 min.
    assert first["explains"] == 408 / 723


@pytest.mark.parametrize("asked", [{"within": "1s"}, {"least": 5}])
def test_gaps_that_are_too_far_apart_or_too_few_are_incidents_of_their_vms(
    asked: dict[str, Any],
) -> None:
    table = incidents(ESTATE, "15min", **asked)
    assert table["scope"].tolist() == ["VM"] * 11


def test_incidents_add_up_to_the_breached_time() -> None:
    whole = rpo_adherence(ESTATE, "15min", by=()).iloc[0]
    assert incidents(ESTATE, "15min")["breached"].sum() == whole["breached"]


def test_adherence_without_an_incident_is_that_of_the_rest() -> None:
    table = rpo_adherence(ESTATE, "15min", by="backup_server", without=[1])
    storage, alone = table.to_dict("records")
    assert storage["breached"] == pd.Timedelta("6h 48min")
    assert (storage["breached_without"], storage["adherence_without"]) == (pd.Timedelta(0), 1.0)
    assert alone["breached_without"] == alone["breached"] == pd.Timedelta("5h 15min")
    assert alone["adherence_without"] == alone["adherence"]
    same = rpo_adherence(ESTATE, "15min", by="backup_server")
    pd.testing.assert_frame_equal(table[list(same)], same)


def test_without_takes_the_gaps_themselves() -> None:
    found = gaps(ESTATE, "15min")
    one = found[found["vm"] == "vm-0"]
    row = rpo_adherence(ESTATE, "15min", by=(), without=one).iloc[0]
    assert row["breached"] - row["breached_without"] == pd.Timedelta("1h 45min")


@pytest.mark.parametrize(("without", "message"), [
    ([9], r"without=\[9\]: no such incident; there are 8"), ("1,3", "not a list of numbers"),
])  # fmt: skip
def test_without_refuses_what_is_not_an_incident(without: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rpo_adherence(ESTATE, "15min", without=without)  # type: ignore[arg-type]


def test_the_main_incident_of_a_group_explains_most_of_it() -> None:
    """Gold: 2 h each of the incidents 1 and 2, 1 h of 3; no policy: all of 5; Silver: none."""
    policies = pd.Series(["Gold", "Gold", "Gold", None], dtype="str")
    late = pd.DataFrame({
        "policy": policies, "incident": [2, 1, 3, 5], "inside": [2 * HOUR, 2 * HOUR, HOUR, HOUR]
    })  # fmt: skip
    table = pd.DataFrame({"policy": pd.Series(["Gold", None, "Silver"], dtype="str")})
    found = with_main_incident(table, late, ["policy"])
    assert list(found) == ["policy", "incident", "incident_share"]
    assert found["incident"].tolist() == [1, 5, pd.NA]
    assert found["incident_share"].tolist()[:2] == [0.4, 1.0]


def test_a_window_counts_what_lies_in_it_and_names_the_whole() -> None:
    table = incidents(STORAGE, "15min", since=at(101), until=at(200))
    assert table["start"].tolist() == [at(100)]
    assert table["breached"].tolist() == [4 * HOUR]
    assert table["longest"].tolist() == [2 * HOUR]


def test_what_begins_at_the_edge_of_a_window_is_found_with_its_surroundings() -> None:
    """Three VMs begin before midnight and two after it: one incident in the second day as well."""
    spread = {f"vm-{n}": [(23.9 + n / 20, 25.0)] for n in range(5)}
    table = incidents(sessions(spread), "15min", since=at(24), until=at(48))
    assert table[["scope", "vms"]].to_numpy().tolist() == [["policy", 5]]
    # Shortly before midnight two are in breach; that they did not fail alone is known from what follows.
    early = incidents(sessions(spread), "1min", since=at(0), until=at(23.99))
    assert early[["scope", "vms"]].to_numpy().tolist() == [["policy", 5]]


def test_gaps_that_are_over_before_a_window_still_belong_to_what_began_together() -> None:
    """Of three VMs that fail at about 23:40, two are back at 23:58: the third did not fail alone."""
    spread = {"vm-0": [(23 + 2 / 3, 23.97)], "vm-1": [(23 + 2 / 3, 23.97)], "vm-2": [(23.7, 25.0)]}
    table = incidents(sessions(spread), "15min", since=at(24), until=at(48))
    assert table[["scope", "vms"]].to_numpy().tolist() == [["policy", 3]]
    assert table["breached"].tolist() == [HOUR]


def test_a_breach_begins_when_the_gap_is_older_than_its_target() -> None:
    """Excluded until 06:00, the gap of 05:00 to 08:00 begins to age then, and is 15 minutes old at 06:15."""
    day = sessions({"vm-0": [(5.0, 8.0), (20.0, 20.2), (21.0, 23.0)]}, days=2)
    whole = day.cdp.select(target="15min").breaches()
    assert whole["breached_from"].tolist() == [at(5.25), at(21.25)]
    assert whole["breached"].tolist() == [2.75 * HOUR, 1.75 * HOUR]
    closed = [(at(0), at(6)), (at(21.1), at(22))]
    left = day.cdp.select(target="15min", exclude=closed).breaches()
    assert left["breached_from"].tolist() == [at(6.25), at(22.15)]
    assert left["breached_until"].tolist() == [at(8), at(23)]


def test_the_window_of_incidents_is_the_one_asked_about() -> None:
    """Chances go by its length: that of the question, else from the first attempt on."""
    day, terms = sessions({"vm-0": [(5.0, 8.0)]}, days=1), Terms.parse("15min")
    for since, first in ((at(10), at(10)), (None, at(0))):
        question = Question.parse((), since=since, until=at(20))
        _, observed = breaches(day, question, terms, HOUR)
        assert window_of(observed) == (first, at(20))


def test_a_repeated_offender_is_chronic_and_has_a_rhythm() -> None:
    (row,) = offenders(ESTATE, "15min").to_dict("records")
    assert (row["vm"], row["incidents"]) == ("web-187", 7)
    assert row["every"] == pd.Timedelta("2D")
    assert (row["first"], row["last"], row["cause"]) == (at(51), at(339), "no session")
    assert row["breached_with_others"] == pd.Timedelta(0)
    assert (row["hour"], row["hour_share"]) == ("03:00", 1.0)
    # Once one of the seven is given, each of the others is in its hour with chance 1/24.
    assert row["hour_chance"] == pytest.approx(7 / 24**6)
    # The 3rd, 5th, ... 15th of October: each weekday once.
    assert row["weekday_share"] == 1 / 7
    assert row["weekday_chance"] == 1.0
    assert row["breached"] == pd.Timedelta("5h 15min")
    assert row["explains"] == 315 / 723
    # All seven are its own, so the mean of the five others and one more is 1/5: 6 P(X >= 7).
    assert row["chance"] == pytest.approx(6 * 2.13e-9, rel=0.01)
    assert row["chronic"]


def test_most_incidents_of_their_own_come_first_and_equals_by_name() -> None:
    seven, three = (range(1, 8), range(1, 4))
    estate = sessions({
        "alpha": [(60.0 * n + 20, 60.0 * n + 21) for n in three],
        "web": [(48.0 * n + 3, 48.0 * n + 4) for n in seven],
        "beta": [(48.0 * n + 10, 48.0 * n + 11) for n in seven],
    })  # fmt: skip
    table = offenders(estate, "15min")
    assert table[["vm", "incidents"]].to_numpy().tolist() == [["beta", 7], ["web", 7], ["alpha", 3]]
    assert offenders(estate, "15min", least=4)["vm"].tolist() == ["beta", "web"]


def test_what_happened_with_others_is_counted_apart() -> None:
    chronic = {"vm-0": [(100.0, 102.0), *((200.0 + 40 * n, 201.0 + 40 * n) for n in range(4))]}
    estate = sessions(chronic | {f"vm-{n}": [(100.0, 102.0)] for n in range(1, 4)})
    (row,) = offenders(estate, "15min").to_dict("records")
    assert (row["vm"], row["incidents"], row["breached"]) == ("vm-0", 4, 3 * HOUR)
    assert row["breached_with_others"] == pd.Timedelta("1h 45min")


def test_the_rhythm_is_of_the_zone() -> None:
    row = offenders(ESTATE, "15min", tz="Asia/Kolkata").iloc[0]
    assert row["hour"] == "08:30"


@pytest.mark.parametrize("least", [0, -1, 1.5, True])
def test_least_is_a_positive_whole_number(least: object) -> None:
    with pytest.raises(InputError, match="is not a positive whole number"):
        offenders(ESTATE, "15min", least=least)  # type: ignore[arg-type]


def test_no_gap_no_incident() -> None:
    quiet = sessions({"a": [], "b": []})
    assert incidents(quiet, "15min").empty
    assert offenders(quiet, "15min").empty
