"""The language: phrases that readers stumble over do not occur in code, messages, pages or tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("cdpanalytics", "docs", "tests", "benchmarks", "notebooks", "data")
TEXT = {".py", ".md", ".toml", ".ipynb", ".j2", ".html", ".js", ".css"}
GENERATED = ("build", "_build", "__pycache__", ".ipynb_checkpoints")

PHRASES = {
    # Python's own name of an argument of `io.RawIOBase.seek` is allowed.
    "whence, whither": r"\bwhence\b(?!: int|\])|\bwhither\b",
    "nobody or anybody, where nothing or no VM is meant": r"\b(?:nobody|anybody)\b",
    "X is no Y (X is not a Y)": r"(?<![Tt]here )\bis\s+no\s+(?!longer\b|more\b|one\b)\w+",
    "a row a VM (one row per VM)":
        r"\b[Aa]\s+(?:row|line|file|day|process|core|range|number)\s+an?\s+\w+",
    "put down to (caused by)": r"\bput\s+down\s+to\b",
    "held against (compared with)": r"\bheld\s+against\b",
    "told apart (distinguished)": r"\btold\s+apart\b",
    "speaks for (describes; as_of)": r"\b(?:speaks?|spoken?)\s+for\b",
    "mend (repair)": r"\bmend(?:s|ed|ing)?\b",
    "knows nothing of, knows no": r"\bknows?\s+(?:no|nothing)\b",
    "what there is of, what it is by": r"\bwhat\s+(?:there|it|they)\s+(?:is|are|was|were)\s+(?:of|by|for|in)\b",
    "stands in (is in)": r"\bstands?\s+(?:in|beside|below|above|on|there|elsewhere)\b",
}  # fmt: skip


def _files() -> list[Path]:
    """Return the texts of the project, without this file, which lists the phrases."""
    inside = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in TEXT and not set(path.relative_to(ROOT).parts) & set(GENERATED)
    ]
    return sorted({*inside, *ROOT.glob("*.md"), ROOT / "pyproject.toml"} - {Path(__file__)})


def _occurrences(text: str) -> list[str]:
    """Return line, phrase and context of each unwanted phrase, also across a line break."""
    return [
        f"{text.count(chr(10), 0, match.start()) + 1}: {name}: {match.group()!r}"
        for name, pattern in PHRASES.items()
        for match in re.finditer(pattern, text)
    ]


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_in_plain_english(path: Path) -> None:
    assert _occurrences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a file whence it was read", 1),
        ("def seek(self, offset: int, whence: int = 0)", 0),
        ("this is no answer", 1),
        ("There is no archive at x", 0),
        ("it is no longer read", 0),
        ("a row a\n    VM", 1),
        ("one row per VM", 0),
        ("breaches are put\n    down to a policy", 1),
    ],
)
def test_the_phrases_are_recognized(text: str, count: int) -> None:
    assert len(_occurrences(text)) == count
