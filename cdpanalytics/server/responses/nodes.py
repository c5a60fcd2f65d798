"""Values of a parsed response, as nodes with lower-case keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from cdpanalytics.server.responses.problems import keys_of, wrong

SECOND: Final = 1_000_000
"""Microseconds of a second."""

Columns: TypeAlias = Mapping[str, Sequence[Any]]
Node: TypeAlias = dict[str, Any]


def collection_of(entities: Node, plural: str, origin: str) -> Any:
    """Return the collection that was asked for; null is empty, but its absence is another answer."""
    if plural.lower() not in entities:
        raise wrong(origin, f"no {plural} in the answer", keys_of(entities))
    return entities[plural.lower()]


def link_of(entity: Node, link_type: str) -> Node:
    """Return an entity's first link of a type; empty when it has none."""
    links = (link for link in nodes_of(entity.get("links")) if link.get("type") == link_type)
    return next(links, {})


def bool_of(value: object) -> bool | None:
    """Return a truth value written as such or as text; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def descend(node: Node, *path: str) -> Node:
    """Follow keys down from a node; empty where one is missing."""
    for key in path:
        below = node.get(key)
        node = below if isinstance(below, dict) else {}
    return node


def single_page(root: Node, origin: str) -> list[Node]:
    """Return what a resource lists, which is never paged: a first page would look like the whole."""
    if descend(root, "paginginfo").get("pagescount") not in (None, 0, 1, "0", "1"):
        raise wrong(origin, "expected all on one page", repr(root["paginginfo"]))
    return nodes_of({name: value for name, value in root.items() if name != "paginginfo"})


def nodes_of(value: Any) -> list[Node]:
    """Return those entries of a collection that are nodes."""
    return [item for item in entries_of(value) if isinstance(item, dict)]


def entries_of(value: Any) -> list[Any]:
    """Return a list, or the one list-valued property of its wrapper; a single entry may be bare."""
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list)]
        single = [v for v in value.values() if isinstance(v, dict)]
        value = next(filter(None, lists), single)
    return value if isinstance(value, list) else []


def paging_of(info: Any, origin: str) -> tuple[int, int, int]:
    """Return page number, page size and number of pages."""
    names = ("pagenum", "pagesize", "pagescount")
    try:
        number, size, count = (int(info[name]) for name in names)
    except (KeyError, TypeError, ValueError):
        raise wrong(
            origin, "no PagingInfo with PageNum, PageSize and PagesCount", repr(info)
        ) from None
    return number, size, count
