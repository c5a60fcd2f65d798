"""Write a result table in the format and to the place that the options name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cdpanalytics.presentation import output

if TYPE_CHECKING:
    import pandas as pd


def prepare(options: argparse.Namespace) -> None:
    """Refuse a format and destination that do not fit, before the work of making the table.

    Raises
    ------
    InputError
        When the output cannot be written, or binary data would go to a terminal.
    """
    output.check(options.output, binary=options.format == "parquet")


def emit(table: pd.DataFrame, options: argparse.Namespace) -> int:
    """Write a table as ``--format`` and ``--output`` say, and return 0."""
    from cdpanalytics.presentation import formatting

    prepare(options)
    if options.format == "parquet":
        output.write(options.output, formatting.parquet(table))
    elif options.format == "table" and output.is_stdout(options.output):
        output.print_table(formatting.text(table))
    else:
        writers = {
            "json": formatting.json_text,
            "csv": formatting.csv_text,
            "table": formatting.text,
        }
        output.write_text(options.output, writers[options.format](table))
    return 0
