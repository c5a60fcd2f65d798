"""What a VM could have been restored to at an instant, worked out on paper."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import recovery_points
from cdpanalytics.metrics.recovery import newest_points

from .test_second_edition import at, only

RESTORE = "RestoreAvailable"


def journal(*rows: tuple[str, float, float, str | None], vm: str = "a") -> pd.DataFrame:
    return pd.DataFrame({
        "backup_server": "b1", "vm": vm, "policy": "gold", "kind": [kind for kind, *_ in rows],
        "start": [at(start) for _, start, *_ in rows], "end": [at(end) for _, _, end, _ in rows],
        "rpo": pd.to_timedelta([rpo for *_, rpo in rows]),
    })  # fmt: skip


DAY = journal(("Asked", 0, 24, None), (RESTORE, 2, 8, "15s"), (RESTORE, 9, 14, "40s"))


def test_inside_an_interval_the_rpo_is_lost_and_after_it_what_passed_since():
    inside = only(recovery_points(DAY, at(7), "15s"))
    assert inside["recovery_point"] == at(7) - pd.Timedelta("15s")
    assert (inside["age"], inside["achieved"]) == (pd.Timedelta("15s"), pd.Timedelta("15s"))
    assert bool(inside["within"])
    assert not only(recovery_points(DAY, at(10), "15s"))["within"]
    between = only(recovery_points(DAY, at(8.5), "15s"))
    assert (between["recovery_point"], between["age"]) == (at(8), pd.Timedelta("30min"))
    assert between["achieved"] == pd.Timedelta("15s")
    after = only(recovery_points(DAY, at(20), "5h"))
    assert (after["recovery_point"], after["age"]) == (at(14), pd.Timedelta("6h"))
    assert not after["within"]


def test_both_ends_belong_to_an_interval():
    for hour, rpo in ((2, "15s"), (8, "15s"), (9, "40s"), (14, "40s")):
        row = only(recovery_points(DAY, at(hour)))
        assert (row["age"], row["recovery_point"]) == (pd.Timedelta(rpo), at(hour) - row["age"])


def test_rows_of_any_index_without_keys_will_do():
    bare = DAY.drop(columns=["backup_server", "policy"]).set_axis([7, 8, 9])
    row = only(recovery_points(bare, at(7)))
    assert (row["vm"], row["age"]) == ("a", pd.Timedelta("15s"))


def test_each_vm_has_its_instant_and_rows_of_others_say_nothing_of_it():
    """The journal is of a and z; b and c are asked about, of which it says nothing."""
    both = pd.concat([DAY, DAY.assign(vm="z")])
    vms = pd.DataFrame({"backup_server": "b1", "vm": ["b", "a", "c"]})
    found = newest_points(both, vms, us([1, 8.5, 7]))
    assert found["asked"].tolist() == [False, True, False]
    assert found["recovery_point"].tolist() == [pd.NaT, at(8), pd.NaT]
    assert found["age"].tolist()[1] == pd.Timedelta("30min")


def us(hours: list[float]) -> np.ndarray:
    """Instants as microseconds."""
    return pd.DatetimeIndex([at(hour) for hour in hours]).as_unit("us").asi8


def test_nothing_to_restore_is_not_within_and_nothing_asked_is_unknown():
    early = only(recovery_points(DAY, at(1), "15s"))
    assert early[["recovery_point", "age", "achieved"]].isna().all()
    assert early["within"] == False  # noqa: E712
    for instant in (at(24.5), at(-1)):
        row = only(recovery_points(DAY, instant, "15s"))
        assert row[["recovery_point", "age", "achieved", "within"]].isna().all()
        assert row["at"] == instant
    edges = [only(recovery_points(DAY, at(hour), "15s"))["within"] for hour in (0, 24)]
    assert edges == [False, False], "both ends were asked about"


def test_without_a_target_nothing_is_within():
    assert pd.isna(only(recovery_points(DAY, at(7)))["within"])
    policies = pd.DataFrame({"policy": ["gold"], "rpo": pd.to_timedelta(["20s"])})
    row = only(recovery_points(DAY, at(7), policies=policies))
    assert (bool(row["within"]), row["target"]) == (True, pd.Timedelta("20s"))


def test_of_two_answers_the_longer_rpo_counts():
    twice = pd.concat([DAY, journal(("Asked", 0, 10, None), (RESTORE, 6, 9, "1min"))])
    assert only(recovery_points(twice, at(7)))["age"] == pd.Timedelta("1min")
    assert only(recovery_points(twice, at(8.5)))["age"] == pd.Timedelta("1min")
    shuffled = twice.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(recovery_points(shuffled, at(7)), recovery_points(twice, at(7)))


def test_worst_first_and_those_not_asked_about_last():
    others = pd.concat([
        DAY, journal(("Asked", 0, 24, None), vm="none"), journal(("Asked", 0, 3, None), vm="gone"),
        journal(("Asked", 0, 24, None), (RESTORE, 0, 5, "15s"), vm="old"),
    ])  # fmt: skip
    listed = pd.DataFrame({"backup_server": ["b1"], "vm": ["new"], "policy": ["iron"]})
    table = recovery_points(others, at(7), "15s", vms=listed)
    assert table["vm"].tolist() == ["none", "old", "a", "gone", "new"]
    assert table["within"].tolist() == [False, False, True, pd.NA, pd.NA]
    assert table["policy"].tolist() == ["gold"] * 4 + ["iron"]


def test_of_equals_the_names_decide():
    every = pd.concat([DAY.assign(vm="b"), DAY.assign(vm="z", backup_server="b0"), DAY])
    table = recovery_points(every, at(7))
    assert table[["backup_server", "vm"]].to_numpy().tolist() == [
        ["b0", "z"], ["b1", "a"], ["b1", "b"]
    ]  # fmt: skip


def test_an_empty_journal_has_all_columns():
    table = recovery_points(DAY.iloc[:0], at(7), "15s")
    assert table.empty
    assert table.columns.tolist() == recovery_points(DAY, at(7)).columns.tolist()
    with pytest.raises(InputError, match="no column 'rpo'; intervals need vm, start"):
        recovery_points(DAY.drop(columns="rpo"), at(7))
