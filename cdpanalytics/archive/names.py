"""The names of an archive's files: where each lies, and which names are the archive's own."""

from __future__ import annotations

import re
from datetime import date
from pathlib import PurePosixPath

import pandas as pd

from cdpanalytics.archive.storage import Kind

Name = PurePosixPath
"""A file's name inside the archive."""

DAILY = ("sessions", "policy_sessions", "intervals")
"""Tables that have one file per source and day."""

POLICIES = "policies"
MONTHS = "months"
"""Sessions of each settled month that later windows may have as neighbours; see `months`."""

TABLES = (*DAILY, POLICIES, MONTHS)
"""All folders of files of rows."""

DAMAGED = "damaged"
"""Where files lie that were set aside."""

_STAGED = "_new."
"""Before the name of a file that is not yet current; plain readers skip names with `_` first."""

_SLUG = re.compile(r"[a-z0-9.%\[\]_-]+")
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})\.parquet")
_ASIDE = re.compile(r"(?P<stem>.+?)(?:\.staged)?\.\d+\.parquet")


def slug(source: str) -> str:
    """Return the folder of a source, a different one for each: host and port, in characters safe in paths."""
    scheme, _, place = source.lower().rpartition("://")
    plain = re.sub(r"[^a-z0-9.:\[\]-]", lambda odd: f"%{ord(odd[0]):x}", place).replace(":", "_")
    return (f"{scheme}_" if scheme == "http" else "") + plain


def day_file(table: str, source: str, day: pd.Timestamp) -> Name:
    """Return the file of one table, source and day."""
    return Name(table, slug(source), f"{day:%Y-%m-%d}.parquet")


def policies_file(source: str) -> Name:
    """Return the file of a source's policies."""
    return Name(POLICIES, f"{slug(source)}.parquet")


def month_file(day: Name) -> Name:
    """Return the file of the month of a day's file."""
    return Name(MONTHS, day.parts[1], f"{day.stem[:7]}.parquet")


def staged(name: Name) -> Name:
    """Return the name under which a file lies until it is current."""
    return name.with_name(_STAGED + name.name)


def current(name: Name) -> Name | None:
    """Return the name that a staged file gets; None for any other name."""
    if not name.name.startswith(_STAGED):
        return None
    return name.with_name(name.name.removeprefix(_STAGED))


def is_ours(name: Name) -> bool:
    """Return whether the archive gives such a name to files of rows.

    Examples
    --------
    >>> is_ours(Name("sessions/em.lab_9398/2026-10-01.parquet"))
    True
    >>> is_ours(Name("sessions/em.lab_9398/Copy of 2026-10-01.parquet"))
    False
    """
    match name.parts:
        case (table, source, file) if table in DAILY:
            return _SLUG.fullmatch(source) is not None and _day_of(file) is not None
        case ("months", source, file):
            return _SLUG.fullmatch(source) is not None and _day_of(_first_of(file)) is not None
        case ("policies", file) if file.endswith(".parquet"):
            return _SLUG.fullmatch(file.removesuffix(".parquet")) is not None
    return False


def _day_of(file: str) -> str | None:
    """Return the day in a file's name, as ISO date, or None."""
    match = _DAY.fullmatch(file)
    if match is None:
        return None
    try:
        return date.fromisoformat(match[1]).isoformat()
    except ValueError:
        return None


def _first_of(file: str) -> str:
    """Return the name of the file of a month's first day."""
    return f"{file.removesuffix('.parquet')}-01.parquet"


def folder_of(name: Name) -> str:
    """Return the slug of the source that a name of ours belongs to."""
    return name.stem if name.parts[0] == POLICIES else name.parts[1]


def original_of(name: Name) -> Name | None:
    """Return which file of ours was set aside under a name in ``damaged/``; None for any other name.

    Examples
    --------
    >>> original_of(Name("damaged/sessions/em_9398/2026-10-01.0.parquet"))
    PurePosixPath('sessions/em_9398/2026-10-01.parquet')
    """
    match = _ASIDE.fullmatch(name.name)
    if match is None or name.parts[0] != DAMAGED:
        return None
    original = Name(*name.parts[1:-1], f"{match['stem']}.parquet")
    return original if is_ours(original) else None


def regular(listed: list[tuple[Name, Kind]]) -> list[Name]:
    """Return the names that are regular files."""
    return [name for name, kind in listed if kind == "file"]
