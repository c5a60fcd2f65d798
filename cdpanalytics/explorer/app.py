"""The explorer: one state, the board that draws it, and the messages by which the board changes it."""

from __future__ import annotations

import traceback
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import pandas as pd
import traitlets as t
from IPython.display import publish_display_data
from markupsafe import Markup

from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.explorer import controls, still, views
from cdpanalytics.explorer.reading import Reader, interval, neighbour
from cdpanalytics.explorer.state import FIELDS, VIEWS, State
from cdpanalytics.presentation import formatting, happenings
from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation.workbook import Workbook

if TYPE_CHECKING:
    from cdpanalytics.presentation.analysis import Analysis
    from cdpanalytics.selection import Selection

_REGIONS = (("tiles", "head", "tabs"), ("bar",), ("main",), ("strip", "detail"))
"""In the order in which they are drawn and sent: what answers first comes first, and the page
draws the fields of the question while the kernel computes the longest part."""

_KEPT = 420
"""Regions that are kept: those of some sixty states."""

_LEAST_WIDTH = 420
_STEP = 20
"""Widths are rounded to it, so that a scroll bar draws nothing anew."""

_TYPES = {"csv": "text/csv", "svg": "image/svg+xml", "png": "image/svg+xml",
          "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}  # fmt: skip


class Explorer(anywidget.AnyWidget):
    """Interactive exploration of a Selection.

    Everything that it shows follows from its `state`. `Selection.explore` and
    `cdpanalytics.explore` make one.

    Parameters
    ----------
    selection : Selection
        Where it begins: its period and names are the first state, its terms stay.
    state : str or State, optional
        What `Share` gave: ``"period=2026-10&policy=Gold&view=Sizes"``.
    **changes
        Fields of a `State`: ``view="Sizes", policy="Gold*"``.

    Attributes
    ----------
    state : State
        What it shows; setting it draws it. `show` changes some fields of it.
    head, bar, tiles, tabs, strip, main, detail : str
        The HTML of each region.
    word : str
        What a screen reader says of the newest change.

    Raises
    ------
    InputError
        When there are no sessions, or a name is not one of the state's.
    """

    _esm = (
        parts.source("tables.js")
        + parts.source("pictures.js")
        + Path(__file__).with_name("board.js").read_text(encoding="utf-8")
    )
    _css = t.Unicode("").tag(sync=True)
    head, bar, tiles, tabs, strip, main, detail, word = (
        t.Unicode("").tag(sync=True) for _ in range(8)
    )
    found = t.Unicode("").tag(sync=True)
    drawn = t.Int(0).tag(sync=True)
    answered = t.Unicode("").tag(sync=True)
    twin = t.Unicode("").tag(sync=True)
    state: t.Instance[State] = t.Instance(State)

    def __init__(
        self, selection: Selection, state: str | State | None = None, **changes: Any
    ) -> None:
        self._reader = Reader(selection)
        start = self._reader.start
        if isinstance(state, State):
            start = state
        elif state is not None:
            start = State.parse(state, start)
        self._first = start.but(**changes)
        self._past: list[State] = []
        self._future: list[State] = []
        self._kept: OrderedDict[tuple[str, str, int], str] = OrderedDict()
        self._width, self._held, self._stepping = 960, 0, False
        self._find = self._typed = ""
        super().__init__(_css=still.style(), state=self._first, twin=uuid.uuid4().hex)
        self.on_msg(self._receive)
        self._draw()
        self.observe(self._changed, "state")

    # -- what an analyst takes away -------------------------------------------------------

    @property
    def selection(self) -> Selection:
        """The question shown, for use in other cells."""
        return self._reader.selection(self.state)

    @property
    def analysis(self) -> Analysis:
        """The tables of the question; each is computed when it is first used."""
        return self._reader.analysis(self.state)

    @property
    def data(self) -> pd.DataFrame:
        """The sessions of the question."""
        return self.analysis.selection.sessions

    @property
    def table(self) -> pd.DataFrame:
        """The whole table behind the view."""
        return views.VIEWS[self.state.view].table(self.analysis, self.state)

    def code(self) -> str:
        """Return the line that gives the view's table in any notebook."""
        return controls.code(self._reader, self.state, self.analysis)

    def show(self, **changes: Any) -> None:
        """Change some fields of the state: ``show(policy="Gold", view="Sizes")``.

        Raises
        ------
        InputError
            When a name is not one of the state's, or a value cannot be one.
        """
        if {"view", "period", "policy", "vm", "server", "tag"} & set(changes):
            changes = {"picked": (), **changes}
        self.state = self.state.but(**changes)

    def narrow(self, incident: int) -> None:
        """Show only the time and the VMs of one incident; `undo` goes back.

        Parameters
        ----------
        incident : int
            A number of `incidents()` of the question shown. Narrowed, it is a question of
            its own, whose incidents have numbers of their own.

        Raises
        ------
        InputError
            When there is no such incident.
        """
        self.show(**self._narrowed(self.analysis, incident))

    def _narrowed(self, analysis: Analysis, incident: int) -> dict[str, Any]:
        """Return the change of a state that shows only the time and the VMs of an incident."""
        gaps = happenings.vms_of(analysis, incident)
        start, stop = analysis.start, analysis.stop
        if gaps.empty or start is None or stop is None:
            raise InputError(f"there is no incident {incident} among those shown")
        tz = analysis.selection.tz
        first = gaps["start"].min().tz_convert(tz).normalize()
        last = gaps["end"].max().tz_convert(tz).normalize() + pd.DateOffset(days=1)
        servers = gaps["backup_server"].dropna().unique()
        names = {"server": tuple(servers)} if len(servers) == 1 else {}
        period = interval(max(first, start), min(last, stop), tz)
        return {"period": period, "vm": sorted(gaps["vm"].unique()), **names}

    def undo(self) -> None:
        """Show what was shown before the newest change."""
        self._step(self._past, self._future)

    def redo(self) -> None:
        """Show again what was undone."""
        self._step(self._future, self._past)

    def reset(self) -> None:
        """Show what was shown first, and search for nothing; this, too, can be undone."""
        self._find = self._typed = ""
        if self.state == self._first:
            self._draw()
        self.state = self._first

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Draw once after several changes."""
        self._held += 1
        before = self.state
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                if self.state == before:
                    self._draw_region("bar")  # what can be undone may be another
                else:
                    self._draw()

    # -- how it is drawn -------------------------------------------------------------------

    def _changed(self, change: dict[str, Any]) -> None:
        if change["old"] == change["new"]:
            return
        if not self._stepping:
            self._past.append(change["old"])
            self._future.clear()
        if not self._held:
            self._draw()

    def _step(self, source: list[State], target: list[State]) -> None:
        if not source:
            return
        target.append(self.state)
        self._stepping = True
        try:
            self.state = source.pop()
        finally:
            self._stepping = False

    def _draw(self) -> None:
        """Draw every region; what cannot be answered is said where the answer would be."""
        try:
            if views.is_empty(self.analysis):
                self._alert(views.nothing())
            else:
                for together in _REGIONS:
                    with self.hold_sync():
                        for region in together:
                            self._draw_region(region)
        except CdpError as error:
            self._alert(views.refused(str(error)))
        with self.hold_sync():
            if self.head:
                self.word = f"{self.state.view}. {_words(self.head)}"
            self.drawn += 1

    def _alert(self, message: Markup) -> None:
        self.head, self.tiles, self.strip, self.detail = "", "", "", ""
        self.main, self.word = message, _words(message)
        self.tabs = controls.tabs(self.state)
        try:
            self._draw_region("bar")
        except CdpError:  # the period itself is what is wrong: the fields of before stay
            return

    def _draw_region(self, region: str) -> None:
        if region == "bar":
            history = bool(self._past), bool(self._future)
            try:
                code = self.code()
            except CdpError as error:
                code = f"# {error}"
            self.bar = controls.bar(self._reader, self.state, self._find, history, code)
            return
        drawn = self._region(region, self.state)
        if self.state.beside and region == "detail":
            drawn = drawn or self._region(region, self._other)
        elif self.state.beside and region in ("head", "tiles", "strip", "main"):
            other = self._other
            label = _printable_label(self.state.beside)
            drawn = controls.macro("panes")(drawn, self._region(region, other, 0.5), label)
        setattr(self, region, drawn)

    @property
    def _alone(self) -> State:
        """What the first pane shows, as if it were the only one."""
        return self.state.but(beside="", picked=())

    @property
    def _other(self) -> State:
        """What the second pane shows."""
        return State.parse(self.state.beside, self._alone)

    def _show_beside(self, **changes: Any) -> None:
        """Change some fields of what the second pane shows."""
        other = self._other.but(picked=()).but(**changes)
        self.show(beside=other.text(self._alone), picked=())

    def _region(self, region: str, state: State, share: float = 1.0) -> Markup:
        """Return a region's HTML, kept from when it was drawn before."""
        width = max(
            _LEAST_WIDTH, int(self._width * (0.5 if state.beside else share)) // _STEP * _STEP
        )
        key = region, _relevant(region, state), width
        if key not in self._kept:
            self._kept[key] = _draw_one(region, self._reader.analysis(state), state, width)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return Markup(self._kept[key])  # noqa: S704 - what was drawn

    # -- messages of the board ---------------------------------------------------------------

    def _receive(self, _: object, message: dict[str, Any], __: object) -> None:
        """Do what the board asks: one verb and its argument, and which pane it came from."""
        second = message.get("pane") == 2 and self.state.beside
        pane = self._show_beside if second else self.show
        state = self._other if second else self.state
        verbs: dict[str, Callable[[Any], None]] = {
            "show": lambda changes: (pane if "picked" in changes else self.show)(**changes),
            "close": lambda _: self._close(),
            "toggle": lambda given: pane(**controls.toggled(self._reader, state, *given)),
            "choose": lambda given: self.show(**controls.chosen(self.state, *given)),
            "state": lambda text: setattr(self, "state", State.parse(text)),
            "incident": lambda number: pane(**self._narrowed(self._reader.analysis(state), number)),
            "between": lambda edges: pane(period=self._period(edges)),
            "move": self._move, "date": self._date,
            "beside": self._beside, "find": self._search, "download": self._download, "width": self._resize,
            "undo": lambda _: self.undo(), "redo": lambda _: self.redo(), "reset": lambda _: self.reset(),
        }  # fmt: skip
        drawn = self.drawn
        try:
            for verb, given in message.items():
                if verb in verbs:
                    verbs[verb](given)
        except CdpError as error:
            self.word = ""
            self.main, self.word = views.alert(str(error)), str(error)
        except Exception:  # a widget that falls silent tells no one why
            self.main = views.alert("internal error:\n" + traceback.format_exc(limit=-3))
        with self.hold_sync():
            if self.drawn == drawn:
                self.drawn += 1
            self.answered = str(message.get("asked", ""))

    def _close(self) -> None:
        """Close what was opened below the view, from either pane."""
        if self.state.beside and self._other.picked:
            self._show_beside()
        else:
            self.show(picked=())

    def _move(self, steps: int) -> None:
        """Move the period by its own length; 0 makes it twice as long."""
        start, stop = self.analysis.start, self.analysis.stop
        if start is None or stop is None:
            return
        calendar = self._neighbour(steps) if steps else None
        if calendar is not None:
            self.show(period=calendar)
            return
        length = stop - start
        since = start + steps * length if steps else start - length / 2
        until = stop + steps * length if steps else stop + length / 2
        self.show(period=self._period([since.timestamp() * 1000, until.timestamp() * 1000]))

    def _neighbour(self, steps: int) -> str | None:
        """Return the calendar period before or after the one shown; None where there is none with data."""
        text = neighbour(self.selection.dated_period(), steps)
        if text is None:
            return None
        since, until = self._reader.window(self.state.but(period=text))
        none = (until is not None and until <= self._reader.oldest()) or (
            since is not None and since >= self._reader.as_of
        )
        if none:
            raise InputError("there are no sessions in that direction")
        return text

    def _period(self, edges: Sequence[float]) -> str:
        """Return the period between two instants in milliseconds, inside what there is data of."""
        tz, oldest, newest = self.selection.tz, self._reader.oldest(), self._reader.as_of
        since, until = (
            pd.Timestamp(edge, unit="ms", tz="UTC").round("s") for edge in sorted(edges)
        )
        since, until = max(since, oldest), min(until, newest)
        if since >= until:
            raise InputError("there are no sessions in that direction")
        return interval(since, until, tz)

    def _date(self, given: Sequence[str]) -> None:
        """Choose whole days, the last one inclusive."""
        first, last = (pd.Timestamp(day) for day in given)
        self.show(period=f"{first:%Y-%m-%d}/{last + pd.Timedelta(days=1):%Y-%m-%d}")

    def _beside(self, which: str) -> None:
        start, stop = self.analysis.start, self.analysis.stop
        if which == "before" and start is not None and stop is not None:
            before = self._neighbour(-1) or interval(
                start - (stop - start), start, self.selection.tz
            )
            self.show(beside=State().but(period=before).text())

    def _search(self, text: str) -> None:
        """List the names with a part in them, and narrow the picture to them."""
        self._find = text
        lists = controls.found(self._reader, self.state, text)
        self.found = controls.macro("found")(lists)
        kinds = [name for name, *_ in lists]
        for name in ("vm", "policy", "server"):
            if text and name in kinds:
                pattern = f"*{_literal(text)}*"
                kept = [each for each in getattr(self.state, name) if each != self._typed]
                self._typed = pattern
                self.show(**{name: [*kept, pattern]})
                return
        self.word = ""
        self._draw_region("bar")

    def _resize(self, width: float) -> None:
        rounded = max(_LEAST_WIDTH, int(width) // _STEP * _STEP)
        if rounded != self._width:
            self._width = rounded
            for region in ("main", "strip"):
                if self.tiles:
                    self._draw_region(region)

    def _download(self, kind: str) -> None:
        """Send the whole table behind the view, or its picture, as a file."""
        view, tz = views.VIEWS[self.state.view], self.selection.tz
        name = f"{self.state.view.lower().replace(' ', '-')}.{'svg' if kind == 'png' else kind}"
        if kind == "csv":
            body = formatting.csv_text(self.table, tz).encode()
        elif kind == "xlsx":
            book = Workbook(tz, parts.HEADINGS)
            book.add_text(
                "Question", "The question", [("State", str(self.state)), ("Code", self.code())]
            )
            book.add_table(self.state.view, self.table)
            body = book.to_bytes()
        elif view.picture is not None:
            body = view.picture(self.analysis, 960).alone(parts.source("pictures.css")).encode()
        else:
            raise InputError(f"{self.state.view} has no picture; download its table")
        self.send({"file": name, "type": _TYPES[kind], "png": kind == "png"}, [body])

    # -- where no widget runs --------------------------------------------------------------------

    def static_html(self) -> str:
        """Return what is shown as HTML that needs no script."""
        try:
            return still.static_html(self.analysis, self.state)
        except CdpError as error:
            return views.alert(str(error))

    def _ipython_display_(self) -> None:
        """Show the widget, and the same view as static HTML that the widget hides where it runs.

        They are two outputs because exports that keep widgets, but have no script to draw
        them, show nothing of an output that holds one.
        """
        given: Any = self._repr_mimebundle_()
        bundle = given[0] if isinstance(given, tuple) else given or {}
        publish_display_data({**bundle, "text/plain": repr(self)})
        twin = f'<div class="cdp-twin cdp-twin-{self.twin}">{self.static_html()}</div>'
        publish_display_data({"text/html": twin, "text/plain": ""})

    def __repr__(self) -> str:
        state = ", ".join(
            f"{name}={value!r}"
            for name in FIELDS
            if (value := getattr(self.state, name)) not in ("", ())
        )
        return f"Explorer({state})"


def _relevant(region: str, state: State) -> str:
    """Return as text what of a state a region shows: what is the same is not drawn anew."""
    if region in ("head", "tiles", "strip"):
        state = state.but(view=VIEWS[0], by=State.by, order=State.order, sides="")
    return state.but(picked=state.picked if region == "detail" else ()).text()


def _draw_one(region: str, analysis: Analysis, state: State, width: float) -> Markup:
    match region:
        case "head":
            return views.head(analysis)
        case "tiles":
            return views.tiles(analysis)
        case "tabs":
            return controls.tabs(state)
        case "strip":
            return views.strip(analysis, width)
        case "detail":
            return views.detail(analysis, state)
    return views.VIEWS[state.view].draw(analysis, state, width)


def _printable_label(text: str) -> str:
    """Return the text of a second pane's state as its heading."""
    return formatting.printable(", ".join(text.split("&"))).replace("+", " ").replace("=", ": ")


def _words(drawn: str) -> str:
    return " ".join(Markup(drawn).striptags().split())  # noqa: S704 - what was drawn


def _literal(text: str) -> str:
    """Return a part of a name as a pattern that means it to the letter."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
