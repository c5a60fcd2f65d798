"""The HTTP face: log-on, sessions, queries and resources of a fleet, on a real socket."""

import base64
import binascii
import json
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

import numpy as np

from . import guids, instants, render, tables, views
from .faults import Fault, Faults, spoiled
from .fleet import HORIZON, LAG, Fleet, Snapshot
from .grammar import FilterError, select
from .render import Entity
from .tables import Rows, Table
from .views import View

IDLE = timedelta(minutes=15)
"""How long a session lives without a request."""

PAGE_SIZE = 100
"""Rows a page where the request names no number."""

LARGEST_BODY = 1_000_000

SILENCE = 10.0
"""Seconds that the fault "silence" lasts."""

DRIP = 0.05
"""Seconds between two bytes of the fault "drip"."""

PORTAL = "<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"

_LISTS = {
    "cdpreplicatasksession": "CdpReplicaTaskSessions",
    "cdpreplicasession": "CdpReplicaSessions",
    "cdppolicy": "CdpPolicies",
    "cdpreplica": "CdpReplicas",
}
_KEPT = 16
_GUID = r"([0-9a-fA-F-]{36})"

Clock = Callable[[], datetime]
Logged = tuple[str, str, dict[str, str], int]


class Refusal(Exception):
    """An answer that is an Error body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Simulator:
    """A simulated Enterprise Manager that serves a fleet over HTTP.

    Parameters
    ----------
    fleet : Fleet
    host, port
        Where to listen; port 0 is any free one.
    version : int
        13 writes camelCase, microseconds and PostgreSQL's order of GUIDs; 12 and older
        PascalCase, milliseconds and SQL Server's.
    username, password : str
        Who may log on.
    tls : bool
        Serve https with a certificate of its own, which `ca_bundle` names. Needs trustme.
    clock : callable, optional
        Returns the present, an aware datetime. Default: the fleet's `until` at the start, running.
    lag, horizon, idle : timedelta
        How often the database is filled, how long it remembers, how long a session lives idle.
    link_host : str, optional
        Host and port in links. Default: the request's own.
    bom : bool
        Begin JSON bodies with a byte-order mark.
    faults : iterable of Fault
        What goes wrong; see `cdpanalytics.simulator.faults`.

    Attributes
    ----------
    url : str
        Scheme, host and port.
    ca_bundle : str or None
        The certificate to trust.
    requests : list
        Each answered request: method, path, query, status.
    faults : Faults
        Still to strike; `faults.set` puts others in their place.
    hidden : set of str
        Backup servers that the account may not see.
    date_ahead : timedelta
        By how much the Date of answers is ahead of the server's present.

    Examples
    --------
    >>> with Simulator(Fleet.generate(vms=1, days=1)) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        version: int = 12,
        username: str = "demo",
        password: str = "demo",  # noqa: S107 - of a simulation
        tls: bool = False,
        clock: Clock | None = None,
        lag: timedelta = LAG,
        horizon: timedelta = HORIZON,
        idle: timedelta = IDLE,
        link_host: str | None = None,
        bom: bool = False,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.fleet, self.version, self.link_host, self.bom = fleet, version, link_host, bom
        self.lag, self.horizon, self.idle = lag, horizon, idle
        self.requests: list[Logged] = []
        self.faults = Faults()
        self.faults.set(*faults)
        self.ca_bundle: str | None = None
        self._user = f"{username}:{password}".encode()
        self._username = username
        self._address = (host, port)
        self._tls = tls
        self._clock = clock
        self._moved = timedelta()
        self._stopped: dict[str, datetime] = {}
        self.hidden: set[str] = set()
        self.date_ahead = timedelta()
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._sessions: dict[str, tuple[str, datetime]] = {}
        self._selections: OrderedDict[tuple[Any, ...], tuple[Table, Rows]] = OrderedDict()
        self._tables: dict[str, tuple[Fleet, Snapshot, Table]] = {}
        self._server: _Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "Simulator":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the server listens."""
        if self._server is None:
            raise RuntimeError("the simulator is not started; call start(), or use it in a with")
        host, port = self._server.server_address[:2]
        return f"{'https' if self._tls else 'http'}://{host!s}:{port}"

    def start(self) -> None:
        """Listen, and serve in threads of its own."""
        self._begun = time.monotonic()
        self._server = _Server(self._address, _Handler)
        self._server.simulator = self
        if self._tls:
            self._server.socket = self._secured(self._server.socket)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def clock(self) -> datetime:
        """Return the server's present."""
        running = timedelta(seconds=time.monotonic() - self._begun)
        return (self._clock() if self._clock else self.fleet.until + running) + self._moved

    def advance(self, step: timedelta) -> None:
        """Move the server's clock on."""
        self._moved += step

    # -- sessions ------------------------------------------------------------------

    def log_on(self, authorization: str) -> tuple[str, str]:
        """Return a token and the identifier of a new session, or refuse."""
        scheme, _, said = authorization.partition(" ")
        try:
            known = scheme.casefold() == "basic" and base64.b64decode(said) == self._user
        except binascii.Error:
            known = False
        if not known:
            raise Refusal(401, "The user name or password is incorrect")
        identifier = str(uuid.uuid4())
        token = base64.b64encode(identifier.encode()).decode()
        with self._lock:
            self._sessions[token] = (identifier, self.clock())
        return token, identifier

    def admit(self, token: str | None) -> None:
        """Refuse a token that is unknown or has been idle too long."""
        now = self.clock()
        with self._lock:
            identifier, seen = self._sessions.get(token or "", ("", now))
            if not identifier or now - seen > self.idle:
                self._sessions.pop(token or "", None)
                raise Refusal(401, "The session has expired or was not found")
            self._sessions[token or ""] = (identifier, now)

    def log_out(self, identifier: str) -> None:
        """End a session; an unknown one is an internal error, as on the real server."""
        with self._lock:
            token = next((t for t, (one, _) in self._sessions.items() if one == identifier), None)
            if token is None:
                raise Refusal(500, f"There is no logon session with id [{identifier}]")
            del self._sessions[token]

    def expire(self) -> None:
        """End every session, as a restart of the service does."""
        with self._lock:
            self._sessions.clear()

    def logged_on(self) -> list[str]:
        """Return the identifiers of all sessions."""
        with self._lock:
            return [identifier for identifier, _ in self._sessions.values()]

    def logon_entity(self, identifier: str, base: str) -> Entity:
        """Return a LogonSession."""
        links = [render.Link("Up", f"{base}/api/", "EnterpriseManager")]
        links += [
            render.Link("Down", f"{base}/api/{name}", f"{kind}ReferenceList")
            for name, kind in (("backupServers", "BackupServer"), ("cdpReplicas", "CdpReplica"))
        ]
        fields = {"UserName": self._username, "SessionId": identifier}
        address = f"{base}/api/logonSessions/{identifier}"
        return Entity("LogonSession", "LogonSession", address, links=links, fields=fields)

    # -- queries -------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return what the database holds now."""
        now, *spans = (
            instants.from_datetime(self.clock()),
            instants.from_timedelta(self.lag),
            instants.from_timedelta(self.horizon),
        )
        whole = self.fleet.snapshot(now, *spans)
        names = [server.name for server in self.fleet.servers]
        stopped = {name: instants.from_datetime(at) for name, at in self._stopped.items()}
        collected = tuple(
            min(whole.collected, stopped.get(name, whole.collected)) for name in names
        )
        hidden = tuple(number for number, name in enumerate(names) if name in self.hidden)
        return whole._replace(by_server=collected, hidden=hidden)

    def stop_collecting(self, *servers: str, at: datetime | None = None) -> None:
        """Stop collecting data from these backup servers, or all; with `at`, go back to that instant.

        What they do from then on reaches the database when `collect` is called. So a collection
        that stands still is simulated, and with `at` a database restored from a backup.
        """
        names = servers or tuple(server.name for server in self.fleet.servers)
        self._stopped.update(dict.fromkeys(names, at or self.clock()))

    def collect(self) -> None:
        """Collect from all backup servers again, also what was missed."""
        self._stopped.clear()

    def selection(self, kind: str, known: Snapshot, wanted: dict[str, str]) -> tuple[Table, Rows]:
        """Return a kind's table and the positions that a query selects of it, in its order.

        The last few answers are kept: the pages of a walk are cut from one.
        """
        sort = (wanted.get("sortasc"), wanted.get("sortdesc"))
        key = (kind, str(known), wanted.get("filter", ""), *sort)
        with self._lock:
            if key in self._selections:
                self._selections.move_to_end(key)
                return self._selections[key]
        table = self._table_of(kind, known)
        chosen = np.flatnonzero(select(wanted.get("filter", ""), table.columns, len(table.rows)))
        if table.visible is not None:
            chosen = chosen[table.visible[chosen]]
        answer = table, self._sorted(table, chosen, *sort)
        with self._lock:
            self._selections[key] = answer
            while len(self._selections) > _KEPT:
                self._selections.popitem(last=False)
        return answer

    def _table_of(self, kind: str, known: Snapshot) -> Table:
        """Return a kind's rows; the last ones are kept, for many queries ask about one snapshot."""
        fleet = self.fleet
        with self._lock:
            kept = self._tables.get(kind)
        if kept is None or kept[0] is not fleet or kept[1] != known:
            kept = fleet, known, self._table(kind, known)
            with self._lock:
                self._tables[kind] = kept
        return kept[2]

    def _table(self, kind: str, known: Snapshot) -> Table:
        fraction = self.version >= 13
        if kind == "cdpreplicatasksession":
            return tables.task_sessions(self.fleet, known, fraction=fraction)
        if kind == "cdpreplicasession":
            return tables.policy_sessions(self.fleet, known, fraction=fraction)
        replicas = kind == "cdpreplica"
        return tables.policies(
            self.fleet, self.fleet.replica_guid if replicas else self.fleet.policy_guid
        )

    def _sorted(self, table: Table, chosen: Rows, up: str | None, down: str | None) -> Rows:
        name = up or down
        if name is None:
            return chosen[guids.order(table.guids.take(chosen), sql_server=self.version < 13)]
        if name.casefold() not in table.columns:
            raise FilterError(f"unknown field '{name}'")
        order = np.argsort(table.columns[name.casefold()]().rank()[chosen], kind="stable")
        return chosen[order if up else order[::-1]]

    def _secured(self, listening: socket.socket) -> socket.socket:
        try:
            import trustme
        except ImportError:
            raise RuntimeError("TLS needs trustme: pip install trustme") from None
        authority = trustme.CA()
        certificate = authority.issue_cert(self._address[0], "localhost")
        self._folder = tempfile.TemporaryDirectory(prefix="simulator-")
        bundle = Path(self._folder.name) / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        self.ca_bundle = str(bundle)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context.wrap_socket(listening, server_side=True, do_handshake_on_connect=False)


def serve(fleet: Fleet, *, ready: Callable[[Simulator], None], **options: Any) -> None:
    """Run a simulator until it is interrupted.

    Parameters
    ----------
    fleet : Fleet
    ready : callable
        Called with the simulator once it listens.
    **options
        As for `Simulator`.
    """
    with Simulator(fleet, **options) as simulator:
        ready(simulator)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    simulator: Simulator

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients come and go."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing; `Simulator.requests` keeps what was asked."""

    # -- one request -----------------------------------------------------------------

    def _answer(self) -> None:
        simulator = self.server.simulator
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self._wanted = {name.casefold(): value for name, value in query.items()}
        self._as_json = "json" in self.headers.get("Accept", "").casefold()
        self._extra: dict[str, str] = {}
        self._fault = self._struck(parts.path)
        if self._fault == "reset":
            return self._reset()
        if self._fault == "silence":
            time.sleep(SILENCE)
        try:
            status, body = self._routed(parts.path.rstrip("/"), self._body())
        except Refusal as refusal:
            status, body = refusal.status, self._error(str(refusal), refusal.status)
        except FilterError as problem:
            status, body = 400, self._error(f"Invalid filter: {problem}", 400)
        except Exception as fault:  # a fault of the simulator must not look like a broken network
            status, body = 500, self._error(f"{type(fault).__name__}: {fault}", 500)
        simulator.requests.append((self.command, parts.path, query, status))
        self._send(status, body)

    def _struck(self, path: str) -> str | None:
        asked = path.casefold(), self._wanted.get("type", "").casefold()
        if asked != ("/api/query", "cdpreplicatasksession"):
            return None
        page = self._wanted.get("page", "1")
        fault = self.server.simulator.faults.strike(int(page) if page.isdecimal() else 1)
        if fault == "page-size":
            self._wanted["pagesize"] = str(PAGE_SIZE)
        if fault == "filter":
            self._wanted.pop("filter", None)
        if fault == "xml":
            self._as_json = False
        if fault in ("expired", "forbidden"):
            self.server.simulator.expire()
        if fault in ("unsorted", "reversed") and (sort := self._wanted.pop("sortasc", None)):
            self._wanted |= {"sortdesc": sort} if fault == "reversed" else {}
        return fault

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _refusal_of(self, fault: str | None) -> tuple[int, str] | None:
        if fault in ("busy", "someday"):
            self._extra["Retry-After"] = "1" if fault == "busy" else "when the moon is full"
            return 503, self._error("The service is too busy", 503)
        if fault == "error":
            return 500, self._error("Object reference not set to an instance of an object.", 500)
        return (200, PORTAL) if fault == "html" else None

    def _send(self, status: int, text: str) -> None:
        mark = "\ufeff" if self._as_json and self.server.simulator.bom and text else ""
        body = (mark + text).encode()
        kind = "application/json" if self._as_json else "application/xml"
        kind = "text/html" if self._fault == "html" else kind
        if self._fault == "garbled":
            body = body[: len(body) // 2]
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self._fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        for name, value in self._extra.items():
            self.send_header(name, value)
        if self._fault == "drip":
            return self._drip(body)
        # One write for head and body: two would wait for each other's acknowledgement.
        self._headers_buffer.append(b"\r\n" + body)  # type: ignore[attr-defined]
        self.flush_headers()

    def send_header(self, keyword: str, value: str) -> None:
        """Send a header, but no Date where that is the fault."""
        if not (keyword == "Date" and self._fault == "undated"):
            super().send_header(keyword, value)

    def _drip(self, body: bytes) -> None:
        self.end_headers()
        try:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                time.sleep(DRIP)
        except OSError:
            self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the simulator's own time: clients read the server's clock from it."""
        return format_datetime(
            (self.server.simulator.clock() + self.server.simulator.date_ahead).astimezone(UTC),
            usegmt=True,
        )

    def version_string(self) -> str:
        return "Microsoft-HTTPAPI/2.0"

    def _body(self) -> bytes:
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if not 0 <= length <= LARGEST_BODY:
            self.close_connection = True
            raise Refusal(
                413 if length > 0 else 400, "The request body is too large or has no length"
            )
        return self.rfile.read(length)

    def _error(self, message: str, status: int) -> str:
        return render.error(
            message, status, as_json=self._as_json, version=self.server.simulator.version
        )

    @property
    def _base(self) -> str:
        simulator = self.server.simulator
        host = simulator.link_host or self.headers.get("Host") or simulator.url.split("://")[1]
        return f"{simulator.url.split('://')[0]}://{host}"

    def _routed(self, path: str, body: bytes) -> tuple[int, str]:
        simulator = self.server.simulator
        place = path.casefold()
        if place == "/api" and self.command == "GET":
            return 200, self._root()
        if place == "/api/sessionmngr" and self.command == "POST":
            return self._log_on()
        if not place.startswith("/api/"):
            raise Refusal(404, f"There is nothing at {path}")
        self._admit()
        if refused := self._refusal_of(self._fault):
            return refused
        match = re.fullmatch(f"/api/logonsessions/{_GUID}", place)
        if match and self.command == "DELETE":
            simulator.log_out(match[1])
            return 204, ""
        if place == "/api/logonsessions" and self.command == "GET":
            known = [simulator.logon_entity(one, self._base) for one in simulator.logged_on()]
            return 200, self._collection("LogonSessions", known)
        asked = self.command == "POST" and self._wanted.get("action", "").casefold() == "intervals"
        if asked and re.fullmatch(
            f"/api/(?:cdpreplicas/{_GUID}/vms|cdpreplica/vapps)/{_GUID}", place
        ):
            return 200, self._intervals(place, body)
        if self.command != "GET":
            raise Refusal(405, f"{self.command} is not allowed here")
        if place == "/api/query":
            return 200, self._query()
        return 200, self._resource(place)

    def _admit(self) -> None:
        try:
            self.server.simulator.admit(self._token())
        except Refusal as refusal:
            raise Refusal(403, str(refusal)) if self._fault == "forbidden" else refusal from None

    def _token(self) -> str | None:
        """The cookie's session wins over the header's."""
        cookie = re.search(r"X-RestSvcSessionId=([^;\s]+)", self.headers.get("Cookie", ""), re.I)
        return cookie[1] if cookie else self.headers.get("X-RestSvcSessionId")

    def _log_on(self) -> tuple[int, str]:
        simulator = self.server.simulator
        try:
            token, identifier = simulator.log_on(self.headers.get("Authorization", ""))
        except Refusal:
            self._extra["WWW-Authenticate"] = "Basic Realm=RestSvc"
            raise
        self._extra |= {
            "X-RestSvcSessionId": token,
            "Set-Cookie": f"X-RestSvcSessionId={token}; Path=/api;",
        }
        return 201, self._single(simulator.logon_entity(identifier, self._base))

    # -- what is asked for -------------------------------------------------------------

    def _view(self, known: Snapshot) -> View:
        simulator = self.server.simulator
        return View(simulator.fleet, known, self._base, simulator.version >= 13)

    def _query(self) -> str:
        simulator = self.server.simulator
        kind = self._wanted.get("type", "").casefold()
        if kind not in _LISTS:
            raise Refusal(404, f"Cannot find query type [{self._wanted.get('type', '')}]")
        number, size = (
            self._positive(name, usual) for name, usual in (("page", 1), ("pagesize", PAGE_SIZE))
        )
        known = simulator.snapshot()
        table, order = simulator.selection(kind, known, self._wanted)
        pages = max(1, -(-len(order) // size))
        rows = table.rows[self._on_page(order, number, size)]
        pages = self._counted(pages)
        entities = self._wanted.get("format", "").casefold() in ("entities", "entity")
        text = self._rows(kind, self._view(known), rows, entities)
        paging = self._paging(number, size, pages)
        listed = _LISTS[kind] if entities else None
        if self._as_json:
            return spoiled(self._fault, render.page_json(listed, text, paging, simulator.version))
        return render.page_xml(listed, text, paging)

    def _counted(self, pages: int) -> int:
        if self._fault in ("miscounted", "countless"):
            return max(1, pages // 2) if self._fault == "miscounted" else 10**9
        return max(1, pages + {"grows": 1, "shrinks": -1}.get(self._fault or "", 0))

    def _on_page(self, order: Rows, number: int, size: int) -> Rows:
        start, stop = (number - 1) * size, number * size
        if self._fault == "beyond":
            start = stop
        if self._fault == "repeats":
            start, stop = start - 1, stop - 1
        rows = order[start:stop]
        if self._fault == "twins" and len(rows) > 1:
            rows = rows.copy()
            rows[-1] = rows[-2]
        return rows

    def _positive(self, name: str, usual: int) -> int:
        said = self._wanted.get(name, str(usual))
        if not re.fullmatch(r"\d{1,9}", said) or int(said) < 1:
            raise Refusal(400, f"{name} '{said}' is not a positive number")
        return int(said)

    def _rows(self, kind: str, view: View, rows: Rows, entities: bool) -> str:
        version = self.server.simulator.version
        if kind == "cdpreplicatasksession":
            sessions = view.tasks(rows)
            if not entities:
                named = [views.task_reference(one, view.base) for one in sessions]
                return views.references(named, as_json=self._as_json, version=version)
            if self._as_json:
                return render.tasks_json(sessions, view.base, version)
            return render.tasks_xml(sessions, view.base)
        make = {"cdpreplicasession": view.policy_session, "cdppolicy": view.policy}.get(
            kind, view.replica
        )
        made = [make(row) for row in rows.tolist()]
        if not entities:
            return views.references(made, as_json=self._as_json, version=version)
        if self._as_json:
            return ",".join(render.json_text(render.entity_json(one), version) for one in made)
        return "".join(render.entity_xml(one) for one in made)

    def _paging(self, number: int, size: int, pages: int) -> dict[str, Any]:
        targets = {"First": 1}
        if 1 < number <= pages + 1:
            targets["Previous"] = number - 1
        if number < pages:
            targets["Next"] = number + 1
        targets["Last"] = pages
        links = [
            {"Rel": rel, "Href": self._page_address(target, size), "Name": None, "Type": None}
            for rel, target in targets.items()
        ]
        return {"Links": links, "PageNum": number, "PageSize": size, "PagesCount": pages}

    def _page_address(self, page: int, size: int) -> str:
        """The caller's own query with another page; hex digits in the case of the version."""
        asked = parse_qsl(urlsplit(self.path).query, keep_blank_values=True)
        given = {name.casefold() for name, _ in asked}
        pairs = [(name, str(page) if name.casefold() == "page" else value) for name, value in asked]
        pairs += [(name, value) for name, value in (("pageSize", str(size)), ("page", str(page)))
                  if name.casefold() not in given]  # fmt: skip
        lower = self.server.simulator.version < 13
        values = [(name, quote_plus(value)) for name, value in pairs]
        if lower:
            values = [(n, re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), v)) for n, v in values]
        return f"{self._base}/api/query?" + "&".join(f"{name}={value}" for name, value in values)

    def _root(self) -> str:
        simulator = self.server.simulator
        versions = [
            (name, f"{self._base}/api/sessionMngr/?v={name}") for name in ("v1_5", "v1_6", "v1_7")
        ]
        links = [[render.Link("Create", address, "LogonSession")] for _, address in versions]
        if self._as_json:
            listed = [{"Links": render.links_json(own), "Name": name}
                      for (name, _), own in zip(versions, links, strict=True)]  # fmt: skip
            tree = {"SupportedVersions": {"SupportedVersions": listed}, "Links": []}
            return render.json_text(tree, simulator.version)
        inner = "".join(
            f'<SupportedVersion Name="{name}"><Links>{render.links_xml(own)}</Links></SupportedVersion>'
            for (name, _), own in zip(versions, links, strict=True)
        )
        return (f'<EnterpriseManager xmlns="{render.NAMESPACE}">'
                f"<SupportedVersions>{inner}</SupportedVersions></EnterpriseManager>")  # fmt: skip

    def _resource(self, place: str) -> str:
        simulator = self.server.simulator
        view = self._view(simulator.snapshot())
        if place == "/api/backupservers":
            return self._collection("BackupServers", [self._backup_server(one) for one in range(
                len(simulator.fleet.servers))])  # fmt: skip
        if place == "/api/cdpreplicas":
            every = range(len(simulator.fleet.policies))
            return self._collection("CdpReplicas", [view.replica(row) for row in every])
        if place == "/api/cdpreplica/vapps":
            return self._collection("VAppCdpReplicas", [entity for _, entity in view.vapps()])
        if place.startswith("/api/cdpreplica/vapps/"):
            return self._single(self._one(view.vapps(), place.rpartition("/")[2])[1])
        match = re.fullmatch(f"/api/([a-z]+)/{_GUID}(?:/vms(?:/{_GUID})?)?", place)
        if match is None:
            raise Refusal(404, f"There is nothing at {place}")
        resource, uid, vm_uid = match.groups()
        if "/vms" in place:
            found = view.replica_vms(self._replica(uid))
            if vm_uid is None:
                return self._collection("CdpReplicaVms", [entity for _, entity in found])
            return self._single(self._one(found, vm_uid)[1])
        return self._entity(view, resource, uid)

    def _entity(self, view: View, resource: str, uid: str) -> str:
        kinds = {"cdpreplicatasksessions": "cdpreplicatasksession", "cdpreplicasessions": "cdpreplicasession",
                 "cdppolicies": "cdppolicy", "cdpreplicas": "cdpreplica"}  # fmt: skip
        if resource not in kinds:
            raise Refusal(404, f"There is nothing at /api/{resource}")
        kind, simulator = kinds[resource], self.server.simulator
        table, order = simulator.selection(kind, view.known, {"filter": f'Id=="{uid}"'})
        if not len(order):
            raise Refusal(404, f"Cannot find {kind} [{uid}]")
        rows = table.rows[order]
        if kind != "cdpreplicatasksession":
            make = {"cdpreplicasession": view.policy_session, "cdppolicy": view.policy}.get(
                kind, view.replica
            )
            return self._single(make(int(rows[0])))
        if self._as_json:
            return render.tasks_json(view.tasks(rows), view.base, simulator.version)
        return render.tasks_xml(view.tasks(rows), view.base, root=True)

    def _backup_server(self, row: int) -> Entity:
        one = self.server.simulator.fleet.servers[row]
        address = f"{self._base}/api/backupServers/{one.uid}"
        return Entity("BackupServer", "BackupServer", f"{address}?format=Entity", one.name,
                      f"urn:veeam:BackupServer:{one.uid}",
                      [render.Link("Alternate", address, "BackupServerReference", one.name)])  # fmt: skip

    def _replica(self, uid: str) -> int:
        policies = self.server.simulator.fleet.policies
        for row, policy in enumerate(policies):
            if policy.replica_uid == uid:
                return row
        raise Refusal(404, f"Cannot find replica [{uid}]")

    def _one(self, found: list[tuple[int, Entity]], uid: str) -> tuple[int, Entity]:
        for vm, entity in found:
            if entity.uid is not None and entity.uid.rpartition(":")[2] == uid:
                return vm, entity
        raise Refusal(404, f"Cannot find replica [{uid}]")

    def _intervals(self, place: str, body: bytes) -> str:
        simulator = self.server.simulator
        view = self._view(simulator.snapshot())
        *_, replica, _, uid = place.split("/")
        of_set = "/vms/" in place
        found = view.replica_vms(self._replica(replica)) if of_set else view.vapps()
        vm, _ = self._one(found, uid)
        start, end = _asked(body, "json" in self.headers.get("Content-Type", "").casefold())
        tree = view.intervals(vm, start, end, simulator.clock())
        answer = Entity("CdpReplicaIntervals", "CdpReplicaIntervals", "", fields=tree)
        if self._as_json:
            inner = {key: value for key, value in render.entity_json(answer).items() if key in tree}
            return render.json_text(inner, simulator.version)
        text = render.entity_xml(answer, root=True)
        return text.replace(' Type="CdpReplicaIntervals" Href=""', "", 1)

    def _single(self, entity: Entity) -> str:
        if self._as_json:
            return render.json_text(render.entity_json(entity), self.server.simulator.version)
        element = entity.kind if entity.element == "CdpPolicySession" else entity.element
        whole = Entity(
            element, entity.kind, entity.href, entity.name, entity.uid, entity.links, entity.fields
        )
        return render.entity_xml(whole, root=True)

    def _collection(self, name: str, entities: list[Entity]) -> str:
        version = self.server.simulator.version
        if self._wanted.get("format", "").casefold() not in ("entity", "entities"):
            listed = views.references(entities, as_json=self._as_json, version=version)
            if self._as_json:
                return f'{{"{"refs" if version >= 13 else "Refs"}":[{listed}]}}'
            return f'<EntityReferences xmlns="{render.NAMESPACE}">{listed}</EntityReferences>'
        if self._as_json:
            return render.json_text({name: [render.entity_json(one) for one in entities]}, version)
        inner = "".join(render.entity_xml(one) for one in entities)
        return f'<{name} xmlns="{render.NAMESPACE}">{inner}</{name}>'


def _asked(body: bytes, as_json: bool) -> tuple[datetime, datetime]:
    """The two dates of a CdpIntervalsSpec; its XML elements come in the schema's order."""
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
