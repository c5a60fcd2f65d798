"""Pictures of an Analysis as SVG: each mark says what it is, and what a click on it should show."""

from cdpanalytics.presentation.pictures.groups import durations, exposure, sides, sizes
from cdpanalytics.presentation.pictures.times import fleet, pick_vm, timeline

__all__ = ["durations", "exposure", "fleet", "pick_vm", "sides", "sizes", "timeline"]
