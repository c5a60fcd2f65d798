"""Tables of policies and replicas, and the spans and schedules in their settings."""

from __future__ import annotations

import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.server.responses.columns import build_table
from cdpanalytics.server.responses.fields import DAYS
from cdpanalytics.server.responses.nodes import (
    SECOND,
    Columns,
    Node,
    bool_of,
    descend,
    link_of,
    nodes_of,
)
from cdpanalytics.server.responses.problems import wrong


def policies_table(entities: list[Node], origin: str) -> pa.Table:
    """Read policies: `schema.POLICIES`."""
    options = [descend(entity, "policyscheduleoptions", "cdpreplica") for entity in entities]
    thresholds = [descend(option, "rporeporting") for option in options]
    raw = {
        **_name_columns(entities),
        "policy_uid": [entity.get("uid") for entity in entities],
        "policy": [entity.get("name") for entity in entities],
        "enabled": [entity.get("scheduleenabled") for entity in entities],
        "rpo": [_span(option, "recoverypointobjective", origin) or None for option in options],
        "schedule": [_schedule(descend(option, "rposchedule")) for option in options],
        "warn_after": [_threshold(descend(mark, "markaswarning"), origin) for mark in thresholds],
        "fail_after": [_threshold(descend(mark, "markasfailed"), origin) for mark in thresholds],
        "short_term": [_span(option, "shorttermretention", origin) for option in options],
        "long_term": [_span(option, "longtermretention", origin) for option in options],
        "keep": [
            microseconds(option, origin, longtermretentionkeepdays=86_400 * SECOND)
            for option in options
        ],
        "vms": [_included(descend(entity, "cdppolicyinfo")) for entity in entities],
    }
    return build_table(raw, schema.POLICIES, {"policy_uid": "UID"}, ("policy_uid",), origin)


def replicas_table(entities: list[Node], origin: str) -> pa.Table:
    """Read replicas: `schema.REPLICAS`."""
    raw = {**_name_columns(entities), **_policy_columns(entities)}
    raw["name"] = [entity.get("name") for entity in entities]
    return build_table(raw, schema.REPLICAS, {"uid": "UID"}, ("uid",), origin)


def replica_vms_table(entities: list[Node], origin: str) -> pa.Table:
    """Read the VMs of replicas: `schema.REPLICA_VMS`."""
    raw = {**_name_columns(entities), **_policy_columns(entities)}
    raw["vm"] = [entity.get("name") for entity in entities]
    raw["replica_uid"] = [entity.get("replicauid") for entity in entities]
    return build_table(raw, schema.REPLICA_VMS, {"uid": "UID"}, ("uid",), origin)


def _name_columns(entities: list[Node]) -> Columns:
    servers = [link_of(entity, "BackupServerReference") for entity in entities]
    return {
        "uid": [entity.get("uid") for entity in entities],
        "backup_server": [entity.get("backupserver") for entity in entities],
        "link backup_server": [link.get("name") for link in servers],
        "link backup_server_uid": [link.get("href") for link in servers],
    }


def _policy_columns(entities: list[Node]) -> Columns:
    policies = [link_of(entity, "CdpPolicyReference") for entity in entities]
    return {
        "policy": [entity.get("policyname") for entity in entities],
        "policy_uid": [entity.get("policyuid") for entity in entities],
        "link policy": [link.get("name") for link in policies],
        "link policy_uid": [link.get("href") for link in policies],
    }


def _span(option: Node, stem: str, origin: str) -> int | None:
    """Add up a span that is written in parts: seconds, minutes and hours under one stem."""
    units = {
        f"{stem}seconds": SECOND,
        f"{stem}minutes": 60 * SECOND,
        f"{stem}hours": 3600 * SECOND,
    }
    return microseconds(option, origin, **units)


def _threshold(mark: Node, origin: str) -> int | None:
    return _span(mark, "rpothreshold", origin) if bool_of(mark.get("enabled")) else None


def microseconds(node: Node, origin: str, **units: int) -> int | None:
    """Add up numbers of a node, each times its unit; None when all are missing."""
    try:
        parts = [int(node[k]) * unit for k, unit in units.items() if node.get(k) not in (None, "")]
    except (TypeError, ValueError):
        raise wrong(
            origin, "not a whole number", ", ".join(f"{k}={node.get(k)!r}" for k in units)
        ) from None
    return sum(parts) if parts else None


def _schedule(schedule: Node) -> str | None:
    """Return 168 digits, Monday first; None when off, absent or not seven days of 24."""
    if not bool_of(schedule.get("enabled")):
        return None
    days = {
        str(day.get("name")).lower(): str(day.get("value")).replace(",", "").replace(" ", "")
        for day in nodes_of(schedule.get("timeperiods"))
    }
    whole = "".join(days.get(day, "") for day in DAYS)
    right = all(len(days.get(day, "")) == 24 for day in DAYS) and whole.isdecimal()
    return whole if right else None


def _included(info: Node) -> list[str]:
    includes = descend(info, "cdpreplicapolicyinfo").get("includes", info.get("includes"))
    names = [
        item.get("displayname") or item.get("name")
        for item in nodes_of(includes)
        if ":vm:" in str(item.get("hierarchyobjref") or "").lower()
    ]
    return [name for name in names if name]
