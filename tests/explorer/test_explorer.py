"""The explorer without a browser: its traits are its state, and the board shows what they say."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pandas as pd
import pytest

import cdpanalytics as cdp
from cdpanalytics import metrics
from cdpanalytics.analysis import VM
from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.explorer import Explorer, explore
from cdpanalytics.explorer.views import VIEWS
from cdpanalytics.presentation import formatting
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
def desk(archive: Archive) -> Explorer:
    return explore(archive)


def tile(desk: Explorer, name: str) -> str:
    found = re.search(rf'<dt>{name}</dt><dd class="value">(.*?)</dd>', desk._board.tiles)
    assert found is not None
    return found[1]


def test_the_tiles_say_what_the_metrics_do(desk: Explorer, archive: Archive) -> None:
    sessions, window = archive.sessions(), (desk.first, desk.last + dt.timedelta(days=1))
    asked = {"since": str(window[0]), "until": str(window[1]), "policies": archive.policies()}
    if len(archive.holes()):
        asked["unobserved"] = archive.holes()
    whole = metrics.rpo_adherence(sessions, by=(), **asked).iloc[0]
    assert tile(desk, "Adherence") == formatting.share(whole["adherence"])
    desk.rpo = "1h"
    whole = metrics.rpo_adherence(sessions, "1h", by=(), **asked).iloc[0]
    assert tile(desk, "Adherence") == formatting.share(whole["adherence"])


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_is_drawn_and_stands_still_where_no_widget_runs(
    desk: Explorer, view: str
) -> None:
    desk.view = view
    assert "alert" not in re.sub("&lt;script&gt;alert", "", desk._board.main)
    assert "<script" not in desk._board.main
    bundle = desk._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    still = bundle["text/html"]
    assert "<script" not in still
    assert "<button" not in still
    if "<figure>" in desk._board.main:
        assert re.search(r'<img alt="[^"]{20,}" src="data:image/svg\+xml;base64,', still)
    assert tile(desk, "Adherence") in still


def test_periods_and_dates_follow_each_other(desk: Explorer) -> None:
    newest = desk.last
    desk.period = "last 7 days"
    assert (newest - desk.first).days <= 6
    desk.first = newest - dt.timedelta(days=1)
    assert desk.period == "own dates"
    desk.period = "all"
    assert desk.first < newest - dt.timedelta(days=1)
    desk.first, desk.last = newest, newest - dt.timedelta(days=2)
    assert 'role="alert"' in desk._board.main
    desk.period = "all"
    assert 'role="alert"' not in desk._board.main


def test_what_cannot_be_answered_is_told_where_the_answer_would_stand(desk: Explorer) -> None:
    desk.rpo = "soon"
    assert "is not a length of time; write it like" in desk._board.main
    assert desk._board.tiles == ""
    desk.rpo = "15min"
    assert desk._board.tiles


def test_a_selection_is_handed_back(desk: Explorer, archive: Archive) -> None:
    whole = desk.data
    assert set(archive.sessions().columns) <= set(whole.columns)
    policy = whole["policy"].astype("str").iloc[0]
    desk.policies = (policy,)
    assert set(desk.data["policy"].astype("str")) == {policy}
    vm = desk.data["vm"].astype("str").iloc[0]
    desk.vms = (vm,)
    assert set(desk.data["vm"].astype("str")) == {vm}
    assert desk._controls["vms"].value == (vm,)
    desk.period = "last 7 days"
    until = pd.Timestamp(desk.last, tz="UTC") + pd.Timedelta("1D")
    assert (desk.data["created"] < until).all()


def test_searching_keeps_what_was_chosen(desk: Explorer) -> None:
    names = desk._controls["vms"].options
    desk.vms = (names[0],)
    desk._controls["search"].value = names[-1][:3].upper()
    assert names[0] in desk._controls["vms"].options
    assert names[-1] in desk._controls["vms"].options
    assert len(desk._controls["vms"].options) < len(names)
    assert desk.vms == (names[0],)
    desk._controls["search"].value = ""
    assert desk._controls["vms"].options == names
    assert desk.vms == (names[0],)


def test_what_is_picked_shows_its_sessions(desk: Explorer) -> None:
    desk.period = "all"
    server, policy, vm = desk.findings.worst[VM].iloc[0]
    desk._board.picked = [server, policy, vm, "", 1]
    mine = desk.data.query("backup_server == @server and vm == @vm and policy == @policy")
    assert f"{len(mine):,} sessions" in desk._board.detail
    day = desk.findings.periods["period"].iloc[0]
    desk._board.picked = [server, policy, vm, day.isoformat(), 2]
    assert f"{day:%Y-%m-%d}: " in desk._board.detail
    desk.view = "Worst VMs"
    assert f'data-vm="{vm}"' in desk._board.main or "&" in desk._board.main


def test_several_changes_are_drawn_once(desk: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = desk._draw
    monkeypatch.setattr(desk, "_draw", lambda: (drawn.append(1), draw()))
    with desk.batch():
        desk.view, desk.rpo, desk.period = "Sizes", "5min", "all"
    assert len(drawn) == 1


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("chosen", [{}, {"rpo": "5min"}, {"policies": 1}])
def test_the_code_gives_the_views_numbers(
    desk: Explorer, archive: Archive, view: str, chosen: dict
) -> None:
    desk.period, desk.view = "all", view
    if "policies" in chosen:
        desk.policies = (desk.data["policy"].astype("str").iloc[0],)
    desk.rpo = chosen.get("rpo", desk.rpo)
    *lines, last = desk.code().splitlines()
    scope = {"archive": archive, "policies": archive.policies(), "holes": archive.holes(),
             "intervals": archive.intervals()}  # fmt: skip
    exec("\n".join(lines), scope)
    got = eval(last, scope)
    found = desk.findings
    tables = {
        "Heat map": found.periods, "Timeline": found.gaps, "Exposure": found.gaps,
        "Durations": found.durations, "Sizes": found.sizes,
    }  # fmt: skip
    if view in tables:
        pd.testing.assert_frame_equal(got, tables[view])
    elif view == "Worst VMs":
        assert got["breached"].tolist() == found.worst["breached"].head(10).tolist()
    else:
        pd.testing.assert_frame_equal(got, found.journal)


def test_a_frame_of_three_columns_can_be_explored() -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    own = pd.DataFrame({
        "vm": ["a", "b"], "created": [day, day], "ended": day + pd.to_timedelta([20, 30], unit="h"),
    })  # fmt: skip
    desk = own.cdp.explore(rpo="1h")
    assert tile(desk, "VMs that missed") == "1 of 2"
    assert list(own) == ["vm", "created", "ended"]
    desk.vms = ("b",)
    assert tile(desk, "VMs that missed") == "0 of 1"
    with pytest.raises(InputError, match="explore has no 'colour'; use period, first"):
        own.cdp.explore(colour="red")
    with pytest.raises(InputError, match="there are no sessions to explore"):
        own.iloc[:0].cdp.explore()


def test_its_files_are_in_the_package() -> None:
    folder = Path(cdp.explore.__globals__["__file__"]).parent
    assert {"board.js", "explorer.css"} <= {path.name for path in folder.iterdir()}
