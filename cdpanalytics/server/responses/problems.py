"""Errors of a response: one line that says what is wrong and what was seen."""

from __future__ import annotations

from typing import Any, Final

from cdpanalytics.errors import WireError

_MAX_START: Final = 60


class ServerRefusal(WireError):
    """A body that is the server's own error."""

    def __init__(self, origin: str, message: str) -> None:
        super().__init__(f"{origin}: the answer is an error, {message!r}")
        self.message = message


def refuse_error(root: dict[str, Any], origin: str) -> None:
    """Raise `ServerRefusal` when a body is an ``Error``."""
    if isinstance(root.get("message"), str) and "statuscode" in root:
        raise ServerRefusal(origin, clean(root["message"], 300))


def wrong(origin: str, what: str, seen: str = "") -> WireError:
    """Make the error that names what is wrong and what was seen."""
    return WireError(f"{origin}: {what}" + (f", {clean(seen, 200)}" if seen else ""))


def keys_of(root: dict[str, Any]) -> str:
    """List the keys of a node, for an error."""
    return f"got {', '.join(sorted(root)) or 'nothing'}"


def start_of(body: bytes) -> str:
    """Quote the first characters of a body, for an error."""
    return (
        repr(clean(body[: 4 * _MAX_START].decode("utf-8", "replace"), _MAX_START))
        if body
        else "nothing"
    )


def clean(text: str, most: int) -> str:
    """Return text fit for one line: no control characters, single spaces, cut at `most`."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    single = " ".join(printable.split())
    return single if len(single) <= most else f"{single[: most - 1]}…"
