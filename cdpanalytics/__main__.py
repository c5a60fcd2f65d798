# PYTHON_ARGCOMPLETE_OK
"""``python -m cdpanalytics``."""

from cdpanalytics.cli import run

run()
