"""Time the explorer in a real browser: JupyterLab, from the cell or a change of a control to what is drawn."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import nbformat  # noqa: E402
import shown  # noqa: E402
import timing  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

from data import archived, fleet  # noqa: E402
from tests.browser.conftest import CHROMIUM, FLAGS, Lab, python, serving_lab  # noqa: E402

VMS = 600
SESSIONS = 125_000
"""Of 600 VMs with three sessions a day: 69 days, of which 30 are shown first."""

CHANGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "RPO": ("#cdp-target", tuple(f"{minutes}min" for minutes in range(28, 36))),
    "period": ("#cdp-period", ("last 7 days", "this month", "last week")),
    "policy": ("[data-toggle=policy][value={}]", tuple(f"policy-0{number}" for number in range(1, 9))),
    "VMs by a part of a name": ("[data-find]", tuple(f"vm-000{number}" for number in range(1, 9))),
}  # fmt: skip
"""A field and what is put into it, one after the other; each is followed by an undo, which is timed as what was
seen before. The least of the times is told: other work of the machine only adds to it."""

VIEWS = ("Timeline", "Worst VMs", "Groups", "Exposure", "Durations", "Sizes", "Status")

_TIMED = """async ([selector, value]) => {
    const el = document.querySelector('.cdp-explorer:not(.cdp-static)');
    const field = el.querySelector(selector);
    const begun = performance.now();
    let tiles = null;
    const seen = new MutationObserver(() => { tiles ??= performance.now() - begun; });
    seen.observe(el.querySelector('.cdp-tiles'), {childList: true});
    // Nothing asks each frame whether all is drawn: that alone takes a part of the processor.
    const all = new Promise((done) => {
        const waits = new MutationObserver(() => { waits.disconnect(); requestAnimationFrame(done); });
        waits.observe(el, {attributeFilter: ['data-drawn']});
        setTimeout(done, 20000);
    });
    if (field.type === 'checkbox') { field.checked = true; field.dispatchEvent(new Event('change', {bubbles: true})); }
    else if (value === null) field.click();
    else {
        field.value = value;
        field.dispatchEvent(new Event(field.matches('[data-find]') ? 'input' : 'change', {bubbles: true}));
    }
    await all;
    const drawn = performance.now() - begun;
    seen.disconnect();
    return [tiles ?? 0, drawn];
}"""


def timed(page: Page, selector: str, value: str | None = None) -> tuple[float, float]:
    """Milliseconds until the tiles changed in the page, and until everything was drawn."""
    tiles, drawn = page.evaluate(_TIMED, [selector, value])
    page.wait_for_timeout(50)
    return tiles, drawn


def view(name: str) -> str:
    return f".cdp-tabs button[data-act*='\"{name}\"']"


def opened(lab: Lab) -> float:
    """Milliseconds from running the cell, its imports done, to the first picture."""
    return lab.page.evaluate(
        """async () => {
            const begun = performance.now();
            jupyterapp.commands.execute('notebook:run-all-cells');
            while (!document.querySelector('.cdp-explorer:not(.cdp-static) .cdp-main table'))
                await new Promise(requestAnimationFrame);
            return performance.now() - begun;
        }"""
    )


def measure(page: Page, repeat: int) -> list[dict[str, Any]]:
    """Return one row per change: the first time, and again."""
    undo = "[data-act='{\"undo\": 1}']"
    redo = "[data-act='{\"redo\": 1}']"
    rows = []
    for name, (selector, values) in CHANGES.items():
        first, again = [], []
        for value in values:
            field = selector.format(value)
            first.append(timed(page, field, "on" if field != selector else value))
            for _ in range(repeat):
                again += [timed(page, undo), timed(page, redo)]
            timed(page, undo)
        rows.append(_row(name, first, again))
    firsts: dict[str, list[tuple[float, float]]] = {name: [] for name in VIEWS}
    agains: dict[str, list[tuple[float, float]]] = {name: [] for name in VIEWS}
    for target in ("3h", "5h", "6h"):
        timed(page, "#cdp-target", target)
        for name in VIEWS:
            firsts[name].append(timed(page, view(name)))
        for name in VIEWS:
            agains[name].append(timed(page, view(name)))
        timed(page, view("Heat map"))
    return rows + [_row(f"view: {name}", firsts[name], agains[name]) for name in VIEWS]


def _row(
    name: str, first: list[tuple[float, float]], again: list[tuple[float, float]]
) -> dict[str, Any]:
    """Return the least times of a change."""
    tiles, drawn = (min(times) for times in zip(*first, strict=True))
    return {"what": "explorer", "change": name, "sessions": SESSIONS, "vms": VMS, "tiles_ms": tiles,
            "drawn_ms": drawn, "again_ms": min(drawn for _, drawn in again)}  # fmt: skip


def main() -> int:
    """Print one row per change, in milliseconds; the first row is the opening."""
    options = timing.arguments(__doc__, repeat=1).parse_args()
    rows: list[dict[str, Any]] = [timing.machine("pandas", "ipywidgets", "anywidget", "jupyterlab")]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        workshop = Path(folder)
        archive = workshop / "root" / "archive"
        archive.parent.mkdir()
        archived(fleet(SESSIONS, vms=VMS), archive)
        (workshop / "root" / "notebooks").mkdir()
        code = f"explorer = cdp.explore(cdp.Archive({str(archive)!r}))\nexplorer"
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(code)], metadata=kernel
        )
        nbformat.write(notebook, workshop / "root" / "notebooks" / "explorer.ipynb")
        with serving_lab(workshop) as address:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1500, "height": 1000})
            page.set_default_timeout(90_000)
            lab = Lab(page, address)
            lab.open("explorer.ipynb")
            python(lab.page, "import cdpanalytics as cdp\nimport cdpanalytics.explorer")
            first = opened(lab)
            page.wait_for_timeout(3000)
            rows.append(_row("cell to first picture", [(first, first)], [(0, first)]))
            rows += measure(page, options.repeat)
            lab.close()
            browser.close()
    timing.told(rows, shown.explorer(rows), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
