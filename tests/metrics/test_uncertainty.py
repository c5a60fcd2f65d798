"""Intervals hold the truth as often as they say: simulated, with seeds."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import rpo_adherence, size_trend
from cdpanalytics.metrics.core.trend import Trends, _student_factor, fit_series, trends
from cdpanalytics.metrics.core.uncertainty import count_slots, slot_maxima, success_interval
from tests.metrics import simulated

from .test_second_edition import at, sessions

HOUR = 3_600_000_000


@pytest.mark.slow
@pytest.mark.parametrize("setting", simulated.SETTINGS)
@pytest.mark.parametrize("vms", [20, 200])
@pytest.mark.parametrize("slots", [30, 90, 360])
@pytest.mark.parametrize("rate", [0.005, 0.02])
def test_the_interval_of_a_success_rate_holds_it_in_nine_of_ten_months(setting, vms, slots, rate):
    assert simulated.success_coverage(setting, vms, slots, rate)[0] >= 0.90


@pytest.mark.slow
@pytest.mark.parametrize("kind", simulated.KINDS)
@pytest.mark.parametrize("days", [30, 90])
def test_the_interval_of_a_slope_and_a_projection_hold_in_every_kind_of_series(kind, days):
    coverage = simulated.trend_coverage(kind, days)
    assert coverage["slope"] >= 0.85
    assert min(coverage["7 days ahead"], coverage["30 days ahead"]) >= 0.85
    assert coverage["1 day ahead"] >= 0.85


def test_newcombes_published_limits():
    low, high = success_interval(
        np.array([81, 15, 0]), np.array([263, 148, 0]), np.array([263, 148, 1])
    )
    assert low[:2] == pytest.approx([0.2535, 0.0598], abs=1e-4)
    assert high[:2] == pytest.approx([0.3682, 0.1644], abs=1e-4)
    assert np.isnan(low[2])
    assert np.isnan(high[2])


def test_sessions_that_fail_together_widen_the_interval():
    pooled = success_interval(np.array([1790]), np.array([1800]), np.array([1800]))
    shared = success_interval(np.array([1790]), np.array([1800]), np.array([90]))
    assert shared[0] < pooled[0] < 1790 / 1800 < pooled[1] < shared[1] <= 1


def slots(vm, hours):
    vm = np.array(vm)
    totals = slot_maxima(np.zeros(len(vm), dtype=np.int64), vm, np.array(hours) * HOUR, 1)
    return count_slots(*totals).item()


def test_slots_are_how_often_sessions_follow_one_another():
    assert slots([0, 0, 0, 1, 1, 1], [8] * 6) == 3
    assert slots([0], [8]) == 1
    assert slots([0, 0, 1], [3, 3, 4]) == 2, "1.5 is rounded up"
    assert slots([0, 0, 0, 1], [8, 8, 8, 24]) == 1


def test_the_interval_of_a_group_goes_by_the_slots_of_its_finished_sessions():
    """Two VMs with three sessions of 8 h, of which five succeeded: three slots; one runs on."""
    first = sessions("a", (0, 8, "Success"), (8, 16, "Failed"), (16, 24, "Success"))
    second = sessions("b", (0, 8, "Success"), (8, 16, "Success"), (16, 24, "Success"))
    running = sessions("b", (24, 30, "None")).assign(ended=pd.NaT, state="InProgress")
    row = rpo_adherence(pd.concat([first, second, running]), "1h", by=(), as_of=at(40)).iloc[0]
    low, high = success_interval(np.array([5]), np.array([6]), np.array([3]))
    assert (row["success_low"], row["success_high"]) == (low.item(), high.item())


def test_a_vm_that_retries_adds_no_slots_to_its_group():
    assert slots([0, 0, 0] + [1] * 20, [8, 8, 8] + [0] * 20) == 3


def test_slots_of_disjoint_vms_combine_by_their_maxima():
    random = np.random.default_rng(5)
    cell, vm = random.integers(-1, 4, 300), random.integers(0, 12, 300)
    length = random.integers(0, 9 * HOUR, 300)
    whole = slot_maxima(cell, vm, length, 4)
    parts = [slot_maxima(cell[kept], vm[kept], length[kept], 4) for kept in (vm < 6, vm >= 6)]
    for number in range(2):
        assert (np.maximum(parts[0][number], parts[1][number]) == whole[number]).all()


def test_a_group_has_the_same_interval_whatever_is_computed_beside_it():
    levels = simulated.levels("random walk", 40, 30, seed=3)
    days = np.arange(30.0)
    valid = np.ones(levels.shape, dtype=bool)
    valid[::3, :4] = False
    together = fit_series(days, levels, valid).trends.rows()
    for row in range(40):
        alone = fit_series(days, levels[[row]], valid[[row]]).trends.rows()
        assert (alone[:, 0] == together[:, row]).all()


def test_an_interval_needs_five_distinct_sizes():
    levels = np.array([[1.0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 5, 5]])
    result = trends(np.tile(np.arange(6.0), (2, 1)), levels)
    assert np.isnan(result.low).tolist() == [True, False]
    assert not np.isnan(result.slope).any()


def test_a_projection_is_as_uncertain_as_its_slope_and_what_is_still_to_come():
    """The slope of 10 may be 8 to 13. Nine days seen, 16 ahead: times the root of 16 * 25, which is 20."""
    of_slope = Trends(*(np.array([value]) for value in (10.0, 8.0, 13.0, -1.0, 1.0)))
    length, ahead = np.array([9.0]), np.array([16.0])
    assert of_slope.projection_limits(length, ahead) == (-40.0, 60.0)
    jumpy = replace(of_slope, fall=np.array([-50.0]), rise=np.array([70.0]))
    assert jumpy.projection_limits(length, ahead) == (-50.0, 70.0)


def test_a_single_day_may_go_as_far_as_days_went():
    """Increments 0 to 4, of mean 2: 2.5 and 97.5 % lie at 1.9 off, times Student's 12.706 for two blocks."""
    result = trends(np.arange(6.0)[None], np.array([[0.0, 0, 1, 3, 6, 10]]))
    far = pytest.approx(1.9 * 12.706 / 1.959964, rel=1e-6)
    assert (-result.fall[0], result.rise[0]) == (far, far)


@pytest.mark.parametrize(("sizes", "student"), [(7, 12.706), (10, 4.303), (11, 3.182)])
def test_a_block_of_three_increments_is_one_that_is_known(sizes, student):
    """Of two blocks one is free, of three two, of four, the last one begun, three."""
    levels = np.cumsum(np.append(0.0, np.tile([1.0, 3.0, -2.0], 4)[: sizes - 1]))[None]
    increments = np.diff(levels)[0]
    result = trends(np.arange(float(sizes))[None], levels)
    low, high = np.percentile(increments - increments.mean(), (2.5, 97.5)) * student / 1.959964
    assert (result.fall[0], result.rise[0]) == pytest.approx((low, high), rel=1e-6)


def test_sizes_that_fall_have_the_mirrored_interval_of_sizes_that_grow():
    random = np.random.default_rng(7)
    levels = np.cumsum(random.exponential(5, (3, 20)), axis=1)
    days = np.tile(np.arange(20.0), (3, 1))
    up, down = trends(days, levels), trends(days, -levels)
    for name, mirrored in (("slope", "slope"), ("low", "high"), ("fall", "rise")):
        assert getattr(down, name) == pytest.approx(-getattr(up, mirrored), rel=1e-9)


def test_students_factors_cut_off_a_fortieth_on_each_side():
    """The density of Student's t, added up from 0 to the point, is 0.475."""
    for freedom in range(1, 41):
        point = _student_factor(freedom) * 1.959963984540054
        at = np.linspace(0, point, 20_001)
        scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
        density = (
            scale / math.sqrt(freedom * math.pi) * (1 + at**2 / freedom) ** (-(freedom + 1) / 2)
        )
        assert np.trapezoid(density, at) == pytest.approx(0.475, abs=2e-4), freedom


def growing(count):
    day = pd.date_range("2026-10-01", periods=count, tz="UTC")
    return pd.DataFrame(
        {
            "vm": "db", "created": day, "ended": day + pd.Timedelta("20h"),
            "total_size": np.arange(count) * 10 + 100,
        }
    )  # fmt: skip


def test_a_horizon_is_a_length_or_a_date():
    """The last whole day ends on 9 October at 00:00; the 19th is ten days later."""
    grown = growing(9)
    by_date = size_trend(grown, by="vm", horizon="2026-10-19").iloc[0]
    assert by_date["change"] == 70
    assert by_date["projected"] == 270
    assert by_date["projected_low"] == by_date["projected_high"] == 270
    pd.testing.assert_series_equal(by_date, size_trend(grown, by="vm", horizon="10D").iloc[0])
    pd.testing.assert_series_equal(
        by_date, size_trend(grown, by="vm", horizon=pd.Timestamp("2026-10-19").date()).iloc[0]
    )


def test_a_horizon_is_a_midnight_of_the_zone_asked_for():
    row = size_trend(growing(12), by="vm", horizon="2026-11-01", tz="Europe/Berlin").iloc[0]
    wanted = size_trend(growing(12), by="vm", horizon="2026-10-31T23:00Z", tz="Europe/Berlin")
    assert row["projected"] == wanted.iloc[0]["projected"]


@pytest.mark.parametrize("horizon", ["2026-10-09", "2025-01-01"])
def test_a_horizon_in_the_past_is_refused(horizon):
    with pytest.raises(
        InputError, match="not after the last whole period, which ends at 2026-10-09"
    ):
        size_trend(growing(9), by="vm", horizon=horizon)


def test_a_horizon_that_is_neither_is_refused():
    with pytest.raises(InputError, match="or as a date like 2027-01-01"):
        size_trend(growing(9), by="vm", horizon="soon")
