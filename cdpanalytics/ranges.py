"""A range of names: the part of a fleet that one worker reads and computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Range:
    """The names of a column from `first` up to but without `stop`; None means unbounded.

    Rows without a name belong to the range that has no `stop`.

    Examples
    --------
    >>> middle = Range("vm", "db", "web")
    >>> middle.contains(pd.Series(["app-1", "db", "mail", "web", None])).tolist()
    [False, True, True, False, False]
    >>> middle.overlaps("app-1", "cache"), middle.overlaps("app-1", "db")
    (False, True)
    """

    column: str | None
    first: str | None = None
    stop: str | None = None

    @property
    def whole(self) -> bool:
        """Whether it contains every row."""
        return self.column is None or (self.first is None and self.stop is None)

    def contains(self, names: pd.Series) -> NDArray[np.bool_]:
        """Return which of some names lie in it."""
        labels = pd.Categorical(names.astype("str"))
        per_label = [self.overlaps(name, name) for name in labels.categories]
        # Code -1, a missing name, picks the last element.
        return np.array([*per_label, self.stop is None])[labels.codes]

    def overlaps(self, low: str, high: str) -> bool:
        """Return whether a name from `low` to `high`, both included, may lie in it."""
        return (self.first is None or high >= self.first) and (self.stop is None or low < self.stop)


FULL_RANGE: Final = Range(None)
"""The range that contains every row."""
