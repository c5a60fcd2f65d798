"""One rule for name patterns."""

from __future__ import annotations

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.patterns import fitting, matching


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
