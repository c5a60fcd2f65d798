"""Two groups side by side over one period: by hand, and by every door."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

from cdpanalytics import plots
from cdpanalytics.cli import main
from cdpanalytics.errors import InputError
from cdpanalytics.metrics.sides import FIGURES, Sides
from cdpanalytics.presentation import formatting
from cdpanalytics.selection import Selection

from ..builders import START, random_archive

DAY = pd.Timestamp("2026-10-01", tz="UTC")
SINCE, UNTIL = START + pd.Timedelta("1D"), START + pd.Timedelta("11D")


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    drawn = random_archive(tmp_path_factory.mktemp("sides") / "archive", 7)
    return drawn.archive.select(since=SINCE, until=UNTIL, tags=drawn.tags)


@pytest.fixture
def two_sites() -> pd.DataFrame:
    """Site A covers 10 and 12 of 24 h with a gap of 2 h; site B all; policy Silver is of A only."""
    rows = [
        ("A", "Gold", "a1", 0, 10), ("A", "Gold", "a1", 12, 24), ("B", "Gold", "b1", 0, 24),
        ("A", "Silver", "a2", 0, 24),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["backup_server", "policy", "vm", "created", "ended"])
    for name in ("created", "ended"):
        frame[name] = DAY + pd.to_timedelta(frame[name], unit="h")
    return frame


def test_two_sites_by_hand(two_sites: pd.DataFrame) -> None:
    table = two_sites.cdp.select(target="30min").compare(by="policy", sides="server=A,B")
    gold, silver = table.to_dict("records")
    # Of Gold's 24 h at A, 2 h are a gap, of which 1 h 30 min exceed the target: 22.5 / 24.
    assert (gold["policy"], gold["left"], gold["right"], gold["better"]) == ("Gold", "A", "B", "B")
    assert (gold["adherence_left"], gold["adherence_right"]) == (0.9375, 1.0)
    assert (gold["difference"], gold["breached_left"]) == (0.0625, pd.Timedelta("90min"))
    assert (silver["policy"], silver["better"]) == ("Silver", "unknown")
    assert silver["adherence_left"] == 1.0
    assert pd.isna(silver["adherence_right"])
    assert pd.isna(silver["difference"])
    whole = two_sites.cdp.select(target="30min").compare(sides=("backup_server", "B", "A"))
    assert whole["better"].tolist() == ["B"]
    assert whole["adherence_right"].tolist() == [1 - 1.5 / 48]


def test_two_targets_by_hand(two_sites: pd.DataFrame) -> None:
    table = two_sites.cdp.select(target="30min").compare(sides="rpo=1h,2h")
    assert table["rpo_left"].tolist() == [pd.Timedelta("1h")]
    # The gap of 2 h exceeds 1 h by 1 h, and 2 h not at all, of 72 h observed.
    assert table["adherence_left"].tolist() == [1 - 1 / 72]
    assert table["adherence_right"].tolist() == [1.0]
    assert table["better"].tolist() == ["2h"]


@pytest.mark.parametrize(
    ("sides", "by"),
    [
        ("policy=Gold,Silver", ["backup_server"]), ("backup_server=vbr0,vbr1", ["policy", "vm"]),
        ("department=Finance,Sales", ["policy"]), ("vm=vm-0,vm-[12]", []), ("target=1min,1h", ["vm"]),
    ],
)  # fmt: skip
def test_each_side_is_the_same_question_narrowed(
    selection: Selection, sides: str, by: list[str]
) -> None:
    """What `where` answers of a side is its columns, to the digit; the mirrored question mirrors them."""
    column, pair = sides.split("=")
    left, right = pair.split(",")
    table = selection.compare(by=by, sides=sides)
    narrowed = {"policy": "policy", "backup_server": "server", "vm": "vm"}
    for side, name in (("left", left), ("right", right)):
        asked = (
            selection.with_terms(target=name) if column == "target"
            else selection.where(**{narrowed[column]: name}) if column in narrowed
            else selection.where(tag={column: name})
        )  # fmt: skip
        expected = asked.rpo_adherence(by=by)[[*by, *FIGURES]]
        of_side = table[[*by, *(f"{figure}_{side}" for figure in FIGURES)]]
        of_side = of_side.dropna(subset=[f"observed_{side}"]).set_axis([*by, *FIGURES], axis=1)
        keys = by or ["vms"]
        assert_frame_equal(
            of_side.sort_values(keys, ignore_index=True),
            expected.sort_values(keys, ignore_index=True), check_dtype=False,
        )  # fmt: skip
    mirrored = selection.compare(by=by, sides=(column, right, left))
    order = [*by, "difference"]
    assert_series_equal(
        mirrored.assign(difference=-mirrored["difference"]).sort_values(order)["difference"],
        table.sort_values(order)["difference"], check_index=False, check_exact=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        ("policy=Gold", "is not a column and two names"),
        ("Gold,Silver", "is not a column and two names"),
        ("policy=Gold,Silver,Bronze", "is not a column and two names"),
        ("policy=Gold, gold", "both sides are 'Gold'"),
        ("policy=Gold,Lead", "Lead"),
        ("colour=red,blue", "no column 'colour'"),
        ("target=soon,1h", "'soon' is not a length"),
    ],
)
def test_wrong_sides_are_refused_in_a_line(selection: Selection, sides: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        selection.compare(sides=sides)
    assert "\n" not in str(caught.value)


def test_a_key_in_which_the_sides_differ_is_refused(selection: Selection) -> None:
    with pytest.raises(InputError, match="the sides differ in 'policy'"):
        selection.compare(by=["policy", "vm"], sides="policy=Gold,Silver")
    assert Sides.parse("rpo=1h,2h") == Sides("target", "1h", "2h")


def test_the_command_line_gives_the_same(
    selection: Selection, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["metrics", "compare", "--archive", str(selection.source.folder), "--since",
             SINCE.isoformat(), "--until", UNTIL.isoformat(), "--by", "policy", "--sides",
             "server=vbr0,vbr1"]  # fmt: skip
    assert main([*words, "--format", "json"]) == 0
    table = selection.compare(by="policy", sides="server=vbr0,vbr1")
    assert json.loads(capsys.readouterr().out) == json.loads(formatting.json_text(table))
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert formatting.share(table["adherence_left"].iloc[0]) in shown
    assert f"{100 * table['difference'].iloc[0]:+,.2f} points" in shown


def test_the_picture_says_which_group_differs_most(selection: Selection) -> None:
    table = selection.compare(by="policy", sides="server=vbr0,vbr1")
    ax = selection.plot.side_by_side("server=vbr0,vbr1", by="policy")
    first = table.iloc[0]
    assert ax.get_title("left").startswith(f"{first['policy']} differs most: within the RPO ")
    assert formatting.share(first["adherence_left"]) + " (vbr0)" in ax.get_title("left")
    assert [text.get_text() for text in ax.get_yticklabels()] == table["policy"].tolist()
    assert [handle.get_label() for handle in ax.get_legend_handles_labels()[0]] == ["vbr0", "vbr1"]
    drawn = [collection.get_offsets()[:, 0].tolist() for collection in ax.collections[1:]]
    assert drawn == [table["adherence_left"].tolist(), table["adherence_right"].tolist()]
    nothing = plots.side_by_side(table.assign(difference=float("nan")))
    assert nothing.get_title("left").startswith("Nothing to compare")


def test_the_report_has_a_section_of_both_sides(selection: Selection, tmp_path: Path) -> None:
    sides = "department=Finance,Sales"
    page = selection.report(tmp_path / "report.html", sides=sides).read_text(encoding="utf-8")
    section = page[page.index('<h2 id="sides">') : page.index('<h2 id="quality">')]
    assert "Finance and Sales, side by side" in section
    assert "Adherence, Finance" in section
    for table in (selection.compare(sides=sides), selection.compare(by="policy", sides=sides)):
        for value in table["adherence_right"]:
            assert formatting.share(value) in section
    assert len(re.findall("<svg", section)) == 1


def test_the_explorer_has_a_view_of_both_sides(selection: Selection) -> None:
    explorer = selection.explore(view="Side by side", period="all")
    assert "backup_server=vbr0,vbr1</button>" in explorer.main
    explorer.show(sides="backup_server=vbr0,vbr1")
    assert "Adherence, vbr1" in explorer.main
    explorer.show(sides="policy=Gold,Silver")
    table = explorer.selection.compare(by="backup_server", sides="policy=Gold,Silver")
    assert formatting.share(table["adherence_left"].iloc[0]) in explorer.main
    assert explorer.code().endswith(".compare(by='backup_server', sides='policy=Gold,Silver')")
    assert '<svg class="cdp-picture"' in explorer.main
    explorer.show(sides="policy=Gold")
    assert 'role="alert"' in explorer.main
    explorer.show(view="Durations")
    assert 'role="alert"' not in explorer.main, "other views need no sides"
    assert explorer.code().endswith("durations(by='policy')")
