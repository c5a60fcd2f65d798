"""What the controls of the explorer offer and show: periods, names, chips, downloads, the state as text and code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from cdpanalytics.explorer import views
from cdpanalytics.explorer.reading import Reader
from cdpanalytics.explorer.state import ALL, VIEWS, State
from cdpanalytics.patterns import fitting
from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation.formatting import length, printable
from cdpanalytics.timeparse import share

if TYPE_CHECKING:
    from cdpanalytics.presentation.analysis import Analysis

_PACKAGE = "cdpanalytics.explorer"
_ROLLING = ("last 24 hours", "last 7 days", "last 30 days", "last 90 days")
_RELATIVE = (
    "today",
    "yesterday",
    "this week",
    "last week",
    "this month",
    "last month",
    "last quarter",
)
_MONTHS = 13
_QUARTERS = 5
_LISTED = 40
"""Names of one kind that are listed at once; others are found by a part of them."""

_CHIPS = 6
_LABELS = {"policy": "Policies", "vm": "VMs", "server": "Backup servers"}
_KINDS = {"policy": "policy", "vm": "VM", "server": "server", "tz": "zone", "target": "RPO",
          "objective": "objective", "retire_after": "retire after"}  # fmt: skip


def macro(name: str) -> Any:
    """Return a macro of `board.html.j2` as a function."""
    return getattr(parts.environment(_PACKAGE).get_template("board.html.j2").module, name)


def bar(reader: Reader, state: State, find: str, history: tuple[bool, bool], code: str) -> Markup:
    """Return the controls as a state sets them."""
    tz = state.tz or reader.base.tz
    first, last = _days(reader, state, tz)
    presets = periods(reader, tz)
    listed = {option for _, options in presets for option in options}
    goal, retire = reader.base.objective, reader.base.retire_after
    return macro("bar")({
        "state": state, "periods": presets if state.period in listed else [("Now", [state.period]), *presets],
        "typed": "" if state.period in listed else state.period, "first": first, "last": last,
        "past": history[0], "future": history[1], "find": find, "found": found(reader, state, find),
        "objective": "99.9%" if goal is None else f"{100 * share(goal):g}%",
        "retire_after": "never" if retire is None else length(retire),
        "tz": tz, "zones": sorted({"UTC", reader.base.tz, "Europe/Berlin", "America/New_York", "Asia/Tokyo"}),
        "text": str(state), "code": code, "chips": _chips(state),
        "downloads": [("csv", "CSV"), ("xlsx", "Excel"), *(
            (("svg", "SVG"), ("png", "PNG")) if views.VIEWS[state.view].picture else ())],
    })  # fmt: skip


def tabs(state: State) -> Markup:
    """Return the choice of the view."""
    return macro("tabs")(VIEWS, state.view, state.order)


def periods(reader: Reader, tz: str) -> list[tuple[str, list[str]]]:
    """Return the periods to choose from: lengths back, calendar words, and the months there is data of."""
    newest, oldest = (
        edge.tz_convert(tz).tz_localize(None) for edge in (reader.as_of, reader.oldest())
    )
    months = pd.period_range(oldest, newest, freq="M")[::-1][:_MONTHS]
    quarters = pd.period_range(oldest, newest, freq="Q")[::-1][:_QUARTERS]
    return [
        ("Back from now", [*_ROLLING, ALL]), ("Calendar", list(_RELATIVE)),
        ("Months", [f"{month.year}-{month.month:02d}" for month in months]),
        ("Quarters", [f"{quarter.year}-Q{quarter.quarter}" for quarter in quarters]),
    ]  # fmt: skip


def _days(reader: Reader, state: State, tz: str) -> tuple[str, str]:
    """Return the first and the last day of the period, for the two fields of dates."""
    since, until = reader.window(state)
    first = (reader.oldest() if since is None else since).tz_convert(tz)
    last = (reader.as_of if until is None else min(until, reader.as_of)) - pd.Timedelta(1, "us")
    return f"{first:%Y-%m-%d}", f"{last.tz_convert(tz):%Y-%m-%d}"


def found(
    reader: Reader, state: State, text: str
) -> list[tuple[str, str, int, list[tuple[str, bool]], list[str]]]:
    """Return the names with a part in them, by kind, each with whether it is chosen; chosen ones first."""
    lists = []
    for name, names in reader.names(state).items():
        chosen = _chosen(state, name)
        picked = set(fitting(names, chosen)) if chosen else set()
        matching = [each for each in names if text.casefold() in each.casefold()]
        if not matching:
            continue
        first = sorted(matching, key=lambda each: each not in picked)[:_LISTED]
        label = _LABELS.get(name, name.removeprefix("tag."))
        lists.append((name, label, len(matching), [(each, each in picked) for each in first],
                      matching if len(matching) <= 500 else []))  # fmt: skip
    return lists


def _chosen(state: State, name: str) -> tuple[str, ...]:
    if name.startswith("tag."):
        return dict(state.tag).get(name.removeprefix("tag."), ())
    return getattr(state, name)


def chosen(state: State, name: str, values: Sequence[str]) -> dict[str, Any]:
    """Return the change of a state that chooses these names of one kind; none means all."""
    if name.startswith("tag."):
        return {"tag": {**dict(state.tag), name.removeprefix("tag."): tuple(values)}}
    return {name: tuple(values)}


def toggled(reader: Reader, state: State, name: str, value: str, on: bool) -> dict[str, Any]:
    """Return the change of a state that adds or takes off one name; patterns become the names they mean."""
    names = reader.names(state).get(name, [])
    already = _chosen(state, name)
    exact = [each for each in already if each in names] if on else fitting(names, already)
    rest = [each for each in exact if each != value]
    return chosen(state, name, [*rest, value] if on else rest)


def _chips(state: State) -> list[tuple[str, dict[str, Any]]]:
    """Return what narrows a question, each with the message that takes it off."""
    shown: list[tuple[str, dict[str, Any]]] = []
    names = ("policy", "server", "vm", *(f"tag.{tag}" for tag, _ in state.tag))
    for name in names:
        values, kind = _chosen(state, name), _KINDS.get(name, name.removeprefix("tag."))
        if len(values) > _CHIPS:
            shown.append((f"{kind}: {len(values):,} names", {"show": chosen(state, name, ())}))
            continue
        for value in values:
            rest = [each for each in values if each != value]
            shown.append((printable(f"{kind}: {value}"), {"show": chosen(state, name, rest)}))
    shown += [
        (printable(f"{_KINDS[name]}: {value}"), {"show": {name: ""}})
        for name in ("target", "objective", "retire_after", "tz")
        if (value := getattr(state, name))
    ]
    if not state.exclude:
        shown.append(("exclusions count", {"show": {"exclude": True}}))
    return shown


def code(reader: Reader, state: State, analysis: Analysis) -> str:
    """Return the line of Python that gives the view's table in any notebook."""
    question = {**reader.terms, **state.question}
    given = ", ".join(f"{name}={value!r}" for name, value in question.items())
    asked = f"select({given}).{views.call(analysis, state)}"
    if reader.archive is not None:
        return f"import cdpanalytics as cdp; table = cdp.Archive({reader.path!r}).{asked}"
    return f"import cdpanalytics as cdp; table = sessions.cdp.{asked}  # sessions: your DataFrame"
