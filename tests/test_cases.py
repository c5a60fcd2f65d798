"""Small inputs that were misread, with what is right; the files only where they lie beside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import cdpanalytics as cdp
from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import InputError
from cdpanalytics.estate import Exclusions, Tags
from cdpanalytics.presentation import formatting
from cdpanalytics.timeparse import length, share

from .builders import DAY, START, put, put_policies, random_archive

pytestmark = pytest.mark.slow

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
beside = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not in this repository")
SINCE, UNTIL = pd.Timestamp("2026-10-01", tz="UTC"), pd.Timestamp("2026-12-01", tz="UTC")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("15min", 15), ("90s", 1.5), ("1h30min", 90), ("0.25h", 15), ("1.5D", 2160), ("PT15M", 15),
     ("PT0.5H", 30), ("P1D", 1440), ("4w", 40320), ("4W", 40320), ("30d", 43200), ("30D", 43200)],
)  # fmt: skip
def test_lengths(text: str, minutes: float) -> None:
    assert length(text) == pd.Timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("text", "why"),
    [("0,25h", "write 0.25h"), ("1,5h", "write 1.5h"), ("15min,1h", "15min,1h"), ("P1M", "month"), ("1M", "month"),
     ("15", "unit"), ("0", "zero"), ("0s", "zero"), ("-5min", "negative"), ("nan", "nan")],
)  # fmt: skip
def test_lengths_that_are_refused(
    text: str, why: str, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        length(text)
    if why == "zero":  # as a target it has a meaning
        return
    with pytest.raises(InputError, match=re.escape(why)):
        Archive(drawn).select(target=text).rpo_adherence()
    assert main(["metrics", "rpo", "--archive", str(drawn), f"--rpo={text}"]) in (1, 2)
    assert why in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.* is only:UserWarning")
@pytest.mark.parametrize(
    ("text", "value"),
    [("99.9", 0.999), ("99.9%", 0.999), ("0.999", 0.999), ("99.9 %", 0.999), ("1", 1), ("100", 1), ("100%", 1),
     ("0.5", 0.5), ("50", 0.5)],
)  # fmt: skip
def test_shares(text: str, value: float) -> None:
    assert share(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [("1.5", "write 1.5%"), ("5", "write 5%"), ("99,9", "99.9"), ("-1", "above 0"), ("101", "100"), ("nan", "nan"),
     ("inf", "inf")],
)  # fmt: skip
def test_shares_that_are_refused(
    text: str, why: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        share(text)
    estate = tmp_path / "estate.toml"
    estate.write_text(f'objective = "{text}"\n')
    for words in (
        ["--objective", text],
        ["--critical", text],
        ["--warning", text],
        ["--estate", str(estate)],
    ):
        option = [f"{words[0]}={words[1]}"]
        assert main(["check", "--archive", str(drawn), *option]) == 3
        printed = capsys.readouterr().out
        assert printed.startswith("UNKNOWN: ")
        assert why in printed
        assert len(printed.splitlines()) == 1


@beside
def test_the_german_export() -> None:
    columns = {"vm": "Maschine", "created": "Beginn", "ended": "Ende", "result": "Ergebnis",
               "total_size": "Größe (GB)"}  # fmt: skip
    results = {"Erfolg": "Success", "Warnung": "Warning", "Fehler": "Failed"}
    frame = pd.read_csv(CASES / "sessions-german.csv", sep=";")
    asked = frame.cdp.select(columns=columns, tz="Europe/Berlin", results=results,
                             units={"total_size": "GB"}, target="15min")  # fmt: skip
    assert asked.gaps()["exposure"].tolist() == [pd.Timedelta("30min"), pd.Timedelta("8h")]
    assert asked.sessions["total_size"].tolist() == [16 << 30] * 3
    with pytest.raises(InputError, match="'Fehler'"):
        frame.cdp.select(columns=columns, tz="Europe/Berlin", results={"Erfolg": "Success", "Warnung": "Warning"},
                         units={"total_size": "GB"})  # fmt: skip


@beside
def test_the_recurring_calendar() -> None:
    table = Exclusions(CASES / "maintenance-recurring.ics").table(SINCE, UNTIL)
    windows = set(zip(table["start"], table["end"], strict=True))
    for start, end in (
        ("2026-10-13T20:00Z", "2026-10-14T00:00Z"), ("2026-11-10T21:00Z", "2026-11-11T01:00Z"),
        ("2026-10-24T23:00Z", "2026-10-25T02:00Z"),
    ):  # fmt: skip
        assert (pd.Timestamp(start), pd.Timestamp(end)) in windows
    assert not any(start.date() == pd.Timestamp("2026-10-11").date() for start, _ in windows)


@beside
def test_the_tables_of_maintenance() -> None:
    german = Exclusions(CASES / "maintenance-german.csv", tz="Europe/Berlin").table(SINCE, UNTIL)
    local = german["start"].dt.tz_convert("Europe/Berlin").dt.strftime("%Y-%m-%d %H:%M")
    assert local.tolist() == ["2026-11-01 22:00", "2026-11-13 22:00"]
    names = ["sql-1", "web-11", "web-12", "Web-3"]
    vms = pd.DataFrame({"backup_server": "vbr01", "policy": "Gold", "vm": names})
    mixed = Exclusions(CASES / "maintenance-mixed.csv", tz="Europe/Berlin")
    windows = mixed.resolve(vms, SINCE, UNTIL)
    utc = windows.assign(
        **{edge: windows[edge].dt.strftime("%d %H:%M") for edge in ("start", "end")}
    )
    assert utc.loc[1:, ["line", "vm", "start", "end"]].astype(object).to_numpy().tolist() == [
        [3, "web-11", "01 21:00", "02 01:00"], [3, "web-12", "01 21:00", "02 01:00"],
        [3, "Web-3", "01 21:00", "02 01:00"], [4, "web-11", "01 10:20", "01 12:45"],
    ]  # fmt: skip
    # A day that is 25 hours long: 25 October in Berlin, for everyone.
    assert utc.loc[0, ["line", "start", "end"]].tolist() == [2, "24 22:00", "25 23:00"]
    assert pd.isna(utc.loc[0, "vm"])
    assert [finding.line for finding in mixed.findings(vms, SINCE, UNTIL)] == [5]


@beside
def test_the_table_of_tags() -> None:
    rows = [("vbr01.tech.example", "sql-7"), ("vbr01.tech.example", "web-11"), ("vbr01.tech.example", "web-12"),
            ("vbr01.tech.example", "print-server"), ("vbr02.tech.example", "print-server")]  # fmt: skip
    vms = pd.DataFrame(rows, columns=["backup_server", "vm"]).assign(policy="Gold")
    tags = Tags.read(CASES / "cmdb.csv")
    table = tags.columns_for(vms).astype(object)
    assert table.where(table.notna(), None).to_numpy().tolist() == [
        ["Finance", "1", "team-db"], ["Shop", "1", "team-web"], ["Shop", "2", "team-web"], [None, None, None],
        ["Facilities", "3", None],
    ]  # fmt: skip
    told = list(map(str, tags.findings(vms)))
    assert "cmdb.csv, line 6: names nothing known: VM no-such-vm" in told
    assert any(line.startswith("cmdb.csv: 2 of 5 VMs without owner") for line in told)


# -- periods, in the zone asked for ---------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 36 days from 1 October on."""
    folder = tmp_path_factory.mktemp("cases") / "archive"
    random_archive(folder, 3, days=36, vms=4)
    return folder


BERLIN = ["--tz", "Europe/Berlin", "--no-estate"]
OCTOBER = pd.Timestamp("2026-09-30 22:00", tz="UTC"), pd.Timestamp("2026-10-31 23:00", tz="UTC")


@pytest.mark.parametrize(
    "words", [["--period", "2026-10"], ["--since", "2026-10-01", "--until", "2026-11-01"]]
)
def test_october_in_berlin(
    drawn: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--archive", str(drawn), *words, *BERLIN]
    october = Archive(drawn).select("2026-10", tz="Europe/Berlin")
    assert october.window == OCTOBER
    assert OCTOBER[1] - OCTOBER[0] == pd.Timedelta("31D1h")
    days = october.rpo_adherence(by=(), freq="D")
    assert len(days) == 31
    assert main(["metrics", "rpo", *asked, "--by", "none", "--freq", "MS", "--format", "json"]) == 0
    month = json.loads(capsys.readouterr().out)
    assert [row["period"] for row in month] == ["2026-09-30T22:00:00Z"]
    assert month[0]["observed"] == days["observed"].sum().total_seconds()
    assert main(["metrics", "gaps", *asked]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert "start (Europe/Berlin)" in head
    assert "end (Europe/Berlin)" in head
    page = tmp_path / "r.html"
    assert main(["report", *asked, "--output", str(page)]) == 0
    text = page.read_text()
    assert "2026-10-01 00:00 to 2026-11-01 00:00 (Europe/Berlin)" in text
    shown = re.sub("<script.*?</script>|<li>schedules of .*? are read as UTC", "", text, flags=re.S)
    assert "UTC" not in shown
    assert '<abbr title="2026-10-01">' in text, "the first column of the map is a day of Berlin"


def test_hours_after_the_half_hour_change_of_lord_howe_are_hours_of_the_wall() -> None:
    zone = "Australia/Lord_Howe"
    night = pd.Timestamp("2026-04-04 18:10", tz=zone)
    sessions = pd.DataFrame(
        {
            "vm": ["a"],
            "created": [night.tz_convert("UTC")],
            "ended": [(night + DAY).tz_convert("UTC")],
        }
    )
    for since in ("2026-04-05T00:00", "2026-04-05T01:17"):
        table = sessions.cdp.select(
            since=since, until="2026-04-05T06:00", tz=zone, target="1h"
        ).rpo_adherence(by=(), freq="h")
        wall = table["period"].dt.tz_convert(zone).dt.strftime("%H:%M").tolist()
        assert wall[-4:] == ["02:00", "03:00", "04:00", "05:00"]


def test_a_schedule_runs_in_the_zone_of_its_backup_server(tmp_path: Path) -> None:
    """Office hours 6 to 20 of Thursday 1 October: a gap from 04:00 to 06:00 UTC is inside them in Berlin only."""
    archive = Archive(tmp_path / "archive")
    as_of = START + DAY
    rows = [
        {"uid": str(n), "vm": "a", "policy": "Office hours", "policy_uid": "0-Office hours", "backup_server": "vbr0",
         "created": START + pd.Timedelta(hours=begin), "ended": START + pd.Timedelta(hours=end), "state": "Completed",
         "result": "Success", "rpo": pd.Timedelta("1h"), "as_of": as_of}
        for n, (begin, end) in enumerate([(0, 4), (6, 24)])
    ]  # fmt: skip
    put(archive, START, rows, as_of)
    put_policies(archive, "https://em1.tech.local:9398", 0, as_of)
    in_utc = archive.select(vm="a")
    assert in_utc.rpo_adherence(by="vm")["exposed"].tolist() == [pd.Timedelta(0)]
    assert (
        sum(line.startswith("schedules of vbr0 are read as UTC") for line in in_utc.findings()) == 1
    )
    (tmp_path / "archive" / "cdpanalytics.toml").write_text('[zones]\nvbr0 = "Europe/Berlin"\n')
    in_berlin = archive.select(vm="a")
    assert in_berlin.rpo_adherence(by="vm")["exposed"].tolist() == [pd.Timedelta("2h")]
    assert not in_berlin.findings()


# -- one question, many doors -----------------------------------------------------------------------


def test_a_report_and_a_check_with_one_exclusion_agree(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "closed.csv"
    table.write_text("start,end,policy\n2026-10-05,2026-10-09,Silver\n")
    asked = ["--archive", str(drawn), "--period", "2026-10", "--exclude", str(table)]
    assert main(["report", *asked, "--output", str(tmp_path / "r.html")]) == 0
    main(["check", *asked])
    printed = capsys.readouterr().out
    page = (tmp_path / "r.html").read_text()
    for row in (
        Archive(drawn).select("2026-10", exclude=table).objectives(by="policy").to_dict("records")
    ):
        shown = formatting.share(row["adherence"])
        assert f"{row['policy']}: within RPO {shown} of" in printed
        assert re.search(
            rf'<th scope="row">{row["policy"]}</th>.*?"number">{re.escape(shown)}</td>', page
        )


def test_the_last_30_days_are_the_same_in_the_explorer(drawn: Path) -> None:
    vms = ["backup_server", "policy", "vm"]
    shown = cdp.explore(Archive(drawn), period="last 30 days").analysis.vms
    assert_frame_equal(shown, Archive(drawn).select(since="30D").rpo_adherence(by=vms))


def test_the_explorer_takes_a_filter_of_policies(drawn: Path) -> None:
    vms = cdp.explore(Archive(drawn), period="all", policy=("Gold",)).analysis.vms
    assert set(vms["policy"]) == {"Gold"}
    assert len(vms) > 0
    with pytest.raises(InputError, match="explore has no 'policies'"):
        cdp.explore(Archive(drawn), policies=("Gold",))


def test_an_empty_selection_is_unknown_by_every_door(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Archive(drawn).select(since="2026-10-01", until="2026-10-05", policy="Gold", vm="vm-1")
    assert empty.sessions.empty
    page = empty.report(tmp_path / "r.html").read_text()
    assert "Unknown: nothing was observed" in page
    assert "No VM missed its target, because none could be judged" in page
    asked = ["--archive", str(drawn), "--since", "2026-10-01", "--until", "2026-10-05"]
    assert main(["check", *asked, "--policy", "Gold", "--vm", "vm-1"]) == 3
    assert capsys.readouterr().out.startswith("UNKNOWN: ")
    explorer = cdp.explore(Archive(drawn), period="2026-10-01/2026-10-05", policy="Gold", vm="vm-1")
    assert "No session of this question lies in this period" in explorer.main
