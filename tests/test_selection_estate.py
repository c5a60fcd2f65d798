"""The analyst's own words: tags, exclusions, zones and the estate file, the same by every door."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import InputError
from cdpanalytics.execution.partition import BYTES_PER_SESSION, WORKER_OVERHEAD_BYTES, listing
from cdpanalytics.metrics.core.policies import listed_vms
from cdpanalytics.presentation import formatting
from cdpanalytics.ranges import Range
from tests.builders import START, RandomArchive, put, random_archive

pytestmark = pytest.mark.slow

SINCE, UNTIL = START + pd.Timedelta("1D"), START + pd.Timedelta("11D")
VM = ["backup_server", "policy", "vm"]
CMDB = "vm,department\nvm-0,Finance\nvm-1,Sales\nvm-2,Finance\nvm-3,Sales\nghost,Nowhere\n"


@pytest.fixture
def drawn(tmp_path: Path) -> RandomArchive:
    return random_archive(tmp_path / "archive", 1)


@pytest.fixture
def cmdb(tmp_path: Path) -> Path:
    path = tmp_path / "cmdb.csv"
    path.write_text(CMDB)
    return path


def test_departments_are_sums_of_their_vms(drawn: RandomArchive, cmdb: Path) -> None:
    selection = drawn.archive.select(since=SINCE, until=UNTIL, tags=cmdb)
    by_vm = selection.rpo_adherence(by=["department", *VM])
    by_department = selection.rpo_adherence(by="department").set_index("department")
    sums = by_vm.groupby("department")[["observed", "breached"]].sum()
    assert_frame_equal(
        by_department.loc[sums.index, ["observed", "breached"]], sums, check_dtype=False
    )
    assert set(by_department.index.dropna()) == {"Finance", "Sales"}
    assert any("ghost" in line for line in selection.findings()), "what fits nothing is told"


def test_a_filter_by_tag_is_the_tags_own_row(drawn: RandomArchive, cmdb: Path) -> None:
    whole = drawn.archive.select(since=SINCE, until=UNTIL, tags=cmdb)
    finance = drawn.archive.select(since=SINCE, until=UNTIL, tags=cmdb, tag={"department": "fin*"})
    row = whole.rpo_adherence(by="department").query("department == 'Finance'")
    assert_frame_equal(
        finance.rpo_adherence(by="department").query("department == 'Finance'").reset_index(drop=True),
        row.reset_index(drop=True), check_exact=True, check_dtype=False,
    )  # fmt: skip
    assert set(finance.sessions["vm"]) == {"vm-0", "vm-2"}
    ranges = finance.using(memory=WORKER_OVERHEAD_BYTES + 120 * BYTES_PER_SESSION, workers=1)
    assert_frame_equal(
        ranges.rpo_adherence(by="vm"), finance.rpo_adherence(by="vm"), check_exact=True
    )
    with pytest.raises(InputError, match="matches 'Marketing'"):
        whole.where(tag={"department": "Marketing"}).gaps()


def test_one_estate_file_serves_every_door(
    drawn: RandomArchive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(drawn.archive.path)
    (folder / "cmdb.csv").write_text(CMDB)
    (folder / "night.csv").write_text(
        "start,end,vm,reason,owner\n2026-10-03 22:00,2026-10-04 02:00,vm-*,patches,ops\n"
    )
    (folder / "cdpanalytics.toml").write_text(
        'zone = "Europe/Berlin"\ntags = "cmdb.csv"\nexclude = "night.csv"\nretire_after = "3D"\n'
        'objective = 99.0\n[objectives.policy]\n"Gold" = 99.9\n'
    )
    selection = drawn.archive.select(since=SINCE, until=UNTIL)
    assert selection.tz == "Europe/Berlin"
    assert selection.exclusions["start"].unique().tolist() == [pd.Timestamp("2026-10-03 20:00Z")]
    assert set(selection.exclusions["reason"]) == {"patches"}
    explicit = drawn.archive.select(
        since=SINCE, until=UNTIL, tz="Europe/Berlin", exclude=folder / "night.csv", retire_after="3D",
        tags=folder / "cmdb.csv", estate=False,
    )  # fmt: skip
    table = selection.rpo_adherence(by=["department", "vm"])
    assert_frame_equal(table, explicit.rpo_adherence(by=["department", "vm"]), check_exact=True)
    objectives = selection.objectives(by="policy").set_index("policy")["objective"]
    assert objectives["Gold"] == pytest.approx(0.999)
    assert objectives["Silver"] == pytest.approx(0.99)
    options = ["--archive", str(folder), "--since", SINCE.isoformat(), "--until", UNTIL.isoformat()]
    assert main(["metrics", "rpo", *options, "--by", "department,vm", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(formatting.json_text(table))
    page = selection.report(tmp_path / "report.html").read_text()
    assert formatting.share(selection.rpo_adherence(by=()).iloc[0]["adherence"]) in page
    files = selection.provenance()["estate"]
    assert {"cdpanalytics.toml", "cmdb.csv", "night.csv"} <= {Path(name).name for name in files}
    without = drawn.archive.select(since=SINCE, until=UNTIL, exclude=False, retire_after=False)
    assert without.exclusions.empty
    assert (
        without.rpo_adherence(by=()).iloc[0]["observed"]
        > selection.rpo_adherence(by=()).iloc[0]["observed"]
    )


def test_a_renamed_vm_is_one_vm(drawn: RandomArchive) -> None:
    folder = Path(drawn.archive.path)
    before = drawn.archive.select(since=SINCE, until=UNTIL).rpo_adherence(by="vm").set_index("vm")
    (folder / "cdpanalytics.toml").write_text('[rename]\nvm-0 = "web-1"\n')
    after = drawn.archive.select(since=SINCE, until=UNTIL).rpo_adherence(by="vm").set_index("vm")
    assert "vm-0" not in after.index
    assert after.loc["web-1", "observed"] == before.loc["vm-0", "observed"]


@pytest.mark.parametrize("period", ["2026-10-05", "2026-W41", "2026-10"])
def test_periods_are_calendar_periods_of_the_zone(drawn: RandomArchive, period: str) -> None:
    selection = drawn.archive.select(period, tz="Europe/Berlin")
    start, stop = selection.window
    assert start is not None
    assert stop is not None
    assert start.tz_convert("Europe/Berlin").hour == 0
    assert stop.tz_convert("Europe/Berlin").hour == 0


def test_a_wrong_estate_file_is_one_line(
    drawn: RandomArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(drawn.archive.path)
    (folder / "cdpanalytics.toml").write_text('zone = "Europe/Berlin"\nretire = "7D"\n')
    assert main(["metrics", "rpo", "--archive", str(folder)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cdpanalytics.toml" in printed.err
    assert "retire" in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_a_vm_that_was_never_seen_can_be_excluded(drawn: RandomArchive) -> None:
    question = {"since": SINCE, "until": UNTIL, "policy": "Gold", "objective": 0.91}
    unknown = drawn.archive.select(**question).objectives(by="policy")
    assert unknown["undecided"].tolist() == [2], "one on each backup server"
    everyone = pd.DataFrame(
        {"start": [SINCE], "end": [UNTIL + pd.Timedelta("1D")], "vm": ["never-*"]}
    )
    selection = drawn.archive.select(**question, exclude=everyone)
    assert selection.objectives(by="policy")["undecided"].tolist() == [0]
    assert not [line for line in selection.findings() if "never" in line]
    states = selection.status().set_index("vm")["state"]
    assert set(states["never-seen"]) == {"excluded"}


def test_doctor_checks_the_estate_file_line_by_line(
    drawn: RandomArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(drawn.archive.path)
    words = ["doctor", "--archive", str(folder)]
    assert main(words) == 0
    assert "has no cdpanalytics.toml" in capsys.readouterr().out
    file = folder / "cdpanalytics.toml"
    file.write_text('zone = "Europe/Berlim"\nretire = "7D"\nobjective = "99,9"\n')
    assert main(words) == 1
    failed = capsys.readouterr().out.splitlines()
    assert len(failed) == 3
    assert all(line.startswith("failed  estate") for line in failed)
    assert ["line 1" in failed[0], "line 2" in failed[1], "line 3" in failed[2]] == [True] * 3
    (folder / "cmdb.csv").write_text(CMDB)
    file.write_text('zone = "Europe/Berlin"\ntags = "cmdb.csv"\n')
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    digests = drawn.archive.select().provenance()["estate"]
    for digest in digests.values():
        assert any(line.startswith("ok ") and digest in line for line in lines)
    assert any(line.startswith("warning ") and "ghost" in line for line in lines)


def test_schedules_of_an_unknown_zone_are_told_once(drawn: RandomArchive) -> None:
    def told() -> list[str]:
        lines = drawn.archive.select(since=SINCE, until=UNTIL).findings()
        return [line for line in lines if line.startswith("schedules of ")]

    assert told() == [
        "schedules of vbr0, vbr1 are read as UTC; name their zone under [zones] in cdpanalytics.toml"
    ]
    file = Path(drawn.archive.path) / "cdpanalytics.toml"
    file.write_text('[zones]\nvbr0 = "Europe/Berlin"\n')
    assert [line.split()[2] for line in told()] == ["vbr1"]
    file.write_text('[zones]\n"vbr*" = "Europe/Berlin"\n')
    assert told() == []


def test_a_report_and_a_workbook_have_a_row_for_each_department(
    drawn: RandomArchive, cmdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cmdb.write_text(CMDB.replace("vm-3,Sales\n", ""))
    selection = drawn.archive.select(since=SINCE, until=UNTIL, tags=cmdb)
    table = selection.objectives(by="department")
    page = tmp_path / "r.html"
    asked = ["--archive", str(drawn.archive.path), "--since", SINCE.isoformat(), "--until", UNTIL.isoformat(),
             "--tags", str(cmdb), "--by", "department"]  # fmt: skip
    assert main(["report", *asked, "--output", str(page)]) == 0
    words = page.read_text()
    assert words == selection.report(tmp_path / "again.html", by="department").read_text()
    promises = words[words.index('aria-label="Objectives by department"') :].split("</table>")[0]
    found = re.findall(
        r'<th scope="row">(.*?)</th>.*?class="state-(\w+)".*?number">(.*?)</td>', promises
    )
    names = {True: "met", False: "missed"}
    assert found == [
        (formatting.word("department", row["department"]),
         "unknown" if pd.isna(row["passed"]) else names[row["passed"]], formatting.share(row["adherence"]))
        for row in table.to_dict("records")
    ]  # fmt: skip
    assert [name for name, _, _ in found] == ["Finance", "Sales", "\N{EN DASH}"]
    assert "<h3>By department</h3>" in words
    assert main(["export", *asked, "--output", str(tmp_path / "r.xlsx")]) == 0
    capsys.readouterr()
    head, *rows = openpyxl.load_workbook(tmp_path / "r.xlsx")["Groups"].iter_rows(values_only=True)
    assert [row[0] for row in rows] == ["Finance", "Sales", None]
    assert [row[head.index("Adherence")] for row in rows] == pytest.approx(list(table["adherence"]))
    for by in ("colour", "", ["department"]):
        with pytest.raises(InputError, match="by="):
            selection.report(page, by=by)


def test_a_low_objective_is_told_once_by_every_door(
    drawn: RandomArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = ["--archive", str(drawn.archive.path), "--objective", "0.5"]
    for command in (["check"], ["metrics", "objectives"], ["report", "--output", "-"]):
        main([*command, *archive])
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if "warning" in line] == [
            "cdpanalytics: warning: objective=0.5 is only 50 %"
        ]
    with pytest.warns(UserWarning, match="only 50 %") as caught:
        drawn.archive.select(objective=0.5).objectives(by="policy")
    assert len(caught) == 1


def test_two_periods_are_two_sides(drawn: RandomArchive) -> None:
    whole = drawn.archive.select(since=SINCE, until=UNTIL)
    row = whole.compare(sides="period=2026-10-03,2026-10-05").iloc[0]
    for side, period in (("left", "2026-10-03"), ("right", "2026-10-05")):
        of_day = whole.during(period).rpo_adherence(by=()).iloc[0]
        assert row[f"adherence_{side}"] == of_day["adherence"]
        assert row[f"observed_{side}"] == of_day["observed"]


def test_a_filter_by_tag_holds_for_status_the_journal_and_vms_never_seen(
    drawn: RandomArchive, cmdb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finance = drawn.archive.select(tags=cmdb, tag={"department": "Finance"})
    assert set(finance.status()["vm"]) == {"vm-0", "vm-2"}, "never-seen is of no department"
    assert finance.objectives(by="department")["undecided"].tolist() == [0]
    cmdb.write_text(CMDB + "never-*,Finance\n")
    named = drawn.archive.select(tags=cmdb, tag={"department": "Finance"})
    assert set(named.status()["vm"]) == {"vm-0", "vm-2", "never-seen"}
    assert named.objectives(by="department")["undecided"].tolist() == [2]
    everyone = drawn.archive.select(tags=cmdb).objectives(by="department").set_index("department")
    assert everyone.loc["Finance", "undecided"] == 2, "a VM never seen counts in its department"
    frame = drawn.archive.select().frame()
    start = frame["created"].min()
    journal = pd.DataFrame({
        "backup_server": "vbr0", "policy": "Gold", "vm": ["vm-0", "vm-1"], "start": start,
        "end": start + pd.Timedelta("1h"), "rpo": pd.Timedelta("10s"), "kind": "ShortTerm",
    })  # fmt: skip
    asked = frame.cdp.select(tags=cmdb, tag={"department": "Finance"}, intervals=journal)
    assert asked.intervals["vm"].tolist() == ["vm-0"]
    assert asked.journal_adherence(by="department")["department"].tolist() == ["Finance"]
    options = [
        "--archive",
        str(drawn.archive.path),
        "--tags",
        str(cmdb),
        "--tag",
        "department=Finance",
    ]
    assert main(["status", *options, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == json.loads(formatting.json_text(named.status()))


def test_what_fits_nothing_and_who_has_no_tag_is_told_by_every_door(
    drawn: RandomArchive, cmdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cmdb.write_text(CMDB.replace("vm-3,Sales\n", ""))
    table = tmp_path / "windows.csv"
    table.write_text("start,end,vm,reason\n2026-10-03,2026-10-04,phantom,patches\n")
    asked = {"since": SINCE, "until": UNTIL, "tags": cmdb, "exclude": table}
    selection = drawn.archive.select(**asked)
    ghost, untagged, phantom = (
        next(line for line in selection.findings() if word in line)
        for word in ("ghost", "without department", "phantom")
    )
    assert "vm-3 (vbr0)" in untagged
    assert "line 2" in phantom
    policies = selection.policies
    of_frame = drawn.archive.select().frame().cdp.select(**asked, policies=policies)
    assert {ghost, untagged, phantom} <= set(of_frame.findings())
    options = ["--archive", str(drawn.archive.path), "--since", SINCE.isoformat(), "--until", UNTIL.isoformat(),
               "--tags", str(cmdb), "--exclude", str(table)]  # fmt: skip
    assert main(["metrics", "rpo", *options]) == 0
    assert {ghost, untagged, phantom} <= set(capsys.readouterr().err.splitlines())
    page = selection.report(tmp_path / "r.html").read_text()
    assert all(line in page for line in (ghost, untagged, phantom))
    cells = openpyxl.load_workbook(selection.to_excel(tmp_path / "r.xlsx"))["Summary"]
    notes = {value for row in cells.iter_rows(values_only=True) for value in row}
    assert {ghost, untagged, phantom} <= notes


def test_a_narrowed_question_does_not_take_others_for_unknown(
    drawn: RandomArchive, cmdb: Path
) -> None:
    file = cmdb.with_name("estate.toml")
    file.write_text('[objectives.policy]\nSilver = 99\nGolf = 99\n[rename]\nzz = "y"\n')
    asked = {"tags": cmdb, "estate": file}
    whole = drawn.archive.select(**asked).findings()
    assert [line for line in whole if "estate.toml" in line] == [
        "estate.toml, line 3: objective of policy 'Golf': nothing known fits",
        "estate.toml, line 5: no VM was ever called 'zz'",
    ]
    for narrowed in ({"policy": "Gold"}, {"vm": "vm-1"}, {"tag": {"department": "Finance"}}):
        assert drawn.archive.select(**asked, **narrowed).findings() == whole
    assert not any("zz" in line for line in drawn.archive.select("2026-10-05", **asked).findings())


def test_doctor_names_each_of_ten_mistakes_with_its_line(
    drawn: RandomArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(drawn.archive.path)
    (folder / "windows.csv").write_text("start,end\n32.10.2026,33.10.2026\n")
    mistakes = {
        'zone = "Europe/Berlim"': "did you mean Europe/Berlin?", 'retire = "7D"': "did you mean retire_after?",
        'objective = "99,9"': "write 99.9", 'grace = "1M"': "minutes or months", 'retire_after = "-3D"': "negative",
        'tags = "cmbd.csv"': "cmbd.csv: No such file", 'exclude = "windows.csv"': "windows.csv, line 2: '32.10.2026'",
        'zones.vbr0 = "CET+1"': "did you mean CET?", "objectives.policy.Gold = 1.5": "write 1.5%",
        "rename.vm-0 = 7": "must be text",
    }  # fmt: skip
    (folder / "cdpanalytics.toml").write_text("\n".join(mistakes))
    assert main(["doctor", "--archive", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(mistakes) == 10
    for number, (line, reason) in enumerate(zip(lines, mistakes.values(), strict=True), 1):
        assert line.startswith(f"failed  estate    cdpanalytics.toml, line {number}: ")
        assert reason in line


def test_provenance_as_json_has_the_digest_of_the_estate_file(
    drawn: RandomArchive, cmdb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(drawn.archive.path)
    (folder / "cmdb.csv").write_text(CMDB)
    (folder / "cdpanalytics.toml").write_text('tags = "cmdb.csv"\n')
    words = ["metrics", "rpo", "--archive", str(folder), "--by", "department", "--format", "json"]
    assert main([*words, "--provenance"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert main(words) == 0
    assert answer["rows"] == json.loads(capsys.readouterr().out)
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("cdpanalytics.toml", "cmdb.csv")
    }
    assert {
        Path(name).name: digest for name, digest in answer["provenance"]["estate"].items()
    } == files
    assert answer["provenance"]["sources"] == list(drawn.archive.provenance()["sources"])
    assert main([*words[:-2], "--provenance"]) == 1
    assert "--provenance goes with --format json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["metrics", name] for name in ("journal", "recovery-points", "rpo", "sizes", "quality")] + [["status"]],
    ids=" ".join,
)  # fmt: skip
def test_a_tag_that_does_not_exist_is_refused_by_every_command(
    drawn: RandomArchive, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    empty = Archive(tmp_path / "empty")
    put(empty, START, [], START + pd.Timedelta("1D"))
    for archive in (drawn.archive, empty):
        assert main([*command, "--archive", str(archive.path), "--tag", "colour=red"]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert lines == ["cdpanalytics: the sessions have no column 'colour' to select by"]


def test_tags_of_listed_vms_follow_them_into_ranges() -> None:
    """A worker that reads some VMs only has their tags, also of VMs that no session names."""
    settings = pd.DataFrame({
        "policy": ["Gold"], "vms": [["a", "m", "z"]], "tags": [[{"d": "A"}, {"d": "M"}, {"d": "Z"}]]
    })  # fmt: skip
    part = listing(settings, Range("vm", "b", None))
    assert part["vms"].tolist() == [["m", "z"]]
    assert listed_vms(part, with_server=False)["d"].tolist() == ["M", "Z"]
