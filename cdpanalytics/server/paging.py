"""All pages of a query; they are asked for again where they do not belong together."""

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
from cdpanalytics.server import page_cache, responses
from cdpanalytics.server.connection import Connection
from cdpanalytics.server.page_cache import CACHED, Caching

_MOST_PAGES: Final = 100_000
"""Pages of an answer above which its count is not believed."""

_PAST_THE_END: Final = (400, 404, 416, 500)
"""Statuses with which a server may refuse a page past the last one."""

_SETTLED: Final = pd.Timedelta(days=3)
"""A window that ended so long ago does not change any more."""


@dataclass(frozen=True)
class DatedPage:
    """A page and its as_of: when the server answered, less the server's lag."""

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
        params = {"type": self.kind}
        if not self.references:
            params["format"] = "Entities"
        if self.filter:
            params["filter"] = self.filter
        if self.sort:
            params["sortDesc" if self.descending else "sortAsc"] = self.sort
        return {**params, "pageSize": str(self.page_size), "page": str(number)}


class _AnotherPage(WireError):
    """A page other than the one that was asked for."""


class _InconsistentPages(Exception):
    """The pages of an answer do not belong together, or not to the query; the text says why."""

    def __init__(
        self,
        why: str = "the answer kept changing while paging; "
        "ask for a narrower window or larger pages",
    ) -> None:
        super().__init__(why)


@dataclass(frozen=True)
class Pager:
    """Fetches the pages of queries over one connection, `parallel` at a time."""

    connection: Connection
    parallel: int
    lag: pd.Timedelta

    def fetch_all(self, query: Query, *, fresh: bool) -> list[DatedPage]:
        """Return all pages of one answer: all from the page cache, or all from the server.

        Raises
        ------
        ServerError
            If the pages did not belong together, at every try.
        """
        cached = self.connection.caches and not fresh
        if cached:
            with suppress(_InconsistentPages, WireError, ServerError):
                return self._attempt(query, CACHED)
        why = ""
        for failures in range(self.connection.retry.answer):
            try:
                larger = replace(query, page_size=query.page_size * 2**failures)
                return self._attempt(larger, self._storing(query) if cached else {})
            except _InconsistentPages as problem:
                why = str(problem)
        raise ServerError(f"{self._origin(query)}: {why}", retryable=True)

    def fetch_one(self, query: Query, number: int = 1) -> DatedPage:
        """Return one page, from the server."""
        try:
            return self._page(query, number, None)
        except _InconsistentPages as problem:
            raise ServerError(f"{self._origin(query)}: {problem}") from None

    def _page(self, query: Query, number: int, caching: Caching | None) -> DatedPage:
        """Return one page; one that cannot be read is asked for again, as proxies come and go."""
        retry = self.connection.retry
        for failures in range(1, retry.page):
            try:
                return self._page_once(query, number, caching)
            except WireError as problem:
                if caching is CACHED or isinstance(problem, _AnotherPage):
                    raise
                retry.wait(failures)
        return self._page_once(query, number, caching)

    def _storing(self, query: Query) -> Caching:
        settled = query.end is not None and query.end < self.connection.clock() - _SETTLED
        return page_cache.stored(page_cache.LATER if settled else page_cache.SOON)

    def _attempt(self, query: Query, caching: Caching) -> list[DatedPage]:
        pages = [self._page(query, 1, caching)]
        _check_count(query, pages[0].page)
        with workers(self.parallel) as pool:
            numbers = range(2, pages[0].page.count + 1)
            for later in pool.map(lambda number: self._page(query, number, caching), numbers):
                _check_next(pages, later)
                pages.append(later)
        self._look_further(query, caching, pages)
        if _has_repeats(pages):
            raise _InconsistentPages
        if len(pages) > 1:
            _check_order(query, pages)
        return pages

    def _look_further(self, query: Query, caching: Caching, pages: list[DatedPage]) -> None:
        """Add the pages that the server did not count: a full last page need not be the last.

        What is past the end has no documented answer: an empty page, the last page once more or
        a refusal all mean that nothing follows.
        """
        last = pages[-1].page
        while last.table.num_rows == last.size:
            try:
                further = self._page(query, len(pages) + 1, caching)
            except _AnotherPage:
                return
            except ServerError as problem:
                if caching is CACHED or problem.status not in _PAST_THE_END:
                    raise
                return
            if not further.page.table.num_rows:
                return
            _check_next(pages, further)
            pages.append(further)
            last = further.page

    def _page_once(self, query: Query, number: int, caching: Caching | None) -> DatedPage:
        origin = self._origin(query, number)
        answer = self.connection.get("/api/query", origin, query.parameters(number), caching)
        if query.references:
            page = self.connection.read(responses.read_references, answer, origin=origin)
        else:
            page = self.connection.read(responses.read_page, answer, query.kind, origin=origin)
        if page.number != number or page.table.num_rows > page.size:
            seen = f"page {page.number} of {page.table.num_rows} rows, page size {page.size}"
            raise _AnotherPage(f"{origin}: the server answered another page, {seen}")
        _keep_to(query, page)
        return DatedPage(page, answer.server_time - self.lag)

    def _origin(self, query: Query, number: int | None = None) -> str:
        where = " ".join((query.filter or "").split())
        page = "" if number is None else f" page {number}"
        return f"{self.connection.url} {query.kind}{f' where {where}' if where else ''}{page}"


@contextmanager
def workers(parallel: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads that drop what is waiting when the first one fails."""
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="cdpanalytics")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _check_count(query: Query, first: responses.Page) -> None:
    """Refuse a number of pages that cannot be meant, before any of them is asked for."""
    if first.count > _MOST_PAGES:
        raise _InconsistentPages(
            f"the server counts {first.count:,} pages of {first.size}, more than can be meant; "
            "ask for a narrower window or larger pages"
        )


def _check_next(pages: list[DatedPage], later: DatedPage) -> None:
    """Refuse a page unless it follows full pages of the same size and count, and holds rows."""
    first, last, page = pages[0].page, pages[-1].page, later.page
    same = (page.size, page.count) == (first.size, first.count)
    if not same or last.table.num_rows != last.size or not page.table.num_rows:
        raise _InconsistentPages


def _check_order(query: Query, pages: list[DatedPage]) -> None:
    """Refuse pages of an order other than asked for: what is inserted meanwhile would be lost."""
    if query.sort != "CreationTimeUTC" or query.references:
        return
    created = pa.concat_tables([dated.page.table.select(["created"]) for dated in pages])
    values = created["created"].to_numpy()
    early, late = values[:-1], values[1:]
    if bool((early < late).any() if query.descending else (early > late).any()):
        raise _InconsistentPages(
            "the server does not sort by CreationTimeUTC as asked; ask for larger pages"
        )


def _has_repeats(pages: list[DatedPage]) -> bool:
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
            raise _InconsistentPages(
                f"the server does not keep to the filter: a session of "
                f"{created:%Y-%m-%d %H:%M:%S} came; is it Enterprise Manager?"
            )
