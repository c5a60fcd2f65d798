"""Plots say their finding in the title and draw what the table holds; tests look at artists."""

from __future__ import annotations

import warnings
from itertools import pairwise

import matplotlib as mpl
import matplotlib.colors as mcolors
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cdpanalytics import metrics, plots
from cdpanalytics.presentation import palette

DAY = pd.Timestamp("2026-10-01", tz="UTC")


@pytest.fixture
def sessions() -> pd.DataFrame:
    """Two VMs over two days: a is not replicated for 6 h, b's last gap is open at 48 h."""
    return pd.DataFrame(
        {
            "vm": ["a", "a", "b", "c"],
            "policy": ["Gold", "Gold", "Silver", "Silver"],
            "created": DAY + pd.to_timedelta([0, 16, 0, 0], unit="h"),
            "ended": DAY + pd.to_timedelta([10, 48, 46, 48], unit="h"),
            "state": "Completed",
            "result": "Success",
            "total_size": pd.array([2**30, 2**31, 2**30, 2**30], dtype="Int64"),
            "as_of": DAY + pd.Timedelta("48h"),
        }
    )


def test_the_timeline_has_a_bar_a_gap_and_marks_the_open_one(sessions: pd.DataFrame) -> None:
    ax = plots.timeline(sessions, metrics.gaps(sessions))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    covered_a, gaps_a, covered_b, gaps_b = ax.collections
    assert [len(bars.get_paths()) for bars in (covered_a, gaps_a, covered_b, gaps_b)] == [
        1,
        1,
        1,
        1,
    ]
    box = gaps_a.get_paths()[0].get_extents()
    assert box.width == pytest.approx(6 / 24)
    assert [line.get_marker() for line in ax.lines] == [">"], "only b's gap is open"
    assert ax.get_title(loc="left") == "The longest single gap was 6 h, of a"
    assert "UTC" in ax.get_xlabel()


def test_the_longest_gap_is_drawn_where_its_vm_is_not_the_most_exposed() -> None:
    """Of fourteen VMs thirteen have two gaps of two hours, the last one of three."""
    begun = {f"vm-{number:02}": [0, 6, 12] for number in range(13)} | {"z": [0, 7, 11]}
    sessions = pd.DataFrame(
        {"vm": vm, "created": DAY + pd.Timedelta(hours=hour),
         "ended": DAY + pd.Timedelta(hours=hour + 4)} for vm, hours in begun.items() for hour in hours
    )  # fmt: skip
    gaps = metrics.gaps(sessions, as_of=DAY + pd.Timedelta("12h"))
    ax = plots.timeline(sessions, gaps)
    assert ax.get_title(loc="left") == "The longest single gap was 3 h, of z"
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        f"vm-{n:02}" for n in range(11)
    ] + ["z"]
    ax = plots.timeline(sessions, gaps, vms=["vm-03", "vm-04"])
    assert ax.get_title(loc="left") == "The longest single gap was 2 h, of vm-03"
    none = plots.timeline(sessions, gaps[gaps["vm"] != "z"], vms=["z"])
    assert none.get_title(loc="left") == "No gaps: each was covered from its first session on"


def test_the_timeline_is_blank_where_nothing_is_known(sessions: pd.DataFrame) -> None:
    sessions = sessions.assign(backup_server="b1")
    holes = pd.DataFrame(
        {"start": [DAY + pd.Timedelta("20h")] * 2, "end": [DAY + pd.Timedelta("26h")] * 2,
         "backup_server": pd.Series(["b1", "b2"], dtype="str")}
    )  # fmt: skip
    ax = plots.timeline(sessions, metrics.gaps(sessions, unobserved=holes), unobserved=holes)
    blank = [bars for bars in ax.collections if (bars.get_facecolor()[0] == 1).all()]
    assert len(blank) == 2, "for each of the VMs, and not for the other server's hole"
    assert blank[0].get_paths()[0].get_extents().width == pytest.approx(6 / 24)
    assert "blank: not known" in ax.get_xlabel()
    drawn = sessions.cdp.select(holes=holes).plot.timeline()
    assert drawn.get_xlabel() == ax.get_xlabel()


def test_adherence_is_a_line_a_policy(sessions: pd.DataFrame) -> None:
    table = metrics.rpo_adherence(sessions, "1h", by="policy", freq="D")
    ax = plots.adherence(table, objective=0.99)
    gold, silver = ax.lines[:2]
    assert gold.get_ydata() == pytest.approx([1 - 5 / 24, 1])
    assert silver.get_ydata() == pytest.approx([1, 1 - 1 / 48])
    assert gold.get_linestyle() != silver.get_linestyle(), "distinguishable without colour"
    assert ax.get_title(loc="left") == "Worst: Gold kept its RPO 79.16 % of 2026-10-01"


def test_durations_sizes_and_exposure_say_what_they_show(sessions: pd.DataFrame) -> None:
    ax = plots.durations(metrics.durations(sessions, by="policy"))
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([21, 47])
    assert ax.get_title(loc="left") == "Sessions of Silver last longest: median 1 d 23 h"
    ax = plots.sizes(metrics.sizes(sessions, by="policy"))
    assert ax.get_title(loc="left") == "4.0 GiB protected", "Silver has no size on the first day"
    gaps = metrics.gaps(sessions)
    ax = plots.exposure(gaps, target="3h")
    assert ax.get_title(loc="left") == "1 of 2 gaps lasted longer than 3 h"
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert plots.exposure(gaps).get_title(loc="left") == "2 gaps, the longest 6 h"


def many(sessions: pd.DataFrame, count: int) -> pd.DataFrame:
    """The same sessions, once over for each of so many policies; the later ones are larger."""
    copies = [
        sessions.assign(
            policy=f"p{number:02}", vm=sessions["vm"].astype("str") + str(number),
            total_size=sessions["total_size"] * (number + 1),
        )
        for number in range(count)
    ]  # fmt: skip
    return pd.concat(copies, ignore_index=True)


def test_of_many_policies_those_that_matter_are_drawn_and_the_others_counted(
    sessions: pd.DataFrame,
) -> None:
    rows = many(sessions.drop(columns="rpo", errors="ignore"), 30)
    ax = plots.sizes(metrics.sizes(rows, by="policy"))
    assert len(ax.get_lines()) == 8
    assert {line.get_label() for line in ax.get_lines()} == {f"p{n}" for n in range(22, 30)}
    assert ax.get_xlabel() == "period (UTC); the 8 largest of 30 policies"
    table = metrics.rpo_adherence(rows, "1h", by="policy", freq="D")
    ax = plots.adherence(table)
    assert len(ax.get_lines()) == 8
    assert ax.get_xlabel() == "period (UTC); the 8 worst of 30 policies"
    ax = plots.durations(metrics.durations(rows, by="policy"))
    assert len(ax.get_yticks()) == 24
    assert ax.get_xlabel() == "duration of finished sessions (hours); the 24 longest of 30"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that was not applied
        plots.Chart.of(ax, "").svg()


def test_sizes_are_held_against_the_first_period_in_which_all_had_one(
    sessions: pd.DataFrame,
) -> None:
    days = [DAY + pd.Timedelta(days=day) for day in range(3)]
    table = pd.DataFrame({
        "policy": ["Gold"] * 3 + ["Silver"] * 3, "period": [*days, *days],
        "size": pd.array([2**30, 2**30, 2**31, None, 2**30, 2**30], dtype="Int64"),
    })  # fmt: skip
    ax = plots.sizes(table)
    assert ax.get_title(loc="left") == "3.0 GiB protected, +50.0 % since 2026-10-02"
    shown = [tick for tick in ax.get_yticks() if tick <= ax.get_ylim()[1]]
    assert [tick / 2**30 % 0.5 for tick in shown] == [0] * len(shown), "round in binary units"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Gold", "Silver"]


def test_exposure_is_held_against_each_policys_own_target(sessions: pd.DataFrame) -> None:
    own = sessions.assign(rpo=pd.to_timedelta(["1h", "1h", "3h", "3h"]))
    ax = plots.exposure(metrics.gaps(own))
    assert ax.get_title(loc="left") == "1 of 2 gaps lasted longer than their RPO"
    assert [line.get_xdata()[0] for line in ax.lines[1:]] == [3600.0]
    assert [text.get_text() for text in ax.texts] == ["1 h"]


def test_one_name_on_two_servers_is_two_rows_of_the_timeline(sessions: pd.DataFrame) -> None:
    twins = pd.concat([sessions.assign(backup_server=server) for server in ("one", "two")])
    ax = plots.timeline(twins, metrics.gaps(twins), vms=["a", "b"])
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["a (one)", "a (two)", "b (one)", "b (two)"]


def test_the_heat_map_is_darker_the_longer_a_vm_was_in_breach(sessions: pd.DataFrame) -> None:
    ax = sessions.cdp.select(target="1h").plot.heat_map()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.images[0].get_array().tolist() == [[4, 0], [0, 2]]
    assert [text.get_text() for text in ax.texts] == ["20", "4"]
    assert ax.get_title(loc="left") == "a missed its RPO longest: 5 h"
    found = plots.heat_map(metrics.rpo_adherence(sessions, "9h", by="vm", freq="D"))
    assert found.get_title(loc="left") == "No VM missed its RPO"


@pytest.mark.parametrize(
    ("days", "freq", "first"), [(31, "D", "01 Oct"), (2, "h", "01 Oct 00:00"), (90, "D", "01 Oct")]
)
def test_the_dates_below_a_heat_map_do_not_overlap(days: int, freq: str, first: str) -> None:
    sessions = pd.DataFrame({"vm": ["a"], "created": [DAY], "ended": [DAY + pd.Timedelta("1h")]})
    table = metrics.rpo_adherence(
        sessions, "1h", by="vm", freq=freq, as_of=DAY + pd.Timedelta(days, "D")
    )
    ax = plots.heat_map(table)
    assert ax.get_xticklabels()[0].get_text() == first
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 + 4 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize(("theme", "direction"), [(palette.LIGHT, -1), (palette.DARK, 1)])
def test_the_severity_ramp_leads_away_from_the_page_in_both_themes(
    theme: dict[str, str], direction: int
) -> None:
    """The worst is darkest on white and brightest on black; in grey, too."""

    def lightness(colour: str) -> float:
        r, g, b = mcolors.to_rgb(colour)
        return 116 * (0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2) ** (1 / 3) - 16  # CIE L*

    ramp = [lightness(theme[f"s{level}"]) for level in range(5)]
    assert all(direction * (worse - better) > 10 for better, worse in pairwise(ramp))
    assert abs(ramp[0] - lightness(theme["paper"])) < 12, "no breach recedes"


def test_pictures_and_maps_have_one_ramp() -> None:
    assert [c.lower() for c in plots.figure.SEVERITY] == [palette.LIGHT[f"s{n}"] for n in range(5)]


def test_nothing_to_draw_is_said(sessions: pd.DataFrame) -> None:
    none = sessions.iloc[:0]
    said = [
        plots.timeline(none, metrics.gaps(none)),
        plots.adherence(metrics.rpo_adherence(none, freq="D")),
        plots.durations(metrics.durations(none)),
        plots.sizes(metrics.sizes(none)),
        plots.exposure(metrics.gaps(none)),
        plots.heat_map(metrics.rpo_adherence(none, freq="D")),
    ]
    assert all(ax.get_title(loc="left") for ax in said)
    assert all(not ax.lines and not ax.collections for ax in said)


def test_a_plot_draws_where_it_is_told_and_leaves_settings_alone(sessions: pd.DataFrame) -> None:
    before = dict(mpl.rcParams)
    mine = Figure().add_subplot()
    assert plots.exposure(metrics.gaps(sessions), ax=mine) is mine
    assert dict(mpl.rcParams) == before


def test_a_chart_has_words_and_stable_bytes(sessions: pd.DataFrame) -> None:
    def chart() -> plots.Chart:
        return plots.Chart(
            plots.sizes(metrics.sizes(sessions, by="policy")).figure, 'Sizes of "a" & <b>'
        )

    svg = chart().svg("one-")
    assert svg == chart().svg("one-")
    assert 'role="img" aria-label="Sizes of &quot;a&quot; &amp; &lt;b&gt;"' in svg
    assert 'id="one-' in svg
    assert "<metadata>" not in svg
    bundle = chart()._repr_mimebundle_()
    assert (
        '<img alt="Sizes of &quot;a&quot; &amp; &lt;b&gt;" src="data:image/png;base64,'
        in bundle["text/html"]
    )


def test_a_hostile_name_is_drawn_as_text(sessions: pd.DataFrame) -> None:
    hostile = sessions.assign(vm=["<script>$x$", "<script>$x$", "b\x1b[31m", "c" * 90])
    ax = plots.timeline(hostile, metrics.gaps(hostile))
    svg = plots.Chart(ax.figure, "x").svg()
    assert "<script>" not in svg
    assert "\x1b" not in svg


def test_the_rpo_achieved_is_a_line_a_policy_and_its_longest_in_the_title() -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    journal = pd.DataFrame({
        "vm": ["a", "a", "b", "b"], "policy": ["Gold", "Gold", "Iron", "Iron"],
        "kind": ["Asked", "RestoreAvailable", "RestoreAvailable", "RestoreAvailable"],
        "start": day + pd.to_timedelta([0, 0, 0, 12], unit="h"),
        "end": day + pd.to_timedelta([24, 24, 6, 24], unit="h"),
        "rpo": pd.to_timedelta([None, "15s", "2min", "30s"]),
    })  # fmt: skip
    ax = plots.achieved_rpo(journal, target="1min")
    assert ax.get_title(loc="left") == "Longest RPO achieved: 2 min, by b on 01 Oct"
    gold, iron, target = (np.asarray(line.get_ydata(), dtype=float) for line in ax.get_lines())
    assert set(gold) == {15.0}
    assert set(target) == {60.0}
    assert set(iron[~np.isnan(iron)]) == {120.0, 30.0}
    assert np.isnan(iron[len(iron) // 3]), "between 06:00 and 12:00 nothing could be restored"
    assert iron[0] == 120.0
    assert iron[-1] == 30.0
    empty = plots.achieved_rpo(journal.iloc[:1])
    assert empty.get_title(loc="left").startswith("No restorable intervals")
