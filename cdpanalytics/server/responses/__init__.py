"""Bytes of the server's responses to Arrow tables."""

from cdpanalytics.server.responses.fields import KINDS, NAMESPACE
from cdpanalytics.server.responses.readers import (
    Page,
    intervals_request,
    read_error,
    read_intervals,
    read_listed,
    read_logon,
    read_page,
    read_references,
    read_replica_vms,
    read_root,
    read_vapp,
)

__all__ = [
    "KINDS",
    "NAMESPACE",
    "Page",
    "intervals_request",
    "read_error",
    "read_intervals",
    "read_listed",
    "read_logon",
    "read_page",
    "read_references",
    "read_replica_vms",
    "read_root",
    "read_vapp",
]
