"""The report in a real browser, from a file, with the network off."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from cdpanalytics.archive import Archive
from cdpanalytics.client import EnterpriseManager
from cdpanalytics.report import report
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.sync import sync

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    archive = Archive(folder / "archive")
    with (
        Simulator(fleet) as server,
        EnterpriseManager(server.url, "demo", "demo", cache=False) as em,
    ):
        sync(em, archive, since="7D", progress=False)
    return report(archive, folder / "report.html")


@pytest.fixture(scope="module")
def browser() -> Browser:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium; .ci/run installs it")
        pytest.skip("no Chromium on this machine: apt install chromium")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def test_it_opens_offline_and_asks_for_nothing(browser: Browser, page_file: Path) -> None:
    context = browser.new_context(offline=True)
    asked: list[str] = []
    wrong: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on(
        "console", lambda message: wrong.append(message.text) if message.type == "error" else None
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.goto(page_file.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert wrong == []
    assert page.locator("h1").count() == 1
    for picture in page.locator("img").all():
        assert picture.get_attribute("alt")
    assert (
        page.locator("svg").count()
        == page.locator("svg[role=img][aria-label], svg[role=img][aria-labelledby]").count()
        + page.locator("svg[aria-hidden=true]").count()
    )
    assert page.get_by_text("<script>alert(1)</script>", exact=False).count() > 0, (
        "a hostile name is text"
    )
    context.close()


def test_it_prints_every_row(browser: Browser, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    assert len(page.pdf(prefer_css_page_size=True)) > 20_000
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    page.close()
