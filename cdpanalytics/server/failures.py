"""What went wrong between this machine and a server, in one line that holds no secret."""

from __future__ import annotations

import base64
import codecs
import errno
import html
import os
import re
import socket
import ssl
from collections.abc import Iterator
from threading import Lock
from typing import Final
from urllib.parse import quote

import requests
import urllib3
from requests.exceptions import ChunkedEncodingError

from cdpanalytics.errors import CertificateError, LogonError, ServerError
from cdpanalytics.server import responses

_HIDDEN: Final = b"[hidden]"
_WINDOWS: Final = bytes(range(256)).decode("cp1252", "replace")
"""The character that Windows reads for each byte."""

_NUMBERS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by peer",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "connection timed out",
}
"""Words for errors of which Windows has none."""

_ADVICE: Final = {
    400: "; check the filter's fields and values",
    403: "; the user needs the Portal Administrator role to see every policy",
    503: "; the server is busy, try again later",
}


class Redactor:
    """Replaces what was sent in secret, in every encoding in which a server could repeat it."""

    def __init__(self, user: str, password: str) -> None:
        self._lock = Lock()
        self._patterns: set[bytes] = set()
        self.add(password)
        self.add(base64.b64encode(password.encode()).decode())
        self.add(base64.b64encode(f"{user}:{password}".encode()).decode())

    def __repr__(self) -> str:
        return "Redactor()"

    def add(self, secret: str) -> None:
        """Hide this, too: a token."""
        with self._lock:
            self._patterns |= _patterns(secret)

    def clean(self, body: bytes) -> bytes:
        """Return an answer's body without the secrets."""
        with self._lock:
            patterns = sorted(self._patterns, key=len, reverse=True)
        return re.sub(b"|".join(patterns), _HIDDEN, body, flags=re.I) if patterns else body


def _patterns(secret: str) -> set[bytes]:
    """Return expressions for a secret as JSON, XML, URLs and other charsets write it.

    Each character may be escaped or not on its own, for a server decides about that; a text that
    was escaped as a whole or read in a wrong charset may be escaped once more.
    """
    if not secret:
        return set()
    raw = secret.encode()
    texts = {secret, html.escape(secret), quote(secret, safe="")}
    texts |= {raw.decode("latin-1"), "".join(_WINDOWS[byte] for byte in raw)}
    return {b"".join(map(_character, text)) for text in texts} | {
        re.escape(codecs.utf_16_le_encode(secret)[0]), re.escape(secret.encode("latin-1", "replace"))
    }  # fmt: skip


def _character(char: str) -> bytes:
    """Return an expression for a character as it is, and as JSON, XML and URLs escape it."""
    units = codecs.utf_16_be_encode(char)[0].hex()
    forms = {char, html.escape(char), f"&#{ord(char)};", f"&#x{ord(char):x};", "\\" + char}
    forms |= {"".join(f"%{byte:02x}" for byte in char.encode())}
    forms |= {"".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))}
    if char == " ":
        forms |= {"+"}
    return (
        b"(?:" + b"|".join(re.escape(form.encode()) for form in sorted(forms, key=len)[::-1]) + b")"
    )


def refuse(answer: requests.Response, origin: str, redactor: Redactor) -> None:
    """Raise what an answer other than 200 means."""
    status = answer.status_code
    if status == 200:
        return
    if 300 <= status < 400:
        raise ServerError(
            f"{origin}: redirected, which is not followed; check the URL", status=status
        )
    message = server_message(answer, redactor)
    if status == 401:
        raise LogonError(f"{origin}: the session was refused twice{message}", status=status)
    advice = _ADVICE.get(status, "")
    retryable = status in (429, 502, 503, 504)
    raise ServerError(
        f"{origin}: HTTP {status}{message}{advice}", status=status, retryable=retryable
    )


def server_message(answer: requests.Response, redactor: Redactor) -> str:
    """Return the server's own words on an error, after a colon; "" where there are none."""
    body = redactor.clean(answer.content or b"")
    message = responses.read_error(body, content_type(answer))
    return f": {redactor.clean(message.encode()).decode()}" if message else ""


def content_type(answer: requests.Response) -> str:
    """Return what an answer says that its body is."""
    return str(answer.headers.get("Content-Type", ""))


# ------------------------------------------------------------------ no answer from the server


def unreachable(url: str, problem: requests.RequestException) -> ServerError:
    """Return the error for a request that had no answer."""
    causes = list(_causes(problem))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _tls_error(url, cause)
    if isinstance(problem, requests.exceptions.SSLError):
        return _certificate_error(url, _reason(problem))
    silent = (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError)
    if any(isinstance(cause, silent) for cause in causes):
        what = "did not answer in time; check that it works, or ask for a narrower window or smaller pages"
    elif isinstance(problem, requests.exceptions.ConnectTimeout):
        what = "cannot be reached: no answer in time; check host, port and firewall"
    elif isinstance(problem, ChunkedEncodingError):
        what = "broke off its answer; try again"
    elif isinstance(problem, requests.exceptions.ConnectionError):
        what = f"cannot be reached: {_reason(problem)}; check host and port"
    else:
        what = f"could not be asked ({type(problem).__name__})"
    return ServerError(f"{url} {what}", retryable=True)


_PLAIN_HTTP: Final = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
_OLD_TLS: Final = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION",
                   "NO_PROTOCOLS_AVAILABLE", "UNSUPPORTED_SSL_VERSION"}  # fmt: skip
_CLIENT_CERTIFICATE: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE",
}


def _tls_error(url: str, cause: ssl.SSLError) -> ServerError:
    reason = str(cause.reason or "").replace(" ", "_").upper()
    if reason in _PLAIN_HTTP:
        return ServerError(
            f"{url} does not speak https: it answers in plain http; check the port, or write http://"
        )
    if reason in _OLD_TLS:
        return ServerError(
            f"{url} offers only a TLS version older than this machine accepts (TLS 1.2); "
            "enable TLS 1.2 on the server"
        )
    if reason in _CLIENT_CERTIFICATE:
        return ServerError(
            f"{url} wants a client certificate, which is not supported; "
            "use Enterprise Manager's own port (9398), or a proxy that does not ask for one"
        )
    if isinstance(cause, ssl.SSLEOFError):
        return ServerError(
            f"{url} ended the TLS connection without an answer: it may want a client certificate, "
            "which is not supported; else try again",
            retryable=True,
        )
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        return ServerError(
            f"{url} ended the TLS handshake: it wants a client certificate, or accepts no cipher "
            "of this machine; check the server's TLS settings"
        )
    if reason == "CERTIFICATE_VERIFY_FAILED":
        return _certificate_error(url, cause.verify_message or "it could not be verified")  # type: ignore[attr-defined]
    if reason:
        words = reason.lower().replace("_", " ")
        what = (
            f": the TLS connection failed ({words}); check the port and the server's TLS settings"
        )
    else:
        what = f" cannot be reached: {_reason(cause)}; check host and port"
    return ServerError(url + what, retryable=True)


def _certificate_error(url: str, why: str) -> CertificateError:
    return CertificateError(
        f"{url}: its certificate was not accepted ({why}); give the file that "
        "signed it with --ca-bundle (ca_bundle=, CDPANALYTICS_CA_BUNDLE)"
    )


def _reason(problem: BaseException) -> str:
    """Return the cause at the bottom, in words that hold nothing of the request."""
    for cause in _causes(problem):
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
        if getattr(cause, "verify_message", None):
            return str(cause.verify_message)  # type: ignore[attr-defined]
        number = getattr(cause, "errno", None)
        if isinstance(number, int) and number in errno.errorcode and not hasattr(cause, "reason"):
            return _NUMBERS.get(number) or os.strerror(number).lower()
    return "the connection failed"


def _causes(problem: BaseException) -> Iterator[BaseException]:
    waiting, seen = [problem], set()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        near = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [each for each in near if isinstance(each, BaseException)]
