"""What can be asked, as arguments: each is checked once, and makes a Selection, an explorer or a report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.estate.context import Context, read_estate
from cdpanalytics.narrowing import Names
from cdpanalytics.patterns import Patterns
from cdpanalytics.selection import Selection
from cdpanalytics.sources import ArchiveSource, Source
from cdpanalytics.timeparse import Moment, share

if TYPE_CHECKING:
    from cdpanalytics.archive import Archive
    from cdpanalytics.explorer import Explorer

_Period = tuple[str | None, Moment | None, Moment | None]
"""A calendar period, or since and until."""

_TERMS = ("target", "memory", "workers")
"""The terms that only an argument says."""

_ESTATE = ("tz", "tags", "exclude", "retire_after", "grace", "objective")
"""The terms that the estate file says as well."""

_QUESTION = (
    "period",
    "since",
    "until",
    "policy",
    "vm",
    "server",
    "tag",
    *_TERMS,
    *_ESTATE,
    "estate",
)
"""What can be asked of an archive or a frame."""

_FRAME_QUESTION = (
    "policies", "holes", "intervals", "columns", "results", "units", "day_first", "decimal",
)  # fmt: skip
"""What a frame is told besides."""


def select(
    source: Source,
    period: _Period,
    names: Names,
    terms: Mapping[str, Any],
) -> Selection:
    """Return a Selection of a source; `period` is a calendar period, then since and until.

    Raises
    ------
    InputError
        When a term does not exist.
    """
    for name in terms:
        if name not in (*_TERMS, *_ESTATE, "estate", "tag"):
            raise InputError(
                f"select has no {name!r}; use {', '.join((*_QUESTION, *_FRAME_QUESTION))}"
            )
    text, since, until = period
    estate = read_estate(terms.get("estate"), source.folder, terms.get("tz"))
    tz = terms.get("tz") or estate.zone or "UTC"
    names = replace(names, tags=tuple((terms.get("tag") or {}).items()))
    return Selection(
        source, since, until, names, text, tz,
        objective=None if terms.get("objective") is None else share(terms["objective"], "objective"),
        retire_after=_argument_or(terms.get("retire_after"), estate.retire_after),
        grace=_argument_or(terms.get("grace"), estate.grace),
        context=Context.of(estate, terms.get("tags"), terms.get("exclude"), tz),
        **{name: terms[name] for name in _TERMS if name in terms},
    )  # fmt: skip


def select_archive(
    archive: Archive,
    period: _Period,
    names: tuple[Patterns, Patterns, Patterns],
    terms: Mapping[str, Any],
) -> Selection:
    """Return a Selection of an archive; `names` are those of policies, VMs and backup servers."""
    return select(ArchiveSource(archive.listed_once()), period, Names(*names), terms)


def _argument_or(argument: object, entry: object) -> object:
    """Return an argument, else the estate file's entry; False means none."""
    return None if argument is False else entry if argument is None else argument


def explore(source: Archive | pd.DataFrame, **question: Any) -> Explorer:
    """Explore an archive or a frame of sessions in a notebook.

    Parameters
    ----------
    source : Archive or pandas.DataFrame
    **question
        The arguments of `Archive.select` or ``df.cdp.select``, and fields of the explorer's `State`:
        ``explore(archive, policy="Gold*", view="Sizes", period="last 7 days")``, or a whole
        state as text: ``explore(archive, state="period=2026-10&view=Sizes")``.

    Returns
    -------
    Explorer
        A widget: its state can be set from another cell.

    Raises
    ------
    InputError, ArchiveError
        When there is nothing to explore, or a name is neither of a question nor of the state.
    """
    from cdpanalytics.explorer import FIELDS

    shown = {
        name: question.pop(name)
        for name in ("state", *FIELDS)
        if name in question and name not in (*_TERMS, *_ESTATE)
    }
    return _selected(source, question, "explore", shown=("state", *FIELDS)).explore(**shown)


def report(
    source: Archive | pd.DataFrame,
    output: str | os.PathLike[str],
    *,
    title: str | None = None,
    generated: pd.Timestamp | None = None,
    sides: str | Sequence[str] | None = None,
    by: str = "policy",
    prepared_for: Sequence[str] = (),
    **question: Any,
) -> Path:
    """Write an HTML report of an archive or a frame of sessions.

    Parameters
    ----------
    source : Archive or pandas.DataFrame
    output : path-like
        The file; its folder must exist.
    title, generated, sides, by, prepared_for
        As in `Selection.report`.
    **question
        The arguments of `Archive.select` or ``df.cdp.select``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError, ArchiveError
        If the question cannot be answered, or the file cannot be written.
    """
    asked = _selected(source, question, "report")
    return asked.report(
        output, title=title, generated=generated, sides=sides, by=by, prepared_for=prepared_for
    )


def _selected(
    source: Archive | pd.DataFrame,
    question: dict[str, Any],
    caller: str,
    shown: Sequence[str] = (),
) -> Selection:
    asked: Any = source.cdp.select if isinstance(source, pd.DataFrame) else source.select
    names = (*_QUESTION, *_FRAME_QUESTION) if isinstance(source, pd.DataFrame) else _QUESTION
    for name in question:
        if name not in names:
            listed = dict.fromkeys([*names, *shown])
            raise InputError(f"{caller} has no {name!r}; use {', '.join(listed)}")
    return asked(**question)
