"""Bring an archive up to date: the only place where server and archive meet."""

from cdpanalytics.synchronize.days import Day, Retention, plan
from cdpanalytics.synchronize.run import SyncResult, sync

__all__ = ["Day", "Retention", "SyncResult", "plan", "sync"]
