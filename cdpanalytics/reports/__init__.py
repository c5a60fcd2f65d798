"""Composes one HTML file from an archive: the answer first, then where, when, who, and how it is known."""

from cdpanalytics.reports.html import report
from cdpanalytics.reports.sections import Sheet

__all__ = ["Sheet", "report"]
