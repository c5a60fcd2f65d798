"""Where a Selection's sessions come from: an archive, or a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.patterns import CALLED, Patterns, fitting, matching
from cdpanalytics.timeparse import Moment

Window = tuple[pd.Timestamp | None, pd.Timestamp | None]
"""Start and end of a period; None where it has no bound."""

_VM = ["backup_server", "policy", "vm"]


@dataclass(frozen=True)
class Names:
    """Names or glob patterns of the sessions asked for; None means all."""

    policy: Patterns = None
    vm: Patterns = None
    server: Patterns = None

    def columns(self) -> dict[str, str | Sequence[str]]:
        """Return the patterns by column, only those that were given."""
        given = {"policy": self.policy, "vm": self.vm, "backup_server": self.server}
        return {column: patterns for column, patterns in given.items() if patterns is not None}


ALL_NAMES = Names()
"""No narrowing: every session."""


class Source(Protocol):
    """Where a Selection's sessions come from."""

    def window(self, since: Moment | None, until: Moment | None) -> Window:
        """Return the instants that `since` and `until` mean."""

    def frame(self, window: Window, names: Names) -> pd.DataFrame:
        """Return sessions of the window and the neighbours that decide its edges; at least those named."""

    def policies(self, names: Names) -> pd.DataFrame | None:
        """Return the settings of policies."""

    def holes(self) -> pd.DataFrame:
        """Return the stretches that were never fetched."""

    def intervals(self, window: Window, names: Names) -> pd.DataFrame:
        """Return the restorable intervals."""

    def provenance(self, window: Window) -> dict[str, Any]:
        """Return where the sessions come from."""


@dataclass(frozen=True)
class ArchiveSource:
    """The sessions of an archive."""

    archive: Archive

    def __repr__(self) -> str:
        return repr(self.archive)

    def window(self, since: Moment | None, until: Moment | None) -> Window:
        """Return the instants; lengths count back from the archive's newest as_of."""
        return self.archive.window(since, until)

    def frame(self, window: Window, names: Names) -> pd.DataFrame:
        """Read the sessions and their neighbours, of all policies of the VMs with these names."""
        return self.archive.sessions(*window, vm=names.vm, server=names.server, history=True)

    def policies(self, names: Names) -> pd.DataFrame:
        """Return the settings; they list VMs only where no name is selected."""
        return self.archive.policies(naming_vms=not names.columns())

    def holes(self) -> pd.DataFrame:
        """Return the archive's holes."""
        return self.archive.holes()

    def intervals(self, window: Window, names: Names) -> pd.DataFrame:
        """Return the journal."""
        return named(self.archive.intervals(*window), names)

    def provenance(self, window: Window) -> dict[str, Any]:
        """Return sources, rows, files and their SHA-256."""
        return self.archive.provenance(*window)


@dataclass(frozen=True, eq=False)
class FrameSource:
    """The sessions of a DataFrame, with what is known of policies, holes and intervals."""

    sessions: pd.DataFrame
    settings: pd.DataFrame | None = None
    unobserved: pd.DataFrame | None = None
    journal: pd.DataFrame | None = None
    origin: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"a DataFrame of {len(self.sessions):,} sessions"

    def window(self, since: Moment | None, until: Moment | None) -> Window:
        """Return the instants; text without an offset is UTC."""
        edges = (None if edge is None else pd.Timestamp(edge) for edge in (since, until))
        start, stop = (
            None if e is None else e.tz_localize("UTC") if e.tzinfo is None else e for e in edges
        )
        return start, stop

    def frame(self, window: Window, names: Names) -> pd.DataFrame:
        """Return all rows: those outside the window are its neighbours."""
        return self.sessions

    def policies(self, names: Names) -> pd.DataFrame | None:
        """Return the settings; they list VMs only where no name is selected."""
        if self.settings is None or not names.columns():
            return self.settings
        return self.settings.drop(columns="vms", errors="ignore")

    def holes(self) -> pd.DataFrame:
        """Return the holes; none unless they were given."""
        return (
            pd.DataFrame(columns=["start", "end"]) if self.unobserved is None else self.unobserved
        )

    def intervals(self, window: Window, names: Names) -> pd.DataFrame:
        """Return the intervals that begin in the window; none unless they were given."""
        if self.journal is None:
            return pd.DataFrame(columns=[*_VM, "start", "end", "rpo", "kind"])
        return named(self.journal[inside(self.journal["start"], window)], names)

    def provenance(self, window: Window) -> dict[str, Any]:
        """Return the origin as given, or that it is a frame."""
        rows = int(inside(self.sessions["created"], window).sum())
        return dict(
            self.origin or {"sources": ["a DataFrame"], "rows": rows, "files": 0, "sha256": "–"}
        )


def inside(instants: pd.Series, window: Window) -> pd.Series:
    """Return which instants lie in a window."""
    since, until = window
    inside = pd.Series(True, index=instants.index)
    if since is not None:
        inside &= instants >= since
    return inside if until is None else inside & (instants < until)


def named(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return the rows of a table with these names; none where a pattern fits nothing."""
    for column, patterns in names.columns().items():
        labels = table[column].astype("str")
        table = table[labels.isin(fitting(labels.dropna().unique(), patterns))]
    return table


def check_names(table: pd.DataFrame, names: Names) -> None:
    """Refuse a pattern that fits no name of a table.

    Raises
    ------
    InputError
        When there is one.
    """
    for column, patterns in names.columns().items():
        if column not in table:
            raise InputError(f"the sessions have no column {column!r} to select by")
        matching(table[column].dropna().astype("str").unique(), patterns, CALLED[column])
