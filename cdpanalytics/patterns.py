"""Which names a pattern means: globs, in any case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import TypeAlias

Patterns: TypeAlias = str | Sequence[str] | None
"""Names or glob patterns, of which one must fit; None: all do."""


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
