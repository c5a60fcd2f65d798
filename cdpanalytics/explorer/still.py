"""The explorer where no widget runs, and the rules that both of them are drawn by."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from markupsafe import Markup

from cdpanalytics.explorer import views
from cdpanalytics.explorer.state import State
from cdpanalytics.presentation import html as parts
from cdpanalytics.presentation import palette, pictures
from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.presentation.drawing import Drawing


def static_html(analysis: Analysis, state: State) -> Markup:
    """The view where no widget runs: plain tables, and pictures as images."""
    drawn = views.note("No session of this question lies in this period, so nothing can be said.")
    if not views.is_empty(analysis):
        view = views.VIEWS[state.view].draw(analysis, state, 960)
        drawn = (
            views.head(analysis) + views.tiles(analysis) + pictures.fleet(analysis).figure() + view
        )
    return Markup('<style>{}</style><div class="cdp-explorer cdp-static">{}</div>').format(
        Markup(style()),  # noqa: S704 - our own files
        Drawing.as_images(_plain(drawn), parts.source("pictures.css")),
    )


def _plain(drawn: Markup) -> Markup:
    """Return HTML without what only a script answers."""
    text = re.sub(
        r'</?(button|label|input)\b[^>]*>| data-(act|start|server|policy|vm)="[^"]*"', "", drawn
    )
    return Markup(text)  # noqa: S704 - a part of what was drawn


@cache
def style() -> str:
    """Rules of the parts and of the explorer, all of them below `.cdp-explorer`."""
    own = Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")
    shared = parts.source("sections.css") + parts.source("pictures.css")
    dark = palette.variables(palette.DARK)
    return (
        f".cdp-explorer {{ {palette.variables(palette.LIGHT)} }}\n"
        f'[data-jp-theme-light="false"] .cdp-explorer, .vscode-dark .cdp-explorer, '
        f".vscode-high-contrast:not(.vscode-high-contrast-light) .cdp-explorer {{ {dark} }}\n"
        f".cdp-explorer {{\n{shared}\n}}\n{own}"
    )
