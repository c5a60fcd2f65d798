"""The explorer: controls and a view, whose traits are its whole state; each answer is a Selection's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as widgets
import pandas as pd
import traitlets as t

from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.explorer import views
from cdpanalytics.presentation import happenings
from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation.analysis import ORDERS, Analysis
from cdpanalytics.schema import KEYS

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

DAY = pd.Timedelta(days=1)
_PERIODS: dict[str, int | None] = {
    "last 7 days": 7, "last 30 days": 30, "last 90 days": 90, "all": None, "own dates": None,
}  # fmt: skip
_SIDES = "Side by side"
_CALLS = {
    "Heat map": "rpo_adherence(by={vm}, freq={freq!r})", "Timeline": "gaps()", "Exposure": "gaps()",
    "Worst VMs": "worst(by={vm})", "Durations": "durations(by='policy')", "Sizes": "sizes(by='policy')",
    "Journal": "journal_adherence(by={vm})", "Status": "status()",
    _SIDES: "compare(by={side_key!r}, sides={sides!r})",
}  # fmt: skip
"""The metric of each view, as a method of a Selection."""

_NARROWED = ("period", "first", "last", "server", "vms", "picked")
"""Traits that showing one incident changes."""

_OWN_RPO = "each policy's own"
_RPOS = (_OWN_RPO, "15s", "30s", "1min", "5min", "15min", "1h", "4h")
_ALL = "all"


class ExplorerView(anywidget.AnyWidget):
    """Regions of HTML, and the VM or cell that was picked in them."""

    _esm = parts.source("tables.js") + Path(__file__).with_name("board.js").read_text(
        encoding="utf-8"
    )
    _css = t.Unicode("").tag(sync=True)
    tiles = t.Unicode("").tag(sync=True)
    main = t.Unicode("").tag(sync=True)
    detail = t.Unicode("").tag(sync=True)
    picked: t.List[Any] = t.List([]).tag(sync=True)
    incident: t.List[Any] = t.List([]).tag(sync=True)

    def __init__(self) -> None:
        super().__init__(_css=views.style())


class Explorer(widgets.VBox):  # type: ignore[misc]
    """Interactive exploration of a Selection.

    Every trait can be given as an argument, set from another cell, and observed; the
    controls follow. `Selection.explore` makes one.

    Attributes
    ----------
    period : str
        "last 7 days", "last 30 days" (default), "last 90 days", "all", or "own dates",
        which it becomes when a date is set. Periods end with the newest data.
    first, last : datetime.date
        The first and the last day shown, whole days in the Selection's zone.
    server : str
        A backup server, or "all".
    policies, vms : tuple of str
        Names; empty means all.
    rpo : str
        A target like "15min", or "each policy's own".
    view : str
        One of `VIEWS`.
    sides : str
        What the view "Side by side" compares, like "policy=Gold,Silver". It begins with the
        first two backup servers, else policies.
    order : str
        Order of the VMs in heat map and timeline: "breached" (most breached time first) or
        "incident" (by the incident that explains most of it).
    picked : tuple
        Backup server, policy, VM, and the day's start (or an empty text) of what was
        picked in the map: its sessions are listed below it.
    controls : dict of str
        The widgets that set the traits, by name.
    page : ExplorerView
        The widget that shows the answer: `tiles`, `main` and `detail` are its HTML.
    """

    period = t.Enum(list(_PERIODS), "last 30 days")
    first = t.Instance(dt.date)
    last = t.Instance(dt.date)
    server = t.Unicode(_ALL)
    policies = t.Tuple()
    vms = t.Tuple()
    rpo = t.Unicode(_OWN_RPO)
    view = t.Enum(list(views.VIEWS), next(iter(views.VIEWS)))
    sides = t.Unicode("")
    order = t.Enum(list(ORDERS), ORDERS[0])
    picked = t.Tuple()

    STATE = (
        "period", "first", "last", "server", "policies", "vms", "rpo", "view", "order", "sides",
        "picked",
    )  # fmt: skip

    def __init__(self, selection: Selection, **state: Any) -> None:
        self._loaded = selection.pinned()
        if self._loaded.sessions.empty:
            raise InputError("there are no sessions to explore; sync first, or select others")
        self._question = selection
        assert self._loaded.start is not None  # noqa: S101 - there are sessions
        assert self._loaded.stop is not None  # noqa: S101
        zone = selection.tz
        self._oldest = self._loaded.start.tz_convert(zone)
        # The end is exclusive: the last day is that of the instant before it.
        self._newest = (self._loaded.stop - pd.Timedelta(1, "us")).tz_convert(zone)
        self._held, self._stale, self._searching = 0, set(self.STATE), False
        self._analysis: Analysis | None = None
        self._before: dict[str, Any] = {}
        self.page = ExplorerView()
        self.controls = self._make_controls()
        super().__init__([self._control_box(), self.page])
        self.add_class("cdp-explorer-app")
        with self.batch():
            self.first, self.last = self._days(self.period)
            self.sides = _first_sides(self._loaded.sessions)
            self.observe(self._changed, list(self.STATE))
            self._link()
            for name, value in state.items():
                if name not in self.STATE:
                    raise InputError(f"explore has no {name!r}; use {', '.join(self.STATE)}")
                setattr(self, name, tuple(value) if name in ("policies", "vms") else value)

    # What an analyst takes away

    @property
    def selection(self) -> Selection:
        """The question that the controls ask, for use in other cells."""
        return self._narrowed(self._question)

    @property
    def data(self) -> pd.DataFrame:
        """The sessions of the selection."""
        return self.analysis.selection.sessions

    @property
    def analysis(self) -> Analysis:
        """The tables of the selection; each is computed when it is first used."""
        if self._analysis is None:
            self._analysis = self._analyze()
        return self._analysis

    def code(self) -> str:
        """Return the line that gives the view's table in any notebook."""
        since, until = (edge.isoformat() for edge in self._bounds())
        question = {"since": since, "until": until, "tz": self._question.tz, **self._chosen()}
        if self.rpo != _OWN_RPO:
            question["target"] = self.rpo
        given = ", ".join(f"{name}={value!r}" for name, value in question.items())
        key = self.analysis.side_key if self.view == _SIDES else None
        call = _CALLS[self.view].format(
            vm=KEYS, freq=self.analysis.freq, side_key=key, sides=self.sides
        )  # fmt: skip
        return f"archive.select({given}).{call}"

    def narrow(self, incident: int) -> None:
        """Show only the days and VMs of one incident, in every view; 0: what was shown before.

        Parameters
        ----------
        incident : int
            A number of `incidents()` of the `selection` shown. Narrowed, it is a question of
            its own, whose incidents have numbers of their own.

        Raises
        ------
        InputError
            When there is no such incident.
        """
        with self.batch():
            if incident:
                chosen = self._days_and_vms_of(incident)
                self._before = self._before or {name: getattr(self, name) for name in _NARROWED}
            else:
                chosen, self._before = self._before, {}
            for name, value in chosen.items():
                setattr(self, name, value)

    def _days_and_vms_of(self, incident: int) -> dict[str, Any]:
        gaps = happenings.vms_of(self.analysis, incident)
        if gaps.empty:
            raise InputError(f"there is no incident {incident} among those shown")
        zone, servers = self._question.tz, gaps["backup_server"].unique()
        first, last = (
            edge.tz_convert(zone).date() for edge in (gaps["start"].min(), gaps["end"].max())
        )
        return {
            "period": "own dates", "first": max(first, self._oldest.date()),
            "last": min(last, self._newest.date()), "vms": tuple(sorted(gaps["vm"].unique())),
            "server": str(servers[0]) if len(servers) == 1 else self.server, "picked": (),
        }  # fmt: skip

    # How it is drawn

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Draw once after several changes."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held and self._stale:
                self._draw()

    def _changed(self, change: dict[str, Any]) -> None:
        name = change["name"]
        with self.batch():
            self._stale.add(name)
            if name == "period" and self.period != "own dates":
                with self.hold_trait_notifications():
                    self.first, self.last = self._days(self.period)
            elif name in ("first", "last") and (self.first, self.last) != self._days(self.period):
                self.period = "own dates"

    def _draw(self) -> None:
        stale, self._stale = self._stale, set()
        if stale - {"view", "picked", "order"}:
            self._analysis = None
        try:
            self.analysis.order = self.order
            self.page.tiles = views.cards(self.analysis)
            if stale - {"picked"}:
                self.page.main = views.with_incidents(
                    self.view, self.analysis, narrowed=bool(self._before)
                )
            self.page.detail = self._detail()
        except CdpError as error:
            self.page.tiles, self.page.detail = "", ""
            self.page.main = views.alert(str(error))

    def _detail(self) -> str:
        if not self.picked:
            return ""
        server, policy, vm, start = self.picked
        rows = self.analysis.selection._frame
        rows = rows[
            (rows["backup_server"] == server) & (rows["vm"] == vm) & (rows["policy"] == policy)
        ]
        since, until = self._bounds()
        title = f"{vm} on {server}"
        if start:
            since = pd.Timestamp(start)
            until = since + (DAY if self.analysis.freq == "D" else 7 * DAY)
            title += f", {since.tz_convert(self._question.tz):%Y-%m-%d}"
        ended = rows["ended"].fillna(self._newest)
        return views.sessions(
            rows[(rows["created"] < until) & (ended >= since)], title, self._question.tz
        )

    def _analyze(self) -> Analysis:
        since, until = self._bounds()
        if since >= until:
            raise InputError(f"the period ends {self.last} before it begins {self.first}")
        return Analysis(self._narrowed(self._loaded), self.order, sides=self.sides)

    def _narrowed(self, question: Selection) -> Selection:
        """Return a question as the controls narrow it."""
        since, until = self._bounds()
        narrowed = question.during(since=since, until=until).where(**self._chosen())
        return narrowed if self.rpo == _OWN_RPO else narrowed.with_terms(target=self.rpo)

    def _chosen(self) -> dict[str, Any]:
        """What is chosen, as arguments of `Selection.where`; nothing where it is all."""
        server = () if self.server == _ALL else (self.server,)
        chosen = {"server": server, "policy": self.policies, "vm": self.vms}
        return {name: tuple(map(str, values)) for name, values in chosen.items() if values}

    def _bounds(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        zone = self._question.tz
        since = pd.Timestamp(self.first, tz=zone).tz_convert("UTC")
        until = pd.Timestamp(self.last + dt.timedelta(days=1), tz=zone).tz_convert("UTC")
        return self._loaded.clip(since, until)

    def _days(self, period: str) -> tuple[dt.date, dt.date]:
        last, oldest = self._newest.date(), self._oldest.date()
        length = _PERIODS[period]
        if period == "own dates":
            return self.first, self.last
        return (
            oldest if length is None else max(oldest, last - dt.timedelta(days=length - 1))
        ), last

    # Controls

    def _make_controls(self) -> dict[str, widgets.Widget]:
        names = {key: _names(self._loaded.sessions, key) for key in KEYS}
        self._names = names["vm"]
        wide = {"layout": widgets.Layout(width="auto"), "style": {"description_width": "72px"}}
        return {
            "period": widgets.Dropdown(options=list(_PERIODS), description="Period", **wide),
            "first": widgets.DatePicker(description="From", **wide),
            "last": widgets.DatePicker(description="To", **wide),
            "server": widgets.Dropdown(options=[_ALL, *names["backup_server"]], description="Server", **wide),
            "rpo": widgets.Combobox(options=_RPOS, description="RPO", ensure_option=False,
                                    continuous_update=False, **wide),
            "view": widgets.Dropdown(options=list(views.VIEWS), description="View", **wide),
            "sides": widgets.Text(description="Sides", placeholder="policy=Gold,Silver",
                                  continuous_update=False, **wide),
            "order": widgets.Dropdown(options=[("most breached first", "breached"), ("by incident", "incident")],
                                      description="Order", **wide),
            "policies": widgets.SelectMultiple(options=names["policy"], description="Policies", rows=5, **wide),
            "search": widgets.Text(description="Find VM", placeholder="part of a name", **wide),
            "vms": widgets.SelectMultiple(options=names["vm"], description="VMs", rows=5, **wide),
        }  # fmt: skip

    def _control_box(self) -> widgets.Widget:
        controls = self.controls
        columns = [
            [controls["period"], controls["first"], controls["last"]],
            [
                controls["server"], controls["rpo"], controls["view"], controls["order"],
                controls["sides"],
            ],
            [controls["policies"]], [controls["search"], controls["vms"]],
        ]  # fmt: skip
        return widgets.GridBox(
            [widgets.VBox(column) for column in columns],
            # As many columns as fit: with a file browser open four would be cut off.
            layout=widgets.Layout(grid_template_columns="repeat(auto-fit, minmax(200px, 1fr))", grid_gap="4px 12px"),
        )  # fmt: skip

    def _link(self) -> None:
        for name in ("period", "first", "last", "server", "rpo", "view", "order", "sides"):
            t.link((self, name), (self.controls[name], "value"))
        t.link((self, "policies"), (self.controls["policies"], "value"))
        self.controls["search"].observe(self._search, "value")
        self.controls["vms"].observe(self._choose, "value")
        self.observe(self._show_chosen, "vms")
        self.page.observe(self._pick, "picked")
        self.page.observe(self._pick_incident, "incident")

    def _search(self, _: object) -> None:
        """Narrow the list to a part of a name; chosen VMs stay listed."""
        part = self.controls["search"].value.casefold()
        matching = [name for name in self._names if part in name.casefold() or name in self.vms]
        self._searching = True
        self.controls["vms"].options = matching
        self.controls["vms"].value = self.vms
        self._searching = False

    def _choose(self, change: dict[str, Any]) -> None:
        if not self._searching:
            self.vms = tuple(change["new"])

    def _show_chosen(self, change: dict[str, Any]) -> None:
        missing = [name for name in change["new"] if name not in self.controls["vms"].options]
        if missing:
            self._search(None)
        self.controls["vms"].value = tuple(
            n for n in change["new"] if n in self.controls["vms"].options
        )

    def _pick(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self.picked = tuple(change["new"][:4])

    def _pick_incident(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self.narrow(int(change["new"][0]))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Give widgets where they run, and the same view as static HTML where none can."""
        bundle = super()._repr_mimebundle_(**options)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**bundle, "text/html": self._static_html(), "text/plain": repr(self)}

    def _static_html(self) -> str:
        try:
            return views.static_html(self.analysis, self.view)
        except CdpError as error:
            return views.alert(str(error))

    def __repr__(self) -> str:
        state = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in self.STATE if name != "picked"
        )
        return f"Explorer({state})"


def _names(sessions: pd.DataFrame, key: str) -> list[str]:
    return sorted(sessions[key].dropna().astype("str").unique()) if key in sessions else []


def _first_sides(sessions: pd.DataFrame) -> str:
    """Return two groups to begin with; nothing where there are no two that can be written."""
    for key in ("backup_server", "policy"):
        names = [name for name in _names(sessions, key) if "," not in name]
        if len(names) > 1:
            return f"{key}={names[0]},{names[1]}"
    return ""
