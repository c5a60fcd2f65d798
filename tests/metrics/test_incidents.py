"""Incidents, worked out by hand on tables of gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.metrics.core.clusters import Beginnings, clusters
from cdpanalytics.metrics.core.incidents import Incidents, find_incidents

from .incident_oracle import incidents as oracle

DAY = pd.Timestamp("2026-10-01", tz="UTC")
WINDOW = (DAY, DAY + pd.Timedelta(days=30))
MINUTE = 60_000_000


def gap_table(*rows: tuple[str, str, float, float], cause: str = "no session") -> pd.DataFrame:
    """Gaps of (backup server, VM, first minute, last minute); the target is 5 minutes."""
    table = pd.DataFrame(rows, columns=["backup_server", "vm", "start", "end"])
    for column in ("start", "end"):
        minutes = pd.to_timedelta(table[column].astype(float), unit="min")
        table[column] = DAY + minutes.dt.as_unit("us")  # the unit of every table of gaps
    exposure = table["end"] - table["start"]
    breached = (exposure - pd.Timedelta("5min")).clip(lower=pd.Timedelta(0))
    return table.assign(
        policy="Gold", open=False, exposure=exposure, breached=breached, cause=cause
    )


def observed(*vms: tuple[str, str]) -> pd.DataFrame:
    table = pd.DataFrame(vms, columns=["backup_server", "vm"])
    return table.assign(start=WINDOW[0], end=WINDOW[1])


def find(gaps: pd.DataFrame, **asked: object) -> Incidents:
    vms = [(server, f"vm-{number}") for server in ("b1", "b2") for number in range(10)]
    return find_incidents(gaps, observed(*vms), WINDOW, **asked)  # type: ignore[arg-type]


def outage(server: str, first: float, count: int = 4) -> list[tuple[str, str, float, float]]:
    return [(server, f"vm-{n}", first + 2 * n, first + 65) for n in range(count)]


def test_vms_of_one_server_that_fail_together_are_one_incident() -> None:
    found = find(gap_table(*outage("b1", 600), ("b2", "vm-9", 5000, 5015)))
    row = found.table.iloc[0]
    assert (row["incident"], row["scope"], row["vms"], row["share"]) == (1, "policy", 4, 0.2)
    assert (row["backup_server"], row["policy"]) == ("b1", "Gold")
    assert (row["start"], row["end"]) == (DAY + pd.Timedelta("10h"), DAY + pd.Timedelta("11h5min"))
    assert row["breached"] == pd.Timedelta(minutes=60 + 58 + 56 + 54)
    assert row["explains"] == 228 / 238
    assert (row["longest"], row["recovery"]) == (pd.Timedelta("65min"), pd.Timedelta("62min"))
    assert found.table["scope"].tolist() == ["policy", "VM"]


def test_a_gap_within_its_target_is_in_no_incident() -> None:
    found = find(gap_table(("b1", "vm-1", 0, 5)))
    assert found.table.empty
    assert found.gaps.empty


def test_clusters_of_several_servers_that_begin_together_are_one_of_the_estate() -> None:
    found = find(gap_table(*outage("b1", 600), *outage("b2", 608)))
    assert found.table["scope"].tolist() == ["estate"]
    assert found.table["backup_server"].isna().all()


def test_two_servers_an_hour_apart_are_two_incidents() -> None:
    assert len(find(gap_table(*outage("b1", 600), *outage("b2", 660))).table) == 2


def test_gaps_of_one_vm_merge_below_an_hour_of_protection() -> None:
    merged = gap_table(("b1", "vm-1", 0, 20), ("b1", "vm-1", 79, 90), ("b1", "vm-1", 150, 170))
    assert find(merged).table["breached"].tolist() == [
        pd.Timedelta("21min"), pd.Timedelta("15min")
    ]  # fmt: skip


def test_a_long_chain_is_cut_at_its_widest_step() -> None:
    minutes = np.array([0, 8, 16, 25, 32, 40])  # 40 minutes are more than three times 10
    code = np.arange(6)
    starts = Beginnings(minutes * MINUTE, 0 * code, code, 30 * 1440 * MINUTE, np.array([6]))
    assert clusters(starts, 10 * MINUTE, 3).tolist() == [0, 0, 0, 1, 1, 1]


def test_what_begins_every_day_at_midnight_is_not_an_incident() -> None:
    """Five VMs on each of thirty days: no day is special. Only one day: an incident."""
    daily = [("b1", f"vm-{n}", 1440 * day + n / 10, 1440 * day + 30)
             for day in range(30) for n in range(5)]  # fmt: skip
    assert set(find(gap_table(*daily)).table["scope"]) == {"VM"}
    assert find(gap_table(*daily[:5])).table["scope"].tolist() == ["policy"]


def test_a_time_of_day_goes_on_across_midnight() -> None:
    """Five VMs begin at 23:58 each night but one, in which they begin at 00:01: no night is special."""
    nights = [1440 * day - 2 for day in range(1, 30) if day != 15] + [1440 * 15 + 1]
    rows = [("b1", f"vm-{n}", first + n / 10, first + 30) for first in nights for n in range(5)]
    assert set(find(gap_table(*rows)).table["scope"]) == {"VM"}


def test_only_breached_time_inside_of_the_window_counts() -> None:
    gaps = gap_table(*outage("b1", -30))
    found = find(gaps.assign(inside=(gaps["end"] - DAY)))
    assert found.table["start"].tolist() == [DAY - pd.Timedelta("30min")]
    assert found.table["breached"].tolist() == [4 * pd.Timedelta("35min")]


@pytest.mark.parametrize("seed", range(20))
def test_every_breached_gap_is_in_one_incident_whatever_the_order_of_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [(f"b{random.integers(1, 3)}", f"vm-{random.integers(10)}", start, start + length)
            for start, length in zip(random.uniform(0, 43000, 150), random.uniform(1, 90, 150),
                                     strict=True)]  # fmt: skip
    gaps = gap_table(*rows, *outage("b1", 20_000, 8))
    found = find(gaps)
    assert found.table["breached"].sum() == gaps["breached"].sum()
    assert found.table["explains"].sum() == pytest.approx(1)
    assert len(found.gaps) == (gaps["breached"] > pd.Timedelta(0)).sum()
    by_number = found.gaps.groupby("incident")["inside"].sum()
    assert by_number.tolist() == found.table["breached"].tolist()
    shuffled = find(gaps.sample(frac=1, random_state=seed))
    pd.testing.assert_frame_equal(found.table, shuffled.table)


def plain(gaps: pd.DataFrame) -> list[dict[str, object]]:
    """Gaps as the oracle takes them."""
    rows = gaps.assign(inside=gaps.get("inside", gaps["breached"])).to_dict("records")
    return [
        {name: value.to_pytimedelta() if isinstance(value, pd.Timedelta)
         else value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
         for name, value in row.items()}
        for row in rows
    ]  # fmt: skip


def in_some_order(rows: list[dict[str, object]], columns: list[str]) -> list[str]:
    return sorted(
        str(
            [
                round(row[name], 12) if isinstance(row[name], float) else row[name]
                for name in columns
            ]
        )
        for row in rows
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_incidents_are_the_oracles(seed: int) -> None:
    """Noise of two servers on a coarse grid, with ties, outages and a midnight at which all begin."""
    random = np.random.default_rng([seed, 18])
    count = int(random.integers(0, 120))
    rows = [(f"b{random.integers(1, 3)}", f"vm-{random.integers(10)}", 5.0 * start, 5.0 * start + length)
            for start, length in zip(random.integers(0, 8600, count), random.integers(1, 120, count),
                                     strict=True)]  # fmt: skip
    for _ in range(int(random.integers(0, 4))):
        first, many = float(random.integers(0, 43000)), int(random.integers(2, 9))
        rows += outage(f"b{random.integers(1, 3)}", first, many)
        rows += outage("b2", first + float(random.integers(0, 15)), many)
    if seed % 3 == 0:
        rows += [
            ("b1", f"vm-{n}", 1440.0 * day, 1440.0 * day + 30)
            for day in range(30)
            for n in range(3)
        ]
    gaps = gap_table(*rows, cause="no session")
    gaps["policy"] = random.choice(["Gold", "Silver"], len(gaps))
    gaps["cause"] = random.choice(["no session", "Failed: a", "Failed: b"], len(gaps))
    within, least = pd.Timedelta(random.choice([5, 10, 30]), "min"), int(random.integers(2, 5))
    merge = pd.Timedelta(random.choice([0, 60, 300]), "min")
    found = find(gaps, within=within, least=least, merge=merge)
    vms = {(server, f"vm-{n}"): WINDOW for server in ("b1", "b2") for n in range(10)}
    theirs = oracle(
        plain(gaps),
        vms,
        WINDOW,
        within.to_pytimedelta(),
        least,
        merge.to_pytimedelta(),
    )
    columns = ["start", "end", "open", "scope", "vms", "share", "breached", "explains", "longest",
               "recovery", "cause", "cause_share"]  # fmt: skip
    mine = plain(found.table.assign(inside=found.table["breached"]))
    assert in_some_order(mine, columns) == in_some_order(theirs, columns)
