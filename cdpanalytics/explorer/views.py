"""Each view of the explorer: a picture and tables of an Analysis, and the line of code that gives its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from cdpanalytics.explorer.state import VIEWS as NAMES
from cdpanalytics.explorer.state import State
from cdpanalytics.presentation import formatting, happenings, pictures, sentences
from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation.analysis import Analysis, periods_by_vm
from cdpanalytics.presentation.drawing import Drawing
from cdpanalytics.presentation.plain import is_missing
from cdpanalytics.schema import KEYS

_GAPS_SHOWN = 25
_CAUSES_SHOWN = 10
_SESSIONS_SHOWN = 200
_WORST_SHOWN = 25
_ROWS_SHOWN = 100
_FASTEST_SHOWN = 10
_HEIGHTS = (4, 8, 13, 18)
_GROUP = ["rpo", "objective", "adherence", "passed", "breached", "breaches", "worst_gap", "vms",
          "observed", "adherence_strict", "success_rate"]  # fmt: skip
_ROOM_FOR_INCIDENTS = 800
"""Pixels below which the list of incidents is folded: it would push the picture off the screen."""
_GAP = ["vm", "policy", *parts.GAP, "backup_server"]
_STATUS_LAST = ["last_success", "last_result", "recovery_point", "recovery_age", "backup_server"]
_TILES = ("Groups", "Groups", "Status", "Worst VMs", "Timeline", "Durations", None)
"""The view that each headline figure leads to."""

Draw = Callable[[Analysis, State, float], Markup]


@dataclass(frozen=True)
class View:
    """One question's answer.

    Parameters
    ----------
    draw : callable
        Analysis, State and width in pixels to HTML.
    table : callable
        Analysis and State to the whole table behind it, for download.
    call : str
        The metric as a method of a Selection; braces are filled from the state.
    picture : callable, optional
        Analysis and width to the picture, for download.
    """

    draw: Draw
    table: Callable[[Analysis, State], pd.DataFrame]
    call: str
    picture: Callable[[Analysis, float], Drawing] | None = None


def heat_map(analysis: Analysis, state: State, width: float) -> Markup:
    """VM by day, grouped by policy, worst first; each cell opens its sessions."""
    shown = parts.heat_map(analysis)
    if not shown["rows"]:
        return note(_nobody_missed(analysis))
    more = len(analysis.worst) - len(shown["rows"])
    text = f"Share of each {'day' if analysis.freq == 'D' else 'week'}'s observed time in breach, in percent."
    if more > 0:
        text += f" {more:,} more VMs missed their target; see Worst VMs."
    return _paragraph(text) + parts.macro("heat")(shown)


def timeline(analysis: Analysis, state: State, width: float) -> Markup:
    """When the worst VMs were not covered, the causes of breaches, and the longest gaps."""
    drawn = pictures.timeline(analysis, width).figure()
    causes = analysis.causes.head(_CAUSES_SHOWN)
    why = _heading("Causes of breaches") + _table(causes, "causes", analysis, _pick_cause)
    late, short = analysis.breaches, len(analysis.gaps) - len(analysis.breaches)
    heading = _heading(f"Gaps in breach, longest first: {_first_of(late, _GAPS_SHOWN)}")
    within = f"{short:,} gaps no longer than the RPO are not listed; the download has them."
    gaps = heading + _table(late.head(_GAPS_SHOWN)[_GAP], "gaps", analysis, _pick_gap)
    return (
        drawn
        + (why + gaps if len(late) else Markup(""))
        + (_paragraph(within) if short else Markup(""))
    )


def worst(analysis: Analysis, state: State, width: float) -> Markup:
    """The VMs with most breached time, each with its days as a line of bars."""
    shown = happenings.by_incident(analysis).head(_WORST_SHOWN)
    if shown.empty:
        return note(_nobody_missed(analysis))
    columns = [
        "vm",
        "policy",
        "backup_server",
        "breached",
        "explains",
        "explained",
        "worst_gap",
        "adherence",
    ]
    content = parts.table(shown[columns], "worst", tz=analysis.selection.tz, act=_picker(analysis))
    content["heads"].append({"name": "Day by day", "number": False})
    days = periods_by_vm(analysis, shown).groupby("position")["adherence"]
    for row, (_, adherence) in zip(content["rows"], days, strict=True):
        row.append((_sparkline(adherence), "", "text"))
    return _paragraph(
        f"VMs that missed their RPO: {_first_of(analysis.worst, _WORST_SHOWN)}."
    ) + parts.macro("table")(content)


def _sparkline(adherence: pd.Series) -> Markup:
    """A bar a period, of the height of its level in the heat map; a dot where nothing was observed."""
    bars, bar = [], Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>')
    levels = [formatting.severity(each) for each in adherence]
    for number, level in enumerate(levels):
        if level is None:
            bars.append(bar.format(4 * number + 1, 17, 1, 1, "none"))
        elif level:
            height = _HEIGHTS[level - 1]
            bars.append(bar.format(4 * number, 18 - height, 3, height, "late"))
    label = f"{sum(bool(level) for level in levels)} of {len(levels)} periods with a breach"
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" width="{}" height="18"><title>{}</title>{}</svg>'
    ).format(label, 4 * len(levels), label, Markup("").join(bars))


def groups(analysis: Analysis, state: State, width: float) -> Markup:
    """Adherence of each policy, backup server or value of a tag; a click narrows to it."""
    promised = analysis.selection.objectives(by=state.by)[[state.by, "objective", "passed"]]
    table = _groups(analysis, state).merge(promised, on=state.by, how="left")
    shown = table[[state.by, *_GROUP]].head(_ROWS_SHOWN)
    column = {"backup_server": "server"}.get(state.by, state.by)

    def narrow(row: dict[Hashable, Any]) -> object:
        name = row[state.by]
        return None if is_missing(name) else {"toggle": [column, str(name), True]}

    choices = ("policy", "backup_server", *analysis.selection.context.names)
    picks = [
        Markup('<button type="button" data-act="{}" aria-pressed="{}">{}</button>').format(
            _message({"show": {"by": name}}),
            "true" if name == state.by else "false", parts.HEADINGS.get(name, name),
        )
        for name in choices
    ]  # fmt: skip
    chosen = Markup('<p class="choices" role="group" aria-label="Groups by">{}</p>').format(
        Markup(" ").join(picks)
    )
    return chosen + _table(shown, "groups", analysis, narrow)


def _groups(analysis: Analysis, state: State) -> pd.DataFrame:
    table = analysis.selection.rpo_adherence(by=state.by)
    return table.sort_values("breached", ascending=False, kind="stable", ignore_index=True)


def exposure(analysis: Analysis, state: State, width: float) -> Markup:
    """How many gaps lasted at least how long, and what other targets would mean."""
    drawn = pictures.exposure(analysis, width).figure()
    columns = ["rpo", "breaches", "breached", "adherence", "gap_adherence"]
    return (
        drawn
        + _heading("What if the target were another?")
        + _table(analysis.what_if[columns], "what-if", analysis)
    )


def durations(analysis: Analysis, state: State, width: float) -> Markup:
    """How long finished sessions lasted, beside their cadence."""
    return pictures.durations(analysis, width).figure() + _table(
        analysis.durations, "durations", analysis, _narrow_policy
    )


def sizes(analysis: Analysis, state: State, width: float) -> Markup:
    """Sizes by policy, and where they head."""
    return (
        pictures.sizes(analysis, width).figure()
        + _heading("Trend: Theil-Sen slope with its 95 % interval")
        + _table(analysis.trends, "trends", analysis, _narrow_policy)
        + _fastest(analysis)
    )


def _fastest(analysis: Analysis) -> Markup:
    """The VMs that grow fastest."""
    table = analysis.vm_trends.sort_values("slope", ascending=False, kind="stable")
    table = table[table["slope"] > 0].head(_FASTEST_SHOWN)
    if table.empty:
        return Markup("")
    columns = ["vm", "policy", "size", "change", "slope", "projected", "growth", "backup_server"]
    return _heading("VMs that grow fastest") + _table(
        table[columns], "fastest", analysis, _picker(analysis)
    )


def journal(analysis: Analysis, state: State, width: float) -> Markup:
    """The RPO really achieved, from restorable intervals, worst first."""
    if analysis.journal.empty:
        return note(
            "The archive has no restorable intervals of this period; sync with --journal to ask for them."
        )
    shown = analysis.journal.head(_WORST_SHOWN).rename(columns={"adherence": "within_share"})
    shown = shown[["vm", "policy", *(n for n in shown if n not in KEYS), "backup_server"]]
    text = (
        f"What each VM could be restored to, and how far apart restore points really were: "
        f"{_first_of(analysis.journal, _WORST_SHOWN)} VMs, the worst first."
    )
    return _paragraph(text) + _table(shown, "journal", analysis, _picker(analysis))


def status(analysis: Analysis, state: State, width: float) -> Markup:
    """How each VM is at the end of the period, worst first."""
    table = sentences.with_reasons(analysis.status).head(_ROWS_SHOWN)
    first = ["vm", "policy", "state", "since", "age", "target", "reason"]
    tags = [name for name in table if name not in {*first, *_STATUS_LAST, "at"}]
    shown = table[[*first, *tags, *_STATUS_LAST]]
    text = (
        f"VMs at the end of the period, the worst first: {_first_of(analysis.status, _ROWS_SHOWN)}."
    )
    return _paragraph(text) + _table(shown, "status", analysis, _picker(analysis))


def sides(analysis: Analysis, state: State, width: float) -> Markup:
    """Two groups over the period, or all VMs under two targets."""
    form = Markup(
        '<p><label>Compare <input data-set="sides" size="44" value="{}" placeholder="policy=Gold,Silver"></label></p>'
    ).format(state.sides)
    if analysis.sides is None:
        return (
            form
            + _offers(analysis)
            + _paragraph(
                "Or write what to compare: backup_server=vbr01,vbr02 or policy=Gold,Silver, a tag, or target=15min,1h."
            )
        )
    detail = analysis.side_by_side([analysis.side_key])
    tables = [
        parts.macro("table")(parts.side_table(table, name, analysis.sides))
        for table, name in ((analysis.side_by_side([]), "sides"), (detail, "sides-detail"))
    ]
    both = detail[["adherence_left", "adherence_right"]].notna().all(axis=1).any()
    drawn = pictures.sides(analysis, width).figure() if both else Markup("")
    return form + tables[0] + drawn + tables[1]


def _offers(analysis: Analysis) -> Markup:
    """Buttons for a first comparison: the first two of each kind of group, and two targets."""
    rows, pairs = analysis.selection.sessions, ["target=15min,1h"]
    for column in ("policy", "backup_server", *analysis.selection.context.names):
        names = sorted(rows[column].dropna().astype("str").unique()) if column in rows else []
        plain = [name for name in names if "," not in name and "=" not in name]
        pairs += [f"{column}={plain[0]},{plain[1]}"] if len(plain) > 1 else []
    buttons = [
        Markup('<button type="button" data-act="{}">{}</button>').format(_message({"show": {"sides": pair}}), pair)
        for pair in reversed(pairs)
    ]  # fmt: skip
    return Markup('<p class="choices">{}</p>').format(Markup(" ").join(buttons))


def exclusions(analysis: Analysis, state: State, width: float) -> Markup:
    """What is left out on purpose, and how much of the time in breach it hides."""
    if not state.exclude:
        return note("Exclusions are switched off under Terms, so nothing is left out.")
    if analysis.exclusions.empty:
        return note(
            "Nothing is left out of this period on purpose. Name a table or a calendar of maintenance windows "
            'in the estate file, or write explore(archive, exclude="patches.csv").'
        )
    text = "Time left out on purpose. Where two exclusions overlap, both name it."
    return _paragraph(text) + _table(analysis.exclusions, "exclusions", analysis)


VIEWS: dict[str, View] = dict(zip(NAMES, (
    View(heat_map, lambda a, _: a.periods, "rpo_adherence(by={keys}, freq={freq!r})"),
    View(timeline, lambda a, _: a.gaps, "gaps()", pictures.timeline),
    View(worst, lambda a, _: happenings.by_incident(a), "worst(None, by={keys})"),
    View(groups, _groups, "rpo_adherence(by={by!r})"),
    View(exposure, lambda a, _: a.gaps, "gaps()", pictures.exposure),
    View(durations, lambda a, _: a.durations, "durations(by='policy')", pictures.durations),
    View(sizes, lambda a, _: a.sizes, "sizes(by='policy')", pictures.sizes),
    View(journal, lambda a, _: a.journal, "journal_adherence(by={keys})"),
    View(status, lambda a, _: a.status, "status()"),
    View(sides, lambda a, _: a.side_by_side([a.side_key]), "compare(by={side_key!r}, sides={sides!r})",
         pictures.sides),
    View(exclusions, lambda a, _: a.exclusions, "left_out()"),
), strict=True))  # fmt: skip
"""The views by the name that an analyst chooses."""


def call(analysis: Analysis, state: State) -> str:
    """Return the method of a Selection that gives a view's table."""
    side_key = analysis.side_key if state.view == "Side by side" else ""
    return VIEWS[state.view].call.format(
        keys=KEYS, freq=analysis.freq, by=state.by, side_key=side_key, sides=state.sides
    )


def is_empty(analysis: Analysis) -> bool:
    """Return whether the question selects nothing at all, about which nothing can be said."""
    whole = analysis.whole
    return not whole["sessions"] and not whole["observed"]


def head(analysis: Analysis) -> Markup:
    """The answer in a sentence, how many VMs nothing protects now, and time of which nothing is known."""
    answer = Markup(
        '<p class="answer">{}</p><p class="now"><span data-act="{}">{}</span></p>'
    ).format(
        sentences.verdict(analysis), _message({"show": {"view": "Status"}}),
        sentences.now(analysis),
    )  # fmt: skip
    early = map(Markup('<p class="now">{}</p>').format, sentences.early(analysis))
    return answer + Markup("").join(early)


def tiles(analysis: Analysis) -> Markup:
    """The figures that answer first; each leads to the view that explains it."""
    cards = parts.summary_cards(analysis)
    for card, view in zip(cards, _TILES, strict=True):
        if view is not None:
            card["act"] = {"show": {"view": view}}
    return parts.macro("tiles")(cards)


def strip(analysis: Analysis, width: float) -> Markup:
    """The strip over the fleet, and a sentence for each incident that explains much."""
    drawn = pictures.fleet(analysis, width).figure()
    if analysis.incidents.empty:
        return drawn
    listed = parts.macro("happened")(
        happenings.sentences(analysis), happenings.remainder(analysis), pick=True
    )
    opened = Markup(' open data-open="1"') if width >= _ROOM_FOR_INCIDENTS else ""
    return drawn + Markup(
        '<details class="incidents" id="cdp-incidents"{}><summary>Incidents ({:,})</summary>{}</details>'
    ).format(opened, len(analysis.incidents), listed)


def detail(analysis: Analysis, state: State) -> Markup:
    """What was opened: the sessions of a VM, or the gaps of a cause."""
    if not state.picked:
        return Markup("")
    kind, *words = state.picked
    if kind == "cause":
        gaps = analysis.breaches[analysis.breaches["cause"].astype("str") == words[0]]
        title = f"{words[0].splitlines()[0]}: {_first_of(gaps, _GAPS_SHOWN)} gaps in breach"
        return _opened(title, _table(gaps.head(_GAPS_SHOWN)[_GAP], "opened", analysis, _pick_gap))
    vm = words[: len(KEYS)]
    since, until = map(pd.Timestamp, words[len(KEYS) :])
    rows = _of_vm(analysis.selection._frame, vm)
    ended = rows["ended"].fillna(analysis.selection.as_of)
    inside = rows[(rows["created"] <= until) & (ended >= since)]
    gaps = _of_vm(analysis.breaches, vm)
    gaps = gaps[(gaps["start"] < until) & (gaps["end"] > since)]
    names = ["created", "ended", "state", "result", "reason", "policy_result", "total_size"]
    shown = inside.sort_values("created", ascending=False).head(_SESSIONS_SHOWN)
    when = formatting.between(since, until, analysis.selection.tz)
    sessions = f"{_first_of(inside, _SESSIONS_SHOWN)} sessions, newest first"
    content = _table(shown[[n for n in names if n in shown]], "opened", analysis)
    if len(gaps):
        why = _table(gaps.head(_GAPS_SHOWN)[list(parts.GAP)], "opened-gaps", analysis)
        content = why + _paragraph(sessions.capitalize()) + content
        sessions = f"{_first_of(gaps, _GAPS_SHOWN)} gaps in breach, and {sessions}"
    return _opened(f"{vm[-1]}, {when}: {sessions}", content)


def _of_vm(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of one VM, by those of its `KEYS` that are known."""
    for column, name in zip(KEYS, names, strict=True):
        if name and column in table:
            table = table[table[column].astype("str") == name]
    return table


def _opened(title: str, content: Markup) -> Markup:
    return Markup(
        '<section class="opened" aria-labelledby="cdp-opened-title">'
        '<h3 id="cdp-opened-title" tabindex="-1">{}</h3>'
        '<button type="button" class="close" data-act="{}">Close</button>{}</section>'
    ).format(title, _message({"close": 1}), content)


def alert(message: str) -> Markup:
    """What is wrong with the question, where the answer would stand."""
    return Markup('<p role="alert" class="alert">{}</p>').format(message)


def refused(message: str) -> Markup:
    """Why the question cannot be answered, and the way back."""
    undo = Markup('<p><button type="button" data-act="{}">Undo</button></p>').format('{"undo": 1}')
    return alert(message) + undo


def nothing() -> Markup:
    """What is shown where the question selects no session at all."""
    return Markup(
        '<div class="empty"><p>No session of this question lies in this period, so nothing can be said.</p>'
        '<p><button type="button" data-act="{}">Undo</button> <button type="button" data-act="{}">'
        "Remove all filters</button></p></div>"
    ).format('{"undo": 1}', '{"show": {"policy": [], "vm": [], "server": [], "tag": {}}}')


def _picker(analysis: Analysis) -> Callable[[dict[Hashable, Any]], object]:
    """Return what opens the sessions of a row's VM in the period."""
    start, stop = analysis.start, analysis.stop
    if start is None or stop is None:
        return lambda _: None
    return lambda row: pictures.pick_vm(row, start, stop)


def _pick_gap(row: Mapping[Any, Any]) -> object:
    return pictures.pick_vm(row, row["start"], row["end"])


def _pick_cause(row: Mapping[Any, Any]) -> object:
    return {"show": {"picked": ["cause", str(row["cause"])]}}


def _narrow_policy(row: Mapping[Any, Any]) -> object:
    name = row["policy"]
    return None if is_missing(name) else {"toggle": ["policy", str(name), True]}


def _first_of(table: pd.DataFrame, shown: int) -> str:
    """Return how many of a table's rows are shown, in words."""
    count = len(table)
    return f"{count:,}" if count <= shown else f"the first {shown:,} of {count:,}"


def _nobody_missed(analysis: Analysis) -> str:
    if pd.isna(analysis.whole["adherence"]):
        return "Unknown: none of these VMs could be judged, so it cannot be said whether one missed its RPO."
    return f"None of {len(analysis.vms):,} VMs missed its RPO in this period."


def _message(message: object) -> str:
    return json.dumps(message, ensure_ascii=False)


def _table(
    table: pd.DataFrame,
    name: str,
    analysis: Analysis,
    act: Callable[[dict[Hashable, Any]], object] | None = None,
) -> Markup:
    return parts.macro("table")(parts.table(table, name, tz=analysis.selection.tz, act=act))


def _heading(text: str) -> Markup:
    return Markup("<h3>{}</h3>").format(text)


def _paragraph(text: str) -> Markup:
    return Markup("<p>{}</p>").format(text)


def note(text: str) -> Markup:
    """What is said where there is nothing to draw."""
    return Markup('<div class="empty"><p>{}</p></div>').format(text)
