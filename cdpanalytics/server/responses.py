"""Pages of bytes into Arrow tables: the only file with the vendor's field names; knows no HTTP."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from functools import cache
from operator import attrgetter
from types import GenericAlias
from typing import Any, Final, TypeAlias
from xml.sax.saxutils import escape

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from lxml import etree

from cdpanalytics import schema
from cdpanalytics.errors import WireError
from cdpanalytics.server.filters import instant_text

NAMESPACE: Final = "http://www.veeam.com/ent/v1.0"

_SECOND: Final = 1_000_000
_BARE: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_GUID: Final = rf"(?P<guid>{_BARE})(?:[/?#].*)?$"
_LAST: Final = rf"^[^/?#]*{_BARE}$"
_TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)?$"
_SEEN: Final = 60
_NOWHEN: Final = pa.scalar(-62_135_510_400 * _SECOND, schema.INSTANT)
"""The second day of year 1: what is earlier is the server's way to say that there is no time."""

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

Columns: TypeAlias = Mapping[str, Sequence[Any]]
Node: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """One page of an answer.

    Attributes
    ----------
    table : pyarrow.Table
        In the shape of its kind (`schema`).
    number, size, count : int
        This page's number from 1, the page size the server used, the number of pages.
    """

    table: pa.Table
    number: int
    size: int
    count: int


@dataclass(frozen=True)
class _Shape:
    """How a kind's entities become columns: from fields, and from links (name and identifier)."""

    plural: str
    schema: pa.Schema
    fields: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...] = ()
    required: tuple[str, ...] = ("uid", "created")
    in_entities: bool = True

    def vendor(self, column: str) -> str:
        return dict(self.fields)[column]


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
_SHAPES: Final = {
    "CdpReplicaTaskSession": _Shape(
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
    "CdpReplicaSession": _Shape(
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
_REFERENCE: Final = _Shape(
    "Refs",
    schema.REFERENCES,
    (("uid", "UID"), ("name", "Name")),
    (_SERVER_LINK, _SESSION_LINK),
    required=("uid",),
    in_entities=False,
)
_PLURALS: Final = {"CdpPolicy": "CdpPolicies", "CdpReplica": "CdpReplicas"}

KINDS: Final = (*_SHAPES, *_PLURALS)
"""The types `read_page` can read, as a query names them."""


class _Unlike(Exception):
    """A body that is not spelled as a family of structs expects; read it the slow way."""


class _Refused(WireError):
    """A body that is the server's own error."""

    def __init__(self, origin: str, said: str) -> None:
        super().__init__(f"{origin}: the answer is an error, {said!r}")
        self.said = said


# ----------------------------------------------------------------------------- what is asked


def read_page(body: bytes, content_type: str, kind: str, *, origin: str) -> Page:
    """Read one page of ``/api/query?type=<kind>&format=Entities``.

    Parameters
    ----------
    body : bytes
        JSON in any key case (upper-case first up to version 12, lower-case in 13), or XML.
    content_type : str
        The answer's own; it alone picks the parser.
    kind : str
        One of `KINDS`.
    origin : str
        Server, query and page, for the error.

    Returns
    -------
    Page
        Rows in the order of the page, in the shape `schema.TASK_SESSIONS`,
        `POLICY_SESSIONS`, `POLICIES` or `REPLICAS`. Absent, null and empty text are
        null alike; year 1 is null; times are cut to the microsecond.

    Raises
    ------
    WireError
        ``origin: the first thing wrong, what was seen``, in one line.
    """
    if kind in _SHAPES:
        return _read_shaped(body, content_type, _SHAPES[kind], origin)
    root = _tree(body, content_type, "QueryResult", origin)
    if root.get("entities") is None:
        raise _wrong(origin, "no Entities in the answer", _keys(root))
    if not isinstance(root["entities"], dict):
        raise _wrong(origin, "Entities of the answer is not an object", repr(root["entities"]))
    entities = _listed(_collection(root["entities"], _PLURALS[kind], origin))
    read = _policies if kind == "CdpPolicy" else _replicas
    number, size, count = _paging(root.get("paginginfo"), origin)
    return Page(read(entities, origin), number, size, count)


def read_references(body: bytes, content_type: str, *, origin: str) -> Page:
    """Read one page of a query asked without ``format``: `schema.REFERENCES`."""
    return _read_shaped(body, content_type, _REFERENCE, origin)


def read_replica_vms(body: bytes, content_type: str, *, origin: str) -> pa.Table:
    """Read ``/api/cdpReplicas/{id}/vms?format=Entity``: `schema.REPLICA_VMS`."""
    root = _tree(body, content_type, "", origin)
    _refuse_error(root, origin)
    return _replica_vms(_one_page(root, origin), origin)


def read_listed(body: bytes, content_type: str, *, origin: str) -> list[str]:
    """Read a collection of references, as a resource lists them without ``format``: their uids."""
    root = _tree(body, content_type, "EntityReferences", origin)
    listed = {"uid": [each.get("uid") for each in _one_page(root, origin)]}
    shape = pa.schema([_REFERENCE.schema.field("uid")])
    found: list[str] = _assembled(listed, shape, {"uid": "UID"}, ("uid",), origin)[0].to_pylist()
    return found


def read_vapp(body: bytes, content_type: str, *, origin: str) -> pa.Table:
    """Read ``/api/cdpReplica/vApps/{id}?format=Entity``: one row of `schema.REPLICA_VMS`."""
    return _replica_vms([_tree(body, content_type, "VAppCdpReplica", origin)], origin)


def read_intervals(body: bytes, content_type: str, *, origin: str) -> pa.Table:
    """Read the answer to ``?action=intervals``: `schema.INTERVALS`; its times are UTC."""
    root = _tree(body, content_type, "CdpReplicaIntervals", origin)
    if "intervals" not in root:
        raise _wrong(origin, "no Intervals in the answer", _keys(root))
    rows = _listed(root["intervals"])
    raw = {
        "start": [row.get("startdate") for row in rows],
        "end": [row.get("enddate") for row in rows],
        "rpo": [_microseconds(row, origin, rpo=_SECOND) for row in rows],
        "kind": [row.get("intervaltype") for row in rows],
    }
    vendor = {"start": "StartDate", "end": "EndDate"}
    return _assembled(raw, schema.INTERVALS, vendor, ("start", "end"), origin)


def read_error(body: bytes, content_type: str) -> str | None:
    """Return the message of an ``Error`` body, cleaned and at most 300 characters; None if none."""
    try:
        root = _tree(body, content_type, "", "")
    except _Refused as problem:
        return problem.said
    except WireError:
        return None
    message = root.get("message")
    return _clean(message, 300) if isinstance(message, str) and message.strip() else None


def read_root(body: bytes, content_type: str, *, origin: str) -> tuple[list[str], str]:
    """Return the REST versions that ``GET /api/`` lists, and how its keys are spelled.

    The spelling, "PascalCase", "camelCase" or "XML", tells the server's release: 12 and
    older, 13 and newer, not known.
    """
    listed = _tree(body, content_type, "EnterpriseManager", origin).get("supportedversions")
    names = [str(each.get("name")) for each in _listed(listed) if each.get("name")]
    if _format(body, content_type, origin) == "xml":
        return names, "XML"
    keys = "".join(_json(_json_bytes(body, content_type, origin), origin))
    return names, "camelCase" if keys[:1].islower() else "PascalCase"


def read_logon(body: bytes, content_type: str) -> str | None:
    """Return the SessionId (a GUID) of a ``LogonSession`` body; None when it holds none."""
    try:
        found = _tree(body, content_type, "", "").get("sessionid")
    except WireError:
        return None
    match = re.search(_GUID, str(found or "").lower())
    return match["guid"] if match else None


def intervals_request(start: datetime, end: datetime) -> bytes:
    """Return the XML body that asks for a VM's restorable intervals between two aware times."""
    spec = (
        f'<?xml version="1.0" encoding="utf-8"?><CdpIntervalsSpec xmlns="{NAMESPACE}">'
        f"<StartDate>{escape(instant_text(start))}</StartDate>"
        f"<EndDate>{escape(instant_text(end))}</EndDate></CdpIntervalsSpec>"
    )
    return spec.encode()


# ------------------------------------------------------------------- sessions and references


def _read_shaped(body: bytes, content_type: str, shape: _Shape, origin: str) -> Page:
    if _format(body, content_type, origin) == "xml":
        raw, paging = _from_xml(_xml(body, origin), shape, origin)
    else:
        raw, paging = _from_json(_json_bytes(body, content_type, origin), shape, origin)
    vendor = dict(shape.fields)
    return Page(_assembled(raw, shape.schema, vendor, shape.required, origin), *paging)


def _from_json(body: bytes, shape: _Shape, origin: str) -> tuple[Columns, tuple[int, int, int]]:
    try:
        return _fast(body, shape)
    except _Unlike:
        return _slow(body, shape, origin)


def _fast(body: bytes, shape: _Shape) -> tuple[Columns, tuple[int, int, int]]:
    """Read a body spelled one way throughout; anything else is `_Unlike`."""
    spelling = "camel" if re.match(rb'\s*\{\s*"[a-z]', body) else "pascal"
    try:
        document = _decoder(shape, spelling).decode(body)
        rows = _rows(document, shape)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
        raise _Unlike from None
    spell = _SPELLINGS[spelling]
    if not rows and not _written(body, spell(shape.plural)):
        raise _Unlike
    raw = _columns(rows, shape)
    lower = body.lower() if rows else b""
    for column, name in (*shape.fields, ("links", "Links")):
        if None in raw[column] and (
            column in shape.required or not _one_spelling(spell(name), body, lower)
        ):
            raise _Unlike
    links = [link for listed in raw["links"] for link in listed or ()]
    for key in ("type", "href"):
        if None in map(attrgetter(key), links) and not _one_spelling(
            spell(key.title()), body, lower
        ):
            raise _Unlike
    return raw, (document.paging.number, document.paging.size, document.paging.count)


def _one_spelling(name: str, body: bytes, lower: bytes) -> bool:
    """Return whether a key that some rows lack is nowhere written in another case.

    Counting a word in the bytes of a page is cheaper than decoding its keys one by one, and is
    done only for columns with missing values.
    """
    key = b'"' + name.encode() + b'"'
    return body.count(key) == lower.count(key.lower())


def _written(body: bytes, name: str) -> bool:
    return b'"' + name.encode() + b'"' in body


def _slow(body: bytes, shape: _Shape, origin: str) -> tuple[Columns, tuple[int, int, int]]:
    root = _lowered(_json(body, origin))
    _refuse_error(root, origin)
    holder = "entities" if shape.in_entities else "refs"
    if not isinstance(root.get(holder), dict):
        raise _wrong(origin, f"no {holder.capitalize()} in the answer", _keys(root))
    paging = _paging(root.get("paginginfo"), origin)
    wrapper = _collection(root[holder], shape.plural, origin) if shape.in_entities else root[holder]
    rows_type = GenericAlias(list, (_structs(shape, "lower")[0],))
    try:
        rows = msgspec.convert(_entries(wrapper), rows_type, strict=False)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise _wrong(origin, f"unexpected {shape.plural}", str(problem)) from None
    return _columns(rows, shape), paging


def _collection(entities: Node, plural: str, origin: str) -> Any:
    """Return the collection that was asked for; null is empty, but its absence is another answer."""
    if plural.lower() not in entities:
        raise _wrong(origin, f"no {plural} in the answer", _keys(entities))
    return entities[plural.lower()]


def _rows(document: Any, shape: _Shape) -> list[Any]:
    """Return the one list of the wrapper, whatever its name."""
    if document.entities is None or document.paging is None:
        raise _Unlike
    wrapper = document.entities.rows if shape.in_entities else document.entities
    lists = list((wrapper or {}).values())
    if len(lists) > 1:
        raise _Unlike
    return (lists[0] or []) if lists else []


def _columns(rows: list[Any], shape: _Shape) -> Columns:
    raw: dict[str, Sequence[Any]] = {
        column: list(map(attrgetter(column), rows)) for column in (*dict(shape.fields), "links")
    }
    for column, link_type in shape.links:
        links = _links_of(raw["links"], link_type)
        raw[f"link {column}"] = [link and link.name for link in links]
        raw[f"link {column}_uid"] = [link and link.href for link in links]
    return raw


def _links_of(listed: Sequence[list[Any] | None], link_type: str) -> list[Any]:
    """Return each row's link of a type: mostly it stands where it stands in the first row."""
    types = [link.type for link in listed[0] or ()] if listed else []
    at = types.index(link_type) if link_type in types else 0
    return [
        links[at]
        if links and len(links) > at and links[at].type == link_type
        else _link(links, link_type)
        for links in listed
    ]


def _link(links: list[Any] | None, link_type: str) -> Any:
    for link in links or ():
        if link.type == link_type:
            return link
    return None


def _camel(name: str) -> str:
    """Spell a name as version 13 does: the leading capitals lowered, but not a word's first."""
    return re.sub(r"^([A-Z]+(?![a-z])|[A-Z])", lambda match: match[0].lower(), name)


_SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "pascal": str,
    "camel": _camel,
    "lower": str.lower,
}


@cache
def _structs(shape: _Shape, spelling: str) -> tuple[Any, Any]:
    """Make the structs of one spelling from the table of names: a row and the whole document."""
    spell = _SPELLINGS[spelling]
    link = _struct("Link", {"type": "Type", "name": "Name", "href": "Href"}, spell)
    names = {**dict(shape.fields), "links": "Links"}
    links: Any = GenericAlias(list, (link,)) | None
    row = _struct("Row", names, spell, {"total_size": int | None, "links": links})
    paging_names = {"number": "PageNum", "size": "PageSize", "count": "PagesCount"}
    paging = _struct("Paging", paging_names, spell, dict.fromkeys(paging_names, int), bare=True)
    rows: Any = GenericAlias(dict, (str, GenericAlias(list, (row,)) | None)) | None
    if shape.in_entities:
        rows = _struct("Entities", {"rows": shape.plural}, spell, {"rows": rows}) | None
    holder = {"entities": "Entities" if shape.in_entities else "Refs", "paging": "PagingInfo"}
    document = _struct("Document", holder, spell, {"entities": rows, "paging": paging | None})
    return row, document


def _struct(
    title: str,
    names: dict[str, str],
    spell: Callable[[str], str],
    types: dict[str, Any] | None = None,
    *,
    bare: bool = False,
) -> Any:
    kinds = {name: (types or {}).get(name, str | None) for name in names}
    fields = [(n, t) if bare else (n, t, None) for n, t in kinds.items()]
    rename = {name: spell(vendor) for name, vendor in names.items()}
    return msgspec.defstruct(title, fields, rename=rename, gc=False)


@cache
def _decoder(shape: _Shape, spelling: str) -> Any:
    return msgspec.json.Decoder(_structs(shape, spelling)[1], strict=False)


def _from_xml(
    root: etree._Element, shape: _Shape, origin: str
) -> tuple[Columns, tuple[int, int, int]]:
    holder = _child(root, "Entities" if shape.in_entities else "Refs")
    if holder is None:
        raise _wrong(origin, f"no {shape.plural} in the answer", f"root {_local(root)!r}")
    info = _child(root, "PagingInfo")
    attributes = None if info is None else _attributes(info)
    wrapper = _child(holder, shape.plural) if shape.in_entities else holder
    if wrapper is None:
        raise _wrong(origin, f"no {shape.plural} in the answer", _child_names(holder))
    return _xml_columns(wrapper, shape), _paging(attributes, origin)


def _xml_columns(entities: Iterable[etree._Element], shape: _Shape) -> Columns:
    """Read each entity in one pass over its attributes and children."""
    names = [column for column, _ in shape.fields]
    at = _AnyCase({name.lower(): i for i, (_, name) in enumerate(shape.fields)})
    at.by_lower["links"] = _LINKS
    link_at = {}
    for column, link_type in shape.links:
        link_at[link_type] = len(names)
        names += [f"link {column}", f"link {column}_uid"]
    rows = [_xml_row(entity, len(names), at, link_at) for entity in entities]
    return (
        dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {n: [] for n in names}
    )


_LINKS: Final = -1
_OTHER: Final = -2


class _AnyCase(dict[str, int]):
    """Where each tag's value belongs; every spelling of a tag is looked up once."""

    def __init__(self, by_lower: dict[str, int]) -> None:
        super().__init__()
        self.by_lower = by_lower

    def __missing__(self, tag: str) -> int:
        namespace, _, name = str(tag).rpartition("}")
        known = namespace in ("", f"{{{NAMESPACE}")
        self[tag] = self.by_lower.get(name.lower(), _OTHER) if known else _OTHER
        return self[tag]


def _xml_row(
    entity: etree._Element, width: int, at: _AnyCase, link_at: dict[str, int]
) -> list[str | None]:
    row: list[str | None] = [None] * width
    for name, value in entity.items():
        i = at[str(name)]
        if i >= 0:
            row[i] = str(value)
    for child in entity:
        i = at[child.tag]
        if i >= 0:
            row[i] = child.text
        elif i == _LINKS:
            _read_links(child, row, link_at)
    return row


def _read_links(links: etree._Element, row: list[str | None], link_at: dict[str, int]) -> None:
    for link in links:
        i = link_at.get(link.get("Type") or "")
        if i is not None and row[i] is None and row[i + 1] is None:
            row[i], row[i + 1] = link.get("Name"), link.get("Href")


# --------------------------------------------------------------------- policies and replicas


def _policies(entities: list[Node], origin: str) -> pa.Table:
    options = [_deep(entity, "policyscheduleoptions", "cdpreplica") for entity in entities]
    thresholds = [_deep(option, "rporeporting") for option in options]
    raw = {
        **_named(entities),
        "policy_uid": [entity.get("uid") for entity in entities],
        "policy": [entity.get("name") for entity in entities],
        "enabled": [_truth(entity.get("scheduleenabled")) for entity in entities],
        "rpo": [_span(option, "recoverypointobjective", origin) or None for option in options],
        "schedule": [_schedule(_deep(option, "rposchedule")) for option in options],
        "warn_after": [_threshold(_deep(mark, "markaswarning"), origin) for mark in thresholds],
        "fail_after": [_threshold(_deep(mark, "markasfailed"), origin) for mark in thresholds],
        "short_term": [_span(option, "shorttermretention", origin) for option in options],
        "long_term": [_span(option, "longtermretention", origin) for option in options],
        "keep": [
            _microseconds(option, origin, longtermretentionkeepdays=86_400 * _SECOND)
            for option in options
        ],
        "vms": [_included(_deep(entity, "cdppolicyinfo")) for entity in entities],
    }
    return _assembled(raw, schema.POLICIES, {"policy_uid": "UID"}, ("policy_uid",), origin)


def _replicas(entities: list[Node], origin: str) -> pa.Table:
    raw = {**_named(entities), **_of_policy(entities)}
    raw["name"] = [entity.get("name") for entity in entities]
    return _assembled(raw, schema.REPLICAS, {"uid": "UID"}, ("uid",), origin)


def _replica_vms(entities: list[Node], origin: str) -> pa.Table:
    raw = {**_named(entities), **_of_policy(entities)}
    raw["vm"] = [entity.get("name") for entity in entities]
    raw["replica_uid"] = [entity.get("replicauid") for entity in entities]
    return _assembled(raw, schema.REPLICA_VMS, {"uid": "UID"}, ("uid",), origin)


def _named(entities: list[Node]) -> Columns:
    servers = [_node_link(entity, "BackupServerReference") for entity in entities]
    return {
        "uid": [entity.get("uid") for entity in entities],
        "backup_server": [entity.get("backupserver") for entity in entities],
        "link backup_server": [link.get("name") for link in servers],
        "link backup_server_uid": [link.get("href") for link in servers],
    }


def _of_policy(entities: list[Node]) -> Columns:
    policies = [_node_link(entity, "CdpPolicyReference") for entity in entities]
    return {
        "policy": [entity.get("policyname") for entity in entities],
        "policy_uid": [entity.get("policyuid") for entity in entities],
        "link policy": [link.get("name") for link in policies],
        "link policy_uid": [link.get("href") for link in policies],
    }


def _node_link(entity: Node, link_type: str) -> Node:
    links = (link for link in _listed(entity.get("links")) if link.get("type") == link_type)
    return next(links, {})


def _span(option: Node, stem: str, origin: str) -> int | None:
    """Add up a span that is written in parts: seconds, minutes and hours under one stem."""
    units = {
        f"{stem}seconds": _SECOND,
        f"{stem}minutes": 60 * _SECOND,
        f"{stem}hours": 3600 * _SECOND,
    }
    return _microseconds(option, origin, **units)


def _threshold(mark: Node, origin: str) -> int | None:
    return _span(mark, "rpothreshold", origin) if _truth(mark.get("enabled")) else None


def _microseconds(node: Node, origin: str, **units: int) -> int | None:
    try:
        parts = [int(node[k]) * unit for k, unit in units.items() if node.get(k) not in (None, "")]
    except (TypeError, ValueError):
        raise _wrong(
            origin, "not a whole number", ", ".join(f"{k}={node.get(k)!r}" for k in units)
        ) from None
    return sum(parts) if parts else None


def _schedule(schedule: Node) -> str | None:
    """Return 168 digits, Monday first; None when off, absent or not seven days of 24."""
    if not _truth(schedule.get("enabled")):
        return None
    days = {
        str(day.get("name")).lower(): str(day.get("value")).replace(",", "").replace(" ", "")
        for day in _listed(schedule.get("timeperiods"))
    }
    whole = "".join(days.get(day, "") for day in _DAYS)
    right = all(len(days.get(day, "")) == 24 for day in _DAYS) and whole.isdecimal()
    return whole if right else None


def _included(info: Node) -> list[str]:
    includes = _deep(info, "cdpreplicapolicyinfo").get("includes", info.get("includes"))
    names = [
        item.get("displayname") or item.get("name")
        for item in _listed(includes)
        if ":vm:" in str(item.get("hierarchyobjref") or "").lower()
    ]
    return [name for name in names if name]


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _deep(node: Node, *path: str) -> Node:
    for key in path:
        below = node.get(key)
        node = below if isinstance(below, dict) else {}
    return node


def _one_page(root: Node, origin: str) -> list[Node]:
    """Return what a resource lists, which is never paged; half of it would look like all."""
    if _deep(root, "paginginfo").get("pagescount") not in (None, 0, 1, "0", "1"):
        raise _wrong(origin, "expected all on one page", repr(root["paginginfo"]))
    return _listed({name: value for name, value in root.items() if name != "paginginfo"})


def _listed(value: Any) -> list[Node]:
    return [item for item in _entries(value) if isinstance(item, dict)]


def _entries(value: Any) -> list[Any]:
    """Return a list, or the one list-valued property of its wrapper; one entry may stand bare."""
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list)]
        single = [v for v in value.values() if isinstance(v, dict)]
        value = next(filter(None, lists), single)
    return value if isinstance(value, list) else []


# -------------------------------------------------------------------------- columns to Arrow


def _assembled(
    raw: Columns,
    shape: pa.Schema,
    vendor: dict[str, str],
    required: Sequence[str],
    origin: str,
) -> pa.Table:
    """Turn columns of what the server wrote into a table, or name the first wrong cell."""
    made: dict[str, pa.Array] = {}
    for column in sorted(shape.names, key=lambda name: name not in required):
        field, cell = shape.field(column), _Cell(origin, vendor.get(column, column), made)
        own, link = raw.get(column), raw.get(f"link {column}")
        cells = None if own is None else _cells(own, field, False, cell)
        if link is not None and (cells is None or cells.null_count):
            linked = _cells(link, field, True, cell)
            cells = linked if cells is None else _either(cells, linked)
        made[column] = cells
        if column in required and made[column].null_count:
            row = made[column].is_null().index(pa.scalar(True)).as_py()
            raise _Cell(origin, vendor.get(column, column), made).missing(row)
    return pa.table([_typed(made[f.name], f.type) for f in shape], schema=shape)


def _either(own: pa.Array, link: pa.Array) -> pa.Array:
    plain = (
        each.cast(pa.string()) if pa.types.is_dictionary(each.type) else each
        for each in (own, link)
    )
    return pc.coalesce(*plain)


@dataclass(frozen=True)
class _Cell:
    """Where a column came from, to say which of its cells is wrong."""

    origin: str
    field: str
    known: dict[str, pa.Array]

    def missing(self, row: int) -> WireError:
        return _wrong(self.origin, f"{self._named(row)} has no {self.field}")

    def wrong(self, row: int, what: str, seen: object) -> WireError:
        return _wrong(self.origin, f"{self.field} of {self._named(row)} is {what}", repr(seen))

    def _named(self, row: int) -> str:
        uid = self.known["uid"][row].as_py() if "uid" in self.known else None
        return f"row {row + 1} ({uid})" if uid else f"row {row + 1}"


def _cells(values: Sequence[Any], field: pa.Field, loose: bool, cell: _Cell) -> pa.Array:
    if field.type == pa.int64():
        return _integers(values, cell)
    if not pa.types.is_timestamp(field.type) and field.type not in (pa.string(), schema.LABEL):
        return pa.array(values, pa.int64() if field.type == schema.SPAN else field.type)
    texts = _texts(values, cell)
    if field.type == schema.INSTANT:
        return _instants(texts, cell)
    if field.name in ("state", "result"):
        return _relabelled(texts, _canonical)
    if field.name == "uid":
        return _guids(texts, loose, cell)
    if field.name.endswith("_uid"):
        return _relabelled(texts, lambda unique: _guids(unique, loose, cell))
    return texts


def _texts(values: Sequence[Any], cell: _Cell) -> pa.Array:
    try:
        texts = pa.array(values, pa.string())
    except (pa.ArrowException, TypeError, UnicodeError):
        row = next(i for i, value in enumerate(values) if not isinstance(value, str | None))
        raise cell.wrong(row, "not text", values[row]) from None
    if "" not in values:
        return texts
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _integers(values: Sequence[Any], cell: _Cell) -> pa.Array:
    with suppress(pa.ArrowException, OverflowError):
        return pa.array(values, pa.int64())
    try:
        return pa.array([int(v) if v not in (None, "") else None for v in values], pa.int64())
    except (pa.ArrowException, OverflowError, ValueError):
        row = next(i for i, value in enumerate(values) if not _is_int64(value))
        raise cell.wrong(row, "not a whole number", values[row]) from None


def _is_int64(value: Any) -> bool:
    try:
        return value in (None, "") or -(2**63) <= int(value) < 2**63
    except ValueError:
        return False


def _instants(texts: pa.Array, cell: _Cell) -> pa.Array:
    """Read times: all at once as they are mostly written, else each for what it is."""
    marks = pc.binary_slice(texts.cast(pa.binary()), 10, 17, 3)
    if pc.all(pc.and_(pc.equal(marks, b"T::"), pc.ends_with(texts, "Z"))).as_py():
        with suppress(pa.ArrowInvalid):
            read = texts.cast(schema.INSTANT)
            return pc.if_else(pc.less(read, _NOWHEN), pa.scalar(None, schema.INSTANT), read)
    return _odd_instants(texts, cell)


def _odd_instants(texts: pa.Array, cell: _Cell) -> pa.Array:
    texts = pc.if_else(pc.starts_with(texts, "0001-01-01"), pa.scalar(None, pa.string()), texts)
    right = pc.match_substring_regex(texts, _TIME)
    if not pc.all(right).as_py() and pc.any(pc.invert(right)).as_py():
        row = right.index(pa.scalar(False)).as_py()
        raise cell.wrong(row, "not a time", texts[row].as_py())
    fraction = pc.replace_substring_regex(pc.utf8_slice_codeunits(texts, 20, 26), r"\D.*$", "")
    whole = pc.utf8_slice_codeunits(texts, 0, 19)
    micros = pc.binary_join_element_wise(whole, pc.utf8_rpad(fraction, 6, "0"), ".")
    try:
        return micros.cast(pa.timestamp("us")).cast(schema.INSTANT)
    except pa.ArrowInvalid:
        row = next(i for i, text in enumerate(micros.to_pylist()) if not _is_date(text))
        raise cell.wrong(row, "not a time", texts[row].as_py()) from None


def _is_date(text: str | None) -> bool:
    try:
        return text is None or bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _guids(texts: pa.Array, loose: bool, cell: _Cell) -> pa.Array:
    lower = pc.ascii_lower(texts)
    if pc.all(pc.match_substring_regex(lower, _LAST)).as_py():
        return pc.binary_slice(lower.cast(pa.binary()), -36).cast(pa.string())
    found = pc.extract_regex(lower, _GUID)
    guids = pc.struct_field(found, "guid")
    if not loose and guids.null_count > texts.null_count:
        row = pc.and_(guids.is_null(), texts.is_valid()).index(pa.scalar(True)).as_py()
        raise _wrong(cell.origin, f"{cell.field} holds no GUID", repr(texts[row].as_py()))
    return guids


def _canonical(words: pa.Array) -> pa.Array:
    known = {word.lower(): word for word in (*schema.STATES, *schema.RESULTS)}
    return pa.array([known.get(w.lower(), w) for w in words.to_pylist()], pa.string())


def _relabelled(texts: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return labels to which a change was applied, once each rather than once a row."""
    codes = texts.dictionary_encode()
    changed = change(codes.dictionary).dictionary_encode()
    return pa.DictionaryArray.from_arrays(changed.indices.take(codes.indices), changed.dictionary)


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values.dictionary_encode() if kind == schema.LABEL else values.cast(kind)


# --------------------------------------------------------------------------- bytes to a tree


def _tree(body: bytes, content_type: str, root: str, origin: str) -> Node:
    """Read a small body whole, JSON or XML alike, as nodes with lower-case keys."""
    if _format(body, content_type, origin) == "json":
        tree: Node = _lowered(_json(_json_bytes(body, content_type, origin), origin))
    else:
        element = _xml(body, origin)
        tree = _node(element)
        if root and _local(element) not in (root, "Error"):
            raise _wrong(origin, f"expected {root}", f"got {_local(element)!r}")
    if root:
        _refuse_error(tree, origin)
    return tree


def _format(body: bytes, content_type: str, origin: str) -> str:
    kind = content_type.partition(";")[0].strip().lower()
    name = kind.partition("/")[2].rpartition("+")[2]
    if name not in ("json", "xml"):
        seen = f"got {kind or 'no content type'} starting {_start(body)}"
        raise _wrong(origin, "expected JSON or XML", seen)
    return name


def _json_bytes(body: bytes, content_type: str, origin: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_content_charset("utf-8")
    try:
        if codecs.lookup(charset).name not in ("utf-8", "ascii"):
            body = body.decode(charset).encode()
    except (LookupError, UnicodeDecodeError):
        raise _wrong(origin, f"text is not {charset}", _start(body)) from None
    return body.removeprefix(codecs.BOM_UTF8)


def _json(body: bytes, origin: str) -> Any:
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        raise _wrong(origin, f"not JSON ({problem})", f"starting {_start(body)}") from None
    if not isinstance(tree, dict):
        raise _wrong(origin, "expected a JSON object", f"got {_start(body)}")
    return tree


def _lowered(tree: Any) -> Any:
    if isinstance(tree, dict):
        lowered: Node = {}
        for key, value in tree.items():
            if value is not None or key.lower() not in lowered:
                lowered[key.lower()] = _lowered(value)
        return lowered
    return [_lowered(item) for item in tree] if isinstance(tree, list) else tree


def _xml(body: bytes, origin: str) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as problem:
        raise _wrong(
            origin, f"not XML ({_clean(str(problem), 100)})", f"starting {_start(body)}"
        ) from None
    if root.getroottree().docinfo.doctype:  # type: ignore[union-attr]
        raise _wrong(origin, "XML with a DOCTYPE is not read", f"starting {_start(body)}")
    if _local(root) == "Error":
        _refuse_error(_attributes(root), origin)
    return root


def _node(element: etree._Element) -> Node:
    node = _attributes(element)
    if not len(element):
        node["value"] = element.text
    for child in element:
        value = _node(child) if len(child) or child.attrib else child.text
        name = _local(child).lower()
        if name in node:
            before = node[name]
            node[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            node[name] = value
    return node


def _attributes(element: etree._Element) -> Node:
    return {str(name).lower(): value for name, value in element.items()}


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _child(element: etree._Element, name: str) -> etree._Element | None:
    return next((child for child in element if _local(child).lower() == name.lower()), None)


def _child_names(element: etree._Element) -> str:
    return f"got {', '.join(sorted({_local(child) for child in element})) or 'nothing'}"


def _paging(info: Any, origin: str) -> tuple[int, int, int]:
    names = ("pagenum", "pagesize", "pagescount")
    try:
        number, size, count = (int(info[name]) for name in names)
    except (KeyError, TypeError, ValueError):
        raise _wrong(
            origin, "no PagingInfo with PageNum, PageSize and PagesCount", repr(info)
        ) from None
    return number, size, count


# ------------------------------------------------------------------------------------ errors


def _refuse_error(root: Node, origin: str) -> None:
    if isinstance(root.get("message"), str) and "statuscode" in root:
        raise _Refused(origin, _clean(root["message"], 300))


def _wrong(origin: str, what: str, seen: str = "") -> WireError:
    return WireError(f"{origin}: {what}" + (f", {_clean(seen, 200)}" if seen else ""))


def _keys(root: Node) -> str:
    return f"got {', '.join(sorted(root)) or 'nothing'}"


def _start(body: bytes) -> str:
    return repr(_clean(body[: 4 * _SEEN].decode("utf-8", "replace"), _SEEN)) if body else "nothing"


def _clean(text: str, most: int) -> str:
    """Return text fit for one line: no control characters, single spaces, cut at `most`."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    single = " ".join(printable.split())
    return single if len(single) <= most else f"{single[: most - 1]}…"
