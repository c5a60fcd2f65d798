"""Saved pages of the API and exports in CSV become an archive that says where it comes from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from pandas.testing import assert_frame_equal

from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.presentation import formatting
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync
from cdpanalytics.synchronize.importing import import_files

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
KINDS = ("CdpReplicaTaskSession", "CdpReplicaSession", "CdpPolicy")
Save = Callable[..., list[Path]]


@pytest.fixture(scope="module")
def saved(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Save all pages of the three queries, as a person with a browser would."""

    def save(accept: str, size: int = 100) -> list[Path]:
        folder = tmp_path_factory.mktemp("pages")
        with Simulator(fleet) as server, requests.Session() as session:
            logon = session.post(f"{server.url}/api/sessionMngr/?v=v1_7", auth=("demo", "demo"))
            session.headers["X-RestSvcSessionId"] = logon.headers["X-RestSvcSessionId"]
            session.headers["Accept"] = f"application/{accept}"
            paths = []
            for kind in KINDS:
                number, count = 1, 1
                while number <= count:
                    question = {"type": kind, "format": "Entities", "pageSize": str(size),
                                "page": str(number), "sortAsc": "CreationTimeUTC"}  # fmt: skip
                    if kind == "CdpPolicy":
                        question["sortAsc"] = "Name"
                    answer = session.get(f"{server.url}/api/query", params=question)
                    assert answer.ok, answer.text
                    paths.append(folder / f"{kind}-{number}.{accept}")
                    paths[-1].write_bytes(answer.content)
                    count = page_count(answer.content, accept)
                    number += 1
        return paths

    return save


def page_count(body: bytes, accept: str) -> int:
    pattern = rb'PagesCount="(\d+)"' if accept == "xml" else rb'"[Pp]agesCount"\s*:\s*(\d+)'
    match = re.search(pattern, body)
    assert match is not None
    return int(match[1])


@pytest.fixture(scope="module")
def synced(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = Archive(tmp_path_factory.mktemp("synced") / "archive")
    with (
        Simulator(fleet) as server,
        EnterpriseManager(server.url, "demo", "demo", cache=False) as em,
    ):
        sync(em, archive, "90D", progress=False)
    return archive


@pytest.mark.parametrize("accept", ["xml", "json"])
def test_an_archive_of_saved_pages_answers_as_one_that_was_synced(
    accept: str, saved: Save, synced: Archive, tmp_path: Path
) -> None:
    pages = saved(accept)
    as_of = next(iter(synced.as_of_by_source().values()))
    archive = Archive(tmp_path / "archive")
    result = import_files(archive, pages, as_of=as_of)
    assert result.added == result.sessions == len(synced.sessions())
    start = synced.sessions()["created"].min().ceil("D")
    columns = ["vm", "observed", "breached", "adherence"]
    ours, theirs = (
        each.select(since=start, until=as_of).rpo_adherence(by=["policy", "vm"])[columns]
        for each in (archive, synced)
    )
    assert_frame_equal(ours, theirs)
    assert archive.verify().empty
    again = import_files(archive, pages, as_of=as_of)
    assert again.added == 0
    assert len(archive.sessions()) == result.sessions


def test_provenance_says_that_no_server_was_asked(saved: Save, tmp_path: Path) -> None:
    pages = saved("json")
    archive = Archive(tmp_path / "archive")
    import_files(archive, pages, source="mail of 5 October")
    made = archive.provenance()
    assert made["sources"] == ["mail of 5 October"]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pages}
    assert made["imported"] == digests
    page = archive.select().report(tmp_path / "report.html").read_text()
    assert all(digest in page for digest in digests.values())


def test_a_missing_page_is_refused(saved: Save, tmp_path: Path) -> None:
    pages = saved("json", 40)
    without = [path for path in pages if path.name != "CdpReplicaTaskSession-2.json"]
    assert len(without) == len(pages) - 1
    with pytest.raises(InputError, match=r"page 2 of \d+ of CdpReplicaTaskSession is missing"):
        import_files(Archive(tmp_path / "archive"), without)
    assert not (tmp_path / "archive" / "sessions").exists()


def test_a_csv_export_becomes_an_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export.csv"
    export.write_text(
        "Maschine;Beginn;Ende;Ergebnis;Größe (GB)\n"
        "sql-1;01.10.2026 08:00;01.10.2026 16:00;Erfolg;16,0\n"
        "sql-1;01.10.2026 16:30;02.10.2026 00:00;Warnung;16,0\n"
        "sql-1;02.10.2026 00:00;02.10.2026 08:00;Fehler;16,0\n",
        encoding="cp1252",
    )
    folder = tmp_path / "archive"
    words = ["import", str(export), "--archive", str(folder), "--tz", "Europe/Berlin", "--day-first",
             "--unit", "GB", "--column", "vm=Maschine", "--column", "created=Beginn",
             "--column", "ended=Ende", "--column", "result=Ergebnis", "--column",
             "total_size=Größe (GB)", "--result", "Erfolg=Success", "--result", "Warnung=Warning"]  # fmt: skip
    assert main(words) == 1
    assert "export.csv, line 4: result 'Fehler' is not one of" in capsys.readouterr().err
    assert main([*words, "--result", "Fehler=Failed"]) == 0
    assert "3 sessions of 1 files, 3 new; as of 2026-10-02 06:00 UTC" in capsys.readouterr().err
    row = Archive(folder).select(target="15min").rpo_adherence(by="vm").iloc[0]
    assert (row["observed"], row["breached"]) == (pd.Timedelta("24h"), pd.Timedelta("8h"))
    assert Archive(folder).sessions()["total_size"].tolist() == [16 * 2**30] * 3
    assert main([*words, "--result", "Fehler=Failed"]) == 0
    assert "0 new" in capsys.readouterr().err


def test_an_archives_own_csv_comes_back_the_same(synced: Archive, tmp_path: Path) -> None:
    path = tmp_path / "sessions.csv"
    held = synced.sessions()
    path.write_text(formatting.csv_text(held), encoding="utf-8")
    archive = Archive(tmp_path / "archive")
    import_files(archive, [path])
    columns = ["uid", "vm", "policy", "backup_server", "created", "ended", "state", "result",
               "policy_result", "reason", "total_size", "rpo"]  # fmt: skip
    back = archive.sessions()[columns].sort_values("uid", ignore_index=True)
    assert_frame_equal(
        back, held[columns].sort_values("uid", ignore_index=True), check_dtype=False,
        check_categorical=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        (
            "jobs.json",
            b'{"Entities": {"Jobs": {"Jobs": []}}}',
            "jobs.json is not a page of task sessions",
        ),
        ("x.csv", b"name;when\na;b\n", r"x.csv: each row needs 'vm' \(has: name, when\)"),
        ("y.csv", b"vm,created\na,2099-10-01T00:00Z\n", "as of 2099-10-01 00:00 UTC: not between"),
        ("page.xml", b"<QueryResult><Entities><CdpReplicaTaskSessions>", "page.xml: "),
        ("none.csv", b"", "none.csv is empty"),
    ],
)
def test_what_is_not_of_sessions_is_refused_in_a_line(
    name: str, body: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    with pytest.raises(CdpError, match=said) as caught:
        import_files(Archive(tmp_path / "archive"), [path])
    assert "\n" not in str(caught.value)


WIRE = Path(__file__).parent / "server" / "wire"


def respelled(spell: Callable[[str], str], *, nulls: bool = True) -> bytes:
    """Return the page of version 12 with other keys, or without what is null."""

    def walk(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {
                spell(key): walk(value) for key, value in tree.items() if nulls or value is not None
            }
        return [walk(item) for item in tree] if isinstance(tree, list) else tree

    return json.dumps(
        walk(json.loads((WIRE / "task_sessions.v12.json").read_text("utf-8-sig")))
    ).encode()


def camel(key: str) -> str:
    """Lower the capitals a key begins with, all but the last one before a small letter, as version 13 does."""
    capitals = re.match("[A-Z]*", key)[0]  # type: ignore[index]
    count = len(capitals) if capitals == key else max(1, len(capitals) - 1)
    return key[:count].lower() + key[count:]


SPELLINGS: dict[str, Callable[[], bytes]] = {
    "version 13": lambda: (WIRE / "task_sessions.v13.json").read_bytes(),
    "camel case": lambda: respelled(camel),
    "small letters": lambda: respelled(str.lower),
    "capitals": lambda: respelled(str.upper),
    "without nulls": lambda: respelled(str, nulls=False),
    "with a mark": lambda: b"\xef\xbb\xbf" + respelled(str),
    "as PowerShell saves": lambda: respelled(str).decode().replace(", ", ",\r\n").encode("utf-16"),
    "big endian": lambda: b"\xfe\xff" + respelled(camel).decode().encode("utf-16-be"),
    "XML": lambda: (WIRE / "task_sessions.xml").read_bytes(),
    "XML with a mark": lambda: b"\xef\xbb\xbf" + (WIRE / "task_sessions.xml").read_bytes(),
    "XML as PowerShell saves": lambda: (WIRE / "task_sessions.xml").read_text().encode("utf-16"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_is_read_alike(spelling: str, tmp_path: Path) -> None:
    frames = []
    for name, body in (("ours", respelled(str)), ("theirs", SPELLINGS[spelling]())):
        (tmp_path / name).write_bytes(body)
        archive = Archive(tmp_path / f"{name}-archive")
        import_files(archive, [tmp_path / name])
        frames.append(archive.sessions())
    assert len(frames[0]) == 3
    assert_frame_equal(*frames)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not beside this checkout")
def test_bodies_of_the_vendors_manual_are_imported(tmp_path: Path) -> None:
    names = ["CdpReplicaTaskSession_entities", "CdpPolicy_entities",
             "CdpReplicaSession_entities_CdpPolicySession_child"]  # fmt: skip
    files = [SAMPLES / f"xml_docs_query_{name}.xml" for name in names]
    archive = Archive(tmp_path / "archive")
    result = import_files(archive, files)
    assert (result.sessions, result.added) == (3, 3)
    sessions = archive.sessions()
    assert set(sessions["vm"]) == {"virt03-ubuntu01"}
    assert sessions["created"].min() == pd.Timestamp("2025-06-15 07:00:06.787Z")
