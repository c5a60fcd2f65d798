"""Veeam CDP session records as pandas frames, metrics and reports.

``import cdpanalytics as cdp`` gives frames their ``.cdp``, whether pandas is imported
before or after; everything else is loaded when it is first asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cdpanalytics import accessor as _accessor
from cdpanalytics import errors

if TYPE_CHECKING:
    from cdpanalytics import metrics
    from cdpanalytics.archive import Archive
    from cdpanalytics.client import EnterpriseManager
    from cdpanalytics.explorer import explore
    from cdpanalytics.filters import field
    from cdpanalytics.metrics.quality import quality

__all__ = [
    "Archive",
    "EnterpriseManager",
    "errors",
    "explore",
    "field",
    "metrics",
    "quality",
    "report",
    "sync",
]

_HOME = {
    "Archive": "cdpanalytics.archive",
    "EnterpriseManager": "cdpanalytics.client",
    "explore": "cdpanalytics.explorer",
    "field": "cdpanalytics.filters",
    "quality": "cdpanalytics.metrics",
}

_accessor.register()


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("cdpanalytics.metrics")
    if name not in _HOME:
        raise AttributeError(f"module 'cdpanalytics' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """The package, in which `sync` and `report` are the functions, not the modules they live in.

    The import system binds a submodule to its package under the submodule's name;
    these two names belong to the contract's functions, so that binding is ignored.
    """

    @property
    def sync(self) -> Any:
        return import_module("cdpanalytics.sync").sync

    @sync.setter
    def sync(self, _module: ModuleType) -> None:
        pass

    @property
    def report(self) -> Any:
        return import_module("cdpanalytics.report").report

    @report.setter
    def report(self, _module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
