"""Reports of a Selection: one HTML file, and the exporter of notebooks."""

from cdpanalytics.presentation.html import Sheet
from cdpanalytics.reports.html import report

__all__ = ["Sheet", "report"]
