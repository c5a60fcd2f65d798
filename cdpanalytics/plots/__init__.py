"""Draws metric tables and returns Axes; never computes a metric, shows, or changes matplotlib's settings.

Colour marks the exception: what is well is pale, what is not stands out, and no meaning
hangs on colour alone.
"""

from cdpanalytics.plots.charts import adherence, durations, exposure, sizes
from cdpanalytics.plots.figure import Chart, styled
from cdpanalytics.plots.journal import achieved_rpo
from cdpanalytics.plots.pairs import side_by_side
from cdpanalytics.plots.strip import fleet
from cdpanalytics.plots.vms import heat_map, timeline

__all__ = [
    "Chart",
    "achieved_rpo",
    "adherence",
    "durations",
    "exposure",
    "fleet",
    "heat_map",
    "side_by_side",
    "sizes",
    "styled",
    "timeline",
]
