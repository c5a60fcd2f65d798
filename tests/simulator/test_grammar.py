"""The filter grammar, compared with a reading of it in plain Python on rows of plain values."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdpanalytics.simulator.grammar import (
    MISSING,
    Enumeration,
    FilterError,
    Identifiers,
    Instants,
    Numbers,
    Texts,
    select,
)
from cdpanalytics.simulator.guids import Family, derive

STATES = ("InProgress", "Pending", "Completed")
NAMES = ["db-01", 'a"b;c', "Zürich (1)", "x,y", None]
OPERATORS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
             ">": operator.gt, ">=": operator.ge}  # fmt: skip
EPOCH = datetime(2026, 10, 1, tzinfo=UTC)
BASE = int(EPOCH.timestamp() * 1000)
GUIDS = derive(1, Family.TASK_SESSION, 6)

ROWS = [
    {"name": NAMES[n % 5], "size": n % 4, "state": n % 3, "end": None if n % 4 == 3 else n % 6}
    for n in range(24)
]


def columns() -> dict[str, object]:
    ends = [MISSING if row["end"] is None else BASE + row["end"] * 3_600_000 for row in ROWS]
    return {
        "name": lambda: Texts(NAMES, np.array([n % 5 for n in range(24)])),
        "size": lambda: Numbers(np.array([row["size"] for row in ROWS])),
        "state": lambda: Enumeration(STATES, np.array([row["state"] for row in ROWS])),
        "end": lambda: Instants(np.array(ends)),
        "id": lambda: Identifiers(GUIDS, np.array([n % 6 for n in range(24)])),
    }


def chosen(text: str) -> list[int]:
    return np.flatnonzero(select(text, columns(), 24)).tolist()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


conditions = st.one_of(
    st.tuples(st.just("name"), st.sampled_from(list(OPERATORS)), st.sampled_from(NAMES[:4])),
    st.tuples(st.just("size"), st.sampled_from(list(OPERATORS)), st.integers(-1, 4)),
    st.tuples(st.just("state"), st.sampled_from(list(OPERATORS)), st.sampled_from(STATES)),
    st.tuples(st.just("end"), st.sampled_from(list(OPERATORS)), st.integers(0, 6)),
)
trees = st.recursive(
    conditions,
    lambda inner: st.tuples(
        st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def written(tree: tuple[object, ...]) -> str:
    if tree[0] in ("and", "or"):
        return "(" + {"and": ";", "or": ","}[tree[0]].join(written(part) for part in tree[1]) + ")"
    name, sign, value = tree
    if name == "name":
        literal = quoted(value)
    elif name == "end":
        literal = f'"{(EPOCH + timedelta(hours=value)):%Y-%m-%dT%H:%M:%SZ}"'
    else:
        literal = str(value)
    return f"{name.upper() if len(literal) % 2 else name}{sign}{literal}"


def holds(tree: tuple[object, ...], row: dict[str, object]) -> bool:
    if tree[0] == "and":
        return all(holds(part, row) for part in tree[1])
    if tree[0] == "or":
        return any(holds(part, row) for part in tree[1])
    name, sign, value = tree
    seen = row[name]
    if seen is None:
        return sign == "!="
    if name == "name":
        seen, value = seen.casefold(), value.casefold()
    if name == "state":
        value = STATES.index(value)
    return bool(OPERATORS[sign](seen, value))


@given(trees)
@settings(max_examples=200, deadline=None)
def test_any_filter_selects_what_it_says(tree: tuple[object, ...]) -> None:
    assert chosen(written(tree)) == [n for n, row in enumerate(ROWS) if holds(tree, row)]


def test_and_binds_tighter_than_or() -> None:
    mixed = chosen("size==0,size==1;state==Completed")
    assert mixed == chosen("size==0,(size==1;state==Completed)")
    assert mixed != chosen("(size==0,size==1);state==Completed")


def test_a_date_is_its_midnight_and_zones_may_be_left_out() -> None:
    day = chosen('end>="2026-10-01";end<"2026-10-02"')
    assert day == [n for n, row in enumerate(ROWS) if row["end"] is not None]
    assert chosen("end>=2026-10-01T03:00:00") == chosen('end>="2026-10-01T03:00:00.0000000Z"')
    assert chosen('end>"2026-10-01T03:00:00.0000001Z"') == chosen('end>="2026-10-01T04:00:00Z"')
    assert chosen('end=="2026-10-01T03:00:00.0000001Z"') == []


def test_identifiers_are_bare_or_urns() -> None:
    uid = GUIDS.texts()[2]
    assert chosen(f'id=="{uid}"') == chosen(f'id=="urn:veeam:CdpReplicaTaskSession:{uid.upper()}"')
    assert chosen(f"id=={uid}") == [2, 8, 14, 20]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour==1", "unknown field 'colour'"),
        ("size==big", "'big' is not a number"),
        ("end>=soon", "'soon' is not a date"),
        ("state==Running", "'Running' is not one of InProgress, Pending, Completed"),
        ("id==7", "'7' is not an identifier"),
        ("size=1", "no condition at 'size=1'"),
        ("(size==1", "a \\) is missing"),
        ("size==1)", "unexpected '\\)'"),
        ("size==1;", "no condition at ''"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said):
        chosen(text)
