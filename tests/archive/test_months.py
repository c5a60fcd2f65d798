"""The files of settled months: the same neighbours as the days have, whatever became of either."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cdpanalytics.archive import Archive
from cdpanalytics.archive.extremes import NeighbourRules, default_rules
from cdpanalytics.errors import ArchiveError
from cdpanalytics.ranges import Range
from tests.archive.test_archive import DAY, EM, OCT, at, put, rows, session
from tests.archive.test_damage import cut_short, one_bit_turned

pytestmark = pytest.mark.slow

START, STOP = pd.Timestamp("2026-12-05", tz="UTC"), pd.Timestamp("2026-12-08", tz="UTC")
ANY = default_rules()
OTHER = "https://other.tech.local:9398"
MONTH = "months/em.tech.local_9398/2026-10.parquet"

SESSIONS = st.fixed_dictionaries({
    "vm": st.sampled_from(["a", "b", "c"]),
    "backup_server": st.sampled_from(["b1", "b2"]),
    "begin": st.integers(0, 70 * 24).map(float),
    "length": st.one_of(st.none(), st.integers(-1, 60)),
    "state": st.sampled_from(["Completed", "InProgress", "Pending"]),
    "result": st.sampled_from(["Success", "Warning", "Failed", "None"]),
    "source": st.sampled_from([EM, OTHER]),
})  # fmt: skip


def write(archive: Archive, drawn: list[dict[str, Any]]) -> None:
    """Write the days that have sessions, and the last one of each source."""
    last = 71
    days: dict[tuple[str, int], list[dict[str, object]]] = {(EM, last): [], (OTHER, last): []}
    for number, each in enumerate(drawn):
        begin, length = each["begin"], each["length"]
        end = None if length is None else begin + length
        more = {name: each[name] for name in ("backup_server", "state", "result")}
        made = session(f"u{number}", each["vm"], begin, end, reason=f"why {number}", **more)
        days.setdefault((each["source"], int(begin // 24)), []).append(made)
    for (source, number), of_day in days.items():
        put(archive, OCT + number * DAY, *of_day, as_of=72 * 24, source=source)


def summarized(archive: Archive) -> list[str]:
    """Let a sync begin and end; return the months that have a file."""
    with archive.writing():
        pass
    home = Path(archive.path)
    return sorted(str(path.relative_to(home)) for path in home.glob("months/*/*"))


def neighbours(
    archive: Archive,
    start: pd.Timestamp = START,
    rules: NeighbourRules = ANY,
    **asked: Any,
) -> pd.DataFrame:
    found = Archive(archive.path).read(start, start + 3 * DAY, neighbours=rules, **asked)
    # Categories are in the order of the files that were read, so only the labels are compared.
    labels = dict.fromkeys(found.select_dtypes("category"), "str")
    return found.astype(labels).sort_values(["uid"]).reset_index(drop=True)


@given(
    st.lists(SESSIONS, min_size=1, max_size=20),
    st.lists(st.integers(0, 71 * 24).map(at), max_size=3, unique=True),
    st.sampled_from(["2026-10-20", "2026-11-01", "2026-11-30T12:00", "2026-12-01", "2026-12-05"]),
)
def test_neighbours_are_the_same_with_files_of_months(
    drawn: list[dict[str, Any]], holes: list[pd.Timestamp], begin: str
) -> None:
    start = pd.Timestamp(begin, tz="UTC")
    rules = default_rules(sorted(hole for hole in holes if hole < start))
    asked: list[dict[str, Any]] = [
        {}, {"within": Range("vm", "b", None)}, {"columns": ["uid", "as_of", "reason"]},
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        archive = Archive(home)
        write(archive, drawn)
        expected = [neighbours(archive, start, rules, **each) for each in asked]
        months = {(each["source"], each["begin"] >= 31 * 24) for each in drawn}
        assert len(summarized(archive)) >= len(months) - 2, "December has none"
        for each, found in zip(asked, expected, strict=True):
            assert_frame_equal(neighbours(archive, start, rules, **each), found)


@pytest.fixture
def archive(folder: Path) -> Archive:
    """A VM that was first tried, longest covered and last seen in October; a quiet November."""
    archive = Archive(folder)
    put(archive, OCT, session("first", "a", 1, 2, result="Failed"), session("longest", "a", 3, 15),
        session("of no use", "a", 16, 17), session("last", "a", 18, 19), as_of=2000)  # fmt: skip
    put(archive, OCT + 40 * DAY, session("other", "b", 960, 961), as_of=2000)
    put(archive, START, session("in", "a", 1561, 1562), as_of=2000)
    assert summarized(archive) == [MONTH, MONTH.replace("10.", "11.")]
    return archive


def test_a_month_is_read_instead_of_its_days(archive: Archive) -> None:
    home = Path(archive.path)
    stored = pq.read_table(home / MONTH).to_pandas()
    assert set(stored["uid"]) == {"first", "longest", "last"}
    day = home / "sessions/em.tech.local_9398/2026-10-01.parquet"
    before, expected = day.stat(), neighbours(archive)
    one_bit_turned(day)
    os.utime(day, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_frame_equal(neighbours(archive), expected)
    shutil.rmtree(home / "months")
    with pytest.raises(ArchiveError, match=r"2026-10-01.parquet cannot be read"):
        neighbours(archive)


def test_a_day_that_changed_is_read_itself_until_its_month_is_written_again(
    archive: Archive,
) -> None:
    longer = session("longer", "a", 3, 23)
    put(archive, OCT + DAY, session("first of b", "b", 24, 25), as_of=2000)
    assert "first of b" in set(neighbours(archive)["uid"]), "a day that was not there"
    put(archive, OCT, longer, as_of=2000)
    assert {"longer", "first of b"} < set(neighbours(archive)["uid"])
    assert not {"longest", "last"} & set(neighbours(archive)["uid"])
    with archive.writing():
        put(archive, OCT, session("newest", "a", 5, 6), as_of=2000)
        assert "newest" in set(archive.read(START, STOP, neighbours=ANY)["uid"]), "staged"
    assert "newest" in set(neighbours(archive)["uid"])
    summarized(archive)
    stored = pq.read_table(Path(archive.path) / MONTH).to_pandas()
    assert set(stored["uid"]) == {"newest", "first of b"}


def test_a_damaged_month_costs_no_answer_and_is_written_again(archive: Archive) -> None:
    month = Path(archive.path) / MONTH
    expected = neighbours(archive)
    for damage in (one_bit_turned, cut_short):
        damage(month)
        assert_frame_equal(neighbours(archive), expected)
        (finding,) = archive.verify().to_dict("records")
        assert finding["path"] == MONTH
        assert finding["finding"].endswith("nothing is lost: the next sync writes it again")
        assert archive.set_aside(thorough=True) == [MONTH]
        assert_frame_equal(neighbours(archive), expected)
        assert MONTH in summarized(archive)
        assert archive.verify().empty


def test_a_copy_that_keeps_times_keeps_the_months_of_use(archive: Archive, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as other:
        copy = Path(other) / "copy"
        shutil.copytree(archive.path, copy)
        day = copy / "sessions/em.tech.local_9398/2026-10-01.parquet"
        before = day.stat()
        one_bit_turned(day)
        os.utime(day, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert "longest" in set(neighbours(Archive(copy))["uid"])


def test_a_month_that_may_still_change_has_no_file(folder: Path) -> None:
    archive = Archive(folder)
    put(archive, OCT, session("u1", "a", 1, 2))
    assert summarized(archive) == [], "it is the newest"
    put(archive, OCT + 31 * DAY, session("u2", "a", 745, 746))
    table = rows(session("u3", "a", 25, 26))
    archive.put_day("sessions", EM, OCT + DAY, table, at(30), final=False)
    assert summarized(archive) == [], "a day of it is not final"
    archive.put_day("sessions", EM, OCT + DAY, table, at(100), final=True)
    assert summarized(archive) == [MONTH]
