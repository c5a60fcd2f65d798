"""Read sessions that another program wrote: own heads, local times, day-first dates, decimal commas, own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from cdpanalytics import timeparse
from cdpanalytics.errors import InputError
from cdpanalytics.estate import times
from cdpanalytics.schema import RESULTS, SESSIONS

_TIMES: Final = ("created", "ended", "as_of")
_UNITS: Final = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40, "PB": 2**50}
_UNIT_IN_HEAD: Final = re.compile(r"\b([kmgtp])i?b\b", re.IGNORECASE)
_DOTTED: Final = re.compile(r"\s*\d\d?\.\d\d?\.\d{4}\b")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d{3})*(?:,\d+)?|-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Translation:
    """How the columns, times and words of a foreign frame are to be read.

    Parameters
    ----------
    columns : mapping, optional
        Our column to the frame's: ``{"vm": "Maschine"}``.
    tz : str, optional
        Zone of times without an offset. Without it such times are refused.
    results : mapping, optional
        The frame's words to ours: ``{"Fehler": "Failed"}``.
    units : mapping, optional
        Unit of sizes: ``{"total_size": "GB"}`` (2**30 bytes). Default: bytes.
    day_first : bool, optional
        Whether 01/11/2026 is 1 November. Default: with dots it is, else the dates decide.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    tz: str | None = None
    results: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    day_first: bool | None = None

    def sessions(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with our columns: times in UTC, sizes in bytes, known results.

        Raises
        ------
        InputError
            When a column is missing, a time, number or length cannot be read, a time has no
            zone, sizes are not bytes, or a result is unknown. The row is counted from 1.
        """
        made = self._renamed(frame)
        for name in _TIMES:
            if name in made:
                made[name] = self._instants(made[name])
        for name in ("result", "policy_result"):
            if name in made:
                made[name] = self._results(made[name])
        if "total_size" in made:
            made["total_size"] = self._bytes(made["total_size"])
        if "rpo" in made and pd.api.types.is_string_dtype(made["rpo"].dtype):
            made["rpo"] = _lengths(made["rpo"])
        return made

    def _renamed(self, frame: pd.DataFrame) -> pd.DataFrame:
        for name, head in self.columns.items():
            if name not in SESSIONS.names:
                known = ", ".join(SESSIONS.names)
                raise InputError(
                    f"columns= names {name!r}, which sessions do not have; use {known}"
                )
            if head not in frame:
                known = ", ".join(map(str, frame.columns))
                raise InputError(
                    f"columns= names {head!r}, which the frame does not have (has: {known})"
                )
        replaced = [name for name, head in self.columns.items() if name in frame and name != head]
        heads = {head: name for name, head in self.columns.items()}
        return frame.drop(columns=replaced).rename(columns=heads).copy()

    def _instants(self, values: pd.Series) -> pd.Series:
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            return values
        name = str(values.name)
        known = values.dropna()
        if self.tz is None and not _have_offsets(known):
            raise InputError(
                f"column {name!r} has times without an offset; say whose they are: "
                'df.cdp.select(tz="Europe/Berlin", ...), or tz="UTC"'
            )
        zone = timeparse.zone(self.tz or "UTC")
        rows = enumerate(values, 1)
        lines = {value: row for row, value in reversed(list(rows)) if pd.notna(value)}
        cells = [(row, _cell(value)) for value, row in lines.items()]
        # Dates with dots have the day first wherever they are written; with slashes either.
        dotted = all(isinstance(cell, str) and _DOTTED.match(cell) for _, cell in cells)
        first = True if self.day_first is None and dotted else self.day_first
        order = times.day_order(cells, f"column {name!r}", first)
        instants = times.instants(cells, f"column {name!r}", zone, order)
        read = dict(zip(lines, instants, strict=True))
        stamps = [read[value] if pd.notna(value) else pd.NaT for value in values]
        utc = pd.DatetimeIndex(stamps, tz="UTC").as_unit("us")
        return pd.Series(utc, index=values.index, name=name)

    def _results(self, values: pd.Series) -> pd.Series:
        for word in self.results.values():
            if word not in RESULTS:
                raise InputError(f"results= gives {word!r}; use {', '.join(RESULTS)}")
        words = values.astype("str").map(
            lambda word: self.results.get(word, word), na_action="ignore"
        )
        unknown = words.dropna()[~words.dropna().isin(RESULTS)]
        if len(unknown):
            word = unknown.iloc[0]
            raise InputError(
                f"column {values.name!r} has the result {word!r} in {len(unknown):,} rows; it would count as "
                f'protection. Say what it means: df.cdp.select(results={{{word!r}: "Failed"}}) '
                f"({', '.join(RESULTS)})"
            )
        return words.astype("str")

    def _bytes(self, values: pd.Series) -> pd.Series:
        name = str(values.name)
        unit = self.units.get(name)
        head = self.columns.get(name, name)
        numbers = _numbers(values)
        if unit is None:
            named = _UNIT_IN_HEAD.search(head)
            if named or (numbers.dropna() % 1 != 0).any():
                guess = f"{named[1].upper()}B" if named else "GB"
                raise InputError(
                    f"column {head!r} is not in bytes; say its unit: "
                    f'df.cdp.select(units={{"total_size": "{guess}"}})'
                )
            return numbers.round().astype("Int64")
        factor = _UNITS.get(unit.upper().replace("IB", "B"))
        if factor is None:
            raise InputError(f"units={{{name!r}: {unit!r}}}: not a unit; use {', '.join(_UNITS)}")
        return (numbers * factor).round().astype("Int64")


def _have_offsets(values: pd.Series) -> bool:
    if not pd.api.types.is_string_dtype(values.dtype):
        return not len(values)
    return bool(values.astype("str").str.fullmatch(r".*\d\d?:\d\d.*(?:[Zz]|[+-]\d\d:?\d\d)").all())


def _cell(value: Any) -> Any:
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def _numbers(values: pd.Series) -> pd.Series:
    """Return numbers; text may have a decimal comma, and then points between thousands."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values.astype("Float64")
    text = values.astype("str").str.strip().str.replace("\N{NO-BREAK SPACE}", "")
    wrong = text.dropna()[~text.dropna().str.fullmatch(_NUMBER.pattern)]
    if len(wrong):
        raise InputError(f"column {values.name!r} has {wrong.iloc[0]!r}, not a number")
    if text.str.contains(",", na=False).any():
        text = text.str.replace(".", "").str.replace(",", ".")
    return pd.to_numeric(text).astype("Float64")


def _lengths(values: pd.Series) -> pd.Series:
    read = {text: timeparse.length(text, "rpo") for text in values.dropna().unique()}
    return pd.to_timedelta(values.map(read, na_action="ignore")).astype("timedelta64[us]")
