"""The packaged style, its colours, and a figure with the words that describe it."""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_STYLE = Path(__file__).with_name("light.mplstyle")

COVERED, GAP, INK = "#C6DBEF", "#B35806", "#24292F"
SEVERITY = ("#EAF1F7", "#F5C98B", "#E08214", "#B35806", "#5E2A04")
"""From no breach to much: lightness falls in even steps, so it reads without colour and on paper."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in the packaged style; matplotlib's own settings stay as they were.

    matplotlib's warning about characters that the style's font lacks is switched off: in
    SVG the reader's own fonts draw them.
    """
    with warnings.catch_warnings(), matplotlib.style.context(_STYLE):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


class Chart:
    """A figure with the words that stand for it where it cannot be seen.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What the picture shows, in a sentence.
    """

    def __init__(self, figure: Figure, alt: str) -> None:
        self.figure = figure
        self.alt = alt

    @classmethod
    def of(cls, ax: Axes, more: str) -> Chart:
        """Return the figure that one of our plots made, told by its title and more words."""
        figure = ax.figure
        assert isinstance(figure, Figure)  # noqa: S101 - each plot made its own
        title = ax.get_title(loc="left") or ax.get_title()
        return cls(figure, f"{title}. {more}".replace("\\$", "$"))

    def png(self) -> bytes:
        """Return the picture as PNG."""
        buffer = io.BytesIO()
        with styled():
            self.figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    def svg(self, prefix: str = "") -> str:
        """Return the picture as an SVG element, the same bytes for the same figure.

        Identifiers get `prefix`, so that one page can hold several pictures.
        """
        buffer = io.StringIO()
        with styled():
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        drawn = buffer.getvalue()
        drawn = drawn[drawn.index("<svg") :]
        drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
        drawn = re.sub(r'\bid="', f'id="{prefix}', drawn)
        drawn = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", drawn)
        label = f'<svg role="img" aria-label="{html.escape(self.alt)}"'
        return drawn.replace("<svg", label, 1)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        data = base64.b64encode(self.png()).decode()
        picture = f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{data}">'
        return {"text/html": f"<figure>{picture}</figure>", "text/plain": self.alt}
