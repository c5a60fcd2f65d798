"""Draws metric tables and returns Axes; never computes a metric, shows, or changes matplotlib's settings.

Colour marks the exception: what is well is pale, what is not stands out, and no meaning
hangs on colour alone.
"""

from cdpanalytics.plots.charts import (
    Chart,
    adherence,
    durations,
    exposure,
    heat_map,
    sizes,
    styled,
    timeline,
)
from cdpanalytics.plots.pairs import side_by_side

__all__ = [
    "Chart", "adherence", "durations", "exposure", "heat_map", "side_by_side", "sizes", "styled", "timeline",
]  # fmt: skip
