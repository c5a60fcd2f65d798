"""JSON bodies: bytes to a tree, and pages of sessions to columns."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.message import Message
from functools import cache
from operator import attrgetter, itemgetter
from types import GenericAlias
from typing import Any, Final

import msgspec
import pyarrow as pa

from cdpanalytics.server.responses.fields import SPELLINGS, Shape
from cdpanalytics.server.responses.nodes import Columns, Node, collection_of, entries_of, paging_of
from cdpanalytics.server.responses.problems import keys_of, refuse_error, start_of, wrong


class _UnexpectedSpelling(Exception):
    """A body that is not spelled as a family of structs expects; read it the slow way."""


def columns_from_json(
    body: bytes, shape: Shape, origin: str
) -> tuple[Columns, tuple[int, int, int]]:
    """Read a page of sessions or references: its columns, and its paging."""
    try:
        return _decode_structs(body, shape)
    except _UnexpectedSpelling:
        return _decode_any_case(body, shape, origin)


def _decode_structs(body: bytes, shape: Shape) -> tuple[Columns, tuple[int, int, int]]:
    """Read a body spelled one way throughout; anything else is `_UnexpectedSpelling`."""
    spelling = "camel" if re.match(rb'\s*\{\s*"[a-z]', body) else "pascal"
    try:
        document = _decoder(shape, spelling).decode(body)
        rows = _rows(document, shape)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
        raise _UnexpectedSpelling from None
    spell = SPELLINGS[spelling]
    if not rows and not _contains_key(body, spell(shape.plural)):
        raise _UnexpectedSpelling
    raw, absent = _columns(rows, shape)
    lacking = [name for column, name in (*shape.fields, ("links", "Links")) if column in absent]
    links = [link for listed in raw["links"] for link in listed or ()]
    lacking += [key.title() for key in ("type", "href") if None in map(attrgetter(key), links)]
    incomplete = any(None in raw[column] for column, _ in shape.fields if column in shape.required)
    if incomplete or not _have_one_spelling([spell(name) for name in lacking], body):
        raise _UnexpectedSpelling
    return raw, (document.paging.number, document.paging.size, document.paging.count)


def _have_one_spelling(names: Sequence[str], body: bytes) -> bool:
    """Return whether keys that some rows lack are nowhere written in another case.

    Counting a word in the bytes of a page is cheaper than decoding its keys one by one.
    """
    lower = body.lower() if names else b""
    keys = [b'"' + name.encode() + b'"' for name in names]
    return all(body.count(key) == lower.count(key.lower()) for key in keys)


def _contains_key(body: bytes, name: str) -> bool:
    return b'"' + name.encode() + b'"' in body


def _decode_any_case(
    body: bytes, shape: Shape, origin: str
) -> tuple[Columns, tuple[int, int, int]]:
    root = lower_keys(parse_json(body, origin))
    refuse_error(root, origin)
    holder = "entities" if shape.in_entities else "refs"
    if not isinstance(root.get(holder), dict):
        raise wrong(origin, f"no {holder.capitalize()} in the answer", keys_of(root))
    paging = paging_of(root.get("paginginfo"), origin)
    wrapper = (
        collection_of(root[holder], shape.plural, origin) if shape.in_entities else root[holder]
    )
    rows_type = GenericAlias(list, (_structs(shape, "lower")[0],))
    try:
        rows = msgspec.convert(entries_of(wrapper), rows_type, strict=False)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise wrong(origin, f"unexpected {shape.plural}", str(problem)) from None
    return _columns(rows, shape)[0], paging


def _rows(document: Any, shape: Shape) -> list[Any]:
    """Return the one list of the wrapper, whatever its name."""
    if document.entities is None or document.paging is None:
        raise _UnexpectedSpelling
    wrapper = document.entities.rows if shape.in_entities else document.entities
    lists = list((wrapper or {}).values())
    if len(lists) > 1:
        raise _UnexpectedSpelling
    return (lists[0] or []) if lists else []


def _columns(rows: list[Any], shape: Shape) -> tuple[Columns, set[str]]:
    """Return the columns of rows, None where a row has no value, and those whose key some rows lack."""
    raw: dict[str, Sequence[Any]] = {
        column: list(map(attrgetter(column), rows)) for column in (*dict(shape.fields), "links")
    }
    absent = {column for column, values in raw.items() if msgspec.UNSET in values}
    for column in absent:
        raw[column] = [None if value is msgspec.UNSET else value for value in raw[column]]
    for column, link_type in shape.links:
        links = _links_of(raw["links"], link_type)
        raw[f"link {column}"] = [link and link.name for link in links]
        raw[f"link {column}_uid"] = [link and link.href for link in links]
    return raw, absent


def _links_of(listed: Sequence[Any], link_type: str) -> list[Any]:
    """Return each row's link of a type, which is mostly at the same place as in the first row."""
    types = [link.type for link in listed[0] or ()] if listed else []
    at = types.index(link_type) if link_type in types else 0
    with suppress(TypeError, IndexError):  # a row without links, or with fewer
        links = list(map(itemgetter(at), listed))
        if [link.type for link in links].count(link_type) == len(links):
            return links
    return [_link(links, link_type) for links in listed]


def _link(links: list[Any] | None, link_type: str) -> Any:
    for link in links or ():
        if link.type == link_type:
            return link
    return None


_TYPES: Final = {pa.int64(): int, pa.bool_(): bool}
"""What a value of a column is in JSON; of other columns it is text."""


@cache
def _structs(shape: Shape, spelling: str) -> tuple[Any, Any]:
    """Make the structs of one spelling from the table of names: a row and the whole document."""
    spell = SPELLINGS[spelling]
    link = _struct("Link", {"type": "Type", "name": "Name", "href": "Href"}, spell)
    names = {**dict(shape.fields), "links": "Links"}
    types: dict[str, Any] = {
        column: _TYPES.get(shape.schema.field(column).type, str) | None
        for column, _ in shape.fields
    }
    types["links"] = GenericAlias(list, (link,)) | None
    row = _struct("Row", names, spell, types, lacking=msgspec.UNSET)
    paging_names = {"number": "PageNum", "size": "PageSize", "count": "PagesCount"}
    paging_types = dict.fromkeys(paging_names, int)
    paging = _struct("Paging", paging_names, spell, paging_types, lacking=msgspec.NODEFAULT)
    rows: Any = GenericAlias(dict, (str, GenericAlias(list, (row,)) | None)) | None
    if shape.in_entities:
        rows = _struct("Entities", {"rows": shape.plural}, spell, {"rows": rows}) | None
    holder = {"entities": "Entities" if shape.in_entities else "Refs", "paging": "PagingInfo"}
    document = _struct("Document", holder, spell, {"entities": rows, "paging": paging | None})
    return row, document


def _struct(
    title: str,
    names: dict[str, str],
    spell: Callable[[str], str],
    types: dict[str, Any] | None = None,
    *,
    lacking: Any = None,
) -> Any:
    """Make a struct; `lacking` is what a key is that a document does not have, NODEFAULT: an error."""
    kinds = {name: (types or {}).get(name, str | None) for name in names}
    if lacking is msgspec.UNSET:
        kinds = {name: kind | msgspec.UnsetType for name, kind in kinds.items()}
    fields = [(name, kind, msgspec.field(default=lacking)) for name, kind in kinds.items()]
    rename = {name: spell(vendor) for name, vendor in names.items()}
    return msgspec.defstruct(title, fields, rename=rename, gc=False)


@cache
def _decoder(shape: Shape, spelling: str) -> Any:
    return msgspec.json.Decoder(_structs(shape, spelling)[1], strict=False)


def utf8_bytes(body: bytes, content_type: str, origin: str) -> bytes:
    """Return a body as UTF-8 without a byte-order mark, whatever its charset."""
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_content_charset("utf-8")
    try:
        if codecs.lookup(charset).name not in ("utf-8", "ascii"):
            body = body.decode(charset).encode()
    except (LookupError, UnicodeDecodeError):
        raise wrong(origin, f"text is not {charset}", start_of(body)) from None
    return body.removeprefix(codecs.BOM_UTF8)


def parse_json(body: bytes, origin: str) -> Any:
    """Return the object that a JSON body holds."""
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        raise wrong(origin, f"not JSON ({problem})", f"starting {start_of(body)}") from None
    if not isinstance(tree, dict):
        raise wrong(origin, "expected a JSON object", f"got {start_of(body)}")
    return tree


def lower_keys(tree: Any) -> Any:
    """Lower all keys; of two spellings of a key, the one with a value is kept."""
    if isinstance(tree, dict):
        lowered: Node = {}
        for key, value in tree.items():
            if value is not None or key.lower() not in lowered:
                lowered[key.lower()] = lower_keys(value)
        return lowered
    return [lower_keys(item) for item in tree] if isinstance(tree, list) else tree
