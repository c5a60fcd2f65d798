"""Settings are found in one order, secrets show nowhere, and each refusal says what to set."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from types import SimpleNamespace

import pytest

from cdpanalytics import settings
from cdpanalytics.errors import ConfigError

HOST = "https://em.tech.local:9398"


@pytest.fixture(autouse=True)
def keyring(monkeypatch):
    """A keyring that knows one user; no test reaches this machine's own."""
    kept: dict[tuple[str, str], str] = {}

    def credential(service, user):
        found = [(u, p) for (s, u), p in kept.items() if s == service]
        return SimpleNamespace(username=found[0][0], password=found[0][1]) if found else None

    fake = SimpleNamespace(
        get_credential=credential,
        get_password=lambda service, user: kept.get((service, user)),
        set_password=lambda service, user, password: kept.update({(service, user): password}),
        delete_password=lambda service, user: kept.pop((service, user)),
    )
    monkeypatch.setitem(sys.modules, "keyring", fake)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return fake


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://em.tech.local", HOST),
        (" https://EM.tech.local:9398/api/?x=1 ", HOST),
        ("http://localhost", "http://localhost:9399"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://[::1]", "https://[::1]:9398"),
    ],
)
def test_a_url_becomes_scheme_host_and_port(given, url):
    assert settings.base_url(given, {}) == url


def test_the_url_may_come_from_the_environment():
    assert settings.base_url(None, {settings.URL: "https://em.tech.local"}) == HOST
    with pytest.raises(ConfigError, match="set CDPANALYTICS_URL"):
        settings.base_url(None, {})


@pytest.mark.parametrize(
    "url",
    [
        "em.tech.local",
        "ftp://em",
        "https://",
        "https://em:port",
        "https://em:0",
        "https://[",
        "https://em..lab",
        f"https://{'a' * 64}.lab",
        f"https://{'a.' * 127}lab",
        "https://em\ud800.lab",
        "https://e m",
    ],
)
def test_what_is_not_a_url_is_refused(url):
    with pytest.raises(ConfigError, match="is not a server's URL"):
        settings.base_url(url, {})


def test_a_password_in_the_url_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as told:
        settings.base_url("https://me:hunter2@em.tech.local", {})
    assert "hunter2" not in str(told.value)


def test_argument_beats_environment_beats_keyring(keyring):
    environment = {settings.USERNAME: "env", settings.PASSWORD: "from env"}
    settings.remember(HOST, "ring", "from ring")
    found = settings.credentials(HOST, "arg", "from arg", environment=environment)
    assert (found.user, found.password.reveal()) == ("arg", "from arg")
    found = settings.credentials(HOST, environment=environment)
    assert (found.user, found.password.reveal()) == ("env", "from env")
    found = settings.credentials(HOST, environment={})
    assert (found.user, found.password.reveal()) == ("ring", "from ring")


def test_without_a_terminal_the_error_says_what_to_set():
    with pytest.raises(ConfigError, match=r"no user for .*CDPANALYTICS_USERNAME"):
        settings.credentials(HOST, environment={})
    with pytest.raises(ConfigError, match=r"no password for .*CDPANALYTICS_PASSWORD"):
        settings.credentials(HOST, "me", environment={})


def test_at_a_terminal_it_asks(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda prompt: "me")
    monkeypatch.setattr(settings.getpass, "getpass", lambda prompt: "typed")
    found = settings.credentials(HOST, environment={})
    assert (found.user, found.password.reveal()) == ("me", "typed")
    monkeypatch.setattr(settings.getpass, "getpass", lambda prompt: "")
    with pytest.raises(ConfigError, match="no password"):
        settings.credentials(HOST, environment={})


def test_a_broken_keyring_is_no_keyring(monkeypatch, keyring):
    def broken(*_):
        raise RuntimeError("no backend")

    for name in ("get_credential", "get_password", "set_password", "delete_password"):
        monkeypatch.setattr(keyring, name, broken)
    with pytest.raises(ConfigError, match="no user"):
        settings.credentials(HOST, environment={})
    with pytest.raises(ConfigError, match="set CDPANALYTICS_PASSWORD instead"):
        settings.remember(HOST, "me", "secret")
    with pytest.raises(ConfigError, match="could not access the system keyring"):
        settings.forget(HOST, "me")


def test_a_password_over_plain_http_stays_on_this_machine():
    with pytest.raises(ConfigError, match="use https"):
        settings.credentials("http://em.tech.local:9399", "me", "secret", environment={})
    for loopback in ("http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"):
        assert settings.credentials(loopback, "me", "secret", environment={}).user == "me"


def test_a_secret_does_not_show():
    found = settings.Credentials("me", settings.Secret("hunter2"))
    assert "hunter2" not in f"{found} {found!r} {found.password} {found.password!r}"
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leak(found.password)


def test_a_ca_bundle_must_be_there(tmp_path):
    there = tmp_path / "ca.pem"
    there.touch()
    assert settings.ca_bundle(None, {}) is None
    assert settings.ca_bundle(None, {settings.CA_BUNDLE: str(there)}) == str(there)
    with pytest.raises(ConfigError, match="no CA bundle at"):
        settings.ca_bundle(str(tmp_path / "other.pem"), {})


def test_proxies_are_the_machines_but_never_for_itself(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert settings.proxies(HOST)["https"] == "http://proxy.example:3128"
    assert settings.proxies("https://inside.example:9398") == {}
    assert settings.proxies("https://127.0.0.1:9398") == {}
