"""One rule for name patterns."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.patterns import Names, fitting, matching


def test_patterns_match_in_any_case() -> None:
    assert fitting(["web-1", "WEB-2", "sql-1"], "Web-*") == ["web-1", "WEB-2"]
    assert matching(["web-1", "WEB-2", "sql-1"], ["sql-1", "WEB-*"], "VM") == [
        "WEB-2",
        "sql-1",
        "web-1",
    ]


def test_a_name_with_brackets_is_itself() -> None:
    assert matching(["gold [2]", "gold 2"], "gold [2]", "policy") == ["gold 2", "gold [2]"]


def test_names_that_are_missing_are_left_out() -> None:
    names = pd.Series(["a", None, float("nan"), pd.NA, "a"], dtype="object")
    assert matching(names, "*", "VM") == ["a"]


def test_each_pattern_must_match_a_name() -> None:
    with pytest.raises(InputError) as raised:
        matching(["Gold", "Silver"], ["Gold", "Golf"], "policy")
    assert str(raised.value) == "no policy matches 'Golf' (known: Gold, Silver)"


def test_nothing_known_says_so() -> None:
    with pytest.raises(InputError, match="no VM matches 'a' \\(known: none\\)"):
        matching([], "a", "VM")


def test_of_many_known_names_the_nearest_come_first() -> None:
    names = [f"app-{number:04}" for number in range(2000)] + ["web-11"]
    with pytest.raises(InputError) as raised:
        matching(names, "webb-11", "VM")
    assert str(raised.value).startswith("no VM matches 'webb-11' (known: web-11, ")
    assert str(raised.value).endswith("2,001 in all)")


def test_no_patterns_match_no_names() -> None:
    assert matching(["Gold"], [], "policy") == []


@given(
    st.lists(st.text(alphabet="aAb[2]", max_size=4) | st.none(), max_size=8),
    st.text(alphabet="aAb[2]*?", min_size=1, max_size=4),
)
def test_a_column_of_names_fits_as_a_list_of_names_does(
    names: list[str | None], pattern: str
) -> None:
    fits = set(fitting([name for name in names if name is not None], pattern))
    expected = [row for row, name in enumerate(names) if name in fits]
    assert Names(names).positions(pattern).tolist() == expected


def test_a_name_to_the_letter_is_exact_though_it_looks_like_a_pattern() -> None:
    names = Names(["db [1]", "db 1"])
    assert names.is_exact("db [1]")
    assert names.is_exact("anything")
    assert not names.is_exact("db*")
    assert names.positions_of("DB 1").tolist() == [1]
