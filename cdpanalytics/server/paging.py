"""Whole answers: the pages of a query, asked for until they belong together; it knows no analyst's question."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.errors import ServerError, WireError
from cdpanalytics.server import connection, responses
from cdpanalytics.server.connection import ATTEMPTS, CACHED, Caching, Connection

_SETTLED: Final = pd.Timedelta(days=3)
"""A window that ended so long ago does not change any more."""


@dataclass(frozen=True)
class DatedPage:
    """A page and the instant it speaks for: when the server answered, less the server's lag."""

    page: responses.Page
    as_of: pd.Timestamp

    def table(self) -> pa.Table:
        """Return the page's rows with a column `as_of`."""
        as_of = pa.repeat(pa.scalar(self.as_of, schema.INSTANT), self.page.table.num_rows)
        return self.page.table.append_column(pa.field("as_of", schema.INSTANT), as_of)


@dataclass(frozen=True)
class Query:
    """What is asked for; of task and policy sessions with a `start` and `end`, that window alone."""

    kind: str
    filter: str | None = None
    sort: str | None = None
    descending: bool = False
    references: bool = False
    page_size: int = 1000
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None

    def parameters(self, number: int) -> dict[str, str]:
        """Return the parameters of ``/api/query`` for one of its pages."""
        made = {"type": self.kind}
        if not self.references:
            made["format"] = "Entities"
        if self.filter:
            made["filter"] = self.filter
        if self.sort:
            made["sortDesc" if self.descending else "sortAsc"] = self.sort
        return {**made, "pageSize": str(self.page_size), "page": str(number)}


class _Torn(Exception):
    """The pages of an answer do not belong together, or not to the question; the text says why."""

    def __init__(
        self,
        why: str = "the answer kept changing while paging; "
        "ask for a narrower window or larger pages",
    ) -> None:
        super().__init__(why)


@dataclass(frozen=True)
class Answers:
    """Asks for the pages of queries over one connection, `parallel` at a time."""

    way: Connection
    parallel: int
    lag: pd.Timedelta

    def whole(self, query: Query, *, fresh: bool) -> list[DatedPage]:
        """Return all pages of one answer: all from the page cache, or all from the server.

        Raises
        ------
        ServerError
            If the answer changed while it was paged, three times over.
        """
        cached = self.way.caches and not fresh
        if cached:
            with suppress(_Torn, WireError, ServerError):
                return self._attempt(query, CACHED)
        why = ""
        for again in range(ATTEMPTS):
            try:
                larger = replace(query, page_size=query.page_size * 2**again)
                return self._attempt(larger, self._storing(query) if cached else {})
            except _Torn as torn:
                why = str(torn)
        raise ServerError(f"{self._origin(query)}: {why}", retryable=True)

    def page(self, query: Query) -> DatedPage:
        """Return the first page, from the server."""
        try:
            return self._page(query, 1, None)
        except _Torn as problem:
            raise ServerError(f"{self._origin(query)}: {problem}") from None

    def _page(self, query: Query, number: int, caching: Caching | None) -> DatedPage:
        """Return one page; one that cannot be read is asked for again, as proxies come and go."""
        for again in range(ATTEMPTS - 1):
            try:
                return self._once(query, number, caching)
            except WireError:
                if caching is CACHED:
                    raise
                connection.wait(again)
        return self._once(query, number, caching)

    def _storing(self, query: Query) -> Caching:
        settled = query.end is not None and query.end < self.way.clock() - _SETTLED
        return connection.stored(connection.LATER if settled else connection.SOON)

    def _attempt(self, query: Query, caching: Caching) -> list[DatedPage]:
        first = self._page(query, 1, caching)
        found = [first]
        with workers(self.parallel) as crew:
            numbers = range(2, first.page.count + 1)
            for later in crew.map(lambda number: self._page(query, number, caching), numbers):
                found.append(later)
                if (later.page.size, later.page.count) != (first.page.size, first.page.count):
                    raise _Torn
        if any(dated.page.table.num_rows != first.page.size for dated in found[:-1]):
            raise _Torn
        if len(found) > 1 and (_repeats(found) or not found[-1].page.table.num_rows):
            raise _Torn
        return found

    def _once(self, query: Query, number: int, caching: Caching | None) -> DatedPage:
        origin = self._origin(query, number)
        answer = self.way.get("/api/query", origin, query.parameters(number), caching)
        if query.references:
            page = responses.read_references(answer.body, answer.kind, origin=origin)
        else:
            page = responses.read_page(answer.body, answer.kind, query.kind, origin=origin)
        if page.number != number or page.table.num_rows > page.size:
            seen = f"page {page.number} of {page.table.num_rows} rows, page size {page.size}"
            raise WireError(f"{origin}: the server answered another page, {seen}")
        _keep_to(query, page)
        return DatedPage(page, answer.made - self.lag)

    def _origin(self, query: Query, number: int | None = None) -> str:
        told = " ".join((query.filter or "").split())
        page = "" if number is None else f" page {number}"
        return f"{self.way.url} {query.kind}{f' where {told}' if told else ''}{page}"


@contextmanager
def workers(parallel: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads that drop what is waiting when the first one fails."""
    crew = ThreadPoolExecutor(parallel, thread_name_prefix="cdpanalytics")
    try:
        yield crew
    finally:
        crew.shutdown(cancel_futures=True)


def _repeats(pages: list[DatedPage]) -> bool:
    tables = [dated.page.table for dated in pages]
    key = "uid" if "uid" in tables[0].column_names else "policy_uid"
    uids = pa.chunked_array([chunk for table in tables for chunk in table[key].chunks])
    return bool(pc.count_distinct(uids).as_py() < len(uids))


def _keep_to(query: Query, page: responses.Page) -> None:
    """Refuse a page that holds what was not asked for."""
    if query.start is None:
        return
    edges = pc.min_max(page.table["created"])
    for created in filter(None, (edges["min"].as_py(), edges["max"].as_py())):
        if not query.start <= created < query.end:
            raise _Torn(
                f"the server does not keep to the filter: a session of "
                f"{created:%Y-%m-%d %H:%M:%S} came; is it Enterprise Manager?"
            )
