"""The Selection: narrowing by names counts the time of what is named, and never of anything else."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from cdpanalytics import metrics
from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.metrics import rpo_adherence
from cdpanalytics.questions import explore, report
from cdpanalytics.selection import Selection
from tests.archive.test_archive import OCT, at, put, session
from tests.builders import START, RandomArchive, random_archive
from tests.conftest import NIGHTLY

VM = ["backup_server", "policy", "vm"]
PERIOD = {"since": START + pd.Timedelta("1D"), "until": START + pd.Timedelta("11D")}


@pytest.fixture(scope="module", params=range(3 if NIGHTLY else 1))
def drawn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RandomArchive:
    return random_archive(tmp_path_factory.mktemp("selection") / "archive", request.param)


@pytest.mark.parametrize("name", metrics.__all__)
def test_each_metric_is_a_method(name: str) -> None:
    assert hasattr(Selection, name), (
        f'add a method {name} to Selection in cdpanalytics/selection.py: self._ask("{name}", ...)'
    )


@pytest.mark.parametrize("policy", ["Gold", "Silver", "office*"])
def test_a_policy_has_the_numbers_it_has_among_all(drawn: RandomArchive, policy: str) -> None:
    # vm-1 moves from one policy to another: its gaps belong to the one that protected last.
    whole, part = drawn.archive.select(**PERIOD), drawn.archive.select(**PERIOD, policy=policy)
    name = {"office*": "Office hours"}.get(policy, policy)
    for metric in ("rpo_adherence", "objectives", "durations", "sizes"):
        table = getattr(whole, metric)(by=VM)
        expected = table[table["policy"].eq(name) & table["vm"].ne("never-seen")].reset_index(
            drop=True
        )
        actual = getattr(part, metric)(by=VM)
        actual = actual[actual["vm"].ne("never-seen")].reset_index(drop=True)
        assert_frame_equal(actual, expected, check_exact=True)
    gaps = whole.gaps(incidents=False)
    assert_frame_equal(
        part.gaps(incidents=False),
        gaps[gaps["policy"] == name].reset_index(drop=True),
        check_exact=True,
    )
    assert set(part.sessions["policy"]) == {name}


@pytest.mark.parametrize("metric", ["rpo_adherence", "objectives"])
def test_the_vms_of_a_policy_add_up(drawn: RandomArchive, metric: str) -> None:
    """Also where one of them has moved, so that part of its time is another policy's."""
    silver = drawn.archive.select(**PERIOD, policy="Silver")
    whole, by_policy = getattr(silver, metric)(by=()), getattr(silver, metric)(by="policy")
    every = getattr(drawn.archive.select(**PERIOD), metric)(by="policy")
    columns = [name for name in whole if name != "period"]
    assert_frame_equal(whole, by_policy[columns], check_exact=True)
    expected = every[every["policy"] == "Silver"].reset_index(drop=True)
    assert_frame_equal(by_policy, expected, check_exact=True)


def test_a_vm_of_one_name_on_two_servers_is_two(drawn: RandomArchive) -> None:
    part = drawn.archive.select(**PERIOD, vm="vm-0", server="VBR1")
    assert part.rpo_adherence(by=VM)[VM[::2]].to_numpy().tolist() == [["vbr1", "vm-0"]]


def test_where_narrows_and_during_moves(drawn: RandomArchive) -> None:
    selection = drawn.archive.select()
    narrowed = selection.where(vm="vm-1").during(**PERIOD)
    expected = drawn.archive.select(**PERIOD, vm="vm-1")
    assert_frame_equal(
        narrowed.rpo_adherence(by=VM), expected.rpo_adherence(by=VM), check_exact=True
    )
    assert "vm-1" in repr(narrowed)
    assert selection.names.vm is None, "a Selection never changes"


def test_a_name_that_fits_nothing_is_refused_and_names_that_never_meet_select_nothing(
    drawn: RandomArchive, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no policy matches 'Platinum' \(known: Gold, "):
        drawn.archive.select(**PERIOD, policy="Platinum").gaps()
    nothing = drawn.archive.select(**PERIOD, policy="Gold", vm="vm-2", server="vbr0")
    if nothing.sessions.empty:
        page = nothing.report(tmp_path / "r.html").read_text()
        assert "Unknown: nothing was observed" in page


def test_a_name_that_is_no_part_of_a_question_is_refused(
    drawn: RandomArchive, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="report has no 'colour'; use period, since"):
        report(drawn.archive, tmp_path / "r.html", colour="red")
    with pytest.raises(InputError, match="explore has no 'polices'; use period, since"):
        explore(drawn.archive, polices=("Gold",))


def test_a_session_that_was_seen_to_run_before_a_hole_is_not_known_to_run_in_it(
    tmp_path: Path,
) -> None:
    """Seen at 20 h; nothing is known of 20 to 48 h, nor of 1.1 times 24 h after it."""
    archive = Archive(tmp_path / "archive")
    running = session("u1", "a", 0, None, state="InProgress", as_of=at(20))
    put(archive, OCT, running, as_of=20)
    put(archive, OCT + pd.Timedelta("2D"), session("u2", "b", 48, 72, as_of=at(72)), as_of=72)
    question = archive.select(vm="a")
    by_ranges = question.using(workers=1)
    frame = archive.sessions(history=True)
    tables = [
        question.rpo_adherence(),
        question.pinned().rpo_adherence(),
        by_ranges.rpo_adherence(),
        rpo_adherence(frame[frame["vm"] == "a"], unobserved=archive.holes(), policies=None),
    ]
    for table in tables:
        row = table.iloc[0]
        assert row["observed"] == pd.Timedelta("20h")
        assert row["unobserved"] == pd.Timedelta("52h")


def test_rows_that_were_read_for_one_question_become_arrays_once(drawn: RandomArchive) -> None:
    """Metrics of one pinned question share them, and say what they say when each reads its own."""
    plain = drawn.archive.select()
    held = plain.pinned()
    for other in (held, held.with_terms(target="1h")):
        expected = plain.with_terms(target=other.target)
        for by in ((), "policy", ("policy", "vm")):
            assert_frame_equal(other.rpo_adherence(by=by), expected.rpo_adherence(by=by))
        assert_frame_equal(other.gaps(), expected.gaps())
        assert_frame_equal(other.status(), expected.status())
        assert_frame_equal(other.incidents(), expected.incidents())
    kept = [entry[-1] for entry in held.source.arrays.values()]
    assert 0 < len(kept) <= 4
    # The tiles of a target are those of another.
    assert all(any(key[0] == "tiles" for key in arrays.kept) for arrays in kept)


def test_a_persons_own_frame_may_change_between_two_questions() -> None:
    hours = pd.to_timedelta([0, 9], unit="h")
    sessions = pd.DataFrame(
        {"vm": "a", "policy": "Gold", "created": START + hours, "ended": START + hours + pd.Timedelta("8h")}
    )  # fmt: skip
    lengths = []
    for end in ("8h", "9h"):
        sessions.loc[0, "ended"] = START + pd.Timedelta(end)
        lengths.append(sessions.cdp.select(target="15min").rpo_adherence(by=())["breached"].iloc[0])
    assert tuple(lengths) == (pd.Timedelta("45min"), pd.Timedelta(0))
