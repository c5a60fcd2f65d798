"""A frame carries what it was read for; whatever is done to it, the answer is the same, or refused."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cdpanalytics.errors import InputError
from cdpanalytics.frames import mark, unmarked
from cdpanalytics.metrics import durations, gaps, rpo_adherence
from cdpanalytics.metrics.core.frames import facts, words_of
from cdpanalytics.metrics.core.question import Terms
from cdpanalytics.metrics.registry import REGISTRY

from .asked import TARGET, advice, all_but, arguments, ask, taken
from .oracle import unique
from .strategies import STEP, fleets, frame

DAY = pd.Timestamp("2026-10-01", tz="UTC")
BY_VM = ("backup_server", "vm")
BY_VM_ALONE = all_but(
    {
        "incidents": "finds those of several VMs",
        "offenders": "compares each VM with the others",
        "quality": "counts the sessions of all VMs",
    }
)


def at(hours: float) -> pd.Timestamp:
    return DAY + pd.Timedelta(hours=hours)


def sessions(*rows: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame({
        "uid": [f"{n:036d}" for n in range(len(rows))], "vm": [vm for vm, _, _ in rows],
        "policy": "gold", "backup_server": "b1", "state": "Completed", "result": "Success",
        "created": [at(start) for _, start, _ in rows], "ended": [at(end) for *_, end in rows],
    })  # fmt: skip


@pytest.fixture
def october() -> pd.DataFrame:
    """Two VMs, a day as window; `a` ran into it, `b` came back after it."""
    rows = sessions(("a", -4, 2), ("a", 4, 10), ("a", 10, 30), ("b", 1, 12), ("b", 28, 40))
    return mark(rows, at(0), at(24), at(40), [])


# -- what a frame says -----------------------------------------------------------------


def test_the_facts_are_columns(october):
    assert october["window"].unique().tolist() == [
        "2026-10-01T00:00:00+00:00/2026-10-02T00:00:00+00:00"
    ]
    assert october["neighbour"].tolist() == [True, False, False, False, True]
    assert october["terms"].tolist()[0] == "as_of=2026-10-02T16:00:00+00:00 sessions=2 neighbours=1"
    assert not october.attrs


def test_a_window_is_cut_at_as_of_and_open_without_a_bound():
    rows = sessions(("a", 0, 8))
    assert mark(rows, None, at(99), at(9))["window"].iloc[0] == "../2026-10-01T09:00:00+00:00"
    assert facts(mark(rows, None, None)).marked is False
    known = facts(mark(rows, at(0), at(99), at(9), []))
    assert (known.until, known.as_of, known.promised_until) == (at(9), at(9), at(99))


def test_without_a_window_a_frame_is_a_strangers(october):
    found = rpo_adherence(unmarked(october), "1h", "vm")
    assert found["observed"].tolist() == [pd.Timedelta("44h"), pd.Timedelta("39h")]
    found = rpo_adherence(october, "1h", "vm")
    assert found["observed"].tolist() == [pd.Timedelta("24h"), pd.Timedelta("23h")]


def test_an_empty_frame_is_an_empty_selection(october):
    table = rpo_adherence(october.iloc[:0], "1h", ())
    assert table["observed"].tolist() == [pd.Timedelta(0)]
    assert table["adherence"].isna().all()


# -- what is refused ---------------------------------------------------------------------


def test_sessions_without_their_neighbours_are_refused_by_name_of_frame(october):
    window_only = october[~october["neighbour"]].drop(columns="neighbour")
    with pytest.raises(InputError, match=r"^the frame lacks the sessions outside its window that decide its "
                       r"edges \(2 VMs, such as a: 0 of 1\); use the Selection's frame\(\)"):  # fmt: skip
        rpo_adherence(window_only, "1h")
    assert durations(window_only)["sessions"].sum() == 3


def test_a_vm_without_neighbours_needs_none():
    rows = mark(sessions(("a", 1, 9), ("a", 9, 20)), at(0), at(24), at(24), [])
    window_only = rows.drop(columns="neighbour")
    assert len(rpo_adherence(window_only, "1h")) == 1


def test_sessions_that_were_filtered_out_are_noticed(october):
    with pytest.raises(
        InputError, match=r"lacks sessions of its window \(1 VMs, such as a: 1 of 2\).*where\(\)"
    ):
        gaps(october[october["created"] != at(4)])
    assert set(gaps(october[october["vm"] == "a"])["vm"]) == {"a"}


def test_a_missing_window_in_some_rows_is_refused(october):
    more = pd.concat([october, sessions(("c", 0, 4)).assign(uid="x")])
    with pytest.raises(
        InputError, match=r"^column 'window' is missing in 1 of 6 rows, as an outer join"
    ):
        gaps(more)


def test_adjoining_windows_are_one_and_others_are_refused():
    rows = sessions(("a", -4, 2), ("a", 4, 30), ("a", 30, 50), ("a", 60, 80))
    first = mark(rows.iloc[:3], at(0), at(24), at(80), [])
    second = mark(rows, at(24), at(70), at(80), [])
    both = pd.concat([first, second])
    whole = mark(rows, at(0), at(70), at(80), [])
    assert_frame_equal(rpo_adherence(both, "1h"), rpo_adherence(whole, "1h"))
    assert_frame_equal(gaps(pd.concat([second, first]), "1h"), gaps(whole, "1h"))
    apart = pd.concat([first, mark(rows, at(25), at(70), at(80), [])])
    with pytest.raises(
        InputError, match=r"windows that do not adjoin \(2026-10-01 00:00:00\+00:00/"
    ):
        gaps(apart)


def test_windows_of_different_vms_are_not_one():
    rows = sessions(("a", 1, 9), ("a", 30, 40), ("b", 2, 9), ("b", 30, 40))
    first = mark(rows[rows["vm"] == "a"], at(0), at(24), at(50), [])
    second = mark(rows[rows["vm"] == "b"], at(24), at(48), at(50), [])
    with pytest.raises(
        InputError, match=r"1 VMs, such as b, were not read for the window 2026-10-01"
    ):
        gaps(pd.concat([first, second]))


def test_a_column_of_ones_own_named_window_is_refused(october):
    with pytest.raises(
        InputError, match=r"^column 'window' holds 'night', not an interval.*rename it"
    ):
        gaps(unmarked(october).assign(window="night"))


def test_a_window_larger_than_the_one_read_is_refused(october):
    with pytest.raises(
        InputError, match=r"since=.* is outside of the window whose sessions were read"
    ):
        gaps(october, since=at(-1))
    with pytest.raises(InputError, match=r"until=.* is outside"):
        gaps(october, until=at(25))
    assert len(gaps(october, since=at(2), until=at(3))) == 1


# -- terms -----------------------------------------------------------------------------


TERMS = Terms.parse(
    exclude=[("2026-10-01T04:00Z", "2026-10-01T05:00Z")], retire_after="7D", grace="4h",
    policies=pd.DataFrame({"policy": ["gold"], "rpo": [pd.Timedelta("15min")]}),
    unobserved=pd.DataFrame({"start": [at(1)], "end": [at(2)]}),
)  # fmt: skip


def test_a_frame_asked_without_its_terms_is_refused_naming_them(october):
    rows = mark(unmarked(october), at(0), at(24), at(40), words_of(TERMS, "Europe/Berlin"))
    with pytest.raises(InputError, match=(
        r"terms that were not passed: exclude=, grace=4h, unobserved=, policies=, retire_after=7D; "
        r"pass them, or None for none, or ask the Selection itself"
    )):  # fmt: skip
        rpo_adherence(rows)
    passed = {"exclude": False, "grace": None, "unobserved": None, "policies": None}
    with pytest.raises(InputError, match="not passed: retire_after=7D"):
        rpo_adherence(rows, **passed)
    passed["retire_after"] = None
    assert_frame_equal(rpo_adherence(rows, **passed), rpo_adherence(october))
    with pytest.raises(InputError, match="not passed: tz=Europe/Berlin"):
        rpo_adherence(rows, freq="D", **passed)
    rpo_adherence(rows, freq="D", tz="UTC", **passed)
    with pytest.raises(InputError, match=r"not passed: policies=;"):
        durations(rows)


def test_frames_read_on_different_terms_are_not_one(october):
    other = mark(unmarked(october), at(0), at(24), at(40), ["holes"])
    with pytest.raises(InputError, match=r"read on different terms \(holes, or none\)"):
        gaps(pd.concat([october, other]))


def test_without_success_nothing_is_known_after_the_window(october):
    assert gaps(october, "1h")["open"].tolist() == [False, False]
    found = gaps(october, "1h", protects=["Warning", "Failed"])
    assert found["end"].tolist() == [at(24), at(24)]
    assert found["open"].all()
    mixed = october.assign(result=["Success", "Success", "Warning", "Warning", "Success"])
    assert gaps(mixed, "1h", protects=["Warning"])["end"].tolist() == [at(10), at(24)]


# -- whatever analysts do --------------------------------------------------------------------


def owners(rows, draw, how):
    names = draw(st.lists(st.sampled_from(["db", "web"]), max_size=3))
    table = pd.DataFrame({"vm": names, "owner": [f"o{n}" for n in range(len(names))]})
    rows = rows.drop(columns="owner", errors="ignore")
    return rows.merge(table.astype({"vm": "str"}), on="vm", how=how)


def through_csv(rows, draw):
    return pd.read_csv(io.StringIO(rows.to_csv(index=False)))


def through_parquet(rows, draw):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        rows.to_parquet(path)
        return pd.read_parquet(path)


def split(rows, draw):
    place = draw(st.integers(0, len(rows)))
    return pd.concat([rows.iloc[place:], rows.iloc[:place]])


def nearest(rows, draw):
    dated = isinstance(rows["created"].dtype, pd.DatetimeTZDtype)
    if rows.empty or not dated or rows["created"].isna().any():  # pandas refuses them itself
        return rows
    table = pd.DataFrame({"created": [rows["created"].min()], "change": ["firmware"]})
    return pd.merge_asof(rows.sort_values("created"), table, on="created")


CHAIN = {
    "merge left": lambda rows, draw: owners(rows, draw, "left"),
    "merge inner": lambda rows, draw: owners(rows, draw, "inner"),
    "merge outer": lambda rows, draw: owners(rows, draw, "outer"),
    "merge on policy": lambda rows, draw: rows.drop(columns="tier", errors="ignore").merge(
        pd.DataFrame({"policy": ["gold"], "tier": [1]}).astype({"policy": "str"}), on="policy"
    ),
    "join": lambda rows, draw: rows.reset_index(drop=True).join(
        pd.DataFrame({"note": range(len(rows))})
    ) if "note" not in rows else rows,
    "merge_asof": lambda rows, draw: nearest(rows.drop(columns="change", errors="ignore"), draw),
    "split and concat": split,
    "concat with itself": lambda rows, draw: pd.concat([rows, rows.iloc[: draw(st.integers(0, 3))]]),
    "assign": lambda rows, draw: rows.assign(length=1),
    "set and reset index": lambda rows, draw: rows.set_index(["vm", "created"]).reset_index(),
    "CSV": through_csv,
    "Parquet": through_parquet,
    "sample": lambda rows, draw: rows.sample(frac=draw(st.sampled_from([1, 0.5])), random_state=0),
    "filter": lambda rows, draw: rows[rows["state"] == "Completed"],
    "one VM": lambda rows, draw: rows[rows["vm"] == "db"],
    "sorted": lambda rows, draw: rows.sort_values("uid", ascending=False),
}  # fmt: skip


@given(st.data())
def test_after_any_chain_of_operations_the_answer_is_the_same_or_refused(data):
    rows = frame(unique(data.draw(fleets()))).astype({"vm": "str", "policy": "str"})
    start = rows["created"].min()
    since = start + data.draw(st.integers(0, 90)) * STEP
    until = since + data.draw(st.integers(1, 90)) * STEP
    as_of = max(rows["created"].max(), rows["ended"].max(), until)
    marked = mark(rows, since, until, as_of, [])
    name = data.draw(st.sampled_from(BY_VM_ALONE))
    spec = REGISTRY[name]
    asked = taken(name, by=BY_VM, target=data.draw(st.sampled_from([TARGET, None])))
    if "freq" in spec.takes:
        asked["freq"] = spec.freq or data.draw(st.sampled_from([None, "D"]))
    if not (marked["created"] < until).any():
        return
    asked = arguments(name, marked) | asked
    expected = ask(name, marked, **asked)
    changed = marked
    for step in data.draw(st.lists(st.sampled_from(list(CHAIN)), min_size=1, max_size=4)):
        changed = CHAIN[step](changed, data.draw)
    if changed.empty:
        return
    refusal = None
    try:
        answer = ask(name, changed, **asked)
    except InputError as error:
        refusal = str(error)
    event("answered" if refusal is None else "refused")
    if refusal is not None:
        assert "\n" not in refusal
        return
    if not spec.neighbours:  # of the sessions that are left: each counts by itself
        expected = ask(name, marked[marked["uid"].isin(changed["uid"])], **asked)
    whose = f"{name}: if its rows are not of one VM each, add it to BY_VM_ALONE in tests/metrics/test_frames.py"
    with advice(whose):
        assert set(BY_VM) <= set(expected)
    present = set(zip(*(changed[key].fillna("").astype(str) for key in BY_VM), strict=True))
    keys = zip(*(expected[key].fillna("").astype(str) for key in BY_VM), strict=True)
    kept = expected[[key in present for key in keys]].reset_index(drop=True)
    columns = [name for name in kept if name not in ("explains", "explained")]
    with advice(whose):
        assert_frame_equal(answer[columns], kept[columns], check_dtype=False)
