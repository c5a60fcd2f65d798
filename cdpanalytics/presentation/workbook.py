"""Write tables as sheets of an Excel workbook: real dates and durations, units in the heads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from cdpanalytics.errors import InputError
from cdpanalytics.presentation import formatting
from cdpanalytics.presentation.plain import is_missing

ROWS = 1_048_576
"""Rows that a sheet can hold, its head included."""

_MILLISECOND = pd.Timedelta("1ms")
_WIDEST = 48
_OPTIONS = {
    # Text from the server is text: never a formula, a link or a number.
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "nan_inf_to_errors": False,
    "in_memory": True,
}
_FORMATS = {
    "head": {"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"},
    "title": {"bold": True, "font_size": 14},
    "note": {"text_wrap": True, "valign": "top"},
    "date": {"num_format": "yyyy-mm-dd hh:mm:ss.000", "align": "left"},
    "duration": {"num_format": "[h]:mm:ss"},
    "share": {"num_format": "0.0000%"},
    "count": {"num_format": "#,##0"},
    "number": {"num_format": "#,##0.00"},
    "bytes": {"num_format": "#,##0"},
}
SEVERITY = (
    ("#EAF1F7", "#24292F"),
    ("#F5C98B", "#24292F"),
    ("#E08214", "#24292F"),
    ("#B35806", "#FFFFFF"),
)
"""Fill and text colours of the report's map, from no breach to much."""


@dataclass
class Workbook:
    """An Excel workbook in memory, written sheet by sheet.

    Parameters
    ----------
    tz : str
        Zone of all times; Excel knows none, so each head of a time names it.
    heads : mapping, optional
        Words for column names.
    """

    tz: str = "UTC"
    heads: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._body = io.BytesIO()
        self._book = xlsxwriter.Workbook(self._body, _OPTIONS)
        self._formats: dict[str, Format] = {
            name: self._book.add_format(f) for name, f in _FORMATS.items()
        }

    def add_table(self, name: str, table: pd.DataFrame) -> None:
        """Add a table as a sheet with frozen head, filters and colours for shares of adherence.

        Raises
        ------
        InputError
            When it has more rows than a sheet can hold.
        """
        if len(table) >= ROWS:
            raise InputError(
                f"sheet {name!r} would have {len(table) + 1:,} rows, and Excel holds {ROWS:,}; "
                "select a shorter period, or export CSV or Parquet"
            )
        sheet = self._sheet(name)
        shown = formatting.with_utc(formatting.side_by_side(table), self.tz)
        for column, label in enumerate(map(str, shown)):
            kind = _kind(formatting.unit_name(label, shown), shown[label])
            self._write_column(sheet, column, label, shown[label], kind)
        sheet.freeze_panes(1, 0)
        if len(shown.columns):
            sheet.autofilter(0, 0, max(1, len(shown)), len(shown.columns) - 1)
        sheet.repeat_rows(0)

    def add_text(self, name: str, title: str, rows: list[tuple[str, Any]]) -> None:
        """Add a sheet of names and values below a title."""
        sheet = self._sheet(name)
        sheet.write_string(0, 0, title, self._formats["title"])
        sheet.set_column(0, 0, 28)
        sheet.set_column(1, 1, 90)
        for number, (label, value) in enumerate(rows, 2):
            sheet.write_string(number, 0, label, self._formats["head"])
            self._write(sheet, number, 1, value, _kind(label, pd.Series([value])))

    def to_bytes(self) -> bytes:
        """Close the workbook and return its bytes."""
        self._book.close()
        return self._body.getvalue()

    def _sheet(self, name: str) -> Worksheet:
        sheet = self._book.add_worksheet(name)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.set_footer("&L&A&RPage &P of &N")
        return sheet

    def _write_column(
        self, sheet: Worksheet, column: int, label: str, values: pd.Series, kind: str
    ) -> None:
        sheet.write_string(0, column, self._head(label, kind), self._formats["head"])
        for row, value in enumerate(values, 1):
            self._write(sheet, row, column, value, kind)
        widest = max((len(formatting.word(label, value)) for value in values.head(200)), default=0)
        sheet.set_column(column, column, {"date": 24}.get(kind, min(_WIDEST, max(12, widest + 2))))
        if label.startswith("adherence") and len(values):
            self._colour(sheet, column, len(values))

    def _head(self, label: str, kind: str) -> str:
        zone = "UTC" if label.endswith(" (UTC)") else self.tz
        name = self.heads.get(label.removesuffix(" (UTC)"), label.removesuffix(" (UTC)"))
        unit = {"date": f"({zone})", "duration": "(h:mm:ss)", "bytes": "(bytes)"}.get(kind, "")
        return f"{name} {unit}".strip()

    def _write(self, sheet: Worksheet, row: int, column: int, value: Any, kind: str) -> None:
        if is_missing(value):
            return
        style = self._formats.get(kind)
        if isinstance(value, pd.Timestamp):
            local = (
                value.tz_convert(self.tz) if value.tzinfo is not None and kind == "date" else value
            )
            sheet.write_datetime(
                row, column, local.tz_localize(None).round("ms").to_pydatetime(), style
            )
        elif isinstance(value, pd.Timedelta):
            sheet.write_number(row, column, value / _MILLISECOND / 86_400_000, style)
        elif isinstance(value, bool | np.bool_):
            sheet.write_boolean(row, column, bool(value))
        elif isinstance(value, int | float | np.integer | np.floating):
            sheet.write_number(
                row,
                column,
                float(value) if isinstance(value, float | np.floating) else int(value),
                style,
            )
        else:
            sheet.write_string(row, column, formatting.printable(str(value))[:32_767])

    def _colour(self, sheet: Worksheet, column: int, rows: int) -> None:
        """Colour adherence by the levels of the report's map."""
        edges = [1.0, *(1 - level for level in formatting.LEVELS)]
        for lowest, (fill, ink) in zip(edges, SEVERITY, strict=True):
            style = self._book.add_format({"bg_color": fill, "font_color": ink})
            rule = {
                "type": "cell",
                "criteria": ">=",
                "value": lowest,
                "format": style,
                "stop_if_true": True,
            }
            sheet.conditional_format(
                1, column, rows, column, {"type": "blanks", "stop_if_true": True}
            )
            sheet.conditional_format(1, column, rows, column, rule)


def _kind(label: str, values: pd.Series) -> str:
    if pd.api.types.is_timedelta64_dtype(values.dtype):
        return "duration"
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return "date"
    return formatting.kind_of(label) or ("count" if pd.api.types.is_integer_dtype(values.dtype) else
                                         "number" if pd.api.types.is_float_dtype(values.dtype) else "text")  # fmt: skip
