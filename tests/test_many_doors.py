"""One question, one answer: every public way to ask gives the same number, to the digit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from cdpanalytics import metrics
from cdpanalytics.cli import main
from cdpanalytics.presentation import formatting
from cdpanalytics.selection import Selection
from tests.builders import START, RandomArchive, random_archive

SEEDS = range(3)
SINCE, UNTIL = START + pd.Timedelta("2D"), START + pd.Timedelta("9D")
VM = ["backup_server", "policy", "vm"]
QUESTION = {"retire_after": "3D"}


@pytest.fixture(scope="module", params=SEEDS)
def drawn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RandomArchive:
    return random_archive(tmp_path_factory.mktemp("doors") / "archive", request.param)


@pytest.fixture(scope="module")
def selection(drawn: RandomArchive) -> Selection:
    return drawn.archive.select(SINCE, UNTIL, exclude=drawn.exclusions, **QUESTION)


def asked(selection: Selection) -> dict[str, Any]:
    """The same question as arguments of a metric."""
    return {
        "since": SINCE, "until": UNTIL, "policies": selection.policies, "unobserved": selection.holes,
        "exclude": selection.exclude, "retire_after": "3D",
    }  # fmt: skip


@pytest.mark.parametrize("by", ["policy", "vm", VM, ()], ids=str)
def test_a_frame_answers_as_its_selection(selection: Selection, by: Any) -> None:
    frame = selection.frame()
    assert_frame_equal(
        frame.cdp.rpo_adherence(by=by, **asked(selection)),
        selection.rpo_adherence(by=by),
        check_exact=True,
    )


def test_gaps_of_a_frame_are_those_of_its_selection(selection: Selection) -> None:
    assert_frame_equal(
        selection.frame().cdp.gaps(**asked(selection)), selection.gaps(), check_exact=True
    )


@pytest.fixture
def arguments(drawn: RandomArchive, tmp_path: Path) -> list[str]:
    """The same question on the command line."""
    exclusions = tmp_path / "exclusions.csv"
    drawn.exclusions.to_csv(exclusions, index=False)
    return ["--archive", str(drawn.archive.path), "--since", SINCE.isoformat(), "--until", UNTIL.isoformat(),
            "--exclude", str(exclusions), "--retire-after", "3D"]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "table"),
    [
        (["metrics", "rpo", "--by", "backup_server,policy,vm"], lambda s: s.rpo_adherence(by=VM)),
        (["metrics", "gaps"], lambda s: s.gaps()),
        (["metrics", "sizes", "--by", "policy"], lambda s: s.sizes(by="policy")),
        (["metrics", "objectives", "--by", "policy"], lambda s: s.objectives(by="policy")),
        (["metrics", "worst", "--by", "policy,vm"], lambda s: s.worst()),
        (["metrics", "compare", "--by", "policy"], lambda s: s.compare(by="policy")),
        (["metrics", "durations", "--by", "policy"], lambda s: s.durations(by="policy")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_answers_as_the_selection(
    selection: Selection,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    table: Callable[[Selection], pd.DataFrame],
) -> None:
    taken = arguments if command[1] != "durations" else arguments[:6]
    assert main([*command, *taken, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(formatting.json_text(table(selection)))


def test_check_answers_as_the_selection(
    selection: Selection, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", *arguments, "--by", "policy"])
    printed = capsys.readouterr().out
    for line in formatting.objective_lines(selection.objectives(by="policy")):
        assert line in printed


def test_the_report_answers_as_the_selection(selection: Selection, tmp_path: Path) -> None:
    page = selection.report(tmp_path / "report.html").read_text()
    embedded = re.search(r'<script type="application/json" id="rpo">(.*?)</script>', page, re.S)
    assert embedded is not None
    assert json.loads(embedded[1]) == json.loads(
        formatting.json_text(selection.rpo_adherence(by=VM))
    )


def test_the_explorer_answers_as_the_selection(selection: Selection) -> None:
    explorer = selection.explore(period="all")
    whole = selection.rpo_adherence(by=()).iloc[0]
    assert f'<dd class="value">{formatting.share(whole["adherence"])}</dd>' in explorer._view.tiles
    assert_frame_equal(explorer.analysis.vms, selection.rpo_adherence(by=VM), check_exact=True)


def test_a_metric_function_answers_as_the_selection(selection: Selection) -> None:
    table = metrics.objectives(selection.frame(), by="policy", **asked(selection))
    assert_frame_equal(table, selection.objectives(by="policy"), check_exact=True)
