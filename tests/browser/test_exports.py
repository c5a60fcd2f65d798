"""Both exports in a real browser, from a file, with the network off; on screen and on paper."""

from __future__ import annotations

import io
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from pypdf import PdfReader

from cdpanalytics.archive import Archive
from cdpanalytics.questions import report
from tests.conftest import at_night

from .conftest import ROOT, barriers

pytestmark = [pytest.mark.browser, pytest.mark.slow]

A4 = (595, 842)
PRINTABLE = 703
"""CSS pixels between the margins of an A4 page."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report, and two notebooks exported as cdp-html, of the sample."""
    folder = tmp_path_factory.mktemp("exports")
    made = {"report": report(Archive(ROOT / "data" / "sample"), folder / "asked.html", since="21D")}
    executed = [folder / "report.ipynb", folder / "04_explorer.ipynb"]
    sources = [str(ROOT / "notebooks" / path.name) for path in executed]
    nbconvert("--to", "notebook", "--execute", f"--output-dir={folder}", *sources)
    nbconvert("--to", "cdp-html", *map(str, executed))
    for path in executed:
        made[f"notebook {path.stem}"] = path.with_suffix(".html")
    return made


def nbconvert(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "nbconvert", *arguments],
        check=True, capture_output=True, cwd=ROOT / "notebooks",
    )  # fmt: skip


@pytest.fixture(params=["report", "notebook report", "notebook 04_explorer"])
def file(request: pytest.FixtureRequest, files: dict[str, Path]) -> Path:
    return files[request.param]


@pytest.fixture
def offline(browser: Browser) -> Iterator[Page]:
    """A page with the network off; what it asks for and what goes wrong fails the test."""
    context = browser.new_context(offline=True)
    asked: list[str] = []
    wrong: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    yield page
    context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert wrong == []


def test_it_opens_offline_and_every_picture_has_words(offline: Page, file: Path) -> None:
    offline.goto(file.as_uri())
    assert offline.locator("h1").count() == 1
    for picture in offline.locator("img").all():
        assert len(picture.get_attribute("alt") or "") > 20
        assert picture.evaluate("one => one.complete && one.naturalWidth > 0")
    for drawing in offline.locator("svg").all():
        label = drawing.get_attribute("aria-label")
        assert drawing.get_attribute("aria-hidden") == "true" or label
    pictures = offline.locator("img, svg[role=img], table.heat").count()
    assert pictures >= 1
    if "alert(1)" in file.read_text():
        hostile = offline.get_by_text("<script>alert(1)</script>", exact=False)
        assert hostile.count() > 0, "a name is text"
    assert offline.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier(browser: Browser, file: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # axe is a script, too
    page = context.new_page()
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert barriers(page, "body") == []
    context.close()


def test_it_prints_on_a4_and_nothing_is_cut(browser: Browser, file: Path) -> None:
    page = browser.new_page(viewport={"width": PRINTABLE, "height": 1000})
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    cut = page.evaluate(
        """width => [...document.querySelectorAll('main *')].filter(one => {
               const box = one.getBoundingClientRect();
               return box.width && box.height && box.right > width + 1;
           }).map(one => one.outerHTML.slice(0, 200))""",
        PRINTABLE,
    )
    assert cut == []
    printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    assert {tuple(round(float(size)) for size in one.mediabox[2:]) for one in printed.pages} == {A4}
    texts = [one.extract_text() for one in printed.pages]
    for number, text in enumerate(texts, 1):
        assert f"{number} / {len(texts)}" in text, "pages are numbered"
    heads = page.locator("th", has_text="Still open").count()
    if heads:
        assert sum(text.count("Still") for text in texts) > heads, "repeated where a table goes on"
    words = " ".join(" ".join(texts).split())
    assert "web-11" in words
    page.close()


def test_the_report_prints_every_row_even_of_what_is_folded(
    browser: Browser, files: dict[str, Path]
) -> None:
    page = browser.new_page()
    page.goto(files["report"].as_uri())
    assert not page.locator("#vms").is_visible(), "folded on screen"
    names = page.eval_on_selector_all(
        "#vms tbody td:nth-child(3)", "all => all.map(o => o.textContent)"
    )
    printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    drawn = "".join("".join(one.extract_text().split()) for one in printed.pages)
    text = unicodedata.normalize("NFKC", drawn)  # "fi" may be one letter in print
    assert len(names) == 16
    for name in names:
        if name.isascii():  # another script may have no font here
            assert "".join(name.split()) in text
    page.close()


def test_the_summary_prints_as_one_page(browser: Browser, tmp_path: Path) -> None:
    """Also with a row for each VM and names for approval: what does not fit is counted."""
    file = Archive(ROOT / "data" / "sample").select("last 30 days").report(
        tmp_path / "summary.html", summary=True, by="vm", prepared_for=["Audit", "IT", "Sales"]
    )  # fmt: skip
    page = browser.new_page(viewport={"width": PRINTABLE, "height": 1000})
    page.goto(file.as_uri())
    printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    assert len(printed.pages) == 1
    words = " ".join(printed.pages[0].extract_text().split())
    assert "and 9 more, in the whole report" in words
    assert "SHA-256" in words
    page.close()


def test_tables_of_the_report_are_sorted_and_filtered(
    offline: Page, files: dict[str, Path]
) -> None:
    offline.goto(files["report"].as_uri())
    offline.get_by_text("All 16 VMs").click()
    column = offline.locator("#vms tbody td:nth-child(6)")
    offline.locator("#vms th").nth(5).get_by_role("button").click()
    seconds = [float(cell.get_attribute("data-sort") or "nan") for cell in column.all()]
    assert seconds == sorted(seconds, reverse=True)
    assert offline.locator("#vms th").nth(5).get_attribute("aria-sort") == "descending"
    offline.locator(".cdp-sheet:has(#vms) input").fill("sql-0")
    rows = offline.locator("#vms tbody tr").all()
    named = ["sql-0" in (row.text_content() or "") for row in rows]
    assert [row.is_visible() for row in rows] == named
    assert 0 < sum(named) < len(rows)


def test_tables_of_an_exported_notebook_are_sorted_too(
    offline: Page, files: dict[str, Path]
) -> None:
    offline.goto(files["notebook report"].as_uri())
    sheet = offline.locator(".cdp-sheet", has=offline.get_by_role("button", name="explained"))
    name = sheet.get_by_role("button", name="vm", exact=True)
    name.click()
    shown = [row.inner_text() for row in sheet.locator("tbody td:nth-child(2)").all()]
    assert shown == sorted(shown, key=str.casefold)
    assert sheet.locator("th:nth-child(2)").get_attribute("aria-sort") == "ascending"


def test_the_explorer_stands_still_in_every_export(
    offline: Page, files: dict[str, Path], tmp_path: Path
) -> None:
    """Also in nbconvert's own, which keeps the widget and has no script for it offline."""
    plain = tmp_path / "plain.html"
    nbconvert(
        "--to", "html", f"--output={plain}", "--HTMLExporter.require_js_url=", "--HTMLExporter.mathjax_url=",
        "--HTMLExporter.mermaid_js_url=", "--HTMLExporter.jupyter_widgets_base_url=data:",
        str(files["notebook 04_explorer"].with_suffix(".ipynb")),
    )  # fmt: skip
    still = plain.read_text()
    shown = still[still.index('class="cdp-twin') :]
    assert "VMs were within their RPO" in shown
    assert 'class="heat"' in shown
    offline.goto(files["notebook 04_explorer"].as_uri())
    expect(offline.locator(".cdp-static table.heat")).to_be_visible()
    assert offline.get_by_text("Explorer(", exact=False).count() == 0


@at_night
def test_a_notebook_is_exported_twice_as_the_same_bytes(tmp_path: Path) -> None:
    executed = tmp_path / "executed.ipynb"
    subprocess.run(
        [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "report.ipynb"), str(executed),
         "-p", "since", "10D", "-p", "rpo", "5min", "--cwd", str(ROOT / "notebooks")],
        check=True, capture_output=True,
    )  # fmt: skip
    nbconvert("--to", "cdp-html", f"--output-dir={tmp_path}", "--output=one", str(executed))
    page = (tmp_path / "one.html").read_text()
    from nbconvert import get_exporter  # two seconds, which only the worker that needs it spends

    again, _ = get_exporter("cdp-html")().from_filename(str(executed))
    assert page.rstrip() == again.rstrip()
    assert "rpo: 5min" in page
    assert "since: 10D" in page
    assert "From 2026-10-23 05:45 to 2026-11-02 05:45 UTC" in page
