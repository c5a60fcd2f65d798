"""JupyterLab in a real browser: each notebook runs, each control of the explorer changes what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import ROOT, Lab, barriers

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
TILES, MAIN, DETAIL = (
    ".cdp-explorer-app .cdp-tiles",
    ".cdp-explorer-app .cdp-main",
    ".cdp-explorer-app .cdp-detail",
)


@pytest.fixture(scope="module")
def explorer(lab: Lab) -> Page:
    """The explorer of 04_explorer.ipynb, drawn."""
    lab.open("04_explorer.ipynb")
    lab.run_all()
    expect(lab.page.locator(f"{MAIN} table.heat")).to_be_visible()
    return lab.page


@pytest.fixture(autouse=True)
def _as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test of the explorer leaves its state as the notebook set it."""
    yield
    if "explorer" in request.fixturenames:
        request.getfixturevalue("lab").python(
            "with explorer.batch():\n"
            "    explorer.period, explorer.server, explorer.view = 'last 30 days', 'all', 'Heat map'\n"
            '    explorer.rpo, explorer.policies = "each policy\'s own", ()\n'
            "    explorer.vms = explorer.picked = ()\n"
            "explorer.controls['search'].value = ''\n"
        )


def changed(page: Page, region: str, act: Callable[[], object]) -> str:
    """Act, and return what a region says once it says something else."""
    before = page.locator(region).inner_html()
    act()
    page.wait_for_function(
        "([region, before]) => document.querySelector(region).innerHTML !== before",
        arg=[region, before],
    )
    return page.locator(region).inner_text()


def control(page: Page, name: str) -> object:
    return page.locator(".cdp-explorer-app").get_by_label(name, exact=True)


@pytest.mark.parametrize(
    ("name", "act", "region"),
    [
        ("Period", lambda one: one.select_option("last 7 days"), TILES),
        ("From", lambda one: one.fill("2026-10-20"), TILES),
        ("To", lambda one: one.fill("2026-10-20"), TILES),
        ("Server", lambda one: one.select_option("vbr01.tech.example"), TILES),
        ("RPO", lambda one: (one.fill("4h"), one.press("Enter")), TILES),
        ("Policies", lambda one: one.select_option("Silver"), TILES),
        ("VMs", lambda one: one.select_option("web-11"), TILES),
        ("View", lambda one: one.select_option("Timeline"), MAIN),
        ("View", lambda one: one.select_option("Exposure"), MAIN),
        ("View", lambda one: one.select_option("Worst VMs"), MAIN),
        ("View", lambda one: one.select_option("Durations"), MAIN),
        ("View", lambda one: one.select_option("Sizes"), MAIN),
        ("View", lambda one: one.select_option("Journal"), MAIN),
    ],
)  # fmt: skip
def test_each_control_changes_the_picture(
    explorer: Page, name: str, act: Callable[[object], object], region: str
) -> None:
    before = explorer.locator(MAIN).inner_html()
    changed(explorer, region, lambda: act(control(explorer, name)))
    explorer.wait_for_function(
        "([main, before]) => document.querySelector(main).innerHTML !== before", arg=[MAIN, before]
    )
    expect(explorer.locator(f"{MAIN} [role=alert]")).to_have_count(0)
    for picture in explorer.locator(f"{MAIN} figure svg").all():
        assert len(picture.get_attribute("aria-label") or "") > 20


def test_a_name_is_found_by_a_part_of_it(explorer: Page) -> None:
    control(explorer, "Find VM").fill("SQL")
    options = control(explorer, "VMs").locator("option")
    expect(options).to_have_count(4)
    assert all("sql" in option.inner_text() for option in options.all())


def test_a_target_that_is_none_is_told_where_the_answer_would_stand(explorer: Page) -> None:
    target = control(explorer, "RPO")
    said = changed(explorer, MAIN, lambda: (target.fill("soon"), target.press("Enter")))
    assert "'soon' is not a length of time" in said
    expect(explorer.locator(f"{MAIN} [role=alert]")).to_be_visible()


def test_a_click_on_a_day_shows_its_sessions(explorer: Page) -> None:
    cell = explorer.locator(f"{MAIN} td.s4 button").first
    said = changed(explorer, DETAIL, cell.click)
    day = (cell.get_attribute("data-start") or "")[:10]
    assert f", {day}: " in said
    assert "Failed" in said


def test_the_map_is_one_stop_of_the_tab_key_and_arrows_walk_it(explorer: Page) -> None:
    stops = explorer.locator(f"{MAIN} button[tabindex='0'][data-start]")
    expect(stops).to_have_count(1)
    stops.focus()
    explorer.keyboard.press("ArrowRight")
    first = explorer.evaluate("document.activeElement.dataset.start")
    explorer.keyboard.press("ArrowRight")
    second = explorer.evaluate("document.activeElement.dataset.start")
    assert first < second, "a day later"
    said = changed(explorer, DETAIL, lambda: explorer.keyboard.press("Enter"))
    assert f", {second[:10]}: " in said


def test_another_cell_moves_the_controls(explorer: Page, lab: Lab) -> None:
    changed(
        explorer,
        TILES,
        lambda: lab.python("explorer.vms = ('web-11',); explorer.view = 'Worst VMs'"),
    )
    expect(control(explorer, "View")).to_have_value("Worst VMs")
    chosen = "list => [...list.selectedOptions].map(option => option.value)"
    assert control(explorer, "VMs").evaluate(chosen) == ["web-11"]
    rows = explorer.locator(f"{MAIN} table.picks tbody tr")
    expect(rows).to_have_count(1)


def test_nothing_flickers_or_moves_when_the_target_changes(explorer: Page) -> None:
    """The map is never empty in between, and nothing below the controls moves."""
    explorer.evaluate(
        """main => {
            window.seen = {empty: 0, moved: 0};
            new MutationObserver(() => { if (!document.querySelector(main).firstElementChild) seen.empty += 1; })
                .observe(document.querySelector(main), {childList: true});
            new PerformanceObserver(list => list.getEntries().forEach(e => { seen.moved += e.value; }))
                .observe({type: 'layout-shift'});
        }""",
        MAIN,
    )
    target = control(explorer, "RPO")
    target.scroll_into_view_if_needed()
    place = explorer.locator(MAIN).bounding_box()
    for rpo in ("1h", "4h", "15min", "2h"):
        changed(explorer, TILES, lambda rpo=rpo: (target.fill(rpo), target.press("Enter")))
        now = explorer.locator(MAIN).bounding_box()
        assert (now["x"], now["y"]) == (place["x"], place["y"])
    seen = explorer.evaluate("window.seen")
    assert seen["empty"] == 0
    assert seen["moved"] < 0.1, "a good page by the usual measure of layout shifts"


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
@pytest.mark.parametrize("view", ["Heat map", "Timeline", "Worst VMs", "Sizes"])
def test_no_barrier_in_either_theme(explorer: Page, lab: Lab, theme: str, view: str) -> None:
    if view != "Heat map":
        changed(explorer, MAIN, lambda: control(explorer, "View").select_option(view))
    lab.theme(theme)
    assert barriers(explorer, ".cdp-explorer-app") == []


def test_pictures_follow_the_theme_without_being_drawn_again(explorer: Page, lab: Lab) -> None:
    lab.theme("JupyterLab Light")
    changed(explorer, MAIN, lambda: control(explorer, "View").select_option("Sizes"))
    drawn = explorer.locator(MAIN).inner_html()
    ink = "() => getComputedStyle(document.querySelector('.cdp-main svg text')).fill"
    light = explorer.evaluate(ink)
    lab.theme("JupyterLab Dark")
    explorer.wait_for_function(f"light => ({ink})() !== light", arg=light)
    assert explorer.locator(MAIN).inner_html() == drawn
    lab.theme("JupyterLab Light")


def test_the_export_is_in_labs_own_menu(explorer: Page) -> None:
    explorer.get_by_role("menuitem", name="File", exact=True).click()
    explorer.get_by_text("Save and Export Notebook As", exact=True).hover()
    expect(explorer.get_by_text("Cdp-html", exact=True)).to_be_visible()
    explorer.keyboard.press("Escape")
    explorer.keyboard.press("Escape")


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name != "04_explorer.ipynb"])
def test_each_notebook_opens_and_runs(lab: Lab, name: str) -> None:
    lab.open(name)
    lab.run_all()
    shown = lab.page.locator(".jp-OutputArea-output img[alt]")
    expect(shown.first).to_be_visible()
    assert all(len(one.get_attribute("alt") or "") > 20 for one in shown.all())
    warned = ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
    assert lab.page.locator(warned).count() == 0
    assert barriers(lab.page, ".jp-Notebook .jp-OutputArea") == []
    saved = Path(lab.page.evaluate("() => jupyterapp.shell.currentWidget.context.path"))
    assert saved.name == name
