"""The estate file `cdpanalytics.toml`: what only the customer knows, said once for every door."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.estate.exclusions import Exclusions
from cdpanalytics.estate.tables import Document, Finding, read_document
from cdpanalytics.estate.tags import Tags
from cdpanalytics.patterns import Names, fitting, is_pattern, literal_characters

NAME: Final = "cdpanalytics.toml"
"""What the file is called in an archive's folder."""

Load = Callable[[str], Document]
"""Reads a file that the estate file names, relative to it."""


@dataclass(frozen=True)
class Objective:
    """The adherence promised to rows whose `column` (policy or a tag) fits a pattern."""

    column: str
    pattern: str
    share: float
    line: int | None = None


@dataclass(frozen=True)
class Rename:
    """A VM that got a new name; `server` (a pattern) is None where it is so on every server."""

    old: str
    new: str
    server: str | None = None
    line: int | None = None


@dataclass(frozen=True, eq=False)
class Estate:
    """What an estate file says; everything is optional, and an explicit argument replaces it.

    Attributes
    ----------
    source : str
        The file's name; empty without a file.
    zone : str or None
        Zone of periods, of times without an offset, and of display.
    zones : dict of str to str
        Zones of backup servers, by name or pattern: their schedules run in it.
    tags : Tags or None
        Tags of VMs.
    exclusions : tuple of Exclusions
        What is left out, per entry of the file.
    retire_after, grace : pandas.Timedelta or None
        As the metrics take them.
    objective : float or None
        The objective of whatever has none of its own.
    objectives : tuple of Objective
        By policy and by tag, in the order of the file.
    renames : tuple of Rename
        Old names of VMs.
    files : dict of str to str
        Name and SHA-256 of the file and of each table it names.

    Examples
    --------
    >>> text = b'zone = "Europe/Berlin"' + chr(10).encode() + b'objectives.policy."Gold*" = "99.95%"'
    >>> estate = Estate.parse(Document("cdpanalytics.toml", text))
    >>> estate.zone, estate.objectives[0].share
    ('Europe/Berlin', 0.9995)
    """

    source: str = ""
    zone: str | None = None
    zones: Mapping[str, str] = field(default_factory=dict)
    tags: Tags | None = None
    exclusions: tuple[Exclusions, ...] = ()
    retire_after: pd.Timedelta | None = None
    grace: pd.Timedelta | None = None
    objective: float | None = None
    objectives: tuple[Objective, ...] = ()
    renames: tuple[Rename, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    # -- reading -------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, tz: str = "UTC") -> Estate:
        """Read an estate file and the tables it names, which are looked for beside it.

        Parameters
        ----------
        path : path
            The file, or the folder that holds `cdpanalytics.toml`.
        tz : str
            Zone of local times in its tables where the file names none.

        Raises
        ------
        InputError
            With the line of the first thing that cannot be read; `check` returns all of them.
        """
        document, load = _beside(path)
        return cls.parse(document, load, tz=tz)

    @classmethod
    def parse(cls, document: Document, load: Load | None = None, *, tz: str = "UTC") -> Estate:
        """Read an estate file from its bytes, as they come from an object store.

        Parameters
        ----------
        document : Document
            The file.
        load : callable, optional
            Returns a file that it names as a `Document`. Without it such a file is refused.
        tz : str
            As in `read`.

        Raises
        ------
        InputError
            As `read`.
        """
        from cdpanalytics.estate.toml import Reader

        reader = Reader(document, load, tz)
        estate = reader.estate()
        if reader.problems:
            others = len(reader.problems) - 1
            more = f" ({others} more: cdpanalytics doctor lists them)" if others else ""
            raise InputError(f"{reader.problems[0]}{more}")
        return estate

    @classmethod
    def beside(cls, folder: str | os.PathLike[str], *, tz: str = "UTC") -> Estate:
        """Return the estate of a folder; an empty one where it has no such file."""
        path = Path(folder) / NAME
        return cls.read(path, tz=tz) if path.is_file() else cls()

    # -- what it says ----------------------------------------------------------------------

    def zone_of(self, server: str) -> str | None:
        """Return the zone of a backup server, None where the file does not say it.

        Of the entries that fit, an exact name goes first, then the pattern with more literal
        characters, then the first.
        """
        fits = [pattern for pattern in self.zones if fitting([server], pattern)]
        best = min(fits, key=_specific, default=None)
        return None if best is None else self.zones[best]

    def schedule_zones(self, servers: Sequence[str]) -> dict[str, str]:
        """Return the zones of backup servers as `schedule_tz=` takes them; only those known.

        Examples
        --------
        >>> estate = Estate(zones={"*.de": "Europe/Berlin", "vbr9.de": "UTC"})
        >>> estate.schedule_zones(["vbr1.de", "VBR9.DE", "vbr1.au"])
        {'vbr1.de': 'Europe/Berlin', 'VBR9.DE': 'UTC'}
        """
        zones = {server: self.zone_of(server) for server in servers}
        return {server: zone for server, zone in zones.items() if zone is not None}

    def objectives_of(self, rows: pd.DataFrame) -> pd.Series:
        """Return the objective of each row; NA where the file gives it none.

        A tag's objective wins over its policy's, and both over the file's `objective`. Of
        several tags that fit the first in the file counts; of policies the most specific.

        Parameters
        ----------
        rows : pandas.DataFrame
            With `policy` and the tags that the file names; missing columns fit nothing.
        """
        shares = np.full(len(rows), np.nan if self.objective is None else self.objective)
        # What decides is written last: rules of tags, and of equal ones the first in the file.
        order = sorted(enumerate(self.objectives), key=lambda item: (_strength(item[1]), -item[0]))
        for _, rule in order:
            if rule.column in rows:
                shares[Names(rows[rule.column]).positions(rule.pattern)] = rule.share
        return pd.Series(shares, index=rows.index, dtype="float64", name="objective")

    def renamed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame of VMs or sessions with new names in `vm`, so that a history goes on.

        Examples
        --------
        >>> estate = Estate(renames=(Rename("web-old", "web-1"),))
        >>> estate.renamed(pd.DataFrame({"backup_server": ["s"], "vm": ["WEB-OLD"]}))["vm"].tolist()
        ['web-1']
        """
        if not self.renames:
            return frame
        whole = frame["vm"].astype("object").to_numpy(copy=True)
        vms, servers = Names(frame["vm"]), Names(frame["backup_server"])
        for rename in self.renames:
            rows = vms.positions_of(rename.old)
            if rename.server is not None:
                rows = np.intersect1d(rows, servers.positions(rename.server), assume_unique=True)
            whole[rows] = self._newest_name(rename)
        vm = pd.Series(whole, index=frame.index, dtype="str")
        return frame.assign(vm=vm.astype("category") if _is_category(frame["vm"]) else vm)

    def _newest_name(self, rename: Rename) -> str:
        """Follow renames of renames; the reader has refused circles."""
        steps = {
            each.old.casefold(): each.new for each in self.renames if each.server == rename.server
        }
        name = rename.new
        while name.casefold() in steps:
            name = steps[name.casefold()]
        return name

    # -- what does not fit ------------------------------------------------------------------

    def findings(self, vms: pd.DataFrame) -> list[Finding]:
        """Return the zones and objectives of the file that fit nothing known.

        Parameters
        ----------
        vms : pandas.DataFrame
            All known combinations of `backup_server`, `policy`, `vm` and tags, with new names.
        """
        servers = Names(vms["backup_server"])
        findings = [
            Finding(self.source, None, f"zone of {pattern!r}: no backup server fits")
            for pattern in self.zones
            if not len(servers.positions(pattern))
        ]
        for rule in self.objectives:
            if rule.column not in vms or not len(Names(vms[rule.column]).positions(rule.pattern)):
                message = f"objective of {rule.column} {rule.pattern!r}: nothing known fits"
                findings.append(Finding(self.source, rule.line, message))
        return findings

    def unknown_renames(self, vms: pd.DataFrame) -> list[Finding]:
        """Return the renames of VMs that no session names, `vms` being all names as stored."""
        names = Names(vms["vm"])
        return [
            Finding(self.source, rename.line, f"no VM was ever called {rename.old!r}")
            for rename in self.renames
            if not len(names.positions_of(rename.old))
        ]


def check(path: str | os.PathLike[str], *, tz: str = "UTC") -> list[Finding]:
    """Return everything in an estate file, and the tables it names, that cannot be read.

    Parameters
    ----------
    path, tz
        As in `Estate.read`.

    Returns
    -------
    list of Finding
        By line; empty where `Estate.read` succeeds.
    """
    from cdpanalytics.estate.toml import Reader

    try:
        document, load = _beside(path)
    except InputError as problem:
        return [Finding(os.fspath(path), None, str(problem))]
    reader = Reader(document, load, tz)
    reader.estate()
    return reader.problems


def _beside(path: str | os.PathLike[str]) -> tuple[Document, Load]:
    file = Path(path) / NAME if Path(path).is_dir() else Path(path)
    return read_document(file), lambda name: read_document(file.parent / name)


def _specific(pattern: str) -> tuple[bool, int]:
    return is_pattern(pattern), -literal_characters(pattern)


def _strength(rule: Objective) -> tuple[int, int, int]:
    """Return a sort key: the greater, the rather the rule decides."""
    if rule.column != "policy":
        return 1, 0, 0
    return 0, int(not is_pattern(rule.pattern)), literal_characters(rule.pattern)


def _is_category(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)
