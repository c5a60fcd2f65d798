"""Reports of a Selection: one HTML file, and the exporter of notebooks."""

from cdpanalytics.presentation.html import Table
from cdpanalytics.reports.html import report

__all__ = ["Table", "report"]
