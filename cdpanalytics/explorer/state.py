"""The whole state of an explorer as one frozen object: the question, the view, and what was opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote_plus

from cdpanalytics.errors import InputError
from cdpanalytics.presentation.analysis import ORDERS
from cdpanalytics.timeparse import share

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

ALL = "all"
"""The period of everything there is."""

VIEWS = (
    "Heat map", "Timeline", "Worst VMs", "Groups", "Exposure", "Durations", "Sizes", "Journal", "Status",
    "Side by side", "Exclusions",
)  # fmt: skip

NAMES = ("policy", "vm", "server")
_TAG = "tag."


@dataclass(frozen=True)
class State:
    """What an explorer shows. Its fields are named like the arguments of `Archive.select`.

    Parameters
    ----------
    period : str
        As `Archive.select` takes it, or "all". Default: "last 30 days".
    policy, vm, server : tuple of str
        Names or patterns; none means all.
    tag : tuple of (str, tuple of str)
        Values of tags that must fit.
    tz, target, objective, retire_after : str
        Terms in place of those of the Selection; empty keeps them.
    exclude : bool
        Whether the Selection's exclusions are left out.
    view : str
        One of `VIEWS`.
    by : str
        Column of the view "Groups".
    order : str
        Order of the VMs in heat map and timeline: "breached" or "incident".
    sides : str
        What the view "Side by side" compares, like ``policy=Gold,Silver``.
    picked : tuple of str
        What was opened below the view: ``("vm", server, policy, vm, since, until)`` or
        ``("cause", text)``.
    beside : str
        What a second pane shows otherwise, as the text of a state: ``period=2026-09``.

    Examples
    --------
    >>> state = State.parse("period=2026-10&policy=Gold&view=Sizes")
    >>> state.policy, state.view
    (('Gold',), 'Sizes')
    >>> str(state.but(policy=(), target="1h"))
    'period=2026-10&target=1h&view=Sizes'
    """

    period: str = "last 30 days"
    policy: tuple[str, ...] = ()
    vm: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    tag: tuple[tuple[str, tuple[str, ...]], ...] = ()
    tz: str = ""
    target: str = ""
    objective: str = ""
    retire_after: str = ""
    exclude: bool = True
    view: str = VIEWS[0]
    by: str = "policy"
    order: str = ORDERS[0]
    sides: str = ""
    picked: tuple[str, ...] = ()
    beside: str = ""

    def but(self, **changes: Any) -> State:
        """Return the same state with other values; names and tags may be plain text, lists, a dict.

        Raises
        ------
        InputError
            When a name is not one of the state's, or a value cannot be one.
        """
        for name in changes:
            if name not in FIELDS:
                raise InputError(f"explore has no {name!r}; use {', '.join(FIELDS)}")
        plain = {name: _plain(name, value) for name, value in changes.items()}
        for name, allowed in (("view", VIEWS), ("order", ORDERS)):
            if plain.get(name, allowed[0]) not in allowed:
                raise InputError(f"{name}={plain[name]!r} is not known; use {', '.join(allowed)}")
        return replace(self, **plain)

    @classmethod
    def parse(cls, text: str, start: State | None = None) -> State:
        """Return the state that a text from `str` says; what it does not name is as in `start`."""
        try:
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
        except ValueError:
            raise InputError(
                f"{text!r} is not the state of an explorer; copy it from Share, like 'period=2026-10&view=Sizes'"
            ) from None
        changes: dict[str, Any] = {}
        for name, value in pairs:
            if name.startswith(_TAG):
                changes.setdefault("tag", {}).setdefault(name.removeprefix(_TAG), []).append(value)
            elif name in (*NAMES, "picked"):
                changes[name] = (*changes.get(name, ()), value)
            else:
                changes[name] = value
        # An empty value takes off what the start has.
        changes = {name: () if value == ("",) else value for name, value in changes.items()}
        return (start or cls()).but(**changes)

    def __str__(self) -> str:
        return self.text()

    def text(self, other: State | None = None) -> str:
        """Return the state as short text: what differs from the default, or from another state."""
        start = other or State()
        pairs: list[tuple[str, str]] = []
        for name in FIELDS:
            value = getattr(self, name)
            if value == getattr(start, name):
                continue
            if name == "tag":
                pairs += [(_TAG + column, each) for column, values in value for each in values]
            elif isinstance(value, tuple):
                pairs += [(name, each) for each in value] or [(name, "")]
            else:
                pairs.append((name, {True: "yes", False: "no"}.get(value, value)))
        return "&".join(
            f"{quote_plus(name)}={quote_plus(value, safe=',:/*=')}" for name, value in pairs
        )

    @property
    def question(self) -> dict[str, Any]:
        """The state as arguments of `Archive.select`, without what changes nothing."""
        period = None if self.period == ALL else self.period
        given = {"period": period, **{name: _one(getattr(self, name)) for name in NAMES},
                 "tag": {name: _one(values) for name, values in self.tag},
                 **{name: getattr(self, name) for name in ("tz", "target", "retire_after")},
                 "objective": self.objective, "exclude": None if self.exclude else False}  # fmt: skip
        return {name: value for name, value in given.items() if value or value is False}

    def of(self, base: Selection) -> Selection:
        """Return what the state asks of a Selection that has no period and no names."""
        asked = self.question
        tz, exclude = asked.pop("tz", base.tz), asked.pop("exclude", None)
        period, objective = asked.pop("period", None), asked.pop("objective", None)
        terms: dict[str, Any] = {
            name: asked.pop(name) for name in ("target", "retire_after") if name in asked
        }
        if objective is not None:
            terms["objective"] = share(objective, "objective")
        if exclude is False:
            terms["exclude"] = False
        return base.with_terms(tz=tz, **terms).during(period).where(**asked)


FIELDS = tuple(field.name for field in fields(State))
"""What a state is made of."""


def _plain(name: str, value: Any) -> Any:
    """Return a value as the state holds it."""
    if name in (*NAMES, "picked"):
        return (
            () if value is None else (value,) if isinstance(value, str) else tuple(map(str, value))
        )
    if name == "tag":
        pairs = value.items() if isinstance(value, Mapping) else value or ()
        listed = ((str(key), _plain("vm", names)) for key, names in pairs)
        return tuple((key, names) for key, names in listed if names)
    if name == "exclude":
        if value not in (True, False, "yes", "no"):
            raise InputError(f"exclude={value!r} is neither yes nor no")
        return value in (True, "yes")
    return "" if value is None else str(value)


def _one(values: tuple[str, ...]) -> Any:
    """Return the only name as itself, so that a line of code reads well."""
    return values[0] if len(values) == 1 else values
