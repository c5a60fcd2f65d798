"""Columns of raw values to Arrow tables, with checked cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.errors import WireError
from cdpanalytics.server.responses.nodes import SECOND, Columns, bool_of
from cdpanalytics.server.responses.problems import wrong

_BARE_GUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
GUID: Final = rf"(?P<guid>{_BARE_GUID})(?:[/?#].*)?$"
_ENDS_WITH_GUID: Final = rf"^[^/?#]*{_BARE_GUID}$"
_TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)?$"
_FIRST_TIME: Final = pa.scalar(-62_135_510_400 * SECOND, schema.INSTANT)
"""The second day of year 1: the server writes an earlier time where it has none."""


def build_table(
    raw: Columns,
    shape: pa.Schema,
    vendor: dict[str, str],
    required: Sequence[str],
    origin: str,
) -> pa.Table:
    """Turn columns of what the server wrote into a table, or name the first wrong cell."""
    arrays: dict[str, pa.Array] = {}
    for column in sorted(shape.names, key=lambda name: name not in required):
        field, cell = shape.field(column), _Cell(origin, vendor.get(column, column), arrays)
        values, link = raw.get(column), raw.get(f"link {column}")
        cells = None if values is None else _cells(values, field, False, cell)
        if link is not None and (cells is None or cells.null_count):
            linked = _cells(link, field, True, cell)
            cells = linked if cells is None else _coalesce(cells, linked)
        arrays[column] = cells
        if column in required and arrays[column].null_count:
            row = arrays[column].is_null().index(pa.scalar(True)).as_py()
            raise _Cell(origin, vendor.get(column, column), arrays).missing(row)
    return pa.table([_cast(arrays[f.name], f.type) for f in shape], schema=shape)


def _coalesce(direct: pa.Array, link: pa.Array) -> pa.Array:
    plain = (
        each.cast(pa.string()) if pa.types.is_dictionary(each.type) else each
        for each in (direct, link)
    )
    return pc.coalesce(*plain)


@dataclass(frozen=True)
class _Cell:
    """Where a column came from, to say which of its cells is wrong."""

    origin: str
    field: str
    arrays: dict[str, pa.Array]

    def missing(self, row: int) -> WireError:
        return wrong(self.origin, f"{self._row_name(row)} has no {self.field}")

    def wrong(self, row: int, what: str, seen: object) -> WireError:
        return wrong(self.origin, f"{self.field} of {self._row_name(row)} is {what}", repr(seen))

    def _row_name(self, row: int) -> str:
        uid = self.arrays["uid"][row].as_py() if "uid" in self.arrays else None
        return f"row {row + 1} ({uid})" if uid else f"row {row + 1}"


def _cells(values: Sequence[Any], field: pa.Field, loose: bool, cell: _Cell) -> pa.Array:
    if field.type == pa.int64():
        return _integers(values, cell)
    if field.type == pa.bool_():
        return pa.array(map(bool_of, values), field.type)
    if not pa.types.is_timestamp(field.type) and field.type not in (pa.string(), schema.LABEL):
        return pa.array(values, pa.int64() if field.type == schema.SPAN else field.type)
    texts = _texts(values, cell)
    if field.type == schema.INSTANT:
        return _instants(texts, cell)
    if field.name in ("state", "result"):
        return _map_labels(texts, _canonical)
    if field.name == "uid":
        return _guids(texts, loose, cell)
    if field.name.endswith("_uid"):
        return _map_labels(texts, lambda unique: _guids(unique, loose, cell))
    return texts


def _texts(values: Sequence[Any], cell: _Cell) -> pa.Array:
    try:
        texts = pa.array(values, pa.string())
    except (pa.ArrowException, TypeError, UnicodeError):
        row = next(i for i, value in enumerate(values) if not isinstance(value, str | None))
        raise cell.wrong(row, "not text", values[row]) from None
    if "" not in values:
        return texts
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _integers(values: Sequence[Any], cell: _Cell) -> pa.Array:
    with suppress(pa.ArrowException, OverflowError):
        return pa.array(values, pa.int64())
    try:
        return pa.array([int(v) if v not in (None, "") else None for v in values], pa.int64())
    except (pa.ArrowException, OverflowError, ValueError):
        row = next(i for i, value in enumerate(values) if not _is_int64(value))
        raise cell.wrong(row, "not a whole number", values[row]) from None


def _is_int64(value: Any) -> bool:
    try:
        return value in (None, "") or -(2**63) <= int(value) < 2**63
    except ValueError:
        return False


def _instants(texts: pa.Array, cell: _Cell) -> pa.Array:
    """Read times: all at once as they are mostly written, else each for what it is."""
    marks = pc.binary_slice(texts.cast(pa.binary()), 10, 17, 3)
    if pc.all(pc.and_(pc.equal(marks, b"T::"), pc.ends_with(texts, "Z"))).as_py():
        with suppress(pa.ArrowInvalid):
            read = texts.cast(schema.INSTANT)
            return pc.if_else(pc.less(read, _FIRST_TIME), pa.scalar(None, schema.INSTANT), read)
    return _uncommon_instants(texts, cell)


def _uncommon_instants(texts: pa.Array, cell: _Cell) -> pa.Array:
    texts = pc.if_else(pc.starts_with(texts, "0001-01-01"), pa.scalar(None, pa.string()), texts)
    right = pc.match_substring_regex(texts, _TIME)
    if not pc.all(right).as_py() and pc.any(pc.invert(right)).as_py():
        row = right.index(pa.scalar(False)).as_py()
        raise cell.wrong(row, "not a time", texts[row].as_py())
    fraction = pc.replace_substring_regex(pc.utf8_slice_codeunits(texts, 20, 26), r"\D.*$", "")
    whole = pc.utf8_slice_codeunits(texts, 0, 19)
    micros = pc.binary_join_element_wise(whole, pc.utf8_rpad(fraction, 6, "0"), ".")
    try:
        return micros.cast(pa.timestamp("us")).cast(schema.INSTANT)
    except pa.ArrowInvalid:
        row = next(i for i, text in enumerate(micros.to_pylist()) if not _is_date(text))
        raise cell.wrong(row, "not a time", texts[row].as_py()) from None


def _is_date(text: str | None) -> bool:
    try:
        return text is None or bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _guids(texts: pa.Array, loose: bool, cell: _Cell) -> pa.Array:
    lower = pc.ascii_lower(texts)
    if pc.all(pc.match_substring_regex(lower, _ENDS_WITH_GUID)).as_py():
        return pc.binary_slice(lower.cast(pa.binary()), -36).cast(pa.string())
    matches = pc.extract_regex(lower, GUID)
    guids = pc.struct_field(matches, "guid")
    if not loose and guids.null_count > texts.null_count:
        row = pc.and_(guids.is_null(), texts.is_valid()).index(pa.scalar(True)).as_py()
        raise wrong(cell.origin, f"{cell.field} holds no GUID", repr(texts[row].as_py()))
    return guids


def _canonical(words: pa.Array) -> pa.Array:
    canonical = {word.lower(): word for word in (*schema.STATES, *schema.RESULTS)}
    return pa.array([canonical.get(w.lower(), w) for w in words.to_pylist()], pa.string())


def _map_labels(texts: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return labels to which a change was applied, once each rather than once a row."""
    codes = texts.dictionary_encode()
    changed = change(codes.dictionary).dictionary_encode()
    return pa.DictionaryArray.from_arrays(changed.indices.take(codes.indices), changed.dictionary)


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values.dictionary_encode() if kind == schema.LABEL else values.cast(kind)
