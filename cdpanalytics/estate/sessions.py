"""Read sessions from a table of any origin: other heads, local times, decimal commas, other words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.estate import times
from cdpanalytics.estate.tables import place
from cdpanalytics.schema import RESULTS, STATES
from cdpanalytics.timeparse import ISO_WITH_OFFSET, zone

_UNITS: Final = {
    name: 2 ** (10 * power)
    for power, names in enumerate((("B",), ("KB", "KiB"), ("MB", "MiB"), ("GB", "GiB"), ("TB", "TiB")))
    for name in names
}  # fmt: skip
"""Units of sizes, in bytes. Veeam's GB is 2**30 bytes."""

_TIMES: Final = ("created", "ended", "as_of")
_NUMBER: Final = re.compile(r"-?\d+(?:[.,' \u00a0\u202f]\d{3})*(?:[.,]\d+)?")
_DECIMALS: Final = re.compile(r"-?[\d' \u00a0\u202f]+[.,](\d{1,2}|\d{4,})")
_UNIT_IN_HEAD: Final = re.compile(r"[(\[/ ]\s*([KMGT]i?B)\s*[)\]]?$", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """How a table of sessions is to be read.

    Parameters
    ----------
    columns : mapping, optional
        The table's own heads by the names of `schema.SESSIONS`: ``{"vm": "Maschine"}``.
    results : mapping, optional
        What the table's words for results mean: ``{"Fehler": "Failed"}``.
    units : mapping, optional
        ``{"total_size": "GB"}``; without it sizes are bytes.
    day_first : bool, optional
        Whether 01/11/2026 is 1 November. Not needed where a date has a day above 12, nor for
        dates with dots, which have the day first.
    decimal : str, optional
        The decimal sign of sizes that are text, "," or ".". Not needed where a size shows it.
    tz : str, optional
        Zone of times without an offset.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    day_first: bool | None = None
    decimal: str | None = None
    tz: str | None = None


@dataclass(frozen=True)
class _Rows:
    """What messages call a table, and the line of each row."""

    source: str
    lines: Sequence[int]

    def at(self, row: int) -> str:
        return place(self.source, self.lines[row])

    def cells(self, column: pd.Series) -> list[tuple[int, Any]]:
        """Return the distinct cells of a column, each with the first line that has it."""
        distinct = column.reset_index(drop=True).dropna().drop_duplicates()
        rows = distinct.index.tolist()
        return [(self.lines[row], cell) for row, cell in zip(rows, distinct, strict=True)]


def read_sessions(
    frame: pd.DataFrame,
    reading: Reading,
    source: str = "the frame",
    lines: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return a table of sessions with the names, times, sizes and results that metrics read.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per session. Columns that are right already are not touched.
    reading : Reading
    source : str
        What messages call the table.
    lines : sequence of int, optional
        The line of each row in its file. Default: rows count from 1.

    Raises
    ------
    InputError
        With the row, if something cannot be read: a column that does not exist, a time that
        comes twice or never or has no zone, a date whose order is not clear, a result that
        `results` does not name, a size that is not in bytes.

    Examples
    --------
    >>> export = pd.DataFrame({"vm": ["sql-1"], "created": ["13.10.2026 08:00"], "result": ["Fehler"]})
    >>> read = read_sessions(export, Reading(tz="Europe/Berlin", results={"Fehler": "Failed"}))
    >>> read.iloc[0].tolist()
    ['sql-1', Timestamp('2026-10-13 06:00:00+0000', tz='UTC'), 'Failed']
    """
    heads = dict(reading.columns)
    tz = None if reading.tz is None else zone(reading.tz)
    rows = _Rows(source, range(1, len(frame) + 1) if lines is None else lines)
    read = _renamed(frame, heads, source)
    dates = _dates(read, rows)
    dotted = reading.day_first is None and times.are_dotted(dates)
    order = times.day_order(dates, source, dotted or reading.day_first)
    for name in _TIMES:
        if name in read:
            read[name] = _instants(read[name], name, tz, order, rows)
    if "result" in read:
        meanings = {**{word: word for word in RESULTS}, **reading.results}
        read["result"] = _words(read["result"], "result", meanings, RESULTS, rows)
    if "state" in read:
        read["state"] = _words(read["state"], "state", {w: w for w in STATES}, STATES, rows)
    if "total_size" in read:
        head = heads.get("total_size", "total_size")
        read["total_size"] = _bytes(read["total_size"], head, reading, rows)
    return read


def _renamed(frame: pd.DataFrame, heads: Mapping[str, str], source: str) -> pd.DataFrame:
    for own, head in heads.items():
        if head not in frame:
            has = ", ".join(map(str, frame.columns))
            raise InputError(f"{source} has no column {head!r} for {own!r} (has: {has})")
    replaced = [own for own, head in heads.items() if own in frame and own != head]
    return frame.drop(columns=replaced).rename(columns={head: own for own, head in heads.items()})


# -- times -------------------------------------------------------------------------------


def _is_text(column: pd.Series) -> bool:
    return column.dtype == object or pd.api.types.is_string_dtype(column.dtype)


def _is_written_locally(column: pd.Series) -> bool:
    """Return whether a column is text that is not ISO 8601 with an offset throughout."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.categories.to_series()
    if not _is_text(column):
        return False
    return not column.dropna().astype("str").str.fullmatch(ISO_WITH_OFFSET).all()


def _dates(read: pd.DataFrame, rows: _Rows) -> list[tuple[int, Any]]:
    columns = [read[name] for name in _TIMES if name in read]
    return [
        cell for column in columns if _is_written_locally(column) for cell in rows.cells(column)
    ]


def _instants(
    column: pd.Series, name: str, tz: str | None, order: bool | None, rows: _Rows
) -> pd.Series:
    if _is_naive_arrow(column.dtype):
        column = column.astype("datetime64[us]")
    is_naive = pd.api.types.is_datetime64_dtype(column.dtype)
    if not is_naive and not _is_written_locally(column):
        return column
    if tz is None:
        raise InputError(
            f"{rows.source}: column {name!r} holds times without a zone; say which it is: "
            'tz="Europe/Berlin" (--tz), or "UTC"'
        )
    if is_naive:
        return _localized(column, name, tz, rows)
    cells = rows.cells(column)
    stamps = times.instants(cells, rows.source, tz, order)
    by_cell = {cell: stamp for (_, cell), stamp in zip(cells, stamps, strict=True)}
    read = [by_cell.get(cell, pd.NaT) for cell in column.astype("object")]
    return (
        pd.Series(pd.DatetimeIndex(read).as_unit("us"), index=column.index).dt.tz_convert("UTC")
        if cells
        else column
    )


def _is_naive_arrow(dtype: Any) -> bool:
    return isinstance(dtype, pd.ArrowDtype) and dtype.kind == "M" and not dtype.pyarrow_dtype.tz


def _localized(column: pd.Series, name: str, tz: str, rows: _Rows) -> pd.Series:
    local = column.dt.tz_localize(tz, ambiguous="NaT", nonexistent="NaT")
    refused = np.flatnonzero((local.isna() & column.notna()).to_numpy())
    if len(refused):
        row = int(refused[0])
        raise InputError(
            f"{rows.at(row)}: {name} {column.iloc[row]} comes twice or never in {tz}, where "
            "clocks were changed; write such times with their offset"
        )
    return local.dt.tz_convert("UTC").dt.as_unit("us")


# -- words -------------------------------------------------------------------------------


def _words(
    column: pd.Series, name: str, meanings: Mapping[str, str], known: tuple[str, ...], rows: _Rows
) -> pd.Series:
    """Return a column with the words that metrics know, each mapped in any case."""
    folded = {word.strip().casefold(): meaning for word, meaning in meanings.items()}
    for word, meaning in meanings.items():
        if meaning not in known:
            raise InputError(f"{name}s={{{word!r}: {meaning!r}}}: use one of {', '.join(known)}")
    found: dict[object, str | None] = {}
    for line, cell in rows.cells(column):
        word = str(cell).strip()
        if word and word.casefold() not in folded:
            hint = (f'; say what it means: results={{{word!r}: "Failed"}}' if name == "result"
                    else "; leave the column out, then a session with an end is completed")  # fmt: skip
            raise InputError(
                f"{place(rows.source, line)}: {name} {word!r} is not one of {', '.join(known)}{hint}"
            )
        found[cell] = folded.get(word.casefold())
    if all(cell == word for cell, word in found.items()):
        return column
    return column.astype("object").map(found).astype("str")


# -- sizes ---------------------------------------------------------------------------------


def _bytes(column: pd.Series, head: str, reading: Reading, rows: _Rows) -> pd.Series:
    unit = reading.units.get("total_size")
    factors = {name.casefold(): factor for name, factor in _UNITS.items()}
    if unit is not None and unit.casefold() not in factors:
        raise InputError(f"units={{'total_size': {unit!r}}}: use one of {', '.join(_UNITS)}")
    in_head = _UNIT_IN_HEAD.search(head)
    if unit is None and in_head:
        raise InputError(
            f"{rows.source}: column {head!r} is not in bytes; say so: units={{'total_size': '{in_head[1]}'}}"
        )
    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = _numbers(column, reading.decimal, rows)
    if unit is None:
        parts = np.flatnonzero((column.dropna() % 1 != 0).to_numpy())
        if len(parts):
            raise InputError(
                f"{rows.source}: column {head!r} holds parts of a byte, such as "
                f"{column.dropna().iloc[int(parts[0])]}; say its unit: units={{'total_size': 'GB'}}"
            )
        return column.astype("Int64")
    return (column * factors[unit.casefold()]).round().astype("Int64")


def _numbers(column: pd.Series, decimal: str | None, rows: _Rows) -> pd.Series:
    cells = [(line, str(cell).strip()) for line, cell in rows.cells(column)]
    for line, text in cells:
        if text and not _NUMBER.fullmatch(text):
            raise InputError(f"{place(rows.source, line)}: size {text!r} is not a number")
    sign = decimal or _decimal_sign([text for _, text in cells], rows)
    dropped = re.compile(r"[.,' \u00a0\u202f]".replace(sign, ""))
    values = {text: float(dropped.sub("", text).replace(sign, ".")) for _, text in cells if text}
    return column.map(
        lambda cell: values.get(str(cell).strip(), np.nan), na_action="ignore"
    ).astype("Float64")


def _decimal_sign(texts: list[str], rows: _Rows) -> str:
    """Return the sign before decimals: what comes last, or is not followed by three digits."""
    decided = {
        text[max(text.rfind(","), text.rfind("."))]
        for text in texts
        if ("," in text and "." in text) or _DECIMALS.fullmatch(text)
    }
    if len(decided) == 1:
        return decided.pop()
    unclear = next((text for text in texts if "," in text or "." in text), None)
    if unclear is None:
        return "."
    raise InputError(
        f"{rows.source}: in the size {unclear!r} the sign may part thousands or decimals; "
        'say decimal="," or decimal="."'
    )
