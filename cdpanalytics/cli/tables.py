"""Write a result table in the format and to the place that the options name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cdpanalytics.cli import options as shared
from cdpanalytics.errors import InputError
from cdpanalytics.presentation import output

if TYPE_CHECKING:
    import pandas as pd

    from cdpanalytics.presentation.formatting import Spreadsheet

_BINARY = ("parquet", "xlsx")


def prepare(options: argparse.Namespace) -> None:
    """Refuse a format and destination that do not fit, before the work of making the table.

    Raises
    ------
    InputError
        When the output cannot be written, binary data would go to a terminal, or a separator
        or decimal sign is given for another format than csv-excel.
    """
    output.check(options.output, binary=options.format in _BINARY)
    if options.format == "csv-excel":
        _spreadsheet(options)
    elif options.separator or options.decimal:
        raise InputError(
            f"--separator and --decimal go with --format csv-excel, not {options.format}"
        )
    if getattr(options, "provenance", False) and options.format != "json":
        raise InputError(f"--provenance goes with --format json, not {options.format}")


def emit(
    table: pd.DataFrame,
    options: argparse.Namespace,
    tz: str = "UTC",
    provenance: dict[str, Any] | None = None,
) -> int:
    """Write a table as ``--format`` and ``--output`` say, and return 0.

    Times are of the zone, whose name or offset they carry; JSON and Parquet are UTC. JSON has
    the `provenance` where it is given.
    """
    prepare(options)
    if provenance is not None:
        output.write_text(options.output, _document(table, provenance))
    elif options.format in _BINARY:
        output.write(options.output, _binary(table, options, tz))
    elif options.format == "table" and output.is_stdout(options.output):
        output.print_table(_text(table, options, tz))
    else:
        output.write_text(options.output, _text(table, options, tz))
    return 0


def _binary(table: pd.DataFrame, options: argparse.Namespace, tz: str) -> bytes:
    from cdpanalytics.presentation import formatting
    from cdpanalytics.presentation.html import HEADINGS
    from cdpanalytics.presentation.workbook import Workbook

    if options.format == "parquet":
        return formatting.parquet(table)
    book = Workbook(tz, HEADINGS)
    book.add_table(getattr(options, "metric", None) or "query", table)
    return book.to_bytes()


def _document(table: pd.DataFrame, provenance: dict[str, Any]) -> str:
    from cdpanalytics.presentation import formatting

    return formatting.json_document(table, provenance)


def _text(table: pd.DataFrame, options: argparse.Namespace, tz: str) -> str:
    from cdpanalytics.presentation import formatting

    if options.format == "json":
        return formatting.json_text(table)
    if options.format == "csv":
        return formatting.csv_text(table, tz)
    if options.format == "csv-excel":
        return _spreadsheet(options).text(table, tz)
    return formatting.text(table, tz)


def _spreadsheet(options: argparse.Namespace) -> Spreadsheet:
    from cdpanalytics.presentation.formatting import Spreadsheet

    decimal = options.decimal or "."
    separator = options.separator or (";" if decimal == "," else ",")
    return Spreadsheet(shared.SEPARATORS[separator], decimal)
