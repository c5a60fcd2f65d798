"""Composes one HTML file from an archive: the answer first, then where, when, who, and how it is known."""

from cdpanalytics.report.page import report
from cdpanalytics.report.sections import Sheet

__all__ = ["Sheet", "report"]
