"""The simulated server over real HTTP: log-on, expiry, paging, order, lag, horizon, resources, errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from lxml import etree

from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.simulator.kinds import KINDS

UNTIL = datetime(2026, 10, 20, 12, 0, tzinfo=UTC)
JSON = {"Accept": "application/json"}
NS = "{http://www.veeam.com/ent/v1.0}"
TASKS = "CdpReplicaTaskSession"


class Client:
    """A bare client: one token, no cookies, nothing of ours."""

    def __init__(self, server: Simulator, **headers: str) -> None:
        self.server, self.headers = server, headers
        answer = requests.post(
            f"{server.url}/api/sessionMngr/?v=latest",
            auth=("demo", "demo"),
            headers=headers,
            timeout=10,
        )
        self.logon = answer
        self.token = answer.headers["X-RestSvcSessionId"]

    def call(self, method: str, path: str, params: Any = None, **more: Any) -> requests.Response:
        headers = {**self.headers, "X-RestSvcSessionId": self.token, **more.pop("headers", {})}
        url = f"{self.server.url}/api{path}"
        return requests.request(method, url, params=params, headers=headers, timeout=10, **more)

    def query(self, kind: str = TASKS, **params: Any) -> requests.Response:
        return self.call("GET", "/query", {"type": kind, "format": "Entities", **params})

    def rows(self, kind: str = TASKS, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self.query(kind, page=len(found) // 70 + 1, pageSize=70, **params).json()
            lists = {k: v for k, v in page["Entities"].items() if v is not None}
            ((inner,),) = [list(wrapper.values()) for wrapper in lists.values()]
            found += inner
            if page["PagingInfo"]["PageNum"] >= page["PagingInfo"]["PagesCount"]:
                return found


@pytest.fixture(scope="module")
def estate() -> Fleet:
    return Fleet.generate(vms=14, days=8, seed=4, until=UNTIL, policies=4)


@pytest.fixture
def server(estate: Fleet) -> Iterator[Simulator]:
    with Simulator(estate) as running:
        yield running


@pytest.fixture
def client(server: Simulator) -> Client:
    return Client(server, **JSON)


def test_log_on_gives_a_session_and_a_wrong_password_none(server: Simulator) -> None:
    client = Client(server, **JSON)
    assert client.logon.status_code == 201
    assert client.logon.headers["Set-Cookie"].endswith("; Path=/api;")
    assert client.logon.json()["UserName"] == "demo"
    url = f"{server.url}/api/sessionMngr/"
    for auth in (("demo", "wrong"), None):
        refused = requests.post(url, auth=auth, headers=JSON, timeout=10)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Basic Realm=RestSvc"
        assert refused.json()["Message"] == "The user name or password is incorrect"
    assert requests.get(f"{server.url}/api/", timeout=10).status_code == 200


def test_a_session_ends_by_log_out_or_idleness(server: Simulator, client: Client) -> None:
    server.advance(timedelta(minutes=14))
    assert client.query().status_code == 200
    server.advance(timedelta(minutes=16))
    assert client.query().status_code == 401
    again = Client(server, **JSON)
    identifier = again.logon.json()["SessionId"]
    listed = again.call("GET", "/logonSessions", {"format": "Entity"}).json()["LogonSessions"]
    assert identifier in [one["SessionId"] for one in listed]
    assert again.call("DELETE", f"/logonSessions/{identifier}").status_code == 204
    assert again.query().status_code == 401
    third = Client(server, **JSON)
    unknown = third.call("DELETE", f"/logonSessions/{identifier}")
    assert (unknown.status_code, unknown.json()["StatusCode"]) == (500, 500)


def test_the_cookie_beats_the_header(client: Client) -> None:
    cookie = {"Cookie": "X-RestSvcSessionId=stale"}
    assert client.query(pageSize=1).status_code == 200
    assert client.call("GET", "/query", {"type": TASKS}, headers=cookie).status_code == 401


def test_pages_hold_each_row_once_and_default_to_a_hundred(client: Client, estate: Fleet) -> None:
    truth = estate.task_sessions(UNTIL)
    rows = client.rows(sortAsc="CreationTimeUTC")
    assert sorted(row["UID"].rsplit(":", 1)[1] for row in rows) == sorted(truth["uid"])
    created = [row["CreationTimeUTC"].rstrip("Z") for row in rows]
    assert created == sorted(created)
    first = client.query().json()["PagingInfo"]
    assert (first["PageSize"], first["PageNum"]) == (100, 1)
    assert [link["Rel"] for link in first["Links"]] == ["First", "Next", "Last"]
    assert first["Links"][1]["Href"].endswith("&pageSize=100&page=2")
    beyond = client.query(page=999).json()
    assert beyond["Entities"]["CdpReplicaTaskSessions"]["CdpReplicaTaskSessions"] == []
    assert beyond["PagingInfo"]["PagesCount"] == first["PagesCount"]
    for wrong in ({"pageSize": 0}, {"page": "x"}, {"page": -1}):
        assert client.query(**wrong).status_code == 400


def test_the_default_order_is_the_databases_own(estate: Fleet, client: Client) -> None:
    uids = [row["UID"].rsplit(":", 1)[1] for row in client.rows()]

    def sql_server(uid: str) -> tuple[str, ...]:
        a, b, c, d, e = uid.split("-")
        swapped = ["".join(re.findall("..", part)[::-1]) for part in (c, b, a)]
        return (e, d, *swapped)

    assert uids == sorted(uids, key=sql_server)
    assert uids != sorted(uids)
    with Simulator(estate, version=13) as newer:
        page = Client(newer, **JSON).query(pageSize=50).json()
    rows = page["entities"]["cdpReplicaTaskSessions"]["cdpReplicaTaskSessions"]
    assert [row["uid"] for row in rows] == sorted(row["uid"] for row in rows)


def test_all_documented_fields_filter_and_sort(client: Client, estate: Fleet) -> None:
    row = client.rows(filter="State==Completed")[7]
    session = next(link for link in row["Links"] if link["Type"] == "CdpReplicaSessionReference")
    server = next(link for link in row["Links"] if link["Type"] == "BackupServerReference")
    values = {
        "Id": row["UID"], "Name": row["Name"], "PolicySessionUid": row["PolicySessionUid"],
        "PolicySessionName": session["Name"], "BackupServerUid": server["Href"].rsplit("/", 1)[1],
        "BackupServerName": server["Name"], "CreationTimeUTC": row["CreationTimeUTC"],
        "EndTimeUTC": row["EndTimeUTC"], "State": row["State"], "TotalSize": row["TotalSize"],
        "VmDisplayName": row["VmDisplayName"],
    }  # fmt: skip
    for name, value in values.items():
        literal = str(value).replace('"', '""')
        found = client.rows(
            filter=f'{name}=="{literal}"' if name != "TotalSize" else f"{name}=={value}"
        )
        assert row["UID"] in [one["UID"] for one in found], name
        assert client.query(sortDesc=name, pageSize=3).status_code == 200
    reason = next(text for text in estate.task_sessions(UNTIL)["reason"] if text)
    quoted = str(reason).replace('"', '""')
    assert {one["Reason"] for one in client.rows(filter=f'Reason=="{quoted}"')} == {reason}
    refused = client.query(filter='Result=="Failed"')
    assert (refused.status_code, refused.json()["Message"]) == (
        400,
        "Invalid filter: unknown field 'Result'",
    )
    assert client.query("CdpNothing").status_code == 404
    assert client.query(sortAsc="Colour").status_code == 400


def test_the_database_lags_and_forgets(estate: Fleet) -> None:
    with Simulator(estate, horizon=timedelta(days=3)) as server:
        client = Client(server, **JSON)
        before = client.rows()
        assert min(row["CreationTimeUTC"] for row in before) >= "2026-10-17T12:00"
        running = [row for row in before if row["State"] == "InProgress"]
        assert running
        assert all("EndTimeUTC" not in row and row["Result"] == "Success" for row in running)
        server.advance(timedelta(minutes=14))
        assert len(Client(server, **JSON).rows()) <= len(before)
        server.advance(timedelta(hours=30))
        after = {row["UID"]: row for row in Client(server, **JSON).rows()}
        assert all(
            after[row["UID"]]["State"] == "Completed" for row in running if row["UID"] in after
        )
        date = requests.get(f"{server.url}/api/", timeout=10).headers["Date"]
        assert date.startswith("Wed, 21 Oct 2026 18:14")


def test_xml_is_the_default_and_says_the_same(server: Simulator, client: Client) -> None:
    plain = Client(server)
    body = plain.query(sortAsc="CreationTimeUTC", pageSize=60).content
    elements = list(etree.fromstring(body).iter(f"{NS}{TASKS}"))
    rows = client.query(sortAsc="CreationTimeUTC", pageSize=60).json()["Entities"][
        "CdpReplicaTaskSessions"
    ]
    for element, row in zip(elements, rows["CdpReplicaTaskSessions"], strict=True):
        for name in ("UID", "VmDisplayName", "Name"):
            assert element.get(name) == row[name]
        for name in (
            "PolicySessionUid",
            "CreationTimeUTC",
            "EndTimeUTC",
            "State",
            "Result",
            "Reason",
        ):
            assert element.findtext(f"{NS}{name}") == row.get(name)
        assert element.findtext(f"{NS}TotalSize") == str(row["TotalSize"])


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_version_13_spells_the_same_in_camel_case(estate: Fleet, client: Client, kind: str) -> None:
    def lowered(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key.lower(): lowered(value) for key, value in tree.items()}
        return [lowered(item) for item in tree] if isinstance(tree, list) else tree

    with Simulator(estate, version=13, link_host="em.example:9398") as newer:
        new = Client(newer, **JSON).query(kind, filter='Name!=""', pageSize=5).json()
    assert "entities" in new
    assert "pagesCount" in new["pagingInfo"]
    old = client.query(kind, pageSize=500).json()
    keys = {
        tuple(row) for row in lowered(next(v for v in old["Entities"].values() if v)).popitem()[1]
    }
    mine = next(value for value in new["entities"].values() if value)
    for row in lowered(mine).popitem()[1]:
        assert tuple(row) in keys
    assert json.dumps(new).count("https://") == 0
    assert json.dumps(new).count("http://em.example:9398/api/") > 3


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_the_links_of_an_entity_lead_to_what_they_name(client: Client, kind: str) -> None:
    entity = client.rows(kind)[0]
    named = [link for link in entity["Links"] if link["Name"]]
    assert named
    for link in named:
        answer = client.call("GET", link["Href"].partition("/api")[2])
        assert answer.json()["Name"] == link["Name"]


def test_references_and_single_entities(client: Client) -> None:
    refs = client.call("GET", "/query", {"type": TASKS, "pageSize": 4}).json()
    assert refs["Entities"] is None
    one = refs["Refs"]["Refs"][0]
    assert one["Type"] == "CdpReplicaTaskSessionReference"
    uid = one["UID"].rsplit(":", 1)[1]
    for kind in KINDS:
        resource, name = kind.plural, kind.name
        listed = client.query(name, pageSize=1).json()["Entities"]
        wanted = next(v for v in listed.values() if v).popitem()[1][0]["UID"].rsplit(":", 1)[1]
        entity = client.call("GET", f"/{resource}/{wanted}", {"format": "Entity"}).json()
        assert entity["UID"].endswith(wanted)
        xml = client.call("GET", f"/{resource}/{wanted}", headers={"Accept": "application/xml"})
        assert etree.fromstring(xml.content).tag == f"{NS}{name}"
    assert client.call("GET", f"/cdpReplicaTaskSessions/{uid[:-2]}00").status_code in (200, 404)
    assert client.call("GET", "/nothing/here").status_code == 404
    assert client.call("PUT", "/cdpReplicas").status_code == 405
    assert requests.get(f"{client.server.url}/elsewhere", timeout=10).status_code == 404


def test_intervals_are_asked_of_a_replica_vm(client: Client, estate: Fleet) -> None:
    replicas = client.call("GET", "/cdpReplicas", {"format": "Entity"}).json()["CdpReplicas"]
    assert len(replicas) == len(estate.policies)
    uid = replicas[0]["UID"].rsplit(":", 1)[1]
    vms = client.call("GET", f"/cdpReplicas/{uid}/vms", {"format": "Entity"}).json()[
        "CdpReplicaVms"
    ]
    vm = vms[0]["UID"].rsplit(":", 1)[1]
    path = f"/cdpReplicas/{uid}/vms/{vm}"
    assert client.call("GET", path).json()["Name"] == vms[0]["Name"]
    dates = ("2026-10-20T04:00:00Z", "2026-10-20T12:00:00Z")
    spec = {"StartDate": dates[0], "EndDate": dates[1]}
    xml = "<CdpIntervalsSpec><{0}>{2}</{0}><{1}>{3}</{1}></CdpIntervalsSpec>"
    asked = {"action": "intervals"}
    as_json = client.call("POST", path, asked, json=spec).json()
    body = xml.format("StartDate", "EndDate", *dates)
    assert client.call("POST", path, asked, data=body).json() == as_json
    for part in as_json["Intervals"]["Intervals"]:
        assert part["StartDate"] < part["EndDate"] <= "2026-10-20T12:00:00"
        assert part["IntervalType"] == "RestoreAvailable"
        assert part["Rpo"] > 0
    swapped = xml.format("EndDate", "StartDate", *reversed(dates))
    for wrong in (
        swapped,
        "<!DOCTYPE x><x/>",
        "",
        "{}",
        xml.format("StartDate", "EndDate", *reversed(dates)),
    ):
        assert client.call("POST", path, asked, data=wrong).status_code == 400
    assert client.call("POST", f"/cdpReplicas/{uid}/vms/{uid}", asked, json=spec).status_code == 404


@pytest.mark.parametrize("accept", ["application/json", "application/xml"])
def test_a_policy_of_vapps_lists_them_as_replicas_of_their_own(accept: str) -> None:
    fleet = Fleet.generate(vms=14, days=8, seed=4, until=UNTIL, policies=4, vapp_policies=2)
    plain = Fleet.generate(vms=14, days=8, seed=4, until=UNTIL, policies=4)
    assert fleet.gaps != plain.gaps, "names differ"
    assert [gap.start for gap in fleet.gaps] == [gap.start for gap in plain.gaps]
    with Simulator(fleet) as server:
        client = Client(server, Accept="application/json")
        vapps = client.call("GET", "/cdpReplica/vApps", {"format": "Entity"}).json()
        (listed,) = vapps.values()
        assert [one["Name"] for one in listed] == [
            name for policy in fleet.policies if policy.of_vapps for name in policy.vms
        ]
        for policy in fleet.policies:
            own = client.call("GET", f"/cdpReplicas/{policy.replica_uid}/vms").json()["Refs"]
            assert bool(own) is not policy.of_vapps
        uid = listed[0]["UID"].rsplit(":", 1)[1]
        one = client.call("GET", f"/cdpReplica/vApps/{uid}", headers={"Accept": accept})
        assert one.status_code == 200
        assert f"urn:veeam:VAppCdpReplica:{uid}" in one.text
        spec = {"StartDate": "2026-10-20T04:00:00Z", "EndDate": "2026-10-20T12:00:00Z"}
        asked = {"action": "intervals"}
        found = client.call("POST", f"/cdpReplica/vApps/{uid}", asked, json=spec)
        assert found.json()["Intervals"]["Intervals"]
        other = f"/cdpReplica/vApps/{fleet.policies[0].uid}"
        assert client.call("GET", other).status_code == 404
        assert client.call("POST", other, asked, json=spec).status_code == 404
        assert client.call("GET", f"/cdpReplica/vApps/{uid[-12:]}").status_code == 404


def test_a_body_too_large_and_garbage_do_no_harm(server: Simulator, client: Client) -> None:
    with suppress(requests.ConnectionError):  # the server may hang up before all is sent
        assert client.call("POST", "/query", data=b"x" * 1_500_000).status_code == 413
    odd = client.call("GET", "/query", headers={"Content-Length": "many"})
    assert odd.status_code == 400
    assert client.query("CdpPolicy").status_code == 200
    assert ("GET", "/api/query") in [(method, path) for method, path, *_ in server.requests]


def test_tls_with_a_certificate_of_its_own(estate: Fleet) -> None:
    with Simulator(estate, tls=True, bom=True) as server:
        assert server.url.startswith("https://")
        answer = requests.get(
            f"{server.url}/api/", verify=server.ca_bundle, headers=JSON, timeout=10
        )
        assert answer.content.startswith(b"\xef\xbb\xbf")
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{server.url}/api/", timeout=10)


def test_a_fleet_is_the_same_in_every_process(estate: Fleet) -> None:
    code = (
        "from datetime import datetime, UTC; import hashlib; from cdpanalytics.simulator import Fleet;"
        "f = Fleet.generate(vms=14, days=8, seed=4, until=datetime(2026, 10, 20, 12, tzinfo=UTC), policies=4);"
        "print(hashlib.sha256(repr((f.gaps, f.task_sessions())).encode()).hexdigest())"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            for _ in range(2)}  # fmt: skip
    assert len(runs) == 1
    assert Fleet.generate(vms=14, days=8, seed=5, until=UNTIL).gaps != estate.gaps


@pytest.mark.parametrize(("vms", "days", "seed"), [(14, 8, 4), (60, 30, 1), (1, 1, 1), (3, 2, 7)])
def test_the_planted_gaps_are_those_of_a_slow_sweep(vms: int, days: int, seed: int) -> None:
    fleet = Fleet.generate(vms=vms, days=days, seed=seed, until=UNTIL)
    rows = fleet.task_sessions(UNTIL, lag=timedelta(0))
    spans: dict[tuple[str, str], list[tuple[datetime, datetime]]] = {}
    for server, vm, created, ended, result in zip(
        rows["backup_server"],
        rows["vm"],
        rows["created"],
        rows["ended"],
        rows["result"],
        strict=True,
    ):
        if result != "Failed" and created < UNTIL:
            spans.setdefault((server, vm), []).append((created, min(ended or UNTIL, UNTIL)))
    swept = set()
    for (server, vm), mine in spans.items():
        reach = sorted(mine)[0][1]
        for start, end in [*sorted(mine), (UNTIL, UNTIL)]:
            if start - reach > timedelta(minutes=1):
                swept.add((server, vm, reach, start))
            reach = max(reach, end)
    assert {(gap.backup_server, gap.vm, gap.start, gap.end) for gap in fleet.gaps} == swept
