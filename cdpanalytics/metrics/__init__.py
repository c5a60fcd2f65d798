"""Pure functions on session frames: frames in, frames out; no clock, no network, no drawing."""

from cdpanalytics.metrics.durations import durations
from cdpanalytics.metrics.journal import journal_adherence
from cdpanalytics.metrics.objectives import objectives
from cdpanalytics.metrics.quality import quality
from cdpanalytics.metrics.ranking import compare, worst
from cdpanalytics.metrics.rpo import gaps, rpo_adherence, what_if
from cdpanalytics.metrics.sizes import size_anomalies, size_trend, sizes

__all__ = [
    "compare",
    "durations",
    "gaps",
    "journal_adherence",
    "objectives",
    "quality",
    "rpo_adherence",
    "size_anomalies",
    "size_trend",
    "sizes",
    "what_if",
    "worst",
]
