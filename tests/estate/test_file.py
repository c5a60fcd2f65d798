"""The estate file: each entry, each mistake with its line, and what does not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.estate import Document, Estate
from cdpanalytics.estate.file import Objective, Rename, check

ESTATE = """# Our estate
zone = "Europe/Berlin"
tags = "cmdb.csv"
retire_after = "7D"
grace = "4h"
objective = 99.9

[zones]
"vbr01" = "Europe/Berlin"
"*.sydney.example" = "australia/sydney"

[[exclude]]
files = ["ops.csv"]
day_first = true

[[exclude]]
file = "ops.ics"

[objectives.policy]
"Gold*" = "99.95%"
Silver = 99

[objectives.tag.tier]
1 = "99.99 %"

[rename]
app-old = "app-1"

[rename.vbr01]
db-old = "db-7"
"""

CMDB = "vm,tier\napp-*,1\ndb-*,2\nnothing-*,3\n"
OPS = "start;end;vm\n01.11.2026 22:00;02.11.2026 02:00;app-*\n"
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:1
DTSTART:20261103T220000
DTEND:20261104T020000
END:VEVENT
END:VCALENDAR
"""

VMS = pd.DataFrame(
    [("vbr01", "Gold", "app-old"), ("vbr01", "Silver", "db-old"), ("vbr02", "Bronze", "db-old")],
    columns=["backup_server", "policy", "vm"],
)
PERIOD = (pd.Timestamp("2026-11-01", tz="UTC"), pd.Timestamp("2026-12-01", tz="UTC"))


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def parse(text: str) -> Estate:
    return Estate.parse(Document("cdpanalytics.toml", text.encode()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cdpanalytics.toml").write_text(ESTATE)
    (tmp_path / "cmdb.csv").write_text(CMDB)
    (tmp_path / "ops.csv").write_text(OPS)
    (tmp_path / "ops.ics").write_text(CALENDAR)
    return tmp_path


def test_every_entry_is_read(folder: Path) -> None:
    estate = Estate.read(folder)
    assert estate.source == "cdpanalytics.toml"
    assert estate.zone == "Europe/Berlin"
    assert estate.zones == {"vbr01": "Europe/Berlin", "*.sydney.example": "Australia/Sydney"}
    assert (estate.retire_after, estate.grace) == (pd.Timedelta("7D"), pd.Timedelta("4h"))
    assert estate.objective == 0.999
    assert estate.objectives == (
        Objective("policy", "Gold*", 0.9995, 20),
        Objective("policy", "Silver", 0.99, 21),
        Objective("tier", "1", 0.9999, 24),
    )
    assert estate.renames == (
        Rename("app-old", "app-1", None, 27),
        Rename("db-old", "db-7", "vbr01", 30),
    )
    assert estate.tags is not None
    assert estate.tags.names == ("tier",)
    starts = [exclusions.table(*PERIOD)["start"].iloc[0] for exclusions in estate.exclusions]
    assert starts == [utc("2026-11-01 21:00"), utc("2026-11-03 21:00")]
    assert check(folder) == []


def test_provenance_names_the_file_and_each_table_with_its_digest(folder: Path) -> None:
    files = Estate.read(folder).files
    assert list(files) == ["cdpanalytics.toml", "cmdb.csv", "ops.csv", "ops.ics"]
    for name, digest in files.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_a_folder_without_the_file_says_nothing(tmp_path: Path) -> None:
    estate = Estate.beside(tmp_path)
    assert (estate.source, estate.zone, estate.tags, estate.files) == ("", None, None, {})
    frame = pd.DataFrame({"vm": ["a"], "backup_server": ["s"]})
    assert estate.renamed(frame) is frame


def test_local_times_are_of_the_files_zone_else_of_the_zone_asked_for(folder: Path) -> None:
    (folder / "cdpanalytics.toml").write_text("[exclude]\nfiles = 'ops.csv'\nday_first = true\n")
    tokyo = Estate.read(folder, tz="Asia/Tokyo").exclusions[0].table()
    assert tokyo["start"].iloc[0] == utc("2026-11-01 13:00")
    (folder / "cdpanalytics.toml").write_text(ESTATE)
    berlin = Estate.read(folder, tz="Asia/Tokyo").exclusions[0].table()
    assert berlin["start"].iloc[0] == utc("2026-11-01 21:00")


@pytest.mark.parametrize(
    "entry", ['exclude = "ops.ics"', 'exclude = ["ops.ics"]', '[exclude]\nfile = "ops.ics"']
)
def test_exclusions_are_named_in_short_or_at_length(folder: Path, entry: str) -> None:
    (folder / "cdpanalytics.toml").write_text(entry)
    assert len(Estate.read(folder).exclusions) == 1


def test_an_exact_server_goes_before_a_pattern() -> None:
    estate = parse('[zones]\n"*" = "UTC"\n"*.de" = "Europe/Berlin"\n"vbr1.de" = "Asia/Tokyo"\n')
    assert [estate.zone_of(s) for s in ("VBR1.DE", "vbr2.de", "vbr.au")] == [
        "Asia/Tokyo",
        "Europe/Berlin",
        "UTC",
    ]
    assert Estate().zone_of("vbr1.de") is None


def test_a_tags_objective_wins_over_its_policys_and_both_over_the_default() -> None:
    estate = parse(
        'objective = 95\n[objectives.policy]\n"*" = 96\n"Go*" = 97\nGold = 98\n'
        "[objectives.tag.tier]\n1 = 99.9\n[objectives.tag.department]\nShop = 99\n"
    )
    rows = pd.DataFrame(
        [
            ("gold", "1", "Shop"),
            ("gold", "2", "Shop"),
            ("Gold", None, None),
            ("Gon", None, None),
            ("x", None, None),
        ],
        columns=["policy", "tier", "department"],
    )
    assert estate.objectives_of(rows).tolist() == [0.999, 0.99, 0.98, 0.97, 0.96]
    assert estate.objectives_of(rows.iloc[:, :1]).tolist() == [0.98, 0.98, 0.98, 0.97, 0.96]
    assert parse("objective = 95").objectives_of(rows).tolist() == [0.95] * 5
    assert Estate().objectives_of(rows).isna().all()


def test_a_history_goes_on_under_the_new_name() -> None:
    estate = parse('[rename]\na = "b"\nb = "c"\n[rename."vbr0*"]\nx = "y"\n')
    frame = pd.DataFrame(
        {"backup_server": ["vbr01", "s", "vbr01", "s"], "vm": ["A", "b", "X", "x"]}
    )
    assert estate.renamed(frame)["vm"].tolist() == ["c", "c", "y", "x"]
    categories = estate.renamed(frame.astype("category"))["vm"]
    assert categories.dtype == "category"
    assert categories.tolist() == ["c", "c", "y", "x"]


def test_what_does_not_fit_is_told() -> None:
    text = '[rename]\nzz = "y"\n[objectives.policy]\nGolf = 99\nGold = 99\n[zones]\n"vbr*" = "UTC"\nvbx = "UTC"\n'
    estate = parse(text)
    assert [str(finding) for finding in [*estate.unknown_renames(VMS), *estate.findings(VMS)]] == [
        "cdpanalytics.toml, line 2: no VM was ever called 'zz'",
        "cdpanalytics.toml: zone of 'vbx': no backup server fits",
        "cdpanalytics.toml, line 4: objective of policy 'Golf': nothing known fits",
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('zone = "UTC"\nzonne = "UTC"', 2, "unknown entry zonne; did you mean zone?"),
        ("[whatever]\n", 1, "unknown entry whatever; known are zone, zones"),
        ('zone = "Europe/Berln"', 1, "did you mean Europe/Berlin?"),
        ("zone = 7", 1, "zone=7 is not a time zone"),
        (
            '[zones]\nvbr = "UTC"\n"vbr02" = "+02:00"',
            3,
            "an offset does not say when summer time begins",
        ),
        ("zones = 7", 1, "zones must be a table, not 7"),
        ('retire_after = "7"', 1, "retire_after='7' has no unit"),
        ("\ngrace = 4", 2, "grace=4 is not a length of time"),
        ("objective = 1.5", 1, "objective=1.5 is below 50 %; write 1.5% if that is meant"),
        ('[objectives.policy]\n"Gold" = "99,9"', 2, "objective of policy Gold='99,9' has a comma"),
        (
            "[objectives.policies]\nGold = 99",
            1,
            "unknown entry objectives.policies; did you mean policy?",
        ),
        ("[objectives.tag]\ntier = 99", 2, "objectives.tag.tier must be a table, not 99"),
        ("tags = 7", 1, "tags must be a table, not 7"),
        ("[tags]\nfile = 7", 1, "tags must name a file, not 7"),
        ("[tags]\nfiles = 'a.csv'", 2, "unknown entry tags.files; did you mean file?"),
        (
            '[[exclude]]\nfile = "a.csv"\nday_frist = true',
            3,
            "unknown entry exclude.day_frist",
        ),
        ("exclude = 7", 1, "exclude must be a table, not 7"),
        ('[rename]\na = "b"\nb = "A"', 2, "'a' is renamed in a circle"),
        ("[rename]\na = 7", 2, "the new name of 'a' must be text"),
        ("zone = ", 1, "not readable as TOML"),
        ('zone = "UTC"\nzone = "UTC"', 2, "not readable as TOML"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        parse(text)
    assert str(raised.value).startswith(f"cdpanalytics.toml, line {line}: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_check_returns_all_mistakes_by_line(folder: Path) -> None:
    (folder / "cdpanalytics.toml").write_text(
        'zone = "Nowhere"\ntags = "missing.csv"\nretire_after = "1M"\n[[exclude]]\nfile = "ops.csv"\n'
        "[objectives.tag.tier]\n1 = 0\n"
    )
    findings = check(folder)
    assert [finding.line for finding in findings] == [1, 2, 3, 4, 7]
    assert "missing.csv" in findings[1].message
    # The table is read, and its own line is part of the message.
    assert findings[3].message.startswith("ops.csv, line 2: ")
    with pytest.raises(InputError, match=r"line 1: .* \(4 more: cdpanalytics doctor lists them\)"):
        Estate.read(folder)


def test_a_tag_that_no_table_has_is_told(folder: Path) -> None:
    (folder / "cdpanalytics.toml").write_text('tags = "cmdb.csv"\n[objectives.tag.tire]\n1 = 99\n')
    assert [str(finding) for finding in check(folder)] == [
        "cdpanalytics.toml, line 2: 'tire' is not a tag of cmdb.csv (has: tier)"
    ]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "cannot read" in check(tmp_path / "no.toml")[0].message
    with pytest.raises(InputError, match="cannot read"):
        Estate.read(tmp_path / "no.toml")
    (tmp_path / "latin.toml").write_bytes('zone = "é"'.encode("latin-1"))
    assert check(tmp_path / "latin.toml")[0].message == "not UTF-8, as TOML must be"


def test_without_a_loader_a_table_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"cannot read cmdb\.csv: only the estate file itself was given"
    ):
        parse('tags = "cmdb.csv"')


def test_a_low_objective_is_a_slip_worth_a_warning() -> None:
    with pytest.warns(UserWarning, match="objective=0.5 is only 50 %"):
        assert parse("objective = 0.5").objective == 0.5
