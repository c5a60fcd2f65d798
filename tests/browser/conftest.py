"""A real browser, and JupyterLab on loopback with a copy of the notebooks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
TOKEN = "e2e"
PATIENCE = 90_000
"""Milliseconds; what is waited for is a fact, so only a broken run takes so long."""

EXPLORER = ".cdp-explorer:not(.cdp-static)"

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium; .ci/run installs it")
        pytest.skip("no Chromium on this machine: apt install chromium")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def python(page: Page, code: str) -> None:
    """Run code in the kernel of the notebook that is open."""
    status = page.evaluate(
        """async code => (await jupyterapp.shell.currentWidget.sessionContext.session.kernel
             .requestExecute({code}).done).content.status""",
        code,
    )
    assert status == "ok", code


def draw(page: Page, code: str = "") -> None:
    """Run code in the kernel, and wait until all that was asked for by then is drawn in the page.

    A view of another height may bring a scroll bar, and so another width, for which the page
    asks anew in its next frame.
    """
    for each in (code, ""):
        least = time.monotonic_ns() // 1000  # more than all that was drawn before
        python(page, f"{each}\nexplorer.drawn = {least}")
        page.wait_for_function(
            "([root, least]) => Number(document.querySelector(root).dataset.drawn) >= least",
            arg=[EXPLORER, least],
        )
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


class Lab:
    """A notebook open in JupyterLab, its kernel at hand."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address

    def open(self, name: str) -> None:
        """Open a notebook, with a kernel that answers."""
        self.page.goto(
            f"{self.address}/doc/tree/notebooks/{name}?reset&token={TOKEN}",
            wait_until="domcontentloaded",
        )
        self.page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context")
        self.page.evaluate(
            """async () => {
                const widget = jupyterapp.shell.currentWidget;
                await jupyterapp.restored; await widget.context.ready; await widget.sessionContext.ready;
                await widget.sessionContext.session.kernel.info;
            }"""
        )

    def run_all(self) -> None:
        """Run every cell; one that fails fails the test, with what it said."""
        ran = self.page.evaluate(
            "async () => await jupyterapp.commands.execute('notebook:run-all-cells')"
        )
        assert ran, self.page.evaluate(
            """() => jupyterapp.shell.currentWidget.content.widgets
                 .flatMap(cell => cell.model.sharedModel.outputs ?? [])
                 .filter(output => output.output_type === 'error').map(output => output.evalue)"""
        )

    def theme(self, name: str) -> None:
        """Change JupyterLab's theme and wait until it is there."""
        self.page.evaluate(
            "async name => await jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
            name,
        )
        light = "true" if "Light" in name else "false"
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light", arg=light
        )

    def close(self) -> None:
        """End the kernel, and leave the page without being asked about changes."""
        self.page.evaluate(
            "async () => await jupyterapp.shell.currentWidget?.sessionContext.shutdown()"
        )
        self.page.close(run_before_unload=False)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks and the sample, whose VMs have tags, with settings of its own beside."""
    folder = tmp_path_factory.mktemp("workshop")
    shutil.copytree(ROOT / "notebooks", folder / "root" / "notebooks",
                    ignore=shutil.ignore_patterns(".ipynb_checkpoints"))  # fmt: skip
    shutil.copytree(ROOT / "data" / "sample", folder / "root" / "data" / "sample")
    sample = folder / "root" / "data" / "sample"
    (sample / "tags.csv").write_text("vm,department\nsql-*,Databases\nweb-*,Shop\n")
    (sample / "cdpanalytics.toml").write_text('tags = "tags.csv"\n')
    news = folder / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    return folder


@contextmanager
def serving(folder: Path, module: str, *options: str, path: str = "/") -> Iterator[str]:
    """Run a server of the folder on loopback; gives its address once it answers."""
    own = {name: str(folder / name.lower()) for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    )}  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / f"{module}.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", module, "--no-browser", f"--port={port}", *options],
            env={**os.environ, **own, "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")},
            stdout=log, stderr=subprocess.STDOUT, cwd=folder / "root" / "notebooks",
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            _answers(address + path, server, Path(log.name))
            yield address
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def serving_lab(workshop: Path) -> Iterator[str]:
    """JupyterLab on loopback, of a folder whose `root` has the notebooks."""
    options = ("--allow-root", f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True",
               "--LabApp.news_url=None", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.root_dir={workshop / 'root'}")  # fmt: skip
    with serving(workshop, "jupyterlab", *options, path=f"/api/status?token={TOKEN}") as address:
        yield address


@pytest.fixture(scope="session")
def jupyter(workshop: Path) -> Iterator[str]:
    """JupyterLab on loopback."""
    with serving_lab(workshop) as address:
        yield address


def _answers(url: str, server: subprocess.Popen[Any], log: Path) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def lab(browser: Browser, jupyter: str) -> Iterator[Lab]:
    """A page of that JupyterLab; whatever it asks another host for is refused, and told."""
    context = browser.new_context(viewport={"width": 1500, "height": 1000}, bypass_csp=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    strangers: list[str] = []
    page.route(
        lambda url: not url.startswith((jupyter, "data:", "blob:")),
        lambda route: (strangers.append(route.request.url), route.abort()),
    )
    page.add_init_script("window.onbeforeunload = null")
    opened = Lab(page, jupyter)
    yield opened
    opened.close()
    context.close()
    assert strangers == []


def barriers(page: Page, within: str) -> list[str]:
    """What axe-core finds below an element, by WCAG 2.1 A and AA: rule and place."""
    found = Axe().run(
        page,
        context=within,
        # To list what passes as well takes as long again.
        options={
            "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
            "resultTypes": ["violations"],
        },
    )
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]
