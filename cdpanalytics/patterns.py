"""The one rule of which names a pattern means: globs, in any case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import translate
from typing import TypeAlias

from cdpanalytics.errors import InputError

Patterns: TypeAlias = str | Sequence[str] | None
"""Names or glob patterns, of which one must fit; None: all do."""

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
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    fits = re.compile("|".join(translate(each.casefold()) for each in given) or r"(?!)")
    return [name for name in names if fits.match(name.casefold()) or name in given]


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
    matched: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        fits = fitting(known, pattern)
        if not fits:
            raise InputError(f"no {what} matches {pattern!r} (known: {_some(known, pattern)})")
        matched.update(fits)
    return sorted(matched)


def _some(known: Sequence[str], pattern: str) -> str:
    """Return a few of the known names, those most like the pattern first."""
    if len(known) <= _LISTED:
        return ", ".join(known) or "none"
    by_lower = {name.casefold(): name for name in known}
    near = get_close_matches(pattern.casefold(), by_lower, _LISTED, 0.5)
    listed = dict.fromkeys([*(by_lower[name] for name in near), *known])
    return ", ".join([*listed][:_LISTED]) + f", ... {len(known):,} in all"
