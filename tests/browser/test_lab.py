"""JupyterLab in a real browser: the explorer is asked with mouse and keys, and each notebook runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from cdpanalytics.explorer.state import VIEWS
from tests.conftest import NIGHTLY

from .conftest import EXPLORER, ROOT, Lab, barriers, draw, python

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
OPENED = ["00_quickstart.ipynb", "02_durations.ipynb", "report.ipynb"]
"""Those opened each day; `tests/test_notebooks.py` runs every notebook without a browser."""

HEAD, BAR, TILES, STRIP, MAIN, DETAIL = (
    f"{EXPLORER} .cdp-{name}" for name in ("head", "bar", "tiles", "strip", "main", "detail")
)
SHEET = os.environ.get("CDPANALYTICS_CONTACT_SHEET")
"""A folder for pictures of each view; ``make sheet`` sets it."""

NARROW, WIDE = 700, 1600
SIDES = "backup_server=vbr01.tech.example,vbr02.tech.example"


@pytest.fixture(scope="module")
def notebook(lab: Lab) -> Page:
    """The explorer of 04_explorer.ipynb, drawn."""
    lab.open("04_explorer.ipynb")
    lab.run_all()
    expect(lab.page.locator(f"{MAIN} table.heat")).to_be_visible()
    return lab.page


@pytest.fixture
def explorer(notebook: Page, lab: Lab) -> Page:
    """The same as it was first."""
    lab.theme("JupyterLab Light")
    draw(notebook, "explorer.reset(); explorer._past.clear(); explorer._draw_region('bar')")
    return notebook


def changed(page: Page, region: str, act: Callable[[], object]) -> str:
    """Act, and return what a region says once it says something else and all is drawn."""
    draw(page)
    before = page.locator(region).inner_html()
    act()
    page.wait_for_function(
        "([region, before]) => document.querySelector(region).innerHTML !== before",
        arg=[region, before],
    )
    draw(page)
    return page.locator(region).inner_text()


def show(page: Page, **changes: str) -> None:
    """Show another state, and wait until it is drawn in the page."""
    draw(page, f"explorer.show(**{changes!r})")


def control(page: Page, name: str) -> Locator:
    return page.locator(EXPLORER).get_by_label(name, exact=True)


def menu(page: Page, name: str) -> None:
    """Open a menu of the bar."""
    summary = page.locator(f"{BAR} summary", has_text=name)
    if not summary.evaluate("one => one.parentElement.open"):
        summary.click()


def cut_off(page: Page) -> list[str]:
    """Return what reaches beyond the explorer's right edge and cannot be scrolled to."""
    return page.evaluate(
        """root => {
            const edge = document.querySelector(root).getBoundingClientRect().right + 1;
            return [...document.querySelectorAll(`${root} *`)].filter(each =>
                each.getBoundingClientRect().right > edge && each.getBoundingClientRect().width &&
                !each.closest('.scroll, .cdp-word, svg, details:not([open])'))
                .map(each => each.outerHTML.slice(0, 160));
        }""",
        EXPLORER,
    )


def test_each_view_in_both_themes_has_no_barrier_and_nothing_is_cut(
    explorer: Page, lab: Lab
) -> None:
    """One walk: every view, light and dark, narrow and wide; and the states that are not a view.

    By day each view is looked at in one of the themes, at night in both.
    """
    found: list[str] = []
    before = explorer.viewport_size
    assert explorer.locator(".cdp-twin:visible").count() == 0, "the still picture is hidden"
    for width in (NARROW, WIDE):
        explorer.set_viewport_size({"width": width, "height": 3000 if SHEET else 1000})
        for number, view in enumerate(VIEWS):
            show(explorer, view=view, sides=SIDES)
            found += [f"{view} at {width}: cut {each}" for each in cut_off(explorer)]
            themes = ("JupyterLab Dark", "JupyterLab Light")
            for theme in themes if NIGHTLY or SHEET else themes[number % 2 :][:1]:
                if width == NARROW and not SHEET:
                    continue  # the width changes no colour and no name
                lab.theme(theme)
                found += [f"{view} {theme}: {each}" for each in barriers(explorer, EXPLORER)]
                _keep(explorer, f"{view} {width} {theme.split()[1].lower()}")
    lab.theme("JupyterLab Dark")  # their colours in the light theme are those of the views
    for name, code in (
        ("opened", "explorer.show(view='Timeline'); explorer._receive(None, {'show': {'picked': ['cause', "
                   "str(explorer.analysis.causes['cause'].iloc[0])]}}, None)"),
        ("two panes", "explorer.show(beside='period=2026-09', view='Heat map')"),
        ("nothing", "explorer.show(period='2020-01', beside='')"),
        ("an error", "explorer.show(target='soon', period='all')"),
    ):  # fmt: skip
        changed(explorer, MAIN, lambda code=code: python(explorer, code))
        found += [f"{name}: {each}" for each in [*barriers(explorer, EXPLORER), *cut_off(explorer)]]
        _keep(explorer, name)
    lab.theme("JupyterLab Light")
    explorer.set_viewport_size(before)
    assert found == []


def _keep(page: Page, name: str) -> None:
    if SHEET:
        path = Path(SHEET) / f"{name}.png"
        page.locator(EXPLORER).screenshot(path=path, animations="disabled")
        with Image.open(path) as taken:
            taken.convert("RGB").save(path)


def test_an_analyst_asks_with_the_mouse(explorer: Page) -> None:
    """Tag, filter, chip, undo, period, brush, hover, drill, sort and download."""
    menu(explorer, "Filters")
    tag = explorer.locator(f"{BAR} fieldset", has_text="department")
    changed(explorer, TILES, tag.get_by_label("Databases").check)
    expect(explorer.locator(f"{BAR} .chip")).to_have_text("department: Databases ×")
    changed(explorer, TILES, explorer.locator(f"{BAR} .chip").click)
    field = control(explorer, "Find")
    listed = explorer.locator(f"{BAR} fieldset", has_text="VMs").locator("label")
    every = listed.count()
    whole = explorer.locator(TILES).inner_text()
    changed(explorer, TILES, lambda: field.press_sequentially("SQL", delay=100))
    expect(explorer.locator(f"{BAR} .chip")).to_have_text("VM: *SQL* ×")
    expect(field).to_be_focused()
    expect(listed).to_have_count(4)
    explorer.keyboard.press("Escape")
    changed(explorer, TILES, explorer.locator(f"{BAR} .chip").click)
    assert explorer.locator(TILES).inner_text() == whole
    changed(explorer, BAR, explorer.get_by_role("button", name="Undo").click)
    expect(explorer.locator(f"{BAR} .chip")).to_have_count(1)
    changed(explorer, BAR, explorer.get_by_role("button", name="Redo").click)
    menu(explorer, "Filters")
    field.fill("no such name")
    expect(explorer.locator(f"{BAR} .found")).to_contain_text("Nothing has this in its name")
    changed(explorer, BAR, explorer.get_by_role("button", name="Reset").click)
    expect(field).to_have_value("")
    expect(listed).to_have_count(every)
    explorer.keyboard.press("Escape")

    hit = explorer.locator(f"{STRIP} .hit[data-tip^='Incident 1 ']")
    hit.hover()
    tip = explorer.locator(f"{EXPLORER} .cdp-tip")
    expect(tip).to_contain_text("9 VMs")
    expect(tip).to_contain_text("Storage is unavailable")
    changed(explorer, TILES, hit.click)
    expect(explorer.locator(TILES)).to_contain_text("9 of 9")
    changed(explorer, TILES, explorer.get_by_role("button", name="Undo").click)
    changed(explorer, TILES, lambda: drag(explorer, explorer.locator(f"{STRIP} .brush")))
    assert "2026-10-1" in control(explorer, "From").input_value()
    changed(explorer, TILES, lambda: control(explorer, "Period").select_option("2026-10"))

    changed(explorer, MAIN, explorer.get_by_role("button", name="Timeline").click)
    opened = changed(explorer, DETAIL, explorer.locator(f"{MAIN} rect.late").first.click)
    assert "sessions, newest first" in opened
    expect(explorer.locator(f"{DETAIL} h3")).to_be_focused()
    expect(explorer.locator(f"{MAIN} [aria-current=true]").first).to_be_attached()
    explorer.locator(f"{DETAIL} .close").click()
    expect(explorer.locator(f"{DETAIL} h3")).to_have_count(0)

    head = explorer.locator(f"{MAIN} #gaps th", has_text="Breached")
    head.get_by_role("button").click()
    column = explorer.locator(f"{MAIN} #gaps tbody tr td:nth-child(6)")
    seconds = [float(cell.get_attribute("data-sort")) for cell in column.all()]
    assert seconds == sorted(seconds, reverse=True)
    for kind, ending in (("CSV", "csv"), ("Excel", "xlsx"), ("PNG", "png")):
        menu(explorer, "Download")
        with explorer.expect_download() as loading:
            explorer.get_by_role("button", name=kind, exact=True).click()
        assert loading.value.suggested_filename == f"timeline.{ending}"
    expect(explorer.locator(f"{MAIN} [role=alert]")).to_have_count(0)


def drag(page: Page, brush: Locator) -> None:
    """Drag over the middle of a strip."""
    brush.scroll_into_view_if_needed()
    box = brush.bounding_box()
    y = box["y"] + box["height"] - 4
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, y, steps=4)
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=4)
    page.mouse.up()


def test_a_figure_leads_to_its_view_and_a_state_is_copied(explorer: Page) -> None:
    """What a click shows is on the screen, not below it."""
    figure = explorer.locator(f"{TILES} .tile", has_text="Objective").get_by_role("button")
    changed(explorer, MAIN, figure.click)
    expect(explorer.locator(f"{MAIN} #groups")).to_be_in_viewport()
    menu(explorer, "Share")
    explorer.get_by_role("button", name="Copy state").click()
    expect(explorer.get_by_role("button", name="Copied")).to_be_visible()
    assert explorer.evaluate("getSelection().toString()") == "view=Groups"
    explorer.keyboard.press("Escape")


def test_the_second_pane_is_asked_by_itself(explorer: Page, lab: Lab) -> None:
    changed(explorer, TILES, lambda: python(explorer, "explorer.show(beside='target=1h')"))
    first, second = explorer.locator(f"{TILES} section").all()
    before, start = first.inner_text(), control(explorer, "From").input_value()
    changed(explorer, TILES, lambda: drag(explorer, explorer.locator(f"{STRIP} .brush").nth(1)))
    assert first.inner_text() == before
    assert control(explorer, "From").input_value() == start
    expect(explorer.locator(f"{MAIN} .pane").nth(1)).to_contain_text("period: 2026-10-1")
    assert second.inner_text() != before


def test_the_keyboard_does_all_of_it(explorer: Page) -> None:
    """Walk the map and the pictures by arrows, open by Enter, choose a stretch by Shift, close by Escape."""
    stops = explorer.locator(f"{MAIN} [data-mark][tabindex='0']")
    expect(stops).to_have_count(1)
    stops.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        explorer.keyboard.press(key)
    day = explorer.evaluate("document.activeElement.dataset.start")[:10]
    expect(explorer.locator(f"{EXPLORER} .cdp-tip")).to_contain_text(day)
    opened = changed(explorer, DETAIL, lambda: explorer.keyboard.press("Enter"))
    assert "sessions, newest first" in opened
    expect(explorer.locator(f"{DETAIL} h3")).to_be_focused()
    explorer.locator(f"{DETAIL} .close").focus()
    changed(explorer, DETAIL, lambda: explorer.keyboard.press("Enter"))
    assert explorer.evaluate("document.activeElement.dataset.start")[:10] == day, (
        "back where it was"
    )

    marks = explorer.locator(f"{STRIP} [data-mark][tabindex='0']")
    expect(marks).to_have_count(1)
    marks.focus()
    explorer.keyboard.press("Shift+ArrowRight")
    explorer.keyboard.press("Shift+ArrowRight")
    changed(explorer, TILES, lambda: explorer.keyboard.press("Shift+Enter"))
    assert control(explorer, "or").input_value().startswith("2026-10-")
    said = explorer.locator(f"{EXPLORER} .cdp-word")
    expect(said).to_have_attribute("aria-live", "polite")
    expect(said).to_contain_text("VMs were within their RPO")


def test_another_cell_moves_the_controls_and_a_state_is_pasted(explorer: Page, lab: Lab) -> None:
    changed(
        explorer, TILES, lambda: python(explorer, "explorer.show(vm='web-11', view='Worst VMs')")
    )
    expect(explorer.locator(f"{BAR} .chip")).to_have_text("VM: web-11 ×")
    expect(explorer.locator(f"{MAIN} #worst tbody tr")).to_have_count(1)
    menu(explorer, "Share")
    state = control(explorer, "State")
    expect(state).to_have_value("vm=web-11&view=Worst+VMs")
    state.fill("policy=Silver&target=soon")
    said = changed(explorer, MAIN, lambda: state.press("Enter"))
    assert "'soon' is not a length of time" in said
    expect(explorer.locator(f"{MAIN} [role=alert]")).to_be_visible()


def test_it_says_that_it_computes_until_all_is_answered(explorer: Page) -> None:
    """Two boxes are checked while the kernel is at work: the sign stays until both are answered."""
    explorer.evaluate(
        """root => {
            const el = document.querySelector(root);
            window.ends = [];
            new MutationObserver(() => { if (!("busy" in el.dataset)) ends.push(el.dataset.answered); })
                .observe(el, {attributeFilter: ["data-busy"]});
            jupyterapp.shell.currentWidget.sessionContext.session.kernel
                .requestExecute({code: "import time; time.sleep(1)"});
        }""",
        EXPLORER,
    )
    menu(explorer, "Filters")
    for name in ("Gold", "Silver"):
        explorer.locator(BAR).get_by_label(name, exact=True).check()
    expect(explorer.locator(f"{EXPLORER} .cdp-busy")).to_have_text("Computing")
    expect(explorer.locator(f"{BAR} .chip")).to_have_count(2)
    expect(explorer.locator(f"{EXPLORER} .cdp-busy")).to_be_empty()
    last = explorer.locator(EXPLORER).get_attribute("data-answered")
    assert explorer.evaluate("window.ends") == [last]
    explorer.keyboard.press("Escape")


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
    menu(explorer, "Terms")
    target = control(explorer, "RPO")
    for rpo in ("1h", "4h", "2h"):
        changed(explorer, TILES, lambda rpo=rpo: (target.fill(rpo), target.press("Enter")))
        expect(target).to_be_focused()
    seen = explorer.evaluate("window.seen")
    assert seen["empty"] == 0
    assert seen["moved"] < 0.1, "a good page by the usual measure of layout shifts"


def test_pictures_follow_the_theme_without_being_drawn_again(explorer: Page, lab: Lab) -> None:
    show(explorer, view="Sizes")
    before = explorer.locator(MAIN).inner_html()
    ink = f"() => getComputedStyle(document.querySelector('{MAIN} svg text')).fill"
    light = explorer.evaluate(ink)
    lab.theme("JupyterLab Dark")
    explorer.wait_for_function(f"light => ({ink})() !== light", arg=light)
    assert explorer.locator(MAIN).inner_html() == before


def test_the_export_is_in_labs_own_menu(explorer: Page) -> None:
    explorer.get_by_role("menuitem", name="File", exact=True).click()
    explorer.get_by_text("Save and Export Notebook As", exact=True).hover()
    expect(explorer.get_by_text("Cdp-html", exact=True)).to_be_visible()
    explorer.keyboard.press("Escape")
    explorer.keyboard.press("Escape")


@pytest.mark.parametrize(
    "name", [name for name in NOTEBOOKS if name != "04_explorer.ipynb"] if NIGHTLY else OPENED
)
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
