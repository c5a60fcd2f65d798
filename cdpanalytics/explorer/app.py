"""The explorer: a box of controls and a board, whose traits are its whole state."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import pandas as pd
import traitlets as t

from cdpanalytics import metrics, schema
from cdpanalytics.analysis import VM, Findings, Question, speaks_for
from cdpanalytics.archive import Archive
from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.explorer import views
from cdpanalytics.reports import sections

DAY = pd.Timedelta(days=1)
TICK = pd.Timedelta(1, "us")
PERIODS: dict[str, int | None] = {
    "last 7 days": 7, "last 30 days": 30, "last 90 days": 90, "all": None, "own dates": None,
}  # fmt: skip
CALLS = {
    "Heat map": ("rpo_adherence", "vm, period", "sessions"), "Timeline": ("gaps", "", "sessions"),
    "Exposure": ("gaps", "", "sessions"), "Worst VMs": ("worst", "vm", "sessions"),
    "Durations": ("durations", "policy", "sessions"), "Sizes": ("sizes", "policy", "sessions"),
    "Journal": ("journal_adherence", "vm", "intervals"),
}  # fmt: skip
"""The metric of each view, what it is by, and what it is of."""

OWN_RPO = "each policy's own"
RPOS = (OWN_RPO, "15s", "30s", "1min", "5min", "15min", "1h", "4h")
EVERY = "all"


class Board(anywidget.AnyWidget):
    """Regions of HTML, and the VM or cell that was picked in them."""

    _esm = sections.source("tables.js") + Path(__file__).with_name("board.js").read_text(
        encoding="utf-8"
    )
    _css = t.Unicode("").tag(sync=True)
    tiles = t.Unicode("").tag(sync=True)
    main = t.Unicode("").tag(sync=True)
    detail = t.Unicode("").tag(sync=True)
    picked: t.List[Any] = t.List([]).tag(sync=True)

    def __init__(self) -> None:
        super().__init__(_css=views.style())


class Explorer(widgets.VBox):  # type: ignore[misc]
    """Interactive exploration of the sessions of an archive, or of a frame.

    Every trait can be given as an argument, set from another cell, and observed; the
    controls follow. Use `explore`.

    Attributes
    ----------
    period : str
        "last 7 days", "last 30 days" (default), "last 90 days", "all", or "own dates",
        which it becomes when a date is set. Periods end with the newest session known.
    first, last : datetime.date
        The first and the last day shown, whole days in `tz`.
    server : str
        A backup server, or "all".
    policies, vms : tuple of str
        Names; empty means all.
    rpo : str
        A target like "15min", or "each policy's own".
    view : str
        One of `VIEWS`.
    picked : tuple
        Backup server, policy, VM, and the day's beginning (or an empty text) of what was
        picked in the map: its sessions stand below it.

    See Also
    --------
    explore : how to make one.
    """

    period = t.Enum(list(PERIODS), "last 30 days")
    first = t.Instance(dt.date)
    last = t.Instance(dt.date)
    server = t.Unicode(EVERY)
    policies = t.Tuple()
    vms = t.Tuple()
    rpo = t.Unicode(OWN_RPO)
    view = t.Enum(list(views.VIEWS), next(iter(views.VIEWS)))
    picked = t.Tuple()

    STATE = ("period", "first", "last", "server", "policies", "vms", "rpo", "view", "picked")

    def __init__(
        self,
        sessions: pd.DataFrame,
        settings: pd.DataFrame | None = None,
        holes: pd.DataFrame | None = None,
        intervals: pd.DataFrame | None = None,
        *,
        tz: str = "UTC",
        made_of: str = "sessions",
        **state: Any,
    ) -> None:
        if sessions.empty:
            raise InputError("there are no sessions to explore; sync first, or give another frame")
        self._all, self._settings, self._intervals = _with_keys(sessions), settings, intervals
        self._holes = pd.DataFrame(columns=["start", "end"]) if holes is None else holes
        self._tz, self._made_of = tz, made_of
        newest = speaks_for(sessions)
        since, until = self._read_for = _read_for(sessions)
        # The last day is that of the last instant before `until`.
        self._newest = min(newest, newest if pd.isna(until) else until - TICK).tz_convert(tz)
        oldest = sessions["created"].min() if pd.isna(since) else since
        self._oldest = oldest.tz_convert(tz)
        self._held, self._stale, self._searching = 0, set(self.STATE), False
        self._found: Findings | None = None
        self._board = Board()
        self._controls = self._make_controls()
        super().__init__([self._control_box(), self._board])
        self.add_class("cdp-desk")
        with self.batch():
            self.first, self.last = self._days(self.period)
            self.observe(self._changed, list(self.STATE))
            self._link()
            for name, value in state.items():
                if name not in self.STATE:
                    raise InputError(f"explore has no {name!r}; use {', '.join(self.STATE)}")
                setattr(self, name, tuple(value) if name in ("policies", "vms") else value)

    # What an analyst takes away

    @property
    def data(self) -> pd.DataFrame:
        """The sessions of the selection: those that run in its period."""
        rows = self.findings.sessions
        since, until = self._window()
        over = rows["ended"].fillna(rows.get("as_of", self._newest))
        return rows[(rows["created"] < until) & (over >= since)]

    @property
    def findings(self) -> Findings:
        """The numbers of the selection; each table is made when first asked for."""
        if self._found is None:
            self._found = self._ask()
        return self._found

    def code(self) -> str:
        """Return the lines that give the view's numbers in any notebook."""
        call, also, of = CALLS[self.view]
        lines = [f"selected = {self._made_of if of == 'sessions' else of}"]
        for key, values in self._chosen().items():
            lines.append(f"selected = selected[selected[{key!r}].isin({list(map(str, values))!r})]")
        since, until = self._window()
        settings = "policies.drop(columns='vms')" if self._chosen() else "policies"
        asked = {
            "target": None if self.rpo == OWN_RPO else repr(self.rpo),
            "since": f'"{since.isoformat()}"', "until": f'"{until.isoformat()}"',
            "tz": repr(self._tz), "freq": repr(self.findings.freq),
            "policies": None if self._settings is None else settings,
            "unobserved": "holes" if len(self._holes) else None,
        }  # fmt: skip
        takes = inspect.signature(getattr(metrics, call)).parameters
        given = [f"{name}={said}" for name, said in asked.items()
                 if said and name in takes and (name != "freq" or "period" in also)]  # fmt: skip
        by = f"by={VM!r}" if "vm" in also else "by='policy'" if "policy" in also else ""
        return "\n".join(
            [*lines, f"selected.cdp.{call}({', '.join([by, *given] if by else given)})"]
        )

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
        if stale - {"view", "picked"}:
            self._found = None
        try:
            self._board.tiles = views.tiles(self.findings)
            if stale - {"picked"}:
                self._board.main = views.VIEWS[self.view](self.findings)
            self._board.detail = self._detail()
        except CdpError as error:
            self._board.tiles, self._board.detail = "", ""
            self._board.main = views.alert(str(error))

    def _detail(self) -> str:
        if not self.picked:
            return ""
        server, policy, vm, start = self.picked
        rows = self.findings.sessions
        rows = rows[
            (rows["backup_server"] == server) & (rows["vm"] == vm) & (rows["policy"] == policy)
        ]
        since, until = self._window()
        who = f"{vm} on {server}"
        if start:
            since = pd.Timestamp(start)
            until = since + (DAY if self.findings.freq == "D" else 7 * DAY)
            who += f", {since.tz_convert(self._tz):%Y-%m-%d}"
        over = rows["ended"].fillna(self._newest)
        return views.sessions(rows[(rows["created"] < until) & (over >= since)], who)

    def _ask(self) -> Findings:
        rows, intervals, settings = self._all, self._intervals, self._settings
        for key, values in self._chosen().items():
            rows = rows[rows[key].isin(list(values))]
            if intervals is not None:
                intervals = intervals[intervals[key].isin(list(values))]
        if settings is not None and self._chosen():
            settings = settings.drop(columns="vms", errors="ignore")
        since, until = self._window()
        if since >= until:
            raise InputError(f"the period ends {self.last} before it begins {self.first}")
        rpo = None if self.rpo == OWN_RPO else self.rpo
        question = Question(since, until, self.policies or None, self.vms or None, rpo, tz=self._tz)
        return Findings(question, rows, settings, self._holes, (since, until), None, intervals)

    def _chosen(self) -> dict[str, tuple[str, ...]]:
        """What is chosen, by key; a key without choice is all of them."""
        server = (self.server,) if self.server != EVERY else ()
        chosen = {"backup_server": server, "policy": self.policies, "vm": self.vms}
        return {key: values for key, values in chosen.items() if values}

    def _window(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        since = pd.Timestamp(self.first, tz=self._tz)
        until = pd.Timestamp(self.last + dt.timedelta(days=1), tz=self._tz)
        first, last = self._read_for
        since, until = since.tz_convert("UTC"), until.tz_convert("UTC")
        return since if pd.isna(first) else max(since, first), until if pd.isna(last) else min(
            until, last
        )

    def _days(self, period: str) -> tuple[dt.date, dt.date]:
        last, oldest = self._newest.date(), self._oldest.date()
        length = PERIODS[period]
        if period == "own dates":
            return self.first, self.last
        return (
            oldest if length is None else max(oldest, last - dt.timedelta(days=length - 1))
        ), last

    # Controls

    def _make_controls(self) -> dict[str, widgets.Widget]:
        known = {key: _known(self._all, key) for key in ("backup_server", "policy", "vm")}
        self._names = known["vm"]
        wide = {"layout": widgets.Layout(width="auto"), "style": {"description_width": "72px"}}
        return {
            "period": widgets.Dropdown(options=list(PERIODS), description="Period", **wide),
            "first": widgets.DatePicker(description="From", **wide),
            "last": widgets.DatePicker(description="To", **wide),
            "server": widgets.Dropdown(options=[EVERY, *known["backup_server"]], description="Server", **wide),
            "rpo": widgets.Combobox(options=RPOS, description="RPO", ensure_option=False,
                                    continuous_update=False, **wide),
            "view": widgets.Dropdown(options=list(views.VIEWS), description="View", **wide),
            "policies": widgets.SelectMultiple(options=known["policy"], description="Policies", rows=5, **wide),
            "search": widgets.Text(description="Find VM", placeholder="part of a name", **wide),
            "vms": widgets.SelectMultiple(options=known["vm"], description="VMs", rows=5, **wide),
        }  # fmt: skip

    def _control_box(self) -> widgets.Widget:
        one = self._controls
        columns = [
            [one["period"], one["first"], one["last"]],
            [one["server"], one["rpo"], one["view"]],
            [one["policies"]], [one["search"], one["vms"]],
        ]  # fmt: skip
        return widgets.GridBox(
            [widgets.VBox(column) for column in columns],
            layout=widgets.Layout(grid_template_columns="repeat(4, minmax(180px, 1fr))", grid_gap="4px 12px"),
        )  # fmt: skip

    def _link(self) -> None:
        for name in ("period", "first", "last", "server", "rpo", "view"):
            t.link((self, name), (self._controls[name], "value"))
        t.link((self, "policies"), (self._controls["policies"], "value"))
        self._controls["search"].observe(self._search, "value")
        self._controls["vms"].observe(self._choose, "value")
        self.observe(self._show_chosen, "vms")
        self._board.observe(self._pick, "picked")

    def _search(self, _: object) -> None:
        """Narrow the list to a part of a name; what was chosen stays chosen, and listed."""
        part = self._controls["search"].value.casefold()
        found = [name for name in self._names if part in name.casefold() or name in self.vms]
        self._searching = True
        self._controls["vms"].options = found
        self._controls["vms"].value = self.vms
        self._searching = False

    def _choose(self, change: dict[str, Any]) -> None:
        if not self._searching:
            self.vms = tuple(change["new"])

    def _show_chosen(self, change: dict[str, Any]) -> None:
        missing = [name for name in change["new"] if name not in self._controls["vms"].options]
        if missing:
            self._search(None)
        self._controls["vms"].value = tuple(
            n for n in change["new"] if n in self._controls["vms"].options
        )

    def _pick(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self.picked = tuple(change["new"][:4])

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Give widgets where they run, and the same view, still, where none can."""
        bundle = super()._repr_mimebundle_(**options)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**bundle, "text/html": self._still(), "text/plain": repr(self)}

    def _still(self) -> str:
        try:
            return views.still(self.findings, self.view)
        except CdpError as error:
            return views.alert(str(error))

    def __repr__(self) -> str:
        said = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in self.STATE if name != "picked"
        )
        return f"Explorer({said})"


def explore(
    source: Archive | pd.DataFrame,
    *,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    tz: str = "UTC",
    **state: Any,
) -> Explorer:
    """Explore an archive, or a frame of sessions, in a notebook.

    Parameters
    ----------
    source : Archive or pandas.DataFrame
        Of a frame: `vm`, `created`, `ended`, as the metrics take it.
    policies, unobserved : pandas.DataFrame, optional
        For a frame: settings and holes, as in `metrics.rpo_adherence`. An archive brings
        its own.
    tz : str
        Zone of days and schedules.
    **state
        Traits of `Explorer`: ``view="Sizes", period="last 7 days", rpo="15min"``.

    Returns
    -------
    Explorer
        A widget: its traits can be set from another cell; ``.data`` is the selection as a
        frame, ``.code()`` the lines that reproduce the view.

    Raises
    ------
    InputError, ArchiveError
        When there is nothing to explore, or a trait is not known.
    """
    if isinstance(source, pd.DataFrame):
        return Explorer(source, policies, unobserved, tz=tz, **state)
    return Explorer(
        source.sessions(), source.policies(), source.holes(), source.intervals(),
        tz=tz, made_of="archive.sessions()", **state,
    )  # fmt: skip


def _read_for(sessions: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Which window a frame was read for; NaT where it has no bound."""
    since, until = schema.window_of(sessions)
    return pd.Timestamp(since or "NaT"), pd.Timestamp(until or "NaT")


def _with_keys(sessions: pd.DataFrame) -> pd.DataFrame:
    """The frame with each key, missing where it has none."""
    absent = [key for key in ("backup_server", "policy") if key not in sessions]
    return sessions.assign(**{key: pd.Series(None, sessions.index, dtype="str") for key in absent})


def _known(sessions: pd.DataFrame, key: str) -> list[str]:
    return sorted(sessions[key].dropna().astype("str").unique())
