"""Rows that a query selects of a snapshot, in its order."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from . import guids
from .fleet import Fleet, Snapshot
from .grammar import FilterError
from .grammar import select as select_rows
from .kinds import Kind
from .tables import Rows, Table

if TYPE_CHECKING:
    from .server import Simulator

_CACHE_SIZE = 16


class Selections:
    """The rows that queries select of a simulator's fleet; the last few are kept.

    The pages of one walk are cut from one selection.
    """

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[Any, ...], tuple[Table, Rows]] = OrderedDict()
        self._tables: dict[str, tuple[Fleet, Snapshot, Table]] = {}

    def select(
        self, kind: Kind, snapshot: Snapshot, parameters: dict[str, str]
    ) -> tuple[Table, Rows]:
        """Return a kind's table and the positions that a query selects of it, in its order."""
        sort = (parameters.get("sortasc"), parameters.get("sortdesc"))
        key = (kind.name, str(snapshot), parameters.get("filter", ""), *sort)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        table = self._kept_table(kind, snapshot)
        chosen = np.flatnonzero(
            select_rows(parameters.get("filter", ""), table.columns, len(table.rows))
        )
        if table.visible is not None:
            chosen = chosen[table.visible[chosen]]
        answer = table, self._sorted(table, chosen, *sort)
        with self._lock:
            self._cache[key] = answer
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return answer

    def _kept_table(self, kind: Kind, snapshot: Snapshot) -> Table:
        """Return a kind's rows; the last ones are kept, for many queries ask about one snapshot."""
        fleet = self._simulator.fleet
        with self._lock:
            kept = self._tables.get(kind.name)
        if kept is None or kept[0] is not fleet or kept[1] != snapshot:
            kept = fleet, snapshot, kind.table(fleet, snapshot, self._simulator.version >= 13)
            with self._lock:
                self._tables[kind.name] = kept
        return kept[2]

    def _sorted(self, table: Table, chosen: Rows, up: str | None, down: str | None) -> Rows:
        name = up or down
        if name is None:
            return chosen[
                guids.order(table.guids.take(chosen), sql_server=self._simulator.version < 13)
            ]
        if name.casefold() not in table.columns:
            raise FilterError(f"unknown field '{name}'")
        order = np.argsort(table.columns[name.casefold()]().rank()[chosen], kind="stable")
        return chosen[order if up else order[::-1]]
