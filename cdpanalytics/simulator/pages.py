"""Pages of ``/api/query``."""

import re
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

from . import render, views
from .faults import spoiled
from .kinds import BY_NAME, Kind
from .request import Request
from .sessions import Refusal
from .tables import Rows
from .views import View

PAGE_SIZE = 100
"""Rows of a page where the request gives no number."""


def query_page(request: Request) -> str:
    """Return the body of one page of a query."""
    simulator = request.simulator
    name = request.parameters.get("type", "")
    kind = BY_NAME.get(name.casefold())
    if kind is None:
        raise Refusal(404, f"Cannot find query type [{name}]")
    number, size = (
        _positive(request, name, default)
        for name, default in (("page", 1), ("pagesize", PAGE_SIZE))
    )
    snapshot = simulator.snapshot()
    table, order = simulator.selection(kind, snapshot, request.parameters)
    pages = max(1, -(-len(order) // size))
    rows = table.rows[_on_page(request, order, number, size)]
    pages = _counted(request, pages)
    entities = request.parameters.get("format", "").casefold() in ("entities", "entity")
    text = _rows(request, kind, request.view(snapshot), rows, entities)
    paging = _paging(request, number, size, pages)
    listed = kind.plural if entities else None
    if request.as_json:
        return spoiled(request.fault, render.page_json(listed, text, paging, simulator.version))
    return render.page_xml(listed, text, paging)


def _counted(request: Request, pages: int) -> int:
    if request.fault in ("miscounted", "countless"):
        return max(1, pages // 2) if request.fault == "miscounted" else 10**9
    return max(1, pages + {"grows": 1, "shrinks": -1}.get(request.fault or "", 0))


def _on_page(request: Request, order: Rows, number: int, size: int) -> Rows:
    start, stop = (number - 1) * size, number * size
    if request.fault == "beyond":
        start = stop
    if request.fault == "repeats":
        start, stop = start - 1, stop - 1
    rows = order[start:stop]
    if request.fault == "twins" and len(rows) > 1:
        rows = rows.copy()
        rows[-1] = rows[-2]
    return rows


def _positive(request: Request, name: str, default: int) -> int:
    text = request.parameters.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise Refusal(400, f"{name} '{text}' is not a positive number")
    return int(text)


def _rows(request: Request, kind: Kind, view: View, rows: Rows, entities: bool) -> str:
    version = request.simulator.version
    if kind.entity is None:
        sessions = view.tasks(rows)
        if not entities:
            named = [views.task_reference(entity, view.base) for entity in sessions]
            return views.references(named, as_json=request.as_json, version=version)
        if request.as_json:
            return render.tasks_json(sessions, view.base, version)
        return render.tasks_xml(sessions, view.base)
    members = [kind.entity(view, row) for row in rows.tolist()]
    if not entities:
        return views.references(members, as_json=request.as_json, version=version)
    if request.as_json:
        return ",".join(render.json_text(render.entity_json(entity), version) for entity in members)
    return "".join(render.entity_xml(entity) for entity in members)


def _paging(request: Request, number: int, size: int, pages: int) -> dict[str, Any]:
    targets = {"First": 1}
    if 1 < number <= pages + 1:
        targets["Previous"] = number - 1
    if number < pages:
        targets["Next"] = number + 1
    targets["Last"] = pages
    links = [
        {"Rel": rel, "Href": _page_address(request, target, size), "Name": None, "Type": None}
        for rel, target in targets.items()
    ]
    return {"Links": links, "PageNum": number, "PageSize": size, "PagesCount": pages}


def _page_address(request: Request, page: int, size: int) -> str:
    """Return the query of the request with another page; hex digits in the case of the version."""
    received = parse_qsl(urlsplit(request.target).query, keep_blank_values=True)
    given = {name.casefold() for name, _ in received}
    pairs = [(name, str(page) if name.casefold() == "page" else value) for name, value in received]
    pairs += [(name, value) for name, value in (("pageSize", str(size)), ("page", str(page)))
              if name.casefold() not in given]  # fmt: skip
    lower = request.simulator.version < 13
    values = [(name, quote_plus(value)) for name, value in pairs]
    if lower:
        values = [(n, re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), v)) for n, v in values]
    return f"{request.base}/api/query?" + "&".join(f"{name}={value}" for name, value in values)
