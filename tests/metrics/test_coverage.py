"""Tiles are kept for the next target, and only for the same question."""

import numpy as np
import pandas as pd
import pytest

from cdpanalytics.metrics.core import kernels
from cdpanalytics.metrics.core.coverage import sweep, vm_blocks
from cdpanalytics.metrics.core.exposure import arrays_of
from cdpanalytics.metrics.core.question import Question, Terms

DAY = pd.Timestamp("2026-10-01", tz="UTC")


def arrays():
    """A VM under two policies: the second session, a Warning, begins twice."""
    hours = pd.to_timedelta([0, 9, 9], unit="h")
    frame = pd.DataFrame({
        "vm": "a", "policy": ["Gold", "Gold", "Silver"], "created": DAY + hours,
        "ended": DAY + hours + pd.Timedelta("8h"), "result": ["Success", "Warning", "Warning"],
    })  # fmt: skip
    return arrays_of(frame, Question.parse(()), Terms.parse(None))


def tiles_kept(of):
    return [key for key in of.kept if key[0] == "tiles"]


def test_the_same_question_has_the_same_tiles():
    of = arrays()
    (rows,) = vm_blocks(of)
    assert sweep(of, rows) is sweep(of, rows.copy())


def test_what_protects_and_what_ranks_have_tiles_of_their_own():
    of = arrays()
    (rows,) = vm_blocks(of)
    every, strict = sweep(of, rows), sweep(of, rows, {"Success"})
    assert (len(every.row), len(strict.row)) == (3, 1)
    first, last = (sweep(of, rows, tie=tie) for tie in (np.array([0, 1, 2]), np.array([0, 2, 1])))
    assert first.row.tolist() == last.row.tolist()  # the name of the policy ranks before the tie
    assert len(tiles_kept(of)) == 4


def test_nothing_changes_tiles_that_are_kept():
    of = arrays()
    (rows,) = vm_blocks(of)
    with pytest.raises(ValueError, match="read-only"):
        sweep(of, rows).begin[0] = 0


def test_a_frame_of_several_blocks_keeps_none(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 2)
    of = arrays()
    for rows in vm_blocks(of):
        sweep(of, rows)
    assert not tiles_kept(of)
