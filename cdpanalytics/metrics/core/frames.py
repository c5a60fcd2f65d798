"""Read the facts that a frame of sessions carries, and refuse what has lost part of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.frames import NEIGHBOUR, OPEN, TERMS, WINDOW, vm_codes
from cdpanalytics.metrics.core.codes import Codes, codes_of
from cdpanalytics.metrics.core.kernels import LARGEST, Integers, compact_codes, duplicated_positions
from cdpanalytics.metrics.core.question import Question, Terms
from cdpanalytics.metrics.core.values import UNKNOWN, instants, us_of

_ARGUMENTS = {
    "policies": "policies", "holes": "unobserved", "exclude": "exclude",
    "retire_after": "retire_after", "grace": "grace", "zone": "tz", "schedule_zone": "schedule_tz",
}  # fmt: skip
"""The argument that each term of a Selection is passed as."""

_LABEL = re.compile(r"(\.\.|\d{4}-\d\d-\d\dT[^/]+)/(\.\.|\d{4}-\d\d-\d\dT[^/]+)")
_COUNTS = ("sessions", "neighbours")


@dataclass(frozen=True)
class Facts:
    """What a frame says about itself; all empty for a frame from anywhere.

    Parameters
    ----------
    since, until : pandas.Timestamp, optional
        The window that its sessions were read for.
    as_of : pandas.Timestamp, optional
        The last instant that its source knows about.
    promised_until : pandas.Timestamp, optional
        The end of the window asked for, where it lies after `as_of`.
    with_neighbours : bool
        The neighbours were read: coverage is known up to `as_of`.
    terms : dict
        The terms of its Selection, by name.
    members : str, optional
        The policies whose time its Selection asks about, where the frame holds others too.
    untouched : bool
        No user's code has seen the rows since they were read: none is lost or comes twice.
    """

    since: pd.Timestamp | None = None
    until: pd.Timestamp | None = None
    as_of: pd.Timestamp | None = None
    promised_until: pd.Timestamp | None = None
    with_neighbours: bool = False
    terms: tuple[tuple[str, str], ...] = ()
    members: str | None = None
    untouched: bool = False

    @property
    def marked(self) -> bool:
        """Whether the frame carries a window."""
        return self.since is not None or self.until is not None


NO_FACTS = Facts()
"""A frame from anywhere."""


def facts(frame: pd.DataFrame) -> Facts:
    """Return what a frame says about itself, from its labels alone.

    Raises
    ------
    InputError
        When some rows have no window, or several windows do not adjoin, or their terms differ.
    """
    if WINDOW not in frame or not len(frame):
        return NO_FACTS
    windows = {label: _parsed(label) for label in _labels(frame, WINDOW)}
    first, last = _joined(list(windows.values()))
    if TERMS not in frame:
        return Facts(first, last)
    labels = [_words(label) for label in _labels(frame, TERMS)]
    terms = _same_terms(labels)
    if len(windows) > 1:  # the last window decides what is known of the end
        newest = next(label for label, edges in windows.items() if edges[1] == last)
        rows = frame[(frame[WINDOW].astype("str") == newest).to_numpy()]
        labels = [_words(label) for label in _labels(rows, TERMS)]
    members = {label.get("members") for label in labels}
    if len(members) > 1:
        raise InputError(
            "the frame's rows were read for different policies; ask each part by itself, or make "
            "one Selection of them"
        )
    return Facts(
        first, last, _latest(labels, "as_of"), _latest(labels, "until"), True, terms, members.pop(),
        untouched=not any("sessions" in label for label in labels),
    )  # fmt: skip


def _same_terms(labels: list[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    """The terms that all labels name."""
    distinct = {
        tuple(sorted((name, value) for name, value in label.items() if name in _ARGUMENTS))
        for label in labels
    }
    if len(distinct) > 1:
        listed = sorted(
            " ".join(f"{name}={value}" if value else name for name, value in terms) or "none"
            for terms in distinct
        )
        raise InputError(
            f"the frame's rows were read on different terms ({', or '.join(listed)}); ask each part "
            "by itself, or make one Selection of them"
        )
    return distinct.pop()


def check(
    frame: pd.DataFrame, question: Question, terms: Terms, takes: Iterable[str], neighbours: bool
) -> None:
    """Refuse a frame that has lost sessions or neighbours, or is asked without its terms.

    Parameters
    ----------
    frame : pandas.DataFrame
    question, terms
        What the metric is asked; a term passed as None counts as passed.
    takes : iterable of str
        Arguments that the metric takes.
    neighbours : bool
        Whether the metric depends on sessions outside the window.

    Raises
    ------
    InputError
    """
    known = facts(frame)
    if not known.with_neighbours:
        return
    unset = question.unset | terms.unset
    missing = [
        f"{_ARGUMENTS[name]}={value}" if value else f"{_ARGUMENTS[name]}="
        for name, value in known.terms
        if _ARGUMENTS[name] in unset
        and _ARGUMENTS[name] in takes
        and _matters(name, question, terms)
    ]
    if missing:
        raise InputError(
            f"the frame's Selection has terms that were not passed: {', '.join(missing)}; pass them, "
            "or None for none, or ask the Selection itself"
        )
    if neighbours:
        _check_counts(frame)


def _matters(name: str, question: Question, terms: Terms) -> bool:
    """Whether a term can change the answer: a zone of periods needs periods."""
    return question.freq is not None if name == "zone" else True


def _check_counts(frame: pd.DataFrame) -> None:
    """Compare the sessions and neighbours of each VM and window with those that were read."""
    windows, labels = codes_of(frame[WINDOW], text=True), codes_of(frame[TERMS], text=True)
    vm = vm_codes(frame)
    place, _ = compact_codes(vm * len(windows.values) + windows.codes)
    size = int(place.max()) + 1
    edges = [_parsed(label) for label in windows.values]
    low = np.array([UNKNOWN if a is None else us_of(a) for a, _ in edges])[windows.codes]
    high = np.array([LARGEST if b is None else us_of(b) for _, b in edges])[windows.codes]
    created = instants(frame, "created")
    outside = (created < low) | (created >= high)
    once = _first_of_each(frame, place)
    seen = {
        "neighbours": np.bincount(place[once & outside], minlength=size),
        "sessions": np.bincount(place[once & ~outside], minlength=size),
    }
    if len(edges) > 1:
        _check_every_vm_in_each(frame, vm, windows, edges)
    words = [_words(label) for label in labels.values]
    for name in _COUNTS[::-1]:
        expected = np.zeros(size, dtype=np.int64)
        expected[place] = np.array([int(word.get(name, 0)) for word in words])[labels.codes]
        wrong = np.flatnonzero(seen[name] != expected)
        if len(wrong):
            raise _lost(frame, name, place, wrong, seen[name], expected)


def _check_every_vm_in_each(
    frame: pd.DataFrame,
    vm: Integers,
    windows: Codes,
    edges: list[tuple[pd.Timestamp | None, pd.Timestamp | None]],
) -> None:
    """Refuse a join of windows where a VM was read for some only, though it had begun by then."""
    begun = np.full(int(vm.max()) + 1, LARGEST)
    np.minimum.at(begun, vm, instants(frame, "created"))
    for code, (_, end) in enumerate(edges):
        seen = np.zeros(len(begun), dtype=bool)
        seen[vm[windows.codes == code]] = True
        expected = begun < (LARGEST if end is None else us_of(end))
        missing = np.flatnonzero(expected & ~seen)
        if len(missing):
            name = frame["vm"].iloc[int(np.flatnonzero(vm == missing[0])[0])]
            raise InputError(
                f"{len(missing):,} VMs, such as {name}, were not read for the window "
                f"{windows.values[code]}; ask each window by itself, or select both together"
            )


def _lost(
    frame: pd.DataFrame, name: str, place: Integers, wrong: Integers,
    seen: Integers, expected: Integers,
) -> InputError:  # fmt: skip
    vm = frame["vm"].iloc[int(np.flatnonzero(place == wrong[0])[0])]
    count = f"{len(wrong):,} VMs, such as {vm}: {seen[wrong[0]]:,} of {expected[wrong[0]]:,}"
    if name == "neighbours":
        without = NEIGHBOUR not in frame
        return InputError(
            f"the frame lacks {'the' if without else 'some'} sessions outside its window that decide "
            f"its edges ({count}); use the Selection's frame() instead of sessions, or its own method"
        )
    return InputError(
        f"the frame lacks sessions of its window ({count}), so their time would read as gaps; "
        "filter whole VMs, or narrow the Selection with where()"
    )


def _first_of_each(frame: pd.DataFrame, place: Integers) -> Any:
    """Which rows are the first of their uid (or, without uids, every row) in each VM and window."""
    if "uid" not in frame:
        return np.ones(len(frame), dtype=bool)
    once = np.ones(len(frame), dtype=bool)
    again = duplicated_positions(frame["uid"])
    uids = pd.DataFrame({"place": place[again], "uid": frame["uid"].iloc[again].to_numpy()})
    once[again] = ~uids.duplicated().to_numpy()
    return once


def words_of(terms: Terms, tz: str = "UTC") -> list[str]:
    """Return the terms of a Selection in words, for `cdpanalytics.frames.mark`.

    Examples
    --------
    >>> words_of(Terms.parse(retire_after="7D", grace="90min"), "Europe/Berlin")
    ['retire_after=7D', 'grace=90min', 'zone=Europe/Berlin']
    """
    words = [
        name
        for name, table in (
            ("policies", terms.policies), ("holes", terms.unobserved), ("exclude", terms.exclude)
        )
        if table is not None and len(table)
    ]  # fmt: skip
    for name, length in (("retire_after", terms.retire_after), ("grace", terms.grace)):
        if length is not None:
            words.append(f"{name}={_short(length)}")
    if tz != "UTC":
        words.append(f"zone={tz}")
    if terms.schedule_tz != "UTC":
        zone = terms.schedule_tz if isinstance(terms.schedule_tz, str) else "by-backup-server"
        words.append(f"schedule_zone={zone}")
    return words


def _short(length: pd.Timedelta) -> str:
    for unit in ("D", "h", "min", "s"):
        if length % pd.Timedelta(1, unit) == pd.Timedelta(0):
            return f"{length // pd.Timedelta(1, unit)}{unit}"
    return f"{length // pd.Timedelta(1, 'us')}us"


# -- labels ----------------------------------------------------------------------------


def _labels(frame: pd.DataFrame, column: str) -> list[str]:
    """The distinct labels of a column; one that is missing in some rows is refused."""
    given = frame[column].array
    labels = given if isinstance(given, pd.Categorical) else pd.Categorical(given)
    if len(labels.categories) == 1 and labels.codes.min(initial=0) == 0:
        return [str(labels.categories[0])] if len(labels) else []
    counts = np.bincount(labels.codes + 1, minlength=len(labels.categories) + 1)
    if counts[0]:
        raise InputError(
            f"column {column!r} is missing in {counts[0]:,} of {len(frame):,} rows, as an outer join "
            f"or a concat with other rows leaves it; drop these rows: df.dropna(subset=[{column!r}])"
        )
    return [str(label) for label, count in zip(labels.categories, counts[1:], strict=True) if count]


def _parsed(label: str) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    match = _LABEL.fullmatch(label)
    try:
        if match is None:
            raise ValueError
        edges = [None if e == OPEN else pd.Timestamp(e).tz_convert("UTC") for e in match.groups()]
    except (ValueError, TypeError):
        raise InputError(
            f"column {WINDOW!r} holds {label!r}, not an interval like "
            "2026-10-01T00:00:00+00:00/2026-11-01T00:00:00+00:00; rename it if it is your own"
        ) from None
    return edges[0], edges[1]


def _joined(
    windows: list[tuple[pd.Timestamp | None, pd.Timestamp | None]],
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """The one window that adjoining windows make."""
    start = pd.Timestamp.min.tz_localize("UTC")
    ordered = sorted(windows, key=lambda edges: start if edges[0] is None else edges[0])
    for (_, end), (begin, _) in pairwise(ordered):
        if end is None or begin is None or end != begin:
            raise InputError(
                "the frame's rows were read for windows that do not adjoin "
                f"({', '.join(f'{a or OPEN}/{b or OPEN}' for a, b in ordered)}); ask each by itself"
            )
    return ordered[0][0], ordered[-1][1]


def _words(label: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in label.split())
    return {name: value for name, _, value in pairs}


def _latest(labels: list[dict[str, str]], name: str) -> pd.Timestamp | None:
    values = [pd.Timestamp(label[name]).tz_convert("UTC") for label in labels if name in label]
    return max(values, default=None)
