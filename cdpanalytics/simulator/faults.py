"""What goes wrong between a client and a server: faults that strike queries of task sessions, by name."""

import json
import threading
from dataclasses import dataclass

KINDS = {
    "expired": "the session has ended: 401",
    "busy": "503 with Retry-After of one second",
    "error": "500, an internal error of the server",
    "reset": "the connection is reset before the answer",
    "cut": "the connection ends in the middle of the body",
    "garbled": "the body is cut short, but its length in the header is right",
    "html": "an HTML page of a proxy, with status 200",
    "grows": "a later page says there is one page more",
    "shrinks": "a later page says there is one page less",
    "repeats": "a later page begins with the last row of the page before",
    "beyond": "a later page is past the end, and empty",
    "page-size": "pageSize is ignored: each page has 100 rows",
    "filter": "the filter is ignored: all rows",
    "xml": "XML, although JSON was asked for",
    "silence": "ten seconds of silence before the answer",
    "drip": "the body comes one byte at a time",
    "forbidden": "the session has ended: 403",
    "someday": "503 with a Retry-After that is neither a number nor a date",
    "unsorted": "sortAsc is ignored: the server's own order",
    "reversed": "sortAsc is taken for sortDesc",
    "twins": "a row is twice on one page",
    "miscounted": "PagesCount is half of the right number, on all pages",
    "countless": "PagesCount is a billion",
    "elsewhere": "the collection that was asked for is missing",
    "padded": "another list, which is empty, is in front of the rows",
    "cases": "optional keys of every other row are in upper case",
    "undated": "the answer has no Date",
}
"""Each fault's name, and what happens."""

_BODY = {"elsewhere", "padded", "cases"}


def spoiled(kind: str | None, text: str) -> str:
    """Return a JSON body as a fault leaves it; most faults leave it as it is."""
    if kind not in _BODY:
        return text
    tree = json.loads(text)
    name = next(name for name in tree["Entities"] if name == "CdpReplicaTaskSessions")
    wrapper = tree["Entities"][name]
    if kind == "elsewhere":
        del tree["Entities"][name]
    if kind == "padded":
        tree["Entities"][name] = {"Removed": [], **wrapper}
    if kind == "cases":
        for row in wrapper[name][::2]:
            for key in ("EndTimeUTC", "TotalSize", "Reason", "Result"):
                if key in row:
                    row[key.upper()] = row.pop(key)
    return json.dumps(tree)


_LATER = ("grows", "shrinks", "repeats", "beyond")


@dataclass(frozen=True)
class Fault:
    """A fault that strikes some answers.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    times : int or None
        Answers that it strikes; None strikes all.
    after : int
        Answers it could strike and lets pass first. (Those about paging can strike a
        second or later page only.)

    Examples
    --------
    >>> Fault.read("busy:2"), Fault.read("reset:lasting").times
    (Fault(kind='busy', times=2, after=0), None)
    """

    kind: str
    times: int | None = 1
    after: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault {self.kind!r}; one of {', '.join(KINDS)}")

    @staticmethod
    def read(text: str) -> "Fault":
        """Return a fault from ``KIND``, ``KIND:TIMES`` or ``KIND:lasting``."""
        kind, _, times = text.partition(":")
        if times not in ("", "lasting") and not times.isdecimal():
            raise ValueError(f"{text!r} is not KIND, KIND:TIMES or KIND:lasting")
        return Fault(kind, None if times == "lasting" else int(times or 1))


class Faults:
    """The faults still to strike; safe to ask from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[list[int | None]] = []
        self._faults: list[Fault] = []

    def set(self, *faults: Fault) -> None:
        """Forget the faults there were, and wait to strike with these."""
        with self._lock:
            self._faults = list(faults)
            self._waiting = [[fault.after, fault.times] for fault in faults]

    def strike(self, page: int) -> str | None:
        """Return the kind of the fault that strikes an answer, or None."""
        with self._lock:
            for fault, left in zip(self._faults, self._waiting, strict=True):
                if (fault.kind in _LATER and page < 2) or left[1] == 0:
                    continue
                if left[0]:
                    left[0] -= 1
                    continue
                if left[1] is not None:
                    left[1] -= 1
                return fault.kind
        return None
