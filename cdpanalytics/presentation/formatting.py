"""Result tables as text: exact values for machines, words with units for people; computes nothing."""

from __future__ import annotations

import io
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.presentation.plain import is_missing, values_of

MISSING = "–"
"""What stands where nothing is known."""

LEVELS = (0.01, 0.05, 0.2)
"""Shares of a period in breach at which a map of it grows darker."""

_BYTES = ("size", "rolling", "projected", "projected_low", "projected_high", "total_size", "expected",
          "residual")  # fmt: skip
_SLOPES = ("slope", "slope_low", "slope_high")
_SHARES = ("adherence", "adherence_strict", "gap_adherence", "success_rate", "on_cadence", "growth",
           "restorable_share", "within_share", "share", "objective", "elapsed", "explains", "explained",
           "adherence_before", "adherence_full", "success_low", "success_high", "all_protected",
           "cause_share", "incident_share", "hour_share", "weekday_share", "adherence_without")  # fmt: skip
_CHANCES = ("chance", "hour_chance", "weekday_chance")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def records(table: pd.DataFrame, tz: str = "UTC") -> list[dict[str, Any]]:
    """Return a table's rows as plain values.

    Parameters
    ----------
    table : pandas.DataFrame
        Any result or session frame.
    tz : str
        Zone whose offset instants have.

    Returns
    -------
    list of dict
        Durations in seconds, sizes in bytes, instants as ISO 8601 text, None where
        nothing is known; floats unrounded.

    Examples
    --------
    >>> records(pd.DataFrame({"vm": ["a"], "breached": pd.to_timedelta(["90min"])}))
    [{'vm': 'a', 'breached': 5400.0}]
    """
    names = table.columns.tolist()  # to iterate an Index of text costs more than a row
    columns = [values_of(table[name], tz) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def json_text(table: pd.DataFrame) -> str:
    """Return a table as a JSON array of objects, one a line."""
    rows = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in records(table))
    return "[" + ",\n ".join(rows) + "]\n"


def json_document(table: pd.DataFrame, provenance: Mapping[str, Any]) -> str:
    """Return a table as a JSON object: `provenance`, and the array of `json_text` as `rows`."""
    origin = json.dumps(
        provenance, ensure_ascii=False, allow_nan=False,
        default=lambda instant: instant.tz_convert("UTC").isoformat().replace("+00:00", "Z"),
    )  # fmt: skip
    return f'{{"provenance": {origin},\n"rows": {json_text(table).rstrip()}}}\n'


def csv_text(table: pd.DataFrame, tz: str = "UTC") -> str:
    """Return a table as CSV for programs.

    Durations are seconds, sizes bytes, times ISO 8601 with the offset of the zone; text that
    a spreadsheet would take for a formula gets a leading '.
    """
    rows = [{name: _inert(value) for name, value in row.items()} for row in records(table, tz)]
    frame = pd.DataFrame(rows, columns=list(table.columns), dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")


@dataclass(frozen=True)
class Spreadsheet:
    """How the spreadsheet program of a country reads CSV.

    Parameters
    ----------
    separator : str
        Between the columns.
    decimal : str
        The decimal sign of numbers.
    """

    separator: str = ","
    decimal: str = "."

    def __post_init__(self) -> None:
        if self.separator == self.decimal:
            raise InputError(
                f"the separator and the decimal sign are both {self.separator!r}; use another separator"
            )

    def text(self, table: pd.DataFrame, tz: str) -> str:
        """Return a table as CSV with a byte-order mark, as Excel opens it by a double click.

        Durations are seconds and sizes bytes, as their heads say; times are local times of
        the zone in their heads, to the millisecond, with a column of UTC beside them where
        the offset of the zone changes. Text is never a formula.
        """
        shown = with_utc(table, tz)
        heads = [self._head(str(name), shown[name], tz) for name in shown.columns]
        rows = [
            [self._cell(value) for value in row.values()]
            for row in records(self._local(zoned(shown, tz)))
        ]
        frame = pd.DataFrame(rows, columns=heads, dtype=object)
        body: str = frame.to_csv(index=False, sep=self.separator, lineterminator="\r\n")
        return f"\ufeff{body}"

    def _cell(self, value: Any) -> Any:
        if isinstance(value, float):
            return repr(value).replace(".", self.decimal)
        if isinstance(value, bool):
            return str(value).upper()
        return _inert(value)

    @staticmethod
    def _head(name: str, values: pd.Series, tz: str) -> str:
        if pd.api.types.is_timedelta64_dtype(values.dtype):
            return f"{name} (s)"
        bytes_unit = " (bytes)" if kind_of(unit_name(name, values.to_frame())) == "bytes" else ""
        return f"{zoned_head(name, values, tz)}{bytes_unit}"

    def _local(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with wall times as text."""
        written = f"%Y-%m-%d %H:%M:%S{self.decimal}%f"
        times = [name for name in table if pd.api.types.is_datetime64_any_dtype(table[name].dtype)]
        wall = {
            str(name): table[name].dt.tz_localize(None).dt.round("ms").dt.strftime(written).str[:-3]
            for name in times
        }
        return table.assign(**wall)


def with_utc(table: pd.DataFrame, tz: str) -> pd.DataFrame:
    """Put a column of UTC beside each column of local times whose offset changes in it.

    It is named like the other with " (UTC)" after it, and has no zone of its own.
    """
    shown = table.reset_index(drop=True)
    for label in list(shown):
        values = shown[label]
        if not isinstance(values.dtype, pd.DatetimeTZDtype) or tz == "UTC":
            continue
        local = values.dropna().dt.tz_convert(tz)
        if local.map(lambda stamp: stamp.utcoffset()).nunique() > 1:
            utc = values.dt.tz_convert("UTC").dt.tz_localize(None)
            shown.insert(list(shown).index(label) + 1, f"{label} (UTC)", utc)
    return shown


def parquet(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet, types as they are."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def text(table: pd.DataFrame, tz: str = "UTC") -> str:
    """Return a table for a terminal: words with units, times of a zone that their heads name."""
    if table.empty:
        return "nothing to show\n"
    table = side_by_side(table)
    shown = format_table(zoned(table, tz))
    shown.columns = pd.Index([zoned_head(str(name), table[name], tz) for name in table.columns])
    columns = [[str(name), *shown.iloc[:, place]] for place, name in enumerate(shown)]
    widths = [max(map(len, cells)) for cells in columns]
    padded = (
        map(str.rjust, cells, repeat(width)) for cells, width in zip(columns, widths, strict=True)
    )
    return "\n".join(map(" ".join, zip(*padded, strict=True))) + "\n"


def zoned(table: pd.DataFrame, tz: str) -> pd.DataFrame:
    """Return a table with its instants in a zone."""
    times = [name for name in table if isinstance(table[name].dtype, pd.DatetimeTZDtype)]
    return table.assign(**{str(name): table[name].dt.tz_convert(tz) for name in times})


def zoned_head(head: str, values: pd.Series, tz: str) -> str:
    """Return the head of a column; that of instants, and of hours of the day, names their zone.

    Examples
    --------
    >>> zoned_head("Start", pd.Series(pd.to_datetime(["2026-10-01T00:00Z"])), "Europe/Berlin")
    'Start (Europe/Berlin)'
    """
    of_clock = isinstance(values.dtype, pd.DatetimeTZDtype) or values.name == "hour"
    return f"{head} ({tz})" if of_clock else head


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with adherence as asked beside what it is with what was left out.

    Examples
    --------
    >>> table = pd.DataFrame({"adherence": [1.0], "gaps": [0], "adherence_full": [0.9]})
    >>> side_by_side(table).columns.tolist()
    ['adherence', 'adherence_full', 'gaps']
    """
    if not {"adherence", "adherence_full"} <= set(table):
        return table
    columns = [name for name in table if name != "adherence_full"]
    columns.insert(columns.index("adherence") + 1, "adherence_full")
    return table[columns]


def leaves_out(adherence: Mapping[Any, Any] | pd.Series) -> bool:
    """Return whether time of a row of `metrics.rpo_adherence` was excluded or retired."""
    return bool(adherence["excluded"] or adherence["retired"])


def format_table(table: pd.DataFrame, of: str | None = None) -> pd.DataFrame:
    """Return a table with each value as a person reads it; column names as they were.

    Parameters
    ----------
    table : pandas.DataFrame
    of : str, optional
        The column name whose words all numbers get, where columns are named otherwise: a
        table turned so that each policy is a column of sizes is of ``"size"``.
    """
    return pd.DataFrame(
        {name: words(of or unit_name(name, table), table[name]) for name in table.columns},
        dtype=object,
    )


def words(name: str, values: pd.Series) -> Sequence[str] | np.ndarray:
    """Return the words of a column, made once for each distinct value."""
    if values.dtype == object:
        return [word(name, value) for value in values]
    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    return np.array([word(name, value) for value in distinct], dtype=object)[codes]


def unit_name(column: str, table: pd.DataFrame) -> str:
    """Return the column whose unit a column has: a change is of sizes or of adherence, a side's of its figure."""
    if column == "difference":
        return "change"
    for side in ("_left", "_right"):  # of two groups side by side
        column = column.removesuffix(side)
    return "size" if column == "change" and "size" in table else column


def why_unknown(objective: Mapping[Any, Any] | pd.Series) -> str:
    """Return why it is not known whether a row of `metrics.objectives` is met.

    Examples
    --------
    >>> why_unknown({"observed": pd.Timedelta("1h"), "undecided": 2})
    '2 VMs never seen, or unknown at the end'
    >>> why_unknown({"observed": pd.Timedelta(0)}), why_unknown({"observed": pd.Timedelta("1h")})
    ('nothing observed', 'no target known')
    """
    if not objective["observed"]:
        return "nothing observed"
    count = objective.get("undecided")
    if not is_missing(count) and count:
        return f"{count:,} VM{'s' if count > 1 else ''} never seen, or unknown at the end"
    return "no target known"


def length(value: object) -> str:
    """Return a length of time as `duration` writes it, and one that was given as text as it is."""
    return duration(value) if isinstance(value, pd.Timedelta) else str(value)


@lru_cache(4096)
def duration(length: pd.Timedelta) -> str:
    """Return a length of time by its two largest units.

    Examples
    --------
    >>> duration(pd.Timedelta("6h 12min 59s")), duration(pd.Timedelta("45s")), duration(pd.NaT)
    ('6 h 12 min', '45 s', '–')
    >>> duration(pd.Timedelta("1742D 6h"))
    '1,742 d 6 h'
    """
    if pd.isna(length):
        return MISSING
    seconds = length.total_seconds()
    if seconds < 0:
        return f"-{duration(-length)}"
    if seconds == 0:
        return "0 s"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds == int(seconds) else f"{seconds:.1f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    first = next(number for number, (_, step) in enumerate(units) if seconds >= step)
    parts = []
    for name, step in units[first : first + 2]:
        count, seconds = divmod(seconds, step)
        parts.append(f"{int(count):,} {name}" if count else "")
    return " ".join(part for part in parts if part)


def share(ratio: float) -> str:
    """Return a ratio as a percentage, cut and not rounded: only the whole is 100 %.

    Examples
    --------
    >>> share(1.0), share(0.999999), share(0.625), share(0.00005), share(float("nan"))
    ('100 %', '99.99 %', '62.50 %', '<0.01 %', '–')
    """
    if pd.isna(ratio):
        return MISSING
    cut = math.floor(ratio * 10_000 + 1e-9) / 100
    if cut == 0 < ratio:
        return "<0.01 %"
    if ratio < 1:
        cut = min(cut, 99.99)
    return f"{cut:.0f} %" if cut in (0, 100) else f"{cut:.2f} %"


def whole_percent(ratio: float) -> str:
    """Return a ratio in whole percents, cut and not rounded, for a sentence.

    Examples
    --------
    >>> whole_percent(0.396), whole_percent(0.004), whole_percent(1.0)
    ('39 %', 'less than 1 %', '100 %')
    """
    if pd.isna(ratio):
        return MISSING
    cut = math.floor(100 * ratio + 1e-9)
    return f"{cut} %" if cut >= 1 else "less than 1 %"


def chance(probability: float) -> str:
    """Return a probability in percent, small ones as what they are below.

    Examples
    --------
    >>> chance(1.0), chance(0.083), chance(0.00012), chance(3e-10)
    ('100 %', '8 %', '0.01 %', '<0.01 %')
    """
    if pd.isna(probability):
        return MISSING
    if probability < 0.0001:
        return "<0.01 %"
    return f"{100 * probability:.2f} %" if probability < 0.01 else f"{100 * probability:.0f} %"


def severity(adherence: float) -> int | None:
    """Return how dark a cell of a map is, 0 for no breach; None where nothing is known.

    Examples
    --------
    >>> severity(1.0), severity(0.995), severity(0.5), severity(float("nan"))
    (0, 1, 4, None)
    """
    if pd.isna(adherence):
        return None
    breached = 1 - adherence
    return 0 if breached <= 0 else 1 + bisect_right(LEVELS, breached)


def percent(adherence: float) -> str:
    """Return what was breached in whole percents, as a cell of a map has room for.

    Examples
    --------
    >>> percent(0.999), percent(0.86)
    ('<1', '14')
    """
    breached = 100 * (1 - adherence)
    return "<1" if breached < 1 else f"{math.floor(breached + 1e-9)}"


def size(amount: float) -> str:
    """Return bytes in the largest binary unit that leaves a number of at least one.

    Examples
    --------
    >>> size(17179869184), size(-512)
    ('16.0 GiB', '-512 B')
    """
    if pd.isna(amount):
        return MISSING
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(int(math.log(max(abs(amount), 1), 1024)), len(units) - 1)
    return f"{amount / 1024**power:.{0 if power == 0 else 1}f} {units[power]}"


def instant(stamp: pd.Timestamp) -> str:
    """Return an instant to the minute, in its own zone; with its offset where the hour comes twice.

    Examples
    --------
    >>> night = pd.Timestamp("2026-10-25 00:30", tz="UTC").tz_convert("Europe/Berlin")
    >>> instant(night), instant(night + pd.Timedelta("3h"))
    ('2026-10-25 02:30+02:00', '2026-10-25 04:30')
    """
    if pd.isna(stamp):
        return MISSING
    text = f"{stamp:%Y-%m-%d %H:%M}"
    wall = stamp.to_pydatetime(warn=False)
    twice = wall.replace(fold=0).utcoffset() != wall.replace(fold=1).utcoffset()
    return stamp.isoformat(" ", timespec="minutes") if twice else text


def between(start: pd.Timestamp, end: pd.Timestamp, tz: str) -> str:
    """Return two instants on the wall of a zone: the date of the second only where it differs.

    Examples
    --------
    >>> night = pd.Timestamp("2026-11-04 23:12", tz="UTC")
    >>> between(night, night + pd.Timedelta("1h"), "UTC")
    '4 Nov 23:12 to 5 Nov 00:12'
    """
    first, last = start.tz_convert(tz), end.tz_convert(tz)
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last.day} {last:%b %H:%M}"
    return f"{first.day} {first:%b %H:%M} to {until}"


def _inert(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def word(name: str, value: Any) -> str:
    """Return the words for a value of a column."""
    if is_missing(value) or value is pd.NaT:
        return MISSING
    if isinstance(value, pd.Timedelta):
        return duration(value)
    if isinstance(value, pd.Timestamp):
        return instant(value)
    if name in _BY_NAME:
        return _BY_NAME[name](value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return printable(str(value))


def _number(value: float) -> str:
    return f"{value:,.2f}"


_BY_NAME: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(_BYTES, size),
    **dict.fromkeys(_SLOPES, lambda value: f"{size(value)}/d"),
    **dict.fromkeys(_SHARES, share),
    **dict.fromkeys(_CHANCES, chance),
    **dict.fromkeys(("burn_rate", "score"), _number),
    "change": lambda value: f"{100 * value:+,.2f} points",
}


def printable(text: str) -> str:
    """Return a text with a replacement character for each control character."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def kind_of(column: str) -> str | None:
    """Return what the numbers of a column are: "bytes", "share", or None for plain numbers."""
    if column in (*_BYTES, *_SLOPES):
        return "bytes"
    return "share" if column in _SHARES else None
