"""Pictures as SVG: each mark says what it is, where it lies, and what a click on it opens."""

from __future__ import annotations

import json
import re
from html import unescape
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation import pictures
from cdpanalytics.presentation.analysis import ROWS_SHOWN, Analysis
from cdpanalytics.presentation.drawing import Drawing, Scale, seconds

OCT = pd.Timestamp("2026-10-01", tz="UTC")
HOSTILE = '"><script>alert(1)</script>'


def frame(vms: dict[str, tuple[str, list[tuple[float, float]]]]) -> pd.DataFrame:
    """Sessions of VMs by hours: each VM has a policy and stretches that protect it."""
    rows = [
        {"vm": vm, "policy": policy, "backup_server": "b1", "created": OCT + pd.Timedelta(hours=first),
         "ended": OCT + pd.Timedelta(hours=last), "state": "Completed", "result": "Success", "total_size": 2**30,
         "reason": "", "rpo": pd.Timedelta("15min")}
        for vm, (policy, stretches) in vms.items() for first, last in stretches
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def analysis() -> Analysis:
    """One hostile name with a gap of six hours, another VM with one of a second."""
    sessions = frame({
        HOSTILE: ("Gold", [(0, 10), (16, 72)]), "b": ("Gold", [(0, 20), (20 + 1 / 3600, 72)]),
    })  # fmt: skip
    return Analysis(sessions.cdp.select(target="15min"), sides="target=15min,8h")


@pytest.mark.parametrize("name", ["durations", "exposure", "fleet", "sides", "sizes", "timeline"])
@pytest.mark.parametrize("width", [420, 960, 1900])
def test_each_is_well_formed_fits_its_width_and_escapes_names(
    analysis: Analysis, name: str, width: int
) -> None:
    drawing: Drawing = getattr(pictures, name)(analysis, width)
    root = ET.fromstring(str(drawing.svg()))
    assert root.attrib["role"] == "img"
    assert len(root.attrib["aria-label"]) > 20
    assert "<script" not in drawing.figure()
    for part in root.iter():
        edge = float(part.attrib.get("x", 0)) + float(part.attrib.get("width", 0))
        assert edge <= width + 0.1
        assert "nan" not in part.attrib.get("points", "")


def test_a_gap_says_vm_time_length_and_cause_and_opens_its_sessions(analysis: Analysis) -> None:
    drawn = str(pictures.timeline(analysis, 960).svg())
    told = next(iter(unescape(t) for t in re.findall(r'data-tip="([^"]*)"', drawn) if "6 h" in t))
    assert told == f"{HOSTILE} · 1 Oct 10:00 to 16:00 · 6 h · no session"
    act = next(a for a in re.findall(r'data-act="([^"]*)"', drawn) if "10:00" in a)
    assert json.loads(unescape(act))["show"]["picked"][3] == HOSTILE


def test_a_mark_lies_where_its_time_is() -> None:
    scale = Scale(seconds(OCT), seconds(OCT + pd.Timedelta("10h")), 100, 200)
    assert float(scale(seconds(OCT + pd.Timedelta("4h")))) == 140
    assert float(scale(seconds(OCT + pd.Timedelta("40h")))) == 200, "cut at the edge"


@pytest.mark.parametrize("days", [2, 21, 30, 92])
@pytest.mark.parametrize("width", [500, 930, 1040, 1300])
def test_labels_of_a_time_axis_never_touch(days: int, width: int) -> None:
    for hours in range(0, 96, 5):
        stop = OCT + pd.Timedelta(days=24, hours=hours)
        drawing = Drawing(width, 168, "", "")
        time = Scale(seconds(stop - pd.Timedelta(days=days)), seconds(stop), 44, width - 10)
        drawing.time_axis(time, 10, 100, "UTC")
        ends = -1.0
        for text in ET.fromstring(drawing.svg()).iter("{http://www.w3.org/2000/svg}text"):
            wide, place = 7.5 * len(text.text or ""), text.get("text-anchor", "start")
            begins = (
                float(text.get("x", "0")) - {"start": 0, "middle": wide / 2, "end": wide}[place]
            )
            assert begins > ends
            ends = begins + wide


def test_labels_of_targets_lie_above_the_curve(analysis: Analysis) -> None:
    root = ET.fromstring(str(pictures.exposure(analysis, 960).svg()))
    labels = [p for p in root.iter() if p.attrib.get("class") == "missed"]
    curve = next(p for p in root.iter() if p.attrib.get("class") == "curve")
    top = min(float(point.split(",")[1]) for point in curve.attrib["points"].split())
    assert labels
    assert all(float(label.attrib["y"]) < top for label in labels)


def test_of_a_year_of_sizes_no_two_marks_lie_on_one_spot_and_the_newest_day_has_one() -> None:
    days = {"a": ("Gold", [(24.0 * day, 24.0 * day + 8) for day in range(400)])}
    drawn = ET.fromstring(str(pictures.sizes(Analysis(frame(days).cdp.select()), 420).svg()))
    hits = [part for part in drawn.iter() if part.attrib.get("class") == "hit"]
    spots = [float(part.attrib["x"]) // 3 for part in hits]
    assert 50 < len(hits) < 140
    assert "2027-11-04" in hits[-1].attrib["data-tip"]
    assert len({round(spot) for spot in spots}) >= 0.9 * len(spots)


def test_the_worst_policies_come_first_though_not_all_their_vms_fit() -> None:
    """Gold has more breached time in all, Silver more among the VMs that there is room for."""
    silver = {f"s{n:02}": ("Silver", [(0, 10), (16, 48)]) for n in range(ROWS_SHOWN)}
    gold = {f"g{n:03}": ("Gold", [(0, 10), (15, 48)]) for n in range(2 * ROWS_SHOWN)}
    gold["g"] = ("Gold", [(0, 10), (20, 48)])
    shown = parts.heat_map(Analysis(frame(silver | gold).cdp.select(target="15min")))
    assert len(shown["rows"]) == ROWS_SHOWN
    assert shown["rows"][0]["policy"] == "Gold"


def test_a_map_writes_labels_and_names_as_text() -> None:
    """Less than one percent is "<1": a sign of HTML."""
    day = [(24 * n, 24 * n + 24) for n in range(5)]
    late = [*day[:2], (48.6, 72), *day[3:]]  # 36 minutes late, 6 of them beyond the RPO
    selection = frame({HOSTILE: ("Gold", late), "b": ("Gold", day)}).cdp.select(target="30min")
    shown = str(parts.macro("heat")(parts.heat_map(Analysis(selection))))
    assert ">&lt;1</td>" in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; · 2026-10-03" in shown
