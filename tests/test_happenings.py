"""What happened, where people look: the strip over the fleet, sentences, report and explorer."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.colors as mcolors
import numpy as np
import pandas as pd
import pytest

from cdpanalytics import plots
from cdpanalytics.errors import InputError
from cdpanalytics.explorer import Explorer
from cdpanalytics.plots import charts
from cdpanalytics.presentation import happenings
from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.selection import Selection

DAY = pd.Timestamp("2026-10-01", tz="UTC")
HOUR = pd.Timedelta("1h")


def sessions() -> pd.DataFrame:
    """Thirty days: five VMs of two policies lose their storage on day 5, one fails every second night."""
    rows = []
    for vm in range(8):
        outages = [(100 + vm / 60, 103.0)] if vm < 5 else []
        if vm == 7:
            outages = [(48.0 * n + 3, 48.0 * n + 4) for n in range(1, 8)]
        edges = [0.0, *(edge for outage in outages for edge in outage), 720.0]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        name = "<b>web-187</b>" if vm == 7 else f"vm-{vm}"
        rows += [(name, vm, a, b, "Success", None) for a, b in pairs]
        if vm < 5:
            rows += [(name, vm, a, b, "Failed", "Storage is unavailable: all paths are down")
                     for a, b in outages]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["vm", "number", "created", "ended", "result", "reason"])
    return frame.assign(
        created=DAY + frame["created"] * HOUR, ended=DAY + frame["ended"] * HOUR,
        state="Completed", backup_server="vbr01",
        policy=np.where(frame["number"] % 3 == 0, "Silver", "Gold"), rpo=pd.Timedelta("15min"), total_size=2**30,
    ).drop(columns="number")  # fmt: skip


@pytest.fixture
def selection() -> Selection:
    return sessions().cdp.select()


@pytest.fixture
def explorer(selection: Selection) -> Explorer:
    return selection.explore(period="all")


def test_the_strip_counts_vms_in_breach_and_numbers_incidents(selection: Selection) -> None:
    ax = selection.plot.fleet()
    # Breached: 5 VMs 165 min each, less 0 to 4 min, are 815 min; 7 nights of 45 min are 315 min.
    assert ax.get_title(loc="left") == "One incident, of 5 VMs, explains 72 % of the time missed"
    alone, together = ax.collections
    assert mcolors.to_hex(together.get_facecolor()[0]) == charts.GAP.lower()
    assert max(path.get_extents().y1 for path in together.get_paths()) == 5
    assert len(alone.get_paths()) == 7
    assert max(path.get_extents().y1 for path in alone.get_paths()) == 1
    # The first of the five is late from 15 min after its storage failed, to hour 103.
    box = together.get_paths()[0].get_extents()
    assert box.width == pytest.approx(2.75 / 24)
    assert [text.get_text() for text in ax.texts] == ["1"]


def test_a_long_strip_keeps_its_peaks() -> None:
    random = np.random.default_rng(5)
    begun = pd.Series(DAY + pd.to_timedelta(random.uniform(0, 720, 20_000), unit="h"))
    breaches = pd.DataFrame({"breached_from": begun, "breached_until": begun + HOUR, "incident": 2})
    peak = pd.DataFrame({"breached_from": [DAY + 99.99 * HOUR] * 300, "incident": 1})
    peak["breached_until"] = DAY + 100 * HOUR
    incidents = pd.DataFrame({
        "incident": [1, 2], "vms": [300, 1], "explains": [0.5, 0.5], "start": [DAY, DAY],
    })  # fmt: skip
    ax = plots.fleet(pd.concat([breaches, peak]), incidents)
    alone, together = ax.collections
    assert max(path.get_extents().y1 for path in together.get_paths()) == 300
    points = sum(len(path.vertices) for path in (*alone.get_paths(), *together.get_paths()))
    assert points < 20_000


def test_a_fleet_without_breaches_says_so() -> None:
    quiet = sessions().query("vm == 'vm-5'").cdp.select()
    assert "no incident" in quiet.plot.fleet().get_title(loc="left")
    assert happenings.remainder(Analysis(quiet)) == "No VM missed its RPO."


def test_where_one_incident_explains_all_no_vm_missed_its_rpo_by_itself() -> None:
    rows = sessions()
    only = rows[rows["vm"].isin([f"vm-{vm}" for vm in range(5)])].cdp.select()
    assert happenings.remainder(Analysis(only)) == (
        "1 incident of several VMs explains 100 % of the time missed; no VM missed its RPO by itself."
    )


def test_each_incident_that_explains_much_is_a_sentence(selection: Selection) -> None:
    analysis = Analysis(selection)
    first, second, *_ = happenings.sentences(analysis)
    assert first == (
        1, "5 Oct 04:00 to 07:00: Storage is unavailable: all paths are down; 5 VMs of Gold and Silver "
        "on vbr01, 72 % of the time missed; longest 3 h",
    )  # fmt: skip
    assert second[1].startswith(
        "3 Oct 03:00 to 04:00: no session ran; <b>web-187</b> of Gold on vbr01"
    )
    assert happenings.remainder(analysis) == (
        "1 incident of several VMs explains 72 % of the time missed; 7 times a VM missed its RPO by itself."
    )
    assert happenings.chronic(analysis) == [
        "<b>web-187</b> on vbr01: 7 times by itself, about every 2 d; 100 % within an hour from 03:00 UTC on "
        "(chance <0.01 %)"
    ]


def test_times_are_of_the_zone(selection: Selection) -> None:
    vienna = sessions().cdp.select(tz="Europe/Vienna")
    assert happenings.sentences(Analysis(vienna))[0][1].startswith("5 Oct 06:00 to 09:00")


def test_the_report_tells_what_happened_after_the_verdict(
    selection: Selection, tmp_path: Path
) -> None:
    page = selection.report(tmp_path / "r.html", order="incident").read_text()
    assert page.index('class="verdict') < page.index('id="happened"') < page.index('id="promise"')
    section = page[page.index('id="happened"') : page.index('id="promise"')]
    assert "One incident, of 5 VMs, explains 72 % of the time missed" in section
    assert '<li value="1">5 Oct 04:00 to 07:00: Storage is unavailable' in section
    assert "&lt;b&gt;web-187&lt;/b&gt; on vbr01: 7 times by itself" in section
    assert "<b>web" not in page
    groups = re.findall(r'<th class="policy"[^>]*>(.*?)</th>', page)
    assert groups == ["Incident 1", "Incident 2"]
    with pytest.raises(InputError, match="order='size' is not known; use breached or incident"):
        selection.report(tmp_path / "r.html", order="size")


def test_worst_and_gaps_name_the_incident(selection: Selection) -> None:
    gaps = selection.gaps()
    assert gaps.loc[gaps["vm"].str.startswith("vm-"), "incident"].eq(1).all()
    assert sorted(gaps.loc[gaps["vm"].str.contains("web"), "incident"]) == [2, 3, 4, 5, 6, 7, 8]
    worst = selection.worst(by="vm").set_index("vm")
    assert worst.loc["vm-0", ["incident", "incident_share"]].tolist() == [1, 1.0]
    assert worst.loc["<b>web-187</b>", ["incident", "incident_share"]].tolist() == [2, 1 / 7]
    assert selection.worst(by=())["incident"].tolist() == [1]
    assert "incident" not in selection.gaps(target="1h")


def test_the_order_by_incident_shows_each_of_the_first(selection: Selection) -> None:
    heat = selection.plot.heat_map(order="incident")
    names = [label.get_text() for label in heat.get_yticklabels()]
    assert names == ["vm-0", "vm-1", "vm-2", "vm-3", "vm-4", "<b>web-187</b>"]
    timeline = selection.plot.timeline(order="incident")
    shown = [label.get_text() for label in timeline.get_yticklabels()]
    assert sorted(shown) == sorted(names)


def test_an_incident_narrows_all_views_and_gives_them_back(explorer: Explorer) -> None:
    message = "{&#34;incident&#34;: 1}"
    assert explorer.strip.count(f'<span data-act="{message}"') == 1
    before = explorer.state
    explorer._receive(None, {"incident": 1}, None)  # what a click sends
    assert explorer.state.vm == tuple(f"vm-{n}" for n in range(5))
    assert explorer.state.period == "2026-10-05/2026-10-06"
    assert explorer.analysis.incidents["vms"].tolist() == [5]
    for view in ("Heat map", "Timeline", "Worst VMs", "Exposure"):
        explorer.show(view=view)
        assert "web-187" not in explorer.main, view
    while explorer.state != before:
        explorer.undo()
    with pytest.raises(InputError, match="there is no incident 99 among those shown"):
        explorer.narrow(99)


def test_the_order_of_the_explorer_changes_nothing_but_the_order(explorer: Explorer) -> None:
    table = explorer.analysis.vms
    explorer.show(order="incident")
    assert explorer.analysis.vms is table
    assert "Incident 1" in explorer.main
