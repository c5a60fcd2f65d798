# PYTHON_ARGCOMPLETE_OK
"""The command line: arguments in, exit code out."""

from cdpanalytics.cli.entry import main, run
from cdpanalytics.cli.parser import parser

__all__ = ["main", "parser", "run"]
