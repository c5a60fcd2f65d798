"""The explorer without a browser: its traits are its state, and the board shows what they say."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.explorer import Explorer, app
from cdpanalytics.explorer.views import VIEWS
from cdpanalytics.presentation import formatting
from cdpanalytics.questions import explore
from cdpanalytics.schema import KEYS
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync


@pytest.fixture(scope="module")
def archive(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = Archive(tmp_path_factory.mktemp("explorer") / "archive")
    with (
        Simulator(fleet) as server,
        EnterpriseManager(server.url, "demo", "demo", cache=False) as em,
    ):
        sync(em, archive, since="7D", progress=False, journal=True)
    return archive


@pytest.fixture
def explorer(archive: Archive) -> Explorer:
    return explore(archive)


def tile(explorer: Explorer, name: str) -> str:
    found = re.search(rf'<dt>{name}</dt><dd class="value">(.*?)</dd>', explorer.page.tiles)
    assert found is not None
    return found[1]


def test_the_tiles_say_what_the_metrics_do(explorer: Explorer, archive: Archive) -> None:
    asked = archive.select(
        since=str(explorer.first), until=str(explorer.last + dt.timedelta(days=1))
    )
    whole = asked.rpo_adherence(by=()).iloc[0]
    assert tile(explorer, "Adherence") == formatting.share(whole["adherence"])
    explorer.rpo = "1h"
    whole = asked.rpo_adherence(by=(), target="1h").iloc[0]
    assert tile(explorer, "Adherence") == formatting.share(whole["adherence"])


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_is_drawn_and_stands_still_where_no_widget_runs(
    explorer: Explorer, view: str
) -> None:
    explorer.view = view
    assert "alert" not in re.sub("&lt;script&gt;alert", "", explorer.page.main)
    assert "<script" not in explorer.page.main
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    still = bundle["text/html"]
    assert "<script" not in still
    assert "<button" not in still
    if "<figure>" in explorer.page.main:
        assert re.search(r'<img alt="[^"]{20,}" src="data:image/svg\+xml;base64,', still)
    assert tile(explorer, "Adherence") in still


def test_periods_and_dates_follow_each_other(explorer: Explorer) -> None:
    newest = explorer.last
    explorer.period = "last 7 days"
    assert (newest - explorer.first).days <= 6
    explorer.first = newest - dt.timedelta(days=1)
    assert explorer.period == "own dates"
    explorer.period = "all"
    assert explorer.first < newest - dt.timedelta(days=1)
    explorer.first, explorer.last = newest, newest - dt.timedelta(days=2)
    assert 'role="alert"' in explorer.page.main
    explorer.period = "all"
    assert 'role="alert"' not in explorer.page.main


def test_what_cannot_be_answered_is_told_where_the_answer_would_stand(explorer: Explorer) -> None:
    explorer.rpo = "soon"
    assert "is not a length of time; write it like" in explorer.page.main
    assert explorer.page.tiles == ""
    explorer.rpo = "15min"
    assert explorer.page.tiles


def test_a_selection_is_handed_back(explorer: Explorer, archive: Archive) -> None:
    whole = explorer.data
    assert set(archive.sessions().columns) - {"neighbour"} <= set(whole.columns)
    policy = whole["policy"].astype("str").iloc[0]
    explorer.policies = (policy,)
    assert set(explorer.data["policy"].astype("str")) == {policy}
    vm = explorer.data["vm"].astype("str").iloc[0]
    explorer.vms = (vm,)
    assert set(explorer.data["vm"].astype("str")) == {vm}
    assert explorer.controls["vms"].value == (vm,)
    explorer.period = "last 7 days"
    until = pd.Timestamp(explorer.last, tz="UTC") + pd.Timedelta("1D")
    assert (explorer.data["created"] < until).all()


def test_searching_keeps_what_was_chosen(explorer: Explorer) -> None:
    names = explorer.controls["vms"].options
    explorer.vms = (names[0],)
    explorer.controls["search"].value = names[-1][:3].upper()
    assert names[0] in explorer.controls["vms"].options
    assert names[-1] in explorer.controls["vms"].options
    assert len(explorer.controls["vms"].options) < len(names)
    assert explorer.vms == (names[0],)
    explorer.controls["search"].value = ""
    assert explorer.controls["vms"].options == names
    assert explorer.vms == (names[0],)


def test_what_is_picked_shows_its_sessions(explorer: Explorer) -> None:
    explorer.period = "all"
    server, policy, vm = explorer.analysis.worst[KEYS].iloc[0]
    explorer.page.picked = [server, policy, vm, "", 1]
    mine = explorer.data.query("backup_server == @server and vm == @vm and policy == @policy")
    assert f"{len(mine):,} sessions" in explorer.page.detail
    day = explorer.analysis.periods["period"].iloc[0]
    explorer.page.picked = [server, policy, vm, day.isoformat(), 2]
    assert f"{day:%Y-%m-%d}: " in explorer.page.detail
    explorer.view = "Worst VMs"
    assert f'data-vm="{vm}"' in explorer.page.main or "&" in explorer.page.main


def test_several_changes_are_drawn_once(explorer: Explorer) -> None:
    drawn = []
    explorer.page.observe(drawn.append, "main")
    with explorer.batch():
        explorer.view, explorer.rpo, explorer.period = "Sizes", "5min", "all"
    assert len(drawn) == 1


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("chosen", [{}, {"rpo": "5min"}, {"policies": 1}])
def test_the_code_gives_the_views_numbers(
    explorer: Explorer, archive: Archive, view: str, chosen: dict
) -> None:
    explorer.period, explorer.view = "all", view
    if "policies" in chosen:
        explorer.policies = (explorer.data["policy"].astype("str").iloc[0],)
    explorer.rpo = chosen.get("rpo", explorer.rpo)
    got = eval(explorer.code(), {"archive": archive})
    found = explorer.analysis
    tables = {
        "Heat map": found.periods, "Timeline": found.gaps, "Exposure": found.gaps,
        "Durations": found.durations, "Sizes": found.sizes, "Status": found.status,
    }  # fmt: skip
    if view == "Side by side":
        pd.testing.assert_frame_equal(got, found.side_by_side([found.side_key]))
    elif view in tables:
        pd.testing.assert_frame_equal(got, tables[view])
    elif view == "Worst VMs":
        assert got["breached"].tolist() == found.worst["breached"].head(10).tolist()
    else:
        got = got.sort_values(["adherence", *KEYS], kind="stable", ignore_index=True)
        pd.testing.assert_frame_equal(got, found.journal)


def test_a_frame_of_three_columns_can_be_explored() -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    own = pd.DataFrame({
        "vm": ["a", "b"], "created": [day, day], "ended": day + pd.to_timedelta([20, 30], unit="h"),
    })  # fmt: skip
    explorer = own.cdp.explore(rpo="1h")
    assert tile(explorer, "VMs that missed") == "1 of 2"
    assert list(own) == ["vm", "created", "ended"]
    explorer.vms = ("b",)
    assert tile(explorer, "VMs that missed") == "0 of 1"
    with pytest.raises(InputError, match="explore has no 'colour'; use period, since"):
        own.cdp.explore(colour="red")
    with pytest.raises(InputError, match="there are no sessions to explore"):
        own.iloc[:0].cdp.explore()


def test_its_files_are_in_the_package() -> None:
    folder = Path(app.__file__).parent
    assert {"board.js", "explorer.css"} <= {path.name for path in folder.iterdir()}
