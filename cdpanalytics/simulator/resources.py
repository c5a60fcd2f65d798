"""Resources of the interface other than queries."""

import json
import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from http import HTTPStatus

from . import render
from .kinds import BY_PLURAL
from .render import Entity
from .request import Request
from .sessions import Refusal
from .views import View

_GUID = r"([0-9a-fA-F-]{36})"


def logon_entity(request: Request, identifier: str) -> Entity:
    """Return a LogonSession."""
    links = [render.Link("Up", f"{request.base}/api/", "EnterpriseManager")]
    links += [
        render.Link("Down", f"{request.base}/api/{name}", f"{kind}ReferenceList")
        for name, kind in (("backupServers", "BackupServer"), ("cdpReplicas", "CdpReplica"))
    ]
    fields = {"UserName": request.simulator.username, "SessionId": identifier}
    address = f"{request.base}/api/logonSessions/{identifier}"
    return Entity("LogonSession", "LogonSession", address, links=links, fields=fields)


def root(request: Request) -> str:
    """Return the body of ``/api/``."""
    simulator = request.simulator
    versions = [
        (name, f"{request.base}/api/sessionMngr/?v={name}") for name in ("v1_5", "v1_6", "v1_7")
    ]
    links = [[render.Link("Create", address, "LogonSession")] for _, address in versions]
    if request.as_json:
        listed = [{"Links": render.links_json(create), "Name": name}
                  for (name, _), create in zip(versions, links, strict=True)]  # fmt: skip
        tree = {"SupportedVersions": {"SupportedVersions": listed}, "Links": []}
        return render.json_text(tree, simulator.version)
    inner = "".join(
        f'<SupportedVersion Name="{name}"><Links>{render.links_xml(create)}</Links></SupportedVersion>'
        for (name, _), create in zip(versions, links, strict=True)
    )
    return (f'<EnterpriseManager xmlns="{render.NAMESPACE}">'
            f"<SupportedVersions>{inner}</SupportedVersions></EnterpriseManager>")  # fmt: skip


def resource(request: Request, place: str) -> str:
    """Return the body of a resource of the fleet."""
    simulator = request.simulator
    view = request.view(simulator.snapshot())
    if place == "/api/backupservers":
        every = range(len(simulator.fleet.servers))
        return request.collection("BackupServers", [view.backup_server(row) for row in every])
    if place == "/api/cdpreplicas":
        every = range(len(simulator.fleet.policies))
        return request.collection("CdpReplicas", [view.replica(row) for row in every])
    if place == "/api/cdpreplica/vapps":
        return request.collection("VAppCdpReplicas", [entity for _, entity in view.vapps()])
    if place.startswith("/api/cdpreplica/vapps/"):
        return request.single(_with_uid(view.vapps(), place.rpartition("/")[2])[1])
    match = re.fullmatch(f"/api/([a-z]+)/{_GUID}(?:/vms(?:/{_GUID})?)?", place)
    if match is None:
        raise Refusal(404, f"There is nothing at {place}")
    resource, uid, vm_uid = match.groups()
    if "/vms" in place:
        entities = view.replica_vms(_replica(request, uid))
        if vm_uid is None:
            return request.collection("CdpReplicaVms", [entity for _, entity in entities])
        return request.single(_with_uid(entities, vm_uid)[1])
    return _entity(request, view, resource, uid)


def _entity(request: Request, view: View, resource: str, uid: str) -> str:
    kind, simulator = BY_PLURAL.get(resource), request.simulator
    if kind is None:
        raise Refusal(404, f"There is nothing at /api/{resource}")
    table, order = simulator.selection(kind, view.known, {"filter": f'Id=="{uid}"'})
    if not len(order):
        raise Refusal(404, f"Cannot find {kind.name.casefold()} [{uid}]")
    rows = table.rows[order]
    if kind.entity is not None:
        return request.single(kind.entity(view, int(rows[0])))
    if request.as_json:
        return render.tasks_json(view.tasks(rows), view.base, simulator.version)
    return render.tasks_xml(view.tasks(rows), view.base, root=True)


def _replica(request: Request, uid: str) -> int:
    policies = request.simulator.fleet.policies
    for row, policy in enumerate(policies):
        if policy.replica_uid == uid:
            return row
    raise Refusal(404, f"Cannot find replica [{uid}]")


def _with_uid(entities: list[tuple[int, Entity]], uid: str) -> tuple[int, Entity]:
    for vm, entity in entities:
        if entity.uid is not None and entity.uid.rpartition(":")[2] == uid:
            return vm, entity
    raise Refusal(404, f"Cannot find replica [{uid}]")


def intervals(request: Request, place: str, body: bytes) -> str:
    """Return the body of a VM's restorable intervals between the two dates of the request."""
    simulator = request.simulator
    view = request.view(simulator.snapshot())
    *_, replica, _, uid = place.split("/")
    of_set = "/vms/" in place
    entities = view.replica_vms(_replica(request, replica)) if of_set else view.vapps()
    vm, _ = _with_uid(entities, uid)
    start, end = _interval_bounds(body, request.json_body)
    tree = view.intervals(vm, start, end, simulator.clock())
    answer = Entity("CdpReplicaIntervals", "CdpReplicaIntervals", "", fields=tree)
    if request.as_json:
        inner = {key: value for key, value in render.entity_json(answer).items() if key in tree}
        return render.json_text(inner, simulator.version)
    text = render.entity_xml(answer, root=True)
    return text.replace(' Type="CdpReplicaIntervals" Href=""', "", 1)


def _interval_bounds(body: bytes, as_json: bool) -> tuple[datetime, datetime]:
    """Return the two dates of a CdpIntervalsSpec; its XML elements come in the order of the schema."""
    try:
        if as_json:
            spec = {key.casefold(): value for key, value in json.loads(body).items()}
            texts = [spec["startdate"], spec["enddate"]]
        else:
            if b"<!DOCTYPE" in body:
                raise ValueError
            root = ElementTree.fromstring(body)  # noqa: S314 - no document type, so no entities
            names = [child.tag.rpartition("}")[2] for child in root]
            if names[:2] != ["StartDate", "EndDate"]:
                raise ValueError
            texts = [child.text or "" for child in root][:2]
        start, end = (_moment(text) for text in texts)
    except (ValueError, KeyError, TypeError, AttributeError, ElementTree.ParseError):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Node [CdpIntervalsSpec] cannot be read.") from None
    if start > end:
        raise Refusal(400, "StartDate is later than EndDate")
    return start, end


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
