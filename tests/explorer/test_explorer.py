"""The explorer without a browser: everything that it shows follows from its state."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.explorer import Explorer, app
from cdpanalytics.explorer.state import VIEWS
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


@pytest.fixture(scope="module")
def shared(archive: Archive) -> Explorer:
    return explore(archive)


@pytest.fixture
def explorer(shared: Explorer) -> Explorer:
    """One explorer, as it was first; what it computed before is kept."""
    shared.reset()
    shared._past.clear()
    shared._future.clear()
    return shared


def send(explorer: Explorer, **message: Any) -> None:
    """Send what the board would."""
    explorer._receive(None, message, None)


def tile(explorer: Explorer, name: str) -> str:
    found = re.search(rf'<dt>{name}</dt><dd class="value">(.*?)</dd>', explorer.tiles)
    assert found is not None
    return found[1]


def acts(drawn: str) -> list[dict[str, Any]]:
    """Return the messages that a region can send."""
    return [json.loads(unescape(found)) for found in re.findall(r'data-act="([^"]*)"', drawn)]


def test_the_tiles_say_what_the_metrics_do(explorer: Explorer, archive: Archive) -> None:
    asked = archive.select("last 30 days")
    assert tile(explorer, "Adherence") == formatting.share(
        asked.rpo_adherence(by=()).iloc[0]["adherence"]
    )
    explorer.show(target="1h")
    whole = asked.rpo_adherence(by=(), target="1h").iloc[0]
    assert tile(explorer, "Adherence") == formatting.share(whole["adherence"])


def test_the_head_answers_in_a_sentence_and_counts_the_unprotected(explorer: Explorer) -> None:
    status = explorer.analysis.status
    late = status["state"].isin(["breached", "exposed"]).sum()
    assert "VMs were within their RPO" in explorer.head
    assert f"{late or 'none'} of {len(status)} VMs" in explorer.head


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_is_drawn_and_stands_still_where_no_widget_runs(
    explorer: Explorer, view: str
) -> None:
    explorer.show(view=view)
    drawn = explorer.main + explorer.strip
    assert 'role="alert"' not in drawn
    assert "<script" not in drawn
    still = explorer.static_html()
    for part in ("<script", "<button", "<input", '<svg class="cdp-picture"', 'data-act="'):
        assert part not in still
    assert re.search(r'<img alt="[^"]{20,}" src="data:image/svg\+xml;base64,', still)
    assert tile(explorer, "Adherence") in still


def test_an_argument_that_is_not_one_is_refused_and_never_ignored(archive: Archive) -> None:
    with pytest.raises(InputError, match="explore has no 'policies'; use period, since"):
        explore(archive, policies=("Gold",))
    policy = explore(archive).data["policy"].astype("str").iloc[0]
    assert set(explore(archive, policy=policy).data["policy"].astype("str")) == {policy}


def test_nothing_selected_is_said_and_is_not_a_success(archive: Archive) -> None:
    empty = explore(archive, period="2020-01")
    assert "nothing can be said" in empty.main
    assert empty.head == empty.tiles == ""
    assert {"show": {"policy": [], "vm": [], "server": [], "tag": {}}} in acts(empty.main)
    assert "None of" not in empty.static_html()


def test_what_cannot_be_answered_is_told_where_the_answer_would_be(explorer: Explorer) -> None:
    explorer.show(target="soon")
    assert "is not a length of time; write it like" in explorer.main
    assert explorer.tiles == ""
    explorer.undo()
    assert explorer.tiles
    explorer.show(period="whenever")
    assert 'role="alert"' in explorer.main


def test_periods_by_preset_by_typing_by_dates_and_by_brush(explorer: Explorer) -> None:
    newest = explorer._reader.as_of
    month = f"{newest:%Y-%m}"
    assert f"<option>{month}</option>" in explorer.bar
    assert f"<option>{newest.year}-Q{newest.quarter}</option>" in explorer.bar
    day = newest.normalize() - pd.Timedelta("1D")
    send(explorer, date=[f"{day:%Y-%m-%d}", f"{day:%Y-%m-%d}"])
    assert explorer.analysis.selection.window == (day, day + pd.Timedelta("1D"))
    send(explorer, move=-1)
    assert explorer.analysis.selection.window[1] == day
    edges = [day + pd.Timedelta("2h"), day + pd.Timedelta("5h30min")]
    send(explorer, between=[edge.timestamp() * 1000 for edge in reversed(edges)])
    assert explorer.analysis.selection.window == tuple(edges)
    send(explorer, move=0)
    assert explorer.analysis.selection.window == (
        day + pd.Timedelta("15min"),
        day + pd.Timedelta("7h15min"),
    )


def test_every_change_can_be_undone_and_done_again(explorer: Explorer) -> None:
    first = explorer.state, explorer.tiles, explorer.main
    explorer.show(target="1h")
    explorer.show(view="Status")
    last = explorer.state, explorer.tiles, explorer.main
    explorer.undo()
    explorer.undo()
    assert (explorer.state, explorer.tiles, explorer.main) == first
    explorer.undo()
    explorer.redo()
    explorer.redo()
    assert (explorer.state, explorer.tiles, explorer.main) == last
    explorer.reset()
    assert explorer.state == first[0]
    explorer.undo()
    assert explorer.state == last[0]


def test_a_part_of_a_name_narrows_and_chips_take_it_off(explorer: Explorer) -> None:
    vms = sorted(explorer.data["vm"].astype("str").unique())
    part = vms[-1][:3]
    matching = [vm for vm in vms if part.casefold() in vm.casefold()]
    send(explorer, find=part.upper())
    assert set(explorer.data["vm"].astype("str")) == set(matching)
    assert f"VMs ({len(matching)})" in explorer.found
    send(explorer, find=vms[-1])
    assert set(explorer.data["vm"].astype("str")) == {vms[-1]}
    (chip,) = [act for act in acts(explorer.bar) if act.get("show") == {"vm": []}]
    send(explorer, **chip)
    assert explorer.state.vm == ()
    send(explorer, choose=["vm", vms[:2]])
    send(explorer, toggle=["vm", vms[0], False])
    assert explorer.state.vm == (vms[1],)
    send(explorer, find="no such name at all")
    assert "Nothing has this in its name" in explorer.found
    explorer.reset()
    assert 'data-find value=""' in explorer.bar
    assert f"VMs ({len(vms)})" in explorer.bar


def test_a_click_leads_from_each_thing_to_its_sessions_and_back(explorer: Explorer) -> None:
    explorer.show(view="Timeline")
    cause = next(
        act for act in acts(explorer.main) if act.get("show", {}).get("picked", [""])[0] == "cause"
    )
    send(explorer, **cause)
    gap = next(
        act for act in acts(explorer.detail) if act.get("show", {}).get("picked", [])[:1] == ["vm"]
    )
    send(explorer, **gap)
    assert gap["show"]["picked"][3] in unescape(explorer.detail)
    assert "sessions, newest first" in explorer.detail
    explorer.undo()
    assert "gaps in breach" in explorer.detail
    explorer.undo()
    assert explorer.detail == ""
    explorer.show(view="Groups")
    send(explorer, **next(act for act in acts(explorer.main) if "toggle" in act))
    assert len(explorer.state.policy) == 1


def test_an_incident_narrows_time_and_vms(explorer: Explorer) -> None:
    incident = explorer.analysis.incidents.iloc[0]
    gaps = explorer.analysis.in_breach.query("incident == @incident.incident")
    send(explorer, incident=int(incident["incident"]))
    assert set(explorer.state.vm) == set(gaps["vm"])
    start, stop = explorer.analysis.selection.window
    assert start.floor("D") <= gaps["start"].min().floor("D") or start == explorer._reader.oldest()
    assert stop >= min(gaps["end"].max(), explorer._reader.as_of)
    with pytest.raises(InputError, match="there is no incident 99"):
        explorer.narrow(99)


def test_several_changes_are_drawn_once(explorer: Explorer) -> None:
    drawn = []
    explorer.observe(drawn.append, "drawn")
    with explorer.batch():
        explorer.show(view="Sizes")
        explorer.show(target="5min")
    explorer.unobserve(drawn.append, "drawn")
    assert len(drawn) == 1


def test_what_was_undone_among_several_changes_can_be_redone(explorer: Explorer) -> None:
    undone = r'<button[^>]*"redo": 1[^>]*disabled'
    assert re.search(undone, unescape(explorer.bar))
    with explorer.batch():
        explorer.show(target="5min")
        explorer.undo()
    assert not re.search(undone, unescape(explorer.bar))
    explorer.redo()
    assert explorer.state.target == "5min"


def test_the_code_gives_each_views_table_in_any_notebook(explorer: Explorer) -> None:
    policies = sorted(explorer.data["policy"].astype("str").unique())
    with explorer.batch():
        explorer.show(
            sides=f"policy={policies[0]},{policies[1]}", target="5min", period="last 7 days"
        )
    for view in VIEWS:
        explorer.show(view=view)
        scope: dict[str, Any] = {}
        exec(explorer.code(), scope)
        got, shown = scope["table"], explorer.table
        if view == "Journal":
            got = got.sort_values(["adherence", *KEYS], kind="stable", ignore_index=True)
        if view == "Exclusions":
            got = got.rename(columns={"source": "file"})
        if view == "Groups":
            assert len(got) == len(shown)
        else:
            pd.testing.assert_frame_equal(got, shown, check_like=True)


def test_the_state_as_text_opens_the_same_explorer(explorer: Explorer, archive: Archive) -> None:
    policy = explorer.data["policy"].astype("str").iloc[0]
    explorer.show(policy=policy, view="Worst VMs", target="1h")
    again = explore(archive, state=str(explorer.state))
    assert again.state == explorer.state
    assert (again.main, again.tiles) == (explorer.main, explorer.tiles)


def test_each_of_the_worst_vms_has_its_days_as_a_small_picture(explorer: Explorer) -> None:
    explorer.show(view="Worst VMs")
    rows = re.findall(r"<tr data-act.*?</tr>", explorer.main, re.S)
    assert rows
    assert all(row.count('<svg class="spark"') == 1 for row in rows)


def test_two_panes_show_two_questions(explorer: Explorer) -> None:
    alone = tile(explorer, "Adherence")
    explorer.show(beside="target=1h")
    both = re.findall(r'<dt>Adherence</dt><dd class="value">(.*?)</dd>', explorer.tiles)
    explorer.show(target="1h", beside="")
    assert both == [alone, tile(explorer, "Adherence")]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "svg"])
def test_what_is_shown_can_be_taken_away(
    explorer: Explorer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    monkeypatch.setattr(
        Explorer, "send", lambda self, message, buffers: sent.append((message, buffers))
    )
    explorer.show(view="Timeline")
    send(explorer, download=kind)
    message, (body,) = sent[0]
    assert message["file"] == f"timeline.{kind}"
    begins = {"csv": b"backup_server,vm", "xlsx": b"PK", "svg": b"<svg"}
    assert body.startswith(begins[kind])
    if kind == "csv":
        assert body.count(b"\n") == len(explorer.analysis.gaps) + 1


def test_terms_are_controls(explorer: Explorer) -> None:
    used = explorer.analysis.objective["budget"]
    send(explorer, show={"objective": "99%", "tz": "Europe/Berlin"})
    assert explorer.analysis.objective["budget"] > used
    assert "Europe/Berlin" in explorer.strip
    send(explorer, show={"retire_after": "1h"})
    assert explorer.analysis.selection.retire_after == "1h"
    assert {"show": {"retire_after": ""}} in acts(explorer.bar)


def test_only_the_period_shown_is_read(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[object, object]] = []
    whole = Archive.read

    def seen(
        self: Archive, since: object = None, until: object = None, **more: Any
    ) -> pd.DataFrame:
        read.append((since, until))
        return whole(self, since, until, **more)

    monkeypatch.setattr(Archive, "read", seen)
    explorer = explore(archive, period="last 24 hours")
    assert len(read) == 1
    assert pd.Timestamp(read[0][0]) > explorer._reader.as_of - pd.Timedelta("5D")
    explorer.show(view="Sizes", target="1h")
    assert len(read) == 1, "what was read is kept"
    explorer.show(period="all")
    assert len(read) == 2


def test_a_frame_of_three_columns_can_be_explored() -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    own = pd.DataFrame({
        "vm": ["a", "b"], "created": [day, day], "ended": day + pd.to_timedelta([20, 30], unit="h"),
    })  # fmt: skip
    explorer = own.cdp.explore(target="1h")
    assert tile(explorer, "VMs that missed") == "1 of 2"
    assert list(own) == ["vm", "created", "ended"]
    explorer.show(vm="b")
    assert tile(explorer, "VMs that missed") == "0 of 1"
    assert "sessions.cdp.select" in explorer.code()
    with pytest.raises(InputError, match="explore has no 'colour'; use period, since"):
        own.cdp.explore(colour="red")
    with pytest.raises(InputError, match="there are no sessions to explore"):
        own.iloc[:0].cdp.explore()


def test_its_files_are_in_the_package() -> None:
    folder = Path(app.__file__).parent
    assert {"board.js", "explorer.css", "board.html.j2"} <= {path.name for path in folder.iterdir()}


def test_what_is_asked_in_the_second_pane_changes_the_second_pane(explorer: Explorer) -> None:
    """A stretch, a policy and a VM's sessions there leave the first pane as it is."""
    explorer.show(beside="target=1h")
    first, stop = explorer.state.period, explorer.analysis.stop.normalize()
    edges = [(stop - pd.Timedelta(days=days)).timestamp() * 1000 for days in (3, 2)]
    days = f"{stop - pd.Timedelta(days=3):%Y-%m-%d}/{stop - pd.Timedelta(days=2):%Y-%m-%d}"
    explorer._receive(None, {"pane": 2, "between": edges}, None)
    assert explorer.state.period == first
    assert explorer.state.beside == f"period={days}&target=1h"
    row = explorer._reader.analysis(explorer._other).vms.iloc[0]
    explorer._receive(None, {"pane": 2, "toggle": ["policy", row["policy"], True]}, None)
    assert explorer._other.policy == (row["policy"],)
    picked = ["vm", *row[KEYS], *(stop - pd.Timedelta(days=days) for days in (3, 2))]
    explorer._receive(None, {"pane": 2, "show": {"picked": picked}}, None)
    assert f"{row['vm']}, " in unescape(explorer.detail)
    explorer._receive(None, {"close": 1}, None)
    assert explorer.detail == ""
    assert explorer._other.policy == (row["policy"],)
    explorer._receive(None, {"between": edges}, None)
    assert explorer.state.period == days


@pytest.mark.parametrize("view", ["Durations", "Sizes"])
def test_a_click_in_a_picture_of_policies_narrows_to_one(explorer: Explorer, view: str) -> None:
    explorer.show(view=view)
    picture = explorer.main[: explorer.main.index("<table")]
    explorer._receive(None, acts(picture)[0], None)
    assert len(explorer.state.policy) == 1


def test_the_month_before_october_is_september_however_long_it_is() -> None:
    explorer = explore(Archive(Path(__file__).parents[2] / "data" / "sample"), period="2026-10")
    send(explorer, move=-1)
    assert explorer.state.period == "2026-09"
    send(explorer, move=1)
    send(explorer, beside="before")
    assert explorer.state.beside == "period=2026-09"
    explorer.show(period="2026-09", beside="")
    send(explorer, move=-1)
    assert "there are no sessions in that direction" in explorer.main


def test_what_was_opened_of_a_vm_says_why_it_was_not_covered(explorer: Explorer) -> None:
    gap = explorer.analysis.breaches.iloc[0]
    names = [str(gap[name]) for name in ("backup_server", "policy", "vm")]
    edges = [gap[edge].isoformat() for edge in ("start", "end")]
    send(explorer, show={"picked": ["vm", *names, *edges]})
    why, sessions = explorer.detail.index('id="opened-gaps"'), explorer.detail.index('id="opened"')
    assert why < sessions
    assert escape(str(gap["cause"])) in explorer.detail


def test_groups_say_which_misses_its_objective_and_sizes_which_vms_grow(explorer: Explorer) -> None:
    explorer.show(view="Groups")
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", explorer.main)
    assert heads[:5] == ["Policy", "RPO", "Objective", "Adherence", "Objective met"]
    explorer.show(view="Sizes")
    slopes = explorer.analysis.vm_trends["slope"]
    assert 'id="fastest"' in explorer.main
    assert (slopes > 0).any()


def test_no_view_shows_a_number_as_a_program_writes_it(explorer: Explorer) -> None:
    for view in VIEWS:
        explorer.show(view=view)
        assert not re.search(r">-?\d+\.(\d{3,}|0)<", explorer.main), view


def test_the_list_of_incidents_is_folded_where_it_would_push_the_picture_away(
    explorer: Explorer,
) -> None:
    send(explorer, width=1200)
    assert re.search(r'<details[^>]*id="cdp-incidents" open', explorer.strip)
    send(explorer, width=640)
    assert re.search(r'<details[^>]*id="cdp-incidents">', explorer.strip)
