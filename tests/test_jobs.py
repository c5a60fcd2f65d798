"""The page "Jobs": each of its lines is run as it is shown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

import cdpanalytics as cdp
from cdpanalytics.cli import main
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "jobs.md").read_text()
JOBS = {
    section.splitlines()[0]: re.findall(r"^```(sh|python)\n(.*?)^```", section, re.M | re.S)
    for section in PAGE.split("\n## ")[1:]
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the page assumes it: an archive up to now, two backup servers, and the tables."""
    folder = tmp_path_factory.mktemp("jobs")
    fleet = Fleet.generate(vms=8, days=62, seed=4, servers=2, policies=3)
    with Simulator(fleet) as server, cdp.EnterpriseManager(server.url, "demo", "demo") as em:
        sync(em, cdp.Archive(folder / "data" / "archive"), since="63D")
    (folder / "cmdb.csv").write_text("vm,department\nsql*,Finance\n*,Sales\n")
    (folder / "patches.ics").write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n"
        "DTSTART:20260113T200000Z\r\nDTEND:20260114T000000Z\r\nRRULE:FREQ=MONTHLY;BYDAY=2TU\r\n"
        "SUMMARY:patches\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    (folder / "export.csv").write_text(
        "Maschine;Beginn;Ende;Ergebnis\nsql-1;01.10.2026 08:00;01.10.2026 16:00;Erfolg\n"
        "sql-1;01.10.2026 16:30;02.10.2026 00:00;Erfolg\nsql-1;02.10.2026 00:00;02.10.2026 08:00;Fehler\n"
    )
    return folder


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    return folder


def run(job: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], int, str]:
    """Run the lines of a job; return its variables, exit code and output."""
    scope: dict[str, Any] = {"cdp": cdp, "pd": pd}
    code = 0
    for language, lines in JOBS[job]:
        if language == "python":
            assert len(lines.splitlines()) <= 3
            exec(lines, scope)
        else:
            assert len(lines.splitlines()) == 1
            code = max(code, main(shlex.split(lines)[1:]))
    return scope, code, capsys.readouterr().out


def test_there_are_ten_jobs_with_lines() -> None:
    assert len(JOBS) == 10
    assert all(JOBS.values())


def test_each_job(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def done(start: str) -> tuple[dict[str, Any], int, str]:
        return run(next(name for name in JOBS if name.startswith(start)), capsys)

    scope, code, text = done("Which VMs")
    assert code == 0
    assert {"department", "rpo", "breached", "worst_gap", "incident", "cause"} <= set(text.split())
    targets = dict(zip(scope["vms"]["vm"], scope["vms"]["rpo"], strict=True))
    late = scope["gaps"][scope["gaps"]["vm"].isin(list(targets))]
    assert len(late)
    assert late["rpo"].tolist() == [targets[vm] for vm in late["vm"]]
    heads = [cell.value for cell in openpyxl.load_workbook("departments.xlsx")["Groups"][1]]
    assert heads[0] == "department"
    assert done("The ten worst")[1] == 0
    head, *rows = openpyxl.load_workbook("worst.xlsx")["gaps"].iter_rows(values_only=True)
    assert {"VM", "Cause", "Start (UTC)"} <= set(head)
    assert 1 <= len(rows) <= 10
    assert done("A page for")[1] == 0
    assert "Protection, last month" in Path("audit.html").read_text()
    trend = done("The size")[0]["trend"]
    assert {"policy", "projected_low", "projected_high"} <= set(trend)
    month = cdp.Archive("data/archive").select("last month")
    _, code, text = done("Without the patch")
    assert code == 0
    excluded = month.with_terms(exclude="patches.ics").rpo_adherence(by=())["excluded"].iloc[0]
    assert excluded > pd.Timedelta(0)
    assert "Gold" in text
    assert "Finance" in done("Departments")[2]
    assert done("Berlin")[1] == 0
    assert "(Europe/Berlin)" in Path("berlin.html").read_text()
    gaps = done("A German")[0]["gaps"]
    assert gaps["exposure"].tolist() == [pd.Timedelta("30min"), pd.Timedelta("8h")]
    _, code, text = done("A mail")
    page = Path("summary.html").read_text()
    assert not re.search(r"<(?:script|svg|img)\b", page)
    assert len(page) < 50_000
    assert text.split(":")[0] == ["OK", "WARNING", "CRITICAL", "UNKNOWN"][code]
    sites = done("Two sites")[0]["sites"]
    by_server = month.rpo_adherence(by="backup_server")
    assert [sites["adherence_left"][0], sites["adherence_right"][0]] == by_server[
        "adherence"
    ].tolist()


@pytest.mark.skipif(os.name == "nt", reason="it is a script of the shell")
@pytest.mark.parametrize(("objective", "sent"), [("50", False), ("100", True)])
def test_the_monthly_script_sends_a_mail_only_if_something_was_missed(
    folder: Path, tmp_path: Path, objective: str, sent: bool
) -> None:
    """Run `monthly.sh` as the page prints it, in cron's environment; `mail` keeps what it is given."""
    script = tmp_path / "monthly.sh"
    script.write_text(re.search("^```bash\n(#!/bin/sh\n.*?)^```", PAGE, re.M | re.S)[1])  # type: ignore[index]
    home = tmp_path / "cdp"
    shutil.copytree(folder / "data" / "archive", home / "archive")
    status = cdp.Archive(home / "archive").select("last month").status()
    never = status.loc[status["state"] == "never seen", "vm"]  # else its policy is unknown
    rows = "".join(f"2020-01-01,2100-01-01,{vm},not in use\n" for vm in never)
    (home / "archive" / "gone.csv").write_text(f"start,end,vm,reason\n{rows}")
    (home / "archive" / "cdpanalytics.toml").write_text(
        f'objective = {objective}\nexclude = "gone.csv"\n'
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mail").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\ncat > {tmp_path}/body\n'
    )
    (programs / "cdpanalytics").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m cdpanalytics "$@"\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "CDP_FOLDER": str(home),
    }
    done = subprocess.run(["/bin/sh", str(script)], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "words").exists() == sent
    if not sent:
        return
    words, body = (tmp_path / "words").read_text().splitlines(), (tmp_path / "body").read_text()
    assert words == ["-s", "CDP last month: CRITICAL", "-A", "month.html", "it@tech.local"]
    assert body.startswith("CRITICAL: ")
    assert "period: last month" in body
    assert "Was the objective met" in (home / "month.html").read_text()
