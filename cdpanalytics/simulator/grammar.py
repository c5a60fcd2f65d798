"""The vendor's filter text as a predicate on columns."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import guids, instants

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]

MISSING = np.iinfo(np.int64).min
"""A number or an instant that is not there: only ``!=`` is true of it."""

_OPERATORS: dict[str, Callable[[Integers, int], Flags]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_CONDITION = re.compile(
    r'\s*([A-Za-z]+)\s*(==|!=|<=|>=|<|>)\s*("(?:[^"]|"")*"|[^;,()"]+)\s*', re.DOTALL
)


class FilterError(Exception):
    """A filter text that the server refuses; the message names the part at fault."""


class Column(Protocol):
    """A queryable column: compared with a literal, and sorted."""

    def compare(self, operator: str, literal: str) -> Flags:
        """Return which rows have this relation to the literal."""

    def rank(self) -> Integers:
        """Return one number per row, in the order of the values."""


@dataclass(frozen=True)
class Numbers:
    """Whole numbers."""

    values: Integers

    def compare(self, operator: str, literal: str) -> Flags:
        """Compare by value."""
        try:
            return _compared(self.values, operator, int(literal))
        except ValueError:
            raise FilterError(f"'{literal}' is not a number") from None

    def rank(self) -> Integers:
        """Return the values."""
        return self.values


@dataclass(frozen=True)
class Instants:
    """Instants in milliseconds; literals with or without Z are UTC, a date is its midnight."""

    values: Integers

    def compare(self, operator: str, literal: str) -> Flags:
        """Compare by time, to the tenth of a microsecond that a literal may carry."""
        exact, beyond = _instant(literal)
        if not beyond:
            return _compared(self.values, operator, exact)
        # Between two milliseconds: nothing equals it, and the order turns just above `exact`.
        turned = {"==": None, "!=": None, "<": "<=", "<=": "<=", ">": ">", ">=": ">"}[operator]
        if turned is None:
            return np.full(len(self.values), operator == "!=")
        return _compared(self.values, turned, exact)

    def rank(self) -> Integers:
        """Return the values."""
        return self.values


@dataclass(frozen=True)
class Texts:
    """Names, each distinct one once, compared in any case; None is missing."""

    labels: Sequence[str | None]
    of: NDArray[np.intp]

    def compare(self, operator: str, literal: str) -> Flags:
        """Compare each distinct name once."""
        wanted = literal.casefold()
        relation = _OPERATORS[operator]
        signs = [
            MISSING if name is None else (name.casefold() > wanted) - (name.casefold() < wanted)
            for name in self.labels
        ]
        values = np.array(signs, dtype=np.int64)
        hits = relation(values, 0)
        hits[values == MISSING] = operator == "!="
        return np.asarray(hits[self.of])

    def rank(self) -> Integers:
        """Return places in alphabetical order, missing first."""
        order = sorted(range(len(self.labels)), key=lambda n: (self.labels[n] or "").casefold())
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order))
        return np.asarray(places[self.of])


@dataclass(frozen=True)
class Enumeration:
    """Words with an order, compared by their place in it."""

    words: Sequence[str]
    of: Integers

    def compare(self, operator: str, literal: str) -> Flags:
        """Compare by place."""
        places = [word.casefold() for word in self.words]
        if literal.casefold() not in places:
            raise FilterError(f"'{literal}' is not one of {', '.join(self.words)}")
        return _compared(self.of, operator, places.index(literal.casefold()))

    def rank(self) -> Integers:
        """Return the places."""
        return self.of


@dataclass(frozen=True)
class Identifiers:
    """GUIDs, each distinct one once; literals are bare or URNs."""

    guids: guids.Guids
    of: NDArray[np.intp]

    def compare(self, operator: str, literal: str) -> Flags:
        """Compare as the sixteen bytes they are."""
        parsed = guids.parse(literal)
        if parsed is None:
            raise FilterError(f"'{literal}' is not an identifier")
        high, low = (np.uint64(word) for word in parsed)
        above = (self.guids.high > high) | ((self.guids.high == high) & (self.guids.low > low))
        same = (self.guids.high == high) & (self.guids.low == low)
        signs = np.where(same, 0, np.where(above, 1, -1)).astype(np.int64)
        return np.asarray(_OPERATORS[operator](signs, 0)[self.of])

    def rank(self) -> Integers:
        """Return places in the order of their digits."""
        order = guids.order(self.guids, sql_server=False)
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order))
        return np.asarray(places[self.of])


Columns = Mapping[str, Callable[[], Column]]


def select(text: str, columns: Columns, count: int) -> Flags:
    """Return which of `count` rows a filter text selects.

    Parameters
    ----------
    text : str
        Conditions joined by ``;`` (and) and ``,`` (or, binding less), grouped by ``( )``.
    columns : mapping
        Field names in lower case to what makes their column; only those asked for are made.
    count : int
        Number of rows.

    Raises
    ------
    FilterError
        When the text cannot be read, names no field, or compares with no value of its kind.
    """
    if not text.strip():
        return np.ones(count, dtype=np.bool_)
    reader = _Reader(text, columns)
    chosen = reader.alternatives()
    if reader.rest():
        raise FilterError(f"unexpected '{reader.rest()[:40]}'")
    return chosen


@dataclass
class _Reader:
    text: str
    columns: Columns
    at: int = 0

    def rest(self) -> str:
        return self.text[self.at :].strip()

    def alternatives(self) -> Flags:
        chosen = self.conjunction()
        while self._take(","):
            chosen = chosen | self.conjunction()
        return chosen

    def conjunction(self) -> Flags:
        chosen = self.condition()
        while self._take(";"):
            chosen = chosen & self.condition()
        return chosen

    def condition(self) -> Flags:
        if self._take("("):
            chosen = self.alternatives()
            if not self._take(")"):
                raise FilterError("a ) is missing")
            return chosen
        match = _CONDITION.match(self.text, self.at)
        if match is None:
            raise FilterError(f"no condition at '{self.rest()[:40]}'")
        self.at = match.end()
        name, operator, value = match.groups()
        if name.casefold() not in self.columns:
            raise FilterError(f"unknown field '{name}'")
        literal = value[1:-1].replace('""', '"') if value[0] == '"' else value.replace(" ", "")
        return self.columns[name.casefold()]().compare(operator, literal)

    def _take(self, mark: str) -> bool:
        self._skip()
        if self.text[self.at : self.at + 1] != mark:
            return False
        self.at += 1
        return True

    def _skip(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1


def _compared(values: Integers, operator: str, literal: int) -> Flags:
    hits = _OPERATORS[operator](values, literal)
    return np.where(values == MISSING, operator == "!=", hits)


def _instant(literal: str) -> tuple[int, bool]:
    """Milliseconds of a literal, and whether it lies beyond them by less than one."""
    head, _, fraction = literal.strip().rstrip("Zz").partition(".")
    if fraction and not (fraction.isdigit() and len(fraction) <= 7):
        raise FilterError(f"'{literal}' is not a date")
    try:
        moment = datetime.fromisoformat(head)
    except ValueError:
        raise FilterError(f"'{literal}' is not a date") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    digits = fraction.ljust(7, "0")
    return instants.from_datetime(moment) + int(digits[:3] or 0), bool(int(digits[3:] or 0))
