"""The pictures of README and docs show what the program shows now; ``make screenshots`` takes them anew."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from cdpanalytics.archive import Archive
from cdpanalytics.questions import report

from .conftest import ROOT, Lab, draw

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DOCS = ROOT / "docs"
RECORD = DOCS / "screenshots.json"
WRITE = bool(os.environ.get("CDPANALYTICS_WRITE_DOCS"))


def words(shown: Locator) -> str:
    """What a picture says, whatever fonts it is drawn in."""
    return " ".join(" ".join(shown.all_inner_texts()).split())


def keep_or_compare(name: str, picture: Locator, said: str) -> None:
    """Write a picture and what it says; or hold the one in docs/ against it."""
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    digest = hashlib.sha256(said.encode()).hexdigest()
    path = DOCS / f"{name}.png"
    if WRITE:
        picture.screenshot(path=path, animations="disabled")
        with Image.open(path) as taken:
            small = taken.convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
        small.save(path, optimize=True)
        known[name] = {"width": small.width, "height": small.height, "says": digest}
        RECORD.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
        return
    with Image.open(path) as kept:
        assert {"width": kept.width, "height": kept.height} == {
            side: known[name][side] for side in ("width", "height")
        }
        box = picture.bounding_box()
        assert box is not None
        assert abs(box["width"] / kept.width - 1) < 0.02
        assert abs(box["height"] / kept.height - 1) < 0.2, "other fonts are no other page"
    assert digest == known[name]["says"], f"{name}.png is old; run: make screenshots\n{said}"


def test_the_first_page_of_the_report(browser: Browser, tmp_path: Path) -> None:
    file = report(Archive(ROOT / "data" / "sample"), tmp_path / "r.html", since="21D")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.goto(file.as_uri())
    # What follows the heat map is left out.
    page.evaluate(
        """() => { let after = false; for (const part of [...document.querySelector('main').children]) {
             after ||= part.id === 'when'; if (after) part.remove(); }
           document.querySelector('footer').remove(); }"""
    )
    keep_or_compare("report", page.locator("body"), words(page.locator("body")))
    page.close()


@pytest.fixture(scope="module")
def explorer(lab: Lab) -> Page:
    lab.page.set_viewport_size({"width": 1400, "height": 2200})
    lab.open("04_explorer.ipynb")
    lab.run_all()
    expect(lab.page.locator(".cdp-main table.heat")).to_be_visible()
    return lab.page


@pytest.mark.parametrize(
    ("name", "view", "theme"),
    [
        ("explorer", "Heat map", "JupyterLab Light"),
        ("explorer-timeline", "Timeline", "JupyterLab Dark"),
        ("explorer-worst", "Worst VMs", "JupyterLab Light"),
    ],
)
def test_the_explorer(explorer: Page, lab: Lab, name: str, view: str, theme: str) -> None:
    lab.theme(theme)
    draw(explorer, f"explorer.show(view={view!r})")
    expect(explorer.locator(".cdp-tabs [aria-pressed=true]")).to_have_text(view)
    if view == "Timeline":  # the longest gaps are in a table, of which a few rows will do
        rows = ".cdp-main tbody tr:nth-child(n+7)"
        explorer.evaluate(
            "rows => document.querySelectorAll(rows).forEach(row => row.remove())", rows
        )
    whole = explorer.locator(".cdp-explorer:not(.cdp-static)")
    keep_or_compare(name, whole, words(whole.locator(".cdp-head, .cdp-tiles, .cdp-main")))
    lab.theme("JupyterLab Light")
