"""What the documents say is what the code does."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import cdpanalytics
from cdpanalytics import cli, metrics, plots

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.mark.slow
def test_definitions_and_captions_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/fill.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_each_metric_is_defined_once() -> None:
    headings = re.findall(r"^### (\w+)$", (DOCS / "metrics.md").read_text(), re.M)
    for name in metrics.__all__:
        assert name in headings, (
            f"add the lines '<!-- {name} -->' and '<!-- / -->' to docs/metrics.md; then: make docs"
        )
    assert sorted(headings) == sorted(metrics.__all__)


@pytest.mark.parametrize("name", ["auditors.md", "metrics.md", "verdicts.md", "questions.md"])
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


PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def commands() -> Iterator[tuple[str, str]]:
    """Each command line of ours in a page: in blocks whole, in prose as far as it goes."""
    for page in PAGES:
        text = page.read_text()
        for language, block in FENCED.findall(text):
            if language in ("", "ini"):
                for line in re.findall(
                    r"(?:^|[\s/\"])cdpanalytics +([a-z][^\"\n]*(?:\"[^\"]*\"[^\"\n]*)*)", block
                ):
                    yield page.name, line
        for inline in re.findall(r"`cdpanalytics +([a-z][^`\n]*)`", FENCED.sub("", text)):
            yield page.name, inline


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_each_command_shown_is_one(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maintenance.csv").write_text("start,end\n")
    words = shlex.split(line.replace("\\", "/"), comments=True)
    words = words[: words.index(">")] if ">" in words else words
    command = cli.parser()
    for word in words:
        if command._subparsers is None:
            break
        known = command._subparsers._group_actions[0].choices
        assert word in known, page  # type: ignore[operator]
        command = known[word]  # type: ignore[index]
    options = command._option_string_actions
    for word in words[1:]:
        if word.startswith("--"):
            assert word in options, f"{page}: {words[0]} has no {word}"
    whole = [option for option, action in options.items() if action.required]
    if "--help" not in words and all(set(words) & {option} for option in whole):
        cli.parser().parse_args(words)


def test_commands_were_found() -> None:
    found = {line.split()[0] for _, line in commands()}
    known = cli.parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert found == set(known), "each command is shown somewhere"  # type: ignore[arg-type]


def test_each_public_name_shown_exists() -> None:
    blocks = [
        (page.name, block)
        for page in PAGES
        for language, block in FENCED.findall(page.read_text())
        if language in ("python", "pycon")
    ]
    assert len(blocks) > 20
    for page, block in blocks:
        for home, pattern in (
            (cdpanalytics, r"(?<![.\w])cdp\.(\w+)"),
            (metrics, r"(?<![.\w])metrics\.(\w+)"),
            (plots, r"(?<![.\w])plots\.(\w+)"),
            (pd.DataFrame.cdp, r"\w\.cdp\.(\w+)"),  # type: ignore[attr-defined]
        ):
            for name in re.findall(pattern, block):
                assert hasattr(home, name), f"{page}: {name}"


def keywords_of(block: str) -> Iterator[tuple[str, str, str]]:
    """Each argument by name of a method call in a block: what it is called on, method, argument."""
    for call in ast.walk(ast.parse(block)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            for keyword in call.keywords:
                if keyword.arg:
                    yield ast.unparse(call.func.value), call.func.attr, keyword.arg


def takes(homes: list[object], method: str, argument: str) -> bool:
    """Whether one of the methods of this name takes the argument, or none is of ours."""
    ours = [getattr(home, method) for home in homes if callable(getattr(home, method, None))]
    every = [
        parameter for each in ours for parameter in inspect.signature(each).parameters.values()
    ]
    return not ours or any(
        parameter.name == argument or parameter.kind is parameter.VAR_KEYWORD for parameter in every
    )


def test_each_argument_shown_is_one_of_its_method() -> None:
    """Of the blocks without results, which need an archive or a server and are not run."""
    modules = {"cdp": cdpanalytics, "metrics": metrics, "plots": plots}
    classes = [cdpanalytics.Selection, cdpanalytics.Archive, cdpanalytics.EnterpriseManager]
    found = 0
    for page in PAGES:
        for language, block in FENCED.findall(page.read_text()):
            for on, method, argument in keywords_of(block) if language == "python" else ():
                frame = [pd.DataFrame.cdp] if on.endswith(".cdp") else classes  # type: ignore[attr-defined]
                homes = [modules[on]] if on in modules else frame
                assert takes(homes, method, argument), f"{page.name}: {method} has no {argument}="
                found += 1
    assert found > 15


def test_an_argument_that_a_method_lacks_is_found() -> None:
    selection = [cdpanalytics.Selection]
    assert takes(selection, "rpo_adherence", "freq")
    assert not takes(selection, "rpo_adherence", "tz")
    assert takes(selection, "assign", "rpo"), "a method of pandas"


def test_each_public_name_is_in_the_reference() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    listed = set(re.findall(r"^\.\. auto(?:class|function):: (\w+)", pages, re.M))
    drawn = set(plots.__all__) - {"Chart", "styled"}
    public = set(cdpanalytics.__all__) - {"errors", "metrics"}
    missing = {*public, *metrics.__all__, *drawn} - listed
    assert not missing, (
        f"add '.. autofunction:: NAME' of {sorted(missing)} to a page of docs/reference, a metric's to metrics.md"
    )


def test_each_method_of_a_selection_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "selection.md").read_text()
    listed = set(re.findall(r"^\.\. auto\w+:: Selection\.(\w+)$", page, re.M))
    assert listed <= set(dir(cdpanalytics.Selection)), "a method that is gone"
    missing = {*metrics.__all__, "report", "to_excel", "plot", "explore"} - listed
    assert not missing, (
        f"add '.. automethod:: Selection.NAME' of {sorted(missing)} to docs/reference/selection.md"
    )


def told() -> str:
    """Every text of the package, with a mark where a value is filled in."""
    texts = []
    for path in (ROOT / "cdpanalytics").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_each_error_of_troubleshooting_is_one() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text(), re.M)
    assert len(rows) > 10
    every = told()
    assert [text for text in rows if text not in every] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees",
         "docs", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Return one row per gap" in (tmp_path / "site/reference/metrics.html").read_text()
