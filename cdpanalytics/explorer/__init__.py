"""The explorer: a Selection as an interactive widget in a notebook."""

from cdpanalytics.explorer.app import Explorer
from cdpanalytics.explorer.state import FIELDS, State

__all__ = ["FIELDS", "Explorer", "State"]
