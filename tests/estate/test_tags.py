"""Tags: the most specific row wins, for each column by itself; what fits nothing is told."""

from __future__ import annotations

import io
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.estate import Document, Tags
from cdpanalytics.metrics import status

CMDB = """vm,backup_server,department,tier,owner
app-*,,Retail,1,team-app
db-7,,Shop,1,team-db
db-*,,Shop,2,team-db
fileserver,vbr02.example,Facilities,3,
no-such-vm,,Retail,1,team-app
"""

VMS = pd.DataFrame(
    [
        ("vbr01.example", "app-1", "Gold"),
        ("vbr01.example", "DB-7", "Gold"),
        ("vbr01.example", "db-8", "Silver"),
        ("vbr01.example", "fileserver", "Silver"),
        ("vbr02.example", "fileserver", "Silver"),
    ],
    columns=["backup_server", "vm", "policy"],
)


def tags_of(text: str, vms: pd.DataFrame = VMS) -> pd.DataFrame:
    return Tags.read(Document("cmdb.csv", text.encode())).columns_for(vms)


def listed(column: pd.Series) -> list[str | None]:
    return [None if pd.isna(value) else value for value in column]


def test_the_most_specific_row_wins_and_a_name_on_two_servers_is_two_vms() -> None:
    tags = tags_of(CMDB)
    assert listed(tags["department"]) == ["Retail", "Shop", "Shop", None, "Facilities"]
    assert listed(tags["tier"]) == ["1", "1", "2", None, "3"]
    assert listed(tags["owner"]) == ["team-app", "team-db", "team-db", None, None]
    assert list(tags.columns) == ["department", "tier", "owner"]


def test_what_fits_nothing_and_who_has_no_tag_is_told() -> None:
    findings = Tags.read(Document("cmdb.csv", CMDB.encode())).findings(VMS)
    assert list(map(str, findings)) == [
        "cmdb.csv, line 6: names nothing known: VM no-such-vm",
        "cmdb.csv: 1 of 5 VMs without department: fileserver (vbr01.example)",
        "cmdb.csv: 1 of 5 VMs without tier: fileserver (vbr01.example)",
        "cmdb.csv: 2 of 5 VMs without owner: fileserver (vbr01.example), fileserver (vbr02.example)",
    ]


def test_vms_of_an_unknown_server_are_told_too() -> None:
    vms = pd.DataFrame({"backup_server": [None, "s", None], "vm": ["b", "a", "a"], "policy": None})
    tags = Tags.read(pd.DataFrame({"vm": ["b"], "tier": ["1"]}))
    assert list(map(str, tags.findings(vms))) == ["tags: 2 of 3 VMs without tier: a, a (s)"]


def test_each_level_goes_before_the_next_whatever_the_order_of_rows() -> None:
    rows = [
        ("a-1", "s1", None, "exact and server"),
        ("a-1", None, None, "exact"),
        ("a*", "s1", None, "pattern and server"),
        ("a-?", None, None, "longer pattern"),
        ("*", None, None, "pattern"),
        (None, None, "Gold", "policy"),
    ]
    table = pd.DataFrame(rows, columns=["vm", "backup_server", "policy", "tag"])
    vms = pd.DataFrame({"backup_server": ["s1"], "vm": ["a-1"], "policy": ["Gold"]})
    for start in range(len(rows)):
        left = table.iloc[start:].sample(frac=1, random_state=start)
        assert Tags.read(left).columns_for(vms)["tag"].tolist() == [rows[start][3]]


def test_of_equal_rows_the_first_decides_and_an_empty_cell_decides_nothing() -> None:
    text = "vm;a;b\nx-1;;first\nx-1;second;second\nx-*;pattern;\n"
    vms = pd.DataFrame({"backup_server": ["s"], "vm": ["x-1"], "policy": ["p"]})
    assert tags_of(text, vms).iloc[0].tolist() == ["second", "first"]


def test_a_row_by_policy_tags_the_time_of_the_policy() -> None:
    vms = pd.DataFrame({"backup_server": "s", "vm": "x", "policy": ["Gold", "Silver", None]})
    assert listed(tags_of("policy,tier\ngold,1\nSilv*,2\n", vms)["tier"]) == ["1", "2", None]


def test_sessions_take_their_tags_by_row_and_keep_their_index() -> None:
    sessions = VMS.loc[[4, 0, 4]].astype("category").set_index(pd.Index([7, 8, 9]))
    tags = tags_of(CMDB, sessions)
    assert tags["department"].to_dict() == {7: "Facilities", 8: "Retail", 9: "Facilities"}


def test_missing_names_and_an_empty_frame_have_no_tag() -> None:
    vms = pd.DataFrame({"backup_server": [None], "vm": [None], "policy": [None]}, dtype="str")
    assert listed(tags_of("vm,tier\n*,1\n", vms)["tier"]) == [None]
    assert tags_of(CMDB, VMS.iloc[:0]).shape == (0, 3)


def test_csv_workbook_parquet_and_frame_give_the_same_tags(tmp_path: Path) -> None:
    frame = pd.read_csv(io.StringIO(CMDB))
    frame.to_csv(tmp_path / "a.csv", sep=";", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    book = openpyxl.Workbook()
    for row in [
        list(frame.columns),
        *frame.astype("object").where(frame.notna(), None).values.tolist(),
    ]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    expected = tags_of(CMDB)
    for source in (frame, *(tmp_path / f"a.{suffix}" for suffix in ("csv", "parquet", "xlsx"))):
        tags = Tags.read(source)
        pd.testing.assert_frame_equal(tags.columns_for(VMS), expected)
        assert list(tags.files) == ([] if source is frame else [source.name])


def test_german_and_own_heads() -> None:
    text = "Maschine;Sicherungsserver;Abteilung\napp-1;;Vertrieb\n"
    assert tags_of(text)["Abteilung"].iloc[0] == "Vertrieb"
    own = Tags.read(Document("t.csv", b"Asset,dept\napp-1,Sales\n"), columns={"vm": "asset"})
    assert own.columns_for(VMS)["dept"].iloc[0] == "Sales"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,tier\na,1\n", "no column vm or policy (has: name, tier)"),
        ("vm,policy\na,\n", "no tag"),
        ("vm,result\na,1\n", "a tag cannot be called 'result'"),
        ("vm,window\na,1\n", "a tag cannot be called 'window'"),
        ("vm,Age\na,1\n", "a tag cannot be called 'Age'"),
        ("vm,policy,tier\na,Gold,1\n", "t.csv, line 2: names both a VM and a policy"),
        ("vm,backup_server,tier\na,,1\n,s,2\n", "t.csv, line 3: names neither a VM nor a policy"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        Tags.read(Document("t.csv", text.encode()))
    assert reason in str(raised.value)


def test_a_tag_cannot_have_the_name_of_a_column_of_status() -> None:
    """`Selection.status` shows all tags beside its own columns."""
    day = pd.Timestamp("2026-10-01", tz="UTC")
    sessions = pd.DataFrame({"vm": ["a"], "created": day, "ended": day + pd.Timedelta("1h")})
    for name in set(status(sessions)) - {"backup_server", "policy", "vm"}:
        with pytest.raises(InputError, match=f"a tag cannot be called '{name}'"):
            Tags.read(Document("t.csv", f"vm,{name}\na,1\n".encode()))


def test_a_frame_without_the_keys_is_refused() -> None:
    with pytest.raises(InputError, match=r"no column 'backup_server'; tags need .* \(has: vm\)"):
        tags_of(CMDB, pd.DataFrame({"vm": ["a"]}))


def test_two_thousand_vms_and_as_many_rows() -> None:
    count = 2000
    table = pd.DataFrame(
        {"vm": [f"VM-{n}" for n in range(count)], "tier": [str(n % 3) for n in range(count)]}
    )
    vms = pd.DataFrame(
        {"backup_server": "s", "vm": [f"vm-{n}" for n in range(count)], "policy": "p"}
    )
    sessions = pd.concat([vms] * 20, ignore_index=True)
    assert (
        Tags.read(table).columns_for(sessions)["tier"].tolist()
        == [str(n % 3) for n in range(count)] * 20
    )
