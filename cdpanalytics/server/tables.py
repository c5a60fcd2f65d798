"""What the pages of an answer become: one table, each uid once, and the rows with given names."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.patterns import CALLED, Patterns, matching
from cdpanalytics.server.paging import DatedPage


def joined(pages: Iterable[DatedPage], shape: pa.Schema) -> pa.Table:
    """Return the rows of all pages with `as_of`; a table without rows where there are no pages."""
    dated = shape.append(pa.field("as_of", schema.INSTANT))
    tables = [page.table() for page in pages]
    return pa.concat_tables([dated.empty_table(), *tables]).unify_dictionaries()


def unique(table: pa.Table, key: str = "uid") -> pa.Table:
    """Return each key once, as the last page has it."""
    again = table[key].to_pandas().duplicated(keep="last").to_numpy()
    return table.filter(pa.array(~again)) if again.any() else table.combine_chunks()


def matching_rows(frame: pd.DataFrame, **patterns: Patterns) -> pd.DataFrame:
    """Return the rows whose labels match; a pattern is tried once per label, not once per row."""
    for column, given in patterns.items():
        if given is not None:
            labels = matching(frame[column].cat.categories, given, CALLED[column])
            frame = frame[frame[column].isin(labels)]
    frame = frame.reset_index(drop=True)
    for column in patterns:
        frame[column] = frame[column].cat.remove_unused_categories()
    return frame
