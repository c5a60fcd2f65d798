"""The pictures as methods of a Selection: each computes its metric and draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from cdpanalytics import plots
from cdpanalytics.presentation import happenings
from cdpanalytics.presentation.analysis import ROWS_SHOWN, Analysis
from cdpanalytics.schema import KEYS

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

By = str | Sequence[str]


@dataclass(frozen=True)
class Plots:
    """Pictures of a Selection's metrics; each method returns the Axes it draws on."""

    selection: Selection

    def fleet(self, *, ax: Axes | None = None) -> Axes:
        """Draw how many VMs were in breach, with the incidents numbered: `plots.fleet`."""
        asked = self.selection
        return plots.fleet(
            asked.breaches(),
            asked.incidents(),
            since=asked.start,
            until=asked.stop,
            tz=asked.tz,
            ax=ax,
        )

    def timeline(self, *, order: str = "breached", ax: Axes | None = None) -> Axes:
        """Draw when the VMs with most exposure were covered, and their gaps: `plots.timeline`.

        With the order "incident": the worst VMs of the incidents that explain most.
        """
        asked = self.selection
        vms = happenings.timeline_vms(Analysis(asked, order))
        return plots.timeline(asked.sessions, asked.gaps(), since=asked.start, until=asked.stop,
                              unobserved=asked.holes, vms=vms, tz=asked.tz, ax=ax)  # fmt: skip

    def heat_map(self, *, freq: str = "D", order: str = "breached", ax: Axes | None = None) -> Axes:
        """Draw when the VMs with most breached time were in breach: `plots.heat_map`.

        With the order "incident": the worst VMs of the incidents that explain most.
        """
        analysis = Analysis(self.selection, order)
        vms = happenings.vms_in_order(analysis, ROWS_SHOWN) if order == "incident" else None
        return plots.heat_map(
            self.selection.rpo_adherence(by=KEYS, freq=freq), vms=vms, tz=self.selection.tz, ax=ax
        )

    def adherence(self, by: By = "policy", *, freq: str = "D", ax: Axes | None = None) -> Axes:
        """Draw adherence by group and period: `plots.adherence`."""
        return plots.adherence(
            self.selection.rpo_adherence(by=by, freq=freq),
            objective=self.selection.objective,
            tz=self.selection.tz,
            ax=ax,
        )

    def durations(self, by: By = "policy", *, ax: Axes | None = None) -> Axes:
        """Draw how long finished sessions lasted: `plots.durations`."""
        return plots.durations(self.selection.durations(by=by), ax=ax)

    def achieved_rpo(self, by: str = "policy", *, ax: Axes | None = None) -> Axes:
        """Draw the RPO achieved over time, from the journal: `plots.achieved_rpo`."""
        asked = self.selection
        return plots.achieved_rpo(asked.intervals, target=asked.target, by=by, tz=asked.tz, ax=ax)

    def sizes(self, by: By = "policy", *, ax: Axes | None = None) -> Axes:
        """Draw the protected size by period: `plots.sizes`."""
        return plots.sizes(self.selection.sizes(by=by), tz=self.selection.tz, ax=ax)

    def exposure(self, *, target: object = None, ax: Axes | None = None) -> Axes:
        """Draw how many gaps lasted how long: `plots.exposure`."""
        goal = self.selection.target if target is None else target
        return plots.exposure(self.selection.gaps(target=target), target=goal, ax=ax)

    def side_by_side(
        self, sides: str | Sequence[str], by: By = (), *, ax: Axes | None = None
    ) -> Axes:
        """Draw the adherence of two groups, or under two targets: `plots.side_by_side`."""
        return plots.side_by_side(self.selection.compare(by=by, sides=sides), ax=ax)
