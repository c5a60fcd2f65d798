"""The HTTP handler: reads a request, routes it, and writes the answer."""

import re
import socket
import struct
import time
from datetime import UTC
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from . import pages, resources
from .grammar import FilterError
from .pages import PAGE_SIZE
from .request import Request
from .sessions import Refusal

if TYPE_CHECKING:
    from .server import Simulator


_LARGEST_BODY = 1_000_000

_SILENCE = 10.0
"""Seconds that the fault "silence" lasts."""

_DRIP = 0.05
"""Seconds between two bytes of the fault "drip"."""

_PORTAL = "<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"

_GUID = r"([0-9a-fA-F-]{36})"


class Server(ThreadingHTTPServer):
    """The listening server of a simulator."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    simulator: "Simulator"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing: clients come and go."""


class Handler(BaseHTTPRequestHandler):
    """Reads one request, routes it and writes the answer, with its fault."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: Server

    def do_GET(self) -> None:
        """Answer a request of any method."""
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing; `Simulator.requests` keeps the requests."""

    def _answer(self) -> None:
        simulator = self.server.simulator
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self._request = self._read_request(query)
        self._request.fault = self._struck(parts.path)
        if self._request.fault == "reset":
            return self._reset()
        if self._request.fault == "silence":
            time.sleep(_SILENCE)
        status, body = self._status_and_body(parts.path.rstrip("/"))
        simulator.requests.append((self.command, parts.path, query, status))
        self._send(status, body)

    def _read_request(self, query: dict[str, str]) -> Request:
        simulator = self.server.simulator
        host = simulator.link_host or self.headers.get("Host") or simulator.url.split("://")[1]
        return Request(
            simulator,
            self.command,
            self.path,
            {name.casefold(): value for name, value in query.items()},
            as_json="json" in self.headers.get("Accept", "").casefold(),
            json_body="json" in self.headers.get("Content-Type", "").casefold(),
            base=f"{simulator.url.split('://')[0]}://{host}",
        )

    def _status_and_body(self, path: str) -> tuple[int, str]:
        try:
            return self._routed(path, self._body())
        except Refusal as refusal:
            return refusal.status, self._request.error(str(refusal), refusal.status)
        except FilterError as problem:
            return 400, self._request.error(f"Invalid filter: {problem}", 400)
        except Exception as fault:  # a fault of the simulator must not look like a broken network
            return 500, self._request.error(f"{type(fault).__name__}: {fault}", 500)

    def _struck(self, path: str) -> str | None:
        kind = path.casefold(), self._request.parameters.get("type", "").casefold()
        if kind != ("/api/query", "cdpreplicatasksession"):
            return None
        page = self._request.parameters.get("page", "1")
        fault = self.server.simulator.faults.strike(int(page) if page.isdecimal() else 1)
        if fault == "page-size":
            self._request.parameters["pagesize"] = str(PAGE_SIZE)
        if fault == "filter":
            self._request.parameters.pop("filter", None)
        if fault == "xml":
            self._request.as_json = False
        if fault in ("expired", "forbidden"):
            self.server.simulator.expire()
        if fault in ("unsorted", "reversed") and (
            sort := self._request.parameters.pop("sortasc", None)
        ):
            self._request.parameters |= {"sortdesc": sort} if fault == "reversed" else {}
        return fault

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _refusal_of(self, fault: str | None) -> tuple[int, str] | None:
        if fault in ("busy", "someday"):
            self._request.extra_headers["Retry-After"] = (
                "1" if fault == "busy" else "when the moon is full"
            )
            return 503, self._request.error("The service is too busy", 503)
        if fault == "error":
            return 500, self._request.error(
                "Object reference not set to an instance of an object.", 500
            )
        return (200, _PORTAL) if fault == "html" else None

    def _send(self, status: int, text: str) -> None:
        mark = "\ufeff" if self._request.as_json and self.server.simulator.bom and text else ""
        body = (mark + text).encode()
        kind = "application/json" if self._request.as_json else "application/xml"
        kind = "text/html" if self._request.fault == "html" else kind
        if self._request.fault == "garbled":
            body = body[: len(body) // 2]
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self._request.fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        for name, value in self._request.extra_headers.items():
            self.send_header(name, value)
        if self._request.fault == "drip":
            return self._drip(body)
        # One write for head and body: two would wait for each other's acknowledgement.
        self._headers_buffer.append(b"\r\n" + body)  # type: ignore[attr-defined]
        self.flush_headers()

    def send_header(self, keyword: str, value: str) -> None:
        """Send a header, but no Date where that is the fault."""
        if not (keyword == "Date" and self._request.fault == "undated"):
            super().send_header(keyword, value)

    def _drip(self, body: bytes) -> None:
        self.end_headers()
        try:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                time.sleep(_DRIP)
        except OSError:
            self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the simulator's own time: clients read the server's clock from it."""
        return format_datetime(
            (self.server.simulator.clock() + self.server.simulator.date_ahead).astimezone(UTC),
            usegmt=True,
        )

    def version_string(self) -> str:
        """Return the name of the real server."""
        return "Microsoft-HTTPAPI/2.0"

    def _body(self) -> bytes:
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if not 0 <= length <= _LARGEST_BODY:
            self.close_connection = True
            raise Refusal(
                413 if length > 0 else 400, "The request body is too large or has no length"
            )
        return self.rfile.read(length)

    def _routed(self, path: str, body: bytes) -> tuple[int, str]:
        simulator, request = self.server.simulator, self._request
        place = path.casefold()
        if place == "/api" and self.command == "GET":
            return 200, resources.root(request)
        if place == "/api/sessionmngr" and self.command == "POST":
            return self._log_on()
        if not place.startswith("/api/"):
            raise Refusal(404, f"There is nothing at {path}")
        self._admit()
        if refused := self._refusal_of(request.fault):
            return refused
        match = re.fullmatch(f"/api/logonsessions/{_GUID}", place)
        if match and self.command == "DELETE":
            simulator.log_out(match[1])
            return 204, ""
        if place == "/api/logonsessions" and self.command == "GET":
            entities = [resources.logon_entity(request, uid) for uid in simulator.logged_on()]
            return 200, request.collection("LogonSessions", entities)
        is_intervals = (
            self.command == "POST"
            and request.parameters.get("action", "").casefold() == "intervals"
        )
        if is_intervals and re.fullmatch(
            f"/api/(?:cdpreplicas/{_GUID}/vms|cdpreplica/vapps)/{_GUID}", place
        ):
            return 200, resources.intervals(request, place, body)
        if self.command != "GET":
            raise Refusal(405, f"{self.command} is not allowed here")
        if place == "/api/query":
            return 200, pages.query_page(request)
        return 200, resources.resource(request, place)

    def _admit(self) -> None:
        try:
            self.server.simulator.admit(self._token())
        except Refusal as refusal:
            raise (
                Refusal(403, str(refusal)) if self._request.fault == "forbidden" else refusal
            ) from None

    def _token(self) -> str | None:
        """Return the session of the cookie, else that of the header."""
        cookie = re.search(r"X-RestSvcSessionId=([^;\s]+)", self.headers.get("Cookie", ""), re.I)
        return cookie[1] if cookie else self.headers.get("X-RestSvcSessionId")

    def _log_on(self) -> tuple[int, str]:
        simulator = self.server.simulator
        try:
            token, identifier = simulator.log_on(self.headers.get("Authorization", ""))
        except Refusal:
            self._request.extra_headers["WWW-Authenticate"] = "Basic Realm=RestSvc"
            raise
        self._request.extra_headers |= {
            "X-RestSvcSessionId": token,
            "Set-Cookie": f"X-RestSvcSessionId={token}; Path=/api;",
        }
        return 201, self._request.single(resources.logon_entity(self._request, identifier))
