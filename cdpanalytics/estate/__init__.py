"""What only the customer knows: the estate file, tags of VMs, exclusions and calendars."""

from cdpanalytics.estate.exclusions import Exclusions
from cdpanalytics.estate.file import Estate
from cdpanalytics.estate.tables import Document, Finding
from cdpanalytics.estate.tags import Tags

__all__ = ["Document", "Estate", "Exclusions", "Finding", "Tags"]
