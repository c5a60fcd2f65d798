"""The simulator's bodies have the shape of bodies recorded by others or printed in the vendor's manual."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from cdpanalytics.simulator import Fleet, Simulator

from .test_server import JSON, Client

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="../shared/samples is not beside this checkout"
)


@pytest.fixture(scope="module")
def estate() -> Fleet:
    return Fleet.generate(vms=14, days=8, seed=4, until=datetime(2026, 10, 20, 12, tzinfo=UTC))


def local(element: Any) -> str:
    return etree.QName(element).localname


def shape(element: Any) -> Any:
    """An element's name, attributes, and the shapes of its distinct children, in order."""
    children: dict[str, Any] = {}
    for child in element:
        if isinstance(child.tag, str):
            children.setdefault(local(child), shape(child))
    return local(element), sorted(element.attrib), tuple(children.values())


def sample(name: str) -> Any:
    return etree.parse(str(SAMPLES / name)).getroot()


@pytest.mark.parametrize(
    ("kind", "name", "params"),
    [
        ("CdpReplicaTaskSession", "xml_docs_query_CdpReplicaTaskSession_entities.xml",
         {"filter": "State==Completed;TotalSize>0", "sortAsc": "Reason"}),
        ("CdpReplicaSession", "xml_docs_query_CdpReplicaSession_entities_CdpPolicySession_child.xml", {}),
        ("CdpReplica", "xml_docs_query_CdpReplica_entities.xml", {}),
        ("CdpPolicy", "xml_docs_query_CdpPolicy_entities.xml", {}),
    ],
)  # fmt: skip
def test_a_query_in_xml(estate: Fleet, kind: str, name: str, params: dict[str, str]) -> None:
    with Simulator(estate) as server:
        ours = etree.fromstring(Client(server).query(kind, **params).content)
    theirs = sample(name)
    assert shape(ours)[0] == shape(theirs)[0]
    ours_entity, theirs_entity = (root.find("{*}Entities")[0] for root in (ours, theirs))
    assert local(ours_entity) == local(theirs_entity)
    wanted = shape(theirs_entity[0])
    assert wanted in [shape(entity) for entity in ours_entity]
    assert shape(ours.find("{*}PagingInfo"))[1] == shape(theirs.find("{*}PagingInfo"))[1]


@pytest.mark.parametrize("version", [12, 13])
def test_backup_servers_in_json(estate: Fleet, version: int) -> None:
    name = f"json_v{version}_backupServers_collection.json"
    theirs = json.loads((SAMPLES / name).read_text("utf-8-sig"))
    with Simulator(estate, version=version) as server:
        ours = Client(server, **JSON).call("GET", "/backupServers", {"format": "Entity"}).json()
    assert list(ours) == list(theirs)
    (key,) = theirs
    assert list(ours[key][0]) == list(theirs[key][0])


@pytest.mark.parametrize("version", [12, 13])
def test_a_page_in_json(estate: Fleet, version: int) -> None:
    theirs = json.loads(
        (SAMPLES / f"json_v{version}_query_BackupTaskSession_entities.json").read_text("utf-8-sig")
    )
    with Simulator(estate, version=version) as server:
        ours = Client(server, **JSON).query(filter="State==Completed").json()
    assert list(ours) == list(theirs)
    entities = "entities" if version == 13 else "Entities"
    assert list(ours[entities]) == list(theirs[entities])
    paging = "pagingInfo" if version == 13 else "PagingInfo"
    assert list(ours[paging]) == list(theirs[paging])
    links = "links" if version == 13 else "Links"
    assert list(ours[paging][links][0]) == list(theirs[paging][links][0])
    mine = next(v for v in ours[entities].values() if v).popitem()[1][0]
    other = next(v for v in theirs[entities].values() if v).popitem()[1][0]
    renamed = {"jobSessionUid": "policySessionUid", "JobSessionUid": "PolicySessionUid"}
    expected = [renamed.get(key, key) for key in other if key.lower() != "vmuid"]
    assert list(mine) == expected
    assert list(mine[links][0]) == list(other[links][0])


def test_a_reference_in_json(estate: Fleet) -> None:
    theirs = json.loads(
        (SAMPLES / "json_v10_query_BackupJobSession_references.json").read_text("utf-8-sig")
    )
    with Simulator(estate) as server:
        ours = (
            Client(server, **JSON).call("GET", "/query", {"type": "CdpReplicaTaskSession"}).json()
        )
    assert list(ours["Refs"]["Refs"][0]) == list(theirs["Refs"]["Refs"][0])


def test_errors_and_log_on(estate: Fleet) -> None:
    error = json.loads((SAMPLES / "json_error_404_job_not_found.json").read_text())
    with Simulator(estate) as server:
        client = Client(server, **JSON)
        assert list(client.call("GET", "/nothing").json()) == list(error)
        logon = client.logon.json()
    recorded = json.loads((SAMPLES / "json_v12_login_LogonSession.json").read_text("utf-8-sig"))
    assert list(logon)[:3] == list(recorded)[:3]
    assert set(logon) <= set(recorded)


def test_a_vapp_in_xml() -> None:
    fleet = Fleet.generate(vms=4, days=3, policies=2, vapp_policies=1)
    with Simulator(fleet) as server:
        client = Client(server)
        listed = etree.fromstring(client.call("GET", "/cdpReplica/vApps").content)
        assert local(listed) == "EntityReferences"
        path = listed[0].get("Href").partition("/api")[2]
        ours = etree.fromstring(client.call("GET", path, {"format": "Entity"}).content)
    theirs = sample("xml_docs_VAppCdpReplica_entity.xml")
    assert [local(child) for child in ours] == [local(child) for child in theirs]
    assert set(shape(ours)[1]) == set(shape(theirs)[1])


def test_intervals_in_xml(estate: Fleet) -> None:
    with Simulator(estate) as server:
        client = Client(server)
        replica = estate.policies[1].replica_uid
        vms = etree.fromstring(
            client.call("GET", f"/cdpReplicas/{replica}/vms", {"format": "Entity"}).content
        )
        vm = vms[0].get("UID").rsplit(":", 1)[1]
        spec = (SAMPLES / "xml_docs_CdpReplicaIntervals_vm_request.xml").read_bytes()
        spec = spec.replace(b"2025-02-16T16", b"2026-10-20T00").replace(
            b"2025-02-17T16", b"2026-10-20T12"
        )
        answer = client.call(
            "POST", f"/cdpReplicas/{replica}/vms/{vm}", {"action": "intervals"}, data=spec
        )
    ours, theirs = (
        etree.fromstring(answer.content),
        sample("xml_docs_CdpReplicaIntervals_vm_response.xml"),
    )
    assert [local(child) for child in ours] == [local(child) for child in theirs]
    assert shape(ours.find("{*}Intervals")[0]) == shape(theirs.find("{*}Intervals")[0])
    assert shape(vms[0]) == shape(sample("xml_docs_CdpReplicaVm_entity.xml"))
