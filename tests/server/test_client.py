"""The connection, against real HTTP on this machine: whole answers, one log-on, no secret told."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import socket
import sqlite3
import ssl
import threading
import time
import traceback
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pandas as pd
import pyarrow as pa
import pytest
import requests

from cdpanalytics import schema
from cdpanalytics.archive import joins
from cdpanalytics.archive.joins import enrich
from cdpanalytics.errors import (
    CdpError,
    ConfigError,
    InputError,
    LogonError,
    ServerError,
    WireError,
)
from cdpanalytics.server import client, connection, page_cache, paging
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.server.filters import field as param
from cdpanalytics.server.retry import RetryPolicy
from cdpanalytics.simulator import Fault, Fleet, Simulator
from cdpanalytics.simulator.kinds import BY_NAME

PASSWORD = "correct horse €"
NOW = pd.Timestamp("2026-03-10 12:00:00", tz="UTC")
DAY = pd.Timedelta(days=1)
LOGON = "15a3fc97-0325-4119-b789-5c0367c6c565"


def guid(number):
    return f"{number:08x}-1111-4222-8333-{number:012x}"


def iso(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def task(number, created, *, vm="db01", session=0xA0, name="Gold@night@2026-03-09 15:00:24"):
    return {
        "UID": f"urn:veeam:CdpReplicaTaskSession:{guid(number)}",
        "VmDisplayName": vm,
        "PolicySessionUid": f"urn:veeam:CdpReplicaSession:{guid(session)}",
        "CreationTimeUTC": iso(created),
        "EndTimeUTC": iso(created + pd.Timedelta("8h")),
        "State": "Completed",
        "Result": "Success",
        "TotalSize": 1,
        "Links": [
            {"Type": "BackupServerReference", "Name": "vbr01", "Href": f"/x/{guid(0xB0)}"},
            {"Type": "CdpReplicaSessionReference", "Name": name, "Href": f"/x/{guid(session)}"},
        ],
    }


def policy_session(number, created, *, ended=None, result="None", policy=0xC0):
    return {
        "UID": guid(number),
        "Name": f"Gold@night@{created}",
        "PolicyUid": guid(policy),
        "PolicyName": "Gold@night",
        "CreationTimeUTC": iso(created),
        "EndTimeUTC": ended and iso(ended),
        "State": "Stopped" if ended else "Working",
        "Result": result,
    }


def policy(number, seconds, name="Gold@night"):
    options = {"CdpReplica": {"RecoveryPointObjectiveSeconds": seconds}}
    return {"UID": guid(number), "Name": name, "PolicyScheduleOptions": options}


@dataclass
class Server:
    """An Enterprise Manager of a few lines: rows by kind, and hooks to misbehave with."""

    rows: dict = field(default_factory=dict)
    now: pd.Timestamp = NOW
    password: str = PASSWORD
    cap: int = 10_000
    least: int = 1
    date: str | None = None
    token: str = ""
    url: str = ""
    logons: int = 0
    asked: list = field(default_factory=list)
    spoil: object = None
    logon_answer: tuple | list | None = None

    def answer(self, handler):
        asked = urlsplit(handler.path)
        query = {k: v[0] for k, v in parse_qs(asked.query).items()}
        self.asked.append((handler.command, asked.path, query, dict(handler.headers)))
        if asked.path == "/api/sessionMngr/":
            return self.log_on(handler)
        if handler.headers.get("X-RestSvcSessionId") != self.token:
            return 401, {}, b""
        if self.spoil and (spoiled := self.spoil(asked.path, query)):
            return spoiled
        if asked.path == "/api/":
            return 200, {"Content-Type": "application/json"}, b"{}"
        if handler.command == "DELETE":
            return 204, {}, b""
        if asked.path == "/api/query":
            cookie = {"Set-Cookie": f"X-RestSvcSessionId={self.token}; Path=/api;"}
            headers = {**cookie, "X-RestSvcSessionId": self.token}
            return 200, {"Content-Type": "application/json", **headers}, self.page(query)
        if query.get("action") == "intervals":
            spec = {"StartDate": "2026-03-09T00:00:00", "EndDate": "2026-03-09T00:00:15"}
            body = {"Intervals": [{**spec, "Rpo": 15, "IntervalType": "RestoreAvailable"}]}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        if asked.path.endswith("/vms"):
            body = {"CdpReplicaVms": [{"UID": guid(7), "Name": "db01"}]}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        return 404, {"Content-Type": "application/json"}, b'{"Message": "Cannot find it"}'

    def log_on(self, handler):
        self.logons += 1
        if isinstance(self.logon_answer, list):
            if self.logon_answer:
                return self.logon_answer.pop()
        elif self.logon_answer:
            return self.logon_answer
        sent = base64.b64decode(handler.headers["Authorization"].removeprefix("Basic "))
        if sent != f"me:{self.password}".encode():
            return 401, {"Content-Type": "application/json"}, b'{"Message": "bad password"}'
        self.token = f"token-{self.logons}-{time.monotonic_ns()}"
        headers = {
            "x-restsvcsessionid": self.token,
            "Set-Cookie": f"X-RestSvcSessionId={self.token}; Path=/api;",
            "Content-Type": "application/json",
        }
        return 201, headers, json.dumps({"SessionId": LOGON}).encode()

    def page(self, query):
        kind, text = query["type"], query.get("filter", "")
        rows = [row for row in self.rows.get(kind, ()) if inside(row, text)]
        rows.sort(key=lambda row: row.get(query.get("sortAsc", "UID"), ""))
        size, number = max(self.least, min(int(query["pageSize"]), self.cap)), int(query["page"])
        part = rows[(number - 1) * size : number * size]
        plural = BY_NAME[kind.casefold()].plural
        wanted = {"Entities": {plural: {plural: part}}}
        if "format" not in query:
            wanted = {"Refs": {"Refs": part}, "Entities": None}
        count = max(1, -(-len(rows) // size))
        paging = {"PageNum": number, "PageSize": size, "PagesCount": count}
        return json.dumps({**wanted, "PagingInfo": paging}).encode()

    def queries(self, kind="CdpReplicaTaskSession"):
        return [query for _, path, query, _ in self.asked if query.get("type") == kind]


def inside(row, text):
    bounds = re.findall(r'CreationTimeUTC(>=|<)"([^"]+)"', text)
    return all((row["CreationTimeUTC"] < at) == (op == "<") for op, at in bounds)


@contextmanager
def serving(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(length)
            status, headers, body = server.answer(self)
            self.send_response_only(status)
            date = format_datetime(server.now.to_pydatetime(), usegmt=True)
            if server.date != "":
                self.send_header("Date", server.date or date)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """A page cache of the test's own."""
    monkeypatch.setattr(
        page_cache.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name)
    )
    for name in ("URL", "USERNAME", "PASSWORD", "CA_BUNDLE"):
        monkeypatch.delenv(f"CDPANALYTICS_{name}", raising=False)


@pytest.fixture
def server():
    rows = {
        "CdpReplicaTaskSession": [task(n, NOW - n * pd.Timedelta("3h")) for n in range(1, 25)],
        "CdpReplicaSession": [policy_session(0xA0, NOW - 2 * DAY, ended=NOW, result="Warning")],
        "CdpPolicy": [policy(0xC0, 15)],
        "CdpReplica": [{"UID": guid(0xD0), "Name": "set"}],
    }
    with serving(Server(rows)) as it:
        yield it


@pytest.fixture
def em(server):
    with connected(server, cache=False) as it:
        yield it


def connected(server, **options):
    options.setdefault("retry", RetryPolicy(backoff=0))
    return EnterpriseManager(server.url, "me", PASSWORD, **options)


# ------------------------------------------------------------------------- answers, whole


def test_sessions_are_the_contracts_frame(em):
    frame = em.sessions(since="2D", policy="gold*")
    assert list(frame.columns) == [*schema.SESSIONS.names, "window"]
    assert len(frame) == 16
    assert frame["created"].is_monotonic_increasing
    assert frame["created"].min() == NOW - 2 * DAY
    assert set(frame["policy"]) == {"Gold@night"}
    assert set(frame["policy_uid"]) == {guid(0xC0)}
    assert set(frame["policy_result"]) == {"Warning"}
    assert set(frame["rpo"]) == {pd.Timedelta("15s")}
    assert set(frame["as_of"]) == {NOW - pd.Timedelta("15min")}


def test_the_window_is_half_open(em):
    frame = em.sessions(NOW - pd.Timedelta("6h"), NOW - pd.Timedelta("3h"))
    assert list(frame["created"]) == [NOW - pd.Timedelta("6h")]


def test_days_are_asked_whole_so_that_the_same_requests_recur(em, server):
    em.sessions(since="2D")
    filters = {query["filter"] for query in server.queries()}
    assert filters == {
        f'CreationTimeUTC>="2026-03-{day:02d}T00:00:00Z";'
        f'CreationTimeUTC<"2026-03-{day + 1:02d}T00:00:00Z"'
        for day in (8, 9, 10)
    }


def test_since_must_be_before_until(em):
    with pytest.raises(InputError, match=r"since \(.*\) is not before until"):
        em.sessions("1D", "2D")


@pytest.mark.parametrize(
    ("patterns", "rows"),
    [
        ({"vm": "DB*"}, 1),
        ({"vm": ["db*", "web?"]}, 2),
        ({"vm": []}, 0),
    ],
)
def test_patterns_choose_rows_and_labels(em, server, patterns, rows):
    server.rows["CdpReplicaTaskSession"] = [
        task(1, NOW - DAY, vm="db01"), task(2, NOW - DAY, vm="web1"), task(3, NOW - DAY, vm="x")
    ]  # fmt: skip
    frame = em.sessions(**patterns)
    assert len(frame) == rows
    assert frame["vm"].cat.categories.size == rows
    assert list(frame.columns) == [*schema.SESSIONS.names, "window"]


@pytest.mark.parametrize(
    ("patterns", "what"),
    [({"policy": "nothing"}, "policy"), ({"vm": ["db*", "x"]}, "VM"), ({"server": "other"}, "backup server")],
)  # fmt: skip
def test_a_pattern_that_matches_no_name_is_refused_as_by_an_archive(em, server, patterns, what):
    server.rows["CdpReplicaTaskSession"] = [task(1, NOW - DAY, vm="db01")]
    with pytest.raises(InputError, match=rf"no {what} matches '(nothing|x|other)' .known: .+"):
        em.sessions(**patterns)


@pytest.mark.parametrize(("page_size", "cap"), [(1, 99), (7, 99), (24, 99), (1000, 5)])
def test_all_pages_come_whatever_their_size(server, page_size, cap):
    server.cap = cap
    with connected(server, cache=False, page_size=page_size) as em:
        frame = em.query()
    assert sorted(frame["uid"]) == sorted(guid(n) for n in range(1, 25))
    assert all(query["sortAsc"] == "CreationTimeUTC" for query in server.queries())
    assert all("pageSize" in query and "page" in query for query in server.queries())


def test_pages_come_in_order(em):
    numbers = [dated.page.number for dated in em.pages("CdpReplicaTaskSession", page_size=3)]
    assert numbers == list(range(1, 9))


def test_a_query_is_passed_on_as_written(em, server):
    found = em.query(
        (param("VmDisplayName") == 'the "x" & y') & (param("TotalSize") > 0),
        sort="TotalSize",
        descending=True,
    )
    (query,) = server.queries()
    assert query["filter"] == 'VmDisplayName=="the ""x"" & y";TotalSize>0'
    assert query["sortDesc"] == "TotalSize"
    assert set(found["policy"]) == {"Gold@night"}
    assert found["rpo"].isna().all()
    em.query('State=="Completed"', sort=None)
    last = server.queries()[-1]
    assert last["filter"] == 'State=="Completed"'
    assert last["sortAsc"] == "CreationTimeUTC"


def test_references_are_names_and_identifiers(em, server):
    frame = em.query(references=True)
    assert list(frame.columns) == schema.REFERENCES.names
    assert len(frame) == 24
    assert "format" not in server.queries()[0]


def test_an_answer_that_changed_while_paging_is_asked_again_from_the_start(em, server):
    late = [task(99, NOW - 10 * DAY)]

    def spoil(path, query):
        if query.get("page") == "2" and late:
            server.rows["CdpReplicaTaskSession"].append(late.pop())

    server.spoil = spoil
    pages = list(em.pages("CdpReplicaTaskSession", page_size=6))
    uids = [uid for dated in pages for uid in dated.page.table["uid"].to_pylist()]
    assert len(uids) == len(set(uids)) == 25
    assert [query["page"] for query in server.queries()].count("1") == 2


def test_a_row_pushed_to_the_next_page_is_noticed(em, server):
    """One session appears and another ages out: as many pages, but not the same ones."""
    swaps = [task(99, NOW - 10 * DAY)]

    def spoil(path, query):
        if query.get("page") == "2" and swaps:
            server.rows["CdpReplicaTaskSession"].append(swaps.pop())
            server.rows["CdpReplicaTaskSession"].remove(youngest)

    youngest = server.rows["CdpReplicaTaskSession"][0]
    server.spoil = spoil
    pages = list(em.pages("CdpReplicaTaskSession", page_size=6))
    uids = [uid for dated in pages for uid in dated.page.table["uid"].to_pylist()]
    assert sorted(uids) == sorted(guid(n) for n in (*range(2, 25), 99))


def test_a_name_with_brackets_is_found_by_itself(em, server):
    server.rows["CdpReplicaTaskSession"] = [
        task(1, NOW - DAY, vm="db [1]"), task(2, NOW - DAY, vm="db 1"), task(3, NOW - DAY, vm="DB [1]"),
    ]  # fmt: skip
    assert em.sessions(since="2D", vm="db [1]")["vm"].tolist() == ["db [1]", "db 1"]
    assert em.sessions(since="2D", vm=[])["vm"].tolist() == []


def test_an_answer_that_never_holds_still_is_an_error(em, server):
    def spoil(path, query):
        server.rows["CdpReplicaTaskSession"].append(task(len(server.asked) + 100, NOW - 30 * DAY))

    server.spoil = spoil
    with pytest.raises(ServerError, match="kept changing while paging") as told:
        list(em.pages("CdpReplicaTaskSession", page_size=1))
    assert told.value.retryable
    assert "\n" not in str(told.value)


def test_tables_for_sync_have_their_shapes(em):
    as_of = pa.field("as_of", schema.INSTANT)
    found = em.task_sessions(NOW - 9 * DAY, NOW, fresh=True)
    assert found.schema == schema.TASK_SESSIONS.append(as_of)
    assert found.num_rows == 24
    parents = em.policy_sessions(NOW - 9 * DAY, NOW)
    assert parents.schema == schema.POLICY_SESSIONS.append(as_of)
    assert em.policies().schema == schema.POLICIES.append(as_of)
    assert em.replicas().column("name").to_pylist() == ["set"]
    assert em.replica_vms(guid(0xD0)).column("vm").to_pylist() == ["db01"]
    found = em.intervals(guid(0xD0), guid(7), NOW - DAY, NOW)
    assert found["rpo"].to_pylist() == [pd.Timedelta("15s")]
    assert em.task_sessions(NOW + DAY, NOW + 2 * DAY).num_rows == 0


def test_vapps_are_asked_for_one_by_one_and_are_their_own_replica(em, server):
    def spoil(path, query):
        if path == "/api/cdpReplica/vApps":
            made = {"Refs": [{"UID": guid(9), "Name": "shop"}, {"UID": guid(8), "Name": "erp"}]}
        elif path.startswith("/api/cdpReplica/vApps/") and "action" not in query:
            uid = path[-36:]
            made = {
                "UID": uid,
                "ReplicaUid": uid,
                "Name": f"vApp {uid[7]}",
                "PolicyUid": guid(0xC0),
            }
        else:
            return None
        return 200, {"Content-Type": "application/json"}, json.dumps(made).encode()

    server.spoil = spoil
    found = em.vapps()
    assert found.schema == schema.REPLICA_VMS
    assert found["vm"].to_pylist() == ["vApp 9", "vApp 8"]
    (first, _) = found.to_pylist()
    table = em.intervals(first["replica_uid"], first["uid"], NOW - DAY, NOW)
    assert table["rpo"].to_pylist() == [pd.Timedelta("15s")]
    command, path, query, _ = server.asked[-1]
    assert (command, path) == ("POST", f"/api/cdpReplica/vApps/{guid(9)}")
    assert query == {"action": "intervals"}


def test_a_server_that_knows_no_vapps_has_none_and_other_refusals_are_told(em, server):
    assert em.vapps().num_rows == 0, "a version before them answers 404"
    server.spoil = lambda path, query: (403, {"Content-Type": "application/json"}, b"{}")
    with pytest.raises(ServerError, match="HTTP 403"):
        em.vapps()


def test_identifiers_and_zones_are_checked_before_asking(em, server):
    with pytest.raises(InputError, match="not an identifier"):
        em.replica_vms("../logonSessions")
    with pytest.raises(InputError, match="no time zone"):
        em.task_sessions(pd.Timestamp("2026-03-01"), NOW)
    with pytest.raises(InputError, match="one of CdpReplicaTaskSession"):
        list(em.pages("Job"))
    assert server.logons == 0


def test_the_servers_clock_is_asked_each_time(em, server):
    assert em.now() == NOW
    server.now = NOW + DAY
    assert em.now() == NOW + DAY
    assert em.now().unit == "us"


def test_the_difference_of_the_clocks_is_known(em, server):
    server.now = pd.Timestamp.now("UTC").floor("s") + pd.Timedelta("50h")
    em.now()
    assert abs(em.clock_difference() - pd.Timedelta("50h")) < pd.Timedelta("1h")


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 10 Mar 99999 12:00:00 GMT"])
def test_an_answer_without_a_readable_date_is_survived(server, date):
    server.date = date
    with connected(server) as em:
        assert em.clock_difference() is None
        assert abs(em.now() - pd.Timestamp.now("UTC")) < pd.Timedelta("1h")


@pytest.mark.parametrize(("hours", "count"), [(3, 0), (6, 1), (9, 2), (90, 23)])
def test_sessions_are_counted_with_one_request_of_one_row(em, server, hours, count):
    start = NOW - pd.Timedelta(hours=hours)
    assert em.count_task_sessions(start, NOW - pd.Timedelta("3h")) == count
    (query,) = server.queries()
    assert query["pageSize"] == "1"


@pytest.mark.parametrize("least", [7, 8, 100])
def test_a_server_that_ignores_the_page_size_is_counted_by_its_last_page(server, least):
    with connected(server, page_size=7) as em:
        server.least = least
        assert em.count_task_sessions(NOW - 10 * DAY, NOW) == 24
        assert len(server.queries()) <= 2


def test_a_count_of_a_server_that_ignores_the_filter_is_refused(em, server):
    server.spoil = lambda path, query: query.pop("filter", None) and None
    with pytest.raises(ServerError, match="ignores the filter"):
        em.count_task_sessions(NOW - DAY, NOW - pd.Timedelta("20h"))


# ----------------------------------------------------------------------------- the log-on


def test_one_log_on_for_everything_and_a_log_out_of_ones_own_session(server):
    with connected(server, cache=False, page_size=1) as em:
        em.query()
        em.query()
    assert server.logons == 1
    method, path, _, headers = server.asked[-1]
    assert (method, path) == ("DELETE", f"/api/logonSessions/{LOGON}")
    (_, _, query, headers) = next(a for a in server.asked if a[1] == "/api/sessionMngr/")
    assert query == {"v": "latest"}
    assert headers["Content-Length"] == "0"
    em.close()
    with pytest.raises(ServerError, match="closed"):
        em.query()


def test_nothing_is_asked_before_it_is_needed(server):
    connected(server).close()
    assert server.asked == []


def test_no_cookie_is_sent_back(em, server):
    em.query()
    assert not any("Cookie" in headers for *_, headers in server.asked)


def test_a_wrong_password_is_tried_once(server):
    with connected(server, cache=False, page_size=1) as em:
        server.password = "other"
        for _ in range(3):
            with pytest.raises(LogonError, match=r"refused user 'me': bad password") as told:
                em.sessions()
            assert told.value.status == 401
    assert server.logons == 1


@pytest.mark.parametrize("status", [200, 201, 302, 404])
def test_another_service_on_the_port_is_recognised(em, server, status):
    server.logon_answer = (status, {"Content-Type": "text/html"}, b"<html>hello")
    with pytest.raises(LogonError, match="does not look like Enterprise Manager's REST API"):
        em.query()


def test_an_expired_session_is_renewed_once_for_all_threads(server):
    together = threading.Barrier(4, action=lambda: setattr(server, "token", "expired"))

    def spoil(path, query):
        if query.get("page") in ("2", "3", "4", "5") and server.logons == 1:
            together.wait(5)
            return 401, {}, b""
        return None

    server.spoil = spoil
    with connected(server, cache=False, page_size=1, parallel=4) as em:
        assert len(em.query()) == 24
    assert server.logons == 2


def test_a_session_refused_again_is_an_error(em, server):
    server.spoil = lambda path, query: (401, {}, b"")
    with pytest.raises(LogonError, match="refused twice"):
        em.query()
    assert server.logons == 2


def test_a_redirect_is_not_followed(em, server):
    with serving(Server()) as other:
        server.spoil = lambda *_: (302, {"Location": f"{other.url}/api/query"}, b"")
        with pytest.raises(ServerError, match="redirected"):
            em.query()
        assert other.asked == []


def test_a_netrc_password_is_not_sent(em, server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    em.query()
    sent = [h for _, path, _, h in server.asked if path != "/api/sessionMngr/"]
    assert not any("Authorization" in headers for headers in sent)


def test_a_server_on_this_machine_is_asked_past_any_proxy(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with connected(server, cache=False) as em:
        assert len(em.query()) == 24


# ----------------------------------------------------------------------------- refusals


def test_a_busy_server_is_asked_again(em, server):
    busy = [(503, {"Retry-After": "0"}, b"")] * 2
    server.spoil = lambda *_: busy.pop() if busy else None
    assert len(em.query()) == 24


def test_a_server_that_is_busy_at_the_log_on_is_asked_again(server):
    server.logon_answer = [(503, {"Retry-After": "0"}, b"")] * 2
    with connected(server, cache=False) as em:
        assert len(em.query()) == 24
    assert server.logons == 3


def test_a_500_is_asked_again_once(em, server):
    broken = (500, {"Content-Type": "application/json"}, b'{"message": "Object reference"}')
    once = [broken]
    server.spoil = lambda *_: once.pop() if once else None
    assert len(em.query()) == 24
    server.asked.clear()
    server.spoil = lambda *_: broken
    with pytest.raises(ServerError, match="HTTP 500: Object reference") as told:
        em.query()
    assert len(server.asked) == 2
    assert told.value.status == 500


def test_a_refused_filter_says_so(em, server):
    message = b'{"Message": "no\\u001b[31m such\\nfield"}'
    server.spoil = lambda *_: (400, {"Content-Type": "application/json"}, message)
    with pytest.raises(ServerError) as told:
        em.query('Colour=="red"')
    assert str(told.value) == (
        f'{server.url} CdpReplicaTaskSession where Colour=="red" page 1: HTTP 400: '
        "no [31m such field; check the filter's fields and values"
    )


def test_a_proxys_page_is_told_as_such(em, server):
    server.spoil = lambda *_: (200, {"Content-Type": "text/html"}, b"<html>sign in</html>")
    with pytest.raises(WireError, match=r"page 1: expected JSON or XML, got text/html starting"):
        em.query()


def test_nobody_there_is_told_in_one_line(server):
    with serving(Server()) as gone:
        url = gone.url
    with (
        EnterpriseManager(url, "me", PASSWORD, cache=False) as em,
        pytest.raises(ServerError, match=r"cannot be reached: connection refused") as told,
    ):
        em.query()
    assert told.value.retryable
    assert told.value.status is None


def test_a_silent_server_is_told_in_one_line(server):
    with connected(server, cache=False, timeout=(1, 0.1)) as em:
        em.now()
        server.spoil = lambda *_: time.sleep(0.5)
        with pytest.raises(ServerError, match=r"did not answer in time|connection failed"):
            em.query()


def test_settings_are_checked(server):
    with pytest.raises(InputError, match="'json' or 'xml'"):
        connected(server, accept="yaml")
    with pytest.raises(InputError, match="at least 1"):
        connected(server, parallel=0)
    with pytest.raises(ConfigError, match="use https"):
        EnterpriseManager("http://em.tech.local", "me", PASSWORD)


def test_no_error_and_no_log_tells_the_password_or_the_token(server, caplog):
    caplog.set_level(logging.DEBUG)
    html = (200, {"Content-Type": "text/html"}, b"<html>")
    paging = [(s, {}, b"") for s in (302, 400, 401, 403, 404, 500, 503)] + [html]
    told, tokens = [], set()
    for answer in paging:
        with connected(server, cache=True) as em:
            server.spoil = lambda *_, answer=answer: answer
            try:
                em.query()
            except CdpError as error:
                told += traceback.format_exception(error)
                told += [
                    repr(em),
                    repr(vars(em)),
                    repr(vars(em._connection)),
                    repr(vars(em._connection._adapter)),
                ]
            tokens.add(server.token)
    server.password = "other"
    with connected(server) as em, pytest.raises(LogonError) as refused:
        em.query()
    told += traceback.format_exception(refused.value)
    text = "\n".join(told) + caplog.text
    assert "HTTP 400" in text
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, basic, *tokens):
        assert secret not in text


# ----------------------------------------------------------------------------- page cache


def cache_bytes(tmp_path):
    (file,) = (tmp_path / "cdpanalytics").glob("*.sqlite")
    return file, file.read_bytes()


def test_pages_are_kept_between_runs_and_hold_no_secret(server, tmp_path):
    with connected(server, page_size=5) as em:
        first = em.query()
    tokens = server.token
    before = len(server.queries())
    with connected(server, page_size=5) as em:
        again = em.query()
    pd.testing.assert_frame_equal(first, again)
    assert len(server.queries()) == before
    file, kept = cache_bytes(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert b"CdpReplicaTaskSession" in kept
    assert b"_content" in kept
    for secret in (tokens, PASSWORD, "X-RestSvcSessionId", "Authorization", "Set-Cookie"):
        assert secret.lower().encode() not in kept.lower()
    assert b"\x80\x04\x95" not in kept, "pickle"


def test_a_cached_answer_speaks_for_when_it_was_made(server):
    with connected(server) as em:
        first = em.query()
        server.now = NOW + pd.Timedelta("1min")
        pd.testing.assert_frame_equal(first, em.query())


def test_fresh_goes_past_the_cache(server):
    with connected(server) as em:
        em.task_sessions(NOW - 2 * DAY, NOW)
        asked = len(server.queries())
        server.rows["CdpReplicaTaskSession"].append(task(77, NOW - DAY))
        assert em.task_sessions(NOW - 2 * DAY, NOW).num_rows == 16
        assert len(server.queries()) == asked
        assert em.task_sessions(NOW - 2 * DAY, NOW, fresh=True).num_rows == 17


def test_an_answer_is_all_cached_or_all_new(server, tmp_path):
    import sqlite3

    with connected(server, page_size=5) as em:
        em.query()
        asked = len(server.queries())
        file, _ = cache_bytes(tmp_path)
        with sqlite3.connect(file) as database:
            database.execute("DELETE FROM responses WHERE rowid = 2")
        database.close()
        assert len(em.query()) == 24
        assert len(server.queries()) == asked + 5


def test_another_user_or_format_has_other_pages(server, tmp_path):
    with connected(server) as em:
        em.query()
    with EnterpriseManager(server.url, "you", "other") as em, pytest.raises(LogonError):
        em.query()
    assert len(list((tmp_path / "cdpanalytics").glob("*.sqlite"))) == 2
    with connected(server, accept="xml") as em:
        em.query()
    assert server.asked[-2][3]["Accept"] == "application/xml"


def test_what_has_expired_is_neither_read_nor_kept(server, monkeypatch):
    monkeypatch.setattr(page_cache, "SOON", 1)
    with connected(server) as em:
        em.query()
        time.sleep(1.1)
        server.rows["CdpReplicaTaskSession"].append(task(77, NOW))
        assert len(em.query()) == 25
    time.sleep(1.1)
    with connected(server) as em:
        assert list(em._connection._cached.cache.filter(expired=True)) == []


def test_errors_are_not_kept(server):
    server.spoil = lambda *_: (400, {}, b"")
    with connected(server) as em:
        with pytest.raises(ServerError):
            em.query()
        server.spoil = None
        assert len(em.query()) == 24


def test_settled_days_are_kept_longer_than_days_that_can_change(server):
    with connected(server) as em:
        em.sessions(since="6D")
        stored = [one for one in em._connection._cached.cache.filter() if "TaskSession" in one.url]
        lives = {
            re.search(r"%3E%3D%22([\d-]+)T", one.url)[1]: one.expires - one.created_at
            for one in stored
        }
    minutes = {day: round(life.total_seconds() / 60) for day, life in lives.items()}
    assert minutes == {
        "2026-03-04": 1440, "2026-03-05": 1440, "2026-03-06": 1440,
        "2026-03-07": 5, "2026-03-08": 5, "2026-03-09": 5, "2026-03-10": 5,
    }  # fmt: skip


def test_a_broken_cache_is_done_without(server, tmp_path, caplog):
    with connected(server) as em:
        em.query()
    file, _ = cache_bytes(tmp_path)
    file.write_bytes(b"not a database" * 100)
    with connected(server) as em:
        assert len(em.query()) == 24
    assert "page cache not used" in caplog.text


def test_https_with_an_unknown_certificate_says_what_to_give(server):
    authority = pytest.importorskip("trustme").CA()
    context = tls_context(authority)
    secure = Server(server.rows)
    with serving(secure), authority.cert_pem.tempfile() as bundle:
        port = urlsplit(secure.url).port
        relay = tls_relay(context, port)
        url = f"https://127.0.0.1:{relay.server_port}"
        try:
            refusal = pytest.raises(ServerError, match=r"certificate was not accepted.*--ca-bundle")
            with EnterpriseManager(url, "me", PASSWORD, cache=False) as em, refusal:
                em.query()
            with EnterpriseManager(url, "me", PASSWORD, cache=False, ca_bundle=bundle) as em:
                assert len(em.query()) == 24
        finally:
            relay.shutdown()
            relay.server_close()


def tls_context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def old_tls(authority):
    context = tls_context(authority)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def wants_certificate(authority, version=ssl.TLSVersion.TLSv1_3):
    context = tls_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    authority.configure_trust(context)
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (old_tls, "a TLS version older than this machine accepts"),
        (wants_certificate, "wants? a client certificate, which is not supported"),
        (
            lambda authority: wants_certificate(authority, ssl.TLSVersion.TLSv1_2),
            "it wants a client certificate, or accepts no cipher",
        ),
    ],
)
def test_what_is_wrong_with_tls_is_said(server, make, message):
    authority = pytest.importorskip("trustme").CA()
    relay = tls_relay(make(authority), urlsplit(server.url).port)
    try:
        with (
            authority.cert_pem.tempfile() as bundle,
            EnterpriseManager(
                f"https://127.0.0.1:{relay.server_port}", "me", PASSWORD, cache=False,
                ca_bundle=bundle, retry=RetryPolicy(backoff=0),
            ) as em,
            pytest.raises(ServerError, match=message),
        ):  # fmt: skip
            em.query()
    finally:
        relay.shutdown()
        relay.server_close()


def test_plain_http_behind_https_is_said(server):
    url = server.url.replace("http:", "https:")
    with (
        EnterpriseManager(url, "me", PASSWORD, cache=False, retry=RetryPolicy(backoff=0)) as em,
        pytest.raises(ServerError, match="does not speak https: it answers in plain http"),
    ):
        em.query()


def tls_relay(context, port):
    """Serve one server's answers over TLS, from another port."""

    class Relay(BaseHTTPRequestHandler):
        def do_GET(self):
            with requests.Session() as session:
                session.trust_env = False
                answer = session.request(
                    self.command, f"http://127.0.0.1:{port}{self.path}", headers=dict(self.headers)
                )
            self.send_response_only(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass

    relay = Quiet(("127.0.0.1", 0), Relay)
    relay.socket = context.wrap_socket(
        relay.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=relay.serve_forever, args=(0.01,), daemon=True).start()
    return relay


# -------------------------------------------------------------------------------- enrich


def tasks_table(*rows):
    columns = ("uid", "policy_session", "policy_session_uid", "created")
    given = [dict(zip(columns, row, strict=True)) for row in rows]
    table = pa.Table.from_pylist(
        [{**dict.fromkeys(schema.TASK_SESSIONS.names), **row} for row in given],
        schema=pa.schema(
            [
                (f.name, pa.string() if f.type == schema.LABEL else f.type)
                for f in schema.TASK_SESSIONS
            ]
        ),
    )
    return table.cast(schema.TASK_SESSIONS)


def test_enrich_takes_the_policy_from_its_session_or_from_the_name():
    day = pd.Timestamp("2026-03-01", tz="UTC")
    tasks = tasks_table(
        ("1", "A@x@2026", "s1", day), ("2", "B@2026", "s2", day), ("3", "C@D@2026", "s9", day),
        ("4", None, None, day),
    )  # fmt: skip
    parents = pa.Table.from_pylist(
        [
            {"uid": "s1", "policy": "A new", "policy_uid": "p1", "ended": day, "result": "Failed"},
            {"uid": "s2", "policy": "B", "policy_uid": "p2", "ended": None, "result": "None"},
        ],
        schema=schema.POLICY_SESSIONS,
    )
    settings = pa.Table.from_pylist(
        [{"policy_uid": "p1", "rpo": pd.Timedelta("15s")}], schema=schema.POLICIES
    )
    found = enrich(tasks, parents, settings)
    assert found.schema == schema.SESSIONS
    assert found.select(["policy", "policy_uid", "policy_result", "rpo"]).to_pylist() == [
        {"policy": "A new", "policy_uid": "p1", "policy_result": "Failed",
         "rpo": pd.Timedelta("15s")},
        {"policy": "B", "policy_uid": "p2", "policy_result": None, "rpo": None},
        {"policy": "C@D", "policy_uid": None, "policy_result": None, "rpo": None},
        {"policy": None, "policy_uid": None, "policy_result": None, "rpo": None},
    ]  # fmt: skip


def test_enrich_takes_the_rpo_that_was_in_force():
    at = [pd.Timestamp(f"2026-03-{day:02d}", tz="UTC") for day in range(1, 10)]
    tasks = tasks_table(*((str(i), None, "s1", moment) for i, moment in enumerate(at)))
    parents = pa.Table.from_pylist(
        [{"uid": "s1", "policy": "A", "policy_uid": "p1"}], schema=schema.POLICY_SESSIONS
    )
    settings = pa.Table.from_pylist(
        [
            {"policy_uid": "p1", "rpo": pd.Timedelta("30s"), "seen_from": at[6]},
            {"policy_uid": "p0", "rpo": pd.Timedelta("1s"), "seen_from": at[0]},
            {"policy_uid": "p1", "rpo": pd.Timedelta("15s"), "seen_from": at[3]},
            {"policy_uid": "p2", "rpo": pd.Timedelta("2s"), "seen_from": at[4]},
        ],
        schema=schema.POLICIES.append(pa.field("seen_from", schema.INSTANT)),
    )
    found = enrich(tasks, parents, settings)["rpo"].to_pylist()
    assert found == [pd.Timedelta("15s")] * 6 + [pd.Timedelta("30s")] * 3


def test_enrich_of_nothing_is_an_empty_table_of_the_right_shape():
    found = enrich(*(s.empty_table() for s in (
        schema.TASK_SESSIONS, schema.POLICY_SESSIONS, schema.POLICIES)))  # fmt: skip
    assert found.schema == schema.SESSIONS
    assert found.num_rows == 0


def test_no_file_of_ours_names_the_vendors_fields_twice():
    for module in (paging, client, connection, joins):
        source = Path(module.__file__).read_text()
        assert "VmDisplayName" not in source
        assert "PagesCount" not in source


# ------------------------------------------------------------------- answers that are not right


def uids(pages):
    return [uid for dated in pages for uid in dated.page.table["uid"].to_pylist()]


def respelled(server, change):
    """Let a change be made to the decoded body of each answer to a query."""

    def spoil(path, query):
        if path == "/api/query":
            tree = json.loads(server.page(query))
            change(tree)
            return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
        return None

    server.spoil = spoil


def test_a_server_that_ignores_the_order_is_refused_where_it_pages(em, server):
    server.spoil = lambda path, query: query.pop("sortAsc", None) and None
    rows = server.rows["CdpReplicaTaskSession"]
    with pytest.raises(ServerError, match="does not sort by CreationTimeUTC as asked"):
        list(em.pages("CdpReplicaTaskSession", page_size=2))
    assert len(uids(em.pages("CdpReplicaTaskSession", page_size=100))) == len(rows)
    with pytest.raises(ServerError, match="does not sort by CreationTimeUTC as asked"):
        em.oldest()


def test_pages_that_are_not_counted_are_looked_for(em, server):
    respelled(server, lambda tree: tree["PagingInfo"].update(PagesCount=2))
    assert len(set(uids(em.pages("CdpReplicaTaskSession", page_size=5)))) == 24


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_a_full_last_page_is_the_last_however_the_server_says_so(em, server, status):
    def spoil(path, query):
        if path == "/api/query" and int(query["page"]) > 2 and status != 200:
            return status, {}, b""
        return None

    server.spoil = spoil
    assert len(uids(em.pages("CdpReplicaTaskSession", page_size=12))) == 24
    assert [query["page"] for query in server.queries()][:3] == ["1", "2", "3"]


def test_a_busy_server_is_not_taken_for_the_end(em, server):
    server.spoil = lambda path, query: (
        (503, {"Retry-After": "0"}, b"") if query.get("page") == "3" else None
    )
    with pytest.raises(ServerError, match="HTTP 503"):
        list(em.pages("CdpReplicaTaskSession", page_size=12))


def test_a_billion_pages_are_refused_at_once(em, server):
    respelled(server, lambda tree: tree["PagingInfo"].update(PagesCount=10**9))
    with pytest.raises(ServerError, match="counts 1,000,000,000 pages"):
        em.query()
    assert {query["page"] for query in server.queries()} == {"1"}


def test_equal_uids_on_one_page_are_refused(em, server):
    rows = server.rows["CdpReplicaTaskSession"]
    rows.append(rows[0])
    with pytest.raises(ServerError, match="kept changing"):
        em.query()


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "Tue, 10 Mar 2020 12:00:00 GMT", ""])
def test_a_retry_after_that_is_not_a_number_is_retried(em, server, value):
    busy = [(503, {"Retry-After": value}, b"")] * 2
    server.spoil = lambda *_: busy.pop() if busy else None
    assert len(em.query()) == 24


def test_a_403_in_the_middle_is_a_session_that_ended(em, server):
    em.now()
    once = [(403, {}, b"")]
    server.spoil = lambda *_: once.pop() if once else None
    assert len(em.query()) == 24
    assert server.logons == 2


def test_a_403_that_lasts_is_a_missing_right(em, server):
    server.spoil = lambda *_: (403, {}, b"")
    with pytest.raises(ServerError, match="HTTP 403; the user needs the Portal Administrator role"):
        em.query()
    assert server.logons == 2


def test_a_body_that_drips_ends():
    with (
        Simulator(Fleet.generate(vms=2, days=1), faults=[Fault("drip", None)]) as slow,
        EnterpriseManager(
            slow.url, "demo", "demo", cache=False, answer_timeout=0.2, retry=RetryPolicy.once()
        ) as em,
        pytest.raises(ServerError, match="was not complete after") as error,
    ):
        em.query()
    assert error.value.retryable


@pytest.mark.parametrize("head", [b"H", b"HTTP/1.1 200 OK\r\nX: "], ids=["status", "headers"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_headers_that_drip_end(head, tls):
    context = tls_context(pytest.importorskip("trustme").CA()) if tls else None

    def drip(listener):
        asked, _ = listener.accept()
        with suppress(OSError), context.wrap_socket(asked, True) if tls else asked as peer:
            peer.recv(65536)
            peer.sendall(head)
            while True:
                peer.sendall(b"x")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        with (
            EnterpriseManager(
                url, "demo", "demo", cache=False, verify=False, answer_timeout=0.3,
                retry=RetryPolicy.once(),
            ) as em,
            pytest.raises(ServerError, match="did not answer in time"),
        ):  # fmt: skip
            em.query()


def test_nothing_is_asked_once_it_is_closed(server):
    em = connected(server, cache=False)
    em.now()
    em.close()
    em.close()
    with pytest.raises(ServerError, match="this connection is closed"):
        em.now()
    assert [method for method, *_ in server.asked].count("DELETE") == 1


# ---------------------------------------------------------------- secrets in the server's words


@pytest.mark.parametrize(
    "encode",
    [
        str,
        quote,
        quote_plus,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
        lambda text: text.encode().decode("latin-1"),
        html.escape,
        lambda text: "".join(f"&#{ord(char)};" for char in text),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 403])
def test_a_server_that_repeats_the_password_does_not_have_it_printed(server, encode, status):
    secret = 'pa"ss<word> & €/+'
    server.password = secret
    text = f"{'x' * 40 * (status != 200)} {encode(secret)} {'y' * 300}"
    server.spoil = lambda *_: (
        status, {"Content-Type": "application/json"}, json.dumps({"Message": text, "StatusCode": 1}).encode()
    )  # fmt: skip
    with (
        EnterpriseManager(
            server.url, "me", secret, cache=False, retry=RetryPolicy(backoff=0)
        ) as em,
        pytest.raises(CdpError) as error,
    ):
        em.query()
    message = "".join(traceback.format_exception(error.value))
    assert encode(secret) not in str(error.value)
    assert "[hidden]" in str(error.value)
    assert secret not in message


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_page_that_repeats_the_token_does_not_have_it_printed(em, server, kind):
    server.spoil = lambda *_: (200, {"Content-Type": kind}, f"<p>{server.token}</p>".encode())
    with pytest.raises(WireError, match=r"\[hidden\]") as error:
        em.query()
    assert server.token not in "".join(traceback.format_exception(error.value))


# ----------------------------------------------------------- a page cache that cannot be used


def test_a_page_cache_that_another_process_holds_is_done_without(server, tmp_path, caplog):
    with connected(server) as em:
        em.query()
    (path,) = tmp_path.rglob("*.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with connected(server) as em:
            assert len(em.query()) == 24
    assert caplog.text.count("page cache not used: database is locked") == 1


def test_a_page_cache_that_is_taken_later_is_done_without(server, tmp_path, caplog):
    with connected(server) as em:
        (path,) = tmp_path.rglob("*.sqlite")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert len(list(em.pages("CdpReplicaTaskSession", page_size=6))) == 4
            assert len(em.query()) == 24
    assert caplog.text.count("page cache not used: database is locked") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_page_cache_on_a_full_disk_is_done_without(server, tmp_path, monkeypatch, caplog):
    full = tmp_path / "full.sqlite"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(page_cache, "cache_file", lambda *_: full)
    with connected(server) as em:
        assert len(em.query()) == 24
    assert caplog.text.count("page cache not used: ") == 1


# ------------------------------------------------------------------------------ the retry policy


def test_the_docs_table_is_the_retry_policy():
    text = (Path(__file__).parents[2] / "docs/reliability.md").read_text(encoding="utf-8")
    rows = [f"| {failure} | {tries} | {wait} |" for failure, tries, wait in RetryPolicy().table()]
    assert "\n".join(rows) in text, "\n".join(rows)


@pytest.mark.parametrize("wrong", [{"page": 0}, {"backoff": -1}])
def test_a_retry_policy_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"first try|not negative"):
        RetryPolicy(**wrong)
