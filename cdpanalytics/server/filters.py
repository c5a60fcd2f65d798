"""Filter text as the vendor's manual writes it; knows the grammar and nothing of HTTP or tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Final, Literal, TypeAlias, cast

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError

FIELDS: Final = (
    "Id",
    "Name",
    "PolicySessionUid",
    "PolicySessionName",
    "BackupServerUid",
    "BackupServerName",
    "CreationTimeUTC",
    "EndTimeUTC",
    "State",
    "Reason",
    "TotalSize",
    "VmDisplayName",
)
"""The parameters documented for CdpReplicaTaskSession; the server reads them in any case."""

Value: TypeAlias = str | int | datetime
"""What a field can be compared with; a `pandas.Timestamp` is a datetime."""

_LETTERS: Final = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition, or several joined; `str()` of it is the text the server reads.

    Made by comparing a `field`; joined with ``&`` and ``|``. Never changes.

    Examples
    --------
    >>> str((field("State") == "Completed") & (field("TotalSize") > 0))
    'State=="Completed";TotalSize>0'
    """

    text: str
    joined_by: Literal["", ";", ","] = ""

    def __str__(self) -> str:
        return self.text

    def __and__(self, other: Expression) -> Expression:
        if not isinstance(other, Expression):
            return NotImplemented
        return Expression(f"{self._inside_and()};{other._inside_and()}", ";")

    def __or__(self, other: Expression) -> Expression:
        if not isinstance(other, Expression):
            return NotImplemented
        return Expression(f"{self.text},{other.text}", ",")

    def __bool__(self) -> bool:
        raise TypeError(
            "a filter has no truth value; join conditions with & and |, each in parentheses "
            "(not `and`, `or`, `not` or a chained comparison)"
        )

    def _inside_and(self) -> str:
        return f"({self.text})" if self.joined_by == "," else self.text


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One of the server's parameters, to be compared with a value; see `field`."""

    name: str

    def __eq__(self, value: object) -> Expression:  # type: ignore[override]
        return self._compared("==", value)

    def __ne__(self, value: object) -> Expression:  # type: ignore[override]
        return self._compared("!=", value)

    def __lt__(self, value: Value) -> Expression:
        return self._compared("<", value)

    def __le__(self, value: Value) -> Expression:
        return self._compared("<=", value)

    def __gt__(self, value: Value) -> Expression:
        return self._compared(">", value)

    def __ge__(self, value: Value) -> Expression:
        return self._compared(">=", value)

    def __hash__(self) -> int:
        return hash(self.name)

    def isin(self, values: Iterable[Value]) -> Expression:
        """Return the condition that the field equals one of `values`; at least one is needed."""
        if isinstance(values, str):
            raise InputError(f"isin() takes a list, got the text {values!r}; write [{values!r}]")
        conditions = [self._compared("==", value) for value in values]
        if not conditions:
            raise InputError(f"{self.name}: isin() of no values matches nothing; leave it out")
        return Expression(",".join(map(str, conditions)), "," if len(conditions) > 1 else "")

    def _compared(self, operator: str, value: object) -> Expression:
        return Expression(f"{self.name}{operator}{_literal(value, self.name)}")


def field(name: str) -> Field:
    """Return the parameter `name` of a query, ready to be compared.

    Parameters
    ----------
    name : str
        A parameter of the queried type, such as one of `FIELDS`; letters only.

    Returns
    -------
    Field
        Compares (``== != < <= > >=``, ``isin``) with text, whole numbers and aware
        times; each comparison is an `Expression`.

    Raises
    ------
    InputError
        If `name` has anything but letters, or a value has no filter literal: None,
        booleans, fractions, times without a zone.

    Examples
    --------
    >>> started = field("CreationTimeUTC") >= pd.Timestamp("2025-06-15", tz="UTC")
    >>> print(started & field("VmDisplayName").isin(["db01", 'the "old" one']))
    CreationTimeUTC>="2025-06-15T00:00:00Z";(VmDisplayName=="db01",VmDisplayName=="the ""old"" one")
    """
    if not isinstance(name, str) or not _LETTERS.fullmatch(name):
        raise InputError(f"{name!r} is not a field name; it has letters only, e.g. VmDisplayName")
    return Field(name)


def instant_text(moment: datetime) -> str:
    """Return an aware time as the server reads it: UTC, ``Z``, at most seven fraction digits."""
    utc = moment.astimezone(UTC)
    ticks = utc.microsecond * 10 + getattr(utc, "nanosecond", 0) // 100
    fraction = f".{ticks:07d}".rstrip("0") if ticks else ""
    return f"{utc.year:04d}-{utc:%m-%dT%H:%M:%S}{fraction}Z"


def _literal(value: object, name: str) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is pd.NaT:
        raise InputError(f"{name}: a missing time cannot be compared; leave the condition out")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InputError(f"{name}: {value} has no time zone; write Timestamp(..., tz='UTC')")
        return _quoted(instant_text(value))
    if isinstance(value, Integral) and not isinstance(value, bool | np.bool_):
        return str(int(value))
    raise InputError(f"{name}: {_refusal(value)}")


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _refusal(value: object) -> str:
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        hint = f"; write {int(cast(float, value))}" if np.isfinite(float(value)) else ""
        return f"{value!r} is not a whole number{hint}"
    return (
        f"cannot compare with {value!r} ({type(value).__name__}); use text, an int or a Timestamp"
    )
