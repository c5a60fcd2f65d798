"""Read the customer's tables (CSV, workbook, Parquet, frames) as cells that know their line."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import pandas as pd

from cdpanalytics.errors import InputError

_DELIMITERS: Final = ";,\t|"
_WORKBOOKS: Final = (".xlsx", ".xlsm")
_MAX_BYTES: Final = 100 * 2**20


@dataclass(frozen=True)
class Finding:
    """What a check of a table or of the estate file has to say; nothing is wrong with reading it.

    Attributes
    ----------
    source : str
        The file's name, or what a frame is an argument of.
    line : int or None
        Line of the text file, row of the sheet, or number of the row in a frame, from 1.
    message : str
        One line.
    """

    source: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{place(self.source, self.line)}: {self.message}"


@dataclass(frozen=True)
class Document:
    """A file's name and bytes, wherever they came from."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Cells:
    """A table of cells as they were written: text, dates, numbers; None where empty.

    Attributes
    ----------
    source : str
        What messages call it.
    heads : tuple of str
        Its columns, in order.
    rows : tuple of (int, tuple)
        Line number and cells of each row that is not empty.
    """

    source: str
    heads: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Any, ...]], ...]

    def column(self, head: str) -> list[Any]:
        """Return the cells of a column."""
        position = self.heads.index(head)
        return [cells[position] for _, cells in self.rows]


def place(source: str, line: int | None) -> str:
    """Return where a message points to.

    Examples
    --------
    >>> place("maintenance.csv", 4)
    'maintenance.csv, line 4'
    """
    return source if line is None else f"{source}, line {line}"


def read_document(path: str | os.PathLike[str]) -> Document:
    """Read a file; the name kept is its last part.

    Raises
    ------
    InputError
        If it cannot be read, or is larger than 100 MB.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            body = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as problem:  # a name that the system cannot have is a ValueError
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InputError(f"cannot read {name}: {reason}") from None
    if len(body) > _MAX_BYTES:
        raise InputError(f"{name} is larger than 100 MB; a table of the estate is small")
    return Document(PurePath(name).name, body)


def cells_of_document(document: Document) -> Cells:
    """Return the cells of a CSV file, a workbook's first sheet, or a Parquet file.

    CSV may have commas, semicolons, tabs or bars between its cells, and be UTF-8, UTF-16 or,
    as Excel writes it in the West, Windows-1252.

    Raises
    ------
    InputError
        If it is none of these, has no heads, a head twice, or a row of another length.
    """
    suffix = PurePath(document.name).suffix.lower()
    if suffix in _WORKBOOKS:
        return _workbook(document)
    if suffix == ".parquet" or document.data[:4] == b"PAR1":
        return cells_of_frame(_parquet(document), document.name)
    if document.data[:4] == b"PK\x03\x04" or suffix in (".xls", ".ods"):
        raise InputError(f"{document.name} is not a table this can read; save it as .xlsx or .csv")
    return _csv(document)


def cells_of_frame(frame: pd.DataFrame, source: str) -> Cells:
    """Return the cells of a frame; its rows are numbered from 1.

    Examples
    --------
    >>> cells_of_frame(pd.DataFrame({"vm": ["a", None], "tier": [1, 2]}), "tags").rows
    ((1, ('a', 1)), (2, (None, 2)))
    """
    lists = [_plain(frame.iloc[:, position]) for position in range(frame.shape[1])]
    rows = enumerate(zip(*lists, strict=True), 1)
    return _checked(source, [str(column) for column in frame.columns], rows)


def text_of(cell: object) -> str | None:
    """Return a cell as the text of a name or tag; None where it is empty.

    Examples
    --------
    >>> text_of(" Finance "), text_of(1.0), text_of(""), text_of(True)
    ('Finance', '1', None, 'True')
    """
    if cell is None:
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def folded(head: str) -> str:
    """Return a head as heads are compared: in lower case, without accents and signs.

    Examples
    --------
    >>> folded(" Backup-Server "), folded("Größe (GB)")
    ('backupserver', 'grossegb')
    """
    plain = unicodedata.normalize("NFKD", head.casefold())
    return re.sub(r"[^0-9a-z]", "", plain)


def named_columns(
    cells: Cells, heads: Mapping[str, Iterable[str]], columns: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return which head of a table holds which known column.

    Parameters
    ----------
    cells : Cells
        The table.
    heads : dict of str to iterable of str
        Each known column, and the `folded` heads that mean it.
    columns : dict of str to str, optional
        Known columns and the table's own heads for them; these go first.

    Raises
    ------
    InputError
        If `columns` names what is not a known column or not a head, or two heads mean one
        column.
    """
    named: dict[str, str] = {}
    for column, head in (columns or {}).items():
        named[_known_column(column, heads)] = _own_head(cells, head)
    for head in cells.heads:
        meant = _meant(head, heads)
        if meant is None or meant in (columns or {}) or head in named.values():
            continue
        if meant in named:
            raise InputError(
                f"{cells.source}: heads {named[meant]!r} and {head!r} both mean {meant}; "
                f"say which: columns={{{meant!r}: {head!r}}}"
            )
        named[meant] = head
    return named


def _meant(head: str, heads: Mapping[str, Iterable[str]]) -> str | None:
    return next((column for column, words in heads.items() if folded(head) in words), None)


def _known_column(column: str, heads: Mapping[str, Iterable[str]]) -> str:
    if column not in heads:
        raise InputError(f"columns names {column!r}, which is not one of {', '.join(heads)}")
    return column


def _own_head(cells: Cells, head: str) -> str:
    for each in cells.heads:
        if each.casefold() == str(head).strip().casefold():
            return each
    raise InputError(f"{cells.source} has no column {head!r} (has: {', '.join(cells.heads)})")


# -- readers ---------------------------------------------------------------------------


def _csv(document: Document) -> Cells:
    text = _decoded(document)
    lines = text.splitlines()
    skip = 1 if lines and lines[0].lower().startswith("sep=") else 0  # Excel's hint to itself
    head = next((line for line in lines[skip:] if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", head)
    delimiter = max(_DELIMITERS, key=bare.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, tuple[Any, ...]]] = []
    begin = 1
    try:
        for cells in reader:
            if begin > skip:
                rows.append((begin, tuple(cell.strip() or None for cell in cells)))
            begin = reader.line_num + 1
    except csv.Error as problem:
        raise InputError(
            f"{place(document.name, begin)}: not readable as CSV ({problem})"
        ) from None
    rows = [row for row in rows if any(cell is not None for cell in row[1])]
    if not rows:
        raise InputError(f"{document.name} is empty; its first line must name the columns")
    return _checked(document.name, list(rows[0][1]), rows[1:])


def _decoded(document: Document) -> str:
    data = document.data
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ["utf-16"] if marked else ["utf-8-sig", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise InputError(f"{document.name} is not a text file; save it as CSV in UTF-8")


def _workbook(document: Document) -> Cells:
    from openpyxl import load_workbook

    try:
        book = load_workbook(io.BytesIO(document.data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        values = list(sheet.iter_rows(values_only=True))
    except Exception as problem:  # openpyxl lets errors of zipfile, XML and its own through
        kind = type(problem).__name__
        raise InputError(f"{document.name} is not a workbook that can be read ({kind})") from None
    rows = [(line, tuple(map(_cell, cells))) for line, cells in enumerate(values, 1)]
    rows = [row for row in rows if any(cell is not None for cell in row[1])]
    if not rows:
        raise InputError(f"{document.name}: its first sheet is empty")
    return _checked(document.name, list(rows[0][1]), rows[1:])


def _parquet(document: Document) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(document.data))
    except Exception as problem:  # Arrow raises errors of many kinds for what is not Parquet
        kind = type(problem).__name__
        raise InputError(
            f"{document.name} is not a Parquet file that can be read ({kind})"
        ) from None


def _plain(column: pd.Series) -> list[Any]:
    return [
        None if missing else _cell(value)
        for value, missing in zip(column, column.isna(), strict=True)
    ]


def _cell(value: object) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _checked(
    source: str, heads: Sequence[Any], rows: Iterable[tuple[int, tuple[Any, ...]]]
) -> Cells:
    """Return the table without columns that have neither a head nor a cell."""
    listed = list(rows)
    used = [
        position
        for position, head in enumerate(heads)
        if head is not None or any(len(c) > position and c[position] is not None for _, c in listed)
    ]
    names = [None if heads[position] is None else str(heads[position]).strip() for position in used]
    if not names or None in names:
        raise InputError(f"{source}: a column has no head; its first line must name the columns")
    folds = [name.casefold() for name in names if name]
    for name in filter(None, names):
        if folds.count(name.casefold()) > 1:
            raise InputError(f"{source}: two columns are called {name!r}; rename one")
    for line, cells in listed:
        if len(cells) < len(heads) or any(cell is not None for cell in cells[len(heads) :]):
            raise InputError(
                f"{place(source, line)}: {len(cells)} cells, but the first line names {len(heads)} columns"
            )
    kept = tuple((line, tuple(cells[position] for position in used)) for line, cells in listed)
    return Cells(source, tuple(name for name in names if name), kept)
