"""However few rows are worked on at a time, the answer is the same to the digit."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cdpanalytics.metrics import gaps, objectives, rpo_adherence, status, what_if
from cdpanalytics.metrics.core import kernels
from cdpanalytics.metrics.registry import spec_of
from cdpanalytics.schema import KEYS

from . import strategies as some


@st.composite
def asked(draw):
    rows = draw(some.fleets())
    left_out = {
        "unobserved": some.hole_frame(draw(some.holes(rows))),
        "exclude": some.maintenance_frame(draw(some.maintenance(rows))),
        "retire_after": draw(st.sampled_from([None, "2h"])),
        "policies": some.policy_frame(draw(some.settings_of_policies())),
    }
    return some.frame(rows), left_out | draw(some.windows(rows))


@given(asked(), st.sampled_from(some.BY), st.sampled_from(some.FREQUENCIES), st.integers(1, 3))
def test_ranges_never_change_a_result(question, by, freq, most):
    sessions, terms = question

    def answers():
        yield rpo_adherence(sessions, by=by, freq=freq, **terms)
        yield rpo_adherence(sessions, "15min", by=by, **terms)
        yield what_if(sessions, ["15min", "1h"], by=by, **terms)
        yield gaps(sessions, **terms)
        yield objectives(sessions, 0.9, "15min", by=by, freq=freq, **terms)
        yield status(sessions, "15min", **terms)

    whole = list(answers())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "BLOCK", most)
        for found, expected in zip(answers(), whole, strict=True):
            assert_frame_equal(found, expected, check_exact=True)


def test_ranges_of_more_vms_than_a_byte_counts(monkeypatch):
    """300 VMs of 8 h each, then a gap of an hour, then 8 h more, but for one: its gap is of 9 h."""
    day = pd.Timestamp("2026-10-01", tz="UTC")
    one = pd.DataFrame({
        "created": day + pd.to_timedelta([0, 9], unit="h"),
        "ended": day + pd.to_timedelta([8, 17], unit="h"),
    })  # fmt: skip
    every = pd.concat([
        one.assign(vm=f"vm-{number:03}").head(1 if number == 256 else 2) for number in range(300)
    ])  # fmt: skip
    monkeypatch.setattr(kernels, "BLOCK", 16)
    table = rpo_adherence(every, "15min", by="vm")
    assert table["gaps"].tolist() == [1] * 300
    breached = table["breached"].tolist()
    assert breached.pop(256) == pd.Timedelta("8h45min")
    assert set(breached) == {pd.Timedelta("45min")}


@pytest.mark.parametrize("name", ["rpo_adherence", "compare", "objectives", "worst"])
def test_parts_of_disjoint_vms_combine_to_the_whole(name):
    """One VM of each target, so that no part mixes targets and the whole does."""
    day = pd.Timestamp("2026-10-01", tz="UTC")
    sessions = pd.DataFrame({
        "vm": ["a", "a", "b", "b"], "policy": "gold", "rpo": pd.to_timedelta(["1h", "1h", "2h", "2h"]),
        "created": day + pd.to_timedelta([0, 10, 0, 17], unit="h"),
        "ended": day + pd.to_timedelta([7, 24, 12, 24], unit="h"),
    })  # fmt: skip
    spec = spec_of(name)
    question, terms, own = spec.parse(by="policy", since=day + pd.Timedelta("12h"), until=None)
    as_of = replace(question, as_of=day + pd.Timedelta("24h"))
    parts = [spec.partial_of(rows, as_of, terms, **own) for _, rows in sessions.groupby("vm")]
    expected = spec.evaluate(sessions, as_of, terms, **own)
    assert_frame_equal(spec.finalize(spec.combine(parts), as_of, terms, **own), expected)
    assert expected["rpo"].isna().all()


def test_doubles_in_different_ranges_are_found(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 2)
    uid = pd.Series([f"{n % 5:036d}" for n in range(7)], dtype="str")
    assert kernels.duplicated_positions(uid).tolist() == [0, 1, 5, 6]


@given(asked(), st.sampled_from(some.BY))
def test_sums_by_vm_added_up_are_those_of_a_sweep_by_less(question, by):
    """A VM under several policies counts once, with the lengths of all its sessions."""
    sessions, arguments = question
    spec = spec_of("rpo_adherence")
    asked_for, terms, own = spec.parse(by=by, **arguments)
    by_vm = replace(asked_for, by=tuple(dict.fromkeys([*asked_for.by, *KEYS])))
    part = spec.regroup(spec.partial_of(sessions, by_vm, terms, **own), asked_for.by)
    found = spec.finalize(part, asked_for, terms, **own)
    assert_frame_equal(found, rpo_adherence(sessions, by=by, **arguments), check_exact=True)


def test_a_vm_under_two_policies_has_one_time_slot_for_all_its_sessions():
    """Slots of 9 h in all, of 4.5 h on average: two of them, not the one of each policy."""
    day = pd.Timestamp("2026-10-01", tz="UTC")
    sessions = pd.DataFrame({
        "vm": "a", "policy": ["Gold", "Silver"], "result": ["Success", "Failed"],
        "created": day + pd.to_timedelta([0, 6], unit="h"),
        "ended": day + pd.to_timedelta([6, 9], unit="h"),
    })  # fmt: skip
    spec = spec_of("rpo_adherence")
    question, terms, own = spec.parse(by=KEYS, target="15min")
    part = spec.regroup(spec.partial_of(sessions, question, terms, **own), ())
    hour = 3600 * 1_000_000
    assert part.max["slot_total"].tolist() == [9 * hour]
    assert part.max["slot_mean"].tolist() == [4.5 * hour]
