"""The filter text is the vendor's, and what cannot be said in it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.server.filters import FIELDS, Expression, field

state, size, vm, created = map(field, ("State", "TotalSize", "VmDisplayName", "CreationTimeUTC"))


def test_the_documented_fields_are_twelve():
    assert len(FIELDS) == 12
    assert {"Id", "VmDisplayName", "TotalSize"} <= set(FIELDS)
    assert "Result" not in FIELDS


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (vm == "db01", 'VmDisplayName=="db01"'),
        (vm != 'the "old" one', 'VmDisplayName!="the ""old"" one"'),
        (size < 10**9, "TotalSize<1000000000"),
        (size <= np.int64(7), "TotalSize<=7"),
        (size > -1, "TotalSize>-1"),
        (size >= 0, "TotalSize>=0"),
        (vm.isin(["a", "b"]), 'VmDisplayName=="a",VmDisplayName=="b"'),
        (vm.isin(["a"]) & (size > 0), 'VmDisplayName=="a";TotalSize>0'),
        (vm.isin(["a", "b"]) & (size > 0), '(VmDisplayName=="a",VmDisplayName=="b");TotalSize>0'),
        ((size > 0) & (vm == "a") & (state == "Completed"),
         'TotalSize>0;VmDisplayName=="a";State=="Completed"'),
        ((size > 0) & (vm == "a") | (state == "Pending"),
         'TotalSize>0;VmDisplayName=="a",State=="Pending"'),
        ((size > 0) & ((vm == "a") | (state == "Pending")),
         'TotalSize>0;(VmDisplayName=="a",State=="Pending")'),
    ],
)  # fmt: skip
def test_conditions_read_as_the_manual_writes_them(expression, text):
    assert str(expression) == text


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2025, 6, 15, tzinfo=UTC), "2025-06-15T00:00:00Z"),
        (pd.Timestamp("2025-06-15 07:00:06.787", tz="UTC"), "2025-06-15T07:00:06.787Z"),
        (pd.Timestamp("2025-06-15T07:00:06.1234567", tz="UTC"), "2025-06-15T07:00:06.1234567Z"),
        (pd.Timestamp("2025-06-15T07:00:06.123456789Z"), "2025-06-15T07:00:06.1234567Z"),
        (datetime(2025, 6, 15, 2, tzinfo=timezone(timedelta(hours=5))), "2025-06-14T21:00:00Z"),
    ],
)
def test_times_are_sent_as_quoted_utc(moment, text):
    assert str(created >= moment) == f'CreationTimeUTC>="{text}"'


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime(2025, 6, 15), "has no time zone; write Timestamp"),
        (pd.Timestamp("2025-06-15"), "has no time zone"),
        (pd.NaT, "missing time"),
        (True, "cannot compare with True"),
        (np.bool_(True), "cannot compare"),
        (None, "cannot compare with None"),
        (float("nan"), "not a whole number"),
        (1e9, "not a whole number; write 1000000000"),
        (pd.Timedelta("1h"), "cannot compare"),
    ],
)
def test_a_value_without_a_literal_is_refused(value, said):
    with pytest.raises(InputError, match=said):
        _ = created == value


@pytest.mark.parametrize("name", ["", "Vm Name", "a;b", "x==1,y", "Größe", "a1", None])
def test_a_field_name_has_letters_only(name):
    with pytest.raises(InputError, match="letters only"):
        field(name)


def test_and_or_and_chained_comparisons_are_caught():
    for wrong in (
        lambda: (vm == "a") and (size > 0),
        lambda: (vm == "a") or (size > 0),
        lambda: not (vm == "a"),  # noqa: SIM201
        lambda: 1 < size < 3,
        lambda: vm in ["a"],
    ):
        with pytest.raises(TypeError, match=r"join conditions with & and \|"):
            wrong()


def test_isin_needs_a_list_with_something_in_it():
    with pytest.raises(InputError, match="matches nothing"):
        vm.isin([])
    with pytest.raises(InputError, match="takes a list"):
        vm.isin("abc")


def test_expressions_never_change_and_compare_as_values():
    expression = vm == "a"
    with pytest.raises(AttributeError):
        expression.text = "other"
    assert len({expression, vm == "a", vm == "b"}) == 2
    assert expression == Expression('VmDisplayName=="a"')
    with pytest.raises(TypeError):
        expression & "text"
    assert len({field("Id"), vm}) == 2


@given(st.text())
def test_any_text_survives_quoting(text):
    quoted = str(vm == text).removeprefix("VmDisplayName==")
    assert quoted[0] == quoted[-1] == '"'
    inner = quoted[1:-1]
    assert '"' not in inner.replace('""', "")
    assert inner.replace('""', '"') == text


@given(st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC)))
def test_any_moment_survives_being_written(moment):
    text = str(created < moment).removeprefix("CreationTimeUTC<").strip('"')
    assert datetime.fromisoformat(text) == moment
