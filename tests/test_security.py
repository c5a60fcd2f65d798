"""Promises of docs/security.md that no other test keeps, and that each promise has its test."""

from __future__ import annotations

import ast
import base64
import gzip
import logging
import re
import sqlite3
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keyring
import pandas as pd
import pyarrow as pa
import pytest
import urllib3
from keyring.backend import KeyringBackend

from cdpanalytics import schema, settings
from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import CdpError, ServerError, WireError
from cdpanalytics.server import adapter, responses
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "Tr0ub4dor&3-Žluťoučký"


@pytest.mark.parametrize("page", ["security.md", "reliability.md"])
def test_each_promise_names_a_test_that_is_there(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / page).read_text("utf-8"))
    assert len(named) >= 10
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{file}::{name}"


# -- who is spoken to -------------------------------------------------------------------


def test_tls_is_verified_unless_told_loudly_otherwise(
    fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("CDPANALYTICS_PASSWORD", "demo")
    with Simulator(fleet, tls=True) as server:
        asked = ["sync", server.url, "--archive", str(folder), "--user", "demo", "--since", "2D"]
        assert main(asked) == 1
        error = capsys.readouterr().err
        assert "certificate was not accepted" in error
        assert "--ca-bundle" in error
        assert not folder.exists()
        assert main([*asked, "--ca-bundle", str(server.ca_bundle)]) == 0
        assert "not verified" not in caplog.text
        assert main([*asked, "--insecure"]) == 0
        assert "certificate verification is disabled" in caplog.text
        urllib3.warnings.simplefilter("default", urllib3.exceptions.InsecureRequestWarning)


def test_the_token_goes_to_no_other_host_whatever_links_say(
    server: Simulator, fleet: Fleet, folder: Path
) -> None:
    with Simulator(fleet) as other:
        server.link_host = other.url.removeprefix("http://")
        with EnterpriseManager(server.url, "demo", "demo", cache=False, page_size=5) as em:
            sync(em, Archive(folder), since="3D", journal=True, progress=False)
        assert len(server.requests) > 20
        assert other.requests == []


# -- what is left behind ----------------------------------------------------------------


def test_no_secret_is_left_in_any_file_log_or_traceback(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told, tokens = [], []
    with Simulator(fleet, password=PASSWORD) as server:
        with EnterpriseManager(server.url, "demo", PASSWORD) as em:
            em.sessions(since="2D")
            sync(em, Archive(tmp_path / "archive"), since="3D", journal=True, progress=False)
            tokens.append(em._connection._adapter._token.reveal())  # type: ignore[union-attr]
            told += [
                repr(em),
                repr(vars(em)),
                repr(vars(em._connection)),
                repr(vars(em._connection._adapter)),
            ]
            try:
                em.query("nonsense")
            except CdpError as error:
                told += traceback.format_exception(error)
        monkeypatch.setenv("CDPANALYTICS_PASSWORD", PASSWORD)
        main(["sync", server.url, "--archive", str(tmp_path / "archive"), "--user", "demo"])
        main(["query", server.url, "--user", "demo", "--filter", "nonsense"])
    output = capsys.readouterr()
    told += [caplog.text, output.out, output.err]
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(kept) > 10_000
    assert list((tmp_path / "cache").rglob("*.sqlite"))
    basic = base64.b64encode(f"demo:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, basic, *tokens):
        assert secret not in "\n".join(told)
        assert secret.encode() not in kept


def test_the_page_cache_holds_json_and_no_pickle(
    server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with EnterpriseManager(server.url, "demo", "demo") as em:
        em.sessions(since="2D")
    (file,) = tmp_path.rglob("*.sqlite")
    assert file.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(file)) as database:
        values = database.execute("SELECT value FROM responses").fetchall()
    assert values
    for (value,) in values:
        text = value if isinstance(value, str) else value.decode()
        assert text.startswith("{")
    for source in (ROOT / "cdpanalytics").rglob("*.py"):
        assert not re.search(
            r"^\s*(import|from) (pickle|shelve|marshal)\b", source.read_text("utf-8"), re.M
        )


class Memory(KeyringBackend):
    """A keyring of the real kind, in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]

    def get_credential(
        self, service: str, username: str | None
    ) -> keyring.credentials.Credential | None:
        for (one, user), password in self.kept.items():
            if one == service and username in (None, user):
                return keyring.credentials.SimpleCredential(user, password)
        return None


@pytest.fixture
def ring() -> Iterator[Memory]:
    before, ring = keyring.get_keyring(), Memory()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def test_login_and_logout_use_the_keyring(
    ring: Memory, server: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(settings.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(settings.getpass, "getpass", lambda prompt: "demo")
    assert main(["login", server.url, "--user", "demo"]) == 0
    assert ring.kept == {(f"cdpanalytics:{server.url}", "demo"): "demo"}
    assert main(["sync", server.url, "--archive", str(folder), "--since", "2D"]) == 0
    assert main(["logout", server.url]) == 0
    assert ring.kept == {}
    assert main(["logout", server.url]) == 1
    assert "the keyring has no user name for" in capsys.readouterr().err


def test_login_without_a_terminal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["login", "https://em.tech.local"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# -- what comes in ----------------------------------------------------------------------


class Flood(BaseHTTPRequestHandler):
    """Answers with more than was requested."""

    protocol_version = "HTTP/1.1"
    body, headers_sent = b"", {"Content-Length": "0"}

    def do_POST(self) -> None:
        self.send_response(201)
        self.send_header("X-RestSvcSessionId", "token")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    do_DELETE = do_POST

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("kind", ["ten gigabytes", "a small body that unpacks to a large one"])
def test_a_body_of_any_size_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    assert len(bomb) < 100_000
    packed = {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    handler = type("Handler", (Flood,), {
        "body": b"" if kind == "ten gigabytes" else bomb,
        "headers_sent": {"Content-Length": str(10 << 30)} if kind == "ten gigabytes" else packed,
    })  # fmt: skip
    monkeypatch.setattr(adapter, "LARGEST_ANSWER", 1 << 20)
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}"
    try:
        with (
            EnterpriseManager(url, "demo", "demo", cache=False) as em,
            pytest.raises(ServerError, match="its answer is larger than 1 MiB"),
        ):
            em.query()
    finally:
        http.shutdown()
        http.server_close()


@pytest.mark.parametrize(
    "body", [b"[" * 1_000_000, b'{"a":' * 1_000_000, b'{"Entities":' * 200_000]
)
def test_deep_json_is_refused(body: bytes) -> None:
    with pytest.raises(WireError) as error:
        responses.read_page(body, "application/json", "CdpReplicaTaskSession", origin="em")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("body", [
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>',
    b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>',
    b"<a>" * 100_000,
])  # fmt: skip
def test_xml_bombs_are_refused(body: bytes) -> None:
    with pytest.raises(WireError) as error:
        responses.read_page(body, "application/xml", "CdpReplicaTaskSession", origin="em")
    assert "\n" not in str(error.value)


HOSTILE = [
    "../../etc/passwd",
    "a\x1b[31m\nb",
    "=cmd|'/c calc'!A1",
    "<script>alert(1)</script>",
    "C:\\x\0y",
]


def test_names_of_vms_choose_no_path(tmp_path: Path) -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    archive = Archive(tmp_path / "archive")
    rows = [{"uid": f"u{n}", "vm": name, "policy": name, "backup_server": name, "created": day,
             "ended": day + timedelta(hours=1), "state": "Completed", "result": "Success"}
            for n, name in enumerate(HOSTILE)]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=schema.SESSIONS)
    archive.put_day("sessions", "https://em/../../x:9398", day, table, day)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")}
    assert found == {"archive/sessions/em%2f..%2f..%2fx_9398/2026-10-01.parquet"}
    assert sorted(archive.sessions()["vm"].astype("str")) == sorted(HOSTILE)
