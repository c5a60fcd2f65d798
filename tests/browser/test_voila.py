"""Voila serves the explorer as an app: the notebook without its code, the controls alive."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import at_night

from .conftest import PATIENCE, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@at_night
def test_the_explorer_is_an_app(browser: Browser, workshop: Path) -> None:
    pytest.importorskip("voila", reason="voila is not installed: pip install voila")
    with serving(workshop, "voila", "04_explorer.ipynb", "--show_tracebacks=True") as address:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(address, wait_until="domcontentloaded")
        tiles, main, bar = (
            page.locator(f".cdp-explorer:not(.cdp-static) .cdp-{name}")
            for name in ("tiles", "main", "bar")
        )
        expect(tiles).to_contain_text("Adherence", timeout=PATIENCE)
        expect(main.locator("table.heat")).to_be_visible()
        assert page.locator(".cdp-twin:visible").count() == 0, "the still picture is hidden"
        assert page.locator(".jp-InputArea-editor:visible").count() == 0, "no code"
        page.get_by_role("button", name="Sizes", exact=True).click()
        expect(main.locator("figure svg")).to_be_visible()
        before = tiles.inner_text()
        bar.locator("summary", has_text="Filters").click()
        bar.get_by_label("Silver", exact=True).check()
        expect(tiles).not_to_have_text(before)
        context.close()
