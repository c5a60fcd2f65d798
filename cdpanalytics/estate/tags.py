"""Tags of VMs, as a table of the customer says them: department, tier, owner."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from cdpanalytics import schema
from cdpanalytics.errors import InputError
from cdpanalytics.estate.tables import (
    Cells,
    Document,
    Finding,
    cells_of_document,
    cells_of_frame,
    named_columns,
    place,
    read_document,
    text_of,
)
from cdpanalytics.patterns import Names, literal_characters
from cdpanalytics.schema import KEYS

Source: TypeAlias = str | os.PathLike[str] | pd.DataFrame | Document


HEADS: Final[Mapping[str, tuple[str, ...]]] = {
    "backup_server": ("backupserver", "server", "vbr", "vbrserver", "sicherungsserver"),
    "policy": ("policy", "policies", "cdppolicy", "richtlinie"),
    "vm": ("vm", "vms", "vmname", "virtualmachine", "machine", "maschine", "virtuellemaschine"),
}
"""Heads in English and German, as `tables.folded` compares them."""

_RESERVED: Final = frozenset(schema.SESSIONS.names) - {*KEYS} | {
    "window", "neighbour", "terms", "start", "end", "period", "since", "age", "target", "at",
    "last_success", "last_result", "recovery_point", "recovery_age",
}  # fmt: skip
"""Columns that sessions, periods, gaps and the status of a VM have themselves."""

_LISTED: Final = 5


@dataclass(frozen=True)
class Row:
    """A row of a table of tags: whom it is about, and its tags; None decides nothing."""

    line: int
    server: str | None
    vm: str | None
    policy: str | None
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Tags:
    """Tags of VMs or policies, as a table says them for all time.

    Of the rows that fit a VM the most specific decides, for each column by itself: exact VM
    and backup server, exact VM, VM pattern and backup server, VM pattern (the one with more
    literal characters first), policy; then the first in the table. An empty cell decides
    nothing. A row by policy tags the time that belongs to the policy.

    Attributes
    ----------
    source : str
        The table's name.
    names : tuple of str
        The tags, in the order of the table's columns.
    rows : tuple of Row
        The table.
    files : dict of str to str
        Name and SHA-256 of the file it was read from; empty for a frame.
    """

    source: str
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Source, *, columns: Mapping[str, str] | None = None) -> Tags:
        """Read a table of tags.

        Parameters
        ----------
        source : path, pandas.DataFrame or Document
            CSV (commas, semicolons, tabs), workbook (its first sheet), Parquet, or a frame.
            Columns `vm` or `policy`, optionally `backup_server` (English or German heads); a
            row names a VM or a policy, as a name or a glob pattern in any case. Every other
            column is a tag.
        columns : dict of str to str, optional
            The table's own heads: ``{"vm": "Asset"}``.

        Raises
        ------
        InputError
            With the line number, if the table cannot be read.

        Examples
        --------
        >>> cmdb = pd.DataFrame({"vm": ["sql-*", "web-1"], "department": ["Finance", "Shop"]})
        >>> tags = Tags.read(cmdb)
        >>> vms = pd.DataFrame({"backup_server": "vbr01", "vm": ["sql-1", "web-1"], "policy": "Gold"})
        >>> tags.columns_for(vms)["department"].tolist()
        ['Finance', 'Shop']
        """
        if isinstance(source, pd.DataFrame):
            return cls(*_parsed(cells_of_frame(source, "tags"), columns))
        document = source if isinstance(source, Document) else read_document(source)
        parsed = _parsed(cells_of_document(document), columns)
        return cls(*parsed, files={document.name: document.sha256})

    def columns_for(self, vms: pd.DataFrame) -> pd.DataFrame:
        """Return the tags of each row of a frame.

        Parameters
        ----------
        vms : pandas.DataFrame
            Columns `backup_server`, `vm`, `policy`: a list of VMs, or sessions. Missing names
            fit no row.

        Returns
        -------
        pandas.DataFrame
            One column of text per tag, NA where no row decides, on the index of `vms`.
        """
        combinations, inverse = _combinations(vms)
        values = self._values(combinations)
        tags = {
            name: pd.Series(column[inverse], index=vms.index, dtype="str")
            for name, column in zip(self.names, values.T, strict=True)
        }
        return pd.DataFrame(tags, index=vms.index)

    def findings(self, vms: pd.DataFrame) -> list[Finding]:
        """Return which rows fit nothing known, and which VMs have no tag, per column.

        Parameters
        ----------
        vms : pandas.DataFrame
            All known combinations of `backup_server`, `vm`, `policy`.

        Examples
        --------
        >>> tags = Tags.read(pd.DataFrame({"vm": ["a", "no-such-vm"], "tier": ["1", "2"]}))
        >>> vms = pd.DataFrame({"backup_server": "s", "vm": ["a", "b"], "policy": "Gold"})
        >>> print(*tags.findings(vms), sep=chr(10))
        tags, line 2: names nothing known: VM no-such-vm
        tags: 1 of 2 VMs without tier: b (s)
        """
        combinations, _ = _combinations(vms)
        known = _Known(combinations)
        unknown = [
            Finding(self.source, row.line, f"names nothing known: {_whom(row)}")
            for row in self.rows
            if not len(known.positions(row))
        ]
        return unknown + list(self._untagged(combinations))

    def _values(self, combinations: pd.DataFrame) -> np.ndarray:
        known = _Known(combinations)
        values = np.full((len(combinations), len(self.names)), None, dtype=object)
        for row in sorted(self.rows, key=known.rank):
            positions = known.positions(row)
            for column, value in enumerate(row.values):
                if value is not None and len(positions):
                    # More specific rows came before: only what they left open is decided.
                    open_ = positions[[cell is None for cell in values[positions, column]]]
                    values[open_, column] = value
        return values

    def _untagged(self, combinations: pd.DataFrame) -> Iterator[Finding]:
        values = self._values(combinations)
        named = combinations["vm"].notna().to_numpy()
        # A missing backup server is a place of its own, so that its VMs are listed, too.
        servers = combinations["backup_server"].fillna("")
        machines = pd.MultiIndex.from_arrays([servers, combinations["vm"]])
        for name, column in zip(self.names, values.T, strict=True):
            has = pd.Series(column, dtype="object").notna()[named].groupby(machines[named]).any()
            bare = sorted((vm_name, server) for server, vm_name in has.index[~has])
            if bare:
                more = ", ..." if len(bare) > _LISTED else ""
                listed = ", ".join(f"{vm} ({at})" if at else vm for vm, at in bare[:_LISTED])
                message = f"{len(bare):,} of {len(has):,} VMs without {name}: {listed}{more}"
                yield Finding(self.source, None, message)


def _parsed(
    cells: Cells, columns: Mapping[str, str] | None
) -> tuple[str, tuple[str, ...], tuple[Row, ...]]:
    named = named_columns(cells, HEADS, columns)
    if not {"vm", "policy"} & named.keys():
        has = ", ".join(cells.heads)
        raise InputError(
            f"{cells.source}: no column vm or policy (has: {has}); name it in columns="
        )
    tags = tuple(head for head in cells.heads if head not in named.values())
    if not tags:
        raise InputError(f"{cells.source} has no column besides {', '.join(cells.heads)}: no tag")
    for tag in tags:
        if tag.casefold() in _RESERVED:
            raise InputError(
                f"{cells.source}: a tag cannot be called {tag!r}: sessions or their status have such a "
                "column; rename it"
            )
    return cells.source, tags, tuple(_rows(cells, named, tags))


def _rows(cells: Cells, named: Mapping[str, str], tags: Sequence[str]) -> Iterator[Row]:
    for line, row in cells.rows:
        texts = dict(zip(cells.heads, map(text_of, row), strict=True))
        server, policy, vm = (texts[named[key]] if key in named else None for key in KEYS)
        if (vm is None) == (policy is None):
            both = "both a VM and a policy" if vm else "neither a VM nor a policy"
            raise InputError(
                f"{place(cells.source, line)}: names {both}; a row is about one of them"
            )
        yield Row(line, server, vm, policy, tuple(texts[tag] for tag in tags))


def _whom(row: Row) -> str:
    what = f"VM {row.vm}" if row.vm is not None else f"policy {row.policy}"
    return what if row.server is None else f"{what} of backup server {row.server}"


def _combinations(vms: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the distinct combinations of a frame's names, and the one of each of its rows."""
    for key in KEYS:
        if key not in vms:
            has = ", ".join(map(str, vms.columns))
            raise InputError(f"no column {key!r}; tags need {', '.join(KEYS)} (has: {has})")
    whole = np.zeros(len(vms), dtype=np.int64)
    for key in KEYS:
        codes, uniques = pd.factorize(vms[key])
        # Combined codes are renumbered at once: they stay small however many columns there are.
        whole = np.unique(whole * (len(uniques) + 1) + codes + 1, return_inverse=True)[1]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    names = vms.iloc[first].reset_index(drop=True)
    plain: dict[str, Any] = {key: names[key].astype("str") for key in KEYS}
    return pd.DataFrame(plain), inverse


class _Known:
    """The known combinations of names, and which of them a row of a table fits."""

    def __init__(self, combinations: pd.DataFrame) -> None:
        self._of = {key: Names(combinations[key]) for key in KEYS}

    def positions(self, row: Row) -> np.ndarray:
        """Return the combinations that a row fits."""
        given = {"backup_server": row.server, "policy": row.policy, "vm": row.vm}
        fits = [self._of[key].positions(text) for key, text in given.items() if text is not None]
        positions = fits[0]
        for other in fits[1:]:
            positions = np.intersect1d(positions, other, assume_unique=True)
        return positions

    def rank(self, row: Row) -> tuple[int, int, int]:
        """Return how specific a row is; the smallest decides."""
        if row.vm is None:
            return 4, 0, row.line
        if self._of["vm"].is_exact(row.vm):
            return (0 if row.server else 1), 0, row.line
        return (2 if row.server else 3), -literal_characters(row.vm), row.line
