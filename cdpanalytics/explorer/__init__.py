"""The explorer: a Selection as an interactive widget in a notebook."""

from cdpanalytics.explorer.app import Explorer

__all__ = ["Explorer"]
