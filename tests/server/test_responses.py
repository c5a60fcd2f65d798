"""Bodies of any spelling read to the same table; what cannot be read is told in one line."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics import schema
from cdpanalytics.errors import WireError
from cdpanalytics.server import responses
from cdpanalytics.server.responses import fields

BODIES = Path(__file__).parent / "wire"
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
JSON, XML = "application/json; charset=utf-8", "application/xml"
TASKS = "CdpReplicaTaskSession"
needs_samples = pytest.mark.skipif(
    not SAMPLES.exists(), reason="the vendor's sample bodies are not beside this checkout"
)


def body(name):
    return (BODIES / name).read_bytes()


def kind_of(name):
    return XML if name.endswith("xml") else JSON


def read(name, kind=TASKS):
    return responses.read_page(body(name), kind_of(name), kind, origin="em page 1")


def respelled(text, spell):
    def walk(tree):
        if isinstance(tree, dict):
            return {spell(key): walk(value) for key, value in tree.items()}
        return [walk(item) for item in tree] if isinstance(tree, list) else tree

    return json.dumps(walk(json.loads(text.decode("utf-8-sig")))).encode()


def tasks(*rows, **changes):
    """Return a version 12 page of these rows."""
    page = {
        "Refs": None,
        "Entities": {"CdpReplicaTaskSessions": {"CdpReplicaTaskSessions": list(rows)}},
        "PagingInfo": {"PageNum": 1, "PageSize": 100, "PagesCount": 1},
        **changes,
    }
    return json.dumps(page).encode()


def row(**changes):
    made = {
        "UID": "urn:veeam:CdpReplicaTaskSession:00000001-1111-4222-8333-000000000001",
        "CreationTimeUTC": "2026-03-01T15:00:30Z",
    }
    return {k: v for k, v in {**made, **changes}.items() if v is not ...}


def table_of(text, kind=TASKS):
    return responses.read_page(text, JSON, kind, origin="em page 1").table


@pytest.mark.parametrize(
    "name", ["task_sessions.v12.json", "task_sessions.v13.json", "task_sessions.xml"]
)
def test_every_spelling_reads_to_the_same_three_sessions(name):
    page = read(name)
    assert (page.number, page.size, page.count) == (1, 100, 1)
    assert page.table.schema == schema.TASK_SESSIONS
    assert page.table.slice(1, 2).to_pylist() == [
        {
            "uid": "00000002-1111-4222-8333-000000000002",
            "vm": "größe & <co>",
            "policy_session": "Gold@night@2026-03-01 15:00:24",
            "policy_session_uid": "000000a0-1111-4222-8333-0000000000a0",
            "backup_server": "vbr01.example",
            "backup_server_uid": "000000b0-1111-4222-8333-0000000000b0",
            "created": pd.Timestamp("2026-03-01T15:00:30Z"),
            "ended": pd.Timestamp("2026-03-01T15:09:00.05Z"),
            "state": "Completed",
            "result": "Failed",
            "reason": 'Error: "source" is\nunreachable',
            "total_size": 0,
        },
        {
            "uid": "00000003-1111-4222-8333-000000000003",
            "vm": "db01",
            "policy_session": "Gold@night@2026-03-01 15:00:24",
            "policy_session_uid": "000000a0-1111-4222-8333-0000000000a0",
            "backup_server": "vbr01.example",
            "backup_server_uid": "000000b0-1111-4222-8333-0000000000b0",
            "created": pd.Timestamp("2026-03-01T23:00:31.05Z"),
            "ended": None,
            "state": "InProgress",
            "result": "Success",
            "reason": None,
            "total_size": 42949672960,
        },
    ]
    assert page.table["ended"][0].as_py() == pd.Timestamp("2026-03-01T23:00:31.123456Z")


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.swapcase])
def test_keys_are_matched_whatever_their_case(spell):
    odd = respelled(body("task_sessions.v12.json"), spell)
    assert table_of(odd).equals(read("task_sessions.v12.json").table)


@given(st.randoms(use_true_random=False))
def test_even_keys_of_mixed_case_lose_no_column(rolls: random.Random):
    mixed: dict[str, str] = {}

    def spell(name):
        odd = "".join(rolls.choice((c.upper(), c.lower())) for c in name)
        return mixed.setdefault(name, odd)

    odd = respelled(body("task_sessions.v12.json"), spell)
    assert table_of(odd).equals(read("task_sessions.v12.json").table)


def test_one_odd_key_among_well_spelled_ones_is_still_read():
    found = table_of(tasks(row(endtimeUtc="2026-03-01T16:00:00Z", Reason=None)))
    assert found["ended"][0].as_py() == pd.Timestamp("2026-03-01T16:00:00Z")


def test_odd_keys_inside_links_are_still_read():
    odd = body("task_sessions.v12.json").replace(b'"Type"', b'"TYPE"').replace(b'"Href"', b'"HREF"')
    assert table_of(odd).equals(read("task_sessions.v12.json").table)
    odd = body("task_sessions.v12.json").replace(b'"Type"', b'"TYPE"')
    assert table_of(odd).equals(read("task_sessions.v12.json").table)


def test_the_inner_list_may_have_any_name():
    entities = {"CdpReplicaTaskSessions": {"CdpPolicySessions": [row()], "Links": None}}
    assert table_of(tasks(Entities=entities)).num_rows == 1


@pytest.mark.parametrize("wrapper", [None, {}, {"X": None}, {"X": []}])
def test_nothing_found_is_an_empty_table(wrapper):
    found = table_of(tasks(Entities={"CdpReplicaTaskSessions": wrapper}))
    assert found.schema == schema.TASK_SESSIONS
    assert found.num_rows == 0


def test_an_answer_without_the_collection_is_not_an_empty_one():
    with pytest.raises(WireError, match="no CdpReplicaTaskSessions in the answer, got nothing"):
        table_of(tasks(Entities={}))
    assert table_of(tasks(Entities={"CdpReplicaTaskSessions": None})).num_rows == 0


@pytest.mark.parametrize("spell", [str.upper, str.lower, fields.camel])
@pytest.mark.parametrize(
    "name", ["EndTimeUTC", "Result", "Reason", "TotalSize", "VmDisplayName", "Links"]
)
def test_a_key_of_one_row_is_read_in_any_case(name, spell):
    links = [
        {
            "Type": "BackupServerReference",
            "Name": "vbr01",
            "Href": f"/x/{'0' * 8}-1111-4222-8333-{'0' * 12}",
        }
    ]
    values = {
        "EndTimeUTC": "2026-03-01T16:00:30Z", "Result": "Success", "Reason": "why", "TotalSize": 7,
        "VmDisplayName": "db01", "Links": links,
    }  # fmt: skip
    plain = row(**values)
    other = {spell(key) if key == name else key: value for key, value in plain.items()}
    assert table_of(tasks(plain, other)).slice(1).to_pylist() == table_of(tasks(plain)).to_pylist()


FLAT = fields.Shape(
    "Things",
    pa.schema({"uid": pa.string(), "port": pa.int64(), "up": pa.bool_(), "seen": schema.INSTANT}),
    (("uid", "UID"), ("port", "Port"), ("up", "IsUp"), ("seen", "SeenTimeUTC")),
    required=("uid",),
)
"""A kind of flat entities with a column of each type that such a kind may have."""


@pytest.mark.parametrize("spell", [str, fields.camel, str.swapcase])
def test_a_flat_kind_may_have_numbers_and_truth_values(monkeypatch, spell):
    monkeypatch.setitem(fields.SHAPES, "Thing", FLAT)
    things = [
        {"UID": row()["UID"], "Port": 9392, "IsUp": True, "SeenTimeUTC": "2026-03-01T15:00:00Z"},
        {"UID": row()["UID"], "Port": None, "IsUp": None, "SeenTimeUTC": None},
    ]
    page = respelled(tasks(Entities={"Things": {"Things": things}}), spell)
    table = table_of(page, "Thing")
    assert table["port"].to_pylist() == [9392, None]
    assert table["up"].to_pylist() == [True, None]
    first = "".join(
        f'{key}="{"true" if value is True else value}" ' for key, value in things[0].items()
    )
    text = (
        f"<QueryResult><Entities><Things><Thing {first}/>"
        f'<Thing UID="{things[1]["UID"]}"/></Things></Entities>'
        '<PagingInfo PageNum="1" PageSize="100" PagesCount="1"/></QueryResult>'
    )
    read = responses.read_page(text.encode(), XML, "Thing", origin="em page 1").table
    assert read.to_pylist() == table.to_pylist()


def test_keys_of_a_link_are_read_in_any_case():
    href = f"/x/{'0' * 8}-1111-4222-8333-{'0' * 12}"
    first = [{"Type": "BackupServerReference", "Name": "vbr01", "Href": href}]
    second = [{"type": "BackupServerReference", "name": "vbr02", "href": href}]
    table = table_of(tasks(row(Links=first), row(Links=second)))
    assert table["backup_server"].to_pylist() == ["vbr01", "vbr02"]


def test_an_xml_element_is_read_in_any_case():
    text = body("task_sessions.xml").replace(b"VmDisplayName", b"vmDisplayName", 2)
    table = responses.read_page(text, XML, TASKS, origin="em page 1").table
    assert table.to_pylist() == read("task_sessions.xml").table.to_pylist()


def test_a_wrapper_may_hold_another_list_that_is_empty():
    rows = {"CdpReplicaTaskSessions": {"Removed": [], "CdpReplicaTaskSessions": [row()]}}
    assert table_of(tasks(Entities=rows)).num_rows == 1


@pytest.mark.parametrize("kind", ["CdpPolicy", "CdpReplica"])
def test_settings_without_the_collection_are_not_none(kind):
    with pytest.raises(WireError, match=r"no Cdp\w+ in the answer"):
        responses.read_page(tasks(), JSON, kind, origin="em page 1")


@pytest.mark.parametrize("ended", [..., None, "", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z"])
def test_a_running_session_has_no_end_however_that_is_written(ended):
    assert table_of(tasks(row(EndTimeUTC=ended)))["ended"].to_pylist() == [None]


@pytest.mark.parametrize("empty", [..., None, ""])
def test_absent_null_and_empty_are_null_alike(empty):
    found = table_of(tasks(row(Reason=empty, VmDisplayName=empty, State=empty, Links=...)))
    assert found.select(["reason", "vm", "state", "backup_server"]).to_pylist() == [
        {"reason": None, "vm": None, "state": None, "backup_server": None}
    ]


def test_a_vm_called_null_keeps_its_name():
    assert table_of(tasks(row(VmDisplayName="null")))["vm"].to_pylist() == ["null"]


def test_words_get_their_usual_case_and_unknown_ones_stay():
    rows = (row(State="COMPLETED", Result="none"), row(State="Dreaming", Result="Warning"))
    found = table_of(tasks(*rows))
    assert found["state"].to_pylist() == ["Completed", "Dreaming"]
    assert found["result"].to_pylist() == ["None", "Warning"]


def test_identifiers_are_bare_and_lower_case():
    guid = "ABCDEF01-1111-4222-8333-00000000000A"
    found = table_of(tasks(row(UID=guid, PolicySessionUid=f"urn:veeam:CdpReplicaSession:{guid}")))
    assert found["uid"].to_pylist() == found["policy_session_uid"].to_pylist() == [guid.lower()]


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 1, 1)),
    st.integers(0, 7),
    st.sampled_from(["", "Z"]),
    st.booleans(),
)
def test_times_are_read_to_the_microsecond(moment, digits, zone, as_xml):
    ticks = f"{moment.microsecond:06d}9"[:digits]
    text = f"{moment:%m-%dT%H:%M:%S}{'.' if digits else ''}{ticks}{zone}"
    text = f"{moment.year:04d}-{text}"
    wanted = moment.replace(microsecond=int(ticks[:6].ljust(6, "0")), tzinfo=UTC)
    if as_xml:
        found = responses.read_page(xml_page(text), XML, TASKS, origin="em").table
    else:
        found = table_of(tasks(row(CreationTimeUTC=text)))
    microseconds = found["created"].cast(pa.int64())[0].as_py()
    assert microseconds == (wanted - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


ODD = {"UID": "/api/x/0000000F-1111-4222-8333-00000000000F?format=Entity",
       "CreationTimeUTC": "2026-03-01T15:00:30.1234567Z", "EndTimeUTC": "2026-03-01T15:00:30+00:00",
       "PolicySessionUid": None, "TotalSize": "12", "State": "completed", "Reason": ""}  # fmt: skip


@pytest.mark.parametrize("field", ODD)
def test_an_odd_cell_leaves_the_cells_above_it_as_they_are(field):
    link = {"Type": "CdpReplicaSessionReference", "Name": "Gold@night",
            "Href": "/api/cdpReplicaSessions/000000A0-1111-4222-8333-0000000000A0"}  # fmt: skip
    usual = [
        row(
            UID=f"urn:veeam:CdpReplicaTaskSession:{number:08X}-AAAA-4222-8333-00000000000A",
            CreationTimeUTC=f"2026-03-01T15:00:{number}.5Z", EndTimeUTC="0001-01-01T00:00:00Z",
            PolicySessionUid="000000B0-1111-4222-8333-0000000000B0", State="Completed",
            TotalSize=number, Links=[link],
        )
        for number in range(10, 20)
    ]  # fmt: skip
    odd = row(**{**usual[0], "UID": row()["UID"], field: ODD[field]})
    alone, beside = table_of(tasks(*usual)), table_of(tasks(*usual, odd))
    assert alone["ended"].null_count == len(usual)
    assert beside.slice(0, len(usual)).to_pylist() == alone.to_pylist()


@pytest.mark.parametrize(
    "text",
    ["2026-02-30T10:00:00Z", "2026-03-01T24:00:01Z", "2026-03-01 10:00:00Z", "2026-03-01T10:00Z",
     "2026-03-01T10:00:00.Z", "2026-03-01T10:00:00+02:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(WireError, match=r"CreationTimeUTC of row 1 .* is not a time"):
        table_of(tasks(row(CreationTimeUTC=text)))


def xml_page(created, head="", inner="", namespace=f' xmlns="{responses.NAMESPACE}"'):
    text = f"""{head}<QueryResult{namespace}><Entities><CdpReplicaTaskSessions>
    <CdpReplicaTaskSession UID="{row()["UID"]}" VmDisplayName="a">{inner}
    <CreationTimeUTC>{created}</CreationTimeUTC><!-- a comment --><Reason />
    </CdpReplicaTaskSession></CdpReplicaTaskSessions></Entities>
    <PagingInfo PageNum="2" PageSize="5" PagesCount="2"/></QueryResult>"""
    return text.encode()


def test_xml_is_read_with_and_without_its_namespace():
    page = responses.read_page(
        xml_page("2026-03-01T15:00:30", namespace=""), XML, TASKS, origin="em"
    )
    assert (page.number, page.size, page.count) == (2, 5, 2)
    assert page.table["vm"].to_pylist() == ["a"]
    assert page.table["reason"].to_pylist() == [None]


def test_xml_with_a_doctype_is_refused_and_nothing_is_fetched(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("top secret")
    head = f'<!DOCTYPE q [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    with pytest.raises(WireError, match="DOCTYPE") as told:
        responses.read_page(
            xml_page("2026-03-01T15:00:30", head, "<Reason>&x;</Reason>"), XML, TASKS, origin="em"
        )
    assert "top secret" not in str(told.value)


@pytest.mark.parametrize("name", ["policies.v12.json", "policies.v13.json", "policies.xml"])
def test_a_policy_is_read_with_its_promise_and_schedule(name):
    page = read(name, "CdpPolicy")
    assert page.table.schema == schema.POLICIES
    (found,) = page.table.to_pylist()
    hours = "0" * 8 + "1" * 160
    assert found == {
        "policy_uid": "000000c0-1111-4222-8333-0000000000c0",
        "policy": "Gold@night",
        "backup_server": "vbr01.example",
        "backup_server_uid": "000000b0-1111-4222-8333-0000000000b0",
        "enabled": True,
        "rpo": timedelta(seconds=90),
        "schedule": hours,
        "warn_after": timedelta(seconds=62),
        "fail_after": None,
        "short_term": timedelta(hours=4, minutes=30),
        "long_term": timedelta(hours=8),
        "keep": timedelta(days=7),
        "vms": ["Database 01", "db02"],
    }


def test_a_policy_without_settings_promises_nothing():
    bare = {"UID": row()["UID"], "Name": "Bare"}
    zero = {"RecoveryPointObjectiveSeconds": 0, "RecoveryPointObjectiveMinutes": 0}
    none = {**bare, "PolicyScheduleOptions": {"CdpReplica": {**zero, "RPOSchedule": None}}}
    found = table_of(tasks(Entities={"CdpPolicies": {"CdpPolicies": [bare, none]}}), "CdpPolicy")
    for column in ("rpo", "schedule", "warn_after", "short_term", "keep", "enabled"):
        assert found[column].to_pylist() == [None, None]
    assert found["vms"].to_pylist() == [[], []]


@pytest.mark.parametrize("day", ["1,1,1", "", "x" * 24])
def test_a_malformed_schedule_is_no_schedule(day):
    text = body("policies.v12.json").decode()
    monday = ",".join("0" * 8 + "1" * 16)
    assert monday in text
    broken = text.replace(monday, day).encode()
    assert table_of(broken, "CdpPolicy")["schedule"].to_pylist() == [None]


def test_replicas_and_their_vms_are_read():
    guid = "000000d0-1111-4222-8333-0000000000d0"
    entity = {
        "UID": f"urn:veeam:CdpReplica:{guid}", "Name": "set", "PolicyUid": guid,
        "PolicyName": "Gold", "BackupServer": "vbr01", "Links": None,
    }  # fmt: skip
    found = table_of(tasks(Entities={"CdpReplicas": {"CdpReplicas": [entity]}}), "CdpReplica")
    assert found.to_pylist() == [
        {"uid": guid, "name": "set", "policy": "Gold", "policy_uid": guid, "backup_server": "vbr01"}
    ]
    vm = {**entity, "ReplicaUid": guid, "Name": "db01"}
    wanted = [{"uid": guid, "vm": "db01", "replica_uid": guid, "policy": "Gold",
               "policy_uid": guid, "backup_server": "vbr01"}]  # fmt: skip
    for listed in ({"CdpReplicaVms": [vm]}, {"cdpReplicaVms": {"cdpReplicaVms": [vm]}}):
        text = json.dumps(listed).encode()
        if isinstance(next(iter(listed.values())), dict):
            text = json.dumps(next(iter(listed.values()))).encode()
        assert responses.read_replica_vms(text, JSON, origin="em").to_pylist() == wanted
    xml = "".join(f"<{k}>{v}</{k}>" for k, v in vm.items() if k not in ("UID", "Links"))
    xml = f'<CdpReplicaVms><CdpReplicaVm UID="{vm["UID"]}">{xml}</CdpReplicaVm></CdpReplicaVms>'
    assert responses.read_replica_vms(xml.encode(), XML, origin="em").to_pylist() == wanted
    paged = json.dumps({"CdpReplicaVms": [vm], "PagingInfo": {"PagesCount": 2}}).encode()
    with pytest.raises(WireError, match="expected all on one page"):
        responses.read_replica_vms(paged, JSON, origin="em")


@pytest.mark.parametrize("name", ["vapp.v12.json", "vapp.v13.json", "vapp.xml"])
def test_every_spelling_reads_to_the_same_vapp(name):
    own = "000000e1-1111-4222-8333-0000000000e1"
    found = responses.read_vapp(body(name), kind_of(name), origin="em")
    assert found.schema == schema.REPLICA_VMS
    assert found.to_pylist() == [
        {"uid": own, "vm": "shop (Büro)", "replica_uid": own, "policy": "Gold@night",
         "policy_uid": "000000c0-1111-4222-8333-0000000000c0", "backup_server": "vbr01.example"}
    ]  # fmt: skip


GUIDS = ["000000e1-1111-4222-8333-0000000000e1", "000000e2-1111-4222-8333-0000000000e2"]


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("kind", ["XML", "Refs", "refs"])
def test_a_collection_is_read_for_its_identifiers(kind, count):
    urns = [f"urn:veeam:VAppCdpReplica:{guid.upper()}" for guid in GUIDS[:count]]
    if kind == "XML":
        refs = "".join(f'<Ref UID="{urn}" Name="shop"><Links/></Ref>' for urn in urns)
        text = f'<EntityReferences xmlns="{responses.NAMESPACE}">{refs}</EntityReferences>'.encode()
    else:
        uid = "UID" if kind == "Refs" else "uid"
        text = json.dumps(
            {kind: [{uid: urn, "Name": "shop", "Links": []} for urn in urns]}
        ).encode()
    assert responses.read_listed(text, XML if kind == "XML" else JSON, origin="em") == GUIDS[:count]


def test_a_collection_of_something_else_or_of_many_pages_is_refused():
    with pytest.raises(WireError, match="expected EntityReferences, got 'Jobs'"):
        responses.read_listed(b"<Jobs/>", XML, origin="em")
    with pytest.raises(WireError, match="row 1 has no UID"):
        responses.read_listed(b'{"Refs": [{"Name": "shop"}]}', JSON, origin="em")
    with pytest.raises(WireError, match="expected all on one page"):
        responses.read_listed(b'{"Refs": [], "PagingInfo": {"PagesCount": 2}}', JSON, origin="em")
    with pytest.raises(WireError, match="expected VAppCdpReplica, got 'CdpReplica'"):
        responses.read_vapp(b"<CdpReplica/>", XML, origin="em")


INTERVAL = {"StartDate": "2026-03-01T07:01:25", "EndDate": "2026-03-01T07:01:30",
            "Rpo": 5, "IntervalType": "RestoreAvailable"}  # fmt: skip


@pytest.mark.parametrize("intervals", [[INTERVAL], {"Intervals": [INTERVAL]}])
def test_intervals_are_read_in_both_forms(intervals):
    found = responses.read_intervals(
        json.dumps({"Intervals": intervals}).encode(), JSON, origin="em"
    )
    assert found.schema == schema.INTERVALS
    assert found.to_pylist() == [
        {
            "start": pd.Timestamp("2026-03-01T07:01:25Z"),
            "end": pd.Timestamp("2026-03-01T07:01:30Z"),
            "rpo": timedelta(seconds=5),
            "kind": "RestoreAvailable",
        }
    ]


def test_no_interval_is_an_empty_table():
    assert responses.read_intervals(b'{"intervals": null}', JSON, origin="em").num_rows == 0
    root = b"<CdpReplicaIntervals><Intervals/></CdpReplicaIntervals>"
    assert responses.read_intervals(root, XML, origin="em").num_rows == 0


def test_intervals_are_asked_for_in_the_order_the_server_wants():
    start = pd.Timestamp("2026-03-01 12:00:00.5", tz="UTC")
    asked = responses.intervals_request(start, start + pd.Timedelta("1D")).decode()
    assert "<StartDate>2026-03-01T12:00:00.5Z</StartDate><EndDate>2026-03-02T12" in asked


def test_references_hold_names_and_identifiers():
    (link, *_) = json.loads(body("task_sessions.v12.json").decode("utf-8-sig"))["Entities"][
        "CdpReplicaTaskSessions"
    ]["CdpReplicaTaskSessions"][0]["Links"]
    reference = {"UID": row()["UID"], "Name": "db01@x", "Links": [link]}
    page = responses.read_references(
        tasks(Refs={"Refs": [reference]}, Entities=None), JSON, origin="em"
    )
    assert page.table.schema == schema.REFERENCES
    (found,) = page.table.to_pylist()
    assert (found["name"], found["backup_server"]) == ("db01@x", "vbr01.example")


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        (b"<!DOCTYPE html><html>\n<b>", "text/html",
         "em page 1: expected JSON or XML, got text/html starting '<!DOCTYPE html><html> <b>'"),
        (b"", "", "em page 1: expected JSON or XML, got no content type starting nothing"),
        (b"[1]", JSON, "em page 1: expected a JSON object, got '[1]'"),
        (b"{}", JSON, "em page 1: no Entities in the answer, got nothing"),
        (b"<html/>", XML, "em page 1: no CdpReplicaTaskSessions in the answer, root 'html'"),
        (b'{"Message": "No\\u0007 way", "StatusCode": 500}', JSON,
         "em page 1: the answer is an error, 'No way'"),
        (tasks(row(), PagingInfo=None), JSON,
         "em page 1: no PagingInfo with PageNum, PageSize and PagesCount, None"),
        (tasks(row(UID=...)), JSON, "em page 1: row 1 has no UID"),
        (tasks(row(), row(UID="")), JSON, "em page 1: row 2 has no UID"),
        (tasks(row(CreationTimeUTC=None)), JSON,
         "em page 1: row 1 (00000001-1111-4222-8333-000000000001) has no CreationTimeUTC"),
        (tasks(row(UID="x")), JSON, "em page 1: UID holds no GUID, 'x'"),
        (tasks(row(EndTimeUTC="soon")), JSON,
         "em page 1: EndTimeUTC of row 1 (00000001-1111-4222-8333-000000000001) is not a time,"
         " 'soon'"),
        (tasks(row(EndTimeUTC="2026-02-30T00:00:00Z")), JSON,
         "em page 1: EndTimeUTC of row 1 (00000001-1111-4222-8333-000000000001) is not a time,"
         " '2026-02-30T00:00:00Z'"),
        (tasks(row(TotalSize=2**70)), JSON,
         "em page 1: TotalSize of row 1 (00000001-1111-4222-8333-000000000001) is not a whole"
         f" number, {2**70}"),
    ],
)  # fmt: skip
def test_the_first_thing_wrong_is_told_in_one_line(text, kind, told):
    with pytest.raises(WireError) as error:
        responses.read_page(text, kind, TASKS, origin="em page 1")
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b'{"Entities": ', JSON),
        (b"\xff\xfe{}", JSON),
        (b"{}", "application/json; charset=klingon"),
        (b"<a><b>", XML),
        (b"", XML),
        (b"[" * 100_000, JSON),
        (tasks(row(State=7)), JSON),
        (tasks("text", 7), JSON),
        (tasks(row(Links=[7])), JSON),
        (tasks(Entities=[]), JSON),
    ],
)
def test_anything_else_that_cannot_be_read_is_one_line_too(text, kind):
    with pytest.raises(WireError) as error:
        responses.read_page(text, kind, TASKS, origin="em page 1")
    assert str(error.value).startswith("em page 1: ")
    assert "\n" not in str(error.value)


def test_a_declared_charset_is_honoured():
    text = tasks(row(VmDisplayName="größe")).decode().encode("utf-16")
    found = responses.read_page(text, "application/json; charset=utf-16", TASKS, origin="em").table
    assert found["vm"].to_pylist() == ["größe"]


def test_vendor_types_with_a_suffix_are_known():
    page = responses.read_page(tasks(row()), "application/vnd.em+json", TASKS, origin="em")
    assert page.table.num_rows == 1


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (b'{"message": "a\\u001b[31m b"}', JSON, "a [31m b"),
        (
            f'<Error xmlns="{responses.NAMESPACE}" Message="no" StatusCode="500"/>'.encode(),
            XML,
            "no",
        ),
        (b"<html>no</html>", "text/html", None),
        (b"", JSON, None),
        (b'{"Message": null}', JSON, None),
        (b'{"Message": "' + b"x" * 999 + b'"}', JSON, "x" * 299 + "…"),
    ],
)
def test_an_error_body_gives_its_message(text, kind, said):
    assert responses.read_error(text, kind) == said


def test_a_logon_body_gives_its_session():
    guid = "15a3fc97-0325-4119-b789-5c0367c6c565"
    assert responses.read_logon(f'{{"sessionId": "{guid.upper()}"}}'.encode(), JSON) == guid
    xml = f"<LogonSession><Links/><SessionId>{guid}</SessionId></LogonSession>"
    assert responses.read_logon(xml.encode(), XML) == guid
    assert responses.read_logon(b'{"SessionId": "../x"}', JSON) is None
    assert responses.read_logon(b"<html>", "text/html") is None


@needs_samples
@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [
        ("xml_docs_query_CdpReplicaTaskSession_entities.xml", TASKS, 3),
        ("xml_docs_query_CdpReplicaSession_entities_CdpPolicySession_child.xml",
         "CdpReplicaSession", 2),
        ("xml_docs_query_CdpPolicy_entities.xml", "CdpPolicy", 1),
        ("xml_docs_query_CdpReplica_entities.xml", "CdpReplica", 1),
    ],
)  # fmt: skip
def test_the_vendors_own_pages_are_read_whole(name, kind, rows):
    page = responses.read_page((SAMPLES / name).read_bytes(), XML, kind, origin=name)
    assert (page.table.num_rows, page.number, page.size, page.count) == (rows, 1, 100, 1)
    empty = {c for c in page.table.column_names if page.table[c].null_count == rows}
    assert empty <= {"reason"}


@needs_samples
def test_a_working_policy_session_has_no_verdict_yet():
    name = "xml_docs_query_CdpReplicaSession_entities_CdpPolicySession_child.xml"
    page = responses.read_page((SAMPLES / name).read_bytes(), XML, "CdpReplicaSession", origin=name)
    assert page.table["result"].to_pylist() == ["None", "Failed"]
    assert page.table["ended"].null_count == 1


@needs_samples
@pytest.mark.parametrize("version", ["v12", "v13"])
def test_recorded_task_sessions_of_backups_have_the_shape_we_expect(version):
    sample = SAMPLES / f"json_{version}_query_BackupTaskSession_entities.json"
    page = json.loads(sample.read_text())
    ours, theirs = "CdpReplicaTaskSessions", "BackupTaskSessions"
    holder = "Entities"
    if version == "v13":
        holder, ours, theirs = "entities", "cdpReplicaTaskSessions", "backupTaskSessions"
    page[holder] = {ours: page[holder][theirs]}
    found = table_of(json.dumps(page).encode())
    assert found.num_rows > 1
    for column in ("uid", "vm", "backup_server", "created", "ended", "state", "result"):
        assert found[column].null_count == 0


@needs_samples
def test_the_vendors_intervals_replica_vms_and_errors_are_read():
    text = (SAMPLES / "xml_docs_CdpReplicaIntervals_vm_response.xml").read_bytes()
    found = responses.read_intervals(text, XML, origin="em")
    assert found["rpo"].to_pylist() == [timedelta(seconds=s) for s in (5, 15, 7)]
    text = (SAMPLES / "xml_docs_CdpReplicaVm_entity.xml").read_bytes()
    listed = b"<CdpReplicaVms>" + text + b"</CdpReplicaVms>"
    assert responses.read_replica_vms(listed, XML, origin="em")["vm"].to_pylist() == ["virt03-vm01"]
    text = (SAMPLES / "xml_docs_VAppCdpReplica_entity.xml").read_bytes()
    (vapp,) = responses.read_vapp(text, XML, origin="em").to_pylist()
    assert (vapp["vm"], vapp["policy"]) == ("vApp02", "CDP Policy Cloud Director")
    assert vapp["uid"] == vapp["replica_uid"]
    for name, said in (("xml_error_500_object_reference.xml", "Object reference not set"),
                       ("json_error_404_job_not_found.json", "Cannot find job")):  # fmt: skip
        assert responses.read_error((SAMPLES / name).read_bytes(), kind_of(name)).startswith(said)
