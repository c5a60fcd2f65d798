"""The one rule of which names a pattern means: globs, in any case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import translate
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError

Patterns: TypeAlias = str | Sequence[str] | None
"""Names or glob patterns, of which one must fit; None: all do."""

CALLED = {"policy": "policy", "vm": "VM", "backup_server": "backup server"}
"""What messages call the names of a column."""

_LISTED = 5
"""How many known names a message lists."""


def fitting(names: Iterable[str], patterns: str | Sequence[str]) -> list[str]:
    """Return the names that fit one of some patterns, in any case, or are one to the letter.

    Examples
    --------
    >>> fitting(["Gold", "gold [2]", "Silver"], ["GOLD*"]), fitting(["gold [2]"], "gold [2]")
    (['Gold', 'gold [2]'], ['gold [2]'])
    >>> fitting(["Gold"], [])
    []
    """
    given = {patterns} if isinstance(patterns, str) else set(patterns)
    plain = {each.casefold() for each in given if not is_pattern(each)}
    globs = _compiled(each for each in given if is_pattern(each))
    return [
        name
        for name in names
        if name in given or name.casefold() in plain or globs.match(name.casefold())
    ]


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(each.casefold()) for each in patterns) or r"(?!)")


def matching(names: Iterable[object], patterns: str | Sequence[str], what: str) -> list[str]:
    """Return the names that fit one of some patterns, sorted; each pattern must fit a name.

    Parameters
    ----------
    names : iterable of str
        Names as often as they come; what is missing (None, NaN, NA) is left out.
    patterns : str or list of str
        Names or glob patterns, in any case. No patterns fit no names.
    what : str
        What the names are, for the message: ``"policy"``, ``"VM"``, ``"backup server"``.

    Raises
    ------
    InputError
        If a pattern fits no name; the message names those that come nearest, or the first.

    Examples
    --------
    >>> matching(["web-1", "sql-1", "WEB-2", None], "web-*", "VM")
    ['WEB-2', 'web-1']
    >>> matching(["Gold", "Silver"], ["Gold", "Golf"], "policy")
    Traceback (most recent call last):
    ...
    cdpanalytics.errors.InputError: no policy matches 'Golf' (known: Gold, Silver)
    """
    known = sorted({name for name in names if isinstance(name, str)})
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    matched = set(fitting(known, given))
    for pattern in sorted(set(given) - matched, key=given.index):
        if not fitting(known, pattern):
            raise InputError(f"no {what} matches {pattern!r} (known: {_some(known, pattern)})")
    return sorted(matched)


def is_pattern(text: str) -> bool:
    """Return whether a text has characters that make it a glob pattern.

    Examples
    --------
    >>> is_pattern("web-*"), is_pattern("web-1")
    (True, False)
    """
    return any(character in text for character in "*?[")


def literal_characters(pattern: str) -> int:
    """Return how many characters of a pattern match only themselves: the more, the more specific.

    Examples
    --------
    >>> literal_characters("web-*"), literal_characters("web-[12]?")
    (4, 4)
    """
    return len(re.sub(r"\[[^]]*\]|[*?]", "", pattern))


class Names:
    """A column of names, to be asked many times which of its rows a pattern fits.

    Parameters
    ----------
    names : pandas.Series or iterable
        One name per row; missing ones fit no pattern.

    Examples
    --------
    >>> names = Names(["web-1", "sql-1", "WEB-1", None])
    >>> names.positions("web-*"), names.positions("sql-1")
    (array([0, 2]), array([1]))
    """

    def __init__(self, names: Iterable[object]) -> None:
        codes, uniques = pd.factorize(pd.Series(list(names), dtype="object"))
        self._codes = {str(name): code for code, name in enumerate(uniques)}
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(uniques) + 1))
        self._rows = [order[start:end] for start, end in pairwise(edges)]
        self._by_lower: dict[str, list[int]] = {}
        for code, name in enumerate(uniques):
            self._by_lower.setdefault(str(name).casefold(), []).append(code)

    def is_exact(self, text: str) -> bool:
        """Return whether a text means one name: it is not a pattern, or a name to the letter."""
        return not is_pattern(text) or text in self._codes

    def positions_of(self, name: str) -> NDArray[np.int64]:
        """Return the rows that have this very name, in any case."""
        return self._rows_of(self._by_lower.get(name.casefold(), []))

    def positions(self, pattern: str) -> NDArray[np.int64]:
        """Return the rows whose name fits, in order."""
        if not is_pattern(pattern):
            return self.positions_of(pattern)
        fits = _compiled([pattern])
        codes = {code for name, own in self._by_lower.items() if fits.match(name) for code in own}
        if pattern in self._codes:  # as `fitting` has it: a name with brackets fits itself
            codes.add(self._codes[pattern])
        return self._rows_of(sorted(codes))

    def _rows_of(self, codes: Sequence[int]) -> NDArray[np.int64]:
        if not codes:
            return np.zeros(0, dtype=np.int64)
        return np.sort(np.concatenate([self._rows[code] for code in codes]))


def _some(known: Sequence[str], pattern: str) -> str:
    """Return a few of the known names, those most like the pattern first."""
    if len(known) <= _LISTED:
        return ", ".join(known) or "none"
    by_lower = {name.casefold(): name for name in known}
    near = get_close_matches(pattern.casefold(), by_lower, _LISTED, 0.5)
    listed = dict.fromkeys([*(by_lower[name] for name in near), *known])
    return ", ".join([*listed][:_LISTED]) + f", ... {len(known):,} in all"
