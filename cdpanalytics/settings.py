"""Settings: the server's URL, credentials, certificates and proxies."""

from __future__ import annotations

import getpass
import ipaddress
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from cdpanalytics.errors import ConfigError

URL: Final = "CDPANALYTICS_URL"
USERNAME: Final = "CDPANALYTICS_USERNAME"
PASSWORD: Final = "CDPANALYTICS_PASSWORD"  # noqa: S105 - the name of a variable
CA_BUNDLE: Final = "CDPANALYTICS_CA_BUNDLE"

CLOCK_DIFFERENCE: Final = "CDPANALYTICS_ALLOW_CLOCK_DIFFERENCE"

_PORTS: Final = {"https": 9398, "http": 9399}


class Secret:
    """A text that shows itself to no one who does not ask: `repr` and `str` are ``***``."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled or copied")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs on."""

    user: str
    password: Secret


def base_url(url: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return where Enterprise Manager is, as scheme, host and port.

    Parameters
    ----------
    url : str, optional
        ``https://host[:port]``; a path is dropped. From ``CDPANALYTICS_URL`` when None.
        The port is 9398 when none is given (9399 for plain http, as the vendor has it).

    Raises
    ------
    ConfigError
        If there is none, or it is not http or https with a host, or it holds a password.

    Examples
    --------
    >>> base_url("https://EM.tech.local/api/")
    'https://em.tech.local:9398'
    """
    text = (url or environment.get(URL) or "").strip()
    if not text:
        raise ConfigError(f"no server; give its URL, e.g. https://em.tech.local:9398, or set {URL}")
    parts = _split(text)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}"


def credentials(
    url: str,
    user: str | None = None,
    password: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> Credentials:
    """Find user and password: argument, environment, keyring, then a prompt.

    Parameters
    ----------
    url : str
        What `base_url` returned; the keyring's service is ``cdpanalytics:<url>``.
    user, password : str, optional
        Taken as they are when given.

    Raises
    ------
    ConfigError
        If one is found nowhere and no terminal is there to ask at, or if the password
        would travel over plain http to another machine.
    """
    _guard(url)
    name = user or environment.get(USERNAME) or _keyring_user(url) or ask("user", url, USERNAME)
    secret = password or environment.get(PASSWORD) or _keyring_password(url, name)
    return Credentials(name, Secret(secret or ask("password", url, PASSWORD)))


def ca_bundle(path: str | None = None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the file of certificates to trust, or None for the ones that come with requests.

    The argument, else ``CDPANALYTICS_CA_BUNDLE``, else ``REQUESTS_CA_BUNDLE``.

    Raises
    ------
    ConfigError
        If the file does not exist.
    """
    bundle = path or environment.get(CA_BUNDLE) or environment.get("REQUESTS_CA_BUNDLE") or None
    if bundle is not None and not os.path.exists(bundle):
        raise ConfigError(f"no CA bundle at {bundle}; give a PEM file, or set {CA_BUNDLE}")
    return bundle


def proxies(url: str) -> dict[str, str]:
    """Return this machine's proxies for a server; none for one on this machine itself."""
    if _is_loopback(urlsplit(url).hostname or ""):
        return {}
    return dict(getproxies()) if not proxy_bypass(urlsplit(url).netloc) else {}


def allow_clock_difference(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a sync may go on although the clocks differ: the variable is 1, true or yes."""
    return environment.get(CLOCK_DIFFERENCE, "").strip().lower() in ("1", "true", "yes")


def remember(url: str, user: str, password: str) -> None:
    """Put a password into the keyring, for `credentials` to find.

    Raises
    ------
    ConfigError
        If this machine has no keyring, or it refuses.
    """
    try:
        import keyring

        keyring.set_password(_service(url), user, password)
    except Exception as problem:
        raise ConfigError(_no_keyring(problem)) from None


def forget(url: str, user: str | None = None) -> None:
    """Take a password out of the keyring; `ConfigError` if it is not there.

    Without a user, that of the one user the keyring knows for this server.
    """
    name = user or _keyring_user(url)
    if name is None:
        raise ConfigError(f"the keyring has no user name for {url}; give one with --user")
    try:
        import keyring

        keyring.delete_password(_service(url), name)
    except Exception as problem:
        raise ConfigError(_no_keyring(problem)) from None


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _PORTS and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        usable, parts = False, SplitResult("", "", "", "", "")
    if "@" in text:
        raise ConfigError("the server's URL holds a user or password; give those separately")
    if not usable:
        raise ConfigError(f"{text!r} is not a server's URL; write https://em.tech.local:9398")
    return parts


def _is_host(host: str) -> bool:
    """Return whether a name can be looked up: labels of 1 to 63 letters, 253 in all; or an address."""
    if ":" in host:  # an IPv6 address, which urlsplit has checked
        return True
    try:
        encoded = host.encode("idna")  # empty and over-long labels are errors of this codec
    except UnicodeError:
        return False
    return 0 < len(encoded) <= 253 and host.isprintable() and " " not in host


def _guard(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ConfigError(f"a password would travel unencrypted to {url}; use https")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _keyring_user(url: str) -> str | None:
    with suppress(Exception):
        import keyring

        credential = keyring.get_credential(_service(url), None)
        return credential.username if credential else None
    return None


def _keyring_password(url: str, user: str) -> str | None:
    with suppress(Exception):
        import keyring

        return keyring.get_password(_service(url), user)
    return None


def _service(url: str) -> str:
    return f"cdpanalytics:{url}"


def _no_keyring(problem: Exception) -> str:
    return f"could not access the system keyring ({type(problem).__name__}); set {PASSWORD} instead"


def ask(what: str, url: str, variable: str) -> str:
    """Ask at the terminal for a "user" or "password"; `ConfigError` where there is none, or no answer."""
    if not (sys.stdin and sys.stdin.isatty()):
        raise ConfigError(
            f"no {what} for {url}; give one, or set {variable}, or keep it in the keyring: "
            f"cdpanalytics login {url} --user NAME"
        )
    try:
        answer = (
            getpass.getpass(f"{url} password: ") if what == "password" else input(f"{url} user: ")
        )
    except EOFError:
        answer = ""
    if not answer:
        raise ConfigError(f"no {what} for {url} given")
    return answer
