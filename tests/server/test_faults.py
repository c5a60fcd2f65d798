"""Faults of the wire: each strikes a real sync once and for good, and no session is lost or doubled.

The rows of docs/reliability.md are what these tests saw: `make reliability` writes them anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.errors import CdpError
from cdpanalytics.server.retry import RetryPolicy
from cdpanalytics.simulator import Fault, Fleet, Simulator
from cdpanalytics.simulator.faults import KINDS
from cdpanalytics.synchronize import sync
from tests.conftest import NIGHTLY
from tests.test_synchronize import assert_equals_truth, assert_not_asked_again, manager

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- from the tests -->\n", "<!-- end -->\n"
LATER_PAGES = {"grows", "shrinks", "repeats", "beyond"}

TWICE = {"busy", "reset", "cut", "garbled", "html", "repeats", "beyond", "someday", "twins",
         "countless", "elsewhere", "drip"}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {"drip": {"answer_timeout": 0.5}}
LASTING: dict[str, dict[str, Any]] = {**OPTIONS, "silence": {"timeout": (5, 1)}}
HARMLESS = {"page-size", "xml", "miscounted", "padded", "cases", "undated"}
"""What a lasting fault of this kind does not keep from being read."""

WRITES = os.environ.get("CDPANALYTICS_WRITE_DOCS")
ALL = NIGHTLY or WRITES
"""Whether each lasting fault is tried; a third of them is by day."""

seen: dict[str, list[str]] = {}


@pytest.fixture(scope="module")
def answers(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The page numbers a sync without faults asks for, in order."""
    with Simulator(fleet) as server:
        assert run(server, tmp_path_factory.mktemp("whole") / "archive") == "survived"
        return [int(query["page"]) for _, _, query, _ in server.requests
                if query.get("type") == "CdpReplicaTaskSession"]  # fmt: skip


def halfway(kind: str, answers: list[int]) -> int:
    """How many answers that a fault could strike pass first: it strikes in the middle."""
    return len([page for page in answers if page > 1 or kind not in LATER_PAGES]) // 2


def lost_and_doubled(archive: Archive, fleet: Fleet, server: Simulator) -> tuple[int, int]:
    uids = archive.sessions()["uid"].tolist()
    truth = set(fleet.task_sessions(server.clock())["uid"])
    return len(truth - set(uids)), len(uids) - len(set(uids))


def run(server: Simulator, folder: Path, quick: bool = False, **options: Any) -> str:
    """Sync, and say how it ended."""
    with manager(server, page_size=8, parallel=2, retry=RetryPolicy(backoff=0), **options) as em:
        try:
            sync(em, Archive(folder), since="7D", quick=quick, progress=False)
        except CdpError as error:
            told = str(error).replace(server.url, "URL")
            return re.sub(r"URL CdpReplicaTaskSession where [^ ]+?(: | page)", r"URL\1", told)
    return "survived"


@pytest.mark.parametrize("kind", KINDS)
def test_a_passing_fault_is_survived(
    kind: str, server: Simulator, fleet: Fleet, folder: Path, answers: list[int]
) -> None:
    times = 2 if kind in TWICE else 1
    server.faults.set(Fault(kind, times, halfway(kind, answers)))
    assert run(server, folder, **OPTIONS.get(kind, {})) == "survived"
    assert server.faults.strike(2) is None, "the fault has struck"
    archive = Archive(folder)
    assert_equals_truth(archive, fleet, server)
    assert archive.verify().empty
    assert archive.holes().empty
    lost, doubled = lost_and_doubled(archive, fleet, server)
    assert (lost, doubled) == (0, 0)
    seen.setdefault(kind, []).append("survived once" if times == 1 else "survived twice in a row")


@pytest.mark.parametrize("kind", KINDS if ALL else [*KINDS][::3])
def test_after_a_lasting_fault_a_second_sync_goes_on(
    kind: str, server: Simulator, fleet: Fleet, folder: Path, answers: list[int]
) -> None:
    server.faults.set(Fault(kind, None, halfway(kind, answers)))
    told = run(server, folder, **LASTING.get(kind, {}))
    archive = Archive(folder)
    assert "\n" not in told
    assert archive.verify().empty, "what is there is sound"
    if kind in HARMLESS:
        assert told == "survived"
    else:
        assert re.search(r"; [1-6] of [78] days are stored, the next sync continues$", told), told
        finished = archive.ledger().query("final")["day"].tolist()
        assert finished
        server.faults.set()
        before = len(server.requests)
        assert run(server, folder, quick=True) == "survived"
        assert_not_asked_again(server, before, finished)
    archive = Archive(folder)
    assert_equals_truth(archive, fleet, server)
    lost, doubled = lost_and_doubled(archive, fleet, server)
    assert (lost, doubled) == (0, 0)
    said = re.sub(r"; \d of \d days are stored, the next sync continues$", "", told)
    said = re.sub(r"URL( CdpReplicaTaskSession)?( page \d+)?: ", "", said)
    said = re.sub(r"starting '.*'", "starting ...", said)
    said = re.sub(r"(session of) [\d-]+ [\d:]+", r"\1 another day", said)
    said = re.sub(r"not JSON \(.*?\)", "not JSON", said)
    said = re.sub(r"\([\d,]+ bytes\)", "(... bytes)", said)
    said = re.sub(r", got agentbackupjob.*", ", got ...", said)
    said = re.sub(r"cannot be reached: [^;]+", "cannot be reached: ...", said)
    seen.setdefault(kind, []).append(f"{said} | {lost} | {doubled}")


def test_the_fault_matrix_in_the_docs_is_what_was_seen() -> None:
    if set(seen) != set(KINDS) or any(len(found) != 2 for found in seen.values()):
        pytest.skip("only some of the faults were run")
    head = (
        "| fault | what happens | passing | lasting: the sync ends with | rows lost | rows doubled |\n"
        "|---|---|---|---|---:|---:|\n"
    )
    lines = "".join(f"| {kind} | {KINDS[kind]} | {' | '.join(seen[kind])} |\n" for kind in KINDS)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    if WRITES:
        DOCUMENT.write_text(before + BEGIN + head + lines + END + after, encoding="utf-8")
        return
    assert table == head + lines, "run: make reliability"


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    seen.clear()
