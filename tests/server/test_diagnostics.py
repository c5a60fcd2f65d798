"""What `cdpanalytics doctor` finds: each thing that can be wrong with a server, in one line, and nothing after it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from cdpanalytics import cli
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.server.diagnostics import Finding, examine
from cdpanalytics.simulator import Fleet, Simulator


def found(server: Simulator | str, password: str = "demo", **options: Any) -> dict[str, Finding]:
    url = server if isinstance(server, str) else server.url
    with EnterpriseManager(url, "demo", password, cache=False, **options) as em:
        return {finding.check: finding for finding in examine(em)}


def verdicts(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.verdict for check, finding in findings.items()}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def recent() -> Fleet:
    """Six VMs whose records end now, as those of a server that is well."""
    return Fleet.generate(vms=6, days=5, seed=3, until=now(), policies=2)


@pytest.mark.parametrize(("release", "spelled"), [(12, "PascalCase"), (13, "camelCase")])
def test_a_server_that_is_well(recent: Fleet, release: int, spelled: str) -> None:
    with Simulator(recent, version=release, tls=True, clock=now) as server:
        findings = found(server, ca_bundle=server.ca_bundle)
        assert set(verdicts(findings).values()) == {"ok"}
        assert list(findings) == [
            "reach", "TLS", "version", "clock", "log-on", "role", "pages", "memory",
        ]  # fmt: skip
        assert server.ca_bundle is not None
        assert server.ca_bundle in findings["TLS"].said
        assert str(release) in findings["version"].said
        assert spelled in findings["version"].said
        assert "v1_7" in findings["version"].said
        assert "2 CDP policies" in findings["role"].said
        oldest = min(recent.task_sessions()["created"])
        assert f"sessions since {oldest:%Y-%m-%d}" in findings["memory"].said
        assert server.logged_on() == [], "it logs out"


def test_xml_does_not_tell_the_release(recent: Fleet) -> None:
    with Simulator(recent, clock=now) as server:
        findings = found(server, accept="xml")
    assert findings["version"].said == "not told by XML (XML), REST v1_5, v1_6, v1_7"


def test_nobody_is_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    findings = found(f"http://127.0.0.1:{port}")
    assert verdicts(findings) == {"reach": "failed"}
    assert "connection refused" in findings["reach"].said


def test_a_silent_server_is_asked_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        findings = found(url, timeout=(1, 0.2))
        assert verdicts(findings) == {"reach": "failed"}
        assert "did not answer in time; check that it works" in findings["reach"].said
        silent.settimeout(0.5)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


def test_a_certificate_that_nobody_vouches_for(recent: Fleet) -> None:
    with Simulator(recent, tls=True, clock=now) as server:
        findings = found(server)
        assert verdicts(findings) == {"reach": "ok", "TLS": "failed"}
        assert "--ca-bundle" in findings["TLS"].said
        assert server.requests == [], "no password goes to a stranger"
        insecure = found(server, verify=False)
        assert insecure["TLS"].verdict == "warning"
        assert insecure["memory"].verdict == "ok"


def test_no_tls_is_said(recent: Fleet) -> None:
    with Simulator(recent, clock=now) as server:
        assert found(server)["TLS"].verdict == "warning"


def test_a_wrong_password_ends_it_after_one_attempt(recent: Fleet) -> None:
    with Simulator(recent, clock=now) as server:
        findings = found(server, "wrong horse")
        assert findings["log-on"].verdict == "failed"
        assert list(findings)[-1] == "log-on"
        assert not any("wrong horse" in finding.said for finding in findings.values())
        assert len([1 for method, *_ in server.requests if method == "POST"]) == 1


@pytest.mark.parametrize(
    ("off", "said"), [(timedelta(minutes=-7), "behind"), (timedelta(minutes=7), "ahead of")]
)
def test_clocks_that_differ(recent: Fleet, off: timedelta, said: str) -> None:
    with Simulator(recent, clock=lambda: now() + off) as server:
        finding = found(server)["clock"]
    assert finding.verdict == "warning"
    assert finding.said.startswith(("7 min", "6 min 5"))
    assert said in finding.said


def test_a_server_that_collects_no_more(recent: Fleet) -> None:
    with Simulator(recent, clock=lambda: now() + timedelta(days=40)) as server:
        finding = found(server)["memory"]
    assert finding.verdict == "warning"
    assert "none for" in finding.said


def test_a_server_that_has_forgotten_all(recent: Fleet) -> None:
    with Simulator(recent, clock=lambda: now() + timedelta(days=400)) as server:
        finding = found(server)["memory"]
    assert finding.verdict == "warning"
    assert "no session yet" in finding.said


def test_smaller_pages_than_asked_for(recent: Fleet) -> None:
    with Simulator(recent, clock=now) as server:
        assert found(server, page_size=10)["pages"].said == "10 rows a page, 10 asked for"


@pytest.mark.parametrize(
    "answer",
    [
        lambda self: self.send_response(404),
        lambda self: (self.send_response(200), self.send_header("Content-Type", "text/html")),
        lambda self: (self.send_response(302), self.send_header("Location", "/elsewhere")),
    ],
    ids=["nothing", "page", "redirect"],
)
def test_something_else_listens(answer: Callable[[Any], object]) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
        findings = found(f"http://127.0.0.1:{other.server_port}")
        other.shutdown()
    assert verdicts(findings) == {"reach": "failed"}
    assert "\n" not in findings["reach"].said


def test_the_command_says_it_in_lines_and_by_its_exit_code(
    recent: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CDPANALYTICS_PASSWORD", "demo")
    with Simulator(recent, clock=now) as server:
        assert cli.main(["doctor", server.url, "--user", "demo"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines] == [
            "reach", "TLS", "version", "clock", "log-on", "role", "pages", "memory",
        ]  # fmt: skip
        monkeypatch.setenv("CDPANALYTICS_PASSWORD", "wrong horse")
        assert cli.main(["doctor", server.url, "--user", "demo"]) == 1
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].startswith("failed  log-on")
        assert "wrong horse" not in out + err
