"""Tables of the customer: each way to write one gives the same cells."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.estate.tables import (
    Document,
    cells_of_document,
    cells_of_frame,
    named_columns,
    read_document,
    text_of,
)

ROWS = ((2, ("sql-1", "Größe, groß")), (3, ("web-1", None)))


def workbook(*rows: tuple[object, ...]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("Second").append(["not read"])
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        'vm,note\nsql-1,"Größe, groß"\nweb-1,\n'.encode(),
        "vm;note\r\nsql-1;Größe, groß\r\nweb-1;\r\n".encode(),
        "vm\tnote\nsql-1\tGröße, groß\nweb-1\t\n".encode("utf-8-sig"),
        "vm;note\r\nsql-1;Größe, groß\r\nweb-1;\r\n;\r\n\r\n".encode("cp1252"),
        "vm;note\nsql-1;Größe, groß\nweb-1;\n".encode("utf-16"),
    ],
    ids=["commas", "semicolons", "tabs", "windows", "utf-16"],
)
def test_csv_is_read_however_it_was_saved(data: bytes) -> None:
    cells = cells_of_document(Document("cmdb.csv", data))
    assert cells.heads == ("vm", "note")
    assert cells.rows == ROWS


def test_the_first_sheet_of_a_workbook_is_read_with_its_rows_as_lines() -> None:
    data = workbook(
        ("vm", "when", None),
        ("sql-1", datetime(2026, 11, 1, 22), None),
        (None, None),
        ("web-1", None),
    )
    cells = cells_of_document(Document("cmdb.xlsx", data))
    assert cells.heads == ("vm", "when")
    assert cells.rows == ((2, ("sql-1", datetime(2026, 11, 1, 22))), (4, ("web-1", None)))


def test_parquet_and_frames_number_their_rows() -> None:
    frame = pd.DataFrame({"vm": ["sql-1", "web-1"], "tier": [1.0, None]})
    stream = io.BytesIO()
    frame.to_parquet(stream)
    for cells in (
        cells_of_document(Document("t.parquet", stream.getvalue())),
        cells_of_frame(frame, "t"),
    ):
        assert cells.rows == ((1, ("sql-1", 1.0)), (2, ("web-1", None)))


def test_lines_are_those_of_the_file_even_where_a_cell_has_several() -> None:
    data = b'sep=;\nvm;note\n\nsql-1;"two\nlines"\nweb-1;x\n'
    cells = cells_of_document(Document("t.csv", data))
    assert [line for line, _ in cells.rows] == [4, 6]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("t.csv", b"", "t.csv is empty"),
        ("t.csv", b"\n\n", "t.csv is empty"),
        ("t.csv", b"vm,tier\na,1\nb,2,3\n", "t.csv, line 3: 3 cells"),
        ("t.csv", b"vm,tier\na\n", "t.csv, line 2: 1 cells"),
        ("t.csv", b"vm,tier,Tier\na,1,2\n", "two columns are called"),
        ("t.csv", b"vm,\na,1\n", "a column has no head"),
        ("t.csv", b'vm,tier\n"a,1\n', "t.csv, line 2: not readable as CSV"),
        ("t.csv", bytes(range(256)), "not a text file"),
        ("t.csv", b"PK\x03\x04rest", "save it as .xlsx or .csv"),
        ("t.xlsx", b"not a workbook", "not a workbook that can be read"),
        ("t.xlsx", workbook(), "its first sheet is empty"),
        ("t.parquet", b"PAR1 no", "not a Parquet file"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        cells_of_document(Document(name, data))
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*cmdb\.csv: No such file"):
        read_document(tmp_path / "cmdb.csv")
    with pytest.raises(InputError, match="cannot read"):
        read_document(tmp_path)


def test_a_document_knows_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"abc")
    document = read_document(tmp_path / "a.csv")
    assert document.name == "a.csv"
    assert document.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_heads_are_known_in_two_languages_or_named() -> None:
    heads = {"vm": ("vm", "maschine"), "owner": ("owner",)}
    cells = cells_of_frame(pd.DataFrame(columns=["Maschine", "Asset", "tier"]), "t")
    assert named_columns(cells, heads) == {"vm": "Maschine"}
    assert named_columns(cells, heads, {"owner": "asset"}) == {"owner": "Asset", "vm": "Maschine"}
    assert named_columns(cells, heads, {"vm": "Asset"}) == {"vm": "Asset"}
    with pytest.raises(InputError, match="columns names 'vn', which is not one of vm, owner"):
        named_columns(cells, heads, {"vn": "Asset"})
    with pytest.raises(InputError, match=r"t has no column 'Aset' \(has: Maschine, Asset, tier\)"):
        named_columns(cells, heads, {"vm": "Aset"})
    both = cells_of_frame(pd.DataFrame(columns=["VM", "Maschine"]), "t")
    with pytest.raises(InputError, match="heads 'VM' and 'Maschine' both mean vm"):
        named_columns(both, heads)


@pytest.mark.parametrize(
    ("cell", "text"), [(" a ", "a"), (1, "1"), (1.0, "1"), (1.5, "1.5"), ("", None), (None, None)]
)
def test_cells_are_names_as_text(cell: object, text: str | None) -> None:
    assert text_of(cell) == text


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=r"^cannot read .*(surrogates|null)"):
        read_document(name)
