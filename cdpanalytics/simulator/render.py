"""Bodies as Enterprise Manager writes them: one tree of plain values, as XML or as JSON of either case."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NAMESPACE = "http://www.veeam.com/ent/v1.0"

_LISTS = (
    "Jobs FailoverPlans Backups Replicas Repositories RestorePoints VmRestorePoints VAppRestorePoints "
    "VmReplicaPoints BackupJobSessions ReplicaJobSessions ReplicaTaskSessions RestoreSessions "
    "HierarchyRoots BackupTaskSessions BackupServers ManagedServers EnterpiseRoles EnterpiseAccounts "
    "WanAccelerators CloudGateways CloudTenants CloudReplicas VCloudOrganizationConfigs BackupFiles "
    "VSphereSelfServiceConfigs CloudPublicIps CloudHardwarePlans CloudVmReplicaPoints "
    "AgentRestorePoints AgentBackupJob CloudGatewayPools CloudFailoverPlans ExternalRepositories "
    "VlanConfigurations CloudFailoverSessions AgentProtectionGroups DiscoveredComputers FileServers "
    "NASJobs CdpReplicas CdpReplicaVms CdpPolicies CdpReplicaSessions CdpReplicaTaskSessions "
    "VAppReplicaPoints VmCdpReplicas VAppCdpReplicas VAppCdpReplicaVms SystemSessions"
).split()
"""Every entity list of the schema, in its order: JSON names them all and fills one."""

_CAPITALS = re.compile(r"^(?:[A-Z]+(?=[A-Z][a-z])|[A-Z]+)")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "/": "&#x2F;"}
_SPECIAL = re.compile("[&<>\"'/]")
_IN_HREF = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
_UNPRINTABLE = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Link:
    """A link of an entity; `name` and `kind` may be missing."""

    rel: str
    href: str
    kind: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Entity:
    """One resource: its XML element, `Type`, address, and own fields in order.

    Fields whose name begins with @ are XML attributes. A value is text, a number, a
    truth, None, a mapping, or a list of (element, value) pairs.
    """

    element: str
    kind: str
    href: str
    name: str | None = None
    uid: str | None = None
    links: Sequence[Link] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


def camel(name: str) -> str:
    """Return a key as version 13 writes it: its leading capitals lowered, but for a word's first.

    Examples
    --------
    >>> camel("UID"), camel("VAppRestorePoints"), camel("EndTimeUTC"), camel("NASJobs")
    ('uid', 'vAppRestorePoints', 'endTimeUTC', 'nasJobs')
    """
    return _CAPITALS.sub(lambda match: match[0].lower(), name, count=1)


# -- JSON -----------------------------------------------------------------------------


def _cased(tree: Any, version: int) -> Any:
    """Return a tree with its keys as the version spells them."""
    if isinstance(tree, dict):
        return {camel(k) if version >= 13 else k: _cased(v, version) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_cased(item, version) for item in tree]
    return tree


def json_text(tree: Any, version: int) -> str:
    """Return a tree as compact JSON."""
    return json.dumps(_cased(tree, version), separators=(",", ":"), ensure_ascii=False)


def entity_json(entity: Entity) -> dict[str, Any]:
    """Return an entity as JSON's tree: own fields first, then what all entities have."""
    tree = {key.removeprefix("@"): _value_json(value) for key, value in entity.fields.items()}
    common = {"Name": entity.name, "UID": entity.uid}
    tree |= {key: value for key, value in common.items() if value is not None}
    return tree | {"Links": links_json(entity.links), "Href": entity.href, "Type": entity.kind}


def _value_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {k.removeprefix("@").replace("#", "Value"): _value_json(v) for k, v in value.items()}
    if isinstance(value, list):
        items = [_value_json(item) for _, item in value]
        return {f"{value[0][0]}s": items} if value else []
    return value


def links_json(links: Sequence[Link]) -> list[dict[str, str | None]]:
    """Return links as JSON writes them: absent attributes are null."""
    return [{"Rel": one.rel, "Href": one.href, "Name": one.name, "Type": one.kind} for one in links]


def page_json(kind: str | None, rows: str, paging: Mapping[str, Any], version: int) -> str:
    """Return a page around rows that are JSON already: of entities, or (kind None) references."""
    if kind is not None and kind not in _LISTS:
        raise ValueError(f"{kind} is not in _LISTS of simulator/render.py: add it")
    spell = camel if version >= 13 else str
    refs, entities = f'{{"{spell("Refs")}":[{rows}]}}', "null"
    if kind is not None:
        lists = (
            f'"{spell(name)}":' + (f'{{"{spell(name)}":[{rows}]}}' if name == kind else "null")
            for name in _LISTS
        )
        refs, entities = "null", f"{{{','.join(lists)}}}"
    frame = {"Refs": refs, "Entities": entities, "Resources": "null", "Links": "null",
             "PagingInfo": json_text(paging, version)}  # fmt: skip
    body = ",".join(f'"{spell(key)}":{value}' for key, value in frame.items())
    return f"{{{body}}}"


# -- XML ------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Return text as the server escapes it in XML; what XML cannot hold becomes U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text))


def href(text: str) -> str:
    """Return an address as the value of an XML attribute."""
    return text.translate(_IN_HREF)


def entity_xml(entity: Entity, *, root: bool = False) -> str:
    """Return an entity as an XML element; a root one carries the namespace."""
    attributes = [f' xmlns="{NAMESPACE}"'] if root else []
    attributes += [f' Type="{entity.kind}" Href="{href(entity.href)}"']
    named = {"Name": entity.name, "UID": entity.uid}
    attributes += [f' {key}="{escape(v)}"' for key, v in named.items() if v is not None]
    own = {k[1:]: v for k, v in entity.fields.items() if k.startswith("@")}
    attributes += [f' {key}="{escape(str(value))}"' for key, value in own.items()]
    inner = "".join(_child(k, v) for k, v in entity.fields.items() if not k.startswith("@"))
    links = f"<Links>{links_xml(entity.links)}</Links>" if entity.links else ""
    return f"<{entity.element}{''.join(attributes)}>{links}{inner}</{entity.element}>"


def links_xml(links: Sequence[Link]) -> str:
    """Return links as XML elements: absent attributes are left out."""
    return "".join(
        f'<Link Rel="{link.rel}"'
        + (f' Type="{link.kind}"' if link.kind else "")
        + f' Href="{href(link.href)}"'
        + (f' Name="{escape(link.name)}"' if link.name else "")
        + " />"
        for link in links
    )


def _child(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        own = "".join(f' {k[1:]}="{_plain(v)}"' for k, v in value.items() if k.startswith("@"))
        inner = "".join(
            _plain(v) if k == "#" else _child(k, v) for k, v in value.items() if k[0] != "@"
        )
        return f"<{name}{own}>{inner}</{name}>"
    if isinstance(value, list):
        return f"<{name}>{''.join(_child(element, item) for element, item in value)}</{name}>"
    text = _plain(value)
    return f"<{name}>{text}</{name}>" if text else f"<{name} />"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(str(value))


def page_xml(kind: str | None, rows: str, paging: Mapping[str, Any]) -> str:
    """Return a page around rows that are XML already: of entities, or (kind None) references."""
    wrapper = "Refs" if kind is None else kind
    listed = f"<{wrapper}>{rows}</{wrapper}>"
    inner = listed if kind is None else f"<Entities>{listed}</Entities>"
    numbers = "".join(f' {key}="{paging[key]}"' for key in ("PageNum", "PageSize", "PagesCount"))
    links = [Link(link["Rel"], link["Href"]) for link in paging["Links"]]
    return (
        f'<?xml version="1.0" encoding="utf-8"?><QueryResult xmlns="{NAMESPACE}">{inner}'
        f"<PagingInfo{numbers}><Links>{links_xml(links)}</Links></PagingInfo></QueryResult>"
    )


def error(message: str, status: int, *, as_json: bool, version: int) -> str:
    """Return an Error body."""
    if as_json:
        tree = {"FirstChanceExceptionMessage": None, "Message": message, "StackTrace": None,
                "Status": None, "StatusCode": status}  # fmt: skip
        return json_text(tree, version)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><Error xmlns="{NAMESPACE}" '
        f'Message="{escape(message)}" StatusCode="{status}" />'
    )


# -- task sessions: by the thousand, so by templates -------------------------------------


@dataclass(frozen=True)
class TaskSession:
    """What a task session's templates are filled with: texts, unescaped."""

    uid: str
    vm: str
    name: str
    created: str
    ended: str | None
    state: str
    result: str
    reason: str | None
    total_size: int
    parent: str
    parent_name: str
    server: str
    server_name: str


def tasks_json(sessions: Iterator[TaskSession], base: str, version: int) -> str:
    """Return task sessions as JSON entities, comma between them; a running one has no end key."""
    running, over = (_task_template(base, version, ended) for ended in (False, True))
    quoted = _Memo(lambda text: json.dumps(text, ensure_ascii=False)[1:-1])
    rows = []
    for s in sessions:
        name = quoted[s.vm] + s.name[len(s.vm) :]
        rows.append(
            (over if s.ended else running)
            % {
                "parent": s.parent,
                "created": s.created,
                "ended": s.ended,
                "state": s.state,
                "result": s.result,
                "size": s.total_size,
                "vm": quoted[s.vm],
                "name": name,
                "reason": "null" if s.reason is None else f'"{quoted[s.reason]}"',
                "uid": s.uid,
                "server": s.server,
                "server_name": quoted[s.server_name],
                "parent_name": quoted[s.parent_name],
            }
        )
    return ",".join(rows)


def _task_template(base: str, version: int, ended: bool) -> str:
    end = {"EndTimeUTC": "%(ended)sZ"} if ended else {}
    tree = {
        "PolicySessionUid": "urn:veeam:CdpReplicaSession:%(parent)s",
        "CreationTimeUTC": "%(created)sZ",
        **end,
        "State": "%(state)s",
        "Result": "%(result)s",
        "Reason": "%(reason)s",
        "TotalSize": "%(size)s",
        "VmDisplayName": "%(vm)s",
        "Name": "%(name)s",
        "UID": "urn:veeam:CdpReplicaTaskSession:%(uid)s",
        "Links": links_json(_task_links(base)),
        "Href": f"{base}/api/replicaTaskSessions/%(uid)s?format=Entity",
        "Type": "CdpReplicaTaskSession",
    }
    bare = json_text(tree, version).replace('"%(size)s"', "%(size)d")
    return bare.replace('"%(reason)s"', "%(reason)s")


def _task_links(base: str) -> list[Link]:
    base = base.replace("%", "%%")
    return [
        Link("Up", f"{base}/api/backupServers/%(server)s", "BackupServerReference", "%(server_name)s"),
        Link("Up", f"{base}/api/cdpReplicaSessions/%(parent)s", "CdpReplicaSessionReference",
             "%(parent_name)s"),
        Link("Alternate", f"{base}/api/cdpReplicaTaskSessions/%(uid)s",
             "CdpReplicaTaskSessionReference", "%(name)s"),
    ]  # fmt: skip


def tasks_xml(sessions: Iterator[TaskSession], base: str, *, root: bool = False) -> str:
    """Return task sessions as XML elements; those without an end or reason lack the element."""
    space = f' xmlns="{NAMESPACE}"' if root else ""
    safe = _Memo(escape)
    links = _task_links(href(base))
    head = (
        f'<CdpReplicaTaskSession{space} Type="CdpReplicaTaskSession" '
        f'Href="{href(base)}/api/replicaTaskSessions/%(uid)s?format=Entity" Name="%(name)s" '
        'VmDisplayName="%(vm)s" UID="urn:veeam:CdpReplicaTaskSession:%(uid)s">'
        "<Links>" + "".join(
            f'<Link Rel="{link.rel}" Type="{link.kind}" Href="{link.href}" Name="{link.name}" />'
            for link in links
        ) + "</Links>"
        "<PolicySessionUid>urn:veeam:CdpReplicaSession:%(parent)s</PolicySessionUid>"
        "<CreationTimeUTC>%(created)sZ</CreationTimeUTC>%(end)s<State>%(state)s</State>"
        "<Result>%(result)s</Result>%(reason)s<TotalSize>%(size)d</TotalSize>"
        "</CdpReplicaTaskSession>"
    )  # fmt: skip
    return "".join(
        head
        % {
            "uid": s.uid,
            "vm": safe[s.vm],
            "name": safe[s.vm] + s.name[len(s.vm) :],
            "parent": s.parent,
            "created": s.created,
            "state": s.state,
            "result": s.result,
            "end": f"<EndTimeUTC>{s.ended}Z</EndTimeUTC>" if s.ended else "",
            "reason": f"<Reason>{safe[s.reason]}</Reason>" if s.reason else "",
            "size": s.total_size,
            "server": s.server,
            "server_name": safe[s.server_name],
            "parent_name": safe[s.parent_name],
        }
        for s in sessions
    )


class _Memo(dict[str, str]):
    """A function of texts that remembers what it has answered: names come by the thousand."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def __missing__(self, text: str) -> str:
        self[text] = self.function(text)
        return self[text]
