"""What the documents say is what the code does."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cdpanalytics import metrics

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_definitions_and_captions_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/fill.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_each_metric_is_defined_once() -> None:
    headings = re.findall(r"^### (\w+)$", (DOCS / "metrics.md").read_text(), re.M)
    assert sorted(headings) == sorted(metrics.__all__)


@pytest.mark.parametrize("name", ["metrics.md", "verdicts.md", "questions.md"])
def test_examples_give_what_they_show(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    scope = {each: getattr(metrics, each) for each in metrics.__all__}
    found = doctest.testfile(
        str(DOCS / name), module_relative=False, optionflags=flags, globs=scope
    )
    assert found.attempted > 10
    assert found.failed == 0


def test_each_picture_and_page_linked_is_there() -> None:
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"
