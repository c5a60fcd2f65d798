"""The report: the answer first, exact numbers inside, hostile text harmless, the same bytes twice."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import InputError
from cdpanalytics.presentation import formatting
from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.questions import report
from cdpanalytics.reports import Table
from cdpanalytics.reports.command import command

EM = "https://em.tech.local:9398"
OCT = pd.Timestamp("2026-10-01", tz="UTC")
HOSTILE = '</script><script>alert(1)</script>"&'


class Reader(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def session(
    uid: str, vm: str, begin: float, end: float | None, **more: object
) -> dict[str, object]:
    return {
        "uid": uid, "vm": vm, "policy": "Gold", "policy_uid": "p1", "backup_server": "b1", "result": "Success",
        "state": "InProgress" if end is None else "Completed", "total_size": 2**34,
        "rpo": pd.Timedelta("15min"), "created": OCT + pd.Timedelta(hours=begin),
        "ended": None if end is None else OCT + pd.Timedelta(hours=end), "as_of": OCT + pd.Timedelta("1D"), **more,
    }  # fmt: skip


def kept(folder: Path, *sessions: dict[str, object]) -> Archive:
    archive = Archive(folder)
    rows = pa.Table.from_pylist(list(sessions), schema=schema.SESSIONS)
    archive.put_day("sessions", EM, OCT, rows, OCT + pd.Timedelta("1D"), final=True)
    policy = {"policy_uid": "p1", "policy": "Gold", "backup_server": "b1", "rpo": pd.Timedelta("15min"),
              "vms": ["db", "never-seen"]}  # fmt: skip
    archive.put_policies(EM, pa.Table.from_pylist([policy], schema=schema.POLICIES), OCT)
    return archive


@pytest.fixture
def archive(folder: Path) -> Archive:
    """One VM with a gap of two hours by failure, one hostile one without."""
    return kept(
        folder,
        session("u1", "db", 0, 8),
        session("u2", "db", 8, 10, result="Failed", reason="<b>boom</b>"),
        session("u3", "db", 10, 24),
        session("u4", HOSTILE, 0, None),
    )


def test_the_answer_comes_first(archive: Archive, tmp_path: Path) -> None:
    page = report(archive, tmp_path / "r.html", title="October").read_text()
    words = " ".join(" ".join(Reader(page).words).split())
    verdict = (
        "VMs were within their RPO 96.35 % of the time: the objective of 99.90 % was missed. "
        "1 of 3 VMs missed their RPO; the longest gap was 2 h (db)."
    )
    assert words.index("October") < words.index(verdict) < words.index("Objective 99.90 %")
    assert "Missed" in words
    assert "used 1 h 45 min of the allowed 2 min 52 s" in words
    assert "never-seen (Gold)" in words, "a VM that no session names is listed"
    assert "Failed: <b>boom</b>" in words


def test_what_is_unprotected_now_follows_the_verdict(folder: Path, tmp_path: Path) -> None:
    archive = kept(
        folder,
        session("a1", "a", 0, 8), session("b1", "b", 0, 20),
        session("c1", "c", 0, None), session("d1", "d", 6, 8, result="Failed"),
    )  # fmt: skip
    said = words_of(archive.select(until="2026-10-01T22:00").report(tmp_path / "r.html"))
    now = (
        "Unprotected now (2026-10-01 22:00 UTC): 3 of 6 VMs, the longest since 2026-10-01 06:00 (d); "
        "2 never seen."
    )
    assert said.index("the longest gap was") < said.index(now) < said.index("Objective 99.90 %")
    assert (
        "b1 Gold a breached 2026-10-01 08:00 14 h 15 min 2026-10-01 08:00 Success no session since"
        in said
    )
    assert "Failed (1 VM): the newest session failed" in said
    assert "No session (2 VMs): the newest session ended and no other began" in said
    assert "Never seen (2 VMs): a policy names the VM, but no session does" in said


def test_a_period_that_is_not_over_is_provisional(archive: Archive, tmp_path: Path) -> None:
    said = words_of(archive.select(period="2026-10").report(tmp_path / "r.html"))
    assert "2026-10: 2026-10-01 00:00 to 2026-10-02 00:00 (UTC) · provisional" in said
    over = words_of(archive.select(period="2026-10-01").report(tmp_path / "r.html"))
    assert "provisional" not in over
    assert "From 2026-10-01 00:00 up to, but not including, 2026-10-02 00:00 (UTC)" in over


def test_the_command_in_it_gives_the_same_figures(archive: Archive, tmp_path: Path) -> None:
    first, again = tmp_path / "r.html", tmp_path / "again.html"
    asked = archive.select(
        period="last 12 hours", vm=["d*"], target=pd.Timedelta("20min"), objective=0.995,
        tz="Europe/Berlin", retire_after="1D",
    )  # fmt: skip
    said = Reader(asked.report(first).read_text()).words
    words = shlex.split(next(text for text in said if text.startswith("cdpanalytics report")))
    assert words[words.index("--retire-after") + 1] == "1D"
    assert words[words.index("--rpo") + 1] == "1200s"
    words[words.index("DIR")] = str(archive.path)
    words[words.index("again.html")] = str(again)
    assert main(words[1:]) == 0
    facts = [inside(file.read_text(), "facts") for file in (first, again)]
    assert facts[0].pop("question")["start"] == facts[1].pop("question")["start"]
    assert facts[0] == facts[1]
    assert facts[0]["whole"]["observed"] == 12 * 3600.0


def test_the_command_names_the_files_that_the_estate_file_does_not(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    closed, tags = tmp_path / "closed.csv", tmp_path / "tags.csv"
    closed.write_text("start,end,vm,reason\n2026-10-01 02:00,2026-10-01 05:00,db,patches\n")
    tags.write_text("vm,tier\ndb,one\n")
    asked = archive.select(exclude=[closed], tags=tags, target="1h")
    said = Reader(asked.report(tmp_path / "r.html").read_text()).words
    words = shlex.split(next(text for text in said if text.startswith("cdpanalytics report")))
    assert words[-4:] == ["--tags", "tags.csv", "--exclude", "closed.csv"]
    words[words.index("DIR")] = str(archive.path)
    assert main(words[1:]) == 0
    whole = [inside(Path(file).read_text(), "facts")["whole"] for file in ("r.html", "again.html")]
    assert whole[0] == whole[1]
    assert whole[0]["excluded"] > 0
    assert command(archive.select(exclude=False)) == command(archive.select())


def inside(page: str, name: str) -> dict[str, object]:
    """Return what a report holds as JSON."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_that_nothing_was_left_out_is_said(archive: Archive, tmp_path: Path) -> None:
    asked = archive.select(target="1h", objective=0.95)
    said = words_of(asked.report(tmp_path / "r.html"))
    assert "Nothing was left out" in said
    assert (
        "Terms RPO: 1h; objective: 95.00 %; Success, Warning and running sessions protect" in said
    )


def test_what_was_left_out_is_shown_beside_adherence(archive: Archive, tmp_path: Path) -> None:
    closed = pd.DataFrame(
        {"start": [OCT + pd.Timedelta("8h")], "end": [OCT + pd.Timedelta("9h")], "vm": ["db"]}
    )
    asked = archive.select(exclude=closed)
    said = words_of(asked.report(tmp_path / "r.html"))
    whole = asked.rpo_adherence(by=()).iloc[0]
    full = formatting.share(whole["adherence_full"])
    assert whole["adherence_full"] < whole["adherence"]
    assert f"with what is left out {full}" in said
    assert (
        f"Left out of the figures, of all VMs together: 1 h excluded or in grace. "
        f"Adherence with excluded and retired time is {full}." in said
    )
    assert "Adherence With what is left out Strict" in said
    plain = words_of(archive.select().report(tmp_path / "plain.html"))
    assert "left out" not in plain.split("Definitions")[0]


def test_vms_whose_grace_or_retirement_changes_what_was_said_are_named(
    folder: Path, tmp_path: Path
) -> None:
    archive = kept(
        folder,
        session("a1", "first", 0, 2, result="Failed"), session("a2", "first", 2, 24),
        session("b1", "back", 0, 2), session("b2", "back", 18, 24),
    )  # fmt: skip
    question = {"since": "2026-10-01T12:00", "until": "2026-10-01T22:00"}
    said = words_of(
        archive.select(**question, grace="4h", retire_after="6h").report(tmp_path / "r")
    )
    assert "Grace was given though the first attempt lies in the first day" in said
    assert "before which nothing is known: first." in said
    assert "Came back after they were retired" in said
    assert "in earlier periods too: back." in said
    said = words_of(archive.select(**question).report(tmp_path / "r"))
    assert "Grace was given" not in said
    assert "Came back" not in said


def words_of(page: Path) -> str:
    return " ".join(" ".join(Reader(page.read_text()).words).split())


def test_the_period_is_held_against_the_one_before_it(archive: Archive, tmp_path: Path) -> None:
    # db's gap is 08:00 to 10:00, breached from 08:15: 45 min of the three hours up to 09:00, then
    # one hour of the next three; a second VM was covered all the time.
    said = words_of(
        report(archive, tmp_path / "r.html", since="2026-10-01T09:00", until="2026-10-01T12:00")
    )
    assert (
        "VMs were within their RPO 83.33 % of the time, worse than in the period before, "
        "2026-10-01 06:00 to 2026-10-01 09:00 (87.50 %)." in said
    )
    assert "Gold 87.50 % 83.33 % -4.17 points 45 min 1 h worse" in said
    assert "b1 Gold db 75.00 % 66.66 % -8.33 points 45 min 1 h worse" in said


def test_without_a_start_there_is_no_period_before(archive: Archive, tmp_path: Path) -> None:
    said = words_of(report(archive, tmp_path / "r.html"))
    assert "No earlier period to compare with." in said
    said = words_of(report(archive, tmp_path / "r.html", since="2026-10-01", until="2026-10-02"))
    assert "Nothing was observed in the period before, 2026-09-30 00:00 to 2026-10-01 00:00" in said


def test_breaches_are_put_down_to_their_causes(folder: Path, tmp_path: Path) -> None:
    broken = [
        session(f"{vm}{number}", vm, begin, end, **more)
        for vm in ("a", "b")
        for number, (begin, end, more) in enumerate([
            (0, 8, {}), (8, 9, {"result": "Failed", "reason": "storage is down"}), (9, 24, {}),
        ])
    ]  # fmt: skip
    archive = kept(folder, *broken, session("c1", "c", 0, 4), session("c2", "c", 5, 24))
    said = words_of(report(archive, tmp_path / "r.html"))
    assert (
        "Failed: storage is down 2 2 1 h 30 min 66.66 % 2026-10-01 08:00 2026-10-01 09:00" in said
    )
    assert "no session 1 1 45 min 33.33 % 2026-10-01 04:00 2026-10-01 05:00" in said
    assert "All 3 gaps in breach" in said


def test_the_journal_is_shown_where_it_was_fetched(archive: Archive, tmp_path: Path) -> None:
    assert "What could be restored" not in words_of(report(archive, tmp_path / "r.html"))
    stretch = {"vm": "db", "vm_uid": "v1", "policy": "Gold", "policy_uid": "p1", "backup_server": "b1",
               "start": OCT, "end": OCT + pd.Timedelta("10h"), "as_of": OCT + pd.Timedelta("1D")}  # fmt: skip
    rows = [
        {**stretch, "kind": "Asked", "rpo": None},
        {**stretch, "kind": "RestoreAvailable", "rpo": pd.Timedelta("20s"), "end": OCT + pd.Timedelta("8h")},
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=schema.JOURNAL)
    archive.put_day("intervals", EM, OCT, table, OCT + pd.Timedelta("1D"), final=True)
    said = words_of(report(archive, tmp_path / "r.html"))
    assert "What could be restored, and how far apart restore points really were" in said
    assert "b1 Gold db 15 min 10 h 8 h 8 h 80.00 % 80.00 % 20 s 20 s" in said
    assert "What could be restored" not in words_of(report(archive, tmp_path / "r.html", vm="<*"))


def test_odd_sessions_are_counted_with_what_becomes_of_them(folder: Path, tmp_path: Path) -> None:
    odd = kept(
        folder, session("u1", "db", 0, 8), session("u2", "db", 9, 7), session("u3", "db", 10, 24)
    )
    said = words_of(report(odd, tmp_path / "r.html"))
    assert "ends before it begins 1 33.33 % 1 no span, no verdict" in said


def test_exact_numbers_are_inside(archive: Archive, tmp_path: Path) -> None:
    page = report(archive, tmp_path / "r.html").read_text()
    embedded = re.search(r'<script type="application/json" id="rpo">(.*?)</script>', page, re.S)
    assert embedded
    rows = {row["vm"]: row for row in json.loads(embedded[1])}
    assert rows["db"]["breached"] == 105 * 60.0
    assert rows["db"]["adherence"] == 1 - 105 / (24 * 60)
    assert rows[HOSTILE]["adherence"] == 1.0
    assert rows["never-seen"]["adherence"] is None
    expected = archive.sessions().cdp.rpo_adherence(
        by=["backup_server", "policy", "vm"], policies=archive.policies()
    )
    assert json.loads(formatting.json_text(expected)) == json.loads(embedded[1])


def test_it_sends_no_requests_and_runs_only_its_own_script(
    archive: Archive, tmp_path: Path
) -> None:
    page = report(archive, tmp_path / "r.html").read_text()
    read = Reader(page)
    assert "default-src 'none'" in read.all("meta")[1]["content"]
    assert len(read.all("script")) == 3, "the data twice, and ours: none from a name"
    for tag in ("link", "iframe", "object", "embed", "base", "form"):
        assert read.all(tag) == []
    for _, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    for svg in read.all("svg"):
        assert svg["role"] == "img"
        assert svg["aria-label"]
    assert [a for a in read.all("th") if "scope" not in a] == []


def test_the_same_data_gives_the_same_bytes(archive: Archive, tmp_path: Path) -> None:
    first = report(archive, tmp_path / "a.html").read_bytes()
    assert report(archive, tmp_path / "b.html").read_bytes() == first
    later = report(archive, tmp_path / "c.html", generated=OCT + pd.Timedelta("9D")).read_bytes()
    assert later != first


def test_it_says_when_it_was_made_only_where_it_is_told(archive: Archive, tmp_path: Path) -> None:
    page = report(archive, tmp_path / "a.html").read_text()
    assert "<dt>Data as of</dt><dd>2026-10-02 00:00 (UTC)</dd>" in page
    assert "Made at" not in page
    made = report(archive, tmp_path / "b.html", generated=OCT + pd.Timedelta("9D")).read_text()
    assert "<dt>Made at</dt><dd>2026-10-10 00:00 (UTC)</dd>" in made


def test_a_period_before_that_is_hardly_held_is_not_compared(
    archive: Archive, tmp_path: Path
) -> None:
    page = report(archive, tmp_path / "a.html", since="2026-10-01T16:00").read_text()
    assert "better than in the period before" in page, "the eight hours before are held"
    page = report(archive, tmp_path / "b.html", since="2026-10-01T02:00").read_text()
    assert "the data holds only 2 h of 22 h, too little to compare with" in page


def test_breached_in_gaps_and_causes_is_what_lies_inside_the_period(archive: Archive) -> None:
    found = Analysis(archive.select("2026-10-01T09:00/2026-10-01T12:00"))
    assert found.breaches["exposure"].tolist() == [pd.Timedelta("2h")], "the whole gap"
    assert found.breaches["breached"].tolist() == [pd.Timedelta("1h")]
    assert found.causes["breached"].sum() == found.whole["breached"]


def test_those_it_is_prepared_for_can_sign_it_and_each_page_has_a_head(
    archive: Archive, tmp_path: Path
) -> None:
    page = report(
        archive, tmp_path / "a.html", title='x"; } </style><b>', prepared_for=["Jane Doe", HOSTILE]
    ).read_text()
    assert "Jane Doe" in Reader(page).words
    assert HOSTILE in Reader(page).words
    head = re.search(r'@top-left { content: "([^"]*)"', page)
    assert head is not None
    assert head[1].startswith("x\\22 ;")
    assert "<" not in head[1]


def test_what_it_says_is_inside_and_beside_it_as_json(archive: Archive, tmp_path: Path) -> None:
    page, beside = tmp_path / "r.html", tmp_path / "r.json"
    folder = str(archive.path)
    assert main(["report", "--archive", folder, "--output", str(page), "--json", str(beside)]) == 0
    embedded = re.search(
        r'<script type="application/json" id="facts">(.*?)</script>', page.read_text(), re.S
    )
    assert embedded
    facts = json.loads(beside.read_text())
    assert json.loads(embedded[1]) == facts
    assert facts["verdict"].startswith("VMs were within their RPO")
    assert facts["whole"]["breached"] == 105 * 60.0
    assert [row["exposure"] for row in facts["breaches"]] == [7200.0]


def test_details_come_after_everything_else(archive: Archive, tmp_path: Path) -> None:
    page = report(archive, tmp_path / "a.html").read_text()
    assert page.index("<details>") > page.index('id="words"')
    for name in ("incidents", "breaches", "vms", "sizes"):
        assert f'href="#{name}"' in page
        assert f'<table id="{name}"' in page


def test_nothing_observed_is_unknown_and_never_a_pass(folder: Path, tmp_path: Path) -> None:
    failed = kept(folder, session("u1", "db", 0, 8, state="Pending"))
    words = " ".join(Reader(report(failed, tmp_path / "r.html").read_text()).words)
    assert "Unknown: nothing was observed" in words
    assert "Unknown" in words.split("Objective 99.90")[1]


def test_all_kept_is_said_plainly(folder: Path, tmp_path: Path) -> None:
    fine = kept(folder, session("u1", "db", 0, 24))
    words = " ".join(" ".join(Reader(report(fine, tmp_path / "r.html").read_text()).words).split())
    assert (
        "The only VM that was seen was within its RPO, 100 % of the time; whether the objective"
        in words
    )
    assert "No VM missed its target" in words


def test_a_selection_leaves_out_the_vms_it_did_not_ask_for(
    archive: Archive, tmp_path: Path
) -> None:
    page = report(
        archive, tmp_path / "r.html", vm="db", target="3h", since="2026-10-01T04:00"
    ).read_text()
    assert "never-seen" not in page
    assert "alert(1)" not in page
    assert "The only VM was within its RPO, 100 % of the time" in page


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"policy": "Silver"}, r"no policy matches 'Silver' \(known: Gold\)"),
        ({"since": "2026-10-02", "until": "2026-10-01"}, "is not before"),
        ({"objective": 5}, "objective=5 is below 50 %"),
        ({"target": "soon"}, "'soon' is not a length of time"),
        ({"tz": "Mars"}, "'Mars' is not a time zone"),
    ],
)
def test_a_question_that_makes_no_sense_writes_nothing(
    archive: Archive, tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        report(archive, tmp_path / "r.html", **wrong)
    assert not (tmp_path / "r.html").exists()


def test_a_folder_that_is_not_there(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is not a directory"):
        report(archive, tmp_path / "nowhere" / "r.html")


def test_the_heat_map_grows_darker_by_share() -> None:
    cells = {1.0: 0, 0.995: 1, 0.98: 2, 0.9: 3, 0.5: 4, float("nan"): None}
    assert [formatting.severity(adherence) for adherence in cells] == list(cells.values())


def test_words_for_people_never_flatter() -> None:
    assert formatting.share(0.99999999) == "99.99 %"
    assert formatting.share(0.0) == "0 %"
    assert formatting.duration(pd.Timedelta("203ms")) == "0.2 s"
    assert formatting.duration(pd.Timedelta("2D 3h 59min")) == "2 d 3 h"
    assert formatting.duration(pd.Timedelta(0)) == "0 s"
    assert formatting.size(1023) == "1023 B"
    assert formatting.size(1.5 * 2**50) == "1.5 PiB"


def test_tables_are_inert_in_spreadsheets_and_terminals() -> None:
    frame = pd.DataFrame(
        {"vm": ["=1+1", "@x", "a\x1b[2Jb"], "size": pd.array([1, None, 2**40], dtype="Int64")}
    )
    assert formatting.csv_text(frame).splitlines() == [
        "vm,size",
        "'=1+1,1",
        "'@x,",
        "a\x1b[2Jb,1099511627776",
    ]
    assert "\x1b" not in formatting.text(frame)
    assert "1.0 TiB" in formatting.text(frame)
    assert formatting.text(frame.iloc[:0]) == "nothing to show\n"


def test_a_sheet_shows_whole_texts_and_what_a_server_said_is_no_markup() -> None:
    cause = "<script>alert(1)</script>" + "long " * 30
    table = pd.DataFrame({"vm": ["a"], "breached": pd.to_timedelta(["90min"]), "cause": [cause]})
    page = Table(table)._repr_html_()
    assert page == Table(table)._repr_html_(), "the same bytes for the same table"
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "long " * 29 in page
    assert '<td data-sort="5400.0" class="number">1 h 30 min</td>' in page
    assert re.findall(r"<th[^>]*>(\w+)</th>", page) == list(table), "columns by their own names"
    assert "1 h 30 min" in repr(Table(table))


def test_an_export_without_sizes_has_a_report_and_a_workbook(tmp_path: Path) -> None:
    export = pd.DataFrame({"vm": ["a", "a"], "created": [OCT, OCT + pd.Timedelta("9h")],
                           "ended": [OCT + pd.Timedelta("8h"), OCT + pd.Timedelta("20h")]})  # fmt: skip
    asked = export.cdp.select(target="15min")
    said = words_of(asked.report(tmp_path / "r.html"))
    assert formatting.share(1 - 45 / 1200) in said
    assert "No session with a size has ended" in said
    assert asked.to_excel(tmp_path / "r.xlsx").stat().st_size > 0


def test_an_hour_that_comes_twice_is_shown_with_its_offset(tmp_path: Path) -> None:
    """In Berlin it is 02:30 at 00:30 and at 01:30 UTC of 25 October."""
    hours = [(0, 4.5), (5, 5.5), (6, 10)]
    start = pd.Timestamp("2026-10-24 20:00", tz="UTC")
    export = pd.DataFrame({
        "vm": "a", "created": [start + pd.Timedelta(hours=begin) for begin, _ in hours],
        "ended": [start + pd.Timedelta(hours=end) for _, end in hours],
    })  # fmt: skip
    asked = export.cdp.select(tz="Europe/Berlin", target="5min")
    text = formatting.text(asked.gaps(), "Europe/Berlin")
    assert re.findall(r"2026-10-25 0\S+", text) == [
        "2026-10-25 02:30+02:00", "2026-10-25 02:00+01:00", "2026-10-25 02:30+01:00", "2026-10-25 03:00",
    ]  # fmt: skip
    page = asked.report(tmp_path / "r.html").read_text()
    assert ">2026-10-25 02:30+02:00<" in page
    assert ">2026-10-25 02:30+01:00<" in page
