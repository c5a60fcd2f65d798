"""Can this server be used, and what is it: a finding a line, from reaching it to how far back it remembers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from cdpanalytics.errors import CdpError, CertificateError
from cdpanalytics.presentation import formatting
from cdpanalytics.server.client import EnterpriseManager

_APART = pd.Timedelta("1min")
"""A difference of clocks that is worth a word."""

_STALE = pd.Timedelta("1D")
"""Every policy begins a session a day; a server with none so new collects none."""

_RELEASES = {"PascalCase": "12 or older", "camelCase": "13 or newer"}


@dataclass(frozen=True)
class Finding:
    """What was checked, how it went, and what was seen or is to be done."""

    verdict: Literal["ok", "warning", "failed"]
    check: str
    said: str

    def __str__(self) -> str:
        return f"{self.verdict:8}{self.check:10}{self.said}"


def examine(em: EnterpriseManager) -> Iterator[Finding]:
    """Yield what there is to say of a server; ends after a finding that lets no other be made.

    Parameters
    ----------
    em : EnterpriseManager
        Not logged on yet; the examination does that.

    Yields
    ------
    Finding
        Of reach, TLS, version, clock, log-on, role, pages, memory, in this order.

    Examples
    --------
    >>> from cdpanalytics.simulator import Fleet, Simulator
    >>> with Simulator(Fleet.generate(vms=4, days=3, seed=1)) as server:
    ...     with EnterpriseManager(server.url, "demo", "demo", cache=False) as em:
    ...         print(*(finding.check for finding in examine(em)))
    reach TLS version clock log-on role pages memory
    """
    try:
        root = em.root()
    except CertificateError as error:
        yield Finding("ok", "reach", f"{em.url} answers")
        yield Finding("failed", "TLS", str(error))
        return
    except CdpError as error:
        yield Finding("failed", "reach", str(error))
        return
    yield Finding("ok", "reach", f"{em.url} answers in {root.seconds * 1000:.0f} ms")
    yield _of_tls(em)
    spoken = ", ".join(root.versions) or "none named"
    release = _RELEASES.get(root.spelling, "not told by XML")
    yield Finding("ok", "version", f"{release} ({root.spelling}), REST {spoken}")
    yield _of_clocks(root.clock, pd.Timestamp.now("UTC"))
    try:
        now = em.now()
    except CdpError as error:
        yield Finding("failed", "log-on", str(error))
        return
    yield Finding("ok", "log-on", f"as {em.user}")
    try:
        policies = list(em.pages("CdpPolicy", fresh=True))
        yield _of_role(sum(dated.page.table.num_rows for dated in policies))
        yield _of_pages(em.page_size, policies[0].page.size)
        yield _of_memory(em, now)
    except CdpError as error:
        yield Finding("failed", "query", str(error))


def _of_tls(em: EnterpriseManager) -> Finding:
    if not em.url.startswith("https:"):
        return Finding("warning", "TLS", "not used: the password and all data are sent unencrypted")
    if not em.verified:
        return Finding("warning", "TLS", "its certificate is not verified; leave --insecure out")
    by = f"signed by {em.verified}" if isinstance(em.verified, str) else "known to this machine"
    return Finding("ok", "TLS", f"certificate {by}")


def _of_clocks(theirs: pd.Timestamp, ours: pd.Timestamp) -> Finding:
    apart = abs(theirs - ours)
    if apart < _APART:
        return Finding("ok", "clock", "as this machine's, within a minute")
    way = "behind" if theirs < ours else "ahead of"
    return Finding("warning", "clock", f"{formatting.duration(apart)} {way} this machine's; what is "
                   "still open is measured by the server's")  # fmt: skip


def _of_role(policies: int) -> Finding:
    if policies:
        seen = f"{policies:,} CDP {'policy' if policies == 1 else 'policies'} to be seen"
        return Finding("ok", "role", f"{seen}; if there are more, log on as a Portal Administrator")
    return Finding("warning", "role", "no CDP policy to be seen; is there one, and is the user a "
                   "Portal Administrator?")  # fmt: skip


def _of_pages(asked: int, given: int) -> Finding:
    verdict: Literal["ok", "warning"] = "ok" if given >= asked else "warning"
    return Finding(verdict, "pages", f"{given:,} rows a page, {asked:,} asked for")


def _of_memory(em: EnterpriseManager, now: pd.Timestamp) -> Finding:
    oldest, _ = em.oldest()
    newest = em.newest()
    if oldest is None or newest is None:
        return Finding("warning", "memory", "no session yet: nothing to analyse")
    since = f"{oldest:%Y-%m-%d}, {formatting.duration(now - oldest)} ago"
    if now - newest > _STALE:
        return Finding("warning", "memory", f"sessions since {since}, but none for "
                       f"{formatting.duration(now - newest)}; does it still collect from its backup "
                       "servers?")  # fmt: skip
    return Finding("ok", "memory", f"sessions since {since}; sync before they are forgotten")
