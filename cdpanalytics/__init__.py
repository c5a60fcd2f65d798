"""Veeam CDP session records as pandas frames, metrics and reports.

``import cdpanalytics as cdp`` imports pandas and gives every DataFrame its ``.cdp``
accessor. The rest is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cdpanalytics import accessor as _accessor  # noqa: F401 - registers the accessor
from cdpanalytics import errors

if TYPE_CHECKING:
    from cdpanalytics import metrics
    from cdpanalytics.archive import Archive
    from cdpanalytics.metrics.quality import quality
    from cdpanalytics.questions import explore, report
    from cdpanalytics.selection import Selection
    from cdpanalytics.server.client import EnterpriseManager
    from cdpanalytics.server.filters import field
    from cdpanalytics.synchronize import sync

__all__ = [
    "Archive",
    "EnterpriseManager",
    "Selection",
    "errors",
    "explore",
    "field",
    "metrics",
    "quality",
    "report",
    "sync",
]

_LAZY = {
    "Archive": "cdpanalytics.archive",
    "EnterpriseManager": "cdpanalytics.server.client",
    "explore": "cdpanalytics.questions",
    "field": "cdpanalytics.server.filters",
    "quality": "cdpanalytics.metrics",
    "Selection": "cdpanalytics.selection",
    "report": "cdpanalytics.questions",
    "sync": "cdpanalytics.synchronize",
}
"""Names that are imported at first use, and the module each is defined in."""


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("cdpanalytics.metrics")
    if name not in _LAZY:
        raise AttributeError(f"module 'cdpanalytics' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
