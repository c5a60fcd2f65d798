"""A notebook as one HTML file that opens offline: nbconvert's ``cdp-html``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nbconvert.exporters import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from traitlets import default
from traitlets.config import Config

from cdpanalytics.presentation import html as parts

_WIDGETS = "application/vnd.jupyter.widget-view+json"


class CdpHTMLExporter(HTMLExporter):
    """Export a notebook as a report: no code, no prompts, no request to anywhere.

    ``jupyter nbconvert --to cdp-html --execute notebooks/01_rpo_adherence.ipynb``, or
    "Cdp-html" in JupyterLab's menu Save and Export Notebook As. Widgets stand still: what
    they show without a kernel is taken. Cells tagged ``no-export`` are left out; those
    tagged ``show-code`` keep their code. The head shows the parameters given by papermill.
    """

    export_from_notebook = "Cdp-html"

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.register_preprocessor(Still, enabled=True)  # the last, hence after any execution

    @property
    def default_config(self) -> Config:
        """Leave out what a reader of a report does not read."""
        own = Config({
            "HTMLExporter": {"exclude_input_prompt": True, "exclude_output_prompt": True,
                             "exclude_anchor_links": True, "embed_images": True},
        })  # fmt: skip
        own.merge(super().default_config)
        return own

    @default("template_name")
    def _template_name_default(self) -> str:
        return "cdp"

    @default("extra_template_basedirs")
    def _extra_template_basedirs_default(self) -> list[str]:
        return [str(Path(__file__).with_name("templates"))]

    def from_notebook_node(
        self, nb: Any, resources: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        """Return the page and its resources."""
        nb = nb.copy()
        nb.metadata.setdefault("title", _title(nb))
        script = parts.source("tables.js") + "enliven(document);\n"
        own = {"script": script, "digest": parts.digest(script)}
        return super().from_notebook_node(nb, {**(resources or {}), "cdp": own}, **options)


class Still(Preprocessor):
    """Takes the state of widgets away, so that what stands for them is shown; after cells are run."""

    def preprocess(self, nb: Any, resources: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the notebook without widgets."""
        nb.metadata.pop("widgets", None)
        for cell in nb.cells:
            for output in cell.get("outputs", []):
                if output.get("data", {}).pop(_WIDGETS, None) and "text/html" not in output["data"]:
                    output["data"] = {
                        "text/plain": ""
                    }  # the widget's repr says nothing to a reader
        return nb, resources


def _title(nb: Any) -> str:
    for cell in nb.cells:
        heading = re.match(r"# (.+)", cell.source) if cell.cell_type == "markdown" else None
        if heading:
            return heading[1].strip()
    return "Notebook"
