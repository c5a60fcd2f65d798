"""Write into a frame of sessions what it was read for: its window, its neighbours and its terms.

These facts are columns, so that they survive merge, join, concat, assign, CSV and Parquet.
`metrics.core.frames` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from cdpanalytics.schema import VM

WINDOW: Final = "window"
"""Column: the ISO 8601 interval that the sessions were read for; ``..`` where it has no bound."""

NEIGHBOUR: Final = "neighbour"
"""Column: whether a session begins outside the window, and was read because it decides its edges."""

TERMS: Final = "terms"
"""Column: what the source knows, and on which terms its Selection asks."""

_MARKS: Final = (WINDOW, NEIGHBOUR, TERMS)

OPEN: Final = ".."


def mark(
    frame: pd.DataFrame,
    since: pd.Timestamp | None,
    until: pd.Timestamp | None,
    as_of: pd.Timestamp | None = None,
    terms: Sequence[str] | None = None,
    *,
    unique: bool = False,
    counted: bool = True,
) -> pd.DataFrame:
    """Return a frame of sessions with the facts of how it was read as columns.

    Parameters
    ----------
    frame : pandas.DataFrame
        Sessions of the window, and its neighbours: those outside that decide its edges.
    since, until : pandas.Timestamp, optional
        The window, UTC.
    as_of : pandas.Timestamp, optional
        The last instant that the source knows about; the window is cut there.
    terms : sequence of str, optional
        The terms of the Selection, such as ``("policies", "exclude", "retire_after=7D")``.
        None: the neighbours were not read, so only `window` is written.
    unique : bool
        Each uid is known to occur once, so that it need not be checked.
    counted : bool
        Write how many sessions and neighbours each VM has, by which a metric sees that some
        were lost. Rows that no user's code has seen are not counted.

    Returns
    -------
    pandas.DataFrame
        The same rows, `window` (categorical), and with `terms` also `neighbour` (bool) and
        `terms` (categorical): as_of, how many sessions and neighbours the row's VM has (where
        they are counted), and the terms, in words.

    Examples
    --------
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({"vm": "a", "created": [day - pd.Timedelta("1h"), day]})
    >>> marked = mark(sessions, day, day + pd.Timedelta("1D"), terms=["policies"])
    >>> marked["window"].iloc[0]
    '2026-10-01T00:00:00+00:00/2026-10-02T00:00:00+00:00'
    >>> marked["terms"].iloc[0]
    'sessions=1 neighbours=1 policies'
    """
    end = until if as_of is None else as_of if until is None else min(until, as_of)
    label = interval(since, end)
    marks: dict[str, Any] = {WINDOW: _categorical(np.zeros(len(frame), dtype=np.int8), [label])}
    if terms is not None:
        outside = np.zeros(len(frame), dtype=bool)
        if since is not None:
            outside |= (frame["created"] < since).to_numpy(dtype=bool)
        if end is not None:
            outside |= (frame["created"] >= end).to_numpy(dtype=bool)
        marks[NEIGHBOUR] = outside
        words = [] if as_of is None else [f"as_of={as_of.isoformat()}"]
        if until is not None and end is not None and until > end:
            words.append(f"until={until.isoformat()}")
        if not counted:
            label = " ".join([*words, *terms])
            marks[TERMS] = _categorical(np.zeros(len(frame), dtype=np.int8), [label])
        else:
            once = np.ones(len(frame), dtype=bool)
            if not unique and "uid" in frame:
                once = ~frame["uid"].duplicated().to_numpy() | frame["uid"].isna().to_numpy()
            marks[TERMS] = _counted(frame, (once & ~outside, once & outside), words, terms)
    return frame.drop(columns=[name for name in _MARKS if name in frame]).assign(**marks)


def unmarked(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without the facts."""
    return frame.drop(columns=[name for name in _MARKS if name in frame])


def interval(since: pd.Timestamp | None, until: pd.Timestamp | None) -> str:
    """Return a window as an ISO 8601 interval."""
    edges = (
        OPEN if edge is None else edge.tz_convert("UTC").isoformat() for edge in (since, until)
    )
    return "/".join(edges)


def _counted(
    frame: pd.DataFrame,
    kinds: tuple[np.ndarray, np.ndarray],
    before: Sequence[str],
    after: Sequence[str],
) -> pd.Categorical:
    """One label per number of sessions and neighbours that a VM has."""
    vm = vm_codes(frame)
    size = int(vm.max(initial=-1)) + 1
    pairs = np.stack([np.bincount(vm[kind], minlength=size) for kind in kinds], axis=1)
    distinct, of = np.unique(pairs, axis=0, return_inverse=True)
    labels = [
        " ".join([*before, f"sessions={own}", f"neighbours={others}", *after])
        for own, others in distinct
    ]
    return _categorical(of.reshape(-1)[vm], labels)


def _categorical(codes: Any, labels: list[str]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, pd.Index(labels, dtype="str"))


def vm_codes(frame: pd.DataFrame) -> np.ndarray:
    """Return each row's VM, its backup server and name, as a number."""
    code = np.zeros(len(frame), dtype=np.int64)
    for name in VM:
        if name in frame:
            labels = pd.Categorical(frame[name])
            code = code * (len(labels.categories) + 1) + labels.codes + 1
    return pd.factorize(code)[0]
