"""Columns of any dtype as integer codes into their sorted distinct values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.kernels import Integers


@dataclass(frozen=True)
class Codes:
    """A column as codes into its sorted distinct values; -1 is a missing value."""

    codes: Integers
    values: pd.Index

    def at(self, rows: Integers) -> pd.Series:
        """Return the values at `rows` as a column, missing where the code is -1."""
        codes = self.codes[rows]
        values = self.values.array
        if self.values.dtype.kind in "biu" and (codes < 0).any():
            values = self.values.to_series().convert_dtypes().array  # a dtype that has NA
        return pd.Series(values.take(codes, allow_fill=True))

    def rank(self) -> Integers:
        """Return the codes with a missing value behind all others."""
        return np.where(self.codes < 0, len(self.values), self.codes)


def codes_of(column: pd.Series, text: bool = False) -> Codes:
    """Return a column as codes; with `text`, or where its values are text, as text."""
    labels = pd.Categorical(column)
    values = labels.categories.infer_objects()
    if isinstance(values.dtype, pd.StringDtype) and values.is_monotonic_increasing:
        return Codes(labels.codes.astype(np.int64), values)
    if text or _is_text(values):
        # Two categories may read alike as text (1 and "1"), so they are merged by name.
        names = values.astype("str").unique().sort_values()
        return Codes(_recode(labels, names), names)
    if not values.is_monotonic_increasing:
        values = values.sort_values()
        return Codes(_recode(labels, values, text=False), values)
    return Codes(labels.codes.astype(np.int64), values)


def common_codes(first: pd.Series, second: pd.Series, text: bool = False) -> Codes:
    """Return the codes of two columns, one after the other, into values of both."""
    if not len(second):
        return codes_of(first, text)
    if text or _is_text(pd.Categorical(first).categories):
        left, right = codes_of(first, text=True), codes_of(second, text=True)
        if right.values.isin(left.values).all():
            return Codes(np.append(left.codes, _place(right, left.values)), left.values)
        names = left.values.union(right.values).unique().sort_values()
        parts = [_place(side, names) for side in (left, right)]
        return Codes(np.concatenate(parts), names)
    if second.isna().all():
        left = codes_of(first)
        return Codes(np.append(left.codes, np.full(len(second), -1)), left.values)
    return codes_of(pd.concat([first, second], ignore_index=True))


def _is_text(values: pd.Index) -> bool:
    return (
        values.dtype == object or isinstance(values.dtype, pd.StringDtype) or _is_arrow_text(values)
    )


def _is_arrow_text(values: pd.Index) -> bool:
    return isinstance(values.dtype, pd.ArrowDtype) and values.dtype.kind in "OU"


def _recode(column: pd.Categorical, values: pd.Index, text: bool = True) -> Integers:
    """Codes into `values` instead; -1, a missing value, is the place after the last category's."""
    categories = column.categories.astype("str") if text else column.categories.infer_objects()
    place = values.get_indexer(categories)
    return np.append(place, -1).astype(np.int64, copy=False)[column.codes]


def _place(side: Codes, values: pd.Index) -> Integers:
    return np.append(values.get_indexer(side.values), -1).astype(np.int64, copy=False)[side.codes]
