"""``python -m cdpanalytics``."""

from cdpanalytics.cli import run

run()
