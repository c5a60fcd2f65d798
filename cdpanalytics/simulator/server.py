"""The simulated Enterprise Manager: its clock, account, database and listening socket."""

import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from . import instants
from .faults import Fault, Faults
from .fleet import HORIZON, LAG, Fleet, Snapshot
from .handler import Handler, Server
from .kinds import Kind
from .selections import Selections
from .sessions import Clock, LogonSessions
from .tables import Rows, Table

_IDLE = timedelta(minutes=15)
"""How long a session lives without a request."""

_Logged = tuple[str, str, dict[str, str], int]


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
        idle: timedelta = _IDLE,
        link_host: str | None = None,
        bom: bool = False,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.fleet, self.version, self.link_host, self.bom = fleet, version, link_host, bom
        self.lag, self.horizon, self.idle = lag, horizon, idle
        self.requests: list[_Logged] = []
        self.faults = Faults()
        self.faults.set(*faults)
        self.ca_bundle: str | None = None
        self.username = username
        self._address = (host, port)
        self._tls = tls
        self._clock = clock
        self._moved = timedelta()
        self._stopped: dict[str, datetime] = {}
        self.hidden: set[str] = set()
        self.date_ahead = timedelta()
        self._begun = time.monotonic()
        self._sessions = LogonSessions(username, password, self.clock)
        self._selections = Selections(self)
        self._server: Server | None = None
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
        """Listen, and serve in background threads."""
        self._begun = time.monotonic()
        self._server = Server(self._address, Handler)
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
        return self._sessions.log_on(authorization)

    def admit(self, token: str | None) -> None:
        """Refuse a token that is unknown or has been idle too long."""
        self._sessions.admit(token, self.idle)

    def log_out(self, identifier: str) -> None:
        """End a session; an unknown one is an internal error, as on the real server."""
        self._sessions.log_out(identifier)

    def expire(self) -> None:
        """End every session, as a restart of the service does."""
        self._sessions.expire()

    def logged_on(self) -> list[str]:
        """Return the identifiers of all sessions."""
        return self._sessions.logged_on()

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

        What they do from then on reaches the database when `collect` is called. This simulates a
        collection that has stopped, and with `at` a database restored from a backup.
        """
        names = servers or tuple(server.name for server in self.fleet.servers)
        self._stopped.update(dict.fromkeys(names, at or self.clock()))

    def collect(self) -> None:
        """Collect from all backup servers again, also what was missed."""
        self._stopped.clear()

    def selection(
        self, kind: Kind, snapshot: Snapshot, parameters: dict[str, str]
    ) -> tuple[Table, Rows]:
        """Return a kind's table and the positions that a query selects of it, in its order."""
        return self._selections.select(kind, snapshot, parameters)

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
