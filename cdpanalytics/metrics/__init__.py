"""Metrics: pure functions on frames of sessions, frames in and frames out."""

from cdpanalytics.metrics.durations import durations as durations
from cdpanalytics.metrics.gaps import gaps as gaps
from cdpanalytics.metrics.incidents import incidents as incidents
from cdpanalytics.metrics.journal import journal_adherence as journal_adherence
from cdpanalytics.metrics.objectives import objectives as objectives
from cdpanalytics.metrics.offenders import offenders as offenders
from cdpanalytics.metrics.quality import quality as quality
from cdpanalytics.metrics.ranking import compare as compare
from cdpanalytics.metrics.ranking import worst as worst
from cdpanalytics.metrics.recovery import recovery_points as recovery_points
from cdpanalytics.metrics.registry import REGISTRY
from cdpanalytics.metrics.rpo import rpo_adherence as rpo_adherence
from cdpanalytics.metrics.sizes import size_anomalies as size_anomalies
from cdpanalytics.metrics.sizes import size_trend as size_trend
from cdpanalytics.metrics.sizes import sizes as sizes
from cdpanalytics.metrics.status import status as status
from cdpanalytics.metrics.what_if import what_if as what_if

__all__ = list(REGISTRY)
