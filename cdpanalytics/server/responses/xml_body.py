"""XML bodies: bytes to a tree, and pages of sessions to columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lxml import etree

from cdpanalytics.server.responses.fields import NAMESPACE, Shape
from cdpanalytics.server.responses.nodes import Columns, Node, paging_of
from cdpanalytics.server.responses.problems import clean, refuse_error, start_of, wrong


def columns_from_xml(
    root: etree._Element, shape: Shape, origin: str
) -> tuple[Columns, tuple[int, int, int]]:
    """Read a page of sessions or references: its columns, and its paging."""
    holder = _child(root, "Entities" if shape.in_entities else "Refs")
    if holder is None:
        raise wrong(origin, f"no {shape.plural} in the answer", f"root {local_name(root)!r}")
    info = _child(root, "PagingInfo")
    attributes = None if info is None else _attributes_of(info)
    wrapper = _child(holder, shape.plural) if shape.in_entities else holder
    if wrapper is None:
        raise wrong(origin, f"no {shape.plural} in the answer", _child_names(holder))
    return _xml_columns(wrapper, shape), paging_of(attributes, origin)


def _xml_columns(entities: Iterable[etree._Element], shape: Shape) -> Columns:
    """Read each entity in one pass over its attributes and children."""
    names = [column for column, _ in shape.fields]
    at = _AnyCase({name.lower(): i for i, (_, name) in enumerate(shape.fields)})
    at.by_lower["links"] = _LINKS
    link_at = {}
    for column, link_type in shape.links:
        link_at[link_type] = len(names)
        names += [f"link {column}", f"link {column}_uid"]
    rows = [_xml_row(entity, len(names), at, link_at) for entity in entities]
    return (
        dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {n: [] for n in names}
    )


_LINKS: Final = -1
_OTHER: Final = -2


class _AnyCase(dict[str, int]):
    """Where each tag's value belongs; every spelling of a tag is looked up once."""

    def __init__(self, by_lower: dict[str, int]) -> None:
        super().__init__()
        self.by_lower = by_lower

    def __missing__(self, tag: str) -> int:
        namespace, _, name = str(tag).rpartition("}")
        in_namespace = namespace in ("", f"{{{NAMESPACE}")
        self[tag] = self.by_lower.get(name.lower(), _OTHER) if in_namespace else _OTHER
        return self[tag]


def _xml_row(
    entity: etree._Element, width: int, at: _AnyCase, link_at: dict[str, int]
) -> list[str | None]:
    row: list[str | None] = [None] * width
    for name, value in entity.items():
        i = at[str(name)]
        if i >= 0:
            row[i] = str(value)
    for child in entity:
        i = at[child.tag]
        if i >= 0:
            row[i] = child.text
        elif i == _LINKS:
            _read_links(child, row, link_at)
    return row


def _read_links(links: etree._Element, row: list[str | None], link_at: dict[str, int]) -> None:
    for link in links:
        i = link_at.get(link.get("Type") or "")
        if i is not None and row[i] is None and row[i + 1] is None:
            row[i], row[i + 1] = link.get("Name"), link.get("Href")


def parse_xml(body: bytes, origin: str) -> etree._Element:
    """Return the root of an XML body; a document type is refused and nothing is fetched."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as problem:
        raise wrong(
            origin, f"not XML ({clean(str(problem), 100)})", f"starting {start_of(body)}"
        ) from None
    if root.getroottree().docinfo.doctype:  # type: ignore[union-attr]
        raise wrong(origin, "XML with a DOCTYPE is not read", f"starting {start_of(body)}")
    if local_name(root) == "Error":
        refuse_error(_attributes_of(root), origin)
    return root


def node_of(element: etree._Element) -> Node:
    """Return an element as a node; repeated children become a list."""
    node = _attributes_of(element)
    if not len(element):
        node["value"] = element.text
    for child in element:
        value = node_of(child) if len(child) or child.attrib else child.text
        name = local_name(child).lower()
        if name in node:
            before = node[name]
            node[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            node[name] = value
    return node


def _attributes_of(element: etree._Element) -> Node:
    """Return an element's attributes with lower-case names."""
    return {str(name).lower(): value for name, value in element.items()}


def local_name(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _child(element: etree._Element, name: str) -> etree._Element | None:
    return next((child for child in element if local_name(child).lower() == name.lower()), None)


def _child_names(element: etree._Element) -> str:
    return f"got {', '.join(sorted({local_name(child) for child in element})) or 'nothing'}"
