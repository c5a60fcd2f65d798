"""Files become an archive: saved pages in each spelling, and exported tables; the source says so."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import requests
from pandas.testing import assert_frame_equal

from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.foreign import Translation
from cdpanalytics.importing import import_files
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync
from tests.conftest import UNTIL

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
PAGES = ("CdpReplicaTaskSession", "CdpReplicaSession", "CdpPolicy")


def saved_pages(server: Simulator, folder: Path, accept: str) -> list[Path]:
    """Save all pages of the three queries, as a person would with a browser or curl."""
    session = requests.Session()
    session.headers["Accept"] = accept
    answer = session.post(
        f"{server.url}/api/sessionMngr/?v=latest", auth=("demo", "demo"), timeout=30
    )
    session.headers["X-RestSvcSessionId"] = answer.headers["X-RestSvcSessionId"]
    files = []
    for kind in PAGES:
        pages, number = 1, 0
        while number < pages:
            number += 1
            query = {"type": kind, "format": "Entities", "pageSize": "100", "page": str(number)}
            page = session.get(f"{server.url}/api/query", params=query, timeout=30)
            page.raise_for_status()
            pages = int(re.search(rb'(?i)pagescount"?[=:]\s*"?(\d+)', page.content)[1])  # type: ignore[index]
            path = folder / f"{kind}-{number}.page"
            path.write_bytes(page.content)
            files.append(path)
    return files


@pytest.mark.parametrize("accept", ["application/json", "application/xml"])
def test_saved_pages_answer_as_a_sync(accept: str, tmp_path: Path) -> None:
    fleet = Fleet.generate(vms=4, days=3, seed=3, until=UNTIL, policies=2)
    with Simulator(fleet) as server:
        files = saved_pages(server, tmp_path, accept)
        imported = Archive(tmp_path / "imported")
        with EnterpriseManager(server.url, "demo", "demo") as em:
            sync(em, Archive(tmp_path / "synced"), since="4D")
    synced = Archive(tmp_path / "synced")
    as_of = max(synced.as_of_by_source().values())
    result = import_files(imported, files, as_of=as_of)
    assert not [note for note in result.notes if "pages of" in note]
    since = as_of - pd.Timedelta("2D")
    by = ["backup_server", "policy", "vm"]
    tables = [
        each.select(since=since, until=as_of).rpo_adherence(by=by) for each in (imported, synced)
    ]
    assert_frame_equal(*tables, check_exact=True)
    assert (tables[0]["sessions"] > 0).any()
    assert imported.select().provenance()["sources"] == ["import://files"]
    # Again: nothing is doubled.
    assert import_files(imported, files, as_of=as_of).sessions == result.sessions
    assert len(imported.sessions()) == result.sessions


def test_an_export_in_german_becomes_an_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export.csv"
    export.write_bytes(
        "Maschine;Beginn;Ende;Ergebnis\nsql-1;01.10.2026 08:00;01.10.2026 16:00;Erfolg\n"
        "sql-1;01.10.2026 16:30;02.10.2026 00:00;Fehler\n".encode("cp1252")
    )
    folder = tmp_path / "archive"
    words = [
        "import",
        str(export),
        "--archive",
        str(folder),
        "--tz",
        "Europe/Berlin",
        "--name",
        "vienna",
    ]
    for pair in ("vm=Maschine", "created=Beginn", "ended=Ende", "result=Ergebnis"):
        words += ["--column", pair]
    assert main([*words, "--result", "Erfolg=Success"]) == 1
    assert "has the result 'Fehler' in 1 rows" in capsys.readouterr().err
    assert main([*words, "--result", "Erfolg=Success", "--result", "Fehler=Failed"]) == 0
    told = capsys.readouterr().err
    assert (
        "2 sessions of 1 files, 2026-10-01 06:00 to 2026-10-01 22:00 UTC, as source import://vienna"
        in told
    )
    assert "SHA-256 of the files: " in told
    gaps = Archive(folder).select(target="15min").gaps()
    assert gaps["exposure"].tolist() == [pd.Timedelta("8h")]
    assert len(Archive(folder).verify()) == 0


def test_what_cannot_be_imported_is_told(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    page = tmp_path / "page.json"
    page.write_text('{"Refs": []}')
    with pytest.raises(CdpError, match=r"page\.json: "):
        import_files(archive, [page])
    table = tmp_path / "table.csv"
    table.write_text("vm,created\na,2026-10-01T00:00Z\n")
    with pytest.raises(InputError, match=r"table\.csv has no column 'ended' .*--column ended=HEAD"):
        import_files(archive, [table], translation=Translation())
    table.write_text("vm,created,ended\n")
    with pytest.raises(CdpError):
        import_files(archive, [table])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the recorded samples are not in this repository")
def test_recorded_pages_are_taken(tmp_path: Path) -> None:
    names = ("xml_docs_query_CdpReplicaTaskSession_entities.xml", "xml_docs_query_CdpPolicy_entities.xml",
             "xml_docs_query_CdpReplicaSession_entities_CdpPolicySession_child.xml")  # fmt: skip
    archive = Archive(tmp_path / "archive")
    result = import_files(archive, [SAMPLES / name for name in names])
    assert result.sessions > 0
    assert len(archive.sessions()) == result.sessions
    assert len(archive.verify()) == 0
