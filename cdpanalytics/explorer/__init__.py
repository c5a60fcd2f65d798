"""The analyst's desk in a notebook: what was asked as traits, the answer drawn at once."""

from cdpanalytics.explorer.app import Explorer, explore

__all__ = ["Explorer", "explore"]
