"""The vendor's names: types, fields, links and spellings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from cdpanalytics import schema

NAMESPACE: Final = "http://www.veeam.com/ent/v1.0"
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Shape:
    """How a kind's entities become columns: from fields, and from links (name and identifier)."""

    plural: str
    schema: pa.Schema
    fields: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...] = ()
    required: tuple[str, ...] = ("uid", "created")
    in_entities: bool = True


_SERVER_LINK: Final = ("backup_server", "BackupServerReference")
_SESSION_LINK: Final = ("policy_session", "CdpReplicaSessionReference")
_POLICY_LINK: Final = ("policy", "CdpPolicyReference")
_LIFE: Final = (
    ("uid", "UID"),
    ("created", "CreationTimeUTC"),
    ("ended", "EndTimeUTC"),
    ("state", "State"),
    ("result", "Result"),
)

SHAPES: Final = {
    "CdpReplicaTaskSession": Shape(
        "CdpReplicaTaskSessions",
        schema.TASK_SESSIONS,
        (
            *_LIFE,
            ("vm", "VmDisplayName"),
            ("policy_session_uid", "PolicySessionUid"),
            ("reason", "Reason"),
            ("total_size", "TotalSize"),
        ),
        (_SERVER_LINK, _SESSION_LINK),
    ),
    "CdpReplicaSession": Shape(
        "CdpReplicaSessions",
        schema.POLICY_SESSIONS,
        (
            *_LIFE,
            ("policy_session", "Name"),
            ("policy", "PolicyName"),
            ("policy_uid", "PolicyUid"),
            ("reason", "FailureMessage"),
        ),
        (_SERVER_LINK, _POLICY_LINK),
    ),
}

REFERENCE: Final = Shape(
    "Refs",
    schema.REFERENCES,
    (("uid", "UID"), ("name", "Name")),
    (_SERVER_LINK, _SESSION_LINK),
    required=("uid",),
    in_entities=False,
)

PLURALS: Final = {"CdpPolicy": "CdpPolicies", "CdpReplica": "CdpReplicas"}
KINDS: Final = (*SHAPES, *PLURALS)
"""The types `read_page` can read, as a query names them."""


def camel(name: str) -> str:
    """Spell a name as version 13 does: the leading capitals lowered, but not a word's first."""
    return re.sub(r"^([A-Z]+(?![a-z])|[A-Z])", lambda match: match[0].lower(), name)


SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "pascal": str,
    "camel": camel,
    "lower": str.lower,
}
