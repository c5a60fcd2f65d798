"""The pictures as methods of a Selection: each computes its metric and draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from cdpanalytics import plots
from cdpanalytics.schema import KEYS

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

By = str | Sequence[str]


@dataclass(frozen=True)
class Plots:
    """Pictures of a Selection's metrics; each method returns the Axes it draws on."""

    selection: Selection

    def timeline(self, *, ax: Axes | None = None) -> Axes:
        """Draw when the VMs with most exposure were covered, and their gaps: `plots.timeline`."""
        asked = self.selection
        return plots.timeline(asked.sessions, asked.gaps(), since=asked.start, until=asked.stop,
                              unobserved=asked.holes, ax=ax)  # fmt: skip

    def heat_map(self, *, freq: str = "D", ax: Axes | None = None) -> Axes:
        """Draw when the VMs with most breached time were in breach: `plots.heat_map`."""
        return plots.heat_map(self.selection.rpo_adherence(by=KEYS, freq=freq), ax=ax)

    def adherence(self, by: By = "policy", *, freq: str = "D", ax: Axes | None = None) -> Axes:
        """Draw adherence by group and period: `plots.adherence`."""
        return plots.adherence(
            self.selection.rpo_adherence(by=by, freq=freq),
            objective=self.selection.objective,
            ax=ax,
        )

    def durations(self, by: By = "policy", *, ax: Axes | None = None) -> Axes:
        """Draw how long finished sessions lasted: `plots.durations`."""
        return plots.durations(self.selection.durations(by=by), ax=ax)

    def achieved_rpo(self, by: str = "policy", *, ax: Axes | None = None) -> Axes:
        """Draw the RPO achieved over time, from the journal: `plots.achieved_rpo`."""
        asked = self.selection
        return plots.achieved_rpo(asked.intervals, target=asked.target, by=by, ax=ax)

    def sizes(self, by: By = "policy", *, ax: Axes | None = None) -> Axes:
        """Draw the protected size by period: `plots.sizes`."""
        return plots.sizes(self.selection.sizes(by=by), ax=ax)

    def exposure(self, *, target: object = None, ax: Axes | None = None) -> Axes:
        """Draw how many gaps lasted how long: `plots.exposure`."""
        goal = self.selection.target if target is None else target
        return plots.exposure(self.selection.gaps(target=target), target=goal, ax=ax)
