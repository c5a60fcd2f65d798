"""Time a page of sessions, bytes to a table: ours beside each parser by hand, and beside decoding alone.

Each reads the same bytes to the same Arrow table, which is checked; what stops at Python
objects says how much of it is decoding.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))

import shown
import timing

UNTIL = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROWS = 1000
TYPES = {"json": "application/json; charset=utf-8", "xml": "application/xml; charset=utf-8"}
NAMESPACE = "{http://www.veeam.com/ent/v1.0}"
KIND = "CdpReplicaTaskSession"
SERVER, PARENT = "BackupServerReference", "CdpReplicaSessionReference"


def page(kind: str) -> bytes:
    """A page as the simulated server answers it."""
    import requests

    from cdpanalytics.simulator import Fleet, Simulator

    fleet = Fleet.generate(vms=3000, days=5, seed=1, until=UNTIL, policies=40, servers=6)
    with Simulator(fleet, clock=lambda: UNTIL) as server, requests.Session() as session:
        answer = session.post(f"{server.url}/api/sessionMngr/?v=latest", auth=("demo", "demo"))
        token = answer.headers["X-RestSvcSessionId"]
        wanted = {"type": KIND, "format": "Entities", "pageSize": ROWS, "page": 2,
                  "sortAsc": "CreationTimeUTC"}  # fmt: skip
        headers = {"Accept": f"application/{kind}", "X-RestSvcSessionId": token}
        return session.get(f"{server.url}/api/query", params=wanted, headers=headers).content


# -- ours ------------------------------------------------------------------------------


def ours(kind: str) -> Callable[[bytes], pa.Table]:
    from cdpanalytics.server import responses

    return lambda body: responses.read_page(body, TYPES[kind], KIND, origin="bench").table


# -- by hand: each parser its own objects, then one way to the same table ---------------


def table(columns: dict[str, list[Any]]) -> pa.Table:
    """Lists of what the server wrote as a table: identifiers bare, times as times, labels coded."""
    label = pa.dictionary(pa.int32(), pa.string())
    types = {"uid": pa.string(), "reason": pa.string(), "total_size": pa.int64()}
    made = {}
    for name, values in columns.items():
        if name.endswith("uid"):
            values = [value and value[-36:].lower() for value in values]
        array = pa.array(values, types.get(name, pa.string()))
        if name in ("created", "ended"):
            array = array.cast(pa.timestamp("us", tz="UTC"))
        made[name] = array if name in types or name in ("created", "ended") else array.cast(label)
    return pa.table(made)


def from_dicts(entities: list[dict[str, Any]]) -> pa.Table:
    links = [{link["Type"]: link for link in each["Links"]} for each in entities]
    return table({
        "uid": [each["UID"] for each in entities],
        "vm": [each["VmDisplayName"] for each in entities],
        "policy_session": [each[PARENT]["Name"] for each in links],
        "policy_session_uid": [each["PolicySessionUid"] for each in entities],
        "backup_server": [each[SERVER]["Name"] for each in links],
        "backup_server_uid": [each[SERVER]["Href"] for each in links],
        "created": [each["CreationTimeUTC"] for each in entities],
        "ended": [each["EndTimeUTC"] for each in entities],
        "state": [each["State"] for each in entities],
        "result": [each["Result"] for each in entities],
        "reason": [each["Reason"] for each in entities],
        "total_size": [each["TotalSize"] for each in entities],
    })  # fmt: skip


def with_json(body: bytes) -> pa.Table:
    return from_dicts(json.loads(body)["Entities"][f"{KIND}s"][f"{KIND}s"])


def with_orjson(body: bytes) -> pa.Table:
    import orjson

    return from_dicts(orjson.loads(body)["Entities"][f"{KIND}s"][f"{KIND}s"])


class Link(msgspec.Struct, rename="pascal", gc=False):
    type: str
    name: str
    href: str


class Task(msgspec.Struct, rename="pascal", gc=False):
    """The fields that are wanted; msgspec passes over the others."""

    uid: str = msgspec.field(name="UID")
    vm_display_name: str
    policy_session_uid: str
    creation_time: str = msgspec.field(name="CreationTimeUTC")
    end_time: str | None = msgspec.field(name="EndTimeUTC")
    state: str
    result: str
    reason: str | None
    total_size: int | None
    links: list[Link]


class Tasks(msgspec.Struct):
    rows: list[Task] = msgspec.field(name=f"{KIND}s")


class Entities(msgspec.Struct):
    tasks: Tasks = msgspec.field(name=f"{KIND}s")


class Answer(msgspec.Struct):
    entities: Entities = msgspec.field(name="Entities")


def with_msgspec() -> Callable[[bytes], pa.Table]:
    decoder = msgspec.json.Decoder(Answer)

    def read(body: bytes) -> pa.Table:
        tasks = decoder.decode(body).entities.tasks.rows
        links = [{link.type: link for link in task.links} for task in tasks]
        return table({
            "uid": [task.uid for task in tasks],
            "vm": [task.vm_display_name for task in tasks],
            "policy_session": [each[PARENT].name for each in links],
            "policy_session_uid": [task.policy_session_uid for task in tasks],
            "backup_server": [each[SERVER].name for each in links],
            "backup_server_uid": [each[SERVER].href for each in links],
            "created": [task.creation_time for task in tasks],
            "ended": [task.end_time for task in tasks],
            "state": [task.state for task in tasks],
            "result": [task.result for task in tasks],
            "reason": [task.reason for task in tasks],
            "total_size": [task.total_size for task in tasks],
        })  # fmt: skip

    return read


def with_elementtree(body: bytes) -> pa.Table:
    from xml.etree import ElementTree

    rows = []
    for entity in ElementTree.fromstring(body).iter(f"{NAMESPACE}{KIND}"):
        found = {child.tag.removeprefix(NAMESPACE): child.text for child in entity}
        links = entity.find(f"{NAMESPACE}Links")
        found["Links"] = [link.attrib for link in links]  # type: ignore[union-attr, assignment]
        size = found.get("TotalSize")
        wanted = dict.fromkeys(("EndTimeUTC", "Reason", "Result", "State"))
        rows.append({**wanted, **entity.attrib, **found, "TotalSize": size and int(size)})
    return from_dicts(rows)


def with_read_xml(body: bytes) -> pa.Table:
    """pandas reads one level of a tree, so entities and their links are read apart."""
    import pandas as pd

    space = {"v": NAMESPACE.strip("{}")}
    tasks = pd.read_xml(io.BytesIO(body), xpath=f".//v:{KIND}", namespaces=space)
    links = pd.read_xml(io.BytesIO(body), xpath=f".//v:{KIND}/v:Links/v:Link", namespaces=space)
    servers, parents = (links[links["Type"] == kind] for kind in (SERVER, PARENT))
    sizes = tasks["TotalSize"].astype("Int64")
    columns = {
        "uid": tasks["UID"], "vm": tasks["VmDisplayName"], "policy_session": parents["Name"],
        "policy_session_uid": tasks["PolicySessionUid"], "backup_server": servers["Name"],
        "backup_server_uid": servers["Href"], "created": tasks["CreationTimeUTC"],
        "ended": tasks["EndTimeUTC"], "state": tasks["State"], "result": tasks["Result"],
        "reason": tasks["Reason"] if "Reason" in tasks else [None] * len(tasks), "total_size": sizes,
    }  # fmt: skip
    missing = {name: pd.Series(values, dtype="object") for name, values in columns.items()}
    return table({n: v.where(v.notna(), None).tolist() for n, v in missing.items()})


# -- decoding alone: objects, no table ---------------------------------------------------


def orjson_alone() -> Callable[[bytes], Any]:
    import orjson

    return orjson.loads


def elementtree_alone() -> Callable[[bytes], Any]:
    from xml.etree import ElementTree

    return ElementTree.fromstring


WAYS: dict[str, dict[str, Callable[[], Callable[[bytes], Any]]]] = {
    "json": {
        "cdpanalytics": lambda: ours("json"),
        "msgspec": with_msgspec,
        "orjson": lambda: with_orjson,
        "json": lambda: with_json,
        "msgspec, objects only": lambda: msgspec.json.Decoder(Answer).decode,
        "orjson, objects only": orjson_alone,
        "json, objects only": lambda: json.loads,
    },
    "xml": {
        "cdpanalytics": lambda: ours("xml"),
        "ElementTree": lambda: with_elementtree,
        "pandas.read_xml": lambda: with_read_xml,
        "ElementTree, objects only": elementtree_alone,
    },
}


def one(kind: str, way: str, folder: str, repeat: int) -> dict[str, Any]:
    """Read a page one way, many times, in this process."""
    body = (Path(folder) / kind).read_bytes()
    read = WAYS[kind][way]()
    found = read(body)
    row = timing.measured(lambda: read(body), repeat)
    if isinstance(found, pa.Table):
        plain = [
            c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in found.columns
        ]
        sink = io.BytesIO()
        with pa.ipc.new_stream(
            sink, (whole := pa.table(plain, names=found.column_names)).schema
        ) as out:
            out.write_table(whole.combine_chunks())
        row["table"] = base64.b64encode(sink.getvalue()).decode()
    return row


def main() -> int:
    """Print one row per parser; exit 1 when tables differ."""
    import tempfile

    parser = timing.arguments(__doc__, repeat=200)
    options = parser.parse_args()
    if options.one:
        kind, way, folder = options.one
        print(json.dumps(one(kind, way, folder, options.repeat)))
        return 0
    rows = [timing.machine("msgspec", "lxml", "pyarrow", "orjson", "pandas")]
    with tempfile.TemporaryDirectory() as folder:
        for kind, ways in WAYS.items():
            body = page(kind)
            (Path(folder) / kind).write_bytes(body)
            expected = None
            for way in ways:
                repeat = max(1, options.repeat // 10) if kind == "xml" else options.repeat
                row = timing.alone(__file__, kind, way, folder, "--repeat", repeat)
                found = row.pop("table", None)
                expected = expected or found
                rows.append({
                    "what": "parsing", "format": kind, "way": way, "rows": ROWS, "bytes": len(body),
                    **row, "agrees": found == expected if found else None,
                })  # fmt: skip
    timing.told(rows, shown.parsing(rows), options.output)
    return int(any(row.get("agrees") is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
