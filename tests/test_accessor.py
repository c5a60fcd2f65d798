"""``df.cdp`` is the functions of `metrics`, bound: same names, parameters, answers; no side effects."""

from __future__ import annotations

import inspect

import matplotlib.axes
import pandas as pd
import pytest

import cdpanalytics as cdp
from cdpanalytics.errors import InputError

DAY = pd.Timestamp("2026-10-01", tz="UTC")


@pytest.fixture
def own_frame() -> pd.DataFrame:
    """What an analyst brings: vm, created, ended and nothing else."""
    return pd.DataFrame(
        {
            "vm": ["a", "a", "b"],
            "created": DAY + pd.to_timedelta([0, 9, 0], unit="h"),
            "ended": DAY + pd.to_timedelta([8, 18, 18], unit="h"),
        }
    )


@pytest.mark.parametrize("name", cdp.metrics.__all__)
def test_each_metric_is_bound_with_its_own_parameters(name: str, own_frame: pd.DataFrame) -> None:
    function, method = getattr(cdp.metrics, name), getattr(own_frame.cdp, name)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    assert list(inspect.signature(method).parameters.values()) == parameters
    assert method.__doc__ == function.__doc__


@pytest.mark.parametrize("name", ["rpo_adherence", "gaps", "durations"])
def test_a_frame_of_three_columns_is_enough_and_stays_as_it_was(
    name: str, own_frame: pd.DataFrame
) -> None:
    before = own_frame.copy(deep=True)
    found = getattr(own_frame.cdp, name)()
    pd.testing.assert_frame_equal(found, getattr(cdp.metrics, name)(own_frame))
    pd.testing.assert_frame_equal(own_frame, before)


def test_what_a_metric_misses_it_asks_for_by_name(own_frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no column 'total_size'"):
        own_frame.cdp.sizes()
    with pytest.raises(
        InputError,
        match=r"no column 'ended'; a session frame needs vm, created, ended \(has: vm, created\)",
    ):
        own_frame[["vm", "created"]].cdp.gaps()


def test_each_plot_returns_its_axes(own_frame: pd.DataFrame) -> None:
    sized = own_frame.assign(total_size=2**34, policy="Gold")
    for name in ("timeline", "durations", "sizes"):
        assert isinstance(getattr(sized.cdp.plot, name)(), matplotlib.axes.Axes)
    for name in ("adherence", "exposure"):
        assert isinstance(
            getattr(sized.cdp.select(target="15min").plot, name)(), matplotlib.axes.Axes
        )


def test_the_contract_names_are_there() -> None:
    for name in cdp.__all__:
        assert getattr(cdp, name) is not None
    assert set(cdp.__all__) <= set(dir(cdp))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = cdp.nonsense
