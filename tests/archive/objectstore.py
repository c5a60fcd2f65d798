"""An object store on loopback: moto's S3 server, and a relay before it that counts and cuts."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import boto3
from moto.server import ThreadedMotoServer

KEY, SECRET = "AKIAKEYOFTHETESTS", "s3cr3t/of+the=tests"
BUCKET = "backup-reports"


class Relay:
    """Passes connections on to a server; keeps each request line, and counts the bytes that come back.

    `cut`: a pattern of request lines of which only a part reaches the server before the
    connection ends; `before`: what to do before a request line is passed on.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.lines: list[str] = []
        self.received = 0
        self.cut: str | None = None
        self.before: Callable[[str], None] = lambda line: None
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        """Count anew."""
        self.lines, self.received = [], 0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                for source, sink, there in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass, args=(source, sink, there), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, there: bool) -> None:
        with suppress(OSError):
            while body := source.recv(65536):
                if there and self._ends_here(body):
                    sink.sendall(body[: len(body) // 2])
                    break
                if not there:
                    self.received += len(body)
                sink.sendall(body)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _ends_here(self, body: bytes) -> bool:
        line = re.match(rb"(?:GET|PUT|HEAD|POST|DELETE) [^\r\n]* HTTP/1.1\r\n", body)
        if line is None:
            return False
        self.lines.append(line[0].decode().removesuffix(" HTTP/1.1\r\n"))
        self.before(self.lines[-1])
        return self.cut is not None and re.search(self.cut, self.lines[-1]) is not None


@contextmanager
def serving() -> Iterator[ThreadedMotoServer]:
    """Run moto's server on a free port of loopback, with one empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def client(port: int) -> object:
    """The vendor's own client, independent of fsspec."""
    return boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id=KEY,
        aws_secret_access_key=SECRET, region_name="us-east-1",
    )  # fmt: skip
