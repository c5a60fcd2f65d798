# PYTHON_ARGCOMPLETE_OK
"""The command line: arguments in, exit code out."""

from cdpanalytics.cli.commands import main, parser, run

__all__ = ["main", "parser", "run"]
