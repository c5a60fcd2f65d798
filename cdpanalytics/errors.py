"""One family of exceptions: what was wrong, what was seen, what to do, in one line each."""

from __future__ import annotations


class CdpError(Exception):
    """Whatever this package raises on purpose; its text is one line for a person.

    Attributes
    ----------
    progress : str
        What was done before the error; the text ends with it.
    """

    progress = ""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}; {self.progress}" if self.progress else text


class InputError(CdpError, ValueError):
    """An argument, a column or a value that cannot be used as given."""


class ConfigError(CdpError):
    """A setting that is missing or contradicts another (user, password, URL)."""


class ServerError(CdpError):
    """Enterprise Manager answered with an error, or did not answer.

    Attributes
    ----------
    status : int or None
        HTTP status of the answer; None when there was none.
    retryable : bool
        Whether the same request may succeed later.
    """

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable


class CertificateError(ServerError):
    """Enterprise Manager was reached, but its certificate cannot be trusted."""


class LogonError(ServerError):
    """Enterprise Manager refused the user, or its answer held no session."""


class WireError(CdpError):
    """A page that cannot be read; the text names where it came from and the first thing wrong."""


class ArchiveError(CdpError):
    """A directory or file that is not an archive of ours, or not one that can be read."""


class StoreError(ArchiveError):
    """The place of an archive that does not answer or refuses: nothing is known of what lies there."""
