"""Readers of each kind of response; they take bytes and do not use the network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from xml.sax.saxutils import escape

import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.errors import WireError
from cdpanalytics.server.filters import instant_text
from cdpanalytics.server.responses.columns import GUID, build_table
from cdpanalytics.server.responses.fields import NAMESPACE, PLURALS, REFERENCE, SHAPES, Shape
from cdpanalytics.server.responses.json_body import (
    columns_from_json,
    lower_keys,
    parse_json,
    utf8_bytes,
)
from cdpanalytics.server.responses.nodes import (
    SECOND,
    Node,
    collection_of,
    nodes_of,
    paging_of,
    single_page,
)
from cdpanalytics.server.responses.problems import (
    ServerRefusal,
    clean,
    keys_of,
    refuse_error,
    start_of,
    wrong,
)
from cdpanalytics.server.responses.settings import (
    microseconds,
    policies_table,
    replica_vms_table,
    replicas_table,
)
from cdpanalytics.server.responses.xml_body import columns_from_xml, local_name, node_of, parse_xml


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
        Rows in the order of the page, in the shape that `schema` has for the kind. Absent,
        null and empty text are null alike; year 1 is null; times are cut to the microsecond.

    Raises
    ------
    WireError
        ``origin: the first thing wrong, what was seen``, in one line.
    """
    if kind in SHAPES:
        return _read_shaped(body, content_type, SHAPES[kind], origin)
    root = _tree(body, content_type, "QueryResult", origin)
    if root.get("entities") is None:
        raise wrong(origin, "no Entities in the answer", keys_of(root))
    if not isinstance(root["entities"], dict):
        raise wrong(origin, "Entities of the answer is not an object", repr(root["entities"]))
    entities = nodes_of(collection_of(root["entities"], PLURALS[kind], origin))
    read = policies_table if kind == "CdpPolicy" else replicas_table
    number, size, count = paging_of(root.get("paginginfo"), origin)
    return Page(read(entities, origin), number, size, count)


def read_references(body: bytes, content_type: str, *, origin: str) -> Page:
    """Read one page of a query asked without ``format``: `schema.REFERENCES`."""
    return _read_shaped(body, content_type, REFERENCE, origin)


def read_replica_vms(body: bytes, content_type: str, *, origin: str) -> pa.Table:
    """Read ``/api/cdpReplicas/{id}/vms?format=Entity``: `schema.REPLICA_VMS`."""
    root = _tree(body, content_type, "", origin)
    refuse_error(root, origin)
    return replica_vms_table(single_page(root, origin), origin)


def read_listed(body: bytes, content_type: str, *, origin: str) -> list[str]:
    """Read a collection of references, as a resource lists them without ``format``: their uids."""
    root = _tree(body, content_type, "EntityReferences", origin)
    listed = {"uid": [each.get("uid") for each in single_page(root, origin)]}
    shape = pa.schema([REFERENCE.schema.field("uid")])
    uids: list[str] = build_table(listed, shape, {"uid": "UID"}, ("uid",), origin)[0].to_pylist()
    return uids


def read_vapp(body: bytes, content_type: str, *, origin: str) -> pa.Table:
    """Read ``/api/cdpReplica/vApps/{id}?format=Entity``: one row of `schema.REPLICA_VMS`."""
    return replica_vms_table([_tree(body, content_type, "VAppCdpReplica", origin)], origin)


def read_intervals(body: bytes, content_type: str, *, origin: str) -> pa.Table:
    """Read the answer to ``?action=intervals``: `schema.INTERVALS`; its times are UTC."""
    root = _tree(body, content_type, "CdpReplicaIntervals", origin)
    if "intervals" not in root:
        raise wrong(origin, "no Intervals in the answer", keys_of(root))
    rows = nodes_of(root["intervals"])
    raw = {
        "start": [row.get("startdate") for row in rows],
        "end": [row.get("enddate") for row in rows],
        "rpo": [microseconds(row, origin, rpo=SECOND) for row in rows],
        "kind": [row.get("intervaltype") for row in rows],
    }
    vendor = {"start": "StartDate", "end": "EndDate"}
    return build_table(raw, schema.INTERVALS, vendor, ("start", "end"), origin)


def read_error(body: bytes, content_type: str) -> str | None:
    """Return the message of an ``Error`` body, cleaned and at most 300 characters; None if none."""
    try:
        root = _tree(body, content_type, "", "")
    except ServerRefusal as problem:
        return problem.message
    except WireError:
        return None
    message = root.get("message")
    return clean(message, 300) if isinstance(message, str) and message.strip() else None


def read_root(body: bytes, content_type: str, *, origin: str) -> tuple[list[str], str]:
    """Return the REST versions that ``GET /api/`` lists, and how its keys are spelled.

    The spelling, "PascalCase", "camelCase" or "XML", tells the server's release: 12 and
    older, 13 and newer, not known.
    """
    listed = _tree(body, content_type, "EnterpriseManager", origin).get("supportedversions")
    names = [str(each.get("name")) for each in nodes_of(listed) if each.get("name")]
    if _format(body, content_type, origin) == "xml":
        return names, "XML"
    keys = "".join(parse_json(utf8_bytes(body, content_type, origin), origin))
    return names, "camelCase" if keys[:1].islower() else "PascalCase"


def read_logon(body: bytes, content_type: str) -> str | None:
    """Return the SessionId (a GUID) of a ``LogonSession`` body; None when it holds none."""
    try:
        session = _tree(body, content_type, "", "").get("sessionid")
    except WireError:
        return None
    match = re.search(GUID, str(session or "").lower())
    return match["guid"] if match else None


def intervals_request(start: datetime, end: datetime) -> bytes:
    """Return the XML body that asks for a VM's restorable intervals between two times with a zone."""
    spec = (
        f'<?xml version="1.0" encoding="utf-8"?><CdpIntervalsSpec xmlns="{NAMESPACE}">'
        f"<StartDate>{escape(instant_text(start))}</StartDate>"
        f"<EndDate>{escape(instant_text(end))}</EndDate></CdpIntervalsSpec>"
    )
    return spec.encode()


def _read_shaped(body: bytes, content_type: str, shape: Shape, origin: str) -> Page:
    if _format(body, content_type, origin) == "xml":
        raw, paging = columns_from_xml(parse_xml(body, origin), shape, origin)
    else:
        raw, paging = columns_from_json(utf8_bytes(body, content_type, origin), shape, origin)
    vendor = dict(shape.fields)
    return Page(build_table(raw, shape.schema, vendor, shape.required, origin), *paging)


def _tree(body: bytes, content_type: str, root: str, origin: str) -> Node:
    """Read a small body whole, JSON or XML alike, as nodes with lower-case keys."""
    if _format(body, content_type, origin) == "json":
        tree: Node = lower_keys(parse_json(utf8_bytes(body, content_type, origin), origin))
    else:
        element = parse_xml(body, origin)
        tree = node_of(element)
        if root and local_name(element) not in (root, "Error"):
            raise wrong(origin, f"expected {root}", f"got {local_name(element)!r}")
    if root:
        refuse_error(tree, origin)
    return tree


def _format(body: bytes, content_type: str, origin: str) -> str:
    kind = content_type.partition(";")[0].strip().lower()
    name = kind.partition("/")[2].rpartition("+")[2]
    if name not in ("json", "xml"):
        seen = f"got {kind or 'no content type'} starting {start_of(body)}"
        raise wrong(origin, "expected JSON or XML", seen)
    return name
