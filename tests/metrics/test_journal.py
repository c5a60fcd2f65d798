"""The RPO really achieved: by hand, then against every quarter of an hour asked one by one."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import journal_adherence

DAY = pd.Timestamp("2026-10-01", tz="UTC")
HOUR = pd.Timedelta("1h")


def table(*rows: tuple[str, float, float, float | None], **said: object) -> pd.DataFrame:
    """Rows of vm, from hour, to hour, and seconds of RPO; None was asked about."""
    made = pd.DataFrame(rows, columns=["vm", "start", "end", "rpo"])
    made["kind"] = ["Asked" if rpo is None else "RestoreAvailable" for _, _, _, rpo in rows]
    for column in ("start", "end"):
        made[column] = DAY + pd.to_timedelta(made[column].astype(float), unit="h")
    made["rpo"] = pd.to_timedelta(made["rpo"].astype(float), unit="s").astype("timedelta64[us]")
    return made.assign(**{"backup_server": "b1", "policy": "Gold", **said})


def one(frame: pd.DataFrame, target: str | None = "15s", **asked: object) -> pd.Series:
    return journal_adherence(frame, target, by=(), **asked).iloc[0]


def test_restorable_is_part_of_observed_and_within_is_part_of_that() -> None:
    """Asked 0-10; restorable 0-6 at 15 s and 6-8 at 40 s; nothing 8-10."""
    row = one(table(("a", 0, 10, None), ("a", 0, 6, 15), ("a", 6, 8, 40)))
    assert (row["observed"], row["restorable"], row["within"]) == (10 * HOUR, 8 * HOUR, 6 * HOUR)
    assert (row["adherence"], row["restorable_share"]) == (0.6, 0.8)
    assert row["worst_rpo"] == pd.Timedelta("40s")
    assert row["p95_rpo"] == pd.Timedelta("40s")


def test_the_95th_percentile_is_weighted_by_time() -> None:
    """19 h at 15 s and 1 h at 40 s: 95 % of the time kept 15 s."""
    assert one(table(("a", 0, 20, None), ("a", 0, 19, 15), ("a", 19, 20, 40)))[
        "p95_rpo"
    ] == pd.Timedelta("15s")
    row = one(table(("a", 0, 20, None), ("a", 0, 18.9, 15), ("a", 18.9, 20, 40)))
    assert row["p95_rpo"] == pd.Timedelta("40s")


def test_what_was_fetched_twice_counts_once_and_the_longer_rpo_holds() -> None:
    twice = table(
        ("a", 0, 10, None), ("a", 4, 12, None), ("a", 0, 6, 15), ("a", 0, 6, 15), ("a", 5, 8, 40)
    )
    row = one(twice)
    assert (row["observed"], row["restorable"], row["within"]) == (12 * HOUR, 8 * HOUR, 5 * HOUR)


def test_what_nobody_asked_about_is_not_observed() -> None:
    row = one(table(("a", 0, 4, None), ("a", 2, 8, 15)))
    assert (row["observed"], row["restorable"], row["adherence"]) == (4 * HOUR, 2 * HOUR, 0.5)
    silent = one(table(("a", 2, 8, 15)))
    assert silent["observed"] == pd.Timedelta(0)
    assert pd.isna(silent["adherence"])
    assert pd.isna(silent["restorable_share"])


def test_vms_of_one_name_on_two_servers_are_two() -> None:
    frame = table(("a", 0, 4, None), ("a", 0, 4, None), ("a", 0, 4, 15))
    frame["backup_server"] = ["b1", "b2", "b2"]
    row = one(frame)
    assert (row["observed"], row["restorable"]) == (8 * HOUR, 4 * HOUR)
    each = journal_adherence(frame, "15s", by=["backup_server", "vm"])
    assert each["adherence"].tolist() == [0, 1]


def test_the_target_is_the_policys_newest_own() -> None:
    frame = table(("a", 0, 4, None), ("a", 0, 4, 20))
    policies = pd.DataFrame({
        "policy": ["Gold", "Gold"], "backup_server": ["b1", "b1"],
        "rpo": pd.to_timedelta(["1min", "15s"]), "seen_from": [DAY, DAY + HOUR],
    })  # fmt: skip
    row = one(frame, None, policies=policies)
    assert (row["rpo"], row["adherence"]) == (pd.Timedelta("15s"), 0)
    unknown = one(frame, None)
    assert pd.isna(unknown["rpo"])
    assert pd.isna(unknown["within"])
    assert pd.isna(unknown["adherence"])
    assert unknown["restorable_share"] == 1


def test_nothing_in_nothing_out_and_what_is_no_journal_is_refused() -> None:
    assert journal_adherence(table()[:0], "15s").empty
    with pytest.raises(InputError, match="no column 'kind'; intervals need"):
        journal_adherence(table(("a", 0, 4, None)).drop(columns="kind"), "15s")
    with pytest.raises(InputError, match="column 'rpo' holds float64, not lengths of time"):
        journal_adherence(table(("a", 0, 4, 15)).assign(rpo=15.0), "15s")


STRETCH = st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(0, 9),
                    st.sampled_from([None, 5, 15, 40]))  # fmt: skip


@given(st.lists(STRETCH, min_size=1, max_size=8), st.randoms())
def test_it_is_what_every_hour_says_one_by_one(rows: list, rolls: object) -> None:
    stretches = [(vm, start, start + length, rpo) for vm, start, length, rpo in rows]
    frame = table(*stretches)
    found = journal_adherence(frame, "15s", by="vm")
    shuffled = journal_adherence(
        frame.sample(frac=1, random_state=rolls.randint(0, 99)), "15s", by="vm"
    )
    pd.testing.assert_frame_equal(found, shuffled)
    assert found["vm"].tolist() == sorted({vm for vm, *_ in stretches}), "no VM vanishes"
    for row in found.itertuples():
        observed = restorable = within = 0
        rpos = []
        for hour in range(30):
            over = [rpo for vm, a, b, rpo in stretches if vm == row.vm and a <= hour < b]
            known = [rpo for rpo in over if rpo is not None]
            observed += None in over
            restorable += None in over and bool(known)
            within += None in over and bool(known) and max(known) <= 15
            rpos += [max(known)] if None in over and known else []
        assert (row.observed, row.restorable, row.within) == (
            observed * HOUR,
            restorable * HOUR,
            within * HOUR,
        )
        if rpos:
            assert row.worst_rpo == pd.Timedelta(seconds=max(rpos))
            least = next(r for r in sorted(rpos) if sum(x <= r for x in rpos) >= 0.95 * len(rpos))
            assert row.p95_rpo == pd.Timedelta(seconds=least)
