"""What the customer says about one question: the estate file, and arguments that replace its entries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cdpanalytics.estate.exclusions import Exclusions
from cdpanalytics.estate.file import Estate
from cdpanalytics.estate.tags import Tags
from cdpanalytics.schema import KEYS


@dataclass(frozen=True, eq=False)
class Context:
    """Tags, exclusions, renames and zones of one question.

    Parameters
    ----------
    estate : Estate
        What the file says; empty without one.
    tags : Tags, optional
    exclusions : tuple of Exclusions
    """

    estate: Estate = field(default_factory=Estate)
    tags: Tags | None = None
    exclusions: tuple[Exclusions, ...] = ()

    @classmethod
    def of(cls, estate: Estate, tags: Any = None, exclude: Any = None, tz: str = "UTC") -> Context:
        """Return the context of explicit arguments; None: the file's entry, False: none.

        Parameters
        ----------
        estate : Estate
        tags : path, DataFrame, Tags, False, optional
        exclude : path, DataFrame, pairs, Exclusions, a list of these, False, optional
        tz : str
            Zone of local times in tables.
        """
        chosen = estate.tags if tags is None else None if tags is False else _tags(tags)
        if exclude is None:
            return cls(estate, chosen, estate.exclusions)
        if exclude is False:
            return cls(estate, chosen)
        exclusions = exclude if isinstance(exclude, Exclusions) else Exclusions(exclude, tz=tz)
        return cls(estate, chosen, (exclusions,))

    @property
    def arguments(self) -> dict[str, Any]:
        """What the estate file does not say, as arguments of `of`: names of files, and False for none."""
        given: dict[str, Any] = {}
        if self.tags is not self.estate.tags:
            tags = self.tags
            given["tags"] = tags is not None and next(iter(tags.files), tags.source)
        if self.exclusions != self.estate.exclusions:
            given["exclude"] = [name for each in self.exclusions for name in each.files] or False
        return given

    @property
    def names_nothing(self) -> bool:
        """Whether there is no tag, exclusion, zone or objective that could fit nothing."""
        estate = self.estate
        return self.tags is None and not (self.exclusions or estate.zones or estate.objectives)

    @property
    def names(self) -> tuple[str, ...]:
        """The tags."""
        return () if self.tags is None else self.tags.names

    @property
    def files(self) -> dict[str, str]:
        """Name and SHA-256 of each file that was read."""
        files = dict(self.estate.files)
        if self.tags is not None:
            files.update(self.tags.files)
        for exclusions in self.exclusions:
            files.update(exclusions.files)
        return files

    def apply(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return sessions with the new names of VMs and with their tags as columns."""
        rows = self.estate.renamed(rows) if len(rows) else rows
        if self.tags is None:
            return rows
        known = rows.assign(**{name: None for name in KEYS if name not in rows})
        columns = self.tags.columns_for(known)
        return rows.assign(**{str(name): columns[name].astype("category") for name in columns})

    def windows(
        self, rows: pd.DataFrame, since: pd.Timestamp, until: pd.Timestamp
    ) -> pd.DataFrame | None:
        """Return the exclusions of a period with exact names; None where there are none."""
        if not self.exclusions:
            return None
        vms = self._vms(rows)
        parts = [each.resolve(vms, since, until) for each in self.exclusions]
        return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]

    def findings(self, rows: pd.DataFrame, since: pd.Timestamp, until: pd.Timestamp) -> list[str]:
        """Return what fits nothing and which VMs have no tag, one line each."""
        vms = self._vms(rows)
        findings = self.estate.findings(vms)
        findings += [] if self.tags is None else self.tags.findings(vms)
        for each in self.exclusions:
            findings += each.findings(vms, since, until)
        return list(map(str, findings))

    def schedule_zones(self, servers: Sequence[str]) -> dict[str, str]:
        """Return the zone of each backup server that the file knows."""
        return self.estate.schedule_zones(servers)

    def _vms(self, rows: pd.DataFrame) -> pd.DataFrame:
        columns = [*KEYS, *self.names]
        known = rows.assign(**{name: None for name in columns if name not in rows})
        return known[columns].drop_duplicates().reset_index(drop=True)


def read_estate(estate: Any, folder: Path | str, tz: str | None) -> Estate:
    """Return the estate file of a question: named, or beside an archive in a local folder.

    Parameters
    ----------
    estate : path, Estate, False, optional
        False reads no file; None the one in the folder, where there is one.
    folder : path or URL
        The archive's folder.
    tz : str, optional
        Zone of local times where the file names none.
    """
    zone = tz or "UTC"
    if isinstance(estate, Estate):
        return estate
    if estate is False:
        return Estate()
    if estate is not None:
        return Estate.read(estate, tz=zone)
    return Estate.beside(folder, tz=zone) if isinstance(folder, os.PathLike) else Estate()


def _tags(tags: Any) -> Tags:
    return tags if isinstance(tags, Tags) else Tags.read(tags)
