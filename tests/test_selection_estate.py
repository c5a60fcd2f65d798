"""The analyst's own words: tags, exclusions, zones and the estate file, the same by every door."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from cdpanalytics.cli import main
from cdpanalytics.errors import InputError
from cdpanalytics.execution.partition import BYTES_PER_SESSION, WORKER_OVERHEAD_BYTES
from cdpanalytics.presentation import formatting
from tests.builders import START, RandomArchive, random_archive

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
